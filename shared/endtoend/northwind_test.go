package endtoend

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/message"
	"sorrel/shared/record"
)

// row is one line of a CSV file by column; a missing column has no value.
type row map[string]string

// northwindFolder is where the data lies: beside the clone. A clone without it skips; CI has it.
func northwindFolder(t *testing.T) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if filepath.Dir(root) == root {
			t.Fatal("no go.mod above the test's folder")
		}
		root = filepath.Dir(root)
	}
	dir := filepath.Join(filepath.Dir(root), "shared", "data", "northwind")
	if _, err := os.Stat(filepath.Join(dir, "orders.csv")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must carry the Northwind data, but %v", err)
		}
		t.Skip("skipped carrying the Northwind data: ../shared/data/northwind is not beside this clone")
	}
	return dir
}

// readCSV reads a file whose values are not quoted though one column, loose, may hold commas: what is left over
// between the columns before and after it is its value. The text NULL is no value.
func readCSV(t *testing.T, path, loose string, want int) []row {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n"), "\n")
	head := strings.Split(lines[0], ",")
	at := slices.Index(head, loose)
	var out []row
	for n, line := range lines[1:] {
		cells := strings.Split(line, ",")
		if extra := len(cells) - len(head); extra > 0 && at >= 0 {
			cells = slices.Concat(cells[:at], []string{strings.Join(cells[at:at+extra+1], ",")}, cells[at+extra+1:])
		}
		if len(cells) != len(head) {
			t.Fatalf("%s:%d has %d cells, want %d", filepath.Base(path), n+2, len(cells), len(head))
		}
		r := row{}
		for i, name := range head {
			if cells[i] != "NULL" {
				r[name] = cells[i]
			}
		}
		out = append(out, r)
	}
	if len(out) != want {
		t.Fatalf("%s has %d rows, want %d", filepath.Base(path), len(out), want)
	}
	return out
}

// northwind is the data, and the NetSuite ids that its rows were given.
type northwind struct {
	customers, orders []row
	lines             map[string][]row  // by orderID
	products          map[string]string // by productID
	shippers          map[string]string // by shipperID
	ids               map[string]string // "customer/ALFKI", "order/10248", "shipment/10248" → internal id
}

func loadNorthwind(t *testing.T, dir string) northwind {
	t.Helper()
	read := func(name, loose string, want int) []row { return readCSV(t, filepath.Join(dir, name), loose, want) }
	n := northwind{customers: read("customers.csv", "address", 91), orders: read("orders.csv", "shipAddress", 830),
		lines: map[string][]row{}, products: map[string]string{}, shippers: map[string]string{}, ids: map[string]string{}}
	for _, l := range read("order-details.csv", "", 2155) {
		n.lines[l["orderID"]] = append(n.lines[l["orderID"]], l)
	}
	for _, p := range read("products.csv", "", 77) {
		n.products[p["productID"]] = p["productName"]
	}
	for _, s := range read("shippers.csv", "", 3) {
		n.shippers[s["shipperID"]] = s["companyName"]
	}
	return n
}

func (r row) date(column string) string {
	day, _, _ := strings.Cut(r[column], " ")
	return day
}

// fields keeps what has a value.
func fields(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" && pairs[i+1] != nil {
			out[pairs[i].(string)] = pairs[i+1]
		}
	}
	return out
}

func ref(id string) map[string]any { return map[string]any{"id": id} }

func named(name string) map[string]any { return map[string]any{"refName": name} }

func sublist(items []any) map[string]any { return map[string]any{"items": items} }

