package process

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

const (
	deal    = record.ID("opportunity/d1")
	other   = record.ID("opportunity/d2")
	account = record.ID("customer/c1")
)

// world is an account with its opportunities, and a NetSuite that does what it is told when it is asked to.
type world struct {
	t       testing.TB
	defs    map[string]workflow.Definition
	records map[record.ID]record.Record
	runs    map[record.ID]workflow.Run
	says    []string
	now     time.Time
	down    bool   // NetSuite does nothing
	refuses string // a field that it does not take
	made    int    // customers that were made there
	rules   record.Rules
	set     map[string]bool // entity.field that was set
}

func newWorld(t testing.TB) *world {
	a := activation{remind: []time.Duration{day, 3 * day}, expire: 14 * day}
	w := &world{t: t, defs: map[string]workflow.Definition{}, records: map[record.ID]record.Record{}, runs: map[record.ID]workflow.Run{}, now: start, set: map[string]bool{}, rules: record.Rules{Fields: map[string]record.Rule{}}}
	for _, d := range []workflow.Definition{a.definition(), reopening()} {
		w.defs[d.Name] = d
	}
	for _, f := range []string{"creditHold", "taxId", "billingAddress.street", "billingAddress.city", "billingAddress.postalCode", "billingAddress.country"} {
		w.rules.Fields[f] = record.Rule{Kind: record.Owner, Owner: record.NetSuite}
	}
	w.put(account, record.Salesforce, "name", "Alfreds", "taxId", "FR40303265045", "billingAddress.street", "Rue 1", "billingAddress.city", "Paris", "billingAddress.postalCode", "75001", "billingAddress.country", "France")
	w.put(deal, record.Salesforce, "name", "Big", "stage", "negotiation", "customer", string(account))
	return w
}

// put gives a record golden texts.
func (w *world) put(id record.ID, platform string, pairs ...string) {
	r := w.records[id].Clone()
	r.ID = id
	if platform != "" {
		v := r.Views[platform]
		v.Ref = record.Ref{Platform: platform, Object: id.Entity(), ID: string(id)}
		v.Born = record.Version{At: start}
		r.Views[platform] = v
	}
	r.Golden = maps.Clone(r.Golden)
	if r.Golden == nil {
		r.Golden = map[string]record.Golden{}
	}
	for i := 0; i < len(pairs); i += 2 {
		v := record.TextValue(pairs[i+1])
		if pairs[i+1] == "" {
			v = record.NullValue()
		}
		r.Golden[pairs[i]] = record.Golden{Value: v}
	}
	w.records[id] = r
}

func (w *world) text(id record.ID, field string) string { return text(w.records[id], field) }

// wants reports whether NetSuite is still to be told something, by the shipped policy's words.
func (w *world) wants(c record.Record) bool {
	v, exists := c.Views[record.NetSuite]
	state := text(c, "activation")
	switch {
	case !exists:
		return (state == pending || state == active) && w.refuses != "name"
	case v.Made && state == rejected:
		return true
	}
	for f := range w.rules.Fields {
		if _, asks := c.Asked(f); asks && w.refuses != f {
			return true
		}
	}
	return c.Views[record.NetSuite].External != record.ID("customer/"+state) && v.Made
}

// netsuite does what is due there.
func (w *world) netsuite() {
	c := w.records[account]
	if _, asks := c.Asked(w.refuses); !w.down && (asks || w.refuses == "name" && text(c, "activation") == pending) {
		c.Held = map[string]record.Hold{record.HoldKey(record.NetSuite, w.refuses): {Detail: "invalid"}}
		w.records[account] = c
	}
	if w.down || !w.wants(c) {
		return
	}
	c = c.Clone()
	v, exists := c.Views[record.NetSuite]
	state := text(c, "activation")
	switch {
	case exists && v.Made && state == rejected:
		delete(c.Views, record.NetSuite)
		w.records[account] = c
		w.put(account, "", "number", "", "creditHold", "")
		return
	case !exists:
		w.made++
		v = record.View{Ref: record.Ref{Platform: record.NetSuite, Object: "customer", ID: strconv.Itoa(w.made)}, Made: true, Born: record.Version{At: w.now}}
	}
	v.External = record.ID("customer/" + state) // what it was told last
	c.Views[record.NetSuite] = v
	var told []string
	left := maps.Clone(c.Proposals)
	for f := range w.rules.Fields {
		if ask, asks := c.Asked(f); asks && f != w.refuses {
			told = append(told, f, ask.Raw())
			delete(left, record.ProposalKey(record.Sorrel, f))
		}
	}
	c.Proposals = left
	w.records[account] = c
	w.put(account, "", append(told, "number", "CUST-"+v.ID)...)
}

