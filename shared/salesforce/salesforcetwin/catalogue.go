package salesforcetwin

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Field types, in the words of describe.
const (
	typeID        = "id"
	typeString    = "string"
	typeTextarea  = "textarea"
	typePhone     = "phone"
	typeEmail     = "email"
	typeURL       = "url"
	typePicklist  = "picklist"
	typeCurrency  = "currency"
	typeDouble    = "double"
	typeInt       = "int"
	typeBoolean   = "boolean"
	typeDate      = "date"
	typeDatetime  = "datetime"
	typeReference = "reference"
)

// Field of an object's catalogue.
type Field struct {
	Name         string
	Type         string   // as describe says: string, textarea, phone, email, url, picklist, currency, double, int, boolean, date, datetime, reference
	Length       int      // longest text
	Scale        int      // digits after the point of a currency or double
	Required     bool     // on create
	Default      any      // given to a new record that does not say it, as decoded JSON
	Compound     bool     // made of other fields (Name of a Contact): read only, and in events only its parts
	ReadOnly     bool     // the platform's own
	ExternalID   bool     // usable in upsert addresses, and unique
	Repeats      bool     // found by its value like an external id, but not unique
	Restricted   bool     // picklist: other values are refused
	Values       []string // picklist
	RefersTo     string   // reference: object
	OrTo         []string // … or one of these
	Relationship string   // reference: name of the parent in queries and by external id
	Cascades     bool     // reference: deleted with the parent, and back with it
}

// object is one sObject type with its records.
type object struct {
	name   string
	prefix string // first three characters of its ids
	fields map[string]*Field
	names  []string          // in order
	parent map[string]*Field // lower-case relationship name → reference field

	rows  map[string]*row              // by id of 15 characters
	ids   []*row                       // in order of id
	index map[string]map[string][]*row // external-id field → lower-case value → live rows
	log   []stamp                      // every change in the order of SystemModstamp; stale entries are skipped
}

func newObject(name, prefix string) *object {
	o := &object{name: name, prefix: prefix, fields: map[string]*Field{}, parent: map[string]*Field{}}
	for _, f := range []Field{
		{Name: "Id", Type: typeID, Length: 18, ReadOnly: true},
		{Name: "IsDeleted", Type: typeBoolean, ReadOnly: true},
		{Name: "CreatedDate", Type: typeDatetime, ReadOnly: true},
		{Name: "CreatedById", Type: typeReference, ReadOnly: true, RefersTo: "User"},
		{Name: "LastModifiedDate", Type: typeDatetime, ReadOnly: true},
		{Name: "LastModifiedById", Type: typeReference, ReadOnly: true, RefersTo: "User"},
		{Name: "SystemModstamp", Type: typeDatetime, ReadOnly: true},
	} {
		o.add(f)
	}
	o.clear()
	return o
}

func (o *object) add(f Field) {
	key := strings.ToLower(f.Name)
	if _, known := o.fields[key]; !known {
		o.names = append(o.names, f.Name)
	}
	o.fields[key] = &f
	if f.Relationship != "" {
		o.parent[strings.ToLower(f.Relationship)] = &f
	}
	if (f.ExternalID || f.Repeats) && o.index != nil && o.index[f.Name] == nil {
		o.index[f.Name] = map[string][]*row{}
	}
}

func (o *object) clear() {
	o.rows, o.ids, o.index, o.log = map[string]*row{}, nil, map[string]map[string][]*row{}, nil
	for _, f := range o.fields {
		if f.ExternalID || f.Repeats {
			o.index[f.Name] = map[string][]*row{}
		}
	}
}

func (o *object) field(name string) *Field { return o.fields[strings.ToLower(name)] }

// text adds plain string fields of one length.
func (o *object) text(length int, names string) {
	for _, n := range strings.Fields(names) {
		o.add(Field{Name: n, Type: typeString, Length: length})
	}
}

func (o *object) address(prefixes ...string) {
	for _, p := range prefixes {
		o.add(Field{Name: p + "Street", Type: typeTextarea, Length: 255})
		o.add(Field{Name: p + "City", Type: typeString, Length: 40})
		o.add(Field{Name: p + "State", Type: typeString, Length: 80})
		o.add(Field{Name: p + "PostalCode", Type: typeString, Length: 20})
		o.add(Field{Name: p + "Country", Type: typeString, Length: 80})
	}
}

