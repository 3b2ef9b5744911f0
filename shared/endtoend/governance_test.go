package endtoend

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/salesforce/salesforcetwin"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
	"sorrel/shared/zendesk/zendesktwin"
)

// soon is how long one step of governance may take here.
const soon = 30 * time.Second

var platforms = []string{record.NetSuite, record.Salesforce, record.ServiceNow, record.Zendesk}

// objects that hold customers.
var objects = map[string]string{record.NetSuite: "customer", record.Salesforce: "Account", record.Zendesk: "organization", record.ServiceNow: "customer_account"}

// governed is a stage with the configuration that is delivered, on which writes are counted step by step.
type governed struct {
	*stage
	counted map[string]int
}

func governedStage(t *testing.T, normalise func(platform, object, field string, value any) any) governed {
	t.Helper()
	t.Parallel()
	return governed{stageOver(t, embedded(t.TempDir()), startSuchTwins(t, twins.Options{Normalise: normalise})), map[string]int{}}
}

// party is one customer, and its native records.
type party struct {
	id record.ID
	on map[string]string
}

func billingIn(street, city, zip, country string) map[string]any {
	return sublist([]any{map[string]any{"defaultBilling": true, "defaultShipping": true,
		"addressBookAddress": map[string]any{"addr1": street, "city": city, "zip": zip, "country": country}}})
}

func ernst() map[string]any {
	return map[string]any{"entityId": "ERNSH", "companyName": "Ernst Handel", "vatRegNumber": "ATU12345675", "phone": "7675-3425", "currency": ref("4"),
		"creditLimit": 20000, "creditHoldOverride": ref("AUTO"), "addressBook": billingIn("Kirchgasse 6", "Graz", "8010", "AT")}
}

// customer is a customer that NetSuite has had for a while, once it is everywhere.
func (g governed) customer(fields map[string]any) party {
	g.Helper()
	id, err := g.twins.NetSuite.Load("customer", "", fields, time.Now().Add(-time.Hour))
	if err != nil {
		g.Fatal(err)
	}
	g.list(record.NetSuite)
	return g.everywhere(id)
}

// everywhere waits until a customer of NetSuite is on all platforms.
func (g governed) everywhere(id string) party {
	g.Helper()
	g.settle(soon)
	c := party{minted("customer", "customer", id), map[string]string{record.NetSuite: id}}
	for p, object := range objects {
		if p != record.NetSuite {
			c.on[p] = nativeID(g, g.twins, p, object, c.id.External())
		}
	}
	g.wrote("salesforce 1, servicenow 1, zendesk 1")
	return c
}

// nextSecond waits until clocks that count whole seconds show another one: an edit in the very second of our write ties
// with it, and is settled by a later read. That is a matter of its own.
func (g governed) nextSecond() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
}

// person edits a native record, as the person who works there.
func (g governed) person(platform, id string, fields map[string]any) string {
	g.Helper()
	g.nextSecond()
	return g.personAtOnce(platform, id, fields)
}

func (g governed) personAtOnce(platform, id string, fields map[string]any) string {
	g.Helper()
	edit := map[string]func(string, string, map[string]any) (string, error){record.NetSuite: g.twins.NetSuite.Edit, record.Salesforce: g.twins.Salesforce.Edit,
		record.Zendesk: g.twins.Zendesk.Edit, record.ServiceNow: g.twins.ServiceNow.Edit}[platform]
	got, err := edit(objects[platform], id, fields)
	if err != nil {
		g.Fatalf("editing %s %s: %v", platform, id, err)
	}
	return got
}

func (g governed) native(platform, id string) (map[string]any, bool) {
	get := map[string]func(string, string) (map[string]any, bool){record.NetSuite: g.twins.NetSuite.Get, record.Salesforce: g.twins.Salesforce.Get,
		record.Zendesk: g.twins.Zendesk.Get, record.ServiceNow: g.twins.ServiceNow.Get}[platform]
	return get(objects[platform], id)
}

// field is the text of a field of a customer; "billing." begins a field of NetSuite's default billing address.
func (g governed) field(platform, id, path string) string {
	g.Helper()
	native, ok := g.native(platform, id)
	if !ok {
		return "no such record"
	}
	if part, billing := strings.CutPrefix(path, "billing."); billing {
		book, _ := native["addressBook"].(map[string]any)
		lines, _ := book["items"].([]any)
		for _, l := range lines {
			line, _ := l.(map[string]any)
			if address, is := line["addressBookAddress"].(map[string]any); is && line["defaultBilling"] == true {
				return inside(address, part)
			}
		}
		return ""
	}
	return inside(native, path)
}

