package budget

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Times that the parts of the core agree on.
const (
	// Lease is how long calls may start on what a worker was given.
	Lease = 8 * time.Second
	// Calm is how long where there is plenty of all that the worker holds: who calls now and then need not write each time.
	Calm = time.Minute
	// Fresh is how old a worker's knowledge of the others may get while it makes calls.
	Fresh = 2 * time.Second
	// Margin is added wherever time frees something: for clocks that differ by a second, and the way to the vendor.
	Margin = 2 * time.Second

	asking    = 10 * time.Second // who asked within it counts as asking
	turn      = 5 * time.Second  // how long slots are held while others, for want of enough slots, have none
	missed    = time.Minute      // for which what becomes free is kept for a class that was refused
	remember  = 2 * time.Minute  // how long a worker whose lease has ended may still hand back what it did not use
	maxSilent = 16               // workers remembered so
	parts     = 12               // a window is counted in parts
	recovery  = 0.01             // what a pace that was halved gains in a second
	slowest   = 1.0 / 16         // pace
	// A window below this is too short to be shared by counting: by the time that others know of a call it is over. What
	// is shared are its calls, like those at once; a worker that has one makes it again when the window is over.
	shortest  = 10 * time.Second
	soon      = time.Hour // a window of less is short for what a dead worker was given
	doublings = 5         // of the breaker's pause
	bonus     = 4         // as much as was asked for is given where there is plenty
	leastLive = 1         // rank of the least urgent class that needs no trickle
)

// ceiling is how far calls of a class may fill a limit: what is above is left to the more urgent. Every class gets at
// least one call, and replay at most half where half is more.
//
// Above its ceiling a class below live has a trickle, see Counter.trickle.
//
//	lookup 100 %, live 90 %, approval 80 %, reconcile 60 %, each rounded up; replay 50 %, rounded down
func ceiling(most int, rank int) int {
	percent := [...]int{100, 90, 80, 60}
	if rank < len(percent) {
		return (most*percent[rank] + 99) / 100
	}
	return min(most, max(1, most/2))
}

// Demand counts calls by purpose.
type Demand map[Purpose]int

func (d Demand) sum() (n int) {
	for _, k := range d {
		n += k
	}
	return n
}

// of sums what is of one class.
func (d Demand) of(class Class) (n int) {
	for p, k := range d {
		if p.Class == class {
			n += k
		}
	}
	return n
}

// byUrgency lists the purposes in d, the most urgent first.
func (d Demand) byUrgency() []Purpose {
	return slices.SortedFunc(maps.Keys(d), func(a, b Purpose) int {
		return cmp.Or(cmp.Compare(a.Class.rank(), b.Class.rank()), strings.Compare(a.Entity, b.Entity))
	})
}

// MarshalText makes a purpose the key of a JSON object.
func (p Purpose) MarshalText() ([]byte, error) { return []byte(string(p.Class) + "/" + p.Entity), nil }

// UnmarshalText undoes MarshalText.
func (p *Purpose) UnmarshalText(text []byte) error {
	class, entity, _ := strings.Cut(string(text), "/")
	p.Class, p.Entity = Class(class), entity
	return nil
}

// State is what all workers know together of one platform: one small item, as JSON. The zero State is that of a platform
// which nobody has called yet. What its methods return shares nothing with it.
type State struct {
	Limits  map[string]*Counter `json:"limits,omitempty"`
	Workers map[string]*Worker  `json:"workers,omitempty"`
	Paused  time.Time           `json:"paused,omitzero"` // the vendor asked to be left alone until then
	Breaker Breaker             `json:"breaker,omitzero"`
}

