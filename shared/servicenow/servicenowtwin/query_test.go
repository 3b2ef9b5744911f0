package servicenowtwin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/servicenow"
)

// filled has accounts over three seconds, some of them tied.
func filled(t testing.TB) *Twin {
	at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	tw := New(Options{Now: func() time.Time { return at }})
	for i := range 12 {
		if i%4 == 3 {
			at = at.Add(time.Second)
		}
		fields := map[string]any{"name": fmt.Sprintf("Account %d", i), "city": []string{"Bern", "Rome", ""}[i%3], "u_credit_limit": fmt.Sprint(i * 9), "u_sorrel_id": fmt.Sprintf("Customer-%d", i), "active": i%2 == 0}
		if _, err := tw.Edit(servicenow.Account, "", fields); err != nil {
			t.Fatal(err)
		}
	}
	return tw
}

func names(rows []*row) string {
	var out []string
	for _, r := range rows {
		out = append(out, strings.TrimPrefix(r.data["name"], "Account "))
	}
	return strings.Join(out, " ")
}

func TestQueries(t *testing.T) {
	t.Parallel()
	tb := filled(t).tables[servicenow.Account]
	for text, want := range map[string]string{
		"":                                       "0 1 2 3 4 5 6 7 8 9 10 11",
		"city=bern":                              "0 3 6 9", // regardless of case
		"city!=Bern^active=true":                 "2 4 8 10",
		"city=Rome^ORcity=Bern^active=false":     "1 3 7 9",
		"city=Rome^active=true^NQname=Account 0": "0 4 10",
		"cityISEMPTY":                            "2 5 8 11",
		"cityISNOTEMPTY^nameENDSWITH1":           "1",
		"nameSTARTSWITHaccount 1":                "1 10 11",
		"nameLIKEunt 1^nameNOT LIKE11":           "1 10",
		"cityINBern,Rome^u_credit_limit<20":      "0 1",
		"cityNOT INBern,Rome":                    "2 5 8 11",
		"u_credit_limit>=9^u_credit_limit<=27^ORDERBYDESCu_credit_limit": "3 2 1",
		"u_credit_limit>90":                        "11",
		"u_sorrel_id=customer-7":                   "7",
		"u_sorrel_id=":                             "",
		"nameANYTHING^ORDERBYcity^ORDERBYDESCname": "8 5 2 11 9 6 3 0 7 4 10 1",
		"sys_updated_on>2026-11-02 08:00:02":       "11",
		"sys_updated_on=2026-11-02 08:00:00^NQsys_updated_on>2026-11-02 08:00:02": "0 1 2 11",
		"u_unknown=1":             "0 1 2 3 4 5 6 7 8 9 10 11", // dropped: everything is found
		"u_unknown=1^city=Bern":   "0 3 6 9",
		"sys_updated_on>=rubbish": "0 1 2 3 4 5 6 7 8 9 10 11",
	} {
		got := tb.find(tb.parse(text, time.UTC))
		if !strings.Contains(text, "ORDERBY") {
			slices.SortFunc(got, func(a, b *row) int { return int(a.born - b.born) })
		}
		if names(got) != want {
			t.Errorf("%s finds %s, want %s", text, names(got), want)
		}
	}
	zone := time.FixedZone("x", -5*3600)
	if got := names(tb.find(tb.parse("sys_updated_on>=2026-11-02 03:00:03", zone))); got != "11" {
		t.Errorf("a user five hours west of Greenwich finds %s", got)
	}
}

// However a query is narrowed down, it finds what looking at every row finds, in one order.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"city=Bern^ORcity=Rome^NQname=Account 1^ORDERBYDESCname", "u_sorrel_id=Customer-1^sys_updated_on>2026-11-02 08:00:01",
		"sys_updated_on=2026-11-02 08:00:01^sys_id>0^NQsys_updated_on>2026-11-02 08:00:01^ORDERBYsys_updated_on^ORDERBYsys_id", "^OR^NQ=^name", "u_credit_limit>=1e999999999"} {
		f.Add(s)
	}
	tb := filled(f).tables[servicenow.Account]
	f.Fuzz(func(t *testing.T, text string) {
		q := tb.parse(text, time.UTC)
		got := tb.find(q)
		want := map[string]bool{}
		for _, r := range tb.sorted {
			if q.holds(r) {
				want[r.id] = true
			}
		}
		for _, r := range got {
			if !want[r.id] {
				t.Fatalf("%q finds %s, which it does not hold for", text, r.data["name"])
			}
			delete(want, r.id)
		}
		if len(want) > 0 {
			t.Fatalf("%q misses %d rows", text, len(want))
		}
		for i := 1; i < len(got) && len(q.order) > 0; i++ {
			f, a, b := tb.field(q.order[0].field), got[i-1], got[i]
			if c := f.compare(a.data[f.Name], b.data[f.Name]); c > 0 && !q.order[0].down || c < 0 && q.order[0].down {
				t.Fatalf("%q is out of order", text)
			}
		}
	})
}
