package publish

import (
	"context"
	"fmt"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Role is who may have a subscriber told again.
const Role = "steward"

// Listed is how a subscriber stands.
type Listed struct {
	Name     string     `json:"name"`
	To       string     `json:"to"`
	Entities []string   `json:"entities"`
	Events   []string   `json:"events"`
	Waiting  int        `json:"waiting"` // records that it is still to be told of
	Oldest   *time.Time `json:"oldest,omitempty"`
	LastTold string     `json:"lastTold,omitempty"`
}

// List lists all subscribers by name.
func (f *Flow) List(ctx context.Context) ([]Listed, error) {
	out := []Listed{}
	for _, sub := range f.d.Config.Subscribers() {
		l := Listed{Name: sub.Name, To: sub.To, Entities: []string{}, Events: append([]string{}, sub.Events...)}
		for _, entity := range f.d.Config.Entities() {
			if sub.Follows(entity) {
				l.Entities = append(l.Entities, entity)
			}
		}
		for p, err := range f.d.Ledger.DueFor(ctx, sub.Due()) {
			if err != nil {
				return nil, err
			}
			if l.Waiting++; l.Oldest == nil || p.Since.Before(*l.Oldest) {
				l.Oldest = &p.Since
			}
		}
		var err error
		if l.LastTold, err = f.d.Ledger.Cursor(ctx, sub.Due(), lastTold); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Again says what a subscriber is to be told again: the lines of the audit log that agree with all that is not empty.
type Again struct {
	Since  time.Time      `json:"since,omitzero"`
	Entity string         `json:"entity,omitempty"`
	Record record.ID      `json:"record,omitempty"`
	Run    bool           `json:"run,omitempty"`  // else it is only counted
	After  ledger.LogMark `json:"after,omitzero"` // where an answer before ended
}

// Counted is what a replay comes to.
type Counted struct {
	Subscriber string          `json:"subscriber"`
	Records    int             `json:"records"`
	Events     int             `json:"events"`
	Due        int             `json:"due"`            // records that became due for it
	Next       *ledger.LogMark `json:"next,omitempty"` // the time was over: go on from there
}

// Replay counts what a subscriber would be told again, or makes it due at the least urgent class. From the first line that
// is meant, a record's events are told in order up to its newest: an older event never stands alone behind a newer one.
// It may be repeated.
func (f *Flow) Replay(ctx context.Context, by policy.Person, name string, a Again) (Counted, error) {
	who, err := f.d.Config.Acting("subscribers.replay", by.Name, Role)
	if err != nil {
		return Counted{}, err
	}
	sub, known := f.d.Config.Subscriber(name)
	switch {
	case !known:
		return Counted{}, &fault.Error{Class: fault.NotFound, Op: "subscribers.replay", ID: name, Detail: "no such subscriber", Remedy: "sorrel subscribers lists them"}
	case a.Entity != "" && f.d.Config.Contract(a.Entity) == nil:
		return Counted{}, &fault.Error{Class: fault.Malformed, Op: "subscribers.replay", ID: name, Detail: fmt.Sprintf("unknown entity %.40q", a.Entity), Remedy: fmt.Sprintf("one of %v", f.d.Config.Entities())}
	case a.Record != "" && a.Record.Validate() != nil:
		return Counted{}, fault.Wrap(fault.Malformed, "subscribers.replay", name, a.Record.Validate())
	case a.Since.IsZero() && a.Entity == "" && a.Record == "":
		return Counted{}, &fault.Error{Class: fault.Malformed, Op: "subscribers.replay", ID: name, Detail: "nothing is chosen", Remedy: "say since when, of which entity or of which record"}
	}
	out := Counted{Subscriber: name}
	if a.Run && a.After == (ledger.LogMark{}) {
		e := record.Event{Action: "subscriber-replayed", By: who.Name, Detail: fmt.Sprintf("%s, since %s, entity %q, record %q", name, a.Since.UTC().Format(time.RFC3339), a.Entity, a.Record)}
		if err := f.d.Ledger.Note(ctx, ledger.LogEntry{At: f.d.Now().UTC(), By: who.Name, Policy: f.d.Config.Version(), Events: []record.Event{e}}); err != nil {
			return out, err
		}
	}
	if a.Record != "" {
		return out, f.again(ctx, sub, a.Record, a, &out)
	}
	var last ledger.LogMark
	for e, err := range f.d.Ledger.Scan(ctx, a.After, a.Entity) {
		if err != nil {
			return out, err
		}
		if e.At.Before(a.Since) || e.Chain == last.Chain {
			continue
		}
		if ctx.Err() == nil && !deadline.Fits(ctx, fits) {
			out.Next = &last
			return out, nil
		}
		if err := f.again(ctx, sub, record.ID(e.Chain), a, &out); err != nil {
			return out, err
		}
		last = ledger.LogMark{Shard: e.Shard, Chain: e.Chain}
	}
	return out, nil
}

// again counts the lines of one record, and makes it due from the first of them on.
func (f *Flow) again(ctx context.Context, sub policy.Subscriber, id record.ID, a Again, out *Counted) error {
	lines, err := f.d.Ledger.Log(ctx, string(id))
	if err != nil {
		return err
	}
	for len(lines) > 0 && lines[0].At.Before(a.Since) {
		lines = lines[1:]
	}
	n := event.Maker{Config: f.d.Config, Subscriber: sub}.Count(id, lines)
	if n == 0 {
		return nil
	}
	out.Records, out.Events = out.Records+1, out.Events+n
	if !a.Run {
		return nil
	}
	for attempt := 0; ; attempt++ {
		states, err := f.d.Ledger.Load(ctx, id)
		if err != nil {
			return err
		}
		before := states[id]
		was, already := before.Due[sub.Due()]
		if !before.Exists() || already && was.From <= lines[0].Seq {
			return nil
		}
		after := before.Clone()
		after.AddDue(sub.Due(), "", budget.Replay, f.d.Now().UTC())
		d := after.Due[sub.Due()]
		d.From = lines[0].Seq
		after.Due[sub.Due()] = d
		err = f.d.Ledger.Commit(ctx, ledger.Entry{Before: before, After: after})
		if fault.Is(err, fault.Conflict) && attempt < maxConflict {
			continue
		}
		if err == nil {
			out.Due++
			f.wake(ctx, sub, id, d.Class)
		}
		return err
	}
}

// wake wakes this flow. A failure loses nothing: the sweep wakes what is due.
func (f *Flow) wake(ctx context.Context, sub policy.Subscriber, id record.ID, class budget.Class) {
	if f.d.Wake == nil {
		return
	}
	m, err := message.Wake{Platform: sub.Due(), Record: id, CorrelationID: "subscribers-replay", Class: class}.Message(fmt.Sprintf("%s-again-%d", sub.Name, f.d.Now().UnixNano()))
	if err == nil {
		err = f.d.Wake.Send(ctx, m)
	}
	if err != nil {
		f.d.Telemetry.Count("WakeFailures", sub.Due(), 1)
	}
}
