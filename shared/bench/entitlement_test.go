package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/zendesk"
)

// Decision 022 states what the mark of a case costs: this measures it, with the shipped policies.
func TestEntitlementCost(t *testing.T) {
	t.Parallel()
	x, err := newTally(t.Context(), ChangesOptions{Dir: t.TempDir(), Seed: 1}, func(dir string) error { return os.CopyFS(dir, boot.ConfigFS("")) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	count := func(what string, do func() error) ChangeCost {
		t.Helper()
		c, err := x.count(t.Context(), change{do: func(context.Context) error { return do() }})
		if err != nil {
			t.Fatal(err)
		}
		x.pass(2 * time.Second)
		for stage, u := range c.Stages {
			t.Logf("%-20s %-8s %+v", what, stage, u)
		}
		t.Logf("%-20s in all   %+v", what, c.DynamoDB)
		return c
	}
	var customer, paper, ticket string
	count("customer", func() (err error) {
		customer, err = x.twins.NetSuite.Edit("customer", "", map[string]any{"entityId": "VINET", "companyName": "Vins et alcools Chevalier"})
		return err
	})
	const contract = "customrecord_sorrel_contract"
	count("contract", func() (err error) {
		paper, err = x.twins.NetSuite.Edit(contract, "", map[string]any{"name": "CON-1", "custrecord_sorrel_contract_customer": map[string]any{"id": customer}, "custrecord_sorrel_contract_status": map[string]any{"refName": "Active"},
			"custrecord_sorrel_contract_tier": map[string]any{"refName": "Premium"}, "custrecord_sorrel_contract_ends": "2099-12-31"})
		return err
	})
	org := x.twins.Zendesk.All("organization")
	if len(org) != 1 {
		t.Fatalf("%d organizations", len(org))
	}
	opened := count("ticket", func() (err error) {
		ticket, err = x.twins.Zendesk.Edit(zendesk.Ticket, "", map[string]any{"subject": "Warm", "status": "open", "priority": "normal", "organization_id": org[0]["id"]})
		return err
	})
	marked := func(want string) {
		t.Helper()
		if v, _ := x.twins.Zendesk.TicketValue(ticket, "entitled_tier"); v != want {
			t.Fatalf("it is marked %v, want %s", v, want)
		}
	}
	marked("entitled_premium")
	noise := count("customer's phone", func() error {
		_, err := x.twins.NetSuite.Edit("customer", customer, map[string]any{"phone": "030-1"})
		return err
	})
	corrected := count("contract cancelled", func() error {
		_, err := x.twins.NetSuite.Edit(contract, paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Cancelled"}})
		return err
	})
	marked("entitled_none")
	if r := opened.Stages[stageRuns]; r.Commits > 4 || r.Write > 100 || r.Read > 100 {
		t.Errorf("the mark of a new case costs more than decision 022 says: %+v", r)
	}
	if r := noise.Stages[stageRuns]; r.Commits > 1 || r.Write > 20 {
		t.Errorf("a change that is none for the case costs more than decision 022 says: %+v", r)
	}
	if r := corrected.Stages[stageRuns]; r.Commits > 8 || r.Write > 180 {
		t.Errorf("a correction costs more than decision 022 says: %+v", r)
	}
}
