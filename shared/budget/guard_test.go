package budget_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time          { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) advance(d time.Duration) { c.mu.Lock(); c.at = c.at.Add(d); c.mu.Unlock() }

// item is a Memory that counts, and fails on demand.
type item struct {
	mu          sync.Mutex
	saved       budget.Saved
	loads, puts int
	rev         int
	down        bool // nothing answers
	full        bool // nothing is written
	lose        bool // writes are done, and the answer is lost
}

func (m *item) Budget(context.Context, string) (budget.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	if m.down {
		return budget.Saved{}, fault.New(fault.Down, "item", "down")
	}
	return m.saved, nil
}

func (m *item) SaveBudget(_ context.Context, _ string, s budget.Saved) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	if m.down || m.full {
		return fault.New(fault.Down, "item", "down")
	}
	if s.Rev != m.saved.Rev {
		return fault.New(fault.Conflict, "item", "changed")
	}
	m.rev++
	m.saved = budget.Saved{State: s.State, Rev: time.Duration(m.rev).String()}
	if m.lose {
		return fault.New(fault.Down, "item", "answer lost")
	}
	return nil
}

func (m *item) requests() int { m.mu.Lock(); defer m.mu.Unlock(); return m.loads + m.puts }

func perMinute(n int) budget.Rules {
	return budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: n, Window: time.Minute}}, Hold: 15 * time.Second}
}

func atOnce(n int) budget.Rules {
	return budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: n}}, Hold: 15 * time.Second}
}

func worker(m budget.Memory, clk *clock, id string, r budget.Rules) *budget.Guard {
	g := budget.NewShared(m, budget.Options{Worker: id, Now: clk.now}).Gate("acme")
	g.Keep(r)
	return g
}

// try enters, and says whether it was let through.
func try(t *testing.T, g budget.Gate, ctx context.Context, names ...string) (func(budget.Outcome), bool) {
	t.Helper()
	leave, err := g.Enter(ctx, budget.Call{Limits: names})
	if err == nil {
		return leave, true
	}
	if !budget.Refused(err) || !fault.RetryAt(err).After(time.Time{}) {
		t.Fatalf("refused with %v", err)
	}
	return nil, false
}

func TestFewStoreRequests(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	var guards []*budget.Guard
	for _, id := range []string{"a", "b", "c", "d"} {
		guards = append(guards, worker(m, clk, id, perMinute(10_000)))
	}
	calls := 0
	for range 60 * 10 { // a minute, 40 calls a second
		for _, g := range guards {
			leave, ok := try(t, g, t.Context())
			if !ok {
				t.Fatal("refused")
			}
			leave(budget.Outcome{})
			calls++
		}
		clk.advance(100 * time.Millisecond)
	}
	per := 1000 * m.requests() / calls
	t.Logf("%d store requests (%d writes) per %d calls: %d per 1,000; item of %d bytes", m.requests(), m.puts, calls, per, len(m.saved.State))
	if per > 120 {
		t.Errorf("%d store requests per 1,000 calls", per)
	}
}

func TestSlotsReturnAndAreShared(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	a, b := worker(m, clk, "a", atOnce(5)), worker(m, clk, "b", atOnce(5))
	var leaves []func(budget.Outcome)
	for range 5 {
		leave, ok := try(t, a, t.Context())
		if !ok {
			t.Fatalf("alone, and refused with %d of 5 under way", len(leaves))
		}
		leaves = append(leaves, leave)
	}
	if _, ok := try(t, a, t.Context()); ok {
		t.Fatal("six of five")
	}
	if _, ok := try(t, b, t.Context()); ok {
		t.Fatal("six of five, the sixth by another worker")
	}
	clk.advance(2 * time.Second)
	for _, leave := range leaves {
		leave(budget.Outcome{})
	}
	most, got := 0, map[string]int{}
	for range 20 { // calls of a second, as many as there may be
		leaves = nil
		for range 5 {
			for id, g := range map[string]*budget.Guard{"a": a, "b": b} {
				if leave, ok := try(t, g, t.Context()); ok {
					leaves = append(leaves, leave)
					got[id]++
				}
			}
		}
		most = max(most, len(leaves))
		clk.advance(time.Second)
		for _, leave := range leaves {
			leave(budget.Outcome{})
		}
	}
	if most > 5 || got["a"]+got["b"] < 75 || got["b"] < 25 || got["a"] < 25 {
		t.Errorf("at most %d at once, in all %v", most, got)
	}
}

