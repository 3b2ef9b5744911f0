package endtoend

import (
	"errors"
	"fmt"
	"testing"

	"sorrel/shared/record"
)

// Reference data comes by schedule: an item of NetSuite becomes a product for sales and support, its price follows, and what
// somebody changes there is put back.
func TestProductsComeBySchedule(t *testing.T) {
	s := newStage(t, embedded(t.TempDir()))
	price := func(amount string) map[string]any {
		return map[string]any{"items": []any{map[string]any{"unitPrice": amount, "currency": map[string]any{"id": "5"}}}}
	}
	chai := s.edit("item", "", map[string]any{"itemId": "CH-1", "displayName": "Chai", "class": map[string]any{"id": "2"}, "saleUnit": map[string]any{"id": "2"}, "price": price("18.00")})
	nameless := s.edit("item", "", map[string]any{"itemId": "SRV-1", "itemType": "Service"})
	shows := func(item, want string) error {
		id := minted("product", "item", item).External()
		p, err := only(s.twins.Salesforce.All("Product2"), "Sorrel_Id__c", id)
		if err != nil {
			return err
		}
		z, err := only(s.twins.Zendesk.All("custom_object/product"), "external_id", id)
		if err != nil {
			return err
		}
		for where, got := range map[string]string{
			record.Salesforce: fmt.Sprintf("%v %v %v %v %v %v", p["ProductCode"], p["Name"], p["ERP_Item_Kind__c"], plain(p["ERP_List_Price__c"]), p["ERP_Currency__c"], p["IsActive"]),
			record.Zendesk:    fmt.Sprintf("%v %v %v %v %v %v", custom(z)["number"], z["name"], title(custom(z)["kind"]), plain(custom(z)["list_price"]), custom(z)["currency"], custom(z)["active"]),
		} {
			if got != want {
				return fmt.Errorf("%s shows %s, want %s", where, got, want)
			}
		}
		return nil
	}
	s.list(record.NetSuite)
	s.eventually(soon, "the product is there", func() error { return shows(chai, "CH-1 Chai Goods 18 CHF true") })
	s.eventually(soon, "one without a name is called by its number", func() error { return shows(nameless, "SRV-1 SRV-1 Service <nil> <nil> true") })
	s.edit("item", chai, map[string]any{"price": price("19.5"), "isInactive": true})
	s.eventually(soon, "the price has followed", func() error {
		s.list(record.NetSuite) // again, as the schedule does: what was saved twice within one second shows once that second is over
		return shows(chai, "CH-1 Chai Goods 19.5 CHF false")
	})
	s.settle(soon)
	p, err := only(s.twins.Salesforce.All("Product2"), "Sorrel_Id__c", minted("product", "item", chai).External())
	if err != nil {
		t.Fatal(err)
	}
	before := s.writes(record.Salesforce)
	if _, err := s.twins.Salesforce.Edit("Product2", fmt.Sprint(p["Id"]), map[string]any{"ERP_List_Price__c": 1}); err != nil {
		t.Fatal(err)
	}
	s.eventually(soon, "it is put back", func() error {
		if s.writes(record.Salesforce) == before {
			return errors.New("no write yet")
		}
		return shows(chai, "CH-1 Chai Goods 19.5 CHF false")
	})
	s.settle(soon)
	s.noTrouble()
}

// The price list follows its products: what policy wants in a price book is there, after the product, and nothing else is. What
// sales makes in books of its own is left alone.
func TestPricesComeBySchedule(t *testing.T) {
	s := newStage(t, embedded(t.TempDir()))
	line := func(level, currency, quantity, amount string) map[string]any {
		return map[string]any{"priceLevel": map[string]any{"id": level}, "currency": map[string]any{"id": currency}, "quantity": quantity, "unitPrice": amount}
	}
	list := func(lines ...any) map[string]any { return map[string]any{"price": map[string]any{"items": lines}} }
	fields := list(line("1", "1", "0", "18.25"), line("1", "1", "100", "15"), line("1", "4", "0", "17"), line("5", "1", "0", "99"))
	fields["itemId"], fields["displayName"] = "CH-1", "Chai"
	chai := s.edit("item", "", fields)
	shows := func(want string) error {
		p, err := only(s.twins.Salesforce.All("Product2"), "Sorrel_Id__c", minted("product", "item", chai).External())
		if err != nil {
			return err
		}
		var got string
		for _, e := range s.twins.Salesforce.All("PricebookEntry") {
			if e["Product2Id"] == p["Id"] {
				got += fmt.Sprintf("%v %v, ", plain(e["UnitPrice"]), e["IsActive"])
			}
		}
		if got != want {
			return fmt.Errorf("prices are %s, want %s", got, want)
		}
		return nil
	}
	s.list(record.NetSuite)
	s.eventually(soon, "the base price is there", func() error { return shows("18.25 true, ") })
	s.edit("item", chai, list(line("1", "1", "0", "19"), line("5", "1", "0", "98")))
	s.eventually(soon, "it has followed", func() error {
		s.list(record.NetSuite)
		return shows("19 true, ")
	})
	s.settle(soon)
	book, err := s.twins.Salesforce.Edit("Pricebook2", "", map[string]any{"Name": "Spring"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := only(s.twins.Salesforce.All("Product2"), "Sorrel_Id__c", minted("product", "item", chai).External())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.twins.Salesforce.Edit("PricebookEntry", "", map[string]any{"Product2Id": p["Id"], "Pricebook2Id": book, "UnitPrice": 12}); err != nil {
		t.Fatal(err)
	}
	s.settle(soon)
	s.noTrouble()
}

func title(v any) string {
	if s, ok := v.(string); ok && s != "" {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return fmt.Sprint(v)
}
