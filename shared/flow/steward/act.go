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

// act is one action under way.
type act struct {
	Action
	by    policy.Person
	x     ledger.Exception
	cause govern.Cause
}

// Act does something to an exception. What changes a record lets its exceptions resolve by themselves, in the same
// commit, as far as their cause is gone.
func (f *Flow) Act(ctx context.Context, by policy.Person, a Action) (Acted, error) {
	if !slices.Contains(Actions(), a.Do) {
		return Acted{}, refuse(fault.Malformed, a.Exception, fmt.Sprintf("nothing is called %.40q here", a.Do), "one of "+strings.Join(Actions(), ", "))
	}
	may := f.steward
	if a.Do == Acknowledge || a.Do == Assign {
		may = f.known
	}
	who, err := may(by)
	if err != nil {
		return Acted{}, err
	}
	x, err := f.d.Ledger.Exception(ctx, a.Exception)
	if err != nil {
		return Acted{}, err
	}
	out, err := f.act(ctx, act{a, who, x, f.cause(ctx, who, "")})
	if err != nil {
		return Acted{}, err
	}
	if out.Exception, err = f.d.Ledger.Exception(ctx, x.ID); fault.Is(err, fault.NotFound) {
		out.Exception, err = x, nil
	}
	out.Record = cmp.Or(out.Record, x.Record)
	return out, err
}

func (f *Flow) act(ctx context.Context, a act) (Acted, error) {
	switch a.Do {
	case Acknowledge, Assign, Ignore, Reopen:
		return f.handle(ctx, a)
	case Retry:
		return f.retry(ctx, a)
	case Edit, Accept, Keep:
		return f.value(ctx, a)
	case Link:
		if a.x.Type == "unmatched" {
			return f.link(ctx, a)
		}
	}
	return f.pair(ctx, a)
}

// handle moves an exception through its life.
func (f *Flow) handle(ctx context.Context, a act) (Acted, error) {
	var err error
	for attempt := 0; ; attempt++ {
		next, stands, refused := f.next(a)
		if refused != nil || stands {
			return Acted{Done: "it is " + next.Status + " already"}, refused
		}
		next.By = a.by.Name
		err = f.d.Ledger.SaveException(ctx, next, f.line(a, "exception-"+next.Status))
		if err == nil {
			f.tell(ctx, a.x.Record, a.cause, []record.Event{{Action: "exception-" + next.Status, Platform: a.x.Platform}})
			return Acted{Done: "it is " + next.Status}, nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return Acted{}, err
		}
		if a.x, err = f.d.Ledger.Exception(ctx, a.x.ID); err != nil {
			return Acted{}, err
		}
	}
}

// next is the exception as the action leaves it. It reports whether that is how it stands already.
func (f *Flow) next(a act) (ledger.Exception, bool, error) {
	x := a.x
	if x.Status == ledger.ExceptionResolved {
		return x, false, refuse(fault.Conflict, x.ID, "it was resolved at "+x.Resolved.UTC().Format(time.RFC3339), "nothing is to be done: it reopens by itself when its cause comes back")
	}
	if x.Status == ledger.ExceptionIgnored && (a.Do == Acknowledge || a.Do == Assign) {
		return x, false, refuse(fault.Conflict, x.ID, "it is ignored by "+x.By+": "+x.Reason, "reopen it first")
	}
	switch a.Do {
	case Acknowledge:
		if x.Status != ledger.ExceptionOpen {
			return x, true, nil
		}
		x.Status = ledger.ExceptionAcknowledged
	case Assign:
		to, known := f.d.Config.Person(a.Assignee)
		if !known {
			return x, false, refuse(fault.Malformed, x.ID, fmt.Sprintf("the assignee %.80q is nobody in people.yaml", a.Assignee), "name somebody who is listed there")
		}
		x.Status, x.Assignee = ledger.ExceptionAssigned, to.Name
	case Ignore:
		if strings.TrimSpace(a.Reason) == "" {
			return x, false, refuse(fault.Malformed, x.ID, "no reason is given for ignoring it", "say in the reason why nothing needs to be done")
		}
		x.Status, x.Reason = ledger.ExceptionIgnored, a.Reason
	case Reopen:
		x.Status, x.Assignee, x.Reason = ledger.ExceptionOpen, "", ""
	}
	same := x.Status == a.x.Status && x.Assignee == a.x.Assignee && x.Reason == a.x.Reason
	return x, same, nil
}

