package policy

import (
	"fmt"
	"maps"
	"slices"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/record"
)

// level is what one place of a policy file says: the entity, a group or a field.
type level struct {
	what      string // such as `field status`
	node      source.Node
	group     string        // of a group: its name
	members   []string      // of a group: its fields
	choice    *choice       // who decides; nil: not said here
	targets   []source.Node // platforms
	routed    bool          // targets are said here
	paths     map[string]*clause
	approval  *clause
	meanwhile []*clause
}

// clause is something said at a level that must matter to at least one field below it.
type clause struct {
	node     source.Node
	what     string
	path     record.Path
	approval *approval
	used     bool
	idle     string // why the last field that was looked at does not need it
}

// systems are the platforms that people work in.
func systems() []string {
	return []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow}
}

func platforms() []string { return append(systems(), record.Files) }

func paths() []string {
	return []string{string(record.Accept), string(record.Propose), string(record.Revert), string(record.Reject), string(record.Ignore)}
}

// levelKeys may stand at every level.
func levelKeys(more ...string) []string {
	return append(more, "owner", "meanwhile", "survivorship", "of", "together", "value", "assign", "targets", "paths", "approval")
}

// compile turns the policy file into rules.
func (e *entity) compile(ps *source.Problems) {
	root := e.policy.root
	e.rules = record.Rules{Entity: e.contract.Entity, Fields: map[string]record.Rule{}}
	e.readPlatforms(ps)
	e.rules.Platforms = slices.Sorted(maps.Keys(e.platforms))
	e.rules.Required = map[string][]string{}
	for p, m := range e.mappings {
		if required := m.Required(); len(required) > 0 {
			e.rules.Required[p] = required
		}
	}
	for _, f := range e.contract.Fields() {
		if f.Type == contract.Reference {
			e.rules.Refers = append(e.rules.Refers, f.Name)
		}
	}
	slices.Sort(e.rules.Refers)
	base := e.readLevel(ps, "the policy", root)
	groups, levels := e.readGroups(ps)
	fields := e.readFields(ps)
	for _, name := range e.contract.Names() {
		chain := []*level{base}
		if g := groups[name]; g != nil {
			chain = append(chain, g)
		}
		if f := fields[name]; f != nil {
			chain = append(chain, f)
			levels = append(levels, f)
		}
		rule, ok := e.combine(ps, name, chain)
		if !ok {
			for _, l := range chain {
				l.excuse()
			}
			continue
		}
		e.rules.Fields[name] = rule
	}
	e.compileWhole(ps)
	e.checkApprovals(ps)
	for _, l := range append(levels, base) {
		l.reportIdle(ps)
	}
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

// readGroups gives the group of each field, and all groups in the order of the file.
func (e *entity) readGroups(ps *source.Problems) (of map[string]*level, all []*level) {
	of = map[string]*level{}
	block := e.policy.root.Get("groups")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "groups must be a block of name: {fields: […], …}", "give each group a name")
	}
	for _, g := range block.Entries {
		name := g.Key.Text
		if !g.Value.Known(ps, "group "+name, levelKeys("fields")...) {
			continue
		}
		l := e.readLevel(ps, "group "+name, g.Value)
		l.group = name
		all = append(all, l)
		members := g.Value.Texts(ps, "fields")
		if len(members) == 0 {
			ps.Add(g.Key, "group "+name+" has no fields", "list them as fields: [a, b]")
		}
		for _, f := range members {
			switch _, known := e.contract.Field(f.Text); {
			case !known:
				ps.Add(f, fmt.Sprintf("unknown field %q of %s", f.Text, e.contract.Name()), source.Suggest(f.Text, e.contract.Names()))
			case of[f.Text] != nil:
				ps.Add(f, fmt.Sprintf("field %q is in %s already", f.Text, of[f.Text].what), "keep it in one group")
			default:
				of[f.Text] = l
				l.members = append(l.members, f.Text)
			}
		}
		slices.Sort(l.members)
	}
	for _, g := range block.Entries {
		name := g.Key.Text
		if _, field := e.contract.Field(name); field && (of[name] == nil || of[name].group != name) {
			ps.Add(g.Key, fmt.Sprintf("group %s has the name of a field that is not in it: their proposals could not be told apart", name), "give the group another name")
		}
	}
	return of, all
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
		if f.Value.Known(ps, "field "+f.Key.Text, levelKeys()...) {
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

// known keeps those nodes that name a platform of this entity.
func (e *entity) known(ps *source.Problems, nodes []source.Node) []source.Node {
	return slices.DeleteFunc(nodes, func(n source.Node) bool { return !e.platform(ps, n) })
}

func (e *entity) readLevel(ps *source.Problems, what string, n source.Node) *level {
	l := &level{what: what, node: n, paths: map[string]*clause{}}
	e.readChoice(ps, l)
	if n.Has("targets") {
		l.routed = true
		l.targets = e.known(ps, n.Texts(ps, "targets"))
	}
	block := n.Get("paths")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "paths must be a block of platform: path", "write them as salesforce: revert")
	}
	for _, x := range block.Entries {
		switch {
		case !e.platform(ps, x.Key):
		case slices.Contains(paths(), x.Value.Text):
			l.paths[x.Key.Text] = &clause{node: x.Value, what: fmt.Sprintf("path %s of %s", x.Value.Text, x.Key.Text), path: record.Path(x.Value.Text)}
		default:
			ps.Add(x.Value, fmt.Sprintf("unknown path %q", x.Value.Text), source.Suggest(x.Value.Text, paths()))
		}
	}
	if n.Has("approval") {
		l.approval = &clause{node: n.Key("approval"), what: "approval", approval: e.readApproval(ps, n), idle: "no path proposes to it"}
	}
	return l
}

