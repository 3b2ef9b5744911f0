package record

import (
	"maps"
	"slices"
)

// Patch is what a platform still has to be told about a record.
type Patch struct {
	Create   bool              // the native record is not known yet
	Delete   bool              // the native record is to be deleted; there are no Fields
	Withdraw bool              // Delete, because policy withdraws what Sorrel made
	Fields   map[string]Value  // canonical
	Kept     map[string]string // field → why it is not written although it differs
}

// Empty reports whether nothing is to be written.
func (p Patch) Empty() bool { return len(p.Fields) == 0 && !p.Delete }

// Project computes the smallest patch that brings a platform's copy to the golden fields: targeted, not equal to what
// the platform holds (compared in the form that as gives the value on that platform), not held, not the platform's own
// field, not a deviation that policy ignores or that waits for a decision. What approved proposals ask for is written
// to the fields' owner, and nowhere else until the owner has said it. An owner that gets its native record from us
// begins with what others decided meanwhile, and with what was approved.
//
// Applying a patch (Confirm) or observing it come back, and projecting again, gives an empty patch.
func Project(r Record, rules Rules, platform string, as func(field string, v Value) Value) Patch {
	v, known := r.Views[platform]
	p := Patch{Create: !known || v.ID == "", Fields: map[string]Value{}, Kept: map[string]string{}}
	if platform == Files {
		return p
	}
	if why := r.closed(rules, platform); why != "" {
		p.Kept = r.kept(rules, platform, why)
		return p
	}
	if v.Exists() && r.doomed(rules) {
		p.Delete = true
		return p
	}
	if v.Exists() && v.Made && rules.withdrawn(r.Golden, platform) {
		hold, held := r.Held[HoldKey(platform, Whole)]
		if !held || hold.Trying {
			p.Delete, p.Withdraw = true, true
			return p
		}
		p.Kept[Whole] = "policy withdraws it, but " + hold.Type + ": " + hold.Detail
	}
	for _, f := range r.Expects(platform) {
		if _, golden := r.Golden[f]; !golden {
			r.grant(&p, platform, f, as)
		}
	}
	for f, g := range r.Golden {
		rule := rules.Fields[f]
		if _, _, approved := r.approved(platform, f); rule.owns(platform) && (approved || !(p.Create && rule.vacant(r))) {
			r.grant(&p, platform, f, as)
			continue
		}
		if !targets(rule, platform) && !rule.owns(platform) {
			continue
		}
		holds, origin := v.Holds(f)
		if origin != FromNobody && holds == g.Value && !v.Clouded(f) {
			continue // equal in any form
		}
		path := rule.Paths[platform]
		want := as(f, g.Value)
		set := origin == FromPlatform && !v.blank(f) || v.Clouded(f)
		switch {
		case origin == FromNobody && want.IsNull():
			continue // nothing there, nothing wanted
		case v.Clouded(f):
			if path != Revert && path != Reject { // else it is put back, whatever it is
				p.Kept[f] = platform + " says something there that cannot be used" // it may be meant: held until people have looked
				continue
			}
		case origin != FromNobody && (holds == want || as(f, holds) == want):
			continue
		case origin == FromSorrel && as(f, v.Wrote[f].Value) == want && (v.Said[f].Ours || holds == v.Wrote[f].Back.Value || v.Wrote[f].Insists(holds)):
			continue // the platform reformatted what we wrote; writing it again would not change that
		}
		switch hold, held := r.Held[HoldKey(platform, f)]; {
		case held && hold.Value == g.Value && !hold.Trying:
			p.Kept[f] = hold.Type + ": " + hold.Detail
		case set && path == Ignore:
			p.Kept[f] = "policy ignores what " + platform + " sets here"
		case set && path == Propose && r.waits(rule, platform, f):
			p.Kept[f] = r.asked(rule, platform)
		case set && g.Split && path == Accept:
			p.Kept[f] = "the platforms differ, and the rule leaves it to people"
		default:
			p.Fields[f] = g.Value
		}
	}
	if p.Create {
		p.lacks(r, rules.Required[platform], platform)
	}
	return p
}

// lacks empties a patch that would create a native record without what the platform requires of one. Trying would be
// refused, again and again; the record is looked at anew once anything about it changes.
func (p Patch) lacks(r Record, required []string, platform string) {
	for _, f := range required {
		if v, some := p.Fields[f]; some && !v.IsNull() {
			continue
		}
		why := platform + " makes none without " + f
		if h, held := r.Held[HoldKey(platform, f)]; held && !h.Trying {
			why += ", which is held: " + h.Type + ": " + h.Detail
		}
		for other := range p.Fields {
			p.Kept[other] = why
		}
		clear(p.Fields)
		return
	}
}

