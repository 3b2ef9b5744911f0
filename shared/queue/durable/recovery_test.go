package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

func text(group string, i, size int) queue.Message {
	return queue.Message{Group: group, Dedup: fmt.Sprintf("%s-%d", group, i), Body: []byte(fmt.Sprintf("%06d", i) + strings.Repeat("b", size))}
}

// abandon leaves the folder as kill -9 would: open files closed, nothing sealed.
func abandon(t *testing.T, q *Queue) {
	t.Helper()
	q.intake.Lock()
	q.batch = nil
	q.intake.Unlock()
	close(q.quit)
	<-q.stopped
	if err := q.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func logFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func depthOf(t *testing.T, q *Queue) int {
	t.Helper()
	d, err := q.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Visible + d.InFlight
}

// crashed returns a folder with ten messages, each flushed on its own, and the last segment's file.
func crashed(t *testing.T, l limits) (dir, last string) {
	t.Helper()
	dir = t.TempDir()
	q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := q.Send(t.Context(), text("g", i, 300)); err != nil {
			t.Fatal(err)
		}
	}
	abandon(t, q)
	files := logFiles(t, dir)
	return dir, files[len(files)-1]
}

func TestTornTailIsCut(t *testing.T) {
	t.Parallel()
	whole, last := crashed(t, standard())
	data, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	frame := len(data) - (len(data)-headerSize)*9/10 - headerSize
	for _, torn := range []int{1, frameHeader - 1, frameHeader + 3, frame - 1} {
		if err := os.WriteFile(last, data[:len(data)-frame+torn], 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := Open(whole, queue.Settings{Name: "q"}, nil, time.Now)
		if err != nil {
			t.Fatalf("torn at %d: %v", torn, err)
		}
		if n := depthOf(t, q); n != 9 || q.Cut() == 0 {
			t.Errorf("torn at %d: %d messages, cut %d bytes; want 9 and more than 0", torn, n, q.Cut())
		}
		abandon(t, q)
	}
	// Garbage after the last good frame, as blocks that were allocated but never written.
	if err := os.WriteFile(last, append(bytes.Clone(data), make([]byte, 4096)...), 0o600); err != nil {
		t.Fatal(err)
	}
	q := mustOpen(t, whole, queue.Settings{Name: "q"}, nil, time.Now, standard())
	if n := depthOf(t, q); n != 10 || q.Cut() != 4096 {
		t.Errorf("%d messages, cut %d bytes; want 10 and 4096", n, q.Cut())
	}
	if err := q.Send(t.Context(), text("g", 99, 10)); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]limits{"one segment": standard(), "many segments": small()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := crashed(t, l)
			first := logFiles(t, dir)[0]
			data, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{3, headerSize, headerSize + 9, headerSize + 100, headerSize + 500} {
				bad := bytes.Clone(data)
				bad[at] ^= 0x10
				if err := os.WriteFile(first, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
				if err == nil {
					t.Errorf("damage at %d is not noticed: %d messages", at, depthOf(t, q))
					abandon(t, q)
				} else if !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), "offset") {
					t.Errorf("damage at %d: error does not name file and offset: %v", at, err)
				}
			}
		})
	}
}

func TestDamageOfTheLastRecordAfterClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, err := Open(dir, queue.Settings{Name: "q"}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Send(t.Context(), text("g", 1, 100)), q.Close()); err != nil {
		t.Fatal(err)
	}
	file := logFiles(t, dir)[0]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[headerSize+60] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, queue.Settings{Name: "q"}, nil, time.Now); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("error is %v, want one that names %s", err, file)
	}
}

func TestMissingSegment(t *testing.T) {
	t.Parallel()
	dir, _ := crashed(t, limits{segment: 700, slack: 1 << 20, chunk: 1 << 10, write: (*os.File).WriteAt, sync: syncData})
	files := logFiles(t, dir)
	if len(files) < 3 {
		t.Fatalf("want at least 3 segments, have %d", len(files))
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, queue.Settings{Name: "q"}, nil, time.Now); err == nil || !strings.Contains(err.Error(), files[1]) {
		t.Fatalf("error is %v, want one that names %s", err, files[1])
	}
}

func TestDamageWhileOpenStopsTheQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, err := Open(dir, queue.Settings{Name: "q"}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), text("g", 1, 100)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(logFiles(t, dir)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("?"), headerSize+80)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := q.Receive(t.Context(), 1, 0); err == nil || !strings.Contains(err.Error(), "offset 28") {
			t.Fatalf("received %v, %v; want an error with the offset", got, err)
		}
	}
	if err := q.Close(); err == nil {
		t.Fatal("close hides the damage")
	}
}

func TestNameIsChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "two words", strings.Repeat("n", queue.MaxID)} {
		if _, err := Open(t.TempDir(), queue.Settings{Name: name}, nil, time.Now); !fault.Is(err, fault.Malformed) {
			t.Errorf("name %q: %v, want it refused", name, err)
		}
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustOpen(t, dir, queue.Settings{Name: "q"}, nil, time.Now, standard())
	_, err := Open(dir, queue.Settings{Name: "q"}, nil, time.Now)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("error is %v, want a conflict that names the folder", err)
	}
}

func TestFailedFlushStopsTheQueue(t *testing.T) {
	t.Parallel()
	l := standard()
	bad := false
	l.sync = func(f *os.File) error {
		if bad {
			return syscall.EIO
		}
		return nil
	}
	dir := t.TempDir()
	q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
	if err != nil {
		t.Fatal(err)
	}
	bad = true
	for i := range 2 {
		if err := q.Send(t.Context(), text("g", i, 1)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("send %d: %v, want EIO", i, err)
		}
	}
	if _, err := q.Receive(t.Context(), 1, time.Minute); !errors.Is(err, syscall.EIO) {
		t.Fatalf("receive: %v, want EIO", err)
	}
	if err := q.Close(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("close: %v, want EIO", err)
	}
}

// A full disk refuses what it has no room for and nothing else; afterwards the queue goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	l := standard()
	full := false
	l.write = func(f *os.File, b []byte, off int64) (int, error) {
		if !full {
			return f.WriteAt(b, off)
		}
		n, err := f.WriteAt(b[:len(b)/2], off)
		return n, errors.Join(err, syscall.ENOSPC)
	}
	dir := t.TempDir()
	q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), text("g", 1, 100)); err != nil {
		t.Fatal(err)
	}
	full = true
	err = q.Send(t.Context(), text("g", 2, 100), text("g", 3, 100))
	if !errors.Is(err, syscall.ENOSPC) || !fault.Is(err, fault.Down) {
		t.Fatalf("send: %v, want a full disk", err)
	}
	if _, err := q.Receive(t.Context(), 1, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("receive: %v, want a full disk, as its count could not be kept", err)
	}
	full = false
	if err := q.Send(t.Context(), text("g", 2, 100)); err != nil { // not taken for a repeat
		t.Fatal(err)
	}
	got, err := q.Receive(t.Context(), 10, 0)
	if err != nil || len(got) != 2 || got[0].Receives != 1 {
		t.Fatalf("received %v, %v; want both messages for the first time", got, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, dir, queue.Settings{Name: "q"}, nil, time.Now, standard())
	if n := depthOf(t, q); n != 2 || q.Cut() != 0 {
		t.Fatalf("%d messages, cut %d bytes; want 2 and 0", n, q.Cut())
	}
}

