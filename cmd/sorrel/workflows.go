package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/workflow"
)

type workflowsCommand struct {
	List    workflowsList    `cmd:"" default:"withargs" help:"Runs that have not ended (default)."`
	Show    workflowsShow    `cmd:"" help:"One run: its steps, what it waits for, what was decided."`
	Approve workflowsApprove `cmd:"" help:"Answer what a run asks, with corrections where it may be corrected."`
	Reject  workflowsReject  `cmd:"" help:"Answer what a run asks: what was done is undone."`
	Retry   workflowsRetry   `cmd:"" help:"Let a stuck run go on where it was."`
	Skip    workflowsSkip    `cmd:"" help:"Let the step at hand count as done, or as undone."`
	Cancel  workflowsCancel  `cmd:"" help:"Undo what was done, and end the run."`
}

type workflowsList struct {
	State      string `help:"Only in this state: running, undoing or stuck; with --record also done and undone."`
	Definition string `help:"Only of this workflow."`
	Asks       string `help:"Only what waits for a decision of this role."`
	Entity     string `help:"Only about records of this entity."`
	Record     string `help:"All runs about this record, those that have ended as well."`
	asking
}

// Run lists runs, all pages of them; JSON is one page.
func (c workflowsList) Run(ctx binding, s screen) error {
	q := url.Values{}
	for name, v := range map[string]string{"state": c.State, "definition": c.Definition, "asks": c.Asks, "entity": c.Entity, "record": c.Record} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if c.JSON {
		q.Set("limit", "1000")
	}
	for n := 0; ; {
		var page flow.Listing
		if done, err := c.get(ctx, s, "/v1/workflows?"+q.Encode(), &page); done || err != nil {
			return err
		}
		for _, h := range page.Runs {
			s.run(h)
		}
		if n += len(page.Runs); n == 0 {
			s.printf("no runs\n")
		}
		if page.Next == "" {
			return nil
		}
		q.Set("after", page.Next)
	}
}

// run prints one run of a list.
func (s screen) run(h flow.Head) {
	at := ""
	if h.Step != "" {
		at = fmt.Sprintf("  %s, for %s", h.Step, lasted(time.Since(h.Since)))
	}
	if h.Late {
		at += s.paint(red, "  late")
	}
	s.printf("%s  %s%s\n", h.ID, s.paint(ofState(h.State), string(h.State)), at)
	for _, line := range []struct{ what, text string }{{"asks ", strings.Join(h.Asks, " or ")}, {"waits for ", h.Wait}, {"", h.Reason}} {
		if line.text != "" {
			s.printf("    %s\n", cut(line.what+line.text, 76))
		}
	}
}

func ofState(state workflow.State) string {
	switch state {
	case workflow.Done:
		return green
	case workflow.Stuck:
		return red
	}
	return amber
}

// lasted is a duration as a person says it.
func lasted(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}

// ofRun names a run.
type ofRun struct {
	ID string `arg:"" name:"run" help:"Run, such as activation/opportunity/k3jq7m2xw5t6zr2a/1."`
}

func (c ofRun) path() (string, error) {
	if _, _, _, ok := workflow.ParseID(c.ID); !ok {
		return "", fmt.Errorf("%q is no run: want workflow/entity/key/number, such as activation/opportunity/k3jq7m2xw5t6zr2a/1", c.ID)
	}
	return "/v1/workflows/" + c.ID, nil
}

type workflowsShow struct {
	ofRun
	asking
}

// Run shows one run.
func (c workflowsShow) Run(ctx binding, s screen) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	var r flow.Shown
	if done, err := c.get(ctx, s, path, &r); done || err != nil {
		return err
	}
	s.shown(r)
	return nil
}

