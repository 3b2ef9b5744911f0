package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
)

// deepest bounds the nesting of a JSON row.
const deepest = 32

// Reader reads the rows of one file.
type Reader struct {
	Encoding string   // of the file
	Header   []string // of CSV
	Ignored  []string // columns that the layout does not name

	layout  Layout
	in      *bufio.Reader
	certain bool // the encoding was declared or marked
	comma   byte
	paths   [][]string // of the header's columns; nil: no name, not read
	loose   int        // index of the loose column, -1 without
	line    int64      // lines read so far
	back    []line     // lines that were read too far, the next one last
	end     error
}

// line is one physical line.
type line struct {
	text   []byte
	end    string // "\n", "\r\n" or, at the end of the file, ""
	number int64
	long   bool // longer than MaxRow: text is its beginning
}

// NewReader begins a file. A CSV's header is read and checked at once.
func NewReader(r io.Reader, l Layout) (*Reader, error) {
	in, encoding, certain, err := decoded(r, l.Encoding)
	if err != nil {
		return nil, err
	}
	out := &Reader{Encoding: encoding, layout: l, in: in, certain: certain, loose: -1}
	if l.Format == JSONLines {
		return out, nil
	}
	return out, out.header()
}

func (r *Reader) refuse(detail, remedy string) error {
	return &fault.Error{Class: fault.Contract, Op: "files.read", Detail: detail, Remedy: remedy}
}

func (r *Reader) header() error {
	first, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return r.refuse("the file is empty", "begin it with a line of column names")
	case err != nil:
		return err
	case first.long:
		return r.refuse(fmt.Sprintf("the first line is longer than %d bytes", MaxRow), "begin the file with a line of column names")
	case !utf8.Valid(first.text):
		return r.undecodable(first.number)
	case bytes.IndexByte(first.text, 0) >= 0:
		return r.refuse("the first line holds zero bytes", "declare the encoding in the mapping, such as utf-16le")
	}
	commas := []string{",", ";", "\t", "|"}
	if r.layout.Delimiter != "" {
		commas = []string{r.layout.Delimiter}
	}
	var missing []string
	for i, c := range commas {
		r.comma = c[0]
		cells, bad := r.cells(first.text)
		if bad != "" {
			continue
		}
		names := make([]string, len(cells))
		for j, cell := range cells {
			names[j] = strings.TrimSpace(cell.text)
		}
		lacks := slices.DeleteFunc(r.layout.needed(), func(c string) bool { return slices.Contains(names, c) })
		if len(lacks) == 0 {
			return r.name(names)
		}
		if i == 0 || len(lacks) < len(missing) {
			missing = lacks
		}
	}
	if missing == nil {
		missing = r.layout.needed()
	}
	return r.refuse(fmt.Sprintf("the header lacks %s", strings.Join(missing, ", ")), "correct the file's first line, or the columns in the mapping; no row was taken")
}

// name takes the names of the columns.
func (r *Reader) name(names []string) error {
	r.Header, r.paths = names, make([][]string, len(names))
	tree := map[string]any{}
	needed := r.layout.needed()
	for i, n := range names {
		if n == "" {
			continue
		}
		p := Path(n)
		if !put(tree, p, "", false) {
			return r.refuse(fmt.Sprintf("the header names %s twice, or both %s and a part of it", n, n), "give each column a name of its own; no row was taken")
		}
		r.paths[i] = p
		if n == r.layout.Loose {
			r.loose = i
		}
		if !slices.Contains(needed, n) && n != r.layout.External {
			r.Ignored = append(r.Ignored, n)
		}
	}
	return nil
}

// put sets the value at a path and reports whether nothing was in its way.
func put(fields map[string]any, path []string, value any, over bool) bool {
	for _, k := range path[:len(path)-1] {
		if fields[k] == nil {
			fields[k] = map[string]any{}
		}
		next, ok := fields[k].(map[string]any)
		if !ok {
			return false
		}
		fields = next
	}
	last := path[len(path)-1]
	if _, taken := fields[last]; taken && !over {
		return false
	}
	fields[last] = value
	return true
}

func (r *Reader) undecodable(line int64) error {
	return r.refuse(fmt.Sprintf("line %d is not %s", line, r.Encoding), "declare the file's encoding in the mapping, such as windows-1252; with utf-8 declared, only such rows are refused")
}

// next reads one physical line.
func (r *Reader) next() (line, error) {
	if n := len(r.back); n > 0 {
		l := r.back[n-1]
		r.back = r.back[:n-1]
		return l, nil
	}
	if r.end != nil {
		return line{}, r.end
	}
	l := line{number: r.line + 1}
	for {
		part, err := r.in.ReadSlice('\n')
		if room := MaxRow + 2 - len(l.text); room > 0 {
			l.text = append(l.text, part[:min(room, len(part))]...)
		}
		l.long = l.long || len(l.text) >= MaxRow+2 && !bytes.HasSuffix(l.text, []byte("\n"))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			r.end = cut(err)
			return line{}, r.end
		}
		if err != nil {
			r.end = io.EOF
			if len(l.text) == 0 {
				return line{}, io.EOF
			}
		}
		break
	}
	r.line++
	if !l.long {
		if t, ok := bytes.CutSuffix(l.text, []byte("\n")); ok {
			l.text, l.end = t, "\n"
			if t, ok := bytes.CutSuffix(t, []byte("\r")); ok {
				l.text, l.end = t, "\r\n"
			}
		}
	}
	l.long = l.long || len(l.text) > MaxRow
	return l, nil
}

