package record

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Contribution is one platform's say in one field.
type Contribution struct {
	Platform string
	Value    Value
	Version  Version // since when it is said, as far as the field is timed
	Trace    string
	Actor    string
	Origin   Origin
	Gone     bool // the native record is deleted
	Blank    bool // it is null, and nobody is known to have set that
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
	Actor         string `json:"actor,omitempty"`
}

// Event is one step in the life of what people decide about: a proposal, an override, a merge.
type Event struct {
	Action   string   `json:"action"` // such as proposed, approved, expired, applied, override-ended, merged
	Platform string   `json:"platform,omitempty"`
	Fields   []string `json:"fields,omitempty"`
	Proposal string   `json:"proposal,omitempty"`
	By       string   `json:"by,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	At       string   `json:"rule,omitempty"` // file:line:column of the rule, if one decided
	Trace    string   `json:"correlationId,omitempty"`
}

// Forms gives, for a platform, the form that values take there: nil where the entity is not mapped.
type Forms func(platform string) func(field string, v Value) Value

// same reports whether two values of a field are one on a platform, such as null and an empty list where both are
// stored as nothing.
func (f Forms) same(platform, field string, a, b Value) bool {
	if a == b {
		return true
	}
	form := f(platform)
	return form != nil && form(field, a) == form(field, b)
}

// Outcome is what a fold found out.
type Outcome struct {
	Changes   []Change   // against the golden fields that the record had, sorted by field
	Decisions []Decision // about losers, sorted by field and platform
	Events    []Event
	Closed    []Proposal // that ended in this fold: withdrawn, or decided and followed by the platform that asked

	applied []Proposal // whose owners have said what was approved, in this fold
}

// Steward and Sorrel are where golden values come from that no platform said.
const (
	Steward = "steward"
	Sorrel  = "sorrel"
)

// Fold computes the golden fields of r from its views, the rules and what people decided, as of now, and moves
// proposals and overrides on. It returns the record with Golden, Proposals, Overrides, Granted, Seq and Policy set,
// and with its views agreed: see agree.
//
// For each field, the first of these that applies gives the golden value: a steward's override; the value that a
// deletion gives it; the rule.
func Fold(r Record, rules Rules, forms Forms, now time.Time) (Record, Outcome) {
	var out Outcome
	if r.Into != "" {
		withdraw(r, &out)
		r.Golden, r.Held, r.Proposals, r.Policy = nil, nil, nil, rules.Version
		return r, out
	}
	r.Overrides = standing(r, rules, forms, now, &out)
	r, _ = r.left()
	golden, agreed := choose(r, rules, forms, &out)
	for r = r.leave(rules, golden); ; { // what is withdrawn is gone already where people were faster: then it never was
		after, some := r.left()
		if !some {
			break
		}
		out.Changes, out.Decisions = nil, nil
		golden, agreed = choose(after, rules, forms, &out)
		r = after.leave(rules, golden)
	}
	if len(out.Changes) > 1 {
		slices.SortFunc(out.Changes, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
	}
	slices.SortFunc(out.Decisions, func(a, b Decision) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Loser.Platform, b.Loser.Platform))
	})
	r.Golden, r.Policy = golden, rules.Version
	r.Views = agree(r, agreed)
	r.Proposals = propose(r, rules, forms, now, &out)
	r.Granted = granted(r, out.applied)
	if len(out.Changes) > 0 {
		r.Seq++
	}
	return r, out
}

// choose decides all fields: the golden ones, and the values that agree with them.
func choose(r Record, rules Rules, forms Forms, out *Outcome) (map[string]Golden, []agreement) {
	golden := make(map[string]Golden, len(rules.Fields))
	platforms := slices.Sorted(maps.Keys(r.Views))
	var room []Contribution
	var computed []string
	var agreed []agreement
	settle := func(field string, rule Rule) {
		room = contributions(room[:0], r, platforms, field)
		won, ok := decide(r, rules, room, field, rule, golden)
		old := r.Golden[field]
		if old.Value != won.Value {
			c := Change{Field: field, Before: old.Value, After: won.Value, From: won.From, Rule: won.Rule, Trace: won.Trace}
			if won.From != Steward && won.From != Sorrel {
				if said := r.Views[won.From].Said[field]; said.Value == won.Value {
					c.Actor = said.Actor
				}
			}
			out.Changes = append(out.Changes, c)
		}
		if !ok {
			return
		}
		golden[field] = won
		out.Decisions = losers(out.Decisions, r, forms, room, field, rule, won)
		agreed = agreements(agreed, r, forms, room, field, rule, won)
	}
	for field, rule := range rules.Fields {
		if rule.Kind == Assign && rule.Eval != nil {
			computed = append(computed, field)
			continue
		}
		settle(field, rule)
	}
	for _, field := range computed { // they refer to golden fields that are not computed
		settle(field, rules.Fields[field])
	}
	return golden, agreed
}

// losers appends what paths decide about values that people set and that did not win.
func losers(out []Decision, r Record, forms Forms, all []Contribution, field string, rule Rule, won Golden) []Decision {
	for _, c := range all {
		if c.Origin != FromPlatform || c.Gone || c.Platform == won.From || c.Value == won.Value || c.Blank {
			continue
		}
		path := rule.Paths[c.Platform]
		if path == "" || path == Accept || path == Propose && rule.vacant(r) || r.agrees(forms, c, field, rule, won) {
			continue
		}
		out = append(out, Decision{field, c, path, won.Value, rule.At})
	}
	return out
}

// agrees reports whether a platform says what is golden, or what the owner says: golden may be something else for a
// while, such as an override.
func (r Record) agrees(forms Forms, c Contribution, field string, rule Rule, won Golden) bool {
	if forms.same(c.Platform, field, c.Value, won.Value) {
		return true
	}
	owner, some := r.says(rule.Owner, field)
	return some && rule.Kind == Owner && forms.same(c.Platform, field, c.Value, owner.Value)
}

// agreement is a value that a platform set by itself and that is the golden one, or the owner's.
type agreement struct{ platform, field string }

// agreements appends where platforms that may differ from golden, for a while or for ever, do not.
func agreements(out []agreement, r Record, forms Forms, all []Contribution, field string, rule Rule, won Golden) []agreement {
	for _, c := range all {
		path := rule.Paths[c.Platform]
		if path != Propose && path != Ignore || c.Origin != FromPlatform || c.Gone || rule.vacant(r) {
			continue
		}
		if r.agrees(forms, c, field, rule, won) {
			out = append(out, agreement{c.Platform, field})
		}
	}
	return out
}

// agree counts values that platforms set and that are golden as if we had written them (with no When: nothing was
// written). Were they still somebody's, the next change of golden would be taken for a change of theirs: the owner
// changes a field, and all who had agreed with it would propose to change it back.
func agree(r Record, agreed []agreement) map[string]View {
	if len(agreed) == 0 {
		return r.Views
	}
	views := maps.Clone(r.Views)
	for _, a := range agreed {
		v := views[a.platform]
		c := v.Said[a.field]
		if v.Wrote = maps.Clone(v.Wrote); v.Wrote == nil {
			v.Wrote = map[string]Wrote{}
		}
		v.Wrote[a.field] = Wrote{Value: c.Value, Base: c.Version, Trace: c.Trace}
		views[a.platform] = v
	}
	return views
}

// vacant reports whether the field's owner has no native record yet, so that others decide meanwhile.
func (rule Rule) vacant(r Record) bool {
	return rule.Kind == Owner && len(rule.Meanwhile) > 0 && r.Views[rule.Owner].ID == ""
}

// says is what an owner says in a field of its own. As long as it has said nothing, not even null, the value that
// it got when it was created counts, whoever decided that; what an approved proposal changes does not count before the owner
// says it.
func (r Record) says(owner, field string) (Contribution, bool) {
	v := r.Views[owner]
	if c := v.Said[field]; !c.Value.IsAbsent() {
		return Contribution{owner, c.Value, c.Version, c.Trace, c.Actor, FromPlatform, v.Gone(), v.blank(field)}, true
	}
	w, wrote := v.Wrote[field]
	if !wrote {
		return Contribution{}, false
	}
	if ask, _, waits := r.approved(owner, field); waits && !ask.Before.IsAbsent() {
		w.Value = ask.Before
	}
	return Contribution{owner, w.Value, w.Base, w.Trace, "", FromSorrel, v.Gone(), false}, true
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
		said := v.Said[field]
		c := Contribution{p, value, v.Since(field), said.Trace, said.Actor, origin, v.Gone(), v.blank(field)}
		if w, wrote := v.Wrote[field]; wrote && origin == FromSorrel {
			c.Value = w.Value // not what the platform made of it
			if w.Base.Compare(c.Version) >= 0 {
				c.Version, c.Trace, c.Actor = w.Base, w.Trace, ""
			}
		}
		out = append(out, c)
	}
	return out
}

func decide(r Record, rules Rules, all []Contribution, field string, rule Rule, golden map[string]Golden) (Golden, bool) {
	if o, overridden := r.Overrides[field]; overridden {
		return Golden{Value: o.Value, From: Steward, Version: Version{At: o.When}, Trace: o.Trace, Rule: o.text(), At: rule.At}, true
	}
	if v, deactivates := rules.Deactivated[field]; deactivates {
		if p, died := dead(r, rules); p != "" {
			return Golden{Value: v, From: p, Version: died, Rule: "deactivated: deleted on " + p, At: rules.DeletesAt}, true
		}
	}
	g, ok := winner(r, all, field, rule, golden)
	if !ok && rule.Kind == Owner && r.withdrawn(rule) != "" { // what its native record said is nowhere any more
		g, ok = Golden{Value: NullValue(), From: Sorrel, At: rule.At}, true
	}
	if ok {
		g.Rule = rule.Text
	}
	return g, ok
}

// dead names the first platform whose native record was deleted, not merged, where policy deactivates then.
func dead(r Record, rules Rules) (string, Version) {
	first := ""
	for p, v := range r.Views {
		if rules.Deletes[p] == DeleteDeactivate && v.Gone() && v.Into == "" && (first == "" || p < first) {
			first = p
		}
	}
	return first, r.Views[first].Died
}

// winner applies one rule. For latest and rank, null is a say like any other once somebody has set it, but a field that
// was never filled says less than any other; the rules about length, completeness
// and age prefer any value to null. Values that we wrote ourselves count only when nobody else says anything, and
// those of deleted native records only when no other is left.
func winner(r Record, all []Contribution, field string, rule Rule, golden map[string]Golden) (Golden, bool) {
	switch rule.Kind {
	case Assign:
		return assigned(r, field, rule, golden)
	case Owner:
		if rule.vacant(r) {
			return best(r, all, Rule{Kind: Rank, Order: rule.Meanwhile, At: rule.At})
		}
		c, some := r.says(rule.Owner, field)
		return Golden{Value: c.Value, From: rule.Owner, Version: c.Version, Trace: c.Trace, At: rule.At}, some
	case Expr:
		return evaluated(r, all, field, rule)
	}
	g, ok := best(r, all, rule)
	if ok && rule.Kind == Unanimous {
		g.Split = slices.ContainsFunc(all, func(c Contribution) bool {
			return c.Value != g.Value && c.Origin == FromPlatform && !c.Gone && !c.Blank && slices.Contains(rule.Order, c.Platform)
		})
	}
	return g, ok
}

func best(r Record, all []Contribution, rule Rule) (Golden, bool) {
	var won Contribution
	found := false
	for _, c := range all {
		if slices.Contains(rule.Order, c.Platform) && (!found || beats(r, c, won, rule)) {
			won, found = c, true
		}
	}
	if !found {
		return Golden{}, false
	}
	return Golden{Value: won.Value, From: won.Platform, Version: won.Version, Trace: won.Trace, At: rule.At}, true
}

// beats reports whether a wins over b.
func beats(r Record, a, b Contribution, rule Rule) bool {
	if a.Gone != b.Gone {
		return b.Gone
	}
	if a.Origin != b.Origin {
		return a.Origin == FromPlatform
	}
	prefer := 0
	newest := a.Version.At.Compare(b.Version.At)
	some := func(v Value) int { return truth(!v.IsNull()) }
	switch rule.Kind {
	case Rank:
		prefer = truth(!a.Blank) - truth(!b.Blank)
	case Latest:
		prefer = cmp.Or(truth(!a.Blank)-truth(!b.Blank), newest)
	case Longest:
		prefer = cmp.Or(some(a.Value)-some(b.Value), utf8.RuneCountInString(a.Value.Raw())-utf8.RuneCountInString(b.Value.Raw()), newest)
	case First, Unanimous:
		prefer = cmp.Or(some(a.Value)-some(b.Value), -newest)
	case MostComplete:
		filled, at := completeness(r.Views[a.Platform], rule.Set)
		others, then := completeness(r.Views[b.Platform], rule.Set)
		prefer = cmp.Or(filled-others, at.Compare(then))
	}
	return cmp.Or(prefer, slices.Index(rule.Order, b.Platform)-slices.Index(rule.Order, a.Platform), strings.Compare(b.Platform, a.Platform)) > 0
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// completeness counts the fields of set that people have filled on a platform, and tells when they last changed one.
func completeness(v View, set []string) (filled int, newest time.Time) {
	for _, f := range set {
		said, some := v.spoken(f)
		if !some || said.Value.IsNull() || said.Value.Raw() == "" {
			continue
		}
		filled++
		if said.Version.At.After(newest) {
			newest = said.Version.At
		}
	}
	return filled, newest
}

// spoken is what people last said in a field: what Sorrel wrote over it does not count. Rules that look at more than
// one value to choose one would otherwise be fed their own results.
func (v View) spoken(field string) (Golden, bool) {
	value, origin := v.Holds(field)
	if origin == FromPlatform {
		return Golden{Value: value, From: v.Platform, Version: v.Since(field), Trace: v.Said[field].Trace}, true
	}
	over := v.Wrote[field].Over
	return Golden{Value: over.Value, From: v.Platform, Version: Version{At: over.Said}, Trace: over.Trace}, !over.Value.IsAbsent()
}

// spoken is what people said on the platforms that an expression looks at. Deleted native records count when no other
// is left.
func (rule Rule) spoken(r Record, field string) map[string]Golden {
	living, gone := map[string]Golden{}, map[string]Golden{}
	for _, p := range rule.Order {
		v := r.Views[p]
		g, some := v.spoken(field)
		switch {
		case some && v.Gone():
			gone[p] = g
		case some:
			living[p] = g
		}
	}
	if len(living) == 0 {
		return gone
	}
	return living
}

// evaluated asks the rule's expression. An expression that fails says nothing: the field has no golden value then,
// and nothing is written anywhere. Where nobody has said anything, what we wrote ourselves stays.
func evaluated(r Record, all []Contribution, field string, rule Rule) (Golden, bool) {
	said := rule.spoken(r, field)
	if len(said) == 0 {
		return best(r, all, Rule{Kind: Rank, Order: rule.Order, At: rule.At})
	}
	v, err := rule.Eval(func(name string) Value { return nullFor(said[name].Value) })
	if err != nil || v.IsAbsent() {
		return Golden{}, false
	}
	g := Golden{Value: v, From: Sorrel, At: rule.At}
	for _, p := range rule.Order { // of the platforms that say it, the first; of those that do not, the newest
		c, some := said[p]
		switch {
		case some && c.Value == v && g.From == Sorrel:
			g.From, g.Version, g.Trace = p, c.Version, c.Trace
		case some && g.From == Sorrel && c.Version.At.After(g.Version.At):
			g.Version, g.Trace = c.Version, c.Trace
		}
	}
	return g, true
}

// Assigned is a value that a workflow or a person gave to a field that Sorrel itself sets.
type Assigned struct {
	Value Value     `json:"value"`
	When  time.Time `json:"when"`
	By    string    `json:"by"`
	Trace string    `json:"trace,omitempty"`
}

func assigned(r Record, field string, rule Rule, golden map[string]Golden) (Golden, bool) {
	if rule.Eval == nil {
		a, some := r.Assigned[field]
		return Golden{Value: a.Value, From: Sorrel, Version: Version{At: a.When}, Trace: a.Trace, At: rule.At}, some
	}
	var newest Golden
	v, err := rule.Eval(func(name string) Value {
		g, some := golden[name]
		if some && (newest.From == "" || g.Version.At.After(newest.Version.At)) {
			newest = g
		}
		return nullFor(g.Value)
	})
	if err != nil || v.IsAbsent() || newest.From == "" {
		return Golden{}, false
	}
	return Golden{Value: v, From: Sorrel, Version: newest.Version, Trace: newest.Trace, At: rule.At}, true
}

// Override is a value that a steward set: it wins over every rule.
type Override struct {
	Value  Value            `json:"value"`
	By     string           `json:"by"`
	Reason string           `json:"reason,omitempty"`
	When   time.Time        `json:"when"`
	Until  time.Time        `json:"until,omitzero"` // zero: until a platform says something new
	Seen   map[string]Value `json:"seen,omitempty"` // with no Until: what the platforms had said
	Trace  string           `json:"trace,omitempty"`
}

func (o Override) text() string {
	if o.Until.IsZero() {
		return "chosen by " + o.By
	}
	return "override by " + o.By + " until " + o.Until.UTC().Format(time.RFC3339)
}

// standing are the overrides that have not ended.
func standing(r Record, rules Rules, forms Forms, now time.Time, out *Outcome) map[string]Override {
	var ended []string
	for f, o := range r.Overrides {
		over := !o.Until.IsZero() && !now.Before(o.Until)
		if o.Until.IsZero() {
			for p, v := range r.Views {
				value, origin := v.Holds(f)
				if origin == FromPlatform && value != nullFor(o.Seen[p]) && !forms.same(p, f, value, o.Value) {
					over = true
				}
			}
		}
		if _, governed := rules.Fields[f]; over || !governed {
			ended = append(ended, f)
		}
	}
	if len(ended) == 0 {
		return r.Overrides
	}
	slices.Sort(ended)
	left := maps.Clone(r.Overrides)
	for _, f := range ended {
		out.Events = append(out.Events, Event{Action: "override-ended", Fields: []string{f}, By: Sorrel, Detail: left[f].text(), Trace: left[f].Trace})
		delete(left, f)
	}
	return left
}

// Chosen makes an override that stands until a platform says something new about the field.
func Chosen(r Record, field string, o Override) Override {
	o.Until, o.Seen = time.Time{}, make(map[string]Value, len(r.Views))
	for p, v := range r.Views {
		if c, some := v.Said[field]; some && !c.Value.IsAbsent() {
			o.Seen[p] = c.Value
		}
	}
	return o
}
