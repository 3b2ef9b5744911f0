package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/certificate"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Source is what of a platform's connector the comparison needs; see package platform.
type Source interface {
	Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error)
	Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error)
	Deleted(ctx context.Context, object string, since time.Time, cursor string) (platform.Page, error)
	Among(ctx context.Context, object string, ids []string) ([]record.Native, error)
}

const (
	lookupAtOnce = 100 // lines of the roll, or states, read at once
	readAtOnce   = 500 // natives read by id at once
	// cheap is how many records are listed rather than counted more finely, on a platform that counts one bucket per call.
	cheap     = 100
	maxSteps  = 400
	callTime  = deadline.Call + 5*time.Second // must be left of the function's time to begin another call
	overlap   = time.Hour                     // before the last comparison, deletions are listed again
	oldDeaths = 30 * 24 * time.Hour           // deletions are listed so far back at the first comparison
	// fewSince is how many records the hub may have heard of since the last comparison for all of that time to be listed.
	fewSince   = 500
	recentDays = 8  // days since the last comparison that are counted by hours in any case
	mostFirst  = 16 // buckets of the first round on a platform of ranges, each twice as long as the one after it
)

// errUnfinished says that the function's time is over, or the platform has no room: the next tick goes on.
var errUnfinished = errors.New("to be continued")

// comparison compares one object of one platform with the roll. What is found is judged at once (see judge), and from then on
// the book says what the platform says: so a record that was found in a young bucket is missed in its old one no more, and what
// is left of the difference there is something else. That goes on until nothing differs.
type comparison struct {
	f        *Flow
	src      Source
	object   platform.Object
	mapping  *mapping.Mapping
	rule     policy.Reconciling
	set      *Set
	dry      bool
	gone     bool // see Wish.Gone
	asOf     time.Time
	edge     time.Time // a full quarter at or before asOf: everything modified since is listed, what was before is counted
	last     ledger.Reconciled
	seen     map[string]sight
	book     *book
	heal     []finding
	drifted  []time.Time // when what differs was modified
	healable int
}

// sight is what the platform was found to hold, where the roll says otherwise.
type sight struct {
	version record.Version
	gone    bool
}

// finding is a native record that differs, and that policy wants healed.
type finding struct {
	ID     string        `json:"id"`
	Kind   Kind          `json:"kind"`
	Ask    bool          `json:"ask,omitempty"` // people are asked
	Detail string        `json:"detail,omitempty"`
	native record.Native // as it was listed; empty when it has to be read again
}

func (c *comparison) ref(id string) record.Ref {
	return record.Ref{Platform: c.set.Platform, Object: c.set.Object, ID: id}
}

// call makes one call of the source, and counts what that takes of the platform.
func (c *comparison) call(ctx context.Context, what string, counted *int, do func(context.Context) error) error {
	if ctx.Err() == nil && !deadline.Fits(ctx, callTime) {
		return errUnfinished
	}
	made := &atomic.Int64{}
	err := do(budget.For(ctx, budget.Purpose{Class: budget.Reconcile, Entity: c.set.Entity, Made: made}))
	n := int(made.Load())
	if n == 0 && err == nil {
		n = 1 // a source that does not count
	}
	*counted += n
	c.f.d.Telemetry.Count("ReconcileCalls", c.set.Platform, float64(n))
	if budget.Refused(err) {
		c.f.d.Telemetry.Count("NotCalled", c.set.Platform, 1)
		return errUnfinished
	}
	return fault.Wrap("", "reconcile."+what, c.set.Platform+"/"+c.set.Object, err)
}

// pages goes through a listing.
func (c *comparison) pages(ctx context.Context, what string, counted *int, list func(context.Context, string) (platform.Page, error), take func([]record.Native) error) error {
	cursor := ""
	for {
		var p platform.Page
		if err := c.call(ctx, what, counted, func(ctx context.Context) (err error) { p, err = list(ctx, cursor); return err }); err != nil {
			return err
		}
		if err := take(p.Natives); err != nil {
			return err
		}
		if !p.More {
			return nil
		}
		if p.Cursor == cursor {
			return &fault.Error{Class: fault.Contract, Op: "reconcile." + what, ID: c.set.Platform + "/" + c.set.Object, Detail: "the listing does not move on", Remedy: "run it again when less is changing"}
		}
		cursor = p.Cursor
	}
}

