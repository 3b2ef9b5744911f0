package servicenowtwin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/budget"
)

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller hung up: nothing to do
}

func refuse(w http.ResponseWriter, r *refused) {
	var detail any
	if r.detail != "" {
		detail = r.detail
	}
	reply(w, r.status, map[string]any{"error": map[string]any{"message": r.message, "detail": detail}, "status": "failure"})
}

// overLimit is the vendor's answer over a rate limit rule; limit 0: there is none, and no semaphore is free (a guess).
func (t *Twin) overLimit(w http.ResponseWriter, wait time.Duration, limit int) {
	w.Header().Set("Date", t.opt.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	if limit <= 0 {
		refuse(w, &refused{http.StatusTooManyRequests, "Too many requests", "No semaphore is free"})
		return
	}
	t.ruleHeaders(w, limit, t.opt.Now().Add(wait))
	refuse(w, &refused{http.StatusTooManyRequests, "Rate limit exceeded", fmt.Sprintf("Rate limit of %d requests per hour for Table API exceeded", limit)})
}

func (t *Twin) ruleHeaders(w http.ResponseWriter, limit int, end time.Time) {
	w.Header().Set("X-RateLimit-Limit", strconv.Itoa(limit))
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(end.Unix(), 10))
	w.Header().Set("X-RateLimit-Rule", "5f1dd1c3db2b5300ab3f9f8d3b961901")
}

// Handler serves the instance.
func (t *Twin) Handler() http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, do func(*call)) {
		for _, version := range []string{"", "v1/", "v2/"} {
			mux.HandleFunc(strings.Replace(pattern, "/api/now/", "/api/now/"+version, 1), func(w http.ResponseWriter, r *http.Request) {
				t.kit.Called(pattern)
				t.enter(w, r, do)
			})
		}
	}
	mux.HandleFunc("POST /oauth_token.do", t.oauth)
	serve("GET /api/now/table/{table}", (*call).list)
	serve("POST /api/now/table/{table}", (*call).insert)
	serve("GET /api/now/table/{table}/{id}", (*call).get)
	serve("PATCH /api/now/table/{table}/{id}", (*call).update)
	serve("PUT /api/now/table/{table}/{id}", (*call).update)
	serve("DELETE /api/now/table/{table}/{id}", (*call).remove)
	serve("GET /api/now/stats/{table}", (*call).stats)
	serve("POST /api/now/import/{table}", (*call).load)
	serve("POST /api/now/import/{table}/insertMultiple", (*call).loadMany)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &refused{http.StatusBadRequest, "Requested URI does not represent any resource", r.URL.Path})
	})
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", t.opt.Now().UTC().Format(http.TimeFormat))
		mux.ServeHTTP(w, r)
	})
	acts := http.NewServeMux()
	type act struct {
		Object string         `json:"object"`
		ID     string         `json:"id"`
		Fields map[string]any `json:"fields"`
		Field  Field          `json:"field"`
	}
	person := func(do func(act) (string, error)) http.HandlerFunc {
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
	acts.HandleFunc("POST /_twin/edit", person(func(a act) (string, error) { return t.Edit(a.Object, a.ID, a.Fields) }))
	acts.HandleFunc("POST /_twin/delete", person(func(a act) (string, error) { return a.ID, t.Delete(a.Object, a.ID) }))
	acts.HandleFunc("POST /_twin/field", person(func(a act) (string, error) { return a.Field.Name, t.AddField(a.Object, a.Field) }))
	acts.Handle("/", t.kit.Handler(api, t.state, t.reset))
	return acts
}

// oauth gives the token that is valid again, with what is left of its life.
func (t *Twin) oauth(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	cr := t.opt.Credentials
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		reply(w, http.StatusUnauthorized, map[string]any{"error": "unsupported_grant_type", "error_description": "grant type is not supported"})
		return
	case r.PostFormValue("client_id") != cr.ClientID, r.PostFormValue("client_secret") != cr.ClientSecret:
		t.kit.Unauthorised()
		reply(w, http.StatusUnauthorized, map[string]any{"error": "access_denied", "error_description": "access_denied"})
		return
	}
	now := t.opt.Now()
	if t.token == "" || !now.Before(t.expires) {
		t.token, t.expires = t.guid()+t.guid(), now.Add(t.opt.TokenLife)
	}
	reply(w, http.StatusOK, map[string]any{"access_token": t.token, "token_type": "Bearer", "scope": "useraccount", "expires_in": int(t.expires.Sub(now).Seconds())})
}

// call is one API call under way. The twin is locked while its handler runs.
type call struct {
	t     *Twin
	w     http.ResponseWriter
	r     *http.Request
	query url.Values
	name  string // of the table
	raw   []byte
}

