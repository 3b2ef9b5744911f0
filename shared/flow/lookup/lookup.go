// Package lookup answers programs that need to know something now: records, what goes on with a customer, invoices, and
// whether somebody is entitled to service. It is a governed read model: an answer has each value with its owner, says as of
// when the owner said so, and how that stands to the age that the caller accepts.
//
// What is known is answered from the ledger. Where it is older than it may be, the owner is read within a time budget, and
// the answer is what the record would be with what the owner says now. What was read goes to the inbound queue as any
// webhook does, and only the hub changes the record: there is one way to end a change.
//
// As of when something is known: the platform's own time of the newest change that it told, or when it was read here last.
// The former is a lower bound, as a record that nobody changes is told of by nobody.
package lookup

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Ledger is what is remembered of records.
type Ledger interface {
	Follow(ctx context.Context, id record.ID) (ledger.State, error)
	Load(ctx context.Context, ids ...record.ID) (map[record.ID]ledger.State, error)
	Lookup(ctx context.Context, r record.Ref) (record.ID, bool, error)
	Referring(ctx context.Context, id record.ID, entity string) iter.Seq2[record.ID, error]
}

// Reader reads one native record.
type Reader interface {
	Read(ctx context.Context, r record.Ref) (record.Native, error)
}

// Deps are what lookups need. A platform without a reader cannot be asked: what is known of it is answered.
type Deps struct {
	Ledger    Ledger
	Config    *policy.Set
	Readers   map[string]Reader
	Inbound   queue.Sender
	Now       func() time.Time
	Telemetry *telemetry.Recorder
}

// Flow answers. It is safe for concurrent use.
type Flow struct {
	d    Deps
	live *live
}

// New returns the function.
func New(d Deps) *Flow { return &Flow{d, newLive(d)} }

// Question is who asks, and how.
type Question struct {
	Consumer policy.Consumer
	MaxAge   time.Duration // how old an answer may be; negative: as lookups.yaml says
	Trace    string        // correlation id
}

// Where an answer comes from.
const (
	Live   = "live"   // an owner was read for it
	Cached = "cached" // as the ledger knows it
)

// Verdicts about the age of an answer.
const (
	Fresh = "fresh" // not older than it may be
	Stale = "stale"
)

// States of a record.
const (
	Present = "present"
	Merged  = "merged"  // into another one, which is answered in its place
	Deleted = "deleted" // on all platforms that it has values of; a copy elsewhere may remain
)

// Told is what every answer says about itself.
type Told struct {
	AsOf          time.Time `json:"asOf"` // of the oldest owner's word in it
	AgeSeconds    float64   `json:"ageSeconds"`
	MaxAgeSeconds float64   `json:"maxAgeSeconds"`
	Source        string    `json:"source"`
	Freshness     string    `json:"freshness"`
	Why           []string  `json:"why,omitempty"` // of what is stale: why its owner was not read
	CorrelationID string    `json:"correlationId"`
}

// About is what the answer says about itself.
func (t *Told) About() *Told { return t }

// essence is what it says apart from when and how it was asked.
func (t Told) essence() Told { return Told{Freshness: t.Freshness} }

// Value is one field.
type Value struct {
	Value record.Value `json:"value"`
	Owner string       `json:"owner,omitempty"` // the platform whose value it is, or sorrel
	AsOf  time.Time    `json:"asOf,omitzero"`
}

// Record is a record as a consumer may see it.
type Record struct {
	Record     record.ID        `json:"record"`
	Entity     string           `json:"entity"`
	State      string           `json:"state"`
	Asked      record.ID        `json:"asked,omitempty"`              // of one that was merged: the id that was asked for
	Duplicates []record.ID      `json:"possibleDuplicates,omitempty"` // people have not found out yet
	Fields     map[string]Value `json:"fields"`
	Told
}

// Essence is the answer without what is about the asking, so that it is equal as long as it says the same. It is what
// entity tags are made of.
func (r Record) Essence() any { return r.essence() }

