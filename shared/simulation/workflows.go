package simulation

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// PlanWorkflows is the case of a seed in which deals are won, lost, moved and won again, and people decide about the
// customers that they activate. In a third of them the process that commits often dies around it.
func PlanWorkflows(seed uint64) Case {
	rng := rand.New(rand.NewPCG(seed, 0xac71))
	c := Case{Seed: seed, Profile: Profile{Workflows: true, Skew: map[string]time.Duration{}}}
	p := &c.Profile
	switch seed % 6 {
	case 0:
		p.Name = "deals"
	case 1, 2:
		p.Name, p.Faults, p.Often = "deals, deadly", 40, map[string]int{"commit": 5, "wake": 5, "acknowledge": 5}
	case 3, 4:
		p.Name, p.Faults = "deals, faulty", 30
	case 5:
		p.Name, p.Faults = "deals, out", 60
	}
	p.Hints, p.Coarse = rng.IntN(2) == 0, rng.IntN(2) == 0
	at := time.Second
	kinds := []string{"create", "deal", "deal", "win", "win", "reopen", "lose", "move", "rename", "edit", "answer", "answer", "answer", "answer", "contest", "cancel", "skip", "list", "redrive"}
	for i := range 20 + rng.IntN(30) {
		switch n := rng.IntN(100); {
		case n < 35:
			at += time.Duration(rng.IntN(100)) * time.Millisecond
		case n < 85:
			at += time.Duration(rng.IntN(4000)) * time.Millisecond
		case n < 97:
			at += time.Duration(rng.IntN(180)) * time.Second
		default:
			at += time.Duration(rng.IntN(150)) * time.Minute
		}
		a := Act{N: i, At: at, Do: pick(rng, kinds...), On: record.Salesforce, Pick: rng.Uint64()}
		if i < 4 {
			a.Do = []string{"create", "create", "deal", "deal"}[i]
		}
		c.Acts = append(c.Acts, a)
	}
	if p.Name == "deals, out" {
		for range 1 + rng.IntN(4) {
			of := pick(rng, append([]string{"store", "queue"}, platforms[:]...)...)
			c.Outages = append(c.Outages, Outage{of, time.Duration(rng.Int64N(int64(at))), time.Duration(1+rng.IntN(600)) * time.Second})
		}
	}
	return c
}

