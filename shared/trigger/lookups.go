package trigger

import (
	"context"
	"crypto/sha256"
	_ "embed" // the description of the interface
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/lookup"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// APIKeyHeader carries the API key of a consumer that cannot send a token.
const APIKeyHeader = "Sorrel-Key"

// KeyedPath is where the paths of lookups stand once more on AWS, for consumers with a key: one route of an HTTP API
// has one authorizer, and that of the others asks for a token.
const KeyedPath = "/keyed"

// Headers of every answer to a lookup, also of 304, which has no body.
const (
	CorrelationHeader = "Sorrel-Correlation-Id"
	AsOfHeader        = "Sorrel-As-Of"
	SourceHeader      = "Sorrel-Source"
	FreshnessHeader   = "Sorrel-Freshness"
)

// Headers of every answer at a path that is deprecated.
const (
	DeprecationHeader = "Deprecation" // @ and seconds since 1970
	SunsetHeader      = "Sunset"      // an HTTP date
)

// maxAgeBound is a year: more is a mistake.
const maxAgeBound = 365 * 24 * 60 * 60

//go:embed openapi.json
var openAPI []byte

// Lookups is where programs ask: the HTTP interface of flow/lookup. Every question needs a consumer of lookups.yaml, but for
// the description of the interface.
type Lookups struct {
	Config    *policy.Set
	Ask       *lookup.Flow
	Quotas    *lookup.Quotas
	Now       func() time.Time
	NewID     func() string
	Telemetry *telemetry.Recorder
}

// claims is the key of a token's claims in a request's context. They were checked by whoever put them there.
type claims struct{}

// consumer says who asks: by the claims of a token that the HTTP API has checked, else by an API key.
func (l Lookups) consumer(r *http.Request) (policy.Consumer, error) {
	rules := l.Config.Lookups()
	if said, ok := r.Context().Value(claims{}).(map[string]string); ok {
		for _, name := range []string{"client_id", "azp", "sub"} {
			if subject := said[name]; subject != "" {
				if c, known := rules.BySubject(subject); known {
					return c, nil
				}
				return policy.Consumer{}, &fault.Error{Class: fault.Forbidden, Op: "lookup", Detail: fmt.Sprintf("the token's %s is no consumer that lookups.yaml knows", name), Remedy: "whoever runs Sorrel can add it to a consumer's jwt: there, and deploy"}
			}
		}
		return policy.Consumer{}, &fault.Error{Class: fault.Forbidden, Op: "lookup", Detail: "the token names nobody", Remedy: "use one that carries client_id, azp or sub"}
	}
	key := r.Header.Get(APIKeyHeader)
	if key == "" {
		return policy.Consumer{}, &fault.Error{Class: fault.Unauthenticated, Op: "lookup", Detail: "nobody says who asks", Remedy: "send an API key in the header " + APIKeyHeader + ", or a bearer token where one is asked for"}
	}
	if c, known := rules.ByKey(key); known {
		return c, nil
	}
	return policy.Consumer{}, &fault.Error{Class: fault.Unauthenticated, Op: "lookup", Detail: "this API key is nobody's", Remedy: "ask whoever runs Sorrel for one"}
}

// told is an answer that says about itself how old it is, and what it says apart from that.
type told interface {
	About() *lookup.Told
	Essence() any
}

// lookupRoute is one question. What it may be asked with stands in openapi.json too, which a test compares.
type lookupRoute struct {
	path       string
	parameters []string
	answer     func(r *http.Request, q lookup.Question) (told, error)
}

func (l Lookups) table() []lookupRoute {
	return []lookupRoute{
		{"/v1/records/{entity}/{id}", nil, func(r *http.Request, q lookup.Question) (told, error) {
			return l.Ask.Record(r.Context(), q, recordID(r))
		}},
		{"/v1/records", []string{"platform", "object", "id"}, func(r *http.Request, q lookup.Question) (told, error) {
			if err := given(r, "platform", "id"); err != nil {
				return nil, err
			}
			v := r.URL.Query()
			return l.Ask.Native(r.Context(), q, record.Ref{Platform: v.Get("platform"), Object: v.Get("object"), ID: v.Get("id")})
		}},
		{"/v1/customers/{id}/context", nil, func(r *http.Request, q lookup.Question) (told, error) {
			return l.Ask.Context(r.Context(), q, record.ID("customer/"+r.PathValue("id")))
		}},
		{"/v1/invoices", []string{"customer", "status", "after", "limit"}, l.invoices},
		{"/v1/entitlements", []string{"customer", "platform", "organization", "account", "product"}, l.entitlement},
	}
}

func (l Lookups) invoices(r *http.Request, q lookup.Question) (told, error) {
	if err := given(r, "customer"); err != nil {
		return nil, err
	}
	v := r.URL.Query()
	p := lookup.Page{Status: v.Get("status"), After: record.ID(v.Get("after"))}
	if text := v.Get("limit"); text != "" {
		var err error
		if p.Limit, err = strconv.Atoi(text); err != nil || p.Limit < 1 {
			return nil, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: fmt.Sprintf("limit is %.20q", text), Remedy: fmt.Sprintf("use a number from 1 to %d", lookup.MaxPage)}
		}
	}
	return l.Ask.Invoices(r.Context(), q, record.ID(v.Get("customer")), p)
}

