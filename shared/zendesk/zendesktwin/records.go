package zendesktwin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sorrel/shared/zendesk"
)

// living finds a record by the path's id, or answers 404.
func (c *call) living(object string) *row {
	if tb := c.t.tables[object]; tb != nil {
		if r := tb.rows[c.r.PathValue("id")]; r != nil && !r.gone {
			return r
		}
	}
	c.missing()
	return nil
}

// store saves by an API call and answers.
func (c *call) store(object, key string, r *row, in map[string]any) (*row, bool) {
	created := r == nil
	r, bad := c.t.save(object, r, in, client())
	if bad != nil {
		c.refuse(bad)
		return nil, false
	}
	c.t.kit.Wrote(object, r.id)
	body := map[string]any{key: r.data}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		c.w.Header().Set("Location", r.data["url"].(string))
	}
	if object == zendesk.Ticket {
		body["audit"] = r.audit[len(r.audit)-1]
	}
	c.answer(status, body)
	return r, true
}

// job answers a finished background job; its first look says "queued", as the vendor's.
func (c *call) job(total int, results []any) {
	id := strings.ReplaceAll(c.t.uuid(), "-", "")
	c.t.jobs[id] = map[string]any{"id": id, "url": "http://" + c.r.Host + "/api/v2/job_statuses/" + id + ".json", "total": total, "progress": total,
		"status": "completed", "message": "Completed", "results": results}
	c.answer(http.StatusOK, map[string]any{"job_status": map[string]any{"id": id, "url": c.t.jobs[id]["url"], "total": total, "progress": nil, "status": "queued", "message": nil, "results": nil}})
}

// row is a job's line for one record.
func (c *call) row(object string, i int, action string, r *row, in map[string]any) any {
	r, bad := c.t.save(object, r, in, client())
	if bad != nil {
		return map[string]any{"index": i, "error": "RecordInvalid", "details": bad}
	}
	c.t.kit.Wrote(object, r.id)
	return map[string]any{"index": i, "id": r.data["id"], "action": action, "status": "Success", "success": true}
}

