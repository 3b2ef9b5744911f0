package simulation_test

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sorrel/shared/simulation"
)

func simulator(t testing.TB) *simulation.Simulator {
	t.Helper()
	s, err := simulation.New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fails shrinks a case that failed and shows what is left of it.
func fails(t *testing.T, s *simulation.Simulator, o simulation.Outcome) {
	t.Helper()
	small := s.Shrink(o, 300)
	t.Errorf("%s, hash %s:\n%s\n\nshrunk to %s with %v:\n%s\n\n%s", o.Case, o.Hash, strings.Join(o.Problems, "\n"),
		small.Case, small.Case.Faults, strings.Join(small.Problems, "\n"), strings.ReplaceAll(strings.Join(small.History, "\n"), "\x01", " "))
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

// Whatever fails, comes twice or races: the end is as policy says. SORREL_SEEDS is how many seeds are played,
// SORREL_SEED the first one.
func TestSeeds(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	from, count := number(t, "SORREL_SEED", 0), number(t, "SORREL_SEEDS", 40)
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for seed := range seeds {
				o := s.Play(simulation.Plan(seed), false)
				if len(o.Problems) > 0 {
					fails(t, s, o)
				}
			}
		})
	}
	for seed := from; seed < from+count && !t.Failed(); seed++ {
		seeds <- uint64(seed)
	}
	close(seeds)
	wg.Wait()
}

// One seed is one history.
func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	for seed := range uint64(5) {
		one, other := s.Play(simulation.Plan(seed), true), s.Play(simulation.Plan(seed), true)
		if one.Hash == other.Hash {
			continue
		}
		for i, line := range one.History {
			if i >= len(other.History) || other.History[i] != line {
				t.Fatalf("seed %d, line %d:\n%s\n%s", seed, i, line, strings.Join(other.History[min(i, len(other.History)):min(i+1, len(other.History))], ""))
			}
		}
		t.Fatalf("seed %d: one history has %d lines, the other %d", seed, len(one.History), len(other.History))
	}
}
