// Package process holds the processes of the product: each is a workflow.Definition, whose steps are goals over records.
// It is pure: what runs them is flow/workflow.
//
// A policy says which of them its records start (`workflows: [activation]`); workflows.yaml, beside people.yaml, says what
// they depend on in a company:
//
//	activation:
//	  review:                               # what finance has to look at, beside tax numbers and addresses
//	    - when: opportunity.amount > 100000 and customer.creditLimit == null
//	      reason: a deal of this size needs a credit limit
//	  remind: [1d, 3d]                      # who does not decide is reminded; the last time is an escalation
//	  expire: 14d                           # what nobody decides is taken back
//	  since: 2026-11-01                     # what was closed before is nobody's activation
//	  late: 2d                              # how long an activation may take
//	escalation:
//	  when: case.priority == "urgent"       # names: case.F, customer.F
//	  notify: 4h                            # until when the account's owner is to have the task
//	entitlement:
//	  when: case.customer != null           # which cases are marked with what is owed; left out: those of a known customer
//	payment:
//	  lift: customer.overdueBalance == 0    # when a paid invoice lifts a credit hold; names: customer.F, invoice.F
//	  patience: 1d                          # for how long that may become true after the payment
package process

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// needs are the fields that definitions set, by entity: which rule each must have. Ownership by a platform lets Sorrel ask
// the owner.
type needs map[string]map[string]record.Survivorship

// process is definitions that a company's settings complete.
type process struct {
	starts []string // workflows, the first of which names its settings
	about  []string // entities: the first is the subject
	needs  needs
	says   []string // business events
	define func(settings) []workflow.Definition
}

// all lists them.
func all() []process {
	return []process{activationProcess(), escalationProcess(), entitlementProcess(), coverageProcess(), paymentProcess(), activityProcess()}
}

// Starts lists the workflows that records of an entity may start.
func Starts(entity string) []string {
	var out []string
	for _, p := range all() {
		if p.about[0] == entity {
			out = append(out, p.starts...)
		}
	}
	return out
}

// Says lists the business events that there are, sorted.
func Says() []string {
	out := workflow.Says()
	for _, p := range all() {
		out = append(out, p.says...)
	}
	slices.Sort(out)
	return out
}

// Book compiles the definitions for a configuration: those about entities that it has, with their old versions of which runs
// may be open. That a policy does not give a workflow which it names the fields that this one sets is a problem,
// and so is a subscriber who is to be told of what nothing says.
func Book(set *policy.Set) (*workflow.Book, []policy.Problem) {
	var ps source.Problems
	var names []string
	for _, p := range all() {
		names = append(names, p.starts[0])
	}
	root := set.Workflows()
	if root.Kind != source.None {
		root.Known(&ps, "workflows.yaml", names...)
	}
	var defs []workflow.Definition
	for _, p := range all() {
		if slices.ContainsFunc(p.about, func(entity string) bool { return set.Contract(entity) == nil }) {
			continue
		}
		for _, name := range p.starts {
			if slices.Contains(set.Rules(p.about[0]).Workflows, name) {
				p.lacks(set, name, &ps)
			}
		}
		defs = append(defs, p.define(settings{ps: &ps, node: root.Get(p.starts[0]), set: set, about: p.about})...)
	}
	set.Unsaid(Says(), &ps)
	if ps.Len() > 0 {
		return nil, ps.Sorted()
	}
	book, err := workflow.NewBook(defs...)
	if err != nil {
		return nil, []policy.Problem{{File: "workflows.yaml", Line: 1, Column: 1, Message: err.Error(), Remedy: "this is a defect of the program: report it"}}
	}
	return book, nil
}

