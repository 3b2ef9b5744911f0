package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// testOneWinner: of N goroutines that all saw the same state of one key, exactly one changes it.
func testOneWinner(t *testing.T, w *world) {
	k := key("contended", "one")
	n := w.size(32, 8)
	for round := range w.size(20, 3) {
		precondition := store.Op{Kind: store.Put, Key: k, Absent: true}
		if round > 0 {
			precondition.Absent, precondition.IfRev = false, w.mustGet(t, k).Rev
		}
		var wins atomic.Int32
		var winner atomic.Int64
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				op := precondition
				op.Value = []byte(strconv.Itoa(i))
				// A second key of its own shows whether a loser wrote anything.
				own := put(key("contended/own", fmt.Sprintf("%d-%d", round, i)), "x")
				switch err := w.commit(t.Context(), op, own); {
				case err == nil:
					wins.Add(1)
					winner.Store(int64(i))
				case !store.IsConflict(err):
					t.Errorf("goroutine %d: %v; want success or a conflict", i, err)
				}
			})
		}
		wg.Wait()
		if got := wins.Load(); got != 1 {
			t.Fatalf("round %d: %d winners of %d, want 1", round, got, n)
		}
		w.wantValue(t, k, strconv.FormatInt(winner.Load(), 10))
		w.wantSorts(t, "contended/own", fmt.Sprintf("%d-", round), fmt.Sprintf("%d.", round), fmt.Sprintf("%d-%d", round, winner.Load()))
	}
}

