package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sorrel/shared/record"
	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
)

// ticketOf opens a ticket of a customer, as an agent does.
func (d *demo) ticketOf(c company, subject string) (string, error) {
	return d.twins.Zendesk.Edit(zendesk.Ticket, "", map[string]any{"subject": subject, "description": "Please help.", "status": "open", "priority": "normal", "organization_id": c.on[record.Zendesk]})
}

// marked expects a ticket to show a tier and a reason, and tells how long that took.
func (d *demo) marked(ctx context.Context, what, ticket, tier, reason string) {
	begun := time.Now()
	d.expect(ctx, what, func() (string, error) {
		is, _ := d.twins.Zendesk.TicketValue(ticket, "entitled_tier")
		why, _ := d.twins.Zendesk.TicketValue(ticket, "entitlement_reason")
		return fmt.Sprintf("after %s: %v", time.Since(begun).Round(10*time.Millisecond), why), need(is == "entitled_"+tier && strings.Contains(fmt.Sprint(why), reason), fmt.Sprintf("it says %v: %v", is, why))
	})
}

// entitled is the chapter of what service is owed.
func (d *demo) entitled(ctx context.Context) error {
	owed, other := d.cast["VINET"], d.cast["ERNSH"]
	paper, err := d.twins.NetSuite.Edit("customrecord_sorrel_contract", "", map[string]any{"name": "CON-1", "custrecord_sorrel_contract_customer": map[string]any{"id": owed.on[record.NetSuite]},
		"custrecord_sorrel_contract_status": map[string]any{"refName": "Active"}, "custrecord_sorrel_contract_tier": map[string]any{"refName": "Premium"},
		"custrecord_sorrel_contract_starts": "2026-01-01", "custrecord_sorrel_contract_ends": "2099-12-31"})
	if err != nil {
		return err
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.clock.jump(time.Hour) // what is known is older than an answer about service may be: the ERP is asked
	reads := d.twins.Kits()[record.NetSuite].Stats().Calls
	d.printf("  an hour later, a customer with a contract and one without open a ticket each\n")
	first, err1 := d.ticketOf(owed, "The rack is warm")
	second, err2 := d.ticketOf(other, "The rack is warm, too")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	d.marked(ctx, "the one is marked with what is owed", first, "premium", "contract CON-1, last day 2099-12-31")
	d.marked(ctx, "the other is marked at once: nothing is owed", second, "none", "there is no contract")
	d.hold("the ERP was asked at that moment", "", need(d.twins.Kits()[record.NetSuite].Stats().Calls > reads, "no call"))
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.clock.jump(time.Hour)
	d.printf("  another hour later NetSuite goes down, and both open one more\n")
	d.faults(record.NetSuite, twin.Faults{Outage: true})
	third, err1 := d.ticketOf(other, "It is still warm")
	fourth, err2 := d.ticketOf(owed, "It is still warm, too")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	d.marked(ctx, "it is marked all the same, by what is known, which says as of when", third, "none", "there is no contract. As known at 20")
	d.marked(ctx, "so is the other", fourth, "premium", "last day 2099-12-31. As known at 20")
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.faults(record.NetSuite, twin.Faults{})
	later()
	d.printf("  NetSuite is back; the contract is cancelled there, and the other customer gets one\n")
	if _, err := d.twins.NetSuite.Edit("customrecord_sorrel_contract", paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Cancelled"}}); err != nil {
		return err
	}
	if _, err := d.twins.NetSuite.Edit("customrecord_sorrel_contract", "", map[string]any{"name": "CON-2", "custrecord_sorrel_contract_customer": map[string]any{"id": other.on[record.NetSuite]},
		"custrecord_sorrel_contract_status": map[string]any{"refName": "Active"}, "custrecord_sorrel_contract_tier": map[string]any{"refName": "VIP"}}); err != nil {
		return err
	}
	for _, t := range []string{first, fourth} {
		d.marked(ctx, "a ticket of the one is corrected", t, "none", "there is no contract.")
	}
	for _, t := range []string{second, third} {
		d.marked(ctx, "a ticket of the other is corrected", t, "vip", "contract CON-2")
	}
	d.settle(ctx)
	return nil
}
