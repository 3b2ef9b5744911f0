package netsuite

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Objects of the connector, by their record API names.
const (
	customer        = "customer"
	contact         = "contact"
	salesOrder      = "salesOrder"
	itemFulfillment = "itemFulfillment"
	invoice         = "invoice"
	contract        = "customrecord_sorrel_contract" // of our kit
	pricing         = "pricing"                      // lines of items, see layout.each
	item            = "item"                         // read by SuiteQL only: the record API knows each type of item as an object of its own
)

// sold are the types of items that are.
const sold = "itemtype IN ('InvtPart', 'NonInvtPart', 'Service', 'Kit', 'Assembly', 'OthCharge', 'DwnLdItem', 'GiftCert')"

// kind of a field: which shape it has in a Native and how SuiteQL prints it.
type kind string

const (
	text    kind = "text"
	number  kind = "number"
	boolean kind = "bool"
	date    kind = "date"
	instant kind = "time"
	ident   kind = "id"     // {"id": …}: a status or a reference to a record
	choice  kind = "choice" // {"id": …, "refName": …}: a value of a list
	code    kind = "code"   // text, which the record API takes as {"id": …}: a country
	billed  kind = "billed" // {"id": …}: an invoice's status, see billing
)

// field is one field of a record or line.
type field struct {
	name    string // record API
	column  string // SuiteQL
	kind    kind
	outward bool // SuiteQL counts goods and money that leave as negative; the record API does not
}

// child is a sublist or subrecord, read from a table of its own.
type child struct {
	name     string // record API; empty = nothing is kept of it but what is lifted
	list     bool   // {"items": […]} rather than one object
	table    string
	key      string // column that points to the parent …
	parent   string // … by this column of the parent
	where    string
	order    string
	fields   []field
	lift     []field // fields of the parent that only the child table has
	children []child
}

// layout is how one object is spread over the record API and SuiteQL.
type layout struct {
	object   string
	table    string
	where    string
	created  field
	modified field
	rev      string // counter kept by our SuiteScript
	user     string // who saved last, kept by our SuiteScript
	queried  bool   // SuiteQL alone knows it: it is never written, and our script, which has no say in it, counts no saves
	each     string // the sublist whose lines are the records: what one has in the lowest quantity is one; empty: the rows are
	fields   []field
	sub      []child
}

// address is what addresses of every kind hold.
func address() []field {
	return []field{{"addressee", "addressee", text, false}, {"addr1", "addr1", text, false}, {"addr2", "addr2", text, false},
		{"city", "city", text, false}, {"state", "state", text, false}, {"zip", "zip", text, false}, {"country", "country", code, false}}
}

