package workflow_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/hub"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// activation is a small version of what the product does: an account of a deal that is won is marked pending, people
// decide, it is active.
func activation(version int) workflow.Definition {
	account := func(f workflow.Facts, to string) workflow.Move {
		a, some := f.Others["account"]
		if !some {
			return workflow.Move{Wait: "the account"}
		}
		v := record.TextValue(to)
		if to == "" {
			v = record.NullValue()
		}
		return workflow.Move{Done: true, Set: []workflow.Set{{Record: a.ID, Field: "activation", Value: v}}}
	}
	cause := func(f workflow.Facts) string { return f.Subject.Golden["stage"].Version.At.String() }
	won := func(f workflow.Facts) bool { return f.Subject.Golden["stage"].Value == record.TextValue("won") }
	return workflow.Definition{Name: "activation", Version: version, Subject: "deal", Late: 3 * day,
		Starts: func(f workflow.Facts) bool { return won(f) && f.Run.Kept["won"] != cause(f) },
		Void: func(f workflow.Facts) string {
			if !won(f) {
				return "the deal was reopened"
			}
			return ""
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			return map[string]record.ID{"account": record.ID(f.Subject.Golden["account"].Value.Raw())}
		},
		Lists: func(f workflow.Facts) map[string]workflow.Query {
			return map[string]workflow.Query{"deals": {Of: f.Others["account"].ID, Entity: "deal", Newest: "stage", Max: 2}}
		},
		Steps: []workflow.Step{
			{Name: "pending", Do: func(f workflow.Facts) workflow.Move {
				m := account(f, "pending")
				m.Keep = map[string]string{"won": cause(f), "deals": ""}
				for _, r := range f.Lists["deals"] {
					m.Keep["deals"] += r.Golden["stage"].Value.Raw() + " "
				}
				return m
			}, Undo: func(f workflow.Facts) workflow.Move { return account(f, "") }},
			{Name: "approval", Remind: []time.Duration{2 * day, 5 * day}, Expire: 7 * day, Do: func(f workflow.Facts) workflow.Move {
				switch a := f.Run.Answer; {
				case a == nil:
					return workflow.Move{Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"it is large"}}, Wait: "finance"}
				case !a.Approve:
					return workflow.Move{Fail: "rejected by " + a.By + ": " + a.Reason}
				}
				return workflow.Move{Done: true}
			}},
			{Name: "active", Final: true, Do: func(f workflow.Facts) workflow.Move {
				m := account(f, "active")
				m.Say = []workflow.Saying{{What: "account.activated", Record: f.Others["account"].ID, Detail: map[string]string{"run": f.Run.ID()}}}
				return m
			}},
		}}
}

type world struct {
	t      *testing.T
	at     time.Time
	store  *storetest.Faulty
	ledger *ledger.Ledger
	god    *ledger.Ledger // whose calls never fail
	hub    *hub.Flow
	flow   *flow.Flow
	config *policy.Set
	book   *workflow.Book
	woken  *queue.Memory
	told   int
}

