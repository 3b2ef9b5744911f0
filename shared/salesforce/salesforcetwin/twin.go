// Package salesforcetwin is a stand-in of a Salesforce org: OAuth sign-in, the REST resources that Sorrel and
// usual clients need, SOQL in an honest subset (what it does not know is MALFORMED_QUERY, never an empty
// result), restricted picklists and the other validations, the daily budget of calls, session ends, and both
// ways of push: Outbound Messages, repeated until the exact acknowledgement, and change events as EventBridge
// delivers them.
//
// Beside what package twin offers under /_twin/:
//
//	POST /_twin/edit     {"object","id","fields","user"}  a person saves a record (no id: a new one; no user: Person)
//	POST /_twin/delete   {"object","id"}                  … deletes one
//	POST /_twin/undelete {"object","id"}                  … takes it out of the recycle bin
//	POST /_twin/merge    {"object","winner","loser"}      … makes one of two accounts or contacts
//	POST /_twin/deactivate {"user"}                       somebody has left: nothing can be given to them any more
//	POST /_twin/events   {"url"}                          where change events go (in EventBridge's form)
//	POST /_twin/gap      {"object","ids","type"}          a GAP_… event, or any type with ids such as 001*
//	POST /_twin/expire   {}                               ends every session
//	POST /_twin/field    {"object","field"}               an administrator adds a custom field (see Field)
//	POST /_twin/picklist {"object","field","value"}       … adds a value to a picklist
//
// Not there: Bulk API 1.0 and the ingest jobs of 2.0, describe layouts, SOSL, aggregates but COUNT(), date literals, conditional requests,
// compound addresses in REST, triggers, validation and duplicate rules, SOAP (a merge is a person's act), the deletion with
// their parent of anything but opportunities and tasks, and the end of the recycle bin's 15 days.
package salesforcetwin

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"sorrel/shared/salesforce"
	"sorrel/shared/twin"
)

// Push says how changes of an object leave the org.
type Push struct {
	Events  bool     // change events
	Message bool     // Outbound Message
	Fields  []string // chosen for the Outbound Message; nil = all but long text
}

// Options of a Twin. Now is required; every zero value has the default that is named.
type Options struct {
	Now          func() time.Time
	Seed         uint64
	First        int             // ids begin after it
	OrgID        string          // 00Dxx0000001gEREAY
	ClientID     string          // sorrel-client
	ClientSecret string          // sorrel-client-secret
	Username     string          // integration@northwind.example
	Token        string          // of the Outbound Messages' endpoint URL: outbound-message-token
	Key          *rsa.PrivateKey // whose public half is the certificate of the app; nil = JWT bearer is not set up

	DailyCalls  int             // calls in a rolling 24 hours: 100,000
	SessionLife time.Duration   // 2 hours
	MaxPage     int             // most rows per query answer, at any asked batchSize: 2,000
	Cursors     int             // open query locators: 10
	RetryBase   time.Duration   // first pause before a push is repeated, doubled up to 2 hours, for 24 hours: 1 s
	Push        map[string]Push // by object; others: events, and for Account, Contact and Opportunity also messages
	AppFlow     bool            // change events in AppFlow's form instead of Event Relay's
	EpochDates  bool            // change events say times as epoch milliseconds
	USLocale    bool            // people's browsers turn phone numbers of ten digits into (415) 555-1212; the API never does

	// Normalise changes what anybody saves, beside what the org always does (text is trimmed, numbers are rounded
	// to the field's scale). Values are those of decoded JSON, with json.Number. It must not call the Twin.
	Normalise func(object, field string, value any) any
}

// Twin of one org. It is safe for concurrent use.
type Twin struct {
	opts Options
	kit  *twin.Kit

	mu       sync.Mutex
	rng      *rand.Rand
	objects  map[string]*object // by lower-case name
	serial   int
	latest   time.Time       // never goes back
	inactive map[string]bool // users, by id of 15 characters
	sessions map[string]time.Time
	cursors  []*locator
	jobs     []*bulkJob
	hours    [24]int // calls of the last 24 hours, by hour
	hour     int64   // newest of them, in hours since 1970
	commit   int64
	replay   int64
	events   string // where change events go
}

