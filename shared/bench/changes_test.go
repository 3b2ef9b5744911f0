package bench

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"sorrel/shared/record"
	"sorrel/shared/twin"
)

// All kinds of change cost what they should; see also TestCostOfChanges of package endtoend, over real servers.
func TestChanges(t *testing.T) {
	t.Parallel()
	r, err := Changes(t.Context(), ChangesOptions{Dir: t.TempDir()})
	var table bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
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
	again, err := Changes(t.Context(), ChangesOptions{Dir: t.TempDir(), Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range r.Changes {
		d := again.Changes[i]
		// A time is stored without its last zeros, so that an item may be a few bytes shorter and cross the border of a kilobyte.
		near := func(a, b float64) bool { return math.Abs(a-b) <= 2*float64(c.DynamoDB.Requests) }
		if c.shape() != d.shape() || !near(c.DynamoDB.Read, d.DynamoDB.Read) || !near(c.DynamoDB.Write, d.DynamoDB.Write) {
			t.Errorf("two runs differ:\n%+v\n%+v", c, d)
		}
	}
}

// A cost that is not as it should be is told.
func TestChangesCanFail(t *testing.T) {
	t.Parallel()
	x, err := newTally(t.Context(), ChangesOptions{Dir: t.TempDir(), Seed: 1}, configWithTier)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	k := x.kinds()
	if c, err := x.count(t.Context(), k[0]); err != nil || c.shape() != k[0].costs {
		t.Fatalf("%s, want %s (%v)", c.shape(), k[0].costs, err)
	}
	x.twins.Kits()[record.Zendesk].SetFaults(twin.Faults{Outage: true})
	if c, err := x.count(t.Context(), k[1]); err == nil && c.shape() == k[1].costs {
		t.Errorf("with Zendesk away it costs the same: %s", c.shape())
	}
	if _, err := Changes(t.Context(), ChangesOptions{SQS: "http://127.0.0.1:1"}); err == nil {
		t.Error("one endpoint of two is taken")
	}
}