// Next reads one row; io.EOF after the last one. Any other error ends the file.
func (r *Reader) Next() (Row, error) {
	for {
		l, err := r.next()
		if err != nil {
			return Row{}, err
		}
		if !l.long && len(bytes.Trim(l.text, " \r")) == 0 {
			continue
		}
		row := Row{Line: l.number}
		var bad string
		switch {
		case l.long:
			bad = fmt.Sprintf("is longer than %d bytes", MaxRow)
		case r.layout.Format == JSONLines:
			row.Fields, bad, err = r.object(l)
		default:
			row.Fields, bad, err = r.record(l)
		}
		if err != nil {
			return Row{}, err
		}
		if bad != "" {
			row.Fields, row.Broken = nil, &Broken{l.number, bad}
		}
		return row, nil
	}
}

// valid reports text that is not in the file's encoding: of one row where that is certain, of the whole file otherwise.
func (r *Reader) valid(text []byte, number int64) (bad string, err error) {
	switch {
	case utf8.Valid(text):
		return "", nil
	case !r.certain:
		return "", r.undecodable(number)
	}
	return "is not " + r.Encoding, nil
}

func (r *Reader) object(l line) (fields map[string]any, bad string, err error) {
	if bad, err = r.valid(l.text, l.number); bad != "" || err != nil {
		return nil, bad, err
	}
	in := jsonread.New(l.text, deepest)
	fields, ok := in.Value().(map[string]any)
	if err := in.End(); err != nil {
		return nil, "is not JSON: " + err.Error(), nil
	}
	if !ok || fields == nil {
		return nil, "is not a JSON object", nil
	}
	return fields, "", nil
}

// record reads the row that begins with a line: more lines as long as a quotation is open. If it is never closed, only the
// line that opens it is broken, and those after it are rows of their own: no line is looked at more than three times.
func (r *Reader) record(first line) (fields map[string]any, bad string, err error) {
	text, taken := first.text, []line(nil)
	for open := quoted(text, false); open; {
		l, err := r.next()
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return nil, "", err
		}
		end := first.end
		if len(taken) > 0 {
			end = taken[len(taken)-1].end
		}
		if !ended {
			taken = append(taken, l)
		}
		if ended || l.long || len(text)+len(end)+len(l.text) > MaxRow {
			r.unread(taken)
			return nil, fmt.Sprintf("has a quotation that is not closed within %d bytes", MaxRow), nil
		}
		if len(taken) == 1 {
			text = slices.Clip(text)
		}
		text = append(append(text, end...), l.text...)
		open = quoted(l.text, true)
	}
	if bad, err = r.valid(text, first.number); bad != "" || err != nil {
		r.unread(taken)
		return nil, bad, err
	}
	cells, bad := r.cells(text)
	if bad != "" {
		r.unread(taken)
		return nil, bad, nil
	}
	if extra := len(cells) - len(r.paths); extra > 0 && r.loose >= 0 {
		cells = r.joined(cells, extra)
	}
	if len(cells) != len(r.paths) {
		return nil, fmt.Sprintf("has %d cells, the header has %d", len(cells), len(r.paths)), nil
	}
	fields = make(map[string]any, len(cells))
	for i, c := range cells {
		if r.paths[i] == nil {
			continue
		}
		var value any
		if c.quoted || c.text != "" && !slices.Contains(r.layout.Empty, c.text) {
			value = c.text
		}
		put(fields, r.paths[i], value, true)
	}
	return fields, "", nil
}

func (r *Reader) unread(lines []line) {
	for _, l := range slices.Backward(lines) {
		r.back = append(r.back, l)
	}
}

// joined makes one cell of those that the loose column fell into.
func (r *Reader) joined(cells []cell, extra int) []cell {
	parts := make([]string, 0, extra+1)
	for _, c := range cells[r.loose : r.loose+extra+1] {
		parts = append(parts, c.text)
	}
	one := cell{text: strings.Join(parts, string(r.comma))}
	return slices.Concat(cells[:r.loose], []cell{one}, cells[r.loose+extra+1:])
}

// quoted reports whether a quotation is open after text, given whether one was before it. Quotes inside one are doubled, so
// each quote turns it.
func quoted(text []byte, open bool) bool {
	return open != (bytes.Count(text, []byte{'"'})%2 == 1)
}

type cell struct {
	text   string
	quoted bool
}

// cells splits one record.
func (r *Reader) cells(text []byte) (out []cell, bad string) {
	for {
		if len(text) == 0 || text[0] != '"' {
			i := bytes.IndexByte(text, r.comma)
			raw := text
			if i >= 0 {
				raw = text[:i]
			}
			if bytes.IndexByte(raw, '"') >= 0 {
				return nil, fmt.Sprintf("cell %d has a quote inside, but does not begin with one", len(out)+1)
			}
			out = append(out, cell{text: string(raw)})
			if i < 0 {
				return out, ""
			}
			text = text[i+1:]
			continue
		}
		var sb strings.Builder
		for text = text[1:]; ; {
			i := bytes.IndexByte(text, '"')
			if i < 0 {
				return nil, "has a quotation that is not closed"
			}
			sb.Write(text[:i])
			if text = text[i+1:]; len(text) == 0 || text[0] != '"' {
				break
			}
			sb.WriteByte('"')
			text = text[1:]
		}
		out = append(out, cell{sb.String(), true})
		if len(text) == 0 {
			return out, ""
		}
		if text[0] != r.comma {
			return nil, fmt.Sprintf("cell %d goes on after its closing quote", len(out))
		}
		text = text[1:]
	}
}
