package budget_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
)

// However many live calls want all there is, and however they are spread over workers: each class below live has a call
// at once within two minutes, again and again, and there are never more at once than may be.
func TestNoClassStarvesOfSlots(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int{1, 2, 4, 5, 9, 14, 15, 50}).Draw(t, "most")
		rules := budget.Rules{Limits: []budget.Limit{{Name: budget.Calls, Max: most}}, Hold: time.Second, Pause: time.Second}
		class := rapid.SampledFrom([]budget.Class{budget.Approval, budget.Reconcile, budget.Replay}).Draw(t, "class")
		live, low := budget.Purpose{Entity: "order"}, budget.Purpose{Class: class, Entity: "customer"}
		type worker struct {
			id      string
			wants   int // live calls at once
			low     bool
			busy    int // live
			lowBusy int
			may     budget.Share
		}
		var workers []*worker
		for i := range rapid.IntRange(1, 6).Draw(t, "workers") {
			workers = append(workers, &worker{id: fmt.Sprint("live", i), wants: rapid.IntRange(1, 2*most).Draw(t, "wants")})
		}
		if rapid.Bool().Draw(t, "apart") {
			workers = append(workers, &worker{id: "low", low: true})
		} else {
			workers[0].low = true
		}
		var state budget.State
		now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
		last, served := now, 0
		for step := range 600 {
			w := workers[step%len(workers)]
			now = now.Add(time.Duration(rapid.IntRange(1, 2000/len(workers)).Draw(t, "pause")) * time.Millisecond)
			// Its calls have ended: as many begin anew as it may make.
			w.lowBusy, w.busy = 0, min(w.busy, rapid.IntRange(0, w.wants).Draw(t, "on"))
			ask := budget.Ask{Worker: w.id, Rules: rules, Busy: map[string]budget.Demand{budget.Calls: {}}, Want: map[string]budget.Demand{budget.Calls: {}}}
			if w.busy > 0 {
				ask.Busy[budget.Calls][live] = w.busy
			}
			if more := w.wants - w.busy; more > 0 {
				ask.Want[budget.Calls][live] = more
			}
			if w.low {
				ask.Want[budget.Calls][low] = 1
			}
			var g budget.Grant
			state, g = state.Turn(ask, now)
			w.may = g.Shares[budget.Calls]
			rank := slices.Index(budget.Classes(), class)
			if upto := w.may.Upto; w.low && upto > 0 && (w.may.Owed[rank] && int64(w.busy) < upto || int64(w.busy) < w.may.Classes[rank]) {
				w.lowBusy = 1
				served++
				last = now
			}
			w.busy = max(w.busy, min(w.wants, int(min(w.may.Upto, w.may.Classes[1]))-w.lowBusy))
			total := 0
			for _, w := range workers {
				total += w.busy + w.lowBusy
			}
			if total > most {
				t.Fatalf("%d calls at once, want at most %d", total, most)
			}
			if now.Sub(last) > 2*time.Minute {
				t.Fatalf("no %s call for %v, after %d", class, now.Sub(last), served)
			}
		}
	})
}

// One process has more live calls than slots, all the time, and a replay beside them.
func TestOwedCallGoesFirst(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 5, 14} {
		synctest.Test(t, func(t *testing.T) {
			g := budget.NewShared(&item{}, budget.Options{Worker: "w", Now: time.Now, Patience: 5 * time.Second}).Gate("acme")
			g.Keep(atOnce(most))
			var mu sync.Mutex
			calls, under, peak, longest := map[budget.Class]int{}, 0, 0, time.Duration(0)
			end := time.Now().Add(10 * time.Minute)
			last := time.Now()
			loop := func(class budget.Class) {
				for time.Now().Before(end) {
					leave, err := g.Enter(budget.For(t.Context(), budget.Purpose{Class: class, Entity: "order"}), budget.Call{})
					if err != nil {
						time.Sleep(100 * time.Millisecond)
						continue
					}
					mu.Lock()
					calls[class]++
					under++
					peak = max(peak, under)
					if class == budget.Replay {
						longest = max(longest, time.Since(last))
						last = time.Now()
					}
					mu.Unlock()
					time.Sleep(700 * time.Millisecond)
					mu.Lock()
					under--
					mu.Unlock()
					leave(budget.Outcome{})
				}
			}
			var all sync.WaitGroup
			for range 3 * most {
				all.Go(func() { loop(budget.Live) })
			}
			for range 2 {
				all.Go(func() { loop(budget.Replay) })
			}
			all.Wait()
			t.Logf("of %d at once: %d live calls, %d replayed, %v apart at most", most, calls[budget.Live], calls[budget.Replay], longest)
			if peak > most || calls[budget.Replay] < 10 || longest > 3*time.Minute {
				t.Errorf("of %d at once, %d were: %d replayed, up to %v apart", most, peak, calls[budget.Replay], longest)
			}
			if share := 10 * 60 * 1000 / 700 * most * 7 / 10; calls[budget.Live] < share {
				t.Errorf("of %d at once: %d live calls, want %d", most, calls[budget.Live], share)
			}
		})
	}
}
