package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

// level is what one place of a policy file says: the entity, a group or a field.
type level struct {
	what    string // such as `field status`
	node    source.Node
	rule    *record.Rule // nil: not said here
	targets []source.Node
	routed  bool // targets are said here
	paths   map[string]record.Path
	pathAt  map[string]source.Node
}

func platforms() []string {
	return []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow}
}

const (
	rulesAvailable = "available: owner: PLATFORM, survivorship: latest, survivorship: rank"
	pathsAvailable = "available: accept, revert, reject, ignore"
)

// compile turns the policy file into rules.
func (e *entity) compile(ps *source.Problems) {
	root := e.policy.root
	e.rules = record.Rules{Entity: e.contract.Entity, Fields: map[string]record.Rule{}}
	e.readPlatforms(ps)
	switch e.deletes = root.String(ps, "deletes", true); e.deletes {
	case "", "ignore":
	case "propagate", "deactivate", "propose":
		ps.Add(root.Get("deletes"), "deletes: "+e.deletes+" is not available yet", "available: ignore")
	default:
		ps.Add(root.Get("deletes"), fmt.Sprintf("unknown deletes %q", e.deletes), "available: ignore")
	}
	base := e.readLevel(ps, "the policy", root)
	groups := e.readGroups(ps)
	fields := e.readFields(ps)
	for _, name := range e.contract.Names() {
		chain := []*level{base}
		if g := groups[name]; g != nil {
			chain = append(chain, g)
		}
		if f := fields[name]; f != nil {
			chain = append(chain, f)
		}
		if rule, ok := e.combine(ps, name, chain); ok {
			e.rules.Fields[name] = rule
			if rule.Kind == record.Owner && !slices.Contains(e.rules.Origins, rule.Owner) {
				e.rules.Origins = append(e.rules.Origins, rule.Owner)
			}
		}
	}
	e.rules.Platforms = slices.Sorted(maps.Keys(e.platforms))
	slices.Sort(e.rules.Origins)
}

func (e *entity) readPlatforms(ps *source.Problems) {
	root := e.policy.root
	block := root.Get("platforms")
	if block.Kind != source.Map || len(block.Entries) == 0 {
		ps.Add(root.Key("platforms"), "platforms are missing", "write them as netsuite: salesOrder")
		return
	}
	for _, x := range block.Entries {
		p := x.Key.Text
		if !slices.Contains(platforms(), p) {
			ps.Add(x.Key, fmt.Sprintf("unknown platform %q", p), source.Suggest(p, platforms()))
			continue
		}
		object := block.String(ps, p, true)
		e.platforms[p] = object
		switch m := e.mappings[p]; {
		case m == nil:
			ps.Add(x.Key, fmt.Sprintf("%s has no mapping for %s", e.contract.Entity, p), fmt.Sprintf("add mapping/%s.%s.yaml", p, e.contract.Entity))
		case object != "" && m.Object != object:
			ps.Add(x.Value, fmt.Sprintf("%s maps %s %s, not %s", m.File, p, m.Object, object), "write the same object in both")
		}
	}
	for _, p := range platforms() {
		if m := e.mappings[p]; m != nil && e.platforms[p] == "" && !block.Has(p) {
			ps.Add(block, fmt.Sprintf("%s maps %s, which is not among the platforms", m.File, p), fmt.Sprintf("add %s: %s, or remove the mapping", p, m.Object))
		}
	}
}

func (e *entity) readGroups(ps *source.Problems) map[string]*level {
	out := map[string]*level{}
	block := e.policy.root.Get("groups")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "groups must be a block of name: {fields: […], …}", "give each group a name")
	}
	for _, g := range block.Entries {
		if !g.Value.Known(ps, "group "+g.Key.Text, "fields", "owner", "survivorship", "of", "targets", "paths") {
			continue
		}
		l := e.readLevel(ps, "group "+g.Key.Text, g.Value)
		members := g.Value.Texts(ps, "fields")
		if len(members) == 0 {
			ps.Add(g.Key, "group "+g.Key.Text+" has no fields", "list them as fields: [a, b]")
		}
		for _, f := range members {
			switch _, known := e.contract.Field(f.Text); {
			case !known:
				ps.Add(f, fmt.Sprintf("unknown field %q of %s", f.Text, e.contract.Name()), source.Suggest(f.Text, e.contract.Names()))
			case out[f.Text] != nil:
				ps.Add(f, fmt.Sprintf("field %q is in %s already", f.Text, out[f.Text].what), "keep it in one group")
			default:
				out[f.Text] = l
			}
		}
	}
	return out
}

