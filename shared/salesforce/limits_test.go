package salesforce

import (
	"net/http"
	"slices"
	"testing"

	"sorrel/shared/budget"
)

func TestReadings(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]budget.Reading{
		"":                     nil,
		"api-usage=18/5000":    {{Limit: budget.Calls, Max: 5000, Left: 4982}},
		"api-usage=5100/5000":  {{Limit: budget.Calls, Max: 5000, Left: 0}},
		" api-usage=18/5000 ;": {{Limit: budget.Calls, Max: 5000, Left: 4982}},
		"api-usage=18/5000; per-app-api-usage=17/250(appName=sorrel)":  {{Limit: budget.Calls, Max: 250, Left: 233}},
		"api-usage=4990/5000; per-app-api-usage=17/250(appName=a=b/c)": {{Limit: budget.Calls, Max: 5000, Left: 10}},
		"api-usage=many/5000":                    nil,
		"api-usage=-1/5000":                      nil,
		"api-usage=18/0":                         nil,
		"api-usage=18":                           nil,
		"api-usage=1/99999999999999999999999999": nil,
		"other-usage=18/5000":                    nil,
	} {
		if got := readings(http.Header{"Sforce-Limit-Info": {line}}); !slices.Equal(got, want) {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

func FuzzReadings(f *testing.F) {
	for _, line := range []string{"api-usage=18/5000", "api-usage=18/5000; per-app-api-usage=17/250(appName=sorrel)", "api-usage=/;=;(", "api-usage=9999999999/1"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, r := range readings(http.Header{"Sforce-Limit-Info": {line}}) {
			if r.Limit != budget.Calls || r.Max < 1 || r.Max > budget.Unlimited || r.Left < 0 || r.Left > r.Max || !r.Reset.IsZero() {
				t.Errorf("%q: %+v", line, r)
			}
		}
	})
}
