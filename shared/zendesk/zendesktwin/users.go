package zendesktwin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sorrel/shared/zendesk"
)

// checkEmail validates an address for the user self (nil = a new one). "" is none.
func (t *Twin) checkEmail(address string, self *row, bad invalid) {
	name, domain, _ := strings.Cut(address, "@")
	switch other := t.tables[zendesk.User].emails[strings.ToLower(address)]; {
	case address == "":
	case name == "" || !strings.Contains(domain, ".") || strings.ContainsAny(address, " \t,;"):
		bad.add("email", "InvalidFormat", "Email: "+address+" is not properly formatted")
	case other != nil && other != self:
		bad.add("email", "DuplicateValue", "Email: "+address+" is already being used by another user")
	}
}

// address makes of a saved "email" what the vendor does: a new user's primary identity, else a second one. A person
// in the browser changes the primary one. It returns how to announce that, or nil if there is nothing to tell.
func (t *Twin) address(r *row, data map[string]any, address string, by saver) func() {
	created := data["created_at"] == nil
	i := slices.IndexFunc(r.sub, func(i map[string]any) bool {
		return i["type"] == "email" && strings.EqualFold(i["value"].(string), address)
	})
	switch {
	case address == "" && by.person && data["email"] != nil:
		return t.dropIdentity(r, data, r.primary(), by.user)
	case address == "" || i >= 0 && !by.person:
		return nil
	case i >= 0:
		return t.makePrimary(r, data, r.sub[i], by.user)
	case by.person && r.primary() != nil:
		return t.changeIdentity(r, data, r.primary(), address, by.user)
	}
	say := t.addIdentity(r, data, "email", address, false, by.user)
	if created {
		return nil // the user's creation tells
	}
	return say
}

// primary is a user's primary e-mail identity, or nil.
func (r *row) primary() map[string]any {
	for _, i := range r.sub {
		if i["type"] == "email" && i["primary"] == true {
			return i
		}
	}
	return nil
}

func brief(i map[string]any) map[string]any {
	return map[string]any{"id": loud("", i["id"]), "type": i["type"], "value": i["value"], "primary": i["primary"]}
}

// The following change r's identities and data["email"], and return how to announce that once data is r's.

func (t *Twin) addIdentity(r *row, data map[string]any, kind, value string, primary bool, actor int64) func() {
	now := stamp(t.now())
	i := map[string]any{"id": json.Number(t.nextID()), "user_id": data["id"], "type": kind, "value": value, "verified": false, "primary": false,
		"created_at": now, "updated_at": now, "undeliverable_count": 0, "deliverable_state": "deliverable"}
	r.sub = append(r.sub, i)
	if kind == "email" {
		t.tables[zendesk.User].emails[strings.ToLower(value)] = r
		if primary || r.primary() == nil {
			t.makePrimary(r, data, i, actor)
		}
	}
	return func() {
		t.push(zendesk.User, r.data, "identity_created", map[string]any{"identity": brief(i)}, actor)
	}
}

func (t *Twin) makePrimary(r *row, data map[string]any, to map[string]any, actor int64) func() {
	was := brief(to)
	for _, i := range r.sub {
		if i["type"] == "email" {
			i["primary"] = false
		}
	}
	to["primary"], to["updated_at"], data["email"] = true, stamp(t.now()), to["value"]
	if was["primary"] == true {
		return nil
	}
	return t.identityChanged(r, was, brief(to), actor)
}

func (t *Twin) changeIdentity(r *row, data map[string]any, i map[string]any, value string, actor int64) func() {
	was := brief(i)
	if was["value"] == value {
		return nil
	}
	if i["type"] == "email" {
		index(t.tables[zendesk.User].emails, i["value"], value, r)
		if i["primary"] == true {
			data["email"] = value
		}
	}
	i["value"], i["updated_at"] = value, stamp(t.now())
	return t.identityChanged(r, was, brief(i), actor)
}

