// Package intake takes what vendors push: it verifies, decodes, queues durably, and answers. Nothing else
// happens before the acknowledgement, and nothing is acknowledged before the queue has it.
package intake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/telemetry"
)

// MaxBody bounds a webhook's body in bytes. A Salesforce Outbound Message of 100 notifications stays below it.
const MaxBody = 512 << 10

// Webhooks verifies and decodes one platform's webhooks.
type Webhooks interface {
	Webhook(ctx context.Context, r platform.Request) (platform.Delivery, error)
}

// Events decodes events that arrive on an event bus, whose sender AWS has already authenticated.
type Events interface {
	Event(ctx context.Context, event []byte, now time.Time) (platform.Delivery, error)
}

// Deps are what intake needs. All are required except Events.
type Deps struct {
	Platforms map[string]Webhooks
	Events    Events // Salesforce Event Relay; nil = refused
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string // correlation ids
	Telemetry *telemetry.Recorder
}

// Flow is the intake function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

// Answer is what the caller is told.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
	RetryAfter  string // the header: it makes a vendor send again what is not kept here
}

// What is not kept is to be sent again soon, but after what is short has passed. Zendesk sends again after 429 and 503, if they
// say when, and that is less than a minute; Salesforce after everything but an acknowledgement, for a day. NetSuite's and
// ServiceNow's scripts send once, and the next listing finds what they said.
// https://developer.zendesk.com/documentation/webhooks/creating-and-monitoring-webhooks/
const (
	comeBack      = 30 * time.Second
	latestRetryIn = 55 * time.Second
)

// Apply handles one webhook. r.Now is set here.
func (f *Flow) Apply(ctx context.Context, name string, r platform.Request) Answer {
	r.Now = f.d.Now()
	trace := f.d.NewID()
	accepted, err := f.webhook(ctx, name, trace, r)
	if err != nil {
		return f.refuse(ctx, name, trace, err)
	}
	f.d.Telemetry.Took("IntakeAcknowledged", name, f.d.Now().Sub(r.Now))
	if accepted.Ack.Status != 0 {
		return Answer{Status: accepted.Ack.Status, ContentType: accepted.Ack.ContentType, Body: accepted.Ack.Body}
	}
	body, err := json.Marshal(map[string]string{"id": accepted.ID, "correlationId": trace})
	if err != nil {
		return f.refuse(ctx, name, trace, err)
	}
	return Answer{Status: 202, ContentType: "application/json", Body: body}
}

func (f *Flow) webhook(ctx context.Context, name, trace string, r platform.Request) (platform.Delivery, error) {
	const op = "intake"
	p, ok := f.d.Platforms[name]
	if !ok {
		return platform.Delivery{}, &fault.Error{Class: fault.NotFound, Op: op, Detail: fmt.Sprintf("no platform %.40q", name),
			Remedy: "post to /webhooks/netsuite, /webhooks/salesforce, /webhooks/zendesk or /webhooks/servicenow"}
	}
	if len(r.Body) > MaxBody {
		return platform.Delivery{}, &fault.Error{Class: fault.TooLarge, Op: op, Detail: fmt.Sprintf("body of %d bytes, at most %d", len(r.Body), MaxBody)}
	}
	d, err := p.Webhook(ctx, r)
	if err != nil {
		return platform.Delivery{}, err
	}
	if d.ID == "" {
		sum := sha256.Sum256(r.Body)
		d.ID = hex.EncodeToString(sum[:16])
	}
	return d, f.queue(ctx, name, trace, r.Now, d)
}

// ApplyEvent handles one event of an event bus. An error leaves it to the bus's retries and then to its dead-letter
// queue, payload and all: the bus has no sender that an answer could reach.
func (f *Flow) ApplyEvent(ctx context.Context, event []byte) error {
	const name = "salesforce"
	trace, now := f.d.NewID(), f.d.Now()
	if f.d.Events == nil {
		return fault.New(fault.NotFound, "intake.event", "no event bus is configured")
	}
	d, err := f.d.Events.Event(ctx, event, now)
	if err == nil {
		err = f.queue(ctx, name, trace, now, d)
	}
	if err == nil {
		return nil
	}
	f.refuse(ctx, name, trace, err)
	return err
}

func (f *Flow) queue(ctx context.Context, name, trace string, now time.Time, d platform.Delivery) error {
	msgs := make([]queue.Message, 0, len(d.Natives))
	for i, n := range d.Natives {
		in := message.Inbound{CorrelationID: trace, ReceivedAt: now.UTC(), Source: message.Webhook, Native: n}
		m, err := in.Message(fmt.Sprintf("%s/%s/%d", name, d.ID, i))
		if err != nil {
			return err
		}
		msgs = append(msgs, m)
	}
	if len(msgs) > 0 {
		if err := f.d.Inbound.Send(ctx, msgs...); err != nil {
			// Whatever part was kept is sent again by the vendor's retry and dropped by its dedup id.
			return &fault.Error{Class: fault.Down, Op: "intake.queue", Detail: "the queue did not keep the webhook", Err: err,
				Remedy: "send it again", RetryAt: now.Add(comeBack)}
		}
	}
	f.d.Telemetry.Count("WebhooksAccepted", name, 1)
	for _, n := range d.Natives {
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "accepted", Platform: name, Record: n.Ref.String(), Trace: trace})
	}
	return nil
}

// Problem is an RFC 9457 problem with the correlation id.
type Problem struct {
	Type          string `json:"type"`
	Title         string `json:"title"`
	Status        int    `json:"status"`
	Detail        string `json:"detail,omitempty"`
	Remedy        string `json:"remedy,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// ProblemOf describes err to a caller without its inner causes.
func ProblemOf(err error, trace string) Problem {
	row := fault.RowOf(err)
	p := Problem{Type: "urn:sorrel:problem:" + string(row.Class), Title: row.Title, Status: row.Status, CorrelationID: trace}
	if e := fault.Outermost(err); e != nil {
		p.Detail, p.Remedy = e.Detail, e.Remedy
	}
	return p
}

// RetryAfter is when a caller may come again, as the header Retry-After says it: in whole seconds. It is "" where err says
// nothing about it.
func RetryAfter(err error, now time.Time) string {
	at := fault.RetryAt(err)
	if at.IsZero() {
		return ""
	}
	return strconv.Itoa(max(1, int((at.Sub(now)+time.Second-1)/time.Second)))
}

func (f *Flow) refuse(ctx context.Context, name, trace string, err error) Answer {
	p := ProblemOf(err, trace)
	if _, known := f.d.Platforms[name]; !known {
		name = "" // a caller's word is no metric dimension
	}
	f.d.Telemetry.Count("WebhooksRefused", name, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "refused", Platform: name, Trace: trace, Detail: p.Title, Err: err})
	body, _ := json.Marshal(p) // strings and an int always marshal
	a := Answer{Status: p.Status, ContentType: "application/problem+json", Body: body}
	if a.Status == http.StatusServiceUnavailable {
		now := f.d.Now()
		if at := fault.RetryAt(err); at.IsZero() || at.After(now.Add(latestRetryIn)) {
			err = &fault.Error{Class: fault.ClassOf(err), Err: err, RetryAt: now.Add(comeBack)}
		}
		a.RetryAfter = RetryAfter(err, now)
	}
	return a
}
