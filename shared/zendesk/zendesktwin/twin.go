// Package zendesktwin is a stand-in of one Zendesk account: organizations, users, tickets, custom objects, exports,
// webhooks, its limits and its oddities. Everything that it cannot do answers 404 InvalidEndpoint.
//
// Beyond the kit's, it serves what an agent does in the browser: POST /_twin/edit {"object","id","fields"} (with
// "user", as that user), POST /_twin/delete {"object","id"} and POST /_twin/merge {"object","winner","loser"}. Objects are
// "organization", "user", "ticket" and "custom_object/{key}", fields are in REST's shape; an edit of a ticket may also name
// custom values by key, under "ticket_fields", as the connector does. An edit of a user's "email"
// changes the primary address. POST /_twin/field {"object","field":{"key","title","type"}} adds a custom field as an
// administrator does, POST /_twin/picklist {"object","field","value"} a value to a dropdown (field is its key).
//
// Not modelled: suspended tickets, group memberships, the tags that dropdown and checkbox fields add to a record.
//
// Where the documentation is silent the twin is strict, so that a wrong setup shows here: an unknown custom field
// is refused with 422.
package zendesktwin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
)

// Limits of an account. Zero means the published default, negative means none. Under /_twin/fault they have the names of
// the vendor's headers: calls (the account's), incremental-exports, create-update-user, tickets-update, tickets-index; and
// tickets-delete and search-export, whose headers are UNCONFIRMED.
type Limits struct {
	PerMinute          int // account; default 700 (Enterprise)
	Exports            int // per minute; default 10
	UpdateOrganization int // per minute and organization; default 5
	UpdateUser         int // per minute and user; default 5
	UserWrites         int // creates and updates of users per second; default 1
	UpdateTicket       int // per 10 minutes and ticket; default 30
	UpdateTickets      int // per minute; default 100
	DeleteTickets      int // per minute; default 400
	ListTickets        int // per minute; default none (100 in sandboxes and trials)
	SearchExport       int // per minute; default 100
}

// NoLimits is an account that may do everything at once.
func NoLimits() Limits { return Limits{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1} }

func (l Limits) withDefaults() Limits {
	for p, d := range map[*int]int{&l.PerMinute: 700, &l.Exports: 10, &l.UpdateOrganization: 5, &l.UpdateUser: 5, &l.UserWrites: 1,
		&l.UpdateTicket: 30, &l.UpdateTickets: 100, &l.DeleteTickets: 400, &l.ListTickets: -1, &l.SearchExport: 100} {
		if *p == 0 {
			*p = d
		}
	}
	return l
}

// Options of a twin. Now is required.
type Options struct {
	Now         func() time.Time
	Seed        uint64
	First       int64 // ids begin after 360000000000 and this
	Limits      Limits
	Credentials zendesk.Credentials // that it accepts; empty ones get defaults
	TokenLife   time.Duration       // when no expires_in is asked for; 0 = 2 h
	ExportLag   time.Duration       // what exports withhold; 0 = 1 min, the vendor's
	SearchLag   time.Duration       // what searches do not find yet; 0 = 1 min ("a few minutes")
	RetryWait   time.Duration       // between webhook attempts; 0 = 1 s
	// Normalise is what the account makes of a value that is saved, by anybody: it gets the field as REST names it
	// ("phone", "organization_fields.erp_phone") and the value, and returns what is kept. nil = keep it.
	Normalise     func(object, field string, value any) any
	NoCustomSetup bool // start without custom objects and custom fields, as a new account does
}

// Field of an organization, a user or a custom object.
type Field struct {
	ID      json.Number // of a ticket's field, which has one in place of a key
	Key     string
	Title   string
	Type    string   // text, textarea, dropdown, integer, decimal, date, checkbox, lookup, regexp; a ticket's dropdown is a tagger
	Options []string // values of a dropdown
	Target  string   // of a lookup: zen:organization, zen:ticket, zen:user, zen:custom_object:{key}
}

// Twin is one account. It is safe for concurrent use.
type Twin struct {
	opt Options
	kit *twin.Kit

	mu      sync.Mutex
	rng     *rand.Rand
	last    int64 // id
	tables  map[string]*table
	tokens  map[string]token
	keys    map[string]replay // idempotency
	jobs    map[string]map[string]any
	windows map[string]*slot
	merges  []map[string]any // of organizations
	hooks   []map[string]any
	secret  string // signs webhooks
	hookOf  string // id of the webhook that delivers
}

type token struct {
	scopes  []string
	expires time.Time
}

type replay struct {
	request string
	answer  []byte
	at      time.Time
}

// slot counts calls of one window.
type slot struct {
	end time.Time
	n   int
}