func (e *entity) readFields(ps *source.Problems) map[string]*level {
	out := map[string]*level{}
	block := e.policy.root.Get("fields")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "fields must be a block of name: {owner: …}", "give each field a rule")
	}
	for _, f := range block.Entries {
		if _, known := e.contract.Field(f.Key.Text); !known {
			ps.Add(f.Key, fmt.Sprintf("unknown field %q of %s", f.Key.Text, e.contract.Name()), source.Suggest(f.Key.Text, e.contract.Names()))
			continue
		}
		if f.Value.Known(ps, "field "+f.Key.Text, "owner", "survivorship", "of", "targets", "paths") {
			out[f.Key.Text] = e.readLevel(ps, "field "+f.Key.Text, f.Value)
		}
	}
	return out
}

// platform reports whether n names a platform of this entity.
func (e *entity) platform(ps *source.Problems, n source.Node) bool {
	if _, ok := e.platforms[n.Text]; ok {
		return true
	}
	if e.policy.root.Get("platforms").Has(n.Text) {
		return false // reported where it stands
	}
	ps.Add(n, fmt.Sprintf("platform %q is not among the platforms of %s", n.Text, e.contract.Entity), source.Suggest(n.Text, slices.Clone(e.policy.root.Get("platforms").Keys())))
	return false
}

func (e *entity) readLevel(ps *source.Problems, what string, n source.Node) *level {
	l := &level{what: what, node: n, paths: map[string]record.Path{}, pathAt: map[string]source.Node{}}
	l.rule = e.readRule(ps, what, n)
	if n.Has("targets") {
		l.routed = true
		for _, t := range n.Texts(ps, "targets") {
			if e.platform(ps, t) {
				l.targets = append(l.targets, t)
			}
		}
	}
	paths := n.Get("paths")
	if paths.Kind != source.None && paths.Kind != source.Map {
		ps.Add(paths, "paths must be a block of platform: path", "write them as salesforce: revert")
	}
	for _, x := range paths.Entries {
		if !e.platform(ps, x.Key) {
			continue
		}
		switch p := record.Path(x.Value.Text); p {
		case record.Accept, record.Revert, record.Reject, record.Ignore:
			l.paths[x.Key.Text], l.pathAt[x.Key.Text] = p, x.Value
		case "propose":
			ps.Add(x.Value, "path propose is not available yet", pathsAvailable)
		default:
			ps.Add(x.Value, fmt.Sprintf("unknown path %q", x.Value.Text), source.Suggest(x.Value.Text, []string{"accept", "revert", "reject", "ignore"}))
		}
	}
	return l
}

// readRule reads owner, or survivorship and of.
func (e *entity) readRule(ps *source.Problems, what string, n source.Node) *record.Rule {
	owner, survivorship, of := n.Get("owner"), n.Get("survivorship"), n.Get("of")
	switch {
	case owner.Kind != source.None && survivorship.Kind != source.None:
		ps.Add(n.Key("survivorship"), what+" has an owner and a survivorship", "keep one of them")
		return nil
	case owner.Kind == source.List:
		ps.Add(owner, what+" has several owners", "name one, or write survivorship: latest with of:")
		return nil
	case owner.Kind != source.None:
		if of.Kind != source.None {
			ps.Add(n.Key("of"), "of has no meaning with an owner", "remove it")
		}
		name := n.String(ps, "owner", true)
		if name == "" || !e.platform(ps, owner) {
			return nil
		}
		return &record.Rule{Kind: record.Owner, Owner: name, Text: "owner " + name, At: n.Key("owner").At()}
	case survivorship.Kind == source.None:
		if of.Kind != source.None {
			ps.Add(n.Key("of"), "of has no meaning without survivorship", "add survivorship: latest, or remove it")
		}
		return nil
	}
	switch kind := record.Survivorship(survivorship.Text); kind {
	case record.Latest, record.Rank:
		r := &record.Rule{Kind: kind, At: n.Key("survivorship").At()}
		for _, p := range n.Texts(ps, "of") {
			if e.platform(ps, p) {
				r.Order = append(r.Order, p.Text)
			}
		}
		if of.Kind == source.None || of.Kind == source.List && len(of.Items) == 0 {
			ps.Add(survivorship, what+" does not say which platforms may contribute", "add of: [platform, platform]")
		}
		r.Text = string(kind) + " of " + strings.Join(r.Order, ", ")
		return r
	case "longest", "most-complete", "first", "hold", "expr":
		ps.Add(survivorship, fmt.Sprintf("survivorship %s is not available yet", kind), rulesAvailable)
	default:
		ps.Add(survivorship, fmt.Sprintf("unknown survivorship %q", survivorship.Text), rulesAvailable)
	}
	return nil
}

