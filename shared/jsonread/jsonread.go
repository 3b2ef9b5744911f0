// Package jsonread reads JSON text into what encoding/json's Decoder with UseNumber would give, at about a third of
// the cost: nil, bool, string, json.Number, []any and map[string]any, and the scalars of known members.
//
// It takes what encoding/json takes and refuses what it refuses, with three differences, all stricter: names of
// members match exactly, nesting is bounded by the caller, and text after the value is an error. A fuzz test holds it to that.
//
// Results do not refer to the text, except names of members, Raw and Part: a map's keys keep a copy of the whole text in memory.
// They suit a record that is translated and dropped, not one that is kept.
package jsonread

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Reader reads one JSON text from front to back. Each method reads the next value; after the first error every method
// returns a zero value and reads nothing, so that only End has to be asked. Not safe for concurrent use.
type Reader struct {
	text     string
	at       int
	depth    int // of open arrays and objects
	maxDepth int
	err      error
	members  []member // of open objects, innermost last
	items    []any    // of open arrays, innermost last
}

type member struct {
	name  string
	value any
}

// New returns a reader of text whose arrays and objects nest at most maxDepth deep.
func New(text []byte, maxDepth int) *Reader {
	return &Reader{text: string(text), maxDepth: maxDepth, members: make([]member, 0, 32)}
}

// End returns the first error. Text that is left over is one.
func (r *Reader) End() error {
	if r.space(); r.at < len(r.text) {
		r.fail("more than one JSON value")
	}
	return r.err
}

// Fail makes the text wrong for a reason of the caller's, unless it is wrong already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.at = len(r.text)
	}
}

func (r *Reader) fail(want string) {
	r.Fail(fmt.Errorf("%s at byte %d", want, r.at))
}

// Value reads anything.
func (r *Reader) Value() any {
	switch r.peek() {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		return r.string()
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
		return false
	case 'n':
		r.literal("null")
		return nil
	}
	return json.Number(strings.Clone(r.number()))
}

// Object reads an object and calls each for every member, which must read the member's value. It reports whether
// there was an object; null is none, anything else an error.
func (r *Reader) Object(each func(name string)) bool {
	if r.Null() || !r.open('{', "object") {
		return false
	}
	for first := true; r.more('}', first); first = false {
		each(r.name())
	}
	return r.err == nil
}

// Array reads an array and calls each for every item, which must read it. It reports whether there was an array; null is
// none, anything else an error.
func (r *Reader) Array(each func()) bool {
	if r.Null() || !r.open('[', "array") {
		return false
	}
	for first := true; r.more(']', first); first = false {
		each()
	}
	return r.err == nil
}

// Raw reads anything, and returns it as it stands in the text: a part of that, which keeps the whole of it in memory.
func (r *Reader) Raw() string {
	r.space()
	from := r.at
	switch r.peek() {
	case '{':
		r.Object(func(string) { r.Raw() })
	case '[':
		r.Array(func() { r.Raw() })
	case '"':
		r.quoted()
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	case 'n':
		r.literal("null")
	default:
		r.number()
	}
	if r.err != nil {
		return ""
	}
	return r.text[from:r.at]
}

// Part is Text, but may refer to the text, as Raw does: for what is looked at and dropped.
func (r *Reader) Part() string {
	switch r.peek() {
	case '"':
		return r.quoted()
	case 'n':
		r.literal("null")
	default:
		r.fail("want a string")
	}
	return ""
}

// Map reads an object; null gives nil.
func (r *Reader) Map() map[string]any {
	if r.Null() {
		return nil
	}
	return r.object()
}

// Text reads a string; null gives "".
func (r *Reader) Text() string {
	if r.Null() {
		return ""
	}
	return r.string()
}

// Bool reads true or false; null gives false.
func (r *Reader) Bool() bool {
	switch r.peek() {
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
	default:
		if !r.Null() {
			r.fail("want true or false")
		}
	}
	return false
}

// Int reads a whole number; null gives 0.
func (r *Reader) Int() int64 {
	if r.Null() {
		return 0
	}
	n, err := strconv.ParseInt(r.number(), 10, 64)
	if err != nil {
		r.fail("want a whole number before")
	}
	return n
}

// Time reads an RFC 3339 time as time.Time does; null gives the zero time.
func (r *Reader) Time() time.Time {
	if r.Null() {
		return time.Time{}
	}
	var t time.Time
	s := r.string()
	if r.err == nil && t.UnmarshalText([]byte(s)) != nil {
		r.fail("want an RFC 3339 time before")
	}
	return t
}

