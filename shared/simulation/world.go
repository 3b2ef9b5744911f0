package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// maxCalls bounds a history that does not come to rest.
const maxCalls = 400_000

// world is Sorrel, the platforms around it, and the people there.
type world struct {
	schedule
	c          Case
	origin     time.Time
	set        *policy.Set
	store      *store.Memory
	god        *ledger.Ledger // looks without taking time
	sites      []*site
	vendors    *vendors            // the platforms, where they are the vendors' twins; sites are only their names and clocks then
	book       *workflow.Book      // where there are workflows
	ran        map[string]int      // what became of their runs
	erased     map[record.Ref]bool // customers that people deleted in the ERP while nothing was done about them
	inbound    *lane
	out        map[string]*lane
	telemetry  *telemetry.Recorder
	jitter     *rand.Rand
	processes  map[string]int // started so far, by kind
	counts     map[string]int // calls so far, by edge
	gates      map[string]int // what these did, by what
	replays    map[string]int // what became of them
	listing    int            // listings that are to go on
	fired      map[Edge]Fault
	ids        int
	calls      int
	travelling int                                      // webhooks on their way
	taking     int                                      // and in intake
	heard      map[record.Ref]map[string]record.Version // of what the hub has acknowledged, by field
	accepted   map[string]bool                          // webhooks whose vendor heard that they were accepted
	handled    map[string]bool                          // and those that the hub has handled
	hooks      map[string]string                        // which webhook a correlation id of intake is for
	echo       map[string]bool                          // messages that tell of our own changes, by dedup id
	told       map[string]bool                          // native records that people are told about, at a check
	free       map[string][]*process                    // that do no queue's work, and nothing at all now, by kind
	calm       bool                                     // nothing fails any more
	hash       hash.Hash
	line       []byte // room for one of the history
	lines      []string
	keeps      bool
	problems   []string
}

func newWorld(set *policy.Set, c Case, keeps bool) *world {
	start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	w := &world{c: c, origin: start, set: set, out: map[string]*lane{}, processes: map[string]int{}, counts: map[string]int{}, gates: map[string]int{}, replays: map[string]int{}, ran: map[string]int{}, erased: map[record.Ref]bool{}, accepted: map[string]bool{}, handled: map[string]bool{}, hooks: map[string]string{}, echo: map[string]bool{}, heard: map[record.Ref]map[string]record.Version{},
		fired: map[Edge]Fault{}, free: map[string][]*process{}, hash: sha256.New(), keeps: keeps, jitter: rand.New(rand.NewPCG(c.Seed, 0x117))}
	w.schedule = schedule{now: start}
	w.store = store.NewMemory(w.clock)
	w.god = ledger.New(w.store, w.clock)
	w.telemetry = telemetry.New(nil, w.clock, nil)
	w.inbound = newLane(w, "inbound", 3)
	for _, name := range platforms {
		w.sites = append(w.sites, newSite(w, name, c.Profile))
		workers := 2
		if c.Profile.Limits != nil { // more than some platforms take calls at once
			workers = 5
		}
		w.out[name] = newLane(w, name, workers)
	}
	if c.Profile.Workflows || c.Profile.Twins {
		w.out[record.Sorrel] = newLane(w, "workflow", 2)
	}
	return w
}

func (w *world) clock() time.Time { return w.now }

func (w *world) id() string {
	w.ids++
	return fmt.Sprintf("c-%d", w.ids)
}

// note adds a line to the history.
func (w *world) note(who, did, what string, f Fault) {
	b := append(w.line[:0], w.now.Sub(w.origin).String()...)
	for _, s := range [...]string{who, did, what} {
		b = append(append(b, ' '), s...)
	}
	if f != none {
		b = append(append(b, " ✗ "...), f...)
	}
	b = append(b, '\n')
	_, _ = w.hash.Write(b)         // never fails
	if w.keeps && did != "range" { // a sweep looks at every shard of everything
		w.lines = append(w.lines, string(b[:len(b)-1]))
	}
	w.line = b
}