func (w *world) facts(d workflow.Definition, r workflow.Run, id record.ID) workflow.Facts {
	f := workflow.Facts{Run: r, Subject: w.records[id], Others: map[string]record.Record{}, Due: map[record.ID][]string{}, Now: w.now}
	if w.wants(w.records[account]) {
		f.Due[account] = []string{record.NetSuite}
	}
	for range 3 {
		for name, id := range d.Needs(f) {
			if r, some := w.records[id]; some {
				f.Others[name] = r
			}
		}
	}
	return f
}

// work lets runs begin and move until nothing does.
func (w *world) work() {
	w.t.Helper()
	for range 100 {
		w.netsuite()
		moved := false
		for _, id := range slices.Sorted(maps.Keys(w.records)) {
			if id.Entity() != "opportunity" {
				continue
			}
			for _, name := range []string{"activation", "reopening"} {
				d := w.defs[name]
				if d.Needs == nil {
					d.Needs = func(workflow.Facts) map[string]record.ID { return nil }
				}
				key := id + record.ID("|"+name)
				r, some := w.runs[key]
				if !some || r.State.Ended() {
					if !d.Starts(w.facts(d, r, id)) {
						continue
					}
					r = d.Begin(id, r.Number+1, "t", w.now)
					moved = true
				}
				next, out := d.Advance(r, w.facts(d, r, id))
				w.runs[key] = next
				w.bring(out)
				moved = moved || !out.Quiet()
			}
		}
		if !moved && !w.wants(w.records[account]) || w.down && !moved {
			return
		}
	}
	w.t.Fatalf("it does not come to rest: %+v %+v %+v", w.records[account], w.run(deal), w.run(other))
}

// bring commits what a run sets and says.
func (w *world) bring(out workflow.Outcome) {
	for _, s := range out.Set {
		w.set[s.Record.Entity()+"."+s.Field] = true
		r := w.records[s.Record]
		if asked, _, owned := r.Ask(w.rules, record.Request{Field: s.Field, Value: s.Value}, w.now); owned {
			if s.Value.IsAbsent() {
				asked.Proposals = maps.Clone(asked.Proposals)
				delete(asked.Proposals, record.ProposalKey(record.Sorrel, s.Field))
			}
			w.records[s.Record] = asked
			continue
		}
		w.put(s.Record, "", s.Field, s.Value.Raw())
		r = w.records[s.Record]
		r.Assigned = maps.Clone(r.Assigned)
		if r.Assigned == nil {
			r.Assigned = map[string]record.Assigned{}
		}
		r.Assigned[s.Field] = record.Assigned{Value: s.Value}
		w.records[s.Record] = r
	}
	for _, s := range out.Say {
		if w.says = append(w.says, s.What); !slices.Contains(Says(), s.What) {
			w.t.Errorf("%s is no business event that anybody may be told of", s.What)
		}
	}
}

func (w *world) run(id record.ID) workflow.Run { return w.runs[id+"|activation"] }

func (w *world) act(id record.ID, a workflow.Act) error {
	a.Now = w.now
	r, out, err := w.defs["activation"].Take(w.run(id), a)
	if err == nil {
		w.runs[id+"|activation"] = r
		w.bring(out)
	}
	w.work()
	return err
}

