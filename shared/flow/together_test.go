package flow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// endState is what the story must end in, whatever happens on the way.
func (w *world) endState() map[string]map[string]map[string]any {
	return map[string]map[string]map[string]any{"salesforce": w.salesforce.state(), "zendesk": w.zendesk.state()}
}

func (w *world) checkEnd() {
	w.t.Helper()
	sf, zd := w.salesforce.state(), w.zendesk.state()
	account, order, ship := sf["Account/"+customerID.External()], sf["Order/"+orderID.External()], sf["Shipment__c/"+shipmentID.External()]
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"account name", at(account, "Name"), "Vins et alcools Chevalier & fils"},
		{"account phone", at(account, "Phone"), "26.47.15.11"},
		{"order status", at(order, "ERP_Status__c"), "Billed"},
		{"order account", at(order, "AccountId"), "s-" + customerID.External()},
		{"order lines", at(order, "ERP_Lines__c"), "12 | Queso Cabrales | 14.00"},
		{"shipment order", at(ship, "Order__c"), "s-" + orderID.External()},
		{"shipment tracking", at(ship, "Tracking_Numbers__c"), "1Z999AA1, 1Z999AA2"},
		{"organization", at(zd["organization/"+customerID.External()], "name"), "Vins et alcools Chevalier & fils"},
		{"zendesk order", at(zd["custom_object/order/"+orderID.External()], "custom_object_fields", "status"), "billed"},
		{"zendesk order's organization", at(zd["custom_object/order/"+orderID.External()], "custom_object_fields", "organization"), "z-" + customerID.External()},
		{"zendesk shipment's order", at(zd["custom_object/shipment/"+shipmentID.External()], "custom_object_fields", "order"), "z-" + orderID.External()},
	} {
		if fmt.Sprint(row.got) != fmt.Sprint(row.want) {
			w.t.Errorf("%s is %v, want %v", row.what, row.got, row.want)
		}
	}
	for _, f := range []*fake{w.salesforce, w.zendesk} {
		if n := len(f.state()); n != 3 {
			w.t.Errorf("%s has %d records, want 3", f.name, n)
		}
		f.noDoubles(w.t)
	}
	w.nothingDead()
	w.expectExceptions()
}

// tellAll plays natives with time between them.
func (w *world) tellAll(natives []record.Native) {
	w.t.Helper()
	for _, n := range natives {
		w.clock.pass(time.Second)
		w.push(n)
		w.work()
	}
}

func TestStoryReachesBothTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	if s := w.waiting(); s != "" {
		t.Errorf("needs the sweep for %s", s)
	}
	w.checkEnd()
	if got, want := fmt.Sprint(w.salesforce.written()), "map[Account:2 Order:3 Shipment__c:2]"; got != want {
		t.Errorf("writes to Salesforce: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(w.zendesk.written()), "map[custom_object/order:3 custom_object/shipment:2 organization:2]"; got != want {
		t.Errorf("writes to Zendesk: %s, want %s", got, want)
	}
}

// Any order and number of the same observations ends in identical native records, and so does hearing it all again.
func TestOrderAndNumberOfEventsChangeNothing(t *testing.T) {
	t.Parallel()
	calm := newWorld(t)
	calm.tellAll(calm.story())
	calm.settle()
	want := calm.endState()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			rng := rand.New(rand.NewPCG(seed, 7))
			story := w.story()
			w.clock.pass(time.Minute)
			for range rng.IntN(8) {
				story = append(story, story[rng.IntN(len(story))])
			}
			rng.Shuffle(len(story), func(i, j int) { story[i], story[j] = story[j], story[i] })
			for i, n := range story {
				w.push(n)
				if rng.IntN(2) == 0 || i == len(story)-1 {
					w.clock.pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
					w.work()
				}
			}
			w.settle()
			w.checkEnd()
			if got := w.endState(); !reflect.DeepEqual(got, want) {
				t.Errorf("ends in\n%v\nwant\n%v", got, want)
			}
			w.salesforce.written()
			w.zendesk.written()
			w.push(story...)
			w.settle()
			if n := w.salesforce.total() + w.zendesk.total() + w.netsuite.total(); n != 0 {
				t.Errorf("hearing everything again caused %d writes", n)
			}
		})
	}
}

// A crash or a lost answer at any commit, of hub or deliver, changes nothing about the end.
func TestCrashAtEveryCommit(t *testing.T) {
	t.Parallel()
	set := loadConfig(t)
	for _, kind := range []storetest.Fault{storetest.FailBefore, storetest.FailAfter} {
		t.Run(fmt.Sprint("fault ", kind), func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth++ {
				w := worldOf(t, set)
				w.echoes()
				var mu sync.Mutex
				commits, hit := 0, false
				w.store.Next = func(op string, _ []store.Key) storetest.Fault {
					mu.Lock()
					defer mu.Unlock()
					if op != storetest.OpCommit {
						return storetest.None
					}
					if commits++; commits == nth {
						hit = true
						return kind
					}
					return storetest.None
				}
				w.tellAll(w.story())
				w.settle()
				w.checkEnd()
				if !hit {
					if nth < 20 {
						t.Errorf("only %d commits", nth)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("at commit %d", nth)
				}
			}
		})
	}
}

// Reads may fail as well.
func TestStoreThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		w := newWorld(t)
		w.echoes()
		rng := rand.New(rand.NewPCG(seed, 1))
		var mu sync.Mutex
		w.store.Next = func(string, []store.Key) storetest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if rng.IntN(16) > 0 {
				return storetest.None
			}
			return []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Throttle}[rng.IntN(3)]
		}
		w.tellAll(w.story())
		for range 4 {
			w.minute()
		}
		w.store.Next = nil
		w.settle()
		w.checkEnd()
	}
}

