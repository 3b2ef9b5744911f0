package netsuite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// Read reads one record by its internal id. A deleted record is not-found: NetSuite does not tell the two apart.
func (c *Connector) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	if ref.Object == pricing {
		return c.price(ctx, ref)
	}
	if !digits(ref.ID) {
		return record.Native{}, &fault.Error{Class: fault.Contract, Op: "netsuite.read", ID: ref.String(), Detail: "an internal id has only digits"}
	}
	return c.get(ctx, "read", ref.Object, ref.ID)
}

// Find reads the record that carries an external id.
func (c *Connector) Find(ctx context.Context, object, external string) (record.Native, error) {
	if err := checkExternal("find", external); err != nil {
		return record.Native{}, err
	}
	return c.get(ctx, "find", object, "eid:"+external)
}

func (c *Connector) get(ctx context.Context, op, object, key string) (record.Native, error) {
	l, err := c.layoutOf(op, object)
	if err != nil {
		return record.Native{}, err
	}
	if l.each != "" {
		return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "netsuite." + op, ID: object + "/" + key, Detail: "lines carry no external id"}
	}
	if l.queried {
		if external, byExternal := strings.CutPrefix(key, "eid:"); byExternal {
			return c.only(ctx, op, l, key, "externalid = '"+external+"'") // checked by checkExternal
		}
		return c.only(ctx, op, l, key, "id = "+key)
	}
	raw, asked, err := c.raw(ctx, op, object, key)
	if err != nil {
		return record.Native{}, err
	}
	id := object + "/" + key
	n, err := l.native(raw, asked)
	if err != nil {
		return record.Native{}, fault.Wrap(fault.Contract, "netsuite."+op, id, err)
	}
	if external, byExternal := strings.CutPrefix(key, "eid:"); byExternal && n.External != external || !byExternal && n.ID != key {
		return record.Native{}, &fault.Error{Class: fault.Down, Op: "netsuite." + op, ID: id, Detail: "the answer is about another record"}
	}
	if n.Version.At.IsZero() {
		return record.Native{}, &fault.Error{Class: fault.Contract, Op: "netsuite." + op, ID: id, Detail: "the answer has no " + l.modified.name,
			Fields: []string{l.modified.name}, Remedy: "give the integration's role access to the field"}
	}
	return n, nil
}

// raw reads one record as the record API shows it, and the vendor's clock.
func (c *Connector) raw(ctx context.Context, op, object, key string) (raw map[string]any, asked time.Time, err error) {
	id := object + "/" + key
	resp, err := c.call(ctx, vendorhttp.Request{Op: op, Method: http.MethodGet, Path: recordPath(object, key), Query: url.Values{"expandSubResources": {"true"}}})
	if err != nil {
		return nil, time.Time{}, fault.Wrap("", "netsuite."+op, id, err)
	}
	if err := read(resp.Body, func(r *jsonread.Reader) { raw = r.Map() }); err != nil {
		return nil, time.Time{}, fault.Wrap(fault.Down, "netsuite."+op, id, err)
	}
	return raw, resp.Date, nil
}

// externalForm is what NetSuite accepts in eid: paths.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_156334828635.html
var externalForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

func checkExternal(op, external string) error {
	if externalForm.MatchString(external) {
		return nil
	}
	return &fault.Error{Class: fault.Contract, Op: "netsuite." + op, Fields: []string{"externalId"},
		Detail: fmt.Sprintf("external id of %d characters; want 1 to 100 letters, digits, _ or -", len(external))}
}

// Write writes or deletes each record with one call, or two if it gives an address book, several at a time; two
// writes to one record in the same batch have no order. NetSuite answers a write without a version, and does
// not say whether an upsert created the record.
func (c *Connector) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	var g errgroup.Group
	g.SetLimit(c.cfg.Concurrency)
	for i, w := range writes {
		g.Go(func() error {
			id, err := c.write(ctx, w)
			out[i] = platform.Written{ID: id, Err: err}
			return nil
		})
	}
	_ = g.Wait() // each error is in its own result
	return out
}

func (c *Connector) write(ctx context.Context, w platform.Write) (string, error) {
	l, err := c.layoutOf("write", w.Ref.Object)
	if err != nil {
		return "", err
	}
	switch {
	case l.queried:
		return "", &fault.Error{Class: fault.Contract, Op: "netsuite.write", ID: w.Ref.String(), Detail: "it can only be read", Remedy: "change it in NetSuite; no policy may target it there"}
	case (w.Ref.ID != "" || w.Delete) && !digits(w.Ref.ID):
		return "", &fault.Error{Class: fault.Contract, Op: "netsuite.write", ID: w.Ref.String(), Detail: "an internal id has only digits"}
	case w.Delete:
		return w.Ref.ID, c.remove(ctx, w.Ref)
	case w.Ref.ID == "":
		if err := checkExternal("write", w.External); err != nil {
			return "", err
		}
	}
	key, what := w.Ref.ID, w.Ref.String()
	if key == "" {
		key, what = "eid:"+w.External, w.Ref.Object+"/"+w.External
	}
	w.Fields = l.outward(w.Fields)
	if book, ok := w.Fields[addressBook].(map[string]any); ok && w.Ref.Object == customer {
		if w.Fields, err = c.withBook(ctx, w, key, book); err != nil {
			return "", err
		}
	}
	switch {
	case w.Ref.ID != "":
		_, err := c.send(ctx, "update", http.MethodPatch, recordPath(w.Ref.Object, key), what, w.Fields)
		return w.Ref.ID, err
	case w.Ref.Object == itemFulfillment:
		return c.fulfil(ctx, w)
	}
	// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_156335203191.html
	id, err := c.send(ctx, "upsert", http.MethodPut, recordPath(w.Ref.Object, key), what, w.Fields)
	return c.settled(ctx, w, id, err)
}

