package process

import (
	"time"

	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// payment waits for an invoice to be paid. Then it lifts the customer's credit hold, if the company's policy says so, and
// lets everybody know. A run waits as long as the invoice is open, which costs nothing.
type payment struct {
	lift     condition
	patience time.Duration
}

func paymentProcess() process {
	return process{starts: []string{"payment"}, about: []string{"invoice", "customer"}, needs: needs{"customer": {"creditHold": record.Owner}}, says: []string{"customer.released", "invoice.paid"}, define: func(s settings) []workflow.Definition {
		s.known("lift", "patience")
		p := payment{patience: s.duration("patience", day)}
		if s.node.Has("lift") {
			p.lift = s.condition(s.node.Get("lift"))
		}
		return []workflow.Definition{p.definition()}
	}}
}

func (p payment) definition() workflow.Definition {
	return workflow.Definition{Name: "payment", Version: 1, Subject: "invoice",
		Starts: func(f workflow.Facts) bool { return text(f.Subject, "status") == "open" },
		Void: func(f workflow.Facts) string {
			switch s := text(f.Subject, "status"); {
			case gone(f.Subject, record.NetSuite):
				return "the invoice was deleted"
			case s == "voided", s == "rejected":
				return "the invoice is " + s
			}
			return ""
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			if f.Run.Kept["paid"] == "" { // a customer's changes are no news as long as nothing is paid
				return nil
			}
			return theCustomer(f)
		},
		Steps: []workflow.Step{
			{Name: "paid", Final: true, Do: paid},
			{Name: "hold", Do: p.hold},
			{Name: "tell", Do: tell, Remind: []time.Duration{4 * time.Hour}},
		}}
}

func paid(f workflow.Facts) workflow.Move {
	if text(f.Subject, "status") != "paid" {
		return workflow.Move{Wait: "the payment"}
	}
	return workflow.Move{Done: true, Keep: keep("paid", f.Now.UTC().Format(time.RFC3339)), Say: []workflow.Saying{{What: "invoice.paid", Record: f.Subject.ID,
		Detail: details("run", f.Run.ID(), "invoice", text(f.Subject, "number"), "total", text(f.Subject, "total"), "currency", text(f.Subject, "currency"), "customer", string(refers(f.Subject, "customer")))}}}
}

// hold lifts the credit hold once policy allows it. An account that is not active yet is on hold for another reason.
func (p payment) hold(f workflow.Facts) workflow.Move {
	c, some := f.Others["customer"]
	_, asks := c.Asked("creditHold")
	since, _ := time.Parse(time.RFC3339, f.Run.Kept["paid"])
	until := since.Add(p.patience)
	ok, err := p.lift.holds(map[string]record.Record{"invoice": f.Subject, "customer": c})
	switch {
	case asks && refused(c, record.NetSuite, "creditHold") == "":
		return workflow.Move{Wait: "NetSuite, which is to lift the credit hold"}
	case asks: // it stays on hold, and the exception tells why
		return workflow.Move{Done: true, Set: []workflow.Set{{Record: c.ID, Field: "creditHold"}}}
	case !some || text(c, "creditHold") != "on" || text(c, "activation") == pending || f.Run.Kept["lifted"] != "":
		return workflow.Move{Done: true}
	case ok && err == nil:
		return workflow.Move{Keep: keep("lifted", "yes"), Set: []workflow.Set{set(c.ID, "creditHold", "auto")}, Wait: "NetSuite, which is to lift the credit hold"}
	case !f.Now.Before(until):
		return workflow.Move{Done: true} // other invoices keep it
	}
	return workflow.Move{Wait: "the customer's balance, which keeps the credit hold", Look: until}
}

// tell waits until CRM and support know.
func tell(f workflow.Facts) workflow.Move {
	c := f.Others["customer"]
	for _, p := range f.Due[c.ID] {
		return workflow.Move{Wait: p + ", which is to know how the customer stands"}
	}
	m := workflow.Move{Done: true}
	if f.Run.Kept["lifted"] != "" && text(c, "creditHold") != "on" {
		m.Say = []workflow.Saying{{What: "customer.released", Record: c.ID, Detail: details("run", f.Run.ID(), "customerNumber", text(c, "number"), "customerName", text(c, "name"), "invoice", text(f.Subject, "number"))}}
	}
	return m
}
