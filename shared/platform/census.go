package platform

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
)

// Span is a part of time: From belongs to it, To does not. A zero From or To is no bound.
type Span struct {
	From, To time.Time
}

// Holds reports whether t is in the span.
func (s Span) Holds(t time.Time) bool {
	return (s.From.IsZero() || !t.Before(s.From)) && (s.To.IsZero() || t.Before(s.To))
}

// Count is how many native records of one object exist whose newest modification is in the span.
type Count struct {
	Span
	Records int
	Sum     int64 // of what Object.Sum says, over these records: two differences that leave their number equal show here
}

// Widths of the buckets in which modifications are counted, coarse to fine. They begin at full days and hours: of UTC, or
// of the vendor's clock where only that can be asked for.
const (
	Day  = 24 * time.Hour
	Hour = time.Hour
)

// How a platform counts.
const (
	Grouped = "grouped" // many buckets in one call
	Ranges  = "ranges"  // one call for each bucket
)

// What a platform adds up beside counting.
const (
	SumIDs  = "ids"  // native ids
	SumSeqs = "seqs" // Version.Seq
)

// Merged are the spans in order of time, those that touch made one. One without bounds is everything. Empty spans are left out.
func Merged(spans []Span) []Span { return joined(spans, true) }

// Apart are the spans in order of time, those that overlap made one. Empty spans are left out.
func Apart(spans []Span) []Span { return joined(spans, false) }

func joined(spans []Span, touching bool) []Span {
	sorted := slices.DeleteFunc(slices.Clone(spans), func(s Span) bool { return !s.To.IsZero() && !s.From.Before(s.To) })
	slices.SortFunc(sorted, func(a, b Span) int { return a.From.Compare(b.From) })
	out := sorted[:0]
	for _, s := range sorted {
		last := len(out) - 1
		switch {
		case last < 0 || !out[last].To.IsZero() && (s.From.After(out[last].To) || !touching && s.From.Equal(out[last].To)):
			out = append(out, s)
		case !out[last].To.IsZero() && (s.To.IsZero() || s.To.After(out[last].To)):
			out[last].To = s.To
		}
	}
	return out
}

// Buckets are the spans that a platform of Ranges is asked for one by one: within cut into buckets of width, in UTC; width 0
// leaves spans whole, neighbours included.
func Buckets(op, object string, within []Span, width time.Duration) ([]Span, error) {
	wrong := func(detail, remedy string) ([]Span, error) {
		return nil, &fault.Error{Class: fault.Contract, Op: op, ID: object, Detail: detail, Remedy: remedy}
	}
	spans := Apart(within)
	if len(within) == 0 {
		spans = []Span{{}}
	}
	switch width {
	case 0:
		return spans, nil
	case Day, Hour:
	default:
		return wrong(fmt.Sprintf("buckets of %s cannot be counted", width), "ask for days, hours or whole spans")
	}
	var out []Span
	for _, s := range spans {
		if s.From.IsZero() || s.To.IsZero() {
			return wrong("a span without bounds has no end of buckets, each of which is a call", "give both bounds, or ask for whole spans")
		}
		for from := s.From; from.Before(s.To); {
			to := from.UTC().Truncate(width).Add(width)
			if to.After(s.To) {
				to = s.To
			}
			out = append(out, Span{from, to})
			from = to
		}
	}
	return out, nil
}

// Bundles puts spans as Merged gives them into as many queries as it takes: at most most spans in each, of which no two share
// a bucket, so that a bucket's count belongs to one span. bucket is the beginning of the bucket that a moment is in.
func Bundles(spans []Span, most int, bucket func(time.Time) time.Time) [][]Span {
	var out [][]Span
	for i, s := range spans {
		last := len(out) - 1
		if last < 0 || len(out[last]) >= most || !bucket(spans[i-1].To.Add(-1)).Before(bucket(s.From)) {
			out = append(out, nil)
			last++
		}
		out[last] = append(out[last], s)
	}
	return out
}

// Cut is the part of s that lies in the first of the spans that shares a moment with it; s itself if none does.
func (s Span) Cut(spans []Span) Span {
	for _, o := range spans {
		if (o.To.IsZero() || s.From.Before(o.To)) && o.From.Before(s.To) {
			if s.From.Before(o.From) {
				s.From = o.From
			}
			if !o.To.IsZero() && o.To.Before(s.To) {
				s.To = o.To
			}
			return s
		}
	}
	return s
}

// After is what is left of the spans from t on.
func After(spans []Span, t time.Time) []Span {
	var out []Span
	for _, s := range spans {
		if !s.To.IsZero() && !s.To.After(t) {
			continue
		}
		if s.From.Before(t) {
			s.From = t
		}
		out = append(out, s)
	}
	return out
}