// Breaker of a platform. Open, and its time come, it is half open: one worker at a time makes one call.
type Breaker struct {
	Open      bool      `json:"open,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Times     int       `json:"times,omitempty"` // pauses since it opened
	Reason    string    `json:"reason,omitempty"`
	Probe     string    `json:"probe,omitempty"`    // the worker that may make the one call
	ProbeEnds time.Time `json:"probeEnds,omitzero"` // when it must have made it
}

// Counter of one limit.
type Counter struct {
	Max    int                   `json:"max"`              // as declared
	Window time.Duration         `json:"window,omitempty"` // as declared
	Said   int                   `json:"said,omitempty"`   // what the vendor says it is; 0 = nothing
	Spent  map[int64]int         `json:"spent,omitempty"`  // calls, by the part of time in which they stop counting
	Use    Demand                `json:"use,omitempty"`    // calls in this epoch, by purpose: for fairness only
	Epoch  int64                 `json:"epoch,omitempty"`
	Asked  map[Purpose]time.Time `json:"asked,omitempty"`
	Missed map[Class]Missed      `json:"missed,omitempty"` // of calls at once: classes that found none, and have had none since
	Others Foreign               `json:"others,omitzero"`
	Heard  time.Time             `json:"heard,omitzero"`  // of the last reading
	Closed time.Time             `json:"closed,omitzero"` // the vendor asked to be left alone in this respect
	Pace   float64               `json:"pace,omitempty"`  // share of Max that is used since the vendor complained; 0 = all
	Paced  time.Time             `json:"paced,omitzero"`
}

// Missed is for how long a class has found no call.
type Missed struct {
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
}

// Foreign is what the vendor has counted beside what we know of. Where a reading says when the window ends, Calls is all
// that the vendor has counted in it, ours among them, until then; else Calls are those of others, which fade evenly. Of a
// limit that is not counted over a window, Calls are those of others in both cases.
type Foreign struct {
	Calls int       `json:"calls,omitempty"`
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
	Fades bool      `json:"fades,omitempty"` // evenly between From and To; else all of it at To
}

// Worker is what one worker holds.
type Worker struct {
	Until time.Time       `json:"until"`           // its calls start before
	Ends  time.Time       `json:"ends"`            // and have ended by then
	Calm  bool            `json:"calm,omitempty"`  // it had its turn Calm before Until, else Lease
	Place string          `json:"place,omitempty"` // see Options.Place
	Held  map[string]Held `json:"held,omitempty"`
}

// active reports that a worker had its turn lately.
func (w *Worker) active(now time.Time) bool {
	until := w.Until
	if w.Calm {
		until = until.Add(Lease - Calm)
	}
	return until.After(now)
}

// Held is what a worker holds of one limit. Calls that count in a window are counted from the worker's beginning, so that
// to tell a number twice changes nothing.
type Held struct {
	Used  int64     `json:"used,omitempty"` // calls that have ended
	Upto  int64     `json:"upto,omitempty"` // and those it may have made in the end
	Slots int       `json:"slots,omitempty"`
	Busy  Demand    `json:"busy,omitempty"`  // slots in use, by purpose
	Want  Demand    `json:"want,omitempty"`  // and further ones that it asked for
	Asked time.Time `json:"asked,omitzero"`  // for slots
	Short bool      `json:"short,omitempty"` // and got fewer
	Since time.Time `json:"since,omitzero"`  // it has had slots, or waited for the first, since then
	Owed  []Class   `json:"owed,omitempty"`  // of which it may have a call above the ceiling
}

// Rules of a platform are the same for all its workers.
type Rules struct {
	Limits []Limit
	Hold   time.Duration // a call has ended after it, for sure; 0 = 15 s
	Pause  time.Duration // 0 = 1 s; the breaker's first; each further one is twice as long, up to 32 times
}

func (r Rules) orUsual() Rules {
	if r.Hold <= 0 {
		r.Hold = 15 * time.Second
	}
	if r.Pause <= 0 {
		r.Pause = time.Second
	}
	return r
}

// Ask is a worker's turn: it tells what has happened and asks for calls. Demands are by limit.
type Ask struct {
	Worker    string
	Place     string // see Options.Place
	Rules     Rules
	Used      map[string]int64  // calls that have ended since the worker began, of limits that are counted
	UnderWay  map[string]int    // and those that have not
	Untold    map[string]int    // calls that ended since its last turn with no reading
	Made      map[string]Demand // calls that began since then
	Busy      map[string]Demand // calls at this moment, of the other limits
	Want      map[string]Demand // further ones
	Readings  []Said
	Throttled []Throttled
	Trip      string  // why the breaker has to open; "" = it has not
	Probe     Answer  // to the call that this worker made for all
	Probing   bool    // that call is under way
	Resting   bool    // the lease ends with this turn
	Jitter    float64 // 0 to 1; stretches the breaker's pause by up to a tenth
}

// Said is a reading and when the call began whose answer it is of.
type Said struct {
	Reading
	At   time.Time
	upto int64 // by it, the worker's calls since the beginning, if nobody else calls
}

// least is what two readings of one limit say, the second of which came later. Of one window the lesser counts: it is what
// the vendor said last, and has in it every call that has been answered.
func least(a, b Said) Said {
	if a.Left < 0 || b.Left >= 0 && (b.Left <= a.Left || newer(a.Reset, b.Reset)) {
		return b
	}
	if b.Max > 0 {
		a.Max = b.Max
	}
	return a
}

// newer reports that a window ends so much later than another that it is another. What is said about its end is rounded,
// and heard with clocks that differ.
func newer(a, b time.Time) bool { return b.Sub(a) > 2*Margin }

// Throttled is a vendor's wish to be left alone until a time.
type Throttled struct {
	Limits []string // that slow down
	Only   string   // the limit that closes; "" = the platform does
	Until  time.Time
}

// Answer to a probe.
type Answer uint8

// Answers.
const (
	None Answer = iota // it is not over
	Good
	Bad
	Unmade // it was not sent after all
)

// Grant is what a worker may do.
type Grant struct {
	Until  time.Time // calls may start before
	Shut   time.Time // the platform takes no calls before; zero = it does
	Down   bool      // it is shut, or half open, by the breaker
	Reason string    // of the breaker
	Probe  bool      // half open: one call may be made
	Shares map[string]Share
}

// Share of one limit. Where calls are counted over a window the numbers are calls since the worker's beginning, else calls at once.
type Share struct {
	Window  bool
	Upto    int64
	Classes [5]int64          // by rank: no call of the class beyond it
	Fair    map[Purpose]int64 // calls from now on, or at once, of each purpose that asked; nil = as many as there are
	Retry   time.Time         // when there may be more
	Closed  time.Time         // the vendor asked to be left alone until then; zero = it did not
	Owed    [5]bool           // by rank: one call at once of the class may be beyond, and goes before others but lookups
	Scarce  bool              // others may need what is not used
	Left    int               // beside all that is given away
	Others  int64             // what other workers may still call
	calm    bool              // there is plenty
	surplus bool              // the worker has more slots in use than it should
}

// Turn gives a worker its turn at a time.
func (s State) Turn(a Ask, now time.Time) (State, Grant) {
	now = now.UTC().Truncate(time.Millisecond)
	s = s.clone()
	s.declare(a.Rules.Limits)
	me := s.report(a, now)
	s.succeed(a, now)
	s.forget(a.Worker, now)
	s.judge(a, now)
	g := Grant{Until: now.Add(Lease), Shares: map[string]Share{}}
	calm := true
	want := a.Want
	switch {
	case s.Paused.After(now):
		g.Shut, want = s.Paused, nil
	case s.Breaker.Open:
		g.Down, g.Reason = true, s.Breaker.Reason
		taken := s.Breaker.Probe != "" && (s.Breaker.Probe != a.Worker || a.Probing) && now.Before(s.Breaker.ProbeEnds)
		switch {
		case now.Before(s.Breaker.Until):
			g.Shut, want = s.Breaker.Until, nil
		case taken:
			g.Shut, want = earliest(s.Breaker.ProbeEnds, now.Add(Fresh)), nil
		case len(want) > 0:
			s.Breaker.Probe, s.Breaker.ProbeEnds = a.Worker, now.Add(a.Rules.Hold+Lease+2*Margin)
			g.Probe = true
		}
	}
	for _, l := range a.Rules.Limits {
		c, h := s.Limits[l.Name], me.Held[l.Name]
		var sh Share
		if counted(l.Window) {
			sh = s.calls(c, l.Name, &h, a.Worker, want[l.Name], now)
		} else {
			sh = s.slots(c, l.Name, &h, a, want[l.Name], now)
		}
		g.Shares[l.Name], me.Held[l.Name] = sh, h
		calm = calm && sh.calm
	}
	if calm {
		g.Until = now.Add(Calm)
	}
	me.Until, me.Ends, me.Calm, me.Place = g.Until, g.Until.Add(a.Rules.Hold), calm, a.Place
	if a.Resting {
		g.Until, me.Until, me.Ends, me.Calm = now, now, now.Add(a.Rules.Hold), false
		if !slices.ContainsFunc(a.Rules.Limits, func(l Limit) bool { return l.Window == 0 && a.Busy[l.Name].sum() > 0 || a.UnderWay[l.Name] > 0 }) {
			me.Ends = now.Add(shortest)
		}
	}
	s.Workers[a.Worker] = me
	return s, g
}

// counted reports whether calls are counted over a window, and not at once.
func counted(window time.Duration) bool { return window >= shortest }

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (s State) clone() State {
	limits, workers := s.Limits, s.Workers
	s.Limits, s.Workers = make(map[string]*Counter, len(limits)), make(map[string]*Worker, len(workers)+1)
	for name, c := range limits {
		own := *c
		own.Spent, own.Use, own.Asked, own.Missed = orEmpty(c.Spent), orEmpty(c.Use), orEmpty(c.Asked), orEmpty(c.Missed)
		s.Limits[name] = &own
	}
	for id, w := range workers {
		own := *w
		own.Held = orEmpty(w.Held) // a Demand in it is replaced, never written into
		s.Workers[id] = &own
	}
	return s
}

func orEmpty[M ~map[K]V, K comparable, V any](m M) M {
	if m == nil {
		return M{}
	}
	return maps.Clone(m)
}

// declare takes over what is declared now. What the vendor said about another declaration is forgotten.
func (s *State) declare(limits []Limit) {
	for _, l := range limits {
		c := s.Limits[l.Name]
		if c == nil || c.Window != l.Window { // the parts are counted anew
			s.Limits[l.Name] = &Counter{Max: l.Max, Window: l.Window, Spent: map[int64]int{}, Use: Demand{}, Asked: map[Purpose]time.Time{}, Missed: map[Class]Missed{}}
		} else if c.Max != l.Max {
			c.Max, c.Said = l.Max, 0
		}
	}
	maps.DeleteFunc(s.Limits, func(name string, _ *Counter) bool {
		return !slices.ContainsFunc(limits, func(l Limit) bool { return l.Name == name })
	})
}

// report books what a worker has done, and returns it without what it did not use.
func (s *State) report(a Ask, now time.Time) *Worker {
	me, known := s.Workers[a.Worker]
	if !known {
		me = &Worker{Held: map[string]Held{}}
	}
	for name, c := range s.Limits {
		c.age(now)
		if !counted(c.Window) {
			continue
		}
		h := me.Held[name]
		if known && a.Used[name] > h.Used { // else all that it was given has been booked when it was forgotten
			c.spend(int(a.Used[name]-h.Used), now)
		}
		h.Used, h.Upto = a.Used[name], a.Used[name]+int64(a.UnderWay[name])
		me.Held[name] = h
		for p, n := range a.Made[name] {
			c.Use[p] += n
		}
	}
	for _, r := range a.Readings {
		if c := s.Limits[r.Limit]; c != nil {
			held := 0
			for _, w := range s.Workers {
				if w.Ends.Add(Margin).After(now) {
					held += w.Held[r.Limit].Slots
				}
			}
			if c.hear(r, held, now) {
				s.settle(c, r)
			}
		}
	}
	for name, n := range a.Untold {
		if c := s.Limits[name]; c != nil && c.told() {
			c.Others.Calls += n
		}
	}
	for _, t := range a.Throttled {
		if c := s.Limits[t.Only]; c != nil {
			c.Closed = latest(c.Closed, t.Until.UTC())
		} else {
			s.Paused = latest(s.Paused, t.Until.UTC())
		}
		for _, name := range t.Limits {
			if c := s.Limits[name]; c != nil {
				c.slow(now)
			}
		}
	}
	return me
}

// settle takes what silent workers did not hand back for calls that the vendor has counted, or that were never made: all
// that they had under way had ended when the call began whose answer says what is left. Those that the vendor seems to have
// counted count until their window is over, from the last moment at which they can have been made. What we count may have
// left the vendor's window already, so only what surely has not is taken off. Of a short window nothing is taken: it is over
// soon, and what several answers say of it at once cannot be told apart.
func (s *State) settle(c *Counter, r Said) {
	if c.Window < soon {
		return
	}
	theirs := max(0, c.whole()-r.Left)
	for _, id := range slices.Sorted(maps.Keys(s.Workers)) {
		w := s.Workers[id]
		h, some := w.Held[r.Limit]
		if !some || r.Left < 0 || !w.Ends.Add(Margin).Before(r.At) {
			continue
		}
		if n := min(int(h.Upto-h.Used), theirs-c.within(r.At)); n > 0 && !c.told() {
			c.spend(n, w.Ends)
			c.Others.Calls = max(0, c.Others.Calls-n)
		}
		h.Upto = h.Used
		w.Held[r.Limit] = h
	}
}

// succeed ends the leases of those that were in the worker's place before it. What they had under way may last on.
func (s *State) succeed(a Ask, now time.Time) {
	for id, w := range s.Workers {
		if a.Place == "" || w.Place != a.Place || id == a.Worker {
			continue
		}
		w.Until, w.Ends, w.Calm = earliest(w.Until, now), earliest(w.Ends, now.Add(a.Rules.Hold)), false
		for name, h := range w.Held {
			h.Busy, h.Want, h.Asked, h.Short = nil, nil, time.Time{}, false
			w.Held[name] = h
		}
		if s.Breaker.Probe == id {
			s.Breaker.Probe, s.Breaker.ProbeEnds = "", time.Time{}
		}
	}
}

// before reports that a worker was in the place of the one that asks, and that one of its calls may be made anew: nobody
// knows which have ended, and to wait for all would stop a process that is killed again and again.
func (w *Worker) before(a Ask, window time.Duration, now time.Time) bool {
	return a.Place != "" && w.Place == a.Place && (window == 0 || !w.Until.Add(window+Margin).After(now))
}

// forget drops workers that have been silent for long, or are too many. What they were given and did not hand back
// counts as called at the last moment at which it could have been.
func (s *State) forget(but string, now time.Time) {
	var silent []string
	for id, w := range s.Workers {
		if id != but && w.Ends.Add(Margin).Before(now) {
			silent = append(silent, id)
		}
	}
	slices.SortFunc(silent, func(a, b string) int {
		return cmp.Or(s.Workers[b].Until.Compare(s.Workers[a].Until), strings.Compare(a, b))
	})
	for i, id := range silent {
		w := s.Workers[id]
		if i < maxSilent && w.Until.Add(remember).After(now) {
			continue
		}
		for name, h := range w.Held {
			if c := s.Limits[name]; c != nil && counted(c.Window) {
				c.spend(int(h.Upto-h.Used), w.Ends)
				c.age(now)
			}
		}
		delete(s.Workers, id)
	}
}

// judge moves the breaker.
func (s *State) judge(a Ask, now time.Time) {
	b := &s.Breaker
	pause := func() {
		d := a.Rules.Pause << min(b.Times, doublings)
		b.Times++
		b.Until = now.Add(d + time.Duration(float64(d)/10*a.Jitter))
		b.Probe, b.ProbeEnds = "", time.Time{}
	}
	mine := b.Probe == a.Worker
	switch {
	case a.Probe == Good && mine:
		*b = Breaker{}
	case a.Probe == Bad && b.Open && mine:
		if a.Trip != "" {
			b.Reason = a.Trip
		}
		pause()
	case a.Probe == Unmade && mine:
		b.Probe, b.ProbeEnds = "", time.Time{}
	case a.Trip != "" && !b.Open:
		*b = Breaker{Open: true, Since: now, Reason: a.Trip}
		pause()
	}
}

// part is how finely calls are counted.
func (c *Counter) part() time.Duration { return max(c.Window/parts, time.Second) }

// spend counts calls that were made at a time or before.
func (c *Counter) spend(n int, at time.Time) {
	if n > 0 {
		part := int64(c.part())
		c.Spent[(at.Add(c.Window+Margin).UnixNano()+part-1)/part] += n
	}
}

// made is when the calls of a part were made at the latest.
func (c *Counter) made(part int64) time.Time {
	return time.Unix(0, part*int64(c.part())).Add(-c.Window - Margin)
}

// age drops what no longer counts.
func (c *Counter) age(now time.Time) {
	maps.DeleteFunc(c.Spent, func(part int64, _ int) bool { return !time.Unix(0, part*int64(c.part())).After(now) })
	maps.DeleteFunc(c.Asked, func(_ Purpose, at time.Time) bool { return now.Sub(at) > asking })
	maps.DeleteFunc(c.Missed, func(_ Class, m Missed) bool { return now.Sub(m.Last) > missed })
	if epoch := now.UnixNano() / int64(c.epoch()); epoch != c.Epoch {
		c.Epoch, c.Use = epoch, Demand{}
	}
}

func (c *Counter) spent() (n int) {
	for _, k := range c.Spent {
		n += k
	}
	return n
}

// within counts the calls that were surely made within the window before a time.
func (c *Counter) within(at time.Time) (n int) {
	for part, k := range c.Spent {
		if c.made(part).Add(-c.part()).After(at.Add(-c.Window)) {
			n += k
		}
	}
	return n
}

// pace is the share of the limit that is used at a time.
func (c *Counter) pace(now time.Time) float64 {
	if c.Pace == 0 {
		return 1
	}
	return min(1, c.Pace+recovery*max(0, now.Sub(c.Paced).Seconds()))
}

func (c *Counter) slow(now time.Time) {
	if now.Sub(c.Paced) >= Fresh { // several workers complain about the same
		c.Pace, c.Paced = max(slowest, c.pace(now)/2), now
	}
}

// whole is what the vendor counts to.
func (c *Counter) whole() int { return cmp.Or(c.Said, c.Max) }

// most is what is used at a time.
func (c *Counter) most(now time.Time) int {
	return max(1, int(float64(c.whole())*c.pace(now)))
}

// hear takes in a reading. The vendor is believed in both directions, with two cautions: calls of ours that it cannot
// have counted yet stay counted, and what others use is forgotten in the end, or nothing would ever be asked again. It
// returns false for what says nothing about the present.
func (c *Counter) hear(r Said, slots int, now time.Time) bool {
	at := r.At.UTC().Truncate(time.Millisecond)
	late := !at.After(c.Heard) // another worker told something later
	if late && at.Before(c.Heard.Add(-Lease)) || at.After(now.Add(Margin)) {
		return false
	}
	c.Heard = latest(c.Heard, at)
	if r.Max > 0 && !late {
		c.Said = r.Max
	}
	window := max(c.Window, asking)
	reset := r.Reset.UTC()
	if reset.Before(at.Add(-time.Second)) || reset.After(at.Add(window+Margin)) {
		reset = time.Time{}
	}
	if r.Left < 0 {
		if !late && !reset.IsZero() && counted(c.Window) { // what was before this window no longer counts
			start := reset.Add(-c.Window - Margin)
			maps.DeleteFunc(c.Spent, func(part int64, _ int) bool { return !c.made(part).After(start) })
		}
		return true
	}
	theirs := max(0, c.whole()-r.Left) // calls that the vendor has counted
	if !counted(c.Window) {
		c.Others = others(theirs-slots, at, reset, window)
		return true
	}
	if !reset.IsZero() && c.told() && c.Others.To.After(now) {
		switch to := c.Others.To.Add(-Margin); {
		case newer(reset, to):
			return false // it is of the window before
		case !newer(to, reset):
			theirs = max(theirs, c.Others.Calls)
		}
	}
	if !late || !reset.IsZero() {
		c.forgotten(theirs, at)
	}
	if !reset.IsZero() {
		c.Others = Foreign{Calls: theirs, From: at, To: reset.Add(Margin)}
	} else if f := others(theirs-c.spent(), at, reset, window); !late || f.Calls > c.Others.at(now) {
		c.Others = f
	}
	return true
}

// others is what they have called, until their window ends, or fading.
func others(calls int, at, reset time.Time, window time.Duration) Foreign {
	switch {
	case calls <= 0:
		return Foreign{}
	case reset.IsZero():
		return Foreign{Calls: calls, From: at, To: at.Add(window), Fades: true}
	}
	return Foreign{Calls: calls, From: at, To: reset}
}

// forgotten drops the oldest calls, where the vendor has counted fewer than we had made at a time.
func (c *Counter) forgotten(theirs int, at time.Time) {
	old := 0
	past := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Spent)), func(part int64) bool { return c.made(part).After(at.Add(-Margin)) })
	for _, part := range past {
		old += c.Spent[part]
	}
	for _, part := range past {
		gone := min(c.Spent[part], max(0, old-theirs))
		old -= gone
		if c.Spent[part] -= gone; c.Spent[part] == 0 {
			delete(c.Spent, part)
		}
	}
}

// told reports that the vendor's own count is known, until its window ends.
func (c *Counter) told() bool { return !c.Others.Fades && c.Others.Calls > 0 }

// used is how many calls count at a time: ours that have ended, and those of others. Each of ours whose answer told the
// vendor's count is in that.
func (c *Counter) used(now time.Time) int {
	if c.told() {
		return max(c.spent(), c.Others.at(now))
	}
	return c.spent() + c.Others.at(now)
}

// calls that others make, at a time.
func (f Foreign) at(now time.Time) int {
	switch {
	case !now.Before(f.To):
		return 0
	case f.Fades:
		return int(math.Ceil(float64(f.Calls) * min(1, float64(f.To.Sub(now))/float64(f.To.Sub(f.From)))))
	}
	return f.Calls
}

// given sums what other workers hold of a limit with a window, and says how many of them may make calls.
func (s *State) given(c *Counter, name, but string, now time.Time) (calls, active int) {
	for id, w := range s.Workers {
		h := w.Held[name]
		if id == but || !w.Ends.Add(c.Window+Margin).After(now) {
			continue
		}
		calls += int(h.Upto - h.Used)
		if w.active(now) {
			active++
		}
	}
	return calls, active
}

// calls shares out a limit with a window.
func (s *State) calls(c *Counter, name string, h *Held, worker string, want Demand, now time.Time) Share {
	sh := Share{Window: true, Closed: c.Closed}
	most := c.most(now)
	others, active := s.given(c, name, worker, now)
	underWay := int(h.Upto - h.Used)
	total := c.used(now) + others + underWay
	if c.Closed.After(now) {
		want = nil
	} else {
		sh.Closed = time.Time{}
	}
	for p := range want {
		c.Asked[p] = now
	}
	n, short, top := 0, false, most
	fair := Demand{}
	trickles := [5]bool{}
	for _, p := range want.byUrgency() {
		rank := p.Class.rank()
		top = ceiling(most, rank)
		room := top - total
		k := min(want[p], room-n, max(1, room/(active+1))-n)
		fair[p] = math.MaxInt32
		if 4*(total+want.sum()) > 3*top {
			sh.Scarce = true
			allowed, alone := c.fair(p, max(0, room))
			if k = min(k, allowed); !alone {
				fair[p] = max(0, allowed)
			}
			if owed := c.trickle(p.Class); k <= 0 && owed > 0 {
				k = min(want[p], owed, most-total-n)
				fair[p], trickles[rank] = max(0, k), true
			}
		}
		n += max(0, k)
		short = short || k < want[p]
	}
	sh.calm = !sh.Scarce && !short && 2*(total+n) <= top
	if more := bonus * n; sh.calm && 2*(total+more) <= top {
		n = more
	}
	h.Upto += int64(n)
	sh.Upto, sh.Left, sh.Others = h.Upto, max(0, most-total-n), int64(others)
	for rank := range sh.Classes {
		sh.Classes[rank] = min(sh.Upto, h.Used+int64(underWay+max(0, ceiling(most, rank)-total)))
		if trickles[rank] {
			sh.Classes[rank] = sh.Upto
		}
	}
	for _, k := range fair {
		if k < math.MaxInt32 { // then every purpose keeps to its own
			sh.Fair = map[Purpose]int64{}
			for p, k := range fair {
				sh.Fair[p] = int64(k)
			}
			break
		}
	}
	sh.Retry = now.Add(time.Second)
	if n == 0 && short && c.used(now) >= ceiling(most, want.byUrgency()[0].Class.rank()) { // no worker has to give
		next := now.Add(c.part())
		for part := range c.Spent {
			next = earliest(next, time.Unix(0, part*int64(c.part())).UTC())
		}
		sh.Retry = latest(sh.Retry, next)
	}
	return sh
}

// epoch is for how long calls are counted by purpose.
func (c *Counter) epoch() time.Duration { return max(min(c.Window, time.Hour), asking) }

// trickle is how many calls a class below live may still make in this epoch, however much is used: a fiftieth of the
// limit, at least one, out of what is left to lookups. Where that is too little for all, the classes take turns, and
// lookups have half of the epochs for themselves. Below ten calls a window nothing is left to lookups, and there is none.
// Of calls at once it is how many there may be then, see State.owed.
func (c *Counter) trickle(class Class) int {
	rank, most := class.rank(), c.whole()
	if rank <= leastLive || most-ceiling(most, leastLive) <= len(Classes())-leastLive && c.Epoch%6 != int64(rank-leastLive-1) {
		return 0
	}
	n := max(1, int(float64(most)/50*float64(c.epoch())/float64(max(c.Window, c.epoch()))))
	for p, had := range c.Use {
		if p.Class == class {
			n -= had
		}
	}
	return n
}

// fair is how many calls a purpose may make while others of its class ask: nobody gets ahead of whoever has had the
// fewest by more than a part of what is left.
func (c *Counter) fair(p Purpose, room int) (calls int, alone bool) {
	fewest, asking := math.MaxInt, 1
	for q := range c.Asked {
		if q != p && q.Class == p.Class {
			fewest = min(fewest, c.Use[q])
			asking++
		}
	}
	if asking == 1 {
		return math.MaxInt32, true
	}
	return fewest + max(1, room/(2*asking)) - c.Use[p], false
}

// level is how much each may have when whoever wants less leaves the rest to the others.
func level(total int, wanted []int) int {
	slices.Sort(wanted)
	for i, w := range wanted {
		if even := len(wanted) - i; w*even > total {
			return max(1, (total+even-1)/even)
		}
		total -= w
	}
	return math.MaxInt32
}

// owed reports whether a worker may have a call at once of a class below live, however many others there are: in one of
// six epochs, that is for 10 s of a minute, or always where there are many slots; and one worker at a time.
func (s *State) owed(c *Counter, name, worker string, class Class, now time.Time) bool {
	if c.trickle(class) <= 0 {
		return false
	}
	for id, w := range s.Workers {
		if id == worker || !w.Ends.Add(Margin).After(now) {
			continue
		}
		if slices.Contains(w.Held[name].Owed, class) {
			return false
		}
		for p, n := range w.Held[name].Busy {
			if p.Class == class && n > 0 {
				return false
			}
		}
	}
	return true
}

// kept reports that what is free is kept for a more urgent class, which was refused within the last minute and has had no
// call since: its work comes back for it now and then, and would find it taken each time. Kept is for what comes back, which
// lookups do not. Starved reports that it has been so for a minute: then nothing is owed to the less urgent either.
func (c *Counter) kept(class Class, now time.Time) (kept, starved bool) {
	for of, m := range c.Missed {
		if of.rank() < class.rank() {
			kept, starved = true, starved || now.Sub(m.Since) >= missed
		}
	}
	return kept, starved
}

// passed reports that a worker that waits stands in nobody's way: what it wants is kept for the more urgent, and no call is
// owed to it now.
func (c *Counter) passed(want Demand, now time.Time) bool {
	for p := range want {
		kept, starved := c.kept(p.Class, now)
		if !kept || !starved && c.trickle(p.Class) > 0 {
			return false
		}
	}
	return len(want) > 0
}

// miss notes which of the classes that a worker asks for have got nothing.
func (c *Counter) miss(want, got Demand, now time.Time) {
	for p := range want {
		if got.of(p.Class) > 0 || !p.Class.Awaited() {
			continue
		}
		m, before := c.Missed[p.Class]
		if !before {
			m.Since = now
		}
		m.Last = now
		c.Missed[p.Class] = m
	}
	for p := range got {
		delete(c.Missed, p.Class)
	}
}

// slots shares out a limit of calls at once.
func (s *State) slots(c *Counter, name string, h *Held, a Ask, want Demand, now time.Time) Share {
	sh := Share{Closed: c.Closed}
	worker, busy := a.Worker, a.Busy[name]
	if c.Closed.After(now) {
		want = nil
	} else {
		sh.Closed = time.Time{}
	}
	most := c.most(now)
	mine, others, short := busy.sum(), 0, false
	if h.Slots == 0 && h.Since.IsZero() || now.Sub(h.Asked) > asking {
		h.Since = now
	}
	all := mine + want.sum()
	before, waiting := 0, 0 // workers that wait for their first slot, since before this one
	wanted, elsewhere, byWorker := Demand{}, Demand{}, []int{all}
	inherited := 0
	for id, w := range s.Workers {
		if id == worker || !w.Ends.Add(Margin).After(now) {
			continue
		}
		o := w.Held[name]
		others += o.Slots
		if w.before(a, c.Window, now) {
			inherited += o.Slots
		}
		if now.Sub(o.Asked) > asking || o.Slots == 0 && c.passed(o.Want, now) {
			continue
		}
		byWorker = append(byWorker, o.Busy.sum()+o.Want.sum())
		short = short || o.Short
		for p, k := range o.Busy {
			elsewhere[p] += k
			wanted[p] += k
		}
		for p, k := range o.Want {
			wanted[p] += k
		}
		if o.Short && o.Slots == 0 {
			waiting++
			if o.Since.Before(h.Since) || o.Since.Equal(h.Since) && id < worker {
				before++
			}
		}
	}
	if inherited > 0 { // one of them is made anew, or several lives would leave nothing to the next
		others = min(others-1, max(most-1, others-inherited))
	}
	mineWanted := Demand{}
	for _, d := range []Demand{busy, want} {
		for p, k := range d {
			wanted[p] += k
			mineWanted[p] += k
		}
	}
	free := most - others - c.Others.at(now)
	sh.Scarce = short || all > free
	allowed := free
	switch {
	case !sh.Scarce:
	case waiting > 0 && len(byWorker) > most && h.Slots > 0 && now.Sub(h.Since) >= turn:
		allowed = 0 // it had its turn
	default:
		allowed = min(free, level(most, byWorker))
		if h.Slots == 0 {
			allowed = min(allowed, free-before)
		}
	}
	if inherited > 0 {
		allowed = max(allowed, min(free, 1)) // nobody else has a claim to it
	}
	n := mine
	if sh.Scarce {
		sh.Fair = map[Purpose]int64{}
	}
	h.Owed = nil
	got := orEmpty(busy)
	for _, p := range mineWanted.byUrgency() {
		rank := p.Class.rank()
		kept, starved := c.kept(p.Class, now)
		top := ceiling(most, rank)
		k := min(want[p], top-others-n, allowed-n)
		if sh.Scarce {
			var rivals []int
			for q, d := range wanted {
				if q.Class == p.Class {
					rivals = append(rivals, d)
				}
			}
			even := level(top, rivals) - elsewhere[p]
			k = min(k, even-busy[p])
			sh.Fair[p] = int64(max(0, even))
		}
		if kept {
			k = 0
		}
		if want[p] > 0 && !starved && !sh.Owed[rank] && s.owed(c, name, worker, p.Class, now) {
			sh.Owed[rank] = true
			if busy.of(p.Class) == 0 {
				k = max(k, min(want[p], 1, allowed-n))
			}
		}
		if k > 0 {
			n += k
			got[p] += k
		}
	}
	c.miss(want, got, now)
	for rank, class := range Classes() {
		if sh.Owed[rank] = sh.Owed[rank] && n > 0 && allowed > 0; sh.Owed[rank] {
			h.Owed = append(h.Owed, class)
		}
	}
	held := h.Slots
	h.Slots, h.Busy, h.Want = n, busy, want
	if all > 0 {
		h.Asked = now
	}
	h.Short = n < all
	if (held == 0) != (h.Slots == 0) {
		h.Since = now
	}
	sh.Upto, sh.surplus = int64(max(0, min(n, allowed))), mine > max(0, allowed)
	sh.Left = max(0, free-n)
	sh.Scarce = sh.Scarce || 2*sh.Left < most
	sh.calm = n == 0 || !h.Short && 20*(others+n) <= most // a slot is missed by others at once
	for rank := range sh.Classes {
		sh.Classes[rank] = min(sh.Upto, int64(max(0, ceiling(most, rank)-others)))
		if kept, _ := c.kept(Classes()[rank], now); kept {
			sh.Classes[rank] = 0
		}
	}
	sh.Retry = now.Add(time.Second)
	return sh
}
