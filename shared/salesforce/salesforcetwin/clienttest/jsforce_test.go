// Package clienttest runs npm's jsforce, unmodified, against the twin: a client whose authors have never seen
// it must find the org that it expects.
package clienttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/salesforce/salesforcetwin"
)

func TestJsforce(t *testing.T) {
	t.Parallel()
	need(t, "node")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if _, err := os.Stat("node_modules/jsforce"); errors.Is(err, os.ErrNotExist) {
		need(t, "npm")
		if out, err := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts").CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("npm ci: %v\n%s", err, out)
			}
			t.Skipf("skipped: jsforce cannot be installed (npm ci: %v)\n%s", err, out)
		}
	}
	twin := salesforcetwin.New(salesforcetwin.Options{Now: time.Now})
	server := httptest.NewServer(twin.Handler())
	defer server.Close()
	login := twin.Credentials()
	cmd := exec.CommandContext(ctx, "node", "script.mjs", server.URL, login.ClientID, login.ClientSecret)
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node script.mjs: %v\n%s%s", err, out, stderr.Bytes())
	}
	type object = map[string]any
	var got object
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for name, want := range map[string]any{
		"token": "string", "created": true, "updated": true, "cleared": nil, "deleted": true,
		"read":         object{"Name": "Blauer See Delikatessen", "AnnualRevenue": 35000000.0, "type": "Account", "modified": true},
		"upsert":       []any{object{"success": true, "created": true}, object{"success": true, "created": false}},
		"upsertMany":   []any{object{"success": true, "created": false}, object{"success": true, "created": true}, object{"success": false, "code": "REQUIRED_FIELD_MISSING"}},
		"relationship": object{"same": true, "account": "Alfreds Futterkiste", "total": 814.5},
		"pages":        object{"sizes": []any{200.0, 200.0, 50.0}, "total": 450.0, "last": "Page 449"},
		"builder":      []any{"Page 449", "Page 448", "Page 447"}, "count": 450.0, "deletedMany": 10.0, "describe": true,
		"usage": 100000.0, "usageAfter": 100000.0,
	} {
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	for name, want := range map[string]struct{ code, says string }{
		"wrongSecret":  {"invalid_client", "invalid client credentials"},
		"deletedTwice": {"ENTITY_IS_DELETED", "entity is deleted"},
		"picklist":     {"INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "ERP_Status__c: bad value for restricted picklist field: Teleported"},
		"badField":     {"INVALID_FIELD", "No such column 'Nmae' on sobject of type Account"},
		"badQuery":     {"", ""},
		"badLocator":   {"INVALID_QUERY_LOCATOR", "invalid query locator"},
		"notFound":     {"NOT_FOUND", "The requested resource does not exist"},
		"duplicate":    {"DUPLICATE_VALUE", "duplicate value found: Sorrel_Id__c duplicates value on record with id: 001"},
		"expired":      {"INVALID_SESSION_ID", "Session expired or invalid"},
		"throttled":    {"REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."},
	} {
		e, ok := got[name].(object)
		code, _ := e["code"].(string)
		message, _ := e["message"].(string)
		if !ok || want.code != "" && code != want.code || !strings.Contains(message, want.says) {
			t.Errorf("%s: got %v, want %s: %s", name, got[name], want.code, want.says)
		}
	}
	if n := twin.Kit().Stats().Operations["PATCH composite/sobjects"]; n == 0 {
		t.Error("no bulk upsert reached the twin: jsforce was not used as meant")
	}
}

// need skips a machine without a program, and fails in CI.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing, and in CI it must be there", program)
		}
		t.Skipf("skipped: jsforce needs %s, which is not installed", program)
	}
}
