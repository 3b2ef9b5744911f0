package simulation

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// shipped is what the deployed configuration says about customers and opportunities, with people and settings of its own.
type shipped struct{ own fs.FS }

// Open implements fs.FS.
func (s shipped) Open(name string) (fs.File, error) {
	if f, err := s.own.Open(name); err == nil {
		return f, nil
	}
	if strings.HasSuffix(name, ".yaml") && !strings.Contains(name, "/") {
		return nil, fs.ErrNotExist
	}
	return config.FS.Open(name)
}

// ReadDir implements fs.ReadDirFS.
func (s shipped) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := config.FS.ReadDir(name)
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool {
		parts := strings.Split(e.Name(), ".")
		return !slices.Contains(parts, "customer") && !slices.Contains(parts, "opportunity")
	}), err
}

// PlanWorkflows is the case of a seed in which opportunities are won, lost, moved and won again, and people decide about the
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
	kinds := []string{"account", "customer", "deal", "deal", "deal", "win", "win", "reopen", "lose", "move", "unnamed", "rename", "edit", "edit", "merge", "delete", "drop", "erase", "refuse", "refuse",
		"answer", "answer", "answer", "answer", "answer", "contest", "cancel", "skip", "handle", "list", "redrive"}
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
			a.Do = []string{"account", "account", "deal", "deal"}[i]
		}
		c.Acts = append(c.Acts, a)
	}
	if p.Name == "deals, out" {
		for range 1 + rng.IntN(4) {
			of := pick(rng, append([]string{"store", "queue", record.NetSuite}, platforms[:]...)...)
			c.Outages = append(c.Outages, Outage{of, time.Duration(rng.Int64N(int64(at))), time.Duration(1+rng.IntN(600)) * time.Second})
		}
	}
	return c
}

// refusal is what a platform does not take for a while.
type refusal struct {
	until time.Time
	what  string
}

// Refusals of the simulated ERP.
const (
	noCustomer = "a customer"
	noTaxID    = "a tax number"
	noRelease  = "an activation"
	noDeletion = "a deletion"
)

// refuses says no to a write, if it is one that does not come through now.
func (s *site) refuses(w platform.Write) error {
	if s.w.calm || !s.w.now.Before(s.stands.until) {
		return nil
	}
	no := &fault.Error{Class: fault.Refused, Op: s.name + ".write", Code: "USER_ERROR", Detail: s.stands.what + " is not taken now"}
	tax := w.Fields["vatRegNumber"] != nil
	switch what := s.stands.what; {
	case what == noCustomer && w.Ref.ID == "", what == noDeletion && w.Delete, what == noRelease && w.Fields["custentity_sorrel_activation"] == "active":
		return no
	case what == noTaxID && tax:
		no.Fields = []string{"vatRegNumber"}
		return no
	}
	return nil
}

// begin gives a native record that we make what its platform gives each.
func (s *site) begin(r *row, object string) {
	if s.name == record.NetSuite && object == "customer" {
		s.made++
		overlay(r.fields, map[string]any{"entityId": fmt.Sprintf("C-%d", s.made), "isInactive": false, "creditHoldOverride": map[string]any{"id": "AUTO"}})
	}
}

