// Package vendorhttp is HTTP to vendors, the one way in which connectors leave the process: authenticated,
// bounded in time and size, let through by a gate (package budget), and classified into fault classes. It never
// retries by itself (the queue above it does), except for one repeat with a fresh token after a 401.
package vendorhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
)

// Bounds of a vendor's answer in bytes, by what was asked: an invocation's memory is what its calls in flight may bring,
// see TestMemory in infra/templatetest. The answer to a write shows at most the record written.
const (
	MaxWritten = 1 << 20  // to a write; a larger one leaves it unknown, and it is read back
	MaxAnswer  = 4 << 20  // to a question about one record, or a sign-in
	MaxPage    = 32 << 20 // to a listing
)

// Config of one vendor's client. Name, Base and Now are required.
type Config struct {
	Name        string        // platform name, for errors and metrics
	Base        string        // such as https://acme.zendesk.com
	Tokens      *Tokens       // nil = no Authorization header is added
	Concurrency int           // connections kept, and calls at once without a Gate; 0 = 10
	Timeout     time.Duration // of one call; 0 = 15 s
	Now         func() time.Time
	Observe     func(Call) // called after every call; nil = nobody
	Classify    func(Response) error
	Local       func(Response) bool             // this over-limit answer is about one record or endpoint: other calls go on; nil = never
	Transport   http.RoundTripper               // nil = a pooled transport
	Gate        budget.Gate                     // lets calls through; nil = one of this client alone, for Concurrency calls at once
	Readings    func(Response) []budget.Reading // what an answer says about the platform's limits; nil = nothing
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
	Page   bool // it lists: the answer may have MaxPage bytes
	NoAuth bool
	Limits []string // of endpoints that it counts against, beside budget.Calls
	// Secrets are cut out of the answer, like the credential in the Authorization header: a vendor that quotes the
	// request must not bring them into an error. Those shorter than 8 bytes are not looked for.
	Secrets []string
}

// Response of a vendor.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Date   time.Time // the vendor's clock by the Date header, zero if missing or more than a day ahead of ours
	cut    error     // why there is a status but no whole body
}

// Client calls one vendor. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
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
		cfg.Timeout = deadline.Call
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Call) {}
	}
	if cfg.Transport == nil {
		cfg.Transport = NewTransport(cfg.Concurrency)
	}
	if cfg.Gate == nil {
		cfg.Gate = budget.Local(cfg.Name, budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: cfg.Concurrency}}, Hold: cfg.Timeout},
			budget.Options{Worker: "alone", Now: cfg.Now, Patience: cfg.Timeout})
	}
	if cfg.Readings == nil {
		cfg.Readings = func(Response) []budget.Reading { return nil }
	}
	return &Client{
		cfg: cfg, base: base,
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
		MaxResponseHeaderBytes: 1 << 20,
		MaxIdleConns:           4 * perHost, MaxIdleConnsPerHost: perHost, ForceAttemptHTTP2: true,
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
// it). Otherwise the error is classified: Down (no connection, 5xx), Unknown (a write was sent
// and no answer came), Throttled (429, with RetryAt), Unauthenticated (401 after one fresh token), or
// what Classify says. The Response is returned with the error whenever an answer came.
//
// A write is not sent unless all of Config.Timeout is left for its answer: one that the caller's deadline cuts off would be
// Unknown for no fault of the vendor's. It is refused with fault.NotCalled instead.
//
// An answer below 300 that was cut, is larger than its bound or is not UTF-8 is no answer. Such a body of any other
// status leaves the status, and a refusal whose words are lost is Down: they may have said something else. A 404 in
// words that are no JSON is a gateway's and Down too, so that no record is taken for missing. A write that would be Down
// or Internal is Unknown if its status does not say that nothing was done: 500, 502 and 504 do not, 503 does.
//
// Each call goes through the gate, the repeat after a 401 as well. A sign-in does not: it runs inside the call that needs
// it, and must not wait for that call's slot. What its answer says about limits is told with that call's.
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	start := c.cfg.Now()
	resp, used, err := c.guarded(ctx, r, "")
	if resp.Status == http.StatusUnauthorized && used != "" {
		resp, _, err = c.guarded(ctx, r, used)
	}
	if !budget.Refused(err) {
		c.cfg.Observe(Call{c.cfg.Name, r.Op, r.Write, resp.Status, c.cfg.Now().Sub(start), err})
	}
	return resp, err
}

// readingsKey leads a sign-in to what it says about limits.
type readingsKey struct{}

