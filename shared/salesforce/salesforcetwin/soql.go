package salesforcetwin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// selection is one parsed query.
type selection struct {
	o      *object
	count  bool
	groups []grouping // of an aggregate query; fields are none then
	number string     // alias of its COUNT(Id); "" = no aggregate query
	fields []column
	where  condition
	order  []sorting
	limit  int // -1 = none
	offset int
}

// column is a field of the object, or of a parent.
type column struct {
	via   *Field // reference field; nil = the object's own
	field *Field
}

type sorting struct {
	column
	descending bool
	nullsLast  bool
}

// value of the column for r; nil = empty.
func (c column) value(t *Twin, r *row) any {
	if c.via == nil {
		return r.value(c.field)
	}
	if p := t.parentOf(r, c.via); p != nil {
		return p.value(c.field)
	}
	return nil
}

// plain is the column's value in the form of literals.
func (c column) plain(t *Twin, r *row) any {
	if c.via == nil { // without the way through text: listings compare these for every record
		switch c.field.Name {
		case "Id":
			return recordID(r.id[:15])
		case "SystemModstamp", "LastModifiedDate":
			return r.stamp
		case "CreatedDate":
			return r.created
		}
	}
	return comparable(c.field, c.value(t, r))
}

func (t *Twin) parentOf(r *row, via *Field) *row {
	id, _ := r.values[via.Name].(string)
	to := t.objects[strings.ToLower(via.RefersTo)]
	if id == "" || to == nil {
		return nil
	}
	return to.rows[id[:15]]
}

// condition of a WHERE clause.
type condition interface{ holds(t *Twin, r *row) bool }

type all []condition // AND
type anyOf []condition
type not struct{ condition }

func (a all) holds(t *Twin, r *row) bool {
	return !slices.ContainsFunc(a, func(c condition) bool { return !c.holds(t, r) })
}

func (a anyOf) holds(t *Twin, r *row) bool {
	return slices.ContainsFunc(a, func(c condition) bool { return c.holds(t, r) })
}

func (n not) holds(t *Twin, r *row) bool { return !n.condition.holds(t, r) }

// recordID is an id in its 15-character form, in which case counts.
type recordID string

// comparison of a column with literals.
type comparison struct {
	column
	op   string // = != < > <= >= like in, not in
	with []any  // nil, bool, string, recordID, decimal.Decimal, time.Time
}

func (c comparison) holds(t *Twin, r *row) bool {
	v := c.plain(t, r)
	switch c.op {
	case "in", "not in":
		in := slices.ContainsFunc(c.with, func(w any) bool { return compare(v, w) == 0 && (v == nil) == (w == nil) })
		return in == (c.op == "in")
	case "like":
		s, ok := v.(string)
		p, _ := c.with[0].(string)
		return ok && like(strings.ToLower(s), strings.ToLower(p))
	case "=":
		return compare(v, c.with[0]) == 0
	case "!=":
		return compare(v, c.with[0]) != 0
	}
	if v == nil || c.with[0] == nil {
		return false
	}
	n := compare(v, c.with[0])
	switch c.op {
	case "<":
		return n < 0
	case ">":
		return n > 0
	case "<=":
		return n <= 0
	}
	return n >= 0
}

// like matches SQL's wildcards; a backslash makes the next character plain.
func like(s, p string) bool {
	if p == "" {
		return s == ""
	}
	switch {
	case p[0] == '%':
		for i := range len(s) + 1 {
			if like(s[i:], p[1:]) {
				return true
			}
		}
		return false
	case s == "":
		return false
	case p[0] == '\\' && len(p) > 1:
		return s[0] == p[1] && like(s[1:], p[2:])
	case p[0] == '_' || p[0] == s[0]:
		return like(s[1:], p[1:])
	}
	return false
}

// comparable turns a stored value into what literals are.
func comparable(f *Field, v any) any {
	switch x := v.(type) {
	case json.Number:
		d, err := decimal.NewFromString(x.String())
		if err != nil {
			return nil
		}
		return d
	case string:
		switch f.Type {
		case typeDatetime:
			at, err := time.Parse(restTime, x)
			if err != nil {
				return nil
			}
			return at
		case typeID, typeReference:
			return recordID(x[:15])
		}
	}
	return v
}

