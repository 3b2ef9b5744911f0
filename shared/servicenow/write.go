package servicenow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

func path(object, id string) string {
	p := "/api/now/table/" + object
	if id != "" {
		p += "/" + id
	}
	return p
}

// Read returns the whole record. A deleted one answers like one that never was, or that an access rule hides:
// fault.NotFound.
func (c *Connector) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	op := ref.Object + ".read"
	if err := checkObject("read", ref.Object); err != nil {
		return record.Native{}, err
	}
	if err := checkID(op, ref.ID); err != nil {
		return record.Native{}, err
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, path(ref.Object, ref.ID), shape(), nil)
	if err != nil {
		return record.Native{}, err
	}
	fields, ok := answer["result"].(map[string]any)
	if !ok {
		return record.Native{}, garbled(op, false, "the answer lacks result", nil)
	}
	n, err := native(op, ref.Object, fields, resp.Date)
	if err == nil && n.ID != ref.ID {
		return record.Native{}, garbled(op, false, "the answer is about another record", nil)
	}
	return n, err
}

// externalForm keeps '^', which would end the condition, out of queries.
var externalForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

func checkExternal(op, id string) error {
	if externalForm.MatchString(id) {
		return nil
	}
	return &fault.Error{Class: fault.Contract, Op: "servicenow." + op, Fields: []string{external},
		Detail: fmt.Sprintf("external id of %d characters; want 1 to 100 letters, digits, _ or -", len(id))}
}

// Find returns the record that carries the external id. An instance without the field would answer with any
// records, so what comes is compared.
func (c *Connector) Find(ctx context.Context, object, id string) (record.Native, error) {
	op := object + ".find"
	if err := checkObject("find", object); err != nil {
		return record.Native{}, err
	}
	if err := checkExternal(op, id); err != nil {
		return record.Native{}, err
	}
	query := shape()
	query.Set("sysparm_query", external+"="+id)
	query.Set("sysparm_limit", "10")
	query.Set("sysparm_no_count", "true")
	answer, resp, err := c.call(ctx, op, http.MethodGet, path(object, ""), query, nil)
	if err != nil {
		return record.Native{}, err
	}
	list, err := rows(op, answer)
	if err != nil {
		return record.Native{}, err
	}
	for _, fields := range list {
		if fields["sys_id"] == nil {
			return record.Native{}, garbled(op, false, "a row without sys_id", nil)
		}
		if _, has := fields[external]; !has {
			return record.Native{}, &fault.Error{Class: fault.Refused, Op: "servicenow." + op, Fields: []string{external},
				Detail: "the table has no such field, or the integration user may not read it", Remedy: "install infra/servicenow"}
		}
		if text(fields[external]) == id { // the vendor compares without regard to case
			return native(op, object, fields, resp.Date)
		}
	}
	return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "servicenow." + op, Detail: "no record carries this external id"}
}

// rows are the records of a list.
func rows(op string, answer map[string]any) ([]map[string]any, error) {
	list, ok := answer["result"].([]any)
	if !ok {
		return nil, garbled(op, false, "the answer lacks result", nil)
	}
	out := make([]map[string]any, len(list))
	for i, a := range list {
		if out[i], ok = a.(map[string]any); !ok {
			return nil, garbled(op, false, fmt.Sprintf("result[%d] is no object", i), nil)
		}
	}
	return out, nil
}

// Write brings records up to date, several at once; two writes to one record keep their order. The vendor's batch
// call only wraps single calls and does not say whether they keep their order, and the import sets' insertMultiple
// answers before the work is done: they are not used.
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
	err := checkObject("write", w.Ref.Object)
	if err == nil && (w.Ref.ID != "" || w.Delete) {
		err = checkID(op, w.Ref.ID)
	}
	if err == nil && !w.Delete {
		err = checkExternal(op, w.External)
	}
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	if w.Delete {
		return c.remove(ctx, w.Ref)
	}
	body, err := encode(op, w)
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	if w.Ref.ID != "" {
		return c.save(ctx, w.Ref.Object, w.Ref.ID, body)
	}
	var made platform.Written
	if c.cfg.ImportSets {
		made = c.load(ctx, w.Ref.Object, body)
	} else {
		if found, err := c.Find(ctx, w.Ref.Object, w.External); err == nil {
			return c.save(ctx, w.Ref.Object, found.ID, body)
		} else if !fault.Is(err, fault.NotFound) {
			return platform.Written{Err: err}
		}
		made = c.save(ctx, w.Ref.Object, "", body)
	}
	if fault.Is(made.Err, fault.Refused) { // by the unique index, perhaps: somebody else was first
		found, err := c.Find(ctx, w.Ref.Object, w.External)
		switch {
		case err == nil:
			return c.save(ctx, w.Ref.Object, found.ID, body)
		case !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Refused): // who was first cannot be told now
			return platform.Written{Err: err}
		}
	}
	return made
}

