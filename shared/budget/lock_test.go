package budget_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

// trap is a Memory that does something unheard of once.
type trap struct {
	item
	load, save func()
}

func (m *trap) Budget(ctx context.Context, p string) (budget.Saved, error) {
	if do := m.load; do != nil {
		m.load = nil
		do()
	}
	return m.item.Budget(ctx, p)
}

func (m *trap) SaveBudget(ctx context.Context, p string, s budget.Saved) error {
	if do := m.save; do != nil {
		m.save = nil
		do()
	}
	return m.item.SaveBudget(ctx, p, s)
}

// A goroutine that ends, or panics, inside the store takes the lock of the gate with it neither when it comes nor when it
// goes, and what it had to tell is told by the next.
func TestStoreEndsTheGoroutine(t *testing.T) {
	t.Parallel()
	down := budget.Outcome{Err: fault.New(fault.Down, "op", "503"), Silent: true}
	for name, end := range map[string]func(){"goexit": runtime.Goexit, "panic": func() { panic("store") }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk, m := newClock(), &trap{}
			shared := budget.NewShared(m, budget.Options{Worker: "a", Now: clk.now, Trip: 1})
			g := shared.Gate("acme")
			g.Keep(atOnce(2))
			within := func(do func()) {
				t.Helper()
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					do()
				}()
				select {
				case <-done:
				case <-time.After(10 * time.Second):
					t.Fatal("the gate is stuck")
				}
			}
			m.load = end
			within(func() { _, _ = g.Enter(context.Background(), budget.Call{}) })
			clk.advance(time.Second)
			m.save = end
			within(func() { _, _ = g.Enter(context.Background(), budget.Call{}) })
			clk.advance(time.Second)
			leave, ok := try(t, g, t.Context())
			if !ok {
				t.Fatal("refused, though the store is there again")
			}
			m.save = end
			within(func() { leave(down) }) // opens the breaker, and cannot tell
			if m.save != nil {
				t.Fatal("nothing was written")
			}
			clk.advance(10 * time.Second)
			if leave, ok = try(t, g, t.Context()); ok {
				leave(budget.Outcome{})
			}
			m.load = end
			clk.advance(10 * time.Second)
			within(func() { shared.Rest(context.Background()) })
			clk.advance(10 * time.Second)
			m.load = nil
			if leave, ok = try(t, g, t.Context()); !ok {
				t.Fatal("refused in the end")
			}
			leave(budget.Outcome{})
		})
	}
}