// The queue loses every wake-up: the sweep finds the work.
func TestLostWakeUps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, n := range w.story() {
		w.push(n)
	}
	w.drain(w.inbound, w.hub.Apply)
	for _, f := range w.fakes() {
		w.drain(w.out[f.name], func(context.Context, []queue.Received) []string { return nil }) // gone
	}
	if n := w.salesforce.total(); n != 0 {
		t.Fatalf("%d writes", n)
	}
	w.settle()
	w.checkEnd()
	if got, want := fmt.Sprint(w.salesforce.written()), "map[Account:1 Order:1 Shipment__c:1]"; got != want {
		t.Errorf("writes to Salesforce: %s, want %s", got, want)
	}
}

// A batch of wake-ups that holds a record and what it refers to writes each of them once.
func TestBatchWithReferencesWritesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, n := range w.story() {
		w.push(n)
	}
	w.work()
	if got, want := fmt.Sprint(w.salesforce.written(), w.zendesk.written()),
		"map[Account:1 Order:1 Shipment__c:1] map[custom_object/order:1 custom_object/shipment:1 organization:1]"; got != want {
		t.Errorf("writes: %s, want %s", got, want)
	}
	w.settle()
	w.checkEnd()
}

// A shipment arrives before anybody has heard of its order or customer: both are read and delivered first.
func TestMissingReferencesComeFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	story := w.story()
	w.push(story[4])
	w.work()
	var objects []string
	for _, x := range w.salesforce.writes {
		objects = append(objects, x.Ref.Object)
	}
	if got := fmt.Sprint(objects); got != "[Account Order Shipment__c]" {
		t.Errorf("written: %s", got)
	}
	if w.netsuite.reads != 2 {
		t.Errorf("%d reads, want 2", w.netsuite.reads)
	}
	w.push(story...)
	w.settle()
	w.checkEnd()
}

// The referenced records cannot be read now: they follow, and the shipment with them.
func TestReferencesThatCannotBeReadYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	story := w.story()
	w.netsuite.reading = func(record.Ref) error { return fault.New(fault.Down, "netsuite.read", "maintenance") }
	w.push(story[4])
	w.minute()
	if n := w.salesforce.total(); n != 0 {
		t.Errorf("%d writes without references", n)
	}
	w.nothingDead()
	w.netsuite.reading = nil
	w.settle()
	w.checkEnd()
}

func lost(applied bool) *told {
	return &told{fault.New(fault.Unknown, "fake.write", "no answer came"), applied}
}

// once tells only the first matching write.
func once(match func(platform.Write) bool, what *told) func(platform.Write) *told {
	done := false
	return func(w platform.Write) *told {
		if done || !match(w) {
			return nil
		}
		done = true
		return what
	}
}

func to(object string) func(platform.Write) bool {
	return func(w platform.Write) bool { return w.Ref.Object == object }
}

// The answer to a create, or to an update, is lost although it was done: it is read back and not written again. If
// it was not done it is written then.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	for _, object := range []string{"custom_object/order", "custom_object/shipment", "organization"} {
		for _, applied := range []bool{true, false} {
			t.Run(fmt.Sprintf("create %s, applied %t", object, applied), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.zendesk.answers(once(to(object), lost(applied)))
				story := w.story()
				w.clock.pass(time.Minute)
				w.push(story[6], story[5], story[4])
				w.settle()
				want := 2
				if applied {
					want = 1
				}
				if got := w.zendesk.written()[object]; got != want || w.zendesk.finds != 1 {
					t.Errorf("%d writes and %d read-backs, want %d and 1\n%s", got, w.zendesk.finds, want, w.tail())
				}
				w.checkEnd()
			})
			t.Run(fmt.Sprintf("update %s, applied %t", object, applied), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				story := w.story()
				w.tellAll(story[:3])
				w.zendesk.written()
				w.zendesk.answers(once(to(object), lost(applied)))
				w.clock.pass(time.Minute)
				w.push(story[6], story[5], story[4])
				w.settle()
				want := 2
				if applied {
					want = 1
				}
				if got := w.zendesk.written()[object]; got != want || w.readBacks() != 1 {
					t.Errorf("%d writes and %d read-backs, want %d and 1\n%s", got, w.readBacks(), want, w.tail())
				}
				w.checkEnd()
			})
		}
	}
}

// An outage: work stays due, messages are acknowledged, and afterwards each record is written once.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, class := range []fault.Class{fault.Down, fault.Throttled, fault.Internal, fault.Unauthenticated, fault.Conflict} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			w.zendesk.answers(func(platform.Write) *told { return &told{fault.New(class, "zendesk.write", "maintenance"), false} })
			w.tellAll(w.story())
			for range 4 {
				w.minute()
			}
			if d, _ := w.out[record.Zendesk].Depth(t.Context()); d.Visible+d.InFlight != 0 {
				t.Errorf("messages are kept: %+v", d)
			}
			if n := len(w.salesforce.state()); n != 3 {
				t.Errorf("Salesforce has %d records", n)
			}
			if n := len(w.zendesk.state()); n != 0 {
				t.Errorf("Zendesk has %d records", n)
			}
			w.zendesk.written()
			w.zendesk.answers(nil)
			w.clock.pass(10 * time.Minute)
			w.settle()
			if got, want := fmt.Sprint(w.zendesk.written()), "map[custom_object/order:1 custom_object/shipment:1 organization:1]"; got != want {
				t.Errorf("writes afterwards: %s, want %s", got, want)
			}
			w.checkEnd()
		})
	}
}

