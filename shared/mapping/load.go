package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

// loader compiles one file.
type loader struct {
	ps    *source.Problems
	m     *Mapping
	trim  bool
	taken []place
	forms forms
}

// place is a native path that is written, and the line that says so.
type place struct {
	path path
	at   source.Node
}

// Load compiles one mapping file, such as mapping/salesforce.order.yaml. contractOf finds an entity's contract
// with its custom fields. It returns nil when the file does not say what it maps.
func Load(file string, data []byte, contractOf func(entity string) *contract.Contract, entities []string, ps *source.Problems) (*Mapping, source.Node) {
	root, ok := source.Parse(file, data, ps)
	if !ok || !root.Known(ps, "a mapping", "platform", "object", "entity", "contract", "file", "text", "create", "fields", "unmapped") {
		return nil, root
	}
	m := &Mapping{
		Platform: root.String(ps, "platform", true), Object: root.String(ps, "object", true), Entity: root.String(ps, "entity", true),
		File: file, fields: map[string]*field{}, unmapped: map[string]bool{}, faulty: map[string]bool{},
	}
	if m.Platform == "" || m.Object == "" || m.Entity == "" {
		return nil, root
	}
	platforms := []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow, record.Files}
	if !slices.Contains(platforms, m.Platform) {
		ps.Add(root.Get("platform"), fmt.Sprintf("unknown platform %q", m.Platform), source.Suggest(m.Platform, platforms))
		return nil, root
	}
	if m.contract = contractOf(m.Entity); m.contract == nil {
		ps.Add(root.Get("entity"), fmt.Sprintf("unknown entity %q", m.Entity), source.Suggest(m.Entity, entities))
		return nil, root
	}
	if name := root.String(ps, "contract", true); name != "" && name != m.contract.Name() {
		ps.Add(root.Get("contract"), fmt.Sprintf("contract %q is not the one of %s", name, m.Entity), "write "+m.contract.Name())
	}
	l := &loader{ps: ps, m: m}
	switch t := root.String(ps, "text", false); t {
	case "", "text":
	case "trim":
		l.trim = true
	default:
		ps.Add(root.Get("text"), fmt.Sprintf("unknown text form %q", t), "write trim, or leave it out")
	}
	lists := l.file(root)
	l.fields(root)
	l.layOut(root, lists)
	l.constants(root.Get("create"))
	l.cover(root)
	for _, n := range slices.Sorted(maps.Keys(m.fields)) {
		if m.fields[n].in {
			m.in = append(m.in, m.fields[n])
		}
	}
	return m, root
}

func (l *loader) fields(root source.Node) {
	block := root.Get("fields")
	if block.Kind != source.Map {
		l.ps.Add(root, "the mapping has no fields", "list canonical field: native path under fields:")
		return
	}
	for _, e := range block.Entries {
		spec, known := l.m.contract.Field(e.Key.Text)
		if !known {
			l.ps.Add(e.Key, fmt.Sprintf("unknown field %q of %s", e.Key.Text, l.m.contract.Name()), source.Suggest(e.Key.Text, l.m.contract.Names()))
			continue
		}
		if f := l.field(spec, e); f != nil {
			l.m.fields[spec.Name] = f
		} else {
			l.m.faulty[spec.Name] = true
		}
	}
}

