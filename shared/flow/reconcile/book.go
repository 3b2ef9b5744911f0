package reconcile

import (
	"slices"
	"strconv"
	"time"

	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// quarter is the grain of a book: borders of days and hours are multiples of it in every time zone in use.
const quarter = 15 * time.Minute

// cell is a number of records, and a sum over them (see platform.Object.Sum).
type cell struct {
	records int
	sum     int64
}

// book is what a platform should count, by what the hub knows. It has a cell for each quarter of an hour in which a record was
// modified last, so its size depends on the span of time and not on the number of records.
type book struct {
	cells map[int64]cell // by quarters since 1970
	sum   func(id string, v record.Version) int64
	order []int64 // sorted keys, nil after a new one
}

func newBook(sum string) *book {
	b := &book{cells: map[int64]cell{}, sum: func(string, record.Version) int64 { return 0 }}
	switch sum {
	case platform.SumIDs:
		b.sum = func(id string, _ record.Version) int64 { n, _ := strconv.ParseInt(id, 10, 64); return n }
	case platform.SumSeqs:
		b.sum = func(_ string, v record.Version) int64 { return v.Seq }
	}
	return b
}

func quarterOf(t time.Time) int64 {
	s := t.Unix()
	n := s / int64(quarter/time.Second)
	if s < 0 && s%int64(quarter/time.Second) != 0 {
		n--
	}
	return n
}

// add counts a record n times. A record without a version is in no span.
func (b *book) add(id string, v record.Version, n int) {
	if v.At.IsZero() {
		return
	}
	k := quarterOf(v.At)
	c, known := b.cells[k]
	if !known {
		b.order = nil
	}
	b.cells[k] = cell{c.records + n, c.sum + int64(n)*b.sum(id, v)}
}

// count adds up the cells in each of the spans. Their borders are full quarters.
func (b *book) count(spans ...platform.Span) []cell {
	if b.order == nil {
		b.order = make([]int64, 0, len(b.cells))
		for k := range b.cells {
			b.order = append(b.order, k)
		}
		slices.Sort(b.order)
	}
	out := make([]cell, len(spans))
	for i, s := range spans {
		from := 0
		if !s.From.IsZero() {
			from, _ = slices.BinarySearch(b.order, quarterOf(s.From))
		}
		for _, k := range b.order[from:] {
			if !s.To.IsZero() && k >= quarterOf(s.To) {
				break
			}
			out[i].records += b.cells[k].records
			out[i].sum += b.cells[k].sum
		}
	}
	return out
}
