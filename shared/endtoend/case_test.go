package endtoend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/twins"
	"sorrel/shared/zendesk"
)

// desk is where a case is opened: how people open and edit it there, and what it calls things.
type desk struct {
	platform, object string
	edit             func(w *twins.Twins, id string, fields map[string]any) (string, error)
	remove           func(w *twins.Twins, id string) error
	opened           func(customer string) map[string]any // urgent, open, with a long subject
	solved, breached map[string]any
	holds            func(w *twins.Twins, id, field string) string // of the fields that Sorrel writes
	context          string                                        // … one of them
	number           func(w *twins.Twins, id string) string
}

func desks() []desk {
	subject := "Cold chain broken " + strings.Repeat("again and ", 30)
	return []desk{{
		platform: record.Zendesk, object: zendesk.Ticket,
		edit: func(w *twins.Twins, id string, f map[string]any) (string, error) {
			return w.Zendesk.Edit(zendesk.Ticket, id, f)
		},
		remove: func(w *twins.Twins, id string) error { return w.Zendesk.Delete(zendesk.Ticket, id) },
		opened: func(customer string) map[string]any {
			return map[string]any{"subject": subject, "description": "Two pallets came in warm.", "status": "open", "priority": "urgent", "organization_id": customer}
		},
		solved: map[string]any{"status": "solved"}, breached: map[string]any{"ticket_fields": map[string]any{"sla_breached": true}},
		holds: func(w *twins.Twins, id, field string) string {
			v, _ := w.Zendesk.TicketValue(id, strings.TrimPrefix(field, "u_"))
			return said(map[string]any{"v": v})["v"]
		},
		context: "u_erp_context",
		number:  func(_ *twins.Twins, id string) string { return id },
	}, {
		platform: record.ServiceNow, object: servicenow.Case,
		edit: func(w *twins.Twins, id string, f map[string]any) (string, error) {
			return w.ServiceNow.Edit(servicenow.Case, id, f)
		},
		remove: func(w *twins.Twins, id string) error { return w.ServiceNow.Delete(servicenow.Case, id) },
		opened: func(customer string) map[string]any {
			return map[string]any{"short_description": "Cold chain broken", "description": "Two pallets came in warm.", "state": "10", "priority": "1", "account": customer,
				"opened_at": "2026-11-02 08:15:20"}
		},
		solved: map[string]any{"state": "6"}, breached: map[string]any{"u_sla_breached": "true"},
		holds: func(w *twins.Twins, id, field string) string {
			n, _ := w.ServiceNow.Get(servicenow.Case, id)
			return inside(n, field)
		},
		context: "u_erp_context",
		number: func(w *twins.Twins, id string) string {
			n, _ := w.ServiceNow.Get(servicenow.Case, id)
			return inside(n, "number")
		},
	}}
}

// A case goes from the desk where it was opened to Salesforce, and nowhere else: its status at once, a breach of its SLA,
// what workflows find out. What Salesforce's people change is put back, what is told again costs nothing, and of the customer
// nothing is touched.
func TestCaseReachesSales(t *testing.T) {
	for _, d := range desks() {
		t.Run(d.platform, func(t *testing.T) {
			g := governedStage(t, nil)
			c := g.customer(ernst())
			before := encodedCustomer(g, c)

			id := g.onDesk(d, "", d.opened(c.on[d.platform]))
			g.settle(soon)
			g.wrote("salesforce 1")
			record0 := ledger.Mint("case", record.Ref{Platform: d.platform, Object: d.object, ID: id})
			g.caseShows(record0, map[string]string{"Support_Status__c": "Open", "Status": "Working", "Support_Priority__c": "Urgent", "Support_Desk__c": d.platform,
				"Support_Number__c": d.number(g.twins, id), "AccountId": c.on[record.Salesforce], "SLA_Breached__c": "false", "ERP_Context__c": "",
				"Description": "Two pallets came in warm."})
			if other := len(g.twins.Zendesk.All(zendesk.Ticket)) + len(g.twins.ServiceNow.All(servicenow.Case)); other != 1 {
				t.Errorf("%d cases on the desks, want the one that was opened", other)
			}

			g.onDesk(d, id, d.solved)
			start := time.Now()
			g.eventually(soon, "a solved case", func() error {
				return g.caseDiffers(record0, map[string]string{"Support_Status__c": "Solved", "Status": "Closed"})
			})
			t.Logf("the status was in Salesforce after %s", time.Since(start).Round(time.Millisecond))
			g.onDesk(d, id, d.breached)
			g.settle(soon)
			g.caseShows(record0, map[string]string{"SLA_Breached__c": "true"})
			g.wrote("salesforce 2")

			// A workflow's findings go to both, an agent who overwrites one of them is put back, and their echoes cost nothing.
			for field, v := range map[string]string{"escalation": "escalated", "erpContext": "Credit hold: on\n2 open invoices, 1200.50 EUR", "crmContext": "Owner: Sarah"} {
				if _, err := g.world.Steward().Assign(t.Context(), g.who("frank@northwind.example"), record0, field, record.TextValue(v)); err != nil {
					t.Fatal(err)
				}
			}
			g.settle(soon)
			g.caseShows(record0, map[string]string{"Sorrel_Escalation__c": "Escalated", "ERP_Context__c": "Credit hold: on\n2 open invoices, 1200.50 EUR", "CRM_Context__c": "Owner: Sarah"})
			if got := d.holds(g.twins, id, d.context); got != "Credit hold: on\n2 open invoices, 1200.50 EUR" {
				t.Errorf("the desk shows %q", got)
			}
			for p, most := range map[string]int{record.Salesforce: 3, d.platform: 3} {
				if n := g.writes(p) - g.counted[p]; n < 1 || n > most {
					t.Errorf("%d writes to %s, want 1 to %d", n, p, most)
				}
				g.counted[p] = g.writes(p)
			}
			g.wrote("")

			// Sales changes the copy: put back. An open case that sales calls escalated is left alone, and opens no quarrel.
			g.onSalesforce(record0, map[string]any{"Support_Status__c": "Open", "Status": "New", "Subject": "never mind"})
			g.settle(soon)
			g.caseShows(record0, map[string]string{"Support_Status__c": "Solved", "Status": "Closed"})
			g.wrote("salesforce 1")
			g.noTrouble()

			if after := encodedCustomer(g, c); after != before {
				t.Errorf("the customer was\n%s\nand is\n%s", before, after)
			}
			g.tellAgain()
			g.wrote("")

			if err := d.remove(g.twins, id); err != nil {
				t.Fatal(err)
			}
			g.settle(soon)
			g.caseShows(record0, map[string]string{"Support_Status__c": "Closed", "Status": "Closed"})
			g.noTrouble()
		})
	}
}

