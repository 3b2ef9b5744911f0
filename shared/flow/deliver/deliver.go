// Package deliver brings platforms' copies of records up to date: project, write, confirm.
//
// A wake-up is only a hint; what is due is in the ledger. Whatever fails for a while stays due and is
// acknowledged on the queue, so that an outage burns no receives and fills no dead-letter queue, and a record
// that changed many times meanwhile is written once. A call that the platform's gate refuses was no attempt: nothing
// is committed about it, and the sweep wakes the record when there is room. So it does with what the invocation has no time
// left for, within a minute: its message would come back after the queue's visibility timeout only, with one receive less.
//
// What refers to a record that is not on the platform yet is put off. Once that record has got there, those who wait for it
// are due at once, and delivered.
package deliver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Platform writes native records, and reads one back, by its id or by Sorrel's external id, after a write whose answer
// was lost.
type Platform interface {
	Write(ctx context.Context, writes []platform.Write) []platform.Written
	Read(ctx context.Context, r record.Ref) (record.Native, error)
	Find(ctx context.Context, object, external string) (record.Native, error)
}

// Lists tells whether a platform takes a value in a field that is limited to a list, such as a picklist. A platform may
// have it or not.
type Lists interface {
	Accepts(ctx context.Context, object, field, value string) (bool, error)
}

// Deps are what deliver needs. All but Workflows and Subscribers are required.
type Deps struct {
	Ledger      *ledger.Ledger
	Config      *policy.Set
	Platforms   map[string]Platform
	Workflows   queue.Sender // wakes the runs that look at what was delivered; nil = the sweep does
	Subscribers queue.Sender // wakes those that tell subscribers of what was delivered; nil = the sweep does
	Now         func() time.Time
	Rand        func() *rand.Rand // jitter; seeded by the caller
	Telemetry   *telemetry.Recorder
}

// Flow is the deliver function.
type Flow struct {
	d       Deps
	busy    locks
	arrived arrivals
}

// New returns the function.
func New(d Deps) *Flow {
	return &Flow{d: d, busy: locks{held: map[string]chan struct{}{}}, arrived: arrivals{on: map[string]map[record.ID]ledger.State{}}}
}

const (
	maxConflict = 12
	maxDepth    = 3 // prerequisites followed: shipment → order → customer
	firstWait   = 500 * time.Millisecond
	longestWait = time.Minute
	longestLost = 10 * time.Minute // for what is not on the platform, and nothing is due to bring there
	firstRetry  = 90 * time.Second // of a value that is on no list of the platform
	lastRetry   = time.Hour
	// longestAwaited is for what refers to a record that policy wants no native record of there, or none that refers to it: it
	// is woken when that changes.
	longestAwaited = 24 * time.Hour
	// stubborn is how many attempts a failure nobody can classify gets before people are told.
	stubborn = 5
)

// Apply handles a batch of wake-ups and returns the ids of messages that must come back.
func (f *Flow) Apply(ctx context.Context, batch []queue.Received) []string {
	var failed []string
	type want struct {
		got    map[record.ID][]queue.Received // the wake-ups of a record
		traces map[record.ID]string
		class  map[record.ID]budget.Class // the most urgent of its wake-ups
	}
	wants := map[string]want{}
	for _, m := range batch {
		w, err := message.ParseWake(m.Body)
		if err != nil {
			f.givenUp(ctx, m, "", err.Error())
			failed = append(failed, m.ID)
			continue
		}
		if wants[w.Platform].got == nil {
			wants[w.Platform] = want{map[record.ID][]queue.Received{}, map[record.ID]string{}, map[record.ID]budget.Class{}}
		}
		if was, known := wants[w.Platform].class[w.Record]; known {
			w.Class = budget.Urgent(w.Class, was)
		}
		wants[w.Platform].class[w.Record] = w.Class
		wants[w.Platform].got[w.Record] = append(wants[w.Platform].got[w.Record], m)
		wants[w.Platform].traces[w.Record] = w.CorrelationID
	}
	work, cancel := deadline.Keep(ctx, deadline.Reserve) // for what is noted of failures
	defer cancel()
	for _, p := range slices.Sorted(maps.Keys(wants)) {
		w := wants[p]
		errs := map[record.ID]error{}
		for _, class := range budget.Classes() {
			ids := slices.DeleteFunc(slices.Sorted(maps.Keys(w.got)), func(id record.ID) bool { return w.class[id] != class })
			maps.Copy(errs, f.byEntity(work, p, ids, 0))
		}
		f.follow(work, p)
		for _, id := range slices.Sorted(maps.Keys(errs)) {
			err := errs[id]
			if budget.Refused(err) {
				continue
			}
			f.d.Telemetry.Count("DeliverFailures", p, 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: p, Record: string(id), Trace: w.traces[id], Err: err})
			for _, m := range w.got[id] {
				if m.Receives >= queue.MaxReceives {
					f.givenUp(ctx, m, w.traces[id], string(id)+": "+err.Error())
				}
				failed = append(failed, m.ID)
			}
		}
	}
	return failed
}

// late says what people on a platform have missed, where a write comes so late that operators were told.
func late(d ledger.Due, now time.Time) string {
	if now.Sub(d.Since) <= ledger.LagTold || !d.Class.Awaited() || d.Unwanted {
		return ""
	}
	return fmt.Sprintf("late: missed there since %s, one write for %d", d.Since.UTC().Format(time.RFC3339), max(1, len(d.Traces)))
}

// givenUp notes a wake-up that cannot be read, or that has failed for the last time before it becomes a dead letter. What
// is due stays due, and the sweep wakes it again.
func (f *Flow) givenUp(ctx context.Context, m queue.Received, trace, detail string) {
	platform, about, told, _ := message.About(m.Body)
	x := ledger.OfMessage(m.ID, platform, about, told)
	x.Trace, x.Detail = trace, detail
	err := f.d.Ledger.Park(ctx, x)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: x.Platform, Trace: x.Trace, Detail: x.Native + ": " + x.Detail, Err: err})
}

