// Package steward does what people decide: about proposals, exceptions, overrides, assigned values and merges.
//
// Every verb states what shall be, not what to do: asked for twice, it is done once, and the second answer says the
// same. Whatever changes something leaves an event with the person's name in the audit log, in the same commit.
// What has become due is woken then; without a queue, or without its answer, the sweep wakes it.
package steward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Role is the role of those who may do everything here but decide proposals: these have approvers of their own.
const Role = "steward"

// Deps are what the flow needs. Wake and Inbound may be empty: the sweep wakes what is due and sends what waits.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Wake      map[string]queue.Sender // by platform
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string // correlation ids
	Telemetry *telemetry.Recorder
}

// Flow is what people do.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow { return &Flow{d} }

// Verdict is somebody's decision about a proposal.
type Verdict struct {
	Proposal string
	Approve  bool
	Revision int // that was shown; 0 when it does not matter
	Comment  string
}

// Acted is what an action did.
type Acted struct {
	Exception ledger.Exception `json:"exception,omitzero"` // as it stands now
	Record    record.ID        `json:"record,omitempty"`   // that it changed, or is about
	Done      string           `json:"done"`               // in words
}

// Override is a value that wins over every rule. Without an end it stands until a platform says something new.
type Override struct {
	Value  record.Value `json:"value"`
	Until  time.Time    `json:"until,omitzero"`
	Reason string       `json:"reason,omitempty"`
}

// Things that can be done to an exception. All but the first two need Role.
const (
	Acknowledge = "acknowledge"
	Assign      = "assign"     // needs Assignee
	Ignore      = "ignore"     // needs Reason
	Reopen      = "reopen"     // what was ignored, acknowledged or assigned
	Retry       = "retry"      // what was refused is tried again, against present truth; what was parked is read again
	Edit        = "edit"       // needs Value: an override of Field, or of the exception's own
	Accept      = "accept"     // what Platform says becomes golden
	Keep        = "keep"       // the golden value stays, and who deviates is put back
	Link        = "link"       // the parked native record becomes part of Record; a possible duplicate is merged
	KeepApart   = "keep-apart" // the two records are different things
	Merge       = "merge"      // the two records are one; Record names which survives
)

// Actions lists what can be done to an exception.
func Actions() []string {
	return []string{Acknowledge, Assign, Ignore, Reopen, Retry, Edit, Accept, Keep, Link, KeepApart, Merge}
}

// Action is what somebody does to an exception.
type Action struct {
	Exception string        `json:"-"`
	Do        string        `json:"action"`
	Field     string        `json:"field,omitempty"`    // where the exception names none
	Platform  string        `json:"platform,omitempty"` // where the exception names none
	Record    record.ID     `json:"record,omitempty"`
	Value     *record.Value `json:"value,omitempty"`
	Until     time.Time     `json:"until,omitzero"`
	Reason    string        `json:"reason,omitempty"`
	Assignee  string        `json:"assignee,omitempty"`
}

// maxConflict bounds how often a change is tried again because somebody else was first.
const maxConflict = 12

// errStands ends a change of something that is already as it shall be: nothing is committed.
var errStands = errors.New("it is so already")

// known finds who acts among the people of the configuration: what they may do stands there, not in the request.
func (f *Flow) known(by policy.Person) (policy.Person, error) {
	p, ok := f.d.Config.Person(by.Name)
	if ok {
		return p, nil
	}
	detail := "nobody of this name is known: " + by.Name
	if by.Name == "" {
		detail = "nobody is named who does this"
	}
	return p, &fault.Error{Class: fault.Forbidden, Op: "steward", Detail: detail, Remedy: "say who you are, and have people.yaml of the configuration list you with your roles"}
}

// steward is known for those who also need the role.
func (f *Flow) steward(by policy.Person) (policy.Person, error) {
	p, err := f.known(by)
	if err != nil || slices.Contains(p.Roles, Role) {
		return p, err
	}
	return p, &fault.Error{Class: fault.Forbidden, Op: "steward", Detail: p.Name + " does not have the role " + Role, Remedy: "ask " + f.others(p, Role)}
}

