// Package record is Sorrel's vocabulary and its pure core.
//
// Observe merges what a platform said into that platform's view, Fold computes the golden fields from all
// views and the rules, Project computes what a platform still has to be told. None of them has a clock, I/O or
// randomness, none modifies its arguments, and the result depends on the set of observations only, never on
// their order or number.
package record

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cell is what one platform said about one field: the newest usable value, and the newest unusable one if
// that is newer still.
type Cell struct {
	Value   Value   // Absent when nothing usable was ever said
	Version Version // of Value
	Trace   string  // correlation id that brought Value (the earliest of equal ones)
	Actor   string  // the platform's id of whoever set it, where it says so
	Ours    bool    // the platform marked the change to Value as made by our client
	Tied    bool    // two different values were pushed with this Version: only a read can settle it
	Doubt   *Doubt
	Spans   map[Value]Span // when each value was said, for timed fields only
}

// Span is when a value was said first and last. What was said before our last write of another value no longer counts as
// first, once it is said after it.
type Span struct{ First, Last Version }

// maxSpans bounds the values remembered per field; the longest unsaid is forgotten first.
const maxSpans = 8

// Doubt is something a platform said that cannot be used: it holds the field until something newer is said.
type Doubt struct {
	Version Version `json:"version"`
	Type    string  `json:"type"` // exception type: unknown-picklist, invalid-value, contract-violation, missing-reference
	Raw     string  `json:"raw"`  // what was said, shortened
	Detail  string  `json:"detail"`
	Trace   string  `json:"trace"`
}

// Wrote is our last confirmed write of one field, or a value that a platform set by itself just as governance has it.
type Wrote struct {
	Value Value     // what we asked for, in the canonical form that the platform will say back
	Base  Version   // everything the platform says up to and including this version was said before our write, or is it
	When  time.Time // our clock, for people; zero when nothing had to be written
	Trace string    // correlation id of the delivery
	Over  Over      // what someone had set there, if a write of ours replaced it
	Told  bool      // Base is the version that the platform gave to this very write
	Back  Back      // what the platform made of Value, where it says something else
}

// Back is the form in which a platform says back what we wrote, such as a phone number that it reformats. At is the
// version that said so.
type Back struct {
	Value Value
	At    Version
}

// Echo is what a platform said about a write of ours that was not confirmed yet.
type Echo struct {
	Version Version          `json:"version"`
	Fields  map[string]Value `json:"fields"`
}

// Over is a value that someone set on a platform and that we replaced: the evidence of a field put back.
type Over struct {
	Value Value
	Said  time.Time // since when, by the platform's clock
	Trace string
	Again int // how often we had replaced the very same value by the very same one before, each time within an hour, and it was set again
}

// enough is how often a value that appears again is put back. Then it counts as what the platform makes of ours, and
// people are told: somebody insists, or the platform changes values by itself and does not say who did.
const enough = 3

// insisting is how long after a put-back the same value counts as back again.
const insisting = time.Hour

// parts reports whether value, said at a version, is somebody's answer to this write: it is another value, and surely was
// set after it. Where the platform told no version of the write, our clock has to do, and clocks differ a little.
func (w Wrote) parts(value Value, at Version) bool {
	return w.Value != value && at.Compare(w.Base) > 0 && (w.Told || w.When.IsZero() || at.At.After(w.When.Add(echoWithin)))
}

// Insists reports whether the platform says a value again that we have put back often enough.
func (w Wrote) Insists(said Value) bool {
	return w.Over.Again >= enough-1 && !said.IsAbsent() && said == w.Over.Value
}

// View is what one platform is known to hold of one record.
type View struct {
	Ref
	External ID     // the record id that the native record is known to carry
	Into     string // the native id that it was merged into, when it died of a merge
	Said     map[string]Cell
	Wrote    map[string]Wrote
	Past     map[string][]Value // what writes of ours just before those in Wrote set, by field; their echoes may still be on their way
	Echo     *Echo              // until Confirm
	Born     Version            // newest known creation
	Died     Version            // newest known deletion
	Heard    Version            // newest version observed that said something new, and of which all that it said is known
	Denied   Version            // the death by a merge of which people found that it made one of two different things
	Made     bool               // Sorrel created the native record
	Leaving  bool               // policy wanted what Sorrel made withdrawn, so a deletion of ours may be under way
}