// guarded sends r once through the gate. refused is a header not to use again, and used the one that was used.
func (c *Client) guarded(ctx context.Context, r Request, refused string) (resp Response, used string, err error) {
	if r.NoAuth {
		if resp, _, err = c.once(ctx, r, ""); err == nil {
			err = c.classify(r, resp)
		}
		if said, ok := ctx.Value(readingsKey{}).(*[]budget.Reading); ok && resp.Status != 0 {
			*said = append(*said, c.cfg.Readings(resp)...)
		}
		return resp, "", err
	}
	leave, err := c.cfg.Gate.Enter(ctx, budget.Call{Limits: r.Limits, Write: r.Write})
	if err != nil {
		var e *fault.Error
		if errors.As(err, &e) {
			own := *e
			own.Op, err = c.op(r), &own
		}
		return Response{}, "", err
	}
	budget.PurposeOf(ctx).Note()
	var said []budget.Reading
	if resp, used, err = c.once(context.WithValue(ctx, readingsKey{}, &said), r, refused); err == nil {
		err = c.classify(r, resp)
	}
	if resp.Status != 0 {
		said = append(said, c.cfg.Readings(resp)...)
	}
	class := fault.ClassOf(err)
	leave(budget.Outcome{
		Err: err, Readings: said,
		Silent: resp.Status >= 500 || err != nil && resp.Status == 0 && (class == fault.Down || class == fault.Unknown),
		Unsent: ctx.Err() != nil || budget.Refused(err), // the caller gave up, or has too little time: says nothing about the vendor
		Local:  class == fault.Throttled && c.cfg.Local != nil && c.cfg.Local(resp),
	})
	return resp, used, err
}

func (c *Client) op(r Request) string { return c.cfg.Name + "." + r.Op }

func (c *Client) fail(class fault.Class, r Request, err error) error {
	e := &fault.Error{Class: class, Op: c.op(r), Err: err}
	if class == fault.Down {
		e.RetryAt = c.cfg.Now().Add(time.Second)
	}
	return e
}

