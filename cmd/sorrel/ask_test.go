package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/trigger"
)

// server answers the nth request by the nth of its answers: a status, or 0 for a connection that breaks off. asked tells the key
// and the body of each request.
func server(t *testing.T, answers ...int) (a asking, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var keys []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		status := answers[min(len(keys), len(answers)-1)]
		keys = append(keys, r.Header.Get(trigger.KeyHeader)+" "+string(body))
		mu.Unlock()
		switch {
		case status == 0:
			panic(http.ErrAbortHandler)
		case status >= 500 || status == http.StatusConflict:
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"title":"Conflict","detail":"so it is"}`)
	}))
	t.Cleanup(s.Close)
	return asking{URL: s.URL}, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(keys) }
}

// What changes something carries one key however often it is sent, and is sent again where that may help.
func TestChangesAreSentAgainWithTheirKey(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method  string
		answers []int
		sent    int
		fails   string
	}{
		"at once":          {"POST", []int{200}, 1, ""},
		"a lost answer":    {"POST", []int{0, 200}, 2, ""},
		"under way":        {"PUT", []int{409, 200}, 2, ""},
		"away for a while": {"DELETE", []int{503, 200}, 2, ""},
		"refused":          {"POST", []int{403}, 1, "so it is"},
		"a defect":         {"POST", []int{500}, 1, "so it is"},
		"a question":       {"GET", []int{503}, 1, "so it is"},
		"a lost question":  {"GET", []int{0}, 1, "ask again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, asked := server(t, c.answers...)
			var out map[string]string
			_, err := a.ask(t.Context(), screen{out: io.Discard}, question{method: c.method, path: "/v1/x", as: "ada", body: map[string]int{"n": 1}}, &out)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("%v, want %q", err, c.fails)
			}
			keys := asked()
			if len(keys) != c.sent {
				t.Fatalf("sent %d times: %q", len(keys), keys)
			}
			for _, k := range keys {
				if k != keys[0] || c.method != "GET" == strings.HasPrefix(k, " ") || !strings.HasSuffix(k, `{"n":1}`) {
					t.Errorf("%s with %q after %q", c.method, k, keys[0])
				}
			}
		})
	}
}

// A process that takes no connection is not waited for, and there is no waiting beyond the time there is.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	q := question{method: "POST", path: "/v1/x", as: "ada"}
	if _, err := (asking{URL: gone.URL}).ask(t.Context(), screen{out: io.Discard}, q, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "no Sorrel process answers") {
		t.Errorf("%v", err)
	}
	a, asked := server(t, 503)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := a.ask(ctx, screen{out: io.Discard}, q, &bytes.Buffer{}); err == nil || len(asked()) != 1 {
		t.Errorf("%v after %d", err, len(asked()))
	}
}
