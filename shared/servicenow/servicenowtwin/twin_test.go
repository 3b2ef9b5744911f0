package servicenowtwin_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/platform/platformtest"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
	"sorrel/shared/twin"
)

// instance is a twin on HTTP.
type instance struct {
	*servicenowtwin.Twin
	t     *testing.T
	url   string
	clock *platformtest.Clock
}

func start(t *testing.T, opt servicenowtwin.Options) *instance {
	t.Helper()
	clock := platformtest.NewClock()
	opt.Now = clock.Now
	tw := servicenowtwin.New(opt)
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	return &instance{tw, t, srv.URL, clock}
}

// do calls by basic authentication.
func (in *instance) do(method, path, body string) (int, map[string]any, http.Header) {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	cr := in.BasicCredentials()
	req.SetBasicAuth(cr.Username, cr.Password)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&m) // no body: nothing
	return resp.StatusCode, m, resp.Header
}

func (in *instance) edit(id string, fields map[string]any) string {
	in.t.Helper()
	id, err := in.Edit(servicenow.Account, id, fields)
	if err != nil {
		in.t.Fatal(err)
	}
	return id
}

// path of what a person would paste from the browser.
func list(query string, more ...string) string {
	return "/api/now/table/customer_account?sysparm_query=" + url.QueryEscape(query) + "&" + strings.Join(more, "&")
}

