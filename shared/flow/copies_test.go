package flow_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// conditionalConfig is the governed configuration with a stage that something else sets, copies that depend on it, and
// people who belong to an account.
func conditionalConfig(t testing.TB) *policy.Set {
	t.Helper()
	files := governedFiles()
	text := func(name string) string { return string(files[name].Data) }
	put := func(name, s string) { files[name] = &fstest.MapFile{Data: []byte(s)} }
	put("policy/account.yaml", text("policy/account.yaml")+`  stage: {assign: workflow, targets: [netsuite], paths: {netsuite: revert}}
copies:
  salesforce: {}
  netsuite: {when: 'golden.stage == "pending" or golden.stage == "active"', withdraw: golden.stage == "rejected", alone: golden.stage == "pending"}
  zendesk: {when: golden.stage == null or golden.stage == "active"}
  servicenow: {}
custom:
  stage: {type: enum, values: [pending, active, rejected]}
`)
	put("contract/person.v1.json", `{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:sorrel:contract:person.v1", "title": "person.v1",
"type": "object", "required": ["name"], "additionalProperties": false, "properties": {"name": {"type": "string", "maxLength": 80},
"account": {"type": ["string", "null"], "x-sorrel": {"type": "reference", "to": "account"}}}}`)
	put("policy/person.yaml", `
entity: person
contract: person.v1
platforms: {netsuite: person, salesforce: person}
deletes: ignore
owner: salesforce
targets: [netsuite]
paths: {netsuite: revert}
`)
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		name, stage := "mapping/"+p+".account.yaml", "  stage: {path: stage, values: {pending: pending, active: active, rejected: rejected}}\n"
		before, unmapped, _ := strings.Cut(text(name), "unmapped: ")
		switch {
		case p == record.NetSuite:
			before += stage
		case unmapped == "":
			unmapped = "[stage]\n"
		default:
			unmapped = strings.Replace(unmapped, "]", ", stage]", 1)
		}
		if unmapped != "" {
			before += "unmapped: " + unmapped
		}
		put(name, before)
	}
	for _, p := range []string{record.NetSuite, record.Salesforce} {
		put("mapping/"+p+".person.yaml", fmt.Sprintf(`platform: %s
object: person
entity: person
contract: person.v1
fields:
  name: {path: name, required: true}
  account: {path: account, to: account, form: object}
`, p))
	}
	return loaded(t, files)
}

