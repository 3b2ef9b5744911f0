package vendorhttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/vendorhttp"
)

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time          { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) advance(d time.Duration) { c.mu.Lock(); c.at = c.at.Add(d); c.mu.Unlock() }

// vendor serves h and returns a client of it.
func vendor(t *testing.T, clk *clock, h http.HandlerFunc, change func(*vendorhttp.Config)) *vendorhttp.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := vendorhttp.Config{Name: "acme", Base: srv.URL, Now: clk.now}
	if change != nil {
		change(&cfg)
	}
	c, err := vendorhttp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gate returns a gate whose breaker opens after some failures in a row, and how to ask whether it is open.
func gate(clk *clock, trip int, pause time.Duration, limits ...budget.Limit) (budget.Gate, func() (bool, time.Time)) {
	s := budget.NewShared(budget.NewMemory(), budget.Options{Worker: "w", Now: clk.now, Trip: trip, Patience: 10 * time.Second})
	if len(limits) == 0 {
		limits = []budget.Limit{{Name: budget.Calls, Max: 3}}
	}
	g := s.Gate("acme")
	g.Keep(budget.Rules{Limits: limits, Pause: pause})
	return g, func() (bool, time.Time) {
		o, err := s.Look(context.Background(), "acme")
		return o.Open && err == nil, o.Until
	}
}

func get() vendorhttp.Request { return vendorhttp.Request{Op: "read", Method: "GET", Path: "/x"} }

func put() vendorhttp.Request {
	return vendorhttp.Request{Op: "write", Method: "PUT", Path: "/x", Body: []byte(`{}`), Write: true}
}

func want(t *testing.T, err error, class fault.Class) {
	t.Helper()
	if !fault.Is(err, class) {
		t.Fatalf("error %v is of class %q, want %q", err, fault.ClassOf(err), class)
	}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var status, calls atomic.Int64
	status.Store(503)
	g, state := gate(clk, 3, 10*time.Second)
	c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); w.WriteHeader(int(status.Load())) },
		func(c *vendorhttp.Config) { c.Gate = g })
	for range 3 {
		_, err := c.Do(t.Context(), get())
		want(t, err, fault.Down)
	}
	if open, until := state(); !open || !until.Equal(clk.now().Add(10*time.Second)) {
		t.Fatalf("after 3 failures open is %v until %v", open, until)
	}
	_, err := c.Do(t.Context(), get())
	if want(t, err, fault.Down); calls.Load() != 3 || !fault.RetryAt(err).After(clk.now()) {
		t.Fatalf("an open breaker let a call through (%d) or gave no time: %v", calls.Load(), err)
	}
	clk.advance(10 * time.Second) // half open: the probe fails and the pause doubles
	_, err = c.Do(t.Context(), get())
	want(t, err, fault.Down)
	if _, until := state(); calls.Load() != 4 || !until.Equal(clk.now().Add(20*time.Second)) {
		t.Fatalf("after a failed probe: %d calls, open until %v", calls.Load(), until)
	}
	status.Store(200)
	clk.advance(20 * time.Second)
	if _, err = c.Do(t.Context(), get()); err != nil {
		t.Fatal(err)
	}
	if open, _ := state(); open {
		t.Fatal("a good probe did not close the breaker")
	}
}

func TestHalfOpenLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	clk := newClock()
	entered, release := make(chan bool, 10), make(chan bool)
	var broken atomic.Bool
	broken.Store(true)
	c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
			return
		}
		entered <- true
		<-release
	}, func(c *vendorhttp.Config) { c.Gate, _ = gate(clk, 1, time.Second) })
	_, err := c.Do(t.Context(), get())
	want(t, err, fault.Down)
	broken.Store(false)
	clk.advance(time.Minute)
	done := make(chan error)
	go func() { _, err := c.Do(context.Background(), get()); done <- err }()
	<-entered
	_, err = c.Do(t.Context(), get())
	want(t, err, fault.Down)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestThrottlePause(t *testing.T) {
	t.Parallel()
	clk := newClock()
	for _, tt := range []struct {
		header string
		pause  time.Duration
	}{
		{"", time.Second}, {"7", 7 * time.Second}, {"99999999999", time.Hour}, {"999999999999999999999999", time.Hour}, {"1000000000000000000", time.Hour},
		{"-5", time.Second}, {"-99999999999999999999", time.Second}, {"0", time.Second}, {"soon", time.Second}, {"1.5", time.Second}, {"5, 9", time.Second},
		{clk.now().Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{clk.now().Add(1000 * time.Hour).Format(http.TimeFormat), time.Hour},
		{clk.now().Add(-time.Hour).Format(http.TimeFormat), time.Second},
		{"Thu, 01 Jan 1970 00:00:00 GMT", time.Second}, {"Fri, 01 Jan 2999 00:00:00 GMT", time.Hour}, {"Fri, 31 Dec 9999 23:59:59 GMT", time.Hour},
	} {
		t.Run(tt.header, func(t *testing.T) {
			t.Parallel()
			clk := newClock()
			var calls atomic.Int64
			c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) == 1 {
					if tt.header != "" {
						w.Header().Set("Retry-After", tt.header)
					}
					w.WriteHeader(429)
				}
			}, nil)
			_, err := c.Do(t.Context(), get())
			want(t, err, fault.Throttled)
			if at := fault.RetryAt(err); !at.Equal(clk.now().Add(tt.pause)) {
				t.Errorf("Retry-After %q pauses %v, want %v", tt.header, at.Sub(clk.now()), tt.pause)
			}
			_, err = c.Do(t.Context(), get())
			if want(t, err, fault.Throttled); calls.Load() != 1 {
				t.Error("the pause was not kept")
			}
			clk.advance(tt.pause)
			if _, err = c.Do(t.Context(), get()); err != nil {
				t.Errorf("after the pause: %v", err)
			}
		})
	}
}

func TestLongestRetryAfterCounts(t *testing.T) {
	t.Parallel()
	clk := newClock()
	c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Retry-After"] = []string{"soon", "7", clk.now().Add(time.Minute).Format(http.TimeFormat), "30", "-1"}
		w.WriteHeader(503)
	}, nil)
	_, err := c.Do(t.Context(), get())
	want(t, err, fault.Down)
	if at := fault.RetryAt(err); !at.Equal(clk.now().Add(time.Minute)) {
		t.Errorf("pause of %v, want a minute", at.Sub(clk.now()))
	}
}

// tokens counts sign-ins; each gives "Bearer n".
func tokens(clk *clock, life time.Duration, fetches *atomic.Int64) *vendorhttp.Tokens {
	return vendorhttp.NewTokens(func(context.Context) (vendorhttp.Token, error) {
		return vendorhttp.Token{Header: fmt.Sprintf("Bearer %d", fetches.Add(1)), Expires: clk.now().Add(life)}, nil
	}, clk.now)
}

func TestTokenIsRefreshedOnceAfter401(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var fetches, calls atomic.Int64
	var good atomic.Value
	good.Store("Bearer 2")
	c := vendor(t, clk, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1); r.Header.Get("Authorization") != good.Load() {
			w.WriteHeader(401)
		}
	}, func(c *vendorhttp.Config) { c.Tokens = tokens(clk, time.Hour, &fetches) })
	if _, err := c.Do(t.Context(), get()); err != nil || fetches.Load() != 2 || calls.Load() != 2 {
		t.Fatalf("%v after %d sign-ins and %d calls", err, fetches.Load(), calls.Load())
	}
	good.Store("nobody")
	_, err := c.Do(t.Context(), get())
	want(t, err, fault.Unauthenticated)
	if fetches.Load() != 3 || calls.Load() != 4 {
		t.Errorf("a second 401 led to %d sign-ins and %d calls", fetches.Load(), calls.Load())
	}
}

func TestTokenIsRenewedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var fetches atomic.Int64
	c := vendor(t, clk, func(http.ResponseWriter, *http.Request) {}, func(c *vendorhttp.Config) { c.Tokens = tokens(clk, time.Hour, &fetches) })
	for i, pause := range []time.Duration{0, 58 * time.Minute, 90 * time.Second} {
		clk.advance(pause)
		if _, err := c.Do(t.Context(), get()); err != nil {
			t.Fatal(err)
		}
		if wanted := []int64{1, 1, 2}[i]; fetches.Load() != wanted {
			t.Errorf("step %d: %d sign-ins, want %d", i, fetches.Load(), wanted)
		}
	}
}

func TestConcurrentCallersShareOneSignIn(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var fetches atomic.Int64
	c := vendor(t, clk, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer 1" {
			w.WriteHeader(401)
		}
	}, func(c *vendorhttp.Config) { c.Tokens = tokens(clk, time.Hour, &fetches) })
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() {
			if _, err := c.Do(context.Background(), get()); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if fetches.Load() != 2 {
		t.Errorf("20 callers and one refused token led to %d sign-ins, want 2", fetches.Load())
	}
}

func TestRefusedSignInIsNotAnOutage(t *testing.T) {
	t.Parallel()
	clk := newClock()
	c := vendor(t, clk, func(http.ResponseWriter, *http.Request) { t.Error("called without a token") }, func(c *vendorhttp.Config) {
		c.Gate, _ = gate(clk, 2, time.Second)
		c.Tokens = vendorhttp.NewTokens(func(context.Context) (vendorhttp.Token, error) {
			return vendorhttp.Token{}, fault.New(fault.Unauthenticated, "sign-in", "key revoked")
		}, clk.now)
	})
	for range 5 {
		_, err := c.Do(t.Context(), get())
		want(t, err, fault.Unauthenticated)
	}
}

func TestLostReply(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var calls atomic.Int64
	c := vendor(t, clk, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			return // warms the connection: net/http repeats some requests only on a used one
		}
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}, nil)
	if _, err := c.Do(t.Context(), get()); err != nil {
		t.Fatal(err)
	}
	w := put()
	w.Header = http.Header{"Idempotency-Key": {"k"}}
	_, err := c.Do(t.Context(), w)
	want(t, err, fault.Unknown)
	if calls.Load() != 2 {
		t.Errorf("a lost write was sent %d times", calls.Load()-1)
	}
	_, err = c.Do(t.Context(), get())
	want(t, err, fault.Down)
}

func TestNoConnectionIsDownEvenForWrites(t *testing.T) {
	t.Parallel()
	clk := newClock()
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c, err := vendorhttp.New(vendorhttp.Config{Name: "acme", Base: srv.URL, Now: clk.now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(t.Context(), put())
	want(t, err, fault.Down)
}

func TestRedirectsAndForeignLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	clk := newClock()
	foreign := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the credential went elsewhere") }))
	t.Cleanup(foreign.Close)
	c := vendor(t, clk, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			return
		}
		http.Redirect(w, r, foreign.URL, http.StatusFound)
	}, func(c *vendorhttp.Config) { c.Tokens = vendorhttp.Static("Bearer x") })
	_, err := c.Do(t.Context(), get())
	want(t, err, fault.Internal)
	r := get()
	for _, link := range []string{foreign.URL + "/next", "https://" + c.Host() + "/next", "http://" + c.Host() + "@evil.test/next"} {
		r.Path = link
		_, err = c.Do(t.Context(), r)
		want(t, err, fault.Internal)
	}
	r.Path = "http://" + c.Host() + "/next"
	if _, err = c.Do(t.Context(), r); err != nil {
		t.Errorf("a link to the same host: %v", err)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	clk := newClock()
	c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 1<<20)
		for range 33 {
			_, _ = w.Write(b)
		}
	}, nil)
	_, err := c.Do(t.Context(), get())
	want(t, err, fault.Down)
	_, err = c.Do(t.Context(), put())
	want(t, err, fault.Unknown)
}

