package sweep_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

// done ends what is due for Zendesk.
func (b *bench) done(id record.ID) {
	b.t.Helper()
	states, err := b.ledger.Load(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	after := states[id].Clone()
	delete(after.Due, "zendesk")
	if err := b.ledger.Commit(b.t.Context(), ledger.Entry{Before: states[id], After: after}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) replays(n int) {
	for i := range n {
		b.dueAs(record.ID(fmt.Sprint("order/", i)), budget.Replay, start.Add(time.Duration(i-1000)*time.Second))
	}
}

// A replay whose wake-up is on the queue is not woken again; one whose wake-up was in vain is, and others as there is room.
func TestWakesReplaysOnce(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.deps.Look = outlook{"zendesk": {Room: map[budget.Class]int{budget.Replay: 3}}}
	b.replays(6)
	f := sweep.New(b.deps)
	woken := func(want int) {
		t.Helper()
		got, err := f.Apply(t.Context())
		if err != nil || got.Woken != want {
			t.Errorf("at %s %+v (%v), want %d woken", b.now.Sub(start), got, err, want)
		}
		b.now = b.now.Add(time.Minute)
	}
	woken(3)
	woken(0)
	woken(0)
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/0 order/1 order/2]" {
		t.Errorf("woken %s", got)
	}
	b.done("order/1")
	woken(3)
	if got := fmt.Sprint(b.woken("zendesk")); got != "[order/0 order/2 order/3]" {
		t.Errorf("woken %s", got)
	}
	b.deps.Look.(outlook)["zendesk"] = budget.Outlook{Open: true, Until: b.now, Reason: "503"}
	woken(1)
	woken(1)
	b.deps.Look.(outlook)["zendesk"] = budget.Outlook{}
	woken(4) // the one that was to find out is on the queue
	b.dueAs("order/live", budget.Live, b.now.Add(-time.Hour))
	woken(1)
}

// shallow is a queue that does not tell how full it is.
type shallow struct{ queue.Sender }

// What is thought to be on a queue that says nothing is woken again in the end.
func TestWakesReplaysAgainInTheEnd(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.deps.Wake["zendesk"] = shallow{b.wake["zendesk"]}
	b.replays(2)
	f := sweep.New(b.deps)
	for minute, want := range []int{2, 0, 0, 0, 0, 2, 0} {
		b.now = start.Add(time.Duration(minute) * time.Minute)
		got, err := f.Apply(t.Context())
		if err != nil || got.Woken != want {
			t.Errorf("minute %d: %+v (%v), want %d woken", minute, got, err, want)
		}
	}
}

func wakes(t *rapid.T, m queue.Received) record.ID {
	w, err := message.ParseWake(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Record
}

// However wake-ups come to nothing, and whenever the process is another: every replay is done in the end, no more wake-ups
// are on the queue than there is room for, but for those of processes that are gone, and each is woken once, and once more
// for each time that it was refused.
func TestNoReplayIsForgotten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := &bench{t: t, now: start}
		clock := func() time.Time { return b.now }
		b.ledger, b.tele = ledger.New(store.NewMemory(clock), clock), telemetry.New(nil, clock, nil)
		b.inbound = queue.NewMemory(queue.Settings{Name: "inbound"}, nil, clock)
		b.wake = map[string]*queue.Memory{"zendesk": queue.NewMemory(queue.Settings{Name: "zendesk"}, nil, clock)}
		room, n := rapid.IntRange(1, 8).Draw(rt, "room"), rapid.IntRange(1, 30).Draw(rt, "replays")
		b.deps = sweep.Deps{Ledger: b.ledger, Wake: map[string]queue.Sender{"zendesk": b.wake["zendesk"]}, Inbound: b.inbound, Now: clock, Grace: 3 * time.Second, Telemetry: b.tele,
			Look: outlook{"zendesk": {Room: map[budget.Class]int{budget.Replay: room}}}}
		b.replays(n)
		f := sweep.New(b.deps)
		var left []record.ID
		for i := range n {
			left = append(left, record.ID(fmt.Sprint("order/", i)))
		}
		received, refused, again := 0, 0, 0
		for step := 0; len(left) > 0; step++ {
			if step > 2000 {
				rt.Fatalf("%v are forgotten", left)
			}
			if step < 40 && rapid.IntRange(0, 9).Draw(rt, "process") == 9 {
				f = sweep.New(b.deps)
				again += room
			}
			if _, err := f.Apply(t.Context()); err != nil {
				rt.Fatal(err)
			}
			if d, _ := b.wake["zendesk"].Depth(t.Context()); d.Visible+d.InFlight > room+again {
				rt.Fatalf("%d wake-ups on the queue, and room for %d", d.Visible+d.InFlight, room)
			}
			for range rapid.IntRange(1, 2).Draw(rt, "batches") {
				got, err := b.wake["zendesk"].Receive(t.Context(), 2, 0)
				if err != nil {
					rt.Fatal(err)
				}
				for _, m := range got {
					if err := b.wake["zendesk"].Delete(t.Context(), m.Receipt); err != nil {
						rt.Fatal(err)
					}
					id := wakes(rt, m)
					received++
					at := slices.Index(left, id)
					switch {
					case step < 40 && rapid.IntRange(0, 4).Draw(rt, "refused") == 4:
						refused++
					case at >= 0:
						b.done(id)
						left = slices.Delete(left, at, at+1)
					}
				}
			}
			b.now = b.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(rt, "pause")) * time.Second)
		}
		if again == 0 && received != n+refused {
			rt.Fatalf("%d wake-ups for %d replays, %d of which were refused", received, n, refused)
		}
	})
}
