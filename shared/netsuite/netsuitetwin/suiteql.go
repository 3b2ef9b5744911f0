package netsuitetwin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// suiteql answers one query. It must hold no lock when it is called.
func (t *Twin) suiteql(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(strings.ToLower(r.Header.Get("Prefer")), "transient") {
		refuse(w, http.StatusBadRequest, "INVALID_HEADER", "The required request header 'Prefer' is missing or invalid. Set it to 'transient'.", "o:errorHeader", "Prefer")
		return
	}
	limit, offset, ok := paging(w, r, 1000)
	if !ok {
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	var in struct{ Q string }
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil || in.Q == "" {
		refuse(w, http.StatusBadRequest, "INVALID_CONTENT", "Invalid content in the request body: q is missing.", "", "")
		return
	}
	q, err := parse(in.Q)
	var rows []any
	if err == nil {
		t.mu.RLock()
		rows, err = t.run(q, offset, limit)
		t.mu.RUnlock()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "INVALID_PARAMETER", "Invalid search query. Detailed unprocessed description follows. Search error occurred: "+err.Error()+".", "o:errorQueryParam", "q")
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=collection")
	writePage(w, r, rows, limit, offset)
}

// row is one row of a table: a record, and for line tables one of its lines.
type row struct {
	rec    *rec
	line   map[string]any
	n      int // position of the line, 0 = the main line
	prefix string
}

// lineKeys is how many address keys belong to one customer.
const lineKeys = 1000

// run evaluates q. Rows outside [offset, offset+limit) are only counted: they come back as nil.
func (t *Twin) run(q query, offset, limit int) ([]any, error) {
	ev := newEvaluator(t, q)
	for _, e := range append(slices.Clone(q.order), q.where) {
		if err := ev.check(e); err != nil {
			return nil, err
		}
	}
	for _, c := range q.columns {
		if err := ev.check(c.e); err != nil {
			return nil, err
		}
	}
	var rows []row
	err := t.scan(q, func(r row) {
		if q.where == nil || ev.value(q.where, r) == true {
			rows = append(rows, r)
		}
	})
	if err != nil {
		return nil, err
	}
	keys := make([][]any, len(rows))
	index := make([]int, len(rows))
	for i, r := range rows {
		index[i] = i
		for _, o := range q.order {
			keys[i] = append(keys[i], ev.value(o, r))
		}
	}
	sort.SliceStable(index, func(a, b int) bool {
		for i := range q.order {
			if c, _ := compare(keys[index[a]][i], keys[index[b]][i]); c != 0 {
				return c < 0 != q.desc[i]
			}
		}
		return false
	})
	out := make([]any, len(rows))
	for i, at := range index {
		if i < offset || i >= offset+limit {
			continue
		}
		m := map[string]any{"links": []any{}}
		for _, c := range q.columns {
			if v := render(ev.value(c.e, rows[at])); v != "" {
				m[c.name] = v
			}
		}
		out[i] = m
	}
	return out, nil
}

// render prints a value as SuiteQL does: text, with a bare date in the account's format and without its time.
func render(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case bool:
		if x {
			return "T"
		}
		return "F"
	case decimal.Decimal:
		return x.String()
	case time.Time:
		return x.Format("02.01.2006")
	}
	return ""
}