func (o *object) restricted(name string, values ...string) {
	o.add(Field{Name: name, Type: typePicklist, Length: 255, Restricted: true, Values: values})
}

func (o *object) external(name string) {
	o.add(Field{Name: name, Type: typeString, Length: 80, ExternalID: true})
}

// standard is the catalogue of a fresh twin: the standard objects of the slice, and the custom fields and the
// object of the metadata kit.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_account.htm
func standard() map[string]*object {
	a := newObject("Account", "001")
	a.add(Field{Name: "Name", Type: typeString, Length: 255, Required: true})
	a.text(40, "AccountNumber")
	a.add(Field{Name: "Phone", Type: typePhone, Length: 40})
	a.add(Field{Name: "Fax", Type: typePhone, Length: 40})
	a.add(Field{Name: "Website", Type: typeURL, Length: 255})
	for _, n := range []string{"Type", "Rating", "AccountSource"} {
		a.add(Field{Name: n, Type: typePicklist, Length: 255}) // unrestricted: any value is taken
	}
	a.add(Field{Name: "AnnualRevenue", Type: typeCurrency})
	a.add(Field{Name: "NumberOfEmployees", Type: typeInt})
	a.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	a.add(Field{Name: "ParentId", Type: typeReference, RefersTo: "Account", Relationship: "Parent"})
	a.add(Field{Name: "MasterRecordId", Type: typeReference, RefersTo: "Account", Relationship: "MasterRecord", ReadOnly: true})
	a.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	a.address("Billing", "Shipping")
	a.external("Sorrel_Id__c")
	a.text(80, "ERP_Id__c ERP_Customer_Number__c")
	a.text(3, "ERP_Currency__c")
	a.text(40, "Tax_Id__c")
	a.text(60, "ERP_Terms__c")
	a.text(120, "Account_Manager__c")
	a.add(Field{Name: "ERP_Credit_Limit__c", Type: typeDouble, Scale: 2})
	a.add(Field{Name: "ERP_Balance__c", Type: typeDouble, Scale: 2})
	a.add(Field{Name: "ERP_Overdue_Balance__c", Type: typeDouble, Scale: 2})
	a.add(Field{Name: "ERP_Active__c", Type: typeBoolean, Default: true})
	a.add(Field{Name: "Support_Notes__c", Type: typeTextarea, Length: 4000})
	a.restricted("ERP_Credit_Hold__c", "Auto", "On", "Off")
	a.restricted("ERP_Activation__c", "Pending", "Active", "Rejected")
	a.add(Field{Name: "ERP_Activation_Note__c", Type: typeTextarea, Length: 4000})
	a.restricted("Segment__c", "Enterprise", "Midmarket", "Small")
	a.restricted("Support_Tier__c", "Standard", "Premium", "VIP")
	// The values that a new org has. A real org cannot restrict a standard field; this one does, so that it also
	// stands for one whose own rule guards the list.
	a.restricted("Industry", "Agriculture", "Apparel", "Banking", "Biotechnology", "Chemicals", "Communications", "Construction", "Consulting",
		"Education", "Electronics", "Energy", "Engineering", "Entertainment", "Environmental", "Finance", "Food & Beverage", "Government",
		"Healthcare", "Hospitality", "Insurance", "Machinery", "Manufacturing", "Media", "Not For Profit", "Other", "Recreation", "Retail",
		"Shipping", "Technology", "Telecommunications", "Transportation", "Utilities")

	c := newObject("Contact", "003")
	c.text(40, "FirstName")
	c.add(Field{Name: "LastName", Type: typeString, Length: 80, Required: true})
	c.add(Field{Name: "Salutation", Type: typePicklist, Length: 40})
	c.add(Field{Name: "Name", Type: typeString, Length: 121, ReadOnly: true, Compound: true})
	c.add(Field{Name: "AccountId", Type: typeReference, RefersTo: "Account", Relationship: "Account"})
	c.add(Field{Name: "ReportsToId", Type: typeReference, RefersTo: "Contact", Relationship: "ReportsTo"})
	c.add(Field{Name: "MasterRecordId", Type: typeReference, RefersTo: "Contact", Relationship: "MasterRecord", ReadOnly: true})
	c.add(Field{Name: "Email", Type: typeEmail, Length: 80})
	for _, n := range []string{"Phone", "MobilePhone", "HomePhone", "OtherPhone", "Fax"} {
		c.add(Field{Name: n, Type: typePhone, Length: 40})
	}
	c.text(128, "Title")
	c.text(80, "Department")
	c.add(Field{Name: "LeadSource", Type: typePicklist, Length: 255})
	c.add(Field{Name: "Birthdate", Type: typeDate})
	c.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	c.add(Field{Name: "HasOptedOutOfEmail", Type: typeBoolean})
	c.add(Field{Name: "DoNotCall", Type: typeBoolean})
	c.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	c.address("Mailing", "Other")
	c.external("Sorrel_Id__c")
	c.add(Field{Name: "Active__c", Type: typeBoolean, Default: true})

	o := newObject("Order", "801")
	o.add(Field{Name: "AccountId", Type: typeReference, RefersTo: "Account", Relationship: "Account", Required: true})
	o.add(Field{Name: "EffectiveDate", Type: typeDate, Required: true})
	o.add(Field{Name: "EndDate", Type: typeDate})
	o.add(Field{Name: "Status", Type: typePicklist, Length: 40, Restricted: true, Required: true, Values: []string{"Draft", "Activated"}})
	o.add(Field{Name: "OrderNumber", Type: typeString, Length: 30, ReadOnly: true})
	o.text(80, "PoNumber")
	o.add(Field{Name: "PoDate", Type: typeDate})
	o.add(Field{Name: "Type", Type: typePicklist, Length: 40})
	o.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	o.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	o.address("Billing", "Shipping")
	o.external("Sorrel_Id__c")
	o.text(80, "ERP_Order_Number__c ERP_Ship_Method__c")
	o.add(Field{Name: "ERP_Status__c", Type: typePicklist, Length: 255, Restricted: true, Values: []string{"Pending Approval", "Pending Fulfilment",
		"Partially Fulfilled", "Pending Billing", "Billed", "Closed", "Cancelled"}})
	for _, n := range []string{"ERP_Total__c", "ERP_Subtotal__c", "ERP_Tax__c", "ERP_Freight__c"} {
		o.add(Field{Name: n, Type: typeCurrency, Scale: 2})
	}
	o.text(3, "ERP_Currency__c")
	o.add(Field{Name: "ERP_Requested_Ship_Date__c", Type: typeDate})
	o.add(Field{Name: "ERP_Lines__c", Type: typeTextarea, Length: 131072})

	s := newObject("Shipment__c", "a00")
	s.text(80, "Name")
	s.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	s.external("Sorrel_Id__c")
	s.add(Field{Name: "Order__c", Type: typeReference, RefersTo: "Order", Relationship: "Order__r"})
	s.add(Field{Name: "Status__c", Type: typePicklist, Length: 255, Restricted: true, Values: []string{"Picked", "Packed", "Shipped"}})
	s.text(80, "Carrier__c Ship_Method__c ERP_Fulfilment_Number__c")
	s.text(255, "Tracking_Numbers__c")
	s.add(Field{Name: "Shipped_On__c", Type: typeDate})
	s.add(Field{Name: "Lines__c", Type: typeTextarea, Length: 131072})

	i := newObject("Invoice__c", "a01")
	i.text(80, "Name ERP_Invoice_Number__c")
	i.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	i.external("Sorrel_Id__c")
	i.add(Field{Name: "Account__c", Type: typeReference, RefersTo: "Account", Relationship: "Account__r"})
	i.add(Field{Name: "Order__c", Type: typeReference, RefersTo: "Order", Relationship: "Order__r"})
	i.restricted("Status__c", "Open", "Paid", "Pending Approval", "Rejected", "Voided")
	i.text(3, "Currency__c")
	for _, n := range []string{"Total__c", "Amount_Due__c"} {
		i.add(Field{Name: n, Type: typeCurrency, Scale: 2})
	}
	for _, n := range []string{"Issued_On__c", "Due_On__c", "Paid_On__c"} {
		i.add(Field{Name: n, Type: typeDate})
	}

	k := newObject("Contract__c", "a02")
	k.text(80, "Name ERP_Contract_Number__c")
	k.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	k.external("Sorrel_Id__c")
	k.add(Field{Name: "Account__c", Type: typeReference, RefersTo: "Account", Relationship: "Account__r"})
	k.restricted("Status__c", "Draft", "Active", "Expired", "Cancelled")
	k.restricted("Tier__c", "Standard", "Premium", "VIP")
	k.add(Field{Name: "Starts_On__c", Type: typeDate})
	k.add(Field{Name: "Ends_On__c", Type: typeDate})
	k.text(255, "Product__c")

	return map[string]*object{"contract__c": k, "product2": product(), "pricebook2": pricebook(), "pricebookentry": pricebookEntry(), "account": a, "contact": c, "order": o, "shipment__c": s, "invoice__c": i, "opportunity": opportunity(), "task": task(), "case": support()}
}

