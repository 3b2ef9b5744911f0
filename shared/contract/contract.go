// Package contract holds the versioned shape of each entity: which canonical fields it has, what may stand in
// them, and whether a new version would break those who rely on the old one.
//
// A contract is a flat JSON Schema (2020-12): one property per field, dotted names such as
// "shippingAddress.city", and the extra keyword x-sorrel for what JSON Schema cannot say. Only the keywords
// listed in this file are read; any other is refused, so that nothing stands there without effect.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Type of a canonical field.
type Type string

const (
	Text      Type = "text"      // Value Text, at most MaxLength characters
	Number    Type = "number"    // Value Number
	Money     Type = "money"     // Value Number, in the currency that field Currency holds
	Bool      Type = "bool"      // Value Bool
	Date      Type = "date"      // Value Text 2006-01-02
	DateTime  Type = "datetime"  // Value Text RFC 3339 UTC
	Enum      Type = "enum"      // Value Text, one of Values
	Reference Type = "reference" // Value Text, the id of a record of entity To
	List      Type = "list"      // Value Structure, an array of texts
	Table     Type = "table"     // Value Structure, an array of objects with Columns
)

// Field is one canonical field of the catalogue.
type Field struct {
	Name      string
	Title     string
	Type      Type
	Nullable  bool // may be cleared
	Required  bool // a whole record must have it
	MaxLength int  // characters, of a text or of one list item; 0 = unlimited
	Values    []string
	To        string
	Currency  string
	Columns   []Field // of a table, sorted by name
	Custom    bool    // declared in a policy file
}

// Column returns a table's column.
func (f Field) Column(name string) (Field, bool) {
	for _, c := range f.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Field{}, false
}

// Contract is one version of one entity's shape. It is immutable and safe for concurrent use.
type Contract struct {
	Entity  string
	Version int
	fields  map[string]Field
	schema  func() (*jsonschema.Schema, error) // compiled at first use: a cold start does not pay for it
}

// Name is such as order.v1.
func (c *Contract) Name() string { return fmt.Sprintf("%s.v%d", c.Entity, c.Version) }

// Field looks a field up.
func (c *Contract) Field(name string) (Field, bool) {
	f, ok := c.fields[name]
	return f, ok
}

// Fields lists all fields by name.
func (c *Contract) Fields() []Field {
	out := make([]Field, 0, len(c.fields))
	for _, n := range c.Names() {
		out = append(out, c.fields[n])
	}
	return out
}

// Names lists all field names, sorted.
func (c *Contract) Names() []string { return slices.Sorted(maps.Keys(c.fields)) }

// Check reports whether v may stand in field: nil, or a fault of class Contract that names the field, the
// shape of the value (never the value) and the remedy. It does not allocate for a good scalar.
func (c *Contract) Check(field string, v record.Value) error {
	f, ok := c.fields[field]
	if !ok {
		return c.violation(field, "is no field of "+c.Name(), "add it to the contract, or under custom: in the policy file")
	}
	if detail, remedy := f.Fault(v); detail != "" {
		return c.violation(field, detail, remedy)
	}
	return nil
}

func (c *Contract) violation(field, detail, remedy string) error {
	return &fault.Error{Class: fault.Contract, Op: "contract.check", ID: c.Name(), Fields: []string{field}, Detail: field + " " + detail, Remedy: remedy}
}

// Fault says what is wrong with v, by its shape and never by its value, and what would be right; "" when v may stand in f.
func (f *Field) Fault(v record.Value) (detail, remedy string) {
	switch v.Kind() {
	case record.Absent:
		return "", ""
	case record.Null:
		if f.Nullable {
			return "", ""
		}
		return "is null", "give a value: this field cannot be cleared"
	}
	want := record.Text
	switch f.Type {
	case Number, Money:
		want = record.Number
	case Bool:
		want = record.Bool
	case List, Table:
		want = record.Structure
	}
	if v.Kind() != want {
		return "is " + shape(v) + ", not " + string(f.Type), "send a " + string(f.Type)
	}
	s := v.Raw()
	switch f.Type {
	case Text:
		if f.MaxLength > 0 && len(s) > f.MaxLength && utf8.RuneCountInString(s) > f.MaxLength {
			return fmt.Sprintf("is %s, at most %d fit", shape(v), f.MaxLength), "shorten it at its source"
		}
	case Enum:
		if !slices.Contains(f.Values, s) {
			return "is " + shape(v) + " that is none of its values", fmt.Sprintf("use one of %v", f.Values)
		}
	case Date:
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			return "is " + shape(v) + ", not a date", "write it as 2006-01-02"
		}
	case DateTime:
		if t, err := time.Parse(time.RFC3339Nano, s); err != nil || t.Location() != time.UTC {
			return "is " + shape(v) + ", not a time in UTC", "write it as 2006-01-02T15:04:05Z"
		}
	case Reference:
		if id := record.ID(s); id.Validate() != nil || id.Entity() != f.To {
			return "is " + shape(v) + ", not the id of a " + f.To, "write it as " + f.To + "/…"
		}
	case List:
		return f.checkList(v)
	case Table:
		return f.checkTable(v)
	}
	return "", ""
}