// table holds the records of one object. seq of a row names its newest log entry; older entries are passed over.
type table struct {
	key      string // of a custom object
	title    string
	plural   string
	fields   []Field
	made     time.Time
	rows     map[string]*row
	order    []*row
	external map[string]*row
	names    map[string]*row // organizations only
	emails   map[string]*row // users only: of all e-mail identities
	log      []entry
}

type row struct {
	id    string
	made  int            // how many were made before it, and it
	data  map[string]any // REST's shape
	seq   int
	gone  bool
	sub   []map[string]any // comments of a ticket, identities of a user
	audit []map[string]any
}

type entry struct {
	at  time.Time
	row *row
}

// User ids that act here.
const (
	Integration = "8001" // API calls
	Agent       = "8002" // edits in the browser
)

const (
	integrator = 8001
	agent      = 8002
	account    = 21550
)

// New returns a twin with the custom objects and organization fields of infra/zendesk.
func New(opt Options) *Twin {
	opt.Limits = opt.Limits.withDefaults()
	cr := &opt.Credentials
	for p, d := range map[*string]string{&cr.ClientID: "sorrel", &cr.ClientSecret: "twin-client-secret", &cr.Email: "sorrel@example.com", &cr.APIToken: "twin-api-token"} {
		if *p == "" {
			*p = d
		}
	}
	if len(cr.WebhookSecrets) == 0 {
		cr.WebhookSecrets = []string{"dHdpbi13ZWJob29rLXNlY3JldA=="}
	}
	for p, d := range map[*time.Duration]time.Duration{&opt.TokenLife: 2 * time.Hour, &opt.ExportLag: time.Minute, &opt.SearchLag: time.Minute, &opt.RetryWait: time.Second} {
		if *p == 0 {
			*p = d
		}
	}
	if opt.Normalise == nil {
		opt.Normalise = func(_, _ string, value any) any { return value }
	}
	t := &Twin{opt: opt}
	t.kit = twin.NewKit(twin.Config{Name: "zendesk", Now: opt.Now, Seed: opt.Seed, Throttled: func(w http.ResponseWriter, _ *http.Request) {
		t.overLimit(w, 60*time.Second, "Number of allowed API requests per minute exceeded")
	}})
	t.reset()
	return t
}

