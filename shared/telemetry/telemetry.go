// Package telemetry says what happens: structured events for people (logs, the demo's narration) and counted
// metrics for machines (CloudWatch embedded metric format on AWS, a snapshot for `sorrel status` elsewhere).
//
// Nothing here carries payloads, credentials or personal data: events name records and fields, not values.
package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Namespace of all metrics in CloudWatch.
const Namespace = "Sorrel"

// Event is one thing that happened to one business transaction.
type Event struct {
	At       time.Time
	Step     string // accepted, refused, observed, changed, read, written, unchanged, kept-due, held, parked, swept, listed
	Platform string
	Record   string // record id, or native reference
	Trace    string // correlation id
	Detail   string
	Fields   []string
	Err      error
}

// Recorder collects metrics and passes events on. The zero Recorder is not usable; New makes one. It is safe
// for concurrent use.
type Recorder struct {
	log     *slog.Logger
	now     func() time.Time
	listen  func(Event)
	mu      sync.Mutex
	counts  map[series]float64 // since the last Flush
	totals  map[series]float64
	samples map[series]*Histogram
	recent  map[series][]float64 // milliseconds since the last Flush, at most maxRecent
	gauges  map[series]float64
}

type series struct{ name, platform string }

// New returns a recorder that logs to log (nil = nowhere) and calls listen (nil = nobody) for every event.
func New(log *slog.Logger, now func() time.Time, listen func(Event)) *Recorder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{log: log, now: now, listen: listen, counts: map[series]float64{},
		totals: map[series]float64{}, samples: map[series]*Histogram{}, recent: map[series][]float64{}, gauges: map[series]float64{}}
}

// Event records e: a log line, and the listener.
func (r *Recorder) Event(ctx context.Context, e Event) {
	if r.listen != nil {
		if e.At.IsZero() {
			e.At = r.now()
		}
		r.listen(e)
	}
	level := slog.LevelInfo
	if e.Err != nil {
		level = slog.LevelWarn
	}
	if !r.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 6)
	for _, a := range [...][2]string{{"platform", e.Platform}, {"record", e.Record}, {"correlationId", e.Trace}, {"detail", e.Detail}, {"fields", strings.Join(e.Fields, " ")}} {
		if a[1] != "" {
			attrs = append(attrs, slog.String(a[0], a[1]))
		}
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	r.log.LogAttrs(ctx, level, e.Step, attrs...)
}

// Count adds n to a counter. platform may be empty.
func (r *Recorder) Count(name, platform string, n float64) {
	k := series{name, platform}
	r.mu.Lock()
	r.counts[k] += n
	r.totals[k] += n
	r.mu.Unlock()
}

// Gauge sets a level, such as the age of the oldest due work.
func (r *Recorder) Gauge(name, platform string, v float64) {
	r.mu.Lock()
	r.gauges[series{name, platform}] = v
	r.mu.Unlock()
}

// Took records a duration, in milliseconds.
func (r *Recorder) Took(name, platform string, d time.Duration) {
	k := series{name, platform}
	r.mu.Lock()
	h := r.samples[k]
	if h == nil {
		h = &Histogram{}
		r.samples[k] = h
	}
	h.Add(d)
	if len(r.recent[k]) < maxRecent {
		r.recent[k] = append(r.recent[k], ms(d))
	}
	r.mu.Unlock()
}

// maxRecent is how many values one metric of an embedded metric line may have.
const maxRecent = 100

// Snapshot is every metric's total since the start.
type Snapshot struct {
	Counters  map[string]float64            `json:"counters"`
	Gauges    map[string]float64            `json:"gauges"`
	Durations map[string]map[string]float64 `json:"durationsMs"`
}

func (s series) String() string {
	if s.platform == "" {
		return s.name
	}
	return s.name + "." + s.platform
}

// Snapshot returns the totals.
func (r *Recorder) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Snapshot{map[string]float64{}, map[string]float64{}, map[string]map[string]float64{}}
	for k, v := range r.totals {
		s.Counters[k.String()] = v
	}
	for k, v := range r.gauges {
		s.Gauges[k.String()] = v
	}
	for k, h := range r.samples {
		s.Durations[k.String()] = map[string]float64{"p50": ms(h.Quantile(0.5)), "p95": ms(h.Quantile(0.95)), "p99": ms(h.Quantile(0.99)), "count": float64(h.Count())}
	}
	return s
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Flush writes what was counted since the last Flush to w as CloudWatch embedded metric format, one line per
// platform, and nothing when nothing was counted.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func (r *Recorder) Flush(w io.Writer, stage string) error {
	r.mu.Lock()
	counts, gauges, recent := r.counts, r.gauges, r.recent
	r.counts, r.gauges, r.recent = map[series]float64{}, map[series]float64{}, map[series][]float64{}
	r.mu.Unlock()
	byPlatform := map[string]map[string]any{}
	put := func(k series, v any) {
		if byPlatform[k.platform] == nil {
			byPlatform[k.platform] = map[string]any{}
		}
		byPlatform[k.platform][k.name] = v
	}
	for _, m := range []map[series]float64{counts, gauges} {
		for k, v := range m {
			put(k, v)
		}
	}
	for k, v := range recent {
		put(k, v)
	}
	for _, p := range slices.Sorted(maps.Keys(byPlatform)) {
		line, err := embedded(r.now(), stage, p, byPlatform[p])
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func embedded(now time.Time, stage, platform string, values map[string]any) ([]byte, error) {
	type metric struct {
		Name string
		Unit string
	}
	dimensions := []string{"Stage"}
	root := map[string]any{"Stage": stage}
	if platform != "" {
		dimensions = append(dimensions, "Platform")
		root["Platform"] = platform
	}
	var metrics []metric
	for _, name := range slices.Sorted(maps.Keys(values)) {
		unit := "Count"
		if _, durations := values[name].([]float64); durations {
			unit = "Milliseconds"
		} else if strings.HasSuffix(name, "Seconds") || strings.HasSuffix(name, "Age") {
			unit = "Seconds"
		}
		metrics = append(metrics, metric{name, unit})
		root[name] = values[name]
	}
	root["_aws"] = map[string]any{"Timestamp": now.UnixMilli(), "CloudWatchMetrics": []any{map[string]any{
		"Namespace": Namespace, "Dimensions": [][]string{dimensions}, "Metrics": metrics}}}
	return json.Marshal(root)
}
