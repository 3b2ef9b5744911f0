package platform

import (
	"time"
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
}

// Widths of the buckets in which modifications are counted, coarse to fine. They begin at full UTC days and hours.
const (
	Day  = 24 * time.Hour
	Hour = time.Hour
)