func (l Lookups) entitlement(r *http.Request, q lookup.Question) (told, error) {
	v := r.URL.Query()
	native := v.Get("organization") + v.Get("account")
	if v.Has("customer") == v.Has("platform") || v.Has("organization") && v.Has("account") || v.Has("platform") != (native != "") || v.Has("customer") && v.Get("customer") == "" {
		return nil, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: "it is not clear whom the question is about",
			Remedy: "give either customer=customer/… or platform= with organization= or account=, the native id there"}
	}
	return l.Ask.Entitlement(r.Context(), q, lookup.AskEntitlement{Customer: record.ID(v.Get("customer")), Native: record.Ref{Platform: v.Get("platform"), ID: native}, Product: v.Get("product")})
}

// given asks for parameters.
func given(r *http.Request, names ...string) error {
	for _, n := range names {
		if r.URL.Query().Get(n) == "" {
			return &fault.Error{Class: fault.Malformed, Op: "lookup", Fields: []string{n}, Detail: "the parameter " + n + " is missing", Remedy: "give " + strings.Join(names, " and ")}
		}
	}
	return nil
}

// Routes serves the lookups, also below KeyedPath.
func (l Lookups) Routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, route := range l.table() {
		mux.HandleFunc("GET "+route.path, func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, route) })
	}
	description := l.description()
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json;version=3.1")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(description) // the caller hung up
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, &fault.Error{Class: fault.NotFound, Op: "lookup", Detail: "nothing answers " + r.Method + " at this path", Remedy: "GET /v1/openapi.json lists the paths"})
	})
	mux.Handle(KeyedPath+"/", http.StripPrefix(KeyedPath, mux))
	return mux
}

// ends says in an answer's headers that its path is deprecated, since when, and when it may be gone.
// https://www.rfc-editor.org/rfc/rfc9745 https://www.rfc-editor.org/rfc/rfc8594
func (l Lookups) ends(w http.ResponseWriter, path string) {
	d, deprecated := l.Config.Lookups().Deprecated[path]
	if !deprecated {
		return
	}
	w.Header().Set(DeprecationHeader, fmt.Sprintf("@%d", d.Since.Unix()))
	if !d.Sunset.IsZero() {
		w.Header().Set(SunsetHeader, d.Sunset.UTC().Format(http.TimeFormat))
	}
	if d.See != "" {
		w.Header().Set("Link", "<"+d.See+`>; rel="deprecation"`)
	}
}

// description is openapi.json, in which the paths are marked that are deprecated.
func (l Lookups) description() []byte {
	ends := l.Config.Lookups().Deprecated
	if len(ends) == 0 {
		return openAPI
	}
	var doc map[string]json.RawMessage
	var paths map[string]map[string]map[string]json.RawMessage
	if json.Unmarshal(openAPI, &doc) != nil || json.Unmarshal(doc["paths"], &paths) != nil {
		return openAPI // it is part of the program, and tested
	}
	for path := range ends {
		for _, operation := range paths[path] {
			operation["deprecated"] = json.RawMessage("true")
		}
	}
	var err error
	if doc["paths"], err = json.Marshal(paths); err != nil {
		return openAPI
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return openAPI
	}
	return out
}

