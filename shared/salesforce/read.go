package salesforce

import (
	"context"
	"encoding/json"
	"errors"
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

// quote makes a SOQL string literal: whatever s holds, it stays inside its quotes.
func quote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, "\f", `\f`)
	return "'" + r.Replace(s) + "'"
}

// answer of the query resources.
type answer struct {
	Done    bool
	Records []map[string]any
	now     time.Time // the vendor's clock when the query began, at the earliest; zero if it did not say
}

// query runs SOQL by resource query (live records) or queryAll (deleted ones too). It counts against limits.
func (c *Connector) query(ctx context.Context, op, resource, soql string, limits ...string) (answer, error) {
	began := c.cfg.Now()
	size := max(200, c.cfg.Page)
	if op == "census" || op == "among" { // small rows, and an answer in one piece
		size = maxPage
	}
	resp, err := c.do(ctx, vendorhttp.Request{Op: op, Page: op != "read" && op != "find" && op != "event.merged", Method: http.MethodGet, Path: "/" + resource, Query: url.Values{"q": {soql}}, Limits: limits,
		Header: http.Header{"Sforce-Query-Options": {"batchSize=" + strconv.Itoa(size)}}})
	if err != nil {
		return answer{}, err
	}
	v, err := decode(resp.Body)
	if err != nil {
		return answer{}, unreadable(op, false, err)
	}
	page, _ := v.(map[string]any)
	rows, ok := page["records"].([]any)
	if !ok {
		return answer{}, unreadable(op, false, errors.New("no records"))
	}
	a := answer{Records: make([]map[string]any, len(rows))}
	a.Done, _ = page["done"].(bool)
	for i, row := range rows {
		if a.Records[i], ok = row.(map[string]any); !ok {
			return answer{}, unreadable(op, false, errors.New("a row is no record"))
		}
	}
	if !resp.Date.IsZero() {
		a.now = resp.Date.Add(-c.cfg.Now().Sub(began))
	}
	return a, nil
}

// decode turns one row into a Native.
func (o object) decode(op, name string, row map[string]any, now time.Time) (record.Native, error) {
	stripAttributes(row)
	id, _ := row["Id"].(string)
	at, ok := parseTime(row["SystemModstamp"])
	if _, sound := canonicalID(id); !sound || !ok {
		return record.Native{}, unreadable(op, false, fmt.Errorf("a %s without Id or SystemModstamp", name))
	}
	n := record.Native{Ref: record.Ref{Platform: record.Salesforce, Object: name, ID: id}, Fields: row,
		Version: record.Version{At: at, Final: !now.IsZero() && now.Sub(at) > Resolution}}
	n.External, _ = row[o.external].(string)
	n.Actor, _ = row["LastModifiedById"].(string)
	if n.Version.Final {
		at = at.Add(Resolution - time.Millisecond)
	}
	if n.Gone, _ = row["IsDeleted"].(bool); n.Gone {
		n.Into, _ = row["MasterRecordId"].(string)
		n.Version.At, n.Fields = at, nil
	} else {
		n.Born = at
	}
	return n, nil
}

// Read returns the record as it is now. One in the recycle bin is Gone, and Into another if it was merged; one
// that was never there, is erased from the bin or is hidden from the integration user is fault.NotFound.
func (c *Connector) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	o, err := c.object("read", ref.Object)
	if err != nil {
		return record.Native{}, err
	}
	if _, ok := canonicalID(ref.ID); !ok {
		return record.Native{}, notFound("read", ref.Object+"/"+ref.ID)
	}
	a, err := c.query(ctx, "read", "queryAll", "SELECT "+o.query+" FROM "+ref.Object+" WHERE Id = "+quote(ref.ID)+" LIMIT 1")
	if err != nil {
		return record.Native{}, fault.Wrap("", "salesforce.read", ref.Object+"/"+ref.ID, err)
	}
	if len(a.Records) == 0 {
		return record.Native{}, notFound("read", ref.Object+"/"+ref.ID)
	}
	n, err := o.decode("read", ref.Object, a.Records[0], a.now)
	if err == nil && !sameID(n.ID, ref.ID) {
		return record.Native{}, unreadable("read", false, errors.New("it is about another record"))
	}
	return n, err
}

// sameID compares ids of 15 and 18 characters.
func sameID(a, b string) bool {
	x, soundX := canonicalID(a)
	y, soundY := canonicalID(b)
	return soundX && soundY && x == y
}

