package operate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
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
	entry, err := f.d.Ledger.Proposal(ctx, id)
	if err != nil {
		return Proposal{}, err
	}
	s, err := f.d.Ledger.Follow(ctx, entry.Record)
	if err != nil {
		return Proposal{}, err
	}
	for _, now := range s.Record.Proposals { // the list is a copy
		if now.ID == id {
			entry = ledger.ProposalEntry{Record: s.Record.ID, Proposal: now}
		}
	}
	out := Proposal{ProposalEntry: entry}
	asks, known := f.d.Config.PersonAt(entry.Platform, entry.Actor)
	if known {
		out.Person = asks.Name
	}
	rules := f.d.Config.Rules(entry.Record.Entity())
	for _, name := range slices.Sorted(maps.Keys(entry.Fields)) { // one group has one owner and one approval
		if rule := rules.Fields[name]; rule.Approval != nil {
			out.Needs = f.needs(rule, out.Person)
			break
		}
	}
	if entry.Status == record.ProposalOpen || entry.Status == record.ProposalApproved {
		out.Impact = map[string]map[string]record.Value{}
		for p, patch := range record.Preview(s.Record, rules, f.d.Config.On(entry.Record.Entity()), entry.Proposal) {
			out.Impact[p] = patch.Fields
		}
	}
	return out, nil
}

// needs says why a change of a field needs a decision, and who may decide when somebody asks.
func (f *Flow) needs(rule record.Rule, asks string) Needs {
	a := rule.Approval
	n := Needs{Rule: rule.Text, At: rule.At, Approval: a.At, Approvers: a.Roles, Distinct: a.Distinct}
	for _, p := range f.d.Config.People() {
		may := slices.ContainsFunc(p.Roles, func(role string) bool { return slices.Contains(a.Roles, role) })
		if may && (!a.Distinct || p.Name != asks) {
			n.People = append(n.People, p.Name)
		}
	}
	return n
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

// matches reports whether the filter chooses x.
func (by Filter) matches(x ledger.Exception) bool {
	return (by.Type == "" || by.Type == x.Type) &&
		(by.Platform == "" || by.Platform == x.Platform) &&
		(by.Record == "" || by.Record == x.Record || by.Record == x.Other) &&
		(by.Assignee == "" || by.Assignee == x.Assignee) &&
		(by.Field == "" || by.Field == x.Field)
}

// Exceptions lists what people must look at, the newest first.
func (f *Flow) Exceptions(ctx context.Context, by Filter) ([]ledger.Exception, error) {
	all, err := f.d.Ledger.Exceptions(ctx, by.All)
	return slices.DeleteFunc(all, func(x ledger.Exception) bool { return !by.matches(x) }), err
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

// maxExamples bounds the examples of a cause.
const maxExamples = 5

// Causes groups exceptions by cause, the most frequent first.
func (f *Flow) Causes(ctx context.Context, by Filter) ([]Cause, error) {
	list, err := f.Exceptions(ctx, by)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b ledger.Exception) int { return a.First.Compare(b.First) })
	at := map[string]int{}
	out := []Cause{}
	for _, x := range list {
		i, known := at[x.Cause()]
		if !known {
			i = len(out)
			at[x.Cause()] = i
			out = append(out, Cause{Cause: x.Cause(), Oldest: x.First})
		}
		c := &out[i]
		if c.Count++; len(c.Examples) < maxExamples {
			c.Examples = append(c.Examples, x.ID)
		}
	}
	slices.SortFunc(out, func(a, b Cause) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Cause, b.Cause)) })
	return out, nil
}

// Log lists the audit log of a record, of its own: one that was merged has kept its part. ledger.General lists what
// concerns no record.
func (f *Flow) Log(ctx context.Context, id record.ID) ([]ledger.LogEntry, error) {
	if id != ledger.General {
		if _, err := f.load(ctx, id); err != nil {
			return nil, err
		}
	}
	return f.d.Ledger.Log(ctx, string(id))
}

// Verify checks the whole audit log; progress, which may be nil, is told now and then how many entries were read.
func (f *Flow) Verify(ctx context.Context, progress func(entries int)) (ledger.Verified, error) {
	return f.d.Ledger.Verify(ctx, progress)
}
