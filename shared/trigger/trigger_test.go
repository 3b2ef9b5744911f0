package trigger_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

var at = time.Date(2026, 11, 2, 8, 15, 0, 0, time.UTC)

func now() time.Time { return at }

// seen is a platform that notes what reaches it.
type seen struct {
	requests []platform.Request
	events   [][]byte
	deadline time.Time
	err      error
}

func (s *seen) Webhook(ctx context.Context, r platform.Request) (platform.Delivery, error) {
	s.requests = append(s.requests, r)
	s.deadline, _ = ctx.Deadline()
	return platform.Delivery{ID: "e", Ack: platform.Ack{Status: 200, ContentType: "text/xml", Body: []byte("<ok/>")}}, s.err
}

func (s *seen) Event(_ context.Context, event []byte, _ time.Time) (platform.Delivery, error) {
	s.events = append(s.events, event)
	return platform.Delivery{}, s.err
}

func intakeOf(s *seen) *intake.Flow {
	return intake.New(intake.Deps{Platforms: map[string]intake.Webhooks{"netsuite": s, "salesforce": s, "servicenow": s, "zendesk": s}, Events: s, Inbound: queue.NewMemory(queue.Settings{}, nil, now),
		Now: now, NewID: func() string { return "t1" }, Telemetry: telemetry.New(nil, now, nil)})
}

func httpEvent() events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{RawPath: "/webhooks/netsuite", RawQueryString: "token=a%2Bb&x=1&x=2", Headers: map[string]string{"content-type": "text/xml", "x-sorrel-signature": "v1=00"},
		Body: "<a/>"}
	e.RequestContext.HTTP.Method = "POST"
	return e
}

func TestHTTPGivesTheRequestAsItCame(t *testing.T) {
	t.Parallel()
	s := &seen{}
	a := trigger.HTTP(t.Context(), intakeOf(s), httpEvent())
	if a.StatusCode != 200 || a.Headers["content-type"] != "text/xml" || a.Body != "<ok/>" || a.IsBase64Encoded {
		t.Errorf("answered %+v", a)
	}
	r := s.requests[0]
	if r.ContentType != "text/xml" || r.Header.Get("X-Sorrel-Signature") != "v1=00" || r.Query.Get("token") != "a+b" || len(r.Query["x"]) != 2 || string(r.Body) != "<a/>" || !r.Now.Equal(at) {
		t.Errorf("came as %+v", r)
	}
	e := httpEvent()
	raw := []byte{0, 0xff, '<', 0xe9}
	e.IsBase64Encoded, e.Body = true, base64.StdEncoding.EncodeToString(raw)
	e.PathParameters = map[string]string{"platform": "zendesk"}
	trigger.HTTP(t.Context(), intakeOf(s), e)
	if got := s.requests[1]; !bytes.Equal(got.Body, raw) {
		t.Errorf("body %q", got.Body)
	}
}

func TestHTTPRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, breakIt := range []func(*events.APIGatewayV2HTTPRequest){
		func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "a=%zz" },
		func(e *events.APIGatewayV2HTTPRequest) { e.IsBase64Encoded, e.Body = true, "***" },
		func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/webhooks/oracle" },
		func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "" },
	} {
		s, e := &seen{}, httpEvent()
		breakIt(&e)
		a := trigger.HTTP(t.Context(), intakeOf(s), e)
		var p intake.Problem
		if err := json.Unmarshal([]byte(a.Body), &p); err != nil || a.StatusCode < 400 || p.Status != a.StatusCode || a.Headers["content-type"] != "application/problem+json" || p.Detail == "" {
			t.Errorf("answered %+v", a)
		}
		if len(s.requests) != 0 {
			t.Error("a platform was asked")
		}
	}
}

// What cannot be kept is refused with the header that makes Zendesk send again.
func TestHTTPSaysWhenToSendAgain(t *testing.T) {
	t.Parallel()
	a := trigger.HTTP(t.Context(), intakeOf(&seen{err: fault.New(fault.Down, "x", "away")}), httpEvent())
	if n, err := strconv.Atoi(a.Headers["retry-after"]); a.StatusCode != 503 || err != nil || n < 1 || n >= 60 {
		t.Errorf("answered %+v", a)
	}
}

// Some time of an invocation is kept back, to answer in.
func TestDeadlineIsBroughtForward(t *testing.T) {
	t.Parallel()
	s := &seen{}
	ends := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), ends)
	defer cancel()
	trigger.HTTP(ctx, intakeOf(s), httpEvent())
	if left := ends.Sub(s.deadline); left != time.Second {
		t.Errorf("%s kept back", left)
	}
}

