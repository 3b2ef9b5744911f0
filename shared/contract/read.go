package contract

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sorrel/shared/contract/source"
)

// Load reads one contract file, such as contract/order.v1.json. It returns nil when nothing useful was read.
func Load(file string, data []byte, ps *source.Problems) (*Contract, source.Node) {
	root, ok := source.Parse(file, data, ps)
	if !ok {
		return nil, root
	}
	base := file[strings.LastIndex(file, "/")+1:]
	entity, rest, _ := strings.Cut(strings.TrimSuffix(base, ".json"), ".v")
	version, err := strconv.Atoi(rest)
	if err != nil || version < 1 || !entityName(entity) {
		ps.Add(root, fmt.Sprintf("the file name %q does not say entity and version", base), "name it such as order.v1.json")
		return nil, root
	}
	if !root.Known(ps, "a contract", "$schema", "$id", "title", "description", "type", "properties", "required", "additionalProperties") {
		return nil, root
	}
	if t := root.String(ps, "type", true); t != "" && t != "object" {
		ps.Add(root.Get("type"), "a contract describes an object", `write "type": "object"`)
	}
	if t := root.String(ps, "title", true); t != "" && t != entity+".v"+rest {
		ps.Add(root.Get("title"), fmt.Sprintf("title %q does not match the file name", t), "write "+strconv.Quote(entity+".v"+rest))
	}
	properties := root.Get("properties")
	if properties.Kind != source.Map {
		ps.Add(root, "properties are missing", "list the fields under properties")
		return nil, root
	}
	fields := make(map[string]Field, len(properties.Entries))
	for _, e := range properties.Entries {
		if !fieldName(e.Key.Text) {
			ps.Add(e.Key, fmt.Sprintf("%q is not a field name", e.Key.Text), "use lower camel case, dots between parts")
			continue
		}
		fields[e.Key.Text] = property(e.Key.Text, e.Value, ps, true)
	}
	for _, r := range root.Texts(ps, "required") {
		f, there := fields[r.Text]
		if !there {
			ps.Add(r, fmt.Sprintf("required field %q is not among the properties", r.Text), source.Suggest(r.Text, properties.Keys()))
			continue
		}
		f.Required = true
		fields[r.Text] = f
	}
	for _, e := range properties.Entries {
		f := fields[e.Key.Text]
		if f.Currency == "" {
			continue
		}
		if c, there := fields[f.Currency]; !there || c.Type != Text {
			ps.Add(e.Value.Get("x-sorrel"), fmt.Sprintf("currencyField %q is no text field of this contract", f.Currency), source.Suggest(f.Currency, properties.Keys()))
		}
	}
	return build(entity, version, fields), root
}

// entityName allows what record.ID allows: lower-case letters.
func entityName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

