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
	if err != nil {
		return record.Native{}, err
	}
	fields, err := member(op, false, answer, p.one, resp)
	if err != nil {
		return record.Native{}, err
	}
	return native(op, ref.Object, fields, resp.Date)
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
	case Organization:
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
		if text(fields["external_id"]) != external { // organizations match regardless of case
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
	return found, nil
}

// Write brings records up to date, several at once; two writes to one record keep their order. The vendor's bulk
// calls are background jobs that answer later and without versions: they are not used.
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
	body := maps.Clone(w.Fields)
	if body == nil {
		body = map[string]any{}
	}
	body["external_id"] = w.External
	method, path := http.MethodPut, p.path+"/"+url.PathEscape(w.Ref.ID)
	var query url.Values
	var header http.Header
	isCustom := w.Ref.Object != Organization && w.Ref.Object != Ticket
	switch {
	case isCustom && w.Ref.ID == "":
		method, path, query = http.MethodPatch, p.path, url.Values{"external_id": {w.External}}
	case isCustom:
		method = http.MethodPatch
	case w.Ref.ID != "":
	case w.Ref.Object == Organization:
		method, path = http.MethodPost, p.path+"/create_or_update"
	default: // a ticket: the key guards 2 hours, the external id ever after
		found, err := c.Find(ctx, Ticket, w.External)
		switch {
		case err == nil:
			path = p.path + "/" + found.ID
		case fault.Is(err, fault.NotFound):
			method, path = http.MethodPost, p.path
			if w.Key != "" {
				header = http.Header{"Idempotency-Key": {w.Key}}
			}
		default:
			return platform.Written{Err: err}
		}
	}
	answer, resp, err := c.call(ctx, op, method, path, query, header, map[string]any{p.one: body})
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	fields, err := member(op, true, answer, p.one, resp)
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	n, err := native(op, w.Ref.Object, fields, resp.Date)
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: fault.Wrap(fault.Unknown, "zendesk."+op, "", err)}
	}
	return platform.Written{ID: n.ID, Version: n.Version, Created: resp.Status == http.StatusCreated}
}
