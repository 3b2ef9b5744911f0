package netsuitetwin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sorrel/shared/budget"
)

const (
	rest      = "/services/rest"
	tokenPath = rest + "/auth/oauth2/v1/token"
)

// over marks a request that came while the account's concurrency was used up.
type over struct{}

// counted counts requests in flight, before any latency fault holds them. One that is refused takes no place.
func (t *Twin) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", t.opt.Now().UTC().Format(http.TimeFormat))
		if !strings.HasPrefix(r.URL.Path, rest) || r.URL.Path == tokenPath {
			next.ServeHTTP(w, r)
			return
		}
		limit, others := t.kit.Limit(budget.Calls, t.opt.Concurrency)
		t.mu.Lock()
		tooMany := limit >= 0 && t.inFlight+others >= limit
		if !tooMany {
			t.inFlight++
		}
		t.mu.Unlock()
		if tooMany {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), over{}, true)))
			return
		}
		defer func() {
			t.mu.Lock()
			t.inFlight--
			t.mu.Unlock()
		}()
		next.ServeHTTP(w, r)
	})
}

// overLimit is NetSuite's answer, which has no Retry-After.
func overLimit(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=error")
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(w, `{"type":"https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html","title":"Bad Request","status":429,`+
		`"o:errorDetails":[{"detail":"Concurrent request limit exceeded. Request blocked.","o:errorCode":"CONCURRENCY_LIMIT_EXCEEDED"}]}`)
}

// refuse answers in the record API's error shape. where is o:errorPath, o:errorHeader or o:errorQueryParam.
func refuse(w http.ResponseWriter, status int, code, detail, where, at string) {
	d := map[string]string{"detail": detail, "o:errorCode": code}
	if at != "" {
		d[where] = at
	}
	b, err := json.Marshal(map[string]any{"type": "https://www.rfc-editor.org/rfc/rfc9110.html#section-15.5", "title": http.StatusText(status),
		"status": status, "o:errorDetails": []any{d}})
	if err != nil {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=error")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func (t *Twin) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+tokenPath, t.token)
	guarded := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			t.kit.Called(pattern)
			if r.Context().Value(over{}) != nil {
				t.kit.OverLimit(budget.Calls)
				overLimit(w)
				return
			}
			t.mu.RLock()
			end, ok := t.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
			t.mu.RUnlock()
			if !ok || !t.opt.Now().Before(end) {
				t.kit.Unauthorised()
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.Host+`", error="invalid_token"`)
				refuse(w, http.StatusUnauthorized, "INVALID_LOGIN", "Invalid login attempt.", "", "")
				return
			}
			h(w, r)
		})
	}
	guarded("POST "+rest+"/query/v1/suiteql", t.suiteql)
	const record = rest + "/record/v1/{type}"
	guarded("GET "+record, t.typed(t.collection))
	guarded("POST "+record, t.typed(t.create))
	guarded("GET "+record+"/{key}", t.typed(t.get))
	guarded("PATCH "+record+"/{key}", t.typed(t.write))
	guarded("PUT "+record+"/{key}", t.typed(t.write))
	guarded("DELETE "+record+"/{key}", t.typed(t.delete))
	guarded("GET "+record+"/{key}/{sub}", t.typed(t.get))
	guarded("POST "+record+"/{key}/!transform/{target}", t.typed(t.transform))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist.", "o:errorUrl", r.URL.Path)
	})
	return mux
}

// typed checks the record type and the role's permission, and holds the lock.
func (t *Twin) typed(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		defer t.mu.Unlock()
		object := r.PathValue("type")
		switch {
		case t.specs[object] == nil, object == item:
			refuse(w, http.StatusNotFound, "NOT_FOUND", fmt.Sprintf("Record type '%s' does not exist.", object), "o:errorUrl", r.URL.Path)
		case t.forbidden[object]:
			refuse(w, http.StatusForbidden, "INSUFFICIENT_PERMISSION", "Permission Violation: your role does not have access to "+object+" records.", "", "")
		default:
			h(w, r)
		}
	}
}

