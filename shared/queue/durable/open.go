package durable

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// Open opens or makes the queue in dir. Without a dead-letter queue messages are redelivered for ever. The settings
// may differ from those of an earlier Open. The name is part of message ids, so it must not change while messages
// of a dead-letter move could be repeated (five minutes).
func Open(dir string, s queue.Settings, deadLetter *Queue, now func() time.Time) (*Queue, error) {
	return open(dir, s, deadLetter, now, standard())
}

func open(dir string, s queue.Settings, deadLetter *Queue, now func() time.Time, l limits) (*Queue, error) {
	s = s.WithDefaults()
	if err := queue.Validate([]queue.Message{{Group: s.Name, Dedup: s.Name + "-18446744073709551615", Body: []byte("-")}}); err != nil {
		return nil, &fault.Error{Class: fault.Malformed, Op: "durable.open", ID: dir, Detail: "name of the queue", Err: err,
			Remedy: "give the queue a name of 1 to 100 printable ASCII characters"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Down, "durable.open", dir, err)
	}
	lock, err := awaitLock(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return nil, &fault.Error{Class: fault.Conflict, Op: "durable.open", ID: dir, Detail: "another process has this queue open",
			Remedy: "stop that process or use another folder", Err: err}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Down, "durable.open", dir, err)
	}
	q := &Queue{dir: dir, settings: s, deadLetter: deadLetter, now: now, limits: l, lock: lock,
		batch: newBatch(), poke: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{}),
		window: window{at: map[key]int64{}}, nextSeq: 1, changed: make(chan struct{})}
	q.index = newIndex(0)
	if deadLetter != nil {
		q.index.deadAt = uint32(s.MaxReceives)
	}
	if err := q.load(); err != nil {
		for _, s := range q.segments {
			_ = s.file.Close()
		}
		_ = lock.Close()
		return nil, fault.Wrap("", "durable.open", dir, err)
	}
	go q.write()
	q.wakeWriter() // there may be something to tidy
	return q, nil
}

// lockWait is how long Open waits for a lock. A process that starts another one shares its locks with it for the
// moment between fork and exec, so that a queue closed just now can look open.
const lockWait = time.Second

func awaitLock(path string) (*os.File, error) {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		f, err := lockFile(path)
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return f, err
		}
	}
}

// replay is the state of the messages while the log is read: unlike the index it can find each by its sequence.
type replay struct {
	q       *Queue
	now     int64
	waiting map[uint64]*replayed
	data    []byte // of one segment after the other
}

type replayed struct {
	message
	group     string
	notBefore int64
}

func (q *Queue) load() error {
	logs, seenFiles, err := list(q.dir)
	if err != nil {
		return err
	}
	r := &replay{q: q, now: q.now().UnixNano(), waiting: map[uint64]*replayed{}}
	for _, n := range seenFiles {
		path := filepath.Join(q.dir, seenName(n))
		if len(logs) > 0 && n >= logs[0] { // the segment itself is still there
			err = os.Remove(path)
		} else {
			err = r.loadSeen(path, n)
		}
		if err != nil {
			return err
		}
	}
	for i, n := range logs {
		if i > 0 && n != logs[i-1]+1 {
			return &fault.Error{Class: fault.Internal, Op: "durable", ID: filepath.Join(q.dir, segmentName(logs[i-1]+1)), Detail: "queue file is missing",
				Remedy: "restore it from a copy, or move the queue's folder away and let the sweep wake what is due"}
		}
		if err := r.loadSegment(n, i == len(logs)-1); err != nil {
			return err
		}
	}
	if len(q.segments) == 0 {
		number := uint64(1)
		if len(logs) > 0 {
			number = logs[0]
		}
		s, err := q.create(number, q.nextSeq)
		if err != nil {
			return err
		}
		q.segments = append(q.segments, s)
	}
	r.fill()
	return nil
}

// list returns the numbers of the segments and of the .seen files, in order.
func list(dir string) (logs, seenFiles []uint64, err error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range names {
		base, ext, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseUint(base, 10, 64)
		switch {
		case err != nil:
		case ext == "log":
			logs = append(logs, n)
		case ext == "seen":
			seenFiles = append(seenFiles, n)
		}
	}
	slices.Sort(logs)
	slices.Sort(seenFiles)
	return logs, seenFiles, nil
}

func (r *replay) loadSeen(path string, number uint64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list, err := decodeSeen(data, number)
	if err != nil {
		return damaged(path, 0, err)
	}
	for _, s := range list {
		r.remember(s)
	}
	r.q.seenFiles = append(r.q.seenFiles, seenFile{path, newest(list)})
	return nil
}

func (r *replay) remember(s seen) {
	if s.at+int64(queue.DedupWindow) > r.now {
		r.q.window.add(s)
	}
}

func (r *replay) loadSegment(number uint64, last bool) error {
	q := r.q
	path := filepath.Join(q.dir, segmentName(number))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s := &segment{number: number, path: path, file: f}
	q.segments = append(q.segments, s)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r.data = slices.Grow(r.data[:0], int(info.Size()))[:info.Size()]
	data := r.data
	if _, err := f.ReadAt(data, 0); err != nil {
		return err
	}
	next, err := decodeHeader(data, number)
	if err != nil {
		if !last || len(data) > headerSize {
			return damaged(path, 0, err)
		}
		// The crash came while the segment was begun; nothing has been written to it.
		q.cut += int64(len(data))
		q.segments = q.segments[:len(q.segments)-1]
		return errors.Join(f.Close(), os.Remove(path), syncDir(q.dir))
	}
	q.nextSeq = max(q.nextSeq, next)
	end, broken := scan(data, number, func(off, size int64, rec record) error {
		r.apply(place{s, uint32(off), uint32(size)}, rec)
		return nil
	})
	if broken != nil {
		if !last || provenDurable(data, number, end) {
			return damaged(path, end, broken)
		}
		q.cut += int64(len(data)) - end
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	s.size = end
	if last {
		if err := q.limits.sync(f); err != nil {
			return flushFailed(path, err)
		}
	}
	s.durable = end
	return nil
}

func (r *replay) apply(at place, rec record) {
	switch rec.kind {
	case sent, copied:
		m := rec.msg
		p := r.waiting[m.seq]
		if p == nil {
			p = &replayed{message: message{seq: m.seq, sentAt: m.sentAt}, group: m.group}
			r.waiting[m.seq] = p
		}
		p.at, p.receives, p.notBefore = at, m.receives, m.notBefore
		r.q.nextSeq = max(r.q.nextSeq, m.seq+1)
		if rec.kind == sent {
			r.remember(seen{keyOf(m.dedup), m.sentAt, at.seg.number})
		}
	case received, released, deleted:
		for _, k := range rec.marks {
			p := r.waiting[k.seq]
			switch {
			case p == nil: // its segment is gone
			case rec.kind == received:
				p.receives, p.notBefore = uint32(k.value), 0
			case rec.kind == released:
				p.notBefore = k.value
			default:
				delete(r.waiting, k.seq)
			}
		}
	}
}

// fill moves what is left to the index. Only messages under a delayed release are in flight; they keep their receipt.
func (r *replay) fill() {
	order := make([]*replayed, 0, len(r.waiting))
	for _, p := range r.waiting {
		order = append(order, p)
	}
	slices.SortFunc(order, func(a, b *replayed) int { return cmp.Compare(a.seq, b.seq) })
	for _, p := range order {
		m := p.message
		r.q.index.load(&m, p.group)
		if p.notBefore > r.now {
			m.delayed = true
			r.q.index.launch(&m, p.notBefore)
		}
	}
	r.q.index.settleAll()
}
