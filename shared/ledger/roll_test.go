package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/record"
	"sorrel/shared/store"
)

func rollOf(t *testing.T, l *Ledger, platform, object, after string) []Rolled {
	t.Helper()
	var out []Rolled
	for r, err := range l.Roll(t.Context(), platform, object, after) {
		check(t, err)
		out = append(out, r)
	}
	return out
}

func TestRollFollowsCommits(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	id := open(t, l, order7).State.Record.ID
	at := func(second int) record.Version {
		return record.Version{At: epoch.Add(time.Duration(second) * time.Second)}
	}
	want := func(why string, lines ...Rolled) {
		t.Helper()
		got := rollOf(t, l, "netsuite", "salesOrder", "")
		if !slices.EqualFunc(got, lines, func(a, b Rolled) bool {
			return a.ID == b.ID && a.Record == b.Record && a.Version.Compare(b.Version) == 0
		}) {
			t.Fatalf("%s: the roll is %v, want %v", why, got, lines)
		}
	}
	want("first heard", Rolled{ID: "7", Record: id, Version: at(1)})
	check(t, l.Commit(t.Context(), said(t, l, order7, "closed", 2, "t1")))
	want("heard again", Rolled{ID: "7", Record: id, Version: at(2)})
	change := func(change func(*record.View)) {
		t.Helper()
		s := open(t, l, order7).State
		after := s.Clone()
		v := after.Record.Views["netsuite"]
		change(&v)
		after.Record.Views["netsuite"] = v
		check(t, l.Commit(t.Context(), Entry{Before: s, After: after}))
	}
	change(func(v *record.View) {
		v.Wrote = map[string]record.Wrote{"status": {Value: record.TextValue("x"), Base: at(3), Told: true}}
	})
	want("the version of a write is not heard: something else may have been set before it", Rolled{ID: "7", Record: id, Version: at(2)})
	change(func(v *record.View) { v.Died = at(4) })
	want("it died")
	change(func(v *record.View) { v.Born = at(5); v.Heard = at(5) })
	want("it lives again", Rolled{ID: "7", Record: id, Version: at(5)})
	check(t, l.Enrol(t.Context(), order7, id, at(6)))
	want("modified in nothing of concern", Rolled{ID: "7", Record: id, Version: at(6)})
	check(t, l.Strike(t.Context(), order7))
	want("struck")
	_, n, more, err := l.Reroll(t.Context(), LogMark{}, 10)
	if err != nil || n != 1 || more {
		t.Errorf("rerolled %d records, more %t, %v", n, more, err)
	}
	want("rolled anew", Rolled{ID: "7", Record: id, Version: at(5)})
	found, err := l.Enrolled(t.Context(), order7, record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "8"})
	if err != nil || len(found) != 1 || found[order7].Record != id {
		t.Errorf("looked up %v, %v", found, err)
	}
}

// A merge of records moves lines in one commit, in whatever order its entries come.
func TestRollFollowsMerges(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		l, _ := metered()
		zd := record.Ref{Platform: "zendesk", Object: "organization", ID: "9"}
		check(t, l.Commit(t.Context(), said(t, l, order7, "a", 1, "t")))
		e := said(t, l, zd, "b", 1, "t")
		check(t, l.Commit(t.Context(), e))
		a, b := open(t, l, order7).State, open(t, l, zd).State
		into, from := a.Clone(), b.Clone()
		into.Record.Views["zendesk"] = b.Record.Views["zendesk"]
		delete(from.Record.Views, "zendesk")
		entries := []Entry{{Before: a, After: into}, {Before: b, After: from}}
		if first {
			slices.Reverse(entries)
		}
		check(t, l.Commit(t.Context(), entries...))
		if got := rollOf(t, l, "zendesk", "organization", ""); len(got) != 1 || got[0].Record != a.Record.ID {
			t.Errorf("the roll is %v", got)
		}
	}
}