// What may come is what was asked for: the record written, a record, a page of them.
func TestBoundsByWhatWasAsked(t *testing.T) {
	t.Parallel()
	var size atomic.Int64
	c := vendor(t, newClock(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("sized") {
			w.Header().Set("Content-Length", fmt.Sprint(size.Load()))
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), int(size.Load())))
	}, nil)
	page := get()
	page.Page = true
	for _, row := range []struct {
		r    vendorhttp.Request
		most int64
		over fault.Class
	}{{put(), vendorhttp.MaxWritten, fault.Unknown}, {get(), vendorhttp.MaxAnswer, fault.Down}, {page, vendorhttp.MaxPage, fault.Down}} {
		for _, sized := range []string{"", "?sized"} {
			row.r.Path = "/x" + sized
			size.Store(row.most)
			if got, err := c.Do(t.Context(), row.r); err != nil || int64(len(got.Body)) != row.most {
				t.Errorf("%s%s: %d bytes of %d, %v", row.r.Op, sized, len(got.Body), row.most, err)
			}
			size.Store(row.most + 1)
			_, err := c.Do(t.Context(), row.r)
			want(t, err, row.over)
		}
	}
}

// A write that the caller's deadline would cut off is not sent, and neither speaks for nor against the vendor. Reads are
// sent: cut off, they have done nothing.
func TestNoWriteWithoutTimeForItsAnswer(t *testing.T) {
	t.Parallel()
	var writes, reads atomic.Int64
	refuse := false
	c := vendor(t, newClock(), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			reads.Add(1)
			return
		}
		writes.Add(1)
		if refuse {
			time.Sleep(60 * time.Millisecond) // less is left for the repeat than a call may take
			w.WriteHeader(http.StatusUnauthorized)
		}
	}, func(c *vendorhttp.Config) {
		c.Timeout, c.Tokens = time.Second, vendorhttp.Static("Basic x")
	})
	for left, sent := range map[time.Duration]int64{900 * time.Millisecond: 0, time.Minute: 1} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		writes.Store(0)
		_, err := c.Do(ctx, put())
		if writes.Load() != sent || (err == nil) != (sent == 1) {
			t.Errorf("%s left: %d sent, %v", left, writes.Load(), err)
		}
		if e := fault.Outermost(err); sent == 0 && (!fault.Is(err, fault.Down) || e.Code != fault.NotCalled || e.RetryAt.IsZero()) {
			t.Errorf("%s left: %v", left, err)
		}
		if _, err := c.Do(ctx, get()); err != nil {
			t.Error(err)
		}
	}
	refuse = true
	writes.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second+30*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, put()); err == nil || writes.Load() > 1 {
		t.Errorf("%d sent, %v", writes.Load(), err)
	}
}

// A few kilobytes that become more than any answer may hold, and headers of that kind.
func TestAnswersThatGrowAreBounded(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = z.Write(make([]byte, vendorhttp.MaxAnswer+1)); err != nil {
		t.Fatal(err)
	}
	if err = z.Close(); err != nil {
		t.Fatal(err)
	}
	c := vendor(t, newClock(), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("X-Long", strings.Repeat("x", 2<<20))
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(map[string]int{"PUT": 200, "PATCH": 400}[r.Method])
		_, _ = w.Write(bomb.Bytes())
	}, nil)
	_, err = c.Do(t.Context(), get())
	want(t, err, fault.Down)
	_, err = c.Do(t.Context(), put())
	want(t, err, fault.Unknown)
	refused := put()
	refused.Method = "PATCH"
	_, err = c.Do(t.Context(), refused)
	want(t, err, fault.Down) // it was refused, and its words are lost
}

// A gateway that answers for the vendor, on a write that may have been done or certainly was not.
func TestWhatAStatusSaysOfAWrite(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]fault.Class{400: fault.Refused, 404: fault.Down, 429: fault.Throttled, 500: fault.Unknown, 501: fault.Down, 502: fault.Unknown, 503: fault.Down, 504: fault.Unknown, 599: fault.Unknown} {
		g, state := gate(newClock(), 1, time.Second)
		c := vendor(t, newClock(), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>")
		}, func(c *vendorhttp.Config) { c.Gate = g })
		_, err := c.Do(t.Context(), put())
		want(t, err, class)
		if open, _ := state(); open != (status >= 500) {
			t.Errorf("after %d the breaker's being open is %v", status, open)
		}
	}
}

