package endtoend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
	"sorrel/shared/twin"
)

// answer is one answer to a program.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	took   time.Duration
}

func (a answer) field(name string) any {
	fields, _ := a.body["fields"].(map[string]any)
	f, _ := fields[name].(map[string]any)
	return f["value"]
}

// Programs ask a whole world: the owner is read where they want to know it now, what it says becomes a change by the ordinary
// way, and what is merged, deleted, ambiguous or not to be had is told as such.
func TestProgramsAsk(t *testing.T) {
	t.Parallel()
	const key = "3f8a1c5e7d9b2046"
	dir := t.TempDir()
	g := governed{stageWith(t, func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
		sum := sha256.Sum256([]byte(key))
		l := set.Lookups()
		c := policy.Consumer{Name: "portal", Uses: policy.LookupUses(), Quota: 1000, Keys: []string{hex.EncodeToString(sum[:])}, Fields: map[string][]string{"contract": set.Contract("contract").Names(), "customer": {"creditHold", "name", "phone"}}}
		l.Consumers = []policy.Consumer{c}
		l.Uses = map[string]policy.Use{policy.UseRecords: {MaxAge: 2 * time.Hour, OwnerDown: policy.Refuse}, policy.UseEntitlements: {MaxAge: 2 * time.Hour, OwnerDown: policy.AnswerStale}}
		l.Deprecated = map[string]policy.Deprecation{"/v1/entitlements": {Since: time.Unix(0, 0)}}
		return boot.Embedded(dir, set.WithLookups(l), platforms, recorder)
	}, startTwins(t), boot.Everywhere), map[string]int{}}
	ask := func(path string, want int, header ...string) answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.host.URL()+trigger.KeyedPath+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(trigger.APIKeyHeader, key)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		began := time.Now()
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out := answer{status: resp.StatusCode, header: resp.Header}
		raw, err := io.ReadAll(resp.Body)
		out.took = time.Since(began)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s %v", path, resp.StatusCode, want, raw, err)
		}
		if len(raw) > 0 && json.Unmarshal(raw, &out.body) != nil {
			t.Errorf("%s: %s", path, raw)
		}
		return out
	}
	one, two := g.pair()
	paper := g.edit(contractObject, "", serviceContract(one.on[record.NetSuite], "CON-1", "Active", "Premium", "2099-12-31"))
	g.settle(soon)
	calls := func() int { return g.twins.Kits()[record.NetSuite].Stats().Calls }

	// What is known, without a call; a repeat need not be sent.
	before := calls()
	known := ask("/v1/records?platform=zendesk&object=organization&id="+one.on[record.Zendesk], 200)
	if known.body["record"] != string(one.id) || known.header.Get(trigger.SourceHeader) != "cached" || known.field("name") == nil || known.field("taxId") != nil || calls() != before {
		t.Errorf("%v, %d calls", known.body, calls()-before)
	}
	ask("/v1/records/"+string(one.id), 304, "If-None-Match", known.header.Get("ETag"))
	if a := ask("/v1/entitlements?platform=servicenow&account="+one.on[record.ServiceNow], 200); a.body["tier"] != "premium" || a.header.Get(trigger.DeprecationHeader) != "@0" || known.header.Get(trigger.DeprecationHeader) != "" {
		t.Errorf("%v %v", a.body, a.header)
	}

	// Behind Sorrel's back, and asked with maxAge: the owner is read, and the hub hears of it.
	g.faults(record.NetSuite, twin.Faults{DropWebhooks: 1})
	g.nextSecond()
	g.edit("customer", one.on[record.NetSuite], map[string]any{"companyName": "Ernst Handel, renamed"})
	g.edit(contractObject, paper, map[string]any{"custrecord_sorrel_contract_status": map[string]any{"refName": "Cancelled"}})
	if a := ask("/v1/records/"+string(one.id), 200); a.field("name") == "Ernst Handel, renamed" {
		t.Error("it is known already")
	}
	if a := ask("/v1/records/"+string(one.id)+"?maxAge=0", 200); a.field("name") != "Ernst Handel, renamed" || a.header.Get(trigger.SourceHeader) != "live" {
		t.Errorf("%v %v", a.body, a.header)
	}
	if a := ask("/v1/entitlements?maxAge=0&customer="+string(one.id), 200); a.body["entitled"] != false || a.body["reason"] != "no-contract" {
		t.Errorf("%v", a.body)
	}
	g.settle(soon)
	if a, err := g.twins.Salesforce.Get("Account", one.on[record.Salesforce]); !err || a["Name"] != "Ernst Handel, renamed" {
		t.Errorf("the change did not reach Salesforce: %v", a["Name"])
	}

	// The owner is slow, then down: inside the budget, what is known with its age, or a refusal, as lookups.yaml says.
	g.faults(record.NetSuite, twin.Faults{LatencyMS: 3000})
	slow := ask("/v1/entitlements?maxAge=0&customer="+string(two.id), 200)
	if slow.header.Get(trigger.FreshnessHeader) != "stale" || slow.took > 2500*time.Millisecond || !strings.Contains(fmt.Sprint(slow.body["why"]), "netsuite was not read") {
		t.Errorf("after %s: %v %v", slow.took, slow.body, slow.header)
	}
	g.faults(record.NetSuite, twin.Faults{Outage: true})
	if a := ask("/v1/entitlements?maxAge=0&customer="+string(two.id), 200); a.header.Get(trigger.FreshnessHeader) != "stale" || a.body["reason"] != "no-contract" {
		t.Errorf("%v %v", a.body, a.header)
	}
	if a := ask("/v1/records/"+string(two.id)+"?maxAge=0", 503); a.header.Get("Retry-After") == "" || a.body["correlationId"] == "" {
		t.Errorf("%v %v", a.body, a.header)
	}
	g.faults(record.NetSuite, twin.Faults{})
	g.eventually(soon, "the owner is read again", func() error {
		if a := ask("/v1/entitlements?maxAge=0&customer="+string(two.id), 200); a.header.Get(trigger.SourceHeader) != "live" {
			return fmt.Errorf("%v", a.body["why"])
		}
		return nil
	})

	// Nobody, several, one that is part of another, and one that is no more.
	ask("/v1/records/customer/zzzzzzzzzzzzzzzz", 404)
	ask("/v1/records?platform=netsuite&id=999999", 404)
	ask("/v1/records/order/zzzzzzzzzzzzzzzz", 403)
	if err := g.twins.NetSuite.Delete(contractObject, paper); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	if a := ask("/v1/records/"+string(minted("contract", contractObject, paper)), 200); a.body["state"] != "deleted" {
		t.Errorf("%v", a.body)
	}
	for i, merge := range []func() error{
		func() error {
			return g.twins.Salesforce.Merge("Account", one.on[record.Salesforce], two.on[record.Salesforce])
		},
		func() error {
			return g.twins.Zendesk.Merge("organization", one.on[record.Zendesk], two.on[record.Zendesk])
		},
		func() error { return g.twins.ServiceNow.Delete("customer_account", two.on[record.ServiceNow]) },
		func() error {
			return g.twins.NetSuite.Merge("customer", one.on[record.NetSuite], two.on[record.NetSuite])
		},
	} {
		g.nextSecond()
		if err := merge(); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
		if a := ask("/v1/records/"+string(two.id), 200); i == 0 && (a.body["state"] != "present" || fmt.Sprint(a.body["possibleDuplicates"]) != fmt.Sprintf("[%s]", one.id)) {
			t.Errorf("merged on one platform, it is answered as %v", a.body)
		}
	}
	g.eventually(soon, "it is answered as part of the other", func() error {
		a := ask("/v1/records/"+string(two.id), 200)
		if a.body["state"] != "merged" || a.body["record"] != string(one.id) || a.body["asked"] != string(two.id) {
			return fmt.Errorf("%v", a.body)
		}
		return nil
	})
	if a := ask("/v1/entitlements?platform=netsuite&account="+two.on[record.NetSuite], 200); a.body["customer"] != string(one.id) {
		t.Errorf("%v", a.body)
	}
}
