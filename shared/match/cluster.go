package match

import (
	"cmp"
	"crypto/sha256"
	"iter"
	"slices"
	"strings"

	"sorrel/shared/record"
)

// Item is one existing native record. External is the record that it is linked to already, by an external id that the
// platform carries or by a link that the hub has; empty if none.
type Item struct {
	Ref      record.Ref
	Fields   map[string]record.Value // canonical
	External record.ID
}

// Limits bound a report. The zero Limits are the defaults.
type Limits struct {
	Block   int // a key that more items than this have says nothing and is ignored; 0 = 20
	Samples int // how many pairs and common keys are listed, largest first; 0 = 100
}

// ExternalRule is the name under which an equal external id counts as a strong rule, before all rules of the policy.
const ExternalRule = "external-id"

// Cluster is what the report says of a set of native records.
type Cluster struct {
	Outcome  Outcome        `json:"outcome"` // link: they are one; create: a single one that nothing connects; ambiguous: a person decides
	Reason   string         `json:"reason,omitempty"`
	Members  []record.Ref   `json:"members"`            // sorted by platform, object and id
	External record.ID      `json:"external,omitempty"` // the record that a member is linked to already
	Evidence []ItemEvidence `json:"evidence,omitempty"` // in the order of the rules, then of the keys
}

// ItemEvidence is a key that several members of a cluster share.
type ItemEvidence struct {
	Evidence
	Members []int `json:"members"` // indexes into the cluster's Members
}

// Reasons for a cluster to be ambiguous.
const (
	ReasonTwice  = "several records of one platform"
	ReasonLinked = "linked to different records already"
	ReasonWeak   = "shares only weak keys with others"
)

// Pair is two clusters that only weak keys connect, each named by its first member.
type Pair struct {
	A        record.Ref `json:"a"`
	B        record.Ref `json:"b"`
	Evidence []Evidence `json:"evidence"`
}

// CommonKey is a key that too many items have, such as a placeholder.
type CommonKey struct {
	Evidence
	Items int `json:"items"`
}

// RuleCount says what one rule did. Every key that an item has under the rule counts once: Keyed = Matched + Ambiguous + Created + Common.
type RuleCount struct {
	Rule      string `json:"rule"`
	Strong    bool   `json:"strong"`
	Keyed     int    `json:"keyed"`
	Matched   int    `json:"matched"`   // the key is shared within the item's linked cluster
	Ambiguous int    `json:"ambiguous"` // it is shared otherwise
	Created   int    `json:"created"`   // nobody else has it
	Common    int    `json:"common"`    // too many have it
}

// Report is the result of matching all existing records. It depends on the set of items alone, not on their order.
type Report struct {
	Items     int `json:"items"`     // distinct native records: Matched + Created + Ambiguous
	Matched   int `json:"matched"`   // in clusters that are linked
	Created   int `json:"created"`   // alone and without doubt
	Ambiguous int `json:"ambiguous"` // in ambiguous clusters

	Clusters []Cluster   `json:"clusters"` // all, by their first member
	Rules    []RuleCount `json:"rules"`    // ExternalRule first, then in the order of the policy

	WeakPairs  int         `json:"weakPairs"` // pairs of clusters that only weak keys connect
	Pairs      []Pair      `json:"pairs"`     // the first of them
	CommonKeys int         `json:"commonKeys"`
	Common     []CommonKey `json:"common"` // the most common ones
}

// claimed is one item's key, in 48 bytes instead of its fields.
type claimed struct {
	hash  [16]byte
	item  int32
	rule  int32
	shown string
}

// Cluster groups native records of all platforms into records. Strong keys unite, transitively; a cluster in which a
// platform occurs twice, or which is linked to two records already, is ambiguous as a whole. Weak keys unite nothing: they
// make pairs of clusters for a person to look at, and a single item in such a pair is ambiguous. The same Ref twice
// counts once, with the keys of both. Memory grows with items and keys, not with the size of fields: about 0.5 KB an item,
// the report included. The error is the first that items gives.
func (r Rules) Cluster(limits Limits, items iter.Seq2[Item, error]) (*Report, error) {
	limits.Block, limits.Samples = cmp.Or(limits.Block, 20), cmp.Or(limits.Samples, 100)
	w := &work{rules: append(Rules{{Name: ExternalRule, Strong: true}}, r...), limits: limits}
	if err := w.read(items); err != nil {
		return nil, err
	}
	w.sort()
	w.unite()
	w.describe()
	w.judge()
	return w.report, nil
}

type entry struct {
	ref      record.Ref
	external []record.ID // nearly always one or none
}

// block is the part of claims from..to that has one key.
type block struct{ from, to int }

