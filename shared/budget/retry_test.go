package budget_test

import (
	"testing"
	"time"

	"sorrel/shared/budget"
)

// Where the vendor's own count leaves nothing for a class, there is no use in asking every second of a long window.
func TestRetryWaitsForTheWindow(t *testing.T) {
	t.Parallel()
	day := budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: 1000, Window: 24 * time.Hour}}, Hold: 15 * time.Second, Pause: time.Second}
	at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	want := map[string]budget.Demand{budget.Calls: {budget.Purpose{}: 5}}
	read := func(left int) budget.Share {
		s, _ := budget.State{Limits: map[string]*budget.Counter{}, Workers: map[string]*budget.Worker{}}.Turn(budget.Ask{Worker: "a", Rules: day, Want: want}, at)
		said := budget.Said{Reading: budget.Reading{Limit: budget.Calls, Max: 1000, Left: left}, At: at.Add(time.Second)}
		_, grant := s.Turn(budget.Ask{Worker: "a", Rules: day, Want: want, Readings: []budget.Said{said}}, at.Add(time.Second))
		return grant.Shares[budget.Calls]
	}
	if sh := read(500); sh.Upto != 5 {
		t.Errorf("with 500 left: %+v", sh)
	}
	for _, left := range []int{0, 50} { // the last tenth is for lookups
		if sh := read(left); sh.Upto != 0 || sh.Retry.Before(at.Add(time.Hour)) || sh.Retry.After(at.Add(3*time.Hour)) {
			t.Errorf("with %d left: %+v", left, sh)
		}
	}
}

// Who takes a limit for greater than it is learns of it from the first answer, and stops at once.
func TestLowerThanThought(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC) }
	gate := budget.Local("p", budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: budget.Unlimited, Window: time.Hour}}}, budget.Options{Worker: "a", Now: now})
	var underWay []func(budget.Outcome)
	enter := func() {
		if leave, err := gate.Enter(t.Context(), budget.Call{}); err == nil {
			underWay = append(underWay, leave)
		}
	}
	for range 12 {
		enter()
	}
	if len(underWay) != 12 {
		t.Fatalf("%d calls of 12 before any answer", len(underWay))
	}
	underWay[0](budget.Outcome{Readings: []budget.Reading{{Limit: budget.Calls, Max: 20, Left: -1}}})
	for range 50 {
		enter()
	}
	if made := len(underWay); made != 18 {
		t.Errorf("%d calls, want 18 of 20", made)
	}
}
