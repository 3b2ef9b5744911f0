package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sorrel/shared/fault"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/twin"
	"sorrel/shared/workflow"
	"sorrel/shared/zendesk"
)

// clock is the time of the story, which can jump forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) jump(d time.Duration) { c.ahead.Add(int64(d)) }

// prospect is an account that sales has entered, and an opportunity of it.
type prospect struct {
	name            string
	account, deal   string // Salesforce ids
	id, opportunity record.ID
}

// enters lets sales enter an account and an opportunity that is not won yet.
func (d *demo) enters(ctx context.Context, name, tax, street, city, zip, country string, amount float64) (prospect, error) {
	p := prospect{name: name}
	var err error
	if p.account, err = d.twins.Salesforce.Edit("Account", "", map[string]any{"Name": name, "Tax_Id__c": tax, "BillingStreet": street, "BillingCity": city, "BillingPostalCode": zip, "BillingCountry": country}); err != nil {
		return p, fmt.Errorf("sales enters an account: %w", err)
	}
	if p.deal, err = d.twins.Salesforce.Edit("Opportunity", "", map[string]any{"Name": name + ", first order", "AccountId": p.account, "StageName": "Negotiation/Review", "CloseDate": d.clock.now().UTC().Format(time.DateOnly), "Amount": amount}); err != nil {
		return p, fmt.Errorf("sales enters an opportunity: %w", err)
	}
	if err := d.settled(ctx); err != nil {
		return p, err
	}
	var err1, err2 error
	p.id, err1 = d.native(ctx, record.Salesforce, "Account", p.account)
	p.opportunity, err2 = d.native(ctx, record.Salesforce, "Opportunity", p.deal)
	return p, errors.Join(err1, err2)
}

// wins lets sales win the opportunity.
func (d *demo) wins(p prospect) error {
	_, err := d.twins.Salesforce.Edit("Opportunity", p.deal, map[string]any{"StageName": "Closed Won"})
	return err
}

func (d *demo) activation(ctx context.Context, p prospect) (ledger.Run, error) {
	r, some, err := d.world.Ledger.LatestRun(ctx, "activation", p.opportunity)
	return r, errors.Join(err, need(some, "no activation has begun"))
}

// decides lets finance decide about an activation.
func (d *demo) decides(ctx context.Context, p prospect, approve bool, reason string, correct map[string]string) error {
	r, err := d.activation(ctx, p)
	if err != nil {
		return err
	}
	_, err = d.world.Workflow().Act(ctx, d.person(fiona), r.ID(), workflow.Act{Do: workflow.Decide, Reason: reason, Answer: workflow.Answer{Approve: approve, Reason: reason, Correct: correct}})
	return err
}

// has counts the native records of a prospect on a platform.
func (d *demo) has(p prospect, platform string) (map[string]any, error) {
	key := map[string]string{record.NetSuite: "externalId", record.Salesforce: "Sorrel_Id__c", record.Zendesk: "external_id", record.ServiceNow: "u_sorrel_id"}[platform]
	return findBy(d.all(platform), key, p.id.External())
}

// nowhere checks that no platform but Salesforce has anything of a prospect.
func (d *demo) nowhere(p prospect) error {
	var out []error
	for _, platform := range []string{record.NetSuite, record.Zendesk, record.ServiceNow} {
		if got, err := d.has(p, platform); err == nil {
			out = append(out, fmt.Errorf("%s has %v", platform, got["id"]))
		}
		for _, r := range d.all(platform) {
			if r["name"] == p.name || r["companyName"] == p.name {
				out = append(out, fmt.Errorf("%s has %s", platform, p.name))
			}
		}
	}
	return errors.Join(out...)
}

