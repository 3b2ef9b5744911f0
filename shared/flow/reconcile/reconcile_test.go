package reconcile_test

import (
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/flow/reconcile"
	"sorrel/shared/platform"
)

// Whatever is changed, added, deleted and merged behind our back is found, nothing else is, by few calls, and once it is healed
// nothing is left to find.
func TestFindsAllAndInventsNone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.Bool().Draw(t, "ranges")
		o := platform.Object{Numeric: true, Census: platform.Grouped, Deleted: rapid.Bool().Draw(t, "tells deletions")}
		if ranges {
			o.Census = platform.Ranges
		} else if rapid.Bool().Draw(t, "sums") {
			o.Sum = platform.SumIDs
		}
		w := newWorld(t, o, ranges)
		full := rapid.Bool().Draw(t, "full")
		w.account.page = 10
		n := rapid.IntRange(0, 25).Draw(t, "records")
		old := func() time.Time { // long before what happens behind our back
			return noon.Add(-10*24*time.Hour - time.Duration(rapid.IntRange(0, 40*24*60*60).Draw(t, "age"))*time.Second)
		}
		for i := range n {
			w.tell(w.save(strconv.Itoa(i+1), fmt.Sprint("Customer ", i+1), old()))
		}
		w.hear()
		if ranges || rapid.Bool().Draw(t, "compared before") { // where counts are coarse, the first comparison sees less
			w.now = noon.Add(-9 * 24 * time.Hour)
			if r := w.run(reconcile.Wish{}); r.Sets[0].Found() != 0 || r.Sets[0].Equal != n {
				t.Fatalf("at first: %+v", r.Sets[0])
			}
			w.now = noon
		}
		want := map[string]reconcile.Kind{}
		touched := map[string]bool{}
		for range rapid.IntRange(0, 15).Draw(t, "hidden") {
			at := noon.Add(-3*time.Minute - time.Duration(rapid.IntRange(0, 6*24*60*60).Draw(t, "ago"))*time.Second)
			what := rapid.SampledFrom([]reconcile.Kind{reconcile.Changed, reconcile.Stale, reconcile.Missing, reconcile.Deleted, reconcile.Merged, reconcile.Extra, "young"}).Draw(t, "what")
			id := strconv.Itoa(rapid.IntRange(1, max(1, n)).Draw(t, "which"))
			if what == reconcile.Missing {
				id = strconv.Itoa(1000 + len(touched))
				w.save(id, "New "+id, at)
			} else if _, is := w.account.natives[id]; !is || touched[id] {
				continue
			}
			touched[id] = true
			switch what {
			case reconcile.Changed:
				w.save(id, "Other "+id, at)
			case reconcile.Stale:
				w.save(id, "Customer "+id, at)
			case reconcile.Deleted:
				w.bury(id, "", at)
			case reconcile.Merged:
				w.bury(id, "999", at)
			case reconcile.Extra:
				delete(w.account.natives, id)
			case "young":
				w.save(id, "Young "+id, noon.Add(-time.Minute))
				continue
			}
			want[id] = what
		}
		dry := w.run(reconcile.Wish{Full: full, DryRun: true})
		w.account.calls = 0
		r := w.run(reconcile.Wish{Full: full})
		s := r.Sets[0]
		if got := found(s); !maps.Equal(got, want) || s.Found() != len(want) || !maps.Equal(found(dry.Sets[0]), want) {
			t.Fatalf("found %v, dry %v, want %v\n%+v", got, found(dry.Sets[0]), want, s)
		}
		if s.Unexplained != 0 || s.Compared != s.Equal+len(want) || dry.Sets[0].Healed() != 0 {
			t.Fatalf("%+v", s)
		}
		extra := 0
		for _, k := range want {
			if k == reconcile.Extra {
				extra++
			}
		}
		if s.Healed() != len(want)-extra || s.Excepted() != extra {
			t.Fatalf("%d healed and %d excepted of %d, %d of them extra", s.Healed(), s.Excepted(), len(want), extra)
		}
		if most := 9 + len(want)*(4+map[bool]int{true: 8}[ranges]) + 16; !full && w.account.calls > most {
			t.Fatalf("%d calls, want at most %d: %v", w.account.calls, most, w.account.asked)
		}
		if s.Calls.Sum() != w.account.calls && !ranges {
			t.Fatalf("%+v are told, %d were made", s.Calls, w.account.calls)
		}
		w.hear()
		w.now = w.now.Add(time.Hour)
		for id := range w.account.natives { // the young ones have been heard of by now
			w.tell(w.account.natives[id])
		}
		w.hear()
		again := w.run(reconcile.Wish{Full: full})
		for id, k := range found(again.Sets[0]) {
			if k != reconcile.Extra || want[id] != k {
				t.Fatalf("%s is %s after healing\n%+v", id, k, again.Sets[0])
			}
		}
		if full && again.Sets[0].Roots.Hub != again.Sets[0].Roots.Platform && extra == 0 {
			t.Fatalf("roots differ where nothing does: %+v", again.Sets[0].Roots)
		}
	})
}

// What it costs where nothing differs does not depend on how many records there are.
func TestCallsWhereNothingDiffers(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]platform.Object{"grouped": grouped(), "ranges": {Census: platform.Ranges, Numeric: true, Deleted: true}} {
		w := newWorld(t, o, name == "ranges")
		for i := range 600 {
			w.tell(w.save(strconv.Itoa(i+1), fmt.Sprint("Customer ", i+1), noon.Add(-48*time.Hour-time.Duration(i)*10*time.Minute)))
		}
		w.hear()
		first := w.run(reconcile.Wish{})
		w.now = w.now.Add(24 * time.Hour)
		w.account.calls = 0
		r := w.run(reconcile.Wish{})
		if first.Sets[0].Found()+r.Sets[0].Found() != 0 || r.Sets[0].Equal != 600 {
			t.Errorf("%s: %+v", name, r.Sets[0])
		}
		if w.account.calls > 8 {
			t.Errorf("%s: %d calls: %v", name, w.account.calls, w.account.asked)
		}
	}
}

// A record that was heard of again meanwhile is none that differs.
func TestChangesUnderTheReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, grouped(), false)
	for i := range 200 {
		w.tell(w.save(strconv.Itoa(i+1), fmt.Sprint("Customer ", i+1), noon.Add(-48*time.Hour-time.Duration(i)*10*time.Minute)))
	}
	w.hear()
	w.save("7", "Seven", noon.Add(-3*time.Hour)) // behind our back
	n := 0
	w.account.before = func(string) error {
		n++
		id := strconv.Itoa(20 + n)
		w.now = w.now.Add(time.Second)
		told := w.save(id, fmt.Sprint("Again ", id), w.now)
		if n%2 == 0 { // the others are on their way
			w.tell(told)
			w.hear()
		}
		return nil
	}
	r := w.run(reconcile.Wish{})
	if got := found(r.Sets[0]); len(got) != 1 || got["7"] != reconcile.Changed {
		t.Errorf("found %v\n%+v", got, r.Sets[0])
	}
}
