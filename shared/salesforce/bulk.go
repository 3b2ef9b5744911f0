package salesforce

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// inBulk is where the listing of a whole object by Bulk API 2.0 stands: no job yet, a job that the vendor works on, or so many
// rows of its result.
type inBulk struct {
	Job     string `json:"job,omitempty"`
	Ready   bool   `json:"ready,omitempty"` // the result is there
	Total   int    `json:"total,omitempty"` // of a ready one, its rows
	Read    int    `json:"read,omitempty"`
	Locator string `json:"locator,omitempty"` // where its next part begins
}

// bulkPages is how many times a page of Changes one part of a result holds: a call costs the same however much it brings, up to
// the 32 MB that a page may have.
const bulkPages = 5

// Bulk returns the cursor with which Changes lists everything that an object has by one query job of Bulk API 2.0, which costs a
// call per 10,000 rows in place of one per 2,000, and two more. The vendor works on the job for a while: until then a page is
// empty, and its cursor stays. After the last row Changes goes on with what has changed since the job was made. A
// result is kept for seven days; without it the job is made anew.
// https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/queries.htm
func (c *Connector) Bulk(string) string { return `{"v":1,"bulk":{}}` }

// bulk is one page of a listing by a job.
func (c *Connector) bulk(ctx context.Context, name string, o object, cur cursor) (platform.Page, error) {
	at := *cur.Bulk
	var page platform.Page
	var err error
	switch {
	case at.Job == "":
		page.More = true
		at, cur.At, err = c.order(ctx, name, o)
	case !at.Ready:
		page.More = true
		at, err = c.look(ctx, at)
	default:
		page, at, err = c.part(ctx, name, o, at, cur.At)
	}
	if fault.Is(err, fault.NotFound) && at.Job != "" { // the vendor has thrown it away
		page, at, err = platform.Page{More: true}, inBulk{}, nil
	}
	if err != nil {
		return platform.Page{}, fault.Wrap("", "salesforce.changes", name, err)
	}
	next := cursor{V: cursorVersion, At: cur.At, Bulk: &at}
	if !page.More { // what was changed while the job was worked on
		next, page.More = cursor{V: cursorVersion, At: cur.At.Add(-c.cfg.Overlap).UTC().Truncate(Resolution)}, true
	}
	text, err := json.Marshal(next)
	page.Cursor = string(text)
	return page, err
}

// order makes the job, and says when.
func (c *Connector) order(ctx context.Context, name string, o object) (inBulk, time.Time, error) {
	where := ""
	if o.own {
		where = " WHERE " + o.external + " != null"
	}
	body, err := json.Marshal(map[string]string{"operation": "queryAll", "query": "SELECT " + o.query + " FROM " + name + where})
	if err != nil {
		return inBulk{}, time.Time{}, err
	}
	began := c.cfg.Now()
	resp, err := c.do(ctx, vendorhttp.Request{Op: "changes.job", Method: http.MethodPost, Path: "/jobs/query", Body: body})
	if err != nil {
		return inBulk{}, time.Time{}, err
	}
	job, err := readJob(resp.Body)
	if !resp.Date.IsZero() { // the vendor's clock counts: a row that it read is not older than this
		began = resp.Date.Add(-c.cfg.Now().Sub(began))
	}
	return inBulk{Job: job.ID}, began.UTC().Truncate(Resolution), err
}

// job is a query job as the vendor tells of it.
type job struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Processed int    `json:"numberRecordsProcessed"`
	Message   string `json:"errorMessage"`
}

func readJob(body []byte) (job, error) {
	var j job
	if err := json.Unmarshal(body, &j); err != nil {
		return j, unreadable("changes.job", false, err)
	}
	if _, sound := canonicalID(j.ID); !sound {
		return j, unreadable("changes.job", false, errors.New("no job id"))
	}
	return j, nil
}