// assign sets the stage of an account, as a workflow does; "" takes it away.
func (w *world) assign(id record.ID, stage string) {
	_, err := govern.Change(w.t.Context(), w.ledger, w.config, id, govern.Cause{Trace: "run", Now: w.clock.now()}, func(s *ledger.State) ([]record.Event, error) {
		if s.Record.Assigned = nil; stage != "" {
			s.Record.Assigned = map[string]record.Assigned{"stage": {Value: record.TextValue(stage), When: w.clock.now(), By: "test"}}
		}
		return nil, nil
	})
	if err != nil && w.store.Next == nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

// prospectWorld is one with an account that Salesforce made, which policy wants nothing of on NetSuite yet.
func prospectWorld(t *testing.T) (*world, record.ID) {
	t.Helper()
	w := worldOf(t, conditionalConfig(t))
	w.echoes()
	w.push(w.salesforce.set("account", "1", map[string]any{"name": "Bon app", "taxId": "FR40303265045", "street": "Rue 1", "phone": "7", "active": true}))
	w.settle()
	if got := []int{len(w.netsuite.ids("account")), len(w.salesforce.ids("account")), len(w.zendesk.ids("account")), len(w.servicenow.ids("account"))}; !slices.Equal(got, []int{0, 1, 1, 1}) {
		t.Fatalf("a prospect has native records %v", got)
	}
	return w, ledger.Mint("account", record.Ref{Platform: record.Salesforce, Object: "account", ID: "1"})
}

// gone expects no account on NetSuite, a record that looks as if there had never been one, and nothing for people to do.
func (w *world) gone(id record.ID) {
	w.t.Helper()
	s := w.state(id)
	if _, some := s.Record.Views[record.NetSuite]; some || len(w.netsuite.ids("account")) != 0 {
		w.t.Errorf("%v are on netsuite, known as %+v\n%s", w.netsuite.ids("account"), s.Record.Views[record.NetSuite], w.tail())
	}
	if g := s.Record.Golden["name"]; g.Value != record.TextValue("Bon app") || g.From != record.Salesforce || s.Record.Golden["active"].Value != record.BoolValue(true) {
		w.t.Errorf("golden name %+v, active %+v", g, s.Record.Golden["active"])
	}
	w.expectExceptions()
	w.nothingDead()
}

func TestNativeRecordsAreMadeAndWithdrawn(t *testing.T) {
	t.Parallel()
	w, id := prospectWorld(t)
	first := ""
	var heard []record.Native
	for _, f := range w.fakes() {
		f.emit = func(n record.Native) { heard = append(heard, n); w.push(n) }
	}
	for range 2 {
		w.assign(id, "pending")
		w.settle()
		native := w.only(w.netsuite)
		if v := w.state(id).Record.Views[record.NetSuite]; !v.Made || v.ID != native || native == first {
			t.Fatalf("%s after %q: %+v", native, first, v)
		}
		w.shows("stage", "pending", w.netsuite)
		w.shows("name", "Bon app", w.netsuite)
		first = native
		w.assign(id, "rejected")
		w.settle()
		w.gone(id)
		w.clock.pass(time.Minute)
		w.push(heard...) // late, and again
		w.settle()
		w.gone(id)
	}
	if s := w.state(id); len(s.Record.Withdrawn) != 2 || s.Record.LastWithdrawn(record.NetSuite) != first || len(w.netsuite.creates) != 1 || w.netsuite.creates[id.External()] != 2 {
		t.Errorf("withdrawn %+v, created %v", s.Record.Withdrawn, w.netsuite.creates)
	}
	why, _ := record.Explain(w.state(id).Record, w.config.Rules("account"), "name", w.config.On("account"))
	if i := slices.IndexFunc(why.On, func(p record.WhyPlatform) bool { return p.Platform == record.NetSuite }); !strings.Contains(why.On[i].Status, `policy creates none on netsuite: golden.stage == "pending"`) {
		t.Errorf("netsuite: %+v", why.On[i])
	}
}

func TestWhatPeopleMadeIsNotWithdrawn(t *testing.T) {
	t.Parallel()
	w, id := prospectWorld(t)
	w.push(w.netsuite.set("account", "77", map[string]any{"name": "Bon app", "taxId": "FR40303265045", "active": true}))
	w.settle()
	w.assign(id, "rejected")
	w.settle()
	if w.only(w.netsuite) != "77" || w.state(id).Record.Views[record.NetSuite].Made {
		t.Errorf("%+v", w.state(id).Record.Views[record.NetSuite])
	}
	w.shows("stage", "rejected", w.netsuite)
}

// Wherever a withdrawal is interrupted, and whatever is wanted by then, the end is the same as if it had not been.
func TestInterruptedWithdrawals(t *testing.T) {
	t.Parallel()
	lost := func(applied bool) func(platform.Write) *told {
		return func(w platform.Write) *told {
			if !w.Delete {
				return nil
			}
			return &told{fault.New(fault.Unknown, "netsuite.write", "no answer came"), applied}
		}
	}
	for name, answers := range map[string]func(platform.Write) *told{
		"the answer is lost": lost(true), "the deletion is lost": lost(false),
	} {
		for _, then := range []string{"rejected", "pending"} {
			for _, silent := range []bool{false, true} { // NetSuite tells of no deletion
				t.Run(fmt.Sprintf("%s, then %s, silent %t", name, then, silent), func(t *testing.T) {
					t.Parallel()
					w, id := prospectWorld(t)
					w.assign(id, "pending")
					w.settle()
					w.netsuite.answers(answers)
					if silent {
						w.netsuite.emit = nil
						w.netsuite.reading = func(ref record.Ref) error { // as NetSuite does
							if w.netsuite.rows[ref].gone {
								return fault.New(fault.NotFound, "netsuite.read", "no such record")
							}
							return nil
						}
					}
					w.assign(id, "rejected")
					w.sweepDue()
					w.netsuite.answers(nil)
					w.assign(id, then)
					w.clock.pass(time.Minute)
					w.settle()
					if then == "rejected" {
						w.gone(id)
						return
					}
					w.shows("stage", "pending", w.netsuite)
					if v := w.state(id).Record.Views[record.NetSuite]; v.ID != w.only(w.netsuite) || !v.Made {
						t.Errorf("%+v", v)
					}
					w.expectExceptions()
					w.assign(id, "rejected")
					w.settle()
					w.gone(id)
				})
			}
		}
	}
}

// sweepDue wakes what is due once.
func (w *world) sweepDue() {
	w.t.Helper()
	w.clock.pass(4 * time.Second)
	if _, err := w.sweep.Apply(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.drain(w.out[record.NetSuite], w.deliver.Apply)
}

// A worker that dies after a creation has told nobody, or only that it does not know; what it made is ours all the same.
func TestWhatADeadWorkerMadeIsWithdrawn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*world) *told{
		"no answer": func(*world) *told {
			return &told{fault.New(fault.Unknown, "netsuite.write", "no answer came"), true}
		},
		"no commit": func(w *world) *told {
			w.store.Next = func(op string, _ []store.Key) storetest.Fault {
				if op == storetest.OpCommit {
					return storetest.FailBefore
				}
				return storetest.None
			}
			return nil
		},
	} {
		for _, heard := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, heard %t", name, heard), func(t *testing.T) {
				t.Parallel()
				w, id := prospectWorld(t)
				if !heard {
					w.netsuite.emit = nil
				}
				w.netsuite.answers(func(platform.Write) *told { return answer(w) })
				w.assign(id, "pending")
				w.sweepDue()
				w.netsuite.answers(nil)
				w.store.Next = nil
				if made := w.netsuite.ids("account"); len(made) != 1 {
					t.Fatalf("made %v", made)
				}
				w.assign(id, "rejected")
				w.settle()
				w.gone(id)
			})
		}
	}
}

