package salesforce

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// Write creates, updates and deletes. A write whose native id is known updates that record and also gives it the
// external id, so it cannot create a second one; any other one upserts by the external id. Both ways the
// same write twice has the effect of one, and Key is not needed. Writes of one kind (of one object by
// external id, or of any object by native id) share one call of up to 200, of which each row succeeds or
// fails for itself. The vendor answers no version.
//
// That holds for a Task as well: its custom fields are defined on Activity, where orgs have unique external ids, though the
// reference says no more than that a Task takes custom fields; none of them can be a lookup.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/custom_fields.htm
//
// A deletion goes by native id, into the recycle bin; what is not there any more counts as deleted.
func (c *Connector) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	bodies := make([]map[string]any, len(writes))
	pending := make([]int, 0, len(writes))
	for i, w := range writes {
		body, err := c.body(w)
		if err != nil {
			out[i].Err = err
			continue
		}
		bodies[i] = body
		pending = append(pending, i)
	}
	for len(pending) > 0 {
		var calls [][]int
		calls, pending = plan(writes, pending)
		var wg sync.WaitGroup
		for _, call := range calls {
			wg.Go(func() {
				c.call(ctx, writes, bodies, call, out)
				for _, i := range call {
					if rest, made := made(writes[i], bodies[i], out[i].Err); made {
						out[i] = c.one(ctx, writes[i], rest)
					}
				}
			})
		}
		wg.Wait()
	}
	return out
}

// made reports whether an upsert was refused because the record is there already, as after an answer that was lost, and what can still
// be said of it then: which product and price book a price is of can be said once.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_pricebookentry.htm
func made(w platform.Write, body map[string]any, err error) (rest map[string]any, there bool) {
	var e *fault.Error
	if w.Ref.Object != "PricebookEntry" || w.Ref.ID != "" || !errors.As(err, &e) || e.Code != "INVALID_FIELD_FOR_INSERT_UPDATE" {
		return nil, false
	}
	rest = maps.Clone(body)
	for _, name := range []string{"Product2", "Product2Id", "Pricebook2", "Pricebook2Id"} {
		delete(rest, name)
	}
	return rest, len(rest) < len(body)
}

// plan groups writes into calls. A second write to a record of this round is left for the next one: within
// one call the vendor refuses it, and side by side their order would be lost.
func plan(writes []platform.Write, pending []int) (calls [][]int, later []int) {
	groups := map[string][]int{}
	taken := map[string]bool{}
	for _, i := range pending {
		w := writes[i]
		group := "id"
		switch {
		case w.Delete:
			group = "delete"
		case w.Ref.ID == "":
			group = "external " + w.Ref.Object
		}
		var keys []string
		if w.External != "" {
			keys = append(keys, w.Ref.Object+" external "+strings.ToLower(w.External))
		}
		if w.Ref.ID != "" {
			keys = append(keys, w.Ref.Object+" id "+w.Ref.ID)
		}
		wait := slices.ContainsFunc(keys, func(k string) bool { return taken[k] })
		for _, k := range keys { // of one that waits too: what comes after it waits for it
			taken[k] = true
		}
		if wait {
			later = append(later, i)
			continue
		}
		groups[group] = append(groups[group], i)
	}
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		// By native id one call may mix objects, in at most ten runs: keep each object together.
		slices.SortStableFunc(groups[g], func(a, b int) int { return strings.Compare(writes[a].Ref.Object, writes[b].Ref.Object) })
		calls = slices.AppendSeq(calls, slices.Chunk(groups[g], MaxBatch))
	}
	return calls, later
}

