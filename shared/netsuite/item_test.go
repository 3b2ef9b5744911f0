package netsuite_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
)

func price(level, currency string, quantity, amount any) map[string]any {
	return map[string]any{"priceLevel": map[string]any{"id": level}, "currency": map[string]any{"id": currency}, "quantity": quantity, "unitPrice": amount}
}

// An item is the same by listing and by reading, of whatever type it is; its price is the base price in the first currency at the
// lowest quantity. It is heard of by listing alone, and never written.
func TestItem(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Europe/Zurich"}, nil)
	heard := a.heard(t, clock.Now)
	chai := mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "CH-1", "displayName": "Chai", "salesDescription": "10 boxes x 20 bags", "class": map[string]any{"id": "2"}, "saleUnit": map[string]any{"id": "2"},
		"externalId": "product-1", "price": map[string]any{"items": []any{price("1", "4", 0, 17), price("1", "1", 0, 18.25), price("1", "1", 100, 15), price("5", "1", 0, 99)}}})
	mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "Discount", "itemType": "Discount"}) // nothing that is sold
	service := mustEdit(t, a.twin, "item", "", map[string]any{"itemType": "Service"})
	clock.Advance(5 * time.Second)
	page, err := a.Changes(t.Context(), "item", "")
	if err != nil || len(page.Natives) != 2 {
		t.Fatal(page, err)
	}
	for i, id := range []string{chai, service} {
		n, read := page.Natives[i], a.read(t, "item", id)
		same(t, n.Fields, read.Fields)
		if n.Ref != ref("item", id) || n.Version != read.Version || !n.Version.Final || !n.Version.At.Equal(clock.Now().Add(-5*time.Second)) || n.Actor != "" || n.Ours {
			t.Errorf("%+v", n)
		}
	}
	found, err := a.Find(t.Context(), "item", "product-1")
	if f := found.Fields; err != nil || found.ID != chai || fmt.Sprintf("%v %v %v %v", f["basePrice"], f["baseCurrency"], f["class"], f["saleUnit"]) != "18.25 map[id:1 refName:USD] map[id:2 refName:Beverages] map[id:2 refName:Box]" {
		t.Errorf("%v %v, %v", found, f, err)
	}
	if f := page.Natives[1].Fields; f["basePrice"] != nil || f["itemType"] != "Service" || f["displayName"] != nil {
		t.Error(f)
	}

	// Once more, from where the listing stood.
	clock.Advance(time.Hour)
	mustEdit(t, a.twin, "item", chai, map[string]any{"price": map[string]any{"items": []any{price("1", "1", 0, 19)}}})
	page, err = a.Changes(t.Context(), "item", page.Cursor)
	if n := page.Natives; err != nil || n[len(n)-1].ID != chai || n[len(n)-1].Fields["basePrice"] != json.Number("19") || n[len(n)-1].Version.Final {
		t.Errorf("%v, %v", page.Natives, err)
	}
	if told := heard(); len(told) != 0 {
		t.Errorf("a webhook about %v", told)
	}
	if _, err := a.Read(t.Context(), ref("item", "99999")); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	wrote := a.Write(t.Context(), []platform.Write{{Ref: ref("item", chai), External: "product-1", Fields: map[string]any{"displayName": "Tea"}}})
	if !fault.Is(wrote[0].Err, fault.Contract) {
		t.Error(wrote)
	}
}

