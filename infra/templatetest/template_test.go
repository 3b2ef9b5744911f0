package templatetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// node is one place in a template, with short tags written out as CloudFormation's JSON does ({"Ref": …}). The zero
// node is a place that is not there; everything may be asked of it.
type node struct{ v any }

func (n node) is() bool { return n.v != nil }

func (n node) at(path ...string) node {
	for _, p := range path {
		m, _ := n.v.(map[string]any)
		n = node{m[p]}
	}
	return n
}

func (n node) keys() []string {
	m, _ := n.v.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

// list is a list's elements; a single value is a list of one, as in policies.
func (n node) list() []node {
	l, ok := n.v.([]any)
	if !ok && n.is() {
		return []node{n}
	}
	out := make([]node, len(l))
	for i, v := range l {
		out[i] = node{v}
	}
	return out
}

func (n node) text() string { s, _ := n.v.(string); return s }

func (n node) number() float64 {
	f, _ := n.v.(float64)
	return f
}

func (n node) isTrue() bool { b, _ := n.v.(bool); return b }

func (n node) String() string { b, _ := json.Marshal(n.v); return string(b) }

var placeholder = regexp.MustCompile(`\$\{([A-Za-z0-9:]+)(?:\.[A-Za-z0-9.]+)?\}`)

// target is the logical id that n refers to by Ref or Fn::GetAtt, or "".
func (n node) target() string {
	if r := n.at("Ref"); r.is() {
		return r.text()
	}
	if l := n.at("Fn::GetAtt").list(); len(l) > 0 {
		id, _, _ := strings.Cut(l[0].text(), ".")
		return id
	}
	return ""
}

// each calls visit for every node below and including n.
func (n node) each(visit func(node)) {
	visit(n)
	switch v := n.v.(type) {
	case map[string]any:
		for _, k := range n.keys() {
			node{v[k]}.each(visit)
		}
	case []any:
		for _, e := range v {
			node{e}.each(visit)
		}
	}
}

// stack is a template, as written or as translated.
type stack struct{ doc node }

func parseJSON(b []byte) (stack, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return stack{}, fmt.Errorf("template: %w", err)
	}
	return stack{node{v}}, nil
}

func parseYAML(b []byte) (stack, error) {
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return stack{}, fmt.Errorf("template: %w", err)
	}
	if len(file.Docs) != 1 {
		return stack{}, fmt.Errorf("template: %d documents, want 1", len(file.Docs))
	}
	v, err := plain(file.Docs[0].Body)
	return stack{node{v}}, err
}

// plain turns YAML with CloudFormation's short tags into what its JSON form would decode to.
func plain(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		m := make(map[string]any, len(n.Values))
		for _, pair := range n.Values {
			v, err := plain(pair.Value)
			if err != nil {
				return nil, err
			}
			key := pair.Key.GetToken().Value
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("template: %s: key %s appears twice", pair.GetPath(), key)
			}
			m[key] = v
		}
		return m, nil
	case *ast.SequenceNode:
		l := make([]any, len(n.Values))
		for i, e := range n.Values {
			v, err := plain(e)
			if err != nil {
				return nil, err
			}
			l[i] = v
		}
		return l, nil
	case *ast.TagNode:
		v, err := plain(n.Value)
		if err != nil {
			return nil, err
		}
		switch tag := strings.TrimPrefix(n.Start.Value, "!"); tag {
		case "Ref", "Condition":
			return map[string]any{tag: v}, nil
		case "GetAtt":
			id, attribute, _ := strings.Cut(node{v}.text(), ".")
			return map[string]any{"Fn::GetAtt": []any{id, attribute}}, nil
		default:
			return map[string]any{"Fn::" + tag: v}, nil
		}
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.NullNode:
		return nil, nil
	case *ast.IntegerNode, *ast.FloatNode:
		var f float64
		if err := json.Unmarshal([]byte(n.GetToken().Value), &f); err != nil {
			return nil, fmt.Errorf("template: %s: number %s: %w", n.GetPath(), n.GetToken().Value, err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("template: %s: CloudFormation has no %s", n.GetPath(), n.Type())
}

func (s stack) resources(kinds ...string) []string {
	var ids []string
	for _, id := range s.doc.at("Resources").keys() {
		if slices.Contains(kinds, s.kind(id)) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s stack) kind(id string) string { return s.doc.at("Resources", id, "Type").text() }
func (s stack) prop(id string, path ...string) node {
	return s.doc.at("Resources", id, "Properties").at(path...)
}

// value resolves a reference to a parameter by its default.
func (s stack) value(n node) node {
	if p := s.doc.at("Parameters", n.target()); p.is() {
		return p.at("Default")
	}
	return n
}

func (s stack) functions() []string {
	return s.resources("AWS::Serverless::Function", "AWS::Lambda::Function")
}

// setting is a function's property; a missing one, and missing entries of a map, come from Globals as SAM merges them.
func (s stack) setting(id string, path ...string) node {
	if own := s.prop(id, path...); own.is() {
		return own
	}
	return s.doc.at("Globals", "Function").at(path...)
}

// variables is a function's environment.
func (s stack) variables(id string) map[string]node {
	vars := map[string]node{}
	for _, from := range []node{s.doc.at("Globals", "Function"), s.prop(id)} {
		env := from.at("Environment", "Variables")
		for _, name := range env.keys() {
			vars[name] = env.at(name)
		}
	}
	return vars
}

// source is a queue that starts a function.
type source struct {
	id, function, queue string
	props               node
}

func (s stack) sources() []source {
	var out []source
	for _, f := range s.functions() {
		events := s.prop(f, "Events")
		for _, name := range events.keys() {
			if events.at(name, "Type").text() == "SQS" {
				p := events.at(name, "Properties")
				out = append(out, source{f + "." + name, f, p.at("Queue").target(), p})
			}
		}
	}
	for _, id := range s.resources("AWS::Lambda::EventSourceMapping") {
		p := s.prop(id)
		out = append(out, source{id, p.at("FunctionName").target(), p.at("EventSourceArn").target(), p})
	}
	return out
}

// deadLetters says what a queue is a dead-letter queue for: the resources that name it as one.
func (s stack) deadLetters() map[string][]string {
	out := map[string][]string{}
	for _, id := range s.doc.at("Resources").keys() {
		s.prop(id).each(func(n node) {
			for _, q := range []node{n.at("RedrivePolicy", "deadLetterTargetArn"), n.at("DeadLetterConfig", "Arn"), n.at("OnFailure", "Destination")} {
				if t := q.target(); t != "" {
					out[t] = append(out[t], id)
				}
			}
		})
	}
	return out
}
