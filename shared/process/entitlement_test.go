package process

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sorrel/shared/contract/source"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

func TestEntitlement(t *testing.T) {
	t.Parallel()
	d := service{}.definition()
	kase := rec("case/k1", "number", "4711", "status", "open", "customer", "customer/c1")
	f := workflow.Facts{Subject: kase, Others: map[string]record.Record{"customer": rec("customer/c1", "creditHold", "auto")}, Lists: map[string][]record.Record{
		"contracts": {rec("contract/a", "number", "K-1", "status", "active", "tier", "premium", "startsOn", "2026-01-01", "endsOn", "2026-11-04"), rec("contract/b", "number", "K-2", "status", "active", "tier", "vip", "startsOn", "2026-11-06")}}, Now: start}
	if !d.Starts(f) {
		t.Fatal("an open case is not marked")
	}
	for name, c := range map[string]struct {
		d    workflow.Definition
		k    record.Record
		want bool
	}{
		"a case that is over":    {d, rec("case/k1", "status", "solved", "customer", "customer/c1"), false},
		"a case of nobody":       {d, rec("case/k1", "status", "open"), false},
		"one that is not meant":  {service{when(t, `case.priority == "high"`, "case", "customer")}.definition(), kase, false},
		"a case that shall be":   {service{when(t, `case.customer == null`, "case", "customer")}.definition(), rec("case/k1", "status", "open"), true},
		"one from before":        {service{when(t, `case.customer != null and case.openedOn >= "2026-12-01T00:00:00Z"`, "case", "customer")}.definition(), rec("case/k1", "status", "open", "customer", "customer/c1", "openedOn", "2026-11-30T23:59:59Z"), false},
		"one since":              {service{when(t, `case.customer != null and case.openedOn >= "2026-12-01T00:00:00Z"`, "case", "customer")}.definition(), rec("case/k1", "status", "open", "customer", "customer/c1", "openedOn", "2026-12-01T00:00:00Z"), true},
		"a closed one that does": {service{when(t, `true == true`, "case", "customer")}.definition(), rec("case/k1", "status", "closed"), false},
	} {
		if got := c.d.Starts(workflow.Facts{Subject: c.k, Now: start}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	run := d.Begin(kase.ID, 1, "t", start)
	f.Run = run
	if fresh := d.Fresh(f); !fresh.Live || len(fresh.Records) != 3 {
		t.Errorf("the owner is not asked: %+v", fresh)
	}
	marked := func(what, tier, until, why string) {
		t.Helper()
		set, says := moves(t, d, &run, f)
		got := fmt.Sprint(set["case.entitledTier"], " ", set["case.entitledUntil"], " ", set["case.entitlementReason"])
		if !strings.HasPrefix(got, tier+" "+until+" ") || !strings.Contains(got, why) || len(says) > 0 || len(set) > 3 {
			t.Errorf("%s: %s; %v %v", what, got, set, says)
		}
		if again, out := d.Advance(run, f); len(out.Set) > 3 || again.Step != run.Step {
			t.Errorf("%s: it does not rest: %+v", what, again)
		}
	}

	// The owner does not answer: what is known, as of the oldest word, and it is asked again.
	f.Asked = true
	f.Words = map[record.ID]workflow.Word{"customer/c1": {AsOf: start.Add(-time.Hour)}, "contract/a": {AsOf: start.Add(-26 * time.Hour), Why: "no answer"}, "contract/b": {AsOf: start.Add(-30 * time.Hour)}}
	marked("no answer", "premium", "2026-11-04", "contract K-1, last day 2026-11-04. As known at 2026-11-01 06:00 UTC: the owner could not be asked.")
	if !run.Look.Equal(start.Add(askAgain)) || run.State != workflow.Running {
		t.Errorf("%+v", run)
	}
	f.Run, f.Now = run, start.Add(time.Minute)
	if d.Fresh(f).Live {
		t.Error("it is asked again at once")
	}
	news := f
	news.Lists = map[string][]record.Record{"contracts": {f.Lists["contracts"][1]}}
	if !d.Fresh(news).Live {
		t.Error("it is not asked again although there is news")
	}
	f.Run, f.Now = run, start.Add(askAgain)
	if !d.Fresh(f).Live {
		t.Error("it is not asked again")
	}
	f.Words = map[record.ID]workflow.Word{"contract/a": {AsOf: f.Now}}
	marked("an answer", "premium", "2026-11-04", "Owed premium service by contract K-1, last day 2026-11-04.")
	if want := time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC); !run.Look.Equal(want) {
		t.Errorf("looked at again at %s, want %s", run.Look, want)
	}
	f.Run, f.Words, f.Asked = run, nil, false
	if d.Fresh(f).Live {
		t.Error("it is asked although it has answered")
	}

	// Time alone: the contract is over, then another begins.
	f.Now = time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC)
	marked("ended", "none", "", "Not owed: the contract has ended.")
	f.Now = time.Date(2026, 11, 6, 0, 0, 0, 0, time.UTC)
	marked("begun", "vip", "", "contract K-2, last day not set")

	// What the customer is decides, too.
	for what, c := range map[string]struct {
		customer *record.Record
		why      string
	}{
		"on hold": {new(rec("customer/c1", "creditHold", "on")), "on credit hold, whatever contract K-2 says"},
		"nobody":  {nil, "no known customer"},
		"deleted": {new(func() record.Record {
			r := rec("customer/c1")
			r.Views = map[string]record.View{record.NetSuite: {Ref: record.Ref{Platform: record.NetSuite, ID: "1"}, Died: record.Version{At: start}}}
			return r
		}()), "the customer was deleted"},
	} {
		f.Others = map[string]record.Record{}
		if c.customer != nil {
			f.Others["customer"] = *c.customer
		}
		marked(what, "none", "", c.why)
	}
	f.Lists = nil
	f.Others["customer"] = rec("customer/c1")
	marked("no contract", "none", "", "there is no contract")

	f.Subject = rec("case/k1", "status", "solved", "customer", "customer/c1")
	if set, _ := moves(t, d, &run, f); len(set) > 0 || run.State != workflow.Done {
		t.Errorf("a case that is over is marked: %v, %+v", set, run)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	d := coverageProcess().define(settings{ps: &source.Problems{}})[0]
	paper := rec("contract/k1", "number", "K-1", "status", "active", "tier", "vip", "startsOn", "2026-01-01", "product", "Cold chain", "customer", "customer/b")
	f := workflow.Facts{Subject: paper, Run: workflow.Run{Kept: keep("customer", "customer/a")}, Now: start,
		Others: map[string]record.Record{"customer": rec("customer/b"), "before": rec("customer/a", "coverage", "K-1: active, vip, from 2026-01-01 to no end, Cold chain")},
		Lists:  map[string][]record.Record{"customer": {paper, rec("contract/k0", "number", "K-0", "status", "expired", "endsOn", "2025-12-31"), rec("contract/k2", "number", "K-2", "status", "draft")}}}
	if needs := d.Needs(f); needs["before"] != "customer/a" || needs["customer"] != "customer/b" || !d.Starts(f) || !d.Inherit {
		t.Fatalf("nothing is to be told: %v", needs)
	}
	got := map[record.ID]string{}
	for _, s := range d.Steps[0].Do(f).Set {
		got[s.Record] = s.Field + " " + s.Value.Raw()
	}
	if got["customer/b"] != "coverage K-0: expired, no tier, from the beginning to 2025-12-31\nK-1: active, vip, from 2026-01-01 to no end, Cold chain" || got["customer/a"] != "coverage " {
		t.Errorf("%q", got)
	}
	long := func(last string) string {
		var all []record.Record
		for i := range 50 {
			all = append(all, rec("contract/x", "number", fmt.Sprintf("K-%03d", i), "status", "active", "product", strings.Repeat("ß", 60), "endsOn", last))
		}
		return coverage(all)
	}
	if a, b := long("2027-01-01"), long("2027-01-02"); a == b || len(a) > 4000 {
		t.Errorf("%d bytes of many contracts, and a change at their end shows: %v", len(a), a != b)
	}
}
