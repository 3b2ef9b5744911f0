package trigger_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/infra/config"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/once"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

// desk is the desk over a memory store and the embedded configuration, with one customer whose billing address sales
// wants changed.
type desk struct {
	testing.TB
	ledger *ledger.Ledger
	now    func() time.Time
	config *policy.Set
	routes http.Handler
	as     string // who sends
	sent   map[string]*queue.Memory
}

const one, other = record.ID("customer/aaaaaaaaaaaaaaaa"), record.ID("customer/bbbbbbbbbbbbbbbb")

func load(t testing.TB) *policy.Set {
	t.Helper()
	set, problems := policy.Load(config.FS)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func newDesk(t testing.TB, who func(*policy.Set) trigger.Who) *desk {
	t.Helper()
	return deskOver(t, load(t), who)
}

func deskOver(t testing.TB, set *policy.Set, who func(*policy.Set) trigger.Who) *desk {
	t.Helper()
	return deskOn(t, set, who, store.NewMemory(now), now)
}

func deskOn(t testing.TB, set *policy.Set, who func(*policy.Set) trigger.Who, s store.Store, now func() time.Time) *desk {
	t.Helper()
	d := &desk{TB: t, ledger: ledger.New(s, now), now: now, config: set, sent: map[string]*queue.Memory{}}
	wake := map[string]queue.Sender{}
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		d.sent[p] = queue.NewMemory(queue.Settings{Name: p}, nil, now)
		wake[p] = d.sent[p]
	}
	tele := telemetry.New(nil, now, nil)
	d.routes = trigger.Desk{Config: set, Who: who(set), Telemetry: tele, Once: d.once(),
		Ask: operate.New(operate.Deps{Ledger: d.ledger, Config: set, Telemetry: tele, Now: now}),
		Act: steward.New(steward.Deps{Ledger: d.ledger, Config: set, Wake: wake, Now: now, NewID: func() string { return "t9" }, Telemetry: tele}),
	}.Routes()
	d.says(one, record.NetSuite, "customer", "85", 1, "7", map[string]string{"name": "Ottilies Käseladen", "billingAddress.street": "Mehrheimerstr. 369", "billingAddress.city": "Köln", "billingAddress.postalCode": "50739"})
	d.says(one, record.Salesforce, "Account", "001A", 2, "005xx000001SwiPAAS", map[string]string{"name": "Ottilies Käseladen", "billingAddress.street": "Mehrheimerstr. 369", "billingAddress.city": "Köln", "billingAddress.postalCode": "50739"})
	d.says(one, record.Salesforce, "Account", "001A", 3, "005xx000001SwiPAAS", map[string]string{"billingAddress.street": "Neusser Str. 1"})
	d.says(other, record.Zendesk, "organization", "900", 2, "", map[string]string{"name": "Ottilies Laden"})
	if err := d.ledger.Park(t.Context(), ledger.Exception{Type: "unmatched", Platform: record.ServiceNow, Native: "servicenow/customer_account/5f1", Detail: "nobody knows it", Remedy: "link it"}); err != nil {
		t.Fatal(err)
	}
	return d
}

// once is the guard of the desk's decisions. Tokens count from 1.
func (d *desk) once() once.Guard {
	n := 0
	return once.Guard{Ledger: d.ledger, Now: d.now, NewToken: func() string { n++; return fmt.Sprint("mark-", n) }}
}

