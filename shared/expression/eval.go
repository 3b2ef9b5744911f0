package expression

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

const (
	maxDigits = 80 // of a number, as record.ParseNumber reads
	maxPlaces = 40
	quotient  = 16 // decimals of a division
)

func zero() decimal.Decimal { return decimal.Decimal{} }

// Eval computes the value, asking once for each of Names in order. The result is never absent. An error is a fault of
// class Contract (a value is not what its field promises, a division by zero, a number out of bounds) or TooLarge
// (more than 1 MiB of text); it names fields and shapes, never a value.
func (p *Program) Eval(value func(name string) record.Value) (record.Value, error) {
	run := evaluation{program: p, left: maxWork, values: make([]record.Value, len(p.names))}
	for i, name := range p.names {
		v := value(name)
		if v.IsAbsent() {
			v = record.NullValue()
		}
		if !v.IsNull() && v.Kind() != p.kinds[i] {
			return record.Value{}, &fault.Error{Class: fault.Contract, Op: "expression.eval", ID: p.String(), Fields: []string{name},
				Detail: name + " is of another kind than its contract says", Remedy: "correct it at its source"}
		}
		run.values[i] = v
	}
	v, err := run.eval(p.root)
	if err != nil {
		return record.Value{}, err
	}
	return v, nil
}

// Holds evaluates a condition. Null counts as false.
func (p *Program) Holds(value func(name string) record.Value) (bool, error) {
	v, err := p.Eval(value)
	return err == nil && isTrue(v), err
}

func isTrue(v record.Value) bool { return v == record.BoolValue(true) }

type evaluation struct {
	program *Program
	values  []record.Value
	left    int // bytes of text that may still be handled
}

func (e *evaluation) fault(class fault.Class, detail, remedy string) error {
	return &fault.Error{Class: class, Op: "expression.eval", ID: e.program.String(), Fields: e.program.names, Detail: detail, Remedy: remedy}
}

// spend pays for handling texts.
func (e *evaluation) spend(values ...record.Value) error {
	for _, v := range values {
		e.left -= len(v.Raw())
	}
	if e.left < 0 {
		return e.fault(fault.TooLarge, fmt.Sprintf("the expression handles more than %d bytes of text", maxWork), "shorten the values or split the rule")
	}
	return nil
}

func (e *evaluation) eval(n *node) (record.Value, error) {
	switch n.op {
	case opConstant:
		return n.constant, nil
	case opName:
		return e.values[n.slot], nil
	case opIf, opAnd, opOr, opNull:
		return e.choose(n)
	case opIn, opNotIn:
		return e.in(n)
	}
	args := make([]record.Value, len(n.args))
	for i, a := range n.args {
		v, err := e.eval(a)
		if err != nil {
			return v, err
		}
		args[i] = v
	}
	switch n.op {
	case opNot:
		return record.BoolValue(!isTrue(args[0])), nil
	case opEqual, opUnequal, opLess, opAtMost, opGreater, opAtLeast:
		return e.compare(n, args[0], args[1])
	case opJoin, opCall:
		if err := e.spend(args...); err != nil {
			return record.Value{}, err
		}
		if v, done := textual(n, args); done {
			return v, nil
		}
	}
	return e.arithmetic(n, args)
}

// choose evaluates only what it needs.
func (e *evaluation) choose(n *node) (record.Value, error) {
	first, err := e.eval(n.args[0])
	if err != nil {
		return first, err
	}
	switch {
	case n.op == opNull && !first.IsNull(), n.op == opAnd && !isTrue(first), n.op == opOr && isTrue(first):
		if n.op == opAnd {
			return record.BoolValue(false), nil
		}
		return first, nil
	case n.op == opIf && !isTrue(first):
		return e.eval(n.args[2])
	}
	v, err := e.eval(n.args[1])
	if err == nil && (n.op == opAnd || n.op == opOr) {
		v = record.BoolValue(isTrue(v))
	}
	return v, err
}

func (e *evaluation) in(n *node) (record.Value, error) {
	want, err := e.eval(n.args[0])
	if err != nil {
		return want, err
	}
	found := false
	if items := n.args[1]; items.op == opList {
		for _, item := range items.args {
			v, err := e.eval(item)
			if err != nil {
				return v, err
			}
			order, err := e.order(n, want, v)
			if err != nil {
				return v, err
			}
			found = found || order == 0 && !want.IsNull()
		}
	} else {
		v, err := e.eval(items)
		if err != nil {
			return v, err
		}
		if err := e.spend(v); err != nil {
			return v, err
		}
		for _, item := range asList(v) {
			found = found || !want.IsNull() && item == want.Any()
		}
	}
	return record.BoolValue(found == (n.op == opIn) && (found || !want.IsNull())), nil
}

