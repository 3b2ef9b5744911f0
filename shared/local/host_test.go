package local_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// bench is a host over twins.
type bench struct {
	*testing.T
	twins *twins.Twins
	world *boot.World
	host  *local.Host
}

func start(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t}
	var err error
	if b.twins, err = twins.Start(twins.Options{Now: time.Now, Seed: 5, Roomy: true}); err != nil {
		t.Fatal(err)
	}
	set, err := boot.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	b.world, err = boot.Embedded(t.TempDir(), set, b.twins.Endpoints(), func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	if err != nil {
		t.Fatal(err)
	}
	b.host, err = local.Start(b.world, local.Options{Listen: "127.0.0.1:0", Endpoints: b.twins.Endpoints(), BatchEvery: -1, SweepEvery: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.twins.SendTo("")
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(b.host.Close(ctx), b.world.Close(), b.twins.Close(ctx)); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return b
}

// post sends a body and returns the answer with its body.
func (b *bench) post(path string, header map[string]string, body []byte) (*http.Response, []byte) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, b.host.URL()+path, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return resp, answer
}

// get asks for a path and decodes a 200.
func (b *bench) get(path string, into any) int {
	b.Helper()
	resp, err := http.Get(b.host.URL() + path)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		b.Fatalf("%s: %s: %v", path, resp.Status, err)
	}
	return resp.StatusCode
}

// signed is the header of our SuiteScript kit for a body.
func (b *bench) signed(body []byte) map[string]string {
	stamp := time.Now().UTC().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(b.twins.NetSuite.Credentials().WebhookSecrets[0]))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return map[string]string{"Content-Type": "application/json", "X-Sorrel-Timestamp": stamp, "X-Sorrel-Signature": "v1=" + hex.EncodeToString(mac.Sum(nil))}
}

// saved is a webhook of NetSuite.
func saved(id, object string, fields string) []byte {
	return fmt.Appendf(nil, `{"id":"event-%s-%s","type":"record.saved","event":"edit","context":"USERINTERFACE","user":"7","record":{"type":%q,"id":%q,"rev":3,"lastModifiedDate":"2026-11-20T08:00:00Z"%s}}`,
		object, id, object, id, fields)
}