// body is the JSON of one write, without the ids.
func (c *Connector) body(w platform.Write) (map[string]any, error) {
	refuse := func(class fault.Class, detail, remedy string) error {
		return &fault.Error{Class: class, Op: "salesforce.write", ID: named(w), Detail: detail, Remedy: remedy}
	}
	o, err := c.object("write", w.Ref.Object)
	if err != nil {
		return nil, err
	}
	if w.Delete && w.Ref.ID == "" {
		return nil, refuse(fault.Contract, "a deletion has no native id", "delete what is linked")
	}
	if w.External == "" && !w.Delete {
		return nil, refuse(fault.Contract, "External is empty", "every write carries the external id")
	}
	if _, ok := canonicalID(w.Ref.ID); w.Ref.ID != "" && !ok {
		return nil, refuse(fault.Contract, "the native id is not of 15 or 18 letters and digits", "link the record anew")
	}
	if w.Delete {
		return nil, nil
	}
	body := make(map[string]any, len(w.Fields)+1)
	for k, v := range w.Fields {
		key, isParent := o.parents[k]
		switch parent, nested := v.(map[string]any); {
		case strings.EqualFold(k, "Id") || strings.EqualFold(k, o.external):
			// The address says them; the vendor refuses them in the body.
		case isParent && (v == nil || nested && allNull(parent)):
			body[key] = nil // a parent is cleared by its foreign key
		default:
			body[k] = v
		}
	}
	if w.Ref.ID != "" {
		body[o.external] = w.External
	}
	return body, nil
}

func allNull(m map[string]any) bool {
	for _, v := range m {
		if v != nil {
			return false
		}
	}
	return true
}

// call does the writes with the given indexes and puts what became of them into out.
func (c *Connector) call(ctx context.Context, writes []platform.Write, bodies []map[string]any, which []int, out []platform.Written) {
	if len(which) == 1 {
		i := which[0]
		out[i] = c.one(ctx, writes[i], bodies[i])
		return
	}
	send := c.batch
	if writes[which[0]].Delete {
		send = c.batchDelete
	}
	rows, err := send(ctx, writes, bodies, which)
	// One row that cannot even be decoded fails the whole call and nothing is written: then each goes alone.
	if fault.Is(err, fault.Refused) || fault.Is(err, fault.MissingReference) {
		var wg sync.WaitGroup
		for _, i := range which {
			wg.Go(func() { out[i] = c.one(ctx, writes[i], bodies[i]) })
		}
		wg.Wait()
		return
	}
	for n, i := range which {
		w := writes[i]
		if err != nil {
			out[i].Err = fault.Wrap("", "salesforce.write", named(w), err)
			continue
		}
		out[i] = rows[n].written(c, w)
	}
}

// saved is one row of a collection's answer, and the answer to a single upsert.
type saved struct {
	ID      string        `json:"id"`
	Success bool          `json:"success"`
	Created bool          `json:"created"`
	Errors  []vendorError `json:"errors"`
}

func (s saved) written(c *Connector, w platform.Write) platform.Written {
	id := named(w)
	unclear := func(why string) platform.Written {
		return platform.Written{Err: fault.Wrap(fault.Unknown, "salesforce.write", id, errors.New(why))}
	}
	_, sound := canonicalID(s.ID)
	switch {
	case s.Success && len(s.Errors) > 0:
		return unclear("success with errors")
	case !s.Success && (len(s.Errors) == 0 || s.Errors[0].code() == ""):
		return unclear("neither success nor an error")
	case !s.Success:
		e := c.failure(0, s.Errors)
		if w.Delete && gone(e) {
			return platform.Written{ID: w.Ref.ID}
		}
		e.Op, e.ID = "salesforce.write", id
		return platform.Written{Err: e}
	case w.Ref.ID == "" && !sound:
		return unclear("success without an id")
	case w.Ref.ID != "" && s.ID == "":
		s.ID = w.Ref.ID
	case w.Ref.ID != "" && !sameID(s.ID, w.Ref.ID):
		return unclear("the answer is about another record")
	}
	return platform.Written{ID: s.ID, Created: s.Created}
}

// gone reports whether a refused deletion says that the record is not there: deleted, or erased and so unknown.
func gone(err error) bool {
	var e *fault.Error
	return errors.As(err, &e) && slices.Contains([]string{"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"}, e.Code)
}

// named is how errors call the record of a write.
func named(w platform.Write) string { return w.Ref.Object + "/" + cmp.Or(w.External, w.Ref.ID) }

