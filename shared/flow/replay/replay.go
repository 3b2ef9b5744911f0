// Package replay does again what was done: it settles records once more from what is known of them, and marks due what
// then differs from what the platforms are known to hold.
//
// State is a fold over kept contributions, so replaying events means settling the records that they touched. Nothing is
// taken back: what a platform or a person said since counts, and a window that was applied wholly writes nothing.
//
// A replay is planned first. The plan says per record what would be done (apply, no-op, conflict), which fields would be
// written, how many calls that takes, and how long at the platforms' budgets. It is kept, and is a run from then on: it is
// moved on by the schedule of sweep, in steps that may die anywhere and be done again. Only so much of it is due at once,
// and at the least urgent class, so that live changes pass it.
//
// A plan is made under one configuration. When another is deployed, the run pauses and says what that would change.
package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Role is the role of those who may replay.
const Role = "steward"

// Looker tells what a platform lets us call from now on.
type Looker interface {
	Look(ctx context.Context, platform string) (budget.Outlook, error)
}

// Deps are what replay needs. All are required but Look and Inbound, without which nothing can be read again.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Platforms []string // that are connected
	Inbound   queue.Sender
	Look      Looker // nil = nothing is limited
	Now       func() time.Time
	NewID     func() string
	Telemetry *telemetry.Recorder
}

// Flow is the replay flow.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow { return &Flow{d} }

const (
	chunk     = 100              // records that one commit of a plan, or of a run's progress, is about
	perStep   = 5000             // records that one step of a run looks at
	reserve   = 10 * time.Second // of the function's time must be left to go on
	patience  = 5 * time.Second  // that a person waits for a plan; the schedule goes on
	planLasts = 24 * time.Hour
	samples   = 20 // records of a plan that are shown in full, of each verdict but no-op; and flips
	// outstanding bounds the copies that are due for replays at once, by platform.
	outstanding = 500
	tries       = 12 // of a change while others change the same
)

// Shown is a replay as people see it.
type Shown struct {
	ledger.Replay
	Left   int            `json:"left"` // records not handled yet
	Takes  string         `json:"takes,omitempty"`
	Room   map[string]int `json:"replayRoomPerMinute,omitempty"` // calls of the platforms in the plan
	Config string         `json:"deployedConfigVersion"`
}

func refuse(c fault.Class, id, detail, remedy string) error {
	return &fault.Error{Class: c, Op: "replay", ID: id, Detail: detail, Remedy: remedy}
}

// valid refuses a selection that says nothing, or what nobody knows.
func (f *Flow) valid(s ledger.Selection) error {
	bad := func(field, detail, remedy string) error {
		return &fault.Error{Class: fault.Malformed, Op: "replay", Fields: []string{field}, Detail: detail, Remedy: remedy}
	}
	switch {
	case s.Since.IsZero() && s.Until.IsZero() && s.Record == "" && s.Trace == "" && s.Entity == "" && s.Platform == "":
		return bad("select", "it is not said what to replay", "give since and until, entity, platform, record or correlationId")
	case !s.Until.IsZero() && !s.Until.After(s.Since):
		return bad("until", fmt.Sprintf("the window ends at %s, before it begins", s.Until.Format(time.RFC3339)), "until must be after since")
	case s.Entity != "" && !slices.Contains(f.d.Config.Entities(), s.Entity):
		return bad("entity", fmt.Sprintf("no entity is called %q", s.Entity), fmt.Sprintf("known: %v", f.d.Config.Entities()))
	case s.Platform != "" && !slices.Contains(f.d.Config.Platforms(), s.Platform):
		return bad("platform", fmt.Sprintf("no platform is called %q", s.Platform), fmt.Sprintf("known: %v", f.d.Config.Platforms()))
	case s.Record != "" && s.Record.Validate() != nil:
		return bad("record", fmt.Sprintf("%q is no record id", s.Record), "give it as a trace shows it, such as order/…")
	}
	return nil
}

