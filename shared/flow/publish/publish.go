// Package publish tells subscribers of changes, merges and business events, as CloudEvents made from the audit log.
//
// A commit that adds a line to a record's log makes the record due for each subscriber that is told something of it, and
// notes the first line that the subscriber was not told. The wake-up is only a hint, as those of deliver are: whoever looks
// sends all lines from there on in their order, and then commits that nothing is due any more. So an event is told at least
// once, with the same id each time, and no queue has to keep it.
//
// A subscriber that cannot be reached holds up itself alone. Its work stays due, with growing pauses, and what comes
// meanwhile waits behind it.
package publish

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sorrel/shared/deadline"
	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Sink is where a subscriber is told. After an error any of the events may have been told.
type Sink interface {
	Tell(ctx context.Context, events ...event.Event) error
}

// Deps are what the flow needs. All but Sinks and Wake are required; what is due for a subscriber without a sink stays due.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Source    string          // of all events, such as /sorrel/<stack>
	Sinks     map[string]Sink // by subscriber
	Wake      queue.Sender    // wakes this flow; nil: the sweep does
	Now       func() time.Time
	Rand      func() *rand.Rand // jitter; seeded by the caller
	Telemetry *telemetry.Recorder
}

// Flow is the publish function.
type Flow struct {
	d     Deps
	mu    sync.Mutex
	rests map[string]time.Time // subscribers that could not be reached, and until when nobody else here tries
}

// New returns the function.
func New(d Deps) *Flow { return &Flow{d: d, rests: map[string]time.Time{}} }

const (
	maxConflict = 12
	atOnce      = 10              // events sent in one go
	fits        = 4 * time.Second // for sending them
	firstPause  = 2 * time.Second // after a failure; it doubles
	lastPause   = 5 * time.Minute
	breather    = time.Second // in which a subscriber that has just failed is left alone by this process
)

// Apply handles a batch of wake-ups and returns the ids of messages that must come back. What is due stays due: a message
// that is given up loses nothing.
func (f *Flow) Apply(ctx context.Context, batch []queue.Received) []string {
	var failed []string
	done := map[message.Wake]error{}
	told := map[string]bool{}
	for _, m := range batch {
		w, err := message.ParseWake(m.Body)
		name, is := record.Subscriber(w.Platform)
		if err == nil && !is {
			err = fault.New(fault.Malformed, "publish", fmt.Sprintf("%q is no subscriber", w.Platform))
		}
		if err == nil {
			k := message.Wake{Platform: w.Platform, Record: w.Record}
			if _, known := done[k]; !known {
				var some bool
				some, done[k] = f.tell(ctx, name, w.Record)
				if some {
					told[name] = true
				}
			}
			err = done[k]
		}
		if err == nil {
			continue
		}
		f.d.Telemetry.Count("PublishFailures", name, 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: w.Platform, Record: string(w.Record), Trace: w.CorrelationID, Err: err})
		failed = append(failed, m.ID)
		if m.Receives >= queue.MaxReceives {
			platform, about, at, _ := message.About(m.Body)
			x := ledger.OfMessage(m.ID, platform, about, at)
			x.Trace, x.Detail = w.CorrelationID, err.Error()
			if err := f.d.Ledger.Park(ctx, x); err != nil {
				f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Detail: "parking message " + m.ID, Err: err})
			}
		}
	}
	for name := range told { // for people alone: failing to note it is no failure
		if err := f.d.Ledger.SaveCursor(ctx, record.ToSubscriber(name), lastTold, f.d.Now().UTC().Format(time.RFC3339)); err != nil {
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: record.ToSubscriber(name), Detail: "noting when it was told", Err: err})
		}
	}
	return failed
}

const lastTold = "told"