func (l Lookups) serve(w http.ResponseWriter, r *http.Request, route lookupRoute) {
	began, trace := l.Now(), l.NewID()
	l.ends(w, route.path)
	w.Header().Set(CorrelationHeader, trace)
	w.Header().Set("Cache-Control", "private, no-cache") // ask again with If-None-Match
	w.Header().Set("Vary", "Authorization, "+APIKeyHeader)
	answer, err := l.answer(r, route, trace)
	l.Telemetry.Took("LookupAnswered", "", l.Now().Sub(began))
	if err == nil {
		err = send(w, r, answer)
	}
	if err == nil {
		return
	}
	if fault.RowOf(err).Status == http.StatusInternalServerError {
		l.Telemetry.Event(context.WithoutCancel(r.Context()), telemetry.Event{Step: "failed", Detail: route.path, Trace: trace, Err: err})
	}
	if after := intake.RetryAfter(err, l.Now()); after != "" {
		w.Header().Set("Retry-After", after)
	}
	p := intake.ProblemOf(err, trace)
	if p.Detail == "" && p.Status < http.StatusInternalServerError {
		p.Detail = rootCause(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller hung up
}

func (l Lookups) answer(r *http.Request, route lookupRoute, trace string) (told, error) {
	c, err := l.consumer(r)
	if err != nil {
		return nil, err
	}
	if err := l.Quotas.Take(r.Context(), c, l.Now()); err != nil {
		l.Telemetry.Count("LookupsOverQuota", "", 1)
		return nil, err
	}
	q := lookup.Question{Consumer: c, MaxAge: -1, Trace: trace}
	known := append(slices.Clone(route.parameters), "maxAge")
	for name, values := range r.URL.Query() {
		if !slices.Contains(known, name) || len(values) > 1 {
			return nil, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: fmt.Sprintf("the parameter %.40q is not known here, or given twice", name), Remedy: fmt.Sprintf("known here: %q", known)}
		}
	}
	if r.URL.Query().Has("maxAge") {
		text := r.URL.Query().Get("maxAge")
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxAgeBound {
			return nil, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: fmt.Sprintf("maxAge is %.20q", text), Remedy: fmt.Sprintf("give whole seconds from 0 to %d", maxAgeBound)}
		}
		q.MaxAge = time.Duration(n) * time.Second
	}
	return route.answer(r, q)
}

// send writes an answer, or says that the caller has it already.
func send(w http.ResponseWriter, r *http.Request, answer told) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fault.Wrap(fault.Internal, "lookup", "", err)
	}
	tag, err := tagOf(answer)
	if err != nil {
		return fault.Wrap(fault.Internal, "lookup", "", err)
	}
	about := answer.About()
	w.Header().Set("ETag", tag)
	w.Header().Set(AsOfHeader, about.AsOf.Format(time.RFC3339Nano))
	w.Header().Set(SourceHeader, about.Source)
	w.Header().Set(FreshnessHeader, about.Freshness)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the caller hung up
	return nil
}

// tagOf is the weak entity tag of an answer: of what it says, not of when that was asked. So the same values, read once more,
// need not be sent again; the headers say the new times.
func tagOf(answer told) (string, error) {
	text, err := json.Marshal(answer.Essence())
	sum := sha256.Sum256(text)
	return `W/"` + hex.EncodeToString(sum[:12]) + `"`, err
}

// matches compares weakly, as If-None-Match does. https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match
func matches(header, tag string) bool {
	weak := func(t string) string { return strings.TrimPrefix(strings.TrimSpace(t), "W/") }
	for _, t := range strings.Split(header, ",") {
		if t = weak(t); t == "*" || t != "" && t == weak(tag) {
			return true
		}
	}
	return false
}
