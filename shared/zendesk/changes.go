package zendesk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

const (
	// back is how far behind the clock a start time stays. Exports withhold the last minute and refuse a start
	// time in it (older captures of the docs: 5 minutes, which the answer then says and Changes waits out).
	back = 2 * time.Minute
	// overlap is read again at the start of each listing of organizations.
	overlap = time.Minute
	// indexed is how far the search index may be behind: "a few minutes".
	// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/
	indexed = 10 * time.Minute
)

// position is where a listing goes on. The vendor compares its own generated_timestamp, not updated_at: a record
// may come with an updated_at before the start time.
type position struct {
	V     int    `json:"v"`
	Start int64  `json:"start,omitempty"` // unix time to ask from
	After string `json:"after,omitempty"` // vendor's cursor: of an export, or of the full list
	Full  bool   `json:"full,omitempty"`  // organizations: After goes through the full list, because of a tie
}

// Changes lists what changed since cursor, oldest first. Users, tickets and custom object records come by cursor
// exports, whose cursors do not tie. Organizations have only a time-based export; where one second holds more
// than a page, which that export cannot get past, the full list is read instead, and then the export goes on.
// Deletions come as Gone (custom object records: for 30 days).
// https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api
func (c *Connector) Changes(ctx context.Context, object, cursor string) (platform.Page, error) {
	op := object + ".changes"
	p, err := c.place("zendesk.changes", object)
	if err != nil {
		return platform.Page{}, err
	}
	at := position{V: 1, Start: 1}
	if cursor != "" {
		if err := json.Unmarshal([]byte(cursor), &at); err != nil || at.V != 1 {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, Code: platform.BadCursor, Fields: []string{"cursor"}, Err: err,
				Detail: "not a cursor of this listing", Remedy: "start again with an empty cursor"}
		}
	}
	var page platform.Page
	var next position
	switch {
	case at.Full:
		page, next, err = c.fullList(ctx, op, p, at)
	case object == Organization:
		page, next, err = c.byTime(ctx, op, p, at)
	default:
		page, next, err = c.byCursor(ctx, op, object, p, at)
	}
	if err != nil {
		return platform.Page{}, err
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return platform.Page{}, fault.Wrap(fault.Internal, "zendesk."+op, "", err)
	}
	page.Cursor = string(raw)
	return page, nil
}

// start is the start time to send for at.
func (c *Connector) start(at position) string {
	return strconv.FormatInt(max(1, min(at.Start, c.cfg.Now().Add(-back).Unix())), 10)
}

// export fetches one page. recent means that the vendor found the start time too recent: there is nothing yet.
func (c *Connector) export(ctx context.Context, op, path string, query url.Values) (answer map[string]any, resp vendorhttp.Response, recent bool, err error) {
	query.Set("per_page", strconv.Itoa(c.cfg.PageSize))
	answer, resp, err = c.call(ctx, op, http.MethodGet, path, query, nil, nil)
	if resp.Status == http.StatusUnprocessableEntity && strings.Contains(string(resp.Body), "Too recent start_time") {
		return nil, resp, true, nil
	}
	return answer, resp, false, err
}

func (c *Connector) byTime(ctx context.Context, op string, p place, at position) (platform.Page, position, error) {
	start := c.start(at)
	answer, resp, recent, err := c.export(ctx, op, "/api/v2/incremental/organizations", url.Values{"start_time": {start}})
	if err != nil || recent {
		return platform.Page{}, at, err
	}
	page, _, err := natives(op, Organization, answer, p.many, resp.Date)
	if err == nil {
		err = c.winners(ctx, page.Natives, resp.Date)
	}
	if err != nil {
		return platform.Page{}, at, err
	}
	asked, _ := strconv.ParseInt(start, 10, 64)  // our own digits
	end, ok := number(answer["end_time"])        // time of the last record of the page
	list, _ := answer[p.many].([]any)            // natives checked it
	done, said := answer["end_of_stream"].(bool) // older answers lack it
	done = done || (!said && len(list) < c.cfg.PageSize) || len(list) == 0
	switch {
	case done && (!ok || len(list) == 0):
		return page, position{V: 1, Start: asked}, nil
	case !ok:
		return platform.Page{}, at, garbled(op, false, "the answer lacks end_time", nil)
	case done:
		return page, position{V: 1, Start: max(1, end-int64(overlap/time.Second))}, nil
	case end <= asked: // a second with more than a page: the export would give the same page for ever
		page.More = true
		return page, position{V: 1, Start: asked, Full: true}, nil
	}
	page.More = true
	return page, position{V: 1, Start: end}, nil
}

