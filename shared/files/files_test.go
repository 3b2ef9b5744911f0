package files_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/files"
)

func csv(l files.Layout) files.Layout {
	l.Format = files.CSV
	if l.Key == "" {
		l.Key = "id"
	}
	return l
}

// read tells rows as "line: fields" and broken ones as "line! why".
func read(t *testing.T, in io.Reader, l files.Layout) (out []string, err error) {
	t.Helper()
	r, err := files.NewRecords(in, l)
	for err == nil {
		var rec files.Record
		rec, err = r.Next()
		switch {
		case err != nil:
		case rec.Broken != nil:
			out = append(out, fmt.Sprintf("%d! %s", rec.Broken.Line, rec.Broken.Detail))
		default:
			b, err := json.Marshal(rec.Fields)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%d: %s %s", rec.Line, rec.Key, b))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", files.MaxRow)
	rows := []struct {
		name, in string
		layout   files.Layout
		want     []string
		refused  string
	}{
		{name: "plain", in: "id,name\n1,Ann\r\n\n2,\"a \"\"b\"\", c\"\n3,NULL\n4,\"NULL\"\n5,\"\"", layout: csv(files.Layout{Empty: []string{"NULL"}}),
			want: []string{`2: 1 {"id":"1","name":"Ann"}`, `4: 2 {"id":"2","name":"a \"b\", c"}`, `5: 3 {"id":"3","name":null}`, `6: 4 {"id":"4","name":"NULL"}`, `7: 5 {"id":"5","name":""}`}},
		{name: "byte order mark, semicolons, a line break in a cell", in: "\ufeffid;name\n1;\"a\r\nb\"\n2;x\n", layout: csv(files.Layout{}), want: []string{`2: 1 {"id":"1","name":"a\r\nb"}`, `4: 2 {"id":"2","name":"x"}`}},
		{name: "broken rows", in: "id,name\n1\n2,b\n,c\n3,x\"y\n4,d,e\n5,\"f\"g\n6,h\n", layout: csv(files.Layout{}),
			want: []string{"2! has 1 cells, the header has 2", `3: 2 {"id":"2","name":"b"}`, "4! has no id, which names the record", "5! has a quotation that is not closed within 262144 bytes",
				"6! has 3 cells, the header has 2", "7! cell 2 goes on after its closing quote", `8: 6 {"id":"6","name":"h"}`}},
		{name: "a quotation that never closes", in: "id,name\n1,\"a\n2,b\n3,c\n", layout: csv(files.Layout{}),
			want: []string{"2! has a quotation that is not closed within 262144 bytes", `3: 2 {"id":"2","name":"b"}`, `4: 3 {"id":"3","name":"c"}`}},
		{name: "a loose column", in: "id,street,city\n1,Main St. 5, left,Bern\n2,Side St.,Rome\n", layout: csv(files.Layout{Loose: "street"}),
			want: []string{`2: 1 {"city":"Bern","id":"1","street":"Main St. 5, left"}`, `3: 2 {"city":"Rome","id":"2","street":"Side St."}`}},
		{name: "a row too long", in: "id,name\n1," + long + "\n2,b\n", layout: csv(files.Layout{}), want: []string{"2! is longer than 262144 bytes", `3: 2 {"id":"2","name":"b"}`}},
		{name: "nested columns", in: "id,a.b,a.c\n1,x,y\n", layout: csv(files.Layout{}), want: []string{`2: 1 {"a":{"b":"x","c":"y"},"id":"1"}`}},
		{name: "wrong header", in: "id,nom\n1,x\n", layout: csv(files.Layout{Columns: []string{"name", "email"}}), refused: "the header lacks email, name"},
		{name: "wrong delimiter", in: "id\tname\n1\tx\n", layout: csv(files.Layout{Columns: []string{"name"}, Delimiter: ","}), refused: "the header lacks id, name"},
		{name: "column twice", in: "id,id\n1,2\n", layout: csv(files.Layout{}), refused: "twice"},
		{name: "empty", layout: csv(files.Layout{}), refused: "the file is empty"},
		{name: "Latin text, nothing declared", in: "id,name\n1,Zo\xe9\n", layout: csv(files.Layout{}), refused: "line 2 is not utf-8"},
		{name: "mixed encodings", in: "id,name\n1,Zo\xe9\n2,Zoé\n", layout: csv(files.Layout{Encoding: files.UTF8}), want: []string{"2! is not utf-8", `3: 2 {"id":"2","name":"Zoé"}`}},
		{name: "Windows-1252", in: "id,name\n1,Zo\xe9 \x80\n2,\x81\n", layout: csv(files.Layout{Encoding: files.Windows1252}), want: []string{`2: 1 {"id":"1","name":"Zoé €"}`, "3! is not windows-1252"}},
		{name: "UTF-16 undeclared", in: "i\x00d\x00", layout: csv(files.Layout{}), refused: "looks like UTF-16"},
		{name: "another mark than declared", in: "\ufeffid\n1\n", layout: csv(files.Layout{Encoding: files.Windows1252}), refused: "byte order mark of utf-8"},
		{name: "JSON Lines", in: "{\"id\":7,\"a\":{\"b\":1.10}}\n\nnull\n{\"id\":\"8\"\n[1]\n{\"a\":1}\n", layout: files.Layout{Format: files.JSONLines, Key: "id"},
			want: []string{`1: 7 {"a":{"b":1.10},"id":7}`, "3! is not a JSON object", "4! is not JSON", "5! is not a JSON object", "6! has no id, which names the record"}},
		{name: "a list", in: "id,item\n1,a\n1,b\n2,c\n", layout: csv(files.Layout{List: "lines", Number: "n"}),
			want: []string{`2: 1 {"lines":[{"id":"1","item":"a","n":"1"},{"id":"1","item":"b","n":"2"}]}`, `4: 2 {"lines":[{"id":"2","item":"c","n":"1"}]}`}},
		{name: "a broken row of a list", in: "id,item\n1,a\n2,b,c\n2,d\n3,e\n", layout: csv(files.Layout{List: "lines"}),
			want: []string{"3! has 3 cells, the header has 2; id 1 may lack this row, and keeps what it had", "4! id 2 may lack a row: line 3 is broken; it keeps what it had", `5: 3 {"lines":[{"id":"3","item":"e"}]}`}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{strings.NewReader(row.in), iotest.OneByteReader(strings.NewReader(row.in))} {
				got, err := read(t, in, row.layout)
				if row.refused != "" {
					if !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), row.refused) {
						t.Errorf("error %v, want %q", err, row.refused)
					}
					continue
				}
				if err != nil || len(got) != len(row.want) {
					t.Fatalf("%v\ngot  %q\nwant %q", err, got, row.want)
				}
				for i := range got {
					if got[i] != row.want[i] && !(strings.Contains(row.want[i], "! is not JSON") && strings.HasPrefix(got[i], row.want[i])) {
						t.Errorf("got  %s\nwant %s", got[i], row.want[i])
					}
				}
			}
		})
	}
}

