package flow_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/hub"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// These tests run in bubbles of virtual time (testing/synctest), which also fail when a goroutine outlives its test: so
// none outlives an invocation, however it ends.

// lagging is a platform that takes its time, and gives up when its caller does.
type lagging struct {
	*fake
	takes  time.Duration
	begins func(what string)
}

func (l lagging) wait(ctx context.Context, what string, lost fault.Class) error {
	if l.begins != nil {
		l.begins(what)
	}
	t := time.NewTimer(l.takes)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap(lost, l.name, "", ctx.Err())
	}
}

func (l lagging) Read(ctx context.Context, r record.Ref) (record.Native, error) {
	if err := l.wait(ctx, "read", fault.Down); err != nil {
		return record.Native{}, err
	}
	return l.fake.Read(ctx, r)
}

func (l lagging) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	if err := l.wait(ctx, "write", fault.Unknown); err != nil {
		out := make([]platform.Written, len(writes))
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	return l.fake.Write(ctx, writes)
}

// hubOver and deliverOver are the functions over a platform that lags.
func (w *world) hubOver(l lagging, parallel int) *hub.Flow {
	return hub.New(hub.Deps{Ledger: w.ledger, Config: w.config, Readers: map[string]hub.Reader{l.name: l}, Wake: map[string]queue.Sender{l.name: w.out[l.name]},
		Parallel: parallel, Now: w.clock.now, Telemetry: w.telemetry})
}

func (w *world) deliverOver(l lagging) *deliver.Flow {
	return deliver.New(deliver.Deps{Ledger: w.ledger, Config: w.config, Now: w.clock.now, Rand: func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) },
		Telemetry: w.telemetry, Platforms: map[string]deliver.Platform{l.name: l}})
}

// invoke runs apply as a function of so much time would, and fails if it takes all of it.
func invoke(t *testing.T, allowed time.Duration, apply func(context.Context, []queue.Received) []string, batch []queue.Received) (failed []string, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), allowed)
	defer cancel()
	began := time.Now()
	failed = apply(ctx, batch)
	if took = time.Since(began); took >= allowed {
		t.Errorf("took %s of %s", took, allowed)
	}
	return failed, took
}

// hints are messages of n native records that say nothing but that something has changed.
func (w *world) hints(n int) []queue.Received {
	var out []queue.Received
	for i := range n {
		fields := map[string]any{"entityId": fmt.Sprint("N", i), "companyName": fmt.Sprint("Customer ", i), "isInactive": false}
		ref := w.netsuite.set("customer", fmt.Sprint(200+i), fields).Ref
		m, err := message.Inbound{CorrelationID: fmt.Sprint("c-", i), ReceivedAt: w.clock.now(), Source: message.Webhook, Native: record.Native{Ref: ref}}.Message(fmt.Sprint(i))
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, queue.Received{Message: m, ID: fmt.Sprint("m-", i), Receives: 1})
	}
	return out
}

func (w *world) rechecks() int {
	n := 0
	for _, err := range w.ledger.Rechecks(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// A hub that has read as much as it has time for leaves rechecks for the rest: nothing comes back to the queue.
func TestHubStopsReadingInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow := lagging{fake: w.netsuite, takes: 9 * time.Second}
		failed, _ := invoke(t, 30*time.Second, w.hubOver(slow, 1).Apply, w.hints(5))
		if len(failed) != 0 || w.netsuite.reads != 2 || w.rechecks() != 3 {
			t.Errorf("failed %v, %d reads, %d rechecks; want none, 2 and 3", failed, w.netsuite.reads, w.rechecks())
		}
		w.clock.pass(time.Minute)
		w.settle()
		if got := len(w.salesforce.ids("Account")); got != 5 {
			t.Errorf("%d of 5 customers arrived in the end", got)
		}
	})
}

// A platform that never answers costs one call each, and its messages no receive.
func TestHubOverASilentPlatform(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		failed, took := invoke(t, 30*time.Second, w.hubOver(lagging{fake: w.netsuite, takes: time.Hour}, 10).Apply, w.hints(10))
		if len(failed) != 0 || w.rechecks() != 10 {
			t.Errorf("failed %v, %d rechecks after %s", failed, w.rechecks(), took)
		}
	})
}

