// Package policy loads the whole configuration (contracts, mappings, governance rules) and compiles the rules
// that shared/record folds and projects by. Everything wrong is found at load time, all at once, each with
// file:line:column and a remedy; a Set exists only when nothing is wrong.
//
// A policy file governs one entity. What it says about fields stands at three levels, and the most specific one wins:
// entity, group, field.
//
//	owner: P                            one platform decides
//	  meanwhile: [Q, R]                 as long as P has no native record of it: the first of these that says anything
//	survivorship: KIND, of: [P, Q]      several decide; record.Survivorship says what each kind means, and how ties end
//	  together: [a, b]                  most-complete: what is judged together, otherwise the fields of the group
//	  value: 'salesforce ?? netsuite'   expr: an expression over what those platforms say
//	assign: 'firstName + " " + lastName'  Sorrel computes it from golden fields that are not assigned themselves
//	assign: workflow                    something else sets it
//	targets: [P, Q]                     who receives the field
//	paths: {P: accept|propose|revert|reject|ignore}  what happens to a change seen on P, which does not decide
//	approval:                           who decides about proposals
//	  approvers: [finance]              any of these roles
//	  distinct: true                    whoever asks may not decide; this is the default
//	  expires: 7d                       an undecided proposal is rejected then; 7d is the default
//	  whilePending: keep|revert         what the platform that asks shows until then; keep is the default
//	  auto: ['after.limit <= before.limit']  over before.F, after.F, golden.F and platform: the first that holds approves
//
// The rule (owner, survivorship or assign, with what belongs to it) is inherited as a whole, targets and approval as
// wholes, paths per platform. Targets and meanwhile that are inherited from the entity or a group leave out platforms
// whose mapping has no place for the field; what the field itself names must be mapped.
//
// Fields of one group are proposed and decided together, so they share an owner and an approval. An auto rule sees only
// what changes: a field of the group that nobody changed is null before and after.
//
// What is said about records as wholes stands at the entity only:
//
//	origins: [P, Q]                     whose new native records become records; by default those that own a field; [] if only workflows make any
//	copies: [P, Q]                      where records get native records of their own; by default everywhere
//	copies: {P: {when: '…', withdraw: '…'}, Q: {}}  the same with conditions over golden.F: one is created only while when
//	                                    holds, and one that Sorrel created is deleted while withdraw holds; then it counts
//	                                    as never made. While alone: '…' holds, what refers to it gets no native record
//	                                    there, and waits. What cannot be evaluated creates, deletes and delays nothing
//	unmatched: {P: exception|ignore}    what a native record that belongs to nothing means, if P is no origin
//	deletes: KIND or {P: KIND}          ignore, deactivate, propose (the deactivation) or propagate
//	deactivated: {active: false}        what deactivating means
//	workflows: [NAME]                   whose runs these records start
//	match: {NAME: {by: [{field: taxId, as: tax-id, country: billingAddress.country}], strong: true}}
//
// The package match lists the normalisers that as: may name. Expressions are described in the package expression.
//
// An optional people.yaml at the root says who has which role, and who is who on each platform:
//
//	people:
//	  fiona@northwind.example: {roles: [finance], netsuite: ["1001"], aws: ["arn:aws:iam::123456789012:user/fiona"]}
//
// An optional subscribers.yaml at the root says who is told of changes and business events; see Subscriber.
// An optional reconcile.yaml says when platforms and the hub differ, and what is done about it; see Reconciling.
// An optional lookups.yaml says who may look records up, and how old an answer may be; see Lookups.
//
//	subscribers:
//	  analytics:
//	    to: sqs                         or eventbridge, or print
//	    address: arn:aws:sqs:…          of the queue or the bus; the environment may give another, or the first
//	    entities: {customer: [name, number], opportunity: ["*"]}  the fields that it may learn of; "*" is all
//	    events: ["customer.*", invoice.paid]                      business events
//	    enrich: {opportunity: [customer.number]}                  fields of records that these refer to
//
// Refused is also what could never have an effect: a path for the owner, or on a platform that does not read the field;
// an approval that nothing proposes to; an auto rule about fields that are not proposed. And what could not work: a
// proposal to an owner whose mapping does not write the field, a revert on a platform that does not receive it, a
// platform that both says and receives a field in a form that loses information.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/mapping"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

