// Package contracttest generates values that a contract allows, for property tests of everything that stands
// on contracts.
package contracttest

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"sorrel/shared/contract"
	"sorrel/shared/record"
)

// Value generates values that contract.Check accepts for f, including null where f may be cleared.
func Value(f contract.Field) *rapid.Generator[record.Value] {
	return rapid.Custom(func(t *rapid.T) record.Value {
		if f.Nullable && rapid.IntRange(0, 9).Draw(t, "null") == 0 {
			return record.NullValue()
		}
		return some(t, f)
	})
}

func some(t *rapid.T, f contract.Field) record.Value {
	switch f.Type {
	case contract.Number, contract.Money:
		return record.NumberValue(decimal.New(rapid.Int64Range(-1_000_000_000, 1_000_000_000).Draw(t, "digits"), rapid.Int32Range(-2, 0).Draw(t, "exponent")))
	case contract.Bool:
		return record.BoolValue(rapid.Bool().Draw(t, "bool"))
	case contract.Date:
		return record.TextValue(moment(t).Format(time.DateOnly))
	case contract.DateTime:
		return record.TimeValue(moment(t))
	case contract.Enum:
		return record.TextValue(rapid.SampledFrom(f.Values).Draw(t, "value"))
	case contract.Reference:
		return record.TextValue(fmt.Sprintf("%s/%d", f.To, rapid.IntRange(1, 99999).Draw(t, "key")))
	case contract.List:
		items := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			if s := text(t, f.MaxLength); s != "" {
				items = append(items, s)
			}
		}
		return structure(t, items)
	case contract.Table:
		rows := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			row := map[string]any{}
			for _, c := range f.Columns {
				if rapid.IntRange(0, 3).Draw(t, "absent") > 0 {
					row[c.Name] = some(t, c).Any()
				}
			}
			rows = append(rows, row)
		}
		return structure(t, rows)
	}
	return record.TextValue(text(t, f.MaxLength))
}

func text(t *rapid.T, most int) string {
	if most == 0 || most > 60 {
		most = 60
	}
	nasty := rapid.SampledFrom([]rune(" |,\\\n\r\"äß日🧀\t;'"))
	r := rapid.OneOf(rapid.RuneFrom([]rune("abcXYZ 019")), nasty)
	return string(rapid.SliceOfN(r, 0, most).Draw(t, "text"))
}

func moment(t *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "second"), rapid.Int64Range(0, 999).Draw(t, "milli")*1e6).UTC()
}

func structure(t *rapid.T, a any) record.Value {
	v, err := record.StructureValue(a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
