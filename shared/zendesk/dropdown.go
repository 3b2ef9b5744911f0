package zendesk

import (
	"context"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
)

// fresh is how long an answer about an object's fields is used.
const fresh = time.Minute

// maxPages of fields are read, of 100 each: an object has at most a few hundred.
const maxPages = 20

// dropdowns are the values of an object's dropdown fields (nil for a field of another type), by key, and when they
// were asked for.
type dropdowns struct {
	at     time.Time
	fields map[string][]string
}

// Accepts reports whether the account takes value in a field now, such as "organization_fields.segment": a dropdown
// takes only the values of its options, every other field is not limited by a list. It tells when a value that was held
// back can be written. Of one object the account is asked at most once in 60 s.
// https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/
func (c *Connector) Accepts(ctx context.Context, object, field, value string) (bool, error) {
	const op = "zendesk.accepts"
	if _, err := c.place(op, object); err != nil {
		return false, err
	}
	path, group := "/api/v2/"+object+"_fields", object+"_fields"
	if key, ok := strings.CutPrefix(object, custom); ok {
		path, group = "/api/v2/custom_objects/"+key+"/fields", "custom_object_fields"
	}
	key, ok := strings.CutPrefix(field, group+".")
	if !ok || value == "" { // no custom field, or it is emptied
		return true, nil
	}
	if object == Ticket {
		return c.acceptsTicket(ctx, key, value)
	}
	fields, err := c.dropdowns(ctx, object, path, group)
	if err != nil {
		return false, fault.Wrap("", op, object+"/"+field, err)
	}
	values, ok := fields[key]
	if !ok {
		return false, &fault.Error{Class: fault.NotFound, Op: op, ID: object + "/" + field, Fields: []string{field}, Detail: "no such field, or it is not active",
			Remedy: "make it as the kit in infra/zendesk does"}
	}
	return values == nil || slices.Contains(values, value), nil
}

func (c *Connector) dropdowns(ctx context.Context, object, path, group string) (map[string][]string, error) {
	now := c.cfg.Now()
	c.mu.Lock()
	known, ok := c.known[object]
	c.mu.Unlock()
	if age := now.Sub(known.at); ok && age >= 0 && age < fresh {
		return known.fields, nil
	}
	list, err := c.listFields(ctx, path, group)
	if err != nil {
		return nil, err
	}
	fields := map[string][]string{}
	for _, f := range list {
		if f["active"] != false {
			fields[text(f["key"])] = options(f)
		}
	}
	c.mu.Lock()
	c.known[object] = dropdowns{at: now, fields: fields}
	c.mu.Unlock()
	return fields, nil
}