// remove deletes. The vendor answers 404 for a record that is gone already, and for one that an access rule hides.
func (c *Connector) remove(ctx context.Context, ref record.Ref) platform.Written {
	op := ref.Object + ".delete"
	_, resp, err := c.call(ctx, op, http.MethodDelete, path(ref.Object, ref.ID), nil, nil)
	if e := fault.Outermost(err); fault.Is(err, fault.NotFound) && e.Detail != "" { // in the vendor's own words
		err = nil
	} else if err == nil && resp.Status != http.StatusNoContent {
		err = garbled(op, true, "a deletion is answered 204, and this answer is not", nil)
	}
	return platform.Written{ID: ref.ID, Err: err}
}

// encode makes the body: strings only, "" clears.
func encode(op string, w platform.Write) (map[string]string, error) {
	body := make(map[string]string, len(w.Fields)+1)
	for k, v := range w.Fields {
		switch x := v.(type) {
		case nil:
			body[k] = ""
		case string, json.Number, bool:
			body[k] = text(x)
		case int:
			body[k] = strconv.Itoa(x)
		case int64:
			body[k] = strconv.FormatInt(x, 10)
		case float64:
			body[k] = strconv.FormatFloat(x, 'f', -1, 64)
		default:
			return nil, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, Fields: []string{k}, Detail: fmt.Sprintf("a %T has no form in the Table API", v),
				Remedy: "map the field to a text, a number, a truth value or a sys_id"}
		}
	}
	body[external] = w.External
	return body, nil
}

// save inserts (empty id) or updates through the Table API.
func (c *Connector) save(ctx context.Context, object, id string, body map[string]string) platform.Written {
	op, method := object+".update", http.MethodPatch
	if id == "" {
		op, method = object+".insert", http.MethodPost
	}
	answer, resp, err := c.call(ctx, op, method, path(object, id), shape(), body)
	if err != nil {
		return platform.Written{ID: id, Err: err}
	}
	fields, ok := answer["result"].(map[string]any)
	if !ok {
		return platform.Written{ID: id, Err: garbled(op, true, "the answer lacks result", nil)}
	}
	n, err := native(op, object, fields, resp.Date)
	if err != nil {
		return platform.Written{ID: id, Err: fault.Wrap(fault.Unknown, "servicenow."+op, "", err)}
	}
	sent, whose := body[external]
	if id != "" && n.ID != id || whose && n.External != "" && n.External != sent {
		return platform.Written{ID: id, Err: garbled(op, true, "the answer is about another record", nil)}
	}
	return platform.Written{ID: n.ID, Version: n.Version, Created: resp.Status == http.StatusCreated, Fields: n.Fields, Err: dropped(op, body, n)}
}

// dropped says which sent fields the answer does not know: the vendor ignores them in silence. Journal fields
// are never shown.
func dropped(op string, body map[string]string, n record.Native) error {
	var lost []string
	for k := range body {
		if _, has := n.Fields[k]; !has && k != "comments" && k != "work_notes" {
			lost = append(lost, k)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	sort.Strings(lost)
	return &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: n.Object + "/" + n.ID, Fields: lost,
		Detail: "the table has no such fields, or the integration user may not use them; all others were written", Remedy: "install infra/servicenow, or correct the mapping"}
}

// column is a field's name in the kit's staging tables, whose own columns all begin with u_.
func column(field string) string {
	if strings.HasPrefix(field, "u_") {
		return field
	}
	return "u_" + field
}

// load upserts through the kit's import set, whose transform map coalesces on the external id. HTTP says 201 even
// for a row that failed. A transform ignores empty columns, so what is to be cleared on a record that was there is
// cleared by an update.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/c_ImportSetAPI.html
func (c *Connector) load(ctx context.Context, object string, body map[string]string) platform.Written {
	op := object + ".import"
	row := make(map[string]string, len(body))
	clear := map[string]string{}
	for k, v := range body {
		if v == "" {
			clear[k] = ""
			continue
		}
		row[column(k)] = v
	}
	answer, resp, err := c.call(ctx, op, http.MethodPost, "/api/now/import/u_sorrel_"+url.PathEscape(object), nil, row)
	if err != nil {
		return platform.Written{Err: err}
	}
	list, err := rows(op, answer)
	if err != nil {
		return platform.Written{Err: fault.Wrap(fault.Unknown, "servicenow."+op, "", err)}
	}
	for _, r := range list {
		if text(r["table"]) != object {
			continue
		}
		id, status := text(r["sys_id"]), text(r["status"])
		if !sysID.MatchString(id) || status != "inserted" && status != "updated" && status != "ignored" {
			if status != "error" && status != "skipped" {
				return platform.Written{Err: garbled(op, true, fmt.Sprintf("an import row with the status %.40q", status), nil)}
			}
			e := said(resp.Status, "import row "+cut(status, 40), text(r["error_message"]), text(r["status_message"]))
			if e.Code == strconv.Itoa(resp.Status) {
				e.Code = codeImport
				e = fromTable(resp.Status, e)
			}
			e.Op = "servicenow." + op
			return platform.Written{Err: e}
		}
		if status != "inserted" && len(clear) > 0 {
			out := c.save(ctx, object, id, clear)
			out.Err = vendorhttp.Half("servicenow."+op, out.Err)
			return out
		}
		return platform.Written{ID: id, Created: status == "inserted"}
	}
	return platform.Written{Err: garbled(op, true, "the answer has no row of "+object, nil)}
}
