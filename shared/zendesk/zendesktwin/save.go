package zendesktwin

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/zendesk"
)

// invalid collects validation errors by field, as 422 RecordInvalid answers them.
type invalid map[string][]map[string]string

func (v invalid) add(field, code, description string) {
	v[field] = append(v[field], map[string]string{"error": code, "description": description})
}

func (v invalid) text() string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// saver is who saves, and how: a client's new e-mail address of a user becomes a second one, a person's replaces the
// primary one.
type saver struct {
	user   int64
	person bool
}

func client() saver { return saver{user: integrator} }

func person(user int64) saver { return saver{user, true} }

// save validates in (REST's shape, only what changes), writes it and sends what the vendor would send. r is nil
// for a new record. A save that changes nothing moves nothing.
func (t *Twin) save(object string, r *row, in map[string]any, by saver) (*row, invalid) {
	tb, actor := t.tables[object], by.user
	bad := invalid{}
	created := r == nil
	var data map[string]any
	if created {
		data = t.blank(object, tb, actor)
	} else {
		data = clone(r.data).(map[string]any)
	}
	before := clone(data).(map[string]any)
	if object == zendesk.Ticket && !created && before["status"] == "closed" {
		bad.add("base", "InvalidValue", "Status: closed prevents ticket update")
		return nil, bad
	}
	var comment map[string]any
	email, mailed := in["email"]
	for k, v := range in {
		switch {
		case object == zendesk.User && k == "email": // an identity
		case object == zendesk.Ticket && k == "comment":
			comment, _ = v.(map[string]any)
		case object == zendesk.Ticket && k == "custom_fields":
			t.ticketValues(data, v, bad)
		case k == "organization_fields" && object == zendesk.Organization, k == "user_fields" && object == zendesk.User, k == "custom_object_fields" && tb.key != "":
			values, ok := v.(map[string]any)
			if !ok {
				bad.add(k, "InvalidFormat", k+": is not an object")
				continue
			}
			t.values(tb, data[k].(map[string]any), values, bad)
		default:
			if _, writable := t.attributes(object)[k]; writable {
				data[k] = v
			} // anything else is read-only or unknown: ignored, as the vendor does
		}
	}
	t.normalise(object, data)
	t.check(object, tb, r, data, bad)
	var address string
	if mailed && object == zendesk.User {
		if address, _ = email.(string); address != "" {
			address, _ = t.opt.Normalise(object, "email", address).(string)
		}
		t.checkEmail(address, r, bad)
	}
	if b, err := json.Marshal(data["custom_object_fields"]); err == nil && len(b) > 32<<10 {
		bad.add("base", "TooLong", "Record: exceeds 32 KB")
	}
	if len(bad) > 0 {
		return nil, bad
	}
	if created {
		id := t.nextID()
		if tb.key != "" {
			id = t.ulid()
			data["id"] = id
		} else {
			data["id"] = json.Number(id)
		}
		data["url"] = t.url(object, tb, id)
		r = &row{id: id, made: len(tb.order) + 1}
		tb.rows[id] = r
		tb.order = append(tb.order, r)
	}
	var announce func()
	if mailed && object == zendesk.User {
		announce = t.address(r, data, address, by)
	}
	if !created && comment == nil && reflect.DeepEqual(before, data) && announce == nil {
		return r, nil
	}
	now := stamp(t.now())
	if created {
		data["created_at"] = now
	}
	data["updated_at"] = now
	if tb.key != "" {
		data["updated_by_user_id"] = strconv.FormatInt(actor, 10)
	}
	if object == zendesk.Ticket {
		data["generated_timestamp"] = json.Number(strconv.FormatInt(t.now().Unix(), 10))
	}
	index(tb.external, before["external_id"], data["external_id"], r)
	if object == zendesk.Organization {
		index(tb.names, before["name"], data["name"], r)
	}
	r.data = data
	t.touch(tb, r)
	if object == zendesk.Ticket {
		if created && comment == nil {
			comment = map[string]any{"body": data["description"], "public": true}
		}
		if comment != nil {
			c := map[string]any{"id": json.Number(t.nextID()), "type": "Comment", "author_id": json.Number(strconv.FormatInt(actor, 10)),
				"body": comment["body"], "public": comment["public"] != false, "created_at": now}
			r.sub = append(r.sub, c)
		}
		r.audit = append(r.audit, map[string]any{"id": json.Number(t.nextID()), "ticket_id": data["id"], "author_id": json.Number(strconv.FormatInt(actor, 10)), "created_at": now})
	}
	t.announce(object, tb, before, data, created, comment != nil && !created, actor)
	if announce != nil {
		announce()
	}
	return r, nil
}

func (t *Twin) touch(tb *table, r *row) {
	tb.log = append(tb.log, entry{t.now(), r})
	r.seq = len(tb.log)
}

