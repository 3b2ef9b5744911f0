package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"
)

// rangePage bounds how many entries Memory copies under its lock for one step of a Range.
const rangePage = 128

// Memory is the reference model of the contract: nothing is durable, everything else holds. The zero value
// is not usable; see NewMemory. It is safe for concurrent use. Expired entries keep their memory until their
// key is written again.
type Memory struct {
	now   func() time.Time
	mu    sync.RWMutex
	rev   uint64
	parts map[string]*partition
}

type partition struct {
	sorts   []string // in byte order, exactly the keys of entries
	entries map[string]Entry
}

// NewMemory returns an empty store that judges expiry by now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, parts: map[string]*partition{}}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, k Key) (Entry, error) {
	if err := readable(ctx, k); err != nil {
		return Entry{}, fmt.Errorf("store: get %v: %w", k, err)
	}
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.live(k, now)
	if !ok {
		return Entry{}, ErrNotFound
	}
	return e.clone(), nil
}

// GetMany implements Getter; it sees one state of the store.
func (m *Memory) GetMany(ctx context.Context, keys ...Key) ([]Entry, error) {
	if err := readable(ctx, keys...); err != nil {
		return nil, fmt.Errorf("store: get %d keys: %w", len(keys), err)
	}
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Entry
	for _, k := range keys {
		if e, ok := m.live(k, now); ok {
			out = append(out, e.clone())
		}
	}
	return out, nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, ops ...Op) error {
	if err := Validate(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: commit of %d operations, nothing written: %w", len(ops), err)
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var failed []Key
	for _, op := range ops {
		e, ok := m.live(op.Key, now)
		if op.Absent && ok || op.IfRev != "" && (!ok || e.Rev != op.IfRev) {
			failed = append(failed, op.Key)
		}
	}
	if failed != nil {
		return &ConflictError{Keys: failed}
	}
	for _, op := range ops {
		switch op.Kind {
		case Put:
			m.rev++
			m.put(Entry{
				Key:     op.Key,
				Value:   bytes.Clone(op.Value),
				Rev:     Rev(strconv.FormatUint(m.rev, 36)),
				Expires: WholeSeconds(op.Expires),
			})
		case Delete:
			m.remove(op.Key)
		}
	}
	return nil
}

// Range implements Store. No lock is held while the caller's loop body runs.
func (m *Memory) Range(ctx context.Context, part, from, to string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		next, more := from, true
		for more {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, fmt.Errorf("store: range of %q: %w", part, err))
				return
			}
			var page []Entry
			page, next, more = m.page(part, next, to)
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// page returns live entries from `from` on, and where to go on if there may be more.
func (m *Memory) page(part, from, to string) (out []Entry, next string, more bool) {
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	p := m.parts[part]
	if p == nil {
		return nil, "", false
	}
	first, _ := slices.BinarySearch(p.sorts, from)
	for i := first; i < len(p.sorts); i++ {
		s := p.sorts[i]
		if to != "" && s >= to {
			return out, "", false
		}
		if i-first == rangePage {
			return out, s, true
		}
		if e := p.entries[s]; !Expired(e.Expires, now) {
			out = append(out, e.clone())
		}
	}
	return out, "", false
}

func (m *Memory) live(k Key, now time.Time) (Entry, bool) {
	p := m.parts[k.Part]
	if p == nil {
		return Entry{}, false
	}
	e, ok := p.entries[k.Sort]
	return e, ok && !Expired(e.Expires, now)
}

func (m *Memory) put(e Entry) {
	p := m.parts[e.Part]
	if p == nil {
		p = &partition{entries: map[string]Entry{}}
		m.parts[e.Part] = p
	}
	if i, found := slices.BinarySearch(p.sorts, e.Sort); !found {
		p.sorts = slices.Insert(p.sorts, i, e.Sort)
	}
	p.entries[e.Sort] = e
}

func (m *Memory) remove(k Key) {
	p := m.parts[k.Part]
	if p == nil {
		return
	}
	if i, found := slices.BinarySearch(p.sorts, k.Sort); found {
		p.sorts = slices.Delete(p.sorts, i, i+1)
		delete(p.entries, k.Sort)
	}
	if len(p.sorts) == 0 {
		delete(m.parts, k.Part)
	}
}

func (e Entry) clone() Entry {
	e.Value = bytes.Clone(e.Value)
	return e
}

func readable(ctx context.Context, keys ...Key) error {
	for _, k := range keys {
		if err := ValidateKey(k); err != nil {
			return err
		}
	}
	return ctx.Err()
}
