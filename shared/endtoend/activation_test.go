package endtoend

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sorrel/shared/fault"
	"sorrel/shared/flow/steward"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// tale is an account of sales, an opportunity of it, and what becomes of them.
type tale struct {
	governed
	name                  string
	account, deal, person string // Salesforce ids
}

// vat is a French tax number, another one for each n; wrong has a check digit that is.
func vat(n int, wrong bool) string {
	siren := 40000000 + n // 8 digits, and one that makes it right by ISO/IEC 7812-1
	sum := 0
	for i, rest := 0, siren; rest > 0; i, rest = i+1, rest/10 {
		d := rest % 10
		if i%2 == 0 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	siren = siren*10 + (10-sum%10)%10
	check := (12 + 3*(siren%97)) % 97
	if wrong {
		check = (check + 1) % 97
	}
	return fmt.Sprintf("FR%02d%09d", check, siren)
}

// enters lets sales enter the account, somebody who speaks for it, and an opportunity.
func (x *tale) enters(fields map[string]any) {
	x.Helper()
	account := map[string]any{"Name": x.name, "BillingStreet": "Rue Royale 1", "BillingCity": "Lille", "BillingPostalCode": "59000", "BillingCountry": "FR"}
	for k, v := range fields {
		account[k] = v
	}
	x.account = x.sales("Account", "", account)
	x.person = x.sales("Contact", "", map[string]any{"LastName": x.name, "Email": strings.ReplaceAll(x.name, " ", ".") + "@example.com", "AccountId": x.account})
	x.deal = x.sales("Opportunity", "", map[string]any{"Name": x.name, "AccountId": x.account, "StageName": "Negotiation/Review", "CloseDate": "2026-11-30", "Amount": 5000})
}

// sales is what somebody does in Salesforce.
func (x *tale) sales(object, id string, fields map[string]any) string {
	x.Helper()
	got, err := x.twins.Salesforce.Edit(object, id, fields)
	if err != nil {
		x.Fatalf("%s: %s %s: %v", x.name, object, id, err)
	}
	return got
}

func (x *tale) wins() { x.sales("Opportunity", x.deal, map[string]any{"StageName": "Closed Won"}) }
func (x *tale) customer() record.ID {
	return ledger.Mint("customer", record.Ref{Platform: record.Salesforce, Object: "Account", ID: x.account})
}
func (x *tale) contact() record.ID {
	return ledger.Mint("contact", record.Ref{Platform: record.Salesforce, Object: "Contact", ID: x.person})
}
func (x *tale) opportunity() record.ID {
	return ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: x.deal})
}

// run is the latest activation of an opportunity.
func (x *tale) run(deal string) flow.Shown {
	x.Helper()
	r, some, err := x.world.Ledger.LatestRun(x.Context(), "activation", ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: deal}))
	if err != nil || !some {
		x.Errorf("%s: there is no activation (%v)", x.name, err)
		return flow.Shown{}
	}
	shown, err := x.world.Workflow().Show(x.Context(), r.ID())
	if err != nil {
		x.Errorf("%s: %v", x.name, err)
	}
	return shown
}

// stands expects where an activation stands, and all of some words in why.
func (x *tale) stands(deal string, state workflow.State, step string, words ...string) flow.Shown {
	x.Helper()
	r := x.run(deal)
	why := r.Reason + "|" + r.Wait
	if r.Ask != nil {
		why += "|" + strings.Join(r.Ask.Reasons, "; ")
	}
	if r.State != state || r.Step != step {
		x.Errorf("%s is %s at %q, want %s at %q: %s", x.name, r.State, r.Step, state, step, why)
	}
	for _, w := range words {
		if !strings.Contains(why, w) {
			x.Errorf("%s: %q does not say %q", x.name, why, w)
		}
	}
	return r
}

func (x *tale) act(who string, a workflow.Act) error {
	x.Helper()
	_, err := x.world.Workflow().Act(x.Context(), x.who(who+"@northwind.example"), x.run(x.deal).ID, a)
	return err
}