// shown prints one run, a line for each thing that there is to know.
func (s screen) shown(r flow.Shown) {
	say := func(format string, a ...any) { s.printf("  %s\n", fmt.Sprintf(format, a...)) }
	s.printf("%s\n", s.paint(bold, "run "+r.ID))
	say("%s, version %d, began %s (correlation id %s)", s.paint(ofState(r.State), string(r.State)), r.Version, r.Began.Format(time.RFC3339), r.Trace)
	if !r.Ended.IsZero() {
		say("ended %s, after %s", r.Ended.Format(time.RFC3339), lasted(r.Ended.Sub(r.Began)))
	}
	if r.Late {
		say("%s: promised by %s", s.paint(red, "late"), r.Promised.Format(time.RFC3339))
	}
	if r.Reason != "" {
		say("because: %s", r.Reason)
	}
	if r.Orphan != "" {
		say("nobody moves it on: %s", r.Orphan)
	}
	for _, p := range r.Past {
		s.printf("  %s\n", strings.TrimRight(fmt.Sprintf("%-16s %s  %s", p.Step, p.Began.Format(time.RFC3339), stood(p)), " "))
	}
	if a := r.Ask; a != nil {
		say("asks %s (%s), question %s", strings.Join(a.Roles, " or "), strings.Join(r.Deciders, ", "), r.Question)
		for _, reason := range a.Reasons {
			say("  because %s", reason)
		}
		for _, name := range slices.Sorted(maps.Keys(a.May)) {
			say("  may be corrected: %s, now %q", name, a.May[name])
		}
	}
	if r.Wait != "" {
		say("waits for: %s", r.Wait)
	}
	if !r.Look.IsZero() {
		say("looked at again at %s, if nothing happens before", r.Look.Format(time.RFC3339))
	}
	if a := r.Answer; a != nil {
		verdict := map[bool]string{true: "approved", false: "rejected"}[a.Approve]
		say("%s by %s at %s: %s", verdict, a.By, a.At.Format(time.RFC3339), a.Reason)
		for _, name := range slices.Sorted(maps.Keys(a.Correct)) {
			say("  corrected: %s = %q", name, a.Correct[name])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.Due)) {
		say("still to be told of %s: %s", id, strings.Join(r.Due[id], ", "))
	}
	for _, h := range r.History {
		s.printf("  %s %s%s\n", s.paint(faint, h.At.Format(time.RFC3339)), h.What, told(h))
	}
}

func told(h flow.Happened) string {
	out := by(h.By)
	if h.Detail != "" {
		out += ": " + h.Detail
	}
	return out
}

// stood is how a step went.
func stood(p workflow.Progress) string {
	var says []string
	switch {
	case !p.Undone.IsZero():
		says = append(says, "undone "+p.Undone.Format(time.RFC3339))
	case !p.Ended.IsZero():
		says = append(says, "done "+p.Ended.Format(time.RFC3339))
	}
	if p.Reminded > 0 {
		says = append(says, fmt.Sprintf("reminded %d time(s)", p.Reminded))
	}
	if p.Skipped != "" {
		says = append(says, "skipped by "+p.Skipped)
	}
	return strings.Join(says, ", ")
}

// do sends what somebody does about a run.
func (c ofRun) do(ctx binding, s screen, a acting, does string, in any) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	var r flow.Shown
	if done, err := a.ask(ctx, s, question{method: http.MethodPost, path: path + "/" + does, as: a.As, body: in}, &r); done || err != nil {
		return err
	}
	said := ""
	if r.Step != "" {
		said = ", " + r.Step
	}
	s.printf("%s  %s%s\n", r.ID, s.paint(ofState(r.State), string(r.State)), said)
	return nil
}

type workflowsApprove struct {
	ofRun
	Reason string            `help:"Why."`
	Set    map[string]string `help:"A correction, where the run says that it may be corrected." placeholder:"NAME=VALUE" mapsep:"none"`
	Saw    string            `help:"The question that you saw: refused if another is asked now."`
	acting
}

// Run approves.
func (c workflowsApprove) Run(ctx binding, s screen) error {
	return c.do(ctx, s, c.acting, "approve", map[string]any{"reason": c.Reason, "correct": c.Set, "saw": c.Saw})
}

type workflowsReject struct {
	ofRun
	Reason string `help:"Why: sales reads it." required:""`
	Saw    string `help:"The question that you saw: refused if another is asked now."`
	acting
}

// Run rejects.
func (c workflowsReject) Run(ctx binding, s screen) error {
	return c.do(ctx, s, c.acting, "reject", map[string]any{"reason": c.Reason, "saw": c.Saw})
}

type workflowsRetry struct {
	ofRun
	Reason string `help:"Why."`
	acting
}

// Run lets a stuck run go on.
func (c workflowsRetry) Run(ctx binding, s screen) error {
	return c.do(ctx, s, c.acting, workflow.Retry, map[string]any{"reason": c.Reason})
}

type workflowsSkip struct {
	ofRun
	Step   string `help:"The step that you saw; the one at hand when left out."`
	Reason string `help:"Why." required:""`
	acting
}

// Run skips the step at hand.
func (c workflowsSkip) Run(ctx binding, s screen) error {
	if c.Step == "" {
		path, err := c.path()
		if err != nil {
			return err
		}
		var r flow.Shown
		quiet := c.asking
		quiet.JSON = false
		if _, err := quiet.get(ctx, s, path, &r); err != nil {
			return err
		}
		if c.Step = r.Step; c.Step == "" {
			return fmt.Errorf("%s has ended as %s: there is no step to skip", r.ID, r.State)
		}
	}
	return c.do(ctx, s, c.acting, workflow.Skip, map[string]any{"step": c.Step, "reason": c.Reason})
}

type workflowsCancel struct {
	ofRun
	Reason string `help:"Why." required:""`
	acting
}

// Run cancels.
func (c workflowsCancel) Run(ctx binding, s screen) error {
	return c.do(ctx, s, c.acting, workflow.Cancel, map[string]any{"reason": c.Reason})
}