// What asks for a pause gets it.
func TestRetryAtIsRespected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	until := start.Add(time.Hour)
	w.zendesk.answers(func(platform.Write) *told {
		return &told{&fault.Error{Class: fault.Throttled, Op: "zendesk.write", RetryAt: until}, false}
	})
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	for range 10 {
		w.minute()
	}
	if n := w.zendesk.total(); n != 1 {
		t.Errorf("%d attempts before the time that was asked for, want 1", n)
	}
	w.zendesk.answers(nil)
	w.clock.pass(time.Hour)
	w.settle()
	if n := w.zendesk.total(); n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
}

// A refused field is held and told, the others are written; a new value releases it and the exception resolves.
func TestRefusedField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.salesforce.answers(func(x platform.Write) *told {
		if at(x.Fields, "Phone") == "bad" {
			return &told{&fault.Error{Class: fault.Refused, Op: "salesforce.write", Code: "INVALID_PHONE", Detail: "Phone is not valid", Fields: []string{"Phone"}}, false}
		}
		return nil
	})
	w.push(w.netsuite.set("customer", "107", customer("Vins", "bad")))
	w.settle()
	account := func() map[string]any { return w.salesforce.state()["Account/"+customerID.External()] }
	if a := account(); at(a, "Name") != "Vins" || at(a, "Phone") != nil {
		t.Errorf("account is %v", a)
	}
	w.expectExceptions("refused-write " + string(customerID) + " salesforce phone")
	if n := w.salesforce.total(); n != 2 {
		t.Errorf("%d writes, want the refused one and one without the field", n)
	}
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("customer", "107", customer("Vins 2", "bad")))
	w.settle()
	if a := account(); at(a, "Name") != "Vins 2" || at(a, "Phone") != nil {
		t.Errorf("while held, account is %v", a)
	}
	w.expectExceptions("refused-write " + string(customerID) + " salesforce phone")
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("customer", "107", customer("Vins 2", "good")))
	w.settle()
	if a := account(); at(a, "Phone") != "good" {
		t.Errorf("released, account is %v", a)
	}
	w.expectExceptions()
	w.nothingDead()
}

// A refusal that names no field holds all of them; correcting any one of them lets all go.
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.zendesk.answers(func(x platform.Write) *told {
		if at(x.Fields, "name") == "Taken" {
			return &told{&fault.Error{Class: fault.Refused, Op: "zendesk.write", Code: "RecordInvalid", Detail: "has already been taken"}, false}
		}
		return nil
	})
	w.push(w.netsuite.set("customer", "107", customer("Taken", "1")))
	w.settle()
	if n := len(w.exceptions()); n == 0 {
		t.Error("nobody is told")
	}
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("customer", "107", customer("Free", "1")))
	w.settle()
	org := w.zendesk.state()["organization/"+customerID.External()]
	if at(org, "name") != "Free" || at(org, "organization_fields", "erp_phone") != "1" || at(org, "organization_fields", "erp_number") != "VINET" {
		t.Errorf("organization is %v", org)
	}
	w.expectExceptions()
}

// The owner takes a refused value back to what the platform holds: nothing is to be written, and nothing stays open.
func TestRefusedValueTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	w.salesforce.answers(func(x platform.Write) *told {
		return &told{&fault.Error{Class: fault.Refused, Op: "salesforce.write", Code: "X", Detail: "no", Fields: []string{"Name"}}, false}
	})
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("customer", "107", customer("Bad", "1")))
	w.settle()
	w.expectExceptions("refused-write " + string(customerID) + " salesforce name")
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	w.expectExceptions()
}

// A person edits a governed field on a target: it is put back, and the trace says so.
func TestEditOnTargetIsPutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.salesforce.written()
	w.clock.pass(time.Minute)
	edited := w.salesforce.set("Order", "s-"+orderID.External(), map[string]any{"ERP_Status__c": "Cancelled", "Description": "my own note"})
	w.pushAs("edit", edited)
	w.settle()
	o := w.salesforce.state()["Order/"+orderID.External()]
	if at(o, "ERP_Status__c") != "Billed" {
		t.Errorf("order is %v", o)
	}
	if at(o, "Description") != "my own note" { // the policy ignores memo
		t.Errorf("the note is %v", at(o, "Description"))
	}
	if n := w.salesforce.total(); n != 1 {
		t.Errorf("%d writes to put it back", n)
	}
	steps, err := w.ledger.Trace(t.Context(), "edit")
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	for _, s := range steps {
		story = append(story, s.Step+" "+s.Platform+" "+s.Detail)
	}
	text := strings.Join(story, "\n")
	if !strings.Contains(text, "status: revert (policy/order.yaml:") || !strings.Contains(text, "written salesforce") {
		t.Errorf("the trace says\n%s", text)
	}
	w.nothingDead()
}

