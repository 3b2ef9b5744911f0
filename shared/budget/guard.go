package budget

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/fault"
)

// Guard is the gate of one platform for one worker. It lets calls through on what the worker has been given, and takes its
// turn at the shared State when that is used up or old: one read every Fresh while calls are made, and a write with it
// when something has to change.
type Guard struct {
	platform string
	memory   Memory
	o        Options

	mu       sync.Mutex
	rules    Rules
	grant    Grant
	caps     map[string]int64   // below the grant where it is not known which of two grants holds
	used     map[string]int64   // calls since the beginning
	underWay map[string]int     // of these, those that have not ended
	most     map[string]int     // what the vendor last said of a limit
	stamps   map[string][]stamp // calls that ended within a window too short to be counted: they are busy until it is over
	busy     map[string]Demand
	since    map[string]Demand // calls on this grant
	peak     map[string]Demand // calls at once on this grant
	told     told
	waiters  []*waiter            // in the order in which they came
	turned   time.Time            // when the grant was given
	looked   time.Time            // when the State was last read
	failed   time.Time            // when the store failed; zero = it did not the last time
	looking  chan struct{}        // closed when whoever looks has done so; nil = nobody looks
	changed  chan struct{}        // closed when waiters should try again
	failures int                  // in a row
	denied   map[denial]time.Time // so that not every call asks again what has just been answered
	probing  bool                 // the one call to a platform that may be down is under way
}

// told is what the next turn has to tell.
type told struct {
	made      map[string]Demand
	readings  map[string]Said
	untold    map[string]int
	throttled []Throttled
	trip      string
	probe     Answer
	urgent    bool // the others should know now
}

// waiter is a call that has not been let through yet.
type waiter struct {
	purpose Purpose
	limits  []string
	counted []string // of the limits, those over a window
	began   time.Time
	slot    bool // it waits for a slot, and for nothing else
	looked  bool // the State has been asked on its behalf
}

// stamp is a call that is busy until a time.
type stamp struct {
	until   time.Time
	purpose Purpose
}

// denial is for whom the State had nothing.
type denial struct {
	limit   string
	purpose Purpose
}

const (
	ahead     = 6 * time.Second // for which calls are asked
	storeTime = 2 * time.Second
	backoff   = time.Second // until the store is asked again after it failed, or had nothing
)

func newGuard(platform string, m Memory, o Options) *Guard {
	return &Guard{platform: platform, memory: m, o: o, rules: Rules{}.orUsual(), caps: map[string]int64{}, used: map[string]int64{}, underWay: map[string]int{}, most: map[string]int{}, busy: map[string]Demand{}, stamps: map[string][]stamp{},
		since: map[string]Demand{}, peak: map[string]Demand{}, denied: map[denial]time.Time{}, changed: make(chan struct{})}
}

// verdict on a call that wants to be let through.
type verdict struct {
	pass bool
	look bool          // take a turn, or wait for the one that is being taken, and judge again
	err  error         // it is refused
	why  string        // for the Notice
	wait time.Duration // else: until it should be judged again at the latest
}

// Enter lets a call through, or waits up to Options.Patience for that, or refuses it.
func (g *Guard) Enter(ctx context.Context, c Call) (func(Outcome), error) {
	w := &waiter{purpose: PurposeOf(ctx)}
	v, probe := g.wait(ctx, w, c)
	if v.err != nil {
		g.o.Watch(Notice{Platform: g.platform, What: Rejected, Class: w.purpose.Class, Reason: v.why})
		return nil, v.err
	}
	g.o.Watch(Notice{Platform: g.platform, What: Passed, Class: w.purpose.Class})
	return func(o Outcome) { g.leave(ctx, w, probe, o) }, nil
}

// wait judges a call until it is let through, and counted, or refused.
func (g *Guard) wait(ctx context.Context, w *waiter, c Call) (v verdict, probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	patience, waits := g.o.Patience, false
	defer func() {
		if waits {
			g.waiters = slices.DeleteFunc(g.waiters, func(o *waiter) bool { return o == w })
			g.stir()
		}
	}()
	w.limits = g.limits(c)
	for {
		now := g.o.Now()
		v = g.try(w, now)
		if !v.pass && ctx.Err() != nil {
			v = verdict{err: &fault.Error{Class: fault.Down, Code: fault.NotCalled, RetryAt: now.Add(backoff), Err: ctx.Err()}, why: "budget"}
		}
		if !v.pass && v.err == nil && !waits {
			g.waiters, waits = append(g.waiters, w), true
		}
		switch looking := g.looking; {
		case v.pass:
			return v, g.take(w, now)
		case v.err != nil:
			return v, false
		case v.look && looking == nil:
			g.look(ctx, false)
			w.looked = true
		case v.look:
			g.without(func() {
				select {
				case <-looking:
				case <-ctx.Done():
				}
			})
		case patience > 0 && (v.wait <= patience || w.slot):
			patience -= g.pause(ctx, w, min(v.wait, patience))
		default:
			v.err, v.why = g.refusal(fault.Throttled, "the budget is used up", now.Add(max(v.wait, backoff))), "budget"
			return v, false
		}
	}
}

