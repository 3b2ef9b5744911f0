// Package bench measures Sorrel against floors that do the least such a thing can do, in one interleaved run,
// and checks that nothing is lost, repeated or reordered when its process is killed under load.
//
//	V  net/http, verify the HMAC, answer                              (load 1 event, keep nothing)
//	I  V + decode, map 14 fields, drop repeats, group-flushed log, answer
//	W  I + deliver each event by HTTP POST, in the order of its record
//
// Every peer is a fresh child process of this very program with GOMAXPROCS=2, bound to CPU 0; the load generator
// and the target are in the parent on CPU 1, so figures read "per one CPU". Absolute figures say little from one
// machine or hour to the next: what counts is the median of the ratios within pairs that ran one after the other.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sorrel/shared/bench/floor"
	"sorrel/shared/bench/load"
	"sorrel/shared/bench/peer"
	"sorrel/shared/bench/target"
	"sorrel/shared/boot"
	"sorrel/shared/record"
)

// Options of a measurement. Zero values have the defaults that are named.
type Options struct {
	Duration    time.Duration // of the load of one leg; 3 s
	Warm        time.Duration // load before it that is not counted; 500 ms
	Pairs       int           // 5
	Connections int           // 64
	Orders      int           // 1,000
	Seed        uint64        // 1
	Open        bool          // also measure latency at 100/s and 1,000/s, with a target that takes 20 ms
	MaxNoise    float64       // repeat a pair, up to 3 times, while other processes used more CPUs than this; 0 = only report
	Dir         string        // where peers keep their files; "" = a temporary folder
	Profile     string        // write CPU profiles of one more leg of each Sorrel kind to this file + "." + kind; "" = none
	Progress    io.Writer     // told of each leg; nil = nobody
}

func (o Options) withDefaults() Options {
	orElse := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orElse(&o.Duration, 3*time.Second)
	orElse(&o.Warm, 500*time.Millisecond)
	for _, d := range []struct {
		at  *int
		def int
	}{{&o.Pairs, 5}, {&o.Connections, 64}, {&o.Orders, 1000}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// kind is one thing to measure.
type kind struct {
	name    string
	peer    string // as childConfig says it
	about   string
	workers int           // of Sorrel
	deliver bool          // measured until the target has seen everything
	paced   bool          // an order's next event waits until its last one was seen
	rate    float64       // open loop, events a second; 0 = closed loop
	delay   time.Duration // of the target
}

const sorrel = "Sorrel"

func floorV() kind { return kind{name: "V", peer: "V", about: "verify, answer"} }
func floorI() kind {
	return kind{name: "I", peer: "I", about: "V + decode, map, dedupe, flushed log"}
}
func floorW() kind {
	return kind{name: "W", peer: "W", about: "I + ordered delivery by HTTP", deliver: true}
}

// Intake measures acknowledging: how many webhooks a second are accepted once they are durable.
func Intake(ctx context.Context, o Options) (Report, error) {
	s := kind{name: "S", peer: sorrel, about: "Sorrel, durably queueing", workers: -1}
	all := kind{name: "S+", peer: sorrel, about: "Sorrel, hub and deliver working beside it"}
	return measure(ctx, "intake", o, []kind{floorV(), floorI(), s, all}, []goal{
		{"S / I", "S", "I", accepted, 0.60}, {"S / V", "S", "V", accepted, 0}, {"S+ / I", "S+", "I", accepted, 0},
		{"CPU S / I", "S", "I", cpu, 0},
	}, []kind{floorV(), floorI(), s})
}

// Sync measures the whole way: from accepting an event until the target has seen it or a later revision.
func Sync(ctx context.Context, o Options) (Report, error) {
	s := kind{name: "S", peer: sorrel, about: "Sorrel, bursts may merge on the way", deliver: true}
	paced := kind{name: "S1", peer: sorrel, about: "Sorrel, every change written by itself", deliver: true, paced: true}
	r, err := measure(ctx, "sync", o, []kind{floorW(), s, paced}, []goal{
		{"S / W", "S", "W", delivered, 0.20}, {"S1 / W", "S1", "W", delivered, 0.20}, {"CPU S / W", "S", "W", cpu, 0},
	}, []kind{floorW(), s})
	if err != nil {
		return r, err
	}
	if r.Cost, err = cost(ctx, o.withDefaults()); err != nil {
		return r, err
	}
	return r, r.broken()
}

// goal is a ratio to report.
type goal struct {
	name       string
	over, unto string // names of kinds
	figure     func(Leg) float64
	aim        float64 // 0 = none
}

func accepted(l Leg) float64  { return l.Accepted }
func delivered(l Leg) float64 { return l.Delivered }
func cpu(l Leg) float64       { return l.CPU }

func measure(ctx context.Context, name string, o Options, kinds []kind, goals []goal, open []kind) (Report, error) {
	o = o.withDefaults()
	r := Report{Name: name, Machine: machine(), Seed: o.Seed, Seconds: o.Duration.Seconds()}
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return r, err
	}
	defer done()
	h := &harness{o: o, dir: dir, cpu: -1}
	h.config = filepath.Join(dir, "config")
	if err := configWithout(h.config, record.Zendesk, record.ServiceNow); err != nil {
		return r, err
	}
	if r.FlushMS, err = flushTime(dir); err != nil {
		return r, err
	}
	if undo, err := apart(); err != nil {
		r.Notes = append(r.Notes, "not bound to CPUs: "+err.Error())
	} else {
		defer undo()
		h.cpu, r.Pinned = 0, true
	}
	for _, k := range kinds {
		r.Kinds = append(r.Kinds, Kind{k.name, k.about})
	}
	for pair := range o.Pairs {
		legs, err := h.pair(ctx, pair, kinds)
		if err != nil {
			return r, err
		}
		r.Legs = append(r.Legs, legs...)
	}
	r.summarise(goals)
	if o.Open {
		for _, rate := range []float64{100, 1000} {
			for _, k := range open {
				k.rate, k.delay = rate, 20*time.Millisecond
				l, err := h.leg(ctx, 0, k)
				if err != nil {
					return r, err
				}
				r.Open = append(r.Open, l)
			}
		}
	}
	if o.Profile != "" {
		for _, k := range kinds {
			if k.peer != sorrel {
				continue
			}
			h.profile = o.Profile + "." + k.name
			if _, err := h.leg(ctx, o.Pairs, k); err != nil {
				return r, err
			}
		}
	}
	return r, r.broken()
}

// apart binds the harness to CPU 1 if CPU 0 can be had for the peers.
func apart() (undo func(), err error) {
	if undo, err = peer.Pin(0); err != nil {
		return nil, err
	}
	if _, err := peer.Pin(1); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// workDir makes the folder of a run; done removes it if it is temporary.
func workDir(dir string) (string, func(), error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, fmt.Errorf("bench: %w", err)
		}
	}
	made, err := os.MkdirTemp(dir, "sorrel-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	return made, func() { _ = os.RemoveAll(made) }, nil
}

// flushTime is the median time of 4 KiB appended and flushed, in milliseconds.
func flushTime(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "flush"))
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	block := make([]byte, 4<<10)
	var took []time.Duration
	for range 100 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		if err := floor.Sync(f); err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		took = append(took, time.Since(start))
	}
	return ms(quantile(took, 0.5)), nil
}

