package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/certificate"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Role is the role of those who may begin a run that heals.
const Role = "steward"

// Deps are what reconciliation needs. Without Sources and Inbound runs can be begun and shown, and another process moves them on.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Sources   map[string]Source
	Objects   map[string][]platform.Object // by platform: what is mapped; what cannot be counted is compared by full runs alone
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string
	Telemetry *telemetry.Recorder
	// Key signs certificates; nil, or a nil key, for none.
	Key func(context.Context) (*certificate.Key, error)
}

// Flow is the reconcile function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

const (
	// maxDrifted bounds the times of differing records that are kept for the plot.
	maxDrifted = 100_000
	// bySchedule is who began a run that nobody asked for.
	bySchedule = "schedule"
	// maxFailures is how often a set is tried that fails.
	maxFailures   = 5
	exceptionType = "reconciliation-drift"
)

// Wish says what a run is to compare.
type Wish struct {
	Platform string `json:"platform,omitempty"` // "" = all that are connected
	Entity   string `json:"entity,omitempty"`   // "" = all
	Full     bool   `json:"full,omitempty"`
	DryRun   bool   `json:"dryRun,omitempty"`
	// Gone has what a platform does not know any more taken as deleted. It takes a person to say so: a platform does not
	// know either what it does not show to its integration user.
	Gone bool `json:"gone,omitempty"`
}

// Begin begins a run for a person. It is moved on by Advance.
func (f *Flow) Begin(ctx context.Context, by policy.Person, w Wish) (Report, error) {
	who, err := f.d.Config.Acting("reconcile", by.Name, Role)
	if err != nil {
		return Report{}, err
	}
	return f.begin(ctx, who.Name, w)
}

// Schedule begins a run that nobody asked for, unless one over the same platform is under way.
func (f *Flow) Schedule(ctx context.Context, w Wish) (Report, error) {
	ids, err := f.d.Ledger.Reconciling(ctx)
	if err != nil {
		return Report{}, err
	}
	for _, id := range ids {
		r, err := f.Show(ctx, id)
		if err != nil {
			return Report{}, err
		}
		if r.Wish.Platform == "" || w.Platform == "" || r.Wish.Platform == w.Platform {
			return r, nil
		}
	}
	return f.begin(ctx, bySchedule, w)
}

func (f *Flow) begin(ctx context.Context, by string, w Wish) (Report, error) {
	bad := func(field, detail, remedy string) error {
		return &fault.Error{Class: fault.Malformed, Op: "reconcile", Fields: []string{field}, Detail: detail, Remedy: remedy}
	}
	if w.Gone && by == bySchedule {
		return Report{}, bad("gone", "nobody is there to say that records are gone", "leave it out of the schedule's input")
	}
	if w.Entity != "" && !slices.Contains(f.d.Config.Entities(), w.Entity) {
		return Report{}, bad("entity", fmt.Sprintf("no entity is called %.40q", w.Entity), fmt.Sprintf("known: %v", f.d.Config.Entities()))
	}
	if w.Platform != "" && !slices.Contains(f.d.Config.Platforms(), w.Platform) {
		return Report{}, bad("platform", fmt.Sprintf("no platform is called %.40q", w.Platform), fmt.Sprintf("known: %v", f.d.Config.Platforms()))
	}
	now := f.d.Now().UTC()
	r := Report{ID: f.d.NewID(), State: Running, Mode: ByCounts, DryRun: w.DryRun, By: by, Started: now, Config: f.d.Config.Version(), Policy: f.d.Config.ReconcilingVersion(), Wish: w}
	if w.Full {
		r.Mode = Full
	}
	if f.d.Sources != nil { // else the process that has them says which sets there are
		if r.Sets = f.sets(w); len(r.Sets) == 0 {
			return r, bad("platform", "nothing can be compared", "name a platform that is connected and an entity that it has; infra/runbooks/reconciliation.md says what can be counted")
		}
	}
	if err := f.d.Ledger.Note(ctx, f.line(r, "reconciliation-began", by)); err != nil {
		return r, err
	}
	head, err := f.d.Ledger.SaveReconciliation(ctx, ledger.Reconciliation{ID: r.ID, Active: true, Created: now, Head: headOf(r)})
	if err != nil {
		return r, err
	}
	return reportOf(head)
}

