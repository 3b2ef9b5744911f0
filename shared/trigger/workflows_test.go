package trigger_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/flow/operate"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
	"sorrel/shared/workflow"
)

// runs is a desk with one run for each of some customers. Each asks finance about a tax number and is active then; "stubborn"
// ones cannot be undone until somebody skips that.
type runs struct {
	*desk
	flow *flow.Flow
}

func asking(name string, late time.Duration) workflow.Definition {
	return workflow.Definition{Name: name, Version: 1, Subject: "customer", Late: late, Starts: func(workflow.Facts) bool { return false }, Steps: []workflow.Step{
		{Name: "pending", Do: func(workflow.Facts) workflow.Move { return workflow.Move{Done: true} }, Undo: func(workflow.Facts) workflow.Move {
			if name == "stubborn" {
				return workflow.Move{Fail: "NetSuite keeps it"}
			}
			return workflow.Move{Done: true}
		}},
		{Name: "approval", Do: func(f workflow.Facts) workflow.Move {
			switch a := f.Run.Answer; {
			case a == nil:
				return workflow.Move{Wait: "finance", Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"DE12 is no tax number"}, May: map[string]string{"taxId": "DE12"}}}
			case !a.Approve:
				return workflow.Move{Fail: "rejected by " + a.By + ": " + a.Reason}
			}
			return workflow.Move{Done: true}
		}},
		{Name: "active", Do: func(workflow.Facts) workflow.Move { return workflow.Move{Wait: "the number"} }},
	}}
}

func newRuns(t *testing.T) *runs {
	t.Helper()
	d := &runs{desk: newDesk(t, trigger.Trusted)}
	book, err := workflow.NewBook(asking("activation", time.Hour), asking("stubborn", 0))
	if err != nil {
		t.Fatal(err)
	}
	tele := telemetry.New(nil, now, nil)
	d.flow = flow.New(flow.Deps{Ledger: d.ledger, Config: d.config, Book: book, Now: now, NewTrace: func() string { return "t" }, Telemetry: tele})
	d.routes = trigger.Desk{Config: d.config, Who: trigger.Trusted(d.config), Telemetry: tele, Once: d.once(), Runs: d.flow,
		Ask: operate.New(operate.Deps{Ledger: d.ledger, Config: d.config, Book: book, Telemetry: tele, Now: now})}.Routes()
	return d
}

// begin begins a run, some time ago, and returns its id.
func (d *runs) begin(definition string, customer int, ago time.Duration) string {
	d.Helper()
	id := record.ID(fmt.Sprintf("customer/%016d", customer))
	r := asking(definition, 0).Begin(id, 1, "trace-"+fmt.Sprint(customer), now().Add(-ago))
	s := ledger.State{Record: record.Record{ID: id, Views: map[string]record.View{}}}
	s.Look(r.ID(), time.Time{})
	s.AddDue(record.Sorrel, r.Trace, budget.Live, now())
	if err := d.ledger.Commit(d.Context(), ledger.Entry{After: s, Runs: []ledger.Run{{Run: r}}, Now: now(), Trace: r.Trace}); err != nil {
		d.Fatal(err)
	}
	d.moves(r.ID())
	return r.ID()
}

// moves lets the workflow function look at a run's subject.
func (d *runs) moves(run string) {
	d.Helper()
	_, id, _, _ := workflow.ParseID(run)
	m, err := message.Wake{Platform: record.Sorrel, Record: id, CorrelationID: "w"}.Message("w")
	if err != nil {
		d.Fatal(err)
	}
	if failed := d.flow.Apply(d.Context(), []queue.Received{{Message: m, ID: "m", Receives: 1}}); len(failed) > 0 {
		d.Fatal("the workflow function fails")
	}
}

func (d *runs) list(query string) (ids []string) {
	d.Helper()
	var page flow.Listing
	d.ok("GET", "/v1/workflows?"+query, "", &page)
	for _, h := range page.Runs {
		ids = append(ids, h.ID)
	}
	return ids
}

