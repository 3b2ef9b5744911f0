// Package kit_test runs the user event script with stand-ins for NetSuite's modules, and hands what it posts to
// the connector that must understand it.
package kit_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

const secret = "vector-secret-0123456789"

func connector(t *testing.T) *netsuite.Connector {
	t.Helper()
	c, err := netsuite.New(netsuite.Config{Now: time.Now, Credentials: netsuite.Credentials{WebhookSecrets: []string{secret}}, IntegrationUser: "7",
		Columns: map[string][]string{"salesOrder": {"custbody_region", "custbody_weight:number"}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The vector was computed with: printf '%s.%s' "$timestamp" "$body" | openssl dgst -sha256 -hmac "$secret"
func TestVector(t *testing.T) {
	t.Parallel()
	const stamp = "2026-11-02T08:34:00Z"
	r := platform.Request{ContentType: "application/json", Now: time.Date(2026, 11, 2, 8, 34, 30, 0, time.UTC),
		Body:   []byte(`{"id":"e-1","type":"record.saved","event":"edit","context":"USERINTERFACE","user":"7","record":{"type":"salesOrder","id":"1234"}}`),
		Header: http.Header{"X-Sorrel-Timestamp": {stamp}, "X-Sorrel-Signature": {"v1=3babdb3c6f2010d95167017eca88dd4164afa375ba714ff6836fdc645bae7437"}}}
	d, err := connector(t).Webhook(t.Context(), r)
	if err != nil || d.ID != "e-1" || len(d.Natives) != 1 || !d.Natives[0].Hint() {
		t.Fatalf("the vector gives %+v, %v", d, err)
	}
	r.Body[7] = 'f'
	if _, err := connector(t).Webhook(t.Context(), r); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a changed body gives %v", err)
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing; it runs the SuiteScript kit")
		}
		t.Skip("skipped: the SuiteScript kit was not run, because node is not installed")
	}
	out, err := exec.CommandContext(t.Context(), node, "testdata/run.js", "sorrel_user_event.js").Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var ran struct {
		Posted []struct {
			URL     string
			Body    string
			Headers map[string]string
		}
		Errors []struct{ Title, Details string }
	}
	if err := json.Unmarshal(out, &ran); err != nil {
		t.Fatal(err)
	}
	if len(ran.Posted) != 14 || len(ran.Errors) != 2 || ran.Errors[0].Details != "period closed" || ran.Errors[1].Details != "no route" {
		t.Fatalf("want a save, a deletion, a merge, a save, what payments change, and two logged failures, got %s", out)
	}
	var got []record.Native
	for _, p := range ran.Posted {
		header := http.Header{}
		for k, v := range p.Headers {
			header.Set(k, v)
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(p.Headers["X-Sorrel-Timestamp"] + "." + p.Body))
		if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); header.Get("X-Sorrel-Signature") != want {
			t.Errorf("signature %q, want %q", header.Get("X-Sorrel-Signature"), want)
		}
		d, err := connector(t).Webhook(t.Context(), platform.Request{Header: header, ContentType: header.Get("Content-Type"), Body: []byte(p.Body), Now: time.Now()})
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Body)
		}
		got = append(got, d.Natives...)
	}
	saved, deleted, merged, contact := got[0], got[1], got[2], got[3]
	want := record.Version{At: time.Date(2026, 11, 2, 8, 34, 0, 0, time.UTC), Seq: 42}
	if saved.ID != "1234" || saved.Version != want || saved.External != "order-1" || saved.Partial || saved.Ours || saved.Actor != "7" {
		t.Errorf("the save is %+v", saved)
	}
	if !deleted.Gone || deleted.Into != "" || deleted.Version.Seq != 43 {
		t.Errorf("the deletion is %+v", deleted)
	}
	if !merged.Gone || merged.ID != "77" || merged.Into != "76" || merged.External != "contact-1" || merged.Ours || merged.Actor != "7" {
		t.Errorf("the merge is %+v", merged)
	}
	// The integration's user saved twice: as a person in the user interface, which is not ours, and by REST.
	if !contact.Ours || contact.Actor != "7" || contact.Version.Seq != 1 || contact.Fields["lastName"] != "Anders" || fmt.Sprint(contact.Fields["company"]) != "map[id:107]" {
		t.Errorf("the contact is %+v", contact)
	}
	service := got[len(got)-1]
	got = got[:len(got)-1]
	if f := service.Fields; service.Object != "customrecord_sorrel_contract" || service.ID != "12" || service.External != "contract-1" || service.Version != (record.Version{At: want.At.Add(2 * time.Minute), Seq: 3}) ||
		fmt.Sprintf("%v %v %v %v %v", f["name"], f["custrecord_sorrel_contract_customer"], f["custrecord_sorrel_contract_status"], f["custrecord_sorrel_contract_tier"], f["custrecord_sorrel_contract_ends"]) !=
			"CON-12 map[id:107] map[id:2 refName:Active] map[id:3 refName:VIP] 2027-12-31" {
		t.Errorf("the contract is %+v %v", service.Version, service.Fields)
	}
	var billed []string
	for _, n := range got[4:] {
		if n.Ours {
			t.Errorf("a person's payment counts as ours: %+v", n)
		}
		if n.Object == "customer" {
			billed = append(billed, fmt.Sprintf("%s/%s %d owes %v", n.Object, n.ID, n.Version.Seq, n.Fields["balance"]))
		} else {
			billed = append(billed, fmt.Sprintf("%s/%s %d %v %v paid on %v", n.Object, n.ID, n.Version.Seq, n.Fields["status"], n.Fields["amountRemaining"], n.Fields["custbody_sorrel_paid_on"]))
		}
	}
	wantBilled := []string{
		"invoice/501 5 map[id:B] 0 paid on 2026-11-02", "invoice/502 5 map[id:A] 87 paid on <nil>", "customer/107 10 owes 87", // paid
		"invoice/501 5 map[id:B] 0 paid on 2026-11-02",                        // saved, and nobody owes another amount
		"invoice/502 5 map[id:A] 87 paid on <nil>", "customer/107 11 owes 87", // billed
		"invoice/501 6 map[id:B] 0 paid on <nil>", "invoice/502 6 map[id:A] 87 paid on <nil>", "customer/107 12 owes 87", // taken back
	}
	if !slices.Equal(billed, wantBilled) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(billed, "\n"), strings.Join(wantBilled, "\n"))
	}
	fields, err := record.FromAny(saved.Fields)
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"createdDate":"2026-11-01T10:00:00Z","currency":{"id":"5","refName":"CHF"},"custbody_region":"EMEA","custbody_weight":12.5,"entity":{"id":"107"},"externalId":"order-1",` +
		`"item":{"items":[{"amount":684,"description":"Rössle","item":{"id":"28","refName":"Rössle Sauerkraut"},"line":1,"quantity":15,"quantityBilled":0,"quantityFulfilled":0,"rate":45.6}]},` +
		`"lastModifiedDate":"2026-11-02T08:34:00Z","memo":"Größe – naïve","orderStatus":{"id":"B"},"otherRefNum":"PO-1","shipDate":null,"shipMethod":{"id":"1","refName":"Speedy Express"},"shippingAddress":` +
		`{"addr1":"Obere Str. 57","addr2":null,"addressee":"Alfreds Futterkiste","city":"Berlin","country":"DE","state":null,"zip":"12209"},"shippingCost":29.46,"subtotal":814.5,"taxTotal":null,"total":843.96,"tranDate":"2026-11-01","tranId":"SO10643"}`
	if fields.Raw() != golden {
		t.Errorf("fields are\n%s\nwant\n%s", fields.Raw(), golden)
	}
}

// Every object of the account is one that the script knows, and the script needs no other.
func TestObjects(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("sorrel_user_event.js")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("objects/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatal("no objects", err)
	}
	declared, deployed, lists := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			ID         string `xml:"scriptid,attr"`
			Parameters []struct {
				ID string `xml:"scriptid,attr"`
			} `xml:"scriptcustomfields>scriptcustomfield"`
			Fields []struct {
				ID   string `xml:"scriptid,attr"`
				List string `xml:"selectrecordtype"`
			} `xml:"customrecordcustomfields>customrecordcustomfield"`
			Deployments []struct {
				Type string `xml:"recordtype"`
			} `xml:"scriptdeployments>scriptdeployment"`
		}
		if err := xml.Unmarshal(data, &o); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if "objects/"+o.ID+".xml" != filepath.ToSlash(file) {
			t.Errorf("%s declares %s", file, o.ID)
		}
		declared[o.ID] = true
		for _, p := range o.Parameters {
			declared[p.ID] = true
		}
		for _, f := range o.Fields {
			declared[f.ID] = true
			if list, ours := strings.CutPrefix(f.List, "[scriptid="); ours {
				lists[strings.TrimSuffix(list, "]")] = true
			}
		}
		for _, d := range o.Deployments {
			deployed[strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(d.Type, "[scriptid="), "]"))] = true
		}
	}
	needed := map[string]bool{"customscript_sorrel_user_event": true}
	for _, id := range regexp.MustCompile(`cust(entity|body|script)_(sorrel_(url|secret|extra_fields|rev|user|merge_into|paid_on|activation)|segment)\b`).FindAllString(string(script), -1) {
		needed[id] = true
	}
	for _, id := range regexp.MustCompile(`cust(om)?record_sorrel_contract\w*`).FindAllString(string(script), -1) {
		needed[id] = true
	}
	maps.Copy(needed, lists)
	if !maps.Equal(declared, needed) {
		t.Errorf("declared %v, the script needs %v", declared, needed)
	}
	kinds := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^    (\w+): \{( applied: true \},)?$`).FindAllStringSubmatch(string(script), -1) {
		kinds[m[1]] = true
	}
	if !maps.Equal(deployed, kinds) {
		t.Errorf("deployed on %v, the script knows %v", deployed, kinds)
	}
}