// field compiles one line: "name: Native__c" or "name: {path: Native__c, …}".
func (l *loader) field(spec contract.Field, e source.Entry) *field {
	f := &field{name: spec.Name, in: true, out: true, spec: spec}
	n := e.Value
	if n.Kind == source.Text {
		n = source.Node{File: n.File, Line: n.Line, Column: n.Column, Kind: source.Map, Entries: []source.Entry{{Key: source.Node{Kind: source.Text, Text: "path", File: n.File, Line: n.Line, Column: n.Column}, Value: n}}}
	}
	as, keys := l.form(spec, n)
	if as == "" || !n.Known(l.ps, "field "+spec.Name+" as "+as, append([]string{"path", "as", "direction", "required", "also", "lossy", "maxLength"}, keys...)...) {
		return nil
	}
	f.native = n.String(l.ps, "path", true)
	f.required, f.maxLength = n.Flag(l.ps, "required"), n.Int(l.ps, "maxLength")
	var ok bool
	if f.path, ok = l.path(f.native); !ok {
		if f.native != "" {
			l.ps.Add(n.Get("path"), fmt.Sprintf("%q is no native path", f.native), "write it as a.b or a.items[flag].b")
		}
		return nil
	}
	l.direction(f, n, as)
	before := l.ps.Len()
	lost := l.codec(f, n, as)
	if l.ps.Len() > before {
		return nil
	}
	f.lossy = n.Flag(l.ps, "lossy")
	switch {
	case f.out && lost != "" && !f.lossy:
		l.ps.Add(e.Key, fmt.Sprintf("%s loses information: %s", spec.Name, lost), "say lossy: true if that is meant")
	case f.lossy && (lost == "" || !f.out):
		l.ps.Add(n.Get("lossy"), spec.Name+" loses nothing", "remove lossy")
	}
	if f.out {
		l.claim(f.path, n.Get("path"))
		for _, a := range n.Texts(l.ps, "also") {
			p, ok := parsePath(a.Text)
			if !ok || !p.writable() {
				l.ps.Add(a, fmt.Sprintf("%q cannot be written", a.Text), "write it as a.b")
				continue
			}
			l.claim(p, a)
			f.also = append(f.also, p)
		}
	} else if n.Has("also") || f.required {
		l.ps.Add(e.Key, spec.Name+" is only read: also and required have no effect", "remove them, or the direction")
	}
	return f
}

// claim notes that p is written, and reports a path that another one runs through.
func (l *loader) claim(p path, at source.Node) {
	for _, other := range l.taken {
		if p.meets(other.path) {
			l.ps.Add(at, fmt.Sprintf("%s is written by line %d already", p, other.at.Line), "give one of them direction: in")
			return
		}
	}
	l.taken = append(l.taken, place{p, at})
	l.m.chooses = l.m.chooses || p.chooses()
}

func (l *loader) direction(f *field, n source.Node, as string) {
	switch d := n.String(l.ps, "direction", false); d {
	case "", "both":
		if f.out = l.m.Platform != record.Files; d != "" && !f.out {
			l.ps.Add(n.Get("direction"), "files are only read", "remove the direction")
		}
	case "in":
		f.out = false
	case "out":
		f.in = false
		if l.m.Platform == record.Files {
			l.ps.Add(n.Get("direction"), "files are only read", "remove the direction")
		}
	default:
		l.ps.Add(n.Get("direction"), fmt.Sprintf("unknown direction %q", d), source.Suggest(d, []string{"in", "out", "both"}))
	}
	if f.out && (!f.path.writable() || as == "label" || as == "excerpt") {
		why := "a path that chooses a list element"
		switch as {
		case "label":
			why = "a label"
		case "excerpt":
			why = "an excerpt"
		}
		l.ps.Add(n, fmt.Sprintf("%s is %s and can only be read", f.name, why), "add direction: in")
	}
}

// form picks the transform for a contract type, and the keys that it understands.
func (l *loader) form(spec contract.Field, n source.Node) (as string, keys []string) {
	forms := map[contract.Type][]string{ // the first one is the default
		contract.Text: {"text", "trim", "label", "excerpt"}, contract.Number: {"number"}, contract.Money: {"money"}, contract.Bool: {"bool"},
		contract.Date: {"date"}, contract.DateTime: {"datetime"}, contract.Enum: {"enum", "label"}, contract.Reference: {"reference"},
		contract.List: {"list", "join"}, contract.Table: {"table", "table-text"},
	}[spec.Type]
	as = forms[0]
	if as == "text" && l.trim {
		as = "trim"
	}
	if n.Has("as") {
		as = n.String(l.ps, "as", false)
		if !slices.Contains(forms, as) {
			l.ps.Add(n.Get("as"), fmt.Sprintf("a %s cannot be mapped as %q", spec.Type, as), source.Suggest(as, forms))
			return "", nil
		}
	}
	form := as
	if spec.Type == contract.Enum {
		form = "enum"
	}
	return as, map[string][]string{
		"number": {"precision", "scale"}, "money": {"precision", "scale"}, "bool": {"form", "invert"}, "date": {"zone"},
		"datetime": {"zone", "form", "resolution"}, "enum": {"values", "out", "hold"}, "reference": {"to", "by", "relation", "form"},
		"list": {"each"}, "table": {"columns"}, "table-text": {"columns"},
	}[form]
}

