package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Kind of a Value.
type Kind uint8

const (
	Absent    Kind = iota // not said; never stored, never sent
	Null                  // cleared
	Text                  // a string, including dates (2006-01-02), times (RFC 3339 UTC) and references (entity/…)
	Number                // a decimal
	Bool                  // true or false
	Structure             // an array or object, as canonical JSON
)

// Value is one canonical field value. Two Values mean the same exactly when they are ==: numbers are stored
// without superfluous zeros, structures as JSON with sorted keys. The zero Value is Absent.
type Value struct {
	kind Kind
	text string
}

// Kind returns the kind of v.
func (v Value) Kind() Kind { return v.kind }

// IsAbsent reports whether nothing was said.
func (v Value) IsAbsent() bool { return v.kind == Absent }

// IsNull reports whether the field was cleared.
func (v Value) IsNull() bool { return v.kind == Null }

// Raw returns the canonical text: the string itself, the decimal's digits, true or false, or JSON.
func (v Value) Raw() string { return v.text }

// NullValue is a cleared field.
func NullValue() Value { return Value{kind: Null} }

// TextValue is a string.
func TextValue(s string) Value { return Value{Text, s} }

// BoolValue is a truth value.
func BoolValue(b bool) Value {
	if b {
		return Value{Bool, "true"}
	}
	return Value{Bool, "false"}
}

// TimeValue is an instant as RFC 3339 UTC text with the precision that t has, down to nanoseconds.
func TimeValue(t time.Time) Value { return Value{Text, t.UTC().Format(time.RFC3339Nano)} }

// NumberValue is a decimal, stored without superfluous zeros.
func NumberValue(d decimal.Decimal) Value {
	s := d.String()
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" || s == "" {
		s = "0"
	}
	return Value{Number, s}
}

// maxExponent bounds the digits that a number like 1e999999999 may expand to.
const maxExponent = 40

// ParseNumber reads a decimal of at most 40 digits' exponent.
func ParseNumber(s string) (Value, error) {
	if plain, ok := plainNumber(s); ok {
		return Value{Number, plain}, nil
	}
	if len(s) > 80 {
		return Value{}, fmt.Errorf("number of %d characters, at most 80", len(s))
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Value{}, fmt.Errorf("not a decimal number")
	}
	if d.Exponent() > maxExponent || d.Exponent() < -maxExponent {
		return Value{}, fmt.Errorf("number with exponent %d, at most ±%d", d.Exponent(), maxExponent)
	}
	return NumberValue(d), nil
}

// plainNumber is the short way for what nearly all numbers look like: digits, perhaps a point, no exponent.
func plainNumber(s string) (string, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(s) > 30 || digits[0] == '.' || digits[0] == '0' && len(digits) > 1 && digits[1] != '.' {
		return "", false
	}
	point := -1
	for i := range len(digits) {
		switch c := digits[i]; {
		case c >= '0' && c <= '9':
		case c == '.' && point < 0 && i+1 < len(digits):
			point = i
		default:
			return "", false
		}
	}
	if point >= 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		s = "0"
	}
	return s, true
}

// Decimal returns the number, or false when v is none.
func (v Value) Decimal() (decimal.Decimal, bool) {
	if v.kind != Number {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(v.text)
	return d, err == nil
}

// StructureValue canonicalises any JSON-encodable array or object.
func StructureValue(a any) (Value, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return Value{}, fmt.Errorf("structure: %w", err)
	}
	return ParseJSON(b)
}

// ParseJSON reads one JSON value: null, string, number, boolean, array or object.
func ParseJSON(b []byte) (Value, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var a any
	if err := dec.Decode(&a); err != nil {
		return Value{}, fmt.Errorf("value: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Value{}, fmt.Errorf("value: more than one JSON value")
	}
	return FromAny(a)
}

// FromAny turns a decoded JSON value (numbers as json.Number, or Go numbers) into a Value.
func FromAny(a any) (Value, error) {
	switch x := a.(type) {
	case nil:
		return NullValue(), nil
	case string:
		return TextValue(x), nil
	case bool:
		return BoolValue(x), nil
	case json.Number:
		return ParseNumber(x.String())
	case float64:
		return NumberValue(decimal.NewFromFloat(x)), nil
	case int:
		return NumberValue(decimal.NewFromInt(int64(x))), nil
	case int64:
		return NumberValue(decimal.NewFromInt(x)), nil
	case []any, map[string]any:
		var sb strings.Builder
		if err := canonical(&sb, x, 0); err != nil {
			return Value{}, err
		}
		return Value{Structure, sb.String()}, nil
	}
	return Value{}, fmt.Errorf("value of Go type %T", a)
}

const maxDepth = 32

func canonical(sb *strings.Builder, a any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("structure nested deeper than %d", maxDepth)
	}
	switch x := a.(type) {
	case []any:
		sb.WriteByte('[')
		for i, e := range x {
			if i > 0 {
				sb.WriteByte(',')
			}
			if err := canonical(sb, e, depth+1); err != nil {
				return err
			}
		}
		sb.WriteByte(']')
		return nil
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		sb.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				sb.WriteByte(',')
			}
			writeString(sb, k)
			sb.WriteByte(':')
			if err := canonical(sb, x[k], depth+1); err != nil {
				return err
			}
		}
		sb.WriteByte('}')
		return nil
	}
	v, err := FromAny(a)
	if err != nil {
		return err
	}
	v.write(sb)
	return nil
}

func writeString(sb *strings.Builder, s string) {
	if plainText(s) {
		sb.WriteByte('"')
		sb.WriteString(s)
		sb.WriteByte('"')
		return
	}
	b, _ := json.Marshal(s) // a string always marshals
	sb.Write(b)
}

// plainText reports whether JSON encoding leaves s as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func (v Value) write(sb *strings.Builder) {
	switch v.kind {
	case Text:
		writeString(sb, v.text)
	case Number, Bool, Structure:
		sb.WriteString(v.text)
	default:
		sb.WriteString("null")
	}
}

// Any returns v as JSON decoding would give it: nil, string, json.Number, bool, []any or map[string]any.
func (v Value) Any() any {
	switch v.kind {
	case Text:
		return v.text
	case Number:
		return json.Number(v.text)
	case Bool:
		return v.text == "true"
	case Structure:
		dec := json.NewDecoder(strings.NewReader(v.text))
		dec.UseNumber()
		var a any
		if dec.Decode(&a) == nil {
			return a
		}
	}
	return nil
}

// String is for people.
func (v Value) String() string {
	switch v.kind {
	case Absent:
		return "(absent)"
	case Null:
		return "(null)"
	}
	return v.text
}

// MarshalJSON writes the natural JSON form. Absent has none and is an error: leave the field out instead.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.kind == Absent {
		return nil, fmt.Errorf("record: an absent value has no JSON form")
	}
	var sb strings.Builder
	v.write(&sb)
	return []byte(sb.String()), nil
}

// UnmarshalJSON reads the natural JSON form.
func (v *Value) UnmarshalJSON(b []byte) error {
	p, err := ParseJSON(b)
	if err != nil {
		return err
	}
	*v = p
	return nil
}

// Compare orders Values totally: by kind, then numerically for numbers, then bytewise.
func (v Value) Compare(w Value) int {
	if v.kind != w.kind {
		return int(v.kind) - int(w.kind)
	}
	if v.kind == Number {
		a, _ := v.Decimal()
		b, _ := w.Decimal()
		return a.Cmp(b)
	}
	return strings.Compare(v.text, w.text)
}
