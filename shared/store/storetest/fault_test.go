package storetest_test

import (
	"errors"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// Without faults the wrapper is a store like any other.
func TestFaultyConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{Slow: true, New: func(_ *testing.T, now func() time.Time) store.Store {
		return &storetest.Faulty{Store: store.NewMemory(now)}
	}})
}

func TestFaulty(t *testing.T) {
	t.Parallel()
	k := store.Key{Part: "p", Sort: "s"}
	put := func(v string) store.Op { return store.Op{Kind: store.Put, Key: k, Value: []byte(v)} }
	for _, c := range []struct {
		name   string
		fault  storetest.Fault
		commit fault.Class // "" = success
		value  string      // what the store holds after committing "2" over "1"
		read   fault.Class
		reads  string // what a faulty read returns when value is there
		ranged fault.Class
		yields int // entries of the two in the partition
	}{
		{"none", storetest.None, "", "2", "", "2", "", 2},
		{"fail before", storetest.FailBefore, fault.Down, "1", fault.Down, "", fault.Down, 0},
		{"fail after", storetest.FailAfter, fault.Unknown, "2", fault.Down, "", fault.Down, 1},
		{"throttle", storetest.Throttle, fault.Throttled, "1", fault.Throttled, "", fault.Throttled, 0},
		{"stale", storetest.Stale, "", "2", "", "1", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			armed := false
			f := &storetest.Faulty{Store: store.NewMemory(time.Now), Next: func(_ string, keys []store.Key) storetest.Fault {
				if len(keys) == 0 || keys[0].Part != "p" {
					t.Errorf("asked about %v", keys)
				}
				if armed {
					return c.fault
				}
				return storetest.None
			}}
			classed := func(what string, err error, want fault.Class) {
				t.Helper()
				if want == "" && err != nil || want != "" && !fault.Is(err, want) {
					t.Errorf("%s: %v; want class %q", what, err, want)
				}
			}
			classed("setup", f.Commit(t.Context(), put("1"), store.Op{Kind: store.Put, Key: store.Key{Part: "p", Sort: "t"}}), "")
			armed = true
			classed("commit", f.Commit(t.Context(), put("2")), c.commit)
			if e, err := f.Store.Get(t.Context(), k); err != nil || string(e.Value) != c.value {
				t.Errorf("the store holds %q, %v; want %q", e.Value, err, c.value)
			}
			e, err := f.Get(t.Context(), k)
			classed("get", err, c.read)
			if err == nil && string(e.Value) != c.reads {
				t.Errorf("get: %q, want %q", e.Value, c.reads)
			}
			many, err := f.GetMany(t.Context(), k)
			classed("get many", err, c.read)
			if err == nil && (len(many) != 1 || string(many[0].Value) != c.reads) {
				t.Errorf("get many: %v, want %q", many, c.reads)
			}
			yields := 0
			err = nil
			for _, e := range f.Range(t.Context(), "p", "", "") {
				if err = e; err == nil {
					yields++
				}
			}
			classed("range", err, c.ranged)
			if yields != c.yields {
				t.Errorf("range yielded %d, want %d", yields, c.yields)
			}
		})
	}
}

// Stale knows absence too: before its first commit, a key was not there; after a deletion it was.
func TestFaultyStaleAbsence(t *testing.T) {
	t.Parallel()
	k := store.Key{Part: "p", Sort: "s"}
	f := &storetest.Faulty{Store: store.NewMemory(time.Now), Next: func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpGet {
			return storetest.Stale
		}
		return storetest.None
	}}
	if err := f.Commit(t.Context(), store.Op{Kind: store.Put, Key: k, Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v; want ErrNotFound", err)
	}
	if err := f.Commit(t.Context(), store.Op{Kind: store.Delete, Key: k}); err != nil {
		t.Fatal(err)
	}
	if e, err := f.Get(t.Context(), k); err != nil || string(e.Value) != "1" {
		t.Errorf("get: %q, %v; want the deleted value", e.Value, err)
	}
}