func (t *Twin) remove(object string, r *row, actor int64) {
	tb := t.tables[object]
	r.gone = true
	index(tb.external, r.data["external_id"], nil, r)
	index(tb.names, r.data["name"], nil, r)
	now := stamp(t.now())
	r.data = clone(r.data).(map[string]any)
	r.data["updated_at"] = now
	switch {
	case object == zendesk.Ticket:
		r.data["status"] = "deleted"
	case tb.key != "":
		r.data["name"] = "[DELETED]"
		for k, v := range r.data["custom_object_fields"].(map[string]any) {
			if v != nil {
				r.data["custom_object_fields"].(map[string]any)[k] = "[DELETED]"
			}
		}
	case object == zendesk.User:
		r.data["active"] = false
		for _, i := range r.sub {
			index(tb.emails, i["value"], nil, r)
		}
		r.sub = nil
	default:
		r.data["deleted_at"] = now
	}
	t.touch(tb, r)
	t.announceGone(object, r, actor)
	if object == zendesk.Organization {
		t.rehome(r, nil, actor)
	}
}

// index keeps a lookup by a lower-cased value.
func index(m map[string]*row, old, new any, r *row) {
	if o, ok := old.(string); ok && m[strings.ToLower(o)] == r {
		delete(m, strings.ToLower(o))
	}
	if n, ok := new.(string); ok && n != "" {
		m[strings.ToLower(n)] = r
	}
}

func (t *Twin) url(object string, tb *table, id string) string {
	if tb.key != "" {
		return "https://twin.zendesk.com/api/v2/custom_objects/" + tb.key + "/records/" + id + ".json"
	}
	return "https://twin.zendesk.com/api/v2/" + object + "s/" + id + ".json"
}

// attributes that a client may set, with the JSON kind of their values.
func (t *Twin) attributes(object string) map[string]string {
	switch object {
	case zendesk.Organization:
		return map[string]string{"name": "string", "external_id": "string", "domain_names": "list", "details": "string", "notes": "string",
			"group_id": "number", "shared_tickets": "bool", "shared_comments": "bool", "tags": "list"}
	case zendesk.User:
		return map[string]string{"name": "string", "external_id": "string", "phone": "string", "role": "string", "organization_id": "number", "alias": "string",
			"details": "string", "notes": "string", "locale": "string", "time_zone": "string", "suspended": "bool", "verified": "bool", "tags": "list"}
	case zendesk.Ticket:
		return map[string]string{"external_id": "string", "type": "string", "subject": "string", "description": "string", "priority": "string", "status": "string",
			"organization_id": "number", "requester_id": "number", "submitter_id": "number", "assignee_id": "number", "group_id": "number",
			"brand_id": "number", "ticket_form_id": "number", "problem_id": "number", "due_at": "string", "tags": "list"}
	}
	return map[string]string{"name": "string", "external_id": "string"}
}

func (t *Twin) blank(object string, tb *table, actor int64) map[string]any {
	m := map[string]any{}
	for k, kind := range t.attributes(object) {
		switch kind {
		case "list":
			m[k] = []any{}
		case "bool":
			m[k] = false
		default:
			m[k] = nil
		}
	}
	fields := map[string]any{}
	for _, f := range tb.fields {
		fields[f.Key] = nil
		if f.Type == "checkbox" {
			fields[f.Key] = false
		}
	}
	user := strconv.FormatInt(actor, 10)
	switch {
	case object == zendesk.Organization:
		m["organization_fields"] = fields
	case object == zendesk.User:
		m["user_fields"], m["role"], m["email"], m["active"], m["shared"], m["default_group_id"], m["last_login_at"] = fields, "end-user", nil, true, false, nil, nil
	case tb.key != "":
		m["custom_object_fields"], m["custom_object_key"], m["created_by_user_id"], m["updated_by_user_id"] = fields, tb.key, user, user
	default:
		m["custom_fields"] = []any{}
		for _, f := range tb.fields {
			t.setTicket(m, f, fields[f.Key])
		}
		m["status"], m["is_public"], m["via"] = "new", true, map[string]any{"channel": "api"}
		m["requester_id"], m["submitter_id"] = json.Number(user), json.Number(user)
	}
	return m
}

