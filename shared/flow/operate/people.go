package operate

import (
	"context"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// Proposals lists open proposals, or all, the newest first.
func (f *Flow) Proposals(ctx context.Context, all bool) ([]ledger.ProposalEntry, error) {
	return f.d.Ledger.Proposals(ctx, all)
}

// Proposal is one proposal with what somebody needs to know who decides about it. Its Fields have before and after.
type Proposal struct {
	ledger.ProposalEntry
	Person string                             `json:"person,omitempty"` // who asks, where the platform's user is known
	Needs  Needs                              `json:"needs"`
	Impact map[string]map[string]record.Value `json:"impact,omitempty"` // the writes that an approval causes in the end: platform → field → value
}

// Needs is why a proposal needs a decision, and whose.
type Needs struct {
	Rule      string   `json:"rule"`               // who decides the fields, in words
	At        string   `json:"at"`                 // file:line:column of that rule
	Approval  string   `json:"approvalAt"`         // file:line:column of the approval's settings
	Approvers []string `json:"approvers"`          // roles; any of them
	People    []string `json:"people,omitempty"`   // who has one and may decide
	Distinct  bool     `json:"distinct,omitempty"` // not whoever asks
}

// Proposal shows a proposal.
func (f *Flow) Proposal(ctx context.Context, id string) (Proposal, error) {
	p, err := f.d.Ledger.Proposal(ctx, id)
	return Proposal{ProposalEntry: p}, err
}

// Filter chooses exceptions: those that agree with all that is not empty. Record finds those of its possible duplicates too.
type Filter struct {
	All      bool // ignored and resolved ones too
	Type     string
	Platform string
	Record   record.ID
	Assignee string
	Field    string
}

// Exceptions lists what people must look at, the newest first.
func (f *Flow) Exceptions(ctx context.Context, by Filter) ([]ledger.Exception, error) {
	return f.d.Ledger.Exceptions(ctx, by.All)
}

// Exception shows one exception.
func (f *Flow) Exception(ctx context.Context, id string) (ledger.Exception, error) {
	return f.d.Ledger.Exception(ctx, id)
}

// Cause is a group of exceptions with one cause.
type Cause struct {
	Cause    string    `json:"cause"`
	Count    int       `json:"count"`
	Oldest   time.Time `json:"oldest"`
	Examples []string  `json:"examples"` // ids, the oldest first
}

// Causes groups exceptions by cause, the most frequent first.
func (f *Flow) Causes(ctx context.Context, by Filter) ([]Cause, error) { return nil, nil }

// Log lists the audit log of a record, of its own: one that was merged has kept its part.
func (f *Flow) Log(ctx context.Context, id record.ID) ([]ledger.LogEntry, error) {
	return f.d.Ledger.Log(ctx, string(id))
}

// Verify checks the whole audit log; progress, which may be nil, is told now and then how many entries were read.
func (f *Flow) Verify(ctx context.Context, progress func(entries int)) (ledger.Verified, error) {
	return f.d.Ledger.Verify(ctx, progress)
}
