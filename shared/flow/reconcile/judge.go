package reconcile

import (
	"context"
	"slices"
	"strings"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// judge says what is the matter with natives that are not as the roll has them. The roll is an index: the record decides. Where
// that knows what the platform says, only the roll is mended.
func (c *comparison) judge(ctx context.Context, odd []record.Native, rows map[record.Ref]ledger.Rolled) error {
	if len(odd) == 0 {
		return nil
	}
	sightings := make([]ledger.Sighting, len(odd))
	said := make([]observed, len(odd))
	var refs []record.Ref
	for i, n := range odd {
		said[i] = c.observe(n)
		sightings[i] = ledger.Sighting{Ref: n.Ref, Entity: c.set.Entity, External: said[i].External}
		for _, to := range said[i].refs {
			refs = append(refs, to)
		}
	}
	found, links, err := c.f.d.Ledger.Open(ctx, sightings, refs)
	if err != nil {
		return err
	}
	for i, n := range odd {
		row, rolled := rows[n.Ref]
		v := verdict{native: n, row: row, rolled: rolled, found: found[i], said: said[i], links: links}
		if err := c.take(ctx, v.judge(c)); err != nil {
			return err
		}
	}
	return nil
}

// observed is a translated native.
type observed struct {
	record.Observation
	refs map[string]record.Ref
	err  error
}

func (c *comparison) observe(n record.Native) observed {
	n.Ours = false // a listing shows what is there, whoever saved it last
	o, refs, err := c.mapping.Observe(n)
	return observed{o, refs, err}
}

// verdict is what is known of one native, and then what is the matter with it.
type verdict struct {
	native record.Native
	row    ledger.Rolled
	rolled bool
	found  ledger.Found
	said   observed
	links  map[record.Ref]record.ID

	kind   Kind // "" = nothing
	fields []string
	detail string
	doubt  bool // it cannot be healed by an observation
	enrol  bool // the roll has to say it as it is
	strike bool
	none   bool // it belongs to no record, and need not
}

// judge compares with the record.
func (v verdict) judge(c *comparison) verdict {
	r := v.found.State.Record
	view := r.Views[c.set.Platform]
	own := v.found.Linked && view.ID == v.native.ID
	switch {
	case v.native.Gone && (!own || !view.Exists()):
		v.strike = v.rolled // no record thinks that it exists
	case v.native.Gone && view.Leaving:
		v.detail = "policy is withdrawing it" // no drift
	case v.native.Gone && v.native.Into != "":
		v.kind = Merged
	case v.native.Gone && v.native.Version.IsZero() && c.gone:
		v.kind, v.detail = Extra, "it counts as deleted"
		v.native.Version.At = c.asOf.Truncate(time.Second)
		if newest := view.Heard.At; newest.After(v.native.Version.At) {
			v.native.Version.At = newest
		}
	case v.native.Gone && v.native.Version.IsZero():
		v.kind, v.doubt, v.detail = Extra, true, "the platform does not know this id any more, and does not tell what became of it"
	case v.native.Gone:
		v.kind = Deleted
	case own && view.Exists():
		v.compare(c, view)
	case own:
		v.kind, v.detail = Missing, "it was heard of as deleted, and is there"
	case v.found.Linked:
		v.kind, v.detail = Missing, "it is linked to a record that has another native record there"
	case v.said.External != "" && v.found.State.Exists() && view.Exists():
		v.kind, v.detail = Duplicated, "its record has "+view.ID+" there"
	case v.said.External != "" && v.found.State.Exists():
		v.kind = Unlinked
	case slices.Contains(c.f.d.Config.Rules(c.set.Entity).Strangers, c.set.Platform):
		v.none = true
	default:
		v.kind = Missing
	}
	if v.said.err != nil && v.kind != "" {
		v.doubt, v.detail = true, v.said.err.Error()
	}
	return v
}

// compare holds what a living native says against its view.
func (v *verdict) compare(c *comparison, view record.View) {
	newest := view.Heard
	if c.same(v.native.Version, newest) && v.said.err == nil {
		v.enrol = true
		return
	}
	v.fields = v.differing(view)
	behind := v.native.Version.Compare(newest) < 0
	switch {
	case len(v.fields) > 0 && behind:
		v.kind, v.doubt, v.detail = Changed, true, "the platform tells an older version than it told before, and other values: it may have been restored from a backup"
	case len(v.fields) > 0:
		v.kind = Changed
	case behind:
		v.enrol = true // what the platform lists counts
	default:
		v.kind = Stale
	}
}

// differing are the canonical fields in which a native says something else than its view.
func (v *verdict) differing(view record.View) (fields []string) {
	for f, value := range v.said.Fields {
		if !value.IsAbsent() && !view.Knows(f, value) {
			fields = append(fields, f)
		}
	}
	for f, to := range v.said.refs {
		held, _ := view.Holds(f)
		if id, known := v.links[to]; !known || held.Raw() != string(id) {
			fields = append(fields, f)
		}
	}
	for f, d := range v.said.Doubts {
		if known := view.Said[f].Doubt; known == nil || known.Raw != d.Raw {
			fields = append(fields, f)
		}
	}
	slices.Sort(fields)
	return fields
}

// take notes a verdict.
func (c *comparison) take(ctx context.Context, v verdict) error {
	n := v.native
	c.see(n.ID, v.row.Version, sight{n.Version, n.Gone})
	switch {
	case v.strike && !c.dry:
		return c.f.d.Ledger.Strike(ctx, n.Ref)
	case v.enrol && !c.dry:
		return c.f.d.Ledger.Enrol(ctx, n.Ref, v.found.State.Record.ID, n.Version)
	case v.none && !c.dry:
		return c.f.d.Ledger.EnrolStranger(ctx, n.Ref, n.Version, v.row)
	case v.kind == "":
		return nil
	}
	s := Sample{ID: n.ID, There: n.Version, Here: v.row.Version, Fields: v.fields, Into: n.Into, Detail: v.detail}
	if v.found.State.Exists() {
		s.Record = v.found.State.Record.ID
	}
	t := c.set.tally(v.kind)
	t.Found++
	if len(t.Samples) < MaxSamples {
		t.Samples = append(t.Samples, s)
	}
	at := n.Version.At
	if n.Gone && v.rolled {
		at = v.row.Version.At
	}
	if len(c.drifted) < maxDrifted {
		c.drifted = append(c.drifted, at)
	}
	what := c.rule.Heal[string(v.kind)]
	if v.kind == Extra && c.gone {
		what = policy.HealObserve
	}
	if v.doubt && what == policy.HealObserve {
		what = policy.HealAsk
	}
	if what == policy.HealLeave {
		return nil
	}
	if c.healable++; len(c.heal) <= policy.MostHealed {
		f := finding{ID: n.ID, Kind: v.kind, Ask: what == policy.HealAsk, native: n}
		if f.Ask {
			f.Detail = strings.TrimSuffix(string(v.kind)+": "+v.detail, ": ")
		}
		c.heal = append(c.heal, f)
	}
	return nil
}