// check validates attributes of the whole record.
func (t *Twin) check(object string, tb *table, self *row, data map[string]any, bad invalid) {
	for k, kind := range t.attributes(object) {
		ok := data[k] == nil
		switch v := data[k].(type) {
		case string:
			_, err := strconv.ParseUint(v, 10, 64)
			ok = kind == "string" || kind == "number" && err == nil
			if ok && kind == "number" {
				data[k] = json.Number(v)
			}
		case json.Number:
			ok = kind == "number"
			if kind == "string" { // the vendor turns numbers into text
				data[k], ok = v.String(), true
			}
		case bool:
			ok = kind == "bool"
		case []any:
			ok = kind == "list"
		}
		if !ok {
			bad.add(k, "InvalidFormat", fmt.Sprintf("%s: is not a %s", k, kind))
		}
	}
	if e, ok := data["external_id"].(string); ok && object != zendesk.Ticket {
		if e == "" {
			data["external_id"] = nil
		} else if other := tb.external[strings.ToLower(e)]; other != nil && other != self {
			bad.add("external_id", "DuplicateValue", "External ID: "+e+" has already been taken")
		}
	}
	switch object {
	case zendesk.Ticket:
		for k, allowed := range map[string][]string{"status": {"new", "open", "pending", "hold", "solved", "closed"},
			"priority": {"urgent", "high", "normal", "low"}, "type": {"problem", "incident", "question", "task"}} {
			if v, ok := data[k].(string); ok && !slices.Contains(allowed, v) {
				bad.add(k, "InvalidValue", fmt.Sprintf("%s: %s is not valid", k, v))
			}
		}
		if data["description"] == nil && data["subject"] == nil {
			bad.add("base", "BlankValue", "Description: cannot be blank")
		}
	case zendesk.User:
		if role, _ := data["role"].(string); !slices.Contains([]string{"end-user", "agent", "admin"}, role) {
			bad.add("role", "InvalidValue", "Role: "+role+" is not valid")
		}
		if id, ok := data["organization_id"].(json.Number); ok {
			if o := t.tables[zendesk.Organization].rows[id.String()]; o == nil || o.gone {
				bad.add("organization_id", "InvalidValue", "Organization: "+id.String()+" is not valid")
			}
		}
		fallthrough
	default:
		name, _ := data["name"].(string)
		if strings.TrimSpace(name) == "" {
			bad.add("name", "BlankValue", "Name: cannot be blank")
		} else if other := tb.names[strings.ToLower(name)]; object == zendesk.Organization && other != nil && other != self {
			bad.add("name", "DuplicateValue", "Name: "+name+" has already been taken")
		}
	}
}

// normalise applies what the account makes of values. Organization names are trimmed by every account.
// https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#create-organization
func (t *Twin) normalise(object string, data map[string]any) {
	if name, ok := data["name"].(string); ok && object == zendesk.Organization {
		data["name"] = strings.TrimSpace(name)
	}
	for k := range t.attributes(object) {
		if data[k] != nil {
			data[k] = t.opt.Normalise(object, k, data[k])
		}
	}
	for _, group := range []string{"organization_fields", "user_fields", "custom_object_fields"} {
		values, _ := data[group].(map[string]any)
		for k, v := range values {
			if v != nil {
				values[k] = t.opt.Normalise(object, group+"."+k, v)
			}
		}
	}
}

// values merges custom field values into into.
func (t *Twin) values(tb *table, into, values map[string]any, bad invalid) {
	for k, v := range values {
		i := slices.IndexFunc(tb.fields, func(f Field) bool { return f.Key == k })
		if i < 0 {
			bad.add(k, "InvalidValue", k+": is not a field of this object")
			continue
		}
		if v == "" {
			v = nil
		}
		w, problem := t.value(tb.fields[i], v)
		if problem != "" {
			bad.add(k, "InvalidValue", tb.fields[i].Title+": "+problem)
			continue
		}
		into[k] = w
	}
}

func (t *Twin) value(f Field, v any) (any, string) {
	if v == nil {
		if f.Type == "checkbox" {
			return false, ""
		}
		return nil, ""
	}
	s, isText := v.(string)
	n, isNumber := v.(json.Number)
	switch f.Type {
	case "checkbox":
		if b, ok := v.(bool); ok {
			return b, ""
		}
		return nil, "is not true or false"
	case "integer", "decimal":
		if isText {
			n, isNumber = json.Number(s), true
		}
		if r, ok := new(big.Rat).SetString(string(n)); !isNumber || !ok || len(n) > 40 || f.Type == "integer" && !r.IsInt() {
			return nil, "is not a number"
		}
		return n, ""
	case "dropdown", "tagger":
		if !isText || !slices.Contains(f.Options, s) {
			return nil, fmt.Sprintf("%v is not one of its options", v)
		}
		return s, ""
	case "date":
		if _, err := time.Parse(time.DateOnly, strings.TrimSuffix(s, "T00:00:00+00:00")); !isText || err != nil {
			return nil, "is not a date of the form YYYY-MM-DD"
		}
		return strings.TrimSuffix(s, "T00:00:00+00:00"), ""
	case "lookup":
		if isNumber {
			s, isText = n.String(), true
		}
		target := strings.TrimPrefix(f.Target, "zen:")
		if key, ok := strings.CutPrefix(target, "custom_object:"); ok {
			target = "custom_object/" + key
		}
		if tb := t.tables[target]; !isText || tb != nil && (tb.rows[s] == nil || tb.rows[s].gone) {
			return nil, fmt.Sprintf("%v is not a valid %s", v, f.Target)
		}
		return s, ""
	}
	if isNumber {
		return n.String(), ""
	}
	if !isText {
		return nil, "is not text"
	}
	if len(s) > 65535 {
		return nil, "is too long"
	}
	return s, ""
}
