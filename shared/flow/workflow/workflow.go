// Package workflow moves runs of workflows on. The core is shared/workflow; here are the facts and the commits.
//
// A record that a run looks at, or that may start one, is due for Sorrel itself when anything about it has changed, and when
// its run's time has come. The wake-up is only a hint, as those of deliver are: the run is moved on by what records say
// now, as often as it moves, each time in one commit with what it sets. When nothing moves any more, the record is due no
// longer. So everything may be repeated, and two workers at once end in one of their commits.
package workflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// Owners tell what records are now, without committing it. live asks owners of whom too little is known; others say what
// they said when they were asked last.
type Owners interface {
	Look(ctx context.Context, trace string, live bool, states ...ledger.State) []workflow.Word
}

// Deps are what the flow needs. All are required but Owners; a platform without a waker is served by the sweep alone.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Book      *workflow.Book
	Owners    Owners                  // nil: what is known serves
	Wake      map[string]queue.Sender // by platform, and record.Sorrel
	Now       func() time.Time
	NewTrace  func() string
	Telemetry *telemetry.Recorder
}

// Flow is the workflow function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

const (
	maxConflict = 12
	maxMoves    = 40              // of runs about one record in one go
	tired       = time.Minute     // until a record is looked at again whose runs do not come to rest
	maxLists    = 16              // that a run looks at
	rounds      = 4               // of asking which other records a run looks at
	maxRead     = 300             // ids of those that refer to a record
	fits        = 2 * time.Second // for one move
)

// Apply handles a batch of wake-ups and returns the ids of messages that must come back. What is due stays due: a message
// that is given up loses nothing.
func (f *Flow) Apply(ctx context.Context, batch []queue.Received) []string {
	var failed []string
	done := map[record.ID]error{}
	for _, m := range batch {
		w, err := message.ParseWake(m.Body)
		if err == nil {
			if _, known := done[w.Record]; !known {
				done[w.Record] = f.look(ctx, w.Record, w.CorrelationID)
			}
			err = done[w.Record]
		}
		if err == nil {
			continue
		}
		f.d.Telemetry.Count("WorkflowFailures", "", 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Record: string(w.Record), Trace: w.CorrelationID, Err: err})
		failed = append(failed, m.ID)
		if m.Receives >= queue.MaxReceives {
			platform, about, told, _ := message.About(m.Body)
			x := ledger.OfMessage(m.ID, platform, about, told)
			x.Trace, x.Detail = w.CorrelationID, err.Error()
			if err := f.d.Ledger.Park(ctx, x); err != nil {
				f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Detail: "parking message " + m.ID, Err: err})
			}
		}
	}
	return failed
}

// look moves all runs on that look at a record, until none moves any more.
func (f *Flow) look(ctx context.Context, id record.ID, trace string) error {
	conflicts := 0
	for moves := 0; ; {
		if ctx.Err() == nil && !deadline.Fits(ctx, fits) {
			return nil // the sweep wakes it
		}
		s, err := f.d.Ledger.Follow(ctx, id)
		if err != nil {
			return err
		}
		if _, due := s.Due[record.Sorrel]; !due {
			return nil
		}
		moved, err := f.pass(ctx, s, trace, moves >= maxMoves)
		switch {
		case fault.Is(err, fault.Conflict) && conflicts < maxConflict:
			conflicts++
		case err != nil:
			return err
		case !moved:
			return nil
		default:
			moves++
		}
	}
}

