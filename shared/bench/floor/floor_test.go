package floor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sorrel/shared/bench/floor"
	"sorrel/shared/bench/load"
	"sorrel/shared/bench/target"
)

// A floor that did less than it claims would make Sorrel look slow, and one that did more would flatter it.
func TestFloorsDoTheirWork(t *testing.T) {
	t.Parallel()
	tracker := load.NewTracker(2)
	to, err := target.Start(tracker, time.Now, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.Close)
	for _, kind := range []string{"V", "I", "W"} {
		dir := t.TempDir()
		url, stop, err := floor.Start(floor.Config{Kind: kind, Dir: dir, Target: to.URL()})
		if err != nil {
			t.Fatal(err)
		}
		c := load.NewCaller(func() string { return strings.TrimPrefix(url, "http://") })
		post := func(event string, n, rev int, forged bool, want int) {
			t.Helper()
			if got, err := c.Post(load.AppendOrder(nil, n, rev, event, time.Now()), forged); got != want || err != nil {
				t.Errorf("%s: %s answered %d, %v, want %d", kind, event, got, err, want)
			}
		}
		post("a", 1, 1, false, 202)
		post("a", 1, 1, false, 202) // a repeat
		post("b", 1, 2, false, 202)
		post("c", 0, 1, true, 401)
		c.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
		kept, err := os.ReadFile(filepath.Join(dir, "floor.log"))
		if kind == "V" {
			if err == nil {
				t.Error("V keeps something")
			}
			continue
		}
		if lines := strings.Count(string(kept), "\n"); lines != 2 || !strings.Contains(string(kept), load.Memo(1, 2)) {
			t.Errorf("%s kept %d lines: %s", kind, lines, kept)
		}
	}
	if seen, _ := tracker.Reset(); seen.Writes != 2 || seen.Twice+seen.OutOfOrder+seen.Forged != 0 {
		t.Errorf("W delivered %+v", seen)
	}
}
