package trigger_test

import (
	"math/rand/v2"
	"testing"

	"sorrel/shared/event"
	"sorrel/shared/flow/publish"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

func TestSubscribersOverHTTP(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	config := d.config.Printing("analytics")
	tele := telemetry.New(nil, now, nil)
	flow := publish.New(publish.Deps{Ledger: d.ledger, Config: config, Now: now, Rand: func() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }, Telemetry: tele})
	d.routes = trigger.Desk{Config: config, Who: trigger.Trusted(config), Telemetry: tele, Once: d.once(), Tell: flow}.Routes()
	const path = "/v1/subscribers/analytics/replays"
	d.as = ""
	d.refused("POST", path, `{"entity":"customer"}`, 403, "nobody is named")
	d.as = "alice@northwind.example"
	d.refused("POST", path, `{"entity":"customer"}`, 403, "role steward")
	d.as = "stewart@northwind.example"
	d.refused("POST", path, ``, 400, "it is empty")
	d.refused("POST", path, `{}`, 400, "nothing is chosen")
	d.refused("POST", path, `{"entity":"planet"}`, 400, "unknown entity")
	d.refused("POST", path, `{"everything":true}`, 400, "unknown field")
	d.refused("POST", "/v1/subscribers/none/replays", `{"entity":"customer"}`, 404, "no such subscriber")
	var counted publish.Counted
	d.ok("POST", path, `{"entity":"customer"}`, &counted)
	if counted.Records != 2 || counted.Events < 2 || counted.Due != 0 {
		t.Errorf("%+v", counted)
	}
	d.ok("POST", path, `{"entity":"customer","run":true}`, &counted)
	if counted.Due != 2 {
		t.Errorf("%+v", counted)
	}
	var all []publish.Listed
	if d.ok("GET", "/v1/subscribers", "", &all); len(all) != 1 || all[0].Name != "analytics" || all[0].Waiting != 2 || all[0].Oldest == nil {
		t.Errorf("%+v", all)
	}
	var schemas []event.Schema
	if d.ok("GET", "/v1/event-schemas", "", &schemas); len(schemas) < 5 || schemas[len(schemas)-1].Type != event.Business {
		t.Errorf("%d schemas", len(schemas))
	}
}