func (r Record) essence() Record {
	r.Told = r.Told.essence()
	fields := make(map[string]Value, len(r.Fields))
	for name, v := range r.Fields {
		v.AsOf = time.Time{}
		fields[name] = v
	}
	r.Fields = fields
	return r
}

func essences(all []Record) []Record {
	out := make([]Record, len(all))
	for i, r := range all {
		out[i] = r.essence()
	}
	return out
}

// List is a page of records that refer to one.
type List struct {
	Customer record.ID `json:"customer"`
	Records  []Record  `json:"records"`
	Next     record.ID `json:"next,omitempty"` // give it as after, for the next page
	Told
}

// Essence is as that of a record.
func (l List) Essence() any {
	l.Told, l.Records = l.Told.essence(), essences(l.Records)
	return l
}

// Context is what goes on with a customer.
type Context struct {
	Customer Record   `json:"customer"`
	Affairs  []Affair `json:"about"`
	Told
}

// Essence is as that of a record.
func (c Context) Essence() any {
	c.Told, c.Customer, c.Affairs = c.Told.essence(), c.Customer.essence(), slices.Clone(c.Affairs)
	for i := range c.Affairs {
		c.Affairs[i].Records = essences(c.Affairs[i].Records)
	}
	return c
}

// Affair is what goes on with a customer in one entity.
type Affair struct {
	Entity  string   `json:"entity"`
	Open    int      `json:"open"` // among the records that were looked at
	Records []Record `json:"records"`
	More    bool     `json:"more,omitempty"` // there are more than were looked at
}

// Bounds of one answer.
const (
	DefaultPage = 50
	MaxPage     = 200
	maxReferrer = 5000 // ids listed for a page
	maxAffairs  = 100  // records of an entity looked at for a context
	shownAffair = 20   // of these, told
)

// allowed refuses what a consumer may not ask.
func (q Question) allowed(use string, entities ...string) error {
	if !q.Consumer.May(use) {
		return &fault.Error{Class: fault.Forbidden, Op: "lookup", Detail: fmt.Sprintf("%s may not ask for %s", q.Consumer.Name, use), Remedy: "whoever runs Sorrel can add it to the consumer's uses in lookups.yaml"}
	}
	for _, e := range entities {
		if len(q.Consumer.Fields[e]) == 0 {
			return &fault.Error{Class: fault.Forbidden, Op: "lookup", Detail: fmt.Sprintf("%s may learn nothing of %.40q", q.Consumer.Name, e), Remedy: "whoever runs Sorrel can name fields of it in lookups.yaml"}
		}
	}
	return nil
}

// Record answers a record by its id.
func (f *Flow) Record(ctx context.Context, q Question, id record.ID) (*Record, error) {
	if err := q.allowed(policy.UseRecords, id.Entity()); err != nil {
		return nil, err
	}
	s, err := f.load(ctx, id)
	if err != nil {
		return nil, err
	}
	a := f.asking(q, policy.UseRecords)
	views := a.look(ctx, s)
	out := a.record(views[0], id)
	return &out, a.verdict(&out.Told, views...)
}

// Native answers the record that a native record belongs to. Without an object all that the platform has are tried.
func (f *Flow) Native(ctx context.Context, q Question, ref record.Ref) (*Record, error) {
	if err := q.allowed(policy.UseRecords); err != nil {
		return nil, err
	}
	id, err := f.find(ctx, ref, "")
	if err != nil {
		return nil, err
	}
	return f.Record(ctx, q, id)
}

