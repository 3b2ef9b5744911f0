package zendesk_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// world is a connector and a twin on one clock.
func world(t *testing.T, now func() time.Time, limits zendesktwin.Limits, pageSize int) (*zendesk.Connector, *zendesktwin.Twin) {
	t.Helper()
	tw := zendesktwin.New(zendesktwin.Options{Now: now, Seed: 1, Limits: limits})
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	c, err := zendesk.New(zendesk.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: now, PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	return c, tw
}

const lag = 3 * time.Minute // exports withhold a minute, and the connector stays two behind

// suites runs what every object passes.
func suites(t *testing.T, h platformtest.Harness) {
	platformtest.Run(t, h)
	census := h
	build := h.New
	h.New = func(t *testing.T, now func() time.Time) platformtest.World {
		w := build(t, now)
		tw, ok := w.Twin.(*zendesktwin.Twin)
		if !ok {
			t.Fatal("another vendor's twin")
		}
		w.Handler, w.Failure = tw.Handler(), `{"error":"InternalError","description":"Something went wrong"}`
		w.Connect = func(url string) (platformtest.Connector, error) {
			return zendesk.New(zendesk.Config{URL: url, Credentials: tw.Credentials(), Now: now})
		}
		return w
	}
	platformtest.Unknown(t, h)
	platformtest.Abandoned(t, h)
	platformtest.Census(t, census)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	suites(t, platformtest.Harness{Name: "organization", New: func(t *testing.T, now func() time.Time) platformtest.World {
		c, tw := world(t, now, zendesktwin.NoLimits(), 20)
		var names atomic.Int64 // names are unique in an account
		return platformtest.World{
			Connector: c, Twin: tw, Object: zendesk.Organization, PageSize: 20, Lag: lag, UnknownID: "99",
			Fields: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("Bólido %d", names.Add(1)), "organization_fields": map[string]any{"erp_number": fmt.Sprint(n), "erp_city": "Madrid",
					"erp_credit_limit": json.Number("12500.5"), "erp_credit_hold": "credit_auto", "erp_active": true}}
			},
			Change: map[string]any{"name": "Bólido Comidas", "organization_fields": map[string]any{"erp_city": "México D.F.", "erp_active": false,
				"erp_credit_limit": json.Number("0"), "erp_credit_hold": "credit_on", "segment": "segment_small", "support_tier": "tier_vip"}},
			ChangeOf: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("Bólido Comidas %d", n), "organization_fields": map[string]any{"erp_city": "México D.F."}}
			},
			Clear:   "organization_fields.erp_credit_limit",
			Bad:     map[string]any{"organization_fields": map[string]any{"support_tier": "tier_gold"}},
			Deletes: true,
			Merge:   func(winner, loser string) error { return tw.Merge(zendesk.Organization, winner, loser) },
		}
	}})
	suites(t, platformtest.Harness{Name: "user", New: func(t *testing.T, now func() time.Time) platformtest.World {
		c, tw := world(t, now, zendesktwin.NoLimits(), 20)
		var addresses atomic.Int64 // unique in an account
		return platformtest.World{
			Connector: c, Twin: tw, Object: zendesk.User, PageSize: 20, Lag: lag, UnknownID: "99",
			Fields: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("Ann Lee %d", n), "email": fmt.Sprintf("ann.%d@example.com", addresses.Add(1)), "phone": "+34 91 555",
					"user_fields": map[string]any{"job_title": "Buyer", "erp_active": true}}
			},
			Change: map[string]any{"name": "Ana Trujillo", "email": "ana@example.com", "user_fields": map[string]any{"job_title": "Owner"}},
			ChangeOf: func(n int) map[string]any {
				return map[string]any{"name": "Ana Trujillo", "email": fmt.Sprintf("ana.%d@example.com", n), "user_fields": map[string]any{"job_title": "Owner"}}
			},
			Clear:   "user_fields.job_title",
			Bad:     map[string]any{"name": " "},
			Deletes: true, // merges are told by events only: TestUserMerge
		}
	}})
	suites(t, platformtest.Harness{Name: "order", New: func(t *testing.T, now func() time.Time) platformtest.World {
		c, tw := world(t, now, zendesktwin.NoLimits(), 20)
		return platformtest.World{
			Connector: c, Twin: tw, Object: "custom_object/order", PageSize: 20, Lag: lag, UnknownID: "01GDXYEY1FQYN066VHF49YHJ21",
			Fields: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("SO-%d", n), "custom_object_fields": map[string]any{"number": fmt.Sprint(n), "status": "billed", "total": "12.50", "lines": "1 × Chai"}}
			},
			Change:   map[string]any{"name": "SO-x", "custom_object_fields": map[string]any{"status": "closed"}},
			Clear:    "custom_object_fields.lines",
			Bad:      map[string]any{"name": "SO", "custom_object_fields": map[string]any{"status": "lost"}},
			Deletes:  true,
			Unpushed: "Zendesk has no webhook event type for custom object records",
		}
	}})
	suites(t, platformtest.Harness{Name: "ticket", New: func(t *testing.T, now func() time.Time) platformtest.World {
		c, tw := world(t, now, zendesktwin.NoLimits(), 20)
		return platformtest.World{
			Connector: c, Twin: tw, Object: zendesk.Ticket, PageSize: 20, Lag: lag, UnknownID: "99",
			Fields: func(n int) map[string]any {
				return map[string]any{"subject": fmt.Sprintf("Where is %d?", n), "description": "Pump alarm", "priority": "high",
					"ticket_fields": map[string]any{"erp_context": "No open invoices", "sla_breached": false}}
			},
			Change: map[string]any{"subject": "Found", "status": "open",
				"ticket_fields": map[string]any{"sorrel_escalation": "escalation_escalated", "crm_context": "Ünter\nder Linde", "sla_breached": true}},
			Clear:   "ticket_fields.erp_context",
			Bad:     map[string]any{"status": "lost"},
			Deletes: true,
		}
	}})
}
