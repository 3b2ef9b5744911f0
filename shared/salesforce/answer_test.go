package salesforce

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// canned signs everybody in and answers calls with one fixed answer.
type canned struct {
	status int
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, body []byte) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
	}
	if strings.HasSuffix(r.URL.Path, "/token") {
		return answer(200, []byte(`{"access_token":"a","instance_url":"https://acme.my.salesforce.com"}`))
	}
	return answer(c.status, c.body)
}

// Whatever an answer holds, it becomes natives with id and version, results that name a record, or an error with a class.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"done":true,"records":[{"attributes":{},"Id":"001xx000003DGb2AAG","SystemModstamp":"2026-11-02T08:00:00.000+0000","Sorrel_Id__c":"a","IsDeleted":false,"Account":{"attributes":{},"Name":"x"}}]}`,
		`{"done":false,"records":[{"Id":"001xx000003DGb2AAG","SystemModstamp":"9999-12-31T23:59:59.000+0000","IsDeleted":true,"MasterRecordId":5}]}`,
		`{"records":[null]}`, `{"records":[{"Id":1e999,"SystemModstamp":1e999}]}`, `{"done":1,"done":true,"records":[],"records":{}}`,
		`[{"id":"001xx000003DGb2AAG","success":true,"errors":[]},{"success":false,"errors":[{"statusCode":"STRING_TOO_LONG","message":"m","fields":["Name"]}]}]`,
		`[{"id":"001xx000003DGb2AAG","success":true,"errors":[{}]},null]`, `[{},{}]`, `{"id":"001xx000003DGb2AAG","success":true,"errors":[],"created":true}`,
		`[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"ConcurrentPerOrgLongTxn Limit exceeded."}]`, `{"error":"invalid_grant","error_description":"x"}`,
		`{"fields":[{"name":"Industry","restrictedPicklist":true,"picklistValues":[{"active":true,"value":"x"}]}]}`, `{"fields":[{}]}`,
		`["/services/data/v66.0/sobjects/Account/001"]`, "<html>", "", "\xff\xfe[\x00", strings.Repeat(`[{"a":`, 5000),
	} {
		for _, status := range []int{200, 400, 500} {
			f.Add(status, []byte(body))
		}
	}
	account := record.Ref{Platform: record.Salesforce, Object: "Account", ID: "001xx000003DGb2AAG"}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c, err := New(Config{URL: "https://acme.my.salesforce.com", Now: fixed, Credentials: Credentials{ClientID: "c", ClientSecret: "s"}})
		if err != nil {
			t.Fatal(err)
		}
		c.client, err = vendorhttp.New(vendorhttp.Config{Name: "salesforce", Base: "https://acme.my.salesforce.com", Now: fixed,
			Gate:     budget.Local("salesforce", budget.Rules{}, budget.Options{Worker: "w", Now: fixed, Trip: 100}),
			Classify: c.classify, Tokens: vendorhttp.NewTokens(c.signIn, fixed), Transport: canned{status, body}})
		if err != nil {
			t.Fatal(err)
		}
		sound := func(n record.Native, err error) {
			if _, ok := canonicalID(n.ID); err == nil && (status >= 300 || !ok || n.Version.At.IsZero() || n.Gone == (n.Fields != nil)) {
				t.Errorf("status %d gave %+v", status, n)
			}
		}
		n, err := c.Read(t.Context(), account)
		if sound(n, err); err == nil && n.ID != account.ID {
			t.Errorf("read as %s", n.ID)
		}
		n, err = c.Find(t.Context(), "Account", "a")
		sound(n, err)
		page, err := c.Changes(t.Context(), "Account", "")
		for _, n := range page.Natives {
			sound(n, err)
		}
		if (err == nil) != (page.Cursor != "") {
			t.Errorf("cursor %q with %v", page.Cursor, err)
		}
		_, err = c.Accepts(t.Context(), "Account", "Industry", "x")
		if err == nil && status >= 300 {
			t.Errorf("status %d told a list", status)
		}
		upsert, update, erase := platform.Write{Ref: record.Ref{Object: "Account"}, External: "a"}, platform.Write{Ref: account, External: "a"}, platform.Write{Ref: account, Delete: true}
		second := upsert
		second.External = "b"
		for _, writes := range [][]platform.Write{{upsert}, {update}, {erase}, {upsert, second}} {
			for i, w := range c.Write(t.Context(), writes) {
				deleted := writes[i].Delete && status >= 300 && gone(c.classify(vendorhttp.Response{Status: status, Body: body}))
				switch {
				case w.Err == nil && (w.ID == "" || status >= 300 && !deleted):
					t.Errorf("status %d wrote %+v", status, w)
				case w.Err != nil && status < 300 && fault.Is(w.Err, fault.Down) && len(writes) == 1 && writes[i].Delete:
					t.Errorf("a deletion with status %d is %v, want unknown", status, w.Err)
				}
			}
		}
	})
}
