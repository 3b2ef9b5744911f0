package expression_test

import (
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/record"
)

// written draws an expression of a type that is right by construction.
func written(t *rapid.T, kind string, depth int) string {
	leaf := depth <= 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0
	sub := func(kind string) string { return written(t, kind, depth-1) }
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "pick") }
	switch {
	case kind == "bool" && leaf:
		return pick("after.active", "before.active", "true", "false")
	case kind == "number" && leaf:
		return pick("after.count", "before.count", "0", "1.5", "12345678901234567890.123", "length(after.tags)")
	case kind == "text" && leaf:
		return pick("after.name", "before.name", `""`, `"ä b"`, "after.segment")
	case kind == "bool":
		return fmt.Sprintf(pick("(%s and %s)", "(%s or %s)", "(not %s == %s)"), sub("bool"), sub("bool"))
	case kind == "compare":
		k := pick("number", "text")
		if k == "text" {
			return fmt.Sprintf("(%s %s %s)", sub(k), pick("==", "!="), "("+sub(k)+` + "")`)
		}
		return fmt.Sprintf("(%s %s %s)", sub(k), pick("==", "!=", "<", "<=", ">", ">="), sub(k))
	case kind == "number":
		if rapid.Bool().Draw(t, "choice") {
			return fmt.Sprintf("(if %s then %s else %s)", sub("compare"), sub("number"), sub("number"))
		}
		return fmt.Sprintf(pick("(%s + %s)", "(%s - %s)", "(%s * %s)", "(%s / %s)", "(%s ?? %s)", "max(%s, %s)", "abs(-%s - %s)"), sub("number"), sub("number"))
	}
	return fmt.Sprintf(pick("(%s + %s)", "(%s ?? %s)", "(lower(%s) + upper(%s))", "(trim(%s) + text(length(%s)))"), sub("text"), sub("text"))
}

func drawn(t *rapid.T) map[string]record.Value {
	out := map[string]record.Value{}
	put := func(name string, values ...any) {
		i := rapid.IntRange(-2, len(values)-1).Draw(t, name)
		switch {
		case i == -1:
			out[name] = record.NullValue()
		case i >= 0:
			out[name] = value(values[i])
		}
	}
	for _, side := range []string{"before.", "after."} {
		put(side+"active", true, false)
		put(side+"count", "#0", "#-0.1", "#3", "#99999999999999999999")
		put(side+"name", "", " x ", "ÄÖ")
		put(side+"segment", "small", "enterprise")
		put(side+"tags", []string{"a"}, []string{})
	}
	return out
}

func TestEvaluationIsTotalDeterministicAndTyped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"bool", "compare", "number", "text"}).Draw(t, "kind")
		text := written(t, kind, rapid.IntRange(0, 4).Draw(t, "depth"))
		want, shape := contract.Field{Type: contract.Bool}, record.Bool
		switch kind {
		case "number":
			want, shape = contract.Field{Name: "n", Type: contract.Number}, record.Number
		case "text":
			want, shape = contract.Field{Name: "t", Type: contract.Text}, record.Text
		}
		p, problems := compile(text, want)
		if p == nil {
			if len(text) > 1500 || strings.Contains(problems[0].Message, "division by 0") || strings.Contains(problems[0].Message, "in common") ||
				strings.Contains(problems[0].Message, "no value of") {
				t.Skip("refused with reason")
			}
			t.Fatalf("%s: %v", text, problems)
		}
		values := drawn(t)
		var asked []string
		got, err := p.Eval(func(name string) record.Value { asked = append(asked, name); return values[name] })
		if !slices.Equal(asked, p.Names()) {
			t.Fatalf("%s: asked for %v, names %v", text, asked, p.Names())
		}
		for name, v := range values {
			if v.IsNull() {
				delete(values, name)
			}
		}
		again, err2 := p.Eval(func(name string) record.Value { return values[name] })
		if got != again || (err == nil) != (err2 == nil) {
			t.Fatalf("%s: %v, %v and with absent for null %v, %v", text, got, err, again, err2)
		}
		if err == nil && !got.IsNull() && got.Kind() != shape || err != nil && !got.IsAbsent() {
			t.Fatalf("%s: %v of kind %d, %v", text, got, got.Kind(), err)
		}
	})
}

// TestOppositesHold: != is not ==, and for values that are there < is not >=.
func TestOppositesHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := drawn(t)
		ask := func(text string) bool {
			p, problems := compile(text, contract.Field{Type: contract.Bool})
			if p == nil {
				t.Fatal(problems)
			}
			holds, err := p.Holds(func(name string) record.Value { return values[name] })
			if err != nil {
				t.Fatal(err)
			}
			return holds
		}
		name := rapid.SampledFrom([]string{"count", "name", "active", "segment", "tags"}).Draw(t, "name")
		if ask("after."+name+" == before."+name) == ask("after."+name+" != before."+name) {
			t.Fatalf("%s is equal and unequal: %v", name, values)
		}
		there := ask("after.count != null and before.count != null")
		if less, atLeast := ask("after.count < before.count"), ask("after.count >= before.count"); there != (less != atLeast) {
			t.Fatalf("there %v, less %v, at least %v: %v", there, less, atLeast, values)
		}
	})
}

