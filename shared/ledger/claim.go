package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// MaxClaimants bounds the records that may claim one match key. A key that more records share says nothing: nobody
// more is added, although the state of a record that came later names the key.
const MaxClaimants = 32

// Claim is a normalised match key that a record holds. The value is kept as a digest only: it may be a tax id or an
// e-mail address. A digest keeps it from whoever reads the store, not from somebody who tries all values.
type Claim struct {
	Entity string `json:"entity"`
	Rule   string `json:"rule"`
	Digest string `json:"digest"`
}

// NewClaim digests a normalised value.
func NewClaim(entity, rule, value string) Claim {
	sum := sha256.Sum256([]byte(value))
	return Claim{entity, rule, hex.EncodeToString(sum[:16])}
}

// Compare orders claims, as State.Claims is.
func (c Claim) Compare(d Claim) int {
	return cmp.Or(strings.Compare(c.Entity, d.Entity), strings.Compare(c.Rule, d.Rule), strings.Compare(c.Digest, d.Digest))
}

// Claimed says who claims a match key now.
type Claimed struct {
	IDs []record.ID // sorted; nobody changes it
	rev store.Rev
}

// Claiming changes who claims a match key: to IDs, on condition that it still is Was. With nobody left the key is free.
type Claiming struct {
	Was Claimed
	IDs []record.ID
}

// Claimed reads who claims match keys, all in one strongly consistent batch. Each claim asked for has an answer.
func (l *Ledger) Claimed(ctx context.Context, claims ...Claim) (map[Claim]Claimed, error) {
	if len(claims) == 0 {
		return map[Claim]Claimed{}, nil
	}
	keys := make(map[store.Key]struct{}, len(claims))
	for _, c := range claims {
		keys[claimKey(c)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[Claim]Claimed, len(claims))
	for _, c := range claims {
		e, some := got[claimKey(c)]
		if !some {
			out[c] = Claimed{}
			continue
		}
		claimed := Claimed{rev: e.Rev}
		if err := json.Unmarshal(e.Value, &claimed.IDs); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.claimed", e.Key.String(), err)
		}
		out[c] = claimed
	}
	return out, nil
}

// also adds what another entry of the same commit changes about the same key. It reports false when the two did not
// start from the same.
func (c Claiming) also(d Claiming) (Claiming, bool) {
	ids := slices.DeleteFunc(slices.Clone(c.IDs), func(id record.ID) bool {
		return slices.Contains(d.Was.IDs, id) && !slices.Contains(d.IDs, id)
	})
	for _, id := range d.IDs {
		if !slices.Contains(d.Was.IDs, id) {
			ids = append(ids, id)
		}
	}
	return Claiming{c.Was, ids}, c.Was.rev == d.Was.rev
}

// then lists who claims the key afterwards: whoever did already goes before those that are new.
func (c Claiming) then() []record.ID {
	ids := slices.Sorted(slices.Values(c.IDs))
	ids = slices.Compact(ids)
	isNew := func(id record.ID) bool { return !slices.Contains(c.Was.IDs, id) }
	for i := len(ids) - 1; i >= 0 && len(ids) > MaxClaimants; i-- {
		if isNew(ids[i]) {
			ids = slices.Delete(ids, i, i+1)
		}
	}
	return ids
}

// claims adds what entries change about match keys: a merge of two records may move one key of both.
func (b *batch) claims(entries []Entry) {
	all := entries[0].Claims
	for _, e := range entries[1:] {
		if len(e.Claims) == 0 {
			continue
		}
		all = maps.Clone(all)
		if all == nil {
			all = make(map[Claim]Claiming, len(e.Claims))
		}
		for c, more := range e.Claims {
			if one, both := all[c]; both {
				joint, agree := one.also(more)
				if !agree {
					b.fail(&fault.Error{Class: fault.Conflict, Detail: "who claims a key of rule " + c.Rule + " was read twice, and has changed between", Remedy: "read again"})
				}
				more = joint
			}
			all[c] = more
		}
	}
	for c, to := range all {
		op := store.Op{Kind: store.Put, Key: claimKey(c), IfRev: to.Was.rev, Absent: to.Was.rev == ""}
		switch ids := to.then(); {
		case slices.Equal(ids, to.Was.IDs):
			op.Kind = store.Check
			b.add(op)
		case len(ids) == 0:
			op.Kind = store.Delete
			b.add(op)
		default:
			b.put(op, ids)
		}
	}
}
