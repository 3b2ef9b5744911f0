package storetest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sorrel/shared/store"
)

// torture returns sort keys (or parts) in byte order that careless encodings confuse.
func torture() []string {
	return []string{
		"\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "\x01\x00", " ", "!", "-1", "/", "0", "1", "10", "2",
		"A", "Z", "_", "a", "a\x00", "a\x00\x00b", "a\x00\x01", "a\x00\x01b", "a\x00\xff", "a\x01", "a/", "a/b", "aa", "b", "~",
		"\x7f", "\x80", "\xc3", "ä", "é", "é\x00", "ß", "中", "中文", "\xed\xa0\x80", "\uffff", "😀", "\xfe", "\xff", "\xff\x00", "\xff\xfe", "\xff\xff",
		"\xff\xff\xff",
	}
}

func testOrder(t *testing.T, w *world) {
	sorts := torture()
	slices.Sort(sorts)
	shuffled := slices.Clone(sorts)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	var ops []store.Op
	for _, s := range shuffled {
		ops = append(ops, put(key("p", s), s))
	}
	w.fill(t, ops)
	w.wantSorts(t, "p", "", "", sorts...)
	for _, s := range sorts {
		w.wantValue(t, key("p", s), s)
	}
	step := w.size(1, 7)
	for i := 0; i < len(sorts); i += step {
		for j := i; j < len(sorts); j += step {
			w.wantSorts(t, "p", sorts[i], sorts[j], sorts[i:j]...)
		}
		w.wantSorts(t, "p", sorts[i], "", sorts[i:]...)
		w.wantSorts(t, "p", "", sorts[i], sorts[:i]...)
		w.wantSorts(t, "p", sorts[i]+"\x00", sorts[i]+"\x00")
	}
}

// testPartitions: no Range and no key crosses into another partition, however alike the names.
func testPartitions(t *testing.T, w *world) {
	parts := append(torture(), "a\x00\x01s", "a\x00\x02", "as", "p")
	slices.Sort(parts)
	var ops []store.Op
	for _, p := range parts {
		ops = append(ops, put(key(p, "s"), p+"|s"), put(key(p, "\x00"), p+"|0"), put(key(p, "\xff\xff"), p+"|f"))
	}
	ops = append(ops,
		put(key("x", "b/c"), "x|b/c"), put(key("x/b", "c"), "x/b|c"), put(key("xb", "/c"), "xb|/c"), put(key("xb/", "c"), "xb/|c"))
	w.fill(t, ops)
	for _, op := range ops {
		w.wantValue(t, op.Key, string(op.Value))
	}
	for _, p := range parts {
		w.wantSorts(t, p, "", "", "\x00", "s", "\xff\xff")
		w.wantSorts(t, p, "\x01", "\xff", "s")
	}
	w.wantSorts(t, "x", "", "", "b/c")
	w.wantSorts(t, "x/b", "", "", "c")
	w.mustCommit(t, del(key("x", "b/c")))
	w.wantValue(t, key("x/b", "c"), "x/b|c")
}

func testRangeBounds(t *testing.T, w *world) {
	w.wantSorts(t, "nobody", "", "")
	w.wantSorts(t, "nobody", "a", "b")
	w.mustCommit(t, put(key("p", "a"), ""), put(key("p", "b"), ""), put(key("p", "bb"), ""), put(key("p", "c"), ""), put(key("q", "b"), ""))
	w.wantSorts(t, "p", "", "", "a", "b", "bb", "c")
	w.wantSorts(t, "p", "b", "c", "b", "bb")
	w.wantSorts(t, "p", "b", "", "b", "bb", "c")
	w.wantSorts(t, "p", "", "b", "a")
	w.wantSorts(t, "p", "a\x00", "b")
	w.wantSorts(t, "p", "b", "b")
	w.wantSorts(t, "p", "c", "b")
	w.wantSorts(t, "p", "d", "")
	w.wantSorts(t, "p", "", "a")
	w.wantSorts(t, "p", "b", "b\x00", "b")
}

