package boltstore

import (
	"bytes"
	"strings"
	"testing"

	"sorrel/shared/store"
)

// FuzzKey checks that encoded keys of one partition sort as their sorts do, and that a Range of one partition holds
// exactly its own keys.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"a", "a\x00", "a\x00\x01", "a\x00\xff", "\x00", "\xff", "a/b"} {
		f.Add(s, "s", "a", "\x01s")
		f.Add("a", s, s, "t")
	}
	f.Fuzz(func(t *testing.T, part1, sort1, part2, sort2 string) {
		a := encodeKey(store.Key{Part: part1, Sort: sort1})
		b := encodeKey(store.Key{Part: part2, Sort: sort2})
		if got, want := bytes.Equal(a, b), part1 == part2 && sort1 == sort2; got != want {
			t.Fatalf("equal %v, want %v", got, want)
		}
		if part1 == part2 && bytes.Compare(a, b) != strings.Compare(sort1, sort2) {
			t.Fatalf("order of %q and %q is lost", sort1, sort2)
		}
		lo, hi := bounds(part1, "", "")
		for part, k := range map[string][]byte{part1: a, part2: b} {
			inside := bytes.Compare(lo, k) <= 0 && bytes.Compare(k, hi) < 0
			if inside != (part == part1) && part1 != part2 {
				t.Fatalf("key of part %q inside the range of part %q: %v", part, part1, inside)
			}
		}
		lo, hi = bounds(part1, sort1, sort2)
		if inside := bytes.Compare(lo, a) <= 0 && bytes.Compare(a, hi) < 0; inside != (sort2 == "" || sort1 < sort2) {
			t.Fatalf("[%q,%q) holds its lower bound: %v", sort1, sort2, inside)
		}
	})
}
