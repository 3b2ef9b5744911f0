package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// limit is what a platform lets us call, as the vendor counts it: calls at once from when they arrive, or calls that
// arrive within any window.
type limit struct {
	budget.Limit
	busy    int
	arrived []time.Time    // within the window
	breaker budget.Breaker // as it stands in the store
	opened  time.Time      // when that was known there
	silent  map[string]int // calls in a row that got no answer, by process, since it was closed last
	finding time.Time      // by when the one call must be over that finds out about a platform; zero = it is
	hungry  time.Time      // since when calls for live changes have found the budget used up, zero = they have not
	refused time.Time      // when one did last
}

// window of a platform's limit: NetSuite and Salesforce count calls at once.
func window(platform string) time.Duration {
	switch platform {
	case record.Zendesk:
		return time.Minute
	case record.ServiceNow:
		return time.Hour
	}
	return 0
}

func newLimit(name string, p Profile) *limit {
	if most := p.Limits[name]; most > 0 {
		return &limit{Limit: budget.Limit{Name: budget.Calls, Max: most, Window: window(name)}, silent: map[string]int{}}
	}
	return nil
}

// used is how much of the limit is.
func (l *limit) used(now time.Time) int {
	if l.Window == 0 {
		return l.busy
	}
	l.arrived = slices.DeleteFunc(l.arrived, func(at time.Time) bool { return !at.Add(l.Window).After(now) })
	return len(l.arrived)
}

// breakerOf is the breaker in a budget as it is stored.
func breakerOf(state []byte) (budget.Breaker, error) {
	var s struct{ Breaker budget.Breaker }
	err := json.Unmarshal(state, &s)
	return s.Breaker, err
}

// saving is a write of a platform's budget.
type saving struct {
	*limit
	state []byte
}

// looked is what a process knows of a platform's budget.
type looked struct {
	at     time.Time // when it asked for what it was answered last
	failed bool      // it was not the last time it asked
}

// memory is where processes meet: the ledger, over the store as the process reaches it.
type memory struct{ p *process }

// storeTime is how long a process waits for the store.
const storeTime = 2 * time.Second

// asked makes a request to the store. Should the process crash in it, the guard that asked hears that it failed, for it
// holds a lock; the process goes no further than to its next call.
func (m memory) asked(do func() error) error {
	began, done, err := m.p.w.now, make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		err = do()
	}()
	<-done
	if m.p.dead || m.p.w.now.Sub(began) > storeTime {
		return fault.New(fault.Down, "store", "no answer came in time")
	}
	return err
}

// Budget implements budget.Memory.
func (m memory) Budget(ctx context.Context, platform string) (found budget.Saved, err error) {
	look := looked{at: m.p.w.now}
	err = m.asked(func() (err error) {
		found, err = m.p.ledger.Budget(ctx, platform)
		return err
	})
	if err != nil {
		look = looked{m.p.looked[platform].at, true}
	}
	m.p.looked[platform] = look
	return found, err
}

// SaveBudget implements budget.Memory.
func (m memory) SaveBudget(ctx context.Context, platform string, s budget.Saved) error {
	m.p.saving = &saving{m.p.w.site(platform).limit, s.State}
	defer func() { m.p.saving = nil }()
	return m.asked(func() error { return m.p.ledger.SaveBudget(ctx, platform, s) })
}

// saved notes the breaker that now stands in the store.
func (p *process) saved() {
	if p.saving == nil {
		return
	}
	b, err := breakerOf(p.saving.state)
	if err != nil {
		p.w.wrong("cannot read a budget: %v", err)
	}
	if b.Open != p.saving.breaker.Open {
		p.w.gates[map[bool]string{true: "breaker opens", false: "breaker closes"}[b.Open]]++
		clear(p.saving.silent)
	}
	if b.Open && !b.Since.Equal(p.saving.breaker.Since) {
		p.saving.opened = p.w.now
	}
	p.saving.breaker = b
}

// share gives a process the gates of the platforms. Its clock is up to half a second off.
func (p *process) share() {
	w := p.w
	off := time.Duration(w.c.chance("clock", p.name, 0)%1000)*time.Millisecond - 500*time.Millisecond
	p.looked = map[string]looked{}
	p.gates = budget.NewShared(memory{p}, budget.Options{
		Worker: p.name, Now: func() time.Time { return w.now.Add(off) }, Rand: w.jitter, Trip: w.c.Profile.Trip, Patience: 5 * time.Second,
		Watch: w.watch, Wait: func(d time.Duration) { w.wait(&p.task, d) },
	})
	for _, s := range w.sites {
		if s.limit != nil {
			p.gates.Gate(s.name).Keep(budget.Rules{Limits: []budget.Limit{s.limit.Limit}})
		}
	}
}

// rest hands back what others may need, as functions do at their end.
func (p *process) rest() {
	if p.gates != nil && p.w.c.Profile.Rests && !p.dead {
		p.gates.Rest(context.Background())
	}
}

// starving is how long calls for live changes may find nothing while others are let through: what these were given
// they may use to the end of its lease, and a window takes its time.
const starving = 3 * time.Minute

