package target

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/salesforce"
)

// Target is a running target.
type Target struct {
	server  *server
	tracker *load.Tracker
	now     func() time.Time
	delay   time.Duration
	calls   atomic.Int64

	mu       sync.Mutex
	rows     map[string]*row // by object and external id
	byID     map[string]*row
	accounts int
}

// row is one record with every body that was written to it.
type row struct {
	id     string
	bodies [][]byte
	at     time.Time
}

// Start starts a target that tells tracker what it is given. delay is how long it takes for each answer.
func Start(tracker *load.Tracker, now func() time.Time, delay time.Duration) (*Target, error) {
	t := &Target{tracker: tracker, now: now, delay: delay, rows: map[string]*row{}, byID: map[string]*row{}}
	s, err := listen(t.handle)
	if err != nil {
		return nil, fmt.Errorf("bench target: %w", err)
	}
	t.server = s
	return t, nil
}

// URL is where the target listens.
func (t *Target) URL() string { return "http://" + t.server.listener.Addr().String() }

// Close stops it.
func (t *Target) Close() { t.server.close() }

// Calls is how many requests it answered.
func (t *Target) Calls() int { return int(t.calls.Load()) }

// HasCustomer reports whether it holds an account.
func (t *Target) HasCustomer() bool { t.mu.Lock(); defer t.mu.Unlock(); return t.accounts > 0 }

// Credentials of the Salesforce that it plays.
func Credentials() salesforce.Credentials {
	return salesforce.Credentials{ClientID: "bench", ClientSecret: "bench-client-secret"}
}

func (t *Target) handle(r request) (int, []byte) {
	at := t.now()
	t.calls.Add(1)
	t.see(r.body, at)
	if t.delay > 0 {
		timer := time.NewTimer(t.delay)
		defer timer.Stop()
		<-timer.C
	}
	path, query, _ := strings.Cut(r.path, "?")
	if path == "/deliver" {
		return 204, nil
	}
	if path == "/services/oauth2/token" {
		return 200, []byte(`{"access_token":"bench","instance_url":"` + t.URL() + `","token_type":"Bearer"}`)
	}
	parts := strings.Split(path, "/") // "", services, data, v66.0, …
	if len(parts) < 5 {
		return 404, problem("NOT_FOUND")
	}
	switch rest := parts[4:]; {
	case r.method == "PATCH" && len(rest) == 4 && rest[0] == "sobjects":
		external, err := url.PathUnescape(rest[3])
		if err != nil {
			return 400, problem("INVALID_FIELD")
		}
		return 200, marshal(t.upsert(rest[1], external, r.body, at))
	case r.method == "PATCH" && len(rest) == 3 && rest[0] == "sobjects":
		if !t.update(rest[2], r.body, at) {
			return 404, problem("NOT_FOUND")
		}
		return 204, nil
	case r.method == "PATCH" && len(rest) >= 2 && rest[0] == "composite" && rest[1] == "sobjects":
		object := ""
		if len(rest) == 4 {
			object = rest[2]
		}
		return t.batch(object, r.body, at)
	case r.method == "GET" && (rest[0] == "query" || rest[0] == "queryAll"):
		return t.query(query)
	}
	return 404, problem("NOT_FOUND")
}

// see reports every order memo of a body.
func (t *Target) see(body []byte, at time.Time) {
	for {
		n, rev, rest, ok := load.Mark(body)
		if !ok {
			return
		}
		t.tracker.See(n, rev, at)
		body = rest
	}
}

type saved struct {
	ID      string   `json:"id"`
	Success bool     `json:"success"`
	Created bool     `json:"created"`
	Errors  []string `json:"errors"`
}

func (t *Target) upsert(object, external string, body []byte, at time.Time) saved {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := object + "/" + external
	r, had := t.rows[key]
	if !had {
		prefix := "801"
		if object == "Account" {
			prefix = "001"
			t.accounts++
		}
		r = &row{id: fmt.Sprintf("%s%015d", prefix, len(t.rows)+1)}
		r.bodies = append(r.bodies, marshal(map[string]string{"Id": r.id, "Sorrel_Id__c": external}))
		t.rows[key], t.byID[r.id] = r, r
	}
	r.write(body, at)
	return saved{r.id, true, !had, []string{}}
}

func (t *Target) update(id string, body []byte, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.byID[id]
	if ok {
		r.write(body, at)
	}
	return ok
}

func (r *row) write(body []byte, at time.Time) {
	r.bodies, r.at = append(r.bodies, append([]byte(nil), body...)), at
}

func (t *Target) batch(object string, body []byte, at time.Time) (int, []byte) {
	var in struct{ Records []json.RawMessage }
	if err := json.Unmarshal(body, &in); err != nil {
		return 400, problem("JSON_PARSER_ERROR")
	}
	out := make([]saved, len(in.Records))
	for i, raw := range in.Records {
		var keys struct {
			ID       string `json:"id"`
			External string `json:"Sorrel_Id__c"`
		}
		switch err := json.Unmarshal(raw, &keys); {
		case err != nil:
			return 400, problem("JSON_PARSER_ERROR")
		case object != "":
			out[i] = t.upsert(object, keys.External, raw, at)
		case t.update(keys.ID, raw, at):
			out[i] = saved{keys.ID, true, false, []string{}}
		default:
			return 400, problem("INVALID_CROSS_REFERENCE_KEY")
		}
	}
	return 200, marshal(out)
}

// query answers the connector's read-back of one record by external id or id: everything that was ever written,
// merged. Other queries find nothing.
func (t *Target) query(raw string) (int, []byte) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return 400, problem("MALFORMED_QUERY")
	}
	soql := values.Get("q")
	_, after, _ := strings.Cut(soql, " FROM ")
	object, where, _ := strings.Cut(after, " WHERE ")
	field, value, _ := strings.Cut(where, " = '")
	value, _, _ = strings.Cut(value, "'")
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[object+"/"+value]
	if field == "Id" {
		r = t.byID[value]
	}
	records := []map[string]json.RawMessage{}
	if r != nil {
		stamp := marshal(r.at.UTC().Format(salesforce.TimeLayout))
		all := map[string]json.RawMessage{"SystemModstamp": stamp, "CreatedDate": stamp, "IsDeleted": []byte("false")}
		for _, b := range r.bodies {
			var m map[string]json.RawMessage
			if json.Unmarshal(b, &m) == nil { // it was read once already
				maps.Copy(all, m)
			}
		}
		records = append(records, all)
	}
	return 200, marshal(map[string]any{"done": true, "totalSize": len(records), "records": records})
}

func problem(code string) []byte {
	return marshal([]map[string]string{{"errorCode": code, "message": "bench target"}})
}

func marshal(a any) []byte {
	b, _ := json.Marshal(a) // plain data always marshals
	return b
}
