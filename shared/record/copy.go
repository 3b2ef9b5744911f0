package record

import (
	"maps"
	"slices"
	"time"
)

// Copy says when records get a native record of their own on a platform, and when they lose it again.
type Copy struct {
	When     *Condition // one is created only while this holds; nil is always
	Withdraw *Condition // one that Sorrel created is deleted while this holds; nil is never
	Alone    *Condition // nothing new refers to it there while this holds; nil is never
}

// Condition is an expression of a policy over golden fields.
type Condition struct {
	Holds func(Lookup) (bool, error) // names: golden.FIELD
	Text  string
	At    string // file:line:column
}

// holds is false for what cannot be evaluated, and then says why.
func (c *Condition) holds(golden map[string]Golden) (bool, string) {
	ok, err := c.Holds(func(name string) Value { return nullFor(golden[name[len("golden."):]].Value) })
	if err != nil {
		return false, c.Text + " cannot be evaluated: " + err.Error()
	}
	return ok, c.Text
}

// none says why policy creates no native record, or "".
func (c Copy) none(golden map[string]Golden, platform string) string {
	if c.When != nil {
		if ok, why := c.When.holds(golden); !ok {
			return "policy creates none on " + platform + ": " + why
		}
	}
	if c.Withdraw != nil {
		if ok, why := c.Withdraw.holds(golden); ok || why != c.Withdraw.Text {
			return "policy withdraws it from " + platform + ": " + why
		}
	}
	return ""
}

// withdrawn reports whether policy wants what Sorrel created on a platform deleted again.
func (r Rules) withdrawn(golden map[string]Golden, platform string) bool {
	w := r.Copies[platform].Withdraw
	if w == nil {
		return false
	}
	ok, _ := w.holds(golden)
	return ok
}

// Unwanted says why a record has no native record on a platform for now, where a condition of the policy is the reason:
// other records need not look for it there. Otherwise it is "".
func (r Record) Unwanted(rules Rules, platform string) string {
	if c, some := rules.Copies[platform]; some && r.Into == "" && r.Views[platform].ID == "" {
		return c.none(r.Golden, platform)
	}
	return ""
}

// Alone reports whether nothing new is to refer to the native record on a platform for now: policy says so, or is about to
// withdraw it. What refers to it already stays.
func (r Record) Alone(rules Rules, platform string) bool {
	c, v := rules.Copies[platform], r.Views[platform]
	if !v.Exists() || r.Into != "" {
		return false
	}
	if v.Leaving || c.Alone == nil {
		return v.Leaving
	}
	alone, _ := c.Alone.holds(r.Golden)
	return alone
}

// Whole stands for a field where the native record itself is meant: a deletion that its platform refused is held under
// HoldKey(platform, Whole).
const Whole = ""

// Refused says why a platform refused to give up its native record, or to make one, as long as nobody has it tried again.
func (r Record) Refused(platform string) (detail string, refused bool) {
	if h, held := r.Held[HoldKey(platform, Whole)]; held {
		return h.Detail, !h.Trying
	}
	if r.Views[platform].ID != "" {
		return "", false
	}
	for _, k := range slices.Sorted(maps.Keys(r.Held)) {
		if p, _ := SplitHoldKey(k); p == platform && r.Held[k].Type == "refused-write" && !r.Held[k].Trying {
			return r.Held[k].Detail, true
		}
	}
	return "", false
}

// maxWithdrawn bounds the native records that a record remembers to have withdrawn: the newest.
const maxWithdrawn = 16

// Withdraw records that the native record which Sorrel had made on a platform is gone, because policy withdrew it: it
// counts as never made, and another may be made. Whatever is said about it that is not newer than its death means nothing:
// that is when the platform said it died, or else at.
func (r Record) Withdraw(platform string, at time.Time) Record {
	v, some := r.Views[platform]
	if !some {
		return r
	}
	died := v.Died
	if !v.Gone() { // nobody has heard of it
		died = Version{At: at}
		for _, known := range []Version{v.Born, v.Heard} {
			if known.Compare(died) > 0 {
				died = known
			}
		}
	}
	r = r.Clone()
	delete(r.Views, platform)
	r.Held = maps.Clone(r.Held)
	maps.DeleteFunc(r.Held, func(k string, _ Hold) bool { p, _ := SplitHoldKey(k); return p == platform })
	r.Withdrawn = append(slices.Clone(r.Withdrawn), View{Ref: v.Ref, External: v.External, Made: true, Born: v.Born, Died: died})
	r.Withdrawn = r.Withdrawn[max(0, len(r.Withdrawn)-maxWithdrawn):]
	return r
}

// Former finds a native record that was withdrawn, and has not come back.
func (r Record) Former(ref Ref) (View, bool) {
	i := slices.IndexFunc(r.Withdrawn, func(v View) bool { return v.Ref == ref })
	if i < 0 {
		return View{}, false
	}
	return r.Withdrawn[i], true
}

// Restored puts a native record back that was withdrawn and is alive at a later version: people brought it back, so it is
// theirs. There must be no other on its platform.
func (r Record) Restored(ref Ref) Record {
	v, _ := r.Former(ref)
	v.Born, v.Made = v.Died, false
	v.Born.Seq++
	r = r.Clone()
	r.Views[ref.Platform] = v
	if r.Withdrawn = slices.DeleteFunc(slices.Clone(r.Withdrawn), func(v View) bool { return v.Ref == ref }); len(r.Withdrawn) == 0 {
		r.Withdrawn = nil
	}
	return r
}

// withdrawn is the native id that was withdrawn last from the platform that owns a field, whose value goes with it. It is "" for
// what cannot be null, and where there is another by now: that has not said anything yet, perhaps because what we wrote
// there is not confirmed.
func (r Record) withdrawn(rule Rule) string {
	if rule.Solid || r.Views[rule.Owner].ID != "" {
		return ""
	}
	return r.LastWithdrawn(rule.Owner)
}

// LastWithdrawn is the native id that was withdrawn from a platform last, or "".
func (r Record) LastWithdrawn(platform string) string {
	for _, v := range slices.Backward(r.Withdrawn) {
		if v.Platform == platform {
			return v.ID
		}
	}
	return ""
}

// leave marks the native records that golden wants withdrawn, so that their deaths are known to be ours even if policy
// changes its mind while a deletion is under way.
func (r Record) leave(rules Rules, golden map[string]Golden) Record {
	var views map[string]View
	for p, v := range r.Views {
		if !v.Made || v.Leaving || v.Into != "" || !rules.withdrawn(golden, p) {
			continue
		}
		if views == nil {
			views = maps.Clone(r.Views)
		}
		v.Leaving = true
		views[p] = v
	}
	if views != nil {
		r.Views = views
	}
	return r
}

// left turns native records that left and are gone into such as were never made. It reports whether there were any.
func (r Record) left() (Record, bool) {
	some := false
	for _, p := range slices.Sorted(maps.Keys(r.Views)) {
		if v := r.Views[p]; v.Leaving && v.Gone() && v.Into == "" {
			r, some = r.Withdraw(p, v.Died.At), true
		}
	}
	return r, some
}
