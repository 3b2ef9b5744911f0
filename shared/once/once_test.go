package once_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/once"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

const lease = 30 * time.Second

// world is a guard over a store that can fail, and an effect that leaves its mark.
type world struct {
	testing.TB
	now    time.Time
	store  *storetest.Faulty
	guard  once.Guard
	marks  []string
	looked int
	fails  error // what the effect says, after it has happened if happens
	misses bool  // the effect does not happen
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return w.now }
	w.store = &storetest.Faulty{Store: store.NewMemory(clock)}
	tokens := 0
	w.guard = once.Guard{Ledger: ledger.New(w.store, clock), Now: clock, NewToken: func() string { tokens++; return strconv.Itoa(tokens) }}
	return w
}

func (w *world) deed(print string) once.Deed {
	return once.Deed{Key: ledger.NewOperationKey("test", "it"), Print: print, Lease: lease, Keep: time.Hour,
		Look: func(_ context.Context, mark string) ([]byte, bool, error) {
			w.looked++
			for _, m := range w.marks {
				if m == mark {
					return []byte("found"), true, nil
				}
			}
			return nil, false, nil
		},
		Do: func(_ context.Context, mark string) ([]byte, error) {
			if !w.misses {
				w.marks = append(w.marks, mark)
			}
			return []byte("done"), w.fails
		}}
}

func (w *world) ask(answer string, again bool) {
	w.Helper()
	got, was, err := w.guard.Do(w.Context(), w.deed("p"))
	if err != nil || string(got) != answer || was != again {
		w.Errorf("%q, again %t, %v; want %q, %t", got, was, err, answer, again)
	}
}

func (w *world) refused(c fault.Class) error {
	w.Helper()
	_, _, err := w.guard.Do(w.Context(), w.deed("p"))
	if !fault.Is(err, c) {
		w.Errorf("%v, want %s", err, c)
	}
	return err
}

func (w *world) happened(times, looks int) {
	w.Helper()
	if len(w.marks) != times || w.looked != looks {
		w.Errorf("it happened %d times with %d looks, want %d with %d", len(w.marks), w.looked, times, looks)
	}
}

func TestTheSameAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ask("done", false)
	w.ask("done", true)
	w.happened(1, 0)
	if _, _, err := w.guard.Do(t.Context(), w.deed("another thing")); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	w.now = w.now.Add(time.Hour)
	w.ask("done", false) // the key was forgotten
}

func TestWhatWasRefusedCanBeAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fails, w.misses = fault.New(fault.Forbidden, "", "not you"), true
	w.refused(fault.Forbidden)
	w.fails, w.misses = nil, false
	w.ask("done", false)
	w.happened(1, 0)
}

func TestALostReplyIsLookedFor(t *testing.T) {
	t.Parallel()
	for _, misses := range []bool{false, true} {
		w := newWorld(t)
		w.fails, w.misses = fault.New(fault.Down, "", "no answer"), misses
		w.refused(fault.Down)
		w.fails, w.misses = nil, false
		if misses {
			w.ask("done", false)
			w.ask("done", true)
		} else {
			w.ask("found", true)
			w.ask("found", true)
		}
		w.happened(1, 1)
	}
}

// A look that fails tells nothing.
func TestALookThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fails = fault.New(fault.Down, "", "no answer")
	w.refused(fault.Down)
	d := w.deed("p")
	d.Look = func(context.Context, string) ([]byte, bool, error) {
		return nil, false, fault.New(fault.NotFound, "", "no log")
	}
	if _, _, err := w.guard.Do(t.Context(), d); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	w.ask("found", true)
	w.happened(1, 1)
}

// The process dies at each request to the store, or its answer is lost, or the request: it is done once, whoever asks how often.
func TestDeathAtEveryRequest(t *testing.T) {
	t.Parallel()
	for _, kind := range []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Throttle, storetest.Stale} {
		for _, dies := range []bool{true, false} {
			for nth := 1; ; nth++ {
				w := newWorld(t)
				calls := 0
				w.store.Next = func(string, []store.Key) storetest.Fault {
					if calls++; calls == nth {
						return kind
					}
					if dies && calls > nth {
						return storetest.FailBefore // nothing that it says is heard any more
					}
					return storetest.None
				}
				_, _, _ = w.guard.Do(t.Context(), w.deed("p")) // whatever it says
				w.store.Next = nil
				if calls < nth {
					break
				}
				w.now = w.now.Add(lease)
				first, _, err := w.guard.Do(t.Context(), w.deed("p"))
				then, again, err2 := w.guard.Do(t.Context(), w.deed("p"))
				if err != nil || err2 != nil || !again || !bytes.Equal(first, then) || len(w.marks) != 1 {
					t.Errorf("fault %d at request %d: happened %d times, %q %v, %q %t %v", kind, nth, len(w.marks), first, err, then, again, err2)
				}
			}
		}
	}
}

func TestWhoComesMeanwhileWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.deed("p")
	do := d.Do
	d.Do = func(ctx context.Context, mark string) ([]byte, error) {
		if until, some := ctx.Deadline(); !some || time.Until(until) > lease {
			t.Error("it may go on after its lease")
		}
		if at := fault.RetryAt(w.refused(fault.Conflict)); !at.Equal(w.now.Add(lease)) {
			t.Errorf("come back at %s", at)
		}
		return do(ctx, mark)
	}
	if _, _, err := w.guard.Do(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	w.happened(1, 0)
}

func TestALargeAnswerIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.deed("p")
	d.Do = func(context.Context, string) ([]byte, error) { return make([]byte, ledger.MaxAnswer+1), nil }
	if got, again, err := w.guard.Do(t.Context(), d); err != nil || again || len(got) != ledger.MaxAnswer+1 {
		t.Errorf("%d bytes, %t, %v", len(got), again, err)
	}
	w.ask("", true)
	w.happened(0, 0)
}

// Whoever asked has gone: what was done is remembered all the same.
func TestTheAskerGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Bool
	d := w.deed("p")
	d.Do = func(context.Context, string) ([]byte, error) { cancel(); done.Store(true); return []byte("done"), nil }
	if _, _, err := w.guard.Do(ctx, d); err != nil || !done.Load() {
		t.Fatal(fmt.Sprint(err))
	}
	w.ask("done", true)
}