// activation is the workflow that these histories play: the account of a deal that is won is reserved for the deal and
// marked pending, people decide, it is active. What the deal has come to stands in its status, so that nothing but the
// records says whether a run is wanted: a deal that is won and has no status, or has one and is not won any more.
func activation() workflow.Definition {
	text := record.TextValue
	won := func(f workflow.Facts) bool { return f.Subject.Golden["stage"].Value == text("won") }
	status := func(f workflow.Facts) string { return f.Subject.Golden["status"].Value.Raw() }
	set := func(id record.ID, field, to string) workflow.Set {
		if to == "" {
			return workflow.Set{Record: id, Field: field, Value: record.NullValue()}
		}
		return workflow.Set{Record: id, Field: field, Value: text(to)}
	}
	wanted := func(f workflow.Facts) record.ID { return record.ID(f.Subject.Golden["account"].Value.Raw()) }
	mine := func(f workflow.Facts, a record.Record) bool {
		return a.Assigned["activationFor"].Value == text(string(f.Subject.ID))
	}
	// ours: this run has reserved it. Somebody may cancel a run before its first step was asked, and that has reserved nothing.
	ours := func(f workflow.Facts, a record.Record) bool {
		return mine(f, a) && f.Run.Kept["account"] == string(a.ID) && f.Run.Kept["idle"] == ""
	}
	idle := func(f workflow.Facts) bool { return f.Run.Kept["idle"] != "" } // it leaves the account alone
	// told waits until NetSuite knows.
	told := func(f workflow.Facts, a record.Record, to string) workflow.Move {
		if slices.Contains(f.Due[a.ID], record.NetSuite) {
			return workflow.Move{Set: []workflow.Set{set(a.ID, "activation", to)}, Wait: "NetSuite"}
		}
		return workflow.Move{Set: []workflow.Set{set(a.ID, "activation", to)}, Done: true}
	}
	return workflow.Definition{Name: "activation", Version: 1, Subject: "deal",
		Starts: func(f workflow.Facts) bool { return won(f) == (status(f) == "") },
		Void: func(f workflow.Facts) string {
			switch kept := record.ID(f.Run.Kept["account"]); {
			case kept == "":
				return ""
			case !won(f):
				return "the deal was reopened"
			case wanted(f) != kept:
				return "the deal is another account's"
			}
			return ""
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			if kept := f.Run.Kept["account"]; kept != "" && !f.Run.State.Ended() {
				return map[string]record.ID{"account": record.ID(kept)}
			}
			return map[string]record.ID{"account": wanted(f)}
		},
		Steps: []workflow.Step{
			{Name: "reserve", Expire: time.Hour, Do: func(f workflow.Facts) workflow.Move {
				a, some := f.Others["account"]
				other := a.Assigned["activationFor"].Value.Raw()
				switch {
				case f.Run.Kept["idle"] == "active":
					return workflow.Move{Done: true}
				case !won(f), idle(f): // it has come to nothing, and may be won again
					return workflow.Move{Set: []workflow.Set{set(f.Subject.ID, "status", "")}, Keep: map[string]string{"idle": "not won"}, Done: true}
				case !some:
					return workflow.Move{Set: []workflow.Set{set(f.Subject.ID, "status", "waiting")}, Wait: "an account"}
				case a.Assigned["activation"].Value == text("active"):
					return workflow.Move{Keep: map[string]string{"idle": "active"}, Done: true}
				case other != "" && !mine(f, a):
					return workflow.Move{Set: []workflow.Set{set(f.Subject.ID, "status", "waiting")}, Keep: map[string]string{"account": string(a.ID)}, Wait: other}
				}
				return workflow.Move{Set: []workflow.Set{set(a.ID, "activationFor", string(f.Subject.ID)), set(f.Subject.ID, "status", "pending")},
					Keep: map[string]string{"account": string(a.ID)}, Done: true}
			}, Undo: func(f workflow.Facts) workflow.Move {
				m := workflow.Move{Done: true}
				if a, some := f.Others["account"]; some && ours(f, a) {
					m.Set = append(m.Set, set(a.ID, "activationFor", ""))
				}
				to := ""
				if won(f) && (f.Run.Kept["account"] == "" || wanted(f) == record.ID(f.Run.Kept["account"])) {
					to = "rejected"
				}
				m.Set = append(m.Set, set(f.Subject.ID, "status", to))
				return m
			}},
			{Name: "pending", Do: func(f workflow.Facts) workflow.Move {
				if idle(f) {
					return workflow.Move{Done: true}
				}
				return told(f, f.Others["account"], "pending")
			}, Undo: func(f workflow.Facts) workflow.Move {
				if a, some := f.Others["account"]; some && ours(f, a) {
					return told(f, a, "rejected")
				}
				return workflow.Move{Done: true}
			}},
			{Name: "approval", Expire: time.Hour, Remind: []time.Duration{10 * time.Minute, 30 * time.Minute}, Do: func(f workflow.Facts) workflow.Move {
				switch a := f.Run.Answer; {
				case idle(f), a != nil && a.Approve:
					return workflow.Move{Done: true}
				case a != nil:
					return workflow.Move{Fail: "rejected by " + a.By}
				}
				return workflow.Move{Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"every one"}}, Wait: "finance"}
			}},
			{Name: "active", Final: true, Do: func(f workflow.Facts) workflow.Move {
				if idle(f) {
					return workflow.Move{Done: true}
				}
				return told(f, f.Others["account"], "active")
			}},
			{Name: "close", Do: func(f workflow.Facts) workflow.Move {
				if f.Run.Kept["idle"] == "not won" {
					return workflow.Move{Done: true}
				}
				return workflow.Move{Set: []workflow.Set{set(f.Subject.ID, "status", "active")}, Done: true}
			}},
		}}
}

// sell is what somebody in sales does now, or somebody at the desk.
func (w *world) sell(a Act, rng *rand.Rand) {
	s := w.site(record.Salesforce)
	did := func(format string, args ...any) {
		w.note("somebody on "+s.name, a.Do, fmt.Sprintf(format, args...), none)
	}
	accounts, deals := s.living("account"), s.living("deal")
	change := func(fields map[string]any) {
		if len(deals) > 0 {
			id := pick(rng, deals...)
			did("%s %v", id, fields)
			s.set("deal", id, fields)
		}
	}
	switch a.Do {
	case "create":
		did("account-%d", a.N)
		s.set("account", fmt.Sprintf("account-%d", a.N), map[string]any{"name": fmt.Sprintf("Account %d", a.N)})
	case "deal":
		fields := map[string]any{"stage": pick(rng, "open", "won", "won")}
		if len(accounts) > 0 && rng.IntN(8) > 0 {
			fields["account"] = pick(rng, accounts...)
		}
		did("deal-%d %v", a.N, fields)
		s.set("deal", fmt.Sprintf("deal-%d", a.N), fields)
	case "win":
		change(map[string]any{"stage": "won"})
	case "reopen":
		change(map[string]any{"stage": "open"})
	case "lose":
		change(map[string]any{"stage": "lost"})
	case "rename":
		change(map[string]any{"name": pick(rng, "a", "b")})
	case "move":
		if len(accounts) > 0 {
			change(map[string]any{"account": pick(rng, accounts...)})
		}
	case "edit":
		if len(accounts) > 0 {
			id := pick(rng, accounts...)
			did("%s", id)
			s.set("account", id, map[string]any{"phone": pick(rng, "a", "b", "c")})
		}
	case "contest": // somebody decides at the moment in which the deal is reopened
		w.answer("decide", rng)
		change(map[string]any{"stage": "open"})
	case "answer":
		w.answer("decide", rng)
	case "cancel", "skip":
		w.answer(a.Do, rng)
	case "list":
		w.list(s.name)
	case "redrive":
		w.redrive()
	}
}

