package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Advanced is what one tick of the schedule did.
type Advanced struct {
	Active  int `json:"active"`  // replays that are being planned or run
	Handled int `json:"handled"` // records of runs
}

const (
	tick     = 20 * time.Second // of planning, per tick
	perScan  = 20_000           // entries of the log read for one part of a plan
	maxKinds = 50               // kinds of conflict that a plan counts apart
	maxNamed = 20               // fields named per record and platform
	unasked  = 100              // reads in one tick of a platform whose room is not known
	fewest   = 20               // copies due at once on a platform with little room
)

// Advance moves replays on by one step each. due is how many copies are due for replays already, by platform. Two that run
// at once, or one that dies anywhere, do nothing twice that counts.
func (f *Flow) Advance(ctx context.Context, due map[string]int) (Advanced, error) {
	var out Advanced
	ids, err := f.d.Ledger.Replaying(ctx)
	if err != nil {
		return out, err
	}
	due = maps.Clone(due)
	if due == nil {
		due = map[string]int{}
	}
	var errs []error // one replay's trouble is not the others'
	began := f.d.Now()
	for _, id := range ids {
		if short(ctx) {
			break
		}
		r, err := f.d.Ledger.Replay(ctx, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		was := r.Did.Handled
		for r.State == ledger.ReplayPlanning && err == nil && f.d.Now().Sub(began) < tick && !short(ctx) {
			r, err = f.plan(ctx, r)
		}
		if r.State == ledger.ReplayRunning && err == nil {
			r, err = f.step(ctx, r, due)
		}
		if err != nil {
			errs = append(errs, f.failed(ctx, r, err))
		}
		if r.Active() {
			out.Active++
		}
		out.Handled += max(0, r.Did.Handled-was)
	}
	f.d.Telemetry.Gauge("ReplaysActive", "", float64(out.Active))
	return out, errors.Join(errs...)
}

// failed gives a replay up whose next step would fail again. What only lasts for a while is tried again by the next tick.
func (f *Flow) failed(ctx context.Context, r ledger.Replay, err error) error {
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Detail: "replay " + r.ID, Trace: r.ID, Err: err})
	if class := fault.ClassOf(err); fault.RowOf(err).Queue == fault.Keep || class == fault.Conflict || ctx.Err() != nil {
		return err
	}
	fresh, again := f.d.Ledger.Replay(ctx, r.ID)
	if again != nil || !fresh.Active() {
		return err
	}
	fresh.State, fresh.Reason = ledger.ReplayFailed, err.Error()
	f.d.Telemetry.Count("ReplayStopped", "", 1)
	_, again = f.d.Ledger.SaveReplay(ctx, fresh, nil, f.line(fresh, "replay-failed", record.Sorrel))
	return errors.Join(err, again)
}

// found is a part of the records that a selection chooses.
type found struct {
	ids []record.ID
	at  ledger.LogMark
	end bool
}

