package storetest

import (
	"context"
	"errors"
	"iter"
	"sync"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// Fault is what Faulty does to one call.
type Fault uint8

const (
	// None lets the call through.
	None Fault = iota
	// FailBefore fails without reaching the store: class fault.Down, nothing written.
	FailBefore
	// FailAfter loses the answer. A commit happens as the store decides and the caller gets class
	// fault.Unknown, whether it was written or refused. A Range breaks off with class fault.Down after
	// its first entry; Get and GetMany fail with class fault.Down.
	FailAfter
	// Throttle refuses without reaching the store: class fault.Throttled, nothing written.
	Throttle
	// Stale makes Get and GetMany return, for each key, the entry as it was before the last commit through
	// this wrapper that wrote it. Other calls are let through.
	Stale
)

// The operations that Next is asked about.
const (
	OpGet     = "get"
	OpGetMany = "getmany"
	OpCommit  = "commit"
	OpRange   = "range" // asked once per iteration, with the one key {part, from}
)

// Faulty is a store whose faults the test chooses. It is as safe for concurrent use as Next is. With a Next that
// depends only on its arguments and on the calls before, a single-threaded run is repeatable.
type Faulty struct {
	store.Store
	// Next decides about each call before it is made; nil means None always.
	Next func(op string, keys []store.Key) Fault

	mu       sync.Mutex
	previous map[store.Key]before
}

// before is the state of a key before its last commit; ok false = there was no live entry.
type before struct {
	entry store.Entry
	ok    bool
}

func (f *Faulty) next(op string, keys ...store.Key) Fault {
	if f.Next == nil {
		return None
	}
	return f.Next(op, keys)
}

func injected(c fault.Class, op, detail string) error { return fault.New(c, "faulty."+op, detail) }

// refusal returns the error of a fault that keeps the call from the store, or nil.
func refusal(kind Fault, op string) error {
	switch kind {
	case FailBefore:
		return injected(fault.Down, op, "injected: failed before it reached the store")
	case Throttle:
		return injected(fault.Throttled, op, "injected: throttled")
	}
	return nil
}

// Get implements store.Store.
func (f *Faulty) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	found, err := f.read(ctx, OpGet, k)
	if err != nil {
		return store.Entry{}, err
	}
	if len(found) == 0 {
		return store.Entry{}, store.ErrNotFound
	}
	return found[0], nil
}

// GetMany implements store.Getter.
func (f *Faulty) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	return f.read(ctx, OpGetMany, keys...)
}

func (f *Faulty) read(ctx context.Context, op string, keys ...store.Key) ([]store.Entry, error) {
	kind := f.next(op, keys...)
	if err := refusal(kind, op); err != nil {
		return nil, err
	}
	found, err := store.GetMany(ctx, f.Store, keys...)
	if err != nil {
		return nil, err
	}
	if kind == FailAfter {
		return nil, injected(fault.Down, op, "injected: the answer was lost")
	}
	out := make([]store.Entry, 0, len(keys))
	for _, k := range keys {
		e, ok := found[k]
		if old, known := f.before(k); kind == Stale && known {
			e, ok = old.entry, old.ok
		}
		if ok {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *Faulty) before(k store.Key) (before, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, known := f.previous[k]
	return b, known
}

// Commit implements store.Store.
func (f *Faulty) Commit(ctx context.Context, ops ...store.Op) error {
	var keys, written []store.Key
	for _, op := range ops {
		keys = append(keys, op.Key)
		if op.Kind != store.Check {
			written = append(written, op.Key)
		}
	}
	kind := f.next(OpCommit, keys...)
	if err := refusal(kind, OpCommit); err != nil {
		return err
	}
	old := f.look(ctx, written)
	err := f.Store.Commit(ctx, ops...)
	if err == nil {
		f.remember(old)
	}
	if kind == FailAfter {
		return injected(fault.Unknown, OpCommit, "injected: the answer was lost")
	}
	return err
}

// look reads the keys one by one; one that can not be read (an invalid key) has no previous state to offer.
func (f *Faulty) look(ctx context.Context, keys []store.Key) map[store.Key]before {
	old := make(map[store.Key]before, len(keys))
	for _, k := range keys {
		switch e, err := f.Store.Get(ctx, k); {
		case err == nil:
			old[k] = before{entry: e, ok: true}
		case errors.Is(err, store.ErrNotFound):
			old[k] = before{}
		}
	}
	return old
}

func (f *Faulty) remember(old map[store.Key]before) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.previous == nil {
		f.previous = map[store.Key]before{}
	}
	for k, b := range old {
		f.previous[k] = b
	}
}

// Range implements store.Store.
func (f *Faulty) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		kind := f.next(OpRange, store.Key{Part: part, Sort: from})
		if err := refusal(kind, OpRange); err != nil {
			yield(store.Entry{}, err)
			return
		}
		for e, err := range f.Store.Range(ctx, part, from, to) {
			if !yield(e, err) {
				return
			}
			if kind == FailAfter {
				break
			}
		}
		if kind == FailAfter {
			yield(store.Entry{}, injected(fault.Down, OpRange, "injected: broke off half-way"))
		}
	}
}
