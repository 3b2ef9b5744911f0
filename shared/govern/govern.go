// Package govern settles a record after anything about it has changed: it folds, moves proposals and holds on, marks
// what is due, and keeps exceptions and match claims in step. Whoever changes a record, because a platform said
// something, because a write was confirmed or because a person decided, ends in Settle and one commit.
package govern

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// Cause is why a record is settled.
type Cause struct {
	Trace string // correlation id
	By    string // the person who acts, if one does
	Now   time.Time
	News  bool // targets that are due already are woken again
	// Class is how urgent what becomes due is.
	Class budget.Class
	Known bool // who a new record is was decided by all its keys together: a weak one raises no suspicion
	// Patience is how long a new record waits before it gets a native record on a platform whose own new ones become
	// records: people may be making the same one there at this moment, and what says so may be on its way.
	Patience time.Duration
	Says     []workflow.Saying // business events that come about with it
	// Claimed is who claimed match keys when it was decided whose record it is: if that has changed, the commit conflicts.
	Claimed map[ledger.Claim]ledger.Claimed
}

// Settled is a record ready to be committed. Links and Steps may be added to Entry; everything else is as it must be.
type Settled struct {
	Entry   ledger.Entry
	Outcome record.Outcome
	Due     []string // platforms to wake once it is committed
}

// Quiet reports whether nothing happened that anybody has to know of.
func (s Settled) Quiet() bool {
	return len(s.Outcome.Changes) == 0 && len(s.Outcome.Events) == 0 && len(s.Due) == 0 && len(s.Entry.Exceptions) == 0
}

// Settle governs after, which is before with something changed. events tell of what the caller did. It reads the
// ledger, and writes nothing.
func Settle(ctx context.Context, l *ledger.Ledger, set *policy.Set, before, after ledger.State, cause Cause, events ...record.Event) (Settled, error) {
	return settle(ctx, l, set, before, after, cause, events, nil)
}

func settle(ctx context.Context, l *ledger.Ledger, set *policy.Set, before, after ledger.State, cause Cause, events []record.Event, known []record.ID) (Settled, error) {
	entity := after.Record.ID.Entity()
	rules, forms := set.Rules(entity), set.On(entity)
	retry(&after.Record, cause.Now)
	claims, err := claim(ctx, l, set.Match(entity), before, &after, cause, known)
	if err != nil {
		return Settled{}, err
	}
	was := after.Record.Policy
	var out record.Outcome
	after.Record, out = record.Fold(after.Record, rules, forms, cause.Now)
	if cause.By != "" {
		for i := range out.Changes {
			if out.Changes[i].From == record.Steward && out.Changes[i].Actor == "" {
				out.Changes[i].Actor = cause.By
			}
		}
	}
	after.Release(was)
	after.Record.Held = needed(after.Record, rules, forms)
	news := cause.News || len(out.Changes) > 0 || len(events) > 0 || len(out.Events) > 0
	if len(out.Changes) > 0 {
		overtaken(before, &after, rules, forms, out.Changes)
	}
	due := after.MarkDue(rules, set.As, cause.Trace, cause.Class, cause.Now, news)
	if !slices.Contains(due, record.Sorrel) && stirred(before, after) {
		after.AddDue(record.Sorrel, cause.Trace, cause.Class, cause.Now)
		due = append(due, record.Sorrel)
	}
	due = append(due, freed(before.Record, &after, rules, cause, due)...)
	if before.Record.Into != "" && after.Record.Into == "" {
		created(&after)
	}
	if !before.Exists() && cause.Patience > 0 && len(set.Match(entity)) > 0 {
		due = wait(&after, rules.Origins, due, cause.Now.Add(cause.Patience))
	}
	exceptions, err := l.Reconcile(ctx, &after, cause.Now, ledger.Rightful(after, rules, out.Decisions))
	if err != nil {
		return Settled{}, err
	}
	out.Events = append(append(slices.Clone(events), suspected(before.Record, after.Record, cause)...), out.Events...)
	due = append(due, publish(&after, set, out, cause)...)
	return Settled{Due: due, Outcome: out, Entry: ledger.Entry{Before: before, After: after, Links: map[record.Ref]record.ID{},
		Relinks: map[record.Ref]record.ID{}, Changes: out.Changes, Events: out.Events, Says: cause.Says, Closed: out.Closed, Claims: claims,
		Exceptions: exceptions, Refers: rules.Refers, By: cause.By, Now: cause.Now, Trace: cause.Trace}}, nil
}