// Gone reports whether the native record is deleted: it died after it was last born.
func (v View) Gone() bool { return !v.Died.IsZero() && v.Died.Compare(v.Born) >= 0 }

// Merged is the native id that it was merged into, unless people found since that the two are different.
func (v View) Merged() string {
	if !v.Gone() || !v.Denied.IsZero() && v.Born.Compare(v.Denied) <= 0 {
		return ""
	}
	return v.Into
}

// Exists reports whether the native record is known to exist.
func (v View) Exists() bool { return v.ID != "" && !v.Gone() }

// Knows reports whether a platform that says value in a field says what it is known to hold.
func (v View) Knows(field string, value Value) bool {
	held, origin := v.Holds(field)
	return value == held || held.IsAbsent() && value.IsNull() || origin == FromSorrel && value == v.Wrote[field].Back.Value
}

// KnowsAll is Knows for all that an observation says, be it of a change of ours.
func (v View) KnowsAll(o Observation) bool {
	for _, said := range []map[string]Value{o.Fields, o.Echo} {
		for f, value := range said {
			if !value.IsAbsent() && !v.Knows(f, value) {
				return false
			}
		}
	}
	return true
}

// Origin says who put a value where it is.
type Origin string

const (
	FromNobody   Origin = ""
	FromPlatform Origin = "platform" // someone there set it
	FromSorrel   Origin = "sorrel"   // we wrote it
)

// Holds returns what the platform is known to hold in a field, and who put it there. A value equal to our
// last write is ours: that is what makes an echo harmless, whoever's name it carries. What it held before it
// showed our last write is over, whenever we hear of it.
func (v View) Holds(field string) (Value, Origin) {
	said, saidSome := v.Said[field]
	wrote, wroteSome := v.Wrote[field]
	saidSome = saidSome && !said.Value.IsAbsent()
	switch {
	case wroteSome && (!saidSome || said.Version.Compare(wrote.Base) <= 0 || wrote.Back.Value == wrote.Value && said.Version.Compare(wrote.Back.At) < 0):
		return wrote.Value, FromSorrel
	case !saidSome:
		return Value{}, FromNobody
	case said.Ours || (wroteSome && (said.Value == wrote.Value || said.Value == wrote.Back.Value || wrote.Insists(said.Value))):
		return said.Value, FromSorrel
	}
	return said.Value, FromPlatform
}

// Since is when the value that is said in a field began to be said, as far as is known: a platform that says its whole
// record again after another field changed says nothing new, but whoever sets a value again that we have written over does.
// For an untimed field it is the version of the value.
func (v View) Since(field string) Version {
	c := v.Said[field]
	mine, timed := c.Spans[c.Value]
	w, wrote := v.Wrote[field]
	if !timed || wrote && w.parts(c.Value, mine.Last) && !w.parts(c.Value, mine.First) { // it was said again before the write was confirmed
		return c.Version
	}
	for said, other := range c.Spans {
		if said != c.Value && other.Last.Compare(mine.First) >= 0 {
			return c.Version // something else was said in between
		}
	}
	return mine.First
}

// blank reports whether a field is empty on a platform and nobody is known to have emptied it: it was never seen to hold
// what governance wants there, and, if it is timed, anything else. Nobody has set it, so it is filled without asking.
func (v View) blank(field string) bool {
	c := v.Said[field]
	if _, wrote := v.Wrote[field]; wrote || !c.Value.IsNull() {
		return false
	}
	for said := range c.Spans {
		if !said.IsNull() {
			return false
		}
	}
	return true
}

// Clouded reports whether the newest thing said in a field cannot be used, and was said after our last write.
func (v View) Clouded(field string) bool {
	d := v.Said[field].Doubt
	if d == nil {
		return false
	}
	w, wrote := v.Wrote[field]
	return !wrote || d.Version.Compare(w.Base) > 0
}