// batchDelete is one sObject Collections call that deletes.
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections_delete.htm
func (c *Connector) batchDelete(ctx context.Context, writes []platform.Write, _ []map[string]any, which []int) ([]saved, error) {
	ids := make([]string, len(which))
	for n, i := range which {
		ids[n] = writes[i].Ref.ID
	}
	return c.collect(ctx, len(which), vendorhttp.Request{Op: "write.delete", Method: http.MethodDelete, Path: "/composite/sobjects", Limits: []string{longCalls},
		Query: url.Values{"ids": {strings.Join(ids, ",")}, "allOrNone": {"false"}}, Write: true})
}

// batch is one sObject Collections call that saves.
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections_upsert.htm
func (c *Connector) batch(ctx context.Context, writes []platform.Write, bodies []map[string]any, which []int) ([]saved, error) {
	path := "/composite/sobjects"
	records := make([]map[string]any, 0, len(which))
	for _, i := range which {
		w := writes[i]
		r := maps.Clone(bodies[i])
		r["attributes"] = map[string]string{"type": w.Ref.Object}
		if w.Ref.ID != "" {
			r["id"] = w.Ref.ID
		} else {
			external := c.objects[w.Ref.Object].external
			r[external] = w.External
			path = "/composite/sobjects/" + w.Ref.Object + "/" + external
		}
		records = append(records, r)
	}
	body, err := json.Marshal(struct {
		AllOrNone bool             `json:"allOrNone"`
		Records   []map[string]any `json:"records"`
	}{false, records})
	if err != nil {
		return nil, fault.Wrap(fault.Contract, "salesforce.write", "", err)
	}
	return c.collect(ctx, len(which), vendorhttp.Request{Op: "write.batch", Method: http.MethodPatch, Path: path, Body: body, Write: true, Limits: []string{longCalls}})
}

// collect does a call on a collection of so many records and returns their rows of the answer.
func (c *Connector) collect(ctx context.Context, records int, r vendorhttp.Request) ([]saved, error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var rows []saved
	if err := json.Unmarshal(resp.Body, &rows); err != nil {
		return nil, unreadable(r.Op, true, err)
	}
	if len(rows) != records {
		return nil, unreadable(r.Op, true, fmt.Errorf("%d rows for %d records", len(rows), records))
	}
	return rows, nil
}

// silent is nil if resp is what the API says to a write by native id: 204 without a body. What else succeeds is a
// page of somebody else's.
func silent(op string, resp vendorhttp.Response) error {
	if resp.Status == http.StatusNoContent {
		return nil
	}
	return unreadable(op, true, fmt.Errorf("status %d, want 204", resp.Status))
}

// one writes a single record.
// https://developer.salesforce.com/docs/platform/api-rest/guide/dome-upsert.html
func (c *Connector) one(ctx context.Context, w platform.Write, fields map[string]any) platform.Written {
	id := named(w)
	if w.Delete {
		resp, err := c.do(ctx, vendorhttp.Request{Op: "write.delete", Method: http.MethodDelete, Path: "/sobjects/" + w.Ref.Object + "/" + w.Ref.ID, Write: true})
		if err == nil {
			err = silent("write.delete", resp)
		}
		if err != nil && !gone(err) {
			return platform.Written{Err: fault.Wrap("", "salesforce.write", id, err)}
		}
		return platform.Written{ID: w.Ref.ID}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return platform.Written{Err: fault.Wrap(fault.Contract, "salesforce.write", id, err)}
	}
	address := "/sobjects/" + w.Ref.Object + "/" + w.Ref.ID
	if w.Ref.ID == "" {
		address = "/sobjects/" + w.Ref.Object + "/" + c.objects[w.Ref.Object].external + "/" + url.PathEscape(w.External)
	}
	resp, err := c.do(ctx, vendorhttp.Request{Op: "write.one", Method: http.MethodPatch, Path: address, Body: body, Write: true})
	if err != nil {
		return platform.Written{Err: fault.Wrap("", "salesforce.write", id, err)}
	}
	if w.Ref.ID != "" {
		return platform.Written{ID: w.Ref.ID, Err: fault.Wrap("", "salesforce.write", id, silent("write.one", resp))}
	}
	var s saved
	if err := json.Unmarshal(resp.Body, &s); err != nil {
		return platform.Written{Err: fault.Wrap("", "salesforce.write", id, unreadable("write.one", true, err))}
	}
	return s.written(c, w)
}
