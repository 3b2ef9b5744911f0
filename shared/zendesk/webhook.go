package zendesk

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// testSecret signs the requests of Zendesk's "test webhook" button. It is public, so a request that only it
// verifies is acknowledged and never looked into; and it verifies only if it is among the configured secrets.
// https://developer.zendesk.com/documentation/webhooks/verifying/
const testSecret = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="

// window is how far a webhook's timestamp may be from the receiver's clock.
const window = 5 * time.Minute

// Webhook verifies and decodes one event of an event subscription.
func (c *Connector) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	const op = "zendesk.webhook"
	test, err := c.verify(r)
	if err != nil {
		return platform.Delivery{}, err
	}
	if test {
		return platform.Delivery{ID: "test-" + cut(r.Header.Get("X-Zendesk-Webhook-Invocation-Id"), 100)}, nil
	}
	if t, _, err := mime.ParseMediaType(r.ContentType); err != nil || t != "application/json" {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Detail: fmt.Sprintf("content type %q", cut(r.ContentType, 80)), Remedy: "send application/json"}
	}
	body, err := decode(r.Body)
	if err != nil {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Err: err}
	}
	return event(body)
}

// verify checks the signature over timestamp and raw body, each secret in constant time, and the timestamp.
func (c *Connector) verify(r platform.Request) (test bool, err error) {
	refuse := func(detail, remedy string) error {
		return &fault.Error{Class: fault.Unauthenticated, Op: "zendesk.webhook", Detail: detail, Remedy: remedy}
	}
	if len(c.secrets) == 0 {
		return false, refuse("no webhook secret is configured", "add the webhook's signing secret to webhookSecrets")
	}
	signature, stamp := r.Header.Get("X-Zendesk-Webhook-Signature"), r.Header.Get("X-Zendesk-Webhook-Signature-Timestamp")
	if signature == "" || stamp == "" {
		return false, refuse("missing header X-Zendesk-Webhook-Signature or X-Zendesk-Webhook-Signature-Timestamp", "")
	}
	given, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return false, refuse("bad signature: not base64", "")
	}
	good := false
	for _, secret := range c.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(stamp))
		mac.Write(r.Body)
		if hmac.Equal(given, mac.Sum(nil)) {
			if string(secret) == testSecret {
				test = true
			} else {
				good = true
			}
		}
	}
	if !good && !test {
		return false, refuse("bad signature", "check that webhookSecrets holds this webhook's signing secret")
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	switch {
	case err != nil:
		return false, refuse("timestamp is not ISO 8601", "")
	case r.Now.Sub(at) > window:
		return false, refuse("timestamp too old", "check the clock")
	case at.Sub(r.Now) > window:
		return false, refuse("timestamp in the future", "check the clock")
	}
	return !good, nil
}

const eventPrefix = "zen:event-type:"

// known event types. https://developer.zendesk.com/api-reference/webhooks/event-types/webhook-event-types/
func known(kind string) bool {
	object, what, _ := strings.Cut(kind, ".")
	switch object {
	case Organization:
		switch what {
		case "created", "custom_field_changed", "deleted", "external_id_changed", "name_changed", "tags_changed":
			return true
		}
	case User:
		switch what {
		case "created", "deleted", "merged", "active_changed", "alias_changed", "custom_field_changed", "custom_role_changed", "default_group_changed",
			"details_changed", "external_id_changed", "group_membership_created", "group_membership_deleted", "identity_changed", "identity_created",
			"identity_deleted", "last_login_changed", "name_changed", "notes_changed", "only_private_comments_changed",
			"organization_membership_created", "organization_membership_deleted", "password_changed", "photo_changed", "role_changed",
			"suspended_changed", "tags_changed", "time_zone_changed":
			return true
		}
	case Ticket:
		switch what {
		case "created", "status_changed", "custom_status_changed", "priority_changed", "subject_changed", "description_changed",
			"type_changed", "agent_assignment_changed", "group_assignment_changed", "organization_changed", "requester_changed",
			"submitter_changed", "external_id_changed", "custom_field_changed", "tags_changed", "form_changed", "brand_changed",
			"problem_link_changed", "task_due_at_changed", "comment_added", "comment_made_private", "comment_redacted",
			"email_ccs_changed", "followers_changed", "attachment_linked_to_comment", "attachment_redacted_from_comment",
			"merged", "marked_as_spam", "soft_deleted", "permanently_deleted", "undeleted":
			return true
		}
	}
	return false
}

