package simulation_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"sorrel/shared/simulation"
)

// A history is small and soon over: collecting less often makes it a quarter faster.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}

func simulator(t testing.TB) *simulation.Simulator {
	t.Helper()
	s, err := simulation.New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func play(t *testing.T, o simulation.Options) simulation.Report {
	t.Helper()
	o.Progress = t.Output()
	r, err := simulator(t).Run(t.Context(), o)
	if err == nil {
		return r
	}
	var text strings.Builder
	if err := r.Print(&text); err != nil {
		t.Error(err)
	}
	t.Errorf("%v\n%s", err, text.String())
	return r
}

// Whatever fails, comes twice or races: the end is as policy says. SORREL_SEEDS is how many seeds are played,
// SORREL_SEED the first one.
func TestSeeds(t *testing.T) {
	t.Parallel()
	r := play(t, simulation.Options{Seed: uint64(number(t, "SORREL_SEED", 0)), Seeds: number(t, "SORREL_SEEDS", share), Workers: runtime.GOMAXPROCS(0)})
	if r.Seeds < 200 {
		return
	}
	for _, edge := range []string{"commit", "get", "range", "wake", "inbound", "reply", "acknowledge", "write", "read", "list"} {
		for _, f := range []simulation.Fault{"crash before it", "crash after it"} {
			if r.Edges[edge].Faults[f] == 0 {
				t.Errorf("no %s %s among %d seeds", edge, f, r.Seeds)
			}
		}
	}
}

// What the simulation has found once stays found.
func TestKeptSeeds(t *testing.T) {
	t.Parallel()
	for _, kept := range []struct {
		seed uint64
		why  string
	}{
		{2413, "the echo of one write passed for what Salesforce makes of the next one's value, and somebody who set it later was not heard"},
		{2322, "the same on NetSuite, whose echo shows the whole record"},
		{2789, "an approved change was written twice, since the owner's native record had become another one by a merge of records"},
		{6168, "a slow worker confirmed its write, and with it went that another's was unknown"},
	} {
		t.Run(strconv.FormatUint(kept.seed, 10), func(t *testing.T) {
			t.Parallel()
			t.Log(kept.why)
			play(t, simulation.Options{Seed: kept.seed, Seeds: 1})
		})
	}
}

// One seed is one history, byte for byte, and so is the list of faults that came to pass in it.
func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	for seed := range uint64(3) {
		c := simulation.Plan(seed)
		one := s.Play(c, true)
		c.Faults = one.Faults
		for _, other := range []simulation.Outcome{s.Play(simulation.Plan(seed), true), s.Play(c, true)} {
			if one.Hash == other.Hash && len(one.Problems) == 0 {
				continue
			}
			for i, line := range one.History {
				if i >= len(other.History) || other.History[i] != line {
					t.Fatalf("seed %d, line %d of %d and %d:\n%s\n%s", seed, i, len(one.History), len(other.History), line, strings.Join(other.History[min(i, len(other.History)):min(i+1, len(other.History))], ""))
				}
			}
			t.Fatalf("seed %d: %v", seed, one.Problems)
		}
	}
}

// Every profile injects what it is for.
func TestFaultsHappen(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	seen := map[simulation.Fault]bool{}
	writes := 0
	for seed := range uint64(10) {
		o := s.Play(simulation.Plan(seed), false)
		for _, f := range o.Faults {
			seen[f] = true
		}
		writes += o.Writes
		if busy := seed%5 == 0; busy != (len(o.Faults) == 0) {
			t.Errorf("%s: %d faults", o.Case, len(o.Faults))
		}
	}
	if len(seen) < 10 || writes < 100 {
		t.Errorf("%d kinds of faults and %d writes in ten histories: %v", len(seen), writes, seen)
	}
}
