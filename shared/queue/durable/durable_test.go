package durable

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/queue"
	"sorrel/shared/queue/queuetest"
)

// clock is an injected clock that tests move.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// small makes segments roll, vanish and get copied within a few messages.
func small() limits {
	return limits{segment: 2 << 10, slack: 1 << 10, chunk: 1 << 10, write: (*os.File).WriteAt, sync: syncData}
}

// unflushed is small without the waiting for the disk.
func unflushed() limits {
	l := small()
	l.sync = func(*os.File) error { return nil }
	return l
}

func mustOpen(t testing.TB, dir string, s queue.Settings, dead *Queue, now func() time.Time, l limits) *Queue {
	t.Helper()
	q, err := open(dir, s, dead, now, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

func fixture(l limits) func(t *testing.T, s queue.Settings) queuetest.Fixture {
	return func(t *testing.T, s queue.Settings) queuetest.Fixture {
		c, dir := newClock(), t.TempDir()
		dead := mustOpen(t, filepath.Join(dir, "dead"), queue.Settings{Name: "dead.fifo"}, nil, c.now, l)
		q := mustOpen(t, filepath.Join(dir, "queue"), s, dead, c.now, l)
		return queuetest.Fixture{Queue: q, DeadLetter: dead, Advance: func(d time.Duration) {
			c.advance(d)
			q.Wake()
			dead.Wake()
		}}
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, queuetest.Harness{New: fixture(standard())})
}

func TestContractInSmallSegments(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, queuetest.Harness{New: fixture(unflushed())})
}

// A waiting receive wakes by its own timer when a visibility timeout ends.
func TestVisibilityInRealTime(t *testing.T) {
	t.Parallel()
	q := mustOpen(t, t.TempDir(), queue.Settings{Name: "q", Visibility: 200 * time.Millisecond}, nil, time.Now, standard())
	if err := q.Send(t.Context(), queue.Message{Group: "g", Dedup: "d", Body: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 2; want++ {
		got, err := q.Receive(t.Context(), 1, time.Minute)
		if err != nil || len(got) != 1 || got[0].Receives != want {
			t.Fatalf("received %v, %v; want delivery %d", got, err, want)
		}
	}
}
