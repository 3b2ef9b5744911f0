// Package durable is the embedded queue: the contract of package queue in files of one folder, for one process.
//
// # What is safe when
//
// Send returns after its messages are flushed to the disk (fdatasync). Concurrent Sends share one write and one
// flush (group commit), so throughput grows with the number of senders.
//
// Receives, deletes and releases are written before the call returns but not flushed. The death of the process, kill
// -9 included, loses none of them, so a message that crashes its reader still reaches the dead-letter queue. A loss
// of power may forget the last of them: a message deleted just before comes again, or is counted once less.
//
// Open makes messages that were in flight visible at once, with their receive counts: only one process can have the
// folder open, so nobody is working on them any more. A delayed Release keeps its time. The dedup window lasts
// across restarts and deletion.
//
// A torn tail, the trace of a crash in the middle of a write, is cut; it was never acknowledged. Any other damage
// stops the queue with an error that names file and offset, at Open (which reads everything) or later.
// Limit: after a crash without Close, damage to the very last flushed write cannot be told from a torn tail.
//
// # Cost
//
// Bodies stay on the disk. Memory is about 150 bytes for each waiting message, as much again for each group and
// 75 bytes for each send of the last five minutes. The log is a row of segment files; a segment goes when its
// messages are gone. When more than half of the log is garbage the oldest segment's few messages are copied
// forward, so what is written is at most about twice what is sent, and files stay below twice what waits plus 40 MB.
//
// # GOMAXPROCS
//
// A flush is a blocking system call. With GOMAXPROCS=1 the only processor waits with it for up to milliseconds
// before the Go runtime takes it away, and appending one by one loses most of its throughput. Here the flush is in
// one goroutine, which lets every runnable sender queue up before it writes, so one flush still carries them all;
// the process as a whole should nevertheless run with at least 2.
package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// errLocked is what lockFile returns when another open queue has the folder.
var errLocked = errors.New("folder is in use")

// limits are the sizes that tests make small.
type limits struct {
	segment int64 // bytes after which a new segment begins
	slack   int64 // bytes of garbage that never matter
	chunk   int   // bytes of one write
	write   func(f *os.File, b []byte, off int64) (int, error)
	sync    func(*os.File) error
}

func standard() limits {
	return limits{segment: 8 << 20, slack: 32 << 20, chunk: 4 << 20, write: (*os.File).WriteAt, sync: syncData}
}

// Queue is an open queue. All methods may be called concurrently.
type Queue struct {
	dir        string
	settings   queue.Settings
	deadLetter *Queue
	now        func() time.Time
	limits     limits
	lock       *os.File
	cut        int64

	intake  sync.Mutex
	batch   *batch // what the next commit takes; nil after Close
	poke    chan struct{}
	quit    chan struct{}
	stopped chan struct{}

	mu        sync.Mutex
	index     index
	window    window
	segments  []*segment // oldest first; the last is written to
	seenFiles []seenFile
	nextSeq   uint64
	failed    error // once set, every call returns it
	untidy    error // why the last tidying failed; it is tried again after the next Send
	scratch   []byte
	closed    bool
	users     sync.WaitGroup
	changed   chan struct{}
	waiting   bool // somebody waits for changed
}

type seenFile struct {
	path   string
	newest int64
}

// Send implements queue.Sender. A context that is done before is refused; once begun, a Send waits for its outcome,
// which takes milliseconds.
func (q *Queue) Send(ctx context.Context, msgs ...queue.Message) error {
	if err := queue.Validate(msgs); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return q.wrap("send", err)
	}
	if len(msgs) == 0 {
		return nil
	}
	keys := make([]key, len(msgs))
	for i := range msgs {
		keys[i] = keyOf(msgs[i].Dedup)
	}
	q.intake.Lock()
	b := q.batch
	if b == nil {
		q.intake.Unlock()
		return q.wrap("send", errClosed())
	}
	lo := len(b.messages)
	b.messages = append(b.messages, msgs...)
	b.keys = append(b.keys, keys...)
	q.intake.Unlock()
	if lo == 0 {
		q.wakeWriter()
	}
	<-b.done
	switch kept := b.kept - lo; {
	case kept >= len(msgs):
		return nil
	case kept <= 0:
		return q.wrap("send", b.err)
	default:
		p := &queue.PartialError{Err: q.wrap("send", b.err)}
		for i := kept; i < len(msgs); i++ {
			p.Failed = append(p.Failed, i)
		}
		return p
	}
}