// sell is what somebody in sales does now, in finance or at the desk.
func (w *world) sell(a Act, rng *rand.Rand) {
	s, erp := w.site(record.Salesforce), w.site(record.NetSuite)
	did := func(format string, args ...any) {
		w.note("somebody on "+s.name, a.Do, fmt.Sprintf(format, args...), none)
	}
	accounts, deals := s.living("Account"), s.living("Opportunity")
	change := func(fields map[string]any) {
		if len(deals) > 0 {
			id := pick(rng, deals...)
			did("%s %v", id, fields)
			s.set("Opportunity", id, fields)
		}
	}
	switch a.Do {
	case "account":
		fields := map[string]any{"Name": fmt.Sprintf("Account %d", a.N), "Phone": fmt.Sprintf("+1 212 555 %04d", a.N), "OwnerId": "005", "BillingStreet": "1 Main St", "BillingPostalCode": "10001", "BillingCountry": "US"}
		if rng.IntN(4) > 0 {
			fields["BillingCity"] = "New York"
		}
		if rng.IntN(4) > 0 {
			fields["Tax_Id__c"] = fmt.Sprintf("%s-34567%02d", pick(rng, "12", "12", "07"), a.N) // no prefix is 07
		}
		did("account-%d %v", a.N, fields)
		s.set("Account", fmt.Sprintf("account-%d", a.N), fields)
	case "customer": // of finance's own
		did("customer-%d", a.N)
		erp.set("customer", fmt.Sprintf("customer-%d", a.N), map[string]any{"entityId": fmt.Sprintf("F-%d", a.N), "companyName": fmt.Sprintf("Customer %d", a.N), "isInactive": false, "creditHoldOverride": map[string]any{"id": "AUTO"}})
	case "deal":
		fields := map[string]any{"Name": fmt.Sprintf("Deal %d", a.N), "StageName": pick(rng, "Prospecting", "Closed Won", "Closed Won"), "Amount": pick(rng, 5000, 5000, 200000), "CloseDate": "2026-12-01", "Currency__c": "USD"}
		if len(accounts) > 0 && rng.IntN(8) > 0 {
			fields["AccountId"] = pick(rng, accounts...)
		}
		did("deal-%d %v", a.N, fields)
		s.set("Opportunity", fmt.Sprintf("deal-%d", a.N), fields)
	case "win":
		change(map[string]any{"StageName": "Closed Won"})
	case "reopen":
		change(map[string]any{"StageName": "Negotiation/Review"})
	case "lose":
		change(map[string]any{"StageName": "Closed Lost"})
	case "rename":
		change(map[string]any{"Name": pick(rng, "a", "b")})
	case "move":
		if len(accounts) > 0 {
			change(map[string]any{"AccountId": pick(rng, accounts...)})
		}
	case "unnamed":
		change(map[string]any{"AccountId": nil})
	case "edit":
		if s = w.site(pick(rng, record.Salesforce, record.NetSuite)); s == erp {
			if ids := s.living("customer"); len(ids) > 0 {
				id := pick(rng, ids...)
				did("%s", id)
				s.set("customer", id, map[string]any{"vatRegNumber": fmt.Sprintf("12-76543%02d", a.N)})
			}
		} else if len(accounts) > 0 {
			id := pick(rng, accounts...)
			did("%s", id)
			s.set("Account", id, pick(rng, map[string]any{"Phone": fmt.Sprintf("+1 212 556 %04d", a.N)}, map[string]any{"Name": fmt.Sprintf("Account %d, renamed", a.N)}))
		}
	case "merge":
		if len(accounts) > 1 {
			rng.Shuffle(len(accounts), func(i, j int) { accounts[i], accounts[j] = accounts[j], accounts[i] })
			did("%s into %s", accounts[0], accounts[1])
			s.remove("Account", accounts[0], accounts[1])
			for _, id := range deals {
				if s.rows[record.Ref{Platform: s.name, Object: "Opportunity", ID: id}].fields["AccountId"] == accounts[0] {
					s.set("Opportunity", id, map[string]any{"AccountId": accounts[1]})
				}
			}
		}
	case "delete": // with its opportunities
		if len(accounts) > 0 {
			account := pick(rng, accounts...)
			did("%s", account)
			s.remove("Account", account, "")
			for _, id := range deals {
				if s.rows[record.Ref{Platform: s.name, Object: "Opportunity", ID: id}].fields["AccountId"] == account {
					s.remove("Opportunity", id, "")
				}
			}
		}
	case "drop":
		if len(deals) > 0 {
			id := pick(rng, deals...)
			did("%s", id)
			s.remove("Opportunity", id, "")
		}
	case "erase":
		s = erp
		if ids := s.living("customer"); len(ids) > 0 {
			id := pick(rng, ids...)
			did("%s", id)
			ref := record.Ref{Platform: s.name, Object: "customer", ID: id}
			if of, linked, err := w.god.Lookup(context.Background(), ref); err == nil && (!linked || w.state(of).Record.Assigned["activationFor"].Value.Raw() == "" || w.state(of).Record.Assigned["activation"].Value.Raw() == "active") { // no activation is under way
				w.erased[ref] = true
			}
			s.remove("customer", id, "")
		}
	case "refuse":
		s = erp
		s.stands = refusal{w.now.Add(time.Duration(1+rng.IntN(1200)) * time.Second), pick(rng, noCustomer, noTaxID, noRelease, noDeletion)}
		did("%s until %s", s.stands.what, s.stands.until.Format(stamp))
	case "contest": // somebody decides at the moment in which the opportunity is reopened
		w.answer("decide", a.N, rng)
		change(map[string]any{"StageName": "Negotiation/Review"})
	case "answer":
		w.answer("decide", a.N, rng)
		if rng.IntN(3) == 0 { // twice, and perhaps by two
			w.answer("decide", a.N, rng)
		}
	case "cancel", "skip":
		w.answer(a.Do, a.N, rng)
	case "handle":
		w.stewards(a, rng)
	case "list":
		w.list(s.name)
	case "redrive":
		w.redrive()
	}
}

