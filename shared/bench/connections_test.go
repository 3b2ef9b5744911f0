package bench_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/bench/floor"
	"sorrel/shared/bench/load"
	"sorrel/shared/boot"
	"sorrel/shared/cloud"
	"sorrel/shared/deadline"
	"sorrel/shared/local"
	"sorrel/shared/queue"
	"sorrel/shared/queue/durable"
	"sorrel/shared/record"
	"sorrel/shared/store/boltstore"
	"sorrel/shared/telemetry"
)

// TestConnections sends webhooks over 200 connections to a host in this process, under the race detector in CI, and
// beside it to the bare handler. For the long run:
//
//	SORREL_LOAD=60s go test -race -run TestConnections -v ./shared/bench
//
// Memory is flat: after each quarter, when what waits has been worked through and the dedup window has passed, the heap is
// as large as after the first. Before that it is larger by some hundred bytes for each webhook that waits or was sent
// within the window, and by nothing else. All is measured while nothing is worked on: what work in progress holds goes by
// how fast the machine is. So that each quarter finds the ledger's cache as the first does, every order is told of some
// times before.
func TestConnections(t *testing.T) {
	d, most, orders := 2*time.Second, 200, 200 // each connection has one at least, so that the first quarter makes all of them
	if long := os.Getenv("SORREL_LOAD"); long != "" {
		orders = 1000
		var err error
		if d, err = time.ParseDuration(long); err != nil {
			t.Fatal(err)
		}
	}
	var ahead atomic.Int64 // of the queues' clock before the others'
	w := embedded(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	in := &gated{Queue: w.Queues[boot.InboundQueue]}
	w.Inbound, w.Queues[boot.InboundQueue] = in, in
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1, DeliverWorkers: -1, RunWorkers: -1, TellWorkers: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	bare, stop, err := floor.Start(floor.Config{Kind: "V", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	sender := func(url string) *load.Sender {
		return load.NewSender(load.Standard(load.Options{Address: func() string { return url[len("http://"):] }, Connections: most, Orders: orders, Seed: 1,
			Tracker: load.NewTracker(orders), Now: time.Now}))
	}
	to := map[string]*load.Sender{"Sorrel": sender(h.URL()), "floor": sender(bare)}
	caller := load.NewCaller(func() string { return h.URL()[len("http://"):] })
	defer caller.Close()
	for warm := 0; warm < 5*orders; {
		sent, err := to["Sorrel"].Closed(t.Context(), d/8, false)
		if err != nil {
			t.Fatal(err)
		}
		warm += sent.First
	}
	drain(t, w)
	acks, accepted := map[string][]time.Duration{}, 0
	var full, flat []int64
	for quarter := range 4 { // interleaved
		remembered := 0
		for _, name := range []string{"floor", "Sorrel"} {
			sent, err := to[name].Closed(t.Context(), d/4, false)
			if err != nil || sent.Wrong > 0 || sent.Forged == 0 && sent.Requests > 5000 {
				t.Fatalf("%s: %+v, %v", name, sent, err)
			}
			acks[name] = append(acks[name], sent.Ack...)
			if name == "Sorrel" {
				remembered = sent.First
			}
		}
		accepted += remembered
		measured := 8 * int64(cap(acks["floor"])+cap(acks["Sorrel"])) // by this test, of all that it has asked
		in.pause(t)
		full = append(full, heap()-measured)
		in.resume()
		drain(t, w)
		ahead.Add(int64(queue.DedupWindow + time.Second))
		for name, q := range w.Queues { // each forgets with the next that it is sent
			if name == boot.InboundQueue {
				if status, err := caller.Post(load.Customer(time.Now()), false); err != nil || status/100 != 2 {
					t.Fatalf("%d, %v", status, err)
				}
			} else if err := q.Send(t.Context(), queue.Message{Group: "g", Dedup: "d", Body: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
		}
		drain(t, w)
		flat = append(flat, heap()-measured)
		if held := full[quarter] - flat[quarter]; held > 4<<20+int64(remembered)*500 {
			t.Errorf("quarter %d: %d bytes are held for %d webhooks", quarter, held, remembered)
		}
	}
	for _, s := range to {
		s.Close()
	}
	p99 := func(name string) time.Duration {
		slices.Sort(acks[name])
		return acks[name][len(acks[name])*99/100]
	}
	t.Logf("%d accepted over %d connections; p99 of the acknowledgement %s, of the bare handler %s: %.1f times; heap after each quarter %d KB, and worked through %d KB",
		accepted, most, p99("Sorrel"), p99("floor"), float64(p99("Sorrel"))/float64(p99("floor")), kilobytes(full), kilobytes(flat))
	if grown := flat[3] - flat[0]; grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes from the first quarter to the last, with nothing waiting", grown)
	}
}

// embedded is a world over a durable store and durable queues, these with a clock of their own.
func embedded(t *testing.T, clock func() time.Time) *boot.World {
	t.Helper()
	dir := t.TempDir()
	closes := func(close func() error) {
		t.Cleanup(func() {
			if err := close(); err != nil {
				t.Error(err)
			}
		})
	}
	s, err := boltstore.Open(filepath.Join(dir, "sorrel.db"), time.Now, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closes(s.Close)
	open := func(set queue.Settings, dead *durable.Queue) *durable.Queue {
		q, err := durable.Open(filepath.Join(dir, set.Name), set, dead, clock)
		if err != nil {
			t.Fatal(err)
		}
		closes(q.Close)
		return q
	}
	queues := map[string]boot.Queue{}
	names := []string{boot.InboundQueue, boot.WorkflowQueue, boot.PublishQueue}
	for _, p := range boot.Platforms() {
		names = append(names, boot.OutboundQueue(p))
	}
	for _, name := range names {
		dead := open(queue.Settings{Name: cloud.DeadLetterName(name)}, nil)
		queues[name], queues[cloud.DeadLetterName(name)] = open(queue.Settings{Name: name, Visibility: time.Minute, MaxReceives: queue.MaxReceives}, dead), dead
	}
	set, err := boot.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	w, err := boot.Over(s, queues, time.Now, set, map[string]boot.Endpoint{record.NetSuite: {Credentials: []byte(`{"webhookSecrets":["` + load.Secret + `"]}`)}},
		telemetry.New(nil, time.Now, nil))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// gated is a queue from which nothing is received for a while.
type gated struct {
	boot.Queue
	shut sync.RWMutex
}

// Receive implements queue.Receiver.
func (g *gated) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Received, error) {
	g.shut.RLock()
	defer g.shut.RUnlock()
	return g.Queue.Receive(ctx, most, wait)
}

// pause waits until what was received has been worked on, too.
func (g *gated) pause(t *testing.T) {
	t.Helper()
	g.shut.Lock()
	for {
		d, err := g.Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.InFlight == 0 {
			return
		}
		if err := deadline.Pause(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func (g *gated) resume() { g.shut.Unlock() }

// drain waits until the hub has worked through what came in, and takes from the other queues, which nobody reads, what is
// in them.
func drain(t *testing.T, w *boot.World) {
	t.Helper()
	for {
		d, err := w.Queues[boot.InboundQueue].Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.Visible+d.InFlight == 0 {
			break
		}
		if err := deadline.Pause(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for name, q := range w.Queues {
		for name != boot.InboundQueue {
			got, err := q.Receive(t.Context(), 10, 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			receipts := make([]string, len(got))
			for i, m := range got {
				receipts[i] = m.Receipt
			}
			if err := q.Delete(t.Context(), receipts...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func kilobytes(b []int64) []int64 {
	out := make([]int64, len(b))
	for i, n := range b {
		out[i] = n >> 10
	}
	return out
}
