package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sorrel/shared/flow/replay"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

type replayCommand struct {
	Plan   replayPlan   `cmd:"" help:"Say what a replay would do. Nothing is done."`
	Run    replayRun    `cmd:"" help:"Do what a plan says, at the least urgent class."`
	List   replayList   `cmd:"" default:"withargs" help:"Plans and runs, the newest first (default)."`
	Show   replayShow   `cmd:"" help:"One plan or run."`
	Pause  replayPause  `cmd:"" help:"Stop a run for a while."`
	Resume replayResume `cmd:"" help:"Go on with a paused run."`
	Cancel replayCancel `cmd:"" help:"End a plan or a run."`
}

type replayPlan struct {
	Since    string    `help:"Records that changed, or were decided about, at or after this time (RFC 3339), or this long ago, such as 2h."`
	Until    string    `help:"… and before this time, or this long ago."`
	Entity   string    `help:"Records of this entity."`
	Platform string    `help:"Only this platform's copies are compared and written."`
	Record   record.ID `help:"This record."`
	Trace    string    `help:"Records that this correlation id touched."`
	Reread   bool      `help:"Read the native records again, too."`
	acting
}

// instant reads a time, or a time ago.
func instant(flag, said string, now time.Time) (time.Time, error) {
	if said == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(said); err == nil {
		return now.Add(-ago).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, said)
	if err != nil {
		return at, fmt.Errorf("%s is neither a time such as 2026-11-02T08:00:00Z nor how long ago, such as 90m", flag)
	}
	return at.UTC(), nil
}

