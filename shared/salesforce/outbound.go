package salesforce

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

const (
	// maxNotifications is how many records one Outbound Message tells of.
	maxNotifications = 100
	maxDepth         = 64
	soapNamespace    = "http://schemas.xmlsoap.org/soap/envelope/"
	outboundSpace    = "http://soap.sforce.com/2005/09/outbound"
	instanceSpace    = "http://www.w3.org/2001/XMLSchema-instance"
)

// acknowledgement is the only answer that stops Salesforce from sending a message again for 24 hours.
// https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_notifications.htm
const acknowledgement = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>`

// Webhook verifies and decodes an Outbound Message. Salesforce neither signs nor dates it: the proof is a
// secret token in the query of the URL that the org was given (any of WebhookTokens) and the org's id inside.
// There is no replay window, so a message can at worst repeat what was true: its values are the latest at the
// moment of sending, and they count only by their version. With SystemModstamp among the chosen fields a
// notification is a partial observation, without it (or with one from the future) a hint.
//
// Events of EventBridge are not accepted here, where nobody vouches for them; see Event.
func (c *Connector) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	const op = "salesforce.webhook"
	refuse := func(detail, remedy string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: fault.Unauthenticated, Op: op, Detail: detail, Remedy: remedy}
	}
	given := r.Query.Get("token")
	switch {
	case len(c.cfg.Credentials.WebhookTokens) == 0:
		return refuse("no webhook token is configured", "set webhookTokens in the platform's secret")
	case given == "":
		return refuse("the token parameter is missing", "add ?token=… to the endpoint URL of the Outbound Message")
	case !c.knows(given):
		return refuse("bad token", "give the Outbound Message a URL with a current token")
	}
	media, params, err := mime.ParseMediaType(r.ContentType)
	if err != nil || media != "text/xml" {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Detail: fmt.Sprintf("content type %q", clip(r.ContentType)), Remedy: "an Outbound Message is text/xml"}
	}
	if set := params["charset"]; set != "" && !strings.EqualFold(set, "utf-8") && !strings.EqualFold(set, "us-ascii") {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Detail: fmt.Sprintf("character set %q", clip(set)), Remedy: "send UTF-8"}
	}
	root, err := parseXML(r.Body)
	if err != nil {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Detail: "the body is not the XML of an Outbound Message", Err: err}
	}
	message := root.child(soapNamespace, "Body").child(outboundSpace, "notifications")
	if root.name != (xml.Name{Space: soapNamespace, Local: "Envelope"}) || message == nil {
		return platform.Delivery{}, &fault.Error{Class: fault.NotFound, Op: op, Detail: fmt.Sprintf("not an Outbound Message but %q", clip(root.name.Local)), Remedy: "send Envelope/Body/notifications of " + outboundSpace}
	}
	org := message.child(outboundSpace, "OrganizationId").content()
	if full, ok := canonicalID(org); !ok || subtle.ConstantTimeCompare([]byte(full), []byte(c.cfg.Credentials.OrgID)) != 1 {
		return refuse("OrganizationId is missing or names another org", "check orgId in the platform's secret")
	}
	return c.notifications(message, r.Now)
}

// knows compares with every token in constant time.
func (c *Connector) knows(given string) bool {
	g := sha256.Sum256([]byte(given))
	hit := 0
	for _, token := range c.cfg.Credentials.WebhookTokens {
		t := sha256.Sum256([]byte(token))
		hit |= subtle.ConstantTimeCompare(g[:], t[:])
	}
	return hit == 1
}

func (c *Connector) notifications(message *node, now time.Time) (platform.Delivery, error) {
	d := platform.Delivery{Ack: platform.Ack{Status: http.StatusOK, ContentType: "text/xml; charset=UTF-8", Body: []byte(acknowledgement)}}
	lacks := func(id, field, remedy string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: fault.Contract, Op: "salesforce.webhook", ID: id, Fields: []string{field}, Detail: field + " is missing or wrong", Remedy: remedy}
	}
	ids := sha256.New()
	for _, n := range message.children {
		if n.name.Local != "Notification" {
			continue
		}
		id := n.child(outboundSpace, "Id").content()
		if id == "" {
			return lacks("", "Notification/Id", "send what Salesforce sends")
		}
		s := n.child(outboundSpace, "sObject")
		if s == nil {
			return lacks(id, "Notification/sObject", "send what Salesforce sends")
		}
		name := s.attribute(instanceSpace, "type")
		if _, local, ok := strings.Cut(name, ":"); ok {
			name = local
		}
		o, ok := c.objects[name]
		if !ok {
			return platform.Delivery{}, &fault.Error{Class: fault.NotFound, Op: "salesforce.webhook", ID: id, Detail: fmt.Sprintf("Outbound Message of the unknown object %q", clip(name)), Remedy: "map the object or stop the message"}
		}
		fields := map[string]any{}
		for _, f := range s.children {
			if len(f.children) > 0 {
				continue
			}
			if f.attribute(instanceSpace, "nil") == "true" {
				fields[f.name.Local] = nil
			} else {
				fields[f.name.Local] = native(o.kinds[f.name.Local], string(f.text))
			}
		}
		raw, _ := fields["Id"].(string)
		recordID, ok := canonicalID(raw)
		if !ok {
			return lacks(id, "sObject/Id", "choose Id among the fields of the message")
		}
		d.Natives = append(d.Natives, o.observed(name, recordID, fields, now))
		ids.Write([]byte(id + "\n"))
		d.ID = id
	}
	switch {
	case len(d.Natives) == 0:
		return lacks("", "Notification", "send what Salesforce sends")
	case len(d.Natives) > maxNotifications:
		return lacks("", "Notification", fmt.Sprintf("at most %d in one message", maxNotifications))
	case len(d.Natives) > 1:
		d.ID = hex.EncodeToString(ids.Sum(nil)[:16])
	}
	return d, nil
}

// observed is one notification's record.
func (o object) observed(name, id string, fields map[string]any, now time.Time) record.Native {
	n := record.Native{Ref: record.Ref{Platform: record.Salesforce, Object: name, ID: id}}
	n.External, _ = fields[o.external].(string)
	at, ok := parseTime(fields["SystemModstamp"])
	if !ok || at.After(now.Add(replayWindow)) {
		return n
	}
	fields["Id"] = id
	n.Version, n.Fields, n.Partial = record.Version{At: at}, fields, true
	n.Actor, _ = fields["LastModifiedById"].(string)
	return n
}

// node of a parsed message.
type node struct {
	name     xml.Name
	attrs    []xml.Attr
	children []*node
	text     []byte
}

func (n *node) child(space, local string) *node {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if c.name.Space == space && c.name.Local == local {
			return c
		}
	}
	return nil
}

func (n *node) content() string {
	if n == nil {
		return ""
	}
	return strings.TrimSpace(string(n.text))
}

func (n *node) attribute(space, local string) string {
	for _, a := range n.attrs {
		if a.Name.Space == space && a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// parseXML reads one document: UTF-8, at most maxDepth deep, no document type and so no entities but the
// five of XML itself.
func parseXML(b []byte) (*node, error) {
	dec := xml.NewDecoder(bytes.NewReader(b))
	var root *node
	var open []*node
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) && root != nil && len(open) == 0 {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			n := &node{name: t.Name, attrs: t.Attr}
			switch {
			case len(open) >= maxDepth:
				return nil, fmt.Errorf("deeper than %d", maxDepth)
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, n)
			case root != nil:
				return nil, errors.New("more than one root")
			default:
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				inner := open[len(open)-1]
				inner.text = append(inner.text, t...)
			}
		case xml.Directive:
			return nil, errors.New("a document type is not allowed")
		}
	}
}
