package mapping_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sorrel/shared/contract"
	"sorrel/shared/contract/contracttest"
	"sorrel/shared/contract/source"
	"sorrel/shared/files"
	"sorrel/shared/mapping"
	"sorrel/shared/record"
)

// fileOfWide maps all fields of the contract wide to a file.
func fileOfWide(t *testing.T, file, flag, names, rows string) (*contract.Contract, *mapping.Mapping) {
	t.Helper()
	data, err := os.ReadFile("testdata/wide/contract/wide.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var ps source.Problems
	c, _ := contract.Load("contract/wide.v1.json", data, &ps)
	m, _ := mapping.Load("mapping/files.wide.yaml", []byte(`{platform: files, object: wide, entity: wide, contract: wide.v1, file: {name: "a*", key: Nr, empty: ["NULL"], `+file+`},
		fields: {at: {path: at, zone: "+05:30"}, seconds: {path: seconds, resolution: second}, local: {path: local, form: local, zone: Europe/Zurich}, day: Day of issue, flag: {path: flag, form: `+flag+`},
			count: deep.er.count, plain: deep.plain, short: {path: short, as: trim, maxLength: 5}, state: {path: state, values: {N: new, N2: new, O: open}}, billStreet: bill street, billCity: city, shipCity: city,
			names: `+names+`, rows: `+rows+`, up: {path: up, to: wide}}}`), func(string) *contract.Contract { return c }, []string{"wide"}, &ps)
	for _, p := range ps.Sorted() {
		t.Fatal(p)
	}
	return c, m
}

// What a file can say of a record is read back as it was said; what it cannot is told, and why.
func TestRowLaw(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, flag, names, rows string }{
		"csv":         {`decimal: comma, dates: DD.MM.YYYY, delimiter: ";", format: csv`, `ja/nein`, `{path: names, as: join}`, `{path: rows, as: table-text, columns: [a, {name: b, decimals: 2}, c, d, e]}`},
		"plain csv":   {`format: csv`, `TF`, `{path: names, as: join}`, `{path: rows, as: table-text, columns: [e, d, c, b, a]}`},
		"json lines":  {`decimal: comma, dates: MM/DD/YYYY, format: jsonl`, `json`, `{path: names, each: is}`, `{path: rows, columns: {a: a, b: b.value, c: c, d: d, e: e}}`},
		"plain jsonl": {`format: jsonl, encoding: utf-16`, `1/0, invert: true`, `names`, `{path: rows, columns: {a: a, b: b, c: c, d: d, e: e}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, m := fileOfWide(t, tc.file, tc.flag, tc.names, tc.rows)
			layout := m.Layouts()[0]
			said := 0
			rapid.Check(t, func(t *rapid.T) {
				fields := map[string]record.Value{}
				for _, f := range c.Fields() {
					fields[f.Name] = contracttest.Value(f).Draw(t, f.Name)
				}
				row, unsaid := m.Row(fields, func(_ string, id record.ID) (string, bool) { return "k" + id.External(), true })
				if !files.Put(row, "Nr", "7") {
					t.Fatal("the key has no place")
				}
				var out bytes.Buffer
				w, err := files.NewWriter(&out, layout, layout.Header())
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Write(row); err != nil {
					t.Fatal(err)
				}
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				in, err := files.NewRecords(&out, layout)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := in.Next()
				if err != nil || rec.Broken != nil {
					t.Fatal(err, rec.Broken)
				}
				o, refs, err := m.Observe(record.Native{Ref: record.Ref{Platform: record.Files, Object: "wide", ID: rec.Key}, Version: record.Version{Seq: 1}, Fields: rec.Fields})
				if err != nil {
					t.Fatal(err)
				}
				for name, v := range fields {
					if why, is := unsaid[name]; is {
						if why == "" || name == "up" || name == "flag" || name == "day" || name == "count" || name == "billStreet" {
							t.Fatalf("%s: %v cannot be said: %q", name, v, why)
						}
						continue
					}
					said++
					got := o.Fields[name]
					if name == "up" && !v.IsNull() {
						got = record.TextValue(strings.Replace(strings.TrimPrefix(refs[name].ID, "k"), "-", "/", 1))
					}
					if got != v && (v.Kind() != record.Text || strings.TrimSpace(v.Raw()) != got.Raw()) {
						t.Fatalf("%s: %v was read back as %v, %v", name, v, got, o.Doubts[name])
					}
				}
			})
			if said == 0 {
				t.Error("nothing was said")
			}
		})
	}
}

func TestUnsaid(t *testing.T) {
	t.Parallel()
	_, m := fileOfWide(t, `decimal: comma`, `TF`, `names`, `{path: rows, columns: {a: a, b: b}}`)
	nobody := func(string, record.ID) (string, bool) { return "", false }
	for _, tc := range []struct{ field, value, why string }{
		{"state", `"void"`, "no native counterpart"}, {"short", `"123456"`, "at most 5 fit"}, {"up", `"wide/1"`, "has no key in files"}, {"seconds", `"2026-01-01T00:00:00.5Z"`, "another value"},
		{"rows", `[{"a":"x"},{}]`, "another value"}, {"rows", `[{"a":"x","d":"2026-01-01"}]`, "another value"}, {"names", `["a"]`, ""}, {"state", `null`, ""},
	} {
		v, err := record.ParseJSON([]byte(tc.value))
		if err != nil {
			t.Fatal(err)
		}
		if row, unsaid := m.Row(map[string]record.Value{tc.field: v}, nobody); (tc.why == "") != (len(row) == 1) || !strings.Contains(unsaid[tc.field], tc.why) {
			t.Errorf("%s %s: %v, %q, want %q", tc.field, tc.value, row, unsaid, tc.why)
		}
	}
	// Two fields of one column: one value for both, or the second is told.
	for second, want := range map[string]int{"Bern": 0, "Basel": 1} {
		if row, unsaid := m.Row(map[string]record.Value{"billCity": record.TextValue("Bern"), "shipCity": record.TextValue(second)}, nobody); row["city"] != "Bern" || len(unsaid) != want {
			t.Errorf("%s: %v %v", second, row, unsaid)
		}
	}
}
