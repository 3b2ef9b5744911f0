package netsuite_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
)

// An invoice is the same by webhook, by reading and by listing, though the record API says its status by name and SuiteQL
// by letter, and only lines say what it was made from.
func TestInvoiceHasOneShape(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "America/New_York"}, nil)
	heard := a.heard(t, clock.Now)
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	order := mustEdit(t, a.twin, "salesOrder", "", orderFields(entity, 1))
	for status, letter := range map[string]string{"Open": "A", "Paid In Full": "B", "Pending Approval": "D", "Rejected": "E", "Voided": "V"} {
		heard()
		fields := invoiceFields(entity, 1)
		fields["createdFrom"], fields["status"], fields["externalId"] = map[string]any{"id": order}, map[string]any{"id": status}, "invoice-"+letter
		id := mustEdit(t, a.twin, "invoice", "", fields)
		clock.Advance(5 * time.Second)
		var pushed record.Native
		for _, n := range heard() {
			if n.Ref == ref("invoice", id) {
				pushed = n
			}
		}
		read := a.read(t, "invoice", id)
		page, err := a.Changes(t.Context(), "invoice", "")
		if err != nil || len(page.Natives) == 0 {
			t.Fatal(page, err)
		}
		listed := page.Natives[len(page.Natives)-1]
		same(t, pushed.Fields, read.Fields)
		same(t, listed.Fields, read.Fields)
		left := "174"
		if status == "Voided" {
			left = "0"
		}
		for field, want := range map[string]any{"status": map[string]any{"id": letter}, "createdFrom": map[string]any{"id": order}, "entity": map[string]any{"id": entity},
			"tranDate": "2026-10-01", "dueDate": "2026-10-31", "total": json.Number("174"), "amountRemaining": json.Number(left), "custbody_sorrel_paid_on": nil} {
			if fmt.Sprint(read.Fields[field]) != fmt.Sprint(want) {
				t.Errorf("%s: %s is %v, want %v", status, field, read.Fields[field], want)
			}
		}
		if _, said := read.Fields[""]; said || listed.External != "invoice-"+letter || !listed.Version.At.Equal(read.Version.At) || listed.Version.Seq != 1 {
			t.Errorf("%+v", listed)
		}
	}
}

// A contract is the same by webhook, by reading and by listing, though a custom record names its times differently.
func TestContractHasOneShape(t *testing.T) {
	t.Parallel()
	const object = "customrecord_sorrel_contract"
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "America/New_York"}, func(c *netsuite.Config) {
		c.Columns = map[string][]string{object: {"custrecord_sorrel_contract_status", "custrecord_sorrel_contract_ends:date"}} // known already
	})
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	other := mustEdit(t, a.twin, "customer", "", customerFields(2))
	heard := a.heard(t, clock.Now)
	fields := contractFields(entity, 7)
	fields["externalId"] = "contract-1"
	id := mustEdit(t, a.twin, object, "", fields)
	clock.Advance(5 * time.Second)
	read := a.read(t, object, id)
	page, err := a.Changes(t.Context(), object, "")
	told := heard()
	if err != nil || len(page.Natives) != 1 || len(told) != 1 {
		t.Fatal(page, told, err)
	}
	for _, n := range []record.Native{told[0], page.Natives[0], read} {
		same(t, n.Fields, read.Fields)
		if n.Ref != ref(object, id) || n.External != "contract-1" || n.Version.Seq != 1 || !n.Version.At.Equal(clock.Now().Add(-5*time.Second)) || n.Born.IsZero() || !n.Born.Equal(read.Born) {
			t.Errorf("%+v", n.Version)
		}
	}
	if s := fmt.Sprint(read.Fields["custrecord_sorrel_contract_status"], read.Fields["custrecord_sorrel_contract_customer"]); s != fmt.Sprintf("map[id:2 refName:Active] map[id:%s]", entity) {
		t.Error(s)
	}
	// A listing that goes on finds the contract of a customer who was merged, which is told of by nothing else.
	if err := a.twin.Delete("customer", entity); err == nil {
		t.Error("a customer with a contract was deleted")
	}
	clock.Advance(time.Minute)
	if err := a.twin.Merge("customer", other, entity); err != nil {
		t.Fatal(err)
	}
	page, err = a.Changes(t.Context(), object, page.Cursor)
	if err != nil || len(page.Natives) != 1 || fmt.Sprint(page.Natives[0].Fields["custrecord_sorrel_contract_customer"]) != fmt.Sprintf("map[id:%s]", other) {
		t.Errorf("%v, %v", page.Natives, err)
	}
}

// A payment is told of the invoice and of the customer, whose balances change with it; neither is ours.
func TestPayment(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, func(c *netsuite.Config) { c.Columns = map[string][]string{"customer": {"overdueBalance:number"}} })
	heard := a.heard(t, clock.Now)
	entity := mustEdit(t, a.twin, "customer", "", customerFields(1))
	late := mustEdit(t, a.twin, "invoice", "", invoiceFields(entity, 1)) // due 2026-10-31, now is 2026-11-02
	fields := invoiceFields(entity, 2)
	fields["dueDate"] = "2026-12-31"
	mustEdit(t, a.twin, "invoice", "", fields)
	for _, step := range []struct {
		amount, status, left, paidOn, balance, overdue string
	}{
		{"100", "map[id:A]", "74", "<nil>", "248", "74"},
		{"", "map[id:B]", "0", "2026-11-02", "174", "0"},
		{"-174", "map[id:A]", "174", "<nil>", "348", "174"}, // the payment bounced
	} {
		heard()
		clock.Advance(3 * time.Second)
		if err := a.twin.Pay(late, step.amount); err != nil {
			t.Fatal(err)
		}
		clock.Advance(3 * time.Second)
		got := map[record.Ref]record.Native{}
		for _, n := range heard() {
			got[n.Ref] = n
		}
		for _, inv := range []record.Native{got[ref("invoice", late)], a.read(t, "invoice", late)} {
			if s := fmt.Sprintf("%v %v %v", inv.Fields["status"], inv.Fields["amountRemaining"], inv.Fields["custbody_sorrel_paid_on"]); s != step.status+" "+step.left+" "+step.paidOn {
				t.Errorf("paid %q: the invoice says %s", step.amount, s)
			}
			if inv.Ours {
				t.Error("a payment counts as ours")
			}
		}
		for _, c := range []record.Native{got[ref("customer", entity)], a.read(t, "customer", entity)} {
			if s := fmt.Sprintf("%s %s", c.Fields["balance"], c.Fields["overdueBalance"]); s != step.balance+" "+step.overdue {
				t.Errorf("paid %q: the customer owes %s", step.amount, s)
			}
		}
	}
	page, err := a.Changes(t.Context(), "customer", "")
	if err != nil || len(page.Natives) != 1 || page.Natives[0].Fields["balance"] != json.Number("348") {
		t.Errorf("listed %+v, %v", page.Natives, err)
	}
	for _, bad := range []string{"175", "-1", "0", "much"} {
		if err := a.twin.Pay(late, bad); err == nil {
			t.Errorf("a payment of %s was taken", bad)
		}
	}
}