func (t *Twin) dropIdentity(r *row, data map[string]any, i map[string]any, actor int64) func() {
	r.sub = slices.DeleteFunc(r.sub, func(x map[string]any) bool { return x["id"] == i["id"] })
	if i["type"] == "email" {
		index(t.tables[zendesk.User].emails, i["value"], nil, r)
	}
	if i["type"] == "email" && i["primary"] == true {
		data["email"] = nil
		for _, x := range r.sub {
			if x["type"] == "email" {
				t.makePrimary(r, data, x, actor)
				break
			}
		}
	}
	return func() {
		t.push(zendesk.User, r.data, "identity_deleted", map[string]any{"identity": brief(i)}, actor)
	}
}

func (t *Twin) identityChanged(r *row, was, is map[string]any, actor int64) func() {
	return func() {
		t.push(zendesk.User, r.data, "identity_changed", map[string]any{"current": is, "previous": was}, actor)
	}
}

// identities changes a user through the identities API: the user's own time moves with it.
func (t *Twin) identities(r *row, change func(data map[string]any) func()) {
	data := clone(r.data).(map[string]any)
	say := change(data)
	if say == nil {
		return
	}
	data["updated_at"] = stamp(t.now())
	r.data = data
	t.touch(t.tables[zendesk.User], r)
	t.kit.Wrote(zendesk.User, r.id)
	say()
}

// rehome moves users and tickets from an organization that is no more to another one, or to none.
func (t *Twin) rehome(from, to *row, actor int64) {
	var id any
	if to != nil {
		id = to.data["id"]
	}
	for _, object := range []string{zendesk.User, zendesk.Ticket} {
		t.reassign(object, "organization_id", from.data["id"], id, actor)
	}
}

// reassign sets a field of all living records that have the value was. A closed ticket keeps it.
func (t *Twin) reassign(object, field string, was, is any, actor int64) {
	for _, r := range t.tables[object].order {
		if !r.gone && r.data[field] == was {
			_, _ = t.save(object, r, map[string]any{field: is}, person(actor)) // refused for a closed ticket
		}
	}
}

// mergeOrganizations moves users, tickets and domain names to the winner and deletes the loser. Other values are lost.
// https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#merge-organization-with-another-organization
func (t *Twin) mergeOrganizations(w, l *row, actor int64) map[string]any {
	id := t.ulid()
	m := map[string]any{"id": id, "url": "https://twin.zendesk.com/api/v2/organization_merges/" + id + ".json", "loser_id": l.data["id"], "winner_id": w.data["id"], "status": "complete"}
	t.merges = append(t.merges, m)
	t.rehome(l, w, actor)
	domains, _ := w.data["domain_names"].([]any)
	more, _ := l.data["domain_names"].([]any)
	if len(more) > 0 {
		_, _ = t.save(zendesk.Organization, w, map[string]any{"domain_names": slices.Concat(domains, more)}, person(actor)) // both lists were valid
	}
	t.remove(zendesk.Organization, l, actor)
	return m
}

// mergeUsers moves e-mail addresses and requested tickets to the winner and deletes the loser. Other values are lost.
// https://support.zendesk.com/hc/en-us/articles/4408887695898
func (t *Twin) mergeUsers(w, l *row, actor int64) invalid {
	bad := invalid{}
	if w.data["role"] != "end-user" || l.data["role"] != "end-user" {
		bad.add("base", "InvalidValue", "Only end users can be merged")
		return bad
	}
	l.data = clone(l.data).(map[string]any)
	moved := slices.Clone(l.sub)
	for len(l.sub) > 0 {
		t.dropIdentity(l, l.data, l.sub[0], actor)
	}
	for _, i := range moved {
		t.identities(w, func(data map[string]any) func() {
			return t.addIdentity(w, data, i["type"].(string), i["value"].(string), false, actor)
		})
	}
	t.reassign(zendesk.Ticket, "requester_id", l.data["id"], w.data["id"], actor)
	t.remove(zendesk.User, l, actor)
	t.push(zendesk.User, l.data, "merged", map[string]any{"user": map[string]any{"id": loud("", w.data["id"])}}, actor)
	return nil
}