// others names the people but one who have one of some roles.
func (f *Flow) others(but policy.Person, roles ...string) string {
	var names []string
	for _, p := range f.d.Config.People() {
		if shares(p.Roles, roles) && p.Name != but.Name {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return "for the role: nobody else in people.yaml has " + strings.Join(roles, " or ")
	}
	return strings.Join(names, ", ")
}

func shares(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func refuse(c fault.Class, id, detail, remedy string) error {
	return &fault.Error{Class: c, Op: "steward", ID: id, Detail: detail, Remedy: remedy}
}

// markKey is the context's key of a mark.
type markKey struct{}

// Marked returns a context under which what somebody does has mark as its correlation id, by which Happened finds it.
func Marked(ctx context.Context, mark string) context.Context {
	return context.WithValue(ctx, markKey{}, mark)
}

// Happened reports whether what was asked under a mark stands in the log of a record, or of the one that it is part of by
// now; of no record, in the general log. A verdict about a proposal has the proposal's correlation id and is never found so:
// asked for twice, it is the same verdict.
func (f *Flow) Happened(ctx context.Context, mark string, about record.ID) (bool, error) {
	chains := []string{ledger.General}
	if about != "" {
		s, err := f.d.Ledger.Follow(ctx, about)
		if err != nil {
			return false, err
		}
		chains = []string{string(about)}
		if s.Record.ID != about {
			chains = append(chains, string(s.Record.ID))
		}
	}
	for _, chain := range chains {
		log, err := f.d.Ledger.Log(ctx, chain)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(log, func(e ledger.LogEntry) bool { return e.Trace == mark && e.By != "" }) {
			return true, nil
		}
	}
	return false, nil
}

// cause is why somebody's action settles a record. What waits already is woken too.
func (f *Flow) cause(ctx context.Context, by policy.Person, trace string) govern.Cause {
	if trace == "" {
		trace, _ = ctx.Value(markKey{}).(string)
	}
	if trace == "" {
		trace = f.d.NewID()
	}
	return govern.Cause{Trace: trace, By: by.Name, Now: f.d.Now().UTC(), News: true}
}

// changed is what a change came to.
type changed struct {
	govern.Settled
	record  record.ID // that was changed: of one that was merged, the one that it is part of
	already bool
}

// change changes the newest state of a record, commits, again and again until nobody interferes, and wakes what is due.
// errStands says that it is so already; any other error changes nothing. more, which may be nil, completes the commit.
// The record that id was merged into is changed instead of it.
func (f *Flow) change(ctx context.Context, id record.ID, cause govern.Cause, do func(*ledger.State) ([]record.Event, error), more func(*ledger.Entry) error) (changed, error) {
	if err := id.Validate(); err != nil {
		return changed{}, fault.Wrap(fault.Malformed, "steward", "", err)
	}
	for attempt := 0; ; attempt++ {
		before, err := f.d.Ledger.Follow(ctx, id)
		if err != nil {
			return changed{}, err
		}
		if !before.Exists() {
			return changed{}, govern.Unknown(id)
		}
		out := changed{record: before.Record.ID}
		after := before.Clone()
		events, err := do(&after)
		if errors.Is(err, errStands) {
			out.already = true
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if out.Settled, err = govern.Settle(ctx, f.d.Ledger, f.d.Config, before, after, cause, events...); err != nil {
			return out, err
		}
		out.Entry.Steps = steps(out, events, cause)
		if more != nil {
			if err := more(&out.Entry); err != nil {
				return out, err
			}
		}
		err = f.d.Ledger.Commit(ctx, out.Entry)
		if err == nil {
			f.wake(ctx, map[record.ID][]string{out.record: out.Due}, cause)
			f.tell(ctx, out.record, cause, events)
			return out, nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return out, err
		}
	}
}

// steps are the trace lines of what somebody did.
func steps(c changed, events []record.Event, cause govern.Cause) []ledger.Step {
	var out []ledger.Step
	for _, e := range events {
		out = append(out, ledger.Step{At: cause.Now, Trace: cause.Trace, Step: e.Action, Platform: e.Platform, Record: c.record, Fields: e.Fields, Detail: "by " + cause.By})
	}
	return out
}

// wake sends the wake-ups of what became due. A failure loses nothing: the sweep wakes what is due.
func (f *Flow) wake(ctx context.Context, due map[record.ID][]string, cause govern.Cause) {
	by := map[string][]queue.Message{}
	for _, id := range slices.Sorted(maps.Keys(due)) {
		for _, p := range due[id] {
			if f.d.Wake[p] == nil {
				continue
			}
			m, err := message.Wake{Platform: p, Record: id, CorrelationID: cause.Trace, Class: cause.Class}.Message(fmt.Sprintf("%s/%d", cause.Trace, cause.Now.UnixNano()))
			if err != nil {
				f.lost(ctx, p, err)
				continue
			}
			by[p] = append(by[p], m)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(by)) {
		if err := f.d.Wake[p].Send(ctx, by[p]...); err != nil {
			f.lost(ctx, p, err)
		}
	}
}

func (f *Flow) lost(ctx context.Context, platform string, err error) {
	f.d.Telemetry.Count("WakeFailures", platform, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: platform, Detail: "waking", Err: err})
}

// hint has the hub read a native record: now where its queue takes it, else with the next sweep.
func (f *Flow) hint(ctx context.Context, ref record.Ref, cause govern.Cause, reason string) error {
	if err := f.send(ctx, ref, cause); err == nil {
		return nil
	}
	return f.d.Ledger.Postpone(ctx, ledger.Recheck{Ref: ref, NotBefore: cause.Now, Reason: reason, Trace: cause.Trace})
}

// send puts a hint on the inbound queue.
func (f *Flow) send(ctx context.Context, ref record.Ref, cause govern.Cause) error {
	if f.d.Inbound == nil {
		return errors.New("there is no inbound queue here")
	}
	in := message.Inbound{CorrelationID: cause.Trace, ReceivedAt: cause.Now, Source: message.Recheck, Native: record.Native{Ref: ref}}
	m, err := in.Message("steward/" + cause.Trace)
	if err == nil {
		err = f.d.Inbound.Send(ctx, m)
	}
	if err != nil {
		f.lost(ctx, ref.Platform, err)
	}
	return err
}

// tell reports what somebody did. It names no person: the audit log does.
func (f *Flow) tell(ctx context.Context, id record.ID, cause govern.Cause, events []record.Event) {
	for _, e := range events {
		f.d.Telemetry.Count("Steward", e.Platform, 1)
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: e.Action, Platform: e.Platform, Record: string(id), Trace: cause.Trace, Fields: e.Fields})
	}
}