func (t *Twin) organizationRoutes(mux *http.ServeMux) {
	const object, path = zendesk.Organization, "/api/v2/organizations"
	tb := func() *table { return t.tables[object] }
	update := func(c *call, r *row, in map[string]any) {
		if t.within(c, "update-organization/"+r.id, t.opt.Limits.UpdateOrganization, time.Minute, "Number of allowed organization updates per minute exceeded") {
			c.store(object, "organization", r, in)
		}
	}
	t.route(mux, "GET "+path, func(c *call) { c.list("organizations", tb().order, false) })
	t.route(mux, "GET "+path+"/count", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"count": map[string]any{"value": len(slices.DeleteFunc(slices.Clone(tb().order), func(r *row) bool { return r.gone })), "refreshed_at": stamp(t.now())}})
	})
	t.route(mux, "GET "+path+"/{id}", func(c *call) {
		if r := c.living(object); r != nil {
			c.answer(http.StatusOK, map[string]any{"organization": r.data})
		}
	})
	t.route(mux, "GET "+path+"/search", func(c *call) {
		q := c.r.URL.Query()
		switch {
		case q.Has("external_id"):
			c.list("organizations", pick(tb().external, strings.ToLower(q.Get("external_id")), true), false)
		case q.Has("name"):
			c.list("organizations", pick(tb().names, strings.ToLower(q.Get("name")), true), false)
		default:
			c.bad("ParameterMissing", "external_id or name is required")
		}
	})
	t.route(mux, "GET "+path+"/show_many", func(c *call) {
		if q := c.r.URL.Query(); q.Has("external_ids") {
			c.list("organizations", pick(tb().external, q.Get("external_ids"), true), false)
		} else {
			c.list("organizations", pick(tb().rows, q.Get("ids"), false), false)
		}
	})
	t.route(mux, "POST "+path, func(c *call) {
		if in := c.object("organization"); in != nil {
			c.store(object, "organization", nil, in)
		}
	})
	t.route(mux, "PUT "+path+"/{id}", func(c *call) {
		if in := c.object("organization"); in != nil {
			if r := c.living(object); r != nil {
				update(c, r, in)
			}
		}
	})
	t.route(mux, "POST "+path+"/create_or_update", func(c *call) {
		in := c.object("organization")
		if in == nil {
			return
		}
		var r *row
		if id, ok := in["id"].(json.Number); ok {
			r = tb().rows[id.String()]
		} else if e, ok := in["external_id"].(string); ok {
			r = tb().external[strings.ToLower(e)]
		}
		if r != nil && !r.gone {
			update(c, r, in)
			return
		}
		c.store(object, "organization", nil, in)
	})
	many := func(c *call) []any {
		list, ok := c.body["organizations"].([]any)
		if !ok || len(list) > 100 {
			c.bad("ParameterMissing", "organizations is required: at most 100")
			return nil
		}
		return list
	}
	t.route(mux, "POST "+path+"/create_many", func(c *call) {
		list := many(c)
		if list == nil {
			return
		}
		results := []any{}
		for i, a := range list {
			in, _ := a.(map[string]any)
			results = append(results, c.row(object, i, "create", nil, in))
		}
		c.job(len(list), results)
	})
	t.route(mux, "PUT "+path+"/update_many", func(c *call) {
		list := many(c)
		if list == nil {
			return
		}
		results := []any{}
		for i, a := range list {
			in, _ := a.(map[string]any)
			id, _ := in["id"].(json.Number)
			r := tb().rows[id.String()]
			if r == nil || r.gone {
				results = append(results, map[string]any{"index": i, "error": "OrganizationNotFound", "details": "Organization does not exist"})
				continue
			}
			results = append(results, c.row(object, i, "update", r, in))
		}
		c.job(len(list), results)
	})
	t.route(mux, "DELETE "+path+"/{id}", func(c *call) {
		if r := c.living(object); r != nil {
			t.remove(object, r, integrator)
			c.answer(http.StatusNoContent, nil)
		}
	})
	mergeOf := func(m map[string]any) map[string]any { return map[string]any{"organization_merge": m} }
	t.route(mux, "POST "+path+"/{id}/merge", func(c *call) {
		in := c.object("organization_merge")
		if in == nil {
			return
		}
		loser, w := c.living(object), tb().rows[fmt.Sprint(in["winner_id"])]
		switch {
		case loser == nil:
		case w == nil || w.gone || w == loser:
			bad := invalid{}
			bad.add("winner_id", "InvalidValue", "Winner: is not another organization")
			c.refuse(bad)
		default:
			m := maps.Clone(t.mergeOrganizations(w, loser, integrator))
			m["status"] = "new" // the work is done later; here it is done by the next look
			c.answer(http.StatusOK, mergeOf(m))
		}
	})
	t.route(mux, "GET "+path+"/{id}/merges", func(c *call) {
		if tb().rows[c.r.PathValue("id")] == nil {
			c.missing()
			return
		}
		out := []any{}
		for _, m := range t.merges {
			if id := c.r.PathValue("id"); fmt.Sprint(m["winner_id"]) == id || fmt.Sprint(m["loser_id"]) == id {
				out = append(out, m)
			}
		}
		c.answer(http.StatusOK, map[string]any{"organization_merges": out, "meta": map[string]any{"has_more": false}, "links": map[string]any{"next": nil, "prev": nil}})
	})
	t.route(mux, "GET /api/v2/organization_merges/{id}", func(c *call) {
		for _, m := range t.merges {
			if m["id"] == c.r.PathValue("id") {
				c.answer(http.StatusOK, mergeOf(m))
				return
			}
		}
		c.missing()
	})
	t.route(mux, "GET /api/v2/organization_fields", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"organization_fields": fieldList(tb()), "count": len(tb().fields), "next_page": nil, "previous_page": nil})
	})
	t.route(mux, "POST /api/v2/organization_fields", func(c *call) { c.define(tb(), "organization_field") })
}

func fieldList(tb *table) []any {
	out := []any{}
	for _, f := range tb.fields {
		out = append(out, f.show())
	}
	return out
}