// sets are what a wish is about, those that others refer to first.
func (f *Flow) sets(w Wish) (out []Set) {
	for _, p := range f.d.Config.Platforms() {
		if w.Platform != "" && w.Platform != p {
			continue
		}
		for _, o := range f.d.Objects[p] {
			m, mapped := f.d.Config.ByObject(p, o.Name)
			if mapped && (w.Entity == "" || w.Entity == m.Entity) && (o.Census != "" || w.Full && !o.Unlisted) {
				out = append(out, Set{Platform: p, Object: o.Name, Entity: m.Entity})
			}
		}
	}
	return out
}

// line is what the general audit log says of a run.
func (f *Flow) line(r Report, action, by string) ledger.LogEntry {
	detail := fmt.Sprintf("run %s of mode %s over %d set(s)", r.ID, r.Mode, len(r.Sets))
	if r.DryRun {
		detail += ", dry"
	}
	if r.Wish.Gone {
		detail += "; what is not known there counts as deleted"
	}
	return ledger.LogEntry{At: f.d.Now().UTC(), By: by, Trace: r.ID, Policy: r.Config, Events: []record.Event{{Action: action, By: by, Detail: detail, Trace: r.ID}}}
}

// headOf is a report without what its parts say.
func headOf(r Report) []byte {
	r.Sets = slices.Clone(r.Sets)
	for i, s := range r.Sets {
		s.Drift = slices.Clone(s.Drift)
		for j := range s.Drift {
			s.Drift[j].Samples = nil
		}
		s.Buckets, s.Exceptions = nil, nil
		r.Sets[i] = s
	}
	b, err := json.Marshal(r)
	if err != nil { // plain fields
		return []byte("{}")
	}
	return b
}

func reportOf(h ledger.Reconciliation) (Report, error) {
	var r Report
	return r, fault.Wrap(fault.Internal, "reconcile.report", h.ID, json.Unmarshal(h.Head, &r))
}

// List lists runs, the newest first, without samples and buckets.
func (f *Flow) List(ctx context.Context) ([]Report, error) {
	all, err := f.d.Ledger.Reconciliations(ctx)
	out := make([]Report, len(all))
	for i, h := range all {
		if out[i], err = reportOf(h); err != nil {
			return nil, err
		}
	}
	return out, err
}

// Show shows a run as far as it got.
func (f *Flow) Show(ctx context.Context, id string) (Report, error) {
	h, err := f.d.Ledger.Reconciliation(ctx, id)
	if err != nil {
		return Report{}, err
	}
	r, err := reportOf(h)
	for i := range r.Sets {
		if err != nil {
			break
		}
		var p ledger.Part
		if p, err = f.d.Ledger.Part(ctx, id, i); err == nil && p.Body != nil {
			var g progress
			if err = json.Unmarshal(p.Body, &g); err == nil {
				r.Sets[i] = g.Set
			}
		}
	}
	return r, err
}

// progress is a part of a run as the ledger keeps it.
type progress struct {
	Set      Set       `json:"set"`
	Mark     *mark     `json:"mark,omitempty"` // of a full comparison
	Heal     []finding `json:"heal,omitempty"`
	Failures int       `json:"failures,omitempty"`
}

// Advanced is what one tick did.
type Advanced struct {
	Active int `json:"active"`
	Sets   int `json:"sets"` // that were compared wholly
}

// Advance moves runs on with the time that is left. Two that run at once, or one that dies anywhere, do nothing twice that
// counts: what was found is observed again, and that is no news.
func (f *Flow) Advance(ctx context.Context) (Advanced, error) {
	var out Advanced
	if f.d.Sources == nil { // another process has the connectors
		return out, nil
	}
	ids, err := f.d.Ledger.Reconciling(ctx)
	if err != nil {
		return out, err
	}
	var errs []error
	for _, id := range ids {
		done, err := f.advance(ctx, id, &out)
		if err != nil && !errors.Is(err, errUnfinished) {
			errs = append(errs, err)
		}
		if !done {
			out.Active++
		}
	}
	f.d.Telemetry.Gauge("ReconciliationsActive", "", float64(out.Active))
	return out, errors.Join(errs...)
}

