package ledger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// desk is a ledger with a clock that the test moves, and one record.
type desk struct {
	*Ledger
	t   *testing.T
	m   *meter
	now time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, now: epoch}
	d.m = &meter{Store: store.NewMemory(func() time.Time { return d.now })}
	d.Ledger = New(d.m, func() time.Time { return d.now })
	return d
}

// reconcile commits the record with the exceptions that it has by rights, one second later.
func (d *desk) reconcile(rightful ...Exception) {
	d.t.Helper()
	d.now = d.now.Add(time.Second)
	s := load(d.t, d.Ledger, "order/1")
	after := s.Clone()
	xs, err := d.Reconcile(d.t.Context(), &after, d.now, rightful)
	check(d.t, err)
	check(d.t, d.Commit(d.t.Context(), Entry{Before: s, After: after, Exceptions: xs}))
}

func (d *desk) read(x Exception) Exception {
	d.t.Helper()
	x.Identify()
	return must[Exception](d.t)(d.Exception(d.t.Context(), x.ID))
}

// act is a person's action on an exception.
func (d *desk) act(x Exception, to func(*Exception)) {
	d.t.Helper()
	x = d.read(x)
	to(&x)
	check(d.t, d.SaveException(d.t.Context(), x, LogEntry{By: x.By, Events: []record.Event{{Action: x.Status, By: x.By}}}))
}

func (d *desk) listed(all bool) int {
	d.t.Helper()
	return len(must[[]Exception](d.t)(d.Exceptions(d.t.Context(), all)))
}

var refused = Exception{Type: "refused-write", Record: "order/1", Platform: "zendesk", Field: "status", Code: "INVALID", Detail: "no"}

func acknowledge(x *Exception) { x.Status, x.By = ExceptionAcknowledged, "ada" }

func assign(x *Exception) { x.Status, x.By, x.Assignee = ExceptionAssigned, "ada", "bob" }

func ignore(x *Exception) { x.Status, x.By, x.Reason = ExceptionIgnored, "ada", "known" }

func TestPeopleActOnExceptions(t *testing.T) {
	t.Parallel()
	for status, action := range map[string]func(*Exception){ExceptionAcknowledged: acknowledge, ExceptionAssigned: assign, ExceptionIgnored: ignore} {
		d := newDesk(t)
		d.reconcile(refused)
		first := d.read(refused).First
		d.act(refused, action)
		d.reconcile(refused) // it is met again
		x := d.read(refused)
		if x.Status != status || x.By != "ada" || !x.First.Equal(first) || x.Reopened != 0 {
			t.Errorf("%s: met again it is %+v", status, x)
		}
		if live := status != ExceptionIgnored; x.Live() != live || (d.listed(false) == 1) != live || d.listed(true) != 1 {
			t.Errorf("%s: live %v, listed %d", status, x.Live(), d.listed(false))
		}
		d.reconcile() // it is over, whatever people did to it
		if x := d.read(refused); x.Status != ExceptionResolved || !x.Resolved.Equal(d.now) || x.Live() || x.By != "ada" {
			t.Errorf("%s: over, it is %+v", status, x)
		}
		d.reconcile(refused) // it comes back
		x = d.read(refused)
		if x.Status != ExceptionOpen || x.Reopened != 1 || !x.First.Equal(first) || !x.Last.Equal(d.now) || !x.Resolved.IsZero() || x.Assignee != "" || x.By != "" || x.Reason != "" {
			t.Errorf("%s: come back, it is %+v", status, x)
		}
		d.reconcile()
		d.reconcile(refused)
		if x := d.read(refused); x.Reopened != 2 || !x.First.Equal(first) {
			t.Errorf("%s: come back again, it is %+v", status, x)
		}
	}
}

func TestActionsAreLogged(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.reconcile(refused)
	d.act(refused, assign)
	log := must[[]LogEntry](t)(d.Log(t.Context(), "order/1"))
	if len(log) != 1 || log[0].By != "ada" || log[0].Events[0].Action != ExceptionAssigned || !log[0].At.Equal(d.now) {
		t.Errorf("log of the record %+v", log)
	}
	parked := Exception{Type: "unmatched", Native: order7.String(), Platform: "netsuite", Detail: "who is it"}
	check(t, d.Park(t.Context(), parked))
	d.act(parked, ignore)
	stray := Exception{Type: "poison-message", Record: "order/none", Detail: "its record does not exist"}
	check(t, d.Park(t.Context(), stray))
	d.act(stray, acknowledge)
	log = must[[]LogEntry](t)(d.Log(t.Context(), General))
	if len(log) != 2 || log[0].Events[0].Action != ExceptionIgnored || log[1].Events[0].Action != ExceptionAcknowledged {
		t.Errorf("general log %+v", log)
	}
	if got := verify(t, d.Ledger); got.Entries != 3 || len(got.Broken) != 0 {
		t.Errorf("verified %+v", got)
	}
}