func (f Field) show() map[string]any {
	m := map[string]any{"key": f.Key, "title": f.Title, "type": f.Type, "active": true}
	if f.hasOptions() {
		opts := []any{}
		for _, o := range f.Options {
			opts = append(opts, map[string]any{"name": o, "value": o})
		}
		m["custom_field_options"] = opts
	}
	if f.Target != "" {
		m["relationship_target_type"] = f.Target
	}
	return m
}

// define adds a custom field from an API body.
func (c *call) define(tb *table, key string) {
	in := c.object(key)
	if in == nil {
		return
	}
	f := Field{}
	f.Key, _ = in["key"].(string)
	f.Title, _ = in["title"].(string)
	f.Type, _ = in["type"].(string)
	f.Target, _ = in["relationship_target_type"].(string)
	options, _ := in["custom_field_options"].([]any)
	for _, o := range options {
		m, _ := o.(map[string]any)
		v, _ := m["value"].(string)
		f.Options = append(f.Options, v)
	}
	bad := invalid{}
	if f.Key == "" || slices.ContainsFunc(tb.fields, func(x Field) bool { return x.Key == f.Key }) {
		bad.add("key", "DuplicateValue", "Key: is blank or already taken")
	}
	if f.Title == "" {
		bad.add("title", "BlankValue", "Title: cannot be blank")
	}
	if !slices.Contains([]string{"text", "textarea", "dropdown", "integer", "decimal", "date", "checkbox", "lookup", "regexp"}, f.Type) {
		bad.add("type", "InvalidValue", "Type: is not valid")
	}
	if (f.Type == "lookup") != (f.Target != "") || (f.Type == "dropdown") != (len(f.Options) > 0) {
		bad.add("type", "InvalidValue", "Type: a lookup needs relationship_target_type, a dropdown custom_field_options")
	}
	if len(tb.fields) >= 100 {
		bad.add("base", "TooMany", "Fields: at most 100")
	}
	if len(bad) > 0 {
		c.refuse(bad)
		return
	}
	tb.fields = append(tb.fields, f)
	c.answer(http.StatusCreated, map[string]any{key: f.show()})
}