// once sends r one time and returns the Authorization header it used. refused is a header not to use again.
func (c *Client) once(ctx context.Context, r Request, refused string) (Response, string, error) {
	if r.Write && !deadline.Fits(ctx, c.cfg.Timeout) {
		return Response{}, "", &fault.Error{Class: fault.Down, Op: c.op(r), Code: fault.NotCalled, RetryAt: c.cfg.Now().Add(time.Second),
			Detail: "not called: less time is left than a write may take"}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	target, err := c.url(r)
	if err != nil {
		return Response{}, "", c.fail(fault.Internal, r, err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(r.Body))
	if err != nil {
		return Response{}, "", c.fail(fault.Internal, r, clean(err))
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
			return Response{}, "", fault.Wrap(signIn(err), c.op(r), "", err)
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
	used := req.Header.Get("Authorization")
	resp := Response{Status: answer.StatusCode, Header: answer.Header}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil && date.Sub(c.cfg.Now()) < maxAhead {
		resp.Date = date
	}
	most := r.most()
	resp.Body, err = body(answer, most)
	switch {
	case err != nil:
		resp.cut = clean(err)
	case len(resp.Body) > most:
		resp.cut = fmt.Errorf("answer larger than %d bytes", most)
	case resp.Status < 300 && !utf8.Valid(resp.Body): // a decoder would put U+FFFD into the record
		resp.cut = errors.New("answer is not UTF-8")
	}
	if resp.cut != nil {
		resp.Body = nil
	}
	if resp.cut != nil && resp.Status < 300 {
		return Response{}, "", c.fail(lost(r, true), r, resp.cut)
	}
	for _, secret := range append(credential(used), r.Secrets...) {
		if len(secret) >= 8 && bytes.Contains(resp.Body, []byte(secret)) { // ReplaceAll copies in any case
			resp.Body = bytes.ReplaceAll(resp.Body, []byte(secret), []byte("[redacted]"))
		}
	}
	return resp, used, nil
}

// most is how large the answer may be.
func (r Request) most() int {
	switch {
	case r.Write:
		return MaxWritten
	case r.Page:
		return MaxPage
	}
	return MaxAnswer
}

// body reads an answer up to one byte over most. One that says its size costs that, and not twice as much, in memory.
func body(answer *http.Response, most int) ([]byte, error) {
	into := bytes.NewBuffer(make([]byte, 0, min(max(answer.ContentLength, 0), int64(most))+bytes.MinRead))
	_, err := into.ReadFrom(io.LimitReader(answer.Body, int64(most)+1))
	return into.Bytes(), err
}

// signIn is the class of a call whose sign-in failed. What a token endpoint refuses is no word about the record of the
// call: to take it for one would hold back a write for ever, or take the record for missing.
func signIn(err error) fault.Class {
	switch class := fault.ClassOf(err); class {
	case fault.Down, fault.Throttled, fault.Internal:
		return class
	}
	return fault.Unauthenticated
}

// maxAhead bounds the vendor's clock, which listings go on from: a wild one would make them skip what comes.
const maxAhead = 24 * time.Hour

// credential is what is secret in an Authorization header.
func credential(header string) []string {
	_, token, _ := strings.Cut(header, " ")
	secrets := []string{token}
	if plain, err := base64.StdEncoding.DecodeString(token); err == nil && strings.HasPrefix(header, "Basic ") {
		_, password, _ := strings.Cut(string(plain), ":")
		secrets = append(secrets, password)
	}
	return secrets
}

// lost is the class of a call without an answer: a write that may have been sent is Unknown.
func lost(r Request, sent bool) fault.Class {
	if r.Write && sent {
		return fault.Unknown
	}
	return fault.Down
}

// Half is err, the failure of a write's later call, when an earlier call of the same write was done already: the record
// is neither as it was nor as it should be, which is Unknown. What the vendor refused stays refused: the rest is done.
func Half(op string, err error) error {
	switch fault.ClassOf(err) {
	case fault.Refused, fault.Contract, fault.TooLarge:
		return err
	}
	if err == nil {
		return nil
	}
	return &fault.Error{Class: fault.Unknown, Op: op, Detail: "only a part of the write is known to be done", RetryAt: fault.RetryAt(err), Err: err}
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

// classify judges an answer by the vendor's words and then by what they are worth.
func (c *Client) classify(r Request, resp Response) error {
	err := c.judge(r, resp)
	var e *fault.Error
	if !errors.As(err, &e) {
		return err
	}
	final := e.Class != fault.Throttled && e.Class != fault.Unauthenticated && e.Class != fault.Down
	switch {
	case resp.cut != nil && resp.Status >= 400 && final:
		e.Class, e.Err = fault.Down, resp.cut
	case e.Class == fault.NotFound && resp.Status == http.StatusNotFound && !spoken(resp.Body):
		e.Class, e.Detail = fault.Down, "404 in words that are not the vendor's API's"
	}
	if e.RetryAt.IsZero() && (e.Class == fault.Throttled || e.Class == fault.Down && resp.Header.Get("Retry-After") != "") {
		e.RetryAt = c.retryAfter(resp)
	}
	if r.Write && (e.Class == fault.Down || e.Class == fault.Internal) && doubtful(resp.Status) {
		e.Class = fault.Unknown
	}
	e.Detail, e.Code = Clip(e.Detail, 1000), Clip(e.Code, 100)
	e.Fields = e.Fields[:min(len(e.Fields), 50)]
	for i, f := range e.Fields {
		e.Fields[i] = Clip(f, 200)
	}
	return e
}

// spoken reports whether a body is nothing, or begins as JSON.
func spoken(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) == 0 || body[0] == '{' || body[0] == '['
}

// doubtful reports that a status does not say whether a write was done.
func doubtful(status int) bool {
	return status < 300 || status >= 500 && status != http.StatusNotImplemented && status != http.StatusServiceUnavailable
}

// Clip shortens what a vendor said to n bytes, at a character's border.
func Clip(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

func (c *Client) judge(r Request, resp Response) error {
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
		e.Class = fault.Throttled
	case resp.Status >= 500:
		e.Class, e.RetryAt = fault.Down, c.retryAfter(resp)
	default:
		e.Class = fault.Refused
	}
	return e
}

// retryAfter reads Retry-After (seconds or a date), bounded to between a second and an hour; without one that can be
// read a second. Of several the longest counts.
func (c *Client) retryAfter(resp Response) time.Time {
	now := c.cfg.Now()
	d := time.Second
	for _, h := range resp.Header.Values("Retry-After") {
		h = strings.TrimSpace(h)
		n, err := strconv.ParseInt(h, 10, 64) // one out of range gives the nearest that is in it
		if err == nil || errors.Is(err, strconv.ErrRange) {
			d = max(d, time.Duration(min(max(n, 0), 3600))*time.Second)
		} else if at, err := http.ParseTime(h); err == nil {
			d = max(d, min(at.Sub(now), time.Hour))
		}
	}
	return now.Add(d)
}
