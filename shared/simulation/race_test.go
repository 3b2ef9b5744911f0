//go:build race

package simulation_test

import (
	"os"
	"os/exec"
	"testing"
)

// share is how many seeds a test run plays: under the race detector each takes ten times as long. TestWholeShare plays the
// others without it.
const share = 15

const shareOfTwins = 4 // of those of PlanTwins

const shareOfWorkflows = 6 // of those of PlanWorkflows

// One goroutine at a time has the turn, so that the detector has little to find in many histories.
func TestWholeShare(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("200 seeds are not played: no go command to build without the race detector")
	}
	out, err := exec.CommandContext(t.Context(), tool, "test", "-count=1", "-race=false", "-run", "^(TestSeeds|TestTwins|TestWorkflows)$", ".").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
