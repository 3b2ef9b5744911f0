// Package netsuitetwin is a faithful local stand-in of one NetSuite account with Sorrel's SuiteScript kit
// deployed in it: the OAuth 2.0 token endpoint, the REST record API, SuiteQL, the concurrency limit, and the
// webhooks that the kit posts. Edit, EditAs, Delete and Merge act as a person in NetSuite's user interface; the
// same acts are POST /_twin/edit {"object","id","fields","user"}, POST /_twin/delete {"object","id"} and
// POST /_twin/merge {"object","winner","loser"}. POST /_twin/pay {"id","amount"} is Pay. POST /_twin/field {"object","field":{"name","kind"}} adds a
// custom field as an administrator does.
//
// What it does not do: asynchronous requests, RESTlets, SOAP, SuiteQL joins, HAVING and functions other than
// TO_CHAR, TO_DATE, TO_TIMESTAMP, BUILTIN.DF, COUNT and SUM, record types other than customer, contact, salesOrder,
// itemFulfillment, invoice and our kit's custom record of contracts, and most of the accounting behind them: an order's status and billed quantities are what
// its editor sets, except that a fulfilment made by transform updates its order, silently as in NetSuite. A customer's
// balance and overdueBalance are what its editor sets, until the customer has an invoice: then they are what is open on its
// invoices, as of the last save of one.
package netsuitetwin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"sorrel/shared/netsuite"
	"sorrel/shared/twin"
)

// Options of a Twin. Now is required.
type Options struct {
	Now           func() time.Time
	Seed          uint64
	Concurrency   int           // requests at once; 0 = 15, a tier 1 account without licences; negative = any number
	TokenLife     time.Duration // 0 = 1 h
	Zone          string        // IANA zone of SuiteQL's wall clock; empty = UTC
	WebhookSecret string        // of the SuiteScript kit; empty = a default
	First         int64         // ids begin after it; 0 = 1000
	Numbers       bool          // expires_in as a number instead of a string
	// Normalise is what the account makes of a value that anybody saves (a script or workflow that trims, rounds or
	// reformats): it gets the field as the record API names it, such as phone or addressBook.addressBookAddress.zip,
	// and the value as JSON says it, and returns what is saved; nil empties the field. It must not call the twin.
	Normalise func(object, field string, value any) any
}

// IntegrationUser is the internal id of the user behind the API credentials.
const IntegrationUser = "4"

// objects of the account.
func objects() []string {
	return []string{customer, contact, salesOrder, itemFulfillment, invoice, contract, item}
}

// person is the internal id of the user whom Edit, Delete and Merge act for.
const person = "7"

// Twin is one account. It is safe for concurrent use.
type Twin struct {
	opt   Options
	zone  *time.Location
	kit   *twin.Kit
	creds netsuite.Credentials

	mu        sync.RWMutex
	rng       *mathrand.Rand
	certs     map[string]certificate       // by certificate id
	tokens    map[string]time.Time         // access token → end
	specs     map[string]map[string]spec   // object → field → spec
	lists     map[string]map[string]string // list → id → name
	forbidden map[string]bool
	inFlight  int
	data
}

// data is what a reset forgets.
type data struct {
	nextID   int64
	byID     map[string]map[int64]*rec // object → id
	external map[string]map[string]int64
	sorted   map[string][]*rec // table → by modification and id
	ids      map[string][]*rec // table → by id
}

type certificate struct {
	client string
	key    crypto.PublicKey
}

