package budget_test

import (
	"testing"
	"time"

	"sorrel/shared/budget"
)

// A change that comes back each half minute for the one call at once finds it, however often listings take it between.
func TestWhatIsMissedIsKept(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	start := clk.now()
	at := func(id string, class budget.Class) (func(budget.Outcome), bool) {
		return try(t, worker(m, clk, id, atOnce(1)), budget.For(t.Context(), budget.Purpose{Class: class}))
	}
	if _, ok := at("dies", budget.Reconcile); !ok {
		t.Fatal("nobody holds it, and it is refused")
	}
	clk.advance(time.Second)
	if _, ok := at("first", budget.Live); ok {
		t.Fatal("two calls at once")
	}
	lists := 0
	for range 28 { // a worker each second, after the dead one's lease as well
		clk.advance(time.Second)
		if leave, ok := at("lists", budget.Reconcile); ok {
			leave(budget.Outcome{})
			lists++
		}
	}
	if clk.now().Sub(start) < over(atOnce(1), budget.Lease) || lists > 0 {
		t.Fatalf("%d listings take what a change was refused", lists)
	}
	leave, ok := at("second", budget.Live)
	if !ok {
		t.Fatal("the change finds nothing")
	}
	leave(budget.Outcome{})
	clk.advance(over(atOnce(1), budget.Lease))
	if leave, ok = at("lists", budget.Reconcile); !ok {
		t.Fatal("the change was made, and nothing is left to listings")
	}
	leave(budget.Outcome{})
}

// What is kept for a change that nobody makes after all is free after a minute.
func TestKeptForAMinute(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	rules := atOnce(1)
	at := func(id string, class budget.Class) bool {
		leave, ok := try(t, worker(m, clk, id, rules), budget.For(t.Context(), budget.Purpose{Class: class}))
		if ok {
			leave(budget.Outcome{})
		}
		return ok
	}
	if _, ok := try(t, worker(m, clk, "dies", rules), t.Context()); !ok {
		t.Fatal("refused")
	}
	clk.advance(5 * time.Second)
	if at("gives up", budget.Live) {
		t.Fatal("two calls at once")
	}
	refused := clk.now()
	for !at("replays", budget.Replay) {
		if clk.advance(time.Second); clk.now().Sub(refused) > time.Minute+5*time.Second {
			t.Fatal("what is kept for a change is never free again")
		}
	}
}