// Unsettled lists fields whose value only a read can settle: pushed twice with one version and different
// values, or pushed with the very version that the platform gave to our own write and a different value.
func (v View) Unsettled() []string {
	if v.Gone() {
		return nil // there is nothing left to read
	}
	var out []string
	for f, c := range v.Said {
		w, wrote := v.Wrote[f]
		if c.Tied || (wrote && w.Told && !c.Version.Final && c.Value != w.Value && !c.Version.IsZero() && c.Version.Compare(w.Base) == 0) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}

// Golden is one field's governed value and the evidence for it.
type Golden struct {
	Value   Value
	From    string // platform that won
	Version Version
	Trace   string // correlation id that brought the winning value
	Rule    string // such as "owner netsuite"
	At      string // file:line:column of the rule
	Split   bool   // contributors differ, and the rule leaves it to people
}

// Hold stops Sorrel from writing one field of one record to one platform.
type Hold struct {
	Type   string    `json:"type"` // exception type
	Detail string    `json:"detail"`
	Code   string    `json:"code,omitempty"` // the vendor's
	Value  Value     `json:"value,omitzero"` // the value that was refused: another value is tried again
	Since  time.Time `json:"since"`
	Retry  time.Time `json:"retry,omitzero"` // when the same value is tried again: what the platform knows may have grown
	Tries  int       `json:"tries,omitempty"`
	Trying bool      `json:"trying,omitempty"` // it is being tried again now: it holds nothing, but is not over
	Trace  string    `json:"trace,omitempty"`
}

// HoldKey names a hold.
func HoldKey(platform, field string) string { return platform + "/" + field }

// SplitHoldKey undoes HoldKey.
func SplitHoldKey(k string) (platform, field string) {
	platform, field, _ = strings.Cut(k, "/")
	return platform, field
}

// Record is one canonical thing: its views, what people decided about it, and the golden fields folded from them.
type Record struct {
	ID     ID
	Views  map[string]View // by platform
	Golden map[string]Golden
	Held   map[string]Hold // by HoldKey
	Seq    int64           // number of accepted changes
	Policy string          // version of the rules of the last fold

	Overrides map[string]Override // by field
	Assigned  map[string]Assigned // by field
	Proposals map[string]Proposal // by ProposalKey
	Granted   map[string]Grant    // by field: the approval that brought the owner's present value
	Suspects  map[ID]Suspicion    // records that this one may be a duplicate of
	Apart     []ID                // records that people found to be something else, sorted
	Absorbed  map[ID][]string     // records merged into this one, and the platforms that came with each
	Into      ID                  // the record that this one was merged into: it is nothing but a redirect
	Parted    int                 // how often another was taken out of it again: its external id may have gone with native records
	Withdrawn []View              // native records that Sorrel made and policy withdrew: of each only what it was, and when it died
}

// External is the external id that native records of r get from now on.
func (r Record) External() string {
	if r.Parted == 0 {
		return r.ID.External()
	}
	return r.ID.External() + "-" + strconv.Itoa(r.Parted)
}

// Clone returns a record whose Views can be set without changing r. The maps within are shared:
// whoever changes one replaces it, as Observe, Confirm and Fold do, and never writes into it.
func (r Record) Clone() Record {
	r.Views = maps.Clone(r.Views)
	if r.Views == nil {
		r.Views = map[string]View{}
	}
	return r
}

// Observation is what a platform said about one native record at one moment, in canonical fields.
type Observation struct {
	Ref
	Version  Version
	Born     time.Time
	Gone     bool
	External ID     // the record id that the native record carries
	Into     string // with Gone: the native id that it was merged into
	Ours     bool
	Actor    string
	Fields   map[string]Value
	Echo     map[string]Value // what the whole native record says after a change of ours: not anybody's edit
	Doubts   map[string]Doubt // fields whose native value could not be used
	Trace    string
	Timed    map[string]bool // fields whose rule asks since when a value is said: Rules.Timed
}
