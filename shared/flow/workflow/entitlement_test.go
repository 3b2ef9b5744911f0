package workflow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/entitlement"
	"sorrel/shared/fault"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/lookup"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/process"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// estate is the deployed configuration over an ERP and a desk that are nothing but their records. What people do there is
// told, or not.
type estate struct {
	*world
	rng     *rand.Rand
	native  map[record.Ref]record.Native
	down    bool
	inbound *queue.Memory
}

// Read implements the readers of hub and lookup.
func (e *estate) Read(_ context.Context, r record.Ref) (record.Native, error) {
	n, some := e.native[r]
	switch {
	case e.down && r.Platform == record.NetSuite:
		return record.Native{}, fault.New(fault.Down, "read", "no answer")
	case !some:
		return record.Native{}, fault.New(fault.NotFound, "read", r.String())
	}
	return n, nil
}

func newEstate(t *testing.T, set *policy.Set, book *workflow.Book, seed uint64) *estate {
	t.Helper()
	w := &world{t: t, at: start, config: set, book: book}
	e := &estate{world: w, rng: rand.New(rand.NewPCG(seed, 7)), native: map[record.Ref]record.Native{}}
	now := func() time.Time { return w.at }
	w.store = &storetest.Faulty{Store: store.NewMemory(now)}
	w.god, w.ledger = ledger.New(w.store.Store, now), ledger.New(w.store, now)
	w.woken = queue.NewMemory(queue.Settings{Name: "workflow", MaxReceives: queue.MaxReceives}, nil, now)
	e.inbound = queue.NewMemory(queue.Settings{Name: "inbound", MaxReceives: queue.MaxReceives}, nil, now)
	wake := map[string]queue.Sender{record.Sorrel: w.woken}
	tell := telemetry.New(nil, now, nil)
	w.hub = hub.New(hub.Deps{Ledger: w.god, Config: set, Readers: map[string]hub.Reader{record.NetSuite: e, record.Zendesk: e}, Wake: wake, Now: now, Telemetry: tell})
	patient := set.Lookups()
	patient.Budget = time.Hour // real time, of which a test's machine may need some
	owners := lookup.New(lookup.Deps{Ledger: w.god, Config: set.WithLookups(patient), Readers: map[string]lookup.Reader{record.NetSuite: e, record.Zendesk: e}, Inbound: e.inbound, Now: now, Telemetry: tell})
	w.flow = flow.New(flow.Deps{Ledger: w.ledger, Config: set, Book: book, Owners: owners, Wake: wake, Now: now, NewTrace: func() string { return "t" }, Telemetry: tell})
	return e
}

// edit is what somebody does to a native record, made of pairs of fields and values, and tells it unless it is lost.
func (e *estate) edit(ref record.Ref, lost bool, pairs ...any) {
	e.t.Helper()
	e.at = e.at.Add(time.Second)
	n, some := e.native[ref]
	fields := maps.Clone(n.Fields)
	if !some {
		n, fields = record.Native{Ref: ref, Born: e.at}, map[string]any{}
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i].(string)] = pairs[i+1]
	}
	n.Fields, n.Version = fields, record.Version{At: e.at}
	e.native[ref] = n
	if !lost {
		e.tell(n)
	}
}

// tell lets the hub hear of a native record, and of what was read meanwhile.
func (e *estate) tell(n record.Native) {
	e.t.Helper()
	e.told++
	m, err := message.Inbound{CorrelationID: fmt.Sprintf("c-%d", e.told), ReceivedAt: e.at, Source: message.Webhook, Native: n}.Message(fmt.Sprint(e.told))
	if err != nil {
		e.t.Fatal(err)
	}
	if failed := e.hub.Apply(e.t.Context(), []queue.Received{{Message: m, ID: fmt.Sprint(e.told), Receives: 1}}); len(failed) > 0 {
		e.t.Fatalf("the hub fails with %v", n)
	}
	for {
		got, err := e.inbound.Receive(e.t.Context(), queue.MaxBatch, 0)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(got) == 0 {
			return
		}
		if failed := e.hub.Apply(e.t.Context(), got); len(failed) > 0 {
			e.t.Fatal("the hub fails with what was read")
		}
		for _, m := range got {
			_ = e.inbound.Delete(e.t.Context(), m.Receipt)
		}
	}
}

