package matchtest

import (
	"maps"
	"slices"

	"sorrel/shared/match"
	"sorrel/shared/record"
)

// Rates compare pairs of records: those that were linked with those that are one customer.
type Rates struct {
	Linked    int     `json:"linked"`  // pairs in linked clusters
	Correct   int     `json:"correct"` // of them, the same customer
	True      int     `json:"true"`    // pairs of the truth
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
}

// RuleRates are those of the pairs that share a key of one rule within a linked cluster.
type RuleRates struct {
	Rule string `json:"rule"`
	Rates
}

// Score is how good a report is.
type Score struct {
	Rates
	Shown    int         `json:"shown"`    // true pairs not linked but shown: in an ambiguous cluster, or in a listed weak pair
	Surfaced float64     `json:"surfaced"` // share of true pairs that are linked or shown
	Rules    []RuleRates `json:"rules"`
}

func rates(linked, correct, truth int) Rates {
	r := Rates{Linked: linked, Correct: correct, True: truth, Precision: 1, Recall: 1}
	if linked > 0 {
		r.Precision = float64(correct) / float64(linked)
	}
	if truth > 0 {
		r.Recall = float64(correct) / float64(truth)
	}
	if correct > 0 {
		r.F1 = 2 * r.Precision * r.Recall / (r.Precision + r.Recall)
	}
	return r
}

// Evaluate compares a report with the truth. Weak pairs beyond the report's samples count as not shown.
func Evaluate(report *match.Report, truth Truth) Score {
	pairs := func(members []int) int { // of the same customer
		count := map[int]int{}
		for _, m := range members {
			count[m]++
		}
		n := 0
		for c := range maps.Values(count) {
			n += c * (c - 1) / 2
		}
		return n
	}
	all := pairs(slices.Collect(maps.Values(truth)))
	linked, correct, shown := 0, 0, 0
	byRule := map[string]*[2]int{}
	index := map[record.Ref][]int{} // a cluster's first member → its customers
	for _, c := range report.Clusters {
		who := make([]int, len(c.Members))
		for i, m := range c.Members {
			who[i] = truth[m]
		}
		index[c.Members[0]] = who
		if c.Outcome != match.Link {
			shown += pairs(who)
			continue
		}
		linked += len(who) * (len(who) - 1) / 2
		correct += pairs(who)
		for rule, set := range pairsByRule(c) {
			n := byRule[rule]
			if n == nil {
				n = new([2]int)
				byRule[rule] = n
			}
			for p := range set {
				n[0]++
				if who[p[0]] == who[p[1]] {
					n[1]++
				}
			}
		}
	}
	for _, p := range report.Pairs {
		for _, a := range index[p.A] {
			for _, b := range index[p.B] {
				if a == b {
					shown++
				}
			}
		}
	}
	s := Score{Rates: rates(linked, correct, all), Shown: shown, Surfaced: 1}
	if all > 0 {
		s.Surfaced = float64(correct+shown) / float64(all)
	}
	for _, rule := range report.Rules {
		n := byRule[rule.Rule]
		if n == nil {
			n = new([2]int)
		}
		s.Rules = append(s.Rules, RuleRates{rule.Rule, rates(n[0], n[1], all)})
	}
	return s
}

// pairsByRule is which members of a cluster share a key of which rule, each pair once.
func pairsByRule(c match.Cluster) map[string]map[[2]int]bool {
	out := map[string]map[[2]int]bool{}
	for _, e := range c.Evidence {
		if out[e.Rule] == nil {
			out[e.Rule] = map[[2]int]bool{}
		}
		for i, a := range e.Members {
			for _, b := range e.Members[i+1:] {
				out[e.Rule][[2]int{a, b}] = true
			}
		}
	}
	return out
}
