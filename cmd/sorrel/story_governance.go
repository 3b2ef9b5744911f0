package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/salesforce/salesforcetwin"
)

// People of the configuration's people.yaml. Sarah is whom the Salesforce twin takes for the person at its browser.
const (
	sarah   = "sarah@northwind.example"   // sales
	fiona   = "fiona@northwind.example"   // finance
	stewart = "stewart@northwind.example" // keeps master data clean
)

// company is a customer that all four platforms have: its native records by platform.
type company struct {
	id record.ID
	on map[string]string
}

var (
	everybody = []string{record.NetSuite, record.Salesforce, record.ServiceNow, record.Zendesk}
	companies = map[string]string{record.NetSuite: "customer", record.Salesforce: "Account", record.ServiceNow: "customer_account", record.Zendesk: "organization"}
	contacts  = map[string]string{record.NetSuite: "contact", record.Salesforce: "Contact", record.ServiceNow: "customer_contact", record.Zendesk: "user"}
)

// tidy is what the NetSuite and Zendesk accounts of the story make of phone numbers, whoever saves them.
func tidy(platform, _, field string, value any) any {
	text, is := value.(string)
	if !is || platform == record.Salesforce || !strings.HasSuffix(field, "phone") {
		return value
	}
	digits := strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	return strings.Join(digits, " ")
}

// does is what a person does on a platform's pages; no id makes a new record.
func (d *demo) does(platform, id string, fields map[string]any) (string, error) {
	edit := map[string]func(string, string, map[string]any) (string, error){record.NetSuite: d.twins.NetSuite.Edit, record.Salesforce: d.twins.Salesforce.Edit,
		record.ServiceNow: d.twins.ServiceNow.Edit, record.Zendesk: d.twins.Zendesk.Edit}[platform]
	got, err := edit(companies[platform], id, fields)
	if err != nil {
		err = fmt.Errorf("a person on %s: %w", platform, err)
	}
	return got, err
}

// later waits for the next second: the platforms' clocks count whole ones, and what a person does in the very second of
// our write is told apart from it only by a later read.
func later() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
}

func (d *demo) all(platform string) []map[string]any {
	return map[string]func(string) []map[string]any{record.NetSuite: d.twins.NetSuite.All, record.Salesforce: d.twins.Salesforce.All,
		record.ServiceNow: d.twins.ServiceNow.All, record.Zendesk: d.twins.Zendesk.All}[platform](companies[platform])
}