// pass moves one run on, or finds that none moves.
func (f *Flow) pass(ctx context.Context, s ledger.State, trace string, tiring bool) (bool, error) {
	after := s.Clone()
	var stuck error
	if !tiring {
		open, err := f.open(ctx, s)
		if err != nil {
			return false, err
		}
		for _, r := range open {
			moved, err := f.advance(ctx, s, r)
			switch {
			case fault.Is(err, fault.NotFound): // no definition: people are told, and others go on
				stuck = errors.Join(stuck, err)
			case err != nil || moved:
				return moved, err
			}
		}
		for run := range s.Runs {
			if !slices.ContainsFunc(open, func(r ledger.Run) bool { return r.ID() == run }) {
				after.Unlook(run)
			}
		}
		started, err := f.start(ctx, s, open, trace)
		if started || err != nil {
			return started, err
		}
	}
	due := after.Due[record.Sorrel]
	delete(after.Due, record.Sorrel)
	if tiring || stuck != nil {
		due.NotBefore, due.Attempts = f.d.Now().UTC().Add(tired), due.Attempts+1
		due.Reason = "its runs do not come to rest"
		if stuck != nil {
			due.Reason = stuck.Error()
		}
		due.Stuck = true
		after.Due[record.Sorrel] = due
	}
	settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, s, after, govern.Cause{Trace: trace, Now: f.d.Now().UTC()})
	if err != nil {
		return false, err
	}
	if err := f.d.Ledger.Commit(ctx, settled.Entry); err != nil {
		return false, err
	}
	f.wake(ctx, map[record.ID][]string{s.Record.ID: settled.Due}, trace)
	return false, nil
}

// open reads the runs that look at a record and have not ended.
func (f *Flow) open(ctx context.Context, s ledger.State) ([]ledger.Run, error) {
	var out []ledger.Run
	for _, id := range slices.Sorted(maps.Keys(s.Runs)) {
		r, err := f.d.Ledger.Run(ctx, id)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return nil, err
		case !r.State.Ended():
			out = append(out, r)
		}
	}
	return out, nil
}

// start begins the first run that the record wants and does not have.
func (f *Flow) start(ctx context.Context, s ledger.State, open []ledger.Run, trace string) (bool, error) {
	id := s.Record.ID
	on := f.d.Config.Rules(id.Entity()).Workflows
	for _, d := range f.d.Book.Newest(id.Entity()) {
		if !slices.Contains(on, d.Name) || slices.ContainsFunc(open, func(r ledger.Run) bool { return r.Definition == d.Name && r.Subject == id }) {
			continue
		}
		last, some, err := f.d.Ledger.LatestRun(ctx, d.Name, id)
		if err != nil {
			return false, err
		}
		about, err := f.facts(ctx, d, last.Run, s)
		if err != nil {
			return false, err
		}
		if some && !last.State.Ended() || !d.Starts(about.Facts) {
			continue
		}
		if trace == "" {
			trace = f.d.NewTrace()
		}
		run := ledger.Run{Run: d.Begin(id, last.Number+1, trace, about.Now)}
		if d.Inherit {
			run.Kept = maps.Clone(last.Kept)
		}
		out := workflow.Outcome{Events: []record.Event{{Action: "workflow-started", Detail: run.ID(), By: record.Sorrel, Trace: trace}}}
		f.d.Telemetry.Count("WorkflowsStarted", "", 1)
		return true, f.commit(ctx, about, run, out, record.Sorrel)
	}
	return false, nil
}

// advance moves a run on as far as it goes with the facts as they are, and reports whether it moved.
func (f *Flow) advance(ctx context.Context, seen ledger.State, r ledger.Run) (bool, error) {
	d, err := f.d.Book.Of(r.Run)
	if err != nil {
		return false, err
	}
	subject := seen
	if r.Subject != seen.Record.ID {
		if subject, err = f.d.Ledger.Follow(ctx, r.Subject); err != nil {
			return false, err
		}
	}
	about, err := f.facts(ctx, d, r.Run, subject)
	if err != nil {
		return false, err
	}
	f.freshen(ctx, d, &about)
	next, out := d.Advance(r.Run, about.Facts)
	looks := true
	for _, s := range about.states {
		at, is := s.Runs[r.ID()]
		looks = looks && is && (s.Record.ID != subject.Record.ID || at.Equal(next.Look))
	}
	if out.Quiet() && looks && reflect.DeepEqual(next, r.Run) {
		return false, nil
	}
	was := r
	r.Run = next
	if next.State != was.State {
		f.tell(ctx, next)
	}
	return true, f.commit(ctx, about, r, out, record.Sorrel)
}

