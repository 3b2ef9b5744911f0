package ledger

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// logs gives records a line in their logs, each a minute after the one before.
func logs(t *testing.T, l *Ledger, ids ...record.ID) {
	t.Helper()
	for i, id := range ids {
		states, err := l.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		before := states[id]
		after := before.Clone()
		after.Record.ID = id
		e := Entry{Before: before, After: after, Now: epoch.Add(time.Duration(i) * time.Minute), Events: []record.Event{{Action: "matched", Trace: "t"}}}
		if err := l.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// A scan can be broken off after any chain, and taken up again there: each entry comes once, chains in one piece.
func TestScanGoesOnAnywhere(t *testing.T) {
	t.Parallel()
	l := New(store.NewMemory(time.Now), time.Now)
	var ids []record.ID
	for i := range 40 {
		ids = append(ids, record.ID(fmt.Sprintf("order/%02d", i)), record.ID(fmt.Sprintf("orders/%02d", i)))
	}
	logs(t, l, ids...)
	logs(t, l, ids[:20]...)
	if err := l.Note(t.Context(), LogEntry{By: "ada", Events: []record.Event{{Action: "x"}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		entity string
		want   int
	}{{"", 100}, {"order", 50}, {"orders", 50}, {"ord", 0}} {
		seen := map[string]int{}
		at, n := LogMark{}, 0
		for more := true; more; {
			more = false
			now := LogMark{}
			for e, err := range l.Scan(t.Context(), at, c.entity) {
				if err != nil {
					t.Fatal(err)
				}
				next := LogMark{e.Shard, e.Chain}
				if now != (LogMark{}) && next != now {
					at, more = now, true
					break
				}
				now = next
				if seen[e.Chain]++; e.At.Before(epoch) {
					t.Errorf("%+v", e)
				}
				n++
			}
		}
		if n != c.want || len(seen) != min(c.want, c.want*4/5) {
			t.Errorf("%q: %d entries of %d chains, want %d", c.entity, n, len(seen), c.want)
		}
	}
}

// Of two who move a replay on, one is first. It is among those to be moved on as long as it is planned or run.
func TestReplaysAreMovedOnByOne(t *testing.T) {
	t.Parallel()
	l := New(store.NewMemory(time.Now), time.Now)
	ctx := t.Context()
	active := func(want ...string) {
		t.Helper()
		if got, err := l.Replaying(ctx); err != nil || !slices.Equal(got, want) {
			t.Errorf("active are %v, %v; want %v", got, err, want)
		}
	}
	r, err := l.SaveReplay(ctx, Replay{ID: "r1", State: ReplayPlanning, Created: epoch}, nil, &LogEntry{By: "ada", Events: []record.Event{{Action: "replay-planned"}}})
	if err != nil {
		t.Fatal(err)
	}
	active("r1")
	if _, err := l.SaveReplay(ctx, Replay{ID: "r1", State: ReplayPlanning}, nil, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("made twice: %v", err)
	}
	mine, theirs := r, r
	mine.State, mine.Plan.Pages = ReplayPlanned, 1
	if mine, err = l.SaveReplay(ctx, mine, []PlanEntry{{Record: "order/1", Verdict: "apply"}}, nil); err != nil {
		t.Fatal(err)
	}
	active()
	theirs.State = ReplayCancelled
	if _, err := l.SaveReplay(ctx, theirs, nil, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("both were first: %v", err)
	}
	if page, err := l.PlanPage(ctx, "r1", 0); err != nil || len(page) != 1 || page[0].Record != "order/1" {
		t.Errorf("%+v, %v", page, err)
	}
	for _, missing := range []func() error{
		func() error { _, err := l.PlanPage(ctx, "r1", 1); return err },
		func() error { _, err := l.Replay(ctx, "r2"); return err },
		func() error { _, err := l.Replay(ctx, ""); return err },
	} {
		if err := missing(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v", errors.Unwrap(err))
		}
	}
	mine.State = ReplayRunning
	if mine, err = l.SaveReplay(ctx, mine, nil, nil); err != nil {
		t.Fatal(err)
	}
	active("r1")
	mine.State = ReplayDone
	if _, err = l.SaveReplay(ctx, mine, nil, nil); err != nil {
		t.Fatal(err)
	}
	active()
	if all, err := l.Replays(ctx); err != nil || len(all) != 1 || all[0].State != ReplayDone {
		t.Errorf("%+v, %v", all, err)
	}
	if v, err := l.Verify(ctx, nil); err != nil || len(v.Broken) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}