// found makes the customers of the chapters to come in NetSuite, and waits until everybody has them.
func (d *demo) found(ctx context.Context) error {
	ids := map[string]string{}
	for _, c := range []struct{ number, name, tax, street, city, zip, country string }{
		{"ERNSH", "Ernst Handel", "ATU12345675", "Kirchgasse 6", "Graz", "8010", "AT"},
		{"VINET", "Vins et alcools Chevalier", "FR40303265045", "59 rue de l'Abbaye", "Reims", "51100", "FR"},
		{"BONAP", "Bon app'", "FR83404833048", "12 rue des Bouchers", "Marseille", "13008", "FR"},
		{"KOENE", "Königlich Essen", "DE811907980", "Maubelstr. 90", "Brandenburg", "14776", "DE"},
		{"PARIS", "Paris spécialités", "FR03552081317", "265 bd Charonne", "Paris", "75012", "FR"},
		{"HUNGO", "Hungry Owl All-Night Grocers", "IE6388047V", "8 Johnstown Road", "Cork", "T12 X0XX", "IE"},
	} {
		id, err := d.does(record.NetSuite, "", map[string]any{"companyName": c.name, "entityId": c.number, "vatRegNumber": c.tax, "phone": "+43-7675-" + fmt.Sprint(1000+len(ids)),
			"currency": map[string]any{"id": "4"}, "creditLimit": 20000, "creditHoldOverride": map[string]any{"id": "AUTO"}, "addressBook": address(c.street, c.city, c.zip, c.country)})
		if err != nil {
			return err
		}
		ids[c.number] = id
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.cast = map[string]company{}
	for number, id := range ids {
		c, err := d.known(ctx, id)
		if err != nil {
			return err
		}
		d.cast[number] = c
	}
	return nil
}

func address(street, city, zip, country string) map[string]any {
	return map[string]any{"items": []any{map[string]any{"defaultBilling": true, "defaultShipping": true,
		"addressBookAddress": map[string]any{"addr1": street, "city": city, "zip": zip, "country": country}}}}
}

// known finds the native records of a NetSuite customer: everybody must have one.
func (d *demo) known(ctx context.Context, customer string) (company, error) {
	id, err := d.record(ctx, "customer", customer)
	if err != nil {
		return company{}, err
	}
	states, err := d.world.Ledger.Load(ctx, id)
	c := company{id, map[string]string{}}
	for _, p := range everybody {
		v := states[id].Record.Views[p]
		if err == nil && !v.Exists() {
			err = fmt.Errorf("%s has no native record of %s", p, id)
		}
		c.on[p] = v.ID
	}
	return c, err
}

// shows compares fields of a customer, "platform path" → text, with what the twins hold.
func (d *demo) shows(c company, want map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		p, path, _ := strings.Cut(k, " ")
		get := map[string]func(string, string) (map[string]any, bool){record.NetSuite: d.twins.NetSuite.Get, record.Salesforce: d.twins.Salesforce.Get,
			record.ServiceNow: d.twins.ServiceNow.Get, record.Zendesk: d.twins.Zendesk.Get}[p]
		native, ok := get(companies[p], c.on[p])
		if !ok {
			return fmt.Errorf("%s has no %s", p, c.on[p])
		}
		if got := at(native, path); got != want[k] {
			return fmt.Errorf("%s %s is %q, want %q", p, path, got, want[k])
		}
	}
	return nil
}

// at is the text at a dotted path; "billing." begins one in NetSuite's default billing address.
func at(native map[string]any, path string) string {
	if part, billing := strings.CutPrefix(path, "billing."); billing {
		book, _ := native["addressBook"].(map[string]any)
		lines, _ := book["items"].([]any)
		for _, l := range lines {
			if line, _ := l.(map[string]any); line["defaultBilling"] == true {
				native, _ = line["addressBookAddress"].(map[string]any)
				return at(native, part)
			}
		}
		return ""
	}
	head, rest, deeper := strings.Cut(path, ".")
	if deeper {
		native, _ = native[head].(map[string]any)
		return at(native, rest)
	}
	if native[head] == nil {
		return ""
	}
	text := fmt.Sprint(native[head])
	if _, is := native[head].(string); !is {
		if n, err := decimal.NewFromString(text); err == nil { // 75000.0 is 75000
			return n.String()
		}
	}
	return text
}

// counted begins to count writes. The function it returns tells what was written since, by platform.
func (d *demo) counted() func() string {
	before := map[string]int{}
	for _, p := range everybody {
		before[p] = d.writes(p)
	}
	return func() string {
		var out []string
		for _, p := range everybody {
			if n := d.writes(p) - before[p]; n > 0 {
				out = append(out, fmt.Sprintf("%s %d", p, n))
			}
		}
		if len(out) == 0 {
			return "none"
		}
		return strings.Join(out, ", ")
	}
}

// wrote checks how many writes there were.
func (d *demo) wrote(what string, since func() string, want string) {
	got := since()
	d.hold(what, got, need(got == want, got+", want "+want))
}

// then checks what a customer looks like once all is quiet.
func (d *demo) then(ctx context.Context, what string, c company, want map[string]string) {
	err := d.settled(ctx)
	if err == nil {
		err = d.shows(c, want)
	}
	d.hold(what, "", err)
}

// open lists what people have to look at about a record.
func (d *demo) open(ctx context.Context, id record.ID) ([]ledger.Exception, error) {
	return d.world.Operate().Exceptions(ctx, operate.Filter{Record: id})
}

