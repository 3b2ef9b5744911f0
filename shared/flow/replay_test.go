package flow_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/flow/replay"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

var (
	steward = policy.Person{Name: "stewart@northwind.example"}
	anybody = policy.Person{Name: "sarah@northwind.example"}
)

// again is the replay flow over a world.
func (w *world) again(change ...func(*replay.Deps)) *replay.Flow {
	n := 0
	d := replay.Deps{Ledger: w.ledger, Config: w.config, Platforms: []string{record.NetSuite, record.Salesforce, record.ServiceNow, record.Zendesk}, Inbound: w.inbound,
		Now: w.clock.now, NewID: func() string { n++; return fmt.Sprint("replay-", n) }, Telemetry: w.telemetry}
	for _, c := range change {
		c(&d)
	}
	return replay.New(d)
}

func (w *world) planned(f *replay.Flow, s ledger.Selection) replay.Shown {
	w.t.Helper()
	r, err := f.Plan(w.t.Context(), steward, s)
	if err != nil || r.State != ledger.ReplayPlanned {
		w.t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// run runs a plan to its end, with sweeps between its steps.
func (w *world) run(f *replay.Flow, id string) replay.Shown {
	w.t.Helper()
	if _, err := f.Run(w.t.Context(), steward, id); err != nil {
		w.t.Fatal(err)
	}
	return w.goOn(f, id)
}

func (w *world) goOn(f *replay.Flow, id string) replay.Shown {
	w.t.Helper()
	for range 50 {
		w.clock.pass(31 * time.Second)
		swept, err := w.sweep.Apply(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := f.Advance(w.t.Context(), swept.Replaying); err != nil {
			w.t.Fatal(err)
		}
		w.work()
		if r, err := f.Show(w.t.Context(), id); err != nil || !r.Active() {
			if err != nil {
				w.t.Fatal(err)
			}
			return r
		}
	}
	w.t.Fatal("it does not end")
	return replay.Shown{}
}

// written notes the partitions that are written from now on, but for those of replays and of the general log.
func (w *world) touched() *[]string {
	var out []string
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		for _, k := range keys {
			if op == storetest.OpCommit && !strings.Contains(k.Part, "replay") && !strings.HasPrefix(k.Sort, ledger.General) {
				out = append(out, k.String())
			}
		}
		return storetest.None
	}
	return &out
}

// lose changes the state of a record by hand, as nobody may.
func (w *world) lose(id record.ID, change func(*ledger.State)) {
	w.t.Helper()
	before := w.state(id)
	after := before.Clone()
	change(&after)
	if err := w.ledger.Commit(w.t.Context(), ledger.Entry{Before: before, After: after}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) calm() {
	for _, f := range w.fakes() {
		f.written()
		f.mu.Lock()
		f.reads = 0
		f.mu.Unlock()
	}
}

func (w *world) writesMade() int {
	n := 0
	for _, f := range w.fakes() {
		n += f.total()
	}
	return n
}

// Replaying what was applied writes nothing, neither in planning nor in running.
func TestReplayOfAnAppliedWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.calm()
	f, wrote := w.again(), w.touched()
	p := w.planned(f, ledger.Selection{Since: start, Until: w.clock.now()})
	if p.Plan.Records != 3 || p.Plan.NoOp != 3 || p.Plan.Apply+p.Plan.Conflict != 0 || len(p.Plan.Writes) != 0 {
		t.Errorf("the plan: %+v", p.Plan)
	}
	r := w.run(f, p.ID)
	if r.State != ledger.ReplayDone || w.writesMade() != 0 || len(*wrote) != 0 || w.waiting() != "" {
		t.Errorf("%+v; written: %v, %s", r.Did, *wrote, w.waiting())
	}
	log, err := w.ledger.Log(t.Context(), ledger.General)
	var did []string
	for _, e := range log {
		did = append(did, e.Events[0].Action+" "+e.By)
	}
	if want := "[replay-planned stewart@northwind.example replay-started stewart@northwind.example replay-done sorrel]"; err != nil || fmt.Sprint(did) != want {
		t.Errorf("the log says %v, %v", did, err)
	}
	if ids, err := w.ledger.Replaying(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("still moved on: %v, %v", ids, err)
	}
	w.checkEnd()
}

// What got lost is found and repaired, by one write each.
func TestReplayRepairs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose   func(*world)
		writes string
	}{
		"a due entry": {func(w *world) {
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", customer("Vins et alcools Chevalier & fils", "26.47.15.99")))
			w.drain(w.inbound, w.hub.Apply)
			w.lose(customerID, func(s *ledger.State) { s.Due = nil })
			w.work()
		}, "map[salesforce:[phone] servicenow:[phone] zendesk:[phone]]"},
		"a view": {func(w *world) {
			w.lose(customerID, func(s *ledger.State) { delete(s.Record.Views, record.Zendesk) })
		}, "map[zendesk:[active name number phone]]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			w.tellAll(w.story())
			w.settle()
			c.lose(w)
			w.calm()
			f, wrote := w.again(), w.touched()
			p := w.planned(f, ledger.Selection{Since: start, Entity: "customer"})
			if p.Plan.Records != 1 || p.Plan.Apply != 1 || len(*wrote) != 0 || len(p.Sample) != 1 {
				t.Fatalf("the plan: %+v, written %v", p.Plan, *wrote)
			}
			for _, fields := range p.Sample[0].Writes {
				slices.Sort(fields)
			}
			if got := fmt.Sprint(p.Sample[0].Writes); got != c.writes {
				t.Errorf("it would write %s, want %s", got, c.writes)
			}
			n := len(p.Sample[0].Writes)
			r := w.run(f, p.ID)
			if r.State != ledger.ReplayDone || r.Did.Applied != 1 || r.Left != 0 {
				t.Errorf("%+v", r)
			}
			w.settle()
			if got := w.writesMade(); got != n {
				t.Errorf("%d writes, want %d", got, n)
			}
			w.store.Next = nil
			if again := w.planned(f, ledger.Selection{Since: start}); again.Plan.NoOp != again.Plan.Records {
				t.Errorf("afterwards: %+v", again.Plan)
			}
			w.nothingDead()
			w.expectExceptions()
		})
	}
}

