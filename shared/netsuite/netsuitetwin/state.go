package netsuitetwin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/twin"
)

const (
	customer        = "customer"
	contact         = "contact"
	salesOrder      = "salesOrder"
	itemFulfillment = "itemFulfillment"
	invoice         = "invoice"
	contract        = "customrecord_sorrel_contract"
	item            = "item" // of SuiteQL; the record API knows each type of item by another name, which this twin has not
)

// spec is one field of the account's catalogue.
type spec struct {
	kind     string            // text, number, bool, date, time, enum, list:<name>, ref:<object>, address, sublist
	values   map[string]string // of an enum: id → name
	readOnly bool              // the API ignores it; a person's act and the system set it
	lines    map[string]spec   // of a sublist
	keyed    bool              // lines of this sublist are named by id and internalId
}

// mergeMark is the field by which our kit learns into which record another one is merged.
const mergeMark = "custentity_sorrel_merge_into"

const contractCustomer = "custrecord_sorrel_contract_customer"

func specs() map[string]map[string]spec {
	text, number := spec{kind: "text"}, spec{kind: "number"}
	computed, author := spec{kind: "number", readOnly: true}, spec{kind: "text", readOnly: true}
	return map[string]map[string]spec{
		customer: {"entityId": text, "companyName": text, "email": text, "phone": text, "url": text, "isInactive": {kind: "bool"}, "isPerson": {kind: "bool"},
			"subsidiary": {kind: "list:subsidiary"}, "currency": {kind: "list:currency"}, "terms": {kind: "list:terms"}, "creditLimit": number, "balance": computed, "overdueBalance": computed,
			"creditHoldOverride": {kind: "enum", values: map[string]string{"AUTO": "Auto", "ON": "On", "OFF": "Off"}}, "vatRegNumber": text, "custentity_segment": text, "custentity_sorrel_activation": text,
			"custentity_sorrel_rev": computed, "custentity_sorrel_user": author, mergeMark: text,
			"addressBook": {kind: "sublist", keyed: true, lines: map[string]spec{"label": text, "defaultBilling": {kind: "bool"}, "defaultShipping": {kind: "bool"}, "addressBookAddress": {kind: "address"}}}},
		contact: {"entityId": text, "firstName": text, "lastName": text, "email": text, "phone": text, "mobilePhone": text, "title": text, "isInactive": {kind: "bool"},
			"company": {kind: "ref:customer"}, "subsidiary": {kind: "list:subsidiary"}, "custentity_sorrel_rev": computed, "custentity_sorrel_user": author, mergeMark: text},
		salesOrder: {"tranId": text, "tranDate": {kind: "date"}, "entity": {kind: "ref:customer"}, "otherRefNum": text,
			"orderStatus": {kind: "enum", values: map[string]string{"A": "Pending Approval", "B": "Pending Fulfillment", "C": "Cancelled", "D": "Partially Fulfilled",
				"E": "Pending Billing/Partially Fulfilled", "F": "Pending Billing", "G": "Billed", "H": "Closed"}},
			"currency": {kind: "list:currency"}, "subtotal": computed, "taxTotal": computed, "shippingCost": number, "total": computed, "memo": text, "shipDate": {kind: "date"},
			"shipMethod": {kind: "list:shipMethod"}, "shippingAddress": {kind: "address"}, "custbody_sorrel_rev": computed, "custbody_sorrel_user": author,
			"item": {kind: "sublist", lines: map[string]spec{"line": number, "item": {kind: "list:item"}, "description": text, "quantity": number, "rate": number, "amount": number,
				"quantityFulfilled": computed, "quantityBilled": computed}}},
		itemFulfillment: {"createdFrom": {kind: "ref:salesOrder"}, "entity": {kind: "ref:customer"}, "tranId": text, "tranDate": {kind: "date"},
			"shipStatus": {kind: "enum", values: map[string]string{"A": "Picked", "B": "Packed", "C": "Shipped"}},
			"shipMethod": {kind: "list:shipMethod"}, "shipCarrier": text, "custbody_sorrel_rev": computed, "custbody_sorrel_user": author,
			"package": {kind: "sublist", lines: map[string]spec{"packageTrackingNumber": text, "packageWeight": number, "packageDescr": text}},
			"item":    {kind: "sublist", lines: map[string]spec{"item": {kind: "list:item"}, "quantity": number, "orderLine": number}}},
		contract: {"name": text, "isInactive": {kind: "bool"}, contractCustomer: {kind: "ref:customer"}, "custrecord_sorrel_contract_status": {kind: "list:contractStatus"},
			"custrecord_sorrel_contract_tier": {kind: "list:contractTier"}, "custrecord_sorrel_contract_starts": {kind: "date"}, "custrecord_sorrel_contract_ends": {kind: "date"},
			"custrecord_sorrel_contract_product": text, "custrecord_sorrel_contract_rev": computed, "custrecord_sorrel_contract_user": author},
		item: {"itemId": text, "displayName": text, "salesDescription": text, "itemType": text, "class": {kind: "list:class"}, "saleUnit": {kind: "list:unit"}, "isInactive": {kind: "bool"},
			"price": {kind: "sublist", lines: map[string]spec{"priceLevel": {kind: "list:priceLevel"}, "currency": {kind: "list:currency"}, "quantity": number, "unitPrice": number}}},
		invoice: {"createdFrom": {kind: "ref:salesOrder"}, "entity": {kind: "ref:customer"}, "tranId": text, "tranDate": {kind: "date"}, "dueDate": {kind: "date"},
			"status":   {kind: "enum", readOnly: true, values: map[string]string{open: open, paidInFull: paidInFull, pendingApproval: pendingApproval, rejected: rejected, voided: voided}},
			"currency": {kind: "list:currency"}, "total": computed, "amountPaid": computed, "amountRemaining": computed, "memo": text,
			"custbody_sorrel_paid_on": {kind: "date"}, "custbody_sorrel_rev": computed, "custbody_sorrel_user": author,
			"item": {kind: "sublist", lines: map[string]spec{"item": {kind: "list:item"}, "description": text, "quantity": number, "rate": number, "amount": number}}},
	}
}