// event turns an envelope into what it says about one record.
func event(body map[string]any) (platform.Delivery, error) {
	const op = "zendesk.webhook"
	lacks := func(field string) error {
		return &fault.Error{Class: fault.Contract, Op: op, Fields: []string{field}, Detail: fmt.Sprintf("an event without a usable %q", field),
			Remedy: "subscribe the webhook to event types, not to conditional ticket events"}
	}
	full, ok := body["type"].(string)
	if !ok {
		return platform.Delivery{}, lacks("type")
	}
	kind, ok := strings.CutPrefix(full, eventPrefix)
	if !ok || !known(kind) {
		return platform.Delivery{}, &fault.Error{Class: fault.NotFound, Op: op, Detail: fmt.Sprintf("unknown event type %q", cut(full, 120)),
			Remedy: "subscribe the webhook to ticket, organization and user events only"}
	}
	id, _ := body["id"].(string)
	if id == "" {
		return platform.Delivery{}, lacks("id")
	}
	detail, ok := body["detail"].(map[string]any)
	if !ok {
		return platform.Delivery{}, lacks("detail")
	}
	object, what, _ := strings.Cut(kind, ".")
	n := record.Native{
		Ref:      record.Ref{Platform: record.Zendesk, Object: object, ID: text(detail["id"])},
		Version:  record.Version{At: instant(detail["updated_at"])},
		Born:     instant(detail["created_at"]),
		External: text(detail["external_id"]), Actor: text(detail["actor_id"]),
	}
	if n.ID == "" {
		return platform.Delivery{}, lacks("detail.id")
	}
	if n.Version.At.IsZero() {
		return platform.Delivery{}, lacks("detail.updated_at")
	}
	if object == User {
		natives, err := userEvent(what, n, body)
		return platform.Delivery{ID: id, Natives: natives}, err
	}
	status := strings.ToLower(text(detail["status"]))
	switch {
	case what == "deleted" || what == "soft_deleted" || what == "permanently_deleted" || status == "deleted" || status == "scrubbed":
		hint := record.Native{Ref: n.Ref, External: n.External} // without version: no write of ours covers it
		n.Gone = true
		if at := instant(body["time"]); at.After(n.Version.At) {
			n.Version.At = at
		}
		if object == Organization { // deleted, or merged into another: a read tells
			return platform.Delivery{ID: id, Natives: []record.Native{hint, n}}, nil
		}
	case object == Ticket && what == "custom_field_changed": // of which the detail says nothing: a hint
	case object == Ticket:
		n.Partial, n.Fields = true, ticketDetail(detail)
		if what == "undeleted" { // a second birth, or the tombstone would stand for ever
			n.Born = n.Version.At
		}
	}
	return platform.Delivery{ID: id, Natives: []record.Native{n}}, nil
}

// userEvent says what an event about a user means; n is made of its detail. A deletion stays at the record's own
// time, so that a merge told at the time of its event comes after it.
func userEvent(what string, n record.Native, body map[string]any) ([]record.Native, error) {
	event, _ := body["event"].(map[string]any)
	switch what {
	case "deleted":
		n.Gone = true
	case "active_changed":
		n.Gone = event["current"] == false // a deleted user never comes back
	case "merged":
		return merged(n, body, event)
	}
	return []record.Native{n}, nil
}

// merged tells who lost. The event names two users: the one it is about, and event.user. The documentation does not
// say which of them is left. A merge moves all e-mail addresses to the winner, so a user without one who has just been
// merged is the loser. With an address it may be either: then both are hints.
// https://support.zendesk.com/hc/en-us/articles/4408887695898
func merged(n record.Native, body, event map[string]any) ([]record.Native, error) {
	user, _ := event["user"].(map[string]any)
	other := record.Native{Ref: n.Ref} // without version, as the event carries the other user's
	if other.ID = text(user["id"]); other.ID == "" {
		return nil, &fault.Error{Class: fault.Contract, Op: "zendesk.webhook", Fields: []string{"event.user.id"}, Detail: "a merge that does not name the other user"}
	}
	detail, _ := body["detail"].(map[string]any)
	if text(detail["email"]) != "" {
		return []record.Native{{Ref: n.Ref, External: n.External}, other}, nil
	}
	n.Gone, n.Into = true, other.ID
	if at := instant(body["time"]); at.After(n.Version.At) {
		n.Version.At = at
	}
	n.Version.At = n.Version.At.Truncate(resolution).Add(resolution) // after the deletion that comes with it
	return []record.Native{n, other}, nil
}

// ticketDetail brings a ticket event's detail into REST's shape.
func ticketDetail(detail map[string]any) map[string]any {
	out := make(map[string]any, len(detail))
	for k, v := range detail {
		switch k {
		case "actor_id":
			continue
		case "status", "priority", "type":
			if s, ok := v.(string); ok {
				v = strings.ToLower(s)
			}
			if v == "archived" {
				v = "closed"
			}
			if v == "" {
				v = nil
			}
		case "custom_status":
			k, v = "custom_status_id", numeric(v)
		case "form_id":
			k, v = "ticket_form_id", numeric(v)
		case "external_id":
			if v == "" {
				v = nil
			}
		case "id", "organization_id", "requester_id", "submitter_id", "assignee_id", "group_id", "brand_id", "problem_id":
			v = numeric(v)
		}
		out[k] = v
	}
	return out
}

// numeric makes an id said as a string the number that REST says; "0" and "" stand for none.
func numeric(a any) any {
	s := text(a)
	if s == "" || s == "0" {
		return nil
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return a
		}
	}
	if len(s) > 20 || s[0] == '0' {
		return a
	}
	return json.Number(s)
}
