package zendesk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

const (
	// idsPerCall is how many records show_many and filter[ids] take.
	// https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#show-many-organizations
	idsPerCall = 100
	// listPage and searchPage are pages of lists and of the search export; of tickets the vendor recommends 100.
	// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#export-search-results
	listPage   = 100
	searchPage = 1000
)

// Census counts living organizations, end users or tickets by updated_at: one search for each bucket, so spans with buckets
// must have bounds. The search index is some minutes behind (platform.Object.Settles). Custom object records are not
// counted: no search of them by time is known to tell a number.
// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#show-results-count
func (c *Connector) Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	op := object + ".census"
	if _, err := c.place("zendesk.census", object); err != nil {
		return nil, err
	}
	if strings.HasPrefix(object, custom) {
		return nil, &fault.Error{Class: fault.NotFound, Op: "zendesk." + op, ID: object, Detail: "custom object records are not counted by time", Remedy: "list them"}
	}
	spans, err := platform.Buckets("zendesk."+op, object, within, width)
	if err != nil {
		return nil, err
	}
	var counts []platform.Count
	for _, s := range spans {
		answer, _, err := c.call(ctx, op, http.MethodGet, "/api/v2/search/count", url.Values{"query": {strings.TrimSpace("type:" + object + " " + search(object, s))}}, nil, nil)
		if err != nil {
			return nil, err
		}
		n, ok := number(answer["count"])
		if !ok || n < 0 || n > 1<<40 {
			return nil, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, ID: object, Detail: fmt.Sprintf("a count is %.40q", text(answer["count"])), Remedy: "compare without counts: run in full mode"}
		}
		counts = append(counts, platform.Count{Span: s, Records: int(n)})
	}
	return platform.Tally("zendesk."+op, object, within, counts)
}

// search are the search terms for living records of an object that were updated last in s.
// https://support.zendesk.com/hc/en-us/articles/4408886879258
func search(object string, s platform.Span) string {
	var terms []string
	if object == User {
		terms = append(terms, "role:end-user")
	}
	if !s.From.IsZero() {
		terms = append(terms, "updated>="+second(s.From))
	}
	if !s.To.IsZero() {
		terms = append(terms, "updated<"+second(s.To))
	}
	return strings.Join(terms, " ")
}

// second is the first whole second at or after t.
func second(t time.Time) string {
	return t.Add(resolution - 1).UTC().Truncate(resolution).Format(time.RFC3339)
}