// codec sets f.codec or f.ref and says what a write would lose, "" for nothing.
func (l *loader) codec(f *field, n source.Node, as string) (lost string) {
	if f.maxLength > 0 && !slices.Contains([]string{"text", "trim", "excerpt", "join", "table-text"}, as) {
		l.ps.Add(n.Get("maxLength"), "maxLength has no meaning for "+as, "remove it")
	}
	if f.spec.Type == contract.Enum {
		return l.enum(f, n, as == "label")
	}
	switch as {
	case "text", "trim", "label":
		f.codec = textCodec{trim: as != "text", label: as == "label"}
	case "excerpt":
		if f.maxLength == 0 {
			l.ps.Add(n.Get("as"), f.name+" is an excerpt of no length", "add maxLength: 2000")
		}
		f.codec = excerptCodec{f.maxLength}
	case "number", "money":
		c := numberCodec{n.Int(l.ps, "precision"), n.Int(l.ps, "scale"), l.forms.comma}
		if c.precision > 0 && c.precision < c.scale {
			l.ps.Add(n.Get("precision"), "precision is smaller than scale", "precision counts all digits")
		}
		f.codec = c
	case "bool":
		f.codec = l.bool(n)
	case "date":
		f.codec = dateCodec{l.zone(n), l.forms.dates}
	case "datetime":
		return l.datetime(f, n)
	case "reference":
		l.reference(f, n)
	case "list":
		f.codec = listCodec{n.String(l.ps, "each", false)}
	case "join":
		f.codec = joinCodec{}
	case "table", "table-text":
		return l.table(f, n, as)
	}
	return ""
}

// bool reads the form of truth values: json, TF, or two words such as yes/no.
func (l *loader) bool(n source.Node) boolCodec {
	c := boolCodec{invert: n.Flag(l.ps, "invert")}
	switch s := n.String(l.ps, "form", false); s {
	case "", "json":
	case "TF":
		c.yes, c.no = "T", "F"
	default:
		if c.yes, c.no, _ = strings.Cut(s, "/"); c.yes == "" || c.no == "" || c.yes == c.no || strings.Contains(c.no, "/") {
			l.ps.Add(n.Get("form"), fmt.Sprintf("%q is no form of true and false", s), "write json, TF, or two words such as yes/no")
		}
	}
	return c
}

func (l *loader) oneOf(n source.Node, key string, words ...string) string {
	s := n.String(l.ps, key, false)
	if s != "" && !slices.Contains(words, s) {
		l.ps.Add(n.Get(key), fmt.Sprintf("unknown %s %q", key, s), source.Suggest(s, words))
	}
	return s
}

// zone reads UTC, a fixed offset such as +01:00, or a name such as Europe/Zurich.
func (l *loader) zone(n source.Node) *time.Location {
	s := n.String(l.ps, "zone", false)
	if s == "" {
		return time.UTC
	}
	if t, err := time.Parse("-07:00", s); err == nil {
		return t.Location()
	}
	z, err := time.LoadLocation(s)
	if err != nil || s == "Local" {
		l.ps.Add(n.Get("zone"), fmt.Sprintf("unknown zone %q", s), "write UTC, an offset such as +01:00, or a name such as Europe/Zurich")
		return time.UTC
	}
	return z
}

func (l *loader) datetime(f *field, n source.Node) string {
	c := timeCodec{zone: l.zone(n), local: l.oneOf(n, "form", "rfc3339", "local") == "local"}
	switch l.oneOf(n, "resolution", "second", "millisecond") {
	case "second":
		c.resolution = time.Second
	case "millisecond":
		c.resolution = time.Millisecond
	}
	if c.local {
		c.resolution = time.Second
	}
	f.codec = c
	if c.resolution > 0 {
		return "fractions of a " + map[time.Duration]string{time.Second: "second", time.Millisecond: "millisecond"}[c.resolution]
	}
	return ""
}