func TestUTF16(t *testing.T) {
	t.Parallel()
	var le, be []byte
	for _, u := range utf16.Encode([]rune("\ufeffid,name\r\n1,Zoë 😀\r\n")) {
		le, be = append(le, byte(u), byte(u>>8)), append(be, byte(u>>8), byte(u))
	}
	half := append(bytes.Clone(le), 0x00, 0xd8, '3', 0, ',', 0, 'x', 0, '\n', 0, '4', 0, ',', 0, 'y', 0, 0x41)
	for _, in := range [][]byte{le, be} {
		for _, declared := range []string{"", files.UTF16} {
			got, err := read(t, iotest.HalfReader(bytes.NewReader(in)), csv(files.Layout{Encoding: declared}))
			if err != nil || len(got) != 1 || got[0] != `2: 1 {"id":"1","name":"Zoë 😀"}` {
				t.Errorf("%q %v", got, err)
			}
		}
	}
	if got, err := read(t, bytes.NewReader(half), csv(files.Layout{})); err != nil || len(got) != 3 || !strings.HasPrefix(got[1], "3! is not") || !strings.HasPrefix(got[2], "4! is not") {
		t.Errorf("an unpaired surrogate, half a unit: %q %v", got, err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	l := csv(files.Layout{List: "lines"})
	got, err := files.Inspect(strings.NewReader("id,item,note\n9,a,\n9,b,\n10,c,\nx\n"), l)
	if err != nil || got.Records != 2 || got.Broken != 1 || got.Size != 31 || got.Encoding != files.UTF8 || len(got.Hash) != 64 || !reflect.DeepEqual(got.Ignored, []string{"item", "note"}) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := files.Inspect(strings.NewReader("id,item\n9,a\n10,b\n9,c\n"), l); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "sort the file by id") {
		t.Errorf("rows apart: %v", err)
	}
	if _, err := files.Inspect(iotest.TimeoutReader(strings.NewReader(strings.Repeat("id,x\n", 99_999))), csv(files.Layout{})); !fault.Is(err, fault.Down) {
		t.Errorf("a disk that fails: %v", err)
	}
}

// What is written is read back equal, in each encoding and format, whatever the values.
func TestWriteThenRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := files.Layout{Key: "id", Empty: []string{"NULL", "-"}, Format: rapid.SampledFrom([]string{files.CSV, files.JSONLines}).Draw(t, "format"),
			Encoding: rapid.SampledFrom(append(files.Encodings(), "")).Draw(t, "encoding"), Delimiter: rapid.SampledFrom([]string{"", ",", ";", "\t", "|"}).Draw(t, "delimiter")}
		text := rapid.OneOf(rapid.SampledFrom([]string{"", " ", "NULL", "-", "a,b", "\"", "\"\"", "\r", "\n", "a\r\nb", ";\t|", "é€", "\ufeff"}), rapid.String())
		if l.Encoding == files.Windows1252 {
			text = rapid.OneOf(rapid.SampledFrom([]string{"é€", "NULL", "\"\n", ""}), rapid.StringOf(rapid.RuneFrom([]rune("aé€Ÿ\",;\n\r \u00a0ÿ"))))
		}
		var buf bytes.Buffer
		columns := []string{"id", "a", "b.c", "b.d"}
		w, err := files.NewWriter(&buf, l, columns)
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) any {
			if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
				return nil
			}
			return text.Draw(t, name)
		}
		var rows []map[string]any
		for i := range rapid.IntRange(0, 4).Draw(t, "rows") {
			row := map[string]any{"id": fmt.Sprint(i), "a": value("a"), "b": map[string]any{"c": value("c"), "d": value("d")}}
			if err := w.Write(row); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if l.Delimiter == "" {
			l.Columns = columns // by which it is found
		}
		r, err := files.NewReader(bytes.NewReader(buf.Bytes()), l)
		if err != nil {
			t.Fatalf("%v of %q", err, buf.String())
		}
		for i := range rows {
			got, err := r.Next()
			if err != nil || got.Broken != nil || !reflect.DeepEqual(got.Fields, rows[i]) {
				t.Fatalf("row %d of %q\ngot  %v (%v, %v)\nwant %v", i, buf.String(), got.Fields, got.Broken, err, rows[i])
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last row: %v", err)
		}
	})
}