// peek is the first byte of the next value, 0 at the end.
func (r *Reader) peek() byte {
	r.space()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

func (r *Reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// Null reads null if that is the next value, and reports whether it was.
func (r *Reader) Null() bool { return r.peek() == 'n' && r.literal("null") }

func (r *Reader) literal(word string) bool {
	if !strings.HasPrefix(r.text[r.at:], word) {
		r.fail("want a JSON value")
		return false
	}
	r.at += len(word)
	return true
}

// open enters an array or object.
func (r *Reader) open(bracket byte, what string) bool {
	if r.peek() != bracket || r.err != nil {
		r.fail("want an " + what)
		return false
	}
	r.at++
	if r.depth++; r.depth > r.maxDepth {
		r.Fail(fmt.Errorf("JSON nested deeper than %d", r.maxDepth))
		return false
	}
	return true
}

// more goes to the next item, or over the closing bracket.
func (r *Reader) more(bracket byte, first bool) bool {
	switch c := r.peek(); {
	case r.err != nil:
		return false
	case c == bracket:
		r.at++
		r.depth--
		return false
	case first:
		return true
	case c == ',':
		r.at++
		return true
	}
	r.fail("want a comma or the end of the array or object")
	return false
}

func (r *Reader) name() string {
	if r.peek() != '"' {
		r.fail("want the name of a member")
		return ""
	}
	name := r.quoted()
	if r.peek() != ':' {
		r.fail("want a colon")
		return ""
	}
	r.at++
	return name
}

func (r *Reader) object() map[string]any {
	if !r.open('{', "object") {
		return nil
	}
	from := len(r.members)
	for first := true; r.more('}', first); first = false {
		name := r.name()
		r.members = append(r.members, member{name, r.Value()})
	}
	if r.err != nil {
		return nil
	}
	out := make(map[string]any, len(r.members)-from)
	for _, m := range r.members[from:] {
		out[m.name] = m.value
	}
	r.members = r.members[:from]
	return out
}

func (r *Reader) array() []any {
	if !r.open('[', "array") {
		return nil
	}
	from := len(r.items)
	for first := true; r.more(']', first); first = false {
		v := r.Value()
		r.items = append(r.items, v)
	}
	if r.err != nil {
		return nil
	}
	out := make([]any, len(r.items)-from)
	copy(out, r.items[from:])
	r.items = r.items[:from]
	return out
}

// number reads a number as it stands in the text. https://www.rfc-editor.org/rfc/rfc8259#section-6
func (r *Reader) number() string {
	r.space()
	from := r.at
	r.skip('-')
	if !r.skip('0') && r.digits() == 0 {
		r.fail("want a JSON value")
		return ""
	}
	if r.skip('.') && r.digits() == 0 {
		r.fail("want a digit")
		return ""
	}
	if r.skip('e') || r.skip('E') {
		_ = r.skip('+') || r.skip('-')
		if r.digits() == 0 {
			r.fail("want a digit")
			return ""
		}
	}
	return r.text[from:r.at]
}

func (r *Reader) skip(c byte) bool {
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *Reader) digits() (n int) {
	for ; r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9'; r.at++ {
		n++
	}
	return n
}

// string reads a string that does not refer to the text.
func (r *Reader) string() string {
	if r.peek() != '"' {
		r.fail("want a string")
		return ""
	}
	return strings.Clone(r.quoted())
}

// quoted reads a string that begins here. Where nothing is escaped it is a part of the text.
func (r *Reader) quoted() string {
	from, ascii := r.at+1, true
	for i := from; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			if s := r.text[from:i]; ascii || utf8.ValidString(s) {
				r.at = i + 1
				return s
			}
			return r.unquote(from, i)
		case c == '\\':
			return r.unquote(from, i)
		case c < ' ':
			r.at = i
			r.fail("a control character in a string")
			return ""
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	r.fail("a string without an end")
	return ""
}

// unquote reads a string from its first byte on; it is known to be longer than to.
func (r *Reader) unquote(from, to int) string {
	b := make([]byte, 0, to-from+32)
	for r.at = from; r.at < len(r.text); {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return string(b)
		case c == '\\':
			var ok bool
			if b, ok = r.escape(b); !ok {
				r.fail("a broken escape in a string")
				return ""
			}
		case c < ' ':
			r.fail("a control character in a string")
			return ""
		case c < utf8.RuneSelf:
			b = append(b, c)
			r.at++
		default:
			c, size := utf8.DecodeRuneInString(r.text[r.at:]) // what is no UTF-8 becomes U+FFFD, byte by byte
			b = utf8.AppendRune(b, c)
			r.at += size
		}
	}
	r.fail("a string without an end")
	return ""
}

// escape reads one escape. A half of a surrogate pair becomes U+FFFD.
func (r *Reader) escape(b []byte) ([]byte, bool) {
	rest := r.text[r.at+1:]
	if rest == "" {
		return b, false
	}
	r.at += 2
	switch rest[0] {
	case '"', '\\', '/':
		return append(b, rest[0]), true
	case 'b':
		return append(b, '\b'), true
	case 'f':
		return append(b, '\f'), true
	case 'n':
		return append(b, '\n'), true
	case 'r':
		return append(b, '\r'), true
	case 't':
		return append(b, '\t'), true
	case 'u':
		c, ok := hex4(r.text[r.at:])
		if !ok {
			return b, false
		}
		r.at += 4
		if utf16.IsSurrogate(c) {
			low := rune(utf8.RuneError)
			if rest := r.text[r.at:]; strings.HasPrefix(rest, `\u`) {
				low, _ = hex4(rest[2:])
			}
			if c = utf16.DecodeRune(c, low); c != utf8.RuneError {
				r.at += 6
			}
		}
		return utf8.AppendRune(b, c), true
	}
	return b, false
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var c rune
	for i := range 4 {
		switch d := s[i]; {
		case d >= '0' && d <= '9':
			c = c<<4 | rune(d-'0')
		case d >= 'a' && d <= 'f':
			c = c<<4 | rune(d-'a'+10)
		case d >= 'A' && d <= 'F':
			c = c<<4 | rune(d-'A'+10)
		default:
			return 0, false
		}
	}
	return c, true
}
