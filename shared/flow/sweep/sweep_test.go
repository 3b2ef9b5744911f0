package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

type bench struct {
	t       *testing.T
	now     time.Time
	ledger  *ledger.Ledger
	wake    map[string]*queue.Memory
	inbound *queue.Memory
	tele    *telemetry.Recorder
	deps    sweep.Deps
}

func setUp(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: start}
	clock := func() time.Time { return b.now }
	b.ledger, b.tele = ledger.New(store.NewMemory(clock), clock), telemetry.New(nil, clock, nil)
	b.inbound = queue.NewMemory(queue.Settings{Name: "inbound"}, nil, clock)
	b.wake = map[string]*queue.Memory{}
	b.deps = sweep.Deps{Ledger: b.ledger, Wake: map[string]queue.Sender{}, Inbound: b.inbound, Now: clock, Grace: 30 * time.Second, Telemetry: b.tele}
	for _, p := range []string{"salesforce", "zendesk"} {
		b.wake[p] = queue.NewMemory(queue.Settings{Name: p}, nil, clock)
		b.deps.Wake[p] = b.wake[p]
	}
	return b
}

// due makes a record due for a platform.
func (b *bench) due(id record.ID, platform string, notBefore time.Time) {
	b.t.Helper()
	s := ledger.State{Record: record.Record{ID: id, Views: map[string]record.View{}}, Due: map[string]ledger.Due{platform: {Since: b.now, NotBefore: notBefore}}}
	if err := b.ledger.Commit(b.t.Context(), ledger.Entry{After: s}); err != nil {
		b.t.Fatal(err)
	}
}

