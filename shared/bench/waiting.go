package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/budget"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/sweep"
	runs "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// WaitingOptions say how many runs of a workflow wait.
type WaitingOptions struct {
	Runs     int
	Progress io.Writer // nil = nobody
}

// Waiting is what an hour of sweeps, one a minute, costs with runs of a workflow that wait, in requests and units of
// DynamoDB. The hour is virtual and nothing is timed.
type Waiting struct {
	Legs  []WaitingLeg `json:"legs"`
	Ratio float64      `json:"readUnitsRatio"` // of the sweeps with runs that wait to those with none, without the count
}

// WaitingLeg is one such hour.
type WaitingLeg struct {
	Waiting int   `json:"waiting"`
	Due     int   `json:"due"`   // of these, runs whose time comes within the hour
	Moved   int   `json:"moved"` // runs that were reminded
	Sweeps  Spent `json:"sweeps"`
	Count   Spent `json:"count"` // what the sweep at the full hour reads more, for the gauges
	Work    Spent `json:"work"`  // of the hub and the workflow function, about what was due
}

// Spent is requests and units.
type Spent struct {
	Requests int     `json:"requests"`
	Read     float64 `json:"readUnits"`
	Write    float64 `json:"writeUnits"`
}

func (s Spent) and(i items) Spent {
	return Spent{s.Requests + i.store, s.Read + i.read, s.Write + i.write}
}

const (
	hourlySweeps = 60
	reminder     = 48 * time.Hour
	expiry       = 30 * 24 * time.Hour
)

// Wait measures an hour with no runs, with all of them waiting for another day, and with the time of each hundredth come.
func Wait(ctx context.Context, o WaitingOptions) (Waiting, error) {
	var out Waiting
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, leg := range []WaitingLeg{{}, {Waiting: o.Runs}, {Waiting: o.Runs, Due: max(o.Runs/100, 1)}} {
		fmt.Fprintf(o.Progress, "  %d runs wait, %d are due within the hour\n", leg.Waiting, leg.Due)
		if err := leg.run(ctx); err != nil {
			return out, err
		}
		out.Legs = append(out.Legs, leg)
	}
	none, all, due := out.Legs[0], out.Legs[1], out.Legs[2]
	out.Ratio = all.Sweeps.Read / none.Sweeps.Read
	var errs []error
	if all.Sweeps != none.Sweeps {
		errs = append(errs, fmt.Errorf("with %d runs that wait, sweeps cost %+v; without, %+v", o.Runs, all.Sweeps, none.Sweeps))
	}
	if all.Work != (Spent{}) {
		errs = append(errs, fmt.Errorf("work was done about runs that wait: %+v", all.Work))
	}
	if due.Moved != due.Due {
		errs = append(errs, fmt.Errorf("%d runs were due, %d were moved on", due.Due, due.Moved))
	}
	return out, errors.Join(errs...)
}

// patient is a workflow that asks people and waits.
func patient() workflow.Definition {
	return workflow.Definition{Name: "patience", Version: 1, Subject: "customer", Starts: func(workflow.Facts) bool { return false }, Steps: []workflow.Step{
		{Name: "approval", Remind: []time.Duration{reminder}, Expire: expiry, Do: func(workflow.Facts) workflow.Move {
			return workflow.Move{Wait: "finance", Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"it is large"}}}
		}}}}
}

// hour is a world without platforms whose clock is set by hand.
type hour struct {
	now      time.Time
	spent    bill
	ledger   *ledger.Ledger
	config   *policy.Set
	inbound  *queue.Memory
	lane     *queue.Memory
	sweep    *sweep.Flow
	hub      *hub.Flow
	workflow *runs.Flow
}

func newHour() (*hour, error) {
	h := &hour{now: time.Date(2026, 11, 2, 8, 0, 30, 0, time.UTC)}
	clock := func() time.Time { return h.now }
	var err error
	if h.config, err = boot.LoadConfig(""); err != nil {
		return nil, err
	}
	book, err := workflow.NewBook(patient())
	if err != nil {
		return nil, err
	}
	h.ledger = ledger.New(priced{store.NewMemory(clock), h.spent.add}, clock)
	tele := telemetry.New(nil, clock, nil)
	wake := map[string]queue.Sender{}
	for _, p := range boot.Platforms() {
		wake[p] = queue.NewMemory(queue.Settings{Name: p}, nil, clock)
	}
	h.inbound, h.lane = queue.NewMemory(queue.Settings{Name: "inbound"}, nil, clock), queue.NewMemory(queue.Settings{Name: "workflow"}, nil, clock)
	wake[record.Sorrel] = h.lane
	h.sweep = sweep.New(sweep.Deps{Ledger: h.ledger, Wake: wake, Inbound: h.inbound, Book: book, Now: clock, Grace: 30 * time.Second, Telemetry: tele})
	h.hub = hub.New(hub.Deps{Ledger: h.ledger, Config: h.config, Wake: wake, Now: clock, Telemetry: tele})
	h.workflow = runs.New(runs.Deps{Ledger: h.ledger, Config: h.config, Book: book, Wake: wake, Now: clock, NewTrace: func() string { return "t" }, Telemetry: tele})
	return h, nil
}

