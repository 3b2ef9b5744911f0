package zendesk

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// ticketField is one custom field of tickets.
type ticketField struct {
	id     json.Number
	values []string // of a dropdown; nil for a field of another type
}

// ticketFields are the custom fields of an account's tickets, by key, and when they were asked for.
type ticketFields struct {
	at     time.Time
	fields map[string]ticketField
	keys   map[string]string // by id
	twice  map[string]bool   // keys of more than one field: none of them is used
}

// reloaded is how long the list of ticket fields is used as long as it holds all that is asked for.
const reloaded = time.Hour

const ticketFieldsPath = "/api/v2/ticket_fields"

// ticketGroup is where custom values of a ticket stand in its native shape.
const ticketGroup = "ticket_fields"

// keyOf makes a key of a ticket field's title: "ERP context" is erp_context. A ticket carries its custom values under
// ids that differ from account to account, and unlike a field of an organization a ticket field has no key of its own
// that an administrator chooses.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_fields/#json-format
func keyOf(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.Join(words, "_")
}

// ticketFields returns the account's, which hold the keys under need unless the account lacks them. For those the account
// is asked at most once in 60 s.
func (c *Connector) ticketFields(ctx context.Context, need ...string) (ticketFields, error) {
	return c.ticketFieldsOf(ctx, reloaded, need...)
}

// ticketFieldsOf is ticketFields of a list that is no older than most.
func (c *Connector) ticketFieldsOf(ctx context.Context, most time.Duration, need ...string) (ticketFields, error) {
	now := c.cfg.Now()
	c.mu.Lock()
	known := c.tickets
	c.mu.Unlock()
	age := now.Sub(known.at)
	lacks := slices.ContainsFunc(need, func(k string) bool { _, ok := known.fields[k]; return !ok })
	if known.fields != nil && age >= 0 && (age < fresh || age < most && !lacks) {
		return known, nil
	}
	list, err := c.listFields(ctx, ticketFieldsPath, ticketGroup)
	if err != nil {
		if known.fields != nil && !lacks && most > fresh {
			return known, nil // older, and still of use
		}
		return ticketFields{}, err
	}
	out := ticketFields{at: now, fields: map[string]ticketField{}, keys: map[string]string{}, twice: map[string]bool{}}
	for _, f := range list {
		title := text(f["raw_title"])
		if title == "" {
			title = text(f["title"])
		}
		key, id := keyOf(title), json.Number(text(f["id"]))
		if f["active"] == false || f["removable"] == false || key == "" || id == "" { // one of the system's own is no custom field
			continue
		}
		if _, again := out.fields[key]; again {
			out.twice[key] = true
		}
		out.fields[key] = ticketField{id, options(f)}
		out.keys[id.String()] = key
	}
	for key := range out.twice {
		delete(out.fields, key)
	}
	c.mu.Lock()
	c.tickets = out
	c.mu.Unlock()
	return out, nil
}

// find is the field with that key.
func (t ticketFields) find(op, key string) (ticketField, error) {
	if f, ok := t.fields[key]; ok {
		return f, nil
	}
	detail := "no ticket field has a title that gives this key, or it is not active"
	if t.twice[key] {
		detail = "several active ticket fields have titles that give this key"
	}
	return ticketField{}, &fault.Error{Class: fault.Refused, Op: op, Fields: []string{ticketGroup + "." + key}, Detail: detail,
		Remedy: "give exactly one active ticket field the title that the kit in infra/zendesk gives it"}
}

// ticketBody brings a ticket's native shape into REST's for writing: custom values under their ids, in one order, so
// that a repeat has the same body. A write names only the custom fields that it sets; all others stay as they are, so no
// agent's edit is lost by it and safe_update is not needed.
// https://developer.zendesk.com/documentation/ticketing/managing-tickets/creating-and-updating-tickets/#setting-custom-field-values
func (c *Connector) ticketBody(ctx context.Context, op string, body map[string]any) (map[string]any, error) {
	values, ok := body[ticketGroup].(map[string]any)
	if !ok && body[ticketGroup] != nil {
		return nil, &fault.Error{Class: fault.Contract, Op: op, Fields: []string{ticketGroup}, Detail: fmt.Sprintf("%T where an object by key belongs", body[ticketGroup])}
	}
	keys := slices.Sorted(maps.Keys(values))
	known, err := c.ticketFields(ctx, keys...)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(body)
	delete(out, ticketGroup)
	if len(keys) == 0 {
		return out, nil
	}
	list := make([]any, len(keys))
	for i, k := range keys {
		f, err := known.find(op, k)
		if err != nil {
			return nil, err
		}
		list[i] = map[string]any{"id": f.id, "value": values[k]}
	}
	out["custom_fields"] = list
	return out, nil
}

// keyed brings tickets that REST shows into their native shape; natives of other objects stay.
func (c *Connector) keyed(ctx context.Context, natives ...record.Native) error {
	if !slices.ContainsFunc(natives, func(n record.Native) bool { return n.Object == Ticket && n.Fields["custom_fields"] != nil }) {
		return nil
	}
	known, err := c.ticketFields(ctx)
	if err != nil {
		return err
	}
	for _, n := range natives {
		list, ok := n.Fields["custom_fields"].([]any)
		if n.Object != Ticket || !ok {
			continue
		}
		values := make(map[string]any, len(list))
		for _, a := range list {
			m, _ := a.(map[string]any)
			if key := known.keys[text(m["id"])]; key != "" && !known.twice[key] {
				values[key] = m["value"]
			}
		}
		n.Fields[ticketGroup] = values
		delete(n.Fields, "custom_fields")
		delete(n.Fields, "fields") // the same list once more
	}
	return nil
}

// acceptsTicket is Accepts for a ticket's custom field.
func (c *Connector) acceptsTicket(ctx context.Context, key, value string) (bool, error) {
	const op = "zendesk.accepts"
	known, err := c.ticketFieldsOf(ctx, fresh, key)
	if err != nil {
		return false, fault.Wrap("", op, Ticket+"/"+key, err)
	}
	f, err := known.find(op, key)
	return err == nil && (f.values == nil || slices.Contains(f.values, value)), err
}

// listFields lists an account's custom fields of one kind.
func (c *Connector) listFields(ctx context.Context, path, group string) ([]map[string]any, error) {
	const op = "fields.list"
	var out []map[string]any
	query := url.Values{"page[size]": {"100"}}
	for range maxPages {
		answer, _, err := c.call(ctx, op, "GET", path, query, nil, nil)
		if err != nil {
			return nil, err
		}
		list, ok := answer[group].([]any)
		if !ok {
			return nil, garbled(op, false, "the answer lacks "+group, nil)
		}
		for _, a := range list {
			if f, ok := a.(map[string]any); ok {
				out = append(out, f)
			}
		}
		meta, _ := answer["meta"].(map[string]any)
		after := text(meta["after_cursor"])
		if meta["has_more"] != true || after == "" || after == query.Get("page[after]") {
			return out, nil
		}
		query.Set("page[after]", after)
	}
	return nil, garbled(op, false, "the list of fields has no end", nil)
}

// options are the values of a dropdown; nil for a field of another type. A ticket's dropdown is called tagger.
func options(f map[string]any) []string {
	switch text(f["type"]) {
	case "dropdown", "tagger", "multiselect":
	default:
		return nil
	}
	values := []string{}
	list, _ := f["custom_field_options"].([]any)
	for _, o := range list {
		m, _ := o.(map[string]any)
		values = append(values, text(m["value"]))
	}
	return values
}
