package process

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// escalation gives a case that cannot wait the context that people need: what the ERP knows of the customer, what sales is
// doing there, and a task for whoever owns the account. It sets fields of the case and of that task, and no others.
type escalation struct {
	when   condition
	notify time.Duration
}

func escalationProcess() process {
	assigned := record.Assign
	return process{starts: []string{"escalation", "calm"}, about: []string{"case", "customer"}, needs: needs{
		"case": {"escalation": assigned, "erpContext": assigned, "crmContext": assigned},
		"task": {"subject": assigned, "description": assigned, "customer": assigned, "owner": assigned, "priority": assigned, "dueOn": assigned},
	}, says: []string{"case.escalated", "case.unowned"}, define: func(s settings) []workflow.Definition {
		s.known("when", "notify")
		e := escalation{notify: s.duration("notify", 4*time.Hour)}
		if s.node.Has("when") {
			e.when = s.condition(s.node.Get("when"))
		}
		return []workflow.Definition{e.definition(), e.calm()}
	}}
}

const (
	escalated = "escalated"
	handled   = "handled"
)

// wants reports whether a case is to be escalated. What cannot be judged is not.
func (e escalation) wants(f workflow.Facts) bool {
	if s := text(f.Subject, "status"); s == "solved" || s == "closed" || len(f.Subject.Views) == 0 {
		return false
	}
	ok, err := e.when.holds(map[string]record.Record{"case": f.Subject, "customer": f.Others["customer"]})
	return ok && err == nil
}

func theCustomer(f workflow.Facts) map[string]record.ID {
	return map[string]record.ID{"customer": refers(f.Subject, "customer")}
}

func (e escalation) definition() workflow.Definition {
	return workflow.Definition{Name: "escalation", Version: 1, Subject: "case", Late: e.notify,
		Starts: func(f workflow.Facts) bool { return text(f.Subject, "escalation") != escalated && e.wants(f) },
		Void: func(f workflow.Facts) string {
			if s := text(f.Subject, "status"); s == "solved" || s == "closed" {
				return "the case was " + s
			}
			return ""
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			out := theCustomer(f)
			out["task"] = f.Run.Makes("task", "owner")
			return out
		},
		Lists: func(f workflow.Facts) map[string]workflow.Query {
			c := refers(f.Subject, "customer")
			if c == "" || f.Run.Kept["context"] != "" {
				return nil
			}
			out := map[string]workflow.Query{
				"invoices":      {Of: c, Entity: "invoice", Newest: "issuedOn", Max: 50},
				"contracts":     {Of: c, Entity: "contract", Newest: "endsOn", Max: 5},
				"orders":        {Of: c, Entity: "order", Newest: "placedOn", Max: 5},
				"opportunities": {Of: c, Entity: "opportunity", Newest: "closeOn", Max: 20},
			}
			for i, o := range f.Lists["orders"] {
				out[fmt.Sprintf("shipments %d", i)] = workflow.Query{Of: o.ID, Entity: "shipment", Newest: "shippedOn", Max: 3}
			}
			return out
		},
		Steps: []workflow.Step{
			{Name: "context", Do: context},
			{Name: "notify", Do: e.notifyOwner, Remind: []time.Duration{e.notify}},
		}}
}

// calm ends the escalation of a case that was solved, or that is no longer urgent: it can be escalated again.
func (e escalation) calm() workflow.Definition {
	return workflow.Definition{Name: "calm", Version: 1, Subject: "case", Needs: theCustomer,
		Starts: func(f workflow.Facts) bool { return text(f.Subject, "escalation") == escalated && !e.wants(f) },
		Steps: []workflow.Step{{Name: "clear", Do: func(f workflow.Facts) workflow.Move {
			return workflow.Move{Done: true, Set: []workflow.Set{set(f.Subject.ID, "escalation", handled)}}
		}}}}
}

// context tells what is known of the customer at this moment.
func context(f workflow.Facts) workflow.Move {
	m := workflow.Move{Done: true, Set: []workflow.Set{set(f.Subject.ID, "escalation", escalated)}}
	if f.Run.Kept["context"] == "" {
		m.Keep = keep("context", f.Now.UTC().Format(time.RFC3339))
		m.Set = append(m.Set, set(f.Subject.ID, "erpContext", erp(f)), set(f.Subject.ID, "crmContext", crm(f)))
	}
	m.Say = []workflow.Saying{{What: "case.escalated", Record: f.Subject.ID, Detail: details("run", f.Run.ID(), "case", text(f.Subject, "number"), "subject", text(f.Subject, "subject"),
		"priority", text(f.Subject, "priority"), "customer", text(f.Others["customer"], "name"), "customerNumber", text(f.Others["customer"], "number"))}}
	return m
}