// shows expects fields: "platform path" → text.
func (g governed) shows(c party, want map[string]string) {
	g.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		p, path, _ := strings.Cut(k, " ")
		if got := g.field(p, c.on[p], path); got != want[k] {
			g.Errorf("%s %s is %q, want %q", p, path, got, want[k])
		}
	}
}

// wrote expects so many writes since the last look, by platform in alphabetical order.
func (g governed) wrote(want string) {
	g.Helper()
	var got []string
	for _, p := range platforms {
		n := g.writes(p)
		if n > g.counted[p] {
			got = append(got, fmt.Sprintf("%s %d", p, n-g.counted[p]))
		}
		g.counted[p] = n
	}
	if s := strings.Join(got, ", "); s != want {
		g.Errorf("writes: %q, want %q", s, want)
	}
}

// still tells everything that all platforms hold once more and expects no write.
func (g governed) still() {
	g.Helper()
	g.wrote("")
	for _, p := range platforms {
		for _, o := range []string{objects[p], map[string]string{record.NetSuite: "contact", record.Salesforce: "Contact", record.Zendesk: "user", record.ServiceNow: "customer_contact"}[p]} {
			if err := g.world.Ledger.SaveCursor(g.Context(), p, o, ""); err != nil {
				g.Fatal(err)
			}
		}
		g.list(p)
	}
	g.settle(soon)
	g.wrote("")
	v, err := g.world.Operate().Verify(g.Context(), nil)
	if err != nil || len(v.Broken) > 0 || v.Entries == 0 {
		g.Errorf("audit: %+v %v", v, err)
	}
}

// troubles are the open exceptions: type and field.
func (g governed) troubles() []string {
	g.Helper()
	open, err := g.world.Ledger.Exceptions(g.Context(), false)
	if err != nil {
		g.Fatal(err)
	}
	var out []string
	for _, x := range open {
		out = append(out, strings.TrimSpace(x.Type+" "+x.Platform+" "+x.Field))
	}
	slices.Sort(out)
	return out
}

func (g governed) expectTroubles(want ...string) {
	g.Helper()
	if got := g.troubles(); !slices.Equal(got, want) {
		g.Errorf("open exceptions: %q, want %q", got, want)
	}
}

func (g governed) record(id record.ID) record.Record {
	g.Helper()
	states, err := g.world.Ledger.Load(g.Context(), id)
	if err != nil {
		g.Fatal(err)
	}
	return states[id].Record
}

// What finance sets in NetSuite reaches everybody by one write each.
func TestCreditLimitReachesEverybody(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	g.person(record.NetSuite, c.on[record.NetSuite], map[string]any{"creditLimit": 75000})
	g.settle(soon)
	g.shows(c, map[string]string{"salesforce ERP_Credit_Limit__c": "75000", "zendesk organization_fields.erp_credit_limit": "75000", "servicenow u_credit_limit": "75000"})
	g.wrote("salesforce 1, servicenow 1, zendesk 1")
	g.noTrouble()
	g.still()
}

// Sales, support and finance edit what is theirs in one second, at once: all of it survives.
func TestOwnersAtOnce(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	g.nextSecond()
	edits := map[string]map[string]any{
		record.NetSuite:   {"creditLimit": 30000},
		record.Salesforce: {"Account_Manager__c": "Sarah Smith", "Industry": "Retail"},
		record.ServiceNow: {"u_support_tier": "premium"},
	}
	var all sync.WaitGroup
	for p, fields := range edits {
		all.Go(func() { g.personAtOnce(p, c.on[p], fields) })
	}
	all.Wait()
	g.settle(soon)
	g.shows(c, map[string]string{
		"netsuite creditLimit": "30000", "salesforce ERP_Credit_Limit__c": "30000", "servicenow u_credit_limit": "30000", "zendesk organization_fields.erp_credit_limit": "30000",
		"salesforce Account_Manager__c": "Sarah Smith", "servicenow u_account_manager": "Sarah Smith", "zendesk organization_fields.account_manager": "Sarah Smith",
		"salesforce Industry": "Retail", "servicenow u_industry": "retail",
		"salesforce Support_Tier__c": "Premium", "servicenow u_support_tier": "premium", "zendesk organization_fields.support_tier": "tier_premium",
	})
	for p, most := range map[string]int{record.NetSuite: 0, record.Salesforce: 2, record.ServiceNow: 2, record.Zendesk: 3} {
		if n := g.writes(p) - g.counted[p]; n > most {
			t.Errorf("%d writes to %s, want at most %d", n, p, most)
		}
		g.counted[p] = g.writes(p)
	}
	g.noTrouble()
	g.still()
}

