package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"sorrel/shared/flow/replay"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
)

// selection chooses what somebody replays.
func (w *world) selection(s *site, rng *rand.Rand) ledger.Selection {
	sel := ledger.Selection{Since: w.now.Add(-time.Duration(rng.Int64N(int64(3 * time.Hour)))).UTC(), Reread: rng.IntN(3) == 0}
	if rng.IntN(3) == 0 {
		sel.Until = sel.Since.Add(time.Second + time.Duration(rng.Int64N(int64(3*time.Hour))))
	}
	if rng.IntN(3) == 0 {
		sel.Entity = pick(rng, objects()...)
	}
	if rng.IntN(3) == 0 {
		sel.Platform = s.name
	}
	switch ids := w.records(); {
	case rng.IntN(4) == 0 && len(ids) > 0:
		sel.Record, sel.Since, sel.Until = pick(rng, ids...), time.Time{}, time.Time{}
	case rng.IntN(6) == 0 && w.ids > 0:
		sel.Trace, sel.Since, sel.Until = fmt.Sprintf("c-%d", 1+rng.IntN(w.ids)), time.Time{}, time.Time{}
	}
	return sel
}

// replay plans a replay and runs it after a while. Some are paused and resumed, and some are cancelled.
func (w *world) replay(s *site, rng *rand.Rand) {
	sel, id, stew := w.selection(s, rng), "", policy.Person{Name: "stew"}
	acts := []func(ctx context.Context, f *replay.Flow) (replay.Shown, error){
		func(ctx context.Context, f *replay.Flow) (replay.Shown, error) { return f.Plan(ctx, stew, sel) },
		func(ctx context.Context, f *replay.Flow) (replay.Shown, error) { return f.Run(ctx, stew, id) },
	}
	switch rng.IntN(6) {
	case 0:
		acts = append(acts, func(ctx context.Context, f *replay.Flow) (replay.Shown, error) { return f.Cancel(ctx, stew, id) })
	case 1, 2:
		acts = append(acts, func(ctx context.Context, f *replay.Flow) (replay.Shown, error) { return f.Pause(ctx, stew, id) },
			func(ctx context.Context, f *replay.Flow) (replay.Shown, error) { return f.Resume(ctx, stew, id, false) })
	}
	after := time.Duration(0)
	for i, do := range acts {
		w.later(after, func() {
			w.job("operator", func(ctx context.Context, p *process) {
				if i > 0 && id == "" {
					return // it was not planned
				}
				shown, err := do(ctx, p.replay)
				w.note(p.name, "replays", fmt.Sprintf("%d. %+v: %s %s %+v %v", i, sel, shown.ID, shown.State, shown.Plan, err), none)
				if err == nil {
					id = shown.ID
				}
			})
		})
		after += time.Duration(rng.Int64N(int64(time.Minute)))
	}
}

// replaying lists the replays that are to be moved on.
func (w *world) replaying() []string {
	if !w.c.Profile.Replays {
		return nil
	}
	ids, err := w.god.Replaying(context.Background())
	if err != nil {
		w.wrong("cannot look: %v", err)
	}
	return ids
}

// replayed holds Sorrel to writing nothing when all that was done is replayed.
func (w *world) replayed() {
	before, stew := w.written(), policy.Person{Name: "stew"}
	var shown replay.Shown
	w.job("operator", func(ctx context.Context, p *process) {
		var err error
		sel := ledger.Selection{Since: w.origin, Reread: w.c.Seed%4 == 0}
		if shown, err = p.replay.Plan(ctx, stew, sel); err == nil {
			shown, err = p.replay.Run(ctx, stew, shown.ID)
		}
		if err != nil {
			w.wrong("replay: %v", err)
		}
	})
	w.rest(false)
	if shown.Plan.Apply > 0 {
		w.wrong("replay: %d of %d records would change although all was applied: %+v", shown.Plan.Apply, shown.Plan.Records, shown.Sample)
	}
	all, err := w.god.Replays(context.Background())
	if err != nil {
		w.wrong("cannot look: %v", err)
	}
	for _, r := range all {
		w.replays[r.State]++
		w.replays["records"] += r.Plan.Records
		w.replays["records applied"] += r.Did.Applied
		w.replays["records read again"] += r.Did.Reads
		if r.State == ledger.ReplayFailed || r.ID == shown.ID && (r.State != ledger.ReplayDone || r.Did.Applied > 0) {
			w.wrong("replay: %s is %s, %s: %+v", r.ID, r.State, r.Reason, r.Did)
		}
	}
	if now := w.written(); now != before {
		w.wrong("replay: %d writes by replaying what was applied", now-before)
	}
	w.check()
}
