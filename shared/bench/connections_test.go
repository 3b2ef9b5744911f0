package bench_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"sorrel/shared/bench/floor"
	"sorrel/shared/bench/load"
	"sorrel/shared/boot"
	"sorrel/shared/local"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// TestConnections sends webhooks over 200 connections to a host in this process, under the race detector in CI, and
// beside it to the bare handler. For the long run:
//
//	SORREL_LOAD=60s go test -race -run TestConnections -v ./shared/bench
func TestConnections(t *testing.T) {
	d, most := 2*time.Second, 200
	if long := os.Getenv("SORREL_LOAD"); long != "" {
		var err error
		if d, err = time.ParseDuration(long); err != nil {
			t.Fatal(err)
		}
	}
	set, err := boot.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	credentials := []byte(`{"webhookSecrets":["` + load.Secret + `"]}`)
	w, err := boot.Embedded(t.TempDir(), set, map[string]boot.Endpoint{record.NetSuite: {Credentials: credentials}},
		func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	if err != nil {
		t.Fatal(err)
	}
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1, DeliverWorkers: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if err := errors.Join(h.Close(ctx), w.Close()); err != nil {
			t.Error(err)
		}
	}()
	bare, stop, err := floor.Start(floor.Config{Kind: "V", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	sender := func(url string) *load.Sender {
		return load.NewSender(load.Standard(load.Options{Address: func() string { return url[len("http://"):] }, Connections: most, Orders: 1000, Seed: 1,
			Tracker: load.NewTracker(1000), Now: time.Now}))
	}
	to := map[string]*load.Sender{"Sorrel": sender(h.URL()), "floor": sender(bare)}
	acks, accepted := map[string][]time.Duration{}, 0
	var heap []uint64
	for range 4 { // interleaved
		for _, name := range []string{"floor", "Sorrel"} {
			sent, err := to[name].Closed(t.Context(), d/4, false)
			if err != nil || sent.Wrong > 0 || sent.Forged == 0 && sent.Requests > 5000 {
				t.Fatalf("%s: %+v, %v", name, sent, err)
			}
			acks[name] = append(acks[name], sent.Ack...)
			if name == "Sorrel" {
				accepted += sent.First
			}
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = append(heap, m.HeapAlloc)
	}
	for _, s := range to {
		s.Close()
	}
	p99 := func(name string) time.Duration {
		slices.Sort(acks[name])
		return acks[name][len(acks[name])*99/100]
	}
	t.Logf("%d accepted over %d connections; p99 of the acknowledgement %s, of the bare handler %s: %.1f times; heap after each quarter %d KB",
		accepted, most, p99("Sorrel"), p99("floor"), float64(p99("Sorrel"))/float64(p99("floor")), kilobytes(heap))
	// What waits, and what was sent within five minutes, is remembered: some hundred bytes each.
	if grown := int64(heap[3]) - int64(heap[0]); grown > 16<<20+int64(accepted)*500 {
		t.Errorf("the heap grew by %d bytes from the first quarter to the last, with %d webhooks accepted", grown, accepted)
	}
}

func kilobytes(b []uint64) []uint64 {
	out := make([]uint64, len(b))
	for i, n := range b {
		out[i] = n >> 10
	}
	return out
}