// says has a platform say fields of a record, and settles that.
func (d *desk) says(id record.ID, platform, object, native string, minute int, actor string, fields map[string]string) {
	d.Helper()
	states, err := d.ledger.Load(d.Context(), id)
	if err != nil {
		d.Fatal(err)
	}
	o := record.Observation{Ref: record.Ref{Platform: platform, Object: object, ID: native}, Version: record.Version{At: at.Add(time.Duration(minute-10) * time.Minute)}, Actor: actor, Trace: fmt.Sprint("t", minute),
		Fields: map[string]record.Value{}, Timed: d.config.Rules("customer").Timed()}
	for f, text := range fields {
		o.Fields[f] = record.TextValue(text)
	}
	after := states[id].Clone()
	after.Record.ID = id
	after.Record.Views[platform], _ = record.Observe(after.Record.Views[platform], o)
	s, err := govern.Settle(d.Context(), d.ledger, d.config, states[id], after, govern.Cause{Trace: o.Trace, Now: now()})
	if err == nil {
		if _, known := states[id].Record.Views[platform]; !known {
			s.Entry.Links = map[record.Ref]record.ID{o.Ref: id}
		}
		err = d.ledger.Commit(d.Context(), s.Entry)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// local is a request from this machine.
func (d *desk) local(method, path, body string) *http.Request {
	r := httptest.NewRequestWithContext(d.Context(), method, "http://127.0.0.1:8787"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:50000"
	if d.as != "" {
		r.Header.Set(trigger.PersonHeader, d.as)
	}
	return r
}

// do sends a request of this machine, and decodes the answer. Every refusal is a whole problem.
func (d *desk) do(method, path, body string, into any) (int, intake.Problem) {
	d.Helper()
	return d.send(d.local(method, path, body), into)
}

func (d *desk) send(r *http.Request, into any) (int, intake.Problem) {
	d.Helper()
	w := httptest.NewRecorder()
	d.routes.ServeHTTP(w, r)
	var p intake.Problem
	if w.Code != http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title == "" || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			d.Errorf("%s %s: %d %s is no whole problem (%v)", r.Method, r.URL, w.Code, w.Body, err)
		}
		return w.Code, p
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Header().Get("Content-Type") != "application/json" {
		d.Errorf("%s %s: %s: %v", r.Method, r.URL, w.Body, err)
	}
	return w.Code, p
}

func (d *desk) ok(method, path, body string, into any) {
	d.Helper()
	if status, p := d.do(method, path, body, into); status != http.StatusOK {
		d.Fatalf("%s %s: %+v", method, path, p)
	}
}

func (d *desk) refused(method, path, body string, status int, says string) {
	d.Helper()
	var out any
	got, p := d.do(method, path, body, &out)
	if got != status || !strings.Contains(p.Detail+" "+p.Remedy, says) {
		d.Errorf("%s %s %.80s: %d %+v %v, want %d with %q", method, path, body, got, p, out, status, says)
	}
}

func (d *desk) proposal() ledger.ProposalEntry {
	d.Helper()
	var open []ledger.ProposalEntry
	d.ok("GET", "/v1/proposals", "", &open)
	if len(open) != 1 {
		d.Fatalf("open are %+v", open)
	}
	return open[0]
}

func (d *desk) exception(query string) ledger.Exception {
	d.Helper()
	var open []ledger.Exception
	d.ok("GET", "/v1/exceptions?"+query, "", &open)
	if len(open) != 1 {
		d.Fatalf("%s: open are %+v", query, open)
	}
	return open[0]
}

func TestProposalsAreShownAndDecided(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	p := d.proposal()
	var shown operate.Proposal
	d.ok("GET", "/v1/proposals/"+p.ID, "", &shown)
	if shown.Record != one || shown.Person != "sarah@northwind.example" || shown.Fields["billingAddress.street"].After != record.TextValue("Neusser Str. 1") ||
		shown.Impact[record.NetSuite]["billingAddress.street"] != record.TextValue("Neusser Str. 1") || len(shown.Needs.People) == 0 {
		t.Errorf("shown as %+v", shown)
	}
	path := "/v1/proposals/" + p.ID
	d.as = "sarah@northwind.example"
	d.refused("POST", path, `{"decision":"approve"}`, 403, "needs the role finance")
	d.as = "fiona@northwind.example"
	d.refused("POST", path, `{"decision":"approve","revision":7}`, 409, "revision 7 was shown")
	d.refused("POST", "/v1/proposals/none", `{"decision":"approve"}`, 404, "no such proposal")
	for range 2 { // deciding the same again is no error
		var decided ledger.ProposalEntry
		d.ok("POST", path, `{"decision":"approve","revision":1,"comment":"as they told us"}`, &decided)
		if decided.Status != record.ProposalApproved || decided.By != d.as || decided.Comment != "as they told us" {
			t.Errorf("decided: %+v", decided)
		}
	}
	d.refused("POST", path, `{"decision":"reject"}`, 409, "approved by fiona")
	if depth, err := d.sent[record.NetSuite].Depth(t.Context()); err != nil || depth.Visible == 0 {
		t.Errorf("the owner is not woken: %+v, %v", depth, err)
	}
	var log []ledger.LogEntry
	d.ok("GET", "/v1/records/"+string(one)+"/log", "", &log)
	if last := log[len(log)-1]; last.By != d.as || len(last.Events) == 0 {
		t.Errorf("the log ends with %+v", last)
	}
	var all []ledger.ProposalEntry
	d.ok("GET", "/v1/proposals?all=true", "", &all)
	if len(all) != 1 {
		t.Errorf("all: %+v", all)
	}
	d.ok("GET", "/v1/proposals", "", &all)
	if all == nil || len(all) != 0 {
		t.Errorf("open: %+v, want an empty list", all)
	}
}

func TestRejectingPutsBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "frank@northwind.example"
	var decided ledger.ProposalEntry
	d.ok("POST", "/v1/proposals/"+d.proposal().ID, `{"decision":"reject","revision":1}`, &decided)
	if decided.Status != record.ProposalRejected {
		t.Errorf("decided: %+v", decided)
	}
	if depth, err := d.sent[record.Salesforce].Depth(t.Context()); err != nil || depth.Visible == 0 {
		t.Errorf("who asked is not woken: %+v, %v", depth, err)
	}
}

// Nobody decides without a name, and nobody's word is taken but on this machine.
func TestWhoDecides(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	p := "/v1/proposals/" + d.proposal().ID
	const approve = `{"decision":"approve"}`
	id := string(one)
	for _, route := range [][2]string{{"POST", p}, {"POST", "/v1/exceptions/x"}, {"PUT", "/v1/records/" + id + "/overrides/phone"}, {"DELETE", "/v1/records/" + id + "/overrides/phone"},
		{"PUT", "/v1/records/" + id + "/assigned/phone"}, {"POST", "/v1/records/" + id + "/merge"}, {"POST", "/v1/records/" + id + "/unmerge"}} {
		d.refused(route[0], route[1], approve, 403, "name a person of people.yaml")
	}
	d.as = "mallory"
	d.refused("POST", p, approve, 403, `"mallory" is nobody`)
	d.as = "fiona@northwind.example"
	for what, change := range map[string]func(*http.Request){
		"another machine":         func(r *http.Request) { r.RemoteAddr = "203.0.113.5:4711" },
		"a name that points here": func(r *http.Request) { r.Host = "evil.example:8787" },
		"no address":              func(r *http.Request) { r.RemoteAddr = "" },
	} {
		r := d.local("POST", p, approve)
		change(r)
		if status, said := d.send(r, nil); status != 403 || !strings.Contains(said.Detail, "own machine") {
			t.Errorf("%s: %d %+v", what, status, said)
		}
	}
	for _, host := range []string{"localhost:8787", "[::1]:8787", "localhost", "[::1]"} {
		r := d.local("POST", "/v1/proposals/none", approve)
		r.Host = host
		if status, _ := d.send(r, nil); status != 404 {
			t.Errorf("from %s: %d", host, status)
		}
	}
	r := d.local("OPTIONS", p, "") // a browser asks whether a page of another site may
	if status, _ := d.send(r, nil); status != 404 {
		t.Errorf("a browser's leave: %d", status)
	}
	if got := d.proposal(); got.Status != record.ProposalOpen {
		t.Errorf("decided by nobody: %+v", got)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "stewart@northwind.example"
	p, x, o := "/v1/proposals/"+d.proposal().ID, "/v1/exceptions/"+d.exception("type=unmatched").ID, "/v1/records/"+string(one)+"/overrides/"
	for _, row := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", p, ``, 400, "it is empty"},
		{"POST", p, `{`, 400, "cannot be read"},
		{"POST", p, `[]`, 400, "cannot be a array"},
		{"POST", p, `{"decision":"approve"} {}`, 400, "more than one JSON value"},
		{"POST", p, `{"decision":"approve","by":"fiona"}`, 400, `unknown field "by"`},
		{"POST", p, `{"decision":"approve","revision":"2"}`, 400, "revision cannot be a string"},
		{"POST", p, `{"decision":"perhaps"}`, 400, "approve or reject"},
		{"POST", p, `{"decision":"approve","revision":-1}`, 400, "a number from 1"},
		{"POST", p, `{"decision":"approve","comment":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "65536"},
		{"POST", x, `{"action":"bribe"}`, 400, "bribe"},
		{"POST", x, `{"action":"ignore"}`, 400, "reason"},
		{"POST", x, `{"action":"edit","value":1,"text":"1"}`, 400, "a value, once"},
		{"POST", "/v1/exceptions/none", `{"action":"acknowledge"}`, 404, "no such exception"},
		{"POST", "/v1/exceptions/none", `{"action":"edit","text":"x"}`, 404, "no such exception"},
		{"PUT", o + "phone", `{"until":"2027-01-31T00:00:00Z"}`, 400, "a value, once"},
		{"PUT", o + "phone", `{"text":"0221","until":"tomorrow"}`, 400, "cannot be read"},
		{"PUT", o + "phone", `{"text":"0221","until":"2020-01-31T00:00:00Z"}`, 400, "ended"},
		{"PUT", o + "creditLimit", `{"text":"much"}`, 422, "creditLimit"},
		{"PUT", o + "nosuch", `{"text":"x"}`, 404, "nosuch"},
		{"PUT", "/v1/records/planet/x/overrides/phone", `{"text":"x"}`, 404, "phone"},
		{"PUT", "/v1/records/" + string(one) + "/assigned/phone", `{"text":"x"}`, 422, "assign"},
		{"POST", "/v1/records/" + string(one) + "/merge", `{"from":"nonsense"}`, 400, "nonsense"},
		{"GET", "/v1/exceptions?platfrom=zendesk", ``, 400, `unknown parameter "platfrom"`},
		{"GET", "/v1/exceptions?all=perhaps", ``, 400, "perhaps"},
		{"GET", "/v1/exceptions?group=type", ``, 400, "group=cause"},
		{"GET", "/v1/proposals?all=2", ``, 400, "true or false"},
		{"GET", "/v1/proposals/none", ``, 404, "no such proposal"},
		{"GET", "/v1/records/customer/none/log", ``, 404, "no such record"},
		{"GET", "/v1/nonsense", ``, 404, "GET"},
		{"PATCH", p, `{}`, 404, "PATCH"},
		{"POST", "/v1/status", `{}`, 404, "POST"},
	} {
		d.refused(row.method, row.path, row.body, row.status, row.says)
	}
	if got := d.proposal(); got.Revision != 1 || got.Status != record.ProposalOpen {
		t.Errorf("a refused request left %+v", got)
	}
}

func TestExceptionsAreFilteredAndActedOn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	var causes []operate.Cause
	d.ok("GET", "/v1/exceptions?group=cause&platform=servicenow", "", &causes)
	if len(causes) != 1 || causes[0].Count != 1 || causes[0].Cause != "unmatched servicenow" {
		t.Errorf("causes %+v", causes)
	}
	x := d.exception("type=unmatched&platform=servicenow")
	d.as = "alice@northwind.example"
	var did steward.Acted
	d.ok("POST", "/v1/exceptions/"+x.ID, `{"action":"assign","assignee":"stewart@northwind.example"}`, &did)
	if did.Exception.Status != ledger.ExceptionAssigned || did.Done == "" {
		t.Errorf("did %+v", did)
	}
	d.refused("POST", "/v1/exceptions/"+x.ID, `{"action":"ignore","reason":"a test"}`, 403, "steward")
	if got := d.exception("assignee=stewart@northwind.example"); got.ID != x.ID || got.By != d.as {
		t.Errorf("assigned: %+v", got)
	}
	d.as = "stewart@northwind.example"
	d.ok("POST", "/v1/exceptions/"+x.ID, `{"action":"link","record":"`+string(one)+`","reason":"same tax id"}`, &did)
	if id, linked, err := d.ledger.Lookup(t.Context(), record.Ref{Platform: record.ServiceNow, Object: "customer_account", ID: "5f1"}); err != nil || !linked || id != one {
		t.Errorf("linked to %s %t %v", id, linked, err)
	}
}

// A value is JSON, or as it is typed: then it is read as the field's type.
func TestOverridesTakeTypedValues(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "stewart@northwind.example"
	for _, row := range []struct {
		field, body string
		want        record.Value
	}{
		{"creditLimit", `{"text":"1500.50"}`, number(t, "1500.5")},
		{"creditLimit", `{"value":99}`, number(t, "99")},
		{"active", `{"text":"false"}`, record.BoolValue(false)},
		{"creditHold", `{"text":"on"}`, record.TextValue("on")},
		{"billingAddress.postalCode", `{"text":"50667"}`, record.TextValue("50667")},
		{"billingAddress.city", `{"value":null}`, record.NullValue()},
		{"phone", `{"text":"0221 4711","until":"2027-01-31T00:00:00Z","reason":"the switchboard moves"}`, record.TextValue("0221 4711")},
	} {
		path := "/v1/records/" + string(one) + "/overrides/" + row.field
		var did steward.Acted
		d.ok("PUT", path, row.body, &did)
		var why []record.Why
		d.ok("GET", "/v1/records/"+string(one)+"/why?field="+row.field, "", &why)
		if len(why) != 1 || why[0].Value != row.want || why[0].Override == nil || why[0].Override.By != d.as {
			t.Errorf("%s %s: %+v", row.field, row.body, why)
		}
		d.ok("DELETE", path, "", &did)
		var after []record.Why
		d.ok("GET", "/v1/records/"+string(one)+"/why?field="+row.field, "", &after)
		if after[0].Override != nil {
			t.Errorf("%s is overridden still", row.field)
		}
	}
}

func number(t *testing.T, text string) record.Value {
	v, err := record.ParseNumber(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMergeAndUnmerge(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "stewart@northwind.example"
	var did steward.Acted
	d.ok("POST", "/v1/records/"+string(one)+"/merge", `{"from":"`+string(other)+`"}`, &did)
	var r operate.Record
	d.ok("GET", "/v1/records/"+string(other), "", &r)
	if r.MergedInto != one || r.On[record.Zendesk].Native == "" {
		t.Errorf("after the merge: %+v", r)
	}
	d.ok("POST", "/v1/records/"+string(other)+"/unmerge", "", &did)
	r = operate.Record{}
	d.ok("GET", "/v1/records/"+string(other), "", &r)
	if r.MergedInto != "" {
		t.Errorf("after unmerging: %+v", r)
	}
}

func TestAuditIsVerified(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	var v ledger.Verified
	d.ok("GET", "/v1/audit", "", &v)
	if v.Entries == 0 || v.Chains < 2 || len(v.Broken) > 0 {
		t.Errorf("a whole log: %+v", v)
	}
}

// TestOperateSamples sends every sample through the operate function.
func TestOperateSamples(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Signed)
	flushed := 0
	handle := trigger.Operate(d.routes, func() { flushed++ })
	names, err := filepath.Glob("../../events/operate/*.json")
	if err != nil || len(names) != 4 {
		t.Fatalf("samples %v (%v)", names, err)
	}
	want := map[string]int{"get": 200, "post": 404, "put": 404, "delete": 404} // the samples' proposal and record are not here
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var e events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		a, err := handle(t.Context(), e)
		if status := want[strings.TrimSuffix(filepath.Base(name), ".json")]; err != nil || a.StatusCode != status || a.Headers["content-type"] == "" || !json.Valid([]byte(a.Body)) {
			t.Errorf("%s is answered %+v (%v), want %d", name, a, err, status)
		}
	}
	if flushed != 4 {
		t.Errorf("%d flushes", flushed)
	}
}

// asked is an event of a person with an IAM identity.
func asked(method, path, body, arn string) events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{RawPath: path, Body: body, Headers: map[string]string{"sorrel-person": "fiona@northwind.example"}}
	e.RequestContext.HTTP.Method, e.RequestContext.DomainName = method, "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
	if arn != "" {
		e.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: arn}}
	}
	return e
}

// On AWS the IAM identity decides who somebody is. What the request says about that counts for nothing.
func TestIAMSaysWho(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Signed)
	path := "/v1/proposals/" + d.proposal().ID
	handle := trigger.Operate(d.routes, func() {})
	for _, row := range []struct {
		arn    string
		status int
		says   string
	}{
		{"", 403, "no IAM identity"},
		{"arn:aws:iam::123456789012:user/mallory", 403, "user/mallory is nobody"},
		{"arn:aws:iam::123456789012:user/sarah", 403, "needs the role finance"},
		{"arn:aws:iam::123456789012:user/fiona", 200, `"by": "fiona@northwind.example"`},
	} {
		a, err := handle(t.Context(), asked("POST", path, `{"decision":"approve"}`, row.arn))
		if err != nil || a.StatusCode != row.status || !strings.Contains(a.Body, row.says) {
			t.Errorf("%q: %+v (%v), want %d with %q", row.arn, a, err, row.status, row.says)
		}
	}
}

func TestOperateReadsItsEvent(t *testing.T) {
	t.Parallel()
	var got *http.Request
	answer := "x"
	handle := trigger.Operate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(answer))
	}), func() {})
	for raw, want := range map[string]string{"/v1/a%2Fb": "/v1/a/b", "/v1/a b": "/v1/a b", "/v1/50%": "/v1/50%"} {
		e := asked("GET", raw, "", "x")
		e.RawQueryString = "a=1&a=2"
		a, err := handle(t.Context(), e)
		if err != nil || a.StatusCode != 202 || a.Headers["content-type"] != "text/plain" || a.Body != "x" {
			t.Errorf("answered %+v (%v)", a, err)
		}
		if got.URL.Path != want || len(got.URL.Query()["a"]) != 2 || got.Method != "GET" {
			t.Errorf("%s came as %s", raw, got.URL)
		}
	}
	for _, bad := range []func(*events.APIGatewayV2HTTPRequest){
		func(e *events.APIGatewayV2HTTPRequest) { e.IsBase64Encoded, e.Body = true, "***" },
		func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "a=%zz" },
		func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "GE T" },
	} {
		e := asked("GET", "/v1/status", "", "x")
		bad(&e)
		if a, err := handle(t.Context(), e); err != nil || a.StatusCode != 400 {
			t.Errorf("answered %+v (%v)", a, err)
		}
	}
	if _, err := handle(t.Context(), events.APIGatewayV2HTTPRequest{}); err == nil {
		t.Error("an event that is no request was taken")
	}
	answer = strings.Repeat("x", 5<<20)
	if a, err := handle(t.Context(), asked("GET", "/v1/x", "", "x")); err != nil || a.StatusCode != 413 || len(a.Body) > 1000 {
		t.Errorf("a large answer: %d, %d bytes (%v)", a.StatusCode, len(a.Body), err)
	}
}

// FuzzDecisions sends anything as a decision. It is answered or refused as the caller's mistake, never a failure of ours.
func FuzzDecisions(f *testing.F) {
	for _, seed := range []string{``, `null`, `{"decision":"approve","revision":1}`, `{"action":"edit","text":"x","until":"2027-01-31T00:00:00Z"}`, `{"action":"accept","platform":"zendesk","field":"name"}`,
		`{"value":{"a":[1,null]},"until":"0000-00-00"}`, `{"value":1e400}`, `{"text":"\ud800"}`, `{"from":"customer/bbbbbbbbbbbbbbbb"}`, `{"decision":"approve","decision":"reject"}`, "\xff"} {
		f.Add(seed)
	}
	set := load(f)
	f.Fuzz(func(t *testing.T, body string) {
		d := deskOver(t, set, trigger.Trusted)
		d.as = "frank@northwind.example"
		for _, route := range [][2]string{{"POST", "/v1/proposals/" + d.proposal().ID}, {"POST", "/v1/exceptions/" + d.exception("type=unmatched").ID},
			{"PUT", "/v1/records/" + string(one) + "/overrides/creditLimit"}, {"PUT", "/v1/records/" + string(one) + "/overrides/name"}, {"POST", "/v1/records/" + string(one) + "/merge"}} {
			var out any
			if status, p := d.do(route[0], route[1], body, &out); status >= http.StatusInternalServerError {
				t.Errorf("%v: %+v", route, p)
			}
		}
		var v ledger.Verified
		if d.ok("GET", "/v1/audit", "", &v); len(v.Broken) > 0 {
			t.Errorf("the log is broken: %+v", v)
		}
	})
}

// FuzzOperate gives the operate function any request. It answers, and a failure is the caller's.
func FuzzOperate(f *testing.F) {
	f.Add("GET", "/v1/proposals", "all=true", "", false)
	f.Add("POST", "//v1/x", "%zz", "***", true)
	f.Add("DELETE", "/v1/records/customer/../x/overrides/%2e%2e", "", "e30=", true)
	f.Add("\n", "v1 %", "a&b;c", "\xff", false)
	d := newDesk(f, trigger.Signed)
	handle := trigger.Operate(d.routes, func() {})
	f.Fuzz(func(t *testing.T, method, path, query, body string, encoded bool) {
		e := asked(method, path, body, "arn:aws:iam::123456789012:user/frank")
		e.RawQueryString, e.IsBase64Encoded = query, encoded
		a, err := handle(t.Context(), e)
		if (err != nil) != (method == "") || err == nil && (a.StatusCode < 200 || a.StatusCode >= 500) {
			t.Errorf("answered %+v (%v)", a, err)
		}
	})
}
