package batch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
)

// LoadOptions of one load.
type LoadOptions struct {
	By       string       // who asked for it
	Unlinked bool         // although its records are matched, and nobody has linked yet what exists elsewhere
	Again    bool         // from the beginning, though it was loaded or listed before
	Progress func(Loaded) // told after each page; nil = nobody listens
}

// Loaded is how a load stands.
type Loaded struct {
	Platform string    `json:"platform"`
	Entity   string    `json:"entity"`
	Object   string    `json:"object"`
	Records  int       `json:"records"` // durably queued, by all runs of this load
	Queued   int       `json:"queued"`  // by this run
	Resumed  int       `json:"resumed"` // by earlier ones
	Total    int       `json:"total,omitempty"`
	Pages    int       `json:"pages"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Complete bool      `json:"complete"`
}

// Load lists everything that a platform has of an entity, from where an earlier run of the load stopped, and queues it as the
// schedule does. Whoever is told of it afterwards is told in class reconcile: live changes go first. It returns what it did with
// Complete false where the vendor is not ready yet or has no room: call it again a little later. When it is complete the
// schedule goes on from there.
func (f *Flow) Load(ctx context.Context, name, entity string, o LoadOptions) (Loaded, error) {
	out := Loaded{Platform: name, Entity: entity}
	src, err := f.source(name)
	if err != nil {
		return out, err
	}
	if out.Object, err = f.objectOf(name, entity); err != nil {
		return out, err
	}
	if err := f.settled(ctx, entity, o); err != nil {
		return out, err
	}
	at, err := f.d.Ledger.Listing(ctx, name, out.Object)
	if err != nil {
		return out, err
	}
	r := f.run(at)
	loading := at.Loading
	switch {
	case loading != nil && loading.Ended.IsZero() && !o.Again: // it goes on
	case !o.Again && (loading != nil || !at.Complete.IsZero() || at.Cursor != ""):
		if loading != nil {
			out.Records, out.Began, out.Ended, out.Complete = loading.Records, loading.Began, loading.Ended, true
			return out, nil
		}
		return out, &fault.Error{Class: fault.Refused, Op: "batch.load", ID: r.id(), Detail: "the schedule has begun to list it, and goes on by itself",
			Remedy: "wait, or load it from the beginning with --again: what is known already changes nothing"}
	default:
		if _, held := at.Held(r.holder, f.d.Now()); !held { // else list says so
			r.at.Cursor, r.at.Account, r.at.Complete = "", "", time.Time{}
			if b, is := src.(Bulk); is {
				r.at.Cursor = b.Bulk(out.Object)
			}
			r.at.Loading = &ledger.Loading{By: o.By, Began: f.d.Now().UTC()}
		}
	}
	before := 0
	if r.at.Loading != nil {
		before = r.at.Loading.Records
	}
	if c, is := src.(Counter); is && o.Progress != nil { // for those who watch; a load does without
		out.Total, _ = r.counted(ctx, c, nil)
	}
	stand := func() Loaded {
		out.Queued, out.Resumed, out.Pages, out.Complete = r.records, before, r.pages, r.complete
		out.Records = before + r.records
		if l := r.at.Loading; l != nil {
			out.Records, out.Began, out.Ended = l.Records, l.Began, l.Ended
		}
		return out
	}
	if o.Progress != nil {
		r.told = func() { o.Progress(stand()) }
	}
	err = r.list(ctx)
	if c, is := src.(Counter); is && err == nil && r.complete {
		err = r.short(ctx, c)
	}
	return stand(), fault.Wrap("", "batch.load", r.id(), err)
}

// skew is how far the platform's clock and ours may be apart for short.
const skew = 10 * time.Minute

// short tells of a listing that left something out: what was last changed before the load began has to be among what it listed. What is
// changed or deleted under the reader only makes the platform's number smaller. A platform that cannot count is believed.
func (r *run) short(ctx context.Context, c Counter) error {
	if !deadline.Fits(ctx, deadline.Call) {
		return nil
	}
	began := r.at.Loading.Began
	there, err := r.counted(ctx, c, []platform.Span{{To: began.Add(-skew)}})
	if err != nil || there <= r.at.Loading.Records {
		return nil
	}
	return &fault.Error{Class: fault.Contract, Op: "batch.load", ID: r.id(), Code: ShortListing,
		Detail: fmt.Sprintf("the platform listed %d, but counts %d that were last changed before the load began: it has left some out", r.at.Loading.Records, there),
		Remedy: "what was listed is queued; load it with --again, or reconcile in full mode, which finds what is missing"}
}

func (r *run) counted(ctx context.Context, c Counter, within []platform.Span) (int, error) {
	counts, err := c.Census(budget.For(ctx, budget.Purpose{Class: budget.Reconcile, Entity: r.entity()}), r.at.Object, within, 0)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, n := range counts {
		sum += n.Records
	}
	return sum, nil
}

// settled refuses to load what is matched before it is known what exists on the other platforms: what is there already would be
// made there a second time.
func (f *Flow) settled(ctx context.Context, entity string, o LoadOptions) error {
	if o.Unlinked || f.d.Matched == nil || !f.d.Matched(entity) {
		return nil
	}
	log, err := f.d.Ledger.Log(ctx, ledger.General)
	if err != nil {
		return err
	}
	for _, entry := range log {
		for _, e := range entry.Events {
			if e.Action == "link-applied" && strings.HasPrefix(e.Detail, entity+": ") && !strings.Contains(e.Detail, "; stopped: ") {
				return nil
			}
		}
	}
	return &fault.Error{Class: fault.Refused, Op: "batch.load", ID: entity, Detail: "it has match rules, and what exists on the platforms was not linked yet: it would be made a second time",
		Remedy: "run `sorrel link --entity " + entity + " --apply`, which lists everything itself; or give --unlinked, if it exists on no other platform"}
}

// Restart forgets where the listing of an entity stopped: whoever lists next begins at the beginning. What is known already
// changes nothing.
func (f *Flow) Restart(ctx context.Context, platform, entity string) error {
	object, err := f.objectOf(platform, entity)
	if err != nil {
		return err
	}
	at, err := f.d.Ledger.Listing(ctx, platform, object)
	if err != nil {
		return err
	}
	if until, held := at.Held(ledger.Holder{}, f.d.Now()); held {
		return &fault.Error{Class: fault.Conflict, Op: "batch.restart", ID: platform + "/" + object, Detail: "a run has it in hand", RetryAt: until, Remedy: "wait for its end"}
	}
	at.Cursor, at.Account, at.Complete, at.Holder, at.Loading = "", "", time.Time{}, nil, nil
	_, err = f.d.Ledger.MoveListing(ctx, at)
	return err
}

// Stands tells where the listings of a platform stand, in the order of their objects.
func (f *Flow) Stands(ctx context.Context, platform string) ([]ledger.Listing, error) {
	var out []ledger.Listing
	for at, err := range f.d.Ledger.Listings(ctx, platform) {
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

func (f *Flow) objectOf(platform, entity string) (string, error) {
	var known []string
	for _, object := range f.d.Objects[platform] {
		name := f.d.EntityOf(platform, object)
		if name == entity {
			return object, nil
		}
		known = append(known, name)
	}
	slices.Sort(known)
	return "", &fault.Error{Class: fault.NotFound, Op: "batch", ID: platform, Detail: fmt.Sprintf("it lists no entity %q", entity), Remedy: "name one of " + strings.Join(known, ", ")}
}
