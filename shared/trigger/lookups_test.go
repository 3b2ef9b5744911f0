package trigger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sorrel/shared/flow/lookup"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

const portalKey = "0f9e8d7c6b5a49382716"

// asks is the lookups over the ledger of a desk.
func asks(t testing.TB, d *desk, change func(*policy.Lookups)) http.Handler {
	t.Helper()
	return asksOver(d.config, d.ledger, change)
}

func asksOver(set *policy.Set, l lookup.Ledger, change func(*policy.Lookups)) http.Handler {
	sum := sha256.Sum256([]byte(portalKey))
	portal := policy.Consumer{Name: "portal", Quota: 1000, Uses: policy.LookupUses(), Keys: []string{hex.EncodeToString(sum[:])}, JWT: []string{"client-1"}, Fields: map[string][]string{}}
	for _, e := range set.Entities() {
		portal.Fields[e] = set.Contract(e).Names()
	}
	rules := set.Lookups()
	rules.Consumers = []policy.Consumer{portal}
	rules.Uses = maps.Clone(rules.Uses)
	for use := range rules.Uses {
		rules.Uses[use] = policy.Use{MaxAge: 24 * time.Hour, OwnerDown: policy.AnswerStale}
	}
	if change != nil {
		change(&rules)
	}
	set = set.WithLookups(rules)
	tele := telemetry.New(nil, now, nil)
	n := 0
	return trigger.Lookups{Config: set, Quotas: &lookup.Quotas{}, Now: now, NewID: func() string { n++; return fmt.Sprint("trace-", n) }, Telemetry: tele,
		Ask: lookup.New(lookup.Deps{Ledger: l, Config: set, Inbound: queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now), Now: now, Telemetry: tele})}.Routes()
}

func ask(t *testing.T, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set(trigger.APIKeyHeader, portalKey)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// interfaceOf is the served description.
type interfaceOf struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Ref, Name, In string
			Required      bool
		}
		Deprecated bool
		Responses  map[string]struct {
			Headers map[string]any
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				}
			}
		}
	}
}