// facts are what a run looks at, with the states that they were read from.
type facts struct {
	workflow.Facts
	states map[record.ID]ledger.State
	listed map[record.ID]ledger.State // of lists, which wake no run
}

func (f *Flow) facts(ctx context.Context, d workflow.Definition, r workflow.Run, subject ledger.State) (facts, error) {
	id := subject.Record.ID
	out := facts{listed: map[record.ID]ledger.State{}, states: map[record.ID]ledger.State{id: subject}, Facts: workflow.Facts{Run: r, Subject: subject.Record, Others: map[string]record.Record{},
		Due: map[record.ID][]string{id: due(subject)}, Now: f.d.Now().UTC()}}
	for range rounds {
		if d.Needs == nil {
			break
		}
		more := false
		needs := d.Needs(out.Facts)
		for _, name := range slices.Sorted(maps.Keys(needs)) {
			id := needs[name]
			if _, known := out.Others[name]; known || id.Validate() != nil {
				continue
			}
			s, err := f.d.Ledger.Follow(ctx, id)
			if err != nil {
				return out, err
			}
			if read, again := out.states[s.Record.ID]; again { // under two names it is one record, as it was at one moment
				s = read
			}
			if !s.Exists() {
				continue
			}
			more = true
			out.Others[name], out.states[s.Record.ID], out.Due[s.Record.ID] = s.Record, s, due(s)
		}
		if !more {
			break
		}
	}
	out.Lists = map[string][]record.Record{}
	for more := d.Lists != nil; more; {
		more = false
		lists := d.Lists(out.Facts)
		for _, name := range slices.Sorted(maps.Keys(lists)) {
			if _, known := out.Lists[name]; known || len(out.Lists) == maxLists {
				continue
			}
			list, err := f.list(ctx, lists[name])
			if err != nil {
				return out, err
			}
			more, out.Lists[name] = true, []record.Record{}
			for _, s := range list {
				out.listed[s.Record.ID] = s
				out.Lists[name] = append(out.Lists[name], s.Record)
			}
		}
	}
	return out, nil
}

// freshen lets a run look at records as their owners say they are. What is committed goes on from the states that were read:
// the hub hears of what was said, and nobody else ends a change. A listed record that refers elsewhere now is listed no more.
func (f *Flow) freshen(ctx context.Context, d workflow.Definition, about *facts) {
	if d.Fresh == nil || f.d.Owners == nil {
		return
	}
	want := d.Fresh(about.Facts)
	var states []ledger.State
	for _, id := range want.Records {
		if s, some := about.states[id]; some {
			states = append(states, s)
		} else if s, some := about.listed[id]; some {
			states = append(states, s)
		}
	}
	about.Words, about.Asked = map[record.ID]workflow.Word{}, want.Live
	for _, w := range f.d.Owners.Look(ctx, about.Run.Trace, want.Live, states...) {
		about.Words[w.Record.ID] = w
	}
	for name, r := range about.Others {
		if w, some := about.Words[r.ID]; some {
			about.Others[name] = w.Record
		}
	}
	for name, list := range about.Lists {
		about.Lists[name] = slices.DeleteFunc(list, func(r record.Record) bool {
			w, some := about.Words[r.ID]
			return some && slices.ContainsFunc(f.d.Config.Rules(r.ID.Entity()).Refers, func(field string) bool {
				return w.Record.Golden[field].Value != r.Golden[field].Value
			})
		})
		for i, r := range about.Lists[name] {
			if w, some := about.Words[r.ID]; some {
				about.Lists[name][i] = w.Record
			}
		}
	}
}

