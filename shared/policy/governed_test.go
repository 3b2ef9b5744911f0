package policy_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/shopspring/decimal"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/match"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

func governed(t testing.TB) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile("testdata/governed.txtar")
	if err != nil {
		t.Fatal(err)
	}
	return small(t, a.Files...)
}

// strip takes away what has an own test.
func strip(r record.Rule) record.Rule {
	r.Eval, r.Approval, r.At, r.Solid = nil, nil, "", false
	return r
}

func TestRulesOfEachKind(t *testing.T) {
	t.Parallel()
	rules := load(t, governed(t)).Rules("thing")
	ns, sf := record.NetSuite, record.Salesforce
	both, accept := []string{ns, sf}, map[string]record.Path{ns: record.Accept, sf: record.Accept}
	for field, want := range map[string]record.Rule{
		"number":   {Kind: record.Owner, Owner: ns, Text: "owner netsuite", Group: "number", Targets: []string{sf}, Paths: map[string]record.Path{sf: record.Revert}},
		"status":   {Kind: record.Owner, Owner: ns, Text: "owner netsuite", Meanwhile: []string{sf}, Group: "state", Targets: []string{sf}, Paths: map[string]record.Path{sf: record.Propose}},
		"short":    {Kind: record.MostComplete, Order: both, Set: []string{"long", "short"}, Text: "most-complete of netsuite, salesforce", Group: "texts", Targets: both, Paths: accept},
		"first":    {Kind: record.First, Order: []string{sf, ns}, Text: "first of salesforce, netsuite", Group: "first", Targets: both, Paths: accept},
		"held":     {Kind: record.Unanimous, Order: both, Text: "hold of netsuite, salesforce", Group: "held", Targets: both, Paths: accept},
		"longest":  {Kind: record.Longest, Order: both, Text: "longest of netsuite, salesforce", Group: "longest", Targets: both, Paths: accept},
		"complete": {Kind: record.MostComplete, Order: both, Set: []string{"complete", "number"}, Text: "most-complete of netsuite, salesforce", Group: "complete", Targets: both, Paths: accept},
		"either":   {Kind: record.Expr, Order: both, Text: `expr if length(netsuite ?? "") >= 2 then net…`, Group: "either", Targets: both, Paths: accept},
		"label":    {Kind: record.Assign, Text: `assign trim(short) + "-" + text(total)`, Group: "label", Targets: both, Paths: map[string]record.Path{ns: record.Ignore, sf: record.Revert}},
		"stage":    {Kind: record.Assign, Text: "assign workflow", Group: "stage", Targets: both, Paths: map[string]record.Path{ns: record.Revert, sf: record.Revert}},
	} {
		if got := strip(rules.Fields[field]); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v\nwant %+v", field, got, want)
		}
	}
	if rules.Fields["stage"].Eval != nil {
		t.Error("a workflow's field has an expression")
	}
}

func TestWholeRecords(t *testing.T) {
	t.Parallel()
	s := load(t, governed(t))
	r := s.Rules("thing")
	if got := []any{r.Platforms, r.Origins, r.Copies, r.Strangers, r.Deletes, r.Deactivated, r.DeletesAt}; !reflect.DeepEqual(got, []any{
		[]string{"netsuite", "salesforce"}, []string{"salesforce"}, map[string]record.Copy{}, []string{"netsuite"},
		map[string]record.Deletion{"salesforce": record.DeleteProposed},
		map[string]record.Value{"status": record.TextValue("closed"), "total": record.NumberValue(decimal.Zero)}, "policy/thing.yaml:7:1"}) {
		t.Errorf("%v", got)
	}
	want := match.Rules{
		{Name: "number", Parts: []match.Part{{Field: "number", Normaliser: "exact"}}, Strong: true, At: "policy/thing.yaml:10:3"},
		{Name: "short", Parts: []match.Part{{Field: "short", Normaliser: "text"}, {Field: "long", Normaliser: "phone", Country: "short"}}, At: "policy/thing.yaml:11:3"},
	}
	if got := s.Match("thing"); !reflect.DeepEqual(got, want) {
		t.Errorf("match %+v", got)
	}
	plain := load(t, small(t))
	if r := plain.Rules("thing"); r.Copies != nil || !reflect.DeepEqual(r.Origins, []string{"netsuite"}) || len(r.Deletes) != 0 || plain.Match("thing") != nil || plain.Match("nothing") != nil {
		t.Errorf("defaults %+v", r)
	}
	all := small(t)
	all["policy/thing.yaml"].Data = []byte(strings.Replace(string(all["policy/thing.yaml"].Data), "deletes: ignore", "deletes: propagate", 1))
	if r := load(t, all).Rules("thing"); !reflect.DeepEqual(r.Deletes, map[string]record.Deletion{"netsuite": record.DeletePropagated, "salesforce": record.DeletePropagated}) {
		t.Errorf("one word for all: %v", r.Deletes)
	}
}

