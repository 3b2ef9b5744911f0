package record

import "slices"

// Survivorship names how a field's golden value is chosen.
type Survivorship string

const (
	Owner  Survivorship = "owner"  // one platform decides, at any time
	Latest Survivorship = "latest" // the newest value that someone set on a permitted platform
	Rank   Survivorship = "rank"   // the first platform in Order that has said anything
)

// Path says what happens when a platform that does not decide a field is seen to have set it.
type Path string

const (
	Accept Path = "accept" // it contributes (latest, rank)
	Revert Path = "revert" // it is put back to golden
	Reject Path = "reject" // it is put back and an exception says why
	Ignore Path = "ignore" // it may differ; Sorrel leaves it alone
)

// Rule governs one field. Compiled by shared/policy.
type Rule struct {
	Kind    Survivorship
	Owner   string          // for Owner
	Order   []string        // for Latest and Rank: permitted contributors; breaks ties
	Paths   map[string]Path // by platform; every platform of the entity has one, except an Owner
	Targets []string        // platforms that receive the field, sorted
	At      string          // file:line:column
}

// Text is the rule in words, for Golden.Rule.
func (r Rule) Text() string {
	if r.Kind == Owner {
		return "owner " + r.Owner
	}
	s := string(r.Kind)
	for i, p := range r.Order {
		if i == 0 {
			s += " of "
		} else {
			s += ", "
		}
		s += p
	}
	return s
}

// Rules governs one entity.
type Rules struct {
	Entity  string
	Version string // changes whenever any rule changes
	Fields  map[string]Rule
}

// Timed names the fields whose rule asks since when a value is said.
func (r Rules) Timed() map[string]bool {
	var out map[string]bool
	for f, rule := range r.Fields {
		if rule.Kind == Latest {
			if out == nil {
				out = map[string]bool{}
			}
			out[f] = true
		}
	}
	return out
}

// Targets lists the platforms that receive any field, sorted.
func (r Rules) Targets() []string {
	var out []string
	for _, rule := range r.Fields {
		for _, t := range rule.Targets {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	slices.Sort(out)
	return out
}