// shaky works with a store that fails in every way, and loses wake-ups.
func (e *estate) shaky() {
	e.t.Helper()
	if e.rng.IntN(5) == 0 {
		for got, _ := e.woken.Receive(e.t.Context(), queue.MaxBatch, 0); len(got) > 0; got, _ = e.woken.Receive(e.t.Context(), queue.MaxBatch, 0) {
			for _, m := range got {
				_ = e.woken.Delete(e.t.Context(), m.Receipt)
			}
		}
	}
	e.store.Next = func(string, []store.Key) storetest.Fault {
		if e.rng.IntN(40) == 0 {
			return []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Throttle}[e.rng.IntN(3)]
		}
		return storetest.None
	}
	e.work()
	e.store.Next = nil
}

// sweep wakes what is due, until nothing is.
func (e *estate) sweep() {
	e.t.Helper()
	for range 50 {
		n := 0
		for p, err := range e.god.DueFor(e.t.Context(), record.Sorrel) {
			if err != nil {
				e.t.Fatal(err)
			}
			e.told++
			m, err := message.Wake{Platform: record.Sorrel, Record: p.Record, CorrelationID: "sweep"}.Message(fmt.Sprint("sweep ", e.told))
			if err == nil {
				err = e.woken.Send(e.t.Context(), m)
			}
			if err != nil {
				e.t.Fatal(err)
			}
			n++
		}
		if e.at = e.at.Add(time.Minute); n == 0 {
			return
		}
		e.work()
	}
	e.t.Fatal("it does not come to rest")
}

func erp(object, id string) record.Ref {
	return record.Ref{Platform: record.NetSuite, Object: object, ID: id}
}

func desk(object, id string) record.Ref {
	return record.Ref{Platform: record.Zendesk, Object: object, ID: id}
}