func TestConditionalCopies(t *testing.T) {
	t.Parallel()
	fsys := governed(t)
	fsys["policy/thing.yaml"].Data = []byte(strings.Replace(string(fsys["policy/thing.yaml"].Data), "copies: []",
		"copies: {netsuite: {when: golden.stage == \"pending\", withdraw: golden.stage == \"rejected\", alone: golden.stage != null}}", 1))
	s := load(t, fsys)
	c, some := s.Rules("thing").Copies["netsuite"]
	if _, other := s.Rules("thing").Copies["salesforce"]; !some || other || c.When == nil || c.Withdraw == nil || c.When.At != "policy/thing.yaml:5:27" {
		t.Fatalf("%+v %+v", c.When, c.Withdraw)
	}
	for stage, want := range map[string][2]bool{"pending": {true, false}, "rejected": {false, true}, "": {false, false}} {
		look := func(name string) record.Value {
			if name != "golden.stage" || stage == "" {
				return record.NullValue()
			}
			return record.TextValue(stage)
		}
		when, err := c.When.Holds(look)
		withdraw, err2 := c.Withdraw.Holds(look)
		if err != nil || err2 != nil || when != want[0] || withdraw != want[1] {
			t.Errorf("%q: created %v (%v), withdrawn %v (%v)", stage, when, err, withdraw, err2)
		}
	}
	const says = `created there when golden.stage == "pending" (policy/thing.yaml:5:27), withdrawn when golden.stage == "rejected" (policy/thing.yaml:5:64), nothing new refers to it there when golden.stage != null (policy/thing.yaml:5:99)`
	if text, _ := s.Explain("thing", "short"); !strings.Contains(text, says) {
		t.Errorf("%s", text)
	}
}

// A deletion can be what proposes, without any path that does.
func TestDeletionAloneProposes(t *testing.T) {
	t.Parallel()
	fsys := governed(t)
	fsys["policy/thing.yaml"].Data = []byte(strings.Replace(string(fsys["policy/thing.yaml"].Data), "    paths: {salesforce: propose}\n    approval:", "    paths: {salesforce: revert}\n    approval:", 1))
	for _, field := range []string{"status", "total"} {
		if r := load(t, fsys).Rules("thing").Fields[field]; r.Paths[record.Salesforce] != record.Revert || r.Approval == nil || len(r.Approval.Auto) != 2 {
			t.Errorf("%s: %+v", field, r)
		}
	}
}

func look(values map[string]any) record.Lookup {
	return func(name string) record.Value {
		switch v := values[name].(type) {
		case string:
			return record.TextValue(v)
		case int:
			return record.NumberValue(decimal.NewFromInt(int64(v)))
		}
		return record.NullValue()
	}
}

