package record

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// governs is the rule that the evidence names.
type governs struct {
	Kind, Text, Owner, Withdrawn string
	Meanwhile, Order             []string
	Vacant                       bool
}

// otherwise is the value of a field about which nobody says anything.
func (g governs) otherwise() (json.RawMessage, string) {
	if g.Withdrawn != "" {
		return json.RawMessage("null"), "sorrel"
	}
	return nil, ""
}

// evidence is the JSON of a Why, as somebody sees it who has nothing else. Values stay JSON.
type evidence struct {
	Value         json.RawMessage
	From          string
	Rule          string
	At            string
	Policy        string  `json:"policyVersion"`
	Governs       governs `json:"governedBy"`
	Contributions []say
	Inputs        []struct {
		Name  string
		Value json.RawMessage
		From  string
	}
	Assigned     *struct{ Value json.RawMessage }
	Override     *struct{ Value json.RawMessage }
	Deactivation *struct {
		Value   json.RawMessage
		Deleted []struct{ Platform, Policy string }
	}
	MergedInto string
	Platforms  []struct {
		Platform, Native, Role, Status, NoWrite string
		Written                                 time.Time
	}
}

type say struct {
	Platform, Origin  string
	Value             json.RawMessage
	Said              time.Time
	Gone, NeverFilled bool
	Filled            struct {
		Fields int
		Said   time.Time
	}
}

func isNull(v json.RawMessage) bool { return string(v) == "null" }

