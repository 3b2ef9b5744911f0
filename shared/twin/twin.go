// Package twin is what the vendors' stand-ins have in common: counting, faults and the sending of webhooks,
// all reachable under /_twin/. Each vendor's twin (netsuitetwin, salesforcetwin, zendesktwin) brings the
// vendor's API, its limits and its webhook scheme.
//
//	GET  /_twin/state      everything the twin holds, as JSON
//	GET  /_twin/stats      calls, writes, over-limit answers, webhooks
//	GET  /_twin/fault      the faults in force, other limits and other users of them included; POST replaces them (an empty
//	                       object ends all)
//	POST /_twin/webhooks   {"url": "..."} sets where webhooks go; an empty URL stops them
//	POST /_twin/reset      forgets state, stats and faults
package twin

import (
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Faults in force. Shares are probabilities from 0 to 1.
type Faults struct {
	Outage            bool    `json:"outage,omitempty"`            // every API call answers 503 with an HTML page
	LatencyMS         int     `json:"latencyMs,omitempty"`         // added to every API call
	Throttle          float64 `json:"throttle,omitempty"`          // share of API calls answered as over the limit
	LoseReply         float64 `json:"loseReply,omitempty"`         // share of API calls done but whose connection is cut before the answer
	Fail              float64 `json:"fail,omitempty"`              // share of API calls answered 503 without doing anything
	DropWebhooks      float64 `json:"dropWebhooks,omitempty"`      // share of webhooks never sent
	DuplicateWebhooks float64 `json:"duplicateWebhooks,omitempty"` // share sent twice
	ReorderWebhooks   float64 `json:"reorderWebhooks,omitempty"`   // share held back until later ones have gone

	Limits map[string]int `json:"limits,omitempty"` // limit → what it is now, instead of the twin's option; negative = none
	Others map[string]int `json:"others,omitempty"` // limit → what administrators and other programs use of it: so many calls in every window, or at once
}

// Stats are counters since the start or the last reset.
type Stats struct {
	Calls      int            `json:"calls"`      // API calls answered, sign-ins included
	Writes     int            `json:"writes"`     // API calls that changed something (see Kit.Wrote)
	OverLimit  int            `json:"overLimit"`  // calls refused for being over a limit, those of the throttle fault included
	Over       map[string]int `json:"over"`       // … by limit, with the name of package budget; Throttle for the fault's
	Refused    int            `json:"refused"`    // calls refused for their credentials
	InFlight   int            `json:"inFlight"`   // now
	MaxFlight  int            `json:"maxFlight"`  // at most at once
	WritesTo   map[string]int `json:"writesTo"`   // "object/id" → writes
	Operations map[string]int `json:"operations"` // "METHOD pattern" → calls
	Webhooks   WebhookStats   `json:"webhooks"`
}

// WebhookStats count what left the twin.
type WebhookStats struct {
	Made, Sent, Dropped, Duplicated, Reordered, Refused, Retried int
}

// Config of a Kit.
type Config struct {
	Name      string
	Now       func() time.Time
	Seed      uint64
	Throttled func(w http.ResponseWriter, r *http.Request) // the vendor's own over-limit answer
}

// Kit is the shared part of one twin. It is safe for concurrent use.
type Kit struct {
	cfg    Config
	hooks  *sender
	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	stats  Stats
}

// NewKit returns a kit without faults.
func NewKit(cfg Config) *Kit {
	k := &Kit{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1))}
	k.hooks = newSender(k)
	k.clear()
	return k
}

func (k *Kit) clear() {
	k.stats = Stats{Over: map[string]int{}, WritesTo: map[string]int{}, Operations: map[string]int{}}
}

