package simulation

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

func (w *world) site(name string) *site {
	for _, s := range w.sites {
		if s.name == name {
			return s
		}
	}
	panic("no such platform: " + name) // cases name those that there are
}

// act is what somebody does now.
func (w *world) act(a Act) {
	rng := rand.New(rand.NewPCG(a.Pick, 9))
	if w.vendors != nil {
		w.vendors.act(a, rng)
		return
	}
	if w.c.Profile.Workflows {
		w.sell(a, rng)
		return
	}
	s := w.site(a.On)
	did := func(format string, args ...any) {
		w.note("somebody on "+s.name, a.Do, fmt.Sprintf(format, args...), none)
	}
	ids := s.living("account")
	switch a.Do {
	case "create":
		if s.name != record.NetSuite {
			s = w.site(record.Salesforce)
		}
		id := fmt.Sprintf("%s-%d", s.name, a.N)
		fields := map[string]any{"name": pick(rng, "Ernst Handel", "Bon app", "Chop-suey"), "city": pick(rng, "Graz", "Bern"), "active": true}
		if rng.IntN(2) == 0 {
			fields["taxId"] = pick(rng, "ATU12345678", "CHE-123.456.788")
		}
		did("%s %v", id, fields)
		s.set("account", id, fields)
	case "twins": // come into being at once, and are found to be one while both are written to
		fields := map[string]any{"name": fmt.Sprintf("Twin %d", a.N), "city": "Graz", "active": true}
		did("%v", fields)
		for _, origin := range []string{record.NetSuite, record.Salesforce} {
			w.site(origin).set("account", fmt.Sprintf("%s-%d", origin, a.N), fields)
		}
		w.later(time.Duration(3+rng.IntN(12))*time.Second, func() { w.join(rng) })
	case "person":
		s = w.site(record.Salesforce)
		fields := map[string]any{"last": pick(rng, "Mendel", "Wilson"), "active": true}
		if ids := s.living("account"); len(ids) > 0 {
			fields["account"] = pick(rng, ids...)
		}
		did("%d %v", a.N, fields)
		s.set("person", fmt.Sprintf("person-%d", a.N), fields)
	case "edit":
		w.edit(s, rng, did)
	case "burst": // several people at once
		for _, other := range w.sites {
			s = other
			w.edit(s, rng, did)
		}
	case "rush": // somebody has a program edit many
		for range 12 {
			w.later(time.Duration(rng.IntN(5000))*time.Millisecond, func() { w.edit(s, rng, did) })
		}
	case "clash": // the same field of the same record everywhere, at one moment
		for _, c := range w.copies(s, rng) {
			s = c.site
			value := pick(rng, "a", "b", " c", "d")
			did("%s phone = %q", c.ID, value)
			s.set("account", c.ID, map[string]any{"phone": value})
		}
	case "race": // somebody decides about a field that its owner, who asks and others change at that moment
		w.stewards(Act{Do: "decide"}, rng)
		for _, c := range w.copies(s, rng) {
			s = c.site
			value := pick(rng, "a", "b", "as agreed")
			w.later(time.Duration(rng.IntN(5000))*time.Millisecond, func() {
				if r := c.rows[c.Ref]; !r.gone {
					w.note("somebody on "+c.name, a.Do, fmt.Sprintf("%s street = %q", c.ID, value), none)
					c.set("account", c.ID, map[string]any{"street": value})
				}
			})
		}
	case "move":
		if people, accounts := s.living("person"), ids; len(people) > 0 && len(accounts) > 0 {
			id, to := pick(rng, people...), pick(rng, accounts...)
			did("%s to %s", id, to)
			s.set("person", id, map[string]any{"account": to})
		}
	case "delete":
		if len(ids) > 0 {
			id := pick(rng, ids...)
			did("%s", id)
			s.remove("account", id, "")
		}
	case "merge":
		if len(ids) > 1 {
			rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			did("%s into %s", ids[0], ids[1])
			s.remove("account", ids[0], ids[1])
		}
	case "restore":
		for _, ref := range s.order {
			if s.rows[ref].gone && ref.Object == "account" && s.name == record.Salesforce {
				did("%s", ref.ID)
				s.restore(ref)
				break
			}
		}
	case "list":
		w.list(s.name)
	case "redrive":
		w.redrive()
	case "replay":
		w.replay(s, rng)
	default:
		w.stewards(a, rng)
	}
}