func lists() map[string]map[string]string {
	items := map[string]string{}
	for i := 1; i <= 20; i++ {
		items[strconv.Itoa(i)] = fmt.Sprintf("Item %d", i)
	}
	return map[string]map[string]string{"item": items, "subsidiary": {"1": "Parent Company"},
		"currency": {"1": "USD", "2": "GBP", "3": "CAD", "4": "EUR", "5": "CHF"}, "terms": {"1": "Net 15", "2": "Net 30", "3": "Net 60"},
		"shipMethod":     {"1": "Speedy Express", "2": "United Package", "3": "Federal Shipping"},
		"contractStatus": {"1": "Draft", "2": "Active", "3": "Expired", "4": "Cancelled"}, "contractTier": {"1": "Standard", "2": "Premium", "3": "VIP"},
		"class": {"1": "Food", "2": "Beverages"}, "unit": {"1": "Each", "2": "Box"}, "priceLevel": {"1": "Base Price", "2": "Alternate Price 1", "5": "Online Price"}}
}

var customField = regexp.MustCompile(`^cust(entity|body|col|record)_[a-z0-9_]+$`)

func addField(object map[string]spec, objectName, name, kind string) error {
	sub, last, isLine := strings.Cut(name, ".")
	if !isLine {
		last = name
	}
	if object == nil || !customField.MatchString(last) {
		return fmt.Errorf("netsuitetwin: add field %s.%s: want a known object and a name such as custbody_region", objectName, name)
	}
	if kind == "list" {
		kind = "list:" + last
	}
	if !isLine {
		object[name] = spec{kind: kind}
		return nil
	}
	if object[sub].lines == nil {
		return fmt.Errorf("netsuitetwin: add field %s.%s: there is no such sublist", objectName, name)
	}
	object[sub].lines[last] = spec{kind: kind}
	return nil
}