func (e *estate) state(ref record.Ref) ledger.State {
	e.t.Helper()
	id, known, err := e.god.Lookup(e.t.Context(), ref)
	if err != nil || !known {
		e.t.Fatalf("%s is not known: %v", ref, err)
	}
	s, err := e.god.Follow(e.t.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// Whatever happens to contracts, customers and tickets, in whatever order, with the ERP down, webhooks and wake-ups lost and a
// store that fails: in the end each open case is marked by what is so, and once that is told again nothing is written.
func TestCasesAreMarkedByWhatIsSo(t *testing.T) {
	t.Parallel()
	set, problems := policy.Load(config.FS, process.Starts)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	book, problems := process.Book(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, set, book, seed)
			rng := e.rng
			customers, papers, tickets := []string{"107", "108"}, []string{"1", "2", "3"}, []string{"501", "502", "503", "504"}
			const contract = "customrecord_sorrel_contract"
			paper := func(id string, lost bool) {
				label := func(of ...string) any { return map[string]any{"refName": of[rng.IntN(len(of))]} }
				day := func() any { return e.at.AddDate(0, 0, rng.IntN(9)-4).Format(time.DateOnly) }
				e.edit(erp(contract, id), lost, "name", "CON-"+id, "custrecord_sorrel_contract_customer", map[string]any{"id": customers[rng.IntN(2)]},
					"custrecord_sorrel_contract_status", label("Active", "Active", "Active", "Draft", "Expired", "Cancelled"), "custrecord_sorrel_contract_tier", label("Standard", "Premium", "VIP"),
					"custrecord_sorrel_contract_starts", day(), "custrecord_sorrel_contract_ends", day())
			}
			for i, id := range customers {
				e.edit(erp("customer", id), false, "entityId", "C-"+id, "companyName", "Customer "+id)
				org := record.Native{Ref: desk("organization", fmt.Sprint(900+i)), Born: e.at, Version: record.Version{At: e.at}, External: e.state(erp("customer", id)).Record.ID.External(),
					Fields: map[string]any{"name": "Customer " + id}}
				e.native[org.Ref] = org
				e.tell(org)
			}
			for _, id := range papers {
				paper(id, false)
			}
			for range 30 {
				id := tickets[rng.IntN(len(tickets))]
				switch rng.IntN(9) {
				case 0, 1:
					paper(papers[rng.IntN(len(papers))], rng.IntN(3) == 0)
				case 2:
					e.edit(erp("customer", customers[rng.IntN(2)]), rng.IntN(3) == 0, "creditHoldOverride", map[string]any{"id": []string{"ON", "AUTO"}[rng.IntN(2)]})
				case 3:
					e.edit(erp("customer", customers[rng.IntN(2)]), false, "phone", fmt.Sprint(rng.IntN(1000)))
				case 4, 5:
					e.edit(desk("ticket", id), false, "id", json.Number(id), "status", []string{"new", "open", "pending"}[rng.IntN(3)], "organization_id", json.Number(fmt.Sprint(900+rng.IntN(2))))
				case 6:
					e.edit(desk("ticket", id), false, "id", json.Number(id), "status", "solved")
				case 7:
					e.down = !e.down
				case 8:
					e.pass(time.Duration(rng.IntN(72)) * time.Hour)
				}
				e.shaky()
			}
			e.down = false
			heal := func() {
				for _, ref := range slices.SortedFunc(maps.Keys(e.native), func(a, b record.Ref) int { return strings.Compare(a.String(), b.String()) }) {
					e.tell(e.native[ref])
				}
				e.sweep()
				e.pass(10 * time.Minute)
				e.tell(e.native[erp("customer", "107")]) // and what was read meanwhile
				e.sweep()
			}
			heal()
			marks := func() map[string]string {
				out := map[string]string{}
				for ref := range e.native {
					if ref.Object != "ticket" {
						continue
					}
					s := e.state(ref)
					text := func(r record.Record, field string) string {
						if v := r.Golden[field].Value; v.Kind() == record.Text {
							return v.Raw()
						}
						return ""
					}
					out[ref.ID] = fmt.Sprint(s.Log.Seq)
					customer := text(s.Record, "customer")
					if status := text(s.Record, "status"); status == "solved" || customer == "" {
						continue
					}
					about, err := e.god.Follow(t.Context(), record.ID(customer))
					if err != nil {
						t.Fatal(err)
					}
					var terms []entitlement.Terms
					for _, id := range papers {
						if k := e.state(erp(contract, id)).Record; text(k, "customer") == customer {
							terms = append(terms, entitlement.TermsOf(k))
						}
					}
					want := entitlement.Judge(text(about.Record, "creditHold") == "on", "", terms, "", entitlement.Day(e.at))
					if !want.Entitled {
						want.Tier = "none"
					}
					if tier, until, why := text(s.Record, "entitledTier"), text(s.Record, "entitledUntil"), text(s.Record, "entitlementReason"); tier != want.Tier || until != want.Until || strings.Contains(why, "could not be asked") {
						t.Errorf("ticket %s says %s until %q (%s), want %+v by %+v", ref.ID, tier, until, why, want, terms)
					}
				}
				return out
			}
			before := marks()
			heal()
			if after := marks(); !maps.Equal(before, after) {
				t.Errorf("what is told again moves the logs of cases from %v to %v", before, after)
			}
			for i, id := range tickets {
				e.edit(desk("ticket", id), false, "id", json.Number(id), "status", "open", "organization_id", json.Number(fmt.Sprint(900+i%2)))
			}
			e.sweep()
			for range 3 { // events alone bring the rest, and then time alone
				for _, id := range papers {
					paper(id, false)
					e.sweep()
					marks()
				}
			}
			e.pass(9 * 24 * time.Hour)
			marks()
		})
	}
}
