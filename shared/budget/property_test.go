package budget_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
)

// field is some workers, with clocks of their own, and a vendor that counts.
type field struct {
	t       *rapid.T
	clk     *clock
	item    item
	rules   budget.Rules
	workers []*hand
	born    int
	nested  bool
	turn    *hand       // who has its turn
	arrived []time.Time // of calls, at the vendor
	calls   []*underway
	window  time.Duration     // of Calls, 0 = at once
	phase   time.Duration     // of the vendor's fixed windows
	headers bool              // answers say what is left, by the vendor's fixed windows
	others  int               // calls in each of these that are not ours
	blind   map[time.Time]int // by the end of a window: calls of ours that began before their worker heard of it
	outage  bool
	deaf    time.Time // when the store stopped or began to answer
	probes  int
}

type hand struct {
	*budget.Guard
	id    string
	place string
	skew  time.Duration
	heard time.Time // the end of the latest window that an answer told of
}

type underway struct {
	by    *hand
	leave func(budget.Outcome)
	at    time.Time // it arrives
	knew  time.Time // by.heard, when it began
	ends  time.Time
	lost  bool // nothing answers, and it may arrive when nobody waits for it any more
	probe bool
}

// Budget and SaveBudget let another worker take its turn in between now and then, or fail.
func (f *field) Budget(ctx context.Context, p string) (budget.Saved, error) {
	return f.item.Budget(ctx, p)
}

func (f *field) SaveBudget(ctx context.Context, p string, s budget.Saved) error {
	if !f.nested && rapid.IntRange(0, 4).Draw(f.t, "between") == 4 {
		f.nested = true
		f.enter(f.workers[rapid.IntRange(0, len(f.workers)-1).Draw(f.t, "other")])
		f.nested = false
	}
	return f.item.SaveBudget(ctx, p, s)
}

func (f *field) hire(place string) *hand {
	f.born++
	h := &hand{id: fmt.Sprint("w", f.born), place: place, skew: time.Duration(rapid.IntRange(-500, 500).Draw(f.t, "skew")) * time.Millisecond}
	h.Guard = budget.NewShared(f, budget.Options{Worker: h.id, Place: place, Trip: 3, Now: func() time.Time { return f.clk.now().Add(h.skew) }}).Gate("acme")
	h.Keep(f.rules)
	return h
}

func (f *field) state() budget.State {
	var s budget.State
	if len(f.item.saved.State) > 0 {
		if err := json.Unmarshal(f.item.saved.State, &s); err != nil {
			f.t.Fatal(err)
		}
	}
	return s
}

// enter is one call that wants to be let through.
func (f *field) enter(h *hand) bool {
	if h == f.turn {
		return false // it waits for its own turn to be over
	}
	if !f.nested {
		f.turn = h
		defer func() { f.turn = nil }()
	}
	p := budget.Purpose{Class: rapid.SampledFrom(budget.Classes()).Draw(f.t, "class"), Entity: rapid.SampledFrom([]string{"order", "customer"}).Draw(f.t, "entity")}
	before := f.state().Breaker
	leave, err := h.Enter(budget.For(context.Background(), p), budget.Call{})
	if err != nil {
		if !budget.Refused(err) || fault.RetryAt(err).IsZero() {
			f.t.Fatalf("refused with %v", err)
		}
		return false
	}
	now := f.clk.now()
	c := &underway{by: h, leave: leave, ends: now.Add(time.Duration(rapid.IntRange(0, int(f.rules.Hold/time.Millisecond)).Draw(f.t, "lasts")) * time.Millisecond)}
	heard := before.Since // at the latest, unless the store did not answer: then calls go on to the end of the lease
	if f.deaf.After(heard) {
		heard = f.deaf
	}
	c.probe = before.Open && !f.item.down && now.Sub(heard) > budget.Fresh+time.Second
	if c.probe {
		f.probes++
		for _, o := range f.calls {
			if o.probe && (h.place == "" || o.by == h || o.by.place != h.place) {
				f.t.Fatalf("%s makes the one call while %s does", h.id, o.by.id)
			}
		}
	}
	f.calls = append(f.calls, c)
	c.at = now.Add(time.Duration(rapid.IntRange(0, int(c.ends.Sub(now)/time.Millisecond)).Draw(f.t, "travels")) * time.Millisecond)
	if c.lost = rapid.IntRange(0, 14).Draw(f.t, "lost") == 14; c.lost {
		c.at = c.ends.Add(time.Duration(rapid.IntRange(0, 500).Draw(f.t, "late")) * time.Millisecond)
	}
	f.arrived = append(f.arrived, c.at)
	if c.knew = h.heard; f.headers {
		if _, end := f.counted(c.at); end.After(c.knew) {
			f.blind[end]++
		}
	}
	if most := f.rules.Limits[0].Max + f.inherited(); f.window == 0 && len(f.calls) > most {
		f.t.Fatalf("%d calls at once, want at most %d", len(f.calls), most)
	}
	return true
}