// rec is one record. fields has the record API's expanded shape; empty fields are left out.
type rec struct {
	object            string
	id                int64
	external          string
	created, modified time.Time
	rev               int64
	user              string // who saved last, by the kit
	into              string // of one that is merged: the record that stays
	fields            map[string]any
}

func (r *rec) key() string { return strconv.FormatInt(r.id, 10) }

func (r *rec) createdName() string {
	switch {
	case r.entity():
		return "dateCreated"
	case r.object == contract:
		return "created"
	}
	return "createdDate"
}

func (r *rec) modifiedName() string {
	if r.object == contract {
		return "lastModified"
	}
	return "lastModifiedDate"
}

func (r *rec) revName() string {
	switch {
	case r.object == item:
		return "" // nobody counts its saves
	case r.entity():
		return "custentity_sorrel_rev"
	case r.object == contract:
		return "custrecord_sorrel_contract_rev"
	}
	return "custbody_sorrel_rev"
}

func (r *rec) userName() string { return strings.Replace(r.revName(), "_rev", "_user", 1) }

// entity tells customers and contacts from transactions.
func (r *rec) entity() bool { return r.object == customer || r.object == contact }

// full is a copy of the record with its ids and times.
func (r *rec) full() map[string]any {
	m := deepCopy(r.fields).(map[string]any)
	m["id"] = r.key()
	if r.external != "" {
		m["externalId"] = r.external
	}
	m[r.createdName()] = r.created.UTC().Format(time.RFC3339)
	m[r.modifiedName()] = r.modified.UTC().Format(time.RFC3339)
	if r.object == item {
		return m
	}
	m[r.revName()] = json.Number(strconv.FormatInt(r.rev, 10))
	if r.user != "" {
		m[r.userName()] = r.user
	}
	return m
}

func deepCopy(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x)+6)
		for k, e := range x {
			m[k] = deepCopy(e)
		}
		return m
	case []any:
		s := make([]any, len(x))
		for i, e := range x {
			s[i] = deepCopy(e)
		}
		return s
	}
	return v
}

func jsonCopy(m map[string]any) (map[string]any, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var out map[string]any
	return out, dec.Decode(&out)
}

// actor is who saves.
type actor struct {
	context string
	user    string
	trusted bool // may set read-only fields and new list values, as a person or the system does
	strict  bool // an unknown field is an error instead of being dropped
	quiet   bool // no webhook
	lines   bool // given sublists replace all lines
	replace []string
}

// refusal is an error of the record API.
type refusal struct {
	status       int
	code, detail string
	path         string
}

func invalid(path, detail string) *refusal {
	return &refusal{http.StatusBadRequest, "INVALID_CONTENT", detail, path}
}

func invalidValue(path, value string) *refusal {
	return invalid(path, fmt.Sprintf("You have entered an Invalid Field Value %s for the following field: %s", value, path[strings.LastIndex(path, ".")+1:]))
}

// wantsID refuses bare text where the API takes {"id": …}.
func wantsID(path string) *refusal {
	return invalid(path, fmt.Sprintf("Invalid value for the resource or sub-resource field '%s'. Provide a valid value.", path))
}