// Finance and sales enter the same customers at the same moment: each becomes one record by its tax id, however it is
// spelled, with one native record per platform.
func TestCreatedTwiceAtOnce(t *testing.T) {
	g := governedStage(t, nil)
	const customers = 3 // more at once, under the race detector, are told of later than the two seconds that a new record waits
	var all sync.WaitGroup
	for i := range customers {
		all.Go(func() {
			g.personAtOnce(record.NetSuite, "", map[string]any{"entityId": fmt.Sprintf("TWIN%d", i), "companyName": fmt.Sprintf("Zwilling %d GmbH", i),
				"vatRegNumber": fmt.Sprintf("ATU6000000%d", i), "addressBook": billingIn("Ring 1", "Wien", fmt.Sprintf("10%d0", i), "AT")})
		})
		all.Go(func() {
			g.personAtOnce(record.Salesforce, "", map[string]any{"Name": fmt.Sprintf("Zwilling %d", i), "Tax_Id__c": fmt.Sprintf("ATU 600 0000 %d", i),
				"BillingCountry": "AT", "Industry": "Retail"})
		})
	}
	all.Wait()
	g.settle(soon)
	g.noTrouble()
	for p, object := range objects {
		if n := len(everything(g.twins, p, object)); n != customers {
			t.Errorf("%s has %d customers, want %d", p, n, customers)
		}
	}
	for _, a := range g.twins.Salesforce.All("Account") {
		if strings.HasSuffix(fmt.Sprint(a["Name"]), "GmbH") == false || a["ERP_Customer_Number__c"] == nil {
			t.Errorf("account %v has number %v", a["Name"], a["ERP_Customer_Number__c"])
		}
	}
	for _, a := range g.twins.ServiceNow.All("customer_account") {
		if a["u_industry"] != "retail" {
			t.Errorf("ServiceNow shows industry %v of %v", a["u_industry"], a["name"])
		}
	}
	for _, p := range platforms {
		g.counted[p] = g.writes(p)
	}
	g.still()
}

// An account that sales wins becomes a customer everywhere. What NetSuite fills in by itself, such as the number, is its
// own word: everybody gets it at once.
func TestAccountWonBySales(t *testing.T) {
	g := governedStage(t, nil)
	account := g.personAtOnce(record.Salesforce, "", map[string]any{"Name": "Ottilies Käseladen", "Phone": "0221-0644327", "BillingCity": "Köln", "BillingPostalCode": "50739", "BillingCountry": "DE", "Industry": "Retail"})
	g.settle(soon)
	c := party{ledger.Mint("customer", record.Ref{Platform: record.Salesforce, Object: "Account", ID: account}), map[string]string{}}
	for p, v := range g.record(c.id).Views {
		c.on[p] = v.ID
	}
	number := g.field(record.NetSuite, c.on[record.NetSuite], "entityId")
	if number == "" {
		t.Error("NetSuite gave it no number")
	}
	g.shows(c, map[string]string{"netsuite companyName": "Ottilies Käseladen", "netsuite billing.city": "Köln", "salesforce ERP_Customer_Number__c": number, "salesforce ERP_Credit_Hold__c": "Auto",
		"zendesk name": "Ottilies Käseladen", "zendesk organization_fields.erp_number": number, "servicenow u_erp_number": number, "servicenow u_industry": "retail", "servicenow u_credit_hold": "auto"})
	if n := g.writes(record.NetSuite) + g.writes(record.Salesforce); n != 2 {
		t.Errorf("%d writes to NetSuite and Salesforce, want one each", n)
	}
	for _, p := range platforms {
		g.counted[p] = g.writes(p)
	}
	g.noTrouble()
	g.still()
}

// pair is two customers that are different as far as Sorrel can know, on all platforms.
func (g governed) pair() (party, party) {
	g.Helper()
	one := g.customer(ernst())
	two := g.customer(map[string]any{"entityId": "HANDE", "companyName": "Handel & Sohn", "phone": "0316 998877", "addressBook": billingIn("Am Hafen 2", "Linz", "4020", "AT")})
	return one, two
}