// byEntity delivers records of one entity after the other, each under its lock. A record waits only for records
// that it refers to, which are of other entities, and references make no circles: so nobody waits for ever.
func (f *Flow) byEntity(ctx context.Context, name string, ids []record.ID, depth int) map[record.ID]error {
	failed := map[record.ID]error{}
	for len(ids) > 0 { // ids are sorted, so an entity's stand together
		n := 1
		for n < len(ids) && ids[n].Entity() == ids[0].Entity() {
			n++
		}
		if !fits(ctx) {
			f.d.Telemetry.Count("LeftDue", name, float64(len(ids)))
			return failed
		}
		unlock, err := f.busy.lock(ctx, name, ids[:n])
		if err != nil {
			for _, id := range ids {
				failed[id] = fault.Wrap(fault.Down, "deliver.lock", string(id), err)
			}
			return failed
		}
		maps.Copy(failed, f.deliver(ctx, name, ids[:n], depth))
		unlock()
		ids = ids[n:]
	}
	return failed
}

// fits reports whether a call to a platform, and the commits of what it says, can still be finished. Otherwise the work
// stays due. A cancelled context is for the ledger to refuse.
func fits(ctx context.Context) bool {
	return ctx.Err() != nil || deadline.Fits(ctx, deadline.Call+deadline.Commit)
}

// job is one record on its way to one platform.
type job struct {
	platform  string
	class     budget.Class
	mapping   *mapping.Mapping
	rules     record.Rules
	before    ledger.State            // as committed
	view      record.View             // what the patch was computed from, a read-back included
	found     *record.Observation     // what was read back, nil if nothing was
	arrived   map[string]record.Value // what the read-back shows to have been written
	patch     record.Patch
	held      map[string]record.Hold
	gone      bool        // the platform says that the native record was deleted
	sent      bool        // the write may have reached the platform
	lost      bool        // it refers to a record that nothing is due to bring to the platform
	without   bool        // that reference is left out of the write, and waited for
	waits     []record.ID // records that it refers to and that are not on the platform, sorted
	withdrawn bool        // a read-back shows that a deletion of ours has arrived
	unwanted  bool        // policy wants no native record there of what it waits for
	write     platform.Write
}

// forms are the patched fields in the form that the platform will say them back in.
func (j *job) forms() map[string]record.Value {
	out := make(map[string]record.Value, len(j.patch.Fields))
	for field, v := range j.patch.Fields {
		out[field] = j.mapping.As(field, v)
	}
	return out
}

func (j *job) id() record.ID { return j.before.Record.ID }

// deliver works on records of one entity that are due for one platform, the most urgent class first. The result names
// those whose work could not even be put off, and those that the platform's gate refused, whose work need not be.
func (f *Flow) deliver(ctx context.Context, name string, ids []record.ID, depth int) map[record.ID]error {
	failed := map[record.ID]error{}
	states, err := f.d.Ledger.Load(ctx, ids...)
	if err != nil {
		for _, id := range ids {
			failed[id] = err
		}
		return failed
	}
	p, connected := f.d.Platforms[name]
	jobs := map[budget.Class][]*job{}
	for _, id := range ids {
		due, is := states[id].Due[name]
		if !is || due.NotBefore.After(f.d.Now()) && (depth == 0 || due.Attempts > 0) { // who is referred to need not wait for its first attempt
			continue
		}
		m, mapped := f.d.Config.ByEntity(id.Entity(), name)
		if !connected || !mapped {
			continue // stays due: the configuration has to be completed
		}
		class := due.Class
		if depth > 0 {
			class = budget.Urgent(class, budget.PurposeOf(ctx).Class) // of who refers to it
		}
		j := &job{platform: name, class: class, mapping: m, rules: f.d.Config.Rules(id.Entity()), before: states[id], view: states[id].Record.Views[name]}
		jobs[class] = append(jobs[class], j)
	}
	for _, class := range budget.Classes() {
		if len(jobs[class]) > 0 {
			ctx := budget.For(ctx, budget.Purpose{Class: class, Entity: ids[0].Entity()})
			f.write(ctx, p, jobs[class], depth, failed)
		}
	}
	return failed
}

