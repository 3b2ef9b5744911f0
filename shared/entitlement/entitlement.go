// Package entitlement judges whether a customer is owed service, of which tier and until when. It is pure; the lookup that
// programs ask and the workflow that marks cases share it, so that they never disagree about the same facts.
package entitlement

import (
	"slices"
	"strings"
	"time"

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

// Terms are what a contract says. Days are written as 2006-01-02, so that they compare as texts.
type Terms struct {
	Contract                        record.ID
	Status, Tier, Starts, Ends, For string // For is the product
}

// gone is the status of a contract that its owner has deleted, whoever else still has a copy.
const gone = "deleted"

// TermsOf are the terms of a contract's record.
func TermsOf(r record.Record) Terms {
	text := func(field string) string {
		if v := r.Golden[field].Value; v.Kind() == record.Text {
			return v.Raw()
		}
		return ""
	}
	t := Terms{Contract: r.ID, Status: text("status"), Tier: text("tier"), Starts: text("startsOn"), Ends: text("endsOn"), For: text("product")}
	if owner, platform := r.Views[r.Golden["status"].From]; platform && owner.Gone() {
		t.Status = gone
	}
	return t
}

// Day is a moment's day (UTC) as terms write days.
func Day(at time.Time) string { return at.UTC().Format(time.DateOnly) }

// Judge decides about a customer by its contracts. day is today. A contract that names no product covers all. Of those
// that cover, the best tier decides, then the latest end. A customer on credit hold is owed nothing.
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

// Changes is the first moment after now at which time alone may change a judgement by these contracts: one of them begins,
// or its last day is over. Zero where none does.
func Changes(contracts []Terms, now time.Time) time.Time {
	var first time.Time
	soonest := func(day string, plus int) {
		at, err := time.Parse(time.DateOnly, day)
		if at = at.AddDate(0, 0, plus); err == nil && at.After(now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, c := range contracts {
		if c.Status == "active" {
			soonest(c.Starts, 0)
			soonest(c.Ends, 1)
		}
	}
	return first
}