func (w *world) wrong(format string, a ...any) {
	problem := fmt.Sprintf(format, a...)
	w.note("world", "finds", problem, none)
	if len(w.problems) < 20 {
		w.problems = append(w.problems, problem)
	}
}

func (w *world) sum() string { return hex.EncodeToString(w.hash.Sum(nil)[:8]) }

// fault is what goes wrong with the next call at an edge.
func (w *world) fault(name, kind string) Fault {
	w.counts[name]++
	if w.calm {
		return none
	}
	e := Edge{name, w.counts[name]}
	f := w.c.fault(e, kind)
	if f != none {
		w.fired[e] = f
	}
	return f
}

func (w *world) down(place string) bool {
	if w.calm {
		return false
	}
	at := w.now.Sub(w.origin)
	return slices.ContainsFunc(w.c.Outages, func(o Outage) bool { return o.Of == place && at >= o.From && at < o.From+o.For })
}

// lane is a queue and the function that works on it.
type lane struct {
	w          *world
	name       string
	most, busy int // invocations at once
	q, dead    *queue.Memory
	free       []*process
	planned    time.Time // when it is looked at next
	receives   int
}

func newLane(w *world, name string, most int) *lane {
	l := &lane{w: w, name: name, most: most}
	l.dead = queue.NewMemory(queue.Settings{Name: name + "-dlq"}, nil, w.clock)
	l.q = queue.NewMemory(queue.Settings{Name: name, Visibility: 30 * time.Second}, l.dead, w.clock)
	return l
}

func (l *lane) send(ctx context.Context, msgs ...queue.Message) error {
	err := l.q.Send(ctx, msgs...)
	l.look(time.Millisecond)
	return err
}

// look has the lane look for messages after d, if it does not sooner.
func (l *lane) look(d time.Duration) {
	at := l.w.now.Add(d)
	if !l.planned.IsZero() && !at.Before(l.planned) {
		return
	}
	l.planned = at
	l.w.at(at, func() {
		if at.Equal(l.planned) {
			l.planned = time.Time{}
			l.poll()
		}
	})
}

// poll hands what waits to the function, as many invocations as may run at once.
func (l *lane) poll() {
	w := l.w
	if w.down("queue") {
		l.look(time.Second)
		return
	}
	for l.busy < l.most {
		l.receives++
		count := 1 + int(w.c.chance("batch", l.name, l.receives)%queue.MaxBatch)
		got, err := l.q.Receive(context.Background(), count, 0)
		if err != nil || len(got) == 0 {
			break
		}
		l.invoke(got)
	}
	if d, err := l.q.Depth(context.Background()); err == nil && d.Visible+d.InFlight > 0 {
		l.look(5 * time.Second)
	}
}

func (l *lane) invoke(got []queue.Received) {
	w, kind := l.w, l.name
	for _, m := range got {
		if m.Receives > 1 && w.c.Profile.Faults == 0 && w.down(l.name) {
			w.wrong("burned: %s of %s is received for the %d. time although nothing but a platform is away", m.ID, l.name, m.Receives)
		}
	}
	if l == w.inbound {
		kind = "hub"
	}
	p := take(&l.free, func() *process { return newProcess(w, kind) })
	l.busy++
	w.run(p, func() {
		w.hears(got)
		apply := w.applying(p)
		failed := apply(context.Background(), got)
		p.alive()
		var done, again []string
		for _, m := range got {
			if slices.Contains(failed, m.ID) {
				again = append(again, m.Receipt)
			} else {
				done = append(done, m.Receipt)
				if p.hub != nil {
					w.acknowledged(m)
				}
			}
		}
		_ = p.call("queue", "acknowledge", fmt.Sprint(l.name, done), func() error { return l.q.Delete(context.Background(), done...) })
		if len(again) > 0 {
			_ = l.q.Release(context.Background(), 2*time.Second, again...)
		}
	}, func() {
		l.busy--
		if !p.dead {
			l.free = append(l.free, p)
		}
		l.look(time.Millisecond)
	})
}