// compare orders values of one type; empty ones come first, text ignores case but ids do not.
func compare(a, b any) int {
	switch x := a.(type) {
	case nil:
		if b == nil {
			return 0
		}
		return -1
	case bool:
		if y, ok := b.(bool); ok && x == y {
			return 0
		} else if x {
			return 1
		}
		return -1
	case decimal.Decimal:
		if y, ok := b.(decimal.Decimal); ok {
			return x.Cmp(y)
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y)
		}
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(strings.ToLower(x), strings.ToLower(y))
		}
	case recordID:
		if y, ok := b.(recordID); ok {
			return cmp.Compare(x, y)
		}
	}
	return 1
}

// run returns the matching records in order. queryAll sees the recycle bin too.
func (t *Twin) run(s *selection, deleted bool) []*row {
	var rows []*row
	if len(s.order) == 1 && s.order[0].via == nil && s.order[0].field.Name == "Id" && !s.order[0].descending {
		rest := s.o.ids
		for _, term := range terms(s.where) {
			if c, ok := term.(comparison); ok && c.via == nil && c.field.Name == "Id" && (c.op == ">" || c.op == ">=") {
				if id, ok := c.with[0].(recordID); ok {
					rest = rest[sort.Search(len(rest), func(i int) bool { return rest[i].id[:15] >= string(id) }):]
				}
			}
		}
		for _, r := range rest {
			if s.limit >= 0 && len(rows) >= s.offset+s.limit {
				break
			}
			if (deleted || !r.deleted) && (s.where == nil || s.where.holds(t, r)) {
				rows = append(rows, r)
			}
		}
		return rows[min(s.offset, len(rows)):]
	}
	for _, r := range t.candidates(s, deleted) {
		if (deleted || !r.deleted) && (s.where == nil || s.where.holds(t, r)) {
			rows = append(rows, r)
		}
	}
	natural := len(s.order) > 0 && s.order[0].via == nil && s.order[0].field.Name == "SystemModstamp" && !s.order[0].descending
	if !natural || len(s.order) > 1 {
		slices.SortStableFunc(rows, func(a, b *row) int {
			for _, by := range s.order {
				x, y := by.plain(t, a), by.plain(t, b)
				c := compare(x, y)
				if by.descending {
					c = -c
				}
				if (x == nil) != (y == nil) {
					c = map[bool]int{true: -1, false: 1}[(x == nil) != by.nullsLast]
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	rows = rows[min(s.offset, len(rows)):]
	if s.limit >= 0 {
		rows = rows[:min(s.limit, len(rows))]
	}
	return rows
}

// terms are what must all hold.
func terms(where condition) all {
	switch c := where.(type) {
	case all:
		return c
	case nil:
		return nil
	}
	return all{where}
}

// earliest is a moment before which no record can match.
func earliest(where condition) time.Time {
	var from time.Time
	switch c := where.(type) {
	case all:
		for _, term := range c {
			if at := earliest(term); at.After(from) {
				from = at
			}
		}
	case anyOf:
		for i, term := range c {
			if at := earliest(term); i == 0 || at.Before(from) {
				from = at
			}
		}
	case comparison:
		if at, ok := c.with[0].(time.Time); ok && c.via == nil && c.field.Name == "SystemModstamp" && (c.op == ">=" || c.op == ">") {
			from = at
		}
	}
	return from
}

// candidates narrows a query by one indexed term, so that the usual ones do not scan the object.
func (t *Twin) candidates(s *selection, deleted bool) []*row {
	for _, term := range terms(s.where) {
		if c, ok := term.(comparison); ok && c.via == nil && c.field.Type == typeID && (c.op == "=" || c.op == "in") {
			var rows []*row
			for _, w := range c.with {
				if id, ok := w.(recordID); ok && s.o.rows[string(id)] != nil {
					rows = append(rows, s.o.rows[string(id)])
				}
			}
			return rows
		}
	}
	for _, term := range terms(s.where) {
		// The index holds live records only.
		if c, ok := term.(comparison); ok && c.via == nil && c.field.ExternalID && c.op == "=" && !deleted {
			if v, ok := c.with[0].(string); ok {
				return s.o.index[c.field.Name][strings.ToLower(v)]
			}
		}
	}
	return s.o.since(earliest(s.where))
}

// parser of SOQL.
type parser struct {
	t    *Twin
	toks []token
	o    *object
}

type token struct {
	text   string
	quoted bool
}

func malformedQuery(format string, a ...any) *apiError {
	return bad("MALFORMED_QUERY", fmt.Sprintf(format, a...))
}

func tokenize(q string) ([]token, *apiError) {
	var toks []token
	for i := 0; i < len(q); {
		c := q[i]
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		case c == '\'':
			var b strings.Builder
			i++
			for i < len(q) && q[i] != '\'' {
				if q[i] == '\\' && i+1 < len(q) {
					i++
					switch q[i] {
					case 'n':
						b.WriteByte('\n')
					case 'r':
						b.WriteByte('\r')
					case 't':
						b.WriteByte('\t')
					case 'b':
						b.WriteByte('\b')
					case 'f':
						b.WriteByte('\f')
					case '\'', '"', '\\':
						b.WriteByte(q[i])
					case '%', '_':
						b.WriteString(q[i-1 : i+1])
					default:
						return nil, malformedQuery("Illegal escape sequence in string literal")
					}
					i++
					continue
				}
				b.WriteByte(q[i])
				i++
			}
			if i >= len(q) {
				return nil, malformedQuery("unexpected end of a string literal")
			}
			toks = append(toks, token{b.String(), true})
			i++
		case strings.ContainsRune("(),", rune(c)):
			toks = append(toks, token{text: string(c)})
			i++
		case strings.ContainsRune("=<>!", rune(c)):
			n := 1
			if i+1 < len(q) && (q[i+1] == '=' || c == '<' && q[i+1] == '>') {
				n = 2
			}
			toks = append(toks, token{text: q[i : i+n]})
			i += n
		default:
			n := strings.IndexAny(q[i:], " \n\t\r(),=<>!'")
			if n < 0 {
				n = len(q) - i
			}
			toks = append(toks, token{text: q[i : i+n]})
			i += n
		}
	}
	return toks, nil
}

func (p *parser) peek(words ...string) bool {
	if len(p.toks) < len(words) {
		return false
	}
	for i, w := range words {
		if p.toks[i].quoted || !strings.EqualFold(p.toks[i].text, w) {
			return false
		}
	}
	return true
}

func (p *parser) take(words ...string) bool {
	ok := p.peek(words...)
	if ok {
		p.toks = p.toks[len(words):]
	}
	return ok
}

func (p *parser) next() token {
	if len(p.toks) == 0 {
		return token{text: "<EOF>"}
	}
	tok := p.toks[0]
	p.toks = p.toks[1:]
	return tok
}

func (p *parser) unexpected() *apiError {
	return malformedQuery("unexpected token: '%s'", p.next().text)
}

// parse reads SELECT … FROM … [WHERE …] [GROUP BY …] [ORDER BY …] [LIMIT n] [OFFSET n].
func (t *Twin) parse(q string) (*selection, *apiError) {
	toks, err := tokenize(q)
	if err != nil {
		return nil, err
	}
	p := &parser{t: t, toks: toks}
	if !p.take("select") {
		return nil, p.unexpected()
	}
	s := &selection{limit: -1}
	var names []string
	var dates []grouping
	if p.take("count", "(", ")") {
		s.count = true
	} else {
		for {
			aggregated, err := p.aggregate(s, &dates)
			if err != nil {
				return nil, err
			}
			if aggregated {
				if !p.take(",") {
					break
				}
				continue
			}
			name := p.next()
			if name.quoted || name.text == "(" || p.peek("(") {
				return nil, malformedQuery("unexpected token: '%s' (this org's stand-in knows plain fields, parents, COUNT(), and COUNT(Id) by DAY_ONLY and HOUR_IN_DAY)", name.text)
			}
			names = append(names, name.text)
			if !p.take(",") {
				break
			}
		}
	}
	if !p.take("from") {
		return nil, p.unexpected()
	}
	from := p.next().text
	if p.o = t.objects[strings.ToLower(from)]; p.o == nil {
		return nil, bad("INVALID_TYPE", fmt.Sprintf("sObject type '%s' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name.", from))
	}
	s.o = p.o
	for _, n := range names {
		c, err := p.column(n)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, c)
	}
	if p.take("where") {
		if s.where, err = p.condition(0); err != nil {
			return nil, err
		}
	}
	if s.number != "" || len(dates) > 0 || p.peek("group", "by") {
		if err := p.groups(s, names, dates); err != nil {
			return nil, err
		}
	} else if p.take("order", "by") {
		if s.order, err = p.sortings(); err != nil {
			return nil, err
		}
	}
	if err := p.number("limit", &s.limit); err != nil {
		return nil, err
	}
	if err := p.number("offset", &s.offset); err != nil {
		return nil, err
	}
	if s.offset > 2000 {
		return nil, bad("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
	}
	if len(p.toks) > 0 {
		return nil, p.unexpected()
	}
	return s, nil
}

func (p *parser) number(word string, into *int) *apiError {
	if !p.take(word) {
		return nil
	}
	n, err := strconv.Atoi(p.next().text)
	if err != nil || n < 0 {
		return malformedQuery("%s needs a number", strings.ToUpper(word))
	}
	*into = n
	return nil
}

func (p *parser) sortings() ([]sorting, *apiError) {
	var order []sorting
	for {
		c, err := p.column(p.next().text)
		if err != nil {
			return nil, err
		}
		if !c.field.filterable() {
			return nil, bad("INVALID_FIELD", fmt.Sprintf("field '%s' can not be sorted in a query call", c.field.Name))
		}
		s := sorting{column: c, descending: p.take("desc")}
		if !s.descending {
			p.take("asc")
		}
		s.nullsLast = p.take("nulls", "last")
		if !s.nullsLast {
			p.take("nulls", "first")
		}
		order = append(order, s)
		if !p.take(",") {
			return order, nil
		}
	}
}

func (p *parser) column(name string) (column, *apiError) {
	relation, rest, nested := strings.Cut(name, ".")
	o, c := p.o, column{}
	if nested && strings.EqualFold(relation, p.o.name) && p.o.parent[strings.ToLower(relation)] == nil { // Account.Name FROM Account
		name, nested = rest, false
	}
	if nested {
		c.via = o.parent[strings.ToLower(relation)]
		if c.via == nil || p.t.objects[strings.ToLower(c.via.RefersTo)] == nil {
			return c, bad("INVALID_FIELD", fmt.Sprintf("Didn't understand relationship '%s' in field path. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name.", relation))
		}
		o, name = p.t.objects[strings.ToLower(c.via.RefersTo)], rest
	}
	if c.field = o.field(name); c.field == nil {
		return c, bad("INVALID_FIELD", fmt.Sprintf("No such column '%s' on entity '%s'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name.", name, o.name))
	}
	return c, nil
}

// condition reads terms joined by AND, or by OR: as in Salesforce, a mixture needs parentheses.
func (p *parser) condition(depth int) (condition, *apiError) {
	if depth > 20 {
		return nil, malformedQuery("too many parentheses")
	}
	first, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	terms := []condition{first}
	for _, word := range []string{"and", "or"} {
		if !p.peek(word) {
			continue
		}
		for p.take(word) {
			next, err := p.term(depth)
			if err != nil {
				return nil, err
			}
			terms = append(terms, next)
		}
		if p.peek("and") || p.peek("or") {
			return nil, p.unexpected()
		}
		if word == "or" {
			return anyOf(terms), nil
		}
		// Nested ANDs are one list, so that candidates sees their terms.
		flat := all{}
		for _, c := range terms {
			if inner, ok := c.(all); ok {
				flat = append(flat, inner...)
			} else {
				flat = append(flat, c)
			}
		}
		return flat, nil
	}
	return first, nil
}

func (p *parser) term(depth int) (condition, *apiError) {
	if p.take("not") {
		c, err := p.term(depth + 1)
		if err != nil || depth > 20 {
			return nil, cmp.Or(err, malformedQuery("too many parentheses"))
		}
		return not{c}, nil
	}
	if p.take("(") {
		c, err := p.condition(depth + 1)
		if err == nil && !p.take(")") {
			err = p.unexpected()
		}
		return c, err
	}
	col, err := p.column(p.next().text)
	if err != nil {
		return nil, err
	}
	if !col.field.filterable() {
		return nil, bad("INVALID_FIELD", fmt.Sprintf("field '%s' can not be filtered in a query call", col.field.Name))
	}
	c := comparison{column: col}
	switch op := p.next(); {
	case op.quoted:
		return nil, malformedQuery("unexpected token: '%s'", op.text)
	case strings.EqualFold(op.text, "in"):
		c.op = "in"
	case strings.EqualFold(op.text, "not") && p.take("in"):
		c.op = "not in"
	case strings.EqualFold(op.text, "like"):
		c.op = "like"
	case op.text == "<>":
		c.op = "!="
	case slices.Contains([]string{"=", "!=", "<", ">", "<=", ">="}, op.text):
		c.op = op.text
	default:
		return nil, malformedQuery("unexpected token: '%s'", op.text)
	}
	if c.op != "in" && c.op != "not in" {
		v, err := p.literal(col.field)
		c.with = []any{v}
		return c, err
	}
	if !p.take("(") {
		return nil, p.unexpected()
	}
	for {
		v, err := p.literal(col.field)
		if err != nil {
			return nil, err
		}
		c.with = append(c.with, v)
		if p.take(")") {
			return c, nil
		}
		if !p.take(",") {
			return nil, p.unexpected()
		}
	}
}

// literal reads one value and checks that it is of the field's type.
func (p *parser) literal(f *Field) (any, *apiError) {
	tok := p.next()
	wrong := func(kind, quotes string) *apiError {
		return bad("INVALID_FIELD", fmt.Sprintf("value of filter criterion for field '%s' must be of type %s and should %sbe enclosed in quotes", f.Name, kind, quotes))
	}
	if !tok.quoted && strings.EqualFold(tok.text, "null") {
		return nil, nil
	}
	switch f.Type {
	case typeBoolean:
		if tok.quoted || !strings.EqualFold(tok.text, "true") && !strings.EqualFold(tok.text, "false") {
			return nil, wrong("boolean", "not ")
		}
		return strings.EqualFold(tok.text, "true"), nil
	case typeCurrency, typeDouble, typeInt:
		d, err := decimal.NewFromString(tok.text)
		if tok.quoted || err != nil || len(tok.text) > 40 {
			return nil, wrong("double", "not ")
		}
		return d, nil
	case typeDatetime:
		if tok.quoted {
			return nil, wrong("dateTime", "not ")
		}
		for _, layout := range []string{time.RFC3339, restTime} {
			if at, err := time.Parse(layout, tok.text); err == nil {
				return at.UTC(), nil
			}
		}
		return nil, malformedQuery("unexpected token: '%s'", tok.text)
	case typeDate:
		if tok.quoted {
			return nil, wrong("date", "not ")
		}
		if _, err := time.Parse(time.DateOnly, tok.text); err != nil {
			return nil, malformedQuery("unexpected token: '%s'", tok.text)
		}
		return tok.text, nil
	}
	if !tok.quoted {
		return nil, wrong(f.Type, "")
	}
	if f.Type == typeID || f.Type == typeReference {
		key, ok := short(tok.text)
		if !ok {
			return nil, bad("INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: "+tok.text)
		}
		return recordID(key), nil
	}
	return tok.text, nil
}

// render shows one record as the query asked for it.
func (t *Twin) render(s *selection, r *row, base string) map[string]any {
	m := map[string]any{"attributes": r.attributes(base)}
	for _, c := range s.fields {
		if c.via == nil {
			m[c.field.Name] = r.value(c.field)
			continue
		}
		p := t.parentOf(r, c.via)
		if p == nil {
			m[c.via.Relationship] = nil
			continue
		}
		nested, _ := m[c.via.Relationship].(map[string]any)
		if nested == nil {
			nested = map[string]any{"attributes": p.attributes(base)}
			m[c.via.Relationship] = nested
		}
		nested[c.field.Name] = p.value(c.field)
	}
	return m
}
