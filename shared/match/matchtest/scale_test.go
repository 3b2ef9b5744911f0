package matchtest_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
)

// peakHeap samples what the heap occupies while f runs, above what it did before.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, peak := m.HeapInuse, m.HeapInuse
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return peak - before
}

func TestLinkTwentyThousandPerPlatform(t *testing.T) {
	n, lowest := 20000, 0.80
	if raceEnabled || testing.Short() {
		n = 2000
	}
	items, truth := matchtest.Generate(1, n)
	var report *match.Report
	begin := time.Now()
	peak := peakHeap(func() {
		var err error
		if report, err = matchtest.Rules().Cluster(match.Limits{Samples: 1 << 20}, items); err != nil {
			t.Error(err)
		}
	})
	took := time.Since(begin)
	s := matchtest.Evaluate(report, truth)
	t.Logf("%d per platform: precision %.5f recall %.4f F1 %.4f, surfaced %.4f; %v, peak heap %d MB", n, s.Precision, s.Recall, s.F1, s.Surfaced, took.Round(time.Millisecond), peak>>20)
	t.Logf("items %d: matched %d, created %d, ambiguous %d; weak pairs %d, common keys %d", report.Items, report.Matched, report.Created, report.Ambiguous, report.WeakPairs, report.CommonKeys)
	for i, r := range s.Rules {
		t.Logf("%-14s precision %.5f recall %.4f; %+v", r.Rule, r.Precision, r.Recall, report.Rules[i])
	}
	if report.Items != 4*n {
		t.Errorf("%d items, want %d", report.Items, 4*n)
	}
	if s.Precision < 0.999 || s.Recall < lowest {
		t.Errorf("precision %.5f and recall %.4f, want at least 0.999 and %.2f", s.Precision, s.Recall, lowest)
	}
	if peak > 200<<20 {
		t.Errorf("peak heap %d MB, want below 200", peak>>20)
	}
}