// testTransfers: concurrent transfers between accounts in several partitions keep the sum, and every
// transfer has its receipt.
func testTransfers(t *testing.T, w *world) {
	const accounts, opening = 6, 1000
	account := func(i int) store.Key { return key(fmt.Sprintf("account/%d", i%3), strconv.Itoa(i)) }
	for i := range accounts {
		w.mustCommit(t, putAbsent(account(i), strconv.Itoa(opening)))
	}
	workers, each := w.size(8, 4), w.size(40, 8)
	var wg sync.WaitGroup
	for g := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(g)))
			for n := range each {
				from := rnd.IntN(accounts)
				to := (from + 1 + rnd.IntN(accounts-1)) % accounts
				receipt := putAbsent(key("receipts", fmt.Sprintf("%d-%03d", g, n)), fmt.Sprintf("%d %d %d", from, to, 1+rnd.IntN(9)))
				if err := w.transfer(t.Context(), account(from), account(to), receipt); err != nil {
					t.Errorf("transfer: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := [accounts]int{}
	for i := range want {
		want[i] = opening
	}
	receipts := 0
	for e, err := range w.Range(t.Context(), "receipts", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		var from, to, amount int
		if _, err := fmt.Sscan(string(e.Value), &from, &to, &amount); err != nil {
			t.Fatal(err)
		}
		want[from] -= amount
		want[to] += amount
		receipts++
	}
	if receipts != workers*each {
		t.Errorf("%d receipts, want %d", receipts, workers*each)
	}
	for i := range accounts {
		w.wantValue(t, account(i), strconv.Itoa(want[i]))
	}
}

// transfer moves the receipt's amount, again and again until no other transfer gets in between.
func (w *world) transfer(ctx context.Context, from, to store.Key, receipt store.Op) error {
	amount, err := strconv.Atoi(string(receipt.Value[strings.LastIndexByte(string(receipt.Value), ' ')+1:]))
	if err != nil {
		return err
	}
	for {
		found, err := store.GetMany(ctx, w.Store, from, to)
		if err != nil {
			return err
		}
		a, errA := strconv.Atoi(string(found[from].Value))
		b, errB := strconv.Atoi(string(found[to].Value))
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		err = w.commit(ctx,
			putIf(from, found[from].Rev, strconv.Itoa(a-amount)),
			putIf(to, found[to].Rev, strconv.Itoa(b+amount)),
			receipt)
		if !store.IsConflict(err) {
			return err
		}
	}
}

func testNothingWrittenOnConflict(t *testing.T, w *world) {
	kept, gone, taken, fresh := key("p", "kept"), key("q", "gone"), key("p", "taken"), key("r", "fresh")
	w.mustCommit(t, put(kept, "1"), put(gone, "1"), put(taken, "1"))
	rev := w.mustGet(t, kept).Rev
	w.wantConflict(t, []store.Key{taken},
		put(kept, "2"), del(gone), put(fresh, "2"), putAbsent(taken, "2"))
	w.wantConflict(t, []store.Key{taken},
		putAbsent(taken, "2"), putIf(kept, rev, "2"), del(gone), put(fresh, "2"))
	w.wantValue(t, kept, "1")
	w.wantValue(t, gone, "1")
	w.wantValue(t, taken, "1")
	w.wantMissing(t, fresh)
	if got := w.mustGet(t, kept).Rev; got != rev {
		t.Fatalf("revision %q after a refused commit, want %q", got, rev)
	}
}

func testPreconditions(t *testing.T, w *world) {
	k := key("p", "s")
	w.wantConflict(t, []store.Key{k}, putIf(k, "nosuchrevision", "x"))
	w.mustCommit(t, putAbsent(k, "1"))
	w.wantConflict(t, []store.Key{k}, putAbsent(k, "2"))
	first := w.mustGet(t, k).Rev
	w.mustCommit(t, putIf(k, first, "2"))
	w.wantConflict(t, []store.Key{k}, putIf(k, first, "3"))
	w.wantConflict(t, []store.Key{k}, store.Op{Kind: store.Delete, Key: k, IfRev: first})
	w.wantConflict(t, []store.Key{k}, store.Op{Kind: store.Delete, Key: k, Absent: true})
	w.wantValue(t, k, "2")
	w.mustCommit(t, store.Op{Kind: store.Delete, Key: k, IfRev: w.mustGet(t, k).Rev})
	w.wantMissing(t, k)
	w.mustCommit(t, del(k))
	w.mustCommit(t, store.Op{Kind: store.Delete, Key: k, Absent: true})
	w.mustCommit(t, put(k, ""))
	w.wantValue(t, k, "")
	w.mustCommit(t, put(k, "any"))
	w.wantValue(t, k, "any")

	// Two failed preconditions are both named.
	other := key("q", "s")
	w.mustCommit(t, put(other, "1"))
	w.wantConflict(t, []store.Key{k, other}, putAbsent(k, "x"), putAbsent(other, "x"))
}

func testChecks(t *testing.T, w *world) {
	guard, k, missing := key("guard", "g"), key("p", "s"), key("guard", "missing")
	w.mustCommit(t, put(guard, "1"))
	rev := w.mustGet(t, guard).Rev
	checkRev := store.Op{Kind: store.Check, Key: guard, IfRev: rev}
	checkAbsent := store.Op{Kind: store.Check, Key: missing, Absent: true}
	w.mustCommit(t, checkRev)
	w.mustCommit(t, checkAbsent)
	w.mustCommit(t, put(k, "1"), checkRev, checkAbsent)
	w.wantMissing(t, missing)
	if e := w.mustGet(t, guard); e.Rev != rev || string(e.Value) != "1" {
		t.Fatalf("a check changed its key: %+v", e)
	}
	w.wantConflict(t, []store.Key{guard}, put(k, "2"), store.Op{Kind: store.Check, Key: guard, Absent: true})
	w.wantConflict(t, []store.Key{missing}, put(k, "2"), store.Op{Kind: store.Check, Key: missing, IfRev: rev})
	w.mustCommit(t, put(guard, "2"))
	w.wantConflict(t, []store.Key{guard}, put(k, "2"), checkRev)
	w.wantConflict(t, []store.Key{guard}, checkRev)
	w.wantValue(t, k, "1")
}

// testRevisions: each put gives a revision that the key never had, also after delete and re-creation.
func testRevisions(t *testing.T, w *world) {
	k := key("p", "s")
	seen := map[store.Rev]bool{}
	for i := range w.size(30, 8) {
		w.mustCommit(t, put(k, "same value"))
		rev := w.mustGet(t, k).Rev
		if seen[rev] {
			t.Fatalf("put %d: revision %q was used before", i, rev)
		}
		seen[rev] = true
		if again := w.mustGet(t, k).Rev; again != rev {
			t.Fatalf("two reads of one state: revisions %q and %q", rev, again)
		}
		for e, err := range w.Range(t.Context(), "p", "", "") {
			if err != nil || e.Rev != rev {
				t.Fatalf("range: revision %q, error %v; get said %q", e.Rev, err, rev)
			}
		}
		if i%3 == 2 {
			w.mustCommit(t, del(k))
			w.wantConflict(t, []store.Key{k}, putIf(k, rev, "stale"))
		}
	}
}

// testLostAnswer: a commit whose answer was lost is recognised as one's own, not reported as a conflict.
func testLostAnswer(t *testing.T, w *world) {
	if w.harness.LoseAnswer == nil {
		t.Skip("nothing lies between this adapter and its storage")
	}
	k, other := key("p", "s"), key("q", "s")
	lose := func() { t.Helper(); w.harness.LoseAnswer(t, w.Store) }

	lose()
	w.mustCommit(t, putAbsent(k, "1"))
	w.wantValue(t, k, "1")
	lose()
	w.mustCommit(t, putIf(k, w.mustGet(t, k).Rev, "2"))
	w.wantValue(t, k, "2")
	lose()
	w.mustCommit(t, putIf(k, w.mustGet(t, k).Rev, "3"), putAbsent(other, "3"))
	w.wantValue(t, k, "3")
	w.wantValue(t, other, "3")
	lose()
	w.wantConflict(t, []store.Key{k}, putAbsent(k, "4"), put(other, "4"))
	w.wantValue(t, other, "3")
	lose()
	w.mustCommit(t, store.Op{Kind: store.Delete, Key: k, IfRev: w.mustGet(t, k).Rev}, put(other, "5"))
	w.wantMissing(t, k)
	w.wantValue(t, other, "5")
}

// testAliasing: the store keeps bytes of its own, going in and coming out.
func testAliasing(t *testing.T, w *world) {
	// Some adapters read a nearly empty store from a copy of their own and a large one from shared memory.
	w.fill(t, many("before", w.size(100, 10), 2000))
	k := key("p", "s")
	value := []byte("original")
	w.mustCommit(t, store.Op{Kind: store.Put, Key: k, Value: value})
	copy(value, "XXXXXXXX")
	w.wantValue(t, k, "original")
	copy(w.mustGet(t, k).Value, "YYYYYYYY")
	w.wantValue(t, k, "original")
	for e, err := range w.Range(t.Context(), "p", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		copy(e.Value, "ZZZZZZZZ")
	}
	found, err := store.GetMany(t.Context(), w.Store, k)
	if err != nil {
		t.Fatal(err)
	}
	copy(found[k].Value, "WWWWWWWW")
	w.wantValue(t, k, "original")
	held := w.mustGet(t, k)
	w.mustCommit(t, put(k, "replaced"))
	w.fill(t, many("filler", w.size(300, 30), 2000))
	if string(held.Value) != "original" {
		t.Fatalf("an entry in the reader's hands changed to %q", held.Value)
	}
}

// many returns n puts of size bytes into part, sorted by number.
func many(part string, n, size int) []store.Op {
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = put(key(part, numbered(i)), strings.Repeat(string(rune('a'+i%26)), size))
	}
	return ops
}

// testLimits: what breaks the contract is an InvalidError and writes nothing, not even its valid operations.
func testLimits(t *testing.T, w *world) {
	good := put(key("p", "good"), "x")
	over := many("p", store.MaxOps+1, 1)
	tooMuch := many("p", 10, store.MaxValue) // each fits, together they do not
	for name, ops := range map[string][]store.Op{
		"no operations":      {},
		"value too large":    {good, put(key("p", "s"), strings.Repeat("x", store.MaxValue+1))},
		"batch too large":    tooMuch,
		"too many":           over,
		"key twice":          {good, put(key("p", "s"), "1"), del(key("p", "s"))},
		"part too long":      {good, put(key(strings.Repeat("p", store.MaxPart+1), "s"), "x")},
		"sort too long":      {good, put(key("p", strings.Repeat("s", store.MaxSort+1)), "x")},
		"empty part":         {good, put(key("", "s"), "x")},
		"empty sort":         {good, put(key("p", ""), "x")},
		"absent and rev":     {good, {Kind: store.Put, Key: key("p", "s"), Absent: true, IfRev: "r"}},
		"check of nothing":   {good, {Kind: store.Check, Key: key("p", "s")}},
		"unknown kind":       {good, {Kind: 9, Key: key("p", "s")}},
		"zero kind":          {good, {Key: key("p", "s")}},
		"empty key deletion": {good, del(key("p", ""))},
	} {
		var invalid *store.InvalidError
		if err := w.Commit(t.Context(), ops...); !errors.As(err, &invalid) {
			t.Errorf("%s: %v; want an InvalidError", name, err)
		}
	}
	w.wantSorts(t, "p", "", "")
	for _, k := range []store.Key{key("", "s"), key("p", "")} {
		if e, err := w.Get(t.Context(), k); err == nil {
			t.Errorf("get %v: %+v; want an error", k, e)
		}
	}
}

// testLargestCommit: everything up to the limits is accepted.
func testLargestCommit(t *testing.T, w *world) {
	big := key(strings.Repeat("p", store.MaxPart), strings.Repeat("s", store.MaxSort))
	w.mustCommit(t, putAbsent(big, strings.Repeat("v", store.MaxValue)))
	w.wantValue(t, big, strings.Repeat("v", store.MaxValue))
	w.wantSorts(t, big.Part, "", "", big.Sort)

	w.mustCommit(t, many("count", store.MaxOps, 10)...)
	if n := len(w.sorts(t, "count", "", "")); n != store.MaxOps {
		t.Fatalf("%d entries, want %d", n, store.MaxOps)
	}
	w.mustCommit(t, many("bytes", 12, store.MaxBatchSize/12)...)
	if n := len(w.sorts(t, "bytes", "", "")); n != 12 {
		t.Fatalf("%d entries, want 12", n)
	}
}

func testCancelled(t *testing.T, w *world) {
	k := key("p", "s")
	w.mustCommit(t, put(k, "1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Commit(ctx, put(k, "2")); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v; want context.Canceled", err)
	}
	w.wantValue(t, k, "1")
	if _, err := w.Get(ctx, k); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v; want context.Canceled", err)
	}
	if _, err := store.GetMany(ctx, w.Store, k); !errors.Is(err, context.Canceled) {
		t.Errorf("get many: %v; want context.Canceled", err)
	}
	yields := 0
	for _, err := range w.Range(ctx, "p", "", "") {
		yields++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("range: %v; want context.Canceled", err)
		}
	}
	if yields != 1 {
		t.Errorf("range yielded %d times after cancellation, want the one error", yields)
	}

	// Under way: whatever the outcome, it is all or nothing, and success means written.
	for i := range w.size(50, 5) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := key("under/way/a", numbered(i)), key("under/way/b", numbered(i))
		go cancel()
		err := w.Commit(ctx, put(a, "x"), put(b, "x"))
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) && !fault.Is(err, fault.Unknown) {
			t.Fatalf("commit: %v; want success, context.Canceled or an unknown outcome", err)
		}
		// This commit comes after the cancelled one in every adapter, so its outcome is settled then.
		w.mustCommit(t, put(key("under/way/c", "s"), "x"))
		found, getErr := store.GetMany(t.Context(), w.Store, a, b)
		if getErr != nil {
			t.Fatal(getErr)
		}
		if len(found) == 1 || err == nil && len(found) != 2 {
			t.Fatalf("commit said %v, and %d of its 2 entries are there", err, len(found))
		}
	}
}

