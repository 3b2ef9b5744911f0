package simulation_test

import (
	"runtime"
	"testing"

	"sorrel/shared/simulation"
)

// Whatever fails, comes twice or races: each activation of a customer ends, does what it does once, and leaves nothing behind where
// it is undone. SORREL_WORKFLOWS is how many seeds are played.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	r := play(t, simulation.Options{Seed: uint64(number(t, "SORREL_SEED", 0)), Seeds: number(t, "SORREL_WORKFLOWS", shareOfWorkflows), Workers: runtime.GOMAXPROCS(0), Workflows: true})
	for _, how := range []string{"done", "done, known", "undone, void", "undone, failed", "undone, cancelled", "undone, expired", "answered", "corrected", "reopening", "account-activity"} {
		if r.Runs[how] == 0 {
			t.Errorf("no run is %s in %d seeds", how, r.Seeds)
		}
	}
}

// One seed is one history here, too.
func TestWorkflowsSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	s := simulator(t)
	for seed := range uint64(4) {
		if one, other := s.Play(simulation.PlanWorkflows(seed), false), s.Play(simulation.PlanWorkflows(seed), true); one.Hash != other.Hash {
			t.Errorf("seed %d: %s and %s", seed, one.Hash, other.Hash)
		}
	}
}
