package netsuitetwin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// account is a twin behind HTTP with a signed-in client.
type account struct {
	*Twin
	t     *testing.T
	url   string
	token string
}

func start(t *testing.T, opt Options) *account {
	t.Helper()
	if opt.Now == nil {
		at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
		opt.Now = func() time.Time { return at }
	}
	tw, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	tw.tokens["test"] = opt.Now().Add(time.Hour)
	return &account{tw, t, srv.URL, "test"}
}

func (a *account) call(method, path, body string, header ...string) (int, http.Header, string) {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestTokenEndpointChecksTheAssertion(t *testing.T) {
	t.Parallel()
	a := start(t, Options{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.AddCertificate("rsa", "client", rsaKey.Public())
	a.AddCertificate("ec", "client", ecKey.Public())
	now := a.opt.Now().Unix()
	for name, tt := range map[string]struct {
		method jwt.SigningMethod
		kid    string
		change jwt.MapClaims
		error  string
	}{
		"PS256":         {jwt.SigningMethodPS256, "rsa", nil, ""},
		"ES256":         {jwt.SigningMethodES256, "ec", nil, ""},
		"scope array":   {jwt.SigningMethodES256, "ec", jwt.MapClaims{"scope": []string{"restlets", "rest_webservices"}}, ""},
		"scope commas":  {jwt.SigningMethodES256, "ec", jwt.MapClaims{"scope": "restlets,rest_webservices"}, ""},
		"scope spaces":  {jwt.SigningMethodES256, "ec", jwt.MapClaims{"scope": "restlets rest_webservices"}, ""},
		"scope missing": {jwt.SigningMethodES256, "ec", jwt.MapClaims{"scope": "restlets"}, "invalid_scope"},
		"RS256":         {jwt.SigningMethodRS256, "rsa", nil, "invalid_client"},
		"kid":           {jwt.SigningMethodES256, "none", nil, "invalid_client"},
		"other's key":   {jwt.SigningMethodPS256, "ec", nil, "invalid_client"},
		"iss":           {jwt.SigningMethodES256, "ec", jwt.MapClaims{"iss": "other"}, "invalid_client"},
		"aud":           {jwt.SigningMethodES256, "ec", jwt.MapClaims{"aud": a.url}, "invalid_grant"},
		"an hour":       {jwt.SigningMethodES256, "ec", jwt.MapClaims{"exp": now + 3600}, "invalid_grant"},
		"expired":       {jwt.SigningMethodES256, "ec", jwt.MapClaims{"exp": now - 1}, "invalid_client"},
		"endless":       {jwt.SigningMethodES256, "ec", jwt.MapClaims{"exp": nil}, "invalid_client"},
	} {
		claims := jwt.MapClaims{"iss": "client", "scope": "rest_webservices", "aud": a.url + tokenPath, "iat": now, "exp": now + 3599}
		for k, v := range tt.change {
			if claims[k] = v; v == nil {
				delete(claims, k)
			}
		}
		token := jwt.NewWithClaims(tt.method, claims)
		token.Header["kid"] = tt.kid
		var key any = ecKey
		if strings.HasSuffix(tt.method.Alg(), "S256") && tt.method.Alg() != "ES256" {
			key = rsaKey
		}
		signed, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {signed}}
		status, _, body := a.call("POST", tokenPath, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		if (status == 200) != (tt.error == "") || !strings.Contains(body, tt.error) {
			t.Errorf("%s: %d %s, want error %q", name, status, body, tt.error)
		}
	}
}

// What platforms' documentation says about the record API, step by step as a foreign client sees it.
func TestRecordAPI(t *testing.T) {
	t.Parallel()
	a := start(t, Options{})
	const api = rest + "/record/v1/"
	status, header, body := a.call("POST", api+"customer", `{"companyName":"Alfreds","externalId":"c-1"}`)
	if status != 204 || body != "" || !strings.HasSuffix(header.Get("Location"), api+"customer/1001") {
		t.Fatalf("create: %d %q %q", status, header.Get("Location"), body)
	}
	for i, s := range []struct {
		method, path, body string
		header             []string
		status             int
		says               string
	}{
		{"POST", "customer", `{"companyName":"Again","externalId":"c-1"}`, nil, 400, "DUP_RCRD"},
		{"POST", "customer", `{"email":"x"}`, nil, 400, "Please enter value(s) for: Company Name"},
		{"POST", "customer", `{"companyName":`, nil, 400, "INVALID_CONTENT"},
		{"PATCH", "customer/1001", `{"fonne":"1"}`, nil, 204, ""}, // dropped in silence, as by default
		{"PATCH", "customer/1001", `{"fonne":"1"}`, []string{"X-NetSuite-PropertyNameValidation", "Error"}, 400, `"o:errorPath":"fonne"`},
		{"PATCH", "customer/eid:nobody", `{}`, nil, 404, "NONEXISTENT_ID"},
		{"PUT", "customer/eid:c-2", `{"companyName":"Berglunds"}`, nil, 204, ""},
		{"PUT", "customer/eid:c-2", `{"phone":"1"}`, nil, 204, ""},
		{"GET", "customer", ``, nil, 200, `"totalResults":2`},
		{"GET", "customer?limit=1&offset=1", ``, nil, 200, `"hasMore":false`},
		{"GET", "customer?limit=2&offset=1", ``, nil, 400, "divisible"},
		{"GET", "customer?q=companyName%20IS%20%22Berglunds%22", ``, nil, 200, `"totalResults":1`},
		{"GET", "customer/eid:c-2", ``, nil, 200, `"companyName":"Berglunds"`},
		{"POST", "salesOrder", `{"entity":{"externalId":"c-2"},"item":{"items":[{"item":{"id":"1"},"quantity":2,"rate":3.5}]}}`, nil, 204, ""},
		{"POST", "salesOrder", `{"entity":{"id":"9999"}}`, nil, 400, "INVALID_KEY_OR_REF"},
		{"POST", "salesOrder", `{"entity":{"id":"1001"},"item":{"items":[{"item":{"id":"9999"}}]}}`, nil, 400, `"o:errorPath":"item.items[0].item"`},
		{"GET", "salesOrder/1003", ``, nil, 200, `"orderStatus":{"id":"A","refName":"Pending Approval"}`},
		{"GET", "salesOrder/1003?simpleEnumFormat=true", ``, nil, 200, `"orderStatus":"A"`},
		{"GET", "salesOrder/1003", ``, nil, 200, `"item":{"links":`},
		{"GET", "salesOrder/1003?expandSubResources=true", ``, nil, 200, `"amount":7,`},
		{"GET", "salesOrder/1003?fields=total", ``, nil, 200, `"total":7}`},
		{"GET", "salesOrder/1003/item", ``, nil, 200, `"items":[`},
		{"PATCH", "salesOrder/1003", `{"item":{"items":[{"line":1,"quantity":4,"amount":null},{"item":{"id":"2"},"quantity":1,"rate":1}]}}`, nil, 204, ""},
		{"GET", "salesOrder/1003", ``, nil, 200, `"total":15`},
		{"PATCH", "salesOrder/1003?replace=item", `{"item":{"items":[{"item":{"id":"2"},"quantity":1,"rate":1}]}}`, nil, 204, ""},
		{"GET", "salesOrder/1003", ``, nil, 200, `"total":1`},
		{"POST", "itemFulfillment", `{}`, nil, 400, "transforming"},
		{"POST", "salesOrder/1003/!transform/itemFulfillment", `{"shipStatus":{"id":"C"}}`, nil, 204, ""},
		{"GET", "salesOrder/1003", ``, nil, 200, `"orderStatus":{"id":"F"`},
		{"POST", "salesOrder/1003/!transform/itemFulfillment", `{}`, nil, 400, "nothing left"},
		{"PATCH", "customer/1001", `{"addressBook":{"items":[{"defaultBilling":true,"addressBookAddress":{"addr1":"A","country":{"id":"FR"}}}]}}`, nil, 204, ""},
		{"GET", "customer/1001/addressBook", ``, nil, 200, `"id":1001001,"internalId":1001001`},
		{"PATCH", "customer/1001", `{"addressBook":{"items":[{"id":1001001,"addressBookAddress":{"city":"B"}}]}}`, nil, 204, ""}, // the line with that key
		{"GET", "customer/1001/addressBook", ``, nil, 200, `{"addr1":"A","city":"B","country":"FR"}`},
		{"PATCH", "customer/1001", `{"addressBook":{"items":[{"defaultBilling":true,"addressBookAddress":{"addr1":"C"}}]}}`, nil, 204, ""}, // another line without a key
		{"GET", "customer/1001/addressBook", ``, nil, 200, `"defaultBilling":false,"id":1001001`},
		{"GET", "customer/1001?expandSubResources=true", ``, nil, 200, `"totalResults":2`},
		{"PATCH", "customer/1001", `{"addressBook":{"items":[{"addressBookAddress":{"country":"FR"}}]}}`, nil, 400, "Invalid value"},
		{"PATCH", "customer/1001", `{"creditHoldOverride":"ON"}`, nil, 400, "Invalid value"},
		{"PATCH", "customer/1001", `{"creditHoldOverride":{"id":"MAYBE"}}`, nil, 400, "Invalid Field Value MAYBE"},
		{"POST", "contact", `{"company":{"id":"1001"}}`, nil, 400, "Please enter value(s) for: Name"},
		{"DELETE", "customer/1002", ``, nil, 400, "dependent records"},
		{"DELETE", "customer/1001", ``, nil, 204, ""},
		{"GET", "customer/1001", ``, nil, 404, "NONEXISTENT_ID"},
		{"GET", "vendor/1", ``, nil, 404, "vendor"},
	} {
		status, _, body := a.call(s.method, api+s.path, s.body, s.header...)
		if status != s.status || !strings.Contains(body, s.says) {
			t.Errorf("step %d %s %s: %d %s, want %d with %s", i, s.method, s.path, status, body, s.status, s.says)
		}
	}
	if status, _, body := a.call("GET", api+"customer?limit=5", ""); status != 200 || strings.Contains(body, "companyName") {
		t.Errorf("a collection shows more than ids: %s", body)
	}
	a.RevokeTokens()
	if status, header, body := a.call("GET", api+"customer", ""); status != 401 || !strings.Contains(body, "INVALID_LOGIN") || header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d %s", status, body)
	}
}

func TestSuiteQL(t *testing.T) {
	t.Parallel()
	a := start(t, Options{})
	at := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	for i := range 5 {
		if _, err := a.Load(customer, "", map[string]any{"companyName": fmt.Sprintf("O'Brien %d", i), "isInactive": i == 3, "creditLimit": 100 * i, "externalId": fmt.Sprintf("c-%d", i)}, at.Add(time.Duration(i/2)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Load(salesOrder, "", map[string]any{"entity": "1001", "orderStatus": "B", "item": map[string]any{"items": []any{map[string]any{"item": "2", "quantity": 3, "rate": 2}}}}, at); err != nil {
		t.Fatal(err)
	}
	run := func(q, page string, header ...string) (int, string) {
		b, err := json.Marshal(map[string]string{"q": q})
		if err != nil {
			t.Fatal(err)
		}
		status, _, body := a.call("POST", rest+"/query/v1/suiteql"+page, string(b), header...)
		return status, body
	}
	for q, want := range map[string]string{
		"SELECT id FROM customer ORDER BY id DESC":                                                                                                  "1005 1004 1003 1002 1001",
		"select ID, companyName from Customer c where c.isinactive = 'T'":                                                                           "1004",
		"SELECT id FROM customer WHERE companyname = 'O''Brien 2' OR (creditlimit > 350 AND id <> 1)":                                               "1003 1005",
		"SELECT id FROM customer WHERE NOT id IN (1001, 1002, '1003') AND email IS NULL":                                                            "1004 1005",
		"SELECT id FROM customer WHERE creditlimit IS NOT NULL AND creditlimit <= 100.0":                                                            "1001 1002",
		"SELECT id FROM customer WHERE id NOT IN (1001)":                                                                                            "1002 1003 1004 1005",
		"SELECT id FROM transaction WHERE type = 'SalesOrd' AND status = 'B'":                                                                       "1006",
		"SELECT transaction AS id FROM transactionline WHERE transaction = 1006 AND mainline = 'F'":                                                 "1006",
		"SELECT * FROM customer WHERE lastmodifieddate = TO_TIMESTAMP('2026-11-01 08:00:01','YYYY-MM-DD HH24:MI:SS') ORDER BY lastmodifieddate, id": "1003 1004",
		"SELECT id FROM customer WHERE lastmodifieddate >= TO_TIMESTAMP('2026-11-01 08:00:02.000000000', 'YYYY-MM-DD HH24:MI:SSxFF')":               "1005",
		"SELECT id FROM customer WHERE lastmodifieddate < TO_DATE('2026-11-01','YYYY-MM-DD')":                                                       "",
	} {
		status, body := run(q, "", "Prefer", "transient")
		var page struct{ Items []map[string]any }
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
			t.Errorf("%s: %d %s", q, status, body)
			continue
		}
		var ids []string
		for _, i := range page.Items {
			ids = append(ids, fmt.Sprint(i["id"]))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	status, body := run("SELECT id, companyname, isinactive, email, lastmodifieddate, TO_CHAR(lastmodifieddate, 'YYYY-MM-DD\"T\"HH24:MI:SS') AS modified, BUILTIN.DF(subsidiary) AS sub FROM customer WHERE id = 1004", "?limit=1", "Prefer", "transient")
	if want := `"items":[{"companyname":"O'Brien 3","id":"1004","isinactive":"T","lastmodifieddate":"01.11.2026","links":[],"modified":"2026-11-01T08:00:01","sub":"Parent Company"}]`; status != 200 || !strings.Contains(body, want) {
		t.Errorf("shape: %s, want %s", body, want)
	}
	status, body = run("SELECT quantity, foreignamount, rate FROM transactionline WHERE mainline = 'F'", "", "Prefer", "transient")
	if want := `{"foreignamount":"-6","links":[],"quantity":"-3","rate":"2"}`; status != 200 || !strings.Contains(body, want) {
		t.Errorf("line: %s, want %s", body, want)
	}
	for q, says := range map[string]string{
		"SELECT nothing FROM customer": "NOT_EXPOSED", "SELECT id FROM nowhere": "nowhere", "SELECT id FROM customer WHERE": "unexpected end", "DELETE FROM customer": "unexpected",
		"SELECT id FROM customer; x": "character", "SELECT MEDIAN(id) FROM customer": "not supported", "SELECT id FROM customer WHERE id = 1 GARBAGE": "GARBAGE",
		"SELECT id FROM customer WHERE lastmodifieddate > TO_DATE('x','YYYY-MM-DD')": "not a valid date", "SELECT TO_CHAR(lastmodifieddate, 'Month') FROM customer": "not recognized",
		"SELECT id FROM customer WHERE " + strings.Repeat("(", 60) + "id = 1" + strings.Repeat(")", 60): "too deep",
	} {
		if status, body := run(q, "", "Prefer", "transient"); status != 400 || !strings.Contains(body, says) || !strings.Contains(body, `"o:errorQueryParam":"q"`) {
			t.Errorf("%s: %d %s, want a refusal with %q", q, status, body, says)
		}
	}
	if status, body := run("SELECT id FROM customer", ""); status != 400 || !strings.Contains(body, "Prefer") {
		t.Errorf("without Prefer: %d %s", status, body)
	}
	for _, page := range []string{"?limit=1001", "?limit=2&offset=1", "?limit=0", "?offset=-1"} {
		if status, body := run("SELECT id FROM customer", page, "Prefer", "transient"); status != 400 {
			t.Errorf("%s: %d %s", page, status, body)
		}
	}
	if status, body := run("SELECT id FROM customer ORDER BY id", "?limit=2&offset=2", "Prefer", "transient"); status != 200 || !strings.Contains(body, `"hasMore":true`) || !strings.Contains(body, `"totalResults":5`) || !strings.Contains(body, `"id":"1003"`) || !strings.Contains(body, `"rel":"next"`) {
		t.Errorf("page: %s", body)
	}
	a.Forbid(customer, true)
	if _, body := run("SELECT id FROM customer", "", "Prefer", "transient"); !strings.Contains(body, `"totalResults":0`) {
		t.Errorf("a role without permission sees %s", body)
	}
}

func TestActsOverHTTP(t *testing.T) {
	t.Parallel()
	a := start(t, Options{})
	status, _, body := a.call("POST", "/_twin/edit", `{"object":"customer","fields":{"companyName":"A","balance":12.5,"currency":{"refName":"NOK"}}}`)
	if status != 200 || body != "{\"id\":\"1001\"}\n" {
		t.Fatalf("%d %s", status, body)
	}
	if r, _ := a.Get(customer, "1001"); r["balance"] != json.Number("12.5") || fmt.Sprint(r["currency"]) != "map[id:6 refName:NOK]" || r["custentity_sorrel_rev"] != json.Number("1") {
		t.Errorf("%v", r)
	}
	for _, bad := range []string{`{"object":"customer","id":"1001","fields":{"nope":1}}`, `{"object":"customer","id":"5","fields":{}}`, `{"object":"x"}`, `{"object":"customer","id":"z"}`, `{"objekt":"x"}`} {
		if status, _, body := a.call("POST", "/_twin/edit", bad); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", bad, status, body)
		}
	}
	if status, _, body := a.call("GET", "/_twin/state", ""); status != 200 || !strings.Contains(body, `"companyName":"A"`) {
		t.Errorf("state: %s", body)
	}
	if status, _, body := a.call("POST", "/_twin/edit", `{"object":"invoice","fields":{"entity":{"id":"1001"},"total":100,"dueDate":"2020-01-31"}}`); status != 200 || body != "{\"id\":\"1002\"}\n" {
		t.Fatalf("%d %s", status, body)
	}
	for _, pay := range []struct {
		body                    string
		status                  int
		state, balance, overdue string
	}{
		{`{"id":"1002","amount":30.5}`, 200, open, "69.5", "69.5"},
		{`{"id":"1002","amount":70}`, 422, open, "69.5", "69.5"},
		{`{"id":"1001"}`, 422, open, "69.5", "69.5"},
		{`{"id":"1002"}`, 200, paidInFull, "0", "0"},
		{`{"id":"1002"}`, 422, paidInFull, "0", "0"},
	} {
		status, _, body := a.call("POST", "/_twin/pay", pay.body)
		c, _ := a.Get(customer, "1001")
		i, _ := a.Get(invoice, "1002")
		if got := fmt.Sprint(status, i["status"].(map[string]any)["id"], c["balance"], c["overdueBalance"]); got != fmt.Sprint(pay.status, pay.state, pay.balance, pay.overdue) {
			t.Errorf("%s: %s %s", pay.body, got, body)
		}
	}
	if status, _, _ := a.call("POST", "/_twin/delete", `{"object":"customer","id":"1001"}`); status != 422 {
		t.Error("a customer with an invoice was deleted")
	}
	if status, _, _ := a.call("POST", "/_twin/delete", `{"object":"invoice","id":"1002"}`); status != 200 {
		t.Error("the invoice was not deleted")
	}
	if status, _, _ := a.call("POST", "/_twin/delete", `{"object":"customer","id":"1001"}`); status != 200 || len(a.All(customer)) != 0 {
		t.Error("not deleted")
	}
	if status, _, _ := a.call("POST", "/_twin/delete", `{"object":"customer","id":"1001"}`); status != 422 {
		t.Error("deleted twice")
	}
	if err := a.AddField(customer, "region", "text"); err == nil {
		t.Error("a custom field without its prefix was added")
	}
}

func BenchmarkEdit(b *testing.B) {
	tw, err := New(Options{Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	entity, err := tw.Edit(customer, "", map[string]any{"companyName": "A"})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if _, err := tw.Load(salesOrder, "", map[string]any{"entity": entity, "memo": fmt.Sprint(i)}, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		if _, err := tw.Edit(salesOrder, fmt.Sprint(1002+i%1000), map[string]any{"memo": "x"}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("SELECT id, TO_CHAR(lastmodifieddate, 'YYYY-MM-DD') AS d FROM customer c WHERE (c.id > 5 OR id IN (1, '2')) AND NOT email IS NULL ORDER BY id DESC, d")
	f.Add("SELECT * FROM transaction WHERE x = TO_TIMESTAMP('', 'YYYY')")
	f.Add("SELECT TO_CHAR(lastmodifieddate, 'YYYY-MM-DD') AS d, COUNT(*) AS n, SUM(id) AS s FROM customer WHERE (id > 3) AND (id IN (1, 4)) GROUP BY TO_CHAR(lastmodifieddate, 'YYYY-MM-DD') ORDER BY TO_CHAR(lastmodifieddate, 'YYYY-MM-DD')")
	f.Add("SELECT COUNT(id) FROM contact WHERE COUNT(*) > 1")
	f.Add("SELECT '")
	tw, err := New(Options{Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := tw.Edit(customer, "", map[string]any{"companyName": "A"}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parse(text)
		if err != nil {
			return
		}
		if rows, _, err := tw.run(q, 0, 10); err == nil && len(rows) > 10 {
			t.Errorf("%d rows of one customer", len(rows))
		}
	})
}