func (t *Twin) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rng, t.last = rand.New(rand.NewPCG(t.opt.Seed, 2)), 360000000000+t.opt.First
	t.tables = map[string]*table{zendesk.Organization: newTable(), zendesk.User: newTable(), zendesk.Ticket: newTable()}
	t.tokens, t.keys, t.jobs, t.windows = map[string]token{}, map[string]replay{}, map[string]map[string]any{}, map[string]*slot{}
	t.merges, t.hooks, t.hookOf, t.secret = nil, nil, "", t.opt.Credentials.WebhookSecrets[0]
	if t.opt.NoCustomSetup {
		return
	}
	text := func(key, title string) Field { return Field{Key: key, Title: title, Type: "text"} }
	t.tables[zendesk.Organization].fields = []Field{text("erp_number", "ERP number"), text("erp_phone", "ERP phone"),
		text("erp_city", "ERP city"), text("erp_country", "ERP country"), text("erp_status", "ERP status"),
		text("tax_id", "Tax ID"), {Key: "erp_credit_limit", Title: "ERP credit limit", Type: "decimal"},
		{Key: "erp_credit_hold", Title: "ERP credit hold", Type: "dropdown", Options: []string{"credit_auto", "credit_on", "credit_off"}},
		{Key: "erp_balance", Title: "ERP balance", Type: "decimal"}, {Key: "erp_active", Title: "Active in the ERP", Type: "checkbox"},
		{Key: "segment", Title: "Segment", Type: "dropdown", Options: []string{"segment_enterprise", "segment_midmarket", "segment_small"}},
		text("account_manager", "Account manager"), text("sales_context", "Sales context"),
		{Key: "support_tier", Title: "Support tier", Type: "dropdown", Options: []string{"tier_standard", "tier_premium", "tier_vip"}}}
	t.tables[zendesk.User].fields = []Field{text("job_title", "Job title"), {Key: "erp_active", Title: "Active in the ERP", Type: "checkbox"}}
	for _, f := range []Field{{Title: "SLA breached", Type: "checkbox"},
		{Title: "Sorrel escalation", Type: "tagger", Options: []string{"escalation_none", "escalation_escalated", "escalation_handled"}},
		{Title: "Entitled tier", Type: "tagger", Options: []string{"entitled_none", "entitled_standard", "entitled_premium", "entitled_vip"}}, {Title: "Entitled until", Type: "date"}, {Title: "Entitlement reason", Type: "text"},
		{Title: "ERP context", Type: "textarea"}, {Title: "CRM context", Type: "textarea"}} {
		t.ticketField(f)
	}
	order := t.object("order", "Order", "Orders")
	order.fields = []Field{text("number", "Number"),
		{Key: "status", Title: "Status", Type: "dropdown", Options: []string{"pending_approval", "pending_fulfilment", "partially_fulfilled", "pending_billing", "billed", "closed", "cancelled"}},
		{Key: "organization", Title: "Organization", Type: "lookup", Target: "zen:organization"},
		{Key: "total", Title: "Total", Type: "decimal"}, text("currency", "Currency"),
		{Key: "placed_on", Title: "Placed on", Type: "date"}, {Key: "requested_ship_on", Title: "Requested ship date", Type: "date"},
		text("ship_method", "Ship method"), text("po_number", "PO number"),
		{Key: "ship_to", Title: "Ship to", Type: "textarea"}, {Key: "lines", Title: "Lines", Type: "textarea"}}
	shipment := t.object("shipment", "Shipment", "Shipments")
	shipment.fields = []Field{text("number", "Number"),
		{Key: "status", Title: "Status", Type: "dropdown", Options: []string{"picked", "packed", "shipped"}},
		{Key: "order", Title: "Order", Type: "lookup", Target: "zen:custom_object:order"},
		text("carrier", "Carrier"), text("ship_method", "Ship method"), text("tracking_numbers", "Tracking numbers"),
		{Key: "shipped_on", Title: "Shipped on", Type: "date"}, {Key: "lines", Title: "Lines", Type: "textarea"}}
	invoice := t.object("invoice", "Invoice", "Invoices")
	invoice.fields = []Field{text("number", "Number"),
		{Key: "status", Title: "Status", Type: "dropdown", Options: []string{"open", "paid", "pending_approval", "rejected", "voided"}},
		{Key: "organization", Title: "Organization", Type: "lookup", Target: "zen:organization"},
		{Key: "order", Title: "Order", Type: "lookup", Target: "zen:custom_object:order"},
		{Key: "total", Title: "Total", Type: "decimal"}, {Key: "amount_due", Title: "Amount due", Type: "decimal"}, text("currency", "Currency"),
		{Key: "issued_on", Title: "Issued on", Type: "date"}, {Key: "due_on", Title: "Due on", Type: "date"}, {Key: "paid_on", Title: "Paid on", Type: "date"}}
	contract := t.object("contract", "Contract", "Contracts")
	contract.fields = []Field{text("number", "Number"),
		{Key: "status", Title: "Status", Type: "dropdown", Options: []string{"draft", "active", "expired", "cancelled"}},
		{Key: "organization", Title: "Organization", Type: "lookup", Target: "zen:organization"},
		{Key: "tier", Title: "Tier", Type: "dropdown", Options: []string{"standard", "premium", "vip"}},
		{Key: "starts_on", Title: "Starts on", Type: "date"}, {Key: "ends_on", Title: "Ends on", Type: "date"}, text("product", "Product")}
	product := t.object("product", "Product", "Products")
	product.fields = []Field{text("number", "Number"), {Key: "description", Title: "Description", Type: "textarea"},
		{Key: "kind", Title: "Kind", Type: "dropdown", Options: []string{"goods", "service", "kit", "assembly", "charge", "download", "gift_certificate"}},
		text("category", "Category"), text("unit", "Unit"), {Key: "active", Title: "Active", Type: "checkbox"}, text("currency", "Currency"),
		{Key: "list_price", Title: "List price", Type: "decimal"}}
}

func newTable() *table {
	return &table{rows: map[string]*row{}, external: map[string]*row{}, names: map[string]*row{}, emails: map[string]*row{}}
}

func (t *Twin) object(key, title, plural string) *table {
	tb := newTable()
	tb.key, tb.title, tb.plural, tb.made = key, title, plural, t.now()
	t.tables["custom_object/"+key] = tb
	return tb
}

// AddField adds a custom field to "organization", "user", "ticket" or "custom_object/{key}".
func (t *Twin) AddField(object string, f Field) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil {
		return fmt.Errorf("zendesktwin: %q takes no fields here", object)
	}
	if object == zendesk.Ticket {
		t.ticketField(f)
		return nil
	}
	tb.fields = append(tb.fields, f)
	return nil
}

// AddPicklistValue adds a value to a dropdown, as an administrator does.
func (t *Twin) AddPicklistValue(object, key, value string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tb := t.tables[object]; tb != nil {
		for i, f := range tb.fields {
			if f.Key == key && f.hasOptions() {
				tb.fields[i].Options = append(slices.Clone(f.Options), value)
				return nil
			}
		}
	}
	return fmt.Errorf("zendesktwin: %s has no dropdown %q", object, key)
}

// Kit is the shared part: faults, counters, webhooks.
func (t *Twin) Kit() *twin.Kit { return t.kit }