// Problem is one thing wrong in a configuration file.
type Problem = source.Problem

// Set is a loaded configuration. It is immutable and safe for concurrent use.
type Set struct {
	version            string
	entities           map[string]*entity
	objects            map[[2]string]*mapping.Mapping // by platform, native object
	staff              staff
	told               []Subscriber  // by name
	heard              []source.Node // the business events that these are to be told of
	lookups            Lookups
	reconciling        map[string]Reconciling // by entity; "" is what counts for others
	reconcilingVersion string
	runs               source.Node // workflows.yaml
}

// entity is everything about one kind of record.
type entity struct {
	contract  *contract.Contract
	rules     record.Rules
	platforms map[string]string // platform → native object
	mappings  map[string]*mapping.Mapping
	match     match.Rules
	policy    file
	staff     *staff
	approvals map[string]*clause // by field: the approval of its level, proposed to or not
	refers    []reference
	// expressions are the whole texts of expr and assign, by field: a Rule has them shortened.
	expressions map[string]string
}

const workflowsFile = "workflows.yaml"

type file struct {
	name string
	root source.Node
}

// Starts tells the workflows whose runs records of an entity may start.
type Starts func(entity string) []string

// Load reads contract/*.json, policy/*.yaml, mapping/*.yaml and, if they are there, people.yaml and subscribers.yaml. With any problem there is no Set.
// The workflows that a policy names must be among those that all of starts tell; without, any name will do.
func Load(fsys fs.FS, starts ...Starts) (*Set, []Problem) {
	var ps source.Problems
	s := load(fsys, &ps)
	for _, known := range starts {
		s.startable(known, &ps)
	}
	if ps.Len() > 0 {
		return nil, ps.Sorted()
	}
	return s, nil
}

// Validate lists everything wrong in a configuration, and compiles what Load leaves for later.
func Validate(fsys fs.FS, starts ...Starts) []Problem {
	s, problems := Load(fsys, starts...)
	if s == nil {
		return problems
	}
	for _, e := range s.entities {
		if err := e.contract.Compile(); err != nil {
			problems = append(problems, Problem{File: "contract/" + e.contract.Name() + ".json", Line: 1, Column: 1, Message: err.Error(), Remedy: "repair the schema"})
		}
	}
	return problems
}

// startable refuses workflows that start no run about records of the entity that names them.
func (s *Set) startable(known Starts, ps *source.Problems) {
	for name, e := range s.entities {
		var read source.Problems // what is wrong with the list itself has been told
		for _, n := range e.policy.root.Texts(&read, "workflows") {
			may := known(name)
			switch {
			case slices.Contains(may, n.Text):
			case len(may) == 0:
				ps.Add(n, fmt.Sprintf("unknown workflow %q", n.Text), "no workflow starts with a record of "+name+": remove it")
			default:
				ps.Add(n, fmt.Sprintf("unknown workflow %q", n.Text), source.Suggest(n.Text, may))
			}
		}
	}
}

// Version changes whenever anything in the configuration changes in meaning.
func (s *Set) Version() string { return s.version }

// Workflows is workflows.yaml as it is written, if there is one: what workflows depend on in a company. Package process reads it.
func (s *Set) Workflows() source.Node { return s.runs }

// Entities lists the entities, sorted.
func (s *Set) Entities() []string { return slices.Sorted(maps.Keys(s.entities)) }

