// Package hub governs: it turns what platforms said into views, golden fields and due work, one commit per
// record.
//
// Every step may be repeated. A crash before the commit leaves nothing; a crash after it leaves due work that
// the sweep wakes. Messages of one native record that arrive together become one commit.
//
// A platform is asked only while the invocation has time for the call and for the commit after it; otherwise a recheck is
// left, as for a platform that is away, and the message is done with. Messages whose commit does not fit go back
// to their queue: they return after its visibility timeout and have used up a receive. So a batch must be small enough
// for the time that the function has; that is ten groups at once, of milliseconds each.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/match"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Reader reads one native record.
type Reader interface {
	Read(ctx context.Context, r record.Ref) (record.Native, error)
}

// Deps are what the hub needs. All are required; a platform without a reader cannot resolve hints, one
// without a waker is served by the sweep alone.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Readers   map[string]Reader
	Wake      map[string]queue.Sender
	Patience  time.Duration // with new records: see govern.Cause
	Parallel  int           // groups of a batch handled at once; 0 is as many as a batch can have
	Now       func() time.Time
	Telemetry *telemetry.Recorder
}

// Flow is the hub function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

const (
	maxConflict = 12 // commits lost to other workers before the message goes back to its queue
	maxDepth    = 3  // references followed: shipment → order → customer
	// settleAfter is when a tie can be settled by reading: coarse clocks count seconds.
	settleAfter = 2 * time.Second
	recheckIn   = 5 * time.Second
	lateDeath   = time.Minute // for which a native record that is not found may have been deleted without our knowing
)

// Apply handles a batch and returns the ids of messages that must come back. When one message of a group
// fails, so do all later ones of that group; other groups go on.
func (f *Flow) Apply(ctx context.Context, batch []queue.Received) []string {
	type unit struct {
		got []queue.Received
		in  []message.Inbound
	}
	var order []string
	units := map[string]*unit{}
	var failed []string
	blocked := map[string]bool{}
	for _, m := range batch {
		in, err := message.ParseInbound(m.Body)
		if err != nil || blocked[m.Group] {
			if err != nil {
				f.poison(ctx, m, err)
			} else {
				f.tried(ctx, m, errors.New("an earlier message of its group cannot be read"))
			}
			blocked[m.Group] = true
			failed = append(failed, m.ID)
			continue
		}
		if units[m.Group] == nil {
			units[m.Group] = &unit{}
			order = append(order, m.Group)
		}
		u := units[m.Group]
		u.got, u.in = append(u.got, m), append(u.in, in)
	}
	errs := make([]error, len(order))
	work, cancel := deadline.Keep(ctx, deadline.Reserve) // for waking, and what is noted of failures
	defer cancel()
	pass := func(hints bool) {
		w := &wakes{by: map[string][]queue.Message{}}
		var g errgroup.Group
		g.SetLimit(cmp.Or(f.d.Parallel, queue.MaxBatch))
		for i, group := range order {
			in := units[group].in
			if hints != slices.ContainsFunc(in, func(i message.Inbound) bool { return i.Native.Hint() }) {
				continue
			}
			g.Go(func() error {
				if work.Err() == nil && !deadline.Fits(work, deadline.Reserve) {
					errs[i] = fault.New(fault.Down, "hub", "no time is left for this message")
					return nil
				}
				errs[i] = f.take(work, in, w, 0)
				return nil
			})
		}
		_ = g.Wait() // errors are per group, in errs
		f.send(ctx, w)
	}
	pass(false) // these are written before platforms are asked about the others
	pass(true)
	for i, group := range order {
		if errs[i] != nil {
			f.d.Telemetry.Count("HubFailures", "", 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Record: units[group].in[0].Native.Ref.String(),
				Trace: units[group].in[0].CorrelationID, Err: errs[i]})
			for _, m := range units[group].got {
				f.tried(ctx, m, errs[i])
				failed = append(failed, m.ID)
			}
		}
	}
	return failed
}

// tried notes a message that has failed for the last time before it becomes a dead letter.
func (f *Flow) tried(ctx context.Context, m queue.Received, err error) {
	if m.Receives >= queue.MaxReceives {
		f.poison(ctx, m, err)
	}
}

// poison notes a message that cannot be read, or not be handled. It stays on its queue until the dead-letter queue takes it,
// payload and all.
func (f *Flow) poison(ctx context.Context, m queue.Received, err error) {
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Detail: "message " + m.ID, Err: err})
	platform, about, told, _ := message.About(m.Body)
	x := ledger.OfMessage(m.ID, platform, about, told)
	x.Detail = err.Error()
	if err := f.d.Ledger.Park(ctx, x); err != nil {
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Detail: "parking message " + m.ID, Err: err})
	}
}

// take handles what was said about one native record, in order.
func (f *Flow) take(ctx context.Context, in []message.Inbound, w *wakes, depth int) error {
	ref := in[0].Native.Ref
	if ref.Platform == record.Sorrel {
		return f.timer(ctx, in[len(in)-1], w)
	}
	m, ok := f.d.Config.ByObject(ref.Platform, ref.Object)
	if !ok {
		return f.park(ctx, ledger.Exception{Type: "unmatched", Native: ref.Platform + "/" + ref.Object, Platform: ref.Platform,
			Detail: "no mapping for this object", Remedy: "add a mapping, or stop the webhook that sends it", Trace: in[0].CorrelationID})
	}
	natives, read, err := f.complete(ctx, m, in)
	if err != nil || len(natives) == 0 {
		return err
	}
	said, err := f.translate(ctx, m, natives)
	if err != nil || len(said) == 0 {
		return err
	}
	for range maxConflict {
		err = f.govern(ctx, m, said, read, w, depth)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
		f.d.Telemetry.Count("HubConflicts", ref.Platform, 1)
	}
	return err
}

