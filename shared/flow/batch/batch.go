// Package batch reads what changed on a platform since last time and queues it like webhooks, so that lost
// webhooks, deletions without events and outages of our own heal by themselves. It also loads what a platform has
// for the first time: the same listing from its beginning, by the vendor's way for large sets where that differs.
//
// The cursor moves only after what was listed before it is durably queued, and only if nobody else has moved it. So a run
// that dies repeats its last page at most, which the hub takes for what it is, and of two runs at once one stops. A
// run that has little time left, or no room in the platform's budget, stops where it is, and the next one goes on, whether it is one
// of the schedule or a load.
package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/telemetry"
)

// Source lists what changed. The cursor is opaque; listing again from it misses nothing.
type Source interface {
	Changes(ctx context.Context, object, cursor string) (platform.Page, error)
}

// Bulk is a Source with a way of its own for large sets: Changes from this cursor on lists all there is, and then what has changed
// since that began. Other sources list all from an empty cursor.
type Bulk interface {
	Bulk(object string) (cursor string)
}

// Counter is a Source that can say how many there are, for those who watch a load.
type Counter interface {
	Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error)
}

// Deps are what batch needs. Accounts, Matched, Life and Place may be missing.
type Deps struct {
	Ledger    *ledger.Ledger
	Sources   map[string]Source
	Accounts  map[string]string                    // by platform, which account it is; without one nobody checks
	Objects   map[string][]string                  // per platform, the native objects to list
	EntityOf  func(platform, object string) string // whose share of the platform's budget a listing uses
	Matched   func(entity string) bool             // whether its records are matched over platforms; nil: none are
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string // never the same twice
	Life      string        // names this process, where it can be known that another one in its place is dead …
	Place     string        // … the place
	Telemetry *telemetry.Recorder
}

// Flow is the batch function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

const (
	// pageTime is how much of the function's time must be left to begin another page: its calls, and its records to be queued.
	pageTime = deadline.Call + 5*time.Second
	// hold is how long a run has a listing in hand; each page renews it. It is well above the time of one page, and short enough that
	// what follows a crash soon goes on.
	hold = 2 * time.Minute
	// maxAhead bounds how far a platform's clock may be ahead of ours. A cursor made of a wilder time would leave out what
	// changes from now on.
	maxAhead = 24 * time.Hour
	// late is when a listing that was down may have missed deletions: Salesforce empties its recycle bin after 15 days, and
	// Zendesk tells of deleted custom object records for 30.
	late = 14 * 24 * time.Hour
)

// OtherAccount is the Code of the answer that a cursor is another account's.
const OtherAccount = "other-account"

// ShortListing is the Code of the answer that a platform counts more than it listed.
const ShortListing = "short-listing"

// Listed is what one run did.
type Listed struct {
	Platform string
	Records  int
	Pages    int
	Busy     int     // objects that another run has in hand
	Complete bool    // everything that changed so far was listed; otherwise the next run goes on
	Load     *Loaded `json:",omitempty"` // of a load, how it stands
}

// Apply lists one platform, what was not looked at for longest first. What is wrong with one object keeps no other from being
// listed.
func (f *Flow) Apply(ctx context.Context, name string) (Listed, error) {
	out := Listed{Platform: name, Complete: true}
	if _, err := f.source(name); err != nil {
		return out, err
	}
	var all []ledger.Listing
	for _, object := range f.d.Objects[name] {
		at, err := f.d.Ledger.Listing(ctx, name, object)
		if err != nil {
			return out, err
		}
		all = append(all, at)
	}
	slices.SortStableFunc(all, func(a, b ledger.Listing) int { return a.Complete.Compare(b.Complete) })
	var first error
	for _, at := range all {
		r := f.run(at)
		err := r.list(ctx)
		out.Records, out.Pages = out.Records+r.records, out.Pages+r.pages
		switch {
		case fault.Is(err, fault.Conflict): // another run is at it
			out.Busy++
			f.d.Telemetry.Count("BatchBusy", name, 1)
		case err != nil:
			f.d.Telemetry.Count("BatchFailures", name, 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: name, Record: at.Object, Detail: "listing", Err: err})
			first = cmp.Or(first, err)
		}
		out.Complete = out.Complete && r.complete
		if fault.RowOf(err).Queue == fault.Keep && err != nil && !fault.Is(err, fault.Conflict) { // it is the platform, or we: so it would be with the others
			break
		}
	}
	f.d.Telemetry.Count("BatchRecords", name, float64(out.Records))
	return out, first
}