// An edit while the platform is away is put back afterwards, and is as visible as any other.
func TestEditDuringOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.salesforce.answers(func(platform.Write) *told { return &told{fault.New(fault.Down, "salesforce.write", "away"), false} })
	w.clock.pass(time.Minute)
	w.pushAs("edit 1", w.salesforce.set("Order", "s-"+orderID.External(), map[string]any{"ERP_Status__c": "Cancelled"}))
	w.work()
	w.clock.pass(100 * time.Millisecond)
	w.pushAs("edit 2", w.salesforce.set("Order", "s-"+orderID.External(), map[string]any{"ERP_Status__c": "Closed"}))
	w.work()
	if steps, err := w.ledger.Trace(t.Context(), "edit 2"); err != nil || len(steps) == 0 {
		t.Errorf("the second edit left no trace (%v)", err)
	}
	w.salesforce.answers(nil)
	w.settle()
	w.checkEnd()
}

// An unknown enum value holds its field and nothing else.
func TestUnknownEnumValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.clock.pass(time.Second)
	odd := order("Z")
	odd["otherRefNum"] = "PO-99"
	w.push(w.netsuite.set("salesOrder", "9001", odd))
	w.settle()
	o := w.salesforce.state()["Order/"+orderID.External()]
	if at(o, "ERP_Status__c") != "Billed" || at(o, "PoNumber") != "PO-99" {
		t.Errorf("order is %v", o)
	}
	w.expectExceptions("unknown-picklist " + string(orderID) + " netsuite status")
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("salesOrder", "9001", order("H")))
	w.settle()
	w.expectExceptions()
	if o := w.salesforce.state()["Order/"+orderID.External()]; at(o, "ERP_Status__c") != "Closed" {
		t.Errorf("order is %v", o)
	}
}

// A platform that reformats what it is given is not written to again and again.
func TestRewrittenValuesAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.salesforce.rewrite = func(_ string, body map[string]any) {
		if p, ok := body["Phone"].(string); ok {
			body["Phone"] = "(" + p + ")"
		}
	}
	w.salesforce.emit = func(n record.Native) { n.Ours = true; w.push(n) }
	w.push(w.netsuite.set("customer", "107", customer("Vins", "26")))
	w.settle()
	if n := w.salesforce.total(); n != 1 {
		t.Errorf("%d writes", n)
	}
	w.clock.pass(time.Minute)
	w.push(w.salesforce.pushed(record.Ref{Platform: "salesforce", Object: "Account", ID: "s-" + customerID.External()}))
	w.settle()
	if n := w.salesforce.total() + w.netsuite.total() + w.zendesk.total(); n > 1 { // Zendesk's first
		t.Errorf("%d writes", n)
	}
}

// A phone set by sales, the newest say, reaches the ERP and the desk, and comes back as nobody's change.
func TestLatestSayTravelsBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	w.clock.pass(time.Minute)
	for _, f := range w.fakes() {
		f.written()
	}
	w.push(w.salesforce.set("Account", "s-"+customerID.External(), map[string]any{"Phone": "2"}))
	w.settle()
	if got := at(w.netsuite.state()["customer/107"], "phone"); got != "2" {
		t.Errorf("NetSuite has %v", got)
	}
	if got := at(w.zendesk.state()["organization/"+customerID.External()], "organization_fields", "erp_phone"); got != "2" {
		t.Errorf("Zendesk has %v", got)
	}
	if a, b, c := w.netsuite.total(), w.salesforce.total(), w.zendesk.total(); a != 1 || b != 0 || c != 1 {
		t.Errorf("%d, %d and %d writes, want 1, 0, 1", a, b, c)
	}
	w.expectExceptions()
}

// Two pushes of one second with different values: reading settles it, whatever order they came in.
func TestTiesAreSettledByReading(t *testing.T) {
	t.Parallel()
	for _, reversed := range []bool{false, true} {
		w := newWorld(t)
		w.netsuite.resolution = time.Second
		w.tellAll(w.story())
		w.settle()
		w.clock.pass(time.Second)
		a := w.netsuite.set("salesOrder", "9001", order("G"))
		b := w.netsuite.set("salesOrder", "9001", order("H"))
		if a.Version != b.Version {
			t.Fatal("no tie")
		}
		if reversed {
			a, b = b, a
		}
		w.pushAs("tie", a)
		w.work()
		w.pushAs("tie", b) // one webhook may carry both: one correlation id
		w.work()
		w.clock.pass(5 * time.Second)
		if _, err := w.sweep.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.work()
		if s := w.waiting(); s != "" {
			t.Errorf("after one recheck there is still %s", s)
		}
		if got := at(w.zendesk.state()["custom_object/order/"+orderID.External()], "custom_object_fields", "status"); got != "closed" {
			t.Errorf("reversed %t: order is %v, want closed", reversed, got)
		}
	}
}

// A tie on a platform whose clock does not let a read be final is read again until it is.
func TestTieStaysUntilItIsSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.netsuite.resolution = time.Second
	w.tellAll(w.story())
	w.settle()
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("salesOrder", "9001", order("H")), w.netsuite.set("salesOrder", "9001", order("G")))
	w.work()
	w.netsuite.resolution = time.Hour // reads are not final yet
	for range 3 {
		w.minute()
		if !strings.Contains(w.waiting(), "recheck of netsuite/salesOrder/9001") {
			t.Fatalf("the tie is forgotten; waiting: %q", w.waiting())
		}
	}
	w.netsuite.resolution = time.Second
	w.settle()
	w.checkEnd()
}

func TestWhatBelongsNowhereIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(
		record.Native{Ref: record.Ref{Platform: "netsuite", Object: "vendor", ID: "1"}, Version: record.Version{At: start}, Fields: map[string]any{"a": "b"}},
		record.Native{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "404"}},                                                                                                        // a hint at an unknown id
		record.Native{Ref: record.Ref{Platform: "salesforce", Object: "Order", ID: "801"}, Version: record.Version{At: start}, Fields: map[string]any{"Status": "Draft", "ERP_Status__c": "Billed"}}, // not ours
		record.Native{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "5"}, Version: record.Version{At: start}, Fields: map[string]any{"nothing": "known"}},
	)
	if err := w.inbound.Send(t.Context(), queue.Message{Group: "netsuite/salesOrder/poison", Dedup: "p", Body: []byte(`{"v":1,`)},
		queue.Message{Group: "netsuite/customer/9", Dedup: "q", Body: []byte(`{"v":9}`)}); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.story() {
		w.push(n)
	}
	for range 8 {
		w.minute()
	}
	w.expectExceptions(
		"unmatched netsuite/vendor netsuite ",
		"unmatched netsuite/salesOrder/404 netsuite ",
		"unmatched salesforce/Order/801 salesforce ",
		"contract-violation netsuite/salesOrder/5 netsuite ",
		"poison-message message inbound-5  ", "poison-message message inbound-6  ",
	)
	if d, _ := w.inboundDead.Depth(t.Context()); d.Visible != 2 {
		t.Errorf("%d dead letters, want the two that cannot be read", d.Visible)
	}
	if n := len(w.salesforce.state()); n != 3 {
		t.Errorf("Salesforce has %d records: batch mates were stopped", n)
	}
}

// What was parked for its own sake resolves once the same native record is understood.
func TestParkedNativeRecordResolves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "customer", ID: "107"}, Version: record.Version{At: start}, Fields: map[string]any{"nothing": "known"}},
		record.Native{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "9001"}})
	w.work()
	w.expectExceptions("contract-violation netsuite/customer/107 netsuite ", "unmatched netsuite/salesOrder/9001 netsuite ")
	w.clock.pass(time.Second)
	w.tellAll(w.story())
	w.settle()
	w.checkEnd()
}

// A second native record of one platform that claims a record is parked, not merged, and so is a third, until it is gone or the only one.
func TestSecondClaimantIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	n := w.salesforce.pushed(record.Ref{Platform: "salesforce", Object: "Account", ID: "s-" + customerID.External()})
	n.ID, n.Version.At = "other", n.Version.At.Add(time.Hour)
	n.Fields["Name"] = "Somebody else"
	w.push(n)
	w.settle()
	w.expectExceptions("possible-duplicate " + string(customerID) + " salesforce ")
	if v := w.state(customerID).Record.Views["salesforce"]; v.ID != "s-"+customerID.External() {
		t.Errorf("the view is of %s", v.ID)
	}
	third := record.Ref{Platform: "salesforce", Object: "Account", ID: "third"}
	w.salesforce.set("Account", "third", map[string]any{"Name": "Somebody else"})
	w.salesforce.rows[third].external = customerID.External()
	w.push(w.salesforce.pushed(third))
	w.settle()
	w.expectExceptions("possible-duplicate "+string(customerID)+" salesforce ", "possible-duplicate "+string(customerID)+" salesforce ")
	n.Gone, n.Fields, n.Version.At = true, nil, n.Version.At.Add(time.Hour)
	w.push(n)
	w.settle()
	w.expectExceptions("possible-duplicate " + string(customerID) + " salesforce ")
	w.push(w.salesforce.remove("Account", "s-"+customerID.External(), ""))
	w.settle()
	w.clock.pass(time.Minute)
	w.push(w.salesforce.pushed(third))
	w.settle()
	if v := w.state(customerID).Record.Views["salesforce"]; v.ID != "third" {
		t.Errorf("the view is of %s", v.ID)
	}
	if x := w.exceptions(); slices.ContainsFunc(x, func(x string) bool { return strings.HasPrefix(x, "possible-duplicate") }) {
		t.Errorf("exceptions about what is the only one: %q", x)
	}
}

// A native record that is deleted on a target is not made again (policy: deletes: ignore), and nothing is stuck.
func TestDeletedOnTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tellAll(w.story())
	w.settle()
	w.clock.pass(time.Minute)
	ref := record.Ref{Platform: "zendesk", Object: "custom_object/shipment", ID: "z-" + shipmentID.External()}
	w.zendesk.rows[ref].gone, w.zendesk.rows[ref].at = true, w.clock.now()
	w.push(record.Native{Ref: ref, Version: record.Version{At: w.clock.now()}, Gone: true})
	w.zendesk.written()
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("itemFulfillment", "9100", shipment("1Z999AA3")))
	w.settle()
	if n := w.zendesk.total(); n != 0 {
		t.Errorf("%d writes to a deleted record", n)
	}
	if got := at(w.salesforce.state()["Shipment__c/"+shipmentID.External()], "Tracking_Numbers__c"); got != "1Z999AA3" {
		t.Errorf("Salesforce has %v", got)
	}
	w.expectExceptions("conflict " + string(shipmentID) + " zendesk ")
}

