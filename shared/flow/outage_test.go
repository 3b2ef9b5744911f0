package flow_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// gate guards a fake platform as the shared budget does: a breaker, and so many calls of each class in a minute.
type gate struct {
	*fake
	away     bool // the platform answers nothing
	room     map[budget.Class]int
	open     bool
	until    time.Time
	failed   int
	minute   time.Time
	used     int
	calls    []call
	refused  int
	attempts int
}

// call is one that got through and was answered.
type call struct {
	at       time.Time
	class    budget.Class
	external string
}

func (g *gate) left(class budget.Class) int {
	if m := g.now().Truncate(time.Minute); m != g.minute {
		g.minute, g.used = m, 0
	}
	return g.room[class] - g.used
}

func (g *gate) Look(context.Context, string) (budget.Outlook, error) {
	o := budget.Outlook{Open: g.open, Until: g.until, Reason: "503", Room: map[budget.Class]int{}}
	for c := range g.room {
		o.Room[c] = g.left(c)
	}
	return o, nil
}

func (g *gate) refuse(class fault.Class) platform.Written {
	g.refused++
	return platform.Written{Err: fault.Wrap("", "deliver", "", &fault.Error{Class: class, Op: "gate", Code: fault.NotCalled, Detail: "not called", RetryAt: g.now().Add(time.Minute)})}
}

func (g *gate) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, 0, len(writes))
	class := budget.PurposeOf(ctx).Class
	for _, w := range writes {
		switch {
		case g.open && g.until.After(g.now()):
			out = append(out, g.refuse(fault.Down))
			continue
		case g.left(class) <= 0:
			out = append(out, g.refuse(fault.Throttled))
			continue
		}
		g.used++
		g.attempts++
		if g.away {
			if g.failed++; g.failed >= 3 {
				g.open, g.until = true, g.now().Add(5*time.Minute)
			}
			out = append(out, platform.Written{Err: fault.New(fault.Down, "write", "503")})
			continue
		}
		g.open, g.failed, g.until = false, 0, time.Time{}
		g.calls = append(g.calls, call{g.now(), class, w.External})
		out = append(out, g.fake.Write(ctx, []platform.Write{w})...)
	}
	return out
}

// guarded puts a gate before Salesforce.
func guarded(w *world, room map[budget.Class]int) *gate {
	g := &gate{fake: w.salesforce, room: room}
	platforms, wake := map[string]deliver.Platform{}, map[string]queue.Sender{}
	for _, f := range w.fakes() {
		platforms[f.name], wake[f.name] = f, w.out[f.name]
	}
	platforms[record.Salesforce] = g
	w.deliver = deliver.New(deliver.Deps{Ledger: w.ledger, Config: w.config, Platforms: platforms, Now: w.clock.now, Rand: seeded(), Telemetry: w.telemetry})
	w.sweep = sweep.New(sweep.Deps{Ledger: w.ledger, Wake: wake, Inbound: w.inbound, Look: only{record.Salesforce, g}, Now: w.clock.now, Grace: 3 * time.Second, Telemetry: w.telemetry})
	return g
}

// only limits one platform.
type only struct {
	name string
	look sweep.Looker
}

func (o only) Look(ctx context.Context, name string) (budget.Outlook, error) {
	if name != o.name {
		return budget.Outlook{}, nil
	}
	return o.look.Look(ctx, name)
}

// reclass gives what is due of a record for Salesforce another class.
func (w *world) reclass(id record.ID, class budget.Class) {
	w.t.Helper()
	before := w.state(id)
	after := before.Clone()
	d, due := after.Due[record.Salesforce]
	if !due {
		w.t.Fatalf("%s is not due", id)
	}
	d.Class = class
	after.Due[record.Salesforce] = d
	if err := w.ledger.Commit(w.t.Context(), ledger.Entry{Before: before, After: after}); err != nil {
		w.t.Fatal(err)
	}
}

