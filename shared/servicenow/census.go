package servicenow

import (
	"context"
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
	// spansPerQuery and idsPerQuery keep a query's address below 8 KB. UNCONFIRMED: how long it may be.
	spansPerQuery = 30
	idsPerQuery   = 100
	// deletions is the vendor's table of what was deleted.
	// https://support.servicenow.com/kb?id=kb_article_view&sysparm_article=KB0724183
	deletions = "sys_audit_delete"
)

// Census counts records by sys_updated_on and adds up their sys_mod_count, by the Aggregate API: one call for each bucket,
// since it groups by a field's values only. So spans with buckets must have bounds. An instance in which an access rule
// hides a record of the table from the integration user refuses to count.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/c_AggregateAPI.html
func (c *Connector) Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	op := object + ".census"
	if err := checkObject("census", object); err != nil {
		return nil, err
	}
	spans, err := platform.Buckets("servicenow."+op, object, within, width)
	if err != nil || len(spans) == 0 {
		return nil, err
	}
	if err := c.checkZone(ctx, op, object); err != nil {
		return nil, err
	}
	var counts []platform.Count
	for _, s := range spans {
		n, err := c.count(ctx, op, object, s)
		if err != nil {
			return nil, err
		}
		counts = append(counts, n)
	}
	return platform.Tally("servicenow."+op, object, within, counts)
}

func (c *Connector) count(ctx context.Context, op, object string, s platform.Span) (platform.Count, error) {
	q := url.Values{"sysparm_count": {"true"}, "sysparm_sum_fields": {"sys_mod_count"}}
	if condition := updated(s); condition != "" {
		q.Set("sysparm_query", condition)
	}
	answer, _, err := c.call(ctx, op, http.MethodGet, "/api/now/stats/"+object, q, nil)
	if err != nil {
		return platform.Count{}, err
	}
	result, _ := answer["result"].(map[string]any)
	stats, _ := result["stats"].(map[string]any)
	sums, _ := stats["sum"].(map[string]any)
	n, errN := strconv.Atoi(text(stats["count"]))
	sum, errS := int64(0), error(nil)
	if said := text(sums["sys_mod_count"]); said != "" {
		sum, errS = strconv.ParseInt(strings.TrimSuffix(said, ".00"), 10, 64)
	}
	if errN != nil || errS != nil || n < 0 || sum < 0 {
		return platform.Count{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: object,
			Detail: fmt.Sprintf("%.40q records with sys_mod_count of %.40q in all are no numbers", text(stats["count"]), text(sums["sys_mod_count"])), Remedy: "compare without counts: run in full mode"}
	}
	return platform.Count{Span: s, Records: n, Sum: sum}, nil
}

// updated is the condition that sys_updated_on is in s: whole seconds, in UTC, as checkZone has tried.
func updated(s platform.Span) string {
	var parts []string
	if !s.From.IsZero() {
		parts = append(parts, "sys_updated_on>="+second(s.From))
	}
	if !s.To.IsZero() {
		parts = append(parts, "sys_updated_on<"+second(s.To))
	}
	return strings.Join(parts, "^")
}

// second is the first whole second at or after t.
func second(t time.Time) string {
	return t.Add(resolution - 1).UTC().Truncate(resolution).Format(layout)
}

// place in a listing by sys_id: after the record that was listed last, behind how many rows that an access rule hides, and
// how many rows to ask for, after a page took too long (0 = as configured).
type place struct {
	id         string
	skip, size int
}

func parsePlace(text string) (p place, ok bool) {
	if text == "" {
		return place{}, true
	}
	parts := strings.Split(text, "+")
	if len(parts) != 3 {
		return place{}, false
	}
	p.id = parts[0]
	var errSkip, errSize error
	p.skip, errSkip = strconv.Atoi(parts[1])
	p.size, errSize = strconv.Atoi(parts[2])
	return p, errSkip == nil && errSize == nil && p.skip >= 0 && p.size >= 0 && (p.id == "" || sysID.MatchString(p.id))
}

func (p place) String() string { return fmt.Sprintf("%s+%d+%d", p.id, p.skip, p.size) }