// list loads the records that a query asks for. Of more records than are read, those count as the newest that have referred
// to the other one for the shortest time, as far as they were among those that were listed.
func (f *Flow) list(ctx context.Context, q workflow.Query) ([]ledger.State, error) {
	var found []ledger.Referrer
	if q.Of.Validate() != nil || q.Entity == "" || q.Max <= 0 {
		return nil, nil
	}
	for r, err := range f.d.Ledger.Referrers(ctx, q.Of, q.Entity) {
		if err != nil {
			return nil, err
		}
		if found = append(found, r); len(found) == maxRead {
			break
		}
	}
	slices.SortFunc(found, func(a, b ledger.Referrer) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Record, b.Record))
	})
	found = found[:min(len(found), workflow.MaxListed)]
	ids := make([]record.ID, len(found))
	for i, r := range found {
		ids[i] = r.Record
	}
	states, err := f.d.Ledger.Load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	var out []ledger.State
	for _, id := range ids {
		if s := states[id]; s.Exists() && s.Record.Into == "" {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b ledger.State) int {
		return b.Record.Golden[q.Newest].Value.Compare(a.Record.Golden[q.Newest].Value)
	})
	return out[:min(len(out), q.Max)], nil
}

// due are the platforms that are still to be told something of a record.
func due(s ledger.State) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.Due)), func(p string) bool {
		_, subscriber := record.Subscriber(p)
		return p == record.Sorrel || subscriber
	})
}

// commit keeps a run, what it sets, and who it looks at, all or nothing.
func (f *Flow) commit(ctx context.Context, about facts, r ledger.Run, out workflow.Outcome, by string) error {
	var entries []ledger.Entry
	wake := map[record.ID][]string{}
	id := about.Subject.ID
	for _, set := range out.Set { // a record that is made by it
		if err := set.Record.Validate(); err != nil {
			return fault.Wrap(fault.Contract, "workflow.set", r.ID(), err)
		}
		if _, read := about.states[set.Record]; !read {
			s, err := f.d.Ledger.Follow(ctx, set.Record)
			if err != nil {
				return err
			}
			about.states[set.Record] = s
		}
	}
	for _, at := range slices.Sorted(maps.Keys(about.states)) {
		before := about.states[at]
		after := before.Clone()
		events, set, err := f.assign(&after, out.Set, r.Run, about.Now)
		if err != nil {
			return err
		}
		switch {
		case r.State.Ended():
			after.Unlook(r.ID())
		case at == id:
			after.Look(r.ID(), r.Look)
		default:
			after.Look(r.ID(), time.Time{})
		}
		if at == id {
			events = append(events, out.Events...)
		}
		if at != id && set == 0 && maps.Equal(before.Runs, after.Runs) {
			continue
		}
		cause := govern.Cause{Trace: r.Trace, Class: budget.Live, Now: about.Now}
		if at == id {
			cause.Says = out.Say
		}
		settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, before, after, cause, events...)
		if err != nil {
			return err
		}
		if at == id {
			settled.Entry.Runs = []ledger.Run{r}
			settled.Entry.By = by
			for _, e := range out.Events {
				settled.Entry.Steps = append(settled.Entry.Steps, ledger.Step{At: about.Now, Trace: r.Trace, Step: e.Action, Record: id, Detail: e.Detail})
			}
			if r.Wait != "" && r.Wait != about.Run.Wait {
				settled.Entry.Steps = append(settled.Entry.Steps, ledger.Step{At: about.Now, Trace: r.Trace, Step: "workflow-waits", Record: id, Detail: r.ID() + ", " + r.Step + ": for " + r.Wait})
			}
		}
		entries = append(entries, settled.Entry)
		wake[at] = settled.Due
	}
	if err := f.d.Ledger.Commit(ctx, entries...); err != nil {
		return err
	}
	f.wake(ctx, wake, r.Trace)
	return nil
}

