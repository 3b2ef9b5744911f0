package jsonread_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/jsonread"
)

const order = `{"id":"e-1","type":"record.saved","record":{"id":"12","rev":3,"externalId":null,"fields":{"tranId":"SO-1","entity":{"id":"28","refName":"Rössle"},` +
	`"total":814.50,"rate":-1.5e+3,"shipped":false,"memo":"a \"b\"\n\u00e9\ud83d\ude00","item":{"items":[{"line":1,"quantity":15},{"line":2}]},"none":[],"empty":{}}}}`

const depth = 64

func seeds() []string {
	return []string{order, ` null `, `true`, `false`, `0`, `-0`, `01`, `-`, `1.`, `.5`, `1e`, `1e+`, `1E-2`, `1.0e5x`, `"a`, `"\`, `"\u12`, `"\ud800"`, `"\ud800\u0041"`,
		`"\udc00\ud800"`, `"\ud83d\ude00"`, `"\uD83D\uDE00x"`, `"\ud83d\u"`, `"\ud83d\ud83d\ude00"`, `"\uFFFD"`, `"\x"`, `"\/\b\f\n\r\t\\\""`, "\"\x00\"", "\"a\x1f\\n\"", "\"\\n\x1f\"", "\"\x7f\"", "\"\xff\xc3(\xed\xa0\x80\"", "\"\xf0\x9f\x98\"",
		"\"\xe2\x80\xa8\"", `[`, `]`, `[]`, `[1,]`, `[,1]`, `[1 2]`, `[1,2`, `{`, `{}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1,"a":{"b":2}}`, `{"":""}`, `{"\u0061":1,"a":2}`,
		`1 2`, `{} x`, `tru`, `truex`, `nul`, `nullnull`, ``, ` `, "\ufeff1", "\v1", "\u00a01", `"a"b`, `[[[[]]]]`, strings.Repeat("[", depth) + strings.Repeat("]", depth), strings.Repeat("[", depth+1) + strings.Repeat("]", depth+1),
		strings.Repeat(`{"a":`, 100), `[true,false,null,"",0]`, `[nulL]`, `[fals]`}
}

// slow is what the package promises to equal.
func slow(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

func nesting(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			deepest = max(deepest, nesting(m))
		}
		return deepest + 1
	case []any:
		for _, m := range v {
			deepest = max(deepest, nesting(m))
		}
		return deepest + 1
	}
	return 0
}

func compare(t *testing.T, text []byte) {
	t.Helper()
	was := bytes.Clone(text)
	r := jsonread.New(text, depth)
	got := r.Value()
	err := r.End()
	r = jsonread.New(text, depth)
	raw := r.Raw()
	if rawErr := r.End(); (rawErr == nil) != (err == nil) || err == nil && raw != string(bytes.Trim(text, " \t\r\n")) {
		t.Errorf("%q: raw %q (%v), whereas a value gives %v", text, raw, rawErr, err)
	}
	if !bytes.Equal(text, was) {
		t.Fatal("the text was changed")
	}
	want, wantErr := slow(text)
	switch {
	case err != nil && strings.Contains(err.Error(), "nested deeper"):
		if open := bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{")); open <= depth {
			t.Errorf("%q: %v", text, err)
		}
	case (err == nil) != (wantErr == nil):
		t.Errorf("%q: error %v, encoding/json says %v", text, err, wantErr)
	case err == nil && (!reflect.DeepEqual(got, want) || nesting(want) > depth):
		t.Errorf("%q:\n got %#v\nwant %#v", text, got, want)
	}
}

func TestSameAsEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, s := range seeds() {
		compare(t, []byte(s))
	}
	for i := range order { // cut anywhere, and broken anywhere
		compare(t, []byte(order[:i]))
		for _, c := range []byte{0, '"', '\\', '{', ']', ',', '0', 'e', 'u', 0xff} {
			b := []byte(order)
			b[i] = c
			compare(t, b)
		}
	}
}

func FuzzSameAsEncodingJSON(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}

func TestDepth(t *testing.T) {
	t.Parallel()
	for n, text := range map[int]string{0: `1`, 1: `[1,[]`, 3: `[[[1],[2]],{"a":[3]}]`} {
		r := jsonread.New([]byte(text), n)
		r.Value()
		if err := r.End(); (n == 1) != (err != nil) {
			t.Errorf("%s at most %d deep: %v", text, n, err)
		}
	}
	// Depth is told before anything that is broken further on.
	r := jsonread.New([]byte(strings.Repeat(`{"a":`, 100_000)), depth)
	r.Value()
	if err := r.End(); err == nil || !strings.Contains(err.Error(), "nested deeper than 64") {
		t.Errorf("got %v", err)
	}
}

type thing struct {
	Name  string
	On    bool
	Count int64
	At    time.Time
	More  map[string]any
	Inner *thing
}

func readThing(r *jsonread.Reader) *thing {
	var t thing
	if !r.Object(func(name string) {
		switch name {
		case "name":
			t.Name = r.Text()
		case "on":
			t.On = r.Bool()
		case "count":
			t.Count = r.Int()
		case "at":
			t.At = r.Time()
		case "more":
			t.More = r.Map()
		case "inner":
			t.Inner = readThing(r)
		default:
			r.Fail(errors.New("unknown member"))
		}
	}) {
		return nil
	}
	return &t
}

func TestMembers(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 2, 8, 0, 0, 5e8, time.UTC)
	want := &thing{"é", true, -12, at, map[string]any{"a": json.Number("1")}, &thing{}}
	r := jsonread.New([]byte(` {"name":"\u00e9","on":true,"count":-12,"at":"2026-11-02T08:00:00.5Z","more":{"a":1},"inner":{"name":null,"on":null,"count":null,"at":null,"more":null,"inner":null}} `), depth)
	got := readThing(r)
	if err := r.End(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
	for _, bad := range []string{`{"name":1}`, `{"on":"true"}`, `{"on":0}`, `{"count":1.0}`, `{"count":"1"}`, `{"count":1e2}`, `{"count":9223372036854775808}`, `{"at":"2026-11-02"}`, `{"at":1}`,
		`{"more":[]}`, `{"more":1}`, `{"inner":[]}`, `{"inner":"x"}`, `{"NAME":"x"}`, `[]`, `1`, `{"name":"a"}{}`, `{"name":"a"`, `{"name":"a",}`, `{"name":}`} {
		r := jsonread.New([]byte(bad), depth)
		readThing(r)
		if r.End() == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"name":"x","on":false,"count":1,"at":"2026-11-02T08:00:00Z","more":{},"inner":{}}`))
	f.Add([]byte(`{"at":"2026-02-30T00:00:00+24:00","count":-0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := jsonread.New(text, depth)
		got := readThing(r)
		if r.End() != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		dec.DisallowUnknownFields()
		var want *thing
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q is taken as %+v, encoding/json says %v", text, got, err)
		}
		// A member given twice is merged by encoding/json and replaced here; everything else is equal.
		if again, err := json.Marshal(want); err != nil || strings.Count(string(text), `"inner"`) <= 1 && strings.Count(string(text), `"more"`) <= 1 &&
			!strings.Contains(string(text), `null`) && !strings.Contains(string(text), `\u`) && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %s (%v)", text, got, again, err)
		}
	})
}

func BenchmarkValue(b *testing.B) {
	text := []byte(order)
	b.Run("jsonread", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := jsonread.New(text, depth)
			if r.Value(); r.End() != nil {
				b.Fatal(r.End())
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := slow(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