// watch holds gates to letting live changes go first.
func (w *world) watch(n budget.Notice) {
	l := w.site(n.Platform).limit
	switch {
	case n.What == budget.Passed:
		w.gates[n.Class.String()+" passed"]++
	case n.What == budget.Rejected:
		w.gates["not called: "+n.Reason]++
	}
	switch live := n.Class == budget.Live; {
	case n.What == budget.Passed && live:
		l.hungry = time.Time{}
	case n.What == budget.Rejected && live && n.Reason == "budget":
		if l.hungry.IsZero() || w.now.Sub(l.refused) > time.Minute {
			l.hungry = w.now
		}
		l.refused = w.now
	case n.What == budget.Passed && !l.hungry.IsZero() && w.now.Sub(l.hungry) > starving && w.now.Sub(l.refused) < time.Minute:
		w.wrong("starved: %s takes calls for %s, and none for live changes since %s", n.Platform, n.Class, w.now.Sub(l.hungry))
	}
}

// frozen is how long a process stands still before a call that is late, and after it; the call itself takes long.
const (
	frozen = 50 * time.Second
	still  = 5 * time.Second
)

// call is a call from a process to a platform. Where that has limits it goes through the gate.
func (o port) call(ctx context.Context, kind, what string, do func() error) error {
	p, w, l := o.p, o.w, o.limit
	if l == nil {
		return p.call(o.name, kind, what, do)
	}
	name := o.name + "." + kind
	f, n := p.plans(name, kind, what)
	latency := 25 * time.Millisecond * time.Duration(1+w.c.chance("latency", name, n)%8)
	if o.name == record.NetSuite {
		latency *= 8
	}
	if f == slow {
		w.wait(&p.task, frozen)
	}
	if f == slow || w.down(o.name) {
		latency = still
	}
	leave, err := p.gates.Gate(o.name).Enter(context.WithoutCancel(ctx), budget.Call{Write: kind == "write"})
	p.alive()
	if err != nil { // what was to go wrong stays on the list although it did not come to pass: the history tells of it
		e := *fault.Outermost(err)
		e.Op = name
		w.note(p.name, name, "→ "+e.Error(), none)
		return &e
	}
	finds := l.probed(p, o.site)
	var said []budget.Reading
	err = p.makes(o.name, name, f, latency, func() error {
		if l.used(w.now) >= l.Max {
			w.wrong("over: %s is called by %s beyond its limit of %d", name, p.name, l.Max)
			return &fault.Error{Class: fault.Throttled, Op: name, Detail: "too many calls", RetryAt: w.now.Add(5 * time.Second)}
		}
		if l.Window > 0 {
			l.arrived = append(l.arrived, w.now)
		} else {
			l.busy++
			ends := latency
			if f == crashAfter { // it does not end with who made it
				ends = 10 * time.Second
			}
			w.later(ends, func() { l.busy-- })
		}
		if w.c.Profile.Says && l.Window > 0 {
			said = []budget.Reading{{Limit: l.Name, Max: l.Max, Left: l.Max - l.used(w.now)}}
		}
		return do()
	})
	if f == unanswered {
		said = nil
	}
	if finds {
		l.finding = time.Time{}
	}
	class := fault.ClassOf(err)
	silent := class == fault.Down || class == fault.Unknown
	if l.silent[p.name]++; !silent {
		delete(l.silent, p.name)
	}
	leave(budget.Outcome{Err: err, Silent: silent, Readings: said})
	p.alive()
	if f == slow {
		w.wait(&p.task, frozen)
	}
	return err
}

// usual is how many failures in a row open a breaker.
const usual = 5

// probed holds a call that was let through to what the breaker in the store says: whoever has read there that it is open
// makes no call but the one that it was given, one process at a time. The others have a while to look; where the store does
// not answer, who has plenty uses its lease to the end. While the breaker is closed nobody calls whose own failures had to
// open it. It reports that the call finds out about the platform.
func (l *limit) probed(p *process, o *site) (finds bool) {
	const apart = time.Second // of two processes' clocks
	b, look, unknowing := l.breaker, p.looked[o.name], budget.Lease+2*storeTime
	switch {
	case !b.Open:
		if n := l.silent[p.name]; n >= cmp.Or(p.w.c.Profile.Trip, usual) {
			p.w.wrong("untripped: %s calls %s although %d calls of its own in a row got no answer, and the breaker is closed", p.name, o.name, n)
		}
		return false
	case b.Probe == p.name:
		if p.w.now.Add(apart).Before(l.finding) {
			p.w.wrong("probed: %s calls %s although another finds out", p.name, o.name)
		}
		l.finding = b.ProbeEnds
		return true
	case look.at.After(l.opened):
		unknowing = 0
	case look.failed:
		unknowing = budget.Calm + 2*storeTime
	}
	if since := p.w.now.Sub(l.opened); since > unknowing {
		p.w.wrong("probed: %s calls %s although the breaker has been open for %s and %q may try", p.name, o.name, since, b.Probe)
	}
	return false
}