// advance moves one run on. It reports whether it is over.
func (f *Flow) advance(ctx context.Context, id string, out *Advanced) (bool, error) {
	h, err := f.d.Ledger.Reconciliation(ctx, id)
	if err != nil {
		return false, err
	}
	r, err := reportOf(h)
	if err != nil {
		return false, err
	}
	if len(r.Sets) == 0 {
		r.Sets = f.sets(r.Wish)
	}
	over := true
	for i := range r.Sets {
		s := &r.Sets[i]
		if s.State == Done || s.State == Failed {
			continue
		}
		if _, connected := f.d.Sources[s.Platform]; !connected {
			s.State, s.Reason, s.Ended = Failed, "the platform is not connected any more", f.d.Now().UTC()
			continue
		}
		if !deadline.Fits(ctx, 2*callTime) {
			return false, nil
		}
		done, err := f.compare(ctx, r, i)
		if errors.Is(err, errUnfinished) || fault.Is(err, fault.Conflict) {
			over = false
			continue // another platform may have room
		}
		if err != nil {
			return false, err
		}
		out.Sets++
		r.Sets[i] = done
		h.Head = headOf(r)
		if h, err = f.d.Ledger.SaveReconciliation(ctx, h); err != nil {
			return false, err
		}
	}
	if !over {
		return false, nil
	}
	r.State, r.Ended = Done, f.d.Now().UTC()
	var failed []string
	for _, s := range r.Sets {
		if s.State == Failed {
			failed = append(failed, s.Platform+"/"+s.Object)
		}
	}
	if len(r.Sets) == 0 {
		r.State, r.Reason = Failed, "nothing of what was asked for can be compared"
	}
	if len(failed) > 0 {
		r.State, r.Reason = Failed, "could not be compared: "+strings.Join(failed, ", ")
	}
	if r, err = f.certify(ctx, r); err != nil {
		return false, err
	}
	h.Head, h.Active = headOf(r), false
	if _, err := f.d.Ledger.SaveReconciliation(ctx, h); err != nil {
		return false, err
	}
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "reconciled", Trace: r.ID, Detail: r.State})
	return true, f.d.Ledger.Note(ctx, f.line(r, "reconciliation-ended", r.By))
}