// What people hold, or what is gone, stays as it is, and the plan says so.
func TestReplayLeavesConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	f := w.again(func(d *replay.Deps) { d.Platforms = []string{record.NetSuite, record.Salesforce, record.Zendesk} })
	expect := func(id record.ID, verdict, why string) {
		t.Helper()
		p := w.planned(f, ledger.Selection{Record: id})
		page, err := f.Records(t.Context(), p.ID, 0)
		if err != nil || len(page.Records) != 1 || page.Records[0].Verdict != verdict || !strings.Contains(fmt.Sprint(page.Records[0].Why), why) {
			t.Errorf("%s: %+v, %v; want %s with %q", id, page, err, verdict, why)
		}
		if verdict == replay.Conflict && len(p.Plan.Conflicts) == 0 {
			t.Errorf("%s: %+v", id, p.Plan)
		}
	}
	w.zendesk.answers(func(pw platform.Write) *told {
		return &told{&fault.Error{Class: fault.Refused, Op: "zendesk.write", Detail: "not so", Fields: []string{"organization_fields.erp_phone"}}, false}
	})
	w.clock.pass(time.Minute)
	w.push(w.netsuite.set("customer", "107", customer("Vins et alcools Chevalier & fils", "26.47.15.99")))
	w.settle()
	expect(customerID, replay.Conflict, "zendesk: refused-write")
	w.zendesk.answers(nil)

	w.clock.pass(time.Minute)
	w.push(w.salesforce.remove("Shipment__c", "s-"+shipmentID.External(), ""))
	w.settle()
	expect(shipmentID, replay.Conflict, "salesforce: deleted on salesforce")

	w.lose(customerID, func(s *ledger.State) { s.Record.Held = nil; delete(s.Record.Views, record.ServiceNow) })
	expect(customerID, replay.Apply, "servicenow: it is not connected")
	w.lose(customerID, func(s *ledger.State) { s.Record.Into = "customer/aaaaaaaaaaaaaaaa" })
	expect(customerID, replay.Conflict, "merged into another record: customer/aaaaaaaaaaaaaaaa")
	w.lose(customerID, func(s *ledger.State) { s.Record.Into = "" })
	expect("order/bbbbbbbbbbbbbbbb", replay.Conflict, "no such record")
}