// find resolves a native record, among the objects of an entity or of all. Several records that go by one native id, in
// different objects, are ambiguous.
func (f *Flow) find(ctx context.Context, ref record.Ref, entity string) (record.ID, error) {
	objects := []string{ref.Object}
	if !slices.Contains(f.d.Config.Platforms(), ref.Platform) {
		return "", &fault.Error{Class: fault.NotFound, Op: "lookup", Detail: fmt.Sprintf("no platform %.40q", ref.Platform), Remedy: "use one of " + strings.Join(f.d.Config.Platforms(), ", ")}
	}
	if ref.Object == "" {
		objects = f.d.Config.Objects(ref.Platform)
	}
	found := map[record.ID]string{}
	for _, o := range objects {
		m, mapped := f.d.Config.ByObject(ref.Platform, o)
		switch {
		case !mapped:
			return "", &fault.Error{Class: fault.NotFound, Op: "lookup", Detail: fmt.Sprintf("nothing is known of %.60q on %s", o, ref.Platform), Remedy: "use one of " + strings.Join(f.d.Config.Objects(ref.Platform), ", ")}
		case entity != "" && m.Entity != entity:
			continue
		}
		id, known, err := f.d.Ledger.Lookup(ctx, record.Ref{Platform: ref.Platform, Object: o, ID: ref.ID})
		if err != nil {
			return "", err
		}
		if known {
			found[id] = o
		}
	}
	switch len(found) {
	case 0:
		return "", &fault.Error{Class: fault.NotFound, Op: "lookup", ID: ref.String(), Detail: "this native record belongs to no record that Sorrel knows", Remedy: "check platform, object and id; a new one is known seconds after it was made"}
	case 1:
		for id := range found {
			return id, nil
		}
	}
	return "", &fault.Error{Class: fault.Conflict, Op: "lookup", ID: ref.String(), Detail: fmt.Sprintf("several records go by this id, in the objects %s", strings.Join(slices.Sorted(maps.Values(found)), ", ")), Remedy: "name the object"}
}

// load reads a record, or the one that it was merged into.
func (f *Flow) load(ctx context.Context, id record.ID) (ledger.State, error) {
	if err := id.Validate(); err != nil {
		return ledger.State{}, fault.Wrap(fault.Malformed, "lookup", "", err)
	}
	s, err := f.d.Ledger.Follow(ctx, id)
	if err == nil && !s.Exists() {
		err = &fault.Error{Class: fault.NotFound, Op: "lookup", ID: string(id), Detail: "there is no such record", Remedy: "find its id by platform, object and native id"}
	}
	return s, err
}

// Page is which part of a list is asked for.
type Page struct {
	Status string    // "" = all
	After  record.ID // "" = from the beginning
	Limit  int       // 0 = DefaultPage
}

// Invoices lists the invoices of a customer, in the order of their ids. A page may have fewer than its limit where a status
// is asked for, and is the last one only if it has no next.
func (f *Flow) Invoices(ctx context.Context, q Question, customer record.ID, p Page) (*List, error) {
	const entity = "invoice"
	if err := q.allowed(policy.UseInvoices, entity); err != nil {
		return nil, err
	}
	if p.Limit == 0 {
		p.Limit = DefaultPage
	}
	if p.Limit < 0 || p.Limit > MaxPage {
		return nil, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: "limit is out of range", Remedy: fmt.Sprintf("use a number from 1 to %d", MaxPage)}
	}
	if p.Status != "" && !q.Consumer.Learns(entity, "status") {
		return nil, &fault.Error{Class: fault.Forbidden, Op: "lookup", Fields: []string{"status"}, Detail: q.Consumer.Name + " may not learn the status of invoices", Remedy: "ask without it"}
	}
	of, err := f.ofCustomer(ctx, customer)
	if err != nil {
		return nil, err
	}
	ids, more, err := f.referring(ctx, of.Record.ID, entity, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	states, err := f.d.Ledger.Load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	a := f.asking(q, policy.UseInvoices)
	views := a.look(ctx, ordered(ids, states)...)
	out := &List{Customer: of.Record.ID, Records: []Record{}}
	if more {
		out.Next = ids[len(ids)-1]
	}
	for _, v := range views {
		if p.Status == "" || v.text("status") == p.Status {
			r := a.record(v, v.record.ID)
			if err := a.verdict(&r.Told, v); err != nil {
				return nil, err
			}
			out.Records = append(out.Records, r)
		}
	}
	return out, a.verdict(&out.Told, views...)
}