// Many workers, the same records, everything at once.
func TestConcurrentWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	story := w.story()
	w.clock.pass(time.Minute)
	var g errgroup.Group
	for worker := range 16 {
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(worker), 3))
			mine := append(slices.Clone(story), story...)
			rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			for i, n := range mine {
				m, err := message.Inbound{CorrelationID: fmt.Sprintf("w%d-%d", worker, i), ReceivedAt: w.clock.now(), Source: message.Webhook, Native: n}.Message(fmt.Sprintf("w%d-%d", worker, i))
				if err != nil {
					return err
				}
				for try := 0; ; try++ {
					if failed := w.hub.Apply(context.Background(), []queue.Received{{Message: m, ID: "m"}}); len(failed) == 0 {
						break
					}
					if try > 50 {
						return fmt.Errorf("worker %d cannot apply message %d", worker, i)
					}
				}
				if wakes, err := w.out["salesforce"].Receive(context.Background(), 3, 0); err != nil {
					return err
				} else if len(wakes) > 0 {
					w.deliver.Apply(context.Background(), wakes)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.checkEnd()
	if n := w.state(orderID).Record.Seq; n > 3 {
		t.Errorf("the order changed %d times", n)
	}
}

// Nothing that people wrote appears in the log: fields are named, values are not.
func TestLogsCarryNoValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	const secret = "Xyzzy-Plugh"
	odd := order("G")
	odd["memo"], odd["otherRefNum"] = secret, secret
	w.zendesk.answers(once(to("organization"), &told{&fault.Error{Class: fault.Refused, Op: "zendesk.write", Detail: "refused", Fields: []string{"erp_phone"}}, false}))
	w.push(w.netsuite.set("customer", "107", customer(secret, secret)), w.netsuite.set("salesOrder", "9001", odd))
	w.settle()
	odd["orderStatus"], odd["tranDate"] = map[string]any{"id": secret}, secret
	w.clock.pass(time.Second)
	w.push(w.netsuite.set("salesOrder", "9001", odd))
	w.settle()
	if text := w.log.String(); strings.Contains(text, secret) || !strings.Contains(text, `"fields":`) {
		t.Errorf("the log says\n%s", text)
	}
}

// A native record that is referred to before anybody has read it is not linked to a record of its own: it may turn out to
// be one that exists.
func TestReferenceToAStranger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.salesforce.written()
	w.clock.pass(time.Minute)
	w.salesforce.reading = func(record.Ref) error { return fault.New(fault.Down, "salesforce.read", "away") }
	w.salesforce.set("Account", "stranger", map[string]any{"Name": "Stranger"})
	w.push(w.salesforce.set("Order", "s-"+orderID.External(), map[string]any{"AccountId": "stranger"}))
	w.work()
	if id, linked, err := w.ledger.Lookup(t.Context(), record.Ref{Platform: "salesforce", Object: "Account", ID: "stranger"}); linked || err != nil {
		t.Errorf("linked to %s (%v)", id, err)
	}
	w.salesforce.reading = nil
	w.settle()
	if got := at(w.salesforce.state()["Order/"+orderID.External()], "AccountId"); got != "s-"+customerID.External() {
		t.Errorf("the order is on account %v", got)
	}
	w.expectExceptions()
}

// We write another field of a record on which a person has set something that did not reach its other places yet.
// The echo says the whole record and that we were the last to change it; the person's say stands all the same.
func TestOurEchoLeavesAPersonsSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	w.netsuite.answers(func(platform.Write) *told {
		return &told{fault.New(fault.Down, "netsuite.write", "maintenance"), false}
	})
	w.clock.pass(time.Minute)
	w.push(w.salesforce.set("Account", "s-"+customerID.External(), map[string]any{"Phone": "2"}))
	w.minute()
	w.clock.pass(time.Minute)
	w.push(w.netsuite.set("customer", "107", map[string]any{"companyName": "Vins & fils"}))
	w.minute()
	w.netsuite.answers(nil)
	w.settle()
	if got := at(w.salesforce.state()["Account/"+customerID.External()], "Phone"); got != "2" {
		t.Errorf("Salesforce has phone %v: the edit is lost", got)
	}
	if got := at(w.netsuite.state()["customer/107"], "phone"); got != "2" {
		t.Errorf("NetSuite has phone %v", got)
	}
}

func (w *world) readBacks() int {
	return int(w.telemetry.Snapshot().Counters["ReadBacks."+record.Zendesk])
}

// What refers to a record that was deleted on a platform waits there, and people are told what for.
func TestReferenceToWhatWasDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.push(w.story()[0])
	w.settle()
	account := "s-" + customerID.External()
	w.clock.pass(time.Minute)
	w.push(w.salesforce.remove("Account", account, ""))
	w.settle()
	w.push(w.netsuite.set("salesOrder", "9001", order("B")))
	for range 20 {
		w.minute()
	}
	want := "missing-reference " + string(orderID) + " salesforce "
	if got := w.exceptions(); !slices.Contains(got, want) {
		t.Fatalf("exceptions %q, want %q among them\n%s", got, want, w.tail())
	}
	w.push(w.salesforce.restore("Account", account))
	w.settle()
	if got := w.exceptions(); slices.Contains(got, want) {
		t.Errorf("exceptions %q", got)
	}
	if w.salesforce.state()["Order/"+orderID.External()] == nil {
		t.Errorf("the order is not in Salesforce\n%s", w.tail())
	}
}

// What refers to something that nobody has ever heard of waits for word of it for a while; then the rest of it is told.
func TestReferenceToWhatNobodyKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	o := order("D")
	o["entity"] = map[string]any{"id": "999"}
	w.push(w.netsuite.set("salesOrder", "9001", o))
	was := w.salesforce.state()["Order/"+orderID.External()]["ERP_Status__c"]
	for range 20 {
		w.minute()
	}
	if is := w.salesforce.state()["Order/"+orderID.External()]["ERP_Status__c"]; is == was {
		t.Errorf("the status is still %v\n%s", is, w.tail())
	}
	if want := "missing-reference " + string(orderID) + " salesforce "; !slices.Contains(w.exceptions(), want) {
		t.Errorf("exceptions %q, want %q among them", w.exceptions(), want)
	}
}

