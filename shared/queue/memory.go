package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Memory is the contract in its plainest form: everything in one slice, scanned from the front. It is the
// reference model of the other adapters and the queue of tests; nothing survives the process.
//
// Receive takes as much of one group as it can, as SQS says it tries to: all that waits in the free group with the
// oldest head, then in the next group, and so on up to max; the result is in order of sending.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
type Memory struct {
	settings   Settings
	deadLetter *Memory
	now        func() time.Time

	mu       sync.Mutex
	messages []*held // in order of sending
	seen     map[string]time.Time
	seq      int
	changed  chan struct{} // closed and replaced when a receiver should look again
}

type held struct {
	Received
	seq      int
	inFlight bool
	until    time.Time
}

// NewMemory returns an empty queue. Without a dead-letter queue messages are redelivered for ever.
func NewMemory(s Settings, deadLetter *Memory, now func() time.Time) *Memory {
	return &Memory{settings: s.WithDefaults(), deadLetter: deadLetter, now: now,
		seen: map[string]time.Time{}, changed: make(chan struct{})}
}

// Send implements Sender.
func (q *Memory) Send(ctx context.Context, msgs ...Message) error {
	if err := Validate(msgs); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("queue.send(%s): %w", q.settings.Name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, m := range msgs {
		if first, ok := q.seen[m.Dedup]; ok && now.Before(first.Add(DedupWindow)) {
			continue
		}
		q.seen[m.Dedup] = now
		q.seq++
		m.Body = slices.Clone(m.Body)
		q.messages = append(q.messages, &held{seq: q.seq, Received: Received{Message: m,
			ID: fmt.Sprintf("%s-%d", q.settings.Name, q.seq), SentAt: now.Round(0).UTC()}})
	}
	q.wake()
	return nil
}

// Receive implements Receiver. Visibility is judged by the injected clock, waiting is real time.
func (q *Memory) Receive(ctx context.Context, count int, wait time.Duration) ([]Received, error) {
	if err := ValidateMax(count); err != nil {
		return nil, err
	}
	var end <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		end = t.C
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("queue.receive(%s): %w", q.settings.Name, err)
		}
		got, next, changed, err := q.receive(ctx, count)
		if err != nil || len(got) > 0 || wait <= 0 {
			return got, err
		}
		again := time.NewTimer(max(next, time.Millisecond)) // a clock that crawls must not spin
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		case <-end:
			wait = 0
		}
		again.Stop()
	}
}

func (q *Memory) receive(ctx context.Context, max int) ([]Received, time.Duration, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	locked := q.expire(now)
	if err := q.bury(ctx, locked); err != nil {
		return nil, 0, nil, err
	}
	var order []string // free groups, oldest head first
	waiting := map[string][]*held{}
	for _, m := range q.messages {
		if locked[m.Group] {
			continue
		}
		if waiting[m.Group] == nil {
			order = append(order, m.Group)
		}
		waiting[m.Group] = append(waiting[m.Group], m)
	}
	var picked []*held
	for _, g := range order {
		picked = append(picked, waiting[g][:min(len(waiting[g]), max-len(picked))]...)
	}
	slices.SortFunc(picked, func(a, b *held) int { return cmp.Compare(a.seq, b.seq) })
	var got []Received
	for _, m := range picked {
		m.Receives++
		m.inFlight, m.until = true, now.Add(q.settings.Visibility)
		m.Receipt = fmt.Sprintf("%d.%d", m.seq, m.Receives)
		r := m.Received
		r.Body = slices.Clone(m.Body)
		got = append(got, r)
	}
	next := time.Hour
	for _, m := range q.messages {
		if m.inFlight {
			next = min(next, m.until.Sub(now))
		}
	}
	return got, next, q.changed, nil
}

// expire ends deliveries whose time is over and returns the groups that are still locked.
func (q *Memory) expire(now time.Time) map[string]bool {
	locked := map[string]bool{}
	for _, m := range q.messages {
		if m.inFlight && !now.Before(m.until) {
			m.inFlight = false
		}
		if m.inFlight {
			locked[m.Group] = true
		}
	}
	return locked
}

// bury moves what has been received too often from free groups to the dead-letter queue, where its dedup id is
// its message id, as on SQS.
func (q *Memory) bury(ctx context.Context, locked map[string]bool) error {
	if q.deadLetter == nil {
		return nil
	}
	dead := func(m *held) bool { return !locked[m.Group] && m.Receives >= q.settings.MaxReceives }
	for _, m := range q.messages {
		if dead(m) {
			if err := q.deadLetter.Send(ctx, Message{Group: m.Group, Dedup: m.ID, Body: m.Body}); err != nil {
				return fmt.Errorf("queue.receive(%s): move %s to the dead-letter queue: %w", q.settings.Name, m.ID, err)
			}
		}
	}
	q.messages = slices.DeleteFunc(q.messages, dead)
	return nil
}

// Delete implements Receiver.
func (q *Memory) Delete(_ context.Context, receipts ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(q.now())
	q.messages = slices.DeleteFunc(q.messages, func(m *held) bool {
		return m.inFlight && slices.Contains(receipts, m.Receipt)
	})
	q.wake()
	return nil
}

// Release implements Receiver.
func (q *Memory) Release(_ context.Context, delay time.Duration, receipts ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.expire(now)
	for _, m := range q.messages {
		if m.inFlight && slices.Contains(receipts, m.Receipt) {
			m.until = now.Add(max(delay, 0))
		}
	}
	q.expire(now)
	q.wake()
	return nil
}

// Depth says how full the queue is. As on SQS, messages behind a locked group count as visible.
func (q *Memory) Depth(context.Context) (Depth, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(q.now())
	var d Depth
	for i, m := range q.messages {
		if i == 0 {
			d.Oldest = m.SentAt
		}
		if m.inFlight {
			d.InFlight++
		} else {
			d.Visible++
		}
	}
	return d, nil
}

// Peek lists the oldest max messages, in flight or not, without receiving them; their Receipt is empty.
func (q *Memory) Peek(_ context.Context, max int) ([]Received, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var got []Received
	for _, m := range q.messages[:min(max, len(q.messages))] {
		r := m.Received
		r.Receipt, r.Body = "", slices.Clone(m.Body)
		got = append(got, r)
	}
	return got, nil
}

// Wake makes waiting receivers look again; a test calls it after moving the injected clock.
func (q *Memory) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake()
}

func (q *Memory) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}
