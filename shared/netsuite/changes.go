package netsuite

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
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// cursor is where a listing goes on. At is wall-clock text as SuiteQL printed it, never converted.
type cursor struct {
	Version int    `json:"v"`
	Object  string `json:"object"`
	At      string `json:"at,omitempty"`
	ID      string `json:"id,omitempty"` // the last row of the page at At
	Done    bool   `json:"done,omitempty"`
}

const (
	wall       = "2006-01-02T15:04:05"
	wallFormat = `'YYYY-MM-DD"T"HH24:MI:SS'`
	rowsAtMost = 1000 // per SuiteQL page, and per Oracle IN list
)

// Changes lists records by modification time and id, oldest first. A page that ends inside a second goes on
// after the last id of that second. A listing that had come to its end starts again a little earlier
// (Config.Overlap), so records near the cursor come again.
func (c *Connector) Changes(ctx context.Context, object, from string) (platform.Page, error) {
	l, err := c.layoutOf("changes", object)
	if err != nil {
		return platform.Page{}, err
	}
	at, err := parseCursor(object, from)
	if err != nil {
		return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "netsuite.changes", ID: object, Code: platform.BadCursor, Detail: "cursor: " + err.Error(), Remedy: "start from an empty cursor"}
	}
	page, err := c.list(ctx, l, at)
	if err != nil {
		return platform.Page{}, fault.Wrap("", "netsuite.changes", object, err)
	}
	return page, nil
}

func parseCursor(object, text string) (cursor, error) {
	at := cursor{Version: 1, Object: object}
	if text == "" {
		return at, nil
	}
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		return at, fmt.Errorf("broken JSON: %w", err)
	}
	switch _, err := time.Parse(wall, at.At); {
	case at.Version != 1:
		return at, fmt.Errorf("version %d is not known", at.Version)
	case at.Object != object:
		return at, fmt.Errorf("it belongs to %q", at.Object)
	case at.At != "" && err != nil:
		return at, fmt.Errorf("its time is not of the form %s", wall)
	case at.At == "" && !at.Done, !at.Done && !digits(at.ID):
		return at, fmt.Errorf("it names no row to go on after")
	}
	return at, nil
}

func (c *Connector) list(ctx context.Context, l layout, at cursor) (platform.Page, error) {
	where := []string{}
	if l.where != "" {
		where = append(where, l.where)
	}
	if at.At != "" {
		t, _ := time.Parse(wall, at.At) // checked by parseCursor
		if at.Done {
			where = append(where, l.modified.column+" >= "+timestamp(t.Add(-c.back(t))))
		} else {
			where = append(where, fmt.Sprintf("(%[1]s >= %[2]s OR (%[1]s >= %[3]s AND id > %[4]s))", l.modified.column, timestamp(t.Add(resolution)), timestamp(t), at.ID))
		}
	}
	nodes, more, asked, err := c.nodes(ctx, l, where, l.modified.column+", id")
	if err != nil {
		return platform.Page{}, err
	}
	page := platform.Page{More: more}
	for _, n := range nodes {
		native, err := c.listed(l, n, asked)
		if err != nil {
			return platform.Page{}, fault.Wrap(fault.Contract, "netsuite.changes", l.object+"/"+vendorhttp.Clip(n.row["id"], 20), err)
		}
		page.Natives = append(page.Natives, l.records(native)...)
		at.At, at.ID = n.row["modified"], n.row["id"]
	}
	if at.Done = !more; at.Done {
		at.ID = ""
	}
	b, err := json.Marshal(at)
	page.Cursor = string(b)
	return page, err
}

// nodes are a page of the records that fulfil all conditions, in that order, with their sublists.
func (c *Connector) nodes(ctx context.Context, l layout, where []string, order string) ([]*node, bool, time.Time, error) {
	columns := []string{"id", "externalid", "TO_CHAR(" + l.modified.column + ", " + wallFormat + ") AS modified", "TO_CHAR(" + l.created.column + ", " + wallFormat + ") AS born"}
	if !l.queried {
		columns = append(columns, l.rev+" AS rev", l.user+" AS author")
	}
	q := "SELECT " + strings.Join(append(columns, selected(l.fields, l.sub)...), ", ") + " FROM " + l.table + conditions(where)
	rows, more, asked, err := c.query(ctx, q+" ORDER BY "+order, c.cfg.PageSize, 0)
	if err != nil {
		return nil, false, time.Time{}, err
	}
	nodes := make([]*node, len(rows))
	for i, r := range rows {
		nodes[i] = &node{row: r, raw: rawFields(l.fields, r)}
	}
	return nodes, more, asked, c.attach(ctx, l.sub, nodes)
}

