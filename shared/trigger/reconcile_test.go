package trigger_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sorrel/shared/certificate"
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
	key, err := certificate.NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	deps.Key = func(context.Context) (*certificate.Key, error) { return key, nil }
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
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		d.routes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	file := get("/v1/reconciliations/r1/certificate")
	if c, err := certificate.Read(file.Body.Bytes()); err != nil || c.Verify(key.Public()) != nil || c.Statement.Run != "r1" || file.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the certificate: %v, %v", err, file.Header())
	}
	if page := get("/v1/reconciliations/r1/page"); !strings.HasPrefix(page.Body.String(), "<!doctype html>") || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") {
		t.Errorf("the page: %v %.80s", page.Header(), page.Body)
	}
	d.refused("GET", "/v1/reconciliations/none/certificate", "", 404, "no certificate of that run")
	d.refused("GET", "/v1/reconciliations/none/page", "", 404, "no such run")
	var keys struct{ Keys []struct{ ID, PEM string } }
	if d.ok("GET", "/v1/reconciliations/keys", "", &keys); len(keys.Keys) != 1 || keys.Keys[0].ID != key.Public().ID() {
		t.Errorf("keys: %+v", keys)
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