// write brings records of one entity and class to a platform.
func (f *Flow) write(ctx context.Context, p Platform, all []*job, depth int, failed map[record.ID]error) {
	var jobs []*job
	for _, j := range all {
		ready, err := f.prepare(ctx, p, j)
		if err != nil {
			failed[j.id()] = err
		} else if ready {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return
	}
	to := f.targets(ctx, jobs[0].platform, jobs, depth, failed)
	var writes []platform.Write
	var sent []*job
	for _, j := range jobs {
		if failed[j.id()] != nil {
			continue
		}
		ready, err := f.render(ctx, j, to)
		if err != nil {
			failed[j.id()] = err
		} else if ready {
			writes, sent = append(writes, j.write), append(sent, j)
		}
	}
	if len(writes) == 0 {
		return
	}
	if !fits(ctx) { // reading back took its time
		f.d.Telemetry.Count("LeftDue", sent[0].platform, float64(len(writes)))
		return
	}
	calls, cancel := deadline.Keep(ctx, deadline.Commit) // a write that does not fit is not sent, see vendorhttp
	defer cancel()
	for i, w := range p.Write(calls, writes) {
		if err := f.settle(ctx, sent[i], w); err != nil {
			failed[sent[i].id()] = err
		}
	}
}

// prepare projects the patch, after reading back an unknown write. It reports false when nothing is to be
// written; that is then committed.
func (f *Flow) prepare(ctx context.Context, p Platform, j *job) (bool, error) {
	if due := j.before.Due[j.platform]; due.Unknown || len(due.Again) > 0 {
		if known, err := f.recall(ctx, p, j); !known {
			return false, err
		}
	}
	if j.withdrawn {
		return false, f.withdrawn(ctx, j)
	}
	r := j.before.Record.Clone()
	r.Views[j.platform] = j.view
	if j.view.ID == "" {
		delete(r.Views, j.platform)
	}
	j.patch = record.Project(r, j.rules, j.platform, j.mapping.As)
	f.unlisted(ctx, p, j)
	if j.patch.Empty() {
		return false, f.finish(ctx, j, platform.Written{ID: j.view.ID}, false)
	}
	return true, nil
}

// unlisted takes values out of the patch that are tried again although no list of the platform has them yet: writing
// them would refuse the whole write. Somebody who asks for a try (Tries is 0 then) may know of a list more than its last
// answer says, which connectors keep for a while: that is written.
func (f *Flow) unlisted(ctx context.Context, p Platform, j *job) {
	for field := range j.patch.Fields {
		h, held := j.before.Record.Held[record.HoldKey(j.platform, field)]
		if held && h.Trying && h.Tries > 0 && h.Code != "" && !f.accepts(ctx, p, j, field) {
			j.hold(field, h)
			delete(j.patch.Fields, field)
		}
	}
}

// hold holds a field with what is known about it. Fields that are held before the write are not written.
func (j *job) hold(field string, h record.Hold) {
	if j.held == nil {
		j.held = map[string]record.Hold{}
	}
	j.held[field] = h
}

// accepts asks the platform whether it takes the patch's value of a field. One that cannot tell takes it.
func (f *Flow) accepts(ctx context.Context, p Platform, j *job, field string) bool {
	lists, can := p.(Lists)
	path, _, _ := j.mapping.Native(field)
	_, refers := j.mapping.Refers(field) // a reference is on no list
	if !can || refers || j.patch.Fields[field].Kind() != record.Text {
		return true
	}
	body, _, err := j.mapping.Write(map[string]record.Value{field: j.patch.Fields[field]}, false, nil)
	if err != nil {
		return true
	}
	var native any = body
	for _, key := range strings.Split(path, ".") {
		nested, is := native.(map[string]any)
		if !is {
			return true
		}
		native = nested[key]
	}
	value, is := native.(string)
	if !is || !fits(ctx) {
		return true
	}
	ctx, cancel := deadline.Keep(ctx, deadline.Commit)
	defer cancel()
	ok, err := lists.Accepts(ctx, j.mapping.Object, path, value)
	return ok || err != nil
}

// recall reads back what an unknown write left on the platform, and tells what of it is ours. It reports false
// when that cannot be told now; the work is then put off.
func (f *Flow) recall(ctx context.Context, p Platform, j *job) (bool, error) {
	if !fits(ctx) {
		f.d.Telemetry.Count("LeftDue", j.platform, 1)
		return false, nil
	}
	calls, cancel := deadline.Keep(ctx, deadline.Commit)
	defer cancel()
	n, err := f.readAgain(calls, p, j)
	f.d.Telemetry.Count("ReadBacks", j.platform, 1)
	if fault.Is(err, fault.NotFound) {
		j.withdrawn = j.view.Leaving
		return true, nil // else it never arrived
	}
	if err != nil {
		return false, f.postpone(ctx, j, err, true)
	}
	n.Ours = false // a read shows what is there, whoever saved it last
	o, refs, err := j.mapping.Observe(n)
	if err != nil {
		return false, f.postpone(ctx, j, err, true)
	}
	_, links, err := f.d.Ledger.Open(ctx, nil, slices.Collect(maps.Values(refs)))
	if err != nil {
		return false, err
	}
	for field, to := range refs {
		if id, known := links[to]; known {
			o.Fields[field] = record.TextValue(string(id))
		}
	}
	o.Trace, o.Timed = f.trace(j), j.rules.Timed()
	j.found, j.arrived = &o, map[string]record.Value{}
	for field := range j.before.Record.Golden {
		wanted := j.before.Record.Wanted(j.platform, field)
		v, said := o.Fields[field]
		if !said {
			continue
		}
		// Golden may have moved since; a value that we tried is ours all the same, and nobody's edit.
		due, is := j.before.Due[j.platform], j.mapping.As(field, v)
		ours := slices.Contains(due.Tried[field], is) || slices.Contains(due.Again, field) // what a worker that died has left there
		if ours || is == j.mapping.As(field, wanted) {
			j.arrived[field] = is
		}
	}
	v, _ := record.Observe(j.view, o)
	v.Made = v.Made || j.view.ID == ""
	j.withdrawn = v.Leaving && v.Gone()
	j.view = record.Confirm(v, v, j.arrived, record.Version{}, f.d.Now(), f.trace(j))
	return true, nil
}

// readAgain reads the native record that a write was meant for.
func (f *Flow) readAgain(ctx context.Context, p Platform, j *job) (record.Native, error) {
	if j.view.ID != "" {
		return p.Read(ctx, j.view.Ref)
	}
	return p.Find(ctx, j.mapping.Object, j.before.Record.External())
}

// pointed is where the references of some records lead on a platform.
type pointed struct {
	at       map[record.ID]mapping.Target
	lost     map[record.ID]bool  // not there, and not due to come
	unheard  map[record.ID]bool  // no record yet: word of it may be on its way
	unwanted map[record.ID]bool  // policy wants none there for now, or none that refers to it, or it waits for such a record itself
	refused  map[record.ID]error // by the platform's gate, when they were to be delivered first
}

// targets finds what references point to on the platform. A referenced record that is not there yet is delivered first.
func (f *Flow) targets(ctx context.Context, name string, jobs []*job, depth int, failed map[record.ID]error) pointed {
	wanted := map[record.ID]struct{}{}
	for _, j := range jobs {
		for field, v := range j.patch.Fields {
			_, refers := j.mapping.Refers(field)
			if id := record.ID(v.Raw()); refers && v.Kind() == record.Text && id.Validate() == nil {
				wanted[id] = struct{}{}
			}
		}
	}
	to := pointed{map[record.ID]mapping.Target{}, map[record.ID]bool{}, map[record.ID]bool{}, map[record.ID]bool{}, map[record.ID]error{}}
	if len(wanted) == 0 {
		return to
	}
	find := func(ids []record.ID) (missing []record.ID) {
		states, err := f.d.Ledger.Load(ctx, ids...)
		if err != nil {
			for _, j := range jobs {
				failed[j.id()] = err
			}
			return nil
		}
		for _, id := range ids {
			state := states[id]
			if state.Record.Into != "" {
				if state, err = f.d.Ledger.Follow(ctx, id); err != nil {
					missing = append(missing, id)
					continue
				}
			}
			rules := f.d.Config.Rules(id.Entity())
			if state.Record.Alone(rules, name) {
				to.unwanted[id] = true
				continue
			}
			if v := state.Record.Views[name]; v.Exists() {
				to.at[id] = mapping.Target{NativeID: v.ID}
				if v.External == state.Record.ID && state.Record.Parted == 0 { // not one that it carries from before a merge
					to.at[id] = mapping.Target{NativeID: v.ID, External: state.Record.External()}
				}
				continue
			}
			waits, due := state.Due[name]
			to.unwanted[id] = waits.Unwanted || state.Record.Unwanted(rules, name) != ""
			to.lost[id], to.unheard[id] = state.Exists() && !due, !state.Exists()
			missing = append(missing, id)
		}
		return missing
	}
	missing := find(slices.Sorted(maps.Keys(wanted)))
	if len(missing) > 0 && depth < maxDepth {
		for id, err := range f.byEntity(ctx, name, missing, depth+1) { // its own wake-up reports its own failures
			if budget.Refused(err) {
				to.refused[id] = err
			}
		}
		find(missing)
	}
	return to
}

// render turns the patch into a native write. It reports false when nothing can be written now.
func (f *Flow) render(ctx context.Context, j *job, to pointed) (bool, error) {
	j.write = platform.Write{Ref: record.Ref{Platform: j.platform, Object: j.mapping.Object, ID: j.view.ID}, External: j.before.Record.External(), Key: j.key(), Delete: j.patch.Delete}
	if j.patch.Delete {
		return true, nil
	}
	var missing []string
	var refused error
	native, held, err := j.mapping.Write(j.patch.Fields, j.patch.Create, func(field string, id record.ID) (mapping.Target, bool) {
		t, ok := to.at[id]
		if !ok {
			j.lost = j.lost || to.lost[id] || to.unheard[id] && j.before.Due[j.platform].Attempts >= stubborn
			refused = cmp.Or(refused, to.refused[id])
			j.unwanted = j.unwanted || to.unwanted[id]
			missing = append(missing, fmt.Sprintf("%s → %s", field, id))
			j.waits = append(j.waits, id)
		}
		return t, ok
	})
	slices.Sort(j.waits)
	j.waits = slices.Compact(j.waits)
	switch {
	case refused != nil:
		return false, f.postpone(ctx, j, refused, false)
	case len(missing) > 0 && (j.lost || j.unwanted) && len(native) > 0 && !j.patch.Create: // the rest need not wait for what may never come
		j.without = true
		for field, h := range held {
			if h.Type == mapping.MissingReference {
				delete(held, field)
				delete(j.patch.Fields, field)
			}
		}
	case len(missing) > 0:
		return false, f.postpone(ctx, j, &fault.Error{Class: fault.MissingReference, Op: "deliver", ID: string(j.id()),
			Detail: "not on " + j.platform + " yet: " + strings.Join(missing, ", ")}, false)
	case err != nil:
		return false, f.postpone(ctx, j, fault.Wrap("", "deliver.render", string(j.id()), err), false)
	}
	for field, h := range held {
		h.Value = j.patch.Fields[field]
		j.hold(field, h)
		delete(j.patch.Fields, field)
	}
	if len(native) == 0 || len(j.patch.Fields) == 0 {
		j.patch.Fields = nil
		return false, f.finish(ctx, j, platform.Written{ID: j.view.ID}, false)
	}
	j.write.Fields = native
	return true, nil
}

// key names one attempt at one write: equal when it is repeated because the answer got lost, and never for another. All
// attempts at one creation have one key, so that an early one which arrives after a later one makes no second record.
func (j *job) key() string {
	due := j.before.Due[j.platform]
	if j.patch.Create {
		gone := cmp.Or(j.before.Record.Views[j.platform].ID, j.before.Record.LastWithdrawn(j.platform))
		return fmt.Sprintf("%s-new-%s", j.id().External(), gone) // after one that is gone it is another
	}
	return fmt.Sprintf("%s-%d-%d-%d-%d", j.id().External(), j.before.Record.Seq, j.before.Log.Seq, due.Since.UnixNano(), due.Attempts)
}

// settle turns a vendor's answer into the next state.
func (f *Flow) settle(ctx context.Context, j *job, w platform.Written) error {
	if !budget.Refused(w.Err) {
		f.d.Telemetry.Count("ProviderWrites", j.platform, 1)
	}
	row := fault.RowOf(w.Err)
	j.sent = w.Err == nil || row.Class == fault.Unknown
	switch {
	case w.Err == nil:
		return f.finish(ctx, j, w, true)
	case row.Class == fault.Refused || row.Class == fault.Contract || row.Class == fault.TooLarge:
		return f.refuse(ctx, j, w.Err)
	case row.Class == fault.NotFound && (j.patch.Withdraw || j.view.Leaving):
		return f.withdrawn(ctx, j)
	case row.Class == fault.NotFound && j.view.ID != "":
		j.gone = f.deleted(ctx, j)
	}
	return f.postpone(ctx, j, w.Err, false)
}

// withdrawn finishes the deletion of a native record that policy withdraws, and that is not there any more.
func (f *Flow) withdrawn(ctx context.Context, j *job) error {
	j.patch = record.Patch{Delete: true, Withdraw: true}
	return f.finish(ctx, j, platform.Written{ID: j.view.ID}, true)
}

// deleted asks whether the platform has deleted the native record that a write did not find. Only its plain word counts: not
// to be found can also mean that the integration user may not see it.
func (f *Flow) deleted(ctx context.Context, j *job) bool {
	if !fits(ctx) {
		return false
	}
	call, cancel := deadline.Keep(ctx, deadline.Commit)
	defer cancel()
	n, err := f.d.Platforms[j.platform].Read(call, j.view.Ref)
	return err == nil && n.Gone
}

// finish commits what was written (or that nothing had to be), and ends the due work unless there is news.
func (f *Flow) finish(ctx context.Context, j *job, w platform.Written, written bool) error {
	return f.commit(ctx, j, func(s *ledger.State, e *ledger.Entry, now time.Time) {
		view, crossed := s.Record.Views[j.platform], false
		_, former := s.Record.Former(record.Ref{Platform: j.platform, Object: j.mapping.Object, ID: w.ID}) // withdrawn since, which is news to a slow worker
		switch {
		case written && j.patch.Withdraw:
			if view.ID == j.view.ID {
				s.Record = s.Record.Withdraw(j.platform, now)
			}
		case written && !former && (view.ID == "" && !j.patch.Delete || view.ID == w.ID): // else another native record has become this record's meanwhile
			if view.ID == "" { // a view that an echo made meanwhile brought its link with it
				view.Ref = record.Ref{Platform: j.platform, Object: j.mapping.Object, ID: w.ID}
				e.Links[view.Ref] = j.id()
			}
			crossed = w.Version.IsZero() && len(j.crossed(e.Before, j.forms())) > 0
			view = f.confirm(j, s, view, w, now)
			view.Made, view.Leaving = view.Made || j.patch.Create, view.Leaving && j.patch.Delete
			s.Record.Views[j.platform] = view
		}
		held := f.holds(j, s, now)
		for field := range j.patch.Fields {
			delete(held, record.HoldKey(j.platform, field))
		}
		s.Record.Held = held
		if crossed {
			f.reread(j, s, j.forms(), "written while another worker wrote it", now)
		}
		f.end(j, s)
		step := ledger.Step{Step: "unchanged", Detail: "nothing to write"}
		if written {
			step = ledger.Step{Step: "written", Native: record.Ref{Platform: j.platform, Object: j.mapping.Object, ID: w.ID}.String(), Fields: slices.Sorted(maps.Keys(j.patch.Fields))}
			if w.Created {
				step.Detail = "created"
			}
			switch {
			case j.patch.Withdraw:
				step.Detail = "withdrawn"
			case j.patch.Delete:
				step.Detail = "deleted"
			}
			step.Detail = strings.Trim(step.Detail+"; "+late(j.before.Due[j.platform], now), "; ")
		}
		for _, field := range slices.Sorted(maps.Keys(j.held)) {
			step.Detail = strings.TrimPrefix(step.Detail+"; "+field+" held: "+j.held[field].Detail, "; ")
		}
		f.steps(j, e, step, now)
	}, func() {
		switch {
		case written:
			f.d.Telemetry.Count("Written", j.platform, 1)
			due, now := j.before.Due[j.platform], f.d.Now()
			if due.Class.Awaited() && !due.Unwanted {
				f.d.Telemetry.Took("Freshness", j.platform, now.Sub(due.Since))
			}
			f.tell(ctx, j, "written", late(due, now), slices.Sorted(maps.Keys(j.patch.Fields)), nil)
		default:
			f.d.Telemetry.Count("NothingToWrite", j.platform, 1)
			f.tell(ctx, j, "unchanged", "", nil, nil)
		}
		for field, h := range j.held {
			f.tell(ctx, j, "held", h.Type+": "+h.Detail, []string{field}, nil)
		}
	})
}

// crossed are those of the fields that j has set, or found set, which another worker's write of something else was confirmed
// to have set since j was loaded. Unless the platform tells versions, nobody knows which of the two came last.
func (j *job) crossed(now ledger.State, set map[string]record.Value) []string {
	before, after := j.before.Record.Views[j.platform].Wrote, now.Record.Views[j.platform].Wrote
	var out []string
	for field, value := range set {
		if is := after[field]; is.Value != value && !is.Told && !is.When.Equal(before[field].When) {
			out = append(out, field)
		}
	}
	return out
}

// confirm is a view after a write that arrived.
func (f *Flow) confirm(j *job, s *ledger.State, view record.View, w platform.Written, now time.Time) (out record.View) {
	if j.patch.Delete {
		return record.Buried(view)
	}
	said, all := f.answered(j, w)
	if said != nil {
		view.Echo = said
		defer func() {
			// If the answer shows nothing that is not known, nobody has set anything there before that we have not heard of.
			if w.Version.Compare(out.Heard) > 0 && out.KnowsAll(all) {
				out.Heard = w.Version
			}
		}()
	}
	r := s.Record
	echo, expects := view.Echo, r.Expects(j.platform)
	view = record.ConfirmAmong(view, j.view, j.forms(), s.Due[j.platform].Tried, w.Version, now, f.trace(j))
	if j.write.Ref.ID == "" || w.Created {
		view.External = j.id()
	}
	if echo == nil {
		return view
	}
	r = r.Clone()
	r.Views[j.platform] = view
	// The platform decides these fields. Somebody approved what this write says of them, or nobody has ever said anything:
	// what it has made of them is its own word.
	o := record.Observation{Ref: view.Ref, Version: echo.Version, Ours: true, Trace: f.trace(j), Fields: map[string]record.Value{}, Timed: j.rules.Timed()}
	for _, field := range append(expects, r.Unsaid(j.rules, j.platform)...) {
		if v, said := echo.Fields[field]; said && (!v.IsNull() || slices.Contains(expects, field)) {
			o.Fields[field] = v
		}
	}
	if len(o.Fields) == 0 {
		return view
	}
	view, _ = record.Observe(view, o)
	return view
}

// answered is what the answer to a write shows of the fields written, in canonical fields, and all that it shows; nil when it
// shows nothing.
func (f *Flow) answered(j *job, w platform.Written) (*record.Echo, record.Observation) {
	if w.Fields == nil || w.Version.IsZero() {
		return nil, record.Observation{}
	}
	o, _, err := j.mapping.Observe(record.Native{Ref: record.Ref{Platform: j.platform, Object: j.mapping.Object, ID: w.ID}, Version: w.Version, Fields: w.Fields})
	if err != nil {
		return nil, o
	}
	e := &record.Echo{Version: w.Version, Fields: map[string]record.Value{}}
	for field := range j.patch.Fields {
		if v, said := o.Fields[field]; said {
			e.Fields[field] = v
		}
	}
	return e, o
}

// readBack adds what was found on the platform to the newest state: it is true whatever comes next.
func (f *Flow) readBack(j *job, s *ledger.State, e *ledger.Entry, now time.Time) {
	view := s.Record.Views[j.platform]
	if j.found == nil || view.ID != "" && view.ID != j.found.ID { // the hub tells people about two
		return
	}
	made := view.ID == "" // by a write of ours: nobody else knows the external id, and nobody has linked what people made
	if made {
		e.Links[j.found.Ref] = j.id()
	}
	view, _ = record.Observe(view, *j.found)
	view.Made, view.Leaving = view.Made || made, view.Leaving && view.Gone()
	arrived, crossed := maps.Clone(j.arrived), j.crossed(e.Before, j.arrived)
	for _, field := range crossed {
		delete(arrived, field)
	}
	s.Record.Views[j.platform] = record.Confirm(view, j.view, arrived, record.Version{}, now, f.trace(j))
	if len(crossed) > 0 {
		f.reread(j, s, j.arrived, "read while another worker wrote it", now)
	}
}

// holds is a copy of a state's holds, with what the mapping could not carry. Those fields are not in the patch.
func (f *Flow) holds(j *job, s *ledger.State, now time.Time) map[string]record.Hold {
	held := make(map[string]record.Hold, len(s.Record.Held)+len(j.held))
	maps.Copy(held, s.Record.Held)
	for field, h := range j.held {
		h.Since, h.Trace = now, f.trace(j)
		held[record.HoldKey(j.platform, field)] = again(held[record.HoldKey(j.platform, field)], h, now)
	}
	return held
}

// again is a hold after another try. A value that is on no list of the platform is tried again, with growing pauses,
// because lists grow; nothing else is, until somebody asks for it.
func again(was, h record.Hold, now time.Time) record.Hold {
	if was.Value == h.Value && was.Type == h.Type {
		h.Since, h.Tries = was.Since, was.Tries
	}
	h.Trying, h.Retry = false, time.Time{}
	if h.Type == unlisted && h.Code != "" {
		h.Retry = now.Add(min(firstRetry<<min(h.Tries, 10), lastRetry))
		h.Tries++
	}
	return h
}

const unlisted = "unknown-picklist" // exception type

// end removes the due entry if, after all, the platform's copy is as it should be. It stays while another worker's write,
// sent since this one loaded the record, is unknown: what that left behind has to be read.
func (f *Flow) end(j *job, s *ledger.State) {
	due, still := s.Due[j.platform]
	before := j.before.Due[j.platform]
	if !still || due.Unknown && (due.Attempts != before.Attempts || !due.Since.Equal(before.Since)) {
		return
	}
	delete(s.Due, j.platform)
	again := due.Again
	if s.Record.Seq == j.before.Record.Seq { // nothing has become due and come back while it was written
		again = nil
	}
	patch := record.Project(s.Record, j.rules, j.platform, j.mapping.As)
	if len(again) > 0 || !patch.Empty() {
		left := ledger.Due{Class: due.Class, Since: due.Since, Traces: due.Traces, Again: again, Unknown: j.contested(patch, s.Record.Views[j.platform])}
		if j.without {
			left.Attempts, left.Reason, left.Missing, left.Stuck, left.Waits = due.Attempts, due.Reason, due.Missing, due.Stuck, j.waits
			left.NotBefore = f.later(f.d.Now(), max(due.Attempts, 1), longestLost, time.Time{})
			f.await(j, &left, f.d.Now())
		}
		if s.Due == nil {
			s.Due = map[string]ledger.Due{}
		}
		s.Due[j.platform] = left
	}
}

// contested reports whether what j has just written is to be written again, because word of what somebody set came
// meanwhile. Only a read shows which of the two was first, unless the platform told the version of the write.
func (j *job) contested(again record.Patch, v record.View) bool {
	for field, value := range again.Fields {
		if j.sent && j.patch.Fields[field] == value && !v.Wrote[field].Told {
			return true
		}
	}
	return false
}

// refuse holds the refused fields, so that everything else keeps flowing, and tells people why.
func (f *Flow) refuse(ctx context.Context, j *job, why error) error {
	e := fault.Outermost(why)
	fields := j.mapping.Canonical(e.Fields)
	fields = slices.DeleteFunc(fields, func(field string) bool { _, sent := j.patch.Fields[field]; return !sent })
	var off []string
	for _, field := range slices.Sorted(maps.Keys(j.patch.Fields)) {
		if !f.accepts(ctx, f.d.Platforms[j.platform], j, field) {
			off = append(off, field)
		}
	}
	switch {
	case len(fields) == 0 && len(off) > 0:
		fields = off
	case len(fields) == 0:
		fields = slices.Sorted(maps.Keys(j.patch.Fields)) // the vendor does not say which
	}
	switch {
	case j.patch.Withdraw:
		fields = []string{record.Whole}
	case j.patch.Delete:
		return f.postpone(ctx, j, why, false) // there is no field to hold
	}
	return f.commit(ctx, j, func(s *ledger.State, entry *ledger.Entry, now time.Time) {
		held := f.holds(j, s, now)
		for _, field := range fields {
			h := record.Hold{Type: "refused-write", Detail: strings.TrimSpace(e.Code + " " + e.Detail), Code: e.Code,
				Value: j.patch.Fields[field], Since: now, Trace: f.trace(j)}
			if slices.Contains(off, field) {
				h.Type, h.Code = unlisted, cmp.Or(e.Code, "list")
			}
			held[record.HoldKey(j.platform, field)] = again(held[record.HoldKey(j.platform, field)], h, now)
		}
		s.Record.Held = held
		f.end(j, s)
		f.steps(j, entry, ledger.Step{Step: "refused", Fields: fields, Detail: e.Code + " " + e.Detail}, now)
	}, func() {
		f.d.Telemetry.Count("Refused", j.platform, 1)
		f.tell(ctx, j, "refused", e.Code, fields, why)
	})
}

// postpone keeps the work due for later. found says that the failure happened while reading back, so that the
// last write is still unknown. What the platform's gate refused is due as it was, and why comes back.
func (f *Flow) postpone(ctx context.Context, j *job, why error, found bool) error {
	if budget.Refused(why) {
		f.d.Telemetry.Count("NotCalled", j.platform, 1)
		return why
	}
	unknown := fault.Is(why, fault.Unknown) || found
	return f.commit(ctx, j, func(s *ledger.State, e *ledger.Entry, now time.Time) {
		due, still := s.Due[j.platform]
		if !still && !fault.Is(why, fault.Unknown) {
			return
		}
		if !still { // another worker has ended it, and knows nothing of this write
			s.AddDue(j.platform, f.trace(j), j.class, now)
			due = s.Due[j.platform]
		}
		again, rested := due.Reason == why.Error(), due.Unwanted
		due.Attempts++
		due.Unknown = due.Unknown || found
		if fault.Is(why, fault.Unknown) {
			due.Unknown = true
			due.Try(j.forms())
		}
		due.Reason, due.Waits, due.Unwanted = why.Error(), nil, false
		if fault.Is(why, fault.MissingReference) {
			due.Waits = j.waits
		}
		due.Missing = j.lost && fault.Is(why, fault.MissingReference)
		// A vendor that answers each time that something broke does so for a reason of this record's.
		broken := fault.Is(why, fault.Unknown) && fault.Outermost(why).Code != ""
		due.Stuck = due.Attempts >= stubborn && (due.Missing || broken || fault.RowOf(why).Queue != fault.Keep)
		longest := longestWait
		if due.Missing || fault.Is(why, fault.NotFound) { // deleted, and the platform does not say so, or hidden from us
			longest = longestLost
		}
		due.NotBefore = f.later(now, due.Attempts, longest, fault.RetryAt(why))
		if unknown && !found {
			due.NotBefore = now.Add(firstWait) // read back soon
		}
		if fault.Is(why, fault.MissingReference) {
			f.await(j, &due, now)
		}
		if j.gone { // the hub decides what follows from that
			e.Rechecks = []ledger.Recheck{{Ref: j.view.Ref, NotBefore: now, Reason: "deleted there, as a write was told", Trace: f.trace(j)}}
			due.NotBefore = now.Add(firstRetry)
		}
		s.Due[j.platform] = due
		if due.Unwanted && rested {
			return
		}
		if due.Attempts == 1 || !again && !fault.Is(why, fault.Down) { // else one line per record and attempt
			f.steps(j, e, ledger.Step{Step: "kept-due", Detail: string(fault.ClassOf(why))}, now)
		}
	}, func() {
		f.d.Telemetry.Count("KeptDue", j.platform, 1)
		if fault.Is(why, fault.Down) {
			f.d.Telemetry.Count("PlatformDown", j.platform, 1)
		}
		f.tell(ctx, j, "kept-due", string(fault.ClassOf(why)), nil, why)
	})
}

// await puts off for long what refers to a record that policy wants no native record of for now, or nothing that refers to
// it. Nothing has failed, so nobody is told.
func (f *Flow) await(j *job, due *ledger.Due, now time.Time) {
	if !j.unwanted {
		return
	}
	due.Unwanted, due.Attempts, due.Missing, due.Stuck = true, 1, false, false
	due.Reason = fmt.Sprintf("it waits for %s: policy wants no native record of it on %s for now, or none that refers to it", strings.Trim(fmt.Sprint(j.waits), "[]"), j.platform)
	due.NotBefore = now.Add(longestAwaited - time.Duration(f.d.Rand().Int64N(int64(longestAwaited/2))))
}

// later is a jittered pause that doubles, and respects what the vendor asked for.
func (f *Flow) later(now time.Time, attempts int, longest time.Duration, asked time.Time) time.Time {
	wait := min(firstWait<<min(attempts-1, 11), longest)
	at := now.Add(wait/2 + time.Duration(f.d.Rand().Int64N(int64(wait/2)+1)))
	if asked.After(at) {
		at = asked
	}
	return at
}

func (f *Flow) trace(j *job) string {
	if t := j.before.Due[j.platform].Traces; len(t) > 0 {
		return t[len(t)-1]
	}
	return ""
}

// steps adds one trace line for every correlation id that the due work stands for.
func (f *Flow) steps(j *job, e *ledger.Entry, s ledger.Step, now time.Time) {
	s.At, s.Platform, s.Record = now, j.platform, j.id()
	for _, t := range j.before.Due[j.platform].Traces {
		s.Trace = t
		e.Steps = append(e.Steps, s)
	}
}

func (f *Flow) tell(ctx context.Context, j *job, step, detail string, fields []string, err error) {
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: step, Platform: j.platform, Record: string(j.id()), Trace: f.trace(j), Detail: detail, Fields: fields, Err: err})
}

