package zendesktwin_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// desk is a twin behind HTTP with its clock.
type desk struct {
	*zendesktwin.Twin
	clock *platformtest.Clock
	url   string
}

func open(t *testing.T, opt zendesktwin.Options) desk {
	t.Helper()
	clock := platformtest.NewClock()
	opt.Now = clock.Now
	tw := zendesktwin.New(opt)
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	return desk{tw, clock, srv.URL}
}

// do sends a call with the API token; a nil header value removes Authorization.
func (d desk) do(t *testing.T, method, path, body string, header ...string) (int, http.Header, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := d.TokenCredentials()
	req.SetBasicAuth(c.Email+"/token", c.APIToken)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%s %s answered %q", method, path, b)
		}
	}
	return resp.StatusCode, resp.Header, m
}

func TestVendorOddities(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{Limits: zendesktwin.NoLimits()})
	id, err := d.Edit(zendesk.Ticket, "", map[string]any{"subject": "x", "status": "closed"})
	if err != nil {
		t.Fatal(err)
	}
	live, err := d.Edit(zendesk.Ticket, "", map[string]any{"subject": "y"})
	if err != nil {
		t.Fatal(err)
	}
	create, key := `{"ticket":{"subject":"z","comment":{"body":"b"}}}`, "Idempotency-Key"
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"anonymous", "GET", "/api/v2/users/me.json", "", []string{"Authorization", ""}, 200, "Anonymous user"},
		{"wrong password", "GET", "/api/v2/users/me", "", []string{"Authorization", "Basic YTpi"}, 200, "Anonymous user"},
		{"wrong token", "GET", "/api/v2/users/me", "", []string{"Authorization", "Basic YS90b2tlbjpi"}, 401, "Couldn't authenticate you"},
		{"no credential", "GET", "/api/v2/tickets/count.json", "", []string{"Authorization", ""}, 401, "Couldn't authenticate you"},
		{"bad bearer", "GET", "/api/v2/tickets/count", "", []string{"Authorization", "Bearer no"}, 401, "invalid_token"},
		{"no such feature", "GET", "/api/v2/macros", "", nil, 404, "InvalidEndpoint"},
		{"no such record", "GET", "/api/v2/organizations/1", "", nil, 404, "RecordNotFound"},
		{"depth", "GET", "/api/v2/tickets?page=101&per_page=100", "", nil, 400, "InvalidPaginationDepth"},
		{"closed", "PUT", "/api/v2/tickets/" + id, `{"ticket":{"status":"open"}}`, nil, 422, "closed prevents ticket update"},
		{"stale stamp", "PUT", "/api/v2/tickets/" + live, `{"ticket":{"status":"open","safe_update":true,"updated_stamp":"2001-01-01T00:00:00Z"}}`, nil, 409, "UpdateConflict"},
		{"unfit stamp", "PUT", "/api/v2/tickets/" + live, `{"ticket":{"safe_update":false}}`, nil, 409, "UpdateConflict"},
		{"right stamp", "PUT", "/api/v2/tickets/" + live, `{"ticket":{"status":"open","safe_update":true,"updated_stamp":"2026-11-02T08:00:00Z"}}`, nil, 200, `"open"`},
		{"first", "POST", "/api/v2/tickets", create, []string{key, "k"}, 201, ""},
		{"replay", "POST", "/api/v2/tickets", create, []string{key, "k"}, 201, ""},
		{"other body", "POST", "/api/v2/tickets", `{"ticket":{"subject":"w"}}`, []string{key, "k"}, 400, "IdempotentRequestError"},
		{"recent start", "GET", "/api/v2/incremental/organizations?start_time=1793606399", "", nil, 422, "Too recent start_time"},
		{"dropdown", "POST", "/api/v2/custom_objects/order/records", `{"custom_object_record":{"name":"a","custom_object_fields":{"status":"lost"}}}`, nil, 422, "not one of its options"},
		{"unknown field", "POST", "/api/v2/custom_objects/order/records", `{"custom_object_record":{"name":"a","custom_object_fields":{"colour":"x"}}}`, nil, 422, "colour"},
		{"dangling lookup", "POST", "/api/v2/custom_objects/shipment/records", `{"custom_object_record":{"name":"a","custom_object_fields":{"order":"x"}}}`, nil, 422, "not a valid"},
		{"search by cursor", "GET", "/api/v2/search?query=a&page[size]=1", "", nil, 400, ""},
		{"broken JSON", "POST", "/api/v2/organizations", `{`, nil, 400, ""},
	} {
		status, h, body := d.do(t, c.method, c.path, c.body, c.header...)
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if status != c.status || !strings.Contains(string(b), c.says) {
			t.Errorf("%s: %d %s, want %d saying %q", c.name, status, b, c.status, c.says)
		}
		if want := map[string]string{"first": "miss", "replay": "hit"}[c.name]; h.Get("x-idempotency-lookup") != want {
			t.Errorf("%s: x-idempotency-lookup is %q, want %q", c.name, h.Get("x-idempotency-lookup"), want)
		}
	}
	if n := len(d.All(zendesk.Ticket)); n != 3 {
		t.Errorf("%d tickets, want 3", n)
	}
}