func (f *Field) checkList(v record.Value) (detail, remedy string) {
	items, ok := v.Any().([]any)
	if !ok {
		return "is an object, not a list", "send an array"
	}
	item := Field{Type: Text, MaxLength: f.MaxLength}
	for i, a := range items {
		value, err := record.FromAny(a)
		if err != nil || value.Raw() == "" {
			return fmt.Sprintf("item %d is empty", i+1), "leave empty items out"
		}
		if d, r := item.Fault(value); d != "" {
			return fmt.Sprintf("item %d %s", i+1, d), r
		}
	}
	return "", ""
}

func (f *Field) checkTable(v record.Value) (detail, remedy string) {
	rows, ok := v.Any().([]any)
	if !ok {
		return "is an object, not a table", "send an array of objects"
	}
	for i, a := range rows {
		row, ok := a.(map[string]any)
		if !ok {
			return fmt.Sprintf("row %d is no object", i+1), "send an array of objects"
		}
		for _, name := range slices.Sorted(maps.Keys(row)) {
			column, ok := f.Column(name)
			if !ok {
				return fmt.Sprintf("row %d has the unknown column %q", i+1, shorten(name)), "remove it or add it to the contract"
			}
			value, err := record.FromAny(row[name])
			if err != nil {
				return fmt.Sprintf("row %d column %s is unreadable", i+1, name), "send a " + string(column.Type)
			}
			if d, r := column.Fault(value); d != "" {
				return fmt.Sprintf("row %d column %s %s", i+1, name, d), r
			}
		}
	}
	return "", ""
}

func shorten(s string) string {
	if utf8.RuneCountInString(s) > 40 {
		return string([]rune(s)[:40]) + "…"
	}
	return s
}

// shape describes a value without showing it.
func shape(v record.Value) string {
	switch v.Kind() {
	case record.Text:
		return fmt.Sprintf("a text of %d characters", utf8.RuneCountInString(v.Raw()))
	case record.Number:
		return fmt.Sprintf("a number of %d digits", len(v.Raw()))
	case record.Bool:
		return "a truth value"
	case record.Structure:
		return "a list or object"
	}
	return "null"
}

