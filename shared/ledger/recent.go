package ledger

import (
	"sync"

	"sorrel/shared/store"
)

// recent keeps decoded states by key and revision. A state of one revision never changes, so a hit is as good
// as decoding again. When it is full the older half is dropped at once.
type recent struct {
	mu       sync.Mutex
	max      int
	new, old map[store.Key]State
}

func newRecent(max int) *recent {
	return &recent{max: max, new: map[store.Key]State{}, old: map[store.Key]State{}}
}

func (r *recent) get(k store.Key, rev store.Rev) (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.new[k]
	if !ok {
		s, ok = r.old[k]
	}
	return s, ok && s.rev == rev
}

func (r *recent) put(k store.Key, s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.new) >= r.max/2 {
		r.old, r.new = r.new, map[store.Key]State{}
	}
	r.new[k] = s
}
