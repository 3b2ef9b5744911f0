package record

import "slices"

// Patch is what a platform still has to be told about a record.
type Patch struct {
	Create bool              // the native record is not known yet
	Fields map[string]Value  // canonical
	Kept   map[string]string // field → why it is not written although it differs
}

// Empty reports whether nothing is to be written.
func (p Patch) Empty() bool { return len(p.Fields) == 0 }

// Project computes the smallest patch that brings a platform's copy to the golden fields: targeted, not
// equal to what the platform holds (compared in the form that as gives the value on that platform), not held,
// not the platform's own field, not a deviation that policy ignores.
//
// Applying a patch (Confirm) or observing it come back, and projecting again, gives an empty patch.
func Project(r Record, rules Rules, platform string, as func(field string, v Value) Value) Patch {
	v, known := r.Views[platform]
	p := Patch{Create: !known || v.ID == "", Fields: map[string]Value{}, Kept: map[string]string{}}
	if known && v.Gone() {
		for f, g := range r.Golden {
			if targets(rules.Fields[f], platform) && !g.Value.IsNull() {
				p.Kept[f] = "deleted on " + platform
			}
		}
		return p
	}
	for f, g := range r.Golden {
		rule := rules.Fields[f]
		if !targets(rule, platform) {
			continue
		}
		holds, origin := v.Holds(f)
		if origin != FromNobody && holds == g.Value && !v.Clouded(f) {
			continue // equal in any form
		}
		want := as(f, g.Value)
		switch {
		case origin == FromNobody && want.IsNull():
			continue // nothing there, nothing wanted
		case v.Clouded(f):
			if path := rule.Paths[platform]; path != Revert && path != Reject {
				p.Kept[f] = platform + " says something there that cannot be used" // it may be meant: held until people have looked
				continue
			}
			origin = FromPlatform // whatever it is, it is put back
		case origin != FromNobody && (holds == want || as(f, holds) == want):
			continue
		case origin == FromSorrel && as(f, v.Wrote[f].Value) == want && v.Said[f].Ours:
			continue // the platform reformatted what we wrote; writing it again would not change that
		}
		switch hold, held := r.Held[HoldKey(platform, f)]; {
		case held && hold.Value == g.Value:
			p.Kept[f] = hold.Type + ": " + hold.Detail
		case origin == FromPlatform && rule.Paths[platform] == Ignore:
			p.Kept[f] = "policy ignores what " + platform + " sets here"
		default:
			p.Fields[f] = g.Value
		}
	}
	return p
}

func targets(rule Rule, platform string) bool {
	if rule.Kind == Owner && rule.Owner == platform {
		return false
	}
	return slices.Contains(rule.Targets, platform)
}