// Merges on all platforms, one after the other, make one record; as long as one platform has both, people are told.
func TestMergesRelink(t *testing.T) {
	g := governedStage(t, nil)
	one, two := g.pair()
	merge := func(p string) {
		t.Helper()
		g.nextSecond()
		var err error
		switch p {
		case record.NetSuite:
			err = g.twins.NetSuite.Merge(objects[p], one.on[p], two.on[p])
		case record.Salesforce:
			err = g.twins.Salesforce.Merge(objects[p], one.on[p], two.on[p])
		case record.Zendesk:
			err = g.twins.Zendesk.Merge(objects[p], one.on[p], two.on[p])
		default: // ServiceNow has no merge of accounts
			err = g.twins.ServiceNow.Delete(objects[p], two.on[p])
		}
		if err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	merge(record.Salesforce)
	if got := g.troubles(); !slices.Contains(got, "possible-duplicate") {
		t.Errorf("open exceptions after the first merge: %q", got)
	}
	merge(record.Zendesk)
	merge(record.ServiceNow)
	merge(record.NetSuite)
	g.eventually(soon, "the second record leads to the first", func() error {
		if into := g.record(two.id).Into; into != one.id {
			return fmt.Errorf("it was merged into %q", into)
		}
		return nil
	})
	g.settle(soon)
	g.noTrouble()
	for p, object := range objects {
		if n := len(everything(g.twins, p, object)); n != 1 {
			t.Errorf("%s has %d customers, want 1", p, n)
		}
	}
	for _, p := range platforms { // whatever the winners inherited is where it belongs by now
		g.counted[p] = g.writes(p)
	}
	g.person(record.NetSuite, one.on[record.NetSuite], map[string]any{"creditLimit": 41000})
	g.settle(soon)
	g.wrote("salesforce 1, servicenow 1, zendesk 1")
	g.shows(one, map[string]string{"salesforce ERP_Credit_Limit__c": "41000", "zendesk organization_fields.erp_credit_limit": "41000", "servicenow u_credit_limit": "41000"})
	g.still()

	// Somebody takes the account out of Salesforce's recycle bin: it is a record of its own again.
	g.nextSecond()
	if err := g.twins.Salesforce.Undelete("Account", two.on[record.Salesforce]); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	if r := g.record(two.id); r.Into != "" || !r.Views[record.Salesforce].Exists() || !slices.Contains(r.Apart, one.id) {
		t.Errorf("after the merge was undone: into %q, apart %q, on Salesforce %+v", r.Into, r.Apart, r.Views[record.Salesforce])
	}
	if got := g.record(one.id).Views[record.Salesforce].ID; got != one.on[record.Salesforce] {
		t.Errorf("the first record is %s on Salesforce, want %s", got, one.on[record.Salesforce])
	}
}

// A duplicate that one platform alone has waits for people; merging it away there is their answer.
func TestMergeOfASuspect(t *testing.T) {
	for _, p := range []string{record.Salesforce, record.NetSuite} {
		t.Run(p, func(t *testing.T) {
			g := governedStage(t, nil)
			c := g.customer(ernst())
			g.nextSecond()
			fields := map[string]any{"Name": "Ernst-Handel", "BillingPostalCode": "8010", "BillingCountry": "AT", "Account_Manager__c": "Sarah"}
			if p == record.NetSuite {
				fields = map[string]any{"entityId": "ERNS2", "companyName": "Ernst-Handel", "addressBook": billingIn("Kirchgasse 6", "Graz", "8010", "AT")}
			}
			loser := g.personAtOnce(p, "", fields)
			g.settle(soon)
			g.expectTroubles("possible-duplicate")
			g.wrote("")
			g.nextSecond()
			merge := g.twins.Salesforce.Merge
			if p == record.NetSuite {
				merge = g.twins.NetSuite.Merge
			}
			if err := merge(objects[p], c.on[p], loser); err != nil {
				t.Fatal(err)
			}
			g.settle(soon)
			other := ledger.Mint("customer", record.Ref{Platform: p, Object: objects[p], ID: loser})
			if into := g.record(other).Into; into != c.id {
				t.Errorf("%s was merged into %q, want %s", other, into, c.id)
			}
			g.noTrouble()
			g.still()
		})
	}
}

// Deactivated, or deleted, in NetSuite means inactive everywhere; a deletion elsewhere deletes nothing.
func TestDeactivation(t *testing.T) {
	inactive := map[string]string{"salesforce ERP_Active__c": "false", "zendesk organization_fields.erp_active": "false", "servicenow active": "false"}
	t.Run("inactive in NetSuite", func(t *testing.T) {
		g := governedStage(t, nil)
		c := g.customer(ernst())
		g.person(record.NetSuite, c.on[record.NetSuite], map[string]any{"isInactive": true})
		g.settle(soon)
		g.shows(c, inactive)
		g.wrote("salesforce 1, servicenow 1, zendesk 1")
		g.still()
	})
	t.Run("deleted in NetSuite", func(t *testing.T) {
		g := governedStage(t, nil)
		c := g.customer(ernst())
		g.nextSecond()
		if err := g.twins.NetSuite.Delete("customer", c.on[record.NetSuite]); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
		g.shows(c, inactive)
		g.wrote("salesforce 1, servicenow 1, zendesk 1")
		g.still()
	})
	t.Run("deleted in ServiceNow", func(t *testing.T) {
		g := governedStage(t, nil)
		c := g.customer(ernst())
		g.nextSecond()
		if err := g.twins.ServiceNow.Delete("customer_account", c.on[record.ServiceNow]); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
		g.shows(c, map[string]string{"salesforce ERP_Active__c": "true", "zendesk organization_fields.erp_active": "true", "netsuite isInactive": "false"})
		g.wrote("")
		g.expectTroubles("conflict servicenow")
		g.still()
	})
}

// tidy is an account that puts its own stamp on what anybody saves: it trims, writes phone numbers its way, and rounds
// amounts to whole numbers.
func tidy(_, _, field string, value any) any {
	text, is := value.(string)
	switch {
	case strings.HasSuffix(strings.ToLower(field), "credit_limit__c"), strings.HasSuffix(field, "erp_credit_limit"):
		amount, err := decimal.NewFromString(fmt.Sprint(value))
		if err != nil {
			return value
		}
		if rounded := amount.Round(0); is {
			return rounded.String()
		} else {
			return json.Number(rounded.String())
		}
	case strings.HasSuffix(strings.ToLower(field), "phone") && is:
		return "(" + strings.Trim(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }), "-"), " ") + ")"
	case is:
		return strings.Join(strings.Fields(text), " ")
	}
	return value
}