func (t *Twin) customRoutes(mux *http.ServeMux) {
	const path = "/api/v2/custom_objects"
	on := func(handle func(*call, string, *table)) func(*call) {
		return func(c *call) {
			object := "custom_object/" + c.r.PathValue("key")
			if tb := t.tables[object]; tb != nil {
				handle(c, object, tb)
				return
			}
			c.missing()
		}
	}
	show := func(tb *table) map[string]any {
		return map[string]any{"key": tb.key, "title": tb.title, "title_pluralized": tb.plural, "created_at": stamp(tb.made), "updated_at": stamp(tb.made)}
	}
	t.route(mux, "GET "+path, func(c *call) {
		out := []any{}
		for _, tb := range t.tables {
			if tb.key != "" {
				out = append(out, show(tb))
			}
		}
		c.answer(http.StatusOK, map[string]any{"custom_objects": out})
	})
	t.route(mux, "POST "+path, func(c *call) {
		in := c.object("custom_object")
		if in == nil {
			return
		}
		key, _ := in["key"].(string)
		title, _ := in["title"].(string)
		plural, _ := in["title_pluralized"].(string)
		bad := invalid{}
		if key == "" || t.tables["custom_object/"+key] != nil {
			bad.add("key", "DuplicateValue", "Key: is blank or already taken")
		}
		if title == "" || plural == "" {
			bad.add("title", "BlankValue", "Title and plural: cannot be blank")
		}
		if len(bad) > 0 {
			c.refuse(bad)
			return
		}
		c.answer(http.StatusCreated, map[string]any{"custom_object": show(t.object(key, title, plural))})
	})
	t.route(mux, "GET "+path+"/{key}", on(func(c *call, _ string, tb *table) { c.answer(http.StatusOK, map[string]any{"custom_object": show(tb)}) }))
	t.route(mux, "GET "+path+"/{key}/fields", on(func(c *call, _ string, tb *table) {
		c.answer(http.StatusOK, map[string]any{"custom_object_fields": fieldList(tb)})
	}))
	t.route(mux, "POST "+path+"/{key}/fields", on(func(c *call, _ string, tb *table) { c.define(tb, "custom_object_field") }))

	const one = "custom_object_record"
	records := path + "/{key}/records"
	t.route(mux, "GET "+records, on(func(c *call, _ string, tb *table) {
		q := c.r.URL.Query()
		switch {
		case q.Has("filter[ids]"):
			c.list(one+"s", pick(tb.rows, q.Get("filter[ids]"), false), true)
		case q.Has("filter[external_ids]"): // these are case-sensitive
			c.list(one+"s", slices.DeleteFunc(pick(tb.external, q.Get("filter[external_ids]"), true), func(r *row) bool {
				return !slices.Contains(strings.Split(q.Get("filter[external_ids]"), ","), r.data["external_id"].(string))
			}), true)
		default:
			c.list(one+"s", tb.order, true)
		}
	}))
	t.route(mux, "GET "+records+"/count", on(func(c *call, _ string, tb *table) {
		n := len(slices.DeleteFunc(slices.Clone(tb.order), func(r *row) bool { return r.gone }))
		c.answer(http.StatusOK, map[string]any{"count": map[string]any{"value": n, "refreshed_at": stamp(t.now())}})
	}))
	t.route(mux, "GET "+records+"/search", on(func(c *call, _ string, tb *table) {
		query := strings.ToLower(c.r.URL.Query().Get("query"))
		var hits []*row
		for _, r := range tb.order {
			if b, err := json.Marshal(r.data); err == nil && strings.Contains(strings.ToLower(string(b)), query) {
				hits = append(hits, r)
			}
		}
		c.list(one+"s", hits, true)
	}))
	t.route(mux, "POST "+records, on(func(c *call, object string, tb *table) {
		if in := c.object(one); in != nil {
			c.store(object, one, nil, in)
		}
	}))
	t.route(mux, "PATCH "+records, on(func(c *call, object string, tb *table) {
		in, e := c.object(one), c.r.URL.Query().Get("external_id")
		switch {
		case in == nil:
		case e == "":
			c.bad("ParameterMissing", "external_id is required")
		default:
			in["external_id"] = e
			c.store(object, one, tb.external[strings.ToLower(e)], in)
		}
	}))
	t.route(mux, "GET "+records+"/{id}", on(func(c *call, object string, _ *table) {
		if r := c.living(object); r != nil {
			c.answer(http.StatusOK, map[string]any{one: r.data})
		}
	}))
	t.route(mux, "PATCH "+records+"/{id}", on(func(c *call, object string, _ *table) {
		if in := c.object(one); in != nil {
			if r := c.living(object); r != nil {
				c.store(object, one, r, in)
			}
		}
	}))
	t.route(mux, "DELETE "+records+"/{id}", on(func(c *call, object string, _ *table) {
		if r := c.living(object); r != nil {
			t.remove(object, r, integrator)
			c.answer(http.StatusNoContent, nil)
		}
	}))
	t.route(mux, "POST "+path+"/{key}/jobs", on(func(c *call, object string, tb *table) {
		job := c.object("job")
		if job == nil {
			return
		}
		items, _ := job["items"].([]any)
		action, _ := job["action"].(string)
		if len(items) == 0 || len(items) > 100 || !slices.Contains([]string{"create", "create_or_update_by_external_id"}, action) {
			c.bad("ParameterMissing", "job needs 1 to 100 items and the action create or create_or_update_by_external_id")
			return
		}
		results := []any{}
		for i, a := range items {
			in, _ := a.(map[string]any)
			var r *row
			if e, ok := in["external_id"].(string); ok && action != "create" {
				r = tb.external[strings.ToLower(e)]
			}
			results = append(results, c.row(object, i, action, r, in))
		}
		c.job(len(items), results)
	}))
}

// idempotencyLife is how long a key is remembered.
const idempotencyLife = 2 * time.Hour

