package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// batch collects concurrent Sends for one commit.
type batch struct {
	messages []queue.Message
	keys     []key
	done     chan struct{}
	kept     int   // so many from the front are durable; read it after done
	err      error // why the others are not
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// write is the only goroutine that flushes, begins, empties and removes segments.
func (q *Queue) write() {
	defer close(q.stopped)
	for {
		select {
		case <-q.quit:
			return
		case <-q.poke:
		}
		runtime.Gosched() // senders that the last flush let go join this batch; see the package comment
		q.intake.Lock()
		b := q.batch
		if b != nil && len(b.messages) > 0 {
			q.batch = newBatch()
		} else {
			b = nil
		}
		q.intake.Unlock()
		if b != nil {
			q.commit(b)
		}
		again, err := q.maintain()
		q.mu.Lock()
		q.untidy = err
		q.mu.Unlock()
		if again && err == nil {
			q.wakeWriter()
		}
	}
}

// commit makes a batch durable, in as few flushes as its size allows, and visible.
func (q *Queue) commit(b *batch) {
	defer close(b.done)
	for b.kept < len(b.messages) {
		n, err := q.commitChunk(b.messages[b.kept:], b.keys[b.kept:])
		if err != nil {
			b.err = err
			return
		}
		b.kept += n
	}
}

// commitChunk returns how many messages it has made durable or dropped as repeats.
func (q *Queue) commitChunk(msgs []queue.Message, keys []key) (int, error) {
	if err := q.roll(); err != nil {
		return 0, err
	}
	q.mu.Lock()
	if q.failed != nil {
		defer q.mu.Unlock()
		return 0, q.failed
	}
	now := q.now().UnixNano()
	w := q.startWrite()
	var added []*message
	var from []int
	n := 0
	for ; n < len(msgs) && len(w.buf) < q.limits.chunk; n++ {
		if q.window.has(keys[n], now) {
			continue
		}
		q.window.add(seen{keys[n], now, w.seg.number})
		m := &message{seq: q.nextSeq + uint64(len(added)), sentAt: now}
		m.at = w.message(sent, &stored{seq: m.seq, sentAt: now, group: msgs[n].Group, dedup: msgs[n].Dedup, body: msgs[n].Body})
		added, from = append(added, m), append(from, n)
	}
	if len(added) == 0 {
		q.mu.Unlock()
		return n, nil
	}
	if err := q.finishWrite(w); err != nil {
		q.window.undo(len(added))
		q.mu.Unlock()
		return 0, err
	}
	q.nextSeq += uint64(len(added))
	q.mu.Unlock()

	if err := q.flush(w.seg); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, m := range added {
		q.index.add(m, msgs[from[i]].Group)
	}
	q.wake()
	return n, nil
}

// pendingWrite gathers frames for the active segment while mu is held.
type pendingWrite struct {
	seg *segment
	buf []byte
}

func (q *Queue) startWrite() *pendingWrite {
	return &pendingWrite{seg: q.active(), buf: q.scratch[:0]}
}

func (w *pendingWrite) message(k kind, m *stored) place {
	start := len(w.buf)
	w.buf = appendMessage(openFrame(w.buf), k, m)
	return w.close(start)
}

func (w *pendingWrite) close(start int) place {
	off := w.seg.size + int64(start)
	closeFrame(w.buf, start, w.seg.number, off, w.seg.durable)
	return place{w.seg, uint32(off), uint32(len(w.buf) - start)}
}

// finishWrite appends the frames. When that fails, as on a full disk, it takes back what was written in part.
func (q *Queue) finishWrite(w *pendingWrite) error {
	q.scratch = w.buf
	if cap(q.scratch) > 1<<20 {
		q.scratch = nil
	}
	if _, err := q.limits.write(w.seg.file, w.buf, w.seg.size); err != nil {
		err = &fault.Error{Class: fault.Down, Op: "durable.write", ID: w.seg.path, Err: err, Remedy: "make room on the disk or repair it"}
		if cut := w.seg.file.Truncate(w.seg.size); cut != nil {
			q.fail(errors.Join(err, cut))
		}
		return err
	}
	w.seg.size += int64(len(w.buf))
	return nil
}

// writeMarks appends one record about messages. It needs mu.
func (q *Queue) writeMarks(k kind, marks []mark) error {
	w := q.startWrite()
	w.buf = appendMarks(openFrame(w.buf), k, marks)
	w.close(0)
	if err := q.finishWrite(w); err != nil {
		return err
	}
	if w.seg.size >= q.limits.segment {
		q.wakeWriter()
	}
	return nil
}

// flush makes what has been written to s so far durable. It is called without mu. A failure stops the queue.
func (q *Queue) flush(s *segment) error {
	q.mu.Lock()
	end := s.size
	q.mu.Unlock()
	err := q.limits.sync(s.file)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.fail(flushFailed(s.path, err))
		return q.failed
	}
	s.durable = max(s.durable, end)
	return nil
}

func flushFailed(path string, err error) error {
	return &fault.Error{Class: fault.Down, Op: "durable.flush", ID: path, Err: err,
		Remedy: "check the disk, then open the queue again: what was acknowledged is safe"}
}

// roll begins a new segment when the active one is full. The old one is flushed first, so only the last segment can
// have a torn tail.
func (q *Queue) roll() error {
	q.mu.Lock()
	old, next := q.active(), q.nextSeq
	full := old.size >= q.limits.segment && q.failed == nil
	q.mu.Unlock()
	if !full {
		return nil
	}
	s, err := q.create(old.number+1, next)
	if err != nil {
		return err
	}
	if err := q.flush(old); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.limits.sync(old.file); err != nil { // the little that was marked since
		q.fail(flushFailed(old.path, err))
		return q.failed
	}
	old.durable = old.size
	q.segments = append(q.segments, s)
	return nil
}

