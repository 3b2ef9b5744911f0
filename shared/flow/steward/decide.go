package steward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Decide enters a verdict about a proposal. Deciding the same again changes nothing and is no error, also when the
// proposal has ended since.
//
// Refusals: fault.NotFound for a proposal that is not known; fault.Forbidden for who is no approver of all its fields, or
// asks for the change and may not decide about it; fault.Conflict when it was decided otherwise, has expired, was
// withdrawn, or has another revision than the one that was shown. With a Conflict comes the proposal as it stands now.
func (f *Flow) Decide(ctx context.Context, by policy.Person, v Verdict) (ledger.ProposalEntry, error) {
	who, err := f.known(by)
	if err != nil {
		return ledger.ProposalEntry{}, err
	}
	entry, err := f.d.Ledger.Proposal(ctx, v.Proposal)
	if err != nil {
		return ledger.ProposalEntry{}, err
	}
	cause := f.cause(who, entry.Trace)
	verdict := record.Verdict{Proposal: v.Proposal, Revision: v.Revision, Approve: v.Approve, By: who.Name, Comment: v.Comment}
	settled, err := govern.Change(ctx, f.d.Ledger, f.d.Config, entry.Record, cause, func(s *ledger.State) ([]record.Event, error) {
		now, open := proposal(s.Record, v.Proposal)
		if open {
			entry = ledger.ProposalEntry{Record: s.Record.ID, Proposal: now}
		}
		if err := f.may(who, entry, s.Record); err != nil {
			return nil, err
		}
		r, events, err := record.Decide(s.Record, verdict, cause.Now)
		switch {
		case err != nil:
			return nil, err
		case len(events) == 0:
			return nil, errStands
		}
		for i := range events {
			events[i].Trace = cause.Trace
		}
		s.Record = r
		return events, nil
	})
	if errors.Is(err, record.ErrNoProposal) { // it has ended
		if entry, err = f.d.Ledger.Proposal(ctx, v.Proposal); err == nil {
			err = ended(entry, v)
		}
	}
	switch {
	case errors.Is(err, errStands):
		return entry, nil
	case err != nil:
		return entry, refusal(entry, v, err)
	}
	f.wake(ctx, map[record.ID][]string{entry.Record: settled.Due}, cause)
	f.tell(ctx, entry.Record, cause, settled.Entry.Events)
	entry.Proposal = after(entry.Proposal, settled)
	return entry, nil
}

func proposal(r record.Record, id string) (record.Proposal, bool) {
	for _, p := range r.Proposals {
		if p.ID == id {
			return p, true
		}
	}
	return record.Proposal{}, false
}

// after is how a proposal stands once the verdict is settled: it may have ended in the same commit.
func after(p record.Proposal, s govern.Settled) record.Proposal {
	for _, closed := range s.Outcome.Closed {
		if closed.ID == p.ID {
			p = closed
		}
	}
	if now, open := proposal(s.Entry.After.Record, p.ID); open {
		p = now
	}
	return p
}

// may refuses whoever is no approver of every field, or has asked for the change and may not decide about it.
func (f *Flow) may(who policy.Person, p ledger.ProposalEntry, r record.Record) error {
	rules := f.d.Config.Rules(p.Record.Entity())
	for _, field := range slices.Sorted(maps.Keys(p.Fields)) {
		a := rules.Fields[field].Approval
		switch {
		case a == nil && p.Status == record.ProposalOpen:
			return &fault.Error{Class: fault.Conflict, Op: "steward.decide", ID: p.ID, Fields: []string{field},
				Detail: "the policy has changed and no longer lets this be proposed: it is withdrawn soon", Remedy: "change the value in its owner"}
		case a == nil:
			continue
		}
		if !shares(who.Roles, a.Roles) {
			return &fault.Error{Class: fault.Forbidden, Op: "steward.decide", ID: p.ID, Fields: []string{field},
				Detail: fmt.Sprintf("%s may not decide this: it needs the role %s (%s)", who.Name, strings.Join(a.Roles, " or "), a.At), Remedy: "ask " + f.holders(a.Roles...)}
		}
		if a.Distinct && f.asked(who, p, r, field) {
			return &fault.Error{Class: fault.Forbidden, Op: "steward.decide", ID: p.ID,
				Detail: fmt.Sprintf("%s asks for this change on %s, and somebody else has to decide it (%s)", who.Name, p.Platform, a.At), Remedy: "ask " + f.holders(a.Roles...)}
		}
	}
	return nil
}

// asked reports whether a person is who asks for a field of a proposal, or for the proposal as a whole.
func (f *Flow) asked(who policy.Person, p ledger.ProposalEntry, r record.Record, field string) bool {
	actors := []string{p.Actor}
	if said := r.Views[p.Platform].Said[field]; said.Value == p.Fields[field].After {
		actors = append(actors, said.Actor)
	}
	return slices.ContainsFunc(actors, func(user string) bool {
		asks, known := f.d.Config.PersonAt(p.Platform, user)
		return known && asks.Name == who.Name
	})
}

// ended judges a verdict about a proposal that has ended.
func ended(p ledger.ProposalEntry, v Verdict) error {
	switch p.Status {
	case record.ProposalApplied, record.ProposalApproved:
		if v.Approve {
			return errStands
		}
	case record.ProposalRejected:
		if !v.Approve {
			return errStands
		}
	case record.ProposalExpired:
		return record.ErrExpired
	}
	return record.ErrDecided
}

// refusal says in words why a verdict is not entered.
func refusal(p ledger.ProposalEntry, v Verdict, err error) error {
	e := &fault.Error{Class: fault.Conflict, Op: "steward.decide", ID: p.ID, Fields: slices.Sorted(maps.Keys(p.Fields)), Err: err}
	switch {
	case errors.Is(err, record.ErrMoved):
		e.Detail = fmt.Sprintf("revision %d was shown, but it is revision %d now: %s", v.Revision, p.Revision, moved(p.Proposal))
		e.Remedy = fmt.Sprintf("sorrel proposals show %s, then decide about revision %d", p.ID, p.Revision)
	case errors.Is(err, record.ErrExpired):
		e.Detail = "it expired at " + p.Expires.UTC().Format("2006-01-02 15:04 MST") + " without a decision; " + p.Platform + " is put back"
		e.Remedy = "have the change made on " + p.Platform + " again, which asks anew"
	case errors.Is(err, record.ErrDecided) && p.Status == record.ProposalWithdrawn:
		e.Detail = "it was withdrawn: there is nothing left to decide"
		if p.Note != "" {
			e.Detail += " (" + p.Note + ")"
		}
		e.Remedy = "sorrel proposals lists those that are open"
	case errors.Is(err, record.ErrDecided):
		e.Detail = fmt.Sprintf("%s by %s at %s already", p.Status, p.By, p.Decided.UTC().Format("2006-01-02 15:04 MST"))
		e.Remedy = "change the value in its owner, or on " + p.Platform + " again, which asks anew"
	default:
		return err
	}
	return e
}

// moved says what changed since a proposal was shown.
func moved(p record.Proposal) string {
	if p.Note != "" {
		return p.Note
	}
	return p.Platform + " asks for something else now"
}
