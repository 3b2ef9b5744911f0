package vendorhttp

import (
	"context"
	"sync"
	"time"
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
// callers share one fetch.
type Tokens struct {
	fetch func(context.Context) (Token, error)
	now   func() time.Time

	mu      sync.Mutex
	current Token
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
	t.mu.Lock()
	defer t.mu.Unlock()
	usable := t.current.Header != "" && t.current.Header != refused &&
		(t.current.Expires.IsZero() || t.now().Add(early).Before(t.current.Expires))
	if usable || t.fetch == nil {
		return t.current.Header, nil
	}
	token, err := t.fetch(ctx)
	if err != nil {
		return "", err
	}
	t.current = token
	return token.Header, nil
}
