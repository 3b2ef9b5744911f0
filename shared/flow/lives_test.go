package flow_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
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

// life is a random history of a few accounts: people edit, create, delete, restore, merge and decide on four platforms,
// messages come twice and late, the store and the platforms fail now and then.
type life struct {
	*world
	rng   *rand.Rand
	heard []record.Native
	made  int
	acts  []string
	known []record.ID // of which something else may be told
}

func (l *life) did(format string, a ...any) {
	l.acts = append(l.acts, l.clock.now().Format("15:04:05 ")+fmt.Sprintf(format, a...))
}

func (l *life) hear(n record.Native) {
	l.heard = append(l.heard, n)
	switch l.rng.IntN(8) {
	case 0: // the webhook is late: something else is heard first
	case 1:
		l.push(n, n)
	default:
		l.push(n)
	}
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (l *life) act() {
	f := pick(l.rng, l.fakes()...)
	ids := f.ids("account")
	switch n := l.rng.IntN(100); {
	case n < 8 && l.made < 6 && (f == l.netsuite || f == l.salesforce):
		l.made++
		id := fmt.Sprintf("%s-%d", f.name, l.made)
		fields := map[string]any{"name": pick(l.rng, "Ernst Handel", "Bon app", "Chop-suey"), "city": pick(l.rng, "Graz", "Bern"), "active": true}
		if l.rng.IntN(2) == 0 {
			fields["taxId"] = pick(l.rng, "ATU12345678", "CHE-123.456.788")
		}
		l.did("%s creates %s %v", f.name, id, fields)
		l.hear(f.set("account", id, fields))
	case n < 60 && len(ids) > 0:
		id := pick(l.rng, ids...)
		field := pick(l.rng, "phone", "phone", "street", "street", "industry", "tier", "city", "name")
		value := pick(l.rng, "a", "b", " c", "as agreed")
		l.did("%s sets %s of %s to %q", f.name, field, id, value)
		l.hear(f.set("account", id, map[string]any{field: value}))
	case n < 64 && len(ids) > 0:
		id := pick(l.rng, ids...)
		l.did("%s deletes %s", f.name, id)
		l.hear(f.remove("account", id, ""))
	case n < 69 && len(ids) > 1:
		loser := pick(l.rng, ids...)
		survivor := pick(l.rng, slices.DeleteFunc(ids, func(id string) bool { return id == loser })...)
		l.did("%s merges %s into %s", f.name, loser, survivor)
		l.hear(f.remove("account", loser, survivor))
	case n < 71 && f == l.salesforce:
		for ref, r := range f.rows {
			if r.gone {
				l.did("%s restores %s", f.name, ref.ID)
				l.hear(f.restore("account", ref.ID))
				break
			}
		}
	case n < 80:
		l.verdict()
	case n < 84 && len(l.heard) > 0:
		l.push(pick(l.rng, l.heard...))
	case n < 88:
		l.opinion()
	case n < 95:
		l.clock.pass(time.Duration(l.rng.IntN(4)) * time.Second)
	case n < 97:
		l.clock.pass(time.Duration(l.rng.IntN(150)) * time.Minute)
	default:
		l.minute()
	}
	if l.rng.IntN(3) == 0 {
		l.clock.pass(time.Millisecond)
		l.work()
	}
}

// verdict decides one open proposal.
func (l *life) verdict() {
	all, err := l.ledger.Proposals(l.t.Context(), false)
	if err != nil || len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b ledger.ProposalEntry) int { return strings.Compare(a.ID, b.ID) })
	p := pick(l.rng, all...)
	yes := l.rng.IntN(2) == 0
	_, err = govern.Change(l.t.Context(), l.ledger, l.config, p.Record, govern.Cause{Trace: "v", By: "fiona", Now: l.clock.now()}, func(s *ledger.State) (events []record.Event, err error) {
		s.Record, events, err = record.Decide(s.Record, record.Verdict{Proposal: p.ID, Approve: yes, By: "fiona"}, l.clock.now())
		return events, err
	})
	l.did("fiona decides %s of %s about %v: %t (%v)", p.ID, p.Record, p.Fields, yes, err)
}

// opinion is what a steward says about one possible duplicate.
func (l *life) opinion() {
	next := l.store.Next
	l.store.Next = nil
	var pairs [][2]record.ID
	for _, id := range l.records() {
		for _, other := range slices.Sorted(maps.Keys(l.state(id).Record.Suspects)) {
			pairs = append(pairs, [2]record.ID{id, other})
		}
	}
	l.store.Next = next
	if len(pairs) == 0 {
		return
	}
	cause := govern.Cause{Trace: "o", By: "stew", Now: l.clock.now()}
	id, other := pairs[0][0], pairs[0][1]
	if l.rng.IntN(2) == 0 {
		_, err := govern.Tell(l.t.Context(), l.ledger, l.config, id, other, cause)
		l.did("stew tells %s and %s apart (%v)", id, other, err)
		return
	}
	j, err := govern.Unite(l.t.Context(), l.ledger, l.config, id, other, cause)
	l.did("stew unites %s and %s (%t %v)", id, other, j.Done, err)
}

