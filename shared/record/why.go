package record

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Why explains one field with all its evidence: the golden value follows from it and from the rule alone, without the
// record and without the policy.
//
// The first of these gives the value: MergedInto (there is none), Override, Deactivation, the rule in Governs. A rule of
// kind owner looks at what the owner says, or while it is vacant at Meanwhile, in that order; a survivorship at the
// contributions of the platforms in Order; expr and assign at Inputs, or at Assigned.
type Why struct {
	Record ID        `json:"record"`
	Field  string    `json:"field"`
	Value  Value     `json:"value,omitzero"`  // left out when there is no golden value; null when it is cleared
	From   string    `json:"from,omitempty"`  // platform that set it, steward, or sorrel
	Said   time.Time `json:"said,omitzero"`   // when, by that platform's clock
	Actor  string    `json:"actor,omitempty"` // who set it there
	Trace  string    `json:"correlationId,omitempty"`
	Rule   string    `json:"rule"` // what decided, in words
	At     string    `json:"at"`   // file:line:column of it
	Policy string    `json:"policyVersion"`
	Split  bool      `json:"differ,omitempty"` // contributors differ, and the rule leaves it to people

	Governs       WhyRule          `json:"governedBy"`
	Contributions []WhySaid        `json:"contributions,omitempty"` // by platform
	Inputs        []WhyInput       `json:"inputs,omitempty"`        // of an expression, in the order in which it asked for them
	Failed        string           `json:"failed,omitempty"`        // why an expression gives nothing
	Assigned      *Assigned        `json:"assigned,omitempty"`
	Override      *Override        `json:"override,omitempty"`
	Deactivation  *WhyDeactivation `json:"deactivation,omitempty"`
	Approved      *Grant           `json:"approved,omitempty"` // the approval that brought the owner's value
	MergedInto    ID               `json:"mergedInto,omitempty"`

	Losers []WhyLoser    `json:"losers,omitempty"`
	On     []WhyPlatform `json:"platforms"`
}

// WhyRule is the rule that the policy gives the field.
type WhyRule struct {
	Kind      Survivorship `json:"kind"`
	Text      string       `json:"text"`
	At        string       `json:"at"`
	Owner     string       `json:"owner,omitempty"`
	Meanwhile []string     `json:"meanwhile,omitempty"`
	Vacant    bool         `json:"vacant,omitempty"`    // the owner has no native record: Meanwhile decides
	Withdrawn string       `json:"withdrawn,omitempty"` // the owner's native record that Sorrel had made and has withdrawn: where nobody says anything, the field is cleared
	Order     []string     `json:"order,omitempty"`
	Set       []string     `json:"together,omitempty"`
}

// WhySaid is a platform's say in the field. What the rule's owner says is what it said itself.
type WhySaid struct {
	Platform string    `json:"platform"`
	Value    Value     `json:"value"`
	Said     time.Time `json:"said,omitzero"` // since when, as far as the field is timed
	Seq      int64     `json:"seq,omitempty"`
	Final    bool      `json:"final,omitempty"`
	Origin   Origin    `json:"origin"`
	Gone     bool      `json:"gone,omitempty"`        // the native record is deleted
	Blank    bool      `json:"neverFilled,omitempty"` // it is null, and nobody is known to have set that
	Actor    string    `json:"actor,omitempty"`
	Trace    string    `json:"correlationId,omitempty"`
	Filled   *WhySet   `json:"filled,omitempty"` // for most-complete
}

// WhySet is how many of the fields that are judged together a platform fills, and since when.
type WhySet struct {
	Fields int       `json:"fields"`
	Said   time.Time `json:"said,omitzero"`
}

// WhyInput is a name that an expression asked for, and what it got: for expr a platform, for assign a golden field.
type WhyInput struct {
	Name  string    `json:"name"`
	Value Value     `json:"value"`
	From  string    `json:"from,omitempty"` // empty when there is no such value
	Said  time.Time `json:"said,omitzero"`
	Trace string    `json:"correlationId,omitempty"`
}

// WhyDeactivation is the value that the field takes when a native record is deleted where policy deactivates then: the
// first such platform by name is where it comes from.
type WhyDeactivation struct {
	Value   Value        `json:"value"`
	At      string       `json:"at"`
	Deleted []WhyDeleted `json:"deleted"` // by platform
}

// WhyDeleted is a native record that was deleted, not merged.
type WhyDeleted struct {
	Platform string    `json:"platform"`
	Died     time.Time `json:"died"`
	Policy   Deletion  `json:"policy"`
}

// WhyLoser is a value that did not win.
type WhyLoser struct {
	Platform string    `json:"platform"`
	Value    Value     `json:"value"`
	Said     time.Time `json:"said,omitzero"`
	Actor    string    `json:"actor,omitempty"`
	Path     Path      `json:"path,omitempty"` // what policy does about it
	Effect   string    `json:"effect"`         // the same in words, as things stand
	Trace    string    `json:"correlationId,omitempty"`
}

