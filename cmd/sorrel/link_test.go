package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sorrel/shared/flow/link"
	"sorrel/shared/record"
	"sorrel/shared/twins"
)

// The command lists the twins over their APIs: what a person would see before going live.
func TestLinkAgainstTheTwins(t *testing.T) {
	t.Parallel()
	tw, err := twins.Start(twins.Options{Now: time.Now, Seed: 5, Roomy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tw.Close(t.Context())
	dir := t.TempDir()
	endpoints, err := json.Marshal(tw.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "twins.json")
	if err := os.WriteFile(file, endpoints, 0o600); err != nil {
		t.Fatal(err)
	}
	made := func(id string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	customer := func(name, tax string) map[string]any {
		return map[string]any{"companyName": name, "vatRegNumber": tax, "url": "https://" + strings.ToLower(name) + ".example"}
	}
	made(tw.NetSuite.Edit("customer", "", customer("Lehmanns", "DE129273398")))
	account := made(tw.Salesforce.Edit("Account", "", map[string]any{"Name": "LEHMANNS GmbH", "Tax_Id__c": "DE 129 273 398"}))
	made(tw.Zendesk.Edit("organization", "", map[string]any{"name": "Lehmanns", "organization_fields": map[string]any{"tax_id": "DE129273398"}}))
	made(tw.ServiceNow.Edit("customer_account", "", map[string]any{"name": "Lehmanns Marktstand", "u_tax_id": "de129273398"}))
	made(tw.NetSuite.Edit("customer", "", customer("Alone", "FR83404833048")))
	made(tw.Zendesk.Edit("organization", "", map[string]any{"name": "Stranger", "organization_fields": map[string]any{"tax_id": "NL123456782B90"}}))
	made(tw.NetSuite.Edit("customer", "", customer("Twice", "IT00743110157")))
	for i := range 2 {
		made(tw.Salesforce.Edit("Account", "", map[string]any{"Name": fmt.Sprint("Twice ", i), "Tax_Id__c": "IT00743110157"}))
	}
	if _, ok := tw.Salesforce.Get("Account", account); !ok {
		t.Fatal("no account")
	}
	data, doubts := filepath.Join(dir, "data"), filepath.Join(dir, "doubts.jsonl")
	sorrel := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"link", "--twins", file, "--data", data, "--entity", "customer"}, args...)
		if code := run(t.Context(), args, screen{out: &out, err: &errs}); code != 0 {
			t.Fatalf("%v: exit code %d\n%s%s", args, code, out.String(), errs.String())
		}
		return out.String()
	}
	report := func(args ...string) link.Entity {
		t.Helper()
		var r link.Report
		if err := json.Unmarshal([]byte(sorrel(append(args, "--json")...)), &r); err != nil {
			t.Fatal(err)
		}
		return r.Entities[0]
	}

	text := sorrel("--ambiguous", doubts)
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("wider than 80: %q", line)
		}
	}
	for _, want := range []string{"customer: 9 native records", "several records of one platform: 1, such as", "netsuite/customer/", "Nothing was written"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	t.Log(text)
	if b, err := os.ReadFile(doubts); err != nil || bytes.Count(b, []byte("\n")) != 1 || !bytes.Contains(b, []byte(`"entity":"customer"`)) {
		t.Errorf("%s (%v)", b, err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("a report left a store behind")
	}

	e := report("--apply", "--by", "ida")
	if e.Matched != (link.Count{Records: 1, Natives: 4}) || e.Created.Records != 1 || e.Unmatched.Records != 1 || e.Ambiguous != (link.Count{Records: 1, Natives: 3}) ||
		e.Done.Records != 2 || e.Done.Natives != 5 || e.Done.Parked != 1 || e.Doubtful[0].Members[0].Platform != record.NetSuite {
		t.Errorf("%+v", e)
	}
	if again := report("--apply"); again.Linked != (link.Count{Records: 2, Natives: 5}) || again.Done.Records != 0 {
		t.Errorf("%+v", again)
	}
	if text := sorrel("--apply"); !strings.Contains(text, "committed 0 records") {
		t.Error(text)
	}
}

func TestLinkSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"no platforms are named": {"link"},
		"needs --secret":         {"link", "--table", "sorrel-dev"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, screen{out: &out, err: &errs}); code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit code %d, %s", args, code, errs.String())
		}
	}
}
