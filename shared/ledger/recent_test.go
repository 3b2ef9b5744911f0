package ledger

import (
	"fmt"
	"testing"

	"sorrel/shared/record"
	"sorrel/shared/store"
)

// What is remembered is bounded by bytes, whether records are small, large or set again and again, and the newest is there.
func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecent(1000)
	held := func() (n int) {
		for _, half := range []map[store.Key]remembered{r.new, r.old} {
			for _, s := range half {
				n += s.bytes
			}
		}
		return n
	}
	for n := range 500 {
		size := 1 + n*7919%600
		e := store.Entry{Key: stateKey(record.ID(fmt.Sprint("order-", n%50))), Value: make([]byte, size), Rev: store.Rev(fmt.Sprint(n))}
		r.put(e.Key, State{rev: e.Rev}, e.Value)
		if held() > 1000 {
			t.Fatalf("%d bytes after %d states, want at most 1,000", held(), n+1)
		}
		if _, found := r.get(e); found != (size <= 500) {
			t.Fatalf("a state of %d bytes: found %t", size, found)
		}
		if e.Rev = "another"; size <= 500 {
			if _, found := r.get(e); found {
				t.Fatal("another revision was taken for it")
			}
		}
	}
}
