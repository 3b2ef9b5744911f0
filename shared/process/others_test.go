package process

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/infra/config"
	"sorrel/shared/contract/source"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// rec is a record with golden texts; what looks like a number is one.
func rec(id record.ID, pairs ...string) record.Record {
	r := record.Record{ID: id, Golden: map[string]record.Golden{}, Views: map[string]record.View{record.Zendesk: {Ref: record.Ref{Platform: record.Zendesk, ID: "1"}}}}
	for i := 0; i < len(pairs); i += 2 {
		v := record.TextValue(pairs[i+1])
		if d, err := decimal.NewFromString(pairs[i+1]); err == nil {
			v = record.NumberValue(d)
		}
		r.Golden[pairs[i]] = record.Golden{Value: v}
	}
	return r
}

// when compiles a condition about the shipped contracts.
func when(t *testing.T, text string, about ...string) condition {
	t.Helper()
	set, problems := policy.Load(config.FS, Starts)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var ps source.Problems
	root, _ := source.Parse("workflows.yaml", []byte("when: "+text), &ps)
	c := settings{ps: &ps, set: set, about: about}.condition(root.Get("when"))
	if ps.Len() > 0 {
		t.Fatal(ps.Sorted())
	}
	return c
}

// moves advances a run with what its steps wanted set, until nothing is, and returns what was set by record and field.
func moves(t *testing.T, d workflow.Definition, r *workflow.Run, f workflow.Facts) (set map[string]string, says []workflow.Saying) {
	t.Helper()
	set = map[string]string{}
	for range 20 {
		next, out := d.Advance(*r, f)
		rests := reflect.DeepEqual(next, *r)
		*r = next
		says = append(says, out.Say...)
		for _, s := range out.Say {
			if !slices.Contains(Says(), s.What) {
				t.Errorf("%s is no business event that anybody may be told of", s.What)
			}
		}
		if rests && len(out.Set) == 0 {
			return set, says
		}
		for _, s := range out.Set {
			set[s.Record.Entity()+"."+s.Field] = s.Value.Raw()
			at := f.Record(s.Record)
			at.ID = s.Record
			assigned := map[string]record.Assigned{s.Field: {Value: s.Value}}
			golden := map[string]record.Golden{s.Field: {Value: s.Value}}
			for k, v := range at.Assigned {
				if k != s.Field {
					assigned[k] = v
				}
			}
			for k, v := range at.Golden {
				if k != s.Field {
					golden[k] = v
				}
			}
			at.Assigned, at.Golden = assigned, golden
			name := s.Record.Entity()
			if s.Record == f.Subject.ID {
				f.Subject = at
				continue
			}
			f.Others[name] = at
		}
	}
	t.Fatal("it does not come to rest")
	return nil, nil
}

