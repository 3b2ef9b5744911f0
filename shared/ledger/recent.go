package ledger

import (
	"crypto/sha256"
	"sync"

	"sorrel/shared/store"
)

// recent keeps decoded states by key. A state of one revision never changes, so a hit is as good as decoding
// again. Of a state that was just committed the revision is not known; it is told by the digest of its encoded form
// until the first read names it. When it is full the older half is dropped at once. It is bounded by the bytes of their
// encoded forms, as one state may be a hundred times as large as another; decoded they take about four times as much.
type recent struct {
	mu       sync.Mutex
	max      int // bytes
	bytes    int // of new
	new, old map[store.Key]remembered
}

type remembered struct {
	State
	sum   [sha256.Size]byte // of what was committed, until rev is known
	bytes int
}

func newRecent(max int) *recent {
	return &recent{max: max, new: map[store.Key]remembered{}, old: map[store.Key]remembered{}}
}

// get returns the state of an entry. It must not be modified.
func (r *recent) get(e store.Entry) (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.new[e.Key]
	if !ok {
		s, ok = r.old[e.Key]
	}
	switch {
	case !ok:
		return State{}, false
	case s.rev == "" && s.sum == sha256.Sum256(e.Value):
		s.rev = e.Rev
		r.keep(e.Key, s)
	}
	return s.State, s.rev == e.Rev
}

// put remembers a state that nobody modifies any more: one that was read as value, or one without a revision that was
// committed as value.
func (r *recent) put(k store.Key, s State, value []byte) {
	m := remembered{State: s, bytes: len(value)}
	if s.rev == "" {
		m.sum = sha256.Sum256(value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(k, m)
}

func (r *recent) keep(k store.Key, s remembered) {
	if s.bytes > r.max/2 {
		return
	}
	r.bytes += s.bytes - r.new[k].bytes
	if r.bytes > r.max/2 {
		r.old, r.new, r.bytes = r.new, map[store.Key]remembered{}, s.bytes
	}
	r.new[k] = s
}
