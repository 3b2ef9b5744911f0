package ledger

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Rolled is one line of the roll: a native record that is known to exist, the record that it is of, and the newest version
// that is known of it (never Final), with everything before it. It is zero where nothing was heard yet, as after a write.
type Rolled struct {
	ID      string
	Record  record.ID // empty for a stranger: a native record that belongs to no record
	Version record.Version
	rev     store.Rev
}

// rollSort is the sort of a native id. Ids that are plain numbers of at most 18 digits sort by their value, before all others;
// those sort bytewise.
func rollSort(id string) string {
	digits := len(id) <= 18 && id != "" && id[0] != '0'
	for i := 0; digits && i < len(id); i++ {
		digits = id[i] >= '0' && id[i] <= '9'
	}
	if digits || id == "0" {
		return key(fmt.Sprintf("n%02d%s", len(id), id))
	}
	return key("t" + id)
}

// CompareIDs orders native ids as the roll does.
func CompareIDs(a, b string) int { return strings.Compare(rollSort(a), rollSort(b)) }

// unrollSort undoes rollSort.
func unrollSort(sort string) (string, bool) {
	id := split(sort)[0]
	switch {
	case len(id) >= 4 && id[0] == 'n':
		return id[3:], true
	case len(id) >= 2 && id[0] == 't':
		return id[1:], true
	}
	return "", false
}

func rollPart(platform, object string, shard uint32) string {
	return key(schema, "roll", platform, object, shardName(shard))
}

func rollKey(r record.Ref) store.Key {
	return store.Key{Part: rollPart(r.Platform, r.Object, shardOf(r.ID)), Sort: rollSort(r.ID)}
}

func rollValue(id record.ID, v record.Version) []byte {
	out := append(make([]byte, 0, len(id)+32), id...)
	if v.IsZero() {
		return out
	}
	out = append(out, ' ')
	out = strconv.AppendInt(out, v.At.UnixNano(), 36)
	if v.Seq != 0 {
		out = append(out, ' ')
		out = strconv.AppendInt(out, v.Seq, 36)
	}
	return out
}

func readRolled(e store.Entry) (Rolled, error) {
	var out Rolled
	id, ok := unrollSort(e.Sort)
	parts := strings.Split(string(e.Value), " ")
	out.ID, out.Record, out.rev = id, record.ID(parts[0]), e.Rev
	ok = ok && len(parts) <= 3
	if ok && len(parts) > 1 {
		at, err := strconv.ParseInt(parts[1], 36, 64)
		ok, out.Version.At = err == nil, time.Unix(0, at).UTC()
	}
	if ok && len(parts) > 2 {
		seq, err := strconv.ParseInt(parts[2], 36, 64)
		ok, out.Version.Seq = err == nil, seq
	}
	if !ok {
		return out, &fault.Error{Class: fault.Internal, Op: "ledger.roll", ID: e.Key.String(), Detail: "this is no line of the roll"}
	}
	return out, nil
}

// rolls is what the roll shall say of a state: its native records that are known to exist.
func rolls(s State, into map[record.Ref]Rolled) {
	for _, v := range s.Record.Views {
		if v.Exists() && v.Platform != record.Files { // a file holds nothing that could be counted again
			newest := v.Heard
			newest.Final = false // it is of the moment that it is of, however surely
			into[v.Ref] = Rolled{ID: v.ID, Record: s.Record.ID, Version: newest}
		}
	}
}

// roll adds what a commit changes about the roll. Where nothing but versions moved and the commit is otherwise the state
// alone, it is returned to be written by itself, after the state: a transaction would cost twice the state for it. Should
// that not happen any more, the roll is behind, and the next comparison finds and mends it.
func (b *batch) roll(entries []Entry) (after []store.Op) {
	was, is := map[record.Ref]Rolled{}, map[record.Ref]Rolled{}
	for _, e := range entries {
		rolls(e.Before, was)
		rolls(e.After, is)
	}
	var ops []store.Op
	alone := len(b.ops) == 1 // nothing but a state
	for ref, now := range is {
		if old, known := was[ref]; known && old.Record == now.Record && !moved(old.Version, now.Version) {
			continue
		} else if !known || old.Record != now.Record {
			alone = false
		}
		ops = append(ops, store.Op{Kind: store.Put, Key: rollKey(ref), Value: rollValue(now.Record, now.Version)})
	}
	for ref := range was {
		if _, still := is[ref]; !still {
			alone = false
			ops = append(ops, store.Op{Kind: store.Delete, Key: rollKey(ref)})
		}
	}
	slices.SortFunc(ops, func(a, b store.Op) int {
		return cmp.Or(strings.Compare(a.Key.Part, b.Key.Part), strings.Compare(a.Key.Sort, b.Key.Sort))
	})
	if alone {
		return ops
	}
	for _, op := range ops {
		b.add(op)
	}
	return nil
}