// A record was deleted on a platform, and the word of it was lost. The next write is told so: the platform is asked once, and
// the deletion is heard of as any other. One that cannot be read may only be hidden: nothing follows from that.
func TestWriteToWhatWasDeleted(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{false, true} {
		w := newWorld(t)
		w.echoes()
		w.push(w.story()[0])
		w.settle()
		account := "s-" + customerID.External()
		w.clock.pass(time.Minute)
		w.salesforce.remove("Account", account, "")
		missing := fault.New(fault.NotFound, "salesforce.write", "entity is deleted")
		w.salesforce.tell = func(platform.Write) *told { return &told{err: missing} }
		if hidden {
			w.salesforce.reading = func(record.Ref) error { return missing }
		}
		w.clock.pass(time.Minute)
		w.push(w.netsuite.set("customer", "107", map[string]any{"phone": "2"}))
		for range 5 {
			w.minute()
		}
		s := w.state(customerID)
		if gone := s.Record.Views[record.Salesforce].Gone(); gone == hidden {
			t.Errorf("hidden %t: gone %t\n%s", hidden, gone, w.tail())
		}
		if _, due := s.Due[record.Salesforce]; due != hidden {
			t.Errorf("hidden %t: due %t", hidden, due)
		}
		if n := len(w.salesforce.writes); !hidden && n > 2 {
			t.Errorf("%d writes, want one of the record and one that is told", n)
		}
		if !hidden {
			continue
		}
		for range 30 {
			w.minute()
		}
		before := len(w.salesforce.writes)
		for range 60 {
			w.minute()
		}
		if n := len(w.salesforce.writes) - before; n == 0 || n > 12 {
			t.Errorf("%d writes in an hour of what cannot be found: a write each five to ten minutes is enough", n)
		}
		open, err := w.ledger.Exceptions(t.Context(), false)
		if err != nil || len(open) != 1 {
			t.Errorf("people are told %+v, %v", open, err)
		}
	}
}

// slowly is a platform whose answers take a while, in which something else happens.
type slowly struct {
	deliver.Platform
	meanwhile func()
}

func (s slowly) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := s.Platform.Write(ctx, writes)
	s.meanwhile()
	return out
}

// While one worker waits for an answer, another writes the next value. One of the two gets no answer: what became of its
// write is still to be read when the other has confirmed its own.
func TestSlowWorkerAndAnUnknownWrite(t *testing.T) {
	t.Parallel()
	for _, slowOne := range []bool{false, true} {
		w := newWorld(t)
		w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
		w.settle()
		woken := w.woken(record.Zendesk, customerID)
		rename := func(name string, answered bool) {
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", map[string]any{"companyName": name}))
			w.drain(w.inbound, w.hub.Apply)
			w.zendesk.answers(nil)
			if !answered {
				w.zendesk.answers(once(to("organization"), lost(true)))
			}
		}
		slow := w.worker(record.Zendesk, slowly{w.zendesk, func() {
			rename("Vins & fils", slowOne)
			w.deliver.Apply(t.Context(), woken)
		}})
		rename("Vins et fils", !slowOne)
		slow.Apply(t.Context(), woken)
		if !w.state(customerID).Due[record.Zendesk].Unknown {
			t.Errorf("slow one %t: nobody will read what became of the write: %+v", slowOne, w.state(customerID).Due)
		}
		w.settle()
		if w.readBacks() != 1 {
			t.Errorf("slow one %t: %d read-backs, want 1", slowOne, w.readBacks())
		}
		if got := at(w.zendesk.state()["organization/"+customerID.External()], "name"); got != "Vins & fils" {
			t.Errorf("slow one %t: Zendesk has name %v", slowOne, got)
		}
	}
}

// woken is a wake-up for a record on a platform.
func (w *world) woken(name string, id record.ID) []queue.Received {
	w.t.Helper()
	wake, err := message.Wake{Platform: name, Record: id, CorrelationID: "c"}.Message("e")
	if err != nil {
		w.t.Fatal(err)
	}
	return []queue.Received{{Message: wake, ID: "1"}}
}

// worker delivers beside the world's own to one platform, as that is for it.
func (w *world) worker(name string, p deliver.Platform) *deliver.Flow {
	return deliver.New(deliver.Deps{Ledger: w.ledger, Config: w.config, Now: w.clock.now, Rand: func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }, Telemetry: w.telemetry,
		Platforms: map[string]deliver.Platform{name: p}})
}

// late is a platform that takes writes only after something else has happened.
type late struct {
	deliver.Platform
	meanwhile func()
}

func (l late) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	l.meanwhile()
	return l.Platform.Write(ctx, writes)
}

// Two workers write different values of a field at once, over what somebody set in between. Which of the two the platform
// has in the end it does not tell: that is read, and put right if need be.
func TestWorkersThatCross(t *testing.T) {
	t.Parallel()
	for _, slowLast := range []bool{false, true} {
		w := newWorld(t)
		w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
		w.settle()
		woken := w.woken(record.Salesforce, customerID)
		phone := func(number string) {
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", map[string]any{"phone": number}))
			w.drain(w.inbound, w.hub.Apply)
		}
		meanwhile := func() {
			w.push(w.salesforce.set("Account", w.salesforce.ids("Account")[0], map[string]any{"Phone": "9"}))
			phone("3")
			w.deliver.Apply(t.Context(), woken)
		}
		var p deliver.Platform = slowly{w.salesforce, meanwhile}
		if slowLast {
			p = late{w.salesforce, meanwhile}
		}
		slow := w.worker(record.Salesforce, p)
		phone("2")
		slow.Apply(t.Context(), woken)
		writes, reads := len(w.salesforce.writes), w.salesforce.reads
		w.settle()
		if got := w.salesforce.state()["Account/"+customerID.External()]["Phone"]; got != "3" {
			t.Errorf("slow one last %t: Salesforce has phone %v", slowLast, got)
		}
		if got := len(w.salesforce.writes) - writes; got > 0 != slowLast || w.salesforce.reads != reads+1 {
			t.Errorf("slow one last %t: %d writes to put it right, %d reads", slowLast, got, w.salesforce.reads-reads)
		}
	}
}