// stages of a new org, in their order, with the probability that each brings along.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_opportunity.htm
func stages() (names []string, probability map[string]int) {
	all := []struct {
		name    string
		percent int
	}{
		{"Prospecting", 10}, {"Qualification", 10}, {"Needs Analysis", 20}, {"Value Proposition", 50}, {"Id. Decision Makers", 60}, {"Perception Analysis", 70},
		{"Proposal/Price Quote", 75}, {"Negotiation/Review", 90}, {wonStage, 100}, {lostStage, 0},
	}
	probability = map[string]int{}
	for _, s := range all {
		names = append(names, s.name)
		probability[s.name] = s.percent
	}
	return names, probability
}

const wonStage, lostStage = "Closed Won", "Closed Lost"

func opportunity() *object {
	o := newObject("Opportunity", "006")
	o.add(Field{Name: "Name", Type: typeString, Length: 120, Required: true})
	o.add(Field{Name: "AccountId", Type: typeReference, RefersTo: "Account", Relationship: "Account", Cascades: true})
	names, _ := stages()
	o.add(Field{Name: "StageName", Type: typePicklist, Length: 255, Required: true, Values: names}) // unrestricted: any value is taken
	o.add(Field{Name: "CloseDate", Type: typeDate, Required: true})
	o.add(Field{Name: "Amount", Type: typeCurrency, Scale: 2})
	o.add(Field{Name: "Probability", Type: typeDouble})
	for _, n := range []string{"Type", "LeadSource"} {
		o.add(Field{Name: n, Type: typePicklist, Length: 255})
	}
	o.text(255, "NextStep")
	o.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	o.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	o.add(Field{Name: "IsClosed", Type: typeBoolean, ReadOnly: true})
	o.add(Field{Name: "IsWon", Type: typeBoolean, ReadOnly: true})
	o.external("Sorrel_Id__c")
	o.text(3, "Currency__c")
	o.restricted("Sorrel_Status__c", "Waiting", "Pending", "Review", "Active", "Rejected", "Cancelled")
	o.add(Field{Name: "Sorrel_Note__c", Type: typeTextarea, Length: 4000})
	return o
}