// Plan makes a plan. Where that takes longer than a person waits, it comes back while it is being planned, and the schedule
// goes on with it.
func (f *Flow) Plan(ctx context.Context, by policy.Person, s ledger.Selection) (Shown, error) {
	who, err := f.d.Config.Acting("replay", by.Name, Role)
	if err != nil {
		return Shown{}, err
	}
	if err := f.valid(s); err != nil {
		return Shown{}, err
	}
	now := f.d.Now().UTC()
	r := ledger.Replay{ID: f.d.NewID(), State: ledger.ReplayPlanning, By: who.Name, Select: s, Config: f.d.Config.Version(), Created: now}
	r, err = f.d.Ledger.SaveReplay(ctx, r, nil, f.line(r, "replay-planned", who.Name))
	if err != nil {
		return Shown{}, err
	}
	for r.State == ledger.ReplayPlanning && f.d.Now().Sub(now) < patience && !short(ctx) {
		if r, err = f.plan(ctx, r); err != nil {
			return Shown{}, err
		}
	}
	return f.shown(ctx, r), nil
}

// Run begins a run of a plan.
func (f *Flow) Run(ctx context.Context, by policy.Person, id string) (Shown, error) {
	return f.act(ctx, by, id, "replay-started", func(r *ledger.Replay) error {
		switch {
		case r.State == ledger.ReplayRunning, r.State == ledger.ReplayDone:
			return errStands
		case r.State != ledger.ReplayPlanned:
			return refuse(fault.Conflict, id, "it is "+r.State, map[bool]string{true: "wait until it is planned: sorrel replay show " + id, false: "plan another, or resume one that is paused"}[r.State == ledger.ReplayPlanning])
		case f.d.Now().After(r.Expires):
			return refuse(fault.Conflict, id, "the plan is too old to be run", "plan again")
		case r.Config != f.d.Config.Version():
			return refuse(fault.Conflict, id, fmt.Sprintf("it was planned under configuration %s; %s is deployed", r.Config, f.d.Config.Version()), "plan again")
		}
		r.State, r.Reason = ledger.ReplayRunning, ""
		return nil
	})
}

// Pause stops a run until it is resumed. What it made due already is delivered.
func (f *Flow) Pause(ctx context.Context, by policy.Person, id string) (Shown, error) {
	return f.act(ctx, by, id, "replay-paused", func(r *ledger.Replay) error {
		switch r.State {
		case ledger.ReplayPaused:
			return errStands
		case ledger.ReplayRunning:
			r.State, r.Reason = ledger.ReplayPaused, "paused by "+by.Name
			return nil
		}
		return refuse(fault.Conflict, id, "it is "+r.State, "only a run can be paused")
	})
}

// Resume goes on with a paused run. With current it goes on under the configuration that is deployed, after planning again.
func (f *Flow) Resume(ctx context.Context, by policy.Person, id string, current bool) (Shown, error) {
	return f.act(ctx, by, id, "replay-resumed", func(r *ledger.Replay) error {
		switch {
		case r.Active():
			return errStands
		case r.State != ledger.ReplayPaused:
			return refuse(fault.Conflict, id, "it is "+r.State, "only a paused run can be resumed")
		case r.Config == f.d.Config.Version():
			r.State, r.Reason = ledger.ReplayRunning, ""
			return nil
		case !current:
			return refuse(fault.Conflict, id, r.Reason, "look at the difference with sorrel replay show, and go on with --current")
		}
		*r = again(*r, f.d.Config.Version())
		return nil
	})
}

// again is a run that is planned once more, under another configuration.
func again(r ledger.Replay, config string) ledger.Replay {
	r.State, r.Reason, r.Config, r.GoesOn = ledger.ReplayPlanning, "planned again under configuration "+config, config, true
	r.Read, r.Plan, r.At, r.Flips, r.Sample = ledger.LogMark{}, ledger.ReplayPlan{}, ledger.ReplayMark{}, nil, nil
	return r
}

// Cancel ends a replay. What it made due already is delivered.
func (f *Flow) Cancel(ctx context.Context, by policy.Person, id string) (Shown, error) {
	return f.act(ctx, by, id, "replay-cancelled", func(r *ledger.Replay) error {
		switch r.State {
		case ledger.ReplayCancelled:
			return errStands
		case ledger.ReplayDone, ledger.ReplayFailed:
			return refuse(fault.Conflict, id, "it is "+r.State, "nothing is left to be cancelled")
		}
		r.State, r.Reason = ledger.ReplayCancelled, "cancelled by "+by.Name
		return nil
	})
}

// errStands says that nothing is to be changed.
var errStands = fmt.Errorf("it stands so already")