// A case of nobody that is known is not copied until somebody says whose it is, and one that is over when it is first heard
// of never is.
func TestCaseOfNobody(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	d := desks()[0]
	id := g.onDesk(d, "", map[string]any{"subject": "Who are you?", "status": "open"})
	g.onDesk(d, "", map[string]any{"subject": "Years ago", "status": "closed", "organization_id": c.on[record.Zendesk]})
	g.settle(soon)
	g.wrote("")
	g.onDesk(d, id, map[string]any{"organization_id": c.on[record.Zendesk]})
	g.settle(soon)
	g.caseShows(ledger.Mint("case", record.Ref{Platform: d.platform, Object: d.object, ID: id}), map[string]string{"Subject": "Who are you?", "AccountId": c.on[record.Salesforce]})
	g.wrote("salesforce 1")
	g.noTrouble()
}

// A closed ticket takes no more changes: what a workflow finds out later reaches sales, and for the desk an exception says why not.
func TestCaseClosedOnDesk(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	d := desks()[0]
	id := g.onDesk(d, "", d.opened(c.on[record.Zendesk]))
	g.settle(soon)
	about := ledger.Mint("case", record.Ref{Platform: d.platform, Object: d.object, ID: id})
	g.onDesk(d, id, map[string]any{"status": "closed"})
	g.settle(soon)
	for field, v := range map[string]string{"escalation": "handled", "erpContext": "No open invoices"} {
		if _, err := g.world.Steward().Assign(t.Context(), g.who("frank@northwind.example"), about, field, record.TextValue(v)); err != nil {
			t.Fatal(err)
		}
	}
	g.settle(soon)
	g.caseShows(about, map[string]string{"Support_Status__c": "Closed", "Sorrel_Escalation__c": "Handled", "ERP_Context__c": "No open invoices"})
	g.expectTroubles("refused-write zendesk erpContext", "refused-write zendesk escalation")
}

// A case that sales opens for itself is no concern of Sorrel's.
func TestCaseOfSalesforce(t *testing.T) {
	g := governedStage(t, nil)
	if _, err := g.twins.Salesforce.Edit("Case", "", map[string]any{"Subject": "Ask about the invoice"}); err != nil {
		t.Fatal(err)
	}
	g.list(record.Salesforce)
	g.settle(soon)
	g.wrote("")
	g.noTrouble()
}

// onDesk is what an agent does.
func (g governed) onDesk(d desk, id string, fields map[string]any) string {
	g.Helper()
	g.nextSecond()
	got, err := d.edit(g.twins, id, fields)
	if err != nil {
		g.Fatal(err)
	}
	return got
}

func (g governed) onSalesforce(id record.ID, fields map[string]any) {
	g.Helper()
	g.nextSecond()
	if _, err := g.twins.Salesforce.Edit("Case", nativeID(g, g.twins, record.Salesforce, "Case", id.External()), fields); err != nil {
		g.Fatal(err)
	}
}

// caseDiffers says where Salesforce's copy differs from want.
func (g governed) caseDiffers(id record.ID, want map[string]string) error {
	return holding{record.Salesforce, "Case", want}.shows(g.twins, id.External())
}

func (g governed) caseShows(id record.ID, want map[string]string) {
	g.Helper()
	if err := g.caseDiffers(id, want); err != nil {
		g.Error(err)
	}
}

// tellAgain lists all cases of all platforms from the beginning.
func (g governed) tellAgain() {
	g.Helper()
	for p, object := range map[string]string{record.Salesforce: "Case", record.Zendesk: zendesk.Ticket, record.ServiceNow: servicenow.Case} {
		if err := g.world.Ledger.SaveCursor(g.Context(), p, object, ""); err != nil {
			g.Fatal(err)
		}
		g.list(p)
	}
	g.settle(soon)
}

// encodedCustomer is all that a customer holds on the four platforms and in the golden record.
func encodedCustomer(g governed, c party) string {
	g.Helper()
	var out []string
	for f, v := range g.record(c.id).Golden {
		out = append(out, fmt.Sprintf("golden %s = %s", f, v.Value))
	}
	for _, p := range platforms {
		native, ok := g.native(p, c.on[p])
		if !ok {
			g.Fatal(errors.New("no customer on " + p))
		}
		for k, v := range said(native) {
			out = append(out, fmt.Sprintf("%s %s = %s", p, k, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
