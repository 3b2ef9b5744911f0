// Package servicenowtwin is a stand-in of one ServiceNow instance with Customer Service Management and Sorrel's
// kit (infra/servicenow) in it: sign-in, the Table API, the table of deletions, import sets that coalesce, the Aggregate API, hourly rate
// limit rules, access rules, business rules, and the webhooks that the kit posts. Everything else answers 400 or 404.
//
// Beyond the kit's, it serves POST /_twin/edit {"object","id","fields"} and POST /_twin/delete {"object","id"}: what a
// person does in the browser. POST /_twin/field {"object","field":{"name","type"}} adds a field as an administrator
// does. Records are in the native shape of package servicenow, except that an empty value is "".
//
// As in the vendor's: every value is a string; times have whole seconds, in UTC; a query for an unknown field
// finds all rows and a write to one is dropped; choices and references are not checked; a text is cut to its field's
// length; a page is cut before access rules hide rows from it; a save that changes nothing is none; a token is given
// again within its life. A person cannot fill in a field that is not there, so Edit refuses one.
//
// Webhooks carry all fields of a table: as if property sorrel.push.fields named those that the kit does not send itself.
//
// Guesses: a number that is none leaves its field as it was; decimals keep two places; texts of errors; rate limit
// counts are exact (the vendor's lag up to 30 s). Not there: the batch API, journal fields' history, dot-walking in
// queries, display values other than the value itself, and roles: the integration user may do everything that
// Forbid, Hide and Rule leave.
package servicenowtwin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/servicenow"
	"sorrel/shared/twin"
)

// Limits of an instance. Zero means the default, negative means none.
type Limits struct {
	PerHour int // requests of the integration user; default none: there is no rule out of the box
}

// NoLimits is an instance that may do everything at once.
func NoLimits() Limits { return Limits{-1} }

// Options of a twin. Now is required.
type Options struct {
	Now           func() time.Time
	Seed          uint64
	First         int64 // numbers such as ACCT0010001 begin after 10000 and this
	Limits        Limits
	Credentials   servicenow.Credentials // that it accepts; empty ones get defaults
	TokenLife     time.Duration          // 0 = 30 min
	Zone          *time.Location         // of the integration user: how it reads times in queries; nil = UTC
	ReturnsNoRows bool                   // glide.invalid_query.returns_no_rows: a query for an unknown field finds nothing
	NoCustomSetup bool                   // start without the kit: no u_ fields, staging tables, data policies and webhooks
}

// Field of a table.
type Field struct {
	Name      string   `json:"name"`
	Label     string   `json:"label,omitempty"`
	Type      string   `json:"type,omitempty"`    // string, integer, decimal, boolean, choice, reference, glide_date, glide_date_time; empty = string
	Max       int      `json:"max,omitempty"`     // characters of a string; 0 = 255
	Choices   []string `json:"choices,omitempty"` // of a choice: what the form offers, nothing more
	Target    string   `json:"target,omitempty"`  // of a reference: the table
	Default   string   `json:"default,omitempty"`
	Unique    bool     `json:"unique,omitempty"`
	Mandatory bool     `json:"mandatory,omitempty"` // by a data policy, which also binds the API
	ReadOnly  bool     `json:"readOnly,omitempty"`  // set by the instance
	Journal   bool     `json:"journal,omitempty"`   // written, never shown
}

// Rule is a business rule that runs before a save. It may change now, or stop the save by an error. was is nil for
// an insert.
type Rule func(was, now map[string]string) error

// Twin is one instance. It is safe for concurrent use.
type Twin struct {
	opt Options
	kit *twin.Kit

	mu     sync.Mutex
	rng    *rand.Rand
	tables map[string]*table
	data
}

// data is what a reset forgets beside the records.
type data struct {
	last      int64  // number
	imports   int64  // import sets
	token     string // the one that is valid
	expires   time.Time
	hourEnd   time.Time
	inHour    int
	forbidden map[string]bool
	hidden    map[string]bool // "table/sys_id"
	rules     map[string][]namedRule
}

type namedRule struct {
	name, id string
	run      Rule
}

const (
	// IntegrationUser is the user name of API calls.
	IntegrationUser = "sorrel.integration"
	// Person is the user name of edits in the browser.
	Person = "alice.agent"
)

