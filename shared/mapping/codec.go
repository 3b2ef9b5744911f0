package mapping

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zone names must work where the system has no zone files, such as a bare Lambda image
	"unicode/utf8"

	"sorrel/shared/contract"
	"sorrel/shared/jsonread"
	"sorrel/shared/record"
)

// Exception types that a mapping gives to values that it cannot carry.
const (
	UnknownPicklist   = "unknown-picklist"
	InvalidValue      = "invalid-value"
	ContractViolation = "contract-violation"
	MissingReference  = "missing-reference"
)

// unusable says why a value cannot be carried over. Its detail never quotes a whole payload.
type unusable struct{ kind, detail string }

func (u *unusable) Error() string { return u.kind + ": " + u.detail }

func invalid(format string, args ...any) error {
	return &unusable{InvalidValue, fmt.Sprintf(format, args...)}
}

// codec translates one field's values. Neither function sees nil or Null: those always mean each other. A
// decode may still find that a native value says nothing (an empty text) and return Null; an encode may find
// that a value leaves nothing to write and return nil.
type codec interface {
	decode(native any) (record.Value, error)
	encode(v record.Value) (any, error)
}

// scalar returns the text of a native string or number.
func scalar(native any) (string, bool) {
	switch x := native.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case float64, int, int64:
		v, err := record.FromAny(x)
		return v.Raw(), err == nil
	}
	return "", false
}

// label returns the readable text of a native reference or enum: {"id":"1","refName":"CHF"} means CHF.
func label(native any, keys ...string) (string, bool) {
	m, isMap := native.(map[string]any)
	if !isMap {
		return scalar(native)
	}
	for _, k := range keys {
		if s, ok := scalar(m[k]); ok {
			return s, true
		}
	}
	return "", len(m) == 0 || m["id"] == nil
}