// answer is what somebody does about a run a while after they have looked: it may have moved meanwhile.
func (w *world) answer(do string, n int, rng *rand.Rand) {
	runs := w.openRuns()
	if do == workflow.Decide { // somebody looks at what is asked
		if asked := slices.DeleteFunc(slices.Clone(runs), func(h ledger.RunHead) bool { return len(h.Asks) == 0 }); len(asked) > 0 {
			runs = asked
		}
	}
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
	if do == workflow.Skip && r.Step != "review" {
		return // who skips what sets something has to do it by themselves
	}
	if do == workflow.Decide {
		who = policy.Person{Name: pick(rng, "fiona", "frank")}
		act.Answer = workflow.Answer{Approve: rng.IntN(3) > 0, Reason: "so it is"}
		if r.Ask != nil && rng.IntN(2) == 0 {
			act.Answer.Saw, act.Answer.Step = r.Ask.Version(), r.Step
		}
		if r.Ask != nil && rng.IntN(2) == 0 {
			act.Answer.Correct = map[string]string{"taxId": fmt.Sprintf("%s-98765%02d", pick(rng, "12", "12", "07"), n)}
			if rng.IntN(2) == 0 {
				act.Answer.Correct["billingAddress.city"] = "Boston"
			}
		}
	}
	w.later(time.Duration(rng.IntN(5000))*time.Millisecond, func() {
		w.job("steward", func(ctx context.Context, p *process) {
			w.note(p.name, do, fmt.Sprintf("%s: %t %v", r.ID(), act.Answer.Approve, act.Answer.Correct), none)
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

// tidied has people try again what was refused while it was, until nothing is.
func (w *world) tidied() {
	if !w.c.Profile.Workflows {
		return
	}
	var left []string
	for range 5 {
		left = nil
		open, err := w.god.Exceptions(context.Background(), false)
		if err != nil {
			w.wrong("cannot look: %v", err)
			return
		}
		open = slices.DeleteFunc(open, func(x ledger.Exception) bool { return x.Type != string(fault.Refused) })
		stuck := slices.DeleteFunc(w.openRuns(), func(h ledger.RunHead) bool { return h.State != workflow.Stuck })
		if len(open)+len(stuck) == 0 {
			return
		}
		for _, h := range stuck {
			left = append(left, h.ID+": "+h.Reason)
			w.later(time.Minute, func() {
				w.job("steward", func(ctx context.Context, p *process) {
					if _, err := p.workflow.Act(ctx, policy.Person{Name: "stew"}, h.ID, workflow.Act{Do: workflow.Retry, Reason: "so it is"}); err != nil {
						w.note(p.name, workflow.Retry, "→ "+string(fault.ClassOf(err)), none)
					}
				})
			})
		}
		for _, x := range open {
			left = append(left, string(x.Record)+": "+x.Detail)
			w.steward(time.Second, "retry", x.Type+" of "+string(x.Record), func(ctx context.Context, f *steward.Flow) error {
				_, err := f.Act(ctx, policy.Person{Name: "stew"}, steward.Action{Exception: x.ID, Do: steward.Retry, Reason: "so it is"})
				return err
			})
		}
		w.pass(time.Minute)
		w.rest(false)
	}
	w.wrong("refused: people cannot have it tried again: %s", strings.Join(left, "; "))
}

// sold holds opportunities and accounts to what their runs have come to: none is open that could go on, none has done anything
// twice, and where one was undone nothing is left of it.
func (w *world) sold() {
	god, ctx := w.god, context.Background()
	text := func(r record.Record, field string) string {
		if v := r.Golden[field].Value; !v.IsNull() {
			return v.Raw()
		}
		return ""
	}
	follow := func(id record.ID) record.Record {
		if id.Validate() != nil {
			return record.Record{}
		}
		s, err := god.Follow(ctx, id)
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		return s.Record
	}
	customer := func(c record.Record) bool { // of whom no activation is wanted
		state := text(c, "activation")
		return state == "active" || state == "" && c.Views[record.NetSuite].Exists() && !c.Views[record.NetSuite].Made
	}
	erased := map[record.ID]bool{} // of whom people have deleted what was on NetSuite
	lost := func(id record.ID) bool {
		c := follow(id)
		return c.ID != "" && !customer(c) && !erased[c.ID]
	}
	waits := map[record.ID]bool{}
	for _, h := range w.openRuns() {
		r, err := god.Run(ctx, h.ID)
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		if waits[r.Subject] = text(follow(r.Subject), "customer") == "" && r.Step == "account"; !waits[r.Subject] {
			w.wrong("open: %s is %s at %s, and waits for %q (%s)", h.ID, h.State, h.Step, h.Wait, r.Reason)
		}
	}
	clear(w.ran)
	natives := map[record.ID]map[string][]*row{} // by record and platform, those that live
	for ref := range w.erased {
		if id, linked, err := god.Lookup(ctx, ref); err == nil && linked {
			erased[follow(id).ID] = true
		}
	}
	for _, s := range w.sites {
		for _, ref := range s.order {
			id, linked, err := god.Lookup(ctx, ref)
			if err != nil {
				w.wrong("cannot look: %v", err)
			}
			if s.rows[ref].gone || !linked {
				continue
			}
			id = follow(id).ID
			if natives[id] == nil {
				natives[id] = map[string][]*row{}
			}
			natives[id][s.name] = append(natives[id][s.name], s.rows[ref])
		}
	}
	for _, id := range w.records() {
		s := w.state(id)
		for _, run := range slices.Sorted(maps.Keys(s.Runs)) {
			r, err := god.Run(ctx, run)
			if err != nil || r.State.Ended() && (r.Subject == id || follow(record.ID(r.Kept["customer"])).ID == id) { // else it has turned to another; whoever looks at this one next forgets it
				w.wrong("looked at: %s by %s (%v)", id, run, err)
			}
		}
		c := s.Record
		if c.Into != "" {
			continue
		}
		if id.Entity() == "opportunity" {
			w.once(id)
			w.counted(id, lost)
			won, status, account := text(c, "stage") == "closed-won", text(c, "activationStatus"), follow(record.ID(text(c, "customer")))
			switch {
			case c.Views[record.Salesforce].Gone(): // there is nobody to tell
			case !won && status != "" && status != "active":
				w.wrong("undecided: %s is %q in stage %q", id, status, text(c, "stage"))
			case !won, slices.Contains([]string{"active", "rejected", "cancelled"}, status), status == "waiting" && waits[id], status == "" && (customer(account) || erased[account.ID]):
			default:
				w.wrong("undecided: %s was won for %q, which is %q, and is %q", id, account.ID, text(account, "activation"), status)
			}
			continue
		}
		there, activation, number := natives[id], text(c, "activation"), text(c, "number")
		ours := slices.ContainsFunc(there[record.NetSuite], func(r *row) bool { return r.made })
		told := fmt.Sprintf("%s is %q for %q with number %q, and is %d times on NetSuite (by us: %t), %d on Zendesk, %d on ServiceNow", id, activation, text(c, "activationFor"), number,
			len(there[record.NetSuite]), ours, len(there[record.Zendesk]), len(there[record.ServiceNow]))
		switch n := len(there[record.NetSuite]); {
		case text(c, "activationFor") != "", activation == "pending", activation != "active" && ours, activation == "rejected" && n == 0 && number != "" && !erased[id], n > 1, activation == "active" && n == 0 && !erased[id]:
			w.wrong("residue: %s", told)
		}
		for _, p := range c.Proposals {
			refused := p.Status == record.ProposalApproved && erased[id] // the ERP refused it, and people deleted the customer before it took it
			if p.Platform == record.Sorrel && (p.Status == record.ProposalOpen || p.Status == record.ProposalApproved) && !refused {
				w.wrong("residue: %s is still asked for of %s", p.ID, id)
			}
		}
		desk := 0
		if number != "" && (activation == "" || activation == "active") {
			desk = 1
		}
		held := slices.ContainsFunc(slices.Collect(maps.Values(c.Suspects)), func(s record.Suspicion) bool { return s.Holds }) // people are asked whether it is another's
		for _, p := range []string{record.Zendesk, record.ServiceNow} {
			if n := len(there[p]); n != desk && !erased[id] && !(held && n < desk) {
				w.wrong("desk: %s", told)
			}
		}
	}
}

// counted notes what became of the runs about an opportunity. What the last of them has activated is not lost.
func (w *world) counted(id record.ID, lost func(customer record.ID) bool) {
	for _, definition := range []string{"activation", "reopening", "account-activity"} {
		last, _, err := w.god.LatestRun(context.Background(), definition, id)
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		for n := range last.Number {
			r, err := w.god.Run(context.Background(), fmt.Sprintf("%s/%s/%d", definition, id, n+1))
			if err != nil {
				w.wrong("gone: run %d of %s: %v", n+1, id, err)
				continue
			}
			if c := record.ID(r.Kept["customer"]); definition == "activation" && n == last.Number-1 && r.State == workflow.Done && lost(c) {
				w.wrong("lost: %s was activated for %s, which is no customer", id, c)
			}
			switch {
			case definition != "activation":
				w.ran[definition]++
				continue
			case r.Answer != nil && len(r.Answer.Correct) > 0:
				w.ran["corrected"]++
			case r.Answer != nil:
				w.ran["answered"]++
			}
			w.ran[strings.TrimSuffix(fmt.Sprintf("%s, %s", r.State, cmp.Or(string(r.Cause), map[bool]string{true: "known"}[r.Kept["known"] != ""])), ", ")]++
		}
	}
}

// once holds the audit log of an opportunity to one line for each step of each run, and to one of each business event.
func (w *world) once(id record.ID) {
	log, err := w.god.Log(context.Background(), string(id))
	if err != nil {
		w.wrong("cannot look: %v", err)
	}
	seen := map[string]bool{}
	again := func(key string) {
		if seen[key] {
			w.wrong("again: %s twice", key)
		}
		seen[key] = true
	}
	for _, line := range log {
		for _, e := range line.Events {
			asks := slices.Contains([]string{"workflow-retried", "workflow-asks", "workflow-approved"}, e.Action) // as often as something else is wrong
			if strings.HasPrefix(e.Action, "workflow-") && !asks || strings.HasPrefix(e.Action, "step-") {
				again(e.Action + " " + e.Detail)
			}
		}
		for _, s := range line.Says {
			if s.What != "approval.requested" {
				again(s.What + " of " + s.Detail["run"] + " " + s.Detail["step"])
			}
		}
	}
}
