package durable

import (
	"bufio"
	"context"
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

	"sorrel/shared/queue"
)

const killDir = "SORREL_DURABLE_KILL_TEST_DIR"

// TestKilledProcess is not a test but the child of TestKill: it works on the queue until it is killed and tells on
// its standard output what it knows to be done ("sent", "deleted") or is about to do ("deleting").
func TestKilledProcess(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("runs as the child of TestKill")
	}
	round := os.Getenv(killDir + "_ROUND")
	l := limits{segment: 32 << 10, slack: 16 << 10, chunk: 8 << 10, write: (*os.File).WriteAt, sync: syncData}
	q, err := open(dir, queue.Settings{Name: "q", Visibility: time.Minute}, nil, time.Now, l)
	if err != nil {
		t.Fatal(err)
	}
	var out sync.Mutex
	say := func(verb string, ids ...string) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%s %s\n", verb, strings.Join(ids, " "))
	}
	ctx := context.Background()
	paces := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("g%d/%s/%06d", g, round, i)
				m := queue.Message{Group: fmt.Sprintf("g%d", g), Dedup: id, Body: []byte(id + strings.Repeat(".", 200))}
				if err := q.Send(ctx, m); err != nil {
					t.Error(err)
					return
				}
				say("sent", id)
				if g == 0 {
					paces <- struct{}{}
				}
			}
		})
	}
	wg.Go(func() { // takes much less than is sent, so that the queue grows
		for turn := 0; ; turn++ {
			<-paces
			got, err := q.Receive(ctx, 2, time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			var ids, receipts []string
			for _, r := range got {
				ids, receipts = append(ids, idOf(r)), append(receipts, r.Receipt)
			}
			if turn%3 == 0 {
				say("released", ids...)
				err = q.Release(ctx, 0, receipts...)
			} else {
				say("deleting", ids...)
				if err = q.Delete(ctx, receipts...); err == nil {
					say("deleted", ids...)
				}
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Wait()
}

func idOf(r queue.Received) string { return strings.TrimRight(string(r.Body), ".") }

// TestKill kills a working process at random moments, several times over one folder: nothing acknowledged is lost,
// nothing deleted comes back, receive counts survive, order is kept.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	random := rand.New(rand.NewPCG(7, 11))
	sent, gone, leaving := map[string]bool{}, map[string]bool{}, map[string]bool{}
	receives := map[string]int{} // given back so often, for sure
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), killDir+"="+dir, killDir+"_ROUND="+strconv.Itoa(round))
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		life := 100 + random.IntN(1500)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		n := 0
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if len(words) == 0 {
				continue
			}
			for _, id := range words[1:] {
				switch words[0] {
				case "sent":
					sent[id] = true
				case "deleting":
					leaving[id] = true
				case "deleted":
					gone[id] = true
				case "released":
					receives[id]++
				}
			}
			if n++; n == life {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if n < life {
			t.Fatalf("the child ended by itself after %d lines", n)
		}
	}

	q := mustOpen(t, dir, queue.Settings{Name: "q", Visibility: time.Minute}, nil, time.Now, small())
	last := map[string]string{}
	found := map[string]bool{}
	for {
		got, err := q.Receive(t.Context(), queue.MaxBatch, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		for _, r := range got {
			id := idOf(r)
			if gone[id] {
				t.Errorf("%s was deleted and comes again", id)
			}
			if id <= last[r.Group] {
				t.Errorf("%s comes after %s", id, last[r.Group])
			}
			if r.Receives <= receives[id] {
				t.Errorf("%s was received %d times before, now it says %d", id, receives[id], r.Receives)
			}
			last[r.Group], found[id] = id, true
			if err := q.Delete(t.Context(), r.Receipt); err != nil {
				t.Fatal(err)
			}
		}
	}
	for id := range sent {
		if !found[id] && !leaving[id] {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	t.Logf("%d acknowledged, %d deleted, %d found", len(sent), len(gone), len(found))
}
