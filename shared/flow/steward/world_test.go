package steward_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
)

const accountPolicy = `
entity: account
contract: account.v1
platforms: {netsuite: account, salesforce: account, zendesk: account}
origins: [netsuite, salesforce]
copies: [zendesk]
deletes: ignore
owner: netsuite
targets: [salesforce, zendesk]
paths: {salesforce: revert, zendesk: revert}
match:
  tax: {by: [{field: taxId, as: tax-id}], strong: true}
  name: {by: [{field: name, as: company}]}
groups:
  address:
    fields: [street, city]
    paths: {salesforce: propose}
    approval: {approvers: [finance], expires: 2h}
  deal:
    fields: [terms]
    paths: {salesforce: propose}
    approval: {approvers: [sales, steward], distinct: false}
fields:
  name: {owner: netsuite, meanwhile: [salesforce]}
  taxId: {owner: netsuite, meanwhile: [salesforce]}
  limit: {paths: {salesforce: reject}}
  motto: {survivorship: hold, of: [netsuite, salesforce], targets: [netsuite, salesforce], paths: {zendesk: ignore}}
  phone: {survivorship: latest, of: [netsuite, salesforce, zendesk], targets: [netsuite, salesforce, zendesk]}
  size: {assign: workflow, targets: [netsuite, salesforce, zendesk], paths: {netsuite: revert, salesforce: revert, zendesk: revert}}
`

const accountContract = `{"title": "account.v1", "type": "object", "required": ["name"], "properties": {
"name": {"type": "string", "maxLength": 80}, "taxId": {"type": ["string", "null"], "maxLength": 40}, "street": {"type": ["string", "null"], "maxLength": 80},
"city": {"type": ["string", "null"], "maxLength": 80}, "terms": {"type": ["string", "null"], "maxLength": 40}, "limit": {"type": ["number", "null"]},
"motto": {"type": ["string", "null"], "maxLength": 80}, "phone": {"type": ["string", "null"], "maxLength": 40},
"size": {"type": ["string", "null"], "enum": ["small", "large", null]}}}`

const people = `
people:
  fiona: {roles: [finance], netsuite: ["7"], salesforce: [sf-fiona]}
  frank: {roles: [finance]}
  sarah: {roles: [sales], salesforce: [sf-sarah]}
  stewart: {roles: [steward], salesforce: [sf-stewart]}
`