// Once an hour the runs that have not ended are counted; whoever takes longer than its definition promises is late.
func TestCountsRuns(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	d := workflow.Definition{Name: "activation", Version: 1, Subject: "order", Late: time.Hour, Starts: func(workflow.Facts) bool { return false },
		Steps: []workflow.Step{{Name: "a", Do: func(workflow.Facts) workflow.Move { return workflow.Move{} }}}}
	var err error
	if b.deps.Book, err = workflow.NewBook(d); err != nil {
		t.Fatal(err)
	}
	for i, state := range []workflow.State{workflow.Running, workflow.Stuck, workflow.Undoing, workflow.Done} {
		r := d.Begin(record.ID(fmt.Sprint("order/", i)), 1, "t", start.Add(-time.Duration(i+1)*40*time.Minute))
		if r.State = state; state.Ended() {
			r.Ended = start
		}
		s := ledger.State{Record: record.Record{ID: r.Subject, Views: map[string]record.View{}}}
		if err := b.ledger.Commit(t.Context(), ledger.Entry{After: s, Runs: []ledger.Run{{Run: r}}}); err != nil {
			t.Fatal(err)
		}
	}
	f := sweep.New(b.deps)
	b.now = start.Add(time.Minute)
	if _, err := f.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, counted := b.tele.Snapshot().Gauges["WorkflowsOpen.activation"]; counted {
		t.Error("counted at another time than once an hour")
	}
	b.now = start.Add(time.Hour)
	if _, err := f.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.tele.Snapshot().Gauges
	for name, want := range map[string]float64{"WorkflowsOpen.activation": 3, "WorkflowsRunning.activation": 1, "WorkflowsUndoing.activation": 1, "WorkflowsStuck.activation": 1, "WorkflowsLate.activation": 3,
		"WorkflowsStuck": 1, "WorkflowsLate": 3, "WorkflowsOldestAge.activation": (3 * time.Hour).Seconds()} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// woken takes the wake-ups of a platform.
func (b *bench) woken(platform string) []record.ID {
	b.t.Helper()
	var out []record.ID
	for {
		got, err := b.wake[platform].Receive(b.t.Context(), 10, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		for _, m := range got {
			w, err := message.ParseWake(m.Body)
			if err != nil || w.Platform != platform {
				b.t.Fatalf("%s: %v", m.Body, err)
			}
			out = append(out, w.Record)
			if err := b.wake[platform].Delete(b.t.Context(), m.Receipt); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

func (b *bench) sweep() sweep.Swept {
	b.t.Helper()
	out, err := sweep.New(b.deps).Apply(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// What was put off has no wake-up on the queue: it is woken as soon as its time has come.
func TestWakesWhatWasPutOffWithoutGrace(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.due("order/1", "zendesk", start.Add(2*time.Second))
	if b.sweep(); len(b.woken("zendesk")) != 0 {
		t.Error("woken before its time")
	}
	b.now = start.Add(2 * time.Second)
	if s := b.sweep(); s.Woken != 1 {
		t.Errorf("when its time has come: %+v", s)
	}
}

func TestWakesWhatWaitedLongEnough(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.due("order/1", "zendesk", time.Time{})
	b.due("order/2", "zendesk", start.Add(10*time.Minute))
	b.due("order/3", "salesforce", time.Time{})
	if s := b.sweep(); s.Woken != 0 || s.Due["zendesk"] != 2 || s.Due["salesforce"] != 1 {
		t.Errorf("at once: %+v", s)
	}
	b.now = start.Add(time.Minute)
	if s := b.sweep(); s.Woken != 2 {
		t.Errorf("after the grace: %+v", s)
	}
	if got := fmt.Sprint(b.woken("zendesk"), b.woken("salesforce")); got != "[order/1] [order/3]" {
		t.Errorf("woken %s", got)
	}
	if b.sweep(); len(b.woken("zendesk")) != 0 {
		t.Error("woken twice within half a minute")
	}
	b.now = start.Add(11 * time.Minute)
	b.sweep()
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/1 order/2]" && got != "[order/2 order/1]" {
		t.Errorf("when its time has come: %s", got)
	}
	g := b.tele.Snapshot().Gauges
	if g["Due.zendesk"] != 2 || g["DueOldestAge.zendesk"] != (11*time.Minute).Seconds() {
		t.Errorf("gauges %v", g)
	}
}

// gone is a queue that does not answer.
type gone struct{}

func (gone) Send(context.Context, ...queue.Message) error { return errors.New("gone") }

func TestOnePlatformsTroubleIsItsOwn(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.deps.Wake["salesforce"] = gone{}
	b.due("order/1", "zendesk", time.Time{})
	b.due("order/2", "salesforce", time.Time{})
	ref := record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}
	if err := b.ledger.Postpone(t.Context(), ledger.Recheck{Ref: ref, NotBefore: start, Trace: "t1"}); err != nil {
		t.Fatal(err)
	}
	b.now = start.Add(time.Minute)
	if _, err := sweep.New(b.deps).Apply(t.Context()); err == nil {
		t.Error("nobody is told")
	}
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/1]" {
		t.Errorf("woken %s", got)
	}
	if d, _ := b.inbound.Depth(t.Context()); d.Visible != 1 {
		t.Errorf("rechecks queued: %+v", d)
	}
}

// A recheck is forgotten only once its hint is queued.
func TestRechecks(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	ref := record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}
	if err := b.ledger.Postpone(t.Context(), ledger.Recheck{Ref: ref, NotBefore: start.Add(time.Minute), Reason: "away", Trace: "t1"}); err != nil {
		t.Fatal(err)
	}
	if s := b.sweep(); s.Rechecked != 0 {
		t.Errorf("too early: %+v", s)
	}
	b.now = start.Add(2 * time.Minute)
	b.deps.Inbound = gone{}
	if _, err := sweep.New(b.deps).Apply(t.Context()); err == nil || fault.Is(err, fault.NotFound) {
		t.Errorf("queue gone: %v", err)
	}
	b.deps.Inbound = b.inbound
	if s := b.sweep(); s.Rechecked != 1 {
		t.Errorf("%+v", s)
	}
	got, err := b.inbound.Receive(t.Context(), 10, 0)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v (%v)", got, err)
	}
	in, err := message.ParseInbound(got[0].Body)
	if err != nil || in.Native.Ref != ref || !in.Native.Hint() || in.CorrelationID != "t1" || in.Source != message.Recheck {
		t.Errorf("%+v (%v)", in, err)
	}
	if s := b.sweep(); s.Rechecked != 0 {
		t.Errorf("again: %+v", s)
	}
}

// outlook is what a platform lets us call.
type outlook map[string]budget.Outlook

func (o outlook) Look(_ context.Context, platform string) (budget.Outlook, error) {
	if platform == "broken" {
		return budget.Outlook{}, errors.New("no answer")
	}
	return o[platform], nil
}

func (b *bench) dueAs(id record.ID, class budget.Class, since time.Time) {
	b.t.Helper()
	s := ledger.State{Record: record.Record{ID: id, Views: map[string]record.View{}}, Due: map[string]ledger.Due{"zendesk": {Class: class, Since: since}}}
	if err := b.ledger.Commit(b.t.Context(), ledger.Entry{After: s}); err != nil {
		b.t.Fatal(err)
	}
}

// As much as there is room for, in order of class and age. What a class may use, more urgent ones use first.
func TestWakesInOrderWithinTheRoom(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.deps.Look = outlook{"zendesk": {Room: map[budget.Class]int{budget.Live: 4, budget.Approval: 4, budget.Replay: 3}}}
	b.dueAs("order/replay", budget.Replay, start.Add(-time.Hour))
	b.dueAs("order/approval", budget.Approval, start.Add(-time.Hour))
	b.dueAs("order/young", budget.Live, start.Add(-time.Minute))
	b.dueAs("order/old", budget.Live, start.Add(-2*time.Minute))
	s := b.sweep()
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/old order/young order/approval]" || s.Asleep["zendesk"] != 1 {
		t.Errorf("woken %s, %+v", got, s)
	}
	g := b.tele.Snapshot().Gauges
	if g["DueLive.zendesk"] != 2 || g["DueReplay.zendesk"] != 1 || g["DueAsleep.zendesk"] != 1 || g["BreakerOpen.zendesk"] != 0 || g["DueOldestAge.zendesk"] != 3600 {
		t.Errorf("gauges %v", g)
	}
}

