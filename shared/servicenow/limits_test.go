package servicenow

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/vendorhttp"
)

func TestReadings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	theirs := now.Add(7 * time.Minute) // their clock is ahead
	at := func(d time.Duration) string { return fmt.Sprint(theirs.Add(d).Unix()) }
	said := func(reset time.Time) []budget.Reading {
		return []budget.Reading{{Limit: budget.Calls, Max: 100, Left: -1, Reset: reset}}
	}
	for name, tt := range map[string]struct {
		limit, reset string
		date         time.Time
		want         []budget.Reading
	}{
		"no rule":              {"", "", theirs, nil},
		"no limit":             {"", at(time.Minute), theirs, nil},
		"a rule":               {"100", at(59 * time.Minute), theirs, said(now.Add(59*time.Minute + time.Second))},
		"no clock":             {"100", fmt.Sprint(now.Add(time.Minute).Unix()), time.Time{}, said(now.Add(61 * time.Second))},
		"long over":            {"100", at(-time.Hour), theirs, said(time.Time{})},
		"in a year":            {"100", at(365 * 24 * time.Hour), theirs, said(time.Time{})},
		"no number":            {"100", "soon", theirs, said(time.Time{})},
		"a number of no clock": {"100", "9223372036854775807", theirs, said(time.Time{})},
		"nothing at all":       {"0", at(time.Minute), theirs, nil},
		"less than nothing":    {"-5", at(time.Minute), theirs, nil},
	} {
		h := http.Header{}
		h.Set("X-RateLimit-Limit", tt.limit)
		h.Set("X-RateLimit-Reset", tt.reset)
		if got := readings(vendorhttp.Response{Header: h, Date: tt.date}, now); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func FuzzReadings(f *testing.F) {
	f.Add("100", "1793606400", int64(0))
	f.Add("1000000001", "-9223372036854775808", int64(3600))
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, limit, reset string, ahead int64) {
		h := http.Header{}
		h.Set("X-RateLimit-Limit", limit)
		h.Set("X-RateLimit-Reset", reset)
		for _, r := range readings(vendorhttp.Response{Header: h, Date: now.Add(time.Duration(ahead % 86400 * int64(time.Second)))}, now) {
			soon := r.Reset.IsZero() || r.Reset.After(now) && r.Reset.Before(now.Add(62*time.Minute))
			if r.Max < 1 || r.Max > budget.Unlimited || r.Left != -1 || !soon {
				t.Errorf("%q %q: %+v", limit, reset, r)
			}
		}
	})
}
