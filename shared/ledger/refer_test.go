package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

var refers = []string{"customer", "payer"}

// pointing is an entry after which fields of a record refer to others: an empty id clears one.
func pointing(s State, to map[string]record.ID) Entry {
	after := s.Clone()
	after.Record.Golden = map[string]record.Golden{"status": {Value: record.TextValue("order/none")}} // no reference, whatever it looks like
	for field, id := range to {
		v := record.TextValue(string(id))
		if id == "" {
			v = record.NullValue()
		}
		after.Record.Golden[field] = record.Golden{Value: v}
	}
	return Entry{Before: s, After: after, Refers: refers}
}

func point(t *testing.T, l *Ledger, id record.ID, to map[string]record.ID) {
	t.Helper()
	check(t, l.Commit(t.Context(), pointing(load(t, l, id), to)))
}

func referring(t *testing.T, l *Ledger, id record.ID, entity string) []record.ID {
	t.Helper()
	var out []record.ID
	for r, err := range l.Referrers(t.Context(), id, entity) {
		check(t, err)
		out = append(out, r.Record)
	}
	slices.Sort(out)
	if entity == "" {
		s, err := l.Follow(t.Context(), id)
		check(t, err)
		var same []record.ID
		for id, err := range l.ReferringTo(t.Context(), s) {
			check(t, err)
			same = append(same, id)
		}
		if slices.Sort(same); !slices.Equal(same, out) {
			t.Errorf("%s: %q refer to it by its id, %q by its state", id, out, same)
		}
	}
	return out
}

func TestReferring(t *testing.T) {
	t.Parallel()
	l, m := metered()
	point(t, l, "order/a", map[string]record.ID{"customer": "customer/1", "payer": "customer/1"})
	point(t, l, "order/b", map[string]record.ID{"customer": "customer/1", "payer": "customer/2"})
	point(t, l, "orders/c", map[string]record.ID{"customer": "customer/1"})
	point(t, l, "order/d", map[string]record.ID{"customer": "customer/11"})
	for _, c := range []struct {
		of     record.ID
		entity string
		want   []record.ID
	}{
		{"customer/1", "order", []record.ID{"order/a", "order/b"}}, {"customer/1", "", []record.ID{"order/a", "order/b", "orders/c"}},
		{"customer/2", "order", []record.ID{"order/b"}}, {"customer/1", "invoice", nil}, {"customer/none", "", nil}, {"order/none", "", nil},
	} {
		if got := referring(t, l, c.of, c.entity); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q refer to it, want %q", c.of, got, c.want)
		}
	}
	point(t, l, "order/a", map[string]record.ID{"customer": "", "payer": "customer/1"})
	if n := m.count(store.Put, "referred") + m.count(store.Delete, "referred"); n != 0 {
		t.Errorf("%d pointers written although it refers to the same record as before", n)
	}
	point(t, l, "order/a", map[string]record.ID{"customer": ""})
	if got := referring(t, l, "customer/1", "order"); !slices.Equal(got, []record.ID{"order/b"}) {
		t.Errorf("after one refers to it no more: %q", got)
	}
	for r, err := range l.Referrers(t.Context(), "customer/2", "") {
		check(t, err)
		if r != (Referrer{"order/b", epoch}) {
			t.Errorf("since when: %+v", r)
		}
	}
	for range l.Referrers(t.Context(), "customer/1", "") {
		break // a reader may stop at any time
	}
}

func TestReferringTellsFaults(t *testing.T) {
	t.Parallel()
	f := &storetest.Faulty{Store: store.NewMemory(clock)}
	l := New(f, clock)
	point(t, l, "order/a", map[string]record.ID{"customer": "customer/1"})
	for n := range 2 {
		calls := 0
		f.Next = func(string, []store.Key) storetest.Fault {
			if calls++; calls == n+1 {
				return storetest.Throttle
			}
			return storetest.None
		}
		var got error
		for r, err := range l.Referrers(t.Context(), "customer/1", "") {
			if got = errors.Join(got, err); err == nil {
				t.Errorf("it lists %s", r.Record)
			}
		}
		if got == nil {
			t.Errorf("call %d fails, and nobody hears of it", n)
		}
	}
}