// act changes a replay for a person, with a line in the general audit log.
func (f *Flow) act(ctx context.Context, by policy.Person, id, action string, change func(*ledger.Replay) error) (Shown, error) {
	who, err := f.d.Config.Acting("replay", by.Name, Role)
	if err != nil {
		return Shown{}, err
	}
	for attempt := 0; ; attempt++ {
		r, err := f.d.Ledger.Replay(ctx, id)
		if err != nil {
			return Shown{}, err
		}
		if err := change(&r); err == errStands {
			return f.shown(ctx, r), nil
		} else if err != nil {
			return Shown{}, err
		}
		r, err = f.d.Ledger.SaveReplay(ctx, r, nil, f.line(r, action, who.Name))
		if err == nil {
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: action, Trace: id})
			return f.shown(ctx, r), nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= tries {
			return Shown{}, err
		}
	}
}

// line is what the general audit log says of a replay.
func (f *Flow) line(r ledger.Replay, action, by string) *ledger.LogEntry {
	detail := fmt.Sprintf("replay %s, configuration %s: %d of %d handled, %d applied", r.ID, r.Config, r.Did.Handled, r.Plan.Records, r.Did.Applied)
	if r.Reason != "" {
		detail += "; " + r.Reason
	}
	return &ledger.LogEntry{At: f.d.Now().UTC(), By: by, Trace: r.ID, Policy: r.Config, Events: []record.Event{{Action: action, By: by, Detail: detail, Trace: r.ID}}}
}

// List lists replays, the newest first.
func (f *Flow) List(ctx context.Context) ([]Shown, error) {
	all, err := f.d.Ledger.Replays(ctx)
	out := make([]Shown, len(all))
	for i, r := range all {
		r.Sample, r.Flips = nil, nil
		out[i] = f.plain(r)
	}
	return out, err
}

// Show shows a replay: its plan, how far it got, and how long it takes.
func (f *Flow) Show(ctx context.Context, id string) (Shown, error) {
	r, err := f.d.Ledger.Replay(ctx, id)
	if err != nil {
		return Shown{}, err
	}
	return f.shown(ctx, r), nil
}

// Records is a part of a plan, record by record.
type Records struct {
	Page    int                `json:"page"`
	Pages   int                `json:"pages"`
	Records []ledger.PlanEntry `json:"records"`
}

// Records shows a page of a plan.
func (f *Flow) Records(ctx context.Context, id string, page int) (Records, error) {
	r, err := f.d.Ledger.Replay(ctx, id)
	if err != nil {
		return Records{}, err
	}
	out := Records{Page: page, Pages: r.Plan.Pages, Records: []ledger.PlanEntry{}}
	if page >= 0 && page < r.Plan.Pages {
		out.Records, err = f.d.Ledger.PlanPage(ctx, id, page)
	}
	return out, err
}

func (f *Flow) plain(r ledger.Replay) Shown {
	s := Shown{Replay: r, Config: f.d.Config.Version(), Left: r.Plan.Apply - r.Did.Handled}
	if r.Select.Reread {
		s.Left = r.Plan.Records - r.Did.Handled
	}
	s.Left = max(0, s.Left)
	return s
}

// shown adds how long a plan takes at the budgets' room for replays.
func (f *Flow) shown(ctx context.Context, r ledger.Replay) Shown {
	s := f.plain(r)
	calls := maps.Clone(r.Plan.Writes)
	if calls == nil {
		calls = map[string]int{}
	}
	for p, n := range r.Plan.Reads {
		calls[p] += n
	}
	minutes := 0
	for _, p := range slices.Sorted(maps.Keys(calls)) {
		n := calls[p]
		room, limited := f.room(ctx, p)
		if !limited {
			continue
		}
		if s.Room == nil {
			s.Room = map[string]int{}
		}
		s.Room[p] = room
		if room > 0 {
			minutes = max(minutes, (n+room-1)/room)
		}
	}
	if len(s.Room) > 0 {
		s.Takes = (time.Duration(minutes) * time.Minute).String()
	}
	return s
}

// room is how many calls a platform lets replays make in a minute.
func (f *Flow) room(ctx context.Context, platform string) (int, bool) {
	if f.d.Look == nil {
		return 0, false
	}
	o, err := f.d.Look.Look(ctx, platform)
	if err != nil {
		return 0, false // deliver meets the platform's gate anyway
	}
	n, limited := o.Room[budget.Replay]
	return n, limited
}

// short reports whether too little of the function's time is left to go on.
func short(ctx context.Context) bool { return !deadline.Fits(ctx, reserve) }
