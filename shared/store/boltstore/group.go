package boltstore

import (
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"

	"sorrel/shared/store"
)

// group is the state of one bolt transaction that carries several commits.
type group struct {
	entries, expiry *bbolt.Bucket
	now             time.Time
	rev             uint64
	writes          int
}

func newGroup(tx *bbolt.Tx, now time.Time) *group {
	b := tx.Bucket(entriesBucket())
	return &group{entries: b, expiry: tx.Bucket(expiryBucket()), now: now, rev: b.Sequence()}
}

// apply writes all operations of r, or none and returns the conflict. The second error is bolt's: the
// transaction is then worthless.
func (g *group) apply(r *request) (conflict, err error) {
	if failed := g.failed(r); failed != nil {
		return &store.ConflictError{Keys: failed}, nil
	}
	for i, op := range r.ops {
		switch op.Kind {
		case store.Put:
			g.rev++
			g.writes++
			rec := r.records[i]
			binary.BigEndian.PutUint64(rec, g.rev)
			if err := g.entries.Put(r.keys[i], rec); err != nil {
				return nil, err
			}
			if !op.Expires.IsZero() {
				if err := g.expiry.Put(append(rec[8:recordHead:recordHead], r.keys[i]...), nil); err != nil {
					return nil, err
				}
			}
		case store.Delete:
			g.writes++
			if err := g.entries.Delete(r.keys[i]); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// failed returns the keys whose preconditions do not hold.
func (g *group) failed(r *request) (keys []store.Key) {
	for i, op := range r.ops {
		if !op.Absent && op.IfRev == "" {
			continue
		}
		rec := record(g.entries.Get(r.keys[i]))
		live := rec.live(g.now)
		if op.Absent && live || op.IfRev != "" && (!live || revision(rec.rev()) != op.IfRev) {
			keys = append(keys, op.Key)
		}
	}
	return keys
}