// hears notes that word of something that is not our own change has come.
func (w *world) hears(got []queue.Received) {
	for _, m := range got {
		parts := strings.SplitN(m.Group, "/", 3)
		if len(parts) != 3 || parts[0] == record.Sorrel || w.echo[m.Dedup] {
			continue
		}
		if r := w.site(parts[0]).rows[record.Ref{Platform: parts[0], Object: parts[1], ID: parts[2]}]; r != nil {
			r.heard = w.now
		}
	}
}

func (w *world) applying(p *process) func(context.Context, []queue.Received) []string {
	switch {
	case p.hub != nil:
		return p.hub.Apply
	case p.workflow != nil:
		return p.workflow.Apply
	}
	return p.deliver.Apply
}

// take is a process that has nothing to do, or a new one.
func take(free *[]*process, make func() *process) *process {
	if n := len(*free); n > 0 {
		p := (*free)[n-1]
		*free = (*free)[:n-1]
		return p
	}
	return make()
}

// run has a process do something.
func (w *world) run(p *process, do, ended func()) {
	p.begin()
	w.schedule.start(&p.task, func() { do(); p.rest() }, func(failure any) {
		if failure != nil {
			w.wrong("%s panics: %v", p.name, failure)
			p.dead = true
		}
		if p.dead {
			w.note(p.name, "is", "gone", none)
		}
		ended()
	})
}

// job runs something that is no queue's work.
func (w *world) job(kind string, do func(ctx context.Context, p *process)) {
	w.serve(kind, do, func() {})
}

// serve runs something that is no queue's work. ended is called when it is over, in whichever way.
func (w *world) serve(kind string, do func(ctx context.Context, p *process), ended func()) {
	free := w.free[kind]
	p := take(&free, func() *process { return newProcess(w, kind) })
	w.free[kind] = free
	w.run(p, func() { do(context.Background(), p) }, func() {
		if !p.dead {
			w.free[kind] = append(w.free[kind], p)
		}
		ended()
	})
}

// webhook sends what a platform tells on its way. ours says that it tells of our own change, whether it shows that or not.
func (w *world) webhook(s *site, n record.Native, ours bool) {
	name := s.name + ".webhook"
	f := w.fault(name, "webhook")
	h := hook{id: fmt.Sprintf("%s-%d", name, w.counts[name]), from: s, ours: ours}
	w.note(s.name, "tells", fmt.Sprintf("of %s %s as %s", n.ID, n.Version.At.Format(stamp), h.id), f)
	body, err := json.Marshal(n)
	if err != nil {
		panic(err) // all values here are text and truth values
	}
	h.body = body
	took := time.Duration(20+w.c.chance("latency", name, w.counts[name])%2000) * time.Millisecond
	switch f {
	case lost:
		return
	case late:
		took += 10 * time.Minute
	case twice: // under the same id
		w.arrive(h, took+time.Duration(w.c.chance("again", name, w.counts[name])%uint64(7*time.Minute)))
	}
	w.arrive(h, took)
}

// hook is one webhook that a vendor sends until it is accepted.
type hook struct {
	id    string // the vendor's: the same each time it is sent
	from  *site
	body  []byte
	ours  bool
	tried int
}

const (
	tries    = 5                // bounds how often a vendor sends a webhook that was not accepted
	patience = 10 * time.Second // of a vendor who waits for our answer
)

