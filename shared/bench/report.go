package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/bench/peer"
)

// Machine is where a measurement ran.
type Machine struct {
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"`
	System     string `json:"system"`
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"` // of the peers
}

func machine() Machine {
	return Machine{peer.CPU(), runtime.NumCPU(), runtime.GOOS + "/" + runtime.GOARCH, runtime.Version(), procs}
}

// Kind says what a name in a report stands for.
type Kind struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// Leg is one measured load. Times are milliseconds.
type Leg struct {
	Kind      string    `json:"kind"`
	Pair      int       `json:"pair"`
	Rate      float64   `json:"rate,omitempty"` // open loop; 0 = closed loop
	Requests  int       `json:"requests"`
	Accepted  float64   `json:"acceptedPerSecond"`
	Delivered float64   `json:"deliveredPerSecond,omitempty"`
	AckP50    float64   `json:"ackP50"`
	AckP95    float64   `json:"ackP95"`
	AckP99    float64   `json:"ackP99"`
	AckMax    float64   `json:"ackMax"`
	SeenP50   float64   `json:"seenP50,omitempty"`
	SeenP99   float64   `json:"seenP99,omitempty"`
	CPU       float64   `json:"cpuSecondsPer10k"`
	PeakMB    float64   `json:"peakMB"`
	Calls     int       `json:"providerCalls"`
	Seen      load.Seen `json:"seen"`
	Lost      int       `json:"lost"`
	Forged    int       `json:"forgedAtTarget"`
	Wrong     int       `json:"unexpectedAnswers"`
	Harness   float64   `json:"harnessCPUs"`
	Others    float64   `json:"otherCPUs"`
}

func (l Leg) line() string {
	s := fmt.Sprintf("  pair %d  %-3s %7.0f accepted/s", l.Pair+1, l.Kind, l.Accepted)
	if l.Delivered > 0 {
		s += fmt.Sprintf(" %7.0f delivered/s", l.Delivered)
	}
	return s + fmt.Sprintf("  harness %.2f, others %.2f CPU", l.Harness, l.Others)
}

