package servicenow_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

// world is a connector and a twin on one clock.
func world(t *testing.T, opt servicenowtwin.Options, change func(*servicenow.Config)) (*servicenow.Connector, *servicenowtwin.Twin) {
	t.Helper()
	opt.Seed = 1
	tw := servicenowtwin.New(opt)
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	cfg := servicenow.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: opt.Now, PageSize: 20}
	if change != nil {
		change(&cfg)
	}
	c, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, tw
}

// suites runs what every object passes.
func suites(t *testing.T, importSets bool, h platformtest.Harness) {
	platformtest.Run(t, h)
	census := h
	build := h.New
	h.New = func(t *testing.T, now func() time.Time) platformtest.World {
		w := build(t, now)
		tw, ok := w.Twin.(*servicenowtwin.Twin)
		if !ok {
			t.Fatal("another vendor's twin")
		}
		w.Handler, w.Failure = tw.Handler(), `{"error":{"message":"Unexpected error","detail":null},"status":"failure"}`
		w.Connect = func(url string) (platformtest.Connector, error) {
			return servicenow.New(servicenow.Config{URL: url, Credentials: tw.Credentials(), Now: now, ImportSets: importSets})
		}
		return w
	}
	platformtest.Unknown(t, h)
	platformtest.Abandoned(t, h)
	if !importSets {
		platformtest.Census(t, census)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	const nobody = "00000000000000000000000000000000"
	for _, importSets := range []bool{false, true} {
		name := map[bool]string{false: "", true: " by import set"}[importSets]
		build := func(t *testing.T, now func() time.Time, w platformtest.World) platformtest.World {
			c, tw := world(t, servicenowtwin.Options{Now: now}, func(cfg *servicenow.Config) { cfg.ImportSets = importSets })
			w.Connector, w.Twin, w.PageSize, w.UnknownID, w.Deletes = c, tw, 20, nobody, true
			return w
		}
		suites(t, importSets, platformtest.Harness{Name: "account" + name, New: func(t *testing.T, now func() time.Time) platformtest.World {
			return build(t, now, platformtest.World{Object: servicenow.Account,
				Fields: func(n int) map[string]any {
					return map[string]any{"name": fmt.Sprintf("Bólido %d", n), "u_erp_number": fmt.Sprint(n), "city": "Madrid", "u_credit_limit": "12000.5", "u_credit_hold": "auto", "active": "true"}
				},
				Change: map[string]any{"name": "Bólido Comidas", "city": "México D.F.", "active": "false"},
				Clear:  "city",
				Bad:    map[string]any{"name": " "},
			})
		}})
		suites(t, importSets, platformtest.Harness{Name: "contact" + name, New: func(t *testing.T, now func() time.Time) platformtest.World {
			return build(t, now, platformtest.World{Object: servicenow.Contact,
				Fields: func(n int) map[string]any {
					return map[string]any{"first_name": "Martín", "last_name": fmt.Sprintf("Sommer %d", n), "email": fmt.Sprintf("m%d@bolido.example", n), "account": "ba325dbe64f01300964fae39b050e9a6"}
				},
				Change: map[string]any{"email": "martin@bolido.example", "title": "Owner"},
				Clear:  "account",
				Bad:    map[string]any{"last_name": nil},
			})
		}})
	}
	suites(t, false, platformtest.Harness{Name: "case", New: func(t *testing.T, now func() time.Time) platformtest.World {
		c, tw := world(t, servicenowtwin.Options{Now: now}, func(cfg *servicenow.Config) { cfg.Credentials = tw0(now).BasicCredentials() })
		return platformtest.World{Connector: c, Twin: tw, Object: servicenow.Case, PageSize: 20, UnknownID: nobody, Deletes: true,
			Fields: func(n int) map[string]any {
				return map[string]any{"short_description": fmt.Sprintf("Where is %d?", n), "priority": "1", "comments": "seen by nobody", "u_erp_context": "No open invoices"}
			},
			Change: map[string]any{"short_description": "Found", "state": "10", "u_sorrel_escalation": "escalated", "u_sla_breached": "true", "u_crm_context": "Ünter der Linde"},
			Clear:  "u_erp_context",
		}
	}})
}

// tw0 is another twin with the default credentials.
func tw0(now func() time.Time) *servicenowtwin.Twin {
	return servicenowtwin.New(servicenowtwin.Options{Now: now})
}