func asList(v record.Value) []any {
	items, _ := v.Any().([]any)
	return items
}

func (e *evaluation) compare(n *node, a, b record.Value) (record.Value, error) {
	order, err := e.order(n, a, b)
	if err != nil {
		return a, err
	}
	switch n.op {
	case opEqual:
		return record.BoolValue(order == 0), nil
	case opUnequal:
		return record.BoolValue(order != 0), nil
	}
	holds := n.op == opLess && order < 0 || n.op == opAtMost && order <= 0 || n.op == opGreater && order > 0 || n.op == opAtLeast && order >= 0
	return record.BoolValue(holds && !a.IsNull() && !b.IsNull()), nil
}

// order compares totally; null equals only null.
func (e *evaluation) order(n *node, a, b record.Value) (int, error) {
	if err := e.spend(a, b); err != nil {
		return 0, err
	}
	if !n.instants || a.IsNull() || b.IsNull() {
		return a.Compare(b), nil
	}
	at, err := e.instant(a)
	if err != nil {
		return 0, err
	}
	other, err := e.instant(b)
	return at.Compare(other), err
}

func (e *evaluation) instant(v record.Value) (time.Time, error) {
	layout := time.RFC3339Nano
	if len(v.Raw()) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	at, err := time.Parse(layout, v.Raw())
	if err != nil {
		return at, e.fault(fault.Contract, fmt.Sprintf("a text of %d characters is no date or time", utf8.RuneCountInString(v.Raw())), "correct it at its source")
	}
	return at, nil
}

// textual computes what is about texts. done is false for functions of numbers.
func textual(n *node, args []record.Value) (v record.Value, done bool) {
	about := n.op == opJoin
	switch n.text {
	case "lower", "upper", "trim", "length", "text", "startsWith", "endsWith", "contains":
		about = true
	}
	if !about {
		return v, false
	}
	for _, a := range args {
		if a.IsNull() && len(args) == 2 && n.op == opCall {
			return record.BoolValue(false), true
		}
		if a.IsNull() {
			return a, true
		}
	}
	s := args[0].Raw()
	switch n.text {
	case "lower":
		return record.TextValue(strings.ToLower(s)), true
	case "upper":
		return record.TextValue(strings.ToUpper(s)), true
	case "trim":
		return record.TextValue(strings.TrimSpace(s)), true
	case "text":
		return record.TextValue(s), true
	case "length":
		count := utf8.RuneCountInString(s)
		if args[0].Kind() == record.Structure {
			count = len(asList(args[0]))
		}
		return record.NumberValue(decimal.NewFromInt(int64(count))), true
	case "startsWith":
		return record.BoolValue(strings.HasPrefix(s, args[1].Raw())), true
	case "endsWith":
		return record.BoolValue(strings.HasSuffix(s, args[1].Raw())), true
	case "contains":
		return record.BoolValue(strings.Contains(s, args[1].Raw())), true
	}
	return record.TextValue(s + args[1].Raw()), true
}

func (e *evaluation) arithmetic(n *node, args []record.Value) (record.Value, error) {
	numbers := make([]decimal.Decimal, len(args))
	for i, v := range args {
		if v.IsNull() {
			return v, nil
		}
		numbers[i], _ = v.Decimal()
	}
	out, b := numbers[0], numbers[len(numbers)-1]
	switch {
	case n.op == opNegate:
		out = out.Neg()
	case n.op == opAdd:
		out = out.Add(b)
	case n.op == opSubtract:
		out = out.Sub(b)
	case n.op == opMultiply:
		out = out.Mul(b)
	case n.op == opDivide && b.IsZero():
		return record.Value{}, e.fault(fault.Contract, "the expression divides by zero", "write if … == 0 then … else …")
	case n.op == opDivide:
		out = out.DivRound(b, quotient)
	case n.text == "abs":
		out = out.Abs()
	case n.text == "round":
		out = out.Round(int32(b.IntPart()))
	case n.text == "min":
		out = decimal.Min(out, numbers[1:]...)
	case n.text == "max":
		out = decimal.Max(out, numbers[1:]...)
	}
	v := record.NumberValue(out)
	if d, ok := v.Decimal(); !ok || d.NumDigits() > maxDigits || d.Exponent() < -maxPlaces || len(v.Raw()) > maxDigits+2 {
		return record.Value{}, e.fault(fault.Contract, fmt.Sprintf("a number has more than %d digits or %d decimals", maxDigits, maxPlaces), "use round, or smaller numbers")
	}
	return v, nil
}
