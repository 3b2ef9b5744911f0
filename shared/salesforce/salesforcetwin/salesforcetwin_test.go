package salesforcetwin

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/shopspring/decimal"
)

// org is a served twin and a session.
type org struct {
	*Twin
	t     *testing.T
	http  *http.Client // its own: closing a test server breaks the idle connections of the default one
	url   string
	token string
}

func serve(t *testing.T, opts Options) *org {
	t.Helper()
	if opts.Now == nil {
		opts.Now = time.Now
	}
	o := &org{Twin: New(opts), t: t}
	s := httptest.NewServer(o.Handler())
	t.Cleanup(s.Close)
	o.url, o.http = s.URL, s.Client()
	status, body := o.form(url.Values{"grant_type": {"client_credentials"}, "client_id": {o.opts.ClientID}, "client_secret": {o.opts.ClientSecret}})
	if status != 200 {
		t.Fatal(body)
	}
	o.token, _ = body["access_token"].(string)
	return o
}

func (o *org) form(v url.Values) (int, map[string]any) {
	o.t.Helper()
	resp, err := o.http.PostForm(o.url+"/services/oauth2/token", v)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func (o *org) call(method, path, body string) (int, string) {
	o.t.Helper()
	req, err := http.NewRequest(method, o.url+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.http.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(bytes.TrimSpace(b))
}

func (o *org) want(method, path, body string, status int, says string) string {
	o.t.Helper()
	got, text := o.call(method, path, body)
	if got != status || !strings.Contains(text, says) {
		o.t.Errorf("%s %s %s: %d %s, want %d with %s", method, path, body, got, text, status, says)
	}
	return text
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o := serve(t, Options{Key: key})
	grant := func(claims jwt.MapClaims, method jwt.SigningMethod, with any) (int, map[string]any) {
		all := jwt.MapClaims{"iss": "sorrel-client", "sub": "integration@northwind.example", "aud": "https://login.salesforce.com", "exp": time.Now().Add(3 * time.Minute).Unix()}
		for k, v := range claims {
			all[k] = v
		}
		text, err := jwt.NewWithClaims(method, all).SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return o.form(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {text}})
	}
	for name, claims := range map[string]jwt.MapClaims{"number": nil, "text": {"exp": fmt.Sprint(time.Now().Add(5 * time.Minute).Unix())}, "test": {"aud": "https://test.salesforce.com"}} {
		status, body := grant(claims, jwt.SigningMethodRS256, key)
		if _, said := body["expires_in"]; status != 200 || said || body["instance_url"] != o.url {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	for name, claims := range map[string]jwt.MapClaims{"expired": {"exp": 1}, "too long": {"exp": time.Now().Add(time.Hour).Unix()}, "none": {"exp": nil}, "user": {"sub": "x"}, "aud": {"aud": o.url}} {
		if status, body := grant(claims, jwt.SigningMethodRS256, key); status != 400 || body["error"] != "invalid_grant" {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	if status, body := grant(nil, jwt.SigningMethodRS512, key); status != 400 {
		t.Errorf("RS512: %v", body)
	}
	if status, body := grant(nil, jwt.SigningMethodHS256, []byte("x")); status != 400 {
		t.Errorf("HS256: %v", body)
	}
	if status, body := o.form(url.Values{"grant_type": {"password"}}); status != 400 || body["error"] != "unsupported_grant_type" {
		t.Errorf("password: %v", body)
	}
	o.token = "wrong"
	o.want("GET", "/services/data/v66.0/limits", "", 401, "INVALID_SESSION_ID")
}

func TestResources(t *testing.T) {
	t.Parallel()
	o := serve(t, Options{})
	const v = "/services/data/v66.0"
	o.want("GET", "/services/data", "", 200, `"version":"66.0"`)
	o.want("GET", v+"/", "", 200, `"queryAll"`)
	o.want("GET", v+"/limits", "", 200, `"DailyApiRequests":{"Max":100000,"Remaining":9999`)
	o.want("GET", "/services/data/v99.0/limits", "", 404, "NOT_FOUND")
	o.want("GET", v+"/sobjects", "", 200, `"Shipment__c"`)
	o.want("GET", v+"/sobjects/Order/describe", "", 200, `"restrictedPicklist":true`)
	o.want("PATCH", v+"/sobjects/Account/Sorrel_Id__c/c-1", `{"Name":"A"}`, 201, `"created":true`)
	o.want("PATCH", v+"/sobjects/Account/Sorrel_Id__c/C-1", `{"Name":"B"}`, 200, `"created":false`)
	o.want("PATCH", "/services/data/v45.0/sobjects/Account/Sorrel_Id__c/c-1", `{"Name":"C"}`, 204, "")
	o.want("GET", v+"/sobjects/Account/Sorrel_Id__c/c-1?fields=Name", "", 200, `"Name":"C"`)
	o.want("PATCH", v+"/sobjects/Account/Name/c-1", `{}`, 404, "NOT_FOUND")
	for body, says := range map[string]string{
		`{"Name":"A","Sorrel_Id__c":"x"}`: "The Sorrel_Id__c field should not be specified", `{"Id":"x"}`: "The Id field should not be specified",
		`{"Nmae":"A"}`: "INVALID_FIELD", `{"CreatedDate":"2026-11-02T00:00:00Z"}`: "INVALID_FIELD_FOR_INSERT_UPDATE", `{"AnnualRevenue":"much"}`: "JSON_PARSER_ERROR",
		`{"AnnualRevenue":1e30}`: "NUMBER_OUTSIDE_VALID_RANGE", `{"ParentId":"801xx0000000001AAA"}`: "MALFORMED_ID", `{"ParentId":"001xx0000000zzzAAA"}`: "INVALID_CROSS_REFERENCE_KEY",
		`{"Name":null}`: "REQUIRED_FIELD_MISSING", `{"Parent":{"Sorrel_Id__c":"none"}}`: "Foreign key external ID: none not found", `{"Parent":{"Name":"C"}}`: "INVALID_FIELD", `[]`: "JSON_PARSER_ERROR",
		`{"Name":"` + strings.Repeat("x", 256) + `"}`: "STRING_TOO_LONG",
	} {
		o.want("PATCH", v+"/sobjects/Account/Sorrel_Id__c/c-1", body, 400, says)
	}
	o.want("POST", v+"/sobjects/Order", `{"Account":{"Sorrel_Id__c":"c-1"},"EffectiveDate":"2026-11-02","Status":"Activated"}`, 400, "FAILED_ACTIVATION")
	o.want("POST", v+"/sobjects/Order", `{"Status":"Draft"}`, 400, "[AccountId, EffectiveDate]")
	// All or none: the good row is taken back.
	o.want("POST", v+"/composite/sobjects", `{"allOrNone":true,"records":[{"attributes":{"type":"Account"},"Name":"D"},{"attributes":{"type":"Account"}}]}`, 200, "ALL_OR_NONE_OPERATION_ROLLED_BACK")
	if n := len(o.All("Account")); n != 1 {
		t.Errorf("%d accounts", n)
	}
	o.want("POST", v+"/composite/sobjects", `{"records":[]}`, 400, "At least 1 record is required")
	o.want("PATCH", v+"/composite/sobjects/Account/Sorrel_Id__c", `{"records":[{"attributes":{"type":"Account"},"Sorrel_Id__c":"d","Name":"D"},{"attributes":{"type":"Account"},"Sorrel_Id__c":"d","Name":"D"}]}`, 200, "Duplicate external id specified")
	o.want("POST", v+"/composite/sobjects", `{"records":[`+strings.TrimSuffix(strings.Repeat(`{"attributes":{"type":"Account"},"Name":"x"},`, 201), ",")+`]}`, 400, "200 records")
	part := `{"method":"POST","url":"` + v + `/sobjects/Account","referenceId":"a","body":{"Name":"P"}},{"method":"POST","url":"` + v + `/sobjects/Account","referenceId":"b","body":{"Name":"Q","ParentId":"@{a.id}"}}`
	o.want("POST", v+"/composite", `{"compositeRequest":[`+part+`]}`, 200, `"httpStatusCode":201,"referenceId":"b"`)
	o.want("POST", v+"/composite", `{"allOrNone":true,"compositeRequest":[`+part+`,{"method":"GET","url":"`+v+`/sobjects/Account/x","referenceId":"c"}]}`, 200, "PROCESSING_HALTED")
	if n := len(o.All("Account")); n != 4 {
		t.Errorf("%d accounts, want C, D, P and Q", n)
	}
	o.want("POST", "/_twin/reset", `{}`, 200, "")
	if n := len(o.All("Account")); n != 0 {
		t.Errorf("%d accounts after reset", n)
	}
}

func TestSOQL(t *testing.T) {
	t.Parallel()
	o := serve(t, Options{})
	at := []string{"Alfreds", "Berglunds snabbköp", "Blondel père", "B's Beverages", "Cactus 100%"}
	var ids []string
	for i, name := range at {
		fields := map[string]any{"Name": name, "NumberOfEmployees": i, "Sorrel_Id__c": fmt.Sprint("c-", i)}
		if i > 0 {
			fields["ParentId"] = ids[0]
		}
		if i%2 == 0 {
			fields["Phone"] = fmt.Sprint(i)
		}
		id, err := o.Edit("Account", "", fields)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for where, want := range map[string]string{
		"":                               "01234",
		"WHERE Name = 'alfreds'":         "0",
		"WHERE Name = 'B\\'s Beverages'": "3",
		"WHERE Name != 'Alfreds'":        "1234",
		"WHERE Name LIKE 'b%'":           "123",
		"WHERE Name LIKE '%100\\%'":      "4",
		"WHERE Name LIKE 'A_freds'":      "0",
		"WHERE NOT Name LIKE 'b%'":       "04",
		"WHERE NumberOfEmployees >= 2 AND NumberOfEmployees < 4":              "23",
		"WHERE NumberOfEmployees IN (1, 3)":                                   "13",
		"WHERE NumberOfEmployees NOT IN (1, 3)":                               "024",
		"WHERE (Name = 'Alfreds' OR NumberOfEmployees = 4) AND Phone != null": "04",
		"WHERE Phone = null":                                                  "13",
		"WHERE Parent.Name = 'Alfreds' AND Parent.Sorrel_Id__c = 'c-0'":       "1234",
		"WHERE Id = '" + ids[2] + "'":                                         "2",
		"WHERE Id IN ('" + ids[2][:15] + "', '" + ids[3] + "')":               "23",
		"WHERE Id > '" + ids[2] + "'":                                         "34",
		"WHERE Sorrel_Id__c = 'C-1'":                                          "1",
		"WHERE SystemModstamp >= 2020-01-01T00:00:00Z AND IsDeleted = false":  "01234",
		"WHERE SystemModstamp > 2099-01-01T00:00:00.000+0000":                 "",
		"ORDER BY Name DESC NULLS LAST LIMIT 2":                               "42",
		"ORDER BY Phone NULLS LAST, Name DESC":                                "02413",
		"ORDER BY Phone DESC, Name":                                           "31420",
		"ORDER BY Id LIMIT 2 OFFSET 1":                                        "12",
		"where name = 'alfreds' order by name asc limit 5":                    "0",
	} {
		_, body := o.call("GET", "/services/data/v66.0/query?q="+url.QueryEscape("SELECT NumberOfEmployees, Parent.Name FROM Account "+where), "")
		var p struct {
			Records []struct{ NumberOfEmployees json.Number }
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s: %s", where, body)
			continue
		}
		got := ""
		for _, r := range p.Records {
			got += r.NumberOfEmployees.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", where, got, want)
		}
	}
	for q, says := range map[string]string{
		"SELECT Nmae FROM Account": "No such column 'Nmae' on entity 'Account'", "SELECT Id FROM Acount": "INVALID_TYPE", "SELECT FROM Account": "MALFORMED_QUERY",
		"SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'": "MALFORMED_QUERY", "SELECT Id FROM Account WHERE Name = 'a": "MALFORMED_QUERY",
		"SELECT Id FROM Account WHERE SystemModstamp > '2026-11-02T00:00:00Z'": "should not be enclosed in quotes", "SELECT Id FROM Account WHERE CreatedDate = TODAY": "MALFORMED_QUERY",
		"SELECT Id FROM Account WHERE Name = 5": "INVALID_FIELD", "SELECT Id FROM Account WHERE Description = 'x'": "can not be filtered", "SELECT MAX(Name) FROM Account": "MALFORMED_QUERY",
		"SELECT Name, COUNT(Id) FROM Account": "MALFORMED_QUERY", "SELECT DAY_ONLY(CreatedDate) FROM Account GROUP BY DAY_ONLY(CreatedDate)": "MALFORMED_QUERY", "SELECT COUNT(Id) n FROM Account LIMIT 5": "MALFORMED_QUERY",
		"SELECT DAY_ONLY(CreatedDate) d, COUNT(Id) n FROM Account": "MALFORMED_QUERY", "SELECT DAY_ONLY(Name) d, COUNT(Id) n FROM Account GROUP BY DAY_ONLY(Name)": "INVALID_FIELD",
		"SELECT COUNT(Id) n FROM Account GROUP BY HOUR_IN_DAY(CreatedDate)": "MALFORMED_QUERY",
		"SELECT Owner.Name FROM Account":                                    "Didn't understand relationship", "SELECT Id FROM Account LIMIT x": "MALFORMED_QUERY", "SELECT Id FROM Account FOR UPDATE": "MALFORMED_QUERY", "": "MALFORMED_QUERY",
	} {
		o.want("GET", "/services/data/v66.0/query?q="+url.QueryEscape(q), "", 400, says)
	}
	o.want("GET", "/services/data/v66.0/query?q="+url.QueryEscape("SELECT COUNT() FROM Account"), "", 200, `{"totalSize":5,"done":true,"records":[]}`)
	if err := o.Delete("Account", ids[4]); err != nil {
		t.Fatal(err)
	}
	o.want("GET", "/services/data/v66.0/query?q="+url.QueryEscape("SELECT COUNT() FROM Account"), "", 200, `"totalSize":4`)
	o.want("GET", "/services/data/v66.0/queryAll?q="+url.QueryEscape("SELECT COUNT() FROM Account WHERE Sorrel_Id__c = 'c-4'"), "", 200, `"totalSize":1`)
	o.want("DELETE", "/services/data/v66.0/sobjects/Account/"+ids[4], "", 404, "ENTITY_IS_DELETED")
}

// The eleventh open query closes the first.
func TestLocators(t *testing.T) {
	t.Parallel()
	o := serve(t, Options{MaxPage: 1})
	for range 2 {
		if _, err := o.Edit("Account", "", map[string]any{"Name": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	var next []string
	for range 11 {
		var p struct{ NextRecordsURL string }
		if err := json.Unmarshal([]byte(o.want("GET", "/services/data/v66.0/query?q=SELECT+Id+FROM+Account", "", 200, `"done":false`)), &p); err != nil {
			t.Fatal(err)
		}
		next = append(next, p.NextRecordsURL)
	}
	o.want("GET", next[0], "", 400, "INVALID_QUERY_LOCATOR")
	o.want("GET", next[10], "", 200, `"done":true`)
}

func TestIDsAndNumbers(t *testing.T) {
	t.Parallel()
	if got := "001xx000003DGb2" + suffix("001xx000003DGb2"); got != "001xx000003DGb2AAG" {
		t.Error(got)
	}
	var ids []string
	for n := range 5000 {
		ids = append(ids, fullID("001", n))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 5000 {
		t.Error("ids do not rise")
	}
	for in, want := range map[string]string{"0": "0.0", "12": "12.0", "-440.5": "-440.5", "350000000": "3.5E8", "12345678.9": "1.23456789E7", "-10000000": "-1.0E7"} {
		if got := number(&Field{Type: typeCurrency}, decimal.RequireFromString(in)); string(got) != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzSOQL(f *testing.F) {
	twin := New(Options{Now: time.Now})
	if _, err := twin.Edit("Account", "", map[string]any{"Name": "a", "Phone": "1"}); err != nil {
		f.Fatal(err)
	}
	f.Add("SELECT Id, Parent.Name FROM Account WHERE (Name LIKE '%a' OR NOT Phone IN ('1','2')) AND CreatedDate > 2026-01-01T00:00:00Z ORDER BY Name DESC NULLS LAST LIMIT 3 OFFSET 1")
	f.Add("SELECT COUNT() FROM Order WHERE ERP_Total__c != null")
	f.Add("SELECT DAY_ONLY(SystemModstamp) d, HOUR_IN_DAY(SystemModstamp) h, COUNT(Id) n FROM Account WHERE (SystemModstamp >= 2026-01-01T00:00:00Z OR Id > '001xx000000000RAAQ') GROUP BY DAY_ONLY(SystemModstamp), HOUR_IN_DAY(SystemModstamp) ORDER BY HOUR_IN_DAY(SystemModstamp), DAY_ONLY(SystemModstamp) LIMIT 2000")
	f.Add("SELECT COUNT(Id) FROM Account GROUP BY Name")
	f.Fuzz(func(t *testing.T, q string) {
		if len(q) > 2000 || strings.Count(q, "%") > 8 { // patterns of many wildcards are slow, as everywhere
			return
		}
		twin.mu.Lock()
		defer twin.mu.Unlock()
		s, e := twin.parse(q)
		if (s == nil) == (e == nil) {
			t.Fatalf("%v %v", s, e)
		}
		if e == nil && s.number != "" {
			twin.aggregate(s, true)
		} else if e == nil {
			for _, r := range twin.run(s, true) {
				twin.render(s, r, "")
			}
		}
	})
}

// A person's acts over HTTP.
func TestActs(t *testing.T) {
	t.Parallel()
	o := serve(t, Options{})
	var saved struct{ ID string }
	if err := json.Unmarshal([]byte(o.want("POST", "/_twin/edit", `{"object":"Account","fields":{"Name":"A"}}`, 200, "001")), &saved); err != nil {
		t.Fatal(err)
	}
	o.want("POST", "/_twin/edit", `{"object":"Account","id":"`+saved.ID+`","fields":{"Nmae":"B"}}`, 422, "No such column")
	o.want("POST", "/_twin/edit", `{`, 400, "not understood")
	o.want("POST", "/_twin/delete", `{"object":"Account","id":"`+saved.ID+`"}`, 200, saved.ID)
	o.want("GET", "/_twin/state", "", 200, `"Account":[]`)
	o.want("POST", "/_twin/undelete", `{"object":"Account","id":"`+saved.ID+`"}`, 200, saved.ID)
	o.want("GET", "/_twin/state", "", 200, saved.ID)
	other := o.want("POST", "/_twin/edit", `{"object":"Account","fields":{"Name":"B"},"user":"005xx000001Sxyz"}`, 200, "001")[7:25]
	o.want("POST", "/_twin/edit", `{"object":"Account","fields":{"Name":"B"},"user":"B"}`, 422, "no user id")
	if m, _ := o.Get("Account", other); m["LastModifiedById"] != "005xx000001Sxyz"+suffix("005xx000001Sxyz") || m["ERP_Active__c"] != true {
		t.Errorf("%v", m)
	}
	o.want("POST", "/_twin/merge", `{"object":"Account","winner":"`+saved.ID+`","loser":"`+saved.ID+`"}`, 422, "itself")
	o.want("POST", "/_twin/merge", `{"object":"Account","winner":"`+saved.ID+`","loser":"`+other+`"}`, 200, saved.ID)
	o.want("GET", "/services/data/v66.0/queryAll?q="+url.QueryEscape("SELECT MasterRecordId FROM Account WHERE IsDeleted = true"), "", 200, `"MasterRecordId":"`+saved.ID)
	o.want("POST", "/_twin/undelete", `{"object":"Account","id":"`+other+`"}`, 200, other)
	o.want("GET", "/services/data/v66.0/sobjects/Account/"+other, "", 200, `"MasterRecordId":null`)
	o.want("POST", "/_twin/edit", `{"object":"Account","id":"`+other+`","fields":{"Support_Tier__c":"Gold"}}`, 422, "bad value for restricted picklist field: Gold")
	o.want("POST", "/_twin/picklist", `{"object":"Account","field":"Support_Tier__c","value":"Gold"}`, 200, "Gold")
	o.want("POST", "/_twin/edit", `{"object":"Account","id":"`+other+`","fields":{"Support_Tier__c":"Gold"}}`, 200, other)
	o.want("POST", "/_twin/picklist", `{"object":"Account","field":"Name","value":"Gold"}`, 422, "no picklist")
	o.want("POST", "/_twin/field", `{"object":"Account","field":{"Name":"New__c","Type":"string","Length":5}}`, 200, "New__c")
	o.want("POST", "/_twin/deactivate", `{"user":"B"}`, 422, "no user id")
	o.want("POST", "/_twin/deactivate", `{"user":"005xx000001Sxyz"}`, 200, "005xx000001Sxyz")
	o.want("POST", "/_twin/edit", `{"object":"Account","id":"`+other+`","fields":{"OwnerId":"005xx000001Sxyz"}}`, 422, "INACTIVE_OWNER_OR_USER")
	got := make(chan string, 1)
	bus := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
	}))
	defer bus.Close()
	o.want("POST", "/_twin/events", `{"url":"`+bus.URL+`"}`, 200, bus.URL)
	o.want("POST", "/_twin/gap", `{"object":"Account","ids":["`+saved.ID+`"],"type":"GAP_UPDATE"}`, 200, "")
	if e := <-got; !strings.Contains(e, `"GAP_UPDATE"`) || !strings.Contains(e, "aws.partner/salesforce.com/00Dxx0000001gEREAY/") {
		t.Error(e)
	}
	o.want("POST", "/_twin/expire", `{}`, 200, "")
	o.want("GET", "/services/data/v66.0/limits", "", 401, "INVALID_SESSION_ID")
	o.want("GET", "/_twin/stats", "", 200, `"refused":1`)
}

// A stage brings its probability along, an account its opportunities: into the recycle bin and out of it, but not one that
// somebody had deleted before.
func TestOpportunities(t *testing.T) {
	t.Parallel()
	tw := New(Options{Now: time.Now})
	save := func(object, id string, fields map[string]any) string {
		t.Helper()
		id, err := tw.Edit(object, id, fields)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	says := func(id string, want string) {
		t.Helper()
		m, live := tw.Get("Opportunity", id)
		if got := fmt.Sprintf("%v %v %v %v", live, m["Probability"], m["IsClosed"], m["IsWon"]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	account, other := save("Account", "", map[string]any{"Name": "A"}), save("Account", "", map[string]any{"Name": "B"})
	fields := map[string]any{"Name": "O", "StageName": "Value Proposition", "CloseDate": "2026-11-30", "AccountId": account}
	one, before, moved := save("Opportunity", "", fields), save("Opportunity", "", fields), save("Opportunity", "", fields)
	says(one, "true 50.0 false false")
	save("Opportunity", one, map[string]any{"StageName": "Closed Won"})
	says(one, "true 100.0 true true")
	save("Opportunity", one, map[string]any{"StageName": "A stage of the org's own", "Probability": 33})
	says(one, "true 33.0 false false")
	save("Opportunity", moved, map[string]any{"AccountId": other})
	for _, err := range []error{tw.Delete("Opportunity", before), tw.Delete("Account", account)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	says(one, "false <nil> <nil> <nil>")
	says(moved, "true 50.0 false false")
	if err := tw.Undelete("Account", account); err != nil {
		t.Fatal(err)
	}
	says(one, "true 33.0 false false")
	says(before, "false <nil> <nil> <nil>")
	if err := tw.Merge("Account", other, account); err != nil {
		t.Fatal(err)
	}
	if m, live := tw.Get("Opportunity", one); !live || m["AccountId"] != other {
		t.Errorf("after the merge: %v %v", live, m["AccountId"])
	}
	if _, err := tw.Edit("Opportunity", "", map[string]any{"Name": "O", "StageName": "Prospecting"}); err == nil || !strings.Contains(err.Error(), "CloseDate") {
		t.Errorf("without a date: %v", err)
	}
}

// A task is about a record of any of several objects, and goes where that goes.
func TestTasks(t *testing.T) {
	t.Parallel()
	tw := New(Options{Now: time.Now})
	save := func(object string, fields map[string]any) string {
		t.Helper()
		id, err := tw.Edit(object, "", fields)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	account, other := save("Account", map[string]any{"Name": "A"}), save("Account", map[string]any{"Name": "B"})
	opportunity := save("Opportunity", map[string]any{"Name": "O", "StageName": "Prospecting", "CloseDate": "2026-11-30", "AccountId": account})
	tasks := []string{save("Task", map[string]any{"Subject": "about the account", "WhatId": account}), save("Task", map[string]any{"Subject": "about the opportunity", "WhatId": opportunity})}
	live := func(want bool) {
		t.Helper()
		for _, id := range tasks {
			if _, is := tw.Get("Task", id); is != want {
				t.Errorf("task %s: there %v, want %v", id, is, want)
			}
		}
	}
	if _, err := tw.Edit("Task", "", map[string]any{"WhatId": save("Contact", map[string]any{"LastName": "A"})}); err == nil || !strings.Contains(err.Error(), "MALFORMED_ID") {
		t.Errorf("about a contact: %v", err)
	}
	if err := tw.Delete("Account", account); err != nil {
		t.Fatal(err)
	}
	live(false)
	if err := tw.Undelete("Account", account); err != nil {
		t.Fatal(err)
	}
	live(true)
	if err := tw.Merge("Account", other, account); err != nil {
		t.Fatal(err)
	}
	if m, _ := tw.Get("Task", tasks[0]); m["WhatId"] != other || m["Status"] != "Not Started" || m["Priority"] != "Normal" {
		t.Errorf("after the merge: %v", m)
	}
}

// What the org makes of values before it keeps them.
func TestNormalisation(t *testing.T) {
	t.Parallel()
	o := serve(t, Options{USLocale: true, Normalise: func(object, field string, v any) any {
		if s, ok := v.(string); ok && object == "Account" && field == "BillingCountry" {
			return strings.ToUpper(s)
		}
		return v
	}})
	typed := map[string]any{"Name": "  Lazy K  ", "Phone": "15095557969", "Fax": "5095556221", "ERP_Credit_Limit__c": 1234.567, "BillingCountry": "usa", "Support_Notes__c": " a\n"}
	person, err := o.Edit("Account", "", typed)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(typed)
	if err != nil {
		t.Fatal(err)
	}
	client := o.want("POST", "/services/data/v66.0/sobjects/Account", string(body), 201, "001")[7:25]
	kept := map[string]any{"Name": "Lazy K", "ERP_Credit_Limit__c": json.Number("1234.57"), "BillingCountry": "USA", "Support_Notes__c": " a"}
	for id, phones := range map[string][2]string{person: {"(509) 555-7969", "(509) 555-6221"}, client: {"15095557969", "5095556221"}} {
		m, _ := o.Get("Account", id)
		if m["Phone"] != phones[0] || m["Fax"] != phones[1] {
			t.Errorf("phones %v and %v, want %v", m["Phone"], m["Fax"], phones)
		}
		for f, want := range kept {
			if m[f] != want {
				t.Errorf("%s: %q, want %q", f, m[f], want)
			}
		}
	}
	for _, phone := range []string{"509-555-7969", "+15095557969", "123456789", "23456789012", "509555796x"} {
		if got := usPhone(phone); got != phone {
			t.Errorf("%s became %s", phone, got)
		}
	}
}
