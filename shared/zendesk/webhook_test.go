package zendesk_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/zendesk"
)

const (
	secret     = "bGl0ZXJhbC1zZWNyZXQ="
	testSecret = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
)

func noon() time.Time { return time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC) }

// intake is a connector that can only verify webhooks.
func intake(t testing.TB, secrets ...string) *zendesk.Connector {
	t.Helper()
	c, err := zendesk.New(zendesk.Config{URL: "https://acme.zendesk.com", Now: noon, Credentials: zendesk.Credentials{WebhookSecrets: secrets}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func signed(body, key string) platform.Request {
	stamp := noon().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(stamp + body))
	return platform.Request{Now: noon(), ContentType: "application/json; charset=utf-8", Body: []byte(body), Header: http.Header{
		"X-Zendesk-Webhook-Signature":           {base64.StdEncoding.EncodeToString(mac.Sum(nil))},
		"X-Zendesk-Webhook-Signature-Timestamp": {stamp},
		"X-Zendesk-Webhook-Invocation-Id":       {"01ABC"},
	}}
}

func TestWebhookEvents(t *testing.T) {
	t.Parallel()
	c := intake(t, secret)
	for file, check := range map[string]func(*testing.T, record.Native){
		"ticket.json": func(t *testing.T, n record.Native) {
			if !n.Partial || n.Gone || n.Actor != "8447388090494" || n.Ours || n.External != "ERP-9" || n.Version.Final {
				t.Errorf("ticket event gave %+v", n)
			}
			want := map[string]any{"id": json.Number("5158"), "status": "solved", "priority": "high", "type": "incident", "subject": "Pump alarm",
				"description": "It rings", "organization_id": json.Number("6607"), "requester_id": json.Number("83"), "submitter_id": json.Number("83"),
				"assignee_id": nil, "group_id": json.Number("12"), "brand_id": json.Number("1"), "ticket_form_id": json.Number("2"), "external_id": "ERP-9",
				"custom_status_id": json.Number("77"), "is_public": true, "tags": []any{"vip"}, "via": map[string]any{"channel": "web"},
				"created_at": "2026-11-01T10:12:07Z", "updated_at": "2026-11-02T08:15:20Z"}
			if !reflect.DeepEqual(n.Fields, want) {
				t.Errorf("fields are\n%v\nwant\n%v", n.Fields, want)
			}
		},
		"organization.json": func(t *testing.T, n record.Native) {
			if !n.Hint() || n.Fields != nil || n.ID != "6607" || n.External != "cus-123" {
				t.Errorf("an organization event must be a hint, got %+v", n)
			}
		},
		"user.json": func(t *testing.T, n record.Native) {
			if !n.Hint() || n.Fields != nil || n.Ref != (record.Ref{Platform: "zendesk", Object: "user", ID: "83"}) || n.External != "contact-7" {
				t.Errorf("a user event must be a hint, got %+v", n)
			}
		},
		"user_deleted.json": func(t *testing.T, n record.Native) {
			if !n.Gone || n.Into != "" || !n.Version.At.Equal(time.Date(2026, 11, 2, 8, 20, 0, 0, time.UTC)) {
				t.Errorf("a deletion must be Gone at its time, got %+v", n)
			}
		},
		"organization_deleted.json": func(t *testing.T, n record.Native) {
			if !n.Gone || !n.Version.At.Equal(time.Date(2026, 11, 2, 8, 20, 0, 0, time.UTC)) {
				t.Errorf("a deletion must be Gone at its time, got %+v", n)
			}
		},
	} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Webhook(t.Context(), signed(string(b), secret))
		if err != nil || len(d.Natives) == 0 || d.ID == "" {
			t.Fatalf("%s: %+v, %v", file, d, err)
		}
		check(t, d.Natives[len(d.Natives)-1])
		if len(d.Natives) > 1 && (file != "organization_deleted.json" || !d.Natives[0].Hint() || d.Natives[0].Ref != d.Natives[1].Ref) {
			t.Errorf("%s: %+v; only a deleted organization has a hint before its deletion", file, d.Natives)
		}
	}
}

// Which of its two users a merge has left must never be guessed: a wrong answer deletes the one that lives.
func TestUserMergedEvent(t *testing.T) {
	t.Parallel()
	c := intake(t, secret)
	merge := func(email, event string) ([]record.Native, error) {
		d, err := c.Webhook(t.Context(), signed(`{"type":"zen:event-type:user.merged","id":"e","time":"2026-11-02T08:20:00.400Z","subject":"zen:user:83",
			"detail":{"id":"83","email":`+email+`,"external_id":"contact-7","updated_at":"2026-11-02T08:20:00Z","created_at":"2026-01-01T00:00:00Z"},"event":`+event+`}`, secret))
		return d.Natives, err
	}
	for _, none := range []string{`""`, "null"} {
		n, err := merge(none, `{"user":{"id":"84"}}`)
		if err != nil || len(n) != 2 || !n[0].Gone || n[0].ID != "83" || n[0].Into != "84" || n[0].External != "contact-7" || !n[1].Hint() || n[1].ID != "84" || n[1].External != "" || !n[1].Version.IsZero() {
			t.Errorf("a user without address was merged: %+v, %v", n, err)
		}
		if deleted := time.Date(2026, 11, 2, 8, 20, 0, 999, time.UTC); !n[0].Version.At.After(deleted) {
			t.Errorf("the merge at %v is not after the deletion that comes with it", n[0].Version.At)
		}
	}
	n, err := merge(`"ann@example.com"`, `{"user":{"id":84}}`)
	if err != nil || len(n) != 2 || !n[0].Hint() || n[0].ID != "83" || !n[1].Hint() || n[1].ID != "84" {
		t.Errorf("a user with an address may be the winner: %+v, %v; want two hints", n, err)
	}
	if _, err := merge(`""`, `{}`); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "event.user.id") {
		t.Errorf("a merge without the other user: %v", err)
	}
}