func TestRunsAreListed(t *testing.T) {
	t.Parallel()
	d := newRuns(t)
	var page flow.Listing
	if d.ok("GET", "/v1/workflows", "", &page); page.Runs == nil || len(page.Runs) > 0 {
		t.Errorf("%+v, want an empty list", page)
	}
	var all []string
	for i := range 5 {
		all = append(all, d.begin("activation", i, time.Duration(100-i)*time.Minute))
	}
	all = append(all, d.begin("stubborn", 7, time.Minute))
	if got := d.list(""); !slices.Equal(got, all) {
		t.Errorf("got %v, want the oldest first: %v", got, all)
	}
	for query, want := range map[string]int{"definition=stubborn": 1, "state=running": 6, "state=stuck": 0, "asks=finance": 6, "asks=sales": 0, "entity=customer": 6, "entity=order": 0,
		"record=customer/0000000000000003": 1, "definition=stubborn&asks=finance": 1} {
		if got := d.list(query); len(got) != want {
			t.Errorf("%s: %v, want %d", query, got, want)
		}
	}
	var paged []string
	for after := ""; ; after = page.Next {
		page = flow.Listing{}
		d.ok("GET", "/v1/workflows?limit=2&after="+url.QueryEscape(after), "", &page)
		for _, h := range page.Runs {
			paged = append(paged, h.ID)
			if late := strings.HasPrefix(h.ID, "activation/"); h.Late != late || h.Step != "approval" || h.Wait != "finance" {
				t.Errorf("%+v", h)
			}
		}
		if page.Next == "" {
			break
		}
	}
	if !slices.Equal(paged, all) {
		t.Errorf("in pages %v, want %v", paged, all)
	}
	for query, says := range map[string]string{"state=asleep": "no state is called", "state=done": "ended are not listed", "record=7": "no record id", "after=%21": "not of a listing", "limit=0": "limit is", "limit=2000": "out of bounds", "asked=finance": "unknown parameter"} {
		d.refused("GET", "/v1/workflows?"+query, "", 400, says)
	}
}

