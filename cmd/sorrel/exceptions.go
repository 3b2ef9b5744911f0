package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

type exceptionsCommand struct {
	List      exceptionsList `cmd:"" default:"withargs" help:"What a person must look at (default)."`
	Show      exceptionsShow `cmd:"" help:"One exception."`
	Ack       actAcknowledge `cmd:"" help:"Somebody has seen it."`
	Assign    actAssign      `cmd:"" help:"Somebody takes care of it."`
	Ignore    actIgnore      `cmd:"" help:"Nothing needs to be done, for a reason."`
	Reopen    actReopen      `cmd:"" help:"It has to be looked at again."`
	Retry     actRetry       `cmd:"" help:"Try now what was refused; read again what could not be placed."`
	Edit      actEdit        `cmd:"" help:"Set the field to a value that wins over every rule."`
	Accept    actAccept      `cmd:"" help:"What a platform says becomes golden."`
	Keep      actKeep        `cmd:"" help:"The golden value stays; who deviates is put back."`
	Link      actLink        `cmd:"" help:"The native record is this record."`
	KeepApart actKeepApart   `cmd:"" name:"keep-apart" help:"Two records that look alike are different."`
	Merge     actMerge       `cmd:"" help:"Two records that look alike are one."`
}

type exceptionsList struct {
	All      bool   `help:"Ignored and resolved ones too."`
	Group    string `enum:",cause" default:"" help:"cause: how many of each."`
	Type     string `help:"Only of this type."`
	Platform string `help:"Only on this platform."`
	Record   string `help:"Only about this record."`
	Assignee string `help:"Only assigned to this person."`
	Field    string `help:"Only about this field."`
	asking
}

// Run lists exceptions.
func (c exceptionsList) Run(ctx binding, s screen) error {
	q := url.Values{"all": {strconv.FormatBool(c.All)}}
	for name, v := range map[string]string{"group": c.Group, "type": c.Type, "platform": c.Platform, "record": c.Record, "assignee": c.Assignee, "field": c.Field} {
		if v != "" {
			q.Set(name, v)
		}
	}
	path := "/v1/exceptions?" + q.Encode()
	if c.Group != "" {
		var causes []operate.Cause
		if done, err := c.get(ctx, s, path, &causes); done || err != nil {
			return err
		}
		var rows [][]string
		for _, x := range causes {
			rows = append(rows, []string{fmt.Sprint(x.Count), x.Oldest.Local().Format("2 Jan 15:04"), strings.Join(x.Examples[:min(1, len(x.Examples))], ""), x.Cause})
		}
		s.table([]string{"n", "oldest", "such as", "cause"}, rows)
		return s.nothing(len(causes))
	}
	var list []ledger.Exception
	if done, err := c.get(ctx, s, path, &list); done || err != nil {
		return err
	}
	for _, x := range list {
		s.exception(x)
	}
	return s.nothing(len(list))
}

func (s screen) nothing(n int) error {
	if n == 0 {
		s.printf("nothing to look at\n")
	}
	return nil
}

func (s screen) exception(x ledger.Exception) {
	about := string(x.Record)
	if about == "" {
		about = x.Native
	}
	status := x.Status
	if x.Status == ledger.ExceptionAssigned {
		status += " to " + x.Assignee
	}
	s.printf("%s  %s  %s\n", x.ID, s.paint(amber, x.Type), status)
	for _, line := range []string{strings.Join(strings.Fields(about+" "+x.Platform+" "+x.Field), " "), x.Detail, x.Remedy} {
		if line != "" {
			s.printf("    %s\n", line)
		}
	}
}

type exceptionsShow struct {
	ID string `arg:"" help:"Exception."`
	asking
}