// active checks that a prospect is a customer that everybody knows by its number.
func (d *demo) active(ctx context.Context, p prospect) (string, error) {
	r, err := d.activation(ctx, p)
	if err != nil {
		return "", err
	}
	if r.State != workflow.Done {
		return "", fmt.Errorf("%s: %s, waits for %s %s", r.State, r.Step, r.Wait, r.Reason)
	}
	erp, err := d.has(p, record.NetSuite)
	if err != nil {
		return "", err
	}
	number := fmt.Sprint(erp["entityId"])
	hold := erp["creditHoldOverride"]
	if m, is := hold.(map[string]any); is {
		hold = m["id"]
	}
	crm, _ := d.twins.Salesforce.Get("Account", p.account)
	deal, _ := d.twins.Salesforce.Get("Opportunity", p.deal)
	zendesk, err1 := d.has(p, record.Zendesk)
	servicenow, err2 := d.has(p, record.ServiceNow)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	fields, _ := zendesk["organization_fields"].(map[string]any)
	return fmt.Sprintf("%s after %s", number, r.Ended.Sub(r.Began).Round(time.Millisecond)), errors.Join(
		need(erp["custentity_sorrel_activation"] == "active", fmt.Sprintf("NetSuite says %v", erp["custentity_sorrel_activation"])),
		need(hold == "AUTO", fmt.Sprintf("the credit hold is %v", hold)),
		need(crm["ERP_Customer_Number__c"] == number && crm["ERP_Activation__c"] == "Active", fmt.Sprintf("Salesforce says %v, %v", crm["ERP_Customer_Number__c"], crm["ERP_Activation__c"])),
		need(deal["Sorrel_Status__c"] == "Active", fmt.Sprintf("the opportunity says %v", deal["Sorrel_Status__c"])),
		need(fields["erp_number"] == number, fmt.Sprintf("Zendesk says %v", fields["erp_number"])),
		need(servicenow["u_erp_number"] == number, fmt.Sprintf("ServiceNow says %v", servicenow["u_erp_number"])))
}

// asks waits until an activation asks finance.
func (d *demo) asks(ctx context.Context, what string, p prospect) {
	d.expect(ctx, what, func() (string, error) {
		r, err := d.activation(ctx, p)
		if err != nil {
			return "", err
		}
		if r.Ask == nil {
			return "", fmt.Errorf("nothing is asked: %s", r.Wait)
		}
		return fmt.Sprint(r.Ask.Reasons), nil
	})
}

// activated is the chapter of three opportunities.
func (d *demo) activated(ctx context.Context) error {
	clean, err1 := d.enters(ctx, "Simons bistro", "DK13585628", "Vinbæltet 34", "København", "1734", "DK", 12000)
	cured, err2 := d.enters(ctx, "Vaffeljernet", "DK12345678", "Smagsløget 45", "Århus", "8200", "DK", 8000)
	denied, err3 := d.enters(ctx, "Piccolo und mehr", "ATU00000000", "Geislweg 14", "Salzburg", "5020", "AT", 3000)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for _, p := range []prospect{clean, cured, denied} {
		d.hold("as long as nothing is won, only Salesforce has "+p.name, "", d.nowhere(p))
	}
	d.printf("  sales wins all three\n")
	if err := errors.Join(d.wins(clean), d.wins(cured), d.wins(denied)); err != nil {
		return err
	}
	d.expect(ctx, "the clean one goes straight through: everybody knows the customer by its number", func() (string, error) { return d.active(ctx, clean) })
	d.asks(ctx, "the tax number of the second cannot be right: finance is asked", cured)
	d.asks(ctx, "that of the third neither", denied)
	erp, err := d.has(cured, record.NetSuite)
	if err != nil {
		return err
	}
	hold, _ := erp["creditHoldOverride"].(map[string]any)
	d.hold("meanwhile the customer is pending in NetSuite, on credit hold", "", need(erp["custentity_sorrel_activation"] == "pending" && hold["id"] == "ON", fmt.Sprint(erp["custentity_sorrel_activation"], hold)))
	d.hold("and unknown to the desks", "", need(func() bool { _, err := d.has(cured, record.Zendesk); return err != nil }(), "Zendesk has it"))
	d.printf("  finance corrects one, and rejects the other\n")
	if err := errors.Join(d.decides(ctx, cured, true, "read from their invoice", map[string]string{"taxId": "DK10150817"}), d.decides(ctx, denied, false, "they do not pay", nil)); err != nil {
		return err
	}
	d.expect(ctx, "with the corrected number, the second is a customer", func() (string, error) { return d.active(ctx, cured) })
	if err := d.settled(ctx); err != nil {
		return err
	}
	crm, _ := d.twins.Salesforce.Get("Account", cured.account)
	d.hold("sales has the correction too", "", need(crm["Tax_Id__c"] == "DK10150817", fmt.Sprint(crm["Tax_Id__c"])))
	d.hold("of the rejected one nothing is left, on no platform", "", d.nowhere(denied))
	crm, _ = d.twins.Salesforce.Get("Account", denied.account)
	d.hold("and sales sees why on the account", fmt.Sprint(crm["ERP_Activation_Note__c"]), need(crm["ERP_Activation__c"] == "Rejected" && crm["ERP_Customer_Number__c"] == nil, fmt.Sprint(crm["ERP_Activation__c"], crm["ERP_Customer_Number__c"])))
	d.hears(ctx, clean.name, clean.id, "customer.activated")
	d.hears(ctx, cured.name, cured.id, "customer.activated")
	d.hears(ctx, denied.name, denied.id, "customer.rejected")
	err = d.decides(ctx, denied, true, "they do, after all", nil)
	d.hold("finance changes its mind, too late", "", need(fault.Is(err, fault.Conflict), fmt.Sprint(err)))
	r, err := d.activation(ctx, clean)
	if err != nil {
		return err
	}
	trace, err := d.world.Operate().Trace(ctx, r.Trace)
	if err != nil {
		return err
	}
	d.printf("  $ sorrel trace %s\n", trace.ID)
	d.trace(trace)
	written := map[string]bool{}
	for _, s := range trace.Steps {
		if s.Step == "written" {
			written[s.Platform] = true
		}
	}
	d.hold("one trace shows the activation across all four systems", "", need(len(written) == 4, fmt.Sprint(written)))
	return nil
}

