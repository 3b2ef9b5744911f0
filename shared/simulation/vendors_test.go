package simulation_test

import (
	"runtime"
	"strings"
	"testing"

	"sorrel/shared/simulation"
)

// The end is as policy says where the platforms are the vendors' twins behind the real connectors, under the deployed
// configuration, too. SORREL_TWINS is how many seeds are played.
func TestTwins(t *testing.T) {
	t.Parallel()
	play(t, simulation.Options{Seed: uint64(number(t, "SORREL_SEED", 0)), Seeds: number(t, "SORREL_TWINS", shareOfTwins), Workers: runtime.GOMAXPROCS(0), Twins: true})
}

// One seed is one history here, too.
func TestTwinsSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	for seed := range uint64(number(t, "SORREL_TWINS_TWICE", 3)) {
		one, other := s.Play(simulation.PlanTwins(seed), true), s.Play(simulation.PlanTwins(seed), true)
		if one.Hash == other.Hash {
			continue
		}
		for i, line := range one.History {
			if i >= len(other.History) || other.History[i] != line {
				t.Fatalf("seed %d, line %d of %d and %d:\n%s\n%s", seed, i, len(one.History), len(other.History), line, strings.Join(other.History[min(i, len(other.History)):min(i+1, len(other.History))], ""))
			}
		}
		t.Fatalf("seed %d: %s and %s", seed, one.Hash, other.Hash)
	}
}
