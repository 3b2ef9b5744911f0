package salesforcetwin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sorrel/shared/budget"
)

// Versions of the REST API that the org speaks.
const oldest, newest = 31, 66

// call is one request to a resource, or one part of a composite request.
type call struct {
	method  string
	path    []string // below /services/data/vNN.0, unescaped
	query   url.Values
	header  http.Header
	body    []byte
	base    string // /services/data/vNN.0
	version int
	x       *tx
}

// reply to a call; body nil = empty.
type reply struct {
	status int
	body   any
	csv    *table // in place of a body
}

type errorBody struct {
	Message   string   `json:"message"`
	ErrorCode string   `json:"errorCode"`
	Fields    []string `json:"fields,omitempty"`
}

func failed(e *apiError) reply {
	if e.status == http.StatusMultipleChoices {
		return reply{status: e.status, body: e.choices}
	}
	return reply{status: e.status, body: []errorBody{{e.message, e.code, e.fields}}}
}

func (t *Twin) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /services/oauth2/token", t.token)
	mux.HandleFunc("GET /services/data", func(w http.ResponseWriter, _ *http.Request) {
		type version struct {
			Label   string `json:"label"`
			URL     string `json:"url"`
			Version string `json:"version"`
		}
		var all []version
		for v := oldest; v <= newest; v++ {
			all = append(all, version{fmt.Sprintf("Release %d", v), fmt.Sprintf("/services/data/v%d.0", v), fmt.Sprintf("%d.0", v)})
		}
		writeJSON(w, http.StatusOK, all)
	})
	mux.HandleFunc("/services/data/", t.serve)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", t.opts.Now().UTC().Format(http.TimeFormat))
		mux.ServeHTTP(w, r)
	})
}

// serve answers everything that needs a session.
func (t *Twin) serve(w http.ResponseWriter, r *http.Request) {
	if e := t.session(r); e != nil {
		t.kit.Unauthorised()
		send(w, failed(e))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		send(w, failed(bad("JSON_PARSER_ERROR", "the body cannot be read")))
		return
	}
	if kind := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(kind, "application/json") {
		send(w, failed(&apiError{status: http.StatusUnsupportedMediaType, code: "UNSUPPORTED_MEDIA_TYPE", message: "content type is not supported: " + kind}))
		return
	}
	c, e := newCall(r.Method, r.URL.EscapedPath(), r.URL.Query(), body)
	if e != nil {
		send(w, failed(e))
		return
	}
	c.header = r.Header
	answer, limitInfo := t.answer(c)
	w.Header().Set("Sforce-Limit-Info", limitInfo)
	if answer.csv != nil {
		maps.Copy(w.Header(), answer.csv.header)
		_, _ = w.Write(answer.csv.body) // who asked may have gone
		return
	}
	if answer.body == nil {
		w.WriteHeader(answer.status)
		return
	}
	send(w, answer)
}

// answer runs one call as one transaction. The reply holds copies and can be sent without the lock.
func (t *Twin) answer(c *call) (r reply, limitInfo string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	used, most, within := t.spend()
	limitInfo = fmt.Sprintf("api-usage=%d/%d", used, most)
	if !within {
		t.kit.OverLimit(budget.Calls)
		return failed(overLimit()), limitInfo
	}
	c.x = t.begin(t.origin(c), IntegrationUser)
	c.x.assigns = !strings.EqualFold(c.header.Get("Sforce-Auto-Assign"), "FALSE")
	r = t.dispatch(c)
	t.done(c.x)
	return r, limitInfo
}

func send(w http.ResponseWriter, r reply) { writeJSON(w, r.status, r.body) }

func overLimit() *apiError {
	return &apiError{status: http.StatusForbidden, code: "REQUEST_LIMIT_EXCEEDED", message: "TotalRequests Limit exceeded."}
}

