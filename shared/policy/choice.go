package policy

import (
	"fmt"
	"slices"
	"strings"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/record"
)

// choice is what a level says about who decides its fields.
type choice struct {
	kind     record.Survivorship
	owner    string
	of       []source.Node
	together []source.Node // nil: the fields of the group
	value    source.Node   // the expression of expr or assign
	at       source.Node   // the key
}

// workflow as an assignment means that something else sets the value.
const workflow = "workflow"

func survivorships() []string {
	return []string{string(record.Latest), string(record.Rank), string(record.Longest), string(record.MostComplete), string(record.First), string(record.Unanimous), string(record.Expr)}
}

// readChoice reads owner, survivorship or assign with what belongs to each.
func (e *entity) readChoice(ps *source.Problems, l *level) {
	n := l.node
	one := ""
	for _, key := range []string{"owner", "survivorship", "assign"} {
		if !n.Has(key) {
			continue
		}
		if one != "" {
			article := map[string]string{"owner": "an owner", "survivorship": "a survivorship", "assign": "an assignment"}
			ps.Add(n.Key(key), fmt.Sprintf("%s has %s and %s", l.what, article[one], article[key]), "keep one of them")
			return
		}
		one = key
	}
	survivorship := record.Survivorship(n.Get("survivorship").Text)
	only := func(key string, fits bool, with string) {
		if n.Has(key) && !fits {
			ps.Add(n.Key(key), key+" has no meaning without "+with, "write them together, or remove it")
		}
	}
	only("meanwhile", one == "owner", "an owner")
	only("of", one == "survivorship", "a survivorship")
	only("together", survivorship == record.MostComplete, "survivorship: most-complete")
	only("value", survivorship == record.Expr, "survivorship: expr")
	c := &choice{at: n.Key(one)}
	switch one {
	case "owner":
		if owner := n.Get("owner"); owner.Kind == source.List {
			ps.Add(owner, l.what+" has several owners", "name one, or write survivorship: latest with of:")
		} else if name := n.String(ps, "owner", true); name != "" && e.platform(ps, owner) {
			c.kind, c.owner = record.Owner, name
			e.readMeanwhile(ps, l, name)
			l.choice = c
		}
	case "survivorship":
		if e.readSurvivorship(ps, l, c, survivorship) {
			l.choice = c
		}
	case "assign":
		c.kind, c.value = record.Assign, n.Get("assign")
		l.choice = c
	}
}

func (e *entity) readMeanwhile(ps *source.Problems, l *level, owner string) {
	for _, p := range e.known(ps, l.node.Texts(ps, "meanwhile")) {
		if p.Text == owner {
			ps.Add(p, owner+" owns the field and stands under its own meanwhile", "name the platforms that decide while "+owner+" has no native record")
			continue
		}
		l.meanwhile = append(l.meanwhile, &clause{node: p, what: "meanwhile " + p.Text})
	}
}

func (e *entity) readSurvivorship(ps *source.Problems, l *level, c *choice, kind record.Survivorship) bool {
	n := l.node
	said := n.Get("survivorship")
	if !slices.Contains(survivorships(), string(kind)) {
		ps.Add(said, fmt.Sprintf("unknown survivorship %q", said.Text), source.Suggest(said.Text, survivorships()))
		return false
	}
	c.kind, c.of = kind, e.known(ps, n.Texts(ps, "of"))
	if of := n.Get("of"); of.Kind == source.None || of.Kind == source.List && len(of.Items) == 0 {
		ps.Add(said, l.what+" does not say which platforms may contribute", "add of: [platform, platform]")
	}
	for _, f := range n.Texts(ps, "together") {
		if _, known := e.contract.Field(f.Text); !known {
			ps.Add(f, fmt.Sprintf("unknown field %q of %s", f.Text, e.contract.Name()), source.Suggest(f.Text, e.contract.Names()))
			continue
		}
		c.together = append(c.together, f)
	}
	if c.value = n.Get("value"); kind == record.Expr && c.value.Kind == source.None {
		ps.Add(said, l.what+" has no expression", "add value: 'salesforce ?? netsuite' or another expression over the platforms of of:")
		return false
	}
	return true
}