// begin makes a run that waits, and began some time ago.
func (h *hour) begin(ctx context.Context, n int, ago time.Duration) error {
	id := record.ID(fmt.Sprintf("customer/%016d", n))
	r := patient().Begin(id, 1, fmt.Sprint("trace-", n), h.now.Add(-ago))
	s := ledger.State{Record: record.Record{ID: id, Views: map[string]record.View{}}}
	s.Look(r.ID(), time.Time{})
	s.AddDue(record.Sorrel, r.Trace, budget.Live, h.now)
	if err := h.ledger.Commit(ctx, ledger.Entry{After: s, Runs: []ledger.Run{{Run: r}}, Now: h.now, Trace: r.Trace}); err != nil {
		return err
	}
	m, err := message.Wake{Platform: record.Sorrel, Record: id, CorrelationID: r.Trace}.Message("begin")
	if err != nil {
		return err
	}
	return h.look(ctx, queue.Received{Message: m, ID: "m", Receives: 1})
}

func (h *hour) look(ctx context.Context, got ...queue.Received) error {
	if failed := h.workflow.Apply(ctx, got); len(failed) > 0 {
		return fmt.Errorf("the workflow function fails about %v", failed)
	}
	return nil
}

// work lets the hub and the workflow function take what is on their queues.
func (h *hour) work(ctx context.Context) error {
	for {
		n := 0
		for q, apply := range map[*queue.Memory]func(context.Context, []queue.Received) []string{h.inbound: h.hub.Apply, h.lane: h.workflow.Apply} {
			got, err := q.Receive(ctx, queue.MaxBatch, 0)
			if err != nil {
				return err
			}
			if len(got) == 0 {
				continue
			}
			n += len(got)
			if failed := apply(ctx, got); len(failed) > 0 {
				return fmt.Errorf("messages fail: %v", failed)
			}
			for _, m := range got {
				if err := q.Delete(ctx, m.Receipt); err != nil {
					return err
				}
			}
		}
		if n == 0 {
			return nil
		}
	}
}

func (l *WaitingLeg) run(ctx context.Context) error {
	h, err := newHour()
	if err != nil {
		return err
	}
	for n := range l.Waiting {
		ago := time.Hour // its reminder is tomorrow
		if n < l.Due {
			ago = reminder - time.Hour*time.Duration(n+1)/time.Duration(l.Due+1)
		}
		if err := h.begin(ctx, n, ago); err != nil {
			return err
		}
	}
	if err := h.work(ctx); err != nil { // each has woken itself
		return err
	}
	h.spent.take()
	for range hourlySweeps {
		h.now = h.now.Add(time.Minute)
		if _, err := h.sweep.Apply(ctx); err != nil {
			return err
		}
		took := h.spent.take()
		if h.now.Minute() == 0 {
			// What the count adds to this sweep is what reading all heads costs.
			if _, err := h.ledger.CountRuns(ctx, nil, h.now); err != nil {
				return err
			}
			count := h.spent.take()
			l.Count = l.Count.and(count)
			took.store, took.read = took.store-count.store, took.read-count.read
		}
		l.Sweeps = l.Sweeps.and(took)
		if err := h.work(ctx); err != nil {
			return err
		}
		l.Work = l.Work.and(h.spent.take())
	}
	for n := range l.Waiting {
		r, err := h.ledger.Run(ctx, fmt.Sprintf("patience/customer/%016d/1", n))
		if err != nil {
			return err
		}
		if r.Past[0].Reminded > 0 {
			l.Moved++
		}
	}
	return nil
}

// Print writes a table of 80 columns.
func (w Waiting) Print(out io.Writer) error {
	var err error
	p := func(format string, a ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format, a...)
		}
	}
	p("An hour of sweeps, one a minute, in requests and read units of DynamoDB\n\n")
	p("%8s %6s %6s  %14s  %14s  %22s\n", "runs", "due", "moved", "------- sweeps", "- hourly count", "-- work on what is due")
	for _, l := range w.Legs {
		p("%8s %6d %6d  %6d %7.0f  %6d %7.0f  %10d %11.0f\n", thousands(float64(l.Waiting)), l.Due, l.Moved, l.Sweeps.Requests, l.Sweeps.Read, l.Count.Requests, l.Count.Read, l.Work.Requests, l.Work.Read)
	}
	if len(w.Legs) < 2 {
		return err
	}
	none, all := w.Legs[0], w.Legs[1]
	p("\nread units of the sweeps, %s runs waiting to none: ratio %.3f\n", thousands(float64(all.Waiting)), w.Ratio)
	p("Once an hour their heads are read for the gauges: %.0f read units for all of them.\n", all.Count.Read-none.Count.Read)
	return err
}