// New returns an empty account with one integration, whose credentials Credentials returns.
func New(opt Options) (*Twin, error) {
	if opt.Concurrency == 0 {
		opt.Concurrency = 15
	}
	if opt.TokenLife <= 0 {
		opt.TokenLife = time.Hour
	}
	if opt.WebhookSecret == "" {
		opt.WebhookSecret = "netsuite-twin-webhook-secret"
	}
	zone, err := time.LoadLocation(opt.Zone)
	if err != nil {
		return nil, fmt.Errorf("netsuitetwin: zone %q: %w", opt.Zone, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("netsuitetwin: key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("netsuitetwin: key: %w", err)
	}
	t := &Twin{opt: opt, zone: zone, rng: mathrand.New(mathrand.NewPCG(opt.Seed, 2)),
		certs: map[string]certificate{}, tokens: map[string]time.Time{}, forbidden: map[string]bool{}, specs: specs(), lists: lists(), data: empty(opt.First),
		creds: netsuite.Credentials{ClientID: "twin-client", CertificateID: "twin-certificate",
			PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), WebhookSecrets: []string{opt.WebhookSecret}},
	}
	t.AddCertificate(t.creds.CertificateID, t.creds.ClientID, key.Public())
	t.kit = twin.NewKit(twin.Config{Name: "netsuite", Now: opt.Now, Seed: opt.Seed, Throttled: func(w http.ResponseWriter, _ *http.Request) { overLimit(w) }})
	return t, nil
}

func empty(first int64) data {
	if first == 0 {
		first = 1000
	}
	return data{nextID: first, byID: map[string]map[int64]*rec{}, external: map[string]map[string]int64{}, sorted: map[string][]*rec{}, ids: map[string][]*rec{}}
}

// Credentials are accepted by the twin, and its webhooks verify with them.
func (t *Twin) Credentials() netsuite.Credentials { return t.creds }

// Kit has the faults, counters and webhooks.
func (t *Twin) Kit() *twin.Kit { return t.kit }

// AddCertificate maps a further certificate to a client, as an administrator does.
func (t *Twin) AddCertificate(id, client string, key crypto.PublicKey) {
	t.mu.Lock()
	t.certs[id] = certificate{client, key}
	t.mu.Unlock()
}

// RevokeTokens ends all access tokens, as a change of the role does.
func (t *Twin) RevokeTokens() { t.mu.Lock(); clear(t.tokens); t.mu.Unlock() }

// Forbid takes the integration's permission for a record type away, or gives it back.
func (t *Twin) Forbid(object string, forbidden bool) {
	t.mu.Lock()
	t.forbidden[object] = forbidden
	t.mu.Unlock()
}

// AddField adds a custom field; kind is text, number, bool, date, time, list or a name of lists that exists.
// A line field is named "item.custcol_x".
func (t *Twin) AddField(object, name, kind string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return addField(t.specs[object], object, name, kind)
}

// Edit creates a record (id "") or changes one, as a person in the user interface, and returns its id. Fields
// have the record API's shape; nil empties a field, and a sublist replaces all lines. "externalId" may be set.
func (t *Twin) Edit(object, id string, fields map[string]any) (string, error) {
	return t.EditAs(person, object, id, fields)
}

// EditAs is Edit by the user with that internal id, who may be the integration's own: a person can sign in as it.
func (t *Twin) EditAs(user, object, id string, fields map[string]any) (string, error) {
	return t.act(object, id, fields, time.Time{}, actor{context: "USERINTERFACE", user: user, trusted: true, lines: true})
}

// Load puts a record there without a webhook, last modified at the given time; id "" takes the next one.
func (t *Twin) Load(object, id string, fields map[string]any, modified time.Time) (string, error) {
	return t.act(object, id, fields, modified, actor{quiet: true, trusted: true, lines: true})
}

func (t *Twin) act(object, id string, fields map[string]any, modified time.Time, by actor) (string, error) {
	copied, err := jsonCopy(fields)
	if err != nil {
		return "", fmt.Errorf("netsuitetwin: %s: %w", object, err)
	}
	var key int64
	if id != "" {
		if key, err = strconv.ParseInt(id, 10, 64); err != nil {
			return "", fmt.Errorf("netsuitetwin: id %q is not a number", id)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.specs[object] == nil {
		return "", fmt.Errorf("netsuitetwin: object %q is not known", object)
	}
	old := t.byID[object][key]
	if old == nil && id != "" && !by.quiet {
		return "", fmt.Errorf("netsuitetwin: %s/%s does not exist", object, id)
	}
	if modified.IsZero() {
		modified = t.opt.Now()
	}
	r, refusal := t.save(object, old, key, copied, modified, by)
	if refusal != nil {
		return "", fmt.Errorf("netsuitetwin: %s/%s: %s %s", object, id, refusal.code, refusal.detail)
	}
	return r.key(), nil
}

// Delete deletes a record as a person.
func (t *Twin) Delete(object, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, err := strconv.ParseInt(id, 10, 64)
	r := t.byID[object][key]
	if err != nil || r == nil {
		return fmt.Errorf("netsuitetwin: %s/%s does not exist", object, id)
	}
	if bad := t.dependent(r); bad != nil {
		return fmt.Errorf("netsuitetwin: %s/%s: %s %s", object, id, bad.code, bad.detail)
	}
	t.drop(r, actor{context: "USERINTERFACE", user: person}, "")
	return nil
}

// Merge merges the customer or contact loser into winner, as a person does with Merge on the loser's page: the
// winner's empty fields are filled, the loser's addresses, contacts and transactions become the winner's, and
// the loser is deleted. All of that is NetSuite's own doing and fires no user event; the kit tells of the
// deletion only, and into which record, as it does for a loser that was marked before.
func (t *Twin) Merge(object, winner, loser string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	find := func(id string) *rec {
		key, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil
		}
		return t.byID[object][key]
	}
	w, l := find(winner), find(loser)
	switch {
	case object != customer && object != contact:
		return fmt.Errorf("netsuitetwin: merge: %s records cannot be merged", object)
	case w == nil || l == nil || w == l:
		return fmt.Errorf("netsuitetwin: merge: want two records of %s, got %q and %q", object, winner, loser)
	}
	merged := *w
	merged.fields = deepCopy(w.fields).(map[string]any)
	for name, v := range l.fields {
		switch s := t.specs[object][name]; {
		case s.keyed:
			items := []any{}
			for _, line := range itemsOf(merged.fields[name]) {
				items = append(items, line)
			}
			for _, line := range itemsOf(deepCopy(v)) {
				delete(line, "id")
				delete(line, "internalId")
				line["defaultBilling"], line["defaultShipping"] = false, false
				items = append(items, line)
			}
			merged.fields[name] = map[string]any{"items": items}
		case merged.fields[name] == nil && !s.readOnly && name != mergeMark:
			merged.fields[name] = deepCopy(v)
		}
	}
	t.keys(&merged)
	merged.modified = t.opt.Now().Truncate(time.Second)
	t.put(w, &merged)
	name, _ := merged.fields["companyName"].(string)
	for _, at := range []string{"transaction", contact, contract} {
		for _, r := range slices.Clone(t.sorted[at]) {
			for _, field := range []string{"entity", "company", contractCustomer} {
				if object != customer || !refers(r.fields[field], l) {
					continue
				}
				moved := *r
				moved.fields = maps.Clone(r.fields)
				moved.fields[field] = map[string]any{"id": w.key(), "refName": name}
				moved.modified = merged.modified
				t.put(r, &moved)
				t.owed(nil, &moved, actor{quiet: true})
			}
		}
	}
	t.drop(l, actor{context: "USERINTERFACE", user: person}, w.key())
	return nil
}

// Get returns a copy of a record as the record API shows it with its sublists expanded.
func (t *Twin) Get(object, id string) (map[string]any, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	key, err := strconv.ParseInt(id, 10, 64)
	r := t.byID[object][key]
	if err != nil || r == nil {
		return nil, false
	}
	return r.full(), true
}

// All returns copies of all records of an object, by modification time.
func (t *Twin) All(object string) []map[string]any {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := []map[string]any{}
	for _, r := range t.sorted[table(object)] {
		if r.object == object {
			all = append(all, r.full())
		}
	}
	return all
}

// Handler serves the account's REST API and /_twin/.
func (t *Twin) Handler() http.Handler {
	inner := t.kit.Handler(t.api(), func() any {
		state := map[string][]map[string]any{}
		for _, o := range objects() {
			state[o] = t.All(o)
		}
		return state
	}, func() {
		t.mu.Lock()
		t.data = empty(t.opt.First)
		t.mu.Unlock()
	})
	mux := http.NewServeMux()
	mux.Handle("/", t.counted(inner))
	act := func(do func(a asked) (string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var in asked
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
			dec.UseNumber()
			dec.DisallowUnknownFields()
			if err := dec.Decode(&in); err != nil {
				answer(w, http.StatusBadRequest, map[string]string{"error": "not understood: " + err.Error()})
				return
			}
			id, err := do(in)
			if err != nil {
				answer(w, http.StatusUnprocessableEntity, map[string]string{"error": err.Error()})
				return
			}
			answer(w, http.StatusOK, map[string]string{"id": id})
		}
	}
	mux.HandleFunc("POST /_twin/edit", act(func(a asked) (string, error) {
		if a.User == "" {
			a.User = person
		}
		return t.EditAs(a.User, a.Object, a.ID, a.Fields)
	}))
	mux.HandleFunc("POST /_twin/merge", act(func(a asked) (string, error) { return a.Winner, t.Merge(a.Object, a.Winner, a.Loser) }))
	mux.HandleFunc("POST /_twin/pay", act(func(a asked) (string, error) { return a.ID, t.Pay(a.ID, a.Amount.String()) }))
	mux.HandleFunc("POST /_twin/field", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Object string
			Field  struct{ Name, Kind string }
		}
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in)
		if err == nil {
			err = t.AddField(in.Object, in.Field.Name, in.Field.Kind)
		}
		if err != nil {
			answer(w, http.StatusUnprocessableEntity, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]string{"name": in.Field.Name})
	})
	mux.HandleFunc("POST /_twin/delete", act(func(a asked) (string, error) { return a.ID, t.Delete(a.Object, a.ID) }))
	return mux
}

// asked is an act of a person that is asked for by HTTP.
type asked struct {
	Object, ID, User, Winner, Loser string
	Amount                          json.Number
	Fields                          map[string]any
}

func answer(w http.ResponseWriter, status int, a any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the caller hung up: nothing to do
}
