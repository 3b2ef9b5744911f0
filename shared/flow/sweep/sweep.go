// Package sweep wakes what is due and has not been woken, or whose time has come: it is what makes losing
// queue messages harmless.
//
// It wakes in order of class and age, about as much as the platform lets us call in the next minute, and a replay once,
// not at each sweep while it waits. While a
// platform's breaker is open it wakes nothing, and one record to find out when the pause is over. So after an outage the
// backlog drains at the platform's budget, the most urgent first.
//
// Each platform, the rechecks and the timers have an equal share of the time that the invocation has: what does not fit is
// for the next sweep, and a large backlog of one does not keep the others waiting.
package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// Looker tells what a platform lets us call from now on.
type Looker interface {
	Look(ctx context.Context, platform string) (budget.Outlook, error)
}

// Deps are what sweep needs. All but Look and Book are required.
type Deps struct {
	Ledger    *ledger.Ledger
	Wake      map[string]queue.Sender // by platform, and record.Sorrel for workflows
	Inbound   queue.Sender
	Look      Looker         // nil = nothing is limited
	Book      *workflow.Book // says when runs are late; nil = none is
	Now       func() time.Time
	Grace     time.Duration // work that became due less than this ago has its wake-up on the queue
	Telemetry *telemetry.Recorder
}

// Flow is the sweep function.
type Flow struct {
	d     Deps
	lanes memory
}

// New returns the function.
func New(d Deps) *Flow { return &Flow{d: d, lanes: memory{sent: map[string][]sent{}}} }

// Swept is what one run did.
type Swept struct {
	Due       map[string]int // waiting, by platform
	Replaying map[string]int // of these, for a replay
	Asleep    map[string]int // of these, what could be woken but for the platform: its breaker, or its budget
	Woken     int
	Rechecked int
	told      time.Duration // how long a subscriber has waited for what is due longest
	Timed     int           // records whose time has come: a proposal expires, an override ends, a held value is tried again
}

const (
	maxWoken = 5000 // wake-ups of one run per platform; the rest is woken by the next
	chunk    = 100  // messages sent at once
)

// Apply wakes due work and rechecks. Waking twice is harmless: a wake-up without due work does nothing.
func (f *Flow) Apply(ctx context.Context) (Swept, error) {
	now := f.d.Now()
	out := Swept{Due: map[string]int{}, Replaying: map[string]int{}, Asleep: map[string]int{}}
	var parts []func(context.Context) error
	for _, name := range slices.Sorted(maps.Keys(f.d.Wake)) {
		parts = append(parts, func(ctx context.Context) error { return f.platform(ctx, name, f.d.Wake[name], now, &out) })
	}
	parts = append(parts, func(ctx context.Context) error { return f.rechecks(ctx, now, &out) },
		func(ctx context.Context) error { return f.timers(ctx, now, &out) }, func(ctx context.Context) error { return f.proposals(ctx, now) },
		func(ctx context.Context) error { return f.mended(ctx, now) }, func(ctx context.Context) error { return f.runs(ctx, now) })
	var errs []error // one platform's trouble is not the others'
	for i, part := range parts {
		share, cancel := deadline.Share(ctx, len(parts)-i)
		errs = append(errs, part(share))
		cancel()
	}
	f.d.Telemetry.Gauge("SubscribersOldestAge", "", out.told.Seconds())
	return out, errors.Join(errs...)
}

// over reports that a share of the time has come to its end, all but what the request under way may take. A cancelled
// context is for the store to refuse.
func over(ctx context.Context) bool { return ctx.Err() == nil && !deadline.Fits(ctx, deadline.Reserve) }

// look asks what a platform lets us call. What cannot be told limits nothing: deliver meets the platform's gate anyway.
// Workflows call nobody.
func (f *Flow) look(ctx context.Context, name string) budget.Outlook {
	if f.d.Look == nil || name == record.Sorrel {
		return budget.Outlook{}
	}
	o, err := f.d.Look.Look(ctx, name)
	if err != nil {
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: name, Detail: "looking at its budget", Err: err})
		return budget.Outlook{}
	}
	return o
}

