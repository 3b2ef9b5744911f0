// Package operate answers operators and stewards: how things stand, what happened to a transaction, and why a
// field has its value. It reads; it changes nothing.
package operate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// Looker tells what a platform lets us call from now on.
type Looker interface {
	Look(ctx context.Context, platform string) (budget.Outlook, error)
}

// Deps are what operate needs. Queues may be empty, Look and Book nil.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Book      *workflow.Book // says when runs are late
	Telemetry *telemetry.Recorder
	Platforms []string
	Look      Looker
	Queues    map[string]func(context.Context) (queue.Depth, error)
	Now       func() time.Time
	Started   time.Time
}

// Flow is the operate function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

// Status is how things stand.
type Status struct {
	Healthy    bool                       `json:"healthy"`
	Concerns   []string                   `json:"concerns"`
	Since      time.Time                  `json:"since"`
	Config     string                     `json:"configVersion"`
	Platforms  []PlatformStatus           `json:"platforms"`
	Queues     []QueueStatus              `json:"queues"`
	Exceptions map[string]int             `json:"openExceptions"`
	Proposals  Waiting                    `json:"openProposals"`
	Workflows  map[string]ledger.RunCount `json:"workflows"`           // runs that have not ended, by definition
	Unseen     Waiting                    `json:"recordsForWorkflows"` // that workflows are to look at
	Rechecks   int                        `json:"rechecks"`            // native records that will be read again
	Metrics    telemetry.Snapshot         `json:"metrics"`
}

// Waiting is how many things wait, and how long the oldest has.
type Waiting struct {
	Count  int     `json:"count"`
	Oldest float64 `json:"oldestSeconds"`
}

// PlatformStatus is one platform's share.
type PlatformStatus struct {
	Name      string              `json:"name"`
	Due       int                 `json:"due"`
	Resting   int                 `json:"resting,omitempty"` // of those due: they refer to what policy wants no native record of for now
	OldestDue float64             `json:"oldestDueSeconds"`
	Oldest    record.ID           `json:"oldestDue,omitempty"`
	ByClass   map[string]Waiting  `json:"dueByClass"`
	Behind    ledger.Lag          `json:"behind"`
	Breaker   Breaker             `json:"breaker"`
	Room      map[string]int      `json:"room,omitempty"` // calls of a class in the next minute, about
	Limits    []budget.LimitState `json:"limits,omitempty"`
	Writes    float64             `json:"writes"`
	Reads     float64             `json:"reads"`
	Failures  float64             `json:"failures"`
	FreshP95  float64             `json:"freshnessP95Ms"`
}