// records are all that native records are linked to.
func (l *life) records() []record.ID {
	var out []record.ID
	for ref := range l.said {
		if id, linked, err := l.ledger.Lookup(context.Background(), ref); err == nil && linked {
			out = append(out, id)
		}
		if id := ledger.Mint("account", ref); l.state(id).Exists() {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// listed is what a listing of every platform finds: all that lives there, as it is, whoever saved it.
func (l *life) listed() {
	for _, f := range l.fakes() {
		for _, id := range f.ids("account") {
			n, err := f.Read(l.t.Context(), record.Ref{Platform: f.name, Object: "account", ID: id})
			if err != nil {
				l.t.Fatal(err)
			}
			n.Ours = false
			l.push(n)
		}
	}
}

func (l *life) counted() int {
	n := 0
	for _, f := range l.fakes() {
		n += f.total()
	}
	return n
}

// check holds the end of a life to what must be true of it.
func (l *life) check() {
	l.t.Helper()
	rules, forms := l.config.Rules("account"), l.config.On("account")
	for _, id := range l.records() {
		s := l.state(id)
		if s.Record.Into != "" {
			continue
		}
		for _, f := range l.fakes() {
			v := s.Record.Views[f.name]
			patch := record.Project(s.Record, rules, f.name, forms(f.name))
			if !patch.Empty() {
				l.t.Errorf("%s: there is still %+v for %s", id, patch, f.name)
			}
			if !v.Exists() {
				continue
			}
			holds := f.holds("account", v.ID)
			if holds == nil {
				l.t.Errorf("%s: %s %s is believed to exist", id, f.name, v.ID)
				continue
			}
			for field, g := range s.Record.Golden {
				if !slices.Contains(rules.Fields[field].Targets, f.name) || rules.Fields[field].Owner == f.name || patch.Kept[field] != "" {
					continue
				}
				shown := record.NullValue()
				switch x := holds[field].(type) {
				case string:
					shown = record.TextValue(x)
				case bool:
					shown = record.BoolValue(x)
				}
				if want := map[string]any{field: g.Value.Any()}; shown != g.Value {
					if f.rewrite != nil {
						f.rewrite("account", want)
					}
					if want[field] == holds[field] || shown == v.Wrote[field].Back.Value || v.Wrote[field].Insists(shown) {
						continue // what somebody set within two seconds of our write, unheard, may pass for its echo; who insists is left alone
					}
					l.t.Errorf("%s: %s %s shows %s = %v, golden is %v from %s\n%+v\n%+v", id, f.name, v.ID, field, shown, g.Value, g.From, v.Said[field], v.Wrote[field])
				}
			}
		}
	}
}

// claims expects that each match key is claimed by exactly the records whose living native records have it.
func (l *life) claims() {
	l.t.Helper()
	want := map[ledger.Claim][]record.ID{}
	for _, id := range l.records() {
		s := l.state(id)
		for _, c := range s.Claims { // also those that it should have given up
			if _, some := want[c]; !some {
				want[c] = nil
			}
		}
		for c := range govern.Keys(l.config.Match("account"), s.Record) {
			want[c] = append(want[c], id)
		}
	}
	got, err := l.ledger.Claimed(context.Background(), slices.Collect(maps.Keys(want))...)
	if err != nil {
		l.t.Fatal(err)
	}
	for c, ids := range want {
		if !slices.Equal(got[c].IDs, ids) {
			l.t.Errorf("%v is claimed by %v, want %v", c, got[c].IDs, ids)
		}
	}
}

// Whatever people do on four platforms, and whatever gets lost or comes twice: the end is quiet, every platform shows
// what the rules say, hearing everything again writes nothing, and the audit log is whole. SORREL_LIVES is the number of
// histories, 40 without it.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	randomLives(t, governedConfig(t), 40, func(*life) {})
}

// randomLives lets people live lives, and something else interfere at each step.
func randomLives(t *testing.T, set *policy.Set, lives int, interfere func(*life)) {
	if n, err := strconv.Atoi(os.Getenv("SORREL_LIVES")); err == nil {
		lives = n
	}
	from, _ := strconv.Atoi(os.Getenv("SORREL_LIFE"))
	var l *life
	var seed int
	t.Cleanup(func() {
		if t.Failed() && l != nil {
			t.Logf("life %d:\n%s\n%s", seed, strings.Join(l.acts, "\n"), l.logs()+"\n"+l.tail())
		}
	})
	for seed = from; seed < from+lives; seed++ {
		l = &life{world: worldOf(t, set), rng: rand.New(rand.NewPCG(uint64(seed), 7))}
		l.echoes()
		if seed%2 == 1 {
			for _, f := range l.fakes() {
				f.rewrite = func(_ string, body map[string]any) {
					for k, v := range body {
						if s, is := v.(string); is {
							body[k] = strings.TrimSpace(s)
						}
					}
					if s, is := body["phone"].(string); is {
						body["phone"] = strings.TrimSuffix(s, "!") + "!"
					}
				}
			}
		}
		if seed%4 == 2 { // not together: whose a reformatted value is, nobody can tell when the answer to a write was lost
			l.troubled()
		}
		for range 60 {
			// What a platform makes of our value, and what somebody sets in the very moment of our write, cannot be told apart
			// when the webhook is lost as well; the next change there sets it right.
			l.clock.pass(time.Millisecond)
			if seed%2 == 1 {
				l.work()
				l.clock.pass(time.Second)
			}
			l.act()
			interfere(l)
		}
		l.store.Next = nil
		for _, f := range l.fakes() {
			f.answers(nil)
		}
		l.push(l.heard...) // what was late comes at last
		l.settle()
		l.clock.pass(2 * time.Hour) // proposals expire, and what looked like a duplicate is looked at again
		l.settle()
		wrote, quiet := l.counted(), false
		for round := 0; round < 3 && !quiet; round++ { // what a listing brings to light may have consequences, and those too
			l.listed()
			l.settle()
			again := l.counted()
			wrote, quiet = wrote+again, again == 0
		}
		if !quiet {
			t.Error("hearing everything again and again causes writes")
		}
		if most := 10 * len(l.acts) * len(l.fakes()); wrote > most {
			t.Errorf("%d writes for %d acts", wrote, len(l.acts))
		}
		l.check()
		l.claims()
		l.nothingDead()
		l.audited2()
		if t.Failed() {
			t.FailNow()
		}
	}
}

// audited2 is audited for a life in which perhaps nothing happened.
func (l *life) audited2() {
	if v, err := l.ledger.Verify(l.t.Context(), func(int) {}); err != nil || len(v.Broken) > 0 {
		l.t.Errorf("audit: %+v %v", v, err)
	}
}

// troubled lets the store and the platforms fail now and then.
func (l *life) troubled() {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(l.rng.Uint64(), 3))
	l.store.Next = func(string, []store.Key) storetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(30) > 0 {
			return storetest.None
		}
		return pick(rng, storetest.FailBefore, storetest.FailAfter, storetest.Throttle)
	}
	for _, f := range l.fakes() {
		f.answers(l.moody(f, rng, &mu))
	}
}

