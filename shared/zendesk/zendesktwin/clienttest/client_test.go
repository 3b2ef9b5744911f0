// Package clienttest runs the npm client node-zendesk, unmodified, against the twin.
package clienttest

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sorrel/shared/zendesk/zendesktwin"
)

// need skips without a tool, but fails in CI.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: install Node.js 18 or newer", tool)
	}
	t.Skipf("skipped: the node-zendesk client was not run, because %s is missing (install Node.js 18 or newer)", tool)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args[0], err, out)
	}
	return string(out)
}

func TestNodeZendesk(t *testing.T) {
	need(t, "node")
	need(t, "npm")
	if _, err := os.Stat("node_modules/node-zendesk/package.json"); err != nil {
		run(t, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	}
	serve := func(limits zendesktwin.Limits) (*zendesktwin.Twin, string) {
		tw := zendesktwin.New(zendesktwin.Options{Now: time.Now, Limits: limits})
		srv := httptest.NewServer(tw.Handler())
		t.Cleanup(srv.Close)
		return tw, srv.URL
	}
	tw, url := serve(zendesktwin.Limits{UserWrites: -1}) // this client does not slow down
	out := run(t, "node", "client.js", url, tw.TokenCredentials().APIToken)
	want := []string{"me", "create", "upsert", "query", "update and clear", "job", "page", "ticket", "user", "error", "webhook", "delete"}
	if got := strings.TrimSpace(out); got != "ok "+strings.Join(want, "\nok ") {
		t.Errorf("node-zendesk printed\n%s", got)
	}
	tw, url = serve(zendesktwin.Limits{PerMinute: 1})
	run(t, "node", "-e", "fetch(process.argv[1],{headers:{Authorization:'Basic '+btoa(process.argv[2])}}).then(r=>process.exit(r.status==200?0:1))",
		url+"/api/v2/organizations", tw.TokenCredentials().Email+"/token:"+tw.TokenCredentials().APIToken)
	if out := run(t, "node", "client.js", url, tw.TokenCredentials().APIToken, "throttled"); strings.TrimSpace(out) != "ok throttle" {
		t.Errorf("over the limit node-zendesk printed\n%s", out)
	}
	if n := tw.Kit().Stats().OverLimit; n != 1 {
		t.Errorf("%d calls over the limit, want 1", n)
	}
}
