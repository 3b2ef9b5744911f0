package budget_test

import (
	"testing"
	"time"

	"sorrel/shared/budget"
)

// said is an answer that says what is left of a minute.
func said(left int, reset time.Time) budget.Outcome {
	return budget.Outcome{Readings: []budget.Reading{{Limit: budget.Calls, Max: 200, Left: left, Reset: reset}}}
}

// burst enters until it is refused.
func burst(t *testing.T, g budget.Gate) (leaves []func(budget.Outcome)) {
	t.Helper()
	for {
		leave, ok := try(t, g, t.Context())
		if !ok {
			return leaves
		}
		leaves = append(leaves, leave)
	}
}

// Answers overtake each other, and those that say the least are the last that were given. Calls under way are in none.
func TestLeastReadingOfAWindow(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]int{
		"in order":   {49, 48, 47},
		"overtaking": {47, 49, 48},
		"backwards":  {47, 48, 49},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk := newClock()
			g := worker(&item{}, clk, "a", perMinute(200))
			end := clk.now().Add(time.Minute)
			var underWay []func(budget.Outcome)
			for range 13 {
				leave, ok := try(t, g, t.Context())
				if !ok {
					t.Fatal("refused before anything is known")
				}
				underWay = append(underWay, leave)
			}
			clk.advance(time.Second)
			for i, left := range answers { // 150 are used by others, and ten calls are still under way
				underWay[i](said(left, end))
			}
			// A tenth of the 200 is for lookups: 27 of the 47 left may be called, ten of which are under way.
			if n := len(burst(t, g)); n > 17 || n < 10 {
				t.Errorf("%d more calls, want at most 17", n)
			}
		})
	}
}

// Two workers hear of others by turns. Neither takes what the other has been given for its own.
func TestReadingIsNotForOneWorker(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	a, b := worker(m, clk, "a", perMinute(200)), worker(m, clk, "b", perMinute(200))
	end := clk.now().Add(time.Minute)
	made := 0
	call := func(g budget.Gate) bool {
		leave, ok := try(t, g, t.Context())
		if ok {
			made++
			clk.advance(10 * time.Millisecond)
			leave(said(max(0, 50-made), end))
		}
		return ok
	}
	for more := true; more; {
		x, y := call(a), call(b)
		more = x || y
	}
	if made > 50 || made < 20 {
		t.Errorf("%d calls, and others have left 50", made)
	}
}

// What a reading leaves holds until its window ends, though our own calls of the window before stop to count.
func TestReadingHoldsUntilTheWindowEnds(t *testing.T) {
	t.Parallel()
	clk := newClock()
	g := worker(&item{}, clk, "a", perMinute(200))
	for range 120 {
		leave, ok := try(t, g, t.Context())
		if !ok {
			t.Fatal("refused")
		}
		leave(budget.Outcome{})
	}
	clk.advance(45 * time.Second) // a new window of the vendor's, of which others use 150
	end := clk.now().Add(time.Minute)
	leave, ok := try(t, g, t.Context())
	if !ok {
		t.Fatal("refused")
	}
	leave(said(49, end))
	clk.advance(25 * time.Second) // the first calls count no more
	if n := len(burst(t, g)); n > 29 || n < 20 {
		t.Errorf("%d calls, want at most 29 of the 49 left", n)
	}
	clk.advance(40 * time.Second)
	if _, ok := try(t, g, t.Context()); !ok {
		t.Error("refused in the next window")
	}
}

// Live work takes all that it may, and what is less urgent still makes some calls.
func TestTrickle(t *testing.T) {
	t.Parallel()
	for _, most := range []int{10, 200} {
		clk, m := newClock(), &item{}
		live, other := worker(m, clk, "live", perMinute(most)), worker(m, clk, "other", perMinute(most))
		got := map[budget.Class]int{}
		for range 24 * 20 {
			for {
				leave, ok := try(t, live, t.Context())
				if !ok {
					break
				}
				got[budget.Live]++
				leave(budget.Outcome{})
			}
			for _, class := range []budget.Class{budget.Reconcile, budget.Replay} {
				if leave, ok := try(t, other, budget.For(t.Context(), budget.Purpose{Class: class})); ok {
					got[class]++
					leave(budget.Outcome{})
				}
			}
			if leave, ok := try(t, other, budget.For(t.Context(), budget.Purpose{Class: budget.Lookup})); ok {
				got[budget.Lookup]++
				leave(budget.Outcome{})
			}
			clk.advance(3 * time.Second)
		}
		t.Logf("of %d a minute, in 24 minutes: %v", most, got)
		if got[budget.Replay] < most/3 || got[budget.Reconcile] < most/3 || got[budget.Lookup] < min(6*most, 400) || got[budget.Lookup]+got[budget.Live] < 18*most {
			t.Errorf("of %d a minute, in 24 minutes: %v", most, got)
		}
	}
}

// While the store does not answer, a worker keeps by itself to what a reading leaves, less its calls under way and what
// the others were given.
func TestReadingWithoutTheStore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ others, underWay, left, most int }{
		"under way": {0, 9, 9, 0},
		"others":    {1, 0, 30, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk, m := newClock(), &item{}
			for range tt.others { // is given twenty
				if leave, ok := try(t, worker(m, clk, "b", perMinute(200)), t.Context()); ok {
					leave(budget.Outcome{})
				}
			}
			g := worker(m, clk, "a", perMinute(200))
			first, ok := try(t, g, t.Context())
			for range tt.underWay {
				_, more := try(t, g, t.Context())
				ok = ok && more
			}
			if !ok {
				t.Fatal("refused before anything is known")
			}
			m.down = true
			first(said(tt.left, clk.now().Add(time.Minute)))
			if n := len(burst(t, g)); n > tt.most {
				t.Errorf("%d more calls, want at most %d", n, tt.most)
			}
		})
	}
}
