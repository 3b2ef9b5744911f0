package govern

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Joint is what became of two records that were settled together: the platforms to wake for each.
type Joint struct {
	Done bool
	Due  map[record.ID][]string
}

// Unite merges from into into, in one commit: native records are relinked, claims change hands, from is a redirect from
// then on. It is not Done when both have a native record on one platform: those have to be merged there first. Uniting
// again what is united is Done.
func Unite(ctx context.Context, l *ledger.Ledger, set *policy.Set, into, from record.ID, cause Cause) (Joint, error) {
	return both(ctx, l, set, into, from, cause, func(a, b *ledger.State) (bool, []record.Event, error) {
		if b.Record.Into == into {
			return true, nil, nil
		}
		if b.Record.Into != "" || a.Record.Into != "" {
			return false, nil, fault.New(fault.Conflict, "govern.unite", fmt.Sprintf("one of %s and %s was merged into another record already", into, from))
		}
		var done bool
		mine, theirs := a.Record.Assigned, b.Record.Assigned
		a.Record, b.Record, done = record.Unite(a.Record, b.Record)
		if !done {
			return false, nil, nil
		}
		if decided(set, a.Record, from) {
			a.Record.Assigned, b.Record.Assigned = theirs, mine
		} else if decides(set, a.Record) {
			a.Record.Assigned = mine
		}
		for _, p := range a.Record.Absorbed[from] {
			if due, is := b.Due[p]; is {
				if own, both := a.Due[p]; both { // it was to create a native record
					due.Class = budget.Urgent(own.Class, due.Class)
				}
				a.Due = with(a.Due, p, due)
			}
		}
		maps.DeleteFunc(b.Due, func(p string, _ ledger.Due) bool { _, is := record.Subscriber(p); return !is }) // what subscribers were not told of it yet, they still are
		for run, at := range b.Runs {
			a.Look(run, at)
		}
		b.Runs = nil
		return true, []record.Event{{Action: "merged", Detail: fmt.Sprintf("%s into %s", from, into), By: cause.By, Trace: cause.Trace}}, nil
	})
}

// Divide takes from out of into again. The two count as different from then on.
func Divide(ctx context.Context, l *ledger.Ledger, set *policy.Set, into, from record.ID, cause Cause) (Joint, error) {
	return both(ctx, l, set, into, from, cause, func(a, b *ledger.State) (bool, []record.Event, error) {
		if b.Record.Into != into {
			if slices.Contains(b.Record.Apart, into) {
				return true, nil, nil
			}
			return false, nil, fault.New(fault.Malformed, "govern.divide", fmt.Sprintf("%s was not merged into %s", from, into))
		}
		for _, p := range a.Record.Absorbed[from] {
			if due, is := a.Due[p]; is {
				b.Due = with(b.Due, p, due)
				delete(a.Due, p)
			}
		}
		if decided(set, a.Record, from) {
			a.Record.Assigned, b.Record.Assigned = b.Record.Assigned, a.Record.Assigned
		}
		a.Record, b.Record = record.Divide(a.Record, b.Record)
		return true, []record.Event{{Action: "unmerged", Detail: fmt.Sprintf("%s out of %s", from, into), By: cause.By, Trace: cause.Trace}}, nil
	})
}

// decided reports whether into has a native record of from on a platform where policy withdraws it for what golden fields say.
// What is assigned to a record decides about that native record, and goes where it goes: a customer that is active in the
// ERP is so for whichever record it belongs to.
func decided(set *policy.Set, into record.Record, from record.ID) bool {
	rules := set.Rules(into.ID.Entity())
	return slices.ContainsFunc(into.Absorbed[from], func(p string) bool { return into.Views[p].ID != "" && rules.Copies[p].Withdraw != nil })
}

// decides reports whether a record has a native record on a platform where policy withdraws it.
func decides(set *policy.Set, r record.Record) bool {
	for p, c := range set.Rules(r.ID.Entity()).Copies {
		if c.Withdraw != nil && r.Views[p].Exists() {
			return true
		}
	}
	return false
}

// Tell records that two records are different things.
func Tell(ctx context.Context, l *ledger.Ledger, set *policy.Set, one, other record.ID, cause Cause) (Joint, error) {
	return both(ctx, l, set, one, other, cause, func(a, b *ledger.State) (bool, []record.Event, error) {
		_, asked := a.Record.Suspects[other]
		_, asks := b.Record.Suspects[one]
		if !asked && !asks && slices.Contains(a.Record.Apart, other) && slices.Contains(b.Record.Apart, one) {
			return true, nil, nil
		}
		a.Record, b.Record = a.Record.Tell(b.Record), b.Record.Tell(a.Record)
		return true, []record.Event{{Action: "kept-apart", Detail: fmt.Sprintf("%s and %s", one, other), By: cause.By, Trace: cause.Trace}}, nil
	})
}

func with(due map[string]ledger.Due, p string, d ledger.Due) map[string]ledger.Due {
	if due == nil {
		due = map[string]ledger.Due{}
	}
	due[p] = d
	return due
}

// both changes two records in one commit. A change without events commits nothing.
func both(ctx context.Context, l *ledger.Ledger, set *policy.Set, one, other record.ID, cause Cause, change func(a, b *ledger.State) (bool, []record.Event, error)) (Joint, error) {
	cause.News = true
	for attempt := 0; ; attempt++ {
		a, b, err := pair(ctx, l, one, other)
		if err != nil {
			return Joint{}, err
		}
		a2, b2 := a.Clone(), b.Clone()
		done, events, err := change(&a2, &b2)
		if err != nil || !done || len(events) == 0 {
			return Joint{Done: done}, err
		}
		x, err := settle(ctx, l, set, a, a2, cause, events, []record.ID{other})
		if err != nil {
			return Joint{}, err
		}
		y, err := settle(ctx, l, set, b, b2, cause, events, []record.ID{one})
		if err != nil {
			return Joint{}, err
		}
		relink(&x.Entry)
		relink(&y.Entry)
		hand(&x.Entry, &y.Entry)
		err = l.Commit(ctx, x.Entry, y.Entry)
		if err == nil || !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return Joint{Done: err == nil, Due: map[record.ID][]string{one: x.Due, other: y.Due}}, err
		}
	}
}

// relink points the native records that came to a record to it.
func relink(e *ledger.Entry) {
	for p, v := range e.After.Record.Views {
		if e.Before.Record.Views[p].Ref != v.Ref && v.ID != "" {
			e.Relinks[v.Ref] = e.After.Record.ID
		}
	}
}

// hand makes one change of each match claim that both entries change, and keeps it with a.
func hand(a, b *ledger.Entry) {
	for c, mine := range a.Claims {
		theirs, both := b.Claims[c]
		if !both {
			continue
		}
		id, other := a.After.Record.ID, b.After.Record.ID
		ids := slices.DeleteFunc(slices.Clone(mine.IDs), func(x record.ID) bool { return x == other })
		if slices.Contains(theirs.IDs, other) {
			ids = append(ids, other)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if !slices.Contains(mine.IDs, id) {
			ids = slices.DeleteFunc(ids, func(x record.ID) bool { return x == id })
		}
		mine.IDs = ids
		a.Claims[c] = mine
		delete(b.Claims, c)
	}
}