// freed makes a record due where others may refer to it from now on, so that those are woken that wait for that, and
// returns the platforms that are not woken already. So it does where a native record is heard of whose delivery has not
// ended: that may never tell.
func freed(before record.Record, s *ledger.State, rules record.Rules, cause Cause, woken []string) (due []string) {
	for _, p := range rules.Platforms {
		_, is := s.Due[p]
		arrives := is && !before.Views[p].Exists()
		if !arrives && !before.Alone(rules, p) || s.Record.Alone(rules, p) || !s.Record.Views[p].Exists() {
			continue
		}
		s.AddDue(p, cause.Trace, cause.Class, cause.Now)
		d := s.Due[p]
		d.Frees = true
		s.Due[p] = d
		if !slices.Contains(woken, p) && !d.NotBefore.After(cause.Now) {
			due = append(due, p)
		}
	}
	return due
}

// stirred reports whether something has happened to a record that runs of workflows look at, although no field has changed:
// a platform has been told what was due for it, or has a native record now that it had not, or no longer.
func stirred(before, after ledger.State) bool {
	if len(after.Runs) == 0 {
		return false
	}
	for p := range before.Due {
		_, still := after.Due[p]
		if _, subscriber := record.Subscriber(p); !still && !subscriber && p != record.Sorrel {
			return true
		}
	}
	for p, v := range after.Record.Views {
		if was := before.Record.Views[p]; was.Ref != v.Ref || was.Gone() != v.Gone() {
			return true
		}
	}
	return false
}

// publish makes a record due for the subscribers that are told something of the line that this commit adds to its log, and
// returns them. What is due for a subscriber that there is no more is forgotten.
func publish(s *ledger.State, set *policy.Set, out record.Outcome, cause Cause) []string {
	for p := range s.Due {
		if name, is := record.Subscriber(p); is {
			if _, still := set.Subscriber(name); !still {
				delete(s.Due, p)
			}
		}
	}
	var wake []string
	for _, sub := range set.Subscribers() {
		if !event.Wants(sub, s.Record.ID.Entity(), out.Changes, out.Events, cause.Says) {
			continue
		}
		p := sub.Due()
		was, already := s.Due[p]
		s.AddDue(p, cause.Trace, cause.Class, cause.Now)
		d := s.Due[p]
		if d.From = was.From; !already {
			d.From = s.Log.Seq + 1
		}
		s.Due[p] = d
		if !d.NotBefore.After(cause.Now) {
			wake = append(wake, p)
		}
	}
	return wake
}

// suspected tells of each record that this one was not thought to be before.
func suspected(before, after record.Record, cause Cause) []record.Event {
	var out []record.Event
	for _, id := range slices.Sorted(maps.Keys(after.Suspects)) {
		if _, known := before.Suspects[id]; !known {
			s := after.Suspects[id]
			out = append(out, record.Event{Action: "suspected", Detail: fmt.Sprintf("may be %s by %s: %s", id, s.Rule, s.Detail), By: record.Sorrel, Trace: cause.Trace})
		}
	}
	return out
}

// wait puts off what is due for platforms that make records of their own, and returns who may be woken now. The sweep
// wakes the others.
func wait(s *ledger.State, origins, due []string, until time.Time) []string {
	return slices.DeleteFunc(due, func(p string) bool {
		if !slices.Contains(origins, p) {
			return false
		}
		d := s.Due[p]
		d.NotBefore = until
		s.Due[p] = d
		return true
	})
}

// created has a record that was taken out of another looked for before it gets native records: one that was under way to a
// platform when the two were merged may have got there, and what was due for it was forgotten with the merge.
func created(s *ledger.State) {
	for p, due := range s.Due {
		if s.Record.Views[p].ID == "" {
			due.Unknown = true
			s.Due[p] = due
		}
	}
}

// retry lets held values be tried again whose time has come.
func retry(r *record.Record, now time.Time) {
	var held map[string]record.Hold
	for k, h := range r.Held {
		if h.Retry.IsZero() || now.Before(h.Retry) {
			continue
		}
		if held == nil {
			held = maps.Clone(r.Held)
		}
		h.Trying, h.Retry = true, time.Time{}
		held[k] = h
	}
	if held != nil {
		r.Held = held
	}
}