func TestPayment(t *testing.T) {
	t.Parallel()
	p := payment{patience: day, lift: when(t, "customer.balance == null or customer.balance <= 100", "invoice", "customer")}
	d := p.definition()
	f := workflow.Facts{Subject: rec("invoice/i1", "number", "INV-1", "status", "open", "total", "500", "customer", "customer/c1"), Others: map[string]record.Record{}, Due: map[record.ID][]string{}, Now: start}
	if !d.Starts(f) {
		t.Fatal("an open invoice is not waited for")
	}
	run := d.Begin("invoice/i1", 1, "t", start)
	if set, says := moves(t, d, &run, f); len(set)+len(says) > 0 || run.Step != "paid" || len(d.Needs(workflow.Facts{Run: run, Subject: f.Subject})) > 0 || !run.Look.IsZero() {
		t.Fatalf("%v, %v, %+v", set, says, run)
	}
	f.Subject = rec("invoice/i1", "number", "INV-1", "status", "paid", "total", "500", "customer", "customer/c1")
	f.Others["customer"] = rec("customer/c1", "creditHold", "on", "balance", "500", "activation", active)
	_, says := moves(t, d, &run, f)
	if len(says) != 1 || says[0].What != "invoice.paid" || run.Step != "hold" || !run.Look.Equal(start.Add(day)) {
		t.Fatalf("%v, %+v", says, run)
	}
	later := run
	f.Others["customer"] = rec("customer/c1", "creditHold", "on", "balance", "0", "activation", active)
	next, out := d.Advance(run, f)
	if len(out.Set) != 1 || out.Set[0] != (workflow.Set{Record: "customer/c1", Field: "creditHold", Value: record.TextValue("auto")}) {
		t.Fatalf("%+v", out)
	}
	f.Others["customer"] = rec("customer/c1", "creditHold", "auto", "balance", "0", "activation", active)
	f.Due["customer/c1"] = []string{record.Zendesk}
	if _, says = moves(t, d, &next, f); next.Step != "tell" || len(says) > 0 {
		t.Fatalf("%+v", next)
	}
	delete(f.Due, "customer/c1")
	if _, says = moves(t, d, &next, f); next.State != workflow.Done || says[0].What != "customer.released" {
		t.Fatalf("%+v, %v", next, says)
	}
	f.Others["customer"] = rec("customer/c1", "creditHold", "on", "balance", "500")
	f.Now = start.Add(day)
	if set, says := moves(t, d, &later, f); later.State != workflow.Done || len(set)+len(says) > 0 {
		t.Errorf("other invoices keep the hold: %v, %v, %+v", set, says, later)
	}
}

func TestPaymentLeavesPendingCustomersOnHold(t *testing.T) {
	t.Parallel()
	d := payment{patience: day, lift: when(t, "true == true", "invoice", "customer")}.definition()
	run := d.Begin("invoice/i1", 1, "t", start)
	f := workflow.Facts{Subject: rec("invoice/i1", "status", "paid", "customer", "customer/c1"), Others: map[string]record.Record{"customer": rec("customer/c1", "creditHold", "on", "activation", pending)}, Now: start}
	if set, _ := moves(t, d, &run, f); len(set) > 0 || run.State != workflow.Done {
		t.Errorf("%v, %+v", set, run)
	}
}

func TestActivity(t *testing.T) {
	t.Parallel()
	d := activityProcess().define(settings{ps: &source.Problems{}})[0]
	deal := rec("opportunity/p1", "stage", "proposal", "amount", "100000", "currency", "EUR", "closeOn", "2026-12-01", "customer", "customer/b")
	f := workflow.Facts{Subject: deal, Run: workflow.Run{Kept: keep("customer", "customer/a")}, Now: start,
		Others: map[string]record.Record{"customer": rec("customer/b"), "before": rec("customer/a", "salesContext", "1 open opportunity, 100000.00 EUR, next close 2026-12-01")},
		Lists:  map[string][]record.Record{"customer": {deal, rec("opportunity/p2", "stage", "qualification", "amount", "20000", "currency", "USD"), rec("opportunity/p3", "stage", "closed-won", "amount", "7")}}}
	if !d.Starts(f) {
		t.Fatal("nothing is to be told")
	}
	got := map[record.ID]string{}
	for _, s := range d.Steps[0].Do(f).Set {
		got[s.Record] = s.Value.Raw()
	}
	if got["customer/b"] != "2 open opportunities, 100000.00 EUR, 20000.00 USD, next close 2026-12-01" || got["customer/a"] != "" {
		t.Errorf("%v", got)
	}
}