// compare compares one set, or goes on with it, and heals it.
func (f *Flow) compare(ctx context.Context, r Report, i int) (Set, error) {
	part, err := f.d.Ledger.Part(ctx, r.ID, i)
	if err != nil {
		return Set{}, err
	}
	g := progress{Set: r.Sets[i]}
	if part.Body != nil {
		if err := json.Unmarshal(part.Body, &g); err != nil {
			return Set{}, fault.Wrap(fault.Internal, "reconcile.part", r.ID, err)
		}
	}
	if g.Set.State == Done || g.Set.State == Failed {
		return g.Set, nil // only the head was not written
	}
	c, err := f.begun(ctx, r, g)
	if err != nil {
		return Set{}, err
	}
	save := func(done *ledger.Reconciled) error {
		g.Set = *c.set
		body, err := json.Marshal(g)
		if err != nil {
			return fault.Wrap(fault.Internal, "reconcile.part", r.ID, err)
		}
		part.Body = body
		part, err = f.d.Ledger.SavePart(ctx, r.ID, i, part, record.Ref{Platform: c.set.Platform, Object: c.set.Object}, done)
		return err
	}
	full := func() error { return c.full(ctx, &g, func() error { return save(nil) }) }
	if r.Mode == Full || g.Mark != nil {
		err = full()
	} else if err = c.byCounts(ctx); fault.Is(err, fault.Refused) { // as where a counting user may not see all
		c.afresh()
		c.set.Limits = append(c.set.Limits, "everything was read, since the platform refuses to count: "+err.Error())
		err = full()
	}
	if err == nil {
		err = c.finish(ctx, r.ID)
	}
	switch {
	case err == nil:
		c.set.State, c.set.Ended = Done, f.d.Now().UTC()
		g.Mark, g.Heal = nil, nil
		var done *ledger.Reconciled
		if !c.dry {
			// What the platform's counts do not show for a while after it happened is looked for by the next run.
			done = &ledger.Reconciled{Run: r.ID, AsOf: c.asOf.Add(-c.object.Settles), FullCalls: c.last.FullCalls, FullOf: c.last.FullOf}
			if c.set.Roots.Platform.Hash != "" {
				done.FullCalls, done.FullOf = c.set.Calls.List, c.set.There
			}
		}
		f.measure(c)
		return *c.set, save(done)
	case errors.Is(err, errUnfinished), ctx.Err() != nil, fault.Is(err, fault.Conflict), fault.RowOf(err).Queue == fault.Keep:
		return *c.set, errUnfinished
	}
	f.d.Telemetry.Count("ReconcileFailures", c.set.Platform, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: c.set.Platform, Record: c.set.Object, Trace: r.ID, Detail: "reconciling", Err: err})
	if g.Failures++; g.Failures < maxFailures && fault.ClassOf(err) == fault.Internal {
		if err := save(nil); err != nil {
			return *c.set, err
		}
		return *c.set, errUnfinished
	}
	c.set.State, c.set.Reason, c.set.Ended = Failed, err.Error(), f.d.Now().UTC()
	return *c.set, save(nil)
}

// afresh forgets what was found.
func (c *comparison) afresh() {
	s := c.set
	*s = Set{Platform: s.Platform, Object: s.Object, Entity: s.Entity, State: s.State, AsOf: s.AsOf, Calls: s.Calls}
	c.seen, c.book, c.heal, c.drifted, c.healable = map[string]sight{}, newBook(c.object.Sum), nil, nil, 0
}

// begun makes the comparison of a set.
func (f *Flow) begun(ctx context.Context, r Report, g progress) (*comparison, error) {
	set := g.Set
	m, mapped := f.d.Config.ByObject(set.Platform, set.Object)
	at := slices.IndexFunc(f.d.Objects[set.Platform], func(o platform.Object) bool { return o.Name == set.Object })
	if !mapped || at < 0 {
		return nil, &fault.Error{Class: fault.Contract, Op: "reconcile", ID: set.Platform + "/" + set.Object, Detail: "is not mapped any more, or cannot be counted", Remedy: "begin another run"}
	}
	last, _, err := f.d.Ledger.LastReconciled(ctx, set.Platform, set.Object)
	if err != nil {
		return nil, err
	}
	if g.Mark == nil { // from the beginning
		set = Set{Platform: set.Platform, Object: set.Object, Entity: set.Entity, Calls: set.Calls}
	}
	c := &comparison{f: f, src: f.d.Sources[set.Platform], object: f.d.Objects[set.Platform][at], mapping: m, rule: f.d.Config.Reconciling(m.Entity), set: &set, dry: r.DryRun, gone: r.Wish.Gone,
		last: last, seen: map[string]sight{}, heal: g.Heal, healable: len(g.Heal)}
	c.book = newBook(c.object.Sum)
	if set.AsOf.IsZero() {
		set.AsOf = f.d.Now().UTC().Add(-c.rule.Settle)
	}
	set.State, set.Drift = Running, slices.Clip(set.Drift)
	c.asOf, c.edge = set.AsOf, set.AsOf.Truncate(quarter)
	if c.last.AsOf.After(c.edge) {
		c.last.AsOf = c.edge
	}
	return c, nil
}

// chart keeps the counts of the first round for the plot.
func (c *comparison) chart(buckets []bucket) {
	spans := make([]platform.Span, len(buckets))
	for i, b := range buckets {
		spans[i] = b.Span
	}
	here := c.book.count(spans...)
	c.set.Buckets = nil
	for i, b := range buckets {
		if b.there.records > 0 || here[i].records > 0 {
			c.set.Buckets = append(c.set.Buckets, Bucket{From: b.From, To: b.To, There: b.there.records, Here: here[i].records})
		}
	}
}