func TestIntakeTellsItsTriggersApart(t *testing.T) {
	t.Parallel()
	flushed := 0
	s := &seen{}
	handle := trigger.Intake(intakeOf(s), func() { flushed++ })
	samples, err := filepath.Glob("../../events/intake/*.json")
	if err != nil || len(samples) < 4 {
		t.Fatalf("samples %v (%v)", samples, err)
	}
	for _, name := range samples {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := handle(t.Context(), raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if a, ok := got.(events.APIGatewayV2HTTPResponse); ok && a.StatusCode != 200 {
			t.Errorf("%s is answered %+v", name, a)
		}
	}
	if len(s.requests) != len(samples)-1 || len(s.events) != 1 || flushed != len(samples) {
		t.Errorf("%d requests, %d events, %d flushes of %d samples", len(s.requests), len(s.events), flushed, len(samples))
	}
	for _, bad := range []string{``, `null`, `[]`, `{}`, `{"Records":[]}`, `{"source":"x"}`, `{"requestContext":{}}`, `{"requestContext":{"http":{}},"headers":7}`} {
		if got, err := handle(t.Context(), []byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s gives %v (%v)", bad, got, err)
		}
	}
	s.err = fault.New(fault.Down, "x", "away")
	if _, err := handle(t.Context(), []byte(`{"detail-type":"a","source":"b"}`)); !fault.Is(err, fault.Down) {
		t.Errorf("an event that was not taken is not retried: %v", err)
	}
}

func sqs(ids ...string) events.SQSEvent {
	var e events.SQSEvent
	for _, id := range ids { // "group/id"
		e.Records = append(e.Records, events.SQSMessage{MessageId: id, ReceiptHandle: "r" + id, Body: id,
			Attributes: map[string]string{"MessageGroupId": id[:1], "MessageDeduplicationId": "d" + id, "ApproximateReceiveCount": "3"}})
	}
	return e
}

func TestSQSFailuresTakeTheRestOfTheirGroup(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ failed, want []string }{
		{nil, []string{}},
		{[]string{"a1"}, []string{"a1", "a2", "a3"}},
		{[]string{"a2"}, []string{"a2", "a3"}},
		{[]string{"a3", "b1"}, []string{"b1", "b2", "a3"}},
		{[]string{"unknown"}, []string{}},
	} {
		flushed := false
		var got []queue.Received
		handle := trigger.SQS(func(_ context.Context, batch []queue.Received) []string { got = batch; return row.failed }, func() { flushed = true })
		answer, err := handle(t.Context(), sqs("a1", "b1", "a2", "b2", "a3"))
		if err != nil || !flushed {
			t.Errorf("err %v, flushed %t", err, flushed)
		}
		ids := []string{}
		for _, f := range answer.BatchItemFailures {
			ids = append(ids, f.ItemIdentifier)
		}
		if !slices.Equal(ids, row.want) {
			t.Errorf("failed %v: told %v, want %v", row.failed, ids, row.want)
		}
		if len(got) != 5 || got[0].Group != "a" || got[0].ID != "a1" || got[0].Receipt != "ra1" || got[0].Dedup != "da1" || got[0].Receives != 3 || string(got[0].Body) != "a1" {
			t.Errorf("came as %+v", got)
		}
		if b, err := json.Marshal(answer); err != nil || len(row.want) == 0 && string(b) != `{"batchItemFailures":[]}` { // null would fail the whole batch
			t.Errorf("answered %s (%v)", b, err)
		}
	}
}

func TestQueueSamplesAreRead(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"../../events/hub/*.json", "../../events/deliver/*.json"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v (%v)", pattern, names, err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var e events.SQSEvent
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			handle := trigger.SQS(func(_ context.Context, batch []queue.Received) []string {
				for _, m := range batch {
					if err := queue.Validate([]queue.Message{m.Message}); err != nil || m.Receives < 1 {
						t.Errorf("%s: %+v: %v", name, m, err)
					}
				}
				return nil
			}, func() {})
			if _, err := handle(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	}
}

type empty struct{}

func (empty) Changes(context.Context, string, string) (platform.Page, error) {
	return platform.Page{}, nil
}

func TestSchedulesTakeOnlyTheirInput(t *testing.T) {
	t.Parallel()
	l := ledger.New(store.NewMemory(now), now)
	tele, inbound := telemetry.New(nil, now, nil), queue.NewMemory(queue.Settings{}, nil, now)
	flushed := 0
	list := trigger.Batch(batch.New(batch.Deps{Ledger: l, Sources: map[string]batch.Source{record.Zendesk: empty{}}, Objects: map[string][]string{record.Zendesk: {"organization"}}, EntityOf: func(_, object string) string { return object }, Inbound: inbound, Now: now, NewID: func() string { return "t" }, Telemetry: tele}), func() { flushed++ })
	if got, err := list(t.Context(), []byte(`{"platform":"zendesk"}`)); err != nil || got.Platform != "zendesk" || !got.Complete {
		t.Errorf("%+v (%v)", got, err)
	}
	if got, err := list(t.Context(), []byte(`{"platform":"zendesk","load":"organization","again":true}`)); err != nil || !got.Complete || got.Load == nil || got.Load.Ended.IsZero() {
		t.Errorf("%+v (%v)", got, err)
	}
	if _, err := list(t.Context(), []byte(`{"platform":"oracle"}`)); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown platform: %v", err)
	}
	clean := trigger.Sweep(sweep.New(sweep.Deps{Ledger: l, Inbound: inbound, Now: now, Telemetry: tele}), replay.New(replay.Deps{Ledger: l, Config: load(t), Inbound: inbound, Now: now, Telemetry: tele}), func() { flushed++ })
	if got, err := clean(t.Context(), []byte(`{}`)); err != nil || got.Woken != 0 {
		t.Errorf("%+v (%v)", got, err)
	}
	if flushed != 4 {
		t.Errorf("%d flushes", flushed)
	}
	for _, bad := range []string{``, `[]`, `"x"`, `{"platform":1}`, `{"platform":"zendesk","full":true}`, `{"platform":"zendesk"}{}`} {
		if _, err := list(t.Context(), []byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("batch takes %s: %v", bad, err)
		}
	}
	for _, bad := range []string{``, `[]`, `{"x":1}`, `{} {}`} {
		if _, err := clean(t.Context(), []byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("sweep takes %s: %v", bad, err)
		}
	}
}