// load puts the data into the NetSuite twin without webhooks, as it was there before Sorrel came. Modification
// times tie: all customers share one second, all shipments another, and orders the second of their day.
func (n northwind) load(t *testing.T, s *stage) {
	t.Helper()
	put := func(object, key string, f map[string]any, at time.Time) {
		id, err := s.twins.NetSuite.Load(object, "", f, at)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		n.ids[key] = id
	}
	imported := time.Date(1996, 7, 1, 6, 0, 0, 0, time.UTC)
	for _, c := range n.customers {
		address := fields("addressee", c["companyName"], "addr1", c["address"], "city", c["city"], "state", c["region"], "zip", c["postalCode"], "country", c["country"])
		put("customer", "customer/"+c["customerID"], fields("entityId", c["customerID"], "companyName", c["companyName"], "phone", c["phone"], "currency", ref("1"),
			"addressBook", sublist([]any{map[string]any{"defaultBilling": true, "defaultShipping": true, "addressBookAddress": address}})), imported)
	}
	for _, o := range n.orders {
		var lines []any
		for _, l := range n.lines[o["orderID"]] {
			lines = append(lines, fields("item", named(n.products[l["productID"]]), "quantity", json.Number(l["quantity"]), "rate", json.Number(l["unitPrice"]),
				"amount", json.Number(amount(l).String())))
		}
		status := "B"
		if o["shippedDate"] != "" {
			status = "G"
		}
		day, err := time.Parse(time.DateOnly, o.date("orderDate"))
		if err != nil {
			t.Fatal(err)
		}
		put("salesOrder", "order/"+o["orderID"], fields("tranId", o["orderID"], "entity", ref(n.ids["customer/"+o["customerID"]]), "orderStatus", ref(status),
			"tranDate", o.date("orderDate"), "shipDate", o.date("requiredDate"), "shippingCost", json.Number(o["freight"]), "shipMethod", named(n.shippers[o["shipVia"]]),
			"shippingAddress", fields("addressee", o["shipName"], "addr1", o["shipAddress"], "city", o["shipCity"], "state", o["shipRegion"], "zip", o["shipPostalCode"], "country", o["shipCountry"]),
			"item", sublist(lines)), day)
	}
	for _, o := range n.orders {
		if o["shippedDate"] == "" {
			continue
		}
		var lines []any
		for i, l := range n.lines[o["orderID"]] {
			lines = append(lines, fields("item", named(n.products[l["productID"]]), "quantity", json.Number(l["quantity"]), "orderLine", i+1))
		}
		put("itemFulfillment", "shipment/"+o["orderID"], fields("tranId", "IF"+o["orderID"], "createdFrom", ref(n.ids["order/"+o["orderID"]]), "tranDate", o.date("shippedDate"),
			"shipStatus", ref("C"), "shipCarrier", n.shippers[o["shipVia"]], "shipMethod", named(n.shippers[o["shipVia"]]), "item", sublist(lines)), imported.AddDate(2, 0, 0))
	}
}

// amount of a line: quantity × price, less its discount, in cents.
func amount(l row) decimal.Decimal {
	return number(l["unitPrice"]).Mul(number(l["quantity"])).Mul(decimal.NewFromInt(1).Sub(number(l["discount"]))).Round(2)
}

func number(text string) decimal.Decimal { return decimal.RequireFromString(text) }

// expected is what one target must hold: native object → number → field → text. References are said by the
// number of what they lead to.
type expected map[string]map[string]map[string]string

func values(pairs ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out[pairs[i]] = pairs[i+1]
		}
	}
	return out
}

// want says what the CSV files demand of the targets, without a look at mappings.
func (n northwind) want() (salesforce, zendesk, servicenow expected) {
	servicenow = expected{"customer_account": {}}
	salesforce = expected{"Account": {}, "Order": {}, "Shipment__c": {}}
	zendesk = expected{"organization": {}, "custom_object/order": {}, "custom_object/shipment": {}}
	for _, c := range n.customers {
		id := c["customerID"]
		salesforce["Account"][id] = values("ERP_Customer_Number__c", id, "Name", c["companyName"], "Phone", c["phone"],
			"BillingStreet", c["address"], "BillingCity", c["city"], "BillingState", c["region"], "BillingPostalCode", c["postalCode"], "BillingCountry", c["country"],
			"ShippingStreet", c["address"], "ShippingCity", c["city"], "ShippingState", c["region"], "ShippingPostalCode", c["postalCode"], "ShippingCountry", c["country"], "ERP_Currency__c", "USD", "ERP_Active__c", "true", "ERP_Credit_Hold__c", "Auto")
		zendesk["organization"][id] = values("name", c["companyName"], "erp_number", id, "erp_phone", c["phone"], "erp_city", c["city"], "erp_country", c["country"], "erp_active", "true", "erp_credit_hold", "credit_auto")
		servicenow["customer_account"][id] = values("u_erp_number", id, "name", c["companyName"], "phone", c["phone"], "street", c["address"], "city", c["city"],
			"state", c["region"], "zip", c["postalCode"], "country", c["country"], "u_currency", "USD", "u_credit_hold", "auto", "active", "true")
	}
	for _, o := range n.orders {
		id := o["orderID"]
		subtotal := decimal.Zero
		var priced, plain []string
		for _, l := range n.lines[id] {
			subtotal = subtotal.Add(amount(l))
			plain = append(plain, l["quantity"]+" | "+n.products[l["productID"]])
			priced = append(priced, l["quantity"]+" | "+n.products[l["productID"]]+" | "+number(l["unitPrice"]).StringFixed(2))
		}
		total := subtotal.Add(number(o["freight"]))
		shipper := n.shippers[o["shipVia"]]
		status := [2]string{"Pending Fulfilment", "pending_fulfilment"}
		if o["shippedDate"] != "" {
			status = [2]string{"Billed", "billed"}
		}
		salesforce["Order"][id] = values("ERP_Order_Number__c", id, "AccountId", o["customerID"], "Status", "Draft", "ERP_Status__c", status[0],
			"EffectiveDate", o.date("orderDate"), "ERP_Requested_Ship_Date__c", o.date("requiredDate"), "ERP_Currency__c", "USD",
			"ERP_Subtotal__c", subtotal.String(), "ERP_Freight__c", number(o["freight"]).String(), "ERP_Total__c", total.String(), "ERP_Ship_Method__c", shipper,
			"ShippingStreet", o["shipAddress"], "ShippingCity", o["shipCity"], "ShippingState", o["shipRegion"], "ShippingPostalCode", o["shipPostalCode"],
			"ShippingCountry", o["shipCountry"], "ERP_Lines__c", strings.Join(priced, "\n"))
		zendesk["custom_object/order"][id] = values("name", id, "number", id, "organization", o["customerID"], "status", status[1], "placed_on", o.date("orderDate"),
			"requested_ship_on", o.date("requiredDate"), "currency", "USD", "total", total.String(), "ship_method", shipper, "ship_to", o["shipName"], "lines", strings.Join(priced, "\n"))
		if o["shippedDate"] == "" {
			continue
		}
		salesforce["Shipment__c"]["IF"+id] = values("Name", "IF"+id, "ERP_Fulfilment_Number__c", "IF"+id, "Order__c", id, "Status__c", "Shipped", "Carrier__c", shipper,
			"Ship_Method__c", shipper, "Shipped_On__c", o.date("shippedDate"), "Lines__c", strings.Join(plain, "\n"))
		zendesk["custom_object/shipment"]["IF"+id] = values("name", "IF"+id, "number", "IF"+id, "order", id, "status", "shipped", "carrier", shipper,
			"ship_method", shipper, "shipped_on", o.date("shippedDate"), "lines", strings.Join(plain, "\n"))
	}
	return salesforce, zendesk, servicenow
}