// TestReferringAlways: whatever becomes of records, those who refer to one are found by its id, by the ids of all that were
// merged into it, and by nothing else.
func TestReferringAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l, _ := metered()
		customers, orders := []record.ID{"customer/1", "customer/2", "customer/3", "customer/4"}, []record.ID{"order/a", "order/b", "order/c"}
		golden := map[record.ID]map[string]record.ID{} // what each says, or said before it was merged
		into := map[record.ID]record.ID{}
		end := func(id record.ID) record.ID {
			for into[id] != "" {
				id = into[id]
			}
			return id
		}
		for _, id := range append(slices.Clone(customers), orders...) {
			point(t, l, id, nil)
			golden[id] = map[string]record.ID{}
		}
		two := func(of []record.ID) (State, State) {
			a, b := rapid.SampledFrom(of).Draw(rt, "into"), rapid.SampledFrom(of).Draw(rt, "from")
			return load(t, l, a), load(t, l, b)
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			of := rapid.SampledFrom([][]record.ID{customers, orders}).Draw(rt, "of")
			switch rapid.SampledFrom([]string{"point", "point", "unite", "divide"}).Draw(rt, "do") {
			case "point":
				id := rapid.SampledFrom(orders).Draw(rt, "order")
				if into[id] != "" {
					continue
				}
				to := map[string]record.ID{}
				for _, field := range refers {
					to[field] = rapid.SampledFrom(append(slices.Clone(customers), "")).Draw(rt, field)
				}
				point(t, l, id, to)
				golden[id] = to
			case "unite":
				a, b := two(of)
				x, y, done := record.Unite(a.Record, b.Record)
				if !done {
					continue
				}
				y.Golden = nil // as folding it does
				u, v := Entry{Before: a, After: a.Clone(), Refers: refers}, Entry{Before: b, After: b.Clone(), Refers: refers}
				u.After.Record, v.After.Record = x, y
				check(t, l.Commit(t.Context(), u, v))
				into[y.ID] = x.ID
			case "divide":
				a, b := two(of)
				if into[b.Record.ID] != a.Record.ID {
					continue
				}
				x, y := record.Divide(a.Record, b.Record)
				u := Entry{Before: a, After: a.Clone(), Refers: refers}
				u.After.Record = x
				v := pointing(b, golden[y.ID])
				v.After.Record.Into, v.After.Record.Apart = "", y.Apart
				check(t, l.Commit(t.Context(), u, v))
				delete(into, y.ID)
			}
		}
		for _, id := range customers {
			want := map[record.ID]bool{}
			for _, from := range orders {
				for _, to := range golden[from] {
					if into[from] == "" && to != "" && end(to) == end(id) {
						want[from] = true
					}
				}
			}
			if got := referring(t, l, id, ""); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
				rt.Fatalf("%s: %q refer to it, want %q; merged: %v", id, got, slices.Sorted(maps.Keys(want)), into)
			}
		}
	})
}

// TestReferringReadsWhatItLists: who lists 20 of 1000 pays for a page, not for loading anybody.
func TestReferringReadsWhatItLists(t *testing.T) {
	t.Parallel()
	l, m := metered()
	for i := range 1000 {
		e := pointing(State{Record: record.Record{ID: record.ID(fmt.Sprintf("order/%d", i))}}, map[string]record.ID{"customer": "customer/1"})
		e.Now = epoch.Add(time.Duration(i) * time.Minute)
		check(t, l.Commit(t.Context(), e))
	}
	m.take()
	n := 0
	for _, err := range l.Referrers(t.Context(), "customer/1", "order") {
		check(t, err)
		if n++; n == 20 {
			break
		}
	}
	if requests, reads, _ := m.take(); requests != 2 || reads > 2 {
		t.Errorf("%d requests of %v units", requests, reads)
	}
}
