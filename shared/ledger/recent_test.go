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
		for _, at := range r.at {
			n += at.Value.(*remembered).bytes
		}
		if len(r.at) != r.order.Len() || n != r.bytes {
			t.Fatalf("%d bytes of %d states, counted as %d of %d", n, len(r.at), r.bytes, r.order.Len())
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

// What is asked for stays; what is not goes first, and no more of it than is needed.
func TestRecentForgetsTheOldest(t *testing.T) {
	t.Parallel()
	r := newRecent(1000)
	e := func(n int) store.Entry {
		return store.Entry{Key: stateKey(record.ID(fmt.Sprint("order-", n))), Value: make([]byte, 100), Rev: "1"}
	}
	for n := range 10 {
		r.put(e(n).Key, State{rev: "1"}, e(n).Value)
	}
	r.get(e(0))
	r.put(e(10).Key, State{rev: "1"}, e(10).Value)
	for n := range 11 {
		if _, found := r.get(e(n)); found != (n != 1) {
			t.Errorf("%d: found %t", n, found)
		}
	}
}
