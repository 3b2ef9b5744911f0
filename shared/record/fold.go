package record

import (
	"maps"
	"slices"
	"strings"
)

// Contribution is one platform's say in one field.
type Contribution struct {
	Platform string
	Value    Value
	Version  Version
	Trace    string
	Origin   Origin
	Gone     bool // the native record is deleted
}

// Decision is what a path did about a value that a platform set and that did not win.
type Decision struct {
	Field  string
	Loser  Contribution
	Path   Path
	Golden Value
	At     string
}

// Change is one accepted change of one golden field.
type Change struct {
	Field         string `json:"field"`
	Before, After Value  `json:"-"`
	From          string `json:"from"`
	Rule          string `json:"rule"`
	Trace         string `json:"trace"`
}

// Fold computes the golden fields of r from its views. It returns the record with Golden, Seq and Policy set,
// the changes against the golden fields that r had, sorted by field, and the decisions about losers.
func Fold(r Record, rules Rules) (Record, []Change, []Decision) {
	golden := make(map[string]Golden, len(rules.Fields))
	var changes []Change
	var decisions []Decision
	platforms := slices.Sorted(maps.Keys(r.Views))
	var room []Contribution
	for field, rule := range rules.Fields {
		room = contributions(room[:0], r, platforms, field)
		won, ok := winner(r, room, field, rule)
		old := r.Golden[field]
		switch same := rules.Version != "" && rules.Version == r.Policy; {
		case ok && same && old.Rule != "":
			won.Rule = old.Rule // the same words as at the last fold
		case ok:
			won.Rule = rule.Text()
		}
		if old.Value != won.Value {
			changes = append(changes, Change{field, old.Value, won.Value, won.From, won.Rule, won.Trace})
		}
		if !ok {
			continue
		}
		golden[field] = won
		if len(rule.Paths) == 0 {
			continue
		}
		for _, c := range room {
			if c.Origin != FromPlatform || c.Gone || c.Platform == won.From || c.Value == won.Value {
				continue
			}
			if path, governed := rule.Paths[c.Platform]; governed {
				decisions = append(decisions, Decision{field, c, path, won.Value, rule.At})
			}
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
	slices.SortStableFunc(decisions, func(a, b Decision) int { return strings.Compare(a.Field, b.Field) })
	r.Golden, r.Policy = golden, rules.Version
	if len(changes) > 0 {
		r.Seq++
	}
	return r, changes, decisions
}

// Genuine leaves out decisions about values that mean the same as the golden one on their platform, such as null
// and an empty list where both are stored as nothing. as gives the form that values take on a platform, nil where
// the entity is not mapped.
func Genuine(decisions []Decision, as func(platform string) func(field string, v Value) Value) []Decision {
	return slices.DeleteFunc(decisions, func(d Decision) bool {
		form := as(d.Loser.Platform)
		return form != nil && form(d.Field, d.Loser.Value) == form(d.Field, d.Golden)
	})
}

// Contributions lists what the platforms hold in a field, by platform name.
func Contributions(r Record, field string) []Contribution {
	return contributions(nil, r, slices.Sorted(maps.Keys(r.Views)), field)
}

// contributions appends to out.
func contributions(out []Contribution, r Record, platforms []string, field string) []Contribution {
	for _, p := range platforms {
		v := r.Views[p]
		value, origin := v.Holds(field)
		if origin == FromNobody {
			continue
		}
		c := Contribution{p, value, v.Said[field].Since(), v.Said[field].Trace, origin, v.Gone()}
		if w, wrote := v.Wrote[field]; wrote && origin == FromSorrel && w.Base.Compare(c.Version) >= 0 {
			c.Version, c.Trace = w.Base, w.Trace
		}
		out = append(out, c)
	}
	return out
}

// winner applies one rule; the caller puts it into words.
//
//	owner:  what the owner last said, even if its native record is deleted since
//	latest: the newest value that someone set; ties by Order, then by platform name
//	rank:   the value of the first platform in Order where someone set any
//
// For latest and rank, null is a say like any other. Values that we wrote ourselves count only when nobody
// else says anything, and those of deleted native records only when no other is left.
func winner(r Record, all []Contribution, field string, rule Rule) (Golden, bool) {
	if rule.Kind == Owner {
		c := r.Views[rule.Owner].Said[field]
		if c.Value.IsAbsent() {
			return Golden{}, false
		}
		return Golden{c.Value, rule.Owner, c.Version, c.Trace, "", rule.At}, true
	}
	var best Contribution
	found := false
	for _, c := range all {
		if slices.Contains(rule.Order, c.Platform) && (!found || beats(c, best, rule)) {
			best, found = c, true
		}
	}
	if !found {
		return Golden{}, false
	}
	return Golden{best.Value, best.Platform, best.Version, best.Trace, "", rule.At}, true
}

func beats(a, b Contribution, rule Rule) bool {
	if a.Gone != b.Gone {
		return b.Gone
	}
	if a.Origin != b.Origin {
		return a.Origin == FromPlatform
	}
	if rule.Kind == Latest {
		if c := a.Version.At.Compare(b.Version.At); c != 0 {
			return c > 0
		}
	}
	if i, j := slices.Index(rule.Order, a.Platform), slices.Index(rule.Order, b.Platform); i != j {
		return i < j
	}
	return strings.Compare(a.Platform, b.Platform) < 0
}