// A send that does not fit into one flush and fails on the way says which messages are not kept.
func TestPartlyKeptSend(t *testing.T) {
	t.Parallel()
	l := small()
	writes := 0
	l.write = func(f *os.File, b []byte, off int64) (int, error) {
		if writes++; writes > 1 {
			return 0, syscall.ENOSPC
		}
		return f.WriteAt(b, off)
	}
	q, err := open(t.TempDir(), queue.Settings{Name: "q"}, nil, time.Now, l)
	if err != nil {
		t.Fatal(err)
	}
	var partial *queue.PartialError
	err = q.Send(t.Context(), text("g", 0, 600), text("g", 1, 600), text("g", 2, 600), text("g", 3, 600))
	if !errors.As(err, &partial) || fmt.Sprint(partial.Failed) != "[2 3]" || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error is %v, want messages 2 and 3 refused by a full disk", err)
	}
	if n := depthOf(t, q); n != 2 {
		t.Fatalf("%d messages, want 2", n)
	}
	if err := q.Close(); !errors.Is(err, syscall.ENOSPC) { // its closing mark has no room either
		t.Fatalf("close: %v", err)
	}
}

// A crash after the dead letter is written and before its message is removed moves it once.
func TestRepeatedMoveIsDropped(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dead := mustOpen(t, filepath.Join(root, "dead"), queue.Settings{Name: "dead"}, nil, time.Now, standard())
	settings := queue.Settings{Name: "q", MaxReceives: 1}
	dir := filepath.Join(root, "q")
	q, err := open(dir, settings, dead, time.Now, standard())
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), text("g", 1, 10)); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Receive(t.Context(), 1, 0); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	abandon(t, q)
	file := logFiles(t, dir)[0]
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if q, err = open(dir, settings, dead, time.Now, standard()); err != nil {
			t.Fatal(err)
		}
		if got, err := q.Receive(t.Context(), 1, 0); err != nil || len(got) != 0 {
			t.Fatalf("received %v, %v; want it moved", got, err)
		}
		if n := depthOf(t, q); n != 0 {
			t.Fatalf("%d messages are left", n)
		}
		abandon(t, q)
	}
	if n := depthOf(t, dead); n != 1 {
		t.Fatalf("%d dead letters, want 1", n)
	}
}

func TestClosedQueue(t *testing.T) {
	t.Parallel()
	q, err := Open(t.TempDir(), queue.Settings{Name: "q"}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := q.Receive(t.Context(), 1, time.Minute)
		waited <- err
	}()
	if err := errors.Join(q.Close(), q.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !fault.Is(err, fault.Down) {
		t.Errorf("a waiting receive ends with %v", err)
	}
	if err := q.Send(t.Context(), text("g", 1, 1)); !fault.Is(err, fault.Down) {
		t.Errorf("send: %v", err)
	}
	if err := q.Delete(t.Context(), "1.1"); !fault.Is(err, fault.Down) {
		t.Errorf("delete: %v", err)
	}
	if _, err := q.Depth(t.Context()); !fault.Is(err, fault.Down) {
		t.Errorf("depth: %v", err)
	}
}

// TestFilesStayBounded keeps one old message while thousands pass by.
func TestFilesStayBounded(t *testing.T) {
	t.Parallel()
	dir, l := t.TempDir(), unflushed()
	l.segment, l.slack = 16<<10, 32<<10
	c := newClock()
	q := mustOpen(t, dir, queue.Settings{Name: "q", Visibility: time.Hour}, nil, c.now, l)
	if err := q.Send(t.Context(), text("stuck", 0, 100)); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := q.Send(t.Context(), text("g", i, 500)); err != nil {
			t.Fatal(err)
		}
		got, err := q.Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			if r.Group == "g" {
				if err := q.Delete(t.Context(), r.Receipt); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.advance(time.Second)
	}
	bound := l.slack + 4*l.segment
	deadline := time.Now().Add(10 * time.Second)
	for { // tidying goes on in the background
		var total int64
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				total += info.Size()
			}
		}
		if total <= bound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes in %d files, want at most %d", total, len(files), bound)
		}
		q.wakeWriter()
		<-time.After(10 * time.Millisecond)
	}
	if n := depthOf(t, q); n != 1 {
		t.Fatalf("%d messages, want the stuck one", n)
	}
}
