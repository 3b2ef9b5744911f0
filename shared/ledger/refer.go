package ledger

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Referrer is a record that refers to another, and since when it does so, as far as is known: by the clock of the commit
// that made it so.
type Referrer struct {
	Record record.ID `json:"-"`
	Since  time.Time `json:"since"`
}

func referredPart(to record.ID) string { return key(schema, "referred", string(to)) }

func referrerKey(to, from record.ID) store.Key {
	return store.Key{Part: referredPart(to), Sort: key(string(from))}
}

// refers keeps the list of those who refer to a record in step with the golden fields of an entry: under the ids that
// stand there, which may be of records that were merged into others since.
func (b *batch) refers(e Entry) {
	moved := func(field string) bool {
		return e.Before.Record.Golden[field].Value != e.After.Record.Golden[field].Value
	}
	if !slices.ContainsFunc(e.Refers, moved) {
		return
	}
	id := e.After.Record.ID
	before, after := referred(e.Before.Record, e.Refers), referred(e.After.Record, e.Refers)
	for _, to := range before {
		if !slices.Contains(after, to) {
			b.add(store.Op{Kind: store.Delete, Key: referrerKey(to, id)})
		}
	}
	for _, to := range after {
		if !slices.Contains(before, to) {
			b.put(store.Op{Key: referrerKey(to, id)}, Referrer{Since: e.Now.UTC()})
		}
	}
}

// referred are the records that a record's golden fields refer to.
func referred(r record.Record, fields []string) []record.ID {
	var out []record.ID
	for _, field := range fields {
		v := r.Golden[field].Value
		if id := record.ID(v.Raw()); v.Kind() == record.Text && id.Validate() == nil && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Referring lists the ids of what Referrers lists.
func (l *Ledger) Referring(ctx context.Context, id record.ID, entity string) iter.Seq2[record.ID, error] {
	return func(yield func(record.ID, error) bool) {
		for r, err := range l.Referrers(ctx, id, entity) {
			if !yield(r.Record, err) {
				return
			}
		}
	}
}

// ReferringTo lists the ids of the records that refer to a record that was loaded, or to one that was merged into it, in no
// useful order. What is listed may refer elsewhere by the time that it is loaded.
func (l *Ledger) ReferringTo(ctx context.Context, to State) iter.Seq2[record.ID, error] {
	return func(yield func(record.ID, error) bool) {
		for r, err := range l.referrers(ctx, to, "") {
			if !yield(r.Record, err) {
				return
			}
		}
	}
}

// Referrers lists the records of an entity that refer to a record, or of all entities where it is empty, and since when, in
// no useful order. Who refers to a record that was merged into id refers to id; where id was merged into another record
// itself, that one's are listed. It reads a page of the store at a time, and each record is listed once. What is listed may
// refer elsewhere by the time that it is loaded.
func (l *Ledger) Referrers(ctx context.Context, id record.ID, entity string) iter.Seq2[Referrer, error] {
	return func(yield func(Referrer, error) bool) {
		s, err := l.Follow(ctx, id)
		if err != nil {
			yield(Referrer{}, err)
			return
		}
		l.referrers(ctx, s, entity)(yield)
	}
}

func (l *Ledger) referrers(ctx context.Context, of State, entity string) iter.Seq2[Referrer, error] {
	return func(yield func(Referrer, error) bool) {
		ids, err := l.alsoKnownAs(ctx, of)
		if err != nil {
			yield(Referrer{}, err)
			return
		}
		from, to := "\x00", ""
		if entity != "" {
			from, to = key(entity+"/"), key(entity+"0") // '0' is the byte after '/'
		}
		var listed map[record.ID]struct{}
		if len(ids) > 1 {
			listed = map[record.ID]struct{}{}
		}
		for _, id := range ids {
			for e, err := range l.store.Range(ctx, referredPart(id), from, to) {
				var r Referrer
				if err == nil {
					if err = json.Unmarshal(e.Value, &r); err != nil {
						err = fault.Wrap(fault.Internal, "ledger.referring", e.Key.String(), err)
					}
					r.Record = record.ID(split(e.Sort)[0])
				}
				if has(listed, r.Record) {
					continue
				}
				if listed != nil {
					listed[r.Record] = struct{}{}
				}
				if !yield(r, classify("ledger.referring", string(id), err)) || err != nil {
					return
				}
			}
		}
	}
}

// alsoKnownAs are the ids of a record: its own first, then those of all records that were merged into it.
func (l *Ledger) alsoKnownAs(ctx context.Context, s State) ([]record.ID, error) {
	ids := []record.ID{s.Record.ID}
	level := map[record.ID]State{s.Record.ID: s}
	for len(level) > 0 {
		var next []record.ID
		for _, s := range level {
			for from := range s.Record.Absorbed {
				if !slices.Contains(ids, from) && !slices.Contains(next, from) {
					next = append(next, from)
				}
			}
		}
		if len(next) == 0 {
			break
		}
		slices.Sort(next)
		ids = append(ids, next...)
		var err error
		if level, err = l.Load(ctx, next...); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
