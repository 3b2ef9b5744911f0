package steward

import (
	"context"
	"fmt"
	"maps"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Override sets a field to a value that wins over every rule until its end; without one, until a platform says something
// new. An override that stands already is replaced.
func (f *Flow) Override(ctx context.Context, by policy.Person, id record.ID, field string, o Override) (Acted, error) {
	who, err := f.steward(by)
	if err == nil {
		err = f.fits(id, field, o.Value)
	}
	if err != nil {
		return Acted{}, err
	}
	cause := f.cause(ctx, who, "")
	c, err := f.override(ctx, id, field, o, cause)
	return Acted{Record: c.record, Done: words(c, field+" is "+until(o.Until))}, err
}

func until(t time.Time) string {
	if t.IsZero() {
		return "set until a platform says something new"
	}
	return "set until " + t.UTC().Format(time.RFC3339)
}

// words says what was done, or that there was nothing to do.
func words(c changed, done string) string {
	if c.already {
		return done + " already"
	}
	return done
}

// fits refuses a value that the contract does not allow, without showing it.
func (f *Flow) fits(id record.ID, field string, v record.Value) error {
	if err := f.governed(id, field); err != nil {
		return err
	}
	if v.IsAbsent() {
		return refuse(fault.Malformed, string(id), "no value is given for "+field, "give one; null clears the field")
	}
	return f.d.Config.Contract(id.Entity()).Check(field, v)
}

func (f *Flow) governed(id record.ID, field string) error {
	if err := id.Validate(); err != nil {
		return fault.Wrap(fault.Malformed, "steward", "", err)
	}
	if _, some := f.d.Config.Rules(id.Entity()).Fields[field]; !some {
		return &fault.Error{Class: fault.NotFound, Op: "steward", ID: string(id), Fields: []string{field}, Detail: fmt.Sprintf("%s has no field %q", id.Entity(), field),
			Remedy: "sorrel why " + string(id) + " lists its fields"}
	}
	return nil
}

// override enters an override.
func (f *Flow) override(ctx context.Context, id record.ID, field string, o Override, cause govern.Cause) (changed, error) {
	if !o.Until.IsZero() && !o.Until.After(cause.Now) {
		return changed{}, refuse(fault.Malformed, string(id), "the override would have ended at "+o.Until.UTC().Format(time.RFC3339)+" already", "give a time to come, or none: then it stands until a platform says something new")
	}
	return f.change(ctx, id, cause, func(s *ledger.State) ([]record.Event, error) {
		return choose(s, field, o, cause, "overridden")
	}, nil)
}

// choose gives a field a steward's value. One that stands already in the same way stays as it is.
func choose(s *ledger.State, field string, o Override, cause govern.Cause, action string) ([]record.Event, error) {
	was, some := s.Record.Overrides[field]
	if some && was.Value == o.Value && was.Until.Equal(o.Until) && s.Record.Golden[field].From == record.Steward {
		return nil, errStands
	}
	override := record.Override{Value: o.Value, By: cause.By, Reason: o.Reason, When: cause.Now, Until: o.Until.UTC(), Trace: cause.Trace}
	if o.Until.IsZero() {
		override = record.Chosen(s.Record, field, override)
	}
	s.Record.Overrides = with(s.Record.Overrides, field, override)
	return []record.Event{{Action: action, Fields: []string{field}, By: cause.By, Detail: detail(until(o.Until), o.Reason), Trace: cause.Trace}}, nil
}

func detail(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// with is a copy of m that has v: what a state holds is shared.
func with[V any](m map[string]V, k string, v V) map[string]V {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]V{}
	}
	out[k] = v
	return out
}

// Revoke ends an override. The rule decides again.
func (f *Flow) Revoke(ctx context.Context, by policy.Person, id record.ID, field string) (Acted, error) {
	who, err := f.steward(by)
	if err == nil {
		err = f.governed(id, field)
	}
	if err != nil {
		return Acted{}, err
	}
	cause := f.cause(ctx, who, "")
	c, err := f.change(ctx, id, cause, func(s *ledger.State) ([]record.Event, error) {
		if _, some := s.Record.Overrides[field]; !some {
			return nil, errStands
		}
		s.Record.Overrides = maps.Clone(s.Record.Overrides)
		delete(s.Record.Overrides, field)
		return []record.Event{{Action: "override-revoked", Fields: []string{field}, By: cause.By, Trace: cause.Trace}}, nil
	}, nil)
	return Acted{Record: c.record, Done: words(c, "the rule decides "+field)}, err
}

// Assign sets a field that the policy leaves to a workflow.
func (f *Flow) Assign(ctx context.Context, by policy.Person, id record.ID, field string, value record.Value) (Acted, error) {
	who, err := f.steward(by)
	if err == nil {
		err = f.fits(id, field, value)
	}
	if err != nil {
		return Acted{}, err
	}
	if rule := f.d.Config.Rules(id.Entity()).Fields[field]; rule.Kind != record.Assign || rule.Eval != nil {
		return Acted{}, &fault.Error{Class: fault.Refused, Op: "steward.assign", ID: string(id), Fields: []string{field},
			Detail: fmt.Sprintf("the policy does not leave %s to be assigned: %s (%s)", field, rule.Text, rule.At), Remedy: "override it instead, or write assign: workflow in the policy"}
	}
	cause := f.cause(ctx, who, "")
	c, err := f.change(ctx, id, cause, func(s *ledger.State) ([]record.Event, error) {
		if was, some := s.Record.Assigned[field]; some && was.Value == value {
			return nil, errStands
		}
		s.Record.Assigned = with(s.Record.Assigned, field, record.Assigned{Value: value, When: cause.Now, By: cause.By, Trace: cause.Trace})
		return []record.Event{{Action: "assigned", Fields: []string{field}, By: cause.By, Trace: cause.Trace}}, nil
	}, nil)
	return Acted{Record: c.record, Done: words(c, field+" is assigned")}, err
}