// look asks whether the result is there.
func (c *Connector) look(ctx context.Context, at inBulk) (inBulk, error) {
	resp, err := c.do(ctx, vendorhttp.Request{Op: "changes.job", Method: http.MethodGet, Path: "/jobs/query/" + url.PathEscape(at.Job)})
	if err != nil {
		return at, err
	}
	j, err := readJob(resp.Body)
	switch {
	case err != nil:
		return at, err
	case !sameID(j.ID, at.Job):
		return at, unreadable("changes.job", false, errors.New("it is about another job"))
	case j.State == "JobComplete":
		at.Ready, at.Total = true, j.Processed
		return at, nil
	case j.State == "UploadComplete" || j.State == "InProgress":
		return at, nil
	}
	return at, &fault.Error{Class: fault.Contract, Op: "salesforce.changes", ID: "job/" + at.Job, Code: platform.BadCursor, Detail: vendorhttp.Clip("the job ended as "+j.State+": "+j.Message, 300),
		Remedy: "see Setup, Bulk Data Load Jobs; then begin again"}
}

// part reads the next rows of the result.
func (c *Connector) part(ctx context.Context, name string, o object, at inBulk, made time.Time) (platform.Page, inBulk, error) {
	query := url.Values{"maxRecords": {strconv.Itoa(bulkPages * c.cfg.Page)}}
	if at.Locator != "" {
		query.Set("locator", at.Locator)
	}
	resp, err := c.do(ctx, vendorhttp.Request{Op: "changes", Page: true, Method: http.MethodGet, Path: "/jobs/query/" + url.PathEscape(at.Job) + "/results", Query: query, Limits: []string{longCalls},
		Header: http.Header{"Accept": {"text/csv"}}})
	if err != nil {
		return platform.Page{}, at, err
	}
	page, err := o.rows(name, resp.Body, made)
	if err != nil {
		return platform.Page{}, at, unreadable("changes", false, err)
	}
	if said := resp.Header.Get("Sforce-NumberOfRecords"); said != strconv.Itoa(len(page.Natives)) {
		return platform.Page{}, at, unreadable("changes", false, fmt.Errorf("%d rows, but %.20q are announced", len(page.Natives), said))
	}
	at.Read += len(page.Natives)
	last := at.Locator
	at.Locator = resp.Header.Get("Sforce-Locator")
	switch {
	case at.Locator == "null":
		if at.Read != at.Total { // a part was left out, or came twice
			return platform.Page{}, at, &fault.Error{Class: fault.Contract, Op: "salesforce.changes", ID: "job/" + at.Job, Code: platform.BadCursor,
				Detail: fmt.Sprintf("the result has %d rows, but its parts held %d", at.Total, at.Read), Remedy: "begin again"}
		}
	case at.Locator == "" || at.Locator == last || len(page.Natives) == 0 || at.Read > at.Total:
		return platform.Page{}, at, unreadable("changes", false, errors.New("the locator leads nowhere"))
	default:
		page.More = true
	}
	return page, at, nil
}

// rows decodes a part of a result: CSV with a header, in which everything is text and what is empty is null.
// https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/datafiles_prepare_csv.htm
func (o object) rows(name string, body []byte, made time.Time) (platform.Page, error) {
	r := csv.NewReader(bytes.NewReader(body))
	header, err := r.Read()
	if err != nil {
		return platform.Page{}, fmt.Errorf("no header: %w", err)
	}
	if want := strings.Split(o.query, ","); !slices.Equal(lower(header), lower(want)) {
		return platform.Page{}, fmt.Errorf("%d columns that were not asked for", len(header))
	}
	fields := strings.Split(o.query, ",") // as we write them
	var page platform.Page
	for {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return platform.Page{}, err
		}
		n, err := o.decode("changes", name, o.row(fields, line), made)
		if err != nil {
			return platform.Page{}, err
		}
		page.Natives = append(page.Natives, n)
	}
}

func lower(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = strings.ToLower(s)
	}
	return out
}

// row is a line in REST's form. Parents are nested; one of which everything is empty is not there.
func (o object) row(fields, line []string) map[string]any {
	m := make(map[string]any, len(fields))
	for i, f := range fields {
		var v any
		if line[i] != "" {
			v = native(o.kinds[f], line[i])
		}
		parent, field, nested := strings.Cut(f, ".")
		if !nested {
			m[f] = v
			continue
		}
		if _, said := m[parent]; !said {
			m[parent] = nil
		}
		if v == nil {
			continue
		}
		in, _ := m[parent].(map[string]any)
		if in == nil {
			in = map[string]any{}
			m[parent] = in
		}
		in[field] = v
	}
	return m
}