func newWorld(t *testing.T, defs ...workflow.Definition) *world {
	t.Helper()
	set, problems := policy.Load(os.DirFS("testdata"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w := &world{t: t, at: start, config: set}
	now := func() time.Time { return w.at }
	w.store = &storetest.Faulty{Store: store.NewMemory(now)}
	w.god = ledger.New(w.store.Store, now)
	w.ledger = ledger.New(w.store, now)
	w.woken = queue.NewMemory(queue.Settings{Name: "workflow", MaxReceives: queue.MaxReceives}, nil, now)
	wake := map[string]queue.Sender{record.Sorrel: w.woken}
	tell := telemetry.New(nil, now, nil)
	if len(defs) == 0 {
		defs = []workflow.Definition{activation(1)}
	}
	var err error
	if w.book, err = workflow.NewBook(defs...); err != nil {
		t.Fatal(err)
	}
	w.hub = hub.New(hub.Deps{Ledger: w.ledger, Config: set, Wake: wake, Now: now, Telemetry: tell})
	w.flow = flow.New(flow.Deps{Ledger: w.ledger, Config: set, Book: w.book, Wake: wake, Now: now, NewTrace: func() string { return "t" }, Telemetry: tell})
	return w
}

// says lets Salesforce say something, and returns the record.
func (w *world) says(object, id string, fields map[string]any) record.ID {
	w.t.Helper()
	w.told++
	w.at = w.at.Add(time.Second)
	ref := record.Ref{Platform: record.Salesforce, Object: object, ID: id}
	n := record.Native{Ref: ref, Version: record.Version{At: w.at}, Born: start, Fields: fields}
	m, err := message.Inbound{CorrelationID: fmt.Sprintf("c-%d", w.told), ReceivedAt: w.at, Source: message.Webhook, Native: n}.Message(fmt.Sprint(w.told))
	if err != nil {
		w.t.Fatal(err)
	}
	if failed := w.hub.Apply(w.t.Context(), []queue.Received{{Message: m, ID: fmt.Sprint(w.told), Receives: 1}}); len(failed) > 0 {
		w.t.Fatal("the hub fails")
	}
	got, _, err := w.ledger.Lookup(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// work handles wake-ups until there are none, and returns how many.
func (w *world) work() (n int) {
	w.t.Helper()
	for {
		w.at = w.at.Add(time.Millisecond)
		got, err := w.woken.Receive(w.t.Context(), queue.MaxBatch, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(got) == 0 {
			return n
		}
		failed := w.flow.Apply(w.t.Context(), got)
		for _, m := range got {
			if n++; n > 100 {
				w.t.Fatal("it does not come to rest")
			}
			if !slices.Contains(failed, m.ID) {
				_ = w.woken.Delete(w.t.Context(), m.Receipt)
			} else {
				_ = w.woken.Release(w.t.Context(), 0, m.Receipt)
			}
		}
	}
}

// pass lets time pass up to the next timer, and handles it.
func (w *world) pass(most time.Duration) {
	w.t.Helper()
	for end := w.at.Add(most); ; {
		next := end
		for x, err := range w.ledger.Timers(w.t.Context(), end) {
			if err != nil {
				w.t.Fatal(err)
			}
			if x.At.Before(next) {
				next = x.At
			}
		}
		if w.at = next; !next.Before(end) {
			return
		}
		for x := range w.ledger.Timers(w.t.Context(), w.at) {
			w.told++
			entity, rest, _ := strings.Cut(string(x.Record), "/")
			m, err := message.Inbound{CorrelationID: fmt.Sprintf("c-%d", w.told), ReceivedAt: w.at, Source: message.Timer,
				Native: record.Native{Ref: record.Ref{Platform: record.Sorrel, Object: entity, ID: rest}}}.Message(fmt.Sprint(w.told))
			if err != nil {
				w.t.Fatal(err)
			}
			w.hub.Apply(w.t.Context(), []queue.Received{{Message: m, ID: fmt.Sprint(w.told), Receives: 1}})
		}
		w.work()
	}
}

func (w *world) run(deal record.ID) ledger.Run {
	w.t.Helper()
	r, some, err := w.god.LatestRun(w.t.Context(), "activation", deal)
	if err != nil || !some {
		w.t.Fatalf("no run: %v", err)
	}
	return r
}

func (w *world) state(id record.ID) ledger.State {
	w.t.Helper()
	s, err := w.god.Follow(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) activation(account record.ID) string {
	return w.state(account).Record.Golden["activation"].Value.Raw()
}

// rests checks that nothing is to be done for workflows.
func (w *world) rests(ids ...record.ID) {
	w.t.Helper()
	for _, id := range ids {
		if s := w.state(id); s.Due[record.Sorrel].Since != (time.Time{}) {
			w.t.Errorf("%s is still to be looked at: %+v", id, s.Due)
		}
	}
}

func (w *world) decide(deal record.ID, by string, approve bool) error {
	_, err := w.flow.Act(w.t.Context(), policy.Person{Name: by}, w.run(deal).ID(), workflow.Act{Do: workflow.Decide, Reason: "so", Answer: workflow.Answer{Approve: approve, Reason: "so"}})
	w.work()
	return err
}

func won(account string) map[string]any { return map[string]any{"stage": "won", "account": account} }

func (w *world) wins() (deal, account record.ID) {
	account = w.says("account", "A1", map[string]any{"name": "Alfreds"})
	deal = w.says("deal", "D1", won("A1"))
	w.work()
	return deal, account
}

func TestActivated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deal, account := w.wins()
	if got := w.activation(account); got != "pending" {
		t.Fatalf("activation is %q: %+v", got, w.run(deal))
	}
	if err := w.decide(deal, "stew", true); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a steward decides what finance should: %v", err)
	}
	if err := w.decide(deal, "fiona", true); err != nil {
		t.Fatal(err)
	}
	if r := w.run(deal); r.State != workflow.Done || w.activation(account) != "active" {
		t.Fatalf("%+v, %q", r, w.activation(account))
	}
	w.rests(deal, account)
	for _, id := range []record.ID{deal, account} {
		if runs := w.state(id).Runs; len(runs) > 0 {
			t.Errorf("%s is still looked at by %v", id, runs)
		}
	}
	w.says("deal", "D1", map[string]any{"stage": "won", "account": "A1"})
	w.says("account", "A1", map[string]any{"name": "Alfreds Futterkiste"})
	w.work()
	if r := w.run(deal); r.Number != 1 {
		t.Errorf("another run began: %+v", r)
	}
	for h := range w.ledger.OpenRuns(t.Context()) {
		t.Errorf("it is listed as open: %+v", h)
	}
}

func TestReopened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deal, account := w.wins()
	w.says("deal", "D1", map[string]any{"stage": "negotiation", "account": "A1"})
	w.work()
	if r := w.run(deal); r.State != workflow.Undone || r.Reason != "the deal was reopened" || w.activation(account) != "" {
		t.Fatalf("%+v, %q", r, w.activation(account))
	}
	w.says("deal", "D1", won("A1"))
	w.work()
	if r := w.run(deal); r.Number != 2 || r.State != workflow.Running || w.activation(account) != "pending" {
		t.Fatalf("won again: %+v", r)
	}
	w.rests(deal, account)
}

// TestWaitsForDays: nobody decides. Time alone reminds, and lets it end; while it waits, nothing about it is read.
func TestWaitsForDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deal, account := w.wins()
	w.rests(deal, account)
	w.pass(4 * day)
	if r := w.run(deal); r.Past[1].Reminded != 1 {
		t.Fatalf("after four days: %+v", r)
	}
	w.pass(4 * day)
	if r := w.run(deal); r.State != workflow.Undone || r.Past[1].Reminded != 2 || w.activation(account) != "" {
		t.Fatalf("after eight days: %+v", r)
	}
	w.pass(30 * day)
	if err := w.decide(deal, "fiona", true); !fault.Is(err, fault.Conflict) {
		t.Errorf("decided too late: %v", err)
	}
}

// TestMissingAccount: a deal that is won without an account waits for one.
func TestMissingAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deal := w.says("deal", "D1", map[string]any{"stage": "won"})
	w.work()
	if r := w.run(deal); r.Step != "pending" || r.Wait != "the account" {
		t.Fatalf("%+v", r)
	}
	w.rests(deal)
	account := w.says("account", "A1", map[string]any{"name": "Alfreds"})
	w.says("deal", "D1", won("A1"))
	w.work()
	if w.activation(account) != "pending" {
		t.Fatalf("%+v", w.run(deal))
	}
}

// TestLists: a step sees the newest records that refer to another, no more than it asks for. That others come to refer to it
// wakes no run; the next look sees them.
func TestLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.says("account", "A1", map[string]any{"name": "Alfreds"})
	w.says("account", "A2", map[string]any{"name": "Another"})
	for i, stage := range []string{"b", "c", "a"} {
		w.says("deal", fmt.Sprint("other", i), map[string]any{"stage": stage, "account": "A1"})
	}
	w.says("deal", "not", map[string]any{"stage": "z", "account": "A2"})
	deal := w.says("deal", "D1", won("A1"))
	w.work()
	if got := w.run(deal).Kept["deals"]; got != "won c " {
		t.Errorf("the two newest are %q", got)
	}
	w.says("deal", "other3", map[string]any{"stage": "x", "account": "A1"})
	if n := w.work(); n != 1 { // of its own
		t.Errorf("%d wake-ups", n)
	}
	w.says("deal", "D1", map[string]any{"stage": "open", "account": "A1"})
	w.work()
	w.says("deal", "D1", won("A1"))
	w.work()
	if r := w.run(deal); r.Kept["deals"] != "x won " {
		t.Errorf("the two newest are %q in run %d", r.Kept["deals"], r.Number)
	}
	deal = w.says("deal", "D2", won(""))
	w.work()
	if r := w.run(deal); r.Kept["deals"] != "" {
		t.Errorf("deals of nobody: %q", r.Kept["deals"])
	}
}

