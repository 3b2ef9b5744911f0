package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sorrel/shared/flow/intake"
	"sorrel/shared/message"
	"sorrel/shared/record"
	"sorrel/shared/twin"
)

// statuses of a NetSuite sales order.
const (
	pendingFulfilment  = "B"
	partiallyFulfilled = "D"
	pendingBilling     = "F"
	billed             = "G"
)

// customerOf makes a customer in NetSuite, as a person there does.
func (d *demo) customerOf(name, number string) (string, error) {
	return d.twins.NetSuite.Edit("customer", "", map[string]any{
		"entityId": number, "companyName": name, "email": "ap@northwind.example", "phone": "030-0074321",
		"currency": map[string]any{"id": "1"}, "isInactive": false,
	})
}

func (d *demo) place(customer, number string, total float64) (string, error) {
	return d.twins.NetSuite.Edit("salesOrder", "", map[string]any{
		"tranId": number, "tranDate": "2026-11-20", "shipDate": "2026-11-30", "entity": map[string]any{"id": customer},
		"orderStatus": map[string]any{"id": pendingFulfilment}, "otherRefNum": "PO-77", "total": total, "subtotal": total,
		"shippingAddress": map[string]any{"addressee": "Alfreds Futterkiste", "addr1": "Obere Str. 57", "city": "Berlin", "zip": "12209", "country": map[string]any{"id": "DE"}},
		"item": map[string]any{"items": []any{
			map[string]any{"line": 1, "item": map[string]any{"id": "11", "refName": "Queso Cabrales"}, "quantity": 12, "rate": 14, "amount": 168},
			map[string]any{"line": 2, "item": map[string]any{"id": "42", "refName": "Singaporean Hokkien Fried Mee"}, "quantity": 10, "rate": 9.8, "amount": 98},
		}},
	})
}

func (d *demo) move(order, status string) error {
	_, err := d.twins.NetSuite.Edit("salesOrder", order, map[string]any{"orderStatus": map[string]any{"id": status}})
	return err
}

func (d *demo) ship(order, number, tracking string) (string, error) {
	return d.twins.NetSuite.Edit("itemFulfillment", "", map[string]any{
		"createdFrom": map[string]any{"id": order}, "tranId": number, "tranDate": "2026-11-21",
		"shipStatus": map[string]any{"id": "C"}, "shipCarrier": "ups",
		"package": map[string]any{"items": []any{map[string]any{"packageTrackingNumber": tracking, "packageWeight": 2.5}}},
		"item":    map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "11", "refName": "Queso Cabrales"}, "quantity": 6, "orderLine": 1}}},
	})
}

// orderShows expects an order's status on both targets.
func (d *demo) orderShows(ctx context.Context, order, salesforce, zendesk string) {
	d.expect(ctx, "both targets show "+strings.ToLower(salesforce), func() (string, error) {
		id, err := d.record(ctx, "salesOrder", order)
		if err != nil {
			return "", err
		}
		return "", d.orderIs(id, salesforce, zendesk)
	})
}

func (d *demo) orderIs(id record.ID, salesforce, zendesk string) error {
	o, err := d.salesforce("Order", id.External())
	if err == nil && o["ERP_Status__c"] != salesforce {
		err = fmt.Errorf("shows %v in Salesforce, want %s", o["ERP_Status__c"], salesforce)
	}
	if err != nil {
		return err
	}
	z, err := d.zendesk("custom_object/order", id.External())
	if err != nil {
		return err
	}
	if shown := custom(z)["status"]; shown != zendesk {
		return fmt.Errorf("shows %v in Zendesk, want %s", shown, zendesk)
	}
	return nil
}

func custom(z map[string]any) map[string]any {
	fields, _ := z["custom_object_fields"].(map[string]any)
	return fields
}

