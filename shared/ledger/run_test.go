package ledger

import (
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/workflow"
)

const opportunity = record.ID("opportunity/a")

// starts commits a run about opportunity, as it is.
func starts(t *testing.T, l *Ledger, r Run) error {
	t.Helper()
	s := load(t, l, opportunity)
	after := s.Clone()
	after.Look(r.ID(), r.Look)
	if r.State.Ended() {
		after.Unlook(r.ID())
	}
	return l.Commit(t.Context(), Entry{Before: s, After: after, Runs: []Run{r}})
}

func running(number int) Run {
	return Run{Run: workflow.Run{Definition: "activation", Version: 1, Subject: opportunity, Number: number, State: workflow.Running, Step: "a", Began: epoch.UTC()}}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	l := New(store.NewMemory(func() time.Time { return epoch }), func() time.Time { return epoch })
	if _, some, err := l.LatestRun(t.Context(), "activation", opportunity); some || err != nil {
		t.Fatalf("a run out of nothing: %v", err)
	}
	check(t, starts(t, l, running(1)))
	if err := starts(t, l, running(1)); !fault.Is(err, fault.Conflict) {
		t.Fatalf("the same number begins twice: %v", err)
	}
	r, err := l.Run(t.Context(), "activation/opportunity/a/1")
	if err != nil || r.Step != "a" || r.rev == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	stale := r
	r.Step = "b"
	check(t, starts(t, l, r))
	if err := starts(t, l, stale); !fault.Is(err, fault.Conflict) {
		t.Fatalf("somebody else moved it, and it is written over: %v", err)
	}
	open := func() (out []RunHead) {
		for h, err := range l.OpenRuns(t.Context()) {
			check(t, err)
			out = append(out, h)
		}
		return out
	}
	if got := open(); len(got) != 1 || got[0].Step != "b" || got[0].ID != r.ID() {
		t.Fatalf("open: %+v", got)
	}
	r, err = l.Run(t.Context(), r.ID())
	check(t, err)
	r.State, r.Ended = workflow.Done, epoch.UTC()
	check(t, starts(t, l, r))
	if got := open(); len(got) > 0 {
		t.Errorf("open after its end: %+v", got)
	}
	for n := 2; n <= 12; n++ {
		check(t, starts(t, l, running(n)))
	}
	if last, some, err := l.LatestRun(t.Context(), "activation", opportunity); err != nil || !some || last.Number != 12 {
		t.Errorf("the latest: %+v, %v", last, err)
	}
	for _, id := range []string{"", "activation", "activation/opportunity/a", "activation/opportunity/a/0", "activation/opportunity/a/13"} {
		if _, err := l.Run(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestRunsMoveByTime: one pointer per record, to the first of its runs that time moves, and of everything else about it.
func TestRunsMoveByTime(t *testing.T) {
	t.Parallel()
	l := New(store.NewMemory(func() time.Time { return epoch }), func() time.Time { return epoch })
	timers := func() (out []time.Time) {
		for x, err := range l.Timers(t.Context(), epoch.Add(1000*time.Hour)) {
			check(t, err)
			out = append(out, x.At)
		}
		return out
	}
	r := running(1)
	r.Look = epoch.Add(24 * time.Hour).UTC()
	check(t, starts(t, l, r))
	other := running(2)
	other.Look = epoch.Add(5 * time.Hour).UTC()
	check(t, starts(t, l, other))
	if got := timers(); len(got) != 1 || !got[0].Equal(other.Look) {
		t.Fatalf("timers: %v", got)
	}
	other, err := l.Run(t.Context(), other.ID())
	check(t, err)
	other.State = workflow.Undone
	check(t, starts(t, l, other))
	if got := timers(); len(got) != 1 || !got[0].Equal(r.Look) {
		t.Fatalf("timers: %v", got)
	}
}

func TestMarkDueForWorkflows(t *testing.T) {
	t.Parallel()
	as := func(string, string) (func(string, record.Value) record.Value, bool) { return nil, false }
	for _, c := range []struct {
		name  string
		s     State
		rules record.Rules
		news  bool
		want  bool
	}{
		{"nothing to do with any", State{}, record.Rules{}, true, false},
		{"it may start one, and something changed", State{}, record.Rules{Workflows: []string{"activation"}}, true, true},
		{"nothing changed", State{}, record.Rules{Workflows: []string{"activation"}}, false, false},
		{"a run looks at it", State{Runs: map[string]time.Time{"r": {}}}, record.Rules{}, true, true},
		{"its time has not come", State{Runs: map[string]time.Time{"r": epoch.Add(1)}}, record.Rules{}, false, false},
		{"its time has come", State{Runs: map[string]time.Time{"r": epoch}}, record.Rules{}, false, true},
	} {
		got := c.s.MarkDue(c.rules, as, "t", budget.Live, epoch, c.news)
		if _, due := c.s.Due[record.Sorrel]; due != c.want || (len(got) == 1) != c.want {
			t.Errorf("%s: due %t, woken %v", c.name, due, got)
		}
	}
}