// harness runs legs.
type harness struct {
	o       Options
	dir     string
	config  string
	cpu     int // for children; -1 = any
	profile string
	runs    int
}

// pair runs each kind once, every second pair in the opposite order. A pair that others disturbed is repeated.
func (h *harness) pair(ctx context.Context, n int, kinds []kind) ([]Leg, error) {
	order := slices.Clone(kinds)
	if n%2 == 1 {
		slices.Reverse(order)
	}
	for try := 0; ; try++ {
		var legs []Leg
		noise := 0.0
		for _, k := range order {
			l, err := h.leg(ctx, n, k)
			if err != nil {
				return nil, err
			}
			legs = append(legs, l)
			noise = max(noise, l.Others)
		}
		if h.o.MaxNoise <= 0 || noise <= h.o.MaxNoise || try == 3 {
			return legs, nil
		}
		fmt.Fprintf(h.o.Progress, "  others used %.2f CPUs: once more\n", noise)
	}
}

// leg measures one kind with a fresh peer.
func (h *harness) leg(ctx context.Context, pair int, k kind) (leg Leg, err error) {
	h.runs++
	dir := filepath.Join(h.dir, fmt.Sprintf("leg-%d", h.runs))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return leg, fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tracker := load.NewTracker(h.o.Orders)
	to, err := target.Start(tracker, time.Now, k.delay)
	if err != nil {
		return leg, err
	}
	defer to.Close()
	c := childConfig{Peer: k.peer, Dir: dir, CPU: h.cpu, Target: to.URL(), Workers: k.workers, Profile: h.profile}
	if k.peer == sorrel {
		c.Config, c.Listen, c.Endpoints = h.config, "127.0.0.1:0", endpoints(to)
	}
	p, err := peer.Start(ctx, ChildArgs(), c)
	if err != nil {
		return leg, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if k.peer == sorrel && k.workers >= 0 {
		if err := introduce(ctx, p.Address(), to.HasCustomer); err != nil {
			return leg, err
		}
	}
	connections := h.o.Connections
	if k.rate > 0 {
		connections = 256
	}
	sender := load.NewSender(load.Standard(load.Options{Address: p.Address, Connections: connections, Orders: h.o.Orders, Seed: h.o.Seed + uint64(pair),
		Tracker: tracker, Now: time.Now}))
	defer sender.Close()
	if _, err := sender.Closed(ctx, h.o.Warm, k.paced); err != nil {
		return leg, err
	}
	if k.deliver {
		if err := drained(ctx, tracker); err != nil {
			return leg, err
		}
	}
	tracker.Reset()
	calls, before, start := to.Calls(), h.clocks(p), time.Now()
	sent, err := h.send(ctx, sender, k)
	if err != nil {
		return leg, err
	}
	if k.deliver {
		if err := drained(ctx, tracker); err != nil && ctx.Err() != nil {
			return leg, err
		}
	}
	after := h.clocks(p)
	seen, took := tracker.Reset()
	leg = Leg{Kind: k.name, Pair: pair, Rate: k.rate, Requests: sent.Requests, Accepted: float64(sent.First+sent.Repeats) / sent.Took.Seconds(),
		Wrong: sent.Wrong, AckP50: ms(quantile(sent.Ack, 0.50)), AckP95: ms(quantile(sent.Ack, 0.95)), AckP99: ms(quantile(sent.Ack, 0.99)), AckMax: ms(quantile(sent.Ack, 1)),
		Calls: to.Calls() - calls}
	if k.deliver {
		leg.Delivered = float64(seen.Events) / max(tracker.NewestAt().Sub(start), time.Millisecond).Seconds()
		leg.SeenP50, leg.SeenP99 = ms(quantile(took, 0.50)), ms(quantile(took, 0.99))
		leg.Seen, leg.Lost = seen, tracker.Waiting()
	}
	leg.Forged = seen.Forged
	after.since(before, &leg)
	fmt.Fprintln(h.o.Progress, leg.line())
	return leg, nil
}

func (h *harness) send(ctx context.Context, s *load.Sender, k kind) (load.Sent, error) {
	if k.rate > 0 {
		return s.Open(ctx, h.o.Duration, k.rate)
	}
	return s.Closed(ctx, h.o.Duration, k.paced)
}

// endpoints are a NetSuite that only sends webhooks, and the target as the one platform to deliver to.
func endpoints(to *target.Target) map[string]boot.Endpoint {
	return map[string]boot.Endpoint{record.NetSuite: netSuite(), record.Salesforce: {URL: to.URL(), Credentials: secret(target.Credentials())}}
}

// introduce sends the customer whom the orders refer to and waits until it has come to the targets.
func introduce(ctx context.Context, address string, arrived func() bool) error {
	c := load.NewCaller(func() string { return address })
	defer c.Close()
	status, err := c.Post(load.Customer(time.Now()), false)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("bench: the peer answered %d to the customer", status)
	}
	return until(ctx, patience, "the customer to come to the targets", arrived)
}

