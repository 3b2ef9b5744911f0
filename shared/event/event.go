// Package event makes CloudEvents of the audit log: what subscribers are told of changes, merges and business events.
//
// An event is a function of a line of the log, of the subscriber's configuration and of the record. Its id is that of the
// line, so an event that is sent again has the id that it had. It tells golden fields as they were after that line, however
// late it is sent. Native ids, and facts about other records, are as they are when it is sent.
//
// The format is CloudEvents 1.0 in JSON: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md,
// with the extension sequence: https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md
package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// Event is one CloudEvent.
type Event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"` // <record>/<line of its log>/<number in that line>
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     record.ID `json:"subject"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Trace       string    `json:"correlationid,omitempty"`
	Sequence    string    `json:"sequence"` // orders the events of one subject, as text; there are gaps
	Data        Data      `json:"data"`
}

// Data is what an event tells. It never holds a field that the subscriber may not learn of.
type Data struct {
	Record   record.ID         `json:"record"`
	Entity   string            `json:"entity"`
	Sequence int64             `json:"sequence"` // line of the record's log
	Changes  []Change          `json:"changes,omitempty"`
	From     record.ID         `json:"from,omitempty"` // was merged into Into, or taken out of it
	Into     record.ID         `json:"into,omitempty"`
	About    record.ID         `json:"about,omitempty"` // of a business event: the record that it is about
	Detail   map[string]string `json:"detail,omitempty"`
	Golden   map[string]any    `json:"golden,omitempty"` // fields that have a value
	Facts    map[string]any    `json:"facts,omitempty"`  // of records that it refers to
	Native   map[string]string `json:"native,omitempty"` // native ids by platform
	Policy   string            `json:"policyVersion,omitempty"`
	Read     string            `json:"read,omitempty"` // it was too large: what is left out stands there
}

// Change is one changed field.
type Change struct {
	Field  string `json:"field"`
	Before any    `json:"before"`
	After  any    `json:"after"`
	From   string `json:"from"`
	Rule   string `json:"rule"`
}

// The kinds of events about records. Business events are named by what the workflow says.
const (
	Created  = "created"
	Changed  = "changed"
	Merged   = "merged"
	Unmerged = "unmerged"
)

// Type names the events of a kind about an entity.
func Type(entity, kind string, version int) string {
	return fmt.Sprintf("sorrel.%s.%s.v%d", entity, kind, version)
}

// What is the whole name of a business event: what the core itself says of runs has no entity before it.
func What(said string) string {
	if !strings.Contains(said, ".") {
		return "workflow." + said
	}
	return said
}

// Wants reports whether a subscriber is told anything of a line that has these in it.
func Wants(s policy.Subscriber, entity string, changes []record.Change, events []record.Event, says []workflow.Saying) bool {
	return slices.ContainsFunc(changes, func(c record.Change) bool { return told(c.Before.Any(), c.After.Any()) && s.Learns(entity, c.Field) }) ||
		slices.ContainsFunc(events, func(e record.Event) bool { return s.Follows(entity) && merger(e) != "" }) ||
		slices.ContainsFunc(says, func(w workflow.Saying) bool { return s.Hears(What(w.What)) })
}

// told reports whether a change is one for subscribers: that a field is now known to be empty is none.
func told(before, after any) bool { return before != nil || after != nil }

// merger is the kind of event that a line of the log tells of who is one: "" if it does not.
func merger(e record.Event) string {
	if e.Action == Merged || e.Action == Unmerged {
		return e.Action
	}
	return ""
}

// Maker makes events for one subscriber.
type Maker struct {
	Source     string // of all events
	Config     *policy.Set
	Subscriber policy.Subscriber
}

// Make lists what the subscriber is told of a record's lines, which are the last ones of its log, in order. facts are what
// it is told of other records.
func (m Maker) Make(r record.Record, lines []ledger.LogEntry, facts map[string]any) []Event {
	golden := map[string]any{}
	for f, g := range r.Golden {
		golden[f] = g.Value.Any()
	}
	var out []Event
	for _, line := range slices.Backward(lines) {
		of := m.line(r, line)
		for i := range of {
			of[i].Data.Golden, of[i].Data.Facts, of[i].Data.Native = m.learned(r.ID.Entity(), golden), facts, natives(r)
		}
		out = append(of, out...)
		for _, c := range line.Changes {
			golden[c.Field] = c.Before
		}
	}
	return out
}

// Count is how many events Make makes of lines.
func (m Maker) Count(r record.ID, lines []ledger.LogEntry) int {
	n := 0
	for _, line := range lines {
		n += len(m.line(record.Record{ID: r}, line))
	}
	return n
}

// line lists the events of one line, without what the record alone knows.
func (m Maker) line(r record.Record, line ledger.LogEntry) []Event {
	entity := r.ID.Entity()
	version := 1
	if c := m.Config.Contract(entity); c != nil {
		version = c.Version
	}
	var out []Event
	add := func(i int, kind string, d Data) {
		d.Record, d.Entity, d.Sequence, d.Policy = r.ID, entity, line.Seq, line.Policy
		out = append(out, Event{SpecVersion: "1.0", ID: fmt.Sprintf("%s/%d/%d", r.ID, line.Seq, i), Source: m.Source, Type: kind, Subject: r.ID, Time: line.At.UTC(),
			ContentType: "application/json", Trace: line.Trace, Sequence: fmt.Sprintf("%012d.%03d", line.Seq, i), Data: d})
	}
	var changes []Change
	for _, c := range line.Changes {
		if told(c.Before, c.After) && m.Subscriber.Learns(entity, c.Field) {
			changes = append(changes, Change{c.Field, c.Before, c.After, c.From, c.Rule})
		}
	}
	if len(changes) > 0 {
		kind := Changed
		if line.Seq == 1 {
			kind = Created
		}
		add(0, Type(entity, kind, version), Data{Changes: changes})
	}
	for i, e := range line.Events {
		kind := merger(e)
		if kind == "" || !m.Subscriber.Follows(entity) {
			continue
		}
		d := Data{}
		for _, between := range []string{" into ", " out of "} { // as govern says it
			if from, into, is := strings.Cut(e.Detail, between); is {
				d.From, d.Into = record.ID(from), record.ID(into)
			}
		}
		add(1+i, Type(entity, kind, version), d)
	}
	for i, s := range line.Says {
		if what := What(s.What); m.Subscriber.Hears(what) {
			add(1+len(line.Events)+i, "sorrel."+what+".v1", Data{About: s.Record, Detail: s.Detail})
		}
	}
	return out
}

// learned are the fields with a value that the subscriber may learn of.
func (m Maker) learned(entity string, golden map[string]any) map[string]any {
	out := map[string]any{}
	for f, v := range golden {
		if v != nil && m.Subscriber.Learns(entity, f) {
			out[f] = v
		}
	}
	return out
}

func natives(r record.Record) map[string]string {
	out := map[string]string{}
	for p, v := range r.Views {
		if v.ID != "" && !v.Gone() {
			out[p] = v.ID
		}
	}
	return out
}

// JSON is the event in at most max bytes. What is too large is left out, the least telling first, and Read says where it
// stands.
func (e Event) JSON(max int) ([]byte, error) {
	shorter := []func(){
		func() {},
		func() { e.Data.Golden, e.Data.Facts, e.Data.Read = nil, nil, "/v1/records/"+string(e.Subject) },
		func() {
			e.Data.Changes = slices.Clone(e.Data.Changes)
			for i := range e.Data.Changes {
				e.Data.Changes[i].Before, e.Data.Changes[i].After = nil, nil
			}
		},
		func() { e.Data.Detail = nil },
	}
	for _, shorten := range shorter {
		shorten()
		b, err := json.Marshal(e)
		if err != nil || len(b) <= max {
			return b, err
		}
	}
	return nil, fmt.Errorf("event %s does not fit into %d bytes", e.ID, max)
}

// String tells the event to people, in one line.
func (e Event) String() string {
	var tells []string
	for _, c := range e.Data.Changes {
		tells = append(tells, fmt.Sprintf("%s: %s → %s (%s)", c.Field, plain(c.Before), plain(c.After), c.From))
	}
	if e.Data.From != "" {
		tells = append(tells, fmt.Sprintf("%s and %s", e.Data.From, e.Data.Into))
	}
	if e.Data.About != "" && e.Data.About != e.Subject {
		tells = append(tells, "about "+string(e.Data.About))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Data.Detail)) {
		tells = append(tells, name+": "+e.Data.Detail[name])
	}
	kind := strings.TrimPrefix(e.Type, "sorrel.")
	return fmt.Sprintf("%s  %s  %s  %s", e.Time.Format(time.RFC3339), kind, e.Subject, strings.Join(tells, ", "))
}

func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return v
	}
	b, _ := json.Marshal(v) // it was read from JSON
	return string(b)
}
