package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/publish"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/govern"
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

// files are a small configuration: accounts and deals of Salesforce, and two subscribers. Only one may learn of secrets.
func files() fstest.MapFS {
	shape := func(entity, properties string) string {
		return fmt.Sprintf(`{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"urn:sorrel:contract:%s.v1","title":"%[1]s.v1","type":"object","required":[],"additionalProperties":false,"properties":{%s}}`, entity, properties)
	}
	text := `{"type":["string","null"],"maxLength":200000}`
	rules := "entity: %[1]s\ncontract: %[1]s.v1\nplatforms: {salesforce: %[1]s}\norigins: [salesforce]\ndeletes: ignore\nowner: salesforce\ntargets: []\n"
	fields := "platform: salesforce\nobject: %[1]s\nentity: %[1]s\ncontract: %[1]s.v1\nfields:\n"
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"contract/account.v1.json":        file(shape("account", `"name":`+text+`,"secret":`+text+`,"balance":{"type":["number","null"]}`)),
		"contract/deal.v1.json":           file(shape("deal", `"stage":`+text+`,"account":{"type":["string","null"],"x-sorrel":{"type":"reference","to":"account"}}`)),
		"policy/account.yaml":             file(fmt.Sprintf(rules, "account")),
		"policy/deal.yaml":                file(fmt.Sprintf(rules, "deal")),
		"mapping/salesforce.account.yaml": file(fmt.Sprintf(fields, "account") + "  name: name\n  secret: secret\n  balance: balance\n"),
		"mapping/salesforce.deal.yaml":    file(fmt.Sprintf(fields, "deal") + "  stage: stage\n  account: {path: account, to: account}\n"),
		"people.yaml":                     file("people:\n  stew: {roles: [steward]}\n  bob: {roles: [sales]}\n"),
		"subscribers.yaml": file(`subscribers:
  all: {to: print, entities: {account: ["*"], deal: ["*"]}, events: ["*"], enrich: {deal: [account.name, account.balance]}}
  some: {to: print, entities: {account: [name]}, events: ["deal.*"]}
`),
	}
}

// sink is where one subscriber is told.
type sink struct {
	down   bool
	before func() // of each call
	after  func() error
	got    []event.Event
}

func (s *sink) Tell(_ context.Context, events ...event.Event) error {
	if s.before != nil {
		s.before()
	}
	if s.down {
		return errors.New("nobody answers")
	}
	s.got = append(s.got, events...)
	if s.after != nil {
		return s.after()
	}
	return nil
}

func (s *sink) ids() (ids []string) {
	for _, e := range s.got {
		ids = append(ids, e.ID)
	}
	return ids
}

type world struct {
	t         *testing.T
	at        time.Time
	store     *storetest.Faulty
	ledger    *ledger.Ledger
	god       *ledger.Ledger // whose calls never fail
	config    *policy.Set
	hub       *hub.Flow
	flow      *publish.Flow
	woken     *queue.Memory
	all, some *sink
	told      int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	set, problems := policy.Load(files())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w := &world{t: t, at: start, config: set, all: &sink{}, some: &sink{}}
	now := func() time.Time { return w.at }
	w.store = &storetest.Faulty{Store: store.NewMemory(now)}
	w.god, w.ledger = ledger.New(w.store.Store, now), ledger.New(w.store, now)
	w.woken = queue.NewMemory(queue.Settings{Name: "publish", MaxReceives: queue.MaxReceives}, nil, now)
	wake := map[string]queue.Sender{}
	for _, s := range set.Subscribers() {
		wake[s.Due()] = w.woken
	}
	tell := telemetry.New(nil, now, nil)
	w.hub = hub.New(hub.Deps{Ledger: w.god, Config: set, Wake: wake, Now: now, Telemetry: tell})
	w.flow = w.process()
	return w
}

