package netsuite_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform/platformtest"
)

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, now func() time.Time) platformtest.Vendor {
		tw, err := netsuitetwin.New(netsuitetwin.Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return platformtest.Vendor{Handler: tw.Handler(), Secrets: []string{tw.Credentials().PrivateKey}, Connect: func(url string) (platformtest.Connector, error) {
			return netsuite.New(netsuite.Config{URL: url, Credentials: tw.Credentials(), Now: now})
		}}
	}
	refusal := func(code, text string) string {
		type detail struct {
			Detail string `json:"detail"`
			Code   string `json:"o:errorCode"`
		}
		b, err := json.Marshal(struct {
			Title   string   `json:"title"`
			Details []detail `json:"o:errorDetails"`
			OAuth   string   `json:"error"`
			Says    string   `json:"error_description"`
		}{"Bad Request", []detail{{text, code}}, code, text})
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	platformtest.Malformed(t, platformtest.Suspect{Name: "customer", Object: "customer", Open: open, Refusal: refusal, Whole: true, Fields: func(n int) map[string]any {
		return map[string]any{"companyName": fmt.Sprintf("Company %d", n), "email": "a@b.test"}
	}, Change: map[string]any{"companyName": "Berglunds snabbköp"}})
	platformtest.Malformed(t, platformtest.Suspect{Name: "customer with addresses", Object: "customer", Open: open, Refusal: refusal, Fields: customerFields,
		Change: map[string]any{"companyName": "x", "addressBook": map[string]any{"items": []any{map[string]any{"defaultBilling": true, "addressBookAddress": map[string]any{"city": "Luleå"}}}}}})
}
