package boltstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sorrel/shared/fault"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

func openTest(t *testing.T, path string, now func() time.Time, opts Options) *Store {
	t.Helper()
	s, err := Open(path, now, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{New: func(t *testing.T, now func() time.Time) store.Store {
		return openTest(t, filepath.Join(t.TempDir(), "store"), now, Options{})
	}})
}

func put(part, sort, value string) store.Op {
	return store.Op{Kind: store.Put, Key: store.Key{Part: part, Sort: sort}, Value: []byte(value)}
}

func count(t *testing.T, s *Store, part string) (n int) {
	t.Helper()
	for _, err := range s.Range(t.Context(), part, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// txid is bolt's count of write transactions, that is of fsyncs.
func txid(t *testing.T, s *Store) (id int) {
	t.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

// watched is a context that tells when somebody waits for it, which Commit does once it is in the queue.
type watched struct {
	context.Context
	waits chan struct{} // capacity 1
}

func (w watched) Done() <-chan struct{} {
	select {
	case w.waits <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// commitTaken starts a commit and returns once the committer has taken it out of the queue.
func commitTaken(ctx context.Context, s *Store, op store.Op) <-chan error {
	w := watched{ctx, make(chan struct{}, 1)}
	answer := make(chan error, 1)
	go func() { answer <- s.Commit(w, op) }()
	<-w.waits
	for s.waiting() > 0 {
		runtime.Gosched()
	}
	return answer
}

// Commits that arrive while the disk is busy share one transaction, and a conflict among them hurts only itself.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	s := openTest(t, filepath.Join(t.TempDir(), "store"), time.Now, Options{})
	blocker, err := s.db.Begin(true) // holds up the committer
	if err != nil {
		t.Fatal(err)
	}
	first := commitTaken(t.Context(), s, put("p", "first", "x"))
	const n = 50
	var wins, conflicts atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			contended := put("p", "contended", "x")
			contended.Absent = true
			ops := []store.Op{put("own", strconv.Itoa(i), "x")}
			if i%2 == 0 {
				ops = append(ops, contended)
			}
			switch err := s.Commit(t.Context(), ops...); {
			case err == nil:
				wins.Add(1)
			case store.IsConflict(err):
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	for s.waiting() < n {
		runtime.Gosched()
	}
	before := txid(t, s)
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if wins.Load() != n/2+1 || conflicts.Load() != n/2-1 {
		t.Errorf("%d commits and %d conflicts, want %d and %d", wins.Load(), conflicts.Load(), n/2+1, n/2-1)
	}
	if got := count(t, s, "own"); got != int(wins.Load()) {
		t.Errorf("%d entries of %d commits", got, wins.Load())
	}
	if spent := txid(t, s) - before; spent != 2 {
		t.Errorf("%d transactions, want 2: the commit under way, and all that waited behind it", spent)
	}
}

func TestCommitGivenUpWhileWaiting(t *testing.T) {
	t.Parallel()
	s := openTest(t, filepath.Join(t.TempDir(), "store"), time.Now, Options{})
	blocker, err := s.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := commitTaken(ctx, s, put("p", "first", "x"))
	// The committer holds the first commit: giving up leaves its outcome open. The second one still waits in the queue.
	ctx2, cancel2 := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { second <- s.Commit(ctx2, put("p", "second", "x")) }()
	for s.waiting() == 0 {
		runtime.Gosched()
	}
	cancel2()
	if err := <-second; !errors.Is(err, context.Canceled) || fault.Is(err, fault.Unknown) {
		t.Errorf("second: %v; want a plain cancellation", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unknown) {
		t.Errorf("first: %v; want an unknown outcome", err)
	}
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), put("p", "third", "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), store.Key{Part: "p", Sort: "second"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second was withdrawn, get says %v", err)
	}
}

func TestCloseDrainsAndReopens(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	s, err := Open(path, time.Now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 64
	var acknowledged atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			switch err := s.Commit(t.Context(), put("p", strconv.Itoa(i), "x")); {
			case err == nil:
				acknowledged.Add(1)
			case !errors.Is(err, ErrClosed):
				t.Error(err)
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := s.Commit(t.Context(), put("p", "late", "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("commit: %v; want ErrClosed", err)
	}
	if _, err := s.Get(t.Context(), store.Key{Part: "p", Sort: "0"}); !errors.Is(err, ErrClosed) {
		t.Errorf("get: %v; want ErrClosed", err)
	}
	if _, err := s.Expire(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("expire: %v; want ErrClosed", err)
	}
	if got := count(t, openTest(t, path, time.Now, Options{}), "p"); got != int(acknowledged.Load()) {
		t.Errorf("%d entries after reopening, %d were acknowledged", got, acknowledged.Load())
	}
}

func TestExpireIsBounded(t *testing.T) {
	t.Parallel()
	var at atomic.Int64
	now := func() time.Time { return time.Unix(1_000_000+at.Load(), 0) }
	s := openTest(t, filepath.Join(t.TempDir(), "store"), now, Options{})
	until := func(sort string, seconds int) store.Op {
		op := put("p", sort, "x")
		op.Expires = now().Add(time.Duration(seconds) * time.Second)
		return op
	}
	for i := range 5 {
		if err := s.Commit(t.Context(), until("gone"+strconv.Itoa(i), 10), until("prolonged"+strconv.Itoa(i), 10), put("p", "kept"+strconv.Itoa(i), "x")); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), until("prolonged"+strconv.Itoa(i), 100)); err != nil {
			t.Fatal(err)
		}
	}
	step := func(limit, want int) {
		t.Helper()
		if n, err := s.Expire(t.Context(), limit); err != nil || n != want {
			t.Fatalf("expire(%d) at +%d s: %d, %v; want %d", limit, at.Load(), n, err, want)
		}
	}
	step(100, 0)
	at.Store(10)
	step(3, 3)
	step(100, 2)
	step(100, 0)
	if got := count(t, s, "p"); got != 10 {
		t.Fatalf("%d entries left, want 10", got)
	}
	at.Store(100)
	step(100, 5)
	if err := s.db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Bucket(expiryBucket()).Cursor().First(); k != nil {
			t.Errorf("a hint is left: %x", k)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := count(t, s, "p"); got != 5 {
		t.Fatalf("%d entries left, want 5", got)
	}
}

func TestSecondOpenNamesTheRemedy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	openTest(t, path, time.Now, Options{})
	_, err := Open(path, time.Now, Options{LockWait: 10 * time.Millisecond})
	if !fault.Is(err, fault.Down) || !strings.Contains(err.Error(), "another process has the file open") || !strings.Contains(err.Error(), path) {
		t.Errorf("second open: %v", err)
	}
}

func TestOpenRefusesWhatItCanNotRead(t *testing.T) {
	t.Parallel()
	sound := filepath.Join(t.TempDir(), "sound")
	s, err := Open(sound, time.Now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := s.Commit(t.Context(), put("p", strconv.Itoa(i), strings.Repeat("x", 2000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	wiped := bytes.Clone(data)
	for i := 4 * pageSize; i < len(wiped); i++ {
		wiped[i] = 0xa5
	}
	boltFile := func(write func(tx *bbolt.Tx) error) []byte {
		t.Helper()
		name := filepath.Join(t.TempDir(), "bolt")
		db, err := bbolt.Open(name, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(write), db.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	foreign := boltFile(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	})
	newer := boltFile(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(metaBucket())
		if err != nil {
			return err
		}
		return b.Put([]byte("format"), []byte("sorrel-store/2"))
	})
	for _, c := range []struct {
		name  string
		data  []byte
		class fault.Class
		says  string
	}{
		{"text", []byte(strings.Repeat("not a store\n", 2000)), fault.Refused, "not a store that this program can read"},
		{"short text", []byte("hello"), fault.Refused, "not a store that this program can read"},
		{"foreign bolt file", foreign, fault.Refused, "not a Sorrel store"},
		{"newer format", newer, fault.Refused, "sorrel-store/2"},
		{"truncated", data[:8*pageSize], fault.Internal, "damaged"},
		{"one page", data[:pageSize], fault.Internal, "damaged"},
		{"wiped pages", wiped, fault.Internal, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, time.Now, Options{LockWait: 10 * time.Millisecond})
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			if !fault.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want class %s and %q", err, c.class, c.says)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, c.data) {
				t.Errorf("the refused file was changed (%v)", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no", "such", "store"), time.Now, Options{}); err == nil || !strings.Contains(err.Error(), "create the folder") {
		t.Errorf("missing folder: %v", err)
	}
}

// A process that died right after bolt made the file leaves one without buckets.
func TestOpenFinishesAnInterruptedCreation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openTest(t, path, time.Now, Options{}).Commit(t.Context(), put("p", "s", "x")); err != nil {
		t.Fatal(err)
	}
}

// A disk that refuses a write ends writing: the commit's outcome is unknown, later ones fail at once.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	s, err := Open(path, time.Now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Commit(t.Context(), put("p", "before", "x")), s.Close()); err != nil {
		t.Fatal(err)
	}
	broken := openTest(t, path, time.Now, Options{openFile: func(name string, _ int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, os.O_RDONLY, mode)
	}})
	if err := broken.Commit(t.Context(), put("p", "during", "x")); !fault.Is(err, fault.Unknown) {
		t.Errorf("commit: %v; want an unknown outcome", err)
	}
	if err := broken.Commit(t.Context(), put("p", "after", "x")); !fault.Is(err, fault.Down) || !strings.Contains(err.Error(), "restart") {
		t.Errorf("next commit: %v; want class down with a remedy", err)
	}
	if _, err := broken.Expire(t.Context(), 1); !fault.Is(err, fault.Down) {
		t.Errorf("expire: %v; want class down", err)
	}
	if got := count(t, broken, "p"); got != 1 {
		t.Errorf("%d entries, want the one from before", got)
	}
}
