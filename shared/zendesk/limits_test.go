package zendesk

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/vendorhttp"
)

// headers of lines such as "X-Rate-Limit: 700".
func headers(lines string) http.Header {
	h := http.Header{}
	for _, line := range strings.Split(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && http.CanonicalHeaderKey(name) != "" {
			h.Add(name, strings.TrimSpace(value))
		}
	}
	return h
}

func TestReadings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		lines string
		want  []budget.Reading
	}{
		"nothing": {"Date: x", nil},
		"an answer of the Ticketing API": {"x-rate-limit: 700\nratelimit-limit: 700\nx-rate-limit-remaining: 699\nratelimit-remaining: 698\nratelimit-reset: 41\n" +
			"zendesk-ratelimit-tickets-index: total=100; remaining=99; resets=41",
			[]budget.Reading{{Limit: budget.Calls, Max: 700, Left: 698, Reset: now.Add(42 * time.Second)}, {Limit: ticketLists, Max: 100, Left: 99, Reset: now.Add(42 * time.Second)}}},
		"an answer without reset": {"X-Rate-Limit: 400\nX-Rate-Limit-Remaining: 0", []budget.Reading{{Limit: budget.Calls, Max: 400}}},
		"limit alone":             {"X-Rate-Limit: 400", []budget.Reading{{Limit: budget.Calls, Max: 400, Left: -1}}},
		"left alone":              {"X-Rate-Limit-Remaining: 12", []budget.Reading{{Limit: budget.Calls, Left: 12}}},
		"of one user":             {"Zendesk-RateLimit-create-update-user: total=5; remaining=0; resets=59", nil},
		"of users": {"Zendesk-RateLimit-create-update-user: total=1; remaining=0; resets=0",
			[]budget.Reading{{Limit: userWrites, Max: 1, Reset: now.Add(time.Second)}}},
		"of one ticket and of tickets": {"Zendesk-RateLimit-tickets-update: total=30; remaining=0; resets=500\nZendesk-RateLimit-tickets-update: total=20;remaining=19;resets=5",
			[]budget.Reading{{Limit: ticketUpdates, Max: 20, Left: 19, Reset: now.Add(6 * time.Second)}}},
		"of what is not declared": {"Zendesk-RateLimit-inflight-jobs: total=30; remaining=29; resets=60", nil},
		"absurd": {"X-Rate-Limit: -1\nX-Rate-Limit-Remaining: 99999999999\nratelimit-reset: -5\nZendesk-RateLimit-incremental-exports: total=0; remaining=9; resets=2\n" +
			"Zendesk-RateLimit-tickets-delete: total=5; remaining=9", nil},
		"more left than there is": {"X-Rate-Limit: 400\nX-Rate-Limit-Remaining: 401\nratelimit-reset: 2", []budget.Reading{{Limit: budget.Calls, Max: 400, Left: -1}}},
		"a window without end": {"X-Rate-Limit: 400\nX-Rate-Limit-Remaining: 0\nratelimit-reset: 86400\nZendesk-RateLimit-incremental-exports: total=10; remaining=0; resets=99999999",
			[]budget.Reading{{Limit: budget.Calls, Max: 400}, {Limit: exports, Max: 10}}},
	} {
		if got := readings(headers(tt.lines), now); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]bool{
		"":                          false,
		"X-Rate-Limit-Remaining: 0": false,
		"X-Rate-Limit-Remaining: 7": true,
		"X-Rate-Limit-Remaining: 0\nZendesk-RateLimit-update-organization: total=5; remaining=0; resets=9":    true,
		"X-Rate-Limit-Remaining: 0\nZendesk-RateLimit-incremental-exports: total=10; remaining=4; resets=9":   false,
		"X-Rate-Limit-Remaining: many\nZendesk-RateLimit-incremental-exports: total=10; remaining=; resets=9": false,
	} {
		if got := local(vendorhttp.Response{Status: 429, Header: headers(lines)}); got != want {
			t.Errorf("%q: %v", lines, got)
		}
	}
}

func TestCountsAgainst(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"GET /api/v2/incremental/tickets/cursor": exports, "GET /api/v2/incremental/organizations": exports,
		"PUT /api/v2/users/8": userWrites, "POST /api/v2/users": userWrites, "POST /api/v2/users/create_or_update": userWrites,
		"GET /api/v2/users/8": "", "GET /api/v2/users/search": "", "DELETE /api/v2/users/8": "", "POST /api/v2/users/8/identities": "", "PUT /api/v2/users/8/identities/9/make_primary": "",
		"PUT /api/v2/tickets/8": ticketUpdates, "DELETE /api/v2/tickets/8": ticketDeletions, "GET /api/v2/tickets": ticketLists, "GET /api/v2/tickets/8": "", "POST /api/v2/tickets": "",
		"PUT /api/v2/organizations/8": "", "PATCH /api/v2/custom_objects/order/records": "",
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := strings.Join(countsAgainst(method, path), ","); got != want {
			t.Errorf("%s counts against %q, want %q", call, got, want)
		}
	}
}

func FuzzReadings(f *testing.F) {
	f.Add("X-Rate-Limit: 700\nX-Rate-Limit-Remaining: 699\nratelimit-reset: 41\nzendesk-ratelimit-tickets-index: total=100; remaining=99; resets=41")
	f.Add("X-Rate-Limit: 1e9\nratelimit-remaining: -0\nZendesk-RateLimit-tickets-update: total=30; total=20;;=;remaining")
	f.Add("Zendesk-Ratelimit-incremental-exports: total=9223372036854775807; remaining=-1; resets=9223372036854775807")
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, lines string) {
		h := headers(lines)
		local(vendorhttp.Response{Header: h})
		for _, r := range readings(h, now) {
			known := slices.ContainsFunc(Limits(), func(l budget.Limit) bool { return l.Name == r.Limit })
			soon := r.Reset.IsZero() || r.Reset.After(now) && r.Reset.Before(now.Add(longest+2*time.Second))
			if !known || !soon || r.Max < 0 || r.Max > budget.Unlimited || r.Left < -1 || r.Left > budget.Unlimited || r.Max > 0 && r.Left > r.Max {
				t.Errorf("%q: %+v", lines, r)
			}
		}
	})
}