func TestComputedValues(t *testing.T) {
	t.Parallel()
	rules := load(t, governed(t)).Rules("thing")
	for _, tc := range []struct {
		field  string
		values map[string]any
		want   record.Value // absent: refused
	}{
		{"either", map[string]any{"netsuite": "ab", "salesforce": "c"}, record.TextValue("ab")},
		{"either", map[string]any{"netsuite": "a", "salesforce": "c"}, record.TextValue("c")},
		{"either", map[string]any{"netsuite": "a"}, record.NullValue()},
		{"either", map[string]any{"netsuite": "longer than nine characters"}, record.Value{}},
		{"label", map[string]any{"short": " a ", "total": 5}, record.TextValue("a-5")},
		{"label", map[string]any{"short": " a "}, record.NullValue()},
		{"label", map[string]any{"short": "123456789", "total": 5}, record.Value{}},
	} {
		got, err := rules.Fields[tc.field].Eval(look(tc.values))
		if got != tc.want || (err != nil) != tc.want.IsAbsent() || err != nil && !fault.Is(err, fault.Contract) {
			t.Errorf("%s of %v: %v %v", tc.field, tc.values, got, err)
		}
	}
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	rules := load(t, governed(t)).Rules("thing")
	state, seen := rules.Fields["status"].Approval, rules.Fields["seenAt"].Approval
	if state == nil || seen == nil || state != rules.Fields["total"].Approval {
		t.Fatal("no approval, or not one for the whole group")
	}
	for field, rule := range rules.Fields {
		if rule.Approval != nil && field != "status" && field != "total" && field != "seenAt" {
			t.Errorf("nothing proposes %s, and it has an approval", field)
		}
	}
	if got := *seen; !reflect.DeepEqual(got, record.Approval{Roles: []string{"finance"}, Distinct: true, Expires: 7 * 24 * time.Hour, At: "policy/thing.yaml:15:1"}) {
		t.Errorf("defaults %+v", got)
	}
	if got := *state; got.Distinct || !got.PutBack || got.Expires != 36*time.Hour || strings.Join(got.Roles, " ") != "finance steward" || len(got.Auto) != 2 {
		t.Errorf("as written %+v", got)
	}
	if got := state.Auto[0]; got.Text != `after.total <= before.total and golden.status == "open"` || got.At != "policy/thing.yaml:27:14" {
		t.Errorf("%q at %s", got.Text, got.At)
	}
	for i, values := range []map[string]any{
		{"before.total": 9, "after.total": 8, "golden.status": "open"}, {"before.total": 8, "after.total": 9, "golden.status": "open"},
		{"after.total": 9, "golden.status": "open"}, {"before.total": 9, "after.total": 8, "golden.status": "closed"},
	} {
		if ok, err := state.Auto[0].Holds(look(values)); ok != (i == 0) || err != nil {
			t.Errorf("%v: %v %v", values, ok, err)
		}
	}
	if ok, err := state.Auto[1].Holds(look(map[string]any{"platform": "netsuite"})); !ok || err != nil {
		t.Error(ok, err)
	}
	for text, want := range map[string]time.Duration{"30m": 30 * time.Minute, "12h": 12 * time.Hour, "1d": 24 * time.Hour, "3650d": 3650 * 24 * time.Hour,
		"0m": 0, "-1d": 0, "3651d": 0, "9999999999999999999d": 0, "1w": 0, "d": 0, "1.5h": 0, "7": 0, "7D": 0} {
		fsys := governed(t)
		fsys["policy/thing.yaml"].Data = []byte(strings.Replace(string(fsys["policy/thing.yaml"].Data), "expires: 36h", "expires: "+text, 1))
		s, problems := policy.Load(fsys)
		switch {
		case want == 0 && (len(problems) != 1 || problems[0].Remedy != "write it as 30m, 12h or 7d"):
			t.Errorf("%s: %v", text, problems)
		case want != 0 && (s == nil || s.Rules("thing").Fields["status"].Approval.Expires != want):
			t.Errorf("%s: %v", text, problems)
		}
	}
}