// (1)
func (d *demo) appears(ctx context.Context) error {
	customer, err := d.customerOf("Alfreds Futterkiste", "ALFKI")
	if err != nil {
		return err
	}
	d.expect(ctx, "the known customer is an account in Salesforce and an organization in Zendesk", func() (string, error) {
		id, err := d.record(ctx, "customer", customer)
		if err != nil {
			return "", err
		}
		if _, err := d.salesforce("Account", id.External()); err != nil {
			return "", err
		}
		_, err = d.zendesk("organization", id.External())
		return string(id), err
	})
	order, err := d.place(customer, "SO-1001", 266)
	if err != nil {
		return err
	}
	d.orderShows(ctx, order, "Pending Fulfilment", "pending_fulfilment")
	id, err := d.record(ctx, "salesOrder", order)
	if err != nil {
		return err
	}
	d.expect(ctx, "the Salesforce order belongs to the customer's account", func() (string, error) {
		o, err := d.salesforce("Order", id.External())
		if err != nil {
			return "", err
		}
		a, ok := d.twins.Salesforce.Get("Account", fmt.Sprint(o["AccountId"]))
		if !ok || a["Name"] != "Alfreds Futterkiste" {
			return "", fmt.Errorf("account %v is %v", o["AccountId"], a["Name"])
		}
		return fmt.Sprintf("%v of %v", o["ERP_Order_Number__c"], a["Name"]), nil
	})
	d.expect(ctx, "Zendesk's agents see it on the organization", func() (string, error) {
		z, err := d.zendesk("custom_object/order", id.External())
		if err != nil {
			return "", err
		}
		org, ok := d.twins.Zendesk.Get("organization", fmt.Sprint(custom(z)["organization"]))
		if !ok || org["name"] != "Alfreds Futterkiste" {
			return "", fmt.Errorf("organization %v is %v", custom(z)["organization"], org["name"])
		}
		return fmt.Sprintf("%v of %v", z["name"], org["name"]), nil
	})
	d.settle(ctx)
	return nil
}

// (2)
func (d *demo) milestones(ctx context.Context) error {
	customer, err := d.customerOf("Toms Spezialitäten", "TOMSP")
	if err != nil {
		return err
	}
	order, err := d.place(customer, "SO-1002", 1863.4)
	if err != nil {
		return err
	}
	d.orderShows(ctx, order, "Pending Fulfilment", "pending_fulfilment")
	var shipments []string
	for i, step := range []struct{ status, salesforce, zendesk string }{
		{partiallyFulfilled, "Partially Fulfilled", "partially_fulfilled"},
		{pendingBilling, "Pending Billing", "pending_billing"},
		{billed, "Billed", "billed"},
	} {
		if i < 2 {
			shipment, err := d.ship(order, fmt.Sprintf("IF-20%d", i+1), fmt.Sprintf("1Z999AA1012345678%d", i))
			if err != nil {
				return err
			}
			shipments = append(shipments, shipment)
		}
		if err := d.move(order, step.status); err != nil {
			return err
		}
		d.orderShows(ctx, order, step.salesforce, step.zendesk)
	}
	for i, shipment := range shipments {
		tracking := fmt.Sprintf("1Z999AA1012345678%d", i)
		d.expect(ctx, "tracking number "+tracking+" is on both targets", func() (string, error) {
			id, err := d.record(ctx, "itemFulfillment", shipment)
			if err != nil {
				return "", err
			}
			o, err := d.salesforce("Shipment__c", id.External())
			if err != nil {
				return "", err
			}
			z, err := d.zendesk("custom_object/shipment", id.External())
			if err != nil {
				return "", err
			}
			if o["Tracking_Numbers__c"] != tracking || custom(z)["tracking_numbers"] != tracking {
				return "", fmt.Errorf("on Salesforce %v, on Zendesk %v", o["Tracking_Numbers__c"], custom(z)["tracking_numbers"])
			}
			return "", nil
		})
	}
	d.settle(ctx)
	id, err := d.record(ctx, "salesOrder", order)
	if err != nil {
		return err
	}
	d.hold("each of the four milestones was written once and in order", "", d.inOrder(ctx, id, 4))
	return nil
}

// inOrder checks the change log and counts the writes of one order on both twins.
func (d *demo) inOrder(ctx context.Context, id record.ID, want int) error {
	changes, err := d.world.Ledger.Changes(ctx, id)
	if err != nil {
		return err
	}
	var seen []string
	for _, c := range changes {
		if c.Field == "status" {
			seen = append(seen, fmt.Sprint(c.After))
		}
	}
	if got := strings.Join(seen, " → "); got != "pending-fulfilment → partially-fulfilled → pending-billing → billed" {
		return fmt.Errorf("the log says %s", got)
	}
	o, err := d.salesforce("Order", id.External())
	if err != nil {
		return err
	}
	z, err := d.zendesk("custom_object/order", id.External())
	if err != nil {
		return err
	}
	inSalesforce := d.twins.Salesforce.Kit().Stats().WritesTo["Order/"+fmt.Sprint(o["Id"])]
	inZendesk := d.twins.Zendesk.Kit().Stats().WritesTo["custom_object/order/"+fmt.Sprint(z["id"])]
	if inSalesforce != want || inZendesk != want {
		return fmt.Errorf("%d writes to Salesforce and %d to Zendesk, want %d each", inSalesforce, inZendesk, want)
	}
	return nil
}

