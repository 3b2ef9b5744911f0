package zendesktwin_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

func TestUserOddities(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{Limits: zendesktwin.NoLimits()})
	ann, err := d.Edit(zendesk.User, "", map[string]any{"name": "Ann", "email": "ann@example.com", "external_id": "e-1"})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := d.Edit(zendesk.User, "", map[string]any{"name": "Agent", "role": "agent", "email": "agent@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := d.Edit(zendesk.User, "", map[string]any{"name": "Gone"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"no name", "POST", "/api/v2/users", `{"user":{"email":"x@example.com"}}`, 422, "BlankValue"},
		{"taken address", "POST", "/api/v2/users", `{"user":{"name":"x","email":"ANN@example.com"}}`, 422, "already being used by another user"},
		{"taken external id", "POST", "/api/v2/users", `{"user":{"name":"x","external_id":"E-1"}}`, 422, "DuplicateValue"},
		{"bad address", "POST", "/api/v2/users", `{"user":{"name":"x","email":"x"}}`, 422, "not properly formatted"},
		{"no such organization", "POST", "/api/v2/users", `{"user":{"name":"x","organization_id":5}}`, 422, "organization_id"},
		{"unknown field", "POST", "/api/v2/users", `{"user":{"name":"x","user_fields":{"colour":"x"}}}`, 422, "colour"},
		{"matched by address", "POST", "/api/v2/users/create_or_update", `{"user":{"name":"Ann L","email":"ann@example.com"}}`, 200, ann},
		{"matched by external id", "POST", "/api/v2/users/create_or_update", `{"user":{"name":"Ann L","external_id":"E-1"}}`, 200, `"E-1"`},
		{"second address", "PUT", "/api/v2/users/" + ann, `{"user":{"email":"two@example.com"}}`, 200, `"email":"ann@example.com"`},
		{"second address found", "GET", "/api/v2/users/search?query=email:two@example.com", "", 200, ann},
		{"by external id", "GET", "/api/v2/users/search?external_id=e-1", "", 200, ann},
		{"found", "GET", "/api/v2/search?query=type:user", "", 200, `"result_type":"user"`},
		{"agents cannot be merged", "PUT", "/api/v2/users/" + agent + "/merge", `{"user":{"id":` + ann + `}}`, 422, "Only end users"},
		{"merge into oneself", "PUT", "/api/v2/users/" + ann + "/merge", `{"user":{"id":` + ann + `}}`, 422, "not another user"},
		{"deleted", "DELETE", "/api/v2/users/" + gone, "", 200, `"active":false`},
		{"deleted is shown", "GET", "/api/v2/users/" + gone, "", 200, `"active":false`},
		{"deleted twice", "DELETE", "/api/v2/users/" + gone, "", 404, "RecordNotFound"},
		{"deleted is not updated", "PUT", "/api/v2/users/" + gone, `{"user":{"name":"x"}}`, 404, "RecordNotFound"},
		{"count", "GET", "/api/v2/users/count", "", 200, `"value":2`},
		{"many", "POST", "/api/v2/users/create_or_update_many", `{"users":[{"name":"Ann","external_id":"e-1"},{"name":"Bob"}]}`, 200, "job_status"},
		{"merge of no organization", "GET", "/api/v2/organizations/1/merges", "", 404, "RecordNotFound"},
	} {
		status, _, body := d.do(t, c.method, c.path, c.body)
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if status != c.status || !strings.Contains(string(b), c.says) {
			t.Errorf("%s: %d %s, want %d saying %q", c.name, status, b, c.status, c.says)
		}
	}
	if n := len(d.All(zendesk.User)); n != 3 {
		t.Errorf("%d users, want 3", n)
	}
}

