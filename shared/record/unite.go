package record

import (
	"maps"
	"slices"
	"time"
)

// Suspicion is why a record may be a duplicate of another.
type Suspicion struct {
	Rule   string    `json:"rule"`             // that found it, or how else it came up
	Detail string    `json:"detail,omitempty"` // the evidence
	Merged string    `json:"merged,omitempty"` // the platform that merged their native records: they become one as soon as they can
	Holds  bool      `json:"holds,omitempty"`  // no native record is created for this one until people decide
	Since  time.Time `json:"since"`
	Check  time.Time `json:"check"` // when it is looked at again: the other record may have changed
}

// recheck is how often a suspicion is looked at again.
const recheck = time.Hour

// Rechecked puts off, to an hour from now, what is to be looked at by now.
func (r Record) Rechecked(now time.Time) Record {
	for id, s := range r.Suspects {
		if !now.Before(s.Check) {
			s.Check = now.Add(recheck)
			r.Suspects = maps.Clone(r.Suspects)
			r.Suspects[id] = s
		}
	}
	return r
}

// Unite merges from into into: a platform on which only from has a living native record is into's from now on. It
// reports false when both have one on the same platform; then people have to merge those first, or tell the two
// records apart. What from keeps is what Divide needs to take the two apart again.
//
// Into keeps its own overrides, assignments and proposals; those of from rest with it. What nobody has ever assigned to into,
// it has from from: how far a process is with what is one record now.
// Package govern exchanges assignments where they decide about a native record that came.
func Unite(into, from Record) (Record, Record, bool) {
	for p, v := range from.Views {
		if w := into.Views[p]; v.Exists() && w.Exists() {
			return into, from, false
		}
	}
	if into.Into != "" || from.Into != "" || into.ID == from.ID {
		return into, from, false
	}
	into, from = into.Clone(), from.Clone()
	came := []string{}
	for p, v := range from.Views {
		w, both := into.Views[p]
		if !v.Exists() {
			continue
		}
		if into.Views[p] = v; both {
			from.Views[p] = w
		} else {
			delete(from.Views, p)
		}
		into.Held, from.Held = move(into.Held, from.Held, p)
		came = append(came, p)
	}
	slices.Sort(came)
	into.Proposals = anew(into, came)
	into.Assigned = taken(into.Assigned, from.Assigned)
	into.Absorbed = maps.Clone(into.Absorbed)
	if into.Absorbed == nil {
		into.Absorbed = map[ID][]string{}
	}
	into.Absorbed[from.ID] = came
	into.Suspects, from.Suspects = without(into.Suspects, from.ID), without(from.Suspects, into.ID)
	from.Into = into.ID
	return into, from, true
}

// Divide takes from out of into again: what came with it goes back, as it is now. The two count as different from then on.
func Divide(into, from Record) (Record, Record) {
	into, from = into.Clone(), from.Clone()
	for _, p := range into.Absorbed[from.ID] {
		v, some := into.Views[p]
		if !some {
			continue
		}
		w, both := from.Views[p]
		if from.Views[p] = v; both {
			into.Views[p] = w
		} else {
			delete(into.Views, p)
		}
		from.Held, into.Held = move(from.Held, into.Held, p)
	}
	into.Proposals = anew(into, into.Absorbed[from.ID])
	into.Assigned = maps.Clone(into.Assigned)
	maps.DeleteFunc(into.Assigned, func(field string, a Assigned) bool { return a == from.Assigned[field] }) // it never was into's own
	into.Absorbed = maps.Clone(into.Absorbed)
	delete(into.Absorbed, from.ID)
	from.Into = ""
	into.Parted++
	if slices.ContainsFunc(slices.Collect(maps.Values(into.Views)), func(v View) bool { return v.External == from.ID }) {
		from.Parted++ // a native record that stays there carries its external id
	}
	return into.Tell(from), from.Tell(into)
}

// taken are the values assigned to a record, and to fields that nobody has given it a value for, those of another.
func taken(own, other map[string]Assigned) map[string]Assigned {
	if len(other) == 0 {
		return own
	}
	out := maps.Clone(other)
	maps.Copy(out, own)
	return out
}

// anew are the proposals of r after its native records on some platforms have become others: what was approved is held to
// what the owner's native record says now, since the versions of two native records have no order.
func anew(r Record, platforms []string) map[string]Proposal {
	out := r.Proposals
	for k, p := range r.Proposals {
		moved := func(ask Ask) bool { return slices.Contains(platforms, ask.Owner) }
		if p.Status != ProposalApproved || !slices.ContainsFunc(slices.Collect(maps.Values(p.Fields)), moved) {
			continue
		}
		p.Fields = maps.Clone(p.Fields)
		for f, ask := range p.Fields {
			if moved(ask) {
				ask.Seen = r.Views[ask.Owner].Said[f].Version
				p.Fields[f] = ask
			}
		}
		out = maps.Clone(out)
		out[k] = p
	}
	return out
}

// Tell records that r and another are different things, whatever merges on platforms have made of their native records by now.
func (r Record) Tell(other Record) Record {
	r = r.Clone()
	for p, v := range r.Views {
		if into := v.Merged(); into != "" && (into == other.Views[p].ID || r.Suspects[other.ID].Merged == p) {
			v.Denied = v.Died
			r.Views[p] = v
		}
	}
	r.Apart = insert(r.Apart, other.ID)
	r.Suspects = without(r.Suspects, other.ID)
	return r
}

// Suspect records that r may be a duplicate of another, unless people have found otherwise: then only a merge on a platform
// since is a reason to ask again.
func (r Record) Suspect(other ID, s Suspicion) Record {
	if other == r.ID || s.Merged == "" && slices.Contains(r.Apart, other) {
		return r
	}
	if was, some := r.Suspects[other]; some {
		s.Since, s.Check = was.Since, was.Check
		s.Holds = s.Holds || was.Holds
		if s.Merged == "" {
			s.Rule, s.Detail, s.Merged = was.Rule, was.Detail, was.Merged
		}
		if s == was {
			return r
		}
	}
	if s.Check.IsZero() {
		s.Check = s.Since.Add(recheck)
	}
	r.Suspects = maps.Clone(r.Suspects)
	if r.Suspects == nil {
		r.Suspects = map[ID]Suspicion{}
	}
	r.Suspects[other] = s
	return r
}

// Clear forgets the suspicion about another record, without finding that they are different.
func (r Record) Clear(other ID) Record {
	r.Suspects = without(r.Suspects, other)
	return r
}

func without(s map[ID]Suspicion, id ID) map[ID]Suspicion {
	if _, some := s[id]; !some {
		return s
	}
	s = maps.Clone(s)
	delete(s, id)
	if len(s) == 0 {
		return nil
	}
	return s
}

func insert(ids []ID, id ID) []ID {
	if slices.Contains(ids, id) {
		return ids
	}
	ids = append(slices.Clone(ids), id)
	slices.Sort(ids)
	return ids
}

// move carries the holds of one platform from one record to another.
func move(to, from map[string]Hold, platform string) (map[string]Hold, map[string]Hold) {
	for k, h := range from {
		if p, _ := SplitHoldKey(k); p == platform {
			to, from = maps.Clone(to), maps.Clone(from)
			if to == nil {
				to = map[string]Hold{}
			}
			to[k] = h
			delete(from, k)
		}
	}
	return to, from
}
