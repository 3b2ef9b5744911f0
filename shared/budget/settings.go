package budget

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
)

// Set returns limits with the numbers that an operator has given for some of them, by name: those of the plan that is
// paid for, or of the share that Sorrel may use.
func Set(limits []Limit, given map[string]int) ([]Limit, error) {
	out, names := slices.Clone(limits), []string{}
	for i, l := range out {
		names = append(names, l.Name)
		if n, ok := given[l.Name]; ok {
			out[i].Max = n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		bad := ""
		switch n := given[name]; {
		case !slices.Contains(names, name):
			bad = "there is no such limit"
		case n < 1 || n > Unlimited:
			bad = fmt.Sprintf("%d calls are none that can be kept to", n)
		}
		if bad != "" {
			return nil, &fault.Error{Class: fault.Contract, Op: "budget.set", ID: name, Fields: []string{"limits"}, Detail: bad,
				Remedy: fmt.Sprintf("give a number from 1 to %d for one of %s", Unlimited, strings.Join(names, ", "))}
		}
	}
	return out, nil
}

// Within returns what is said about limits, bounded by the numbers that an operator has given: an answer that allows more
// does not widen them.
func Within(given map[string]int, said []Reading) []Reading {
	for i, r := range said {
		n, ok := given[r.Limit]
		if !ok {
			continue
		}
		if r.Max > n {
			said[i].Max = n
		}
		if r.Left > n { // it says nothing about our part
			said[i].Left = -1
		}
	}
	return said
}

// Unlimited is the Max of a limit that is there only once an answer says so.
const Unlimited = 1_000_000_000
