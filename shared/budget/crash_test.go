package budget_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

// over is when all that crashed workers held is free: no call starts after the lease, and none lasts beyond Rules.Hold.
func over(r budget.Rules, lease time.Duration) time.Duration { return lease + r.Hold + budget.Margin }

// grab makes calls until there is no room, and says how many there was room for.
func grab(ctx context.Context, g *budget.Guard, clk *clock, most int) int {
	for n := range most {
		if _, err := g.Enter(budget.For(ctx, budget.Purpose{Class: budget.Lookup}), budget.Call{}); err != nil {
			return n
		}
		if n%50 == 49 { // a lease gives some at a time
			clk.advance(10 * time.Millisecond)
		}
	}
	return most
}

// All workers crash at some moment, with calls under way or not. A lease later, and the time that a call takes, there is
// as much room as if they had never been: of calls at once all of it, where there is plenty that 5 % lacks until a calm
// lease is over; of calls in a window what the vendor says is left, as soon as it has said so.
func TestCrashOfAllHolders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clk, m := newClock(), &item{}
		most := rapid.SampledFrom([]int{1, 2, 5, 30, 100}).Draw(t, "max")
		r := budget.Rules{Hold: time.Duration(rapid.IntRange(1, 15).Draw(t, "hold")) * time.Second, Limits: []budget.Limit{{Name: budget.Calls, Max: most}}}
		counts := rapid.Bool().Draw(t, "counted")
		if counts {
			r.Limits[0].Window = 24 * time.Hour
		}
		made := 0
		answer := func() budget.Outcome {
			if !counts {
				return budget.Outcome{}
			}
			return budget.Outcome{Readings: []budget.Reading{{Limit: budget.Calls, Max: most, Left: max(0, most-made)}}}
		}
		var guards []*budget.Guard
		for i := range rapid.IntRange(1, 4).Draw(t, "workers") {
			guards = append(guards, worker(m, clk, fmt.Sprint("w", i), r))
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			leave, err := guards[rapid.IntRange(0, len(guards)-1).Draw(t, "worker")].Enter(t.Context(), budget.Call{})
			if err == nil {
				made++
			}
			clk.advance(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			if err == nil && rapid.Bool().Draw(t, "answered") {
				leave(answer())
			}
		}
		crash := clk.now()
		clk.advance(over(r, budget.Lease) + time.Millisecond)
		heir := worker(m, clk, "heir", r)
		if counts {
			leave, err := heir.Enter(budget.For(t.Context(), budget.Purpose{Class: budget.Lookup}), budget.Call{})
			if made+1 > most/2 && err != nil {
				t.Skip("nothing is left that an answer could come from")
			} else if err != nil {
				t.Fatalf("%d of %d calls made, and refused: %v", made, most, err)
			}
			made++
			clk.advance(over(r, budget.Calm)) // of a lease where there is plenty
			leave(budget.Outcome{})
			if leave, err = heir.Enter(budget.For(t.Context(), budget.Purpose{Class: budget.Lookup}), budget.Call{}); err != nil {
				t.Skip("as above")
			}
			made++
			leave(answer())
			clk.advance(budget.Fresh)
			if got := grab(t.Context(), heir, clk, most); got < most-made {
				t.Fatalf("room for %d calls, want %d", got, most-made)
			}
			return
		}
		if got := grab(t.Context(), heir, clk, most); got < most-most/20 {
			t.Fatalf("room for %d calls %s after the crash, want %d", got, clk.now().Sub(crash), most-most/20)
		}
	})
}

// A process that is killed and started again at once goes on at once: with one call beside those of its predecessors that
// may still be under way, and with all when they must have ended. Elsewhere a worker waits for the end of the lease.
func TestRestartInItsPlace(t *testing.T) {
	t.Parallel()
	clk, m, r := newClock(), &item{}, atOnce(5)
	at := func(id, place string) *budget.Guard {
		g := budget.NewShared(m, budget.Options{Worker: id, Place: place, Now: clk.now}).Gate("acme")
		g.Keep(r)
		return g
	}
	if got := grab(t.Context(), at("first", "here"), clk, 10); got != 5 {
		t.Fatalf("room for %d", got)
	}
	if _, ok := try(t, at("stranger", ""), t.Context()); ok {
		t.Fatal("somebody else takes what may be under way")
	}
	for n := range 5 { // killed again and again
		clk.advance(300 * time.Millisecond)
		if got := grab(t.Context(), at(fmt.Sprint("heir ", n), "here"), clk, 10); got != 1 {
			t.Fatalf("life %d: room for %d, want 1", n, got)
		}
	}
	clk.advance(over(r, 0))
	if got := grab(t.Context(), at("last", "here"), clk, 10); got != 5 {
		t.Fatalf("room for %d, want 5", got)
	}
}

// Who was to find out whether a platform is back is dead: whoever follows it does.
func TestProbeOfTheDead(t *testing.T) {
	t.Parallel()
	clk, m := newClock(), &item{}
	at := func(id string) *budget.Guard {
		g := budget.NewShared(m, budget.Options{Worker: id, Place: "here", Trip: 1, Now: clk.now}).Gate("acme")
		g.Keep(atOnce(5))
		return g
	}
	first := at("first")
	leave, ok := try(t, first, t.Context())
	if !ok {
		t.Fatal("refused")
	}
	leave(budget.Outcome{Err: fault.New(fault.Down, "op", "503"), Silent: true})
	clk.advance(2 * time.Second)
	if _, ok = try(t, first, t.Context()); !ok {
		t.Fatal("no probe")
	}
	clk.advance(time.Second)
	if _, ok = try(t, at("second"), t.Context()); !ok {
		t.Fatal("it waits for the answer to a call of a dead worker")
	}
}

// A crash loop costs of a day's calls what was made, and for a while what the last lives were given beside: what answers say
// is left is left.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	clk, m, made := newClock(), &item{}, 0
	r := budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: 5000, Window: 24 * time.Hour}}, Hold: 15 * time.Second}
	for life := range 350 {
		g := budget.NewShared(m, budget.Options{Worker: fmt.Sprint("life ", life), Place: "here", Now: clk.now}).Gate("acme")
		g.Keep(r)
		for range 10 {
			leave, ok := try(t, g, t.Context())
			if !ok {
				t.Fatalf("life %d: refused after %d calls of 5,000", life, made)
			}
			made++
			leave(budget.Outcome{Readings: []budget.Reading{{Limit: budget.Calls, Max: 5000, Left: 5000 - made}}})
			clk.advance(100 * time.Millisecond)
		}
	}
}
