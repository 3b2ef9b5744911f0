package servicenow

import (
	"strconv"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/vendorhttp"
)

// limits: there is no rule out of the box. An instance's own rules are per hour, and answers say them.
// https://www.servicenow.com/docs/r/api-reference/rest-api-explorer/inbound-REST-API-rate-limiting.html
func limits() []budget.Limit {
	return []budget.Limit{{Name: budget.Calls, Max: budget.Unlimited, Window: time.Hour}}
}

// Limits of the instance: what Config.Limits says, and otherwise none until an answer tells of a rule.
func (c *Connector) Limits() []budget.Limit { return c.limits }

// readings is what the headers of a rate limit rule say: how many calls an hour, and the end of this hour by the
// vendor's clock. How many are left is not said. Where several rules match, the vendor counts by the strictest.
func readings(resp vendorhttp.Response, now time.Time) []budget.Reading {
	most, ok := vendorhttp.Least(resp.Header, "X-Ratelimit-Limit")
	if !ok || most == 0 {
		return nil
	}
	r := budget.Reading{Limit: budget.Calls, Max: most, Left: -1}
	theirs := resp.Date
	if theirs.IsZero() {
		theirs = now
	}
	if end, err := strconv.Atoi(resp.Header.Get("X-Ratelimit-Reset")); err == nil && end > 0 {
		r.Reset = vendorhttp.In(now, end-int(theirs.Unix()), time.Hour+time.Minute)
	}
	return []budget.Reading{r}
}
