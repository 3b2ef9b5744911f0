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
	"sorrel/shared/jsonread"
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
	id, kind, context, user string
	record                  *saved
}

type saved struct {
	kind, id, external, modified, created string
	into                                  string // of a merge: the record that stays
	rev                                   string // empty = not told
	fields                                map[string]any
}

// readEvent reads the members that are known and skips all others.
func readEvent(body []byte) (event, error) {
	var e event
	err := read(body, func(r *jsonread.Reader) {
		r.Object(func(name string) {
			switch name {
			case "id":
				e.id = r.Text()
			case "type":
				e.kind = r.Text()
			case "context":
				e.context = r.Text()
			case "user":
				e.user = r.Text()
			case "record":
				e.record = readSaved(r)
			default:
				r.Value()
			}
		})
	})
	return e, err
}

func readSaved(r *jsonread.Reader) *saved {
	var s saved
	if !r.Object(func(name string) {
		switch name {
		case "type":
			s.kind = r.Text()
		case "id":
			s.id = r.Text()
		case "externalId":
			s.external = r.Text()
		case "lastModifiedDate":
			s.modified = r.Text()
		case "createdDate":
			s.created = r.Text()
		case "into":
			s.into = r.Text()
		case "rev":
			if !r.Null() {
				s.rev = strconv.FormatInt(r.Int(), 10)
			}
		case "fields":
			s.fields = r.Map()
		default:
			r.Value()
		}
	}) {
		return nil
	}
	return &s
}

// Webhook verifies and decodes one message of our SuiteScript kit. A saved record with its fields and time is
// a full observation; without them it is a hint. A deleted or merged record is gone. The signature is checked before anything is parsed.
func (c *Connector) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	if err := c.verify(r); err != nil {
		return platform.Delivery{}, err
	}
	fail := func(class fault.Class, detail string, fields ...string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: class, Op: "netsuite.webhook", Detail: detail, Fields: fields}
	}
	if !isJSON(r.ContentType) {
		return fail(fault.Malformed, fmt.Sprintf("content type %.60q, want application/json", r.ContentType))
	}
	e, err := readEvent(r.Body)
	if err != nil {
		return fail(fault.Malformed, err.Error())
	}
	gone := e.kind == "record.deleted" || e.kind == "record.merged"
	if e.kind != "record.saved" && !gone {
		return fail(fault.NotFound, fmt.Sprintf("event type %.60q is not known; want record.saved, record.deleted or record.merged", e.kind), "type")
	}
	switch {
	case e.id == "":
		return fail(fault.Contract, "the event has no id", "id")
	case e.record == nil:
		return fail(fault.Contract, "the event has no record", "record")
	case !digits(e.record.id):
		return fail(fault.Contract, "the record has no internal id", "record.id")
	case e.kind == "record.merged" && (!digits(e.record.into) || e.record.into == e.record.id):
		return fail(fault.Contract, "a merge needs the internal id of the other record, which stays", "record.into")
	}
	l, ok := c.layouts[e.record.kind]
	if !ok {
		return fail(fault.NotFound, fmt.Sprintf("record type %.60q is not known", e.record.kind), "record.type")
	}
	n := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: l.object, ID: e.record.id}}
	at := when(e.record.modified)
	switch {
	case e.record.modified != "" && at.IsZero():
		return fail(fault.Contract, "lastModifiedDate is no RFC 3339 time", "record.lastModifiedDate")
	case gone && at.IsZero():
		return fail(fault.Contract, "a deletion needs its time", "record.lastModifiedDate")
	case gone:
		n.Gone, n.Version.At = true, at
		if e.kind == "record.merged" {
			n.Into = e.record.into
		}
		n.Version.Seq, _ = strconv.ParseInt(e.record.rev, 10, 64) // it was a number, or nothing
	case e.record.fields != nil && !at.IsZero():
		raw := e.record.fields
		raw["id"], raw[l.modified.name], raw["externalId"] = e.record.id, e.record.modified, e.record.external
		if e.record.created != "" {
			raw[l.created.name] = e.record.created
		}
		if e.record.rev != "" {
			raw[l.rev] = e.record.rev
		}
		full, err := l.native(raw, time.Time{})
		if err != nil {
			return fail(fault.Contract, "record.fields: "+err.Error(), "record.fields")
		}
		n = full
	}
	n.External, n.Actor = e.record.external, e.user
	// The user alone does not tell: a person may have signed in as the integration's user.
	n.Ours = e.context == "RESTWEBSERVICES" && e.user != "" && e.user == c.cfg.IntegrationUser
	return platform.Delivery{ID: e.id, Natives: []record.Native{n}}, nil
}

func isJSON(contentType string) bool {
	const want = "application/json"
	if contentType == want {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == want
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