// Ratio of two kinds over the pairs.
type Ratio struct {
	Name   string    `json:"name"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Aim    float64   `json:"aim,omitempty"` // 0 = none
	Pairs  []float64 `json:"pairs"`
}

// Report of a measurement.
type Report struct {
	Name    string   `json:"name"`
	Machine Machine  `json:"machine"`
	FlushMS float64  `json:"flushP50"` // 4 KiB appended and flushed
	Pinned  bool     `json:"pinned"`
	Seed    uint64   `json:"seed"`
	Seconds float64  `json:"secondsPerLeg"`
	Kinds   []Kind   `json:"kinds"`
	Medians []Leg    `json:"medians"`
	Ratios  []Ratio  `json:"ratios"`
	Open    []Leg    `json:"open,omitempty"`
	Cost    []Cost   `json:"cost,omitempty"`
	Legs    []Leg    `json:"legs"`
	Notes   []string `json:"notes,omitempty"`
}

func (r *Report) of(kind string) []Leg {
	var out []Leg
	for _, l := range r.Legs {
		if l.Kind == kind {
			out = append(out, l)
		}
	}
	return out
}

// summarise computes medians and ratios.
func (r *Report) summarise(goals []goal) {
	for _, k := range r.Kinds {
		legs := r.of(k.Name)
		m := Leg{Kind: k.Name}
		for _, f := range []func(*Leg) *float64{
			func(l *Leg) *float64 { return &l.Accepted }, func(l *Leg) *float64 { return &l.Delivered },
			func(l *Leg) *float64 { return &l.AckP50 }, func(l *Leg) *float64 { return &l.AckP95 }, func(l *Leg) *float64 { return &l.AckP99 },
			func(l *Leg) *float64 { return &l.AckMax }, func(l *Leg) *float64 { return &l.SeenP50 }, func(l *Leg) *float64 { return &l.SeenP99 },
			func(l *Leg) *float64 { return &l.CPU }, func(l *Leg) *float64 { return &l.PeakMB }, func(l *Leg) *float64 { return &l.Harness }, func(l *Leg) *float64 { return &l.Others },
		} {
			values := make([]float64, len(legs))
			for i := range legs {
				values[i] = *f(&legs[i])
			}
			*f(&m) = median(values)
		}
		for _, l := range legs { // counts are summed: one lost event is one too many
			m.Requests += l.Requests
			m.Calls += l.Calls
			m.Lost += l.Lost
			m.Forged += l.Forged
			m.Wrong += l.Wrong
			m.Seen.Events += l.Seen.Events
			m.Seen.Writes += l.Seen.Writes
			m.Seen.Twice += l.Seen.Twice
			m.Seen.OutOfOrder += l.Seen.OutOfOrder
		}
		r.Medians = append(r.Medians, m)
	}
	for _, g := range goals {
		ratio := Ratio{Name: g.name, Aim: g.aim}
		over, unto := r.of(g.over), r.of(g.unto)
		for i := range min(len(over), len(unto)) {
			if d := g.figure(unto[i]); d > 0 {
				ratio.Pairs = append(ratio.Pairs, g.figure(over[i])/d)
			}
		}
		if len(ratio.Pairs) > 0 {
			ratio.Median, ratio.Min, ratio.Max = median(ratio.Pairs), slices.Min(ratio.Pairs), slices.Max(ratio.Pairs)
			r.Ratios = append(r.Ratios, ratio)
		}
	}
	noise, busiest := 0.0, 0.0
	for _, l := range r.Legs {
		noise, busiest = max(noise, l.Others), max(busiest, l.Harness)
	}
	if noise > 0.12 {
		r.Notes = append(r.Notes, fmt.Sprintf("other processes used up to %.2f CPUs: read the ratios with their spread", noise))
	}
	if busiest > 0.9 {
		r.Notes = append(r.Notes, fmt.Sprintf("the harness used up to %.2f CPUs: the fastest floors may be faster than shown", busiest))
	}
}

// broken is the error of a run in which Sorrel broke a promise, whatever its speed.
func (r *Report) broken() error {
	var errs []error
	for _, l := range slices.Concat(r.Legs, r.Open) {
		if l.Lost+l.Forged+l.Wrong+l.Seen.Twice+l.Seen.OutOfOrder > 0 {
			errs = append(errs, fmt.Errorf("bench %s: %s, pair %d: %d lost, %d forged at the target, %d delivered twice, %d out of order, %d unexpected answers",
				r.Name, l.Kind, l.Pair+1, l.Lost, l.Forged, l.Seen.Twice, l.Seen.OutOfOrder, l.Wrong))
		}
	}
	return errors.Join(errs...)
}

// Print writes the report for people, at most 80 columns wide.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench %s\n\n", r.Name)
	p("%s\n%s, %s, %d CPUs; flush of 4 KiB %.2f ms\n", r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs, r.FlushMS)
	bound := "peer on CPU 0, load and target on CPU 1"
	if !r.Pinned {
		bound = "not bound to CPUs"
	}
	p("peers with GOMAXPROCS=%d, %s; seed %d\n", r.Machine.GOMAXPROCS, bound, r.Seed)
	pairs := 0
	for _, l := range r.Legs {
		pairs = max(pairs, l.Pair+1)
	}
	p("medians of %d interleaved pairs, %.1f s of load each; ms are p50/p95/p99\n\n", pairs, r.Seconds)
	p("%-3s %11s %12s %18s %14s %9s %7s\n", "", "accepted/s", "delivered/s", "acknowledged ms", "seen ms 50/99", "CPU s/10k", "peak MB")
	for _, m := range r.Medians {
		p("%-3s %11s %12s %18s %14s %9.2f %7.0f\n", m.Kind, thousands(m.Accepted), dash(m.Delivered > 0, thousands(m.Delivered)),
			fmt.Sprintf("%s/%s/%s", short(m.AckP50), short(m.AckP95), short(m.AckP99)),
			dash(m.Delivered > 0, fmt.Sprintf("%s/%s", short(m.SeenP50), short(m.SeenP99))), m.CPU, m.PeakMB)
	}
	p("\n")
	for _, k := range r.Kinds {
		p("%-3s %s\n", k.Name, k.About)
	}
	p("\n%-10s %7s %15s  0%39s1\n", "ratio", "median", "spread", "")
	for _, x := range r.Ratios {
		p("%-10s %7.2f %15s  %s\n", x.Name, x.Median, fmt.Sprintf("%.2f to %.2f", x.Min, x.Max), bar(x.Median, x.Aim))
	}
	r.printCorrect(p)
	for _, c := range r.Cost {
		c.print(p)
	}
	if len(r.Open) > 0 {
		p("\nopen loop, target takes 20 ms; ms p50/p99/max\n")
		p("%8s %-3s %20s %20s %10s\n", "events/s", "", "acknowledged", "seen 50/99", "CPU s/10k")
		for _, l := range r.Open {
			p("%8.0f %-3s %20s %20s %10.2f\n", l.Rate, l.Kind, fmt.Sprintf("%s/%s/%s", short(l.AckP50), short(l.AckP99), short(l.AckMax)),
				dash(l.SeenP99 > 0, fmt.Sprintf("%s/%s", short(l.SeenP50), short(l.SeenP99))), l.CPU)
		}
	}
	for _, n := range r.Notes {
		p("\nnote: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) printCorrect(p func(string, ...any)) {
	p("\n%-3s %10s %10s %10s %10s %6s %6s %8s %6s\n", "", "requests", "events", "writes", "wr./event", "lost", "twice", "disorder", "forged")
	for _, m := range r.Medians {
		seen := m.Seen.Events > 0
		p("%-3s %10s %10s %10s %10s %6d %6d %8d %6d\n", m.Kind, thousands(float64(m.Requests)), dash(seen, thousands(float64(m.Seen.Events))),
			dash(seen, thousands(float64(m.Seen.Writes))), dash(seen, fmt.Sprintf("%.2f", float64(m.Seen.Writes)/float64(max(1, m.Seen.Events)))), m.Lost, m.Seen.Twice, m.Seen.OutOfOrder, m.Forged)
	}
}

func dash(known bool, s string) string {
	if known {
		return s
	}
	return "-"
}

// bar draws a share of 1 over 40 columns, with a mark at the aim.
func bar(v, aim float64) string {
	const width = 40
	n := int(math.Round(min(max(v, 0), 1) * width))
	line := []rune(strings.Repeat("█", n) + strings.Repeat("·", width-n))
	if aim > 0 {
		line[min(width-1, int(math.Round(aim*width)))] = '|'
	}
	return string(line)
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short prints milliseconds in four characters or so.
func short(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
