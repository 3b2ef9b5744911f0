package flow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

// letters is what people do about the dead letters of a world.
func (w *world) letters() *deadletters.Flow {
	pairs := map[string]deadletters.Pair{"inbound": {Source: w.inbound, Dead: w.inboundDead}}
	for name, q := range w.out {
		pairs["outbound-"+name] = deadletters.Pair{Source: q, Dead: w.dead[name], Platform: name}
	}
	return deadletters.New(deadletters.Deps{Queues: pairs, Ledger: w.ledger, Config: w.config, Now: w.clock.now, Telemetry: w.telemetry})
}

// giveUp has whatever waits on a queue received until its dead-letter queue has it, as a crash loop does.
func (w *world) giveUp(q *queue.Memory) {
	w.t.Helper()
	for {
		got, err := q.Receive(w.t.Context(), queue.MaxBatch, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(got) == 0 {
			return
		}
		receipts := make([]string, len(got))
		for i, m := range got {
			receipts[i] = m.Receipt
		}
		if err := q.Release(w.t.Context(), 0, receipts...); err != nil {
			w.t.Fatal(err)
		}
	}
}

var stewart = policy.Person{Name: "stewart@northwind.example"}

func (w *world) redrive(c deadletters.Choice) deadletters.Redriven {
	w.t.Helper()
	out, err := w.letters().Redrive(w.t.Context(), stewart, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) writes() int {
	n := 0
	for _, f := range w.fakes() {
		n += f.total()
	}
	return n
}

// logged counts the lines of the audit logs of the story's records.
func (w *world) logged() int {
	n := 0
	for _, id := range []record.ID{customerID, orderID, shipmentID} {
		log, err := w.ledger.Log(w.t.Context(), string(id))
		if err != nil {
			w.t.Fatal(err)
		}
		n += len(log)
	}
	return n
}

// An event was given up, the record went on: redriven, the event changes nothing and writes nothing.
func TestRedrivenOldEventChangesNothing(t *testing.T) {
	t.Parallel()
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live traffic %t", live), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			w.tellAll(w.story())
			w.settle()
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", map[string]any{"companyName": "Vins, older", "phone": "older"}), w.netsuite.set("salesOrder", "9001", order("B")))
			w.giveUp(w.inbound)
			w.clock.pass(time.Minute)
			w.push(w.netsuite.set("customer", "107", customer("Vins et alcools Chevalier & fils", "26.47.15.11")), w.netsuite.set("salesOrder", "9001", order("G")))
			w.settle()
			l, err := w.letters().List(t.Context(), deadletters.Filter{})
			if err != nil || len(l.Letters) != 2 || l.Letters[0].Class != deadletters.Overtaken || l.Letters[1].Class != deadletters.Overtaken {
				t.Fatalf("%d letters, %v", len(l.Letters), err)
			}
			w.writes()
			before, logged, want := w.state(customerID).Record.Seq, w.logged(), 0
			if live { // another record changes at the same moment
				w.clock.pass(time.Second)
				w.push(w.netsuite.set("itemFulfillment", "9100", shipment("1Z999AA1", "1Z999AA2", "1Z999AA3")))
				want = 2 // of the shipment, to both targets
			}
			if did := w.redrive(deadletters.Choice{All: true}); len(did.Redriven) != 2 || did.Left != 0 {
				t.Errorf("%+v", did)
			}
			if live {
				w.push(w.netsuite.pushed(record.Ref{Platform: "netsuite", Object: "customer", ID: "107"}))
			}
			w.settle()
			if n := w.writes(); n != want {
				t.Errorf("%d writes, want %d", n, want)
			}
			if seq := w.state(customerID).Record.Seq; seq != before {
				t.Errorf("the customer changed: %d instead of %d", seq, before)
			}
			if n := w.logged(); n != logged+want/2 {
				t.Errorf("%d audit lines, want %d", n, logged+want/2)
			}
			if live {
				w.netsuite.set("itemFulfillment", "9100", shipment("1Z999AA1", "1Z999AA2"))
				w.clock.pass(time.Second)
				w.push(w.netsuite.pushed(record.Ref{Platform: "netsuite", Object: "itemFulfillment", ID: "9100"}))
				w.settle()
			}
			w.checkEnd()
		})
	}
}

