package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

type overrideCommand struct {
	Record string `arg:"" help:"Record id (customer/…)."`
	Field  string `arg:"" help:"Field."`
	override
	End bool `help:"End the override instead."`
	acting
}

// Validate makes it a usage error to give a value to what ends.
func (c overrideCommand) Validate() error {
	if !c.End {
		return c.override.Validate()
	}
	if c.Value != "" || c.Clear || c.Until != "" {
		return errors.New("--end takes no value")
	}
	return nil
}

// Run overrides a field, or ends that.
func (c overrideCommand) Run(ctx binding, s screen) error {
	path, err := recordPath(c.Record)
	if err != nil {
		return err
	}
	path += "/overrides/" + url.PathEscape(c.Field)
	if c.End {
		return c.done(ctx, s, question{method: http.MethodDelete, path: path})
	}
	v, err := c.entered(time.Now())
	if err != nil {
		return err
	}
	in := struct {
		entered
		Reason string `json:"reason,omitempty"`
	}{v, c.Reason}
	return c.done(ctx, s, question{method: http.MethodPut, path: path, body: in})
}

type assignCommand struct {
	Record string `arg:"" help:"Record id (customer/…)."`
	Field  string `arg:"" help:"Field."`
	entry
	acting
}

// Run assigns a value.
func (c assignCommand) Run(ctx binding, s screen) error {
	path, err := recordPath(c.Record)
	if err != nil {
		return err
	}
	return c.done(ctx, s, question{method: http.MethodPut, path: path + "/assigned/" + url.PathEscape(c.Field), body: c.entered()})
}

type mergeCommand struct {
	Into string `arg:"" help:"Record that survives."`
	From string `arg:"" help:"Record that becomes part of it."`
	acting
}

// Run merges two records.
func (c mergeCommand) Run(ctx binding, s screen) error {
	path, err := recordPath(c.Into)
	if err != nil {
		return err
	}
	in := struct {
		From string `json:"from"`
	}{c.From}
	return c.done(ctx, s, question{method: http.MethodPost, path: path + "/merge", body: in})
}

type unmergeCommand struct {
	From string `arg:"" help:"Record that was merged into another."`
	acting
}

// Run takes a record out again.
func (c unmergeCommand) Run(ctx binding, s screen) error {
	path, err := recordPath(c.From)
	if err != nil {
		return err
	}
	return c.done(ctx, s, question{method: http.MethodPost, path: path + "/unmerge"})
}

type logCommand struct {
	naming
}

// Run prints a record's audit log.
func (c logCommand) Run(ctx binding, s screen) error {
	path, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	var all []ledger.LogEntry
	if done, err := c.get(ctx, s, path+"/log", &all); done || err != nil {
		return err
	}
	for _, e := range all {
		s.logged(e)
	}
	return nil
}

func (s screen) logged(e ledger.LogEntry) {
	s.printf("%s %s%s (policy %s, correlation id %s)\n", s.paint(bold, fmt.Sprintf("#%d", e.Seq)), e.At.Format(time.RFC3339), by(e.By), e.Policy, e.Trace)
	empty := 0
	for _, c := range e.Changes {
		if c.Before == nil && c.After == nil { // first said to have no value
			empty++
			continue
		}
		from := c.From
		if c.Actor != "" {
			from += ", " + c.Actor
		}
		s.printf("  %s: %s → %s (%s)\n", c.Field, plain(c.Before), plain(c.After), from)
	}
	if empty > 0 {
		s.printf("  %d field(s) said to have no value\n", empty)
	}
	for _, x := range e.Events {
		s.printf("  %s\n", strings.Join(strings.Fields(strings.Join([]string{x.Action, x.Platform, strings.Join(x.Fields, " "), x.Proposal, x.Detail}, " ")), " "))
	}
}

// plain is a value of the log as it stands there; nothing is a dash.
func plain(v any) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprint(v)
}

type auditCommand struct {
	Verify auditVerify `cmd:"" help:"Read the whole log and compare every entry with its hash."`
}

type auditVerify struct {
	asking
}

// Run verifies the audit log; it fails when anything is broken.
func (c auditVerify) Run(ctx binding, s screen) error {
	var v ledger.Verified
	printed, err := c.ask(ctx, s, question{method: http.MethodGet, path: "/v1/audit", patient: true}, &v)
	if err != nil {
		return err
	}
	if !printed {
		for _, b := range v.Broken {
			s.printf("%s #%d: %s\n", s.paint(red, b.Chain), b.Seq, b.What)
		}
	}
	if n := len(v.Broken); n > 0 {
		return fmt.Errorf("the audit log is broken in %d place(s); see infra/runbooks/audit.md", n)
	}
	if !printed {
		s.printf("%s: %d entries in %d chains\n", s.paint(green, "whole"), v.Entries, v.Chains)
	}
	return nil
}

// naming is a record by its id, or by that of one of its native records.
type naming struct {
	Record string `arg:"" help:"Record id (order/…), or platform:native-id with --object."`
	Object string `help:"Native object, when the record is named by platform:native-id, such as salesOrder."`
	asking
}

// find gives the record's path.
func (c naming) find(ctx binding, s screen) (string, error) {
	if p, id, ok := strings.Cut(c.Record, ":"); ok {
		var found map[string]string
		quiet := c.asking
		quiet.JSON = false
		if _, err := quiet.get(ctx, s, "/v1/links/"+url.PathEscape(p)+"/"+url.PathEscape(id)+"?object="+url.QueryEscape(c.Object), &found); err != nil {
			return "", err
		}
		c.Record = found["record"]
	}
	return recordPath(c.Record)
}

func recordPath(id string) (string, error) {
	if err := record.ID(id).Validate(); err != nil {
		return "", fmt.Errorf("%q is no record id: want entity/key, such as order/k3jq7m2xw5t6zr2a", id)
	}
	entity, key, _ := strings.Cut(id, "/")
	return "/v1/records/" + url.PathEscape(entity) + "/" + url.PathEscape(key), nil
}