// line is the audit line of an action on the exception itself.
func (f *Flow) line(a act, action string) ledger.LogEntry {
	e := record.Event{Action: action, Platform: a.x.Platform, By: a.by.Name, Trace: a.cause.Trace, Detail: detail("exception "+a.x.ID, a.Reason)}
	if a.x.Field != "" {
		e.Fields = []string{a.x.Field}
	}
	if a.Do == Assign {
		e.Detail = "exception " + a.x.ID + " to " + a.Assignee
	}
	line := ledger.LogEntry{At: a.cause.Now, By: a.by.Name, Trace: a.cause.Trace, Events: []record.Event{e}}
	if a.x.Record == "" {
		line.Policy = f.d.Config.Version()
	}
	return line
}

// ref is the native record that an exception names as a whole.
func ref(x ledger.Exception) (record.Ref, bool) {
	parts := strings.SplitN(x.Native, "/", 3)
	if len(parts) != 3 || parts[0] != x.Platform || parts[2] == "" {
		return record.Ref{}, false
	}
	return record.Ref{Platform: parts[0], Object: parts[1], ID: parts[2]}, true
}

// retry tries again what was refused, against present truth, and has read again what could not be understood.
func (f *Flow) retry(ctx context.Context, a act) (Acted, error) {
	native, some := ref(a.x)
	if a.x.Record == "" {
		if !some {
			return Acted{}, refuse(fault.Refused, a.x.ID, "it names no native record that could be read again", cmp.Or(a.x.Remedy, "ignore it with a reason"))
		}
		if err := f.note(ctx, a, "retried"); err != nil {
			return Acted{}, err
		}
		return Acted{Done: native.String() + " is read again"}, f.hint(ctx, native, a.cause, "somebody retries it")
	}
	if a.x.Platform == "" {
		return Acted{}, refuse(fault.Refused, a.x.ID, "there is nothing to try again: it needs a decision", cmp.Or(a.x.Remedy, "accept, keep or edit"))
	}
	var tried []string
	c, err := f.change(ctx, a.x.Record, a.cause, func(s *ledger.State) ([]record.Event, error) {
		tried = again(s, a.x.Platform, a.x.Field)
		d, due := s.Due[a.x.Platform]
		paused := due && !d.NotBefore.IsZero()
		if len(tried) == 0 && !paused && !some {
			return nil, errStands
		}
		if paused {
			d.NotBefore = time.Time{}
			s.Due[a.x.Platform] = d
		}
		fields := tried
		if some && a.x.Field != "" && len(fields) == 0 {
			fields = []string{a.x.Field}
		}
		return []record.Event{{Action: "retried", Platform: a.x.Platform, Fields: fields, By: a.by.Name, Detail: "exception " + a.x.ID, Trace: a.cause.Trace}}, nil
	}, nil)
	switch {
	case err != nil:
		return Acted{}, err
	case c.already:
		return Acted{Record: c.record, Done: "nothing is held on " + a.x.Platform + "; it is tried already"}, nil
	case some:
		err = f.hint(ctx, native, a.cause, "somebody retries it")
		return Acted{Record: c.record, Done: native.String() + " is read again"}, err
	}
	return Acted{Record: c.record, Done: strings.TrimSpace(a.x.Platform + " is tried again " + strings.Join(tried, " "))}, nil
}

