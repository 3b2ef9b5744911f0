package zendesk

import (
	"net/http"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/vendorhttp"
)

// The limits of endpoints have the names of the vendor's headers Zendesk-RateLimit-NAME. Those of ticketDeletions and
// searchExports are UNCONFIRMED.
const (
	exports         = "incremental-exports"
	userWrites      = "create-update-user"
	ticketUpdates   = "tickets-update"
	ticketDeletions = "tickets-delete"
	ticketLists     = "tickets-index"
	searchExports   = "search-export"
)

// Limits are those of the smallest plan that is sold, Team, without the High Volume add-on: the headers of the answers
// say what the account really has. Of ticketLists only sandboxes and trials have one; elsewhere the header says 100,000.
// https://developer.zendesk.com/api-reference/introduction/rate-limits/
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#list-tickets
// https://developer.zendesk.com/api-reference/ticketing/users/users/#create-or-update-user
func Limits() []budget.Limit {
	return []budget.Limit{
		{Name: budget.Calls, Max: 200, Window: time.Minute},
		{Name: exports, Max: 10, Window: time.Minute},
		{Name: userWrites, Max: 1, Window: time.Second},
		{Name: ticketUpdates, Max: 100, Window: time.Minute},
		{Name: ticketDeletions, Max: 400, Window: time.Minute},
		{Name: ticketLists, Max: 100, Window: time.Minute},
		{Name: searchExports, Max: 100, Window: time.Minute},
	}
}

// Limits of the account, by Config.Limits and otherwise those of the smallest plan. Those of single records (5 updates a
// minute of one organization or user, 30 in ten minutes of one ticket) are not among them: being over one of those is a
// refusal that delays its record alone.
func (c *Connector) Limits() []budget.Limit { return c.limits }

// perRecord is what a header of the given name says where it is about one record, whose limit bears the same name.
func perRecord(name string) int {
	switch name {
	case userWrites:
		return 5
	case ticketUpdates:
		return 30
	}
	return 0
}

// countsAgainst names the limits of endpoints that a call counts against.
func countsAgainst(method, path string) []string {
	parts := strings.Split(strings.TrimPrefix(path, "/api/v2/"), "/")
	switch {
	case parts[0] == "incremental":
		return []string{exports}
	case len(parts) == 2 && parts[0] == "search" && parts[1] == "export":
		return []string{searchExports}
	case parts[0] == "users" && (method == http.MethodPut && len(parts) == 2 || method == http.MethodPost && len(parts) <= 2):
		return []string{userWrites}
	case parts[0] == "tickets" && method == http.MethodPut:
		return []string{ticketUpdates}
	case parts[0] == "tickets" && method == http.MethodDelete:
		return []string{ticketDeletions}
	case parts[0] == "tickets" && method == http.MethodGet && len(parts) == 1:
		return []string{ticketLists}
	}
	return nil
}

// longest bounds how far away a window's end is believed to be; the longest that is published has 10 minutes.
const longest = 15 * time.Minute

// readings is what an answer's headers say about the limits. Two headers say the same of the account; should they differ,
// the lesser counts.
// https://developer.zendesk.com/documentation/api-basics/best-practices/best-practices-for-avoiding-rate-limiting
func readings(h http.Header, now time.Time) []budget.Reading {
	var out []budget.Reading
	account := budget.Reading{Limit: budget.Calls, Left: -1}
	account.Max, _ = vendorhttp.Least(h, "X-Rate-Limit", "Ratelimit-Limit")
	if left, ok := vendorhttp.Least(h, "X-Rate-Limit-Remaining", "Ratelimit-Remaining"); ok && (account.Max == 0 || left <= account.Max) {
		account.Left = left
		if s, ok := vendorhttp.Count(h.Get("Ratelimit-Reset")); ok {
			account.Reset = vendorhttp.In(now, s, longest)
		}
	}
	if account.Max > 0 || account.Left >= 0 {
		out = append(out, account)
	}
	for _, l := range Limits() {
		for _, v := range h.Values("Zendesk-Ratelimit-" + l.Name) {
			total, left, resets := endpoint(v)
			if total <= 0 || left > total || total == perRecord(l.Name) {
				continue
			}
			r := budget.Reading{Limit: l.Name, Max: total, Left: left}
			if left >= 0 && resets >= 0 {
				r.Reset = vendorhttp.In(now, resets, longest)
			}
			out = append(out, r)
		}
	}
	return out
}

// endpoint reads "total=10; remaining=9; resets=2". What is not said is -1.
func endpoint(header string) (total, left, resets int) {
	total, left, resets = -1, -1, -1
	for _, part := range strings.Split(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, ok := vendorhttp.Count(value)
		if !ok {
			continue
		}
		switch strings.ToLower(name) {
		case "total":
			total = n
		case "remaining":
			left = n
		case "resets":
			resets = n
		}
	}
	return total, left, resets
}

// local reports that an over-limit answer is not about the account: an endpoint's or record's header says so, or the
// account's minute has calls left.
func local(resp vendorhttp.Response) bool {
	for name, values := range resp.Header {
		if !strings.HasPrefix(name, "Zendesk-Ratelimit-") {
			continue
		}
		for _, v := range values {
			if _, left, _ := endpoint(v); left == 0 {
				return true
			}
		}
	}
	left, ok := vendorhttp.Least(resp.Header, "X-Rate-Limit-Remaining", "Ratelimit-Remaining")
	return ok && left > 0
}