// see notes what the platform holds where the roll says otherwise. was is the line of the roll that the book counts.
func (c *comparison) see(id string, was record.Version, now sight) {
	if old, before := c.seen[id]; before {
		was = old.version
		if old.gone {
			was = record.Version{}
		}
	}
	c.book.add(id, was, -1)
	if !now.gone {
		c.book.add(id, now.version, 1)
	}
	c.seen[id] = now
}

// stream makes the book from the roll and from what was seen, and shows each line that exists as far as is known.
func (c *comparison) stream(ctx context.Context, line func(ledger.Rolled)) error {
	b := newBook(c.object.Sum)
	for r, err := range c.f.d.Ledger.Roll(ctx, c.set.Platform, c.set.Object, "") {
		if err != nil {
			return err
		}
		if _, seen := c.seen[r.ID]; seen {
			continue
		}
		b.add(r.ID, r.Version, 1)
		line(r)
	}
	for id, s := range c.seen {
		if !s.gone {
			b.add(id, s.version, 1)
			line(ledger.Rolled{ID: id, Version: s.version})
		}
	}
	c.book = b
	return nil
}

// same reports whether the platform tells the version that is known. Sequence numbers count where both tell one, and where
// the platform adds them up; events of other platforms tell some that listings do not.
func (c *comparison) same(there record.Version, here record.Version) bool {
	strict := c.object.Sum == platform.SumSeqs
	return there.At.Equal(here.At) && (there.Seq == here.Seq || !strict && (there.Seq == 0 || here.Seq == 0))
}

// young reports whether a version is too young to have been heard of by all means.
func (c *comparison) young(v record.Version) bool { return v.At.After(c.asOf) }

// listed holds natives that the platform listed against the roll.
func (c *comparison) listed(ctx context.Context, natives []record.Native) error {
	for some := range slices.Chunk(natives, lookupAtOnce) {
		refs := make([]record.Ref, len(some))
		for i, n := range some {
			refs[i] = n.Ref
		}
		rows, err := c.f.d.Ledger.Enrolled(ctx, refs...)
		if err != nil {
			return err
		}
		var odd []record.Native
		for _, n := range some {
			row, known := rows[n.Ref]
			before, seen := c.seen[n.ID]
			switch {
			case n.Hint() || c.young(n.Version) && n.Into == "": // where merges have no time, it is that of the answer
				if !known && n.Gone {
					continue
				}
				c.see(n.ID, row.Version, sight{n.Version, n.Gone})
			case seen && before.gone == n.Gone && c.same(n.Version, before.version):
			case n.Gone && !known, !n.Gone && known && c.same(n.Version, row.Version):
			case n.Gone && !n.Version.IsZero() && n.Version.Compare(row.Version) < 0: // of a life before this one
			default:
				odd = append(odd, n)
			}
		}
		if err := c.judge(ctx, odd, rows); err != nil {
			return err
		}
	}
	return nil
}

// ask asks what became of native records, all of which the roll knows but those that are guessed at.
func (c *comparison) ask(ctx context.Context, ids []string) error {
	for some := range slices.Chunk(ids, readAtOnce) {
		var natives []record.Native
		err := c.call(ctx, "among", &c.set.Calls.Read, func(ctx context.Context) (err error) {
			natives, err = c.src.Among(ctx, c.set.Object, some)
			return err
		})
		if err != nil {
			return err
		}
		answered := make(map[string]bool, len(natives))
		for _, n := range natives {
			answered[n.ID] = true
		}
		if err := c.listed(ctx, natives); err != nil {
			return err
		}
		var lost []record.Native
		for _, id := range some {
			if !answered[id] {
				lost = append(lost, record.Native{Ref: c.ref(id), Gone: true})
			}
		}
		if err := c.listed(ctx, lost); err != nil {
			return err
		}
	}
	return nil
}

// list lists what was modified within spans and holds it against the roll, and asks what became of those of members that are
// not listed.
func (c *comparison) list(ctx context.Context, spans []platform.Span, members map[string]bool) error {
	err := c.pages(ctx, "within", &c.set.Calls.List, func(ctx context.Context, cursor string) (platform.Page, error) {
		return c.src.Within(ctx, c.set.Object, spans, cursor)
	}, func(natives []record.Native) error {
		for _, n := range natives {
			delete(members, n.ID)
		}
		return c.listed(ctx, natives)
	})
	if err != nil {
		return err
	}
	left := make([]string, 0, len(members))
	for id := range members {
		left = append(left, id)
	}
	slices.SortFunc(left, ledger.CompareIDs)
	return c.ask(ctx, left)
}

