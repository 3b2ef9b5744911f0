package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"sorrel/shared/fault"
)

const (
	maxKey  = 200    // characters of a key
	maxList = 10_000 // rows of one record
)

// Record is what a file says about one native record: a row, or with Layout.List the rows of one key.
type Record struct {
	Line     int64 // where it begins
	Key      string
	External string
	Fields   map[string]any
	Broken   *Broken // then Fields is nil; Key may be known
}

// Records reads the records of one file.
type Records struct {
	*Reader
	ahead   *Record // of a list: the row that begins the next record
	tainted int64   // of a list: the line of a broken row that may belong to the next record
}

// NewRecords begins a file.
func NewRecords(r io.Reader, l Layout) (*Records, error) {
	in, err := NewReader(r, l)
	if err != nil {
		return nil, err
	}
	return &Records{Reader: in}, nil
}

// Next reads one record; io.EOF after the last one.
func (r *Records) Next() (Record, error) {
	if r.layout.List == "" {
		return r.one()
	}
	return r.list()
}

func (r *Records) one() (Record, error) {
	row, err := r.Reader.Next()
	if err != nil {
		return Record{}, err
	}
	out := Record{Line: row.Line, Fields: row.Fields, Broken: row.Broken}
	if row.Broken != nil {
		return out, nil
	}
	broken := func(detail string) (Record, error) {
		out.Fields, out.Broken = nil, &Broken{row.Line, detail}
		return out, nil
	}
	value, _ := at(row.Fields, Path(r.layout.Key))
	key, ok := Scalar(value)
	key = strings.TrimSpace(key)
	switch {
	case !ok || key == "":
		return broken("has no " + r.layout.Key + ", which names the record")
	case !IsKey(key):
		return broken(fmt.Sprintf("has a %s of more than %d characters, or with control characters", r.layout.Key, maxKey))
	}
	out.Key = key
	if r.layout.External != "" {
		value, _ := at(row.Fields, Path(r.layout.External))
		out.External, _ = Scalar(value)
	}
	return out, nil
}

// IsKey reports whether a text can name a record.
func IsKey(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && utf8.RuneCountInString(s) <= maxKey && !strings.ContainsFunc(s, unicode.IsControl)
}

// list reads the rows of one key. A broken row does not say whose it is: the records on both sides of it may lack one, and
// are broken, too.
func (r *Records) list() (Record, error) {
	var out Record
	var rows []any
	for {
		row := Record{}
		if r.ahead != nil {
			row, r.ahead = *r.ahead, nil
		} else {
			var err error
			row, err = r.one()
			if errors.Is(err, io.EOF) && rows != nil {
				break
			}
			if err != nil {
				return Record{}, err
			}
		}
		if row.Broken != nil {
			r.tainted = row.Line
			if rows == nil {
				return row, nil
			}
			if out.Broken == nil {
				out.Broken = &Broken{row.Line, row.Broken.Detail + "; " + r.layout.Key + " " + out.Key + " may lack this row, and keeps what it had"}
			}
			continue
		}
		if rows != nil && row.Key != out.Key {
			r.ahead = &row
			break
		}
		if rows == nil {
			out.Line, out.Key = row.Line, row.Key
			if r.tainted > 0 {
				out.Broken = &Broken{row.Line, fmt.Sprintf("%s %s may lack a row: line %d is broken; it keeps what it had", r.layout.Key, row.Key, r.tainted)}
			}
		}
		r.tainted = 0
		if len(rows) == maxList {
			out.Broken = &Broken{out.Line, fmt.Sprintf("%s %s has more than %d rows", r.layout.Key, out.Key, maxList)}
			continue
		}
		if r.layout.Number != "" {
			row.Fields[r.layout.Number] = fmt.Sprint(len(rows) + 1)
		}
		rows = append(rows, row.Fields)
	}
	if out.Broken == nil {
		out.Fields = map[string]any{r.layout.List: rows}
	}
	return out, nil
}

// Inspected is what a file is as a whole.
type Inspected struct {
	Hash     string // of its bytes
	Size     int64
	Encoding string
	Ignored  []string // columns that nothing reads
	Records  int64    // broken ones included
	Broken   int64
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// Inspect reads a whole file before anything is taken from it, and refuses one that must not be taken at all: a wrong header,
// an encoding that is not what it is declared to be, a list whose rows do not stand together.
func Inspect(r io.Reader, l Layout) (Inspected, error) {
	sum, size := sha256.New(), &counter{}
	all := io.TeeReader(r, io.MultiWriter(sum, size))
	var out Inspected
	in, err := NewRecords(all, l)
	if err != nil {
		return out, err
	}
	last, byText, bySize := "", true, true
	for {
		rec, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return out, err
		}
		out.Records++
		if rec.Broken != nil {
			out.Broken++
		}
		if l.List == "" || rec.Key == "" {
			continue
		}
		byText, bySize = byText && rec.Key > last, bySize && (len(rec.Key) > len(last) || len(rec.Key) == len(last) && rec.Key > last)
		if last != "" && !byText && !bySize {
			return out, &fault.Error{Class: fault.Contract, Op: "files.read", Detail: fmt.Sprintf("line %d: %s %s comes after %s: the rows of one record do not stand together in order", rec.Line, l.Key, rec.Key, last),
				Remedy: "sort the file by " + l.Key + "; no row was taken"}
		}
		last = rec.Key
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return out, cut(err)
	}
	out.Hash, out.Size, out.Encoding, out.Ignored = hex.EncodeToString(sum.Sum(nil)), size.n, in.Encoding, in.Ignored
	return out, nil
}