// system are the native fields that a platform keeps for itself, and Sorrel's own id.
var system = []string{"Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp", "OwnerId", "OrderNumber", "attributes", "StatusCode",
	"IsReductionOrder", "Sorrel_Id__c", "sys_id", "sys_created_on", "sys_created_by", "sys_updated_on", "sys_updated_by", "sys_mod_count", "sys_class_name", "sys_domain",
	"sys_domain_path", "sys_tags", "number", "u_sorrel_id", "customer", "partner", "vendor", "primary"}

// said turns native values into text: numbers without trailing zeros, no value left out.
func said(native map[string]any) map[string]string {
	out := map[string]string{}
	for name, v := range native {
		switch x := v.(type) {
		case nil:
		case json.Number:
			out[name] = number(x.String()).String()
		case float64:
			out[name] = decimal.NewFromFloat(x).String()
		case string:
			if x != "" {
				out[name] = x
			}
		default:
			out[name] = fmt.Sprint(x)
		}
	}
	return out
}

// holdings are what the twins hold, in the form of expected.
func holdings(t *testing.T, s *stage) (salesforce, zendesk, servicenow expected) {
	t.Helper()
	salesforce, zendesk, servicenow = expected{}, expected{}, expected{}
	add := func(e expected, object, key string, f map[string]string) {
		if e[object] == nil {
			e[object] = map[string]map[string]string{}
		}
		if _, twice := e[object][key]; twice || key == "" {
			t.Errorf("%s has number %q twice or has none", object, key)
		}
		e[object][key] = f
	}
	numbers := map[string]string{} // native id → number
	for _, o := range []struct{ object, key, reference string }{
		{"Account", "ERP_Customer_Number__c", ""}, {"Order", "ERP_Order_Number__c", "AccountId"}, {"Shipment__c", "ERP_Fulfilment_Number__c", "Order__c"}} {
		for _, r := range s.twins.Salesforce.All(o.object) {
			f := said(r)
			numbers[f["Id"]] = f[o.key]
			if f[o.reference] != "" {
				f[o.reference] = numbers[f[o.reference]]
			}
			maps.DeleteFunc(f, func(name, _ string) bool { return slices.Contains(system, name) })
			add(salesforce, o.object, f[o.key], f)
		}
	}
	for _, o := range []struct{ object, fields, key, reference string }{
		{"organization", "organization_fields", "erp_number", ""}, {"custom_object/order", "custom_object_fields", "number", "organization"},
		{"custom_object/shipment", "custom_object_fields", "number", "order"}} {
		for _, r := range s.twins.Zendesk.All(o.object) {
			own, _ := r[o.fields].(map[string]any)
			f := said(own)
			f["name"], _ = r["name"].(string)
			numbers[fmt.Sprint(r["id"])] = f[o.key]
			if f[o.reference] != "" {
				f[o.reference] = numbers[f[o.reference]]
			}
			add(zendesk, o.object, f[o.key], f)
		}
	}
	for _, r := range s.twins.ServiceNow.All("customer_account") {
		f := said(r)
		maps.DeleteFunc(f, func(name, _ string) bool { return slices.Contains(system, name) })
		add(servicenow, "customer_account", f["u_erp_number"], f)
	}
	return salesforce, zendesk, servicenow
}

