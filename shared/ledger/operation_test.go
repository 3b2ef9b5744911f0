package ledger

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

const lease = time.Minute

var thing = NewOperationKey("test", "one", "thing")

func begin(t testing.TB, l *Ledger, owner string) Operation {
	t.Helper()
	o, err := l.Begin(t.Context(), Beginning{Key: thing, Owner: owner, Print: "p", Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func stands(t *testing.T, o Operation, s Stand, owner string) {
	t.Helper()
	if o.Stand != s || o.Owner != owner {
		t.Errorf("it is %s of %s, want %s of %s", o.Stand, o.Owner, s, owner)
	}
}

func TestOperationLives(t *testing.T) {
	t.Parallel()
	now := epoch
	l := New(store.NewMemory(func() time.Time { return now }), func() time.Time { return now })
	ctx := t.Context()
	stands(t, begin(t, l, "a"), InProgress, "a")
	stands(t, begin(t, l, "b"), InProgress, "a")
	if _, err := l.Begin(ctx, Beginning{Key: thing, Owner: "b", Print: "another", Lease: lease}); !fault.Is(err, fault.Refused) {
		t.Errorf("the key of another thing: %v", err)
	}
	now = now.Add(lease - 1)
	stands(t, begin(t, l, "b"), InProgress, "a")
	now = now.Add(1)
	o := begin(t, l, "b")
	stands(t, o, Unknown, "b")
	if o.Mark != "a" || !o.Begun.Equal(epoch) {
		t.Errorf("%+v forgets how it began", o)
	}
	stands(t, begin(t, l, "c"), Unknown, "b")
	for name, err := range map[string]error{
		"finish": l.Finish(ctx, thing, "a", nil, time.Hour), "doubt": l.Doubt(ctx, thing, "a"), "give up": l.GiveUp(ctx, thing, "a"), "a stranger": l.Finish(ctx, thing, "c", nil, time.Hour),
		"nothing": l.Finish(ctx, NewOperationKey("test", "other"), "a", nil, time.Hour),
	} {
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
	check(t, l.Doubt(ctx, thing, "b"))
	stands(t, begin(t, l, "c"), Unknown, "c")
	if err := l.Finish(ctx, thing, "c", make([]byte, MaxAnswer+1), time.Hour); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a large answer: %v", err)
	}
	check(t, l.Finish(ctx, thing, "c", []byte("it is so"), time.Hour))
	check(t, l.Finish(ctx, thing, "c", []byte("it is so"), time.Hour))
	for name, err := range map[string]error{"doubt": l.Doubt(ctx, thing, "c"), "give up": l.GiveUp(ctx, thing, "c")} {
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s what is done: %v", name, err)
		}
	}
	if o = begin(t, l, "d"); o.Stand != Done || string(o.Answer) != "it is so" {
		t.Errorf("%+v", o)
	}
	now = now.Add(time.Hour) // forgotten by the clock: nothing was swept
	stands(t, begin(t, l, "e"), InProgress, "e")
	check(t, l.GiveUp(ctx, thing, "e"))
	stands(t, begin(t, l, "f"), InProgress, "f")
	now = now.AddDate(10, 0, 0)
	stands(t, begin(t, l, "g"), Unknown, "g") // never free, however long ago
	now = now.Add(lease)
	stands(t, begin(t, l, "g"), Unknown, "g") // a token that was used is no proof that nothing happened
}

// Of all who ask at once one gets it, also when it has to be taken over.
func TestOperationHasOneTaker(t *testing.T) {
	t.Parallel()
	now := epoch
	l := New(store.NewMemory(func() time.Time { return now }), func() time.Time { return now })
	for round, want := range []Stand{InProgress, Unknown} {
		const takers = 12
		got := make([]Operation, takers)
		var wg sync.WaitGroup
		for i := range takers {
			wg.Go(func() {
				var err error
				if got[i], err = l.Begin(t.Context(), Beginning{Key: thing, Owner: fmt.Sprint(round, i), Lease: lease}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		mine := 0
		for i, o := range got {
			if o.Owner == fmt.Sprint(round, i) {
				mine++
			}
			if o.Stand != want || o.Owner != got[0].Owner {
				t.Errorf("round %d: %s of %s", round, o.Stand, o.Owner)
			}
		}
		if mine != 1 {
			t.Errorf("round %d: %d have it", round, mine)
		}
		now = now.Add(lease)
	}
}

// An acknowledgement of the store is lost: the verb recognises what it wrote.
func TestOperationRecognisesItsOwnWrite(t *testing.T) {
	t.Parallel()
	lose := false
	faulty := &storetest.Faulty{Store: store.NewMemory(clock), Next: func(op string, _ []store.Key) storetest.Fault {
		if lose && op == storetest.OpCommit {
			lose = false
			return storetest.FailAfter
		}
		return storetest.None
	}}
	l := New(faulty, clock)
	lose = true
	stands(t, begin(t, l, "a"), InProgress, "a")
	lose = true
	check(t, l.GiveUp(t.Context(), thing, "a"))
	stands(t, begin(t, l, "b"), InProgress, "b")
	lose = true
	check(t, l.Doubt(t.Context(), thing, "b"))
	lose = true
	stands(t, begin(t, l, "c"), Unknown, "c")
	lose = true
	check(t, l.Finish(t.Context(), thing, "c", nil, time.Hour))
	if lose {
		t.Error("nothing was lost")
	}
}

// deeds is an effect that many try to bring about once. Attempts begin in the middle of others, at every request to the store;
// they die at every point, and answers are lost on all ways.
type deeds struct {
	*rapid.T
	now      time.Time
	ledger   *Ledger
	attempts int
	depth    int
	done     int // how often the effect happened
	answer   []byte
}

func (d *deeds) chance(of int, what string) bool { return rapid.IntRange(1, of).Draw(d.T, what) == 1 }

func (d *deeds) next(op string, _ []store.Key) storetest.Fault {
	if d.depth < 3 && d.chance(6, "meanwhile") {
		d.attempt()
	}
	if d.chance(4, "time passes") {
		d.now = d.now.Add(lease / 2)
	}
	return rapid.SampledFrom([]storetest.Fault{storetest.None, storetest.None, storetest.None, storetest.None, storetest.FailBefore, storetest.FailAfter, storetest.Throttle, storetest.Stale}).Draw(d.T, "fault")
}

func (d *deeds) attempt() {
	d.depth++
	defer func() { d.depth-- }()
	d.attempts++
	me := fmt.Sprint(d.attempts)
	o, err := d.ledger.Begin(d.Context(), Beginning{Key: thing, Owner: me, Print: "p", Lease: lease})
	switch {
	case err != nil:
		return
	case o.Stand == Done:
		if d.answer == nil {
			d.answer = o.Answer
		}
		if d.done != 1 || !bytes.Equal(o.Answer, d.answer) {
			d.Fatalf("%s is answered %q, another was answered %q; it was done %d times", me, o.Answer, d.answer, d.done)
		}
		return
	case o.Owner != me:
		return
	}
	there := o.Stand == Unknown && d.done > 0 // looks
	for range 2 {
		if d.chance(6, "dies") {
			return
		}
		if d.depth < 3 && d.chance(4, "meanwhile") {
			d.attempt()
		}
	}
	if !there {
		if !d.now.Before(o.Until) {
			return // its context has ended
		}
		switch rapid.SampledFrom([]string{"done", "done", "lost", "refused"}).Draw(d.T, "effect") {
		case "refused":
			_ = d.ledger.GiveUp(d.Context(), thing, me)
			return
		case "lost":
			d.done++
			_ = d.ledger.Doubt(d.Context(), thing, me)
			return
		}
		d.done++
	}
	if d.done > 1 {
		d.Fatalf("%s did it once more", me)
	}
	if d.chance(6, "dies") {
		return
	}
	err = d.ledger.Finish(d.Context(), thing, me, []byte("by "+me), 1000*time.Hour)
	o, some := d.stored()
	if err == nil && (!some || o.Stand != Done || o.Owner != me) {
		d.Fatalf("%s has finished it, and it stands %+v", me, o)
	}
}

// stored is what is there, past all faults.
func (d *deeds) stored() (Operation, bool) {
	o, some, err := New(d.ledger.store.(*storetest.Faulty).Store, d.ledger.now).operation(d.Context(), thing)
	if err != nil {
		d.Fatal(err)
	}
	return o, some
}

func TestOperationHappensOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := &deeds{T: t, now: epoch}
		clock := func() time.Time { return d.now }
		faulty := &storetest.Faulty{Store: store.NewMemory(clock), Next: d.next}
		d.ledger = New(faulty, clock)
		for range rapid.IntRange(1, 8).Draw(t, "askers") {
			d.attempt()
			d.now = d.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
		}
		// The faults stop. Whoever asks now, and again until it is in nobody's hands, brings it about, or learns that it is.
		faulty.Next = nil
		d.depth = 3
		for range 200 {
			d.now = d.now.Add(lease)
			if o, some := d.stored(); some && o.Stand == Done {
				break
			}
			d.attempt()
		}
		if o, some := d.stored(); d.done != 1 || !some || o.Stand != Done {
			t.Fatalf("done %d times, and stands %+v", d.done, o)
		}
	})
}
