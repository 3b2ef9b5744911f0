package expression

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

// op is what a node does.
type op string

const (
	opConstant op = "constant"
	opName     op = "name"
	opCall     op = "call"
	opList     op = "list"
	opIf       op = "if"
	opNot      op = "not"
	opNegate   op = "negate"
	opJoin     op = "join" // + of texts
	opAnd      op = "and"
	opOr       op = "or"
	opIn       op = "in"
	opNotIn    op = "not in"
	opNull     op = "??"
	opAdd      op = "+"
	opSubtract op = "-"
	opMultiply op = "*"
	opDivide   op = "/"
	opEqual    op = "=="
	opUnequal  op = "!="
	opLess     op = "<"
	opAtMost   op = "<="
	opGreater  op = ">"
	opAtLeast  op = ">="
)

const (
	priorityOr = 1 + iota
	priorityAnd
	priorityNot
	priorityComparison
	priorityNull
	prioritySum
	priorityProduct
)

func (o op) priority() int {
	switch o {
	case opOr:
		return priorityOr
	case opAnd:
		return priorityAnd
	case opEqual, opUnequal, opLess, opAtMost, opGreater, opAtLeast, opIn, opNotIn:
		return priorityComparison
	case opNull:
		return priorityNull
	case opAdd, opSubtract:
		return prioritySum
	case opMultiply, opDivide:
		return priorityProduct
	}
	return 0
}

// node is one part of an expression. at counts characters from the start of the expression.
type node struct {
	op       op
	at       int
	text     string // of a name or call
	constant record.Value
	args     []*node
	enclosed bool // in parentheses
	slot     int  // of a name
	instants bool // a comparison of dates or times
}

// number gives each name its place among the values of an evaluation.
func (n *node) number(slots map[string]int) {
	if n.op == opName {
		n.slot = slots[n.text]
	}
	for _, a := range n.args {
		a.number(slots)
	}
}

type tokenKind uint8

const (
	end tokenKind = iota
	word
	number
	quoted
	sign
)

type token struct {
	kind tokenKind
	text string
	at   int
}

func (t token) String() string {
	switch t.kind {
	case end:
		return "the end"
	case quoted:
		return "a text"
	}
	return fmt.Sprintf("%q", t.text)
}

// parser reads one expression and knows where it stands.
type parser struct {
	source   source.Node
	problems *source.Problems
	tokens   []token
	failed   bool // a problem of syntax: one is told, what follows from it is not
}

// problem tells what is wrong at a character of the expression.
func (p *parser) problem(at int, message, remedy string) {
	n := p.source
	if !strings.Contains(n.Text, "\n") {
		n.Column += at
	} else {
		before := string([]rune(n.Text)[:at])
		n.Line += 1 + strings.Count(before, "\n")
		n.Column = 1 + len([]rune(before[strings.LastIndex(before, "\n")+1:]))
	}
	p.problems.Add(n, message, remedy)
}

func (p *parser) fail(at int, message, remedy string) *node {
	if !p.failed {
		p.failed = true
		p.problem(at, message, remedy)
	}
	return &node{op: opConstant, at: at}
}

