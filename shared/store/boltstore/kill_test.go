package boltstore

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/store"
)

const (
	killPath    = "SORREL_TEST_KILL_STORE" // tells the child which file to write
	killWriters = 8
	killKeys    = 3
)

// TestKill kills a writing process again and again and checks after each time that what it acknowledged is there, and
// that every commit is there wholly or not at all.
func TestKill(t *testing.T) {
	t.Parallel()
	const seed, rounds = 20260301, 4
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "store")
	var acknowledged [killWriters]int
	for round := range rounds {
		killAfter(t, path, 20+rnd.IntN(400), time.Duration(rnd.IntN(3000))*time.Microsecond, &acknowledged)
		checkSurvivors(t, path, acknowledged)
		if t.Failed() {
			t.Fatalf("seed %d, round %d, acknowledged %v", seed, round, acknowledged)
		}
	}
}

// killAfter runs a child until it has acknowledged n commits and `more` has passed, kills it, and notes the highest
// commit that each writer acknowledged.
func killAfter(t *testing.T, path string, n int, more time.Duration, acknowledged *[killWriters]int) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$", "-test.timeout=60s")
	child.Env = append(os.Environ(), killPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var writer, i int
		if _, err := fmt.Sscanf(lines.Text(), "ack %d %d", &writer, &i); err != nil {
			t.Errorf("the child says %q", lines.Text())
			continue
		}
		acknowledged[writer] = max(acknowledged[writer], i)
		if seen++; seen == n {
			time.AfterFunc(more, func() { _ = child.Process.Kill() })
		}
	}
	if err := child.Wait(); err == nil || seen < n {
		t.Fatalf("the child ended by itself after %d commits: %v", seen, err)
	}
}

func checkSurvivors(t *testing.T, path string, acknowledged [killWriters]int) {
	t.Helper()
	s, err := Open(path, time.Now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for w, acked := range acknowledged {
		head := headOf(t, s, w)
		if head < acked {
			t.Errorf("writer %d: commit %d was acknowledged, the last one there is %d", w, acked, head)
		}
		for k := range killKeys {
			next := 1
			for e, err := range s.Range(t.Context(), killPart(w, k), "", "") {
				if err != nil {
					t.Fatal(err)
				}
				if e.Sort != killSort(next) || string(e.Value) != killValue(w, next) {
					t.Fatalf("writer %d key %d: %q where commit %d should be", w, k, e.Sort, next)
				}
				next++
			}
			if next-1 != head {
				t.Errorf("writer %d key %d: %d entries, the head says %d", w, k, next-1, head)
			}
		}
	}
}

func killPart(writer, k int) string  { return fmt.Sprintf("part%d/%d", k, writer) }
func killSort(i int) string          { return fmt.Sprintf("%08d", i) }
func killValue(writer, i int) string { return strings.Repeat(fmt.Sprintf("%d:%d,", writer, i), 50) }
func killHead(writer int) store.Key  { return store.Key{Part: "head", Sort: strconv.Itoa(writer)} }

func headOf(t *testing.T, s *Store, writer int) int {
	t.Helper()
	e, err := s.Get(t.Context(), killHead(writer))
	if errors.Is(err, store.ErrNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(e.Value))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKillChild is the process that TestKill kills: it commits without end and prints each acknowledged commit.
func TestKillChild(t *testing.T) {
	path := os.Getenv(killPath)
	if path == "" {
		t.Skip("runs only as the child of TestKill")
	}
	s, err := Open(path, time.Now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range killWriters {
		wg.Go(func() {
			for i := headOf(t, s, w) + 1; ; i++ {
				ops := []store.Op{put(killHead(w).Part, killHead(w).Sort, strconv.Itoa(i))}
				for k := range killKeys {
					op := put(killPart(w, k), killSort(i), killValue(w, i))
					op.Absent = true
					ops = append(ops, op)
				}
				if err := s.Commit(t.Context(), ops...); err != nil {
					t.Error(err)
					return
				}
				if _, err := fmt.Fprintf(os.Stdout, "ack %d %d\n", w, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