// overtaken looks after what was due for a platform before golden changed, since a delivery may have written it and died
// before it could say so. It costs no commit of its own.
//
// What is still due in another value is remembered as tried: should the platform say it, nobody there has set it. What is
// due no more, only because golden came back to what the platform is known to hold, is read back: else nobody would ever
// compare. A native record that was to be made and is wanted no more is looked for, since it may have been.
func overtaken(before ledger.State, after *ledger.State, rules record.Rules, forms record.Forms, changes []record.Change) {
	for p := range before.Due {
		due, still := after.Due[p]
		as := forms(p)
		if !still || as == nil {
			continue
		}
		was, is := record.Project(before.Record, rules, p, as), record.Project(after.Record, rules, p, as)
		for _, c := range changes {
			_, wasDue := was.Fields[c.Field]
			_, isDue := is.Fields[c.Field]
			_, kept := is.Kept[c.Field]
			held, _ := before.Record.Views[p].Holds(c.Field)
			holds, _ := after.Record.Views[p].Holds(c.Field)
			if wasDue && !isDue && !kept && held == holds {
				due.ReadBack(c.Field)
			}
		}
		old := map[string]record.Value{}
		for field, v := range was.Fields {
			if tried := as(field, v); tried != as(field, after.Record.Wanted(p, field)) {
				old[field] = tried
			}
		}
		if len(old) > 0 {
			due.Try(old)
		}
		due.Unknown = due.Unknown || was.Create && after.Record.Unwanted(rules, p) != ""
		after.Due[p] = due
	}
}

// Left are the fields of which a platform says what an unconfirmed write of ours may have left there: what is due for it
// now, or was when a delivery was under way. They are in the form that the platform says them in. What an approved change
// is to set there is left out: there the platform's own word counts.
func Left(s ledger.State, rules record.Rules, forms record.Forms, o record.Observation) map[string]record.Value {
	due, writing := s.Due[o.Platform]
	as := forms(o.Platform)
	if !writing || as == nil || o.Gone || s.Record.Views[o.Platform].ID != o.ID && o.External != s.Record.ID {
		return nil
	}
	patch := record.Project(s.Record, rules, o.Platform, as).Fields
	expects := s.Record.Expects(o.Platform)
	var left map[string]record.Value
	for field, v := range o.Fields {
		is := as(field, v)
		wanted, pending := patch[field]
		if (pending && is == as(field, wanted) || slices.Contains(due.Tried[field], is)) && !slices.Contains(expects, field) {
			if left == nil {
				left = map[string]record.Value{}
			}
			left[field] = is
		}
	}
	return left
}

// needed are the holds that still hold something back: not those of a value that got to its platform some other way, nor of
// a native record that policy wants there no more.
func needed(r record.Record, rules record.Rules, forms record.Forms) map[string]record.Hold {
	if len(r.Held) == 0 {
		return r.Held
	}
	patches := map[string]record.Patch{}
	held := maps.Clone(r.Held)
	for k := range r.Held {
		p, field := record.SplitHoldKey(k)
		if _, projected := patches[p]; !projected {
			if as := forms(p); as != nil {
				patches[p] = record.Project(r, rules, p, as)
			}
		}
		_, pending := patches[p].Fields[field]
		_, kept := patches[p].Kept[field]
		if !pending && !kept || r.Unwanted(rules, p) != "" {
			delete(held, k)
		}
	}
	return held
}

// maxConflict bounds how often a change is tried again because somebody else was first.
const maxConflict = 12

// Change applies change to the newest state of a record and commits, again and again until nobody interferes. A change
// that returns an error changes nothing. The record that id was merged into is changed instead of it.
func Change(ctx context.Context, l *ledger.Ledger, set *policy.Set, id record.ID, cause Cause, change func(*ledger.State) ([]record.Event, error)) (Settled, error) {
	for attempt := 0; ; attempt++ {
		before, err := l.Follow(ctx, id)
		if err != nil {
			return Settled{}, err
		}
		if !before.Exists() {
			return Settled{}, Unknown(id)
		}
		after := before.Clone()
		events, err := change(&after)
		if err != nil {
			return Settled{}, err
		}
		s, err := Settle(ctx, l, set, before, after, cause, events...)
		if err != nil {
			return Settled{}, err
		}
		err = l.Commit(ctx, s.Entry)
		if err == nil || !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return s, err
		}
	}
}

// Unknown refuses an id that no record has.
func Unknown(id record.ID) error {
	return &fault.Error{Class: fault.NotFound, Op: "govern", ID: string(id), Detail: "no such record",
		Remedy: "find the record id in a trace, or in the external id field of a native record"}
}

// pair loads two records that a person or a platform says something about.
func pair(ctx context.Context, l *ledger.Ledger, a, b record.ID) (ledger.State, ledger.State, error) {
	states, err := l.Load(ctx, a, b)
	if err != nil {
		return ledger.State{}, ledger.State{}, err
	}
	for _, id := range []record.ID{a, b} {
		if !states[id].Exists() {
			return ledger.State{}, ledger.State{}, Unknown(id)
		}
	}
	if a.Entity() != b.Entity() || a == b {
		return ledger.State{}, ledger.State{}, fault.New(fault.Malformed, "govern", fmt.Sprintf("%s and %s are not two records of one entity", a, b))
	}
	return states[a], states[b], nil
}
