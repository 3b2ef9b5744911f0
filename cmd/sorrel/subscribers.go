package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/event"
	"sorrel/shared/flow/publish"
	"sorrel/shared/record"
)

type subscribersCommand struct {
	List   subscribersList   `cmd:"" default:"withargs" help:"Who is told, and what they were not told yet (default)."`
	Replay subscribersReplay `cmd:"" help:"Have a subscriber told again: say how much that is, or do it."`
}

type subscribersList struct {
	asking
}

// Run lists subscribers.
func (c subscribersList) Run(ctx binding, s screen) error {
	var all []publish.Listed
	if done, err := c.get(ctx, s, "/v1/subscribers", &all); done || err != nil {
		return err
	}
	if len(all) == 0 {
		s.printf("no subscribers: subscribers.yaml names none\n")
		return nil
	}
	var rows [][]string
	for _, l := range all {
		oldest := "-"
		if l.Oldest != nil {
			oldest = ago(time.Since(*l.Oldest))
		}
		last := l.LastTold
		if last == "" {
			last = "never"
		}
		rows = append(rows, []string{l.Name, l.To, fmt.Sprint(l.Waiting), oldest, last, strings.Join(append(l.Entities, l.Events...), " ")})
	}
	s.table([]string{"subscriber", "to", "waiting", "oldest", "last told", "of"}, rows)
	return nil
}

type subscribersReplay struct {
	Name   string    `arg:"" help:"Subscriber."`
	Since  string    `help:"What happened at or after this time (RFC 3339), or this long ago, such as 2h."`
	Entity string    `help:"Records of this entity."`
	Record record.ID `help:"This record."`
	Do     bool      `name:"run" help:"Do it. Without, nothing is done."`
	acting
}

// Validate makes it a usage error to say nothing, or a time that is none.
func (c subscribersReplay) Validate() error {
	if c.Since+c.Entity+string(c.Record) == "" {
		return fmt.Errorf("say what to tell again: --since, --entity or --record")
	}
	_, err := instant("--since", c.Since, time.Time{})
	return err
}

// Run counts, or has it told again. A server that ran out of time is asked to go on.
func (c subscribersReplay) Run(ctx binding, s screen) error {
	since, err := instant("--since", c.Since, time.Now())
	if err != nil {
		return err
	}
	body := publish.Again{Since: since, Entity: c.Entity, Record: c.Record, Run: c.Do}
	path := "/v1/subscribers/" + url.PathEscape(c.Name) + "/replays"
	var sum publish.Counted
	quiet := c.acting // what is printed is the sum
	quiet.JSON = false
	for {
		var part publish.Counted
		if _, err := quiet.ask(ctx, s, question{method: http.MethodPost, path: path, as: c.As, body: body, patient: true}, &part); err != nil {
			return err
		}
		sum.Subscriber, sum.Records, sum.Events, sum.Due = part.Subscriber, sum.Records+part.Records, sum.Events+part.Events, sum.Due+part.Due
		if part.Next == nil {
			break
		}
		body.After = *part.Next
	}
	if c.JSON {
		return s.json(sum)
	}
	s.printf("%d event(s) of %d record(s)\n", sum.Events, sum.Records)
	switch {
	case c.Do:
		s.printf("%d record(s) became due for %s; it is told in the background, behind what is new\n", sum.Due, sum.Subscriber)
	case sum.Events > 0:
		s.printf("nothing is done yet; say the same with --run\n")
	}
	return nil
}

type schemasCommand struct {
	Config string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Type   string `arg:"" optional:"" help:"Only this type of event."`
}

// Run prints JSON Schemas.
func (c schemasCommand) Run(s screen) error {
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	all, err := event.Schemas(set)
	if err != nil {
		return err
	}
	if c.Type == "" {
		return s.json(all)
	}
	for _, one := range all {
		if one.Type == c.Type {
			return s.json(one.Schema)
		}
	}
	return fmt.Errorf("no type of event is called %.60q: sorrel schemas without a type prints all; business events have one schema, %s", c.Type, event.Business)
}
