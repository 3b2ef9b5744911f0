package salesforcetwin

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// grouping is one date function over a date-time field. Date functions count in UTC.
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_date_functions.htm
type grouping struct {
	function string // day_only, hour_in_day
	field    *Field
	name     string // alias
	raw      string // field as written, until the object is known
}

func (g grouping) same(o grouping) bool { return g.function == o.function && g.field == o.field }

// aggregate reads one aggregate column; false means that it is none.
func (p *parser) aggregate(s *selection, dates *[]grouping) (bool, *apiError) {
	if p.take("count", "(", "id", ")") {
		s.number = p.alias(fmt.Sprint("expr", len(*dates)))
		return true, nil
	}
	g, ok, err := p.function()
	if ok && err == nil {
		g.name = p.alias(fmt.Sprint("expr", len(*dates)))
		*dates = append(*dates, g)
	}
	return ok, err
}

// function reads DAY_ONLY(…) or HOUR_IN_DAY(…).
func (p *parser) function() (grouping, bool, *apiError) {
	for _, name := range []string{"day_only", "hour_in_day"} {
		if p.take(name, "(") {
			g := grouping{function: name, raw: p.next().text}
			if !p.take(")") {
				return g, true, p.unexpected()
			}
			return g, true, nil
		}
	}
	return grouping{}, false, nil
}

func (p *parser) alias(otherwise string) string {
	if len(p.toks) == 0 || p.toks[0].quoted || p.peek(",") || p.peek("from") {
		return otherwise
	}
	return p.next().text
}

// groups reads GROUP BY and the ORDER BY of the same functions, and checks them against the columns.
func (p *parser) groups(s *selection, names []string, dates []grouping) *apiError {
	if len(names) > 0 {
		return malformedQuery("Field must be grouped or aggregated: %s", names[0])
	}
	if s.number == "" {
		return malformedQuery("this org's stand-in groups to count: COUNT(Id) is missing")
	}
	bind := func(g *grouping) *apiError {
		c, err := p.column(g.raw)
		if err == nil && (c.via != nil || c.field.Type != typeDatetime) {
			err = bad("INVALID_FIELD", fmt.Sprintf("%s needs a date-time field: %s", strings.ToUpper(g.function), g.raw))
		}
		g.field = c.field
		return err
	}
	list := func() ([]grouping, *apiError) {
		var out []grouping
		for {
			g, ok, err := p.function()
			if !ok || err != nil {
				return nil, p.unexpected()
			}
			if err := bind(&g); err != nil {
				return nil, err
			}
			out = append(out, g)
			p.take("asc")
			if !p.take(",") {
				return out, nil
			}
		}
	}
	for i := range dates {
		if err := bind(&dates[i]); err != nil {
			return err
		}
	}
	var by []grouping
	if p.take("group", "by") {
		var err *apiError
		if by, err = list(); err != nil {
			return err
		}
	}
	if len(by) != len(dates) || slices.ContainsFunc(dates, func(g grouping) bool { return !slices.ContainsFunc(by, g.same) }) {
		return malformedQuery("Field must be grouped or aggregated: columns and GROUP BY differ")
	}
	s.groups = dates
	if len(dates) == 0 && p.peek("limit") {
		return malformedQuery("LIMIT needs GROUP BY beside an aggregate function")
	}
	if p.take("order", "by") {
		order, err := list()
		if err != nil {
			return err
		}
		if len(order) != len(dates) || slices.ContainsFunc(order, func(g grouping) bool { return !slices.ContainsFunc(dates, g.same) }) {
			return malformedQuery("Ordered field must be grouped or aggregated")
		}
		s.groups = nil // in the order asked for
		for _, g := range order {
			s.groups = append(s.groups, dates[slices.IndexFunc(dates, g.same)])
		}
	}
	return nil
}

// aggregate counts the matching records by group, in order.
func (t *Twin) aggregate(s *selection, deleted bool) []map[string]any {
	type key [2]int64 // of up to two functions
	counts := map[key]int{}
	if len(s.groups) == 0 {
		counts[key{}] = 0
	}
	plain := selection{o: s.o, where: s.where, limit: -1}
	for _, r := range t.candidates(&plain, deleted) {
		if !deleted && r.deleted || s.where != nil && !s.where.holds(t, r) {
			continue
		}
		var k key
		for i, g := range s.groups {
			at, _ := column{field: g.field}.plain(t, r).(time.Time)
			if k[i] = at.Unix() / 86400; g.function == "hour_in_day" {
				k[i] = at.Unix() % 86400 / 3600
			}
		}
		counts[k]++
	}
	keys := make([]key, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return slices.Compare(a[:], b[:]) })
	keys = keys[min(s.offset, len(keys)):]
	if s.limit >= 0 {
		keys = keys[:min(s.limit, len(keys))]
	}
	out := make([]map[string]any, len(keys))
	for i, k := range keys {
		out[i] = map[string]any{"attributes": map[string]string{"type": "AggregateResult"}, s.number: counts[k]}
		for j, g := range s.groups {
			if out[i][g.name] = k[j]; g.function == "day_only" {
				out[i][g.name] = time.Unix(k[j]*86400, 0).UTC().Format(time.DateOnly)
			}
		}
	}
	return out
}