func (l *loader) reference(f *field, n source.Node) {
	r := &reference{object: n.String(l.ps, "to", true), wrap: l.oneOf(n, "form", "id", "object") == "object"}
	switch by := l.oneOf(n, "by", "native-id", "external-id"); {
	case by == "external-id":
		s := n.String(l.ps, "relation", true)
		p, ok := parsePath(s)
		if s != "" && (!ok || !p.writable()) {
			l.ps.Add(n.Get("relation"), fmt.Sprintf("%q cannot be written", s), "write it as Account.External_Id__c")
		} else if s != "" && f.out {
			r.relation = p
			l.claim(p, n.Get("relation"))
		}
	case n.Has("relation"):
		l.ps.Add(n.Get("relation"), "relation has no meaning without by: external-id", "add by: external-id or remove it")
	}
	f.ref = r
}

// enum reads values: a list of words that both sides use, or native: canonical. out: decides the way out where
// several native values mean one canonical value, or where a canonical value has no native one of its own.
// hold: lists canonical values that the platform cannot have.
func (l *loader) enum(f *field, n source.Node, byLabel bool) (lost string) {
	c := enumCodec{byLabel: byLabel, in: map[string]record.Value{}, out: map[string]string{}}
	known := func(v source.Node) bool {
		if slices.Contains(f.spec.Values, v.Text) {
			return true
		}
		l.ps.Add(v, fmt.Sprintf("%q is no value of %s", v.Text, f.name), source.Suggest(v.Text, f.spec.Values))
		return false
	}
	ways := map[string]int{}
	pair := func(native string, v source.Node) {
		if known(v) {
			c.in[native] = record.TextValue(v.Text)
			c.out[v.Text] = native
			ways[v.Text]++
		}
	}
	switch values := n.Get("values"); values.Kind {
	case source.Map:
		for _, e := range values.Entries {
			pair(e.Key.Text, e.Value)
		}
	case source.List:
		for _, v := range n.Texts(l.ps, "values") {
			pair(v.Text, v)
		}
	default:
		l.ps.Add(n, "enum "+f.name+" has no values", "list native: canonical under values:")
		return ""
	}
	natives := slices.Sorted(maps.Keys(c.in))
	for _, e := range n.Get("out").Entries {
		_, isNative := c.in[e.Value.Text]
		switch {
		case !known(e.Key):
		case !isNative && f.in:
			l.ps.Add(e.Value, fmt.Sprintf("%q is not among the native values", e.Value.Text), source.Suggest(e.Value.Text, natives))
		default:
			c.out[e.Key.Text] = e.Value.Text
			ways[e.Key.Text] = 1
		}
	}
	held := map[string]bool{}
	for _, v := range n.Texts(l.ps, "hold") {
		if known(v) {
			held[v.Text] = true
			if _, both := c.out[v.Text]; both {
				l.ps.Add(v, fmt.Sprintf("%q is held and mapped", v.Text), "keep one of them")
			}
		}
	}
	f.codec = c
	if !f.out {
		return ""
	}
	shared := map[string][]string{}
	for _, v := range f.spec.Values {
		native, some := c.out[v]
		switch {
		case !some && !held[v]:
			l.ps.Add(n.Get("values"), fmt.Sprintf("%s %q has no native value", f.name, v), "add it to values: or out:, or list it under hold:")
		case ways[v] > 1:
			l.ps.Add(n.Get("values"), fmt.Sprintf("several native values mean %q", v), "say under out: which one is written")
		}
		if some {
			shared[native] = append(shared[native], v)
		}
	}
	for _, native := range slices.Sorted(maps.Keys(shared)) {
		if vs := shared[native]; len(vs) > 1 {
			return fmt.Sprintf("%s all become %q", strings.Join(vs, ", "), native)
		}
	}
	return ""
}

