package vendorhttp

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/fault"
)

// Token is an Authorization header value with its end. A zero Expires means: until a call answers 401.
type Token struct {
	Header  string
	Expires time.Time
}

// String hides the credential.
func (Token) String() string { return "Token(redacted)" }

// GoString hides the credential.
func (Token) GoString() string { return "Token(redacted)" }

// Tokens caches one credential and fetches a new one shortly before it ends or after a 401. Concurrent
// callers share one fetch: it belongs to the first, and the others wait for it no longer than they have time.
type Tokens struct {
	fetch func(context.Context) (Token, error)
	now   func() time.Time

	mu       sync.Mutex
	current  Token
	fetching *fetching // nil = nobody fetches
}

// fetching is a fetch under way. What is beside done may be read once that is closed.
type fetching struct {
	done chan struct{}
	err  error
	own  bool // it ended for a reason of its caller's own: the next one may try
}

// early is how long before its end a token is replaced.
const early = time.Minute

// NewTokens wraps fetch, which signs in and returns a fresh token.
func NewTokens(fetch func(context.Context) (Token, error), now func() time.Time) *Tokens {
	return &Tokens{fetch: fetch, now: now}
}

// Static is a credential that never changes, such as an API token.
func Static(header string) *Tokens {
	return &Tokens{current: Token{Header: header}, now: time.Now}
}

// get returns the cached header, or a fetched one. refused is the header that a vendor has just answered 401
// to, or empty: if another caller replaced it meanwhile, theirs is taken.
func (t *Tokens) get(ctx context.Context, refused string) (string, error) {
	for {
		header, f, first := t.known(refused)
		if f == nil {
			return header, nil
		}
		if first {
			return t.renew(ctx, f)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", fault.Wrap(fault.Down, "sign-in", "", ctx.Err())
		}
		if f.err != nil && !f.own {
			return "", f.err
		}
	}
}

// known returns the header that can be used, or the fetch to wait for. The first to ask has to do it.
func (t *Tokens) known(refused string) (header string, f *fetching, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	usable := t.current.Header != "" && t.current.Header != refused &&
		(t.current.Expires.IsZero() || t.now().Add(early).Before(t.current.Expires))
	if usable || t.fetch == nil {
		return t.current.Header, nil, false
	}
	if first = t.fetching == nil; first {
		t.fetching = &fetching{done: make(chan struct{}), own: true}
	}
	return "", t.fetching, first
}

// renew fetches for all that wait. They go on even if the fetch panics.
func (t *Tokens) renew(ctx context.Context, f *fetching) (string, error) {
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.fetching = nil
		close(f.done)
	}()
	token, err := t.fetch(ctx)
	if f.err, f.own = err, ctx.Err() != nil; err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = token
	return token.Header, nil
}

// Grant is what a token endpoint answered.
// https://www.rfc-editor.org/rfc/rfc6749#section-5.1
type Grant struct {
	Token    Token
	Scope    string
	Instance string // Salesforce: the URL that the token is for
}

// maxLife bounds how long a token is believed to live.
const maxLife = 24 * time.Hour

// ParseGrant reads the answer of a token endpoint; what holds no usable token is Down. A life that is not said, is no
// number or is not longer than early gives a token without an end: to fetch a new one for every call would flood
// the vendor, and a call that answers 401 fetches one anyway.
func ParseGrant(op string, body []byte, now time.Time) (Grant, error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"` // 3600 or "3600"
		Scope       string          `json:"scope"`
		InstanceURL string          `json:"instance_url"`
	}
	if json.Unmarshal(body, &answer) != nil || !sendable(answer.AccessToken) {
		return Grant{}, fault.New(fault.Down, op, "the token endpoint's answer holds no usable access_token")
	}
	g := Grant{Token{Header: "Bearer " + answer.AccessToken}, answer.Scope, answer.InstanceURL}
	seconds, err := strconv.ParseInt(strings.Trim(string(answer.ExpiresIn), `"`), 10, 64)
	if err == nil && seconds > int64(early/time.Second) {
		g.Token.Expires = now.Add(time.Duration(min(seconds, int64(maxLife/time.Second))) * time.Second)
	}
	return g, nil
}

// sendable reports whether a token can stand in a header: one that cannot would fail every call and be kept for ever.
func sendable(token string) bool {
	return token != "" && len(token) <= 16<<10 && !strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}
