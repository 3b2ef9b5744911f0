package bench

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLinkMeasuresTheRealWay(t *testing.T) {
	t.Parallel()
	r, err := Link(t.Context(), LinkOptions{Customers: 400, Apply: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	leg := r.Legs[1]
	if http := r.Legs[2]; len(r.Legs) != 3 || http.Precision < 0.99 || http.Linked == 0 || http.Refused > 40 || http.Refused == 0 && http.Rates != r.Legs[0].Rates {
		t.Errorf("%+v", http)
	}
	if leg.Rules != "reference" || leg.Precision < leastPrecision || leg.Recall < leastRecall || leg.Writes != 0 || leg.Seconds <= 0 {
		t.Errorf("%+v", leg)
	}
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("wider than 80: %q", line)
		}
	}
	t.Log(b.String())
	if d := r.Legs[0].Applied; d == nil || d.Records == 0 || d.Parked == 0 {
		t.Errorf("applied: %+v", d)
	}
	r.Legs[1].Precision = 0.99
	if r.broken() == nil {
		t.Error("a bad precision is not told")
	}
}