// task is an activity. Its custom fields are defined once for tasks and events, on Activity.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_task.htm
func task() *object {
	o := newObject("Task", "00T")
	o.add(Field{Name: "Subject", Type: typeString, Length: 255})
	o.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	o.add(Field{Name: "WhatId", Type: typeReference, RefersTo: "Account", OrTo: []string{"Opportunity", "Order", "Shipment__c"}, Cascades: true})
	o.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	o.add(Field{Name: "ActivityDate", Type: typeDate})
	o.add(Field{Name: "Priority", Type: typePicklist, Length: 255, Values: []string{"High", "Normal", "Low"}, Default: "Normal"}) // unrestricted: any value is taken
	o.add(Field{Name: "Status", Type: typePicklist, Length: 255, Default: "Not Started",
		Values: []string{"Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"}})
	o.external("Sorrel_Id__c")
	return o
}

// support is a case.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_case.htm
func support() *object {
	k := newObject("Case", "500")
	k.add(Field{Name: "CaseNumber", Type: typeString, Length: 30, ReadOnly: true})
	k.add(Field{Name: "AccountId", Type: typeReference, RefersTo: "Account", Relationship: "Account"})
	k.add(Field{Name: "ContactId", Type: typeReference, RefersTo: "Contact", Relationship: "Contact"})
	k.add(Field{Name: "Subject", Type: typeString, Length: 255})
	k.add(Field{Name: "Description", Type: typeTextarea, Length: 32000})
	// The values that a new org has; that the org refuses others is as with Industry.
	k.add(Field{Name: "Status", Type: typePicklist, Length: 255, Restricted: true, Default: "New", Values: []string{"New", "Working", "Escalated", "On Hold", "Closed"}})
	k.add(Field{Name: "Priority", Type: typePicklist, Length: 255, Default: "Medium"})
	for _, n := range []string{"Origin", "Type", "Reason"} {
		k.add(Field{Name: n, Type: typePicklist, Length: 255})
	}
	k.add(Field{Name: "IsEscalated", Type: typeBoolean})
	k.add(Field{Name: "OwnerId", Type: typeReference, RefersTo: "User"})
	k.external("Sorrel_Id__c")
	k.text(40, "Support_Number__c Support_Desk__c")
	k.restricted("Support_Status__c", "New", "Open", "Pending", "On Hold", "Solved", "Closed")
	k.restricted("Support_Priority__c", "Low", "Normal", "High", "Urgent")
	k.add(Field{Name: "Support_Opened_On__c", Type: typeDatetime})
	k.add(Field{Name: "SLA_Breached__c", Type: typeBoolean, Default: false})
	k.restricted("Sorrel_Escalation__c", "None", "Escalated", "Handled")
	k.add(Field{Name: "ERP_Context__c", Type: typeTextarea, Length: 4000})
	k.add(Field{Name: "CRM_Context__c", Type: typeTextarea, Length: 4000})
	k.restricted("Entitled_Tier__c", "None", "Standard", "Premium", "VIP")
	k.add(Field{Name: "Entitled_Until__c", Type: typeDate})
	k.text(255, "Entitlement_Reason__c")
	return k
}