// An action on what somebody else has changed meanwhile, or on a record that moved between reading and writing, is a conflict.
func TestActionsConflict(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	parked := Exception{Type: "unmatched", Native: order7.String(), Platform: "netsuite"}
	check(t, d.Park(t.Context(), parked))
	d.reconcile(refused)
	for _, x := range []Exception{refused, parked} {
		old := d.read(x)
		d.act(x, assign)
		ignore(&old)
		entries := verify(t, d.Ledger).Entries
		if err := d.SaveException(t.Context(), old, LogEntry{By: "eve"}); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", x.Type, err)
		}
		if got := d.read(x); got.Status != ExceptionAssigned {
			t.Errorf("%s is %s", x.Type, got.Status)
		}
		if got := verify(t, d.Ledger); got.Entries != entries || len(got.Broken) != 0 {
			t.Errorf("the refused action was logged: %+v", got)
		}
	}
	// The commit of a state that was read before the action.
	s := load(t, d.Ledger, "order/1")
	after := s.Clone()
	xs, err := d.Reconcile(t.Context(), &after, d.now, nil)
	check(t, err)
	d.act(refused, acknowledge)
	if err := d.Commit(t.Context(), Entry{Before: s, After: after, Exceptions: xs}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit that knows nothing of the action: %v", err)
	}
	// What was parked is understood at last, while somebody acts on it.
	understood, err := d.Understood(t.Context(), order7, d.now)
	check(t, err)
	d.act(parked, acknowledge)
	s = load(t, d.Ledger, "order/1")
	if err := d.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Exceptions: understood}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit that would undo an action: %v", err)
	}
	if len(understood) != 1 || understood[0].Status != ExceptionResolved {
		t.Errorf("understood: %+v", understood)
	}
}

// Somebody resolves an exception whose cause is still there: it is back at the next commit.
func TestResolvedTooEarly(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.reconcile(refused)
	d.act(refused, func(x *Exception) { x.Status, x.By = ExceptionResolved, "ada" })
	if x := d.read(refused); x.Resolved.IsZero() || len(load(t, d.Ledger, "order/1").Open) != 0 {
		t.Errorf("resolved: %+v", x)
	}
	k := refused
	k.Identify()
	if e := must[store.Entry](t)(d.m.Get(t.Context(), exceptionKey(k.ID))); e.Expires.IsZero() {
		t.Error("it never expires")
	}
	d.reconcile(refused)
	if x := d.read(refused); x.Status != ExceptionOpen || x.Reopened != 1 {
		t.Errorf("its cause is still there: %+v", x)
	}
}

func TestParkAgain(t *testing.T) {
	t.Parallel()
	x := Exception{Type: "unmatched", Native: order7.String(), Platform: "netsuite", Detail: "again"}
	for status, action := range map[string]func(*Exception){ExceptionOpen: func(*Exception) {}, ExceptionAcknowledged: acknowledge, ExceptionAssigned: assign, ExceptionIgnored: ignore,
		ExceptionResolved: func(x *Exception) { x.Status, x.By = ExceptionResolved, "ada" }} {
		d := newDesk(t)
		check(t, d.Park(t.Context(), x))
		d.act(x, action)
		before := d.read(x)
		d.now = d.now.Add(time.Hour)
		check(t, d.Park(t.Context(), x))
		got := d.read(x)
		want := before
		want.Last, want.rev = d.now, got.rev
		if status == ExceptionResolved {
			want.Status, want.By, want.Resolved, want.Reopened = ExceptionOpen, "", time.Time{}, 1
		}
		if got != want {
			t.Errorf("%s: parked again it is\n%+v, want\n%+v", status, got, want)
		}
	}
}

