package endtoend

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/workflow"
)

const contractObject = "customrecord_sorrel_contract"

// serviceContract is a contract as people enter it in NetSuite.
func serviceContract(customer, number, status, tier, ends string) map[string]any {
	return map[string]any{"name": number, "custrecord_sorrel_contract_customer": map[string]any{"id": customer}, "custrecord_sorrel_contract_status": map[string]any{"refName": status},
		"custrecord_sorrel_contract_tier": map[string]any{"refName": tier}, "custrecord_sorrel_contract_starts": "2026-01-01", "custrecord_sorrel_contract_ends": ends}
}

// A case is marked with what service its customer is owed, on both desks and in Salesforce: by what the ERP says at that moment,
// by what is known where it does not answer, and again whenever it says otherwise, as long as the case is open. What changes
// nothing writes nothing.
func TestEntitlementOfCases(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the clock
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	dir := t.TempDir()
	g := governed{stageWith(t, func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
		l := set.Lookups()
		l.Uses = map[string]policy.Use{policy.UseEntitlements: {MaxAge: time.Millisecond, OwnerDown: policy.AnswerStale}} // who asks wants to know it now
		return boot.EmbeddedAt(now, dir, set.WithLookups(l), platforms, recorder)
	}, startTwins(t), ""), map[string]int{}}
	owed, other := g.customer(ernst()), g.customer(map[string]any{"entityId": "HANDE", "companyName": "Handel & Sohn", "phone": "0316 998877", "addressBook": billingIn("Am Hafen 2", "Linz", "4020", "AT")})
	paper := g.edit(contractObject, "", serviceContract(owed.on[record.NetSuite], "CON-1", "Active", "Premium", "2099-12-31"))
	g.settle(soon)
	type opened struct {
		desk
		id string
		is record.ID
	}
	open := func(d desk, of party) opened {
		id := g.onDesk(d, "", d.opened(of.on[d.platform]))
		return opened{d, id, ledger.Mint("case", record.Ref{Platform: d.platform, Object: d.object, ID: id})}
	}
	marks := map[string]map[string]string{ // as the desks and Salesforce write a tier
		"none":    {record.Zendesk: "entitled_none", record.ServiceNow: "none", record.Salesforce: "None"},
		"premium": {record.Zendesk: "entitled_premium", record.ServiceNow: "premium", record.Salesforce: "Premium"},
		"vip":     {record.Zendesk: "entitled_vip", record.ServiceNow: "vip", record.Salesforce: "VIP"},
	}
	marked := func(o opened, tier, until, reason string) error {
		got := o.holds(g.twins, o.id, "u_entitled_tier") + " " + o.holds(g.twins, o.id, "u_entitled_until") + " " + o.holds(g.twins, o.id, "u_entitlement_reason")
		if want := marks[tier][o.platform] + " " + until + " "; !strings.HasPrefix(got, want) || !strings.Contains(got, reason) {
			return fmt.Errorf("the case in %s says %q, want %q and %q", o.platform, got, want, reason)
		}
		return g.caseDiffers(o.is, map[string]string{"Entitled_Tier__c": marks[tier][record.Salesforce], "Entitled_Until__c": until})
	}
	shows := func(o opened, tier, until, reason string) {
		t.Helper()
		if err := marked(o, tier, until, reason); err != nil {
			t.Error(err)
		}
	}
	var cases []opened
	for _, d := range desks() {
		o := open(d, owed)
		start := time.Now()
		g.eventually(soon, "the mark", func() error {
			return marked(o, "premium", "2099-12-31", "Owed premium service by contract CON-1, last day 2099-12-31.")
		})
		t.Logf("marked in %s after %s", d.platform, time.Since(start).Round(time.Millisecond))
		cases = append(cases, o)
	}
	stranger := open(desks()[0], other)
	g.settle(soon)
	shows(stranger, "none", "", "Not owed: there is no contract.")

	// Nothing that matters has changed.
	g.person(record.NetSuite, owed.on[record.NetSuite], map[string]any{"terms": map[string]any{"id": "2"}})
	g.settle(soon)
	for _, o := range cases {
		if n := g.twins.Kits()[o.platform].Stats().WritesTo[o.object+"/"+o.id]; n > 3 {
			t.Errorf("%d writes to the case in %s", n, o.platform)
		}
	}
	touched := func() (n int) {
		for _, o := range append([]opened{stranger}, cases...) {
			n += g.twins.Kits()[o.platform].Stats().WritesTo[o.object+"/"+o.id]
		}
		return n
	}
	before := touched()
	g.person(record.NetSuite, owed.on[record.NetSuite], map[string]any{"phone": "0316 1"})
	g.settle(soon)
	if n := touched() - before; n > 0 {
		t.Errorf("%d writes to cases although nothing about them has changed", n)
	}

	// The ERP's word at that moment counts, before any event told it.
	g.faults(record.NetSuite, twin.Faults{DropWebhooks: 1})
	g.nextSecond()
	g.edit(contractObject, paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Cancelled"}})
	fresh := open(desks()[0], owed)
	g.settle(soon)
	shows(fresh, "none", "", "Not owed: there is no contract.")
	for _, o := range cases { // and what was read there corrects those that were open
		shows(o, "none", "", "Not owed: there is no contract.")
	}

	// By event: a credit hold, a solved case that keeps its mark, a new contract of another customer.
	g.faults(record.NetSuite, twin.Faults{})
	g.nextSecond()
	g.edit(contractObject, paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Active"}, "custrecord_sorrel_contract_tier": map[string]any{"refName": "VIP"}})
	g.settle(soon)
	for _, o := range append([]opened{fresh}, cases...) {
		shows(o, "vip", "2099-12-31", "Owed vip service by contract CON-1")
	}
	g.onDesk(cases[0].desk, cases[0].id, cases[0].solved)
	g.settle(soon)
	g.person(record.NetSuite, owed.on[record.NetSuite], map[string]any{"creditHoldOverride": map[string]any{"id": "ON"}})
	g.edit(contractObject, "", serviceContract(other.on[record.NetSuite], "CON-2", "Active", "Premium", "2099-06-30"))
	g.settle(soon)
	shows(cases[0], "vip", "2099-12-31", "Owed vip")
	for _, o := range []opened{cases[1], fresh} {
		shows(o, "none", "", "credit hold")
	}
	shows(stranger, "premium", "2099-06-30", "CON-2")

	// A contract moves to another customer: both hear of it.
	g.nextSecond()
	g.edit(contractObject, paper, map[string]any{"custrecord_sorrel_contract_customer": map[string]any{"id": other.on[record.NetSuite]}})
	g.settle(soon)
	shows(cases[1], "none", "", "there is no contract")
	shows(stranger, "vip", "2099-12-31", "CON-1")
	for _, o := range cases {
		want := map[bool]workflow.State{true: workflow.Done, false: workflow.Running}[o.is == cases[0].is]
		if r, some, err := g.world.Ledger.LatestRun(t.Context(), "entitlement", o.is); err != nil || !some || r.State != want || r.Number != 1 {
			t.Errorf("the run of %s: %+v %v %v", o.is, r, some, err)
		}
	}

	// It is down: what is known is told, and as of when. Back again, it is asked once more.
	g.faults(record.NetSuite, twin.Faults{Outage: true, DropWebhooks: 1})
	blind := open(desks()[1], other)
	start := time.Now()
	g.eventually(soon, "the mark", func() error { return marked(blind, "vip", "2099-12-31", ": the owner could not be asked.") })
	t.Logf("marked without the ERP after %s", time.Since(start).Round(time.Millisecond))
	g.settle(soon)
	g.nextSecond()
	g.edit(contractObject, paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Expired"}})
	g.faults(record.NetSuite, twin.Faults{DropWebhooks: 1})
	jumped := time.Time{}
	g.eventually(soon, "all say so", func() error { // one reading tries whether it is back; the others are asked the next time
		if time.Since(jumped) > time.Second {
			ahead.Add(int64(3 * time.Minute))
			jumped = time.Now()
		}
		if err := marked(blind, "premium", "2099-06-30", "Owed premium service by contract CON-2, last day 2099-06-30."); err != nil {
			return err
		}
		if got := blind.holds(g.twins, blind.id, "u_entitlement_reason"); strings.Contains(got, "could not be asked") {
			return fmt.Errorf("the mark still says %q", got)
		}
		return marked(stranger, "premium", "2099-06-30", "CON-2")
	})
	g.settle(soon)
	g.noTrouble()
}