// Platforms lists the platforms that any entity names, sorted.
func (s *Set) Platforms() []string {
	var out []string
	for _, e := range s.entities {
		out = slices.AppendSeq(out, maps.Keys(e.platforms))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// PlatformsOf lists the platforms of one entity, sorted.
func (s *Set) PlatformsOf(name string) []string {
	if e, ok := s.entities[name]; ok {
		return slices.Sorted(maps.Keys(e.platforms))
	}
	return nil
}

// Rules governs an entity; the zero Rules when there is no such entity. Callers must not modify it.
func (s *Set) Rules(name string) record.Rules {
	if e, ok := s.entities[name]; ok {
		return e.rules
	}
	return record.Rules{}
}

// Referring lists the entities whose records refer to records of an entity on a platform, sorted.
func (s *Set) Referring(to, platform string) []string {
	var out []string
	for _, name := range s.Entities() {
		e := s.entities[name]
		m, mapped := e.mappings[platform]
		if mapped && slices.ContainsFunc(e.rules.Refers, func(field string) bool {
			f, _ := e.contract.Field(field)
			_, refers := m.Refers(field)
			return refers && f.To == to
		}) {
			out = append(out, name)
		}
	}
	return out
}

// Match gives the rules by which native records of an entity are found to mean the same thing, in the order of the policy.
func (s *Set) Match(name string) match.Rules {
	if e, ok := s.entities[name]; ok {
		return e.match
	}
	return nil
}

// Contract is an entity's contract with its custom fields, or nil.
func (s *Set) Contract(name string) *contract.Contract {
	if e, ok := s.entities[name]; ok {
		return e.contract
	}
	return nil
}

// ByObject finds the mapping of a native object.
func (s *Set) ByObject(platform, object string) (*mapping.Mapping, bool) {
	m, ok := s.objects[[2]string{platform, object}]
	return m, ok
}

// ByEntity finds the mapping of an entity on a platform.
func (s *Set) ByEntity(name, platform string) (*mapping.Mapping, bool) {
	e, ok := s.entities[name]
	if !ok {
		return nil, false
	}
	m, ok := e.mappings[platform]
	return m, ok
}

// Objects lists the native objects of a platform, sorted.
func (s *Set) Objects(platform string) []string {
	var out []string
	for k := range s.objects {
		if k[0] == platform {
			out = append(out, k[1])
		}
	}
	slices.Sort(out)
	return out
}

// NativeFields lists the native paths that a connector must read, sorted.
func (s *Set) NativeFields(platform, object string) []string {
	if m, ok := s.ByObject(platform, object); ok {
		return m.NativeFields()
	}
	return nil
}

// Explain says in words how one field is governed; false when there is no such field.
func (s *Set) Explain(name, field string) (string, bool) {
	e, ok := s.entities[name]
	if !ok {
		return "", false
	}
	rule, ok := e.rules.Fields[field]
	if !ok {
		return "", false
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s.%s: %s (%s)\n", name, field, rule.Text, rule.At)
	if x := e.expressions[field]; x != "" {
		fmt.Fprintf(&sb, "  computed as %s\n", x)
	}
	if len(rule.Set) > 0 {
		fmt.Fprintf(&sb, "  judged together: %s\n", strings.Join(rule.Set, ", "))
	}
	if len(rule.Meanwhile) > 0 {
		fmt.Fprintf(&sb, "  until %s has a native record: %s, in this order\n", rule.Owner, strings.Join(rule.Meanwhile, ", "))
	}
	for _, p := range e.rules.Platforms {
		native, in, _ := e.mappings[p].Native(field)
		if native == "" {
			fmt.Fprintf(&sb, "  %s: no such field\n", p)
			continue
		}
		fmt.Fprintf(&sb, "  %s %s %s:", p, e.platforms[p], native)
		var says []string
		if rule.Kind == record.Owner && rule.Owner == p {
			says = append(says, "owns it")
		}
		if slices.Contains(rule.Targets, p) {
			says = append(says, "receives it")
		}
		if path, governed := rule.Paths[p]; governed && in {
			says = append(says, "changes there: "+string(path))
		}
		says = append(says, explainCopy(e.rules, p)...)
		fmt.Fprintf(&sb, " %s\n", strings.Join(says, ", "))
	}
	if a := rule.Approval; a != nil {
		fmt.Fprintf(&sb, "  %s\n", explainApproval(rule.Group, a))
	}
	if v, deactivates := e.rules.Deactivated[field]; deactivates {
		var on []string
		for _, p := range slices.Sorted(maps.Keys(e.rules.Deletes)) {
			switch e.rules.Deletes[p] {
			case record.DeleteDeactivate:
				on = append(on, p)
			case record.DeleteProposed:
				on = append(on, p+" (proposed)")
			}
		}
		fmt.Fprintf(&sb, "  becomes %s when deleted on %s (%s)\n", v, strings.Join(on, ", "), e.rules.DeletesAt)
	}
	for _, r := range e.match {
		for _, p := range r.Parts {
			if p.Field == field {
				strength := "asks people"
				if r.Strong {
					strength = "links"
				}
				fmt.Fprintf(&sb, "  compared as %s by match rule %s, which %s (%s)\n", p.Normaliser, r.Name, strength, r.At)
			}
		}
	}
	return sb.String(), true
}

// explainCopy says when records get a native record on a platform, and when they lose it, where that depends.
func explainCopy(rules record.Rules, p string) []string {
	var says []string
	c := rules.Copies[p]
	if c.When != nil {
		says = append(says, fmt.Sprintf("created there when %s (%s)", c.When.Text, c.When.At))
	}
	if c.Withdraw != nil {
		says = append(says, fmt.Sprintf("withdrawn when %s (%s)", c.Withdraw.Text, c.Withdraw.At))
	}
	if c.Alone != nil {
		says = append(says, fmt.Sprintf("nothing new refers to it there when %s (%s)", c.Alone.Text, c.Alone.At))
	}
	return says
}

func explainApproval(group string, a *record.Approval) string {
	says := []string{"proposals about " + group + " are decided by " + strings.Join(a.Roles, " or ")}
	if a.Distinct {
		says = append(says, "but not by who asks")
	}
	says = append(says, "within "+written(a.Expires))
	if a.PutBack {
		says = append(says, "the platform that asks is put back until then")
	}
	for _, auto := range a.Auto {
		says = append(says, "approved when "+auto.Text)
	}
	return strings.Join(says, "; ") + " (" + a.At + ")"
}

func load(fsys fs.FS, ps *source.Problems) *Set {
	s := &Set{entities: map[string]*entity{}, objects: map[[2]string]*mapping.Mapping{}, staff: readPeople(fsys, ps)}
	if data, err := fs.ReadFile(fsys, workflowsFile); err == nil {
		s.runs, _ = source.Parse(workflowsFile, data, ps)
	} else if !errors.Is(err, fs.ErrNotExist) {
		ps.Add(source.Node{File: workflowsFile, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
	}
	normal := map[string][]string{} // entity → normalised texts
	latest := map[string]*contract.Contract{}
	for name, data := range files(fsys, "contract", ".json", ps) {
		c, root := contract.Load(name, data, ps)
		if c == nil {
			continue
		}
		if old := latest[c.Entity]; old == nil || old.Version < c.Version {
			latest[c.Entity] = c
			normal[c.Entity] = []string{root.Normal()}
		}
	}
	known := slices.Sorted(maps.Keys(latest))
	for name, data := range files(fsys, "policy", ".yaml", ps) {
		root, ok := source.Parse(name, data, ps)
		if !ok || !root.Known(ps, "a policy", levelKeys("entity", "contract", "platforms", "origins", "copies", "unmatched", "match", "deletes", "deactivated", "workflows", "groups", "fields", "custom")...) {
			continue
		}
		who := root.String(ps, "entity", true)
		c := latest[who]
		switch {
		case who == "":
			continue
		case c == nil:
			ps.Add(root.Get("entity"), fmt.Sprintf("unknown entity %q", who), source.Suggest(who, known))
			continue
		case s.entities[who] != nil:
			ps.Add(root.Get("entity"), fmt.Sprintf("%s is governed by %s already", who, s.entities[who].policy.name), "keep one policy per entity")
			continue
		}
		e := &entity{contract: c, policy: file{name, root}, mappings: map[string]*mapping.Mapping{}, platforms: map[string]string{}, approvals: map[string]*clause{}, staff: &s.staff,
			expressions: map[string]string{}}
		if n := root.String(ps, "contract", true); n != "" && n != c.Name() {
			ps.Add(root.Get("contract"), fmt.Sprintf("contract %q is not the newest of %s", n, who), "write "+c.Name())
		}
		if custom := root.Get("custom"); custom.Kind == source.Map {
			e.contract = c.With(contract.Custom(custom, c, ps))
		} else if custom.Kind != source.None {
			ps.Add(custom, "custom must be a block of field: {type: …}", "write it as loyaltyTier: {type: text, maxLength: 20}")
		}
		s.entities[who] = e
		normal[who] = append(normal[who], root.Normal())
	}
	contractOf := func(name string) *contract.Contract {
		if e := s.entities[name]; e != nil {
			return e.contract
		}
		return nil
	}
	for name, data := range files(fsys, "mapping", ".yaml", ps) {
		m, root := mapping.Load(name, data, contractOf, s.Entities(), ps)
		if m == nil {
			continue
		}
		e := s.entities[m.Entity]
		if other, twice := e.mappings[m.Platform]; twice {
			ps.Add(root, fmt.Sprintf("%s is mapped to %s by %s already", m.Entity, m.Platform, other.File), "keep one of the files")
			continue
		}
		if other, twice := s.objects[[2]string{m.Platform, m.Object}]; twice {
			ps.Add(root.Get("object"), fmt.Sprintf("%s %s is mapped by %s already", m.Platform, m.Object, other.File), "keep one of the files")
			continue
		}
		e.mappings[m.Platform], s.objects[[2]string{m.Platform, m.Object}] = m, m
		normal[m.Entity] = append(normal[m.Entity], root.Normal())
	}
	all := ""
	for _, name := range s.Entities() {
		e := s.entities[name]
		e.compile(ps)
		sum := hash(normal[name])
		e.rules.Version = sum
		all += name + sum
	}
	texts := []string{all, s.staff.version, s.runs.Normal()}
	if told := s.readSubscribers(fsys, ps); told != "" {
		texts = append(texts, told)
	}
	s.readLookups(fsys, ps)     // who asks changes nothing about what is governed: it is not part of the version
	s.readReconciling(fsys, ps) // nor does this
	s.version = hash(texts)
	s.references(ps)
	return s
}

// references reports references to entities, and to native objects, that nothing governs.
func (s *Set) references(ps *source.Problems) {
	for _, name := range s.Entities() {
		e := s.entities[name]
		for _, f := range e.contract.Fields() {
			if f.Type != contract.Reference || f.To == "" {
				continue
			}
			to := s.entities[f.To]
			if to == nil {
				ps.Add(e.policy.root, fmt.Sprintf("%s.%s refers to %s, which no policy governs", name, f.Name, f.To), "add policy/"+f.To+".yaml")
				continue
			}
			for _, p := range slices.Sorted(maps.Keys(e.mappings)) {
				m := e.mappings[p]
				if object, is := m.Refers(f.Name); is && to.mappings[p] != nil && to.mappings[p].Object != object {
					ps.Add(source.Node{File: m.File, Line: 1, Column: 1}, fmt.Sprintf("%s points to %s %s, but %s is mapped to %s", f.Name, p, object, f.To, to.mappings[p].Object), "write to: "+to.mappings[p].Object)
				}
			}
		}
	}
}

// files reads the files of one folder in name order.
func files(fsys fs.FS, dir, suffix string, ps *source.Problems) func(func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		entries, err := fs.ReadDir(fsys, dir)
		if err != nil {
			ps.Add(source.Node{File: dir, Line: 1, Column: 1}, "the folder cannot be read", "a configuration has the folders contract, policy and mapping")
			return
		}
		some := false
		for _, d := range entries {
			name := dir + "/" + d.Name()
			if d.IsDir() || strings.HasPrefix(d.Name(), ".") {
				continue
			}
			if !strings.HasSuffix(name, suffix) {
				ps.Add(source.Node{File: name, Line: 1, Column: 1}, "this file is not read", "files in "+dir+" end with "+suffix)
				continue
			}
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				ps.Add(source.Node{File: name, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
				continue
			}
			some = true
			if !yield(name, data) {
				return
			}
		}
		if !some {
			ps.Add(source.Node{File: dir, Line: 1, Column: 1}, "the folder holds no "+suffix+" file", "add one")
		}
	}
}

// hash is 12 hex digits over texts, in their order.
func hash(texts []string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