func (t *Twin) userRoutes(mux *http.ServeMux) {
	const object, path = zendesk.User, "/api/v2/users"
	tb := func() *table { return t.tables[object] }
	write := func(c *call, r *row, in map[string]any) {
		if !t.within(c, "create-update-user", t.opt.Limits.UserWrites, time.Second, "Number of allowed creates and updates of users per second exceeded") ||
			r != nil && !t.within(c, "create-update-user/"+r.id, t.opt.Limits.UpdateUser, time.Minute, "Number of allowed updates of this user per minute exceeded") {
			return
		}
		c.store(object, "user", r, in)
	}
	// match finds whom create_or_update means: by external id, else by e-mail address.
	match := func(in map[string]any) *row {
		if e, ok := in["external_id"].(string); ok && tb().external[strings.ToLower(e)] != nil {
			return tb().external[strings.ToLower(e)]
		}
		e, _ := in["email"].(string)
		return tb().emails[strings.ToLower(e)]
	}
	t.route(mux, "GET "+path, func(c *call) {
		rows := tb().order
		if q := c.r.URL.Query(); q.Has("role") || q.Has("external_id") {
			rows = slices.DeleteFunc(slices.Clone(rows), func(r *row) bool {
				return q.Has("role") && r.data["role"] != q.Get("role") || q.Has("external_id") && r.data["external_id"] != any(q.Get("external_id"))
			})
		}
		c.list("users", rows, false)
	})
	t.route(mux, "GET "+path+"/count", func(c *call) {
		n := len(slices.DeleteFunc(slices.Clone(tb().order), func(r *row) bool { return r.gone }))
		c.answer(http.StatusOK, map[string]any{"count": map[string]any{"value": n, "refreshed_at": stamp(t.now())}})
	})
	t.route(mux, "GET "+path+"/search", func(c *call) {
		q := c.r.URL.Query()
		if q.Has("external_id") {
			c.list("users", pick(tb().external, q.Get("external_id"), true), false)
			return
		}
		query := q.Get("query")
		if address, ok := strings.CutPrefix(query, "email:"); ok {
			c.list("users", pick(tb().emails, strings.Trim(address, `"`), true), false)
			return
		}
		c.list("users", t.hits(query, object), false)
	})
	t.route(mux, "GET "+path+"/show_many", func(c *call) {
		if q := c.r.URL.Query(); q.Has("external_ids") {
			c.list("users", pick(tb().external, q.Get("external_ids"), true), false)
		} else {
			c.list("users", pick(tb().rows, q.Get("ids"), false), false)
		}
	})
	t.route(mux, "GET "+path+"/{id}", func(c *call) { // a deleted one is shown too
		if r := tb().rows[c.r.PathValue("id")]; r != nil {
			c.answer(http.StatusOK, map[string]any{"user": r.data})
			return
		}
		c.missing()
	})
	t.route(mux, "POST "+path, func(c *call) {
		if in := c.object("user"); in != nil {
			write(c, nil, in)
		}
	})
	t.route(mux, "PUT "+path+"/{id}", func(c *call) {
		if in := c.object("user"); in != nil {
			if r := c.living(object); r != nil {
				write(c, r, in)
			}
		}
	})
	t.route(mux, "POST "+path+"/create_or_update", func(c *call) {
		if in := c.object("user"); in != nil {
			write(c, match(in), in)
		}
	})
	t.route(mux, "POST "+path+"/create_or_update_many", func(c *call) {
		list, ok := c.body["users"].([]any)
		if !ok || len(list) > 100 {
			c.bad("ParameterMissing", "users is required: at most 100")
			return
		}
		results := []any{}
		for i, a := range list {
			in, _ := a.(map[string]any)
			r, action := match(in), "update"
			if r == nil {
				action = "create"
			}
			results = append(results, c.row(object, i, action, r, in))
		}
		c.job(len(list), results)
	})
	t.route(mux, "DELETE "+path+"/{id}", func(c *call) {
		if r := c.living(object); r != nil {
			t.remove(object, r, integrator)
			t.kit.Wrote(object, r.id)
			c.answer(http.StatusOK, map[string]any{"user": r.data})
		}
	})
	t.route(mux, "PUT "+path+"/{id}/merge", func(c *call) {
		in, bad := c.object("user"), invalid{}
		if in == nil {
			return
		}
		loser, w := c.living(object), tb().rows[fmt.Sprint(in["id"])]
		switch {
		case loser == nil:
			return
		case w == nil || w.gone || w == loser:
			bad.add("id", "InvalidValue", "User: is not another user")
		default:
			bad = t.mergeUsers(w, loser, integrator)
		}
		if len(bad) > 0 {
			c.refuse(bad)
			return
		}
		c.answer(http.StatusOK, map[string]any{"user": w.data})
	})
	t.route(mux, "GET /api/v2/user_fields", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"user_fields": fieldList(tb()), "count": len(tb().fields), "next_page": nil, "previous_page": nil})
	})
	t.route(mux, "POST /api/v2/user_fields", func(c *call) { c.define(tb(), "user_field") })
	t.identityRoutes(mux, path+"/{id}/identities")
}