// rows fetches one page after p. It makes p's size smaller where the vendor runs out of time.
func (c *Connector) rows(ctx context.Context, op, table, query string, p *place) (list []map[string]any, more bool, date time.Time, err error) {
	size := c.cfg.PageSize
	if p.size > 0 {
		size = min(size, p.size)
	}
	list, more, date, err = c.list(ctx, op, table, query, size, p.skip)
	for codeOf(err) == codeTime && size > 10 {
		size = max(10, size/4)
		p.size = size
		list, more, date, err = c.list(ctx, op, table, query, size, p.skip)
	}
	return list, more, date, err
}

// Within lists records that were modified last within the spans, or all of them, in ascending order of sys_id.
func (c *Connector) Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error) {
	op := object + ".within"
	if err := checkObject("within", object); err != nil {
		return platform.Page{}, err
	}
	at, where, err := c.resume(op, object, "within", within, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	if len(within) > 0 {
		if err := c.checkZone(ctx, op, object); err != nil {
			return platform.Page{}, err
		}
	}
	spans := platform.Merged(within)
	chunks := slices.Collect(slices.Chunk(spans, spansPerQuery))
	if len(within) == 0 {
		chunks = [][]platform.Span{{{}}}
	}
	if at.Chunk >= len(chunks) {
		return platform.Page{Cursor: at.String()}, nil
	}
	groups := make([]string, len(chunks[at.Chunk]))
	for i, s := range chunks[at.Chunk] {
		groups[i] = updated(s)
		if where.id != "" {
			groups[i] = strings.TrimPrefix(groups[i]+"^sys_id>"+where.id, "^")
		}
	}
	list, more, date, err := c.rows(ctx, op, object, strings.TrimPrefix(strings.Join(groups, "^NQ")+"^ORDERBYsys_id", "^"), &where)
	if err != nil {
		return platform.Page{}, err
	}
	var page platform.Page
	ids := make([]string, 0, len(list))
	for _, fields := range list {
		n, err := native(op, object, fields, date)
		if err != nil {
			return platform.Page{}, err
		}
		if len(within) > 0 && !platform.Held(within, n.Version.At) {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: object + "/" + n.ID, Fields: []string{"sys_updated_on"},
				Detail: "it is listed and was not asked for", Remedy: "list again; if it stays, set the integration user's time zone to GMT"}
		}
		page.Natives, ids = append(page.Natives, n), append(ids, n.ID)
	}
	return c.advance(op, object, page, at, where, ids, more, len(chunks))
}

// advance completes a page that lists ids, and says where the listing goes on.
func (c *Connector) advance(op, object string, page platform.Page, at platform.Listing, where place, ids []string, more bool, chunks int) (platform.Page, error) {
	if err := platform.Ascending("servicenow."+op, object, false, where.id, ids); err != nil {
		return platform.Page{}, err
	}
	switch {
	case !more:
		at.Chunk, at.After = at.Chunk+1, ""
	case len(ids) > 0:
		at.After = place{id: ids[len(ids)-1], size: where.size}.String()
	default: // a page of hidden rows only
		size := c.cfg.PageSize
		if where.size > 0 {
			size = min(size, where.size)
		}
		at.After = place{where.id, where.skip + size, where.size}.String()
	}
	page.Cursor, page.More = at.String(), at.Chunk < chunks
	return page, nil
}

func (c *Connector) resume(op, object, what string, spans []platform.Span, cursor string) (platform.Listing, place, error) {
	at, err := platform.Resume("servicenow."+op, c.cfg.URL, object, what, spans, cursor)
	if err != nil {
		return at, place{}, err
	}
	where, ok := parsePlace(at.After)
	if !ok {
		return at, place{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: object, Fields: []string{"cursor"}, Detail: "it names no record to go on after", Remedy: "start again with an empty one"}
	}
	return at, where, nil
}

