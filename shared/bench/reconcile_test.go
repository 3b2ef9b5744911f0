package bench_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"sorrel/shared/bench"
)

// `sorrel bench reconcile`, smaller: everything is found, nothing is invented, and nothing is left. How many calls that takes of
// a full read is judged at 100,000 customers only: that of a few hundred is a few calls.
func TestReconcile(t *testing.T) {
	t.Parallel()
	r, err := bench.Reconcile(t.Context(), bench.ReconcileOptions{Customers: 400, Shares: []float64{0, 0.05, 0.1}, Heal: 0.05, Dir: t.TempDir(), Progress: t.Output()})
	var table strings.Builder
	if err := r.Print(&table); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", &table)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table.String()) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("wider than 80: %q", line)
		}
	}
	if len(r.Legs) != 5 || len(r.Legs[4].Platforms) != 4 || r.Legs[1].Platforms[0].Drifted < 20 || len(r.Full) != 4 || len(r.Checks) < 10 {
		t.Errorf("not all was measured: %+v", r)
	}
}
