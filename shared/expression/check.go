package expression

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

// kind of a typ.
type kind uint8

const (
	unknown kind = iota // something is wrong with it, which has been told
	null
	text
	decimals
	truth
	date
	moment
	reference
	list
	table
)

// typ is what is known about a value before there is one.
type typ struct {
	kind     kind
	values   []string // the only ones that a text can have; nil when it can have any
	constant bool     // a text made of constants only, which can pass for an enum value, a date or a reference
	to       string   // of a reference
	currency string   // of money: the field that holds its currency
	columns  []string // of a table
}

func (t typ) String() string {
	switch t.kind {
	case null:
		return "null"
	case text:
		if t.values != nil && !t.constant {
			return "an enum"
		}
		return "a text"
	case decimals:
		return "a number"
	case truth:
		return "true or false"
	case date:
		return "a date"
	case moment:
		return "a time"
	case reference:
		return "a reference to " + t.to
	case list:
		return "a list"
	case table:
		return "a table"
	}
	return "unknown"
}

func typeOf(f contract.Field) typ {
	switch f.Type {
	case contract.Number:
		return typ{kind: decimals}
	case contract.Money:
		return typ{kind: decimals, currency: f.Currency}
	case contract.Bool:
		return typ{kind: truth}
	case contract.Date:
		return typ{kind: date}
	case contract.DateTime:
		return typ{kind: moment}
	case contract.Enum:
		return typ{kind: text, values: slices.Clip(f.Values)}
	case contract.Reference:
		return typ{kind: reference, to: f.To}
	case contract.List:
		return typ{kind: list}
	case contract.Table:
		t := typ{kind: table}
		for _, c := range f.Columns {
			t.columns = append(t.columns, c.Name)
		}
		return t
	}
	return typ{kind: text}
}

// meet is the type that two values share, as sides of a comparison or as alternatives. why says that there is none.
func meet(a, b typ) (shared typ, why, remedy string) {
	switch {
	case a.kind == unknown || b.kind == unknown:
		return typ{}, "", ""
	case a.kind == null:
		return b, "", ""
	case b.kind == null:
		return a, "", ""
	case a.constant && b.kind != text:
		if why, remedy = stands(a, b); why != "" {
			return typ{}, why, remedy
		}
		return b, "", ""
	case b.constant && a.kind != text:
		return meet(b, a)
	case a.kind != b.kind:
		return typ{}, fmt.Sprintf("%s and %s do not go together", a, b), "compare or combine values of one type"
	case a.to != b.to:
		return typ{}, fmt.Sprintf("%s and %s do not go together", a, b), "use references to one entity"
	case a.currency != b.currency && a.currency != "" && b.currency != "":
		return typ{}, fmt.Sprintf("amounts in the currencies %s and %s do not go together", a.currency, b.currency), "use amounts of one currency"
	case !slices.Equal(a.columns, b.columns):
		return typ{}, "two tables with different columns do not go together", "use tables of one field"
	}
	a.constant = a.constant && b.constant
	if a.currency == "" {
		a.currency = b.currency
	}
	if a.values == nil || b.values == nil {
		a.values = nil
	} else {
		a.values = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.values, b.values))))
	}
	return a, "", ""
}

// stands says why not every text of the constants c can be a value of type t.
func stands(c, t typ) (why, remedy string) {
	for _, v := range c.values {
		layout, sample := "", ""
		switch t.kind {
		case date:
			layout, sample = time.DateOnly, "2006-01-02"
		case moment:
			layout, sample = time.RFC3339Nano, "2006-01-02T15:04:05Z"
		case reference:
			if id := record.ID(v); id.Validate() != nil || id.Entity() != t.to {
				return fmt.Sprintf("%q is not the id of a %s", v, t.to), "write it as " + t.to + "/…"
			}
			continue
		default:
			return fmt.Sprintf("%s and %s do not go together", t, c), "compare or combine values of one type"
		}
		if at, err := time.Parse(layout, v); err != nil || at.Location() != time.UTC {
			return fmt.Sprintf("%q is not %s", v, t), "write it as " + sample
		}
	}
	return "", ""
}

type checker struct {
	*parser
	scope Scope
	slots map[string]int // every name that is mentioned
}

// result checks that what root gives can stand in field want.
func (c *checker) result(root *node, want contract.Field) {
	got, to := c.check(root), typeOf(want)
	what := "a condition"
	if want.Name != "" {
		what = "field " + want.Name
	}
	if got.kind == unknown {
		return
	}
	if got.kind == null {
		c.problem(root.at, "the result is always null", "give "+what+" a value")
		return
	}
	if to.kind == text && to.values != nil && got.kind == text {
		if got.values == nil {
			c.problem(root.at, fmt.Sprintf("the result is any text, %s takes only its values", what), "choose with if … then … else …; values: "+strings.Join(to.values, ", "))
		}
		for _, v := range got.values {
			if !slices.Contains(to.values, v) {
				c.problem(root.at, fmt.Sprintf("the result can be %q, which is no value of %s", v, what), source.Suggest(v, to.values))
			}
		}
		return
	}
	if want.Type == contract.Text && (got.kind == date || got.kind == moment || got.kind == reference) {
		return
	}
	if got.kind != to.kind && !got.constant {
		c.problem(root.at, fmt.Sprintf("the result is %s, %s needs %s", got, what, to), "write an expression that gives "+to.String())
		return
	}
	if _, why, remedy := meet(got, to); why != "" {
		c.problem(root.at, "the result does not fit "+what+": "+why, remedy)
	}
}

