package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/bench"
)

// TestMain is also the main function of the measured children: they are this very program.
func TestMain(m *testing.M) {
	child := bench.ChildArgs()
	if n := len(child); len(os.Args) > n && slices.Equal(os.Args[1:1+n], child) {
		if err := bench.Child(os.Args[1+n:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func quick(t *testing.T) bench.Options {
	return bench.Options{Duration: 300 * time.Millisecond, Warm: 100 * time.Millisecond, Pairs: 1, Dir: t.TempDir(), Progress: t.Output()}
}

func print(t *testing.T, r bench.Report) {
	t.Helper()
	if err := r.Print(t.Output()); err != nil {
		t.Error(err)
	}
	var sb strings.Builder
	if err := r.Print(&sb); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(sb.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestIntake(t *testing.T) {
	r, err := bench.Intake(t.Context(), quick(t))
	if err != nil {
		t.Fatal(err)
	}
	print(t, r)
	if len(r.Legs) != 4 || len(r.Ratios) == 0 {
		t.Errorf("%d legs and %d ratios", len(r.Legs), len(r.Ratios))
	}
	for _, l := range r.Legs {
		if l.Requests == 0 || l.Accepted == 0 || l.AckP50 == 0 {
			t.Errorf("%s did nearly nothing: %+v", l.Kind, l)
		}
	}
}

func TestSync(t *testing.T) {
	r, err := bench.Sync(t.Context(), quick(t))
	if err != nil {
		t.Fatal(err)
	}
	print(t, r)
	if len(r.Legs) != 3 || len(r.Cost) != 2 {
		t.Fatalf("%d legs, %d costs", len(r.Legs), len(r.Cost))
	}
	for _, l := range r.Legs {
		if l.Seen.Events == 0 || l.Kind == "S1" && l.Seen.Events != l.Seen.Writes {
			t.Errorf("%s: %+v", l.Kind, l.Seen)
		}
	}
	for _, c := range r.Cost {
		if c.ProviderCalls > 1 || c.ProviderCalls == 0 || c.WriteUnits == 0 || c.ReadUnits == 0 || c.QueueRequests == 0 {
			t.Errorf("a change costs %+v", c)
		}
	}
}

// The correctness run of `sorrel bench soak`, smaller, and with a few failing provider calls on top.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, o := range []bench.SoakOptions{
		{Webhooks: 2000, Kills: 2, Seed: 1},
		{Webhooks: 500, Kills: 2, Seed: 2, Failing: 0.1},
		{Webhooks: 1000, Kills: -1, Seed: 7, Lost: 0.05},
	} {
		o.Dir, o.Progress, o.Limit = t.TempDir(), t.Output(), 8*time.Minute
		r, err := bench.Soak(t.Context(), o)
		if err := r.Print(t.Output()); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Kills > 0 && (r.Kills != o.Kills+1 || r.Retries == 0) || r.Duplicates == 0 || r.Reordered == 0 || r.Forged == 0 {
			t.Errorf("nothing went wrong, so nothing was tested: %+v", r)
		}
	}
}
