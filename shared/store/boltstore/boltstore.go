// Package boltstore is the embedded adapter of the store contract: one bbolt file, one process, durable
// across kill -9 and loss of power.
//
// Commits that wait at the same moment share one bolt transaction, hence one pair of fsyncs (data, then
// meta page): throughput grows with the number of concurrent committers while each of them still returns
// only after its own data is on disk. Preconditions are judged in arrival order against what earlier commits of
// the same group did; a commit that fails one is left out alone.
//
// Bolt is opened without a synced free list: a list that is written with every commit grows with every
// deletion, and a store used as an outbox deletes all the time. The price is a scan of the file at Open, which also
// finds a damaged file before anything trusts it. Sources: https://github.com/etcd-io/bbolt#caveats--limitations,
// https://pkg.go.dev/go.etcd.io/bbolt#Options.
//
// Danger: the file is memory-mapped. Pages that were read count as resident memory of the process until the
// kernel wants them back, and the file never shrinks; space of deleted entries is used again.
package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

const (
	maxGroup      = 1024    // commits in one bolt transaction
	maxGroupBytes = 8 << 20 // value bytes in one bolt transaction: bounds memory and the latency of the group
	rangeEntries  = 256     // entries looked at in one read transaction of a Range
	rangeBytes    = 1 << 20 // value bytes in one read transaction of a Range
	expireRows    = 1000    // rows in one write transaction of Expire: bounds how long commits wait behind it
)

// ErrClosed: the store was used after Close.
var ErrClosed = errors.New("boltstore: closed")

// Store implements store.Store and store.Getter. It is safe for concurrent use.
type Store struct {
	db   *bbolt.DB
	path string
	now  func() time.Time

	mu     sync.Mutex
	queue  []*request
	closed bool
	broken error         // set once a bolt transaction failed to commit; see fail
	wake   chan struct{} // capacity 1
	done   chan struct{} // closed when the committer has drained the queue
}

// request is one Commit that waits for its group. keys and records are the encoded ops, nil records where
// nothing is put.
type request struct {
	ops     []store.Op
	keys    [][]byte
	records [][]byte
	bytes   int
	done    chan error // capacity 1
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	found, err := s.GetMany(ctx, k)
	if err != nil {
		return store.Entry{}, err
	}
	if len(found) == 0 {
		return store.Entry{}, store.ErrNotFound
	}
	return found[0], nil
}

// GetMany implements store.Getter; it sees one state of the store.
func (s *Store) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	for _, k := range keys {
		if err := store.ValidateKey(k); err != nil {
			return nil, fmt.Errorf("boltstore.get: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("boltstore.get: %w", err)
	}
	now := s.now()
	var out []store.Entry
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(entriesBucket())
		for _, k := range keys {
			if r := record(b.Get(encodeKey(k))); r.live(now) {
				out = append(out, entry(k, r))
			}
		}
		return nil
	})
	return out, s.wrap("get", err)
}

// Range implements store.Store. No transaction is open while the caller's loop body runs, so it may commit.
func (s *Store) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		next, hi := bounds(part, from, to)
		skip := len(prefix(part))
		for next != nil {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, fmt.Errorf("boltstore.range(%q): %w", part, err))
				return
			}
			var page []store.Entry
			err := s.db.View(func(tx *bbolt.Tx) error {
				page, next = readPage(tx, part, skip, next, hi, s.now())
				return nil
			})
			if err != nil {
				yield(store.Entry{}, s.wrap("range", err))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// readPage returns the live entries of one page from lo on, and the key at which the next page starts, or nil.
func readPage(tx *bbolt.Tx, part string, skip int, lo, hi []byte, now time.Time) (page []store.Entry, next []byte) {
	c := tx.Bucket(entriesBucket()).Cursor()
	size, seen := 0, 0
	for k, v := c.Seek(lo); k != nil && bytes.Compare(k, hi) < 0; k, v = c.Next() {
		if seen == rangeEntries || size >= rangeBytes {
			return page, bytes.Clone(k)
		}
		seen++
		if r := record(v); r.live(now) {
			page = append(page, entry(store.Key{Part: part, Sort: string(k[skip:])}, r))
			size += len(r)
		}
	}
	return page, nil
}

func entry(k store.Key, r record) store.Entry {
	return store.Entry{Key: k, Value: bytes.Clone(r.value()), Rev: revision(r.rev()), Expires: r.expires()}
}

func revision(n uint64) store.Rev { return store.Rev(strconv.FormatUint(n, 36)) }

// Commit implements store.Store. When ctx ends while the commit still waits for its group, nothing was written
// and the error is the context's. When ctx ends while its group is on its way to the disk, the error is of class
// fault.Unknown as well: the commit may or may not have happened.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.Validate(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return notWritten(err)
	}
	r := newRequest(ops)
	if err := s.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	if s.withdraw(r) {
		return notWritten(ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	default:
	}
	return &fault.Error{
		Class: fault.Unknown, Op: "boltstore.commit", Err: ctx.Err(),
		Detail: "the caller stopped waiting while the commit was being written",
		Remedy: "read the keys back before committing again",
	}
}

func notWritten(err error) error { return fmt.Errorf("boltstore.commit: nothing written: %w", err) }

func newRequest(ops []store.Op) *request {
	r := &request{
		ops:     slices.Clone(ops),
		keys:    make([][]byte, len(ops)),
		records: make([][]byte, len(ops)),
		done:    make(chan error, 1),
	}
	for i, op := range ops {
		r.keys[i] = encodeKey(op.Key)
		if op.Kind == store.Put {
			r.records[i] = encodeRecord(op)
			r.bytes += len(r.records[i])
		}
		r.ops[i].Value = nil // the caller may reuse its buffer
	}
	return r
}

func (s *Store) enqueue(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.broken != nil {
		return s.broken
	}
	s.queue = append(s.queue, r)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// withdraw takes r out of the queue; false means that the committer already has it.
func (s *Store) withdraw(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, r)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	return true
}

// Close writes what waits, then releases the file. Commits that come later get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.wake)
	}
	s.mu.Unlock()
	<-s.done
	return s.wrap("close", s.db.Close())
}

func (s *Store) wrap(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	default:
		return fault.Wrap(fault.Down, "boltstore."+op, s.path, err)
	}
}

// writable says whether the store still writes.
func (s *Store) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.broken
}