func (t *Twin) enter(w http.ResponseWriter, r *http.Request, do func(*call)) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<20))
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.signedIn(r) {
		t.kit.Unauthorised()
		w.Header().Set("WWW-Authenticate", `BASIC realm="Service-now"`)
		refuse(w, &refused{http.StatusUnauthorized, "User Not Authenticated", "Required to provide Auth information"})
		return
	}
	if limit, others := t.kit.Limit(budget.Calls, t.opt.Limits.PerHour); limit > 0 {
		now := t.opt.Now()
		if !now.Before(t.hourEnd) {
			t.hourEnd, t.inHour = now.Add(time.Hour), 0
		}
		if t.inHour++; t.inHour+others > limit {
			t.kit.OverLimit(budget.Calls)
			t.overLimit(w, t.hourEnd.Sub(now), limit)
			return
		}
		t.ruleHeaders(w, limit, t.hourEnd)
	}
	if err != nil {
		refuse(w, &refused{http.StatusRequestEntityTooLarge, "Rejected large REST payload", "Max allowed: 10485760 bytes"})
		return
	}
	if media := r.Header.Get("Content-Type"); len(raw) > 0 && !strings.HasPrefix(media, "application/json") {
		refuse(w, &refused{http.StatusUnsupportedMediaType, "Unsupported media type", media})
		return
	}
	do(&call{t: t, w: w, r: r, query: r.URL.Query(), name: r.PathValue("table"), raw: raw})
}

func (t *Twin) signedIn(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	if token, ok := strings.CutPrefix(header, "Bearer "); ok {
		return token != "" && token == t.token && t.opt.Now().Before(t.expires)
	}
	cr := t.opt.Credentials
	return header == "Basic "+base64.StdEncoding.EncodeToString([]byte(cr.Username+":"+cr.Password))
}

// table returns the table, or answers 400 and returns nil.
func (c *call) table() *table {
	tb := c.t.tables[c.name]
	if tb == nil {
		refuse(c.w, &refused{http.StatusBadRequest, "Invalid table " + c.name, ""})
	}
	return tb
}

func (c *call) hidden(r *row) bool { return c.t.hidden[c.name+"/"+r.id] }

// row returns the record, or answers 404 and returns nil.
func (c *call) row(tb *table) *row {
	r := tb.rows[c.r.PathValue("id")]
	if r == nil || c.hidden(r) {
		refuse(c.w, &refused{http.StatusNotFound, "No Record found", "Record doesn't exist or ACL restricts the record retrieval"})
		return nil
	}
	return r
}

// body returns the request's members as strings, or answers 400.
func (c *call) body() (map[string]string, bool) {
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(string(c.raw)))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		refuse(c.w, &refused{http.StatusBadRequest, "Exception while reading request", "The payload is not valid JSON."})
		return nil, false
	}
	return flat(m), true
}

func flat(m map[string]any) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = str(v)
	}
	return out
}

// mayWrite answers 403 if an access rule forbids it.
func (c *call) mayWrite() bool {
	if c.t.forbidden[c.name] {
		refuse(c.w, &refused{http.StatusForbidden, "Operation Failed", "ACL Exception Update Failed due to security constraints"})
		return false
	}
	return true
}

// shown is a record as the request's parameters want it.
func (c *call) shown(tb *table, r *row) map[string]any {
	all := tb.show(r)
	if names := c.query.Get("sysparm_fields"); names != "" {
		some := map[string]any{}
		for _, n := range strings.Split(names, ",") {
			if v, ok := all[n]; ok { // invalid names are ignored
				some[n] = v
			}
		}
		all = some
	}
	display := c.query.Get("sysparm_display_value")
	bare := c.query.Get("sysparm_exclude_reference_link") == "true"
	for k, v := range all {
		f := tb.field(k)
		link := ""
		if f.Type == "reference" && v != "" {
			link = c.link(f.Target, v.(string))
		}
		switch {
		case display == "all":
			both := map[string]any{"display_value": v, "value": v}
			if link != "" && !bare {
				both["link"] = link
			}
			all[k] = both
		case link != "" && !bare:
			all[k] = map[string]any{"link": link, "value": v}
		}
	}
	return all
}

func (c *call) link(table, id string) string {
	return "https://" + c.r.Host + "/api/now/table/" + table + "/" + id
}