// CheckRecord reports everything wrong with a whole record: each field, and required fields that are missing.
// It validates against the JSON Schema itself and is meant for the edges, not for each event.
func (c *Contract) CheckRecord(fields map[string]record.Value) error {
	var errs []error
	doc := make(map[string]any, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := c.Check(name, fields[name]); err != nil {
			errs = append(errs, err)
		} else if !fields[name].IsAbsent() {
			doc[name] = fields[name].Any()
		}
	}
	for _, f := range c.Fields() {
		if _, there := doc[f.Name]; f.Required && !there && fields[f.Name].IsAbsent() {
			errs = append(errs, c.violation(f.Name, "is missing", "every "+c.Entity+" needs it"))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	s, err := c.schema()
	if err != nil {
		return fault.Wrap(fault.Internal, "contract.check", c.Name(), err)
	}
	if err := s.Validate(doc); err != nil {
		return fault.Wrap(fault.Contract, "contract.check", c.Name(), err)
	}
	return nil
}

// Compile compiles the JSON Schema now instead of at the first CheckRecord.
func (c *Contract) Compile() error {
	_, err := c.schema()
	return err
}

// Schema is the JSON Schema of c with its custom fields.
func (c *Contract) Schema() []byte {
	b, err := json.MarshalIndent(c.document(), "", "  ")
	if err != nil {
		return nil // the document holds only strings, numbers, lists and maps
	}
	return append(b, '\n')
}

func (c *Contract) document() map[string]any {
	properties, required := map[string]any{}, []any{}
	for _, f := range c.Fields() {
		properties[f.Name] = f.document()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	return map[string]any{
		"$schema":    "https://json-schema.org/draft/2020-12/schema",
		"title":      c.Name(),
		"type":       "object",
		"properties": properties, "required": required, "additionalProperties": false,
	}
}

func (f Field) document() map[string]any {
	d := map[string]any{}
	kind, extra := "string", map[string]any{}
	switch f.Type {
	case Text:
		if f.MaxLength > 0 {
			d["maxLength"] = f.MaxLength
		}
	case Number, Money:
		kind = "number"
	case Bool:
		kind = "boolean"
	case Date:
		d["format"] = "date"
	case DateTime:
		d["format"] = "date-time"
	case Enum:
		values := make([]any, 0, len(f.Values)+1)
		for _, v := range f.Values {
			values = append(values, v)
		}
		if f.Nullable {
			values = append(values, nil)
		}
		d["enum"] = values
	case List:
		kind = "array"
		item := map[string]any{"type": "string"}
		if f.MaxLength > 0 {
			item["maxLength"] = f.MaxLength
		}
		d["items"] = item
	case Table:
		kind = "array"
		columns := map[string]any{}
		for _, c := range f.Columns {
			columns[c.Name] = c.document()
		}
		d["items"] = map[string]any{"type": "object", "properties": columns, "additionalProperties": false}
	}
	switch f.Type {
	case Money, Reference, List, Table:
		extra["type"] = string(f.Type)
	}
	if f.To != "" {
		extra["to"] = f.To
	}
	if f.Currency != "" {
		extra["currencyField"] = f.Currency
	}
	if len(extra) > 0 {
		d["x-sorrel"] = extra
	}
	if f.Title != "" {
		d["title"] = f.Title
	}
	d["type"] = kind
	if f.Nullable {
		d["type"] = []any{kind, "null"}
	}
	return d
}

func build(entity string, version int, fields map[string]Field) *Contract {
	c := &Contract{Entity: entity, Version: version, fields: fields}
	c.schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema()))
		if err != nil {
			return nil, err
		}
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		url := "urn:sorrel:" + c.Name()
		if err := compiler.AddResource(url, doc); err != nil {
			return nil, err
		}
		return compiler.Compile(url)
	})
	return c
}

// With returns c with custom fields added. A name that c has already is kept as c has it.
func (c *Contract) With(custom []Field) *Contract {
	if len(custom) == 0 {
		return c
	}
	fields := maps.Clone(c.fields)
	for _, f := range custom {
		if _, there := fields[f.Name]; !there {
			f.Custom = true
			fields[f.Name] = f
		}
	}
	return build(c.Entity, c.Version, fields)
}

// Break is one incompatible difference between two versions of a contract.
type Break struct{ Field, What string }

func (b Break) String() string { return b.Field + ": " + b.What }

// Breaking lists what in next would break those who rely on old: a removed field, another type, fewer values,
// a shorter text, another reference, a value that may suddenly be null or must suddenly be there. Empty means compatible.
func Breaking(old, next *Contract) []Break {
	var out []Break
	for _, f := range old.Fields() {
		n, there := next.fields[f.Name]
		if !there {
			out = append(out, Break{f.Name, "removed"})
			continue
		}
		for _, what := range breaks(f, n) {
			out = append(out, Break{f.Name, what})
		}
	}
	for _, f := range next.Fields() {
		if _, was := old.fields[f.Name]; !was && f.Required {
			out = append(out, Break{f.Name, "new and required"})
		}
	}
	return out
}

func breaks(old, next Field) []string {
	var out []string
	note := func(broken bool, format string, args ...any) {
		if broken {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	note(old.Type != next.Type, "type changed from %s to %s", old.Type, next.Type)
	note(old.To != next.To, "refers to %s instead of %s", next.To, old.To)
	note(old.Currency != next.Currency, "currency field changed from %q to %q", old.Currency, next.Currency)
	note(next.MaxLength > 0 && (old.MaxLength == 0 || next.MaxLength < old.MaxLength), "maxLength narrowed from %d to %d", old.MaxLength, next.MaxLength)
	note(old.Nullable && !next.Nullable, "can no longer be null")
	note(!old.Nullable && next.Nullable, "can now be null")
	note(!old.Required && next.Required, "is now required")
	note(old.Required && !next.Required, "is no longer required")
	for _, v := range old.Values {
		note(!slices.Contains(next.Values, v) && next.Type == Enum, "value %q removed", v)
	}
	for _, c := range old.Columns {
		n, there := next.Column(c.Name)
		note(!there && next.Type == Table, "column %s removed", c.Name)
		if there {
			for _, what := range breaks(c, n) {
				out = append(out, "column "+c.Name+" "+what)
			}
		}
	}
	return out
}