// sourced is one native record with where it came from.
type sourced struct {
	native record.Native
	trace  string
	source message.Source
	at     time.Time
}

// complete replaces hints by one read. A platform that is away leaves a recheck, so that the message need not
// come back.
func (f *Flow) complete(ctx context.Context, m *mapping.Mapping, in []message.Inbound) ([]sourced, bool, error) {
	var out []sourced
	var hint *message.Inbound
	for i, said := range in {
		if said.Native.Hint() {
			hint = &in[i]
			continue
		}
		out = append(out, sourced{said.Native, said.CorrelationID, said.Source, said.ReceivedAt})
	}
	if hint == nil {
		return out, false, nil
	}
	ref := hint.Native.Ref
	if known, err := f.known(ctx, m, ref, in); err != nil || known {
		return out, false, err
	}
	n, err := f.read(ctx, ref, classOf(hint.Source), hint.CorrelationID)
	switch {
	case err == nil:
		return append(out, sourced{n, hint.CorrelationID, hint.Source, hint.ReceivedAt}), true, nil
	case fault.Is(err, fault.NotFound):
		linked, over, err := f.stands(ctx, ref)
		if err != nil || over {
			return out, false, err
		}
		if linked && hint.Source != message.Recheck && hint.Source != message.Replay {
			return out, false, f.d.Ledger.Postpone(ctx, ledger.Recheck{Ref: ref, NotBefore: f.d.Now().Add(lateDeath), Reason: "the platform does not know this id; word of its deletion may be on its way",
				Trace: hint.CorrelationID, Class: classOf(hint.Source)})
		}
		return out, false, f.park(ctx, ledger.Exception{Type: "unmatched", Native: ref.String(), Platform: ref.Platform,
			Detail: "the platform does not know this id", Remedy: "check the sender of the event, and the integration user's permission", Trace: hint.CorrelationID})
	case fault.RowOf(err).Queue == fault.Keep || fault.Is(err, fault.Unauthenticated):
		at := f.d.Now().Add(recheckIn)
		if retry := fault.RetryAt(err); retry.After(at) {
			at = retry
		}
		return out, false, f.d.Ledger.Postpone(ctx, ledger.Recheck{Ref: ref, NotBefore: at, Reason: err.Error(), Trace: hint.CorrelationID, Class: classOf(hint.Source)})
	case fault.RowOf(err).Queue == fault.Park: // reading it again would be refused again
		return out, false, f.park(ctx, ledger.Exception{Type: "unmatched", Native: ref.String(), Platform: ref.Platform,
			Detail: "cannot be read: " + err.Error(), Remedy: "give the integration user the permission; the record's next event is taken again", Trace: hint.CorrelationID})
	}
	return nil, false, err
}

// known reports whether every hint tells of a version that one of our own confirmed writes already covers: the
// echo of a write on a platform whose events carry no fields. An edit by a person in that very second would be
// missed here, and is found by the next listing.
func (f *Flow) known(ctx context.Context, m *mapping.Mapping, ref record.Ref, in []message.Inbound) (bool, error) {
	sighting := ledger.Sighting{Ref: ref, Entity: m.Entity}
	var newest record.Version
	for _, said := range in {
		if said.Native.Hint() && said.Native.Version.IsZero() {
			return false, nil
		}
		if said.Native.Hint() && said.Native.Version.Compare(newest) > 0 {
			newest = said.Native.Version
		}
		if id, ok := record.ParseExternal(said.Native.External); ok && id.Entity() == m.Entity {
			sighting.External = id
		}
	}
	found, _, err := f.d.Ledger.Open(ctx, []ledger.Sighting{sighting}, nil)
	if err != nil || !found[0].Linked {
		return false, err
	}
	r := found[0].State.Record
	if len(r.Expects(ref.Platform)) > 0 {
		return false, nil // what it says now decides whether an approved change has arrived
	}
	for _, w := range r.Views[ref.Platform].Wrote {
		if newest.Compare(w.Base) <= 0 {
			f.d.Telemetry.Count("Echoes", ref.Platform, 1)
			return true, nil
		}
	}
	return false, nil
}

// classOf is how urgent what comes from a source is.
func classOf(s message.Source) budget.Class {
	switch s {
	case message.Replay:
		return budget.Replay
	case message.Load, message.Reconcile: // live changes go first, there and on the way out
		return budget.Reconcile
	}
	return budget.Live
}

func (f *Flow) read(ctx context.Context, ref record.Ref, class budget.Class, trace string) (record.Native, error) {
	r, ok := f.d.Readers[ref.Platform]
	m, mapped := f.d.Config.ByObject(ref.Platform, ref.Object)
	if !ok || !mapped {
		return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "hub.read", ID: ref.String(), Detail: "platform is not connected"}
	}
	if ctx.Err() == nil && !deadline.Fits(ctx, deadline.Call+deadline.Commit) {
		return record.Native{}, &fault.Error{Class: fault.Down, Op: "hub.read", ID: ref.String(), Code: fault.NotCalled, Detail: "not called: no time is left for the answer"}
	}
	call, cancel := deadline.Keep(ctx, deadline.Commit)
	defer cancel()
	n, err := r.Read(budget.For(call, budget.Purpose{Class: class, Entity: m.Entity}), ref)
	n.Ours = false // a read shows what is there, whoever saved it last
	if !budget.Refused(err) {
		f.d.Telemetry.Count("ProviderReads", ref.Platform, 1)
	}
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "read", Platform: ref.Platform, Record: ref.String(), Trace: trace, Err: err})
	return n, fault.Wrap("", "hub.read", ref.String(), err)
}

