package twin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/twin"
)

// world is a kit in front of an API that counts what it did.
type world struct {
	kit   *twin.Kit
	url   string
	mu    sync.Mutex
	done  int
	reset int
}

func start(t *testing.T) *world {
	w := &world{}
	w.kit = twin.NewKit(twin.Config{Name: "acme", Now: time.Now, Seed: 1, Throttled: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }})
	api := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.done++
		w.mu.Unlock()
		w.kit.Called("GET /thing")
		w.kit.Wrote("thing", "1")
		_, _ = io.WriteString(rw, "ok")
	})
	srv := httptest.NewServer(w.kit.Handler(api, func() any { return map[string]int{"done": w.done} }, func() { w.reset++ }))
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

func (w *world) did() int { w.mu.Lock(); defer w.mu.Unlock(); return w.done }

func call(t *testing.T, method, url, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestFaultsOnCalls(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault  twin.Faults
		status int // 0 = the connection is cut
		does   bool
	}{
		"none":      {twin.Faults{}, 200, true},
		"outage":    {twin.Faults{Outage: true}, 503, false},
		"fail":      {twin.Faults{Fail: 1}, 503, false},
		"throttle":  {twin.Faults{Throttle: 1}, 429, false},
		"loseReply": {twin.Faults{LoseReply: 1}, 0, true},
		"latency":   {twin.Faults{LatencyMS: 30}, 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.kit.SetFaults(tt.fault)
			begun := time.Now()
			status, body, err := call(t, "POST", w.url+"/thing", "{}")
			if status != tt.status || (err != nil) != (tt.status == 0) || (w.did() == 1) != tt.does {
				t.Errorf("status %d, error %v, done %d times; want %d and done %v", status, err, w.did(), tt.status, tt.does)
			}
			if status == 503 && !strings.HasPrefix(body, "<html>") {
				t.Errorf("an outage answers %q, want a page", body)
			}
			if name == "latency" && time.Since(begun) < 30*time.Millisecond {
				t.Error("the latency was not added")
			}
			s := w.kit.Stats()
			if s.Calls != 1 || (name == "throttle") != (s.OverLimit == 1) || tt.does != (s.Writes == 1 && s.WritesTo["thing/1"] == 1 && s.Operations["GET /thing"] == 1) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestSharesAreShares(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.kit.SetFaults(twin.Faults{Fail: 0.3})
	failed := 0
	for range 300 {
		if status, _, _ := call(t, "GET", w.url+"/thing", ""); status == 503 {
			failed++
		}
	}
	if failed < 50 || failed > 130 {
		t.Errorf("a share of 0.3 failed %d of 300 calls", failed)
	}
}

func TestControlOverHTTP(t *testing.T) {
	t.Parallel()
	w := start(t)
	steps := []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"POST", "/_twin/fault", `{"outage":true}`, 200, `{"outage":true}`},
		{"GET", "/_twin/fault", ``, 200, `{"outage":true}`},
		{"GET", "/thing", ``, 503, `<html>`},
		{"GET", "/_twin/state", ``, 200, `{"done":0}`}, // faults do not reach the controls
		{"POST", "/_twin/fault", `{"limits":{"calls":200},"others":{"calls":150}}`, 200, `{"limits":{"calls":200},"others":{"calls":150}}`},
		{"POST", "/_twin/fault", `{"outrage":true}`, 400, `outrage`},
		{"POST", "/_twin/fault", `{`, 400, `not understood`},
		{"POST", "/_twin/webhooks", `{"url":"http://127.0.0.1:1/x"}`, 200, `127.0.0.1:1`},
		{"POST", "/_twin/fault", `{}`, 200, `{}`},
		{"GET", "/thing", ``, 200, `ok`},
		{"GET", "/_twin/stats", ``, 200, `"calls":2`},
		{"POST", "/_twin/fault", `{"fail":1}`, 200, ``},
		{"POST", "/_twin/reset", ``, 200, `{}`},
		{"GET", "/_twin/stats", ``, 200, `"calls":0`},
		{"GET", "/_twin/fault", ``, 200, `{}`},
	}
	for i, s := range steps {
		status, body, err := call(t, s.method, w.url+s.path, s.body)
		if err != nil || status != s.status || !strings.Contains(body, s.answer) {
			t.Fatalf("step %d %s %s: %d %q %v, want %d with %q", i, s.method, s.path, status, body, err, s.status, s.answer)
		}
	}
	if w.reset != 1 || w.kit.Target() != "http://127.0.0.1:1/x" {
		t.Errorf("reset ran %d times, webhooks go to %q", w.reset, w.kit.Target())
	}
}

// inbox receives webhooks whose body is a number, and answers with status.
type inbox struct {
	mu     sync.Mutex
	got    []string
	status func(n int) int
}

func receive(t *testing.T, k *twin.Kit, status func(n int) int) *inbox {
	in := &inbox{status: status}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		in.mu.Lock()
		in.got = append(in.got, string(b))
		n := len(in.got)
		in.mu.Unlock()
		w.WriteHeader(in.status(n))
	}))
	t.Cleanup(srv.Close)
	k.SendTo(srv.URL)
	return in
}