func (l *level) clauses() []*clause {
	all := slices.Collect(maps.Values(l.paths))
	all = append(all, l.meanwhile...)
	if l.approval != nil {
		all = append(all, l.approval)
	}
	return all
}

// excuse keeps what stands at l from being reported as idle: a field that would need it has a problem of its own.
func (l *level) excuse() {
	for _, c := range l.clauses() {
		c.used = true
	}
}

func (l *level) reportIdle(ps *source.Problems) {
	for _, c := range l.clauses() {
		if !c.used && c.idle != "" {
			ps.Add(c.node, fmt.Sprintf("%s in %s has no effect: %s", c.what, l.what, c.idle), "remove it, or give a field there a rule that needs it")
		}
	}
}

// combine makes one field's rule out of its levels, from entity to field.
func (e *entity) combine(ps *source.Problems, name string, chain []*level) (record.Rule, bool) {
	last := chain[len(chain)-1]
	var from, routed, group *level
	var approval *clause
	paths := map[string]*clause{}
	for _, l := range chain {
		if l.group != "" {
			group = l
		}
		if l.choice != nil {
			from = l
		}
		if l.routed {
			routed = l
		}
		if l.approval != nil {
			approval = l.approval
		}
		for p, c := range l.paths {
			if above := paths[p]; above != nil {
				above.idle = l.what + " says otherwise"
			}
			paths[p] = c
		}
	}
	if from == nil {
		if !said(chain, "owner") && !said(chain, "survivorship") && !said(chain, "assign") { // otherwise what is wrong is reported there
			ps.Add(last.node, fmt.Sprintf("field %q has no rule", name), "add owner, survivorship or assign to it, its group or the policy")
		}
		return record.Rule{}, false
	}
	if routed == nil {
		ps.Add(last.node, fmt.Sprintf("field %q has no targets", name), "add targets: [platform] to it, its group or the policy, [] for none")
		return record.Rule{}, false
	}
	before := ps.Len()
	rule := e.decide(ps, name, from, group)
	rule.Group = name
	if i := slices.IndexFunc(e.contract.Fields(), func(f contract.Field) bool { return f.Name == name }); i >= 0 {
		rule.Solid = !e.contract.Fields()[i].Nullable
	}
	if group != nil {
		rule.Group = group.group
	}
	rule.Targets = e.route(ps, name, rule, routed)
	e.govern(ps, name, &rule, from, paths, approval)
	e.checkLoss(ps, name, rule, from)
	if approval != nil {
		e.approvals[name] = approval
	}
	return rule, ps.Len() == before
}

func said(chain []*level, key string) bool {
	return slices.ContainsFunc(chain, func(l *level) bool { return l.node.Has(key) })
}

// reads reports whether a platform says something about a field, or what is wrong with that is told elsewhere.
func (e *entity) reads(platform, field string) bool {
	m := e.mappings[platform]
	if m == nil || m.Faulty(field) {
		return true
	}
	_, in, _ := m.Native(field)
	return in
}

