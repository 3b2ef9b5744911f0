package platformtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

// Gate keeps limits within one process, exactly and without mercy: a call that does not fit is refused, or waits for
// another to end where only that helps. It remembers which limits calls named and what answers said. It is safe for
// concurrent use.
type Gate struct {
	now func() time.Time

	mu     sync.Mutex
	freed  *sync.Cond
	limits map[string]*limit
	named  map[string]bool
	said   []budget.Reading
	paused time.Time
}

type limit struct {
	budget.Limit
	busy  int
	ends  []time.Time // of calls that ended within the window
	left  int         // by the last answer, until then
	until time.Time
}

// NewGate returns a gate before limits.
func NewGate(limits []budget.Limit, now func() time.Time) *Gate {
	g := &Gate{now: now, limits: map[string]*limit{}, named: map[string]bool{}}
	g.freed = sync.NewCond(&g.mu)
	for _, l := range limits {
		g.limits[l.Name] = &limit{Limit: l}
	}
	return g
}

// Named are the limits of endpoints that calls named, sorted.
func (g *Gate) Named() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for name := range g.named {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Said is what answers said, in order.
func (g *Gate) Said() []budget.Reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.said)
}

// Enter lets a call through.
func (g *Gate) Enter(_ context.Context, c budget.Call) (func(budget.Outcome), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := []string{budget.Calls}
	for _, name := range c.Limits {
		g.named[name] = true
		if g.limits[name] != nil {
			names = append(names, name)
		}
	}
	for again := true; again; {
		again = false
		if at := g.paused; at.After(g.now()) {
			return nil, refused(at)
		}
		for _, name := range names {
			switch l, now := g.limits[name], g.now(); {
			case l.fits(now):
			case l.busy > 0: // what it says may change
				g.freed.Wait()
				again = true
			default:
				return nil, refused(l.free(now))
			}
			if again {
				break
			}
		}
	}
	for _, name := range names {
		g.limits[name].busy++
		g.limits[name].left--
	}
	return func(o budget.Outcome) { g.leave(names, o) }, nil
}

func refused(at time.Time) error {
	return &fault.Error{Class: fault.Throttled, Code: fault.NotCalled, RetryAt: at, Detail: "not called"}
}

func (l *limit) fits(now time.Time) bool {
	l.ends = slices.DeleteFunc(l.ends, func(at time.Time) bool { return !at.Add(l.Window).After(now) })
	return l.busy+len(l.ends) < l.Max && (l.left > 0 || !l.until.After(now))
}

// free is when a call may fit.
func (l *limit) free(now time.Time) time.Time {
	at := now.Add(time.Second)
	if len(l.ends) > 0 && len(l.ends) >= l.Max {
		at = l.ends[0].Add(l.Window)
	}
	if l.until.After(at) && l.left <= 0 {
		at = l.until
	}
	return at
}

func (g *Gate) leave(names []string, o budget.Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.freed.Broadcast()
	now := g.now()
	for _, name := range names {
		l := g.limits[name]
		l.busy--
		if l.Window > 0 {
			l.ends = append(l.ends, now)
		}
	}
	g.said = append(g.said, o.Readings...)
	for _, r := range o.Readings {
		l := g.limits[r.Limit]
		if l == nil {
			continue
		}
		if r.Max > 0 {
			l.Max = r.Max
		}
		until := r.Reset
		if until.IsZero() {
			until = now.Add(l.Window)
		}
		if left := r.Left - l.busy; r.Left >= 0 && (!l.until.After(now) || left < l.left) {
			l.left, l.until = left, until
		}
	}
	if fault.Is(o.Err, fault.Throttled) && !o.Local {
		g.paused = fault.RetryAt(o.Err)
	}
}

// Work lets workers do jobs side by side, each again when its refusal says. The clock moves when nobody has anything to do
// before: to the earliest such moment. It returns how many calls the platform itself refused.
func Work(t *testing.T, clock *Clock, workers, jobs int, do func(ctx context.Context, job int) error) (refusals int) {
	t.Helper()
	var mu sync.Mutex
	later := sync.NewCond(&mu)
	next, awake := 0, workers
	waking := map[int]time.Time{} // by worker
	// move is called with the lock when a worker has stopped to be awake.
	move := func() {
		if awake > 0 || len(waking) == 0 {
			return
		}
		first := slices.MinFunc(slices.Collect(maps.Values(waking)), time.Time.Compare)
		if d := first.Sub(clock.Now()); d > 0 {
			clock.Advance(d)
		}
		for worker, at := range waking {
			if !at.After(clock.Now()) {
				delete(waking, worker)
				awake++
			}
		}
		later.Broadcast()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < jobs {
				job := next
				next++
				for {
					clock.Advance(10 * time.Millisecond) // calls take time
					mu.Unlock()
					err := do(ctx, job)
					mu.Lock()
					if err != nil && (!fault.Is(err, fault.Throttled) || ctx.Err() != nil) {
						t.Errorf("job %d: %v", job, err)
					}
					if !fault.Is(err, fault.Throttled) || ctx.Err() != nil {
						break
					}
					if !budget.Refused(err) {
						refusals++
					}
					waking[worker] = fault.RetryAt(err)
					awake--
					move()
					for _, waits := waking[worker]; waits; _, waits = waking[worker] {
						later.Wait()
					}
				}
			}
			awake--
			move()
		})
	}
	wg.Wait()
	return refusals
}

// Share returns the gates of two processes that share a platform's budget.
func Share(limits []budget.Limit, now func() time.Time, patience time.Duration) [2]budget.Gate {
	var gates [2]budget.Gate
	memory := budget.NewMemory()
	for i := range gates {
		shared := budget.NewShared(memory, budget.Options{Worker: fmt.Sprint("worker-", i), Now: now, Patience: patience})
		gate := shared.Gate("platform")
		gate.Keep(budget.Rules{Limits: limits})
		gates[i] = gate
	}
	return gates
}
