package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/flow/operate"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

type statusCommand struct {
	asking
}

// Run prints how things stand.
func (c statusCommand) Run(ctx binding, s screen) error {
	var st operate.Status
	if done, err := c.get(ctx, s, "/v1/status", &st); done || err != nil {
		return err
	}
	if c.Table != "" { // counters and queues are in CloudWatch
		st.Queues, st.Metrics.Counters = nil, nil
	}
	health := s.paint(green, "healthy")
	if !st.Healthy {
		health = s.paint(amber, "needs attention")
	}
	since := "up " + time.Since(st.Since).Round(time.Second).String()
	if c.Table != "" {
		since = "table " + c.Table
	}
	s.printf("%s, %s, configuration %s\n", health, since, st.Config)
	for _, concern := range st.Concerns {
		s.printf("  - %s\n", concern)
	}
	s.printf("\n")
	var rows [][]string
	for _, p := range st.Platforms {
		rows = append(rows, []string{p.Name, fmt.Sprint(p.Due), age(p.OldestDue), p.Breaker.State, fmt.Sprintf("%.0f", p.Writes), fmt.Sprintf("%.0f", p.Reads), fmt.Sprintf("%.0f", p.Failures), fmt.Sprintf("%.0f ms", p.FreshP95)})
	}
	s.table([]string{"platform", "due", "oldest", "breaker", "writes", "reads", "put off", "fresh p95"}, rows)
	s.printf("\n")
	if rows = classes(st.Platforms); len(rows) > 0 {
		s.table([]string{"due by class", "class", "due", "oldest", "room"}, rows)
		s.printf("\n")
	}
	if n := st.Proposals.Count; n > 0 {
		s.printf("%d proposal(s) wait for a decision, the oldest for %s\n\n", n, age(st.Proposals.Oldest))
	}
	if rows = runsOf(st.Workflows); len(rows) > 0 {
		s.table([]string{"workflow", "running", "asking", "undoing", "stuck", "late", "oldest"}, rows)
		s.printf("\n")
	}
	if n := st.Unseen.Count; n > 0 {
		s.printf("%d record(s) are to be looked at by workflows, the oldest for %s\n\n", n, age(st.Unseen.Oldest))
	}
	rows = nil
	for _, q := range st.Queues {
		rows = append(rows, []string{q.Name, fmt.Sprint(q.Visible), fmt.Sprint(q.InFlight)})
	}
	s.table([]string{"queue", "waiting", "in flight"}, rows)
	s.printf("\n")
	rows = nil
	for _, name := range slices.Sorted(maps.Keys(st.Metrics.Counters)) {
		rows = append(rows, []string{name, fmt.Sprintf("%.0f", st.Metrics.Counters[name])})
	}
	s.table([]string{"counted since the start", "n"}, rows)
	return nil
}

// runsOf are the lines of the runs that have not ended.
func runsOf(all map[string]ledger.RunCount) (rows [][]string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		rows = append(rows, []string{name, fmt.Sprint(n.Running), fmt.Sprint(n.Asking), fmt.Sprint(n.Undoing), fmt.Sprint(n.Stuck), fmt.Sprint(n.Late), lasted(time.Duration(n.Oldest) * time.Second)})
	}
	return rows
}

// classes are the lines of what is due, the most urgent first.
func classes(platforms []operate.PlatformStatus) [][]string {
	var rows [][]string
	for _, p := range platforms {
		for _, class := range budget.Classes() {
			w, due := p.ByClass[class.String()]
			if !due {
				continue
			}
			room := "-"
			if n, limited := p.Room[class.String()]; limited {
				room = fmt.Sprintf("%d/min", n)
			}
			rows = append(rows, []string{p.Name, class.String(), fmt.Sprint(w.Count), age(w.Oldest), room})
		}
	}
	return rows
}