// New returns a twin with the kit installed.
func New(opt Options) *Twin {
	cr := &opt.Credentials
	for p, d := range map[*string]string{&cr.ClientID: "sorrel", &cr.ClientSecret: "twin-client-secret", &cr.Username: IntegrationUser,
		&cr.Password: "twin-password", &cr.IntegrationUser: IntegrationUser} {
		if *p == "" {
			*p = d
		}
	}
	if len(cr.WebhookSecrets) == 0 {
		cr.WebhookSecrets = []string{"servicenow-twin-webhook-secret"}
	}
	if opt.TokenLife == 0 {
		opt.TokenLife = 30 * time.Minute
	}
	if opt.Zone == nil {
		opt.Zone = time.UTC
	}
	t := &Twin{opt: opt}
	t.kit = twin.NewKit(twin.Config{Name: "servicenow", Now: opt.Now, Seed: opt.Seed, Throttled: func(w http.ResponseWriter, _ *http.Request) {
		limit, _ := t.kit.Limit(budget.Calls, t.opt.Limits.PerHour)
		t.overLimit(w, time.Minute, limit)
	}})
	t.reset()
	return t
}

func (t *Twin) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rng = rand.New(rand.NewPCG(t.opt.Seed, 2))
	t.data = data{last: 10000 + t.opt.First, forbidden: map[string]bool{}, hidden: map[string]bool{}, rules: map[string][]namedRule{}}
	t.tables = catalogue(!t.opt.NoCustomSetup)
}

// AddField adds a field to a table, as an administrator does. Records that are there get its default.
func (t *Twin) AddField(object string, f Field) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || tb.field(f.Name) != nil || f.Name == "" {
		return fmt.Errorf("servicenowtwin: %q takes no field %q", object, f.Name)
	}
	tb.add(f)
	for _, r := range tb.sorted {
		r.data[f.Name] = f.Default
	}
	return nil
}

// Fields of a table.
func (t *Twin) Fields(object string) []Field {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil {
		return nil
	}
	out := make([]Field, len(tb.fields))
	for i, f := range tb.fields {
		out[i] = *f
	}
	return out
}

// AddRule adds a business rule to a table.
func (t *Twin) AddRule(object, name string, run Rule) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules[object] = append(t.rules[object], namedRule{name, t.guid(), run})
}

// Hide lets an access rule hide a record from the integration user, or ends that.
func (t *Twin) Hide(object, id string, hidden bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hidden[object+"/"+id] = hidden
}

// Forbid takes the integration user's right to write a table away, or gives it back.
func (t *Twin) Forbid(object string, forbidden bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forbidden[object] = forbidden
}

// Kit is the shared part: faults, counters, webhooks.
func (t *Twin) Kit() *twin.Kit { return t.kit }

// Credentials give a connector access to this twin.
func (t *Twin) Credentials() servicenow.Credentials {
	c := t.opt.Credentials
	c.Username, c.Password = "", ""
	return c
}

// BasicCredentials give access by user name and password.
func (t *Twin) BasicCredentials() servicenow.Credentials {
	c := t.opt.Credentials
	c.ClientID, c.ClientSecret = "", ""
	return c
}

// ExpireTokens ends the OAuth token, as an administrator who revokes it.
func (t *Twin) ExpireTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token = ""
}

// layout of times in records.
const layout = "2006-01-02 15:04:05"

// now has the vendor's resolution.
func (t *Twin) now() time.Time { return t.opt.Now().UTC().Truncate(time.Second) }

func (t *Twin) guid() string { return fmt.Sprintf("%016x%016x", t.rng.Uint64(), t.rng.Uint64()) }

// refused is an error as the API shows it.
type refused struct {
	status          int
	message, detail string
}

func (r *refused) Error() string { return r.message + ": " + r.detail }

func failed(format string, a ...any) *refused {
	return &refused{http.StatusForbidden, "Operation Failed", fmt.Sprintf(format, a...)}
}