// Six hours without a platform, with hundreds of changes: no receive is burned, refusals cost no write of the store, and
// afterwards each record is written once, in order of class and age, within the budget.
func TestSixHoursAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	room := map[budget.Class]int{budget.Lookup: 40, budget.Live: 6, budget.Approval: 5, budget.Reconcile: 4, budget.Replay: 3}
	g := guarded(w, map[budget.Class]int{budget.Live: 1000})
	id := func(i int) record.ID { return mint("customer", "customer", fmt.Sprint(200+i)) }
	change := func(i, n int) {
		c := customer(fmt.Sprintf("Customer %d", i), fmt.Sprintf("%d-%d", i, n))
		c["entityId"] = fmt.Sprint("C", i)
		w.push(w.netsuite.set("customer", fmt.Sprint(200+i), c))
	}
	const customers, replayed, approved = 40, 12, 5
	for i := range customers {
		change(i, 0)
	}
	w.settle()
	g.calls = nil
	w.clock.pass(time.Minute)

	g.away, g.room = true, room
	commits := 0
	g.attempts = 0
	counting := false
	w.store.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpCommit && counting {
			commits++
		}
		return storetest.None
	}
	work := func() {
		w.t.Helper()
		w.drain(w.inbound, w.hub.Apply)
		counting = true
		for _, f := range []*fake{w.salesforce, w.zendesk, w.servicenow} {
			counting = f == w.salesforce
			w.drain(w.out[f.name], func(ctx context.Context, b []queue.Received) []string {
				failed := w.deliver.Apply(ctx, b)
				if len(failed) > 0 {
					t.Fatalf("receives are burned: %v\n%s", failed, w.tail())
				}
				return failed
			})
			counting = false
		}
		w.drain(w.inbound, w.hub.Apply)
	}
	for i := range replayed + approved { // due for a lesser reason
		change(i, 1)
		work()
		class := budget.Replay
		if i >= replayed {
			class = budget.Approval
		}
		w.reclass(id(i), class)
		w.clock.pass(time.Second)
	}
	changes := 0
	for minute := range 360 {
		change(replayed+approved+minute*7%20, minute+2)
		changes++
		work()
		w.clock.pass(time.Minute)
		if _, err := w.sweep.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	change(2, 3) // a live change of what is due for a replay
	work()
	if d := w.state(id(2)).Due[record.Salesforce]; d.Class != budget.Live || w.clock.now().Sub(d.Since) > time.Minute {
		t.Errorf("due as %v since %s", d.Class, d.Since)
	}
	work()
	if g.refused < 200 || commits != g.attempts {
		t.Errorf("%d changes were refused %d times; %d commits for %d attempts", changes, g.refused, commits, g.attempts)
	}
	if g.attempts > 360/5+10 {
		t.Errorf("%d attempts in six hours", g.attempts)
	}
	if len(g.calls) != 0 || w.telemetry.Snapshot().Gauges["BreakerOpen.salesforce"] != 1 || w.telemetry.Snapshot().Gauges["DueAsleep.salesforce"] < 30 {
		t.Errorf("%d calls; %v", len(g.calls), w.telemetry.Snapshot().Gauges)
	}
	status := func() (operate.Status, operate.PlatformStatus) {
		t.Helper()
		st, err := operate.New(operate.Deps{Ledger: w.ledger, Config: w.config, Telemetry: w.telemetry, Platforms: []string{record.Salesforce}, Look: g, Now: w.clock.now}).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st, st.Platforms[0]
	}
	if st, of := status(); st.Healthy || of.Breaker.State == "closed" || of.Breaker.Reason != "503" || of.ByClass["replay"].Count != replayed-1 || of.ByClass["approval"].Count != approved ||
		of.ByClass["live"].Count != 21 || of.ByClass["live"].Oldest < 5*3600 || of.Room["replay"] == 0 {
		t.Errorf("status: %+v", of)
	}
	type place struct {
		rank  int
		since time.Time
	}
	places := map[string]place{}
	for i := range customers {
		if d, due := w.state(id(i)).Due[record.Salesforce]; due {
			places[id(i).External()] = place{slices.Index(budget.Classes(), d.Class), d.Since}
		}
	}
	if len(places) != replayed+approved+20 {
		t.Fatalf("%d records are due", len(places))
	}

	g.away = false
	for range 40 {
		w.clock.pass(time.Minute)
		if _, err := w.sweep.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		work()
	}
	if len(g.calls) != len(places) {
		t.Errorf("%d writes for %d records", len(g.calls), len(places))
	}
	perMinute := map[time.Time]int{}
	for i, c := range g.calls {
		at := places[c.external]
		if at.since.IsZero() {
			t.Errorf("%s is written twice, or for nothing", c.external)
		}
		if perMinute[c.at.Truncate(time.Minute)]++; perMinute[c.at.Truncate(time.Minute)] > room[c.class] {
			t.Errorf("%d calls in a minute, at class %v", perMinute[c.at.Truncate(time.Minute)], c.class)
		}
		for _, later := range g.calls[i+1:] {
			then := places[later.external]
			if later.at.After(c.at) && (then.rank < at.rank || then.rank == at.rank && then.since.Before(at.since)) {
				t.Errorf("%s (%+v) is written before %s (%+v)", c.external, at, later.external, then)
			}
		}
		delete(places, c.external)
	}
	if w.waiting() != "" {
		t.Errorf("left: %s", w.waiting())
	}
	if st, of := status(); !st.Healthy || of.Breaker.State != "closed" || len(of.ByClass) != 0 {
		t.Errorf("status afterwards: %+v %+v", st.Concerns, of)
	}
	w.nothingDead()
	w.expectExceptions()
}

