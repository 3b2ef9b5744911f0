package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
)

// Expire removes up to limit expired entries from the file, those that expired first go first, and returns how many it
// removed; fewer than limit means that none are left. Reads never return expired entries, swept or not: this
// only gives back space. It writes in small transactions, so commits are not held up for long.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	removed := 0
	for removed < limit {
		if err := ctx.Err(); err != nil {
			return removed, fmt.Errorf("boltstore.expire: %w", err)
		}
		rows, n, err := s.expireSome(min(limit-removed, expireRows))
		removed += n
		if err != nil {
			return removed, err
		}
		if rows == 0 {
			break
		}
	}
	return removed, nil
}

// expireSome looks at up to limit due rows of the expiry bucket and returns how many there were and how many
// entries went with them.
func (s *Store) expireSome(limit int) (rows, removed int, err error) {
	if err := s.writable(); err != nil {
		return 0, 0, err
	}
	now := s.now()
	tx, err := s.db.Begin(true)
	if err != nil {
		return 0, 0, s.wrap("expire", err)
	}
	defer tx.Rollback() // does nothing after a commit
	entries, expiry := tx.Bucket(entriesBucket()), tx.Bucket(expiryBucket())

	var due [][]byte
	c := expiry.Cursor()
	for k, _ := c.First(); k != nil && len(due) < limit; k, _ = c.Next() {
		if binary.BigEndian.Uint64(k) > uint64(max(now.Unix(), 0)) {
			break
		}
		due = append(due, bytes.Clone(k))
	}
	if len(due) == 0 {
		return 0, 0, nil
	}
	for _, row := range due {
		key := row[8:]
		if r := record(entries.Get(key)); r != nil && !r.live(now) {
			if err := entries.Delete(key); err != nil {
				return 0, 0, s.wrap("expire", err)
			}
			removed++
		}
		if err := expiry.Delete(row); err != nil {
			return 0, 0, s.wrap("expire", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, 0, s.fail(err)
	}
	return len(due), removed, nil
}
