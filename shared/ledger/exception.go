package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Exception statuses.
const (
	ExceptionOpen     = "open"
	ExceptionResolved = "resolved"
)

// Exception is something that a person must look at. Its id is derived from what it is about, so that the
// same trouble is the same exception, however often it is met.
type Exception struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"` // design §4.6
	Status   string    `json:"status"`
	Record   record.ID `json:"record,omitempty"`
	Platform string    `json:"platform,omitempty"`
	Native   string    `json:"native,omitempty"`
	Field    string    `json:"field,omitempty"`
	Detail   string    `json:"detail"`
	Remedy   string    `json:"remedy,omitempty"`
	Trace    string    `json:"correlationId,omitempty"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Resolved time.Time `json:"resolved,omitzero"`
}

// Identify sets the id from type, record or native record, platform and field.
func (x *Exception) Identify() {
	about := string(x.Record)
	if about == "" {
		about = x.Native
	}
	sum := sha256.Sum256([]byte(key(x.Type, about, x.Platform, x.Field)))
	x.ID = hex.EncodeToString(sum[:8])
}

func (x Exception) keep() time.Duration {
	if x.Status == ExceptionResolved {
		return keepExceptions
	}
	return 0
}

// Reconcile compares the exceptions that a state has by rights with those open in it: new ones open, vanished
// ones resolve by themselves. It sets s.Open and returns what Commit has to write.
func (l *Ledger) Reconcile(ctx context.Context, s *State, now time.Time, rightful []Exception) ([]Exception, error) {
	var out []Exception
	var open []string
	for _, x := range rightful {
		x.Identify()
		if slices.Contains(open, x.ID) {
			continue
		}
		open = append(open, x.ID)
		if !slices.Contains(s.Open, x.ID) {
			x.Status, x.First, x.Last = ExceptionOpen, now, now
			out = append(out, x)
		}
	}
	for _, id := range s.Open {
		if slices.Contains(open, id) {
			continue
		}
		x, err := l.Exception(ctx, id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		x.Status, x.Last, x.Resolved = ExceptionResolved, now, now
		out = append(out, x)
	}
	slices.Sort(open)
	s.Open = open
	return out, nil
}

// Park records an exception that belongs to no record, such as an unmatched native record or a message that
// cannot be understood. Parking it again keeps its beginning.
func (l *Ledger) Park(ctx context.Context, x Exception) error {
	x.Identify()
	now := l.now().UTC()
	x.Status, x.First, x.Last = ExceptionOpen, now, now
	if old, err := l.Exception(ctx, x.ID); err == nil && old.Status == ExceptionOpen {
		x.First = old.First
	} else if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	b, err := json.Marshal(x)
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.park", x.ID, err)
	}
	return classify("ledger.park", x.ID, l.store.Commit(ctx, store.Op{Kind: store.Put, Key: exceptionKey(x.ID), Value: b}))
}

// Understood returns, resolved, what was parked about a native record that nobody could place. It is for the commit
// that links the record at last.
func (l *Ledger) Understood(ctx context.Context, r record.Ref, now time.Time) ([]Exception, error) {
	keys := map[store.Key]struct{}{}
	for _, kind := range []string{"unmatched", "contract-violation"} {
		x := Exception{Type: kind, Native: r.String(), Platform: r.Platform}
		x.Identify()
		keys[exceptionKey(x.ID)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	var out []Exception
	for k, e := range got {
		var x Exception
		if err := json.Unmarshal(e.Value, &x); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.understood", k.String(), err)
		}
		if x.Status == ExceptionOpen {
			x.Status, x.Last, x.Resolved = ExceptionResolved, now, now
			out = append(out, x)
		}
	}
	return out, nil
}

// Exception reads one exception.
func (l *Ledger) Exception(ctx context.Context, id string) (Exception, error) {
	e, err := l.store.Get(ctx, exceptionKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return Exception{}, &fault.Error{Class: fault.NotFound, Op: "ledger.exception", ID: id, Detail: "no such exception"}
	}
	if err != nil {
		return Exception{}, classify("ledger.exception", id, err)
	}
	var x Exception
	if err := json.Unmarshal(e.Value, &x); err != nil {
		return Exception{}, fault.Wrap(fault.Internal, "ledger.exception", id, err)
	}
	return x, nil
}

// Exceptions lists exceptions, open ones only or all.
func (l *Ledger) Exceptions(ctx context.Context, all bool) ([]Exception, error) {
	var out []Exception
	for e, err := range l.store.Range(ctx, exceptionKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.exceptions", "", err)
		}
		var x Exception
		if err := json.Unmarshal(e.Value, &x); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.exceptions", e.Key.String(), err)
		}
		if all || x.Status == ExceptionOpen {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Exception) int { return b.Last.Compare(a.Last) })
	return out, nil
}

// Release ends the holds of values that are no longer wanted, and those that our own configuration made when it has
// changed since: before is the version that the record was last folded by. Fields that were refused together are
// released together: the vendor may have meant any of them.
func (s *State) Release(before string) {
	ours := func(h record.Hold) bool { // caught by a mapping, before any vendor was asked
		return h.Code == "" && (h.Type == "unknown-picklist" || h.Type == "invalid-value")
	}
	moot := map[record.Hold]bool{}
	of := func(k string, h record.Hold) record.Hold {
		p, _, _ := strings.Cut(k, "/")
		return record.Hold{Type: h.Type, Code: h.Code, Detail: p + " " + h.Detail, Since: h.Since.UTC().Round(0), Trace: h.Trace}
	}
	for k, h := range s.Record.Held {
		if _, f, _ := strings.Cut(k, "/"); h.Value != s.Record.Golden[f].Value || ours(h) && before != s.Record.Policy {
			moot[of(k, h)] = true
		}
	}
	if len(moot) == 0 {
		return
	}
	s.Record.Held = maps.Clone(s.Record.Held)
	maps.DeleteFunc(s.Record.Held, func(k string, h record.Hold) bool { return moot[of(k, h)] })
}

// Rightful lists the exceptions that a state has by rights: unusable values, edits on a path that rejects,
// held fields, and writes that keep failing for no known reason.
func Rightful(s State, decisions []record.Decision) []Exception {
	var out []Exception
	r := s.Record
	for p, d := range s.Due {
		if d.Stuck {
			out = append(out, Exception{Type: "refused-write", Record: r.ID, Platform: p, Detail: d.Reason,
				Remedy: "it is tried again with growing pauses; see the reason"})
		}
	}
	for p, v := range r.Views {
		if v.Gone() && slices.ContainsFunc(slices.Collect(maps.Values(r.Views)), record.View.Exists) {
			out = append(out, Exception{Type: "conflict", Record: r.ID, Platform: p, Native: v.Ref.String(),
				Detail: "deleted on " + p + ", but not elsewhere; nothing is written there any more", Remedy: "restore it on " + p + ", or delete it elsewhere too"})
		}
		for f, c := range v.Said {
			if v.Clouded(f) {
				out = append(out, Exception{Type: c.Doubt.Type, Record: r.ID, Platform: p, Native: v.Ref.String(), Field: f,
					Detail: c.Doubt.Detail, Remedy: "correct the value on " + p + ", or extend the mapping; the field is held until then", Trace: c.Doubt.Trace})
			}
		}
	}
	for _, d := range decisions {
		if d.Path == record.Reject {
			out = append(out, Exception{Type: "path-not-permitted", Record: r.ID, Platform: d.Loser.Platform, Field: d.Field,
				Detail: d.Loser.Platform + " may not set this field; it is put back", Remedy: "change it in its owner; rule at " + d.At, Trace: d.Loser.Trace})
		}
	}
	for k, h := range r.Held {
		p, f, _ := strings.Cut(k, "/")
		out = append(out, Exception{Type: h.Type, Record: r.ID, Platform: p, Field: f, Detail: h.Detail,
			Remedy: "correct the value in its owner, or what " + p + " accepts; another value is tried at once", Trace: h.Trace})
	}
	slices.SortFunc(out, func(a, b Exception) int {
		return strings.Compare(a.Type+a.Platform+a.Field, b.Type+b.Platform+b.Field)
	})
	return out
}
