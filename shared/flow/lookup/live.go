package lookup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// maxReads bounds the native records that are read for one answer: an owner gives a handful of calls at once.
const maxReads = 10

// maxHeard bounds the memory of what was read. When it is full it is emptied: owners are read once more.
const maxHeard = 4096

// heard is what an owner said when it was read.
type heard struct {
	at  time.Time
	obs record.Observation
}

// live reads owners: each native record by one call at a time, however many ask for it.
type live struct {
	d       Deps
	flights singleflight.Group
	mu      sync.Mutex
	memory  map[record.Ref]heard // by when, until the hub has it and beyond
}

func newLive(d Deps) *live { return &live{d: d, memory: map[record.Ref]heard{}} }

func (l *live) recall(ref record.Ref) (heard, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.memory[ref]
	return h, ok
}

func (l *live) keep(ref record.Ref, h heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.memory[ref]; !known && len(l.memory) >= maxHeard {
		clear(l.memory)
	}
	l.memory[ref] = h
}

// read asks an owner, until the caller's time is over. The call itself goes on for those who came later.
func (l *live) read(ctx context.Context, m *mapping.Mapping, ref record.Ref, view record.View, trace string, within time.Duration, old func(time.Time) bool) error {
	done := l.flights.DoChan(ref.String(), func() (any, error) {
		if h, ok := l.recall(ref); ok && !old(h.at) { // somebody else's call ended after this question had looked
			return nil, nil
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		return nil, l.call(call, m, ref, view, trace)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return &fault.Error{Class: fault.Down, Op: "lookup.read", ID: ref.String(), Detail: ref.Platform + " did not answer within the time budget"}
	}
}

func (l *live) call(ctx context.Context, m *mapping.Mapping, ref record.Ref, view record.View, trace string) error {
	r, connected := l.d.Readers[ref.Platform]
	if !connected {
		return &fault.Error{Class: fault.Down, Op: "lookup.read", ID: ref.String(), Code: fault.NotCalled, Detail: ref.Platform + " is not connected"}
	}
	at := l.d.Now() // before the call: what it says is not older
	n, err := r.Read(budget.For(ctx, budget.Purpose{Class: budget.Lookup, Entity: m.Entity}), ref)
	n.Ours = false // a read shows what is there, whoever saved it last
	if !budget.Refused(err) {
		l.d.Telemetry.Count("ProviderReads", ref.Platform, 1)
	}
	l.d.Telemetry.Event(ctx, telemetry.Event{Step: "read", Platform: ref.Platform, Record: ref.String(), Trace: trace, Err: err})
	if fault.Is(err, fault.NotFound) { // the hub finds out what became of it
		l.tell(ctx, record.Native{Ref: ref}, trace)
		return &fault.Error{Class: fault.NotFound, Op: "lookup.read", ID: ref.String(), Detail: ref.Platform + " does not know it any more"}
	}
	if err != nil {
		return fault.Wrap("", "lookup.read", ref.String(), err)
	}
	if n.Gone {
		l.tell(ctx, n, trace)
		return &fault.Error{Class: fault.NotFound, Op: "lookup.read", ID: ref.String(), Detail: ref.Platform + " has deleted it"}
	}
	o, refs, err := m.Observe(n)
	if err != nil {
		return fault.Wrap(fault.Contract, "lookup.read", ref.String(), err)
	}
	o.Trace, o.Timed = trace, l.d.Config.Rules(m.Entity).Timed()
	for field, to := range refs {
		if id, known, err := l.d.Ledger.Lookup(ctx, to); err == nil && known {
			o.Fields[field] = record.TextValue(string(id))
		}
	}
	if _, news := record.Observe(view, o); news {
		l.tell(ctx, n, trace)
	}
	l.keep(ref, heard{at, o})
	return nil
}

// tell lets the hub know. It may take half of the time that is left, so that an answer is not held up by a slow queue. What
// the queue does not keep is found by the next listing.
func (l *live) tell(ctx context.Context, n record.Native, trace string) {
	if end, ends := ctx.Deadline(); ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	in := message.Inbound{CorrelationID: trace, ReceivedAt: l.d.Now().UTC(), Source: message.Lookup, Native: n}
	m, err := in.Message("lookup/" + trace)
	if err == nil {
		err = l.d.Inbound.Send(ctx, m)
	}
	if err != nil {
		l.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: n.Platform, Record: n.Ref.String(), Trace: trace, Detail: "queueing what was read", Err: err})
	}
}