// token checks a client assertion for real.
func (t *Twin) token(w http.ResponseWriter, r *http.Request) {
	t.kit.Called("POST " + tokenPath)
	deny := func(status int, code, why string) {
		t.kit.Unauthorised()
		answer(w, status, map[string]string{"error": code, "error_description": why})
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" ||
		r.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		deny(http.StatusBadRequest, "invalid_request", "grant_type or client_assertion_type")
		return
	}
	var issuer string
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}), jwt.WithTimeFunc(t.opt.Now),
		jwt.WithIssuedAt(), jwt.WithExpirationRequired()).ParseWithClaims(r.PostForm.Get("client_assertion"), claims, func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		t.mu.RLock()
		defer t.mu.RUnlock()
		c, ok := t.certs[kid]
		if !ok {
			return nil, fmt.Errorf("certificate %q is not mapped", kid)
		}
		issuer = c.client
		return c.key, nil
	})
	if err != nil {
		deny(http.StatusUnauthorized, "invalid_client", "assertion")
		return
	}
	issued, errI := claims.GetIssuedAt()
	ends, errE := claims.GetExpirationTime()
	iss, _ := claims.GetIssuer()
	audience, _ := claims.GetAudience()
	switch {
	case iss != issuer:
		deny(http.StatusUnauthorized, "invalid_client", "iss")
	case !slices.Contains(audience, "https://"+r.Host+tokenPath) && !slices.Contains(audience, "http://"+r.Host+tokenPath):
		deny(http.StatusBadRequest, "invalid_grant", "aud")
	case errI != nil || errE != nil || issued == nil || ends.Sub(issued.Time) >= time.Hour:
		deny(http.StatusBadRequest, "invalid_grant", "iat and exp must be less than 3600 s apart")
	case !slices.Contains(scopes(claims["scope"]), "rest_webservices"):
		deny(http.StatusBadRequest, "invalid_scope", "scope")
	default:
		t.mu.Lock()
		token := fmt.Sprintf("twin.%016x%016x", t.rng.Uint64(), t.rng.Uint64())
		t.tokens[token] = t.opt.Now().Add(t.opt.TokenLife)
		t.mu.Unlock()
		var life any = strconv.Itoa(int(t.opt.TokenLife.Seconds()))
		if t.opt.Numbers {
			life = int(t.opt.TokenLife.Seconds())
		}
		answer(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": life, "token_type": "bearer"})
	}
}

// scopes reads an array, a comma-separated or a space-joined text: all three are in use.
func scopes(v any) []string {
	switch s := v.(type) {
	case string:
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	case []any:
		var out []string
		for _, e := range s {
			out = append(out, fmt.Sprint(e))
		}
		return out
	}
	return nil
}

// find resolves {key}: an internal id or eid:X.
func (t *Twin) find(w http.ResponseWriter, r *http.Request) *rec {
	object, key := r.PathValue("type"), r.PathValue("key")
	id, err := strconv.ParseInt(key, 10, 64)
	if ext, ok := strings.CutPrefix(key, "eid:"); ok {
		id, err = t.external[object][ext], nil
	}
	found := t.byID[object][id]
	if err != nil || found == nil {
		refuse(w, http.StatusNotFound, "NONEXISTENT_ID", "The record instance does not exist. Provide a valid record instance ID.", "o:errorUrl", r.URL.Path)
		return nil
	}
	return found
}

var isFilter = regexp.MustCompile(`^(\w+) IS "?([^"]*)"?$`)

// collection lists ids and links only. Its filter knows one clause, such as email IS "a@b.test".
func (t *Twin) collection(w http.ResponseWriter, r *http.Request) {
	limit, offset, ok := paging(w, r, 1000)
	if !ok {
		return
	}
	var clause []string
	if q := r.URL.Query().Get("q"); q != "" {
		if clause = isFilter.FindStringSubmatch(q); clause == nil {
			refuse(w, http.StatusBadRequest, "INVALID_PARAMETER", "Invalid filter.", "o:errorQueryParam", "q")
			return
		}
	}
	object := r.PathValue("type")
	ids := []any{}
	for _, id := range slices.Sorted(maps.Keys(t.byID[object])) {
		full := t.byID[object][id]
		if clause == nil || fmt.Sprint(full.fields[clause[1]]) == clause[2] || clause[1] == "externalId" && full.external == clause[2] {
			ids = append(ids, map[string]any{"id": full.key(), "links": []any{map[string]string{"rel": "self", "href": self(r, object, full.key())}}})
		}
	}
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=collection")
	writePage(w, r, ids, limit, offset)
}

func self(r *http.Request, object, key string) string {
	return "http://" + r.Host + rest + "/record/v1/" + object + "/" + key
}