func TestUserLimits(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	id, err := d.Edit(zendesk.User, "", map[string]any{"name": "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	put := func() (int, http.Header) {
		status, h, _ := d.do(t, "PUT", "/api/v2/users/"+id, `{"user":{"phone":"1"}}`)
		return status, h
	}
	if status, _ := put(); status != 200 {
		t.Fatal(status)
	}
	if status, h := put(); status != 429 || h.Get("Retry-After") != "1" || h.Get("X-Rate-Limit-Remaining") == "0" {
		t.Errorf("two writes of users in a second: %d %v", status, h)
	}
	for range 4 {
		d.clock.Advance(time.Second)
		if status, _ := put(); status != 200 {
			t.Errorf("one write a second: %d", status)
		}
	}
	d.clock.Advance(time.Second)
	if status, h := put(); status != 429 || h.Get("Retry-After") == "1" {
		t.Errorf("6th write of one user in a minute: %d %v", status, h)
	}
}

func TestUserEvents(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	url, got := receiver(t)
	d.Kit().SendTo(url)
	act := func(object, id string, fields map[string]any) string {
		id, err := d.Edit(object, id, fields)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	one, two := act(zendesk.Organization, "", map[string]any{"name": "One"}), act(zendesk.Organization, "", map[string]any{"name": "Two"})
	id := act(zendesk.User, "", map[string]any{"name": "Ann", "email": "ann@example.com", "organization_id": one})
	act(zendesk.User, id, map[string]any{"phone": "silent"})
	act(zendesk.User, id, map[string]any{"name": "Ann Lee", "email": "lee@example.com", "organization_id": two, "user_fields": map[string]any{"job_title": "Owner"}})
	act(zendesk.User, id, map[string]any{"email": "lee@example.com"}) // changes nothing
	act(zendesk.User, id, map[string]any{"email": nil})
	if err := d.Delete(zendesk.User, id); err != nil {
		t.Fatal(err)
	}
	if err := d.Kit().Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"organization.created": 2, "user.created": 1, "user.name_changed": 1, "user.identity_changed": 1, "user.custom_field_changed": 1,
		"user.organization_membership_deleted": 1, "user.organization_membership_created": 1, "user.identity_deleted": 1, "user.active_changed": 1, "user.deleted": 1}
	if k := kinds(got()); !reflect.DeepEqual(k, want) {
		t.Errorf("events %v, want %v", k, want)
	}
	for _, e := range got() {
		detail := e["detail"].(map[string]any)
		if _, named := detail["name"]; strings.HasPrefix(e["type"].(string), "zen:event-type:user.") && (named || detail["role"] != "end-user" || detail["default_group_id"] != "0" || detail["external_id"] != "") {
			t.Errorf("a user's detail: %v", detail)
		}
	}
}

func TestOrganizationMergeByAPI(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	var ids [2]string
	for i, name := range []string{"One", "Two"} {
		var err error
		if ids[i], err = d.Edit(zendesk.Organization, "", map[string]any{"name": name}); err != nil {
			t.Fatal(err)
		}
	}
	status, _, m := d.do(t, "POST", "/api/v2/organizations/"+ids[1]+"/merge", `{"organization_merge":{"winner_id":`+ids[0]+`}}`)
	merge, _ := m["organization_merge"].(map[string]any)
	if status != 200 || merge["status"] != "new" {
		t.Fatalf("%d %v", status, m)
	}
	_, _, m = d.do(t, "GET", "/api/v2/organization_merges/"+merge["id"].(string), "")
	if done := m["organization_merge"].(map[string]any); done["status"] != "complete" {
		t.Errorf("%v", m)
	}
	for _, id := range ids {
		if _, _, m = d.do(t, "GET", "/api/v2/organizations/"+id+"/merges", ""); len(m["organization_merges"].([]any)) != 1 {
			t.Errorf("merges of %s: %v", id, m)
		}
	}
	if status, _, _ := d.do(t, "GET", "/api/v2/organizations/"+ids[1], ""); status != 404 {
		t.Errorf("the loser answers %d", status)
	}
	if status, _, _ := d.do(t, "POST", "/api/v2/organizations/"+ids[0]+"/merge", `{"organization_merge":{"winner_id":`+ids[1]+`}}`); status != 422 {
		t.Errorf("a merge into a deleted organization: %d", status)
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{Limits: zendesktwin.NoLimits(), Normalise: func(object, field string, v any) any {
		s, ok := v.(string)
		switch {
		case ok && (field == "phone" || field == "organization_fields.erp_phone"):
			return strings.ReplaceAll(s, " ", "")
		case ok && object == zendesk.User && field == "email":
			return strings.ToLower(s)
		}
		return v
	}})
	id, err := d.Edit(zendesk.User, "", map[string]any{"name": "Ann", "email": "Ann@Example.com", "phone": "+34 91 5"})
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := d.Get(zendesk.User, id); m["email"] != "ann@example.com" || m["phone"] != "+34915" {
		t.Errorf("%v", m)
	}
	status, _, body := d.do(t, "POST", "/api/v2/organizations", `{"organization":{"name":" Acme  ","organization_fields":{"erp_phone":"1 2"}}}`)
	org, _ := body["organization"].(map[string]any)
	if status != 201 || org["name"] != "Acme" || org["organization_fields"].(map[string]any)["erp_phone"] != "12" {
		t.Errorf("%d %v; names of organizations are trimmed", status, body)
	}
	if status, _, _ := d.do(t, "POST", "/api/v2/organizations", `{"organization":{"name":"acme "}}`); status != 422 {
		t.Errorf("a name that differs by spaces and case: %d", status)
	}
}

func TestUserActsOverHTTP(t *testing.T) {
	t.Parallel()
	d := open(t, zendesktwin.Options{})
	made := func(path, body string) string {
		t.Helper()
		status, _, m := d.do(t, "POST", "/_twin/"+path, body)
		if status != 200 {
			t.Fatalf("%s: %d %v", path, status, m)
		}
		return m["id"].(string)
	}
	a, b := made("edit", `{"object":"user","fields":{"name":"Ann"}}`), made("edit", `{"object":"user","user":"8001","fields":{"name":"Ann"}}`)
	made("merge", `{"object":"user","winner":"`+a+`","loser":"`+b+`"}`)
	if got := d.All(zendesk.User); len(got) != 1 {
		t.Errorf("after the merge: %v", got)
	}
	made("picklist", `{"object":"organization","field":"segment","value":"segment_tiny"}`)
	made("edit", `{"object":"organization","fields":{"name":"Acme","organization_fields":{"segment":"segment_tiny"}}}`)
	made("field", `{"object":"user","field":{"key":"mood","title":"Mood","type":"text"}}`)
	made("edit", `{"object":"user","id":"`+a+`","fields":{"user_fields":{"mood":"fine"}}}`)
	for path, body := range map[string]string{"merge": `{"object":"user","winner":"` + a + `","loser":"` + b + `"}`, "edit": `{"object":"user","user":"x","fields":{"name":"y"}}`, "picklist": `{"object":"user","field":"none","value":"x"}`} {
		if status, _, m := d.do(t, "POST", "/_twin/"+path, body); status != 400 {
			t.Errorf("%s %s: %d %v", path, body, status, m)
		}
	}
}