// join makes neighbours one until no more than most buckets are left.
func join(buckets []Bucket, most int) []Bucket {
	for len(buckets) > most {
		var out []Bucket
		for pair := range slices.Chunk(buckets, 2) {
			b := pair[0]
			if len(pair) > 1 {
				b.To, b.There, b.Here, b.Drift = pair[1].To, b.There+pair[1].There, b.Here+pair[1].Here, b.Drift+pair[1].Drift
			}
			out = append(out, b)
		}
		buckets = out
	}
	return buckets
}

// finish counts what was found, and heals it or asks people.
func (c *comparison) finish(ctx context.Context, run string) error {
	c.conclude()
	if c.dry {
		return nil
	}
	return c.healAll(ctx, run)
}

// conclude fills in what follows from what was found.
func (c *comparison) conclude() {
	s := c.set
	gone := 0
	for _, t := range s.Drift {
		if t.Kind == Deleted || t.Kind == Merged || t.Kind == Extra {
			gone += t.Found
		}
	}
	s.Compared = s.There + gone
	if c.last.FullOf > 0 { // as many to a call as when everything was read last
		s.FullCalls = (s.There*c.last.FullCalls + c.last.FullOf - 1) / c.last.FullOf
	}
	if s.Roots.Platform.Hash != "" {
		s.FullCalls = s.Calls.List
	}
	s.Equal = max(0, s.Compared-s.Found())
	for _, at := range c.drifted {
		i, _ := slices.BinarySearchFunc(s.Buckets, at, func(b Bucket, at time.Time) int {
			if b.To.IsZero() || b.To.After(at) {
				return 1
			}
			return -1
		})
		if i < len(s.Buckets) && !s.Buckets[i].From.After(at) {
			s.Buckets[i].Drift++
		} else { // a young one, or in a bucket that was empty on both sides
			s.Buckets = slices.Insert(s.Buckets, i, Bucket{From: at.Truncate(quarter), To: at.Truncate(quarter).Add(quarter), Drift: 1})
		}
	}
	s.Buckets = join(s.Buckets, MaxBuckets)
	if len(s.Limits) == 0 || s.Roots.Platform.Hash == "" {
		s.Limits = append(s.Limits, c.limits()...)
	}
}

// limits are what the comparison could not have seen.
func (c *comparison) limits() (out []string) {
	if c.set.Roots.Platform.Hash != "" {
		return []string{"two changes with one version of the platform look like one"}
	}
	out = append(out, "a record that was modified twice within one bucket shows only if that bucket is listed; batch lists all changes, and a full run all records")
	if c.object.Sum == "" {
		out = append(out, "two differences in one bucket that cancel each other out do not show in counts")
	}
	return out
}