// again lets the held values of one field on a platform, or of all, be tried now. It returns the fields that were not
// being tried already.
func again(s *ledger.State, platform, field string) []string {
	var tried []string
	for _, k := range slices.Sorted(maps.Keys(s.Record.Held)) {
		p, name := record.SplitHoldKey(k)
		h := s.Record.Held[k]
		if p != platform || field != "" && name != field || h.Trying {
			continue
		}
		h.Trying, h.Retry, h.Tries = true, time.Time{}, 0
		s.Record.Held = with(s.Record.Held, k, h)
		tried = append(tried, name)
	}
	return tried
}

// note saves that somebody acted on an exception that belongs to no record.
func (f *Flow) note(ctx context.Context, a act, action string) error {
	for attempt := 0; ; attempt++ {
		a.x.By = a.by.Name
		err := f.d.Ledger.SaveException(ctx, a.x, f.line(a, action))
		if err == nil || !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return err
		}
		if a.x, err = f.d.Ledger.Exception(ctx, a.x.ID); err != nil {
			return err
		}
	}
}

// value gives the exception's field a value that people choose.
func (f *Flow) value(ctx context.Context, a act) (Acted, error) {
	if a.x.Record == "" {
		return Acted{}, refuse(fault.Refused, a.x.ID, "it is about no record", "link or retry it first")
	}
	field := cmp.Or(a.x.Field, a.Field)
	if a.Field != "" && a.Field != field {
		return Acted{}, refuse(fault.Malformed, a.x.ID, fmt.Sprintf("it is about %s, not about %s", field, a.Field), "leave the field out, or override the other one")
	}
	if field == "" {
		return Acted{}, refuse(fault.Malformed, a.x.ID, "it names no field", "name the field")
	}
	if err := f.governed(a.x.Record, field); err != nil {
		return Acted{}, err
	}
	reason := detail("exception "+a.x.ID, a.Reason)
	if a.Do == Edit {
		if a.Value == nil {
			return Acted{}, refuse(fault.Malformed, a.x.ID, "no value is given for "+field, "give one; null clears the field")
		}
		if err := f.fits(a.x.Record, field, *a.Value); err != nil {
			return Acted{}, err
		}
		c, err := f.override(ctx, a.x.Record, field, Override{Value: *a.Value, Until: a.Until, Reason: reason}, a.cause)
		return Acted{Record: c.record, Done: words(c, field+" is "+until(a.Until))}, err
	}
	pick, done := f.accepted, field+" is what "+cmp.Or(a.Platform, a.x.Platform)+" says"
	if a.Do == Keep {
		pick, done = f.kept, field+" stays as it is"
	}
	c, err := f.change(ctx, a.x.Record, a.cause, func(s *ledger.State) ([]record.Event, error) {
		v, err := pick(a, s.Record, field)
		switch {
		case err != nil:
			return nil, err
		case s.Record.Golden[field].Value == v && s.Record.Golden[field].From == record.Steward:
			return nil, errStands
		}
		return choose(s, field, Override{Value: v, Reason: reason}, a.cause, map[string]string{Accept: "accepted", Keep: "kept"}[a.Do])
	}, nil)
	return Acted{Record: c.record, Done: words(c, done)}, err
}

// accepted is the value that a platform says in a field: what somebody set there, also if it was put back since.
func (f *Flow) accepted(a act, r record.Record, field string) (record.Value, error) {
	p := cmp.Or(a.Platform, a.x.Platform)
	if p == "" {
		return record.Value{}, refuse(fault.Malformed, a.x.ID, "no platform is named", "name the one whose value is right: "+strings.Join(slices.Sorted(maps.Keys(r.Views)), ", "))
	}
	v, some := r.Views[p]
	if !some {
		return record.Value{}, refuse(fault.NotFound, a.x.ID, fmt.Sprintf("%s has no native record on %.40q", r.ID, p), "one of "+strings.Join(slices.Sorted(maps.Keys(r.Views)), ", "))
	}
	if v.Clouded(field) {
		return record.Value{}, refuse(fault.Refused, a.x.ID, "what "+p+" says in "+field+" cannot be used: "+v.Said[field].Doubt.Detail, "edit the field, correct it on "+p+", or extend the mapping")
	}
	value, origin := v.Holds(field)
	if over := v.Wrote[field].Over.Value; a.x.Type == "path-not-permitted" && origin != record.FromPlatform && !over.IsAbsent() {
		value, origin = over, record.FromPlatform
	}
	if origin == record.FromNobody {
		return record.Value{}, refuse(fault.Refused, a.x.ID, p+" says nothing in "+field, "name another platform, or edit the field")
	}
	return value, f.d.Config.Contract(r.ID.Entity()).Check(field, value)
}

