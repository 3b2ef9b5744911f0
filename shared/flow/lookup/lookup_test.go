package lookup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/budget"
	"sorrel/shared/entitlement"
	"sorrel/shared/fault"
	"sorrel/shared/flow/lookup"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

var began = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

const (
	chevalier = record.ID("customer/aaaaaaaaaaaaaaaa")
	paper     = record.ID("contract/bbbbbbbbbbbbbbbb")
	bill      = record.ID("invoice/cccccccccccccccc")
)

// world is a ledger with a customer, a contract and an invoice, as NetSuite said them at began.
type world struct {
	testing.TB
	set     *policy.Set
	ledger  *ledger.Ledger
	inbound *queue.Memory
	asked   time.Time // the present
	read    func(ctx context.Context, r record.Ref) (record.Native, error)
	reads   atomic.Int32
	flow    *lookup.Flow
}

func (w *world) Read(ctx context.Context, r record.Ref) (record.Native, error) {
	w.reads.Add(1)
	return w.read(ctx, r)
}

func all(set *policy.Set, uses ...string) policy.Consumer {
	c := policy.Consumer{Name: "portal", Uses: uses, Fields: map[string][]string{}, Quota: 10}
	for _, e := range set.Entities() {
		c.Fields[e] = set.Contract(e).Names()
	}
	return c
}

func newWorld(t testing.TB, change func(*policy.Lookups)) *world {
	t.Helper()
	set, problems := policy.Load(config.Everywhere())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	l := set.Lookups()
	if change != nil {
		change(&l)
	}
	w := &world{TB: t, set: set.WithLookups(l), asked: began}
	now := func() time.Time { return w.asked }
	w.ledger, w.inbound = ledger.New(store.NewMemory(now), now), queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now)
	w.read = func(context.Context, record.Ref) (record.Native, error) {
		return record.Native{}, fault.New(fault.Down, "netsuite.read", "no answer")
	}
	w.flow = lookup.New(lookup.Deps{Ledger: w.ledger, Config: w.set, Readers: map[string]lookup.Reader{record.NetSuite: w}, Inbound: w.inbound, Now: now, Telemetry: telemetry.New(nil, now, nil)})
	w.says(chevalier, customer(began, "Chevalier", "AUTO"))
	w.says(paper, contract(began, "Active", "2026-12-31"))
	w.says(bill, native("invoice", "500", began, `{"tranId": "INV-1", "entity": {"id": "107"}, "status": {"id": "A"}, "total": 120, "amountRemaining": 20}`))
	return w
}

func native(object, id string, at time.Time, fields string) record.Native {
	n := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: object, ID: id}, Version: record.Version{At: at}}
	dec := json.NewDecoder(strings.NewReader(fields))
	dec.UseNumber()
	if err := dec.Decode(&n.Fields); err != nil {
		panic(err)
	}
	return n
}

func customer(at time.Time, name, hold string) record.Native {
	return native("customer", "107", at, fmt.Sprintf(`{"entityId": "VINET", "companyName": %q, "creditHoldOverride": {"id": %q}}`, name, hold))
}

func contract(at time.Time, status, ends string) record.Native {
	return native("customrecord_sorrel_contract", "9400", at, fmt.Sprintf(`{"name": "CON-7", "custrecord_sorrel_contract_customer": {"id": "107"}, "custrecord_sorrel_contract_status": {"id": "2", "refName": %q},
		"custrecord_sorrel_contract_tier": {"id": "2", "refName": "Premium"}, "custrecord_sorrel_contract_starts": "2026-01-01", "custrecord_sorrel_contract_ends": %q}`, status, ends))
}