// New returns an org without records.
func New(opts Options) *Twin {
	for _, d := range []struct {
		at  *string
		def string
	}{
		{&opts.OrgID, "00Dxx0000001gEREAY"}, {&opts.ClientID, "sorrel-client"}, {&opts.ClientSecret, "sorrel-client-secret"},
		{&opts.Username, "integration@northwind.example"}, {&opts.Token, "outbound-message-token"},
	} {
		if *d.at == "" {
			*d.at = d.def
		}
	}
	for _, d := range []struct {
		at  *int
		def int
	}{{&opts.DailyCalls, 100_000}, {&opts.MaxPage, 2000}, {&opts.Cursors, 10}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if opts.SessionLife == 0 {
		opts.SessionLife = 2 * time.Hour
	}
	if opts.RetryBase == 0 {
		opts.RetryBase = time.Second
	}
	t := &Twin{opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 2)), serial: opts.First, objects: standard(), inactive: map[string]bool{}, sessions: map[string]time.Time{}, commit: 1_082_985_000_000}
	t.open()
	t.kit = twin.NewKit(twin.Config{Name: "salesforce", Now: opts.Now, Seed: opts.Seed, Throttled: t.throttled})
	return t
}

// Credentials are what a connector to this twin needs, webhooks included. With a Key they are those of the JWT
// bearer flow for everything but the key itself, which its owner adds.
func (t *Twin) Credentials() salesforce.Credentials {
	c := salesforce.Credentials{ClientID: t.opts.ClientID, OrgID: t.opts.OrgID, WebhookTokens: []string{t.opts.Token}}
	if t.opts.Key != nil {
		c.Username = t.opts.Username
	} else {
		c.ClientSecret = t.opts.ClientSecret
	}
	return c
}

// Kit is the part that all twins have.
func (t *Twin) Kit() *twin.Kit { return t.kit }

// SendEventsTo sets where change events go; an empty url stops them.
func (t *Twin) SendEventsTo(url string) { t.mu.Lock(); t.events = url; t.mu.Unlock() }

// Users of the org. Any other user id may act too.
const (
	IntegrationUser = "005xx000001SvogAAC" // whom the API's sessions belong to
	Person          = "005xx000001SwiPAAS"
	// DefaultCaseOwner gets the cases that nobody else is given.
	DefaultCaseOwner = "00Gxx000001ScqCEAS"
)

const (
	byPerson = "com/salesforce/api/soap/66.0;client=SfdcInternalAPI/"
)

// Edit saves a record as Person would in the browser; an empty id makes a new one.
func (t *Twin) Edit(name, id string, fields map[string]any) (string, error) {
	return t.EditAs(Person, name, id, fields)
}

// EditAs is Edit by another user, named by a user id; IntegrationUser is somebody who signed in by that name.
func (t *Twin) EditAs(user, name, id string, fields map[string]any) (string, error) {
	key, ok := short(user)
	if !ok || !strings.HasPrefix(key, "005") {
		return "", fmt.Errorf("salesforcetwin: %q is no user id; they have 15 or 18 characters and begin with 005", user)
	}
	user = key + suffix(key)
	given, err := normal(fields)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[strings.ToLower(name)]
	if o == nil {
		return "", fmt.Errorf("salesforcetwin: no object %q", name)
	}
	x := t.begin(byPerson, user)
	if id == "" {
		r, e := x.create(o, given, nil, "")
		if e != nil {
			return "", fmt.Errorf("salesforcetwin: new %s: %w", o.name, e)
		}
		t.done(x)
		return r.id, nil
	}
	r, err := o.find(id)
	if err != nil {
		return "", err
	}
	if e := x.update(r, given); e != nil {
		return "", fmt.Errorf("salesforcetwin: %s %s: %w", o.name, id, e)
	}
	t.done(x)
	return r.id, nil
}

// normal gives Go values the form that they have after JSON.
func normal(fields map[string]any) (map[string]any, error) {
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	return m, dec.Decode(&m)
}

func (o *object) find(id string) (*row, error) {
	key, _ := short(id)
	if o == nil || o.rows[key] == nil {
		return nil, fmt.Errorf("salesforcetwin: no record %q", id)
	}
	return o.rows[key], nil
}

// Delete moves a record to the recycle bin as a person would.
func (t *Twin) Delete(name, id string) error { return t.act(name, id, (*tx).delete) }

// Undelete takes a record out of the recycle bin. A record that was merged away comes back for itself, without
// the children that the winner took over.
func (t *Twin) Undelete(name, id string) error { return t.act(name, id, (*tx).undelete) }

// Merge makes one of two accounts or contacts as a person would: winner keeps its values and gets the children of
// loser, which is deleted with MasterRecordId.
func (t *Twin) Merge(name, winner, loser string) error {
	return t.act(name, loser, func(x *tx, lost *row) *apiError {
		won, err := lost.o.find(winner)
		if err != nil {
			return missing()
		}
		return x.merge(won, lost)
	})
}

