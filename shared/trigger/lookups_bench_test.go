package trigger_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"sorrel/shared/policy"
	"sorrel/shared/trigger"
)

// BenchmarkLookup is what one answer from what is known costs, without HTTP.
func BenchmarkLookup(b *testing.B) {
	d := newDesk(b, trigger.Trusted)
	h := asks(b, d, func(l *policy.Lookups) { l.Consumers[0].Quota = 1 << 30 })
	for name, path := range map[string]string{"record": "/v1/records/" + string(one), "entitlement": "/v1/entitlements?customer=" + string(one)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Header.Set(trigger.APIKeyHeader, portalKey)
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