func TestSecretsThatAreQuotedAreCutOut(t *testing.T) {
	t.Parallel()
	const token, password, assertion = "tok-0123456789", "pass-0123456789", "assertion-0123456789"
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + password))
	for _, header := range []string{"Bearer " + token, "Basic " + basic} {
		c := vendor(t, newClock(), func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, strings.Join([]string{r.Header.Get("Authorization"), password, assertion, "short"}, " "))
		}, func(c *vendorhttp.Config) {
			c.Tokens = vendorhttp.Static(header)
			c.Classify = func(r vendorhttp.Response) error {
				return &fault.Error{Class: fault.Refused, Detail: string(r.Body), Fields: []string{strings.Repeat("f", 1000)}}
			}
		})
		r := put()
		r.Secrets = []string{assertion, "short", ""}
		_, err := c.Do(t.Context(), r)
		want(t, err, fault.Refused)
		for _, secret := range []string{token, basic, assertion} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q is shown: %v", secret, err)
			}
		}
		if strings.HasPrefix(header, "Basic") && strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), "short") || len(err.Error()) > 600 {
			t.Errorf("%v", err)
		}
	}
}

// FuzzAnswer demands of any answer that it is classified and bounded, that it is no success unless its status says so,
// and that a write's is Unknown where nobody can say.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "text/html", "", "", []byte("<html>"), true)
	f.Add(429, "", "-5", "Fri, 01 Jan 2999 00:00:00 GMT", []byte("slow"), false)
	f.Add(503, "", "99999999999999999999", "x", []byte{0xff, 0xfe, '{', 0}, true)
	f.Add(404, "application/json", "Fri, 31 Dec 9999 23:59:59 GMT", "", []byte(" {}"), false)
	f.Add(307, "", "1e9", "", []byte(nil), true)
	f.Add(200, "application/json;charset=iso-8859-1", "", "", []byte("{\"a\":\"\xe9\"}"), true)
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status int, kind, after, date string, body []byte, write bool) {
		c, err := vendorhttp.New(vendorhttp.Config{Name: "acme", Base: "https://acme.test", Now: func() time.Time { return now },
			Transport: canned{status, http.Header{"Content-Type": {kind}, "Retry-After": {after}, "Date": {date}, "Location": {"https://evil.test"}}, body}})
		if err != nil {
			t.Fatal(err)
		}
		r := get()
		if r.Write = write; write {
			r.Method = http.MethodPut
		}
		resp, err := c.Do(t.Context(), r)
		class := fault.ClassOf(err)
		switch {
		case err == nil && (status >= 300 || !utf8.Valid(resp.Body)):
			t.Errorf("status %d, body %q: success", status, body)
		case err == nil:
		case write && class == fault.Down && (status < 300 || status == 500 || status == 502 || status == 504), !write && class == fault.Unknown:
			t.Errorf("status %d, write %v: %v", status, write, err)
		case len(err.Error()) > 2000:
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if at := fault.RetryAt(err); !at.IsZero() && (!at.After(now) || at.After(now.Add(time.Hour))) {
			t.Errorf("Retry-After %q: pause of %v", after, at.Sub(now))
		}
		if resp.Date.After(now.Add(24 * time.Hour)) {
			t.Errorf("Date %q is believed", date)
		}
	})
}

// canned answers everything the same way.
type canned struct {
	status int
	header http.Header
	body   []byte
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: c.header, Body: io.NopCloser(bytes.NewReader(c.body))}, nil
}

