package ledger

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// as commits a state that to has changed.
func as(t *testing.T, l *Ledger, id record.ID, to func(e *Entry)) {
	t.Helper()
	s := load(t, l, id)
	e := Entry{Before: s, After: s.Clone(), Now: epoch}
	to(&e)
	check(t, l.Commit(t.Context(), e))
}

func proposal(id, status string, opened time.Time) map[string]record.Proposal {
	return map[string]record.Proposal{"salesforce/credit": {ID: id, Platform: "salesforce", Group: "credit", Status: status, Revision: 1, Opened: opened,
		Fields: map[string]record.Ask{"creditLimit": {Owner: "netsuite", After: record.TextValue("5")}}}}
}

func TestProposalsAreListed(t *testing.T) {
	t.Parallel()
	l, m := metered()
	const id, other record.ID = "customer/1", "customer/2"
	as(t, l, id, func(e *Entry) { e.After.Record.Proposals = proposal("p1", record.ProposalOpen, epoch) })
	as(t, l, other, func(e *Entry) { e.After.Record.Proposals = proposal("p2", record.ProposalOpen, epoch.Add(time.Second)) })
	list := func(all bool) []string {
		t.Helper()
		var out []string
		for _, p := range must[[]ProposalEntry](t)(l.Proposals(t.Context(), all)) {
			out = append(out, string(p.Record)+" "+p.ID+" "+p.Status)
		}
		return out
	}
	if got := list(false); !slices.Equal(got, []string{"customer/2 p2 open", "customer/1 p1 open"}) {
		t.Errorf("open, the newest first: %v", got)
	}
	as(t, l, id, func(e *Entry) {})
	if n := m.count(store.Put, separatorText+"proposal"); n != 0 {
		t.Errorf("%d proposals written although none changed", n)
	}
	as(t, l, id, func(e *Entry) { e.After.Record.Proposals = proposal("p1", record.ProposalApproved, epoch) })
	if got := list(false); !slices.Equal(got, []string{"customer/2 p2 open"}) {
		t.Errorf("open: %v", got)
	}
	// The owner says it: the proposal ends, and the platform asks for something else.
	as(t, l, id, func(e *Entry) {
		e.After.Record.Proposals = proposal("p3", record.ProposalOpen, epoch.Add(time.Minute))
		e.Closed = []record.Proposal{proposal("p1", record.ProposalApplied, epoch)["salesforce/credit"]}
	})
	// The second record is merged: nobody says what becomes of what it asked for.
	as(t, l, other, func(e *Entry) { e.After.Record.Proposals, e.After.Record.Into = nil, id })
	if got := list(true); !slices.Equal(got, []string{"customer/1 p3 open", "customer/2 p2 withdrawn", "customer/1 p1 applied"}) {
		t.Errorf("all: %v", got)
	}
	p := must[ProposalEntry](t)(l.Proposal(t.Context(), "p1"))
	if p.Record != id || p.Status != record.ProposalApplied || p.Fields["creditLimit"].After != record.TextValue("5") {
		t.Errorf("proposal %+v", p)
	}
	for key, keeps := range map[string]bool{"p1": false, "p2": false, "p3": true} {
		if e := must[store.Entry](t)(m.Get(t.Context(), proposalKey(key))); e.Expires.IsZero() != keeps {
			t.Errorf("%s expires at %s", key, e.Expires)
		}
	}
	for _, unknown := range []string{"none", ""} {
		if _, err := l.Proposal(t.Context(), unknown); !fault.Is(err, fault.NotFound) {
			t.Errorf("proposal %q: %v", unknown, err)
		}
	}
}

func timers(t *testing.T, l *Ledger, until time.Time) map[record.ID]time.Time {
	t.Helper()
	out := map[record.ID]time.Time{}
	for x, err := range l.Timers(t.Context(), until) {
		check(t, err)
		if _, twice := out[x.Record]; twice {
			t.Errorf("%s has two timers", x.Record)
		}
		out[x.Record] = x.At
	}
	return out
}

func TestTimers(t *testing.T) {
	t.Parallel()
	l, m := metered()
	until := func(at time.Time) func(*Entry) {
		return func(e *Entry) {
			e.After.Record.Overrides = map[string]record.Override{"name": {Value: record.TextValue("x"), By: "ada", When: epoch, Until: at}}
		}
	}
	at := epoch.Add(time.Hour)
	as(t, l, "customer/1", until(at))
	if got := timers(t, l, at.Add(-1)); len(got) != 0 {
		t.Errorf("just before: %v", got)
	}
	if got := timers(t, l, at); !got["customer/1"].Equal(at) || got["customer/1"].Location() != time.UTC {
		t.Errorf("at that time: %v", got)
	}
	as(t, l, "customer/1", func(*Entry) {})
	if n := m.count(store.Put, separatorText+"timer") + m.count(store.Delete, separatorText+"timer"); n != 0 {
		t.Errorf("%d pointers written although nothing changed", n)
	}
	as(t, l, "customer/1", until(at.Add(time.Nanosecond)))
	if got := timers(t, l, at.Add(time.Hour)); len(got) != 1 || !got["customer/1"].Equal(at.Add(1)) {
		t.Errorf("moved: %v", got)
	}
	as(t, l, "customer/1", func(e *Entry) { e.After.Record.Into = "customer/2" })
	if got := timers(t, l, at.Add(time.Hour)); len(got) != 0 {
		t.Errorf("what was merged rests, but has %v", got)
	}
	as(t, l, "customer/1", func(e *Entry) { e.After.Record.Into = "" })
	if got := timers(t, l, at.Add(time.Hour)); len(got) != 1 {
		t.Errorf("taken apart again: %v", got)
	}
	as(t, l, "customer/1", func(e *Entry) { e.After.Record.Overrides = nil })
	if got := timers(t, l, at.Add(time.Hour)); len(got) != 0 {
		t.Errorf("ended: %v", got)
	}
}

// Whatever happens to records, there is a pointer for exactly those whose time has come, at exactly that time.
func TestTimersFollowTheRecords(t *testing.T) {
	t.Parallel()
	ids := []record.ID{"customer/1", "customer/2", "customer/3"}
	rapid.Check(t, func(rt *rapid.T) {
		l, _ := metered()
		want := map[record.ID]time.Time{}
		for range rapid.IntRange(0, 8).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "record")
			after := func(what string) time.Time {
				if n := rapid.IntRange(0, 3).Draw(rt, what); n > 0 {
					return epoch.Add(time.Duration(n) * 500 * time.Millisecond)
				}
				return time.Time{}
			}
			as(t, l, id, func(e *Entry) {
				r := &e.After.Record
				r.Held, r.Proposals = nil, proposal("p"+string(id), rapid.SampledFrom([]string{record.ProposalOpen, record.ProposalRejected}).Draw(rt, "status"), epoch)
				p := r.Proposals["salesforce/credit"]
				p.Expires = after("expires")
				r.Proposals["salesforce/credit"] = p
				r.Held = map[string]record.Hold{"zendesk/name": {Type: "refused-write", Since: epoch, Retry: after("retry")}}
				want[id] = r.Timer()
			})
		}
		until := epoch.Add(time.Second)
		got := timers(t, l, until)
		for id, at := range want {
			due := !at.IsZero() && !at.After(until)
			if x, some := got[id]; some != due || due && !x.Equal(at) {
				rt.Fatalf("%s: %v %v, want %v %v", id, x, some, at, due)
			}
		}
	})
}
