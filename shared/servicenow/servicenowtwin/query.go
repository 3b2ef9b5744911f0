package servicenowtwin

import (
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// query is an encoded query: alternatives (^NQ) of conditions that must all hold, each a list of which one must (^OR).
// https://www.servicenow.com/docs/r/platform-user-interface/r_OpAvailableFiltersQueries.html
type query struct {
	groups  [][][]condition
	order   []order
	invalid bool // it names a field that is not there; that condition is dropped
}

type condition struct {
	field *Field
	op    string
	value string
}

type order struct {
	field string
	down  bool
}

// operators, longer ones before those that they begin with.
func operators() [17]string {
	return [...]string{"ISNOTEMPTY", "ISEMPTY", "STARTSWITH", "ENDSWITH", "NOT LIKE", "NOTLIKE", "NOT IN", "CONTAINS", "LIKE", "IN", "!=", ">=", "<=", "=", ">", "<", "ANYTHING"}
}

// parse reads an encoded query. Times in it are read in zone.
func (tb *table) parse(text string, zone *time.Location) query {
	q := query{groups: [][][]condition{nil}}
	for i, term := range strings.Split(text, "^") {
		group := len(q.groups) - 1
		either := false
		switch {
		case term == "" || term == "EQ":
			continue
		case strings.HasPrefix(term, "ORDERBYDESC"), strings.HasPrefix(term, "ORDERBY"):
			name, down := strings.CutPrefix(term, "ORDERBYDESC")
			if !down {
				name = strings.TrimPrefix(term, "ORDERBY")
			}
			if tb.field(name) == nil {
				q.invalid = true
				continue
			}
			q.order = append(q.order, order{name, down})
			continue
		case i > 0 && strings.HasPrefix(term, "NQ"):
			term = term[2:]
			q.groups = append(q.groups, nil)
			group++
		case i > 0 && strings.HasPrefix(term, "OR"):
			term, either = term[2:], true
		}
		c, ok := tb.condition(term, zone)
		if !ok {
			q.invalid = true
			continue
		}
		if n := len(q.groups[group]); either && n > 0 {
			q.groups[group][n-1] = append(q.groups[group][n-1], c)
		} else {
			q.groups[group] = append(q.groups[group], []condition{c})
		}
	}
	return q
}

func (tb *table) condition(term string, zone *time.Location) (condition, bool) {
	end := 0
	for end < len(term) && (term[end] == '_' || term[end] >= 'a' && term[end] <= 'z' || term[end] >= '0' && term[end] <= '9') {
		end++
	}
	f := tb.field(term[:end])
	if f == nil {
		return condition{}, false
	}
	for _, op := range operators() {
		value, ok := strings.CutPrefix(term[end:], op)
		if !ok {
			continue
		}
		if f.Type == "glide_date_time" && value != "" {
			at, err := time.ParseInLocation(layout, value, zone)
			if err != nil {
				return condition{}, false
			}
			value = at.UTC().Format(layout)
		}
		return condition{f, op, value}, true
	}
	return condition{}, false
}

func (c condition) holds(r *row) bool {
	v := r.data[c.field.Name]
	low, want := strings.ToLower(v), strings.ToLower(c.value)
	switch c.op {
	case "=":
		return low == want
	case "!=":
		return low != want
	case "ISEMPTY":
		return v == ""
	case "ISNOTEMPTY":
		return v != ""
	case "STARTSWITH":
		return strings.HasPrefix(low, want)
	case "ENDSWITH":
		return strings.HasSuffix(low, want)
	case "LIKE", "CONTAINS":
		return strings.Contains(low, want)
	case "NOT LIKE", "NOTLIKE":
		return !strings.Contains(low, want)
	case "IN":
		return slices.Contains(strings.Split(want, ","), low)
	case "NOT IN":
		return !slices.Contains(strings.Split(want, ","), low)
	case "ANYTHING":
		return true
	}
	cmp := c.field.compare(low, want)
	switch c.op {
	case ">":
		return cmp > 0
	case ">=":
		return cmp >= 0
	case "<":
		return cmp < 0
	}
	return cmp <= 0
}

// number reads a number whose digits fit into memory: 1e999999999 is none.
func number(s string) (decimal.Decimal, bool) {
	d, err := decimal.NewFromString(s)
	return d, err == nil && len(s) <= 80 && d.Exponent() <= 40 && d.Exponent() >= -40
}

// compare orders two values of a field.
func (f *Field) compare(a, b string) int {
	if f.Type == "integer" || f.Type == "decimal" {
		x, okX := number(a)
		y, okY := number(b)
		if okX && okY {
			return x.Cmp(y)
		}
	}
	return strings.Compare(a, b)
}

func (q query) holds(r *row) bool {
	for _, group := range q.groups {
		all := true
		for _, any := range group {
			one := false
			for _, c := range any {
				one = one || c.holds(r)
			}
			if all = all && one; !all {
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// find returns the rows of q in its order.
func (tb *table) find(q query) []*row {
	var out []*row
	candidates, natural := tb.candidates(q)
	if natural && q.keyOnly() { // a whole listing: there is nothing else to look at
		return candidates
	}
	for _, r := range candidates {
		if q.holds(r) {
			out = append(out, r)
		}
	}
	if natural || len(out) < 2 {
		return out
	}
	slices.SortStableFunc(out, func(a, b *row) int { // without an order: as they were made
		for _, o := range q.order {
			c := tb.field(o.field).compare(a.data[o.field], b.data[o.field])
			if o.down {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return int(a.born - b.born)
	})
	return out
}

// candidates narrows down the rows that q may find, by an id, a unique field, the earliest and latest sys_updated_on, or in
// a listing by sys_id by that. natural reports that they are in q's order.
func (tb *table) candidates(q query) (rows []*row, natural bool) {
	from, to, after := "", "", ""
	for i, group := range q.groups {
		start, end, low := "", "", ""
		for _, any := range group {
			if len(any) != 1 {
				continue
			}
			c := any[0]
			switch {
			case len(q.groups) == 1 && c.op == "=" && c.field.Name == "sys_id":
				return present(tb.rows[c.value]), true
			case len(q.groups) == 1 && c.op == "=" && c.field.Unique && c.value != "":
				return present(tb.unique[c.field.Name][strings.ToLower(c.value)]), true
			case len(q.groups) == 1 && c.op == "IN" && c.field.Name == "sys_id":
				for _, id := range strings.Split(c.value, ",") {
					rows = append(rows, present(tb.rows[id])...)
				}
				return rows, false
			case c.field.Name == "sys_updated_on" && (c.op == "=" || c.op == ">=" || c.op == ">"):
				start = max(start, c.value)
			case c.field.Name == "sys_updated_on" && (c.op == "<=" || c.op == "<") && (end == "" || c.value < end):
				end = c.value
			case c.field.Name == "sys_id" && c.op == ">":
				low = max(low, c.value)
			}
		}
		if i == 0 || start < from {
			from = start
		}
		if i == 0 || low < after {
			after = low
		}
		if i == 0 || end == "" || to != "" && end > to {
			to = end
		}
	}
	if from == "" && to == "" && len(q.order) == 1 && q.order[0] == (order{"sys_id", false}) {
		return tb.after(after), true
	}
	natural = len(q.order) > 0 && q.order[0] == order{"sys_updated_on", false} && (len(q.order) == 1 || q.order[1] == order{"sys_id", false})
	search := func(at string) int {
		i, _ := slices.BinarySearchFunc(tb.sorted, at, func(r *row, at string) int { return strings.Compare(r.data["sys_updated_on"], at) })
		return i
	}
	end := len(tb.sorted)
	if to != "" {
		end = search(to + "~") // after all of that second
	}
	return tb.sorted[min(search(from), end):end], natural
}

// keyOnly reports that q asks for nothing but rows after a sys_id.
func (q query) keyOnly() bool {
	for _, group := range q.groups {
		for _, any := range group {
			if len(any) != 1 || any[0].field.Name != "sys_id" || any[0].op != ">" {
				return false
			}
		}
	}
	return len(q.groups) == 1 && len(q.order) == 1 && q.order[0] == (order{"sys_id", false})
}

func present(r *row) []*row {
	if r == nil {
		return nil
	}
	return []*row{r}
}