// interrupted is the chapter of the outage and the crash.
func (d *demo) interrupted(ctx context.Context) error {
	p, err := d.enters(ctx, "Wartian Herkku", "FI20774740", "Torikatu 38", "Oulu", "90110", "FI", 5000)
	if err != nil {
		return err
	}
	d.printf("  NetSuite goes down, then sales wins %s\n", p.name)
	d.faults(record.NetSuite, twin.Faults{Outage: true})
	if err := d.wins(p); err != nil {
		return err
	}
	d.expect(ctx, "the activation waits for NetSuite", func() (string, error) {
		r, err := d.activation(ctx, p)
		return r.Wait, errors.Join(err, need(r.Step == "pending", "it is at "+r.Step))
	})
	d.faults(record.NetSuite, twin.Faults{})
	d.expect(ctx, "NetSuite is back, and it finishes", func() (string, error) { return d.active(ctx, p) })
	d.hears(ctx, p.name, p.id, "customer.activated")

	p, err = d.enters(ctx, "Wilman Kala", "FI15601554", "Keskuskatu 45", "Helsinki", "21240", "FI", 5000)
	if err != nil {
		return err
	}
	if err := errors.Join(d.settled(ctx), d.halt()); err != nil {
		return err
	}
	cmd, address, err := d.child(ctx)
	if cmd != nil && cmd.Process != nil {
		defer cmd.Process.Kill()
	}
	if err != nil {
		return err
	}
	d.twins.SendTo(address)
	d.faults(record.NetSuite, twin.Faults{Outage: true}) // so that it stays in the middle
	if err := d.wins(p); err != nil {
		return err
	}
	d.expect(ctx, "a process of its own begins another one, and waits in the middle of it", func() (string, error) {
		var page flow.Listing
		if _, err := (asking{URL: address}).get(ctx, d.screen, "/v1/workflows?record="+url.QueryEscape(string(p.opportunity)), &page); err != nil {
			return "", err
		}
		for _, r := range page.Runs {
			if r.Step == "pending" {
				return r.Wait, nil
			}
		}
		return "", fmt.Errorf("%d runs, none in the middle", len(page.Runs))
	})
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		return err
	}
	_ = cmd.Wait() // "signal: killed" is what is wanted
	d.printf("  kill -9, then a restart over the same files\n")
	d.faults(record.NetSuite, twin.Faults{})
	if err := d.start(); err != nil {
		return err
	}
	d.expect(ctx, "it finishes, with one customer", func() (string, error) { return d.active(ctx, p) })
	d.hears(ctx, p.name, p.id, "customer.activated")
	d.settle(ctx)
	return nil
}