func (f *Flow) park(ctx context.Context, x ledger.Exception) error {
	f.d.Telemetry.Count("Parked", x.Platform, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "parked", Platform: x.Platform, Record: x.Native, Trace: x.Trace, Detail: x.Type + ": " + x.Detail})
	return f.d.Ledger.Park(ctx, x)
}

// saying is a translated native record.
type saying struct {
	sourced
	record.Observation
	refs map[string]record.Ref
}

func (f *Flow) translate(ctx context.Context, m *mapping.Mapping, natives []sourced) ([]saying, error) {
	var out []saying
	timed := f.d.Config.Rules(m.Entity).Timed()
	for _, s := range natives {
		o, refs, err := m.Observe(s.native)
		if err != nil {
			if err := f.park(ctx, ledger.Exception{Type: "contract-violation", Native: s.native.Ref.String(), Platform: m.Platform,
				Detail: err.Error(), Remedy: "correct the record on " + m.Platform + "; its next event is taken again", Trace: s.trace}); err != nil {
				return nil, err
			}
			continue
		}
		o.Trace, o.Timed = s.trace, timed
		out = append(out, saying{s, o, refs})
	}
	return out, nil
}

// govern reads the record, merges what was said into its view, settles, and commits.
func (f *Flow) govern(ctx context.Context, m *mapping.Mapping, said []saying, read bool, w *wakes, depth int) error {
	ref := said[0].Ref
	found, links, matched, claimed, err := f.open(ctx, m, said, w, depth)
	switch {
	case err != nil:
		return err
	case found.Via != "":
		return f.absorbed(ctx, found, said, w)
	}
	before, linked := found.State, found.Linked
	rules := f.d.Config.Rules(m.Entity)
	if !linked {
		name(said)
	}
	if !before.Exists() && !linked {
		if nameless, err := f.nameless(ctx, rules, said, read); err != nil {
			return err
		} else if nameless {
			return f.introduce(ctx, m, said, w, depth)
		}
		if !slices.Contains(rules.Origins, ref.Platform) {
			return f.strange(ctx, m, rules, said)
		}
	}
	after := before.Clone()
	if was, former := before.Record.Former(ref); former {
		if restored, err := f.restored(ctx, was, said, read); err != nil || !restored {
			f.d.Telemetry.Count("Repeats", ref.Platform, 1)
			return err
		}
		if first := before.Record.Views[ref.Platform].Ref; first.ID != "" {
			return f.second(ctx, before.Record.ID, first, said)
		}
		after.Record = after.Record.Restored(ref)
	}
	view, changed := after.Record.Views[ref.Platform], !linked
	made := !linked && view.ID == "" && matched == "" && ours(before, said)
	if !linked && view.Gone() {
		view = record.View{} // a new native record takes the place of a deleted one
	}
	for i := range said {
		for field, to := range said[i].refs {
			id, err := f.named(ctx, before.Record, field, links[to].id)
			if err != nil {
				return err
			}
			said[i].Fields[field] = id
		}
		was := view
		v, news := record.Observe(view, confirmed(before, rules, said[i].Observation))
		view, changed = v, changed || news
		if marked, unmarked := unconfirmed(view, govern.Left(before, rules, f.d.Config.On(m.Entity), said[i].Observation)); len(marked)+len(unmarked) > 0 {
			echo := view.Echo
			view.Echo = nil // it is the answer to a write that is still to be confirmed
			now, trace := f.d.Now().UTC(), said[i].trace
			view = record.Confirm(view, view, unmarked, record.Version{}, now, trace)
			view, changed = record.Confirm(view, was, marked, said[i].Version, now, trace), true
			view.Echo = echo
			doubt(&after, ref.Platform, marked)
			doubt(&after, ref.Platform, unmarked)
		}
		if e := pending(before, f.d.Config.On(m.Entity), said[i].Observation); e != nil {
			view.Echo, changed = e, true
		}
	}
	if view.ID != ref.ID {
		return f.second(ctx, before.Record.ID, view.Ref, said)
	}
	view.Made = view.Made || made
	var rechecks []ledger.Recheck
	if unsettled := view.Unsettled(); len(unsettled) > 0 && (changed || read) {
		view, rechecks = f.settle(ctx, m, before.Record, view, said, read, links)
	}
	after.Record.Views[ref.Platform] = view
	trace := said[len(said)-1].trace
	if !changed && before.Record.Policy == rules.Version {
		f.d.Telemetry.Count("Repeats", ref.Platform, 1)
		for _, r := range rechecks { // read too early for a final answer
			if err := f.d.Ledger.Postpone(ctx, r); err != nil {
				return err
			}
		}
		// It was modified there in nothing that is of concern, or by us. What an echo shows beside that and nobody has told is left to be found.
		if last := newest(said); view.Exists() && (later(last.Version, view.Heard) || last.source == message.Reconcile) && !last.Gone && view.KnowsAll(last.Observation) {
			at := last.Version
			at.Final = false
			if err := f.d.Ledger.Enrol(ctx, ref, before.Record.ID, at); err != nil {
				return err
			}
		}
		return f.merged(ctx, before.Record, trace, w, depth)
	}
	now := f.d.Now().UTC()
	cause := govern.Cause{Trace: trace, Class: classOf(said[0].source), Now: now, Claimed: claimed}
	for _, s := range said {
		cause.Class = budget.Urgent(cause.Class, classOf(s.source))
	}
	if said[0].source == message.Webhook { // what is listed was not made just now
		cause.Patience = f.d.Patience
	}
	settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, before, after, cause)
	if err != nil {
		return err
	}
	entry, changes := settled.Entry, settled.Outcome.Changes
	entry.Rechecks = rechecks
	if !linked {
		entry.Links[ref] = before.Record.ID
		understood, err := f.d.Ledger.Understood(ctx, ref, now)
		if err != nil {
			return err
		}
		entry.Exceptions = append(entry.Exceptions, understood...)
	}
	for to, l := range links {
		if l.fresh {
			entry.Links[to] = l.id
			if l.recheck != nil {
				entry.Rechecks = append(entry.Rechecks, *l.recheck)
			}
		}
	}
	decisions := slices.DeleteFunc(settled.Outcome.Decisions, func(d record.Decision) bool { // what others said, or this platform earlier
		return d.Loser.Platform != ref.Platform || !slices.ContainsFunc(said, func(s saying) bool { return s.trace == d.Loser.Trace })
	})
	if matched != "" {
		entry.Events = append(entry.Events, record.Event{Action: "matched", Platform: ref.Platform, Detail: matched, By: record.Sorrel, Trace: trace})
	}
	entry.Events = append(entry.Events, verdicts(before.Record, decisions)...)
	echo := settled.Quiet() && len(decisions) == 0 && linked
	if !echo {
		entry.Steps = steps(said, before.Record.ID, changes, decisions, now)
	}
	if err := f.d.Ledger.Commit(ctx, entry); err != nil {
		return err
	}
	f.tell(ctx, said, before.Record.ID, changes, decisions, echo)
	if err := w.add(settled.Due, before.Record.ID, trace, fmt.Sprintf("%s/%d/%d", trace, entry.After.Record.Seq, now.UnixNano())); err != nil {
		return err
	}
	return f.merged(ctx, entry.After.Record, trace, w, depth)
}

