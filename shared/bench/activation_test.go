package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"sorrel/shared/boot"
)

// Decision 017 states what an activation costs: this measures it, with the shipped policies.
func TestActivationCost(t *testing.T) {
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
	var account, deal string
	edit := func(object string, at *string, fields map[string]any) ChangeCost {
		t.Helper()
		c, err := x.count(t.Context(), change{do: func(context.Context) (err error) {
			*at, err = x.twins.Salesforce.Edit(object, *at, fields)
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		x.pass(2 * time.Second)
		return c
	}
	edit("Account", &account, map[string]any{"Name": "Simons bistro", "Tax_Id__c": "DK13585628", "BillingStreet": "Vinbæltet 34", "BillingCity": "København", "BillingPostalCode": "1734", "BillingCountry": "DK"})
	edit("Opportunity", &deal, map[string]any{"Name": "First order", "AccountId": account, "StageName": "Negotiation/Review", "CloseDate": "2026-11-20", "Amount": 12000})
	won := edit("Opportunity", &deal, map[string]any{"StageName": "Closed Won"})
	if a, _ := x.twins.Salesforce.Get("Account", account); a["ERP_Activation__c"] != "Active" || a["ERP_Customer_Number__c"] == nil {
		t.Fatalf("it is no customer: %v", a)
	}
	for stage, u := range won.Stages {
		t.Logf("%-8s %+v", stage, u)
	}
	t.Logf("in all   %+v", won.DynamoDB)
	if runs := won.Stages[stageRuns]; runs.Commits > 16 || runs.Write > 400 || runs.Read > 245 || won.DynamoDB.Write > 700 {
		t.Errorf("an activation costs more than decision 017 says: its runs %+v, in all %+v", runs, won.DynamoDB)
	}
}
