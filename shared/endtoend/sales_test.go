package endtoend

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/salesforce/salesforcetwin"
)

// An opportunity is heard of and copied nowhere: with and without an account, with another one, won and reopened. Only how far
// the activation has come is written, and what somebody makes of that is put back. It goes with its account, and comes back with it.
func TestOpportunities(t *testing.T) {
	g := governedStage(t, nil)
	one, two := g.pair()
	save := func(id string, fields map[string]any) string {
		t.Helper()
		g.nextSecond()
		id, err := g.twins.Salesforce.Edit("Opportunity", id, fields)
		if err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
		return id
	}
	native := save("", map[string]any{"Name": "Spring assortment", "StageName": "Prospecting", "CloseDate": "2026-11-30", "Amount": 48250.5, "Currency__c": "EUR"})
	id := ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: native})
	says := func(want map[string]string) {
		t.Helper()
		r := g.record(id)
		for field, v := range want {
			if got := r.Golden[field].Value.String(); got != v {
				t.Errorf("%s is %s, want %s", field, got, v)
			}
		}
	}
	text := func(s string) string { return record.TextValue(s).String() }
	says(map[string]string{"name": text("Spring assortment"), "stage": text("prospecting"), "customer": record.NullValue().String(), "probability": "10", "owner": text("005xx000001SwiPAAS")})
	for _, p := range []party{one, two} { // sales found out whose it is, and then that it is somebody else's
		save(native, map[string]any{"AccountId": p.on[record.Salesforce]})
		says(map[string]string{"customer": text(string(p.id))})
	}
	save(native, map[string]any{"StageName": "Verbal yes"})
	g.expectTroubles("unknown-picklist salesforce stage")
	says(map[string]string{"stage": text("prospecting")})
	save(native, map[string]any{"StageName": "Closed Won"})
	says(map[string]string{"stage": text("closed-won"), "probability": "100", "amount": "48250.5", "currency": text("EUR")})
	save(native, map[string]any{"StageName": "Negotiation/Review"})
	says(map[string]string{"stage": text("negotiation")})
	g.noTrouble()
	g.wrote("")

	for field, value := range map[string]string{"activationStatus": "review", "activationNote": "Finance looks at the tax number"} {
		if _, err := g.world.Steward().Assign(t.Context(), g.who("stewart@northwind.example"), id, field, record.TextValue(value)); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	g.wrote("salesforce 2")
	save(native, map[string]any{"Sorrel_Status__c": "Active", "NextStep": "Wait for finance"})
	g.wrote("salesforce 1")
	shown, _ := g.twins.Salesforce.Get("Opportunity", native)
	if shown["Sorrel_Status__c"] != "Review" || shown["Sorrel_Note__c"] != "Finance looks at the tax number" || shown["NextStep"] != "Wait for finance" || shown["Sorrel_Id__c"] != id.External() {
		t.Errorf("Salesforce shows %v", shown)
	}

	g.nextSecond()
	if err := g.twins.Salesforce.Merge("Account", one.on[record.Salesforce], two.on[record.Salesforce]); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	customer := g.record(id).Golden["customer"].Value
	if s, err := g.world.Ledger.Follow(t.Context(), record.ID(customer.Raw())); err != nil || !slices.Contains([]record.ID{one.id, two.id}, s.Record.ID) {
		t.Errorf("after the merge of accounts it belongs to %s (%v)", customer, err)
	}
	if err := g.twins.Salesforce.Delete("Account", one.on[record.Salesforce]); err != nil {
		t.Fatal(err)
	}
	goes := func(gone bool) {
		t.Helper()
		g.eventually(soon, "the opportunity follows its account", func() error {
			if v := g.record(id).Views[record.Salesforce]; v.Gone() != gone {
				return fmt.Errorf("gone: %v", v.Gone())
			}
			return nil
		})
	}
	goes(true)
	g.nextSecond()
	if err := g.twins.Salesforce.Undelete("Account", one.on[record.Salesforce]); err != nil {
		t.Fatal(err)
	}
	goes(false)
	g.settle(soon)
	says(map[string]string{"stage": text("negotiation"), "activationStatus": text("review")})
}