// save creates or changes a record as the user event kit sees it. It must be called with mu held. Nothing
// changes on a refusal.
func (t *Twin) save(object string, old *rec, id int64, in map[string]any, at time.Time, by actor) (*rec, *refusal) {
	r := &rec{object: object, id: id, created: at, fields: map[string]any{}}
	event := "create"
	if old != nil {
		event = "edit"
		*r = *old
		r.fields = maps.Clone(old.fields)
	}
	r.modified = at.Truncate(time.Second)
	if old == nil {
		r.created = r.modified
	}
	if ext, ok := in["externalId"]; ok {
		r.external, _ = ext.(string)
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		s, known := t.specs[object][name]
		switch {
		case name == "externalId" || name == "id" || name == "links" || name == "refName":
			continue
		case !known && (by.strict || by.trusted):
			return nil, invalid(name, fmt.Sprintf("Unknown reference or invalid property %s in request of record %s.", name, object))
		case !known, s.readOnly && !by.trusted, name == r.revName(), name == r.userName(), name == r.createdName(), name == r.modifiedName():
			continue
		}
		v, bad := t.value(object, s, name, in[name], r.fields[name], by)
		if bad != nil {
			return nil, bad
		}
		if v == nil {
			delete(r.fields, name)
		} else {
			r.fields[name] = v
		}
	}
	if other, taken := t.external[object][r.external]; r.external != "" && taken && (old == nil || other != old.id) {
		return nil, &refusal{http.StatusBadRequest, "DUP_RCRD", "This record already exists.", "externalId"}
	}
	if bad := t.complete(r, in); bad != nil {
		return nil, bad
	}
	r.rev++ // the kit's beforeSubmit
	if r.user = by.user; by.quiet && old != nil {
		r.user = old.user
	}
	if r.id == 0 {
		t.nextID++
		r.id = t.nextID
		t.number(r)
	}
	t.nextID = max(t.nextID, r.id)
	t.keys(r)
	t.put(old, r)
	if !by.quiet {
		t.push(r, event, "record.saved", by)
	}
	t.owed(old, r, by)
	return r, nil
}

// keys gives lines of keyed sublists their keys, which never change.
func (t *Twin) keys(r *rec) {
	for name, s := range t.specs[r.object] {
		if !s.keyed {
			continue
		}
		lines := itemsOf(r.fields[name])
		if len(lines) >= lineKeys {
			continue // more than keys
		}
		used, last := map[int64]bool{}, r.id*lineKeys
		for _, l := range lines {
			if n, ok := dec(l["id"]); ok {
				used[n.IntPart()], last = true, max(last, n.IntPart())
			}
		}
		for _, l := range lines {
			if l["id"] != nil {
				continue
			}
			for last++; last >= (r.id+1)*lineKeys || used[last]; last++ {
				if last >= (r.id+1)*lineKeys {
					last = r.id * lineKeys // the keys of this record are used up: take one that is free again
				}
			}
			used[last] = true
			l["id"] = json.Number(strconv.FormatInt(last, 10))
			l["internalId"] = l["id"]
		}
	}
}

// number gives a new record its document number or name.
func (t *Twin) number(r *rec) {
	field, prefix := "tranId", map[string]string{salesOrder: "SO", itemFulfillment: "IF", invoice: "INV"}[r.object]
	if r.entity() {
		field, prefix = "entityId", "CUST-"
	} else if r.object == item {
		field, prefix = "itemId", "ITEM-"
	} else if r.object == contract {
		field, prefix = "name", "CON-"
	}
	if r.fields[field] == nil {
		r.fields[field] = prefix + r.key()
	}
}