// Breaker is whether a platform is called at all. State is closed where it is; open until a time where it is not;
// half-open when that is over and one call finds out.
type Breaker struct {
	State  string    `json:"state"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// QueueStatus is one queue's share.
type QueueStatus struct {
	Name     string `json:"name"`
	Visible  int    `json:"visible"`
	InFlight int    `json:"inFlight"`
}

// Status reports how things stand.
func (f *Flow) Status(ctx context.Context) (Status, error) {
	now := f.d.Now()
	s := Status{Since: f.d.Started, Config: f.d.Config.Version(), Metrics: f.d.Telemetry.Snapshot(), Exceptions: map[string]int{}, Concerns: []string{}}
	c := s.Metrics.Counters
	for _, p := range f.d.Platforms {
		ps := PlatformStatus{Name: p, Writes: c["ProviderWrites."+p], Reads: c["ProviderReads."+p],
			Failures: c["KeptDue."+p] + c["Refused."+p], FreshP95: s.Metrics.Durations["Freshness."+p]["p95"],
			ByClass: map[string]Waiting{}, Breaker: Breaker{State: "closed"}}
		if f.d.Look != nil {
			o, err := f.d.Look.Look(ctx, p)
			if err != nil {
				return Status{}, err
			}
			ps.outlook(o, now)
		}
		for d, err := range f.d.Ledger.DueFor(ctx, p) {
			if err != nil {
				return Status{}, err
			}
			ps.Due++
			if d.Unwanted {
				ps.Resting++
				continue
			}
			waits := now.Sub(d.Since).Seconds()
			w := ps.ByClass[d.Class.String()]
			ps.ByClass[d.Class.String()] = Waiting{w.Count + 1, max(w.Oldest, waits)}
			if waits > ps.OldestDue || ps.Oldest == "" {
				ps.OldestDue, ps.Oldest = waits, d.Record
			}
			ps.Behind.Add(d)
		}
		if ps.Behind.Told(now) {
			s.Concerns = append(s.Concerns, ps.Behind.Says(p, now))
		}
		if b := ps.Breaker; b.State != "closed" {
			s.Concerns = append(s.Concerns, fmt.Sprintf("%s is not called until %s: %s", p, b.Until.UTC().Format(time.RFC3339), b.Reason))
		}
		s.Platforms = append(s.Platforms, ps)
	}
	for _, name := range slices.Sorted(maps.Keys(f.d.Queues)) {
		d, err := f.d.Queues[name](ctx)
		if err != nil {
			return Status{}, err
		}
		s.Queues = append(s.Queues, QueueStatus{name, d.Visible, d.InFlight})
		if IsDeadLetter(name) && d.Visible > 0 {
			s.Concerns = append(s.Concerns, fmt.Sprintf("%s holds %d message(s)", name, d.Visible))
		}
	}
	open, err := f.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return Status{}, err
	}
	for _, x := range open {
		s.Exceptions[x.Type]++
	}
	if len(open) > 0 {
		s.Concerns = append(s.Concerns, fmt.Sprintf("%d open exception(s)", len(open)))
	}
	proposals, err := f.d.Ledger.Proposals(ctx, false)
	if err != nil {
		return Status{}, err
	}
	for _, p := range proposals {
		s.Proposals = Waiting{s.Proposals.Count + 1, max(s.Proposals.Oldest, now.Sub(p.Opened).Seconds())}
	}
	if err := f.workflows(ctx, &s, now); err != nil {
		return Status{}, err
	}
	for _, err := range f.d.Ledger.Rechecks(ctx) {
		if err != nil {
			return Status{}, err
		}
		s.Rechecks++
	}
	s.Healthy = len(s.Concerns) == 0
	return s, nil
}

// workflows says how runs stand.
func (f *Flow) workflows(ctx context.Context, s *Status, now time.Time) (err error) {
	if s.Workflows, err = f.d.Ledger.CountRuns(ctx, f.d.Book, now); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Workflows)) {
		if n := s.Workflows[name].Stuck; n > 0 {
			s.Concerns = append(s.Concerns, fmt.Sprintf("%d run(s) of %s are stuck", n, name))
		}
		if n := s.Workflows[name].Late; n > 0 {
			s.Concerns = append(s.Concerns, fmt.Sprintf("%d run(s) of %s are late", n, name))
		}
	}
	for d, err := range f.d.Ledger.DueFor(ctx, record.Sorrel) {
		if err != nil {
			return err
		}
		s.Unseen = Waiting{s.Unseen.Count + 1, max(s.Unseen.Oldest, now.Sub(d.Since).Seconds())}
	}
	return nil
}

// outlook says what the platform lets us call.
func (p *PlatformStatus) outlook(o budget.Outlook, now time.Time) {
	p.Limits = o.Limits
	if o.Room != nil {
		p.Room = map[string]int{}
		for class, n := range o.Room {
			p.Room[class.String()] = n
		}
	}
	if !o.Open {
		return
	}
	p.Breaker = Breaker{State: "open", Until: o.Until, Reason: o.Reason}
	if !o.Until.After(now) {
		p.Breaker.State = "half-open"
	}
}

// IsDeadLetter tells a dead-letter queue by its name.
func IsDeadLetter(name string) bool { return len(name) > 9 && name[len(name)-9:] == "-dlq.fifo" }

// Trace is one business transaction.
type Trace struct {
	ID    string        `json:"correlationId"`
	Steps []ledger.Step `json:"steps"`
}

// Trace lists what happened under a correlation id.
func (f *Flow) Trace(ctx context.Context, id string) (Trace, error) {
	steps, err := f.d.Ledger.Trace(ctx, id)
	if err != nil {
		return Trace{}, err
	}
	if len(steps) == 0 {
		return Trace{}, &fault.Error{Class: fault.NotFound, Op: "operate.trace", ID: id, Detail: "nothing happened under this correlation id (yet)",
			Remedy: "an observation that changed nothing leaves no trace; traces are kept for 30 days"}
	}
	return Trace{id, steps}, nil
}

// Record is one record in full.
type Record struct {
	ID         record.ID                      `json:"id"`
	MergedInto record.ID                      `json:"mergedInto,omitempty"` // all that follows is this record's
	Entity     string                         `json:"entity"`
	Fields     map[string]record.Value        `json:"fields"`
	On         map[string]On                  `json:"platforms"`
	Due        map[string]ledger.Due          `json:"due,omitempty"`
	Held       map[string]record.Hold         `json:"held,omitempty"`
	Overrides  map[string]record.Override     `json:"overrides,omitempty"`
	Proposals  []record.Proposal              `json:"proposals,omitempty"`
	Suspects   map[record.ID]record.Suspicion `json:"suspects,omitempty"`
	Apart      []record.ID                    `json:"apart,omitempty"`
	Absorbed   map[record.ID][]string         `json:"absorbed,omitempty"` // merged into it, and the platforms that came with each
	Changes    []ledger.ChangeEntry           `json:"changes"`
}

// On is a record's native record on one platform.
type On struct {
	Native string    `json:"native"`
	Heard  time.Time `json:"heard,omitzero"` // newest modification time that told anything new
	Gone   bool      `json:"gone,omitempty"`
}

// load reads a record, or the one that it was merged into.
func (f *Flow) load(ctx context.Context, id record.ID) (ledger.State, error) {
	if err := id.Validate(); err != nil {
		return ledger.State{}, fault.Wrap(fault.Malformed, "operate", "", err)
	}
	s, err := f.d.Ledger.Follow(ctx, id)
	if err != nil {
		return ledger.State{}, err
	}
	if !s.Exists() {
		return ledger.State{}, &fault.Error{Class: fault.NotFound, Op: "operate", ID: string(id), Detail: "no such record",
			Remedy: "find the record id in a trace, or in the external id field of a native record"}
	}
	return s, nil
}

// Record shows a record. Of one that was merged it shows what it is part of now.
func (f *Flow) Record(ctx context.Context, id record.ID) (Record, error) {
	s, err := f.load(ctx, id)
	if err != nil {
		return Record{}, err
	}
	r := s.Record
	out := Record{ID: id, Entity: id.Entity(), Fields: map[string]record.Value{}, On: map[string]On{}, Due: s.Due, Held: r.Held,
		Overrides: r.Overrides, Suspects: r.Suspects, Apart: r.Apart, Absorbed: r.Absorbed}
	if r.ID != id {
		out.MergedInto = r.ID
	}
	for _, k := range slices.Sorted(maps.Keys(r.Proposals)) {
		out.Proposals = append(out.Proposals, r.Proposals[k])
	}
	for name, g := range r.Golden {
		out.Fields[name] = g.Value
	}
	for p, v := range r.Views {
		out.On[p] = On{v.Ref.String(), v.Heard.At, v.Gone()}
	}
	out.Changes, err = f.d.Ledger.Changes(ctx, r.ID)
	return out, err
}

// Resolve turns what a person knows into a record id: a record id itself, or platform/object/native-id.
func (f *Flow) Resolve(ctx context.Context, ref record.Ref) (record.ID, error) {
	id, ok, err := f.d.Ledger.Lookup(ctx, ref)
	if err == nil && !ok {
		err = &fault.Error{Class: fault.NotFound, Op: "operate.resolve", ID: ref.String(), Detail: "this native record is linked to no record"}
	}
	return id, err
}

// Why explains one field, or all of a record when field is empty. Of a record that was merged it explains what it is part
// of now.
func (f *Flow) Why(ctx context.Context, id record.ID, field string) ([]record.Why, error) {
	s, err := f.load(ctx, id)
	if err != nil {
		return nil, err
	}
	rules := f.d.Config.Rules(id.Entity())
	fields := []string{field}
	if field == "" {
		fields = slices.Sorted(maps.Keys(s.Record.Golden))
	}
	log, err := f.d.Ledger.Changes(ctx, s.Record.ID)
	if err != nil {
		return nil, err
	}
	// A platform that says the same again later confirms a value; the transaction that brought it is in the log.
	brought := map[string]string{}
	for _, c := range log {
		brought[c.Field] = c.Trace
	}
	var out []record.Why
	for _, name := range fields {
		w, ok := record.Explain(s.Record, rules, name, f.d.Config.On(id.Entity()))
		if !ok {
			return nil, &fault.Error{Class: fault.NotFound, Op: "operate.why", ID: string(id), Fields: []string{name}, Detail: fmt.Sprintf("%s has no field %q", id.Entity(), name),
				Remedy: "known fields: " + fmt.Sprint(slices.Sorted(maps.Keys(rules.Fields)))}
		}
		if t := brought[name]; t != "" {
			w.Trace = t
		}
		out = append(out, w)
	}
	return out, nil
}