// only reads the one record that fulfils a condition, of an object that SuiteQL alone knows.
func (c *Connector) only(ctx context.Context, op string, l layout, key, condition string) (record.Native, error) {
	what := l.object + "/" + key
	where := []string{condition}
	if l.where != "" {
		where = append(where, l.where)
	}
	nodes, _, asked, err := c.nodes(ctx, l, where, "id")
	if err != nil {
		return record.Native{}, fault.Wrap("", "netsuite."+op, what, err)
	}
	switch len(nodes) {
	case 0:
		return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "netsuite." + op, ID: what, Detail: "no such record, or the role may not see it"}
	case 1:
		n, err := c.listed(l, nodes[0], asked)
		return n, fault.Wrap(fault.Contract, "netsuite."+op, what, err)
	}
	return record.Native{}, &fault.Error{Class: fault.Down, Op: "netsuite." + op, ID: what, Detail: "the answer is about several records"}
}

// listed makes the native of one row, or a hint where the row's wall-clock time could be either of two.
func (c *Connector) listed(l layout, n *node, asked time.Time) (record.Native, error) {
	modified, err := c.instants(n.row["modified"])
	if err != nil {
		return record.Native{}, err
	}
	if !asked.IsZero() && modified[0].Sub(asked) > 10*time.Minute {
		return record.Native{}, c.ahead(l, n.row["modified"], asked)
	}
	if len(modified) > 1 && l.queried {
		// Nothing else can tell its time. The latest moment that has come is never too early for what is read now, so whatever
		// changes afterwards is newer.
		modified = slices.DeleteFunc(modified, func(t time.Time) bool { return !asked.IsZero() && !t.Equal(modified[0]) && t.After(asked) })
		modified = modified[len(modified)-1:]
	}
	if len(modified) > 1 {
		return record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: l.object, ID: n.row["id"]}, External: n.row["externalid"]}, nil
	}
	n.raw["id"], n.raw["externalId"] = n.row["id"], n.row["externalid"]
	if !l.queried {
		n.raw[l.rev], n.raw[l.user] = n.row["rev"], n.row["author"]
	}
	n.raw[l.modified.name] = modified[0].Format(time.RFC3339)
	if n.row["born"] != "" {
		born, err := c.instants(n.row["born"])
		if err != nil {
			return record.Native{}, err
		}
		n.raw[l.created.name] = born[0].Format(time.RFC3339)
	}
	return l.native(n.raw, asked)
}

// instants are the one or two moments at which the account's clocks show a wall-clock time; a time that its
// clocks skip in spring counts as if they had not been changed yet.
func (c *Connector) instants(text string) ([]time.Time, error) {
	t, err := time.Parse(wall, text)
	if err != nil {
		return nil, fmt.Errorf("SuiteQL printed a time as %.40q, want the form %s", text, wall)
	}
	var all []time.Time
	var before time.Time
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := t.Add(near).In(c.zone).Zone()
		at := t.Add(-time.Duration(offset) * time.Second)
		if near < 0 {
			before = at
		}
		if at.In(c.zone).Format(wall) == text && !slices.ContainsFunc(all, at.Equal) {
			all = append(all, at)
		}
	}
	if len(all) == 0 {
		all = []time.Time{before}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all, nil
}

// back is how far before t a new listing starts: the overlap, and the whole repeated hour if t lies in one.
func (c *Connector) back(t time.Time) time.Duration {
	d := c.cfg.Overlap
	if all, err := c.instants(t.Format(wall)); err == nil && len(all) > 1 {
		d += all[len(all)-1].Sub(all[0])
	}
	return d
}

// node is one row of a table with the record that is built from it.
type node struct {
	row map[string]string
	raw map[string]any
}