// Nothing is woken while the breaker is open, and one record when its pause is over; so are native records read again.
func TestSleepsWhileTheBreakerIsOpen(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	until := start.Add(90 * time.Second)
	b.deps.Look = outlook{"zendesk": {Open: true, Until: until, Reason: "503"}}
	for i := range 3 {
		b.dueAs(record.ID(fmt.Sprint("order/", i)), budget.Live, start.Add(time.Duration(i-100)*time.Second))
		if err := b.ledger.Postpone(t.Context(), ledger.Recheck{Ref: record.Ref{Platform: "zendesk", Object: "organization", ID: fmt.Sprint(i)}, NotBefore: start, Trace: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	b.due("order/other", "salesforce", start.Add(time.Second))
	b.now = start.Add(time.Minute)
	if s := b.sweep(); s.Woken != 1 || s.Asleep["zendesk"] != 3 || s.Rechecked != 0 {
		t.Errorf("open: %+v", s)
	}
	if c := b.tele.Snapshot(); c.Counters["PlatformDown.zendesk"] != 1 || c.Gauges["BreakerOpen.zendesk"] != 1 {
		t.Errorf("%+v", c)
	}
	b.now = until
	if s := b.sweep(); s.Asleep["zendesk"] != 2 || s.Rechecked != 1 {
		t.Errorf("when the pause is over: %+v", s)
	}
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/0]" {
		t.Errorf("woken %s", got)
	}
	b.deps.Look = outlook{"zendesk": {Open: true, Until: until.Add(time.Second)}} // it found the platform still away
	b.now = until.Add(time.Second)
	if b.sweep(); len(b.woken("zendesk")) != 1 {
		t.Error("no second probe after a short pause")
	}
}

// A budget that cannot be read stops nothing.
func TestWakesWithoutAnOutlook(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.wake["broken"] = queue.NewMemory(queue.Settings{Name: "broken"}, nil, func() time.Time { return b.now })
	b.deps.Wake["broken"], b.deps.Look = b.wake["broken"], outlook{}
	b.due("order/1", "broken", time.Time{})
	b.now = start.Add(time.Minute)
	if s := b.sweep(); s.Woken != 1 {
		t.Errorf("%+v", s)
	}
}

func TestCountsProposals(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	s := ledger.State{Record: record.Record{ID: "order/1", Views: map[string]record.View{}, Proposals: map[string]record.Proposal{"zendesk\x00x": {ID: "p", Status: record.ProposalOpen, Opened: start.Add(-time.Hour)}}}}
	if err := b.ledger.Commit(t.Context(), ledger.Entry{After: s}); err != nil {
		t.Fatal(err)
	}
	b.sweep()
	b.now = start.Add(7 * time.Minute) // between, nobody counts
	b.sweep()
	if g := b.tele.Snapshot().Gauges; g["ProposalsOpen"] != 1 || g["ProposalsOldestAge"] != 3600 {
		t.Errorf("gauges %v", g)
	}
}

// slowly is a queue that takes most of a second for each request.
type slowly struct{ queue.Sender }

func (s slowly) Send(ctx context.Context, msgs ...queue.Message) error {
	t := time.NewTimer(700 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return s.Sender.Send(ctx, msgs...)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A backlog that does not fit into one sweep leaves the others their share of the time, and is no failure.
func TestBacklogLeavesTimeToTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		b.deps.Wake["salesforce"] = slowly{b.wake["salesforce"]}
		b.deps.Inbound = slowly{b.inbound}
		for i := range 1200 {
			b.due(record.ID(fmt.Sprintf("order/s%d", i)), "salesforce", time.Time{})
		}
		b.due("order/z", "zendesk", time.Time{})
		for i := range 20 {
			ref := record.Ref{Platform: "netsuite", Object: "salesOrder", ID: fmt.Sprint(i)}
			if err := b.ledger.Postpone(t.Context(), ledger.Recheck{Ref: ref, NotBefore: start, Trace: "t1"}); err != nil {
				t.Fatal(err)
			}
		}
		b.now = start.Add(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		got, err := sweep.New(b.deps).Apply(ctx)
		if err != nil || got.Woken < 301 || got.Woken > 1101 || got.Rechecked < 3 || got.Rechecked == 20 {
			t.Errorf("%+v (%v)", got, err)
		}
		if n := len(b.woken("salesforce")) + len(b.woken("zendesk")); n != got.Woken {
			t.Errorf("%d were woken, %d told", n, got.Woken)
		}
	})
}