// complete checks what must be there and computes what NetSuite computes.
func (t *Twin) complete(r *rec, in map[string]any) *refusal {
	missing := func(label string) *refusal {
		return &refusal{http.StatusBadRequest, "USER_ERROR", "Please enter value(s) for: " + label, ""}
	}
	def := func(name string, v any) {
		if r.fields[name] == nil {
			r.fields[name] = v
		}
	}
	switch r.object {
	case customer:
		if r.fields["companyName"] == nil {
			return missing("Company Name")
		}
		def("isInactive", false)
		def("isPerson", false)
		def("creditHoldOverride", map[string]any{"id": "AUTO", "refName": "Auto"})
		def("subsidiary", map[string]any{"id": "1", "refName": t.lists["subsidiary"]["1"]})
		return nil
	case contact:
		first, _ := r.fields["firstName"].(string)
		last, _ := r.fields["lastName"].(string)
		name := strings.TrimSpace(first + " " + last)
		if name == "" && r.fields["entityId"] == nil {
			return missing("Name")
		}
		if name != "" {
			def("entityId", name)
		}
		def("isInactive", false)
		def("subsidiary", map[string]any{"id": "1", "refName": t.lists["subsidiary"]["1"]})
		return nil
	case contract:
		if r.fields[contractCustomer] == nil {
			return missing("Customer")
		}
		def("isInactive", false)
		def("custrecord_sorrel_contract_status", map[string]any{"id": "1", "refName": t.lists["contractStatus"]["1"]})
		return nil
	case item:
		def("isInactive", false)
		def("itemType", "InvtPart")
		for _, line := range itemsOf(r.fields["price"]) {
			for name, first := range map[string]any{"priceLevel": map[string]any{"id": "1", "refName": t.lists["priceLevel"]["1"]}, "currency": map[string]any{"id": "1", "refName": t.lists["currency"]["1"]}, "quantity": json.Number("0")} {
				if line[name] == nil {
					line[name] = first
				}
			}
		}
		return nil
	case itemFulfillment:
		if r.fields["createdFrom"] == nil {
			return missing("Created From")
		}
		def("shipStatus", map[string]any{"id": "A", "refName": "Picked"})
	case salesOrder:
		if r.fields["entity"] == nil {
			return missing("Customer")
		}
		def("orderStatus", map[string]any{"id": "A", "refName": "Pending Approval"})
		def("currency", map[string]any{"id": "1", "refName": t.lists["currency"]["1"]})
	case invoice:
		if r.fields["entity"] == nil {
			return missing("Customer")
		}
		def("currency", map[string]any{"id": "1", "refName": t.lists["currency"]["1"]})
		def("tranDate", r.modified.In(t.zone).Format(time.DateOnly))
		bill(r, in)
		return nil
	}
	def("tranDate", r.modified.In(t.zone).Format(time.DateOnly))
	lines := itemsOf(r.fields["item"])
	sum, last := decimal.Zero, int64(0)
	for _, l := range lines {
		if n, ok := dec(l["line"]); ok {
			last = max(last, n.IntPart())
		}
	}
	for _, l := range lines {
		if r.object != salesOrder {
			break
		}
		if l["line"] == nil {
			last++
			l["line"] = json.Number(strconv.FormatInt(last, 10))
		}
		for _, name := range []string{"quantityFulfilled", "quantityBilled"} {
			if l[name] == nil {
				l[name] = json.Number("0")
			}
		}
		quantity, okQ := dec(l["quantity"])
		rate, okR := dec(l["rate"])
		if l["amount"] == nil && okQ && okR {
			l["amount"] = json.Number(quantity.Mul(rate).Round(2).String())
		}
		amount, _ := dec(l["amount"])
		sum = sum.Add(amount)
	}
	if r.object == salesOrder && (len(lines) > 0 || in["item"] != nil) {
		if in["subtotal"] == nil {
			r.fields["subtotal"] = json.Number(sum.String())
		}
		if in["total"] == nil {
			total, _ := dec(r.fields["subtotal"])
			for _, name := range []string{"taxTotal", "shippingCost"} {
				n, _ := dec(r.fields[name])
				total = total.Add(n)
			}
			r.fields["total"] = json.Number(total.String())
		}
	}
	return nil
}

func dec(v any) (decimal.Decimal, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return decimal.Zero, false
	}
	d, err := decimal.NewFromString(n.String())
	return d, err == nil
}

// itemsOf are the lines of a sublist; they are the record's own maps.
func itemsOf(v any) []map[string]any {
	m, _ := v.(map[string]any)
	items, _ := m["items"].([]any)
	var out []map[string]any
	for _, i := range items {
		if l, ok := i.(map[string]any); ok {
			out = append(out, l)
		}
	}
	return out
}

