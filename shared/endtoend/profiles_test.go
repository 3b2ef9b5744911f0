package endtoend

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/record"
	"sorrel/shared/twins"
)

// holding is one native record that carries Sorrel's external id, and what it must hold: dotted native path → text, ""
// for no value.
type holding struct {
	platform, object string
	want             map[string]string
}

// externalField is where a platform keeps Sorrel's external id.
var externalField = map[string]string{record.Salesforce: "Sorrel_Id__c", record.Zendesk: "external_id", record.ServiceNow: "u_sorrel_id"}

func everything(w *twins.Twins, platform, object string) []map[string]any {
	return map[string]func(string) []map[string]any{record.NetSuite: w.NetSuite.All, record.Salesforce: w.Salesforce.All, record.Zendesk: w.Zendesk.All,
		record.ServiceNow: w.ServiceNow.All}[platform](object)
}

// inside is the text at a dotted path of a native record.
func inside(native map[string]any, path string) string {
	for {
		head, rest, deeper := strings.Cut(path, ".")
		if !deeper {
			return said(native)[head]
		}
		native, _ = native[head].(map[string]any)
		path = rest
	}
}

// shows reports every difference of one record at once.
func (h holding) shows(w *twins.Twins, external string) error {
	native, err := only(everything(w, h.platform, h.object), externalField[h.platform], external)
	if err != nil {
		return fmt.Errorf("%s %s: %w", h.platform, h.object, err)
	}
	var wrong []string
	for _, path := range slices.Sorted(maps.Keys(h.want)) {
		if got := inside(native, path); got != h.want[path] {
			wrong = append(wrong, fmt.Sprintf("%s is %q, want %q", path, got, h.want[path]))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s %s: %s", h.platform, h.object, strings.Join(wrong, "; "))
	}
	return nil
}

// native id of the record that carries an external id.
func nativeID(t testing.TB, w *twins.Twins, platform, object, external string) string {
	t.Helper()
	r, err := only(everything(w, platform, object), externalField[platform], external)
	if err != nil {
		t.Fatalf("%s %s: %v", platform, object, err)
	}
	for _, name := range []string{"Id", "id", "sys_id"} {
		if id, ok := r[name]; ok {
			return fmt.Sprint(id)
		}
	}
	t.Fatalf("%s %s has no id", platform, object)
	return ""
}

// A customer and a contact of NetSuite reach all three other platforms with every field that they have a place for.
// What sales and support add to the customer reaches everybody, too. Each step costs one write per platform that it
// concerns; neither the echoes nor telling all of it again cause any other.
func TestCustomerAndContactReachEveryPlatform(t *testing.T) {
	const patience = 30 * time.Second
	s := newStage(t, embedded(t.TempDir()))
	written := map[string]int{}
	wrote := func(step string, want map[string]int) {
		t.Helper()
		s.settle(patience)
		for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
			n := s.writes(p)
			if n-written[p] != want[p] {
				t.Errorf("%s: %d writes to %s, want %d", step, n-written[p], p, want[p])
			}
			written[p] = n
		}
	}

	address := func(street string) map[string]any {
		return map[string]any{"addressee": "Vins et alcools Chevalier", "addr1": street, "city": "Reims", "zip": "51100", "country": "FR"}
	}
	customer := s.edit("customer", "", map[string]any{"entityId": "VINET", "companyName": "Vins et alcools Chevalier", "vatRegNumber": "FR40303265045",
		"email": "ap@chevalier.test", "phone": "26.47.15.10", "url": "https://chevalier.test", "currency": ref("4"), "terms": ref("2"), "creditLimit": 10000.5,
		"creditHoldOverride": ref("AUTO"), "balance": 1863.4,
		"addressBook": sublist([]any{map[string]any{"defaultBilling": true, "addressBookAddress": address("59 rue de l'Abbaye")},
			map[string]any{"defaultShipping": true, "addressBookAddress": address("2, rue du Port")}})})
	id := minted("customer", "customer", customer).External()
	company := []holding{
		{record.Salesforce, "Account", map[string]string{"ERP_Customer_Number__c": "VINET", "Name": "Vins et alcools Chevalier", "Tax_Id__c": "FR40303265045", "Phone": "26.47.15.10",
			"Website": "https://chevalier.test", "BillingStreet": "59 rue de l'Abbaye", "BillingCity": "Reims", "BillingState": "", "BillingPostalCode": "51100", "BillingCountry": "FR",
			"ShippingStreet": "2, rue du Port", "ShippingCity": "Reims", "ShippingState": "", "ShippingPostalCode": "51100", "ShippingCountry": "FR",
			"ERP_Currency__c": "EUR", "ERP_Terms__c": "Net 30", "ERP_Credit_Limit__c": "10000.5", "ERP_Credit_Hold__c": "Auto", "ERP_Balance__c": "1863.4", "ERP_Active__c": "true"}},
		{record.Zendesk, "organization", map[string]string{"name": "Vins et alcools Chevalier", "organization_fields.erp_number": "VINET", "organization_fields.tax_id": "FR40303265045",
			"organization_fields.erp_phone": "26.47.15.10", "organization_fields.erp_city": "Reims", "organization_fields.erp_country": "FR", "organization_fields.erp_active": "true",
			"organization_fields.erp_credit_limit": "10000.5", "organization_fields.erp_credit_hold": "credit_auto", "organization_fields.erp_balance": "1863.4"}},
		{record.ServiceNow, "customer_account", map[string]string{"u_erp_number": "VINET", "name": "Vins et alcools Chevalier", "u_tax_id": "FR40303265045", "phone": "26.47.15.10",
			"website": "https://chevalier.test", "street": "59 rue de l'Abbaye", "city": "Reims", "state": "", "zip": "51100", "country": "FR", "u_currency": "EUR", "u_terms": "Net 30",
			"u_credit_limit": "10000.5", "u_credit_hold": "auto", "u_balance": "1863.4", "active": "true"}},
	}
	show := func(what, external string, all []holding) {
		t.Helper()
		s.eventually(patience, what, func() error {
			var errs []error
			for _, h := range all {
				errs = append(errs, h.shows(s.twins, external))
			}
			return errors.Join(errs...)
		})
	}
	show("the customer is on every platform", id, company)
	wrote("a new customer", map[string]int{record.Salesforce: 1, record.Zendesk: 1, record.ServiceNow: 1})

	contact := s.edit("contact", "", map[string]any{"firstName": "Anne", "lastName": "Moreau", "email": "a.moreau@chevalier.test", "phone": "26.47.15.12",
		"mobilePhone": "06.12.34.56.78", "title": "Acheteuse", "company": ref(customer)})
	person := minted("contact", "contact", contact).External()
	account, organization, company2 := nativeID(t, s.twins, record.Salesforce, "Account", id), nativeID(t, s.twins, record.Zendesk, "organization", id), nativeID(t, s.twins, record.ServiceNow, "customer_account", id)
	show("the contact is on every platform", person, []holding{
		{record.Salesforce, "Contact", map[string]string{"FirstName": "Anne", "LastName": "Moreau", "Email": "a.moreau@chevalier.test", "Phone": "26.47.15.12", "MobilePhone": "06.12.34.56.78",
			"Title": "Acheteuse", "AccountId": account, "Active__c": "true"}},
		{record.Zendesk, "user", map[string]string{"name": "Anne Moreau", "email": "a.moreau@chevalier.test", "phone": "26.47.15.12", "organization_id": organization,
			"user_fields.job_title": "Acheteuse", "user_fields.erp_active": "true"}},
		{record.ServiceNow, "customer_contact", map[string]string{"first_name": "Anne", "last_name": "Moreau", "email": "a.moreau@chevalier.test", "phone": "26.47.15.12",
			"mobile_phone": "06.12.34.56.78", "title": "Acheteuse", "account": company2, "active": "true"}},
	})
	wrote("a new contact", map[string]int{record.Salesforce: 1, record.Zendesk: 1, record.ServiceNow: 1})

	// Sales and support each say what is theirs.
	if _, err := s.twins.Salesforce.Edit("Account", account, map[string]any{"Segment__c": "Midmarket", "Industry": "Food & Beverage", "Account_Manager__c": "Laurence Lebihan"}); err != nil {
		t.Fatal(err)
	}
	show("sales profile", id, []holding{
		{record.Zendesk, "organization", map[string]string{"organization_fields.segment": "segment_midmarket", "organization_fields.account_manager": "Laurence Lebihan"}},
		{record.ServiceNow, "customer_account", map[string]string{"u_segment": "midmarket", "u_industry": "food", "u_account_manager": "Laurence Lebihan"}},
	})
	s.eventually(patience, "the segment is in NetSuite", func() error {
		if n, _ := s.twins.NetSuite.Get("customer", customer); n["custentity_segment"] != "midmarket" {
			return fmt.Errorf("it is %v", n["custentity_segment"])
		}
		return nil
	})
	wrote("the sales profile", map[string]int{record.NetSuite: 1, record.Zendesk: 1, record.ServiceNow: 1})
	if _, err := s.twins.ServiceNow.Edit("customer_account", company2, map[string]any{"u_support_tier": "vip"}); err != nil {
		t.Fatal(err)
	}
	show("support tier", id, []holding{
		{record.Salesforce, "Account", map[string]string{"Support_Tier__c": "VIP"}},
		{record.Zendesk, "organization", map[string]string{"organization_fields.support_tier": "tier_vip"}},
	})
	wrote("the support tier", map[string]int{record.Salesforce: 1, record.Zendesk: 1})
	if _, err := s.twins.Zendesk.Edit("organization", organization, map[string]any{"notes": "Calls before noon."}); err != nil {
		t.Fatal(err)
	}
	s.list(record.Zendesk) // it sends no event for notes
	show("support notes", id, []holding{
		{record.Salesforce, "Account", map[string]string{"Support_Notes__c": "Calls before noon."}},
		{record.ServiceNow, "customer_account", map[string]string{"notes": "Calls before noon."}},
	})
	wrote("the support notes", map[string]int{record.Salesforce: 1, record.ServiceNow: 1})

	// What somebody sets who does not own it is put back.
	if _, err := s.twins.ServiceNow.Edit("customer_account", company2, map[string]any{"u_credit_limit": "99999"}); err != nil {
		t.Fatal(err)
	}
	s.eventually(patience, "the write is there", func() error {
		if s.writes(record.ServiceNow) == written[record.ServiceNow] {
			return errors.New("nothing was written yet")
		}
		return nil
	})
	show("the credit limit is put back", id, company)
	wrote("an edit that is put back", map[string]int{record.ServiceNow: 1})

	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		s.list(p)
	}
	wrote("telling all of it again", nil)
	s.noTrouble()
}