// decide makes the part of a field's rule that says where its value comes from.
func (e *entity) decide(ps *source.Problems, name string, from, group *level) record.Rule {
	c := from.choice
	field, _ := e.contract.Field(name)
	r := record.Rule{Kind: c.kind, Owner: c.owner, At: c.at.At()}
	for _, p := range c.of {
		r.Order = append(r.Order, p.Text)
	}
	r.Text = string(c.kind) + " of " + strings.Join(r.Order, ", ")
	deciders, at := r.Order, from.node.Get("of")
	switch c.kind {
	case record.Owner:
		r.Text = "owner " + c.owner
		deciders, at = []string{c.owner}, from.node.Get("owner")
		r.Meanwhile = e.stands(ps, name, from)
	case record.Longest:
		if field.Type != contract.Text {
			ps.Add(c.at, fmt.Sprintf("longest compares texts, %q is a %s", name, field.Type), "use another survivorship")
		}
	case record.MostComplete:
		for _, f := range c.together {
			r.Set = append(r.Set, f.Text)
		}
		if c.together == nil && group != nil {
			r.Set = slices.Clone(group.members)
		}
		if !slices.Contains(r.Set, name) {
			r.Set = append(r.Set, name)
		}
		if len(r.Set) < 2 {
			ps.Add(c.at, fmt.Sprintf("most-complete judges several fields, %q stands alone", name), "put it into a group, add together: [field, field], or use another survivorship")
		}
		slices.Sort(r.Set)
	case record.Expr:
		r.Text = "expr " + short(c.value.Text)
		r.Eval = e.evaluated(ps, field, r.Order, c)
	case record.Assign:
		r.Text = "assign " + short(c.value.Text)
		if c.value.Text != workflow {
			r.Eval = e.assigned(ps, field, c)
		}
	}
	for _, p := range deciders {
		if !e.reads(p, name) {
			ps.Add(at, fmt.Sprintf("%s decides %q, but %s does not read it", p, name, e.mappings[p].File), "map it there, or give the field another rule")
		}
	}
	return r
}

// stands lists the platforms that decide a field while its owner has no native record.
func (e *entity) stands(ps *source.Problems, name string, from *level) []string {
	var out []string
	for _, c := range from.meanwhile {
		p := c.node.Text
		if e.reads(p, name) {
			c.used = true
			out = append(out, p)
			continue
		}
		c.idle = fmt.Sprintf("%s does not read %q", e.mappings[p].File, name)
	}
	if owner := from.choice.owner; len(out) > 0 && !e.writes(owner, name) {
		ps.Add(from.node.Key("meanwhile"), fmt.Sprintf("others decide %q meanwhile, but %s does not write it: %s would never be told", name, e.mappings[owner].File, owner),
			"map it there with direction: both, or leave meanwhile out for this field")
	}
	return out
}

// short keeps an expression fit for the words that stand beside each golden value.
func short(text string) string {
	const most = 40
	r := []rune(strings.Join(strings.Fields(text), " "))
	if len(r) <= most {
		return string(r)
	}
	return string(r[:most-1]) + "…"
}

// evaluated compiles the expression of a survivorship: each platform's name stands for what it says.
func (e *entity) evaluated(ps *source.Problems, field contract.Field, of []string, c *choice) func(record.Lookup) (record.Value, error) {
	scope := expression.Scope{}
	for _, p := range of {
		scope[p] = field
	}
	program := expression.Compile(c.value, scope, field, ps)
	if program == nil {
		return nil
	}
	for _, p := range c.of {
		if !slices.Contains(program.Names(), p.Text) {
			ps.Add(p, fmt.Sprintf("%s stands under of:, but the expression %q does not ask for it", p.Text, program), "mention it there, or leave it out of of:")
		}
	}
	return e.checked(program, field.Name)
}

// assigned compiles an assignment: over golden fields that are not computed themselves.
func (e *entity) assigned(ps *source.Problems, field contract.Field, c *choice) func(record.Lookup) (record.Value, error) {
	program := expression.Compile(c.value, e.scope(func(contract.Field) bool { return true }, ""), field, ps)
	if program == nil {
		return nil
	}
	if len(program.Names()) == 0 {
		ps.Add(c.value, fmt.Sprintf("the expression %q of field %s mentions no field: it would never have a value", program, field.Name), "mention a field of "+e.contract.Name()+", or write assign: workflow")
	}
	for _, name := range program.Names() {
		e.refers = append(e.refers, reference{field.Name, name, c.value})
	}
	return e.checked(program, field.Name)
}

// reference is an assigned field that asks for another field.
type reference struct {
	from, to string
	at       source.Node
}

// checkReferences reports assigned fields that ask for assigned fields: the order of computing would matter.
func (e *entity) checkReferences(ps *source.Problems) {
	for _, r := range e.refers {
		if rule := e.rules.Fields[r.to]; r.from == r.to || rule.Kind == record.Assign && rule.Eval != nil {
			ps.Add(r.at, fmt.Sprintf("field %s is assigned from %s, which is assigned itself", r.from, r.to), "write out what "+r.to+" is assigned from")
		}
	}
}

// checked evaluates program and refuses values that break the contract.
func (e *entity) checked(program *expression.Program, field string) func(record.Lookup) (record.Value, error) {
	e.expressions[field] = program.String()
	return func(look record.Lookup) (record.Value, error) {
		v, err := program.Eval(look)
		if err == nil {
			err = e.contract.Check(field, v)
		}
		if err != nil {
			return record.Value{}, err
		}
		return v, nil
	}
}
