package budget_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

func TestWithin(t *testing.T) {
	t.Parallel()
	end := time.Unix(60, 0)
	said := func() []budget.Reading {
		return []budget.Reading{{Limit: budget.Calls, Max: 700, Left: 650, Reset: end}, {Limit: "exports", Max: 10, Left: 9}, {Limit: budget.Calls, Max: 700, Left: 3}, {Limit: budget.Calls, Left: -1}}
	}
	if got := budget.Within(nil, said()); !slices.Equal(got, said()) {
		t.Errorf("nothing given: %+v", got)
	}
	want := []budget.Reading{{Limit: budget.Calls, Max: 100, Left: -1, Reset: end}, {Limit: "exports", Max: 10, Left: 9}, {Limit: budget.Calls, Max: 100, Left: 3}, {Limit: budget.Calls, Left: -1}}
	if got := budget.Within(map[string]int{budget.Calls: 100, "exports": 30}, said()); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	own := []budget.Limit{{Name: budget.Calls, Max: 200, Window: time.Minute}, {Name: "exports", Max: 10, Window: time.Minute}}
	got, err := budget.Set(own, map[string]int{"exports": 30})
	if err != nil || !slices.Equal(got, []budget.Limit{own[0], {Name: "exports", Max: 30, Window: time.Minute}}) || own[1].Max != 10 {
		t.Errorf("%v, %v; the vendor's %v", got, err, own)
	}
	if got, err = budget.Set(own, nil); err != nil || !slices.Equal(got, own) {
		t.Errorf("nothing given: %v, %v", got, err)
	}
	for name, n := range map[string]int{"call": 5, budget.Calls: 0, "exports": -1} {
		_, err := budget.Set(own, map[string]int{name: n})
		if e := fault.Outermost(err); !fault.Is(err, fault.Contract) || e.ID != name || !strings.Contains(e.Remedy, "calls, exports") {
			t.Errorf("%s: %d: %v", name, n, err)
		}
	}
}
