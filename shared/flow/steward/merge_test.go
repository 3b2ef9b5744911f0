package steward_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// bare is the flow as it is without queues.
func (w *world) bare() *steward.Flow {
	clock := func() time.Time { return w.now }
	return steward.New(steward.Deps{Ledger: w.ledger, Config: w.set, Now: clock, NewID: func() string { return "bare" }, Telemetry: telemetry.New(nil, clock, nil)})
}

// twins is a world with two accounts that may be one: NetSuite's, which Zendesk has a copy of, and Salesforce's.
func twins(t testing.TB) (w *world, a, b record.ID, x ledger.Exception) {
	t.Helper()
	w = newWorld(t)
	a = w.account()
	w.salesforce.set("2", "sf-sarah", map[string]any{"name": "ERNST HANDEL", "phone": "1234"})
	w.settle()
	b = ledger.Mint("account", w.salesforce.ref("2"))
	x = w.live("possible-duplicate")
	if x.Record != b || x.Other != a {
		t.Fatalf("%+v", x)
	}
	if len(w.zendesk.rows) != 1 {
		t.Fatalf("zendesk has %d accounts", len(w.zendesk.rows))
	}
	return w, a, b, x
}

func TestMergeAndUnmerge(t *testing.T) {
	t.Parallel()
	for _, do := range []string{steward.Merge, steward.Link} {
		w, a, b, x := twins(t)
		done := w.act("stewart", steward.Action{Exception: x.ID, Do: do})
		if done.Record != a || done.Exception.Status != ledger.ExceptionResolved {
			t.Errorf("%s: %+v", do, done)
		}
		w.settle()
		if got := w.salesforce.rows["2"].fields; got["street"] != "Kirchgasse 6" || got["name"] != "Ernst Handel" {
			t.Errorf("%s: salesforce shows %v", do, got)
		}
		shown, err := w.operate.Record(w.ctx(), b)
		if err != nil || shown.ID != b || shown.MergedInto != a || shown.Fields["street"] != record.TextValue("Kirchgasse 6") || len(shown.On) != 3 || len(shown.Changes) == 0 {
			t.Errorf("%s: %+v %v", do, shown, err)
		}
		why, err := w.operate.Why(w.ctx(), b, "street")
		if err != nil || why[0].Record != a {
			t.Errorf("%s: %+v %v", do, why, err)
		}
		w.logged(a, "merged", "stewart")
		w.logged(b, "merged", "stewart")
		_, err = w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.KeepApart})
		refused(t, err, fault.Conflict, "merged meanwhile")
		_, err = w.steward.Unmerge(w.ctx(), w.who("sarah"), b)
		refused(t, err, fault.Forbidden)
		_, err = w.steward.Unmerge(w.ctx(), w.who("stewart"), a)
		refused(t, err, fault.Refused, "was not merged")
		w.twice(func() (steward.Acted, error) { return w.steward.Unmerge(w.ctx(), w.who("stewart"), b) })
		for p, due := range w.state(b).Due { // a native record may have been under way to it when the two were merged
			if made := w.state(b).Record.Views[p].ID == ""; due.Unknown != made {
				t.Errorf("%s: to %s, where it has no native record: %t, it is read before it is written: %t", do, p, made, due.Unknown)
			}
		}
		w.settle()
		if r, s := w.state(a).Record, w.state(b).Record; s.Into != "" || !s.Views[record.Salesforce].Exists() || r.Views[record.Salesforce].Exists() || !slices.Contains(r.Apart, b) {
			t.Errorf("%s: not taken apart: %+v %+v", do, r.Views, s.Views)
		}
		w.logged(a, "unmerged", "stewart")
		w.logged(b, "unmerged", "stewart")
		if len(w.zendesk.rows) != 2 {
			t.Errorf("%s: zendesk has %d accounts, want one of each", do, len(w.zendesk.rows))
		}
	}
}

func TestSurvivorOfAMerge(t *testing.T) {
	t.Parallel()
	w, a, b, x := twins(t)
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Merge, Record: "account/other"})
	refused(t, err, fault.Malformed, "neither of the two")
	if done := w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Merge, Record: b}); done.Record != b {
		t.Errorf("%+v", done)
	}
	if got := w.state(a).Record.Into; got != b {
		t.Errorf("%s was merged into %q", a, got)
	}
	if done := w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Merge}); done.Record != b {
		t.Errorf("however it was merged, it is: %+v", done)
	}
	_, err = w.steward.Merge(w.ctx(), w.who("stewart"), a, b)
	refused(t, err, fault.Conflict, "was merged into")
}

func TestMergeOfTwoOnOnePlatform(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.shared()
	w.salesforce.set("2", "sf-sarah", map[string]any{"name": "ERNST HANDEL"})
	w.settle()
	x := w.live("possible-duplicate")
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Merge})
	refused(t, err, fault.Refused, "salesforce/account/1 and salesforce/account/2", "merge those there first")
	_, err = w.steward.Merge(w.ctx(), w.who("stewart"), a, "account/none")
	refused(t, err, fault.NotFound)
	_, err = w.steward.Merge(w.ctx(), w.who("stewart"), a, a)
	refused(t, err, fault.Malformed)
	_, err = w.steward.Merge(w.ctx(), w.who("sarah"), a, x.Record)
	refused(t, err, fault.Forbidden)
}