// byEvents lets Salesforce tell of accounts by change events alone. An Outbound Message does not say whether a value is
// ours: of an account that rounds it, one that overtakes its event costs one write more.
var byEvents = map[string]salesforcetwin.Push{"Account": {Events: true}, "Contact": {Events: true}}

func TestEchoesOfAccountsThatNormalise(t *testing.T) {
	t.Parallel()
	g := governed{stageOver(t, embedded(t.TempDir()), startSuchTwins(t, twins.Options{Normalise: tidy, Push: byEvents})), map[string]int{}}
	g.twins.ServiceNow.AddRule("customer_account", "tidy", func(_, now map[string]string) error {
		now["phone"], _ = tidy("", "", "phone", now["phone"]).(string)
		return nil
	})
	fields := ernst()
	fields["companyName"], fields["phone"], fields["creditLimit"] = "  Ernst   Handel ", "+43 7675 3425", 20000.61
	c := g.everywhere(g.edit("customer", "", fields))
	g.shows(c, map[string]string{"netsuite phone": "(43-7675-3425)", "salesforce Phone": "(43-7675-3425)", "zendesk organization_fields.erp_phone": "(43-7675-3425)", "servicenow phone": "(43-7675-3425)",
		"netsuite creditLimit": "20000.61", "salesforce ERP_Credit_Limit__c": "20001", "zendesk organization_fields.erp_credit_limit": "20001", "servicenow u_credit_limit": "20000.61",
		"salesforce Name": "Ernst Handel"})
	g.still()

	// Each person's number reaches the others, who write it their way; that nobody hears of again.
	for i, p := range platforms {
		field := map[string]string{record.NetSuite: "phone", record.Salesforce: "Phone", record.ServiceNow: "phone", record.Zendesk: "organization_fields"}[p]
		var number any = fmt.Sprintf("+43 1 55 %d", i)
		if p == record.Zendesk {
			number = map[string]any{"erp_phone": number}
		}
		g.person(p, c.on[p], map[string]any{field: number})
		g.settle(soon)
		want := fmt.Sprintf("(43-1-55-%d)", i)
		g.shows(c, map[string]string{"netsuite phone": want, "salesforce Phone": want, "zendesk organization_fields.erp_phone": want, "servicenow phone": want})
		g.wrote(strings.Join(slices.DeleteFunc(slices.Clone(platforms), func(q string) bool { return q == p }), " 1, ") + " 1")
		g.still()
	}
	// A person who saves something else there saves our values again, in the account's form.
	g.person(record.Salesforce, c.on[record.Salesforce], map[string]any{"Description": "met at the fair"})
	g.person(record.NetSuite, c.on[record.NetSuite], map[string]any{"email": "office@ernst.test"})
	g.person(record.ServiceNow, c.on[record.ServiceNow], map[string]any{"u_terms": "Net 30"}) // not theirs: put back
	g.settle(soon)
	g.wrote("servicenow 1")
	g.still()
	g.noTrouble()
}

