package expression_test

import (
	"slices"
	"strings"
	"testing"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
)

func TestCompileTellsWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	yes, num := contract.Field{Type: contract.Bool}, contract.Field{Name: "count", Type: contract.Number}
	tier := contract.Field{Name: "supportTier", Type: contract.Enum, Values: []string{"standard", "premium", "vip"}}
	for _, r := range []struct {
		text string
		want contract.Field
		tell []string // each with its column; the expression begins in column 10
	}{
		// names and functions
		{"befor.active", yes, []string{`10: unknown name "befor.active"; did you mean "before.active"?`}},
		{"true and after.creditlimit > 1 and xyz", yes, []string{
			`19: unknown name "after.creditlimit"; did you mean "after.creditLimit"?`,
			`45: unknown name "xyz"; known: actor.id, actor.roles, after.`}},
		{"lowercase(after.name) == after.name", yes, []string{`10: unknown function "lowercase"; known: `}},
		{"uper(after.name) == after.name", yes, []string{`10: unknown function "uper"; did you mean "upper"?`}},
		{"lower(after.name, 1) == after.name", yes, []string{`10: lower with 2 values in parentheses, it takes 1`}},
		{"lower(after.count) == after.name", yes, []string{`16: lower takes a text, this is a number`}},
		{"round(after.count, after.count)", num, []string{`29: round needs the number of decimals as a constant; write a whole number from 0 to 40`}},
		{"round(after.count, 1.5)", num, []string{`29: round needs the number of decimals`}},
		// types
		{`after.name == after.count`, yes, []string{`21: a text and a number do not go together`}},
		{`"ä" == "ä" and after.name == 5`, yes, []string{`36: a text and a number do not go together`}},
		{`after.count + after.name > 1`, yes, []string{`24: "+" cannot take a text here; add two numbers, or join two texts; text(x) makes a text`}},
		{`after.count and true`, yes, []string{`10: and needs true or false, this is a number`}},
		{`if after.name then 1 else 2`, num, []string{`13: a condition needs true or false, this is a text`}},
		{`if true then 1 else "a"`, num, []string{`10: a number and a text do not go together`}},
		{`after.creditLimit > after.bonus`, yes, []string{`28: amounts in the currencies currency and bonusCurrency do not go together`}},
		{`after.creditLimit * after.creditLimit`, num, []string{`28: an amount times an amount`}},
		{`after.customer == after.item`, yes, []string{`25: a reference to customer and a reference to item do not go together`}},
		{`after.customer == "item/1"`, yes, []string{`25: "item/1" is not the id of a customer; write it as customer/…`}},
		{`after.tags == "a"`, yes, []string{`21: a list and a text do not go together; compare or combine values of one type`}},
		{`after.count / 0`, num, []string{`24: a division by 0`}},
		{`-after.name`, num, []string{`11: the sign - needs a number, this is a text`}},
		// enums
		{`after.segment == "smal"`, yes, []string{`27: "smal" is no value of after.segment; did you mean "small"?`}},
		{`"smal" != after.segment`, yes, []string{`10: "smal" is no value of after.segment; did you mean "small"?`}},
		{`after.segment in ["small", "huge"]`, yes, []string{`37: "huge" is no value of after.segment; known: enterprise, midmarket, small`}},
		{`after.segment == after.supportTier`, yes, []string{`24: the two sides have no value in common`}},
		{`after.segment == (if true then "x" else "y")`, yes, []string{`24: the two sides have no value in common`}},
		{`(after.segment ?? "none") == "nonee"`, yes, []string{`39: "nonee" is no value of what it is compared with; did you mean "none"?`}},
		{`after.segment < "small"`, yes, []string{`24: "<" orders, but an enum has no order; compare with ==, != or in`}},
		{`after.active < true`, yes, []string{`23: "<" orders, but true or false has no order`}},
		{`after.count < null`, yes, []string{`22: "<" orders, but null has no order`}},
		// dates
		{`after.since > "2026-13-01"`, yes, []string{`22: "2026-13-01" is not a date; write it as 2006-01-02`}},
		{`after.seen > "2026-01-01"`, yes, []string{`21: "2026-01-01" is not a time; write it as 2006-01-02T15:04:05Z`}},
		{`after.seen > "2026-01-01T00:00:00+01:00"`, yes, []string{`is not a time`}},
		{`after.seen > after.since`, yes, []string{`21: a time and a date do not go together`}},
		// lists
		{`after.name in after.name`, yes, []string{`24: "in" needs a list, this is a text; write [a, b] or the name of a list field`}},
		{`after.count in after.tags`, yes, []string{`10: the items of a list are texts, this is a number`}},
		{`after.count in [1, "a", null]`, yes, []string{`29: a number and a text do not go together`, `34: null in a list never matches; write == null`}},
		{`after.count in []`, yes, []string{`25: an empty list`}},
		{`after.tags in ["a"]`, yes, []string{`10: "in" looks for one value, this is a list`}},
		{`["a"] == after.tags`, yes, []string{`10: a list outside of in; write x in ["a", "b"]`}},
		// results
		{`after.count`, yes, []string{`10: the result is a number, a condition needs true or false; write an expression that gives true or false`}},
		{`after.name`, num, []string{`10: the result is a text, field count needs a number`}},
		{`null`, num, []string{`10: the result is always null; give field count a value`}},
		{`after.segment`, tier, []string{
			`10: the result can be "enterprise", which is no value of field supportTier; known: premium, standard, vip`,
			`10: the result can be "midmarket"`, `10: the result can be "small"`}},
		{`if after.active then "vipp" else "standard"`, tier, []string{`10: the result can be "vipp", which is no value of field supportTier; did you mean "vip"?`}},
		{`after.name`, tier, []string{`10: the result is any text, field supportTier takes only its values; choose with if … then … else …; values: standard, premium, vip`}},
		{`lower(after.segment)`, tier, []string{`10: the result is any text`}},
		{`"soon"`, contract.Field{Name: "since", Type: contract.Date}, []string{`10: the result does not fit field since: "soon" is not a date`}},
		{`"5"`, num, []string{`10: the result does not fit field count: a number and a text do not go together`}},
		// syntax
		{``, yes, []string{`10: the end where a value was expected`}},
		{`1 <`, yes, []string{`13: the end where a value was expected`}},
		{`(1 < 2`, yes, []string{`16: the end where ")" after the parentheses' content was expected; write )`}},
		{`true true`, yes, []string{`15: "true" stands where the expression should end; join parts with and, or, or a comparison`}},
		{`true && false`, yes, []string{`15: "&&" is no sign of this language; write and`}},
		{`true || false`, yes, []string{`15: "||" is no sign of this language; write or`}},
		{`!true`, yes, []string{`10: "!" is no sign of this language; write not`}},
		{`1 = 1`, yes, []string{`12: "=" is no sign of this language; compare with ==`}},
		{`true ? 1 : 2`, num, []string{`15: "?" is no sign of this language; write if … then … else …`}},
		{`true; true`, yes, []string{`14: ";" is no sign of this language; known: `}},
		{`"abc`, yes, []string{`10: a text without its closing quote; close it with "`}},
		{`1.2.3 > 1`, yes, []string{`10: "1.2.3" is not a number`}},
		{strings.Repeat("9", 81) + " > 1", yes, []string{`is not a number`}},
		{`1 < 2 < 3`, yes, []string{`16: a second comparison "<" in a row; join two comparisons with and`}},
		{`after.count ?? 0 + 1`, num, []string{`22: "??" beside "+" can be read in two ways; put one of them in parentheses`}},
		{`1 + after.count ?? 0`, num, []string{`26: "??" beside "+" can be read in two ways`}},
		{`1 + if true then 1 else 2`, num, []string{`14: an if inside a larger expression; put it in parentheses`}},
		{`true == not true`, yes, []string{`18: "not" inside a comparison; put it in parentheses`}},
		{`if true else 1`, num, []string{`18: "else" where "then" after the condition was expected; write then`}},
		{`min(1 2)`, num, []string{`16: "2" where "," or ) was expected; write ,`}},
		{`and true`, yes, []string{`10: "and" where a value was expected`}},
		// bounds
		{strings.Repeat("(", 65) + "true" + strings.Repeat(")", 65), yes, []string{`nested deeper than 64; split the rule`}},
		{strings.Repeat("not ", 66) + "true", yes, []string{`nested deeper than 64`}},
		{"true" + strings.Repeat(" ", 2000), yes, []string{`10: an expression of 2004 characters, at most 2000 are read; split the rule`}},
	} {
		p, problems := compile(r.text, r.want)
		var got []string
		for _, pr := range problems {
			got = append(got, strings.TrimPrefix(pr.String(), "p.yaml:3:"))
			if pr.Remedy == "" {
				t.Errorf("%s: no remedy: %s", r.text, pr)
			}
		}
		if p != nil || len(got) != len(r.tell) {
			t.Errorf("%s: got %q, want %q", r.text, got, r.tell)
			continue
		}
		for i, w := range r.tell {
			if !strings.Contains(got[i], w) {
				t.Errorf("%s:\n got %s\nwant %s", r.text, got[i], w)
			}
		}
	}
}