func TestKeepApart(t *testing.T) {
	t.Parallel()
	w, a, b, x := twins(t)
	done := w.act("stewart", steward.Action{Exception: x.ID, Do: steward.KeepApart})
	if done.Exception.Status != ledger.ExceptionResolved {
		t.Errorf("%+v", done)
	}
	w.work() // what waited for the decision is woken
	if len(w.zendesk.rows) != 2 {
		t.Errorf("zendesk has %d accounts, want one of each", len(w.zendesk.rows))
	}
	w.logged(a, "kept-apart", "stewart")
	w.logged(b, "kept-apart", "stewart")
	w.salesforce.set("2", "sf-sarah", map[string]any{"phone": "99"})
	w.settle()
	if all, err := w.operate.Exceptions(w.ctx(), operate.Filter{}); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

func TestOverrideAndRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.account()
	until := w.now.Add(24 * time.Hour)
	by := w.who("stewart")
	set := func() (steward.Acted, error) {
		return w.steward.Override(w.ctx(), by, id, "limit", steward.Override{Value: *number("1"), Until: until, Reason: "in court"})
	}
	w.twice(set)
	w.work()
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("1") {
		t.Errorf("zendesk shows %v", got)
	}
	if shown, err := w.operate.Record(w.ctx(), id); err != nil || shown.Overrides["limit"].By != "stewart" {
		t.Errorf("%+v %v", shown, err)
	}
	w.logged(id, "overridden", "stewart")
	w.twice(func() (steward.Acted, error) { return w.steward.Revoke(w.ctx(), by, id, "limit") })
	w.work()
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("1000") {
		t.Errorf("zendesk shows %v", got)
	}
	w.logged(id, "override-revoked", "stewart")
	entries := w.entries()
	for _, tc := range []struct {
		by    string
		id    record.ID
		field string
		o     steward.Override
		class fault.Class
	}{
		{"sarah", id, "limit", steward.Override{Value: *number("1")}, fault.Forbidden},
		{"stewart", id, "colour", steward.Override{Value: *number("1")}, fault.NotFound},
		{"stewart", "account/none", "limit", steward.Override{Value: *number("1")}, fault.NotFound},
		{"stewart", "Account", "limit", steward.Override{Value: *number("1")}, fault.Malformed},
		{"stewart", id, "limit", steward.Override{}, fault.Malformed},
		{"stewart", id, "limit", steward.Override{Value: record.TextValue("x")}, fault.Contract},
		{"stewart", id, "name", steward.Override{Value: record.NullValue()}, fault.Contract},
		{"stewart", id, "limit", steward.Override{Value: *number("1"), Until: w.now}, fault.Malformed},
	} {
		if _, err := w.steward.Override(w.ctx(), w.who(tc.by), tc.id, tc.field, tc.o); !fault.Is(err, tc.class) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	if w.entries() != entries {
		t.Error("a refusal left something")
	}
}

func TestAssign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.account()
	w.twice(func() (steward.Acted, error) {
		return w.steward.Assign(w.ctx(), w.who("stewart"), id, "size", record.TextValue("large"))
	})
	w.work()
	if got := w.zendesk.rows["z-1"].fields["size"]; got != "L" {
		t.Errorf("zendesk shows %v", got)
	}
	w.logged(id, "assigned", "stewart")
	_, err := w.steward.Assign(w.ctx(), w.who("stewart"), id, "size", record.TextValue("huge"))
	refused(t, err, fault.Contract)
	_, err = w.steward.Assign(w.ctx(), w.who("stewart"), id, "street", record.TextValue("x"))
	refused(t, err, fault.Refused, "owner netsuite", "override it instead")
	_, err = w.steward.Assign(w.ctx(), w.who("sarah"), id, "size", record.TextValue("small"))
	refused(t, err, fault.Forbidden)
}

// Without queues nothing is lost: the sweep wakes what is due.
func TestWithoutQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.account()
	_, err := w.bare().Override(w.ctx(), w.who("stewart"), id, "limit", steward.Override{Value: *number("1")})
	w.must(err)
	w.settle()
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("1") {
		t.Errorf("zendesk shows %v", got)
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account()
	for _, n := range []string{"7", "8", "9"} {
		w.zendesk.set(n, "", map[string]any{"name": "Stray " + n})
		w.work()
	}
	w.zendesk.refuse = map[string]string{"limit": "TOO_HIGH"}
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("2000")})
	w.settle()
	causes, err := w.operate.Causes(w.ctx(), operate.Filter{})
	w.must(err)
	if len(causes) != 2 || causes[0].Cause != "unmatched zendesk" || causes[0].Count != 3 || len(causes[0].Examples) != 3 ||
		causes[1].Cause != "refused-write zendesk limit TOO_HIGH" || !causes[0].Oldest.Before(causes[1].Oldest) {
		t.Errorf("%+v", causes)
	}
	if w.exception(causes[0].Examples[0]).Native != "zendesk/account/7" {
		t.Errorf("the first example is not the oldest: %+v", causes[0])
	}
	causes, err = w.operate.Causes(w.ctx(), operate.Filter{Type: "poison-message"})
	if err != nil || causes == nil || len(causes) != 0 {
		t.Errorf("%+v %v", causes, err)
	}
	if _, err := w.operate.Log(w.ctx(), "account/none"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "no such record") {
		t.Errorf("%v", err)
	}
}
