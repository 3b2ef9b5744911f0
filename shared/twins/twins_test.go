package twins_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/twins"
)

func start(t *testing.T, o twins.Options) *twins.Twins {
	t.Helper()
	o.Now = time.Now
	w, err := twins.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

// Each twin answers at its endpoint, whose credentials are JSON, and no longer after Close.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := start(t, twins.Options{})
	for _, p := range boot.Platforms() {
		e, ok := w.Endpoints()[p]
		if !ok || w.Kits()[p] == nil {
			t.Fatalf("%s is missing", p)
		}
		var credentials map[string]any
		if err := json.Unmarshal(e.Credentials, &credentials); err != nil || len(credentials) == 0 {
			t.Errorf("%s: credentials %v, %v", p, credentials, err)
		}
		resp, err := http.Get(e.URL + "/_twin/stats")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", p, resp.Status)
		}
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, e := range w.Endpoints() {
		if resp, err := http.Get(e.URL + "/_twin/stats"); err == nil {
			resp.Body.Close()
			t.Errorf("%s still answers", p)
		}
	}
}

// A port that is taken is an error with a remedy, and the twins that had started are stopped again.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = twins.Start(twins.Options{Now: time.Now, BasePort: port - 2}) // Zendesk's is the third
	if !fault.Is(err, fault.Down) || !strings.Contains(err.Error(), "--base-port") {
		t.Errorf("got %v, want --base-port as remedy", err)
	}
}

// Webhooks go where they are sent to, and nowhere after that ends.
func TestSendTo(t *testing.T) {
	t.Parallel()
	w := start(t, twins.Options{})
	w.SendTo("http://127.0.0.1:1")
	for p, want := range map[string]string{"netsuite": "/webhooks/netsuite", "salesforce": "/webhooks/salesforce?token=", "zendesk": "/webhooks/zendesk", "servicenow": "/webhooks/servicenow"} {
		if got := w.Kits()[p].Target(); !strings.HasPrefix(got, "http://127.0.0.1:1"+want) {
			t.Errorf("%s sends to %q", p, got)
		}
	}
	w.SendTo("")
	for p, k := range w.Kits() {
		if k.Target() != "" {
			t.Errorf("%s still sends to %q", p, k.Target())
		}
	}
}