// text is the canonical text of a JSON value.
func text(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

// recompute follows the decision table over the evidence alone. Nil means that there is no golden value.
func (e evidence) recompute() (value json.RawMessage, from string) {
	if e.MergedInto != "" {
		return nil, ""
	}
	if e.Override != nil {
		return e.Override.Value, "steward"
	}
	if e.Deactivation != nil {
		for _, d := range e.Deactivation.Deleted {
			if d.Policy == "deactivate" {
				return e.Deactivation.Value, d.Platform
			}
		}
	}
	kind, order := e.Governs.Kind, e.Governs.Order
	if kind == "owner" && !e.Governs.Vacant {
		for _, c := range e.Contributions {
			if c.Platform == e.Governs.Owner {
				return c.Value, c.Platform
			}
		}
		return e.Governs.otherwise()
	}
	if kind == "owner" {
		kind, order = "rank", e.Governs.Meanwhile
	}
	if kind == "assign" && e.Governs.Text == "assign workflow" {
		if e.Assigned == nil {
			return nil, ""
		}
		return e.Assigned.Value, "sorrel"
	}
	if kind == "assign" || kind == "expr" && len(e.Inputs) > 0 {
		return e.express(kind)
	}
	if kind == "expr" {
		kind = "rank"
	}
	var best *say
	for i, c := range e.Contributions {
		if slices.Contains(order, c.Platform) && (best == nil || slices.Compare(c.strength(kind, order), best.strength(kind, order)) > 0) {
			best = &e.Contributions[i]
		}
	}
	if best == nil {
		return e.Governs.otherwise()
	}
	return best.Value, best.Platform
}

// strength orders contributions under a rule: the greater list wins.
func (c say) strength(kind string, order []string) []int64 {
	out := []int64{-one(c.Gone), one(c.Origin == "platform")}
	at := c.Said.UnixNano()
	if c.Said.IsZero() {
		at = -1 << 62
	}
	switch kind {
	case "rank":
		out = append(out, -one(c.NeverFilled))
	case "latest":
		out = append(out, -one(c.NeverFilled), at)
	case "longest":
		raw := ""
		if !isNull(c.Value) {
			raw = text(c.Value)
		}
		out = append(out, one(!isNull(c.Value)), int64(utf8.RuneCountInString(raw)), at)
	case "first", "hold":
		out = append(out, one(!isNull(c.Value)), -at)
	case "most-complete":
		filled := c.Filled.Said.UnixNano()
		if c.Filled.Said.IsZero() {
			filled = -1 << 62
		}
		out = append(out, int64(c.Filled.Fields), filled)
	}
	return append(out, -int64(slices.Index(order, c.Platform)))
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// express computes the expression in the rule's text from the inputs that are shown.
func (e evidence) express(kind string) (json.RawMessage, string) {
	inputs := map[string]json.RawMessage{}
	known := false
	for _, i := range e.Inputs {
		inputs[i.Name] = i.Value
		known = known || i.From != ""
	}
	words := strings.Fields(e.Governs.Text)
	if !known {
		return nil, ""
	}
	var v json.RawMessage
	switch words[0] {
	case "coalesce":
		v = json.RawMessage("null")
		for _, name := range words[1:] {
			if in, asked := inputs[name]; asked && !isNull(in) {
				v = in
				break
			}
		}
	case "joined":
		all := ""
		for _, name := range words[1:] {
			in := inputs[name]
			if string(in) == "true" || string(in) == "false" {
				return nil, ""
			}
			if !isNull(in) {
				all += text(in)
			}
		}
		v, _ = json.Marshal(all)
	}
	if kind == "expr" {
		for _, p := range e.Governs.Order {
			for _, i := range e.Inputs {
				if i.Name == p && i.From != "" && bytes.Equal(i.Value, v) {
					return v, p
				}
			}
		}
	}
	return v, "sorrel"
}

// explained asks why for every field, and recomputes it from what is answered.
func (w *world) explained() {
	patches := map[string]Patch{}
	for _, p := range everyPlatform {
		patches[p] = Project(w.r, w.rules, p, w.forms(p))
	}
	for f, rule := range w.rules.Fields {
		why, some := Explain(w.r, w.rules, f, w.forms)
		w.must(some, "%s is governed, and there is no why", f)
		doc, err := json.Marshal(why)
		w.must(err == nil, "why of %s has no JSON: %v", f, err)
		var e evidence
		w.must(json.Unmarshal(doc, &e) == nil, "why of %s cannot be read: %s", f, doc)
		value, from := e.recompute()
		w.must(bytes.Equal(value, e.Value) && from == e.From, "%s is %s from %q, but the evidence gives %s from %q: %s", f, e.Value, e.From, value, from, doc)
		golden := w.r.Golden[f]
		stated, _ := json.Marshal(golden.Value)
		w.must(golden.Value.IsAbsent() && e.Value == nil || bytes.Equal(stated, e.Value), "%s is %s, but why says %s", f, stated, e.Value)
		w.must(e.Rule != "" && e.At != "" && e.Policy == w.rules.Version, "%s: the rule is not told: %s", f, doc)
		w.mustLose(f, rule, why, patches)
		w.mustStand(f, why, patches)
	}
}

// mustLose checks that the losers are those who set something else, each with what happens to it.
func (w *world) mustLose(f string, rule Rule, why Why, patches map[string]Patch) {
	for _, l := range why.Losers {
		holds, origin := w.r.Views[l.Platform].Holds(f)
		w.must(origin == FromPlatform && holds == l.Value && l.Value != why.Value, "%s: %+v is no loser", f, l)
		w.must(l.Path == rule.Paths[l.Platform] && l.Effect != "", "%s: it is not told what happens to %+v", f, l)
		_, written := patches[l.Platform].Fields[f]
		w.must(!written || !strings.HasPrefix(l.Effect, "stays"), "%s: %+v does not stay", f, l)
	}
}

// mustStand checks that the status of each platform is one of the known ones and what Project says.
func (w *world) mustStand(f string, why Why, patches map[string]Patch) {
	known := []string{StatusDecides, StatusNobody, StatusAgrees, StatusPending, StatusDoomed, StatusLeaving, StatusNothing, StatusSay, StatusUnmapped, StatusElsewhere}
	w.must(len(why.On) == len(everyPlatform), "%s: %d platforms are told about", f, len(why.On))
	for _, on := range why.On {
		s, v := w.on[on.Platform], w.r.Views[on.Platform]
		reason, held := strings.CutPrefix(on.Status, StatusHeld)
		if !held {
			reason = ""
		}
		w.must(slices.Contains(known, on.Status) || held || strings.HasPrefix(on.Status, StatusDoubt) || strings.HasPrefix(on.Status, StatusNobody+": "), "%s on %s: unknown status %q", f, on.Platform, on.Status)
		patch := patches[on.Platform]
		value, pending := patch.Fields[f]
		w.must(pending == (on.Status == StatusPending), "%s on %s: status %q, but to be written: %v %v", f, on.Platform, on.Status, pending, value)
		w.must(patch.Kept[f] == reason || patch.Kept[f] == "" && v.Gone(), "%s on %s: status %q, but kept because %q", f, on.Platform, on.Status, patch.Kept[f])
		w.must(patch.Delete == (on.Status == StatusDoomed || on.Status == StatusLeaving) || on.Role == "contributor" || on.Role == "none", "%s on %s: status %q, but to be deleted: %v", f, on.Platform, on.Status, patch.Delete)
		if on.Status == StatusAgrees && len(s.sent) == 0 && !w.storm && !s.clouded[f] {
			w.must(s.normal(s.fields[f]) == s.normal(why.Value) || s.fields[f].IsAbsent(), "%s on %s: agrees, but has %v and not %v", f, on.Platform, s.fields[f], why.Value)
		}
		wrote, some := v.Wrote[f]
		some = some && !wrote.When.IsZero()
		w.must(some == (on.NoWrite == "") && on.Written.Equal(wrote.When) && (!some || on.Write == wrote.Trace),
			"%s on %s: written %v by %q, or not because of %q; the write is %+v", f, on.Platform, on.Written, on.Write, on.NoWrite, wrote)
	}
}

// Whoever reads why a value came about finds who approved it.
func TestWhyNamesTheApproval(t *testing.T) {
	t.Parallel()
	c := newCase(t, map[string]Rule{"street": {Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: Propose}, Targets: []string{Salesforce},
		Text: "owner netsuite", At: "customer.yaml:3:1", Group: "billing", Approval: &Approval{At: "customer.yaml:4:1"}}})
	c.say(NetSuite, "street", TextValue("old"))
	c.say(Salesforce, "street", TextValue("old"))
	c.say(Salesforce, "street", TextValue("new"))
	p := c.proposal(Salesforce, "billing")
	c.decide(p.ID, true)
	c.write(NetSuite, "street", TextValue("new"))
	c.say(NetSuite, "street", TextValue("new"))
	why, _ := Explain(c.r, c.rules, "street", plain)
	a := why.Approved
	if why.Value != TextValue("new") || a == nil || a.By != "fiona" || a.Proposal != p.ID || a.Platform != Salesforce || a.Value != why.Value || a.Decided.IsZero() {
		t.Fatalf("why: %v, approved %+v", why.Value, a)
	}
	doc, err := json.Marshal(why)
	if err != nil || !strings.Contains(string(doc), `"by":"fiona"`) {
		t.Errorf("the JSON does not name who approved (%v): %s", err, doc)
	}
	c.say(NetSuite, "street", TextValue("newest"))
	if why, _ := Explain(c.r, c.rules, "street", plain); why.Approved != nil {
		t.Errorf("the owner has changed the value since, but the approval is told of: %+v", why.Approved)
	}
}

// A case is a record that is played by hand.
type casus struct {
	t     *testing.T
	r     Record
	rules Rules
	now   time.Time
	out   Outcome
}

func newCase(t *testing.T, fields map[string]Rule) *casus {
	return &casus{t: t, r: Record{ID: "customer/1", Views: map[string]View{}}, now: epoch,
		rules: Rules{Entity: "customer", Version: "v1", Fields: fields, Platforms: everyPlatform}}
}

func (c *casus) fold() {
	c.t.Helper()
	c.r, c.out = Fold(c.r, c.rules, plain, c.now)
}

// say lets a platform say something, a minute later.
func (c *casus) say(platform, field string, v Value) {
	c.now = c.now.Add(time.Minute)
	c.observe(Observation{Ref: Ref{platform, "customer", "7"}, Version: Version{At: c.now}, Fields: map[string]Value{field: v},
		Trace: platform + " says " + v.String(), Timed: c.rules.Timed()})
}

func (c *casus) observe(o Observation) {
	c.t.Helper()
	c.r = c.r.Clone()
	c.r.Views[o.Platform], _ = Observe(c.r.Views[o.Platform], o)
	c.fold()
}

func (c *casus) patch(platform string) Patch { return Project(c.r, c.rules, platform, same) }

// write expects that exactly one field is to be written to a platform, and confirms that.
func (c *casus) write(platform, field string, want Value) {
	c.t.Helper()
	patch := c.patch(platform)
	if !maps.Equal(patch.Fields, map[string]Value{field: want}) {
		c.t.Fatalf("to be written to %s: %v (kept: %v), want %s %v", platform, patch.Fields, patch.Kept, field, want)
	}
	c.now = c.now.Add(time.Minute)
	v := c.r.Views[platform]
	v.Ref = Ref{platform, "customer", "7"}
	c.r = c.r.Clone()
	c.r.Views[platform] = Confirm(v, v, patch.Fields, Version{At: c.now}, c.now, "write")
	c.fold()
}

// silent expects that nothing is to be written to a platform.
func (c *casus) silent(platform string) {
	c.t.Helper()
	if patch := c.patch(platform); !patch.Empty() {
		c.t.Errorf("to be written to %s: %v, want nothing", platform, patch.Fields)
	}
}

func (c *casus) golden(field string, want Value) {
	c.t.Helper()
	if got := c.r.Golden[field].Value; got != want {
		c.t.Errorf("%s is %v, want %v", field, got, want)
	}
}

func (c *casus) proposal(platform, group string) Proposal {
	c.t.Helper()
	p, some := c.r.Proposals[ProposalKey(platform, group)]
	if !some {
		c.t.Fatalf("%s proposes nothing in %s", platform, group)
	}
	return p
}

func (c *casus) decide(id string, approve bool) {
	c.t.Helper()
	var err error
	if c.r, _, err = Decide(c.r, Verdict{Proposal: id, Approve: approve, By: "fiona"}, c.now); err != nil {
		c.t.Fatal(err)
	}
	c.fold()
}