func TestRefusedWithdrawal(t *testing.T) {
	t.Parallel()
	w, id := prospectWorld(t)
	w.assign(id, "pending")
	w.settle()
	w.netsuite.answers(func(w platform.Write) *told {
		if !w.Delete {
			return nil
		}
		return &told{&fault.Error{Class: fault.Refused, Op: "netsuite.write", Code: "INVALID_RECORD", Detail: "it has dependent records"}, false}
	})
	w.netsuite.written()
	w.assign(id, "rejected")
	w.settle()
	w.expectExceptions("refused-write " + string(id) + " netsuite ")
	if detail, refused := w.state(id).Record.Refused(record.NetSuite); !refused || detail != "INVALID_RECORD it has dependent records" {
		t.Errorf("refused: %q %v", detail, refused)
	}
	w.shows("stage", "rejected", w.netsuite)
	if n := w.netsuite.total(); n != 2 {
		t.Errorf("%d writes, want the refused deletion and the stage", n)
	}
	w.assign(id, "pending")
	w.settle()
	w.expectExceptions()
	w.assign(id, "rejected")
	w.settle()
	w.netsuite.answers(nil)
	_, err := govern.Change(t.Context(), w.ledger, w.config, id, govern.Cause{Now: w.clock.now(), News: true}, func(s *ledger.State) ([]record.Event, error) {
		k := record.HoldKey(record.NetSuite, record.Whole)
		h := s.Record.Held[k]
		h.Trying = true
		s.Record.Held = map[string]record.Hold{k: h}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.gone(id)
}

// A platform refuses to make what policy then wants there no more: there is nothing left for people to do. Wanted again, it is
// tried again.
func TestRefusalOfWhatIsWantedNoMore(t *testing.T) {
	t.Parallel()
	w, id := prospectWorld(t)
	w.netsuite.answers(func(platform.Write) *told {
		return &told{&fault.Error{Class: fault.Refused, Op: "netsuite.write", Code: "USER_ERROR", Detail: "not now"}, false}
	})
	w.assign(id, "pending")
	w.settle()
	if _, refused := w.state(id).Record.Refused(record.NetSuite); !refused {
		t.Fatalf("nothing is refused\n%s", w.tail())
	}
	w.assign(id, "rejected")
	w.settle()
	w.gone(id)
	w.netsuite.answers(nil)
	w.assign(id, "pending")
	w.settle()
	w.only(w.netsuite)
	w.expectExceptions()
}

// People bring back what was withdrawn: it is theirs from then on.
func TestRestoredAfterWithdrawal(t *testing.T) {
	t.Parallel()
	w, id := prospectWorld(t)
	w.assign(id, "pending")
	w.settle()
	native := w.only(w.netsuite)
	w.assign(id, "rejected")
	w.settle()
	w.clock.pass(time.Minute)
	w.push(w.netsuite.restore("account", native))
	w.settle()
	if v := w.state(id).Record.Views[record.NetSuite]; w.only(w.netsuite) != native || v.ID != native || v.Made || len(w.state(id).Record.Withdrawn) != 0 {
		t.Errorf("%+v %+v", v, w.state(id).Record.Withdrawn)
	}
	w.shows("stage", "rejected", w.netsuite)
	w.expectExceptions()
}

// What refers to a record that policy wants no native record of waits quietly, and costs nothing.
func TestWhoWaitsForAnUnwantedRecord(t *testing.T) {
	t.Parallel()
	w, account := prospectWorld(t)
	w.push(w.salesforce.set("person", "9", map[string]any{"name": "Laurence Lebihan", "account": map[string]any{"id": "1"}}))
	person := ledger.Mint("person", record.Ref{Platform: record.Salesforce, Object: "person", ID: "9"})
	for range 240 {
		w.minute()
	}
	due := w.state(person).Due[record.NetSuite]
	if !slices.Equal(due.Waits, []record.ID{account}) || !due.Unwanted || due.Stuck || due.Missing || due.Attempts > 1 || due.NotBefore.Before(w.clock.now().Add(time.Hour)) || w.netsuite.total() > 0 {
		t.Fatalf("%+v", due)
	}
	w.expectExceptions()
	for p, err := range w.ledger.DueFor(t.Context(), record.NetSuite) {
		if err != nil || !p.Unwanted {
			t.Errorf("%+v %v", p, err)
		}
		var lag ledger.Lag
		if lag.Add(p); lag.Told(w.clock.now()) {
			t.Error("operators are told that people wait for it")
		}
	}
	w.push(w.salesforce.set("person", "9", map[string]any{"name": "L. Lebihan"})) // it is looked at anew, and waits again
	w.minute()
	if due := w.state(person).Due[record.NetSuite]; !slices.Equal(due.Waits, []record.ID{account}) || !due.Unwanted || w.netsuite.total() > 0 {
		t.Errorf("%+v", due)
	}
	w.assign(account, "pending")
	for range 240 { // the account gets there, and may be withdrawn again
		w.minute()
	}
	if due := w.state(person).Due[record.NetSuite]; !slices.Equal(due.Waits, []record.ID{account}) || !due.Unwanted || due.NotBefore.Before(w.clock.now().Add(time.Hour)) || w.netsuite.total() != 1 {
		t.Fatalf("%+v, %d writes", due, w.netsuite.total())
	}
	w.expectExceptions()
	w.netsuite.answers(func(platform.Write) *told {
		return &told{fault.New(fault.Down, "netsuite.write", "maintenance"), false}
	})
	w.assign(account, "active")
	w.minute()
	if due := w.state(account).Due[record.NetSuite]; !due.Frees {
		t.Errorf("%+v", due)
	}
	w.netsuite.answers(nil)
	for range 3 { // as soon as it can be told
		w.minute()
	}
	if got := w.netsuite.ids("person"); len(got) != 1 || w.netsuite.holds("person", got[0])["name"] != "L. Lebihan" {
		t.Errorf("people on netsuite: %v", got)
	}
}

// The platform tells of a native record before its delivery could say that it made it: who waits for it is woken all the same.
func TestHeardOfBeforeItsDeliveryEnds(t *testing.T) {
	t.Parallel()
	w, account := prospectWorld(t)
	w.push(w.salesforce.set("person", "9", map[string]any{"name": "Laurence Lebihan", "account": map[string]any{"id": "1"}}))
	for range 240 {
		w.minute()
	}
	w.netsuite.emit = func(n record.Native) { w.push(n) }
	failed := 0
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		if op == storetest.OpCommit && w.netsuite.total() > 0 && failed == 0 && strings.Contains(keys[0].Part, string(account)) {
			failed++
			return storetest.FailBefore
		}
		return storetest.None
	}
	w.assign(account, "active")
	for range 5 {
		w.minute()
	}
	if failed != 1 || len(w.netsuite.ids("person")) != 1 {
		t.Errorf("%d commits failed; people on netsuite: %v\n%s", failed, w.netsuite.ids("person"), w.tail())
	}
}

// The same lives while something else makes and withdraws native records.
func TestRandomLivesWithWithdrawals(t *testing.T) {
	t.Parallel()
	lives := 24
	if n, err := strconv.Atoi(os.Getenv("SORREL_LIVES")); err == nil {
		lives = n
	}
	withdrawn := 0
	randomLives(t, conditionalConfig(t), lives, func(l *life) {
		if l.rng.IntN(6) > 0 {
			return
		}
		next := l.store.Next
		l.store.Next = nil
		for _, id := range l.known {
			withdrawn += len(l.state(id).Record.Withdrawn)
		}
		all := slices.DeleteFunc(l.records(), func(id record.ID) bool { return l.state(id).Record.Into != "" })
		l.known = all
		if len(all) > 0 {
			id, stage := pick(l.rng, all...), pick(l.rng, "", "pending", "pending", "active", "rejected", "rejected")
			l.did("the stage of %s is %q", id, stage)
			l.assign(id, stage)
		}
		l.store.Next = next
	})
	if withdrawn == 0 {
		t.Error("nothing was ever withdrawn")
	}
}
