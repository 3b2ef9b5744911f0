package vendorhttp

import (
	"context"
	"sync"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

// alone is the gate of a client that shares its platform with nobody.
type alone struct {
	cfg   Config
	slots chan struct{}

	mu       sync.Mutex
	failures int       // consecutive
	opened   int       // times the breaker opened since the last answer
	until    time.Time // breaker open or throttled until
	reason   fault.Class
	probing  bool
}

func newAlone(cfg Config) *alone {
	return &alone{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency)}
}

func (a *alone) Enter(ctx context.Context, _ budget.Call) (func(budget.Outcome), error) {
	if err := a.admit(); err != nil {
		return nil, err
	}
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		a.settle(budget.Outcome{Unsent: true})
		return nil, &fault.Error{Class: fault.Down, Code: fault.NotCalled, RetryAt: a.cfg.Now().Add(a.cfg.Cooldown), Err: ctx.Err()}
	}
	return func(o budget.Outcome) { <-a.slots; a.settle(o) }, nil
}

// admit refuses calls while the breaker is open or the vendor asked for a pause. When the pause of an open
// breaker is over, one probe at a time is let through.
func (a *alone) admit() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	if a.reason == "" {
		return nil
	}
	if now.Before(a.until) || (a.reason == fault.Down && a.probing) {
		at := a.until
		if !at.After(now) {
			at = now.Add(a.cfg.Cooldown)
		}
		return &fault.Error{Class: a.reason, Code: fault.NotCalled, RetryAt: at,
			Detail: "not called: " + map[fault.Class]string{fault.Down: "breaker is open", fault.Throttled: "the vendor asked for a pause"}[a.reason]}
	}
	a.probing = a.reason == fault.Down
	return nil
}

func (a *alone) settle(o budget.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.probing = false
	if o.Unsent {
		return
	}
	now := a.cfg.Now()
	switch {
	case o.Local:
		a.failures = 0
	case fault.Is(o.Err, fault.Throttled):
		if at := fault.RetryAt(o.Err); at.After(a.until) && at.After(now) {
			a.reason, a.until = fault.Throttled, at
		}
	case o.Silent:
		a.failures++
		if a.reason == fault.Down && now.Before(a.until) {
			return // it was sent before the breaker opened and says nothing new
		}
		if a.failures >= a.cfg.Trip {
			a.reason, a.until = fault.Down, now.Add(a.cfg.Cooldown<<min(a.opened, 5))
			a.opened++
		}
	default:
		a.failures, a.opened, a.reason = 0, 0, ""
	}
}