// scan calls visit for the rows that can match, in order of modification and id.
func (t *Twin) scan(q query, visit func(row)) error {
	from := q.table
	lines, isLines := map[string]string{"transactionline": "item", "itemfulfillmentpackage": "package", "customeraddressbook": "addressBook",
		"transactionshippingaddress": "", "pricing": "price", "customeraddressbookentityaddress": "addressBook"}[q.table]
	if isLines {
		from = "transaction"
		switch {
		case strings.HasPrefix(q.table, "customer"):
			from = "customer"
		case q.table == "pricing":
			from = item
		}
	}
	emit := func(r *rec) {
		if t.forbidden[r.object] { // a role's permissions narrow rows in silence
			return
		}
		switch {
		case !isLines:
			visit(row{rec: r})
		case q.table == "transactionshippingaddress":
			if a, ok := r.fields["shippingAddress"].(map[string]any); ok {
				visit(row{rec: r, line: a, prefix: "shippingAddress"})
			}
		case q.table == "itemfulfillmentpackage" && r.object != itemFulfillment:
		default:
			if q.table == "transactionline" {
				visit(row{rec: r})
			}
			for i, l := range itemsOf(r.fields[lines]) {
				visit(row{rec: r, line: l, n: i + 1, prefix: lines})
			}
		}
	}
	key := map[string]string{"transaction": "id", "customer": "id", "contact": "id", contract: "id", item: "id", "pricing": "item", "transactionline": "transaction", "itemfulfillmentpackage": "itemfulfillment",
		"transactionshippingaddress": "nkey", "customeraddressbook": "entity", "customeraddressbookentityaddress": "nkey"}[q.table]
	if ids, ok := pinned(q.where, key); ok && key != "" {
		for i, id := range ids {
			if q.table == "customeraddressbookentityaddress" {
				if id /= lineKeys; i > 0 && ids[i-1]/lineKeys == id {
					continue
				}
			}
			for _, object := range objects() {
				if r := t.byID[object][id]; r != nil && table(object) == from {
					emit(r)
				}
			}
		}
		return nil
	}
	all := t.sorted[from]
	start := 0
	if low, ok := lower(q.where); ok && !isLines {
		low = low.Add(-26 * time.Hour) // whatever the zone of the wall clock
		start = sort.Search(len(all), func(i int) bool { return !all[i].modified.Before(low) })
	}
	for _, r := range all[start:] {
		emit(r)
	}
	return nil
}

