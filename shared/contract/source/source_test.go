package source

import (
	"strings"
	"testing"
)

func TestParseReportsEveryProblemWithItsPlace(t *testing.T) {
	t.Parallel()
	var ps Problems
	n, ok := Parse("a.yaml", []byte("one: 1\ntwo: {x: a, x: b}\none: 2\nthree: &anchor 3\nfour: [p, p]\n"), &ps)
	if !ok {
		t.Fatal("nothing read")
	}
	n.Known(&ps, "the file", "one", "two", "three")
	n.Texts(&ps, "four")
	var got []string
	for _, p := range ps.Sorted() {
		got = append(got, p.String())
	}
	want := []string{
		`a.yaml:2:13: key "x" stands here a second time (first in line 2); keep one of them`,
		`a.yaml:3:1: key "one" stands here a second time (first in line 1); keep one of them`,
		`a.yaml:4:8: anchors, aliases, tags and merges are not read here; write the value out`,
		`a.yaml:5:1: unknown key "four" in the file; known: one, three, two`,
		`a.yaml:5:11: "p" stands twice in four; keep one of them`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseBrokenFiles(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "comment": "# nothing\n", "two documents": "a: 1\n---\nb: 2\n", "broken": "a: [1\nb: 2", "tabs": "a:\n\t- b"} {
		var ps Problems
		if _, ok := Parse("x.yaml", []byte(text), &ps); ok || ps.Len() == 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNormalIgnoresOrderAndComments(t *testing.T) {
	t.Parallel()
	var ps Problems
	a, _ := Parse("a", []byte("x: 1 # why\ny: [a, b]\n"), &ps)
	b, _ := Parse("b", []byte("y:\n  - a\n  - b\nx: 1\n"), &ps)
	c, _ := Parse("c", []byte("y: [b, a]\nx: 1\n"), &ps)
	if ps.Len() > 0 || a.Normal() != b.Normal() || a.Normal() == c.Normal() {
		t.Errorf("%v\n%s\n%s\n%s", ps.Sorted(), a.Normal(), b.Normal(), c.Normal())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("entity: order\nfields:\n  a.b: {path: x}\n"))
	f.Add([]byte("{\"a\": [1, 2, {\"b\": null}]}"))
	f.Add([]byte("a: &x 1\nb: *x\n<<: *x\n? [a]\n: b\n"))
	f.Add([]byte("- !!str 1\n- |\n  text\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ps Problems
		n, ok := Parse("f.yaml", data, &ps)
		if !ok && ps.Len() == 0 {
			t.Fatal("refused without a problem")
		}
		_ = n.Normal()
		for _, p := range ps.Sorted() {
			if p.Line < 1 || p.Column < 0 || p.Message == "" {
				t.Fatalf("problem without a place: %+v", p)
			}
		}
	})
}
