// Package flow_test runs hub, deliver and sweep together, as the queues do, over the embedded configuration and
// platforms that behave.
package flow_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// world is everything between the inbound queue and the platforms.
type world struct {
	t                             testing.TB
	clock                         *clock
	store                         *storetest.Faulty
	ledger                        *ledger.Ledger
	config                        *policy.Set
	telemetry                     *telemetry.Recorder
	log                           *bytes.Buffer
	inbound, inboundDead          *queue.Memory
	out, dead                     map[string]*queue.Memory
	netsuite, salesforce, zendesk *fake
	servicenow                    *fake
	hub                           *hub.Flow
	deliver                       *deliver.Flow
	sweep                         *sweep.Flow
	sent                          int
	said                          map[record.Ref]bool
}

func loadConfig(t testing.TB) *policy.Set {
	t.Helper()
	set, problems := policy.Load(config.FS)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func newWorld(t testing.TB) *world { return worldOf(t, loadConfig(t)) }

func worldOf(t testing.TB, set *policy.Set) *world {
	t.Helper()
	c := &clock{at: start}
	w := &world{t: t, clock: c, store: &storetest.Faulty{Store: store.NewMemory(c.now)}, config: set, log: &bytes.Buffer{},
		out: map[string]*queue.Memory{}, dead: map[string]*queue.Memory{}, said: map[record.Ref]bool{}}
	w.ledger = ledger.New(w.store, c.now)
	w.telemetry = telemetry.New(slog.New(slog.NewJSONHandler(w.log, nil)), c.now, nil)
	w.inboundDead = queue.NewMemory(queue.Settings{Name: "inbound-dlq"}, nil, c.now)
	w.inbound = queue.NewMemory(queue.Settings{Name: "inbound", MaxReceives: queue.MaxReceives}, w.inboundDead, c.now)
	w.netsuite, w.salesforce, w.zendesk = newFake(record.NetSuite, c.now), newFake(record.Salesforce, c.now), newFake(record.Zendesk, c.now)
	w.servicenow = newFake(record.ServiceNow, c.now)
	w.zendesk.tellsNumber, w.servicenow.tellsNumber = true, true
	wake, readers, platforms := map[string]queue.Sender{}, map[string]hub.Reader{}, map[string]deliver.Platform{}
	for _, f := range w.fakes() {
		w.dead[f.name] = queue.NewMemory(queue.Settings{Name: f.name + "-dlq"}, nil, c.now)
		w.out[f.name] = queue.NewMemory(queue.Settings{Name: f.name, MaxReceives: queue.MaxReceives}, w.dead[f.name], c.now)
		wake[f.name], readers[f.name], platforms[f.name] = w.out[f.name], f, f
	}
	jitter := rand.New(rand.NewPCG(1, 2))
	w.hub = hub.New(hub.Deps{Ledger: w.ledger, Config: w.config, Readers: readers, Wake: wake, Now: c.now, Telemetry: w.telemetry})
	w.deliver = deliver.New(deliver.Deps{Ledger: w.ledger, Config: w.config, Platforms: platforms, Now: c.now,
		Rand: func() *rand.Rand { return jitter }, Telemetry: w.telemetry})
	w.sweep = sweep.New(sweep.Deps{Ledger: w.ledger, Wake: wake, Inbound: w.inbound, Now: c.now, Grace: 3 * time.Second, Telemetry: w.telemetry})
	t.Cleanup(w.untouched)
	return w
}

// untouched holds the flows to changing only what they cloned: what the ledger remembers of each record is what was
// committed.
func (w *world) untouched() {
	ctx, fresh := context.Background(), ledger.New(w.store.Store, w.clock.now)
	for ref := range w.said {
		id, linked, err := fresh.Lookup(ctx, ref)
		if err != nil {
			w.t.Error(err)
		}
		if !linked {
			continue
		}
		remembered, err := w.ledger.Load(ctx, id)
		committed, err2 := fresh.Load(ctx, id)
		if err != nil || err2 != nil {
			w.t.Error(err, err2)
		}
		if a, b := encoded(w.t, remembered[id]), encoded(w.t, committed[id]); a != b {
			w.t.Errorf("what is remembered of %s was changed after its commit:\n%s\n%s", id, a, b)
		}
	}
}

// encoded is a state as the ledger writes it.
func encoded(t testing.TB, s ledger.State) string {
	var c capture
	if err := ledger.New(&c, time.Now).Commit(context.Background(), ledger.Entry{Before: s, After: s}); err != nil {
		t.Error(err)
	}
	return string(c.value)
}

// capture is a store that notes the state of a commit.
type capture struct {
	store.Store
	value []byte
}

func (c *capture) Commit(_ context.Context, ops ...store.Op) error {
	c.value = ops[0].Value
	return nil
}

func (w *world) fakes() []*fake { return []*fake{w.netsuite, w.salesforce, w.zendesk, w.servicenow} }

// echoes makes the targets push what changed there, as real ones do.
func (w *world) echoes() {
	for _, f := range w.fakes() {
		f.emit = func(n record.Native) { w.push(n) }
	}
}

// push puts observations on the inbound queue, as intake does. Each gets a correlation id of its own.
func (w *world) push(natives ...record.Native) {
	w.t.Helper()
	for _, n := range natives {
		w.sent++
		w.pushAs(fmt.Sprintf("c-%d", w.sent), n)
	}
}

func (w *world) pushAs(trace string, n record.Native) {
	w.t.Helper()
	w.sent++
	w.said[n.Ref] = true
	m, err := message.Inbound{CorrelationID: trace, ReceivedAt: w.clock.now(), Source: message.Webhook, Native: n}.Message(fmt.Sprint("event-", w.sent))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.inbound.Send(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
}

// drain feeds one queue to one function until nothing is visible, and returns how many messages were taken.
func (w *world) drain(q *queue.Memory, apply func(context.Context, []queue.Received) []string) int {
	w.t.Helper()
	taken := 0
	for {
		batch, err := q.Receive(w.t.Context(), queue.MaxBatch, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(batch) == 0 {
			return taken
		}
		taken += len(batch)
		failed := apply(w.t.Context(), batch)
		var done []string
		for _, m := range batch {
			if !slices.Contains(failed, m.ID) {
				done = append(done, m.Receipt)
			}
		}
		if len(done) > 0 {
			if err := q.Delete(w.t.Context(), done...); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// work lets the functions take what is on the queues. No time passes.
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

// minute lets the functions work and half a minute and a sweep pass.
func (w *world) minute() {
	w.t.Helper()
	w.work()
	w.clock.pass(31 * time.Second)
	_, _ = w.sweep.Apply(w.t.Context()) // a sweep that meets a fault is followed by another
	w.work()
}

// settle runs until nothing is due and nothing waits.
func (w *world) settle() {
	w.t.Helper()
	for range 40 {
		w.minute()
		if w.waiting() == "" {
			return
		}
	}
	w.t.Fatalf("does not come to rest: %s\n%s", w.waiting(), w.tail())
}

func (w *world) tail() string {
	lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// waiting says what is still to be done.
func (w *world) waiting() string {
	w.t.Helper()
	var out []string
	for _, f := range w.fakes() {
		for p, err := range w.ledger.DueFor(w.t.Context(), f.name) {
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s for %s", p.Record, f.name))
		}
		if d, _ := w.out[f.name].Depth(w.t.Context()); d.Visible+d.InFlight > 0 {
			out = append(out, fmt.Sprintf("%+v on the queue of %s", d, f.name))
		}
	}
	for r, err := range w.ledger.Rechecks(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, "recheck of "+r.Ref.String())
	}
	if d, _ := w.inbound.Depth(w.t.Context()); d.Visible+d.InFlight > 0 {
		out = append(out, fmt.Sprintf("%+v inbound", d))
	}
	return strings.Join(out, ", ")
}

// nothingDead fails when a message was given up.
func (w *world) nothingDead() {
	w.t.Helper()
	for name, q := range w.dead {
		if d, _ := q.Depth(w.t.Context()); d.Visible > 0 {
			w.t.Errorf("%d dead letters for %s\n%s", d.Visible, name, w.tail())
		}
	}
	if d, _ := w.inboundDead.Depth(w.t.Context()); d.Visible > 0 {
		w.t.Errorf("%d dead letters inbound\n%s", d.Visible, w.tail())
	}
}

func (w *world) exceptions() []string {
	w.t.Helper()
	open, err := w.ledger.Exceptions(w.t.Context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, x := range open {
		about := string(x.Record)
		if about == "" {
			about = x.Native
		}
		out = append(out, strings.Join([]string{x.Type, about, x.Platform, x.Field}, " "))
	}
	slices.Sort(out)
	return out
}

func (w *world) expectExceptions(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.exceptions(); !slices.Equal(got, want) {
		w.t.Errorf("open exceptions:\n got %q\nwant %q", got, want)
	}
}

func (w *world) state(id record.ID) ledger.State {
	w.t.Helper()
	states, err := w.ledger.Load(context.WithoutCancel(w.t.Context()), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return states[id]
}

func mint(entity, object, id string) record.ID {
	return ledger.Mint(entity, record.Ref{Platform: record.NetSuite, Object: object, ID: id})
}

var (
	customerID = mint("customer", "customer", "107")
	orderID    = mint("order", "salesOrder", "9001")
	shipmentID = mint("shipment", "itemFulfillment", "9100")
)

func customer(name, phone string) map[string]any {
	return map[string]any{"entityId": "VINET", "companyName": name, "phone": phone, "isInactive": false}
}

func order(status string) map[string]any {
	return map[string]any{"tranId": "10248", "tranDate": "1996-07-04", "entity": map[string]any{"id": "107"}, "orderStatus": map[string]any{"id": status},
		"currency": map[string]any{"id": "1", "refName": "EUR"}, "total": 472.38, "memo": "call first",
		"shippingAddress": map[string]any{"addressee": "Vins et alcools Chevalier", "addr1": "59 rue de l'Abbaye", "city": "Reims"},
		"item":            map[string]any{"items": []any{map[string]any{"line": 1, "item": map[string]any{"id": "11", "refName": "Queso Cabrales"}, "quantity": 12, "rate": 14.0, "amount": 168.0}}}}
}

func shipment(tracking ...string) map[string]any {
	var items []any
	for _, n := range tracking {
		items = append(items, map[string]any{"packageTrackingNumber": n})
	}
	return map[string]any{"tranId": "IF-1", "tranDate": "1996-07-16", "createdFrom": map[string]any{"id": "9001"}, "shipStatus": map[string]any{"id": "C"},
		"package": map[string]any{"items": items}, "item": map[string]any{"items": []any{map[string]any{"item": map[string]any{"id": "11", "refName": "Queso Cabrales"}, "quantity": 12, "orderLine": 1}}}}
}

// story is the life of one order as NetSuite tells it: every native that it pushes on the way.
func (w *world) story() []record.Native {
	var out []record.Native
	tell := func(object, id string, fields map[string]any) {
		w.clock.pass(time.Second)
		out = append(out, w.netsuite.set(object, id, fields))
	}
	tell("customer", "107", customer("Vins et alcools Chevalier", "26.47.15.10"))
	tell("salesOrder", "9001", order("B"))
	tell("itemFulfillment", "9100", shipment("1Z999AA1"))
	tell("salesOrder", "9001", order("D"))
	tell("itemFulfillment", "9100", shipment("1Z999AA1", "1Z999AA2"))
	tell("salesOrder", "9001", order("G"))
	tell("customer", "107", customer("Vins et alcools Chevalier & fils", "26.47.15.11"))
	return out
}

func at(fields map[string]any, path ...string) any {
	var v any = fields
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// seeded is jitter that is the same in every run.
func seeded() func() *rand.Rand {
	jitter := rand.New(rand.NewPCG(1, 2))
	return func() *rand.Rand { return jitter }
}