// A price list is a record for each level and currency, at the lowest quantity, dated as its item; each is read by its name.
func TestPriceList(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, nil)
	chai := mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "CH-1", "price": map[string]any{"items": []any{price("1", "4", 0, 17), price("1", "1", 100, 15), price("1", "1", 0, 18.25), price("5", "1", 0, 99)}}})
	mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "CH-2", "isInactive": true})
	clock.Advance(5 * time.Second)
	page, err := a.Changes(t.Context(), "pricing", "")
	if err != nil || page.More {
		t.Fatal(page, err)
	}
	var got []string
	for _, n := range page.Natives {
		read := a.read(t, "pricing", n.ID)
		same(t, n.Fields, read.Fields)
		if n.Version != read.Version || !n.Version.At.Equal(clock.Now().Add(-5*time.Second)) || n.External != "" {
			t.Errorf("%+v", n)
		}
		got = append(got, fmt.Sprintf("%s %v %v", n.ID, n.Fields["unitPrice"], n.Fields["item"]))
	}
	want := fmt.Sprintf("[%[1]s-1-1 18.25 map[id:%[1]s] %[1]s-1-4 17 map[id:%[1]s] %[1]s-5-1 99 map[id:%[1]s]]", chai)
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	for id, class := range map[string]fault.Class{chai + "-2-1": fault.NotFound, "99-1-1": fault.NotFound, chai: fault.Contract, chai + "-1-1; x": fault.Contract} {
		if _, err := a.Read(t.Context(), ref("pricing", id)); !fault.Is(err, class) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := a.Find(t.Context(), "pricing", "price-1"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, err := a.Census(t.Context(), "pricing", nil, 0); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	// An account with one currency has no such column.
	one := open(t, netsuitetwin.Options{Now: clock.Now}, func(c *netsuite.Config) { c.Columns = map[string][]string{"pricing": {"-price.currency"}} })
	id := mustEdit(t, one.twin, "item", "", map[string]any{"itemId": "CH-1", "price": map[string]any{"items": []any{price("1", "1", 0, 18.25)}}})
	if n := one.read(t, "pricing", id+"-1-0"); n.Fields["unitPrice"] != json.Number("18.25") {
		t.Error(n.Fields)
	}
}

// In the hour that the account's clocks show twice an item has the latest time that has come: never later than what follows.
func TestItemInTheRepeatedHour(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Europe/Zurich"}, nil)
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 02:30, for the first time
	clock.Advance(first.Sub(clock.Now()))
	id := mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "CH-1"})
	var last record.Version
	for _, step := range []struct {
		after, until time.Duration // edited again after …; 0: only read
		want         time.Time
	}{
		{0, 10 * time.Minute, first},                                  // the second 02:30 has not come
		{30 * time.Minute, 0, first.Add(40 * time.Minute)},            // 02:10 for the second time
		{20 * time.Minute, time.Hour, first.Add(60 * time.Minute)},    // 02:30 for the second time
		{90 * time.Minute, time.Second, first.Add(211 * time.Minute)}, // long after
	} {
		if step.after > 0 {
			clock.Advance(step.after)
			mustEdit(t, a.twin, "item", id, map[string]any{"displayName": fmt.Sprint(step.after)})
		}
		clock.Advance(step.until)
		n := a.read(t, "item", id)
		if n.Version.At.Before(last.At) {
			t.Errorf("%s is before %s", n.Version.At, last.At)
		}
		if last = n.Version; step.until < time.Hour && step.after < time.Hour && !n.Version.At.Equal(step.want) {
			t.Errorf("dated %s, want %s", n.Version.At, step.want)
		}
	}
}

// Prices are lines of items: nobody counts or lists them as if they were the items.
func TestPricesAreNotCompared(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, nil)
	id := mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "CH-1", "price": map[string]any{"items": []any{price("1", "1", 0, 18)}}})
	clock.Advance(time.Minute)
	for _, o := range a.Declaration().Objects {
		if o.Name == "pricing" && (o.Census != "" || !o.Unlisted) {
			t.Errorf("declared as %+v", o)
		}
	}
	for what, do := range map[string]func() error{
		"census": func() error { _, err := a.Census(t.Context(), "pricing", nil, 0); return err },
		"within": func() error { _, err := a.Within(t.Context(), "pricing", nil, ""); return err },
		"among":  func() error { _, err := a.Among(t.Context(), "pricing", []string{id, id + "-1-1"}); return err },
	} {
		if err := do(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v, want not-found", what, err)
		}
	}
}
