package servicenow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// overlap is read again at the start of each listing: a transaction may show its record later than the time in it.
const overlap = 2 * time.Minute

// position is where a listing goes on.
type position struct {
	V    int    `json:"v"`
	At   string `json:"at,omitempty"`   // sys_updated_on to go on from, UTC
	ID   string `json:"id,omitempty"`   // of the record that was listed last; empty: everything of At again
	Skip int    `json:"skip,omitempty"` // rows after it that an access rule hides
	Size int    `json:"size,omitempty"` // rows to ask for, after a page took too long
}

func (p position) valid() bool {
	_, err := time.Parse(layout, p.At)
	return p.V == 1 && (p.At == "" && p.ID == "" || err == nil) && (p.ID == "" || sysID.MatchString(p.ID)) && p.Skip >= 0 && p.Size >= 0
}

// query asks for everything after p, in the order of sys_updated_on and sys_id.
// https://www.servicenow.com/docs/r/platform-user-interface/r_OpAvailableFiltersQueries.html
func (p position) query() string {
	const order = "ORDERBYsys_updated_on^ORDERBYsys_id"
	switch {
	case p.At == "":
		return order
	case p.ID == "":
		return "sys_updated_on>=" + p.At + "^" + order
	}
	return "sys_updated_on=" + p.At + "^sys_id>" + p.ID + "^NQsys_updated_on>" + p.At + "^" + order
}

// Changes lists what changed since cursor, oldest first. Deletions are not listed. A record that is saved while its
// table is listed comes again, later.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html
func (c *Connector) Changes(ctx context.Context, object, cursor string) (platform.Page, error) {
	op := object + ".changes"
	if err := checkObject("changes", object); err != nil {
		return platform.Page{}, err
	}
	at := position{V: 1}
	if cursor != "" {
		at = position{}
		if err := json.Unmarshal([]byte(cursor), &at); err != nil || !at.valid() {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, Code: platform.BadCursor, Fields: []string{"cursor"}, Err: err,
				Detail: "not a cursor of this listing", Remedy: "start again with an empty cursor"}
		}
	}
	if err := c.checkZone(ctx, op, object); err != nil {
		return platform.Page{}, err
	}
	page, next, err := c.page(ctx, op, object, at)
	if err != nil {
		return platform.Page{}, err
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return platform.Page{}, fault.Wrap(fault.Internal, "servicenow."+op, "", err)
	}
	page.Cursor = string(raw)
	return page, nil
}

func (c *Connector) page(ctx context.Context, op, object string, at position) (platform.Page, position, error) {
	size := c.cfg.PageSize
	if at.Size > 0 {
		size = min(size, at.Size)
	}
	list, more, date, err := c.list(ctx, op, object, at.query(), size, at.Skip)
	for code := codeOf(err); code == codeTime && size > 10; code = codeOf(err) {
		size = max(10, size/4)
		at.Size = size
		list, more, date, err = c.list(ctx, op, object, at.query(), size, at.Skip)
	}
	if err != nil {
		return platform.Page{}, at, err
	}
	page := platform.Page{More: more}
	for _, fields := range list {
		n, err := native(op, object, fields, date)
		if err != nil {
			return platform.Page{}, at, err
		}
		if at.At != "" && text(n.Fields["sys_updated_on"]) < at.At {
			return platform.Page{}, at, &fault.Error{Class: fault.Refused, Op: "servicenow." + op, Fields: []string{"sys_updated_on"},
				Detail: "the listing begins before the time that it was asked for", Remedy: "set the integration user's time zone to GMT"}
		}
		page.Natives = append(page.Natives, n)
	}
	next := position{V: 1, At: at.At, ID: at.ID, Skip: at.Skip + size, Size: at.Size} // a page of hidden rows only
	if n := len(page.Natives); n > 0 {
		last := page.Natives[n-1]
		next = position{V: 1, At: last.Version.At.Format(layout), ID: last.ID, Size: at.Size}
	}
	if more {
		return page, next, nil
	}
	if date.IsZero() { // no clock: stay behind what was listed
		if date = instant(next.At); date.IsZero() {
			return page, position{V: 1}, nil
		}
	}
	return page, position{V: 1, At: date.UTC().Add(-overlap).Format(layout)}, nil
}

func codeOf(err error) string {
	if e, ok := err.(*fault.Error); ok {
		return e.Code
	}
	return ""
}

// list fetches one page, and says whether there is another. The vendor cuts a page before access rules hide rows
// from it, so a short one need not be the last: its Link header knows.
func (c *Connector) list(ctx context.Context, op, object, query string, size, skip int) (list []map[string]any, more bool, date time.Time, err error) {
	q := shape()
	q.Set("sysparm_query", query)
	q.Set("sysparm_limit", strconv.Itoa(size))
	if skip > 0 {
		q.Set("sysparm_offset", strconv.Itoa(skip))
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, path(object, ""), q, nil)
	if err != nil {
		return nil, false, time.Time{}, err
	}
	list, err = rows(op, answer)
	link := resp.Header.Get("Link")
	return list, strings.Contains(link, `rel="next"`) || link == "" && len(list) >= size, resp.Date, err
}

// checkZone tries once for each connector that the vendor reads a time in a query as UTC, which it shows times in. With an
// integration user west of Greenwich a listing would miss hours without a word.
func (c *Connector) checkZone(ctx context.Context, op, object string) error {
	if c.utc.Load() {
		return nil
	}
	newest, _, _, err := c.list(ctx, op, object, "ORDERBYDESCsys_updated_on", 1, 0)
	if err != nil || len(newest) == 0 {
		return err // an empty table has nothing to try it with
	}
	n, err := native(op, object, newest[0], time.Time{})
	if err != nil {
		return err
	}
	stamp := text(n.Fields["sys_updated_on"])
	same, _, _, err := c.list(ctx, op, object, "sys_id="+n.ID+"^sys_updated_on="+stamp, 1, 0)
	if err != nil {
		return err
	}
	if len(same) > 0 {
		c.utc.Store(true)
		return nil
	}
	now, err := c.Read(ctx, record.Ref{Platform: record.ServiceNow, Object: object, ID: n.ID})
	switch {
	case fault.Is(err, fault.NotFound), err == nil && now.Version.Seq != n.Version.Seq:
		return nil // it was changed meanwhile: try another time
	case err != nil:
		return err
	}
	return &fault.Error{Class: fault.Refused, Op: "servicenow." + op, Fields: []string{"sys_updated_on"},
		Detail: fmt.Sprintf("a query for the very time of %s/%s does not find it", object, n.ID), Remedy: "set the integration user's time zone to GMT"}
}