// list cuts the page first and lets access rules hide rows from it then.
func (c *call) list() {
	tb := c.table()
	if tb == nil {
		return
	}
	number := func(name string, otherwise int) (int, bool) {
		s := c.query.Get(name)
		if s == "" {
			return otherwise, true
		}
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= 0
	}
	limit, okLimit := number("sysparm_limit", 10000)
	offset, okOffset := number("sysparm_offset", 0)
	if !okLimit || !okOffset {
		refuse(c.w, &refused{http.StatusBadRequest, "Pagination not supported", "sysparm_limit and sysparm_offset must not be negative"})
		return
	}
	found := c.found(tb)
	total := len(found)
	page := found[min(offset, total):min(offset+limit, total)]
	if c.query.Get("sysparm_no_count") != "true" {
		c.w.Header().Set("X-Total-Count", strconv.Itoa(total))
	}
	if c.query.Get("sysparm_suppress_pagination_header") != "true" {
		c.paginate(offset, limit, total)
	}
	out := []map[string]any{}
	for _, r := range page {
		if !c.hidden(r) {
			out = append(out, c.shown(tb, r))
		}
	}
	if len(out) == 0 && strings.HasPrefix(c.r.URL.Path, "/api/now/v1/") {
		refuse(c.w, &refused{http.StatusNotFound, "No Record found", "Records matching query not found"})
		return
	}
	reply(c.w, http.StatusOK, map[string]any{"result": out})
}

func (c *call) found(tb *table) []*row {
	q := tb.parse(c.query.Get("sysparm_query"), c.t.opt.Zone)
	if q.invalid && c.t.opt.ReturnsNoRows {
		return nil
	}
	return tb.find(q)
}

func (c *call) paginate(offset, limit, total int) {
	var links []string
	link := func(rel string, at int) {
		q := c.r.URL.Query()
		q.Set("sysparm_offset", strconv.Itoa(at))
		links = append(links, fmt.Sprintf(`<https://%s%s?%s>;rel="%s"`, c.r.Host, c.r.URL.Path, q.Encode(), rel))
	}
	if limit == 0 {
		return
	}
	if offset+limit < total {
		link("next", offset+limit)
	}
	if offset > 0 {
		link("prev", max(0, offset-limit))
	}
	link("first", 0)
	link("last", max(0, (total-1)/limit*limit))
	c.w.Header().Set("Link", strings.Join(links, ","))
}

func (c *call) get() {
	if tb := c.table(); tb != nil {
		if r := c.row(tb); r != nil {
			reply(c.w, http.StatusOK, map[string]any{"result": c.shown(tb, r)})
		}
	}
}

// answer shows a saved record, unless the caller does not want to see it.
func (c *call) answer(status int, tb *table, r *row) {
	c.t.kit.Wrote(c.name, r.id)
	if c.r.Header.Get("X-No-Response-Body") == "true" {
		c.w.WriteHeader(status)
		return
	}
	reply(c.w, status, map[string]any{"result": c.shown(tb, r)})
}

func (c *call) insert() {
	tb := c.table()
	if tb == nil || !c.mayWrite() {
		return
	}
	in, ok := c.body()
	if !ok {
		return
	}
	r, bad := c.t.save(c.name, nil, in, IntegrationUser)
	if bad != nil {
		refuse(c.w, bad)
		return
	}
	c.w.Header().Set("Location", c.link(c.name, r.id))
	c.answer(http.StatusCreated, tb, r)
}

func (c *call) update() {
	tb := c.table()
	if tb == nil || !c.mayWrite() {
		return
	}
	in, ok := c.body()
	if !ok {
		return
	}
	r := c.row(tb)
	if r == nil {
		return
	}
	r, bad := c.t.save(c.name, r, in, IntegrationUser)
	if bad != nil {
		refuse(c.w, bad)
		return
	}
	c.answer(http.StatusOK, tb, r)
}

func (c *call) remove() {
	tb := c.table()
	if tb == nil || !c.mayWrite() {
		return
	}
	r := c.row(tb)
	if r == nil {
		return
	}
	c.t.drop(c.name, r, IntegrationUser)
	c.t.kit.Wrote(c.name, r.id)
	c.w.WriteHeader(http.StatusNoContent)
}

