package source

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Kind of a Node.
type Kind uint8

const (
	None   Kind = iota // no such node
	Null               // null or nothing written
	Text               // a string
	Number             // a number
	Bool               // true or false
	Map                // keys and values
	List               // values
)

func (k Kind) String() string {
	return [...]string{"nothing", "null", "a text", "a number", "true or false", "a block of key: value", "a list"}[k]
}

// Node is one value of a YAML (or JSON) file, with its position. The zero Node stands for nothing.
type Node struct {
	File         string
	Line, Column int
	Kind         Kind
	Text         string // of a scalar, as written
	Entries      []Entry
	Items        []Node
}

// Entry is one key: value. Key is a Text node.
type Entry struct {
	Key   Node
	Value Node
}

// At is file:line:column.
func (n Node) At() string { return fmt.Sprintf("%s:%d:%d", n.File, n.Line, n.Column) }

// Problems collects everything wrong.
type Problems struct{ list []Problem }

// Add notes a problem at n.
func (p *Problems) Add(n Node, message, remedy string) {
	p.list = append(p.list, Problem{n.File, n.Line, n.Column, message, remedy})
}

// Sorted returns the problems by file and position, each once.
func (p *Problems) Sorted() []Problem {
	out := slices.Clone(p.list)
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		if a.Column != b.Column {
			return a.Column < b.Column
		}
		return a.Message < b.Message
	})
	return slices.Compact(out)
}

// Len is the number of problems so far.
func (p *Problems) Len() int { return len(p.list) }

const (
	maxBytes = 1 << 20
	maxDepth = 32
)

// Parse reads one YAML or JSON document. It never fails as a whole: what is wrong goes to ps, and ok is false
// when nothing could be read. Anchors, aliases, tags and several documents are refused.
func Parse(file string, data []byte, ps *Problems) (root Node, ok bool) {
	root = Node{File: file, Line: 1, Column: 1}
	defer func() {
		if recover() != nil { // a defect of the parser must not take the process down for a bad file
			ps.Add(root, "this is not YAML that can be read", "check indentation, quotes and colons")
			ok = false
		}
	}()
	if len(data) > maxBytes {
		ps.Add(root, fmt.Sprintf("the file has %d bytes, at most %d are read", len(data), maxBytes), "split it")
		return root, false
	}
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, message := root, "this is not YAML that can be read"
		var ye yaml.Error
		if errors.As(err, &ye) {
			message += ": " + ye.GetMessage()
			place(&at, ye.GetToken())
		}
		ps.Add(at, message, "check indentation, quotes and colons")
		return root, false
	}
	var body ast.Node
	for _, d := range f.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if body != nil {
			at := root
			place(&at, d.Body.GetToken())
			ps.Add(at, "a second YAML document", "keep one document per file")
			return root, false
		}
		body = d.Body
	}
	if body == nil {
		ps.Add(root, "the file is empty", "remove it or write its content")
		return root, false
	}
	before := ps.Len()
	n := build(file, body, ps, 0)
	return n, ps.Len() == before || n.Kind == Map
}

func place(n *Node, t *token.Token) {
	if t != nil && t.Position != nil {
		n.Line, n.Column = t.Position.Line, t.Position.Column
	}
}

func build(file string, a ast.Node, ps *Problems, depth int) Node {
	n := Node{File: file, Line: 1, Column: 1, Kind: Null}
	if a == nil {
		return n
	}
	place(&n, a.GetToken())
	if depth > maxDepth {
		ps.Add(n, fmt.Sprintf("nested deeper than %d", maxDepth), "flatten it")
		return n
	}
	switch x := a.(type) {
	case *ast.StringNode:
		n.Kind, n.Text = Text, x.Value
	case *ast.LiteralNode:
		n.Kind, n.Text = Text, x.Value.Value
	case *ast.IntegerNode, *ast.FloatNode:
		n.Kind, n.Text = Number, a.GetToken().Value
	case *ast.BoolNode:
		n.Kind, n.Text = Bool, strconv.FormatBool(x.Value)
	case *ast.NullNode:
	case *ast.MappingNode:
		n.Kind = Map
		buildMap(&n, x.Values, ps, depth)
	case *ast.MappingValueNode:
		n.Kind = Map
		buildMap(&n, []*ast.MappingValueNode{x}, ps, depth)
	case *ast.SequenceNode:
		n.Kind = List
		for _, v := range x.Values {
			n.Items = append(n.Items, build(file, v, ps, depth+1))
		}
	default:
		ps.Add(n, "anchors, aliases, tags and merges are not read here", "write the value out")
	}
	return n
}

func buildMap(n *Node, values []*ast.MappingValueNode, ps *Problems, depth int) {
	first := map[string]Node{}
	for i, v := range values {
		k := build(n.File, v.Key, ps, depth+1)
		if i == 0 && k.Line > 0 { // the parser places a mapping at its first colon
			n.Line, n.Column = k.Line, k.Column
		}
		if k.Kind != Text && k.Kind != Number && k.Kind != Bool {
			if k.Kind != Null || v.Key == nil || v.Key.GetToken().Value == "null" {
				ps.Add(k, "a key must be plain text", "quote it")
			}
			continue
		}
		k.Kind = Text
		if was, dup := first[k.Text]; dup {
			ps.Add(k, fmt.Sprintf("key %q stands here a second time (first in line %d)", k.Text, was.Line), "keep one of them")
			continue
		}
		first[k.Text] = k
		val := build(n.File, v.Value, ps, depth+1)
		if val.Kind == Null {
			val.Line, val.Column = k.Line, k.Column
		}
		n.Entries = append(n.Entries, Entry{k, val})
	}
}

