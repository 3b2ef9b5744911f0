package netsuite_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/twin"
)

func ref(object, id string) record.Ref {
	return record.Ref{Platform: record.NetSuite, Object: object, ID: id}
}

// sign computes the signature of infra/netsuite's script.
func sign(secret, stamp, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "." + body))
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

func same(t *testing.T, got, want map[string]any) {
	t.Helper()
	a, errA := record.FromAny(got)
	b, errB := record.FromAny(want)
	if errA != nil || errB != nil || a != b {
		t.Errorf("got\n%s\nwant\n%s\n%v %v", a.Raw(), b.Raw(), errA, errB)
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := netsuite.New(netsuite.Config{URL: "http://netsuite.test", AccountZone: "Mars/Base", PageSize: 2000,
		Columns:     map[string][]string{"salesOrder": {"custbody x", "a:color", "-nothing", "items.a"}, "estimate": {"a"}},
		Credentials: netsuite.Credentials{ClientID: "c", PrivateKey: "hush-hush", WebhookSecrets: []string{"short"}}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"Now is missing", "Mars/Base", "PageSize", "custbody x", `"color"`, `"nothing"`, `"items"`, "estimate", "webhookSecrets[0]"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not named in: %v", part, err)
		}
	}
	_, err = netsuite.New(netsuite.Config{Now: time.Now, URL: "http://netsuite.test", Credentials: netsuite.Credentials{ClientID: "c", PrivateKey: "hush-hush"}})
	for _, part := range []string{"clear text", "certificateId is missing", "privateKey: not PEM"} {
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q is not named in: %v", part, err)
		}
	}
	if _, err = netsuite.New(netsuite.Config{Now: time.Now}); err == nil {
		t.Error("a config without credentials was accepted")
	}
}

func TestCredentialsAreRedacted(t *testing.T) {
	t.Parallel()
	c := netsuite.Credentials{ClientID: "hush", PrivateKey: "hush", WebhookSecrets: []string{"hush"}}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.LogValue()); strings.Contains(s, "hush") {
		t.Error(s)
	}
}

