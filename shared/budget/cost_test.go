package budget_test

import (
	"testing"
	"time"

	"sorrel/shared/budget"
)

// A change now and then, and a hundred a second: who has plenty writes about once a minute, or less than once in ten seconds.
func TestCostOfCalls(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules       budget.Rules
		every       time.Duration
		calls       int
		loads, puts int // at most, per 1,000 calls
	}{
		"one in 10 s of 200 a minute":     {perMinute(200), 10 * time.Second, 600, 1000, 200},
		"one in 10 s, unlimited":          {perMinute(budget.Unlimited), 10 * time.Second, 600, 1000, 200},
		"one in 10 s of 5 at once":        {atOnce(5), 10 * time.Second, 600, 1000, 1000},
		"100 a second of 20,000 a minute": {perMinute(20_000), 10 * time.Millisecond, 12_000, 7, 2},
		"100 a second, unlimited":         {perMinute(budget.Unlimited), 10 * time.Millisecond, 12_000, 7, 2},
		"100 a second of 5 at once":       {atOnce(5), 10 * time.Millisecond, 12_000, 6, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk, m := newClock(), &item{}
			g := worker(m, clk, "a", tt.rules)
			for range tt.calls {
				leave, ok := try(t, g, t.Context())
				if !ok {
					t.Fatal("refused")
				}
				leave(budget.Outcome{})
				clk.advance(tt.every)
			}
			t.Logf("per 1,000 calls: %.1f reads, %.1f writes", 1000*float64(m.loads)/float64(tt.calls), 1000*float64(m.puts)/float64(tt.calls))
			if 1000*m.loads > tt.loads*tt.calls || 1000*m.puts > tt.puts*tt.calls {
				t.Errorf("%d reads and %d writes, want at most %d and %d per 1,000 of %d calls", m.loads, m.puts, tt.loads, tt.puts, tt.calls)
			}
		})
	}
}
