package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/event"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

const (
	analytics   = "analytics"
	subscribers = `subscribers:
  analytics:
    to: print
    entities:
      opportunity: [name, stage, amount, currency, closeOn, customer]
    events: ["*"]
    enrich:
      opportunity: [customer.number, customer.creditHold]
`
)

// withAnalytics is the embedded configuration with a subscriber.
func withAnalytics() (*policy.Set, error) {
	dir, err := os.MkdirTemp("", "sorrel-config-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.CopyFS(dir, boot.ConfigFS("")), os.WriteFile(filepath.Join(dir, "subscribers.yaml"), []byte(subscribers), 0o600)); err != nil {
		return nil, err
	}
	return boot.LoadConfig(dir)
}

// listener is the subscriber: a program of somebody else, which keeps what it was told.
type listener struct {
	mu    sync.Mutex
	heard []event.Event
	tell  func(event.Event) // of what happened in the business
}

// Tell implements publish.Sink.
func (l *listener) Tell(_ context.Context, events ...event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.heard = append(l.heard, e)
		if e.Data.About != "" {
			l.tell(e)
		}
	}
	return nil
}

// of lists what was heard, in order, of what agrees.
func (l *listener) of(agrees func(event.Event) bool) []event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.heard), func(e event.Event) bool { return !agrees(e) })
}

// distinct drops repeats, as subscribers must: two workers may both tell something.
func distinct(all []event.Event) []event.Event {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(all), func(e event.Event) bool {
		repeated := seen[e.ID]
		seen[e.ID] = true
		return repeated
	})
}

// said prints a business event in one line.
func (d *demo) said(e event.Event) {
	if d.brief {
		return
	}
	about := string(e.Data.About)
	for _, key := range []string{"customerName", "opportunityName", "case", "invoice", "run"} {
		if name := e.Data.Detail[key]; name != "" {
			about = name
			break
		}
	}
	d.printf("  %s %s\n", d.paint(amber, "» "+kindOf(e)), cut(about, 50))
}

func kindOf(e event.Event) string {
	return strings.TrimSuffix(strings.TrimPrefix(e.Type, "sorrel."), ".v1")
}

// hears checks that the subscriber is told of each of these once, about the record.
func (d *demo) hears(ctx context.Context, of string, about record.ID, whats ...string) {
	d.expect(ctx, "a subscriber hears of "+of+", once: "+strings.Join(whats, ", "), func() (string, error) {
		var errs []error
		for _, what := range whats {
			n := len(distinct(d.analytics.of(func(e event.Event) bool { return kindOf(e) == what && e.Data.About == about })))
			errs = append(errs, need(n == 1, fmt.Sprintf("%s was heard %d times", what, n)))
		}
		return "", errors.Join(errs...)
	})
}

// inOrder checks that events came in order, each record's for itself.
func inOrder(all []event.Event) error {
	last := map[record.ID]event.Event{}
	for _, e := range all {
		if before := last[e.Subject]; e.Sequence <= before.Sequence {
			return fmt.Errorf("%s came after %s", e.ID, before.ID)
		}
		last[e.Subject] = e
	}
	return nil
}

// listened is the chapter of those who only listen.
func (d *demo) listened(ctx context.Context) error {
	c := d.cast["VINET"]
	writes := d.writes(record.NetSuite)
	d.printf("  sales works on an opportunity of Vins et alcools Chevalier\n")
	deal, err := d.twins.Salesforce.Edit("Opportunity", "", map[string]any{"Name": "Cooling racks", "AccountId": c.on[record.Salesforce], "StageName": "Prospecting",
		"CloseDate": d.clock.now().AddDate(0, 1, 0).UTC().Format(time.DateOnly), "Amount": 20000})
	if err != nil {
		return err
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	later()
	if _, err := d.twins.Salesforce.Edit("Opportunity", deal, map[string]any{"StageName": "Proposal/Price Quote", "Amount": 24000}); err != nil {
		return err
	}
	d.expect(ctx, "both desks show what sales is doing there", func() (string, error) {
		if err := d.settled(ctx); err != nil {
			return "", err
		}
		zendesk, _ := d.twins.Zendesk.Get("organization", c.on[record.Zendesk])
		servicenow, _ := d.twins.ServiceNow.Get("customer_account", c.on[record.ServiceNow])
		fields, _ := zendesk["organization_fields"].(map[string]any)
		on, too := fmt.Sprint(fields["sales_context"]), fmt.Sprint(servicenow["u_sales_context"])
		return on, need(strings.HasPrefix(on, "1 open opportunity, 24000.00, next close ") && too == on, fmt.Sprintf("Zendesk says %q, ServiceNow %q", on, too))
	})
	d.hold("nothing of it was written to the ERP", "", need(d.writes(record.NetSuite) == writes, fmt.Sprintf("%d writes", d.writes(record.NetSuite)-writes)))
	id, err := d.native(ctx, record.Salesforce, "Opportunity", deal)
	if err != nil {
		return err
	}
	about := func(e event.Event) bool { return e.Subject == id }
	d.expect(ctx, "the subscriber hears of the opportunity, with what the ERP knows of the customer", func() (string, error) {
		told := d.analytics.of(about)
		if len(told) < 2 {
			return "", fmt.Errorf("%d events were heard", len(told))
		}
		last := told[len(told)-1].Data
		return fmt.Sprint(last.Golden["stage"], ", ", last.Facts), need(last.Golden["stage"] == "proposal" && last.Facts["customer.number"] == "VINET" && last.Facts["customer.creditHold"] == "auto", fmt.Sprint(last.Golden, last.Facts))
	})
	if err := d.settled(ctx); err != nil {
		return err
	}
	all := distinct(d.analytics.of(func(event.Event) bool { return true }))
	d.hold("all that it has heard came in order, record by record", fmt.Sprintf("%d events", len(all)), inOrder(all))

	before, first := len(d.analytics.of(about)), distinct(d.analytics.of(about))
	d.printf("  $ sorrel subscribers replay %s --record %s --as %s --run\n", analytics, id, stewart)
	if err := (subscribersReplay{Name: analytics, Record: id, Do: true, acting: d.as(stewart)}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	d.expect(ctx, "it is told again what it was told, by the same ids", func() (string, error) {
		again := distinct(d.analytics.of(about)[before:])
		return fmt.Sprintf("%d events", len(again)), need(slices.EqualFunc(first, again, func(a, b event.Event) bool { return a.ID == b.ID }), fmt.Sprintf("%d of %d events", len(again), len(first)))
	})
	d.settle(ctx)
	return nil
}