func (f *Flow) source(name string) (Source, error) {
	src, ok := f.d.Sources[name]
	if !ok {
		return nil, &fault.Error{Class: fault.NotFound, Op: "batch", ID: name, Detail: "platform is not connected", Remedy: "name netsuite, salesforce, zendesk or servicenow in the schedule's input"}
	}
	return src, nil
}

// run is one run over one object.
type run struct {
	*Flow
	at       ledger.Listing
	holder   ledger.Holder
	records  int // queued by this run
	pages    int
	complete bool
	told     func()          // after each page
	seen     map[string]bool // cursors of this run
}

func (f *Flow) run(at ledger.Listing) *run {
	return &run{Flow: f, at: at, holder: ledger.Holder{Run: f.d.NewID(), Life: f.d.Life, Place: f.d.Place}, told: func() {}, seen: map[string]bool{}}
}

func (r *run) entity() string { return r.d.EntityOf(r.at.Platform, r.at.Object) }

func (r *run) id() string { return r.at.Platform + "/" + r.at.Object }

// take takes the listing in hand. fault.Conflict says that another run has it.
func (r *run) take(ctx context.Context) error {
	now := r.d.Now()
	if until, held := r.at.Held(r.holder, now); held {
		return &fault.Error{Class: fault.Conflict, Op: "batch", ID: r.id(), Detail: "another run has it in hand", RetryAt: until,
			Remedy: "wait: if that run has died, its hold ends by itself"}
	}
	account := r.d.Accounts[r.at.Platform]
	if was := r.at.Account; was != "" && account != "" && was != account {
		return &fault.Error{Class: fault.Contract, Op: "batch", ID: r.id(), Code: OtherAccount, Detail: "the listing stands where it stopped in " + was + ", but connected is " + account,
			Remedy: fmt.Sprintf("connect %s again; or, if the records moved to the other account with their ids, run `sorrel batch restart %s %s`", was, r.at.Platform, r.entity())}
	}
	if !r.at.Complete.IsZero() && now.Sub(r.at.Complete) > late {
		r.d.Telemetry.Event(ctx, telemetry.Event{Step: "late", Platform: r.at.Platform, Record: r.at.Object,
			Detail: "not listed since " + r.at.Complete.UTC().Format(time.RFC3339) + ": what was deleted since may be told no more; reconcile afterwards"})
	}
	r.at.Account = cmp.Or(account, r.at.Account)
	return r.move(ctx, true)
}

// move stores where the listing stands, and keeps or frees it.
func (r *run) move(ctx context.Context, keep bool) error {
	next := r.at
	next.Holder = nil
	if keep {
		holder := r.holder
		holder.Until = r.d.Now().Add(hold).UTC()
		next.Holder = &holder
	}
	moved, err := r.d.Ledger.MoveListing(ctx, next)
	if err == nil {
		r.at = moved
	}
	return err
}

// list takes the object in hand, lists as much as there is time for, and frees it.
func (r *run) list(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	err := r.pagesOf(ctx)
	if fault.Is(err, fault.Conflict) {
		return err // it is another run's
	}
	if r.complete {
		now := r.d.Now().UTC()
		r.at.Complete = now
		if l := r.at.Loading; l != nil && l.Ended.IsZero() {
			ended := *l
			ended.Ended = now
			r.at.Loading = &ended
		}
	}
	// Also of a run whose time is over: what comes next need not wait for the hold to end.
	free, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline.Commit)
	defer cancel()
	if freed := r.move(free, false); err == nil {
		return freed
	}
	return err
}

