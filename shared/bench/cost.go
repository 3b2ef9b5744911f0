package bench

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/bench/target"
	"sorrel/shared/boot"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Cost is what one change costs outside Sorrel's own process, by the vendors' price rules. Nothing of it is
// timed, so noise does not touch it. The sweep, empty receives and sign-ins go by time and not by change: they are left out.
type Cost struct {
	Load          string  `json:"load"`
	Changes       int     `json:"changes"`
	ProviderCalls float64 `json:"providerCallsPerChange"`
	StoreRequests float64 `json:"dynamoRequestsPerChange"`
	ReadUnits     float64 `json:"readUnitsPerChange"`
	WriteUnits    float64 `json:"writeUnitsPerChange"`
	QueueRequests float64 `json:"sqsRequestsPerChange"`
}

func (c Cost) print(p func(string, ...any)) {
	p("\nper change, %s (%s changes):\n", c.Load, thousands(float64(c.Changes)))
	p("  %.2f provider calls; DynamoDB %.2f requests, %.2f read and %.2f write units;\n  SQS %.2f requests\n",
		c.ProviderCalls, c.StoreRequests, c.ReadUnits, c.WriteUnits, c.QueueRequests)
}

// bill adds up what is charged for.
type bill struct {
	mu sync.Mutex
	items
}

type items struct {
	store, queue int // requests
	read, write  float64
}

func (b *bill) add(i items) {
	b.mu.Lock()
	b.store, b.queue, b.read, b.write = b.store+i.store, b.queue+i.queue, b.read+i.read, b.write+i.write
	b.mu.Unlock()
}

// take returns what was added since the last time.
func (b *bill) take() items {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.items
	b.items = items{}
	return out
}

// itemSize is an item's size with the attribute names of the DynamoDB adapter, about.
func itemSize(k store.Key, value []byte) float64 {
	const names = 40
	return float64(len(k.Part) + len(k.Sort) + len(value) + names)
}

func readUnits(size float64) float64  { return max(1, math.Ceil(size/4096)) }
func writeUnits(size float64) float64 { return max(1, math.Ceil(size/1024)) }

// priced is a store whose verbs are billed as DynamoDB bills them: strongly consistent reads one unit per 4 KB,
// writes one per 1 KB, in a transaction two.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
type priced struct {
	store.Store
	spent func(items)
}

func (p priced) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	e, err := p.Store.Get(ctx, k)
	p.spent(items{store: 1, read: readUnits(itemSize(k, e.Value))})
	return e, err
}

func (p priced) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	found, err := store.GetMany(ctx, p.Store, keys...)
	units := float64(len(keys) - len(found)) // a read of nothing costs one
	out := make([]store.Entry, 0, len(found))
	for k, e := range found {
		units += readUnits(itemSize(k, e.Value))
		out = append(out, e)
	}
	p.spent(items{store: 1, read: units})
	return out, err
}

func (p priced) Commit(ctx context.Context, ops ...store.Op) error {
	err := p.Store.Commit(ctx, ops...)
	units := 0.0
	for _, op := range ops {
		units += writeUnits(itemSize(op.Key, op.Value))
	}
	if len(ops) > 1 {
		units *= 2
	}
	p.spent(items{store: 1, write: units})
	return err
}

func (p priced) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		size := 0.0
		defer func() { p.spent(items{store: 1, read: readUnits(size)}) }()
		for e, err := range p.Store.Range(ctx, part, from, to) {
			size += itemSize(e.Key, e.Value)
			if !yield(e, err) {
				return
			}
		}
	}
}

// counted is a queue whose requests are counted as SQS counts them: ten messages each.
type counted struct {
	boot.Queue
	bill *bill
}

func tens(n int) int { return (n + 9) / 10 }

func (c counted) Send(ctx context.Context, msgs ...queue.Message) error {
	c.bill.add(items{queue: tens(len(msgs))})
	return c.Queue.Send(ctx, msgs...)
}