// readLate is a platform whose answers to reads take a while, in which something else happens.
type readLate struct {
	deliver.Platform
	meanwhile func()
}

func (r readLate) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	n, err := r.Platform.Read(ctx, ref)
	r.meanwhile()
	return n, err
}

// A worker reads what became of a write. Before it can say so, another has written something else over it: what was read is
// no news by then.
func TestReadBackThatIsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")))
	w.settle()
	woken := w.woken(record.Salesforce, customerID)
	phone := func(number string) {
		w.clock.pass(time.Minute)
		w.push(w.netsuite.set("customer", "107", map[string]any{"phone": number}))
		w.drain(w.inbound, w.hub.Apply)
	}
	w.salesforce.answers(once(to("Account"), lost(true)))
	phone("2")
	w.deliver.Apply(t.Context(), woken)
	w.clock.pass(time.Minute)
	slow := w.worker(record.Salesforce, readLate{w.salesforce, func() {
		phone("3")
		w.deliver.Apply(t.Context(), woken)
		phone("2")
	}})
	slow.Apply(t.Context(), woken)
	w.settle()
	if got := w.salesforce.state()["Account/"+customerID.External()]["Phone"]; got != "2" {
		t.Errorf("Salesforce has phone %v", got)
	}
}

// While a worker waits for an answer, the record becomes one with another: what the write left on the native record, which
// is the other's now, is read and brought to what the other says.
func TestSlowWorkerAcrossAMerge(t *testing.T) {
	t.Parallel()
	for _, answered := range []bool{true, false} {
		w := newWorld(t)
		w.push(w.netsuite.set("customer", "107", customer("Vins", "1")), w.salesforce.set("Account", "001", map[string]any{"Name": "Ernst Handel"}))
		w.drain(w.inbound, w.hub.Apply)
		cause := govern.Cause{By: "stew", Now: w.clock.now()}
		from, _, err := w.ledger.Lookup(t.Context(), record.Ref{Platform: record.Salesforce, Object: "Account", ID: "001"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = govern.Change(t.Context(), w.ledger, w.config, from, cause, func(s *ledger.State) ([]record.Event, error) {
			s.Record.Overrides = map[string]record.Override{"phone": {Value: record.TextValue("2"), By: "stew", When: cause.Now, Until: cause.Now.Add(time.Hour)}}
			return nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !answered {
			w.salesforce.answers(once(to("Account"), lost(true)))
		}
		slow := w.worker(record.Salesforce, slowly{w.salesforce, func() {
			if joint, err := govern.Unite(t.Context(), w.ledger, w.config, customerID, from, cause); err != nil || !joint.Done {
				t.Errorf("not united: %+v %v", joint, err)
			}
		}})
		if failed := slow.Apply(t.Context(), w.woken(record.Salesforce, from)); len(failed) > 0 {
			t.Errorf("answered %t: it comes again", answered)
		}
		if due := w.state(customerID).Due[record.Salesforce]; !due.Unknown || !slices.Equal(due.Tried["phone"], []record.Value{record.TextValue("2")}) {
			t.Errorf("answered %t: nobody will read what it left there: %+v", answered, due)
		}
		w.settle()
		if got := w.salesforce.state()["Account/"+customerID.External()]["Phone"]; got != "1" {
			t.Errorf("answered %t: Salesforce has phone %v", answered, got)
		}
	}
}

// What was in a platform before something that it refers to was deleted there is kept up to date in all else.
func TestLostReferenceHoldsNothingElseUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.push(w.story()[0], w.netsuite.set("customer", "108", map[string]any{"entityId": "ERNSH", "companyName": "Ernst Handel", "isInactive": false}), w.netsuite.set("salesOrder", "9001", order("B")))
	w.settle()
	w.clock.pass(time.Minute)
	other := mint("customer", "customer", "108")
	w.push(w.salesforce.remove("Account", "s-"+other.External(), ""))
	w.settle()
	moved := map[string]any{"entity": map[string]any{"id": "108"}, "memo": "call last"}
	w.push(w.netsuite.set("salesOrder", "9001", moved))
	for range 20 {
		w.minute()
	}
	got := w.salesforce.state()["Order/"+orderID.External()]
	if got["Description"] != "call last" {
		t.Errorf("the order in Salesforce is %v", got)
	}
	want := "missing-reference " + string(orderID) + " salesforce "
	if x := w.exceptions(); !slices.Contains(x, want) {
		t.Errorf("exceptions %q, want %q among them", x, want)
	}
	w.push(w.salesforce.restore("Account", "s-"+other.External()))
	w.settle()
	if got := w.salesforce.state()["Order/"+orderID.External()]; got["AccountId"] != "s-"+other.External() {
		t.Errorf("the order in Salesforce is %v\n%s", got, w.tail())
	}
}