func always(status int) func(int) int { return func(int) int { return status } }

func hook(n int) twin.Webhook {
	return twin.Webhook{Request: func(url string) (*http.Request, error) {
		return http.NewRequest("POST", url, strings.NewReader(fmt.Sprint(n)))
	}}
}

func drain(t *testing.T, k *twin.Kit) {
	t.Helper()
	if err := k.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWebhookShares(t *testing.T) {
	t.Parallel()
	const many = 400
	for name, tt := range map[string]struct {
		fault   twin.Faults
		counter func(s twin.WebhookStats) int
		arrive  func(counted int) int
	}{
		"drop":      {twin.Faults{DropWebhooks: 0.25}, func(s twin.WebhookStats) int { return s.Dropped }, func(n int) int { return many - n }},
		"duplicate": {twin.Faults{DuplicateWebhooks: 0.25}, func(s twin.WebhookStats) int { return s.Duplicated }, func(n int) int { return many + n }},
		"reorder":   {twin.Faults{ReorderWebhooks: 0.25}, func(s twin.WebhookStats) int { return s.Reordered }, func(int) int { return many }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			in := receive(t, w.kit, always(202))
			w.kit.SetFaults(tt.fault)
			for i := range many {
				w.kit.Push(hook(i))
			}
			drain(t, w.kit)
			s := w.kit.Stats().Webhooks
			n := tt.counter(s)
			if s.Made != many || n < 60 || n > 140 {
				t.Errorf("a share of 0.25 hit %d of %d: %+v", n, many, s)
			}
			if len(in.got) != tt.arrive(n) || s.Sent != len(in.got) {
				t.Errorf("%d arrived, want %d; %+v", len(in.got), tt.arrive(n), s)
			}
		})
	}
}

// A held webhook must go after a later one, and must not stay behind when the fault ends.
func TestReorderHoldsBackUntilLaterOnesWent(t *testing.T) {
	t.Parallel()
	w := start(t)
	in := receive(t, w.kit, always(200))
	w.kit.SetFaults(twin.Faults{ReorderWebhooks: 1})
	for i := range 3 {
		w.kit.Push(hook(i))
	}
	if len(in.got) != 0 {
		t.Fatal("a held webhook was sent")
	}
	w.kit.SetFaults(twin.Faults{})
	drain(t, w.kit)
	if len(in.got) != 3 {
		t.Fatalf("%d of 3 held webhooks arrived", len(in.got))
	}
	w.kit.SetFaults(twin.Faults{ReorderWebhooks: 1})
	w.kit.Push(hook(3))
	drain(t, w.kit)
	if len(in.got) != 4 {
		t.Error("Drain left a held webhook behind")
	}
}

func TestRetryIsUpToTheVendor(t *testing.T) {
	t.Parallel()
	w := start(t)
	in := receive(t, w.kit, func(n int) int {
		if n < 3 {
			return 500
		}
		return 200
	})
	h := hook(1)
	var attempts []int
	h.After = func(attempt, status int, _ []byte) (time.Duration, bool) {
		attempts = append(attempts, attempt)
		return time.Millisecond, status != 200
	}
	w.kit.Push(h)
	drain(t, w.kit)
	if s := w.kit.Stats().Webhooks; len(in.got) != 3 || s.Sent != 3 || s.Refused != 2 || s.Retried != 2 || fmt.Sprint(attempts) != "[1 2 3]" {
		t.Errorf("%d arrived, %+v, attempts %v", len(in.got), s, attempts)
	}
	h = hook(2)
	w.kit.SendTo("http://127.0.0.1:1")
	w.kit.Push(h)
	drain(t, w.kit)
	if s := w.kit.Stats().Webhooks; s.Refused != 3 || s.Retried != 2 {
		t.Errorf("without After there is one attempt: %+v", s)
	}
}

