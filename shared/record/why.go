package record

import (
	"maps"
	"slices"
	"time"
)

// Why explains one field: who won, by which rule, who lost, and what each platform holds and why.
type Why struct {
	Record ID            `json:"record"`
	Field  string        `json:"field"`
	Value  Value         `json:"value,omitzero"`
	From   string        `json:"from,omitempty"` // platform that set it
	Said   time.Time     `json:"said,omitzero"`  // when, by that platform's clock
	Trace  string        `json:"correlationId,omitempty"`
	Rule   string        `json:"rule"`
	At     string        `json:"at"` // file:line:column of the rule
	Policy string        `json:"policyVersion"`
	Losers []WhyLoser    `json:"losers,omitempty"`
	On     []WhyPlatform `json:"platforms"`
}

// WhyLoser is a value that did not win.
type WhyLoser struct {
	Platform string    `json:"platform"`
	Value    Value     `json:"value"`
	Said     time.Time `json:"said,omitzero"`
	Path     Path      `json:"path,omitempty"` // what policy does about it
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
	Status   string    `json:"status"` // agrees, to be written, or the reason for no write
	PutBack  *PutBack  `json:"putBack,omitempty"`
}

// PutBack tells of the last value that someone set on a platform and that we replaced.
type PutBack struct {
	Value Value     `json:"value"`
	Said  time.Time `json:"said"`
	Trace string    `json:"correlationId"`
	Path  Path      `json:"path"`
	At    string    `json:"at"` // of the rule
	When  time.Time `json:"when"`
}

// Explain answers why a field of r has its value. as gives the form that values take on a platform, nil where
// the entity is not mapped. It reports false for a field without a rule.
func Explain(r Record, rules Rules, field string, as func(platform string) func(string, Value) Value) (Why, bool) {
	rule, ok := rules.Fields[field]
	if !ok {
		return Why{}, false
	}
	g := r.Golden[field]
	w := Why{Record: r.ID, Field: field, Value: g.Value, From: g.From, Said: g.Version.At, Trace: g.Trace,
		Rule: rule.Text, At: rule.At, Policy: rules.Version}
	if g.Rule != "" {
		w.Rule, w.At = g.Rule, g.At
	}
	for _, c := range Contributions(r, field) {
		form := as(c.Platform)
		same := c.Value == g.Value || form != nil && form(field, c.Value) == form(field, g.Value)
		if c.Platform != g.From && !same && c.Origin == FromPlatform {
			w.Losers = append(w.Losers, WhyLoser{c.Platform, c.Value, c.Version.At, rule.Paths[c.Platform], c.Trace})
		}
	}
	names := map[string]struct{}{}
	for p := range r.Views {
		names[p] = struct{}{}
	}
	for _, p := range rule.Targets {
		names[p] = struct{}{}
	}
	for _, p := range slices.Sorted(maps.Keys(names)) {
		w.On = append(w.On, explainPlatform(r, rules, rule, field, p, as(p)))
	}
	return w, true
}

func explainPlatform(r Record, rules Rules, rule Rule, field, p string, as func(string, Value) Value) WhyPlatform {
	v := r.Views[p]
	out := WhyPlatform{Platform: p, Role: "none", Status: "not governed here"}
	if v.ID != "" {
		out.Native = v.Ref.String()
	}
	out.Holds, out.Origin = v.Holds(field)
	if wrote, ok := v.Wrote[field]; ok {
		out.Write, out.Written = wrote.Trace, wrote.When
		if !wrote.Over.Value.IsAbsent() {
			out.PutBack = &PutBack{wrote.Over.Value, wrote.Over.Said, wrote.Over.Trace, rule.Paths[p], rule.At, wrote.When}
		}
	}
	switch {
	case rule.Kind == Owner && rule.Owner == p:
		out.Role, out.Status = "owner", "decides"
		if d := v.Said[field].Doubt; d != nil {
			out.Status = d.Type + ": " + d.Detail
		}
	case targets(rule, p) && as != nil:
		out.Role = "target"
		patch := Project(r, rules, p, as)
		_, pending := patch.Fields[field]
		switch {
		case pending:
			out.Status = "to be written"
		case patch.Kept[field] != "":
			out.Status = "not written: " + patch.Kept[field]
		case r.Golden[field].Value.IsAbsent():
			out.Status = "nothing to write"
		default:
			out.Status = "agrees"
		}
	case slices.Contains(rule.Order, p):
		out.Role, out.Status = "contributor", "has a say"
	}
	return out
}
