package endtoend

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/boot"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/workflow"
	"sorrel/shared/zendesk"
)

// The process is killed in the middle of an activation, when NetSuite has made the customer and its answer was lost. The next
// one finds it: there is one customer, and it becomes active.
func TestActivationSurvivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "config"), config.FS); err != nil {
		t.Fatal(err)
	}
	w := startTwins(t)
	writeEndpoints(t, w, filepath.Join(dir, "twins.json"))
	p := child(t, dir)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the last process:\n%s", p.stderr)
		}
	})
	w.SendTo(p.url)
	account, err := w.Salesforce.Edit("Account", "", map[string]any{"Name": "Killed", "Tax_Id__c": vat(99, false), "BillingStreet": "Rue Royale 1", "BillingCity": "Lille", "BillingPostalCode": "59000", "BillingCountry": "FR"})
	if err != nil {
		t.Fatal(err)
	}
	w.Kits()[record.NetSuite].SetFaults(twin.Faults{LoseReply: 0.7, LatencyMS: 50})
	deal, err := w.Salesforce.Edit("Opportunity", "", map[string]any{"Name": "Killed", "AccountId": account, "StageName": "Closed Won", "CloseDate": "2026-11-30", "Amount": 5000})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*soon, "NetSuite has made the customer", func() error {
		if len(w.NetSuite.All("customer")) == 0 {
			return errors.New("it has none")
		}
		return nil
	})
	p.kill(t)
	w.Kits()[record.NetSuite].SetFaults(twin.Faults{})
	p = child(t, dir)
	w.SendTo(p.url)
	opportunity := ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: deal})
	var page flow.Listing
	eventually(t, 2*soon, "it is active", func() error {
		if err := p.ask("GET", "/v1/workflows?record="+url.QueryEscape(string(opportunity)), "", "", &page); err != nil {
			return err
		}
		page.Runs = slices.DeleteFunc(page.Runs, func(r flow.Head) bool { return r.Definition() != "activation" })
		if len(page.Runs) == 0 || page.Runs[0].State != workflow.Done {
			return fmt.Errorf("%+v", page.Runs)
		}
		return nil
	})
	all := w.NetSuite.All("customer")
	if len(all) != 1 || inside(all[0], "custentity_sorrel_activation") != "active" || inside(all[0], "creditHoldOverride.id") != "AUTO" || len(page.Runs) != 1 {
		t.Errorf("NetSuite has %v; %+v", all, page.Runs)
	}
	for _, got := range [][]map[string]any{w.Zendesk.All("organization"), w.ServiceNow.All("customer_account"), w.Salesforce.All("Account")} {
		if len(got) != 1 {
			t.Errorf("%d customers: %v", len(got), got)
		}
	}
}

// A definition changes while runs of it are open: they end as they began, and new ones run beside them as it is now.
func TestActivationOfTwoVersions(t *testing.T) {
	t.Parallel()
	newer := false
	open := embedded(t.TempDir())
	g := governed{stageWith(t, func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
		w, err := open(set, platforms, recorder)
		if err != nil || !newer {
			return w, err
		}
		var defs []workflow.Definition
		for _, entity := range set.Entities() {
			for _, d := range w.Book.Newest(entity) {
				if defs = append(defs, d); d.Name == "activation" {
					d.Version = 2
					d.Steps = append(slices.Clone(d.Steps), workflow.Step{Name: "greet", Do: func(workflow.Facts) workflow.Move { return workflow.Move{Done: true} }})
					defs = append(defs, d)
				}
			}
		}
		w.Book, err = workflow.NewBook(defs...)
		return w, err
	}, startTwins(t), ""), map[string]int{}}
	one, two := &tale{governed: g, name: "First"}, &tale{governed: g, name: "Second"}
	one.enters(map[string]any{"Tax_Id__c": vat(1, true)})
	one.wins()
	g.settle(soon)
	one.stands(one.deal, workflow.Running, "review")
	g.twins.SendTo("")
	g.halt()
	newer = true
	g.start()
	two.enters(map[string]any{"Tax_Id__c": vat(2, true)})
	two.wins()
	g.settle(soon)
	for _, x := range []*tale{one, two} {
		x.stands(x.deal, workflow.Running, "review")
		x.must(x.decides(true, "as they are", nil))
	}
	g.settle(soon)
	for version, x := range []*tale{one, two} {
		if r := x.stands(x.deal, workflow.Done, ""); r.Version != version+1 || len(r.Past) != 5+version {
			t.Errorf("%s: version %d in %d steps", x.name, r.Version, len(r.Past))
		}
		x.everywhere()
	}
	g.noTrouble()
}