// catalogue is what is read of each object. Table and column names follow the SuiteQL records catalog; those
// of sums, packages, the order line of a fulfilment and the main line's createdfrom are UNCONFIRMED and differ by account: correct them
// with Config.Columns ("total=foreigntotal:number", "-taxTotal"). So is vatRegNumber, which accounts with SuiteTax
// replace by defaultTaxReg, and custentity_segment, our kit's free-form text field ("custentity_segment:choice"
// where it is a list). Of items the columns of class, saleunit and of the table pricing are UNCONFIRMED; an account without
// several currencies has no column currency there.
func catalogue() []layout {
	all := []layout{{
		object: customer, table: "customer", rev: "custentity_sorrel_rev", user: "custentity_sorrel_user", created: field{"dateCreated", "datecreated", instant, false},
		fields: []field{{"entityId", "entityid", text, false}, {"companyName", "companyname", text, false}, {"email", "email", text, false},
			{"phone", "phone", text, false}, {"url", "url", text, false}, {"isInactive", "isinactive", boolean, false},
			{"subsidiary", "subsidiary", choice, false}, {"currency", "currency", choice, false}, {"terms", "terms", choice, false},
			{"creditLimit", "creditlimit", number, false}, {"creditHoldOverride", "creditholdoverride", choice, false}, {"balance", "balance", number, false}, {"overdueBalance", "overduebalance", number, false},
			{"vatRegNumber", "vatregnumber", text, false}, {"custentity_segment", "custentity_segment", text, false},
			{"custentity_sorrel_activation", "custentity_sorrel_activation", text, false}},
		sub: []child{{
			name: addressBook, list: true, table: "customeraddressbook", key: "entity", parent: "id", order: "internalid",
			fields:   []field{{"label", "label", text, false}, {"defaultBilling", "defaultbilling", boolean, false}, {"defaultShipping", "defaultshipping", boolean, false}},
			children: []child{{name: addressBookAddress, table: "customeraddressbookentityaddress", key: "nkey", parent: "addressbookaddress", order: "nkey", fields: address()}},
		}},
	}, {
		object: contact, table: "contact", rev: "custentity_sorrel_rev", user: "custentity_sorrel_user", created: field{"dateCreated", "datecreated", instant, false},
		fields: []field{{"entityId", "entityid", text, false}, {"firstName", "firstname", text, false}, {"lastName", "lastname", text, false},
			{"email", "email", text, false}, {"phone", "phone", text, false}, {"mobilePhone", "mobilephone", text, false}, {"title", "title", text, false},
			{"company", "company", ident, false}, {"isInactive", "isinactive", boolean, false}},
	}, {
		object: salesOrder, table: "transaction", where: "type = 'SalesOrd'", rev: "custbody_sorrel_rev", user: "custbody_sorrel_user", created: field{"createdDate", "createddate", instant, false},
		fields: []field{{"tranId", "tranid", text, false}, {"tranDate", "trandate", date, false}, {"entity", "entity", ident, false},
			{"otherRefNum", "otherrefnum", text, false}, {"orderStatus", "status", ident, false}, {"currency", "currency", choice, false},
			{"subtotal", "subtotal", number, false}, {"taxTotal", "taxtotal", number, false}, {"shippingCost", "shippingcost", number, false},
			{"total", "foreigntotal", number, false}, {"memo", "memo", text, false}, {"shipDate", "shipdate", date, false}, {"shipMethod", "shipmethod", choice, false}},
		sub: []child{
			{name: "shippingAddress", table: "transactionshippingaddress", key: "nkey", parent: "shippingaddress", order: "nkey", fields: address()},
			{name: "item", list: true, table: "transactionline", key: "transaction", parent: "id", where: "mainline = 'F' AND taxline = 'F'", order: "linesequencenumber",
				fields: []field{{"line", "id", number, false}, {"item", "item", choice, false}, {"description", "memo", text, false}, {"quantity", "quantity", number, true},
					{"rate", "rate", number, false}, {"amount", "foreignamount", number, true}, {"quantityFulfilled", "quantityshiprecv", number, false}, {"quantityBilled", "quantitybilled", number, false}}},
		},
	}, {
		object: itemFulfillment, table: "transaction", where: "type = 'ItemShip'", rev: "custbody_sorrel_rev", user: "custbody_sorrel_user", created: field{"createdDate", "createddate", instant, false},
		fields: []field{{"tranId", "tranid", text, false}, {"tranDate", "trandate", date, false}, {"entity", "entity", ident, false},
			{"shipStatus", "status", ident, false}, {"shipMethod", "shipmethod", choice, false}, {"shipCarrier", "shipcarrier", text, false}},
		sub: []child{
			{name: "item", list: true, table: "transactionline", key: "transaction", parent: "id", where: "mainline = 'F' AND taxline = 'F' AND iscogs = 'F'", order: "linesequencenumber",
				fields: []field{{"orderLine", "orderline", number, false}, {"item", "item", choice, false}, {"quantity", "quantity", number, true}},
				lift:   []field{{"createdFrom", "createdfrom", ident, false}}},
			{name: "package", list: true, table: "itemfulfillmentpackage", key: "itemfulfillment", parent: "id", order: "id",
				fields: []field{{"packageTrackingNumber", "packagetrackingnumber", text, false}, {"packageWeight", "packageweight", number, false}, {"packageDescr", "packagedescr", text, false}}},
		},
	}, {
		object: invoice, table: "transaction", where: "type = 'CustInvc'", rev: "custbody_sorrel_rev", user: "custbody_sorrel_user", created: field{"createdDate", "createddate", instant, false},
		fields: []field{{"tranId", "tranid", text, false}, {"tranDate", "trandate", date, false}, {"dueDate", "duedate", date, false}, {"entity", "entity", ident, false},
			{"status", "status", billed, false}, {"currency", "currency", choice, false}, {"total", "foreigntotal", number, false},
			{"amountRemaining", "foreignamountunpaid", number, false}, {"memo", "memo", text, false}, {"custbody_sorrel_paid_on", "custbody_sorrel_paid_on", date, false}},
		sub: []child{{table: "transactionline", key: "transaction", parent: "id", where: "mainline = 'T'", order: "id", lift: []field{{"createdFrom", "createdfrom", ident, false}}}},
	}, {
		object: contract, table: contract, rev: "custrecord_sorrel_contract_rev", user: "custrecord_sorrel_contract_user",
		created: field{"created", "created", instant, false}, modified: field{"lastModified", "lastmodified", instant, false},
		fields: []field{{"name", "name", text, false}, {"custrecord_sorrel_contract_customer", "custrecord_sorrel_contract_customer", ident, false},
			{"custrecord_sorrel_contract_status", "custrecord_sorrel_contract_status", choice, false}, {"custrecord_sorrel_contract_tier", "custrecord_sorrel_contract_tier", choice, false},
			{"custrecord_sorrel_contract_starts", "custrecord_sorrel_contract_starts", date, false}, {"custrecord_sorrel_contract_ends", "custrecord_sorrel_contract_ends", date, false},
			{"custrecord_sorrel_contract_product", "custrecord_sorrel_contract_product", text, false}},
	}, {
		object: item, table: item, queried: true, created: field{"createdDate", "createddate", instant, false},
		where: sold,
		fields: []field{{"itemId", "itemid", text, false}, {"displayName", "displayname", text, false}, {"salesDescription", "description", text, false}, {"itemType", "itemtype", text, false},
			{"class", "class", choice, false}, {"saleUnit", "saleunit", choice, false}, {"isInactive", "isinactive", boolean, false}},
		sub: []child{{table: "pricing", key: "item", parent: "id", where: "pricelevel = 1", order: "currency DESC, quantity DESC", // the last one counts
			lift: []field{{"basePrice", "unitprice", number, false}, {"baseCurrency", "currency", choice, false}}}},
	}, {
		object: pricing, table: item, queried: true, each: "price", created: field{"createdDate", "createddate", instant, false}, where: sold,
		fields: []field{{"isInactive", "isinactive", boolean, false}},
		sub: []child{{name: "price", list: true, table: "pricing", key: "item", parent: "id", order: "pricelevel, currency, quantity",
			fields: []field{{"priceLevel", "pricelevel", choice, false}, {"currency", "currency", choice, false}, {"quantity", "quantity", number, false}, {"unitPrice", "unitprice", number, false}}}},
	}}
	for i := range all {
		if all[i].modified.name == "" {
			all[i].modified = field{"lastModifiedDate", "lastmodifieddate", instant, false}
		}
	}
	return all
}

