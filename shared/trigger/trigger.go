// Package trigger is the Lambda edge: it turns HTTP API v2 requests, EventBridge events, SQS batches and schedules
// into calls of the flows, and their answers back. Nothing below this package knows AWS's event types. The local
// host (shared/local) sends the same events through the same handlers.
package trigger

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
)

// within keeps time for the answer.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return deadline.Keep(ctx, deadline.Reserve)
}

// WebhookPath is the path of the webhook route; the platform follows.
const WebhookPath = "/webhooks/"

// HTTP handles one webhook from an HTTP API (payload format 2.0).
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
func HTTP(ctx context.Context, f *intake.Flow, e events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	ctx, cancel := within(ctx)
	defer cancel()
	r := platform.Request{Header: http.Header{}, Body: []byte(e.Body)}
	for k, v := range e.Headers {
		r.Header.Set(k, v) // an HTTP API joins repeated headers with commas
	}
	r.ContentType = r.Header.Get("Content-Type")
	name := strings.TrimPrefix(e.RawPath, WebhookPath)
	if p, ok := e.PathParameters["platform"]; ok {
		name = p
	}
	var err error
	if r.Query, err = url.ParseQuery(e.RawQueryString); err != nil {
		return respond(problem(fault.New(fault.Malformed, "trigger.http", "query string cannot be parsed")))
	}
	if e.IsBase64Encoded {
		if r.Body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return respond(problem(fault.New(fault.Malformed, "trigger.http", "body is not the base64 it claims to be")))
		}
	}
	return respond(f.Apply(ctx, name, r))
}

func problem(err error) intake.Answer {
	p := intake.ProblemOf(err, "")
	body, _ := json.Marshal(p) // strings and an int always marshal
	return intake.Answer{Status: p.Status, ContentType: "application/problem+json", Body: body}
}

func respond(a intake.Answer) events.APIGatewayV2HTTPResponse {
	out := events.APIGatewayV2HTTPResponse{StatusCode: a.Status, Headers: map[string]string{"content-type": a.ContentType}, Body: string(a.Body)}
	if a.RetryAfter != "" {
		out.Headers["retry-after"] = a.RetryAfter
	}
	return out
}

// Intake handles both triggers of the intake function: an HTTP API request, told by requestContext.http, or an
// EventBridge event, told by detail-type and source. Anything else is an error, never a guess.
func Intake(f *intake.Flow, done func()) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		defer done()
		var kind struct {
			DetailType     string `json:"detail-type"`
			Source         string `json:"source"`
			RequestContext *struct {
				HTTP *struct{} `json:"http"`
			} `json:"requestContext"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fault.Wrap(fault.Malformed, "trigger.intake", "", err)
		}
		switch {
		case kind.RequestContext != nil && kind.RequestContext.HTTP != nil:
			var e events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(raw, &e); err != nil {
				return nil, fault.Wrap(fault.Malformed, "trigger.intake", "", err)
			}
			return HTTP(ctx, f, e), nil
		case kind.DetailType != "" && kind.Source != "":
			ctx, cancel := within(ctx)
			defer cancel()
			return nil, f.ApplyEvent(ctx, raw)
		}
		return nil, fault.New(fault.Malformed, "trigger.intake", "the event is neither an HTTP API request nor an EventBridge event")
	}
}

// SQS handles a batch with partial failures. A failed message takes every later message of its group with it, and no
// other: any other choice would reorder the group, or let it stop the rest. What comes back does so after the queue's
// visibility timeout and has used up one of its receives.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func SQS(apply func(context.Context, []queue.Received) []string, done func()) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		defer done()
		ctx, cancel := within(ctx)
		defer cancel()
		batch := make([]queue.Received, len(e.Records))
		for i, m := range e.Records {
			batch[i] = queue.Received{ID: m.MessageId, Receipt: m.ReceiptHandle, Message: queue.Message{
				Group: m.Attributes["MessageGroupId"], Dedup: m.Attributes["MessageDeduplicationId"], Body: []byte(m.Body)}}
			batch[i].Receives, _ = strconv.Atoi(m.Attributes["ApproximateReceiveCount"]) // zero when a test event has none
		}
		failed := map[string]bool{}
		for _, id := range apply(ctx, batch) {
			failed[id] = true
		}
		answer := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		blocked := map[string]bool{}
		for _, m := range batch {
			if failed[m.ID] || blocked[m.Group] {
				blocked[m.Group] = true
				answer.BatchItemFailures = append(answer.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.ID})
			}
		}
		return answer, nil
	}
}

// BatchInput is the input of a batch schedule, or asks for a first load.
type BatchInput struct {
	Platform string `json:"platform"`
	Load     string `json:"load,omitempty"`     // the entity to load, as far as there is time for; empty: list what changed
	Unlinked bool   `json:"unlinked,omitempty"` // of a load: see batch.LoadOptions
	Again    bool   `json:"again,omitempty"`
}

// Batch handles a schedule that lists one platform.
func Batch(f *batch.Flow, done func()) func(context.Context, json.RawMessage) (batch.Listed, error) {
	return func(ctx context.Context, raw json.RawMessage) (batch.Listed, error) {
		defer done()
		var in BatchInput
		if err := strict(raw, &in); err != nil {
			return batch.Listed{}, fault.Wrap(fault.Malformed, "trigger.batch", "", fmt.Errorf(`the schedule's input must be {"platform":"…"}: %w`, err))
		}
		ctx, cancel := within(ctx)
		defer cancel()
		if in.Load == "" {
			return f.Apply(ctx, in.Platform)
		}
		loaded, err := f.Load(ctx, in.Platform, in.Load, batch.LoadOptions{By: "batch", Unlinked: in.Unlinked, Again: in.Again})
		return batch.Listed{Platform: in.Platform, Records: loaded.Queued, Pages: loaded.Pages, Complete: loaded.Complete, Load: &loaded}, err
	}
}

// Ticked is what one tick of the sweep's schedule did.
type Ticked struct {
	sweep.Swept
	Replays replay.Advanced
}

// Sweep handles the sweep's schedule: it wakes what is due, and moves replays on with the time that is left. Its input is
// an empty object.
func Sweep(f *sweep.Flow, again *replay.Flow, done func()) func(context.Context, json.RawMessage) (Ticked, error) {
	return func(ctx context.Context, raw json.RawMessage) (out Ticked, err error) {
		defer done()
		if err := strict(raw, &struct{}{}); err != nil {
			return out, fault.Wrap(fault.Malformed, "trigger.sweep", "", fmt.Errorf("the schedule's input must be {}: %w", err))
		}
		ctx, cancel := within(ctx)
		defer cancel()
		if out.Swept, err = f.Apply(ctx); err != nil {
			return out, err
		}
		out.Replays, err = again.Advance(ctx, out.Replaying)
		return out, err
	}
}

func strict(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}
