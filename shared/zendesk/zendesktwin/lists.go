package zendesktwin

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/zendesk"
)

// list answers a page of rows: by cursor when page[size] is there (or forced), else by offset.
func (c *call) list(key string, rows []*row, cursorOnly bool) {
	q := c.r.URL.Query()
	self := "http://" + c.r.Host + c.r.URL.Path + ".json"
	if cursorOnly || q.Has("page[size]") || q.Has("page[after]") {
		size := 100
		if s := q.Get("page[size]"); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 || n > 100 {
				c.answer(http.StatusBadRequest, map[string]any{"errors": []any{map[string]any{"code": "InvalidPaginationParameter", "title": "page[size] must be 1 to 100"}}})
				return
			}
			size = n
		}
		from := 0
		if after := q.Get("page[after]"); after != "" {
			n, ok := position(after)
			if !ok {
				c.answer(http.StatusBadRequest, map[string]any{"errors": []any{map[string]any{"code": "InvalidPaginationParameter", "title": "page[after] is not valid"}}})
				return
			}
			from = n
		}
		out, i := []any{}, from
		for ; i < len(rows) && len(out) < size; i++ {
			if !rows[i].gone {
				out = append(out, rows[i].data)
			}
		}
		more := false
		for j := i; j < len(rows) && !more; j++ {
			more = !rows[j].gone
		}
		meta, links := map[string]any{"has_more": more, "after_cursor": nil, "before_cursor": nil}, map[string]any{"next": nil, "prev": nil}
		if more {
			meta["after_cursor"] = cursor(i)
			q.Set("page[after]", cursor(i))
			links["next"] = self + "?" + q.Encode()
		}
		c.answer(http.StatusOK, map[string]any{key: out, "meta": meta, "links": links})
		return
	}
	page, per := atoi(q.Get("page"), 1), min(atoi(q.Get("per_page"), 100), 100)
	if page*per > 10_000 {
		c.answer(http.StatusBadRequest, map[string]any{"errors": []any{map[string]any{"code": "InvalidPaginationDepth", "title": "Invalid pagination depth",
			"detail": "Requested response size was greater than API limits. Use cursor pagination."}}})
		return
	}
	living := make([]any, 0, len(rows))
	for _, r := range rows {
		if !r.gone {
			living = append(living, r.data)
		}
	}
	from, to := min((page-1)*per, len(living)), min(page*per, len(living))
	link := func(n int, there bool) any {
		if !there {
			return nil
		}
		q.Set("page", strconv.Itoa(n))
		return self + "?" + q.Encode()
	}
	c.answer(http.StatusOK, map[string]any{key: living[from:to], "count": len(living), "next_page": link(page+1, to < len(living)), "previous_page": link(page-1, page > 1)})
}

func atoi(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func cursor(n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte("p|" + strconv.Itoa(n)))
}

func position(s string) (int, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	digits, ok := strings.CutPrefix(string(b), "p|")
	n, bad := strconv.Atoi(digits)
	return n, err == nil && ok && bad == nil && n >= 0
}

// pick returns living rows by a comma-separated list of ids or external ids.
func pick(m map[string]*row, list string, fold bool) []*row {
	var out []*row
	for _, id := range strings.Split(list, ",") {
		if fold {
			id = strings.ToLower(id)
		}
		if r := m[id]; r != nil && !r.gone {
			out = append(out, r)
		}
	}
	return out
}