func shapeOf(native any) string {
	switch native.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

type textCodec struct {
	trim  bool
	label bool
}

func (c textCodec) decode(native any) (record.Value, error) {
	s, ok := scalar(native)
	if c.label {
		s, ok = label(native, "refName", "id")
	}
	if !ok {
		return record.Value{}, invalid("is %s, not a text", shapeOf(native))
	}
	return c.value(s), nil
}

func (c textCodec) value(s string) record.Value {
	if c.trim {
		s = strings.TrimSpace(s)
	}
	if s == "" {
		return record.NullValue()
	}
	return record.TextValue(s)
}

func (c textCodec) encode(v record.Value) (any, error) {
	if v.Kind() != record.Text {
		return nil, invalid("is no text")
	}
	if w := c.value(v.Raw()); !w.IsNull() {
		return w.Raw(), nil
	}
	return nil, nil
}

// excerptCodec is the beginning of a native text, which may be of any length and is only read: an ellipsis says that
// there was more.
type excerptCodec struct{ most int } // characters

func (c excerptCodec) decode(native any) (record.Value, error) {
	v, err := textCodec{trim: true}.decode(native)
	if err != nil || v.IsNull() || len(v.Raw()) <= c.most {
		return v, err
	}
	if r := []rune(v.Raw()); len(r) > c.most {
		return record.TextValue(strings.TrimSpace(string(r[:c.most-1])) + "…"), nil
	}
	return v, nil
}

func (excerptCodec) encode(record.Value) (any, error) { return nil, invalid("is an excerpt") }

type numberCodec struct {
	precision, scale int  // 0 = unlimited
	comma            bool // decimals follow a comma, in a file
}

func (c numberCodec) decode(native any) (record.Value, error) {
	s, ok := scalar(native)
	if !ok {
		return record.Value{}, invalid("is %s, not a number", shapeOf(native))
	}
	if s == "" {
		return record.NullValue(), nil
	}
	if c.comma {
		if s, ok = pointed(s); !ok {
			return record.Value{}, invalid("is %s that is no number with a decimal comma", shapeOf(native))
		}
	}
	v, err := record.ParseNumber(s)
	if err != nil {
		return record.Value{}, invalid("is %s: %v", shapeOf(native), err)
	}
	return v, nil
}

func (c numberCodec) encode(v record.Value) (any, error) {
	if v.Kind() != record.Number {
		return nil, invalid("is no number")
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(v.Raw(), "-"), ".")
	if c.scale > 0 && len(fraction) > c.scale {
		return nil, invalid("has %d decimals, at most %d fit", len(fraction), c.scale)
	}
	if c.precision > 0 && len(whole) > c.precision-c.scale {
		return nil, invalid("has %d digits before the point, at most %d fit", len(whole), c.precision-c.scale)
	}
	if c.comma {
		return strings.Replace(v.Raw(), ".", ",", 1), nil
	}
	return json.Number(v.Raw()), nil
}

type boolCodec struct {
	yes, no string // the words that are written; "" = true and false of JSON
	invert  bool
}

func (c boolCodec) decode(native any) (record.Value, error) {
	var b bool
	word, _ := scalar(native)
	switch {
	case word != "" && word == c.yes:
		b = true
	case word != "" && word == c.no:
	case native == true || word == "T" || word == "true":
		b = true
	case native == false || word == "F" || word == "false":
	case native == "":
		return record.NullValue(), nil
	default:
		return record.Value{}, invalid("is %s, not true or false", shapeOf(native))
	}
	return record.BoolValue(b != c.invert), nil
}

func (c boolCodec) encode(v record.Value) (any, error) {
	if v.Kind() != record.Bool {
		return nil, invalid("is not true or false")
	}
	b := (v.Raw() == "true") != c.invert
	switch {
	case c.yes == "":
		return b, nil
	case b:
		return c.yes, nil
	}
	return c.no, nil
}

type enumCodec struct {
	in      map[string]record.Value // native → canonical
	out     map[string]string       // canonical → native
	byLabel bool                    // what people read decides, not the id of the value
}

func (c enumCodec) decode(native any) (record.Value, error) {
	keys := [...]string{"id", "refName"}
	if c.byLabel {
		keys = [...]string{"refName", "id"}
	}
	s, ok := label(native, keys[:]...)
	switch {
	case !ok:
		return record.Value{}, &unusable{UnknownPicklist, fmt.Sprintf("is %s, not a picklist value", shapeOf(native))}
	case s == "":
		return record.NullValue(), nil
	}
	if v, known := c.in[s]; known {
		return v, nil
	}
	return record.Value{}, &unusable{UnknownPicklist, fmt.Sprintf("picklist value %q is not in the mapping", shorten(s))}
}

func (c enumCodec) encode(v record.Value) (any, error) {
	if n, ok := c.out[v.Raw()]; ok && v.Kind() == record.Text {
		return n, nil
	}
	return nil, &unusable{UnknownPicklist, fmt.Sprintf("value %q has no native counterpart in the mapping", shorten(v.Raw()))}
}

// moment reads the date and time forms that vendors use; zone is for those without an offset.
func moment(s string, zone *time.Location) (time.Time, error) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999-0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			if y := t.UTC().Year(); y < 1 || y > 9999 {
				break
			}
			return t, nil
		}
	}
	return time.Time{}, invalid("is a text of %d characters, not a date or time", utf8.RuneCountInString(s))
}

type dateCodec struct {
	zone   *time.Location
	layout string // of a file
}

func (c dateCodec) decode(native any) (record.Value, error) {
	s, ok := native.(string)
	switch {
	case !ok:
		return record.Value{}, invalid("is %s, not a date", shapeOf(native))
	case s == "":
		return record.NullValue(), nil
	case c.layout != "":
		t, err := time.Parse(c.layout, s)
		if err != nil {
			return record.Value{}, invalid("is a text of %d characters, not a date of the declared form", utf8.RuneCountInString(s))
		}
		return record.TextValue(t.Format(time.DateOnly)), nil
	case len(s) == len(time.DateOnly):
		if _, err := time.Parse(time.DateOnly, s); err == nil {
			return record.TextValue(s), nil
		}
	}
	t, err := moment(s, c.zone)
	if err != nil {
		return record.Value{}, err
	}
	return record.TextValue(t.In(c.zone).Format(time.DateOnly)), nil
}