func (p *parser) parse() *node {
	if p.scan(); p.failed {
		return nil
	}
	n := p.expression(0, 0)
	if t := p.peek(); t.kind != end {
		p.fail(t.at, t.String()+" stands where the expression should end", "join parts with and, or, or a comparison")
	}
	return n
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is the word or sign text.
func (p *parser) accept(text string) bool {
	if t := p.peek(); (t.kind == word || t.kind == sign) && t.text == text {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(text, where string) {
	if !p.accept(text) {
		p.fail(p.peek().at, fmt.Sprintf("%s where %q %s was expected", p.peek(), text, where), "write "+text)
	}
}

// scan turns the text into tokens.
func (p *parser) scan() {
	text := []rune(p.source.Text)
	for i := 0; i < len(text); {
		at, c := i, text[i]
		switch {
		case unicode.IsSpace(c):
			i++
			continue
		case letter(c):
			for i < len(text) && (letter(text[i]) || digit(text[i]) || text[i] == '.' && i+1 < len(text) && letter(text[i+1])) {
				i++
			}
			p.tokens = append(p.tokens, token{word, string(text[at:i]), at})
		case digit(c):
			for i < len(text) && (digit(text[i]) || text[i] == '.' && i+1 < len(text) && digit(text[i+1])) {
				i++
			}
			p.tokens = append(p.tokens, token{number, string(text[at:i]), at})
		case c == '"' || c == '\'':
			length := slices.Index(text[i+1:], c)
			if length < 0 {
				p.fail(at, "a text without its closing quote", "close it with "+string(c))
				return
			}
			i += length + 2
			p.tokens = append(p.tokens, token{quoted, string(text[at+1 : i-1]), at})
		default:
			s := string(c)
			if i+1 < len(text) && slices.Contains([]string{"==", "!=", "<=", ">=", "??", "&&", "||"}, string(text[i:i+2])) {
				s = string(text[i : i+2])
			}
			if remedy := foreign(s); remedy != "" {
				p.fail(at, fmt.Sprintf("%q is no sign of this language", s), remedy)
				return
			}
			i += len([]rune(s))
			p.tokens = append(p.tokens, token{sign, s, at})
		}
	}
	p.tokens = append(p.tokens, token{end, "", len(text)})
}

func letter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c rune) bool  { return c >= '0' && c <= '9' }

// foreign is the remedy for a sign that is none here, or "".
func foreign(s string) string {
	switch s {
	case "==", "!=", "<", "<=", ">", ">=", "??", "+", "-", "*", "/", "(", ")", "[", "]", ",":
		return ""
	case "=":
		return "compare with =="
	case "!":
		return "write not"
	case "&&", "&":
		return "write and"
	case "||", "|":
		return "write or"
	case "?", ":":
		return "write if … then … else …"
	}
	return "known: and or not in if then else == != < <= > >= ?? + - * / ( ) [ ]"
}

func reserved(word string) bool {
	return slices.Contains([]string{"and", "or", "not", "in", "if", "then", "else", "true", "false", "null"}, word)
}

// operator returns the operator that comes next, and how many tokens it has.
func (p *parser) operator() (op, int) {
	t := p.peek()
	if t.kind == word && t.text == "not" && p.tokens[1].kind == word && p.tokens[1].text == "in" {
		return opNotIn, 2
	}
	if o := op(t.text); (t.kind == sign || t.kind == word) && o != opNotIn && o.priority() > 0 {
		return o, 1
	}
	return "", 0
}

// expression reads operators that bind stronger than weakest. depth counts what encloses it.
func (p *parser) expression(weakest, depth int) *node {
	if depth > maxNesting {
		return p.fail(p.peek().at, fmt.Sprintf("nested deeper than %d", maxNesting), "split the rule")
	}
	left := p.operand(weakest, depth)
	for !p.failed {
		o, width := p.operator()
		priority := o.priority()
		if priority <= weakest {
			break
		}
		at := p.peek().at
		p.tokens = p.tokens[width:]
		if priority == priorityComparison && left.op.priority() == priorityComparison && !left.enclosed {
			return p.fail(at, fmt.Sprintf("a second comparison %q in a row", o), "join two comparisons with and")
		}
		right := p.expression(priority, depth)
		for _, side := range []*node{left, right} {
			other := side.op.priority()
			if !side.enclosed && (o == opNull && other >= prioritySum || side.op == opNull && priority >= prioritySum) {
				return p.fail(at, fmt.Sprintf("%q beside %q can be read in two ways", o, side.op), "put one of them in parentheses")
			}
		}
		left = &node{op: o, at: at, args: []*node{left, right}}
	}
	return left
}

// operand reads what stands between operators.
func (p *parser) operand(weakest, depth int) *node {
	t := p.next()
	switch {
	case t.kind == number:
		v, err := record.ParseNumber(t.text)
		if err != nil || strings.Count(t.text, ".") > 1 {
			return p.fail(t.at, fmt.Sprintf("%q is not a number", t.text), "write it as 1234.56, of at most 80 digits and 40 decimals")
		}
		return &node{op: opConstant, at: t.at, constant: v}
	case t.kind == quoted:
		return &node{op: opConstant, at: t.at, constant: record.TextValue(t.text)}
	case t.kind == word && t.text == "null":
		return &node{op: opConstant, at: t.at, constant: record.NullValue()}
	case t.kind == word && (t.text == "true" || t.text == "false"):
		return &node{op: opConstant, at: t.at, constant: record.BoolValue(t.text == "true")}
	case t.kind == word && t.text == "if":
		if weakest > 0 {
			return p.fail(t.at, "an if inside a larger expression", "put it in parentheses")
		}
		n := &node{op: opIf, at: t.at}
		n.args = append(n.args, p.expression(0, depth+1))
		p.expect("then", "after the condition")
		n.args = append(n.args, p.expression(0, depth+1))
		p.expect("else", "after the value")
		n.args = append(n.args, p.expression(0, depth+1))
		return n
	case t.kind == word && t.text == "not":
		if weakest >= priorityNot {
			return p.fail(t.at, `"not" inside a comparison`, "put it in parentheses")
		}
		return &node{op: opNot, at: t.at, args: []*node{p.expression(priorityNot-1, depth+1)}}
	case t.kind == word && !reserved(t.text):
		if p.accept("(") {
			return &node{op: opCall, at: t.at, text: t.text, args: p.several(")", depth+1)}
		}
		return &node{op: opName, at: t.at, text: t.text}
	case t.kind == sign && t.text == "-":
		return &node{op: opNegate, at: t.at, args: []*node{p.expression(priorityProduct, depth+1)}}
	case t.kind == sign && t.text == "(":
		n := p.expression(0, depth+1)
		p.expect(")", "after the parentheses' content")
		n.enclosed = true
		return n
	case t.kind == sign && t.text == "[":
		return &node{op: opList, at: t.at, args: p.several("]", depth+1)}
	}
	return p.fail(t.at, t.String()+" where a value was expected", "write a name, a constant or a function")
}

// several reads values with commas between them, up to close.
func (p *parser) several(close string, depth int) []*node {
	var out []*node
	if p.accept(close) {
		return nil
	}
	for !p.failed {
		out = append(out, p.expression(0, depth))
		if p.accept(close) {
			break
		}
		p.expect(",", "or "+close)
	}
	return out
}