// patience with what has to come, on a machine that has other things to do.
const patience = 2 * time.Minute

func drained(ctx context.Context, t *load.Tracker) error {
	return until(ctx, patience, "the target to see everything that was accepted", func() bool { return t.Waiting() == 0 })
}

// until looks every few milliseconds whether what is awaited has come.
func until(ctx context.Context, limit time.Duration, what string, come func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !come() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("bench: waited in vain for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// clocks are CPU times at one moment.
type clocks struct {
	at         time.Time
	peer, self peer.Usage
	busy       time.Duration
	known      bool
}

func (h *harness) clocks(p *peer.Peer) clocks {
	c := clocks{at: time.Now(), peer: p.Usage(), self: peer.Self()}
	c.busy, c.known = peer.Busy()
	return c
}

func (c clocks) since(b clocks, l *Leg) {
	wall := c.at.Sub(b.at).Seconds()
	if !c.peer.Known || wall <= 0 {
		return
	}
	used := c.peer.CPU - b.peer.CPU
	l.CPU = used.Seconds() / float64(max(1, l.Requests)) * 10_000
	l.PeakMB = float64(c.peer.Peak) / (1 << 20)
	l.Harness = (c.self.CPU - b.self.CPU).Seconds() / wall
	if c.known && b.known {
		l.Others = max(0, (c.busy-b.busy).Seconds()/wall-used.Seconds()/wall-l.Harness)
	}
}