func config(t testing.TB, edit ...string) *policy.Set {
	t.Helper()
	governed := strings.NewReplacer(edit...).Replace(accountPolicy)
	files := fstest.MapFS{"policy/account.yaml": {Data: []byte(governed)}, "contract/account.v1.json": {Data: []byte(accountContract)},
		"people.yaml": {Data: []byte(people)}}
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk} {
		text := fmt.Sprintf("platform: %s\nobject: account\nentity: account\ncontract: account.v1\nfields:\n  name: {path: name, required: true}\n", p)
		for _, f := range []string{"taxId", "street", "city", "terms", "limit", "motto", "phone"} {
			text += fmt.Sprintf("  %s: %s\n", f, f)
		}
		text += "  size: {path: size, values: {S: small, L: large}}\n"
		files["mapping/"+p+".account.yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	set, problems := policy.Load(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// fake is a platform: it keeps native records, finds them by external id, and pushes what changed.
type fake struct {
	name   string
	w      *world
	rows   map[string]*row
	refuse map[string]string // native field → the code with which it is refused
	down   bool
	broken bool // fails for no known reason
	writes int
	reads  int
}

type row struct {
	fields   map[string]any
	at, born time.Time
	external string
	actor    string
}

func (f *fake) ref(id string) record.Ref {
	return record.Ref{Platform: f.name, Object: "account", ID: id}
}

func (f *fake) native(id string) record.Native {
	r := f.rows[id]
	b, _ := json.Marshal(r.fields)
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var fields map[string]any
	_ = dec.Decode(&fields)
	return record.Native{Ref: f.ref(id), Version: record.Version{At: r.at}, Born: r.born, External: r.external, Actor: r.actor, Fields: fields}
}

// set is what somebody does on the platform, a second after what was before.
func (f *fake) set(id, actor string, fields map[string]any) {
	f.w.t.Helper()
	f.w.pass(time.Second)
	r := f.rows[id]
	if r == nil {
		r = &row{fields: map[string]any{}, born: f.w.now}
		f.rows[id] = r
	}
	maps.Copy(r.fields, fields)
	r.at, r.actor = f.w.now, actor
	f.w.push(f.native(id))
}

func (f *fake) Read(_ context.Context, r record.Ref) (record.Native, error) {
	f.reads++
	if f.rows[r.ID] == nil {
		return record.Native{}, fault.New(fault.NotFound, "read", "no such record")
	}
	n := f.native(r.ID)
	n.Version.Final = true
	return n, nil
}

func (f *fake) Find(ctx context.Context, _, external string) (record.Native, error) {
	for id, r := range f.rows {
		if r.external == external {
			return f.Read(ctx, f.ref(id))
		}
	}
	return record.Native{}, fault.New(fault.NotFound, "find", "no such record")
}

func (f *fake) Write(_ context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	for i, w := range writes {
		f.writes++
		out[i] = f.write(w)
	}
	return out
}

func (f *fake) write(w platform.Write) platform.Written {
	if f.down {
		return platform.Written{Err: fault.New(fault.Down, "write", "away")}
	}
	if f.broken {
		return platform.Written{Err: fault.New(fault.Internal, "write", "odd")}
	}
	for field, code := range f.refuse {
		if _, written := w.Fields[field]; written {
			return platform.Written{Err: &fault.Error{Class: fault.Refused, Op: "write", Code: code, Detail: "not now", Fields: []string{field}}}
		}
	}
	id, r := w.Ref.ID, f.rows[w.Ref.ID]
	created := r == nil
	if created {
		id, r = fmt.Sprintf("%s-%d", f.name[:1], len(f.rows)+1), &row{fields: map[string]any{}, born: f.w.now, external: w.External}
		f.rows[id] = r
	}
	maps.Copy(r.fields, w.Fields)
	f.w.pass(time.Second)
	r.at, r.actor = f.w.now, "integration"
	f.w.push(f.native(id))
	return platform.Written{ID: id, Created: created, Version: record.Version{At: r.at}}
}

// world is everything between the inbound queue and the platforms.
type world struct {
	t                             testing.TB
	now                           time.Time
	store                         *storetest.Faulty
	ledger                        *ledger.Ledger
	set                           *policy.Set
	inbound                       *queue.Memory
	out                           map[string]*queue.Memory
	netsuite, salesforce, zendesk *fake
	hub                           *hub.Flow
	deliver                       *deliver.Flow
	sweep                         *sweep.Flow
	steward                       *steward.Flow
	operate                       *operate.Flow
	sent, ids                     int
}

func newWorld(t testing.TB, edit ...string) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC), set: config(t, edit...), out: map[string]*queue.Memory{}}
	clock := func() time.Time { return w.now }
	w.store = &storetest.Faulty{Store: store.NewMemory(clock)}
	w.ledger = ledger.New(w.store, clock)
	w.inbound = queue.NewMemory(queue.Settings{Name: "inbound"}, nil, clock)
	recorder := telemetry.New(nil, clock, nil)
	w.netsuite, w.salesforce, w.zendesk = &fake{name: record.NetSuite}, &fake{name: record.Salesforce}, &fake{name: record.Zendesk}
	wake, readers, platforms := map[string]queue.Sender{}, map[string]hub.Reader{}, map[string]deliver.Platform{}
	for _, f := range w.fakes() {
		f.w, f.rows = w, map[string]*row{}
		w.out[f.name] = queue.NewMemory(queue.Settings{Name: f.name}, nil, clock)
		wake[f.name], readers[f.name], platforms[f.name] = w.out[f.name], f, f
	}
	jitter := rand.New(rand.NewPCG(1, 2))
	w.hub = hub.New(hub.Deps{Ledger: w.ledger, Config: w.set, Readers: readers, Wake: wake, Now: clock, Telemetry: recorder})
	w.deliver = deliver.New(deliver.Deps{Ledger: w.ledger, Config: w.set, Platforms: platforms, Now: clock, Rand: func() *rand.Rand { return jitter }, Telemetry: recorder})
	w.sweep = sweep.New(sweep.Deps{Ledger: w.ledger, Wake: wake, Inbound: w.inbound, Now: clock, Grace: time.Second, Telemetry: recorder})
	w.steward = steward.New(steward.Deps{Ledger: w.ledger, Config: w.set, Wake: wake, Inbound: w.inbound, Now: clock, Telemetry: recorder,
		NewID: func() string { w.ids++; return fmt.Sprint("s-", w.ids) }})
	w.operate = operate.New(operate.Deps{Ledger: w.ledger, Config: w.set, Telemetry: recorder, Now: clock})
	t.Cleanup(w.audited)
	return w
}