// product is what price books and opportunities sell.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_product2.htm
func product() *object {
	p := newObject("Product2", "01t")
	p.add(Field{Name: "Name", Type: typeString, Length: 255, Required: true})
	p.text(255, "ProductCode")
	p.add(Field{Name: "Description", Type: typeTextarea, Length: 4000})
	p.add(Field{Name: "IsActive", Type: typeBoolean})
	for _, n := range []string{"Family", "QuantityUnitOfMeasure"} {
		p.add(Field{Name: n, Type: typePicklist, Length: 255})
	}
	p.text(180, "StockKeepingUnit")
	p.external("Sorrel_Id__c")
	p.restricted("ERP_Item_Kind__c", "Goods", "Service", "Kit", "Assembly", "Charge", "Download", "Gift Certificate")
	p.text(255, "ERP_Category__c")
	p.text(60, "ERP_Unit__c")
	p.text(3, "ERP_Currency__c")
	p.add(Field{Name: "ERP_List_Price__c", Type: typeDouble, Scale: 2})
	return p
}

// pricebook is a list of prices. Every org has a standard one, which nobody can make or delete.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_pricebook2.htm
func pricebook() *object {
	b := newObject("Pricebook2", "01s")
	b.add(Field{Name: "Name", Type: typeString, Length: 255, Required: true})
	b.add(Field{Name: "Description", Type: typeString, Length: 255})
	b.add(Field{Name: "IsActive", Type: typeBoolean})
	b.add(Field{Name: "IsStandard", Type: typeBoolean, ReadOnly: true})
	b.external("ERP_Price_Level__c")
	return b
}

// pricebookEntry is the price of a product in a price book: one in each, and in the standard one first.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_pricebookentry.htm
func pricebookEntry() *object {
	e := newObject("PricebookEntry", "01u")
	e.add(Field{Name: "Pricebook2Id", Type: typeReference, RefersTo: "Pricebook2", Relationship: "Pricebook2", Required: true})
	e.add(Field{Name: "Product2Id", Type: typeReference, RefersTo: "Product2", Relationship: "Product2", Required: true, Repeats: true})
	e.add(Field{Name: "UnitPrice", Type: typeCurrency, Scale: 2, Required: true})
	e.add(Field{Name: "IsActive", Type: typeBoolean})
	e.add(Field{Name: "UseStandardPrice", Type: typeBoolean})
	e.external("Sorrel_Id__c")
	return e
}