func (b *bench) eventually(what string, test func() error) {
	b.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := test()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

// exception waits for an open exception of a type about a native record.
func (b *bench) exception(kind, native, field string) {
	b.Helper()
	b.eventually(kind+" of "+native, func() error {
		var open []ledger.Exception
		if status := b.get("/v1/exceptions", &open); status != http.StatusOK {
			return fmt.Errorf("status %d", status)
		}
		for _, x := range open {
			if x.Type == kind && x.Native == native && x.Field == field && x.Detail != "" && x.Remedy != "" {
				return nil
			}
		}
		return fmt.Errorf("open are %+v", open)
	})
}

// Whatever cannot be taken is refused with a problem that says what and why, counted, and leaves no mark.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	b := start(t)
	deep := []byte(`{"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`)
	large := []byte(`{"id":"` + strings.Repeat("x", intake.MaxBody) + `"}`)
	exactly := []byte(`{"id":"` + strings.Repeat("x", intake.MaxBody-9) + `"}`)
	good := saved("1", "salesOrder", "")
	token := "?token=" + b.twins.Salesforce.Credentials().WebhookTokens[0]
	soap := func(body string) []byte {
		return []byte(`<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>` + body + `</soapenv:Body></soapenv:Envelope>`)
	}
	with := func(h map[string]string, name, value string) map[string]string {
		h[name] = value
		return h
	}
	xml := map[string]string{"Content-Type": "text/xml; charset=utf-8"}
	for _, c := range []struct {
		name, path string
		header     map[string]string
		body       []byte
		status     int
		says       string
	}{
		{"unknown platform", "/webhooks/sap", nil, good, 404, `no platform "sap"`},
		{"no signature", "/webhooks/netsuite", map[string]string{"Content-Type": "application/json"}, good, 401, "X-Sorrel-Timestamp is missing"},
		{"forged", "/webhooks/netsuite", b.signed([]byte("something else")), good, 401, "does not match"},
		{"wrong content type", "/webhooks/netsuite", with(b.signed(good), "Content-Type", "text/plain"), good, 400, "text/plain"},
		{"one byte too large", "/webhooks/netsuite", b.signed(large), large, 413, fmt.Sprint(intake.MaxBody)},
		{"as large as may be, but no event", "/webhooks/netsuite", b.signed(exactly), exactly, 404, "event type"},
		{"broken JSON", "/webhooks/netsuite", b.signed([]byte(`{"id":`)), []byte(`{"id":`), 400, ""},
		{"no UTF-8", "/webhooks/netsuite", b.signed([]byte("{\"id\":\"\xff\xfe\"}")), []byte("{\"id\":\"\xff\xfe\"}"), 0, ""},
		{"deep JSON", "/webhooks/netsuite", b.signed(deep), deep, 400, "deep"},
		{"empty", "/webhooks/netsuite", b.signed(nil), nil, 400, ""},
		{"unknown event type", "/webhooks/netsuite", b.signed([]byte(`{"id":"1","type":"record.printed"}`)), []byte(`{"id":"1","type":"record.printed"}`), 404, "record.printed"},
		{"unknown object", "/webhooks/netsuite", b.signed(saved("1", "vendorBill", "")), saved("1", "vendorBill", ""), 404, "vendorBill"},
		{"no internal id", "/webhooks/netsuite", b.signed(saved("abc", "salesOrder", "")), saved("abc", "salesOrder", ""), 422, "internal id"},
		{"query that cannot be parsed", "/webhooks/netsuite?a=%zz", b.signed(good), good, 400, "query"},
		{"Salesforce without a token", "/webhooks/salesforce", xml, soap(""), 401, "token"},
		{"Salesforce with JSON", "/webhooks/salesforce" + token, map[string]string{"Content-Type": "application/json"}, []byte("{}"), 400, "text/xml"},
		{"broken XML", "/webhooks/salesforce" + token, xml, []byte("<a><b></a>"), 400, "XML"},
		{"deep XML", "/webhooks/salesforce" + token, xml, soap(strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500)), 400, "XML"},
		{"XML with entities", "/webhooks/salesforce" + token, xml, []byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`), 400, "XML"},
		{"another SOAP message", "/webhooks/salesforce" + token, xml, soap("<hello/>"), 404, "Outbound Message"},
		{"Zendesk without a signature", "/webhooks/zendesk", map[string]string{"Content-Type": "application/json"}, []byte("{}"), 401, "X-Zendesk-Webhook-Signature"},
	} {
		before := b.refused()
		resp, body := b.post(c.path, c.header, c.body)
		if c.status == 0 {
			c.status = resp.StatusCode
			if resp.StatusCode < 400 || resp.StatusCode > 499 {
				t.Errorf("%s: answered %s", c.name, resp.Status)
			}
		}
		var p intake.Problem
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("%s: answered %s %.200q, no problem: %v", c.name, resp.Status, body, err)
			continue
		}
		if resp.StatusCode != c.status || p.Status != c.status || !strings.HasPrefix(p.Type, "urn:sorrel:problem:") || p.Title == "" ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: answered %s %s %+v, want %d as application/problem+json", c.name, resp.Status, resp.Header.Get("Content-Type"), p, c.status)
		}
		if !strings.Contains(p.Detail+p.Remedy, c.says) {
			t.Errorf("%s: the problem %+v does not name %q", c.name, p, c.says)
		}
		if len(body) > 2000 {
			t.Errorf("%s: the problem repeats %d bytes", c.name, len(body))
		}
		if c.says != "query" && (p.CorrelationID == "" || b.refused() != before+1) {
			t.Errorf("%s: correlation id %q, counted %v", c.name, p.CorrelationID, b.refused()-before)
		}
	}
	depth, err := b.world.Queues[boot.InboundQueue].Depth(t.Context())
	if err != nil || depth.Visible+depth.InFlight > 0 {
		t.Errorf("the inbound queue holds %+v, %v", depth, err)
	}
	var open []ledger.Exception
	if b.get("/v1/exceptions", &open); len(open) > 0 {
		t.Errorf("refused input left exceptions: %+v", open)
	}
}

func (b *bench) refused() (n float64) {
	for name, v := range b.world.Telemetry.Snapshot().Counters {
		if name == "WebhooksRefused" || strings.HasPrefix(name, "WebhooksRefused.") {
			n += v
		}
	}
	return n
}

// What is well-formed but cannot be used becomes a typed exception, and does not stop its neighbours.
func TestUnusableInputIsParked(t *testing.T) {
	t.Parallel()
	b := start(t)
	accept := func(path string, header map[string]string, body []byte) {
		t.Helper()
		if resp, answer := b.post(path, header, body); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("answered %s %s, want 202", resp.Status, answer)
		}
	}
	customer, err := b.twins.NetSuite.Edit("customer", "", map[string]any{"entityId": "QUICK", "companyName": "QUICK-Stop"})
	if err != nil {
		t.Fatal(err)
	}
	hint := []byte(`{"id":"e1","type":"record.saved","record":{"type":"salesOrder","id":"987654"}}`)
	accept("/webhooks/netsuite", b.signed(hint), hint) // NetSuite does not know this order
	odd := saved("1234", "salesOrder", `,"fields":{"tranId":"SO-9","entity":{"id":"`+customer+`"},"orderStatus":{"id":"Z","refName":"Mislaid"},"total":12.5}`)
	accept("/webhooks/netsuite", b.signed(odd), odd)
	hint = []byte(`{"id":"e2","type":"record.saved","record":{"type":"customer","id":"` + customer + `"}}`)
	accept("/webhooks/netsuite", b.signed(hint), hint)
	event, err := os.ReadFile("../../events/intake/salesforce-event-relay.json")
	if err != nil {
		t.Fatal(err)
	}
	accept("/_local/events", nil, event) // of an order that Sorrel never wrote

	b.exception("unmatched", "netsuite/salesOrder/987654", "")
	b.exception("unknown-picklist", "netsuite/salesOrder/1234", "status")
	b.exception("unmatched", "salesforce/Order/801xx000003DGb2AAG", "")
	b.eventually("the good neighbour arrives", func() error {
		for _, a := range b.twins.Salesforce.All("Account") {
			if a["Name"] == "QUICK-Stop" {
				return nil
			}
		}
		return errors.New("no such account")
	})
	for name, q := range b.world.Queues {
		if d, err := q.Depth(t.Context()); err != nil || strings.HasSuffix(name, "-dlq.fifo") && d.Visible > 0 {
			t.Errorf("%s holds %+v, %v", name, d, err)
		}
	}
}

// The event bus's stand-in answers problems too; what no repeat would make better is taken and counted.
func TestEventBus(t *testing.T) {
	t.Parallel()
	b := start(t)
	for _, c := range []struct {
		name   string
		body   []byte
		status int
	}{
		{"broken", []byte("{"), 400},
		{"no event", []byte(`{"a":1}`), 400},
		{"too large", []byte(`{"detail-type":"x","source":"` + strings.Repeat("y", intake.MaxBody) + `"}`), 413},
		{"another org's", []byte(`{"detail-type":"OrderChangeEvent","source":"aws.partner/salesforce.com/other/1","detail":{}}`), 401},
	} {
		resp, body := b.post("/_local/events", nil, c.body)
		if resp.StatusCode != c.status {
			t.Errorf("%s: answered %s %.200s, want %d", c.name, resp.Status, body, c.status)
		}
		var p intake.Problem
		if c.status >= 400 && (json.Unmarshal(body, &p) != nil || p.Status != c.status) {
			t.Errorf("%s: %.200s is no problem", c.name, body)
		}
	}
	if n := b.refused(); n != 1 {
		t.Errorf("%v events counted as refused, want the one of another org", n)
	}
}

// Questions about what is not there are 404s that say what to do.
func TestQuestions(t *testing.T) {
	t.Parallel()
	b := start(t)
	for path, want := range map[string]int{
		"/v1/traces/01NOSUCH": 404, "/v1/records/order/aaaaaaaaaaaaaaaa": 404, "/v1/records/order/aaaaaaaaaaaaaaaa/why?field=status": 404,
		"/v1/records/order/not%20an%20id": 400, "/v1/links/netsuite/42?object=salesOrder": 404,
	} {
		var p intake.Problem
		if status := b.get(path, &p); status != want || p.Status != want || p.Detail == "" {
			t.Errorf("%s: %d %+v, want %d with a detail", path, status, p, want)
		}
	}
	var endpoints map[string]boot.Endpoint
	if status := b.get("/v1/dev", &endpoints); status != 200 || len(endpoints) != 4 || endpoints[record.Zendesk].URL == "" {
		t.Errorf("/v1/dev: %d %+v", status, endpoints)
	}
}

// Close lets a write that is under way end and be committed; what has not begun stays queued.
func TestCloseLetsWorkEnd(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.twins.Zendesk.Kit().SetFaults(twin.Faults{LatencyMS: 700})
	b.twins.SendTo(b.host.URL())
	id, err := b.twins.NetSuite.Edit("customer", "", map[string]any{"entityId": "WANDK", "companyName": "Die Wandernde Kuh"})
	if err != nil {
		t.Fatal(err)
	}
	b.eventually("Zendesk is being written", func() error {
		if n := b.twins.Zendesk.Kit().Stats().Operations["POST /api/v2/organizations/create_or_update.json"]; b.twins.Zendesk.Kit().Stats().InFlight == 0 && n == 0 {
			return errors.New("no call yet")
		}
		return nil
	})
	b.twins.SendTo("")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.host.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := b.twins.Zendesk.Kit().Stats().InFlight; n != 0 {
		t.Errorf("%d calls are under way after Close", n)
	}
	state, err := b.world.Ledger.Load(ctx, ledger.Mint("customer", record.Ref{Platform: record.NetSuite, Object: "customer", ID: id}))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range state {
		if _, due := s.Due[record.Zendesk]; due || !s.Record.Views[record.Zendesk].Exists() {
			t.Errorf("the write was not committed: %+v", s.Due)
		}
	}
	if resp, err := http.Get(b.host.URL() + "/v1/status"); err == nil {
		resp.Body.Close()
		t.Error("the host still answers")
	}
	if d, err := b.world.Queues[boot.OutboundQueue(record.Zendesk)].Depth(ctx); err != nil || d.InFlight > 0 {
		t.Errorf("messages are in flight: %+v, %v", d, err)
	}
}

// An address that is taken is an error that names it and says what to do.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	b := start(t)
	address := strings.TrimPrefix(b.host.URL(), "http://")
	_, err := local.Start(b.world, local.Options{Listen: address})
	if !fault.Is(err, fault.Down) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v, want %s and --listen named", err, address)
	}
}
