package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"time"
)

// Request is what Sorrel itself asks of the platform that owns a field, for a workflow or for whoever decided in it.
type Request struct {
	Field  string
	Value  Value // absent: nothing is asked for any more
	By     string
	Reason string
	Trace  string
}

// Ask enters a request. It is a proposal that is approved already: it is written to the owner, the field is golden once
// the owner has said it, and if the owner says something else first, that counts and the request is over. There is one at
// a time for each field; asking the same again changes nothing. Fold afterwards.
//
// It reports false where no platform owns the field.
func (r Record) Ask(rules Rules, q Request, now time.Time) (Record, []Event, bool) {
	rule := rules.Fields[q.Field]
	if rule.Kind != Owner {
		return r, nil, false
	}
	key := ProposalKey(Sorrel, q.Field)
	p, asked := r.Proposals[key]
	var events []Event
	switch {
	case q.Value.IsAbsent() && !asked, asked && p.Status == ProposalApproved && p.Fields[q.Field].After == q.Value:
		return r, nil, true
	case q.Value.IsAbsent(): // Fold ends it
		p.Status, p.Decided, p.Comment = ProposalWithdrawn, now, q.Reason
	default:
		says, _ := r.says(rule.Owner, q.Field)
		revision, opened := p.Revision+1, p.Opened
		if !asked {
			opened = now
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", r.ID, key, opened.UnixNano()))
		p = Proposal{ID: hex.EncodeToString(sum[:8]), Platform: Sorrel, Group: q.Field, Revision: revision, Opened: opened,
			Decided: now, By: q.By, Comment: q.Reason, Trace: q.Trace, At: rule.At,
			Fields: map[string]Ask{q.Field: {Owner: rule.Owner, Before: says.Value, After: q.Value}}}
		p = p.approve(r)
		events = []Event{p.event("requested", q.By, q.Reason)}
	}
	r.Proposals = maps.Clone(r.Proposals)
	if r.Proposals == nil {
		r.Proposals = map[string]Proposal{}
	}
	r.Proposals[key] = p
	return r, events, true
}

// Asked is what Sorrel asks of the field's owner, if it does: nothing, once the owner has answered.
func (r Record) Asked(field string) (Value, bool) {
	p, some := r.Proposals[ProposalKey(Sorrel, field)]
	if !some || p.Status != ProposalApproved {
		return Value{}, false
	}
	return p.Fields[field].After, true
}