func (c counted) Receive(ctx context.Context, n int, wait time.Duration) ([]queue.Received, error) {
	got, err := c.Queue.Receive(ctx, n, wait)
	c.bill.add(items{queue: tens(len(got))})
	return got, err
}

func (c counted) Delete(ctx context.Context, receipts ...string) error {
	c.bill.add(items{queue: tens(len(receipts))})
	return c.Queue.Delete(ctx, receipts...)
}

// cost is what a change costs when it comes alone, and when many come at once and share batches.
func cost(ctx context.Context, o Options) ([]Cost, error) {
	alone, err := costOf(ctx, o, "each by itself", 1, 1, 200)
	if err != nil {
		return nil, err
	}
	together, err := costOf(ctx, o, "64 at once", 64, 640, 3200)
	return []Cost{alone, together}, err
}

// costOf runs a Sorrel in this process over a billed store and billed queues, and sends it changes.
func costOf(ctx context.Context, o Options, name string, connections, orders, events int) (c Cost, err error) {
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return c, err
	}
	defer done()
	if err := configWithout(filepath.Join(dir, "config"), record.Zendesk, record.ServiceNow); err != nil {
		return c, err
	}
	set, err := boot.LoadConfig(filepath.Join(dir, "config"))
	if err != nil {
		return c, err
	}
	tracker := load.NewTracker(orders)
	to, err := target.Start(tracker, time.Now, 0)
	if err != nil {
		return c, err
	}
	defer to.Close()
	w, err := boot.Embedded(filepath.Join(dir, "data"), set, endpoints(to), quiet)
	if err != nil {
		return c, err
	}
	b := &bill{}
	w.Ledger = ledger.New(priced{store.NewMemory(w.Now), b.add}, w.Now)
	for name, q := range w.Queues {
		w.Queues[name] = counted{q, b}
	}
	w.Inbound, w.Workflows = w.Queues[boot.InboundQueue], w.Queues[boot.WorkflowQueue]
	for p := range w.Outbound {
		w.Outbound[p] = w.Queues[boot.OutboundQueue(p)]
	}
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1})
	if err != nil {
		return c, errors.Join(err, w.Close())
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, h.Close(stop), w.Close())
	}()
	address := strings.TrimPrefix(h.URL(), "http://")
	arrived := func() bool { // a new customer is not made elsewhere before the sweep wakes it, which is off
		_, err := w.Sweep().Apply(ctx)
		return err == nil && to.HasCustomer()
	}
	if err := introduce(ctx, address, arrived); err != nil {
		return c, err
	}
	s := load.NewSender(load.Options{Address: func() string { return address }, Connections: connections, Orders: orders, Seed: o.Seed, Tracker: tracker, Now: time.Now})
	defer s.Close()
	step := func(events int) error {
		if _, err := s.Count(ctx, events); err != nil {
			return err
		}
		return settled(ctx, tracker, w)
	}
	if err := step(orders); err != nil { // the first revision makes the order: that is no change yet
		return c, err
	}
	tracker.Reset()
	b.take()
	calls := to.Calls()
	if err := step(events); err != nil {
		return c, err
	}
	seen, _ := tracker.Reset()
	if seen.Events != seen.Writes || seen.Events == 0 {
		return c, fmt.Errorf("bench cost: %d events gave %d writes", seen.Events, seen.Writes)
	}
	got, n := b.take(), float64(seen.Events)
	return Cost{name, seen.Events, float64(to.Calls()-calls) / n, float64(got.store) / n, got.read / n, got.write / n, float64(got.queue) / n}, nil
}

// settled waits until everything has been seen, committed and deleted from the queues.
func settled(ctx context.Context, t *load.Tracker, w *boot.World) error {
	if err := drained(ctx, t); err != nil {
		return err
	}
	return until(ctx, patience, "empty queues", func() bool {
		for _, q := range w.Queues {
			if d, err := q.Depth(ctx); err != nil || d.Visible+d.InFlight > 0 {
				return false
			}
		}
		return true
	})
}
