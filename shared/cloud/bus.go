package cloud

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"sorrel/shared/fault"
)

// BusAPI is what Bus needs of an *eventbridge.Client.
type BusAPI interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Limits of PutEvents: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
const (
	maxPut      = 10
	maxPutBytes = 256 << 10 // of all entries together
	putOverhead = 2 << 10   // of one entry, beside its detail: source, type, time and resources
)

// MaxEvent is how large the detail of one event may be.
const MaxEvent = maxPutBytes - putOverhead

// Emitted is one event as EventBridge takes it. Detail is a JSON object.
type Emitted struct {
	Source, Type string
	Resources    []string
	Time         time.Time
	Detail       []byte
}

// Bus puts events on one event bus of EventBridge.
type Bus struct {
	api   BusAPI
	name  string
	calls *caller
}

// NewBus returns the bus of a name or an ARN.
func NewBus(api BusAPI, name string, c Calls) *Bus {
	return &Bus{api: api, name: name, calls: newCaller(c)}
}

// Bus returns the event bus of a name or an ARN. Its client is made here and not with the account: only functions that
// call this have it in their binary.
func (a *Account) Bus(name string, c Calls) *Bus {
	return NewBus(eventbridge.NewFromConfig(a.config, func(o *eventbridge.Options) {
		if a.buses != nil {
			o.BaseEndpoint = a.buses
		}
	}), name, c)
}

// Put puts events on the bus: EventBridge does not keep their order. After an error any of them may be on it. Those that
// were refused for EventBridge's own reasons are put again.
func (b *Bus) Put(ctx context.Context, events ...Emitted) error {
	entries := make([]types.PutEventsRequestEntry, len(events))
	for i, e := range events {
		if len(e.Detail) > MaxEvent {
			return &fault.Error{Class: fault.TooLarge, Op: "cloud.put", ID: b.name, Detail: fmt.Sprintf("an event of %d bytes, at most %d can be put on a bus", len(e.Detail), MaxEvent)}
		}
		entries[i] = types.PutEventsRequestEntry{EventBusName: &b.name, Source: &events[i].Source, DetailType: &events[i].Type, Resources: e.Resources,
			Time: aws.Time(e.Time), Detail: aws.String(string(e.Detail))}
	}
	for len(entries) > 0 {
		size, n := 0, 0
		for n < len(entries) && n < maxPut {
			if size += len(*entries[n].Detail) + putOverhead; size > maxPutBytes && n > 0 {
				break
			}
			n++
		}
		if err := b.put(ctx, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

func (b *Bus) put(ctx context.Context, pending []types.PutEventsRequestEntry) error {
	o := b.calls.do(ctx, 0, func(ctx context.Context) error {
		out, err := b.api.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: pending}, func(o *eventbridge.Options) { o.Retryer = aws.NopRetryer{} })
		if err != nil {
			return err
		}
		if len(out.Entries) != len(pending) {
			return &entriesError{code: "Entries", message: "the answer is about " + strconv.Itoa(len(out.Entries)) + " entries", failures: len(pending)}
		}
		var again []types.PutEventsRequestEntry
		var first *entriesError
		for i, e := range out.Entries {
			if code := deref(e.ErrorCode); code != "" {
				again = append(again, pending[i])
				own := code == "InternalFailure" || code == "InternalException" || code == "ThrottlingException"
				if first == nil {
					first = &entriesError{retry: own, code: code, message: deref(e.ErrorMessage)}
				}
				first.retry = first.retry && own
			}
		}
		if first == nil {
			return nil
		}
		pending, first.failures = again, len(again)
		return first
	})
	if o.err == nil {
		return nil
	}
	return o.readFault("cloud.put", b.name)
}
