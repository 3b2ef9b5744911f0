package flow_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// governed is a small configuration with every kind of governance in it: one object, named alike everywhere.
const governedPolicy = `
entity: account
contract: account.v1
platforms: {netsuite: account, salesforce: account, zendesk: account, servicenow: account}
origins: [netsuite, salesforce]
unmatched: {zendesk: ignore}
deletes: {netsuite: deactivate, salesforce: propose, zendesk: ignore, servicenow: propagate}
deactivated: {active: false}
owner: netsuite
meanwhile: [salesforce]
targets: [salesforce, zendesk, servicenow]
paths: {salesforce: revert, zendesk: revert, servicenow: reject}
approval: {approvers: [finance], expires: 2h}
match:
  tax: {by: [{field: taxId, as: tax-id}], strong: true}
  name: {by: [{field: name, as: company}, {field: city, as: text}]}
fields:
  street: {paths: {salesforce: propose}, approval: {approvers: [finance], expires: 2h, auto: ['after.street == "as agreed"']}}
  city: {paths: {salesforce: propose}}
  active: {paths: {salesforce: propose}}
  phone: {survivorship: latest, of: [netsuite, salesforce, zendesk, servicenow], targets: [netsuite, salesforce, zendesk, servicenow]}
  industry: {owner: salesforce, targets: [netsuite, zendesk, servicenow], paths: {netsuite: revert, zendesk: revert, servicenow: revert}}
  tier: {owner: servicenow, targets: [salesforce, zendesk], paths: {salesforce: revert, zendesk: revert}}
  label: {assign: 'name + " (" + (if city == null then "?" else city) + ")"', targets: [zendesk], paths: {zendesk: revert}}
`

const governedContract = `{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:sorrel:contract:account.v1", "title": "account.v1",
"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
"name": {"type": "string", "maxLength": 80}, "taxId": {"type": ["string", "null"], "maxLength": 40}, "street": {"type": ["string", "null"], "maxLength": 80},
"city": {"type": ["string", "null"], "maxLength": 80}, "phone": {"type": ["string", "null"], "maxLength": 40}, "industry": {"type": ["string", "null"], "maxLength": 40},
"tier": {"type": ["string", "null"], "maxLength": 40}, "label": {"type": ["string", "null"], "maxLength": 200}, "active": {"type": "boolean"}}}`

func governedConfig(t testing.TB) *policy.Set {
	t.Helper()
	return loaded(t, governedFiles())
}