// attach reads the sublists and subrecords of parents, each table in as few calls as it takes.
func (c *Connector) attach(ctx context.Context, subs []child, parents []*node) error {
	for i, s := range subs {
		var keys []string
		for _, p := range parents {
			key := p.row[parentAlias(i)]
			if key == "" {
				continue
			}
			if !digits(key) {
				return fault.New(fault.Contract, "netsuite.changes", fmt.Sprintf("%s of a row is no internal id", s.parent))
			}
			keys = append(keys, key)
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		byKey := map[string][]*node{}
		var all []*node
		for chunk := range slices.Chunk(keys, rowsAtMost) {
			where := s.key + " IN (" + strings.Join(chunk, ", ") + ")"
			if s.where != "" {
				where += " AND " + s.where
			}
			q := "SELECT " + strings.Join(append([]string{s.key + " AS k"}, selected(append(slices.Clone(s.fields), s.lift...), s.children)...), ", ") +
				" FROM " + s.table + " WHERE " + where + " ORDER BY " + s.key + ", " + s.order
			for offset, more := 0, true; more; offset += rowsAtMost {
				var rows []map[string]string
				var err error
				if rows, more, _, err = c.query(ctx, q, rowsAtMost, offset); err != nil {
					return err
				}
				for _, r := range rows {
					n := &node{row: r, raw: rawFields(append(slices.Clone(s.fields), s.lift...), r)}
					byKey[r["k"]] = append(byKey[r["k"]], n)
					all = append(all, n)
				}
			}
		}
		if err := c.attach(ctx, s.children, all); err != nil {
			return err
		}
		for _, p := range parents {
			own := byKey[p.row[parentAlias(i)]]
			items := make([]any, len(own))
			for j, n := range own {
				items[j] = n.raw
				for _, f := range s.lift {
					p.raw[f.name] = n.raw[f.name]
				}
			}
			switch {
			case s.name == "":
			case s.list:
				p.raw[s.name] = map[string]any{"items": items}
			case len(own) > 0:
				p.raw[s.name] = items[0]
			}
		}
	}
	return nil
}

func parentAlias(i int) string { return "p" + strconv.Itoa(i) }

// selected are the columns of fields (aliases f0, f1, …; display names d0, d1, …) and of the keys of subs.
func selected(fields []field, subs []child) []string {
	var out []string
	for i, f := range fields {
		switch f.kind {
		case date:
			out = append(out, fmt.Sprintf("TO_CHAR(%s, 'YYYY-MM-DD') AS f%d", f.column, i))
		case instant:
			out = append(out, fmt.Sprintf("TO_CHAR(%s, %s) AS f%d", f.column, wallFormat, i))
		case choice:
			out = append(out, fmt.Sprintf("%s AS f%d, BUILTIN.DF(%s) AS d%d", f.column, i, f.column, i))
		default:
			out = append(out, fmt.Sprintf("%s AS f%d", f.column, i))
		}
	}
	for i, s := range subs {
		out = append(out, s.parent+" AS "+parentAlias(i))
	}
	return out
}

// rawFields brings a row's columns into the record API's shape. Times of custom fields stay wall-clock times
// of the account marked as UTC.
func rawFields(fields []field, row map[string]string) map[string]any {
	raw := make(map[string]any, len(fields)+6)
	for i, f := range fields {
		v := row["f"+strconv.Itoa(i)]
		switch {
		case v == "":
		case f.outward:
			if rest, negative := strings.CutPrefix(v, "-"); negative {
				v = rest
			} else if strings.Trim(v, "0.") != "" {
				v = "-" + v
			}
			raw[f.name] = v
		case f.kind == choice:
			raw[f.name] = map[string]any{"id": v, "refName": row["d"+strconv.Itoa(i)]}
		case f.kind == instant:
			raw[f.name] = v + "Z"
		default:
			raw[f.name] = v
		}
	}
	return raw
}

func timestamp(t time.Time) string {
	return "TO_TIMESTAMP('" + t.Format("2006-01-02 15:04:05.000000000") + "', 'YYYY-MM-DD HH24:MI:SSxFF')"
}

// query runs one page of SuiteQL. Every value comes as text; columns without a value are missing.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_156414087576.html
func (c *Connector) query(ctx context.Context, q string, limit, offset int) (rows []map[string]string, more bool, asked time.Time, err error) {
	body, err := json.Marshal(map[string]string{"q": q})
	if err != nil {
		return nil, false, time.Time{}, err
	}
	resp, err := c.call(ctx, vendorhttp.Request{Op: "suiteql", Page: true, Method: http.MethodPost, Path: "/services/rest/query/v1/suiteql", Body: body,
		Query:  url.Values{"limit": {strconv.Itoa(limit)}, "offset": {strconv.Itoa(offset)}},
		Header: http.Header{"Prefer": {"transient"}}})
	if err != nil {
		return nil, false, time.Time{}, err
	}
	var answer map[string]any
	if err := read(resp.Body, func(r *jsonread.Reader) { answer = r.Map() }); err != nil {
		return nil, false, time.Time{}, fault.Wrap(fault.Down, "netsuite.suiteql", "", err)
	}
	more, told := answer["hasMore"].(bool)
	if !told {
		return nil, false, time.Time{}, fault.New(fault.Down, "netsuite.suiteql", "the answer is no result page: hasMore is missing")
	}
	items, listed := answer["items"].([]any)
	if !listed {
		return nil, false, time.Time{}, fault.New(fault.Down, "netsuite.suiteql", "the answer is no result page: items is missing")
	}
	if more && (len(items) == 0 || offset >= 100_000) { // the vendor ends a result there
		return nil, false, time.Time{}, fault.New(fault.Down, "netsuite.suiteql", "an empty or impossible page says that there is more")
	}
	for _, a := range items {
		item, ok := a.(map[string]any)
		if !ok {
			return nil, false, time.Time{}, fault.New(fault.Down, "netsuite.suiteql", "the answer is no result page: an item is no object")
		}
		row := make(map[string]string, len(item))
		for name, v := range item {
			if s, ok := scalar(v); ok {
				row[name] = s
			}
		}
		if id, named := row["id"]; named && !digits(id) {
			return nil, false, time.Time{}, fault.New(fault.Contract, "netsuite.suiteql", "a row's id is no internal id")
		}
		rows = append(rows, row)
	}
	return rows, more, resp.Date, nil
}
