package link

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

const (
	maxExamples = 10
	maxCommon   = 20
)

// Report is what a run found, and did.
type Report struct {
	Applied  bool     `json:"applied"`
	Entities []Entity `json:"entities"` // those referred to first
}

// Count counts records and the native records that they have.
type Count struct {
	Records int `json:"records"`
	Natives int `json:"natives"`
}

func (c *Count) add(natives int) { c.Records, c.Natives = c.Records+1, c.Natives+natives }

// Entity is the report of one entity. Every living, readable native record is in exactly one of Matched, Created,
// Linked, Ambiguous and Unmatched.
type Entity struct {
	Entity    string     `json:"entity"`
	Platforms []Platform `json:"platforms"`
	Missing   []string   `json:"notConnected,omitempty"`

	Matched   Count `json:"matched"`   // several native records become one record, or join one that exists
	Created   Count `json:"created"`   // a record of its own
	Linked    Count `json:"linked"`    // linked before, nothing to do
	Ambiguous Count `json:"ambiguous"` // people decide; the records are the clusters
	Unmatched Count `json:"unmatched"` // on no platform whose native records become records

	Rules      []match.RuleCount `json:"rules"`
	CommonKeys int               `json:"commonKeys"` // that too many have to say anything
	Common     []match.CommonKey `json:"common"`
	Doubtful   []Doubtful        `json:"doubtful"` // the ambiguous clusters, all of them
	Examples   []string          `json:"unusable"` // native records that could not be translated, some of them

	Done    Done    `json:"done,omitzero"` // with Applied
	Seconds float64 `json:"seconds"`

	// Clusters is all that matching found, for those who measure it.
	Clusters *match.Report `json:"-"`
}

// Platform is what one platform listed of an entity.
type Platform struct {
	Platform string `json:"platform"`
	Listed   int    `json:"listed"` // living native records
	Linked   int    `json:"linked"` // of them, before this run
	Deleted  int    `json:"deleted"`
	Unusable int    `json:"unusable"` // of those listed, not translated
}

// Done is what applying did.
type Done struct {
	Count
	Parked   int `json:"parked"`   // possible duplicates that stand open
	Resolved int `json:"resolved"` // possible duplicates of earlier runs that are none any more
	Waiting  int `json:"waiting"`  // records that refer to something that has no record yet; it is looked up again later
}

// Doubtful is an ambiguous cluster, and the clusters that weak keys connect it with.
type Doubtful struct {
	Reason   string               `json:"reason"`
	Members  []record.Ref         `json:"members"`
	Records  []record.ID          `json:"records,omitempty"` // that members are linked to, or carry the id of
	Evidence []match.ItemEvidence `json:"evidence,omitempty"`
	Near     []Near               `json:"near,omitempty"`
}

// Near is another cluster, named by its first member.
type Near struct {
	Ref      record.Ref       `json:"native"`
	Evidence []match.Evidence `json:"evidence"`
}

// kind is what becomes of a cluster.
type kind uint8

const (
	linked kind = iota
	matched
	created
	unmatched
	ambiguous
)

// cluster is a set of native records, and the record that they are or become.
type cluster struct {
	kind    kind
	id      record.ID // with linked, matched and created
	members []record.Ref
	rules   []string // that found it
}

