// Package kit_test runs the script include with stand-ins for ServiceNow's objects, hands what it posts to the
// connector that must understand it, and holds the twin's fields to those of the kit.
package kit_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

const secret = "vector-secret-0123456789"

func connector(t *testing.T) *servicenow.Connector {
	t.Helper()
	c, err := servicenow.New(servicenow.Config{Now: time.Now, Credentials: servicenow.Credentials{WebhookSecrets: []string{secret}, IntegrationUser: "bob.manager"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The vector was computed with: printf '%s.%s' "$timestamp" "$body" | openssl dgst -sha256 -hmac "$secret"
func TestVector(t *testing.T) {
	t.Parallel()
	r := platform.Request{ContentType: "application/json", Now: time.Date(2026, 11, 2, 8, 15, 30, 0, time.UTC),
		Body:   []byte(`{"table":"customer_account","operation":"insert","sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_mod_count":0,"sys_updated_on":"2026-11-02 08:15:20","sys_updated_by":"alice.agent"}`),
		Header: http.Header{"X-Sorrel-Timestamp": {"2026-11-02T08:15:20Z"}, "X-Sorrel-Signature": {"v1=e40410987a170b75947d0a82b3d37f0cc737d47a762f089e76c76bb02d70a671"}}}
	d, err := connector(t).Webhook(t.Context(), r)
	if err != nil || d.ID != "ba325dbe64f01300964fae39b050e9a6:0:insert" || !d.Natives[0].Hint() {
		t.Fatalf("the vector gives %+v, %v", d, err)
	}
	r.Body[10] = 'x'
	if _, err := connector(t).Webhook(t.Context(), r); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a changed body gives %v", err)
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing; it runs the ServiceNow kit")
		}
		t.Skip("skipped: the ServiceNow kit was not run, because node is not installed")
	}
	out, err := exec.CommandContext(t.Context(), node, "testdata/run.js", ".").Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var ran struct {
		Posted []struct {
			URL, Method, Body string
			Headers           map[string]string
		}
		Errors []string
		Saved  []string
		Cases  map[string]struct {
			Breached any `json:"u_sla_breached"`
		}
	}
	if err := json.Unmarshal(out, &ran); err != nil {
		t.Fatal(err)
	}
	if len(ran.Posted) != 2 || len(ran.Errors) != 2 || !strings.Contains(ran.Errors[0], "no route") || !strings.Contains(ran.Errors[1], "at least 16 characters") {
		t.Fatalf("want a save, a deletion and two logged failures, got %s", out)
	}
	if !slices.Equal(ran.Saved, []string{"c1"}) || ran.Cases["c1"].Breached != "true" || ran.Cases["c2"].Breached != false {
		t.Errorf("breached SLAs save %v and leave %v", ran.Saved, ran.Cases)
	}
	var got []record.Native
	for _, p := range ran.Posted {
		header := http.Header{}
		for k, v := range p.Headers {
			header.Set(k, v)
		}
		d, err := connector(t).Webhook(t.Context(), platform.Request{Header: header, ContentType: header.Get("Content-Type"), Body: []byte(p.Body), Now: time.Now()})
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Body)
		}
		if p.URL != "https://sorrel.test/webhooks/servicenow" || p.Method != "post" {
			t.Errorf("%s %s", p.Method, p.URL)
		}
		got = append(got, d.Natives...)
	}
	saved, deleted := got[0], got[1]
	if want := (record.Version{At: time.Date(2026, 11, 2, 8, 15, 20, 0, time.UTC), Seq: 2}); saved.Version != want || saved.External != "customer-1" || saved.Actor != "alice.agent" || saved.Ours || saved.Partial {
		t.Errorf("the save is %+v", saved)
	}
	if !deleted.Gone || deleted.Version.Seq != 3 || !deleted.Version.At.After(saved.Version.At) || deleted.Actor != "bob.manager" || !deleted.Ours {
		t.Errorf("the deletion is %+v", deleted)
	}
	fields, err := record.FromAny(saved.Fields)
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"active":"true","city":null,"name":"Bólido – “Größe” 🎉","number":"ACCT0010001","sys_created_on":"2026-11-01 10:00:00","sys_id":"ba325dbe64f01300964fae39b050e9a6",` +
		`"sys_mod_count":"2","sys_updated_by":"alice.agent","sys_updated_on":"2026-11-02 08:15:20","u_credit_limit":"1200.5","u_region":"EMEA","u_sorrel_id":"customer-1"}`
	if fields.Raw() != golden {
		t.Errorf("fields are\n%s\nwant\n%s", fields.Raw(), golden)
	}
}

// The twin has exactly the fields that the kit makes, and the script sends them all.
func TestFieldsAgree(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("setup.json")
	if err != nil {
		t.Fatal(err)
	}
	var kit struct {
		Requests []struct {
			Method, Path, File string
			Body               map[string]string
		}
	}
	if err := json.Unmarshal(b, &kit); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("sorrel_push.js")
	if err != nil {
		t.Fatal(err)
	}
	made, choices := map[string]map[string]string{}, map[string][]string{}
	for _, r := range kit.Requests {
		name := r.Body["name"] + "." + r.Body["element"]
		switch strings.TrimPrefix(r.Path, "/api/now/table/") {
		case "sys_dictionary":
			made[name] = r.Body
			if !strings.Contains(string(script), "'"+r.Body["element"]+"'") {
				t.Errorf("the script does not send %s", name)
			}
		case "sys_choice":
			choices[name] = append(choices[name], r.Body["value"])
		}
		if r.File != "" {
			if _, err := os.Stat(r.File); err != nil {
				t.Error(err)
			}
		}
	}
	tw := servicenowtwin.New(servicenowtwin.Options{Now: time.Now})
	for _, object := range []string{servicenow.Account, servicenow.Contact, servicenow.Case} {
		for _, f := range tw.Fields(object) {
			if !strings.HasPrefix(f.Name, "u_") {
				continue
			}
			name := object + "." + f.Name
			k, ok := made[name]
			if !ok {
				t.Errorf("the kit does not make %s", name)
				continue
			}
			delete(made, name)
			length, sized := k["max_length"], true
			for _, kind := range []string{"decimal", "boolean", "glide_date"} {
				if (k["internal_type"] == kind) != (f.Type == kind) || k["default_value"] != f.Default {
					t.Errorf("%s: the kit makes %v, the twin has %+v", name, k, f)
				}
				sized = sized && f.Type != kind
			}
			if sized && length != strconv.Itoa(f.Max) || (k["unique"] == "true") != f.Unique ||
				(k["choice"] == "1") != (f.Type == "choice") || !slices.Equal(choices[name], f.Choices) {
				t.Errorf("%s: the kit makes %v with choices %v, the twin has %+v", name, k, choices[name], f)
			}
		}
	}
	for name := range made {
		t.Errorf("the twin lacks %s", name)
	}
}
