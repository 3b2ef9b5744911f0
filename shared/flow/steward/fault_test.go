package steward_test

import (
	"fmt"
	"testing"

	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// Whichever call of the store fails, loses its answer or tells what was so before: whoever asks again gets what he asked
// for, it is done once, and the log says it once.
func TestAskedAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	// acting makes a world, and an action in it that leaves an event in the log of a record.
	type acting func(testing.TB) (*world, record.ID, func() error)
	act := func(w *world, x ledger.Exception, a steward.Action) func() error {
		a.Exception = x.ID
		return func() error {
			_, err := w.steward.Act(w.ctx(), w.who("stewart"), a)
			return err
		}
	}
	for action, begin := range map[string]acting{
		"approved": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, p := asked(t, "sf-sarah")
			return w, id, func() error {
				_, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true})
				return err
			}
		},
		"retried": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, x := held(t)
			return w, id, act(w, x, steward.Action{Do: steward.Retry})
		},
		"exception-ignored": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, x := held(t)
			return w, id, act(w, x, steward.Action{Do: steward.Ignore, Reason: "known"})
		},
		"accepted": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, x := split(t)
			return w, id, act(w, x, steward.Action{Do: steward.Accept, Platform: record.Salesforce})
		},
		"linked": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, x := stray(t)
			return w, id, act(w, x, steward.Action{Do: steward.Link, Record: id})
		},
		"merged": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, _, x := twins(t)
			return w, id, act(w, x, steward.Action{Do: steward.Merge})
		},
		"kept-apart": func(t testing.TB) (*world, record.ID, func() error) {
			w, id, _, x := twins(t)
			return w, id, act(w, x, steward.Action{Do: steward.KeepApart})
		},
	} {
		for kind, fails := range map[string]storetest.Fault{"before": storetest.FailBefore, "after": storetest.FailAfter, "stale": storetest.Stale} {
			for nth := 1; ; nth++ {
				w, id, do := begin(t)
				calls := 0
				w.store.Next = func(string, []store.Key) storetest.Fault {
					if calls++; calls == nth {
						return fails
					}
					return storetest.None
				}
				_ = do() // whatever it says
				w.store.Next = nil
				if calls < nth {
					break // so many calls it does not make
				}
				at := fmt.Sprintf("%s, call %d %s", action, nth, kind)
				if err := do(); err != nil {
					t.Fatalf("%s: %v", at, err)
				}
				if n := w.times(id, action); n != 1 {
					t.Errorf("%s: logged %d times", at, n)
				}
				w.zendesk.down = false
				w.settle()
				for _, f := range w.fakes() {
					for p := range w.ledger.DueFor(w.ctx(), f.name) {
						t.Errorf("%s: %s is due for %s for ever", at, p.Record, f.name)
					}
				}
			}
		}
	}
}

// times counts an event in the log of a record.
func (w *world) times(id record.ID, action string) int {
	w.t.Helper()
	log, err := w.operate.Log(w.ctx(), id)
	w.must(err)
	n := 0
	for _, entry := range log {
		for _, e := range entry.Events {
			if e.Action == action {
				n++
			}
		}
	}
	return n
}