// check finds the type of n and tells everything that is wrong below it.
func (c *checker) check(n *node) typ {
	switch n.op {
	case opConstant:
		return constant(n.constant)
	case opName:
		return c.name(n)
	case opCall:
		return c.call(n)
	case opList:
		c.problem(n.at, "a list outside of in", `write x in ["a", "b"]`)
		for _, a := range n.args {
			c.check(a)
		}
		return typ{}
	case opIf:
		c.need(n.args[0], truth, "a condition")
		return c.together(n, n.args[1], n.args[2])
	case opNot, opAnd, opOr:
		for _, a := range n.args {
			c.need(a, truth, string(n.op))
		}
		return typ{kind: truth}
	case opNull:
		return c.together(n, n.args[0], n.args[1])
	case opIn, opNotIn:
		c.in(n)
		return typ{kind: truth}
	case opNegate:
		return c.need(n.args[0], decimals, "the sign -")
	case opAdd, opSubtract, opMultiply, opDivide:
		return c.arithmetic(n)
	}
	c.comparison(n)
	return typ{kind: truth}
}

func constant(v record.Value) typ {
	switch v.Kind() {
	case record.Number:
		return typ{kind: decimals}
	case record.Bool:
		return typ{kind: truth}
	case record.Text:
		return typ{kind: text, values: []string{v.Raw()}, constant: true}
	}
	return typ{kind: null}
}

func (c *checker) name(n *node) typ {
	f, ok := c.scope[n.text]
	if !ok {
		known := make([]string, 0, len(c.scope))
		for k := range c.scope {
			known = append(known, k)
		}
		slices.Sort(known)
		remedy := source.Suggest(n.text, known)
		if len(known) == 0 {
			remedy = "no name may be mentioned here"
		}
		c.problem(n.at, fmt.Sprintf("unknown name %q", n.text), remedy)
		return typ{}
	}
	c.slots[n.text] = 0
	return typeOf(f)
}

// need checks n and that it has type want.
func (c *checker) need(n *node, want kind, what string) typ {
	got := c.check(n)
	if got.kind != want && got.kind != unknown {
		c.problem(n.at, fmt.Sprintf("%s needs %s, this is %s", what, typ{kind: want}, got), "write an expression that gives "+typ{kind: want}.String())
		return typ{}
	}
	return got
}

// together is the type of two alternatives.
func (c *checker) together(n, a, b *node) typ {
	t, why, remedy := meet(c.check(a), c.check(b))
	if why != "" {
		c.problem(n.at, why, remedy)
	}
	return t
}

func (c *checker) arithmetic(n *node) typ {
	a, b := c.check(n.args[0]), c.check(n.args[1])
	if n.op == opAdd && a.kind == text && b.kind == text {
		n.op = opJoin
		return typ{kind: text}
	}
	bad := false
	for i, t := range []typ{a, b} {
		if t.kind != decimals && t.kind != unknown {
			bad = true
			remedy := "use numbers"
			if n.op == opAdd {
				remedy = "add two numbers, or join two texts; text(x) makes a text"
			}
			c.problem(n.args[i].at, fmt.Sprintf("%q cannot take %s here", n.op, t), remedy)
		}
	}
	if bad {
		return typ{}
	}
	if v := n.args[1].constant; n.op == opDivide && v == record.NumberValue(zero()) {
		c.problem(n.args[1].at, "a division by 0", "divide by something else")
	}
	if n.op == opMultiply && a.currency != "" && b.currency != "" {
		c.problem(n.at, "an amount times an amount", "multiply an amount with a number")
	}
	t, why, remedy := meet(a, b)
	if why != "" {
		c.problem(n.at, why, remedy)
	}
	if n.op == opDivide && b.currency != "" {
		t.currency = ""
	}
	return t
}

// comparable tells when a and b can never be equal.
func (c *checker) comparable(at int, a, b *node, x, y typ) (typ, bool) {
	t, why, remedy := meet(x, y)
	if why != "" {
		c.problem(at, why, remedy)
		return t, false
	}
	if t.kind != text || t.constant || x.values == nil || y.values == nil || slices.ContainsFunc(x.values, func(v string) bool { return slices.Contains(y.values, v) }) {
		return t, true
	}
	if y.constant {
		a, b, x, y = b, a, y, x
	}
	if x.constant && len(x.values) == 1 {
		of := "what it is compared with"
		if b.op == opName {
			of = b.text
		}
		c.problem(a.at, fmt.Sprintf("%q is no value of %s", x.values[0], of), source.Suggest(x.values[0], y.values))
	} else {
		c.problem(at, "the two sides have no value in common", "compare fields that share values")
	}
	return t, false
}