// without does something that takes time or calls others' code without the lock. The lock is held again when that is
// over, also if it panics or ends the goroutine: whoever took the lock gives it back.
func (g *Guard) without(do func()) {
	g.mu.Unlock()
	defer g.mu.Lock()
	do()
}

// limits that a call counts against.
func (g *Guard) limits(c Call) []string {
	out := make([]string, 0, 1+len(c.Limits))
	for _, l := range g.rules.Limits {
		if l.Name == Calls || slices.Contains(c.Limits, l.Name) {
			out = append(out, l.Name)
		}
	}
	return out
}

// pause waits, without the lock, and returns how long. Patience is the caller's own, whatever clock the budget goes by.
func (g *Guard) pause(ctx context.Context, w *waiter, d time.Duration) time.Duration {
	changed, took := g.changed, d
	g.without(func() {
		if g.o.Wait != nil {
			g.o.Wait(d)
			w.looked = false
			return
		}
		start := time.Now()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-changed:
			took = time.Since(start)
		case <-ctx.Done():
		case <-timer.C:
			w.looked = false
		}
	})
	return took
}

// stir makes waiters try again.
func (g *Guard) stir() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *Guard) refusal(class fault.Class, why string, at time.Time) error {
	return &fault.Error{Class: class, Code: fault.NotCalled, RetryAt: at, Detail: "not called: " + why}
}

// try judges a call that wants to be let through.
func (g *Guard) try(w *waiter, now time.Time) verdict {
	g.age(now)
	gr := &g.grant
	valid := now.Before(gr.Until)
	can := g.failed.IsZero() || now.Sub(g.failed) >= backoff || now.Before(g.failed)
	if can && g.looking == nil && !w.looked && (now.Sub(g.looked) >= Fresh || now.Before(g.looked) || g.told.urgent) {
		return verdict{look: true}
	}
	switch {
	case gr.Shut.After(now) && gr.Down:
		return verdict{err: g.refusal(fault.Down, "breaker is open: "+gr.Reason, gr.Shut), why: "breaker"}
	case gr.Shut.After(now):
		return verdict{err: g.refusal(fault.Throttled, "the vendor asked for a pause", gr.Shut), why: "pause"}
	case (gr.Down && !gr.Probe || !valid) && (g.looking != nil || can && !w.looked):
		return verdict{look: true}
	case gr.Down && !gr.Probe:
		return verdict{err: g.refusal(fault.Down, "breaker is open but for one call: "+gr.Reason, now.Add(backoff)), why: "breaker"}
	case !valid:
		return verdict{err: g.refusal(fault.Throttled, "the store that holds the shared budget does not answer", now.Add(backoff)), why: "store"}
	}
	w.slot = false
	for _, name := range w.limits {
		sh, given := gr.Shares[name]
		key := denial{name, w.purpose}
		switch {
		case given && sh.Closed.After(now):
			return verdict{err: g.refusal(fault.Throttled, "the vendor asked for a pause of "+name, sh.Closed), why: "pause"}
		case given && g.room(w, name, sh):
			continue
		case g.looking != nil || can && !w.looked && !g.denied[key].After(now):
			return verdict{look: true}
		}
		if w.looked {
			g.denied[key] = now.Add(backoff)
		}
		if w.slot = given && !sh.Window; w.slot {
			wait := backoff
			if stamps := g.stamps[name]; len(stamps) > 0 {
				wait = slices.MinFunc(stamps, func(a, b stamp) int { return a.until.Compare(b.until) }).until.Sub(now)
			}
			return verdict{wait: min(wait, g.o.Patience)}
		}
		return verdict{wait: max(sh.Retry.Sub(now), backoff/10)}
	}
	return verdict{pass: true}
}

