package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/store"
)

// modelEntry is an entry of the plain-map model, with the revision that the store gave it.
type modelEntry struct {
	value   string
	expires int64 // Unix seconds, 0 = never
	rev     store.Rev
}

// model is the contract written down as a map. It shares no code with any adapter.
type model struct {
	entries map[store.Key]modelEntry
	revs    map[store.Key][]store.Rev // every revision a key ever had
}

func (m *model) live(k store.Key, now time.Time) (modelEntry, bool) {
	e, ok := m.entries[k]
	return e, ok && (e.expires == 0 || e.expires > now.Unix())
}

// commit returns the keys whose preconditions fail, and applies ops if there are none.
func (m *model) commit(ops []store.Op, now time.Time) (failed []store.Key) {
	for _, op := range ops {
		e, ok := m.live(op.Key, now)
		if op.Absent && ok || op.IfRev != "" && (!ok || e.rev != op.IfRev) {
			failed = append(failed, op.Key)
		}
	}
	if failed != nil {
		return failed
	}
	for _, op := range ops {
		switch op.Kind {
		case store.Put:
			e := modelEntry{value: string(op.Value)}
			if !op.Expires.IsZero() {
				e.expires = op.Expires.Unix()
			}
			m.entries[op.Key] = e
		case store.Delete:
			delete(m.entries, op.Key)
		}
	}
	return nil
}

// testModel runs random commits, reads and steps of the clock against store and model alike, and compares the
// whole state after each. Each run has partitions of its own in the one store.
func testModel(t *testing.T, w *world) {
	var runs atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{entries: map[store.Key]modelEntry{}, revs: map[store.Key][]store.Rev{}}
		run := fmt.Sprintf("run%d", runs.Add(1))
		var keys []store.Key
		for _, p := range []string{run, run + "/", run + "\x00"} {
			for _, s := range []string{"\x00", "a", "a/b", "\xff"} {
				keys = append(keys, store.Key{Part: p, Sort: s})
			}
		}
		for range rapid.IntRange(1, w.size(25, 4)).Draw(rt, "steps") {
			if rapid.IntRange(0, 4).Draw(rt, "tick") == 0 {
				w.clock.advance(time.Duration(rapid.IntRange(0, 2500).Draw(rt, "ms")) * time.Millisecond)
			}
			ops := drawOps(rt, m, keys, w.clock.now())
			failed := m.commit(ops, w.clock.now())
			err := w.commit(t.Context(), ops...)
			if failed == nil && err != nil {
				rt.Fatalf("commit %v: %v; the model accepts it", ops, err)
			}
			if failed != nil && !store.IsConflict(err) {
				rt.Fatalf("commit %v: %v; the model has a conflict on %v", ops, err, failed)
			}
			w.compare(rt, m, keys)
		}
	})
}

func drawOps(rt *rapid.T, m *model, keys []store.Key, now time.Time) []store.Op {
	chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 1, 4, rapid.ID[store.Key]).Draw(rt, "keys")
	ops := make([]store.Op, len(chosen))
	for i, k := range chosen {
		op := store.Op{Key: k, Kind: rapid.SampledFrom([]store.Kind{store.Put, store.Put, store.Delete, store.Check}).Draw(rt, "kind")}
		precondition := rapid.IntRange(0, 5).Draw(rt, "precondition")
		if e, ok := m.live(k, now); precondition == 0 || precondition == 1 && !ok {
			op.Absent = true
		} else if precondition <= 2 && ok {
			op.IfRev = e.rev
		} else if old := m.revs[k]; precondition == 3 && len(old) > 0 {
			op.IfRev = rapid.SampledFrom(old).Draw(rt, "revision")
		} else if op.Kind == store.Check {
			op.Absent = true
		}
		if op.Kind == store.Put {
			op.Value = []byte(strings.Repeat("v", rapid.IntRange(0, 3).Draw(rt, "length")))
			if seconds := rapid.IntRange(-1, 4).Draw(rt, "expires"); seconds < 3 {
				op.Expires = now.Add(time.Duration(seconds) * time.Second)
			}
		}
		ops[i] = op
	}
	return ops
}

// compare reads everything in all three ways and lets the model learn the new revisions.
func (w *world) compare(rt *rapid.T, m *model, keys []store.Key) {
	now := w.clock.now()
	want := map[store.Key]modelEntry{}
	for _, k := range keys {
		if e, ok := m.live(k, now); ok {
			want[k] = e
		}
	}
	found, err := store.GetMany(rt.Context(), w.Store, keys...)
	if err != nil {
		rt.Fatalf("get many: %v", err)
	}
	if len(found) != len(want) {
		rt.Fatalf("get many: %v, want %v", found, want)
	}
	for k, e := range found {
		known, ok := want[k]
		var expires int64
		if !e.Expires.IsZero() {
			expires = e.Expires.Unix()
		}
		if !ok || string(e.Value) != known.value || expires != known.expires {
			rt.Fatalf("%v: %+v, want %+v", k, e, known)
		}
		switch {
		case known.rev == "":
			if e.Rev == "" || slices.Contains(m.revs[k], e.Rev) {
				rt.Fatalf("%v: revision %q of a new state was used before %q", k, e.Rev, m.revs[k])
			}
			m.revs[k] = append(m.revs[k], e.Rev)
			known.rev = e.Rev
			m.entries[k] = known
		case known.rev != e.Rev:
			rt.Fatalf("%v: revision %q without a put, was %q", k, e.Rev, known.rev)
		}
	}
	w.compareRanges(rt, keys, found)
}

func (w *world) compareRanges(rt *rapid.T, keys []store.Key, found map[store.Key]store.Entry) {
	from := rapid.SampledFrom([]string{"", "", "a", "a/", "b"}).Draw(rt, "from")
	to := rapid.SampledFrom([]string{"", "", "a", "a/b", "\xff"}).Draw(rt, "to")
	parts := map[string][]string{}
	for _, k := range keys {
		if _, seen := parts[k.Part]; !seen {
			parts[k.Part] = nil
		}
		if _, ok := found[k]; ok && k.Sort >= from && (to == "" || k.Sort < to) {
			parts[k.Part] = append(parts[k.Part], k.Sort)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(parts)) {
		want := slices.Sorted(slices.Values(parts[part]))
		var got []string
		for e, err := range w.Range(rt.Context(), part, from, to) {
			if err != nil {
				rt.Fatalf("range: %v", err)
			}
			if same := found[e.Key]; same.Rev != e.Rev || string(same.Value) != string(e.Value) {
				rt.Fatalf("range: %+v, get said %+v", e, same)
			}
			got = append(got, e.Sort)
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("range %q [%q,%q): %q, want %q", part, from, to, got, want)
		}
	}
}