func (t *Twin) exportRoutes(mux *http.ServeMux) {
	limited := func(handle func(*call)) func(*call) {
		return func(c *call) {
			if t.within(c, "incremental-exports", t.opt.Limits.Exports, time.Minute, "Number of allowed incremental export API requests per minute exceeded") {
				handle(c)
			}
		}
	}
	t.route(mux, "GET /api/v2/incremental/organizations", limited(func(c *call) { t.byTime(c, zendesk.Organization, "organizations") }))
	t.route(mux, "GET /api/v2/incremental/tickets", limited(func(c *call) { t.byTime(c, zendesk.Ticket, "tickets") }))
	t.route(mux, "GET /api/v2/incremental/tickets/cursor", limited(func(c *call) { t.byCursor(c, zendesk.Ticket, "tickets") }))
	t.route(mux, "GET /api/v2/incremental/users", limited(func(c *call) { t.byTime(c, zendesk.User, "users") }))
	t.route(mux, "GET /api/v2/incremental/users/cursor", limited(func(c *call) { t.byCursor(c, zendesk.User, "users") }))
	t.route(mux, "GET /api/v2/incremental/custom_objects/{key}/cursor", limited(func(c *call) {
		t.byCursor(c, "custom_object/"+c.r.PathValue("key"), "custom_object_records")
	}))
	t.route(mux, "GET /api/v2/search", func(c *call) { t.search(c) })
	t.route(mux, "GET /api/v2/search/count", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"count": len(t.hits(c.r.URL.Query().Get("query"), ""))})
	})
	t.route(mux, "GET /api/v2/search/export", func(c *call) {
		if t.within(c, "search-export", t.opt.Limits.SearchExport, time.Minute, "Number of allowed API requests per minute exceeded") {
			t.searchExport(c)
		}
	})
	t.route(mux, "GET /api/v2/users/me", func(c *call) {
		c.answer(http.StatusOK, map[string]any{"user": map[string]any{"id": integrator, "name": "Sorrel", "email": t.opt.Credentials.Email, "role": "admin", "active": true}})
	})
	t.route(mux, "GET /api/v2/job_statuses/{id}", func(c *call) {
		job := t.jobs[c.r.PathValue("id")]
		if job == nil {
			c.missing()
			return
		}
		c.answer(http.StatusOK, map[string]any{"job_status": job})
	})
}

// from checks start_time and finds the first log entry at or after it. Exports leave out the last minute.
func (t *Twin) from(c *call, tb *table) (first, end int, ok bool) {
	now := t.opt.Now()
	horizon := now.Add(-t.opt.ExportLag)
	end = sort.Search(len(tb.log), func(i int) bool { return tb.log[i].at.After(horizon) })
	if s := c.r.URL.Query().Get("cursor"); s != "" {
		n, good := position(s)
		if !good || n > len(tb.log) {
			c.bad("InvalidCursor", "cursor is not valid")
			return 0, 0, false
		}
		return n, end, true
	}
	start, err := strconv.ParseInt(c.r.URL.Query().Get("start_time"), 10, 64)
	switch {
	case err != nil:
		c.bad("ParameterMissing", "start_time is required: a unix time")
		return 0, 0, false
	case start > now.Add(-time.Minute).Unix():
		c.answer(http.StatusUnprocessableEntity, map[string]any{"error": "InvalidValue", "description": "Too recent start_time. Use a start_time older than 60 seconds"})
		return 0, 0, false
	}
	return sort.Search(len(tb.log), func(i int) bool { return tb.log[i].at.Unix() >= start }), end, true
}

// take walks the log from first and returns up to per rows at their newest, and where it stopped.
func take(tb *table, first, end, per int) (out []any, stop int, last time.Time) {
	out = []any{}
	for i := first; i < end; i++ {
		e := tb.log[i]
		if e.row.seq != i+1 {
			continue
		}
		if len(out) == per {
			return out, i, last
		}
		out, last = append(out, e.row.data), e.at
	}
	return out, max(first, end), last
}

func (t *Twin) byTime(c *call, object, key string) {
	tb := t.tables[object]
	first, end, ok := t.from(c, tb)
	if !ok {
		return
	}
	per := min(atoi(c.r.URL.Query().Get("per_page"), 1000), 1000)
	out, stop, last := take(tb, first, end, per)
	body := map[string]any{key: out, "count": len(out), "end_time": nil, "next_page": nil, "end_of_stream": stop >= end && len(out) < per}
	if len(out) > 0 {
		body["end_time"] = last.Unix()
		body["next_page"] = "http://" + c.r.Host + c.r.URL.Path + ".json?" + url.Values{"start_time": {strconv.FormatInt(last.Unix(), 10)}, "per_page": {strconv.Itoa(per)}}.Encode()
	}
	c.answer(http.StatusOK, body)
}