func (t *Twin) identityRoutes(mux *http.ServeMux, path string) {
	show := func(c *call, status int, i map[string]any) { c.answer(status, map[string]any{"identity": i}) }
	all := func(c *call, r *row, kind string) {
		out := []any{}
		for _, i := range r.sub {
			if kind == "" || i["type"] == kind {
				out = append(out, i)
			}
		}
		c.answer(http.StatusOK, map[string]any{"identities": out, "meta": map[string]any{"has_more": false}, "links": map[string]any{"next": nil, "prev": nil}})
	}
	on := func(handle func(c *call, r *row, i map[string]any)) func(*call) {
		return func(c *call) {
			r := c.living(zendesk.User)
			if r == nil {
				return
			}
			for _, i := range r.sub {
				if loud("", i["id"]) == c.r.PathValue("identity") {
					handle(c, r, i)
					return
				}
			}
			c.missing()
		}
	}
	t.route(mux, "GET "+path, func(c *call) {
		if r := c.living(zendesk.User); r != nil {
			all(c, r, c.r.URL.Query().Get("type[]"))
		}
	})
	t.route(mux, "POST "+path, func(c *call) {
		in, r := c.object("identity"), c.living(zendesk.User)
		if in == nil || r == nil {
			return
		}
		kind, _ := in["type"].(string)
		value, _ := in["value"].(string)
		bad := invalid{}
		if kind == "email" {
			t.checkEmail(value, r, bad)
			if t.tables[zendesk.User].emails[strings.ToLower(value)] == r {
				bad.add("email", "DuplicateValue", "Email: "+value+" is already being used by this user")
			}
		}
		if value == "" || !slices.Contains([]string{"email", "phone_number"}, kind) {
			bad.add("value", "InvalidValue", "Value: is blank, or of a type that is not served here")
		}
		if len(bad) > 0 {
			c.refuse(bad)
			return
		}
		t.identities(r, func(data map[string]any) func() {
			return t.addIdentity(r, data, kind, value, in["primary"] == true, integrator)
		})
		show(c, http.StatusCreated, r.sub[len(r.sub)-1])
	})
	t.route(mux, "GET "+path+"/{identity}", on(func(c *call, _ *row, i map[string]any) { show(c, http.StatusOK, i) }))
	t.route(mux, "PUT "+path+"/{identity}", on(func(c *call, r *row, i map[string]any) {
		in := c.object("identity")
		if in == nil {
			return
		}
		if verified, ok := in["verified"].(bool); ok {
			i["verified"] = verified
		}
		if value, ok := in["value"].(string); ok {
			bad := invalid{}
			t.checkEmail(value, r, bad)
			if value == "" {
				bad.add("value", "BlankValue", "Value: cannot be blank")
			}
			if len(bad) > 0 {
				c.refuse(bad)
				return
			}
			t.identities(r, func(data map[string]any) func() { return t.changeIdentity(r, data, i, value, integrator) })
		}
		show(c, http.StatusOK, i)
	}))
	t.route(mux, "PUT "+path+"/{identity}/verify", on(func(c *call, _ *row, i map[string]any) {
		i["verified"] = true
		show(c, http.StatusOK, i)
	}))
	t.route(mux, "PUT "+path+"/{identity}/make_primary", on(func(c *call, r *row, i map[string]any) {
		t.identities(r, func(data map[string]any) func() { return t.makePrimary(r, data, i, integrator) })
		all(c, r, "")
	}))
	t.route(mux, "DELETE "+path+"/{identity}", on(func(c *call, r *row, i map[string]any) {
		t.identities(r, func(data map[string]any) func() { return t.dropIdentity(r, data, i, integrator) })
		c.answer(http.StatusNoContent, nil)
	}))
}