// differ reports every difference, field by field, and returns how many values were compared.
func differ(t *testing.T, platform string, want, got expected) (compared int) {
	t.Helper()
	reported := 0
	report := func(format string, a ...any) {
		if reported++; reported <= 20 {
			t.Errorf(platform+" "+format, a...)
		}
	}
	for object, records := range want {
		if len(got[object]) != len(records) {
			report("%s: %d records, want %d", object, len(got[object]), len(records))
		}
		for key, fields := range records {
			for name, v := range fields {
				compared++
				if got[object][key][name] != v {
					report("%s %s %s is %q, want %q", object, key, name, got[object][key][name], v)
				}
			}
			for name, v := range got[object][key] {
				if _, wanted := fields[name]; !wanted {
					report("%s %s %s is %q, want no value", object, key, name, v)
				}
			}
		}
	}
	return compared
}

// Real data: 91 customers, 830 orders with 2,155 lines and 809 shipments are listed from NetSuite and arrive
// field for field on both targets, the customers on ServiceNow, too; telling all of it again writes nothing.
func TestNorthwind(t *testing.T) {
	dir := northwindFolder(t)
	const patience = 4 * time.Minute
	s := newStage(t, embedded(t.TempDir()))
	n := loadNorthwind(t, dir)
	n.load(t, s)
	records := len(n.ids)
	if records != 91+830+809 {
		t.Fatalf("%d records loaded, want 91 customers, 830 orders and 809 shipments", records)
	}

	begun := time.Now()
	s.list(record.NetSuite)
	s.settle(patience)
	took := time.Since(begun)
	wantSalesforce, wantZendesk, wantServiceNow := n.want()
	gotSalesforce, gotZendesk, gotServiceNow := holdings(t, s)
	compared := differ(t, record.Salesforce, wantSalesforce, gotSalesforce) + differ(t, record.Zendesk, wantZendesk, gotZendesk) +
		differ(t, record.ServiceNow, wantServiceNow, gotServiceNow)
	s.noTrouble()
	for p, want := range map[string]int{record.NetSuite: 0, record.Salesforce: records, record.Zendesk: records, record.ServiceNow: len(n.customers)} {
		if w := s.writes(p); w != want {
			t.Errorf("%d writes to %s for %d records, want one each", w, p, want)
		}
	}
	t.Logf("%d records carried to three targets in %s; %d values compared", records, took.Round(10*time.Millisecond), compared)
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		st := s.twins.Kits()[p].Stats()
		t.Logf("%-10s %5d calls, %5d writes, at most %d at once, %d over a limit", p, st.Calls, st.Writes, st.MaxFlight, st.OverLimit)
	}

	before, repeats := s.targetWrites(), s.world.Telemetry.Snapshot().Counters["Repeats.netsuite"]
	s.redeliver(patience)
	if again := s.targetWrites() - before; again != 0 {
		t.Errorf("telling everything once more caused %d writes, want none", again)
	}
	if heard := s.world.Telemetry.Snapshot().Counters["Repeats.netsuite"] - repeats; int(heard) < records {
		t.Errorf("the hub heard %v repeats, want all %d records", heard, records)
	}
	s.noTrouble()
}

// redeliver lists NetSuite from its beginning, and then queues everything under ids that the queue has not seen,
// as if its dedup window were over: the hub must hear every record again.
func (s *stage) redeliver(within time.Duration) {
	s.Helper()
	objects := []string{"customer", "salesOrder", "itemFulfillment"}
	for _, o := range objects {
		if err := s.world.Ledger.SaveCursor(s.Context(), record.NetSuite, o, ""); err != nil {
			s.Fatal(err)
		}
	}
	s.list(record.NetSuite)
	s.settle(within)
	for _, o := range objects {
		for cursor, more := "", true; more; {
			page, err := s.world.Connectors[record.NetSuite].Changes(s.Context(), o, cursor)
			if err != nil {
				s.Fatal(err)
			}
			for i, n := range page.Natives {
				in := message.Inbound{CorrelationID: "again-" + o + "-" + strconv.Itoa(i), ReceivedAt: time.Now(), Source: message.Batch, Native: n}
				m, err := in.Message("again")
				if err != nil {
					s.Fatal(err)
				}
				if err := s.world.Inbound.Send(s.Context(), m); err != nil {
					s.Fatal(err)
				}
			}
			cursor, more = page.Cursor, page.More
		}
	}
	s.settle(within)
}