// Whatever rightful exceptions come and go and people do, the state names exactly the rightful ones, none of them is
// resolved unless a person said so, and all others are.
func TestExceptionsFollowTheirCauses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk(t)
		fields := []string{"a", "b", "c"}
		about := func(f string) Exception {
			return Exception{Type: "refused-write", Record: "order/1", Platform: "zendesk", Field: f}
		}
		rightful := map[string]bool{}
		returns := map[string]int{}
		met := map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var xs []Exception
			for _, f := range fields {
				was := rightful[f]
				rightful[f] = rapid.Bool().Draw(rt, f)
				if rightful[f] {
					xs = append(xs, about(f))
					if !was && met[f] {
						returns[f]++
					}
					met[f] = true
				}
			}
			d.reconcile(xs...)
			f := rapid.SampledFrom(fields).Draw(rt, "acted on")
			if rightful[f] {
				d.act(about(f), rapid.SampledFrom([]func(*Exception){acknowledge, assign, ignore}).Draw(rt, "action"))
			}
			var open []string
			for _, f := range fields {
				x := about(f)
				x.Identify()
				if rightful[f] {
					open = append(open, x.ID)
				}
				if !met[f] {
					continue
				}
				if got := d.read(x); (got.Status == ExceptionResolved) == rightful[f] || got.Reopened != returns[f] {
					rt.Fatalf("%s is %+v, rightful %v, returned %d times", f, got, rightful[f], returns[f])
				}
			}
			slices.Sort(open)
			if got := load(t, d.Ledger, "order/1").Open; !slices.Equal(got, open) {
				rt.Fatalf("the state names %v, want %v", got, open)
			}
		}
		if got := verify(t, d.Ledger); len(got.Broken) != 0 {
			rt.Fatalf("%+v", got.Broken)
		}
	})
}

func TestCause(t *testing.T) {
	t.Parallel()
	if got := refused.Cause(); got != "refused-write zendesk status INVALID" {
		t.Errorf("cause %q", got)
	}
	if got := (Exception{Type: "unmatched", Platform: "netsuite"}).Cause(); got != "unmatched netsuite" {
		t.Errorf("cause %q", got)
	}
}

func ids(xs []Exception) []string {
	var out []string
	for _, x := range xs {
		out = append(out, x.ID)
	}
	return out
}

func TestRightfulOfDuplicates(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "customer/1", Suspects: map[record.ID]record.Suspicion{
		"customer/2": {Rule: "tax id", Detail: "both have one tax id"}, "customer/3": {Rule: "name and city"}}}}
	xs := Rightful(s, record.Rules{}, nil)
	if len(xs) != 2 || xs[0].ID == xs[1].ID {
		t.Fatalf("rightful %+v", xs)
	}
	x := xs[0]
	if x.Type != "possible-duplicate" || x.Record != "customer/1" || x.Other != "customer/2" || x.Native != "" || x.Field != "" ||
		!strings.Contains(x.Detail, "customer/2") || !strings.Contains(x.Detail, "both have one tax id") || !strings.Contains(x.Detail, "tax id") ||
		x.Remedy != "sorrel exceptions link|keep-apart|merge "+x.ID {
		t.Errorf("duplicate %+v", x)
	}
	again := x
	if again.Identify(); again.ID != x.ID {
		t.Error("its id is not the one that the remedy names")
	}
	plain := x
	plain.Other = ""
	if plain.Identify(); plain.ID == x.ID {
		t.Error("the other record is not part of the identity")
	}
	s.Record.Into = "customer/2"
	if got := Rightful(s, record.Rules{}, nil); len(got) != 0 {
		t.Errorf("a record that was merged has %+v", got)
	}
}

func TestRightfulOfWhatPeopleDecide(t *testing.T) {
	t.Parallel()
	r := record.Rules{Platforms: []string{"netsuite", "salesforce"}, Fields: map[string]record.Rule{"vat": {Kind: record.Unanimous, Order: []string{"netsuite", "salesforce"}}}}
	says := func(p, v string, second int) record.View {
		return record.View{Ref: record.Ref{Platform: p, Object: "o", ID: "1"}, Said: map[string]record.Cell{"vat": {Value: record.TextValue(v), Version: record.Version{At: epoch.Add(time.Duration(second) * time.Second)}}}}
	}
	s := State{Record: record.Record{ID: "customer/1", Views: map[string]record.View{"netsuite": says("netsuite", "DE1", 1), "salesforce": says("salesforce", strings.Repeat("é", 100), 2), "zendesk": says("zendesk", "other", 3)}}}
	s.Record, _ = record.Fold(s.Record, r, on, epoch)
	xs := Rightful(s, r, nil)
	if len(xs) != 1 {
		t.Fatalf("rightful %+v", xs)
	}
	x := xs[0]
	if x.Type != "conflict" || x.Field != "vat" || x.Platform != "" || x.Detail != "the platforms differ: netsuite says DE1, salesforce says "+strings.Repeat("é", maxShown)+"…" ||
		x.Remedy != "sorrel exceptions accept "+x.ID+" <platform>" {
		t.Errorf("split %+v", x)
	}
	s.Record.Views["salesforce"] = says("salesforce", "DE1", 2)
	s.Record, _ = record.Fold(s.Record, r, on, epoch)
	if got := Rightful(s, r, nil); len(got) != 0 {
		t.Errorf("they agree, but there is %+v", got)
	}
}