// testPaging: a partition of several MB and many entries comes whole and in order, whatever a page is.
func testPaging(t *testing.T, w *world) {
	large := many("large", w.size(40, 12), 200<<10)
	small := many("small", w.size(1500, 120), 20)
	w.fill(t, append(slices.Clone(large), small...))
	for part, ops := range map[string][]store.Op{"large": large, "small": small} {
		i := 0
		for e, err := range w.Range(t.Context(), part, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if i == len(ops) || e.Key != ops[i].Key || string(e.Value) != string(ops[i].Value) {
				t.Fatalf("%s: entry %d is %v with %d bytes", part, i, e.Key, len(e.Value))
			}
			i++
		}
		if i != len(ops) {
			t.Fatalf("%s: %d entries, want %d", part, i, len(ops))
		}
	}
	w.wantSorts(t, "large", numbered(3), numbered(11), numbered(3), numbered(4), numbered(5), numbered(6), numbered(7), numbered(8), numbered(9), numbered(10))
}

// testDeleteDuringRange: a consumer that deletes what it reads sees every entry once.
func testDeleteDuringRange(t *testing.T, w *world) {
	n := w.size(700, 60)
	w.fill(t, many("p", n, 100))
	i := 0
	for e, err := range w.Range(t.Context(), "p", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Sort != numbered(i) {
			t.Fatalf("entry %d is %q", i, e.Sort)
		}
		w.mustCommit(t, store.Op{Kind: store.Delete, Key: e.Key, IfRev: e.Rev})
		i++
	}
	if i != n {
		t.Fatalf("%d entries, want %d", i, n)
	}
	w.wantSorts(t, "p", "", "")
}

// testCommitDuringRange: commits ahead of and behind the reader neither block it nor make it repeat or skip the
// entries that stay.
func testCommitDuringRange(t *testing.T, w *world) {
	n := w.size(300, 30)
	w.fill(t, many("p", n, 1000))
	stable := 0
	last := ""
	for e, err := range w.Range(t.Context(), "p", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Sort <= last {
			t.Fatalf("%q after %q", e.Sort, last)
		}
		last = e.Sort
		if strings.HasSuffix(e.Sort, "+") {
			continue
		}
		stable++
		w.mustCommit(t, put(key("p", e.Sort+"+"), "behind or ahead"), put(key("other", e.Sort), "x"))
	}
	if stable != n {
		t.Fatalf("%d of the %d entries that stayed", stable, n)
	}
}

func testEarlyBreak(t *testing.T, w *world) {
	w.fill(t, many("p", w.size(600, 20), 100))
	for range 3 {
		seen := 0
		for _, err := range w.Range(t.Context(), "p", "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 5 {
				break
			}
		}
	}
	// One sequence can be iterated again, and nothing is left locked.
	seq := w.Range(t.Context(), "p", "", numbered(3))
	for range 2 {
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 3 {
			t.Fatalf("%d entries, want 3", n)
		}
	}
	w.mustCommit(t, put(key("p", "after"), "x"))
}

func testGetMany(t *testing.T, w *world) {
	ops := many("p", w.size(250, 120), 50) // more than DynamoDB's 100 per batch
	w.fill(t, ops)
	want := map[store.Key]string{}
	var keys []store.Key
	for i, op := range ops {
		keys = append(keys, op.Key, key("p", "missing"+numbered(i)))
		want[op.Key] = string(op.Value)
	}
	check := func(keys []store.Key, want map[store.Key]string) {
		t.Helper()
		found, err := store.GetMany(t.Context(), w.Store, keys...)
		if err != nil {
			t.Fatal(err)
		}
		got := map[store.Key]string{}
		for k, e := range found {
			if e.Key != k || e.Rev == "" {
				t.Fatalf("under %v: %v with revision %q", k, e.Key, e.Rev)
			}
			got[k] = string(e.Value)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
	}
	check(keys, want)
	check(nil, map[store.Key]string{})
	one := map[store.Key]string{keys[0]: want[keys[0]]}
	check([]store.Key{keys[0], keys[0], keys[1]}, one)

	// Large values: together more than one answer of a server holds.
	large := many("large", w.size(60, 48), store.MaxValue)
	w.fill(t, large)
	keys, want = nil, map[store.Key]string{}
	for _, op := range large {
		keys, want[op.Key] = append(keys, op.Key), string(op.Value)
	}
	check(keys, want)
}
