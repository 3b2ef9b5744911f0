// Package expression is the small language of policies: conditions (may this be approved without a person? who may
// approve?) and computed values (a contact's name, the contribution that survives). Decision 010 says why it is our own.
//
// # The language
//
//	names        after.creditLimit, netsuite: what the Scope lists, with the type of its contract field
//	constants    12.50   "text" or 'text' (no escapes: use the other quote)   true   false   null
//	logic        a and b   a or b   not a   if a then b else c
//	comparison   ==  !=  <  <=  >  >=   x in ["a", "b"]   x not in aListField
//	values       x ?? y (y when x is null)   + - * /   "a" + "b"
//	text         lower(t) upper(t) trim(t) startsWith(t, part) endsWith(t, part) contains(t, part) length(t or list) text(x)
//	numbers      abs(n) round(n, places) min(a, b, …) max(a, b, …)
//
// From weakest to strongest: if, or, and, not, comparison (which does not chain), ??, + and -, * and /, the sign. What
// reads in two ways (?? beside + or *) needs parentheses. The words are chosen so that an expression is plain YAML; one that
// starts with a quote or a bracket, or whose texts contain a colon or # beside a space, needs a literal block or YAML's quotes.
//
// # Null
//
// Absent behaves as null. == and != are total: null equals null and nothing else, and != is always the opposite of ==,
// so before.terms != after.terms is true when terms were set for the first time. Every other comparison with null is
// false, and so are in, startsWith, endsWith and contains. Where a truth value is needed, null counts as false.
// Arithmetic and all other functions give null when an argument is null.
//
// # Numbers, texts, times
//
// Numbers are exact decimals; a result of more than 80 digits or 40 decimals is an error, and only / rounds (half away
// from zero, at 16 decimals) besides round itself. Texts compare by bytes, dates and times as instants. An enum has no order. Text
// constants take the type of what they meet: enum values, dates and references are checked when the policy is.
//
// # Bounds
//
// There are no loops, no variables and no regular expressions: an evaluation visits each part of the expression at most
// once, asks for each name exactly once, and stops with an error after handling 1 MiB of text. It does no I/O, knows no clock,
// and gives the same result for the same values.
package expression

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

const (
	maxCharacters = 2000 // of an expression
	maxNesting    = 64   // of parentheses, calls, if and not within each other
	maxWork       = 1 << 20
)

// Scope says which names an expression may mention and what they are. A name is letters and digits in dotted parts; one
// that is a word of the language (such as in or then) cannot be mentioned.
type Scope map[string]contract.Field

// Program is a checked expression. It is immutable and safe for concurrent use.
type Program struct {
	text  string
	root  *node
	names []string
	kinds []record.Kind // per name: what a value must be
}

// Compile checks the expression in at, whose value shall be able to stand in field want. Everything wrong goes to ps
// with its place, and then nil is returned.
//
// Places are exact inside a plain scalar of one line. Inside quotes they are one column early, because a Node does not
// know its quotes. In a literal block (|) the line is exact and the column does not count the indentation. Text that YAML
// folds (> or a plain scalar over several lines), and a block of one line without its end (|-), count as if they stood in
// the line of the key. Every message quotes what it is about.
func Compile(at source.Node, scope Scope, want contract.Field, ps *source.Problems) *Program {
	switch at.Kind {
	case source.Text, source.Number, source.Bool:
	default:
		ps.Add(at, fmt.Sprintf("an expression must be a text, this is %s", at.Kind), "write it in one line, in quotes if YAML needs them")
		return nil
	}
	if n := utf8.RuneCountInString(at.Text); n > maxCharacters {
		ps.Add(at, fmt.Sprintf("an expression of %d characters, at most %d are read", n, maxCharacters), "split the rule")
		return nil
	}
	before := ps.Len()
	p := &parser{source: at, problems: ps}
	root := p.parse()
	if ps.Len() > before {
		return nil
	}
	c := &checker{parser: p, scope: scope, slots: map[string]int{}}
	c.result(root, want)
	if ps.Len() > before {
		return nil
	}
	out := &Program{text: at.Text, root: root, names: slices.Sorted(maps.Keys(c.slots))}
	for i, name := range out.names {
		c.slots[name] = i
		out.kinds = append(out.kinds, kindOf(scope[name].Type))
	}
	root.number(c.slots)
	return out
}

// Predicate compiles a condition, to be asked with Holds.
func Predicate(at source.Node, scope Scope, ps *source.Problems) *Program {
	return Compile(at, scope, contract.Field{Type: contract.Bool}, ps)
}

// Names lists what the expression mentions, sorted.
func (p *Program) Names() []string { return slices.Clone(p.names) }

// String is the expression as written.
func (p *Program) String() string { return strings.TrimSpace(p.text) }

func kindOf(t contract.Type) record.Kind {
	switch t {
	case contract.Number, contract.Money:
		return record.Number
	case contract.Bool:
		return record.Bool
	case contract.List, contract.Table:
		return record.Structure
	}
	return record.Text
}