// An org that tells by Outbound Messages alone does not say whose change it was. One that changes our values as well is
// written to a few times, and then left alone.
func TestOrgThatMarksNothing(t *testing.T) {
	t.Parallel()
	push := map[string]salesforcetwin.Push{"Account": {Message: true}, "Contact": {Message: true}}
	g := governed{stageOver(t, embedded(t.TempDir()), startSuchTwins(t, twins.Options{Normalise: tidy, Push: push})), map[string]int{}}
	g.twins.Kits()[record.Salesforce].SetFaults(twin.Faults{LatencyMS: 1100}) // so that message and answer are of two seconds
	fields := ernst()
	fields["creditLimit"] = 20000.61
	g.edit("customer", "", fields)
	for round := 0; ; round++ {
		g.nextSecond()
		g.settle(soon)
		before := g.writes(record.Salesforce)
		g.nextSecond()
		g.nextSecond()
		g.settle(soon)
		if after := g.writes(record.Salesforce); after == before && before > 0 {
			if after < 3 {
				t.Errorf("only %d writes to Salesforce: nothing was put back", after)
			}
			break
		} else if after > 6 || round > 8 {
			t.Fatalf("%d writes to Salesforce, and it goes on", after)
		}
	}
}

// Whoever signs in by the integration user's name is a person all the same.
func TestPersonsUnderTheIntegrationUsersName(t *testing.T) {
	edits := map[string]func(g governed, c party) error{
		record.NetSuite: func(g governed, c party) error {
			_, err := g.twins.NetSuite.EditAs(netsuitetwin.IntegrationUser, "customer", c.on[record.NetSuite], map[string]any{"phone": "0316 1"})
			return err
		},
		record.Salesforce: func(g governed, c party) error {
			_, err := g.twins.Salesforce.EditAs(salesforcetwin.IntegrationUser, "Account", c.on[record.Salesforce], map[string]any{"Phone": "0316 1"})
			return err
		},
		record.Zendesk: func(g governed, c party) error {
			_, err := g.twins.Zendesk.EditAs(zendesktwin.Integration, "organization", c.on[record.Zendesk], map[string]any{"organization_fields": map[string]any{"erp_phone": "0316 1"}})
			return err
		},
		record.ServiceNow: func(g governed, c party) error { // another client of that user
			w := platform.Write{Ref: record.Ref{Platform: record.ServiceNow, Object: "customer_account", ID: c.on[record.ServiceNow]}, External: c.id.External(), Fields: map[string]any{"phone": "0316 1"}}
			return g.world.Connectors[record.ServiceNow].Write(g.Context(), []platform.Write{w})[0].Err
		},
	}
	for _, p := range platforms {
		t.Run(p, func(t *testing.T) {
			g := governedStage(t, nil)
			c := g.customer(ernst())
			g.nextSecond()
			if err := edits[p](g, c); err != nil {
				t.Fatal(err)
			}
			g.settle(soon)
			g.list(p) // where nothing else tells the two apart, the listing does
			g.settle(soon)
			g.shows(c, map[string]string{"netsuite phone": "0316 1", "salesforce Phone": "0316 1", "zendesk organization_fields.erp_phone": "0316 1", "servicenow phone": "0316 1"})
			for _, q := range platforms {
				g.counted[q] = g.writes(q)
			}
			g.still()
		})
	}
}

// who is somebody of people.yaml.
func (g governed) who(name string) policy.Person {
	g.Helper()
	p, ok := g.world.Config.Person(name)
	if !ok {
		g.Fatalf("people.yaml has no %s", name)
	}
	return p
}

// proposed is the only open proposal.
func (g governed) proposed() operate.Proposal {
	g.Helper()
	open, err := g.world.Operate().Proposals(g.Context(), false)
	if err != nil || len(open) != 1 {
		g.Fatalf("open proposals: %+v %v, want one", open, err)
	}
	p, err := g.world.Operate().Proposal(g.Context(), open[0].ID)
	if err != nil {
		g.Fatal(err)
	}
	return p
}