// answer is what somebody does about a run a while after they have looked: it may have moved meanwhile.
func (w *world) answer(do string, rng *rand.Rand) {
	runs := w.openRuns()
	if len(runs) == 0 {
		return
	}
	head := pick(rng, runs...)
	r, err := w.god.Run(context.Background(), head.ID)
	if err != nil {
		w.wrong("cannot look: %v", err)
		return
	}
	who, act := policy.Person{Name: "stew"}, workflow.Act{Do: do, Reason: "so it is"}
	act.Step = r.Step
	if do == workflow.Skip && r.Step != "approval" {
		return // who skips what sets something has to do it by themselves
	}
	if do == workflow.Decide {
		who = policy.Person{Name: "fiona"}
		act.Answer = workflow.Answer{Approve: rng.IntN(3) > 0, Reason: "so it is"}
		if r.Ask != nil && rng.IntN(2) == 0 {
			act.Answer.Saw, act.Answer.Step = r.Ask.Version(), r.Step
		}
	}
	w.later(time.Duration(rng.IntN(5000))*time.Millisecond, func() {
		w.job("steward", func(ctx context.Context, p *process) {
			w.note(p.name, do, fmt.Sprintf("%s: %t", r.ID(), act.Answer.Approve), none)
			if _, err := p.workflow.Act(ctx, who, r.ID(), act); err != nil {
				w.note(p.name, do, "→ "+string(fault.ClassOf(err)), none)
			}
		})
	})
}

func (w *world) openRuns() []ledger.RunHead {
	var out []ledger.RunHead
	for h, err := range w.god.OpenRuns(context.Background()) {
		if err != nil {
			w.wrong("cannot look: %v", err)
			break
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b ledger.RunHead) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// sold holds deals and accounts to what their runs have come to: none is open, none has done anything twice, and where one
// was undone nothing is left of it.
func (w *world) sold() {
	for _, h := range w.openRuns() {
		w.wrong("open: %s is %s at %s, and waits for %q", h.ID, h.State, h.Step, h.Wait)
	}
	clear(w.ran)
	done := map[record.ID]record.ID{} // by account, the deal whose run has activated it
	for _, id := range w.records() {
		s := w.state(id)
		for _, run := range slices.Sorted(maps.Keys(s.Runs)) {
			r, err := w.god.Run(context.Background(), run)
			if err != nil || r.Subject == id || record.ID(r.Kept["account"]) == id { // else it has turned to another; whoever looks at this one next forgets it
				w.wrong("looked at: %s by %s (%v)", id, run, err)
			}
		}
		if id.Entity() != "deal" {
			continue
		}
		w.once(id)
		won, status := s.Record.Golden["stage"].Value.Raw() == "won", s.Record.Golden["status"].Value.Raw()
		if won != (status == "active" || status == "rejected") || !won && status != "" {
			w.wrong("undecided: %s is %q in stage %q", id, status, s.Record.Golden["stage"].Value.Raw())
		}
		last, _, err := w.god.LatestRun(context.Background(), "activation", id)
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		for n := range last.Number {
			r, err := w.god.Run(context.Background(), fmt.Sprintf("activation/%s/%d", id, n+1))
			if err != nil {
				w.wrong("gone: run %d of %s: %v", n+1, id, err)
				continue
			}
			w.ran[string(r.State)]++
			if account := record.ID(r.Kept["account"]); r.State == workflow.Done && r.Kept["idle"] == "" {
				if first, twice := done[account]; twice {
					w.wrong("twice: %s is activated by %s and by %s", account, first, id)
				}
				done[account] = id
			}
		}
	}
	for _, id := range w.records() {
		if id.Entity() != "account" {
			continue
		}
		r := w.state(id).Record
		activation, by := r.Golden["activation"].Value.Raw(), record.ID(r.Golden["activationFor"].Value.Raw())
		switch {
		case activation == "active" && done[id] != by, activation != "active" && (by != "" || done[id] != ""), activation == "pending":
			w.wrong("residue: %s is %q for %q, activated by %q", id, activation, by, done[id])
		}
		s, n, want := w.site(record.NetSuite), 0, 0
		for _, ref := range s.order {
			if of, _ := record.ParseExternal(s.rows[ref].external); of == id && !s.rows[ref].gone {
				n++
			}
		}
		if activation == "active" {
			want = 1
		}
		if n != want {
			w.wrong("residue: %s is %q, and NetSuite has it %d times", id, activation, n)
		}
	}
}

// once holds the audit log of a deal to one line for each step of each run.
func (w *world) once(id record.ID) {
	log, err := w.god.Log(context.Background(), string(id))
	if err != nil {
		w.wrong("cannot look: %v", err)
	}
	seen := map[string]bool{}
	for _, line := range log {
		for _, e := range line.Events {
			key := e.Action + " " + e.Detail
			if repeats := e.Action == "workflow-retried"; strings.HasPrefix(e.Action, "workflow-") && !repeats || strings.HasPrefix(e.Action, "step-") {
				if seen[key] {
					w.wrong("again: %s twice", key)
				}
				seen[key] = true
			}
		}
	}
}
