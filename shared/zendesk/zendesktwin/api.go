package zendesktwin

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/budget"
)

// call is one API call under way. The twin is locked while its handler runs.
type call struct {
	t    *Twin
	w    http.ResponseWriter
	r    *http.Request
	raw  []byte
	body map[string]any
}

func (c *call) answer(status int, body any) { reply(c.w, status, body) }

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // the caller hung up: nothing to do
	}
}

func (c *call) refuse(bad invalid) {
	c.answer(http.StatusUnprocessableEntity, map[string]any{"error": "RecordInvalid", "description": "Record validation errors", "details": bad})
}

func (c *call) missing() {
	c.answer(http.StatusNotFound, map[string]any{"error": "RecordNotFound", "description": "Not found"})
}

func (c *call) bad(code, description string) {
	c.answer(http.StatusBadRequest, map[string]any{"error": code, "description": description})
}

// object returns the wrapped body, or answers 400 and returns nil.
func (c *call) object(key string) map[string]any {
	if m, ok := c.body[key].(map[string]any); ok {
		return m
	}
	c.bad("ParameterMissing", "Parameter "+key+" is required")
	return nil
}

// overLimit is the vendor's answer over any limit.
func (t *Twin) overLimit(w http.ResponseWriter, wait time.Duration, description string) {
	w.Header().Set("Date", t.opt.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	reply(w, http.StatusTooManyRequests, map[string]any{"error": "APIRateLimitExceeded", "description": description})
}

// Handler serves the account.
func (t *Twin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/tokens", t.oauth)
	t.organizationRoutes(mux)
	t.userRoutes(mux)
	t.ticketRoutes(mux)
	t.ticketFieldRoutes(mux)
	t.customRoutes(mux)
	t.exportRoutes(mux)
	t.hookRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusNotFound, map[string]any{"error": "InvalidEndpoint", "description": "Not found"})
	})
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", t.opt.Now().UTC().Format(http.TimeFormat))
		if p, ok := strings.CutSuffix(r.URL.Path, ".json"); ok { // both forms of a path are served
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = p, ""
		}
		mux.ServeHTTP(w, r)
	})
	kit := t.kit.Handler(api, t.state, t.reset)
	acts := http.NewServeMux()
	type act struct {
		Object string          `json:"object"`
		ID     string          `json:"id"`
		Fields map[string]any  `json:"fields"`
		User   string          `json:"user"`
		Winner string          `json:"winner"`
		Loser  string          `json:"loser"`
		Field  json.RawMessage `json:"field"` // a Field, or the key of one
		Value  string          `json:"value"`
	}
	serve := func(do func(act) (string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var a act
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
			dec.UseNumber()
			err := dec.Decode(&a)
			id := ""
			if err == nil {
				id, err = do(a)
			}
			if err != nil {
				reply(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
				return
			}
			reply(w, http.StatusOK, map[string]any{"id": id})
		}
	}
	acts.HandleFunc("POST /_twin/edit", serve(func(a act) (string, error) {
		if a.User == "" {
			a.User = Agent
		}
		return t.EditAs(a.User, a.Object, a.ID, a.Fields)
	}))
	acts.HandleFunc("POST /_twin/merge", serve(func(a act) (string, error) { return a.Winner, t.Merge(a.Object, a.Winner, a.Loser) }))
	acts.HandleFunc("POST /_twin/picklist", serve(func(a act) (string, error) {
		var key string
		if err := json.Unmarshal(a.Field, &key); err != nil {
			return "", err
		}
		return key, t.AddPicklistValue(a.Object, key, a.Value)
	}))
	acts.HandleFunc("POST /_twin/delete", serve(func(a act) (string, error) { return a.ID, t.Delete(a.Object, a.ID) }))
	acts.HandleFunc("POST /_twin/field", serve(func(a act) (string, error) {
		var f Field
		if err := json.Unmarshal(a.Field, &f); err != nil {
			return "", err
		}
		return f.Key, t.AddField(a.Object, f)
	}))
	acts.Handle("/", kit)
	return acts
}

// route registers an authenticated, limited call.
func (t *Twin) route(mux *http.ServeMux, pattern string, handle func(*call)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		t.kit.Called(pattern)
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
		if err != nil {
			reply(w, http.StatusRequestEntityTooLarge, map[string]any{"error": "RequestTooLarge"})
			return
		}
		c := &call{t: t, w: w, r: r, raw: raw}
		if len(raw) > 0 && r.Method != http.MethodGet && r.Method != http.MethodDelete {
			dec := json.NewDecoder(strings.NewReader(string(raw)))
			dec.UseNumber()
			if dec.Decode(&c.body) != nil {
				c.answer(http.StatusBadRequest, map[string]any{"error": "Unparseable JSON", "description": "The request body is no JSON object"})
				return
			}
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.admit(c, pattern) {
			return
		}
		handle(c)
	})
}

