package expression_test

import (
	"errors"
	"strings"
	"testing"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/fault"
	"sorrel/shared/record"
)

func scope() expression.Scope {
	s := expression.Scope{"actor.roles": {Type: contract.List}, "actor.id": {Type: contract.Text}}
	for _, f := range []contract.Field{
		{Name: "name", Type: contract.Text, MaxLength: 255},
		{Name: "creditLimit", Type: contract.Money, Currency: "currency"},
		{Name: "balance", Type: contract.Money, Currency: "currency"},
		{Name: "bonus", Type: contract.Money, Currency: "bonusCurrency"},
		{Name: "count", Type: contract.Number},
		{Name: "active", Type: contract.Bool},
		{Name: "segment", Type: contract.Enum, Values: []string{"enterprise", "midmarket", "small"}},
		{Name: "supportTier", Type: contract.Enum, Values: []string{"standard", "premium", "vip"}},
		{Name: "since", Type: contract.Date},
		{Name: "seen", Type: contract.DateTime},
		{Name: "customer", Type: contract.Reference, To: "customer"},
		{Name: "item", Type: contract.Reference, To: "item"},
		{Name: "tags", Type: contract.List},
		{Name: "lines", Type: contract.Table, Columns: []contract.Field{{Name: "sku", Type: contract.Text}}},
	} {
		s["before."+f.Name], s["after."+f.Name] = f, f
	}
	return s
}

// compile parses text as a YAML value and compiles it for want.
func compile(text string, want contract.Field) (*expression.Program, []source.Problem) {
	var ps source.Problems
	p := expression.Compile(source.Node{File: "p.yaml", Line: 3, Column: 10, Kind: source.Text, Text: text}, scope(), want, &ps)
	return p, ps.Sorted()
}

func value(v any) record.Value {
	if v == nil {
		return record.NullValue()
	}
	if s, ok := v.(string); ok && strings.HasPrefix(s, "#") {
		n, err := record.ParseNumber(s[1:])
		if err != nil {
			panic(err)
		}
		return n
	}
	if l, ok := v.([]string); ok {
		s, err := record.StructureValue(l)
		if err != nil {
			panic(err)
		}
		return s
	}
	got, err := record.FromAny(v)
	if err != nil {
		panic(err)
	}
	return got
}

// of is a lookup of names; text that starts with # is a number, and what is not there is absent.
func of(values map[string]any) func(string) record.Value {
	return func(name string) record.Value {
		v, there := values[name]
		if !there {
			return record.Value{}
		}
		return value(v)
	}
}

type row struct {
	text   string
	want   contract.Field
	values map[string]any
	gives  any
}