func TestIntakeNeedsNoAPICredentials(t *testing.T) {
	t.Parallel()
	c, err := netsuite.New(netsuite.Config{Now: time.Now, Credentials: netsuite.Credentials{WebhookSecrets: []string{"0123456789abcdef"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Read(t.Context(), ref("customer", "1")); !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), "clientId") {
		t.Errorf("a call without credentials says %v", err)
	}
}

// An assertion is for now, whatever NetSuite's clock says of it.
func TestSignInByAnotherClock(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	for _, apart := range []time.Duration{-4 * time.Minute, 4 * time.Minute} {
		tw, err := netsuitetwin.New(netsuitetwin.Options{Now: func() time.Time { return clock.Now().Add(apart) }})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(tw.Handler())
		defer srv.Close()
		c, err := netsuite.New(netsuite.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Read(t.Context(), ref("customer", mustEdit(t, tw, "customer", "", customerFields(1)))); err != nil {
			t.Errorf("clocks %s apart: %v", apart, err)
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	for name, tt := range map[string]struct {
		numbers bool
		change  func(a *netsuitetwin.Twin, c *netsuite.Credentials)
		class   fault.Class
	}{
		"ES256": {false, func(*netsuitetwin.Twin, *netsuite.Credentials) {}, ""},
		"PS256, numeric life": {true, func(a *netsuitetwin.Twin, c *netsuite.Credentials) {
			a.AddCertificate("rsa", c.ClientID, key.Public())
			c.CertificateID, c.PrivateKey = "rsa", rsaPEM
		}, ""},
		"unmapped":     {false, func(_ *netsuitetwin.Twin, c *netsuite.Credentials) { c.CertificateID = "other" }, fault.Unauthenticated},
		"other client": {false, func(_ *netsuitetwin.Twin, c *netsuite.Credentials) { c.ClientID = "other" }, fault.Unauthenticated},
		"other key":    {false, func(_ *netsuitetwin.Twin, c *netsuite.Credentials) { c.PrivateKey = rsaPEM }, fault.Unauthenticated},
	} {
		var tw *netsuitetwin.Twin
		t.Run(name, func(t *testing.T) {
			var err error
			if tw, err = netsuitetwin.New(netsuitetwin.Options{Now: clock.Now, Numbers: tt.numbers}); err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewServer(tw.Handler())
			defer srv.Close()
			creds := tw.Credentials()
			tt.change(tw, &creds)
			c, err := netsuite.New(netsuite.Config{URL: srv.URL, Credentials: creds, Now: clock.Now})
			if err != nil {
				t.Fatal(err)
			}
			id := mustEdit(t, tw, "customer", "", customerFields(1))
			for range 8 { // a refused sign-in must not turn into an open breaker
				if _, err = c.Read(t.Context(), ref("customer", id)); tt.class == "" && err != nil || tt.class != "" && !fault.Is(err, tt.class) {
					t.Fatalf("%v, want class %q", err, tt.class)
				}
			}
			if tt.class != "" {
				return
			}
			tw.RevokeTokens()
			if _, err = c.Read(t.Context(), ref("customer", id)); err != nil {
				t.Errorf("after the token was revoked: %v", err)
			}
			clock.Advance(2 * time.Hour)
			if _, err = c.Read(t.Context(), ref("customer", id)); err != nil {
				t.Errorf("after the token's end: %v", err)
			}
			if n := tw.Kit().Stats().Operations["POST /services/rest/auth/oauth2/v1/token"]; n != 3 {
				t.Errorf("%d sign-ins, want 3: at first, after the refusal, after the end", n)
			}
		})
	}
}

// Every shape in which NetSuite says no.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	details := func(status int, code, detail string) string {
		return fmt.Sprintf(`{"type":"https://www.rfc-editor.org/rfc/rfc9110.html#section-15.5.1","title":"Bad","status":%d,"o:errorDetails":[{"detail":%q,"o:errorCode":%q,"o:errorPath":"item.items[0].item"}]}`, status, detail, code)
	}
	type answer struct {
		status int
		body   string
		class  fault.Class
		code   string
	}
	cases := []answer{
		{429, `{"type":"https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html","title":"Bad Request","status":429,"o:errorDetails":[{"detail":"Concurrent request limit exceeded. Request blocked.","o:errorCode":"CONCURRENCY_LIMIT_EXCEEDED"}]}`, fault.Throttled, "CONCURRENCY_LIMIT_EXCEEDED"},
		{400, details(400, "CONCURRENCY_LIMIT_EXCEEDED", "blocked"), fault.Throttled, "CONCURRENCY_LIMIT_EXCEEDED"},
		{429, details(429, "USER_ERROR", "frequency"), fault.Throttled, "USER_ERROR"},
		{429, `<html>slow down</html>`, fault.Throttled, "429"},
		{400, `{"title":"old","o:errorCode":"SSS_REQUEST_LIMIT_EXCEEDED"}`, fault.Throttled, "SSS_REQUEST_LIMIT_EXCEEDED"},
		{400, details(400, "INVALID_KEY_OR_REF", "no such customer"), fault.MissingReference, "INVALID_KEY_OR_REF"},
		{400, details(400, "RCRD_HAS_BEEN_CHANGED", "changed"), fault.Conflict, "RCRD_HAS_BEEN_CHANGED"},
		{403, `<html>forbidden</html>`, fault.Refused, "403"},
		{404, details(404, "RCRD_DSNT_EXIST", "gone"), fault.NotFound, "RCRD_DSNT_EXIST"},
		{500, details(500, "UNEXPECTED_ERROR", "Error ID: x"), fault.Internal, "UNEXPECTED_ERROR"},
		{503, `<html><h1>maintenance</h1>`, fault.Down, "503"},
		{502, ``, fault.Down, "502"},
		{507, ``, fault.Down, "507"},
		{400, `{"title":"cut`, fault.Refused, "400"},
		{422, `{}`, fault.Refused, "422"},
		{200, details(200, "INSUFFICIENT_PERMISSION", "no"), fault.Refused, "INSUFFICIENT_PERMISSION"},
		{200, `{"id":"1","lastModif`, fault.Down, ""},
		{200, `<html>sign in</html>`, fault.Down, ""},
		{200, `{"id":"1"}`, fault.Contract, ""},
		{200, `{"id":"x/y","lastModifiedDate":"2026-11-02T08:34:00Z"}`, fault.Contract, ""},
		{200, `{"id":"1","lastModifiedDate":"2026-11-02T08:34:00Z","addressBook":{"links":[]}}`, fault.Contract, ""},
		{200, `{"id":"1","lastModifiedDate":"2026-11-02T08:34:00Z","creditLimit":"much"}`, fault.Contract, ""},
		{302, ``, fault.Internal, "302"},
	}
	seen := map[string]bool{}
	for _, r := range (&netsuite.Connector{}).Declaration().Errors { // and every row of the table, as it stands there
		status := r.Status
		if status == 0 {
			status = 400
		}
		if strings.ToLower(r.Code) == r.Code && r.Code != "" || seen[r.Code] && r.Code != "" {
			continue // the token endpoint's own codes: TestSignIn
		}
		seen[r.Code] = true
		cases = append(cases, answer{status, details(status, r.Code, "x"), fault.Class(r.Class), ""})
	}
	for i, tt := range cases {
		t.Run(fmt.Sprint(i, " ", tt.status, " ", tt.class), func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/token") {
					_, _ = io.WriteString(w, `{"access_token":"a","expires_in":3600}`)
					return
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(srv.Close)
			tw, err := netsuitetwin.New(netsuitetwin.Options{Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			c, err := netsuite.New(netsuite.Config{URL: srv.URL, Now: time.Now, Credentials: tw.Credentials()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Read(t.Context(), ref("customer", "1"))
			var e *fault.Error
			if !errors.As(err, &e) || e.Class != tt.class || tt.code != "" && e.Code != tt.code {
				t.Errorf("%v: class %q, want %q with code %q", err, fault.ClassOf(err), tt.class, tt.code)
			}
		})
	}
}

func TestOneShapeByWebhookReadAndListing(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "America/New_York"}, func(c *netsuite.Config) {
		c.Columns = map[string][]string{"salesOrder": {"custbody_region", "custbody_weight:number", "custbody_rush:bool", "item.custcol_lot", "custbody_tier:choice", "-subtotal"}}
	})
	for name, kind := range map[string]string{"custbody_region": "text", "custbody_weight": "number", "custbody_rush": "bool", "item.custcol_lot": "text", "custbody_tier": "list"} {
		if err := a.twin.AddField("salesOrder", name, kind); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan platform.Delivery, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d, err := a.Webhook(r.Context(), platform.Request{Header: r.Header, ContentType: r.Header.Get("Content-Type"), Body: body, Now: clock.Now()})
		if err != nil {
			t.Error(err)
		}
		got <- d
	}))
	t.Cleanup(hook.Close)
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	a.twin.Kit().SendTo(hook.URL)
	fields := orderFields(entity, 1)
	fields["externalId"], fields["custbody_region"], fields["custbody_weight"], fields["custbody_rush"], fields["otherRefNum"] = "order-1", "EMEA", 12.50, true, "2026-01-02"
	fields["custbody_tier"] = map[string]any{"refName": "Gold"}
	fields["item"].(map[string]any)["items"].([]any)[0].(map[string]any)["custcol_lot"] = "L-1"
	id := mustEdit(t, a.twin, "salesOrder", "", fields)
	clock.Advance(5 * time.Second)
	pushed := (<-got).Natives[0]
	read, err := a.Read(t.Context(), ref("salesOrder", id))
	if err != nil {
		t.Fatal(err)
	}
	page, err := a.Changes(t.Context(), "salesOrder", "")
	if err != nil || len(page.Natives) != 1 {
		t.Fatalf("%d natives, %v", len(page.Natives), err)
	}
	listed := page.Natives[0]
	same(t, pushed.Fields, read.Fields)
	same(t, listed.Fields, read.Fields)
	for _, n := range []record.Native{pushed, read, listed} {
		if n.Ref != ref("salesOrder", id) || n.External != "order-1" || n.Version.Seq != 1 || !n.Version.At.Equal(read.Version.At) || !n.Born.Equal(read.Born) || n.Ours || n.Partial {
			t.Errorf("%+v", n)
		}
	}
	if pushed.Version.Final || !read.Version.Final || !listed.Version.Final {
		t.Error("a pushed version is never final; one read 5 s later is")
	}
	line := read.Fields["item"].(map[string]any)["items"].([]any)[0].(map[string]any)
	if line["custcol_lot"] != "L-1" || line["quantity"] != json.Number("12") || line["amount"] != json.Number("174") {
		t.Errorf("line %v", line)
	}
	if _, said := read.Fields["subtotal"]; said || read.Fields["total"] != json.Number("304.38") || read.Fields["custbody_rush"] != true {
		t.Errorf("fields %v", read.Fields)
	}

	// Our own write comes back marked; a person's deletion comes as a tombstone.
	out := a.Write(t.Context(), []platform.Write{{Ref: ref("salesOrder", id), External: "order-1", Fields: map[string]any{"memo": nil}}})
	if out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	if n := (<-got).Natives[0]; !n.Ours || n.Actor != netsuitetwin.IntegrationUser || n.Fields["memo"] != nil || n.Version.Seq != 2 {
		t.Errorf("our own write came back as %+v", n)
	}
	if err := a.twin.Delete("salesOrder", id); err != nil {
		t.Fatal(err)
	}
	if n := (<-got).Natives[0]; !n.Gone || n.Version.Seq != 3 || n.External != "order-1" {
		t.Errorf("the deletion came as %+v", n)
	}
}

func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 8, 34, 0, 0, time.UTC)
	creds := netsuite.Credentials{WebhookSecrets: []string{"the-new-secret-0001", "the-old-secret-0001"}}
	c, err := netsuite.New(netsuite.Config{Now: time.Now, Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	const good = `{"id":"e","type":"record.saved","record":{"type":"customer","id":"7","lastModifiedDate":"2026-11-02T08:33:00Z","fields":{"companyName":"A"}}}`
	post := func(body, secret, stamp string) platform.Request {
		return platform.Request{ContentType: "application/json; charset=utf-8", Body: []byte(body), Now: now, Header: http.Header{
			"X-Sorrel-Timestamp": {stamp}, "X-Sorrel-Signature": {sign(secret, stamp, body)}}}
	}
	stamp := now.Format(time.RFC3339)
	for _, secret := range creds.WebhookSecrets {
		if _, err := c.Webhook(t.Context(), post(good, secret, stamp)); err != nil {
			t.Errorf("a current secret was refused: %v", err)
		}
	}
	for name, tt := range map[string]struct {
		r     platform.Request
		class fault.Class
		says  string
	}{
		"other secret": {post(good, "the-lost-secret-0001", stamp), fault.Unauthenticated, "does not match"},
		"old":          {post(good, creds.WebhookSecrets[0], now.Add(-6*time.Minute).Format(time.RFC3339)), fault.Unauthenticated, "timestamp"},
		"no time":      {post(good, creds.WebhookSecrets[0], "yesterday"), fault.Unauthenticated, "RFC 3339"},
		"broken":       {post(good[:40], creds.WebhookSecrets[0], stamp), fault.Malformed, "broken JSON"},
		"two values":   {post(good+"{}", creds.WebhookSecrets[0], stamp), fault.Malformed, "more than one"},
		"deep":         {post(`{"x":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`}`, creds.WebhookSecrets[0], stamp), fault.Malformed, "deeper"},
		"type":         {post(`{"id":"e","type":"record.moved"}`, creds.WebhookSecrets[0], stamp), fault.NotFound, "record.moved"},
		"into nothing": {post(`{"id":"e","type":"record.merged","record":{"type":"customer","id":"7","lastModifiedDate":"2026-11-02T08:33:00Z"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "record.into"},
		"into itself":  {post(`{"id":"e","type":"record.merged","record":{"type":"customer","id":"7","into":"7","lastModifiedDate":"2026-11-02T08:33:00Z"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "record.into"},
		"record type":  {post(`{"id":"e","type":"record.saved","record":{"type":"vendor","id":"7"}}`, creds.WebhookSecrets[0], stamp), fault.NotFound, "vendor"},
		"no id":        {post(`{"type":"record.saved","record":{"type":"customer","id":"7"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "[id]"},
		"no record":    {post(`{"id":"e","type":"record.saved"}`, creds.WebhookSecrets[0], stamp), fault.Contract, "[record]"},
		"no record id": {post(`{"id":"e","type":"record.saved","record":{"type":"customer"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "[record.id]"},
		"bad time":     {post(`{"id":"e","type":"record.saved","record":{"type":"customer","id":"7","lastModifiedDate":"02.11.2026"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "lastModifiedDate"},
		"dateless end": {post(`{"id":"e","type":"record.deleted","record":{"type":"customer","id":"7"}}`, creds.WebhookSecrets[0], stamp), fault.Contract, "lastModifiedDate"},
		"bad field":    {post(strings.Replace(good, `"A"`, `["A"]`, 1), creds.WebhookSecrets[0], stamp), fault.Contract, "companyName"},
	} {
		_, err := c.Webhook(t.Context(), tt.r)
		if !fault.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s saying %q", name, err, tt.class, tt.says)
		}
		if s := fmt.Sprint(err); strings.Contains(s, creds.WebhookSecrets[0]) || strings.Contains(s, tt.r.Header.Get("X-Sorrel-Signature")) {
			t.Errorf("%s: a secret or signature is in %q", name, s)
		}
	}
	d, err := c.Webhook(t.Context(), post(`{"id":"e","type":"record.saved","record":{"type":"customer","id":"7","lastModifiedDate":"2026-11-02T08:33:00Z"}}`, creds.WebhookSecrets[0], stamp))
	if err != nil || !d.Natives[0].Hint() {
		t.Errorf("a save without fields is %+v, %v; want a hint", d, err)
	}
}

// A thousand changed orders must cost five calls, not a call each.
func TestChangesAreCheap(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, nil)
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	for i := range 1000 {
		f := orderFields(entity, i)
		lines := f["item"].(map[string]any)["items"].([]any)
		f["item"] = map[string]any{"items": append(lines, lines[0])}
		if _, err := a.twin.Load("salesOrder", "", f, clock.Now().Add(-time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(time.Minute)
	before := a.twin.Kit().Stats().Calls
	page, err := a.Changes(t.Context(), "salesOrder", "")
	if err != nil || len(page.Natives) != 1000 || page.More {
		t.Fatalf("%d natives, more %v, %v", len(page.Natives), page.More, err)
	}
	if calls := a.twin.Kit().Stats().Calls - before - 1; calls > 5 { // less the sign-in
		t.Errorf("1000 changed orders cost %d calls", calls)
	}
}

// In the night when clocks go back, wall-clock times come twice. Nothing may be lost, and no version may lie.
func TestRepeatedHour(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	clock.Advance(time.Date(2027, 10, 30, 23, 30, 0, 0, time.UTC).Sub(clock.Now())) // 01:30 in Zurich; 03:00 becomes 02:00 at 01:00 UTC
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Europe/Zurich"}, nil)
	cursor, hints, seen := "", 0, map[string]time.Time{}
	made := map[string]time.Time{}
	for i := range 40 { // one record every 7 minutes, listed at once
		at := clock.Now()
		made[mustEdit(t, a.twin, "customer", "", customerFields(i))] = at
		clock.Advance(7 * time.Minute)
		page, err := a.Changes(t.Context(), "customer", cursor)
		if err != nil {
			t.Fatal(err)
		}
		cursor = page.Cursor
		for _, n := range page.Natives {
			if n.Hint() {
				hints++
				if n, err = a.Read(t.Context(), n.Ref); err != nil {
					t.Fatal(err)
				}
			}
			seen[n.ID] = n.Version.At
		}
	}
	if !maps.EqualFunc(seen, made, time.Time.Equal) {
		t.Errorf("made %d, seen %d with these times: %v, want %v", len(made), len(seen), seen, made)
	}
	if hints == 0 {
		t.Error("no row of the repeated hour came as a hint")
	}
}

func TestWrongZoneIsNoticed(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Asia/Tokyo"}, func(c *netsuite.Config) { c.AccountZone = "UTC" })
	mustEdit(t, a.twin, "customer", "", customerFields(1))
	if _, err := a.Changes(t.Context(), "customer", ""); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "AccountZone") {
		t.Errorf("rows from the future: %v", err)
	}
}

func TestBadCursors(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	for _, cursor := range []string{"x", "{}", `{"v":2}`, `{"v":1,"object":"salesOrder","done":true}`, `{"v":1,"object":"customer","at":"2026-11-02T08:00:00","id":"1 OR 1=1"}`, `{"v":1,"object":"customer","at":"'","done":true}`} {
		if _, err := a.Changes(t.Context(), "customer", cursor); !fault.Is(err, fault.Contract) {
			t.Errorf("cursor %s: %v", cursor, err)
		}
	}
	if n := a.twin.Kit().Stats().Calls; n != 0 {
		t.Errorf("bad cursors cost %d calls", n)
	}
}

func TestWriteInput(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	out := a.Write(t.Context(), []platform.Write{
		{Ref: ref("customer", ""), External: "a/b", Fields: customerFields(1)},
		{Ref: ref("customer", "../1"), External: "a", Fields: customerFields(1)},
		{Ref: ref("itemFulfillment", ""), External: "a", Fields: map[string]any{}},
		{Ref: ref("estimate", ""), External: "a"},
		{Ref: ref("salesOrder", ""), External: "a", Fields: orderFields("4711", 1)},
	})
	for i, class := range []fault.Class{fault.Contract, fault.Contract, fault.Contract, fault.NotFound, fault.MissingReference} {
		if !fault.Is(out[i].Err, class) {
			t.Errorf("write %d: %v, want %s", i, out[i].Err, class)
		}
	}
	a.twin.Forbid("customer", true)
	if out = a.Write(t.Context(), []platform.Write{{Ref: ref("customer", ""), External: "a", Fields: customerFields(1)}}); !fault.Is(out[0].Err, fault.Refused) {
		t.Errorf("without permission: %v", out[0].Err)
	}
}

// A written sublist is the whole sublist, however often it is written.
func TestWrittenLinesReplaceLines(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	lines := func(id string) int {
		n, err := a.Read(t.Context(), ref("salesOrder", id))
		if err != nil {
			t.Fatal(err)
		}
		return len(n.Fields["item"].(map[string]any)["items"].([]any))
	}
	var id string
	for range 2 {
		out := a.Write(t.Context(), []platform.Write{{Ref: ref("salesOrder", ""), External: "o-1", Fields: orderFields(entity, 1)}})
		if id = out[0].ID; out[0].Err != nil || lines(id) != 2 {
			t.Fatalf("%v: %d lines, want 2", out[0].Err, lines(id))
		}
	}
	one := map[string]any{"item": map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "3"}, "quantity": 1, "rate": 2}}}}
	if out := a.Write(t.Context(), []platform.Write{{Ref: ref("salesOrder", id), External: "o-1", Fields: one}}); out[0].Err != nil || lines(id) != 1 {
		t.Errorf("%v: %d lines, want 1", out[0].Err, lines(id))
	}
}

// lossy passes requests on and changes or drops the answers.
type lossy func(*http.Request, *http.Response) error

func (l lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := l(r, resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func TestFulfilmentIsMadeOnceThoughItsAnswerIsLost(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	var lose atomic.Bool
	lose.Store(true)
	a := open(t, netsuitetwin.Options{Now: clock.Now}, func(c *netsuite.Config) {
		c.Transport = lossy(func(r *http.Request, _ *http.Response) error {
			if lose.Load() && strings.Contains(r.URL.Path, "!transform") {
				return io.ErrUnexpectedEOF
			}
			return nil
		})
	})
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	order := mustEdit(t, a.twin, "salesOrder", "", orderFields(entity, 1))
	w := []platform.Write{{Ref: ref("itemFulfillment", ""), External: "shipment-1", Fields: map[string]any{"createdFrom": map[string]any{"id": order}, "shipStatus": map[string]any{"id": "C"},
		"item": map[string]any{"items": []any{map[string]any{"orderLine": 1, "quantity": 5}}}}}}
	if out := a.Write(t.Context(), w); !fault.Is(out[0].Err, fault.Unknown) {
		t.Fatalf("a lost answer is %v", out[0].Err)
	}
	lose.Store(false)
	out := a.Write(t.Context(), w)
	if all := a.twin.All("itemFulfillment"); out[0].Err != nil || len(all) != 1 {
		t.Fatalf("%v; %d fulfilments", out[0].Err, len(all))
	}
	read, err := a.Read(t.Context(), ref("salesOrder", order))
	if err != nil || fmt.Sprint(read.Fields["orderStatus"]) != "map[id:D]" {
		t.Errorf("the order's status is %v, %v; want D", read.Fields["orderStatus"], err)
	}
}

// An upsert whose answer lacks its Location must still say which record it wrote.
func TestUpsertWithoutLocation(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, func(c *netsuite.Config) {
		c.Transport = lossy(func(_ *http.Request, resp *http.Response) error { resp.Header.Del("Location"); return nil })
	})
	out := a.Write(t.Context(), []platform.Write{{Ref: ref("customer", ""), External: "c-1", Fields: customerFields(1)}})
	if _, ok := a.twin.Get("customer", out[0].ID); out[0].Err != nil || !ok {
		t.Errorf("%+v", out[0])
	}
}

func TestOverTheConcurrencyLimit(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Concurrency: 2}, func(c *netsuite.Config) { c.Concurrency = 8 })
	id := mustEdit(t, a.twin, "customer", "", customerFields(1))
	if _, err := a.Read(t.Context(), ref("customer", id)); err != nil {
		t.Fatal(err)
	}
	a.twin.Kit().SetFaults(twin.Faults{LatencyMS: 100})
	writes := make([]platform.Write, 8)
	for i := range writes {
		writes[i] = platform.Write{Ref: ref("customer", ""), External: fmt.Sprint("c-", i), Fields: customerFields(i)}
	}
	throttled := 0
	for _, w := range a.Write(t.Context(), writes) {
		if fault.Is(w.Err, fault.Throttled) {
			throttled++
		} else if w.Err != nil {
			t.Error(w.Err)
		}
	}
	if s := a.twin.Kit().Stats(); throttled == 0 || s.OverLimit == 0 || s.Writes != 8-throttled {
		t.Errorf("%d throttled; %d over the limit, %d writes", throttled, s.OverLimit, s.Writes)
	}
}

func FuzzWebhook(f *testing.F) {
	now := time.Date(2026, 11, 2, 8, 34, 0, 0, time.UTC)
	c, err := netsuite.New(netsuite.Config{Now: time.Now, Credentials: netsuite.Credentials{WebhookSecrets: []string{"0123456789abcdef"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"e","type":"record.saved","record":{"type":"salesOrder","id":"7","rev":3,"lastModifiedDate":"2026-11-02T08:33:00Z","fields":{"entity":{"id":"1"},"orderStatus":"B","item":{"items":[{"quantity":1}]}}}}`))
	f.Add([]byte(`{"id":"e","type":"record.deleted","record":{"type":"customer","id":"7","lastModifiedDate":"2026-11-02T08:33:00Z"}}`))
	f.Add([]byte(`{"id":"e","type":"record.merged","record":{"type":"contact","id":"7","into":"8","lastModifiedDate":"2026-11-02T08:33:00Z"}}`))
	f.Add([]byte(`{"id":"e","type":"record.saved","context":"USEREVENT","record":{"type":"invoice","id":"7","rev":3,"lastModifiedDate":"2026-11-02T08:33:00Z","fields":{"entity":{"id":"1"},"createdFrom":{"id":"2"},"status":{"id":"Paid In Full"},"amountRemaining":0,"dueDate":"2026-12-01"}}}`))
	f.Add([]byte(`{"id":"e","type":"record.saved","record":{"type":"customrecord_sorrel_contract","id":"7","rev":3,"lastModifiedDate":"2026-11-02T08:33:00Z","fields":{"name":"CON-7","custrecord_sorrel_contract_tier":{"id":"3","refName":"VIP"},"custrecord_sorrel_contract_ends":"2027-12-31"}}}`))
	f.Add([]byte(`[[[[{`))
	f.Fuzz(func(t *testing.T, body []byte) {
		stamp := now.Format(time.RFC3339)
		d, err := c.Webhook(t.Context(), platform.Request{ContentType: "application/json", Body: body, Now: now,
			Header: http.Header{"X-Sorrel-Timestamp": {stamp}, "X-Sorrel-Signature": {sign("0123456789abcdef", stamp, string(body))}}})
		if err == nil && (len(d.Natives) != 1 || d.ID == "" || d.Natives[0].ID == "") {
			t.Errorf("accepted as %+v", d)
		}
		if fault.Is(err, fault.Internal) || fault.Is(err, fault.Unauthenticated) {
			t.Errorf("refused as %v", err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"o:errorDetails":[{"o:errorCode":"INVALID_LOGIN"}]}`), 401)
	f.Add([]byte(`{"items":[{"id":"1","modified":"2026-11-02T08:00:00"}],"hasMore":false}`), 200)
	f.Add([]byte(`{"id":"1","lastModifiedDate":"2026-11-02T08:33:00Z"}`), 200)
	f.Add([]byte(`{"id":"1","addressBook":{"items":[{"id":1,"defaultBilling":true,"defaultShipping":true,"addressBookAddress":{"country":{"id":"FR"},"addr1":[]}}]}}`), 200)
	f.Add([]byte(`{"id":"1","lastModified":"2026-11-02T08:33:00Z","custrecord_sorrel_contract_status":{"id":"2","refName":"Active"}}`), 200)
	f.Add([]byte(`{"id":"1","lastModifiedDate":"2026-11-02T08:33:00Z","status":{"id":"Paid In Full","refName":"Paid In Full"},"dueDate":"2026-02-30"}`), 200)
	for _, body := range []string{`{"o:errorDetails":[{"o:errorCode":"NONEXISTENT_ID"}]}`, `{"o:errorDetails":[{}]}`, `{"hasMore":true,"items":[]}`, `{"hasMore":false}`, `{"hasMore":true,"items":[{"id":"1","modified":"9999-12-31T23:59:59"}]}`,
		`{"id":1e999,"lastModifiedDate":"9999-12-31T23:59:59Z","creditLimit":1e999999}`, `{"id":"2","id":"1","lastModifiedDate":"2026-11-02T08:33:00Z"}`, "<html>", "", "null", "\xff\xfe{\x00", strings.Repeat(`{"a":[`, 100)} {
		for _, status := range []int{200, 204, 302, 400, 404, 500} {
			f.Add([]byte(body), status)
		}
	}
	tw, err := netsuitetwin.New(netsuitetwin.Options{Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		c, err := netsuite.New(netsuite.Config{URL: "https://netsuite.test", Now: time.Now, Credentials: tw.Credentials(), Transport: canned{body, status}})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(t.Context(), ref("customer", "1")); err == nil && (n.ID != "1" || n.Version.IsZero() || status >= 300) {
			t.Errorf("read as %+v", n)
		}
		for _, object := range []string{"customer", "invoice", "customrecord_sorrel_contract"} {
			if n, err := c.Read(t.Context(), ref(object, "1")); err == nil && n.ID != "1" {
				t.Errorf("read as %+v", n)
			}
			if p, err := c.Changes(t.Context(), object, ""); err == nil && p.Cursor == "" {
				t.Errorf("listed as %+v", p)
			}
		}
		w := c.Write(t.Context(), []platform.Write{{Ref: ref("customer", "1"), Fields: book(line("defaultBilling", map[string]any{"addr1": "x"}))}, {Ref: ref("customer", "1"), Delete: true}})
		if len(w) != 2 || w[0].ID != "1" && w[0].Err == nil || w[1].ID != "1" || w[0].Err == nil && status != http.StatusNoContent ||
			w[1].Err == nil && status != http.StatusNoContent && !strings.Contains(string(body), "EXIST") {
			t.Errorf("written as %+v", w)
		}
	})
}

// canned answers everything but the sign-in the same way.
type canned struct {
	body   []byte
	status int
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/token") {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"access_token":"a"}`))}, nil
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.body))}, nil
}