// Receive implements queue.Receiver. It fills up from the oldest group as queue.Memory does. Visibility is judged by the
// injected clock, waiting is real time.
func (q *Queue) Receive(ctx context.Context, count int, wait time.Duration) ([]queue.Received, error) {
	if err := queue.ValidateMax(count); err != nil {
		return nil, err
	}
	if err := q.begin(); err != nil {
		return nil, q.wrap("receive", err)
	}
	defer q.users.Done()
	var end <-chan time.Time
	for {
		if err := ctx.Err(); err != nil {
			return nil, q.wrap("receive", err)
		}
		got, next, changed, err := q.receive(ctx, count)
		if err != nil {
			return nil, q.wrap("receive", err)
		}
		if len(got) > 0 || wait <= 0 {
			return got, nil
		}
		if end == nil {
			t := time.NewTimer(wait)
			defer t.Stop()
			end = t.C
		}
		again := time.NewTimer(max(next, time.Millisecond)) // a clock that crawls must not spin
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		case <-end:
			wait = 0
		}
		again.Stop()
	}
}

// receive is one attempt. When it returns nothing, it says when a message may become visible and what tells of
// changes before.
func (q *Queue) receive(ctx context.Context, max int) ([]queue.Received, time.Duration, <-chan struct{}, error) {
	q.mu.Lock()
	if err := q.usable(); err != nil {
		q.mu.Unlock()
		return nil, 0, nil, err
	}
	now := q.now().UnixNano()
	q.index.expire(now)
	if len(q.index.dead) > 0 {
		if err := q.bury(ctx); err != nil {
			q.mu.Unlock()
			return nil, 0, nil, err
		}
	}
	picked := q.index.pick(max)
	if len(picked) == 0 {
		defer q.mu.Unlock()
		next := time.Hour
		if len(q.index.flying) > 0 {
			next = min(next, time.Duration(q.index.flying[0].deadline-now))
		}
		q.waiting = true
		return nil, next, q.changed, nil
	}
	marks := make([]mark, len(picked))
	for i, m := range picked {
		marks[i] = mark{m.seq, int64(m.receives) + 1}
	}
	if err := q.writeMarks(received, marks); err != nil {
		q.index.putBack(picked)
		q.mu.Unlock()
		return nil, 0, nil, err
	}
	frames := make([]frame, len(picked))
	for i, m := range picked {
		m.receives++
		q.index.launch(m, now+int64(q.settings.Visibility))
		frames[i] = q.pin(m)
	}
	q.mu.Unlock()
	got, err := q.read(frames)
	return got, 0, nil, err
}

// bury moves all dead messages to the dead-letter queue, where their dedup id is their message id, as on SQS: a move
// that is repeated after a crash is dropped there. Called with mu held; it lets go while it writes.
func (q *Queue) bury(ctx context.Context) error {
	groups := q.index.dead
	q.index.dead = nil
	dead := q.index.deadOf(groups)
	frames := make([]frame, len(dead))
	marks := make([]mark, len(dead))
	for i, m := range dead {
		frames[i], marks[i] = q.pin(m), mark{seq: m.seq}
	}
	q.mu.Unlock()
	got, err := q.read(frames)
	if err == nil {
		msgs := make([]queue.Message, len(got))
		for i, r := range got {
			msgs[i] = queue.Message{Group: r.Group, Dedup: r.ID, Body: r.Body}
		}
		err = q.deadLetter.Send(ctx, msgs...)
	}
	q.mu.Lock()
	if err == nil {
		err = q.writeMarks(deleted, marks)
	}
	if err == nil {
		for _, m := range dead {
			q.index.remove(m)
		}
		q.garbage()
	}
	for _, g := range groups {
		q.index.settle(g)
	}
	q.wake()
	if err != nil {
		return fmt.Errorf("move %s to the dead-letter queue: %w", q.id(marks[0].seq), err)
	}
	return nil
}