// room is how many records may be woken, when that many of more urgent classes were woken already.
func room(o budget.Outlook, class budget.Class, woken int, now time.Time) int {
	left, limited := o.Room[class]
	switch {
	case o.Open && o.Until.After(now):
		return 0
	case o.Open:
		return 1 - woken // one finds out
	case limited:
		return min(left, maxWoken) - woken
	}
	return maxWoken - woken
}

// backlog collects what may be woken: of much, the first in order of class and age.
type backlog []ledger.Pending

func (b *backlog) add(p ledger.Pending) {
	if *b = append(*b, p); len(*b) >= 2*maxWoken {
		b.sort()
		*b = (*b)[:maxWoken]
	}
}

func (b *backlog) sort() {
	classes := budget.Classes()
	slices.SortFunc(*b, func(x, y ledger.Pending) int {
		return cmp.Or(slices.Index(classes, x.Class)-slices.Index(classes, y.Class), x.Since.Compare(y.Since), strings.Compare(string(x.Record), string(y.Record)))
	})
}

func (f *Flow) platform(ctx context.Context, name string, q queue.Sender, now time.Time, out *Swept) error {
	o := f.look(ctx, name)
	var lag ledger.Lag
	var ready backlog
	count, could := map[budget.Class]int{}, 0
	for p, err := range f.d.Ledger.DueFor(ctx, name) {
		if err != nil {
			return err
		}
		if over(ctx) {
			break // what was not counted is missing in the gauges
		}
		out.Due[name]++
		count[p.Class]++
		lag.Add(p)
		fresh := p.NotBefore.IsZero() && now.Sub(p.Since) < f.d.Grace // what was put off has no wake-up on the queue
		if !p.NotBefore.After(now) && !fresh {
			could++
			ready.add(p)
		}
	}
	ready.sort()
	queued := f.queued(ctx, name, q, o, ready, now)
	var msgs []queue.Message
	var waking []ledger.Pending
	for _, p := range ready {
		woken := len(msgs)
		if p.Class == budget.Replay {
			woken += len(queued)
		}
		if room(o, p.Class, woken, now) <= 0 || queued[entryOf(p)] {
			continue
		}
		m, err := f.wake(name, p, o, now)
		if err != nil {
			return err
		}
		msgs, waking = append(msgs, m), append(waking, p)
	}
	f.tell(ctx, name, o, count)
	f.d.Telemetry.Gauge("Due", name, float64(out.Due[name]))
	f.d.Telemetry.Gauge("DueOldestAge", name, lag.Old(now).Seconds())
	if _, is := record.Subscriber(name); is {
		out.told = max(out.told, lag.Old(now))
	}
	if lag.Told(now) {
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "behind", Platform: name, Detail: lag.Says(name, now)})
	}
	out.Asleep[name], out.Replaying[name] = could-len(msgs)-len(queued), count[budget.Replay]
	f.d.Telemetry.Gauge("DueAsleep", name, float64(out.Asleep[name]))
	woken := 0
	for some := range slices.Chunk(msgs, chunk) {
		if over(ctx) {
			break
		}
		if err := q.Send(ctx, some...); err != nil {
			return err
		}
		for _, p := range waking[woken : woken+len(some)] {
			if p.Class == budget.Replay {
				f.lanes.add(name, p, now)
			}
		}
		woken += len(some)
	}
	if woken == 0 {
		return nil
	}
	out.Woken += woken
	f.d.Telemetry.Count("Swept", name, float64(woken))
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "swept", Platform: name, Detail: fmt.Sprintf("%d woken", woken)})
	return nil
}

// seldom is how often an entry is woken that has waited for long.
const seldom = 30 * time.Second

