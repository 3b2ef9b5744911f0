package policy

import (
	"fmt"
	"maps"
	"slices"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

// compileWhole reads what is said about records as wholes: which come into being, where they are copied to, which mean
// the same thing, and what becomes of them when one is deleted.
func (e *entity) compileWhole(ps *source.Problems) {
	root := e.policy.root
	e.checkReferences(ps)
	e.readOrigins(ps)
	e.readCopies(ps)
	block := root.Get("unmatched")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "unmatched must be a block of platform: exception or ignore", "write it as zendesk: ignore")
	}
	for _, x := range block.Entries {
		switch {
		case !e.platform(ps, x.Key):
		case slices.Contains(e.rules.Origins, x.Key.Text):
			ps.Add(x.Key, fmt.Sprintf("nothing is ever unmatched on %s: its new native records become records", x.Key.Text), "remove it, or leave "+x.Key.Text+" out of origins")
		case x.Value.Text == "ignore":
			e.rules.Strangers = append(e.rules.Strangers, x.Key.Text)
		case x.Value.Text != "exception":
			ps.Add(x.Value, fmt.Sprintf("unknown treatment %q of unmatched records", x.Value.Text), source.Suggest(x.Value.Text, []string{"exception", "ignore"}))
		}
	}
	slices.Sort(e.rules.Strangers)
	for _, name := range root.Texts(ps, "workflows") {
		e.rules.Workflows = append(e.rules.Workflows, name.Text)
	}
	e.readDeletes(ps)
	e.readMatch(ps)
}

func (e *entity) readOrigins(ps *source.Problems) {
	root := e.policy.root
	if root.Has("origins") {
		for _, p := range e.known(ps, root.Texts(ps, "origins")) {
			e.rules.Origins = append(e.rules.Origins, p.Text)
		}
		if n := root.Get("origins"); n.Kind == source.List && len(n.Items) == 0 && !e.made() {
			ps.Add(root.Key("origins"), "nothing may bring records of "+e.contract.Entity+" into being: neither a platform, nor a workflow", "name at least one platform, or write assign: workflow for a field")
		}
	} else {
		owned := len(e.rules.Fields) < len(e.contract.Names()) // a field that is missing here may have an owner
		for _, rule := range e.rules.Fields {
			if owned = owned || rule.Kind == record.Owner; rule.Kind == record.Owner && !slices.Contains(e.rules.Origins, rule.Owner) {
				e.rules.Origins = append(e.rules.Origins, rule.Owner)
			}
		}
		if !owned {
			ps.Add(root, "no platform may bring records of "+e.contract.Entity+" into being: no field has an owner", "add origins: [platform]")
		}
	}
	slices.Sort(e.rules.Origins)
}

// made reports whether workflows can make records.
func (e *entity) made() bool {
	for _, rule := range e.rules.Fields {
		if rule.Kind == record.Assign && rule.Eval == nil {
			return true
		}
	}
	return len(e.rules.Fields) < len(e.contract.Names()) // a field that is missing here may be a workflow's
}

// readCopies reads where records get native records of their own: a list of platforms, or for each when.
func (e *entity) readCopies(ps *source.Problems) {
	root := e.policy.root
	n := root.Get("copies")
	if n.Kind == source.None {
		return
	}
	e.rules.Copies = map[string]record.Copy{} // nil would mean all
	if n.Kind != source.Map {
		for _, p := range e.known(ps, root.Texts(ps, "copies")) {
			e.rules.Copies[p.Text] = record.Copy{}
		}
		return
	}
	for _, x := range n.Entries {
		if !e.platform(ps, x.Key) || !x.Value.Known(ps, "the copy on "+x.Key.Text, "when", "withdraw", "alone") {
			continue
		}
		c := record.Copy{When: e.readCondition(ps, x.Value, "when"), Withdraw: e.readCondition(ps, x.Value, "withdraw"), Alone: e.readCondition(ps, x.Value, "alone")}
		if c.When != nil && c.Withdraw != nil && c.When.Text == c.Withdraw.Text {
			ps.Add(x.Value.Get("withdraw"), "what is withdrawn on "+x.Key.Text+" would be created at once again: when and withdraw are the same", "let them exclude each other")
		}
		e.rules.Copies[x.Key.Text] = c
	}
}

