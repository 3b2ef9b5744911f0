package boltstore

import (
	"runtime"

	"sorrel/shared/fault"
)

// run is the committer: the only goroutine that writes entries. It ends when the store is closed and drained.
func (s *Store) run() {
	defer close(s.done)
	for range s.wake {
		for group := s.gather(); len(group) > 0; group = s.gather() {
			s.commitGroup(group)
		}
	}
	for group := s.take(); len(group) > 0; group = s.take() {
		s.commitGroup(group)
	}
}

// gather gives way while the queue grows: the callers answered last are about to come back, and without
// this each group would hold only the half of them that were quick. It costs nothing when nobody comes.
func (s *Store) gather() []*request {
	for before, n := 0, s.waiting(); n > before && n < maxGroup; n = s.waiting() {
		before = n
		runtime.Gosched()
	}
	return s.take()
}

func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// take removes the next group from the queue, in arrival order and within the group bounds.
func (s *Store) take() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) && n < maxGroup && (n == 0 || size+s.queue[n].bytes <= maxGroupBytes) {
		size += s.queue[n].bytes
		n++
	}
	group := s.queue[:n:n]
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return group
}

// commitGroup answers every request of the group, after the disk has what was accepted.
func (s *Store) commitGroup(group []*request) {
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	results := make([]error, len(group))
	if broken == nil {
		broken = s.write(group, results)
	}
	for i, r := range group {
		if broken != nil {
			results[i] = broken
		}
		r.done <- results[i]
	}
}

// write applies the group in one transaction and fills in each request's own result. An error concerns all of them.
func (s *Store) write(group []*request, results []error) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return s.wrap("commit", err)
	}
	defer tx.Rollback() // does nothing after a commit
	g := newGroup(tx, s.now())
	for i, r := range group {
		if results[i], err = g.apply(r); err != nil {
			return s.wrap("commit", err)
		}
	}
	if g.writes == 0 {
		return nil
	}
	if err := g.entries.SetSequence(g.rev); err != nil {
		return s.wrap("commit", err)
	}
	if err := tx.Commit(); err != nil {
		return s.fail(err)
	}
	return nil
}

// fail ends writing for good. After a failed write or fsync neither the kernel nor bolt can say what reached the disk
// (the meta page may be there), and a later fsync that succeeds proves nothing: https://lwn.net/Articles/752063/.
func (s *Store) fail(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = &fault.Error{
		Class: fault.Down, Op: "boltstore.commit", ID: s.path, Err: cause,
		Detail: "an earlier write failed, nothing more is written",
		Remedy: "free space on the disk or repair it, then restart the process",
	}
	return &fault.Error{
		Class: fault.Unknown, Op: "boltstore.commit", ID: s.path, Err: cause,
		Detail: "the disk did not confirm the write, it may or may not be there",
		Remedy: "free space on the disk or repair it, restart the process, and read back before committing again",
	}
}