// Get returns the value of key; a Node of kind None when there is none.
func (n Node) Get(key string) Node {
	for _, e := range n.Entries {
		if e.Key.Text == key {
			return e.Value
		}
	}
	return Node{File: n.File, Line: n.Line, Column: n.Column}
}

// Keys lists the keys as they stand.
func (n Node) Keys() []string {
	out := make([]string, 0, len(n.Entries))
	for _, e := range n.Entries {
		out = append(out, e.Key.Text)
	}
	return out
}

// Key returns the position of key itself.
func (n Node) Key(key string) Node {
	for _, e := range n.Entries {
		if e.Key.Text == key {
			return e.Key
		}
	}
	return n
}

// Has reports whether key is written.
func (n Node) Has(key string) bool { return n.Get(key).Kind != None }

// Known reports keys other than keys, and that n is no map. It returns whether n is one.
func (n Node) Known(ps *Problems, what string, keys ...string) bool {
	if n.Kind != Map {
		ps.Add(n, fmt.Sprintf("%s must be %s, this is %s", what, Map, n.Kind), "known keys: "+strings.Join(keys, ", "))
		return false
	}
	for _, e := range n.Entries {
		if !slices.Contains(keys, e.Key.Text) {
			ps.Add(e.Key, fmt.Sprintf("unknown key %q in %s", e.Key.Text, what), Suggest(e.Key.Text, keys))
		}
	}
	return true
}

// String returns the text of a scalar under key, or "" and, when it is something else or required and missing, a problem.
func (n Node) String(ps *Problems, key string, required bool) string {
	v := n.Get(key)
	switch v.Kind {
	case Text, Number, Bool:
		if v.Text != "" {
			return v.Text
		}
		ps.Add(v, key+" is empty", "write a value or remove the key")
	case None:
		if required {
			ps.Add(n, key+" is missing", "add "+key+":")
		}
	default:
		ps.Add(v, fmt.Sprintf("%s must be a text, this is %s", key, v.Kind), "write one value")
	}
	return ""
}

// Flag returns the truth value under key, false when it is missing.
func (n Node) Flag(ps *Problems, key string) bool {
	v := n.Get(key)
	if v.Kind != None && v.Kind != Bool {
		ps.Add(v, fmt.Sprintf("%s must be true or false, this is %s", key, v.Kind), "write true or false")
	}
	return v.Kind == Bool && v.Text == "true"
}

// Int returns the whole number under key, 0 when it is missing.
func (n Node) Int(ps *Problems, key string) int {
	v := n.Get(key)
	if v.Kind == None {
		return 0
	}
	i, err := strconv.Atoi(v.Text)
	if v.Kind != Number || err != nil || i <= 0 {
		ps.Add(v, key+" must be a whole number above 0", "write digits only")
		return 0
	}
	return i
}

// Texts returns the text items under key.
func (n Node) Texts(ps *Problems, key string) []Node {
	v := n.Get(key)
	switch v.Kind {
	case None:
		return nil
	case List:
	default:
		ps.Add(v, fmt.Sprintf("%s must be a list, this is %s", key, v.Kind), "write it as [a, b]")
		return nil
	}
	var out []Node
	seen := map[string]bool{}
	for _, i := range v.Items {
		switch {
		case i.Kind != Text && i.Kind != Number && i.Kind != Bool:
			ps.Add(i, fmt.Sprintf("an item of %s must be a text, this is %s", key, i.Kind), "write one value")
		case seen[i.Text]:
			ps.Add(i, fmt.Sprintf("%q stands twice in %s", i.Text, key), "keep one of them")
		default:
			seen[i.Text] = true
			out = append(out, i)
		}
	}
	return out
}

// Normal is n without positions, comments and key order: two files that mean the same have the same text.
func (n Node) Normal() string {
	var sb strings.Builder
	n.normal(&sb)
	return sb.String()
}

func (n Node) normal(sb *strings.Builder) {
	switch n.Kind {
	case Map:
		es := slices.Clone(n.Entries)
		sort.Slice(es, func(i, j int) bool { return es[i].Key.Text < es[j].Key.Text })
		sb.WriteByte('{')
		for _, e := range es {
			sb.WriteString(strconv.Quote(e.Key.Text))
			e.Value.normal(sb)
		}
		sb.WriteByte('}')
	case List:
		sb.WriteByte('[')
		for _, i := range n.Items {
			i.normal(sb)
		}
		sb.WriteByte(']')
	default:
		fmt.Fprintf(sb, "%d%q", n.Kind, n.Text)
	}
}

// Suggest is a remedy for an unknown word: the nearest known one, or all of them when none is near.
func Suggest(word string, known []string) string {
	best, near := "", (len(word)+1)/3
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d <= near && (best == "" || d < near) {
			best, near = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "there is none"
	}
	sorted := slices.Sorted(slices.Values(known))
	if len(sorted) > 40 {
		sorted = append(sorted[:40], "…")
	}
	return "known: " + strings.Join(sorted, ", ")
}

// distance is the Levenshtein distance in bytes, bounded to words of ordinary length.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