// paging reads limit and offset, which must be a multiple of limit.
func paging(w http.ResponseWriter, r *http.Request, most int) (limit, offset int, ok bool) {
	limit = most
	for name, into := range map[string]*int{"limit": &limit, "offset": &offset} {
		if v := r.URL.Query().Get(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				refuse(w, http.StatusBadRequest, "INVALID_PARAMETER", "Invalid value for the query parameter "+name+".", "o:errorQueryParam", name)
				return 0, 0, false
			}
			*into = n
		}
	}
	if limit < 1 || limit > most || offset%limit != 0 || offset+limit > 100*1000 {
		refuse(w, http.StatusBadRequest, "INVALID_PARAMETER", "Provide a limit between 1 and 1000 and an offset that is divisible by the limit.", "o:errorQueryParam", "offset")
		return 0, 0, false
	}
	return limit, offset, true
}

func writePage(w http.ResponseWriter, r *http.Request, all []any, limit, offset int) {
	writeRows(w, r, all[min(offset, len(all)):min(offset+limit, len(all))], len(all), limit, offset)
}

// writeRows answers with one page of total rows.
func writeRows(w http.ResponseWriter, r *http.Request, page []any, total, limit, offset int) {
	more := offset+limit < total
	link := func(rel string, at int) map[string]string {
		return map[string]string{"rel": rel, "href": fmt.Sprintf("http://%s%s?limit=%d&offset=%d", r.Host, r.URL.Path, limit, at)}
	}
	links := []any{link("self", offset)}
	if more {
		links = append(links, link("next", offset+limit))
	}
	w.WriteHeader(http.StatusOK)
	_ = json.NewEncoder(w).Encode(map[string]any{"links": links, "count": len(page), "hasMore": more, "offset": offset, "totalResults": total, "items": page})
}

func (t *Twin) get(w http.ResponseWriter, r *http.Request) {
	found := t.find(w, r)
	if found == nil {
		return
	}
	m := found.full()
	q := r.URL.Query()
	link := func(sub string) []any {
		return []any{map[string]string{"rel": "self", "href": self(r, found.object, found.key()) + sub}}
	}
	w.Header().Set("Content-Type", "application/vnd.oracle.resource+json; type=singular")
	if sub := r.PathValue("sub"); sub != "" {
		part, ok := m[sub].(map[string]any)
		if !ok {
			refuse(w, http.StatusNotFound, "NOT_FOUND", "There is no such sublist or subrecord.", "o:errorUrl", r.URL.Path)
			return
		}
		part["links"] = link("/" + sub)
		_ = json.NewEncoder(w).Encode(part)
		return
	}
	for name, v := range m {
		part, ok := v.(map[string]any)
		_, isRef := part["id"]
		switch {
		case !ok || isRef:
		case q.Get("expandSubResources") != "true":
			m[name] = map[string]any{"links": link("/" + name)}
		default:
			part["links"] = link("/" + name)
			if items, ok := part["items"].([]any); ok {
				part["totalResults"], part["count"], part["hasMore"], part["offset"] = len(items), len(items), false, 0
			}
		}
		if isRef && t.specs[found.object][name].kind == "enum" && q.Get("simpleEnumFormat") == "true" {
			m[name] = part["id"]
		}
	}
	if wanted := q.Get("fields"); wanted != "" {
		maps.DeleteFunc(m, func(name string, _ any) bool {
			return name != "id" && !slices.Contains(strings.Split(wanted, ","), name)
		})
	}
	m["links"] = link("")
	_ = json.NewEncoder(w).Encode(m)
}

// body reads a write's JSON object and who writes.
func body(w http.ResponseWriter, r *http.Request) (map[string]any, actor, bool) {
	by := actor{context: "RESTWEBSERVICES", user: IntegrationUser, strict: r.Header.Get("X-NetSuite-PropertyNameValidation") == "Error"}
	if names := r.URL.Query().Get("replace"); names != "" {
		by.replace = strings.Split(names, ",")
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 104<<20))
	dec.UseNumber()
	var in map[string]any
	if err := dec.Decode(&in); err != nil || in == nil {
		refuse(w, http.StatusBadRequest, "INVALID_CONTENT", "Invalid content in the request body.", "", "")
		return nil, by, false
	}
	return in, by, true
}

// finish answers a write, or its refusal.
func (t *Twin) finish(w http.ResponseWriter, r *http.Request, saved *rec, bad *refusal) {
	if bad != nil {
		refuse(w, bad.status, bad.code, bad.detail, "o:errorPath", bad.path)
		return
	}
	t.kit.Wrote(saved.object, saved.key())
	w.Header().Set("Location", self(r, saved.object, saved.key()))
	w.WriteHeader(http.StatusNoContent)
}