// throttled is the answer of the throttle fault.
func (t *Twin) throttled(w http.ResponseWriter, _ *http.Request) {
	most, _ := t.kit.Limit(budget.Calls, t.opts.DailyCalls)
	w.Header().Set("Date", t.opts.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Sforce-Limit-Info", fmt.Sprintf("api-usage=%d/%d", most, most))
	send(w, failed(overLimit()))
}

// used counts the calls of the last 24 hours, kept by the hour, those of others included, and says how many are allowed.
func (t *Twin) used() (used, most int) {
	hour := t.opts.Now().Unix() / 3600
	for ; t.hour < hour; t.hour++ {
		if hour-t.hour > 24 {
			t.hour = hour - 24
		}
		t.hours[(t.hour+1)%24] = 0
	}
	most, used = t.kit.Limit(budget.Calls, t.opts.DailyCalls)
	for _, n := range t.hours {
		used += n
	}
	return used, most
}

// spend counts one call, unless it is over the limit.
func (t *Twin) spend() (used, most int, within bool) {
	if used, most = t.used(); used >= most {
		return used, most, false
	}
	t.hours[t.hour%24]++
	return used + 1, most, true
}

// origin is the changeOrigin of the events that a call causes.
func (t *Twin) origin(c *call) string {
	origin := fmt.Sprintf("com/salesforce/api/rest/%d.0", c.version)
	for _, part := range strings.Split(c.header.Get("Sforce-Call-Options"), ",") {
		if client, ok := strings.CutPrefix(strings.TrimSpace(part), "client="); ok {
			origin += ";client=" + client
		}
	}
	return origin
}

func newCall(method, escaped string, query url.Values, body []byte) (*call, *apiError) {
	rest, ok := strings.CutPrefix(escaped, "/services/data/v")
	number, rest, _ := strings.Cut(rest, "/")
	v, err := strconv.Atoi(strings.TrimSuffix(number, ".0"))
	if !ok || err != nil || v < oldest || v > newest {
		return nil, missing()
	}
	c := &call{method: method, query: query, body: body, version: v, base: fmt.Sprintf("/services/data/v%d.0", v)}
	for _, p := range strings.Split(strings.Trim(rest, "/"), "/") {
		seg, err := url.PathUnescape(p)
		if err != nil {
			return nil, missing()
		}
		c.path = append(c.path, seg)
	}
	return c, nil
}

// dispatch finds the resource. The twin is locked.
func (t *Twin) dispatch(c *call) reply {
	name := strings.ToLower(c.path[0])
	operation := name
	if len(c.path) > 1 && (name == "sobjects" || name == "composite" || name == "jobs") {
		operation += "/" + c.path[1]
	}
	t.kit.Called(c.method + " " + operation)
	switch {
	case c.is("GET", "") && len(c.path) == 1:
		return reply{status: 200, body: map[string]string{"sobjects": c.base + "/sobjects", "query": c.base + "/query", "queryAll": c.base + "/queryAll",
			"limits": c.base + "/limits", "composite": c.base + "/composite", "identity": "https://login.salesforce.com/id/" + t.opts.OrgID + "/" + IntegrationUser}}
	case c.is("GET", "limits"):
		used, most := t.used()
		type limit struct{ Max, Remaining int }
		return reply{status: 200, body: map[string]limit{"DailyApiRequests": {most, max(0, most-used)}}}
	case c.is("GET", "query") || c.is("GET", "queryall"):
		return t.queryResource(c, name == "queryall")
	case name == "jobs":
		return t.jobsResource(c)
	case name == "sobjects":
		return t.sobjects(c)
	case name == "composite" && len(c.path) > 1 && c.path[1] == "sobjects":
		return t.collection(c)
	case c.is("POST", "composite") && len(c.path) == 1:
		return t.composite(c)
	}
	return failed(missing())
}

func (c *call) is(method, first string) bool {
	return c.method == method && strings.EqualFold(c.path[0], first)
}

// locator is an open query.
type locator struct {
	id   string
	s    *selection
	rows []*row
	size int
	base string
}

type page struct {
	TotalSize      int              `json:"totalSize"`
	Done           bool             `json:"done"`
	NextRecordsURL string           `json:"nextRecordsUrl,omitempty"`
	Records        []map[string]any `json:"records"`
}

// queryResource runs SOQL, or goes on from a locator.
func (t *Twin) queryResource(c *call, deleted bool) reply {
	if len(c.path) > 1 {
		id, at, _ := strings.Cut(c.path[1], "-")
		from, err := strconv.Atoi(at)
		i := slices.IndexFunc(t.cursors, func(l *locator) bool { return l.id == id })
		if err != nil || i < 0 || from <= 0 || from >= len(t.cursors[i].rows) {
			return failed(bad("INVALID_QUERY_LOCATOR", "invalid query locator"))
		}
		return reply{status: 200, body: t.page(t.cursors[i], from)}
	}
	s, e := t.parse(c.query.Get("q"))
	if e != nil {
		return failed(e)
	}
	size := 2000
	if _, n, ok := strings.Cut(c.header.Get("Sforce-Query-Options"), "batchSize="); ok {
		if asked, err := strconv.Atoi(strings.TrimSpace(n)); err == nil {
			size = min(max(asked, 200), 2000)
		}
	}
	size = min(size, t.opts.MaxPage)
	if s.number != "" {
		groups := t.aggregate(s, deleted)
		if len(groups) > size {
			return failed(bad("EXCEEDED_ID_LIMIT", "Aggregate query does not support queryMore(), use LIMIT to restrict the results to a single batch"))
		}
		return reply{status: 200, body: page{TotalSize: len(groups), Done: true, Records: groups}}
	}
	rows := t.run(s, deleted)
	if s.count {
		return reply{status: 200, body: page{TotalSize: len(rows), Done: true, Records: []map[string]any{}}}
	}
	t.serial++
	l := &locator{id: fullID("01g", t.serial), s: s, rows: rows, size: size, base: c.base}
	if len(rows) > l.size {
		t.cursors = append(t.cursors, l)
		t.cursors = t.cursors[max(0, len(t.cursors)-t.opts.Cursors):]
	}
	return reply{status: 200, body: t.page(l, 0)}
}

func (t *Twin) page(l *locator, from int) page {
	end := min(from+l.size, len(l.rows))
	p := page{TotalSize: len(l.rows), Done: end == len(l.rows), Records: make([]map[string]any, 0, end-from)}
	for _, r := range l.rows[from:end] {
		p.Records = append(p.Records, t.render(l.s, r, l.base))
	}
	if !p.Done {
		p.NextRecordsURL = fmt.Sprintf("%s/query/%s-%d", l.base, l.id, end)
	}
	return p
}

type errorRow struct {
	StatusCode string   `json:"statusCode"`
	Message    string   `json:"message"`
	Fields     []string `json:"fields"`
}

// saved answers a create or an upsert, and is one row of a collection's answer.
type saved struct {
	ID      string     `json:"id,omitempty"`
	Success bool       `json:"success"`
	Errors  []errorRow `json:"errors"`
	Created *bool      `json:"created,omitempty"`
}

func ok(id string) saved { return saved{ID: id, Success: true, Errors: []errorRow{}} }

func (c *call) fields() (map[string]any, *apiError) {
	var m map[string]any
	if err := decode(c.body, &m); err != nil || m == nil {
		return nil, undecodable("JSON_PARSER_ERROR", "an object is expected")
	}
	return m, nil
}

func decode(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	return dec.Decode(into)
}

// sobjects serves /sobjects, /sobjects/{object}[/describe], …/{id} and …/{external}/{value}.
func (t *Twin) sobjects(c *call) reply {
	if len(c.path) == 1 {
		var all []described
		for _, o := range t.objects {
			all = append(all, o.describe(c.base, false))
		}
		slices.SortFunc(all, func(a, b described) int { return strings.Compare(a.Name, b.Name) })
		return reply{status: 200, body: map[string]any{"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": all}}
	}
	o := t.objects[strings.ToLower(c.path[1])]
	if o == nil {
		return failed(missing())
	}
	switch {
	case len(c.path) == 2 && c.method == "GET":
		return reply{status: 200, body: map[string]any{"objectDescribe": o.describe(c.base, false), "recentItems": []string{}}}
	case len(c.path) == 2 && c.method == "POST":
		given, e := c.fields()
		if e == nil {
			var r *row
			if r, e = c.x.create(o, given, nil, ""); e == nil {
				t.kit.Wrote(o.name, r.id)
				return reply{status: 201, body: ok(r.id)}
			}
		}
		return failed(e)
	case len(c.path) == 3 && c.path[2] == "describe" && c.method == "GET":
		return reply{status: 200, body: o.describe(c.base, true)}
	case len(c.path) == 3:
		key, valid := short(c.path[2])
		r := o.rows[key]
		if !valid || r == nil {
			return failed(missing())
		}
		return t.record(c, r)
	case len(c.path) == 4:
		f := o.field(c.path[2])
		if f == nil || !f.ExternalID && f.Type != typeID {
			return failed(missing())
		}
		return t.byExternal(c, o, f, c.path[3])
	}
	return failed(missing())
}

func (t *Twin) record(c *call, r *row) reply {
	if r.deleted {
		return failed(gone())
	}
	switch c.method {
	case "GET":
		m := r.rest(c.base)
		if asked := c.query.Get("fields"); asked != "" {
			only := map[string]any{"attributes": m["attributes"]}
			for _, n := range strings.Split(asked, ",") {
				f := r.o.field(strings.TrimSpace(n))
				if f == nil {
					return failed(bad("INVALID_FIELD", fmt.Sprintf("No such column '%s' on entity '%s'", n, r.o.name)))
				}
				only[f.Name] = r.value(f)
			}
			m = only
		}
		return reply{status: 200, body: m}
	case "PATCH":
		given, e := c.fields()
		if e == nil {
			e = unaddressed(given, "Id")
		}
		if e == nil {
			e = c.x.update(r, given)
		}
		if e != nil {
			return failed(e)
		}
		t.kit.Wrote(r.o.name, r.id)
		return reply{status: 204}
	case "DELETE":
		if e := c.x.delete(r); e != nil {
			return failed(e)
		}
		t.kit.Wrote(r.o.name, r.id)
		return reply{status: 204}
	}
	return failed(&apiError{status: 405, code: "METHOD_NOT_ALLOWED", message: "HTTP Method '" + c.method + "' not allowed. Allowed are HEAD,GET,PATCH,DELETE"})
}

// unaddressed refuses a body that repeats what the address says.
func unaddressed(given map[string]any, names ...string) *apiError {
	for k := range given {
		for _, n := range names {
			if strings.EqualFold(k, n) {
				return bad("INVALID_FIELD", fmt.Sprintf("The %s field should not be specified in the sobject data.", n))
			}
		}
	}
	return nil
}

// byExternal serves …/{external}/{value}: read, upsert and delete.
func (t *Twin) byExternal(c *call, o *object, f *Field, value string) reply {
	if f.Type == typeID {
		key, valid := short(value)
		if r := o.rows[key]; valid && r != nil {
			return t.record(c, r)
		}
		return failed(missing())
	}
	if c.method != "PATCH" {
		rows := o.index[f.Name][strings.ToLower(value)]
		switch len(rows) {
		case 0:
			return failed(missing())
		case 1:
			return t.record(c, rows[0])
		}
		return failed(several(c.base, rows))
	}
	given, e := c.fields()
	if e == nil {
		e = unaddressed(given, "Id", f.Name)
	}
	if e != nil {
		return failed(e)
	}
	r, created, e := t.upsert(c, o, f, value, given)
	switch {
	case e != nil:
		return failed(e)
	case created:
		s := ok(r.id)
		s.Created = &created
		return reply{status: 201, body: s}
	case c.version < 46:
		return reply{status: 204}
	}
	s := ok(r.id)
	s.Created = &created
	return reply{status: 200, body: s}
}

func several(base string, rows []*row) *apiError {
	e := &apiError{status: http.StatusMultipleChoices, code: "DUPLICATE_EXTERNAL_ID", message: "more than one record found for external id field"}
	for _, r := range rows {
		e.choices = append(e.choices, base+"/sobjects/"+r.o.name+"/"+r.id)
	}
	return e
}

func (t *Twin) upsert(c *call, o *object, f *Field, value string, given map[string]any) (*row, bool, *apiError) {
	rows := o.index[f.Name][strings.ToLower(value)]
	if len(rows) > 1 {
		return nil, false, several(c.base, rows)
	}
	if len(rows) == 1 {
		r := rows[0] // the save below changes the index that rows belongs to
		e := c.x.update(r, given)
		if e == nil {
			t.kit.Wrote(o.name, r.id)
		}
		return r, false, e
	}
	clean, e := c.x.value(f, value)
	if e != nil {
		return nil, false, e
	}
	text, _ := clean.(string)
	r, e := c.x.create(o, given, f, text)
	if e == nil {
		t.kit.Wrote(o.name, r.id)
	}
	return r, true, e
}

// collection serves /composite/sobjects: many records in one call, each with its own row of the answer.
func (t *Twin) collection(c *call) reply {
	switch {
	case c.method == "DELETE" && len(c.path) == 2:
		return t.eachRow(c, strings.Split(c.query.Get("ids"), ","), c.query.Get("allOrNone") == "true", func(id string) (saved, *apiError) {
			r := t.anyRow(id)
			if r == nil {
				return saved{}, bad("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
			}
			e := c.x.delete(r)
			if e == nil {
				t.kit.Wrote(r.o.name, r.id)
			}
			return ok(r.id), e
		})
	case len(c.path) == 3 && (c.method == "GET" || c.method == "POST"):
		return t.retrieve(c)
	}
	var asked struct {
		AllOrNone bool             `json:"allOrNone"`
		Records   []map[string]any `json:"records"`
	}
	if err := decode(c.body, &asked); err != nil {
		return failed(undecodable("JSON_PARSER_ERROR", "records and allOrNone are expected"))
	}
	typeOf := func(m map[string]any) *object {
		a, _ := m["attributes"].(map[string]any)
		name, _ := a["type"].(string)
		return t.objects[strings.ToLower(name)]
	}
	take := func(m map[string]any, name string) string {
		for k, v := range m {
			if strings.EqualFold(k, name) {
				delete(m, k)
				s, _ := v.(string)
				return s
			}
		}
		return ""
	}
	// What cannot be decoded fails the whole call before anything is written.
	for _, m := range asked.Records {
		o := typeOf(m)
		if o == nil {
			return failed(bad("INVALID_TYPE", "every record needs attributes with a known type"))
		}
		for k := range m {
			if k != "attributes" && o.field(k) == nil && o.parent[strings.ToLower(k)] == nil {
				return failed(undecodable("INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", k, o.name)))
			}
		}
	}
	switch {
	case c.method == "POST" && len(c.path) == 2:
		return t.eachRecord(c, asked.Records, asked.AllOrNone, func(m map[string]any) (saved, *apiError) {
			r, e := c.x.create(typeOf(m), m, nil, "")
			if e != nil {
				return saved{}, e
			}
			t.kit.Wrote(r.o.name, r.id)
			return ok(r.id), nil
		})
	case c.method == "PATCH" && len(c.path) == 2:
		return t.eachRecord(c, asked.Records, asked.AllOrNone, func(m map[string]any) (saved, *apiError) {
			id := take(m, "id")
			if id == "" {
				return saved{}, bad("MISSING_ARGUMENT", "Id not specified in an update call")
			}
			r, err := typeOf(m).find(id)
			if err != nil {
				if _, valid := short(id); !valid {
					return saved{}, bad("MALFORMED_ID", "Id: id value of incorrect type: "+id, "Id")
				}
				return saved{}, &apiError{status: 404, code: "NOT_FOUND", message: "The requested resource does not exist"}
			}
			if e := c.x.update(r, m); e != nil {
				return saved{}, e
			}
			t.kit.Wrote(r.o.name, r.id)
			return ok(r.id), nil
		})
	case c.method == "PATCH" && len(c.path) == 4 && c.version >= 46:
		o := t.objects[strings.ToLower(c.path[2])]
		if o == nil {
			return failed(missing())
		}
		f := o.field(c.path[3])
		if f == nil || !f.ExternalID {
			return failed(missing())
		}
		seen := map[string]bool{}
		return t.eachRecord(c, asked.Records, asked.AllOrNone, func(m map[string]any) (saved, *apiError) {
			value := take(m, f.Name)
			switch key := strings.ToLower(value); {
			case typeOf(m) != o:
				return saved{}, bad("INVALID_TYPE", "all records must be of type "+o.name)
			case value == "":
				return saved{}, bad("MISSING_ARGUMENT", f.Name+" not specified", f.Name)
			case seen[key]:
				return saved{}, bad("DUPLICATE_VALUE", "Duplicate external id specified: "+value, f.Name)
			default:
				seen[key] = true
			}
			r, created, e := t.upsert(c, o, f, value, m)
			if e != nil {
				return saved{}, e
			}
			s := ok(r.id)
			s.Created = &created
			return s, nil
		})
	}
	return failed(missing())
}

func (t *Twin) anyRow(id string) *row {
	key, valid := short(id)
	for _, o := range t.objects {
		if valid && o.rows[key] != nil {
			return o.rows[key]
		}
	}
	return nil
}

func (t *Twin) eachRecord(c *call, records []map[string]any, allOrNone bool, do func(map[string]any) (saved, *apiError)) reply {
	return eachOf(c, records, allOrNone, do)
}

func (t *Twin) eachRow(c *call, ids []string, allOrNone bool, do func(string) (saved, *apiError)) reply {
	return eachOf(c, slices.DeleteFunc(ids, func(s string) bool { return s == "" }), allOrNone, do)
}

func eachOf[T any](c *call, items []T, allOrNone bool, do func(T) (saved, *apiError)) reply {
	const most = 200
	if len(items) == 0 {
		return failed(bad("REQUIRED_FIELD_MISSING", "At least 1 record is required"))
	}
	if len(items) > most {
		return failed(bad("EXCEEDED_ID_LIMIT", fmt.Sprintf("record limit reached. cannot submit more than %d records into this call", most)))
	}
	start := c.x.savepoint()
	rows := make([]saved, len(items))
	broken := false
	for i, item := range items {
		back := c.x.savepoint()
		s, e := do(item)
		if e != nil {
			back()
			if e.decoding {
				start()
				return failed(e)
			}
			s, broken = saved{Errors: []errorRow{{e.code, e.message, append([]string{}, e.fields...)}}}, true
		}
		rows[i] = s
	}
	if broken && allOrNone {
		start()
		for i := range rows {
			if rows[i].Success {
				rows[i] = saved{Errors: []errorRow{{"ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid and the request was using AllOrNone header", []string{}}}}
			}
		}
	}
	return reply{status: 200, body: rows}
}

// retrieve reads many records by id: null for one that is not there.
func (t *Twin) retrieve(c *call) reply {
	o := t.objects[strings.ToLower(c.path[2])]
	if o == nil {
		return failed(missing())
	}
	asked := struct{ IDs, Fields []string }{strings.Split(c.query.Get("ids"), ","), strings.Split(c.query.Get("fields"), ",")}
	if c.method == "POST" {
		if err := decode(c.body, &asked); err != nil {
			return failed(undecodable("JSON_PARSER_ERROR", "ids and fields are expected"))
		}
	}
	out := make([]map[string]any, len(asked.IDs))
	for i, id := range asked.IDs {
		r, err := o.find(id)
		if err != nil || r.deleted {
			continue
		}
		out[i] = map[string]any{"attributes": r.attributes(c.base), "Id": r.id}
		for _, n := range asked.Fields {
			f := o.field(n)
			if f == nil {
				return failed(bad("INVALID_FIELD", fmt.Sprintf("No such column '%s' on entity '%s'", n, o.name)))
			}
			out[i][f.Name] = r.value(f)
		}
	}
	return reply{status: 200, body: out}
}

// composite serves up to 25 requests in one. Of references only @{name.id} is known.
func (t *Twin) composite(c *call) reply {
	type part struct {
		Method      string          `json:"method"`
		URL         string          `json:"url"`
		ReferenceID string          `json:"referenceId"`
		Body        json.RawMessage `json:"body"`
	}
	type answered struct {
		Body           any               `json:"body"`
		HTTPHeaders    map[string]string `json:"httpHeaders"`
		HTTPStatusCode int               `json:"httpStatusCode"`
		ReferenceID    string            `json:"referenceId"`
	}
	var asked struct {
		AllOrNone bool   `json:"allOrNone"`
		Parts     []part `json:"compositeRequest"`
	}
	if err := decode(c.body, &asked); err != nil || len(asked.Parts) == 0 {
		return failed(undecodable("JSON_PARSER_ERROR", "compositeRequest is expected"))
	}
	if len(asked.Parts) > 25 {
		return failed(bad("INVALID_OPERATION", "The number of subrequests exceeds the limit of 25"))
	}
	start := c.x.savepoint()
	out := make([]answered, len(asked.Parts))
	var ids []string // pairs for a replacer
	broken := -1
	for i, p := range asked.Parts {
		refs := strings.NewReplacer(ids...)
		answer := failed(bad("INVALID_INPUT", "url is not understood"))
		if u, err := url.Parse(refs.Replace(p.URL)); err == nil {
			sub, e := newCall(p.Method, u.EscapedPath(), u.Query(), []byte(refs.Replace(string(p.Body))))
			if e != nil {
				answer = failed(e)
			} else if !strings.EqualFold(sub.path[0], "composite") {
				sub.header, sub.x = c.header, c.x
				answer = t.dispatch(sub)
			}
		}
		out[i] = answered{answer.body, map[string]string{}, answer.status, p.ReferenceID}
		if s, isSaved := answer.body.(saved); isSaved {
			ids = append(ids, "@{"+p.ReferenceID+".id}", s.ID)
		}
		if answer.status >= 300 && broken < 0 {
			broken = i
		}
	}
	if asked.AllOrNone && broken >= 0 {
		start()
		for i := range out {
			if i != broken {
				out[i].HTTPStatusCode, out[i].Body = 400, []errorBody{{"The transaction was rolled back since another operation in the same transaction failed.", "PROCESSING_HALTED", nil}}
			}
		}
	}
	return reply{status: 200, body: map[string]any{"compositeResponse": out}}
}