// arrive is a webhook at intake. The vendor sends it again unless it hears soon that it was accepted, and what it tells
// of later changes may come first then.
func (w *world) arrive(h hook, after time.Duration) {
	w.travelling++
	w.later(after, func() {
		w.travelling--
		sent, accepted := w.now, false
		w.taking++
		w.serve("intake", func(ctx context.Context, p *process) {
			p.hook = h
			a := p.intake.Apply(ctx, h.from.name, platform.Request{Header: http.Header{"Delivery": {h.id}}, Body: h.body})
			err := p.call("vendor", "reply", fmt.Sprintf("%s: %d", h.id, a.Status), func() error { return nil })
			accepted = err == nil && a.Status/100 == 2 && w.now.Sub(sent) < patience
		}, func() {
			w.taking--
			if h.tried++; accepted {
				w.accepted[h.id] = true
			} else if h.tried < tries {
				w.arrive(h, time.Duration(h.tried)*20*time.Second)
			}
		})
	})
}

// sweeping lets the sweep run again and again: often while there is something for it to do.
func (w *world) sweeping() {
	w.job("sweep", func(ctx context.Context, p *process) {
		swept, err := p.sweep.Apply(ctx)
		if err == nil && p.replay != nil {
			_, err = p.replay.Advance(ctx, swept.Replaying)
		}
		if err != nil {
			w.note(p.name, "fails", string(fault.ClassOf(err)), none)
		}
	})
	w.later(w.pause(), w.sweeping)
}

// pause is how long the sweep has nothing to do, as far as is known.
func (w *world) pause() time.Duration {
	const least, most = 30 * time.Second, 5 * time.Minute
	ctx, idle := context.Background(), most
	soonest := func(notBefore time.Time, err error) bool {
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		idle = min(idle, max(notBefore.Sub(w.now), least))
		return idle > least
	}
	for _, s := range w.sites {
		for p, err := range w.god.DueFor(ctx, s.name) {
			if err == nil && (w.down(s.name) || w.lacks(w.state(p.Record), s.name) || w.vendors != nil && w.vendors.untold(w.state(p.Record).Record.Views[s.name].Ref)) {
				continue
			}
			if !soonest(p.NotBefore, err) {
				return least
			}
		}
	}
	for p, err := range w.god.DueFor(ctx, record.Sorrel) {
		if !soonest(p.NotBefore, err) {
			return least
		}
	}
	for r, err := range w.god.Rechecks(ctx) {
		if !soonest(r.NotBefore, err) {
			return least
		}
	}
	for t, err := range w.god.Timers(ctx, w.now.Add(most)) {
		if !soonest(t.At, err) {
			return least
		}
	}
	if len(w.replaying()) > 0 {
		return least
	}
	return idle
}

// list has batch list a platform. Where its budget is used up the next run goes on.
func (w *world) list(name string) {
	again := false
	w.listing++
	w.serve("batch", func(ctx context.Context, p *process) {
		listed, err := p.batch.Apply(ctx, name)
		if err != nil {
			w.note(p.name, "fails", string(fault.ClassOf(err)), none)
		}
		again = err == nil && !listed.Complete || p.gates != nil && w.calm && err != nil
	}, func() {
		if w.listing--; again {
			w.listing++
			w.later(20*time.Second, func() { w.listing--; w.list(name) })
		}
	})
}

// redrive puts dead letters back on their queues, and returns how many.
func (w *world) redrive() (n int) {
	for _, l := range w.lanes() {
		got, err := l.dead.Receive(context.Background(), queue.MaxBatch, 0)
		if err != nil {
			w.wrong("redriving: %v", err)
		}
		for _, m := range got {
			echo := w.echo[m.Dedup]
			m.Dedup = w.id()
			w.echo[m.Dedup] = echo
			if err := l.send(context.Background(), m.Message); err != nil {
				w.wrong("redriving: %v", err)
			}
			_ = l.dead.Delete(context.Background(), m.Receipt)
			n++
		}
	}
	return n
}

func (w *world) lanes() []*lane {
	out := []*lane{w.inbound}
	for _, name := range platforms {
		out = append(out, w.out[name])
	}
	if l, some := w.out[record.Sorrel]; some {
		out = append(out, l)
	}
	return out
}