func loaded(t testing.TB, files fstest.MapFS) *policy.Set {
	t.Helper()
	set, problems := policy.Load(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func governedFiles() fstest.MapFS {
	files := fstest.MapFS{"policy/account.yaml": {Data: []byte(governedPolicy)}, "contract/account.v1.json": {Data: []byte(governedContract)},
		"people.yaml": {Data: []byte("people:\n  fiona: {roles: [finance]}\n")}}
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		text := fmt.Sprintf("platform: %s\nobject: account\nentity: account\ncontract: account.v1\nfields:\n", p)
		for _, f := range []string{"name", "taxId", "street", "city", "phone", "industry", "tier", "active", "label"} {
			switch {
			case f == "label" && p != record.Zendesk, f == "tier" && p == record.NetSuite:
			case f == "name":
				text += "  name: {path: name, required: true}\n"
			default:
				text += fmt.Sprintf("  %s: %s\n", f, f)
			}
		}
		if p == record.NetSuite {
			text += "unmapped: [label, tier]\n"
		} else if p != record.Zendesk {
			text += "unmapped: [label]\n"
		}
		files["mapping/"+p+".account.yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

// governedWorld is one with a customer that NetSuite made, on all platforms.
func governedWorld(t testing.TB) (*world, record.ID) {
	t.Helper()
	w := worldOf(t, governedConfig(t))
	w.echoes()
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678", "street": "Kirchgasse 6", "city": "Graz", "phone": "7675-3425", "active": true}))
	w.settle()
	id := ledger.Mint("account", record.Ref{Platform: record.NetSuite, Object: "account", ID: "1"})
	for _, f := range w.fakes() {
		if n := len(f.ids("account")); n != 1 {
			t.Fatalf("%s has %d accounts, want 1\n%s", f.name, n, w.tail())
		}
		f.total()
	}
	return w, id
}

// only is the single living account of a platform.
func (w *world) only(f *fake) string {
	w.t.Helper()
	ids := f.ids("account")
	if len(ids) != 1 {
		w.t.Fatalf("%s has accounts %v, want one\n%s", f.name, ids, w.tail())
	}
	return ids[0]
}

func (w *world) edit(f *fake, fields map[string]any) {
	w.t.Helper()
	w.clock.pass(3 * time.Second)
	w.push(f.set("account", w.only(f), fields))
}

// shows expects the value of a field on every platform named.
func (w *world) shows(field string, want any, on ...*fake) {
	w.t.Helper()
	for _, f := range on {
		if got := f.holds("account", w.only(f))[field]; got != want {
			w.t.Errorf("%s shows %s = %v, want %v\n%s", f.name, field, got, want, w.tail())
		}
	}
}

// wrote expects so many writes since the last look, by platform in alphabetical order.
func (w *world) wrote(want string) {
	w.t.Helper()
	var got []string
	for _, f := range w.fakes() {
		if n := f.total(); n > 0 {
			got = append(got, fmt.Sprintf("%s %d", f.name, n))
		}
	}
	slices.Sort(got)
	if s := strings.Join(got, ", "); s != want {
		w.t.Errorf("writes: %q, want %q\n%s", s, want, w.tail())
	}
}

func (w *world) proposals() []record.Proposal {
	w.t.Helper()
	var out []record.Proposal
	all, err := w.ledger.Proposals(w.t.Context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		out = append(out, p.Proposal)
	}
	return out
}

func (w *world) decide(id record.ID, approve bool) {
	w.t.Helper()
	p := w.proposals()
	if len(p) != 1 {
		w.t.Fatalf("%d open proposals, want 1\n%s", len(p), w.tail())
	}
	_, err := govern.Change(w.t.Context(), w.ledger, w.config, id, govern.Cause{Trace: "decided", By: "fiona", Now: w.clock.now(), News: true}, func(s *ledger.State) (events []record.Event, err error) {
		s.Record, events, err = record.Decide(s.Record, record.Verdict{Proposal: p[0].ID, Approve: approve, By: "fiona"}, w.clock.now())
		return events, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) audited() {
	w.t.Helper()
	v, err := w.ledger.Verify(w.t.Context(), func(int) {})
	if err != nil || len(v.Broken) > 0 || v.Entries == 0 {
		w.t.Errorf("audit: %+v %v", v, err)
	}
}

// An approved proposal is written to its owner, and flows on only when the owner has said it.
func TestProposalApproved(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	w.salesforce.actor = "sue"
	w.edit(w.salesforce, map[string]any{"street": "Kirchgasse 7"})
	w.settle()
	w.wrote("")
	w.shows("street", "Kirchgasse 6", w.netsuite, w.zendesk, w.servicenow)
	p := w.proposals()
	if len(p) != 1 || p[0].Actor != "sue" || p[0].Fields["street"].After != record.TextValue("Kirchgasse 7") || p[0].Fields["street"].Before != record.TextValue("Kirchgasse 6") {
		t.Fatalf("proposals: %+v", p)
	}
	w.decide(id, true)
	w.settle()
	w.wrote("netsuite 1, servicenow 1, zendesk 1")
	w.shows("street", "Kirchgasse 7", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
	if p := w.proposals(); len(p) != 0 {
		t.Errorf("open proposals: %+v", p)
	}
	if g := w.state(id).Record.Golden["street"]; g.From != record.NetSuite {
		t.Errorf("golden street is from %q, want netsuite", g.From)
	}
	w.edit(w.netsuite, map[string]any{"street": "Kirchgasse 8"})
	w.settle()
	w.wrote("salesforce 1, servicenow 1, zendesk 1")
	w.shows("street", "Kirchgasse 8", w.salesforce)
	w.audited()
}

// What the owner makes of an approved value is what everybody gets.
func TestApprovedValueNormalisedByItsOwner(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	w.netsuite.rewrite = func(_ string, body map[string]any) {
		if s, is := body["street"].(string); is {
			body["street"] = strings.ToUpper(s)
		}
	}
	w.edit(w.salesforce, map[string]any{"street": "Kirchgasse 7"})
	w.settle()
	w.decide(id, true)
	w.settle()
	w.wrote("netsuite 1, salesforce 1, servicenow 1, zendesk 1")
	w.shows("street", "KIRCHGASSE 7", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
	if p := w.proposals(); len(p) != 0 {
		t.Errorf("open proposals: %+v", p)
	}
}

func TestProposalRejectedAndExpired(t *testing.T) {
	t.Parallel()
	for _, expires := range []bool{false, true} {
		t.Run(fmt.Sprint("expires ", expires), func(t *testing.T) {
			t.Parallel()
			w, id := governedWorld(t)
			w.edit(w.salesforce, map[string]any{"street": "Elsewhere 1"})
			w.settle()
			w.wrote("")
			if expires {
				w.clock.pass(2 * time.Hour)
			} else {
				w.decide(id, false)
			}
			w.settle()
			w.wrote("salesforce 1")
			w.shows("street", "Kirchgasse 6", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
			w.edit(w.salesforce, map[string]any{"street": "Elsewhere 1"}) // again is a new proposal
			w.settle()
			if p := w.proposals(); len(p) != 1 {
				t.Errorf("%d proposals after asking again, want 1", len(p))
			}
			w.audited()
		})
	}
}

func TestAutoApproval(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	w.edit(w.salesforce, map[string]any{"street": "as agreed"})
	w.settle()
	w.shows("street", "as agreed", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
	w.wrote("netsuite 1, servicenow 1, zendesk 1")
}

// Sales and support edit different fields in the same second: both survive, each platform is written once.
func TestTwoOwnersInOneSecond(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	w.clock.pass(3 * time.Second)
	w.push(w.salesforce.set("account", w.only(w.salesforce), map[string]any{"industry": "food"}),
		w.servicenow.set("account", w.only(w.servicenow), map[string]any{"tier": "vip"}))
	w.settle()
	w.shows("industry", "food", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
	w.shows("tier", "vip", w.salesforce, w.zendesk, w.servicenow)
	w.expectExceptions()
}

// Two platforms create the same customer at the same moment: one record, linked by the tax id, whichever is first.
func TestCreatedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	for _, salesforceFirst := range []bool{false, true} {
		w := worldOf(t, governedConfig(t))
		w.echoes()
		a := w.netsuite.set("account", "1", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678", "active": true})
		b := w.salesforce.set("account", "s1", map[string]any{"name": "Ernst Handel GmbH", "taxId": "ATU 123 456 78", "industry": "food", "active": true})
		if salesforceFirst {
			a, b = b, a
		}
		w.push(a, b)
		w.settle()
		for _, f := range w.fakes() {
			w.only(f)
		}
		w.shows("industry", "food", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
		w.shows("name", "Ernst Handel", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
		w.expectExceptions()
		w.audited()
	}
}

// Only a weak key speaks for it: people are asked, and nothing is created elsewhere until they have decided.
func TestWeakMatchWaitsForPeople(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprint("same ", same), func(t *testing.T) {
			t.Parallel()
			w, id := governedWorld(t)
			s := w.only(w.salesforce)
			w.clock.pass(time.Minute)
			w.push(w.salesforce.remove("account", s, "")) // so that the two can become one
			w.settle()
			w.push(w.salesforce.set("account", "s9", map[string]any{"name": "Ernst-Handel", "city": "Graz", "industry": "food", "active": true}))
			w.settle()
			other := ledger.Mint("account", record.Ref{Platform: record.Salesforce, Object: "account", ID: "s9"})
			if got := w.exceptions(); !slices.ContainsFunc(got, func(x string) bool { return strings.HasPrefix(x, "possible-duplicate "+string(other)) }) {
				t.Fatalf("exceptions: %q", got)
			}
			w.only(w.zendesk)
			cause := govern.Cause{Trace: "decided", By: "stew", Now: w.clock.now()}
			if same {
				if j, err := govern.Unite(t.Context(), w.ledger, w.config, id, other, cause); err != nil || !j.Done {
					t.Fatal(j, err)
				}
				w.settle()
				w.only(w.zendesk)
				w.shows("industry", "food", w.netsuite, w.salesforce, w.zendesk, w.servicenow)
			} else {
				if _, err := govern.Tell(t.Context(), w.ledger, w.config, id, other, cause); err != nil {
					t.Fatal(err)
				}
				w.settle()
				if n := len(w.zendesk.ids("account")); n != 2 {
					t.Errorf("zendesk has %d accounts, want 2\n%s", n, w.tail())
				}
			}
			if got := w.exceptions(); slices.ContainsFunc(got, func(x string) bool { return strings.HasPrefix(x, "possible-duplicate") }) {
				t.Errorf("exceptions: %q", got)
			}
			w.audited()
		})
	}
}

// A merge on one platform makes one record once nothing stands in the way, and its undoing makes two again.
func TestPlatformMerge(t *testing.T) {
	t.Parallel()
	w := worldOf(t, governedConfig(t))
	w.echoes()
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678", "active": true}))
	w.settle()
	w.push(w.salesforce.set("account", "s2", map[string]any{"name": "Handel, Ernst", "industry": "food", "active": true}))
	w.settle()
	first := ledger.Mint("account", record.Ref{Platform: record.NetSuite, Object: "account", ID: "1"})
	second := ledger.Mint("account", record.Ref{Platform: record.Salesforce, Object: "account", ID: "s2"})
	for _, f := range w.fakes() {
		if n := len(f.ids("account")); n != 2 {
			t.Fatalf("%s has %d accounts, want 2", f.name, n)
		}
	}
	merge := func(f *fake) {
		t.Helper()
		w.clock.pass(3 * time.Second)
		survivor, loser := w.state(first).Record.Views[f.name].ID, w.state(second).Record.Views[f.name].ID
		w.push(f.remove("account", loser, survivor))
		w.settle()
	}
	merge(w.salesforce)
	if got := w.exceptions(); !slices.ContainsFunc(got, func(x string) bool { return strings.HasPrefix(x, "possible-duplicate "+string(second)) }) {
		t.Fatalf("exceptions after the first merge: %q", got)
	}
	merge(w.zendesk)
	merge(w.servicenow)
	merge(w.netsuite)
	if into := w.state(second).Record.Into; into != first {
		t.Fatalf("the second record was merged into %q, want %q\n%s", into, first, w.tail())
	}
	w.expectExceptions()
	for _, f := range w.fakes() {
		w.only(f)
		f.total()
	}
	w.edit(w.netsuite, map[string]any{"city": "Wien"})
	w.settle()
	w.wrote("salesforce 1, servicenow 1, zendesk 1")
	// A late event of a merged account changes nothing.
	late := w.salesforce.pushed(record.Ref{Platform: record.Salesforce, Object: "account", ID: "s2"})
	late.Gone, late.Into, late.Fields, late.Version.At = false, "", map[string]any{"industry": "late"}, start
	w.push(late)
	w.settle()
	w.wrote("")
	w.audited()
	// Somebody undoes the merge in Salesforce.
	w.clock.pass(time.Minute)
	w.push(w.salesforce.restore("account", "s2"))
	w.settle()
	if s := w.state(second).Record; s.Into != "" || !s.Views[record.Salesforce].Exists() {
		t.Errorf("after the merge was undone: %+v", s)
	}
	w.audited()
}

// Two records that were merged on a platform become one once nothing stands in the way any more, without being spoken of;
// but not if people have found meanwhile that they are different.
func TestPlatformMergeThatWaited(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"undecided": false, "told apart": true} {
		t.Run(name, func(t *testing.T) { t.Parallel(); mergeThatWaited(t, apart) })
	}
}

func mergeThatWaited(t *testing.T, apart bool) {
	w := worldOf(t, governedConfig(t))
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Ernst Handel", "taxId": "ATU12345678", "active": true}))
	w.settle()
	w.push(w.salesforce.set("account", "s2", map[string]any{"name": "Handel, Ernst", "industry": "food", "active": true}))
	w.settle()
	first := ledger.Mint("account", record.Ref{Platform: record.NetSuite, Object: "account", ID: "1"})
	second := ledger.Mint("account", record.Ref{Platform: record.Salesforce, Object: "account", ID: "s2"})
	w.clock.pass(3 * time.Second)
	merged := w.state(second).Record.Views[record.ServiceNow].Ref
	w.push(w.servicenow.remove("account", merged.ID, w.state(first).Record.Views[record.ServiceNow].ID))
	w.settle()
	if apart {
		cause := govern.Cause{Trace: "decided", By: "stew", Now: w.clock.now()}
		if _, err := govern.Tell(t.Context(), w.ledger, w.config, first, second, cause); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []*fake{w.salesforce, w.zendesk, w.netsuite} {
		if into := w.state(second).Record.Into; into != "" {
			t.Fatalf("merged into %s although both are on %s", into, f.name)
		}
		w.clock.pass(3 * time.Second)
		w.push(f.remove("account", w.state(first).Record.Views[f.name].ID, ""))
		w.settle()
	}
	want := first
	if apart {
		want = ""
		w.push(w.servicenow.pushed(merged))
	}
	w.clock.pass(2 * time.Hour)
	w.settle()
	if into := w.state(second).Record.Into; into != want {
		t.Errorf("the second record was merged into %q, want %q\n%s", into, want, w.tail())
	}
}

// A native record that another one took the place of lives again, after its record was merged: people are told of two.
func TestReplacedRecordLivesAgainAfterAMerge(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	old := w.only(w.salesforce)
	w.clock.pass(time.Minute)
	w.push(w.salesforce.remove("account", old, ""))
	w.settle()
	w.push(w.salesforce.set("account", "s9", map[string]any{"name": "Handel", "taxId": "ATU12345678", "city": "Wien", "active": true}))
	w.push(w.netsuite.set("account", "2", map[string]any{"name": "Ernst-Handel", "city": "Graz", "active": true})) // a suspect: it has no copies
	w.settle()
	w.clock.pass(time.Minute)
	w.push(w.netsuite.remove("account", "1", "2"))
	w.settle()
	into := ledger.Mint("account", record.Ref{Platform: record.NetSuite, Object: "account", ID: "2"})
	if got := w.state(id).Record.Into; got != into {
		t.Fatalf("the record was merged into %q, want %q\n%s", got, into, w.tail())
	}
	w.expectExceptions()
	w.clock.pass(time.Minute)
	w.push(w.salesforce.restore("account", old))
	w.settle()
	w.expectExceptions("possible-duplicate " + string(into) + " salesforce ")
	w.push(w.salesforce.remove("account", old, "s9"))
	w.settle()
	w.expectExceptions()
}

// A delete does on the other platforms what policy says, and nothing else, and is not undone by a late event.
func TestDeletes(t *testing.T) {
	t.Parallel()
	late := func(w *world, f *fake, id string) {
		n := f.pushed(record.Ref{Platform: f.name, Object: "account", ID: id})
		n.Gone, n.Fields, n.Version.At = false, map[string]any{"active": true}, start.Add(time.Second)
		w.push(n)
		w.settle()
	}
	t.Run("deactivate", func(t *testing.T) {
		t.Parallel()
		w, _ := governedWorld(t)
		w.clock.pass(time.Minute)
		w.push(w.netsuite.remove("account", "1", ""))
		w.settle()
		w.shows("active", false, w.salesforce, w.zendesk, w.servicenow)
		w.wrote("salesforce 1, servicenow 1, zendesk 1")
		late(w, w.netsuite, "1")
		w.wrote("")
	})
	t.Run("propose", func(t *testing.T) {
		t.Parallel()
		w, id := governedWorld(t)
		w.clock.pass(time.Minute)
		s := w.only(w.salesforce)
		w.push(w.salesforce.remove("account", s, ""))
		w.settle()
		w.wrote("")
		w.decide(id, true)
		w.settle()
		w.shows("active", false, w.netsuite, w.zendesk, w.servicenow)
		w.wrote("netsuite 1, servicenow 1, zendesk 1")
		late(w, w.salesforce, s)
		w.wrote("")
	})
	t.Run("ignore", func(t *testing.T) {
		t.Parallel()
		w, _ := governedWorld(t)
		w.clock.pass(time.Minute)
		z := w.only(w.zendesk)
		w.push(w.zendesk.remove("account", z, ""))
		w.settle()
		w.wrote("")
		if got := w.exceptions(); len(got) != 1 || !strings.HasPrefix(got[0], "conflict ") {
			t.Errorf("exceptions: %q", got)
		}
		late(w, w.zendesk, z)
		w.wrote("")
	})
	t.Run("propagate", func(t *testing.T) {
		t.Parallel()
		w, _ := governedWorld(t)
		w.clock.pass(time.Minute)
		s := w.only(w.servicenow)
		w.push(w.servicenow.remove("account", s, ""))
		w.settle()
		w.wrote("netsuite 1, salesforce 1, zendesk 1")
		for _, f := range w.fakes() {
			if ids := f.ids("account"); len(ids) != 0 {
				t.Errorf("%s still has %v", f.name, ids)
			}
		}
		late(w, w.servicenow, s)
		w.wrote("")
		w.expectExceptions()
	})
}

// A value that is on no list of the platform holds that field only, and is written by itself once it is.
func TestPicklistDrift(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	w.zendesk.lists = map[string][]string{"industry": {"retail"}}
	w.edit(w.salesforce, map[string]any{"industry": "food", "phone": "1"})
	w.settle()
	w.shows("industry", "food", w.netsuite, w.servicenow)
	w.shows("phone", "1", w.zendesk, w.netsuite)
	if got := w.exceptions(); len(got) != 1 || !strings.HasPrefix(got[0], "unknown-picklist ") || !strings.HasSuffix(got[0], "zendesk industry") {
		t.Fatalf("exceptions: %q", got)
	}
	w.zendesk.total()
	w.clock.pass(10 * time.Minute)
	w.settle()
	if n := w.zendesk.total(); n != 0 {
		t.Errorf("%d writes although the list is as it was", n)
	}
	w.zendesk.mu.Lock()
	w.zendesk.lists["industry"] = []string{"retail", "food"}
	w.zendesk.mu.Unlock()
	w.clock.pass(time.Hour)
	w.settle()
	w.shows("industry", "food", w.zendesk)
	w.expectExceptions()
	w.audited()
}

// A platform that changes what it is given, and says neither that the change was ours nor what became of it, is put back a
// few times and then left alone; people are told.
func TestPlatformThatInsists(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	w.salesforce.unmarked = true
	w.salesforce.rewrite = func(_ string, body map[string]any) {
		w.clock.pass(time.Second)
		if s, is := body["name"].(string); is {
			body["name"] = strings.ToUpper(s)
		}
	}
	w.edit(w.netsuite, map[string]any{"name": "Bon app"})
	for range 10 {
		w.clock.pass(time.Minute)
		w.settle()
	}
	if n := w.salesforce.total(); n < 2 || n > 4 {
		t.Errorf("%d writes to salesforce, want 2 to 4", n)
	}
	if got := w.exceptions(); len(got) != 1 || !strings.HasPrefix(got[0], "conflict ") || !strings.HasSuffix(got[0], "salesforce name") {
		t.Errorf("exceptions: %q", got)
	}
	w.edit(w.salesforce, map[string]any{"name": "Chop-suey"}) // somebody else's value is put back all the same
	w.settle()
	w.shows("name", "BON APP", w.salesforce)
	w.edit(w.netsuite, map[string]any{"name": "LILA"})
	w.settle()
	w.shows("name", "LILA", w.salesforce)
	w.expectExceptions()
}

// Whatever policy does about an edit is in the audit log, once, with who made it.
func TestEveryDecisionIsLogged(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	w.zendesk.actor, w.servicenow.actor = "zoe", "sam"
	w.edit(w.zendesk, map[string]any{"street": "Elsewhere 1"})
	w.settle()
	w.edit(w.servicenow, map[string]any{"city": "Nowhere"})
	w.settle()
	log, err := w.ledger.Log(t.Context(), string(id))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range log {
		for _, v := range e.Events {
			got = append(got, fmt.Sprintf("%s %s %v by %s: %s", v.Action, v.Platform, v.Fields, v.By, v.Detail))
		}
	}
	want := []string{"put-back zendesk [street] by zoe: Elsewhere 1 was set, golden is Kirchgasse 6", "rejected servicenow [city] by sam: Nowhere was set, golden is Graz"}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
	w.audited()
}

// What a platform makes of our value causes no write, not even when a person there saves the record afterwards, and a
// person's own edit is seen whoever is said to have made it.
func TestNormalisedEchoes(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	for _, f := range w.fakes() {
		f.rewrite = func(_ string, body map[string]any) {
			for _, k := range slices.Collect(maps.Keys(body)) {
				if s, is := body[k].(string); is && k == "phone" {
					body[k] = f.name + " " + strings.TrimPrefix(strings.TrimPrefix(s, "tel:"), "+")
				}
			}
		}
	}
	w.edit(w.salesforce, map[string]any{"phone": "tel:55"})
	w.settle()
	w.wrote("netsuite 1, servicenow 1, zendesk 1")
	w.shows("phone", "netsuite 55", w.netsuite)
	w.shows("phone", "tel:55", w.salesforce)
	for _, f := range []*fake{w.netsuite, w.zendesk, w.servicenow} {
		w.edit(f, map[string]any{"noted": "something else"}) // saves the whole record, with our phone in its own form
		w.settle()
		w.wrote("")
	}
	w.edit(w.netsuite, map[string]any{"street": "Neue Gasse 1"})
	w.settle()
	w.wrote("salesforce 1, servicenow 1, zendesk 1")
	w.shows("phone", "tel:55", w.salesforce)
	w.edit(w.zendesk, map[string]any{"phone": "66"})
	w.settle()
	w.wrote("netsuite 1, salesforce 1, servicenow 1")
	w.shows("phone", "salesforce 66", w.salesforce)
}

// lost has a worker write what is due on Salesforce and die before it can say so. It returns the platform's echo, which may
// be of the field alone.
func (w *world) lost(phone string, partial bool) record.Native {
	w.t.Helper()
	var echo record.Native
	emit := w.salesforce.emit
	w.salesforce.emit = func(n record.Native) { echo = n }
	w.store.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpCommit {
			return storetest.FailBefore
		}
		return storetest.None
	}
	w.drain(w.out[record.Salesforce], w.deliver.Apply)
	w.store.Next, w.salesforce.emit = nil, emit
	if echo.Fields["phone"] != phone {
		w.t.Fatalf("Salesforce was told %v, want %s", echo.Fields, phone)
	}
	echo.Ours, echo.Partial = true, partial
	if partial {
		echo.Fields = map[string]any{"phone": phone}
	}
	return echo
}

// The echo of such a write comes, and golden goes back to what we are known to have written before.
func TestLostWriteThatIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, partial := range []bool{true, false} {
		w, _ := governedWorld(t)
		w.edit(w.servicenow, map[string]any{"phone": "a"})
		w.settle()
		w.edit(w.zendesk, map[string]any{"phone": "b"})
		w.drain(w.inbound, w.hub.Apply)
		w.drain(w.out[record.NetSuite], w.deliver.Apply)
		w.push(w.lost("b", partial))
		w.drain(w.inbound, w.hub.Apply)
		w.edit(w.netsuite, map[string]any{"phone": "a"})
		w.settle()
		w.shows("phone", "a", w.fakes()...)
	}
}

// The echo of such a write comes after a later write was confirmed, by its answer or by what was read back: it is not the
// form that the platform gives to the later one, and what people set there later on is theirs.
func TestLostWriteThatIsHeardOfLate(t *testing.T) {
	t.Parallel()
	for _, partial := range []bool{true, false} {
		for _, answered := range []bool{true, false} {
			w, _ := governedWorld(t)
			w.edit(w.servicenow, map[string]any{"phone": "b"})
			w.drain(w.inbound, w.hub.Apply)
			echo := w.lost("b", partial)
			w.edit(w.zendesk, map[string]any{"phone": "c"})
			w.salesforce.emit = nil
			if !answered {
				w.salesforce.answers(once(to("account"), lost(true)))
			}
			w.settle()
			w.push(echo)
			w.settle()
			for _, meant := range []string{"x", "b"} { // by somebody there
				w.edit(w.salesforce, map[string]any{"phone": meant})
				w.settle()
				w.shows("phone", meant, w.fakes()...)
			}
		}
	}
}

// A write is done, and the worker dies before it can say so. Golden moves on to what people had set there before, of which
// word comes only now: that is not what the write has left, whenever its echo comes, and whatever that shows.
func TestEchoOfAWriteThatWasNeverConfirmed(t *testing.T) {
	t.Parallel()
	for _, partial := range []bool{true, false} {
		for _, worked := range []bool{true, false} { // before the echo comes
			w, id := governedWorld(t)
			w.edit(w.zendesk, map[string]any{"phone": "1"})
			w.settle()
			w.clock.pass(3 * time.Second)
			late := w.salesforce.set("account", w.only(w.salesforce), map[string]any{"phone": "as agreed"})
			w.edit(w.servicenow, map[string]any{"phone": "b"})
			w.drain(w.inbound, w.hub.Apply)
			echo := w.lost("b", partial)
			w.edit(w.zendesk, map[string]any{"phone": "as agreed"})
			w.drain(w.inbound, w.hub.Apply)
			w.push(late)
			w.drain(w.inbound, w.hub.Apply)
			if worked {
				w.settle()
			}
			w.push(echo)
			w.settle()
			w.shows("phone", "as agreed", w.fakes()...)
			for _, meant := range []string{"c", "b"} { // by somebody there
				w.edit(w.salesforce, map[string]any{"phone": meant})
				w.settle()
				w.shows("phone", meant, w.fakes()...)
			}
			if got := w.state(id).Due; len(got) > 0 {
				t.Errorf("still due: %+v", got)
			}
		}
	}
}

// A platform that needs a name for what it makes is not asked again and again while the name is held: it gets its copy
// when there is one that it takes.
func TestRequiredFieldThatIsHeld(t *testing.T) {
	t.Parallel()
	w := worldOf(t, governedConfig(t))
	w.echoes()
	w.zendesk.answers(func(p platform.Write) *told {
		if p.Fields["name"] != "Taken" {
			return nil
		}
		return &told{&fault.Error{Class: fault.Refused, Op: "zendesk.write", Code: "RecordInvalid", Detail: "name has already been taken", Fields: []string{"name"}}, false}
	})
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Taken", "phone": "1", "active": true}))
	w.settle()
	if ids := w.zendesk.ids("account"); len(ids) != 0 {
		t.Fatalf("zendesk has %v", ids)
	}
	if n := w.zendesk.total(); n != 1 {
		t.Errorf("zendesk was asked %d times, want once", n)
	}
	if got := w.exceptions(); len(got) != 1 || !strings.HasPrefix(got[0], "refused-write ") {
		t.Errorf("exceptions: %q", got)
	}
	w.clock.pass(time.Minute)
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Free"}))
	w.settle()
	w.only(w.zendesk)
	w.shows("name", "Free", w.zendesk)
	w.expectExceptions()
}

// A message that failed for the last time before it becomes a dead letter is told of, with the reason.
func TestMessagesThatAreGivenUp(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		if op == storetest.OpGetMany && !strings.Contains(keys[0].Part, "exception") {
			return storetest.FailBefore
		}
		return storetest.None
	}
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Bon app"}))
	hub, deliver := deadletters.Watched(w.ledger, w.telemetry, w.hub.Apply), deadletters.Watched(w.ledger, w.telemetry, w.deliver.Apply)
	if err := w.out[record.Zendesk].Send(t.Context(), w.wakeUp(record.Zendesk, id)); err != nil {
		t.Fatal(err)
	}
	for range 2 * queue.MaxReceives {
		w.drain(w.inbound, hub)
		w.drain(w.out[record.Zendesk], deliver)
		w.clock.pass(31 * time.Second)
	}
	w.store.Next = nil
	if d, err := w.dead[record.Zendesk].Depth(t.Context()); err != nil || d.Visible != 1 {
		t.Fatalf("dead letters of Zendesk: %+v %v", d, err)
	}
	if d, err := w.inboundDead.Depth(t.Context()); err != nil || d.Visible != 1 {
		t.Fatalf("dead letters: %+v %v", d, err)
	}
	open, err := w.ledger.Exceptions(t.Context(), false)
	about := map[string]string{}
	for _, x := range open {
		about[x.About] = x.Platform
		if x.Type != "poison-message" || !strings.Contains(x.Detail, "injected") {
			t.Errorf("%+v\n%s", x, w.tail())
		}
	}
	if err != nil || len(open) != 2 || about["netsuite/account/1"] != record.NetSuite || about[string(id)] != record.Zendesk {
		t.Errorf("exceptions: %+v %v\n%s", open, err, w.tail())
	}
	// Nothing is due for Zendesk: that exception is over. The other is when NetSuite has said as much.
	quarter := func() {
		w.clock.pass(15*time.Minute - time.Duration(w.clock.now().UnixNano())%(15*time.Minute))
		if _, err := w.sweep.Apply(t.Context()); err != nil {
			t.Error(err)
		}
	}
	quarter()
	w.expectExceptions("poison-message message " + open[slices.IndexFunc(open, func(x ledger.Exception) bool { return x.Platform == record.NetSuite })].Native[len("message "):] + " netsuite ")
	w.push(w.netsuite.set("account", "1", map[string]any{"name": "Bon app'"}))
	w.settle()
	quarter()
	w.expectExceptions()
}
