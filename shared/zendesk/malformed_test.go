package zendesk_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for _, s := range []platformtest.Suspect{
		{Object: zendesk.Organization, Whole: true, Accepts: "organization_fields.segment", Change: map[string]any{"organization_fields": map[string]any{"erp_city": "Madrid"}},
			Fields: func(n int) map[string]any { return map[string]any{"name": fmt.Sprintf("Bólido %d", n)} }},
		{Object: zendesk.User, Change: map[string]any{"name": "Ana Trujillo"},
			Fields: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("Ann Lee %d", n), "email": fmt.Sprintf("ann.%d@example.com", n)}
			}},
		{Object: "custom_object/order", Uncounted: true, Accepts: "custom_object_fields.status", Change: map[string]any{"name": "SO-x"},
			Fields: func(n int) map[string]any { return map[string]any{"name": fmt.Sprintf("SO-%d", n)} }},
		{Object: zendesk.Ticket, Change: map[string]any{"subject": "Found"},
			Fields: func(n int) map[string]any {
				return map[string]any{"subject": fmt.Sprintf("Where is %d?", n), "description": "Pump alarm"}
			}},
	} {
		s.Name, s.Lag = s.Object, lag
		s.Open = func(_ *testing.T, now func() time.Time) platformtest.Vendor {
			tw := zendesktwin.New(zendesktwin.Options{Now: now, Seed: 1, Limits: zendesktwin.NoLimits()})
			return platformtest.Vendor{Handler: tw.Handler(), Secrets: []string{tw.Credentials().ClientSecret}, Connect: func(url string) (platformtest.Connector, error) {
				return zendesk.New(zendesk.Config{URL: url, Credentials: tw.Credentials(), Now: now})
			}}
		}
		s.Refusal = func(code, text string) string {
			b, err := json.Marshal(map[string]any{"error": code, "description": text, "error_description": text})
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}
		platformtest.Malformed(t, s)
	}
}