// The day in a file's name says of when it is. Later is later among the files of a day, and never as late as the next day.
func TestAsOf(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	for _, form := range []struct{ layout, name string }{{"2006-01-02", "customers-2026-11-02.csv"}, {"20060102", "9920261102x.csv"}, {"02.01.2006", "02.11.2026.csv"}} {
		l := files.Layout{Dated: form.layout}
		last := day.Add(-1)
		for _, late := range []time.Duration{-time.Hour, time.Second, 2 * time.Second, 23 * time.Hour, 25 * time.Hour, 400 * 24 * time.Hour, 400*24*time.Hour + time.Second} {
			got, err := l.AsOf(form.name, day.Add(late))
			if err != nil || !got.After(last) || !got.Before(day.AddDate(0, 0, 1)) {
				t.Errorf("%s, %s late: %s after %s, %v", form.name, late, got, last, err)
			}
			last = got
		}
	}
	if got, err := (files.Layout{}).AsOf("a-2026-11-02.csv", day.Add(time.Hour)); err != nil || !got.Equal(day.Add(time.Hour)) {
		t.Error(got, err)
	}
	for _, name := range []string{"customers.csv", "customers-2026-13-02.csv", "2026-11-2"} {
		if _, err := (files.Layout{Dated: "2006-01-02"}).AsOf(name, day); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "such as 2026-11-02") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]map[string]any{"a list": {"id": []any{"1"}}, "another column": {"id": "1", "x": "2"}, "nothing": {"id": nil}, "not in Windows-1252": {"id": "Ω"}, "too long": {"id": strings.Repeat("x", files.MaxRow)}} {
		var buf bytes.Buffer
		w, err := files.NewWriter(&buf, csv(files.Layout{Encoding: files.Windows1252}), []string{"id"})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(row); err == nil || fault.ClassOf(err) == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Flush(); err != nil || buf.String() != "id\r\n" {
			t.Errorf("%s left %q", name, buf.String())
		}
	}
}