// commit applies change to the newest state of the record until no other worker interferes, then calls done.
func (f *Flow) commit(ctx context.Context, j *job, change func(*ledger.State, *ledger.Entry, time.Time), done func()) error {
	base := j.before
	linked := map[record.Ref]bool{} // links to the record that are there, although its view has been lost
	for attempt := 0; ; attempt++ {
		now := f.d.Now().UTC()
		after := base.Clone()
		if after.Record.Policy = j.rules.Version; base.Record.Policy != j.rules.Version {
			after.Release(base.Record.Policy) // before change adds holds of this configuration
		}
		e := ledger.Entry{Before: base, Links: map[record.Ref]record.ID{}}
		f.readBack(j, &after, &e, now)
		change(&after, &e, now)
		settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, base, after, govern.Cause{Trace: f.trace(j), Class: j.class, Now: now})
		if err != nil {
			return err
		}
		maps.DeleteFunc(e.Links, func(ref record.Ref, _ record.ID) bool { return linked[ref] })
		settled.Entry.Links, settled.Entry.Steps, settled.Entry.Rechecks = e.Links, e.Steps, e.Rechecks
		err = f.d.Ledger.Commit(ctx, settled.Entry)
		if err == nil {
			arrived := !j.before.Record.Views[j.platform].Exists() && after.Record.Views[j.platform].Exists()
			freed := base.Due[j.platform].Frees && !settled.Entry.After.Due[j.platform].Frees
			if (arrived || freed) && !settled.Entry.After.Record.Alone(j.rules, j.platform) {
				f.arrived.add(j.platform, settled.Entry.After)
			}
			f.missed(ctx, j)
			done()
			f.wake(ctx, j, settled.Due, now)
			return nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return err
		}
		f.d.Telemetry.Count("DeliverConflicts", j.platform, 1)
		for ref := range e.Links {
			to, _, err := f.d.Ledger.Lookup(ctx, ref)
			if err != nil {
				return err
			}
			linked[ref] = to == j.id()
		}
		states, err := f.d.Ledger.Load(ctx, j.id())
		if err != nil {
			return err
		}
		if base = states[j.id()]; j.moved(base.Record) {
			return f.handOver(ctx, j)
		}
	}
}