// TestLongLists: of very many, some are read, and no more than a list holds are loaded.
func TestLongLists(t *testing.T) {
	t.Parallel()
	d := activation(1)
	got := 0
	d.Lists = func(workflow.Facts) map[string]workflow.Query {
		return map[string]workflow.Query{"deals": {Of: "account/x", Entity: "deal", Newest: "stage", Max: 1000}}
	}
	d.Starts = func(f workflow.Facts) bool { got = len(f.Lists["deals"]); return false }
	w := newWorld(t, d)
	for i := range 400 {
		id := record.ID(fmt.Sprintf("deal/%03d", i))
		s := ledger.State{Record: record.Record{ID: id, Golden: map[string]record.Golden{"account": {Value: record.TextValue("account/x")}}}}
		if err := w.god.Commit(t.Context(), ledger.Entry{Before: ledger.State{Record: record.Record{ID: id}}, After: s, Refers: []string{"account"}}); err != nil {
			t.Fatal(err)
		}
	}
	w.says("deal", "D1", won("A1"))
	w.work()
	if got != workflow.MaxListed {
		t.Errorf("%d listed", got)
	}
}

// TestVersions: a run keeps the version that it began with; what this program does not have is left alone, and people are told.
func TestVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deal, account := w.wins()
	second := activation(2)
	second.Steps = append(slices.Clone(second.Steps[:2]), workflow.Step{Name: "other", Do: func(workflow.Facts) workflow.Move { return workflow.Move{Fail: "not this one"} }})
	book, err := workflow.NewBook(activation(1), second)
	if err != nil {
		t.Fatal(err)
	}
	both := newFlow(w, book)
	only, err := workflow.NewBook(second)
	if err != nil {
		t.Fatal(err)
	}
	w.flow = newFlow(w, only)
	w.says("account", "A1", map[string]any{"name": "Alfreds Futterkiste"})
	w.work()
	if s := w.state(account); !s.Due[record.Sorrel].Stuck || len(s.Open) == 0 {
		t.Errorf("nobody is told: %+v, open %v", s.Due, s.Open)
	}
	w.flow = both
	if err := w.decide(deal, "fiona", true); err != nil {
		t.Fatal(err)
	}
	if r := w.run(deal); r.State != workflow.Done || r.Version != 1 {
		t.Errorf("%+v", r)
	}
}