// window of a limit.
func (g *Guard) window(name string) time.Duration {
	for _, l := range g.rules.Limits {
		if l.Name == name {
			return l.Window
		}
	}
	return 0
}

// spaced is for how long a call counts in a short window after it ended. The vendor counted it before, when it arrived;
// what was not answered may still be on its way.
func spaced(window time.Duration, silent bool) time.Duration {
	if silent {
		return window + Margin
	}
	return window + window/10
}

// age lets go of calls whose short window is over.
func (g *Guard) age(now time.Time) {
	for name, stamps := range g.stamps {
		g.stamps[name] = slices.DeleteFunc(stamps, func(s stamp) bool {
			over := !s.until.After(now)
			if over {
				count(g.busy, name, s.purpose, -1)
			}
			return over
		})
	}
}

// room reports whether a share has room for a call, and nobody who is before it waits for it.
func (g *Guard) room(w *waiter, name string, sh Share) bool {
	now, mine := g.used[name], g.since[name][w.purpose]
	if !sh.Window {
		now, mine = int64(g.busy[name].sum()), g.busy[name][w.purpose]
	}
	if g.owed(w, name) && now < g.caps[name] {
		return true
	}
	rank := w.purpose.Class.rank()
	if now >= min(g.caps[name], sh.Classes[rank]) {
		return false
	}
	if fair, known := sh.Fair[w.purpose]; sh.Fair != nil && (!known || int64(mine) >= fair) {
		return false
	}
	return sh.Window || g.first(w, name)
}

// owed reports that a call goes before others: it is the only one of its class, and the next one of it.
func (g *Guard) owed(w *waiter, name string) bool {
	class := w.purpose.Class
	if sh := g.grant.Shares[name]; sh.Window || !sh.Owed[class.rank()] || g.busy[name].of(class) > 0 {
		return false
	}
	for _, o := range g.waiters { // in the order in which they came
		if o.slot && o.purpose.Class == class && slices.Contains(o.limits, name) {
			return o == w
		}
	}
	return true
}

// first reports that no other call that waits for a slot goes before w: those that are owed do, unless w is a lookup, and
// those of more urgent classes, then those of the entities that have the fewest calls under way, then those that came earlier.
func (g *Guard) first(w *waiter, name string) bool {
	seen := false
	for _, o := range g.waiters {
		if o == w {
			seen = true
			continue
		}
		if !o.slot || !slices.Contains(o.limits, name) {
			continue
		}
		a, b := o.purpose.Class.rank(), w.purpose.Class.rank()
		m, n := g.busy[name][o.purpose], g.busy[name][w.purpose]
		if a < b || a == b && (m < n || m == n && !seen) || b > 0 && g.owed(o, name) {
			return false
		}
	}
	return true
}

// take counts a call that is let through, and says whether it is the one call to a platform that may be down.
func (g *Guard) take(w *waiter, now time.Time) (probe bool) {
	w.began = now
	for _, name := range w.limits {
		if g.grant.Shares[name].Window {
			w.counted = append(w.counted, name)
			g.used[name]++
			g.underWay[name]++
			count(g.since, name, w.purpose, 1)
			count(g.told.madeOf(), name, w.purpose, 1)
			continue
		}
		count(g.busy, name, w.purpose, 1)
		if n := g.busy[name][w.purpose]; n > g.peak[name][w.purpose] {
			count(g.peak, name, w.purpose, n-g.peak[name][w.purpose])
		}
	}
	probe, g.grant.Probe = g.grant.Probe, false
	g.probing = g.probing || probe
	return probe
}

func (t *told) madeOf() map[string]Demand {
	if t.made == nil {
		t.made = map[string]Demand{}
	}
	return t.made
}

func count(in map[string]Demand, name string, p Purpose, n int) {
	d := in[name]
	if d == nil {
		d = Demand{}
		in[name] = d
	}
	if d[p] += n; d[p] == 0 {
		delete(d, p)
	}
}