// says has a native record told, and settles that as the hub would.
func (w *world) says(id record.ID, n record.Native) {
	w.Helper()
	m, _ := w.set.ByObject(n.Platform, n.Object)
	o, refs, err := m.Observe(n)
	if err != nil {
		w.Fatal(err)
	}
	for f := range refs {
		o.Fields[f] = record.TextValue(string(chevalier))
	}
	o.Trace = "told"
	states, err := w.ledger.Load(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	after := states[id].Clone()
	after.Record.ID = id
	after.Record.Views[n.Platform], _ = record.Observe(after.Record.Views[n.Platform], o)
	s, err := govern.Settle(w.Context(), w.ledger, w.set, states[id], after, govern.Cause{Trace: "told", Now: w.asked})
	if err != nil {
		w.Fatal(err)
	}
	if _, known := states[id].Record.Views[n.Platform]; !known {
		s.Entry.Links = map[record.Ref]record.ID{n.Ref: id}
	}
	if err := w.ledger.Commit(w.Context(), s.Entry); err != nil {
		w.Fatal(err)
	}
}

func (w *world) q(maxAge time.Duration, uses ...string) lookup.Question {
	return lookup.Question{Consumer: all(w.set, uses...), MaxAge: maxAge, Trace: "trace-1"}
}

func (w *world) queued() []record.Native {
	w.Helper()
	got, err := w.inbound.Peek(w.Context(), 10)
	if err != nil {
		w.Fatal(err)
	}
	var out []record.Native
	for _, m := range got {
		in, err := message.ParseInbound(m.Body)
		if err != nil || in.Source != message.Lookup || in.CorrelationID != "trace-1" {
			w.Fatalf("%+v %v", in, err)
		}
		out = append(out, in.Native)
	}
	return out
}

func TestWhatIsYoungEnoughIsAnsweredWithoutACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.asked = began.Add(10 * time.Minute)
	got, err := w.flow.Record(t.Context(), w.q(-1, policy.UseRecords), chevalier)
	if err != nil {
		t.Fatal(err)
	}
	name := got.Fields["name"]
	if got.Source != lookup.Cached || got.Freshness != lookup.Fresh || got.AgeSeconds != 600 || got.MaxAgeSeconds != 3600 || got.CorrelationID != "trace-1" || !got.AsOf.Equal(began) ||
		name.Value.Raw() != "Chevalier" || name.Owner != record.NetSuite || !name.AsOf.Equal(began) || w.reads.Load() != 0 || got.State != lookup.Present {
		t.Errorf("%+v, %d reads", got, w.reads.Load())
	}
}

func TestWhatIsTooOldIsReadFromItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.asked = began.Add(2 * time.Hour)
	w.read = func(ctx context.Context, r record.Ref) (record.Native, error) {
		if budget.PurposeOf(ctx).Class != budget.Lookup {
			t.Error("the call is of another class")
		}
		if end, ends := ctx.Deadline(); !ends || time.Until(end) > policy.DefaultLookupBudget {
			t.Error("the call has more time than the budget")
		}
		return customer(began.Add(time.Hour), "Chevalier & Fils", "AUTO"), nil
	}
	got, err := w.flow.Native(t.Context(), w.q(-1, policy.UseRecords), record.Ref{Platform: record.NetSuite, ID: "107"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Source != lookup.Live || got.Freshness != lookup.Fresh || got.AgeSeconds != 0 || got.Fields["name"].Value.Raw() != "Chevalier & Fils" {
		t.Errorf("%+v", got)
	}
	if news := w.queued(); len(news) != 1 || news[0].ID != "107" || news[0].Hint() {
		t.Errorf("the hub is told %+v", news)
	}
	states, _ := w.ledger.Load(t.Context(), chevalier)
	if states[chevalier].Record.Golden["name"].Value.Raw() != "Chevalier" {
		t.Error("a lookup changed the record")
	}
	// The next question is answered by what was read, before the hub has it.
	w.asked = w.asked.Add(time.Minute)
	got, err = w.flow.Record(t.Context(), w.q(-1, policy.UseRecords), chevalier)
	if err != nil || got.Source != lookup.Cached || got.Fields["name"].Value.Raw() != "Chevalier & Fils" || got.AgeSeconds != 60 || w.reads.Load() != 1 {
		t.Errorf("%+v %v, %d reads", got, err, w.reads.Load())
	}
	// Nothing new: nothing is sent.
	w.read = func(context.Context, record.Ref) (record.Native, error) {
		return contract(began, "Active", "2026-12-31"), nil
	}
	if _, err := w.flow.Record(t.Context(), w.q(0, policy.UseRecords), paper); err != nil || len(w.queued()) != 1 {
		t.Errorf("%v, %d queued", err, len(w.queued()))
	}
}

func TestAnOwnerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, way := range []string{policy.AnswerStale, policy.Refuse} {
		w := newWorld(t, func(l *policy.Lookups) {
			l.Budget = 30 * time.Millisecond
			l.Uses[policy.UseRecords] = policy.Use{MaxAge: time.Hour, OwnerDown: way}
		})
		w.asked = began.Add(2 * time.Hour)
		release := make(chan struct{})
		defer close(release)
		w.read = func(context.Context, record.Ref) (record.Native, error) { // it does not even mind its context
			<-release
			return record.Native{}, errors.New("too late")
		}
		got, err := w.flow.Record(t.Context(), w.q(-1, policy.UseRecords), chevalier)
		if way == policy.Refuse {
			if !fault.Is(err, fault.Down) || fault.RetryAt(err).IsZero() {
				t.Errorf("%v", err)
			}
			continue
		}
		if err != nil || got.Freshness != lookup.Stale || got.Source != lookup.Cached || got.AgeSeconds != 7200 || len(got.Why) != 1 || !strings.Contains(got.Why[0], "time budget") || got.Fields["name"].Value.Raw() != "Chevalier" {
			t.Errorf("%+v %v", got, err)
		}
	}
}

func TestManyWhoAskAtOnceAreOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(l *policy.Lookups) { l.Budget = 5 * time.Second })
	w.asked = began.Add(2 * time.Hour)
	started, release := make(chan struct{}), make(chan struct{})
	w.read = func(context.Context, record.Ref) (record.Native, error) {
		close(started)
		<-release
		return customer(began.Add(time.Hour), "Neu", "AUTO"), nil
	}
	var wg sync.WaitGroup
	ask := func() {
		if got, err := w.flow.Record(t.Context(), w.q(-1, policy.UseRecords), chevalier); err != nil || got.Fields["name"].Value.Raw() != "Neu" {
			t.Errorf("%+v %v", got, err)
		}
	}
	wg.Go(ask)
	<-started
	for range 4 { // those that come after the answer find it remembered
		wg.Go(ask)
	}
	close(release)
	wg.Wait()
	if n := w.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}

func TestWhatAConsumerMayNotLearnIsNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	q := w.q(-1, policy.UseRecords)
	q.Consumer.Fields = map[string][]string{"customer": {"name"}}
	got, err := w.flow.Record(t.Context(), q, chevalier)
	if err != nil || len(got.Fields) != 1 || got.Fields["name"].Value.Raw() != "Chevalier" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := w.flow.Record(t.Context(), q, paper); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	if _, err := w.flow.Invoices(t.Context(), q, chevalier, lookup.Page{}); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	if _, err := w.flow.Native(t.Context(), q, record.Ref{Platform: record.NetSuite, ID: "9400"}); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
}

func TestUnknownMergedDeletedAndAmbiguousRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	q := w.q(-1, policy.UseRecords, policy.UseEntitlements)
	q.Consumer.Uses = []string{policy.UseEntitlements, policy.UseRecords}
	if _, err := w.flow.Record(t.Context(), q, "customer/zzzzzzzzzzzzzzzz"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, err := w.flow.Record(t.Context(), q, "customer/NO SUCH"); !fault.Is(err, fault.Malformed) {
		t.Error(err)
	}
	for _, ref := range []record.Ref{{Platform: "sap", ID: "1"}, {Platform: record.NetSuite, Object: "vendor", ID: "1"}, {Platform: record.NetSuite, ID: "1"}} {
		if _, err := w.flow.Native(t.Context(), q, ref); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v: %v", ref, err)
		}
	}
	w.says("invoice/dddddddddddddddd", native("invoice", "107", began, `{"tranId": "INV-2", "status": {"id": "A"}}`))
	if _, err := w.flow.Native(t.Context(), q, record.Ref{Platform: record.NetSuite, ID: "107"}); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
	const other = record.ID("customer/eeeeeeeeeeeeeeee")
	n := customer(began, "Chevalier SA", "AUTO")
	n.Platform, n.Object, n.ID = record.Zendesk, "organization", "900"
	n.Fields = map[string]any{"name": "Chevalier SA"}
	w.says(other, n)
	if done, err := govern.Unite(t.Context(), w.ledger, w.set, chevalier, other, govern.Cause{Trace: "m", Now: w.asked}); err != nil || !done.Done {
		t.Fatal(done, err)
	}
	got, err := w.flow.Record(t.Context(), q, other)
	if err != nil || got.State != lookup.Merged || got.Record != chevalier || got.Asked != other {
		t.Errorf("%+v %v", got, err)
	}
	gone := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: "invoice", ID: "500"}, Version: record.Version{At: began.Add(time.Minute)}, Gone: true}
	w.says(bill, gone)
	if got, err := w.flow.Record(t.Context(), q, bill); err != nil || got.State != lookup.Deleted {
		t.Errorf("%+v %v", got, err)
	}
}

func TestInvoicesOfACustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const second = record.ID("invoice/dddddddddddddddd")
	w.says(second, native("invoice", "501", began, `{"tranId": "INV-2", "entity": {"id": "107"}, "status": {"id": "B"}}`))
	q := w.q(-1, policy.UseInvoices)
	first, err := w.flow.Invoices(t.Context(), q, chevalier, lookup.Page{Limit: 1})
	if err != nil || len(first.Records) != 1 || first.Records[0].Record != bill || first.Next != bill || first.Records[0].Fields["number"].Value.Raw() != "INV-1" {
		t.Fatalf("%+v %v", first, err)
	}
	rest, err := w.flow.Invoices(t.Context(), q, chevalier, lookup.Page{After: first.Next})
	if err != nil || len(rest.Records) != 1 || rest.Records[0].Record != second || rest.Next != "" {
		t.Errorf("%+v %v", rest, err)
	}
	open, err := w.flow.Invoices(t.Context(), q, chevalier, lookup.Page{Status: "open"})
	if err != nil || len(open.Records) != 1 || open.Records[0].Record != bill {
		t.Errorf("%+v %v", open, err)
	}
	for _, bad := range []int{-1, lookup.MaxPage + 1} {
		if _, err := w.flow.Invoices(t.Context(), q, chevalier, lookup.Page{Limit: bad}); !fault.Is(err, fault.Malformed) {
			t.Error(err)
		}
	}
	if _, err := w.flow.Invoices(t.Context(), q, paper, lookup.Page{}); !fault.Is(err, fault.Malformed) {
		t.Error(err)
	}
}

func TestContextOfACustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	q := w.q(-1, policy.UseContext)
	delete(q.Consumer.Fields, "contract")
	got, err := w.flow.Context(t.Context(), q, chevalier)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]int{}
	for _, a := range got.Affairs {
		open[a.Entity] = a.Open
	}
	if _, told := open["contract"]; told || open["invoice"] != 1 || got.Customer.Fields["name"].Value.Raw() != "Chevalier" || got.Freshness != lookup.Fresh {
		t.Errorf("%+v", got)
	}
}

func TestEntitlement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	q := w.q(-1, policy.UseEntitlements)
	got, err := w.flow.Entitlement(t.Context(), q, lookup.AskEntitlement{Native: record.Ref{Platform: record.NetSuite, ID: "107"}})
	if err != nil || !got.Entitled.Entitled || got.Tier != "premium" || got.Until != "2026-12-31" || got.Reason != entitlement.ByContract || got.Contract != paper || got.Source != lookup.Cached || len(got.Evidence) < 4 {
		t.Fatalf("%+v %v", got, err)
	}
	// The contract ends in the ERP, and Sorrel has not heard of it.
	w.asked = began.Add(time.Hour)
	w.read = func(_ context.Context, r record.Ref) (record.Native, error) {
		if r.ID == "107" {
			return customer(began, "Chevalier", "AUTO"), nil
		}
		return contract(began.Add(time.Minute), "Expired", "2026-11-01"), nil
	}
	got, err = w.flow.Entitlement(t.Context(), q, lookup.AskEntitlement{Customer: chevalier})
	if err != nil || got.Entitled.Entitled || got.Reason != entitlement.ContractEnded || got.Source != lookup.Live || got.Freshness != lookup.Fresh {
		t.Errorf("%+v %v", got, err)
	}
	if news := w.queued(); len(news) != 1 || news[0].ID != "9400" {
		t.Errorf("the hub is told %+v", news)
	}
}

// takers count for all processes, in a ledger, and fail when they are told to.
type takers struct {
	*ledger.Ledger
	asked int
	fail  error
}