// assign gives fields of a record the values that a run wants in them, or asks their owners to, and returns how many.
func (f *Flow) assign(s *ledger.State, sets []workflow.Set, r workflow.Run, now time.Time) (events []record.Event, n int, err error) {
	id := s.Record.ID
	rules := f.d.Config.Rules(id.Entity())
	for _, set := range sets {
		if set.Record != id {
			continue
		}
		n++
		rule := rules.Fields[set.Field]
		if rule.Kind == record.Assign && rule.Eval == nil {
			s.Record.Assigned = maps.Clone(s.Record.Assigned)
			if s.Record.Assigned == nil {
				s.Record.Assigned = map[string]record.Assigned{}
			}
			s.Record.Assigned[set.Field] = record.Assigned{Value: set.Value, When: now, By: r.ID(), Trace: r.Trace}
			continue
		}
		q := record.Request{Field: set.Field, Value: set.Value, By: r.ID(), Reason: "step " + r.Step, Trace: r.Trace}
		if r.Answer != nil && r.Answer.Step == r.Step {
			q.By, q.Reason = r.Answer.By, q.Reason+" of "+r.ID()
		}
		asked, told, can := s.Record.Ask(rules, q, now)
		if !can {
			return nil, 0, &fault.Error{Class: fault.Contract, Op: "workflow.set", ID: string(id), Detail: fmt.Sprintf("%s wants to set %s, which is %q", r.ID(), set.Field, rule.Text),
				Remedy: "let the policy have an owner for the field, or `assign: workflow`"}
		}
		s.Record, events = asked, append(events, told...)
	}
	return events, n, nil
}

// wake wakes platforms, and records whose runs are to be looked at. A failure loses nothing: the sweep wakes what is due.
func (f *Flow) wake(ctx context.Context, due map[record.ID][]string, trace string) {
	event := fmt.Sprintf("%s/%d", trace, f.d.Now().UnixNano())
	for _, id := range slices.Sorted(maps.Keys(due)) {
		for _, p := range due[id] {
			q, some := f.d.Wake[p]
			if !some {
				continue
			}
			m, err := message.Wake{Platform: p, Record: id, CorrelationID: trace}.Message(event)
			if err == nil {
				err = q.Send(ctx, m)
			}
			if err != nil {
				f.d.Telemetry.Count("WakeFailures", p, 1)
				f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: p, Record: string(id), Detail: "waking", Err: err})
			}
		}
	}
}

// tell reports a run that begins to stand otherwise.
func (f *Flow) tell(ctx context.Context, r workflow.Run) {
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "workflow-" + string(r.State), Record: string(r.Subject), Trace: r.Trace, Detail: r.ID() + ": " + r.Reason})
	switch r.State {
	case workflow.Done:
		f.d.Telemetry.Took("WorkflowTook", r.Definition, r.Ended.Sub(r.Began))
	case workflow.Stuck:
		f.d.Telemetry.Count("WorkflowsStuck", "", 1) // the sweep counts those that still are
	}
}

// Act does what somebody asks about a run, and wakes it.
func (f *Flow) Act(ctx context.Context, by policy.Person, run string, a workflow.Act) (workflow.Run, error) {
	for attempt := 0; ; attempt++ {
		r, interfered, err := f.act(ctx, by, run, a)
		if !interfered || attempt >= maxConflict {
			return r, err
		}
	}
}

// act also reports whether somebody else committed meanwhile, so that it is to be done again.
func (f *Flow) act(ctx context.Context, by policy.Person, run string, a workflow.Act) (workflow.Run, bool, error) {
	r, err := f.d.Ledger.Run(ctx, run)
	if err != nil {
		return workflow.Run{}, false, err
	}
	roles := []string{"steward"}
	if a.Do == workflow.Decide {
		roles = nil // where nothing is asked, the run says what has become of it
		if r.Ask != nil {
			roles = r.Ask.Roles
		}
	}
	who, err := f.d.Config.Acting("workflow."+a.Do, by.Name, roles...)
	if err != nil {
		return r.Run, false, err
	}
	d, err := f.d.Book.Of(r.Run)
	if err != nil {
		return r.Run, false, err
	}
	a.By, a.Now = who.Name, f.d.Now().UTC()
	next, out, err := d.Take(r.Run, a)
	if err != nil || out.Quiet() {
		return next, false, err
	}
	subject, err := f.d.Ledger.Follow(ctx, r.Subject)
	if err != nil {
		return r.Run, false, err
	}
	about, err := f.facts(ctx, d, next, subject)
	if err != nil {
		return r.Run, false, err
	}
	r.Run = next
	err = f.commit(ctx, about, r, out, who.Name)
	return next, fault.Is(err, fault.Conflict), err
}
