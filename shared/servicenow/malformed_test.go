package servicenow_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for _, importSets := range []bool{false, true} {
		platformtest.Malformed(t, platformtest.Suspect{Name: fmt.Sprint("account, import sets ", importSets), Object: servicenow.Account, Whole: !importSets,
			Open: func(_ *testing.T, now func() time.Time) platformtest.Vendor {
				tw := servicenowtwin.New(servicenowtwin.Options{Now: now, Seed: 1})
				return platformtest.Vendor{Handler: tw.Handler(), Secrets: []string{tw.Credentials().ClientSecret}, Connect: func(url string) (platformtest.Connector, error) {
					return servicenow.New(servicenow.Config{URL: url, Credentials: tw.Credentials(), Now: now, ImportSets: importSets})
				}}
			},
			Fields: func(n int) map[string]any {
				return map[string]any{"name": fmt.Sprintf("Bólido %d", n), "u_erp_number": fmt.Sprint(n), "city": "Madrid"}
			},
			Change: map[string]any{"city": "México D.F."},
			Refusal: func(code, text string) string {
				b, err := json.Marshal(map[string]any{"error": map[string]any{"message": code, "detail": text}, "status": "failure"})
				if err != nil {
					t.Error(err)
				}
				return string(b)
			}})
	}
}