func TestPublishedLimits(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{Limits: zendesktwin.Limits{PerMinute: 20}})
	id, err := d.Edit(zendesk.Organization, "", map[string]any{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	put := func() (int, http.Header) {
		status, h, _ := d.do(t, "PUT", "/api/v2/organizations/"+id, `{"organization":{"notes":"n"}}`)
		return status, h
	}
	for range 5 {
		if status, _ := put(); status != 200 {
			t.Fatalf("update within the limit answered %d", status)
		}
	}
	status, h := put()
	if status != 429 || h.Get("Retry-After") != "60" || h.Get("X-Rate-Limit-Remaining") != "14" || !strings.HasPrefix(h.Get("Zendesk-Ratelimit-update-organization"), "total=5; remaining=0") {
		t.Errorf("6th update of one organization in a minute: %d %v", status, h)
	}
	for range 14 {
		if status, _, _ := d.do(t, "GET", "/api/v2/organizations/"+id, ""); status != 200 {
			t.Fatalf("read within the account's limit answered %d", status)
		}
	}
	if status, h, _ := d.do(t, "GET", "/api/v2/organizations/"+id, ""); status != 429 || h.Get("X-Rate-Limit-Remaining") != "0" {
		t.Errorf("call 21 of 20: %d %v", status, h)
	}
	d.clock.Advance(time.Minute)
	if status, _ := put(); status != 200 {
		t.Errorf("a minute later: %d", status)
	}
}

// receiver collects webhook bodies and answers with the given statuses in turn.
func receiver(t *testing.T, answers ...int) (string, func() []map[string]any) {
	var mu sync.Mutex
	var got []map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		mu.Lock()
		got = append(got, m)
		n := len(got)
		mu.Unlock()
		if n <= len(answers) {
			w.Header().Set("Retry-After", map[bool]string{true: "0", false: "120"}[answers[n-1] == 503])
			w.WriteHeader(answers[n-1])
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() []map[string]any { mu.Lock(); defer mu.Unlock(); return got }
}

func kinds(events []map[string]any) map[string]int {
	out := map[string]int{}
	for _, e := range events {
		out[strings.TrimPrefix(e["type"].(string), "zen:event-type:")]++
	}
	return out
}

func TestEventsOfOneSave(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	url, got := receiver(t)
	d.Kit().SendTo(url)
	act := func(object, id string, fields map[string]any) string {
		id, err := d.Edit(object, id, fields)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	org := act(zendesk.Organization, "", map[string]any{"name": "Acme"})
	act(zendesk.Organization, org, map[string]any{"name": "Acme Ltd", "external_id": "e", "organization_fields": map[string]any{"erp_city": "Bern", "erp_phone": "1"}})
	act(zendesk.Organization, org, map[string]any{"notes": "silent", "domain_names": []any{"acme.test"}})
	act(zendesk.Organization, org, map[string]any{"name": "Acme Ltd"}) // changes nothing
	ticket := act(zendesk.Ticket, "", map[string]any{"subject": "x"})
	act(zendesk.Ticket, ticket, map[string]any{"status": "open", "priority": "high", "comment": map[string]any{"body": "b"}})
	act("custom_object/order", "", map[string]any{"name": "SO-1"})
	if err := d.Delete(zendesk.Organization, org); err != nil {
		t.Fatal(err)
	}
	if err := d.Kit().Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"organization.created": 1, "organization.name_changed": 1, "organization.external_id_changed": 1, "organization.custom_field_changed": 2,
		"organization.deleted": 1, "ticket.created": 1, "ticket.status_changed": 1, "ticket.priority_changed": 1, "ticket.comment_added": 1}
	if k := kinds(got()); !reflect.DeepEqual(k, want) {
		t.Errorf("events %v, want %v", k, want)
	}
	for _, e := range got() {
		detail := e["detail"].(map[string]any)
		if _, ok := detail["id"].(string); !ok {
			t.Errorf("detail.id is no string: %v", e)
		}
		if e["type"] == "zen:event-type:ticket.status_changed" && (detail["status"] != "OPEN" || detail["priority"] != "HIGH" || detail["actor_id"] == "") {
			t.Errorf("ticket detail: %v", detail)
		}
	}
}

func TestWebhookRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []int
		sent    int
	}{
		"conflict: 3 more":          {[]int{409, 409, 409, 409, 409}, 4},
		"503 with a short pause":    {[]int{503, 200}, 2},
		"429 with a pause too long": {[]int{429, 200}, 1},
		"500 never":                 {[]int{500, 200}, 1},
		"accepted":                  {[]int{202}, 1},
	} {
		d := open(t, zendesktwin.Options{RetryWait: time.Millisecond})
		url, got := receiver(t, c.answers...)
		d.Kit().SendTo(url)
		if _, err := d.Edit(zendesk.Organization, "", map[string]any{"name": "Acme"}); err != nil {
			t.Fatal(err)
		}
		if err := d.Kit().Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(got()); n != c.sent {
			t.Errorf("%s: sent %d times, want %d", name, n, c.sent)
		}
	}
}