// Within lists living records. All of an object come from its list, in the order of ids (UNCONFIRMED for users: a page out
// of order is an error; of tickets the list lacks archived ones, which Among tells). Within spans of time they come by one
// search for each span, in no order; custom object records come from their export, which begins at the first span. A cursor
// that the vendor does not take any more (a search's lives an hour) is an error.
func (c *Connector) Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error) {
	op := object + ".within"
	p, err := c.place("zendesk.within", object)
	if err != nil {
		return platform.Page{}, err
	}
	at, err := platform.Resume("zendesk."+op, c.cfg.URL, object, "within", within, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	spans := platform.Merged(within)
	whole := platform.Span{}
	switch {
	case len(within) == 0, len(spans) == 1 && spans[0] == whole:
		return c.list(ctx, op, object, p, at)
	case at.Chunk >= len(spans):
		return platform.Page{Cursor: at.String()}, nil
	case strings.HasPrefix(object, custom):
		page, err := c.exported(ctx, op, object, p, at, spans[0].From)
		page.Natives = slices.DeleteFunc(page.Natives, func(n record.Native) bool { return n.Gone || !platform.Held(spans, n.Version.At) })
		return page, err
	}
	return c.found(ctx, op, object, at, spans)
}

// list is a page of an object's list.
func (c *Connector) list(ctx context.Context, op, object string, p place, at platform.Listing) (platform.Page, error) {
	after, vendors, _ := strings.Cut(at.After, " ") // the id that was listed last, and the vendor's cursor
	query := url.Values{"page[size]": {strconv.Itoa(min(listPage, c.cfg.PageSize))}}
	switch {
	case object == User:
		query.Set("role", "end-user")
	case object == Ticket, strings.HasPrefix(object, custom):
		query.Set("sort", "id")
	}
	if vendors != "" {
		query.Set("page[after]", vendors)
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, p.path, query, nil, nil)
	if err := c.ended(op, object, vendors, resp.Status, err); err != nil {
		return platform.Page{}, err
	}
	page, err := c.living(ctx, op, object, answer, p.many, resp.Date)
	if err != nil {
		return platform.Page{}, err
	}
	ids := make([]string, len(page.Natives))
	for i, n := range page.Natives {
		ids[i] = n.ID
	}
	if err := platform.Ascending("zendesk."+op, object, !strings.HasPrefix(object, custom), after, ids); err != nil {
		return platform.Page{}, err
	}
	if len(ids) > 0 {
		after = ids[len(ids)-1]
	}
	return c.next(op, page, at, answer, func(vendors string) string { return after + " " + vendors }, 1)
}

// found is a page of a search.
func (c *Connector) found(ctx context.Context, op, object string, at platform.Listing, spans []platform.Span) (platform.Page, error) {
	size := min(searchPage, c.cfg.PageSize)
	if object == Ticket {
		size = min(size, 100)
	}
	query := url.Values{"filter[type]": {object}, "query": {search(object, spans[at.Chunk])}, "page[size]": {strconv.Itoa(size)}}
	if at.After != "" {
		query.Set("page[after]", at.After)
	}
	answer, resp, err := c.call(ctx, op, http.MethodGet, "/api/v2/search/export", query, nil, nil)
	if err := c.ended(op, object, at.After, resp.Status, err); err != nil {
		return platform.Page{}, err
	}
	page, err := c.living(ctx, op, object, answer, "results", resp.Date)
	if err != nil {
		return platform.Page{}, err
	}
	for _, n := range page.Natives {
		// The index may be behind: it still finds what was in the span, and shows it as it is now.
		if n.Version.At.Before(spans[at.Chunk].From.Truncate(resolution)) {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, ID: object + "/" + n.ID, Detail: "it is listed and was not asked for", Remedy: "list again"}
		}
	}
	page.Natives = slices.DeleteFunc(page.Natives, func(n record.Native) bool { return !platform.Held(spans, n.Version.At) })
	return c.next(op, page, at, answer, func(vendors string) string { return vendors }, len(spans))
}

// living decodes a page without deleted records and agents.
func (c *Connector) living(ctx context.Context, op, object string, answer map[string]any, key string, date time.Time) (platform.Page, error) {
	page, _, err := natives(op, object, answer, key, date)
	if err == nil {
		err = c.keyed(ctx, page.Natives...)
	}
	if err != nil {
		return platform.Page{}, err
	}
	page.Natives = slices.DeleteFunc(page.Natives, func(n record.Native) bool { return n.Gone })
	return page, nil
}

// next completes a page by what the vendor says of another one.
func (c *Connector) next(op string, page platform.Page, at platform.Listing, answer map[string]any, place func(vendors string) string, chunks int) (platform.Page, error) {
	meta, ok := answer["meta"].(map[string]any)
	more, said := meta["has_more"].(bool)
	after := text(meta["after_cursor"])
	if !ok || !said || more && after == "" {
		return platform.Page{}, garbled(op, false, "the answer does not say whether there is more, or not where", nil)
	}
	if more {
		if at.After == place(after) {
			return platform.Page{}, garbled(op, false, "the cursor does not move", nil)
		}
		at.After = place(after)
	} else {
		at.Chunk, at.After = at.Chunk+1, ""
	}
	page.Cursor, page.More = at.String(), at.Chunk < chunks
	return page, nil
}

// ended makes a refusal of a cursor what it is.
func (c *Connector) ended(op, object, vendors string, status int, err error) error {
	if err != nil && vendors != "" && (status == http.StatusBadRequest || status == http.StatusUnprocessableEntity) {
		return &fault.Error{Class: fault.Contract, Op: "zendesk." + op, ID: object, Fields: []string{"cursor"}, Err: err, Detail: "the vendor does not take its cursor any more", Remedy: "start again with an empty one"}
	}
	return err
}