// What cannot even be committed goes back, all of it and in the order of its groups.
func TestHubWithoutTimeHandsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		batch := w.hints(3)
		failed, _ := invoke(t, 1500*time.Millisecond, w.hub.Apply, batch)
		if fmt.Sprint(failed) != "[m-0 m-1 m-2]" || w.netsuite.reads != 0 || w.rechecks() != 0 {
			t.Errorf("failed %v, %d reads, %d rechecks", failed, w.netsuite.reads, w.rechecks())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if failed := w.hub.Apply(ctx, batch); len(failed) != 3 || w.rechecks() != 0 {
			t.Errorf("cancelled: failed %v, %d rechecks", failed, w.rechecks())
		}
	})
}

// wakes are wake-ups of everything that is due for a platform, as many as there are.
func (w *world) wakesFor(f *fake) []queue.Received {
	var out []queue.Received
	for p, err := range w.ledger.DueFor(w.t.Context(), f.name) {
		if err != nil {
			w.t.Fatal(err)
		}
		m, err := message.Wake{Platform: f.name, Record: p.Record, CorrelationID: "c"}.Message(fmt.Sprint(len(out)))
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, queue.Received{Message: m, ID: "w-" + string(p.Record), Receives: 1})
	}
	return out
}

// due makes a customer and its order due.
func (w *world) due() {
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")), w.netsuite.set("salesOrder", "9001", order("B")))
	w.drain(w.inbound, w.hub.Apply)
	for _, f := range w.fakes() { // their wake-ups are lost
		w.drain(w.out[f.name], func(context.Context, []queue.Received) []string { return nil })
	}
}

// Work that does not fit any more stays due and burns no receive. A write that was begun has all the time that it needs,
// and what came of it is committed.
func TestDeliverStopsInTime(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		takes, allowed time.Duration
		writes         int
	}{
		"both fit":          {5 * time.Second, 60 * time.Second, 2},
		"one fits":          {14 * time.Second, 30 * time.Second, 1},
		"none fits":         {time.Second, 15 * time.Second, 0},
		"no answer in time": {time.Hour, 30 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.due()
				began := 0
				slow := lagging{fake: w.salesforce, takes: row.takes, begins: func(string) { began++ }}
				failed, _ := invoke(t, row.allowed, w.deliverOver(slow).Apply, w.wakesFor(w.salesforce))
				if len(failed) != 0 || began != row.writes {
					t.Errorf("failed %v, %d writes begun, want %d", failed, began, row.writes)
				}
				unknown := w.state(customerID).Due[record.Salesforce].Unknown
				if unknown != (row.takes == time.Hour) {
					t.Errorf("a write without an answer is known as such: %t", unknown)
				}
				w.clock.pass(time.Minute)
				w.settle()
				if c, o := w.salesforce.ids("Account"), w.salesforce.ids("Order"); len(c) != 1 || len(o) != 1 {
					t.Errorf("%v, %v in the end", c, o)
				}
			})
		})
	}
}

// Whoever waits for another worker's record waits no longer than its invocation.
func TestDeliverWaitsForALockWhileItHasTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.due()
		wakes := w.wakesFor(w.salesforce)
		f := w.deliverOver(lagging{fake: w.salesforce, takes: time.Minute})
		first := make(chan []string)
		go func() { first <- f.Apply(t.Context(), wakes) }()
		synctest.Wait() // it holds the lock, and writes
		failed, took := invoke(t, 30*time.Second, f.Apply, wakes)
		if len(failed) == 0 {
			t.Errorf("nothing comes back after %s", took)
		}
		if got := <-first; len(got) != 0 {
			t.Errorf("the first worker failed: %v", got)
		}
		if _, took := invoke(t, 30*time.Second, f.Apply, wakes); took > time.Second {
			t.Errorf("the lock was not given back: %s", took)
		}
	})
}