// A selection is all of its parts together, and costs what it has to read.
func TestReplaySelects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	from := w.clock.now()
	w.clock.pass(time.Minute)
	w.pushAs("late", w.netsuite.set("salesOrder", "9001", order("H")))
	w.settle()
	f := w.again()
	for _, c := range []struct {
		name string
		s    ledger.Selection
		n    int
	}{
		{"all", ledger.Selection{Since: start}, 3},
		{"late", ledger.Selection{Since: from}, 1},
		{"early", ledger.Selection{Until: from}, 3},
		{"none", ledger.Selection{Since: w.clock.now()}, 0},
		{"entity", ledger.Selection{Entity: "shipment"}, 1},
		{"entity and time", ledger.Selection{Entity: "shipment", Since: from}, 0},
		{"trace", ledger.Selection{Trace: "late"}, 1},
		{"trace and entity", ledger.Selection{Trace: "late", Entity: "customer"}, 0},
		{"trace before", ledger.Selection{Trace: "late", Until: from}, 0},
		{"record", ledger.Selection{Record: orderID}, 1},
		{"record and time", ledger.Selection{Record: customerID, Since: from}, 0},
		{"record and entity", ledger.Selection{Record: customerID, Entity: "order"}, 0},
		{"platform", ledger.Selection{Platform: record.Zendesk}, 3},
	} {
		if p := w.planned(f, c.s); p.Plan.Records != c.n {
			t.Errorf("%s: %+v, want %d", c.name, p.Plan, c.n)
		}
	}
	for _, bad := range []ledger.Selection{{}, {Entity: "planet"}, {Platform: "fax"}, {Record: "x"}, {Since: from, Until: start}} {
		if _, err := f.Plan(t.Context(), steward, bad); !fault.Is(err, fault.Malformed) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := f.Plan(t.Context(), anybody, ledger.Selection{Since: start}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("anybody may: %v", err)
	}
}

