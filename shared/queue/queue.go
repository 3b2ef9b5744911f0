// Package queue is the one queue contract of Sorrel, with the semantics of an SQS FIFO queue: messages of a
// group are delivered in order, a group with a message in flight is locked, a message not deleted within its
// visibility timeout comes back, and after MaxReceives it moves to the dead-letter queue. A dedup id repeated
// in its group within five minutes of the first send is accepted and dropped. Senders make dedup ids that are
// unique over all groups: SQS forgets a repeat in another group (scope messageGroup), the embedded queues do not.
//
// SQS (shared/cloud), a durable embedded queue (queue/durable) and a memory queue (this package) implement it;
// shared/queue/queuetest is the suite that all of them pass.
package queue

import (
	"context"
	"fmt"
	"time"

	"sorrel/shared/fault"
)

// Limits and constants of the contract.
const (
	MaxBody     = 1 << 20 // bytes of Message.Body; one Send call may carry at most this much in total per ten messages
	MaxBatch    = 10      // messages in one Receive
	MaxReceives = 5       // deliveries that Sorrel's queues give a message before it is a dead letter; template.yaml says so too
	MaxID       = 128     // bytes of Message.Group and Message.Dedup, printable ASCII
	DedupWindow = 5 * time.Minute
)

// Message is what is sent. Body is valid UTF-8 text (SQS replaces other characters), normally JSON.
// Group orders; Dedup drops repeats within DedupWindow and must not be empty.
type Message struct {
	Group string
	Dedup string
	Body  []byte
}

// Received is one delivery of a message.
type Received struct {
	Message
	ID       string // the queue's message id, equal on every delivery
	Receipt  string // this delivery's handle
	Receives int    // 1 on the first delivery
	SentAt   time.Time
}

// Sender puts messages on one queue. When it returns nil all messages are durable. On failure it returns a
// *PartialError if some were kept. Any number of messages may be passed; adapters batch.
type Sender interface {
	Send(ctx context.Context, msgs ...Message) error
}

// Receiver takes messages from one queue. Lambda's event source mapping does this on AWS; the local host does
// it elsewhere.
type Receiver interface {
	// Receive returns up to max (≤ MaxBatch) messages, waiting up to wait for the first. None is not an error.
	Receive(ctx context.Context, max int, wait time.Duration) ([]Received, error)
	// Delete acknowledges deliveries. A receipt that has expired or is unknown is ignored.
	Delete(ctx context.Context, receipts ...string) error
	// Release makes deliveries visible again after delay (ChangeMessageVisibility).
	Release(ctx context.Context, delay time.Duration, receipts ...string) error
}

// Depth is how full a queue is.
type Depth struct {
	Visible  int
	InFlight int
	Oldest   time.Time // zero when empty; adapters that cannot know leave it zero
}

// Settings of one queue, as the template gives them on AWS.
type Settings struct {
	Name        string        // such as "inbound.fifo"
	Visibility  time.Duration // default 30 s
	MaxReceives int           // default MaxReceives; after that many receives the next one moves the message to the dead-letter queue
}

// WithDefaults returns s with its unset fields filled in.
func (s Settings) WithDefaults() Settings {
	if s.Visibility <= 0 {
		s.Visibility = 30 * time.Second
	}
	if s.MaxReceives <= 0 {
		s.MaxReceives = MaxReceives
	}
	return s
}

// ValidateMax checks the max argument of Receive; every adapter calls it first.
func ValidateMax(max int) error {
	if max < 1 || max > MaxBatch {
		return fault.New(fault.Malformed, "queue.receive", fmt.Sprintf("max is %d, want 1 to %d", max, MaxBatch))
	}
	return nil
}

// PartialError names the messages, by index into the Send call, that were not kept.
type PartialError struct {
	Failed []int
	Err    error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("queue: %d message(s) not kept: %v", len(e.Failed), e.Err)
}
func (e *PartialError) Unwrap() error { return e.Err }

// InvalidError is a message that no adapter may accept; nothing of the call was kept.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "queue: invalid message: " + e.Reason }

// Validate checks messages against the contract; every adapter calls it first.
func Validate(msgs []Message) error {
	for i, m := range msgs {
		if err := validateID(i, "group", m.Group); err != nil {
			return err
		}
		if err := validateID(i, "dedup id", m.Dedup); err != nil {
			return err
		}
		if len(m.Body) == 0 || len(m.Body) > MaxBody {
			return &InvalidError{fmt.Sprintf("message %d: body of %d bytes, want 1 to %d", i, len(m.Body), MaxBody)}
		}
	}
	return nil
}

func validateID(i int, name, v string) error {
	if v == "" || len(v) > MaxID {
		return &InvalidError{fmt.Sprintf("message %d: %s of %d bytes, want 1 to %d", i, name, len(v), MaxID)}
	}
	for _, c := range []byte(v) {
		if c < 0x21 || c > 0x7e {
			return &InvalidError{fmt.Sprintf("message %d: %s has a byte outside printable ASCII", i, name)}
		}
	}
	return nil
}
