package load

import (
	"sync"
	"sync/atomic"
	"time"
)

// Tracker knows what was sent and what a target has seen of it. It is safe for concurrent use.
type Tracker struct {
	orders []orderTrack // by number; 0 is the forged one
	newest atomic.Int64 // when a target last saw something new, Unix nanoseconds
	waits  atomic.Int64 // first sends that were answered 2xx and are not seen yet

	mu     sync.Mutex
	counts Seen
	took   []time.Duration
}

type orderTrack struct {
	mu    sync.Mutex
	sent  []int64 // by revision - 1
	seen  int     // newest revision a target was given
	acked int     // newest revision that the peer accepted
}

// Seen is what a target saw since the last Reset.
type Seen struct {
	Events     int `json:"events"`     // first sends that arrived, by themselves or in a later revision
	Writes     int `json:"writes"`     // times the target was given something
	Twice      int `json:"twice"`      // … that it had already
	OutOfOrder int `json:"outOfOrder"` // … that was older than what it had
	Forged     int `json:"forged"`
}

// NewTracker returns a tracker of orders 1 to n.
func NewTracker(n int) *Tracker { return &Tracker{orders: make([]orderTrack, n+1)} }

func (t *Tracker) sent(n, rev int, at time.Time) {
	o := &t.orders[n]
	o.mu.Lock()
	for len(o.sent) < rev {
		o.sent = append(o.sent, 0)
	}
	o.sent[rev-1] = at.UnixNano()
	o.mu.Unlock()
}

func (t *Tracker) accepted(n, rev int) {
	o := &t.orders[n]
	o.mu.Lock()
	if rev > o.acked {
		t.waits.Add(int64(max(0, rev-max(o.acked, o.seen))))
		o.acked = rev
	}
	o.mu.Unlock()
}

// See notes that a target was given revision rev of order n.
func (t *Tracker) See(n, rev int, at time.Time) {
	now := at.UnixNano()
	if n <= 0 || n >= len(t.orders) {
		t.mu.Lock()
		t.counts.Forged++
		t.mu.Unlock()
		return
	}
	o := &t.orders[n]
	o.mu.Lock()
	before := o.seen
	var fresh []int64
	if rev > before {
		o.seen = rev
		if arrived := min(rev, o.acked) - before; arrived > 0 {
			t.waits.Add(int64(-arrived))
		}
		fresh = o.sent[min(before, len(o.sent)):min(rev, len(o.sent))]
	}
	o.mu.Unlock()
	t.mu.Lock()
	t.counts.Writes++
	switch {
	case rev == before:
		t.counts.Twice++
	case rev < before:
		t.counts.OutOfOrder++
	}
	for _, sent := range fresh { // its entries are never written again
		if sent > 0 {
			t.counts.Events++
			t.took = append(t.took, time.Duration(now-sent))
		}
	}
	t.mu.Unlock()
	if rev > before {
		t.newest.Store(now)
	}
}

// Waiting is how many accepted first sends no target has seen.
func (t *Tracker) Waiting() int { return int(t.waits.Load()) }

// NewestAt is when a target last saw something new.
func (t *Tracker) NewestAt() time.Time { return time.Unix(0, t.newest.Load()) }

// idle reports whether everything sent of an order has been seen.
func (t *Tracker) idle(n int) bool {
	o := &t.orders[n]
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen >= len(o.sent)
}

// Reset returns what was counted since the last one, with the time from sending to seeing of each event.
func (t *Tracker) Reset() (Seen, []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, took := t.counts, t.took
	t.counts, t.took = Seen{}, nil
	return c, took
}
