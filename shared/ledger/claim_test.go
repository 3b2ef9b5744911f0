package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

func claimed(t *testing.T, l *Ledger, c Claim) Claimed {
	t.Helper()
	return must[map[Claim]Claimed](t)(l.Claimed(t.Context(), c))[c]
}

// claim is the entry of a record that begins to claim a key.
func claim(t *testing.T, l *Ledger, id record.ID, c Claim) Entry {
	t.Helper()
	s := load(t, l, id)
	after := s.Clone()
	after.Claims = append(slices.Clone(s.Claims), c)
	was := claimed(t, l, c)
	return Entry{Before: s, After: after, Claims: map[Claim]Claiming{c: {was, append(slices.Clone(was.IDs), id)}}}
}

func load(t *testing.T, l *Ledger, id record.ID) State {
	t.Helper()
	return must[map[record.ID]State](t)(l.Load(t.Context(), id))[id]
}

func TestClaims(t *testing.T) {
	t.Parallel()
	l, m := metered()
	key := NewClaim("customer", "tax id", "DE811907980")
	if len(key.Digest) != 32 || key == NewClaim("customer", "tax id", "DE811907981") || key != NewClaim("customer", "tax id", "DE811907980") {
		t.Errorf("claim %+v", key)
	}
	if none := must[map[Claim]Claimed](t)(l.Claimed(t.Context())); len(none) != 0 {
		t.Errorf("no claim gives %v", none)
	}
	if got := claimed(t, l, key); len(got.IDs) != 0 {
		t.Errorf("a free key is claimed by %v", got.IDs)
	}
	first, second := claim(t, l, "customer/b", key), claim(t, l, "customer/a", key)
	check(t, l.Commit(t.Context(), first))
	if err := l.Commit(t.Context(), second); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a key that somebody claimed meanwhile: %v", err)
	}
	if load(t, l, "customer/a").Exists() {
		t.Error("the state was written although its claim was refused")
	}
	check(t, l.Commit(t.Context(), claim(t, l, "customer/a", key)))
	if got := claimed(t, l, key); !slices.Equal(got.IDs, []record.ID{"customer/a", "customer/b"}) {
		t.Errorf("claimed by %v", got.IDs)
	}
	if s := load(t, l, "customer/a"); !slices.Equal(s.Claims, []Claim{key}) {
		t.Errorf("the state names %v", s.Claims)
	}
	leave := func(id record.ID) {
		t.Helper()
		s, was := load(t, l, id), claimed(t, l, key)
		after := s.Clone()
		after.Claims = nil
		check(t, l.Commit(t.Context(), Entry{Before: s, After: after, Claims: map[Claim]Claiming{key: {was, slices.DeleteFunc(slices.Clone(was.IDs), func(x record.ID) bool { return x == id })}}}))
	}
	leave("customer/b")
	if got := claimed(t, l, key); !slices.Equal(got.IDs, []record.ID{"customer/a"}) {
		t.Errorf("claimed by %v", got.IDs)
	}
	leave("customer/a")
	if n := m.count(store.Delete, separatorText+"claim"); n != 1 {
		t.Errorf("a key that nobody claims any more: %d items deleted", n)
	}
	if got := claimed(t, l, key); len(got.IDs) != 0 || got.rev != "" {
		t.Errorf("left: %+v", got)
	}
}

// A commit that relies on who claims a key, without changing it, notices a change.
func TestClaimIsACondition(t *testing.T) {
	t.Parallel()
	for _, start := range []int{0, 1} {
		l, _ := metered()
		key := NewClaim("customer", "tax id", "1")
		for i := range start {
			check(t, l.Commit(t.Context(), claim(t, l, record.ID(fmt.Sprint("customer/", i)), key)))
		}
		s, was := load(t, l, "customer/z"), claimed(t, l, key)
		relies := Entry{Before: s, After: s.Clone(), Claims: map[Claim]Claiming{key: {was, was.IDs}}}
		check(t, l.Commit(t.Context(), claim(t, l, "customer/meanwhile", key)))
		if err := l.Commit(t.Context(), relies); !fault.Is(err, fault.Conflict) {
			t.Errorf("with %d claimants before: %v", start, err)
		}
		relies.Claims[key] = Claiming{claimed(t, l, key), claimed(t, l, key).IDs}
		check(t, l.Commit(t.Context(), relies))
	}
}

func TestClaimantsAreBounded(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	key := NewClaim("customer", "phone", "0000")
	var want []record.ID
	for i := range MaxClaimants + 3 {
		id := record.ID(fmt.Sprintf("customer/%03d", 900-i)) // each sorts before those that were there
		check(t, l.Commit(t.Context(), claim(t, l, id, key)))
		if i < MaxClaimants {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	if got := claimed(t, l, key); !slices.Equal(got.IDs, want) {
		t.Errorf("claimed by %d: %v", len(got.IDs), got.IDs)
	}
}

// Two entries of one commit that change one key do what they would do one after the other.
func TestClaimsOfSeveralEntriesAddUp(t *testing.T) {
	t.Parallel()
	ids := []record.ID{"customer/a", "customer/b", "customer/c", "customer/d"}
	rapid.Check(t, func(rt *rapid.T) {
		l, _ := metered()
		subset := func(what string) []record.ID {
			return slices.Sorted(maps.Keys(maps.Collect(maps.All(rapid.MapOfN(rapid.SampledFrom(ids), rapid.Bool(), 0, 4).Draw(rt, what)))))
		}
		key := NewClaim("customer", "tax id", "1")
		if at := subset("before"); len(at) > 0 {
			s := load(t, l, "customer/x")
			check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Claims: map[Claim]Claiming{key: {IDs: at}}}))
		}
		was := claimed(t, l, key)
		one, two := subset("one"), subset("two")
		entry := func(id record.ID, to []record.ID) Entry {
			s := load(t, l, id)
			return Entry{Before: s, After: s.Clone(), Claims: map[Claim]Claiming{key: {was, to}}}
		}
		check(t, l.Commit(t.Context(), entry("customer/y", one), entry("customer/z", two)))
		var want []record.ID
		for _, id := range ids {
			in := func(s []record.ID) bool { return slices.Contains(s, id) }
			if in(was.IDs) && in(one) && in(two) || !in(was.IDs) && (in(one) || in(two)) {
				want = append(want, id)
			}
		}
		if got := claimed(t, l, key); !slices.Equal(got.IDs, want) {
			rt.Fatalf("of %v, %v and %v became %v, want %v", was.IDs, one, two, got.IDs, want)
		}
	})
}

func TestClaimReadTwiceIsAConflict(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	key := NewClaim("customer", "tax id", "1")
	early := claim(t, l, "customer/a", key)
	check(t, l.Commit(t.Context(), claim(t, l, "customer/b", key)))
	if err := l.Commit(t.Context(), claim(t, l, "customer/c", key), early); !fault.Is(err, fault.Conflict) {
		t.Errorf("one of two read before a change: %v", err)
	}
}
