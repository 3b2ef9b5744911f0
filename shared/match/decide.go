package match

import (
	"cmp"
	"maps"
	"slices"

	"sorrel/shared/record"
)

// Outcome of matching one record.
type Outcome string

const (
	Link      Outcome = "link"      // it is the record that a strong key names
	Create    Outcome = "create"    // nothing speaks for any existing record
	Ambiguous Outcome = "ambiguous" // a person must decide: several strong candidates, or only weak ones
)

// Claim is one key of a newcomer with the existing records that have it.
type Claim struct {
	Key Key
	IDs []record.ID
}

// Evidence is why a record is a candidate.
type Evidence struct {
	Rule   string `json:"rule"`
	Strong bool   `json:"strong"`
	Shown  string `json:"shown"` // the key, shortened
}

// Candidate is an existing record that the newcomer may be.
type Candidate struct {
	ID       record.ID  `json:"id"`
	Evidence []Evidence `json:"evidence"` // strong first, then by rule
}

// strong counts the strong evidence.
func (c Candidate) strong() int {
	n := 0
	for _, e := range c.Evidence {
		if e.Strong {
			n++
		}
	}
	return n
}

// Decision says what becomes of a newcomer, and why.
type Decision struct {
	Outcome    Outcome     `json:"outcome"`
	ID         record.ID   `json:"id,omitempty"`         // the record to link to, with Link
	Candidates []Candidate `json:"candidates,omitempty"` // all records that share a key: most strong evidence first, then most evidence, then by id
}

// Decide judges a newcomer by its keys. Exactly one record under all strong keys together: Link. Several: Ambiguous. No
// strong one but a weak one: Ambiguous. Nothing: Create. A weak key that points elsewhere does not prevent a Link.
// The order of claims and of ids does not matter.
func Decide(claims []Claim) Decision {
	found := map[record.ID][]Evidence{}
	strong := map[record.ID]bool{}
	for _, c := range claims {
		for _, id := range c.IDs {
			found[id] = append(found[id], Evidence{c.Key.Rule, c.Key.Strong, c.Key.Shown()})
			if c.Key.Strong {
				strong[id] = true
			}
		}
	}
	d := Decision{Outcome: Create}
	for id, evidence := range found {
		d.Candidates = append(d.Candidates, Candidate{id, sorted(evidence)})
	}
	slices.SortFunc(d.Candidates, func(a, b Candidate) int {
		return cmp.Or(b.strong()-a.strong(), len(b.Evidence)-len(a.Evidence), cmp.Compare(a.ID, b.ID))
	})
	switch {
	case len(strong) == 1:
		d.Outcome = Link
		for id := range maps.Keys(strong) {
			d.ID = id
		}
	case len(found) > 0:
		d.Outcome = Ambiguous
	}
	return d
}

func sorted(evidence []Evidence) []Evidence {
	slices.SortFunc(evidence, func(a, b Evidence) int {
		if a.Strong != b.Strong {
			if a.Strong {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Shown, b.Shown))
	})
	return slices.Compact(evidence)
}
