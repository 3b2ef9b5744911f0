package netsuitetwin

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// query is one parsed SELECT.
type query struct {
	columns      []selected
	table, alias string
	where        *expr
	group        []*expr
	order        []*expr
	desc         []bool
}

type selected struct {
	name string
	e    *expr
}

// expr is a node: a value, a column, or an operation on args. name is a column's name or a date layout.
type expr struct {
	op    string
	name  string
	value any
	args  []*expr

	listed map[string]bool // of "in": whole numbers, as text
}

// parser reads the subset of SuiteQL that the package comment names.
type parser struct {
	tokens []string
	at     int
}

var token = regexp.MustCompile(`(?s)^\s*('(?:[^']|'')*'|[A-Za-z_][\w$]*(?:\.[A-Za-z_*][\w$]*)*|\d+(?:\.\d+)?|<=|>=|<>|!=|[=<>(),*-])`)

// maxNesting bounds how deep parentheses may nest.
const maxNesting = 50

func parse(text string) (query, error) {
	p := &parser{}
	for rest := strings.TrimSuffix(strings.TrimSpace(text), ";"); strings.TrimSpace(rest) != ""; {
		m := token.FindStringSubmatch(rest)
		if m == nil {
			return query{}, fmt.Errorf("invalid or unsupported search: unexpected character near %.20q", strings.TrimSpace(rest))
		}
		p.tokens = append(p.tokens, m[1])
		rest = rest[len(m[0]):]
	}
	q, err := p.query()
	if err == nil && p.at < len(p.tokens) {
		err = p.unexpected()
	}
	return q, err
}

func (p *parser) peek() string {
	if p.at < len(p.tokens) {
		return strings.ToLower(p.tokens[p.at])
	}
	return ""
}

func (p *parser) next() string {
	if p.at >= len(p.tokens) {
		return ""
	}
	p.at++
	return p.tokens[p.at-1]
}

func (p *parser) take(word string) bool {
	if p.peek() != word {
		return false
	}
	p.at++
	return true
}

func (p *parser) want(word string) error {
	if !p.take(word) {
		return p.unexpected()
	}
	return nil
}

func (p *parser) unexpected() error {
	if p.at >= len(p.tokens) {
		return fmt.Errorf("invalid or unsupported search: unexpected end")
	}
	return fmt.Errorf("invalid or unsupported search: unexpected %.20q", p.tokens[p.at])
}

func isName(s string) bool {
	return s != "" && (s[0] == '_' || s[0] >= 'A' && s[0] <= 'Z' || s[0] >= 'a' && s[0] <= 'z')
}

func (p *parser) query() (query, error) {
	var q query
	if err := p.want("select"); err != nil {
		return q, err
	}
	star := false
	for {
		if p.take("*") {
			star = true
		} else {
			e, err := p.operand(0)
			if err != nil {
				return q, err
			}
			name := e.name[strings.LastIndex(e.name, ".")+1:]
			if e.op != "column" {
				name = fmt.Sprintf("expr%d", len(q.columns)+1)
			}
			if p.take("as") || isName(p.peek()) && p.peek() != "from" {
				name = strings.ToLower(p.next())
			}
			q.columns = append(q.columns, selected{name, e})
		}
		if !p.take(",") {
			break
		}
	}
	if err := p.want("from"); err != nil {
		return q, err
	}
	q.table = strings.ToLower(p.next())
	if special(q.table) == nil {
		return q, fmt.Errorf("record '%s' was not found", q.table)
	}
	if p.take("as") || isName(p.peek()) && p.peek() != "where" && p.peek() != "order" && p.peek() != "group" {
		q.alias = strings.ToLower(p.next())
	}
	if star {
		for _, name := range special(q.table) {
			q.columns = append(q.columns, selected{name, &expr{op: "column", name: name}})
		}
	}
	var err error
	if p.take("where") {
		if q.where, err = p.or(0); err != nil {
			return q, err
		}
	}
	if p.take("group") {
		if err := p.want("by"); err != nil {
			return q, err
		}
		for more := true; more; more = p.take(",") {
			e, err := p.operand(0)
			if err != nil {
				return q, err
			}
			q.group = append(q.group, e)
		}
	}
	if !p.take("order") {
		return q, nil
	}
	if err := p.want("by"); err != nil {
		return q, err
	}
	for {
		e, err := p.operand(0)
		if err != nil {
			return q, err
		}
		q.order = append(q.order, e)
		q.desc = append(q.desc, p.take("desc"))
		p.take("asc")
		if !p.take(",") {
			return q, nil
		}
	}
}

func (p *parser) or(depth int) (*expr, error) {
	return p.chain(depth, "or", func(d int) (*expr, error) { return p.chain(d, "and", p.not) })
}

