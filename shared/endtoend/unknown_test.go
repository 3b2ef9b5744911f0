package endtoend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/twins"
)

// mortal is a store as one process sees it: after its death it commits nothing.
type mortal struct {
	store.Store
	dead *atomic.Bool
}

func (m mortal) Commit(ctx context.Context, ops ...store.Op) error {
	if m.dead.Load() {
		return fault.New(fault.Down, "mortal", "the process is dead")
	}
	return m.Store.Commit(ctx, ops...)
}

// killing is a world whose process can be killed at any call to a platform, on a clock that only the test moves. Twins,
// store and queues outlive it.
type killing struct {
	*testing.T
	twins  *twins.Twins
	set    *policy.Set
	store  store.Store
	queues map[string]boot.Queue
	urls   map[string]boot.Endpoint
	hooks  string // where webhooks are received
	world  *boot.World
	intake atomic.Pointer[intake.Flow] // of the world: twins tell things at any time
	dead   *atomic.Bool
	cancel context.CancelFunc
	ctx    context.Context
	meddle map[string]*atomic.Pointer[func(commit func()) bool] // takes the place of a call's answer
	n      int

	mu    sync.Mutex
	ahead time.Duration
	log   []string
}

func (k *killing) now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC).Add(k.ahead)
}

func (k *killing) pass(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ahead += d
}

func newKilling(t *testing.T) *killing {
	t.Helper()
	k := &killing{T: t, queues: map[string]boot.Queue{}, urls: map[string]boot.Endpoint{}, meddle: map[string]*atomic.Pointer[func(commit func()) bool]{}}
	var err error
	if k.twins, err = twins.Start(twins.Options{Now: k.now, Seed: 11, Roomy: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.twins.SendTo("")
		if err := errors.Join(k.twins.Drain(context.Background()), k.twins.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if k.set, err = boot.LoadConfig(boot.Everywhere); err != nil {
		t.Fatal(err)
	}
	k.store = store.NewMemory(k.now)
	for _, name := range append([]string{boot.InboundQueue, boot.WorkflowQueue, boot.PublishQueue}, outbound()...) {
		dead := queue.NewMemory(queue.Settings{Name: cloud.DeadLetterName(name)}, nil, k.now)
		k.queues[cloud.DeadLetterName(name)] = dead
		k.queues[name] = queue.NewMemory(queue.Settings{Name: name, Visibility: 20 * time.Second, MaxReceives: queue.MaxReceives}, dead, k.now)
	}
	handlers := map[string]http.Handler{record.NetSuite: k.twins.NetSuite.Handler(), record.Salesforce: k.twins.Salesforce.Handler(),
		record.Zendesk: k.twins.Zendesk.Handler(), record.ServiceNow: k.twins.ServiceNow.Handler()}
	for name, e := range k.twins.Endpoints() {
		api, meddle := handlers[name], &atomic.Pointer[func(commit func()) bool]{}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f := meddle.Load()
			if f == nil || strings.Contains(r.URL.Path, "oauth") || !(*f)(func() { api.ServeHTTP(httptest.NewRecorder(), r) }) {
				api.ServeHTTP(w, r)
				return
			}
			panic(http.ErrAbortHandler) // the process is dead: nobody hears an answer
		}))
		t.Cleanup(srv.Close)
		k.meddle[name], k.urls[name] = meddle, boot.Endpoint{URL: srv.URL, Credentials: e.Credentials}
	}
	hooks := httptest.NewServer(http.HandlerFunc(k.receive))
	t.Cleanup(hooks.Close)
	k.hooks = hooks.URL
	k.start()
	k.twins.SendTo(k.hooks)
	return k
}

func outbound() (names []string) {
	for _, p := range boot.Platforms() {
		names = append(names, boot.OutboundQueue(p))
	}
	return names
}

// receive is intake, which no kill concerns.
func (k *killing) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasSuffix(r.URL.Path, "/events") {
		if err := k.intake.Load().ApplyEvent(context.WithoutCancel(r.Context()), body); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return
	}
	a := k.intake.Load().Apply(context.WithoutCancel(r.Context()), strings.TrimPrefix(r.URL.Path, "/webhooks/"),
		platform.Request{Header: r.Header, Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body})
	w.Header().Set("Content-Type", a.ContentType)
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the twin hung up: nothing to do
}

// start is a new process.
func (k *killing) start() {
	k.Helper()
	k.dead = &atomic.Bool{}
	var err error
	if k.world, err = boot.Over(mortal{k.store, k.dead}, k.queues, k.now, k.set, k.urls, telemetry.New(nil, k.now, k.hear)); err != nil {
		k.Fatal(err)
	}
	k.intake.Store(k.world.Intake())
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.Cleanup(k.cancel)
}

