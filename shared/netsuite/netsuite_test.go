package netsuite_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"testing"
	"time"

	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform/platformtest"
)

// account is a twin behind HTTP with a connector to it.
type account struct {
	*netsuite.Connector
	twin *netsuitetwin.Twin
	url  string
}

func open(t *testing.T, opt netsuitetwin.Options, change func(*netsuite.Config)) account {
	t.Helper()
	tw, err := netsuitetwin.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	cfg := netsuite.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: opt.Now, IntegrationUser: netsuitetwin.IntegrationUser, AccountZone: opt.Zone}
	if change != nil {
		change(&cfg)
	}
	c, err := netsuite.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return account{c, tw, srv.URL}
}

func orderFields(entity string, n int) map[string]any {
	return map[string]any{
		"entity": map[string]any{"id": entity}, "tranDate": "2026-11-01", "otherRefNum": fmt.Sprintf("PO-%d", n), "memo": "Größe – naïve", "orderStatus": map[string]any{"id": "B"},
		"currency": map[string]any{"id": "5"}, "shippingCost": 32.38, "shipDate": "2026-11-09", "shipMethod": map[string]any{"id": "3"},
		"shippingAddress": map[string]any{"addressee": "Alfreds Futterkiste", "addr1": "Obere Str. 57", "city": "Berlin", "zip": "12209", "country": "DE"},
		"item": map[string]any{"items": []any{
			map[string]any{"item": map[string]any{"id": "11"}, "quantity": 12, "rate": 14.5, "description": "Queso Cabrales"},
			map[string]any{"item": map[string]any{"id": "2"}, "quantity": 10, "rate": 9.8}}},
	}
}

func customerFields(n int) map[string]any {
	return map[string]any{"companyName": fmt.Sprintf("Company %d", n), "email": "a@b.test", "phone": "(5) 555-4729", "isInactive": false, "creditLimit": 10000.5, "terms": map[string]any{"id": "2"},
		"addressBook": map[string]any{"items": []any{map[string]any{"label": "Main", "defaultShipping": true, "defaultBilling": false,
			"addressBookAddress": map[string]any{"addr1": "Berguvsvägen 8", "city": "Luleå", "zip": "S-958 22", "country": "SE"}}}}}
}

func contractFields(customer string, n int) map[string]any {
	return map[string]any{"name": fmt.Sprint("CON-", n), "custrecord_sorrel_contract_customer": map[string]any{"id": customer}, "custrecord_sorrel_contract_status": map[string]any{"id": "2"},
		"custrecord_sorrel_contract_tier": map[string]any{"id": "3"}, "custrecord_sorrel_contract_starts": "2026-01-01", "custrecord_sorrel_contract_ends": "2027-12-31",
		"custrecord_sorrel_contract_product": "Größe M, naïve"}
}

func invoiceFields(entity string, n int) map[string]any {
	return map[string]any{"entity": map[string]any{"id": entity}, "tranDate": "2026-10-01", "dueDate": "2026-10-31", "memo": fmt.Sprint("naïve ", n), "currency": map[string]any{"id": "5"},
		"item": map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "11"}, "quantity": 12, "rate": 14.5}}}}
}