// asking is one answer on its way.
type asking struct {
	f      *Flow
	q      Question
	use    policy.Use
	maxAge time.Duration

	connected bool // only owners that are connected are asked

	begun time.Time // by the machine's clock: budgets are real time
	now   time.Time
}

func (f *Flow) asking(q Question, use string) *asking {
	a := &asking{f: f, q: q, use: f.d.Config.Lookups().Uses[use], maxAge: q.MaxAge, begun: time.Now(), now: f.d.Now()}
	if a.maxAge < 0 {
		a.maxAge = a.use.MaxAge
	}
	return a
}

// seen is a record as it is known now.
type seen struct {
	record record.Record
	state  string
	asOf   map[string]time.Time // by platform
	live   bool
	why    []string // owners could not be read
}

func (v seen) text(field string) string {
	if g := v.record.Golden[field].Value; g.Kind() == record.Text {
		return g.Raw()
	}
	return ""
}

// known is a record as the ledger has it, with what was read of it before.
func (a *asking) known(s ledger.State) seen {
	v := seen{record: s.Record, state: Present, asOf: map[string]time.Time{}}
	r, more := s.Record.Clone(), false
	for p, view := range s.Record.Views {
		v.asOf[p] = view.Heard.At
		if view.Gone() {
			v.asOf[p] = latest(v.asOf[p], view.Died.At)
			continue
		}
		h, ok := a.f.live.recall(view.Ref)
		if !ok {
			continue
		}
		v.asOf[p] = latest(v.asOf[p], h.at)
		if merged, news := record.Observe(view, h.obs); news {
			r.Views[p], more = merged, true
		}
	}
	if more {
		entity := r.ID.Entity()
		v.record, _ = record.Fold(r, a.f.d.Config.Rules(entity), a.f.d.Config.On(entity), a.now.UTC())
	}
	if deleted(v.record) {
		v.state = Deleted
	}
	return v
}

// deleted reports whether no platform has a record any more that it has values of; a copy elsewhere may remain.
func deleted(r record.Record) bool {
	gone := false
	for _, g := range r.Golden {
		if v, platform := r.Views[g.From]; platform {
			if v.Exists() {
				return false
			}
			gone = true
		}
	}
	for _, v := range r.Views {
		if !gone && v.Exists() {
			return false
		}
	}
	return len(r.Views) > 0
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// owners are the platforms whose values a consumer sees of a record, or that decide about it otherwise.
func (a *asking) owners(r record.Record) []string {
	var out []string
	for field, g := range r.Golden {
		if _, platform := r.Views[g.From]; platform && (a.q.Consumer.Learns(r.ID.Entity(), field) || slices.Contains(decisive(r.ID.Entity()), field)) && !slices.Contains(out, g.From) {
			out = append(out, g.From)
		}
	}
	slices.Sort(out)
	return out
}

// decisive are fields that answers depend on, whoever may see them.
func decisive(entity string) []string {
	switch entity {
	case "contract":
		return []string{"status", "tier", "startsOn", "endsOn", "product", "customer"}
	case "customer":
		return []string{"creditHold"}
	}
	return nil
}

func (a *asking) old(at time.Time) bool { return a.now.Sub(at) > a.maxAge }

// look reads the owners of records that are known for longer than they may be, all at once, within the budget.
func (a *asking) look(ctx context.Context, states ...ledger.State) []seen {
	within := a.f.d.Config.Lookups().Budget - time.Since(a.begun)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out := make([]seen, len(states))
	var reads sync.WaitGroup
	var mu sync.Mutex
	count := 0
	read := map[int]bool{}
	why := map[int][]string{}
	for i, s := range states {
		out[i] = a.known(s)
		for _, p := range a.owners(out[i].record) {
			view := s.Record.Views[p]
			if _, connected := a.f.d.Readers[p]; a.connected && !connected || !view.Exists() || !a.old(out[i].asOf[p]) {
				continue
			}
			m, mapped := a.f.d.Config.ByObject(p, view.Object)
			if count++; !mapped || count > maxReads {
				mu.Lock()
				why[i] = append(why[i], fmt.Sprintf("%s was not read: one answer reads %d records at most", p, maxReads))
				mu.Unlock()
				continue
			}
			reads.Go(func() {
				err := a.f.live.read(ctx, m, view.Ref, view, a.q.Trace, within, a.old)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					why[i] = append(why[i], p+" was not read: "+plain(err))
					return
				}
				read[i] = true
			})
		}
	}
	reads.Wait()
	for i, s := range states {
		if read[i] {
			out[i] = a.known(s)
			out[i].live = true
		}
		slices.Sort(why[i])
		out[i].why = why[i]
	}
	return out
}