// assign does what a workflow does: it gives fields of a record values, and makes the record if there is none.
func (g governed) assign(id record.ID, fields map[string]string) {
	g.Helper()
	before, err := g.world.Ledger.Follow(g.Context(), id)
	if err != nil {
		g.Fatal(err)
	}
	after := before.Clone()
	now := time.Now().UTC()
	if after.Record.Assigned == nil {
		after.Record.Assigned = map[string]record.Assigned{}
	}
	for f, v := range fields {
		after.Record.Assigned[f] = record.Assigned{Value: record.TextValue(v), When: now, By: "escalation/case/1/1", Trace: "T1"}
	}
	settled, err := govern.Settle(g.Context(), g.world.Ledger, g.world.Config, before, after, govern.Cause{Trace: "T1", Class: budget.Live, Now: now})
	if err == nil {
		err = g.world.Ledger.Commit(g.Context(), settled.Entry)
	}
	if err != nil {
		g.Fatal(err)
	}
	g.settle(soon)
}

// The account's owner has left: the task is made all the same, for the integration user, and people are told of the owner alone.
func TestTaskForSomebodyWhoHasLeft(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	const left = "005xx000001SgonAAC"
	if err := g.twins.Salesforce.Deactivate(left); err != nil {
		t.Fatal(err)
	}
	id := record.ID("task/5f1c2a7be09d4f1c2a7b")
	g.assign(id, map[string]string{"subject": "Call Ernst Handel", "customer": string(c.id), "owner": left})
	g.expectTroubles("refused-write salesforce owner")
	task, _ := g.twins.Salesforce.Get("Task", nativeID(t, g.twins, record.Salesforce, "Task", id.External()))
	if task["Subject"] != "Call Ernst Handel" || task["WhatId"] != c.on[record.Salesforce] || task["OwnerId"] != salesforcetwin.IntegrationUser {
		t.Errorf("the task: %v", task)
	}
	g.assign(id, map[string]string{"owner": salesforcetwin.Person}) // the workflow finds somebody else
	task, _ = g.twins.Salesforce.Get("Task", nativeID(t, g.twins, record.Salesforce, "Task", id.External()))
	if task["OwnerId"] != salesforcetwin.Person {
		t.Errorf("the task is %v's", task["OwnerId"])
	}
	g.expectTroubles()
}

// A task that a workflow makes gets to Salesforce once, after the account that it is about. Whoever has it may change it; only its
// status is news. The tasks that people make are theirs: neither a record, nor an exception, nor listed.
func TestTasks(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	id := record.ID("task/4f1c2a7be09d4f1c2a7b")
	g.assign(id, map[string]string{"subject": "Call Ernst Handel", "description": "Their ticket was escalated.", "customer": string(c.id), "owner": salesforcetwin.Person, "priority": "high", "dueOn": "2026-11-24"})
	g.wrote("salesforce 1")
	native := nativeID(t, g.twins, record.Salesforce, "Task", id.External())
	shows := func(want map[string]any) {
		t.Helper()
		task, _ := g.twins.Salesforce.Get("Task", native)
		for f, v := range want {
			if task[f] != v {
				t.Errorf("%s is %v, want %v", f, task[f], v)
			}
		}
	}
	shows(map[string]any{"Subject": "Call Ernst Handel", "WhatId": c.on[record.Salesforce], "OwnerId": salesforcetwin.Person, "Priority": "High", "ActivityDate": "2026-11-24", "Status": "Not Started"})
	status := func() string { return g.record(id).Golden["status"].Value.Raw() }
	if status() != "open" {
		t.Errorf("the task is %q", status())
	}

	edit := func(id string, fields map[string]any) {
		t.Helper()
		g.nextSecond()
		if _, err := g.twins.Salesforce.Edit("Task", id, fields); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	edit(native, map[string]any{"Subject": "Call Roland", "ActivityDate": "2026-11-26", "OwnerId": salesforcetwin.IntegrationUser, "Status": "Completed"})
	edit("", map[string]any{"Subject": "Buy flowers", "WhatId": c.on[record.Salesforce]})
	if status() != "done" {
		t.Errorf("the task is %q", status())
	}
	g.assign(id, map[string]string{"description": "Their ticket was escalated, and is solved."})
	g.wrote("salesforce 1")
	shows(map[string]any{"Subject": "Call Roland", "ActivityDate": "2026-11-26", "Description": "Their ticket was escalated, and is solved."})
	g.list(record.Salesforce)
	g.settle(soon)
	if page, err := g.world.Connectors[record.Salesforce].Changes(t.Context(), "Task", ""); err != nil || len(page.Natives) != 1 || page.Natives[0].ID != native {
		t.Errorf("listed: %+v %v", page.Natives, err)
	}
	g.noTrouble()
	g.still()

	g.nextSecond()
	if err := g.twins.Salesforce.Delete("Task", native); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.assign(id, map[string]string{"description": "Again."}) // nobody wants it
	g.wrote("")
	g.noTrouble()
}
