package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"reflect"
	"slices"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// ProposalEntry is a proposal as it is listed: a copy of what the record holds, or held when it ended.
type ProposalEntry struct {
	Record record.ID `json:"record"`
	record.Proposal
}

// proposals adds what a commit changes about the proposals of a record. One that is no longer among them has ended,
// by itself or because the record was merged.
func (b *batch) proposals(before, after record.Record, closed []record.Proposal, now time.Time) {
	if len(before.Proposals) == 0 && len(after.Proposals) == 0 && len(closed) == 0 {
		return
	}
	ended := map[string]record.Proposal{}
	for _, p := range before.Proposals {
		ended[p.ID] = p
	}
	for _, p := range after.Proposals {
		was, known := ended[p.ID]
		delete(ended, p.ID)
		if !known || !reflect.DeepEqual(was, p) {
			b.put(store.Op{Key: proposalKey(p.ID)}, ProposalEntry{after.ID, p})
		}
	}
	for id, p := range ended {
		if p.Status == record.ProposalOpen || p.Status == record.ProposalApproved {
			p.Status, p.Note = record.ProposalWithdrawn, "the record no longer asks for it"
			ended[id] = p
		}
	}
	for _, p := range closed {
		ended[p.ID] = p
	}
	for _, p := range ended {
		b.put(store.Op{Key: proposalKey(p.ID), Expires: expiry(now, keepExceptions)}, ProposalEntry{after.ID, p})
	}
}

// Proposals lists open proposals, or all, the newest first.
func (l *Ledger) Proposals(ctx context.Context, all bool) ([]ProposalEntry, error) {
	var out []ProposalEntry
	for e, err := range l.store.Range(ctx, proposalKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.proposals", "", err)
		}
		var p ProposalEntry
		if err := json.Unmarshal(e.Value, &p); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.proposals", e.Key.String(), err)
		}
		if all || p.Status == record.ProposalOpen {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b ProposalEntry) int { return b.Opened.Compare(a.Opened) })
	return out, nil
}

// Proposal reads one proposal.
func (l *Ledger) Proposal(ctx context.Context, id string) (ProposalEntry, error) {
	var p ProposalEntry
	e, err := l.one(ctx, proposalKey(id), &fault.Error{Class: fault.NotFound, Op: "ledger.proposal", ID: id, Detail: "no such proposal", Remedy: "sorrel proposals lists those that are open"})
	if err != nil {
		return p, err
	}
	return p, classify("ledger.proposal", id, json.Unmarshal(e.Value, &p))
}

// Timer is a record that changes by the mere passing of time, and when.
type Timer struct {
	Record record.ID
	At     time.Time
}

// timerOf is Record.Timer for those that are not merely a redirect: what such a record holds rests.
func timerOf(r record.Record) time.Time {
	if r.Into != "" {
		return time.Time{}
	}
	return r.Timer()
}

// timer moves the pointer to a record that changes by the passing of time.
func (b *batch) timer(before, after State) {
	id := after.Record.ID
	was, is := before.next(), after.next()
	if was.Equal(is) {
		return
	}
	if !was.IsZero() {
		b.add(store.Op{Kind: store.Delete, Key: timerKey(id, was)})
	}
	if !is.IsZero() {
		b.add(store.Op{Kind: store.Put, Key: timerKey(id, is), Value: []byte("{}")})
	}
}

// Timers lists the records that change by the passing of time at or before until. It costs what it lists. One shard
// comes after the other, each in order of time.
func (l *Ledger) Timers(ctx context.Context, until time.Time) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		for shard := range uint32(shards) {
			for e, err := range l.store.Range(ctx, shardPart("timer", shard), "\x00", key(instant(until.Add(1)))) {
				var t Timer
				if err == nil {
					t, err = readTimer(e.Sort)
				}
				if !yield(t, classify("ledger.timers", "", err)) || err != nil {
					return
				}
			}
		}
	}
}

func readTimer(sort string) (Timer, error) {
	parts := split(sort)
	if len(parts) != 2 {
		return Timer{}, errors.New("a timer's key without time or record")
	}
	at, err := time.Parse(instantLayout, parts[0])
	return Timer{record.ID(parts[1]), at}, err
}