// TestTheDescriptionIsWhatTheHandlersDo asks every path for every status that the description names, and holds each answer
// to the schema there. What is asked and not described fails, and so does what is described and never answered.
func TestTheDescriptionIsWhatTheHandlersDo(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	h := asks(t, d, func(l *policy.Lookups) {
		l.Deprecated = map[string]policy.Deprecation{"/v1/invoices": {Since: now(), Sunset: now(), See: "https://docs.example.com/x"}}
	})
	served := ask(t, h, "/v1/openapi.json", trigger.APIKeyHeader, "") // needs nobody
	var doc interfaceOf
	if err := json.Unmarshal(served.Body.Bytes(), &doc); err != nil || served.Code != http.StatusOK {
		t.Fatal(served.Code, err)
	}
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(served.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	schemas := jsonschema.NewCompiler()
	schemas.AssertFormat()
	if err := schemas.AddResource("urn:openapi", raw); err != nil {
		t.Fatal(err)
	}
	id := string(one)
	narrow := asks(t, d, func(l *policy.Lookups) { l.Consumers[0].Uses, l.Consumers[0].Fields = nil, nil })
	spent := asks(t, d, func(l *policy.Lookups) { l.Consumers[0].Quota = 0 })
	closed := asks(t, d, func(l *policy.Lookups) {
		for use := range l.Uses {
			l.Uses[use] = policy.Use{MaxAge: time.Nanosecond, OwnerDown: policy.Refuse}
		}
	})
	defect := asksOver(d.config, broken{d.ledger}, nil)
	order, _ := d.config.ByEntity("order", record.NetSuite)
	d.says("order/aaaaaaaaaaaaaaaa", record.NetSuite, order.Object, "85", 1, "", map[string]string{"number": "SO-1"})
	d.says("customer/cccccccccccccccc", record.Salesforce, "Account", "900", 1, "", map[string]string{"name": "Viele"})
	d.says("invoice/aaaaaaaaaaaaaaaa", record.NetSuite, "invoice", "500", 1, "", map[string]string{"number": "INV-1", "status": "open", "customer": id})
	many := asksOver(d.config, crowded{d.ledger}, nil)
	good := map[string]string{
		"/v1/records/{entity}/{id}":  "/v1/records/" + id + "?",
		"/v1/records":                "/v1/records?platform=netsuite&object=customer&id=85&",
		"/v1/customers/{id}/context": "/v1/customers/" + strings.TrimPrefix(id, "customer/") + "/context?",
		"/v1/invoices":               "/v1/invoices?customer=" + id + "&limit=1&status=open&",
		"/v1/entitlements":           "/v1/entitlements?platform=netsuite&account=85&product=x&",
		"/v1/openapi.json":           "/v1/openapi.json",
	}
	unknown := map[string]string{
		"/v1/records/{entity}/{id}":  "/v1/records/customer/zzzzzzzzzzzzzzzz",
		"/v1/records":                "/v1/records?platform=netsuite&object=customer&id=86",
		"/v1/customers/{id}/context": "/v1/customers/zzzzzzzzzzzzzzzz/context",
		"/v1/invoices":               "/v1/invoices?customer=customer/zzzzzzzzzzzzzzzz",
		"/v1/entitlements":           "/v1/entitlements?platform=netsuite&account=86",
	}
	answered := map[string]map[string]bool{}
	hold := func(path string, w *httptest.ResponseRecorder) {
		t.Helper()
		status := fmt.Sprint(w.Code)
		if answered[path] == nil {
			answered[path] = map[string]bool{}
		}
		answered[path][status] = true
		described, ok := doc.Paths[path]["get"].Responses[status]
		if !ok {
			t.Errorf("%s answers %s, which is not described: %s", path, status, w.Body)
			return
		}
		if path == "/v1/openapi.json" {
			return
		}
		for name := range w.Header() {
			if _, said := described.Headers[name]; !said && !slices.Contains([]string{"Content-Type", "Cache-Control", "Vary"}, name) && !strings.EqualFold(name, "ETag") {
				t.Errorf("%s %s has the header %s, which is not described", path, status, name)
			}
		}
		if w.Header().Get(trigger.CorrelationHeader) == "" {
			t.Errorf("%s %s has no correlation id", path, status)
		}
		if status == "304" {
			if w.Body.Len() > 0 {
				t.Errorf("%s: 304 with a body", path)
			}
			return
		}
		content, ok := described.Content[w.Header().Get("Content-Type")]
		if !ok {
			t.Errorf("%s %s has content of %q", path, status, w.Header().Get("Content-Type"))
			return
		}
		schema, err := schemas.Compile("urn:openapi" + content.Schema.Ref)
		if err != nil {
			t.Fatal(err)
		}
		body, err := jsonschema.UnmarshalJSON(w.Body)
		if err == nil {
			err = schema.Validate(body)
		}
		if err != nil {
			t.Errorf("%s %s: %v", path, status, err)
		}
	}
	for path, query := range good {
		w := ask(t, h, query)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		tag := w.Header().Get("ETag")
		hold(path, w)
		if path == "/v1/openapi.json" {
			continue
		}
		hold(path, ask(t, h, query+"maxAge=3600000", "If-None-Match", `"x", `+tag))
		hold(path, ask(t, h, query+"maxAge=soon"))
		hold(path, ask(t, h, query+"surprise=1"))
		hold(path, ask(t, h, query, trigger.APIKeyHeader, ""))
		hold(path, ask(t, h, query, trigger.APIKeyHeader, "guess"))
		hold(path, ask(t, narrow, query))
		hold(path, ask(t, h, unknown[path]))
		hold(path, ask(t, spent, query))
		hold(path, ask(t, closed, query))
		hold(path, ask(t, defect, query))
		var named []string
		for _, p := range doc.Paths[path]["get"].Parameters {
			if p.In == "query" {
				named = append(named, p.Name)
			}
		}
		hint := ask(t, h, query+"surprise=1").Body.String() // the refusal lists what is known
		for _, name := range named {
			if !strings.Contains(hint, `\"`+name+`\"`) {
				t.Errorf("%s does not know the parameter %s", path, name)
			}
		}
		if known := strings.Count(hint, `\"`)/2 - strings.Count(hint, `\"surprise\"`); known != len(named)+1 {
			t.Errorf("%s knows %d parameters, described are maxAge and %q: %s", path, known, named, hint)
		}
	}
	hold("/v1/records", ask(t, h, "/v1/records?platform=netsuite&id=85"))
	for _, bad := range []string{"/v1/entitlements", "/v1/entitlements?customer=" + id + "&platform=netsuite&account=85", "/v1/entitlements?platform=netsuite", "/v1/entitlements?platform=zendesk&organization=1&account=1", "/v1/entitlements?organization=1"} {
		w := ask(t, h, bad)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
		hold("/v1/entitlements", w)
	}
	for _, path := range []string{"/v1/customers/{id}/context", "/v1/invoices", "/v1/entitlements"} {
		query := map[string]string{"/v1/customers/{id}/context": "/v1/customers/cccccccccccccccc/context", "/v1/invoices": "/v1/invoices?customer=customer/cccccccccccccccc", "/v1/entitlements": "/v1/entitlements?customer=customer/cccccccccccccccc"}[path]
		hold(path, ask(t, many, query))
	}
	paths := slices.Sorted(maps.Keys(doc.Paths)) // lookups.yaml may deprecate each but the description
	if paths = slices.DeleteFunc(paths, func(p string) bool { return p == "/v1/openapi.json" }); !slices.Equal(paths, policy.LookupPaths()) {
		t.Errorf("described are %q, and policy knows %q", paths, policy.LookupPaths())
	}
	for path, methods := range doc.Paths {
		if !slices.Equal(slices.Collect(maps.Keys(methods)), []string{"get"}) {
			t.Errorf("%s: %v", path, methods)
		}
		for status := range methods["get"].Responses {
			if !answered[path][status] {
				t.Errorf("%s never answers %s, which is described", path, status)
			}
		}
	}
	if w := ask(t, h, "/v2/records"); w.Code != http.StatusNotFound {
		t.Error(w.Code)
	}
}

// broken is a ledger with a defect.
type broken struct{ *ledger.Ledger }

func (broken) Follow(context.Context, record.ID) (ledger.State, error) {
	return ledger.State{}, errors.New("defect")
}

func (broken) Lookup(context.Context, record.Ref) (record.ID, bool, error) {
	return "", false, errors.New("defect")
}

// crowded is a ledger in which very many records refer to each.
type crowded struct{ *ledger.Ledger }

func (crowded) Referring(context.Context, record.ID, string) iter.Seq2[record.ID, error] {
	return func(yield func(record.ID, error) bool) {
		for i := range 6000 {
			if !yield(record.ID(fmt.Sprintf("invoice/%016d", i)), nil) {
				return
			}
		}
	}
}

func TestTheTagIsOfTheValues(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	h := asks(t, d, nil)
	path := "/v1/records/" + string(one)
	first, again := ask(t, h, path), ask(t, h, path+"?maxAge=999999")
	tag := first.Header().Get("ETag")
	if tag == "" || tag != again.Header().Get("ETag") || first.Header().Get(trigger.CorrelationHeader) == again.Header().Get(trigger.CorrelationHeader) {
		t.Errorf("%v %v", first.Header(), again.Header())
	}
	w := ask(t, h, path, "If-None-Match", tag)
	if w.Code != http.StatusNotModified || w.Header().Get(trigger.FreshnessHeader) != lookup.Fresh || w.Header().Get(trigger.AsOfHeader) == "" || w.Header().Get(trigger.SourceHeader) != lookup.Cached {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := ask(t, h, path+"?maxAge=0", "If-None-Match", tag); w.Code != http.StatusOK || w.Header().Get(trigger.FreshnessHeader) != lookup.Stale {
		t.Errorf("what became stale says nothing new: %d %v", w.Code, w.Header())
	}
	d.says(one, record.NetSuite, "customer", "85", 4, "7", map[string]string{"name": "Ottilie"})
	if w := ask(t, h, path, "If-None-Match", tag); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Ottilie") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestTokens: the claims of a token that the HTTP API has checked say who asks; nothing in the request itself can.
func TestTokens(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	f := trigger.Operate(asks(t, d, nil), func() {})
	for name, c := range map[string]struct {
		path   string
		header map[string]string
		claims map[string]string
		want   int
	}{
		"a consumer's token":      {path: "/v1/records/" + string(one), claims: map[string]string{"client_id": "client-1", "sub": "x"}, want: 200},
		"its subject":             {path: "/v1/records/" + string(one), claims: map[string]string{"sub": "client-1"}, want: 200},
		"somebody else's token":   {path: "/v1/records/" + string(one), claims: map[string]string{"client_id": "other", "sub": "client-1"}, want: 403},
		"a token without a name":  {path: "/v1/records/" + string(one), claims: map[string]string{"scope": "x"}, want: 403},
		"an unchecked token":      {path: "/v1/records/" + string(one), header: map[string]string{"authorization": "Bearer client-1"}, want: 401},
		"a key":                   {path: trigger.KeyedPath + "/v1/records/" + string(one), header: map[string]string{"sorrel-key": portalKey}, want: 200},
		"no key":                  {path: trigger.KeyedPath + "/v1/records/" + string(one), want: 401},
		"the description, to all": {path: "/v1/openapi.json", want: 200},
	} {
		e := events.APIGatewayV2HTTPRequest{RawPath: c.path, Headers: c.header}
		e.RequestContext.HTTP.Method = http.MethodGet
		if c.claims != nil {
			e.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: c.claims}}
		}
		out, err := f(t.Context(), e)
		if err != nil || out.StatusCode != c.want {
			t.Errorf("%s: %d %v %s", name, out.StatusCode, err, out.Body)
		}
	}
}

// TestDeprecatedPaths: every answer there says so, whatever it is, and the description does; at others nothing is said.
func TestDeprecatedPaths(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	since, sunset := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), time.Date(2027, 7, 31, 0, 0, 0, 0, time.UTC)
	h := asks(t, d, func(l *policy.Lookups) {
		l.Deprecated = map[string]policy.Deprecation{"/v1/records/{entity}/{id}": {Since: since, Sunset: sunset, See: "https://docs.example.com/records"}, "/v1/records": {Since: since}}
	})
	for path, c := range map[string]struct {
		status                  int
		deprecated, sunset, see string
	}{
		"/v1/records/" + string(one):                              {200, "@1801353600", "Sat, 31 Jul 2027 00:00:00 GMT", `<https://docs.example.com/records>; rel="deprecation"`},
		trigger.KeyedPath + "/v1/records/" + string(one):          {200, "@1801353600", "Sat, 31 Jul 2027 00:00:00 GMT", `<https://docs.example.com/records>; rel="deprecation"`},
		"/v1/records/customer/zzzzzzzzzzzzzzzz":                   {404, "@1801353600", "Sat, 31 Jul 2027 00:00:00 GMT", `<https://docs.example.com/records>; rel="deprecation"`},
		"/v1/records?platform=netsuite&object=customer&id=85":     {200, "@1801353600", "", ""},
		"/v1/entitlements?platform=netsuite&account=85&product=x": {200, "", "", ""},
	} {
		w := ask(t, h, path)
		if w.Code != c.status || w.Header().Get(trigger.DeprecationHeader) != c.deprecated || w.Header().Get(trigger.SunsetHeader) != c.sunset || w.Header().Get("Link") != c.see {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	var doc interfaceOf
	if err := json.Unmarshal(ask(t, h, "/v1/openapi.json").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		if got, want := methods["get"].Deprecated, strings.HasPrefix(path, "/v1/records"); got != want {
			t.Errorf("%s is described as deprecated: %v", path, got)
		}
	}
}