// inherited is how many workers that were followed by others in their places have calls under way.
func (f *field) inherited() int {
	dead := map[*hand]bool{}
	for _, c := range f.calls {
		if c.by.place != "" && !slices.Contains(f.workers, c.by) {
			dead[c.by] = true
		}
	}
	return len(dead)
}

// counted is how many calls the vendor has counted in its fixed window at a time, those of others among them, and when
// that ends.
func (f *field) counted(at time.Time) (n int, end time.Time) {
	start := at.Add(-f.phase).Truncate(f.window).Add(f.phase)
	n = f.others
	for _, a := range f.arrived {
		if !a.Before(start) && !a.After(at) {
			n++
		}
	}
	return n, start.Add(f.window)
}

// finish ends the calls that are over.
func (f *field) finish() {
	var on []*underway
	over := f.calls
	now := f.clk.now()
	for _, c := range over {
		if c.ends.After(now) {
			on = append(on, c)
		}
	}
	f.calls = on
	for _, c := range over {
		if c.ends.After(now) || !slices.Contains(f.workers, c.by) {
			continue
		}
		o := budget.Outcome{}
		switch kind := rapid.IntRange(0, 19).Draw(f.t, "answer"); {
		case c.lost:
			o = budget.Outcome{Err: fault.New(fault.Unknown, "call", "no answer"), Silent: true}
		case f.outage:
			o = budget.Outcome{Err: fault.New(fault.Down, "call", "503"), Silent: true}
		case kind == 19:
			o.Err = &fault.Error{Class: fault.Throttled, RetryAt: now.Add(c.by.skew + 3*time.Second)}
		case kind == 18:
			o.Unsent = true
		}
		if f.headers && !c.lost {
			n, end := f.counted(c.at)
			if end.After(c.by.heard) {
				c.by.heard = end
			}
			o.Readings = []budget.Reading{{Limit: budget.Calls, Max: f.rules.Limits[0].Max, Left: max(0, f.rules.Limits[0].Max-n), Reset: end.Add(c.by.skew).Truncate(time.Second)}}
		}
		f.turn = c.by
		c.leave(o)
		f.turn = nil
	}
}

func (f *field) check() {
	if f.window == 0 {
		return
	}
	most := f.rules.Limits[0].Max
	slices.SortFunc(f.arrived, time.Time.Compare)
	for i, a := range f.arrived {
		if f.headers {
			n, end := f.counted(a)
			if f.others > 0 {
				n -= f.blind[end]
			}
			if n > most {
				f.t.Fatalf("%d calls in a window that is the vendor's, %d of others, and %d before they were heard of, want at most %d", n, f.others, f.blind[end], most)
			}
		} else if i < most {
			continue
		} else if first := f.arrived[i-most]; a.Sub(first) < f.window {
			f.t.Fatalf("%d calls within %v, want at most %d in %v", most+1, a.Sub(first), most, f.window)
		}
	}
}

