package salesforce_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

// start serves a twin and connects to it.
func start(t *testing.T, now func() time.Time, opts salesforcetwin.Options, adapt func(*salesforce.Config)) (*salesforce.Connector, *salesforcetwin.Twin) {
	t.Helper()
	opts.Now = now
	twin := salesforcetwin.New(opts)
	server := httptest.NewServer(twin.Handler())
	t.Cleanup(server.Close)
	cfg := salesforce.Config{URL: server.URL, Credentials: twin.Credentials(), Now: now}
	if adapt != nil {
		adapt(&cfg)
	}
	c, err := salesforce.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, twin
}

// suites runs what every object passes.
func suites(t *testing.T, h platformtest.Harness) {
	platformtest.Run(t, h)
	census := h
	build := h.New
	h.New = func(t *testing.T, now func() time.Time) platformtest.World {
		w := build(t, now)
		tw, ok := w.Twin.(*salesforcetwin.Twin)
		if !ok {
			t.Fatal("another vendor's twin")
		}
		w.Handler, w.Failure = tw.Handler(), `[{"errorCode":"UNKNOWN_EXCEPTION","message":"An unexpected error occurred"}]`
		w.Connect = func(url string) (platformtest.Connector, error) {
			return salesforce.New(salesforce.Config{URL: url, Credentials: tw.Credentials(), Now: now})
		}
		return w
	}
	platformtest.Unknown(t, h)
	platformtest.Abandoned(t, h)
	platformtest.Census(t, census)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	pushed := map[string]salesforcetwin.Push{"Account": {Message: true}, "Contact": {Message: true}, "Order": {Message: true}, "Shipment__c": {Message: true}, "Opportunity": {Message: true}, "Task": {Message: true}, "Case": {Message: true}, "Invoice__c": {Message: true}, "Contract__c": {Message: true}, "Product2": {Message: true}, "PricebookEntry": {Message: true}}
	world := func(object string, prepare func(*testing.T, *salesforcetwin.Twin, *platformtest.World)) func(*testing.T, func() time.Time) platformtest.World {
		return func(t *testing.T, now func() time.Time) platformtest.World {
			c, twin := start(t, now, salesforcetwin.Options{Push: pushed, RetryBase: time.Millisecond}, func(cfg *salesforce.Config) { cfg.Page = 7 })
			w := platformtest.World{Connector: c, Twin: twin, Object: object, PageSize: 7, Deletes: true,
				Undelete: func(id string) error { return twin.Undelete(object, id) },
				Undated:  "an Outbound Message has no time",
				Forge: func(r platform.Request) platform.Request {
					r.Query = map[string][]string{"token": {"outbound-message-tokeN"}}
					return r
				}}
			prepare(t, twin, &w)
			return w
		}
	}
	account := func(t *testing.T, twin *salesforcetwin.Twin) string {
		t.Helper()
		id, err := twin.Edit("Account", "", map[string]any{"Name": "Northwind", "Sorrel_Id__c": "customer-1"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	suites(t, platformtest.Harness{Name: "Account", New: world("Account", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.Merge = func(winner, loser string) error { return twin.Merge("Account", winner, loser) }
		w.UnknownID = "001xx0000000zzzAAA"
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprintf("Åkerlund & Søn %d", n), "Phone": "+45 33 12 34 56", "BillingCity": "København"}
		}
		w.Change = map[string]any{"Phone": "+45 99 99 99 99", "BillingCity": "Århus", "ERP_Credit_Hold__c": "On", "ERP_Active__c": false, "ERP_Credit_Limit__c": 15000}
		w.Clear = "BillingCity"
		w.Bad = map[string]any{"AccountNumber": "12345678901234567890123456789012345678901"}
	})})
	suites(t, platformtest.Harness{Name: "Contact", New: world("Contact", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "003xx0000000zzzAAA"
		w.Merge = func(winner, loser string) error { return twin.Merge("Contact", winner, loser) }
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"FirstName": "Maria", "LastName": fmt.Sprint("Anders ", n), "AccountId": parent, "Email": fmt.Sprintf("maria%d@alfreds.example", n)}
		}
		w.Change = map[string]any{"LastName": "Åkerlund", "MobilePhone": "+49 170 0074321", "Active__c": false}
		w.Clear = "FirstName"
		w.Bad = map[string]any{"Email": "nowhere"}
	})})
	suites(t, platformtest.Harness{Name: "Order", New: world("Order", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "801xx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"AccountId": parent, "EffectiveDate": "2026-11-02", "Status": "Draft", "ERP_Order_Number__c": fmt.Sprint("SO", n),
				"ERP_Status__c": "Pending Fulfilment", "ERP_Total__c": 440.5, "ERP_Requested_Ship_Date__c": "2026-11-30"}
		}
		w.Change = map[string]any{"ERP_Status__c": "Billed", "ERP_Total__c": 12345678.9}
		w.Clear = "ERP_Requested_Ship_Date__c"
		w.Bad = map[string]any{"ERP_Status__c": "Teleported"}
	})})
	suites(t, platformtest.Harness{Name: "Case", New: world("Case", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "500xx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"AccountId": parent, "Subject": fmt.Sprint("Pump alarm ", n), "Support_Number__c": fmt.Sprint(n), "Support_Status__c": "Open",
				"Status": "Working", "Support_Opened_On__c": "2026-11-02T08:15:20.000+0000", "ERP_Context__c": "No open invoices"}
		}
		w.Change = map[string]any{"Support_Status__c": "On Hold", "SLA_Breached__c": true, "Sorrel_Escalation__c": "Escalated", "CRM_Context__c": "Zwölf\nBoxkämpfer"}
		w.Clear = "ERP_Context__c"
		w.Bad = map[string]any{"Support_Priority__c": "Panic"}
	})})
	suites(t, platformtest.Harness{Name: "Shipment__c", New: world("Shipment__c", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "a00xx0000000zzzAAA"
		order, err := twin.Edit("Order", "", map[string]any{"AccountId": account(t, twin), "EffectiveDate": "2026-11-02", "Status": "Draft", "Sorrel_Id__c": "order-1"})
		if err != nil {
			t.Fatal(err)
		}
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprint("IF", n), "Order__c": order, "Status__c": "Picked", "Tracking_Numbers__c": "1Z1", "Shipped_On__c": "2026-11-05"}
		}
		w.Change = map[string]any{"Status__c": "Shipped", "Tracking_Numbers__c": "1Z1, 1Z2"}
		w.Clear = "Shipped_On__c"
		w.Bad = map[string]any{"No_Such_Field__c": "x"}
	})})
	suites(t, platformtest.Harness{Name: "Opportunity", New: world("Opportunity", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "006xx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprint("Spring order ", n), "AccountId": parent, "StageName": "Qualification", "CloseDate": "2026-11-30", "Amount": 12500.5, "Sorrel_Status__c": "Waiting"}
		}
		w.Change = map[string]any{"Sorrel_Status__c": "Pending", "StageName": "Closed Won"}
		w.Clear = "Sorrel_Status__c"
		w.Bad = map[string]any{"Sorrel_Status__c": "Teleported"}
	})})
	suites(t, platformtest.Harness{Name: "Task", New: world("Task", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "00Txx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Subject": fmt.Sprint("Call them back ", n), "Description": "Two invoices are overdue", "WhatId": parent, "OwnerId": salesforcetwin.Person, "Priority": "High", "ActivityDate": "2026-11-30"}
		}
		w.Change = map[string]any{"Subject": "Call them back today", "ActivityDate": "2026-11-24"}
		w.Clear = "Description"
		w.Bad = map[string]any{"No_Such_Field__c": "x"}
	})})
	suites(t, platformtest.Harness{Name: "Contract__c", New: world("Contract__c", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "a02xx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprint("CON-", n), "Account__c": parent, "Status__c": "Active", "Tier__c": "VIP", "Ends_On__c": "2027-12-31"}
		}
		w.Change = map[string]any{"Status__c": "Expired", "Product__c": "Støtte"}
		w.Clear = "Ends_On__c"
		w.Bad = map[string]any{"Tier__c": "Emperor"}
	})})
	suites(t, platformtest.Harness{Name: "Product2", New: world("Product2", func(_ *testing.T, _ *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "01txx0000000zzzAAA"
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprint("Chai ", n), "ProductCode": fmt.Sprint("CH-", n), "IsActive": true, "ERP_Item_Kind__c": "Goods", "ERP_List_Price__c": 18.5, "ERP_Unit__c": "Box"}
		}
		w.Change = map[string]any{"Name": "Thé", "IsActive": false, "ERP_List_Price__c": 19}
		w.Clear = "ERP_Unit__c"
		w.Bad = map[string]any{"ERP_Item_Kind__c": "Miracle"}
	})})
	suites(t, platformtest.Harness{Name: "PricebookEntry", New: world("PricebookEntry", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "01uxx0000000zzzAAA"
		products := map[int]string{}
		w.Fields = func(n int) map[string]any { // a product has one price in a book
			product := products[n]
			if product == "" {
				product = edit(t, twin, "Product2", "", map[string]any{"Name": fmt.Sprint("Chai ", n)})
				products[n] = product
			}
			return map[string]any{"Product2Id": product, "Pricebook2": map[string]any{"ERP_Price_Level__c": "Base Price"}, "UnitPrice": 18.5, "IsActive": true}
		}
		w.Change = map[string]any{"UnitPrice": 19, "IsActive": false}
		w.Bad = map[string]any{"UnitPrice": "much"}
	})})
	suites(t, platformtest.Harness{Name: "Invoice__c", New: world("Invoice__c", func(t *testing.T, twin *salesforcetwin.Twin, w *platformtest.World) {
		w.UnknownID = "a01xx0000000zzzAAA"
		parent := account(t, twin)
		w.Fields = func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprint("INV", n), "Account__c": parent, "Status__c": "Open", "Total__c": 440.5, "Amount_Due__c": 440.5, "Due_On__c": "2026-12-01"}
		}
		w.Change = map[string]any{"Status__c": "Paid", "Amount_Due__c": 0, "Paid_On__c": "2026-11-30"}
		w.Clear = "Due_On__c"
		w.Bad = map[string]any{"Status__c": "Forgotten"}
	})})
}