// bucket is a span in which both sides counted.
type bucket struct {
	platform.Span
	there   cell
	fine    bool // it is listed rather than counted more finely
	guessed bool
	listed  bool
}

// byCounts compares by counts.
func (c *comparison) byCounts(ctx context.Context) error {
	// What was modified since the last comparison is listed rather than counted, if the hub has heard of few such records: what
	// it has not heard of has to be listed anyway.
	since := c.last.AsOf.Truncate(quarter)
	recent, lately := map[string]bool{}, map[string]bool{}
	tree := &certificate.Tree{}
	err := c.stream(ctx, func(r ledger.Rolled) {
		if c.young(r.Version) {
			return
		}
		c.set.Here++
		if r.Record == "" {
			c.set.Strangers++
		}
		tree.Add(r.ID, record.Version{At: r.Version.At.UTC()})
		if !r.Version.At.Before(c.edge) {
			recent[r.ID] = true
		}
		if len(lately) <= fewSince && !r.Version.At.Before(since) {
			lately[r.ID] = true
		}
	})
	if err != nil {
		return err
	}
	if !c.last.AsOf.IsZero() && len(lately) <= fewSince {
		c.edge, recent = since, lately
	}
	root := tree.Root()
	c.set.Roots.Hub = Root{Records: root.Records, Hash: root.Hash}
	if err := c.list(ctx, []platform.Span{{From: c.edge}}, recent); err != nil {
		return err
	}
	if c.object.Deleted {
		since := c.asOf.Add(-oldDeaths)
		if !c.last.AsOf.IsZero() {
			since = c.last.AsOf.Add(-overlap)
		}
		err := c.pages(ctx, "deleted", &c.set.Calls.Deleted, func(ctx context.Context, cursor string) (platform.Page, error) {
			return c.src.Deleted(ctx, c.set.Object, since, cursor)
		}, func(natives []record.Native) error { return c.listed(ctx, natives) })
		if err != nil {
			return err
		}
	}
	buckets, err := c.first(ctx)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		c.set.There += b.there.records
	}
	c.set.There += c.book.count(platform.Span{From: c.edge})[0].records - c.youngOnes()
	c.chart(buckets)
	if buckets, err = c.settle(ctx, buckets); err != nil {
		return err
	}
	return c.leftOver(ctx, buckets)
}

// youngOnes is how many records were seen to be too young to count.
func (c *comparison) youngOnes() (n int) {
	for _, s := range c.seen {
		if !s.gone && c.young(s.version) {
			n++
		}
	}
	return n
}

// first counts everything, coarsely.
func (c *comparison) first(ctx context.Context) ([]bucket, error) {
	spans, width := []platform.Span{{To: c.edge}}, platform.Day
	if c.object.Census == platform.Ranges {
		// Records that were modified behind our back have left an old bucket for a young one. So the younger, the finer, and what
		// was modified before the last comparison is apart from what was modified since.
		width, spans = 0, nil
		to, last := c.edge, c.last.AsOf.Truncate(quarter)
		for step := time.Hour; to.After(last) && len(spans) < mostFirst; step *= 2 {
			from := to.Add(-step)
			if from.Before(last) {
				from = last
			}
			spans = append(spans, platform.Span{From: from, To: to})
			to = from
		}
		spans = append(spans, platform.Span{To: to})
		slices.Reverse(spans)
	}
	return c.census(ctx, spans, width)
}