func TestReroll(t *testing.T) {
	t.Parallel()
	l, m := metered()
	for i := range 25 {
		check(t, l.Commit(t.Context(), said(t, l, record.Ref{Platform: "netsuite", Object: "salesOrder", ID: strconv.Itoa(i)}, "a", 1, "t")))
	}
	want := rollOf(t, l, "netsuite", "salesOrder", "")
	for _, r := range want {
		check(t, l.Strike(t.Context(), record.Ref{Platform: "netsuite", Object: "salesOrder", ID: r.ID}))
	}
	again := New(m.Store, clock)
	var at LogMark
	done := 0
	for more := true; more; {
		var n int
		var err error
		at, n, more, err = again.Reroll(t.Context(), at, 7)
		check(t, err)
		done += n
	}
	if got := rollOf(t, l, "netsuite", "salesOrder", ""); done != 25 || !slices.EqualFunc(got, want, func(a, b Rolled) bool { return a.ID == b.ID && a.Record == b.Record && a.Version == b.Version }) {
		t.Errorf("%d records, roll of %d lines, want 25 and %d", done, len(got), len(want))
	}
}

func TestRollOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := New(store.NewMemory(clock), clock)
		numeric := rapid.Bool().Draw(t, "numeric")
		id := rapid.OneOf(rapid.StringMatching(`[0-9A-Za-z\x00-\x03é]{1,20}`), rapid.StringMatching(`0[0-9]{1,3}`), rapid.StringMatching(`[0-9]{19,32}`))
		if numeric {
			id = rapid.Map(rapid.Uint64Max(999_999_999_999_999_999), func(n uint64) string { return strconv.FormatUint(n, 10) })
		}
		ids := map[string]bool{}
		for _, x := range rapid.SliceOfN(id, 1, 60).Draw(t, "ids") {
			ids[x] = true
		}
		for x := range ids {
			if err := l.Enrol(t.Context(), record.Ref{Platform: "p", Object: "o", ID: x}, "order/1", record.Version{At: epoch, Seq: int64(len(x))}); err != nil {
				t.Fatal(err)
			}
		}
		want := slices.Collect(maps.Keys(ids))
		if numeric {
			slices.SortFunc(want, func(a, b string) int { return strings.Compare(fmt.Sprintf("%020s", a), fmt.Sprintf("%020s", b)) })
		} else {
			slices.SortFunc(want, CompareIDs)
		}
		var got []string
		for r, err := range l.Roll(t.Context(), "p", "o", "") {
			if err != nil {
				t.Fatal(err)
			}
			if r.Version.Seq != int64(len(r.ID)) || !r.Version.At.Equal(epoch) {
				t.Fatalf("%q reads as %+v", r.ID, r)
			}
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("the roll lists %q, want %q", got, want)
		}
		n := rapid.IntRange(0, len(want)-1).Draw(t, "after")
		rest := 0
		for r, err := range l.Roll(t.Context(), "p", "o", want[n]) {
			if err != nil || r.ID != want[n+1+rest] {
				t.Fatalf("after %q comes %q, %v", want[n], r.ID, err)
			}
			rest++
		}
		if rest != len(want)-n-1 {
			t.Fatalf("after %q come %d, want %d", want[n], rest, len(want)-n-1)
		}
	})
}

func FuzzReadRolled(f *testing.F) {
	f.Add("n017", "customer/a 1 2")
	f.Add("tab", "customer/a")
	f.Add("x", "")
	f.Fuzz(func(t *testing.T, sort, value string) {
		r, err := readRolled(store.Entry{Key: store.Key{Part: "p", Sort: sort}, Value: []byte(value)})
		if err != nil {
			return
		}
		again, err := readRolled(store.Entry{Key: store.Key{Part: "p", Sort: rollSort(r.ID)}, Value: rollValue(r.Record, r.Version)})
		if err != nil || again.ID != r.ID || again.Record != r.Record || again.Version.Compare(r.Version) != 0 && !r.Version.IsZero() {
			t.Errorf("%+v reads back as %+v, %v", r, again, err)
		}
	})
}
