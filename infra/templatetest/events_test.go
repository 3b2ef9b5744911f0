package templatetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/boot"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

// strict decodes one JSON value without unknown fields and nothing after it.
func strict(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func sample(t *testing.T, name string, into any) {
	t.Helper()
	if err := strict(read(t, "events/"+name), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestEveryTriggerHasASample: what the template starts a function by, and what lies in its folder, are the same.
func TestEveryTriggerHasASample(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, name := range []string{"intake/netsuite-webhook", "intake/salesforce-event-relay", "intake/salesforce-outbound-message", "intake/servicenow-webhook", "intake/zendesk-event", "lookup/key", "lookup/token"} {
		want[name] = true
	}
	s := written(t, read(t, "template.yaml"))
	for _, src := range s.sources() {
		_, name, _ := strings.Cut(src.id, ".")
		want[folder(src.function)+"/"+strings.ToLower(name)] = true
	}
	for _, f := range s.functions() {
		all := s.prop(f, "Events")
		for _, name := range all.keys() {
			file := folder(f) + "/" + strings.ToLower(name)
			if all.at(name, "Type").text() == "HttpApi" && folder(f) == "operate" {
				want[file] = true
			}
			if all.at(name, "Type").text() != "ScheduleV2" {
				continue
			}
			want[file] = true
			if got := strings.TrimSpace(read(t, "events/"+file+".json")); got != all.at(name, "Properties", "Input").text() {
				t.Errorf("%s: the sample is %s, the schedule sends %s", file, got, all.at(name, "Properties", "Input"))
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "events/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name, err := filepath.Rel(filepath.Join(root, "events"), strings.TrimSuffix(file, ".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !want[name] {
			t.Errorf("%s: no test decodes it", file)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("events/%s.json is missing", name)
	}
}

// webhook decodes a sample of the HTTP API and gives its raw body.
func webhook(t *testing.T, name, platform string) (events.APIGatewayV2HTTPRequest, []byte) {
	t.Helper()
	var e events.APIGatewayV2HTTPRequest
	sample(t, name, &e)
	const route = "POST /webhooks/{platform}"
	if e.Version != "2.0" || e.RouteKey != route || e.RequestContext.RouteKey != route || e.RawPath != "/webhooks/"+platform ||
		e.PathParameters["platform"] != platform || e.RequestContext.HTTP.Path != e.RawPath {
		t.Errorf("%s is not what the route %s gives for %s", name, route, platform)
	}
	for header := range e.Headers {
		if header != strings.ToLower(header) {
			t.Errorf("%s: an HTTP API gives header names in lower case, not %s", name, header)
		}
	}
	if !e.IsBase64Encoded {
		return e, []byte(e.Body)
	}
	raw, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	return e, raw
}

func mac(secret string, parts ...string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func TestIntakeSamples(t *testing.T) {
	t.Parallel()
	t.Run("netsuite", func(t *testing.T) {
		t.Parallel()
		e, body := webhook(t, "intake/netsuite-webhook.json", "netsuite")
		want := "v1=" + hex.EncodeToString(mac("sample-netsuite-secret", e.Headers["x-sorrel-timestamp"], ".", string(body)))
		if got := e.Headers["x-sorrel-signature"]; got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
		if !json.Valid(body) {
			t.Error("body is not JSON")
		}
	})
	t.Run("zendesk", func(t *testing.T) {
		t.Parallel()
		e, body := webhook(t, "intake/zendesk-event.json", "zendesk")
		want := base64.StdEncoding.EncodeToString(mac("sample-zendesk-secret", e.Headers["x-zendesk-webhook-signature-timestamp"], string(body)))
		if got := e.Headers["x-zendesk-webhook-signature"]; got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
		if !json.Valid(body) {
			t.Error("body is not JSON")
		}
	})
	t.Run("servicenow", func(t *testing.T) {
		t.Parallel()
		e, body := webhook(t, "intake/servicenow-webhook.json", "servicenow")
		want := "v1=" + hex.EncodeToString(mac("sample-servicenow-secret", e.Headers["x-sorrel-timestamp"], ".", string(body)))
		if got := e.Headers["x-sorrel-signature"]; got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
		if !json.Valid(body) {
			t.Error("body is not JSON")
		}
	})
	t.Run("salesforce outbound message", func(t *testing.T) {
		t.Parallel()
		e, body := webhook(t, "intake/salesforce-outbound-message.json", "salesforce")
		if !e.IsBase64Encoded || e.QueryStringParameters["token"] == "" || e.RawQueryString != "token="+e.QueryStringParameters["token"] {
			t.Error("want a base64 body and the token in the query")
		}
		var soap struct {
			XMLName xml.Name `xml:"http://schemas.xmlsoap.org/soap/envelope/ Envelope"`
			ID      string   `xml:"Body>notifications>Notification>Id"`
		}
		if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&soap); err != nil || soap.ID == "" {
			t.Errorf("body is not an Outbound Message: id %q, %v", soap.ID, err)
		}
	})
	t.Run("salesforce event relay", func(t *testing.T) {
		t.Parallel()
		var e events.EventBridgeEvent
		sample(t, "intake/salesforce-event-relay.json", &e)
		var change struct {
			Payload struct {
				ChangeEventHeader struct {
					EntityName string `json:"entityName"`
				}
			} `json:"payload"`
		}
		if err := json.Unmarshal(e.Detail, &change); err != nil {
			t.Fatal(err)
		}
		if entity := change.Payload.ChangeEventHeader.EntityName; entity == "" || e.DetailType != entity+"ChangeEvent" || !strings.HasPrefix(e.Source, "aws.partner/salesforce.com/") {
			t.Errorf("%s of %s from %s is not a relayed change event", e.DetailType, entity, e.Source)
		}
	})
}

// TestOperateSamples: one request of a person for each route, as its route and IAM authorization give it.
func TestOperateSamples(t *testing.T) {
	t.Parallel()
	set, err := boot.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range written(t, read(t, "template.yaml")).routes() {
		if r.function != "OperateFunction" {
			continue
		}
		var e events.APIGatewayV2HTTPRequest
		sample(t, "operate/"+strings.ToLower(r.method)+".json", &e)
		if route := r.method + " " + r.path; e.Version != "2.0" || e.RouteKey != route || e.RequestContext.RouteKey != route || e.RequestContext.HTTP.Method != r.method ||
			e.RawPath != "/v1/"+e.PathParameters["path"] || e.RequestContext.HTTP.Path != e.RawPath {
			t.Errorf("%s is not what the route %s gives", r.method, route)
		}
		if a := e.RequestContext.Authorizer; a == nil || a.IAM == nil {
			t.Errorf("%s: no IAM identity", r.method)
		} else if _, known := set.PersonAt("aws", a.IAM.UserARN); !known {
			t.Errorf("%s: people.yaml does not know %s", r.method, a.IAM.UserARN)
		}
		if e.Body != "" && !json.Valid([]byte(e.Body)) {
			t.Errorf("%s: body is not JSON", r.method)
		}
		if says := e.Headers["content-length"]; e.Body != "" && says != strconv.Itoa(len(e.Body)) {
			t.Errorf("%s: content-length %q of %d bytes", r.method, says, len(e.Body))
		}
	}
}

// TestLookupSamples: one request of a program for each way to say who asks, as its route gives it.
func TestLookupSamples(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]string{"token": "GET /v1/{path+}", "key": "GET /keyed/v1/{path+}"} {
		var e events.APIGatewayV2HTTPRequest
		sample(t, "lookup/"+name+".json", &e)
		path := strings.TrimPrefix(strings.Replace(route, "{path+}", e.PathParameters["path"], 1), "GET ")
		if e.Version != "2.0" || e.RouteKey != route || e.RequestContext.RouteKey != route || e.RequestContext.HTTP.Method != "GET" || e.RawPath != path || e.RequestContext.HTTP.Path != path {
			t.Errorf("%s is not what the route %s gives", name, route)
		}
		a := e.RequestContext.Authorizer
		if tokened := a != nil && a.JWT != nil && a.JWT.Claims["client_id"] != ""; tokened != (name == "token") || (e.Headers["sorrel-key"] != "") != (name == "key") {
			t.Errorf("%s: who asks is said otherwise", name)
		}
	}
}

// received decodes a sample of a FIFO queue and gives every message to check with the group and dedup id that it came with.
func received(t *testing.T, name, queueName string, check func(t *testing.T, body []byte) queue.Message) {
	t.Helper()
	var e events.SQSEvent
	sample(t, name, &e)
	if len(e.Records) == 0 {
		t.Fatalf("%s has no records", name)
	}
	for _, m := range e.Records {
		sum := md5.Sum([]byte(m.Body))
		if m.Md5OfBody != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: md5OfBody of %s is not that of its body", name, m.MessageId)
		}
		if !strings.HasSuffix(m.EventSourceARN, "-"+queueName) || m.EventSource != "aws:sqs" {
			t.Errorf("%s: from %s, want a queue …-%s", name, m.EventSourceARN, queueName)
		}
		want := check(t, []byte(m.Body))
		if got := m.Attributes["MessageGroupId"]; got != want.Group {
			t.Errorf("%s: group %q, Sorrel sends it in %q", name, got, want.Group)
		}
		if got := m.Attributes["MessageDeduplicationId"]; len(got) != len(want.Dedup) || want.Dedup == "" {
			t.Errorf("%s: dedup id %q is not of the form of %q", name, got, want.Dedup)
		}
		for _, attribute := range []string{"ApproximateReceiveCount", "SentTimestamp", "SequenceNumber", "SenderId", "ApproximateFirstReceiveTimestamp"} {
			if m.Attributes[attribute] == "" {
				t.Errorf("%s: FIFO queues give %s", name, attribute)
			}
		}
	}
}

func TestHubSample(t *testing.T) {
	t.Parallel()
	received(t, "hub/inbound.json", "inbound.fifo", func(t *testing.T, body []byte) queue.Message {
		in, err := message.ParseInbound(body)
		if err != nil {
			t.Fatal(err)
		}
		m, err := in.Message("event")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestDeliverSamples(t *testing.T) {
	t.Parallel()
	for _, platform := range platforms {
		received(t, "deliver/"+platform+".json", "outbound-"+platform+".fifo", func(t *testing.T, body []byte) queue.Message {
			wake, err := message.ParseWake(body)
			if err != nil {
				t.Fatal(err)
			}
			if wake.Platform != platform {
				t.Errorf("deliver/%s.json wakes %s", platform, wake.Platform)
			}
			m, err := wake.Message("event")
			if err != nil {
				t.Fatal(err)
			}
			return m
		})
	}
}

func TestWorkflowSample(t *testing.T) {
	t.Parallel()
	received(t, "workflow/wake.json", "workflow.fifo", func(t *testing.T, body []byte) queue.Message {
		wake, err := message.ParseWake(body)
		if err != nil {
			t.Fatal(err)
		}
		if wake.Platform != record.Sorrel {
			t.Errorf("it wakes %s", wake.Platform)
		}
		m, err := wake.Message("event")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestPublishSample(t *testing.T) {
	t.Parallel()
	received(t, "publish/wake.json", "publish.fifo", func(t *testing.T, body []byte) queue.Message {
		wake, err := message.ParseWake(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := record.Subscriber(wake.Platform); !is {
			t.Errorf("it wakes %s", wake.Platform)
		}
		m, err := wake.Message("event")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestScheduleSamples(t *testing.T) {
	t.Parallel()
	for _, platform := range platforms {
		var in struct {
			Platform string `json:"platform"`
		}
		sample(t, "batch/"+platform+".json", &in)
		if in.Platform != platform {
			t.Errorf("batch/%s.json lists %q", platform, in.Platform)
		}
	}
	var nothing struct{}
	sample(t, "sweep/minute.json", &nothing)
	sample(t, "files/schedule.json", &nothing)
	sample(t, "reconcile/tick.json", &nothing)
	for name, want := range map[string]reconcile.Wish{"zendesk": {Platform: "zendesk"}, "full": {Full: true}} {
		var wish reconcile.Wish
		if sample(t, "reconcile/"+name+".json", &wish); wish != want {
			t.Errorf("reconcile/%s.json asks for %+v", name, wish)
		}
	}
}

func TestStrictDecodingRefuses(t *testing.T) {
	t.Parallel()
	good := read(t, "events/hub/inbound.json")
	for _, bad := range []string{strings.Replace(good, `"messageId"`, `"messageIdentity"`, 1), good + "{}", good[:100]} {
		if err := strict(bad, new(events.SQSEvent)); err == nil {
			t.Errorf("taken: %.120s…", bad)
		}
	}
}