// Delete implements queue.Receiver. A receipt whose time is over is ignored, even if nobody has received the message
// since; it will be delivered again.
func (q *Queue) Delete(_ context.Context, receipts ...string) error {
	return q.settle("delete", receipts, deleted, func(int64) int64 { return 0 }, func(m *message, _, _ int64) {
		q.index.remove(m)
	})
}

// Release implements queue.Receiver.
func (q *Queue) Release(_ context.Context, delay time.Duration, receipts ...string) error {
	until := func(now int64) int64 { return now + int64(max(delay, 0)) }
	return q.settle("release", receipts, released, until, func(m *message, now, until int64) {
		q.index.postpone(m, until)
		m.delayed = until > now
		q.index.expire(now)
	})
}

// settle writes one kind of mark for the receipts that are valid and applies it.
func (q *Queue) settle(op string, receipts []string, k kind, value func(now int64) int64, apply func(m *message, now, value int64)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return q.wrap(op, err)
	}
	now := q.now().UnixNano()
	if q.index.expire(now) {
		q.wake()
	}
	v := value(now)
	var valid []*message
	var marks []mark
	for _, r := range receipts {
		if m := q.delivery(r); m != nil && !slices.Contains(valid, m) {
			valid, marks = append(valid, m), append(marks, mark{m.seq, v})
		}
	}
	if len(valid) == 0 {
		return nil
	}
	if err := q.writeMarks(k, marks); err != nil {
		return q.wrap(op, err)
	}
	for _, m := range valid {
		apply(m, now, v)
	}
	q.wake()
	q.garbage()
	return nil
}

// delivery returns the message that a receipt, "sequence.receives", stands for, or nil.
func (q *Queue) delivery(receipt string) *message {
	a, b, ok := strings.Cut(receipt, ".")
	seq, err1 := strconv.ParseUint(a, 10, 64)
	receives, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return nil
	}
	if m := q.index.bySeq[seq]; m != nil && m.receives == uint32(receives) {
		return m
	}
	return nil
}

// Depth says how full the queue is. As on SQS, messages behind a locked group count as visible.
func (q *Queue) Depth(context.Context) (queue.Depth, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return queue.Depth{}, q.wrap("depth", err)
	}
	if q.index.expire(q.now().UnixNano()) {
		q.wake()
	}
	d := queue.Depth{InFlight: len(q.index.flying), Visible: q.index.count - len(q.index.flying)}
	if q.index.first != nil {
		d.Oldest = time.Unix(0, q.index.first.sentAt).UTC()
	}
	return d, nil
}

// Peek lists the oldest max messages, in flight or not, without receiving them; their Receipt is empty.
func (q *Queue) Peek(_ context.Context, max int) ([]queue.Received, error) {
	if err := q.begin(); err != nil {
		return nil, q.wrap("peek", err)
	}
	defer q.users.Done()
	var frames []frame
	q.mu.Lock()
	for m := q.index.first; m != nil && len(frames) < max; m = m.next {
		frames = append(frames, q.pin(m))
	}
	q.mu.Unlock()
	got, err := q.read(frames)
	if err != nil {
		return nil, q.wrap("peek", err)
	}
	for i := range got {
		got[i].Receipt = ""
	}
	return got, nil
}

// Wake makes waiting receivers look again; a test calls it after moving the injected clock.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake()
}

// Cut says how many bytes of a torn tail Open has cut off: more than 0 only after a crash.
func (q *Queue) Cut() int64 { return q.cut }