// process is a process of its own: it remembers nothing of the others.
func (w *world) process() *publish.Flow {
	random := rand.New(rand.NewPCG(1, 2))
	return publish.New(publish.Deps{Ledger: w.ledger, Config: w.config, Source: "/sorrel/test", Sinks: map[string]publish.Sink{"all": w.all, "some": w.some},
		Now: func() time.Time { return w.at }, Rand: func() *rand.Rand { return random }, Telemetry: telemetry.New(nil, func() time.Time { return w.at }, nil)})
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
	got, _, err := w.god.Lookup(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// work handles wake-ups until there are none.
func (w *world) work() {
	w.t.Helper()
	for range 100 {
		w.at = w.at.Add(time.Millisecond)
		got, err := w.woken.Receive(w.t.Context(), queue.MaxBatch, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(got) == 0 {
			return
		}
		failed := w.flow.Apply(w.t.Context(), got)
		for _, m := range got {
			if !slices.Contains(failed, m.ID) {
				_ = w.woken.Delete(w.t.Context(), m.Receipt)
			} else {
				_ = w.woken.Release(w.t.Context(), 0, m.Receipt)
			}
		}
	}
	w.t.Fatal("it does not come to rest")
}

// sweep wakes what is due, and returns how many records are due in the end.
func (w *world) sweep() int {
	w.t.Helper()
	w.work()
	due := 0
	for pass := range 2 {
		due = 0
		for _, s := range w.config.Subscribers() {
			for p, err := range w.god.DueFor(w.t.Context(), s.Due()) {
				if err != nil {
					w.t.Fatal(err)
				}
				due++
				m, err := message.Wake{Platform: s.Due(), Record: p.Record, CorrelationID: "sweep"}.Message(w.at.String())
				if err == nil && pass == 0 {
					err = w.woken.Send(w.t.Context(), m)
				}
				if err != nil {
					w.t.Fatal(err)
				}
			}
		}
		if pass == 0 {
			w.work()
		}
	}
	return due
}

// ordered checks that a subscriber was told of each record in the order of its log, whatever was told again, and nothing
// was left out: the ids of each record, each at its first telling.
func (w *world) ordered(s *sink) {
	w.t.Helper()
	newest, seen := map[record.ID]string{}, map[string]bool{}
	for _, e := range s.got {
		if !seen[e.ID] && e.Sequence <= newest[e.Subject] {
			w.t.Errorf("%s comes for the first time behind %s", e.ID, newest[e.Subject])
		}
		seen[e.ID] = true
		newest[e.Subject] = max(newest[e.Subject], e.Sequence)
	}
}

func TestTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	account := w.says("account", "A1", map[string]any{"name": "Alfreds", "secret": "x", "balance": json.Number("1234567890123456.70")})
	w.says("account", "A1", map[string]any{"name": "Alfreds", "secret": "y", "balance": json.Number("1234567890123456.70")})
	w.says("account", "A1", map[string]any{"name": "Alfreds Futterkiste", "secret": "y", "balance": nil})
	deal := w.says("deal", "D1", map[string]any{"stage": "won", "account": "A1"})
	w.says("account", "A2", map[string]any{"name": nil}) // nothing is known of it
	w.work()
	if n := w.sweep(); n > 0 {
		t.Fatalf("%d are still due", n)
	}
	want := []string{string(account) + "/1/0", string(account) + "/2/0", string(account) + "/3/0", string(deal) + "/1/0"}
	if got := w.all.ids(); !slices.Equal(got, want) {
		t.Errorf("all is told %v, want %v", got, want)
	}
	if got := w.some.ids(); !slices.Equal(got, []string{want[0], want[2]}) { // it does not hear that there is a secret
		t.Errorf("some is told %v", got)
	}
	body, err := json.Marshal(w.some.got)
	if err != nil || bytes.Contains(body, []byte("secret")) || bytes.Contains(body, []byte("1234567890123456")) {
		t.Errorf("some learns too much: %s (%v)", body, err)
	}
	first, second, third := w.all.got[0], w.all.got[1], w.all.got[2]
	if first.Type != "sorrel.account.created.v1" || second.Type != "sorrel.account.changed.v1" || first.Trace != "c-1" || first.Source != "/sorrel/test" || first.Subject != account {
		t.Errorf("%+v", first)
	}
	// Golden is that of the line, although all were sent when the third was there.
	if first.Data.Golden["secret"] != "x" || second.Data.Golden["secret"] != "y" || second.Data.Golden["name"] != "Alfreds" || fmt.Sprint(second.Data.Golden["balance"]) != "1234567890123456.7" {
		t.Errorf("golden %v, then %v", first.Data.Golden, second.Data.Golden)
	}
	if _, some := third.Data.Golden["balance"]; some || third.Data.Native["salesforce"] != "A1" {
		t.Errorf("%+v", third.Data)
	}
	if f := w.all.got[3].Data.Facts; f["account.name"] != "Alfreds Futterkiste" || len(f) != 1 {
		t.Errorf("facts %v", f)
	}
	w.valid(w.all.got)
	if steps, err := w.god.Trace(t.Context(), "c-4"); err != nil || !slices.ContainsFunc(steps, func(s ledger.Step) bool { return s.Step == "told" && s.Platform == "subscriber.all" }) {
		t.Errorf("the trace is %+v (%v)", steps, err)
	}
}

// valid checks events against the schemas that are published.
func (w *world) valid(events []event.Event) {
	w.t.Helper()
	schemas, err := event.Schemas(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		i := slices.IndexFunc(schemas, func(s event.Schema) bool { return s.Type == e.Type })
		if i < 0 {
			i = len(schemas) - 1 // business events
		}
		text, err := json.Marshal(schemas[i].Schema)
		if err != nil {
			w.t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			w.t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource("event.json", doc); err != nil {
			w.t.Fatal(err)
		}
		s, err := c.Compile("event.json")
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := e.JSON(1 << 18)
		if err != nil {
			w.t.Fatal(err)
		}
		is, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err == nil {
			err = s.Validate(is)
		}
		if err != nil {
			w.t.Errorf("%s: %v", body, err)
		}
	}
}

// TestBusinessEvents: what workflows say, and who is one.
func TestBusinessEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.says("account", "A1", map[string]any{"name": "Alfreds"}), w.says("account", "A2", map[string]any{"name": "Berglunds"})
	deal := w.says("deal", "D1", map[string]any{"stage": "won", "account": "A1"})
	cause := govern.Cause{Trace: "t", Now: w.at, Says: []workflow.Saying{{What: "deal.won", Record: one, Detail: map[string]string{"by": "sarah"}}, {What: "reminder", Record: deal}}}
	if _, err := govern.Change(t.Context(), w.god, w.config, deal, cause, func(*ledger.State) ([]record.Event, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := govern.Tell(t.Context(), w.god, w.config, one, two, govern.Cause{Now: w.at, Trace: "t", By: "stew"}); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	kinds := func(s *sink) (out []string) {
		for _, e := range s.got {
			if e.Subject == deal {
				out = append(out, e.Type)
			}
		}
		return out
	}
	if got := kinds(w.all); !slices.Equal(got, []string{"sorrel.deal.created.v1", "sorrel.deal.won.v1", "sorrel.workflow.reminder.v1"}) {
		t.Errorf("all is told %v", got)
	}
	if got := kinds(w.some); !slices.Equal(got, []string{"sorrel.deal.won.v1"}) {
		t.Errorf("some is told %v", got)
	}
	if e := w.some.got[len(w.some.got)-1]; e.Data.About != one || e.Data.Detail["by"] != "sarah" || len(e.Data.Golden) > 0 {
		t.Errorf("%+v", e)
	}
	w.valid(w.all.got)
	if n := w.sweep(); n > 0 {
		t.Errorf("%d are still due", n)
	}
}

// TestMerged: what was not told of a record before it was merged still is, and that it was merged.
func TestMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.all.down = true
	into := w.says("account", "A1", map[string]any{"name": "Alfreds"})
	from := w.says("account", "A2", map[string]any{"name": "Alfreds 2"})
	// The native record of the second is gone, so nothing stands against it.
	w.told++
	w.at = w.at.Add(time.Second)
	m, err := message.Inbound{CorrelationID: "gone", ReceivedAt: w.at, Source: message.Webhook, Native: record.Native{Gone: true, Into: "A1",
		Ref: record.Ref{Platform: record.Salesforce, Object: "account", ID: "A2"}, Version: record.Version{At: w.at}}}.Message("gone")
	if err != nil {
		t.Fatal(err)
	}
	w.hub.Apply(t.Context(), []queue.Received{{Message: m, ID: "gone", Receives: 1}})
	w.work()
	w.all.down = false
	for range 10 {
		w.at = w.at.Add(10 * time.Minute)
		w.sweep()
	}
	var merged []string
	for _, e := range w.all.got {
		if e.Type == "sorrel.account.merged.v1" {
			merged = append(merged, string(e.Subject))
			if e.Data.From != from || e.Data.Into != into {
				t.Errorf("%+v", e.Data)
			}
		}
	}
	slices.Sort(merged)
	want := []string{string(from), string(into)}
	slices.Sort(want)
	if !slices.Equal(merged, want) {
		t.Errorf("told of a merger: %v, want %v; all %v", merged, want, w.all.ids())
	}
	if !slices.Contains(w.all.ids(), string(from)+"/1/0") {
		t.Errorf("nobody heard of the second: %v", w.all.ids())
	}
	w.valid(w.all.got)
	if n := w.sweep(); n > 0 {
		t.Errorf("%d are still due", n)
	}
}

// TestDownForAnHour: a subscriber that is down holds up itself alone, and is told of all in order once it is back.
func TestDownForAnHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.all.down = true
	calls := 0
	w.all.before = func() { calls++ }
	for i := range 60 {
		w.says("account", fmt.Sprint("A", i%5), map[string]any{"name": fmt.Sprint("name ", i)})
		w.work()
		w.at = w.at.Add(time.Minute)
		w.sweep()
		if len(w.some.got) != i+1 {
			t.Fatalf("after %d changes the other is told %d events", i+1, len(w.some.got))
		}
	}
	if len(w.all.got) != 0 || calls > 130 { // 5 records, each at most every few minutes in the end
		t.Errorf("%d told, by %d calls", len(w.all.got), calls)
	}
	list, err := w.flow.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "all" || list[0].Waiting != 5 || list[0].Oldest == nil || list[0].LastTold != "" || list[1].Waiting != 0 || list[1].LastTold == "" {
		t.Errorf("%+v (%v)", list, err)
	}
	w.all.down = false
	for range 20 {
		w.at = w.at.Add(time.Minute)
		w.sweep()
	}
	if len(w.all.got) != 60 {
		t.Errorf("told %d of 60", len(w.all.got))
	}
	w.ordered(w.all)
}

// TestDiesAnywhere: each call of the store fails once, before it reaches the store or after it, and so does each telling,
// before and after it. Everything is told, in order, with the same ids.
func TestDiesAnywhere(t *testing.T) {
	t.Parallel()
	faults := []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Throttle}
	for _, kind := range append(faults, storetest.None) {
		for n := 1; ; n++ {
			w := newWorld(t)
			for i := range 12 {
				w.says("account", "A1", map[string]any{"name": fmt.Sprint(i)})
			}
			calls := 0
			w.store.Next = func(string, []store.Key) storetest.Fault {
				if calls++; calls == n && kind != storetest.None {
					return kind
				}
				return storetest.None
			}
			tells := 0
			w.all.after = func() error {
				if tells++; kind == storetest.None && tells == n {
					return errors.New("the answer is lost")
				}
				return nil
			}
			for range 10 {
				w.flow = w.process()
				w.at = w.at.Add(time.Minute)
				w.sweep()
			}
			w.store.Next = nil
			if due := w.sweep(); due > 0 {
				t.Fatalf("%v at call %d: %d are still due", kind, n, due)
			}
			w.ordered(w.all)
			ids := w.all.ids()
			slices.Sort(ids)
			if ids = slices.Compact(ids); len(ids) != 12 {
				t.Fatalf("%v at call %d: told %v", kind, n, ids)
			}
			if kind != storetest.None && calls < n || kind == storetest.None && tells < n {
				break
			}
		}
	}
}

// TestMovesMeanwhile: the record changes while a subscriber is told. What it was told is not told again.
func TestMovesMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.says("account", "A1", map[string]any{"name": "0"})
	n := 0
	w.all.before = func() {
		if n++; n <= 3 {
			w.says("account", "A1", map[string]any{"name": fmt.Sprint(n)})
		}
	}
	w.work()
	if ids := w.all.ids(); len(ids) != 4 {
		t.Errorf("told %v", ids)
	}
	w.ordered(w.all)
	if n := w.sweep(); n > 0 {
		t.Errorf("%d are still due", n)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 3 {
		w.says("account", "A1", map[string]any{"name": fmt.Sprint(i)})
	}
	since := w.at
	w.says("account", "A1", map[string]any{"name": "new"})
	w.says("account", "A2", map[string]any{"name": "other"})
	w.says("deal", "D1", map[string]any{"stage": "won"})
	w.work()
	was := w.all.ids()
	w.all.got = nil
	stew, bob := policy.Person{Name: "stew"}, policy.Person{Name: "bob"}
	for _, bad := range []struct {
		by   policy.Person
		name string
		a    publish.Again
		want fault.Class
	}{
		{bob, "all", publish.Again{Entity: "account"}, fault.Forbidden},
		{stew, "nobody", publish.Again{Entity: "account"}, fault.NotFound},
		{stew, "all", publish.Again{}, fault.Malformed},
		{stew, "all", publish.Again{Entity: "acount"}, fault.Malformed},
		{stew, "all", publish.Again{Record: "what"}, fault.Malformed},
	} {
		if _, err := w.flow.Replay(t.Context(), bad.by, bad.name, bad.a); !fault.Is(err, bad.want) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	got, err := w.flow.Replay(t.Context(), stew, "all", publish.Again{Since: since.Add(time.Millisecond), Entity: "account"})
	if err != nil || got.Records != 2 || got.Events != 2 || got.Due != 0 || got.Next != nil {
		t.Errorf("counted %+v (%v)", got, err)
	}
	if n := w.sweep(); n > 0 || len(w.all.got) > 0 {
		t.Errorf("counting made %d due", n)
	}
	if got, err = w.flow.Replay(t.Context(), stew, "all", publish.Again{Entity: "account", Run: true}); err != nil || got.Records != 2 || got.Events != 5 || got.Due != 2 {
		t.Errorf("ran %+v (%v)", got, err)
	}
	if got, err = w.flow.Replay(t.Context(), stew, "all", publish.Again{Entity: "account", Run: true}); err != nil || got.Due != 0 {
		t.Errorf("ran again %+v (%v)", got, err)
	}
	w.sweep()
	again := w.all.ids()
	accounts := slices.DeleteFunc(was, func(id string) bool { return strings.HasPrefix(id, "deal/") })
	slices.Sort(again)
	slices.Sort(accounts)
	if !slices.Equal(again, accounts) {
		t.Errorf("told again %v, want %v", again, accounts)
	}
	w.ordered(w.all)
	if got, err = w.flow.Replay(t.Context(), stew, "some", publish.Again{Record: w.all.got[0].Subject, Run: true}); err != nil || got.Records != 1 || got.Due != 1 {
		t.Errorf("one record %+v (%v)", got, err)
	}
	if log, err := w.god.Log(t.Context(), ledger.General); err != nil || len(log) != 3 || log[0].By != "stew" || log[0].Events[0].Action != "subscriber-replayed" {
		t.Errorf("the log says %+v (%v)", log, err)
	}
}

// TestForgotten: what is due for a subscriber that there is no more is forgotten; what has no sink yet stays.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.says("account", "A1", map[string]any{"name": "0"})
	small := files()
	small["subscribers.yaml"] = &fstest.MapFile{Data: []byte("subscribers:\n  all: {to: print, entities: {account: [name]}}\n")}
	set, problems := policy.Load(small)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w.flow = publish.New(publish.Deps{Ledger: w.ledger, Config: set, Sinks: nil, Now: func() time.Time { return w.at }, Telemetry: telemetry.New(nil, func() time.Time { return w.at }, nil)})
	w.work()
	s, err := w.god.Follow(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, is := s.Due["subscriber.some"]; is {
		t.Errorf("%+v", s.Due)
	}
	if d, is := s.Due["subscriber.all"]; !is || d.From != 1 {
		t.Errorf("%+v", s.Due)
	}
}

// TestSweep: a wake-up that was lost is made up for by the sweep, which tells how long subscribers have waited; two
// subscribers of one record are both woken by one queue.
func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.woken = queue.NewMemory(queue.Settings{Name: "lost", MaxReceives: queue.MaxReceives}, nil, func() time.Time { return w.at })
	w.says("account", "A1", map[string]any{"name": "Alfreds"}) // its wake-ups are on the other queue
	now := func() time.Time { return w.at }
	tele := telemetry.New(nil, now, nil)
	wake := map[string]queue.Sender{}
	for _, s := range w.config.Subscribers() {
		wake[s.Due()] = w.woken
	}
	s := sweep.New(sweep.Deps{Ledger: w.god, Wake: wake, Inbound: w.woken, Now: now, Grace: time.Second, Telemetry: tele})
	w.at = w.at.Add(time.Hour)
	if out, err := s.Apply(t.Context()); err != nil || out.Woken != 2 {
		t.Fatalf("%+v (%v)", out, err)
	}
	var metrics bytes.Buffer
	if err := tele.Flush(&metrics, "test"); err != nil || !strings.Contains(metrics.String(), `"SubscribersOldestAge":3600`) {
		t.Errorf("%s (%v)", &metrics, err)
	}
	w.work()
	if len(w.all.got) != 1 || len(w.some.got) != 1 {
		t.Errorf("told %v and %v", w.all.ids(), w.some.ids())
	}
}