// save inserts (r is nil) or updates. Fields that the table does not have, or that only the instance sets, are
// passed over. The twin is locked.
func (t *Twin) save(object string, r *row, in map[string]string, actor string) (*row, *refused) {
	tb := t.tables[object]
	insert := r == nil
	now := make(map[string]string, len(tb.fields))
	var was map[string]string
	if insert {
		for _, f := range tb.fields {
			now[f.Name] = f.Default
		}
	} else {
		was = r.data
		for k, v := range was {
			now[k] = v
		}
	}
	for k, v := range in {
		if f := tb.field(k); f != nil && !f.ReadOnly {
			now[k] = f.accept(v, now[k])
		}
	}
	for _, rule := range t.rules[object] {
		if err := rule.run(was, now); err != nil {
			return nil, failed("Operation against file '%s' was aborted by Business Rule '%s^%s'. Business Rule Stack:%s", object, rule.name, rule.id, rule.name)
		}
	}
	if object == servicenow.Contact {
		now["name"] = strings.TrimSpace(now["first_name"] + " " + now["last_name"])
	}
	var missing []string
	for _, f := range tb.fields {
		if f.Mandatory && strings.TrimSpace(now[f.Name]) == "" {
			missing = append(missing, f.Label)
		}
	}
	if len(missing) > 0 {
		return nil, failed("Data Policy Exception: The following fields are mandatory: %s", strings.Join(missing, ", "))
	}
	for _, f := range tb.fields {
		if other := tb.unique[f.Name][strings.ToLower(now[f.Name])]; f.Unique && now[f.Name] != "" && other != nil && other != r {
			return nil, failed("Unique Key violation detected by database ((conn=7) Duplicate entry '%s' for key '%s')", now[f.Name], f.Name)
		}
	}
	at := t.now().Format(layout)
	if insert {
		t.last++
		now["sys_id"], now["sys_class_name"], now["sys_domain"], now["sys_domain_path"] = t.guid(), object, "global", "/"
		now["sys_created_on"], now["sys_created_by"], now["sys_mod_count"] = at, actor, "0"
		if tb.prefix != "" {
			now["number"] = fmt.Sprintf("%s%07d", tb.prefix, t.last)
		}
		r = &row{id: now["sys_id"], born: t.last}
	} else {
		if same(was, now) {
			return r, nil
		}
		now["sys_mod_count"] = fmt.Sprint(r.count + 1)
		r.count++
		tb.remove(r)
	}
	now["sys_updated_on"], now["sys_updated_by"] = at, actor
	r.data = now
	if insert {
		tb.insert(r)
	} else {
		tb.put(r)
	}
	operation := "update"
	if insert {
		operation = "insert"
	}
	t.push(object, r, operation, actor)
	return r, nil
}

func same(a, b map[string]string) bool {
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return true
}

// accept is what a field makes of a value that it is given.
func (f *Field) accept(v, old string) string {
	switch f.Type {
	case "boolean":
		if v == "true" || v == "1" {
			return "true"
		}
		return "false"
	case "integer", "decimal":
		if v == "" {
			return ""
		}
		d, ok := number(v)
		if !ok {
			return old
		}
		if f.Type == "integer" {
			return d.Truncate(0).String()
		}
		return d.Round(2).String()
	case "glide_date_time":
		if _, err := time.Parse(layout, v); err != nil && v != "" {
			return old
		}
		return v
	case "glide_date":
		if _, err := time.Parse(time.DateOnly, v); err != nil && v != "" {
			return old
		}
		return v
	}
	limit := f.Max
	if limit == 0 {
		limit = 255
	}
	if r := []rune(v); len(r) > limit {
		return string(r[:limit])
	}
	return v
}

// drop deletes. The twin is locked.
func (t *Twin) drop(object string, r *row, actor string) {
	tb := t.tables[object]
	tb.remove(r)
	tb.forget(r)
	if audit := t.tables[deletions]; tb != audit {
		at := t.now().Format(layout)
		t.last++
		audit.insert(&row{id: t.guid(), born: t.last, data: map[string]string{"tablename": object, "documentkey": r.id, "sys_created_on": at, "sys_updated_on": at, "sys_created_by": actor, "sys_updated_by": actor, "sys_mod_count": "0"}})
	}
	t.push(object, r, "delete", actor)
}

// Edit does what a person does in the browser: it creates (empty id) or changes a record and returns its id.
func (t *Twin) Edit(object, id string, fields map[string]any) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil {
		return "", fmt.Errorf("servicenowtwin: no table %q", object)
	}
	in := make(map[string]string, len(fields))
	for k, v := range fields {
		if tb.field(k) == nil {
			return "", fmt.Errorf("servicenowtwin: %s has no field %q", object, k)
		}
		in[k] = str(v)
	}
	var r *row
	if id != "" {
		if r = tb.rows[id]; r == nil {
			return "", fmt.Errorf("servicenowtwin: no %s %s", object, id)
		}
	}
	r, bad := t.save(object, r, in, Person)
	if bad != nil {
		return "", fmt.Errorf("servicenowtwin: %s %s: %w", object, id, bad)
	}
	return r.id, nil
}

// Delete removes a record as a person does.
func (t *Twin) Delete(object, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || tb.rows[id] == nil {
		return fmt.Errorf("servicenowtwin: no %s %s", object, id)
	}
	t.drop(object, tb.rows[id], Person)
	return nil
}

// Get returns a living record.
func (t *Twin) Get(object, id string) (map[string]any, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil || tb.rows[id] == nil {
		return nil, false
	}
	return tb.show(tb.rows[id]), true
}

// All returns every living record of a table, oldest first.
func (t *Twin) All(object string) []map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.tables[object]
	if tb == nil {
		return nil
	}
	out := make([]map[string]any, 0, len(tb.sorted))
	for _, r := range tb.byBirth() {
		out = append(out, tb.show(r))
	}
	return out
}