// readCondition compiles an expression over golden fields; nil when there is none.
func (e *entity) readCondition(ps *source.Problems, block source.Node, key string) *record.Condition {
	if !block.Has(key) {
		return nil
	}
	n := block.Get(key)
	p := expression.Predicate(n, e.scope(func(contract.Field) bool { return true }, "golden."), ps)
	if p == nil {
		return nil
	}
	if len(p.Names()) == 0 {
		ps.Add(n, fmt.Sprintf("%s: %q mentions no field: it would always say the same", key, p), "mention golden.FIELD, or leave "+key+" out")
	}
	return &record.Condition{Holds: func(look record.Lookup) (bool, error) { return p.Holds(look) }, Text: p.String(), At: n.At()}
}

func deletions() []string {
	return []string{string(record.DeleteIgnored), string(record.DeleteDeactivate), string(record.DeleteProposed), string(record.DeletePropagated)}
}

// readDeletes reads deletes, in one word or by platform, and deactivated.
func (e *entity) readDeletes(ps *source.Problems) {
	root := e.policy.root
	n := root.Get("deletes")
	e.rules.Deletes, e.rules.DeletesAt = map[string]record.Deletion{}, root.Key("deletes").At()
	says := map[string]source.Node{}
	if n.Kind == source.Map {
		for _, x := range n.Entries {
			if e.platform(ps, x.Key) {
				says[x.Key.Text] = x.Value
			}
		}
	} else if root.String(ps, "deletes", true) != "" {
		for _, p := range e.rules.Platforms {
			says[p] = n
		}
	}
	deactivates := false
	for _, p := range slices.Sorted(maps.Keys(says)) {
		switch d := record.Deletion(says[p].Text); {
		case !slices.Contains(deletions(), string(d)):
			ps.Add(says[p], fmt.Sprintf("unknown deletes %q", d), source.Suggest(string(d), deletions()))
			deactivates = true // perhaps
		case d != record.DeleteIgnored:
			e.rules.Deletes[p] = d
			deactivates = deactivates || d == record.DeleteDeactivate || d == record.DeleteProposed
		}
	}
	block := root.Get("deactivated")
	switch {
	case block.Kind == source.None && !deactivates:
		return
	case !deactivates:
		ps.Add(root.Key("deactivated"), "deactivated has no effect: deletes deactivates nothing", "write deletes: deactivate, or remove it")
		return
	case block.Kind == source.Map && len(block.Entries) > 0:
	case len(e.rules.Deletes) > 0:
		ps.Add(root.Key("deletes"), "deletes deactivates records of "+e.contract.Entity+", but nothing says how", "add deactivated: {field: value}, such as {active: false}")
		return
	}
	e.rules.Deactivated = map[string]record.Value{}
	for _, x := range block.Entries {
		name := x.Key.Text
		field, known := e.contract.Field(name)
		if !known {
			ps.Add(x.Key, fmt.Sprintf("unknown field %q of %s", name, e.contract.Name()), source.Suggest(name, e.contract.Names()))
			continue
		}
		v, ok := value(x.Value, field)
		if detail, remedy := field.Fault(v); !ok || detail != "" {
			if !ok {
				detail, remedy = "cannot be "+x.Value.Kind.String(), "write one value of type "+string(field.Type)
			}
			ps.Add(x.Value, fmt.Sprintf("deactivated: %s %s", name, detail), remedy)
			continue
		}
		e.rules.Deactivated[name] = v
		e.checkProposedDeletes(ps, name, says)
	}
}

// checkProposedDeletes looks at the field that a deletion would propose to change.
func (e *entity) checkProposedDeletes(ps *source.Problems, name string, says map[string]source.Node) {
	rule, whole := e.rules.Fields[name]
	for _, p := range slices.Sorted(maps.Keys(says)) {
		if !whole || e.rules.Deletes[p] != record.DeleteProposed {
			continue
		}
		approval := e.approvals[name]
		switch {
		case rule.Kind != record.Owner:
			ps.Add(says[p], fmt.Sprintf("a deletion on %s has nobody to be proposed to: field %s has no owner", p, name), "give "+name+" an owner, or write deactivate")
		case rule.Owner == p:
			ps.Add(says[p], fmt.Sprintf("a deletion on %s cannot be proposed: %s owns %s itself", p, p, name), "write "+p+": deactivate")
		case !e.writes(rule.Owner, name):
			ps.Add(says[p], fmt.Sprintf("a deletion on %s is proposed to %s, but %s does not write %s", p, rule.Owner, e.mappings[rule.Owner].File, name), "map it there with direction: both, or write deactivate")
		case approval == nil:
			ps.Add(says[p], fmt.Sprintf("a deletion on %s is proposed, but nobody approves a change of %s", p, name), "add approval: {approvers: [role]} to the field, its group or the policy")
		default:
			approval.used = true
			rule.Approval = &approval.approval.Approval
			e.rules.Fields[name] = rule
		}
	}
}