// linePart is what a path has for the position of a line.
var linePart = regexp.MustCompile(`\.items\[\d+\]`)

// normalised is what the account makes of a value of object's field at path.
func (t *Twin) normalised(object, path string, v any) any {
	if t.opt.Normalise == nil || v == nil {
		return v
	}
	return t.opt.Normalise(object, linePart.ReplaceAllString(path, ""), v)
}

// value checks one given value against its spec and brings it into the stored shape.
func (t *Twin) value(object string, s spec, path string, v, old any, by actor) (any, *refusal) {
	if s.kind != "sublist" && s.kind != "address" {
		v = t.normalised(object, path, v)
	}
	if v == nil {
		return nil, nil
	}
	m, isMap := v.(map[string]any)
	plain := fmt.Sprint(v)
	kind, of, _ := strings.Cut(s.kind, ":")
	if slices.Contains([]string{"enum", "list", "ref"}, kind) && !isMap && !by.trusted {
		return nil, wantsID(path)
	}
	switch kind {
	case "number":
		d, err := decimal.NewFromString(plain)
		if err != nil || isMap {
			return nil, invalidValue(path, plain)
		}
		return json.Number(d.String()), nil
	case "bool":
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, invalidValue(path, plain)
	case "date":
		if _, err := time.Parse(time.DateOnly, plain); err != nil {
			return nil, invalidValue(path, plain)
		}
		return plain, nil
	case "time":
		at, err := time.Parse(time.RFC3339, plain)
		if err != nil {
			return nil, invalidValue(path, plain)
		}
		return at.UTC().Format(time.RFC3339), nil
	case "enum":
		if isMap {
			plain = fmt.Sprint(m["id"])
		}
		name, ok := s.values[plain]
		if !ok {
			return nil, invalidValue(path, plain)
		}
		return map[string]any{"id": plain, "refName": name}, nil
	case "list":
		return t.listValue(of, path, v, by)
	case "ref":
		if isMap && m["externalId"] != nil {
			id, ok := t.external[of][fmt.Sprint(m["externalId"])]
			if !ok {
				return nil, &refusal{http.StatusBadRequest, "INVALID_KEY_OR_REF", "Invalid reference key or external id for field " + path + ".", path}
			}
			plain = strconv.FormatInt(id, 10)
		} else if isMap {
			plain = fmt.Sprint(m["id"])
		}
		id, _ := strconv.ParseInt(plain, 10, 64)
		target := t.byID[of][id]
		if target == nil {
			return nil, &refusal{http.StatusBadRequest, "INVALID_KEY_OR_REF", "Invalid reference key " + plain + " for field " + path + ".", path}
		}
		name, _ := target.fields["companyName"].(string)
		if of == salesOrder {
			name = "Sales Order #" + fmt.Sprint(target.fields["tranId"])
		}
		return map[string]any{"id": plain, "refName": name}, nil
	case "address":
		if !isMap {
			return nil, invalidValue(path, plain)
		}
		out := map[string]any{}
		before, _ := old.(map[string]any)
		maps.Copy(out, before)
		for name, part := range m {
			if !slices.Contains([]string{"addressee", "addr1", "addr2", "city", "state", "zip", "country", "links"}, name) {
				return nil, invalid(path+"."+name, "Unknown property "+name+".")
			}
			if p, ok := part.(map[string]any); ok {
				part = p["id"]
			} else if name == "country" && part != nil && !by.trusted {
				return nil, wantsID(path + ".country")
			}
			part = t.normalised(object, path+"."+name, part)
			if out[name] = part; part == nil {
				delete(out, name)
			}
		}
		if len(out) == 0 {
			return nil, nil
		}
		return out, nil
	case "sublist":
		return t.sublist(object, s, path, m, old, by)
	}
	if _, ok := v.(string); !ok {
		return nil, invalidValue(path, plain)
	}
	if plain == "" {
		return nil, nil
	}
	return plain, nil
}