func (l *life) moody(f *fake, rng *rand.Rand, mu *sync.Mutex) func(w platform.Write) *told {
	return func(platform.Write) *told {
		mu.Lock()
		defer mu.Unlock()
		switch rng.IntN(20) {
		case 0:
			return &told{fault.New(fault.Unknown, f.name+".write", "no answer came"), true}
		case 1:
			return &told{fault.New(fault.Unknown, f.name+".write", "no answer came"), false}
		case 2:
			return &told{fault.New(fault.Down, f.name+".write", "away"), false}
		}
		return nil
	}
}

// logs is the audit log of every record.
func (l *life) logs() string {
	var out []string
	for _, id := range l.records() {
		entries, err := l.ledger.Log(context.Background(), string(id))
		if err != nil {
			l.t.Error(err)
		}
		for _, e := range entries {
			line := fmt.Sprintf("%s %s %s %s", id, e.At.Format("15:04:05"), e.By, e.Trace)
			for _, c := range e.Changes {
				line += fmt.Sprintf(" [%s %v → %v from %s]", c.Field, c.Before, c.After, c.From)
			}
			for _, v := range e.Events {
				line += fmt.Sprintf(" {%s %s %s %v %s}", v.Action, v.Platform, v.Proposal, v.Fields, v.Detail)
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// An edit whose record is deleted before it is read says nothing, whichever of the two words comes first. Where the other
// never comes, people are told.
func TestHintOfWhatIsDeleted(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"before", "after", "never"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			w, _ := prospectWorld(t)
			id := w.only(w.zendesk)
			edit := w.zendesk.set("account", id, map[string]any{"name": "Bon app!"})
			edit.Fields = nil
			gone := w.zendesk.remove("account", id, "")
			w.zendesk.reading = func(record.Ref) error { return fault.New(fault.NotFound, "zendesk.read", "no such record") }
			if word == "before" {
				w.push(gone)
				w.work()
			}
			w.push(edit)
			w.work()
			unmatched := func() bool {
				return slices.ContainsFunc(w.exceptions(), func(x string) bool { return strings.HasPrefix(x, "unmatched") })
			}
			if unmatched() {
				t.Errorf("people are told at once: %q", w.exceptions())
			}
			if word == "after" {
				w.push(gone)
			}
			for range 3 {
				w.minute()
			}
			if unmatched() != (word == "never") {
				t.Errorf("in the end: %q", w.exceptions())
			}
		})
	}
}
