// Package vendorhttp is HTTP to vendors, the one way in which connectors leave the process: authenticated,
// bounded in time, size and concurrency, guarded by a breaker, and classified into fault classes. It never
// retries by itself (the queue above it does), except for one repeat with a fresh token after a 401.
package vendorhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sorrel/shared/fault"
)

// MaxAnswer bounds a vendor's answer in bytes.
const MaxAnswer = 32 << 20

// Config of one vendor's client. Name, Base and Now are required.
type Config struct {
	Name        string        // platform name, for errors and metrics
	Base        string        // such as https://acme.zendesk.com
	Tokens      *Tokens       // nil = no Authorization header is added
	Concurrency int           // requests in flight at most; 0 = 10
	Timeout     time.Duration // of one call; 0 = 15 s
	Trip        int           // consecutive failures (no answer or 5xx) that open the breaker; 0 = 5
	Cooldown    time.Duration // first pause of an open breaker, doubled up to 32 times; 0 = 1 s
	Now         func() time.Time
	Observe     func(Call) // called after every call; nil = nobody
	Classify    func(Response) error
	Local       func(Response) bool // this over-limit answer is about one record or endpoint: other calls go on; nil = never
	Transport   http.RoundTripper   // nil = a pooled transport
}

// Call describes one finished call. It holds no payload and no credential.
type Call struct {
	Platform string
	Op       string
	Write    bool
	Status   int // 0 = no answer
	Took     time.Duration
	Err      error
}

// Request to a vendor. Path is relative to Base (or an absolute URL under Base's host), already escaped.
type Request struct {
	Op     string // name for errors and metrics, such as "order.upsert"
	Method string
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte
	Write  bool // it may change something: a lost answer is fault.Unknown instead of fault.Down
	NoAuth bool
}

// Response of a vendor.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Date   time.Time // the vendor's clock by the Date header, zero if missing
}

// Client calls one vendor. It is safe for concurrent use.
type Client struct {
	cfg   Config
	base  *url.URL
	http  *http.Client
	slots chan struct{}

	mu       sync.Mutex
	failures int       // consecutive
	opened   int       // times the breaker opened since the last answer
	until    time.Time // breaker open or throttled until
	reason   fault.Class
	probing  bool
}

// New checks cfg and returns a client.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.Base, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") {
		return nil, fmt.Errorf("vendorhttp: %s: base URL %q is not an http(s) URL", cfg.Name, cfg.Base)
	}
	if base.Scheme == "http" && !Loopback(base.Hostname()) {
		return nil, fmt.Errorf("vendorhttp: %s: %q sends credentials in clear text; use https (http is for loopback only)", cfg.Name, cfg.Base)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 10
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Trip <= 0 {
		cfg.Trip = 5
	}
	if cfg.Cooldown <= 0 {
		cfg.Cooldown = time.Second
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Call) {}
	}
	if cfg.Transport == nil {
		cfg.Transport = NewTransport(cfg.Concurrency)
	}
	return &Client{
		cfg: cfg, base: base, slots: make(chan struct{}, cfg.Concurrency),
		http: &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirect would carry the credential elsewhere
		}},
	}, nil
}

// NewTransport is a pooled transport that keeps perHost idle connections.
func NewTransport(perHost int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 55 * time.Second,
		MaxIdleConns: 4 * perHost, MaxIdleConnsPerHost: perHost, ForceAttemptHTTP2: true,
	}
}

// Loopback reports whether host, without a port, is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Host is the vendor's host and port, for messages.
func (c *Client) Host() string { return c.base.Host }

// Do sends one request and returns the vendor's answer if its status is below 300 (or if Classify accepts
// it). Otherwise the error is classified: Down (no connection, breaker open, 5xx), Unknown (a write was sent
// and no answer came), Throttled (429, with RetryAt), Unauthenticated (401 after one fresh token), or
// what Classify says. The Response is returned with the error whenever an answer came.
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	if !r.NoAuth {
		if err := c.admit(r); err != nil {
			return Response{}, err
		}
	}
	if !r.NoAuth { // a sign-in runs inside the call that needs it and must not wait for that call's slot
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			c.settle(ctx.Err(), Response{}, true)
			return Response{}, c.fail(fault.Down, r, ctx.Err())
		}
	}
	start := c.cfg.Now()
	resp, used, err := c.once(ctx, r, "")
	if err == nil && resp.Status == http.StatusUnauthorized && used != "" {
		resp, _, err = c.once(ctx, r, used)
	}
	if err == nil {
		err = c.classify(r, resp)
	}
	if !r.NoAuth { // a failed sign-in fails the call that asked for it, which is settled once
		c.settle(err, resp, errors.Is(ctx.Err(), context.Canceled)) // the caller gave up: says nothing about the vendor
	}
	c.cfg.Observe(Call{c.cfg.Name, r.Op, r.Write, resp.Status, c.cfg.Now().Sub(start), err})
	return resp, err
}

// admit refuses calls while the breaker is open or the vendor asked for a pause. When the pause of an open
// breaker is over, one probe at a time is let through.
func (c *Client) admit(r Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	if c.reason == "" {
		return nil
	}
	if now.Before(c.until) || (c.reason == fault.Down && c.probing) {
		at := c.until
		if !at.After(now) {
			at = now.Add(c.cfg.Cooldown)
		}
		return &fault.Error{Class: c.reason, Op: c.op(r), Code: fault.NotCalled, RetryAt: at,
			Detail: "not called: " + map[fault.Class]string{fault.Down: "breaker is open", fault.Throttled: "the vendor asked for a pause"}[c.reason]}
	}
	c.probing = c.reason == fault.Down
	return nil
}