// TestPlacesInFiles reads the expression from a file as the policy loader does.
func TestPlacesInFiles(t *testing.T) {
	t.Parallel()
	for _, r := range []struct{ file, place string }{
		{"when: wrong > 1", "1:7"},
		{"when:   true and wrong > 1 # why", "1:18"},
		{"when: |\n  true and\n  wrong > 1\n", "3:1"}, // of the line without its indentation
		{"when: |\n  1 < 2 and wrong > 1\n", "2:11"},
		{"when: 'wrong > 1'", "1:7"}, // the quote
		{"when: [a]", "1:7"},
		{"when: {a: 1}", "1:8"},
		{"when:", "1:1"},
	} {
		var ps source.Problems
		root, _ := source.Parse("f.yaml", []byte(r.file), &ps)
		if p := expression.Predicate(root.Get("when"), scope(), &ps); p != nil {
			t.Errorf("%q: accepted", r.file)
		}
		if got := ps.Sorted(); len(got) != 1 || !strings.HasPrefix(got[0].String(), "f.yaml:"+r.place+": ") {
			t.Errorf("%q: got %v, want a problem at %s", r.file, got, r.place)
		}
	}
	var ps source.Problems
	root, _ := source.Parse("f.yaml", []byte("- true\n- 12.50\n- if after.active then 1 else 2\n- after.name == \"a b\"\n"), &ps)
	for i, want := range []contract.Type{contract.Bool, contract.Number, contract.Money, contract.Bool} {
		if i >= len(root.Items) || expression.Compile(root.Items[i], scope(), contract.Field{Type: want}, &ps) == nil {
			t.Errorf("item %d is not accepted: %v", i, ps.Sorted())
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	p, problems := compile(`after.name == before.name and ("x" in actor.roles or after.name == "b")`, contract.Field{Type: contract.Bool})
	if p == nil {
		t.Fatal(problems)
	}
	if got, want := p.Names(), []string{"actor.roles", "after.name", "before.name"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if holds, err := p.Holds(of(nil)); holds || err != nil {
		t.Errorf("got %v, %v", holds, err)
	}
}
