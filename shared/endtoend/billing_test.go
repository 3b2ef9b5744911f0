package endtoend

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"sorrel/shared/record"
)

// billing is one customer with an order and its invoice, on all platforms.
type billing struct {
	*stage
	customer, order, invoice string // NetSuite's ids
}

func newBilling(t *testing.T) billing {
	b := billing{stage: newStage(t, embedded(t.TempDir()))}
	b.customer = b.edit("customer", "", customerFields("ALFKI", "Alfreds Futterkiste"))
	b.order = b.edit("salesOrder", "", orderFields(b.customer, "SO-1"))
	b.invoice = b.edit("invoice", "", map[string]any{"tranId": "INV-1", "entity": map[string]any{"id": b.customer}, "createdFrom": map[string]any{"id": b.order},
		"tranDate": "2026-01-20", "dueDate": "2026-02-19", "currency": map[string]any{"id": "4"}, "total": 69.75})
	return b
}

// shows expects what both targets show of the invoice: status, what is due, and whether it says when it was paid.
func (b billing) shows(salesforce, zendesk, due string, paid bool) error {
	id := minted("invoice", "invoice", b.invoice).External()
	s, err := only(b.twins.Salesforce.All("Invoice__c"), "Sorrel_Id__c", id)
	if err != nil {
		return err
	}
	z, err := only(b.twins.Zendesk.All("custom_object/invoice"), "external_id", id)
	if err != nil {
		return err
	}
	if got, want := fmt.Sprint(s["Status__c"], " ", plain(s["Amount_Due__c"]), " ", s["Paid_On__c"] != nil), fmt.Sprint(salesforce, " ", due, " ", paid); got != want {
		return fmt.Errorf("Salesforce shows %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(custom(z)["status"], " ", plain(custom(z)["amount_due"]), " ", custom(z)["paid_on"] != nil), fmt.Sprint(zendesk, " ", due, " ", paid); got != want {
		return fmt.Errorf("Zendesk shows %s, want %s", got, want)
	}
	return nil
}

// plain is a number as people write it, however its platform does.
func plain(v any) string {
	d, err := decimal.NewFromString(fmt.Sprint(v))
	if err != nil {
		return fmt.Sprint(v)
	}
	return d.String()
}

func (b billing) owes(want string) error {
	a, err := only(b.twins.Salesforce.All("Account"), "Sorrel_Id__c", minted("customer", "customer", b.customer).External())
	if err == nil && plain(a["ERP_Balance__c"]) != want {
		err = fmt.Errorf("sales sees a balance of %v, want %s", a["ERP_Balance__c"], want)
	}
	return err
}

func (b billing) pay(amount string) {
	b.Helper()
	if err := b.twins.NetSuite.Pay(b.invoice, amount); err != nil {
		b.Fatal(err)
	}
}

// An invoice follows its customer and its order, and a payment in NetSuite reaches sales and support at once: the invoice
// and what the customer owes. A payment whose word was lost comes with the next listing.
func TestPaymentReachesEverybody(t *testing.T) {
	b := newBilling(t)
	b.eventually(soon, "the invoice is on both targets", func() error { return b.shows("Open", "open", "69.75", false) })
	b.eventually(soon, "sales sees what the customer owes", func() error { return b.owes("69.75") })
	id := minted("invoice", "invoice", b.invoice).External()
	s, err := only(b.twins.Salesforce.All("Invoice__c"), "Sorrel_Id__c", id)
	if err != nil {
		t.Fatal(err)
	}
	account, _ := b.twins.Salesforce.Get("Account", fmt.Sprint(s["Account__c"]))
	order, _ := b.twins.Salesforce.Get("Order", fmt.Sprint(s["Order__c"]))
	if account["Name"] != "Alfreds Futterkiste" || order["ERP_Order_Number__c"] != "SO-1" || s["Name"] != "INV-1" || s["Currency__c"] != "EUR" {
		t.Errorf("the invoice is %v", s)
	}
	b.pay("20")
	b.eventually(soon, "part of it is paid", func() error { return b.shows("Open", "open", "49.75", false) })
	b.eventually(soon, "the rest is owed", func() error { return b.owes("49.75") })
	b.pay("")
	b.eventually(soon, "it is paid", func() error { return b.shows("Paid", "paid", "0", true) })
	b.eventually(soon, "nothing is owed", func() error { return b.owes("0") })

	b.settle(soon)
	b.twins.NetSuite.Kit().SendTo("")
	b.pay("-69.75") // the payment bounces, and no word of it comes
	b.list(record.NetSuite)
	b.eventually(soon, "it is open again", func() error { return b.shows("Open", "open", "69.75", false) })
	b.eventually(soon, "all is owed again", func() error { return b.owes("69.75") })
	b.settle(soon)
	b.noTrouble()
}

// A contract follows its customer, is known by its label whatever the account's ids of list values are, and is put back.
func TestContractReachesEverybody(t *testing.T) {
	b := newBilling(t)
	contract := b.edit("customrecord_sorrel_contract", "", map[string]any{"name": "CON-1", "custrecord_sorrel_contract_customer": map[string]any{"id": b.customer},
		"custrecord_sorrel_contract_status": map[string]any{"refName": "Active"}, "custrecord_sorrel_contract_tier": map[string]any{"refName": "VIP"},
		"custrecord_sorrel_contract_ends": "2027-12-31", "custrecord_sorrel_contract_product": "Cold chain"})
	id := minted("contract", "customrecord_sorrel_contract", contract).External()
	shows := func(status, tier string) error {
		s, err := only(b.twins.Salesforce.All("Contract__c"), "Sorrel_Id__c", id)
		if err != nil {
			return err
		}
		z, err := only(b.twins.Zendesk.All("custom_object/contract"), "external_id", id)
		if err != nil {
			return err
		}
		account, _ := b.twins.Salesforce.Get("Account", fmt.Sprint(s["Account__c"]))
		got := fmt.Sprintf("%v %v %v %v %v, %v %v", s["Name"], account["Name"], s["Status__c"], s["Tier__c"], s["Ends_On__c"], custom(z)["status"], custom(z)["tier"])
		if want := fmt.Sprintf("CON-1 Alfreds Futterkiste %s %s 2027-12-31, %s %s", status, tier, strings.ToLower(status), strings.ToLower(tier)); got != want {
			return fmt.Errorf("shown is %s, want %s", got, want)
		}
		return nil
	}
	b.eventually(soon, "the contract is on both targets", func() error { return shows("Active", "VIP") })
	b.edit("customrecord_sorrel_contract", contract, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Cancelled"}})
	b.eventually(soon, "it is cancelled", func() error { return shows("Cancelled", "VIP") })
	b.settle(soon)
	s, err := only(b.twins.Salesforce.All("Contract__c"), "Sorrel_Id__c", id)
	if err != nil {
		t.Fatal(err)
	}
	before := b.writes(record.Salesforce)
	if _, err := b.twins.Salesforce.Edit("Contract__c", fmt.Sprint(s["Id"]), map[string]any{"Tier__c": "Standard"}); err != nil {
		t.Fatal(err)
	}
	b.eventually(soon, "it is put back", func() error {
		if b.writes(record.Salesforce) == before {
			return errors.New("no write yet")
		}
		return shows("Cancelled", "VIP")
	})
	b.settle(soon)
	b.noTrouble()
}

// NetSuite decides everything about an invoice: what sales or support change is put back.
func TestInvoiceIsPutBack(t *testing.T) {
	b := newBilling(t)
	b.eventually(soon, "the invoice is on both targets", func() error { return b.shows("Open", "open", "69.75", false) })
	b.settle(soon)
	id := minted("invoice", "invoice", b.invoice).External()
	s, err := only(b.twins.Salesforce.All("Invoice__c"), "Sorrel_Id__c", id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.twins.Salesforce.Edit("Invoice__c", fmt.Sprint(s["Id"]), map[string]any{"Status__c": "Paid", "Amount_Due__c": 0, "Paid_On__c": "2026-11-01"}); err != nil {
		t.Fatal(err)
	}
	z, err := only(b.twins.Zendesk.All("custom_object/invoice"), "external_id", id)
	if err != nil {
		t.Fatal(err)
	}
	before := b.writes(record.Zendesk)
	if _, err := b.twins.Zendesk.Edit("custom_object/invoice", fmt.Sprint(z["id"]), map[string]any{"custom_object_fields": map[string]any{"status": "voided"}}); err != nil {
		t.Fatal(err)
	}
	b.list(record.Zendesk) // it tells of no custom object at once
	b.eventually(soon, "both are put back", func() error { return b.shows("Open", "open", "69.75", false) })
	b.eventually(soon, "Zendesk was written", func() error {
		if n := b.writes(record.Zendesk) - before; n == 0 {
			return fmt.Errorf("no write yet")
		}
		return nil
	})
	b.settle(soon)
	b.noTrouble()
}