func (x *tale) decides(approve bool, reason string, correct map[string]string) error {
	x.Helper()
	return x.act("fiona", workflow.Act{Do: workflow.Decide, Reason: reason, Answer: workflow.Answer{Approve: approve, Reason: reason, Correct: correct}})
}

func (x *tale) must(err error) {
	x.Helper()
	if err != nil {
		x.Errorf("%s: %v", x.name, err)
	}
}

// conflicts expects that an act comes too late, and the words that say why.
func (x *tale) conflicts(err error, words ...string) {
	x.Helper()
	if !fault.Is(err, fault.Conflict) {
		x.Errorf("%s: %v, want a conflict", x.name, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			x.Errorf("%s: %q does not say %q", x.name, err, w)
		}
	}
}

// called are the native records of a customer's name on a platform.
func (x *tale) called(platform string) (out []map[string]any) {
	for _, r := range everything(x.twins, platform, objects[platform]) {
		if r["name"] == x.name || r["companyName"] == x.name || r["Name"] == x.name {
			out = append(out, r)
		}
	}
	return out
}

// nowhere expects that no platform but Salesforce has anything of the account, nor of its people, and that sales reads why.
func (x *tale) nowhere(words ...string) {
	x.Helper()
	for _, p := range []string{record.NetSuite, record.Zendesk, record.ServiceNow} {
		if got := x.called(p); len(got) > 0 {
			x.Errorf("%s: %s has %v", x.name, p, got)
		}
		if x.record(x.contact()).Views[p].Exists() {
			x.Errorf("%s: %s has its contact", x.name, p)
		}
	}
	x.reads("Account", x.account, "ERP_Activation_Note__c", words...)
}

// reads expects words in a field of Salesforce.
func (x *tale) reads(object, id, field string, words ...string) {
	x.Helper()
	r, _ := x.twins.Salesforce.Get(object, id)
	for _, w := range words {
		if !strings.Contains(fmt.Sprint(r[field]), w) {
			x.Errorf("%s: %s says %v, not %q", x.name, field, r[field], w)
		}
	}
}

// everywhere expects one active customer on all platforms, known by its number, with its people.
func (x *tale) everywhere() {
	x.Helper()
	number := x.record(x.customer()).Golden["number"].Value.Raw()
	for p, field := range map[string]string{record.NetSuite: "entityId", record.Salesforce: "ERP_Customer_Number__c", record.ServiceNow: "u_erp_number"} {
		if got := x.called(p); len(got) != 1 || inside(got[0], field) != number || number == "" {
			x.Errorf("%s: %s has %v, want %s %q once", x.name, p, got, field, number)
		}
	}
	if got := x.called(record.Zendesk); len(got) != 1 || inside(got[0], "organization_fields.erp_number") != number {
		x.Errorf("%s: Zendesk has %v", x.name, got)
	}
	if got := x.called(record.NetSuite); len(got) == 1 && (inside(got[0], "custentity_sorrel_activation") != "active" || inside(got[0], "creditHoldOverride.id") != "AUTO") {
		x.Errorf("%s: NetSuite has %v", x.name, got[0])
	}
	for _, p := range platforms {
		if !x.record(x.contact()).Views[p].Exists() {
			x.Errorf("%s: its contact is not on %s: %+v", x.name, p, x.state(x.contact()).Due[p])
		}
	}
	x.reads("Opportunity", x.deal, "Sorrel_Status__c", "Active")
	x.reads("Account", x.account, "ERP_Activation__c", "Active")
}

func (x *tale) state(id record.ID) ledger.State {
	x.Helper()
	s, err := x.world.Ledger.Load(x.Context(), id)
	if err != nil {
		x.Fatal(err)
	}
	return s[id]
}