func mustEdit(t *testing.T, tw *netsuitetwin.Twin, object, id string, fields map[string]any) string {
	t.Helper()
	got, err := tw.Edit(object, id, fields)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestConformance(t *testing.T) {
	t.Parallel()
	worlds := map[string]func(t *testing.T, a account, w *platformtest.World){
		"customer": func(_ *testing.T, _ account, w *platformtest.World) {
			w.Fields = func(n int) map[string]any {
				fields := customerFields(n)
				at := line("defaultShipping", map[string]any{"addr1": "Berguvsvägen 8", "city": "Luleå", "zip": "S-958 22", "country": "SE"})
				maps.Copy(fields, book(at))
				return fields
			}
			w.Change, w.Clear = map[string]any{"companyName": "Berglunds snabbköp", "isInactive": true, "creditLimit": 5}, "phone"
			w.Bad, w.Deletes = map[string]any{"companyNmae": "x"}, true
			w.Lines = "addressBook" // the keys of its lines are the vendor's: a late call cannot name a line that was added after it
			w.ChangeOf = func(int) map[string]any {
				change := book(line("defaultShipping", map[string]any{"city": "Umeå"}))
				change["companyName"] = "Berglunds snabbköp"
				return change
			}
		},
		"contact": func(t *testing.T, a account, w *platformtest.World) {
			company, err := a.twin.Load("customer", "", customerFields(0), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			w.Fields = func(n int) map[string]any {
				return map[string]any{"firstName": "Maria", "lastName": fmt.Sprintf("Anders %d", n), "email": "m@b.test", "phone": "030-0074321", "mobilePhone": "0151-1",
					"title": "Sales Representative", "company": map[string]any{"id": company}, "isInactive": false}
			}
			w.Change = map[string]any{"lastName": "Größe", "isInactive": true, "title": "Owner"}
			w.Clear, w.Bad, w.Deletes = "mobilePhone", map[string]any{"mobielPhone": "x"}, true
		},
		"salesOrder": func(t *testing.T, a account, w *platformtest.World) {
			entity, err := a.twin.Load("customer", "", customerFields(0), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			w.Fields = func(n int) map[string]any { return orderFields(entity, n) }
			w.Change = map[string]any{"orderStatus": map[string]any{"id": "D"}, "memo": "changed"}
			w.Clear, w.Bad = "shippingAddress.addr1", map[string]any{"orderStatus": map[string]any{"id": "Z"}}
			w.Deletes = true
		},
		"itemFulfillment": func(t *testing.T, a account, w *platformtest.World) {
			long := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
			entity, err := a.twin.Load("customer", "", customerFields(0), long)
			if err != nil {
				t.Fatal(err)
			}
			f := orderFields(entity, 0)
			f["item"] = map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "1"}, "quantity": 1000, "rate": 1}}}
			order, err := a.twin.Load("salesOrder", "", f, long)
			if err != nil {
				t.Fatal(err)
			}
			w.Fields = func(n int) map[string]any {
				return map[string]any{"createdFrom": map[string]any{"id": order}, "entity": map[string]any{"id": entity}, "shipStatus": map[string]any{"id": "B"}, "shipCarrier": "ups",
					"package": map[string]any{"items": []any{map[string]any{"packageTrackingNumber": fmt.Sprintf("1Z%d", n), "packageWeight": 1.25}}},
					"item":    map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "1"}, "quantity": 1, "orderLine": 1}}}}
			}
			w.Change, w.Clear, w.Bad = map[string]any{"shipStatus": map[string]any{"id": "C"}}, "shipCarrier", map[string]any{"shipCarier": "x"}
		},
		"customrecord_sorrel_contract": func(t *testing.T, a account, w *platformtest.World) {
			entity, err := a.twin.Load("customer", "", customerFields(0), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			w.Fields = func(n int) map[string]any { return contractFields(entity, n) }
			w.Change = map[string]any{"custrecord_sorrel_contract_status": map[string]any{"id": "4"}, "custrecord_sorrel_contract_ends": "2026-12-31"}
			w.Clear, w.Deletes = "custrecord_sorrel_contract_product", true
			w.Bad = map[string]any{"custrecord_sorrel_contract_tier": map[string]any{"id": "9"}}
		},
		"invoice": func(t *testing.T, a account, w *platformtest.World) {
			long := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
			entity, err := a.twin.Load("customer", "", customerFields(0), long)
			if err != nil {
				t.Fatal(err)
			}
			order, err := a.twin.Load("salesOrder", "", orderFields(entity, 0), long)
			if err != nil {
				t.Fatal(err)
			}
			w.Fields = func(n int) map[string]any {
				f := invoiceFields(entity, n)
				f["createdFrom"] = map[string]any{"id": order}
				return f
			}
			w.Change = map[string]any{"dueDate": "2026-12-24", "memo": "Größe", "createdFrom": map[string]any{"id": order}, "entity": map[string]any{"id": entity}}
			w.Clear, w.Bad, w.Deletes = "memo", map[string]any{"dueDat": "2026-12-24"}, true
		},
	}
	for object, build := range worlds {
		h := platformtest.Harness{Name: object, New: func(t *testing.T, now func() time.Time) platformtest.World {
			a := open(t, netsuitetwin.Options{Now: now, Zone: "Europe/Zurich"}, func(c *netsuite.Config) { c.PageSize = 40 })
			w := platformtest.World{Connector: a.Connector, Twin: a.twin, Object: object, PageSize: 40, UnknownID: "999999"}
			w.Handler, w.Failure = a.twin.Handler(), `{"title":"Internal Server Error","status":500,"o:errorDetails":[{"detail":"An unexpected error occurred. Error ID: x","o:errorCode":"UNEXPECTED_ERROR"}]}`
			w.Connect = func(url string) (platformtest.Connector, error) {
				return netsuite.New(netsuite.Config{URL: url, Credentials: a.twin.Credentials(), Now: now, AccountZone: "Europe/Zurich"})
			}
			build(t, a, &w)
			return w
		}}
		platformtest.Run(t, h)
		platformtest.Unknown(t, h)
		platformtest.Abandoned(t, h)
		platformtest.Census(t, h)
	}
}

var _ platformtest.Connector = (*netsuite.Connector)(nil)
