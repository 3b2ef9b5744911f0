package lookup

import (
	"context"
	"slices"
	"time"

	"sorrel/shared/entitlement"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Evidence is a value that an entitlement rests on.
type Evidence struct {
	Record record.ID `json:"record"`
	Field  string    `json:"field"`
	Value
}

// Entitlement is an answer about a customer.
type Entitlement struct {
	Customer record.ID `json:"customer"`
	Asked    record.ID `json:"asked,omitempty"` // of a customer that was merged: the id that was asked for
	Product  string    `json:"product,omitempty"`
	entitlement.Entitled
	Evidence []Evidence `json:"evidence"` // as far as the consumer may see it
	Told
}

// Essence is as that of a record.
func (e Entitlement) Essence() any {
	e.Told, e.Evidence = e.Told.essence(), slices.Clone(e.Evidence)
	for i := range e.Evidence {
		e.Evidence[i].AsOf = time.Time{}
	}
	return e
}

// AskEntitlement is about whom it is asked: a customer's record id, or the native record that stands for it on a platform.
type AskEntitlement struct {
	Customer record.ID
	Native   record.Ref // Object may be empty: that of customers
	Product  string     // "" = any
}

// Entitlement answers whether a customer is owed service today (UTC). A contract that Sorrel has not heard of cannot be found
// by reading: it arrives by event or listing.
func (f *Flow) Entitlement(ctx context.Context, q Question, ask AskEntitlement) (*Entitlement, error) {
	if err := q.allowed(policy.UseEntitlements); err != nil {
		return nil, err
	}
	a := f.asking(q, policy.UseEntitlements)
	id := ask.Customer
	if id == "" {
		var err error
		if id, err = f.find(ctx, ask.Native, "customer"); err != nil {
			return nil, err
		}
	}
	customer, err := f.ofCustomer(ctx, id)
	if err != nil {
		return nil, err
	}
	ids, _, err := f.referring(ctx, customer.Record.ID, "contract", "", MaxPage)
	if err != nil {
		return nil, err
	}
	loaded, err := f.d.Ledger.Load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	views := a.look(ctx, append(ordered(ids, loaded), customer)...)
	contracts, who := views[:len(views)-1], views[len(views)-1]
	var terms []entitlement.Terms
	for _, c := range contracts {
		if c.state != Deleted && c.record.Golden["customer"].Value == loaded[c.record.ID].Record.Golden["customer"].Value { // else it was just read to be somebody else's
			terms = append(terms, entitlement.TermsOf(c.record))
		}
	}
	out := &Entitlement{Customer: who.record.ID, Product: ask.Product, Evidence: []Evidence{}}
	if id != who.record.ID {
		out.Asked = id
	}
	out.Entitled = entitlement.Judge(who.text("creditHold") == "on", who.text("supportTier"), terms, ask.Product, entitlement.Day(a.now))
	if who.state == Deleted {
		out.Entitled = entitlement.Entitled{Reason: entitlement.CustomerDeleted}
	}
	evidence := func(v seen, fields ...string) {
		for _, field := range fields {
			if g, some := v.record.Golden[field]; some && !g.Value.IsAbsent() && q.Consumer.Learns(v.record.ID.Entity(), field) {
				out.Evidence = append(out.Evidence, Evidence{v.record.ID, field, a.value(v, g)})
			}
		}
	}
	evidence(who, "creditHold", "supportTier")
	for _, c := range contracts {
		if c.record.ID == out.Contract {
			evidence(c, "status", "tier", "startsOn", "endsOn", "product")
		}
	}
	return out, a.verdict(&out.Told, views...)
}
