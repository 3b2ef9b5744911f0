package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/deadline"
	"sorrel/shared/record"
)

// BacklogOptions of a start with webhooks waiting. Zero values have the defaults that are named.
type BacklogOptions struct {
	Waiting  int           // webhooks that wait; 20,000
	Starts   int           // pairs of starts, one with them and one without; 5
	Work     time.Duration // how long it then works on them before the memory is read; 5 s
	Dir      string        // where Sorrel keeps its data; "" = a temporary folder
	Progress io.Writer     // nil = nobody
}

func (o BacklogOptions) withDefaults() BacklogOptions {
	for _, d := range []struct {
		at  *int
		def int
	}{{&o.Waiting, 20_000}, {&o.Starts, 5}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if o.Work <= 0 {
		o.Work = 5 * time.Second
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// BacklogReport is what starting with a backlog took. The floor is the same start without one.
type BacklogReport struct {
	Machine   Machine   `json:"machine"`
	Waiting   int       `json:"waiting"`
	FillSec   float64   `json:"fillSeconds"`
	StartMS   []float64 `json:"startMs"` // from the start of the process to the first webhook that was accepted
	FloorMS   []float64 `json:"floorMs"`
	OwnMB     float64   `json:"ownMB"`  // most memory of its own, started and at work on the backlog: what cannot be taken away
	PeakMB    float64   `json:"peakMB"` // of resident memory: with what the system caches of the store's file, and lets go when others need room
	FloorMB   float64   `json:"floorMB"`
	FloorOwn  float64   `json:"floorOwnMB"`
	FillMB    float64   `json:"fillPeakMB"`    // of the process that took them all in
	Refused   int       `json:"answered4xx"`   // webhooks answered 4xx while it started
	Elsewhere int       `json:"answeredOther"` // neither 2xx nor 4xx
	Checks    []Check   `json:"checks"`
}

// Bars of the figures that must hold with so many webhooks waiting.
const (
	backlogStart = 500 // ms, with 20,000
	backlogPeak  = 150 // MB, with 100,000
)

// Held reports whether every promise was kept.
func (r BacklogReport) Held() bool {
	return held(r.Checks)
}

// Print writes the report for people.
func (r BacklogReport) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "sorrel bench backlog, %s webhooks waiting (taken in within %.1f s)\n\n", thousands(float64(r.Waiting)), r.FillSec)
	fmt.Fprintf(&b, "%-44s %9s %9s %9s\n", "", "with", "without", "ratio")
	row := func(name string, with, without float64) {
		fmt.Fprintf(&b, "%-44s %9.0f %9.0f %9.2f\n", name, with, without, with/without)
	}
	row("accepting after the start, ms, median", median(r.StartMS), median(r.FloorMS))
	row("accepting after the start, ms, worst", slices.Max(r.StartMS), slices.Max(r.FloorMS))
	row("memory of its own at most, MB", r.OwnMB, r.FloorOwn)
	row("… with the cache of the store's file, MB", r.PeakMB, r.FloorMB)
	fmt.Fprintf(&b, "%-44s %9.0f\n\n", "… of the process that took them in, MB", r.FillMB)
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}

// Backlog fills the durable inbound queue, kills the process with -9 and starts it again, while somebody sends webhooks
// all the time.
func Backlog(ctx context.Context, o BacklogOptions) (BacklogReport, error) {
	o = o.withDefaults()
	r := BacklogReport{Machine: machine(), Waiting: o.Waiting}
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return r, err
	}
	defer done()
	address, err := freeAddress()
	if err != nil {
		return r, err
	}
	child := childConfig{Peer: sorrel, Dir: filepath.Join(dir, "full"), CPU: -1, Listen: address, Workers: -1,
		Endpoints: map[string]boot.Endpoint{record.NetSuite: netSuite()}}
	if err := r.fill(ctx, child, o.Waiting); err != nil {
		return r, err
	}
	fmt.Fprintf(o.Progress, "  %d webhooks wait\n", o.Waiting)
	empty := child
	empty.Dir = filepath.Join(dir, "empty")
	kept := true
	for n := range o.Starts {
		for _, full := range []bool{n%2 == 0, n%2 != 0} { // interleaved
			c, last := empty, n == o.Starts-1
			if full {
				c = child
			}
			if last {
				c.Workers = 0 // it works on them, too
			}
			s, err := r.start(ctx, c, o.Work, last)
			if err != nil {
				return r, err
			}
			fmt.Fprintf(o.Progress, "  accepting after %.0f ms, %.0f MB of its own, %d waiting\n", s.took, s.own, s.waiting)
			if full {
				r.StartMS, r.PeakMB, r.OwnMB = append(r.StartMS, s.took), max(r.PeakMB, s.peak), max(r.OwnMB, s.own)
				kept = kept && (last || s.waiting >= o.Waiting)
			} else {
				r.FloorMS, r.FloorMB, r.FloorOwn = append(r.FloorMS, s.took), max(r.FloorMB, s.peak), max(r.FloorOwn, s.own)
			}
		}
	}
	r.check("webhooks answered 4xx while starting", r.Refused == 0)
	r.check("starts that found fewer than waited", kept)
	if o.Waiting <= 20_000 {
		r.check(fmt.Sprintf("median start above %d ms", backlogStart), median(r.StartMS) <= backlogStart)
	}
	if o.Waiting <= 100_000 {
		r.check(fmt.Sprintf("more than %d MB of its own", backlogPeak), r.OwnMB == 0 || r.OwnMB <= backlogPeak)
	}
	if !r.Held() {
		return r, errors.New("bench backlog: a bar was missed")
	}
	return r, nil
}