func (w *world) decide(id record.ID, approve bool, correct ...string) {
	w.t.Helper()
	if err := w.act(id, workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{Approve: approve, Reason: "so", Correct: keep(correct...)}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wins(id record.ID) {
	w.put(id, "", "stage", "closed-won")
	w.work()
}

// stands checks where everything is.
func (w *world) stands(id record.ID, state workflow.State, activation string, inERP bool) {
	w.t.Helper()
	c := w.records[account]
	v, exists := c.Views[record.NetSuite]
	if r := w.run(id); r.State != state || text(c, "activation") != activation || exists != inERP || exists && text(c, "number") != "CUST-"+v.ID {
		w.t.Fatalf("activation %q, in NetSuite %v, number %q; %+v", text(c, "activation"), exists, text(c, "number"), r)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wins(deal)
	w.stands(deal, workflow.Done, active, true)
	if w.text(account, "creditHold") != "auto" || w.text(deal, "activationStatus") != active || w.text(account, "activationNote") != "" || w.made != 1 || !slices.Equal(w.says, []string{"customer.activated"}) {
		t.Errorf("hold %q, status %q, note %q, said %v", w.text(account, "creditHold"), w.text(deal, "activationStatus"), w.text(account, "activationNote"), w.says)
	}
	w.put(deal, "", "amount", "7") // an edit afterwards starts nothing
	w.work()
	w.put(deal, "", "stage", "closed-lost")
	w.work()
	w.stands(deal, workflow.Done, active, true)
	if w.run(deal).Number != 1 || w.made != 1 {
		t.Errorf("%+v", w.run(deal))
	}
}

func TestPendingIsOnHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "FR00000000000")
	w.wins(deal)
	w.stands(deal, workflow.Running, pending, true)
	r := w.run(deal)
	if w.text(account, "creditHold") != "on" || r.Ask == nil || !strings.Contains(r.Ask.Reasons[0], "tax number") || r.Ask.May["taxId"] != "FR00000000000" || w.text(deal, "activationStatus") != review {
		t.Fatalf("hold %q, status %q, %+v", w.text(account, "creditHold"), w.text(deal, "activationStatus"), r)
	}
	w.decide(deal, true, "taxId", "not a number") // nonsense is asked about again
	if r = w.run(deal); r.Ask == nil || !strings.Contains(r.Ask.Reasons[0], "the correction of taxId is not usable") || w.text(account, "taxId") != "FR00000000000" {
		t.Fatalf("%q, %+v", w.text(account, "taxId"), r)
	}
	w.decide(deal, true, "taxId", "FR40303265045")
	w.stands(deal, workflow.Done, active, true)
	if w.text(account, "taxId") != "FR40303265045" || w.text(account, "creditHold") != "auto" {
		t.Errorf("%q, hold %q", w.text(account, "taxId"), w.text(account, "creditHold"))
	}
}

// What finance accepts is not asked again; what is found later is.
func TestAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "")
	w.wins(deal)
	w.down = true
	w.decide(deal, true, "billingAddress.country", "Switzerland")
	w.stands(deal, workflow.Running, pending, true)
	if r := w.run(deal); !strings.Contains(r.Wait, "corrections") {
		t.Fatalf("%+v", r)
	}
	w.down = false
	w.put(account, "", "billingAddress.city", "") // somebody took it away meanwhile
	w.work()
	if r := w.run(deal); r.Ask == nil || !slices.Equal(r.Ask.Reasons, []string{"the billing address has no city"}) {
		t.Fatalf("%+v", r.Ask)
	}
	w.decide(deal, true)
	w.stands(deal, workflow.Done, active, true)
}

func TestNetSuiteRefusesTheCorrection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "")
	w.wins(deal)
	w.refuses = "taxId"
	w.decide(deal, true, "taxId", "FR40303265045")
	if r := w.run(deal); r.Ask == nil || !strings.Contains(strings.Join(r.Ask.Reasons, ";"), "NetSuite refuses taxId: invalid") {
		t.Fatalf("%+v", r)
	}
	w.decide(deal, false)
	w.stands(deal, workflow.Undone, rejected, false)
}

func TestRejectedAndWonAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "")
	w.wins(deal)
	w.decide(deal, false)
	w.stands(deal, workflow.Undone, rejected, false)
	if w.text(deal, "activationStatus") != rejected || !strings.Contains(w.text(account, "activationNote"), "rejected by fiona: so") || w.text(account, "activationFor") != "" || len(w.records[account].Proposals) > 0 {
		t.Errorf("%+v", w.records[account])
	}
	w.put(deal, "", "stage", "negotiation")
	w.work()
	if w.text(deal, "activationStatus") != "" || w.run(deal).Number != 1 {
		t.Fatalf("%q, %+v", w.text(deal, "activationStatus"), w.run(deal))
	}
	w.put(account, "", "taxId", "FR40303265045")
	w.wins(deal)
	w.stands(deal, workflow.Done, active, true)
	if w.made != 2 || w.run(deal).Number != 2 {
		t.Errorf("made %d, %+v", w.made, w.run(deal))
	}
}