type work struct {
	rules   Rules
	limits  Limits
	items   []entry
	claims  []claimed
	parent  []int32 // of the item in its cluster; the smallest item is the root
	cluster []int32 // of the item: its index in the report
	report  *Report
}

func (w *work) read(items iter.Seq2[Item, error]) error {
	at := map[record.Ref]int32{}
	number := map[string]int32{}
	for i, rule := range w.rules {
		number[rule.Name] = int32(i)
	}
	names := map[string]string{} // platform and object names, kept once
	once := func(s string) string {
		if _, ok := names[s]; !ok {
			names[strings.Clone(s)] = strings.Clone(s)
		}
		return names[s]
	}
	for item, err := range items {
		if err != nil {
			return err
		}
		i, known := at[item.Ref]
		if !known {
			i = int32(len(w.items))
			ref := record.Ref{Platform: once(item.Ref.Platform), Object: once(item.Ref.Object), ID: strings.Clone(item.Ref.ID)}
			at[ref] = i
			w.items = append(w.items, entry{ref: ref})
		}
		keys := w.rules[1:].Keys(item.Fields)
		if item.External != "" {
			keys = append(keys, Key{ExternalRule, true, string(item.External)})
			if !slices.Contains(w.items[i].external, item.External) {
				w.items[i].external = append(w.items[i].external, item.External)
			}
		}
		for _, k := range keys {
			sum := sha256.Sum256([]byte(k.Value))
			shown := k.Value // an external id is Sorrel's own and no secret
			if k.Rule != ExternalRule {
				shown = k.Shown()
			}
			w.claims = append(w.claims, claimed{[16]byte(sum[:16]), i, number[k.Rule], strings.Clone(shown)})
		}
	}
	return nil
}

// sort brings items into the order of their Refs and claims into that of rule, key and item, so that nothing depends on arrival.
func (w *work) sort() {
	order := make([]int32, len(w.items))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return compareRefs(w.items[a].ref, w.items[b].ref)
	})
	items, moved := make([]entry, len(order)), make([]int32, len(order))
	for to, from := range order {
		items[to], moved[from] = w.items[from], int32(to)
	}
	w.items = items
	for i := range w.claims {
		w.claims[i].item = moved[w.claims[i].item]
	}
	slices.SortFunc(w.claims, func(a, b claimed) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), slices.Compare(a.hash[:], b.hash[:]), cmp.Compare(a.item, b.item))
	})
	w.claims = slices.CompactFunc(w.claims, func(a, b claimed) bool {
		return a.rule == b.rule && a.item == b.item && a.hash == b.hash
	})
}

func compareRefs(a, b record.Ref) int {
	return cmp.Or(cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.Object, b.Object), cmp.Compare(a.ID, b.ID))
}

// blocks yields each key with the claims on it.
func (w *work) blocks() iter.Seq2[block, []claimed] {
	return func(yield func(block, []claimed) bool) {
		for from := 0; from < len(w.claims); {
			to := from + 1
			for to < len(w.claims) && w.claims[to].rule == w.claims[from].rule && w.claims[to].hash == w.claims[from].hash {
				to++
			}
			if !yield(block{from, to}, w.claims[from:to]) {
				return
			}
			from = to
		}
	}
}

// common reports whether so many items have a key that it says nothing. An external id is never common.
func (w *work) common(claims []claimed) bool {
	return claims[0].rule != 0 && len(claims) > w.limits.Block
}

func (w *work) root(i int32) int32 {
	for w.parent[i] != i {
		w.parent[i] = w.parent[w.parent[i]]
		i = w.parent[i]
	}
	return i
}

func (w *work) unite() {
	w.parent = make([]int32, len(w.items))
	for i := range w.parent {
		w.parent[i] = int32(i)
	}
	for _, claims := range w.blocks() {
		if !w.rules[claims[0].rule].Strong || w.common(claims) {
			continue
		}
		for _, c := range claims[1:] {
			a, b := w.root(claims[0].item), w.root(c.item)
			w.parent[max(a, b)] = min(a, b)
		}
	}
}

// describe makes the clusters, still without what weak keys say about single items.
func (w *work) describe() {
	w.report = &Report{Items: len(w.items), Clusters: []Cluster{}, Pairs: []Pair{}, Common: []CommonKey{}}
	w.cluster = make([]int32, len(w.items))
	place := make([]int, len(w.items)) // in its cluster
	for i := range w.items {
		root := w.root(int32(i))
		if int(root) == i {
			w.cluster[i] = int32(len(w.report.Clusters))
			w.report.Clusters = append(w.report.Clusters, Cluster{Outcome: Create})
		}
		w.cluster[i] = w.cluster[root]
		c := &w.report.Clusters[w.cluster[i]]
		place[i] = len(c.Members)
		c.add(w.items[i])
	}
	for _, claims := range w.blocks() {
		if w.common(claims) {
			continue
		}
		for i, c := range claims {
			// The evidence of each cluster that several of these items are in, once: at the first of them.
			mine := func(o claimed) bool { return w.cluster[o.item] == w.cluster[c.item] }
			if slices.ContainsFunc(claims[:i], mine) || !slices.ContainsFunc(claims[i+1:], mine) {
				continue
			}
			e := ItemEvidence{Evidence: w.evidence(c)}
			for _, o := range claims[i:] {
				if mine(o) {
					e.Members = append(e.Members, place[o.item])
				}
			}
			into := &w.report.Clusters[w.cluster[c.item]]
			into.Evidence = append(into.Evidence, e)
		}
	}
}