// tell sends what a subscriber was not told of a record, and reports whether it sent anything.
func (f *Flow) tell(ctx context.Context, name string, id record.ID) (some bool, err error) {
	if f.resting(name) {
		return false, nil // the sweep wakes it
	}
	platform, sent := record.ToSubscriber(name), int64(0) // the last line that was sent here
	for attempt := 0; ; attempt++ {
		states, err := f.d.Ledger.Load(ctx, id)
		if err != nil {
			return some, err
		}
		before := states[id]
		due, is := before.Due[platform]
		if !is || due.NotBefore.After(f.d.Now()) {
			return some, nil
		}
		after := before.Clone()
		entry := ledger.Entry{Before: before, Now: f.d.Now().UTC()}
		sub, configured := f.d.Config.Subscriber(name)
		sink, reachable := f.d.Sinks[name]
		switch {
		case !configured:
			delete(after.Due, platform)
		case !reachable:
			return some, nil
		default:
			due.From = max(due.From, sent+1)
			upTo, n, err := f.send(ctx, sink, sub, before, due)
			some = some || n > 0
			switch {
			case err != nil:
				f.rest(name)
				due.From, due.Attempts, due.Reason = max(due.From, upTo+1), due.Attempts+1, err.Error()
				due.NotBefore = f.d.Now().UTC().Add(f.pause(due.Attempts))
				after.Due[platform] = due
				f.d.Telemetry.Count("NotTold", platform, 1)
				f.d.Telemetry.Event(ctx, telemetry.Event{Step: "not-told", Platform: platform, Record: string(id), Trace: first(due.Traces), Err: err})
			case upTo < before.Log.Seq: // no time left
				due.From = max(due.From, upTo+1)
				after.Due[platform] = due
			default:
				delete(after.Due, platform)
			}
			sent = max(sent, upTo)
			for _, t := range due.Traces {
				if n > 0 {
					entry.Steps = append(entry.Steps, ledger.Step{At: entry.Now, Trace: t, Step: "told", Platform: platform, Record: id, Detail: fmt.Sprintf("%d events, up to line %d of its log", n, upTo)})
				}
			}
		}
		entry.After = after
		err = f.d.Ledger.Commit(ctx, entry)
		if err == nil || !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return some, err
		}
	}
}

// send tells the lines from due.From on, and returns the last line that was told as a whole, with how many events that
// made. Without an error that is not the last line of all where the time is over.
func (f *Flow) send(ctx context.Context, sink Sink, sub policy.Subscriber, s ledger.State, due ledger.Due) (upTo int64, n int, err error) {
	lines, err := f.d.Ledger.LogFrom(ctx, string(s.Record.ID), due.From)
	if err != nil {
		return 0, 0, err
	}
	lines = slices.DeleteFunc(lines, func(l ledger.LogEntry) bool { return l.Seq > s.Log.Seq }) // those are another commit's
	facts, err := f.facts(ctx, sub, s.Record)
	if err != nil {
		return 0, 0, err
	}
	events := event.Maker{Source: f.d.Source, Config: f.d.Config, Subscriber: sub}.Make(s.Record, lines, facts)
	for len(events) > 0 {
		if ctx.Err() == nil && !deadline.Fits(ctx, fits) {
			return upTo, n, nil
		}
		some := events[:min(atOnce, len(events))]
		if err := sink.Tell(ctx, some...); err != nil {
			return upTo, n, fault.Wrap(cmp.Or(fault.ClassOf(err), fault.Down), "publish.tell", sub.Name, err)
		}
		n += len(some)
		f.d.Telemetry.Count("Told", sub.Due(), float64(len(some)))
		f.d.Telemetry.Took("TellLag", sub.Due(), f.d.Now().Sub(some[0].Time))
		events = events[len(some):]
		if upTo = some[len(some)-1].Data.Sequence; len(events) > 0 {
			upTo = min(upTo, events[0].Data.Sequence-1)
		}
	}
	return s.Log.Seq, n, nil
}

// facts are what a subscriber is told of the records that a record refers to.
func (f *Flow) facts(ctx context.Context, sub policy.Subscriber, r record.Record) (map[string]any, error) {
	var out map[string]any
	read := map[record.ID]ledger.State{}
	for _, fact := range sub.Enrich[r.ID.Entity()] {
		id := record.ID(r.Golden[fact.Ref].Value.Raw())
		if id.Validate() != nil {
			continue
		}
		s, known := read[id]
		if !known {
			var err error
			if s, err = f.d.Ledger.Follow(ctx, id); err != nil {
				return nil, err
			}
			read[id] = s
		}
		if v := s.Record.Golden[fact.Field].Value.Any(); v != nil {
			if out == nil {
				out = map[string]any{}
			}
			out[fact.String()] = v
		}
	}
	return out, nil
}

func (f *Flow) resting(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rests[name].After(f.d.Now())
}

func (f *Flow) rest(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rests[name] = f.d.Now().Add(breather)
}

// pause is how long what failed for the nth time is left alone: three quarters of it for certain, the rest by chance.
func (f *Flow) pause(n int) time.Duration {
	d := min(firstPause<<min(n-1, 10), lastPause)
	return d - time.Duration(f.d.Rand().Int64N(int64(d/4)))
}

func first(traces []string) string {
	if len(traces) == 0 {
		return ""
	}
	return traces[0]
}
