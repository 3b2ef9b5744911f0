package bench

import (
	"strings"
	"testing"
)

// Runs that wait cost the sweeps nothing, and those whose time has come cost in proportion to them.
func TestWaiting(t *testing.T) {
	t.Parallel()
	r, err := Wait(t.Context(), WaitingOptions{Runs: 400})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Legs) != 3 || r.Ratio != 1 || r.Legs[2].Due != 4 || r.Legs[2].Moved != 4 || r.Legs[2].Work.Requests == 0 {
		t.Fatalf("%+v", r)
	}
	if more := r.Legs[2].Sweeps.Read - r.Legs[1].Sweeps.Read; more < 0 || more > 200 {
		t.Errorf("4 runs that are due cost the sweeps %v read units", more)
	}
	var text strings.Builder
	if err := r.Print(&text); err != nil || !strings.Contains(text.String(), "400 runs waiting to none: ratio 1.000") {
		t.Errorf("%v: %s", err, text.String())
	}
}
