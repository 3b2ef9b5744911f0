package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"sorrel/shared/deadline"
	"sorrel/shared/drift"
	"sorrel/shared/flow/reconcile"
)

type reconcileCommand struct {
	Run         reconcileRun      `cmd:"" help:"Compare what platforms hold with what is known, and heal what differs."`
	List        reconcileList     `cmd:"" default:"withargs" help:"Runs, the newest first (default)."`
	Show        reconcileShow     `cmd:"" help:"The report of one run."`
	Certificate certificateGet    `cmd:"" help:"Print the certificate of a run, for keeping."`
	Verify      certificateVerify `cmd:"" help:"Check a completeness certificate, offline: altering one byte fails."`
	Key         certificateKey    `cmd:"" help:"Print the public keys of certificates, or make a key."`
}

type reconcileRun struct {
	Platform string `arg:"" optional:"" help:"Platform; all when left out."`
	Entity   string `arg:"" optional:"" help:"Entity; all when left out."`
	Full     bool   `help:"Read everything, not only where counts differ."`
	DryRun   bool   `help:"Report, and heal nothing."`
	Gone     bool   `help:"Take what a platform does not know any more as deleted. Look at a dry run first."`
	NoWait   bool   `help:"Do not wait for the end."`
	acting
}

// Run begins a run and shows its report once it has ended.
func (c reconcileRun) Run(ctx binding, s screen) error {
	quiet := c.asking
	quiet.JSON = false
	var r reconcile.Report
	q := question{method: http.MethodPost, path: "/v1/reconciliations", as: c.As, body: reconcile.Wish{Platform: c.Platform, Entity: c.Entity, Full: c.Full, DryRun: c.DryRun, Gone: c.Gone}}
	if _, err := quiet.ask(ctx, s, q, &r); err != nil {
		return err
	}
	for !c.NoWait && r.State == reconcile.Running {
		if err := deadline.Pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if _, err := quiet.get(ctx, s, reconciliation(r.ID), &r); err != nil {
			return err
		}
	}
	if c.NoWait && !c.JSON {
		s.printf("it goes on in the background: sorrel reconcile show %s\n", r.ID)
		return nil
	}
	return s.reconciliation(r, c.JSON)
}

func reconciliation(id string) string { return "/v1/reconciliations/" + url.PathEscape(id) }

// reconciliation prints a report. A run that failed is an error, one that found something is none.
func (s screen) reconciliation(r reconcile.Report, asJSON bool) error {
	var failed error
	if r.State == reconcile.Failed {
		failed = errors.New(r.Reason)
	}
	if asJSON {
		return errors.Join(s.json(r), failed)
	}
	return errors.Join(drift.Text(s.out, r, s.tone), failed)
}

// tone is how a report's tones look on a screen.
func (s screen) tone(t drift.Tone, text string) string {
	switch t {
	case drift.Heading:
		return s.paint(bold, text)
	case drift.Good:
		return s.paint(green, text)
	case drift.Bad:
		return s.paint(red, text)
	case drift.Doubt:
		return s.paint(amber, text)
	case drift.Faint:
		return s.paint(faint, text)
	}
	return text
}

type reconcileList struct {
	asking
}

// Run lists runs.
func (c reconcileList) Run(ctx binding, s screen) error {
	var all []reconcile.Report
	if done, err := c.get(ctx, s, "/v1/reconciliations", &all); done || err != nil {
		return err
	}
	var rows [][]string
	for _, r := range all {
		var compared, found, healed, excepted int
		for _, set := range r.Sets {
			compared, found, healed, excepted = compared+set.Compared, found+set.Found(), healed+set.Healed(), excepted+set.Excepted()
		}
		how := string(r.Mode)
		if r.DryRun {
			how += ", dry"
		}
		rows = append(rows, []string{r.ID, r.State, how, ago(time.Since(r.Started)), fmt.Sprint(compared), fmt.Sprint(found), fmt.Sprint(healed), fmt.Sprint(excepted)})
	}
	if len(rows) == 0 {
		s.printf("nothing was reconciled yet\n")
		return nil
	}
	s.table([]string{"run", "state", "mode", "age", "compared", "found", "healed", "asked"}, rows)
	return nil
}

type reconcileShow struct {
	ID   string `arg:"" help:"Run."`
	HTML string `help:"Write the report to this file, as a page with a plot." placeholder:"FILE"`
	asking
}

// Run shows a run.
func (c reconcileShow) Run(ctx binding, s screen) error {
	var r reconcile.Report
	if done, err := c.get(ctx, s, reconciliation(c.ID), &r); done || err != nil {
		return err
	}
	if c.HTML == "" {
		return s.reconciliation(r, false)
	}
	f, err := os.Create(c.HTML)
	if err != nil {
		return err
	}
	if err := errors.Join(drift.Page(f, r), f.Close()); err != nil {
		return err
	}
	s.printf("written to %s\n", c.HTML)
	return nil
}