// grant adds what an approved proposal wants written to a field's owner.
func (r Record) grant(p *Patch, owner, f string, as func(field string, v Value) Value) {
	ask, id, some := r.approved(owner, f)
	if !some {
		return
	}
	v := r.Views[owner]
	wrote, was := v.Wrote[f]
	switch hold, held := r.Held[HoldKey(owner, f)]; {
	case as(f, v.Said[f].Value) == as(f, ask.After), was && as(f, wrote.Value) == as(f, ask.After) && wrote.Base.Compare(ask.Seen) >= 0:
		return // said, or written and not yet said back
	case held && hold.Value == ask.After && !hold.Trying:
		p.Kept[f] = "proposal " + id + " is approved, but " + hold.Type + ": " + hold.Detail
	default:
		p.Fields[f] = ask.After
	}
}

// closed says why nothing at all is written to a platform, or "".
func (r Record) closed(rules Rules, platform string) string {
	v := r.Views[platform]
	c, copied := rules.Copies[platform]
	switch {
	case r.Into != "":
		return "merged into " + string(r.Into)
	case v.Into != "" && v.Gone():
		return "merged into " + v.Into + " on " + platform
	case v.Gone():
		return "deleted on " + platform
	case v.ID != "":
		return ""
	case rules.Copies != nil && !copied:
		return "policy creates nothing on " + platform
	case r.doomed(rules):
		return "deleted"
	case !r.lives():
		return "every native record of it is deleted"
	}
	for _, s := range r.Suspects {
		if s.Holds {
			return "it may be a duplicate"
		}
	}
	return c.none(r.Golden, platform)
}

// lives reports whether any native record is left, or none was ever known.
func (r Record) lives() bool {
	for _, v := range r.Views {
		if v.Exists() {
			return true
		}
	}
	return len(r.Views) == 0
}

// doomed reports whether a deletion on one platform means deletion on all.
func (r Record) doomed(rules Rules) bool {
	for p, v := range r.Views {
		if rules.Deletes[p] == DeletePropagated && v.Gone() && v.Into == "" {
			return true
		}
	}
	return false
}

func (r Record) kept(rules Rules, platform, why string) map[string]string {
	out := map[string]string{}
	for f, g := range r.Golden {
		if targets(rules.Fields[f], platform) && !g.Value.IsNull() {
			out[f] = why
		}
	}
	return out
}

// waits reports whether what a platform set in a field stays there: while it is undecided, or approved and not yet
// said by the owner, or while there is nobody to ask.
func (r Record) waits(rule Rule, platform, field string) bool {
	if rule.vacant(r) {
		return !slices.Contains(rule.Meanwhile, platform)
	}
	p := r.Proposals[ProposalKey(platform, rule.Group)]
	_, asked := p.Fields[field]
	return asked && !p.settled() && !p.PutBack
}

func (r Record) asked(rule Rule, platform string) string {
	p, some := r.Proposals[ProposalKey(platform, rule.Group)]
	switch {
	case !some:
		return rule.Owner + " has no native record yet"
	case p.Status == ProposalApproved:
		return "proposal " + p.ID + " is approved; " + rule.Owner + " has not said it yet"
	}
	return "proposal " + p.ID + " waits for a decision"
}

// Preview tells which writes an approval would cause in the end: the patch of every platform once the owners have
// said what the proposal asks for.
func Preview(r Record, rules Rules, forms Forms, p Proposal) map[string]Patch {
	if p.Status == ProposalOpen {
		p = p.approve(r)
	}
	now := p.Opened
	asking := r
	asking.Proposals = map[string]Proposal{ProposalKey(p.Platform, p.Group): p}
	out := map[string]Patch{}
	add := func(r Record) {
		for _, name := range rules.Platforms {
			as := forms(name)
			if as == nil {
				continue
			}
			patch := Project(r, rules, name, as)
			for f := range patch.Fields {
				if _, concerned := p.Fields[f]; !concerned {
					delete(patch.Fields, f)
				}
			}
			if was, some := out[name]; len(patch.Fields) > 0 && !some {
				out[name] = patch
			} else if some {
				maps.Copy(was.Fields, patch.Fields)
			}
		}
	}
	add(asking)
	then := r.Clone()
	then.Proposals = nil
	for f, ask := range p.Fields {
		v := then.Views[ask.Owner]
		o := Observation{Ref: v.Ref, Version: v.Said[f].Version, Fields: map[string]Value{f: ask.After}, Trace: p.Trace}
		o.Version.Seq++
		then.Views[ask.Owner], _ = Observe(v, o)
	}
	then, _ = Fold(then, rules, forms, now)
	add(then)
	for name, patch := range out {
		patch.Kept = nil
		out[name] = patch
	}
	return out
}