func newFlow(w *world, b *workflow.Book) *flow.Flow {
	now := func() time.Time { return w.at }
	return flow.New(flow.Deps{Ledger: w.ledger, Config: w.config, Book: b, Wake: map[string]queue.Sender{record.Sorrel: w.woken}, Now: now,
		NewTrace: func() string { return "t" }, Telemetry: telemetry.New(nil, now, nil)})
}

// TestDiesAnywhere: each call of the store fails once, before it reaches the store or after it. The run ends as it should,
// and everything that it set was set once.
func TestDiesAnywhere(t *testing.T) {
	t.Parallel()
	for _, kind := range []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Throttle} {
		for n := 1; ; n++ {
			w := newWorld(t)
			account := w.says("account", "A1", map[string]any{"name": "Alfreds"})
			deal := w.says("deal", "D1", won("A1"))
			calls := 0
			w.store.Next = func(string, []store.Key) storetest.Fault {
				if calls++; calls == n {
					return kind
				}
				return storetest.None
			}
			w.sweep()
			for w.decide(deal, "fiona", true) != nil {
				w.sweep()
			}
			w.sweep()
			w.store.Next = nil
			if r := w.run(deal); r.State != workflow.Done || w.activation(account) != "active" || r.Number != 1 {
				t.Fatalf("%v at call %d: %+v", kind, n, r)
			}
			w.rests(deal, account)
			log, err := w.ledger.Log(t.Context(), string(account))
			if err != nil {
				t.Fatal(err)
			}
			if said := w.said(deal); len(said) != 2 || said[0].What != "approval.requested" || said[1].What != "account.activated" || said[1].Record != account {
				t.Fatalf("%v at call %d: it said %+v", kind, n, said)
			}
			changes := 0
			for _, e := range log {
				changes += len(e.Changes)
			}
			if changes != 3 { // the name, pending, active
				t.Fatalf("%v at call %d: %d changes of the account", kind, n, changes)
			}
			if calls < n {
				break
			}
		}
	}
}