func TestPeople(t *testing.T) {
	t.Parallel()
	s := load(t, governed(t))
	fiona := policy.Person{Name: "fiona", Roles: []string{"finance", "steward"}, Users: map[string][]string{"netsuite": {"7", "8"}, "aws": {"arn:aws:iam::123456789012:user/fiona"}}}
	sarah := policy.Person{Name: "sarah", Users: map[string][]string{"salesforce": {"005xx000001SwiPAAS"}}}
	if got := s.People(); !reflect.DeepEqual(got, []policy.Person{fiona, sarah}) {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct{ platform, user, want string }{
		{"netsuite", "7", "fiona"}, {"netsuite", "8", "fiona"}, {"aws", "arn:aws:iam::123456789012:user/fiona", "fiona"},
		{"salesforce", "005xx000001SwiPAAS", "sarah"}, {"salesforce", "7", ""}, {"netsuite", "", ""},
	} {
		if p, ok := s.PersonAt(tc.platform, tc.user); p.Name != tc.want || ok != (tc.want != "") {
			t.Errorf("%s %s is %q", tc.platform, tc.user, p.Name)
		}
	}
	if p, ok := s.Person("sarah"); !ok || !reflect.DeepEqual(p, sarah) {
		t.Errorf("%+v", p)
	}
	if _, ok := s.Person("nobody"); ok {
		t.Error("nobody is somebody")
	}
	other := governed(t)
	other["people.yaml"].Data = append(other["people.yaml"].Data, "  new: {}\n"...)
	if o := load(t, other); o.Version() == s.Version() || o.Rules("thing").Version != s.Rules("thing").Version {
		t.Error("people count into the version of the configuration, and not into that of rules")
	}
	if plain := load(t, small(t)); len(plain.People()) != 0 {
		t.Error("people out of nothing")
	}
	delete(other, "people.yaml")
	load(t, other) // roles are not checked then
}

func TestExplainedGovernance(t *testing.T) {
	t.Parallel()
	s := load(t, governed(t))
	for field, want := range map[string]string{
		"status": `thing.status: owner netsuite (policy/thing.yaml:20:5)
  until netsuite has a native record: salesforce, in this order
  netsuite thing state: owns it
  salesforce Thing__c Status__c: receives it, changes there: propose
  proposals about state are decided by finance or steward; within 36h; the platform that asks is put back until then; approved when after.total <= before.total and golden.status == "open"; approved when platform == "netsuite" (policy/thing.yaml:22:5)
  becomes closed when deleted on salesforce (proposed) (policy/thing.yaml:7:1)
`,
		"short": `thing.short: most-complete of netsuite, salesforce (policy/thing.yaml:30:5)
  judged together: long, short
  netsuite thing short: receives it, changes there: accept
  salesforce Thing__c Short__c: receives it, changes there: accept
  compared as text by match rule short, which asks people (policy/thing.yaml:11:3)
`,
		"either": `thing.either: expr if length(netsuite ?? "") >= 2 then net… (policy/thing.yaml:39:12)
  computed as if length(netsuite ?? "") >= 2 then netsuite else salesforce
  netsuite thing either: receives it, changes there: accept
  salesforce Thing__c Either__c: receives it, changes there: accept
`,
	} {
		if got, _ := s.Explain("thing", field); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// The embedded rules at work: an account that sales creates, what it becomes in NetSuite, and what sales changes then.
func TestCustomerOfSales(t *testing.T) {
	t.Parallel()
	s := load(t, config.FS)
	rules, forms := s.Rules("customer"), s.On("customer")
	start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	r := record.Record{ID: "customer/01JBQF3V5N8Z6Y7X4W3V2T1S0R", Views: map[string]record.View{}}
	say := func(platform, object, id string, minute int, fields map[string]record.Value) record.Outcome {
		o := record.Observation{Ref: record.Ref{Platform: platform, Object: object, ID: id}, Version: record.Version{At: start.Add(time.Duration(minute) * time.Minute)},
			Fields: fields, Timed: rules.Timed()}
		r.Views[platform], _ = record.Observe(r.Views[platform], o)
		var out record.Outcome
		r, out = record.Fold(r, rules, forms, o.Version.At)
		return out
	}
	text := record.TextValue
	say(record.Salesforce, "Account", "001", 0, map[string]record.Value{"name": text("Acme"), "billingAddress.city": text("Bonn"), "segment": text("small"),
		"active": record.BoolValue(true), "creditLimit": record.NumberValue(decimal.NewFromInt(5))})
	for _, p := range []string{record.NetSuite, record.Zendesk, record.ServiceNow} {
		if patch := record.Project(r, rules, p, forms(p)); !patch.Empty() || !strings.HasPrefix(patch.Kept["name"], "policy creates none on "+p+": golden.") && p != record.NetSuite {
			t.Errorf("a prospect on %s: %+v", p, patch)
		}
	}
	r.Assigned = map[string]record.Assigned{"activation": {Value: text("pending"), When: start}}
	r, _ = record.Fold(r, rules, forms, start)
	patch := record.Project(r, rules, record.NetSuite, forms(record.NetSuite))
	if want := map[string]record.Value{"name": text("Acme"), "billingAddress.city": text("Bonn"), "segment": text("small"), "active": record.BoolValue(true), "activation": text("pending")}; !patch.Create || !reflect.DeepEqual(patch.Fields, want) {
		t.Fatalf("NetSuite is to get %v", patch.Fields)
	}
	out := say(record.NetSuite, "customer", "7", 5, map[string]record.Value{"name": text("ACME"), "billingAddress.city": text("Bonn"), "active": record.BoolValue(true),
		"creditLimit": record.NumberValue(decimal.NewFromInt(1000)), "number": text("C1")})
	if len(r.Proposals) != 0 || len(out.Decisions) != 2 || out.Decisions[0].Path != record.Reject || out.Decisions[1].Path != record.Revert {
		t.Errorf("%+v %+v", r.Proposals, out.Decisions)
	}
	say(record.Salesforce, "Account", "001", 9, map[string]record.Value{"billingAddress.city": text("Köln")})
	p := r.Proposals[record.ProposalKey(record.Salesforce, "billing")]
	if p.Status != record.ProposalOpen || p.Fields["billingAddress.city"].Owner != record.NetSuite || !p.Expires.Equal(start.Add(9*time.Minute+7*24*time.Hour)) || !strings.HasPrefix(p.At, "policy/customer.yaml:") {
		t.Errorf("%+v", p)
	}
	say(record.Salesforce, "Account", "001", 12, map[string]record.Value{"billingAddress.city": text("Bonn")})
	say(record.NetSuite, "customer", "7", 14, map[string]record.Value{"billingAddress.city": record.NullValue()})
	say(record.Salesforce, "Account", "001", 16, map[string]record.Value{"billingAddress.city": text("Mainz")})
	if p := r.Proposals[record.ProposalKey(record.Salesforce, "billing")]; p.Status != record.ProposalApproved || p.By != record.Sorrel {
		t.Errorf("there is no address, and a proposal of one waits: %+v", p)
	}
}

func TestConsumersAreFoundByKeyAndByToken(t *testing.T) {
	t.Parallel()
	file := "consumers:\n  portal:\n    uses: [records, context]\n    entities: {thing: [number]}\n    quota: 5\n    jwt: [client-1]\n" +
		"    keys: [\"sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\"]\n" // of "key"
	set, problems := policy.Load(small(t, txtar.File{Name: "lookups.yaml", Data: []byte(file)}))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	l := set.Lookups()
	if c, known := l.ByKey("key"); !known || c.Name != "portal" || !c.May(policy.UseContext) || c.May(policy.UseInvoices) || !c.Learns("thing", "number") {
		t.Errorf("%+v %v", c, known)
	}
	for _, wrong := range []string{"", "Key", "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"} {
		if _, known := l.ByKey(wrong); known {
			t.Errorf("%q is a key", wrong)
		}
	}
	if c, known := l.BySubject("client-1"); !known || c.Name != "portal" {
		t.Errorf("%+v %v", c, known)
	}
	if _, known := l.BySubject(""); known {
		t.Error("nobody is a consumer")
	}
	if l.Budget != policy.DefaultLookupBudget || l.Uses[policy.UseRecords].MaxAge != policy.DefaultMaxAge {
		t.Errorf("defaults: %+v", l)
	}
}
