// Package deadletters is what people do about messages that were given up: they look at them, send them to where they
// came from once more, or discard them for a reason.
//
// Looking loses nothing. A queue of this machine is read where it lies. SQS shows a message only to who receives it: a
// look receives up to maxShown messages, which hides them, and later ones of their groups, from everybody else, and gives
// them back at once. If the process dies meanwhile they come back by themselves when the visibility timeout of the
// dead-letter queue ends (30 s). A dead-letter queue has none of its own, so receiving wears nothing out. SQS hands out at most ten
// messages of a group at a time; what lies behind them is counted and not shown.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
//
// Redriving is safe in any order and any number of times: the hub merges by the platform's version, and deliver looks at
// what is due. An old event says nothing new. So a redrive sends first and deletes then: a crash in between leaves the
// message in both places. SQS's own StartMessageMoveTask would do as well, but it moves whole queues, poison included,
// and tells nobody who did it.
package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Role is the role of those who may redrive and discard.
const Role = "steward"

// Classes of dead letters.
const (
	Poison    = "poison"    // this program cannot read it: redriving would fail in the same way
	Failing   = "failing"   // it can be read, and was given up all the same: an error, a crash or a timeout, again and again
	Overtaken = "overtaken" // redriving would do nothing: newer has been heard, or nothing is due
)

// Classes lists them.
func Classes() []string { return []string{Poison, Failing, Overtaken} }

// Dead is a dead-letter queue.
type Dead interface {
	queue.Receiver
	Depth(ctx context.Context) (queue.Depth, error)
}

// Peeker is a dead-letter queue that can be looked at without receiving.
type Peeker interface {
	Peek(ctx context.Context, max int) ([]queue.Received, error)
}

// Pair is a queue with its dead-letter queue.
type Pair struct {
	Source   queue.Sender
	Dead     Dead
	Platform string // whose outbound queue it is; record.Sorrel for that of workflows, record.ToSubscriber("") for that of subscribers; empty for inbound
}

// Deps are what the flow needs. All are required but Wait.
type Deps struct {
	Queues    map[string]Pair // by the name that people use: inbound, outbound-zendesk
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Now       func() time.Time
	Wait      time.Duration // of a receive: SQS asks all of its servers only in a long poll
	Telemetry *telemetry.Recorder
}

// Flow is what people do about dead letters.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow { return &Flow{d} }

// Bounds of one request, so that it ends within the time that Lambda and a person have.
const (
	maxShown = 200 // letters of one queue
	maxTaken = 500 // letters redriven
	maxHeld  = 1000
)

// Letter is one message in a dead-letter queue.
type Letter struct {
	ID       string            `json:"id"`
	Queue    string            `json:"queue"`
	Class    string            `json:"class"`
	Why      string            `json:"why"`
	Since    time.Time         `json:"since"` // when it came here
	Bytes    int               `json:"bytes"`
	Digest   string            `json:"sha256"` // of the body
	Source   string            `json:"source,omitempty"`
	Platform string            `json:"platform,omitempty"`
	Native   string            `json:"native,omitempty"`
	Record   record.ID         `json:"record,omitempty"`
	Trace    string            `json:"correlationId,omitempty"`
	Received time.Time         `json:"received,omitzero"` // by intake, batch or sweep
	Version  time.Time         `json:"version,omitzero"`  // when the platform says that it was changed
	Case     *ledger.Exception `json:"exception,omitempty"`
	Payload  any               `json:"payload,omitempty"` // its shape: every value of a field is masked
	Body     string            `json:"body,omitempty"`    // as it is, where somebody may see that

	m queue.Received
}

// Pile is how many letters a dead-letter queue has.
type Pile struct {
	Queue    string `json:"queue"`
	Waiting  int    `json:"waiting"`
	InFlight int    `json:"inFlight"` // somebody else is looking at them
	Shown    int    `json:"shown"`
}

// Listing is what a look found.
type Listing struct {
	Queues  []Pile   `json:"queues"`
	Letters []Letter `json:"letters"`
}

// Filter chooses letters: those that agree with all that is not empty.
type Filter struct {
	Queue string `json:"queue,omitempty"`
	Class string `json:"class,omitempty"`
}