func (c *Client) settle(err error, resp Response, unused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
	if unused {
		return
	}
	now := c.cfg.Now()
	switch class := fault.ClassOf(err); {
	case err == nil:
		c.failures, c.opened, c.reason = 0, 0, ""
	case class == fault.Throttled && c.cfg.Local != nil && c.cfg.Local(resp):
		c.failures = 0
	case class == fault.Throttled:
		if at := fault.RetryAt(err); at.After(c.until) && at.After(now) {
			c.reason, c.until = fault.Throttled, at
		}
	case resp.Status >= 500, resp.Status == 0 && (class == fault.Down || class == fault.Unknown):
		c.failures++
		if c.reason == fault.Down && now.Before(c.until) {
			return // it was sent before the breaker opened and says nothing new
		}
		if c.failures >= c.cfg.Trip {
			c.reason, c.until = fault.Down, now.Add(c.cfg.Cooldown<<min(c.opened, 5))
			c.opened++
		}
	default:
		c.failures, c.opened, c.reason = 0, 0, ""
	}
}

// State says whether the breaker is closed, and otherwise until when calls are refused.
func (c *Client) State() (open bool, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason == fault.Down, c.until
}

func (c *Client) op(r Request) string { return c.cfg.Name + "." + r.Op }

func (c *Client) fail(class fault.Class, r Request, err error) error {
	e := &fault.Error{Class: class, Op: c.op(r), Err: err}
	if class == fault.Down {
		e.RetryAt = c.cfg.Now().Add(c.cfg.Cooldown)
	}
	return e
}

// once sends r one time and returns the Authorization header it used. refused is a header not to use again.
func (c *Client) once(ctx context.Context, r Request, refused string) (Response, string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	target, err := c.url(r)
	if err != nil {
		return Response{}, "", c.fail(fault.Internal, r, err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(r.Body))
	if err != nil {
		return Response{}, "", c.fail(fault.Internal, r, err)
	}
	for k, v := range r.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	if len(r.Body) > 0 && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Tokens != nil && !r.NoAuth {
		token, err := c.cfg.Tokens.get(ctx, refused)
		if err != nil {
			return Response{}, "", fault.Wrap("", c.op(r), "", err)
		}
		req.Header.Set("Authorization", token)
	}
	var sent atomic.Bool
	if r.Write {
		req.GetBody = nil // net/http would send a lost request with an Idempotency-Key header again by itself
		req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
		}))
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return Response{}, "", c.fail(lost(r, sent.Load()), r, clean(err))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, MaxAnswer+1))
	if err != nil {
		return Response{}, "", c.fail(lost(r, true), r, clean(err))
	}
	if len(body) > MaxAnswer {
		return Response{}, "", c.fail(fault.Malformed, r, fmt.Errorf("answer larger than %d bytes", MaxAnswer))
	}
	date, _ := http.ParseTime(answer.Header.Get("Date"))
	return Response{answer.StatusCode, answer.Header, body, date}, req.Header.Get("Authorization"), nil
}

// lost is the class of a call without an answer: a write that may have been sent is Unknown.
func lost(r Request, sent bool) fault.Class {
	if r.Write && sent {
		return fault.Unknown
	}
	return fault.Down
}

// clean drops the URL that net/http puts into its errors: it can hold external ids and query values.
func clean(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// url resolves r against the base. An absolute URL (a vendor's "next page") must stay on the same host.
func (c *Client) url(r Request) (string, error) {
	raw := r.Path
	if strings.HasPrefix(raw, "http://") || strings.HasPrefix(raw, "https://") {
		u, err := url.Parse(raw)
		if err != nil || u.Host != c.base.Host || u.Scheme != c.base.Scheme {
			return "", fmt.Errorf("refusing to follow a link to another host")
		}
	} else {
		raw = c.base.String() + raw
	}
	if len(r.Query) > 0 {
		sep := "?"
		if strings.Contains(raw, "?") {
			sep = "&"
		}
		raw += sep + r.Query.Encode()
	}
	return raw, nil
}

func (c *Client) classify(r Request, resp Response) error {
	if c.cfg.Classify != nil {
		err := c.cfg.Classify(resp)
		if err == nil && resp.Status < 300 {
			return nil
		}
		var e *fault.Error
		if errors.As(err, &e) {
			if e.Op == "" {
				e.Op = c.op(r)
			}
			if e.Class == fault.Throttled && e.RetryAt.IsZero() {
				e.RetryAt = c.retryAfter(resp)
			}
			return e
		}
	}
	e := &fault.Error{Op: c.op(r), Code: strconv.Itoa(resp.Status)}
	switch {
	case resp.Status < 300:
		return nil
	case resp.Status < 400:
		e.Class, e.Detail = fault.Internal, "unexpected redirect"
	case resp.Status == http.StatusUnauthorized:
		e.Class, e.Detail, e.Remedy = fault.Unauthenticated, "credential refused", "check the platform's credential"
	case resp.Status == http.StatusNotFound:
		e.Class = fault.NotFound
	case resp.Status == http.StatusTooManyRequests:
		e.Class, e.RetryAt = fault.Throttled, c.retryAfter(resp)
	case resp.Status >= 500:
		e.Class, e.RetryAt = fault.Down, c.retryAfter(resp)
	default:
		e.Class = fault.Refused
	}
	return e
}

// retryAfter reads Retry-After (seconds or a date), bounded to one hour; without it a second.
func (c *Client) retryAfter(resp Response) time.Time {
	now := c.cfg.Now()
	h := resp.Header.Get("Retry-After")
	d := time.Second
	if n, err := strconv.Atoi(strings.TrimSpace(h)); err == nil && n >= 0 {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if at, err := http.ParseTime(h); err == nil {
		d = min(max(at.Sub(now), 0), time.Hour)
	}
	return now.Add(d)
}