// table reads columns: canonical column: native path for a table, and a list of columns in their order for a
// table-text, where {name: rate, decimals: 2} asks for digits after the point.
func (l *loader) table(f *field, n source.Node, as string) (lost string) {
	block := n.Get("columns")
	var columns []column
	var names []string
	for _, c := range f.spec.Columns {
		names = append(names, c.Name)
	}
	add := func(at source.Node, name, native string, decimals int) {
		spec, known := f.spec.Column(name)
		p, ok := l.path(native)
		switch {
		case !known:
			l.ps.Add(at, fmt.Sprintf("unknown column %q of %s", name, f.name), source.Suggest(name, names))
		case !ok || p.chooses():
			l.ps.Add(at, fmt.Sprintf("%q is no native path", native), "write it as a.b")
		case slices.ContainsFunc(columns, func(c column) bool { return c.field.Name == name }):
			l.ps.Add(at, fmt.Sprintf("column %q stands twice", name), "keep one of them")
		default:
			columns = append(columns, column{spec, p, decimals, l.forms})
		}
	}
	switch {
	case as == "table" && block.Kind == source.Map:
		for _, e := range block.Entries {
			add(e.Key, e.Key.Text, e.Value.Text, 0)
		}
		f.codec = tableCodec{columns}
	case as == "table-text" && block.Kind == source.List:
		for _, i := range block.Items {
			if i.Kind == source.Map {
				if i.Known(l.ps, "a column", "name", "decimals") {
					add(i, i.String(l.ps, "name", true), "x", i.Int(l.ps, "decimals"))
				}
				continue
			}
			add(i, i.Text, "x", 0)
		}
		f.codec = tableTextCodec{columns}
	case as == "table":
		l.ps.Add(n, "table "+f.name+" has no columns", "list column: native path under columns:")
	default:
		l.ps.Add(n, "table "+f.name+" has no columns", "list them as columns: [a, b]")
	}
	f.checked = true
	if block.Kind != source.None && len(block.Entries)+len(block.Items) == 0 {
		l.ps.Add(block, "table "+f.name+" has no columns", "list at least one")
	}
	var left []string
	for _, name := range names {
		if !slices.ContainsFunc(columns, func(c column) bool { return c.field.Name == name }) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return "it has no column " + strings.Join(left, ", ")
	}
	return ""
}

// constants reads create: native path: literal, written only when a native record is created.
func (l *loader) constants(block source.Node) {
	if block.Kind != source.None && block.Kind != source.Map {
		l.ps.Add(block, "create must be a block of native path: value", "write it as Status: Draft")
	}
	for _, e := range block.Entries {
		p, ok := parsePath(e.Key.Text)
		var value any
		switch e.Value.Kind {
		case source.Text:
			value = e.Value.Text
		case source.Number:
			v, err := record.ParseNumber(e.Value.Text)
			value, ok = v.Any(), ok && err == nil
		case source.Bool:
			value, _ = strconv.ParseBool(e.Value.Text)
		default:
			ok = false
		}
		if !ok || !p.writable() {
			l.ps.Add(e.Key, fmt.Sprintf("%q cannot be written as a constant", e.Key.Text), "write a plain path and one text, number or truth value")
			continue
		}
		l.claim(p, e.Key)
		l.m.create = append(l.m.create, constant{p, value})
	}
}

// cover reports canonical fields that the file forgets: each must be mapped or listed under unmapped.
func (l *loader) cover(root source.Node) {
	block := root.Get("fields")
	for _, u := range root.Texts(l.ps, "unmapped") {
		switch _, known := l.m.contract.Field(u.Text); {
		case !known:
			l.ps.Add(u, fmt.Sprintf("unknown field %q of %s", u.Text, l.m.contract.Name()), source.Suggest(u.Text, l.m.contract.Names()))
		case block.Has(u.Text):
			l.ps.Add(u, fmt.Sprintf("%q is mapped and unmapped", u.Text), "keep one of them")
		default:
			l.m.unmapped[u.Text] = true
		}
	}
	for _, name := range l.m.contract.Names() {
		if !block.Has(name) && !l.m.unmapped[name] {
			l.m.faulty[name] = true
			l.ps.Add(root.Key("fields"), fmt.Sprintf("field %q of %s is not mapped", name, l.m.contract.Name()), "add a line for it, or list it under unmapped:")
		}
	}
}