// Look is what records are, with what their owners said when they were asked last. live asks those once more of which
// more is not known than an answer about entitlements may be old. It is for Sorrel itself, which may see everything. An owner
// that is not connected is not missed: what it said once is all that will ever be known.
func (f *Flow) Look(ctx context.Context, trace string, live bool, states ...ledger.State) []workflow.Word {
	a := f.asking(Question{MaxAge: -1, Trace: trace}, policy.UseEntitlements)
	a.connected = true
	var views []seen
	if live {
		views = a.look(ctx, states...)
	} else {
		for _, s := range states {
			views = append(views, a.known(s))
		}
	}
	out := make([]workflow.Word, len(views))
	for i, v := range views {
		var t Told
		a.tell(&t, v)
		out[i] = workflow.Word{Record: v.record, AsOf: t.AsOf, Why: strings.Join(v.why, "; ")}
	}
	return out
}

// plain says what kept an owner from being read, without its inner causes.
func plain(err error) string {
	if e := fault.Outermost(err); e != nil && e.Detail != "" {
		return e.Detail
	}
	return fault.RowOf(err).Title
}

// record is what the consumer may see. asked is the id that the question named.
func (a *asking) record(v seen, asked record.ID) Record {
	r := v.record
	out := Record{Record: r.ID, Entity: r.ID.Entity(), State: v.state, Fields: map[string]Value{}, Duplicates: slices.Sorted(maps.Keys(r.Suspects))}
	if asked != r.ID && asked != "" {
		out.State, out.Asked = Merged, asked
	}
	for _, field := range a.q.Consumer.Fields[out.Entity] {
		if g, some := r.Golden[field]; some && !g.Value.IsAbsent() {
			out.Fields[field] = a.value(v, g)
		}
	}
	return out
}

func (a *asking) value(v seen, g record.Golden) Value {
	out := Value{Value: g.Value, Owner: g.From, AsOf: a.now.UTC()} // what Sorrel or a steward says is so now
	if at, platform := v.asOf[g.From]; platform {
		out.AsOf = at.UTC()
	}
	return out
}

// tell fills in how old an answer is that all of views are part of.
func (a *asking) tell(t *Told, views ...seen) {
	*t = Told{AsOf: a.now.UTC(), MaxAgeSeconds: a.maxAge.Seconds(), Source: Cached, Freshness: Fresh, CorrelationID: a.q.Trace}
	for _, v := range views {
		if v.live {
			t.Source = Live
		}
		for _, p := range a.owners(v.record) {
			if at := v.asOf[p]; at.Before(t.AsOf) {
				t.AsOf = at.UTC()
			}
		}
		for _, w := range v.why {
			if !slices.Contains(t.Why, w) {
				t.Why = append(t.Why, w)
			}
		}
	}
	t.AgeSeconds = max(0, a.now.Sub(t.AsOf).Seconds())
	if a.old(t.AsOf) {
		t.Freshness = Stale
	}
}

// verdict is tell, and refuses what is stale where lookups.yaml says so.
func (a *asking) verdict(t *Told, views ...seen) error {
	a.tell(t, views...)
	a.f.d.Telemetry.Count("Lookups", "", 1)
	if t.Source == Live {
		a.f.d.Telemetry.Count("LookupsLive", "", 1)
	}
	if t.Freshness == Fresh {
		return nil
	}
	a.f.d.Telemetry.Count("LookupsStale", "", 1)
	if a.use.OwnerDown == policy.AnswerStale {
		return nil
	}
	return &fault.Error{Class: fault.Down, Op: "lookup", Detail: fmt.Sprintf("what is known is %.0f s old, more than the %.0f s that are accepted, and its owner could not be read", t.AgeSeconds, t.MaxAgeSeconds),
		Remedy: "come again, or accept an older answer by maxAge", RetryAt: a.f.d.Now().Add(5 * time.Second)}
}
