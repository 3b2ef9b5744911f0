package steward

import (
	"context"
	"fmt"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// settling is how long nothing is written to a platform after a native record there was linked: the hub has to hear
// what it says first.
const settling = time.Minute

// link makes a parked native record part of a record. The commit leaves a recheck, so that the native record is read
// even if nothing more happens here.
func (f *Flow) link(ctx context.Context, a act) (Acted, error) {
	native, some := ref(a.x)
	m, mapped := f.d.Config.ByObject(native.Platform, native.Object)
	if !some || !mapped {
		return Acted{}, refuse(fault.Refused, a.x.ID, "it names no native record that could be linked", a.x.Remedy)
	}
	if err := a.Record.Validate(); err != nil {
		return Acted{}, refuse(fault.Malformed, a.x.ID, "the record to link it to is missing, or is no record id", "name it, such as "+m.Entity+"/…")
	}
	if a.Record.Entity() != m.Entity {
		return Acted{}, refuse(fault.Malformed, a.x.ID, fmt.Sprintf("%s is a %s, and %s is none", native, m.Entity, a.Record), "name a record of "+m.Entity)
	}
	for attempt := 0; ; attempt++ {
		out, due, err := f.join(ctx, a, native)
		if err == nil {
			f.wake(ctx, map[record.ID][]string{out.Record: due}, a.cause)
			_ = f.send(ctx, native, a.cause) // the recheck of the commit sends it with the next sweep
			return out, nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= maxConflict || refused(err) {
			return Acted{}, err
		}
	}
}

// refused tells a refusal of ours from a conflict of the ledger.
func refused(err error) bool {
	e := fault.Outermost(err)
	return e != nil && e.Op == "steward"
}

func (f *Flow) join(ctx context.Context, a act, native record.Ref) (Acted, []string, error) {
	before, err := f.d.Ledger.Follow(ctx, a.Record)
	if err != nil {
		return Acted{}, nil, err
	}
	if !before.Exists() {
		return Acted{}, nil, govern.Unknown(a.Record)
	}
	id := before.Record.ID
	out := Acted{Record: id, Done: fmt.Sprintf("%s is part of %s", native, id)}
	switch linked, is, err := f.d.Ledger.Lookup(ctx, native); {
	case err != nil:
		return Acted{}, nil, err
	case is && linked == id:
		out.Done += " already"
		return out, nil, nil
	case is:
		return Acted{}, nil, refuse(fault.Conflict, a.x.ID, fmt.Sprintf("%s is part of %s", native, linked), fmt.Sprintf("merge %s and %s if they are one", linked, id))
	}
	was := before.Record.Views[native.Platform]
	if was.Exists() {
		return Acted{}, nil, refuse(fault.Refused, a.x.ID, fmt.Sprintf("%s has %s on %s already", id, was.Ref, native.Platform), "merge the two there, or link it to another record")
	}
	after := before.Clone()
	delete(after.Record.Views, native.Platform) // a deleted one: the other takes its place
	after.AddDue(native.Platform, a.cause.Trace, a.cause.Now)
	d := after.Due[native.Platform]
	d.NotBefore = a.cause.Now.Add(settling)
	after.Due[native.Platform] = d
	s, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, before, after, a.cause, record.Event{Action: "linked", Platform: native.Platform, By: a.by.Name,
		Detail: detail(native.String()+", exception "+a.x.ID, a.Reason), Trace: a.cause.Trace})
	if err != nil {
		return Acted{}, nil, err
	}
	understood, err := f.d.Ledger.Understood(ctx, native, a.cause.Now)
	if err != nil {
		return Acted{}, nil, err
	}
	for i := range understood {
		understood[i].By = a.by.Name
	}
	s.Entry.Exceptions = append(s.Entry.Exceptions, understood...)
	s.Entry.Links[native] = id
	s.Entry.Rechecks = []ledger.Recheck{{Ref: native, NotBefore: a.cause.Now, Reason: "linked by a steward", Trace: a.cause.Trace}}
	if err := f.d.Ledger.Commit(ctx, s.Entry); err != nil {
		return Acted{}, nil, err
	}
	f.tell(ctx, id, a.cause, s.Entry.Events)
	return out, s.Due, nil
}
