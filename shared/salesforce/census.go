package salesforce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

const (
	// spansPerQuery and idsPerQuery keep a query's address below the 16,384 bytes that the vendor takes.
	// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
	spansPerQuery = 100
	idsPerQuery   = 400
	// inOneBatch is the vendor's code for an aggregate query with more groups than one answer holds.
	inOneBatch = "EXCEEDED_ID_LIMIT"
)

// Census counts live records by SystemModstamp. SOQL's date functions count in UTC. An answer with GROUP BY cannot be
// continued by the vendor, so it is limited to one batch, and the next query begins after its last bucket.
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_date_functions.htm
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_group_by_considerations.htm
func (c *Connector) Census(ctx context.Context, name string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	const op = "salesforce.census"
	o, err := c.object("census", name)
	if err != nil {
		return nil, err
	}
	if width != platform.Day && width != platform.Hour && width != 0 {
		return nil, &fault.Error{Class: fault.Contract, Op: op, ID: name, Detail: fmt.Sprintf("buckets of %s cannot be counted", width), Remedy: "ask for days, hours or whole spans"}
	}
	spans := platform.Merged(within)
	if width == 0 {
		spans = platform.Apart(within)
	}
	if len(within) == 0 {
		spans = []platform.Span{{}}
	}
	var counts []platform.Count
	most := spansPerQuery
	if width == 0 {
		most = 1
	}
	for _, chunk := range platform.Bundles(spans, most, func(t time.Time) time.Time { return t.UTC().Truncate(max(width, 1)) }) {
		more, err := c.count(ctx, o, name, chunk, width)
		if err != nil {
			return nil, fault.Wrap("", op, name, err)
		}
		counts = append(counts, more...)
	}
	return platform.Tally(op, name, within, counts)
}

func (c *Connector) count(ctx context.Context, o object, name string, spans []platform.Span, width time.Duration) ([]platform.Count, error) {
	keys := map[time.Duration][]string{platform.Day: {"DAY_ONLY(SystemModstamp)"}, platform.Hour: {"DAY_ONLY(SystemModstamp)", "HOUR_IN_DAY(SystemModstamp)"}}[width]
	if width == 0 {
		a, err := c.query(ctx, "census", "query", "SELECT COUNT(Id) n FROM "+name+o.where(spans))
		if err != nil {
			return nil, err
		}
		n, ok := 0, len(a.Records) == 1
		if ok {
			n, ok = whole(a.Records[0]["n"])
		}
		if !ok {
			return nil, miscounted(name, "there is no number in it")
		}
		return []platform.Count{{Span: spans[0], Records: n}}, nil
	}
	var counts []platform.Count
	limit := maxPage
	for len(spans) > 0 {
		by := strings.Join(keys, ",")
		columns := "DAY_ONLY(SystemModstamp) d"
		if width == platform.Hour {
			columns += ",HOUR_IN_DAY(SystemModstamp) h"
		}
		a, err := c.query(ctx, "census", "query", fmt.Sprintf("SELECT %s,COUNT(Id) n FROM %s%s GROUP BY %s ORDER BY %s LIMIT %d", columns, name, o.where(spans), by, by, limit), longCalls)
		if e := fault.Outermost(err); e != nil && e.Code == inOneBatch && limit > 200 {
			limit = 200 // no org answers in smaller batches
			continue
		}
		if err != nil {
			return nil, err
		}
		var end time.Time
		for _, row := range a.Records {
			n, err := bucket(name, row, spans, width)
			if err != nil {
				return nil, err
			}
			if len(counts) > 0 && !counts[len(counts)-1].From.Before(n.From) {
				return nil, miscounted(name, "its buckets are out of order")
			}
			counts = append(counts, n)
			end = n.From.UTC().Truncate(width).Add(width)
		}
		if len(a.Records) < limit && a.Done {
			return counts, nil
		}
		if len(a.Records) == 0 {
			return nil, miscounted(name, "it is empty and says that there is more")
		}
		spans = platform.After(spans, end)
	}
	return counts, nil
}

// bucket reads one group.
func bucket(name string, row map[string]any, spans []platform.Span, width time.Duration) (platform.Count, error) {
	text, _ := row["d"].(string)
	from, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return platform.Count{}, miscounted(name, fmt.Sprintf("a day is %.40q", text))
	}
	if width == platform.Hour {
		h, ok := whole(row["h"])
		if !ok || h > 23 {
			return platform.Count{}, miscounted(name, "an hour is none of 0 to 23")
		}
		from = from.Add(time.Duration(h) * time.Hour)
	}
	n, ok := whole(row["n"])
	if !ok {
		return platform.Count{}, miscounted(name, "a count is no whole number")
	}
	return platform.Count{Span: platform.Span{From: from, To: from.Add(width)}.Cut(spans), Records: n}, nil
}

func miscounted(name, detail string) error {
	return &fault.Error{Class: fault.Contract, Op: "salesforce.census", ID: name, Detail: "the answer cannot be used: " + detail, Remedy: "compare without counts: run in full mode"}
}

// whole reads a number of things.
func whole(v any) (int, bool) {
	n, _ := v.(json.Number)
	i, err := n.Int64()
	return int(i), err == nil && i >= 0 && i < 1<<40
}

