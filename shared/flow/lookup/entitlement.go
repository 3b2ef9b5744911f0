package lookup

import (
	"context"
	"slices"
	"strings"
	"time"

	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Reasons of an entitlement, or of none.
const (
	ByContract      = "contract"
	NoContract      = "no-contract"
	ContractEnded   = "contract-ended"
	ContractLater   = "contract-not-started"
	OtherProduct    = "other-product"
	CreditHold      = "credit-hold"
	CustomerDeleted = "customer-deleted"
)

// Entitled is the judgement about a customer: whether service is owed, of which tier and until when.
type Entitled struct {
	Entitled bool      `json:"entitled"`
	Tier     string    `json:"tier,omitempty"`
	Until    string    `json:"until,omitempty"` // the last day, by the owner's calendar; empty with entitled: no end is set
	Reason   string    `json:"reason"`
	Contract record.ID `json:"contract,omitempty"` // that decided
}

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
	Entitled
	Evidence []Evidence `json:"evidence"` // as far as the consumer may see it
	Told
}

// Terms are what a contract says.
type Terms struct {
	Contract                        record.ID
	Status, Tier, Starts, Ends, For string // For is the product
}

// Judge decides about a customer by its contracts. It is pure. day is today as 2006-01-02, which is how contracts say days,
// so that they compare as texts. A contract that names no product covers all. Of those that cover, the best tier decides,
// then the latest end. A customer on credit hold is owed nothing.
func Judge(hold bool, supportTier string, contracts []Terms, product, day string) Entitled {
	var best *Terms
	reason := NoContract
	miss := func(why string) { // the nearest miss is told
		order := []string{NoContract, ContractLater, ContractEnded, OtherProduct}
		if slices.Index(order, why) > slices.Index(order, reason) {
			reason = why
		}
	}
	for i, c := range contracts {
		switch {
		case c.Status == "expired" || c.Status == "active" && c.Ends != "" && c.Ends < day:
			miss(ContractEnded)
		case c.Status != "active":
		case c.Starts != "" && c.Starts > day:
			miss(ContractLater)
		case product != "" && c.For != "" && !strings.EqualFold(c.For, product):
			miss(OtherProduct)
		case best == nil || better(c, *best):
			best = &contracts[i]
		}
	}
	switch {
	case best == nil:
		return Entitled{Reason: reason}
	case hold:
		return Entitled{Reason: CreditHold, Contract: best.Contract}
	}
	out := Entitled{Entitled: true, Tier: best.Tier, Until: best.Ends, Reason: ByContract, Contract: best.Contract}
	if out.Tier == "" {
		out.Tier = supportTier
	}
	if out.Tier == "" {
		out.Tier = "standard"
	}
	return out
}

func better(a, b Terms) bool {
	rank := func(t Terms) int { return slices.Index([]string{"standard", "premium", "vip"}, t.Tier) }
	if rank(a) != rank(b) {
		return rank(a) > rank(b)
	}
	if (a.Ends == "") != (b.Ends == "") {
		return a.Ends == ""
	}
	if a.Ends != b.Ends {
		return a.Ends > b.Ends
	}
	return a.Contract < b.Contract
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
	var terms []Terms
	for _, c := range contracts {
		if c.state != Deleted && c.record.Golden["customer"].Value == loaded[c.record.ID].Record.Golden["customer"].Value { // else it was just read to be somebody else's
			terms = append(terms, Terms{Contract: c.record.ID, Status: c.text("status"), Tier: c.text("tier"), Starts: c.text("startsOn"), Ends: c.text("endsOn"), For: c.text("product")})
		}
	}
	out := &Entitlement{Customer: who.record.ID, Product: ask.Product, Evidence: []Evidence{}}
	if id != who.record.ID {
		out.Asked = id
	}
	out.Entitled = Judge(who.text("creditHold") == "on", who.text("supportTier"), terms, ask.Product, a.now.UTC().Format(time.DateOnly))
	if who.state == Deleted {
		out.Entitled = Entitled{Reason: CustomerDeleted}
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
