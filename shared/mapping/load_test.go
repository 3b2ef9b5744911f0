package mapping_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/mapping"
	"sorrel/shared/record"
)

// Which places of a list can be written, and which two of them are one.
func TestWhatCanBeWritten(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wide/contract/wide.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var ps source.Problems
	c, _ := contract.Load("contract/wide.v1.json", data, &ps)
	for _, tc := range []struct{ billStreet, billCity, says string }{
		{"book.items[billing].street", "book.items[billing].city", ""},
		{"book.items[billing].street", "book.items[shipping].street", ""},
		{"book.items[billing].street", "other.items[billing].street", ""},
		{"book.items[billing].street", "book.items[billing].street", "is written by line"},
		{"book.items[billing].street", "book.items[billing].street.number", "is written by line"},
		{"book.items[billing].street", "book.items", "is written by line"},
		{"book.items[billing].street", "book.items.street", "is written by line"},
		{"book.items[billing]", "b", "can only be read"},
		{"book.items[billing].billing", "b", "can only be read"},
		{"book.items[].street", "b", "is no native path"},
	} {
		var found source.Problems
		mapping.Load("mapping/netsuite.yaml", []byte(`{platform: netsuite, object: wide, entity: wide, contract: wide.v1,
			fields: {billStreet: "`+tc.billStreet+`", billCity: "`+tc.billCity+`"},
			unmapped: [at, seconds, local, day, flag, count, plain, short, state, names, rows, up, shipCity]}`),
			func(string) *contract.Contract { return c }, []string{"wide"}, &found)
		got := ""
		for _, p := range found.Sorted() {
			got += p.Message
		}
		if tc.says == "" && got != "" || !strings.Contains(got, tc.says) {
			t.Errorf("%s and %s: %q, want %q", tc.billStreet, tc.billCity, got, tc.says)
		}
	}
}

// A mapping of files says which files and how they write numbers and dates, and nothing is written to them.
func TestFiles(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wide/contract/wide.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var ps source.Problems
	c, _ := contract.Load("contract/wide.v1.json", data, &ps)
	load := func(platform, file, count string) (*mapping.Mapping, string) {
		var found source.Problems
		m, _ := mapping.Load("mapping/files.wide.yaml", []byte(`{platform: `+platform+`, object: wide, entity: wide, contract: wide.v1, `+file+`
			fields: {count: `+count+`, day: Day of issue},
			unmapped: [at, seconds, local, flag, plain, short, state, names, rows, up, shipCity, billStreet, billCity]}`),
			func(string) *contract.Contract { return c }, []string{"wide"}, &found)
		got := ""
		for _, p := range found.Sorted() {
			got += p.Message + "; "
		}
		return m, got
	}
	for _, tc := range []struct{ platform, file, count, says string }{
		{"files", `file: {name: "a*.csv", key: Nr}, `, "c", ""},
		{"files", ``, "c", "the files are not described"},
		{"netsuite", `file: {name: a, key: b}, `, "c", "only the platform files"},
		{"files", `file: {name: "[", key: Nr}, `, "c", "is no pattern"},
		{"files", `file: {name: "in/a.csv", key: Nr}, `, "c", "is no pattern"},
		{"files", `file: {key: Nr}, `, "c", "not said which files"},
		{"files", `file: {name: a, key: Nr, decimal: dot}, `, "c", `unknown decimal "dot"`},
		{"files", `file: {name: a, key: Nr, dates: DD.MM.}, `, "c", "is no form of dates"},
		{"files", `file: {name: a, key: Nr, dated: YYYYMMDD}, `, "c", ""},
		{"files", `file: {name: a, key: Nr, dated: YYMMDD}, `, "c", "is no form of dates"},
		{"files", `file: {name: a, key: Nr, encoding: latin1}, `, "c", `unknown encoding "latin1"`},
		{"files", `file: {name: a, key: Nr, lists: {rows: {name: b, key: Nr}}}, `, "c", "no field is read from list rows"},
		{"files", `file: {name: a, key: Nr, lists: {c: {name: b, key: Nr}}}, `, "c", "is no table"},
		{"files", `file: {name: a, key: Nr}, `, "{path: c, direction: out}", "files are only read"},
	} {
		if _, got := load(tc.platform, tc.file, tc.count); tc.says == "" && got != "" || !strings.Contains(got, tc.says) {
			t.Errorf("%s %s: %q, want %q", tc.platform, tc.file, got, tc.says)
		}
	}
	for _, form := range []string{"yes", "/no", "yes/", "a/a", "a/b/c"} {
		var found source.Problems
		mapping.Load("mapping/files.wide.yaml", []byte(`{platform: files, object: wide, entity: wide, contract: wide.v1, file: {name: a, key: Nr}, fields: {flag: {path: f, form: `+form+`}}}`),
			func(string) *contract.Contract { return c }, []string{"wide"}, &found)
		if got := fmt.Sprint(found.Sorted()); !strings.Contains(got, "is no form of true and false") {
			t.Errorf("%s: %s", form, got)
		}
	}
	m, says := load("files", `file: {name: "a*.csv", key: Nr, decimal: comma, dates: DD.MM.YYYY}, `, "c")
	if says != "" {
		t.Fatal(says)
	}
	for in, want := range map[[2]string]string{{"1.234,5", "31.12.2026"}: "1234.5 2026-12-31 0", {"1234.5", "2026-12-31"}: "  2"} {
		n := record.Native{Ref: record.Ref{Platform: record.Files, Object: "wide", ID: "1"}, Version: record.Version{Seq: 1}, Fields: map[string]any{"c": in[0], "Day of issue": in[1]}}
		o, _, err := m.Observe(n)
		if got := fmt.Sprint(o.Fields["count"].Raw(), " ", o.Fields["day"].Raw(), " ", len(o.Doubts)); err != nil || got != want {
			t.Errorf("%v: %s (%v), want %s", in, got, err, want)
		}
	}
	if _, in, out := m.Native("count"); !in || out {
		t.Error("a file's field is not read only")
	}
}
