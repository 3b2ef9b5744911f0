package telemetry

import (
	"math"
	"time"
)

// buckets per power of two: quantiles are right to about 9 %.
const perOctave = 8

// Histogram counts durations from a microsecond to some hours in fixed memory. The zero value is empty.
type Histogram struct {
	counts [40 * perOctave]int64
	total  int64
	max    time.Duration
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		i = min(int(math.Log2(us)*perOctave), len(h.counts)-1)
	}
	h.counts[i]++
	h.total++
	h.max = max(h.max, d)
}

// Count returns how many durations were added.
func (h *Histogram) Count() int64 { return h.total }

// Max returns the longest.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q of all did not exceed, zero when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank, seen := int64(math.Ceil(q*float64(h.total))), int64(0)
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= rank {
			top := time.Duration(math.Exp2(float64(i+1)/perOctave) * float64(time.Microsecond))
			return min(top, h.max)
		}
	}
	return h.max
}