// NetSuite does not let go of the customer: people have to look, and what they do leads out. The reason that sales reads stays.
func TestRefusedWithdrawal(t *testing.T) {
	t.Parallel()
	for _, do := range []string{workflow.Retry, workflow.Skip} {
		w := newWorld(t)
		w.put(account, "", "taxId", "")
		w.wins(deal)
		w.down = true
		w.decide(deal, false)
		hold := func(h map[string]record.Hold) {
			c := w.records[account]
			c.Held = h
			w.records[account] = c
		}
		hold(map[string]record.Hold{record.HoldKey(record.NetSuite, record.Whole): {Detail: "it has orders"}})
		w.work()
		w.stands(deal, workflow.Stuck, rejected, true)
		if r := w.run(deal); !strings.Contains(r.Reason, "NetSuite refuses to delete the customer: it has orders.") {
			t.Errorf("%q", r.Reason)
		}
		if do == workflow.Retry {
			hold(nil)
			w.down = false
		}
		if err := w.act(deal, workflow.Act{Do: do, By: "stewart", Reason: "the orders stay"}); err != nil {
			t.Fatal(err)
		}
		w.stands(deal, workflow.Undone, rejected, do == workflow.Skip)
		if r := w.run(deal); r.Reason != "rejected by fiona: so" || w.text(deal, "activationStatus") != rejected || w.text(account, "activationNote") != r.Reason {
			t.Errorf("%q, %q, %q", r.Reason, w.text(deal, "activationStatus"), w.text(account, "activationNote"))
		}
	}
}

// The account turns out to be a customer that people have made in NetSuite: nothing of it is taken back, nor changed.
func TestBecomesACustomerOfNetSuites(t *testing.T) {
	t.Parallel()
	for _, reopened := range []bool{false, true} {
		w := newWorld(t)
		w.down = true
		w.wins(deal)
		w.stands(deal, workflow.Running, pending, false)
		w.put(account, record.NetSuite, "number", "CUST-"+string(account))
		if reopened {
			w.put(deal, "", "stage", "negotiation")
		}
		w.work()
		c := w.records[account]
		if r := w.run(deal); !r.State.Ended() || w.text(account, "activation") != "" || w.text(account, "activationFor") != "" || len(c.Proposals) > 0 || !c.Views[record.NetSuite].Exists() {
			t.Errorf("%+v %+v", r, c)
		}
	}
}

func TestReopenedWhilePending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "")
	w.wins(deal)
	w.down = true
	w.put(deal, "", "stage", "negotiation")
	w.work()
	w.stands(deal, workflow.Undoing, rejected, true)
	w.put(deal, "", "stage", "closed-won") // won again before it is undone
	w.work()
	w.down = false
	w.put(account, "", "taxId", "FR40303265045")
	w.work()
	w.stands(deal, workflow.Done, active, true)
	if w.run(deal).Number != 2 || w.made != 2 {
		t.Errorf("made %d, %+v", w.made, w.run(deal))
	}
}

func TestWithoutAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(deal, "", "customer", "")
	w.wins(deal)
	if r := w.run(deal); r.State != workflow.Running || r.Wait != "an account on the opportunity" || w.text(deal, "activationStatus") != waiting {
		t.Fatalf("%+v", r)
	}
	w.put(deal, "", "customer", string(account))
	w.work()
	w.stands(deal, workflow.Done, active, true)
}

func TestOddAccounts(t *testing.T) {
	t.Parallel()
	gone := func(w *world, platform string) {
		c := w.records[account].Clone()
		v := c.Views[platform]
		v.Died = record.Version{At: w.now.Add(time.Hour)}
		c.Views[platform] = v
		w.records[account] = c
	}
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		gone(w, record.Salesforce)
		w.wins(deal)
		w.stands(deal, workflow.Undone, "", false)
		if w.text(deal, "activationNote") != "the account was deleted" {
			t.Errorf("%q", w.text(deal, "activationNote"))
		}
	})
	t.Run("deleted in NetSuite", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.put(account, "", "taxId", "")
		w.wins(deal)
		gone(w, record.NetSuite)
		w.work()
		if r := w.run(deal); r.State != workflow.Undone || r.Reason != "the customer was deleted in NetSuite" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a customer already", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.put(account, record.NetSuite, "number", "C-1")
		w.wins(deal)
		if r := w.run(deal); r.Number != 0 || len(w.set) > 0 {
			t.Errorf("%+v, set %v", r, w.set)
		}
	})
	t.Run("another one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.put(account, "", "taxId", "")
		w.wins(deal)
		w.put("customer/c2", record.Salesforce, "name", "Other")
		w.put(deal, "", "customer", "customer/c2")
		w.down = true // there is one NetSuite, for the first
		w.work()
		w.down = false
		w.work()
		if v, exists := w.records[account].Views[record.NetSuite]; exists {
			t.Errorf("left: %+v", v)
		}
		if r := w.run(deal); r.Number != 2 || r.State != workflow.Running || w.text("customer/c2", "activation") != pending {
			t.Errorf("%+v", r)
		}
	})
}

