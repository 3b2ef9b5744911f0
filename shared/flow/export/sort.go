package export

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Scratch is a place for rows that do not fit into memory while they are being sorted, such as a temporary file.
type Scratch interface {
	io.Writer
	io.ReaderAt
}

// row is what a file says of one record.
type row struct {
	Key    string           `json:"key"`
	Linked bool             `json:"linked,omitempty"` // files have told of it under that key
	Record record.ID        `json:"record"`
	Rows   []map[string]any `json:"rows"`
}

// compare orders rows by key, those that files have told of first.
func (r row) compare(s row) int {
	linked := func(r row) int {
		if r.Linked {
			return 0
		}
		return 1
	}
	return cmp.Or(strings.Compare(r.Key, s.Key), cmp.Compare(linked(r), linked(s)), strings.Compare(string(r.Record), string(s.Record)))
}

const (
	maxHeld = 8 << 20  // bytes of rows in memory
	reading = 16 << 10 // bytes of each run in memory
)

// sorter sorts rows in runs that it puts aside, and merges these.
type sorter struct {
	scratch func() (Scratch, error)
	most    int // bytes of rows in memory
	aside   Scratch
	held    []held
	size    int
	runs    []int64 // where each ends
}

// held is a row as it is put aside; as values it would take many times the memory.
type held struct {
	row  // without Rows
	text []byte
}

// add takes a row.
func (s *sorter) add(r row) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, "export.sort", string(r.Record), err)
	}
	r.Rows = nil
	s.held, s.size = append(s.held, held{r, b}), s.size+len(b)
	if s.size < s.most {
		return nil
	}
	return s.spill()
}

// spill puts a run aside.
func (s *sorter) spill() (err error) {
	if s.aside == nil {
		if s.aside, err = s.scratch(); err != nil {
			return err
		}
	}
	s.sort()
	at := int64(0)
	if n := len(s.runs); n > 0 {
		at = s.runs[n-1]
	}
	out := bufio.NewWriter(s.aside)
	for _, h := range s.held {
		at += int64(len(h.text)) + 1
		if _, err := out.Write(append(h.text, '\n')); err != nil {
			return fault.Wrap(fault.Down, "export.sort", "", err)
		}
	}
	clear(s.held)
	s.runs, s.held, s.size = append(s.runs, at), s.held[:0], 0
	return fault.Wrap(fault.Down, "export.sort", "", out.Flush())
}

func (s *sorter) sort() {
	slices.SortFunc(s.held, func(a, b held) int { return a.compare(b.row) })
}

// sorted gives all rows in order.
func (s *sorter) sorted() iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		s.sort()
		all := &merge{{next: s.held}}
		from := int64(0)
		for _, end := range s.runs {
			*all = append(*all, &run{in: bufio.NewReaderSize(io.NewSectionReader(s.aside, from, end-from), reading)})
			from = end
		}
		for i := len(*all) - 1; i >= 0; i-- {
			if more, err := (*all)[i].advance(); err != nil {
				yield(row{}, err)
				return
			} else if !more {
				*all = slices.Delete(*all, i, i+1)
			}
		}
		for heap.Init(all); len(*all) > 0; {
			first := (*all)[0]
			if !yield(first.at, nil) {
				return
			}
			more, err := first.advance()
			switch {
			case err != nil:
				yield(row{}, err)
				return
			case more:
				heap.Fix(all, 0)
			default:
				heap.Pop(all)
			}
		}
	}
}

// run is one run of sorted rows: those that were held, or those of a reader.
type run struct {
	next []held
	in   *bufio.Reader // nil: those that are held
	at   row
}

// advance moves on to the next row.
func (r *run) advance() (bool, error) {
	var text []byte
	switch {
	case r.in == nil && len(r.next) == 0:
		return false, nil
	case r.in == nil:
		text, r.next = r.next[0].text, r.next[1:]
	default:
		var err error
		text, err = r.in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return false, nil
		}
		if err != nil {
			return false, fault.Wrap(fault.Down, "export.sort", "", err)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	r.at = row{}
	return true, fault.Wrap(fault.Internal, "export.sort", "", dec.Decode(&r.at))
}

// merge is a heap of runs.
type merge []*run

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].at.compare(m[j].at) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { r, _ := x.(*run); *m = append(*m, r) }
func (m *merge) Pop() any {
	last := len(*m) - 1
	out := (*m)[last]
	*m = (*m)[:last]
	return out
}
