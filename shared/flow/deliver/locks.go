package deliver

import (
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

// lock takes the locks of sorted ids, waiting for each, and returns what releases them.
func (l *locks) lock(platform string, ids []record.ID) (unlock func()) {
	mine := make(chan struct{})
	for _, id := range ids {
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
			<-theirs
		}
	}
	return func() {
		l.mu.Lock()
		for _, id := range ids {
			delete(l.held, platform+" "+string(id))
		}
		l.mu.Unlock()
		close(mine)
	}
}
