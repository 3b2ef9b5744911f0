package endtoend

import (
	"fmt"
	"testing"

	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// An account of sales is nobody's customer until an activation wants it: then NetSuite gets it, pending, and nobody of its
// people; when it is rejected, NetSuite keeps nothing of it. One that becomes active gets to support, and its people everywhere.
func TestProspects(t *testing.T) {
	t.Parallel()
	g := governed{stageWith(t, embedded(t.TempDir()), startTwins(t), ""), map[string]int{}}
	account, err := g.twins.Salesforce.Edit("Account", "", map[string]any{"Name": "Bon app'", "BillingCity": "Marseille", "BillingCountry": "France", "Tax_Id__c": "FR40303265045"})
	if err != nil {
		t.Fatal(err)
	}
	contact, err := g.twins.Salesforce.Edit("Contact", "", map[string]any{"LastName": "Lebihan", "FirstName": "Laurence", "Email": "laurence@bonapp.example", "AccountId": account})
	if err != nil {
		t.Fatal(err)
	}
	id := ledger.Mint("customer", record.Ref{Platform: record.Salesforce, Object: "Account", ID: account})
	person := ledger.Mint("contact", record.Ref{Platform: record.Salesforce, Object: "Contact", ID: contact})
	// are expects what a platform has: customers, and whether the person is there.
	are := func(platform string, customers int, speaks bool) {
		t.Helper()
		all := map[string]func() []map[string]any{
			record.NetSuite:   func() []map[string]any { return g.twins.NetSuite.All("customer") },
			record.Zendesk:    func() []map[string]any { return g.twins.Zendesk.All("organization") },
			record.ServiceNow: func() []map[string]any { return g.twins.ServiceNow.All("customer_account") },
		}
		g.eventually(soon, fmt.Sprintf("%s has %d customers", platform, customers), func() error {
			n, there := len(all[platform]()), g.record(person).Views[platform].Exists()
			if n != customers || there != speaks {
				return fmt.Errorf("there are %d; their contact: %t", n, there)
			}
			return nil
		})
	}
	stage := func(value string) {
		t.Helper()
		if _, err := g.world.Steward().Assign(t.Context(), g.who("stewart@northwind.example"), id, "activation", record.TextValue(value)); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	g.settle(soon)
	for _, p := range []string{record.NetSuite, record.Zendesk, record.ServiceNow} {
		are(p, 0, false)
	}
	stage("pending")
	are(record.NetSuite, 1, false)
	are(record.Zendesk, 0, false)
	first := g.record(id).Views[record.NetSuite].ID
	if c, _ := g.twins.NetSuite.Get("customer", first); c["custentity_sorrel_activation"] != "pending" {
		t.Errorf("NetSuite has %v", c)
	}
	if a, _ := g.twins.Salesforce.Get("Account", account); a["ERP_Activation__c"] != "Pending" {
		t.Errorf("Salesforce has %v", a)
	}
	stage("rejected")
	are(record.NetSuite, 0, false)
	if a, _ := g.twins.Salesforce.Get("Account", account); a["ERP_Activation__c"] != "Rejected" {
		t.Errorf("Salesforce has %v", a)
	}
	g.noTrouble()
	stage("pending")
	are(record.NetSuite, 1, false)
	stage("active")
	are(record.NetSuite, 1, true)
	are(record.Zendesk, 1, true)
	are(record.ServiceNow, 1, true)
	if again := g.record(id).Views[record.NetSuite].ID; again == first {
		t.Errorf("NetSuite's customer %s came back from the dead", first)
	}
	g.noTrouble()
}