// List looks at the dead-letter queues, the oldest letters first.
func (f *Flow) List(ctx context.Context, by Filter) (Listing, error) {
	out, err := f.list(ctx, by)
	for i := range out.Letters {
		out.Letters[i].Payload = nil
	}
	return out, err
}

func (f *Flow) list(ctx context.Context, by Filter) (Listing, error) {
	names, err := f.named(by)
	if err != nil {
		return Listing{}, err
	}
	open, err := f.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return Listing{}, err
	}
	piles, letters := make([]Pile, len(names)), make([][]Letter, len(names))
	g, in := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() error {
			pile, got, err := f.look(in, name)
			if err == nil {
				letters[i], err = f.judge(in, name, got, open)
			}
			pile.Shown = len(got)
			piles[i] = pile
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Listing{}, err
	}
	out := Listing{Queues: piles, Letters: slices.DeleteFunc(slices.Concat(letters...), func(l Letter) bool { return by.Class != "" && l.Class != by.Class })}
	slices.SortStableFunc(out.Letters, func(a, b Letter) int { return a.Since.Compare(b.Since) })
	return out, nil
}

// Show shows one letter with its payload masked; whole shows the body as it is, too.
func (f *Flow) Show(ctx context.Context, id string, whole bool) (Letter, error) {
	all, err := f.list(ctx, Filter{})
	if err != nil {
		return Letter{}, err
	}
	i := slices.IndexFunc(all.Letters, func(l Letter) bool { return l.ID == id })
	if i < 0 {
		return Letter{}, missing(id)
	}
	l := all.Letters[i]
	if whole {
		l.Body = string(l.m.Body)
	}
	return l, nil
}

func missing(id string) error {
	return &fault.Error{Class: fault.NotFound, Op: "deadletters", ID: id, Detail: "no such dead letter can be seen now",
		Remedy: "sorrel deadletters lists them; one that somebody else is looking at is back within 30 s, one behind ten others of its group once these are redriven or discarded"}
}

// named lists the queues of a filter, inbound first.
func (f *Flow) named(by Filter) ([]string, error) {
	if by.Class != "" && !slices.Contains(Classes(), by.Class) {
		return nil, &fault.Error{Class: fault.Malformed, Op: "deadletters", Detail: fmt.Sprintf("no class is called %.40q", by.Class), Remedy: "one of " + strings.Join(Classes(), ", ")}
	}
	names := slices.SortedFunc(maps.Keys(f.d.Queues), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.d.Queues[a].Platform, f.d.Queues[b].Platform), cmp.Compare(a, b))
	})
	if by.Queue == "" {
		return names, nil
	}
	if _, known := f.d.Queues[by.Queue]; !known {
		return nil, &fault.Error{Class: fault.Malformed, Op: "deadletters", Detail: fmt.Sprintf("no queue is called %.40q", by.Queue), Remedy: "one of " + strings.Join(names, ", ")}
	}
	return []string{by.Queue}, nil
}

// look reads what lies in a dead-letter queue and leaves it there.
func (f *Flow) look(ctx context.Context, name string) (Pile, []queue.Received, error) {
	dead := f.d.Queues[name].Dead
	depth, err := dead.Depth(ctx)
	if err != nil {
		return Pile{}, nil, err
	}
	pile := Pile{Queue: name, Waiting: depth.Visible, InFlight: depth.InFlight}
	if p, can := dead.(Peeker); can {
		got, err := p.Peek(ctx, maxShown)
		return pile, got, err
	}
	var out []queue.Received
	var held []string
	for len(out) < maxShown {
		var got []queue.Received
		if got, err = dead.Receive(ctx, queue.MaxBatch, f.d.Wait); err != nil || len(got) == 0 {
			break
		}
		out = append(out, got...)
		for _, m := range got {
			held = append(held, m.Receipt)
		}
	}
	return pile, out, errors.Join(err, giveBack(ctx, dead, held))
}

// giveBack makes letters visible again, also when whoever asked has gone.
func giveBack(ctx context.Context, dead Dead, receipts []string) error {
	if len(receipts) == 0 {
		return nil
	}
	in, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return dead.Release(in, 0, receipts...)
}