func TestRunIsDecided(t *testing.T) {
	t.Parallel()
	d := newRuns(t)
	id := d.begin("activation", 1, 2*time.Hour)
	path := "/v1/workflows/" + id
	var r flow.Shown
	d.ok("GET", path, "", &r)
	if r.ID != id || r.State != workflow.Running || !r.Late || r.Ask == nil || r.Ask.May["taxId"] != "DE12" || r.Question == "" || !slices.Contains(r.Deciders, "fiona@northwind.example") || len(r.Past) != 2 {
		t.Fatalf("%+v", r)
	}
	if n := len(r.History); n < 2 || r.History[0].What != "step-done" || r.History[0].Detail != "pending" || r.History[0].At.IsZero() {
		t.Errorf("history %+v", r.History)
	}
	d.refused("GET", "/v1/workflows/activation/customer/0000000000000009/1", "", 404, "no such run")
	d.refused("GET", "/v1/workflows/activation/customer/0000000000000001/x", "", 404, "no such run")
	d.refused("POST", path+"/approve", `{}`, 403, "nobody is named")
	d.as = "sarah@northwind.example"
	d.refused("POST", path+"/approve", `{}`, 403, "role finance")
	d.refused("POST", path+"/cancel", `{"reason":"no"}`, 403, "role steward")
	d.as = "fiona@northwind.example"
	for _, bad := range []struct {
		verb, body string
		status     int
		says       string
	}{
		{"approve", ``, 400, "it is empty"},
		{"approve", `{"step":"x"}`, 400, "unknown field"},
		{"approve", `{"correct":{"name":"n"}}`, 422, "cannot be corrected here"},
		{"approve", `{"saw":"another"}`, 409, "the question has changed"},
		{"reject", `{"reason":" "}`, 422, "say why: sales reads it"},
		{"reject", `{"correct":{"taxId":"x"}}`, 400, "unknown field"},
		{"skip", `{"reason":"done by hand"}`, 400, "no step is named"},
		{"approves", `{}`, 404, "nothing answers"},
	} {
		d.refused("POST", path+"/"+bad.verb, bad.body, bad.status, bad.says)
	}
	answer := fmt.Sprintf(`{"reason":"as the register has it","correct":{"taxId":"DE136695976"},"saw":%q}`, r.Question)
	for range 2 { // deciding the same again is no error
		r = flow.Shown{}
		d.ok("POST", path+"/approve", answer, &r)
		if r.Answer == nil || r.Answer.By != d.as || r.Answer.Correct["taxId"] != "DE136695976" || r.Ask != nil {
			t.Fatalf("%+v", r)
		}
	}
	d.as = "frank@northwind.example"
	d.refused("POST", path+"/reject", `{"reason":"no"}`, 409, "fiona@northwind.example has decided at")
	d.moves(id)
	if d.ok("GET", path, "", &r); r.Step != "active" || r.Wait != "the number" {
		t.Fatalf("%+v", r)
	}
	if i := slices.IndexFunc(r.History, func(h flow.Happened) bool { return h.What == "workflow-approved" }); i < 0 || r.History[i].By != "fiona@northwind.example" || !strings.Contains(r.History[i].Detail, "as the register has it") {
		t.Errorf("history %+v", r.History)
	}
	var trace operate.Trace
	d.ok("GET", "/v1/traces/trace-1", "", &trace)
	var steps []string
	for _, s := range trace.Steps {
		if steps = append(steps, s.Step); s.At.IsZero() {
			t.Errorf("without a time: %+v", s)
		}
	}
	for _, want := range []string{"step-done", "workflow-waits", "workflow-approved"} {
		if !slices.Contains(steps, want) {
			t.Errorf("the trace has %v, and no %s", steps, want)
		}
	}
	d.refused("POST", path+"/retry", `{}`, 422, "not stuck")
	d.ok("POST", path+"/cancel", `{"reason":"not wanted"}`, &r)
	d.moves(id)
	if d.ok("GET", path, "", &r); r.State != workflow.Undone || r.Reason != "cancelled by frank@northwind.example: not wanted" {
		t.Errorf("%+v", r)
	}
	d.ok("POST", path+"/cancel", `{"reason":"not wanted"}`, &r)
	d.refused("POST", path+"/approve", `{}`, 409, "as undone: cancelled by frank")
	if got := d.list("record=customer/0000000000000001&state=undone"); !slices.Equal(got, []string{id}) || len(d.list("")) > 0 {
		t.Errorf("ended, it is listed as %v", got)
	}
}

func TestStuckRun(t *testing.T) {
	t.Parallel()
	d := newRuns(t)
	id := d.begin("stubborn", 1, time.Minute)
	path := "/v1/workflows/" + id
	d.as = "fiona@northwind.example"
	var r flow.Shown
	d.ok("POST", path+"/reject", `{"reason":"no credit"}`, &r)
	d.moves(id)
	if d.ok("GET", path, "", &r); r.State != workflow.Stuck || r.Reason != "NetSuite keeps it" {
		t.Fatalf("%+v", r)
	}
	var status operate.Status
	d.ok("GET", "/v1/status", "", &status)
	if c := status.Workflows["stubborn"]; c.Stuck != 1 || status.Healthy || !strings.Contains(fmt.Sprint(status.Concerns), "1 run(s) of stubborn are stuck") {
		t.Errorf("%+v", status)
	}
	d.as = "stewart@northwind.example"
	d.ok("POST", path+"/retry", `{"reason":"try"}`, &r)
	d.moves(id)
	if d.ok("GET", path, "", &r); r.State != workflow.Stuck {
		t.Fatalf("%+v", r)
	}
	d.refused("POST", path+"/skip", `{"step":"approval","reason":"deleted by hand"}`, 409, "it is at pending")
	d.refused("POST", path+"/skip", `{"step":"pending"}`, 422, "no reason is given")
	for range 2 {
		d.ok("POST", path+"/skip", `{"step":"pending","reason":"deleted by hand"}`, &r)
	}
	if r.State != workflow.Undone || r.Past[0].Skipped != "stewart@northwind.example: deleted by hand" {
		t.Errorf("%+v", r)
	}
}
