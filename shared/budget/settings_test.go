package budget_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

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
