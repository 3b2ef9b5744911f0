package simulation_test

import (
	"runtime"
	"testing"

	"sorrel/shared/simulation"
)

// Whatever fails, comes twice or races: each run of a workflow ends, does what it does once, and leaves nothing behind where
// it is undone. SORREL_WORKFLOWS is how many seeds are played.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	r := play(t, simulation.Options{Seed: uint64(number(t, "SORREL_SEED", 0)), Seeds: number(t, "SORREL_WORKFLOWS", shareOfWorkflows), Workers: runtime.GOMAXPROCS(0), Workflows: true})
	t.Logf("runs: %v", r.Runs)
}
