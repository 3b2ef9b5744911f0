package files

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sorrel/shared/fault"
)

// Writer writes rows so that a Reader with the same layout reads them back equal.
type Writer struct {
	out     *bufio.Writer
	layout  Layout
	columns []string
	comma   string
	row     []byte
}

// NewWriter begins a file with a byte order mark, where its encoding has one, and a CSV's header. JSON Lines need no columns.
func NewWriter(w io.Writer, l Layout, columns []string) (*Writer, error) {
	out := &Writer{out: bufio.NewWriterSize(w, 64<<10), layout: l, columns: columns, comma: l.Delimiter}
	if out.comma == "" {
		out.comma = ","
	}
	mark := ""
	if l.Encoding == UTF16 || l.Encoding == UTF16LE || l.Encoding == UTF16BE {
		mark = "\ufeff"
	}
	if l.Format == JSONLines {
		return out, out.line(mark)
	}
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = out.cell(c)
	}
	return out, out.line(mark + strings.Join(cells, out.comma) + "\r\n")
}

// Write writes rows, all or none of them: it refuses what the layout cannot carry.
func (w *Writer) Write(rows ...map[string]any) error {
	w.row = w.row[:0]
	for _, fields := range rows {
		s, err := w.text(fields)
		if err == nil {
			err = w.add(s)
		}
		if err != nil {
			return err
		}
	}
	return w.send()
}

// text is one row.
func (w *Writer) text(fields map[string]any) (string, error) {
	if w.layout.Format == JSONLines {
		b, err := json.Marshal(fields)
		return string(b) + "\n", fault.Wrap(fault.Malformed, "files.write", "", err)
	}
	known := 0
	cells := make([]string, len(w.columns))
	for i, c := range w.columns {
		value, found := at(fields, Path(c))
		if found {
			known++
		}
		if value == nil {
			continue
		}
		text, ok := Scalar(value)
		if !ok {
			return "", fault.New(fault.Contract, "files.write", fmt.Sprintf("column %s is a list or an object, which CSV has no cell for", c))
		}
		cells[i] = w.cell(text)
	}
	if known != leaves(fields) {
		return "", fault.New(fault.Contract, "files.write", fmt.Sprintf("the row has other fields than the columns: %v", slices.Sorted(maps.Keys(fields))))
	}
	line := strings.Join(cells, w.comma)
	if line == "" { // a reader would take it for an empty line
		return "", fault.New(fault.Contract, "files.write", "the row has no value")
	}
	return line + "\r\n", nil
}

// Flush hands everything to the underlying writer.
func (w *Writer) Flush() error { return fault.Wrap(fault.Down, "files.write", "", w.out.Flush()) }

func (w *Writer) line(s string) error {
	w.row = w.row[:0]
	if err := w.add(s); err != nil {
		return err
	}
	return w.send()
}

// add adds a line to what is sent next.
func (w *Writer) add(s string) (err error) {
	if len(s) > MaxRow {
		return &fault.Error{Class: fault.TooLarge, Op: "files.write", Detail: fmt.Sprintf("a row of %d bytes, at most %d", len(s), MaxRow)}
	}
	w.row, err = encoded(w.row, s, w.layout.Encoding)
	return err
}

func (w *Writer) send() error {
	_, err := w.out.Write(w.row)
	return fault.Wrap(fault.Down, "files.write", "", err)
}

// cell quotes what would be read otherwise: an empty text beside no value, and words that mean no value.
func (w *Writer) cell(s string) string {
	if s != "" && !strings.ContainsAny(s, "\"\r\n"+w.comma) && !slices.Contains(w.layout.Empty, s) && strings.TrimSpace(s) == s {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// Scalar is the text of a text, number or truth value.
func Scalar(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// Value is what a row has in a column, nil for nothing.
func Value(fields map[string]any, column string) any {
	v, _ := at(fields, Path(column))
	return v
}

// Put sets what a row has in a column, and reports whether nothing else stands there or in its way.
func Put(fields map[string]any, column, value string) bool {
	before := Value(fields, column)
	same, scalar := Scalar(before)
	return (before == nil || scalar && same == value) && put(fields, Path(column), value, true)
}

func at(fields map[string]any, path []string) (any, bool) {
	for _, k := range path[:len(path)-1] {
		next, ok := fields[k].(map[string]any)
		if !ok {
			return nil, false
		}
		fields = next
	}
	v, found := fields[path[len(path)-1]]
	return v, found
}

func leaves(fields map[string]any) (n int) {
	for _, v := range fields {
		if m, ok := v.(map[string]any); ok {
			n += leaves(m)
			continue
		}
		n++
	}
	return n
}
