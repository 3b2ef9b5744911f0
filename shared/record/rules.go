package record

import (
	"slices"
	"time"
)

// Survivorship names how a field's golden value is chosen. Wherever a rule leaves two contributions equal, the one
// said last wins, then the platform that stands first in Order, then the one whose name comes first.
type Survivorship string

const (
	Owner        Survivorship = "owner"         // one platform decides, at any time
	Latest       Survivorship = "latest"        // the newest value that someone set on a permitted platform
	Rank         Survivorship = "rank"          // the first platform in Order that has set anything
	Longest      Survivorship = "longest"       // the text with the most characters
	MostComplete Survivorship = "most-complete" // the platform where people have filled most fields of Set, for all of them
	First        Survivorship = "first"         // the value that was said before all others and still is
	Unanimous    Survivorship = "hold"          // what all say; while they differ, the value said first, and people decide
	Expr         Survivorship = "expr"          // an expression over what people said on the platforms
	Assign       Survivorship = "assign"        // Sorrel itself: an expression over golden fields, or a workflow
)

// Path says what happens when a platform that does not decide a field is seen to have set it.
type Path string

const (
	Accept  Path = "accept"  // it contributes
	Propose Path = "propose" // it becomes a proposal to the owner
	Revert  Path = "revert"  // it is put back to golden
	Reject  Path = "reject"  // it is put back and an exception says why
	Ignore  Path = "ignore"  // it may differ; Sorrel leaves it alone
)

// Deletion says what it means elsewhere that a native record was deleted.
type Deletion string

const (
	DeleteIgnored    Deletion = "ignore"     // nothing; an exception tells people
	DeleteDeactivate Deletion = "deactivate" // the fields of Rules.Deactivated take their values
	DeleteProposed   Deletion = "propose"    // the same, once someone has approved it
	DeletePropagated Deletion = "propagate"  // the other platforms' native records are deleted too
)

// Lookup finds a value by the name that an expression gives it.
type Lookup func(name string) Value

// Rule governs one field. Compiled by shared/policy.
type Rule struct {
	Kind      Survivorship
	Owner     string                      // for Owner
	Meanwhile []string                    // for Owner: who decides, in this order, while the owner has no native record
	Order     []string                    // permitted contributors of a survivorship
	Set       []string                    // for MostComplete: the fields that are judged together
	Eval      func(Lookup) (Value, error) // for Expr, by platform name; for Assign, by golden field name
	Text      string                      // the rule in words
	Paths     map[string]Path             // by platform; every platform of the entity has one, except an Owner
	Approval  *Approval                   // where a path proposes
	Group     string                      // what is proposed together: the policy's group, or the field
	Targets   []string                    // platforms that receive the field, sorted
	At        string                      // file:line:column
	Solid     bool                        // the field cannot be null: it may have no golden value, but is never cleared
}

// Approval governs proposals.
type Approval struct {
	Roles    []string      // any of them may decide
	Distinct bool          // whoever asked may not decide
	Expires  time.Duration // an undecided proposal is rejected after this long
	PutBack  bool          // the platform that asks is put back at once, not only on rejection
	Auto     []Auto        // the first whose predicate holds approves
	At       string        // file:line:column
}

// Auto approves proposals by itself.
type Auto struct {
	Holds func(Lookup) (bool, error) // names: before.FIELD, after.FIELD, golden.FIELD, platform
	Text  string
	At    string
}

// Rules governs one entity.
type Rules struct {
	Entity      string
	Version     string // changes whenever any rule changes
	Fields      map[string]Rule
	Platforms   []string            // that the entity is mapped on, sorted
	Required    map[string][]string // by platform: fields without which no native record is made there, sorted
	Origins     []string            // whose new native records become records
	Copies      map[string]Copy     // where records get native records of their own; nil is everywhere
	Strangers   []string            // whose native records that belong to nothing are not worth an exception
	Deletes     map[string]Deletion // by platform; missing means DeleteIgnored
	Deactivated map[string]Value
	DeletesAt   string
	Workflows   []string // whose runs these records may start, sorted
	Refers      []string // fields that refer to other records, sorted
}

// Timed names the fields whose rule asks since when a value is said, or whether any other ever was.
func (r Rules) Timed() map[string]bool {
	var out map[string]bool
	for f, rule := range r.Fields {
		switch rule.Kind {
		case Owner, Expr, Assign:
		default:
			if out == nil {
				out = map[string]bool{}
			}
			out[f] = true
		}
	}
	return out
}

func (rule Rule) owns(platform string) bool { return rule.Kind == Owner && rule.Owner == platform }

func targets(rule Rule, platform string) bool {
	return !rule.owns(platform) && slices.Contains(rule.Targets, platform)
}