func (t *Twin) create(w http.ResponseWriter, r *http.Request) {
	in, by, ok := body(w, r)
	if !ok {
		return
	}
	if r.PathValue("type") == itemFulfillment {
		refuse(w, http.StatusBadRequest, "USER_ERROR", "An item fulfillment is created by transforming a sales order.", "", "")
		return
	}
	saved, bad := t.save(r.PathValue("type"), nil, 0, in, t.opt.Now(), by)
	t.finish(w, r, saved, bad)
}

var eid = regexp.MustCompile(`^eid:([A-Za-z0-9_-]+)$`)

// write updates (PATCH, PUT by id) or upserts (PUT by external id).
func (t *Twin) write(w http.ResponseWriter, r *http.Request) {
	object := r.PathValue("type")
	m := eid.FindStringSubmatch(r.PathValue("key"))
	var old *rec
	if r.Method == http.MethodPut && m != nil {
		old = t.byID[object][t.external[object][m[1]]]
		if old == nil && object == itemFulfillment {
			refuse(w, http.StatusBadRequest, "USER_ERROR", "An item fulfillment is created by transforming a sales order.", "", "")
			return
		}
	} else if old = t.find(w, r); old == nil {
		return
	}
	in, by, ok := body(w, r)
	if !ok {
		return
	}
	if old == nil {
		in["externalId"] = m[1]
	}
	saved, bad := t.save(object, old, 0, in, t.opt.Now(), by)
	t.finish(w, r, saved, bad)
}

func (t *Twin) delete(w http.ResponseWriter, r *http.Request) {
	if found := t.find(w, r); found != nil {
		if bad := t.dependent(found); bad != nil {
			refuse(w, bad.status, bad.code, bad.detail, "", "")
			return
		}
		t.drop(found, actor{context: "RESTWEBSERVICES", user: IntegrationUser}, "")
		t.kit.Wrote(found.object, found.key())
		w.WriteHeader(http.StatusNoContent)
	}
}

// transform makes a fulfilment of what is left to ship on a sales order, or of the lines that the body names
// by orderLine. The order's quantities and status follow without a webhook: NetSuite changes it itself, and
// such a change fires no user event on the order.
func (t *Twin) transform(w http.ResponseWriter, r *http.Request) {
	order := t.find(w, r)
	if order == nil {
		return
	}
	if order.object != salesOrder || r.PathValue("target") != itemFulfillment {
		refuse(w, http.StatusBadRequest, "INVALID_REQUEST", "This transformation is not available.", "", "")
		return
	}
	in, by, ok := body(w, r)
	if !ok {
		return
	}
	lines := deepCopy(order.fields["item"])
	shipped := map[string]string{}
	for _, l := range itemsOf(in["item"]) {
		shipped[fmt.Sprint(l["orderLine"])] = fmt.Sprint(l["quantity"])
	}
	var items []any
	left := false
	for _, l := range itemsOf(lines) {
		ordered, _ := dec(l["quantity"])
		done, _ := dec(l["quantityFulfilled"])
		quantity := ordered.Sub(done)
		if q, named := shipped[fmt.Sprint(l["line"])]; named {
			if n, ok := dec(json.Number(q)); ok && n.LessThan(quantity) {
				quantity = n
			}
		} else if in["item"] != nil {
			quantity = quantity.Sub(quantity)
		}
		if quantity.IsPositive() {
			items = append(items, map[string]any{"item": l["item"], "quantity": json.Number(quantity.String()), "orderLine": l["line"]})
			l["quantityFulfilled"] = json.Number(done.Add(quantity).String())
		}
		left = left || done.Add(quantity).LessThan(ordered)
	}
	if len(items) == 0 {
		refuse(w, http.StatusBadRequest, "USER_ERROR", "There is nothing left to fulfill on this order.", "", "")
		return
	}
	in["createdFrom"], in["entity"] = map[string]any{"id": order.key()}, order.fields["entity"]
	in["item"] = map[string]any{"items": items}
	for _, name := range []string{"shipMethod", "shipAddress"} {
		if order.fields[name] != nil && in[name] == nil {
			in[name] = order.fields[name]
		}
	}
	saved, bad := t.save(itemFulfillment, nil, 0, in, t.opt.Now(), by)
	if bad == nil {
		status := "F"
		if left {
			status = "D"
		}
		_, bad = t.save(salesOrder, order, 0, map[string]any{"item": lines, "orderStatus": status}, t.opt.Now(), actor{quiet: true, trusted: true, lines: true})
	}
	t.finish(w, r, saved, bad)
}