// value is what n says, as a value of field; false when it cannot be one.
func value(n source.Node, field contract.Field) (record.Value, bool) {
	switch {
	case n.Kind == source.Null:
		return record.NullValue(), true
	case n.Kind == source.Bool && field.Type == contract.Bool:
		return record.BoolValue(n.Text == "true"), true
	case n.Kind == source.Number && (field.Type == contract.Number || field.Type == contract.Money):
		v, err := record.ParseNumber(n.Text)
		return v, err == nil
	case n.Kind == source.Text && field.Type != contract.Reference:
		return record.TextValue(n.Text), true
	}
	return record.Value{}, false
}

// readMatch reads the rules by which native records are found to mean the same thing.
func (e *entity) readMatch(ps *source.Problems) {
	block := e.policy.root.Get("match")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "match must be a block of name: {by: […]}", "give each rule a name")
	}
	for _, x := range block.Entries {
		name := x.Key.Text
		if name == match.ExternalRule {
			ps.Add(x.Key, fmt.Sprintf("a match rule cannot be called %q: Sorrel's own ids go by that name", name), "give it another name")
		}
		what := "match rule " + name
		if !x.Value.Known(ps, what, "by", "strong") {
			continue
		}
		r := match.Rule{Name: name, Strong: x.Value.Flag(ps, "strong"), At: x.Key.At()}
		by := x.Value.Get("by")
		if by.Kind != source.List || len(by.Items) == 0 {
			ps.Add(x.Key, what+" names no field", "add by: [{field: taxId, as: tax-id}]")
		}
		for _, part := range by.Items {
			if p, ok := e.readPart(ps, what, part); ok && slices.Contains(r.Parts, p) {
				ps.Add(part, fmt.Sprintf("%s names %s twice", what, p.Field), "keep one of them")
			} else if ok {
				r.Parts = append(r.Parts, p)
			}
		}
		e.match = append(e.match, r)
	}
}

func (e *entity) readPart(ps *source.Problems, what string, n source.Node) (match.Part, bool) {
	before := ps.Len()
	if !n.Known(ps, "a part of "+what, "field", "as", "country") {
		return match.Part{}, false
	}
	p := match.Part{Field: n.String(ps, "field", true), Normaliser: n.String(ps, "as", false), Country: n.String(ps, "country", false)}
	if !n.Has("as") {
		ps.Add(n, fmt.Sprintf("%s has no normaliser for %s", what, p.Field), source.Suggest("", match.Normalisers())+"; write it as as: tax-id")
	} else if p.Normaliser != "" && !match.Known(p.Normaliser) {
		ps.Add(n.Get("as"), fmt.Sprintf("unknown normaliser %q", p.Normaliser), source.Suggest(p.Normaliser, match.Normalisers()))
	}
	for _, key := range []string{"field", "country"} {
		name := n.Get(key)
		if name.Text == "" {
			continue
		}
		switch field, known := e.contract.Field(name.Text); {
		case !known:
			ps.Add(name, fmt.Sprintf("unknown field %q of %s", name.Text, e.contract.Name()), source.Suggest(name.Text, e.contract.Names()))
		case field.Type == contract.List || field.Type == contract.Table:
			ps.Add(name, fmt.Sprintf("%s is a %s, which cannot be compared", name.Text, field.Type), "match by a field of one value")
		case !slices.ContainsFunc(e.rules.Origins, func(o string) bool { return e.reads(o, name.Text) }) && len(e.rules.Origins) > 0:
			ps.Add(name, fmt.Sprintf("no platform that brings records of %s into being reads %s", e.contract.Entity, name.Text), "match by a field that one of the origins reads")
		}
	}
	if p.Country != "" && !slices.Contains([]string{"phone", "postcode", "tax-id"}, p.Normaliser) {
		ps.Add(n.Key("country"), "country has no meaning for "+p.Normaliser, "remove it")
	}
	return p, ps.Len() == before
}