func show(a any) string {
	b, err := json.Marshal(a)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestTableAPI(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	parent := in.edit("", map[string]any{"name": "Holding"})
	status, got, header := in.do("POST", "/api/now/table/customer_account?sysparm_fields=name,number,active,account_parent,sys_mod_count,nonsense",
		`{"name":"Acme","account_parent":"`+parent+`","nonsense":"x","sys_mod_count":"9","number":"mine","active":"1"}`)
	want := `{"result":{"account_parent":{"link":"https://` + in.url[7:] + `/api/now/table/customer_account/` + parent + `","value":"` + parent + `"},"active":"true","name":"Acme","number":"ACCT0010002","sys_mod_count":"0"}}`
	if status != 201 || show(got) != want || !strings.Contains(header.Get("Location"), "/api/now/table/customer_account/") {
		t.Errorf("insert: %d %s, want %s", status, show(got), want)
	}
	id := header.Get("Location")[strings.LastIndex(header.Get("Location"), "/")+1:]
	path := "/api/now/table/customer_account/" + id
	steps := []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", path + "?sysparm_fields=account_parent&sysparm_exclude_reference_link=true", "", 200, `{"result":{"account_parent":"` + parent + `"}}`},
		{"GET", path + "?sysparm_fields=name&sysparm_display_value=all", "", 200, `{"result":{"name":{"display_value":"Acme","value":"Acme"}}}`},
		{"PATCH", path + "?sysparm_fields=name,city,sys_mod_count,sys_updated_by", `{"city":"Bern"}`, 200, `{"result":{"city":"Bern","name":"Acme","sys_mod_count":"1","sys_updated_by":"sorrel.integration"}}`},
		{"PUT", path + "?sysparm_fields=name,sys_mod_count", `{"city":"Bern"}`, 200, `{"result":{"name":"Acme","sys_mod_count":"1"}}`}, // partial too; nothing changed
		{"PATCH", path + "?sysparm_fields=u_credit_limit,u_credit_hold", `{"u_credit_limit":"1200.509","u_credit_hold":"maybe"}`, 200, `{"result":{"u_credit_hold":"maybe","u_credit_limit":"1200.51"}}`},
		{"PATCH", path + "?sysparm_fields=u_credit_limit,u_currency", `{"u_credit_limit":"lots","u_currency":"francs"}`, 200, `{"result":{"u_credit_limit":"1200.51","u_currency":"fra"}}`},
		{"PATCH", path, `{"name":" "}`, 403, `{"error":{"detail":"Data Policy Exception: The following fields are mandatory: Name","message":"Operation Failed"},"status":"failure"}`},
		{"PATCH", path, `{`, 400, `{"error":{"detail":"The payload is not valid JSON.","message":"Exception while reading request"},"status":"failure"}`},
		{"GET", "/api/now/table/customer_account/" + strings.Repeat("0", 32), "", 404, `{"error":{"detail":"Record doesn't exist or ACL restricts the record retrieval","message":"No Record found"},"status":"failure"}`},
		{"GET", "/api/now/table/nonsense", "", 400, `{"error":{"detail":null,"message":"Invalid table nonsense"},"status":"failure"}`},
		{"GET", "/api/now/v1/table/customer_account?sysparm_query=name=x", "", 404, `{"error":{"detail":"Records matching query not found","message":"No Record found"},"status":"failure"}`},
		{"GET", "/api/now/v2/table/customer_account?sysparm_query=name=x", "", 200, `{"result":[]}`},
		{"GET", list("name=Acme", "sysparm_fields=name"), "", 200, `{"result":[{"name":"Acme"}]}`},
		{"GET", "/api/now/table/customer_account?sysparm_offset=-1", "", 400, `{"error":{"detail":"sysparm_limit and sysparm_offset must not be negative","message":"Pagination not supported"},"status":"failure"}`},
		{"GET", "/api/now/batch", "", 400, `{"error":{"detail":"/api/now/batch","message":"Requested URI does not represent any resource"},"status":"failure"}`},
		{"DELETE", path, "", 204, `null`},
		{"DELETE", path, "", 404, `{"error":{"detail":"Record doesn't exist or ACL restricts the record retrieval","message":"No Record found"},"status":"failure"}`},
	}
	for i, s := range steps {
		if status, got, _ := in.do(s.method, s.path, s.body); status != s.status || show(got) != s.answer {
			t.Errorf("step %d, %s: %d %s, want %d %s", i, s.method, status, show(got), s.status, s.answer)
		}
	}
	if s := in.Kit().Stats(); s.WritesTo["customer_account/"+id] != 6 || s.Operations["GET /api/now/table/{table}"] == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPagesAndInvalidQueries(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		in := start(t, servicenowtwin.Options{ReturnsNoRows: strict})
		for i := range 7 {
			in.edit("", map[string]any{"name": fmt.Sprint("A", i)})
		}
		want := map[bool]int{false: 7, true: 0}[strict]
		if _, got, _ := in.do("GET", list("no_such_field=1"), ""); len(got["result"].([]any)) != want {
			t.Errorf("an invalid query found %d rows, want %d", len(got["result"].([]any)), want)
		}
		_, got, header := in.do("GET", list("ORDERBYname", "sysparm_limit=3", "sysparm_offset=3"), "")
		link := header.Get("Link")
		if len(got["result"].([]any)) != 3 || header.Get("X-Total-Count") != "7" || !strings.Contains(link, `sysparm_offset=6&sysparm_query=ORDERBYname>;rel="next"`) ||
			!strings.Contains(link, `rel="prev"`) || !strings.Contains(link, `rel="first"`) || !strings.Contains(link, `rel="last"`) {
			t.Errorf("page: %s, %v", show(got), header)
		}
		_, _, header = in.do("GET", list("", "sysparm_limit=3", "sysparm_no_count=true", "sysparm_suppress_pagination_header=true"), "")
		if header.Get("Link") != "" || header.Get("X-Total-Count") != "" {
			t.Errorf("headers that were declined: %v", header)
		}
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	for i, city := range []string{"Bern", "Bern", "Rome", ""} {
		in.edit("", map[string]any{"name": fmt.Sprint("A", i), "city": city, "u_credit_limit": fmt.Sprint(10 * i)})
	}
	for query, want := range map[string]string{
		"sysparm_count=true": `{"result":{"stats":{"count":"4"}}}`,
		"sysparm_count=true&sysparm_query=" + url.QueryEscape("city=Bern"): `{"result":{"stats":{"count":"2"}}}`,
		"sysparm_count=true&sysparm_group_by=city":                         `{"result":[{"groupby_fields":[{"field":"city","value":""}],"stats":{"count":"1"}},{"groupby_fields":[{"field":"city","value":"Bern"}],"stats":{"count":"2"}},{"groupby_fields":[{"field":"city","value":"Rome"}],"stats":{"count":"1"}}]}`,
		"sysparm_sum_fields=u_credit_limit&sysparm_avg_fields=u_credit_limit&sysparm_min_fields=u_credit_limit,name&sysparm_max_fields=u_credit_limit": `{"result":{"stats":{"avg":{"u_credit_limit":"15.0000"},"max":{"u_credit_limit":"30"},"min":{"name":"A0","u_credit_limit":"0"},"sum":{"u_credit_limit":"60"}}}}`,
	} {
		if status, got, _ := in.do("GET", "/api/now/stats/customer_account?"+query, ""); status != 200 || show(got) != want {
			t.Errorf("%s: %d %s, want %s", query, status, show(got), want)
		}
	}
	in.Hide(servicenow.Account, in.edit("", map[string]any{"name": "Hidden", "city": "Oslo"}), true)
	for query, want := range map[string]int{"": 403, "&sysparm_query=" + url.QueryEscape("city=Bern"): 200} {
		if status, got, _ := in.do("GET", "/api/now/stats/customer_account?sysparm_count=true"+query, ""); status != want {
			t.Errorf("%s: %d %s, want %d: one record is hidden", query, status, show(got), want)
		}
	}
}

func TestImportSets(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	load := func(body string) map[string]any {
		t.Helper()
		status, got, _ := in.do("POST", "/api/now/import/u_sorrel_customer_account", body)
		if status != 201 {
			t.Fatalf("%d %s", status, show(got))
		}
		return got["result"].([]any)[0].(map[string]any)
	}
	made := load(`{"u_name":"Acme","u_city":"Bern","u_sorrel_id":"Customer-1","u_tax_id":"T"}`)
	id := made["sys_id"].(string)
	if got, _ := in.Get(servicenow.Account, id); made["status"] != "inserted" || made["display_value"] != "Acme" || got["u_tax_id"] != "T" || got["city"] != "Bern" {
		t.Errorf("%v made %v", made, got)
	}
	again := load(`{"u_name":"Acme AG","u_city":"","u_sorrel_id":"customer-1"}`) // coalesces regardless of case; empty is not copied
	if got, _ := in.Get(servicenow.Account, id); again["status"] != "updated" || again["sys_id"] != id || got["name"] != "Acme AG" || got["city"] != "Bern" {
		t.Errorf("%v made %v", again, got)
	}
	if same := load(`{"u_name":"Acme AG","u_sorrel_id":"customer-1"}`); same["status"] != "ignored" || same["sys_id"] != id {
		t.Errorf("the same row again: %v", same)
	}
	if bad := load(`{"u_city":"Rome","u_sorrel_id":"customer-2"}`); bad["status"] != "error" || !strings.Contains(bad["error_message"].(string), "mandatory: Name") {
		t.Errorf("a row without name: %v", bad)
	}
	status, got, _ := in.do("POST", "/api/now/import/u_sorrel_customer_account/insertMultiple", `{"records":[{"u_name":"B","u_sorrel_id":"b"},{"u_name":"C","u_sorrel_id":"c"}]}`)
	if status != 201 || got["import_set_id"] == nil || got["result"] != nil || len(in.All(servicenow.Account)) != 3 {
		t.Errorf("many: %d %s, %d records", status, show(got), len(in.All(servicenow.Account)))
	}
	if status, got, _ := in.do("POST", "/api/now/import/u_other", `{}`); status != 400 || !strings.Contains(show(got), "Invalid table u_other") {
		t.Errorf("another staging table: %d %s", status, show(got))
	}
}

func TestPersonAndRules(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	for name, fields := range map[string]map[string]any{"unknown field": {"name": "A", "u_nonsense": "x"}, "no name": {"city": "Bern"}} {
		if _, err := in.Edit(servicenow.Account, "", fields); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := in.AddField(servicenow.Account, servicenowtwin.Field{Name: "u_nonsense", Default: "d"}); err != nil {
		t.Fatal(err)
	}
	id := in.edit("", map[string]any{"name": "A", "u_sorrel_id": "one", "account_parent": map[string]any{"link": "x", "value": "p"}, "revenue_per_year": 12.5, "partner": true})
	got, _ := in.Get(servicenow.Account, id)
	if got["u_nonsense"] != "d" || got["sys_updated_by"] != servicenowtwin.Person || got["account_parent"] != "p" || got["revenue_per_year"] != "12.5" || got["partner"] != "true" {
		t.Errorf("%v", got)
	}
	if _, err := in.Edit(servicenow.Account, "", map[string]any{"name": "B", "u_sorrel_id": "ONE"}); err == nil || !strings.Contains(err.Error(), "Unique Key violation") {
		t.Errorf("a second record with the id: %v", err)
	}
	if err := in.Delete(servicenow.Account, id); err != nil {
		t.Fatal(err)
	}
	in.edit("", map[string]any{"name": "B", "u_sorrel_id": "one"}) // the id is free again
	if err := in.Delete(servicenow.Account, id); err == nil {
		t.Error("a deleted record was deleted")
	}
	if _, err := in.Edit(servicenow.Account, id, nil); err == nil {
		t.Error("a deleted record was edited")
	}
	if err := in.AddField("nonsense", servicenowtwin.Field{Name: "x"}); err == nil {
		t.Error("an unknown table took a field")
	}
}

func TestActsOverHTTP(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	_, made, _ := in.do("POST", "/_twin/edit", `{"object":"customer_account","fields":{"name":"Acme"}}`)
	id, _ := made["id"].(string)
	steps := []struct {
		path, body, says string
		status           int
	}{
		{"/_twin/field", `{"object":"customer_account","field":{"name":"u_x","type":"decimal"}}`, "u_x", 200},
		{"/_twin/edit", `{"object":"customer_account","id":"` + id + `","fields":{"u_x":1.5}}`, id, 200},
		{"/_twin/edit", `{"object":"customer_account","fields":{"u_y":"1"}}`, "u_y", 400},
		{"/_twin/edit", `{`, "error", 400},
		{"/_twin/delete", `{"object":"customer_account","id":"` + id + `"}`, id, 200},
		{"/_twin/delete", `{"object":"customer_account","id":"` + id + `"}`, "no customer_account", 400},
		{"/_twin/reset", ``, "{}", 200},
	}
	for i, s := range steps {
		if status, got, _ := in.do("POST", s.path, s.body); status != s.status || !strings.Contains(show(got), s.says) {
			t.Errorf("step %d: %d %s", i, status, show(got))
		}
	}
	if _, got, _ := in.do("GET", "/_twin/state", ""); show(got) != `{"customer_account":[],"customer_contact":[],"sn_customerservice_case":[]}` {
		t.Errorf("after the reset: %s", show(got))
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{TokenLife: time.Minute})
	cr := in.Credentials()
	sign := func(grant, secret string) (int, string, float64) {
		t.Helper()
		resp, err := http.PostForm(in.url+"/oauth_token.do", url.Values{"grant_type": {grant}, "client_id": {cr.ClientID}, "client_secret": {secret}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var m struct {
			AccessToken string  `json:"access_token"`
			ExpiresIn   float64 `json:"expires_in"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, m.AccessToken, m.ExpiresIn
	}
	read := func(header string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", in.url+"/api/now/table/customer_account", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	_, first, life := sign("client_credentials", cr.ClientSecret)
	in.clock.Advance(20 * time.Second)
	_, second, left := sign("client_credentials", cr.ClientSecret)
	if first == "" || first != second || life != 60 || left != 40 {
		t.Errorf("tokens %q with %v s and %q with %v s: want the same, with less life", first, life, second, left)
	}
	if read("Bearer "+first) != 200 {
		t.Error("a good token was refused")
	}
	in.clock.Advance(40 * time.Second)
	for _, header := range []string{"", "Bearer " + first, "Bearer ", "Basic eDp5"} {
		if status := read(header); status != 401 {
			t.Errorf("authorization %q: %d", header, status)
		}
	}
	if _, third, _ := sign("client_credentials", cr.ClientSecret); third == first || read("Bearer "+third) != 200 {
		t.Error("no fresh token after the first one's end")
	}
	for _, c := range [][2]string{{"client_credentials", "wrong"}, {"password", cr.ClientSecret}} {
		if status, token, _ := sign(c[0], c[1]); status != 401 || token != "" {
			t.Errorf("sign-in %v: %d", c, status)
		}
	}
}

func TestWebhooksAndNoops(t *testing.T) {
	t.Parallel()
	in := start(t, servicenowtwin.Options{})
	var got atomic.Int64
	var last atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		last.Store(string(b))
		got.Add(1)
		w.WriteHeader(500) // the kit does not try again
	}))
	t.Cleanup(srv.Close)
	in.Kit().SendTo(srv.URL)
	count := func(want int64) {
		t.Helper()
		if err := in.Kit().Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got.Load() != want {
			t.Errorf("%d webhooks, want %d", got.Load(), want)
		}
	}
	id := in.edit("", map[string]any{"name": "Acme"})
	count(1)
	in.edit(id, map[string]any{"name": "Acme"}) // changes nothing
	count(1)
	in.do("PATCH", "/api/now/table/customer_account/"+id, `{"city":"Bern"}`)
	count(2)
	if b := last.Load().(string); !strings.Contains(b, `"sys_updated_by":"sorrel.integration"`) || !strings.Contains(b, `"operation":"update"`) || !strings.Contains(b, `"city":"Bern"`) {
		t.Errorf("posted %s", b)
	}
	in.clock.Advance(time.Minute)
	if err := in.Delete(servicenow.Account, id); err != nil {
		t.Fatal(err)
	}
	count(3)
	if b := last.Load().(string); !strings.Contains(b, `"operation":"delete"`) || !strings.Contains(b, `"sys_mod_count":2`) || !strings.Contains(b, `"sys_updated_on":"2026-11-02 08:01:00"`) || strings.Contains(b, "fields") {
		t.Errorf("posted %s", b)
	}
	bare := start(t, servicenowtwin.Options{NoCustomSetup: true})
	bare.Kit().SendTo(srv.URL)
	bare.edit("", map[string]any{"name": "Acme"})
	count(3)
	in.Kit().SetFaults(twin.Faults{Throttle: 1, Limits: map[string]int{"calls": 100}})
	if status, got, header := in.do("GET", "/api/now/table/customer_account", ""); status != 429 || header.Get("Retry-After") == "" || header.Get("X-RateLimit-Rule") == "" || !strings.Contains(show(got), "per hour") {
		t.Errorf("throttled: %d %v %s", status, header, show(got))
	}
}