func testExpiry(t *testing.T, w *world) {
	start := w.clock.now()
	soon, later, never, past, odd := key("p", "a"), key("p", "b"), key("p", "c"), key("p", "d"), key("p", "e")
	w.mustCommit(t,
		putUntil(soon, "1", start.Add(10*time.Second)),
		putUntil(later, "1", start.Add(time.Hour).In(time.FixedZone("east", 3600))),
		put(never, "1"),
		putUntil(past, "1", start.Add(-time.Second)),
		putUntil(odd, "1", start.Add(10*time.Second+900*time.Millisecond)))
	w.wantMissing(t, past)
	w.wantSorts(t, "p", "", "", "a", "b", "c", "e")
	if e := w.mustGet(t, later); !e.Expires.Equal(start.Add(time.Hour)) || e.Expires.Location() != time.UTC {
		t.Errorf("expires %v, want %v in UTC", e.Expires, start.Add(time.Hour))
	}
	if e := w.mustGet(t, odd); !e.Expires.Equal(start.Add(10 * time.Second)) {
		t.Errorf("expires %v, want whole seconds", e.Expires)
	}
	if e := w.mustGet(t, never); !e.Expires.IsZero() {
		t.Errorf("expires %v, want never", e.Expires)
	}
	w.clock.advance(10*time.Second - time.Millisecond)
	w.wantValue(t, soon, "1")
	w.clock.advance(time.Millisecond)
	w.wantMissing(t, soon)
	w.wantMissing(t, odd)
	w.wantSorts(t, "p", "", "", "b", "c")
	found, err := store.GetMany(t.Context(), w.Store, soon, later, never)
	if _, ok := found[soon]; err != nil || ok || len(found) != 2 {
		t.Errorf("get many: %v, %v; want the two live entries", found, err)
	}

	// A new put decides anew: it can lift the expiry, prolong it or set one.
	w.mustCommit(t, put(later, "2"), putUntil(never, "2", w.clock.now().Add(time.Second)), putUntil(soon, "2", start.Add(2*time.Hour)))
	w.clock.advance(time.Hour)
	w.wantSorts(t, "p", "", "", "a", "b")

	// Expired entries fill no page of a Range so that live ones behind them go missing.
	ops := many("q", w.size(400, 40), 3000)
	for i := range ops {
		ops[i].Expires = w.clock.now().Add(time.Second)
	}
	w.fill(t, append(ops, put(key("q", "live"), "1")))
	w.clock.advance(time.Second)
	w.wantSorts(t, "q", "", "", "live")
}

// testExpiryPreconditions: an expired entry is absent for commits too, whether or not it was swept.
func testExpiryPreconditions(t *testing.T, w *world) {
	k := key("p", "s")
	lease := func(v string) store.Op { return putUntil(k, v, w.clock.now().Add(time.Minute)) }
	first := lease("1")
	first.Absent = true
	w.mustCommit(t, first)
	rev := w.mustGet(t, k).Rev
	w.wantConflict(t, []store.Key{k}, putAbsent(k, "2"))
	w.clock.advance(time.Minute)
	w.wantConflict(t, []store.Key{k}, putIf(k, rev, "2"))
	w.wantConflict(t, []store.Key{k}, store.Op{Kind: store.Check, Key: k, IfRev: rev}, put(key("p", "other"), "x"))
	w.mustCommit(t, store.Op{Kind: store.Check, Key: k, Absent: true}, put(key("p", "other"), "x"))
	second := lease("2")
	second.Absent = true
	w.mustCommit(t, second)
	w.wantValue(t, k, "2")
	if got := w.mustGet(t, k).Rev; got == rev {
		t.Fatalf("revision %q is used again", got)
	}
	w.wantConflict(t, []store.Key{k}, putIf(k, rev, "3"))
}