// Held reports whether any of the spans holds t.
func Held(spans []Span, t time.Time) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.Holds(t) })
}

// Tally puts counts in order of time and holds them against what was asked: a bucket outside of the spans or before its
// own beginning, a negative number, and two that overlap are a broken promise of the vendor's.
func Tally(op, object string, within []Span, counts []Count) ([]Count, error) {
	wrong := func(detail, remedy string) ([]Count, error) {
		return nil, &fault.Error{Class: fault.Contract, Op: op, ID: object, Detail: detail, Remedy: remedy}
	}
	slices.SortStableFunc(counts, func(a, b Count) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	within = Merged(within)
	for i, c := range counts {
		inside := func(s Span) bool {
			return (s.From.IsZero() || !c.From.Before(s.From)) && (s.To.IsZero() || !c.To.IsZero() && !c.To.After(s.To))
		}
		switch {
		case c.Records < 0:
			return wrong("a bucket has a negative number of records", "compare without counts: run in full mode")
		case !c.To.IsZero() && !c.From.Before(c.To):
			return wrong("a bucket ends before it begins", "compare without counts: run in full mode")
		case len(within) > 0 && !slices.ContainsFunc(within, inside):
			return wrong(fmt.Sprintf("the bucket of %s was not asked for", c.From.UTC().Format(time.RFC3339)), "check in which time zone the platform counts for the integration user")
		case i > 0 && (counts[i-1].To.IsZero() || c.From.Before(counts[i-1].To)):
			return wrong(fmt.Sprintf("the bucket of %s is there twice", c.From.UTC().Format(time.RFC3339)), "compare without counts: run in full mode")
		}
	}
	return slices.DeleteFunc(counts, func(c Count) bool { return c.Records == 0 }), nil
}

// Listing is where a listing in order of id goes on. Its cursor belongs to one account, object and set of spans.
type Listing struct {
	V     int    `json:"v"`
	Of    string `json:"of"`              // fingerprint of what is listed
	Chunk int    `json:"chunk,omitempty"` // of the spans, in which the listing is
	After string `json:"after,omitempty"` // id listed last in that chunk; for a vendor that pages in its own way: its word
}

const listingVersion = 1

// Resume reads a cursor of Within or Deleted. account is any text that no other account has; what tells listings apart
// beside the spans.
func Resume(op, account, object, what string, spans []Span, cursor string) (Listing, error) {
	h := sha256.New()
	for _, s := range append([]string{account, object, what}, stamps(spans)...) {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	l := Listing{V: listingVersion, Of: hex.EncodeToString(h.Sum(nil)[:12])}
	if cursor == "" {
		return l, nil
	}
	var given Listing
	dec := json.NewDecoder(strings.NewReader(cursor))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&given); {
	case err != nil || dec.More() || given.V != listingVersion || given.Chunk < 0:
		return l, &fault.Error{Class: fault.Contract, Op: op, ID: object, Fields: []string{"cursor"}, Detail: "the cursor is none of this listing's", Remedy: "start again with an empty one"}
	case given.Of != l.Of:
		return l, &fault.Error{Class: fault.Contract, Op: op, ID: object, Fields: []string{"cursor"}, Detail: "the cursor is of another account, object or spans", Remedy: "start again with an empty one"}
	}
	return given, nil
}

func stamps(spans []Span) []string {
	out := make([]string, 0, 2*len(spans))
	for _, s := range spans {
		out = append(out, s.From.UTC().Format(time.RFC3339Nano), s.To.UTC().Format(time.RFC3339Nano))
	}
	return out
}

// String is the cursor.
func (l Listing) String() string {
	b, err := json.Marshal(l)
	if err != nil { // three plain fields
		return ""
	}
	return string(b)
}

// Ascending checks that a page's ids come in order after the one that was listed last, and each once.
func Ascending(op, object string, numeric bool, after string, ids []string) error {
	for _, id := range ids {
		if after != "" && CompareIDs(numeric, after, id) >= 0 {
			return &fault.Error{Class: fault.Contract, Op: op, ID: object + "/" + id, Detail: fmt.Sprintf("it is listed after %.40q, and ids should ascend", after),
				Remedy: "list again; if it stays, the platform's order of ids is not the one declared: report it"}
		}
		after = id
	}
	return nil
}

// CompareIDs compares native ids as Object.Numeric says.
func CompareIDs(numeric bool, a, b string) int {
	if numeric {
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	}
	return strings.Compare(a, b)
}