func (d *demo) nothingOpen(ctx context.Context, id record.ID) error {
	open, err := d.open(ctx, id)
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("%s: %s", open[0].Type, open[0].Detail)
	}
	return err
}

// only is the one thing about a record that people have to look at.
func (d *demo) only(ctx context.Context, id record.ID, kind string) (ledger.Exception, error) {
	open, err := d.open(ctx, id)
	if err == nil && (len(open) != 1 || open[0].Type != kind) {
		err = fmt.Errorf("%d open exceptions %+v, want one %s", len(open), open, kind)
	}
	if err != nil {
		return ledger.Exception{}, err
	}
	return open[0], nil
}

func (d *demo) as(person string) acting {
	return acting{asking: asking{URL: d.host.URL()}, As: person}
}

// (8)
func (d *demo) credit(ctx context.Context) error {
	if err := d.found(ctx); err != nil {
		return err
	}
	c := d.cast["ERNSH"]
	later()
	writes := d.counted()
	d.printf("  finance raises the credit limit to 75,000\n")
	if _, err := d.does(record.NetSuite, c.on[record.NetSuite], map[string]any{"creditLimit": 75000}); err != nil {
		return err
	}
	d.then(ctx, "sales and support see it", c, map[string]string{"salesforce ERP_Credit_Limit__c": "75000", "zendesk organization_fields.erp_credit_limit": "75000", "servicenow u_credit_limit": "75000"})
	d.wrote("exactly one write per platform", writes, "salesforce 1, servicenow 1, zendesk 1")
	return nil
}

// moves lets the sales rep set a billing address in Salesforce, and returns the proposal that follows.
func (d *demo) moves(ctx context.Context, c company, street, city string) (operate.Proposal, error) {
	later()
	writes := d.counted()
	d.printf("  Sarah, who is in sales, moves the customer to %s, %s in Salesforce\n", street, city)
	if _, err := d.does(record.Salesforce, c.on[record.Salesforce], map[string]any{"BillingStreet": street, "BillingCity": city}); err != nil {
		return operate.Proposal{}, err
	}
	if err := d.settled(ctx); err != nil {
		return operate.Proposal{}, err
	}
	open, err := d.world.Operate().Proposals(ctx, false)
	if err != nil || len(open) != 1 {
		return operate.Proposal{}, errors.Join(err, fmt.Errorf("%d open proposals, want one", len(open)))
	}
	d.wrote("nothing is written", writes, "none")
	return d.world.Operate().Proposal(ctx, open[0].ID)
}

