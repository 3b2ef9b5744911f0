package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/deadline"
)

// arrivals watches in which order revisions of an order reach the targets.
type arrivals struct {
	disordered atomic.Int64 // writes that began after one of a newer revision had been answered

	mu       sync.Mutex
	answered map[string]int // newest revision
}

// watch stands before a twin.
func (a *arrivals) watch(platform string, twin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPatch && r.Method != http.MethodPost && r.Method != http.MethodPut {
			twin.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil { // the process died while it sent
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		said := revisionsIn(platform, r.URL.RequestURI(), body)
		late := a.late(said)
		seen := &answer{ResponseWriter: w, status: http.StatusOK}
		twin.ServeHTTP(seen, r)
		if seen.status < 300 {
			a.disordered.Add(int64(late))
			a.note(said)
		}
	})
}

func (a *arrivals) late(said map[string]int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for key, rev := range said {
		if rev < a.answered[key] {
			n++
		}
	}
	return n
}

func (a *arrivals) note(said map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, rev := range said {
		a.answered[key] = max(a.answered[key], rev)
	}
}

// revisionsIn finds the revision of each order in a request: by its memo, or by its total where the target has no memo.
func revisionsIn(platform, address string, body []byte) map[string]int {
	out := map[string]int{}
	for rest := body; ; {
		n, rev, after, ok := load.Mark(rest)
		if !ok {
			break
		}
		out[fmt.Sprint(platform, " ", n)] = rev
		rest = after
	}
	if m := totalOf().FindSubmatch(body); len(out) == 0 && m != nil {
		if total, err := strconv.Atoi(string(m[1])); err == nil {
			out[platform+" "+address] = total - load.BaseTotal
		}
	}
	return out
}

func totalOf() *regexp.Regexp { return regexp.MustCompile(`"total":"?([0-9]+)\.5`) }

// answer remembers a status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) { a.status = status; a.ResponseWriter.WriteHeader(status) }

// Unwrap lets a twin cut the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// pacer returns what waits before each piece of work, so that there are rate of them a second; 0 = never.
func pacer(rate float64) func(context.Context) error {
	if rate <= 0 {
		return func(context.Context) error { return nil }
	}
	next := time.Now()
	return func(ctx context.Context) error {
		next = next.Add(time.Duration(float64(time.Second) / rate))
		wait := time.Until(next)
		if wait <= 0 {
			return ctx.Err()
		}
		return deadline.Pause(ctx, wait)
	}
}