// leave takes in what came of a call.
func (g *Guard) leave(ctx context.Context, w *waiter, probe bool, o Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	for _, name := range w.limits {
		window := g.window(name)
		switch {
		case slices.Contains(w.counted, name):
			g.underWay[name]--
			if !slices.ContainsFunc(o.Readings, func(r Reading) bool { return r.Limit == name && r.Left >= 0 }) {
				g.told.untold = orEmpty(g.told.untold)
				g.told.untold[name]++
			}
		case window > 0:
			g.stamps[name] = append(g.stamps[name], stamp{now.Add(spaced(window, o.Silent)), w.purpose})
		case g.busy[name][w.purpose] > 0:
			count(g.busy, name, w.purpose, -1)
		}
	}
	g.stir()
	answer := Good
	g.hear(o.Readings, w.began)
	switch {
	case o.Unsent:
		answer = Unmade
	case o.Local:
		g.failures = 0
	case fault.Is(o.Err, fault.Throttled):
		g.slow(w, o, now)
	case o.Silent:
		answer = Bad
		g.failures++
		if probe || g.failures >= g.o.Trip && !g.grant.Down { // what was sent before the breaker opened says nothing new
			g.told.trip, g.told.urgent = reason(o.Err), true
			g.grant.Down, g.grant.Shut, g.grant.Reason = true, now.Add(g.rules.Pause), g.told.trip
		}
	default:
		g.failures = 0
	}
	if probe {
		g.told.probe, g.told.urgent, g.probing = answer, true, false
	}
	if g.told.urgent && g.looking == nil {
		g.look(ctx, false)
	}
}

// reason says in a few words what a platform answered.
func reason(err error) string {
	text := string(fault.ClassOf(err))
	if e := fault.Outermost(err); e != nil {
		if e.Code != "" {
			text += " " + e.Code
		}
		if e.Detail != "" {
			text += ": " + e.Detail
		}
	}
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return text
}

// hear keeps what the readings of each limit say, and calls no more than they leave. All that is known of when the vendor
// counted is that it was after the call began.
func (g *Guard) hear(readings []Reading, began time.Time) {
	for _, r := range readings {
		if g.told.readings == nil {
			g.told.readings = map[string]Said{}
		}
		said := Said{Reading: r, At: began, upto: g.used[r.Limit] - int64(g.underWay[r.Limit]) + int64(r.Left)}
		if g.lowered(r) { // what has been given may be more than there is
			g.caps[r.Limit], g.told.urgent = min(g.caps[r.Limit], g.used[r.Limit]), true
		}
		g.told.urgent = g.heed(said) || g.told.urgent
		if before, some := g.told.readings[r.Limit]; some {
			said = least(before, said)
		}
		g.told.readings[r.Limit] = said
	}
}

// heed keeps to what a reading leaves, less what other workers were given when this one had its turn: of two workers the
// later one knows of the other, so that both keep within it. Calls under way may not be in it and are taken off. It reports
// whether there is less than this worker alone was given.
func (g *Guard) heed(r Said) bool {
	upto, some := g.caps[r.Limit]
	sh := g.grant.Shares[r.Limit]
	if !some || r.Left < 0 || !sh.Window {
		return false
	}
	g.caps[r.Limit] = min(upto, max(g.used[r.Limit], r.upto-sh.Others))
	return upto > r.upto
}

// lowered reports that a limit with a window is less than was known.
func (g *Guard) lowered(r Reading) bool {
	i := slices.IndexFunc(g.rules.Limits, func(l Limit) bool { return l.Name == r.Limit })
	if i < 0 || r.Max <= 0 || !counted(g.rules.Limits[i].Window) {
		return false
	}
	known := cmp.Or(g.most[r.Limit], g.rules.Limits[i].Max)
	g.most[r.Limit] = r.Max
	return r.Max < known
}

// slow takes in that the vendor asked for a pause: of one limit, if it says which one is used up, or of everything.
func (g *Guard) slow(w *waiter, o Outcome, now time.Time) {
	until := fault.RetryAt(o.Err)
	if !until.After(now) {
		until = now.Add(g.rules.Pause)
	}
	used := map[string]bool{}
	for _, r := range o.Readings {
		used[r.Limit] = r.Left == 0
	}
	t := Throttled{Limits: []string{Calls}, Until: until}
	for _, name := range w.limits {
		if used[name] && !used[Calls] {
			t.Only, t.Limits = name, []string{name}
		}
	}
	if sh, given := g.grant.Shares[t.Only]; given {
		sh.Closed = until
		g.grant.Shares[t.Only] = sh
	} else if !g.grant.Down {
		g.grant.Shut = latest(g.grant.Shut, until)
	}
	g.told.throttled, g.told.urgent = append(g.told.throttled, t), true
}