func TestUserActiveChanged(t *testing.T) {
	t.Parallel()
	for current, gone := range map[string]bool{"false": true, "true": false, "null": false} {
		d, err := intake(t, secret).Webhook(t.Context(), signed(`{"type":"zen:event-type:user.active_changed","id":"e","time":"2026-11-02T08:20:00Z",
			"detail":{"id":"83","updated_at":"2026-11-02T08:20:00Z"},"event":{"current":`+current+`}}`, secret))
		if err != nil || len(d.Natives) != 1 || d.Natives[0].Gone != gone {
			t.Errorf("active: %s gave %+v, %v", current, d.Natives, err)
		}
	}
}

func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	event, err := os.ReadFile("testdata/organization.json")
	if err != nil {
		t.Fatal(err)
	}
	good := string(event)
	alter := func(f func(*platform.Request)) platform.Request { r := signed(good, secret); f(&r); return r }
	for name, c := range map[string]struct {
		r     platform.Request
		class fault.Class
		says  string
	}{
		"no signature":   {alter(func(r *platform.Request) { r.Header.Del("X-Zendesk-Webhook-Signature") }), fault.Unauthenticated, "missing header"},
		"no timestamp":   {alter(func(r *platform.Request) { r.Header.Del("X-Zendesk-Webhook-Signature-Timestamp") }), fault.Unauthenticated, "missing header"},
		"wrong secret":   {signed(good, "other"), fault.Unauthenticated, "bad signature"},
		"no base64":      {alter(func(r *platform.Request) { r.Header.Set("X-Zendesk-Webhook-Signature", "%") }), fault.Unauthenticated, "bad signature"},
		"changed body":   {alter(func(r *platform.Request) { r.Body = append(r.Body, ' ') }), fault.Unauthenticated, "bad signature"},
		"old":            {alter(func(r *platform.Request) { r.Now = r.Now.Add(5*time.Minute + time.Second) }), fault.Unauthenticated, "too old"},
		"future":         {alter(func(r *platform.Request) { r.Now = r.Now.Add(-6 * time.Minute) }), fault.Unauthenticated, "future"},
		"test secret":    {signed(good, testSecret), fault.Unauthenticated, "bad signature"},
		"content type":   {alter(func(r *platform.Request) { r.ContentType = "text/plain" }), fault.Malformed, "text/plain"},
		"no JSON":        {signed(good[:len(good)/2], secret), fault.Malformed, ""},
		"array":          {signed("[1]", secret), fault.Malformed, "object"},
		"null":           {signed("null", secret), fault.Malformed, "object"},
		"two values":     {signed(good+"{}", secret), fault.Malformed, "more than one"},
		"deep":           {signed(`{"a":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+"}", secret), fault.Malformed, "deeper"},
		"no type":        {signed(`{"ticket":"1"}`, secret), fault.Contract, "type"},
		"unknown type":   {signed(`{"type":"zen:event-type:user.renamed","id":"x"}`, secret), fault.NotFound, "user.renamed"},
		"unknown ticket": {signed(`{"type":"zen:event-type:ticket.updated","id":"x"}`, secret), fault.NotFound, "ticket.updated"},
		"no event id":    {signed(`{"type":"zen:event-type:organization.created","detail":{}}`, secret), fault.Contract, `"id"`},
		"no detail":      {signed(`{"type":"zen:event-type:organization.created","id":"x"}`, secret), fault.Contract, "detail"},
		"no record id":   {signed(`{"type":"zen:event-type:organization.created","id":"x","detail":{}}`, secret), fault.Contract, "detail.id"},
		"no updated_at":  {signed(`{"type":"zen:event-type:organization.created","id":"x","detail":{"id":"1"}}`, secret), fault.Contract, "detail.updated_at"},
	} {
		_, err := intake(t, secret).Webhook(t.Context(), c.r)
		if !fault.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s saying %q", name, err, c.class, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), c.r.Header.Get("X-Zendesk-Webhook-Signature")) && len(c.r.Header.Get("X-Zendesk-Webhook-Signature")) > 2) {
			t.Errorf("%s: the error shows a secret or a signature: %v", name, err)
		}
	}
	if _, err := intake(t).Webhook(t.Context(), signed(good, "")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a secret: %v, want unauthenticated", err)
	}
}

func TestWebhookRotationAndTestCalls(t *testing.T) {
	t.Parallel()
	event, err := os.ReadFile("testdata/organization.json")
	if err != nil {
		t.Fatal(err)
	}
	c := intake(t, "old", testSecret, secret)
	for _, key := range []string{"old", secret} {
		if d, err := c.Webhook(t.Context(), signed(string(event), key)); err != nil || len(d.Natives) != 1 {
			t.Errorf("secret %q of several: %+v, %v", key, d, err)
		}
	}
	// The test secret is public: whatever it signs is acknowledged and not believed.
	for _, body := range []string{string(event), "", "anything"} {
		d, err := c.Webhook(t.Context(), signed(body, testSecret))
		if err != nil || len(d.Natives) != 0 || !strings.HasPrefix(d.ID, "test-") {
			t.Errorf("test call %q: %+v, %v", body, d, err)
		}
	}
}

func TestIntakeOnlyConnectorRefusesCalls(t *testing.T) {
	t.Parallel()
	_, err := intake(t, secret).Read(context.Background(), record.Ref{Platform: record.Zendesk, Object: zendesk.Ticket, ID: "1"})
	if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), "clientId") {
		t.Errorf("a call without credentials: %v", err)
	}
}

func FuzzWebhook(f *testing.F) {
	for _, name := range []string{"ticket.json", "organization.json", "organization_deleted.json", "user.json", "user_deleted.json"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(`{"type":"zen:event-type:ticket.created","id":"1","detail":{"id":1e9,"updated_at":"2026-11-02T08:15:20Z","status":[{}]}}`)
	f.Add(`{"type":"zen:event-type:user.merged","id":"1","detail":{"id":"1","updated_at":"2026-11-02T08:15:20Z"},"event":{"user":{"id":"2"}}}`)
	f.Add(strings.Repeat(`{"a":`, 80))
	c := intake(f, secret)
	f.Fuzz(func(t *testing.T, body string) {
		d, err := c.Webhook(context.Background(), signed(body, secret))
		if (err == nil) == (len(d.Natives) == 0) {
			t.Fatalf("%d natives and error %v", len(d.Natives), err)
		}
		for _, n := range d.Natives {
			if n.ID == "" || n.Version.At.IsZero() && !n.Hint() || n.Into != "" && !n.Gone {
				t.Fatalf("a native without id or version, or merged and alive: %+v", n)
			}
		}
	})
}

// The kit must not subscribe to what Webhook refuses.
func TestKitSubscribesToKnownEvents(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../infra/zendesk/setup.json")
	if err != nil {
		t.Fatal(err)
	}
	var kit struct {
		Requests []struct {
			Body struct {
				Webhook struct{ Subscriptions []string }
			}
		}
	}
	if err := json.Unmarshal(b, &kit); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range kit.Requests {
		for _, kind := range r.Body.Webhook.Subscriptions {
			n++
			event := `{"type":"` + kind + `","id":"e","detail":{"id":"1","updated_at":"2026-11-02T08:00:00Z"},"event":{"user":{"id":"2"}}}`
			if _, err := intake(t, secret).Webhook(t.Context(), signed(event, secret)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	if n == 0 {
		t.Error("the kit subscribes to nothing")
	}
}