// What cannot wait is told to whoever has the account, with what the ERP knows; payments lift a hold that nothing else keeps.
func TestEscalationsAndPayments(t *testing.T) {
	t.Parallel()
	g := governed{stageWith(t, embedded(t.TempDir()), startTwins(t), ""), map[string]int{}}
	const left = "005xx000001SgonAAC"
	load := func(number, name string) party {
		t.Helper()
		id := g.edit("customer", "", map[string]any{"entityId": number, "companyName": name, "currency": ref("4"), "creditHoldOverride": ref("ON")})
		g.settle(soon)
		c := party{minted("customer", "customer", id), map[string]string{record.NetSuite: id}}
		for p, object := range objects {
			if p != record.NetSuite {
				c.on[p] = nativeID(t, g.twins, p, object, c.id.External())
			}
		}
		return c
	}
	vip, plain := load("V-1", "Vips"), load("P-1", "Plain folk")
	won := &tale{governed: g, name: "Pending"}
	won.enters(map[string]any{"Tax_Id__c": vat(3, true)})
	won.wins()
	bill := func(customer, number string) string {
		return g.edit("invoice", "", map[string]any{"tranId": number, "entity": ref(customer), "tranDate": "2026-01-20", "dueDate": "2026-02-19", "currency": ref("4"), "total": 100})
	}
	first, second := bill(plain.on[record.NetSuite], "INV-1"), bill(plain.on[record.NetSuite], "INV-2")
	g.nextSecond()
	if _, err := g.twins.ServiceNow.Edit("customer_account", vip.on[record.ServiceNow], map[string]any{"u_support_tier": "vip"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.twins.Salesforce.Edit("Account", plain.on[record.Salesforce], map[string]any{"OwnerId": left}); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	if err := g.twins.Salesforce.Deactivate(left); err != nil {
		t.Fatal(err)
	}
	early := bill(g.record(won.customer()).Views[record.NetSuite].ID, "INV-3") // people bill a customer that is pending

	desk := func(fields map[string]any) record.ID {
		t.Helper()
		id, err := g.twins.Zendesk.Edit(zendesk.Ticket, "", fields)
		if err != nil {
			t.Fatal(err)
		}
		return ledger.Mint("case", record.Ref{Platform: record.Zendesk, Object: zendesk.Ticket, ID: id})
	}
	g.nextSecond()
	important := desk(map[string]any{"subject": "VIP", "status": "open", "priority": "high", "organization_id": vip.on[record.Zendesk]})
	ordinary := desk(map[string]any{"subject": "High, and no VIP", "status": "open", "priority": "high", "organization_id": plain.on[record.Zendesk]})
	stranger := desk(map[string]any{"subject": "Whose?", "status": "open", "priority": "urgent"})
	breached, err := g.twins.ServiceNow.Edit(servicenow.Case, "", map[string]any{"short_description": "Late", "state": "10", "priority": "4", "account": plain.on[record.ServiceNow]})
	if err != nil {
		t.Fatal(err)
	}
	late := ledger.Mint("case", record.Ref{Platform: record.ServiceNow, Object: servicenow.Case, ID: breached})
	g.settle(soon)
	before := g.writes(record.NetSuite)
	is := func(id record.ID, field, want string) {
		t.Helper()
		if got := g.record(id).Golden[field].Value; got.IsAbsent() && want != "" || !got.IsAbsent() && !strings.Contains(got.Raw(), want) || want == "" && !got.IsAbsent() && !got.IsNull() {
			t.Errorf("%s of %s is %s, want %q", field, id, got, want)
		}
	}
	ended := func(definition string, about record.ID, state workflow.State, step string) flow.Shown {
		t.Helper()
		r, some, err := g.world.Ledger.LatestRun(t.Context(), definition, about)
		if err != nil || !some || r.State != state || r.Step != step {
			t.Errorf("%s of %s: %+v %v %v", definition, about, r, some, err)
			return flow.Shown{}
		}
		shown, err := g.world.Workflow().Show(t.Context(), r.ID())
		if err != nil {
			t.Error(err)
		}
		return shown
	}
	is(important, "escalation", "escalated")
	is(important, "erpContext", "Customer V-1, credit hold on")
	ended("escalation", important, workflow.Done, "")
	is(ordinary, "escalation", "")
	is(stranger, "escalation", "escalated")
	is(stranger, "erpContext", "The case belongs to no known customer.")
	ended("escalation", stranger, workflow.Done, "")
	is(late, "escalation", "")
	if task, err := only(g.twins.Salesforce.All("Task"), "WhatId", vip.on[record.Salesforce]); err != nil || task["Subject"] != "Escalated: VIP" {
		t.Errorf("%v %v", task, err)
	}

	g.nextSecond()
	if _, err := g.twins.ServiceNow.Edit(servicenow.Case, breached, map[string]any{"u_sla_breached": "true"}); err != nil {
		t.Fatal(err)
	}
	for _, invoice := range []string{first, early} {
		if err := g.twins.NetSuite.Pay(invoice, ""); err != nil {
			t.Fatal(err)
		}
	}
	g.settle(soon)
	is(late, "escalation", "escalated")
	is(late, "erpContext", "Open invoices: ")
	ended("escalation", late, workflow.Done, "") // its owner has left, and the task is there all the same
	if task, err := only(g.twins.Salesforce.All("Task"), "WhatId", plain.on[record.Salesforce]); err != nil || task["OwnerId"] == left {
		t.Errorf("%v %v", task, err)
	}
	is(plain.id, "creditHold", "on")
	if r := ended("payment", minted("invoice", "invoice", first), workflow.Running, "hold"); r.Wait != "the customer's balance, which keeps the credit hold" {
		t.Errorf("it waits for %q", r.Wait)
	}
	is(won.customer(), "creditHold", "on")
	ended("payment", minted("invoice", "invoice", early), workflow.Done, "")
	if n := g.writes(record.NetSuite) - before; n > 0 {
		t.Errorf("%d writes to NetSuite", n)
	}
	g.nextSecond()
	if err := g.twins.NetSuite.Pay(second, ""); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	for _, invoice := range []string{first, second} {
		ended("payment", minted("invoice", "invoice", invoice), workflow.Done, "")
	}
	is(plain.id, "creditHold", "auto")
	is(vip.id, "creditHold", "on")
	won.stands(won.deal, workflow.Running, "review")
	g.expectTroubles("refused-write salesforce owner")
}