// Find returns the live record that carries the external id.
func (c *Connector) Find(ctx context.Context, name, external string) (record.Native, error) {
	o, err := c.object("find", name)
	if err != nil {
		return record.Native{}, err
	}
	if external == "" {
		return record.Native{}, notFound("find", name)
	}
	a, err := c.query(ctx, "find", "query", "SELECT "+o.query+" FROM "+name+" WHERE "+o.external+" = "+quote(external)+" LIMIT 2")
	if err != nil {
		return record.Native{}, fault.Wrap("", "salesforce.find", name+"/"+external, err)
	}
	switch len(a.Records) {
	case 0:
		return record.Native{}, notFound("find", name+"/"+external)
	case 1:
		n, err := o.decode("find", name, a.Records[0], a.now)
		if err == nil && !strings.EqualFold(n.External, external) { // external ids match regardless of case
			return record.Native{}, unreadable("find", false, errors.New("it is about another record"))
		}
		return n, err
	}
	e := c.failure(http.StatusMultipleChoices, nil)
	e.Op, e.ID, e.Fields = "salesforce.find", name+"/"+external, []string{o.external}
	return record.Native{}, e
}

// cursor of Changes: a position in the order (SystemModstamp, Id), and the vendor's clock when the walk to
// the present began.
type cursor struct {
	V     int       `json:"v"`
	At    time.Time `json:"at,omitzero"`
	After string    `json:"after,omitempty"` // id at At that was read last; "" = At itself is still to be read
	Walk  time.Time `json:"walk,omitzero"`
	Bulk  *inBulk   `json:"bulk,omitempty"` // everything is listed by a job, made at At
}

const cursorVersion = 1

// Changes lists what changed, deletions included, in the order (SystemModstamp, Id). It continues by that
// key and not by nextRecordsUrl, whose locator ends with the session, with ten others or after two days: a
// page repeated tomorrow from the same cursor is still right, costs the same one call, and any number of
// records of one second is passed safely. A save becomes visible only when its transaction commits, so a walk
// that has reached the present starts the next one Overlap before its own beginning, by the vendor's clock.
func (c *Connector) Changes(ctx context.Context, name, from string) (platform.Page, error) {
	o, err := c.object("changes", name)
	if err != nil {
		return platform.Page{}, err
	}
	cur := cursor{V: cursorVersion}
	if from != "" {
		if err := json.Unmarshal([]byte(from), &cur); err != nil || cur.V != cursorVersion || (cur.After != "" && cur.At.IsZero()) {
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: "salesforce.changes", ID: name, Code: platform.BadCursor, Detail: "the cursor is none of this connector's", Remedy: "start again with an empty one"}
		}
	}
	if cur.Bulk != nil {
		return c.bulk(ctx, name, o, cur)
	}
	var only []string
	if o.own {
		only = append(only, o.external+" != null")
	}
	if !cur.At.IsZero() {
		at := cur.At.UTC().Format("2006-01-02T15:04:05Z")
		only = append(only, "SystemModstamp >= "+at)
		if cur.After != "" {
			only = append(only, "(SystemModstamp > "+at+" OR Id > "+quote(cur.After)+")")
		}
	}
	where := ""
	if len(only) > 0 {
		where = " WHERE " + strings.Join(only, " AND ")
	}
	a, err := c.query(ctx, "changes", "queryAll", fmt.Sprintf("SELECT %s FROM %s%s ORDER BY SystemModstamp, Id LIMIT %d", o.query, name, where, c.cfg.Page), longCalls)
	if err != nil {
		return platform.Page{}, fault.Wrap("", "salesforce.changes", name, err)
	}
	page := platform.Page{Natives: make([]record.Native, 0, len(a.Records))}
	for _, row := range a.Records {
		n, err := o.decode("changes", name, row, a.now)
		if err != nil {
			return platform.Page{}, err
		}
		page.Natives = append(page.Natives, n)
	}
	next := cursor{V: cursorVersion, At: cur.At, Walk: cur.Walk}
	if next.Walk.IsZero() {
		next.Walk = a.now
	}
	page.More = len(a.Records) > 0 && (!a.Done || len(a.Records) >= c.cfg.Page)
	switch last := len(page.Natives) - 1; {
	case page.More:
		next.At, next.After = page.Natives[last].Version.At.Truncate(Resolution), page.Natives[last].ID
	case !next.Walk.IsZero():
		next.At, next.Walk = next.Walk.Add(-c.cfg.Overlap).UTC().Truncate(Resolution), time.Time{}
	case last >= 0: // the vendor's clock is unknown: its newest record is the latest safe sign of it
		next.At = page.Natives[last].Version.At.Add(-c.cfg.Overlap).Truncate(Resolution)
	}
	text, err := json.Marshal(next)
	if err != nil {
		return platform.Page{}, fault.Wrap(fault.Internal, "salesforce.changes", name, err)
	}
	page.Cursor = string(text)
	return page, nil
}
