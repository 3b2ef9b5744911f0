package ledger

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sorrel/shared/record"
	"sorrel/shared/store"
)

func drawParts(t *rapid.T, label string) []string {
	torture := rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 2, 3, 4, 5, '/', 'a', 'b', 0xff, 0x10ffff}), 0, 4, -1)
	bytes := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "bytes")) })
	return rapid.SliceOfN(rapid.OneOf(torture, bytes), 1, 4).Draw(t, label)
}

// Keys compare as their components do, one after the other, and give them back.
func TestKeysKeepOrderAndComponents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawParts(t, "a"), drawParts(t, "b")
		if got, want := strings.Compare(key(a...), key(b...)), slices.Compare(a, b); got != want {
			t.Fatalf("key(%q) and key(%q) compare %d, want %d", a, b, got, want)
		}
		if got := split(key(a...)); !slices.Equal(got, a) {
			t.Fatalf("split(key(%q)) = %q", a, got)
		}
	})
}

// No two things share a key, whatever their ids contain.
func TestKeysOfDifferentThingsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[store.Key]string{}
	add := func(what string, k store.Key) {
		if was, ok := seen[k]; ok {
			t.Errorf("%s and %s share %v", what, was, k)
		}
		if err := store.ValidateKey(k); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		seen[k] = what
	}
	for _, r := range []record.Ref{{Platform: "p", Object: "a", ID: "b/c"}, {Platform: "p", Object: "a/b", ID: "c"}, {Platform: "p", Object: "a\x01b", ID: "c"},
		{Platform: "p", Object: "a", ID: "b\x01c"}, {Platform: "p\x01a", Object: "b", ID: "c"}, {Platform: "p", Object: "a", ID: ""},
		{Platform: "p", Object: "a", ID: strings.Repeat("é", 300)}} {
		add("link "+r.String(), linkKey(r))
		add("recheck "+r.String(), recheckKey(r))
	}
	for _, id := range []record.ID{"order/1", "order/2"} {
		add("state "+string(id), stateKey(id))
		add("chain "+string(id), chainKey(string(id)))
		add("log 1 "+string(id), logKey(string(id), 1))
		add("log 2 "+string(id), logKey(string(id), 2))
		add("timer "+string(id), timerKey(id, epoch))
		add("timer later "+string(id), timerKey(id, epoch.Add(1)))
		add("due "+string(id), dueKey("zendesk", id))
	}
	add("general log", logKey(General, 1))
	add("general head", headKey())
	add("proposal", proposalKey("x"))
	add("claim", claimKey(NewClaim("order", "a", "b")))
	add("claim of another rule", claimKey(NewClaim("order", "b", "b")))
	add("exception", exceptionKey("x"))
	add("operation", operationKey(NewOperationKey("k", "a", "b")))
	add("operation of other parts", operationKey(NewOperationKey("k", "a\x01b")))
	add("operation of another kind", operationKey(NewOperationKey("l", "a", "b")))
	add("budget", budgetKey("p"))
	add("budget", budgetKey("p\x01a"))
	add("cursor", cursorKey("p", "a"))
	add("cursor", cursorKey("p\x01a", "a"))
}

func TestMintIsPureAndValid(t *testing.T) {
	t.Parallel()
	ref := record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "é 7"}
	id := Mint("order", ref)
	if err := id.Validate(); err != nil || id != Mint("order", ref) {
		t.Errorf("minted %s: %v", id, err)
	}
	if id == Mint("order", record.Ref{Platform: "netsuite", Object: "salesOrder/é 7", ID: ""}) {
		t.Error("another native record gets the same id")
	}
	if back, ok := record.ParseExternal(id.External()); !ok || back != id {
		t.Errorf("%s as an external id comes back as %s", id, back)
	}
}
