package boltstore

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sorrel/shared/store"
)

// BenchmarkCommit commits 3 puts of 2 KB and reports, beside commits/s, the floor measured in the same run:
// the same bytes appended to a file and fsynced, one write and one fsync for as many commits as there are
// goroutines. x-floor is the share of the floor that the store reaches.
func BenchmarkCommit(b *testing.B) {
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("bolt/%d", workers), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "store"), time.Now, Options{})
			if err != nil {
				b.Fatal(err)
			}
			benchmarkCommit(b, s, workers)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("memory/%d", workers), func(b *testing.B) {
			benchmarkCommit(b, store.NewMemory(time.Now), workers)
		})
	}
}

const (
	benchOps   = 3
	benchValue = 2 << 10
)

func benchmarkCommit(b *testing.B, s store.Store, workers int) {
	value := make([]byte, benchValue)
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := w; i < b.N; i += workers {
				id := fmt.Sprintf("%08x", uint32(i)*2654435761) // spread like hashed record ids
				if err := s.Commit(b.Context(),
					store.Op{Kind: store.Put, Key: store.Key{Part: "record/" + id, Sort: "head"}, Value: value, Absent: true},
					store.Op{Kind: store.Put, Key: store.Key{Part: "log/" + id, Sort: "1"}, Value: value},
					store.Op{Kind: store.Put, Key: store.Key{Part: "due/" + id[:1], Sort: id}, Value: value},
				); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	rate := float64(b.N) / time.Since(start).Seconds()
	b.StopTimer()
	floor := floorRate(b, workers)
	b.ReportMetric(rate, "commits/s")
	b.ReportMetric(floor, "floor/s")
	b.ReportMetric(rate/floor, "x-floor")
}

// floorRate appends b.N commits' values in groups of `workers`, one fsync each, and returns commits per second.
func floorRate(b *testing.B, workers int) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	group := make([]byte, workers*benchOps*benchValue)
	start := time.Now()
	n := 0
	for ; n < b.N; n += workers {
		if _, err := f.Write(group); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}
