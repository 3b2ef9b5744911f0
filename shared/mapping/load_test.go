package mapping_test

import (
	"os"
	"strings"
	"testing"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/mapping"
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
