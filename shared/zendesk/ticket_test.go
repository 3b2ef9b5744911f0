package zendesk_test

import (
	"slices"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

func ticketWrite(id, key string, value any) []platform.Write {
	return []platform.Write{{Ref: record.Ref{Platform: record.Zendesk, Object: zendesk.Ticket, ID: id}, External: "case-1",
		Fields: map[string]any{"ticket_fields": map[string]any{key: value}}}}
}

// Custom values go by key, whatever ids the account gave its fields; a write of some leaves the others as agents set them.
func TestTicketFields(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 20)
	id, err := tw.Edit(zendesk.Ticket, "", map[string]any{"subject": "Pump alarm", "ticket_fields": map[string]any{"sla_breached": true, "erp_context": "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	calls := func() int { return tw.Kit().Stats().Calls }
	before := calls()
	got := c.Write(t.Context(), ticketWrite(id, "crm_context", "2 open opportunities"))[0]
	if got.Err != nil || calls()-before != 3 { // the sign-in, the list of fields, and the ticket
		t.Fatalf("the first write takes %d calls: %v", calls()-before, got.Err)
	}
	values, _ := got.Fields["ticket_fields"].(map[string]any)
	if values["crm_context"] != "2 open opportunities" || values["erp_context"] != "mine" || values["sla_breached"] != true || values["sorrel_escalation"] != nil || got.Fields["custom_fields"] != nil {
		t.Errorf("the answer shows %v", got.Fields)
	}
	if v, _ := tw.TicketValue(id, "crm_context"); v != "2 open opportunities" {
		t.Errorf("the ticket holds %v", v)
	}
	before = calls()
	if got := c.Write(t.Context(), ticketWrite(id, "crm_context", nil))[0]; got.Err != nil || calls()-before != 1 {
		t.Errorf("the second write takes %d calls: %v", calls()-before, got.Err)
	}
	if v, _ := tw.TicketValue(id, "crm_context"); v != nil {
		t.Errorf("a cleared field holds %v", v)
	}
}

// A key that the account lacks is refused by name and asked for again, at most once a minute; a title that two fields have is no key.
func TestTicketFieldUnknown(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 20)
	id, err := tw.Edit(zendesk.Ticket, "", map[string]any{"subject": "Pump alarm"})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(key, value string) {
		t.Helper()
		e := fault.Outermost(c.Write(t.Context(), ticketWrite(id, key, value))[0].Err)
		if e == nil || e.Class != fault.Refused || !slices.Equal(e.Fields, []string{"ticket_fields." + key}) || e.Remedy == "" {
			t.Fatalf("%s gives %v", key, e)
		}
	}
	refused("warehouse", "Reims")
	if err := tw.AddField(zendesk.Ticket, zendesktwin.Field{Title: "Warehouse", Type: "text"}); err != nil {
		t.Fatal(err)
	}
	refused("warehouse", "Reims") // asked a moment ago
	clock.Advance(2 * time.Minute)
	if err := c.Write(t.Context(), ticketWrite(id, "warehouse", "Reims"))[0].Err; err != nil {
		t.Errorf("a field that is there now: %v", err)
	}
	if err := tw.AddField(zendesk.Ticket, zendesktwin.Field{Title: "ERP  Context!", Type: "text"}); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Hour)
	refused("erp_context", "which of them?")

	ok, err := c.Accepts(t.Context(), zendesk.Ticket, "ticket_fields.sorrel_escalation", "escalation_lost")
	if err != nil || ok {
		t.Errorf("a value that the dropdown lacks: %v, %v", ok, err)
	}
	if err := tw.AddPicklistValue(zendesk.Ticket, "sorrel_escalation", "escalation_lost"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Minute)
	if ok, err = c.Accepts(t.Context(), zendesk.Ticket, "ticket_fields.sorrel_escalation", "escalation_lost"); err != nil || !ok {
		t.Errorf("a value that the dropdown has now: %v, %v", ok, err)
	}
}

// An event tells of a ticket in full but for custom values: that one of them changed is a hint.
func TestTicketFieldEvent(t *testing.T) {
	t.Parallel()
	c := intake(t, secret)
	for what, hint := range map[string]bool{"custom_field_changed": true, "status_changed": false, "priority_changed": false} {
		d, err := c.Webhook(t.Context(), signed(`{"type":"zen:event-type:ticket.`+what+`","id":"0b6c","time":"2026-11-02T08:15:20.98Z","event":{},
			"detail":{"id":"5158","status":"OPEN","priority":"URGENT","updated_at":"2026-11-02T08:15:20Z","created_at":"2026-11-01T10:12:07Z"}}`, secret))
		if err != nil {
			t.Fatal(err)
		}
		n := d.Natives[0]
		if n.Hint() != hint || n.Version.At.IsZero() || !hint && n.Fields["priority"] != "urgent" {
			t.Errorf("%s gives %+v", what, n)
		}
	}
}