func (w *world) fakes() []*fake                 { return []*fake{w.netsuite, w.salesforce, w.zendesk} }
func (w *world) pass(d time.Duration)           { w.now = w.now.Add(d) }
func (w *world) ctx() context.Context           { return context.Background() }
func (w *world) must(err error)                 { w.t.Helper(); fatal(w.t, err) }
func (w *world) who(n string) (p policy.Person) { p, _ = w.set.Person(n); return p }

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// audited holds every test to an audit log that is whole.
func (w *world) audited() {
	v, err := w.operate.Verify(w.ctx(), nil)
	if err != nil || len(v.Broken) > 0 || v.Entries == 0 {
		w.t.Errorf("the audit log: %+v %v", v, err)
	}
}

func (w *world) push(n record.Native) {
	w.t.Helper()
	w.sent++
	m, err := message.Inbound{CorrelationID: fmt.Sprint("c-", w.sent), ReceivedAt: w.now, Source: message.Webhook, Native: n}.Message(fmt.Sprint("event-", w.sent))
	w.must(err)
	w.must(w.inbound.Send(w.ctx(), m))
}

func (w *world) drain(q *queue.Memory, apply func(context.Context, []queue.Received) []string) int {
	w.t.Helper()
	for taken := 0; ; {
		batch, err := q.Receive(w.ctx(), queue.MaxBatch, 0)
		w.must(err)
		if len(batch) == 0 {
			return taken
		}
		taken += len(batch)
		if failed := apply(w.ctx(), batch); len(failed) > 0 {
			w.t.Fatalf("messages %v come back", failed)
		}
		for _, m := range batch {
			w.must(q.Delete(w.ctx(), m.Receipt))
		}
	}
}

// work lets the functions take what is on the queues.
func (w *world) work() {
	w.t.Helper()
	for {
		n := w.drain(w.inbound, w.hub.Apply)
		for _, f := range w.fakes() {
			n += w.drain(w.out[f.name], w.deliver.Apply)
		}
		if n == 0 {
			return
		}
	}
}

// settle lets time pass until nothing is left to do.
func (w *world) settle() {
	w.t.Helper()
	for range 6 {
		w.work()
		w.pass(40 * time.Second)
		_, err := w.sweep.Apply(w.ctx())
		w.must(err)
		w.work()
	}
}