func (t *Twin) act(name, id string, do func(*tx, *row) *apiError) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.objects[strings.ToLower(name)].find(id)
	if err != nil {
		return err
	}
	x := t.begin(byPerson, Person)
	if e := do(x, r); e != nil {
		return fmt.Errorf("salesforcetwin: %s %s: %w", name, id, e)
	}
	t.done(x)
	return nil
}

// Deactivate lets a user have left: records stay theirs, but none can be given to them any more.
func (t *Twin) Deactivate(user string) error {
	key, ok := short(user)
	if !ok || !strings.HasPrefix(key, "005") {
		return fmt.Errorf("salesforcetwin: %q is no user id; they have 15 or 18 characters and begin with 005", user)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inactive[key] = true
	return nil
}

// Get returns a live record in REST's shape.
func (t *Twin) Get(name, id string) (map[string]any, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.objects[strings.ToLower(name)].find(id)
	if err != nil || r.deleted {
		return nil, false
	}
	return r.rest(""), true
}

// All returns the live records of an object in REST's shape, oldest change first.
func (t *Twin) All(name string) []map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[strings.ToLower(name)]
	if o == nil {
		return nil
	}
	all := []map[string]any{}
	for _, r := range o.since(time.Time{}) {
		if !r.deleted {
			all = append(all, r.rest(""))
		}
	}
	return all
}

// ExpireSessions ends every session: the next call of each client answers 401.
func (t *Twin) ExpireSessions() { t.mu.Lock(); clear(t.sessions); t.mu.Unlock() }

func (t *Twin) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.objects {
		o.clear()
	}
	clear(t.sessions)
	clear(t.inactive)
	t.cursors, t.jobs, t.hours = nil, nil, [24]int{}
	t.open()
}

func (t *Twin) state() any {
	all := map[string][]map[string]any{}
	for _, name := range t.objectNames() {
		all[name] = t.All(name)
	}
	return all
}

func (t *Twin) objectNames() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for _, o := range t.objects {
		names = append(names, o.name)
	}
	return names
}

// Handler serves the org's API and /_twin/.
func (t *Twin) Handler() http.Handler {
	rest := t.kit.Handler(t.api(), t.state, t.reset)
	mux := http.NewServeMux()
	type asked struct {
		Object, ID, URL, Type, User, Winner, Loser, Value string
		IDs                                               []string
		Fields                                            map[string]any
		Field                                             json.RawMessage
	}
	handle := func(verb string, do func(asked) (any, error)) {
		mux.HandleFunc("POST /_twin/"+verb, func(w http.ResponseWriter, r *http.Request) {
			var a asked
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
			dec.UseNumber()
			if err := dec.Decode(&a); err != nil {
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": "not understood: " + err.Error()})
				return
			}
			out, err := do(a)
			if err != nil {
				writeJSON(w, http.StatusUnprocessableEntity, map[string]string{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, out)
		})
	}
	type saved struct {
		ID string `json:"id"`
	}
	handle("edit", func(a asked) (any, error) {
		id, err := t.EditAs(cmp.Or(a.User, Person), a.Object, a.ID, a.Fields)
		return saved{id}, err
	})
	handle("delete", func(a asked) (any, error) { return saved{a.ID}, t.Delete(a.Object, a.ID) })
	handle("undelete", func(a asked) (any, error) { return saved{a.ID}, t.Undelete(a.Object, a.ID) })
	handle("merge", func(a asked) (any, error) { return saved{a.Winner}, t.Merge(a.Object, a.Winner, a.Loser) })
	handle("deactivate", func(a asked) (any, error) { return saved{a.User}, t.Deactivate(a.User) })
	handle("events", func(a asked) (any, error) {
		t.SendEventsTo(a.URL)
		return map[string]string{"url": a.URL}, nil
	})
	handle("gap", func(a asked) (any, error) { return struct{}{}, t.Gap(a.Object, a.Type, a.IDs...) })
	handle("field", func(a asked) (any, error) {
		var f Field
		if err := decode(a.Field, &f); err != nil {
			return nil, fmt.Errorf("field is not understood: %w", err)
		}
		return map[string]string{"name": f.Name}, t.AddField(a.Object, f)
	})
	handle("picklist", func(a asked) (any, error) {
		var name string
		if err := decode(a.Field, &name); err != nil {
			return nil, fmt.Errorf("field is not understood: %w", err)
		}
		return map[string]string{"value": a.Value}, t.AddPicklistValue(a.Object, name, a.Value)
	})
	handle("expire", func(asked) (any, error) { t.ExpireSessions(); return struct{}{}, nil })
	mux.Handle("/", rest)
	return mux
}

func writeJSON(w http.ResponseWriter, status int, a any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the caller hung up: nothing to do
}
