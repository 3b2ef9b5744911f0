package record

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// The short ways must agree with decimal and with encoding/json.
func TestShortWaysAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.StringMatching(`-?(0|[1-9][0-9]{0,12}|00?)(\.[0-9]{0,6})?(e[0-9])?`).Draw(t, "number")
		got, err := ParseNumber(n)
		d, slow := decimal.NewFromString(n)
		if (err == nil) != (slow == nil) || err == nil && got != NumberValue(d) {
			t.Fatalf("%q: %v %v, decimal says %v %v", n, got, err, d, slow)
		}
		s := rapid.String().Draw(t, "text")
		var sb strings.Builder
		writeString(&sb, s)
		if b, _ := json.Marshal(s); sb.String() != string(b) {
			t.Fatalf("%q: %s, JSON says %s", s, sb.String(), b)
		}
	})
}