// Credentials give a connector access to this twin.
func (t *Twin) Credentials() zendesk.Credentials {
	c := t.opt.Credentials
	c.Email, c.APIToken = "", ""
	return c
}

// TokenCredentials give access by API token.
func (t *Twin) TokenCredentials() zendesk.Credentials {
	c := t.opt.Credentials
	c.ClientID, c.ClientSecret = "", ""
	return c
}

// ExpireTokens ends every OAuth token, as an administrator who revokes them.
func (t *Twin) ExpireTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens = map[string]token{}
}

// now has the vendor's resolution.
func (t *Twin) now() time.Time { return t.opt.Now().UTC().Truncate(time.Second) }

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func (t *Twin) nextID() string {
	t.last += 1 + t.rng.Int64N(9)
	return strconv.FormatInt(t.last, 10)
}

// ulid looks like the ids of custom object records.
func (t *Twin) ulid() string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	t.last++
	b := []byte("01K9")
	for shift := 45; shift >= 0; shift -= 5 { // the vendor's begin with the time, so that they ascend as these do
		b = append(b, digits[t.last>>shift&31])
	}
	for range 12 {
		b = append(b, digits[t.rng.IntN(32)])
	}
	return string(b)
}

func (t *Twin) uuid() string {
	a, b := t.rng.Uint64(), t.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff)
}

// Edit does what an agent does in the browser: it creates (empty id) or changes a record and returns its id.
func (t *Twin) Edit(object, id string, fields map[string]any) (string, error) {
	return t.EditAs(Agent, object, id, fields)
}

// EditAs does the same as the given user, by its id. Only tickets and custom object records tell who it was.
func (t *Twin) EditAs(user, object, id string, fields map[string]any) (string, error) {
	actor, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return "", fmt.Errorf("zendesktwin: %q is no user id", user)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in, err := plain(fields)
	if err == nil && object == zendesk.Ticket {
		err = t.byID(in)
	}
	if err != nil {
		return "", fmt.Errorf("zendesktwin: edit %s: %w", object, err)
	}
	tb := t.tables[object]
	if tb == nil {
		return "", fmt.Errorf("zendesktwin: no object %q", object)
	}
	var r *row
	if id != "" {
		if r = tb.rows[id]; r == nil || r.gone {
			return "", fmt.Errorf("zendesktwin: no %s %s", object, id)
		}
	}
	r, bad := t.save(object, r, in, person(actor))
	if bad != nil {
		return "", fmt.Errorf("zendesktwin: %s %s: %s", object, id, bad.text())
	}
	return r.id, nil
}

// Delete removes a record as an agent does.
func (t *Twin) Delete(object, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || tb.rows[id] == nil || tb.rows[id].gone {
		return fmt.Errorf("zendesktwin: no %s %s", object, id)
	}
	t.remove(object, tb.rows[id], agent)
	return nil
}

// Merge merges two organizations or two end users as an agent does: the loser is deleted.
func (t *Twin) Merge(object, winner, loser string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || object != zendesk.Organization && object != zendesk.User {
		return fmt.Errorf("zendesktwin: %q cannot be merged", object)
	}
	w, l := tb.rows[winner], tb.rows[loser]
	if w == nil || w.gone || l == nil || l.gone || w == l {
		return fmt.Errorf("zendesktwin: no two %ss %s and %s", object, winner, loser)
	}
	if object == zendesk.Organization {
		t.mergeOrganizations(w, l, agent)
		return nil
	}
	if bad := t.mergeUsers(w, l, agent); bad != nil {
		return fmt.Errorf("zendesktwin: merge of user %s into %s: %s", loser, winner, bad.text())
	}
	return nil
}

// Get returns a living record in REST's shape.
func (t *Twin) Get(object, id string) (map[string]any, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || tb.rows[id] == nil || tb.rows[id].gone {
		return nil, false
	}
	return clone(tb.rows[id].data).(map[string]any), true
}

// All returns every living record of an object, oldest first.
func (t *Twin) All(object string) []map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []map[string]any
	if tb := t.tables[object]; tb != nil {
		for _, r := range tb.order {
			if !r.gone {
				out = append(out, clone(r.data).(map[string]any))
			}
		}
	}
	return out
}

func (t *Twin) state() any {
	t.mu.Lock()
	names := make([]string, 0, len(t.tables))
	for name := range t.tables {
		names = append(names, name)
	}
	t.mu.Unlock()
	out := map[string]any{}
	for _, name := range names {
		out[name] = t.All(name)
	}
	return out
}

// plain copies a JSON-like value with numbers as json.Number.
func plain(a map[string]any) (map[string]any, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	return m, dec.Decode(&m)
}

func clone(a any) any {
	switch x := a.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, v := range x {
			m[k] = clone(v)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, v := range x {
			l[i] = clone(v)
		}
		return l
	}
	return a
}