// Validate makes it a usage error to say nothing, or a time that is none.
func (c replayPlan) Validate() error {
	if c.Since+c.Until+c.Entity+c.Platform+string(c.Record)+c.Trace == "" {
		return fmt.Errorf("say what to replay: --since and --until, --entity, --platform, --record or --trace")
	}
	for flag, said := range map[string]string{"--since": c.Since, "--until": c.Until} {
		if _, err := instant(flag, said, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// Run plans.
func (c replayPlan) Run(ctx binding, s screen) error {
	now := time.Now()
	since, err := instant("--since", c.Since, now)
	if err != nil {
		return err
	}
	until, err := instant("--until", c.Until, now)
	if err != nil {
		return err
	}
	body := ledger.Selection{Since: since, Until: until, Entity: c.Entity, Platform: c.Platform, Record: c.Record, Trace: c.Trace, Reread: c.Reread}
	return c.replay(ctx, s, "", body)
}

// replay changes a replay and prints how it stands then.
func (a acting) replay(ctx binding, s screen, path string, body any) error {
	var r replay.Shown
	if done, err := a.ask(ctx, s, question{method: http.MethodPost, path: "/v1/replays" + path, as: a.As, body: body}, &r); done || err != nil {
		return err
	}
	s.replay(r)
	return nil
}

func replayPath(id, verb string) string { return "/" + url.PathEscape(id) + verb }

type replayRun struct {
	ID string `arg:"" help:"Plan."`
	acting
}

// Run runs a plan.
func (c replayRun) Run(ctx binding, s screen) error {
	return c.replay(ctx, s, replayPath(c.ID, "/run"), nil)
}

type replayPause struct {
	ID string `arg:"" help:"Run."`
	acting
}

// Run pauses.
func (c replayPause) Run(ctx binding, s screen) error {
	return c.replay(ctx, s, replayPath(c.ID, "/pause"), nil)
}

type replayResume struct {
	ID      string `arg:"" help:"Run."`
	Current bool   `help:"Under the configuration that is deployed now, after planning again."`
	acting
}

// Run resumes.
func (c replayResume) Run(ctx binding, s screen) error {
	return c.replay(ctx, s, replayPath(c.ID, "/resume"), map[string]bool{"current": c.Current})
}

type replayCancel struct {
	ID string `arg:"" help:"Plan or run."`
	acting
}

// Run cancels.
func (c replayCancel) Run(ctx binding, s screen) error {
	return c.replay(ctx, s, replayPath(c.ID, "/cancel"), nil)
}

type replayList struct {
	asking
}

// Run lists replays.
func (c replayList) Run(ctx binding, s screen) error {
	var all []replay.Shown
	if done, err := c.get(ctx, s, "/v1/replays", &all); done || err != nil {
		return err
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{r.ID, r.State, ago(time.Since(r.Created)), fmt.Sprint(r.Plan.Records), fmt.Sprint(r.Plan.Apply), fmt.Sprint(r.Left)})
	}
	if len(rows) == 0 {
		s.printf("no replays\n")
		return nil
	}
	s.table([]string{"replay", "state", "age", "records", "apply", "left"}, rows)
	return nil
}

type replayShow struct {
	ID      string `arg:"" help:"Plan or run."`
	Records bool   `help:"The plan record by record, a page at a time."`
	Page    int    `help:"With --records: the page, counted from 0."`
	asking
}

// Run shows a replay.
func (c replayShow) Run(ctx binding, s screen) error {
	if c.Records {
		var page replay.Records
		if done, err := c.get(ctx, s, fmt.Sprintf("/v1/replays%s?page=%d", replayPath(c.ID, "/records"), c.Page), &page); done || err != nil {
			return err
		}
		for _, e := range page.Records {
			s.entry(e)
		}
		s.printf("page %d of %d\n", page.Page, page.Pages)
		return nil
	}
	var r replay.Shown
	if done, err := c.get(ctx, s, "/v1/replays"+replayPath(c.ID, ""), &r); done || err != nil {
		return err
	}
	s.replay(r)
	return nil
}

// entry prints what a plan says about a record.
func (s screen) entry(e ledger.PlanEntry) {
	s.printf("%-9s %s\n", e.Verdict, e.Record)
	for _, p := range slices.Sorted(maps.Keys(e.Writes)) {
		s.printf("          %s: %s\n", p, strings.Join(e.Writes[p], " "))
	}
	for _, why := range e.Why {
		s.printf("          left: %s\n", why)
	}
}

// replay prints a replay.
func (s screen) replay(r replay.Shown) {
	colour := green
	if r.State == ledger.ReplayPaused || r.State == ledger.ReplayFailed {
		colour = amber
	}
	s.printf("%s  %s\n", r.ID, s.paint(colour, r.State))
	if r.Reason != "" {
		s.printf("    %s\n", r.Reason)
	}
	s.printf("    by %s, configuration %s\n", r.By, r.Replay.Config)
	p := r.Plan
	s.printf("    %d record(s): %d apply, %d no-op, %d conflict\n", p.Records, p.Apply, p.NoOp, p.Conflict)
	for _, name := range slices.Sorted(maps.Keys(p.Writes)) {
		s.printf("    %s: %d write(s) of %s\n", name, p.Writes[name], strings.Join(slices.Sorted(maps.Keys(p.Fields[name])), " "))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Reads)) {
		s.printf("    %s: %d read(s)\n", name, p.Reads[name])
	}
	if r.Takes != "" {
		s.printf("    about %s at the room for replays\n", r.Takes)
	}
	for _, why := range slices.Sorted(maps.Keys(p.Conflicts)) {
		s.printf("    left in %d: %s\n", p.Conflicts[why], why)
	}
	for _, f := range r.Flips {
		s.printf("    another winner: %s %s: %s, was %s\n", f.Record, f.Field, f.Is, f.Was)
	}
	if r.Did.Handled > 0 || r.State == ledger.ReplayRunning {
		s.printf("    done: %d applied, %d no-op, %d conflict; %d left\n", r.Did.Applied, r.Did.NoOp, r.Did.Conflict, r.Left)
	}
	switch r.State {
	case ledger.ReplayPlanned:
		for _, e := range r.Sample[:min(len(r.Sample), 5)] {
			s.entry(e)
		}
		if p.Apply > 0 || r.Select.Reread && p.Records > 0 {
			s.printf("run it with: sorrel replay run %s\n", r.ID)
		}
	case ledger.ReplayPlanning:
		s.printf("it goes on in the background: sorrel replay show %s\n", r.ID)
	}
}