// ofCustomer reads a customer.
func (f *Flow) ofCustomer(ctx context.Context, id record.ID) (ledger.State, error) {
	if id.Entity() != "customer" {
		return ledger.State{}, &fault.Error{Class: fault.Malformed, Op: "lookup", Detail: fmt.Sprintf("%.80q is no customer", id), Remedy: "give the record id of a customer: customer/…"}
	}
	return f.load(ctx, id)
}

// referring lists at most limit ids behind one, in their order, and whether there are more.
func (f *Flow) referring(ctx context.Context, to record.ID, entity string, after record.ID, limit int) ([]record.ID, bool, error) {
	var ids []record.ID
	listed := 0
	for id, err := range f.d.Ledger.Referring(ctx, to, entity) {
		if err != nil {
			return nil, false, err
		}
		if listed++; listed > maxReferrer {
			return nil, false, &fault.Error{Class: fault.TooLarge, Op: "lookup", ID: string(to), Detail: fmt.Sprintf("more than %d records of %s refer to it", maxReferrer, entity), Remedy: "ask the owner's own reports"}
		}
		if id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) > limit {
		return ids[:limit], true, nil
	}
	return ids, false, nil
}

func ordered(ids []record.ID, states map[record.ID]ledger.State) []ledger.State {
	out := make([]ledger.State, 0, len(ids))
	for _, id := range ids {
		if s, ok := states[id]; ok && s.Exists() {
			out = append(out, s)
		}
	}
	return out
}

// ended lists, by entity, the statuses in which nothing goes on any more, and the field that says so.
func ended() map[string]struct {
	field    string
	statuses []string
} {
	type end = struct {
		field    string
		statuses []string
	}
	return map[string]end{
		"opportunity": {"stage", []string{"closed-won", "closed-lost"}},
		"case":        {"status", []string{"solved", "closed"}},
		"invoice":     {"status", []string{"paid", "rejected", "voided"}},
		"contract":    {"status", []string{"draft", "expired", "cancelled"}},
		"order":       {"status", []string{"cancelled", "billed", "closed"}},
	}
}

// Context answers what goes on with a customer: the customer, read live where it has to be, and what is open as it is known.
// Of entities that the consumer may learn nothing of nothing is told.
func (f *Flow) Context(ctx context.Context, q Question, id record.ID) (*Context, error) {
	if err := q.allowed(policy.UseContext, "customer"); err != nil {
		return nil, err
	}
	s, err := f.ofCustomer(ctx, id)
	if err != nil {
		return nil, err
	}
	a := f.asking(q, policy.UseContext)
	views := a.look(ctx, s)
	out := &Context{Customer: a.record(views[0], id), Affairs: []Affair{}}
	for entity, end := range maps.All(ended()) {
		if len(q.Consumer.Fields[entity]) == 0 {
			continue
		}
		ids, more, err := f.referring(ctx, s.Record.ID, entity, "", maxAffairs)
		if err != nil {
			return nil, err
		}
		states, err := f.d.Ledger.Load(ctx, ids...)
		if err != nil {
			return nil, err
		}
		about := Affair{Entity: entity, More: more, Records: []Record{}}
		for _, s := range ordered(ids, states) {
			v := a.known(s)
			if v.state == Deleted || slices.Contains(end.statuses, v.text(end.field)) {
				continue
			}
			if about.Open++; about.Open <= shownAffair {
				r := a.record(v, v.record.ID)
				a.tell(&r.Told, v)
				about.Records = append(about.Records, r)
			}
		}
		out.Affairs = append(out.Affairs, about)
	}
	slices.SortFunc(out.Affairs, func(x, y Affair) int { return cmp.Compare(x.Entity, y.Entity) })
	a.tell(&out.Customer.Told, views...)
	return out, a.verdict(&out.Told, views...)
}