// open makes the standard price book as the kit wants it: it stands for NetSuite's base price.
func (t *Twin) open() {
	b, at := t.objects["pricebook2"], t.opts.Now().Truncate(time.Second)
	r := &row{o: b, id: fullID(b.prefix, 0), values: map[string]any{"Name": "Standard Price Book", "IsActive": true, "IsStandard": true, "ERP_Price_Level__c": "Base Price"},
		created: at, createdBy: IntegrationUser, stamp: at, changedBy: IntegrationUser, logged: -1}
	b.rows[r.id[:15]] = r
	b.index["ERP_Price_Level__c"]["base price"] = []*row{r}
}

// priced refuses what price books refuse: a second price of a product in one, a price elsewhere before the standard one, and a price
// that moves to another product or book.
func (x *tx) priced(r *row, set map[string]any, created bool) *apiError {
	if r.o.name != "PricebookEntry" {
		return nil
	}
	if !created {
		for _, n := range []string{"Pricebook2Id", "Product2Id"} {
			if x.origin == byPerson { // whose page offers them once
				delete(set, n)
			}
			if _, said := set[n]; said {
				return bad("INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: "+n+". Please check the security settings of this field and verify that it is read/write for your profile or permission set.", n)
			}
		}
		return nil
	}
	standard := func(id any) bool {
		b := x.t.objects["pricebook2"].rows[fmt.Sprint(id)[:15]]
		return b != nil && b.values["IsStandard"] == true
	}
	first := standard(set["Pricebook2Id"])
	for _, other := range r.o.index["Product2Id"][strings.ToLower(fmt.Sprint(set["Product2Id"]))] {
		if other.values["Pricebook2Id"] == set["Pricebook2Id"] {
			return bad("DUPLICATE_VALUE", "This price definition already exists in this price book")
		}
		first = first || standard(other.values["Pricebook2Id"])
	}
	if !first {
		return bad("STANDARD_PRICE_NOT_DEFINED", "Before creating a custom price, create a standard price.")
	}
	return nil
}

// refers reports whether f may point to a record of an object.
func (f *Field) refers(object string) bool {
	return f.RefersTo == object || slices.Contains(f.OrTo, object)
}

// fullID makes the 18-character id of a record number: prefix, an instance, the number in base 62, and three
// characters that say which of the others are capitals.
func fullID(prefix string, n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := []byte(prefix + "xx0000000000")
	for i := len(b) - 1; n > 0; i-- {
		b[i] = digits[n%62]
		n /= 62
	}
	return string(b) + suffix(string(b))
}