func TestRetrySeesTheHeaderAndToGoesElsewhere(t *testing.T) {
	t.Parallel()
	w := start(t)
	var seen http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "5") }))
	t.Cleanup(srv.Close)
	h := hook(1)
	h.To = func() string { return srv.URL }
	h.Retry = func(_, _ int, header http.Header) (time.Duration, bool) { seen = header; return 0, false }
	w.kit.Push(h)
	drain(t, w.kit)
	if seen.Get("Retry-After") != "5" {
		t.Errorf("the answer's header was %v", seen)
	}
}

func TestNoTargetMakesNoWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.kit.Push(hook(1))
	drain(t, w.kit)
	if s := w.kit.Stats().Webhooks; s.Made != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDrainHearsItsContext(t *testing.T) {
	t.Parallel()
	w := start(t)
	release := make(chan bool)
	h := hook(1)
	h.Request = func(string) (*http.Request, error) { <-release; return nil, fmt.Errorf("no request") }
	w.kit.SendTo("http://127.0.0.1:1")
	w.kit.Push(h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.kit.Drain(ctx); err == nil {
		t.Error("Drain did not wait")
	}
	close(release)
	drain(t, w.kit)
}

func TestStatsAreCopies(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.kit.Wrote("a", "1")
	s := w.kit.Stats()
	s.WritesTo["a/1"] = 9
	w.kit.OverLimit("calls")
	w.kit.Unauthorised()
	if s = w.kit.Stats(); s.WritesTo["a/1"] != 1 || s.OverLimit != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
}

func TestLimitsAndOthers(t *testing.T) {
	t.Parallel()
	w := start(t)
	if limit, others := w.kit.Limit("calls", 700); limit != 700 || others != 0 {
		t.Errorf("by itself: %d, %d by others", limit, others)
	}
	f := twin.Faults{Limits: map[string]int{"calls": 200}, Others: map[string]int{"calls": 150, "exports": 3}}
	w.kit.SetFaults(f)
	f.Limits["calls"] = 1 // the kit has its own
	if limit, others := w.kit.Limit("calls", 700); limit != 200 || others != 150 {
		t.Errorf("set: %d, %d by others", limit, others)
	}
	if limit, others := w.kit.Limit("exports", 10); limit != 10 || others != 3 {
		t.Errorf("exports: %d, %d by others", limit, others)
	}
	w.kit.OverLimit("calls")
	w.kit.OverLimit("exports")
	w.kit.OverLimit("calls")
	if s := w.kit.Stats(); s.OverLimit != 3 || s.Over["calls"] != 2 || s.Over["exports"] != 1 {
		t.Errorf("%d over: %v", s.OverLimit, s.Over)
	}
}

// Whoever sends webhooks instead of the kit gets those that its faults leave, and asks the vendor's rule about repeats.
func TestSendBy(t *testing.T) {
	t.Parallel()
	w := start(t)
	var got []twin.Webhook
	w.kit.SendBy(func(h twin.Webhook) { got = append(got, h) })
	hook := twin.Webhook{After: func(attempt, status int, _ []byte) (time.Duration, bool) {
		return time.Duration(attempt) * time.Minute, status != 200
	}}
	w.kit.Push(hook)
	if len(got) != 0 {
		t.Fatal("webhooks go nowhere, and one was handed over")
	}
	w.kit.SendTo("http://nowhere.test")
	w.kit.Push(hook)
	w.kit.SetFaults(twin.Faults{DuplicateWebhooks: 1})
	w.kit.Push(hook)
	if len(got) != 3 {
		t.Fatalf("%d handed over, want one and a duplicated one", len(got))
	}
	if err := w.kit.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if wait, again := got[0].Again(2, 500, nil, nil); wait != 2*time.Minute || !again {
		t.Errorf("after a failure: %s, %t", wait, again)
	}
	if _, again := got[0].Again(1, 200, nil, nil); again {
		t.Error("again after a success")
	}
	if _, again := (twin.Webhook{}).Again(1, 500, nil, nil); again {
		t.Error("a vendor without a rule tries again")
	}
}
