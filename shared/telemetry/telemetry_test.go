package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var at = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func clock() time.Time { return at }

// Quantiles are right to one bucket, an eighth of an octave, and never below the truth nor above the longest.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(rng.NormFloat64()*2+8)) * time.Microsecond
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 0.999, 1} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		got := h.Quantile(q)
		if ratio := float64(got) / float64(want); ratio < 0.999 || ratio > math.Exp2(1.0/perOctave)+0.001 {
			t.Errorf("p%v is %s, in truth %s", q*100, got, want)
		}
	}
	if h.Count() != 10_000 || h.Max() != all[len(all)-1] || h.Quantile(1) > h.Max() {
		t.Errorf("count %d, max %s, p100 %s", h.Count(), h.Max(), h.Quantile(1))
	}
	var edge Histogram
	if edge.Quantile(0.5) != 0 {
		t.Error("nothing has a median")
	}
	for _, d := range []time.Duration{-time.Second, 0, 1, math.MaxInt64} {
		edge.Add(d) // must not fall outside
	}
	if edge.Count() != 4 || edge.Quantile(0.5) > 2*time.Microsecond {
		t.Errorf("count %d, median %s", edge.Count(), edge.Quantile(0.5))
	}
}

// lines checks w against the specification of the embedded metric format and returns name → value by platform.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func lines(t *testing.T, w []byte) map[string]map[string]float64 {
	t.Helper()
	out := map[string]map[string]float64{}
	for line := range strings.Lines(string(w)) {
		var root map[string]any
		if err := json.Unmarshal([]byte(line), &root); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		meta, ok := root["_aws"].(map[string]any)
		if !ok || meta["Timestamp"] != float64(at.UnixMilli()) {
			t.Fatalf("_aws is %v", root["_aws"])
		}
		directives, ok := meta["CloudWatchMetrics"].([]any)
		if !ok || len(directives) != 1 {
			t.Fatalf("CloudWatchMetrics is %v", meta["CloudWatchMetrics"])
		}
		d := directives[0].(map[string]any)
		if d["Namespace"] != Namespace {
			t.Errorf("namespace %v", d["Namespace"])
		}
		for _, set := range d["Dimensions"].([]any) {
			if n := len(set.([]any)); n == 0 || n > 30 {
				t.Errorf("%d dimensions", n)
			}
			for _, name := range set.([]any) {
				if v, ok := root[name.(string)].(string); !ok || v == "" {
					t.Errorf("dimension %s has value %v", name, root[name.(string)])
				}
			}
		}
		metrics := d["Metrics"].([]any)
		if len(metrics) == 0 || len(metrics) > 100 {
			t.Errorf("%d metrics in one directive", len(metrics))
		}
		platform, _ := root["Platform"].(string)
		out[platform] = map[string]float64{}
		for _, m := range metrics {
			name := m.(map[string]any)["Name"].(string)
			unit := m.(map[string]any)["Unit"]
			switch v := root[name].(type) {
			case float64:
				if unit != "Count" && unit != "Seconds" {
					t.Errorf("%s has unit %v", name, unit)
				}
				out[platform][name] = v
			case []any: // durations; the last stands for all
				if unit != "Milliseconds" || len(v) == 0 || len(v) > 100 {
					t.Errorf("%s has unit %v and %d values", name, unit, len(v))
				}
				out[platform][name] = v[len(v)-1].(float64)
			default:
				t.Errorf("%s has value %v", name, v)
			}
		}
	}
	return out
}

func TestFlushWritesEmbeddedMetricsAndStartsAnew(t *testing.T) {
	t.Parallel()
	r := New(nil, clock, nil)
	var w bytes.Buffer
	if err := r.Flush(&w, "dev"); err != nil || w.Len() != 0 {
		t.Errorf("nothing was counted, yet %s (%v)", w.Bytes(), err)
	}
	r.Count("Written", "zendesk", 2)
	r.Count("Written", "zendesk", 1)
	r.Count("WebhooksRefused", "", 1)
	r.Gauge("DueOldestAge", "zendesk", 12.5)
	r.Gauge("DueOldestAge", "zendesk", 3)
	r.Took("Freshness", "zendesk", time.Second)
	if err := r.Flush(&w, "dev"); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(lines(t, w.Bytes()))
	if want := "map[:map[WebhooksRefused:1] zendesk:map[DueOldestAge:3 Freshness:1000 Written:3]]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !strings.Contains(w.String(), `{"Name":"DueOldestAge","Unit":"Seconds"}`) || !strings.Contains(w.String(), `"Dimensions":[["Stage","Platform"]]`) {
		t.Errorf("written: %s", w.Bytes())
	}
	w.Reset()
	r.Count("Written", "zendesk", 5)
	if err := r.Flush(&w, "dev"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(lines(t, w.Bytes())); got != "map[zendesk:map[Written:5]]" {
		t.Errorf("the second flush says %s", got)
	}
	s := r.Snapshot()
	if s.Counters["Written.zendesk"] != 8 || s.Counters["WebhooksRefused"] != 1 || s.Durations["Freshness.zendesk"]["count"] != 1 || s.Durations["Freshness.zendesk"]["p50"] != 1000 {
		t.Errorf("snapshot %+v", s)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestFlushTellsOfAClosedWriter(t *testing.T) {
	t.Parallel()
	r := New(nil, clock, nil)
	r.Count("Written", "", 1)
	if err := r.Flush(broken{}, "dev"); err == nil {
		t.Error("no error")
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var heard []Event
	r := New(slog.New(slog.NewJSONHandler(&log, nil)), clock, func(e Event) { heard = append(heard, e) })
	r.Event(t.Context(), Event{Step: "written", Platform: "zendesk", Record: "order/7", Trace: "t1", Fields: []string{"status", "total"}})
	r.Event(t.Context(), Event{Step: "failed", Err: errors.New("away")})
	if len(heard) != 2 || !heard[0].At.Equal(at) {
		t.Errorf("heard %+v", heard)
	}
	var first, second map[string]any
	dec := json.NewDecoder(&log)
	if dec.Decode(&first) != nil || dec.Decode(&second) != nil {
		t.Fatal("not two JSON lines")
	}
	delete(first, "time")
	if got, want := fmt.Sprint(first), "map[correlationId:t1 fields:status total level:INFO msg:written platform:zendesk record:order/7]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if second["level"] != "WARN" || second["error"] != "away" {
		t.Errorf("a failure is logged as %v", second)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	r := New(nil, clock, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum := 0.0
	for range 8 {
		wg.Go(func() {
			for range 200 {
				r.Count("n", "p", 1)
				r.Gauge("g", "p", 1)
				r.Took("d", "p", time.Millisecond)
				r.Snapshot()
				var w bytes.Buffer
				if err := r.Flush(&w, "dev"); err != nil {
					t.Error(err)
				}
				if w.Len() > 0 {
					v := lines(t, w.Bytes())["p"]["n"]
					mu.Lock()
					sum += v
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if got := r.Snapshot().Counters["n.p"]; got != 1600 || sum != 1600 {
		t.Errorf("counted %v, flushed %v, want 1600", got, sum)
	}
}