// TestNeverOver lets workers come, go, fail and disagree about the time, over a store that fails and forgets to answer.
// The vendor never counts more than it allows, in any window that it may have, nor at once; and while it is down one call
// at a time finds out. Each that follows others in their place makes one call beside those that are still under way. Where others
// use a part of a window that nothing but answers tells of, over are at most the calls that began before their worker's first answer of that window.
func TestNeverOver(t *testing.T) {
	t.Parallel()
	passed, probes := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := &field{t: t, clk: newClock(), blind: map[time.Time]int{}, window: rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute}).Draw(t, "window")}
		f.rules = budget.Rules{Hold: time.Duration(rapid.IntRange(1, 15).Draw(t, "hold")) * time.Second,
			Limits: []budget.Limit{{Name: budget.Calls, Max: rapid.SampledFrom([]int{1, 2, 5, 30}).Draw(t, "max"), Window: f.window}}}
		if f.window == time.Minute {
			f.headers = rapid.Bool().Draw(t, "headers")
			if f.headers && rapid.Bool().Draw(t, "alone") {
				f.others = rapid.IntRange(1, f.rules.Limits[0].Max).Draw(t, "others")
			}
			f.phase = time.Duration(rapid.IntRange(0, 59).Draw(t, "phase")) * time.Second
		}
		for range rapid.IntRange(1, 5).Draw(t, "workers") {
			place := ""
			if f.window != time.Second && rapid.Bool().Draw(t, "placed") {
				place = fmt.Sprint("place ", len(f.workers))
			}
			f.workers = append(f.workers, f.hire(place))
		}
		for range rapid.IntRange(40, 150).Draw(t, "steps") {
			i := rapid.IntRange(0, len(f.workers)-1).Draw(t, "worker")
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 11:
				f.workers[i] = f.hire(f.workers[i].place) // the one before is gone, and what it has under way goes on
			case 10:
				f.item.down = rapid.IntRange(0, 3).Draw(t, "down") == 3
				f.deaf = f.clk.now()
			case 9:
				f.item.lose = rapid.IntRange(0, 2).Draw(t, "lose") == 2
			case 8:
				f.outage = rapid.IntRange(0, 2).Draw(t, "outage") == 2
			case 6, 7:
				f.clk.advance(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "long")) * time.Millisecond)
			default:
				for range rapid.IntRange(1, 12).Draw(t, "calls") {
					if f.enter(f.workers[i]) {
						passed++
					}
				}
				f.clk.advance(time.Duration(rapid.IntRange(0, 1500).Draw(t, "short")) * time.Millisecond)
			}
			f.finish()
		}
		f.check()
		probes += f.probes
	})
	if passed < 60 {
		t.Errorf("only %d calls: nothing is tested", passed)
	} else {
		t.Logf("%d calls, %d probes", passed, probes)
	}
}

// Replay floods a platform from three workers, and live calls of a fourth go through as if it did not.
func TestReplayLeavesRoomForLive(t *testing.T) {
	t.Parallel()
	for _, r := range []budget.Rules{perMinute(100), atOnce(4)} {
		clk, m := newClock(), &item{}
		var guards []*budget.Guard
		for _, id := range []string{"a", "b", "c", "live"} {
			guards = append(guards, worker(m, clk, id, r))
		}
		replay := budget.For(t.Context(), budget.Purpose{Class: budget.Replay, Entity: "order"})
		var late []func(budget.Outcome)
		refused, replayed, most := 0, 0, 0
		for second := range 300 {
			for _, leave := range late {
				leave(budget.Outcome{})
			}
			late = nil
			for _, g := range guards[:3] {
				for range 10 {
					leave, ok := try(t, g, replay)
					if !ok {
						break
					}
					late = append(late, leave)
					replayed++
				}
			}
			if second%2 == 0 {
				leave, ok := try(t, guards[3], t.Context())
				if !ok {
					refused++
				} else {
					late = append(late, leave)
				}
			}
			most = max(most, len(late))
			clk.advance(time.Second)
		}
		t.Logf("%+v: of 150 live calls %d waited; %d replayed; %d at once", r.Limits[0], refused, replayed, most)
		if refused > 3 || replayed < 80 {
			t.Errorf("%+v: of 150 live calls %d were refused, %d replayed", r.Limits[0], refused, replayed)
		}
	}
}

// Three workers want all they can get for one entity, a fourth for another: each entity gets about half.
func TestEntitiesShareWhatIsScarce(t *testing.T) {
	t.Parallel()
	for _, r := range []budget.Rules{perMinute(60), atOnce(6)} {
		clk, m := newClock(), &item{}
		got := map[string]int{}
		guards := map[string]*budget.Guard{}
		for _, id := range []string{"a", "b", "c", "d"} {
			guards[id] = worker(m, clk, id, r)
		}
		var late []func(budget.Outcome)
		for second := range 240 {
			for _, leave := range late {
				leave(budget.Outcome{})
			}
			late = nil
			for _, id := range []string{"a", "b", "c", "d"} {
				entity := "order"
				if id == "d" {
					entity = "customer"
				}
				for range 10 {
					leave, ok := try(t, guards[id], budget.For(t.Context(), budget.Purpose{Entity: entity}))
					if !ok {
						break
					}
					if late = append(late, leave); second >= 60 {
						got[entity]++
					}
				}
			}
			clk.advance(time.Second)
		}
		t.Logf("%+v: %v, %d store requests", r.Limits[0], got, m.requests())
		if a, b := got["order"], got["customer"]; float64(max(a, b)) > 1.6*float64(min(a, b)) {
			t.Errorf("%+v: %v", r.Limits[0], got)
		}
	}
}
