package zendesk

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"sync"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// Read returns the whole record. A deleted one answers like one that never was: fault.NotFound.
func (c *Connector) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	op := ref.Object + ".read"
	p, err := c.place("zendesk.read", ref.Object)
	if err != nil {
		return record.Native{}, err
	}
	if ref.ID == "" {
		return record.Native{}, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, Fields: []string{"id"}, Detail: "a read without native id"}
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, p.path+"/"+url.PathEscape(ref.ID), nil, nil, nil)
	if ref.Object == Organization && fault.Is(err, fault.NotFound) {
		return c.merge(ctx, ref)
	}
	if err != nil {
		return record.Native{}, err
	}
	fields, err := member(op, false, answer, p.one)
	if err != nil {
		return record.Native{}, err
	}
	if text(fields["id"]) != ref.ID {
		return record.Native{}, garbled(op, false, "the answer is about another record", nil)
	}
	if staff(ref.Object, fields) {
		return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "zendesk." + op, ID: ref.ID, Detail: "the user is an agent or administrator, and no end user"}
	}
	n, err := native(op, ref.Object, fields, resp.Date)
	if err == nil {
		err = c.keyed(ctx, n)
	}
	return n, err
}

// staff reports that a user is one of the account's own people.
func staff(object string, fields map[string]any) bool {
	role := text(fields["role"])
	return object == User && role != "" && role != "end-user"
}

// merge says that an organization is gone, and into which one it was merged, if it was. Its time is after that of the
// answer, and so after any event of the deletion: merges carry none, and a deleted organization stays deleted. An id whose merges the vendor does not list
// is not known to it: fault.NotFound.
func (c *Connector) merge(ctx context.Context, ref record.Ref) (record.Native, error) {
	const op = "organization.merges"
	answer, resp, err := c.call(ctx, op, http.MethodGet, "/api/v2/organizations/"+url.PathEscape(ref.ID)+"/merges", url.Values{"page[size]": {"100"}}, nil, nil)
	if err != nil {
		return record.Native{}, err
	}
	list, ok := answer["organization_merges"].([]any)
	if !ok {
		return record.Native{}, garbled(op, false, "the answer lacks organization_merges", nil)
	}
	at := resp.Date
	if at.IsZero() {
		at = c.cfg.Now()
	}
	n := record.Native{Ref: ref, Gone: true, Version: record.Version{At: at.UTC().Truncate(resolution).Add(resolution)}}
	for _, a := range list {
		m, _ := a.(map[string]any)
		if text(m["loser_id"]) == ref.ID && text(m["status"]) != "error" {
			n.Into = text(m["winner_id"])
		}
	}
	return n, nil
}

// Find returns the record that carries external. Ticket external ids are not unique: the oldest one is meant.
func (c *Connector) Find(ctx context.Context, object, external string) (record.Native, error) {
	op := object + ".find"
	p, err := c.place("zendesk.find", object)
	if err != nil {
		return record.Native{}, err
	}
	path, query := p.path, url.Values{"external_id": {external}}
	switch object {
	case Organization, User:
		path += "/search"
	case Ticket:
	default:
		query = url.Values{"filter[external_ids]": {external}}
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, path, query, nil, nil)
	if err != nil {
		return record.Native{}, err
	}
	list, ok := answer[p.many].([]any)
	if !ok {
		return record.Native{}, garbled(op, false, "the answer lacks "+p.many, nil)
	}
	var found record.Native
	for _, a := range list {
		fields, _ := a.(map[string]any)
		if text(fields["external_id"]) != external || staff(object, fields) { // organizations and users match regardless of case
			continue
		}
		n, err := native(op, object, fields, resp.Date)
		if err != nil {
			return record.Native{}, err
		}
		if !n.Gone && (found.ID == "" || n.Born.Before(found.Born)) {
			found = n
		}
	}
	if found.ID == "" {
		return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "zendesk." + op, Detail: "no record carries this external id"}
	}
	return found, c.keyed(ctx, found)
}

// Write brings records up to date or deletes them, several at once; two writes to one record keep their order. The
// vendor's bulk calls are background jobs that answer later and without versions, there is none that creates or updates
// organizations, and the one for users is off until the vendor is asked: they are not used.
func (c *Connector) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	chains := map[string][]int{}
	for i, w := range writes {
		key := w.Ref.Object + "\x00" + w.External
		chains[key] = append(chains[key], i)
	}
	var wg sync.WaitGroup
	for _, chain := range chains {
		wg.Go(func() {
			for _, i := range chain {
				out[i] = c.write(ctx, writes[i])
			}
		})
	}
	wg.Wait()
	return out
}