// A billing address that sales changes is finance's to agree to: approved, it goes to NetSuite, and what NetSuite makes
// of it goes to everybody; rejected, Salesforce is put back.
func TestBillingAddressIsProposed(t *testing.T) {
	shout := func(p, _, field string, value any) any {
		if text, is := value.(string); is && p == record.NetSuite && strings.HasSuffix(field, ".city") {
			return strings.ToUpper(text)
		}
		return value
	}
	t.Parallel()
	g := governed{stageOver(t, embedded(t.TempDir()), startSuchTwins(t, twins.Options{Normalise: shout, Push: byEvents})), map[string]int{}}
	c := g.customer(ernst())
	move := func(street, city string) operate.Proposal {
		t.Helper()
		g.person(record.Salesforce, c.on[record.Salesforce], map[string]any{"BillingStreet": street, "BillingCity": city})
		g.settle(soon)
		g.wrote("")
		g.shows(c, map[string]string{"netsuite billing.addr1": "Kirchgasse 6", "servicenow street": "Kirchgasse 6", "salesforce BillingStreet": street})
		return g.proposed()
	}
	p := move("Am Hafen 2", "Linz")
	if p.Person != "sarah@northwind.example" || p.Fields["billingAddress.street"].Before != record.TextValue("Kirchgasse 6") || p.Fields["billingAddress.city"].After != record.TextValue("Linz") {
		t.Errorf("the proposal: %+v", p)
	}
	if got := slices.Sorted(maps.Keys(p.Impact)); !slices.Equal(got, []string{record.NetSuite, record.ServiceNow, record.Zendesk}) {
		t.Errorf("an approval is said to write to %q", got)
	}
	for name, class := range map[string]fault.Class{"sarah@northwind.example": fault.Forbidden, "alice@northwind.example": fault.Forbidden} {
		if _, err := g.world.Steward().Decide(t.Context(), g.who(name), steward.Verdict{Proposal: p.ID, Approve: true}); !fault.Is(err, class) {
			t.Errorf("%s decides: %v", name, err)
		}
	}
	reject := steward.Verdict{Proposal: p.ID, Revision: p.Revision, Comment: "the lease was not signed"}
	for range 2 { // the second time nothing happens
		if _, err := g.world.Steward().Decide(t.Context(), g.who("fiona@northwind.example"), reject); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	g.wrote("salesforce 1")
	g.shows(c, map[string]string{"salesforce BillingStreet": "Kirchgasse 6", "salesforce BillingCity": "GRAZ"})

	p = move("Am Hafen 2", "Linz") // again is a new proposal
	if _, err := g.world.Steward().Decide(t.Context(), g.who("fiona@northwind.example"), steward.Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision}); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.shows(c, map[string]string{"netsuite billing.addr1": "Am Hafen 2", "netsuite billing.city": "LINZ", "netsuite billing.zip": "8010",
		"salesforce BillingStreet": "Am Hafen 2", "salesforce BillingCity": "LINZ", "servicenow street": "Am Hafen 2", "servicenow city": "LINZ", "zendesk organization_fields.erp_city": "LINZ"})
	g.wrote("netsuite 1, salesforce 1, servicenow 1, zendesk 1") // Salesforce, since NetSuite writes cities its own way
	if golden := g.record(c.id).Golden["billingAddress.city"]; golden.From != record.NetSuite {
		t.Errorf("the golden city comes from %q, want NetSuite's own word", golden.From)
	}
	if open, err := g.world.Operate().Proposals(t.Context(), false); err != nil || len(open) > 0 {
		t.Errorf("open proposals: %+v %v", open, err)
	}
	g.noTrouble()
	g.still()
}

// What is deleted in Salesforce is deactivated elsewhere once somebody agrees.
func TestDeletionIsProposed(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	g.nextSecond()
	if err := g.twins.Salesforce.Delete("Account", c.on[record.Salesforce]); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.wrote("")
	p := g.proposed()
	if _, err := g.world.Steward().Decide(t.Context(), g.who("frank@northwind.example"), steward.Verdict{Proposal: p.ID, Approve: true}); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.shows(c, map[string]string{"netsuite isInactive": "true", "zendesk organization_fields.erp_active": "false", "servicenow active": "false"})
	g.wrote("netsuite 1, servicenow 1, zendesk 1")
	g.still()
}

