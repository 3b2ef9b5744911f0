package steward

import (
	"context"
	"fmt"
	"time"

	"sorrel/shared/fault"
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
	c, err := f.change(ctx, a.Record, a.cause, func(s *ledger.State) ([]record.Event, error) {
		id := s.Record.ID
		switch linked, is, err := f.d.Ledger.Lookup(ctx, native); {
		case err != nil:
			return nil, err
		case is && linked == id:
			return nil, errStands
		case is:
			return nil, refuse(fault.Conflict, a.x.ID, fmt.Sprintf("%s is part of %s", native, linked), fmt.Sprintf("merge %s and %s if they are one", linked, id))
		}
		if was := s.Record.Views[native.Platform]; was.Exists() {
			return nil, refuse(fault.Refused, a.x.ID, fmt.Sprintf("%s has %s on %s already", id, was.Ref, native.Platform), "merge the two there, or link it to another record")
		}
		delete(s.Record.Views, native.Platform) // a deleted one: the other takes its place
		s.AddDue(native.Platform, a.cause.Trace, a.cause.Class, a.cause.Now)
		d := s.Due[native.Platform]
		d.NotBefore = a.cause.Now.Add(settling)
		s.Due[native.Platform] = d
		return []record.Event{{Action: "linked", Platform: native.Platform, By: a.by.Name, Detail: detail(native.String()+", exception "+a.x.ID, a.Reason), Trace: a.cause.Trace}}, nil
	}, func(e *ledger.Entry) error {
		understood, err := f.d.Ledger.Understood(ctx, native, a.cause.Now)
		for _, x := range understood {
			x.By = a.by.Name
			e.Exceptions = append(e.Exceptions, x)
		}
		e.Links[native] = e.After.Record.ID
		e.Rechecks = []ledger.Recheck{{Ref: native, NotBefore: a.cause.Now, Reason: "linked by a steward", Trace: a.cause.Trace}}
		return err
	})
	if err == nil && !c.already {
		_ = f.send(ctx, native, a.cause) // else the recheck does, with the next sweep
	}
	return Acted{Record: c.record, Done: words(c, fmt.Sprintf("%s is part of %s", native, c.record))}, err
}