func TestFaultsLoseAndRepeatWebhooks(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{Seed: 7})
	url, got := receiver(t)
	d.Kit().SendTo(url)
	d.Kit().SetFaults(twin.Faults{DropWebhooks: 0.2, DuplicateWebhooks: 0.2, ReorderWebhooks: 0.2})
	for i := range 100 {
		if _, err := d.Edit(zendesk.Ticket, "", map[string]any{"subject": strings.Repeat("x", i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Kit().Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := d.Kit().Stats().Webhooks
	if s.Dropped == 0 || s.Duplicated == 0 || s.Reordered == 0 || len(got()) != s.Made-s.Dropped+s.Duplicated {
		t.Errorf("stats %+v, received %d", s, len(got()))
	}
}

func TestWebhookAPIDelivers(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	url, got := receiver(t)
	status, _, hook := d.do(t, "POST", "/api/v2/webhooks", `{"webhook":{"name":"s","status":"active","endpoint":"`+url+`","http_method":"POST","request_format":"json","subscriptions":["zen:event-type:organization.created"]}}`)
	if status != 201 {
		t.Fatalf("%d %v", status, hook)
	}
	id := hook["webhook"].(map[string]any)["id"].(string)
	_, _, first := d.do(t, "GET", "/api/v2/webhooks/"+id+"/signing_secret", "")
	_, _, second := d.do(t, "POST", "/api/v2/webhooks/"+id+"/signing_secret", "")
	if reflect.DeepEqual(first, second) {
		t.Error("the signing secret did not rotate")
	}
	if _, err := d.Edit(zendesk.Organization, "", map[string]any{"name": "Acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Edit(zendesk.Ticket, "", map[string]any{"subject": "not subscribed"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Kit().Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k := kinds(got()); !reflect.DeepEqual(k, map[string]int{"organization.created": 1}) {
		t.Errorf("delivered %v", k)
	}
}

func TestActsOverHTTP(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	status, _, made := d.do(t, "POST", "/_twin/edit", `{"object":"organization","fields":{"name":"Acme"}}`)
	if id, _ := made["id"].(string); status != 200 || id == "" {
		t.Fatalf("edit: %d %v", status, made)
	}
	if status, _, m := d.do(t, "POST", "/_twin/edit", `{"object":"organization","fields":{"name":"Acme"}}`); status != 400 {
		t.Errorf("a duplicate name: %d %v", status, m)
	}
	status, _, _ = d.do(t, "POST", "/_twin/delete", `{"object":"organization","id":"`+made["id"].(string)+`"}`)
	if status != 200 || len(d.All(zendesk.Organization)) != 0 {
		t.Errorf("delete: %d, %v", status, d.All(zendesk.Organization))
	}
}

// The kit's requests, sent to a fresh account, must give the fields that the twin starts with.
func TestKitMatches(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../infra/zendesk/setup.json")
	if err != nil {
		t.Fatal(err)
	}
	var kit struct {
		Requests []struct {
			Method, Path string
			Body         json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &kit); err != nil {
		t.Fatal(err)
	}
	fresh, ready := open(t, zendesktwin.Options{NoCustomSetup: true}), open(t, zendesktwin.Options{})
	for _, r := range kit.Requests {
		if status, _, m := fresh.do(t, r.Method, r.Path, string(r.Body)); status != 201 {
			t.Fatalf("%s %s: %d %v", r.Method, r.Path, status, m)
		}
	}
	for path, key := range map[string]string{"/api/v2/organization_fields": "organization_fields", "/api/v2/user_fields": "user_fields", "/api/v2/ticket_fields": "ticket_fields",
		"/api/v2/custom_objects/order/fields": "custom_object_fields", "/api/v2/custom_objects/shipment/fields": "custom_object_fields",
		"/api/v2/custom_objects/invoice/fields": "custom_object_fields", "/api/v2/custom_objects/contract/fields": "custom_object_fields"} {
		_, _, a := fresh.do(t, "GET", path, "")
		_, _, b := ready.do(t, "GET", path, "")
		if !reflect.DeepEqual(bare(t, a[key]), bare(t, b[key])) || len(b[key].([]any)) == 0 {
			t.Errorf("%s by the kit\n%v\nbut the twin has\n%v", path, bare(t, a[key]), bare(t, b[key]))
		}
	}
	status, _, m := fresh.do(t, "GET", "/api/v2/webhooks", "")
	hooks, _ := m["webhooks"].([]any)
	if status != 200 || len(hooks) != 1 {
		t.Fatalf("webhooks: %d %v", status, m)
	}
}

// bare keeps of fields what matters to a mapping.
func bare(t *testing.T, a any) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range a.([]any) {
		m := f.(map[string]any)
		s := m["type"].(string)
		if target, ok := m["relationship_target_type"].(string); ok {
			s += " " + target
		}
		options, _ := m["custom_field_options"].([]any)
		for _, o := range options {
			s += " " + o.(map[string]any)["value"].(string)
		}
		name, ok := m["key"].(string)
		if !ok { // a ticket's
			name = m["title"].(string)
		}
		out[name] = s
	}
	return out
}