func (t *Twin) state() any {
	out := map[string]any{}
	for _, name := range []string{servicenow.Account, servicenow.Contact, servicenow.Case} {
		out[name] = t.All(name)
	}
	return out
}

// str is a value as the vendor keeps it.
func str(a any) string {
	switch x := a.(type) {
	case nil:
		return ""
	case string:
		return x
	case map[string]any: // a reference with its link
		return str(x["value"])
	}
	b, err := json.Marshal(a)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), `"`)
}

// table holds the records of one table.
type table struct {
	prefix string // of number
	fields []*Field
	names  map[string]*Field
	rows   map[string]*row
	sorted []*row                     // by sys_updated_on and sys_id
	ids    []*row                     // by sys_id, from the first listing in that order on
	unique map[string]map[string]*row // field → lower-case value → row
}

type row struct {
	id    string
	born  int64
	count int64 // sys_mod_count
	data  map[string]string
}

func newTable(prefix string, fields ...Field) *table {
	tb := &table{prefix: prefix, names: map[string]*Field{}, rows: map[string]*row{}, unique: map[string]map[string]*row{}}
	for _, name := range []string{"sys_id", "sys_created_on", "sys_created_by", "sys_updated_on", "sys_updated_by", "sys_mod_count", "sys_class_name", "sys_domain", "sys_domain_path", "sys_tags"} {
		f := Field{Name: name, ReadOnly: true}
		switch name {
		case "sys_created_on", "sys_updated_on":
			f.Type = "glide_date_time"
		case "sys_mod_count":
			f.Type = "integer"
		}
		tb.add(f)
	}
	if prefix != "" {
		tb.add(Field{Name: "number", Label: "Number", ReadOnly: true})
	}
	for _, f := range fields {
		tb.add(f)
	}
	return tb
}

func (tb *table) add(f Field) {
	if f.Label == "" {
		f.Label = f.Name
	}
	tb.fields = append(tb.fields, &f)
	tb.names[f.Name] = &f
	if f.Unique {
		tb.unique[f.Name] = map[string]*row{}
	}
}

func (tb *table) field(name string) *Field { return tb.names[name] }

func byTime(a, b *row) int {
	if c := strings.Compare(a.data["sys_updated_on"], b.data["sys_updated_on"]); c != 0 {
		return c
	}
	return strings.Compare(a.id, b.id)
}

func byID(r *row, id string) int { return strings.Compare(r.id, id) }

// insert adds a new row. Its sys_id, unless it is set already, is its id.
func (tb *table) insert(r *row) {
	if r.data["sys_id"] == "" {
		r.data["sys_id"] = r.id
	}
	tb.put(r)
	if tb.ids != nil {
		i, _ := slices.BinarySearchFunc(tb.ids, r.id, byID)
		tb.ids = slices.Insert(tb.ids, i, r)
	}
}

// forget takes a deleted row out of the order of ids.
func (tb *table) forget(r *row) {
	if i, ok := slices.BinarySearchFunc(tb.ids, r.id, byID); ok {
		tb.ids = slices.Delete(tb.ids, i, i+1)
	}
}

// after are the rows with higher ids.
func (tb *table) after(id string) []*row {
	if tb.ids == nil {
		tb.ids = slices.Clone(tb.sorted)
		slices.SortFunc(tb.ids, func(a, b *row) int { return strings.Compare(a.id, b.id) })
	}
	i, found := slices.BinarySearchFunc(tb.ids, id, byID)
	if found {
		i++
	}
	return tb.ids[i:]
}

func (tb *table) put(r *row) {
	tb.rows[r.id] = r
	i, _ := slices.BinarySearchFunc(tb.sorted, r, byTime)
	tb.sorted = slices.Insert(tb.sorted, i, r)
	for field, index := range tb.unique {
		if v := r.data[field]; v != "" {
			index[strings.ToLower(v)] = r
		}
	}
}

func (tb *table) remove(r *row) {
	delete(tb.rows, r.id)
	if i, ok := slices.BinarySearchFunc(tb.sorted, r, byTime); ok {
		tb.sorted = slices.Delete(tb.sorted, i, i+1)
	}
	for field, index := range tb.unique {
		if v := strings.ToLower(r.data[field]); index[v] == r {
			delete(index, v)
		}
	}
}

func (tb *table) byBirth() []*row {
	out := slices.Clone(tb.sorted)
	slices.SortFunc(out, func(a, b *row) int { return int(a.born - b.born) })
	return out
}

func (tb *table) show(r *row) map[string]any {
	out := make(map[string]any, len(r.data))
	for k, v := range r.data {
		if f := tb.names[k]; f != nil && f.Journal {
			v = ""
		}
		out[k] = v
	}
	return out
}