// fieldName allows dotted lower camel case, at most 80 bytes.
func fieldName(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		for i, c := range []byte(part) {
			lower, other := c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			if !lower && (i == 0 || !other) {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return len(s) <= 80
}

// property reads one property. Problems are reported where they stand; the Field is as good as can be read.
func property(name string, n source.Node, ps *source.Problems, top bool) Field {
	f := Field{Name: name, Type: Text}
	if !n.Known(ps, "field "+name, "type", "title", "description", "enum", "maxLength", "format", "items", "x-sorrel") {
		return f
	}
	f.Title = n.String(ps, "title", false)
	f.MaxLength = n.Int(ps, "maxLength")
	kind := ""
	switch t := n.Get("type"); t.Kind {
	case source.Text:
		kind = t.Text
	case source.List:
		for _, i := range t.Items {
			if i.Text == "null" || i.Kind == source.Null {
				f.Nullable = true
			} else if kind == "" {
				kind = i.Text
			} else {
				ps.Add(i, "field "+name+" has two types", "keep one, and null if it may be cleared")
			}
		}
	default:
		ps.Add(n, "field "+name+" has no type", `add "type"`)
		return f
	}
	extra := n.Get("x-sorrel")
	special := ""
	if extra.Kind != source.None && extra.Known(ps, "x-sorrel", "type", "to", "currencyField") {
		special = extra.String(ps, "type", true)
		f.To, f.Currency = extra.String(ps, "to", false), extra.String(ps, "currencyField", false)
	}
	before := ps.Len()
	if f.Type = typeOf(kind, special, n, ps); ps.Len() > before {
		return f
	}
	switch {
	case f.Type == Reference && !entityName(f.To):
		ps.Add(n, "reference "+name+" does not say where it points to", `add "to": "customer" or another entity to x-sorrel`)
	case f.Type != Reference && f.To != "":
		ps.Add(extra.Get("to"), "only a reference has to", "remove it")
	case f.Type == Text && f.MaxLength == 0:
		ps.Add(n, "text field "+name+" has no maxLength", "say how many characters it may have")
	case f.Type != Text && f.MaxLength != 0:
		ps.Add(n.Get("maxLength"), "maxLength has no meaning for a "+string(f.Type), "remove it")
	}
	if f.Type == Enum {
		for _, v := range n.Get("enum").Items {
			switch {
			case v.Kind == source.Null:
				f.Nullable = true
			case v.Kind != source.Text || v.Text == "" || slices.Contains(f.Values, v.Text):
				ps.Add(v, "a value of "+name+" is empty, no text, or stands twice", "list each value once, in quotes")
			default:
				f.Values = append(f.Values, v.Text)
			}
		}
		if len(f.Values) == 0 {
			ps.Add(n.Get("enum"), "field "+name+" allows no value", "list its values")
		}
	}
	items := n.Get("items")
	switch {
	case !top && (f.Type == List || f.Type == Table || f.Type == Reference):
		ps.Add(n, "a column cannot be a "+string(f.Type), "flatten it")
	case f.Type == List:
		if items.Known(ps, "items of "+name, "type", "maxLength") {
			f.MaxLength = items.Int(ps, "maxLength")
			if items.Get("type").Text != "string" {
				ps.Add(items, "a list holds texts", `write "type": "string"`)
			}
		}
	case f.Type == Table:
		if items.Known(ps, "items of "+name, "type", "properties", "additionalProperties") {
			for _, e := range items.Get("properties").Entries {
				f.Columns = append(f.Columns, property(e.Key.Text, e.Value, ps, false))
			}
			slices.SortFunc(f.Columns, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
			if len(f.Columns) == 0 {
				ps.Add(items, "table "+name+" has no columns", "list them under properties")
			}
		}
	case items.Kind != source.None:
		ps.Add(items, "items have no meaning for a "+string(f.Type), `say "x-sorrel": {"type": "list"} or "table"`)
	}
	return f
}

// typeOf combines JSON Schema's type with what x-sorrel says.
func typeOf(kind, special string, n source.Node, ps *source.Problems) Type {
	format := n.Get("format")
	switch {
	case special != "" && !slices.Contains([]string{"money", "date", "datetime", "reference", "list", "table"}, special):
		ps.Add(n.Get("x-sorrel").Get("type"), fmt.Sprintf("unknown type %q", special), source.Suggest(special, []string{"money", "date", "datetime", "reference", "list", "table"}))
	case kind == "number" && special == "money":
		return Money
	case kind == "number" && special == "":
		return Number
	case kind == "boolean" && special == "":
		return Bool
	case kind == "array" && special == "list":
		return List
	case kind == "array" && special == "table":
		return Table
	case kind == "string" && special == "reference":
		return Reference
	case kind == "string" && n.Has("enum") && special == "":
		return Enum
	case kind == "string" && format.Text == "date" && (special == "" || special == "date"):
		return Date
	case kind == "string" && format.Text == "date-time" && (special == "" || special == "datetime"):
		return DateTime
	case format.Kind != source.None:
		ps.Add(format, fmt.Sprintf("unknown format %q", format.Text), source.Suggest(format.Text, []string{"date", "date-time"}))
	case kind == "string" && special == "":
		return Text
	default:
		ps.Add(n, fmt.Sprintf("type %q and x-sorrel type %q do not go together", kind, special), "number: money; array: list or table; string: reference, or format date or date-time")
	}
	return Text
}

// Custom reads the custom: block of a policy file: fields that a user adds in YAML alone.
func Custom(block source.Node, to *Contract, ps *source.Problems) []Field {
	types := []string{"text", "number", "money", "bool", "date", "datetime", "enum"}
	var out []Field
	for _, e := range block.Entries {
		name, n := e.Key.Text, e.Value
		if !fieldName(name) {
			ps.Add(e.Key, fmt.Sprintf("%q is not a field name", name), "use lower camel case, dots between parts")
			continue
		}
		if _, there := to.Field(name); there {
			ps.Add(e.Key, fmt.Sprintf("%s has a field %q already", to.Name(), name), "choose another name")
			continue
		}
		if !n.Known(ps, "custom field "+name, "type", "title", "maxLength", "values", "currency") {
			continue
		}
		f := Field{Name: name, Title: n.String(ps, "title", false), Nullable: true, Custom: true, MaxLength: n.Int(ps, "maxLength"), Currency: n.String(ps, "currency", false)}
		t := n.String(ps, "type", true)
		switch {
		case t == "":
			continue
		case !slices.Contains(types, t):
			ps.Add(n.Get("type"), fmt.Sprintf("unknown type %q", t), source.Suggest(t, types))
			continue
		}
		f.Type = Type(t)
		for _, v := range n.Texts(ps, "values") {
			f.Values = append(f.Values, v.Text)
		}
		switch {
		case f.Type == Enum && len(f.Values) == 0:
			ps.Add(n, "enum "+name+" has no values", "list them under values:")
		case f.Type != Enum && n.Has("values"):
			ps.Add(n.Get("values"), "values have no meaning for a "+t, "use type: enum")
		case f.Type == Text && f.MaxLength == 0:
			ps.Add(n, "text field "+name+" has no maxLength", "say how many characters it may have")
		case f.Type != Text && n.Has("maxLength"):
			ps.Add(n.Get("maxLength"), "maxLength has no meaning for a "+t, "remove it")
		case f.Currency != "" && f.Type != Money:
			ps.Add(n.Get("currency"), "only money has a currency", "use type: money")
		}
		if f.Currency != "" {
			if c, there := to.Field(f.Currency); !there || c.Type != Text {
				ps.Add(n.Get("currency"), fmt.Sprintf("currency %q is no text field of %s", f.Currency, to.Name()), source.Suggest(f.Currency, to.Names()))
			}
		}
		out = append(out, f)
	}
	return out
}