func (t *Twin) byCursor(c *call, object, key string) {
	tb := t.tables[object]
	if tb == nil {
		c.missing()
		return
	}
	first, end, ok := t.from(c, tb)
	if !ok {
		return
	}
	out, stop, _ := take(tb, first, end, min(atoi(c.r.URL.Query().Get("per_page"), 1000), 1000))
	more := stop < end
	body := map[string]any{key: out, "after_cursor": cursor(stop), "after_url": nil, "before_cursor": nil, "before_url": nil}
	if more {
		body["after_url"] = "http://" + c.r.Host + c.r.URL.Path + ".json?cursor=" + cursor(stop)
	}
	if object == zendesk.Ticket || object == zendesk.User {
		body["end_of_stream"] = !more
	} else {
		body["meta"] = map[string]any{"has_more": more}
	}
	c.answer(http.StatusOK, body)
}

// search is offset-only and stops at 1000 results.
func (t *Twin) search(c *call) {
	q := c.r.URL.Query()
	if q.Has("page[size]") {
		c.bad("InvalidPaginationParameter", "search takes page and per_page only")
		return
	}
	page, per := atoi(q.Get("page"), 1), min(atoi(q.Get("per_page"), 100), 100)
	if (page-1)*per >= 1000 {
		c.answer(http.StatusUnprocessableEntity, map[string]any{"error": "Search Response Limits", "description": "Requested response size was greater than Search Response Limits"})
		return
	}
	if strings.TrimSpace(q.Get("query")) == "" {
		c.bad("ParameterMissing", "query is required")
		return
	}
	hits := t.hits(q.Get("query"), "")
	out := []any{}
	for _, r := range hits[min((page-1)*per, len(hits)):min(page*per, len(hits), 1000)] {
		m := clone(r.data).(map[string]any)
		m["result_type"] = zendesk.Ticket
		if m["organization_fields"] != nil {
			m["result_type"] = zendesk.Organization
		} else if m["user_fields"] != nil {
			m["result_type"] = zendesk.User
		}
		out = append(out, m)
	}
	var next any
	if page*per < min(len(hits), 1000) {
		q.Set("page", strconv.Itoa(page+1))
		next = "http://" + c.r.Host + c.r.URL.Path + ".json?" + q.Encode()
	}
	c.answer(http.StatusOK, map[string]any{"results": out, "count": len(hits), "next_page": next, "previous_page": nil, "facets": nil})
}

// dated is a search term about a time.
type dated struct{ field, op, at string }

var datedTerm = regexp.MustCompile(`^(created|updated)(>=|<=|>|<|:)(\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))?)$`)

// parseDated reads a term such as updated>=2026-11-02T08:15:20Z.
func parseDated(word string) (dated, bool) {
	m := datedTerm.FindStringSubmatch(word)
	if m == nil {
		return dated{}, false
	}
	at, err := time.Parse(time.RFC3339, m[3])
	if err != nil {
		if at, err = time.Parse(time.DateOnly, m[3]); err != nil {
			return dated{}, false
		}
	}
	return dated{m[1] + "_at", m[2], stamp(at)}, true
}

func (d dated) holds(r *row) bool {
	at, _ := r.data[d.field].(string)
	switch d.op {
	case ">=":
		return at >= d.at
	case ">":
		return at > d.at
	case "<=":
		return at <= d.at
	case "<":
		return at < d.at
	}
	return strings.HasPrefix(at, d.at[:len(time.DateOnly)])
}