// add puts the next member, in order, into the cluster.
func (c *Cluster) add(e entry) {
	switch {
	case c.Outcome == Ambiguous && c.Reason == ReasonTwice:
	case slices.ContainsFunc(c.Members, func(r record.Ref) bool { return r.Platform == e.ref.Platform }):
		c.Outcome, c.Reason = Ambiguous, ReasonTwice
	case c.Outcome == Create && len(c.Members) > 0:
		c.Outcome = Link
	}
	for _, id := range e.external {
		if c.External != "" && c.External != id && c.Outcome != Ambiguous {
			c.Outcome, c.Reason = Ambiguous, ReasonLinked
		}
		if c.External == "" || id < c.External {
			c.External = id
		}
	}
	c.Members = append(c.Members, e.ref)
}

func (w *work) evidence(c claimed) Evidence {
	rule := w.rules[c.rule]
	return Evidence{rule.Name, rule.Strong, c.shown}
}

// link is a weak key between two clusters.
type link struct {
	a, b  int32
	claim int32
}

// judge finds what weak keys connect, and counts.
func (w *work) judge() {
	var links []link
	for b, claims := range w.blocks() {
		if w.rules[claims[0].rule].Strong {
			continue
		}
		if w.common(claims) {
			continue
		}
		seen := map[int32]bool{}
		var among []int32
		for _, c := range claims {
			if n := w.cluster[c.item]; !seen[n] {
				seen[n] = true
				among = append(among, n)
			}
		}
		for i, x := range among {
			for _, y := range among[i+1:] {
				links = append(links, link{min(x, y), max(x, y), int32(b.from)})
			}
		}
	}
	slices.SortFunc(links, func(x, y link) int {
		return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), cmp.Compare(x.claim, y.claim))
	})
	for i, l := range links {
		for _, n := range []int32{l.a, l.b} {
			if c := &w.report.Clusters[n]; c.Outcome == Create {
				c.Outcome, c.Reason = Ambiguous, ReasonWeak
			}
		}
		if i == 0 || links[i-1].a != l.a || links[i-1].b != l.b {
			w.report.WeakPairs++
			if len(w.report.Pairs) < w.limits.Samples {
				w.report.Pairs = append(w.report.Pairs, Pair{A: w.report.Clusters[l.a].Members[0], B: w.report.Clusters[l.b].Members[0]})
			}
		}
		if w.report.WeakPairs == len(w.report.Pairs) {
			p := &w.report.Pairs[len(w.report.Pairs)-1]
			p.Evidence = append(p.Evidence, w.evidence(w.claims[l.claim]))
		}
	}
	for _, c := range w.report.Clusters {
		switch c.Outcome {
		case Link:
			w.report.Matched += len(c.Members)
		case Create:
			w.report.Created += len(c.Members)
		case Ambiguous:
			w.report.Ambiguous += len(c.Members)
		}
	}
	w.count()
}

func (w *work) count() {
	for _, rule := range w.rules {
		w.report.Rules = append(w.report.Rules, RuleCount{Rule: rule.Name, Strong: rule.Strong})
	}
	for _, claims := range w.blocks() {
		n := &w.report.Rules[claims[0].rule]
		n.Keyed += len(claims)
		switch {
		case w.common(claims):
			n.Common += len(claims)
			w.report.CommonKeys++
			w.report.Common = append(w.report.Common, CommonKey{w.evidence(claims[0]), len(claims)})
			continue
		case len(claims) == 1:
			n.Created++
			continue
		}
		for _, c := range claims {
			linked := w.report.Clusters[w.cluster[c.item]].Outcome == Link && slices.ContainsFunc(claims, func(o claimed) bool {
				return o.item != c.item && w.cluster[o.item] == w.cluster[c.item]
			})
			if linked {
				n.Matched++
			} else {
				n.Ambiguous++
			}
		}
	}
	slices.SortFunc(w.report.Common, func(a, b CommonKey) int {
		return cmp.Or(b.Items-a.Items, cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Shown, b.Shown))
	})
	w.report.Common = slices.Clip(w.report.Common[:min(len(w.report.Common), w.limits.Samples)])
}
