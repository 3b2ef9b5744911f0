package entitlement_test

import (
	"testing"
	"time"

	"sorrel/shared/entitlement"
	"sorrel/shared/record"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	term := func(id record.ID, status, tier, starts, ends, product string) entitlement.Terms {
		return entitlement.Terms{Contract: id, Status: status, Tier: tier, Starts: starts, Ends: ends, For: product}
	}
	const today = "2026-11-02"
	for name, c := range map[string]struct {
		hold      bool
		support   string
		contracts []entitlement.Terms
		product   string
		want      entitlement.Entitled
	}{
		"none":           {want: entitlement.Entitled{Reason: entitlement.NoContract}},
		"draft":          {contracts: []entitlement.Terms{term("contract/a", "draft", "vip", "", "", "")}, want: entitlement.Entitled{Reason: entitlement.NoContract}},
		"last day":       {contracts: []entitlement.Terms{term("contract/a", "active", "", "", today, "")}, support: "vip", want: entitlement.Entitled{Entitled: true, Tier: "vip", Until: today, Reason: entitlement.ByContract, Contract: "contract/a"}},
		"over":           {contracts: []entitlement.Terms{term("contract/a", "active", "", "", "2026-11-01", "")}, want: entitlement.Entitled{Reason: entitlement.ContractEnded}},
		"later":          {contracts: []entitlement.Terms{term("contract/a", "active", "", "2026-11-03", "", "")}, want: entitlement.Entitled{Reason: entitlement.ContractLater}},
		"other product":  {contracts: []entitlement.Terms{term("contract/a", "active", "", "", "", "Dry")}, product: "Cold", want: entitlement.Entitled{Reason: entitlement.OtherProduct}},
		"the product":    {contracts: []entitlement.Terms{term("contract/a", "active", "", "", "", "cold")}, product: "Cold", want: entitlement.Entitled{Entitled: true, Tier: "standard", Reason: entitlement.ByContract, Contract: "contract/a"}},
		"on hold":        {hold: true, contracts: []entitlement.Terms{term("contract/a", "active", "vip", "", "", "")}, want: entitlement.Entitled{Reason: entitlement.CreditHold, Contract: "contract/a"}},
		"the best tier":  {contracts: []entitlement.Terms{term("contract/a", "active", "standard", "", "", ""), term("contract/b", "active", "vip", "", "2027-01-01", "")}, want: entitlement.Entitled{Entitled: true, Tier: "vip", Until: "2027-01-01", Reason: entitlement.ByContract, Contract: "contract/b"}},
		"then the end":   {contracts: []entitlement.Terms{term("contract/a", "active", "vip", "", "2027-01-01", ""), term("contract/b", "active", "vip", "", "", "")}, want: entitlement.Entitled{Entitled: true, Tier: "vip", Reason: entitlement.ByContract, Contract: "contract/b"}},
		"of two misses":  {contracts: []entitlement.Terms{term("contract/a", "expired", "", "", "", ""), term("contract/b", "active", "", "2027-01-01", "", "")}, want: entitlement.Entitled{Reason: entitlement.ContractEnded}},
		"a lapsed other": {contracts: []entitlement.Terms{term("contract/a", "expired", "vip", "", "", ""), term("contract/b", "active", "standard", "", "", "")}, want: entitlement.Entitled{Entitled: true, Tier: "standard", Reason: entitlement.ByContract, Contract: "contract/b"}},
	} {
		if got := entitlement.Judge(c.hold, c.support, c.contracts, c.product, today); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		contracts []entitlement.Terms
		want      time.Time
	}{
		"none":                 {},
		"the last day is over": {[]entitlement.Terms{{Status: "active", Starts: "2026-01-01", Ends: "2026-11-02"}}, day(3)},
		"one begins":           {[]entitlement.Terms{{Status: "active", Starts: "2026-11-05", Ends: "2026-12-31"}, {Status: "active", Ends: "2026-11-09"}}, day(5)},
		"all is past":          {[]entitlement.Terms{{Status: "active", Ends: "2026-11-01"}}, time.Time{}},
		"a draft":              {[]entitlement.Terms{{Status: "draft", Starts: "2026-11-05"}}, time.Time{}},
		"no day":               {[]entitlement.Terms{{Status: "active", Starts: "soon"}}, time.Time{}},
	} {
		if got := entitlement.Changes(c.contracts, now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