// later reports whether a version is surely of a later modification than another: one channel may tell of a modification with
// a sequence number, and another without.
func later(v, heard record.Version) bool {
	return v.At.After(heard.At) || v.At.Equal(heard.At) && heard.Seq > 0 && v.Seq > heard.Seq
}

// newest is the saying of the newest version.
func newest(said []saying) saying {
	out := said[0]
	for _, s := range said[1:] {
		if s.Version.Compare(out.Version) > 0 {
			out = s
		}
	}
	return out
}

// ours reports whether a native record that nobody has linked was created by a write of ours, which is not confirmed yet or
// whose worker died: it carries the record's external id, or that of one that was merged into it meanwhile, and one was due
// there, or the platform says that we made it, or it was made before another of ours was withdrawn there: of records that
// became one while each got its own, one was the first.
func ours(s ledger.State, said []saying) bool {
	ref := said[0].Ref
	_, due := s.Due[ref.Platform]
	last, withdrew := s.Record.Former(record.Ref{Platform: ref.Platform, Object: ref.Object, ID: s.Record.LastWithdrawn(ref.Platform)})
	return s.Exists() && slices.ContainsFunc(said, func(o saying) bool {
		_, absorbed := s.Record.Absorbed[o.External]
		born := !o.Born.IsZero()
		return !o.Gone && (absorbed || o.External == s.Record.ID) && (due || o.Ours && born || withdrew && born && o.Born.Before(last.Died.At))
	})
}

// stands reports whether a native record is a record's, and whether it is over: policy withdraws it or has withdrawn it, or it
// is known to be deleted.
func (f *Flow) stands(ctx context.Context, ref record.Ref) (linked, over bool, err error) {
	id, linked, err := f.d.Ledger.Lookup(ctx, ref)
	if err != nil || !linked {
		return false, false, err
	}
	states, err := f.d.Ledger.Load(ctx, id)
	r := states[id].Record
	_, former := r.Former(ref)
	v := r.Views[ref.Platform]
	return true, former || v.ID == ref.ID && (v.Leaving || v.Gone()), err
}

// restored reports whether people brought back a native record that was withdrawn. Late words about its former life mean
// nothing. Clocks differ: what is said to be newer than its death is read, unless it was just now.
func (f *Flow) restored(ctx context.Context, was record.View, said []saying, read bool) (bool, error) {
	last := said[len(said)-1]
	if last.Gone || last.Version.Compare(was.Died) <= 0 || read {
		return !last.Gone && last.Version.Compare(was.Died) > 0, nil
	}
	n, err := f.read(ctx, was.Ref, classOf(last.source), last.trace)
	switch {
	case fault.Is(err, fault.NotFound):
		return false, nil
	case err != nil && (fault.RowOf(err).Queue == fault.Keep || fault.Is(err, fault.Unauthenticated)):
		return false, f.d.Ledger.Postpone(ctx, ledger.Recheck{Ref: was.Ref, NotBefore: f.d.Now().Add(recheckIn), Reason: err.Error(), Trace: last.trace, Class: classOf(last.source)})
	}
	return err == nil && !n.Gone, err
}

// nameless reports whether a native record that is not known has to be read for its external id: events tell of changed fields
// only, and a worker may have created it and died before it could say so. What people there made is read once at most.
func (f *Flow) nameless(ctx context.Context, rules record.Rules, said []saying, read bool) (bool, error) {
	ref, ours := said[0].Ref, false
	for _, s := range said {
		if read || !s.native.Partial || s.Gone || s.External != "" || !s.Born.IsZero() { // a creation tells all
			return false, nil
		}
		ours = ours || s.Ours
	}
	if ours || slices.Contains(rules.Origins, ref.Platform) || slices.Contains(rules.Strangers, ref.Platform) {
		return ours, nil
	}
	parked, err := f.d.Ledger.Understood(ctx, ref, f.d.Now().UTC())
	return len(parked) == 0, err
}

