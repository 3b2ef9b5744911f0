package process

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shopspring/decimal"

	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// activity keeps, on the customer, what sales is doing there, for the desks to read. Each run brings it up to date once.
// Nothing of it goes to the ERP.
func activityProcess() process {
	return process{starts: []string{"account-activity"}, about: []string{"opportunity", "customer"}, needs: needs{"customer": {"salesContext": record.Assign}}, define: func(s settings) []workflow.Definition {
		s.known()
		return []workflow.Definition{{Name: "account-activity", Version: 1, Subject: "opportunity",
			Needs: func(f workflow.Facts) map[string]record.ID { // and the account that it belonged to the last time
				return map[string]record.ID{"customer": refers(f.Subject, "customer"), "before": record.ID(f.Run.Kept["customer"])}
			},
			Lists: func(f workflow.Facts) map[string]workflow.Query {
				out := map[string]workflow.Query{}
				for name, c := range f.Others {
					out[name] = workflow.Query{Of: c.ID, Entity: "opportunity", Newest: "closeOn", Max: workflow.MaxListed}
				}
				return out
			},
			Starts: func(f workflow.Facts) bool {
				for _, s := range doing(f) {
					if text(f.Record(s.Record), s.Field) != s.Value.Raw() {
						return true
					}
				}
				return false
			},
			Steps: []workflow.Step{{Name: "tell", Do: func(f workflow.Facts) workflow.Move {
				m := workflow.Move{Done: true, Set: doing(f)}
				if len(m.Set) > 0 { // from then on its account is another one
					m.Keep = keep("customer", string(f.Others["customer"].ID))
				}
				return m
			}}}}}
	}}
}

// doing sets what sales is doing with the accounts that the opportunity belongs to, and belonged to.
func doing(f workflow.Facts) []workflow.Set {
	var out []workflow.Set
	for _, name := range slices.Sorted(maps.Keys(f.Others)) {
		out = append(out, set(f.Others[name].ID, "salesContext", clip(pipeline(f.Lists[name]), 255)))
	}
	return out
}

// pipeline says what is open among opportunities, or "" where nothing is: "2 open opportunities, 120000.00 EUR, next close 2026-12-01".
func pipeline(all []record.Record) string {
	open, next, amounts := 0, "", map[string]decimal.Decimal{}
	for _, o := range all {
		if s := text(o, "stage"); s == "closed-won" || s == "closed-lost" || s == "" || gone(o, record.Salesforce) {
			continue
		}
		open++
		sum(amounts, o, "amount")
		if on := text(o, "closeOn"); on != "" && (next == "" || on < next) {
			next = on
		}
	}
	if open == 0 {
		return ""
	}
	out := fmt.Sprintf("%d open %s%s", open, map[bool]string{true: "opportunity", false: "opportunities"}[open == 1], total(amounts))
	if next != "" {
		out += ", next close " + next
	}
	return out
}