// Activations with the shipped policy over the twins, all in one world, step by step: each ends in a defined state, with a
// reason that a person understands.
func TestActivations(t *testing.T) {
	t.Parallel()
	g := governed{stageWith(t, embedded(t.TempDir()), startTwins(t), ""), map[string]int{}}
	var tales [][]func()
	tell := func(name string, steps func(x *tale) []func()) {
		x := &tale{governed: g, name: name}
		tales = append(tales, steps(x))
	}
	n := 0
	good := func() string { n++; return vat(n, false) }
	bad := func() map[string]any { n++; return map[string]any{"Tax_Id__c": vat(n, true)} }
	tax := func(number string) map[string]any { return map[string]any{"Tax_Id__c": number} }
	pending := func(x *tale) { // in NetSuite alone, and none of its people
		x.stands(x.deal, workflow.Running, "review", "the tax number cannot be right")
		if got := x.called(record.NetSuite); len(got) != 1 || inside(got[0], "custentity_sorrel_activation") != "pending" || inside(got[0], "creditHoldOverride.id") != "ON" {
			x.Errorf("%s: NetSuite has %v", x.name, got)
		}
		if x.record(x.contact()).Views[record.NetSuite].Exists() || len(x.called(record.Zendesk))+len(x.called(record.ServiceNow)) > 0 {
			x.Errorf("%s is not alone", x.name)
		}
		x.reads("Opportunity", x.deal, "Sorrel_Status__c", "Review")
		x.reads("Account", x.account, "ERP_Activation_Note__c", "the tax number cannot be right")
	}

	tell("Clean", func(x *tale) []func() {
		return []func(){func() { x.enters(tax(good())) }, x.wins, func() {
			r := x.stands(x.deal, workflow.Done, "")
			if took := r.Ended.Sub(r.Began); took <= 0 || took > soon {
				t.Errorf("it took %s", took)
			}
			x.everywhere()
		}}
	})
	tell("Corrected", func(x *tale) []func() {
		fix := map[string]string{"taxId": good()}
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			x.must(x.decides(true, "from their invoice", fix))
			x.must(x.decides(true, "from their invoice", fix)) // again
			x.conflicts(x.decides(false, "they do not pay", nil), "fiona@northwind.example has decided", "approved, from their invoice")
		}, func() {
			x.stands(x.deal, workflow.Done, "")
			x.everywhere()
			x.reads("Account", x.account, "Tax_Id__c", fix["taxId"])
			x.conflicts(x.decides(false, "they do not pay", nil), "it ended at", "as done")
		}}
	})
	tell("Rejected", func(x *tale) []func() {
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			x.must(x.decides(false, "they do not pay", nil))
		}, func() {
			x.stands(x.deal, workflow.Undone, "", "rejected by fiona@northwind.example: they do not pay")
			x.nowhere("rejected by fiona@northwind.example: they do not pay")
			x.reads("Opportunity", x.deal, "Sorrel_Status__c", "Rejected")
			x.reads("Opportunity", x.deal, "Sorrel_Note__c", "they do not pay")
			x.must(x.decides(false, "they do not pay", nil)) // again
			x.conflicts(x.decides(true, "they do, after all", nil), "it ended at", "rejected by fiona@northwind.example: they do not pay")
		}}
	})
	tell("Reopened", func(x *tale) []func() {
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			x.sales("Opportunity", x.deal, map[string]any{"StageName": "Negotiation/Review"})
		}, func() {
			x.stands(x.deal, workflow.Undone, "", "the opportunity was reopened: it is in stage negotiation")
			x.nowhere("the opportunity was reopened")
			x.sales("Account", x.account, tax(good()))
			x.wins()
		}, func() {
			x.stands(x.deal, workflow.Done, "")
			x.everywhere()
		}}
	})
	tell("Nameless", func(x *tale) []func() {
		return []func(){func() {
			x.enters(tax(good()))
			x.sales("Opportunity", x.deal, map[string]any{"AccountId": nil})
		}, x.wins, func() {
			x.stands(x.deal, workflow.Running, "account", "an account on the opportunity")
			x.reads("Opportunity", x.deal, "Sorrel_Note__c", "It was won without an account: name one, and its activation begins.")
			x.nowhere()
			x.sales("Opportunity", x.deal, map[string]any{"AccountId": x.account})
		}, func() {
			x.stands(x.deal, workflow.Done, "")
			x.everywhere()
		}}
	})
	tell("Merged", func(x *tale) []func() {
		winner := ""
		return []func(){func() {
			x.enters(bad())
			winner = x.sales("Account", "", map[string]any{"Name": "Merged and more", "BillingCountry": "FR"})
		}, x.wins, func() {
			pending(x)
			if err := x.twins.Salesforce.Merge("Account", winner, x.account); err != nil {
				t.Fatal(err)
			}
		}, func() {
			x.account = winner
			pending(x)
			x.must(x.decides(true, "", map[string]string{"taxId": good()}))
		}, func() {
			x.stands(x.deal, workflow.Done, "")
			x.everywhere()
		}}
	})
	tell("Dropped account", func(x *tale) []func() {
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			if err := x.twins.Salesforce.Delete("Account", x.account); err != nil {
				t.Fatal(err)
			}
		}, func() {
			x.stands(x.deal, workflow.Undone, "", "was deleted")
			x.nowhere()
		}}
	})
	tell("Dropped deal", func(x *tale) []func() {
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			if err := x.twins.Salesforce.Delete("Opportunity", x.deal); err != nil {
				t.Fatal(err)
			}
		}, func() {
			x.stands(x.deal, workflow.Undone, "", "the opportunity was deleted")
			x.nowhere("the opportunity was deleted")
		}}
	})
	tell("Twice", func(x *tale) []func() {
		second := ""
		return []func(){func() {
			x.enters(bad())
			second = x.sales("Opportunity", "", map[string]any{"Name": "Twice, again", "AccountId": x.account, "StageName": "Closed Won", "CloseDate": "2026-11-30", "Amount": 700})
		}, x.wins, func() {
			x.stands(second, workflow.Running, "review", "the tax number cannot be right")
			x.stands(x.deal, workflow.Running, "account", "the activation of the account for opportunity/")
			x.reads("Opportunity", x.deal, "Sorrel_Note__c", "Another opportunity of the account is being activated.")
			x.sales("Opportunity", second, map[string]any{"StageName": "Closed Lost"})
		}, func() {
			x.stands(second, workflow.Undone, "", "the opportunity was reopened: it is in stage closed-lost")
			pending(x)
			x.must(x.decides(true, "", map[string]string{"taxId": good()}))
		}, func() {
			x.stands(x.deal, workflow.Done, "")
			x.everywhere()
		}}
	})
	for name, number := range map[string]string{"Nothing": "", "Unicode": "№ 🦑𝟙𝟚𝟛", "Endless": strings.Repeat("9", 40)} {
		says := "the tax number cannot be right"
		if number == "" {
			says = "there is no tax number"
		}
		tell(name, func(x *tale) []func() {
			return []func(){func() { x.enters(tax(number)) }, x.wins, func() {
				r := x.stands(x.deal, workflow.Running, "review", says)
				if r.Ask == nil || len(strings.Join(r.Ask.Reasons, ";")) > 300 {
					t.Errorf("%s: %+v", name, r.Ask)
				}
				x.must(x.decides(true, "", map[string]string{"taxId": strings.Repeat("\u202e9", 200)}))
			}, func() {
				x.stands(x.deal, workflow.Running, "review", "the correction of taxId is not usable: it has 400 characters")
				x.must(x.decides(true, "as they are", nil))
			}, func() { x.stands(x.deal, workflow.Done, "") }}
		})
	}
	tell("Known", func(x *tale) []func() {
		known := ""
		return []func(){func() {
			var err error
			if known, err = x.twins.NetSuite.Edit("customer", "", map[string]any{"entityId": "K-1", "companyName": x.name, "vatRegNumber": "DE136695976", "creditHoldOverride": ref("ON"),
				"addressBook": billingIn("Allee 1", "Köln", "50667", "DE")}); err != nil {
				t.Fatal(err)
			}
			x.enters(map[string]any{"Tax_Id__c": "DE 136 695 976", "BillingCountry": "Germany"})
		}, x.wins, func() {
			if _, some, err := x.world.Ledger.LatestRun(t.Context(), "activation", x.opportunity()); some || err != nil {
				t.Errorf("a customer is activated (%v)", err)
			}
			if got := x.called(record.NetSuite); len(got) != 1 || inside(got[0], "id") != known || inside(got[0], "creditHoldOverride.id") != "ON" {
				t.Errorf("NetSuite has %v", got)
			}
			if a, _ := x.twins.Salesforce.Get("Account", x.account); a["ERP_Customer_Number__c"] != "K-1" {
				t.Errorf("Salesforce has %v", a)
			}
		}}
	})
	tell("Ordered", func(x *tale) []func() {
		order := ""
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			order = x.edit("salesOrder", "", orderFields(x.record(x.customer()).Views[record.NetSuite].ID, "SO-17"))
		}, func() { x.must(x.decides(false, "they do not pay", nil)) }, func() {
			x.stands(x.deal, workflow.Stuck, "pending", "NetSuite refuses to delete the customer", "dependent records", "or skip it")
			x.must(x.act("stewart", workflow.Act{Do: workflow.Retry}))
		}, func() {
			x.stands(x.deal, workflow.Stuck, "pending", "NetSuite refuses to delete the customer")
			if err := x.twins.NetSuite.Delete("salesOrder", order); err != nil {
				t.Fatal(err)
			}
			x.again(x.customer())
		}, func() { x.must(x.act("stewart", workflow.Act{Do: workflow.Retry})) }, func() {
			x.stands(x.deal, workflow.Undone, "", "rejected by fiona@northwind.example: they do not pay")
			x.nowhere("they do not pay")
		}}
	})
	tell("Skipped", func(x *tale) []func() {
		return []func(){func() { x.enters(bad()) }, x.wins, func() {
			pending(x)
			x.edit("salesOrder", "", orderFields(x.record(x.customer()).Views[record.NetSuite].ID, "SO-18"))
		}, func() { x.must(x.decides(false, "they do not pay", nil)) }, func() {
			x.stands(x.deal, workflow.Stuck, "pending", "NetSuite refuses to delete the customer")
			x.must(x.act("stewart", workflow.Act{Do: workflow.Skip, Reason: "the order stays"}))
		}, func() {
			x.stands(x.deal, workflow.Undone, "")
			if got := x.called(record.NetSuite); len(got) != 1 || inside(got[0], "custentity_sorrel_activation") != "rejected" {
				t.Errorf("NetSuite has %v", got)
			}
			x.reads("Opportunity", x.deal, "Sorrel_Status__c", "Rejected")
		}}
	})

	for round, some := 0, true; some; round++ {
		some = false
		g.nextSecond()
		for _, steps := range tales {
			if round < len(steps) {
				some = true
				steps[round]()
			}
		}
		g.settle(2 * soon)
	}
	if got := g.troubles(); !slices.Equal(got, []string{"conflict netsuite", "refused-write netsuite"}) { // an order that is deleted, a customer that has one
		t.Errorf("open exceptions: %q", got)
	}
}

// again has a refused write about a record tried again, as a steward does.
func (x *tale) again(about record.ID) {
	x.Helper()
	open, err := x.world.Ledger.Exceptions(x.Context(), false)
	if err != nil {
		x.Fatal(err)
	}
	for _, e := range open {
		if e.Record == about {
			_, err = x.world.Steward().Act(x.Context(), x.who("stewart@northwind.example"), steward.Action{Exception: e.ID, Do: "retry"})
			x.must(err)
			return
		}
	}
	x.Errorf("%s: no exception about %s", x.name, about)
}