// fullList goes through all living organizations and then takes the export up again after the tie.
func (c *Connector) fullList(ctx context.Context, op string, p place, at position) (platform.Page, position, error) {
	query := url.Values{"page[size]": {"100"}}
	if at.After != "" {
		query.Set("page[after]", at.After)
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, p.path, query, nil, nil)
	if err != nil {
		return platform.Page{}, at, err
	}
	page, _, err := natives(op, Organization, answer, p.many, resp.Date)
	if err != nil {
		return platform.Page{}, at, err
	}
	page.More = true
	meta, _ := answer["meta"].(map[string]any)
	if after := text(meta["after_cursor"]); meta["has_more"] == true && after != "" {
		return page, position{V: 1, Start: at.Start, Full: true, After: after}, nil
	}
	return page, position{V: 1, Start: at.Start + 1}, nil
}

func (c *Connector) byCursor(ctx context.Context, op, object string, p place, at position) (platform.Page, position, error) {
	path := "/api/v2/incremental/tickets/cursor"
	if object == User {
		path = "/api/v2/incremental/users/cursor"
	} else if key, ok := strings.CutPrefix(object, custom); ok {
		path = "/api/v2/incremental/custom_objects/" + key + "/cursor"
	}
	query := url.Values{"start_time": {c.start(at)}}
	if at.After != "" {
		query = url.Values{"cursor": {at.After}}
	}
	answer, resp, recent, err := c.export(ctx, op, path, query)
	if at.After != "" && (resp.Status == http.StatusBadRequest || resp.Status == http.StatusUnprocessableEntity) {
		// A cursor that the vendor no longer takes: list again from the time it stood at, with the overlap.
		return platform.Page{More: true}, position{V: 1, Start: max(1, at.Start)}, nil
	}
	if err != nil || recent {
		return platform.Page{}, at, err
	}
	page, newest, err := natives(op, object, answer, p.many, resp.Date)
	if err == nil {
		err = c.keyed(ctx, page.Natives...)
	}
	if err != nil {
		return platform.Page{}, at, err
	}
	next := position{V: 1, Start: max(at.Start, newest.Add(-overlap).Unix()), After: text(answer["after_cursor"])}
	meta, _ := answer["meta"].(map[string]any)
	page.More = meta["has_more"] == true || answer["end_of_stream"] == false
	if page.More && next.After == "" {
		return platform.Page{}, at, garbled(op, false, "the answer has more, but lacks after_cursor", nil)
	}
	return page, next, nil
}

// mergeAge is how long after an organization's deletion a listing asks whether it was a merge: one call for each.
const mergeAge = 7 * 24 * time.Hour

// winners says Into for those of the listed organizations that were merged.
func (c *Connector) winners(ctx context.Context, natives []record.Native, date time.Time) error {
	for i, n := range natives {
		if !n.Gone || date.Sub(n.Version.At) > mergeAge {
			continue
		}
		m, err := c.merge(ctx, n.Ref)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil && m.Into != "" {
			natives[i].Into, natives[i].Version = m.Into, m.Version
		}
	}
	return nil
}

// natives decodes a page, without agents. A record that comes twice in it is kept once, at its newest.
func natives(op, object string, answer map[string]any, key string, date time.Time) (platform.Page, time.Time, error) {
	list, ok := answer[key].([]any)
	if !ok {
		return platform.Page{}, time.Time{}, garbled(op, false, "the answer lacks "+key, nil)
	}
	var page platform.Page
	var newest time.Time
	place := map[string]int{}
	for i, a := range list {
		fields, ok := a.(map[string]any)
		if !ok {
			return platform.Page{}, time.Time{}, garbled(op, false, fmt.Sprintf("%s[%d] is no object", key, i), nil)
		}
		n, err := native(op, object, fields, date)
		if err != nil {
			return platform.Page{}, time.Time{}, err
		}
		if n.Version.At.After(newest) {
			newest = n.Version.At
		}
		if staff(object, fields) {
			continue
		}
		if j, twice := place[n.ID]; !twice {
			place[n.ID] = len(page.Natives)
			page.Natives = append(page.Natives, n)
		} else if n.Gone || n.Version.Compare(page.Natives[j].Version) >= 0 {
			page.Natives[j] = n
		}
	}
	return page, newest, nil
}

func number(a any) (int64, bool) {
	n, err := strconv.ParseInt(text(a), 10, 64)
	return n, err == nil
}