// Only the named platform's copies become due.
func TestReplayOfOnePlatform(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	w.lose(customerID, func(s *ledger.State) {
		delete(s.Record.Views, record.Zendesk)
		delete(s.Record.Views, record.ServiceNow)
	})
	f := w.again()
	p := w.planned(f, ledger.Selection{Platform: record.Zendesk})
	if p.Plan.Apply != 1 || !maps.Equal(p.Plan.Writes, map[string]int{record.Zendesk: 1}) {
		t.Errorf("%+v", p.Plan)
	}
	if _, err := f.Run(t.Context(), steward, p.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Advance(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if due := w.state(customerID).Due; len(due) != 1 || due[record.Zendesk].Class != budget.Replay || !slices.Contains(due[record.Zendesk].Traces, p.ID) {
		t.Errorf("due %+v", due)
	}
}

// What settling opens on other platforms is not left out, which nobody would ever make up for: people are told to replay it on
// all.
func TestReplayOfOnePlatformForgetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	w.lose(customerID, func(s *ledger.State) {
		delete(s.Record.Views, record.ServiceNow)
		s.Record = s.Record.Suspect("customer/other", record.Suspicion{Rule: "tax-id", Holds: true, Since: start}) // which no key of it says any more
	})
	f := w.again()
	for _, platform := range []string{record.Zendesk, ""} {
		want := map[string]string{"": "apply", record.Zendesk: "conflict"}[platform]
		p := w.planned(f, ledger.Selection{Record: customerID, Platform: platform})
		if got := map[string]int{"apply": p.Plan.Apply, "conflict": p.Plan.Conflict}; got[want] != 1 {
			t.Errorf("platform %q: %+v, want %s", platform, p.Plan, want)
		}
		if _, err := f.Run(t.Context(), steward, p.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Advance(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, due := w.state(customerID).Due[record.ServiceNow]; due != (platform == "") {
			t.Errorf("platform %q: due %+v", platform, w.state(customerID).Due)
		}
	}
}

// many makes customers and takes what Salesforce is known to hold of them away.
func (w *world) many(n int) []record.ID {
	w.t.Helper()
	var ids []record.ID
	for i := range n {
		c := customer(fmt.Sprintf("Customer %d", i), fmt.Sprint(i))
		c["entityId"] = fmt.Sprint("C", i)
		w.push(w.netsuite.set("customer", fmt.Sprint(200+i), c))
		ids = append(ids, mint("customer", "customer", fmt.Sprint(200+i)))
	}
	w.settle()
	for _, id := range ids {
		w.lose(id, func(s *ledger.State) { delete(s.Record.Views, record.Salesforce) })
	}
	w.calm()
	return ids
}

// A run that dies at any commit goes on where it was: in the end each record is written once.
func TestReplayDiesAtEveryCommit(t *testing.T) {
	t.Parallel()
	for _, kind := range []storetest.Fault{storetest.FailBefore, storetest.FailAfter} {
		for at := 0; ; at++ {
			w := newWorld(t)
			w.many(3)
			f := w.again()
			p := w.planned(f, ledger.Selection{Since: start})
			if _, err := f.Run(t.Context(), steward, p.ID); err != nil {
				t.Fatal(err)
			}
			n, hit := 0, false
			w.store.Next = func(op string, _ []store.Key) storetest.Fault {
				if op != storetest.OpCommit {
					return storetest.None
				}
				if n++; n == at+1 {
					hit = true
					return kind
				}
				return storetest.None
			}
			_, err := f.Advance(t.Context(), nil)
			w.store.Next = nil
			if hit && err == nil {
				t.Errorf("fault %d at %d: no error", kind, at)
			}
			if r := w.goOn(f, p.ID); r.State != ledger.ReplayDone {
				t.Errorf("fault %d at %d: %+v", kind, at, r)
			}
			w.settle()
			if got := w.salesforce.total(); got != 3 {
				t.Errorf("fault %d at %d: %d writes", kind, at, got)
			}
			w.nothingDead()
			if !hit {
				break
			}
		}
	}
}

// Only so much is due at once, and live changes pass it.
func TestReplayLeavesRoomForLiveChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.many(60)
	g := guarded(w, map[budget.Class]int{budget.Live: 20, budget.Approval: 20, budget.Reconcile: 10, budget.Replay: 5})
	f := w.again(func(d *replay.Deps) { d.Look = only{record.Salesforce, g} })
	p := w.planned(f, ledger.Selection{Since: start})
	if p.Plan.Apply != 60 || p.Plan.Writes[record.Salesforce] != 60 || p.Room[record.Salesforce] != 5 || p.Takes != "12m0s" {
		t.Errorf("%+v takes %s", p.Plan, p.Takes)
	}
	if _, err := f.Run(t.Context(), steward, p.ID); err != nil {
		t.Fatal(err)
	}
	last := ids[59]
	for minute := range 20 {
		w.clock.pass(time.Minute)
		swept, err := w.sweep.Apply(t.Context())
		if err == nil {
			_, err = f.Advance(t.Context(), swept.Replaying)
		}
		if err != nil {
			t.Fatal(err)
		}
		due := 0
		for range w.ledger.DueFor(t.Context(), record.Salesforce) {
			due++
		}
		if due > 20 {
			t.Fatalf("%d due at once", due)
		}
		w.work()
		if minute == 2 { // somebody changes what the replay comes to much later, and what it has made due
			c := customer("Customer 59", "live")
			c["entityId"] = "C59"
			w.push(w.netsuite.set("customer", "259", c))
			w.work()
			if d, due := w.state(last).Due[record.Salesforce]; due {
				t.Errorf("a live change waits: %+v", d)
			}
		}
	}
	for range 10 {
		w.minute()
	}
	r, err := f.Show(t.Context(), p.ID)
	if err != nil || r.State != ledger.ReplayDone || r.Left != 0 || r.Did.Handled != 60 {
		t.Errorf("%+v, %v", r, err)
	}
	per := map[string]int{}
	for _, c := range g.calls {
		per[c.external]++
	}
	if len(per) != 60 || len(g.calls) != 60 {
		t.Errorf("%d writes of %d records", len(g.calls), len(per))
	}
	if got := at(w.salesforce.state()["Account/"+last.External()], "Phone"); got != "live" {
		t.Errorf("the live change lost: %v", got)
	}
}

func TestReplayIsPausedResumedCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.many(3)
	f, ctx := w.again(), t.Context()
	p := w.planned(f, ledger.Selection{Since: start})
	refused := func(what string, r replay.Shown, err error) {
		t.Helper()
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	r, err := f.Pause(ctx, steward, p.ID)
	refused("a plan is paused", r, err)
	if _, err := f.Run(ctx, anybody, p.ID); !fault.Is(err, fault.Forbidden) {
		t.Errorf("anybody runs: %v", err)
	}
	if _, err := f.Run(ctx, steward, "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("nothing runs: %v", err)
	}
	for range 2 {
		if r, err = f.Run(ctx, steward, p.ID); err != nil || r.State != ledger.ReplayRunning {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if r, err = f.Pause(ctx, steward, p.ID); err != nil || r.State != ledger.ReplayPaused {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := f.Advance(ctx, nil); err != nil || w.waiting() != "" {
		t.Errorf("paused, and goes on: %v %s", err, w.waiting())
	}
	if r, err = f.Resume(ctx, steward, p.ID, false); err != nil || r.State != ledger.ReplayRunning {
		t.Fatalf("%+v, %v", r, err)
	}
	if r := w.goOn(f, p.ID); r.State != ledger.ReplayDone || r.Did.Applied != 3 {
		t.Errorf("%+v", r)
	}
	r, err = f.Cancel(ctx, steward, p.ID)
	refused("what is done is cancelled", r, err)
	other := w.planned(f, ledger.Selection{Since: start})
	if r, err = f.Cancel(ctx, steward, other.ID); err != nil || r.State != ledger.ReplayCancelled {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = f.Run(ctx, steward, other.ID)
	refused("what is cancelled runs", r, err)
	w.clock.pass(time.Second)
	old := w.planned(f, ledger.Selection{Since: start})
	w.clock.pass(25 * time.Hour)
	r, err = f.Run(ctx, steward, old.ID)
	refused("an old plan runs", r, err)
	if all, err := f.List(ctx); err != nil || len(all) != 3 || all[0].ID != old.ID {
		t.Errorf("%+v, %v", all, err)
	}
}

// A pause that comes while a step is at work holds, and what the step did counts.
func TestReplayPausedInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.many(3)
	f := w.again()
	p := w.planned(f, ledger.Selection{Since: start})
	if _, err := f.Run(t.Context(), steward, p.ID); err != nil {
		t.Fatal(err)
	}
	done := false
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		if op == storetest.OpCommit && !done && strings.Contains(keys[0].Part, "record") {
			done = true
			if _, err := f.Pause(context.WithoutCancel(t.Context()), steward, p.ID); err != nil {
				t.Error(err)
			}
		}
		return storetest.None
	}
	if _, err := f.Advance(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r, err := f.Show(t.Context(), p.ID)
	if err != nil || r.State != ledger.ReplayPaused || r.Did.Applied != 3 || r.Left != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// When another configuration is deployed the run pauses, says what that changes, and goes on under it when told to.
func TestReplayUnderAnotherConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.many(3)
	f, ctx := w.again(), t.Context()
	p := w.planned(f, ledger.Selection{Since: start})
	if _, err := f.Run(ctx, steward, p.ID); err != nil {
		t.Fatal(err)
	}
	other := otherConfig(t)
	w.config = other
	deployed := w.again(func(d *replay.Deps) { d.NewID = func() string { return "other" } })
	if _, err := deployed.Advance(ctx, nil); err != nil {
		t.Fatal(err)
	}
	r, err := deployed.Show(ctx, p.ID)
	if err != nil || r.State != ledger.ReplayPaused || !strings.Contains(r.Reason, other.Version()) || len(r.Flips) != 3 || r.Plan.Flips["phone"] != 3 || !strings.Contains(r.Flips[0].Is, "salesforce") && !strings.Contains(r.Flips[0].Is, "nobody") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := deployed.Resume(ctx, steward, p.ID, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("resumed: %v", err)
	}
	if r, err = deployed.Resume(ctx, steward, p.ID, true); err != nil || r.State != ledger.ReplayPlanning || r.Replay.Config != other.Version() {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := deployed.Advance(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := deployed.Advance(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if r, err = deployed.Show(ctx, p.ID); err != nil || r.State != ledger.ReplayDone || r.Did.Applied != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if s := w.state(ids[0]); s.Record.Policy != other.Rules("customer").Version {
		t.Errorf("settled under %s", s.Record.Policy)
	}
}

// With reread, what the platforms hold is read again, at the class of a replay, so much at a time.
func TestReplayReadsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	w.clock.pass(time.Hour)
	w.netsuite.set("customer", "107", customer("Vins et alcools Chevalier & fils", "lost")) // nobody hears of it
	w.calm()
	f := w.again()
	p := w.planned(f, ledger.Selection{Entity: "customer", Reread: true})
	if p.Plan.NoOp != 1 || p.Plan.Reads[record.NetSuite] != 1 || p.Left != 1 {
		t.Errorf("%+v", p)
	}
	r := w.run(f, p.ID)
	if r.State != ledger.ReplayDone || r.Did.Reads != len(w.state(customerID).Record.Views) {
		t.Errorf("%+v", r.Did)
	}
	w.settle()
	if got := at(w.zendesk.state()["organization/"+customerID.External()], "organization_fields", "erp_phone"); w.netsuite.reads != 1 || w.netsuite.readFor != budget.Replay || fmt.Sprint(got) != "lost" {
		t.Errorf("%d reads, Zendesk shows %v in %v", w.netsuite.reads, got, w.zendesk.state())
	}
}

// otherConfig is the embedded configuration, but for who decides a customer's phone.
func otherConfig(t *testing.T) *policy.Set {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(config.FS, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(config.FS, path)
		if path == "policy/customer.yaml" {
			data = regexp.MustCompile(`(?m)^  phone:.*\n(    .*\n)+`).ReplaceAll(data, []byte("  phone: {owner: salesforce, targets: [netsuite, zendesk, servicenow], paths: {netsuite: revert, zendesk: revert, servicenow: revert}}\n"))
		}
		files[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// A plan of many records is made in parts, which others may go on with, and a run takes it page by page.
func TestReplayOfManyPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const records = 330
	for i := range records { // records that nobody has anything to say about
		id := record.ID(fmt.Sprintf("customer/%016d", i))
		s := ledger.State{Record: record.Record{ID: id, Views: map[string]record.View{}}}
		if err := w.ledger.Commit(t.Context(), ledger.Entry{After: s, Now: w.clock.now(), Events: []record.Event{{Action: "matched", Trace: "t"}}}); err != nil {
			t.Fatal(err)
		}
	}
	f := w.again()
	deadline, cancel := context.WithTimeout(t.Context(), time.Second) // too short for anything but to take it down
	defer cancel()
	r, err := f.Plan(deadline, steward, ledger.Selection{Entity: "customer"})
	if err != nil || r.State != ledger.ReplayPlanning || r.Plan.Records != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if did, err := f.Advance(t.Context(), nil); err != nil || did.Active != 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	if r, err = f.Show(t.Context(), r.ID); err != nil || r.State != ledger.ReplayPlanned || r.Plan.Records != records || r.Plan.Pages < 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	seen := map[record.ID]bool{}
	for page := range r.Plan.Pages {
		part, err := f.Records(t.Context(), r.ID, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range part.Records {
			seen[e.Record] = true
		}
	}
	if len(seen) != records {
		t.Errorf("the plan names %d records", len(seen))
	}
	if r := w.run(f, r.ID); r.State != ledger.ReplayDone || r.Left != 0 {
		t.Errorf("%+v", r)
	}
}
