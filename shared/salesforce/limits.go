package salesforce

import (
	"net/http"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/vendorhttp"
)

// longCalls are calls that may last 20 seconds or more. The vendor counts only those that do; which will, nobody knows
// before: ours are the collections, whose rows run the org's automation one after the other, and pages of listings. Some
// that we have given up waiting for (Config.Timeout) may still run there.
const longCalls = "long-calls"

// limits are those of the smallest org, a Developer Edition: every answer says how many calls a day the org really has.
// Orgs for production and sandboxes have 25 long calls at once.
// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
func limits() []budget.Limit {
	return []budget.Limit{
		{Name: budget.Calls, Max: 15_000, Window: 24 * time.Hour},
		{Name: longCalls, Max: 5},
	}
}

// Limits of the org, by Config.Limits and otherwise those of the smallest one.
func (c *Connector) Limits() []budget.Limit { return c.limits }

// readings is what Sforce-Limit-Info says: "api-usage=18/5000", possibly followed by
// "; per-app-api-usage=17/250(appName=sorrel)". The one that leaves less is believed. The 24 hours roll, so there is no
// moment at which all of it is free again.
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_api_usage.htm
func readings(h http.Header) []budget.Reading {
	least := budget.Reading{Limit: budget.Calls, Left: -1}
	for _, part := range strings.Split(strings.Join(h.Values("Sforce-Limit-Info"), ";"), ";") {
		name, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		if name != "api-usage" && name != "per-app-api-usage" {
			continue
		}
		v, _, _ = strings.Cut(v, "(")
		before, after, _ := strings.Cut(v, "/")
		used, said := vendorhttp.Count(before)
		most, bounded := vendorhttp.Count(after)
		if !said || !bounded || most == 0 {
			continue
		}
		if left := max(0, most-used); least.Left < 0 || left < least.Left { // the vendor lets an org go over by a little
			least.Max, least.Left = most, left
		}
	}
	if least.Left < 0 {
		return nil
	}
	return []budget.Reading{least}
}
