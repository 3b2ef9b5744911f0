package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sorrel/shared/flow/operate"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// acting is shared by the commands that change something.
type acting struct {
	asking
	As string `env:"SORREL_PERSON" help:"Who you are: a name of people.yaml. It is taken on trust here, with --table as well."`
}

type proposalsCommand struct {
	List    proposalsList    `cmd:"" default:"withargs" help:"What waits for a decision (default)."`
	Show    proposalsShow    `cmd:"" help:"One proposal, with what it would write."`
	Approve proposalsApprove `cmd:"" help:"The change is written to the field's owner."`
	Reject  proposalsReject  `cmd:"" help:"The platform that asks is put back."`
}

type proposalsList struct {
	All bool `help:"Decided and expired ones too."`
	asking
}

// Run lists proposals.
func (c proposalsList) Run(ctx binding, s screen) error {
	var all []ledger.ProposalEntry
	if done, err := c.get(ctx, s, fmt.Sprintf("/v1/proposals?all=%t", c.All), &all); done || err != nil {
		return err
	}
	if len(all) == 0 {
		s.printf("nothing to decide\n")
		return nil
	}
	for _, p := range all {
		s.printf("%s  %s  %s, by %s%s\n", p.ID, s.paint(amber, p.Status), p.Record, p.Platform, s.left(p.Proposal))
		for _, f := range slices.Sorted(maps.Keys(p.Fields)) {
			s.printf("    %s\n", cut(fmt.Sprintf("%s: %s → %s", f, shown(p.Fields[f].Before), p.Fields[f].After), 76))
		}
	}
	return nil
}

// left says until when an open proposal can be decided.
func (s screen) left(p record.Proposal) string {
	if p.Status != record.ProposalOpen || p.Expires.IsZero() {
		return ""
	}
	return ", until " + p.Expires.Local().Format("2 Jan 15:04")
}

// shown is a value for people; nothing is a dash.
func shown(v record.Value) string {
	if v.IsAbsent() || v.IsNull() {
		return "–"
	}
	return v.String()
}

type proposalsShow struct {
	ID string `arg:"" help:"Proposal."`
	asking
}

// Run shows one proposal.
func (c proposalsShow) Run(ctx binding, s screen) error {
	var p operate.Proposal
	if done, err := c.get(ctx, s, "/v1/proposals/"+url.PathEscape(c.ID), &p); done || err != nil {
		return err
	}
	s.printf("%s\n", s.paint(bold, fmt.Sprintf("proposal %s on %s", p.ID, p.Record)))
	s.printf("  %s, revision %d, opened %s%s\n", s.paint(amber, p.Status), p.Revision, p.Opened.Format(time.RFC3339), s.left(p.Proposal))
	if p.Note != "" {
		s.printf("  %s\n", p.Note)
	}
	if p.By != "" {
		s.printf("  decided by %s at %s %s\n", p.By, p.Decided.Format(time.RFC3339), p.Comment)
	}
	who := p.Person
	if who == "" && p.Actor != "" {
		who = "user " + p.Actor
	}
	if who == "" {
		who = "somebody"
	}
	s.printf("  asked by %s on %s (correlation id %s)\n", who, p.Platform, p.Trace)
	for _, f := range slices.Sorted(maps.Keys(p.Fields)) {
		a := p.Fields[f]
		s.printf("  %s\n    %-10s says %s\n    %-10s asks %s\n", s.paint(bold, f), a.Owner, shown(a.Before), p.Platform, shown(a.After))
	}
	s.printf("  needs a decision: %s, %s\n", p.Needs.Rule, p.Needs.At)
	s.printf("  by %s, %s%s\n", strings.Join(p.Needs.Approvers, " or "), p.Needs.Approval, map[bool]string{true: "; not by whoever asks"}[p.Needs.Distinct])
	if len(p.Needs.People) > 0 {
		s.printf("  who may: %s\n", strings.Join(p.Needs.People, ", "))
	}
	for _, platform := range slices.Sorted(maps.Keys(p.Impact)) {
		s.printf("  approved, it writes to %s\n", platform)
		for _, f := range slices.Sorted(maps.Keys(p.Impact[platform])) {
			s.printf("    %s = %s\n", f, shown(p.Impact[platform][f]))
		}
	}
	return nil
}

// verdict is a decision about a proposal.
type verdict struct {
	ID       string `arg:"" help:"Proposal."`
	Revision int    `help:"The revision that you saw: refused if what is asked for has changed since."`
	Comment  string `help:"Why."`
	acting
}

func (c verdict) decide(ctx binding, s screen, decision string) error {
	in := struct {
		Decision string `json:"decision"`
		Revision int    `json:"revision,omitempty"`
		Comment  string `json:"comment,omitempty"`
	}{decision, c.Revision, c.Comment}
	var p ledger.ProposalEntry
	if done, err := c.ask(ctx, s, question{method: http.MethodPost, path: "/v1/proposals/" + url.PathEscape(c.ID), as: c.As, body: in}, &p); done || err != nil {
		return err
	}
	s.printf("%s  %s  %s, by %s\n", p.ID, s.paint(green, p.Status), p.Record, p.By)
	return nil
}

type proposalsApprove struct{ verdict }

// Run approves.
func (c proposalsApprove) Run(ctx binding, s screen) error { return c.decide(ctx, s, "approve") }

type proposalsReject struct{ verdict }

// Run rejects.
func (c proposalsReject) Run(ctx binding, s screen) error { return c.decide(ctx, s, "reject") }