// A worker writes a value and dies before it can say so. Then the golden value comes back to what the platform is known to
// hold: the platform is asked all the same, although nothing seems to differ.
func TestKilledWriterOfAValueThatWasTakenBack(t *testing.T) {
	t.Parallel()
	for _, back := range []string{"1", ""} {
		w := newWorld(t)
		w.push(w.netsuite.set("customer", "107", customer("Vins", back)))
		w.settle()
		phone := func(number string) {
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", map[string]any{"phone": number}))
			w.drain(w.inbound, w.hub.Apply)
		}
		phone("2")
		w.store.Next = func(op string, _ []store.Key) storetest.Fault {
			if op == storetest.OpCommit {
				return storetest.FailBefore
			}
			return storetest.None
		}
		w.drain(w.out[record.Salesforce], w.deliver.Apply)
		w.store.Next = nil
		reads := w.readBacks()
		account := "Account/" + customerID.External()
		if got := w.salesforce.state()[account]["Phone"]; got != "2" {
			t.Fatalf("it wrote %v before it died", got)
		}
		phone(back)
		writes := len(w.salesforce.writes)
		w.clock.pass(time.Minute)
		w.settle()
		if got := w.salesforce.state()[account]["Phone"]; fmt.Sprint(cmp.Or(got, any(""))) != back {
			t.Errorf("Salesforce has phone %v, want %q", got, back)
		}
		if got := len(w.salesforce.writes) - writes; got != 1 {
			t.Errorf("%d writes to put it right", got)
		}
		if got := w.readBacks() - reads; got == 0 || got > 3 {
			t.Errorf("%d read-backs", got)
		}
		if got := w.state(customerID).Due; len(got) != 0 {
			t.Errorf("still due: %+v", got)
		}
	}
}

// A worker creates a native record and dies, and so does the next one, which changes it. Both are heard of at once, before
// anything links it, and the second event carries no external id. What a listing shows of the second write, without a mark,
// is nobody's edit.
func TestKilledWritersThatAreHeardTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	ref := record.Ref{Platform: record.Salesforce, Object: "Order", ID: "s-" + orderID.External()}
	memo := func(text string) {
		w.clock.pass(time.Minute)
		fields := order("A")
		fields["memo"] = text
		w.push(w.netsuite.set("salesOrder", "9001", fields))
		w.drain(w.inbound, w.hub.Apply)
	}
	killed := func() record.Native {
		w.store.Next = func(op string, _ []store.Key) storetest.Fault {
			if op == storetest.OpCommit {
				return storetest.FailBefore
			}
			return storetest.None
		}
		w.drain(w.out[record.Salesforce], w.deliver.Apply)
		w.store.Next = nil
		return w.salesforce.pushed(ref)
	}
	memo("1")
	created := killed()
	memo("2")
	updated := killed()
	if !created.Ours || !updated.Ours || updated.Fields["Description"] != "2" {
		t.Fatalf("the dead workers wrote %+v and %+v", created, updated)
	}
	updated.Partial, updated.External, updated.Born = true, "", time.Time{}
	updated.Fields = map[string]any{"Description": "2"}
	w.push(created, updated)
	w.settle()
	memo("3")
	listed := w.salesforce.pushed(ref)
	listed.Ours = false
	w.push(listed)
	w.settle()
	if got := at(w.salesforce.state()["Order/"+orderID.External()], "Description"); got != "3" {
		t.Errorf("Salesforce has memo %v", got)
	}
	w.expectExceptions()
}

// A change that says everything is on its way before a platform is asked about another one of the same batch, which takes
// as long as the platform likes: replayed writes come back as many hints.
func TestChangesDoNotWaitForHints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	frank := customer("Frank", "2")
	frank["entityId"] = "FRANK"
	w.push(w.netsuite.set("customer", "1", customer("Ernst", "1")), w.netsuite.set("customer", "2", frank))
	w.settle()
	hint := w.netsuite.set("customer", "1", map[string]any{"phone": "3"})
	hint.Fields = nil
	w.push(hint, w.netsuite.set("customer", "2", map[string]any{"phone": "4"}))
	woken := -1
	w.netsuite.reading = func(record.Ref) error {
		d, err := w.out[record.Zendesk].Depth(t.Context())
		woken = d.Visible
		return err
	}
	w.drain(w.inbound, w.hub.Apply)
	if woken != 1 {
		t.Errorf("%d wake-ups while the platform was asked, want 1\n%s", woken, w.tail())
	}
	w.settle()
	for id, phone := range map[string]string{"1": "3", "2": "4"} {
		if got := w.state(mint("customer", "customer", id)).Record.Golden["phone"].Value.Raw(); got != phone {
			t.Errorf("customer %s has phone %q, want %q", id, got, phone)
		}
	}
}
