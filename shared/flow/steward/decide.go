package steward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/budget"
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
	cause := f.cause(ctx, who, entry.Trace)
	cause.Class = budget.Approval
	verdict := record.Verdict{Proposal: v.Proposal, Revision: v.Revision, Approve: v.Approve, By: who.Name, Comment: v.Comment}
	c, err := f.change(ctx, entry.Record, cause, func(s *ledger.State) ([]record.Event, error) {
		if now, open := proposal(s.Record, v.Proposal); open {
			entry = ledger.ProposalEntry{Record: s.Record.ID, Proposal: now}
		}
		if err := f.may(ctx, who, entry); err != nil {
			return nil, err
		}
		r, events, err := record.Decide(s.Record, verdict, cause.Now)
		switch {
		case errors.Is(err, record.ErrNoProposal): // it has ended
			if entry, err = f.d.Ledger.Proposal(ctx, v.Proposal); err != nil {
				return nil, err
			}
			return nil, ended(entry, v)
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
	}, nil)
	if err != nil {
		return entry, refusal(entry, v, err)
	}
	if !c.already {
		entry.Proposal = after(entry.Proposal, c.Settled)
	}
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
func (f *Flow) may(ctx context.Context, who policy.Person, p ledger.ProposalEntry) error {
	rules := f.d.Config.Rules(p.Record.Entity())
	var distinct *record.Approval
	for _, field := range slices.Sorted(maps.Keys(p.Fields)) {
		a := rules.Fields[field].Approval
		switch {
		case a == nil && p.Status == record.ProposalOpen:
			return &fault.Error{Class: fault.Conflict, Op: "steward.decide", ID: p.ID, Fields: []string{field},
				Detail: "the policy has changed and no longer lets this be proposed: it is withdrawn soon", Remedy: "change the value in its owner"}
		case a == nil:
			continue
		case !shares(who.Roles, a.Roles):
			return &fault.Error{Class: fault.Forbidden, Op: "steward.decide", ID: p.ID, Fields: []string{field},
				Detail: fmt.Sprintf("%s may not decide this: it needs the role %s (%s)", who.Name, strings.Join(a.Roles, " or "), a.At), Remedy: "ask " + f.others(who, a.Roles...)}
		case a.Distinct:
			distinct = a
		}
	}
	if distinct == nil {
		return nil
	}
	asks, err := f.asked(ctx, who, p)
	if err == nil && asks {
		err = &fault.Error{Class: fault.Forbidden, Op: "steward.decide", ID: p.ID,
			Detail: fmt.Sprintf("%s asks for this change on %s, and somebody else has to decide it (%s)", who.Name, p.Platform, distinct.At), Remedy: "ask " + f.others(who, distinct.Roles...)}
	}
	return err
}

// asked reports whether a person has asked for the change that a proposal is about, or for a part of it: its log knows
// everybody who did, the proposal the last one.
func (f *Flow) asked(ctx context.Context, who policy.Person, p ledger.ProposalEntry) (bool, error) {
	log, err := f.d.Ledger.Log(ctx, string(p.Record))
	if err != nil {
		return false, err
	}
	users := []string{p.Actor}
	for _, entry := range log {
		for _, e := range entry.Events {
			if e.Proposal == p.ID && (e.Action == "proposed" || e.Action == "amended") {
				users = append(users, e.By)
			}
		}
	}
	return slices.ContainsFunc(users, func(user string) bool {
		asks, known := f.d.Config.PersonAt(p.Platform, user)
		return known && asks.Name == who.Name
	}), nil
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
