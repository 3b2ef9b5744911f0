package steward

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Merge makes one record of two: from is a redirect to into from then on. Where both have a native record on one platform
// it is refused: those have to be merged there first.
func (f *Flow) Merge(ctx context.Context, by policy.Person, into, from record.ID) (Acted, error) {
	who, err := f.steward(by)
	if err != nil {
		return Acted{}, err
	}
	return f.merge(ctx, into, from, f.cause(ctx, who, ""))
}

func (f *Flow) merge(ctx context.Context, into, from record.ID, cause govern.Cause) (Acted, error) {
	a, b, err := f.two(ctx, into, from)
	if err != nil {
		return Acted{}, err
	}
	if end := a.Record.Into; end != "" {
		return Acted{}, refuse(fault.Conflict, string(into), fmt.Sprintf("%s was merged into %s itself", into, end), "merge "+string(from)+" into "+string(end))
	}
	out := Acted{Record: into, Done: fmt.Sprintf("%s is merged into %s", from, into)}
	switch b.Record.Into {
	case "":
	case into:
		out.Done += " already"
		return out, nil
	default:
		return Acted{}, refuse(fault.Conflict, string(from), fmt.Sprintf("%s was merged into %s", from, b.Record.Into), fmt.Sprintf("merge %s into %s, or unmerge %s first", b.Record.Into, into, from))
	}
	if clash := both(a.Record, b.Record); clash != "" {
		return Acted{}, refuse(fault.Refused, string(from), fmt.Sprintf("%s and %s both have a native record on one platform: %s", into, from, clash), "merge those there first; the records follow by themselves")
	}
	joint, err := govern.Unite(ctx, f.d.Ledger, f.d.Config, into, from, cause)
	if err != nil {
		return Acted{}, err
	}
	if !joint.Done {
		return Acted{}, refuse(fault.Conflict, string(from), "one of the two has got another native record meanwhile", "look at both records and try again")
	}
	f.wake(ctx, joint.Due, cause)
	f.tell(ctx, from, cause, []record.Event{{Action: "merged"}})
	return out, nil
}

// two loads two records of one entity.
func (f *Flow) two(ctx context.Context, one, other record.ID) (ledger.State, ledger.State, error) {
	for _, id := range []record.ID{one, other} {
		if err := id.Validate(); err != nil {
			return ledger.State{}, ledger.State{}, fault.Wrap(fault.Malformed, "steward", "", err)
		}
	}
	if one == other || one.Entity() != other.Entity() {
		return ledger.State{}, ledger.State{}, refuse(fault.Malformed, string(one), fmt.Sprintf("%s and %s are not two records of one entity", one, other), "name two customers, or two contacts")
	}
	states, err := f.d.Ledger.Load(ctx, one, other)
	if err != nil {
		return ledger.State{}, ledger.State{}, err
	}
	for _, id := range []record.ID{one, other} {
		if !states[id].Exists() {
			return ledger.State{}, ledger.State{}, govern.Unknown(id)
		}
	}
	return states[one], states[other], nil
}

// both names the platforms on which two records have living native records, with these.
func both(a, b record.Record) string {
	var clashes []string
	for _, p := range slices.Sorted(maps.Keys(a.Views)) {
		if v, w := a.Views[p], b.Views[p]; v.Exists() && w.Exists() {
			clashes = append(clashes, v.Ref.String()+" and "+w.Ref.String())
		}
	}
	return strings.Join(clashes, ", ")
}

// survivor orders two records: the one with more living native records, then the older one, then that with the smaller id.
func survivor(a, b record.Record) (into, from record.ID) {
	count := func(r record.Record) (living int, born time.Time) {
		for _, v := range r.Views {
			if !v.Exists() {
				continue
			}
			living++
			if at := v.Born.At; !at.IsZero() && (born.IsZero() || at.Before(born)) {
				born = at
			}
		}
		return living, born
	}
	older := func(a, b time.Time) int {
		switch {
		case a.Equal(b):
			return 0
		case a.IsZero(): // not known
			return 1
		case b.IsZero():
			return -1
		}
		return a.Compare(b)
	}
	m, bornA := count(a)
	n, bornB := count(b)
	if cmp.Or(n-m, older(bornA, bornB), strings.Compare(string(a.ID), string(b.ID))) <= 0 {
		return a.ID, b.ID
	}
	return b.ID, a.ID
}

// Unmerge takes a record out of the one that it was merged into: what came with it goes back. The two count as different
// from then on.
func (f *Flow) Unmerge(ctx context.Context, by policy.Person, from record.ID) (Acted, error) {
	who, err := f.steward(by)
	if err != nil {
		return Acted{}, err
	}
	if err := from.Validate(); err != nil {
		return Acted{}, fault.Wrap(fault.Malformed, "steward", "", err)
	}
	states, err := f.d.Ledger.Load(ctx, from)
	if err != nil {
		return Acted{}, err
	}
	s := states[from]
	into := s.Record.Into
	switch {
	case !s.Exists():
		return Acted{}, govern.Unknown(from)
	case into == "":
		return f.unmerged(ctx, from)
	}
	end, err := f.d.Ledger.Follow(ctx, from)
	if err != nil {
		return Acted{}, err
	}
	if end.Record.ID != into {
		return Acted{}, refuse(fault.Conflict, string(from), fmt.Sprintf("%s was merged into %s, which was merged into %s in turn", from, into, end.Record.ID), "unmerge "+string(into)+" first")
	}
	cause := f.cause(ctx, who, "")
	joint, err := govern.Divide(ctx, f.d.Ledger, f.d.Config, into, from, cause)
	if err != nil {
		return Acted{}, err
	}
	f.wake(ctx, joint.Due, cause)
	f.tell(ctx, from, cause, []record.Event{{Action: "unmerged"}})
	return Acted{Record: from, Done: fmt.Sprintf("%s is taken out of %s", from, into)}, nil
}

// unmerged answers for a record that is not merged: either it was taken out before, or there is nothing to take apart.
func (f *Flow) unmerged(ctx context.Context, from record.ID) (Acted, error) {
	log, err := f.d.Ledger.Log(ctx, string(from))
	if err != nil {
		return Acted{}, err
	}
	for _, entry := range slices.Backward(log) {
		for _, e := range entry.Events {
			if e.Action == "unmerged" {
				return Acted{Record: from, Done: "it is taken apart already: " + e.Detail}, nil
			}
		}
	}
	return Acted{}, refuse(fault.Refused, string(from), "it was not merged into another record", "name the record that was merged, not the one that it was merged into")
}