// name gives events that tell of changed fields only the external id that another one about the same native record carries:
// whose a value is, is judged for each of them.
func name(said []saying) {
	var external record.ID
	for _, s := range said {
		external = cmp.Or(external, s.External)
	}
	for i := range said {
		if said[i].native.Partial && !said[i].Gone {
			said[i].External = cmp.Or(said[i].External, external)
		}
	}
}

// introduce governs what was said about a native record together with all of it that can be read.
func (f *Flow) introduce(ctx context.Context, m *mapping.Mapping, said []saying, w *wakes, depth int) error {
	last := said[len(said)-1]
	natives, _, err := f.complete(ctx, m, []message.Inbound{{CorrelationID: last.trace, ReceivedAt: last.at, Source: last.source, Native: record.Native{Ref: last.Ref}}})
	if err != nil || len(natives) == 0 {
		return err
	}
	whole, err := f.translate(ctx, m, natives)
	if err != nil || len(whole) == 0 {
		return err
	}
	all := append(slices.Clone(said), whole...)
	for i := range all {
		all[i].External = whole[0].External
	}
	return f.govern(ctx, m, all, true, w, depth)
}

// named is a reference to a record, under the id that the referring record knows it by: one that was merged into it since
// is no news.
func (f *Flow) named(ctx context.Context, r record.Record, field string, id record.ID) (record.Value, error) {
	now := record.TextValue(string(id))
	old := r.Golden[field].Value
	if old == now || record.ID(old.Raw()).Validate() != nil {
		return now, nil
	}
	s, err := f.d.Ledger.Follow(ctx, record.ID(old.Raw()))
	if err == nil && s.Record.ID == id {
		return old, nil
	}
	return now, err
}

// verdicts are the audit log's lines about values that people set where policy does not take them.
func verdicts(before record.Record, decisions []record.Decision) []record.Event {
	did := map[record.Path]string{record.Revert: "put-back", record.Reject: "rejected", record.Ignore: "left"}
	var out []record.Event
	for _, d := range decisions {
		action, logged := did[d.Path]
		if held, _ := before.Views[d.Loser.Platform].Holds(d.Field); !logged || held == d.Loser.Value {
			continue // nothing new
		}
		out = append(out, record.Event{Action: action, Platform: d.Loser.Platform, Fields: []string{d.Field}, By: d.Loser.Actor,
			Detail: fmt.Sprintf("%v was set, golden is %v", d.Loser.Value, d.Golden), At: d.At, Trace: d.Loser.Trace})
	}
	return out
}

// confirmed lets a platform say the fields that an approved change of ours was to set there: it is the owner, and what
// it made of the change is its own word. So is what it fills in where nobody ever said anything. While the write is under
// way, its answer comes first.
func confirmed(s ledger.State, rules record.Rules, o record.Observation) record.Observation {
	if _, writing := s.Due[o.Platform]; writing || o.Echo == nil {
		return o
	}
	expects := s.Record.Expects(o.Platform)
	for _, field := range append(expects, s.Record.Unsaid(rules, o.Platform)...) {
		if v, said := o.Echo[field]; said && (!v.IsNull() || slices.Contains(expects, field)) {
			if o.Fields == nil {
				o.Fields = map[string]record.Value{}
			}
			o.Fields[field] = v
		}
	}
	return o
}

// pending is what a platform says about a write of ours that is still under way, as far as it is not what we know.
func pending(s ledger.State, forms record.Forms, o record.Observation) *record.Echo {
	if _, writing := s.Due[o.Platform]; !writing || o.Echo == nil {
		return nil
	}
	view, as := s.Record.Views[o.Platform], forms(o.Platform)
	if view.Echo != nil && view.Echo.Version.Compare(o.Version) >= 0 {
		return nil
	}
	expects := s.Record.Expects(o.Platform)
	e := record.Echo{Version: o.Version, Fields: map[string]record.Value{}}
	for field, v := range o.Echo {
		known := v == view.Said[field].Value || v == as(field, s.Record.Golden[field].Value)
		if !known || slices.Contains(expects, field) {
			e.Fields[field] = v
		}
	}
	if len(e.Fields) == 0 {
		return nil
	}
	return &e
}

// unconfirmed are those of the values that may be ours which the platform's newest word shows: marked as ours, and not
// confirmed yet, or as somebody's there. A mark alone is no memory: the next listing says the same without it.
func unconfirmed(view record.View, left map[string]record.Value) (marked, unmarked map[string]record.Value) {
	marked, unmarked = map[string]record.Value{}, map[string]record.Value{}
	for field, v := range left {
		switch holds, origin := view.Holds(field); {
		case holds != v:
		case origin == record.FromPlatform:
			unmarked[field] = v
		case view.Said[field].Ours && view.Wrote[field].Value != v && !slices.Contains(view.Past[field], v): // else an earlier write may be heard of late
			marked[field] = v
		}
	}
	return marked, unmarked
}

// doubt has fields read back in which a platform says what a write of ours may have set, if others may have set something
// else: that may be on the platform by now, or come there.
func doubt(s *ledger.State, platform string, ours map[string]record.Value) {
	due := s.Due[platform]
	for field, v := range ours {
		if slices.ContainsFunc(due.Tried[field], func(tried record.Value) bool { return tried != v }) {
			due.ReadBack(field)
			s.Due[platform] = due
		}
	}
}

