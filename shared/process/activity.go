package process

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shopspring/decimal"

	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// activityProcess keeps, on the customer, what sales is doing there, for the desks to read. Nothing of it goes to the ERP.
func activityProcess() process {
	return summary("account-activity", "opportunity", "salesContext", "closeOn", func(all []record.Record) string { return clip(pipeline(all), 255) })
}

// summary is a process that keeps a field of customers in step with what all records of an entity say that refer to them.
// Each run brings it up to date once.
func summary(name, subject, field, newest string, say func([]record.Record) string) process {
	return process{starts: []string{name}, about: []string{subject, "customer"}, needs: needs{"customer": {field: record.Assign}}, define: func(s settings) []workflow.Definition {
		s.known()
		says := func(f workflow.Facts) []workflow.Set { // about the customers that the subject belongs to, and belonged to
			var out []workflow.Set
			for _, name := range slices.Sorted(maps.Keys(f.Others)) {
				out = append(out, set(f.Others[name].ID, field, say(f.Lists[name])))
			}
			return out
		}
		return []workflow.Definition{{Name: name, Version: 1, Subject: subject, Inherit: true,
			Needs: func(f workflow.Facts) map[string]record.ID { // and the customer that it belonged to the last time
				return map[string]record.ID{"customer": refers(f.Subject, "customer"), "before": record.ID(f.Run.Kept["customer"])}
			},
			Lists: func(f workflow.Facts) map[string]workflow.Query {
				out := map[string]workflow.Query{}
				for name, c := range f.Others {
					out[name] = workflow.Query{Of: c.ID, Entity: subject, Newest: newest, Max: workflow.MaxListed}
				}
				return out
			},
			Starts: func(f workflow.Facts) bool {
				for _, s := range says(f) {
					if text(f.Record(s.Record), s.Field) != s.Value.Raw() {
						return true
					}
				}
				return false
			},
			Steps: []workflow.Step{{Name: "tell", Do: func(f workflow.Facts) workflow.Move {
				m := workflow.Move{Done: true, Set: says(f)}
				if len(m.Set) > 0 { // from then on its customer is another one
					m.Keep = keep("customer", string(f.Others["customer"].ID))
				}
				return m
			}}}}}
	}}
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