// many places n orders and moves each through three statuses.
func (d *demo) many(prefix string, n int) ([]string, error) {
	customer, err := d.customerOf("Customer of "+prefix, prefix)
	if err != nil {
		return nil, err
	}
	orders := make([]string, n)
	for i := range orders {
		if orders[i], err = d.place(customer, fmt.Sprintf("%s-%d", prefix, i+1), 266+float64(i)); err != nil {
			return nil, err
		}
	}
	for _, status := range []string{partiallyFulfilled, pendingBilling, billed} {
		for _, o := range orders {
			if err := d.move(o, status); err != nil {
				return nil, err
			}
		}
	}
	return orders, nil
}

// allBilled reports the first order that does not show as billed on both targets.
func (d *demo) allBilled(ctx context.Context, orders []string) error {
	for _, o := range orders {
		id, err := d.record(ctx, "salesOrder", o)
		if err != nil {
			return err
		}
		if err := d.orderIs(id, "Billed", "billed"); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// (3)
func (d *demo) chaos(ctx context.Context) error {
	before := d.twins.NetSuite.Kit().Stats().Webhooks
	d.faults(record.NetSuite, twin.Faults{DropWebhooks: 0.2, DuplicateWebhooks: 0.3, ReorderWebhooks: 0.3})
	orders, err := d.many("CHAOS", 20)
	if err != nil {
		return err
	}
	if err := d.twins.Drain(ctx); err != nil {
		return err
	}
	d.faults(record.NetSuite, twin.Faults{})
	after := d.twins.NetSuite.Kit().Stats().Webhooks
	d.hold("faults took place", fmt.Sprintf("of %d webhooks %d dropped, %d doubled, %d reordered", after.Made-before.Made, after.Dropped-before.Dropped,
		after.Duplicated-before.Duplicated, after.Reordered-before.Reordered), need(after.Dropped > before.Dropped && after.Duplicated > before.Duplicated && after.Reordered > before.Reordered, "some fault did not occur"))
	if err := d.host.List(ctx, record.NetSuite); err != nil { // the schedule that heals what was dropped
		return err
	}
	d.expect(ctx, "all 20 orders end as billed on both targets", func() (string, error) { return "", d.allBilled(ctx, orders) })
	d.settle(ctx)
	writes := d.allWrites()
	if err := d.redeliver(ctx); err != nil {
		return err
	}
	d.hold("telling everything once more causes no write", "", need(d.allWrites() == writes, "something was written again"))
	return nil
}

// redeliver tells everything that NetSuite holds once more, as events that nobody has seen before: no queue drops
// them as repeats.
func (d *demo) redeliver(ctx context.Context) error {
	for _, object := range []string{"customer", "salesOrder", "itemFulfillment"} {
		for cursor, more := "", true; more; {
			page, err := d.world.Connectors[record.NetSuite].Changes(ctx, object, cursor)
			if err != nil {
				return err
			}
			for _, n := range page.Natives {
				in := message.Inbound{CorrelationID: "again-" + n.ID, ReceivedAt: time.Now().UTC(), Source: message.Webhook, Native: n}
				m, err := in.Message("again")
				if err != nil {
					return err
				}
				if err := d.world.Inbound.Send(ctx, m); err != nil {
					return err
				}
			}
			cursor, more = page.Cursor, page.More
		}
	}
	return d.settled(ctx)
}

func need(ok bool, otherwise string) error {
	if ok {
		return nil
	}
	return errors.New(otherwise)
}

// (4)
func (d *demo) outage(ctx context.Context) error {
	customer, err := d.customerOf("Blondesddsl père et fils", "BLONP")
	if err != nil {
		return err
	}
	var orders []string
	for i := range 10 {
		o, err := d.place(customer, fmt.Sprintf("DOWN-%d", i+1), 100+float64(i))
		if err != nil {
			return err
		}
		orders = append(orders, o)
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	before := d.writes(record.Zendesk)
	d.faults(record.Zendesk, twin.Faults{Outage: true})
	d.printf("  Zendesk is down; 10 orders move through three statuses\n")
	for i, status := range []string{partiallyFulfilled, pendingBilling, billed} {
		for _, o := range orders {
			if err := d.move(o, status); err != nil {
				return err
			}
		}
		want := []string{"Partially Fulfilled", "Pending Billing", "Billed"}[i]
		d.expect(ctx, "Salesforce keeps flowing: "+strings.ToLower(want), func() (string, error) {
			for _, o := range orders {
				id, err := d.record(ctx, "salesOrder", o)
				if err != nil {
					return "", err
				}
				if r, err := d.salesforce("Order", id.External()); err != nil || r["ERP_Status__c"] != want {
					return "", fmt.Errorf("%s shows %v: %w", id, r["ERP_Status__c"], err)
				}
			}
			return "", nil
		})
	}
	d.hold("Zendesk took nothing meanwhile", "", need(d.writes(record.Zendesk) == before, "a write got through"))
	d.faults(record.Zendesk, twin.Faults{})
	d.printf("  Zendesk is back\n")
	d.expect(ctx, "Zendesk catches up", func() (string, error) { return "", d.allBilled(ctx, orders) })
	d.settle(ctx)
	d.hold("with one write per record, not one per missed event", fmt.Sprintf("%d writes for 10 orders", d.writes(record.Zendesk)-before),
		need(d.writes(record.Zendesk)-before == 10, "not 10 writes"))
	d.hold("nothing was dead-lettered", "", d.noDeadLetters(ctx))
	return nil
}

func (d *demo) noDeadLetters(ctx context.Context) error {
	for name, q := range d.world.Queues {
		depth, err := q.Depth(ctx)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "-dlq.fifo") && depth.Visible > 0 {
			return fmt.Errorf("%s holds %d", name, depth.Visible)
		}
	}
	return nil
}

// (5)
func (d *demo) edited(ctx context.Context) error {
	customer, err := d.customerOf("Bólido Comidas preparadas", "BOLID")
	if err != nil {
		return err
	}
	order, err := d.place(customer, "SO-1005", 99.5)
	if err != nil {
		return err
	}
	d.orderShows(ctx, order, "Pending Fulfilment", "pending_fulfilment")
	if err := d.settled(ctx); err != nil {
		return err
	}
	id, err := d.record(ctx, "salesOrder", order)
	if err != nil {
		return err
	}
	o, err := d.salesforce("Order", id.External())
	if err != nil {
		return err
	}
	before := d.writes(record.Salesforce)
	if _, err := d.twins.Salesforce.Edit("Order", fmt.Sprint(o["Id"]), map[string]any{"ERP_Status__c": "Cancelled"}); err != nil {
		return err
	}
	d.printf("  a sales rep sets the status to Cancelled\n")
	d.expect(ctx, "it is put back", func() (string, error) {
		if d.writes(record.Salesforce) == before {
			return "", errors.New("nothing was written yet")
		}
		return "", d.orderIs(id, "Pending Fulfilment", "pending_fulfilment")
	})
	d.settle(ctx)
	d.hold("by one write", "", need(d.writes(record.Salesforce) == before+1, "not one write"))
	why, err := d.world.Operate().Why(ctx, id, "status")
	if err != nil {
		return err
	}
	d.printf("  $ sorrel why %s status\n", id)
	d.screen.why(why[0])
	d.hold("why explains it: who set what, the rule and its place", "", explains(why[0]))
	return nil
}

func explains(w record.Why) error {
	for _, p := range w.On {
		if p.Platform == record.Salesforce && p.PutBack != nil && p.PutBack.Value == record.TextValue("cancelled") && p.PutBack.Path == record.Revert &&
			strings.HasPrefix(p.PutBack.At, "policy/order.yaml:") && p.PutBack.Trace != "" {
			return nil
		}
	}
	return errors.New("the answer does not tell of the edit")
}

// (6)
func (d *demo) refusals(ctx context.Context) error {
	before := d.world.Telemetry.Snapshot().Counters["WebhooksRefused.netsuite"]
	body, err := json.Marshal(map[string]any{"id": "forged", "type": "record.saved", "record": map[string]any{"type": "salesOrder", "id": "1"}})
	if err != nil {
		return err
	}
	sign := func(secret string, at time.Time, body []byte) map[string]string {
		stamp := at.UTC().Format(time.RFC3339)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(stamp + "." + string(body)))
		return map[string]string{"X-Sorrel-Timestamp": stamp, "X-Sorrel-Signature": "v1=" + hex.EncodeToString(mac.Sum(nil))}
	}
	secret := d.twins.NetSuite.Credentials().WebhookSecrets[0]
	large := []byte(`{"id":"` + strings.Repeat("x", intake.MaxBody) + `"}`)
	for _, c := range []struct {
		what   string
		path   string
		header map[string]string
		body   []byte
		status int
	}{
		{"a forged webhook is refused", "netsuite", sign("not the secret", time.Now(), body), body, 401},
		{"one without a signature is refused", "netsuite", nil, body, 401},
		{"an expired one is refused", "netsuite", sign(secret, time.Now().Add(-time.Hour), body), body, 401},
		{"an oversized one is refused", "netsuite", sign(secret, time.Now(), large), large, 413},
		{"broken JSON is refused", "netsuite", sign(secret, time.Now(), []byte(`{"id":`)), []byte(`{"id":`), 400},
		{"an unknown platform is refused", "nosuch", nil, body, 404},
	} {
		status, p, err := d.post(ctx, "/webhooks/"+c.path, c.header, c.body)
		if err == nil && (status != c.status || p.Status != c.status || p.CorrelationID == "") {
			err = fmt.Errorf("answered %d %+v, want %d with a correlation id", status, p, c.status)
		}
		d.hold(c.what, fmt.Sprintf("%d %s", status, p.Detail), err)
	}
	after := d.world.Telemetry.Snapshot().Counters["WebhooksRefused.netsuite"]
	d.hold("and each is counted", fmt.Sprintf("%.0f for NetSuite", after-before), need(after-before == 5, "not 5"))
	return nil
}

// (7)
func (d *demo) killed(ctx context.Context) error {
	customer, err := d.customerOf("Folies gourmandes", "FOLIG")
	if err != nil {
		return err
	}
	order, err := d.place(customer, "SO-1007", 42)
	if err != nil {
		return err
	}
	d.orderShows(ctx, order, "Pending Fulfilment", "pending_fulfilment")
	if err := d.settled(ctx); err != nil {
		return err
	}
	if err := d.halt(); err != nil {
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
	d.printf("  a process of its own (pid %d) takes over at %s\n", cmd.Process.Pid, address)
	before := d.allWrites()
	for _, p := range []string{record.Salesforce, record.Zendesk} {
		d.faults(p, twin.Faults{Outage: true}) // so that the commit happens and the delivery cannot
	}
	if err := d.move(order, billed); err != nil {
		return err
	}
	d.expect(ctx, "the change is committed and due for both targets", func() (string, error) {
		var st struct {
			Platforms []struct {
				Name string
				Due  int
			}
		}
		if _, err := (asking{URL: address}).get(ctx, d.screen, "/v1/status", &st); err != nil {
			return "", err
		}
		due := 0
		for _, p := range st.Platforms {
			due += p.Due
		}
		return "", need(due == 2, fmt.Sprintf("%d due", due))
	})
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		return err
	}
	_ = cmd.Wait() // "signal: killed" is what is wanted
	d.printf("  kill -9, then a restart over the same files\n")
	for _, p := range []string{record.Salesforce, record.Zendesk} {
		d.faults(p, twin.Faults{})
	}
	if err := d.start(); err != nil {
		return err
	}
	d.orderShows(ctx, order, "Billed", "billed")
	d.settle(ctx)
	written := d.allWrites() - before
	d.hold("nothing lost, nothing twice", fmt.Sprintf("%d writes", written), need(written == 2, "not one write per target"))
	id, err := d.record(ctx, "salesOrder", order)
	if err != nil {
		return err
	}
	return d.showTrace(ctx, id)
}

// showTrace prints the last business transaction of a record.
func (d *demo) showTrace(ctx context.Context, id record.ID) error {
	changes, err := d.world.Ledger.Changes(ctx, id)
	if err != nil || len(changes) == 0 {
		return errors.Join(err, need(len(changes) > 0, "the record has no changes"))
	}
	trace, err := d.world.Operate().Trace(ctx, changes[len(changes)-1].Trace)
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
	d.hold("one correlation id leads from the webhook to both writes", "", need(len(written) == 2 && trace.Steps[0].Step == "changed", "the trace has a gap"))
	return nil
}