func (w *world) edit(s *site, rng *rand.Rand, did func(string, ...any)) {
	accounts, people := s.living("account"), s.living("person")
	if len(people) > 0 && rng.IntN(5) == 0 {
		id, field, value := pick(rng, people...), pick(rng, "mobile", "mobile", "last"), pick(rng, "a", "b", " c")
		did("%s %s = %q", id, field, value)
		s.set("person", id, map[string]any{field: value})
		return
	}
	if len(accounts) == 0 {
		return
	}
	id, field := pick(rng, accounts...), pick(rng, "phone", "phone", "street", "street", "industry", "tier", "city", "name")
	value := pick(rng, "a", "b", " c", "as agreed")
	did("%s %s = %q", id, field, value)
	s.set("account", id, map[string]any{field: value})
}

// spot is a native record on a platform.
type spot struct {
	*site
	record.Ref
}

// copies are all native records of one account that lives on a platform.
func (w *world) copies(s *site, rng *rand.Rand) (out []spot) {
	ids := s.living("account")
	if len(ids) == 0 {
		return nil
	}
	ref := record.Ref{Platform: s.name, Object: "account", ID: pick(rng, ids...)}
	id, linked, err := w.god.Lookup(context.Background(), ref)
	if err != nil || !linked {
		return []spot{{s, ref}}
	}
	for _, other := range w.sites {
		v := w.state(id).Record.Views[other.name]
		if r := other.rows[v.Ref]; r != nil && !r.gone {
			out = append(out, spot{other, v.Ref})
		}
	}
	return out
}

// deed is what somebody does at the desk.
type deed func(ctx context.Context, f *steward.Flow) error

// decision is what somebody decides about a proposal, if there is one.
func (w *world) decision(rng *rand.Rand, who policy.Person) (string, deed) {
	open, err := w.god.Proposals(context.Background(), false)
	if err != nil || len(open) == 0 {
		return "", nil
	}
	slices.SortFunc(open, func(a, b ledger.ProposalEntry) int { return strings.Compare(a.ID, b.ID) })
	p := pick(rng, open...)
	v := steward.Verdict{Proposal: p.ID, Approve: rng.IntN(2) == 0, Revision: pick(rng, 0, p.Revision)}
	return fmt.Sprintf("%s of %s: %t", p.ID, p.Record, v.Approve), func(ctx context.Context, f *steward.Flow) error { _, err := f.Decide(ctx, who, v); return err }
}

// handling is what somebody does about an exception, if there is one.
func (w *world) handling(rng *rand.Rand, who policy.Person) (string, deed) {
	open, err := w.god.Exceptions(context.Background(), false)
	if err != nil || len(open) == 0 {
		return "", nil
	}
	slices.SortFunc(open, func(a, b ledger.Exception) int { return strings.Compare(a.ID, b.ID) })
	x := pick(rng, open...)
	act := steward.Action{Exception: x.ID, Do: pick(rng, steward.Retry, steward.Accept, steward.Keep), Reason: "so it is"}
	if x.Type == "possible-duplicate" {
		act.Do = pick(rng, steward.Merge, steward.KeepApart)
	}
	return fmt.Sprintf("%s %s of %s", act.Do, x.Type, x.Record), func(ctx context.Context, f *steward.Flow) error { _, err := f.Act(ctx, who, act); return err }
}