// TestBook: the shipped configuration has its workflows, and mistakes in workflows.yaml are told all at once.
func TestBook(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{}
	for _, dir := range []string{"contract", "policy", "mapping"} {
		entries, err := config.FS.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data, err := config.FS.ReadFile(dir + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			fsys[dir+"/"+e.Name()] = &fstest.MapFile{Data: data}
		}
	}
	for _, name := range []string{"people.yaml", "workflows.yaml"} {
		data, err := config.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fsys[name] = &fstest.MapFile{Data: data}
	}
	book := func() []string {
		set, problems := policy.Load(fsys, Starts)
		if len(problems) == 0 {
			_, problems = Book(set)
		}
		var out []string
		for _, p := range problems {
			out = append(out, p.String())
		}
		return out
	}
	if got := book(); len(got) > 0 {
		t.Fatal(strings.Join(got, "\n"))
	}
	fsys["workflows.yaml"] = &fstest.MapFile{Data: []byte(`activation:
  review:
    - when: opportunity.amount > "many"
      reason: x
    - when: customer.nothing == 1
  remind: [2d, 1d]
  expire: soon
  since: yesterday
payments: {}
`)}
	got := book()
	for _, want := range []string{"workflows.yaml:3:", "workflows.yaml:5:", "workflows.yaml:6:", "workflows.yaml:7:", "workflows.yaml:8:", "workflows.yaml:9:"} {
		if !slices.ContainsFunc(got, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("nothing is said about %s:\n%s", want, strings.Join(got, "\n"))
		}
	}
	for text, want := range map[string]string{
		"activation: {expire: 2d}":                "1:14: an activation expires before the last reminder",
		"activation: {remind: [1d, 20d]}":         "1:14: an activation expires before the last reminder",
		"activation: {late: 12}":                  `1:20: late: "12" is no time`,
		"activation: {review: yes}":               "1:22: review must be a list, this is a text",
		"activation: {review: [{reason: x}]}":     "1:24: a reason to review has no condition",
		"activation: {since: 1.11.2026}":          `1:21: since: "1.11.2026" is no day`,
		"account-activity: {expire: 2d}":          `1:20: unknown key "expire" in the settings of a workflow; there is none`,
		"escalation: {when: case.urgent == true}": `unknown name "case.urgent"`,
	} {
		fsys["workflows.yaml"] = &fstest.MapFile{Data: []byte(text)}
		if got := book(); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: want %s, got %q", text, want, got)
		}
	}
	delete(fsys, "workflows.yaml")
	fsys["subscribers.yaml"] = &fstest.MapFile{Data: []byte("subscribers:\n  crm: {to: print, events: [invoice.payed, 'case.*', \"*\", 'bill.*']}\n")}
	if got := book(); len(got) != 2 || !strings.Contains(got[0], `subscribers.yaml:2:29: nothing says "invoice.payed"; did you mean "invoice.paid"?`) || !strings.Contains(got[1], `nothing says "bill.*"`) {
		t.Errorf("%q", got)
	}
	delete(fsys, "subscribers.yaml")
	if got := book(); len(got) > 0 {
		t.Errorf("both files are optional: %v", got)
	}
	customers := string(fsys["policy/customer.yaml"].Data)
	fsys["policy/customer.yaml"] = &fstest.MapFile{Data: []byte(strings.NewReplacer("[activation, activationNote, activationFor]", "[activation, activationFor]",
		"\nfields:\n", "\nfields:\n  activationNote: {assign: name, targets: [salesforce]}\n").Replace(customers))}
	if got := book(); !slices.ContainsFunc(got, func(p string) bool {
		return strings.Contains(p, "sets customer.activationNote, which is not its to set")
	}) {
		t.Errorf("%v", got)
	}
}
func TestEscalation(t *testing.T) {
	t.Parallel()
	e := escalation{notify: 4 * time.Hour, when: when(t, `case.priority == "urgent" or (customer.supportTier == "vip" and case.priority == "high")`, "case", "customer")}
	d := e.definition()
	kase := rec("case/k1", "number", "4711", "subject", "Nothing works", "status", "open", "priority", "high", "customer", "customer/c1")
	cust := rec("customer/c1", "name", "Alfreds", "number", "C-1", "supportTier", "standard", "creditHold", "on", "balance", "900.5", "currency", "EUR", "salesOwner", "005A")
	f := workflow.Facts{Subject: kase, Others: map[string]record.Record{"customer": cust}, Due: map[record.ID][]string{}, Now: start, Lists: map[string][]record.Record{
		"invoices":      {rec("invoice/i1", "status", "open", "amountDue", "100", "currency", "EUR"), rec("invoice/i2", "status", "paid"), rec("invoice/i3", "status", "open", "amountDue", "50.5", "currency", "EUR")},
		"contracts":     {rec("contract/k1", "number", "K-1", "status", "active", "tier", "premium", "endsOn", "2027-01-01")},
		"orders":        {rec("order/o1", "number", "SO-1")},
		"shipments 0":   {rec("shipment/s1", "number", "SH-1", "status", "shipped", "shippedOn", "2026-11-01")},
		"opportunities": {rec("opportunity/p1", "stage", "proposal", "amount", "5000", "currency", "EUR", "closeOn", "2026-12-24")},
	}}
	if d.Starts(f) {
		t.Fatal("a high case of a standard customer is escalated")
	}
	f.Others["customer"] = rec("customer/c1", "name", "Alfreds", "number", "C-1", "supportTier", "vip", "creditHold", "on", "balance", "900.5", "currency", "EUR", "salesOwner", "005A")
	if !d.Starts(f) {
		t.Fatal("a high case of a VIP is not escalated")
	}
	run := d.Begin(kase.ID, 1, "t", start)
	set, says := moves(t, d, &run, f)
	for _, want := range []string{"C-1, credit hold on, balance 900.50 EUR, overdue unknown", "Open invoices: 2, 150.50 EUR", "Contract K-1: active, premium, until 2027-01-01", "Shipment SH-1 of order SO-1: shipped 2026-11-01"} {
		if !strings.Contains(set["case.erpContext"], want) {
			t.Errorf("not told: %s; told: %s", want, set["case.erpContext"])
		}
	}
	if !strings.Contains(set["case.crmContext"], "1 open opportunity, 5000.00 EUR, next close 2026-12-24") || set["case.escalation"] != escalated {
		t.Errorf("%v", set)
	}
	if set["task.owner"] != "005A" || set["task.customer"] != "customer/c1" || set["task.dueOn"] != "2026-11-02" || !strings.Contains(set["task.subject"], "Nothing works") {
		t.Errorf("%v", set)
	}
	if len(says) != 1 || says[0].What != "case.escalated" || says[0].Detail["customerNumber"] != "C-1" || run.State != workflow.Running {
		t.Errorf("%+v, %+v", says, run)
	}
	for field := range set { // financial and commercial master data are nobody's business here
		if entity, _, _ := strings.Cut(field, "."); entity != "case" && entity != "task" {
			t.Errorf("it sets %s", field)
		}
	}
	task := f.Others["task"]
	task.ID = run.Makes("task", "owner")
	f.Others["task"] = task
	f.Subject = rec("case/k1", "status", "open", "escalation", escalated, "erpContext", set["case.erpContext"])
	task.Views = map[string]record.View{record.Salesforce: {Ref: record.Ref{Platform: record.Salesforce, ID: "00T1"}}}
	f.Others["task"] = task
	if moves(t, d, &run, f); run.State != workflow.Done {
		t.Errorf("%+v", run)
	}
	if d.Starts(f) {
		t.Error("it is escalated twice")
	}
	f.Subject = rec("case/k1", "status", "solved", "priority", "high", "escalation", escalated)
	calm := e.calm()
	if !calm.Starts(f) {
		t.Fatal("a solved case stays escalated")
	}
	run = calm.Begin(kase.ID, 1, "t", start)
	if set, _ := moves(t, calm, &run, f); set["case.escalation"] != handled || run.State != workflow.Done {
		t.Errorf("%v, %+v", set, run)
	}
}