// writes is the same for the other direction.
func (e *entity) writes(platform, field string) bool {
	m := e.mappings[platform]
	if m == nil || m.Faulty(field) {
		return true
	}
	_, _, out := m.Native(field)
	return out
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

// govern settles what happens to changes on each platform.
func (e *entity) govern(ps *source.Problems, name string, rule *record.Rule, from *level, paths map[string]*clause, approval *clause) {
	rule.Paths = map[string]record.Path{}
	var missing []string
	for _, p := range platforms() {
		if _, ok := e.platforms[p]; !ok {
			continue
		}
		c, given := paths[p]
		contributes := slices.Contains(rule.Order, p)
		owned := rule.Kind == record.Owner && rule.Owner == p
		switch {
		case owned && given:
			c.idle = fmt.Sprintf("%s owns %q", p, name)
			continue
		case owned:
			continue
		case !given && contributes:
			rule.Paths[p] = record.Accept // named under of: that says it
			continue
		case !given && e.reads(p, name):
			missing = append(missing, p)
			continue
		case !given:
			continue
		case contributes && c.path != record.Accept && c != from.paths[p]:
			c.idle = fmt.Sprintf("%s contributes to %q", p, name)
			rule.Paths[p] = record.Accept // the more specific of: outweighs a path from above
			continue
		case !contributes && !e.reads(p, name):
			c.idle = fmt.Sprintf("%s does not read %q", e.mappings[p].File, name)
			rule.Paths[p] = c.path
			continue
		}
		c.used = true
		rule.Paths[p] = c.path
		wrong := func(message, remedy string) { ps.Add(c.node, message, remedy) }
		back := c.path == record.Revert || c.path == record.Reject || c.path == record.Propose
		switch {
		case contributes && c.path != record.Accept:
			wrong(fmt.Sprintf("%s contributes to %q, but its path is %s", p, name, c.path), "write accept, or leave it out of of:")
		case contributes:
		case c.path == record.Accept && rule.Kind == record.Owner:
			wrong(fmt.Sprintf("%q is owned by %s: a change on %s cannot be accepted", name, rule.Owner, p), "write propose, revert, reject or ignore, or use survivorship")
		case c.path == record.Accept && rule.Kind == record.Assign:
			wrong(fmt.Sprintf("%q is assigned: a change on %s cannot be accepted", name, p), "write revert, reject or ignore, or use survivorship")
		case c.path == record.Accept:
			wrong(fmt.Sprintf("%q accepts changes on %s, which is not among %v", name, p, rule.Order), "add it to of:, or write revert, reject or ignore")
		case c.path == record.Propose && rule.Kind != record.Owner:
			wrong(fmt.Sprintf("a change of %q on %s has nobody to be proposed to: the field has no owner", name, p), "add owner: PLATFORM, or write revert, reject or ignore")
		case c.path == record.Propose && !e.writes(rule.Owner, name):
			wrong(fmt.Sprintf("a change of %q on %s is proposed to %s, but %s does not write it", name, p, rule.Owner, e.mappings[rule.Owner].File), "map it there with direction: both, or write revert, reject or ignore")
		case c.path == record.Propose && approval == nil:
			wrong(fmt.Sprintf("a change of %q on %s is proposed, but nobody approves it", name, p), "add approval: {approvers: [role]} to the field, its group or the policy")
		case back && !slices.Contains(rule.Targets, p) && e.mappings[p] != nil && !e.mappings[p].Faulty(name):
			wrong(fmt.Sprintf("a change of %q on %s cannot be put back: %s does not receive the field", name, p, p), "add it to targets, or write ignore")
		case c.path == record.Propose:
			approval.used = true
			rule.Approval = &approval.approval.Approval
		}
	}
	if len(missing) > 0 {
		ps.Add(from.node, fmt.Sprintf("field %q does not say what happens to changes on %v", name, missing), "add paths: {"+missing[0]+": revert}")
	}
}

// checkLoss reports a platform that has a say in a field, and is written it in a form that cannot hold every value:
// what it says back would be less than what it was told.
func (e *entity) checkLoss(ps *source.Problems, name string, rule record.Rule, from *level) {
	for _, p := range e.rules.Platforms {
		m := e.mappings[p]
		if m == nil || !m.Lossy(name) {
			continue
		}
		receives, says := slices.Contains(rule.Targets, p), slices.Contains(rule.Order, p) || slices.Contains(rule.Meanwhile, p)
		for _, path := range rule.Paths {
			receives = receives || path == record.Propose && rule.Owner == p
		}
		if rule.Kind == record.Owner && rule.Owner == p {
			says, receives = true, receives || len(rule.Meanwhile) > 0
		}
		if says = says || rule.Paths[p] == record.Propose; says && receives {
			ps.Add(from.choice.at, fmt.Sprintf("%q loses information on its way to %s and back: %s is lossy, and %s has a say in the field", name, p, m.File, p),
				"map it without loss, or let "+p+" only receive it")
		}
	}
}

// scope gives names of an expression the types of contract fields.
func (e *entity) scope(keep func(contract.Field) bool, prefixes ...string) expression.Scope {
	out := expression.Scope{}
	for _, f := range e.contract.Fields() {
		for _, p := range prefixes {
			if keep(f) {
				out[p+f.Name] = f
			}
		}
	}
	return out
}
