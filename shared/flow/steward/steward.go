// Package steward does what people decide: about proposals, exceptions, overrides, assigned values and merges.
//
// Every verb states what shall be, not what to do: asked for twice, it is done once, and the second answer says the
// same. Whatever changes something leaves an event with the person's name in the audit log, in the same commit.
// What has become due is woken then; without a queue, or without its answer, the sweep wakes it.
package steward

import (
	"context"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
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

func missing() error { return fault.New(fault.Internal, "steward", "not built yet") }

// Decide enters a verdict about a proposal. Deciding the same again changes nothing and is no error.
func (f *Flow) Decide(ctx context.Context, by policy.Person, v Verdict) (ledger.ProposalEntry, error) {
	return ledger.ProposalEntry{}, missing()
}

// Act does something to an exception.
func (f *Flow) Act(ctx context.Context, by policy.Person, a Action) (Acted, error) {
	return Acted{}, missing()
}

// Override sets a field to a value that wins over every rule, until its end.
func (f *Flow) Override(ctx context.Context, by policy.Person, id record.ID, field string, o Override) (Acted, error) {
	return Acted{}, missing()
}

// Revoke ends an override.
func (f *Flow) Revoke(ctx context.Context, by policy.Person, id record.ID, field string) (Acted, error) {
	return Acted{}, missing()
}

// Assign sets a field that the policy leaves to a workflow.
func (f *Flow) Assign(ctx context.Context, by policy.Person, id record.ID, field string, value record.Value) (Acted, error) {
	return Acted{}, missing()
}

// Merge makes one record of two.
func (f *Flow) Merge(ctx context.Context, by policy.Person, into, from record.ID) (Acted, error) {
	return Acted{}, missing()
}

// Unmerge takes a record out of the one that it was merged into.
func (f *Flow) Unmerge(ctx context.Context, by policy.Person, from record.ID) (Acted, error) {
	return Acted{}, missing()
}