func (r *run) pagesOf(ctx context.Context) error {
	src, err := r.source(r.at.Platform)
	if err != nil {
		return err
	}
	purpose := budget.Purpose{Class: budget.Reconcile, Entity: r.entity()}
	for {
		if err := ctx.Err(); err != nil {
			return fault.Wrap("", "batch.list", r.id(), err)
		}
		if !deadline.Fits(ctx, pageTime) {
			return nil
		}
		page, err := src.Changes(budget.For(ctx, purpose), r.at.Object, r.at.Cursor)
		if budget.Refused(err) { // there is no room: the next run goes on
			r.d.Telemetry.Count("NotCalled", r.at.Platform, 1)
			return nil
		}
		if err != nil {
			return r.explained(err)
		}
		if page.More && page.Cursor != r.at.Cursor && r.seen[page.Cursor] {
			return &fault.Error{Class: fault.Contract, Op: "batch.list", ID: r.id(), Detail: "the listing goes in circles: a page leads back to one that was listed before it",
				Remedy: "tell the vendor; what was listed is queued, and the next run tries again"}
		}
		r.seen[r.at.Cursor] = true
		if err := r.queue(ctx, page); err != nil {
			return err
		}
		r.records, r.pages = r.records+len(page.Natives), r.pages+1
		stays := page.Cursor == r.at.Cursor
		if !stays {
			if l := r.at.Loading; l != nil && l.Ended.IsZero() {
				grown := *l
				grown.Records += len(page.Natives)
				r.at.Loading = &grown
			}
			r.at.Cursor = page.Cursor
			if page.More { // else it is stored with the rest
				if err := r.move(ctx, true); err != nil {
					return err
				}
			}
		}
		r.told()
		if !page.More {
			r.complete = true
			return nil
		}
		if stays { // as when the vendor is not ready yet, or too much has changed just now to be listed safely: the next run asks again
			return nil
		}
	}
}

// explained adds to a connector's error what to do about a cursor that it does not take.
func (r *run) explained(err error) error {
	err = fault.Wrap("", "batch.list", r.id(), err)
	var e *fault.Error
	if errors.As(err, &e) && e.Code == platform.BadCursor {
		return &fault.Error{Class: fault.Contract, Op: "batch.list", ID: r.id(), Code: platform.BadCursor, Err: err, Detail: "the place where the listing stopped is lost",
			Remedy: fmt.Sprintf("run `sorrel batch restart %s %s`: it is listed from the beginning, and what is known already changes nothing", r.at.Platform, r.entity())}
	}
	return err
}

// queue queues a page durably.
func (r *run) queue(ctx context.Context, page platform.Page) error {
	source := message.Batch
	if l := r.at.Loading; l != nil && l.Ended.IsZero() {
		source = message.Load
	}
	msgs := make([]queue.Message, 0, len(page.Natives))
	for _, n := range page.Natives {
		if n.Version.At.Sub(r.d.Now()) > maxAhead {
			return &fault.Error{Class: fault.Contract, Op: "batch.list", ID: n.Ref.String(),
				Detail: fmt.Sprintf("changed at %s, which is more than a day ahead: the listing would skip everything until then", n.Version.At.UTC().Format(time.RFC3339)),
				Remedy: "correct the clock or the time zone of the platform, or ours; the listing goes on from where it stands"}
		}
		in := message.Inbound{CorrelationID: r.d.NewID(), ReceivedAt: r.d.Now().UTC(), Source: source, Native: n}
		m, err := in.Message(fmt.Sprintf("batch/%s/%d/%t", n.Version.At.UTC().Format(time.RFC3339Nano), n.Version.Seq, n.Version.Final))
		if err != nil {
			return err
		}
		msgs = append(msgs, m)
	}
	if len(msgs) == 0 {
		return nil
	}
	return fault.Wrap("", "batch.queue", r.id(), r.d.Inbound.Send(ctx, msgs...))
}
