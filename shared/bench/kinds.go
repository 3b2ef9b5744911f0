package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/twin"
)

// approver is somebody of people.yaml who may decide about addresses.
const approver = "fiona@northwind.example"

// kinds are the changes that are counted, in this order: most of them happen to one customer.
func (t *tally) kinds() []change {
	var ernst, order, twice, rival string // ids in NetSuite, rival's in Salesforce
	account := func() string { return t.native(ernst, record.Salesforce) }
	street := func(s string) step {
		return t.salesforce(account, map[string]any{"BillingStreet": s})
	}
	return []change{
		{name: "new customer", costs: "1+3 1+3+2 18 21 / 0 0 0 1 / 0 1 1 1", do: t.netsuite("customer", &ernst, map[string]any{
			"entityId": "ERNSH", "companyName": "Ernst Handel", "vatRegNumber": "ATU12345678", "email": "ap@ernst.example", "phone": "+43 7675 3425",
			"url": "https://ernst.example", "currency": id("4"), "terms": id("2"), "creditLimit": 5000, "custentity_segment": "midmarket",
			"addressBook": address("Kirchgasse 6", "Graz", "8010", "AT")}),
			check: t.shows(&ernst, "creditLimit", "5000")},
		{name: "credit limit edited", echoes: "  of it, its 3 echoes", costs: "1+3 1+3+2 14 21 / 0 0 0 0 / 0 1 1 1", do: t.netsuite("customer", &ernst, map[string]any{"creditLimit": 7500}),
			check: t.shows(&ernst, "creditLimit", "7500")},
		{name: "edit in Salesforce", costs: "1+1 1+1+0 6 9 / 0 0 0 0 / 0 0 0 1", do: t.salesforce(account, map[string]any{"Industry": "Healthcare"}), check: t.shows(&ernst, "industry", "healthcare")},
		// Two commits for echoes: NetSuite tells no version of a write, so that its echo is what says when it was.
		{name: "edit in Zendesk", costs: "1+3 1+3+4 19 21 / 0 0 1 0 / 1 1 0 1", do: func(context.Context) error {
			_, err := t.twins.Zendesk.Edit("organization", t.native(ernst, record.Zendesk), map[string]any{"organization_fields": map[string]any{"erp_phone": "+43 7675 1"}})
			return err
		}, check: t.shows(&ernst, "phone", "+43 7675 1")},
		{name: "edit in ServiceNow", costs: "1+2 1+2+2 11 15 / 0 0 0 0 / 0 1 1 0", do: func(context.Context) error {
			_, err := t.twins.ServiceNow.Edit("customer_account", t.native(ernst, record.ServiceNow), map[string]any{"u_support_tier": "premium"})
			return err
		}, check: t.shows(&ernst, "supportTier", "premium")},
		{name: "told on two channels", costs: "2+1 2+1+0 8 12 / 0 0 0 0 / 0 0 0 1", do: func(ctx context.Context) error {
			t.speak(false)
			if err := t.salesforce(account, map[string]any{"Industry": "Retail"})(ctx); err != nil {
				return err
			}
			return t.hush(ctx)
		}, check: t.shows(&ernst, "industry", "retail")},
		{name: "edit told twice", costs: "1+3 1+3+2 14 22 / 0 0 0 0 / 0 1 1 1", do: func(ctx context.Context) error {
			t.twins.NetSuite.Kit().SetFaults(twin.Faults{DuplicateWebhooks: 1})
			defer t.twins.NetSuite.Kit().SetFaults(twin.Faults{})
			return t.netsuite("customer", &ernst, map[string]any{"creditLimit": 8000})(ctx)
		}, check: t.shows(&ernst, "creditLimit", "8000")},
		{name: "saved, nothing new", costs: "1+0 1+0+0 3 3 / 0 0 0 0 / 0 0 0 0", do: t.salesforce(account, map[string]any{"Description": "a good customer"})},
		{name: "edit put back (revert)", costs: "1+1 1+1+2 11 9 / 0 0 0 0 / 0 1 0 0", do: t.salesforce(account, map[string]any{"Name": "Ernst H."}),
			check: t.shows(&ernst, "name", "Ernst Handel")},
		{name: "edit refused (reject)", costs: "1+1 1+1+2 11 9 / 0 0 0 0 / 0 1 0 0", do: t.salesforce(account, map[string]any{"ERP_Credit_Limit__c": 99000}),
			check: t.shows(&ernst, "creditLimit", "8000")},
		{name: "proposal opened", costs: "1+0 1+0+0 3 3 / 0 0 0 0 / 0 0 0 0", do: street("Hauptplatz 1"), check: t.shows(&ernst, "billingAddress.street", "Kirchgasse 6")},
		{name: "proposal approved", costs: "0+2 1+2+1 11 12 / 1 0 0 0 / 1 0 0 1", do: t.decide(true), check: t.shows(&ernst, "billingAddress.street", "Hauptplatz 1")},
		{name: "proposal rejected", costs: "0+1 1+1+2 10 6 / 0 0 0 0 / 0 1 0 0", before: []step{street("Nebengasse 2")}, do: t.decide(false),
			check: t.shows(&ernst, "billingAddress.street", "Hauptplatz 1")},
		{name: "created on two at once", costs: "2+3 2+3+3 26 30 / 0 0 0 1 / 0 1 1 1", do: func(ctx context.Context) error {
			err := t.netsuite("customer", &twice, map[string]any{"entityId": "QUICK", "companyName": "QUICK-Stop", "vatRegNumber": "DE123456789",
				"currency": id("4"), "addressBook": address("Taucherstraße 10", "Cunewalde", "01307", "DE")})(ctx)
			if err = errors.Join(err, t.twins.Drain(ctx)); err != nil { // in this order, and then both wait in the queue
				return err
			}
			_, err = t.twins.Salesforce.Edit("Account", "", map[string]any{"Name": "QUICK Stop GmbH", "Tax_Id__c": "DE 123 456 789", "Industry": "Retail"})
			return err
		}, check: t.shows(&twice, "industry", "retail")},
		{name: "a possible duplicate", costs: "1+0 1+0+0 6 3 / 0 0 0 0 / 0 0 0 0", do: func(context.Context) (err error) {
			rival, err = t.twins.Salesforce.Edit("Account", "", map[string]any{"Name": "Ernst Handel", "BillingCity": "Graz", "BillingPostalCode": "8010",
				"BillingCountry": "AT", "Industry": "Retail"})
			return err
		}},
		{name: "merge of two accounts", costs: "2+0 3+0+0 11 6 / 0 1 0 0 / 0 0 0 0", do: func(context.Context) error { return t.twins.Salesforce.Merge("Account", account(), rival) }, check: func() error {
			other, err := t.state(ledger.Mint("customer", record.Ref{Platform: record.Salesforce, Object: "Account", ID: rival}))
			if err == nil && other.Record.Into != minted(ernst) {
				err = fmt.Errorf("the second record was merged into %q", other.Record.Into)
			}
			return err
		}},
		{name: "picklist value held", costs: "1+1 1+2+0 8 12 / 0 1 0 0 / 0 1 1 0", do: func(ctx context.Context) error {
			if err := t.twins.Zendesk.AddPicklistValue("organization", "support_tier", "tier_platinum"); err != nil {
				return err
			}
			_, err := t.twins.ServiceNow.Edit("customer_account", t.native(ernst, record.ServiceNow), map[string]any{"u_support_tier": "platinum"})
			return err
		}, check: t.held(&ernst, 1)},
		{name: "picklist value released", costs: "1+1 1+1+2 9 9 / 0 1 0 0 / 0 1 0 0", do: func(ctx context.Context) error {
			if err := t.twins.Salesforce.AddPicklistValue("Account", "Support_Tier__c", "Platinum"); err != nil {
				return err
			}
			if err := t.forget(); err != nil {
				return err
			}
			t.pass(91 * time.Second)
			t.in(stageSweep)
			_, err := t.world.Sweep().Apply(ctx)
			return err
		}, check: t.held(&ernst, 0)},
		{name: "order milestone", costs: "1+1 1+2+2 10 12 / 0 0 0 0 / 0 1 1 0", before: []step{func(ctx context.Context) error {
			return t.netsuite("salesOrder", &order, map[string]any{"tranId": "SO-1", "tranDate": "2026-11-20", "entity": id(ernst), "orderStatus": id("B"),
				"item": map[string]any{"items": []any{map[string]any{"item": map[string]any{"refName": "Tofu"}, "quantity": 3, "rate": 23.25}}}})(ctx)
		}}, do: t.netsuite("salesOrder", &order, map[string]any{"orderStatus": id("D")})},
		{name: "delete that deactivates", costs: "1+3 1+3+2 14 21 / 0 0 0 0 / 0 1 1 1", do: func(context.Context) error { return t.twins.NetSuite.Delete("customer", twice) },
			check: t.shows(&twice, "active", "false")},
	}
}