// timer settles a record that changes by the mere passing of time.
func (f *Flow) timer(ctx context.Context, in message.Inbound, w *wakes) error {
	id := record.ID(in.Native.Object + "/" + in.Native.ID)
	now := f.d.Now().UTC()
	settled, err := govern.Change(ctx, f.d.Ledger, f.d.Config, id, govern.Cause{Trace: in.CorrelationID, Now: now, News: true},
		func(*ledger.State) ([]record.Event, error) { return nil, nil })
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	after := settled.Entry.After.Record
	if err := w.add(settled.Due, after.ID, in.CorrelationID, fmt.Sprintf("%s/%d", in.CorrelationID, now.UnixNano())); err != nil {
		return err
	}
	return f.merged(ctx, after, in.CorrelationID, w, 0)
}

// merged makes one record of two whose native records were merged on a platform. Where they cannot be one yet, because
// both have a native record somewhere else, people are told, and it is tried again whenever the record is governed, each hour at least.
func (f *Flow) merged(ctx context.Context, r record.Record, trace string, w *wakes, depth int) error {
	if r.Into != "" {
		return nil
	}
	cause := govern.Cause{Trace: trace, By: record.Sorrel, Now: f.d.Now().UTC()}
	for _, p := range slices.Sorted(maps.Keys(r.Views)) {
		v := r.Views[p]
		into := v.Merged()
		if into == "" {
			continue
		}
		survivor, err := f.find(ctx, record.Ref{Platform: p, Object: v.Object, ID: into}, trace, w, depth)
		if err != nil {
			return err
		}
		if !survivor.seen || survivor.id == r.ID {
			continue
		}
		joint, err := govern.Unite(ctx, f.d.Ledger, f.d.Config, survivor.id, r.ID, cause)
		if err != nil {
			return err
		}
		if !joint.Done {
			if r.Suspects[survivor.id].Merged != "" {
				continue
			}
			_, err := govern.Change(ctx, f.d.Ledger, f.d.Config, r.ID, cause, func(s *ledger.State) ([]record.Event, error) {
				s.Record = s.Record.Suspect(survivor.id, record.Suspicion{Rule: "merge", Merged: p, Holds: true, Since: cause.Now,
					Detail: fmt.Sprintf("%s was merged into %s on %s, but both have native records elsewhere", v.ID, into, p)})
				return nil, nil
			})
			if err != nil {
				return err
			}
			continue
		}
		f.d.Telemetry.Count("Merged", p, 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "merged", Platform: p, Record: string(r.ID), Trace: trace, Detail: "into " + string(survivor.id)})
		for _, id := range slices.Sorted(maps.Keys(joint.Due)) {
			if err := w.add(joint.Due[id], id, trace, fmt.Sprintf("%s/%d", trace, cause.Now.UnixNano())); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// absorbed hears about a native record that died in a merge of records. Only its revival means anything: the two
// records are taken apart again.
func (f *Flow) absorbed(ctx context.Context, found ledger.Found, said []saying, w *wakes) error {
	ref, trace := said[0].Ref, said[len(said)-1].trace
	states, err := f.d.Ledger.Load(ctx, found.Via)
	if err != nil {
		return err
	}
	before := states[found.Via]
	view, changed := before.Record.Views[ref.Platform], false
	if was, former := before.Record.Former(ref); former && view.ID != ref.ID {
		if restored, err := f.restored(ctx, was, said, false); err != nil || !restored {
			f.d.Telemetry.Count("Repeats", ref.Platform, 1)
			return err
		}
	}
	if view.ID != ref.ID {
		first := found.State.Record.Views[ref.Platform].Ref
		if first == ref {
			return &fault.Error{Class: fault.Conflict, Op: "hub", ID: ref.String(), Detail: "it has come to " + string(found.State.Record.ID) + " meanwhile"}
		}
		return f.second(ctx, found.State.Record.ID, first, said) // first took its place when it was deleted
	}
	for _, s := range said {
		v, news := record.Observe(view, s.Observation)
		view, changed = v, changed || news
	}
	cause := govern.Cause{Trace: trace, By: record.Sorrel, Now: f.d.Now().UTC()}
	if changed {
		after := before.Clone()
		after.Record.Views[ref.Platform] = view
		settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, before, after, cause)
		if err != nil {
			return err
		}
		if err := f.d.Ledger.Commit(ctx, settled.Entry); err != nil {
			return err
		}
	}
	if !view.Exists() {
		return nil
	}
	if parent := before.Record.Into; parent != found.State.Record.ID {
		return f.park(ctx, ledger.Exception{Type: "conflict", Record: found.Via, Native: ref.String(), Platform: ref.Platform, Trace: trace,
			Detail: fmt.Sprintf("%s lives again, but %s, which its record was merged into, was merged again since", ref, parent),
			Remedy: fmt.Sprintf("run `sorrel unmerge %s`, then `sorrel unmerge %s`", parent, found.Via)})
	}
	joint, err := govern.Divide(ctx, f.d.Ledger, f.d.Config, found.State.Record.ID, found.Via, cause)
	if err != nil {
		return err
	}
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "unmerged", Platform: ref.Platform, Record: string(found.Via), Trace: trace})
	for _, id := range slices.Sorted(maps.Keys(joint.Due)) {
		if err := w.add(joint.Due[id], id, trace, fmt.Sprintf("%s/%d", trace, cause.Now.UnixNano())); err != nil {
			return err
		}
	}
	return nil
}

// link is where a reference leads.
type link struct {
	id      record.ID
	seen    bool // the native record is linked to it
	fresh   bool // this commit makes the link
	recheck *ledger.Recheck
}

