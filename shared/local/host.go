// Package local is the local function host: it triggers the very handlers that run on AWS, as AWS would. HTTP
// requests become HTTP API events, queue messages become SQS batches with partial failures, schedules fire.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/boot"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/load"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

// Options of a host. The zero value is right for `sorrel dev`.
type Options struct {
	Listen         string                   // default 127.0.0.1:8787; a free port with :0
	Endpoints      map[string]boot.Endpoint // shown at /v1/dev, nil = not shown
	BatchEvery     time.Duration            // default 30 s; negative = never
	SweepEvery     time.Duration            // default 1 s; negative = never
	ReconcileEvery time.Duration            // how often runs begin by themselves; default 1 h; negative = never
	Files          load.Source              // where files come; nil = nowhere
	FilesEvery     time.Duration            // default 5 s
	HubWorkers     int                      // batches handled at once per queue; default 8; negative = none
	DeliverWorkers int                      // default 8; negative = none
	RunWorkers     int                      // of workflows; default 4; negative = none
	TellWorkers    int                      // of subscribers; default 2; negative = none
}

// Host is a running host.
type Host struct {
	world    *boot.World
	options  Options
	intake   *intake.Flow
	server   *http.Server
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// functionTimeout is what the template gives the functions.
const functionTimeout = 30 * time.Second

// Start runs a world until Close. It listens on loopback only unless told otherwise; who decides something must be on
// this machine in any case, see trigger.Trusted.
func Start(w *boot.World, o Options) (*Host, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8787"
	}
	orElse := func(d *time.Duration, other time.Duration) {
		if *d == 0 {
			*d = other
		}
	}
	orElse(&o.BatchEvery, 30*time.Second)
	orElse(&o.SweepEvery, time.Second)
	orElse(&o.ReconcileEvery, time.Hour)
	orElse(&o.FilesEvery, 5*time.Second)
	if o.HubWorkers == 0 {
		o.HubWorkers = 8
	}
	if o.DeliverWorkers == 0 {
		o.DeliverWorkers = 8
	}
	if o.TellWorkers == 0 {
		o.TellWorkers = 2
	}
	if o.RunWorkers == 0 {
		o.RunWorkers = 4
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, &fault.Error{Class: fault.Down, Op: "local.listen", ID: o.Listen, Err: err, Remedy: "stop the process that listens there, or choose another address with --listen"}
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &Host{world: w, options: o, intake: w.Intake(), listener: l, stop: stop}
	h.server = &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	h.run(func() {
		if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.note("serving", err)
		}
	})
	hub := trigger.SQS(w.Watched(w.Hub().Apply), func() {})
	h.poll(ctx, boot.InboundQueue, hub, o.HubWorkers)
	h.poll(ctx, boot.WorkflowQueue, trigger.SQS(w.Watched(w.Workflow().Apply), func() {}), o.RunWorkers)
	h.poll(ctx, boot.PublishQueue, trigger.SQS(w.Watched(w.Publish().Apply), func() {}), o.TellWorkers)
	deliver := trigger.SQS(w.Watched(w.Deliver().Apply), func() {})
	for _, p := range boot.Platforms() {
		if _, connected := w.Connectors[p]; connected {
			h.poll(ctx, boot.OutboundQueue(p), deliver, o.DeliverWorkers)
		}
	}
	sweep := trigger.Sweep(w.Sweep(), w.Replay(), func() {})
	h.every(ctx, o.SweepEvery, func(ctx context.Context) { _, err := sweep(ctx, []byte("{}")); h.note("sweep", err) })
	h.every(ctx, time.Minute, func(ctx context.Context) { h.note("tidying", w.Tidy(ctx)) })
	comparing := w.Reconcile()
	advance := trigger.Reconcile(comparing, func() {})
	h.every(ctx, o.SweepEvery, func(ctx context.Context) { _, err := advance(ctx, []byte("{}")); h.note("reconcile", err) })
	h.every(ctx, o.ReconcileEvery, func(ctx context.Context) {
		_, err := comparing.Schedule(ctx, reconcile.Wish{})
		h.note("reconcile", err)
	})
	for p := range w.Connectors {
		h.every(ctx, o.BatchEvery, func(ctx context.Context) { h.note("batch", h.List(ctx, p)) })
	}
	if o.Files != nil {
		take := trigger.Files(w.Load(), o.Files, func() {})
		h.every(ctx, o.FilesEvery, func(ctx context.Context) { _, err := take(ctx, []byte("{}")); h.note("files", err) })
	}
	return h, nil
}

// URL is where the host listens.
func (h *Host) URL() string { return "http://" + h.listener.Addr().String() }

// List fires the batch schedule of one platform now.
func (h *Host) List(ctx context.Context, platform string) error {
	input, err := json.Marshal(trigger.BatchInput{Platform: platform})
	if err != nil {
		return err
	}
	_, err = trigger.Batch(h.world.Batch(), func() {})(ctx, input)
	return err
}

// Close stops taking work, lets what is under way finish, and leaves the rest on the queues.
func (h *Host) Close(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	h.stop()
	done := make(chan struct{})
	go func() { h.running.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

func (h *Host) run(f func()) {
	h.running.Add(1)
	go func() { defer h.running.Done(); f() }()
}

func (h *Host) note(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.world.Telemetry.Event(context.Background(), telemetry.Event{Step: "failed", Detail: what, Err: err})
	}
}

func (h *Host) every(ctx context.Context, d time.Duration, f func(context.Context)) {
	if d < 0 {
		return
	}
	h.run(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				in, cancel := context.WithTimeout(ctx, functionTimeout*10) // batch has 5 minutes on AWS
				f(in)
				cancel()
			}
		}
	})
}

// poll is the event source mapping of one queue.
func (h *Host) poll(ctx context.Context, name string, handle func(context.Context, events.SQSEvent) (events.SQSEventResponse, error), workers int) {
	q := h.world.Queues[name]
	for range workers {
		h.run(func() {
			for ctx.Err() == nil {
				h.note(name, h.once(ctx, q, handle))
			}
		})
	}
}

func (h *Host) once(ctx context.Context, q boot.Queue, handle func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)) error {
	polling, wait := ctx, 5*time.Second
	if h.world.EndPolls {
		polling, wait = context.WithoutCancel(ctx), time.Second
	}
	got, err := q.Receive(polling, 10, wait)
	if err != nil || len(got) == 0 {
		if err != nil && ctx.Err() == nil {
			_ = deadline.Pause(ctx, time.Second)
		}
		return err
	}
	var e events.SQSEvent
	receipts := map[string]string{}
	for _, m := range got {
		receipts[m.ID] = m.Receipt
		e.Records = append(e.Records, events.SQSMessage{MessageId: m.ID, ReceiptHandle: m.Receipt, Body: string(m.Body), EventSource: "aws:sqs",
			Attributes: map[string]string{"MessageGroupId": m.Group, "MessageDeduplicationId": m.Dedup, "ApproximateReceiveCount": fmt.Sprint(m.Receives)}})
	}
	// What was received is worked through even when the host stops meanwhile.
	in, cancel := context.WithTimeout(context.WithoutCancel(ctx), functionTimeout)
	defer cancel()
	answer, err := handle(in, e)
	if err != nil {
		return err // nothing is deleted: all of it comes back
	}
	for _, f := range answer.BatchItemFailures {
		delete(receipts, f.ItemIdentifier)
	}
	done := make([]string, 0, len(receipts))
	for _, r := range receipts {
		done = append(done, r)
	}
	if len(done) == 0 {
		return nil
	}
	return q.Delete(in, done...)
}
