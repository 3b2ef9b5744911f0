// Package batch reads what changed on a platform since last time and queues it like webhooks, so that lost
// webhooks, deletions without events and outages of our own heal by themselves.
package batch

import (
	"context"
	"fmt"
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

// Deps are what batch needs. All but EntityOf are required.
type Deps struct {
	Ledger    *ledger.Ledger
	Sources   map[string]Source
	Objects   map[string][]string                  // per platform, the native objects to list
	EntityOf  func(platform, object string) string // whose share of the platform's budget a listing uses
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string
	Telemetry *telemetry.Recorder
}

// Flow is the batch function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

// pageTime is how much of the function's time must be left to begin another page: its calls, and its records to be queued.
const pageTime = deadline.Call + 5*time.Second

// Listed is what one run did.
type Listed struct {
	Platform string
	Records  int
	Pages    int
	Complete bool // everything that changed so far was listed; otherwise the next run goes on
}

// Apply lists one platform. The cursor moves only after the records are durably queued; a run that dies lists
// the last page again.
func (f *Flow) Apply(ctx context.Context, name string) (Listed, error) {
	out := Listed{Platform: name, Complete: true}
	src, ok := f.d.Sources[name]
	if !ok {
		return out, &fault.Error{Class: fault.NotFound, Op: "batch", ID: name, Detail: "platform is not connected", Remedy: "name netsuite, salesforce, zendesk or servicenow in the schedule's input"}
	}
	for _, object := range f.d.Objects[name] {
		if err := f.list(ctx, src, name, object, &out); err != nil {
			f.d.Telemetry.Count("BatchFailures", name, 1)
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: name, Record: object, Detail: "listing", Err: err})
			return out, err
		}
	}
	f.d.Telemetry.Count("BatchRecords", name, float64(out.Records))
	return out, nil
}

// maxAhead bounds how far a platform's clock may be ahead of ours. A cursor made of a wilder time would leave out what
// changes from now on.
const maxAhead = 24 * time.Hour

func (f *Flow) list(ctx context.Context, src Source, name, object string, out *Listed) error {
	cursor, err := f.d.Ledger.Cursor(ctx, name, object)
	if err != nil {
		return err
	}
	purpose := budget.Purpose{Class: budget.Reconcile}
	if f.d.EntityOf != nil {
		purpose.Entity = f.d.EntityOf(name, object)
	}
	for {
		if ctx.Err() == nil && !deadline.Fits(ctx, pageTime) {
			out.Complete = false
			return nil
		}
		page, err := src.Changes(budget.For(ctx, purpose), object, cursor)
		if budget.Refused(err) { // there is no room: the next run goes on
			f.d.Telemetry.Count("NotCalled", name, 1)
			out.Complete = false
			return nil
		}
		if err != nil {
			return fault.Wrap("", "batch.list", name+"/"+object, err)
		}
		msgs := make([]queue.Message, 0, len(page.Natives))
		for _, n := range page.Natives {
			if n.Version.At.Sub(f.d.Now()) > maxAhead {
				return &fault.Error{Class: fault.Contract, Op: "batch.list", ID: n.Ref.String(),
					Detail: fmt.Sprintf("changed at %s, which is more than a day ahead: the listing would skip everything until then", n.Version.At.UTC().Format(time.RFC3339)),
					Remedy: "correct the clock or the time zone of the platform, or ours; the listing goes on from where it stands"}
			}
			in := message.Inbound{CorrelationID: f.d.NewID(), ReceivedAt: f.d.Now().UTC(), Source: message.Batch, Native: n}
			m, err := in.Message(fmt.Sprintf("batch/%s/%d/%t", n.Version.At.UTC().Format(time.RFC3339Nano), n.Version.Seq, n.Version.Final))
			if err != nil {
				return err
			}
			msgs = append(msgs, m)
		}
		if len(msgs) > 0 {
			if err := f.d.Inbound.Send(ctx, msgs...); err != nil {
				return fault.Wrap("", "batch.queue", name+"/"+object, err)
			}
		}
		out.Records, out.Pages = out.Records+len(msgs), out.Pages+1
		if page.Cursor != cursor {
			if err := f.d.Ledger.SaveCursor(ctx, name, object, page.Cursor); err != nil {
				return err
			}
			cursor = page.Cursor
		}
		if !page.More {
			return nil
		}
	}
}
