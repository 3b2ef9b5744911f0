// Package reconcile compares what platforms hold with what the hub knows, without reading everything, and heals the difference.
//
// A platform counts its records by when they were modified last; the hub counts what it knows by the versions that it heard.
// Only where the counts differ are records listed. What is listed, or found dead, and was not known goes to the hub as an
// observation: the same path as a webhook's.
package reconcile

import (
	"cmp"
	"slices"
	"time"

	"sorrel/shared/record"
)

// Kind says how a native record and what the hub knows of it differ.
type Kind string

// The kinds of drift. What was changed too recently to have been heard of is none of them.
const (
	Missing    Kind = "missing"    // it exists there, and no record knows of it
	Unlinked   Kind = "unlinked"   // it carries a record's external id, and the record knows of no native record there
	Duplicated Kind = "duplicated" // it carries the external id of a record that has another native record there
	Changed    Kind = "changed"    // it was modified there, and values differ from what was heard
	Stale      Kind = "stale"      // it was modified there, and says what is known: only the version is newer
	Deleted    Kind = "deleted"    // it was deleted there, and nobody heard
	Merged     Kind = "merged"     // it was merged into another there, and nobody heard
	Extra      Kind = "extra"      // it is known, and the platform knows nothing of the id, not even that it died
)

// Kinds lists all kinds, in the order of reports.
func Kinds() []Kind {
	return []Kind{Missing, Unlinked, Duplicated, Changed, Stale, Deleted, Merged, Extra}
}

// Mode is how a run compares.
type Mode string

const (
	ByCounts Mode = "counts" // reads only where the counts of modifications differ
	Full     Mode = "full"   // reads everything
)

// The states of a run.
const (
	Running = "running"
	Done    = "done"
	Failed  = "failed"
)

// Report is one run: what it compared, found and did. It is JSON in the ledger, over HTTP and in files.
type Report struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it failed, or stands
	Mode    Mode      `json:"mode"`
	DryRun  bool      `json:"dryRun"`
	By      string    `json:"by"`   // a person, or "schedule"
	Wish    Wish      `json:"wish"` // what was asked for
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Config  string    `json:"configVersion"` // of policies and mappings
	Policy  string    `json:"policyVersion"` // of reconcile.yaml
	Sets    []Set     `json:"sets"`          // in the order in which they are compared
}

// Set is what was compared of one object of one platform.
type Set struct {
	Platform string `json:"platform"`
	Object   string `json:"object"`
	Entity   string `json:"entity"`
	State    string `json:"state"` // "" = not begun
	Reason   string `json:"reason,omitempty"`
	// AsOf is the moment up to which modifications count: what changed later is left to the next run.
	AsOf  time.Time `json:"asOf,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	There int       `json:"there"` // native records that the platform says it has, as of then
	Here  int       `json:"here"`  // native records that the hub knows to exist there, as of then, before healing
	// Strangers are those among Here that belong to no record, and are known to.
	Strangers int     `json:"strangers,omitempty"`
	Compared  int     `json:"compared"` // There, and those known that are not there
	Equal     int     `json:"equal"`    // of Compared
	Drift     []Tally `json:"drift"`    // those that differ, by kind, in the order of Kinds
	// Capped says that more differed than policy lets a run heal by itself: nothing was healed, and people are asked.
	Capped bool `json:"capped,omitempty"`
	// Unexplained is by how many records counts still differ although all buckets were listed, as when the platform's own
	// counts lag behind.
	Unexplained int `json:"unexplained,omitempty"`
	Rounds      int `json:"rounds"` // of counting and listing until nothing differed
	// Calls were made to the platform, by what for: census, list, deleted, read. A full read would take about FullCalls; 0 where
	// there was none yet to go by.
	Calls      Calls    `json:"calls"`
	FullCalls  int      `json:"fullCalls"`
	Buckets    []Bucket `json:"buckets"` // counts of the first round, oldest first, neighbours joined to at most MaxBuckets
	Roots      Roots    `json:"roots"`
	Exceptions []string `json:"exceptions,omitempty"` // ids of exceptions that this run opened or found open
	// Limits are what this comparison could not have seen, in words.
	Limits []string `json:"limits,omitempty"`
}

// Tally counts one kind of drift.
type Tally struct {
	Kind     Kind     `json:"kind"`
	Found    int      `json:"found"`
	Healed   int      `json:"healed"`   // handed to the hub as observations
	Excepted int      `json:"excepted"` // left to people
	Samples  []Sample `json:"samples,omitempty"`
}

// MaxSamples of each kind are shown, and MaxBuckets and MaxExceptions of a set.
const (
	MaxSamples    = 20
	MaxExceptions = 500
	MaxBuckets    = 400
)

// Sample is one native record that differs.
type Sample struct {
	ID     string         `json:"id"` // native
	Record record.ID      `json:"record,omitempty"`
	There  record.Version `json:"there,omitzero"`
	Here   record.Version `json:"here,omitzero"`
	Fields []string       `json:"fields,omitempty"` // canonical fields whose values differ
	Into   string         `json:"into,omitempty"`   // merged into that native id
	Detail string         `json:"detail,omitempty"`
}

// Calls are calls to a platform.
type Calls struct {
	Census  int `json:"census"`
	List    int `json:"list"`
	Deleted int `json:"deleted"`
	Read    int `json:"read"`
}

// Sum is all of them.
func (c Calls) Sum() int { return c.Census + c.List + c.Deleted + c.Read }

// Bucket is how many records were modified last in a span of time.
type Bucket struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	There int       `json:"there"`
	Here  int       `json:"here"`
	Drift int       `json:"drift"` // differing records found in it, by their version there, or here where they are gone
}

// Root is the hash over a set in the order of native ids, and how many records it is over.
type Root struct {
	Records int    `json:"records"`
	Hash    string `json:"hash,omitempty"` // hexadecimal
}

// Roots are what the set came down to. In mode counts the platform does not tell every record: its root is over counts,
// and Platform.Hash is empty.
type Roots struct {
	Hub      Root `json:"hub"`
	Platform Root `json:"platform"`
}

// Found is how many records differ.
func (s Set) Found() (n int) {
	for _, t := range s.Drift {
		n += t.Found
	}
	return n
}

// Healed is how many of them were handed to the hub.
func (s Set) Healed() (n int) {
	for _, t := range s.Drift {
		n += t.Healed
	}
	return n
}

// Excepted is how many of them were left to people.
func (s Set) Excepted() (n int) {
	for _, t := range s.Drift {
		n += t.Excepted
	}
	return n
}

// tally returns the count of a kind, for changing.
func (s *Set) tally(k Kind) *Tally {
	order := func(t Tally, k Kind) int { return cmp.Compare(slices.Index(Kinds(), t.Kind), slices.Index(Kinds(), k)) }
	i, known := slices.BinarySearchFunc(s.Drift, k, order)
	if !known {
		s.Drift = slices.Insert(s.Drift, i, Tally{Kind: k})
	}
	return &s.Drift[i]
}