// endless is a pattern that repeats for so many bytes, and the most that the heap was while it was read.
type endless struct {
	pattern string
	left    int64
	reads   int
	peak    uint64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if e.reads++; e.reads%8 == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		e.peak = max(e.peak, m.HeapAlloc)
	}
	n := 0
	for n < len(p) && e.left > 0 {
		k := copy(p[n:], e.pattern)
		n, e.left = n+k, e.left-int64(k)
	}
	return n, nil
}

// However much a file holds, and be it one line or one quotation, memory stays small. SORREL_FILE_BYTES makes it larger.
func TestMemory(t *testing.T) {
	size := int64(2 << 20)
	if s := os.Getenv("SORREL_FILE_BYTES"); s != "" {
		var err error
		if size, err = strconv.ParseInt(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for name, pattern := range map[string]string{"one line": "xxxxxxxxxxxxxxxx", "one quotation of lines": "1,abc\n", "rows": "1,\"abc\"\n", "quotes": "\"", "lines of one quote": "\"a\n"} {
		t.Run(name, func(t *testing.T) {
			e := &endless{pattern: pattern, left: size}
			got, err := files.Inspect(io.MultiReader(strings.NewReader("id,name\n1,\"x\n"), e), csv(files.Layout{}))
			if err != nil || got.Size < size || got.Broken == 0 {
				t.Errorf("%+v %v", got, err)
			}
			if e.peak > 48<<20 || e.peak == 0 {
				t.Errorf("the heap had %d bytes", e.peak)
			}
		})
	}
}

func FuzzRecords(f *testing.F) {
	for _, s := range []string{"id,a\n1,\"x\ny\"\n", "id;a\n\"", "\xff\xfei\x00d\x00\n\x001\x00", "{\"id\":1}\n[", "id,a\n1,\x81\n", "\ufeffid\n\"1\"\"\"\n", "id,a\n1,a\n1,b\n0,c"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(23))
	}
	f.Fuzz(func(t *testing.T, in []byte, kind uint8) {
		l := files.Layout{Key: "id", Format: files.CSV, Encoding: append(files.Encodings(), "")[int(kind)%6]}
		if kind&8 > 0 {
			l.Format = files.JSONLines
		}
		if kind&16 > 0 {
			l.List, l.Number = "lines", "n"
		}
		if kind&32 > 0 {
			l.Loose = "id"
		}
		seen := int64(0)
		r, err := files.NewRecords(bytes.NewReader(in), l)
		for err == nil {
			var rec files.Record
			if rec, err = r.Next(); err != nil {
				break
			}
			if (rec.Broken == nil) != (rec.Fields != nil) || rec.Fields != nil && rec.Key == "" || rec.Line <= seen && l.List == "" {
				t.Fatalf("%+v after line %d", rec, seen)
			}
			seen = rec.Line
		}
		if !errors.Is(err, io.EOF) && !fault.Is(err, fault.Contract) {
			t.Fatal(err)
		}
		again, err2 := files.Inspect(bytes.NewReader(in), l)
		if errors.Is(err, io.EOF) && l.List == "" && (err2 != nil || again.Size != int64(len(in))) {
			t.Fatalf("inspecting says %v, reading %v", err2, err)
		}
	})
}
