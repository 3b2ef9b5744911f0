package zendesktwin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"sorrel/shared/zendesk"
)

// ticketField adds a custom field of tickets. It gets an id of this account; its key is what a client makes of the title.
func (t *Twin) ticketField(f Field) {
	tb := t.tables[zendesk.Ticket]
	f.ID = json.Number(strconv.Itoa(1900000000000 + 7*len(tb.fields) + 5))
	f.Key = strings.ReplaceAll(strings.ToLower(f.Title), " ", "_")
	tb.fields = append(tb.fields, f)
}

func (f Field) hasOptions() bool { return f.Type == "dropdown" || f.Type == "tagger" }

// byID puts what stands under ticket_fields by key under custom_fields by id.
func (t *Twin) byID(in map[string]any) error {
	values, _ := in["ticket_fields"].(map[string]any)
	delete(in, "ticket_fields")
	list, _ := in["custom_fields"].([]any)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(t.tables[zendesk.Ticket].fields, func(f Field) bool { return f.Key == k })
		if i < 0 {
			return fmt.Errorf("no ticket field gives the key %q", k)
		}
		list = append(list, map[string]any{"id": t.tables[zendesk.Ticket].fields[i].ID, "value": values[k]})
	}
	if len(list) > 0 {
		in["custom_fields"] = list
	}
	return nil
}

// ticketValues merges custom values into those of a ticket: a save names only those that it sets.
// https://developer.zendesk.com/documentation/ticketing/managing-tickets/creating-and-updating-tickets/#setting-custom-field-values
func (t *Twin) ticketValues(data map[string]any, v any, bad invalid) {
	list, ok := v.([]any)
	if !ok {
		bad.add("custom_fields", "InvalidFormat", "custom_fields: is not a list")
		return
	}
	fields := t.tables[zendesk.Ticket].fields
	for _, a := range list {
		m, _ := a.(map[string]any)
		id := fmt.Sprint(m["id"])
		i := slices.IndexFunc(fields, func(f Field) bool { return f.ID.String() == id })
		if i < 0 {
			bad.add("custom_fields", "InvalidValue", "custom_fields: "+id+" is not a field of this account")
			continue
		}
		set := m["value"]
		if set == "" {
			set = nil
		}
		w, problem := t.value(fields[i], set)
		if problem != "" {
			bad.add(id, "InvalidValue", fields[i].Title+": "+problem)
			continue
		}
		if w != nil {
			w = t.opt.Normalise(zendesk.Ticket, "ticket_fields."+fields[i].Key, w)
		}
		t.setTicket(data, fields[i], w)
	}
}

// setTicket puts one value into the list of a ticket's custom values, which holds every field of the account.
func (t *Twin) setTicket(data map[string]any, f Field, v any) {
	list, _ := data["custom_fields"].([]any)
	for i, a := range list {
		if m, _ := a.(map[string]any); m["id"] == f.ID {
			list[i] = map[string]any{"id": f.ID, "value": v}
			return
		}
	}
	data["custom_fields"] = append(list, map[string]any{"id": f.ID, "value": v})
}

// ticketValue is what a ticket holds in a custom field.
func ticketValue(data map[string]any, f Field) any {
	list, _ := data["custom_fields"].([]any)
	for _, a := range list {
		if m, _ := a.(map[string]any); m["id"] == f.ID {
			return m["value"]
		}
	}
	return nil
}

// TicketValue returns what a living ticket holds in the custom field with that key.
func (t *Twin) TicketValue(id, key string) (any, bool) {
	data, ok := t.Get(zendesk.Ticket, id)
	if !ok {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.tables[zendesk.Ticket].fields {
		if f.Key == key {
			return ticketValue(data, f), true
		}
	}
	return nil, false
}

func (t *Twin) ticketFieldRoutes(mux *http.ServeMux) {
	const path = "/api/v2/ticket_fields"
	tb := func() *table { return t.tables[zendesk.Ticket] }
	// The account's own come first, as fields that cannot be removed.
	system := []map[string]any{{"id": json.Number("101"), "type": "subject", "title": "Subject"}, {"id": json.Number("102"), "type": "description", "title": "Description"},
		{"id": json.Number("103"), "type": "status", "title": "Status"}, {"id": json.Number("104"), "type": "priority", "title": "Priority"}}
	show := func(f Field) map[string]any {
		m := f.show()
		delete(m, "key")
		m["id"], m["raw_title"], m["removable"] = f.ID, f.Title, true
		return m
	}
	t.route(mux, "GET "+path, func(c *call) {
		out := []any{}
		for _, m := range system {
			m = maps.Clone(m)
			m["raw_title"], m["active"], m["removable"] = m["title"], true, false
			out = append(out, m)
		}
		for _, f := range tb().fields {
			out = append(out, show(f))
		}
		c.answer(http.StatusOK, map[string]any{"ticket_fields": out, "count": len(out), "next_page": nil, "previous_page": nil})
	})
	t.route(mux, "POST "+path, func(c *call) {
		in := c.object("ticket_field")
		if in == nil {
			return
		}
		f := Field{}
		f.Title, _ = in["title"].(string)
		f.Type, _ = in["type"].(string)
		list, _ := in["custom_field_options"].([]any)
		for _, o := range list {
			m, _ := o.(map[string]any)
			v, _ := m["value"].(string)
			f.Options = append(f.Options, v)
		}
		bad := invalid{}
		if f.Title == "" {
			bad.add("title", "BlankValue", "Title: cannot be blank") // two fields may have one title
		}
		if !slices.Contains([]string{"text", "textarea", "tagger", "integer", "decimal", "date", "checkbox", "regexp"}, f.Type) || (f.Type == "tagger") != (len(f.Options) > 0) {
			bad.add("type", "InvalidValue", "Type: is not valid, or a tagger lacks custom_field_options")
		}
		if len(bad) > 0 {
			c.refuse(bad)
			return
		}
		t.ticketField(f)
		c.answer(http.StatusCreated, map[string]any{"ticket_field": show(tb().fields[len(tb().fields)-1])})
	})
}
