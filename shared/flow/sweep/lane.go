package sweep

import (
	"context"
	"slices"
	"sync"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Replays wait for each other in one lane per platform, see package message, and a wake-up may be minutes on its way. To
// send it again meanwhile costs requests to the queue and the store, and delays those behind it. So the sweep remembers
// what it has sent: each replay is woken once, and about as many are on the queue as the platform lets us call in a
// minute. Nothing depends on that memory: without it, as in a new process, replays are woken once more.

// thought is how long a wake-up may be thought to be on the queue.
const thought = 5 * time.Minute

// Deep tells how full a queue is. A queue that is a queue.Sender may have it or not.
type Deep interface {
	Depth(ctx context.Context) (queue.Depth, error)
}

// entry is a due entry as it was when it was woken: what is put off, or due anew, is another.
type entry struct {
	record           record.ID
	since, notBefore int64
}

func entryOf(p ledger.Pending) entry {
	return entry{p.Record, p.Since.UnixNano(), p.NotBefore.UnixNano()}
}

// sent is a wake-up that a queue may hold.
type sent struct {
	entry
	at time.Time
}

// memory of wake-ups of replays, by platform, in the order in which they were sent.
type memory struct {
	mu   sync.Mutex
	sent map[string][]sent
}

// add remembers a wake-up.
func (m *memory) add(platform string, p ledger.Pending, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[platform] = append(m.sent[platform], sent{entryOf(p), now})
}

// keep forgets the wake-ups of a platform that are not to be kept, the oldest first where that are more than most, and
// returns the others.
func (m *memory) keep(platform string, most int, is func(sent) bool) []sent {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := slices.DeleteFunc(m.sent[platform], func(s sent) bool { return !is(s) })
	kept = kept[max(0, len(kept)-most):]
	m.sent[platform] = kept
	return slices.Clone(kept)
}

// queued tells which of the replays that are ready have a wake-up on the queue. A wake-up may have been received and the
// work still be due, for want of room: no more can be on the queue than it holds, and those sent first are received first.
func (f *Flow) queued(ctx context.Context, name string, q queue.Sender, o budget.Outlook, ready []ledger.Pending, now time.Time) map[entry]bool {
	due := map[entry]bool{}
	if o.Until.IsZero() && !o.Open { // else whatever is received is refused, and all are woken anew
		for _, p := range ready {
			if p.Class == budget.Replay {
				due[entryOf(p)] = true
			}
		}
	}
	most := len(f.lanes.keep(name, maxWoken, func(s sent) bool { return due[s.entry] && now.Sub(s.at) < thought }))
	if deep, can := q.(Deep); can && most > 0 {
		d, err := deep.Depth(ctx)
		if err != nil {
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: name, Detail: "looking at its queue", Err: err})
		} else {
			most = d.Visible + d.InFlight
		}
	}
	out := map[entry]bool{}
	for _, s := range f.lanes.keep(name, most, func(sent) bool { return true }) {
		out[s.entry] = true
	}
	return out
}
