package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud/cliconfig"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/trigger"
)

type deadlettersCommand struct {
	List    deadlettersList    `cmd:"" default:"withargs" help:"What was given up, and why (default)."`
	Show    deadlettersShow    `cmd:"" help:"One dead letter; the values in its payload are masked."`
	Redrive deadlettersRedrive `cmd:"" help:"Send letters to where they came from. It is safe in any order and more than once."`
	Discard deadlettersDiscard `cmd:"" help:"Take a letter away for good, for a reason."`
}

// lettersAt is acting where queues are reached, too.
type lettersAt struct {
	acting
	Stack string `help:"With --table: the name of the stack, which its queues are named after." group:"A deployed stack"`
}

// Validate makes it a usage error to name one of the two.
func (a lettersAt) Validate() error {
	if (a.Table == "") != (a.Stack == "") {
		return errors.New("dead letters lie in queues: give --table and --stack, or neither")
	}
	return nil
}

// ask asks a running process, or a server of this process's own over a deployed stack. Letters of SQS are received, which
// takes as long as it takes.
func (a lettersAt) ask(ctx context.Context, s screen, q question, out any) (bool, error) {
	q.as, q.patient = a.As, true
	to := a.asking
	if a.Stack != "" {
		account, err := cliconfig.Open(ctx, a.Profile, a.Region, os.Getenv("AWS_ENDPOINT_URL"))
		if err != nil {
			return false, err
		}
		set, err := boot.LoadConfig("")
		if err != nil {
			return false, err
		}
		w, err := boot.Reading(account, a.Table, set)
		if err != nil {
			return false, err
		}
		if err := w.Reach(ctx, account, a.Stack); err != nil {
			return false, err
		}
		address, stop, err := serve(trigger.Desk{Config: set, Ask: w.Operate(), Act: w.Steward(), Once: w.Once(), Again: w.Replay(), Compare: w.Reconcile(), Runs: w.Workflow(), Tell: w.Publish(), Dead: w.DeadLetters(), Who: trigger.Trusted(set), Telemetry: w.Telemetry})
		if err != nil {
			return false, err
		}
		defer stop()
		to.URL, to.Table = address, ""
	}
	return to.ask(ctx, s, q, out)
}

type deadlettersList struct {
	Queue string `help:"Only of this queue, such as inbound or outbound-zendesk."`
	Class string `enum:",poison,failing,overtaken" default:"" help:"Only these: poison cannot be read; failing was tried and given up; overtaken would do nothing."`
	lettersAt
}

// Run lists dead letters.
func (c deadlettersList) Run(ctx binding, s screen) error {
	path := "/v1/deadletters?" + url.Values{"queue": {c.Queue}, "class": {c.Class}}.Encode()
	var l deadletters.Listing
	if done, err := c.ask(ctx, s, question{method: http.MethodGet, path: path}, &l); done || err != nil {
		return err
	}
	var rows [][]string
	for _, x := range l.Letters {
		rows = append(rows, []string{x.ID, x.Class, ago(time.Since(x.Since)), named(x)})
	}
	s.table([]string{"letter", "class", "age", "about"}, rows)
	for _, q := range l.Queues {
		if q.Waiting+q.InFlight > q.Shown {
			s.printf("%s has %d, %d of them in somebody's hands; %d could be seen\n", q.Queue, q.Waiting+q.InFlight, q.InFlight, q.Shown)
		}
	}
	if len(rows) == 0 {
		s.printf("no dead letters\n")
	}
	return nil
}

// ago is a time past in one unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// named is what a letter is about.
func named(x deadletters.Letter) string {
	switch {
	case x.Native != "":
		return x.Native
	case x.Record != "":
		return x.Platform + " " + string(x.Record)
	}
	return x.Queue
}

type deadlettersShow struct {
	ID      string `arg:"" help:"Dead letter."`
	Payload bool   `help:"The body as it is, personal data and all. You must be somebody."`
	lettersAt
}

// Run shows one dead letter.
func (c deadlettersShow) Run(ctx binding, s screen) error {
	path := fmt.Sprintf("/v1/deadletters/%s?payload=%t", url.PathEscape(c.ID), c.Payload)
	var x deadletters.Letter
	if done, err := c.ask(ctx, s, question{method: http.MethodGet, path: path}, &x); done || err != nil {
		return err
	}
	s.printf("%s  %s  %s\n", x.ID, s.paint(amber, x.Class), x.Queue)
	s.printf("    %s\n", x.Why)
	about := [][2]string{
		{"about", named(x)}, {"record", string(x.Record)}, {"source", x.Source}, {"version", stamp(x.Version)}, {"received", stamp(x.Received)},
		{"given up", stamp(x.Since)}, {"correlation id", x.Trace}, {"bytes", strconv.Itoa(x.Bytes)}, {"sha256", x.Digest},
	}
	if x.Case != nil {
		about = append(about, [2]string{"exception", x.Case.ID + "  " + x.Case.Type + "  " + x.Case.Status}, [2]string{"remedy", x.Case.Remedy})
	}
	for _, line := range about {
		if line[1] != "" {
			s.printf("    %-14s %s\n", line[0], line[1])
		}
	}
	switch {
	case c.Payload:
		s.printf("%s\n", x.Body)
	case x.Payload != nil:
		return s.json(x.Payload)
	}
	return nil
}

type deadlettersRedrive struct {
	IDs   []string `arg:"" optional:"" name:"id" help:"Dead letters."`
	All   bool     `help:"All but poison, of which a redrive would make nothing else."`
	Queue string   `help:"With --all: only of this queue."`
	Class string   `enum:",failing,overtaken" default:"" help:"With --all: only these."`
	lettersAt
}

// Validate makes it a usage error not to say which.
func (c deadlettersRedrive) Validate() error {
	if c.All == (len(c.IDs) > 0) || !c.All && c.Queue+c.Class != "" {
		return errors.New("name dead letters, or give --all, perhaps with --queue and --class")
	}
	return c.lettersAt.Validate()
}

// Run redrives.
func (c deadlettersRedrive) Run(ctx binding, s screen) error {
	body := struct {
		Do string `json:"action"`
		deadletters.Choice
	}{"redrive", deadletters.Choice{IDs: c.IDs, All: c.All, Filter: deadletters.Filter{Queue: c.Queue, Class: c.Class}}}
	var did deadletters.Redriven
	if done, err := c.ask(ctx, s, question{method: http.MethodPost, path: "/v1/deadletters", body: body}, &did); done || err != nil {
		return err
	}
	s.printf("%d redriven, %d left\n", len(did.Redriven), did.Left)
	if len(did.Poison) > 0 {
		s.printf("poison, left where it is: %s\n", strings.Join(did.Poison, " "))
	}
	if len(did.Missing) > 0 {
		return fmt.Errorf("not there, or in somebody's hands: %s", strings.Join(did.Missing, " "))
	}
	return nil
}

type deadlettersDiscard struct {
	ID     string `arg:"" help:"Dead letter."`
	Reason string `required:"" help:"Why it is not needed."`
	lettersAt
}

// Run discards.
func (c deadlettersDiscard) Run(ctx binding, s screen) error {
	body := map[string]string{"action": "discard", "reason": c.Reason}
	var did deadletters.Discarded
	if done, err := c.ask(ctx, s, question{method: http.MethodPost, path: "/v1/deadletters/" + url.PathEscape(c.ID), body: body}, &did); done || err != nil {
		return err
	}
	s.printf("%s is discarded; the audit log has sha256 %s\n", did.Letter.ID, did.Letter.Digest)
	return nil
}