// Handler serves /_twin/ and passes everything else to api through the faults. state returns what the twin
// holds (it must lock for itself and return a copy); reset forgets it.
func (k *Kit) Handler(api http.Handler, state func() any, reset func()) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, a any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a) // the caller hung up: nothing to do
	}
	mux.HandleFunc("GET /_twin/state", func(w http.ResponseWriter, _ *http.Request) { answer(w, state()) })
	mux.HandleFunc("GET /_twin/stats", func(w http.ResponseWriter, _ *http.Request) { answer(w, k.Stats()) })
	mux.HandleFunc("GET /_twin/fault", func(w http.ResponseWriter, _ *http.Request) { answer(w, k.Faults()) })
	mux.HandleFunc("POST /_twin/fault", func(w http.ResponseWriter, r *http.Request) {
		var f Faults
		if !decode(w, r, &f) {
			return
		}
		k.SetFaults(f)
		answer(w, f)
	})
	mux.HandleFunc("POST /_twin/webhooks", func(w http.ResponseWriter, r *http.Request) {
		var t struct {
			URL string `json:"url"`
		}
		if !decode(w, r, &t) {
			return
		}
		k.SendTo(t.URL)
		answer(w, t)
	})
	mux.HandleFunc("POST /_twin/reset", func(w http.ResponseWriter, _ *http.Request) {
		reset()
		k.mu.Lock()
		k.clear()
		k.faults = Faults{}
		k.mu.Unlock()
		answer(w, struct{}{})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_twin/") {
			mux.ServeHTTP(w, r)
			return
		}
		k.serve(api, w, r)
	})
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && err != io.EOF {
		http.Error(w, `{"error":"not understood: `+strings.ReplaceAll(err.Error(), `"`, `'`)+`"}`, http.StatusBadRequest)
		return false
	}
	return true
}

func (k *Kit) serve(api http.Handler, w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	f := k.faults
	throttle, lose, fail := k.chance(f.Throttle), k.chance(f.LoseReply), k.chance(f.Fail)
	k.stats.Calls++
	k.stats.InFlight++
	k.stats.MaxFlight = max(k.stats.MaxFlight, k.stats.InFlight)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.stats.InFlight--
		k.mu.Unlock()
	}()
	if f.LatencyMS > 0 {
		t := time.NewTimer(time.Duration(f.LatencyMS) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f.Outage || fail:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<html><body><h1>503 Service Unavailable</h1></body></html>")
	case throttle && k.cfg.Throttled != nil:
		k.OverLimit(Throttle)
		k.cfg.Throttled(w, r)
	case lose:
		api.ServeHTTP(&lostReply{header: http.Header{}}, r)
		if h, ok := w.(http.Hijacker); ok {
			if conn, _, err := h.Hijack(); err == nil {
				_ = conn.Close() // the point of the fault
				return
			}
		}
		panic(http.ErrAbortHandler) // net/http's own way to cut a connection
	default:
		api.ServeHTTP(w, r)
	}
}

// lostReply swallows an answer that the caller will never see.
type lostReply struct{ header http.Header }

func (l *lostReply) Header() http.Header         { return l.header }
func (l *lostReply) Write(b []byte) (int, error) { return len(b), nil }
func (l *lostReply) WriteHeader(int)             {}

// chance must be called with mu held.
func (k *Kit) chance(p float64) bool { return p > 0 && k.rng.Float64() < p }

// Called counts an operation by name, such as "PATCH order".
func (k *Kit) Called(operation string) {
	k.mu.Lock()
	k.stats.Operations[operation]++
	k.mu.Unlock()
}

// Wrote counts one accepted API write to a native record, whether or not it changed a value.
func (k *Kit) Wrote(object, id string) {
	k.mu.Lock()
	k.stats.Writes++
	k.stats.WritesTo[object+"/"+id]++
	k.mu.Unlock()
}

// Throttle is the name under which Stats.Over counts refusals by the throttle fault: they say nothing about the caller.
const Throttle = "throttle"

// OverLimit counts a call refused for being over a limit.
func (k *Kit) OverLimit(limit string) {
	k.mu.Lock()
	k.stats.OverLimit++
	k.stats.Over[limit]++
	k.mu.Unlock()
}

// Limit tells what a limit is now, option being the twin's own, and how much of it others use. A negative limit is none.
func (k *Kit) Limit(name string, option int) (limit, others int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, set := k.faults.Limits[name]; set {
		option = n
	}
	return option, k.faults.Others[name]
}

// Unauthorised counts a call refused for its credentials.
func (k *Kit) Unauthorised() { k.mu.Lock(); k.stats.Refused++; k.mu.Unlock() }

// Stats returns a copy of the counters.
func (k *Kit) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Over, s.WritesTo, s.Operations = maps.Clone(s.Over), maps.Clone(s.WritesTo), maps.Clone(s.Operations)
	return s
}

// Faults returns the faults in force.
func (k *Kit) Faults() Faults { k.mu.Lock(); defer k.mu.Unlock(); return k.faults }

// SetFaults replaces the faults in force.
func (k *Kit) SetFaults(f Faults) {
	f.Limits, f.Others = maps.Clone(f.Limits), maps.Clone(f.Others)
	k.mu.Lock()
	k.faults = f
	k.mu.Unlock()
	if f.ReorderWebhooks == 0 {
		k.hooks.releaseHeld()
	}
}
