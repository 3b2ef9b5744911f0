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

func title(v any) string {
	if s, ok := v.(string); ok && s != "" {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return fmt.Sprint(v)
}