// hush ends what speak(false) began, once all has been told.
func (t *tally) hush(ctx context.Context) error {
	err := t.twins.Drain(ctx)
	t.speak(true)
	return err
}

type step = func(context.Context) error

func id(s string) map[string]any { return map[string]any{"id": s} }

func address(street, city, zip, country string) map[string]any {
	return map[string]any{"items": []any{map[string]any{"label": "Main", "defaultBilling": true, "defaultShipping": true,
		"addressBookAddress": map[string]any{"addr1": street, "city": city, "zip": zip, "country": id(country)}}}}
}

func minted(customer string) record.ID {
	return ledger.Mint("customer", record.Ref{Platform: record.NetSuite, Object: "customer", ID: customer})
}

// netsuite is what somebody does in NetSuite; a record that is made has its id put where at points.
func (t *tally) netsuite(object string, at *string, fields map[string]any) step {
	return func(context.Context) (err error) {
		*at, err = t.twins.NetSuite.Edit(object, *at, fields)
		return err
	}
}

// salesforce is what a sales representative does to an account.
func (t *tally) salesforce(account func() string, fields map[string]any) step {
	return func(context.Context) error {
		_, err := t.twins.Salesforce.Edit("Account", account(), fields)
		return err
	}
}

// decide decides about the only open proposal.
func (t *tally) decide(approve bool) step {
	return func(ctx context.Context) error {
		t.in(stageSweep) // looking for it is no part of deciding
		open, err := t.world.Ledger.Proposals(ctx, false)
		if err != nil || len(open) != 1 {
			return fmt.Errorf("%d open proposals, want 1 (%w)", len(open), err)
		}
		t.in(stagePeople)
		_, err = t.steward.Decide(ctx, policy.Person{Name: approver}, steward.Verdict{Proposal: open[0].ID, Approve: approve})
		return err
	}
}

// state reads a record without its being counted.
func (t *tally) state(id record.ID) (ledger.State, error) {
	t.in(stageSweep)
	states, err := t.world.Ledger.Load(context.Background(), id)
	return states[id], err
}

// native is the id of a NetSuite customer on another platform.
func (t *tally) native(customer, platform string) string {
	s, err := t.state(minted(customer))
	if err != nil {
		return ""
	}
	return s.Record.Views[platform].ID
}

// shows expects a golden value, and that nothing is left to do for any platform.
func (t *tally) shows(customer *string, field, want string) func() error {
	return func() error {
		s, err := t.state(minted(*customer))
		if err != nil {
			return err
		}
		if got := s.Record.Golden[field].Value.Raw(); got != want || len(s.Due) > 0 {
			return fmt.Errorf("%s is %q, want %q; due %v", field, got, want, s.Due)
		}
		return nil
	}
}

// held expects so many fields of a customer to be held back.
func (t *tally) held(customer *string, want int) func() error {
	return func() error {
		s, err := t.state(minted(*customer))
		if err == nil && len(s.Record.Held) != want {
			err = fmt.Errorf("%v is held, want %d fields", s.Record.Held, want)
		}
		return err
	}
}
