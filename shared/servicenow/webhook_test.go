package servicenow_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
)

const secret = "vector-secret-0123456789"

// intake is a connector that can only verify webhooks.
func intake(t testing.TB, secrets ...string) *servicenow.Connector {
	t.Helper()
	c, err := servicenow.New(servicenow.Config{Now: noon, Credentials: servicenow.Credentials{IntegrationUser: "sorrel.integration", WebhookSecrets: secrets}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func signed(body, key string) platform.Request {
	stamp := noon().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(stamp + "." + body))
	return platform.Request{Now: noon(), ContentType: "application/json", Body: []byte(body), Header: http.Header{
		"X-Sorrel-Timestamp": {stamp}, "X-Sorrel-Signature": {"v1=" + hex.EncodeToString(mac.Sum(nil))}}}
}

const (
	head   = `{"table":"customer_account","sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_mod_count":2,"sys_updated_on":"2026-11-02 08:15:20","sys_updated_by":"alice.agent","sys_created_on":"2026-11-01 10:00:00",`
	update = head + `"operation":"update","fields":{"name":"Acmé","city":"","active":"true","account_parent":{"link":"https://x","value":"3eed"},"u_sorrel_id":"customer-1"}}`
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 2, 8, 15, 20, 0, time.UTC)
	for name, c := range map[string]struct {
		body, id string
		check    func(record.Native) bool
	}{
		"update": {update, someID + ":2:update", func(n record.Native) bool {
			want := map[string]any{"name": "Acmé", "city": nil, "active": "true", "account_parent": "3eed", "u_sorrel_id": "customer-1", "sys_id": someID, "sys_mod_count": "2",
				"sys_updated_on": "2026-11-02 08:15:20", "sys_updated_by": "alice.agent", "sys_created_on": "2026-11-01 10:00:00"}
			return reflect.DeepEqual(n.Fields, want) && !n.Partial && !n.Ours && n.External == "customer-1" && n.Actor == "alice.agent" && n.Born.Day() == 1
		}},
		"ours": {strings.Replace(update, "alice.agent", "sorrel.integration", 1), someID + ":2:update", func(n record.Native) bool { return n.Ours && !n.Hint() }},
		"hint": {head + `"operation":"insert"}`, someID + ":2:insert", func(n record.Native) bool { return n.Hint() }},
		"deletion": {head + `"operation":"delete"}`, someID + ":2:delete", func(n record.Native) bool {
			return n.Gone && n.Fields == nil
		}},
	} {
		d, err := intake(t, secret).Webhook(t.Context(), signed(c.body, secret))
		if err != nil || len(d.Natives) != 1 || d.ID != c.id {
			t.Fatalf("%s: %+v, %v", name, d, err)
		}
		if n := d.Natives[0]; !c.check(n) || n.ID != someID || n.Version != (record.Version{At: at, Seq: 2}) {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	alter := func(f func(*platform.Request)) platform.Request { r := signed(update, secret); f(&r); return r }
	with := func(old, now string) platform.Request { return signed(strings.Replace(update, old, now, 1), secret) }
	for name, c := range map[string]struct {
		r     platform.Request
		class fault.Class
		says  string
	}{
		"no signature":      {alter(func(r *platform.Request) { r.Header.Del("X-Sorrel-Signature") }), fault.Unauthenticated, "X-Sorrel-Signature is missing"},
		"no timestamp":      {alter(func(r *platform.Request) { r.Header.Del("X-Sorrel-Timestamp") }), fault.Unauthenticated, "X-Sorrel-Timestamp is missing"},
		"odd timestamp":     {alter(func(r *platform.Request) { r.Header.Set("X-Sorrel-Timestamp", "now") }), fault.Unauthenticated, "RFC 3339"},
		"other scheme":      {alter(func(r *platform.Request) { r.Header.Set("X-Sorrel-Signature", "v2=00") }), fault.Unauthenticated, "v1=hex"},
		"wrong secret":      {signed(update, "other"), fault.Unauthenticated, "does not match"},
		"changed body":      {alter(func(r *platform.Request) { r.Body = append(r.Body, ' ') }), fault.Unauthenticated, "does not match"},
		"old":               {alter(func(r *platform.Request) { r.Now = r.Now.Add(5*time.Minute + time.Second) }), fault.Unauthenticated, "5m1s off"},
		"future":            {alter(func(r *platform.Request) { r.Now = r.Now.Add(-6 * time.Minute) }), fault.Unauthenticated, "off"},
		"content type":      {alter(func(r *platform.Request) { r.ContentType = "text/plain" }), fault.Malformed, "text/plain"},
		"no JSON":           {signed(update[:len(update)/2], secret), fault.Malformed, ""},
		"array":             {signed("[1]", secret), fault.Malformed, ""},
		"deep":              {signed(head+`"x":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+"}", secret), fault.Malformed, "64"},
		"operation":         {with(`"update"`, `"query"`), fault.NotFound, `"query"`},
		"table":             {with("customer_account", "incident"), fault.NotFound, `"incident"`},
		"no id":             {with("ba325dbe64f01300964fae39b050e9a6", ""), fault.Contract, "sys_id"},
		"no count":          {with(`"sys_mod_count":2,`, ""), fault.Contract, "sys_mod_count"},
		"time of elsewhere": {with("2026-11-02 08:15:20", "02.11.2026"), fault.Contract, "sys_updated_on"},
	} {
		_, err := intake(t, secret).Webhook(t.Context(), c.r)
		if !fault.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s saying %q", name, err, c.class, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || len(c.r.Header.Get("X-Sorrel-Signature")) > 9 && strings.Contains(err.Error(), c.r.Header.Get("X-Sorrel-Signature")[3:])) {
			t.Errorf("%s: the error shows a secret or a signature: %v", name, err)
		}
	}
	if _, err := intake(t).Webhook(t.Context(), signed(update, "")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a secret: %v", err)
	}
	c := intake(t, "old", secret)
	for _, key := range []string{"old", secret} {
		if _, err := c.Webhook(t.Context(), signed(update, key)); err != nil {
			t.Errorf("secret %q of two: %v", key, err)
		}
	}
}

func TestIntakeOnlyConnectorRefusesCalls(t *testing.T) {
	t.Parallel()
	if _, err := intake(t, secret).Read(t.Context(), ref(someID)); !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), "clientId") {
		t.Errorf("a call without credentials: %v", err)
	}
	c, err := servicenow.New(servicenow.Config{URL: "https://acme.service-now.com", Now: noon, Credentials: servicenow.Credentials{WebhookSecrets: []string{secret}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context(), ref(someID)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a call with a URL but without credentials: %v", err)
	}
}

func FuzzWebhook(f *testing.F) {
	f.Add(update)
	f.Add(head + `"operation":"delete"}`)
	f.Add(head + `"operation":"insert","fields":{"sys_id":[],"a":{"value":{}},"b":1e9,"c":null}}`)
	f.Add(strings.Repeat(`{"fields":`, 80))
	c := intake(f, secret)
	f.Fuzz(func(t *testing.T, body string) {
		d, err := c.Webhook(context.Background(), signed(body, secret))
		if (err == nil) == (len(d.Natives) == 0) {
			t.Fatalf("%d natives and error %v", len(d.Natives), err)
		}
		if err != nil {
			return
		}
		n := d.Natives[0]
		if n.ID == "" || n.Version.At.IsZero() || n.Gone && n.Fields != nil || d.ID == "" {
			t.Fatalf("%+v", n)
		}
		for k, v := range n.Fields {
			if _, ok := v.(string); v != nil && !ok {
				t.Fatalf("field %q has shape %T", k, v)
			}
		}
	})
}