func (c dateCodec) encode(v record.Value) (any, error) {
	t, err := time.Parse(time.DateOnly, v.Raw())
	if err != nil || v.Kind() != record.Text {
		return nil, invalid("is no date")
	}
	if c.layout != "" {
		return t.Format(c.layout), nil
	}
	return v.Raw(), nil
}

type timeCodec struct {
	zone       *time.Location
	resolution time.Duration // 0 = nanoseconds
	local      bool          // write 2006-01-02 15:04:05 in zone
}

func (c timeCodec) decode(native any) (record.Value, error) {
	s, ok := native.(string)
	switch {
	case !ok:
		return record.Value{}, invalid("is %s, not a time", shapeOf(native))
	case s == "":
		return record.NullValue(), nil
	}
	t, err := moment(s, c.zone)
	if err != nil {
		return record.Value{}, err
	}
	return record.TimeValue(t.Truncate(max(c.resolution, 1))), nil
}

func (c timeCodec) encode(v record.Value) (any, error) {
	t, err := time.Parse(time.RFC3339Nano, v.Raw())
	if err != nil || v.Kind() != record.Text {
		return nil, invalid("is no time")
	}
	t = t.Truncate(max(c.resolution, 1))
	if c.local {
		return t.In(c.zone).Format("2006-01-02 15:04:05"), nil
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// listCodec is a native list of texts, or of objects with the text under each.
type listCodec struct{ each string }

func (c listCodec) decode(native any) (record.Value, error) {
	list, ok := native.([]any)
	if !ok {
		return record.Value{}, invalid("is %s, not a list", shapeOf(native))
	}
	items := make([]any, 0, len(list))
	for i, e := range list {
		if m, isMap := e.(map[string]any); isMap && c.each != "" {
			e = m[c.each]
		}
		if e == nil {
			continue
		}
		s, ok := label(e, "refName", "id")
		if !ok {
			return record.Value{}, invalid("item %d is %s, not a text", i+1, shapeOf(e))
		}
		if s = strings.TrimSpace(s); s != "" {
			items = append(items, s)
		}
	}
	return record.FromAny(items)
}

func (c listCodec) encode(v record.Value) (any, error) {
	items, err := listOf(v)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(items))
	for i, s := range items {
		out[i] = s
		if c.each != "" {
			out[i] = map[string]any{c.each: s}
		}
	}
	return out, nil
}

func listOf(v record.Value) ([]string, error) {
	list, ok := v.Any().([]any)
	if !ok {
		return nil, invalid("is no list")
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, invalid("is no list of texts")
		}
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// joinCodec is a list in one native text: "A1, A2". Commas, backslashes and line breaks inside an item are escaped.
type joinCodec struct{}

func (joinCodec) decode(native any) (record.Value, error) {
	s, ok := scalar(native)
	if !ok {
		return record.Value{}, invalid("is %s, not a text", shapeOf(native))
	}
	items := []any{}
	for _, part := range split(s, ',') {
		if part = strings.TrimSpace(unescape(strings.TrimSpace(part))); part != "" {
			items = append(items, part)
		}
	}
	if len(items) == 0 {
		return record.NullValue(), nil
	}
	return record.FromAny(items)
}

func (joinCodec) encode(v record.Value) (any, error) {
	items, err := listOf(v)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	for i, s := range items {
		items[i] = escape(s, ',')
	}
	return strings.Join(items, ", "), nil
}

// column of a table.
type column struct {
	field    contract.Field
	path     path // in a native row
	decimals int  // at least so many digits after the point, in a text
	forms    forms
}

// cell reads one native cell; Null for an empty one.
func (c column) cell(native any) (record.Value, error) {
	var v record.Value
	var err error
	switch c.field.Type {
	case contract.Number, contract.Money:
		v, err = numberCodec{comma: c.forms.comma}.decode(native)
	case contract.Bool:
		v, err = boolCodec{}.decode(native)
	case contract.Date:
		v, err = dateCodec{time.UTC, c.forms.dates}.decode(native)
	case contract.DateTime:
		v, err = timeCodec{zone: time.UTC}.decode(native)
	default:
		v, err = textCodec{trim: true, label: true}.decode(native)
	}
	if err != nil || v.IsNull() {
		return v, err
	}
	if detail, _ := c.field.Fault(v); detail != "" {
		return v, &unusable{ContractViolation, detail}
	}
	return v, nil
}

// canonical is the column as it stands in canonical values, whatever form a file has.
func (c column) canonical() column { c.forms = forms{}; return c }

// native is what a cell's canonical value is natively.
func (c column) native(v record.Value) (any, error) {
	switch c.field.Type {
	case contract.Number, contract.Money:
		return numberCodec{comma: c.forms.comma}.encode(v)
	case contract.Date:
		return dateCodec{time.UTC, c.forms.dates}.encode(v)
	}
	return v.Any(), nil
}

// tableCodec is a native list of objects.
type tableCodec struct{ columns []column }

func (c tableCodec) decode(native any) (record.Value, error) {
	list, ok := native.([]any)
	if !ok {
		return record.Value{}, invalid("is %s, not a list of rows", shapeOf(native))
	}
	rows := make([]any, 0, len(list))
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			return record.Value{}, invalid("row %d is %s, not an object", i+1, shapeOf(e))
		}
		row := make(map[string]any, len(c.columns))
		for _, col := range c.columns {
			n, found, ok := col.path.find(m)
			if !found || n == nil {
				continue
			}
			if !ok {
				return record.Value{}, invalid("row %d column %s is of another shape", i+1, col.field.Name)
			}
			if err := fill(row, i, col, n); err != nil {
				return record.Value{}, err
			}
		}
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	return record.FromAny(rows)
}

// at is cell, and says in which row something is wrong.
func (c column) at(i int, native any) (record.Value, error) {
	v, err := c.cell(native)
	if err == nil {
		return v, nil
	}
	u, _ := err.(*unusable)
	if u == nil {
		u = &unusable{InvalidValue, err.Error()}
	}
	return v, &unusable{u.kind, fmt.Sprintf("row %d column %s %s", i+1, c.field.Name, u.detail)}
}

func fill(row map[string]any, i int, col column, native any) error {
	v, err := col.at(i, native)
	if err == nil && !v.IsNull() {
		row[col.field.Name] = v.Any()
	}
	return err
}

func (c tableCodec) encode(v record.Value) (any, error) {
	rows, err := rowsOf(v)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(rows))
	for i, row := range rows {
		m := map[string]any{}
		for _, col := range c.columns {
			a := row[col.field.Name]
			if a == nil {
				continue
			}
			v, err := col.canonical().at(i, a)
			if err != nil {
				return nil, err
			}
			if v.IsNull() {
				continue
			}
			if a, err = col.native(v); err != nil {
				return nil, err
			}
			col.path.put(m, a)
		}
		if len(m) > 0 {
			out = append(out, m)
		}
	}
	return out, nil
}