// account is a customer that NetSuite made and Zendesk has a copy of.
func (w *world) account() record.ID {
	w.t.Helper()
	w.netsuite.set("1", "7", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678", "street": "Kirchgasse 6", "city": "Graz", "terms": "net 30", "limit": json.Number("1000"), "phone": "7675-3425"})
	w.settle()
	return ledger.Mint("account", w.netsuite.ref("1"))
}

// shared is an account that has a Salesforce native record too.
func (w *world) shared() record.ID {
	w.t.Helper()
	id := w.account()
	w.salesforce.set("1", "sf-sarah", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678"})
	w.settle()
	if got, _, err := w.ledger.Lookup(w.ctx(), w.salesforce.ref("1")); err != nil || got != id {
		w.t.Fatalf("salesforce's account is %s (%v), want %s", got, err, id)
	}
	return id
}

func (w *world) state(id record.ID) ledger.State {
	w.t.Helper()
	states, err := w.ledger.Load(w.ctx(), id)
	w.must(err)
	return states[id]
}

// golden is a field's golden value in words.
func (w *world) golden(id record.ID, field string) string {
	w.t.Helper()
	return w.state(id).Record.Golden[field].Value.String()
}

// live is the only live exception of a type.
func (w *world) live(kind string) ledger.Exception {
	w.t.Helper()
	all, err := w.operate.Exceptions(w.ctx(), operate.Filter{Type: kind})
	w.must(err)
	if len(all) != 1 {
		w.t.Fatalf("%d live exceptions of type %s, want one: %+v", len(all), kind, all)
	}
	return all[0]
}

func (w *world) exception(id string) ledger.Exception {
	w.t.Helper()
	x, err := w.ledger.Exception(w.ctx(), id)
	w.must(err)
	return x
}

// act acts as somebody, twice: the second time changes nothing, and adds nothing to the log.
func (w *world) act(by string, a steward.Action) steward.Acted {
	w.t.Helper()
	done, err := w.steward.Act(w.ctx(), w.who(by), a)
	if err != nil {
		w.t.Fatalf("%s: %v", a.Do, err)
	}
	before, entries := w.snapshot(), w.entries()
	again, err := w.steward.Act(w.ctx(), w.who(by), a)
	if err != nil {
		w.t.Fatalf("%s again: %v", a.Do, err)
	}
	if w.snapshot() != before || again.Exception.Status != done.Exception.Status || again.Record != done.Record {
		w.t.Errorf("%s again changed something: %+v, then %+v", a.Do, done, again)
	}
	if n := w.entries(); n != entries {
		w.t.Errorf("%s again: %d more entries in the log", a.Do, n-entries)
	}
	return done
}

// twice does something to a record twice, and expects that the second time does nothing.
func (w *world) twice(do func() (steward.Acted, error)) steward.Acted {
	w.t.Helper()
	done, err := do()
	w.must(err)
	before, entries := w.snapshot(), w.entries()
	again, err := do()
	w.must(err)
	if again.Record != done.Record || again.Done == "" || w.snapshot() != before || w.entries() != entries {
		w.t.Errorf("again it did something: %+v, then %+v", done, again)
	}
	return done
}

// snapshot is what the audit log, the exceptions and what is due say.
func (w *world) snapshot() string {
	w.t.Helper()
	all, err := w.ledger.Exceptions(w.ctx(), true)
	w.must(err)
	due := map[string][]ledger.Pending{}
	for _, f := range w.fakes() {
		for p, err := range w.ledger.DueFor(w.ctx(), f.name) {
			w.must(err)
			due[f.name] = append(due[f.name], p)
		}
	}
	proposals, err := w.ledger.Proposals(w.ctx(), true)
	w.must(err)
	slices.SortFunc(all, func(a, b ledger.Exception) int { return strings.Compare(a.ID, b.ID) })
	b, err := json.Marshal([]any{all, due, proposals})
	w.must(err)
	return string(b)
}

func (w *world) entries() int {
	w.t.Helper()
	v, err := w.ledger.Verify(w.ctx(), nil)
	w.must(err)
	return v.Entries
}

// logged expects that a chain of the audit log has an event by somebody, and returns the newest.
func (w *world) logged(chain record.ID, action, by string) record.Event {
	w.t.Helper()
	log, err := w.operate.Log(w.ctx(), chain)
	w.must(err)
	for _, entry := range slices.Backward(log) {
		for _, e := range entry.Events {
			if e.Action == action && e.By == by && entry.By == by {
				return e
			}
		}
	}
	w.t.Fatalf("the log of %s has no %s by %s: %+v", chain, action, by, log)
	return record.Event{}
}

// refused expects a refusal of a class with some words in it, and a remedy.
func refused(t testing.TB, err error, class fault.Class, words ...string) {
	t.Helper()
	e := fault.Outermost(err)
	if e == nil || e.Class != class || e.Remedy == "" {
		t.Fatalf("%v: want %s with a remedy", err, class)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}