func (c *checker) comparison(n *node) {
	a, b := n.args[0], n.args[1]
	x, y := c.check(a), c.check(b)
	t, ok := c.comparable(n.at, a, b, x, y)
	n.instants = t.kind == date || t.kind == moment
	if !ok || t.kind == unknown || n.op == opEqual || n.op == opUnequal {
		return
	}
	enum := t.kind == text && (x.values != nil && !x.constant || y.values != nil && !y.constant)
	if x.kind == null || y.kind == null || enum || t.kind != decimals && t.kind != text && !n.instants {
		if x.kind == null || y.kind == null {
			t = typ{kind: null}
		} else if enum {
			t = typ{kind: text, values: []string{}}
		}
		c.problem(n.at, fmt.Sprintf("%q orders, but %s has no order", n.op, t), "compare with ==, != or in")
	}
}

func (c *checker) in(n *node) {
	a, b := n.args[0], n.args[1]
	x := c.check(a)
	if b.op != opList {
		if y := c.check(b); y.kind != list && y.kind != unknown {
			c.problem(b.at, fmt.Sprintf("%q needs a list, this is %s", n.op, y), `write [a, b] or the name of a list field`)
		} else if x.kind != text && x.kind != reference && x.kind != unknown {
			c.problem(a.at, fmt.Sprintf("the items of a list are texts, this is %s", x), "look for a text")
		}
		return
	}
	if x.kind == list || x.kind == table || x.kind == null {
		c.problem(a.at, fmt.Sprintf("%q looks for one value, this is %s", n.op, x), "look for a text, a number or a date")
		return
	}
	if len(b.args) == 0 {
		c.problem(b.at, "an empty list", "list what may stand there")
	}
	for _, item := range b.args {
		y := c.check(item)
		if y.kind == null {
			c.problem(item.at, "null in a list never matches", "write == null")
			continue
		}
		t, _ := c.comparable(item.at, a, item, x, y)
		n.instants = n.instants || t.kind == date || t.kind == moment
	}
}

// function is how a function may be called. No result kind: the one of its arguments.
type function struct {
	name        string
	least, most int
	takes       []kind
	gives       kind
}

func functions() []function {
	return []function{
		{"lower", 1, 1, []kind{text}, text},
		{"upper", 1, 1, []kind{text}, text},
		{"trim", 1, 1, []kind{text}, text},
		{"startsWith", 2, 2, []kind{text}, truth},
		{"endsWith", 2, 2, []kind{text}, truth},
		{"contains", 2, 2, []kind{text}, truth},
		{"length", 1, 1, []kind{text, list, table}, decimals},
		{"text", 1, 1, []kind{text, decimals, truth, date, moment, reference}, text},
		{"abs", 1, 1, []kind{decimals}, unknown},
		{"round", 2, 2, []kind{decimals}, unknown},
		{"min", 2, maxCharacters, []kind{decimals}, unknown},
		{"max", 2, maxCharacters, []kind{decimals}, unknown},
	}
}

func (c *checker) call(n *node) typ {
	all := functions()
	i := slices.IndexFunc(all, func(f function) bool { return f.name == n.text })
	if i < 0 {
		var known []string
		for _, f := range all {
			known = append(known, f.name)
		}
		c.problem(n.at, fmt.Sprintf("unknown function %q", n.text), source.Suggest(n.text, known))
		return typ{}
	}
	f := all[i]
	if len(n.args) < f.least || len(n.args) > f.most {
		c.problem(n.at, fmt.Sprintf("%s with %d values in parentheses, it takes %d", f.name, len(n.args), f.least), "see the language's description")
		return typ{}
	}
	out := typ{kind: f.gives}
	for i, a := range n.args {
		got := c.check(a)
		if got.kind == unknown {
			continue
		}
		if !slices.Contains(f.takes, got.kind) {
			c.problem(a.at, fmt.Sprintf("%s takes %s, this is %s", f.name, typ{kind: f.takes[0]}, got), "write an expression that gives "+typ{kind: f.takes[0]}.String())
			continue
		}
		if f.gives == unknown && (f.name != "round" || i == 0) {
			t, why, remedy := meet(out, got)
			if out.kind == unknown {
				t = got
			}
			if why != "" {
				c.problem(a.at, why, remedy)
			}
			out = t
		}
	}
	if f.name == "round" {
		if d, ok := n.args[1].constant.Decimal(); !ok || !d.IsInteger() || d.IsNegative() || d.IntPart() > maxPlaces {
			c.problem(n.args[1].at, "round needs the number of decimals as a constant", fmt.Sprintf("write a whole number from 0 to %d", maxPlaces))
		}
	}
	return out
}