// stats is the Aggregate API: count, sum, avg, min and max, perhaps by groups. It refuses where an access rule hides a record.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/c_AggregateAPI.html
func (c *call) stats() {
	tb := c.table()
	if tb == nil {
		return
	}
	var by []string
	for _, f := range strings.Split(c.query.Get("sysparm_group_by"), ",") {
		if tb.field(f) != nil {
			by = append(by, f)
		}
	}
	groups := map[string][]*row{}
	for _, r := range c.found(tb) {
		if c.hidden(r) {
			refuse(c.w, &refused{http.StatusForbidden, "Insufficient rights to query records", "Fields present in the query do not have permission to be read"})
			return
		}
		var key []string
		for _, f := range by {
			key = append(key, r.data[f])
		}
		k := strings.Join(key, "\x00")
		groups[k] = append(groups[k], r)
	}
	if len(by) == 0 {
		reply(c.w, http.StatusOK, map[string]any{"result": map[string]any{"stats": c.aggregate(tb, groups[""])}})
		return
	}
	keys := make([]string, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := []map[string]any{}
	for _, k := range keys {
		var fields []map[string]any
		for _, f := range by {
			fields = append(fields, map[string]any{"field": f, "value": groups[k][0].data[f]})
		}
		out = append(out, map[string]any{"stats": c.aggregate(tb, groups[k]), "groupby_fields": fields})
	}
	reply(c.w, http.StatusOK, map[string]any{"result": out})
}

func (c *call) aggregate(tb *table, rows []*row) map[string]any {
	out := map[string]any{}
	if c.query.Get("sysparm_count") == "true" {
		out["count"] = strconv.Itoa(len(rows))
	}
	for _, how := range []string{"sum", "avg", "min", "max"} {
		values := map[string]string{}
		for _, name := range strings.Split(c.query.Get("sysparm_"+how+"_fields"), ",") {
			if f := tb.field(name); f != nil {
				values[name] = f.fold(how, rows)
			}
		}
		if len(values) > 0 {
			out[how] = values
		}
	}
	return out
}

func (f *Field) fold(how string, rows []*row) string {
	var numbers []decimal.Decimal
	best := ""
	for _, r := range rows {
		v := r.data[f.Name]
		if v == "" {
			continue
		}
		if d, ok := number(v); ok {
			numbers = append(numbers, d)
		}
		if c := f.compare(v, best); best == "" || how == "min" && c < 0 || how == "max" && c > 0 {
			best = v
		}
	}
	if how == "min" || how == "max" {
		return best
	}
	if len(numbers) == 0 {
		return ""
	}
	sum := decimal.Sum(numbers[0], numbers[1:]...)
	if how == "avg" {
		return sum.DivRound(decimal.NewFromInt(int64(len(numbers))), 4).StringFixed(4)
	}
	return sum.String()
}

// load is an import set's row, transformed at once. HTTP says 201 even for one that failed.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/c_ImportSetAPI.html
func (c *call) load() {
	object, field, ok := c.t.staging(c.name)
	if !ok {
		refuse(c.w, &refused{http.StatusBadRequest, "Invalid table " + c.name, ""})
		return
	}
	in, ok := c.body()
	if !ok {
		return
	}
	c.t.imports++
	reply(c.w, http.StatusCreated, map[string]any{"import_set": fmt.Sprintf("ISET%07d", 10000+c.t.imports), "staging_table": c.name,
		"result": []any{c.transform(object, field, in)}})
}

// loadMany takes many rows and does not tell what became of them.
func (c *call) loadMany() {
	object, field, ok := c.t.staging(c.name)
	if !ok {
		refuse(c.w, &refused{http.StatusBadRequest, "Invalid table " + c.name, ""})
		return
	}
	var body struct {
		Records []map[string]any `json:"records"`
	}
	if err := json.Unmarshal(c.raw, &body); err != nil {
		refuse(c.w, &refused{http.StatusBadRequest, "Exception while reading request", "The payload is not valid JSON."})
		return
	}
	c.t.imports++
	for _, in := range body.Records {
		c.transform(object, field, flat(in))
	}
	reply(c.w, http.StatusCreated, map[string]any{"import_set_id": c.t.guid(), "multi_import_set_id": c.t.guid()})
}

// transform maps a row of a staging table by name and coalesces on u_sorrel_id, regardless of case. Empty columns
// are not copied.
func (c *call) transform(object string, field func(string) string, in map[string]string) map[string]any {
	tb := c.t.tables[object]
	fields := map[string]string{}
	for column, v := range in {
		if v != "" {
			fields[field(column)] = v
		}
	}
	out := map[string]any{"transform_map": mapName(object), "table": object}
	fail := func(message string) map[string]any {
		out["status"], out["error_message"] = "error", message
		return out
	}
	if c.t.forbidden[object] {
		return fail("ACL Exception Update Failed due to security constraints")
	}
	r := tb.unique["u_sorrel_id"][strings.ToLower(fields["u_sorrel_id"])]
	status, was := "inserted", int64(-1)
	if r != nil {
		status, was = "updated", r.count
	}
	r, bad := c.t.save(object, r, fields, IntegrationUser)
	if bad != nil {
		return fail(bad.detail)
	}
	if was == r.count {
		status = "ignored"
	}
	c.t.kit.Wrote(object, r.id)
	display := "name"
	if tb.field(display) == nil {
		display = "number"
	}
	out["display_name"], out["display_value"], out["record_link"] = display, r.data[display], c.link(object, r.id)
	out["status"], out["sys_id"] = status, r.id
	return out
}
