package contract_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"sorrel/infra/config"
	"sorrel/shared/contract"
	"sorrel/shared/contract/contracttest"
	"sorrel/shared/contract/source"
	"sorrel/shared/fault"
	"sorrel/shared/record"
)

func load(t testing.TB, name string) *contract.Contract {
	t.Helper()
	data, err := fs.ReadFile(config.FS, "contract/"+name+".json")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, "contract/"+name+".json", data)
}

func parse(t testing.TB, file string, data []byte) *contract.Contract {
	t.Helper()
	var ps source.Problems
	c, _ := contract.Load(file, data, &ps)
	for _, p := range ps.Sorted() {
		t.Error(p)
	}
	if c == nil {
		t.Fatal("no contract")
	}
	return c
}

// The embedded contracts must keep every promise of the golden copies in testdata. A new major version gets a
// new file; the copies change only together with a compatible addition.
func TestEmbeddedContractsBreakNobody(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/*.json")
	if len(files) == 0 {
		t.Fatal("no golden copies")
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range contract.Breaking(parse(t, f, data), load(t, name)) {
			t.Errorf("%s: %s", name, b)
		}
	}
}

func TestBreaking(t *testing.T) {
	t.Parallel()
	const head = `{"title":"x.v1","type":"object","required":["a"],"properties":{`
	base := head + `"a":{"type":"string","maxLength":10},"b":{"type":["string"],"enum":["p","q"]},"c":{"type":["number","null"],"x-sorrel":{"type":"money","currencyField":"a"}},"d":{"type":"string","x-sorrel":{"type":"reference","to":"y"}}}}`
	for name, tc := range map[string]struct{ from, to, want string }{
		"addition is fine": {`"a":{`, `"z":{"type":"boolean"},"a":{`, ""},
		"wider is fine":    {`"maxLength":10`, `"maxLength":11`, ""},
		"more values fine": {`"p","q"`, `"p","q","r"`, ""},
		"narrower text":    {`"maxLength":10`, `"maxLength":9`, "a: maxLength narrowed from 10 to 9"},
		"narrower enum":    {`"p","q"`, `"p"`, `b: value "q" removed`},
		"type":             {`"type":["string"],"enum":["p","q"]`, `"type":"boolean"`, "b: type changed from enum to bool"},
		"reference":        {`"to":"y"`, `"to":"z"`, "d: refers to z instead of y"},
		"null":             {`["number","null"]`, `"number"`, "c: can no longer be null"},
		"required":         {`"required":["a"]`, `"required":["a","b"]`, "b: is now required"},
		"removed":          {`"d":{`, `"e":{`, "d: removed"},
	} {
		var got []string
		for _, b := range contract.Breaking(parse(t, "x.v1.json", []byte(base)), parse(t, "x.v1.json", []byte(strings.Replace(base, tc.from, tc.to, 1)))) {
			got = append(got, b.String())
		}
		if strings.Join(got, "\n") != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestCheckNamesFieldShapeAndRemedyButNoValue(t *testing.T) {
	t.Parallel()
	order := load(t, "order.v1")
	rows, _ := record.StructureValue([]any{map[string]any{"item": "x", "secret": 1}})
	for field, v := range map[string]record.Value{
		"status":   record.TextValue("SECRET"),
		"number":   record.NullValue(),
		"poNumber": record.TextValue(strings.Repeat("SECRET", 20)),
		"placedOn": record.TextValue("2026-13-01 SECRET"),
		"customer": record.TextValue("order/SECRET"),
		"total":    record.TextValue("SECRET"),
		"lines":    rows,
		"nosuch":   record.TextValue("SECRET"),
	} {
		err := order.Check(field, v)
		if !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "(") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, v := range map[string]record.Value{
		"status": record.TextValue("billed"), "total": record.NumberValue(decimal.New(1400, -2)), "memo": record.NullValue(),
		"memo2": {}, "customer": record.TextValue("customer/abc"), "placedOn": record.TextValue("1996-07-04"),
	} {
		if field != "memo2" && order.Check(field, v) != nil {
			t.Errorf("%s: %v", field, order.Check(field, v))
		}
	}
}

// The quick check and the JSON Schema must agree on every value that the generator makes, good or bad.
func TestQuickCheckAgreesWithTheSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"contact.v1", "contract.v1", "customer.v1", "invoice.v1", "opportunity.v1", "order.v1", "shipment.v1", "task.v1"} {
		c := load(t, name)
		rapid.Check(t, func(t *rapid.T) {
			whole := map[string]record.Value{}
			for _, f := range c.Fields() {
				v := contracttest.Value(f).Draw(t, f.Name)
				if err := c.Check(f.Name, v); err != nil {
					t.Fatalf("generated value refused: %v", err)
				}
				whole[f.Name] = v
			}
			if err := c.CheckRecord(whole); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCheckRecordFindsEverything(t *testing.T) {
	t.Parallel()
	err := load(t, "order.v1").CheckRecord(map[string]record.Value{"status": record.TextValue("lost"), "total": record.BoolValue(true)})
	for _, want := range []string{"status", "total", "number is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q not in %v", want, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, n := range []string{"contact.v1", "contract.v1", "customer.v1", "invoice.v1", "opportunity.v1", "order.v1", "shipment.v1", "task.v1"} {
		data, err := fs.ReadFile(config.FS, "contract/"+n+".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ps source.Problems
		if c, _ := contract.Load("contract/order.v1.json", data, &ps); c == nil && ps.Len() == 0 {
			t.Fatal("refused without a problem")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	c := load(b, "order.v1")
	v, d := record.TextValue("billed"), record.TextValue("2026-11-02")
	b.ReportAllocs()
	for b.Loop() {
		if c.Check("status", v) != nil || c.Check("placedOn", d) != nil {
			b.Fatal("refused")
		}
	}
}