// wake wakes the workflows that are to look at the record, and who tells subscribers of it. A failure loses nothing: the
// sweep wakes what is due.
func (f *Flow) wake(ctx context.Context, j *job, due []string, now time.Time) {
	for _, p := range due {
		to := f.d.Workflows
		if _, is := record.Subscriber(p); is {
			to = f.d.Subscribers
		} else if p != record.Sorrel {
			continue
		}
		if to == nil {
			continue
		}
		m, err := message.Wake{Platform: p, Record: j.id(), CorrelationID: f.trace(j)}.Message(fmt.Sprintf("%s/%s/%d", j.platform, f.trace(j), now.UnixNano()))
		if err == nil {
			err = to.Send(ctx, m)
		}
		if err != nil {
			f.d.Telemetry.Count("WakeFailures", p, 1)
			f.tell(ctx, j, "failed", "waking "+p, nil, err)
		}
	}
}

// moved reports whether records became one or were parted since j was loaded, so that the native record is another's.
func (j *job) moved(r record.Record) bool {
	was := j.before.Record.Views[j.platform].ID
	return r.Into != "" || was != "" && r.Views[j.platform].ID != was
}

// handOver lets the record that a native record has come to read what a write left there that it does not know of. A native
// record that was created meanwhile belongs to none yet: the hub hears of it.
func (f *Flow) handOver(ctx context.Context, j *job) error {
	ref := j.before.Record.Views[j.platform].Ref
	if !j.sent || ref.ID == "" {
		return nil
	}
	id, linked, err := f.d.Ledger.Lookup(ctx, ref)
	if err != nil || !linked {
		return err
	}
	now := f.d.Now().UTC()
	_, err = govern.Change(ctx, f.d.Ledger, f.d.Config, id, govern.Cause{Trace: f.trace(j), Now: now}, func(s *ledger.State) ([]record.Event, error) {
		if s.Record.Views[j.platform].ID == ref.ID {
			f.reread(j, s, j.forms(), "written while it came from another record", now)
		}
		return nil, nil
	})
	f.d.Telemetry.Count("KeptDue", j.platform, 1)
	return err
}

// reread has what a write of set left on the platform read, as if it had not been answered.
func (f *Flow) reread(j *job, s *ledger.State, set map[string]record.Value, why string, now time.Time) {
	s.AddDue(j.platform, f.trace(j), j.class, now)
	due := s.Due[j.platform]
	due.Attempts++
	due.NotBefore, due.Reason, due.Unknown = now.Add(firstWait), why, true
	due.Try(set)
	s.Due[j.platform] = due
}