// Close lets running Sends finish, ends waiting Receives with an error, flushes everything and gives the folder free.
// Close a queue before its dead-letter queue.
func (q *Queue) Close() error {
	q.intake.Lock()
	last := q.batch
	q.batch = nil
	q.intake.Unlock()
	if last == nil {
		return nil
	}
	q.mu.Lock()
	q.closed = true
	q.wake()
	q.mu.Unlock()
	q.users.Wait()
	close(q.quit)
	<-q.stopped
	q.commit(last)

	q.mu.Lock()
	defer q.mu.Unlock()
	err := errors.Join(q.failed, q.untidy)
	if q.failed == nil {
		err = errors.Join(err, q.seal())
	}
	for _, s := range q.segments {
		err = errors.Join(err, s.file.Close())
	}
	if err = errors.Join(err, q.lock.Close()); err != nil {
		return q.wrap("close", err)
	}
	return nil
}

// seal flushes the log and marks all of it as durable.
func (q *Queue) seal() error {
	s := q.active()
	if err := q.limits.sync(s.file); err != nil {
		return err
	}
	s.durable = s.size
	if err := q.writeMarks(closed, nil); err != nil {
		return err
	}
	return q.limits.sync(s.file)
}

// begin counts the caller among those that Close waits for.
func (q *Queue) begin() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	q.users.Add(1)
	return nil
}

func (q *Queue) usable() error {
	if q.closed {
		return errClosed()
	}
	return q.failed
}

func errClosed() error { return fault.New(fault.Down, "", "queue is closed") }

func (q *Queue) wake() {
	if q.waiting {
		close(q.changed)
		q.changed, q.waiting = make(chan struct{}), false
	}
}

func (q *Queue) wakeWriter() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}

func (q *Queue) active() *segment { return q.segments[len(q.segments)-1] }

func (q *Queue) id(seq uint64) string { return fmt.Sprintf("%s-%d", q.settings.Name, seq) }

func (q *Queue) wrap(op string, err error) error {
	return fmt.Errorf("durable.%s(%s): %w", op, q.settings.Name, err)
}

// frame is a message's place and state at one moment; it stays readable until read has let go of it.
type frame struct {
	place
	seq      uint64
	receives uint32
}

// pin needs mu.
func (q *Queue) pin(m *message) frame {
	m.at.seg.pins++
	return frame{m.at, m.seq, m.receives}
}

// read fetches and checks pinned messages. Damage stops the queue.
func (q *Queue) read(frames []frame) ([]queue.Received, error) {
	got := make([]queue.Received, 0, len(frames))
	var broken error
	for _, f := range frames {
		m, err := fetch(f.place)
		if err == nil && m.seq != f.seq {
			err = damaged(f.seg.path, int64(f.off), fmt.Errorf("message %d is where %d should be", m.seq, f.seq))
		}
		if err != nil {
			broken = err
			break
		}
		got = append(got, queue.Received{
			Message:  queue.Message{Group: m.group, Dedup: m.dedup, Body: m.body},
			ID:       q.id(m.seq),
			Receipt:  fmt.Sprintf("%d.%d", f.seq, f.receives),
			Receives: int(f.receives),
			SentAt:   time.Unix(0, m.sentAt).UTC(),
		})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range frames {
		f.seg.pins--
		f.seg.closeIfGone()
	}
	if broken != nil {
		q.fail(broken)
		return nil, broken
	}
	return got, nil
}

// fetch reads one message's frame.
func fetch(p place) (stored, error) {
	buf := make([]byte, p.size)
	if _, err := p.seg.file.ReadAt(buf, int64(p.off)); err != nil {
		return stored{}, damaged(p.seg.path, int64(p.off), err)
	}
	b, _, size, err := readFrame(buf, p.seg.number, int64(p.off))
	if err == nil && size != len(buf) {
		err = errors.New("record has another size")
	}
	var rec record
	if err == nil {
		rec, err = decode(b)
	}
	if err == nil && rec.kind != sent && rec.kind != copied {
		err = errors.New("record is not a message")
	}
	if err != nil {
		return stored{}, damaged(p.seg.path, int64(p.off), err)
	}
	return rec.msg, nil
}

func (s *segment) closeIfGone() {
	if s.gone && s.pins == 0 {
		_ = s.file.Close() // already unlinked
		s.gone = false
	}
}

// fail stops the queue for good. A failed flush is never tried again: the kernel may have dropped the pages.
func (q *Queue) fail(err error) {
	if q.failed == nil {
		q.failed = err
	}
	q.wake()
}
