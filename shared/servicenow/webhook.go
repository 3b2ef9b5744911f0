package servicenow

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// The scheme of our business rules, infra/servicenow.
const (
	timestampHeader = "X-Sorrel-Timestamp" // RFC 3339 UTC
	signatureHeader = "X-Sorrel-Signature" // v1=hex(HMAC-SHA256(secret, timestamp + "." + body))
	replayWindow    = 5 * time.Minute
)

// event is the body that the kit posts.
type event struct {
	table, operation, id        string
	count, updated, by, created any
	fields                      map[string]any
}

// readEvent reads the members that are known and skips all others.
func readEvent(body []byte) (event, error) {
	var e event
	r := jsonread.New(body, maxDepth)
	r.Object(func(name string) {
		switch name {
		case "table":
			e.table = r.Text()
		case "operation":
			e.operation = r.Text()
		case "sys_id":
			e.id = r.Text()
		case "sys_mod_count":
			e.count = r.Value()
		case "sys_updated_on":
			e.updated = r.Value()
		case "sys_updated_by":
			e.by = r.Value()
		case "sys_created_on":
			e.created = r.Value()
		case "fields":
			e.fields = r.Map()
		default:
			r.Value()
		}
	})
	return e, r.End()
}

// Webhook verifies and decodes one message of our business rules. With its fields it is a full observation, without
// them a hint. The signature is checked before anything is parsed.
func (c *Connector) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	if err := c.verify(r); err != nil {
		return platform.Delivery{}, err
	}
	fail := func(class fault.Class, detail string, fields ...string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: class, Op: "servicenow.webhook", Detail: detail, Fields: fields}
	}
	if media, _, err := mime.ParseMediaType(r.ContentType); err != nil || media != "application/json" {
		return fail(fault.Malformed, fmt.Sprintf("content type %.60q, want application/json", r.ContentType))
	}
	e, err := readEvent(r.Body)
	if err != nil {
		return fail(fault.Malformed, err.Error())
	}
	switch {
	case e.operation != "insert" && e.operation != "update" && e.operation != "delete":
		return fail(fault.NotFound, fmt.Sprintf("operation %.60q is not known; want insert, update or delete", e.operation), "operation")
	case !known(e.table):
		return fail(fault.NotFound, fmt.Sprintf("table %.60q is not known", e.table), "table")
	}
	says := e.fields != nil
	if !says {
		e.fields = map[string]any{}
	}
	e.fields["sys_id"], e.fields["sys_mod_count"], e.fields["sys_updated_on"], e.fields["sys_updated_by"] = e.id, e.count, e.updated, e.by
	if e.created != nil {
		e.fields["sys_created_on"] = e.created
	}
	n, err := native("webhook", e.table, e.fields, time.Time{})
	if err != nil {
		return platform.Delivery{}, err
	}
	n.Ours = n.Actor != "" && n.Actor == c.cfg.Credentials.IntegrationUser
	if e.operation == "delete" {
		n.Gone = true
	}
	if n.Gone || !says {
		n.Fields = nil
	}
	return platform.Delivery{ID: fmt.Sprintf("%s:%d:%s", n.ID, n.Version.Seq, e.operation), Natives: []record.Native{n}}, nil
}

// verify checks the signature with each secret, so that secrets can be rotated, and the timestamp. Its errors
// never repeat what was sent.
func (c *Connector) verify(r platform.Request) error {
	deny := func(detail, remedy string) error {
		return &fault.Error{Class: fault.Unauthenticated, Op: "servicenow.webhook", Detail: detail, Remedy: remedy}
	}
	const kit = "post with the script in infra/servicenow"
	stamp, signature := r.Header.Get(timestampHeader), r.Header.Get(signatureHeader)
	switch {
	case len(c.secrets) == 0:
		return deny("no webhook secret is configured", "set webhookSecrets")
	case stamp == "":
		return deny(timestampHeader+" is missing", kit)
	case signature == "":
		return deny(signatureHeader+" is missing", kit)
	}
	sent, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return deny(timestampHeader+" is no RFC 3339 time", kit)
	}
	digest, found := strings.CutPrefix(signature, "v1=")
	given, err := hex.DecodeString(digest)
	if err != nil || !found {
		return deny(signatureHeader+" is not of the form v1=hex", kit)
	}
	good := false
	for _, secret := range c.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(stamp + "."))
		mac.Write(r.Body)
		good = hmac.Equal(mac.Sum(nil), given) || good
	}
	if !good {
		return deny("the signature does not match", "check that the script and webhookSecrets hold the same secret")
	}
	if age := r.Now.Sub(sent); age > replayWindow || age < -replayWindow {
		return deny(fmt.Sprintf("the timestamp is %s off, at most %s is allowed", age.Round(time.Second), replayWindow), "check the clocks; a replayed message is refused")
	}
	return nil
}