func rows() []row {
	yes, num, txt := contract.Field{Type: contract.Bool}, contract.Field{Name: "n", Type: contract.Number}, contract.Field{Name: "t", Type: contract.Text}
	tier := contract.Field{Name: "supportTier", Type: contract.Enum, Values: []string{"standard", "premium", "vip"}}
	m := func(pairs ...any) map[string]any {
		out := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i].(string)] = pairs[i+1]
		}
		return out
	}
	a, b := "after.creditLimit", "before.creditLimit"
	return []row{
		// exact decimals
		{"after.creditLimit == 0.3", yes, m(a, "#0.3"), true},
		{"0.1 + 0.2 == 0.3", yes, nil, true},
		{"after.creditLimit - before.creditLimit", num, m(a, "#9007199254740993.01", b, "#9007199254740993"), "#0.01"},
		{"after.creditLimit <= before.creditLimit * 1.1", yes, m(a, "#1100", b, "#1000"), true},
		{"after.creditLimit <= before.creditLimit * 1.1", yes, m(a, "#1100.01", b, "#1000"), false},
		{"10 / 4", num, nil, "#2.5"},
		{"round(2 / 3, 2)", num, nil, "#0.67"},
		{"round(-2.5, 0)", num, nil, "#-3"},
		{"2 + 3 * 4 - -1", num, nil, "#15"},
		{"(2 + 3) * 4", num, nil, "#20"},
		{"10 - 3 - 2", num, nil, "#5"},
		{"-2 * -3", num, nil, "#6"},
		{"abs(before.creditLimit - after.creditLimit) < 100", yes, m(a, "#50", b, "#149.99"), true},
		{"min(3, 1, 2) + max(3, 1, 2)", num, nil, "#4"},
		{"max(after.creditLimit, 5)", num, m(a, nil), nil},
		// null and absent
		{"after.creditLimit == null", yes, m(a, nil), true},
		{"after.creditLimit == null", yes, nil, true},
		{"after.creditLimit != null", yes, m(a, "#0"), true},
		{"after.creditLimit == before.creditLimit", yes, nil, true},
		{"after.creditLimit != before.creditLimit", yes, m(a, "#1"), true},
		{"after.creditLimit != 5", yes, nil, true},
		{"after.creditLimit == 5", yes, nil, false},
		{"after.creditLimit < 5", yes, nil, false},
		{"after.creditLimit >= before.creditLimit", yes, nil, false},
		{"after.creditLimit + 5", num, nil, nil},
		{"-after.creditLimit", num, m(a, nil), nil},
		{"(after.creditLimit ?? 0) + 5", num, nil, "#5"},
		{"after.creditLimit ?? before.creditLimit ?? 7", num, nil, "#7"},
		{"after.creditLimit ?? before.creditLimit", num, nil, nil},
		{"after.creditLimit ?? 0 <= 5", yes, nil, true},
		{`lower(after.name)`, txt, nil, nil},
		{`after.name + "x"`, txt, nil, nil},
		{`startsWith(after.name, "x")`, yes, nil, false},
		{`not contains(after.name, "x")`, yes, nil, true},
		{`length(after.name) > 0`, yes, nil, false},
		{`after.active`, yes, nil, nil},
		{`not after.active`, yes, nil, true},
		{`after.active and true`, yes, nil, false},
		{`after.active or false`, yes, nil, false},
		{`if after.active then "a" else "b"`, txt, nil, "b"},
		{`if after.active then null else "b"`, txt, m("after.active", true), nil},
		{`after.segment in ["small"]`, yes, nil, false},
		{`after.segment not in ["small"]`, yes, nil, false},
		{`"a" in after.tags`, yes, nil, false},
		{`"a" not in after.tags`, yes, nil, true},
		// logic
		{"true or false and false", yes, nil, true},
		{"(true or false) and false", yes, nil, false},
		{"not true or true", yes, nil, true},
		{"not not true", yes, nil, true},
		{"false and not false", yes, nil, false},
		{"after.creditLimit != 0 and 1 / after.creditLimit > 0", yes, m(a, "#0"), false},
		{"after.creditLimit == 0 or 1 / after.creditLimit > 0", yes, m(a, "#0"), true},
		{"if 1 < 2 then if 2 < 1 then 1 else 2 else 3", num, nil, "#2"},
		{"1 + (if true then 1 else 2)", num, nil, "#2"},
		// texts, lists, enums
		{`trim((after.name ?? "") + " " + (before.name ?? ""))`, txt, m("after.name", "Ada"), "Ada"},
		{`upper(after.name) + lower('ÄB')`, txt, m("after.name", "straße"), "STRAßEäb"},
		{`length(after.name)`, num, m("after.name", "äöü"), "#3"},
		{`length(after.tags)`, num, m("after.tags", []string{"a", "b"}), "#2"},
		{`text(after.creditLimit) + "/" + text(after.active) + "/" + text(after.since)`, txt, m(a, "#1.50", "after.active", true, "after.since", "2026-01-02"), "1.5/true/2026-01-02"},
		{`endsWith(after.name, "GmbH") and contains(after.name, 'or') and startsWith(after.name, "N")`, yes, m("after.name", "Northwind GmbH"), true},
		{`"finance" in actor.roles`, yes, m("actor.roles", []string{"sales", "finance"}), true},
		{`"finance" not in actor.roles`, yes, m("actor.roles", []string{"sales"}), true},
		{`after.segment in ["small", "midmarket"]`, yes, m("after.segment", "midmarket"), true},
		{`after.segment not in ["small", "midmarket"]`, yes, m("after.segment", "enterprise"), true},
		{`after.creditLimit in [1, 2.50]`, yes, m(a, "#2.5"), true},
		{`if after.segment == "enterprise" then "vip" else before.supportTier ?? "standard"`, tier, nil, "standard"},
		{`after.tags == before.tags`, yes, m("after.tags", []string{"a"}, "before.tags", []string{"a"}), true},
		{`"b" < "a"`, yes, nil, false},
		// dates, times, references
		{`after.since >= "2026-01-01"`, yes, m("after.since", "2026-01-01"), true},
		{`after.seen > "2026-01-01T00:00:00Z"`, yes, m("after.seen", "2026-01-01T00:00:00.5Z"), true},
		{`after.seen == before.seen`, yes, m("after.seen", "2026-01-01T00:00:00.50Z", "before.seen", "2026-01-01T00:00:00.5Z"), true},
		{`after.seen in ["2026-01-01T00:00:00Z"]`, yes, m("after.seen", "2026-01-01T00:00:00.0Z"), true},
		{`before.since ?? "2026-01-01"`, contract.Field{Name: "since", Type: contract.Date}, nil, "2026-01-01"},
		{`after.customer == before.customer`, yes, m("after.customer", "customer/1", "before.customer", "customer/1"), true},
		{`after.customer`, txt, m("after.customer", "customer/1"), "customer/1"},
		{"\n  1 <\n  2\n", yes, nil, true},
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		p, problems := compile(r.text, r.want)
		if p == nil {
			t.Errorf("%s: %v", r.text, problems)
			continue
		}
		got, err := p.Eval(of(r.values))
		if err != nil || got != value(r.gives) {
			t.Errorf("%s with %v: got %s, %v; want %v", r.text, r.values, got, err, r.gives)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	t.Parallel()
	num := contract.Field{Name: "n", Type: contract.Number}
	long := strings.Repeat("x", 300<<10)
	for _, r := range []struct {
		row
		class fault.Class
	}{
		{row{text: "1 / after.creditLimit", want: num, values: map[string]any{"after.creditLimit": "#0"}}, fault.Contract},
		{row{text: "after.creditLimit + 1", want: num, values: map[string]any{"after.creditLimit": "secret"}}, fault.Contract},
		{row{text: "if true then 1 else after.count", want: num, values: map[string]any{"after.count": true}}, fault.Contract},
		{row{text: "after.count * after.count * after.count", want: num, values: map[string]any{"after.count": "#1" + strings.Repeat("0", 39)}}, fault.Contract},
		{row{text: "after.count * after.count * after.count", want: num, values: map[string]any{"after.count": "#0." + strings.Repeat("0", 19) + "1"}}, fault.Contract},
		{row{text: `after.since < "2026-01-01"`, want: contract.Field{Type: contract.Bool}, values: map[string]any{"after.since": "secret"}}, fault.Contract},
		{row{text: `length(after.name + after.name + after.name)`, want: num, values: map[string]any{"after.name": long}}, fault.TooLarge},
		{row{text: `after.name == "a" or after.name == "b" or after.name == "c" or after.name == "d"`, want: contract.Field{Type: contract.Bool}, values: map[string]any{"after.name": long}}, fault.TooLarge},
	} {
		p, problems := compile(r.text, r.want)
		if p == nil {
			t.Errorf("%s: %v", r.text, problems)
			continue
		}
		got, err := p.Eval(of(r.values))
		var f *fault.Error
		if !errors.As(err, &f) || f.Class != r.class || f.Remedy == "" || !got.IsAbsent() {
			t.Errorf("%s: got %v, %v, want class %s", r.text, got, err, r.class)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: the error shows a value: %v", r.text, err)
		}
	}
}
