package govern

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

// Keys are the match keys of a record: those of what each living native record of it holds.
func Keys(rules match.Rules, r record.Record) map[ledger.Claim]match.Key {
	if len(rules) == 0 || r.Into != "" {
		return nil
	}
	out := map[ledger.Claim]match.Key{}
	for _, v := range r.Views {
		if !v.Exists() {
			continue
		}
		fields := map[string]record.Value{}
		for _, rule := range rules {
			for _, p := range rule.Parts {
				for _, f := range []string{p.Field, p.Country} {
					if value, origin := v.Holds(f); f != "" && origin != record.FromNobody {
						fields[f] = value
					}
				}
			}
		}
		for c, k := range KeysOf(rules, r.ID.Entity(), fields) {
			out[c] = k
		}
	}
	return out
}

// KeysOf are the match keys of fields that one native record has.
func KeysOf(rules match.Rules, entity string, fields map[string]record.Value) map[ledger.Claim]match.Key {
	out := map[ledger.Claim]match.Key{}
	for _, k := range rules.Keys(fields) {
		out[ledger.NewClaim(entity, k.Rule, k.Value)] = k
	}
	return out
}

// claim brings the match claims of a record up to date, and suspects it of being a duplicate of those that claim the
// same: by any key when the record is new, by strong ones later. known are other records that this one is known to be,
// or not to be. Two workers who make records with one key at the same moment conflict, and the second finds the first:
// whoever has looked who claims a key says so in the cause, so that nothing comes in between.
func claim(ctx context.Context, l *ledger.Ledger, rules match.Rules, before ledger.State, after *ledger.State, cause Cause, known []record.ID) (map[ledger.Claim]ledger.Claiming, error) {
	wanted := Keys(rules, after.Record)
	touched := map[ledger.Claim]bool{}
	for _, c := range before.Claims {
		if _, keeps := wanted[c]; !keeps {
			touched[c] = true
		}
	}
	suspicious := len(after.Record.Suspects) > 0
	for c := range wanted {
		if suspicious || !slices.Contains(before.Claims, c) {
			touched[c] = true
		}
	}
	if len(touched) == 0 {
		return nil, nil
	}
	claimed := maps.Clone(cause.Claimed)
	if claimed == nil {
		claimed = map[ledger.Claim]ledger.Claimed{}
	}
	unread := slices.DeleteFunc(slices.Collect(maps.Keys(touched)), func(c ledger.Claim) bool { _, is := claimed[c]; return is })
	more, err := l.Claimed(ctx, unread...)
	if err != nil {
		return nil, err
	}
	maps.Copy(claimed, more)
	id := after.Record.ID
	after.Claims = slices.SortedFunc(maps.Keys(wanted), compareClaims)
	out := map[ledger.Claim]ledger.Claiming{}
	shared := map[record.ID]bool{}
	for _, c := range slices.SortedFunc(maps.Keys(touched), compareClaims) {
		was := claimed[c]
		has := slices.Contains(was.IDs, id)
		key, wants := wanted[c]
		others := slices.DeleteFunc(slices.Clone(was.IDs), func(other record.ID) bool { return other == id })
		switch {
		case wants && !has && len(was.IDs) < ledger.MaxClaimants:
			ids := append(slices.Clone(was.IDs), id)
			slices.Sort(ids)
			out[c] = ledger.Claiming{Was: was, IDs: ids}
		case !wants && has:
			out[c] = ledger.Claiming{Was: was, IDs: others}
		}
		if !wants || len(was.IDs) >= ledger.MaxClaimants {
			continue // so many records have it that it says nothing
		}
		for _, other := range others {
			shared[other] = true
			if (key.Strong || !before.Exists() && !cause.Known) && !slices.Contains(known, other) {
				after.Record = after.Record.Suspect(other, record.Suspicion{Rule: key.Rule, Detail: "both have " + key.Shown(), Holds: !before.Exists(), Since: cause.Now})
			}
		}
	}
	for other, s := range after.Record.Suspects {
		if s.Merged == "" && !shared[other] {
			after.Record = after.Record.Clear(other) // they have nothing in common any more
		}
	}
	after.Record = after.Record.Rechecked(cause.Now)
	return out, nil
}

func compareClaims(a, b ledger.Claim) int {
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}
