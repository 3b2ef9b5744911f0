package trigger_test

import (
	"net/http"
	"strings"
	"testing"

	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

// withLetters gives a desk an inbound queue with one poison letter and one that can be redriven, in this order.
func withLetters(t *testing.T) (*desk, *queue.Memory) {
	t.Helper()
	d := newDesk(t, trigger.Trusted)
	dead := queue.NewMemory(queue.Settings{Name: "inbound-dlq.fifo"}, nil, now)
	inbound := queue.NewMemory(queue.Settings{Name: "inbound.fifo"}, dead, now)
	tele := telemetry.New(nil, now, nil)
	d.routes = trigger.Desk{Config: d.config, Who: trigger.Trusted(d.config), Telemetry: tele, Once: d.once(),
		Ask: operate.New(operate.Deps{Ledger: d.ledger, Config: d.config, Telemetry: tele, Now: now}),
		Act: steward.New(steward.Deps{Ledger: d.ledger, Config: d.config, Now: now, NewID: func() string { return "t9" }, Telemetry: tele}),
		Dead: deadletters.New(deadletters.Deps{Ledger: d.ledger, Config: d.config, Now: now, Telemetry: tele,
			Queues: map[string]deadletters.Pair{"inbound": {Source: inbound, Dead: dead}}}),
	}.Routes()
	for i, body := range []string{`{"v":9}`, `{"v":1,"correlationId":"c","receivedAt":"2026-11-02T08:00:00Z","source":"webhook","native":{"platform":"netsuite","object":"customer","id":"85","version":{"at":"2026-11-02T08:00:00Z"},"fields":{"companyName":"Xyzzy"}}}`} {
		if err := dead.Send(t.Context(), queue.Message{Group: "g", Dedup: string(rune('a' + i)), Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	return d, inbound
}

func TestDeadLettersOverHTTP(t *testing.T) {
	t.Parallel()
	d, inbound := withLetters(t)
	var l deadletters.Listing
	d.ok("GET", "/v1/deadletters", "", &l)
	if len(l.Letters) != 2 || l.Queues[0].Waiting != 2 || l.Letters[0].Class != deadletters.Poison {
		t.Fatalf("%+v", l)
	}
	poison, other := "/v1/deadletters/"+l.Letters[0].ID, "/v1/deadletters/"+l.Letters[1].ID
	d.ok("GET", "/v1/deadletters?class=poison&queue=inbound", "", &l)
	if len(l.Letters) != 1 {
		t.Errorf("%+v", l)
	}
	var x deadletters.Letter
	d.ok("GET", other, "", &x)
	if x.Body != "" || x.Record != one || x.Platform != record.NetSuite {
		t.Errorf("%+v", x)
	}
	for _, bad := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/v1/deadletters?colour=red", "", 400, "unknown parameter"},
		{"GET", "/v1/deadletters?class=red", "", 400, "no class is called"},
		{"GET", "/v1/deadletters/none", "", 404, "sorrel deadletters lists them"},
		{"GET", other + "?payload=maybe", "", 400, "true or false"},
		{"GET", other + "?payload=true", "", 403, "nobody is named"},
		{"POST", "/v1/deadletters", `{"action":"redrive","all":true}`, 403, "nobody is named"},
		{"POST", poison, `{"action":"discard","reason":"x"}`, 403, "nobody is named"},
	} {
		d.refused(bad.method, bad.path, bad.body, bad.status, bad.says)
	}
	d.as = "alice@northwind.example"
	d.refused("POST", "/v1/deadletters", `{"action":"redrive","all":true}`, 403, "role steward")
	d.refused("POST", poison, `{"action":"discard","reason":"x"}`, 403, "role steward")
	d.ok("GET", other+"?payload=true", "", &x)
	if !strings.Contains(x.Body, "Xyzzy") {
		t.Errorf("%+v", x)
	}
	d.as = "stewart@northwind.example"
	for _, bad := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/v1/deadletters", ``, 400, "it is empty"},
		{"/v1/deadletters", `{"action":"redrive"}`, 400, "it must be said which"},
		{"/v1/deadletters", `{"action":"redrive","ids":["x"],"all":true}`, 400, "it must be said which"},
		{"/v1/deadletters", `{"action":"discard","ids":["x"]}`, 400, "one by one"},
		{"/v1/deadletters", `{"action":"redrive","everything":true}`, 400, "unknown field"},
		{"/v1/deadletters", `{"action":"redrive","ids":7}`, 400, "ids cannot be a number"},
		{poison, `{"action":"burn"}`, 400, "redrive or discard"},
		{poison, `{"action":"discard"}`, 400, "no reason is given"},
		{"/v1/deadletters/none", `{"action":"discard","reason":"x"}`, 404, "no such dead letter"},
	} {
		d.refused("POST", bad.path, bad.body, bad.status, bad.says)
	}
	var did deadletters.Redriven
	d.ok("POST", other, `{"action":"redrive"}`, &did)
	if len(did.Redriven) != 1 || did.Left != 1 {
		t.Errorf("%+v", did)
	}
	if got, err := inbound.Receive(t.Context(), 1, 0); err != nil || len(got) != 1 {
		t.Errorf("inbound has %+v, %v", got, err)
	}
	d.ok("POST", "/v1/deadletters", `{"action":"redrive","all":true,"queue":"inbound"}`, &did)
	if len(did.Redriven) != 0 || len(did.Poison) != 1 {
		t.Errorf("%+v", did)
	}
	var gone deadletters.Discarded
	d.ok("POST", poison, `{"action":"discard","reason":"a test"}`, &gone)
	log, err := d.ledger.Log(t.Context(), ledger.General)
	if err != nil || gone.Reason != "a test" || log[len(log)-1].Events[0].Action != "dead-letter-discarded" {
		t.Errorf("%+v %+v %v", gone, log, err)
	}
}

// A payload is shown on this machine only, whoever asks; without queues nothing is shown at all.
func TestPayloadsStayHere(t *testing.T) {
	t.Parallel()
	d, _ := withLetters(t)
	d.as = "stewart@northwind.example"
	r := d.local("GET", "/v1/deadletters/inbound-dlq.fifo-2?payload=true", "")
	r.RemoteAddr = "192.0.2.1:5000"
	var out any
	if status, p := d.send(r, &out); status != http.StatusForbidden || !strings.Contains(p.Detail, "machine of this process") {
		t.Errorf("%d %+v %v", status, p, out)
	}
	r = d.local("GET", "/v1/deadletters/inbound-dlq.fifo-2?payload=true", "")
	r.Host = "evil.example:8787"
	if status, _ := d.send(r, &out); status != http.StatusForbidden {
		t.Errorf("%d %v", status, out)
	}
	none := newDesk(t, trigger.Trusted)
	none.as = "stewart@northwind.example"
	none.refused("GET", "/v1/deadletters", "", 404, "--stack")
	none.refused("GET", "/v1/deadletters/x", "", 404, "--stack")
	none.refused("POST", "/v1/deadletters", `{"action":"redrive","all":true}`, 404, "--stack")
	none.refused("POST", "/v1/deadletters/x", `{"action":"redrive"}`, 404, "--stack")
}