func (k *takers) TakeQuota(ctx context.Context, consumer string, minute time.Time, want, quota int) (int, error) {
	k.asked++
	if k.fail != nil {
		return 0, k.fail
	}
	return k.Ledger.TakeQuota(ctx, consumer, minute, want, quota)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	memory := func() *takers {
		return &takers{Ledger: ledger.New(store.NewMemory(func() time.Time { return began }), func() time.Time { return began })}
	}
	for name, taker := range map[string]lookup.Taker{"alone": nil, "for all": memory(), "while nobody counts for all": &takers{fail: fault.New(fault.Down, "store", "no answer")}} {
		k := lookup.Quotas{Taker: taker}
		c := policy.Consumer{Name: "portal", Quota: 2}
		for i, want := range []bool{true, true, false} {
			if err := k.Take(t.Context(), c, began.Add(time.Duration(i)*time.Second)); (err == nil) != want {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
		err := k.Take(t.Context(), c, began)
		if !fault.Is(err, fault.OverQuota) || !fault.RetryAt(err).Equal(began.Add(time.Minute)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Take(t.Context(), policy.Consumer{Name: "other", Quota: 1}, began); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Take(t.Context(), c, began.Add(time.Minute)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Five processes share one quota, whoever of them is asked, for a few requests to the store each.
	for name, asked := range map[string]func(i int) int{"all alike": func(i int) int { return i % 5 }, "one": func(int) int { return 3 }, "one after the other": func(i int) int { return min(i/150, 4) }} {
		shared := memory()
		var all [5]lookup.Quotas
		for i := range all {
			all[i].Taker = shared
		}
		c := policy.Consumer{Name: "portal", Quota: 600}
		answered := 0
		for i := range 2000 {
			if all[asked(i)].Take(t.Context(), c, began) == nil {
				answered++
			}
		}
		if answered > 600 || answered < 520 || shared.asked > 100 {
			t.Errorf("%s: %d of 600 questions were answered, for %d requests", name, answered, shared.asked)
		}
		t.Logf("%s: %d of 600 questions for %d takes", name, answered, shared.asked)
	}

	// At once: never more than the quota.
	shared := memory()
	var all [4]lookup.Quotas
	var answered atomic.Int32
	var askers sync.WaitGroup
	for i := range all {
		all[i].Taker = shared.Ledger
		for range 3 {
			askers.Go(func() {
				for range 100 {
					if all[i].Take(t.Context(), policy.Consumer{Name: "portal", Quota: 200}, began) == nil {
						answered.Add(1)
					}
				}
			})
		}
	}
	askers.Wait()
	if n := answered.Load(); n > 200 || n < 100 {
		t.Errorf("%d of 200 questions were answered", n)
	}
}

// Sorrel itself looks at records: live where it wants that, else by what owners said last. Owners that are not connected are
// not missed, and nothing but the hub changes a record.
func TestLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.asked = began.Add(time.Hour)
	state := func() ledger.State {
		s, err := w.ledger.Follow(t.Context(), paper)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	look := func(f *lookup.Flow, live bool) (status, why string, asOf time.Time) {
		got := f.Look(t.Context(), "t", live, state())
		return got[0].Record.Golden["status"].Value.Raw(), got[0].Why, got[0].AsOf
	}
	if status, why, asOf := look(w.flow, false); status != "active" || why != "" || !asOf.Equal(began) || w.reads.Load() > 0 {
		t.Errorf("%s %q %s", status, why, asOf)
	}
	if status, why, asOf := look(w.flow, true); status != "active" || why == "" || !asOf.Equal(began) {
		t.Errorf("an owner that is down: %s %q %s", status, why, asOf)
	}
	apart := lookup.New(lookup.Deps{Ledger: w.ledger, Config: w.set, Inbound: w.inbound, Now: func() time.Time { return w.asked }, Telemetry: telemetry.New(nil, func() time.Time { return w.asked }, nil)})
	if status, why, _ := look(apart, true); status != "active" || why != "" {
		t.Errorf("an owner that is not connected: %s %q", status, why)
	}
	w.read = func(context.Context, record.Ref) (record.Native, error) {
		return contract(w.asked, "Cancelled", "2026-12-31"), nil
	}
	for _, live := range []bool{true, false} {
		if status, why, asOf := look(w.flow, live); status != "cancelled" || why != "" || !asOf.Equal(w.asked) || w.reads.Load() != 2 {
			t.Errorf("%s %q %s, %d reads", status, why, asOf, w.reads.Load())
		}
	}
	if got := state().Record.Golden["status"].Value.Raw(); got != "active" {
		t.Errorf("a look has changed the record to %s", got)
	}
	if told, err := w.inbound.Receive(t.Context(), queue.MaxBatch, 0); err != nil || len(told) != 1 {
		t.Errorf("the hub hears %d messages, %v", len(told), err)
	}
}
