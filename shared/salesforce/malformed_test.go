package salesforce_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	platformtest.Malformed(t, platformtest.Suspect{Name: "Account", Object: "Account", Whole: true, Accepts: "Industry",
		Open: func(_ *testing.T, now func() time.Time) platformtest.Vendor {
			twin := salesforcetwin.New(salesforcetwin.Options{Now: now})
			return platformtest.Vendor{Handler: twin.Handler(), Secrets: []string{twin.Credentials().ClientSecret}, Connect: func(url string) (platformtest.Connector, error) {
				return salesforce.New(salesforce.Config{URL: url, Credentials: twin.Credentials(), Now: now})
			}}
		},
		Fields: func(n int) map[string]any {
			return map[string]any{"Name": fmt.Sprintf("Åkerlund & Søn %d", n), "Phone": "+45 33 12 34 56"}
		},
		Change: map[string]any{"BillingCity": "Århus"},
		Refusal: func(code, text string) string {
			b, err := json.Marshal([]map[string]any{{"errorCode": code, "message": text, "fields": []string{"Phone"}}})
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}})
}
