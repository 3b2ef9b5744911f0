package bench_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"sorrel/shared/bench"
)

// `sorrel bench compare`, smaller: what is equal is found to be, and memory does not grow with the records.
func TestCompare(t *testing.T) {
	t.Parallel()
	r, err := bench.Compare(t.Context(), bench.CompareOptions{Records: []int{3000, 9000}, Dir: t.TempDir(), Progress: t.Output()})
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
	if len(r.Legs) != 2 || r.Legs[1].Seconds <= 0 || len(r.Checks) < 4 {
		t.Errorf("not all was measured: %+v", r)
	}
}