func age(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return (time.Duration(seconds*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
}

type traceCommand struct {
	ID string `arg:"" help:"Correlation id."`
	asking
}

// Run prints one business transaction.
func (c traceCommand) Run(ctx binding, s screen) error {
	var t operate.Trace
	if done, err := c.get(ctx, s, "/v1/traces/"+url.PathEscape(c.ID), &t); done || err != nil {
		return err
	}
	s.trace(t)
	return nil
}

func (s screen) trace(t operate.Trace) {
	s.printf("%s\n", s.paint(bold, "correlation id "+t.ID))
	for _, st := range t.Steps {
		since := st.At.Sub(t.Steps[0].At)
		s.printf("%s +%-9s %-10s %-10s %s\n", st.At.Format("15:04:05.000"), since.Round(time.Millisecond), st.Step, st.Platform, st.Record)
		for _, line := range []string{st.Native, strings.Join(st.Fields, " "), st.Detail} {
			if line != "" {
				s.printf("%26s%s\n", "", line)
			}
		}
	}
}

type whyCommand struct {
	naming
	Field string `arg:"" optional:"" help:"Field; all when left out."`
}

// Run explains a field, or all fields of a record.
func (c whyCommand) Run(ctx binding, s screen) error {
	path, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	var all []record.Why
	if done, err := c.get(ctx, s, path+"/why?field="+url.QueryEscape(c.Field), &all); done || err != nil {
		return err
	}
	for _, w := range all {
		s.why(w)
	}
	return nil
}

func (s screen) why(w record.Why) {
	s.printf("%s = %s\n", s.paint(bold, fmt.Sprintf("%s %s", w.Record, w.Field)), shown(w.Value))
	if w.MergedInto != "" {
		s.printf("  merged into %s, which has the value\n", w.MergedInto)
	}
	if w.From != "" {
		s.printf("  set on %s at %s%s (correlation id %s)\n", w.From, w.Said.Format(time.RFC3339), by(w.Actor), w.Trace)
	}
	if o := w.Override; o != nil {
		end := "until a platform says something new"
		if !o.Until.IsZero() {
			end = "until " + o.Until.Format(time.RFC3339)
		}
		s.printf("  overridden by %s at %s, %s: %s\n", o.By, o.When.Format(time.RFC3339), end, o.Reason)
	}
	if g := w.Approved; g != nil {
		s.printf("  approved by %s at %s, as %s asked%s (proposal %s) %s\n", g.By, g.Decided.Format(time.RFC3339), g.Platform, by(g.Actor), g.Proposal, g.Comment)
	}
	if a := w.Assigned; a != nil {
		s.printf("  assigned by %s at %s\n", a.By, a.When.Format(time.RFC3339))
	}
	if d := w.Deactivation; d != nil {
		s.printf("  deactivated, as a record was deleted: %s\n", d.At)
	}
	s.printf("  by the rule: %s, %s (policy version %s)\n", w.Rule, w.At, w.Policy)
	for _, in := range w.Inputs {
		s.printf("  from: %s = %s\n", in.Name, shown(in.Value))
	}
	if w.Failed != "" {
		s.printf("  no value: %s\n", w.Failed)
	}
	if w.Split {
		s.printf("  the platforms differ, and people decide: see sorrel exceptions\n")
	}
	for _, l := range w.Losers {
		s.printf("  lost: %s said %s at %s%s; path: %s: %s\n", l.Platform, l.Value, l.Said.Format(time.RFC3339), by(l.Actor), cmp.Or(string(l.Path), "none"), l.Effect)
	}
	for _, p := range w.On {
		s.printf("  %-10s %-11s holds %s: %s\n", p.Platform, p.Role, shown(p.Holds), p.Status)
		if p.Write != "" {
			s.printf("  %22s written %s (correlation id %s)\n", "", p.Written.Format(time.RFC3339), p.Write)
		} else if p.NoWrite != "" && p.NoWrite != p.Status {
			s.printf("  %22s not written: %s\n", "", p.NoWrite)
		}
		if b := p.PutBack; b != nil && b.Path != "" { // without a path it is an owner's value that an approved one replaced
			s.printf("  %22s put back: someone set %s at %s;\n  %22s path %s, %s (correlation id %s)\n", "", b.Value, b.Said.Format(time.RFC3339), "", b.Path, b.At, b.Trace)
		}
	}
}

// by names an actor, if there is one.
func by(actor string) string {
	if actor == "" {
		return ""
	}
	return " by " + actor
}