// deepest bounds the nesting of a structured value; it is more than record allows.
const deepest = 64

func rowsOf(v record.Value) ([]map[string]any, error) {
	if v.Kind() != record.Structure {
		return nil, invalid("is no table")
	}
	r := jsonread.New([]byte(v.Raw()), deepest)
	list, ok := r.Value().([]any)
	if !ok || r.End() != nil {
		return nil, invalid("is no table")
	}
	rows := make([]map[string]any, len(list))
	for i, e := range list {
		if rows[i], ok = e.(map[string]any); !ok {
			return nil, invalid("row %d is no object", i+1)
		}
	}
	return rows, nil
}

// tableTextCodec is a table as text that people can read, one row a line: "12 | Queso Cabrales | 14.00".
// Bars, backslashes and line breaks inside a cell are escaped, surrounding spaces are dropped, and so are
// rows without any cell.
type tableTextCodec struct{ columns []column }

func (c tableTextCodec) decode(native any) (record.Value, error) {
	s, ok := native.(string)
	if !ok {
		return record.Value{}, invalid("is %s, not a text", shapeOf(native))
	}
	rows := []any{}
	number := 0
	for line := range strings.SplitSeq(s, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		cells := split(line, '|')
		if len(cells) != len(c.columns) {
			return record.Value{}, invalid("row %d has %d cells, not %d", number+1, len(cells), len(c.columns))
		}
		row := make(map[string]any, len(cells))
		for i, raw := range cells {
			text := strings.TrimSpace(unescape(strings.TrimSpace(raw)))
			if text == "" {
				continue
			}
			if err := fill(row, number, c.columns[i], text); err != nil {
				return record.Value{}, err
			}
		}
		number++
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return record.NullValue(), nil
	}
	return record.FromAny(rows)
}

