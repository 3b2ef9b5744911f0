package salesforce

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/vendorhttp"
)

// fresh is how long an answer about an object's picklists is used.
const fresh = time.Minute

// picklists is what describe said of an object's fields, and when it was asked.
type picklists struct {
	at     time.Time
	fields map[string]picklist // by lower-case name
}

type picklist struct {
	restricted bool
	several    bool // a multi-select: values are joined by semicolons
	values     []string
}

// Accepts reports whether the org takes a value in a picklist now: a restricted one takes only its active
// values, every other field is not limited by a list. It tells when a field that was held back for
// INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST can be written. Of one object the org is asked at most once in 60 s.
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_describe.htm
func (c *Connector) Accepts(ctx context.Context, object, field, value string) (bool, error) {
	if _, err := c.object("accepts", object); err != nil {
		return false, err
	}
	fields, err := c.describe(ctx, object)
	if err != nil {
		return false, fault.Wrap("", "salesforce.accepts", object+"/"+field, err)
	}
	p, ok := fields[strings.ToLower(field)]
	if !ok {
		return false, &fault.Error{Class: fault.NotFound, Op: "salesforce.accepts", ID: object + "/" + field, Detail: "no such field", Remedy: "deploy it, or give the integration user the permission", Fields: []string{field}}
	}
	if !p.restricted || value == "" {
		return true, nil
	}
	parts := []string{value}
	if p.several {
		parts = strings.Split(value, ";")
	}
	return !slices.ContainsFunc(parts, func(v string) bool { return !slices.Contains(p.values, v) }), nil
}

func (c *Connector) describe(ctx context.Context, object string) (map[string]picklist, error) {
	now := c.cfg.Now()
	c.mu.Lock()
	known, ok := c.picklists[object]
	c.mu.Unlock()
	if age := now.Sub(known.at); ok && age >= 0 && age < fresh {
		return known.fields, nil
	}
	resp, err := c.do(ctx, vendorhttp.Request{Op: "describe", Page: true, Method: http.MethodGet, Path: "/sobjects/" + object + "/describe"})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Fields []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Restricted bool   `json:"restrictedPicklist"`
			Values     []struct {
				Active bool   `json:"active"`
				Value  string `json:"value"`
			} `json:"picklistValues"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(resp.Body, &answer); err != nil {
		return nil, unreadable("describe", false, err)
	}
	if len(answer.Fields) == 0 || answer.Fields[0].Name == "" {
		return nil, unreadable("describe", false, fmt.Errorf("no fields"))
	}
	fields := make(map[string]picklist, len(answer.Fields))
	for _, f := range answer.Fields {
		p := picklist{restricted: f.Restricted, several: f.Type == "multipicklist"}
		for _, v := range f.Values {
			if v.Active {
				p.values = append(p.values, v.Value)
			}
		}
		fields[strings.ToLower(f.Name)] = p
	}
	c.mu.Lock()
	c.picklists[object] = picklists{at: now, fields: fields}
	c.mu.Unlock()
	return fields, nil
}