// FuzzGrant demands that every token can be sent, and that its life is within bounds.
func FuzzGrant(f *testing.F) {
	for _, body := range []string{`{"access_token":"a","expires_in":3600}`, `{"access_token":"a!b.c-d~e/f==","expires_in":"3600","scope":"read","instance_url":"https://a.test"}`,
		`{"access_token":"a\r\nX: y"}`, `{"access_token":"a","expires_in":1e18}`, `{"access_token":"a","expires_in":-9223372036854775808}`, `{"access_token":"a","expires_in":9223372036854775807}`,
		`{"access_token":"a","access_token":null}`, `{"access_token":["a"]}`, `{"error":"invalid_client"}`, `<html>`, ``, `[]`, `null`} {
		f.Add([]byte(body))
	}
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := vendorhttp.ParseGrant("op", body, now)
		if err != nil {
			if want(t, err, fault.Down); g != (vendorhttp.Grant{}) {
				t.Errorf("%+v with %v", g, err)
			}
			return
		}
		token, ok := strings.CutPrefix(g.Token.Header, "Bearer ")
		if !ok || token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("a token of %d bytes that cannot be sent", len(token))
		}
		if end := g.Token.Expires; !end.IsZero() && (!end.After(now.Add(time.Minute)) || end.After(now.Add(24*time.Hour))) {
			t.Errorf("it ends %v from now", end.Sub(now))
		}
	})
}

func TestBaseMustBeHTTPSExceptLoopback(t *testing.T) {
	t.Parallel()
	for base, ok := range map[string]bool{
		"https://acme.test": true, "http://127.0.0.1:1": true, "http://[::1]:1": true, "http://localhost:1": true,
		"http://acme.test": false, "http://127.0.0.1.evil.test": false, "http://localhost.evil.test": false, "ftp://acme.test": false, "acme.test": false, "": false,
	} {
		if _, err := vendorhttp.New(vendorhttp.Config{Name: "acme", Base: base, Now: time.Now}); (err == nil) != ok {
			t.Errorf("base %q: %v", base, err)
		}
	}
}

func TestConcurrencyIsBoundedAndWaitersHearTheirContext(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var now, most atomic.Int64
	entered, release := make(chan bool, 100), make(chan bool)
	g3, state := gate(clk, 1, time.Second)
	c := vendor(t, clk, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		entered <- true
		<-release
		now.Add(-1)
	}, func(c *vendorhttp.Config) { c.Gate = g3 })
	var g sync.WaitGroup
	for range 12 {
		g.Go(func() {
			if _, err := c.Do(context.Background(), get()); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-entered
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Do(ctx, get())
	want(t, err, fault.Down)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled waiter got %v", err)
	}
	close(release)
	g.Wait()
	if most.Load() != 3 {
		t.Errorf("%d calls at once, want at most 3", most.Load())
	}
	if open, _ := state(); open {
		t.Error("a caller that gave up opened the breaker")
	}
}

func TestCallerGivingUpIsNoOutage(t *testing.T) {
	t.Parallel()
	clk := newClock()
	entered := make(chan bool)
	g, state := gate(clk, 1, time.Second)
	c := vendor(t, clk, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- true
		<-r.Context().Done()
	}, func(c *vendorhttp.Config) { c.Gate = g })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := c.Do(ctx, put())
	want(t, err, fault.Unknown) // the write may have been done
	if open, _ := state(); open {
		t.Error("a caller that gave up opened the breaker")
	}
}

func TestClassifyDecidesAndObserveSeesNoSecret(t *testing.T) {
	t.Parallel()
	clk := newClock()
	var seen []vendorhttp.Call
	c := vendor(t, clk, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sorry") }, func(c *vendorhttp.Config) {
		c.Observe = func(call vendorhttp.Call) { seen = append(seen, call) }
		c.Tokens = vendorhttp.Static("Bearer hush")
		c.Classify = func(r vendorhttp.Response) error {
			return &fault.Error{Class: fault.Throttled, Code: "IN_A_200"}
		}
	})
	resp, err := c.Do(t.Context(), get())
	want(t, err, fault.Throttled)
	if string(resp.Body) != "sorry" || fault.RetryAt(err).IsZero() || !strings.Contains(err.Error(), "acme.read") {
		t.Errorf("answer %q, error %v", resp.Body, err)
	}
	if len(seen) != 1 || seen[0].Status != 200 || seen[0].Op != "read" || strings.Contains(fmt.Sprintf("%+v %#v", seen, vendorhttp.Token{Header: "hush"}), "hush") {
		t.Errorf("observed %+v", seen)
	}
}