// admit checks the credential and the account's minute.
func (t *Twin) admit(c *call, pattern string) bool {
	probe := pattern == "GET /api/v2/users/me"
	header := c.r.Header.Get("Authorization")
	kind, value, _ := strings.Cut(header, " ")
	refuse := func(body map[string]any) bool {
		t.kit.Unauthorised()
		c.answer(http.StatusUnauthorized, body)
		return false
	}
	switch kind {
	case "Basic":
		b, err := base64.StdEncoding.DecodeString(value)
		user, password, _ := strings.Cut(string(b), ":")
		email, isToken := strings.CutSuffix(user, "/token")
		switch {
		case err == nil && isToken && email == t.opt.Credentials.Email && password == t.opt.Credentials.APIToken:
		case probe && !isToken:
			return t.anonymous(c)
		default:
			return refuse(map[string]any{"error": "Couldn't authenticate you"})
		}
	case "Bearer":
		tk, ok := t.tokens[value]
		if !ok || !t.opt.Now().Before(tk.expires) {
			return refuse(map[string]any{"error": "invalid_token", "error_description": "The access token provided is expired, revoked, malformed or invalid for other reasons."})
		}
		if !permits(tk.scopes, c.r) {
			c.answer(http.StatusForbidden, map[string]any{"error": map[string]any{"title": "Forbidden", "message": "You do not have access to this page. Missing the following required scopes"}})
			return false
		}
	default:
		if probe {
			return t.anonymous(c)
		}
		return refuse(map[string]any{"error": "Couldn't authenticate you"})
	}
	return t.within(c, budget.Calls, t.opt.Limits.PerMinute, time.Minute, "Number of allowed API requests per minute exceeded")
}

// anonymous is what users/me says to anybody: 200.
func (t *Twin) anonymous(c *call) bool {
	c.answer(http.StatusOK, map[string]any{"user": map[string]any{"id": nil, "name": "Anonymous user", "email": "invalid@example.com", "role": "end-user"}})
	return false
}

// permits checks a token's scopes: read, write, and their forms for one resource such as tickets:read.
func permits(scopes []string, r *http.Request) bool {
	need := "write"
	if r.Method == http.MethodGet {
		need = "read"
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v2/"), "/")
	if parts[0] == "incremental" && len(parts) > 1 {
		parts = parts[1:]
	}
	for _, s := range scopes {
		if s == need || s == parts[0]+":"+need {
			return true
		}
	}
	return false
}

// within counts one call against a limit and answers 429 when it is used up. Every answer says what is left. A name such as
// "tickets-update/12" is of one record; its header is named like that of all.
func (t *Twin) within(c *call, name string, limit int, window time.Duration, says string) bool {
	limit, others := t.kit.Limit(name, limit)
	if limit < 0 {
		return true
	}
	now := t.opt.Now()
	s := t.windows[name]
	if s == nil || !now.Before(s.end) {
		s = &slot{end: now.Add(window)}
		t.windows[name] = s
	}
	wait := s.end.Sub(now)
	over := s.n+others >= limit
	if !over {
		s.n++
	}
	left, h := strconv.Itoa(max(0, limit-others-s.n)), c.w.Header()
	if name == budget.Calls {
		for k, v := range map[string]string{"X-Rate-Limit": strconv.Itoa(limit), "Ratelimit-Limit": strconv.Itoa(limit), "X-Rate-Limit-Remaining": left,
			"Ratelimit-Remaining": left, "Ratelimit-Reset": strconv.Itoa(int(wait.Seconds()))} {
			h.Set(k, v)
		}
	} else {
		public, _, _ := strings.Cut(name, "/")
		h.Add("Zendesk-Ratelimit-"+public, "total="+strconv.Itoa(limit)+"; remaining="+left+"; resets="+strconv.Itoa(int(wait.Seconds())))
	}
	if over {
		t.kit.OverLimit(name)
		t.overLimit(c.w, wait, says)
	}
	return !over
}

// oauth grants tokens for client credentials. It grants unknown scope names too, as the vendor does; calls with
// such a token are then refused.
func (t *Twin) oauth(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Grant   string `json:"grant_type"`
		ID      string `json:"client_id"`
		Secret  string `json:"client_secret"`
		Scope   string `json:"scope"`
		Expires int    `json:"expires_in"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&in); err != nil {
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "The request body is no JSON object"})
		return
	}
	t.kit.Called("POST /oauth/tokens")
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case in.Grant != "client_credentials":
		reply(w, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type", "error_description": "The authorization grant type is not supported"})
		return
	case in.ID != t.opt.Credentials.ClientID || in.Secret != t.opt.Credentials.ClientSecret:
		t.kit.Unauthorised()
		reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "Client authentication failed"})
		return
	case in.Expires != 0 && (in.Expires <= 300 || in.Expires >= 172800):
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "expires_in must be over 300 and below 172800"})
		return
	}
	life := t.opt.TokenLife
	if in.Expires != 0 {
		life = time.Duration(in.Expires) * time.Second
	}
	value := "zd-at-" + t.uuid()
	t.tokens[value] = token{strings.Fields(in.Scope), t.opt.Now().Add(life)}
	reply(w, http.StatusOK, map[string]any{"access_token": value, "token_type": "bearer", "scope": in.Scope, "expires_in": int(life.Seconds())})
}