// A batch of wake-ups is worked off in order of class, whatever its order, and each call says what it is for.
func TestBatchInOrderOfClass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := guarded(w, map[budget.Class]int{})
	for i := range 4 {
		c := customer(fmt.Sprint("Customer ", i), fmt.Sprint(i))
		c["entityId"] = fmt.Sprint("C", i)
		w.push(w.netsuite.set("customer", fmt.Sprint(200+i), c))
	}
	w.work()
	if len(g.calls) != 0 {
		t.Fatalf("%+v", g.calls)
	}
	g.room = nil
	want := []budget.Class{budget.Live, budget.Approval, budget.Reconcile, budget.Replay}
	var batch []queue.Received
	for i, class := range []budget.Class{budget.Replay, budget.Reconcile, budget.Live, budget.Approval} {
		id := mint("customer", "customer", fmt.Sprint(200+i))
		w.reclass(id, class)
		m, err := message.Wake{Platform: record.Salesforce, Record: id, CorrelationID: "c", Class: class}.Message("e")
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, queue.Received{Message: m, ID: fmt.Sprint(i)})
	}
	g.room = map[budget.Class]int{budget.Live: 9, budget.Approval: 9, budget.Reconcile: 9, budget.Replay: 9}
	if failed := w.deliver.Apply(t.Context(), batch); len(failed) > 0 {
		t.Fatal(failed)
	}
	var got []budget.Class
	for _, c := range g.calls {
		got = append(got, c.class)
	}
	if !slices.Equal(got, want) {
		t.Errorf("called for %v, want %v", got, want)
	}
}

// Whoever waits for a record that was refused was refused too: nothing is committed about either.
func TestRefusedPrerequisites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.netsuite.set("customer", "107", customer("Vins", "1"))
	g := guarded(w, map[budget.Class]int{budget.Live: 0})
	w.push(w.netsuite.set("salesOrder", "9001", order("B")))
	w.work()
	d := w.state(orderID).Due[record.Salesforce]
	if len(g.calls) != 0 || g.refused == 0 || d.Attempts != 0 || d.Reason != "" || !d.NotBefore.IsZero() {
		t.Errorf("%d calls, %d refused, due %+v", len(g.calls), g.refused, d)
	}
	g.room[budget.Live] = 2
	w.clock.pass(time.Minute)
	w.settle()
	if len(g.calls) != 2 || g.calls[0].external != customerID.External() {
		t.Errorf("%+v", g.calls)
	}
}