func (k *killing) hear(e telemetry.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = append(k.log, fmt.Sprintf("%s %s %s %s %s %v %v", e.At.Format("04:05.000"), e.Step, e.Platform, e.Record, e.Detail, e.Fields, e.Err))
}

// drain feeds a queue to a function until nothing is there, or the process dies.
func (k *killing) drain(name string, apply func(context.Context, []queue.Received) []string) (taken int) {
	k.Helper()
	q := k.queues[name]
	for !k.dead.Load() {
		got, err := q.Receive(context.Background(), queue.MaxBatch, 0)
		if err != nil {
			k.Fatal(err)
		}
		if len(got) == 0 {
			return taken
		}
		taken += len(got)
		failed := apply(k.ctx, got)
		var done []string
		for _, m := range got {
			if !slices.Contains(failed, m.ID) {
				done = append(done, m.Receipt)
			}
		}
		if len(done) > 0 && !k.dead.Load() {
			if err := q.Delete(context.Background(), done...); err != nil {
				k.Fatal(err)
			}
		}
	}
	return taken
}

// work lets the functions take what is on the queues, those of one platform left out.
func (k *killing) work(but string) {
	k.Helper()
	hub, deliver, runs := k.world.Hub(), k.world.Deliver(), k.world.Workflow()
	for n := 1; n > 0 && !k.dead.Load(); {
		if err := k.twins.Drain(context.Background()); err != nil {
			k.Fatal(err)
		}
		n = k.drain(boot.InboundQueue, hub.Apply) + k.drain(boot.WorkflowQueue, runs.Apply)
		for _, p := range boot.Platforms() {
			if p != but {
				n += k.drain(boot.OutboundQueue(p), deliver.Apply)
			}
		}
	}
}

// settle lets time pass, with a sweep every half minute, until nothing is due.
func (k *killing) settle() {
	k.Helper()
	for range 20 {
		k.work("")
		k.pass(31 * time.Second)
		if _, err := k.world.Sweep().Apply(k.ctx); err != nil {
			k.Fatal(err)
		}
		k.work("")
		st, err := k.world.Operate().Status(k.ctx)
		if err != nil {
			k.Fatal(err)
		}
		if busy(st) == "" {
			return
		}
	}
	k.Fatalf("does not come to rest:\n%s", k.tail())
}

func (k *killing) tail() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.log[max(0, len(k.log)-25):], "\n")
}

// journey is how a record comes into being and changes on one platform.
type journey struct {
	entity, origin, object string
	make                   func(k *killing) map[string]any
	change                 func(n int) map[string]any
	to                     []string
}

func (k *killing) save(origin, object, id string, fields map[string]any) string {
	k.Helper()
	got, err := map[string]func(string, string, map[string]any) (string, error){record.NetSuite: k.twins.NetSuite.Edit, record.Salesforce: k.twins.Salesforce.Edit}[origin](object, id, fields)
	if err != nil {
		k.Fatal(err)
	}
	return got
}

func journeys() []journey {
	customer := func(k *killing) map[string]any {
		return map[string]any{"entityId": fmt.Sprint("C", k.n), "companyName": fmt.Sprint("Company ", k.n), "phone": fmt.Sprint("0621-", 1000+k.n), "email": fmt.Sprintf("c%d@c.test", k.n)}
	}
	parent := func(k *killing) string { return k.save(record.NetSuite, "customer", "", customer(k)) }
	order := func(k *killing) map[string]any { return orderFields(parent(k), fmt.Sprint("SO", k.n)) }
	return []journey{
		{"customer", record.NetSuite, "customer", customer, func(n int) map[string]any {
			return map[string]any{"phone": fmt.Sprint("0622-", 1000+n), "companyName": fmt.Sprint("Renamed ", n)}
		}, []string{record.Salesforce, record.Zendesk, record.ServiceNow}},
		{"customer", record.Salesforce, "Account", func(k *killing) map[string]any {
			return map[string]any{"Name": fmt.Sprint("Won ", k.n), "Phone": fmt.Sprint("0621-", 1000+k.n), "Segment__c": "Midmarket"}
		}, func(n int) map[string]any {
			return map[string]any{"Phone": fmt.Sprint("0622-", 1000+n), "Account_Manager__c": fmt.Sprint("Manager ", n)}
		}, []string{record.NetSuite}},
		{"contact", record.NetSuite, "contact", func(k *killing) map[string]any {
			return map[string]any{"firstName": "Anne", "lastName": fmt.Sprint("Moreau ", k.n), "email": fmt.Sprintf("a%d@c.test", k.n), "phone": fmt.Sprint("26.", 1000+k.n), "company": ref(parent(k))}
		}, func(n int) map[string]any {
			return map[string]any{"phone": fmt.Sprint("27.", 1000+n), "title": fmt.Sprint("Title ", n)}
		}, []string{record.Salesforce, record.Zendesk, record.ServiceNow}},
		{"contact", record.Salesforce, "Contact", func(k *killing) map[string]any {
			return map[string]any{"FirstName": "Ann", "LastName": fmt.Sprint("Lee ", k.n), "Email": fmt.Sprintf("l%d@c.test", k.n), "Phone": fmt.Sprint("26.", 1000+k.n)}
		}, func(n int) map[string]any {
			return map[string]any{"Phone": fmt.Sprint("27.", 1000+n), "LastName": fmt.Sprint("Li ", n), "Email": fmt.Sprintf("li%d@c.test", n)}
		}, []string{record.NetSuite, record.Zendesk}},
		{"order", record.NetSuite, "salesOrder", order, func(n int) map[string]any {
			return map[string]any{"memo": fmt.Sprint("memo ", n), "otherRefNum": fmt.Sprint("PO", n)}
		}, []string{record.Salesforce, record.Zendesk}},
		{"shipment", record.NetSuite, "itemFulfillment", func(k *killing) map[string]any {
			return map[string]any{"tranId": fmt.Sprint("IF", k.n), "createdFrom": ref(k.save(record.NetSuite, "salesOrder", "", order(k))), "tranDate": "2026-11-20", "shipStatus": ref("A"),
				"item": sublist([]any{map[string]any{"item": map[string]any{"refName": "Tofu"}, "quantity": 1, "orderLine": 1}})}
		}, func(n int) map[string]any {
			return map[string]any{"shipCarrier": fmt.Sprint("carrier ", n), "shipStatus": ref(string(rune('B' + n%2)))}
		}, []string{record.Salesforce, record.Zendesk}},
	}
}

