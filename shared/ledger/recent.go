package ledger

import (
	"container/list"
	"crypto/sha256"
	"sync"

	"sorrel/shared/store"
)

// recent keeps decoded states by key. A state of one revision never changes, so a hit is as good as decoding
// again. Of a state that was just committed the revision is not known; it is told by the digest of its encoded form
// until the first read names it. When it is full those go that were not asked for the longest. It is bounded by the bytes of
// their encoded forms, as one state may be a hundred times as large as another; decoded they take about four times as much.
type recent struct {
	mu    sync.Mutex
	max   int // bytes
	bytes int
	at    map[store.Key]*list.Element
	order *list.List // of remembered, the last used first
}

type remembered struct {
	State
	key   store.Key
	sum   [sha256.Size]byte // of what was committed, until rev is known
	bytes int
}

func newRecent(max int) *recent {
	return &recent{max: max, at: map[store.Key]*list.Element{}, order: list.New()}
}

// get returns the state of an entry. It must not be modified.
func (r *recent) get(e store.Entry) (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[e.Key]
	if !ok {
		return State{}, false
	}
	s := at.Value.(*remembered)
	if s.rev == "" && s.sum == sha256.Sum256(e.Value) {
		s.rev = e.Rev
	}
	r.order.MoveToFront(at)
	return s.State, s.rev == e.Rev
}

// put remembers a state that nobody modifies any more: one that was read as value, or one without a revision that was
// committed as value.
func (r *recent) put(k store.Key, s State, value []byte) {
	m := &remembered{State: s, key: k, bytes: len(value)}
	if s.rev == "" {
		m.sum = sha256.Sum256(value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, known := r.at[k]; known {
		r.drop(at)
	}
	if m.bytes > r.max/2 {
		return
	}
	r.at[k] = r.order.PushFront(m)
	for r.bytes += m.bytes; r.bytes > r.max; {
		r.drop(r.order.Back())
	}
}

func (r *recent) drop(at *list.Element) {
	m := r.order.Remove(at).(*remembered)
	r.bytes -= m.bytes
	delete(r.at, m.key)
}