// create makes an empty segment file, durable with its name.
func (q *Queue) create(number, next uint64) (*segment, error) {
	s := &segment{number: number, path: filepath.Join(q.dir, segmentName(number)), size: headerSize, durable: headerSize}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Down, "durable.create", s.path, err)
	}
	s.file = f
	_, err = f.WriteAt(encodeHeader(number, next), 0)
	if err == nil {
		err = q.limits.sync(f)
	}
	if err == nil {
		err = syncDir(q.dir)
	}
	if err != nil {
		err = errors.Join(err, f.Close(), os.Remove(s.path))
		return nil, fault.Wrap(fault.Down, "durable.create", s.path, err)
	}
	return s, nil
}

// garbage wakes the writer when there is something to tidy. It needs mu.
func (q *Queue) garbage() {
	if len(q.segments) > 1 && (q.segments[0].live == 0 || q.crowded()) {
		q.wakeWriter()
	}
}

// crowded reports whether more than half of the log is garbage. Copying the oldest segment then frees at least as
// much as it costs, averaged over the row of segments.
func (q *Queue) crowded() bool {
	var total int64
	for _, s := range q.segments {
		total += s.size
	}
	return total > 2*q.index.liveBytes+q.limits.slack
}

// maintain takes one step of tidying and says whether there may be more to do. Only the oldest segment
// is ever removed: a deletion stands in the same or a later segment than its message, so no message can come back.
func (q *Queue) maintain() (again bool, err error) {
	if err := q.roll(); err != nil {
		return false, err
	}
	q.mu.Lock()
	now := q.now().UnixNano()
	q.window.expire(now)
	var stale []seenFile
	for len(q.seenFiles) > 0 && q.seenFiles[0].newest+int64(queue.DedupWindow) <= now {
		stale = append(stale, q.seenFiles[0])
		q.seenFiles = q.seenFiles[1:]
	}
	oldest := q.segments[0]
	single := len(q.segments) == 1 || q.failed != nil
	empty := !single && oldest.live == 0
	crowded := !single && q.crowded()
	q.mu.Unlock()

	for _, s := range stale {
		if err := os.Remove(s.path); err != nil {
			return false, fault.Wrap(fault.Down, "durable.tidy", s.path, err)
		}
	}
	switch {
	case empty:
		return true, q.drop(oldest)
	case crowded:
		return true, q.relocate(oldest)
	}
	return false, nil
}

// drop removes the oldest segment, which has no messages any more, and keeps its part of the dedup window.
func (q *Queue) drop(s *segment) error {
	q.mu.Lock()
	list := append([]seen(nil), q.window.of(s.number)...)
	q.mu.Unlock()
	var kept []seenFile
	if len(list) > 0 {
		path := filepath.Join(q.dir, seenName(s.number))
		if err := q.writeWhole(path, encodeSeen(list)); err != nil {
			return fault.Wrap(fault.Down, "durable.tidy", path, err)
		}
		kept = append(kept, seenFile{path, newest(list)})
	}
	err := os.Remove(s.path)
	if err == nil {
		err = syncDir(q.dir)
	}
	if err != nil {
		return fault.Wrap(fault.Down, "durable.tidy", s.path, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.segments = q.segments[1:]
	q.seenFiles = append(q.seenFiles, kept...)
	s.gone = true
	s.closeIfGone()
	return nil
}

// newest is a maximum: the injected clock may step back.
func newest(list []seen) int64 {
	var at int64
	for _, s := range list {
		at = max(at, s.at)
	}
	return at
}

// writeWhole makes a small file appear complete or not at all.
func (q *Queue) writeWhole(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = q.limits.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(q.dir)
}

// relocate copies the messages that are left in the oldest segment to the end of the log, in bounded steps, and
// flushes the copies.
func (q *Queue) relocate(old *segment) error {
	for {
		if err := q.roll(); err != nil {
			return err
		}
		done, err := q.relocateSome(old)
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	q.mu.Lock()
	s := q.active()
	q.mu.Unlock()
	return q.flush(s)
}

func (q *Queue) relocateSome(old *segment) (done bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed != nil {
		return true, nil
	}
	const step = 256 << 10 // so that receivers and senders are held up for well under a millisecond
	w := q.startWrite()
	var moved []*message
	var to []place
	done = true
	for m := q.index.first; m != nil; m = m.next {
		if m.at.seg != old {
			continue
		}
		if len(w.buf) >= step {
			done = false
			break
		}
		c, err := fetch(m.at)
		if err != nil {
			q.fail(err)
			return true, err
		}
		c.receives, c.notBefore = m.receives, 0
		if m.delayed {
			c.notBefore = m.deadline
		}
		moved, to = append(moved, m), append(to, w.message(copied, &c))
	}
	if err := q.finishWrite(w); err != nil {
		return true, err
	}
	for i, m := range moved {
		q.index.relocate(m, to[i])
	}
	return done, nil
}

func segmentName(number uint64) string { return pad(number) + ".log" }
func seenName(number uint64) string    { return pad(number) + ".seen" }

// pad makes names sort like their numbers.
func pad(number uint64) string {
	s := strconv.FormatUint(number, 10)
	return "0000000000000000"[:max(0, 16-len(s))] + s
}