// open finds the record and what it refers to. A referenced native record that nobody has seen is read and
// governed first; if that cannot be done now, its id is fixed here and a recheck is left.
func (f *Flow) open(ctx context.Context, m *mapping.Mapping, said []saying, w *wakes, depth int) (found ledger.Found, links map[record.Ref]link, matched string, claimed map[ledger.Claim]ledger.Claimed, err error) {
	sighting := ledger.Sighting{Ref: said[0].Ref, Entity: m.Entity}
	wanted := map[record.Ref]struct{}{}
	for _, s := range said {
		if s.External != "" {
			sighting.External = s.External
		}
		for _, to := range s.refs {
			wanted[to] = struct{}{}
		}
	}
	refs := slices.SortedFunc(maps.Keys(wanted), func(a, b record.Ref) int { return strings.Compare(a.String(), b.String()) })
	all, known, err := f.d.Ledger.Open(ctx, []ledger.Sighting{sighting}, refs)
	if err != nil {
		return found, nil, "", nil, err
	}
	found, links = all[0], map[record.Ref]link{}
	for _, to := range refs {
		if id, ok := known[to]; ok {
			links[to] = link{id: id, seen: true}
			continue
		}
		l, err := f.follow(ctx, to, said[0].trace, w, depth)
		if err != nil {
			return found, nil, "", nil, err
		}
		links[to] = l
	}
	if found.Linked || found.State.Exists() {
		return found, links, "", nil, nil
	}
	found.State, matched, claimed, err = f.match(ctx, found.State, said)
	return found, links, matched, claimed, err
}

// match finds the record that a newcomer is, by what it says: the only one that a strong key names, if that has no
// native record on the newcomer's platform yet. Whatever is less certain makes a record of its own, which settling it
// suspects of being a duplicate. by is the evidence, empty for a record of its own. claimed is who claims its keys.
func (f *Flow) match(ctx context.Context, fresh ledger.State, said []saying) (s ledger.State, by string, claimed map[ledger.Claim]ledger.Claimed, err error) {
	entity := fresh.Record.ID.Entity()
	rules := f.d.Config.Match(entity)
	fields := map[string]record.Value{}
	for _, s := range said {
		maps.Copy(fields, s.Fields)
	}
	keys := govern.KeysOf(rules, entity, fields)
	if len(keys) == 0 {
		return fresh, "", nil, nil
	}
	claimed, err = f.d.Ledger.Claimed(ctx, slices.Collect(maps.Keys(keys))...)
	if err != nil {
		return fresh, "", nil, err
	}
	var claims []match.Claim
	for c, k := range keys {
		if ids := claimed[c].IDs; len(ids) < ledger.MaxClaimants {
			claims = append(claims, match.Claim{Key: k, IDs: ids})
		}
	}
	d := match.Decide(claims)
	if d.Outcome != match.Link {
		return fresh, "", claimed, nil
	}
	s, err = f.d.Ledger.Follow(ctx, d.ID)
	if err != nil || !s.Exists() || s.Record.Views[said[0].Platform].Exists() {
		return fresh, "", claimed, err
	}
	evidence := d.Candidates[0].Evidence[0]
	by = fmt.Sprintf("%s by %s: both have %s", said[0].Ref, evidence.Rule, evidence.Shown)
	f.d.Telemetry.Count("Matched", said[0].Platform, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "matched", Platform: said[0].Platform, Record: string(s.Record.ID), Trace: said[0].trace, Detail: by})
	return s, by, claimed, nil
}

// find is follow for a native record that may be linked.
func (f *Flow) find(ctx context.Context, to record.Ref, trace string, w *wakes, depth int) (link, error) {
	if id, ok, err := f.d.Ledger.Lookup(ctx, to); err != nil || ok {
		return link{id: id, seen: ok}, err
	}
	return f.follow(ctx, to, trace, w, depth)
}

func (f *Flow) follow(ctx context.Context, to record.Ref, trace string, w *wakes, depth int) (link, error) {
	target, ok := f.d.Config.ByObject(to.Platform, to.Object)
	if !ok {
		return link{}, &fault.Error{Class: fault.Internal, Op: "hub.follow", ID: to.String(), Detail: "a mapping refers to an object without a mapping"}
	}
	later := &ledger.Recheck{Ref: to, NotBefore: f.d.Now().Add(recheckIn), Reason: "referred to, not seen yet", Trace: trace}
	unseen := link{id: ledger.Mint(target.Entity, to), fresh: true, recheck: later}
	if !slices.Contains(f.d.Config.Rules(target.Entity).Origins, to.Platform) || len(f.d.Config.Match(target.Entity)) > 0 {
		// It may turn out to belong to a record that exists, so it must not be linked to one of its own.
		unseen.fresh = false
	}
	if depth >= maxDepth {
		return unseen, nil
	}
	if to.Platform == record.Files { // it cannot be asked for; the message comes back until it has come by itself
		return link{}, &fault.Error{Class: fault.MissingReference, Op: "hub.follow", ID: to.String(), Detail: "is referred to, and no file has told of it yet",
			Remedy: "load the file that holds it, then send the message again with `sorrel deadletters redrive`"}
	}
	hint := message.Inbound{CorrelationID: trace, ReceivedAt: f.d.Now().UTC(), Source: message.Recheck, Native: record.Native{Ref: to}}
	if err := f.take(ctx, []message.Inbound{hint}, w, depth+1); err != nil {
		return link{}, err
	}
	id, ok, err := f.d.Ledger.Lookup(ctx, to)
	if err != nil || ok {
		return link{id: id, seen: ok}, err
	}
	return unseen, nil
}