// said are the business events in a record's log.
func (w *world) said(id record.ID) []workflow.Saying {
	w.t.Helper()
	log, err := w.god.Log(w.t.Context(), string(id))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []workflow.Saying
	for _, e := range log {
		out = append(out, e.Says...)
	}
	return out
}

func (w *world) wake(id record.ID) {
	w.t.Helper()
	m, err := message.Wake{Platform: record.Sorrel, Record: id, CorrelationID: "sweep"}.Message(w.at.String())
	if err == nil {
		err = w.woken.Send(w.t.Context(), m)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// sweep wakes what is due until nothing is.
func (w *world) sweep() {
	w.t.Helper()
	for range 10 {
		w.work()
		w.at = w.at.Add(time.Minute)
		some := false
		for p, err := range w.god.DueFor(w.t.Context(), record.Sorrel) {
			if err != nil {
				w.t.Fatal(err)
			}
			some = true
			w.wake(p.Record)
		}
		if !some {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

// TestOtherRecords: a run asks the owner of a field for a value, and makes a record that did not exist.
func TestOtherRecords(t *testing.T) {
	t.Parallel()
	chore := workflow.Run{Definition: "activation", Subject: "deal/d", Number: 1}.Makes("chore", "call")
	def := activation(1)
	def.Needs = func(f workflow.Facts) map[string]record.ID {
		return map[string]record.ID{"account": record.ID(f.Subject.Golden["account"].Value.Raw()), "chore": chore}
	}
	def.Steps = []workflow.Step{{Name: "hold", Do: func(f workflow.Facts) workflow.Move {
		a := f.Others["account"].ID
		m := workflow.Move{Wait: "NetSuite", Keep: map[string]string{"won": f.Subject.Golden["stage"].Version.At.String()}, Set: []workflow.Set{{Record: chore, Field: "what", Value: record.TextValue("call them")}}}
		if f.Run.Kept["held"] == "" {
			m.Set, m.Keep["held"] = append(m.Set, workflow.Set{Record: a, Field: "hold", Value: record.TextValue("on")}), "yes"
		}
		_, asks := f.Others["account"].Asked("hold")
		m.Done = f.Run.Kept["held"] != "" && !asks && len(f.Due[chore]) == 0
		return m
	}}}
	w := newWorld(t, def)
	deal, account := w.wins()
	s := w.state(account)
	if v, asks := s.Record.Asked("hold"); !asks || v != record.TextValue("on") || s.Due[record.NetSuite].Since.IsZero() {
		t.Fatalf("%v, due %v", v, s.Due)
	}
	if c := w.state(chore); !c.Exists() || c.Record.Golden["what"].Value != record.TextValue("call them") || c.Due[record.Salesforce].Since.IsZero() || len(c.Runs) != 1 {
		t.Fatalf("%+v", c)
	}
	if r := w.run(deal); r.State != workflow.Running || r.Wait != "NetSuite" {
		t.Fatalf("%+v", r)
	}
	w.rests(deal, account, chore)
}

// TestSetsWhatNobodyMay: a definition that sets what the policy gives to nobody commits nothing, and people are told.
func TestSetsWhatNobodyMay(t *testing.T) {
	t.Parallel()
	def := activation(1)
	def.Steps = []workflow.Step{{Name: "wrong", Do: func(f workflow.Facts) workflow.Move {
		return workflow.Move{Set: []workflow.Set{{Record: f.Subject.ID, Field: "nothing", Value: record.TextValue("x")}}}
	}}}
	w := newWorld(t, def)
	dead := queue.NewMemory(queue.Settings{Name: "dead"}, nil, func() time.Time { return w.at })
	w.woken = queue.NewMemory(queue.Settings{Name: "workflow", MaxReceives: queue.MaxReceives}, dead, func() time.Time { return w.at })
	w.says("account", "A1", map[string]any{"name": "Alfreds"})
	deal := w.says("deal", "D1", won("A1"))
	w.wake(deal)
	w.work()
	if s := w.state(deal); s.Due[record.Sorrel].Since.IsZero() || s.Record.Assigned != nil {
		t.Fatalf("%+v", s.Due)
	}
	told, err := w.god.Exceptions(t.Context(), false)
	if err != nil || !slices.ContainsFunc(told, func(x ledger.Exception) bool { return strings.Contains(x.Detail, "nothing") }) {
		t.Errorf("nobody is told: %+v, %v", told, err)
	}
}

// owners say that an account is another than is known, and count how often they are asked.
type owners struct {
	live int
	say  func(record.Record) record.Record
}

func (o *owners) Look(_ context.Context, _ string, live bool, states ...ledger.State) []workflow.Word {
	if live {
		o.live++
	}
	var out []workflow.Word
	for _, s := range states {
		out = append(out, workflow.Word{Record: o.say(s.Record), Why: "so they say"})
	}
	return out
}

// A run looks at records as their owners say they are, commits over what is known, and inherits what the last one has kept.
func TestFresh(t *testing.T) {
	t.Parallel()
	seen := []string{}
	value := func(r record.Record, field string) string { return r.Golden[field].Value.Raw() }
	d := workflow.Definition{Name: "activation", Version: 1, Subject: "deal", Inherit: true,
		Starts: func(f workflow.Facts) bool {
			seen = append(seen, "starts with "+value(f.Others["account"], "name"))
			return f.Run.Number < 2 && value(f.Subject, "stage") == "won"
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			return map[string]record.ID{"account": record.ID(value(f.Subject, "account"))}
		},
		Lists: func(f workflow.Facts) map[string]workflow.Query {
			return map[string]workflow.Query{"deals": {Of: f.Others["account"].ID, Entity: "deal", Max: 9}}
		},
		Fresh: func(f workflow.Facts) workflow.Fresh {
			out := workflow.Fresh{Live: f.Run.Kept["asked"] == "", Records: []record.ID{f.Others["account"].ID, "account/nobody"}}
			for _, r := range f.Lists["deals"] {
				out.Records = append(out.Records, r.ID)
			}
			return out
		},
		Steps: []workflow.Step{{Name: "mark", Do: func(f workflow.Facts) workflow.Move {
			a := f.Others["account"]
			seen = append(seen, fmt.Sprintf("marks %s, %d deals, %q", value(a, "name"), len(f.Lists["deals"]), f.Words[a.ID].Why))
			return workflow.Move{Done: true, Keep: map[string]string{"asked": "yes"}, Set: []workflow.Set{{Record: a.ID, Field: "activation", Value: record.TextValue("active")}}}
		}}}}
	w := newWorld(t, d)
	o := &owners{say: func(r record.Record) record.Record {
		r = r.Clone()
		r.Golden = maps.Clone(r.Golden)
		if r.ID.Entity() == "account" {
			r.Golden["name"] = record.Golden{Value: record.TextValue("Fresh")}
		} else if value(r, "stage") == "open" { // it is somebody else's now
			r.Golden["account"] = record.Golden{Value: record.TextValue("account/other")}
		}
		return r
	}}
	w.flow = flow.New(flow.Deps{Ledger: w.ledger, Config: w.config, Book: w.book, Wake: map[string]queue.Sender{record.Sorrel: w.woken}, Owners: o, Now: func() time.Time { return w.at }, NewTrace: func() string { return "t" }, Telemetry: telemetry.New(nil, func() time.Time { return w.at }, nil)})
	account := w.says("account", "A", map[string]any{"name": "Known"})
	w.says("deal", "P2", map[string]any{"stage": "open", "account": "A"})
	deal := w.says("deal", "P1", map[string]any{"stage": "won", "account": "A"})
	w.work()
	s, err := w.ledger.Follow(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	if value(s.Record, "name") != "Known" || value(s.Record, "activation") != "active" || o.live != 1 {
		t.Errorf("the account is %v; asked %d times", s.Record.Golden, o.live)
	}
	if r, some, err := w.ledger.LatestRun(t.Context(), "activation", deal); err != nil || !some || r.Number != 2 || r.Kept["asked"] != "yes" {
		t.Errorf("the last run is %+v, %v", r, err)
	}
	if !slices.Contains(seen, `marks Fresh, 1 deals, "so they say"`) || !slices.Contains(seen, "starts with Known") || slices.Contains(seen, "starts with Fresh") {
		t.Errorf("%q", seen)
	}
}
