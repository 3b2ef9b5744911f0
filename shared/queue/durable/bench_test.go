package durable

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/queue"
)

const senders, bodySize = 64, 1300

// floor is the least that a durable acknowledgement costs: append to one file, one flush for all who wait.
type floor struct {
	mu   sync.Mutex
	buf  []byte
	done chan struct{}
	poke chan struct{}
}

func newFloor(t testing.TB, path string) (f *floor, stop func()) {
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f = &floor{done: make(chan struct{}), poke: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		var spare []byte
		for range f.poke {
			runtime.Gosched()
			f.mu.Lock()
			buf, done := f.buf, f.done
			f.buf, f.done = spare[:0], make(chan struct{})
			f.mu.Unlock()
			if _, err := file.Write(buf); err != nil {
				t.Error(err)
			}
			if err := syncData(file); err != nil {
				t.Error(err)
			}
			close(done)
			spare = buf
		}
	})
	return f, func() {
		close(f.poke)
		wg.Wait()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (f *floor) append(b []byte) {
	f.mu.Lock()
	first := len(f.buf) == 0
	f.buf = append(f.buf, b...)
	done := f.done
	f.mu.Unlock()
	if first {
		select {
		case f.poke <- struct{}{}:
		default:
		}
	}
	<-done
}

// rate calls one from many goroutines for d and returns calls per second.
func rate(d time.Duration, one func(worker, i int)) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range senders {
		wg.Go(func() {
			for i := 0; time.Since(begin) < d; i++ {
				one(w, i)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds()
}

// BenchmarkSend compares, in alternating turns of one run, 64 concurrent senders of 1.3 KB on the queue with the
// floor, and on the queue while a reader receives and deletes everything.
func BenchmarkSend(b *testing.B) {
	body := []byte(strings.Repeat("b", bodySize))
	dir := b.TempDir()
	f, stop := newFloor(b, filepath.Join(dir, "floor"))
	defer stop()
	q := mustOpen(b, filepath.Join(dir, "q"), queue.Settings{Name: "q"}, nil, time.Now, standard())
	busy := mustOpen(b, filepath.Join(dir, "busy"), queue.Settings{Name: "q"}, nil, time.Now, standard())
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() {
		for ctx.Err() == nil {
			got, err := busy.Receive(ctx, queue.MaxBatch, time.Second)
			if err != nil {
				return // cancelled
			}
			for _, r := range got {
				if err := busy.Delete(ctx, r.Receipt); err != nil {
					b.Error(err)
				}
			}
		}
	})
	defer readers.Wait()
	defer cancel()
	turn := 0
	send := func(q *Queue) func(w, i int) {
		return func(w, i int) {
			m := queue.Message{Group: fmt.Sprintf("order/%d-%d", w, i%100), Dedup: fmt.Sprintf("%d-%d-%d", turn, w, i), Body: body}
			if err := q.Send(context.Background(), m); err != nil {
				b.Error(err)
			}
		}
	}
	const slice = 250 * time.Millisecond
	var floorRate, queueRate, busyRate float64
	for b.Loop() {
		turn++
		floorRate += rate(slice, func(int, int) { f.append(body) })
		queueRate += rate(slice, send(q))
		busyRate += rate(slice, send(busy))
	}
	n := float64(turn)
	b.ReportMetric(floorRate/n, "floor/s")
	b.ReportMetric(queueRate/n, "send/s")
	b.ReportMetric(busyRate/n, "send-while-read/s")
	b.ReportMetric(queueRate/floorRate, "of-floor")
	b.ReportMetric(busyRate/floorRate, "of-floor-while-read")
}

// BenchmarkReceive takes and deletes messages of many groups, ten at a time.
func BenchmarkReceive(b *testing.B) {
	q := mustOpen(b, b.TempDir(), queue.Settings{Name: "q"}, nil, time.Now, standard())
	ctx := context.Background()
	fill(b, q, b.N)
	b.ResetTimer()
	for left := b.N; left > 0; {
		got, err := q.Receive(ctx, queue.MaxBatch, 0)
		if err != nil {
			b.Fatal(err)
		}
		var receipts []string
		for _, r := range got {
			receipts = append(receipts, r.Receipt)
		}
		if err := q.Delete(ctx, receipts...); err != nil {
			b.Fatal(err)
		}
		left -= len(got)
	}
}

// fill sends n messages of 1.3 KB in as many groups as there are orders with four events each.
func fill(t testing.TB, q *Queue, n int) {
	t.Helper()
	body := []byte(strings.Repeat("b", bodySize))
	for i := 0; i < n; {
		var msgs []queue.Message
		for ; i < n && len(msgs) < 1000; i++ {
			msgs = append(msgs, queue.Message{Group: fmt.Sprintf("netsuite/salesOrder/%d", i/4), Dedup: fmt.Sprint(i), Body: body})
		}
		if err := q.Send(context.Background(), msgs...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMemoryAndReopen holds the promises about 100,000 waiting messages and about opening 20,000.
func TestMemoryAndReopen(t *testing.T) { // not parallel: it measures
	dir := t.TempDir()
	q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, standard())
	if err != nil {
		t.Fatal(err)
	}
	before := heapBytes()
	fill(t, q, 100_000)
	used := heapBytes() - before
	runtime.KeepAlive(q)
	t.Logf("100,000 messages waiting: %.1f MB", float64(used)/1e6)
	if used > 50e6 {
		t.Errorf("100,000 waiting messages take %d bytes of memory, want less than 50 MB", used)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if q, err = open(dir, queue.Settings{Name: "q"}, nil, time.Now, standard()); err != nil {
		t.Fatal(err)
	}
	fill(t, q, 20_000)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 3 {
		begin := time.Now()
		q, err = open(dir, queue.Settings{Name: "q"}, nil, time.Now, standard())
		best = min(best, time.Since(begin))
		if err != nil {
			t.Fatal(err)
		}
		if n := depthOf(t, q); n != 20_000 {
			t.Errorf("%d messages after opening, want 20,000", n)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("opening 20,000 messages: %v", best)
	if best > 500*time.Millisecond {
		t.Errorf("opening 20,000 messages takes %v, want less than 500 ms", best)
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