// searchExport lists all hits in the order in which they were made. Its cursors live an hour.
func (t *Twin) searchExport(c *call) {
	q := c.r.URL.Query()
	query, kind, size, after := q.Get("query"), q.Get("filter[type]"), 100, 0
	if kind == "" || strings.Contains(query, "type:") {
		c.bad("ParameterMissing", "filter[type] is required, and the query must not contain type:")
		return
	}
	if s := q.Get("page[size]"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			c.bad("InvalidPaginationParameter", "page[size] must be 1 to 1000")
			return
		}
		size = n
	}
	if s := q.Get("page[after]"); s != "" {
		given, when, _ := strings.Cut(s, ".")
		n, ok := position(given)
		issued, err := strconv.ParseInt(when, 10, 64)
		if !ok || err != nil || t.opt.Now().Sub(time.Unix(issued, 0)) > time.Hour {
			c.answer(http.StatusUnprocessableEntity, map[string]any{"error": "InvalidCursor", "description": "The cursor has expired"}) // its form is a guess
			return
		}
		after = n
	}
	out, more, last := []any{}, false, after
	for _, r := range t.hits(query, kind) {
		if r.made <= after {
			continue
		}
		if more = len(out) == size; more {
			break
		}
		m := clone(r.data).(map[string]any)
		m["result_type"] = kind
		out, last = append(out, m), r.made
	}
	meta, links := map[string]any{"has_more": more, "after_cursor": nil, "before_cursor": nil}, map[string]any{"next": nil, "prev": nil}
	if more {
		next := cursor(last) + "." + strconv.FormatInt(t.opt.Now().Unix(), 10)
		meta["after_cursor"] = next
		q.Set("page[after]", next)
		links["next"] = "http://" + c.r.Host + c.r.URL.Path + ".json?" + q.Encode()
	}
	c.answer(http.StatusOK, map[string]any{"results": out, "meta": meta, "links": links, "facets": nil})
}

// hits finds organizations, users and tickets, in the order in which they were made. It knows type:, external_id:, name:,
// status:, role:, created and updated with a comparison, and plain words. What changed less than Options.SearchLag ago is
// not found by a time yet; by all else it is, sooner than at the vendor's.
func (t *Twin) hits(query, kind string) []*row {
	var words []string
	var times []dated
	want := map[string]string{}
	for _, w := range strings.Fields(query) {
		if d, ok := parseDated(w); ok {
			times = append(times, d)
		} else if k, v, ok := strings.Cut(w, ":"); ok {
			want[k] = strings.ToLower(strings.Trim(v, `"`))
		} else {
			words = append(words, strings.ToLower(strings.Trim(w, `"*`)))
		}
	}
	if kind == "" {
		kind = want["type"]
	}
	delete(want, "type")
	horizon := t.opt.Now().Add(-t.opt.SearchLag)
	var out []*row
	for _, object := range []string{zendesk.Organization, zendesk.User, zendesk.Ticket} {
		if kind != "" && kind != object {
			continue
		}
		tb := t.tables[object]
	rows:
		for _, r := range tb.since(times) {
			if r.gone || len(times) > 0 && tb.log[r.seq-1].at.After(horizon) {
				continue
			}
			for _, d := range times {
				if !d.holds(r) {
					continue rows
				}
			}
			for k, v := range want {
				s, _ := r.data[k].(string)
				if !strings.Contains(strings.ToLower(s), v) {
					continue rows
				}
			}
			if len(words) > 0 {
				all, err := json.Marshal(r.data)
				for _, w := range words {
					if err != nil || !strings.Contains(strings.ToLower(string(all)), w) {
						continue rows
					}
				}
			}
			out = append(out, r)
		}
	}
	return out
}

// since are the rows that may be updated as late as times ask for, in the order in which they were made.
func (tb *table) since(times []dated) []*row {
	from := ""
	for _, d := range times {
		if d.field == "updated_at" && (d.op == ">=" || d.op == ">") {
			from = max(from, d.at)
		}
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return tb.order
	}
	first := sort.Search(len(tb.log), func(i int) bool { return !tb.log[i].at.Before(at) })
	if len(tb.log)-first > len(tb.order)/4 {
		return tb.order
	}
	var out []*row
	for i := first; i < len(tb.log); i++ {
		if r := tb.log[i].row; r.seq == i+1 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *row) int { return a.made - b.made })
	return out
}