// A value that is on no list of Salesforce's holds that field there, and nothing else anywhere.
func TestPicklistDrift(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	tiers := salesforcetwin.Field{Name: "Support_Tier__c", Type: "picklist", Restricted: true, Values: []string{"Standard", "Premium"}}
	if err := g.twins.Salesforce.AddField("Account", tiers); err != nil { // an administrator takes VIP off the list
		t.Fatal(err)
	}
	g.person(record.ServiceNow, c.on[record.ServiceNow], map[string]any{"u_support_tier": "vip", "phone": "0316 2"})
	g.settle(soon)
	g.shows(c, map[string]string{"zendesk organization_fields.support_tier": "tier_vip", "salesforce Support_Tier__c": "", "salesforce Phone": "0316 2"})
	g.expectTroubles("unknown-picklist salesforce supportTier")
	for _, p := range platforms {
		g.counted[p] = g.writes(p)
	}
	g.still()
	open, err := g.world.Ledger.Exceptions(t.Context(), false)
	if err != nil || len(open) != 1 {
		t.Fatal(open, err)
	}
	retry := func() {
		t.Helper()
		if _, err := g.world.Steward().Act(t.Context(), g.who("stewart@northwind.example"), steward.Action{Exception: open[0].ID, Do: steward.Retry}); err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
	}
	retry()
	g.expectTroubles("unknown-picklist salesforce supportTier")
	g.wrote("")
	if err := g.twins.Salesforce.AddPicklistValue("Account", "Support_Tier__c", "VIP"); err != nil {
		t.Fatal(err)
	}
	retry()
	g.shows(c, map[string]string{"salesforce Support_Tier__c": "VIP"})
	g.wrote("salesforce 1")
	g.noTrouble()
	g.still()
}

// An agent's correction of an e-mail address is asked of sales, who own it in Salesforce; a merge of two Zendesk users
// re-links the contact that is left.
func TestContacts(t *testing.T) {
	g := governedStage(t, nil)
	c := g.customer(ernst())
	person := func(first, email string) (record.ID, map[string]string) {
		t.Helper()
		id, err := g.twins.Salesforce.Edit("Contact", "", map[string]any{"FirstName": first, "LastName": "Mendel", "Email": email, "AccountId": c.on[record.Salesforce]})
		if err != nil {
			t.Fatal(err)
		}
		g.settle(soon)
		rid := ledger.Mint("contact", record.Ref{Platform: record.Salesforce, Object: "Contact", ID: id})
		on := map[string]string{}
		for p, v := range g.record(rid).Views {
			on[p] = v.ID
		}
		if len(on) != len(platforms) {
			t.Fatalf("the contact is on %v only", on)
		}
		return rid, on
	}
	id, on := person("Roland", "roland@ernst.test")
	g.wrote("netsuite 1, servicenow 1, zendesk 1")
	g.nextSecond()
	if _, err := g.twins.Zendesk.Edit("user", on[record.Zendesk], map[string]any{"email": "r.mendel@ernst.test"}); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.wrote("")
	p := g.proposed()
	if p.Fields["email"].Before != record.TextValue("roland@ernst.test") || p.Fields["email"].After != record.TextValue("r.mendel@ernst.test") {
		t.Errorf("the proposal: %+v", p)
	}
	if _, err := g.world.Steward().Decide(t.Context(), g.who("sarah@northwind.example"), steward.Verdict{Proposal: p.ID, Approve: true}); err != nil {
		t.Fatal(err)
	}
	g.settle(soon)
	g.wrote("netsuite 1, salesforce 1, servicenow 1")
	for q, object := range map[string]string{record.NetSuite: "contact", record.Salesforce: "Contact", record.Zendesk: "user", record.ServiceNow: "customer_contact"} {
		found := false
		for _, r := range everything(g.twins, q, object) {
			found = found || r["email"] == "r.mendel@ernst.test" || r["Email"] == "r.mendel@ernst.test"
		}
		if !found {
			t.Errorf("%s does not show the new address", q)
		}
	}
	g.noTrouble()
	g.still()

	other, also := person("Rolf", "rolf@ernst.test")
	g.wrote("netsuite 1, servicenow 1, zendesk 1")
	g.nextSecond()
	for _, err := range []error{g.twins.Zendesk.Merge("user", on[record.Zendesk], also[record.Zendesk]), g.twins.NetSuite.Merge("contact", on[record.NetSuite], also[record.NetSuite]),
		g.twins.ServiceNow.Delete("customer_contact", also[record.ServiceNow]), g.twins.Salesforce.Merge("Contact", on[record.Salesforce], also[record.Salesforce])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g.settle(soon)
	g.eventually(soon, "the two contacts are one", func() error {
		if into := g.record(other).Into; into != id {
			return fmt.Errorf("%s was merged into %q", other, into)
		}
		return nil
	})
	g.settle(soon)
	g.noTrouble()
	for _, q := range platforms {
		g.counted[q] = g.writes(q)
	}
	g.still()
}