// wake makes a wake-up. Its dedup id changes with the time, so that an entry is woken once per Grace at most, and less
// often the longer it waits; and with each pause of the platform that ends. A replay's is new each time: a queue that drops
// it in silence would be thought to hold it.
func (f *Flow) wake(name string, p ledger.Pending, o budget.Outlook, now time.Time) (queue.Message, error) {
	since := p.Since
	if p.NotBefore.After(since) {
		since = p.NotBefore
	}
	age, every := now.Sub(since), max(f.d.Grace, time.Second)
	for !o.Open && every < seldom && age/4 > every { // who finds out whether a platform is back may do so each time
		every *= 2
	}
	id := fmt.Sprintf("sweep-%d-%d-%d", since.UnixMilli(), every.Milliseconds(), age/every)
	if p.Class == budget.Replay {
		id = fmt.Sprintf("sweep-%d-at-%d", since.UnixMilli(), now.UnixMilli())
	}
	if !o.Until.IsZero() {
		id += fmt.Sprintf("-%d", o.Until.UnixMilli())
	}
	return message.Wake{Platform: name, Record: p.Record, CorrelationID: id, Class: p.Class}.Message(id)
}

// tell reports what waits and why, for alarms.
func (f *Flow) tell(ctx context.Context, name string, o budget.Outlook, count map[budget.Class]int) {
	for _, class := range []budget.Class{budget.Live, budget.Approval, budget.Reconcile, budget.Replay} {
		c := class.String()
		f.d.Telemetry.Gauge("Due"+strings.ToUpper(c[:1])+c[1:], name, float64(count[class]))
	}
	open := 0.0
	if o.Open {
		open = 1
		f.d.Telemetry.Count("PlatformDown", name, 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "asleep", Platform: name, Detail: fmt.Sprintf("not called until %s: %s", o.Until.UTC().Format(time.RFC3339), o.Reason)})
	}
	f.d.Telemetry.Gauge("BreakerOpen", name, open)
}

func (f *Flow) rechecks(ctx context.Context, now time.Time, out *Swept) error {
	looks, asked := map[string]budget.Outlook{}, map[string]int{}
	for r, err := range f.d.Ledger.Rechecks(ctx) {
		if err != nil {
			return err
		}
		if r.NotBefore.After(now) {
			continue
		}
		if over(ctx) {
			return nil
		}
		o, looked := looks[r.Ref.Platform]
		if !looked {
			o = f.look(ctx, r.Ref.Platform)
			looks[r.Ref.Platform] = o
		}
		if room(o, r.Class, asked[r.Ref.Platform], now) <= 0 {
			continue
		}
		asked[r.Ref.Platform]++
		in := message.Inbound{CorrelationID: r.Trace, ReceivedAt: now.UTC(), Source: message.Recheck, Native: record.Native{Ref: r.Ref}}
		if r.Class == budget.Replay {
			in.Source = message.Replay
		}
		m, err := in.Message("recheck/" + r.NotBefore.UTC().Format(time.RFC3339Nano))
		if err != nil {
			return err
		}
		if err := f.d.Inbound.Send(ctx, m); err != nil {
			return err
		}
		if err := f.d.Ledger.Rechecked(ctx, r); err != nil {
			return err
		}
		out.Rechecked++
	}
	return nil
}

// countEvery is the minute of an hour whose multiples count proposals, and look at exceptions about messages: that costs a
// read of all of them.
const countEvery = 15

// proposals reports how many wait for a decision, and for how long.
func (f *Flow) proposals(ctx context.Context, now time.Time) error {
	if now.Minute()%countEvery != 0 {
		return nil
	}
	open, err := f.d.Ledger.Proposals(ctx, false)
	if err != nil {
		return err
	}
	var oldest time.Duration
	for _, p := range open {
		oldest = max(oldest, now.Sub(p.Opened))
	}
	f.d.Telemetry.Gauge("ProposalsOpen", "", float64(len(open)))
	f.d.Telemetry.Gauge("ProposalsOldestAge", "", oldest.Seconds())
	return nil
}