// healAll hands what was found to the hub, unless it is more than policy allows.
func (c *comparison) healAll(ctx context.Context, run string) error {
	capped := ledger.Exception{Type: exceptionType, Platform: c.set.Platform, Native: c.set.Platform + "/" + c.set.Object, Trace: run}
	open, err := c.f.open(ctx, c.set)
	if err != nil {
		return err
	}
	if most := c.rule.Most(c.set.Here); c.healable > most {
		c.set.Capped = true
		for i := range c.set.Drift {
			c.set.Drift[i].Excepted = c.set.Drift[i].Found
		}
		capped.Detail = fmt.Sprintf("%d of %d record(s) differ, more than the %d that a run may heal by itself; nothing was healed", c.healable, c.set.Here, most)
		capped.Remedy = fmt.Sprintf("look at it with `sorrel reconcile show %s`; raise the cap in reconcile.yaml if it is right, and run again", run)
		return c.except(ctx, capped)
	}
	for some := range slices.Chunk(c.heal, readAtOnce) {
		natives, err := c.natives(ctx, some)
		if err != nil {
			return err
		}
		var msgs []queue.Message
		for _, h := range some {
			n, known := natives[h.ID]
			if h.Ask || !known {
				x := ledger.Exception{Type: exceptionType, Platform: c.set.Platform, Native: c.ref(h.ID).String(), Trace: run, Detail: h.Detail,
					Remedy: "look at it on " + c.set.Platform + "; what is right there is heard of at its next change, or with `sorrel replay plan --reread`"}
				if err := c.except(ctx, x); err != nil {
					return err
				}
				delete(open, idOf(x))
				c.set.tally(h.Kind).Excepted++
				continue
			}
			in := message.Inbound{CorrelationID: c.f.d.NewID(), ReceivedAt: c.f.d.Now().UTC(), Source: message.Reconcile, Native: n}
			m, err := in.Message(fmt.Sprintf("reconcile/%s/%s/%d", run, n.Version.At.UTC().Format(time.RFC3339Nano), n.Version.Seq))
			if err != nil {
				return err
			}
			msgs = append(msgs, m)
		}
		if len(msgs) > 0 {
			if err := c.f.d.Inbound.Send(ctx, msgs...); err != nil {
				return fault.Wrap("", "reconcile.queue", c.set.Platform+"/"+c.set.Object, err)
			}
		}
		for _, h := range some {
			n, known := natives[h.ID]
			if h.Ask || !known {
				continue
			}
			c.set.tally(h.Kind).Healed++
			if h.Kind == Missing || h.Kind == Duplicated || h.Kind == Unlinked { // should it come to belong to no record, it is known from now on
				row, err := c.f.d.Ledger.Enrolled(ctx, n.Ref)
				if err != nil {
					return err
				}
				if was := row[n.Ref]; was.Record == "" {
					if err := c.f.d.Ledger.EnrolStranger(ctx, n.Ref, n.Version, was); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, x := range open { // of earlier runs, and not found again
		if err := c.f.d.Ledger.Unpark(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

func idOf(x ledger.Exception) string { x.Identify(); return x.ID }

// open are the exceptions of earlier runs over a set that still stand.
func (f *Flow) open(ctx context.Context, s *Set) (map[string]ledger.Exception, error) {
	all, err := f.d.Ledger.Exceptions(ctx, false)
	out := map[string]ledger.Exception{}
	for _, x := range all {
		if of := s.Platform + "/" + s.Object; x.Type == exceptionType && (x.Native == of || strings.HasPrefix(x.Native, of+"/")) {
			out[x.ID] = x
		}
	}
	return out, err
}

func (c *comparison) except(ctx context.Context, x ledger.Exception) error {
	if len(c.set.Exceptions) < MaxExceptions {
		c.set.Exceptions = append(c.set.Exceptions, idOf(x))
	}
	c.f.d.Telemetry.Count("Parked", c.set.Platform, 1)
	return c.f.d.Ledger.Park(ctx, x)
}

// natives are the natives to be observed: as they were listed, or else as they are.
func (c *comparison) natives(ctx context.Context, some []finding) (map[string]record.Native, error) {
	out := make(map[string]record.Native, len(some))
	var ids []string
	for _, h := range some {
		switch {
		case h.Ask:
		case h.native.ID != "":
			out[h.ID] = h.native
		default:
			ids = append(ids, h.ID)
		}
	}
	if len(ids) > 0 {
		err := c.call(ctx, "among", &c.set.Calls.Read, func(ctx context.Context) error {
			natives, err := c.src.Among(ctx, c.set.Object, ids)
			for _, n := range natives {
				out[n.ID] = n
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for id, n := range out {
		n.Ours = false // what is there, whoever saved it last
		out[id] = n
	}
	return out, nil
}

// measure tells the metrics of a set.
func (f *Flow) measure(c *comparison) {
	p := c.set.Platform
	f.d.Telemetry.Count("Reconciled", p, float64(c.set.Compared))
	f.d.Telemetry.Count("DriftFound", p, float64(c.set.Found()))
	f.d.Telemetry.Count("DriftHealed", p, float64(c.set.Healed()))
	f.d.Telemetry.Count("DriftExcepted", p, float64(c.set.Excepted()))
}