func (r *BacklogReport) check(name string, held bool) {
	c := Check{Name: name}
	if !held {
		c.Got = 1
	}
	r.Checks = append(r.Checks, c)
}

// freeAddress is one that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("bench backlog: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// fill takes n webhooks in, without a hub to work on them, and dies.
func (r *BacklogReport) fill(ctx context.Context, c childConfig, n int) error {
	p, err := peer.Start(ctx, ChildArgs(), c)
	if err != nil {
		return err
	}
	began := time.Now()
	const connections = 64
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			caller := load.NewCaller(p.Address)
			defer caller.Close()
			var body []byte
			for at := i; at < n && errs[i] == nil && ctx.Err() == nil; at += connections {
				body = load.AppendOrder(body[:0], 1+at/3, 1+at%3, fmt.Sprint("b-", at), began)
				if status, err := caller.Post(body, false); err != nil || status/100 != 2 {
					errs[i] = fmt.Errorf("bench backlog: answered %d: %w", status, err)
				}
			}
		})
	}
	wg.Wait()
	r.FillSec, r.FillMB = time.Since(began).Seconds(), float64(p.Usage().Peak)/(1<<20)
	return errors.Join(append(errs, ctx.Err(), p.Kill())...)
}

// started is what one start took.
type started struct {
	took, peak, own float64
	waiting         int
}

// start starts a process while somebody sends it webhooks, and ends it as kill -9 does.
func (r *BacklogReport) start(ctx context.Context, c childConfig, work time.Duration, works bool) (started, error) {
	began := time.Now()
	probing, stop := context.WithCancel(ctx)
	defer stop()
	first := make(chan time.Duration, 1)
	var probe sync.WaitGroup
	probe.Go(func() {
		caller := load.NewCaller(func() string { return c.Listen })
		defer caller.Close()
		for n := 0; probing.Err() == nil; n++ {
			status, err := caller.Post(load.AppendOrder(nil, 1, 9, fmt.Sprint("p-", began.UnixNano(), n), began), false)
			switch {
			case err != nil: // nobody listens yet
			case status/100 == 2:
				first <- time.Since(began)
				return
			case status/100 == 4:
				r.Refused++
			default:
				r.Elsewhere++
			}
			_ = deadline.Pause(probing, time.Millisecond) // the loop asks whether that has ended
		}
	})
	p, err := peer.Start(ctx, ChildArgs(), c)
	if err != nil {
		return started{}, err
	}
	defer func() { _ = p.Kill() }()
	var s started
	select {
	case took := <-first:
		s.took = ms(took)
	case <-time.After(patience):
		err = fmt.Errorf("bench backlog: nothing was accepted within %s", patience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	stop()
	probe.Wait()
	if err != nil {
		return s, err
	}
	status, err := getStatus(ctx, p.URL)
	if err != nil {
		return s, err
	}
	for _, q := range status.Queues {
		if q.Name == boot.InboundQueue {
			s.waiting = q.Visible + q.InFlight
		}
	}
	until := time.Now()
	if works {
		until = until.Add(work)
	}
	for { // its peak counts, however long it worked
		u := p.Usage()
		s.own, s.peak = max(s.own, float64(u.Own)/(1<<20)), float64(u.Peak)/(1<<20)
		if !time.Now().Before(until) || deadline.Pause(ctx, 20*time.Millisecond) != nil {
			return s, nil
		}
	}
}