// look reads the State and, if something has to change, takes a turn at it. It is called with the lock, and gives it
// away meanwhile; g.looking keeps others from doing the same.
func (g *Guard) look(ctx context.Context, resting bool) {
	ctx = context.WithoutCancel(ctx) // others wait for it as well
	if g.o.Wait == nil {
		within, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		ctx = within
	}
	if notices := g.meet(ctx, resting); len(notices) > 0 {
		g.without(func() {
			for _, n := range notices {
				g.o.Watch(n)
			}
		})
	}
}

// meet is the part of look that others wait for. They go on even if the store panics.
func (g *Guard) meet(ctx context.Context, resting bool) []Notice {
	done, failed := make(chan struct{}), true
	g.looking = done
	defer func() {
		g.failed = time.Time{}
		if failed {
			g.failed = g.o.Now()
		}
		g.looking = nil
		close(done)
		g.stir()
	}()
	notices, err := g.takeTurn(ctx, resting)
	failed = err != nil
	return notices
}

// takeTurn is the part of look that talks to the store.
func (g *Guard) takeTurn(ctx context.Context, resting bool) ([]Notice, error) {
	for {
		var saved Saved
		var state State
		var err error
		g.without(func() {
			saved, err = g.memory.Budget(ctx, g.platform)
			state = decode(saved)
		})
		if err != nil {
			return nil, err
		}
		now := g.o.Now()
		ask := g.ask(now, resting)
		next, grant := state.Turn(ask, now)
		if grant.Down || grant.Shut.After(now) { // that holds even if the turn cannot be written down
			g.see(grant, now)
		}
		if !g.worth(ask, grant, now, resting) {
			g.see(grant, now)
			return nil, nil
		}
		value, err := json.Marshal(next)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "budget.look", g.platform, err)
		}
		caps := maps.Clone(g.caps)
		if err = g.save(ctx, Saved{value, saved.Rev}, grant); err == nil {
			g.accept(grant, now)
			return g.notices(state, next, grant), nil
		}
		if !fault.Is(err, fault.Conflict) {
			return nil, err
		}
		g.caps = caps
		for _, r := range g.told.readings {
			g.heed(r)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// save writes a turn. What it has told is to be told again unless that is done.
func (g *Guard) save(ctx context.Context, s Saved, grant Grant) error {
	sent := g.told
	g.told, g.since = told{}, map[string]Demand{}
	for name, sh := range grant.Shares { // until it is known which of the two holds
		g.caps[name] = min(g.caps[name], sh.Upto)
	}
	written := false
	defer func() {
		if !written {
			g.told = sent.and(g.told)
		}
	}()
	var err error
	g.without(func() { err = g.memory.SaveBudget(ctx, g.platform, s) })
	written = err == nil
	return err
}

// and joins what was to be told with what has come since.
func (t told) and(later told) told {
	for name, d := range later.made {
		for p, n := range d {
			count(t.madeOf(), name, p, n)
		}
	}
	for name, r := range later.readings {
		if t.readings == nil {
			t.readings = map[string]Said{}
		}
		if before, some := t.readings[name]; some {
			r = least(before, r)
		}
		t.readings[name] = r
	}
	for name, n := range later.untold {
		t.untold = orEmpty(t.untold)
		t.untold[name] += n
	}
	t.throttled = append(t.throttled, later.throttled...)
	if later.trip != "" {
		t.trip = later.trip
	}
	if later.probe != None {
		t.probe = later.probe
	}
	t.urgent = t.urgent || later.urgent
	return t
}

// ask puts together a turn.
func (g *Guard) ask(now time.Time, resting bool) Ask {
	g.age(now)
	a := Ask{Worker: g.o.Worker, Place: g.o.Place, Rules: g.rules, Used: maps.Clone(g.used), UnderWay: maps.Clone(g.underWay), Untold: maps.Clone(g.told.untold), Made: map[string]Demand{}, Busy: map[string]Demand{}, Want: map[string]Demand{},
		Throttled: slices.Clone(g.told.throttled), Trip: g.told.trip, Probe: g.told.probe, Probing: g.probing, Resting: resting}
	if g.o.Rand != nil && (a.Trip != "" || a.Probe == Bad) {
		a.Jitter = g.o.Rand.Float64()
	}
	for name, n := range g.underWay {
		a.Used[name] -= int64(n)
	}
	for name, d := range g.told.made {
		a.Made[name] = maps.Clone(d)
	}
	for name, d := range g.busy {
		a.Busy[name] = maps.Clone(d)
	}
	for _, r := range g.told.readings {
		a.Readings = append(a.Readings, r)
	}
	if resting {
		return a
	}
	waiting := map[string]Demand{}
	for _, w := range g.waiters {
		for _, name := range w.limits {
			count(waiting, name, w.purpose, 1)
		}
	}
	took := max(time.Second, now.Sub(g.turned))
	for _, l := range g.rules.Limits {
		want := orEmpty(waiting[l.Name])
		if counted(l.Window) {
			for p, n := range want {
				want[p] = n + min(4, l.Max/25) // it is not known yet how many there will be
			}
			for p, n := range g.told.made[l.Name] {
				want[p] = max(want[p], waiting[l.Name][p]+int(math.Ceil(float64(n)*float64(ahead)/float64(took))))
			}
		} else {
			for p, n := range g.peak[l.Name] {
				if more := n - g.busy[l.Name][p]; more > want[p] {
					want[p] = more
				}
			}
		}
		if len(want) > 0 {
			a.Want[l.Name] = want
		}
	}
	return a
}

// worth reports whether a turn has to be written down.
func (g *Guard) worth(a Ask, next Grant, now time.Time, resting bool) bool {
	if resting || g.told.urgent || next.Probe || len(g.waiters) > 0 && !next.Shut.After(now) && g.short(next) {
		return true
	}
	if next.Shut.After(now) {
		return false
	}
	for name, sh := range next.Shares {
		if had, some := g.grant.Shares[name]; !some || !sh.Window && (sh.Upto < g.caps[name] || had.Upto < g.caps[name]) {
			return true
		}
	}
	return g.grant.Until.Sub(now) < Lease/2
}

// short reports whether a grant gives more than there is, or is the first.
func (g *Guard) short(next Grant) bool {
	for _, w := range g.waiters {
		for _, name := range w.limits {
			sh := g.grant.Shares[name]
			if !g.o.Now().Before(g.grant.Until) || !g.room(w, name, sh) {
				return true
			}
		}
	}
	return false
}

// see takes over what a look has shown, without a turn.
func (g *Guard) see(next Grant, now time.Time) {
	g.looked = now
	g.grant.Shut, g.grant.Down, g.grant.Reason = g.shut(next)
}

// shut is for how long, why and by what the platform is shut, by a grant and by what the others do not know yet.
func (g *Guard) shut(next Grant) (time.Time, bool, string) {
	if g.told.trip != "" || len(g.told.throttled) > 0 {
		return latest(next.Shut, g.grant.Shut), next.Down || g.grant.Down, g.grant.Reason
	}
	if g.grant.Down && !next.Down {
		g.failures = 0
	}
	return next.Shut, next.Down, next.Reason
}

// accept takes over what has been written down.
func (g *Guard) accept(next Grant, now time.Time) {
	next.Shut, next.Down, next.Reason = g.shut(next)
	g.grant, g.looked, g.turned = next, now, now
	clear(g.caps)
	for name, sh := range next.Shares {
		g.caps[name] = sh.Upto
	}
	for _, r := range g.told.readings { // heard meanwhile
		g.heed(r)
	}
	clear(g.peak)
	for name, d := range g.busy {
		g.peak[name] = maps.Clone(d)
	}
	maps.DeleteFunc(g.denied, func(_ denial, until time.Time) bool { return !until.After(now) })
}

func (g *Guard) notices(was, is State, grant Grant) []Notice {
	n := Notice{Platform: g.platform, Reason: is.Breaker.Reason, Until: is.Breaker.Until}
	var out []Notice
	switch {
	case is.Breaker.Open && !was.Breaker.Open:
		n.What = Opened
		out = append(out, n)
	case is.Breaker.Open && is.Breaker.Times > was.Breaker.Times:
		n.What = Stayed
		out = append(out, n)
	case was.Breaker.Open && !is.Breaker.Open:
		n.What, n.Reason = Closed, was.Breaker.Reason
		out = append(out, n)
	}
	for name, sh := range grant.Shares {
		out = append(out, Notice{Platform: g.platform, What: Left, Limit: name, Left: sh.Left})
	}
	return out
}

// rest hands back what others may need.
func (g *Guard) rest(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.looking != nil || !g.o.Now().Before(g.grant.Until) {
		return
	}
	for name, sh := range g.grant.Shares {
		unused := g.caps[name] - g.used[name]
		if !sh.Window {
			unused = g.caps[name] - int64(g.busy[name].sum())
		}
		if sh.Scarce && (unused > 0 || g.window(name) > 0 && !sh.Window) {
			g.look(ctx, true)
			return
		}
	}
}