// trial is one killing.
type trial struct {
	journey
	target  string
	update  bool // the write that is killed
	deaf    bool // webhooks are lost from then on
	newer   bool // the origin changes the record again before the next process
	listing bool // what a listing tells comes before the next delivery
	rested  bool // the next process has heard and done everything before that
	back    bool // the newer change takes the one before back
	twice   bool // the next process is killed, too, in the first call of its write, which is heard of
	nth     int  // call of the write after which the process is killed
}

func (c trial) String() string {
	kind := map[bool]string{false: "create", true: "update"}[c.update]
	return fmt.Sprintf("%s %s from %s to %s, killed after call %d, deaf %v, newer %v, listing %v, rested %v, back %v, twice %v", kind, c.entity, c.origin, c.target, c.nth, c.deaf, c.newer, c.listing, c.rested, c.back, c.twice)
}

// run kills once, lets another process go on, and reports whether there was such a call.
func (k *killing) run(c trial) bool {
	k.Helper()
	k.n++
	k.pass(time.Hour) // far from the trial before
	fields := c.make(k)
	k.settle() // what it refers to
	m, ok := k.set.ByEntity(c.entity, c.target)
	if !ok {
		k.Fatalf("%v: no mapping", c)
	}
	var id string
	first := fields
	if c.update {
		id = k.save(c.origin, c.object, "", fields)
		k.settle()
		fields = c.change(k.n)
	}
	before := len(everything(k.twins, c.target, m.Object))
	id = k.save(c.origin, c.object, id, fields)
	k.work(c.target)
	k.pass(3 * time.Second) // a new customer waits a little
	if _, err := k.world.Sweep().Apply(k.ctx); err != nil {
		k.Fatal(err)
	}
	k.work(c.target)
	if !k.kill(c.target, c.nth, c.deaf) {
		k.settle()
		return false
	}
	k.start()
	k.pass(20 * time.Second)
	if c.rested {
		k.settle()
	}
	if c.newer {
		k.twins.SendTo(k.hooks)
		fields = c.change(k.n + 100_000)
		if c.back {
			for field := range fields {
				fields[field] = cmp.Or(first[field], any(""))
			}
		}
		k.save(c.origin, c.object, id, fields)
		if c.deaf && !c.twice { // only this one is heard
			if err := k.twins.Drain(context.Background()); err != nil {
				k.Fatal(err)
			}
			k.twins.SendTo("")
		}
	}
	if c.twice {
		k.work(c.target)
		k.kill(c.target, 1, false)
		k.start()
		k.pass(20 * time.Second)
	}
	if c.rested { // the hub knows of the newer change, the target does not yet
		k.work(c.target)
	}
	if c.listing {
		if _, err := k.world.Batch().Apply(k.ctx, c.target); err != nil {
			k.Fatal(err)
		}
		k.drain(boot.InboundQueue, k.world.Hub().Apply)
	}
	k.settle()
	k.twins.SendTo(k.hooks)
	k.settle()
	k.judge(c, id, m.Object, before, fields)
	return true
}