// Run shows one exception.
func (c exceptionsShow) Run(ctx binding, s screen) error {
	var x ledger.Exception
	if done, err := c.get(ctx, s, "/v1/exceptions/"+url.PathEscape(c.ID), &x); done || err != nil {
		return err
	}
	s.exception(x)
	for _, line := range [][2]string{
		{"other record", string(x.Other)}, {"assigned to", x.Assignee}, {"native record", x.Native}, {"vendor's code", x.Code}, {"last acted", x.By}, {"reason", x.Reason},
		{"correlation id", x.Trace}, {"first", stamp(x.First)}, {"last", stamp(x.Last)}, {"resolved", stamp(x.Resolved)},
	} {
		if line[1] != "" {
			s.printf("    %-14s %s\n", line[0], line[1])
		}
	}
	if x.Reopened > 0 {
		s.printf("    %-14s %d times\n", "came back", x.Reopened)
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// on is an action on one exception.
type on struct {
	ID string `arg:"" help:"Exception."`
	acting
}

// action is what the API takes; see steward.Action.
type action struct {
	Do       string    `json:"action"`
	Field    string    `json:"field,omitempty"`
	Platform string    `json:"platform,omitempty"`
	Record   record.ID `json:"record,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Assignee string    `json:"assignee,omitempty"`
	entered
}

func (c on) act(ctx binding, s screen, a action) error {
	return c.done(ctx, s, question{method: http.MethodPost, path: "/v1/exceptions/" + url.PathEscape(c.ID), body: a})
}

// done asks for something to be done, and says what was.
func (a acting) done(ctx binding, s screen, q question) error {
	q.as = a.As
	var did steward.Acted
	if printed, err := a.ask(ctx, s, q, &did); printed || err != nil {
		return err
	}
	about := did.Exception.ID
	if about == "" {
		about = string(did.Record)
	}
	s.printf("%s: %s\n", about, did.Done)
	return nil
}

type actAcknowledge struct{ on }

// Run acknowledges.
func (c actAcknowledge) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Acknowledge})
}

type actAssign struct {
	on
	Person string `arg:"" help:"A name of people.yaml."`
}

// Run assigns.
func (c actAssign) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Assign, Assignee: c.Person})
}

type actIgnore struct {
	on
	Reason string `required:"" help:"Why nothing needs to be done."`
}

// Run ignores.
func (c actIgnore) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Ignore, Reason: c.Reason})
}

type actReopen struct{ on }

// Run reopens.
func (c actReopen) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Reopen})
}

type actRetry struct{ on }

// Run tries again.
func (c actRetry) Run(ctx binding, s screen) error { return c.act(ctx, s, action{Do: steward.Retry}) }

// entry is a value as a person types it.
type entry struct {
	Value string `arg:"" optional:"" help:"The value, read as the field's type."`
	Clear bool   `help:"No value: the field is cleared."`
}

// entered is it as the API takes it.
type entered struct {
	Text  *string    `json:"text,omitempty"`
	Value *null      `json:"value,omitempty"`
	Until *time.Time `json:"until,omitempty"`
}

// null is JSON's.
type null struct{}

// MarshalJSON gives null.
func (*null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// Validate makes it a usage error to give neither or both.
func (e entry) Validate() error {
	if e.Clear == (e.Value != "") {
		return errors.New("give a value, or --clear for none")
	}
	return nil
}

func (e entry) entered() entered {
	if e.Clear {
		return entered{Value: &null{}}
	}
	return entered{Text: &e.Value}
}

// override is a value with an end.
type override struct {
	entry
	Until  string `help:"Its end: 2027-01-31, 2027-01-31T12:00:00Z, or from now 12h or 7d. Without, it ends when a platform says something new."`
	Reason string `help:"Why."`
}

// Validate makes it a usage error to give no value, or an end that is no time.
func (o override) Validate() error {
	if _, err := until(o.Until, time.Time{}); err != nil {
		return err
	}
	return o.entry.Validate()
}

func (o override) entered(now time.Time) (entered, error) {
	e := o.entry.entered()
	end, err := until(o.Until, now)
	if !end.IsZero() {
		e.Until = &end
	}
	return e, err
}

// until reads a time, or how long from now; nothing is no end.
func until(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		if n, err := strconv.Atoi(days); err == nil && n > 0 {
			return now.AddDate(0, 0, n).UTC(), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("--until: %q is no time: want 2027-01-31, 2027-01-31T12:00:00Z, 12h or 7d", text)
}

type actEdit struct {
	on
	override
	Field string `help:"The field, where the exception names none."`
}

// Run overrides the field.
func (c actEdit) Run(ctx binding, s screen) error {
	v, err := c.entered(time.Now())
	if err != nil {
		return err
	}
	return c.act(ctx, s, action{Do: steward.Edit, Field: c.Field, Reason: c.Reason, entered: v})
}

type actAccept struct {
	on
	Platform string `arg:"" optional:"" help:"The platform that is right, where the exception names none."`
	Field    string `help:"The field, where the exception names none."`
	Reason   string `help:"Why."`
}

// Run accepts a platform's value.
func (c actAccept) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Accept, Platform: c.Platform, Field: c.Field, Reason: c.Reason})
}

type actKeep struct {
	on
	Field  string `help:"The field, where the exception names none."`
	Reason string `help:"Why."`
}

// Run keeps the golden value.
func (c actKeep) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Keep, Field: c.Field, Reason: c.Reason})
}

type actLink struct {
	on
	Record string `arg:"" optional:"" help:"The record. For a possible duplicate, the one that survives; default is the older."`
	Reason string `help:"Why."`
}

// Run links.
func (c actLink) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Link, Record: record.ID(c.Record), Reason: c.Reason})
}

type actKeepApart struct {
	on
	Reason string `help:"Why."`
}

// Run tells two records apart.
func (c actKeepApart) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.KeepApart, Reason: c.Reason})
}

type actMerge struct {
	on
	Record string `arg:"" optional:"" help:"The record that survives; default is the older."`
	Reason string `help:"Why."`
}

// Run merges.
func (c actMerge) Run(ctx binding, s screen) error {
	return c.act(ctx, s, action{Do: steward.Merge, Record: record.ID(c.Record), Reason: c.Reason})
}