// erp is what the ERP knows, for an agent to read.
func erp(f workflow.Facts) string {
	c, some := f.Others["customer"]
	if !some {
		return "The case belongs to no known customer."
	}
	var out []string
	line := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	line("Customer %s, credit hold %s, balance %s, overdue %s", cmp.Or(text(c, "number"), "without a number"), cmp.Or(text(c, "creditHold"), "unknown"), money(c, "balance"), money(c, "overdueBalance"))
	open, owed := 0, map[string]decimal.Decimal{}
	for _, i := range f.Lists["invoices"] {
		if text(i, "status") == "open" {
			open++
			sum(owed, i, "amountDue")
		}
	}
	line("Open invoices: %d%s", open, total(owed))
	if len(f.Lists["contracts"]) == 0 {
		line("No contract")
	}
	for _, k := range f.Lists["contracts"] {
		line("Contract %s: %s, %s, until %s", text(k, "number"), text(k, "status"), cmp.Or(text(k, "tier"), "no tier"), cmp.Or(text(k, "endsOn"), "no end"))
	}
	for i, o := range f.Lists["orders"] {
		for _, s := range f.Lists[fmt.Sprintf("shipments %d", i)] {
			line("Shipment %s of order %s: %s %s", text(s, "number"), text(o, "number"), text(s, "status"), text(s, "shippedOn"))
		}
	}
	return short(out)
}

// crm is what sales is doing.
func crm(f workflow.Facts) string {
	c, some := f.Others["customer"]
	if !some {
		return "The case belongs to no known account."
	}
	out := []string{fmt.Sprintf("Account manager %s, segment %s, support tier %s", cmp.Or(text(c, "accountManager"), "nobody"), cmp.Or(text(c, "segment"), "none"), cmp.Or(text(c, "supportTier"), "none")),
		cmp.Or(pipeline(f.Lists["opportunities"]), "No open opportunity")}
	return short(out)
}

// short joins lines, as many as a field of 4000 characters holds.
func short(lines []string) string {
	out := ""
	for _, l := range lines {
		if len(out)+len(l) > 3900 {
			return out + "\n…"
		}
		out += "\n" + l
	}
	return strings.TrimPrefix(out, "\n")
}

// notifyOwner waits until whoever owns the account has a task about it.
func (e escalation) notifyOwner(f workflow.Facts) workflow.Move {
	c, some := f.Others["customer"]
	id := f.Run.Makes("task", "owner")
	task := f.Others["task"]
	owner := text(c, "salesOwner")
	switch {
	case !some || owner == "":
		return workflow.Move{Done: true, Say: []workflow.Saying{{What: "case.unowned", Record: f.Subject.ID, Detail: details("run", f.Run.ID(), "case", text(f.Subject, "number"))}}}
	case task.Views[record.Salesforce].ID != "" && !due(f, task, record.Salesforce):
		return workflow.Move{Done: true}
	}
	m := workflow.Move{Wait: "Salesforce, which is to give the account's owner a task", Set: []workflow.Set{
		set(id, "subject", clip("Escalated: "+text(f.Subject, "subject"), 255)), set(id, "customer", string(c.ID)), set(id, "owner", owner), set(id, "priority", "high"),
		set(id, "dueOn", f.Run.Began.Add(e.notify).UTC().Format(time.DateOnly)),
		set(id, "description", clip(fmt.Sprintf("Case %s (%s) of %s.\n%s", text(f.Subject, "number"), text(f.Subject, "priority"), text(c, "name"), text(f.Subject, "erpContext")), 4000))}}
	if why := refused(task, record.Salesforce); why != "" && !due(f, task, record.Salesforce) {
		m.Wait = "Salesforce, which refuses the task: " + why
	}
	return m
}

// clip keeps at most n bytes of a text, and whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "…"
}

// details are pairs of which those with a value are kept.
func details(pairs ...string) map[string]string {
	out := keep(pairs...)
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return out
}

// money is an amount of a record with its currency.
func money(r record.Record, field string) string {
	d, some := r.Golden[field].Value.Decimal()
	if !some {
		return "unknown"
	}
	return strings.TrimSpace(d.StringFixed(2) + " " + text(r, "currency"))
}

// sum adds an amount of a record to those of its currency.
func sum(by map[string]decimal.Decimal, r record.Record, field string) {
	if d, some := r.Golden[field].Value.Decimal(); some {
		by[text(r, "currency")] = by[text(r, "currency")].Add(d)
	}
}

// total writes amounts by currency: ", 120000.00 EUR".
func total(by map[string]decimal.Decimal) string {
	var out []string
	for currency, d := range by {
		out = append(out, ", "+strings.TrimSpace(d.StringFixed(2)+" "+currency))
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