// write does one. The client bounds how many run at once.
func (c *Connector) write(ctx context.Context, w platform.Write) platform.Written {
	op := w.Ref.Object + ".write"
	p, err := c.place("zendesk.write", w.Ref.Object)
	if err == nil && w.External == "" {
		err = &fault.Error{Class: fault.Contract, Op: "zendesk." + op, Fields: []string{"external_id"}, Detail: "a write without external id"}
	}
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	switch {
	case w.Delete:
		return c.erase(ctx, w, p)
	case w.Ref.Object == User:
		return c.writeUser(ctx, w, p)
	}
	body := fieldsOf(w)
	if w.Ref.Object == Ticket {
		if body, err = c.ticketBody(ctx, "zendesk."+op, body); err != nil {
			return platform.Written{ID: w.Ref.ID, Err: err}
		}
	}
	method, path := http.MethodPut, p.path+"/"+url.PathEscape(w.Ref.ID)
	var query url.Values
	isCustom := w.Ref.Object != Organization && w.Ref.Object != Ticket
	switch {
	case isCustom && w.Ref.ID == "":
		method, path, query = http.MethodPatch, p.path, url.Values{"external_id": {w.External}}
	case isCustom:
		method = http.MethodPatch
	case w.Ref.ID != "":
	case w.Ref.Object == Organization:
		method, path = http.MethodPost, p.path+"/create_or_update"
	default:
		return c.createTicket(ctx, w, p, body)
	}
	return c.save(ctx, w.Ref, p, method, path, query, nil, body)
}

// createTicket creates a ticket, or updates the one that carries the external id: external ids of tickets are not unique.
// The key guards against an earlier attempt that arrives after we have looked, for 2 hours.
// https://developer.zendesk.com/api-reference/ticketing/introduction/#idempotency
func (c *Connector) createTicket(ctx context.Context, w platform.Write, p place, body map[string]any) platform.Written {
	found, err := c.Find(ctx, Ticket, w.External)
	var header http.Header
	switch {
	case err == nil:
		return c.save(ctx, w.Ref, p, http.MethodPut, p.path+"/"+found.ID, nil, nil, body)
	case !fault.Is(err, fault.NotFound):
		return platform.Written{Err: err}
	case w.Key != "":
		header = http.Header{"Idempotency-Key": {w.Key}}
	}
	out := c.save(ctx, w.Ref, p, http.MethodPost, p.path, nil, header, body)
	if e := fault.Outermost(out.Err); e == nil || e.Code != codeOtherBody {
		return out
	}
	// An earlier attempt, with other values, has arrived meanwhile.
	if found, err = c.Find(ctx, Ticket, w.External); err != nil {
		return platform.Written{Err: fault.Wrap(fault.Conflict, "zendesk.ticket.write", "", out.Err)}
	}
	return c.save(ctx, w.Ref, p, http.MethodPut, p.path+"/"+found.ID, nil, nil, body)
}

// codeOtherBody refuses an idempotency key that came with another body before.
const codeOtherBody = "IdempotentRequestError"

// fieldsOf is the body of w.
func fieldsOf(w platform.Write) map[string]any {
	body := maps.Clone(w.Fields)
	if body == nil {
		body = map[string]any{}
	}
	body["external_id"] = w.External
	return body
}

// save sends body, the whole or a part of a record, and reads the record out of the answer.
func (c *Connector) save(ctx context.Context, ref record.Ref, p place, method, path string, query url.Values, header http.Header, body map[string]any) platform.Written {
	n, status, err := c.saved(ctx, ref, p, method, path, query, header, body)
	if err != nil {
		return platform.Written{ID: ref.ID, Err: err}
	}
	return platform.Written{ID: n.ID, Version: n.Version, Created: status == http.StatusCreated, Fields: n.Fields}
}

// saved sends body and reads the record that it was saved as: ref's, if it is known, and with body's external id.
func (c *Connector) saved(ctx context.Context, ref record.Ref, p place, method, path string, query url.Values, header http.Header, body map[string]any) (record.Native, int, error) {
	op := ref.Object + ".write"
	answer, resp, err := c.call(ctx, op, method, path, query, header, map[string]any{p.one: body})
	if err != nil {
		return record.Native{}, resp.Status, err
	}
	fields, err := member(op, true, answer, p.one)
	if err != nil {
		return record.Native{}, resp.Status, err
	}
	external := text(fields["external_id"]) // of a deleted record it may be gone
	n, err := native(op, ref.Object, fields, resp.Date)
	if err != nil {
		return record.Native{}, resp.Status, fault.Wrap(fault.Unknown, "zendesk."+op, "", err)
	}
	if ref.ID != "" && n.ID != ref.ID || n.Gone || external != text(body["external_id"]) {
		return record.Native{}, resp.Status, garbled(op, true, "the answer is about another record", nil)
	}
	return n, resp.Status, c.keyed(ctx, n) // asks nothing: the list is known since before the write
}

// erase deletes w.Ref. Organizations, users and tickets can be deleted but not taken back by API.
func (c *Connector) erase(ctx context.Context, w platform.Write, p place) platform.Written {
	op := w.Ref.Object + ".delete"
	if w.Ref.ID == "" {
		return platform.Written{Err: &fault.Error{Class: fault.Contract, Op: "zendesk." + op, Fields: []string{"id"}, Detail: "a deletion without native id"}}
	}
	answer, resp, err := c.call(ctx, op, http.MethodDelete, p.path+"/"+url.PathEscape(w.Ref.ID), nil, nil, nil)
	switch {
	case fault.Is(err, fault.NotFound) && refusal(resp) != nil:
		err = nil // gone already, in the vendor's own words
	case err == nil && resp.Status != http.StatusNoContent: // a user is shown once more
		if fields, _ := answer[p.one].(map[string]any); text(fields["id"]) != w.Ref.ID {
			err = garbled(op, true, "the answer does not say what was deleted", nil)
		}
	}
	return platform.Written{ID: w.Ref.ID, Err: err}
}