func (t *Twin) listValue(list, path string, v any, by actor) (any, *refusal) {
	m, isMap := v.(map[string]any)
	if !isMap {
		m = map[string]any{"id": fmt.Sprint(v)}
	}
	id, name := "", ""
	if m["id"] != nil {
		id = fmt.Sprint(m["id"])
	}
	name, _ = m["refName"].(string)
	if t.lists[list] == nil {
		t.lists[list] = map[string]string{}
	}
	known := t.lists[list]
	if id == "" {
		for _, k := range slices.Sorted(maps.Keys(known)) {
			if known[k] == name {
				id = k
			}
		}
	}
	switch {
	case id == "" && name == "":
		return nil, nil
	case id == "" && by.trusted:
		id = strconv.Itoa(len(known) + 1)
		known[id] = name
	case known[id] == "" && by.trusted:
		if name == "" {
			name = "Value " + id
		}
		known[id] = name
	case known[id] == "":
		return nil, invalidValue(path, id)
	}
	return map[string]any{"id": id, "refName": known[id]}, nil
}

func (t *Twin) sublist(object string, s spec, path string, m map[string]any, old any, by actor) (any, *refusal) {
	given, ok := m["items"].([]any)
	if !ok {
		return nil, invalid(path, "A sublist needs items.")
	}
	var lines []any
	if !by.lines && !slices.Contains(by.replace, path) {
		for _, l := range itemsOf(old) {
			lines = append(lines, maps.Clone(l))
		}
	}
	for i, g := range given {
		in, ok := g.(map[string]any)
		at := fmt.Sprintf("%s.items[%d]", path, i)
		if !ok {
			return nil, invalid(at, "A line must be an object.")
		}
		line := map[string]any{}
		merged := false
		for _, l := range lines {
			for _, key := range []string{"line", "id", "internalId"} {
				if key != "line" && !s.keyed {
					continue
				}
				if existing := l.(map[string]any); in[key] != nil && fmt.Sprint(existing[key]) == fmt.Sprint(in[key]) {
					line, merged = existing, true
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(in)) {
			ls, known := s.lines[name]
			switch {
			case name == "links" || name == "refName" || s.keyed && (name == "id" || name == "internalId"):
				continue
			case !known && (by.strict || by.trusted):
				return nil, invalid(at+"."+name, "Unknown property "+name+".")
			case !known, ls.readOnly && !by.trusted:
				continue
			}
			v, bad := t.value(object, ls, at+"."+name, in[name], line[name], by)
			if bad != nil {
				return nil, bad
			}
			if line[name] = v; v == nil {
				delete(line, name)
			}
		}
		for _, l := range lines { // only one line is a default
			for _, flag := range []string{"defaultBilling", "defaultShipping"} {
				if other := l.(map[string]any); line[flag] == true && in[flag] != nil && (!merged || fmt.Sprint(other["id"]) != fmt.Sprint(line["id"])) && other[flag] == true {
					other[flag] = false
				}
			}
		}
		if !merged {
			lines = append(lines, line)
		}
	}
	return map[string]any{"items": lines}, nil
}

// table is the SuiteQL table of an object.
func table(object string) string {
	if object == customer || object == contact || object == contract || object == item {
		return object
	}
	return "transaction"
}

func before(a, b *rec) int {
	if c := a.modified.Compare(b.modified); c != 0 {
		return c
	}
	return int(a.id - b.id)
}

// put replaces old by r in all indexes.
func (t *Twin) put(old, r *rec) {
	if t.byID[r.object] == nil {
		t.byID[r.object], t.external[r.object] = map[int64]*rec{}, map[string]int64{}
	}
	if old != nil {
		t.remove(old)
	}
	t.byID[r.object][r.id] = r
	if r.external != "" {
		t.external[r.object][r.external] = r.id
	}
	all := t.sorted[table(r.object)]
	i := sort.Search(len(all), func(i int) bool { return before(all[i], r) > 0 })
	t.sorted[table(r.object)] = slices.Insert(all, i, r)
	byID := t.ids[table(r.object)]
	t.ids[table(r.object)] = slices.Insert(byID, after(byID, r.id-1), r)
}

// after is where the records begin whose ids are higher.
func after(byID []*rec, id int64) int {
	return sort.Search(len(byID), func(i int) bool { return byID[i].id > id })
}

func (t *Twin) remove(r *rec) {
	delete(t.byID[r.object], r.id)
	delete(t.external[r.object], r.external)
	all := t.sorted[table(r.object)]
	i := sort.Search(len(all), func(i int) bool { return before(all[i], r) >= 0 })
	t.sorted[table(r.object)] = slices.Delete(all, i, i+1)
	byID := t.ids[table(r.object)]
	i = after(byID, r.id-1)
	t.ids[table(r.object)] = slices.Delete(byID, i, i+1)
}

// dependent refuses to delete a customer that has transactions or contracts.
func (t *Twin) dependent(r *rec) *refusal {
	if r.object != customer {
		return nil
	}
	for _, o := range append(slices.Clone(t.sorted["transaction"]), t.sorted[contract]...) {
		if refers(o.fields["entity"], r) || refers(o.fields[contractCustomer], r) {
			return &refusal{http.StatusBadRequest, "USER_ERROR", "This record cannot be deleted because it has dependent records.", ""}
		}
	}
	return nil
}

func refers(v any, r *rec) bool {
	m, ok := v.(map[string]any)
	return ok && m["id"] == r.key()
}

// drop deletes r and tells it, as a merge if our kit learned into which record it was merged.
func (t *Twin) drop(r *rec, by actor, into string) {
	t.remove(r)
	t.owed(r, nil, by)
	gone := *r
	gone.modified = t.opt.Now().Truncate(time.Second)
	gone.rev++
	gone.into = into
	kind := "record.deleted"
	if into != "" {
		kind = "record.merged"
	}
	t.push(&gone, "delete", kind, by)
}

// push posts what the kit's afterSubmit posts: once, never again.
func (t *Twin) push(r *rec, event, kind string, by actor) {
	if t.kit.Target() == "" || r.object == item { // the kit is not deployed on items
		return
	}
	var external any
	if r.external != "" {
		external = r.external
	}
	rec := map[string]any{"type": r.object, "id": r.key(), "externalId": external, "rev": r.rev,
		"lastModifiedDate": r.modified.UTC().Format(time.RFC3339), "createdDate": r.created.UTC().Format(time.RFC3339)}
	if r.into != "" {
		rec["into"] = r.into
	}
	if kind == "record.saved" {
		fields := r.full()
		for _, name := range []string{"id", "externalId", r.modifiedName(), r.createdName(), r.revName(), r.userName(), mergeMark} {
			delete(fields, name)
		}
		rec["fields"] = fields
	}
	id := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", t.rng.Uint32(), t.rng.Uint32()&0xffff, t.rng.Uint32()&0xfff, t.rng.Uint32()&0xfff, t.rng.Uint64()&0xffffffffffff)
	body, err := json.Marshal(map[string]any{"id": id, "type": kind, "event": event, "context": by.context, "user": by.user, "record": rec})
	if err != nil {
		return // fields came from JSON and go back to it
	}
	t.kit.Push(twin.Webhook{Request: func(url string) (*http.Request, error) {
		req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		stamp := t.opt.Now().UTC().Format(time.RFC3339)
		mac := hmac.New(sha256.New, []byte(t.opt.WebhookSecret))
		mac.Write([]byte(stamp + "."))
		mac.Write(body)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Sorrel-Timestamp", stamp)
		req.Header.Set("X-Sorrel-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
		return req, nil
	}})
}