// TestArithmeticIsExact compares with rational numbers.
func TestArithmeticIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var draw func(depth int) (string, *big.Rat)
		draw = func(depth int) (string, *big.Rat) {
			if depth == 0 {
				s := fmt.Sprintf("%d.%02d", rapid.IntRange(0, 1_000_000_000).Draw(t, "whole"), rapid.IntRange(0, 99).Draw(t, "cents"))
				r, _ := new(big.Rat).SetString(s)
				return s, r
			}
			a, x := draw(depth - 1)
			b, y := draw(depth - 1)
			switch o := rapid.SampledFrom([]string{"+", "-", "*"}).Draw(t, "o"); o {
			case "+":
				return "(" + a + "+" + b + ")", x.Add(x, y)
			case "-":
				return "(" + a + "-" + b + ")", x.Sub(x, y)
			default:
				return "(" + a + "*" + b + ")", x.Mul(x, y)
			}
		}
		text, want := draw(rapid.IntRange(0, 2).Draw(t, "depth"))
		p, problems := compile(text, contract.Field{Name: "n", Type: contract.Number})
		if p == nil {
			t.Fatal(problems)
		}
		got, err := p.Eval(of(nil))
		if r, ok := new(big.Rat).SetString(got.Raw()); err != nil || !ok || r.Cmp(want) != 0 {
			t.Fatalf("%s = %v, %v; want %v", text, got, err, want)
		}
	})
}

// TestWorstCasesAreBounded evaluates the most expensive shapes that fit into an expression, over the largest values.
// It is not parallel: it counts what the process allocates.
func TestWorstCasesAreBounded(t *testing.T) {
	large := record.TextValue(strings.Repeat("a", 200<<10))
	digits := value("#" + strings.Repeat("9", 39) + "." + strings.Repeat("9", 40))
	tags, err := record.StructureValue(slices.Repeat([]string{"tag"}, 50_000))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"length(after.name" + strings.Repeat("+after.name", 175) + ")",
		"0" + strings.Repeat("+length(after.tags)", 100),
		"after.count" + strings.Repeat("*after.count", 150),
		"after.count" + strings.Repeat("/after.count", 150),
		"after.count" + strings.Repeat("+after.count", 150),
		strings.Repeat("-", 60) + "after.count",
		`if "x" in after.tags` + strings.Repeat(` or "x" in after.tags`, 80) + " then 1 else 2",
		"if contains(after.name, after.name)" + strings.Repeat(" and contains(after.name, after.name)", 50) + " then 1 else 2",
	} {
		p, problems := compile(text, contract.Field{Name: "n", Type: contract.Number})
		if p == nil {
			t.Fatalf("%.40s…: %v", text, problems)
		}
		value := func(name string) record.Value {
			return map[string]record.Value{"after.name": large, "after.count": digits, "after.tags": tags}[name]
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err := p.Eval(value)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 || took > 2*time.Second {
			t.Errorf("%.40s… used %d bytes and %v: %v", text, used, took, err)
		} else {
			t.Logf("%.40s… used %d bytes and %v: %v", text, used, took, err != nil)
		}
	}
}

func FuzzCompileAndEval(f *testing.F) {
	for _, r := range rows() {
		f.Add(r.text, "text", "12.5")
	}
	f.Add(`((((`, "", "0")
	f.Add(`not not in [`, "\x00", "-1")
	f.Add("a\u00a0\xff\n??", "é", "1e5")
	f.Fuzz(func(t *testing.T, text, s, n string) {
		number, err := record.ParseNumber(n)
		if err != nil {
			number = record.NullValue()
		}
		for _, want := range []contract.Field{
			{Type: contract.Bool}, {Name: "n", Type: contract.Money}, {Name: "t", Type: contract.Text}, {Name: "d", Type: contract.Date},
			{Name: "e", Type: contract.Enum, Values: []string{"small"}}, {Name: "l", Type: contract.List},
		} {
			for _, indent := range []string{text, "\n" + text} {
				var ps source.Problems
				p := expression.Compile(source.Node{File: "f", Line: 1, Column: 1, Kind: source.Text, Text: indent}, scope(), want, &ps)
				if (p == nil) == (ps.Len() == 0) {
					t.Fatalf("%q: program %v, problems %v", indent, p, ps.Sorted())
				}
				for _, pr := range ps.Sorted() {
					if pr.Line < 1 || pr.Column < 1 || pr.Column > 2002 || pr.Message == "" || pr.Remedy == "" {
						t.Fatalf("%q: %+v", indent, pr)
					}
				}
				if p == nil {
					continue
				}
				value := func(name string) record.Value {
					switch f := scope()[name]; f.Type {
					case contract.Number, contract.Money:
						return number
					case contract.Bool:
						return record.BoolValue(s == "")
					case contract.List, contract.Table:
						return record.NullValue()
					}
					return record.TextValue(s)
				}
				first, err1 := p.Eval(value)
				second, err2 := p.Eval(value)
				if first != second || fmt.Sprint(err1) != fmt.Sprint(err2) || err1 == nil && first.IsAbsent() {
					t.Fatalf("%q: %v, %v and then %v, %v", indent, first, err1, second, err2)
				}
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	names := scope()
	at := source.Node{Kind: source.Text, Text: `after.creditLimit <= before.creditLimit * 1.1 and after.segment in ["small", "midmarket"]`}
	for b.Loop() {
		var ps source.Problems
		if expression.Predicate(at, names, &ps) == nil {
			b.Fatal(ps.Sorted())
		}
	}
}

func BenchmarkEval(b *testing.B) {
	b.ReportAllocs()
	p, problems := compile(`after.creditLimit <= before.creditLimit * 1.1 and after.segment in ["small", "midmarket"]`, contract.Field{Type: contract.Bool})
	if p == nil {
		b.Fatal(problems)
	}
	limit, segment := value("#1090.10"), value("small")
	for b.Loop() {
		holds, err := p.Holds(func(name string) record.Value {
			if name == "after.segment" {
				return segment
			}
			return limit
		})
		if !holds || err != nil {
			b.Fatal(holds, err)
		}
	}
}