// runs reports once an hour how many runs of workflows have not ended, by definition, and how many of all are stuck or late.
// It reads a line for each; otherwise a run that waits costs nothing.
func (f *Flow) runs(ctx context.Context, now time.Time) error {
	if now.Minute() != 0 {
		return nil
	}
	all, err := f.d.Ledger.CountRuns(ctx, f.d.Book, now)
	if err != nil {
		return err
	}
	stuck, late := 0, 0
	for name, n := range all {
		stuck, late = stuck+n.Stuck, late+n.Late
		f.d.Telemetry.Gauge("WorkflowsOpen", name, float64(n.Running+n.Undoing+n.Stuck))
		f.d.Telemetry.Gauge("WorkflowsRunning", name, float64(n.Running))
		f.d.Telemetry.Gauge("WorkflowsUndoing", name, float64(n.Undoing))
		f.d.Telemetry.Gauge("WorkflowsAsking", name, float64(n.Asking))
		f.d.Telemetry.Gauge("WorkflowsStuck", name, float64(n.Stuck))
		f.d.Telemetry.Gauge("WorkflowsLate", name, float64(n.Late))
		f.d.Telemetry.Gauge("WorkflowsOldestAge", name, n.Oldest)
	}
	f.d.Telemetry.Gauge("WorkflowsStuck", "", float64(stuck))
	f.d.Telemetry.Gauge("WorkflowsLate", "", float64(late))
	return nil
}

// mended resolves the exceptions about messages that were given up, where what they asked for has come about in another
// way: nothing is due any more, or the platform has said as much since. Their letters are overtaken.
func (f *Flow) mended(ctx context.Context, now time.Time) error {
	if now.Minute()%countEvery != 0 {
		return nil
	}
	open, err := f.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return err
	}
	for _, x := range open {
		if x.Type != ledger.PoisonMessage || x.About == "" || x.Platform == "" {
			continue
		}
		moot, err := f.moot(ctx, x)
		if err == nil && moot {
			err = f.d.Ledger.Unpark(ctx, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moot reports whether what a message asked for has come about.
func (f *Flow) moot(ctx context.Context, x ledger.Exception) (bool, error) {
	native, said := strings.CutPrefix(x.About, x.Platform+"/")
	if !said { // a wake-up
		s, err := f.d.Ledger.Follow(ctx, record.ID(x.About))
		_, due := s.Due[x.Platform]
		return err == nil && s.Exists() && !due, err
	}
	object, id, _ := strings.Cut(native, "/")
	ref := record.Ref{Platform: x.Platform, Object: object, ID: id}
	of, linked, err := f.d.Ledger.Lookup(ctx, ref)
	if err != nil || !linked || x.Told.IsZero() {
		return false, err
	}
	s, err := f.d.Ledger.Follow(ctx, of)
	v := s.Record.Views[x.Platform]
	return err == nil && v.Ref == ref && !v.Heard.At.Before(x.Told), err
}

// timers sends the records whose time has come to the hub. The index entry goes with the hub's commit, so that a lost
// message is sent again.
func (f *Flow) timers(ctx context.Context, now time.Time, out *Swept) error {
	for t, err := range f.d.Ledger.Timers(ctx, now) {
		if err != nil {
			return err
		}
		if out.Timed >= maxWoken || over(ctx) {
			return nil
		}
		event := fmt.Sprintf("timer-%d-%d", t.At.UnixMilli(), now.Unix()/30) // once per half minute at most
		entity, key, _ := strings.Cut(string(t.Record), "/")
		in := message.Inbound{CorrelationID: event, ReceivedAt: now.UTC(), Source: message.Timer,
			Native: record.Native{Ref: record.Ref{Platform: record.Sorrel, Object: entity, ID: key}}}
		m, err := in.Message(event)
		if err != nil {
			return err
		}
		if err := f.d.Inbound.Send(ctx, m); err != nil {
			return err
		}
		out.Timed++
	}
	return nil
}