// kept is the golden value of a field.
func (f *Flow) kept(a act, r record.Record, field string) (record.Value, error) {
	g, some := r.Golden[field]
	if !some || g.Value.IsAbsent() {
		return record.Value{}, refuse(fault.Refused, a.x.ID, field+" has no golden value to keep", "accept what a platform says, or edit the field")
	}
	p := cmp.Or(a.Platform, a.x.Platform)
	if h, held := r.Held[record.HoldKey(p, field)]; held {
		return record.Value{}, refuse(fault.Refused, a.x.ID, "the golden value stays, but "+p+" refuses it: "+h.Detail, "retry once "+p+" takes it, edit the field, or ignore this")
	}
	if r.Views[p].Clouded(field) {
		switch f.d.Config.Rules(r.ID.Entity()).Fields[field].Paths[p] {
		case record.Revert, record.Reject:
		default:
			return record.Value{}, refuse(fault.Refused, a.x.ID, "the golden value stays, but what "+p+" says cannot be used and may be meant: it is not written over", "correct it on "+p+", or extend the mapping")
		}
	}
	return g.Value, nil
}

// pair tells two records apart or makes them one.
func (f *Flow) pair(ctx context.Context, a act) (Acted, error) {
	x := a.x
	if x.Type != "possible-duplicate" || x.Other == "" {
		remedy := cmp.Or(x.Remedy, "choose another action")
		return Acted{}, refuse(fault.Refused, x.ID, fmt.Sprintf("%s does not say that two records may be one, so there is nothing to %s", x.Type, a.Do), remedy)
	}
	if a.Do == KeepApart {
		one, other, err := f.two(ctx, x.Record, x.Other)
		if err != nil {
			return Acted{}, err
		}
		if one.Record.Into == x.Other || other.Record.Into == x.Record {
			return Acted{}, refuse(fault.Conflict, x.ID, "the two were merged meanwhile", "unmerge them: they count as different then")
		}
		joint, err := govern.Tell(ctx, f.d.Ledger, f.d.Config, x.Record, x.Other, a.cause)
		if err != nil {
			return Acted{}, err
		}
		f.wake(ctx, joint.Due, a.cause)
		f.tell(ctx, x.Record, a.cause, []record.Event{{Action: "kept-apart"}})
		return Acted{Done: fmt.Sprintf("%s and %s are different", x.Record, x.Other)}, nil
	}
	one, other, err := f.two(ctx, x.Record, x.Other)
	if err != nil {
		return Acted{}, err
	}
	into, from := survivor(one.Record, other.Record)
	switch {
	case a.Record != "" && a.Record != x.Record && a.Record != x.Other:
		return Acted{}, refuse(fault.Malformed, x.ID, fmt.Sprintf("%s is neither of the two", a.Record), fmt.Sprintf("name %s or %s, or none", x.Record, x.Other))
	case a.Record == x.Record, a.Record == "" && other.Record.Into == x.Record:
		into, from = x.Record, x.Other
	case a.Record == x.Other, a.Record == "" && one.Record.Into == x.Other:
		into, from = x.Other, x.Record
	}
	return f.merge(ctx, into, from, a.cause)
}