// lacks reports fields that a workflow sets and that the policy does not give it.
func (p process) lacks(set *policy.Set, name string, ps *source.Problems) {
	for _, entity := range slices.Sorted(maps.Keys(p.needs)) {
		for _, field := range slices.Sorted(maps.Keys(p.needs[entity])) {
			kind := p.needs[entity][field]
			if rule := set.Rules(entity).Fields[field]; rule.Kind == kind && (kind != record.Assign || rule.Eval == nil) {
				continue
			}
			must := "assign: workflow"
			if kind == record.Owner {
				must = "an owner"
			}
			ps.Add(source.Node{File: "policy/" + entity + ".yaml", Line: 1, Column: 1}, fmt.Sprintf("workflow %s sets %s.%s, which is not its to set", name, entity, field),
				fmt.Sprintf("give the field %s, or take %s from workflows:", must, name))
		}
	}
}

// settings is what workflows.yaml says about one process.
type settings struct {
	ps    *source.Problems
	node  source.Node
	set   *policy.Set
	about []string
}

func (s settings) known(keys ...string) {
	if s.node.Kind != source.None {
		s.node.Known(s.ps, "the settings of a workflow", keys...)
	}
}

func (s settings) duration(key string, otherwise time.Duration) time.Duration {
	if !s.node.Has(key) {
		return otherwise
	}
	text := s.node.String(s.ps, key, true)
	d, ok := policy.Duration(text)
	if !ok && text != "" {
		s.ps.Add(s.node.Get(key), fmt.Sprintf("%s: %.40q is no time", key, text), "write whole minutes, hours or days, such as 30m, 4h or 2d")
	}
	return d
}

func (s settings) durations(key string, otherwise ...time.Duration) []time.Duration {
	if !s.node.Has(key) {
		return otherwise
	}
	var out []time.Duration
	for _, n := range s.node.Texts(s.ps, key) {
		d, ok := policy.Duration(n.Text)
		if !ok || len(out) > 0 && d <= out[len(out)-1] {
			s.ps.Add(n, fmt.Sprintf("%s: %.40q is no time after the one before it", key, n.Text), "write growing times, such as [1d, 3d]")
		}
		out = append(out, d)
	}
	return out
}

// condition is a compiled expression over the fields of a process's records. Nil never holds.
type condition struct{ program *expression.Program }

func (s settings) condition(n source.Node) condition {
	scope := expression.Scope{}
	for _, entity := range s.about {
		for _, f := range s.set.Contract(entity).Fields() {
			scope[entity+"."+f.Name] = contract.Field(f)
		}
	}
	return condition{expression.Predicate(n, scope, s.ps)}
}

// holds evaluates the condition. What cannot be evaluated is an error for people to read.
func (c condition) holds(about map[string]record.Record) (bool, error) {
	if c.program == nil {
		return false, nil
	}
	return c.program.Holds(func(name string) record.Value {
		entity, field, _ := strings.Cut(name, ".")
		if v := about[entity].Golden[field].Value; !v.IsAbsent() {
			return v
		}
		return record.NullValue()
	})
}

// text is the golden text of a field, "" where there is none.
func text(r record.Record, field string) string {
	v := r.Golden[field].Value
	if v.IsAbsent() || v.IsNull() {
		return ""
	}
	return v.Raw()
}

// refers is the record that a field refers to.
func refers(r record.Record, field string) record.ID { return record.ID(text(r, field)) }

// set gives a field a text; an empty one takes it away.
func set(r record.ID, field, to string) workflow.Set {
	v := record.TextValue(to)
	if to == "" {
		v = record.NullValue()
	}
	return workflow.Set{Record: r, Field: field, Value: v}
}

// gone reports whether a platform's native record was deleted, and not merged into another.
func gone(r record.Record, platform string) bool {
	v, some := r.Views[platform]
	return some && v.Gone() && v.Merged() == ""
}

// refused says why a platform does not take what it is told, in any field or in some, or "".
func refused(r record.Record, platform string, fields ...string) string {
	var why []string
	for k, h := range r.Held {
		if p, field := record.SplitHoldKey(k); p == platform && !h.Trying && (len(fields) == 0 || slices.Contains(fields, field)) {
			why = append(why, field+": "+h.Detail)
		}
	}
	slices.Sort(why)
	return strings.Join(why, "; ")
}

// keep is what a step remembers of itself.
func keep(pairs ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}
