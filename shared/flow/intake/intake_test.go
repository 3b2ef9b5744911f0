package intake_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/message"
	"sorrel/shared/netsuite"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
	"sorrel/shared/telemetry"
)

var at = time.Date(2026, 11, 2, 8, 15, 0, 0, time.UTC)

const secret = "a-webhook-secret-for-tests-only"

// scripted is a platform that answers as it is told.
type scripted struct {
	delivery platform.Delivery
	err      error
}

func (s scripted) Webhook(context.Context, platform.Request) (platform.Delivery, error) {
	return s.delivery, s.err
}

func (s scripted) Event(context.Context, []byte, time.Time) (platform.Delivery, error) {
	return s.delivery, s.err
}

// failing is a queue that keeps some of what it is sent, or nothing.
type failing struct {
	queue.Sender
	keep int
}

func (f failing) Send(ctx context.Context, msgs ...queue.Message) error {
	if err := f.Sender.Send(ctx, msgs[:f.keep]...); err != nil {
		return err
	}
	return &queue.PartialError{Failed: []int{f.keep}, Err: errors.New("internal: shard 3 at 10.0.0.7 is full")}
}

type bench struct {
	t     *testing.T
	queue *queue.Memory
	tele  *telemetry.Recorder
	log   *bytes.Buffer
	deps  intake.Deps
}

func setUp(t *testing.T, platforms map[string]intake.Webhooks) *bench {
	t.Helper()
	now := func() time.Time { return at }
	b := &bench{t: t, queue: queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now), log: &bytes.Buffer{}}
	b.tele = telemetry.New(slog.New(slog.NewJSONHandler(b.log, nil)), now, nil)
	ids := 0
	b.deps = intake.Deps{Platforms: platforms, Inbound: b.queue, Now: now, Telemetry: b.tele,
		NewID: func() string { ids++; return fmt.Sprint("trace-", ids) }}
	return b
}

