package trigger_test

import (
	"fmt"
	"testing"

	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

func TestReplaysOverHTTP(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	tele, n := telemetry.New(nil, now, nil), 0
	again := replay.New(replay.Deps{Ledger: d.ledger, Config: d.config, Platforms: d.config.Platforms(), Now: now, NewID: func() string { n++; return fmt.Sprint("r", n) }, Telemetry: tele})
	d.routes = trigger.Desk{Config: d.config, Who: trigger.Trusted(d.config), Telemetry: tele, Once: d.once(), Again: again,
		Ask: operate.New(operate.Deps{Ledger: d.ledger, Config: d.config, Telemetry: tele, Now: now}),
		Act: steward.New(steward.Deps{Ledger: d.ledger, Config: d.config, Now: now, NewID: func() string { return "t9" }, Telemetry: tele}),
	}.Routes()
	var all []replay.Shown
	if d.ok("GET", "/v1/replays", "", &all); all == nil || len(all) != 0 {
		t.Errorf("%+v, want an empty list", all)
	}
	for _, verb := range []string{"", "/r1/run", "/r1/pause", "/r1/resume", "/r1/cancel"} {
		d.as = ""
		d.refused("POST", "/v1/replays"+verb, `{"current":false}`, 403, "nobody is named")
		if d.as = "alice@northwind.example"; verb != "" {
			d.refused("POST", "/v1/replays"+verb, `{"current":false}`, 403, "role steward")
		}
	}
	d.refused("POST", "/v1/replays", `{"entity":"customer"}`, 403, "role steward")
	d.as = "stewart@northwind.example"
	for _, bad := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"", ``, 400, "it is empty"},
		{"", `{}`, 400, "it is not said what to replay"},
		{"", `{"everything":true}`, 400, "unknown field"},
		{"", `{"since":"yesterday"}`, 400, "cannot be read"},
		{"", `{"entity":"planet"}`, 400, "no entity is called"},
		{"/none/run", ``, 404, "no such replay"},
		{"/none/resume", `{"currant":true}`, 400, "unknown field"},
	} {
		d.refused("POST", "/v1/replays"+bad.path, bad.body, bad.status, bad.says)
	}
	var r replay.Shown
	d.ok("POST", "/v1/replays", `{"entity":"customer","platform":"servicenow"}`, &r)
	if r.ID != "r1" || r.State != ledger.ReplayPlanned || r.Plan.Records != 2 || r.By != d.as {
		t.Fatalf("%+v", r)
	}
	var page replay.Records
	d.ok("GET", "/v1/replays/r1/records?page=0", "", &page)
	if len(page.Records) != 2 || page.Pages != 1 {
		t.Errorf("%+v", page)
	}
	d.refused("GET", "/v1/replays/r1/records?page=x", "", 400, "page is no number")
	d.refused("GET", "/v1/replays/none", "", 404, "no such replay")
	d.refused("POST", "/v1/replays/r1/pause", "", 409, "it is planned")
	d.ok("POST", "/v1/replays/r1/run", "", &r)
	d.ok("POST", "/v1/replays/r1/pause", "", &r)
	if r.State != ledger.ReplayPaused || r.Reason != "paused by "+d.as {
		t.Errorf("%+v", r)
	}
	d.ok("POST", "/v1/replays/r1/resume", `{"current":false}`, &r)
	d.ok("POST", "/v1/replays/r1/cancel", "", &r)
	d.ok("GET", "/v1/replays/r1", "", &r)
	if r.State != ledger.ReplayCancelled {
		t.Errorf("%+v", r)
	}
	log, err := d.ledger.Log(t.Context(), ledger.General)
	var did []string
	for _, e := range log {
		did = append(did, e.Events[0].Action)
	}
	if err != nil || fmt.Sprint(did) != "[replay-planned replay-started replay-paused replay-resumed replay-cancelled]" {
		t.Errorf("the log says %v, %v", did, err)
	}
	if d.ok("GET", "/v1/replays", "", &all); len(all) != 1 || all[0].ID != "r1" {
		t.Errorf("%+v", all)
	}
}