func TestBreakerOneProbeAmongAll(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	a, b := worker(m, clk, "a", atOnce(5)), worker(m, clk, "b", atOnce(5))
	down := budget.Outcome{Err: fault.New(fault.Down, "op", "503"), Silent: true}
	for range 5 {
		leave, ok := try(t, a, t.Context())
		if !ok {
			t.Fatal("refused before it is known to be down")
		}
		leave(down)
	}
	if _, ok := try(t, a, t.Context()); ok {
		t.Fatal("open, and let through")
	}
	if _, ok := try(t, b, t.Context()); ok {
		t.Fatal("the other worker has not heard of it")
	}
	clk.advance(2 * time.Second)
	probe, ok := try(t, b, t.Context())
	if !ok {
		t.Fatal("no probe")
	}
	for _, g := range []*budget.Guard{a, b} {
		if _, ok := try(t, g, t.Context()); ok {
			t.Fatal("a second probe")
		}
	}
	probe(down) // two seconds from now
	clk.advance(1900 * time.Millisecond)
	if _, ok := try(t, a, t.Context()); ok {
		t.Fatal("the pause did not double")
	}
	clk.advance(200 * time.Millisecond)
	if probe, ok = try(t, a, t.Context()); !ok {
		t.Fatal("no second probe")
	}
	probe(budget.Outcome{})
	for _, g := range []*budget.Guard{a, b} {
		clk.advance(budget.Fresh)
		if leave, ok := try(t, g, t.Context()); !ok {
			t.Fatal("still open")
		} else {
			leave(budget.Outcome{})
		}
	}
}

// Who reads that the breaker is open makes no call, whether it can write down its turn or not.
func TestBreakerWithoutATurn(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	a, b := worker(m, clk, "a", perMinute(1000)), worker(m, clk, "b", perMinute(1000))
	for _, g := range []*budget.Guard{b, a} { // with a lease
		leave, ok := try(t, g, t.Context())
		if !ok {
			t.Fatal("refused")
		}
		leave(budget.Outcome{})
	}
	for range 5 {
		leave, ok := try(t, a, t.Context())
		if !ok {
			t.Fatal("refused before it is known to be down")
		}
		leave(budget.Outcome{Err: fault.New(fault.Down, "op", "503"), Silent: true})
	}
	clk.advance(budget.Fresh) // time for a probe
	m.full = true
	if _, ok := try(t, b, t.Context()); ok {
		t.Fatal("let through without being given the one call")
	}
	m.full = false
	clk.advance(time.Second)
	leave, ok := try(t, b, t.Context())
	if !ok {
		t.Fatal("no probe")
	}
	leave(budget.Outcome{})
	if _, ok = try(t, b, t.Context()); !ok {
		t.Fatal("still open")
	}
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	a := worker(m, clk, "a", perMinute(1000))
	leave, ok := try(t, a, t.Context())
	if !ok {
		t.Fatal("refused")
	}
	leave(budget.Outcome{})
	m.down = true
	if leave, ok = try(t, a, t.Context()); !ok {
		t.Fatal("refused on a valid lease")
	}
	leave(budget.Outcome{})
	clk.advance(budget.Calm)
	_, err := a.Enter(t.Context(), budget.Call{})
	if !budget.Refused(err) || !fault.Is(err, fault.Throttled) || fault.RetryAt(err).Sub(clk.now()) > 2*time.Second {
		t.Fatalf("without a lease and without a store: %v", err)
	}
	m.down = false
	clk.advance(time.Second)
	if _, ok = try(t, a, t.Context()); !ok {
		t.Fatal("the store is back")
	}
}

func TestWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	g := budget.Local("acme", atOnce(3), budget.Options{Worker: "w", Now: newClock().now, Patience: 10 * time.Second})
	var now, most atomic.Int64
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			leave, err := g.Enter(context.Background(), budget.Call{})
			if err != nil {
				t.Error(err)
				return
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			now.Add(-1)
			leave(budget.Outcome{})
		})
	}
	group.Wait()
	if most.Load() != 3 {
		t.Errorf("%d at once, want 3", most.Load())
	}
	leave, _ := g.Enter(t.Context(), budget.Call{})
	_, _ = g.Enter(t.Context(), budget.Call{})
	_, _ = g.Enter(t.Context(), budget.Call{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Enter(ctx, budget.Call{}); !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Down) {
		t.Errorf("a waiter whose caller gave up: %v", err)
	}
	leave(budget.Outcome{})
}

func BenchmarkEnterLeave(b *testing.B) {
	clk, m := newClock(), &item{}
	for _, bb := range []struct {
		name string
		r    budget.Rules
	}{{"per minute", perMinute(1 << 30)}, {"at once", atOnce(5)}} {
		b.Run(bb.name, func(b *testing.B) {
			g := worker(m, clk, bb.name, bb.r)
			ctx := b.Context()
			for range 12 { // it asks for more each time
				for range 1 << 20 {
					leave, err := g.Enter(ctx, budget.Call{})
					if err != nil {
						b.Fatal(err)
					}
					leave(budget.Outcome{})
					if bb.name == "at once" {
						break
					}
				}
			}
			before := m.requests()
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				leave, err := g.Enter(ctx, budget.Call{})
				if err != nil {
					b.Fatal(err)
				}
				leave(budget.Outcome{})
			}
			b.ReportMetric(float64(m.requests()-before), "store-requests")
		})
	}
}

// A limit of one call a second is kept to the second by all workers together, and not much below.
func TestShortWindow(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	r := budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: 1000, Window: time.Minute}, {Name: "users", Max: 1, Window: time.Second}}}
	a, b := worker(m, clk, "a", r), worker(m, clk, "b", r)
	var made []time.Time
	got := map[string]int{}
	for range 1200 {
		for id, g := range map[string]*budget.Guard{"a": a, "b": b} {
			if leave, ok := try(t, g, t.Context(), "users"); ok {
				leave(budget.Outcome{})
				made = append(made, clk.now())
				got[id]++
			}
		}
		clk.advance(50 * time.Millisecond)
	}
	for i := 1; i < len(made); i++ {
		if made[i].Sub(made[i-1]) < time.Second {
			t.Fatalf("two calls within %v", made[i].Sub(made[i-1]))
		}
	}
	t.Logf("%d calls a minute, %v, %d store requests", len(made), got, m.requests())
	if len(made) < 30 || got["a"] < 10 || got["b"] < 10 {
		t.Errorf("%d calls in a minute, %v", len(made), got)
	}
}

// Where time is not real, a call that waits for its turn takes the time that it is told to pass, and none of the machine's.
func TestWaitInVirtualTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	waited := time.Duration(0)
	g := budget.Local("netsuite", budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: 1}}}, budget.Options{Worker: "one", Now: func() time.Time { return now }, Patience: time.Hour,
		Wait: func(d time.Duration) { waited, now = waited+d, now.Add(d) }})
	if _, err := g.Enter(t.Context(), budget.Call{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Enter(t.Context(), budget.Call{}); !budget.Refused(err) || waited != time.Hour {
		t.Errorf("%v after %s, want a refusal after an hour", err, waited)
	}
}
