// Package storetest is the conformance suite of the store contract, and a wrapper that makes any store fail on
// purpose. Every adapter runs the suite; domain tests use the wrapper.
//
// A test hands Run a Harness:
//
//	storetest.Run(t, storetest.Harness{New: func(t *testing.T, now func() time.Time) store.Store {
//		return store.NewMemory(now)
//	}})
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// Harness is what the suite needs to know about one adapter.
type Harness struct {
	// New returns an empty store that judges expiry by now, and registers its clean-up with t. Each test calls
	// it once, several tests at the same time.
	New func(t *testing.T, now func() time.Time) store.Store
	// Slow shrinks the sizes, for stores where each commit costs milliseconds.
	Slow bool
	// LoseAnswer makes s apply the next Commit and lose the answer on the way back, before the adapter sees
	// it. Nil where nothing can be lost between adapter and storage.
	LoseAnswer func(t *testing.T, s store.Store)
}

// Run runs the whole suite; each part is a subtest of its own.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"OneWinner", testOneWinner},
		{"Transfers", testTransfers},
		{"NothingWrittenOnConflict", testNothingWrittenOnConflict},
		{"Preconditions", testPreconditions},
		{"Checks", testChecks},
		{"Revisions", testRevisions},
		{"LostAnswer", testLostAnswer},
		{"Aliasing", testAliasing},
		{"Order", testOrder},
		{"Partitions", testPartitions},
		{"RangeBounds", testRangeBounds},
		{"Paging", testPaging},
		{"DeleteDuringRange", testDeleteDuringRange},
		{"CommitDuringRange", testCommitDuringRange},
		{"EarlyBreak", testEarlyBreak},
		{"Limits", testLimits},
		{"LargestCommit", testLargestCommit},
		{"Cancelled", testCancelled},
		{"Expiry", testExpiry},
		{"ExpiryPreconditions", testExpiryPreconditions},
		{"GetMany", testGetMany},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			c.test(t, &world{Store: h.New(t, clock.now), clock: clock, harness: h})
		})
	}
}

// world is one fresh store and the clock that it judges by.
type world struct {
	store.Store
	clock   *clock
	harness Harness
}

// size picks by the speed of the store.
func (w *world) size(normal, slow int) int {
	if w.harness.Slow {
		return slow
	}
	return normal
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func key(part, sort string) store.Key { return store.Key{Part: part, Sort: sort} }

func put(k store.Key, value string) store.Op {
	return store.Op{Kind: store.Put, Key: k, Value: []byte(value)}
}

func putAbsent(k store.Key, value string) store.Op {
	op := put(k, value)
	op.Absent = true
	return op
}

func putIf(k store.Key, rev store.Rev, value string) store.Op {
	op := put(k, value)
	op.IfRev = rev
	return op
}

func putUntil(k store.Key, value string, expires time.Time) store.Op {
	op := put(k, value)
	op.Expires = expires
	return op
}

func del(k store.Key) store.Op { return store.Op{Kind: store.Delete, Key: k} }

// commit tries again while the store is busy, as any caller must; other errors are the caller's to judge.
func (w *world) commit(ctx context.Context, ops ...store.Op) error {
	const attempts = 200
	for i := 1; ; i++ {
		err := w.Commit(ctx, ops...)
		if !fault.Is(err, fault.Throttled) || i == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(min(i, 10)) * time.Millisecond):
		}
	}
}

func (w *world) mustCommit(t *testing.T, ops ...store.Op) {
	t.Helper()
	if err := w.commit(t.Context(), ops...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func (w *world) mustGet(t *testing.T, k store.Key) store.Entry {
	t.Helper()
	e, err := w.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("get %v: %v", k, err)
	}
	if e.Key != k || e.Rev == "" {
		t.Fatalf("get %v: entry of %v with revision %q", k, e.Key, e.Rev)
	}
	return e
}

func (w *world) wantValue(t *testing.T, k store.Key, want string) {
	t.Helper()
	if e := w.mustGet(t, k); string(e.Value) != want {
		t.Fatalf("get %v: value %.80q, want %.80q", k, e.Value, want)
	}
}

func (w *world) wantMissing(t *testing.T, k store.Key) {
	t.Helper()
	if e, err := w.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get %v: entry %+v, error %v; want ErrNotFound", k, e, err)
	}
}

// wantConflict asserts that the commit is refused for exactly the keys want.
func (w *world) wantConflict(t *testing.T, want []store.Key, ops ...store.Op) {
	t.Helper()
	err := w.commit(t.Context(), ops...)
	var c *store.ConflictError
	if !errors.As(err, &c) {
		t.Fatalf("commit: %v; want a ConflictError for %v", err, want)
	}
	for _, k := range want {
		if !slices.Contains(c.Keys, k) {
			t.Fatalf("conflict names %v; want %v among them", c.Keys, want)
		}
	}
	// An adapter that can not tell may name all conditional keys, but never an unconditional one.
	for _, op := range ops {
		if !op.Absent && op.IfRev == "" && slices.Contains(c.Keys, op.Key) {
			t.Fatalf("conflict names %v, which has no precondition", op.Key)
		}
	}
}

// sorts collects one Range, and checks that every entry is what Get says as far as key and order go.
func (w *world) sorts(t *testing.T, part, from, to string) []string {
	t.Helper()
	var out []string
	for e, err := range w.Range(t.Context(), part, from, to) {
		if err != nil {
			t.Fatalf("range %q [%q,%q): %v", part, from, to, err)
		}
		if e.Part != part {
			t.Fatalf("range %q [%q,%q): entry of partition %q", part, from, to, e.Part)
		}
		if e.Rev == "" {
			t.Fatalf("range %q [%q,%q): entry %q without revision", part, from, to, e.Sort)
		}
		out = append(out, e.Sort)
	}
	return out
}

func (w *world) wantSorts(t *testing.T, part, from, to string, want ...string) {
	t.Helper()
	if got := w.sorts(t, part, from, to); !slices.Equal(got, want) {
		t.Fatalf("range %q [%q,%q): %q, want %q", part, from, to, got, want)
	}
}

// fill commits the entries in as few commits as the limits allow.
func (w *world) fill(t *testing.T, ops []store.Op) {
	t.Helper()
	var group []store.Op
	size := 0
	for _, op := range ops {
		if len(group) == store.MaxOps || size+len(op.Value) > store.MaxBatchSize {
			w.mustCommit(t, group...)
			group, size = nil, 0
		}
		group = append(group, op)
		size += len(op.Value)
	}
	if len(group) > 0 {
		w.mustCommit(t, group...)
	}
}

func numbered(n int) string { return fmt.Sprintf("%06d", n) }