// moved reports whether two versions are of different modifications: of one, one channel may tell a sequence number, and
// another none.
func moved(a, b record.Version) bool {
	return !a.At.Equal(b.At) || a.Seq > 0 && b.Seq > 0 && a.Seq != b.Seq
}

// Enrol says in the roll that a native record of a record was heard of in a version that says nothing new, or mends its line.
func (l *Ledger) Enrol(ctx context.Context, ref record.Ref, id record.ID, v record.Version) error {
	return classify("ledger.enrol", ref.String(), l.store.Commit(ctx, store.Op{Kind: store.Put, Key: rollKey(ref), Value: rollValue(id, v)}))
}

// EnrolStranger says in the roll that a native record exists that belongs to no record, unless its line has become another than
// was, which may be none.
func (l *Ledger) EnrolStranger(ctx context.Context, ref record.Ref, v record.Version, was Rolled) error {
	err := l.store.Commit(ctx, store.Op{Kind: store.Put, Key: rollKey(ref), Value: rollValue("", v), IfRev: was.rev, Absent: was.rev == ""})
	if store.IsConflict(err) {
		return nil
	}
	return classify("ledger.enrol", ref.String(), err)
}

// Strike takes a line from the roll that no record stands for.
func (l *Ledger) Strike(ctx context.Context, ref record.Ref) error {
	return classify("ledger.strike", ref.String(), l.store.Commit(ctx, store.Op{Kind: store.Delete, Key: rollKey(ref)}))
}

// Enrolled looks native records up in the roll. Those that are not in it are left out.
func (l *Ledger) Enrolled(ctx context.Context, refs ...record.Ref) (map[record.Ref]Rolled, error) {
	keys := make(map[store.Key]struct{}, len(refs))
	for _, r := range refs {
		keys[rollKey(r)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[record.Ref]Rolled, len(got))
	for _, r := range refs {
		if e, is := got[rollKey(r)]; is {
			if out[r], err = readRolled(e); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Roll lists the native records of an object that are known to exist, in the order of CompareIDs, beginning after the id
// after, or at the first if that is empty. It holds one page of each shard.
func (l *Ledger) Roll(ctx context.Context, platform, object, after string) iter.Seq2[Rolled, error] {
	from := "\x00"
	if after != "" {
		from = rollSort(after) + "\x00"
	}
	return func(yield func(Rolled, error) bool) {
		type head struct {
			next func() (store.Entry, error, bool)
			e    store.Entry
		}
		var heads []head // of the shards that are not at their end
		for shard := range uint32(shards) {
			next, stop := iter.Pull2(l.store.Range(ctx, rollPart(platform, object, shard), from, ""))
			defer stop()
			e, err, some := next()
			if err != nil {
				yield(Rolled{}, classify("ledger.roll", platform+"/"+object, err))
				return
			}
			if some {
				heads = append(heads, head{next, e})
			}
		}
		for len(heads) > 0 {
			first := 0
			for i := range heads {
				if heads[i].e.Sort < heads[first].e.Sort {
					first = i
				}
			}
			r, err := readRolled(heads[first].e)
			if !yield(r, err) || err != nil {
				return
			}
			e, err, some := heads[first].next()
			switch {
			case err != nil:
				yield(Rolled{}, classify("ledger.roll", platform+"/"+object, err))
				return
			case some:
				heads[first].e = e
			default:
				heads = append(heads[:first], heads[first+1:]...)
			}
		}
	}
}

// Reroll writes the roll of records that existed before there was one, or whose lines are doubted, beginning after a mark
// and for about most of them. It returns where to go on, and false when all are done.
func (l *Ledger) Reroll(ctx context.Context, after LogMark, most int) (at LogMark, records int, more bool, err error) {
	at = after
	var ids []record.ID
	for e, err := range l.Scan(ctx, after, "") {
		if err != nil {
			return at, 0, false, err
		}
		if id := record.ID(e.Chain); len(ids) == 0 || ids[len(ids)-1] != id {
			if len(ids) == most {
				more = true
				break
			}
			ids = append(ids, id)
			at = LogMark{e.Shard, e.Chain}
		}
	}
	for len(ids) > 0 {
		some := ids[:min(len(ids), 100)]
		ids = ids[len(some):]
		states, err := l.Load(ctx, some...)
		if err != nil {
			return after, 0, false, err
		}
		for _, id := range some {
			lines := map[record.Ref]Rolled{}
			rolls(states[id], lines)
			for ref, r := range lines {
				if err := l.Enrol(ctx, ref, r.Record, r.Version); err != nil {
					return after, 0, false, err
				}
			}
			records++
		}
	}
	return at, records, more, nil
}