// Two opportunities of an account are won: one activates it, the other waits, and goes on if the first is rejected.
func TestWonTwice(t *testing.T) {
	t.Parallel()
	for _, approve := range []bool{true, false} {
		w := newWorld(t)
		w.put(account, "", "taxId", "")
		w.put(other, record.Salesforce, "name", "Small", "stage", "closed-won", "customer", string(account))
		w.wins(deal)
		first, second := deal, other
		if w.text(account, "activationFor") == string(other) {
			first, second = other, deal
		}
		if r := w.run(second); !strings.Contains(r.Wait, string(first)) {
			t.Fatalf("%+v", r)
		}
		w.decide(first, approve)
		if approve {
			w.stands(first, workflow.Done, active, true)
			w.stands(second, workflow.Done, active, true)
		} else {
			w.stands(second, workflow.Running, pending, true)
		}
		if w.made != map[bool]int{true: 1, false: 2}[approve] {
			t.Errorf("made %d", w.made)
		}
	}
}

func TestNetSuiteRefusesTheCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refuses = "name"
	w.wins(deal)
	w.stands(deal, workflow.Undone, rejected, false)
	if !strings.Contains(w.text(account, "activationNote"), "name: invalid") {
		t.Errorf("%q", w.text(account, "activationNote"))
	}
}

func TestNobodyDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(account, "", "taxId", "")
	w.wins(deal)
	for !w.run(deal).Look.IsZero() && w.run(deal).State == workflow.Running {
		w.now = w.run(deal).Look
		w.work()
	}
	w.stands(deal, workflow.Undone, rejected, false)
	if took := w.now.Sub(start); took != 14*day || !slices.Equal(w.says, []string{"approval.requested", "workflow.reminder", "workflow.escalation", "customer.rejected"}) {
		t.Errorf("after %v: %v", took, w.says)
	}
	if err := w.act(deal, workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{Approve: true}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("too late: %v", err)
	}
}

// TestLaws: whatever people do, and whenever NetSuite is away, in the end there is one customer if an opportunity is active,
// and no trace of one if none is.
func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.put(other, record.Salesforce, "name", "Small", "stage", "negotiation", "customer", string(account))
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			id := rapid.SampledFrom([]record.ID{deal, other}).Draw(rt, "which")
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0, 1:
				w.put(id, "", "stage", rapid.SampledFrom([]string{"closed-won", "negotiation"}).Draw(rt, "stage"))
			case 2:
				w.put(account, "", "taxId", rapid.SampledFrom([]string{"", "FR40303265045", "nonsense"}).Draw(rt, "taxId"))
			case 3:
				w.down = !w.down
			case 4:
				_ = w.act(id, workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{Approve: rapid.Bool().Draw(rt, "approve"), Reason: "so"}})
			case 5:
				_ = w.act(id, workflow.Act{Do: workflow.Cancel, By: "frank", Reason: "so"})
			case 6:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 100).Draw(rt, "hours")) * time.Hour)
			}
			if rapid.Bool().Draw(rt, "work") {
				w.work()
			}
		}
		w.down = false
		w.work()
		c := w.records[account]
		_, exists := c.Views[record.NetSuite]
		open := 0
		for _, id := range []record.ID{deal, other} {
			if r := w.run(id); r.Number > 0 && !r.State.Ended() {
				open++
			}
		}
		switch state := text(c, "activation"); {
		case state == active && (!exists || text(c, "creditHold") == "on"), (state == rejected || state == "") && (exists || open > 1), state == pending && (!exists || open == 0):
			rt.Fatalf("activation %q, in NetSuite %v, %d open; %+v; %+v", state, exists, open, w.run(deal), w.run(other))
		}
	})
}