// combine makes one field's rule out of its levels, from entity to field.
func (e *entity) combine(ps *source.Problems, name string, chain []*level) (record.Rule, bool) {
	last := chain[len(chain)-1]
	var rule record.Rule
	var from, routed *level
	paths := map[string]record.Path{}
	pathAt := map[string]source.Node{}
	for _, l := range chain {
		if l.rule != nil {
			rule, from = *l.rule, l
		}
		if l.routed {
			routed = l
		}
		for p, path := range l.paths {
			paths[p], pathAt[p] = path, l.pathAt[p]
		}
	}
	if from == nil {
		if !said(chain, "owner") && !said(chain, "survivorship") { // otherwise what is wrong is reported there
			ps.Add(last.node, fmt.Sprintf("field %q has no rule", name), "add owner or survivorship to it, its group or the policy")
		}
		return rule, false
	}
	if routed == nil {
		ps.Add(last.node, fmt.Sprintf("field %q has no targets", name), "add targets: [platform] to it, its group or the policy, [] for none")
		return rule, false
	}
	before := ps.Len()
	e.checkSources(ps, name, rule, from)
	rule.Targets = e.route(ps, name, rule, routed)
	rule.Paths = e.govern(ps, name, rule, from, paths, pathAt)
	return rule, ps.Len() == before
}

func said(chain []*level, key string) bool {
	return slices.ContainsFunc(chain, func(l *level) bool { return l.node.Has(key) })
}

// checkSources reports deciding platforms that cannot be read.
func (e *entity) checkSources(ps *source.Problems, name string, rule record.Rule, from *level) {
	deciders := rule.Order
	at := from.node.Get("of")
	if rule.Kind == record.Owner {
		deciders, at = []string{rule.Owner}, from.node.Get("owner")
	}
	for _, p := range deciders {
		m := e.mappings[p]
		if m == nil || m.Faulty(name) {
			continue // reported where it is wrong
		}
		if _, in, _ := m.Native(name); !in {
			ps.Add(at, fmt.Sprintf("%s decides %q, but %s does not read it", p, name, m.File), "map it there, or give the field another rule")
		}
	}
}

func (e *entity) route(ps *source.Problems, name string, rule record.Rule, routed *level) []string {
	var out []string
	for _, t := range routed.targets {
		p := t.Text
		m := e.mappings[p]
		if m == nil || m.Faulty(name) {
			continue
		}
		_, _, written := m.Native(name)
		switch {
		case rule.Kind == record.Owner && rule.Owner == p:
			ps.Add(t, fmt.Sprintf("%s owns %q and is among its targets", p, name), "leave it out of targets")
		case written:
			out = append(out, p)
		case m.Unmapped(name) && routed.what != "field "+name:
			// A level above speaks for many fields; the mapping says that this one has no place there.
		case m.Unmapped(name):
			ps.Add(t, fmt.Sprintf("%q goes to %s, but %s lists it as unmapped", name, p, m.File), "map it there, or leave the target out")
		default:
			ps.Add(t, fmt.Sprintf("%q goes to %s, but %s does not write it", name, p, m.File), "map it there with direction: both or out, or leave the target out")
		}
	}
	slices.Sort(out)
	return out
}

func (e *entity) govern(ps *source.Problems, name string, rule record.Rule, from *level, paths map[string]record.Path, pathAt map[string]source.Node) map[string]record.Path {
	out := map[string]record.Path{}
	var missing []string
	for _, p := range platforms() {
		if _, ok := e.platforms[p]; !ok {
			continue
		}
		path, given := paths[p]
		contributes := slices.Contains(rule.Order, p)
		switch {
		case rule.Kind == record.Owner && rule.Owner == p:
			continue // an owner's change is never off the path
		case !given && contributes:
			out[p] = record.Accept // named under of: that says it
		case !given:
			missing = append(missing, p)
		case rule.Kind == record.Owner && path == record.Accept:
			ps.Add(pathAt[p], fmt.Sprintf("%q is owned by %s: a change on %s cannot be accepted", name, rule.Owner, p), "write revert, reject or ignore, or use survivorship")
		case path == record.Accept && !contributes:
			ps.Add(pathAt[p], fmt.Sprintf("%q accepts changes on %s, which is not among %v", name, p, rule.Order), "add it to of:, or write revert, reject or ignore")
		case path != record.Accept && contributes && inherited(from, pathAt[p]):
			out[p] = record.Accept // the more specific of: outweighs a path from above
		case path != record.Accept && contributes:
			ps.Add(pathAt[p], fmt.Sprintf("%s contributes to %q, but its path is %s", p, name, path), "write accept, or leave it out of of:")
		default:
			out[p] = path
		}
	}
	if len(missing) > 0 {
		ps.Add(from.node, fmt.Sprintf("field %q does not say what happens to changes on %v", name, missing), "add paths: {"+missing[0]+": revert}")
	}
	return out
}

// inherited reports whether a path stands at another level than the rule.
func inherited(from *level, at source.Node) bool {
	for _, n := range from.pathAt {
		if n.Line == at.Line && n.Column == at.Column {
			return false
		}
	}
	return true
}
