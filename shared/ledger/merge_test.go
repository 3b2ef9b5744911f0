package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

var account = record.Ref{Platform: "salesforce", Object: "Account", ID: "001"}

// merged commits a merge of the record of account into that of order7.
func merged(t *testing.T, l *Ledger) (into, from record.ID) {
	t.Helper()
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	check(t, l.Commit(t.Context(), said(t, l, account, "billed", 1, "t1")))
	a, b := merge(t, l)
	check(t, l.Commit(t.Context(), a, b))
	return a.After.Record.ID, b.After.Record.ID
}

func merge(t *testing.T, l *Ledger) (a, b Entry) {
	t.Helper()
	x, y := open(t, l, order7).State, open(t, l, account).State
	a, b = Entry{Before: x, After: x.Clone()}, Entry{Before: y, After: y.Clone()}
	var ok bool
	if a.After.Record, b.After.Record, ok = record.Unite(x.Record, y.Record); !ok {
		t.Fatal("they cannot be merged")
	}
	b.After.Due = nil
	a.Relinks = map[record.Ref]record.ID{account: x.Record.ID}
	a.Events = []record.Event{{Action: "merged", By: "ada"}}
	b.Events = []record.Event{{Action: "merged", By: "ada"}}
	a.By, b.By = "ada", "ada"
	a.Steps = []Step{{At: epoch, Trace: "t2", Step: "merged"}}
	b.Steps = []Step{{At: epoch, Trace: "t2", Step: "merged"}}
	return a, b
}

func TestMergeIsOneCommit(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	into, from := merged(t, l)
	if got := load(t, l, from); got.Record.Into != into || len(got.Due) != 0 || got.Log.Seq != 1 || len(got.Record.Views) != 0 {
		t.Errorf("the redirect is %+v", got)
	}
	if got := load(t, l, into); got.Record.Views["salesforce"].Ref != account || got.Log.Seq != 2 || len(got.Record.Absorbed) != 1 {
		t.Errorf("the survivor is %+v", got)
	}
	f := open(t, l, account)
	if !f.Linked || f.State.Record.ID != into {
		t.Errorf("the link leads to %s", f.State.Record.ID)
	}
	if steps := must[[]Step](t)(l.Trace(t.Context(), "t2")); len(steps) != 2 {
		t.Errorf("steps %+v", steps)
	}
	if got := verify(t, l); got.Chains != 2 || got.Entries != 3 || len(got.Broken) != 0 {
		t.Errorf("verified %+v", got)
	}
	if got := due(t, l, "zendesk"); len(got) != 1 || got[0].Record != into {
		t.Errorf("due %+v", got)
	}
}

// A change of either record meanwhile spoils the whole merge.
func TestMergeConflictsWithEither(t *testing.T) {
	t.Parallel()
	for _, ref := range []record.Ref{order7, account} {
		l, _ := metered()
		check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
		check(t, l.Commit(t.Context(), said(t, l, account, "billed", 1, "t1")))
		a, b := merge(t, l)
		check(t, l.Commit(t.Context(), said(t, l, ref, "closed", 2, "t3")))
		if err := l.Commit(t.Context(), a, b); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s changed meanwhile: %v", ref, err)
		}
		if s := load(t, l, b.After.Record.ID); s.Record.Into != "" {
			t.Errorf("half a merge: %+v", s)
		}
		if got := verify(t, l); len(got.Broken) != 0 {
			t.Errorf("%+v", got.Broken)
		}
	}
}

func TestRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	l, m := metered()
	into, from := merged(t, l)
	// A link that the merge did not know of, and a native record that claims the record that is gone.
	stale := record.Ref{Platform: "zendesk", Object: "organization", ID: "5"}
	s := load(t, l, from)
	check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Links: map[record.Ref]record.ID{stale: from}}))
	found, links, err := l.Open(t.Context(), []Sighting{{Ref: stale, Entity: "order"}, {Ref: record.Ref{Platform: "zendesk", Object: "organization", ID: "6"}, Entity: "order", External: from}}, []record.Ref{account})
	check(t, err)
	for _, f := range found {
		if f.State.Record.ID != into || !f.State.Exists() {
			t.Errorf("found %+v", f)
		}
	}
	if !found[0].Linked || found[1].Linked {
		t.Errorf("linked: %v, %v", found[0].Linked, found[1].Linked)
	}
	if links[stale] != from || links[account] != into {
		t.Errorf("links %v", links)
	}
	if id, ok, err := l.Lookup(t.Context(), stale); id != into || !ok || err != nil {
		t.Errorf("lookup gives %s %v %v", id, ok, err)
	}
	for _, id := range []record.ID{from, into} {
		if s := must[State](t)(l.Follow(t.Context(), id)); s.Record.ID != into {
			t.Errorf("following %s gives %s", id, s.Record.ID)
		}
	}
	if s := must[State](t)(l.Follow(t.Context(), "order/none")); s.Exists() || s.Record.ID != "order/none" {
		t.Errorf("following nothing gives %+v", s)
	}
	if s := load(t, l, from); s.Record.ID != from {
		t.Errorf("loading %s gives %s", from, s.Record.ID)
	}
	m.take()
	open(t, l, account)
	if requests, _, _ := m.take(); requests != 2 {
		t.Errorf("%d requests where the link leads to the survivor itself, want 2", requests)
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	redirect := func(from, to string) {
		as(t, l, record.ID(from), func(e *Entry) { e.After.Record.Into = record.ID(to) })
	}
	for i := range maxRedirects {
		redirect(fmt.Sprint("order/", i), fmt.Sprint("order/", i+1))
	}
	as(t, l, record.ID(fmt.Sprint("order/", maxRedirects)), func(*Entry) {})
	if s, err := l.Follow(t.Context(), "order/0"); err != nil || s.Record.ID != record.ID(fmt.Sprint("order/", maxRedirects)) {
		t.Errorf("%d merges in a row: %s, %v", maxRedirects, s.Record.ID, err)
	}
	redirect("order/before", "order/0")
	redirect("order/a", "order/b")
	redirect("order/b", "order/a")
	redirect("order/lost", "order/nowhere")
	for _, id := range []record.ID{"order/before", "order/a", "order/lost"} {
		if s, err := l.Follow(t.Context(), id); !fault.Is(err, fault.Internal) {
			t.Errorf("following %s: %s, %v", id, s.Record.ID, err)
		}
	}
}

func TestCommitRefusesWhatContradictsItself(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	check(t, l.Commit(t.Context()))
	a := said(t, l, order7, "billed", 1, "t1")
	if err := l.Commit(t.Context(), a, said(t, l, order7, "closed", 2, "t1")); !fault.Is(err, fault.Internal) {
		t.Errorf("one record twice: %v", err)
	}
	b := said(t, l, account, "billed", 1, "t1")
	b.Links[order7] = b.After.Record.ID
	if err := l.Commit(t.Context(), a, b); !fault.Is(err, fault.Internal) {
		t.Errorf("one link to two records: %v", err)
	}
	b.Links[order7] = a.After.Record.ID // both say the same
	check(t, l.Commit(t.Context(), a, b))
}

func TestCommitThatIsTooLarge(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	e := said(t, l, order7, "billed", 1, "t1")
	for i := range store.MaxOps {
		e.Steps = append(e.Steps, Step{At: epoch, Trace: "t1", Detail: fmt.Sprint(i)})
	}
	err := l.Commit(t.Context(), e)
	if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), fmt.Sprint(store.MaxOps)) || !strings.Contains(err.Error(), "operations") {
		t.Errorf("too many operations: %v", err)
	}
	if open(t, l, order7).State.Exists() {
		t.Error("some of it was written")
	}
	e.Steps = nil
	for i := range 12 {
		e.Steps = append(e.Steps, Step{At: epoch, Trace: "t1", Step: fmt.Sprint(i), Detail: strings.Repeat("x", 300<<10)})
	}
	if err := l.Commit(t.Context(), e); !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), fmt.Sprint(store.MaxBatchSize)) {
		t.Errorf("too many bytes: %v", err)
	}
}

func TestMarkDueIncludesOwnersOfApprovedProposals(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{"netsuite": {Ref: order7,
		Said: map[string]record.Cell{"status": {Value: record.TextValue("billed"), Version: record.Version{At: epoch}}}}}}}
	s.Record, _ = record.Fold(s.Record, rules(), on, epoch)
	s.Record.Proposals = map[string]record.Proposal{"salesforce/status": {ID: "p", Platform: "salesforce", Group: "status", Status: record.ProposalApproved,
		Fields: map[string]record.Ask{"status": {Owner: "netsuite", Before: record.TextValue("billed"), After: record.TextValue("closed"), Seen: record.Version{At: epoch}}}}}
	if wake := s.MarkDue(rules(), forms, "t1", budget.Live, epoch, true); !slices.Contains(wake, "netsuite") {
		t.Errorf("woken: %v", wake)
	}
}

// What two entries write without a condition is written once, as the later one says.
func TestEntriesMayConcernOneThing(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	a, b := said(t, l, order7, "billed", 1, "t1"), said(t, l, account, "billed", 1, "t1")
	a.Rechecks, b.Rechecks = []Recheck{{Ref: order7, Reason: "one"}}, []Recheck{{Ref: order7, Reason: "two"}}
	check(t, l.Commit(t.Context(), a, b))
	for r, err := range l.Rechecks(t.Context()) {
		check(t, err)
		if r.Reason != "two" {
			t.Errorf("recheck %+v", r)
		}
	}
}
