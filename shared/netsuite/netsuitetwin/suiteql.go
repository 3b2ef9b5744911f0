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
	total := 0
	if err == nil {
		t.mu.RLock()
		rows, total, err = t.run(q, offset, limit)
		t.mu.RUnlock()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "INVALID_PARAMETER", "Invalid search query. Detailed unprocessed description follows. Search error occurred: "+err.Error()+".", "o:errorQueryParam", "q")
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=collection")
	writeRows(w, r, rows, total, limit, offset)
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

// run evaluates q and renders the rows in [offset, offset+limit); total is how many there are.
func (t *Twin) run(q query, offset, limit int) (page []any, total int, err error) {
	ev := newEvaluator(t, q)
	for _, e := range slices.Concat(q.order, q.group, []*expr{q.where}) {
		if err := ev.check(e); err != nil {
			return nil, 0, err
		}
		if e != nil && e.aggregates() {
			return nil, 0, fmt.Errorf("invalid or unsupported search: group function is not allowed here")
		}
	}
	aggregate := len(q.group) > 0
	for _, c := range q.columns {
		if err := ev.check(c.e); err != nil {
			return nil, 0, err
		}
		aggregate = aggregate || c.e.aggregates()
	}
	if aggregate {
		all, err := t.grouped(ev, q)
		if err != nil {
			return nil, 0, err
		}
		return all[min(offset, len(all)):min(offset+limit, len(all))], len(all), nil
	}
	show := func(r row) {
		m := map[string]any{"links": []any{}}
		for _, c := range q.columns {
			if v := render(ev.value(c.e, r)); v != "" {
				m[c.name] = v
			}
		}
		page = append(page, m)
	}
	page = []any{}
	if rest, where, ok := t.byKey(q); ok {
		for _, r := range rest {
			if where != nil && ev.value(where, row{rec: r}) != true {
				continue
			}
			if total++; total > offset && total <= offset+limit {
				show(row{rec: r})
			}
		}
		return page, total, nil
	}
	var rows []row
	err = t.scan(q, func(r row) {
		if q.where == nil || ev.value(q.where, r) == true {
			rows = append(rows, r)
		}
	})
	if err != nil {
		return nil, 0, err
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
	for _, at := range index[min(offset, len(index)):min(offset+limit, len(index))] {
		show(rows[at])
	}
	return page, len(rows), nil
}

// byKey answers a listing in order of id from the index of ids: the records that are left, and what else must hold. It is
// for listings of a whole table; one that is bound to a time is sooner found by that.
func (t *Twin) byKey(q query) (rest []*rec, where *expr, ok bool) {
	if len(q.order) != 1 || q.desc[0] || q.order[0].op != "column" || q.order[0].name != "id" || t.ids[q.table] == nil {
		return nil, nil, false
	}
	if _, timed := lower(q.where); timed {
		return nil, nil, false
	}
	if _, few := pinned(q.where, "id"); few {
		return nil, nil, false
	}
	low, where := above(q.where)
	rest = t.ids[q.table]
	rest = rest[after(rest, low):]
	if len(t.forbidden) > 0 {
		rest = slices.DeleteFunc(slices.Clone(rest), func(r *rec) bool { return t.forbidden[r.object] })
	}
	return rest, where, true
}

// above takes the highest "id > n" that must hold out of e.
func above(e *expr) (low int64, rest *expr) {
	switch {
	case e == nil:
	case e.op == "and":
		a, left := above(e.args[0])
		b, right := above(e.args[1])
		if low = max(a, b); left == nil || right == nil {
			if left == nil {
				left = right
			}
			return low, left
		}
		return low, &expr{op: "and", args: []*expr{left, right}}
	case e.op == ">" && e.args[0].op == "column" && e.args[0].name == "id":
		if d, ok := e.args[1].value.(decimal.Decimal); ok && d.IsInteger() {
			return d.IntPart(), nil
		}
	}
	return 0, e
}

// aggregates reports whether e is computed from many rows.
func (e *expr) aggregates() bool { return e.op == "count" || e.op == "sum" }

// grouped evaluates a query with GROUP BY or aggregate functions.
func (t *Twin) grouped(ev evaluator, q query) ([]any, error) {
	for _, c := range q.columns {
		if !c.e.aggregates() && !slices.ContainsFunc(q.group, c.e.same) {
			return nil, fmt.Errorf("invalid or unsupported search: column %s is neither grouped nor aggregated", c.name)
		}
	}
	for _, o := range q.order {
		if !slices.ContainsFunc(q.group, o.same) {
			return nil, fmt.Errorf("invalid or unsupported search: ORDER BY needs a grouped expression")
		}
	}
	type group struct {
		keys  []any
		n     int
		sums  []decimal.Decimal
		whole []int64
		count []int
	}
	groups := map[string]*group{}
	var all []*group
	var name strings.Builder
	err := t.scan(q, func(r row) {
		if q.where != nil && ev.value(q.where, r) != true {
			return
		}
		name.Reset()
		keys := make([]any, len(q.group))
		for i, e := range q.group {
			keys[i] = ev.value(e, r)
			name.WriteString(render(keys[i]))
			name.WriteByte(0)
		}
		g := groups[name.String()]
		if g == nil {
			g = &group{keys: keys, sums: make([]decimal.Decimal, len(q.columns)), whole: make([]int64, len(q.columns)), count: make([]int, len(q.columns))}
			groups[name.String()] = g
			all = append(all, g)
		}
		g.n++
		for i, c := range q.columns {
			switch {
			case !c.e.aggregates() || len(c.e.args) == 0:
			case c.e.args[0].name == "id" && r.prefix == "" && ev.table != "transactionline":
				g.count[i]++
				g.whole[i] += r.rec.id
			default:
				v := ev.value(c.e.args[0], r)
				if v != nil {
					g.count[i]++
				}
				if d, ok := v.(decimal.Decimal); ok {
					g.sums[i] = g.sums[i].Add(d)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if len(q.group) == 0 && len(all) == 0 {
		all = append(all, &group{sums: make([]decimal.Decimal, len(q.columns)), whole: make([]int64, len(q.columns)), count: make([]int, len(q.columns))})
	}
	sort.SliceStable(all, func(a, b int) bool {
		for i, o := range q.order {
			at := slices.IndexFunc(q.group, o.same)
			if c, _ := compare(all[a].keys[at], all[b].keys[at]); c != 0 {
				return c < 0 != q.desc[i]
			}
		}
		return false
	})
	out := make([]any, len(all))
	for i, g := range all {
		m := map[string]any{"links": []any{}}
		for j, c := range q.columns {
			v := ""
			switch {
			case c.e.op == "count" && len(c.e.args) == 0:
				v = strconv.Itoa(g.n)
			case c.e.op == "count":
				v = strconv.Itoa(g.count[j])
			case c.e.op == "sum" && g.count[j] > 0:
				v = g.sums[j].Add(decimal.NewFromInt(g.whole[j])).String()
			case c.e.op != "sum":
				v = render(g.keys[slices.IndexFunc(q.group, c.e.same)])
			}
			if v != "" {
				m[c.name] = v
			}
		}
		out[i] = m
	}
	return out, nil
}

// same reports whether two expressions are written alike.
func (e *expr) same(o *expr) bool {
	return e.op == o.op && e.name == o.name && fmt.Sprint(e.value) == fmt.Sprint(o.value) && slices.EqualFunc(e.args, o.args, (*expr).same)
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
	last         *moment
}

// moment remembers when a record was modified by the account's clock: conditions on many spans ask for it often.
type moment struct {
	rec *rec
	at  any
}

type named struct{ name, kind string }

func newEvaluator(t *Twin, q query) evaluator {
	ev := evaluator{t: t, table: q.table, alias: q.alias, fields: map[string]named{}, last: &moment{}}
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
		if a.aggregates() {
			return fmt.Errorf("invalid or unsupported search: group function is not allowed here")
		}
		if err := ev.check(a); err != nil {
			return err
		}
	}
	if e.op == "in" && !slices.ContainsFunc(e.args[1:], func(a *expr) bool { d, ok := a.value.(decimal.Decimal); return !ok || !d.IsInteger() }) {
		e.listed = make(map[string]bool, len(e.args)) // of ids, there are up to 1,000
		for _, a := range e.args[1:] {
			e.listed[render(a.value)] = true
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
		if e.listed != nil {
			return v != nil && e.listed[render(v)]
		}
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
			if ev.last.rec != r.rec {
				*ev.last = moment{r.rec, ev.wallClock(r.rec.modified)}
			}
			return ev.last.at
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
