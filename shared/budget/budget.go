// Package budget is what a platform lets us call: how often, how many at once, for what, and whether at all.
//
// A platform has one budget, which all workers of all functions share, and one breaker. A Gate guards them: every call
// enters it first and leaves it with what came of it.
//
// A vendor counts calls as they arrive, which is at some time between Enter and leave. So a call counts from its beginning
// until a window after its end, and Sorrel's own calls are never over a declared limit, but for what is said about places below.
//
// What a worker that crashed was given is free again when no call can be under way any more: of calls at once after Lease,
// the time that a call may take and Margin, 25 seconds in all. Calls in a window count until it is over, or until an answer
// to a call that began after that time says what is left. A process that is started again in the same place (see
// Options.Place) has one call at once from the beginning, so that it goes on though it is killed again and again; each such
// life is over a limit of calls at once by one at most, while calls of those before are still under way.
//
// What others use of the same limit is known from answers alone, and anew in each of the vendor's windows. From a worker's
// first answer in a window on, it begins no call that does not fit into what is left, beside what the other workers were
// given before. Over the limit go at most the calls that each worker had begun before the first answer it had in that
// window: for one worker, those under way when it came. That holds where answers say when the window ends.
package budget

import (
	"context"
	"sync/atomic"
	"time"

	"sorrel/shared/fault"
)

// Class says what a call is for. The empty class is Live, so that what is stored about ordinary work need not say it.
type Class string

// The classes, the most urgent first. Each leaves a reserve of the budget to those before it.
const (
	Lookup    Class = "lookup" // somebody waits for the answer
	Live      Class = ""       // a change on its way
	Approval  Class = "approval"
	Reconcile Class = "reconcile" // listings and comparisons
	Replay    Class = "replay"    // what was done before is done again
)

// Classes lists them, the most urgent first.
func Classes() []Class { return []Class{Lookup, Live, Approval, Reconcile, Replay} }

// String names a class for people.
func (c Class) String() string {
	if c == Live {
		return "live"
	}
	return string(c)
}

// Awaited reports whether people on a platform wait for what is due: for changes and approvals. What listings, comparisons
// and replays made due may wait.
func (c Class) Awaited() bool { return c == Live || c == Approval }

// rank is 0 for the most urgent class.
func (c Class) rank() int {
	for i, of := range Classes() {
		if of == c {
			return i
		}
	}
	return len(Classes()) - 1
}

// Urgent returns the more urgent of two classes.
func Urgent(a, b Class) Class {
	if b.rank() < a.rank() {
		return b
	}
	return a
}

// Purpose is what a call is for. It travels in the context, from the flow that wants something to the gate before the
// platform.
type Purpose struct {
	Class  Class
	Entity string        // what scarce calls are shared out between evenly; "" = none in particular
	Made   *atomic.Int64 // counts the calls that are made; nil = nobody asks
}

// Note counts a call that was let through.
func (p Purpose) Note() {
	if p.Made != nil {
		p.Made.Add(1)
	}
}

type purposeKey struct{}

// For returns a context whose calls are for a purpose.
func For(ctx context.Context, p Purpose) context.Context {
	return context.WithValue(ctx, purposeKey{}, p)
}

// PurposeOf tells what calls are for: Live, where nobody has said anything.
func PurposeOf(ctx context.Context) Purpose {
	p, _ := ctx.Value(purposeKey{}).(Purpose)
	return p
}

// Calls names the limit that counts every call of a platform.
const Calls = "calls"

// Limit is one limit of a platform. Those of a platform have different names.
type Limit struct {
	Name   string        // Calls, or of an endpoint: what calls name in Call.Limits
	Max    int           // calls that end in one Window, or calls at once where Window is 0
	Window time.Duration // such as a minute, an hour, a day
}

// Call asks to be let through.
type Call struct {
	Limits []string // of endpoints that it counts against, beside Calls; names that are not limited are passed over
	Write  bool
}

// Reading is what a platform's answer says about a limit. It is believed: administrators and other programs use the same
// budget.
type Reading struct {
	Limit string
	Max   int       // 0 = not said
	Left  int       // -1 = not said
	Reset time.Time // when the window ends; zero = not said
}

// Outcome is what came of a call.
type Outcome struct {
	Err      error     // classified, nil = answered
	Silent   bool      // no answer, or a server error: it speaks against the platform
	Unsent   bool      // the caller gave up before it was sent: it says nothing
	Local    bool      // a refusal for being over a limit is about one record or endpoint, and other calls may go on
	Readings []Reading // from the answer's headers
}

// Gate lets calls through. A call that it does not let through has cost the platform nothing: the error is Throttled or
// Down, with the Code fault.NotCalled, and says when to come back. It waits a little, within ctx, for its turn.
type Gate interface {
	Enter(ctx context.Context, c Call) (leave func(Outcome), err error)
}

// Refused reports whether an error comes from a gate, so that no attempt was made. One that is Unknown is of a write that
// was begun, whoever refused its next call.
func Refused(err error) bool {
	e := fault.Outermost(err)
	return e != nil && e.Code == fault.NotCalled && !fault.Is(err, fault.Unknown)
}
