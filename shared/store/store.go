// Package store is the one storage contract of Sorrel: ordered keys inside partitions, revisions, and
// all-or-nothing conditional commits. DynamoDB (shared/cloud), bbolt (shared/store/boltstore) and memory
// (this package) implement it; shared/store/storetest is the suite that all of them pass.
//
// Non-guarantees: there is no order between partitions, no snapshot across the pages of one Range, and an
// expired entry may be physically present for days (it is never returned).
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Limits of the contract, enforced by every adapter before anything is written.
const (
	MaxPart      = 1024      // bytes of Key.Part (DynamoDB: 2048 for a partition key; we keep room for prefixes)
	MaxSort      = 1000      // bytes of Key.Sort (DynamoDB: 1024)
	MaxValue     = 350 << 10 // bytes of Entry.Value (DynamoDB item: 400 KB)
	MaxOps       = 100       // operations in one Commit (DynamoDB TransactWriteItems)
	MaxBatchSize = 3 << 20   // bytes of values in one Commit (DynamoDB: 4 MB)
)

// ErrNotFound: no live entry under the key.
var ErrNotFound = errors.New("store: not found")

// Key names one entry. Both parts are non-empty byte strings, valid UTF-8 is not required; Sort is compared
// bytewise within Part.
type Key struct{ Part, Sort string }

func (k Key) String() string { return fmt.Sprintf("%q/%q", k.Part, k.Sort) }

// Rev identifies one written state of one entry; opaque, never reused, empty = no entry.
type Rev string

// Entry is a live entry. Value must not be modified by the reader. A zero Expires means never.
type Entry struct {
	Key
	Value   []byte
	Rev     Rev
	Expires time.Time // whole seconds, UTC
}

// Kind of an operation.
type Kind uint8

const (
	Put Kind = iota + 1
	Delete
	Check // writes nothing, only asserts the precondition
)

// Op is one operation of a commit. Precondition: Absent (no live entry), or IfRev (exactly that revision),
// or neither (any). Setting both is invalid, as is a Check with neither.
type Op struct {
	Kind    Kind
	Key     Key
	Value   []byte
	Expires time.Time
	Absent  bool
	IfRev   Rev
}

// Store is the contract.
type Store interface {
	// Get returns the live entry, or ErrNotFound. Reads are strongly consistent.
	Get(ctx context.Context, k Key) (Entry, error)
	// Commit applies all operations or none. A key appears at most once. A failed precondition gives a
	// *ConflictError naming the keys; invalid or oversized operations give an *InvalidError; a busy
	// store gives a fault of class Throttled. After a lost acknowledgement an adapter recognises
	// its own write by its revision and reports success.
	Commit(ctx context.Context, ops ...Op) error
	// Range yields live entries with from ≤ Sort < to in byte order within part. An empty `to` means
	// to the end of the partition. The sequence stops after the first error.
	Range(ctx context.Context, part, from, to string) iter.Seq2[Entry, error]
}

// Getter is the optional batched read: the live entries among keys, in no order. GetMany uses it.
type Getter interface {
	GetMany(ctx context.Context, keys ...Key) ([]Entry, error)
}

// GetMany reads several keys, in one round trip where the adapter can. Missing keys are simply not in the map.
func GetMany(ctx context.Context, s Store, keys ...Key) (map[Key]Entry, error) {
	out := make(map[Key]Entry, len(keys))
	if g, ok := s.(Getter); ok {
		entries, err := g.GetMany(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			out[e.Key] = e
		}
		return out, nil
	}
	for _, k := range keys {
		e, err := s.Get(ctx, k)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[k] = e
	}
	return out, nil
}

// ConflictError names the keys whose preconditions failed; nothing was written. An adapter that cannot
// tell which key failed names all conditional keys of the commit.
type ConflictError struct{ Keys []Key }

func (e *ConflictError) Error() string {
	s := make([]string, len(e.Keys))
	for i, k := range e.Keys {
		s[i] = k.String()
	}
	return "store: precondition failed for " + strings.Join(s, ", ")
}

// InvalidError is a commit that no adapter may accept; nothing was written.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "store: invalid commit: " + e.Reason }

// IsConflict reports whether err is a failed precondition.
func IsConflict(err error) bool { var c *ConflictError; return errors.As(err, &c) }

// Validate checks ops against the contract's limits; every adapter calls it first.
func Validate(ops []Op) error {
	bad := func(format string, a ...any) error { return &InvalidError{fmt.Sprintf(format, a...)} }
	if len(ops) == 0 {
		return bad("no operations")
	}
	if len(ops) > MaxOps {
		return bad("%d operations, at most %d", len(ops), MaxOps)
	}
	seen := make(map[Key]struct{}, len(ops))
	total := 0
	for _, op := range ops {
		if err := ValidateKey(op.Key); err != nil {
			return err
		}
		if _, dup := seen[op.Key]; dup {
			return bad("key %v appears twice", op.Key)
		}
		seen[op.Key] = struct{}{}
		if op.Absent && op.IfRev != "" {
			return bad("key %v: absent and revision together", op.Key)
		}
		switch op.Kind {
		case Put:
			if len(op.Value) > MaxValue {
				return bad("key %v: value of %d bytes, at most %d", op.Key, len(op.Value), MaxValue)
			}
			total += len(op.Value)
		case Delete:
		case Check:
			if !op.Absent && op.IfRev == "" {
				return bad("key %v: check without a precondition", op.Key)
			}
		default:
			return bad("key %v: unknown kind %d", op.Key, op.Kind)
		}
	}
	if total > MaxBatchSize {
		return bad("%d bytes of values, at most %d", total, MaxBatchSize)
	}
	return nil
}

// ValidateKey checks one key against the contract's limits.
func ValidateKey(k Key) error {
	switch {
	case k.Part == "" || k.Sort == "":
		return &InvalidError{fmt.Sprintf("key %v: empty part or sort", k)}
	case len(k.Part) > MaxPart:
		return &InvalidError{fmt.Sprintf("part of %d bytes, at most %d", len(k.Part), MaxPart)}
	case len(k.Sort) > MaxSort:
		return &InvalidError{fmt.Sprintf("sort of %d bytes, at most %d", len(k.Sort), MaxSort)}
	}
	return nil
}
