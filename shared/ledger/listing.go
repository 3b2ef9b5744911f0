package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// Listing is where the incremental listing of a platform's object stands, and which run has it in hand. All of it is one item:
// who moves the cursor renews the hold with it, and a run that was overtaken cannot move it any more.
type Listing struct {
	Platform string `json:"-"`
	Object   string `json:"-"`

	Account  string    `json:"account,omitempty"` // whose cursor it is; empty: nobody can tell
	Cursor   string    `json:"cursor"`            // empty: at the beginning
	Complete time.Time `json:"complete,omitzero"` // when a run last found nothing more; told to the hour where nothing else has changed
	Holder   *Holder   `json:"holder,omitempty"`  // the run that has it in hand
	Loading  *Loading  `json:"loading,omitempty"` // the first load, if there was one
	rev      store.Rev
}

// Holder is a run that has a listing in hand, for a while.
type Holder struct {
	Run   string    `json:"run"`
	Life  string    `json:"life,omitempty"`  // of the process; empty: nobody can tell
	Place string    `json:"place,omitempty"` // where one process at a time can live; empty: many can
	Until time.Time `json:"until"`
}

// dead reports whether h cannot be at work any more, since another process lives in its place.
func (h Holder) dead(by Holder) bool {
	return h.Place != "" && h.Place == by.Place && h.Life != by.Life
}

// Loading is a first load of everything that an object has.
type Loading struct {
	By      string    `json:"by,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	Records int       `json:"records"` // durably queued so far; those of a page that a crash repeated count once
}

// MaxHold bounds how long a run may have a listing in hand without renewing it. A hold that claims to last longer was made by a
// clock that is wrong, and counts for nothing.
const MaxHold = 20 * time.Minute

// Held reports whether another run than that of by has the listing in hand now, and until when.
func (n Listing) Held(by Holder, now time.Time) (time.Time, bool) {
	h := n.Holder
	if h == nil || h.Run == by.Run || h.dead(by) || !now.Before(h.Until) || h.Until.Sub(now) > MaxHold {
		return time.Time{}, false
	}
	return h.Until, true
}

// envelope tells a Listing from the bare cursor that was stored before there were any. No connector's cursor has its member.
type envelope struct {
	Listing *Listing `json:"listing"`
}

// Listing returns where a listing stands: at its beginning, if nothing is known of it.
func (l *Ledger) Listing(ctx context.Context, platform, object string) (Listing, error) {
	e, err := l.store.Get(ctx, cursorKey(platform, object))
	if errors.Is(err, store.ErrNotFound) {
		return Listing{Platform: platform, Object: object}, nil
	}
	if err != nil {
		return Listing{}, classify("ledger.listing", platform+"/"+object, err)
	}
	return listing(platform, object, e), nil
}

func listing(platform, object string, e store.Entry) Listing {
	n := Listing{Cursor: string(e.Value)}
	var in envelope
	if json.Unmarshal(e.Value, &in) == nil && in.Listing != nil {
		n = *in.Listing
	}
	n.Platform, n.Object, n.rev = platform, object, e.Rev
	return n
}

// Listings lists where the listings of a platform stand.
func (l *Ledger) Listings(ctx context.Context, platform string) iter.Seq2[Listing, error] {
	return func(yield func(Listing, error) bool) {
		from := key(platform, "")
		for e, err := range l.store.Range(ctx, cursorKey("", "").Part, from, from+"\xff") {
			if err != nil {
				yield(Listing{}, classify("ledger.listings", platform, err))
				return
			}
			if !yield(listing(platform, split(e.Key.Sort)[1], e), nil) {
				return
			}
		}
	}
}

// MoveListing stores a listing as it stands now, if nobody has moved it since it was read; fault.Conflict says that somebody has.
// Move a cursor only after everything that was listed before it is durably queued.
func (l *Ledger) MoveListing(ctx context.Context, n Listing) (Listing, error) {
	const op = "ledger.listing"
	id := n.Platform + "/" + n.Object
	var b batch
	b.put(store.Op{Key: cursorKey(n.Platform, n.Object), IfRev: n.rev, Absent: n.rev == ""}, envelope{&n})
	err := l.commit(ctx, op, id, &b)
	if err != nil && !fault.Is(err, fault.Unknown) {
		return Listing{}, err
	}
	e, read := l.store.Get(ctx, cursorKey(n.Platform, n.Object))
	if read != nil {
		return Listing{}, classify(op, id, read)
	}
	if len(b.ops) != 1 || string(e.Value) != string(b.ops[0].Value) {
		return Listing{}, &fault.Error{Class: fault.Conflict, Op: op, ID: id, Detail: "another run has moved the listing", Remedy: "nothing: that run goes on"}
	}
	return listing(n.Platform, n.Object, e), nil
}