// queued returns what is on the queue.
func (b *bench) queued() []message.Inbound {
	b.t.Helper()
	var out []message.Inbound
	for {
		got, err := b.queue.Receive(b.t.Context(), 10, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		for _, m := range got {
			in, err := message.ParseInbound(m.Body)
			if err != nil {
				b.t.Fatal(err)
			}
			out = append(out, in)
			if err := b.queue.Delete(b.t.Context(), m.Receipt); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

func real(t *testing.T) map[string]intake.Webhooks {
	t.Helper()
	now := func() time.Time { return at }
	ns, err := netsuite.New(netsuite.Config{Now: now, Credentials: netsuite.Credentials{WebhookSecrets: []string{secret}}})
	if err != nil {
		t.Fatal(err)
	}
	sf, err := salesforce.New(salesforce.Config{Now: now, Credentials: salesforce.Credentials{OrgID: "00Dxx0000001gEREAY", WebhookTokens: []string{secret}}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]intake.Webhooks{"netsuite": ns, "salesforce": sf}
}

func signed(body string, when time.Time, with string) platform.Request {
	stamp := when.UTC().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(with))
	mac.Write([]byte(stamp + "." + body))
	h := http.Header{}
	h.Set("X-Sorrel-Timestamp", stamp)
	h.Set("X-Sorrel-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
	return platform.Request{Header: h, ContentType: "application/json", Body: []byte(body)}
}

const saved = `{"id":"salesOrder-7-1","type":"record.saved","record":{"type":"salesOrder","id":"7","lastModifiedDate":"2026-11-02T08:14:59Z","rev":1,"fields":{"tranId":"SO7","orderStatus":{"id":"B"}}}}`

func TestAcceptedAndQueued(t *testing.T) {
	t.Parallel()
	b := setUp(t, real(t))
	f := intake.New(b.deps)
	a := f.Apply(t.Context(), "netsuite", signed(saved, at, secret))
	if a.Status != 202 || a.ContentType != "application/json" || string(a.Body) != `{"correlationId":"trace-1","id":"salesOrder-7-1"}` {
		t.Fatalf("answered %d %s %s", a.Status, a.ContentType, a.Body)
	}
	got := b.queued()
	if len(got) != 1 || got[0].CorrelationID != "trace-1" || got[0].Source != message.Webhook || !got[0].ReceivedAt.Equal(at) ||
		got[0].Native.Ref != (record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}) || got[0].Native.Hint() {
		t.Errorf("queued %+v", got)
	}
	// The vendor's own retry is acknowledged and dropped.
	if a := f.Apply(t.Context(), "netsuite", signed(saved, at, secret)); a.Status != 202 {
		t.Errorf("a retry is answered %d", a.Status)
	}
	if got := b.queued(); len(got) != 0 {
		t.Errorf("a retry is queued: %+v", got)
	}
	if n := b.tele.Snapshot().Counters["WebhooksAccepted.netsuite"]; n != 2 {
		t.Errorf("%v counted", n)
	}
}

// Every bad input is answered with a problem that says what and why, is counted, and queues nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	deep := `{"id":"1","type":"record.saved","record":{"type":"salesOrder","id":"7","fields":` + strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000) + `}}`
	xml := func(body string) platform.Request {
		return platform.Request{Header: http.Header{}, Query: map[string][]string{"token": {secret}}, ContentType: "text/xml; charset=utf-8", Body: []byte(body)}
	}
	typed := func(r platform.Request, contentType string) platform.Request { r.ContentType = contentType; return r }
	bare := platform.Request{Header: http.Header{}, ContentType: "application/json", Body: []byte(saved)}
	rows := []struct {
		name, platform string
		request        platform.Request
		status         int
		says           string
	}{
		{"unknown platform", "oracle", bare, 404, "no platform"},
		{"hostile platform", strings.Repeat("x\n", 500), bare, 404, "no platform"},
		{"no signature", "netsuite", bare, 401, "missing"},
		{"forged signature", "netsuite", signed(saved, at, "another-webhook-secret-entirely"), 401, "signature"},
		{"stale signature", "netsuite", signed(saved, at.Add(-time.Hour), secret), 401, "timestamp"},
		{"signature from the future", "netsuite", signed(saved, at.Add(time.Hour), secret), 401, "timestamp"},
		{"body over the limit", "netsuite", signed(`"`+strings.Repeat("x", intake.MaxBody)+`"`, at, secret), 413, "at most"},
		{"wrong content type", "netsuite", typed(signed(saved, at, secret), "text/plain"), 400, "content type"},
		{"broken JSON", "netsuite", signed(saved[:40], at, secret), 400, ""},
		{"two JSON values", "netsuite", signed(saved+saved, at, secret), 400, ""},
		{"deep JSON", "netsuite", signed(deep, at, secret), 400, ""},
		{"empty body", "netsuite", signed("", at, secret), 400, ""},
		{"unknown event type", "netsuite", signed(`{"id":"1","type":"record.danced","record":{"type":"salesOrder","id":"7"}}`, at, secret), 0, "type"},
		{"unknown record type", "netsuite", signed(`{"id":"1","type":"record.saved","record":{"type":"vendorBill","id":"7"}}`, at, secret), 0, "vendorBill"},
		{"no native id", "netsuite", signed(`{"id":"1","type":"record.saved","record":{"type":"salesOrder","id":""}}`, at, secret), 0, ""},
		{"broken XML", "salesforce", xml("<soapenv:Envelope><a>"), 400, ""},
		{"deep XML", "salesforce", xml(strings.Repeat("<a>", 5000) + strings.Repeat("</a>", 5000)), 400, ""},
		{"XML that is no message", "salesforce", xml("<a/>"), 0, ""},
		{"wrong token", "salesforce", platform.Request{Header: http.Header{}, ContentType: "text/xml", Body: []byte("<a/>")}, 401, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, real(t))
			a := intake.New(b.deps).Apply(t.Context(), r.platform, r.request)
			var p intake.Problem
			if err := json.Unmarshal(a.Body, &p); err != nil {
				t.Fatalf("answered %d %s", a.Status, a.Body)
			}
			if a.ContentType != "application/problem+json" || p.Status != a.Status || a.Status < 400 || a.Status >= 500 || r.status != 0 && a.Status != r.status {
				t.Errorf("answered %d %s %s", a.Status, a.ContentType, a.Body)
			}
			if p.CorrelationID != "trace-1" || p.Title == "" || p.Detail == "" || !strings.HasPrefix(p.Type, "urn:sorrel:problem:") || !strings.Contains(p.Detail, r.says) {
				t.Errorf("says %s, want something about %q", a.Body, r.says)
			}
			if len(a.Body) > 2000 || bytes.Contains(a.Body, []byte(secret)) || bytes.Contains(b.log.Bytes(), []byte(secret)) {
				t.Errorf("says too much: %.300s", a.Body)
			}
			if got := b.queued(); len(got) != 0 {
				t.Errorf("queued %+v", got)
			}
			counted := map[bool]string{true: "WebhooksRefused." + r.platform, false: "WebhooksRefused"}[r.platform == "netsuite" || r.platform == "salesforce"]
			if c := b.tele.Snapshot().Counters; c[counted] != 1 || len(c) != 1 {
				t.Errorf("counted %v", c)
			}
		})
	}
}

// Nothing is acknowledged that the queue does not have, also when it kept a part.
func TestQueueFailure(t *testing.T) {
	t.Parallel()
	two := platform.Delivery{ID: "e1", Natives: []record.Native{{Ref: record.Ref{Platform: "p", Object: "o", ID: "1"}}, {Ref: record.Ref{Platform: "p", Object: "o", ID: "2"}}}}
	for keep := range 2 {
		b := setUp(t, map[string]intake.Webhooks{"p": scripted{delivery: two}})
		b.deps.Inbound = failing{b.queue, keep}
		a := intake.New(b.deps).Apply(t.Context(), "p", platform.Request{Body: []byte("x")})
		if a.Status != 503 || bytes.Contains(a.Body, []byte("10.0.0.7")) {
			t.Errorf("answered %d %s", a.Status, a.Body)
		}
		if c := b.tele.Snapshot().Counters; c["WebhooksRefused.p"] != 1 || c["WebhooksAccepted.p"] != 0 {
			t.Errorf("counted %v", c)
		}
		b.deps.Inbound = b.queue
		if a := intake.New(b.deps).Apply(t.Context(), "p", platform.Request{Body: []byte("x")}); a.Status != 202 {
			t.Errorf("the vendor's retry is answered %d", a.Status)
		}
		if got := b.queued(); len(got) != 2 {
			t.Errorf("after the retry %d messages are queued, want both once", len(got))
		}
	}
}

// sender is a queue in trouble.
type sender func(context.Context) error

func (s sender) Send(ctx context.Context, _ ...queue.Message) error { return s(ctx) }

// Whatever is wrong with the queue: the vendor is not given its acknowledgement, Salesforce's words for one above all, but a
// 503 that says when to send again, within the minute that Zendesk goes along with.
func TestTheVendorSendsAgain(t *testing.T) {
	t.Parallel()
	delivery := platform.Delivery{ID: "e1", Ack: platform.Ack{Status: 200, ContentType: "text/xml", Body: []byte("<Ack>true</Ack>")},
		Natives: []record.Native{{Ref: record.Ref{Platform: "p", Object: "o", ID: "1"}}}}
	for name, c := range map[string]struct {
		queue error
		hook  error
		after string
	}{
		"throttled":                  {queue: fault.New(fault.Throttled, "cloud.send", "slow down"), after: "30"},
		"away":                       {queue: fault.New(fault.Down, "cloud.send", "no answer"), after: "30"},
		"its answer is lost":         {queue: fault.New(fault.Unknown, "cloud.send", "no answer"), after: "30"},
		"not allowed":                {queue: fault.New(fault.Internal, "cloud.send", "AccessDenied"), after: "30"},
		"a part of it":               {queue: &queue.PartialError{Failed: []int{0}, Err: errors.New("one of them")}, after: "30"},
		"hangs":                      {after: "30"},
		"the connector is asked off": {hook: &fault.Error{Class: fault.Throttled, RetryAt: at.Add(7 * time.Second)}, after: "7"},
		"for long":                   {hook: &fault.Error{Class: fault.Down, RetryAt: at.Add(time.Hour)}, after: "30"},
		"without a time":             {hook: fault.New(fault.Down, "x", "no answer"), after: "30"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, map[string]intake.Webhooks{"p": scripted{delivery, c.hook}})
			b.deps.Inbound = sender(func(ctx context.Context) error {
				if c.queue == nil {
					<-ctx.Done() // it hangs until the invocation has to answer
					return ctx.Err()
				}
				return c.queue
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			a := intake.New(b.deps).Apply(ctx, "p", platform.Request{Body: []byte("x")})
			if a.Status != 503 || a.RetryAfter != c.after || bytes.Contains(a.Body, []byte("<Ack>")) {
				t.Errorf("answered %d, after %s: %s", a.Status, a.RetryAfter, a.Body)
			}
			if n := b.tele.Snapshot().Counters["WebhooksAccepted.p"]; n != 0 {
				t.Errorf("%v accepted", n)
			}
		})
	}
	b := setUp(t, map[string]intake.Webhooks{"p": scripted{err: fault.New(fault.Malformed, "x", "no JSON")}})
	if a := intake.New(b.deps).Apply(t.Context(), "p", platform.Request{Body: []byte("x")}); a.Status != 400 || a.RetryAfter != "" {
		t.Errorf("what is wrong in itself is sent again: %+v", a)
	}
}

func TestVendorAcknowledgement(t *testing.T) {
	t.Parallel()
	ack := platform.Ack{Status: 200, ContentType: "text/xml", Body: []byte("<Ack>true</Ack>")}
	b := setUp(t, map[string]intake.Webhooks{"p": scripted{delivery: platform.Delivery{Ack: ack}}})
	a := intake.New(b.deps).Apply(t.Context(), "p", platform.Request{Body: []byte("test call")})
	if a.Status != 200 || a.ContentType != "text/xml" || string(a.Body) != "<Ack>true</Ack>" {
		t.Errorf("answered %d %s %s", a.Status, a.ContentType, a.Body)
	}
}

// A vendor without event ids gets one from the body, so that its retries are recognised all the same.
func TestMissingEventID(t *testing.T) {
	t.Parallel()
	hint := platform.Delivery{Natives: []record.Native{{Ref: record.Ref{Platform: "p", Object: "o", ID: "1"}}}}
	b := setUp(t, map[string]intake.Webhooks{"p": scripted{delivery: hint}})
	f := intake.New(b.deps)
	for _, body := range []string{"a", "a", "b"} {
		if a := f.Apply(t.Context(), "p", platform.Request{Body: []byte(body)}); a.Status != 202 {
			t.Errorf("answered %d", a.Status)
		}
	}
	if got := b.queued(); len(got) != 2 {
		t.Errorf("%d messages for two different bodies", len(got))
	}
}

func TestNativeTooLargeForTheQueue(t *testing.T) {
	t.Parallel()
	big := platform.Delivery{ID: "e", Natives: []record.Native{{Ref: record.Ref{Platform: "p", Object: "o", ID: "1"}, Fields: map[string]any{"a": strings.Repeat("\x01", queue.MaxBody/5)}}}}
	b := setUp(t, map[string]intake.Webhooks{"p": scripted{delivery: big}})
	if a := intake.New(b.deps).Apply(t.Context(), "p", platform.Request{Body: []byte("x")}); a.Status != 413 {
		t.Errorf("answered %d %.200s", a.Status, a.Body)
	}
}

func TestEventBus(t *testing.T) {
	t.Parallel()
	one := platform.Delivery{ID: "e", Natives: []record.Native{{Ref: record.Ref{Platform: "salesforce", Object: "Order", ID: "1"}}}}
	b := setUp(t, nil)
	if err := intake.New(b.deps).ApplyEvent(t.Context(), []byte("{}")); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a bus: %v", err)
	}
	b.deps.Events = scripted{delivery: one}
	if err := intake.New(b.deps).ApplyEvent(t.Context(), []byte("{}")); err != nil || len(b.queued()) != 1 {
		t.Errorf("not queued: %v", err)
	}
	b.deps.Events = scripted{err: fault.New(fault.Malformed, "salesforce.event", "no detail")}
	if err := intake.New(b.deps).ApplyEvent(t.Context(), []byte("{}")); !fault.Is(err, fault.Malformed) {
		t.Errorf("a malformed event never reaches the bus's dead-letter queue: %v", err)
	}
	if n := b.tele.Snapshot().Counters["WebhooksRefused"]; n != 1 {
		t.Errorf("%v refused events counted: %v", n, b.tele.Snapshot().Counters)
	}
	b.deps.Events, b.deps.Inbound = scripted{delivery: platform.Delivery{ID: "e2", Natives: one.Natives}}, failing{b.queue, 0}
	if err := intake.New(b.deps).ApplyEvent(t.Context(), []byte("{}")); !fault.Is(err, fault.Down) {
		t.Errorf("an event that is not queued is not retried: %v", err)
	}
}
