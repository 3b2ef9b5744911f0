package deliver

import (
	"context"
	"sync"

	"sorrel/shared/record"
)

// locks keep one process from delivering the same record to the same platform twice at once: a record's own
// wake-up and another record that refers to it often come together. They save calls and nothing else; between
// processes the ledger's revisions decide.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when released
}

// lock takes the locks of sorted ids, waiting for each while ctx lasts, and returns what releases them.
func (l *locks) lock(ctx context.Context, platform string, ids []record.ID) (unlock func(), err error) {
	mine := make(chan struct{})
	release := func(ids []record.ID) {
		l.mu.Lock()
		for _, id := range ids {
			delete(l.held, platform+" "+string(id))
		}
		l.mu.Unlock()
		close(mine)
	}
	for i, id := range ids {
		k := platform + " " + string(id)
		for {
			l.mu.Lock()
			theirs, taken := l.held[k]
			if !taken {
				l.held[k] = mine
			}
			l.mu.Unlock()
			if !taken {
				break
			}
			select {
			case <-theirs:
			case <-ctx.Done():
				release(ids[:i])
				return nil, ctx.Err()
			}
		}
	}
	return func() { release(ids) }, nil
}
