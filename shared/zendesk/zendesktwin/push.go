package zendesktwin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
)

// announce sends one event per changed thing: one save, several events. Organizations are silent about domain
// names, details, notes, group and sharing; users about phone and locale; custom object records about everything.
func (t *Twin) announce(object string, tb *table, before, after map[string]any, created, commented bool, actor int64) {
	if created {
		t.push(object, after, "created", map[string]any{}, actor)
		if object != zendesk.Ticket {
			return
		}
	}
	pair := func(k string) map[string]any {
		return map[string]any{"current": loud(k, after[k]), "previous": loud(k, before[k])}
	}
	watched := map[string]string{}
	switch object {
	case zendesk.Organization:
		watched = map[string]string{"name": "name_changed", "external_id": "external_id_changed", "tags": "tags_changed"}
	case zendesk.User:
		watched = map[string]string{"name": "name_changed", "external_id": "external_id_changed", "tags": "tags_changed", "role": "role_changed",
			"alias": "alias_changed", "details": "details_changed", "notes": "notes_changed", "suspended": "suspended_changed", "time_zone": "time_zone_changed"}
	case zendesk.Ticket:
		watched = map[string]string{"status": "status_changed", "priority": "priority_changed", "subject": "subject_changed", "type": "type_changed",
			"assignee_id": "agent_assignment_changed", "group_id": "group_assignment_changed", "organization_id": "organization_changed",
			"requester_id": "requester_changed", "external_id": "external_id_changed", "tags": "tags_changed",
			"brand_id": "brand_changed", "ticket_form_id": "form_changed", "due_at": "task_due_at_changed", "problem_id": "problem_link_changed"}
	}
	for _, k := range sortedKeys(watched) {
		if !created && !reflect.DeepEqual(before[k], after[k]) {
			t.push(object, after, watched[k], pair(k), actor)
		}
	}
	if object == zendesk.Ticket && !created {
		for _, f := range tb.fields {
			if was, is := ticketValue(before, f), ticketValue(after, f); !reflect.DeepEqual(was, is) {
				t.push(object, after, "custom_field_changed", map[string]any{"current": is, "previous": was,
					"field": map[string]any{"id": f.ID.String(), "title": f.Title, "type": f.Type}}, actor)
			}
		}
	}
	if group := object + "_fields"; !created && (object == zendesk.Organization || object == zendesk.User) {
		was, is := before[group].(map[string]any), after[group].(map[string]any)
		for _, f := range tb.fields {
			if !reflect.DeepEqual(was[f.Key], is[f.Key]) {
				t.push(object, after, "custom_field_changed", map[string]any{"current": is[f.Key], "previous": was[f.Key],
					"field": map[string]any{"id": f.Key, "title": f.Title, "type": f.Type}}, actor)
			}
		}
	}
	if object == zendesk.User && !created && !reflect.DeepEqual(before["organization_id"], after["organization_id"]) {
		for _, m := range []struct {
			what string
			id   any
		}{{"organization_membership_deleted", before["organization_id"]}, {"organization_membership_created", after["organization_id"]}} {
			if m.id != nil {
				t.push(object, after, m.what, map[string]any{"organization": map[string]any{"id": loud("", m.id)}}, actor)
			}
		}
	}
	if commented {
		t.push(object, after, "comment_added", map[string]any{}, actor)
	}
}