// WhyPlatform is what one platform holds of the field.
type WhyPlatform struct {
	Platform string    `json:"platform"`
	Native   string    `json:"native,omitempty"`
	Holds    Value     `json:"holds,omitzero"`
	Origin   Origin    `json:"origin,omitempty"`
	Role     string    `json:"role"`            // owner, target, contributor, none
	Write    string    `json:"write,omitempty"` // correlation id of the confirmed write
	Written  time.Time `json:"written,omitzero"`
	NoWrite  string    `json:"noWrite,omitempty"` // why there is no confirmed write
	Status   string    `json:"status"`            // one of the statuses below
	PutBack  *PutBack  `json:"putBack,omitempty"`
}

// Statuses of a field on a platform. StatusHeld and StatusDoubt are followed by the reason, StatusNobody where policy is the reason.
const (
	StatusDecides   = "decides"
	StatusNobody    = "decides, but has no native record yet"
	StatusAgrees    = "agrees"
	StatusPending   = "to be written"
	StatusDoomed    = "to be deleted"
	StatusLeaving   = "to be withdrawn"
	StatusHeld      = "not written: "
	StatusDoubt     = "cannot be used: "
	StatusNothing   = "nothing to write"
	StatusSay       = "has a say"
	StatusUnmapped  = "not mapped here"
	StatusElsewhere = "not governed here"
)

// PutBack tells of the last value that someone set on a platform and that we replaced.
type PutBack struct {
	Value Value     `json:"value"`
	Said  time.Time `json:"said"`
	Trace string    `json:"correlationId"`
	Path  Path      `json:"path"`
	At    string    `json:"at"` // of the rule
	When  time.Time `json:"when"`
}

// Explain answers why a field of a folded record has its value. It reports false for a field without a rule.
func Explain(r Record, rules Rules, field string, forms Forms) (Why, bool) {
	rule, ok := rules.Fields[field]
	if !ok {
		return Why{}, false
	}
	g := r.Golden[field]
	w := Why{Record: r.ID, Field: field, Value: g.Value, From: g.From, Said: g.Version.At, Trace: g.Trace, Split: g.Split,
		Rule: cmp.Or(g.Rule, rule.Text), At: cmp.Or(g.At, rule.At), Policy: cmp.Or(r.Policy, rules.Version), MergedInto: r.Into,
		Governs: WhyRule{rule.Kind, rule.Text, rule.At, rule.Owner, rule.Meanwhile, rule.vacant(r), r.withdrawn(rule), rule.Order, rule.Set}}
	all := Contributions(r, field)
	for _, c := range all {
		if c.Platform == g.From && c.Value == g.Value {
			w.Actor = c.Actor
		}
	}
	w.Contributions = counted(r, rule, field, all)
	w.weigh(r, rule)
	if o, some := r.Overrides[field]; some {
		w.Override, w.Actor = &o, o.By
	}
	if a, some := r.Assigned[field]; some && rule.Kind == Assign && rule.Eval == nil {
		w.Assigned = &a
	}
	if a, some := r.Granted[field]; some && rule.owns(a.Owner) {
		w.Approved = &a
	}
	w.Deactivation = deactivation(r, rules, field)
	for _, c := range all {
		if c.Platform != g.From && c.Origin == FromPlatform && !c.Blank && !forms.same(c.Platform, field, c.Value, g.Value) {
			w.Losers = append(w.Losers, WhyLoser{c.Platform, c.Value, c.Version.At, c.Actor, rule.Paths[c.Platform], r.effect(rule, field, c, g), c.Trace})
		}
	}
	for _, p := range concerned(r, rules, rule) {
		w.On = append(w.On, explainPlatform(r, rules, rule, field, p, forms(p)))
	}
	return w, true
}