// settled finds the id of a write that was done, if its answer had no Location.
func (c *Connector) settled(ctx context.Context, w platform.Write, id string, err error) (string, error) {
	if err != nil || id != "" {
		return id, err
	}
	n, err := c.Find(ctx, w.Ref.Object, w.External)
	return n.ID, fault.Wrap(fault.Unknown, "netsuite.write", w.Ref.Object+"/"+w.External, err)
}

// remove deletes a record. Only NetSuite's own word counts as gone already: a gateway's 404 does not.
func (c *Connector) remove(ctx context.Context, ref record.Ref) error {
	resp, err := c.call(ctx, vendorhttp.Request{Op: "delete", Method: http.MethodDelete, Path: recordPath(ref.Object, ref.ID), Write: true})
	var e *fault.Error
	if errors.As(err, &e) && e.Class == fault.NotFound && (e.Code == "NONEXISTENT_ID" || e.Code == "RCRD_DSNT_EXIST") {
		return nil
	}
	if err == nil {
		err = done(resp)
	}
	return fault.Wrap("", "netsuite.delete", ref.String(), err)
}

// fulfil updates the fulfilment that carries the external id, or makes one out of its sales order: a
// fulfilment cannot be created by an upsert.
func (c *Connector) fulfil(ctx context.Context, w platform.Write) (string, error) {
	what := w.Ref.Object + "/" + w.External
	found, err := c.Find(ctx, itemFulfillment, w.External)
	switch {
	case err == nil:
		_, err = c.send(ctx, "update", http.MethodPatch, recordPath(itemFulfillment, found.ID), what, w.Fields)
		return found.ID, err
	case !fault.Is(err, fault.NotFound):
		return "", err
	}
	from, _ := w.Fields["createdFrom"].(map[string]any)
	order, _ := scalar(from["id"])
	if !digits(order) {
		return "", &fault.Error{Class: fault.Contract, Op: "netsuite.fulfil", ID: what, Fields: []string{"createdFrom"},
			Detail: "a new fulfilment needs createdFrom {\"id\": …} of its sales order"}
	}
	body := maps.Clone(w.Fields)
	delete(body, "createdFrom")
	body["externalId"] = w.External
	id, err := c.send(ctx, "fulfil", http.MethodPost, recordPath(salesOrder, order)+"/!transform/itemFulfillment", what, body)
	if fault.Is(err, fault.Refused) { // an earlier attempt may have arrived after we looked
		switch found, looked := c.Find(ctx, itemFulfillment, w.External); {
		case looked == nil:
			_, err = c.send(ctx, "update", http.MethodPatch, recordPath(itemFulfillment, found.ID), what, w.Fields)
			return found.ID, err
		case !fault.Is(looked, fault.NotFound):
			return "", looked
		}
	}
	return c.settled(ctx, w, id, err)
}

// done is nil if resp is what the record API says after a write: 204. Any other success is a page of somebody
// else's, or a job that has only been accepted.
func done(resp vendorhttp.Response) error {
	if resp.Status == http.StatusNoContent {
		return nil
	}
	return &fault.Error{Class: fault.Unknown, Code: strconv.Itoa(resp.Status), Detail: "a write is answered 204, and this answer is not"}
}

// send sends one write and returns the id in its Location, if there is one of a record.
func (c *Connector) send(ctx context.Context, op, method, target, what string, fields map[string]any) (string, error) {
	if fields == nil {
		fields = map[string]any{}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return "", fault.Wrap(fault.Contract, "netsuite."+op, what, err)
	}
	r := vendorhttp.Request{Op: op, Method: method, Path: target, Body: body, Write: true, Header: http.Header{
		"Content-Type":                      {"application/json"},
		"X-Netsuite-Propertynamevalidation": {"Error"}, // otherwise a misspelt field is dropped in silence
	}}
	var sublists []string
	for name, v := range fields {
		if m, ok := v.(map[string]any); ok && m["items"] != nil && name != addressBook {
			sublists = append(sublists, name)
		}
	}
	if sort.Strings(sublists); len(sublists) > 0 && method != http.MethodPost {
		r.Query = url.Values{"replace": {strings.Join(sublists, ",")}}
	}
	resp, err := c.call(ctx, r)
	if err == nil {
		err = done(resp)
	}
	if err != nil {
		return "", fault.Wrap("", "netsuite."+op, what, err)
	}
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return "", nil
	}
	if dir, id := path.Split(location.Path); strings.Contains(dir, "/record/v1/") && digits(id) {
		return id, nil
	}
	return "", nil
}
