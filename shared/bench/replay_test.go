package bench_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sorrel/shared/bench"
	"sorrel/shared/record"
)

// `sorrel bench replay`, smaller. How fresh live edits are is reported, and judged on a machine of its own only.
func TestReplay(t *testing.T) {
	t.Parallel()
	o := bench.ReplayOptions{Records: 300, Rate: 4, Idle: time.Second, Factor: 4, Limit: 8 * time.Minute, Dir: t.TempDir(), Progress: t.Output()}
	r, err := bench.Replay(t.Context(), o)
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
	if r.Before.Copies == 0 || r.During.Copies == 0 || r.After.Copies == 0 || len(r.Checks) == 0 {
		t.Errorf("nothing was measured: %+v", r)
	}
	for _, p := range r.Platforms {
		if written := p.Name == record.NetSuite || p.Name == record.Zendesk; written != (p.Replayed >= o.Records/2) || written != (p.Replayed > 0) || p.Calls < p.Replayed/2 {
			t.Errorf("%+v", p)
		}
	}
}