// Deleted lists what was deleted since a moment, from the vendor's table of deletions and in its order. A table whose
// dictionary says no_audit_delete leaves nothing there, and the vendor's cleaner empties it. A record that somebody took
// back is left out. UNCONFIRMED against an instance: that a role without admin may be let read that table.
func (c *Connector) Deleted(ctx context.Context, object string, since time.Time, cursor string) (platform.Page, error) {
	op := object + ".deleted"
	if err := checkObject("deleted", object); err != nil {
		return platform.Page{}, err
	}
	at, where, err := c.resume(op, object, "deleted", []platform.Span{{From: since}}, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	if at.Chunk > 0 {
		return platform.Page{Cursor: at.String()}, nil
	}
	if err := c.checkZone(ctx, op, object); err != nil {
		return platform.Page{}, err
	}
	query := "tablename=" + object
	if !since.IsZero() {
		query += "^sys_created_on>=" + second(since)
	}
	if where.id != "" {
		query += "^sys_id>" + where.id
	}
	list, more, date, err := c.rows(ctx, op, deletions, query+"^ORDERBYsys_id", &where)
	if err != nil {
		return platform.Page{}, err
	}
	var ids []string
	gone := map[string]record.Native{}
	for _, fields := range list {
		n := record.Native{Ref: record.Ref{Platform: record.ServiceNow, Object: object, ID: text(plain(fields["documentkey"]))}, Gone: true, Actor: text(fields["sys_created_by"])}
		n.Version.At = instant(fields["sys_created_on"])
		n.Version.Final = date.Sub(n.Version.At) > resolution
		own := text(fields["sys_id"])
		if !sysID.MatchString(n.ID) || !sysID.MatchString(own) || n.Version.At.IsZero() || text(fields["tablename"]) != object || n.Version.At.Before(since.Truncate(resolution)) {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: object, Fields: []string{"documentkey", "sys_created_on", "tablename"},
				Detail: "a deletion that names no record, or was not asked for", Remedy: "let the integration user read " + deletions + ", with its time zone set to GMT"}
		}
		ids = append(ids, own)
		if n.Version.Compare(gone[n.ID].Version) > 0 {
			gone[n.ID] = n
		}
	}
	back, err := c.alive(ctx, op, object, gone)
	if err != nil {
		return platform.Page{}, err
	}
	var page platform.Page
	for id, n := range gone {
		if !back[id] {
			page.Natives = append(page.Natives, n)
		}
	}
	slices.SortFunc(page.Natives, func(a, b record.Native) int { return strings.Compare(a.ID, b.ID) })
	return c.advance(op, object, page, at, where, ids, more, 1)
}

// alive says which records are there after all.
func (c *Connector) alive(ctx context.Context, op, object string, gone map[string]record.Native) (map[string]bool, error) {
	ids := make([]string, 0, len(gone))
	for id := range gone {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	back := map[string]bool{}
	for chunk := range slices.Chunk(ids, idsPerQuery) {
		natives, err := c.several(ctx, op, object, chunk)
		if err != nil {
			return nil, err
		}
		for _, n := range natives {
			back[n.ID] = true
		}
	}
	return back, nil
}

// Among reads records by their sys_ids. Who is left out is not there, or an access rule hides it.
func (c *Connector) Among(ctx context.Context, object string, ids []string) ([]record.Native, error) {
	op := object + ".among"
	if err := checkObject("among", object); err != nil {
		return nil, err
	}
	sound := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !sysID.MatchString(id) })
	slices.Sort(sound)
	sound = slices.Compact(sound)
	var out []record.Native
	for chunk := range slices.Chunk(sound, idsPerQuery) {
		natives, err := c.several(ctx, op, object, chunk)
		if err != nil {
			return nil, err
		}
		out = append(out, natives...)
	}
	return out, nil
}

func (c *Connector) several(ctx context.Context, op, object string, ids []string) ([]record.Native, error) {
	list, _, date, err := c.list(ctx, op, object, "sys_idIN"+strings.Join(ids, ",")+"^ORDERBYsys_id", len(ids), 0)
	if err != nil {
		return nil, err
	}
	var out []record.Native
	seen := map[string]bool{}
	for _, fields := range list {
		n, err := native(op, object, fields, date)
		if err != nil {
			return nil, err
		}
		if _, asked := slices.BinarySearch(ids, n.ID); !asked || seen[n.ID] {
			return nil, garbled(op, false, "the answer is about another record", nil)
		}
		seen[n.ID] = true
		out = append(out, n)
	}
	return out, nil
}
