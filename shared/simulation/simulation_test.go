package simulation_test

import (
	"encoding/json"
	"os"
	"path/filepath"
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
	for _, what := range []string{"live passed", "approval passed", "reconcile passed", "replay passed", "not called: budget", "not called: breaker", "not called: pause", "not called: store", "breaker opens", "breaker closes"} {
		if r.Gates[what] == 0 {
			t.Errorf("%s: never, in %d seeds", what, r.Seeds)
		}
	}
	for _, what := range []string{"done", "cancelled", "records", "records read again"} {
		if r.Replays[what] == 0 {
			t.Errorf("replays: %s: none, in %d seeds", what, r.Seeds)
		}
	}
}

// What the simulation has found once stays found. A history is kept as it was shrunk, so that it does not depend on what
// seeds mean.
func TestKept(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/kept/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	s := simulator(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var kept struct {
				Why  string          `json:"why"`
				Case simulation.Case `json:"case"`
			}
			if err := json.Unmarshal(text, &kept); err != nil || len(kept.Case.Acts) == 0 || kept.Case.Faults == nil {
				t.Fatalf("%v, %+v", err, kept)
			}
			if o := s.Play(kept.Case, true); len(o.Problems) > 0 {
				t.Errorf("%s: %q\n%s", kept.Why, o.Problems, strings.Join(o.History, "\n"))
			}
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
		if quiet := o.Case.Profile.Faults == 0; quiet != (len(o.Faults) == 0) {
			t.Errorf("%s: %d faults", o.Case, len(o.Faults))
		}
	}
	if len(seen) < 10 || writes < 100 {
		t.Errorf("%d kinds of faults and %d writes in ten histories: %v", len(seen), writes, seen)
	}
}