// census has the platform count in spans, which have an end. What it leaves out of its answer it has nothing in: that is asked
// about in one piece, and no more finely.
func (c *comparison) census(ctx context.Context, spans []platform.Span, width time.Duration) ([]bucket, error) {
	ask := [][]platform.Span{spans}
	if width == 0 { // a call for each in any case, and neighbours asked for together count as one
		ask = slices.Collect(slices.Chunk(spans, 1))
	}
	var counts []platform.Count
	for _, some := range ask {
		err := c.call(ctx, "census", &c.set.Calls.Census, func(ctx context.Context) error {
			n, err := c.src.Census(ctx, c.set.Object, some, width)
			counts = append(counts, n...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var out []bucket
	for _, s := range spans {
		at := s.From
		for _, n := range counts {
			if !within(n.Span, s) {
				continue
			}
			if n.From.After(at) {
				out = append(out, bucket{Span: platform.Span{From: at, To: n.From}, fine: true})
			}
			there := cell{records: n.Records}
			if c.object.Sum != "" {
				there.sum = n.Sum
			}
			out = append(out, bucket{Span: n.Span, there: there, fine: width == platform.Hour || width == 0 && brief(n.Span)})
			at = n.To
		}
		if at.Before(s.To) {
			out = append(out, bucket{Span: platform.Span{From: at, To: s.To}, fine: true})
		}
	}
	return out, nil
}

func brief(s platform.Span) bool {
	return !s.From.IsZero() && !s.To.IsZero() && s.To.Sub(s.From) < 2*quarter
}

func within(s, of platform.Span) bool {
	return (of.From.IsZero() || !s.From.Before(of.From)) && (of.To.IsZero() || !s.To.IsZero() && !s.To.After(of.To))
}

// settle counts and lists until nothing differs, or everything that does was listed. Young buckets come first, and those that
// hold more there than here: what is found in them is missed elsewhere.
func (c *comparison) settle(ctx context.Context, buckets []bucket) ([]bucket, error) {
	probe := c.object.Census == platform.Grouped && !c.last.AsOf.IsZero()
	for c.set.Rounds = 1; c.set.Rounds <= maxSteps; c.set.Rounds++ {
		spans := make([]platform.Span, len(buckets))
		for i, b := range buckets {
			spans[i] = b.Span
		}
		here := c.book.count(spans...)
		var more, all []int // that differ: those with more there, and all
		for i, b := range buckets {
			if b.listed || b.there == here[i] {
				continue
			}
			all = append(all, i)
			if b.there.records >= here[i].records {
				more = append(more, i)
			}
		}
		if ids := c.guesses(buckets, here, all); len(ids) > 0 {
			if err := c.ask(ctx, ids); err != nil {
				return nil, err
			}
			continue
		}
		var young []int // days since the last time: what moved within one of them does not show in its count
		if probe {
			probe = false
			for i, b := range buckets {
				if !b.fine && b.To.After(c.last.AsOf) && b.From.After(c.asOf.AddDate(0, 0, -recentDays)) {
					young = append(young, i)
				}
			}
		}
		pick := more
		if len(pick) == 0 {
			pick = all
		}
		if len(pick) == 0 && len(young) == 0 {
			return buckets, nil
		}
		var err error
		if c.object.Census == platform.Ranges {
			buckets, err = c.narrow(ctx, buckets, here, pick[len(pick)-1])
		} else {
			buckets, err = c.refine(ctx, buckets, pick, young)
		}
		if err != nil {
			return nil, err
		}
	}
	return buckets, nil
}

// guesses are the ids that the sums tell: where counts differ by one, the sums of ids differ by that one's.
func (c *comparison) guesses(buckets []bucket, here []cell, differ []int) (ids []string) {
	if c.object.Sum != platform.SumIDs {
		return nil
	}
	for _, i := range differ {
		b, h := &buckets[i], here[i]
		one := b.there.records - h.records
		if b.guessed || one != 1 && one != -1 {
			continue
		}
		b.guessed = true
		if id := int64(one) * (b.there.sum - h.sum); id > 0 {
			ids = append(ids, strconv.FormatInt(id, 10)) // one that moved is told by the bucket that it left, and by the one where it is
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// refine counts coarse buckets by hours, or lists fine ones, all at once.
func (c *comparison) refine(ctx context.Context, buckets []bucket, pick, young []int) ([]bucket, error) {
	coarse := slices.DeleteFunc(slices.Clone(pick), func(i int) bool { return buckets[i].fine })
	if coarse = append(coarse, young...); len(coarse) > 0 {
		slices.Sort(coarse)
		coarse = slices.Compact(coarse)
		spans := make([]platform.Span, len(coarse))
		for i, at := range coarse {
			spans[i] = buckets[at].Span
		}
		finer, err := c.census(ctx, spans, platform.Hour)
		if err != nil {
			return nil, err
		}
		for _, at := range slices.Backward(coarse) {
			buckets = slices.Delete(buckets, at, at+1)
		}
		buckets = append(buckets, finer...)
		slices.SortFunc(buckets, func(a, b bucket) int { return a.From.Compare(b.From) })
		return buckets, nil
	}
	return buckets, c.listAll(ctx, buckets, pick)
}

// narrow lists one bucket, or counts its younger half.
func (c *comparison) narrow(ctx context.Context, buckets []bucket, here []cell, at int) ([]bucket, error) {
	b := buckets[at]
	if b.fine || max(b.there.records, here[at].records) <= cheap {
		return buckets, c.listAll(ctx, buckets, []int{at})
	}
	middle := c.middle(b.Span)
	if middle.IsZero() {
		buckets[at].fine = true
		return buckets, nil
	}
	younger, err := c.census(ctx, []platform.Span{{From: middle, To: b.To}}, 0)
	if err != nil {
		return nil, err
	}
	older := bucket{Span: platform.Span{From: b.From, To: middle}, there: b.there}
	for _, y := range younger {
		older.there.records -= y.there.records
		older.there.sum -= y.there.sum
	}
	older.fine = brief(older.Span)
	return slices.Replace(buckets, at, at+1, append([]bucket{older}, younger...)...), nil
}

// middle divides a span so that the hub knows about as many records before as after, at a full quarter; zero where it cannot.
func (c *comparison) middle(s platform.Span) time.Time {
	all := c.book.count(s)[0].records
	n := 0
	for _, k := range c.book.order {
		at := time.Unix(k*int64(quarter/time.Second), 0).UTC()
		if !s.Holds(at) {
			continue
		}
		if n += c.book.cells[k].records; 2*n >= all {
			if next := at.Add(quarter); n < all && s.Holds(next) {
				return next
			}
			if at.After(s.From) {
				return at
			}
			break
		}
	}
	if !s.From.IsZero() && !s.To.IsZero() {
		if at := s.From.Add(s.To.Sub(s.From) / 2).Truncate(quarter); at.After(s.From) && at.Before(s.To) {
			return at
		}
	}
	return time.Time{}
}

// listAll lists buckets.
func (c *comparison) listAll(ctx context.Context, buckets []bucket, pick []int) error {
	spans := make([]platform.Span, len(pick))
	for i, at := range pick {
		spans[i] = buckets[at].Span
		buckets[at].listed = true
	}
	spans = platform.Merged(spans)
	members := map[string]bool{}
	err := c.stream(ctx, func(r ledger.Rolled) {
		if _, seen := c.seen[r.ID]; !seen && !r.Version.At.IsZero() && platform.Held(spans, r.Version.At) {
			members[r.ID] = true
		}
	})
	if err != nil {
		return err
	}
	return c.list(ctx, spans, members)
}

// leftOver counts once more where counts differ although everything was listed: the platform has changed meanwhile, or its
// counts do not agree with its listings.
func (c *comparison) leftOver(ctx context.Context, buckets []bucket) error {
	differ := func(buckets []bucket) (spans []platform.Span, by int) {
		for _, b := range buckets {
			if here := c.book.count(b.Span)[0]; here != b.there {
				spans = append(spans, b.Span)
				by += max(1, abs(here.records-b.there.records))
			}
		}
		return platform.Merged(spans), by
	}
	spans, by := differ(buckets)
	if by == 0 {
		return nil
	}
	width := platform.Hour
	if c.object.Census == platform.Ranges {
		width = 0
	}
	again, err := c.census(ctx, spans, width)
	if err != nil {
		return err
	}
	if err := c.stream(ctx, func(ledger.Rolled) {}); err != nil {
		return err
	}
	_, c.set.Unexplained = differ(again)
	if c.set.Unexplained > 0 {
		c.set.Limits = append(c.set.Limits, fmt.Sprintf("the platform counts %d record(s) otherwise than it lists them", c.set.Unexplained))
		c.f.d.Telemetry.Event(ctx, telemetry.Event{Step: "reconcile-unexplained", Platform: c.set.Platform, Record: c.set.Object, Detail: strconv.Itoa(c.set.Unexplained)})
	}
	return nil
}

func abs(n int) int { return max(n, -n) }