// stewards act a while after they have looked: what they decide about may have changed meanwhile.
func (w *world) stewards(a Act, rng *rand.Rand) {
	var do deed
	var what string
	stew := policy.Person{Name: "stew"}
	switch a.Do {
	case "decide":
		if what, do = w.decision(rng, policy.Person{Name: "fiona"}); do == nil {
			return
		}
	case "handle":
		if what, do = w.handling(rng, stew); do == nil {
			return
		}
	default:
		ids := w.records()
		if len(ids) == 0 {
			return
		}
		id := pick(rng, ids...)
		if id.Entity() != "account" {
			return
		}
		field := pick(rng, "phone", "street", "industry")
		what = fmt.Sprintf("%s %s", id, field)
		switch a.Do {
		case "override":
			o := steward.Override{Value: record.TextValue(pick(rng, "a", "o")), Reason: "for now"}
			if rng.IntN(2) == 0 {
				o.Until = w.now.Add(time.Duration(1+rng.IntN(60)) * time.Minute)
			}
			do = func(ctx context.Context, f *steward.Flow) error {
				_, err := f.Override(ctx, stew, id, field, o)
				return err
			}
		case "revoke":
			do = func(ctx context.Context, f *steward.Flow) error { _, err := f.Revoke(ctx, stew, id, field); return err }
		case "unmerge":
			do = func(ctx context.Context, f *steward.Flow) error { _, err := f.Unmerge(ctx, stew, id); return err }
		default:
			w.wrong("nobody knows how to %s", a.Do)
			return
		}
	}
	w.steward(time.Duration(rng.IntN(5000))*time.Millisecond, a.Do, what, do)
}

// join decides that two records are one in the moment in which both are written to.
func (w *world) join(rng *rand.Rand) {
	open, err := w.god.Exceptions(context.Background(), false)
	open = slices.DeleteFunc(open, func(x ledger.Exception) bool { return x.Type != "possible-duplicate" || x.Other == "" })
	if err != nil || len(open) == 0 {
		return
	}
	x := slices.MaxFunc(open, func(a, b ledger.Exception) int { return cmp.Or(a.First.Compare(b.First), strings.Compare(a.ID, b.ID)) })
	stew := policy.Person{Name: "stew"}
	for _, id := range []record.ID{x.Record, x.Other} {
		o := steward.Override{Value: record.TextValue(pick(rng, "a", "o")), Reason: "for now", Until: w.now.Add(time.Minute)}
		w.steward(0, "override", string(id), func(ctx context.Context, f *steward.Flow) error {
			_, err := f.Override(ctx, stew, id, "phone", o)
			return err
		})
	}
	w.steward(time.Duration(rng.IntN(2000))*time.Millisecond, "merge", string(x.Record), func(ctx context.Context, f *steward.Flow) error {
		_, err := f.Act(ctx, stew, steward.Action{Exception: x.ID, Do: steward.Merge, Reason: "so it is"})
		return err
	})
}

// steward lets somebody act after a while.
func (w *world) steward(after time.Duration, did, what string, do func(ctx context.Context, f *steward.Flow) error) {
	w.later(after, func() {
		w.job("steward", func(ctx context.Context, p *process) {
			w.note(p.name, did, what, none)
			if err := do(ctx, p.steward); err != nil {
				w.note(p.name, did, "→ "+string(fault.ClassOf(err)), none)
			}
		})
	})
}

// records are all records that there are, the merged ones included.
func (w *world) records() []record.ID {
	if w.vendors != nil {
		return w.vendors.records()
	}
	ids := map[record.ID]bool{}
	for _, s := range w.sites {
		for _, ref := range s.order {
			if id, linked, err := w.god.Lookup(context.Background(), ref); err == nil && linked {
				ids[id] = true
			}
			if id := ledger.Mint(w.entity(ref), ref); w.state(id).Exists() {
				ids[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// entity is what a native record is one of.
func (w *world) entity(ref record.Ref) string {
	m, _ := w.set.ByObject(ref.Platform, ref.Object)
	return m.Entity
}

func (w *world) state(id record.ID) ledger.State {
	states, err := w.god.Load(context.Background(), id)
	if err != nil {
		w.wrong("loading %s: %v", id, err)
	}
	return states[id]
}