func (p *parser) chain(depth int, word string, part func(int) (*expr, error)) (*expr, error) {
	left, err := part(depth)
	for err == nil && p.take(word) {
		var right *expr
		if right, err = part(depth); err == nil {
			left = &expr{op: word, args: []*expr{left, right}}
		}
	}
	return left, err
}

func (p *parser) not(depth int) (*expr, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("invalid or unsupported search: nested too deep")
	}
	if p.take("not") {
		e, err := p.not(depth + 1)
		return &expr{op: "not", args: []*expr{e}}, err
	}
	if p.take("(") {
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return e, p.want(")")
	}
	return p.comparison(depth)
}

func (p *parser) comparison(depth int) (*expr, error) {
	left, err := p.operand(depth)
	if err != nil {
		return nil, err
	}
	negated := p.take("not")
	e := &expr{op: p.peek(), args: []*expr{left}}
	switch e.op {
	case "=", "<>", "!=", "<", "<=", ">", ">=":
		if p.next(); negated {
			return nil, p.unexpected()
		}
		right, err := p.operand(depth)
		e.args = append(e.args, right)
		return e, err
	case "is":
		p.next()
		negated = p.take("not")
		e.op, err = "null", p.want("null")
	case "in":
		p.next()
		err = p.want("(")
		for more := true; err == nil && more; more = p.take(",") {
			var a *expr
			if a, err = p.operand(depth); err == nil {
				e.args = append(e.args, a)
			}
		}
		if err == nil {
			err = p.want(")")
		}
		if err == nil && len(e.args) > 1001 {
			err = fmt.Errorf("maximum number of expressions in a list is 1000")
		}
	default:
		err = p.unexpected()
	}
	if negated {
		e = &expr{op: "not", args: []*expr{e}}
	}
	return e, err
}

func (p *parser) operand(depth int) (*expr, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("invalid or unsupported search: nested too deep")
	}
	t := p.peek()
	switch {
	case t == "":
		return nil, p.unexpected()
	case t[0] == '\'':
		return &expr{op: "value", value: unquote(p.next())}, nil
	case t[0] >= '0' && t[0] <= '9' || t == "-":
		sign := ""
		if p.take("-") {
			sign = "-"
		}
		d, err := decimal.NewFromString(sign + p.peek())
		if err != nil {
			return nil, p.unexpected()
		}
		p.next()
		return &expr{op: "value", value: d}, nil
	case !isName(t):
		return nil, p.unexpected()
	}
	p.next()
	if p.peek() != "(" {
		return &expr{op: "column", name: t}, nil
	}
	p.next()
	switch t {
	case "count", "sum":
		if t == "count" && p.take("*") {
			return &expr{op: t}, p.want(")")
		}
		inner, err := p.operand(depth + 1)
		if err == nil && inner.op != "column" {
			err = fmt.Errorf("invalid or unsupported search: %s needs a column", t)
		}
		if err == nil {
			err = p.want(")")
		}
		return &expr{op: t, args: []*expr{inner}}, err
	case "to_timestamp", "to_date", "to_char":
		inner, err := p.operand(depth + 1)
		if err == nil {
			err = p.want(",")
		}
		if err != nil {
			return nil, err
		}
		format := p.next()
		if !strings.HasPrefix(format, "'") {
			return nil, fmt.Errorf("invalid or unsupported search: %s needs a format", t)
		}
		layout, err := goLayout(unquote(format))
		if err != nil {
			return nil, err
		}
		if err := p.want(")"); err != nil {
			return nil, err
		}
		if t == "to_char" {
			return &expr{op: "to_char", name: layout, args: []*expr{inner}}, nil
		}
		text, ok := inner.value.(string)
		at, err := time.Parse(layout, text)
		if !ok || err != nil {
			return nil, fmt.Errorf("not a valid date %.40q", text)
		}
		return &expr{op: "value", value: at}, nil
	case "builtin.df":
		inner, err := p.operand(depth + 1)
		if err == nil && inner.op != "column" {
			err = fmt.Errorf("invalid or unsupported search: BUILTIN.DF needs a column")
		}
		if err == nil {
			err = p.want(")")
		}
		return &expr{op: "df", args: []*expr{inner}}, err
	}
	return nil, fmt.Errorf("invalid or unsupported search: function %.20q is not supported", t)
}

func unquote(s string) string { return strings.ReplaceAll(s[1:len(s)-1], "''", "'") }

// goLayout turns an Oracle date format into Go's.
func goLayout(format string) (string, error) {
	layout := strings.NewReplacer(`"T"`, "T", "YYYY", "2006", "HH24", "15", "MM", "01", "DD", "02", "MI", "04", "SSxFF", "05.999999999", "SS", "05").Replace(format)
	for _, c := range layout {
		if c >= 'A' && c <= 'Z' && c != 'T' || c >= 'a' && c <= 'z' || c == '"' {
			return "", fmt.Errorf("date format %.40q not recognized", format)
		}
	}
	return layout, nil
}