// exported is a page of an object's export since a moment, deletions included.
func (c *Connector) exported(ctx context.Context, op, object string, p place, at platform.Listing, since time.Time) (platform.Page, error) {
	where := position{V: 1, Start: 1}
	if !since.IsZero() {
		where.Start = max(1, since.Unix())
	}
	if at.After != "" {
		if err := json.Unmarshal([]byte(at.After), &where); err != nil || where.V != 1 {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, ID: object, Fields: []string{"cursor"}, Detail: "it names no place to go on from", Remedy: "start again with an empty one"}
		}
	}
	var page platform.Page
	var next position
	var err error
	switch {
	case where.Full:
		page, next, err = c.fullList(ctx, op, p, where)
	case object == Organization:
		page, next, err = c.byTime(ctx, op, p, where)
	default:
		page, next, err = c.byCursor(ctx, op, object, p, where)
	}
	if err != nil {
		return platform.Page{}, err
	}
	if page.More {
		raw, err := json.Marshal(next)
		if err != nil {
			return platform.Page{}, fault.Wrap(fault.Internal, "zendesk."+op, "", err)
		}
		at.After = string(raw)
	} else {
		at.Chunk, at.After = 1<<20, "" // behind all spans
	}
	page.Cursor = at.String()
	return page, nil
}

// Deleted lists what was deleted since a moment, by the object's export, which shows all else that changed since, too: it
// costs as much as listing that. Each deleted organization of the last days is asked for whether it was merged, as by
// Changes; mergers of users are not told.
func (c *Connector) Deleted(ctx context.Context, object string, since time.Time, cursor string) (platform.Page, error) {
	op := object + ".deleted"
	p, err := c.place("zendesk.deleted", object)
	if err != nil {
		return platform.Page{}, err
	}
	at, err := platform.Resume("zendesk."+op, c.cfg.URL, object, "deleted", []platform.Span{{From: since}}, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	if at.Chunk > 0 {
		return platform.Page{Cursor: at.String()}, nil
	}
	page, err := c.exported(ctx, op, object, p, at, since)
	page.Natives = slices.DeleteFunc(page.Natives, func(n record.Native) bool { return !n.Gone || n.Version.At.Before(since.Truncate(resolution)) })
	return page, err
}

// Among says what became of records: living ones as Read gives them. Organizations that are not shown are asked for one by
// one whether they were merged. Who is left out is not there, or is an agent.
func (c *Connector) Among(ctx context.Context, object string, ids []string) ([]record.Native, error) {
	op := object + ".among"
	p, err := c.place("zendesk.among", object)
	if err != nil {
		return nil, err
	}
	sound := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !plainID(object, id) })
	slices.Sort(sound)
	sound = slices.Compact(sound)
	var out []record.Native
	for chunk := range slices.Chunk(sound, idsPerCall) {
		path, query := p.path+"/show_many", url.Values{"ids": {strings.Join(chunk, ",")}}
		if strings.HasPrefix(object, custom) {
			path, query = p.path, url.Values{"filter[ids]": {strings.Join(chunk, ",")}, "page[size]": {strconv.Itoa(idsPerCall)}}
		}
		answer, resp, err := c.call(ctx, op, http.MethodGet, path, query, nil, nil)
		if err != nil {
			return nil, err
		}
		page, _, err := natives(op, object, answer, p.many, resp.Date)
		if err == nil {
			err = c.keyed(ctx, page.Natives...)
		}
		if err != nil {
			return nil, err
		}
		shown := map[string]bool{}
		for _, n := range page.Natives {
			if _, asked := slices.BinarySearch(chunk, n.ID); !asked || shown[n.ID] {
				return nil, garbled(op, false, "the answer is about another record", nil)
			}
			shown[n.ID] = true
			out = append(out, n)
		}
		for _, id := range chunk {
			if object != Organization || shown[id] {
				continue
			}
			n, err := c.merge(ctx, record.Ref{Platform: record.Zendesk, Object: object, ID: id})
			if err != nil && !fault.Is(err, fault.NotFound) {
				return nil, err
			}
			if err == nil {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// plainID reports whether id can be one of the vendor's: digits, of custom object records letters and digits.
func plainID(object, id string) bool {
	letters := strings.HasPrefix(object, custom)
	for _, r := range id {
		if (r < '0' || r > '9') && (!letters || (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')) {
			return false
		}
	}
	return id != "" && len(id) <= 40
}