// find reads on from where planning stands.
func (f *Flow) find(ctx context.Context, r ledger.Replay) (found, error) {
	s := r.Select
	within := func(at time.Time) bool {
		return !at.Before(s.Since) && (s.Until.IsZero() || at.Before(s.Until))
	}
	switch {
	case s.Trace != "":
		steps, err := f.d.Ledger.Trace(ctx, s.Trace)
		var ids []record.ID
		for _, step := range steps {
			id := step.Record
			if id.Validate() == nil && within(step.At) && (s.Entity == "" || s.Entity == id.Entity()) && (s.Record == "" || s.Record == id) && string(id) > r.Read.Chain {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if len(ids) <= chunk {
			return found{ids: ids, end: true}, err
		}
		return found{ids: ids[:chunk], at: ledger.LogMark{Chain: string(ids[chunk-1])}}, err
	case s.Record != "":
		out := found{end: true}
		if s.Entity != "" && s.Entity != s.Record.Entity() {
			return out, nil
		}
		touched := s.Since.IsZero() && s.Until.IsZero()
		if !touched {
			log, err := f.d.Ledger.Log(ctx, string(s.Record))
			if err != nil {
				return out, err
			}
			touched = slices.ContainsFunc(log, func(e ledger.LogEntry) bool { return within(e.At) })
		}
		if touched {
			out.ids = []record.ID{s.Record}
		}
		return out, nil
	}
	return f.scan(ctx, r, within)
}

// scan reads the log on, chain by chain.
func (f *Flow) scan(ctx context.Context, r ledger.Replay, within func(time.Time) bool) (found, error) {
	out := found{at: r.Read}
	now, touched, read := ledger.LogMark{}, false, 0
	finish := func() {
		if touched {
			out.ids = append(out.ids, record.ID(now.Chain))
		}
		if now.Chain != "" {
			out.at = now
		}
		touched = false
	}
	for e, err := range f.d.Ledger.Scan(ctx, r.Read, r.Select.Entity) {
		if err != nil {
			return out, err
		}
		if at := (ledger.LogMark{Shard: e.Shard, Chain: e.Chain}); at != now {
			finish()
			if now = at; len(out.ids) >= chunk || read >= perScan || short(ctx) {
				return out, nil
			}
		}
		touched = touched || within(e.At)
		read++
	}
	finish()
	out.end = true
	return out, nil
}

// plan makes the next part of a plan. Where somebody was faster, or cancelled it, theirs counts.
func (f *Flow) plan(ctx context.Context, r ledger.Replay) (ledger.Replay, error) {
	next, err := f.part(ctx, r)
	if fault.Is(err, fault.Conflict) {
		return f.d.Ledger.Replay(ctx, r.ID)
	}
	return next, err
}

func (f *Flow) part(ctx context.Context, r ledger.Replay) (ledger.Replay, error) {
	if deployed := f.d.Config.Version(); r.Config != deployed { // another was deployed while it was being planned
		goesOn := r.GoesOn
		r = again(r, deployed)
		r.GoesOn = goesOn
	}
	part, err := f.find(ctx, r)
	if err != nil {
		return r, err
	}
	states, err := f.d.Ledger.Load(ctx, part.ids...)
	if err != nil {
		return r, err
	}
	now := f.d.Now().UTC()
	page := make([]ledger.PlanEntry, 0, len(part.ids))
	next := r
	next.Plan = r.Plan.Clone()
	for _, id := range part.ids {
		j, err := f.judge(ctx, r, states[id], id, now)
		if err != nil {
			return r, err
		}
		page = append(page, count(&next, j))
	}
	next.Read = part.at
	if len(page) == 0 {
		page = nil
	} else {
		next.Plan.Pages++
	}
	if !part.end {
		return f.d.Ledger.SaveReplay(ctx, next, page, nil)
	}
	next.State, next.Expires, next.Reason = ledger.ReplayPlanned, now.Add(planLasts), ""
	if next.GoesOn {
		next.State, next.GoesOn = ledger.ReplayRunning, false
	}
	if next.Plan.Records == 0 {
		next.Reason = "no record agrees with all that was asked for"
	}
	return f.d.Ledger.SaveReplay(ctx, next, page, nil)
}

// count adds a record to a plan, and returns what the plan keeps of it.
func count(r *ledger.Replay, j judged) ledger.PlanEntry {
	p := &r.Plan
	p.Records++
	switch j.Verdict {
	case Apply:
		p.Apply++
	case NoOp:
		p.NoOp++
	default:
		p.Conflict++
	}
	kept := j.PlanEntry
	kept.Writes = nil
	for _, name := range j.due {
		p.Writes[name]++
		if p.Fields[name] == nil {
			p.Fields[name] = map[string]int{}
		}
		fields := j.Writes[name]
		for _, field := range fields {
			p.Fields[name][field]++
		}
		if kept.Writes == nil {
			kept.Writes = map[string][]string{}
		}
		if len(fields) > maxNamed {
			fields = append(slices.Clone(fields[:maxNamed]), "…")
		}
		kept.Writes[name] = fields
	}
	for _, ref := range j.reads {
		p.Reads[ref.Platform]++
	}
	if j.Verdict == Conflict || len(j.Why) > 0 {
		kinds := map[string]bool{}
		for _, why := range j.Why {
			kinds[kind(why)] = true
		}
		for k := range kinds {
			if _, known := p.Conflicts[k]; !known && len(p.Conflicts) >= maxKinds {
				k = "others"
			}
			p.Conflicts[k]++
		}
	}
	for _, flip := range j.flips {
		p.Flips[flip.Field]++
		if len(r.Flips) < samples {
			r.Flips = append(slices.Clone(r.Flips), flip)
		}
	}
	alike := 0
	for _, s := range r.Sample {
		if s.Verdict == j.Verdict {
			alike++
		}
	}
	if j.Verdict != NoOp && alike < samples {
		r.Sample = append(slices.Clone(r.Sample), kept)
	}
	return kept
}

// kind is a reason without what makes it one of a kind.
func kind(why string) string {
	parts := strings.SplitN(why, ": ", 3)
	if len(parts) == 2 && strings.HasPrefix(parts[0], "merged") {
		return parts[0]
	}
	return strings.Join(parts[:min(2, len(parts))], ": ")
}

// step moves a run on, until enough is due, or enough is done for one tick.
func (f *Flow) step(ctx context.Context, r ledger.Replay, due map[string]int) (ledger.Replay, error) {
	if deployed := f.d.Config.Version(); r.Config != deployed {
		return f.overtaken(ctx, r, deployed)
	}
	t := turn{due: due, rooms: map[string]int{}, reads: map[string]int{}}
	handled, stored := r.Did.Handled, r.At
	for r.State == ledger.ReplayRunning && r.Did.Handled-handled < perStep && !t.full && !short(ctx) {
		if r.At.Page >= r.Plan.Pages {
			r.State, r.Reason = ledger.ReplayDone, ""
			return f.save(ctx, r, stored, f.line(r, "replay-done", record.Sorrel))
		}
		page, err := f.d.Ledger.PlanPage(ctx, r.ID, r.At.Page)
		if err != nil {
			return r, err
		}
		if !slices.ContainsFunc(page, func(e ledger.PlanEntry) bool { return wanted(r, e) }) {
			r.At = ledger.ReplayMark{Page: r.At.Page + 1}
			continue
		}
		next, err := f.handle(ctx, r, page, &t)
		if err != nil {
			return r, err
		}
		if next.At.Item >= len(page) {
			next.At = ledger.ReplayMark{Page: next.At.Page + 1}
		}
		if next.At == stored {
			return r, nil
		}
		if r, err = f.save(ctx, next, stored, nil); err != nil {
			return r, err
		}
		stored = r.At
	}
	return r, nil
}

// save writes how far a run got. Where somebody paused or cancelled it meanwhile it stays so, and what was done counts.
func (f *Flow) save(ctx context.Context, r ledger.Replay, began ledger.ReplayMark, line *ledger.LogEntry) (ledger.Replay, error) {
	saved, err := f.d.Ledger.SaveReplay(ctx, r, nil, line)
	for attempt := 0; fault.Is(err, fault.Conflict) && attempt < tries; attempt++ {
		now, reading := f.d.Ledger.Replay(ctx, r.ID)
		switch {
		case reading != nil:
			return r, reading
		case now.At != began:
			return now, nil // another step was faster, or it is planned again
		case now.State == ledger.ReplayRunning: // only the audit log was taken
			now.State, now.Reason = r.State, r.Reason
		case now.State != ledger.ReplayPaused && now.State != ledger.ReplayCancelled:
			return now, nil
		default:
			line = nil
		}
		now.At, now.Did = r.At, r.Did
		saved, err = f.d.Ledger.SaveReplay(ctx, now, nil, line)
	}
	return saved, err
}

// turn is what one tick may still make due and read.
type turn struct {
	due   map[string]int // copies due for replays, by platform
	rooms map[string]int // calls in a minute, as far as asked; -1 = not limited
	reads map[string]int
	full  bool
	sent  []queue.Message
}

// roomOf asks once in a turn.
func (f *Flow) roomOf(ctx context.Context, t *turn, platform string) (int, bool) {
	n, asked := t.rooms[platform]
	if !asked {
		room, limited := f.room(ctx, platform)
		if n = room; !limited {
			n = -1
		}
		t.rooms[platform] = n
	}
	return n, n >= 0
}

// fits reports whether what a record needs may still become due, and be read, in this turn: of copies about what their
// platform takes in two minutes may be due at once.
func (f *Flow) fits(ctx context.Context, t *turn, j judged) bool {
	for _, p := range j.due {
		n := outstanding
		if room, limited := f.roomOf(ctx, t, p); limited {
			n = min(n, max(fewest, 2*room))
		}
		if t.due[p] >= n {
			return false
		}
	}
	for _, ref := range j.reads {
		n := unasked
		if room, limited := f.roomOf(ctx, t, ref.Platform); limited {
			n = room
		}
		if t.reads[ref.Platform] >= n {
			return false
		}
	}
	return true
}

// wanted reports whether a run has to look at a record.
func wanted(r ledger.Replay, e ledger.PlanEntry) bool { return e.Verdict == Apply || r.Select.Reread }

// handle works on from where the run stands in a page, as far as one turn may.
func (f *Flow) handle(ctx context.Context, r ledger.Replay, page []ledger.PlanEntry, t *turn) (ledger.Replay, error) {
	var ids []record.ID
	for _, e := range page[min(r.At.Item, len(page)):] {
		if wanted(r, e) {
			ids = append(ids, e.Record)
		}
	}
	states, err := f.d.Ledger.Load(ctx, ids...)
	if err != nil {
		return r, err
	}
	r.Did.Due = maps.Clone(r.Did.Due)
	if r.Did.Due == nil {
		r.Did.Due = map[string]int{}
	}
	for r.At.Item < len(page) && !short(ctx) {
		if e := page[r.At.Item]; wanted(r, e) {
			if err := f.one(ctx, &r, states[e.Record], e.Record, t); err != nil {
				return r, err
			}
			if t.full {
				break
			}
		}
		r.At.Item++
	}
	if len(t.sent) > 0 {
		if err := f.d.Inbound.Send(ctx, t.sent...); err != nil {
			return r, fault.Wrap("", "replay.read", r.ID, err)
		}
		t.sent = nil
	}
	return r, nil
}

// one settles one record again, against what is known of it now.
func (f *Flow) one(ctx context.Context, r *ledger.Replay, before ledger.State, id record.ID, t *turn) error {
	for attempt := 0; ; attempt++ {
		j, err := f.judge(ctx, *r, before, id, f.d.Now().UTC())
		if err != nil {
			return err
		}
		if t.full = !f.fits(ctx, t, j); t.full {
			return nil
		}
		if j.Verdict == Apply {
			err = f.d.Ledger.Commit(ctx, j.entry)
			if fault.Is(err, fault.Conflict) && attempt < tries { // somebody changes it at this moment
				states, reading := f.d.Ledger.Load(ctx, id)
				if reading != nil {
					return reading
				}
				before = states[id]
				continue
			}
			if err != nil {
				return err
			}
		}
		return f.counted(r, j, t)
	}
}

// counted notes what was done about a record, and asks for what is to be read.
func (f *Flow) counted(r *ledger.Replay, j judged, t *turn) error {
	r.Did.Handled++
	switch j.Verdict {
	case Apply:
		r.Did.Applied++
		for _, p := range j.due {
			t.due[p]++
			r.Did.Due[p]++
			f.d.Telemetry.Count("Replayed", p, 1)
		}
	case NoOp:
		r.Did.NoOp++
	default:
		r.Did.Conflict++
	}
	if f.d.Inbound == nil {
		return nil
	}
	for _, ref := range j.reads {
		in := message.Inbound{CorrelationID: r.ID, ReceivedAt: f.d.Now().UTC(), Source: message.Replay, Native: record.Native{Ref: ref}}
		m, err := in.Message("replay/" + r.ID)
		if err != nil {
			return err
		}
		t.sent = append(t.sent, m)
		t.reads[ref.Platform]++
		r.Did.Reads++
	}
	return nil
}

// overtaken pauses a run whose configuration is no longer the one that is deployed, and says what that changes for the
// records that come next.
func (f *Flow) overtaken(ctx context.Context, r ledger.Replay, deployed string) (ledger.Replay, error) {
	r.State = ledger.ReplayPaused
	r.Reason = fmt.Sprintf("it was planned under configuration %s; %s is deployed", r.Config, deployed)
	r.Plan, r.Flips = r.Plan.Clone(), nil
	clear(r.Plan.Flips)
	if r.At.Page < r.Plan.Pages {
		page, err := f.d.Ledger.PlanPage(ctx, r.ID, r.At.Page)
		if err != nil {
			return r, err
		}
		var ids []record.ID
		for _, e := range page[min(r.At.Item, len(page)):] {
			ids = append(ids, e.Record)
		}
		states, err := f.d.Ledger.Load(ctx, ids...)
		if err != nil {
			return r, err
		}
		for _, id := range ids {
			j, err := f.judge(ctx, r, states[id], id, f.d.Now().UTC())
			if err != nil {
				return r, err
			}
			for _, flip := range j.flips {
				r.Plan.Flips[flip.Field]++
				if len(r.Flips) < samples {
					r.Flips = append(r.Flips, flip)
				}
			}
		}
	}
	f.d.Telemetry.Count("ReplayStopped", "", 1)
	return f.save(ctx, r, r.At, f.line(r, "replay-paused", record.Sorrel))
}
