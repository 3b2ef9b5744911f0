package flow_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// waits brings a world in which a shipment has waited for its order for long: the order cannot be read, and nobody pushes it.
func waits(t *testing.T) (*world, []record.Native) {
	w := newWorld(t)
	story := w.story()
	w.netsuite.reading = func(record.Ref) error { return fault.New(fault.Down, "netsuite.read", "maintenance") }
	w.push(story[4])
	for range 12 {
		w.minute()
	}
	d := w.state(shipmentID).Due[record.Salesforce]
	if len(d.Waits) != 1 || d.Waits[0] != orderID || d.NotBefore.Sub(w.clock.now()) < 10*time.Second {
		t.Fatalf("it does not wait for long: %+v", d)
	}
	return w, story
}

// A shipment has waited for its order for long, and the order for its customer. When they come, all go out at once: no time
// passes, and nobody sweeps.
func TestWaitsNoLongerThanNeeded(t *testing.T) {
	t.Parallel()
	w, story := waits(t)
	w.push(story[3])
	w.minute()
	if n := w.salesforce.total(); n != 0 {
		t.Fatalf("%d writes before the customer is known", n)
	}
	w.push(story[6])
	w.work()
	for _, f := range []*fake{w.salesforce, w.zendesk} {
		if got := fmt.Sprint(f.written()); got != "map[Account:1 Order:1 Shipment__c:1]" && got != "map[custom_object/order:1 custom_object/shipment:1 organization:1]" {
			t.Errorf("written to %s: %s\n%s", f.name, got, w.tail())
		}
	}
	if d, due := w.state(shipmentID).Due[record.Salesforce]; due {
		t.Errorf("the shipment is still due: %+v", d)
	}
	w.netsuite.reading = nil
	w.push(story...)
	w.settle()
	w.checkEnd()
}

// Who brings the order does not see the shipment among those who wait, because it is put off a moment later: whoever puts it
// off looks again.
func TestArrivesWhileItIsPutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	story := w.story()
	w.netsuite.reading = func(record.Ref) error { return fault.New(fault.Down, "netsuite.read", "maintenance") }
	w.push(story[4])
	w.drain(w.inbound, w.hub.Apply)
	w.push(story[6], story[3])
	w.drain(w.inbound, w.hub.Apply)
	other := w.worker(record.Salesforce, w.salesforce)
	away := true
	w.salesforce.answers(func(x platform.Write) *told {
		if x.Ref.Object == "Order" && away {
			away = false
			return &told{fault.New(fault.Down, "salesforce.write", "maintenance"), false}
		}
		return nil
	})
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		if op == storetest.OpCommit && strings.Contains(keys[0].Part, string(shipmentID)) {
			w.store.Next = nil
			w.clock.pass(time.Minute)
			other.Apply(t.Context(), w.woken(record.Salesforce, orderID))
		}
		return storetest.None
	}
	w.deliver.Apply(t.Context(), w.woken(record.Salesforce, shipmentID))
	if w.store.Next != nil {
		t.Fatal("nobody came in between")
	}
	if got := fmt.Sprint(w.salesforce.written()); got != "map[Account:1 Order:2 Shipment__c:1]" { // the order's first write failed
		t.Errorf("written: %s\n%s", got, w.tail())
	}
	w.netsuite.reading = nil
	w.settle()
}

// TestWakingWhoWaitsFails: each call of the store fails once while a shipment's order arrives. The shipment goes out, if not at once.
func TestWakingWhoWaitsFails(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w, story := waits(t)
		var calls atomic.Int64 // the hub works on several groups at once
		w.store.Next = func(string, []store.Key) storetest.Fault {
			if calls.Add(1) == int64(n) {
				return []storetest.Fault{storetest.FailBefore, storetest.FailAfter}[n%2]
			}
			return storetest.None
		}
		w.push(story[6], story[5])
		w.work()
		w.store.Next = nil
		failed := calls.Load() >= int64(n)
		w.netsuite.reading = nil
		w.settle()
		w.checkEnd()
		if t.Failed() {
			t.Fatalf("call %d fails\n%s", n, w.tail())
		}
		if !failed {
			return
		}
	}
}