func suffix(id15 string) string {
	var s []byte
	for chunk := range 3 {
		bits := 0
		for i := range 5 {
			if c := id15[chunk*5+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		s = append(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[bits])
	}
	return string(s)
}

// short is the 15-character form of an id, or false for what is no id.
func short(id string) (string, bool) {
	if len(id) != 15 && len(id) != 18 {
		return "", false
	}
	ok := !strings.ContainsFunc(id, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	})
	return id[:15], ok
}

// describe is what the describe resource answers.
type describedField struct {
	Name             string           `json:"name"`
	Label            string           `json:"label"`
	Type             string           `json:"type"`
	Length           int              `json:"length"`
	Scale            int              `json:"scale"`
	Nillable         bool             `json:"nillable"`
	Createable       bool             `json:"createable"`
	Updateable       bool             `json:"updateable"`
	Unique           bool             `json:"unique"`
	ExternalID       bool             `json:"externalId"`
	IDLookup         bool             `json:"idLookup"`
	Custom           bool             `json:"custom"`
	Filterable       bool             `json:"filterable"`
	Sortable         bool             `json:"sortable"`
	Restricted       bool             `json:"restrictedPicklist"`
	PicklistValues   []describedValue `json:"picklistValues"`
	ReferenceTo      []string         `json:"referenceTo"`
	RelationshipName *string          `json:"relationshipName"`
}

type describedValue struct {
	Active bool   `json:"active"`
	Label  string `json:"label"`
	Value  string `json:"value"`
}

type described struct {
	Name               string            `json:"name"`
	Label              string            `json:"label"`
	LabelPlural        string            `json:"labelPlural"`
	KeyPrefix          string            `json:"keyPrefix"`
	Custom             bool              `json:"custom"`
	Createable         bool              `json:"createable"`
	Updateable         bool              `json:"updateable"`
	Deletable          bool              `json:"deletable"`
	Queryable          bool              `json:"queryable"`
	Retrieveable       bool              `json:"retrieveable"`
	Fields             []describedField  `json:"fields,omitempty"`
	ChildRelationships []string          `json:"childRelationships,omitempty"`
	URLs               map[string]string `json:"urls"`
}

func (o *object) describe(base string, full bool) described {
	d := described{Name: o.name, Label: o.name, LabelPlural: o.name + "s", KeyPrefix: o.prefix, Custom: strings.HasSuffix(o.name, "__c"),
		Createable: true, Updateable: true, Deletable: true, Queryable: true, Retrieveable: true,
		URLs: map[string]string{"sobject": base + "/sobjects/" + o.name, "describe": base + "/sobjects/" + o.name + "/describe", "rowTemplate": base + "/sobjects/" + o.name + "/{ID}"}}
	if !full {
		return d
	}
	for _, n := range o.names {
		f := o.field(n)
		v := describedField{Name: f.Name, Label: f.Name, Type: f.Type, Length: f.Length, Scale: f.Scale, Nillable: !f.Required, Createable: !f.ReadOnly, Updateable: !f.ReadOnly,
			Unique: f.ExternalID, ExternalID: f.ExternalID, IDLookup: f.ExternalID || f.Type == typeID, Custom: strings.HasSuffix(f.Name, "__c"),
			Filterable: f.filterable(), Sortable: f.filterable(), Restricted: f.Restricted, PicklistValues: []describedValue{}, ReferenceTo: []string{}}
		for _, p := range f.Values {
			v.PicklistValues = append(v.PicklistValues, describedValue{true, p, p})
		}
		if f.RefersTo != "" {
			v.ReferenceTo = append([]string{f.RefersTo}, f.OrTo...)
		}
		if f.Relationship != "" {
			v.RelationshipName = &f.Relationship
		}
		d.Fields = append(d.Fields, v)
	}
	return d
}

// filterable reports whether queries may filter and sort by f: long text cannot be.
func (f *Field) filterable() bool { return f.Type != typeTextarea || f.Length <= 255 }

// AddObject adds a custom object with the given three-character id prefix.
func (t *Twin) AddObject(name, prefix string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(prefix) != 3 || !strings.HasSuffix(name, "__c") || t.objects[strings.ToLower(name)] != nil {
		return fmt.Errorf("object %q with prefix %q: want a new name ending in __c and three characters", name, prefix)
	}
	o := newObject(name, prefix)
	o.text(80, "Name")
	t.objects[strings.ToLower(name)] = o
	return nil
}

// AddField adds a field to an object's catalogue, or replaces it.
func (t *Twin) AddField(name string, f Field) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[strings.ToLower(name)]
	if o == nil {
		return fmt.Errorf("no object %q", name)
	}
	if !slices.Contains([]string{typeString, typeTextarea, typePhone, typeEmail, typeURL, typePicklist, typeCurrency, typeDouble, typeInt, typeBoolean, typeDate, typeDatetime, typeReference}, f.Type) {
		return fmt.Errorf("field %s.%s: unknown type %q", name, f.Name, f.Type)
	}
	o.add(f)
	return nil
}

// AddPicklistValue adds a value to a picklist, as an administrator does.
func (t *Twin) AddPicklistValue(name, field, value string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[strings.ToLower(name)]
	if o == nil {
		return fmt.Errorf("no object %q", name)
	}
	f := o.field(field)
	switch {
	case f == nil || f.Type != typePicklist:
		return fmt.Errorf("%s.%s is no picklist", name, field)
	case value == "" || slices.Contains(f.Values, value):
		return fmt.Errorf("picklist %s.%s: value %q is empty or there already", name, field, value)
	}
	changed := *f
	changed.Values = append(slices.Clone(f.Values), value)
	o.add(changed)
	return nil
}
