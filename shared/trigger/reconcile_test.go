package trigger_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

// nothing is a platform that has nothing.
type nothing struct{}

func (nothing) Census(context.Context, string, []platform.Span, time.Duration) ([]platform.Count, error) {
	return nil, nil
}

func (nothing) Within(context.Context, string, []platform.Span, string) (platform.Page, error) {
	return platform.Page{}, nil
}

func (nothing) Deleted(context.Context, string, time.Time, string) (platform.Page, error) {
	return platform.Page{}, nil
}

func (nothing) Among(context.Context, string, []string) ([]record.Native, error) { return nil, nil }

// People begin a run where no platform is connected, and the function that has the platforms moves it on.
func TestReconciliations(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	tele, n := telemetry.New(nil, now, nil), 0
	deps := reconcile.Deps{Ledger: d.ledger, Config: d.config, Now: now, NewID: func() string { n++; return fmt.Sprint("r", n) }, Telemetry: tele}
	d.routes = trigger.Desk{Config: d.config, Who: trigger.Trusted(d.config), Telemetry: tele, Once: d.once(), Compare: reconcile.New(deps)}.Routes()
	var all []reconcile.Report
	if d.ok("GET", "/v1/reconciliations", "", &all); all == nil || len(all) != 0 {
		t.Errorf("%+v, want an empty list", all)
	}
	d.as = ""
	d.refused("POST", "/v1/reconciliations", `{}`, 403, "nobody is named")
	d.as = "alice@northwind.example"
	d.refused("POST", "/v1/reconciliations", `{}`, 403, "role steward")
	d.as = "stewart@northwind.example"
	d.refused("POST", "/v1/reconciliations", ``, 400, "it is empty")
	d.refused("POST", "/v1/reconciliations", `{"everything":true}`, 400, "unknown field")
	d.refused("POST", "/v1/reconciliations", `{"entity":"planet"}`, 400, "no entity is called")
	d.refused("POST", "/v1/reconciliations", `{"platform":"moon"}`, 400, "no platform is called")
	d.refused("GET", "/v1/reconciliations/none", "", 404, "no such run")
	var r reconcile.Report
	d.ok("POST", "/v1/reconciliations", `{"platform":"servicenow","dryRun":true}`, &r)
	if r.ID != "r1" || r.State != reconcile.Running || !r.DryRun || r.By != d.as {
		t.Fatalf("%+v", r)
	}

	idle := trigger.Reconcile(reconcile.New(deps), func() {})
	if did, err := idle(t.Context(), []byte(`{}`)); err != nil || did.Sets != 0 {
		t.Errorf("without platforms: %+v, %v", did, err)
	}
	deps.Sources = map[string]reconcile.Source{record.ServiceNow: nothing{}}
	deps.Objects = map[string][]platform.Object{record.ServiceNow: {{Name: "customer_account", Census: platform.Ranges}}}
	function := trigger.Reconcile(reconcile.New(deps), func() {})
	for _, bad := range []string{``, `[]`, `{"planet":"mars"}`, `{} {}`} {
		if _, err := function(t.Context(), []byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if did, err := function(t.Context(), []byte(`{}`)); err != nil || did.Sets != 1 || did.Active != 0 || did.Run != "" {
		t.Errorf("moved on: %+v, %v", did, err)
	}
	if d.ok("GET", "/v1/reconciliations/r1", "", &r); r.State != reconcile.Done || len(r.Sets) != 1 || r.Sets[0].Object != "customer_account" {
		t.Errorf("%+v", r)
	}
	if did, err := function(t.Context(), []byte(`{"platform":"servicenow"}`)); err != nil || did.Run == "" || did.Sets != 1 {
		t.Errorf("by schedule: %+v, %v", did, err)
	}
	if d.ok("GET", "/v1/reconciliations", "", &all); len(all) != 2 || all[0].By != "schedule" {
		t.Errorf("%+v", all)
	}
	d.ok("POST", "/v1/reconciliations", `{"platform":"zendesk"}`, &r) // which the function does not have
	if _, err := function(t.Context(), []byte(`{}`)); err != nil {
		t.Error(err)
	}
	if d.ok("GET", "/v1/reconciliations/"+r.ID, "", &r); r.State != reconcile.Failed || r.Reason == "" {
		t.Errorf("%+v", r)
	}
}