// column is "name[=column][:kind]", name possibly "sublist.name".
var column = regexp.MustCompile(`^(-?)(?:([A-Za-z]\w*)\.)?([A-Za-z]\w*)(?:=([A-Za-z]\w*))?(?::(\w+))?$`)

// layouts is the catalogue changed by extra columns per object; it names every bad entry.
func layouts(extra map[string][]string) (map[string]layout, error) {
	known := map[string]layout{}
	for _, l := range catalogue() {
		known[l.object] = l
	}
	var problems []error
	for object, entries := range extra {
		l, ok := known[object]
		if !ok {
			problems = append(problems, fmt.Errorf("columns: object %q is not known", object))
			continue
		}
		for _, e := range entries {
			if err := l.change(e); err != nil {
				problems = append(problems, fmt.Errorf("columns: %s: %q: %w", object, e, err))
			}
		}
		known[object] = l
	}
	return known, errors.Join(problems...)
}

func (l *layout) change(entry string) error {
	m := column.FindStringSubmatch(entry)
	if m == nil {
		return errors.New(`want "name", "name=column:kind", "sublist.name" or "-name"`)
	}
	fields := &l.fields
	if m[2] != "" {
		i := slices.IndexFunc(l.sub, func(c child) bool { return c.name == m[2] })
		if i < 0 {
			return fmt.Errorf("there is no sublist %q", m[2])
		}
		fields = &l.sub[i].fields
	}
	kept := slices.DeleteFunc(slices.Clone(*fields), func(f field) bool { return f.name == m[3] })
	if m[1] == "-" {
		if len(kept) == len(*fields) {
			return fmt.Errorf("there is no field %q to leave out", m[3])
		}
		*fields = kept
		return nil
	}
	if len(kept) < len(*fields) && m[4]+m[5] == "" {
		return nil // it is known already, perhaps as more than text
	}
	f := field{name: m[3], column: strings.ToLower(m[4]), kind: kind(m[5])}
	if f.column == "" {
		f.column = strings.ToLower(f.name)
	}
	if f.kind == "" {
		f.kind = text
	}
	if !slices.Contains([]kind{text, number, boolean, date, instant, ident, choice}, f.kind) {
		return fmt.Errorf("kind %q is not text, number, bool, date, time, id or choice", m[5])
	}
	*fields = append(kept, f)
	return nil
}