func (c tableTextCodec) encode(v record.Value) (any, error) {
	rows, err := rowsOf(v)
	if err != nil {
		return nil, err
	}
	var sb strings.Builder
	for i, row := range rows {
		line, some, err := c.line(i, row)
		if err != nil {
			return nil, err
		}
		if !some {
			continue
		}
		if sb.Len() > 0 {
			sb.WriteByte('\n')
		}
		sb.WriteString(line)
	}
	if sb.Len() == 0 {
		return nil, nil
	}
	return sb.String(), nil
}

func (c tableTextCodec) line(i int, row map[string]any) (line string, some bool, err error) {
	var sb strings.Builder
	for j, col := range c.columns {
		if j > 0 {
			sb.WriteString(" | ")
		}
		a := row[col.field.Name]
		if a == nil {
			continue
		}
		v, err := col.canonical().cell(a)
		if err != nil {
			return "", false, invalid("row %d column %s: %v", i+1, col.field.Name, err)
		}
		if v.IsNull() {
			continue
		}
		some = true
		text := pad(v, col.decimals)
		if col.forms.comma && v.Kind() == record.Number {
			text = strings.Replace(text, ".", ",", 1)
		}
		if col.field.Type == contract.Date {
			native, err := col.native(v)
			if err != nil {
				return "", false, err
			}
			text, _ = native.(string)
		}
		sb.WriteString(escape(text, '|'))
	}
	return sb.String(), some, nil
}

// pad gives a number at least so many decimals: 14 reads 14.00.
func pad(v record.Value, decimals int) string {
	s := v.Raw()
	if v.Kind() != record.Number || decimals == 0 {
		return s
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) < decimals {
		fraction += strings.Repeat("0", decimals-len(fraction))
	}
	return whole + "." + fraction
}

// escape makes s safe between separators; unescape undoes it.
func escape(s string, separator byte) string {
	if !strings.ContainsAny(s, "\\\n\r"+string(separator)) {
		return s
	}
	var sb strings.Builder
	for i := range len(s) {
		switch b := s[i]; b {
		case '\n':
			sb.WriteString(`\n`)
		case '\r':
			sb.WriteString(`\r`)
		case '\\', separator:
			sb.WriteByte('\\')
			sb.WriteByte(b)
		default:
			sb.WriteByte(b)
		}
	}
	return sb.String()
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			sb.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			sb.WriteByte('\n')
		case 'r':
			sb.WriteByte('\r')
		default:
			sb.WriteByte(s[i])
		}
	}
	return sb.String()
}

// split cuts s at every separator that no backslash escapes.
func split(s string, separator byte) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

func shorten(s string) string {
	if len(s) > 120 {
		return strings.ToValidUTF8(s[:120], "") + "…"
	}
	return s
}

// raw is what was said, shortened, for a person who has to repair it.
func raw(native any) string {
	switch x := native.(type) {
	case string:
		return shorten(x)
	case bool:
		return strconv.FormatBool(x)
	}
	b, err := json.Marshal(native)
	if err != nil {
		return shapeOf(native)
	}
	return shorten(string(b))
}