// pinned are the ids that where restricts column to, if it does.
func pinned(e *expr, column string) ([]int64, bool) {
	switch {
	case e == nil:
		return nil, false
	case e.op == "and":
		if ids, ok := pinned(e.args[0], column); ok {
			return ids, true
		}
		return pinned(e.args[1], column)
	case (e.op == "in" || e.op == "=") && e.args[0].op == "column" && e.args[0].name == column:
		var ids []int64
		for _, a := range e.args[1:] {
			id, err := strconv.ParseInt(fmt.Sprint(a.value), 10, 64)
			if a.op != "value" || err != nil {
				return nil, false
			}
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return slices.Compact(ids), true
	}
	return nil, false
}

// lower is a time before which no row can match, if where gives one.
func lower(e *expr) (time.Time, bool) {
	if e == nil {
		return time.Time{}, false
	}
	switch e.op {
	case "and", "or":
		a, okA := lower(e.args[0])
		b, okB := lower(e.args[1])
		switch {
		case okA && okB && e.op == "and":
			return maxTime(a, b), true
		case okA && okB:
			return minTime(a, b), true
		case e.op == "and" && okA:
			return a, true
		case e.op == "and" && okB:
			return b, true
		}
	case ">=", ">", "=":
		if at, ok := e.args[1].value.(time.Time); ok && strings.HasPrefix(e.args[0].name, "lastmodified") {
			return at, true
		}
	}
	return time.Time{}, false
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// evaluator computes expressions over rows of one table.
type evaluator struct {
	t            *Twin
	table, alias string
	fields       map[string]named // by lower-case name
}

type named struct{ name, kind string }

func newEvaluator(t *Twin, q query) evaluator {
	ev := evaluator{t: t, table: q.table, alias: q.alias, fields: map[string]named{}}
	for _, set := range ev.fieldSets() {
		for field, s := range set {
			hidden := ev.table == "transaction" && (field == "total" || field == "createdFrom" || strings.HasPrefix(field, "amount") || strings.HasSuffix(field, "Status"))
			if s.kind != "sublist" && s.kind != "address" && !hidden {
				ev.fields[strings.ToLower(field)] = named{field, s.kind}
			}
		}
	}
	return ev
}

// check refuses columns that the table does not have.
func (ev evaluator) check(e *expr) error {
	if e == nil {
		return nil
	}
	if e.op == "column" {
		name, ok := strings.CutPrefix(e.name, ev.alias+".")
		if !ok {
			name = strings.TrimPrefix(e.name, ev.table+".")
		}
		e.name = name
		if !ev.has(name) {
			return fmt.Errorf("field '%s' for record '%s' was not found. Reason: NOT_EXPOSED", name, ev.table)
		}
	}
	for _, a := range e.args {
		if err := ev.check(a); err != nil {
			return err
		}
	}
	return nil
}

// special columns are named differently from the record API's fields, or are only in SuiteQL.
func special(table string) []string {
	return map[string][]string{
		"customer":                         {"id", "externalid", "lastmodifieddate", "datecreated", "custentity_sorrel_rev"},
		"contact":                          {"id", "externalid", "lastmodifieddate", "datecreated", "custentity_sorrel_rev"},
		"transaction":                      {"id", "externalid", "lastmodifieddate", "createddate", "custbody_sorrel_rev", "type", "status", "foreigntotal", "foreignamountunpaid", "shippingaddress"},
		contract:                           {"id", "externalid", "lastmodified", "created"},
		item:                               {"id", "externalid", "lastmodifieddate", "createddate", "description"},
		"pricing":                          {"item"},
		"transactionline":                  {"id", "transaction", "linesequencenumber", "mainline", "taxline", "iscogs", "memo", "quantity", "foreignamount", "quantityshiprecv", "quantitybilled", "createdfrom", "linelastmodifieddate"},
		"itemfulfillmentpackage":           {"id", "itemfulfillment"},
		"customeraddressbook":              {"internalid", "entity", "addressbookaddress"},
		"customeraddressbookentityaddress": {"nkey"},
		"transactionshippingaddress":       {"nkey"},
	}[table]
}

func (ev evaluator) has(name string) bool {
	_, ok := ev.fields[name]
	return ok || slices.Contains(special(ev.table), name)
}

// fieldSets are the catalogues that a table's other columns come from.
func (ev evaluator) fieldSets() []map[string]spec {
	s := ev.t.specs
	parts := map[string]spec{}
	for _, n := range []string{"addressee", "addr1", "addr2", "city", "state", "zip", "country"} {
		parts[n] = spec{kind: "text"}
	}
	return map[string][]map[string]spec{
		"customer": {s[customer]}, "contact": {s[contact]}, contract: {s[contract]}, item: {s[item]}, "pricing": {s[item]["price"].lines}, "transaction": {s[salesOrder], s[itemFulfillment], s[invoice]},
		"transactionline":        {s[salesOrder]["item"].lines, s[itemFulfillment]["item"].lines, s[invoice]["item"].lines},
		"itemfulfillmentpackage": {s[itemFulfillment]["package"].lines}, "customeraddressbook": {s[customer]["addressBook"].lines},
		"customeraddressbookentityaddress": {parts}, "transactionshippingaddress": {parts},
	}[ev.table]
}

// wallClock is an instant as the account's clocks show it, marked as UTC: SuiteQL knows no zones.
func (ev evaluator) wallClock(at time.Time) time.Time {
	_, offset := at.In(ev.t.zone).Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

func (ev evaluator) value(e *expr, r row) any {
	switch e.op {
	case "value":
		return e.value
	case "column":
		return ev.scalar(ev.column(e.name, r), ev.fields[e.name].kind)
	case "df":
		if m, ok := ev.column(e.args[0].name, r).(map[string]any); ok {
			return m["refName"]
		}
		return ev.value(e.args[0], r)
	case "to_char":
		switch v := ev.value(e.args[0], r).(type) {
		case time.Time:
			return v.Format(e.name)
		case nil:
			return nil
		default:
			return render(v)
		}
	case "and":
		return ev.value(e.args[0], r) == true && ev.value(e.args[1], r) == true
	case "or":
		return ev.value(e.args[0], r) == true || ev.value(e.args[1], r) == true
	case "not":
		return ev.value(e.args[0], r) != true
	case "null":
		return ev.value(e.args[0], r) == nil
	case "in":
		v := ev.value(e.args[0], r)
		for _, a := range e.args[1:] {
			if c, ok := compare(v, ev.value(a, r)); ok && c == 0 {
				return true
			}
		}
		return false
	}
	c, ok := compare(ev.value(e.args[0], r), ev.value(e.args[1], r))
	switch {
	case !ok:
		return false
	case e.op == "=":
		return c == 0
	case e.op == "<>" || e.op == "!=":
		return c != 0
	case e.op == ">":
		return c > 0
	case e.op == ">=":
		return c >= 0
	case e.op == "<":
		return c < 0
	}
	return c <= 0
}

// compare orders two values; false means that one is null or that they cannot be compared.
func compare(a, b any) (int, bool) {
	if x, ok := a.(time.Time); ok {
		y, ok := b.(time.Time)
		return x.Compare(y), ok
	}
	if a == nil || b == nil {
		return 0, false
	}
	x, okX := a.(decimal.Decimal)
	y, okY := b.(decimal.Decimal)
	var err error
	if okX && !okY {
		y, err = decimal.NewFromString(render(b))
	} else if okY && !okX {
		x, err = decimal.NewFromString(render(a))
	}
	if okX || okY {
		return x.Cmp(y), err == nil
	}
	return strings.Compare(render(a), render(b)), true
}

// scalar is a stored value as SuiteQL has it.
func (ev evaluator) scalar(v any, kind string) any {
	switch x := v.(type) {
	case map[string]any:
		return x["id"]
	case json.Number:
		d, err := decimal.NewFromString(x.String())
		if err != nil {
			return nil
		}
		return d
	case string:
		if x == "" {
			return nil
		}
		if at, err := time.Parse(time.RFC3339, x); err == nil && kind == "time" {
			return ev.wallClock(at)
		}
		if at, err := time.Parse(time.DateOnly, x); err == nil && kind == "date" {
			return at
		}
	}
	return v
}

func (ev evaluator) column(name string, r row) any {
	whole := func(n int64) any { return decimal.NewFromInt(n) }
	outward := func(v any) any {
		d, ok := dec(v)
		if !ok {
			return nil
		}
		return d.Neg()
	}
	if r.prefix == "" && ev.table != "transactionline" {
		switch name {
		case "id":
			return whole(r.rec.id)
		case "externalid":
			return r.rec.external
		case "lastmodifieddate", "lastmodified":
			return ev.wallClock(r.rec.modified)
		case "createddate", "datecreated", "created":
			return ev.wallClock(r.rec.created)
		case "custbody_sorrel_rev", "custentity_sorrel_rev", "custrecord_sorrel_contract_rev":
			return whole(r.rec.rev)
		case "custbody_sorrel_user", "custentity_sorrel_user", "custrecord_sorrel_contract_user":
			return r.rec.user
		case "type":
			return map[string]string{salesOrder: "SalesOrd", itemFulfillment: "ItemShip", invoice: "CustInvc"}[r.rec.object]
		case "status":
			if s := r.rec.fields["orderStatus"]; s != nil {
				return s
			}
			if s := r.rec.fields["shipStatus"]; s != nil {
				return s
			}
			return letter(r.rec)
		case "description":
			return r.rec.fields["salesDescription"]
		case "foreignamountunpaid":
			return r.rec.fields["amountRemaining"]
		case "foreigntotal":
			return r.rec.fields["total"]
		case "shippingaddress":
			if r.rec.fields["shippingAddress"] == nil {
				return nil
			}
			return whole(r.rec.id)
		}
		return r.rec.fields[ev.fields[name].name]
	}
	switch name {
	case "transaction", "itemfulfillment", "entity":
		return whole(r.rec.id)
	case "item":
		if ev.table == "pricing" {
			return whole(r.rec.id)
		}
	case "nkey":
		if ev.table == "customeraddressbookentityaddress" {
			return ev.scalar(r.line["id"], "number")
		}
		return whole(r.rec.id)
	case "addressbookaddress", "internalid":
		return ev.scalar(r.line["id"], "number")
	case "id":
		if n, ok := dec(r.line["line"]); ok {
			return n
		}
		return whole(int64(r.n))
	case "linesequencenumber":
		return whole(int64(r.n))
	case "mainline":
		return r.n == 0
	case "taxline", "iscogs":
		return false
	case "memo":
		return r.line["description"]
	case "quantity":
		if ev.table == "pricing" {
			return r.line["quantity"]
		}
		return outward(r.line["quantity"])
	case "foreignamount":
		return outward(r.line["amount"])
	case "quantityshiprecv":
		return r.line["quantityFulfilled"]
	case "createdfrom":
		return r.rec.fields["createdFrom"]
	case "linelastmodifieddate":
		return ev.wallClock(r.rec.modified)
	}
	line := r.line
	if ev.table == "customeraddressbookentityaddress" {
		line, _ = r.line["addressBookAddress"].(map[string]any)
	}
	return line[ev.fields[name].name]
}
