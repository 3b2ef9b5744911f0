package netsuite

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// The scheme of our SuiteScript kit, infra/netsuite.
const (
	timestampHeader = "X-Sorrel-Timestamp" // RFC 3339 UTC
	signatureHeader = "X-Sorrel-Signature" // v1=hex(HMAC-SHA256(secret, timestamp + "." + body))
	replayWindow    = 5 * time.Minute
)

// event is the body that the kit posts.
type event struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Event   string `json:"event"`
	Context string `json:"context"`
	User    string `json:"user"`
	Record  *struct {
		Type         string         `json:"type"`
		ID           string         `json:"id"`
		ExternalID   string         `json:"externalId"`
		LastModified string         `json:"lastModifiedDate"`
		Created      string         `json:"createdDate"`
		Rev          *int64         `json:"rev"`
		Fields       map[string]any `json:"fields"`
	} `json:"record"`
}

// Webhook verifies and decodes one message of our SuiteScript kit. A saved record with its fields and time is
// a full observation; without them it is a hint. The signature is checked before anything is parsed.
func (c *Connector) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	if err := c.verify(r); err != nil {
		return platform.Delivery{}, err
	}
	fail := func(class fault.Class, detail string, fields ...string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: class, Op: "netsuite.webhook", Detail: detail, Fields: fields}
	}
	if media, _, err := mime.ParseMediaType(r.ContentType); err != nil || media != "application/json" {
		return fail(fault.Malformed, fmt.Sprintf("content type %.60q, want application/json", r.ContentType))
	}
	var e event
	if err := decode(r.Body, &e); err != nil {
		return fail(fault.Malformed, err.Error())
	}
	if e.Type != "record.saved" && e.Type != "record.deleted" {
		return fail(fault.NotFound, fmt.Sprintf("event type %.60q is not known; want record.saved or record.deleted", e.Type), "type")
	}
	switch {
	case e.ID == "":
		return fail(fault.Contract, "the event has no id", "id")
	case e.Record == nil:
		return fail(fault.Contract, "the event has no record", "record")
	case !digits(e.Record.ID):
		return fail(fault.Contract, "the record has no internal id", "record.id")
	}
	l, ok := c.layouts[e.Record.Type]
	if !ok {
		return fail(fault.NotFound, fmt.Sprintf("record type %.60q is not known", e.Record.Type), "record.type")
	}
	n := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: l.object, ID: e.Record.ID}}
	at := when(e.Record.LastModified)
	switch {
	case e.Record.LastModified != "" && at.IsZero():
		return fail(fault.Contract, "lastModifiedDate is no RFC 3339 time", "record.lastModifiedDate")
	case e.Type == "record.deleted" && at.IsZero():
		return fail(fault.Contract, "a deletion needs its time", "record.lastModifiedDate")
	case e.Type == "record.deleted":
		n.Gone, n.Version.At = true, at
		if e.Record.Rev != nil {
			n.Version.Seq = *e.Record.Rev
		}
	case e.Record.Fields != nil && !at.IsZero():
		raw := e.Record.Fields
		raw["id"], raw["lastModifiedDate"], raw["externalId"] = e.Record.ID, e.Record.LastModified, e.Record.ExternalID
		if e.Record.Created != "" {
			raw[l.created.name] = e.Record.Created
		}
		if e.Record.Rev != nil {
			raw[l.rev] = strconv.FormatInt(*e.Record.Rev, 10)
		}
		full, err := l.native(raw, time.Time{})
		if err != nil {
			return fail(fault.Contract, "record.fields: "+err.Error(), "record.fields")
		}
		n = full
	}
	n.External, n.Actor = e.Record.ExternalID, e.User
	n.Ours = e.Context == "RESTWEBSERVICES" && e.User != "" && e.User == c.cfg.IntegrationUser
	return platform.Delivery{ID: e.ID, Natives: []record.Native{n}}, nil
}

// verify checks the signature with each secret, so that secrets can be rotated. Its errors never repeat what
// was sent.
func (c *Connector) verify(r platform.Request) error {
	deny := func(detail, remedy string) error {
		return &fault.Error{Class: fault.Unauthenticated, Op: "netsuite.webhook", Detail: detail, Remedy: remedy}
	}
	stamp, signature := r.Header.Get(timestampHeader), r.Header.Get(signatureHeader)
	switch {
	case len(c.cfg.Credentials.WebhookSecrets) == 0:
		return deny("no webhook secret is configured", "set webhookSecrets")
	case stamp == "":
		return deny(timestampHeader+" is missing", "post with the script in infra/netsuite")
	case signature == "":
		return deny(signatureHeader+" is missing", "post with the script in infra/netsuite")
	}
	sent, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return deny(timestampHeader+" is no RFC 3339 time", "post with the script in infra/netsuite")
	}
	if age := r.Now.Sub(sent); age > replayWindow || age < -replayWindow {
		return deny(fmt.Sprintf("the timestamp is %s off, at most %s is allowed", age.Round(time.Second), replayWindow), "check the clocks; a replayed message is refused")
	}
	given, err := hex.DecodeString(strings.TrimPrefix(signature, "v1="))
	if err != nil || !strings.HasPrefix(signature, "v1=") {
		return deny(signatureHeader+" is not of the form v1=hex", "post with the script in infra/netsuite")
	}
	good := false
	for _, secret := range c.cfg.Credentials.WebhookSecrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(stamp + "."))
		mac.Write(r.Body)
		good = hmac.Equal(mac.Sum(nil), given) || good
	}
	if !good {
		return deny("the signature does not match", "check that the script and webhookSecrets hold the same secret")
	}
	return nil
}
