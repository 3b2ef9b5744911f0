package flow_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// away takes a platform down: nothing can be written or read there, and it pushes nothing.
func (f *fake) away() {
	f.answers(func(platform.Write) *told { return &told{fault.New(fault.Down, f.name+".write", "503"), false} })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = func(record.Ref) error { return fault.New(fault.Down, f.name+".read", "503") }
}

func (f *fake) back() {
	f.answers(nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = nil
}

// The ERP is away for six hours. Sales and support go on, each seeing at once what the other does; what is for the ERP is
// captured, decisions of people too; and afterwards each record that is affected is written there once.
func TestERPAway(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	w.push(w.netsuite.set("account", "2", map[string]any{"name": "Bon app", "taxId": "FR12345678901", "city": "Marseille", "active": true}))
	w.settle() // nobody touches it
	of := func(f *fake) string { return w.state(id).Record.Views[f.name].ID }
	edit := func(f *fake, fields map[string]any) {
		t.Helper()
		w.clock.pass(3 * time.Second)
		w.push(f.set("account", of(f), fields))
	}
	shows := func(field string, want any, on ...*fake) {
		t.Helper()
		for _, f := range on {
			if got := f.holds("account", of(f))[field]; got != want {
				t.Errorf("%s shows %s = %v, want %v\n%s", f.name, field, got, want, w.tail())
			}
		}
	}
	w.netsuite.away()
	edit(w.salesforce, map[string]any{"street": "Kirchgasse 7"})
	w.minute()
	w.decide(id, true)
	for n := range 36 {
		industry, phone, tier := fmt.Sprint("industry ", n), fmt.Sprint("phone ", n), fmt.Sprint("tier ", n)
		edit(w.salesforce, map[string]any{"industry": industry})
		edit(w.zendesk, map[string]any{"phone": phone})
		edit(w.servicenow, map[string]any{"tier": tier})
		w.work() // no sweep is needed
		shows("industry", industry, w.zendesk, w.servicenow)
		shows("phone", phone, w.salesforce, w.servicenow)
		shows("tier", tier, w.salesforce, w.zendesk)
		if n == 7 { // a customer is won meanwhile
			w.push(w.salesforce.set("account", "new", map[string]any{"name": "Chop-suey", "taxId": "CHE123456788", "phone": "1"}))
			w.work()
		}
		for range 20 {
			w.minute()
		}
	}
	if ids := w.zendesk.ids("account"); len(ids) != 3 {
		t.Errorf("support knows %v, want the new customer too", ids)
	}
	due := 0
	for p, err := range w.ledger.DueFor(t.Context(), record.NetSuite) {
		if err != nil {
			t.Fatal(err)
		}
		due++
		if p.Record == id && w.clock.now().Sub(p.Since) < 6*time.Hour {
			t.Errorf("due since %s", p.Since)
		}
	}
	if due != 2 {
		t.Errorf("%d records are captured for the ERP, want 2", due)
	}
	w.nothingDead()
	w.netsuite.written()
	w.netsuite.back()
	w.clock.pass(30 * time.Minute)
	w.settle()
	w.netsuite.mu.Lock()
	byRecord := map[string]int{}
	for _, write := range w.netsuite.writes {
		byRecord[write.External]++
	}
	w.netsuite.mu.Unlock()
	won, _, err := w.ledger.Lookup(t.Context(), record.Ref{Platform: record.Salesforce, Object: "account", ID: "new"})
	if err != nil || len(byRecord) != 2 || byRecord[id.External()] != 1 || byRecord[won.External()] != 1 {
		t.Errorf("writes to the ERP: %v, want one for each of %s and %s (%v)", byRecord, id.External(), won.External(), err)
	}
	shows("industry", "industry 35", w.netsuite)
	shows("phone", "phone 35", w.netsuite)
	shows("street", "Kirchgasse 7", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
	w.netsuite.noDoubles(t)
	w.nothingDead()
	w.expectExceptions()
	w.audited()
}

// A support desk is away while an order is shipped and billed. Operators hear of it minutes after the first milestone that
// agents miss, and what they miss; nothing of the history is lost, and the trace of each milestone says when it arrived at last.
func TestSupportDeskAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoes()
	w.push(w.netsuite.set("customer", "107", customer("Vins", "1")), w.netsuite.set("salesOrder", "9001", order("B")))
	w.settle()
	w.zendesk.away()
	w.zendesk.written()
	w.clock.pass(time.Hour)
	began := w.clock.now()
	w.pushAs("milestone-D", w.netsuite.set("salesOrder", "9001", order("D")))
	w.work()
	ask := operate.New(operate.Deps{Ledger: w.ledger, Config: w.config, Telemetry: w.telemetry, Platforms: []string{record.Salesforce, record.Zendesk}, Now: w.clock.now})
	age := func() float64 { return w.telemetry.Snapshot().Gauges["DueOldestAge.zendesk"] }
	for age() <= ledger.LagTold.Seconds() {
		if status, err := ask.Status(t.Context()); err != nil || status.Platforms[1].Behind.Records != 1 || len(status.Concerns) != 0 {
			t.Errorf("too early for concern: %v, %+v, %v", status.Concerns, status.Platforms[1].Behind, err)
		}
		w.minute()
		if w.clock.now().Sub(began) > 4*time.Minute {
			t.Fatalf("after %s the oldest due work is said to be %v s old", w.clock.now().Sub(began), age())
		}
	}
	says := "people on zendesk see data of " + began.Format("15:04:05Z") + ": 1 waiting (1 order), the oldest, " + string(orderID)
	if !strings.Contains(w.log.String(), says) {
		t.Errorf("operators are not told %q:\n%s", says, w.tail())
	}
	status, err := ask.Status(t.Context())
	if err != nil || status.Healthy || !slices.ContainsFunc(status.Concerns, func(c string) bool { return strings.HasPrefix(c, says) }) {
		t.Errorf("concerns: %q, %v", status.Concerns, err)
	}
	for _, milestone := range []string{"E", "F", "G"} {
		w.clock.pass(10 * time.Minute)
		w.pushAs("milestone-"+milestone, w.netsuite.set("salesOrder", "9001", order(milestone)))
		w.minute()
	}
	if got := at(w.salesforce.state()["Order/"+orderID.External()], "ERP_Status__c"); got != "Billed" {
		t.Errorf("sales see %v", got)
	}
	w.nothingDead()
	w.zendesk.written()
	w.zendesk.back()
	w.clock.pass(30 * time.Minute)
	w.settle()
	if got := fmt.Sprint(w.zendesk.written()); got != "map[custom_object/order:1]" {
		t.Errorf("writes afterwards: %s", got)
	}
	if got := at(w.zendesk.state()["custom_object/order/"+orderID.External()], "custom_object_fields", "status"); got != "billed" {
		t.Errorf("agents see %v", got)
	}
	changes, err := w.ledger.Changes(t.Context(), orderID)
	if err != nil {
		t.Fatal(err)
	}
	for _, milestone := range []string{"D", "E", "F", "G"} {
		trace := "milestone-" + milestone
		if !slices.ContainsFunc(changes, func(c ledger.ChangeEntry) bool { return c.Field == "status" && c.Trace == trace }) {
			t.Errorf("the log has no %s", trace)
		}
		steps, err := w.ledger.Trace(t.Context(), trace)
		if err != nil || !slices.ContainsFunc(steps, func(s ledger.Step) bool {
			return s.Platform == record.Zendesk && s.Step == "written" && s.Detail == "late: missed there since "+began.Format(time.RFC3339)+", one write for 4"
		}) {
			t.Errorf("the trace of %s: %+v, %v", trace, steps, err)
		}
	}
	if status, err = ask.Status(t.Context()); err != nil || !status.Healthy || status.Platforms[1].Behind.Records != 0 {
		t.Errorf("afterwards: %q %+v", status.Concerns, err)
	}
	w.nothingDead()
	w.expectExceptions()
}

// The store is throttled, away, or loses its answers for as long as the receives of a message last. The messages come back;
// nothing becomes a dead letter and nobody is bothered.
func TestStoreAwayForAWhile(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]storetest.Fault{"throttled": storetest.Throttle, "away": storetest.FailBefore, "answers are lost": storetest.FailAfter} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echoes()
			story := w.story()
			w.store.Next = func(string, []store.Key) storetest.Fault { return kind }
			for _, n := range story {
				w.push(n)
			}
			for range 3 { // four of the five receives
				w.minute()
			}
			if n := w.writes(); n != 0 && kind != storetest.FailAfter {
				t.Errorf("%d writes without a commit", n)
			}
			w.store.Next = nil
			w.clock.pass(time.Minute)
			w.settle()
			w.checkEnd()
		})
	}
}
