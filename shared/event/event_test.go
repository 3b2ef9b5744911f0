package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sorrel/shared/record"
)

// TestTooLarge: what does not fit is left out, the least telling first, and the event says where it stands.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	e := Event{ID: "account/a/1/0", Subject: "account/a", Data: Data{Record: "account/a", Golden: map[string]any{"name": long},
		Changes: []Change{{Field: "name", After: long}}, Detail: map[string]string{"why": long}}}
	for _, c := range []struct {
		max                     int
		golden, changes, detail bool
		bad                     bool
	}{
		{max: 4000, golden: true, changes: true, detail: true},
		{max: 3000, changes: true, detail: true},
		{max: 2000, detail: true},
		{max: 1000},
		{max: 100, bad: true},
	} {
		b, err := e.JSON(c.max)
		if c.bad != (err != nil) {
			t.Errorf("%d: %v", c.max, err)
		}
		if err != nil {
			continue
		}
		var got Event
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		d := got.Data
		if (d.Golden != nil) != c.golden || (d.Changes[0].After != nil) != c.changes || (d.Detail != nil) != c.detail || len(b) > c.max || d.Changes[0].Field != "name" {
			t.Errorf("%d: %d bytes, %+v", c.max, len(b), d)
		}
		if (d.Read == "/v1/records/account/a") == c.golden {
			t.Errorf("%d: it points to %q", c.max, d.Read)
		}
	}
	if e.Data.Changes[0].After != long {
		t.Error("the event itself was shortened")
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	e := Event{Type: "sorrel.customer.changed.v1", Subject: "customer/a", Time: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
		Data: Data{Changes: []Change{{Field: "creditHold", Before: "on", From: record.NetSuite}, {Field: "balance", Before: json.Number("1"), After: json.Number("2.50"), From: record.NetSuite}}}}
	if got, want := e.String(), "2026-11-02T08:00:00Z  customer.changed.v1  customer/a  creditHold: on → nothing (netsuite), balance: 1 → 2.50 (netsuite)"; got != want {
		t.Errorf("%s\n%s", got, want)
	}
	e = Event{Type: "sorrel.customer.activated.v1", Subject: "opportunity/a", Data: Data{About: "customer/a", Detail: map[string]string{"took": "2h", "by": "fiona"}}}
	if got := e.String(); !strings.HasSuffix(got, "opportunity/a  about customer/a, by: fiona, took: 2h") {
		t.Error(got)
	}
}
