package bench

import (
	"strings"
	"testing"
	"time"
)

// Answers come inside their budget whatever the ERP does, those of what is known cost no call, and the report says all of it.
func TestLookup(t *testing.T) {
	t.Parallel()
	r, err := Lookup(t.Context(), LookupOptions{Customers: 12, Pairs: 1, Duration: 50 * time.Millisecond, Connections: 4, Questions: 4, Own: 20 * time.Second, Seed: 1}) // a test's machine may be slow
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Legs) != 6 || len(r.Medians) != 6 || len(r.Ratios) != 12 {
		t.Errorf("%d legs, %d medians, %d ratios", len(r.Legs), len(r.Medians), len(r.Ratios))
	}
	for _, x := range r.Ratios {
		if len(x.Pairs) != 1 || x.Median <= 0 {
			t.Errorf("%+v", x)
		}
	}
	alone, down := r.Conditions[0], r.Conditions[3]
	if alone.Live == 0 || alone.Calls == 0 || alone.P50 < 500 {
		t.Errorf("nothing was read from an ERP that answers: %+v", alone)
	}
	if down.Live+down.Fresh > 0 || down.Stale != 4 {
		t.Errorf("an ERP that is down was read: %+v", down)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if len([]rune(strings.TrimSuffix(line, "\n"))) > 80 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	if !strings.Contains(out.String(), "is down") {
		t.Error(out.String())
	}
}

// What is late or wrong is told as a failure.
func TestLookupCanFail(t *testing.T) {
	t.Parallel()
	_, err := Lookup(t.Context(), LookupOptions{Customers: 2, Pairs: 1, Duration: time.Millisecond, Connections: 1, Questions: 2, Own: -time.Hour})
	if err == nil || !strings.Contains(err.Error(), "0 of them inside") {
		t.Errorf("late answers give %v", err)
	}
}