func (t *Twin) ticketRoutes(mux *http.ServeMux) {
	const object, path = zendesk.Ticket, "/api/v2/tickets"
	tb := func() *table { return t.tables[object] }
	t.route(mux, "GET "+path, func(c *call) {
		if !t.within(c, "tickets-index", t.opt.Limits.ListTickets, time.Minute, "Number of allowed API requests per minute exceeded") {
			return
		}
		rows := tb().order
		if e := c.r.URL.Query().Get("external_id"); e != "" { // not unique
			rows = slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.data["external_id"] != any(e) })
		}
		c.list("tickets", rows, false)
	})
	t.route(mux, "GET "+path+"/count", func(c *call) {
		n := len(slices.DeleteFunc(slices.Clone(tb().order), func(r *row) bool { return r.gone }))
		c.answer(http.StatusOK, map[string]any{"count": map[string]any{"value": n, "refreshed_at": stamp(t.now())}})
	})
	t.route(mux, "GET "+path+"/show_many", func(c *call) { c.list("tickets", pick(tb().rows, c.r.URL.Query().Get("ids"), false), false) })
	t.route(mux, "GET "+path+"/{id}", func(c *call) {
		if r := c.living(object); r != nil {
			c.answer(http.StatusOK, map[string]any{"ticket": r.data})
		}
	})
	t.route(mux, "GET "+path+"/{id}/comments", func(c *call) {
		if r := c.living(object); r != nil {
			c.answer(http.StatusOK, map[string]any{"comments": append([]map[string]any{}, r.sub...), "count": len(r.sub), "next_page": nil, "previous_page": nil})
		}
	})
	t.route(mux, "GET "+path+"/{id}/audits", func(c *call) {
		if r := c.living(object); r != nil {
			c.answer(http.StatusOK, map[string]any{"audits": append([]map[string]any{}, r.audit...), "count": len(r.audit), "next_page": nil, "previous_page": nil})
		}
	})
	t.route(mux, "POST "+path, func(c *call) {
		in, key := c.object("ticket"), c.r.Header.Get("Idempotency-Key")
		if in == nil {
			return
		}
		if old, ok := t.keys[key]; ok && key != "" && t.opt.Now().Before(old.at.Add(idempotencyLife)) {
			if old.request != string(c.raw) {
				c.bad("IdempotentRequestError", "Request parameters don't match the given idempotency key")
				return
			}
			c.w.Header().Set("X-Idempotency-Lookup", "hit")
			c.answer(http.StatusCreated, json.RawMessage(old.answer))
			return
		}
		if len(key) > 255 {
			c.bad("IdempotentRequestError", "Idempotency-Key is longer than 255 characters")
			return
		}
		if comment, ok := in["comment"].(map[string]any); ok && in["description"] == nil {
			in["description"] = comment["body"]
		}
		if key != "" {
			c.w.Header().Set("X-Idempotency-Lookup", "miss")
		}
		r, ok := c.store(object, "ticket", nil, in)
		if !ok || key == "" {
			return
		}
		if b, err := json.Marshal(map[string]any{"ticket": r.data, "audit": r.audit[0]}); err == nil {
			t.keys[key] = replay{string(c.raw), b, t.opt.Now()}
		}
	})
	t.route(mux, "PUT "+path+"/{id}", func(c *call) {
		in := c.object("ticket")
		if in == nil {
			return
		}
		r := c.living(object)
		if r == nil {
			return
		}
		if !t.within(c, "tickets-update/"+r.id, t.opt.Limits.UpdateTicket, 10*time.Minute, "Number of allowed updates of this ticket exceeded") ||
			!t.within(c, "tickets-update", t.opt.Limits.UpdateTickets, time.Minute, "Number of allowed ticket updates per minute exceeded") {
			return
		}
		if _, safe := in["safe_update"]; safe && in["updated_stamp"] != r.data["updated_at"] { // any value asks for it
			c.answer(http.StatusConflict, map[string]any{"error": "UpdateConflict", "description": "Safe Update prevented the update due to outdated ticket data"})
			return
		}
		c.store(object, "ticket", r, in)
	})
	t.route(mux, "DELETE "+path+"/{id}", func(c *call) {
		if !t.within(c, "tickets-delete", t.opt.Limits.DeleteTickets, time.Minute, "Number of allowed ticket deletions per minute exceeded") {
			return
		}
		if r := c.living(object); r != nil {
			t.remove(object, r, integrator)
			c.answer(http.StatusNoContent, nil)
		}
	})
}