// judge decides what becomes of each cluster, and counts.
func (e *entity) judge(ctx context.Context, found *match.Report) error {
	e.out.Clusters = found
	e.out.Rules, e.out.CommonKeys, e.out.Common = found.Rules, found.CommonKeys, found.Common[:min(len(found.Common), maxCommon)]
	e.out.Doubtful = []Doubtful{}
	near := map[record.Ref][]Near{}
	for _, p := range found.Pairs {
		near[p.A] = append(near[p.A], Near{p.B, p.Evidence})
		near[p.B] = append(near[p.B], Near{p.A, p.Evidence})
	}
	for _, f := range found.Clusters {
		c, err := e.judgeOne(ctx, f)
		if err != nil {
			return err
		}
		n := len(c.members)
		if n == 0 {
			continue
		}
		switch c.kind {
		case linked:
			e.out.Linked.add(n)
		case matched:
			e.out.Matched.add(n)
		case created:
			e.out.Created.add(n)
		case unmatched:
			e.out.Unmatched.add(n)
		case ambiguous:
			e.out.Ambiguous.add(n)
			d := Doubtful{Reason: f.Reason, Members: f.Members, Records: e.recordsOf(f), Evidence: f.Evidence}
			if f.Reason == match.ReasonWeak {
				d.Near = near[f.Members[0]]
			}
			e.out.Doubtful = append(e.out.Doubtful, d)
		}
		for _, ref := range c.members {
			if id, before := e.links[ref]; before {
				e.ids[ref] = id
			} else if c.id != "" {
				e.ids[ref] = c.id
			}
		}
		if e.o.Apply && (c.kind == matched || c.kind == created) {
			e.records = append(e.records, c)
		}
	}
	return nil
}

func (e *entity) judgeOne(ctx context.Context, f match.Cluster) (cluster, error) {
	// A native record that was deleted while it was listed is nobody's.
	c := cluster{members: slices.DeleteFunc(slices.Clone(f.Members), func(r record.Ref) bool { return e.seen[r].gone })}
	for _, evidence := range f.Evidence {
		if evidence.Strong && !slices.Contains(c.rules, evidence.Rule) {
			c.rules = append(c.rules, evidence.Rule)
		}
	}
	before := map[record.ID]struct{}{}
	fresh := 0
	for _, ref := range c.members {
		if id, is := e.links[ref]; is {
			before[id] = struct{}{}
		} else {
			fresh++
		}
	}
	if fresh == 0 {
		known, err := e.settled(ctx, before)
		if err != nil || known {
			c.kind = linked
			return c, err
		}
	}
	switch {
	case f.Outcome == match.Ambiguous:
		c.kind = ambiguous
		return c, nil
	case len(before) > 0 || e.exists[f.External]:
		c.kind, c.id = matched, f.External
		return c, nil
	}
	c.id = cmp.Or(f.External, e.mint(c.members))
	switch {
	case !e.original(c.members):
		c.kind, c.id = unmatched, ""
	case len(c.members) > 1:
		c.kind = matched
	default:
		c.kind = created
	}
	return c, nil
}

// settled reports whether records are known to be what they are: there is one, or people told all of them apart.
func (e *entity) settled(ctx context.Context, ids map[record.ID]struct{}) (bool, error) {
	if len(ids) < 2 {
		return true, nil
	}
	all := slices.Sorted(maps.Keys(ids))
	states, err := e.d.Ledger.Load(ctx, all...)
	if err != nil {
		return false, err
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if !slices.Contains(states[a].Record.Apart, b) && !slices.Contains(states[b].Record.Apart, a) {
				return false, nil
			}
		}
	}
	return true, nil
}

// original reports whether one of the native records is on a platform whose native records become records.
func (e *entity) original(members []record.Ref) bool {
	return slices.ContainsFunc(members, func(r record.Ref) bool { return slices.Contains(e.rules.Origins, r.Platform) })
}

// mint gives a cluster the id that its first native record would get alone, by the order of the policy's origins: the
// same on every run.
func (e *entity) mint(members []record.Ref) record.ID {
	for _, p := range e.rules.Origins {
		for _, r := range members {
			if r.Platform == p {
				return ledger.Mint(e.name, r)
			}
		}
	}
	return ""
}

// recordsOf lists the records that members of a cluster have or carry the id of.
func (e *entity) recordsOf(f match.Cluster) []record.ID {
	var out []record.ID
	for _, r := range f.Members {
		if id, is := e.links[r]; is {
			out = append(out, id)
		}
	}
	if f.External != "" {
		out = append(out, f.External)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
