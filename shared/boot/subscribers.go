package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"sorrel/shared/cloud"
	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/flow/publish"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/telemetry"
)

// addresses reads the addresses of subscribers, by name: a JSON object, or nothing.
func addresses(text string) (map[string]string, error) {
	out := map[string]string{}
	if text == "" {
		return out, nil
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf(`want {"name": "arn:…"}`)
	}
	return out, nil
}

// Publish makes what tells subscribers, where they are told by this process or by nobody: see Telling.
func (w *World) Publish() *publish.Flow {
	return publish.New(publish.Deps{Ledger: w.Ledger, Config: w.Config, Source: "/sorrel/" + w.stack, Sinks: w.Sinks, Wake: w.Publishes, Now: w.Now, Rand: newRand(), Telemetry: w.Telemetry})
}

// Telling makes what tells subscribers at their queues and buses. Only the function that does it calls this, so that only
// its binary holds the client of EventBridge.
func (w *World) Telling() (*publish.Flow, error) {
	w.Sinks = map[string]publish.Sink{}
	calls := cloud.Calls{Now: w.Now}
	var wrong []string
	for _, s := range w.Config.Subscribers() {
		address := s.Address
		if theirs, given := w.addresses[s.Name]; given {
			address = theirs
		}
		if detail := policy.BadAddress(s.To, address); detail != "" && (s.To != policy.ToPrinter || address != "") {
			wrong = append(wrong, s.Name+": "+detail)
			continue
		}
		switch s.To {
		case policy.ToSQS:
			q, err := w.account.QueueOf(address, calls)
			if err != nil {
				return nil, err
			}
			w.Sinks[s.Name] = queued{q}
		case policy.ToEventBridge:
			w.Sinks[s.Name] = bussed{w.account.Bus(address, calls)}
		default:
			w.Sinks[s.Name] = noted{w.Telemetry}
		}
	}
	for name := range w.addresses {
		if _, known := w.Config.Subscriber(name); !known {
			wrong = append(wrong, name+": subscribers.yaml has no such subscriber")
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return nil, &fault.Error{Class: fault.Contract, Op: "boot.subscribers", Fields: []string{EnvSubscribers}, Detail: strings.Join(wrong, "; "),
			Remedy: "give each its ARN in subscribers.yaml or in the parameter SubscriberAddresses of the stack"}
	}
	return w.Publish(), nil
}

// PrintEvents shows what all subscribers are told on out: a line each in plain words, or the CloudEvent itself. Nobody else
// is told by this process.
func (w *World) PrintEvents(out io.Writer, asJSON bool) {
	p := &printer{out: out, json: asJSON}
	for _, s := range w.Config.Subscribers() {
		w.Sinks[s.Name] = p
	}
}

// local lets events of this process, which reaches nobody, end in its log.
func (w *World) local() {
	w.stack, w.Sinks = "local", map[string]publish.Sink{}
	for _, s := range w.Config.Subscribers() {
		w.Sinks[s.Name] = noted{w.Telemetry}
	}
}

// maxMessage bounds an event on a queue: that many bytes are one message by the price list.
// https://aws.amazon.com/sqs/pricing/ counts chunks of 64 KB, and queues of others may be set to 256 KB at most.
const maxMessage = 256 << 10

// queued tells by a queue of SQS. On a FIFO queue a record's events stay in order, and one that is told again within five
// minutes is dropped.
type queued struct{ q queue.Sender }

// Tell implements publish.Sink.
func (s queued) Tell(ctx context.Context, events ...event.Event) error {
	out := make([]queue.Message, len(events))
	for i, e := range events {
		body, err := e.JSON(maxMessage)
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(e.ID))
		out[i] = queue.Message{Group: string(e.Subject), Dedup: hex.EncodeToString(sum[:16]), Body: body}
	}
	return s.q.Send(ctx, out...)
}

// bussed tells by an event bus.
type bussed struct{ b *cloud.Bus }

// Tell implements publish.Sink.
func (s bussed) Tell(ctx context.Context, events ...event.Event) error {
	out := make([]cloud.Emitted, len(events))
	for i, e := range events {
		body, err := e.JSON(cloud.MaxEvent)
		if err != nil {
			return err
		}
		out[i] = cloud.Emitted{Source: e.Source, Type: e.Type, Resources: []string{string(e.Subject)}, Time: e.Time, Detail: body}
	}
	return s.b.Put(ctx, out...)
}

// noted tells the log which events there were, without what they tell.
type noted struct{ r *telemetry.Recorder }

// Tell implements publish.Sink.
func (s noted) Tell(ctx context.Context, events ...event.Event) error {
	for _, e := range events {
		s.r.Event(ctx, telemetry.Event{Step: "published", Record: string(e.Subject), Trace: e.Trace, Detail: e.Type + " " + e.ID})
	}
	return nil
}

// printer tells whoever looks.
type printer struct {
	mu   sync.Mutex
	out  io.Writer
	json bool
}

// Tell implements publish.Sink.
func (p *printer) Tell(_ context.Context, events ...event.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		line := []byte(e.String())
		if p.json {
			var err error
			if line, err = json.Marshal(e); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(p.out, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}