// (9)
func (d *demo) approved(ctx context.Context) error {
	c := d.cast["VINET"]
	p, err := d.moves(ctx, c, "2 rue du Port", "Lyon")
	if err != nil {
		return err
	}
	d.printf("  $ sorrel proposals show %s\n", p.ID)
	if err := (proposalsShow{ID: p.ID, asking: d.as("").asking}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	ask := p.Fields["billingAddress.street"]
	d.hold("it is a proposal: before, after, who asks", "", need(ask.Before == record.TextValue("59 rue de l'Abbaye") && ask.After == record.TextValue("2 rue du Port") && p.Person == sarah, fmt.Sprintf("%+v by %s", ask, p.Person)))
	writes := slices.Sorted(maps.Keys(p.Impact))
	d.hold("it tells what an approval would write", strings.Join(writes, ", "), need(slices.Equal(writes, []string{record.NetSuite, record.ServiceNow, record.Zendesk}), fmt.Sprint(writes)))
	_, err = d.world.Steward().Decide(ctx, d.person(sarah), steward.Verdict{Proposal: p.ID, Approve: true})
	d.hold("Sarah cannot approve it herself", fault.Outermost(err).Detail, need(fault.Is(err, fault.Forbidden), fmt.Sprint(err)))
	since := d.counted()
	d.printf("  $ sorrel proposals approve %s --as %s\n", p.ID, fiona)
	approve := proposalsApprove{verdict{ID: p.ID, Revision: p.Revision, acting: d.as(fiona)}}
	if err := approve.Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	d.then(ctx, "the address is in NetSuite, and from there everywhere", c, map[string]string{"netsuite billing.addr1": "2 rue du Port", "netsuite billing.city": "Lyon", "netsuite billing.zip": "51100",
		"salesforce BillingStreet": "2 rue du Port", "servicenow street": "2 rue du Port", "servicenow city": "Lyon", "zendesk organization_fields.erp_city": "Lyon"})
	d.wrote("one write each, and none to Salesforce, which has it already", since, "netsuite 1, servicenow 1, zendesk 1")
	why, err := d.world.Operate().Why(ctx, c.id, "billingAddress.street")
	if err != nil {
		return err
	}
	d.hold("golden is NetSuite's own word, and why names who approved", "", need(why[0].From == record.NetSuite && why[0].Approved != nil && why[0].Approved.By == fiona, fmt.Sprintf("%+v", why[0])))
	if err := approve.Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	d.hold("approving it again changes nothing", "", errors.Join(d.settled(ctx), need(since() == "netsuite 1, servicenow 1, zendesk 1", since())))
	return d.rejected(ctx, c)
}

// rejected is the same customer's next move, which finance does not agree to.
func (d *demo) rejected(ctx context.Context, c company) error {
	p, err := d.moves(ctx, c, "1 place Bellecour", "Lyon")
	if err != nil {
		return err
	}
	since := d.counted()
	d.printf("  $ sorrel proposals reject %s --as %s --comment \"the lease is not signed\"\n", p.ID, fiona)
	if err := (proposalsReject{verdict{ID: p.ID, Comment: "the lease is not signed", acting: d.as(fiona)}}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	d.then(ctx, "rejected: Salesforce is put back", c, map[string]string{"salesforce BillingStreet": "2 rue du Port", "netsuite billing.addr1": "2 rue du Port", "servicenow street": "2 rue du Port"})
	d.wrote("by one write", since, "salesforce 1")
	err = (proposalsApprove{verdict{ID: p.ID, acting: d.as(fiona)}}).Run(binding{ctx}, d.screen)
	d.hold("and cannot be approved any more", "", need(err != nil && strings.Contains(err.Error(), "conflict"), fmt.Sprint(err)))
	return nil
}

func (d *demo) person(name string) policy.Person {
	p, _ := d.world.Config.Person(name)
	return p
}

// (10)
func (d *demo) sameSecond(ctx context.Context) error {
	c := d.cast["BONAP"]
	later()
	d.printf("  sales names the account manager, support the tier, finance puts the customer on hold: at once\n")
	var all sync.WaitGroup
	var errs [3]error
	for i, e := range []struct {
		platform string
		fields   map[string]any
	}{
		{record.Salesforce, map[string]any{"Account_Manager__c": "Laurence Lebihan"}},
		{record.ServiceNow, map[string]any{"u_support_tier": "premium"}},
		{record.NetSuite, map[string]any{"creditHoldOverride": map[string]any{"id": "ON"}}},
	} {
		all.Go(func() { _, errs[i] = d.does(e.platform, c.on[e.platform], e.fields) })
	}
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	d.then(ctx, "all of it survives, everywhere", c, map[string]string{
		"salesforce Account_Manager__c": "Laurence Lebihan", "servicenow u_account_manager": "Laurence Lebihan", "zendesk organization_fields.account_manager": "Laurence Lebihan",
		"salesforce Support_Tier__c": "Premium", "servicenow u_support_tier": "premium", "zendesk organization_fields.support_tier": "tier_premium",
		"netsuite creditHoldOverride.id": "ON", "salesforce ERP_Credit_Hold__c": "On", "servicenow u_credit_hold": "on", "zendesk organization_fields.erp_credit_hold": "credit_on"})
	d.hold("nobody has to look at anything", "", d.nothingOpen(ctx, c.id))
	return nil
}

// (11)
func (d *demo) twice(ctx context.Context) error {
	before := map[string]int{}
	for _, p := range everybody {
		before[p] = len(d.all(p))
	}
	later()
	d.printf("  finance enters Lehmanns Marktstand GmbH, tax id DE 129 273 398; in the same moment sales wins Lehmanns Marktstand, DE129273398\n")
	var all sync.WaitGroup
	var customer string
	var errs [2]error
	all.Go(func() {
		customer, errs[0] = d.does(record.NetSuite, "", map[string]any{"companyName": "Lehmanns Marktstand GmbH", "entityId": "LEHMS", "vatRegNumber": "DE 129 273 398", "creditLimit": 5000, "addressBook": address("Magazinweg 7", "Frankfurt", "60528", "DE")})
	})
	all.Go(func() {
		_, errs[1] = d.does(record.Salesforce, "", map[string]any{"Name": "Lehmanns Marktstand", "Tax_Id__c": "DE129273398", "BillingCountry": "DE", "Industry": "Retail"})
	})
	all.Wait()
	if err := errors.Join(append(errs[:], d.settled(ctx))...); err != nil {
		return err
	}
	for _, p := range everybody {
		n := len(d.all(p)) - before[p]
		d.hold("one "+companies[p]+" more on "+p, "", need(n == 1, fmt.Sprintf("%d more", n)))
	}
	c, err := d.known(ctx, customer)
	if err != nil {
		return err
	}
	d.hold("they are one record, of which each side has said its own", string(c.id), errors.Join(d.nothingOpen(ctx, c.id), d.shows(c, map[string]string{
		"salesforce Name": "Lehmanns Marktstand GmbH", "salesforce ERP_Customer_Number__c": "LEHMS", "salesforce ERP_Credit_Limit__c": "5000", "servicenow u_industry": "retail", "servicenow u_credit_limit": "5000"})))
	return nil
}

// (12)
func (d *demo) merging(ctx context.Context) error {
	c := d.cast["KOENE"]
	later()
	writes := d.counted()
	d.printf("  somebody in sales enters it once more, without its tax id\n")
	loser, err := d.does(record.Salesforce, "", map[string]any{"Name": "Koniglich-Essen", "BillingPostalCode": "14776", "BillingCity": "Brandenburg", "BillingCountry": "DE"})
	if err != nil {
		return err
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	other := ledger.Mint("customer", record.Ref{Platform: record.Salesforce, Object: "Account", ID: loser})
	x, err := d.only(ctx, other, "possible-duplicate")
	d.hold("as Salesforce has two of them now, people are asked", x.Detail, err)
	d.wrote("and it is made nowhere else meanwhile", writes, "none")
	later()
	d.printf("  Sarah merges the two accounts in Salesforce\n")
	if err := d.twins.Salesforce.Merge("Account", c.on[record.Salesforce], loser); err != nil {
		return err
	}
	d.expect(ctx, "the two are one record, and the question is closed", func() (string, error) {
		id, known, err := d.world.Ledger.Lookup(ctx, record.Ref{Platform: record.Salesforce, Object: "Account", ID: loser})
		if err != nil {
			return "", err
		}
		r, err := d.world.Operate().Record(ctx, other)
		return fmt.Sprintf("%s is %s now", other, r.MergedInto), errors.Join(err, d.nothingOpen(ctx, other), need(known && (id == c.id || r.MergedInto == c.id) && r.MergedInto == c.id, fmt.Sprintf("%s was merged into %q", other, r.MergedInto)))
	})
	later()
	if err := d.settled(ctx); err != nil {
		return err
	}
	writes = d.counted()
	if _, err := d.does(record.NetSuite, c.on[record.NetSuite], map[string]any{"creditLimit": 31000}); err != nil {
		return err
	}
	d.then(ctx, "it flows on", c, map[string]string{"salesforce ERP_Credit_Limit__c": "31000", "zendesk organization_fields.erp_credit_limit": "31000", "servicenow u_credit_limit": "31000"})
	d.wrote("by one write each", writes, "salesforce 1, servicenow 1, zendesk 1")
	return nil
}

// (13)
func (d *demo) deactivated(ctx context.Context) error {
	c := d.cast["PARIS"]
	later()
	writes := d.counted()
	d.printf("  the customer closes down: finance makes it inactive in NetSuite\n")
	if _, err := d.does(record.NetSuite, c.on[record.NetSuite], map[string]any{"isInactive": true}); err != nil {
		return err
	}
	d.then(ctx, "it is inactive everywhere, and deleted nowhere", c, map[string]string{"salesforce ERP_Active__c": "false", "zendesk organization_fields.erp_active": "false", "servicenow active": "false"})
	d.wrote("by one write each", writes, "salesforce 1, servicenow 1, zendesk 1")
	return nil
}

// (14)
func (d *demo) drift(ctx context.Context) error {
	c := d.cast["HUNGO"]
	d.printf("  an administrator takes VIP off a picklist in Salesforce; then support makes the customer VIP, and its phone number changes\n")
	if err := d.twins.Salesforce.AddField("Account", salesforcetwin.Field{Name: "Support_Tier__c", Type: "picklist", Restricted: true, Values: []string{"Standard", "Premium"}}); err != nil {
		return err
	}
	later()
	if _, err := d.does(record.ServiceNow, c.on[record.ServiceNow], map[string]any{"u_support_tier": "vip", "phone": "2967 542"}); err != nil {
		return err
	}
	d.then(ctx, "only that field waits, on Salesforce alone", c, map[string]string{"salesforce Support_Tier__c": "", "salesforce Phone": "2967 542", "zendesk organization_fields.support_tier": "tier_vip", "netsuite phone": "2967 542"})
	x, err := d.only(ctx, c.id, "unknown-picklist")
	d.hold("people are told why", x.Detail, err)
	if err != nil {
		return err
	}
	if err := d.twins.Salesforce.AddPicklistValue("Account", "Support_Tier__c", "VIP"); err != nil {
		return err
	}
	writes := d.counted()
	d.printf("  the value is back; Sorrel would find out by itself in a minute or two, but Stewart does not wait\n  $ sorrel exceptions retry %s --as %s\n", x.ID, stewart)
	if err := (actRetry{on{ID: x.ID, acting: d.as(stewart)}}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	d.then(ctx, "the held value arrives", c, map[string]string{"salesforce Support_Tier__c": "VIP"})
	d.wrote("by one write", writes, "salesforce 1")
	d.hold("and the exception is resolved", "", d.nothingOpen(ctx, c.id))
	return nil
}

// (15)
func (d *demo) noLoops(ctx context.Context) error {
	phone := d.twins.NetSuite.All("customer")[0]["phone"]
	d.hold("all the while NetSuite, Zendesk and ServiceNow wrote phone numbers in forms of their own", fmt.Sprint(phone), need(!strings.ContainsAny(fmt.Sprint(phone), "+-"), fmt.Sprint(phone)))
	writes := d.counted()
	for _, p := range everybody {
		for _, object := range []string{companies[p], contacts[p]} {
			if err := d.world.Ledger.SaveCursor(ctx, p, object, ""); err != nil {
				return err
			}
		}
		if err := d.host.List(ctx, p); err != nil {
			return err
		}
	}
	if err := errors.Join(d.settled(ctx), d.redeliver(ctx)); err != nil {
		return err
	}
	d.wrote("every platform is listed from its beginning, and NetSuite's events are repeated: no write", writes, "none")
	d.hold("nothing was dead-lettered", "", d.noDeadLetters(ctx))
	d.printf("  $ sorrel audit verify\n")
	d.hold("the audit log is whole", "", (auditVerify{d.as("").asking}).Run(binding{ctx}, d.screen))
	return nil
}