// concerned lists the platforms of the entity, and others that the record or the rule knows of.
func concerned(r Record, rules Rules, rule Rule) []string {
	out := slices.Concat(slices.Collect(maps.Keys(r.Views)), rules.Platforms, rule.Targets)
	if rule.Kind == Owner {
		out = append(out, rule.Owner)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// counted are the contributions as the rule counts them.
func counted(r Record, rule Rule, field string, all []Contribution) []WhySaid {
	var out []WhySaid
	add := func(c Contribution) {
		s := WhySaid{Platform: c.Platform, Value: c.Value, Said: c.Version.At, Seq: c.Version.Seq, Final: c.Version.Final,
			Origin: c.Origin, Gone: c.Gone, Blank: c.Blank, Actor: c.Actor, Trace: c.Trace}
		if rule.Kind == MostComplete {
			filled, at := completeness(r.Views[c.Platform], rule.Set)
			s.Filled = &WhySet{filled, at}
		}
		out = append(out, s)
	}
	for _, c := range all {
		if !rule.owns(c.Platform) {
			add(c)
		} else if said, some := r.says(c.Platform, field); some {
			add(said)
		}
	}
	return out
}

// weigh asks the rule's expression again, and writes down what it looks at.
func (w *Why) weigh(r Record, rule Rule) {
	if rule.Eval == nil {
		return
	}
	known := r.Golden
	if rule.Kind == Expr {
		if known = rule.spoken(r, w.Field); len(known) == 0 {
			return // what we wrote ourselves stays: the contributions show it
		}
	}
	v, err := rule.Eval(func(name string) Value {
		g, some := known[name]
		if !slices.ContainsFunc(w.Inputs, func(i WhyInput) bool { return i.Name == name }) {
			in := WhyInput{Name: name, Value: nullFor(g.Value)}
			if some {
				in.From, in.Said, in.Trace = g.From, g.Version.At, g.Trace
			}
			w.Inputs = append(w.Inputs, in)
		}
		return nullFor(g.Value)
	})
	switch {
	case err != nil:
		w.Failed = err.Error()
	case v.IsAbsent():
		w.Failed = "it has no value"
	}
}

func deactivation(r Record, rules Rules, field string) *WhyDeactivation {
	value, deactivates := rules.Deactivated[field]
	if !deactivates {
		return nil
	}
	out := &WhyDeactivation{Value: value, At: rules.DeletesAt}
	for _, p := range slices.Sorted(maps.Keys(r.Views)) {
		if v := r.Views[p]; v.Gone() && v.Into == "" {
			out.Deleted = append(out.Deleted, WhyDeleted{p, v.Died.At, cmp.Or(rules.Deletes[p], DeleteIgnored)})
		}
	}
	if out.Deleted == nil {
		return nil
	}
	return out
}

// effect says in words what happens to a value that did not win.
func (r Record) effect(rule Rule, field string, c Contribution, g Golden) string {
	path := rule.Paths[c.Platform]
	contributes := path == Accept || rule.owns(c.Platform) || rule.vacant(r) && slices.Contains(rule.Meanwhile, c.Platform)
	switch {
	case c.Gone:
		return "nothing: the native record is deleted"
	case g.Value.IsAbsent():
		return "stays: the field has no golden value"
	case contributes && g.From == Steward:
		return "counts again when the override ends"
	case rule.owns(c.Platform):
		return "counts again when the record is no longer deactivated"
	case contributes && g.Split:
		return "stays: people decide"
	case contributes:
		return "contributes, but the rule prefers " + g.From
	case path == Propose && r.waits(rule, c.Platform, field):
		return "stays: " + r.asked(rule, c.Platform)
	case path == Ignore:
		return "stays: policy ignores it"
	case path == Reject:
		return "is put back, and an exception tells why"
	case path == Revert, path == Propose:
		return "is put back"
	}
	return "has no say"
}

func explainPlatform(r Record, rules Rules, rule Rule, field, p string, as func(string, Value) Value) WhyPlatform {
	v := r.Views[p]
	out := WhyPlatform{Platform: p}
	if v.ID != "" {
		out.Native = v.Ref.String()
	}
	out.Holds, out.Origin = v.Holds(field)
	wrote, written := v.Wrote[field]
	if written && !wrote.When.IsZero() {
		out.Write, out.Written = wrote.Trace, wrote.When
		if !wrote.Over.Value.IsAbsent() && !rule.owns(p) {
			out.PutBack = &PutBack{wrote.Over.Value, wrote.Over.Said, wrote.Over.Trace, rule.Paths[p], rule.At, wrote.When}
		}
	}
	out.Role, out.Status = status(r, rules, rule, field, p, as)
	if out.Written.IsZero() {
		out.NoWrite = out.Status
		if out.Status == StatusAgrees {
			out.NoWrite = "it says the same by itself"
		}
	}
	return out
}

// status is the role of a platform in a field, and how it stands.
func status(r Record, rules Rules, rule Rule, field, p string, as func(string, Value) Value) (role, status string) {
	v, owns := r.Views[p], rule.owns(p)
	switch {
	case !owns && !targets(rule, p) && slices.Contains(rule.Order, p):
		return "contributor", StatusSay
	case !owns && !targets(rule, p):
		return "none", StatusElsewhere
	}
	if role = "target"; owns {
		role = "owner"
	}
	if as == nil {
		return role, StatusUnmapped
	}
	patch := Project(r, rules, p, as)
	_, pending := patch.Fields[field]
	doubt := v.Said[field].Doubt
	_, origin := v.Holds(field)
	switch {
	case patch.Withdraw:
		return role, StatusLeaving
	case patch.Delete:
		return role, StatusDoomed
	case pending:
		return role, StatusPending
	case patch.Kept[field] != "":
		return role, StatusHeld + patch.Kept[field]
	case owns && v.ID == "":
		if why := r.Unwanted(rules, p); why != "" {
			return role, StatusNobody + ": " + why
		}
		return role, StatusNobody
	case owns && doubt != nil:
		return role, StatusDoubt + doubt.Type + ": " + doubt.Detail
	case owns:
		return role, StatusDecides
	case r.Golden[field].Value.IsAbsent(), origin == FromNobody:
		return role, StatusNothing
	}
	if why := r.closed(rules, p); why != "" {
		return role, StatusHeld + why
	}
	return role, StatusAgrees
}