// strange parks a native record of a platform that may not create records, and that belongs to none.
func (f *Flow) strange(ctx context.Context, m *mapping.Mapping, rules record.Rules, said []saying) error {
	if said[len(said)-1].Gone || slices.Contains(rules.Strangers, m.Platform) {
		f.d.Telemetry.Count("Repeats", m.Platform, 1)
		return nil
	}
	return f.park(ctx, ledger.Exception{Type: "unmatched", Native: said[0].Ref.String(), Platform: m.Platform,
		Detail: fmt.Sprintf("%s may not create a %s, and this one belongs to none", m.Platform, m.Entity),
		Remedy: "link it with `sorrel exceptions link`, create it in its owner, or name " + m.Platform + " among the origins of the policy", Trace: said[0].trace})
}

// second parks a second native record of one platform that claims the same record, until that is gone.
func (f *Flow) second(ctx context.Context, id record.ID, first record.Ref, said []saying) error {
	other := said[0].Ref
	x := ledger.Exception{Type: "possible-duplicate", Record: id, Native: other.String(), Platform: other.Platform,
		Detail: fmt.Sprintf("%s and %s both claim to be %s", first, other, id),
		Remedy: "merge the two on " + other.Platform + ", or remove the external id from one", Trace: said[0].trace}
	if said[len(said)-1].Gone {
		f.d.Telemetry.Count("Repeats", other.Platform, 1)
		return f.d.Ledger.Unpark(ctx, x)
	}
	return f.park(ctx, x)
}

// settle reads a native record whose pushed values tie. If it is too early for a final answer, a recheck is left.
func (f *Flow) settle(ctx context.Context, m *mapping.Mapping, r record.Record, view record.View, said []saying, read bool, links map[record.Ref]link) (record.View, []ledger.Recheck) {
	trace := said[0].trace
	later := []ledger.Recheck{{Ref: view.Ref, NotBefore: f.d.Now().Add(settleAfter), Reason: "two values of one version: " + strings.Join(view.Unsettled(), " "), Trace: trace}}
	if read {
		return view, later
	}
	n, err := f.read(ctx, view.Ref, classOf(said[0].source), trace)
	if err != nil {
		return view, later
	}
	o, refs, err := m.Observe(n)
	if err != nil {
		return view, later
	}
	for field, to := range refs {
		l, known := links[to]
		if !known {
			return view, later // the reference itself is new: its own observation comes
		}
		if o.Fields[field], err = f.named(ctx, r, field, l.id); err != nil {
			return view, later
		}
	}
	o.Trace, o.Timed = trace, f.d.Config.Rules(m.Entity).Timed()
	view, _ = record.Observe(view, o)
	if len(view.Unsettled()) == 0 {
		later = nil
	}
	return view, later
}

// wakes collects the wake-ups of one batch, so that they cost one queue request per platform.
type wakes struct {
	mu sync.Mutex
	by map[string][]queue.Message
}

func (w *wakes) add(due []string, id record.ID, trace, event string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range due {
		m, err := message.Wake{Platform: p, Record: id, CorrelationID: trace}.Message(event)
		if err != nil {
			return err
		}
		w.by[p] = append(w.by[p], m)
	}
	return nil
}

// send wakes the target queues. A failure loses nothing: the sweep wakes what is due.
func (f *Flow) send(ctx context.Context, w *wakes) {
	for _, p := range slices.Sorted(maps.Keys(w.by)) {
		q, ok := f.d.Wake[p]
		if !ok {
			continue
		}
		if err := q.Send(ctx, w.by[p]...); err != nil {
			f.d.Telemetry.Count("WakeFailures", p, 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: p, Detail: "waking", Err: err})
		}
	}
}

func (f *Flow) tell(ctx context.Context, said []saying, id record.ID, changes []record.Change, decisions []record.Decision, echo bool) {
	p, trace := said[0].Platform, said[len(said)-1].trace
	switch {
	case echo:
		f.d.Telemetry.Count("Echoes", p, 1)
	case len(changes) > 0:
		f.d.Telemetry.Count("Changes", p, 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "changed", Platform: p, Record: string(id), Trace: trace, Fields: fieldsOf(changes)})
	default:
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "observed", Platform: p, Record: string(id), Trace: trace})
	}
	for _, d := range decisions {
		if d.Path == record.Revert || d.Path == record.Reject {
			f.d.Telemetry.Count("Reverts", p, 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "to-be-put-back", Platform: p, Record: string(id), Trace: trace, Fields: []string{d.Field}, Detail: d.At})
		}
	}
	f.d.Telemetry.Took("HubLag", p, f.d.Now().Sub(said[0].at))
}

func fieldsOf(changes []record.Change) []string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.Field
	}
	return out
}

// steps are the trace lines of one commit: one for each correlation id that took part.
func steps(said []saying, id record.ID, changes []record.Change, decisions []record.Decision, now time.Time) []ledger.Step {
	var out []ledger.Step
	seen := map[string]bool{}
	for i := len(said) - 1; i >= 0; i-- {
		s := said[i]
		if seen[s.trace] {
			continue
		}
		seen[s.trace] = true
		step := ledger.Step{At: now, Trace: s.trace, Step: "observed", Platform: s.Platform, Record: id, Native: s.Ref.String(),
			Detail: fmt.Sprintf("by %s, received %s", s.source, s.at.UTC().Format(time.RFC3339Nano))}
		if len(changes) > 0 {
			step.Step, step.Fields = "changed", fieldsOf(changes)
		}
		for _, d := range decisions {
			if d.Loser.Trace == s.trace {
				step.Detail += fmt.Sprintf("; %s: %s (%s)", d.Field, d.Path, d.At)
			}
		}
		out = append(out, step)
	}
	return out
}