// where is the condition of a listing or count; and is what else must hold.
func (o object) where(spans []platform.Span, and ...string) string {
	only := slices.Clone(and)
	if o.own {
		only = append(only, o.external+" != null")
	}
	var parts []string
	for _, s := range spans {
		var part []string
		// Moments are whole seconds there: a bound inside a second is that second's end.
		if !s.From.IsZero() {
			part = append(part, "SystemModstamp >= "+second(s.From))
		}
		if !s.To.IsZero() {
			part = append(part, "SystemModstamp < "+second(s.To))
		}
		if len(part) == 0 {
			parts = nil
			break
		}
		parts = append(parts, "("+strings.Join(part, " AND ")+")")
	}
	if len(parts) > 0 {
		only = append(only, "("+strings.Join(parts, " OR ")+")")
	}
	if len(only) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(only, " AND ")
}

// second is the first whole second at or after t.
func second(t time.Time) string {
	return t.Add(Resolution - 1).UTC().Truncate(Resolution).Format("2006-01-02T15:04:05Z")
}

// Within lists live records that were modified last within the spans, or all of them, in ascending order of id. It goes
// on by that id, not by a locator, so a page may be asked for again at any time.
func (c *Connector) Within(ctx context.Context, name string, within []platform.Span, cursor string) (platform.Page, error) {
	return c.ascending(ctx, "within", "query", name, within, cursor)
}

// Deleted lists what is in the recycle bin since a moment, in ascending order of id. The bin is emptied after 15 days, by
// people earlier.
// https://help.salesforce.com/s/articleView?id=xcloud.home_delete.htm
func (c *Connector) Deleted(ctx context.Context, name string, since time.Time, cursor string) (platform.Page, error) {
	return c.ascending(ctx, "deleted", "queryAll", name, []platform.Span{{From: since}}, cursor, "IsDeleted = true")
}

func (c *Connector) ascending(ctx context.Context, what, resource, name string, within []platform.Span, cursor string, and ...string) (platform.Page, error) {
	op := "salesforce." + what
	o, err := c.object(what, name)
	if err != nil {
		return platform.Page{}, err
	}
	at, err := platform.Resume(op, c.cfg.URL+" "+c.cfg.Credentials.OrgID, name, what, within, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	spans := platform.Merged(within)
	chunks := slices.Collect(slices.Chunk(spans, spansPerQuery))
	if len(within) == 0 {
		chunks = [][]platform.Span{nil}
	}
	if at.Chunk >= len(chunks) {
		return platform.Page{Cursor: at.String()}, nil
	}
	if at.After != "" {
		and = append(and, "Id > "+quote(at.After))
	}
	a, err := c.query(ctx, what, resource, fmt.Sprintf("SELECT %s FROM %s%s ORDER BY Id LIMIT %d", o.query, name, o.where(chunks[at.Chunk], and...), c.cfg.Page), longCalls)
	if err != nil {
		return platform.Page{}, fault.Wrap("", op, name, err)
	}
	page := platform.Page{Natives: make([]record.Native, 0, len(a.Records))}
	ids := make([]string, 0, len(a.Records))
	for _, row := range a.Records {
		n, err := o.decode(what, name, row, a.now)
		if err != nil {
			return platform.Page{}, err
		}
		at := n.Version.At.Truncate(Resolution)
		if len(spans) > 0 && !platform.Held(spans, at) || n.Gone != (resource == "queryAll") {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: op, ID: name + "/" + n.ID, Detail: "it is listed and was not asked for", Remedy: "list again"}
		}
		page.Natives, ids = append(page.Natives, n), append(ids, n.ID)
	}
	if err := platform.Ascending(op, name, false, at.After, ids); err != nil {
		return platform.Page{}, err
	}
	switch more := len(ids) > 0 && (!a.Done || len(ids) >= c.cfg.Page); {
	case more:
		at.After = ids[len(ids)-1]
	case len(ids) == 0 && !a.Done:
		return platform.Page{}, unreadable(what, false, errors.New("it is empty and says that there is more"))
	default:
		at.Chunk, at.After = at.Chunk+1, ""
	}
	page.Cursor, page.More = at.String(), at.Chunk < len(chunks)
	return page, nil
}

// Among says what became of records: the live ones as Read gives them, those in the recycle bin as Gone, and Into another
// where they were merged. Who is left out is not there, is erased, or is hidden from the integration user.
func (c *Connector) Among(ctx context.Context, name string, ids []string) ([]record.Native, error) {
	o, err := c.object("among", name)
	if err != nil {
		return nil, err
	}
	var open []string
	for _, id := range ids {
		if sound, ok := canonicalID(id); ok {
			open = append(open, sound)
		}
	}
	slices.Sort(open)
	open = slices.Compact(open)
	var out []record.Native
	for len(open) > 0 {
		asked := open[:min(len(open), idsPerQuery)]
		quoted := make([]string, len(asked))
		for i, id := range asked {
			quoted[i] = quote(id)
		}
		a, err := c.query(ctx, "among", "queryAll", "SELECT "+o.query+" FROM "+name+" WHERE Id IN ("+strings.Join(quoted, ",")+")", longCalls)
		if err != nil {
			return nil, fault.Wrap("", "salesforce.among", name, err)
		}
		found := map[string]bool{}
		for _, row := range a.Records {
			n, err := o.decode("among", name, row, a.now)
			if err != nil {
				return nil, err
			}
			if _, wanted := slices.BinarySearch(asked, n.ID); !wanted || found[n.ID] {
				return nil, unreadable("among", false, errors.New("it is about another record"))
			}
			found[n.ID] = true
			out = append(out, n)
		}
		if !a.Done && len(a.Records) == 0 {
			return nil, unreadable("among", false, errors.New("it is empty and says that there is more"))
		}
		rest := open[len(asked):]
		if !a.Done { // the vendor chose a smaller batch
			rest = append(slices.DeleteFunc(slices.Clone(asked), func(id string) bool { return found[id] }), rest...)
		}
		open = rest
	}
	return out, nil
}