// A wake-up was given up. The sweep did the work meanwhile: redriven, nothing is written.
func TestRedrivenWakeOfDoneWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	for _, n := range w.story() {
		w.push(n)
	}
	w.drain(w.inbound, w.hub.Apply)
	w.giveUp(w.out["salesforce"])
	before, err := w.letters().List(t.Context(), deadletters.Filter{Class: deadletters.Failing})
	if err != nil || len(before.Letters) == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	w.settle()
	w.writes()
	after, err := w.letters().List(t.Context(), deadletters.Filter{Class: deadletters.Overtaken})
	if err != nil || len(after.Letters) != len(before.Letters) {
		t.Fatalf("overtaken are %+v, %v", after, err)
	}
	w.redrive(deadletters.Choice{All: true, Filter: deadletters.Filter{Queue: "outbound-salesforce"}})
	w.settle()
	if n := w.writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
	w.checkEnd()
}

// Whatever is given up, in whatever order and however often it is redriven among live messages: in the end everything is as
// if nothing had ever been given up; what is called overtaken does nothing; and redriving all of it once more does nothing.
func TestRedrivesInAnyInterleaving(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			rng := rand.New(rand.NewPCG(seed, 11))
			w.push(w.netsuite.set("customer", "107", customer("Vins", "0")), w.netsuite.set("salesOrder", "9001", order("B")))
			w.settle()
			var given []queue.Message // every message that was ever given up
			die := func(source, dead *queue.Memory) {
				got, err := source.Receive(t.Context(), 1+rng.IntN(3), 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range got {
					given = append(given, m.Message)
					err := dead.Send(t.Context(), queue.Message{Group: m.Group, Dedup: m.ID, Body: m.Body})
					if err == nil {
						err = source.Delete(t.Context(), m.Receipt)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			name, phone, status := "Vins", "0", "B"
			for step := range 60 {
				w.clock.pass(time.Duration(1+rng.IntN(3000)) * time.Millisecond)
				switch rng.IntN(10) {
				case 0, 1:
					name, phone = fmt.Sprint("Vins ", step), fmt.Sprint(step)
					w.push(w.netsuite.set("customer", "107", customer(name, phone)))
				case 2:
					status = pick(rng, "B", "D", "G")
					w.push(w.netsuite.set("salesOrder", "9001", order(status)))
				case 3: // somebody meddles, and is put back
					w.push(w.salesforce.set("Order", "s-"+orderID.External(), map[string]any{"ERP_Status__c": "Meddled"}))
				case 4:
					die(w.inbound, w.inboundDead)
				case 5:
					f := pick(rng, w.fakes()...)
					die(w.out[f.name], w.dead[f.name])
				case 6:
					l, err := w.letters().List(t.Context(), deadletters.Filter{})
					if err != nil {
						t.Fatal(err)
					}
					if len(l.Letters) > 0 {
						w.redrive(deadletters.Choice{IDs: []string{pick(rng, l.Letters...).ID}})
					}
				case 7:
					w.redrive(deadletters.Choice{All: true})
				case 8:
					w.clock.pass(6 * time.Minute) // out of the dedup window
				default:
					w.work()
				}
			}
			w.settle()
			w.writes()
			was := w.state(customerID).Record.Seq + w.state(orderID).Record.Seq
			w.redrive(deadletters.Choice{All: true, Filter: deadletters.Filter{Class: deadletters.Overtaken}})
			w.settle()
			if n, is := w.writes(), w.state(customerID).Record.Seq+w.state(orderID).Record.Seq; n != 0 || is != was {
				t.Errorf("what is overtaken caused %d writes, %d changes", n, is-was)
			}
			for range 3 { // what was redriven may be given up again
				w.redrive(deadletters.Choice{All: true})
				w.settle()
			}
			w.clock.pass(time.Hour)
			w.writes()
			check := func() {
				t.Helper()
				sf, zd := w.salesforce.state(), w.zendesk.state()
				states := map[string]string{"B": "Pending Fulfilment", "D": "Partially Fulfilled", "G": "Billed"}
				for _, row := range [][2]any{
					{at(sf["Account/"+customerID.External()], "Name"), name}, {at(sf["Account/"+customerID.External()], "Phone"), phone},
					{at(zd["organization/"+customerID.External()], "name"), name}, {at(sf["Order/"+orderID.External()], "ERP_Status__c"), states[status]},
				} {
					if row[0] != row[1] {
						t.Errorf("%v, want %v", row[0], row[1])
					}
				}
				for _, f := range w.fakes() {
					f.noDoubles(t)
				}
				w.nothingDead()
				w.expectExceptions()
			}
			check()
			// Everything once more, shuffled: all of it is old.
			seq, logged := w.state(customerID).Record.Seq+w.state(orderID).Record.Seq, w.logged()
			rng.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
			for i, m := range given {
				m.Dedup = fmt.Sprint("again-", i)
				dead := w.inboundDead
				if p := wakeOf(m); p != "" {
					dead = w.dead[p]
				}
				if err := dead.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			l, err := w.letters().List(t.Context(), deadletters.Filter{})
			if err != nil || len(l.Letters) != len(given) {
				t.Fatalf("%d of %d letters (%v)", len(l.Letters), len(given), err)
			}
			for _, x := range l.Letters {
				if x.Class != deadletters.Overtaken {
					t.Errorf("%s %s is %s: %s", x.Native, x.Record, x.Class, x.Why)
				}
			}
			w.redrive(deadletters.Choice{All: true})
			w.settle()
			if n := w.writes(); n != 0 {
				t.Errorf("%d writes", n)
			}
			if now := w.state(customerID).Record.Seq + w.state(orderID).Record.Seq; now != seq || w.logged() != logged {
				t.Errorf("the records changed: %d instead of %d", now, seq)
			}
			check()
			if v, err := w.ledger.Verify(t.Context(), nil); err != nil || len(v.Broken) > 0 {
				t.Errorf("audit: %+v, %v", v, err)
			}
		})
	}
}

// wakeUp is a wake-up.
func (w *world) wakeUp(platform string, id record.ID) queue.Message {
	w.t.Helper()
	m, err := message.Wake{Platform: platform, Record: id, CorrelationID: "c-wake"}.Message(fmt.Sprint("wake-", w.clock.now().UnixNano()))
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// wakeOf is the platform of a wake-up, or "".
func wakeOf(m queue.Message) string {
	w, err := message.ParseWake(m.Body)
	if err != nil {
		return ""
	}
	return w.Platform
}

// A letter that was sent and not deleted, because the process died or the queue failed, is sent again later. That is harmless.
func TestRedriveDiesBetweenSendAndDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.tellAll(w.story())
	w.settle()
	w.clock.pass(time.Minute)
	w.push(w.netsuite.set("customer", "107", customer("Vins, newest", "9")))
	w.giveUp(w.inbound)
	dies := &dyingDead{Memory: w.inboundDead, dies: true}
	flow := deadletters.New(deadletters.Deps{Queues: map[string]deadletters.Pair{"inbound": {Source: w.inbound, Dead: dies}},
		Ledger: w.ledger, Config: w.config, Now: w.clock.now, Telemetry: w.telemetry})
	if _, err := flow.Redrive(t.Context(), stewart, deadletters.Choice{All: true}); err == nil {
		t.Fatal("the deletion failed and nothing is said")
	}
	w.settle()
	if got := at(w.salesforce.state()["Account/"+customerID.External()], "Name"); got != "Vins, newest" {
		t.Errorf("the letter was not sent: %v", got)
	}
	w.writes()
	seq := w.state(customerID).Record.Seq
	w.clock.pass(6 * time.Minute)
	dies.dies = false
	if did, err := flow.Redrive(t.Context(), stewart, deadletters.Choice{All: true}); err != nil || len(did.Redriven) != 1 || did.Left != 0 {
		t.Errorf("%+v, %v", did, err)
	}
	if d, _ := w.inbound.Depth(t.Context()); d.Visible != 1 {
		t.Errorf("%+v is inbound, want the second copy", d)
	}
	w.settle()
	if n := w.writes(); n != 0 || w.state(customerID).Record.Seq != seq {
		t.Errorf("%d writes", n)
	}
	log, err := w.ledger.Log(t.Context(), ledger.General)
	if err != nil || len(log) != 2 {
		t.Errorf("general log: %+v, %v", log, err)
	}
}

// dyingDead loses deletions.
type dyingDead struct {
	*queue.Memory
	dies bool
}

func (d *dyingDead) Delete(ctx context.Context, receipts ...string) error {
	if d.dies {
		return fault.New(fault.Down, "queue.delete", "away")
	}
	return d.Memory.Delete(ctx, receipts...)
}