// kill kills the process right after a call of the next delivery to a target has been done, and reports whether there was
// such a call.
func (k *killing) kill(target string, nth int, deaf bool) bool {
	k.Helper()
	var calls atomic.Int64
	kill := func(commit func()) bool {
		n := int(calls.Add(1))
		if n < nth {
			return false
		}
		if n == nth {
			if deaf {
				k.twins.SendTo("")
			}
			commit()
			k.dead.Store(true)
			k.cancel()
		}
		return true
	}
	k.meddle[target].Store(&kill)
	k.drain(boot.OutboundQueue(target), k.world.Deliver().Apply)
	k.meddle[target].Store(nil)
	return int(calls.Load()) >= nth
}

// judge demands that the target holds one native record that shows what it should, that nothing is due, and that nobody's
// edit was seen: golden is what the origin said last, and people have nothing to decide.
func (k *killing) judge(c trial, id, object string, before int, last map[string]any) {
	k.Helper()
	ctx := context.Background()
	wrong := func(format string, a ...any) {
		k.Errorf("%v: %s", c, fmt.Sprintf(format, a...))
	}
	if made := len(everything(k.twins, c.target, object)) - before; made != map[bool]int{true: 0, false: 1}[c.update] {
		wrong("%d native records were made", made)
	}
	rid, linked, err := k.world.Ledger.Lookup(ctx, record.Ref{Platform: c.origin, Object: c.object, ID: id})
	if err != nil || !linked {
		wrong("its record is not known: %v", err)
		return
	}
	states, err := k.world.Ledger.Load(ctx, rid)
	if err != nil {
		k.Fatal(err)
	}
	r, rules := states[rid].Record, k.set.Rules(c.entity)
	if len(r.Proposals) > 0 || len(r.Held) > 0 || len(states[rid].Open) > 0 || len(states[rid].Due) > 0 {
		wrong("proposals %v, holds %v, exceptions %v, due %v", r.Proposals, r.Held, states[rid].Open, states[rid].Due)
	}
	if open, err := k.world.Ledger.Exceptions(ctx, false); err != nil || len(open) > 0 {
		wrong("exceptions %v %v", open, err)
	}
	n, err := k.world.Connectors[c.target].Read(ctx, r.Views[c.target].Ref)
	if err != nil || n.External != rid.External() && c.target != record.NetSuite {
		wrong("the record there: external id %q, %v", n.External, err)
		return
	}
	for _, p := range []string{c.origin, c.target} { // what is there, whatever we remember of it
		m, _ := k.set.ByEntity(c.entity, p)
		n, err := k.world.Connectors[p].Read(ctx, r.Views[p].Ref)
		if err != nil {
			wrong("reading %s: %v", p, err)
			return
		}
		o, refs, err := m.Observe(n)
		if err != nil {
			wrong("reading %s: %v", p, err)
			return
		}
		for field, to := range refs {
			if id, known, err := k.world.Ledger.Lookup(ctx, to); err != nil {
				k.Fatal(err)
			} else if known {
				o.Fields[field] = record.TextValue(string(id))
			}
		}
		fresh := r.Clone()
		view, _ := record.Observe(record.View{}, o)
		view.External = rid
		fresh.Views[p] = view
		if patch := record.Project(fresh, rules, p, m.As); !patch.Empty() || len(patch.Kept) > 0 {
			wrong("%s does not show %v %v", p, patch.Fields, patch.Kept)
		}
	}
	native, _ := map[string]func(string, string) (map[string]any, bool){record.NetSuite: k.twins.NetSuite.Get, record.Salesforce: k.twins.Salesforce.Get}[c.origin](c.object, id)
	for field, v := range last {
		if text, is := v.(string); is && native[field] != v && (text != "" || native[field] != nil) {
			wrong("%s of the origin is %v, and a person there said %v", field, native[field], v)
		}
	}
}

// A process is killed right after a platform has done what it was told, at every call of every kind of write of the deployed
// configuration. Another one goes on.
func TestKilledBetweenAWriteAndItsCommit(t *testing.T) {
	t.Parallel()
	for _, j := range journeys() {
		t.Run(j.entity+" from "+j.origin, func(t *testing.T) {
			t.Parallel()
			k := newKilling(t)
			for _, target := range j.to {
				for _, update := range []bool{false, true} {
					for nth, hit := 1, true; hit; nth++ {
						for _, how := range []trial{{}, {deaf: true}, {newer: true}, {deaf: true, newer: true}, {deaf: true, newer: true, listing: true}, {newer: true, listing: true, rested: true}, {newer: true, rested: true, back: true},
							{deaf: true, newer: true, twice: true}} {
							how.journey, how.target, how.update, how.nth = j, target, update, nth
							if hit = k.run(how); !hit {
								break
							}
						}
					}
				}
			}
		})
	}
}
