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

// Two processes that take a limit for greater than it is learn of it from their first answers, and stop at once.
func TestLowerThanThought(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC) }
	memory, made, rule := budget.NewMemory(), 0, budget.Reading{Limit: budget.Calls, Max: 20, Left: -1}
	rules := budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: budget.Unlimited, Window: time.Hour}}}
	for _, worker := range []string{"a", "b"} {
		gate := budget.NewShared(memory, budget.Options{Worker: worker, Now: now}).Gate("p", rules)
		for range 100 {
			if leave, err := gate.Enter(t.Context(), budget.Call{}); err == nil {
				made++
				leave(budget.Outcome{Readings: []budget.Reading{rule}})
			}
		}
	}
	if made < 15 || made > 20 {
		t.Errorf("%d calls, want about 18", made)
	}
}