// escalated is the chapter of the ticket that cannot wait, and of the bill.
func (d *demo) escalated(ctx context.Context) error {
	c := d.cast["VINET"]
	if _, err := d.does(record.NetSuite, c.on[record.NetSuite], map[string]any{"creditHoldOverride": map[string]any{"id": "ON"}}); err != nil {
		return err
	}
	invoice, err := d.twins.NetSuite.Edit("invoice", "", map[string]any{"tranId": "INV-7001", "entity": map[string]any{"id": c.on[record.NetSuite]}, "tranDate": "2026-01-20", "dueDate": "2026-02-19",
		"currency": map[string]any{"id": "4"}, "total": 1200.5})
	if err != nil {
		return err
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	before := d.writes(record.NetSuite)
	d.printf("  an agent sets a ticket of %s to urgent\n", "Vins et alcools Chevalier")
	ticket, err := d.twins.Zendesk.Edit(zendesk.Ticket, "", map[string]any{"subject": "Two pallets came in warm", "description": "Again.", "status": "open", "priority": "urgent", "organization_id": c.on[record.Zendesk]})
	if err != nil {
		return err
	}
	var kase map[string]any
	d.expect(ctx, "the case in Salesforce says what the ERP knows", func() (string, error) {
		var err error
		if kase, err = findBy(d.twins.Salesforce.All("Case"), "Support_Number__c", ticket); err != nil {
			return "", err
		}
		says := fmt.Sprint(kase["ERP_Context__c"])
		return strings.ReplaceAll(says, "\n", "; "), need(kase["Sorrel_Escalation__c"] == "Escalated" && strings.Contains(says, "credit hold on") && strings.Contains(says, "Open invoices: 1, 1200.50 EUR"), fmt.Sprint(kase["Sorrel_Escalation__c"], says))
	})
	d.expect(ctx, "so does the ticket", func() (string, error) {
		v, _ := d.twins.Zendesk.TicketValue(ticket, "erp_context")
		return "", need(fmt.Sprint(v) == fmt.Sprint(kase["ERP_Context__c"]), fmt.Sprint(v))
	})
	d.expect(ctx, "whoever owns the account has a task", func() (string, error) {
		account, _ := d.twins.Salesforce.Get("Account", c.on[record.Salesforce])
		for _, t := range d.twins.Salesforce.All("Task") {
			if t["WhatId"] == account["Id"] && t["OwnerId"] == account["OwnerId"] {
				return fmt.Sprint(t["Subject"], ", due ", t["ActivityDate"]), nil
			}
		}
		return "", fmt.Errorf("there is none")
	})
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.hold("and nothing was written to the ERP", "", need(d.writes(record.NetSuite) == before, fmt.Sprintf("%d writes", d.writes(record.NetSuite)-before)))
	d.printf("  the bill is paid\n")
	if err := d.twins.NetSuite.Pay(invoice, ""); err != nil {
		return err
	}
	d.then(ctx, "the credit hold is lifted, and sales and support know", c, map[string]string{"salesforce ERP_Credit_Hold__c": "Auto", "zendesk organization_fields.erp_credit_hold": "credit_auto", "servicenow u_credit_hold": "auto"})
	paid, err1 := d.record(ctx, "invoice", invoice)
	urgent, err2 := d.native(ctx, record.Zendesk, zendesk.Ticket, ticket)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	d.hears(ctx, "the ticket", urgent, "case.escalated")
	d.hears(ctx, "the bill", paid, "invoice.paid")
	d.hears(ctx, "the customer", c.id, "customer.released")
	d.settle(ctx)
	return nil
}

// undecided is the chapter of five days.
func (d *demo) undecided(ctx context.Context) error {
	p, err := d.enters(ctx, "Wolski Zajazd", "", "ul. Filtrowa 68", "Warszawa", "01-012", "PL", 2000)
	if err != nil {
		return err
	}
	if err := d.wins(p); err != nil {
		return err
	}
	d.asks(ctx, "there is no tax number: finance is asked", p)
	if err := d.settled(ctx); err != nil {
		return err
	}
	for range 5 {
		d.clock.jump(24 * time.Hour)
		if err := d.settled(ctx); err != nil {
			return err
		}
	}
	d.printf("  five days pass\n")
	d.expect(ctx, "finance was reminded, and then it was escalated", func() (string, error) {
		r, err := d.activation(ctx, p)
		if err != nil {
			return "", err
		}
		at := r.Past[len(r.Past)-1]
		return fmt.Sprintf("%d times", at.Reminded), need(at.Step == "review" && at.Reminded == 2, fmt.Sprintf("%s: %d times", at.Step, at.Reminded))
	})
	d.hears(ctx, p.name, p.opportunity, "approval.requested", "workflow.reminder", "workflow.escalation")
	d.printf("  $ sorrel workflows\n")
	if err := (workflowsList{asking: d.as("").asking}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	if err := d.decides(ctx, p, true, "a small business without one", nil); err != nil {
		return err
	}
	d.expect(ctx, "finance accepts it: it is a customer", func() (string, error) { return d.active(ctx, p) })
	d.settle(ctx)
	return nil
}