func (t *Twin) announceGone(object string, r *row, actor int64) {
	switch object {
	case zendesk.Organization:
		t.push(object, r.data, "deleted", map[string]any{}, actor)
	case zendesk.User:
		t.push(object, r.data, "active_changed", map[string]any{"current": false, "previous": true}, actor)
		t.push(object, r.data, "deleted", map[string]any{}, actor)
	case zendesk.Ticket:
		t.push(object, r.data, "soft_deleted", map[string]any{}, actor)
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// loud is a value as events say it: ids as strings, enums in upper case.
func loud(k string, v any) any {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	if s, ok := v.(string); ok && (k == "status" || k == "priority" || k == "type") {
		return strings.ToUpper(s)
	}
	return v
}

func detail(object string, data map[string]any, actor int64) map[string]any {
	keys := []string{"id", "name", "external_id", "group_id", "shared_comments", "shared_tickets", "created_at", "updated_at"}
	out := map[string]any{}
	if object == zendesk.User { // what is not there is "0" and ""
		for k, none := range map[string]string{"id": "", "email": "", "external_id": "", "role": "", "organization_id": "0", "default_group_id": "0", "created_at": "", "updated_at": ""} {
			if out[k] = loud(k, data[k]); out[k] == nil {
				out[k] = none
			}
		}
		return out
	}
	if object == zendesk.Ticket {
		keys = []string{"id", "status", "priority", "type", "subject", "description", "organization_id", "requester_id", "submitter_id",
			"assignee_id", "group_id", "brand_id", "external_id", "is_public", "tags", "via", "created_at", "updated_at"}
		out["actor_id"], out["form_id"] = strconv.FormatInt(actor, 10), loud("", data["ticket_form_id"])
	}
	for _, k := range keys {
		out[k] = loud(k, data[k])
	}
	return out
}

// push sends one event, if somebody subscribed to it.
func (t *Twin) push(object string, data map[string]any, what string, event map[string]any, actor int64) {
	if t.kit.Target() == "" || (object != zendesk.Organization && object != zendesk.User && object != zendesk.Ticket) {
		return
	}
	kind := "zen:event-type:" + object + "." + what
	for _, h := range t.hooks {
		if subscribed, ok := h["subscriptions"].([]any); ok && h["id"] == t.hookOf && !slices.Contains(subscribed, any(kind)) {
			return
		}
	}
	id := loud("", data["id"]).(string)
	version := "2022-06-20"
	if object == zendesk.Ticket {
		version = "2022-11-06"
	}
	body, err := json.Marshal(map[string]any{"type": kind, "account_id": account, "id": t.uuid(), "zendesk_event_version": version,
		"time": t.opt.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "subject": "zen:" + object + ":" + id, "detail": detail(object, data, actor), "event": event})
	if err != nil {
		return // values came from JSON, so they go back into it
	}
	t.send(body, "")
}

// send hands one signed message to the kit. An empty secret means the webhook's own.
func (t *Twin) send(body []byte, secret string) {
	hook, invocation := t.hookOf, strings.ToUpper(strings.ReplaceAll(t.uuid(), "-", ""))[:26]
	t.kit.Push(twin.Webhook{
		Request: func(url string) (*http.Request, error) {
			req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			at, key := stamp(t.opt.Now()), secret
			if key == "" {
				t.mu.Lock()
				key = t.secret
				t.mu.Unlock()
			}
			mac := hmac.New(sha256.New, []byte(key))
			mac.Write([]byte(at))
			mac.Write(body)
			for k, v := range map[string]string{"Content-Type": "application/json; charset=utf-8", "User-Agent": "Zendesk Webhook",
				"X-Zendesk-Account-Id": strconv.Itoa(account), "X-Zendesk-Webhook-Id": hook, "X-Zendesk-Webhook-Invocation-Id": invocation,
				"X-Zendesk-Webhook-Signature-Timestamp": at, "X-Zendesk-Webhook-Signature": base64.StdEncoding.EncodeToString(mac.Sum(nil))} {
				req.Header.Set(k, v)
			}
			return req, nil
		},
		Retry: func(attempt, status int, header http.Header) (time.Duration, bool) {
			return retry(attempt, status, header.Get("Retry-After"), t.opt.RetryWait)
		},
	})
}

// retry is the vendor's rule: 5 more on a timeout, 3 more on 409, and 429 or 503 only if they name a pause under a minute.
// https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
func retry(attempt, status int, retryAfter string, wait time.Duration) (time.Duration, bool) {
	switch status {
	case 0:
		return wait, attempt <= 5
	case http.StatusConflict:
		return wait, attempt <= 3
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		n, err := strconv.Atoi(retryAfter)
		return time.Duration(n) * time.Second, err == nil && n >= 0 && n < 60 && attempt <= 3
	}
	return 0, false
}

// SendTest does what the "test webhook" button does: a body of the administrator's choice, signed with the public
// test secret.
func (t *Twin) SendTest(body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.send(body, "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==")
}

func (t *Twin) hookRoutes(mux *http.ServeMux) {
	show := func(h map[string]any) map[string]any { return map[string]any{"webhook": h} }
	find := func(r *http.Request) map[string]any {
		for _, h := range t.hooks {
			if h["id"] == r.PathValue("id") {
				return h
			}
		}
		return nil
	}
	t.route(mux, "POST /api/v2/webhooks", func(c *call) {
		in := c.object("webhook")
		if in == nil {
			return
		}
		bad := invalid{}
		for _, k := range []string{"name", "endpoint", "http_method", "request_format"} {
			if s, _ := in[k].(string); s == "" {
				bad.add(k, "BlankValue", k+": cannot be blank")
			}
		}
		if len(bad) > 0 {
			c.refuse(bad)
			return
		}
		h := clone(in).(map[string]any)
		h["id"] = "01TWIN" + t.nextID()
		t.hooks = append(t.hooks, h)
		if h["status"] == nil {
			h["status"] = "active"
		}
		if h["status"] == "active" {
			t.hookOf = h["id"].(string)
			t.kit.SendTo(h["endpoint"].(string))
		}
		c.answer(http.StatusCreated, show(h))
	})
	t.route(mux, "GET /api/v2/webhooks", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"webhooks": append([]map[string]any{}, t.hooks...), "meta": map[string]any{"has_more": false}, "links": map[string]any{"next": nil, "prev": nil}})
	})
	t.route(mux, "GET /api/v2/webhooks/{id}", func(c *call) {
		if h := find(c.r); h != nil {
			c.answer(http.StatusOK, show(h))
			return
		}
		c.missing()
	})
	t.route(mux, "DELETE /api/v2/webhooks/{id}", func(c *call) {
		h := find(c.r)
		if h == nil {
			c.missing()
			return
		}
		t.hooks = slices.DeleteFunc(t.hooks, func(x map[string]any) bool { return x["id"] == h["id"] })
		if t.hookOf == h["id"] {
			t.hookOf = ""
			t.kit.SendTo("")
		}
		c.answer(http.StatusNoContent, nil)
	})
	secret := func(rotate bool) func(*call) {
		return func(c *call) {
			if find(c.r) == nil {
				c.missing()
				return
			}
			if rotate {
				t.secret = base64.StdEncoding.EncodeToString([]byte(t.uuid()))
			}
			c.answer(http.StatusOK, map[string]any{"signing_secret": map[string]any{"algorithm": "SHA256", "secret": t.secret}})
		}
	}
	t.route(mux, "GET /api/v2/webhooks/{id}/signing_secret", secret(false))
	t.route(mux, "POST /api/v2/webhooks/{id}/signing_secret", secret(true))
	t.route(mux, "POST /api/v2/webhooks/test", func(c *call) {
		t.send([]byte(fmt.Sprint(c.body["request"])), "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==")
		c.answer(http.StatusOK, map[string]any{"response": map[string]any{"status": 200}})
	})
}
