package queue_test

import (
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

func TestMemory(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, queuetest.Harness{New: func(t *testing.T, s queue.Settings) queuetest.Fixture {
		c := newClock()
		dead := queue.NewMemory(queue.Settings{Name: "dead.fifo"}, nil, c.now)
		q := queue.NewMemory(s, dead, c.now)
		return queuetest.Fixture{Queue: q, DeadLetter: dead, Advance: func(d time.Duration) {
			c.advance(d)
			q.Wake()
			dead.Wake()
		}}
	}})
}

// The suite in real time, as it runs against SQS.
func TestMemoryInRealTime(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, queuetest.Harness{New: func(t *testing.T, s queue.Settings) queuetest.Fixture {
		dead := queue.NewMemory(queue.Settings{Name: "dead.fifo"}, nil, time.Now)
		return queuetest.Fixture{Queue: queue.NewMemory(s, dead, time.Now), DeadLetter: dead}
	}})
}