func TestRightfulOfDeletions(t *testing.T) {
	t.Parallel()
	view := func(p string) record.View { return record.View{Ref: record.Ref{Platform: p, Object: "o", ID: "1"}} }
	dead := func(into string) record.View {
		v := view("salesforce")
		v.Died, v.Into = record.Version{At: epoch}, into
		return v
	}
	for name, c := range map[string]struct {
		deletes record.Deletion
		into    string
		alone   bool
		want    int
	}{
		"nothing said": {want: 1}, "ignored": {deletes: record.DeleteIgnored, want: 1}, "deactivated": {deletes: record.DeleteDeactivate}, "proposed": {deletes: record.DeleteProposed},
		"propagated": {deletes: record.DeletePropagated}, "merged": {into: "2"}, "all are gone": {alone: true},
	} {
		s := State{Record: record.Record{ID: "customer/1", Views: map[string]record.View{"salesforce": dead(c.into)}}}
		if !c.alone {
			s.Record.Views["netsuite"] = view("netsuite")
		}
		if got := Rightful(s, record.Rules{Deletes: map[string]record.Deletion{"salesforce": c.deletes}}, nil); len(got) != c.want || c.want == 1 && (got[0].Type != "conflict" || got[0].Platform != "salesforce") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A write to an owner that an approved proposal asks for is held for as long as that is asked.
func TestReleaseKnowsWhatProposalsAskFor(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{Golden: map[string]record.Golden{"credit": {Value: record.TextValue("1")}},
		Proposals: map[string]record.Proposal{"salesforce/credit": {Status: record.ProposalApproved, Fields: map[string]record.Ask{"credit": {Owner: "netsuite", After: record.TextValue("2")}}}},
		Held:      map[string]record.Hold{"netsuite/credit": {Type: "refused-write", Code: "X", Value: record.TextValue("2")}}}}
	s.Release("")
	if len(s.Record.Held) != 1 {
		t.Error("released although the proposal still asks for it")
	}
	s.Record.Proposals = nil
	s.Release("")
	if len(s.Record.Held) != 0 {
		t.Error("still held although nobody asks for it any more")
	}
}

func TestRightfulIsInOneOrder(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "customer/1", Suspects: map[record.ID]record.Suspicion{"customer/2": {}, "customer/3": {}, "customer/4": {}}}}
	want := ids(Rightful(s, record.Rules{}, nil))
	for range 20 {
		if got := ids(Rightful(s, record.Rules{}, nil)); !slices.Equal(got, want) {
			t.Fatalf("%v, then %v", want, got)
		}
	}
}

// What was parked is over: it resolves, also if somebody ignored it; when it comes back it reopens.
func TestUnpark(t *testing.T) {
	t.Parallel()
	l := New(store.NewMemory(clock), clock)
	x := Exception{Type: "poison-message", Native: "message 7", Detail: "it crashed"}
	check(t, l.Unpark(t.Context(), x))
	if all := must[[]Exception](t)(l.Exceptions(t.Context(), true)); len(all) != 0 {
		t.Errorf("made %+v", all)
	}
	check(t, l.Park(t.Context(), x))
	check(t, l.Unpark(t.Context(), x))
	check(t, l.Unpark(t.Context(), x))
	all := must[[]Exception](t)(l.Exceptions(t.Context(), true))
	if len(all) != 1 || all[0].Status != ExceptionResolved || !all[0].Resolved.Equal(clock()) {
		t.Errorf("%+v", all)
	}
	check(t, l.Park(t.Context(), x))
	if all = must[[]Exception](t)(l.Exceptions(t.Context(), false)); len(all) != 1 || all[0].Reopened != 1 {
		t.Errorf("%+v", all)
	}
}
