package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/record"
)

// The stored form of a state. Cells that came with one observation share its version and correlation id, and
// are stored as one group: that is both small and readable in the AWS console.
type storedState struct {
	V      int                    `json:"v"`
	ID     record.ID              `json:"id"`
	Seq    int64                  `json:"seq,omitempty"`
	Policy string                 `json:"policy,omitempty"`
	Views  []storedView           `json:"views,omitempty"`
	Golden []storedGolden         `json:"golden,omitempty"`
	Held   map[string]record.Hold `json:"held,omitempty"`
	Due    map[string]Due         `json:"due,omitempty"`
	Open   []string               `json:"open,omitempty"`
}

type storedView struct {
	Platform string        `json:"platform"`
	Object   string        `json:"object"`
	ID       string        `json:"id"`
	External bool          `json:"external,omitempty"`
	Born     storedVersion `json:"born,omitzero"`
	Died     storedVersion `json:"died,omitzero"`
	Heard    storedVersion `json:"heard,omitzero"`
	Said     []storedSaid  `json:"said,omitempty"`
	Wrote    []storedWrote `json:"wrote,omitempty"`
	Doubts   []storedDoubt `json:"doubts,omitempty"`
}

// storedVersion is [RFC 3339 time, sequence, final].
type storedVersion struct {
	At    string `json:"at,omitempty"`
	Seq   int64  `json:"seq,omitempty"`
	Final bool   `json:"final,omitempty"`
}

type fields map[string]record.Value

type storedSaid struct {
	storedVersion
	Trace  string `json:"trace,omitempty"`
	Ours   bool   `json:"ours,omitempty"`
	Tied   bool   `json:"tied,omitempty"`
	Fields fields `json:"fields"`
}

type storedWrote struct {
	storedVersion        // the base
	When          string `json:"when"`
	Trace         string `json:"trace,omitempty"`
	Fields        fields `json:"fields"`

	Over map[string]storedOver `json:"over,omitempty"`
}

type storedOver struct {
	Value record.Value `json:"value"`
	Said  time.Time    `json:"said"`
	Trace string       `json:"trace,omitempty"`
}

type storedDoubt struct {
	Field string `json:"field"`
	record.Doubt
}

type storedGolden struct {
	storedVersion
	From   string `json:"from"`
	Trace  string `json:"trace,omitempty"`
	Rule   string `json:"rule"`
	Where  string `json:"where,omitempty"`
	Fields fields `json:"fields"`
}

func packVersion(v record.Version) storedVersion {
	s := storedVersion{Seq: v.Seq, Final: v.Final}
	if !v.At.IsZero() {
		s.At = v.At.UTC().Format(time.RFC3339Nano)
	}
	return s
}

func (s storedVersion) unpack() (record.Version, error) {
	v := record.Version{Seq: s.Seq, Final: s.Final}
	if s.At == "" {
		return v, nil
	}
	at, err := time.Parse(time.RFC3339Nano, s.At)
	v.At = at.UTC()
	return v, err
}

// group collects fields under equal heads, in a stable order.
type group[H comparable] struct {
	heads []H
	at    map[H]fields
}

func (g *group[H]) add(h H, field string, v record.Value) {
	if g.at == nil {
		g.at = map[H]fields{}
	}
	if g.at[h] == nil {
		g.heads = append(g.heads, h)
		g.at[h] = fields{}
	}
	g.at[h][field] = v
}

func encode(s State) ([]byte, error) {
	out := storedState{V: 1, ID: s.Record.ID, Seq: s.Record.Seq, Policy: s.Record.Policy, Held: s.Record.Held, Due: s.Due, Open: s.Open}
	for _, p := range slices.Sorted(maps.Keys(s.Record.Views)) {
		v := s.Record.Views[p]
		sv := storedView{Platform: p, Object: v.Object, ID: v.ID, External: v.External,
			Born: packVersion(v.Born), Died: packVersion(v.Died), Heard: packVersion(v.Heard)}
		type saidHead struct {
			storedVersion
			trace      string
			ours, tied bool
		}
		var said group[saidHead]
		for _, f := range slices.Sorted(maps.Keys(v.Said)) {
			c := v.Said[f]
			if !c.Value.IsAbsent() {
				said.add(saidHead{packVersion(c.Version), c.Trace, c.Ours, c.Tied}, f, c.Value)
			}
			if c.Doubt != nil {
				sv.Doubts = append(sv.Doubts, storedDoubt{f, *c.Doubt})
			}
		}
		for _, h := range said.heads {
			sv.Said = append(sv.Said, storedSaid{h.storedVersion, h.trace, h.ours, h.tied, said.at[h]})
		}
		type wroteHead struct {
			storedVersion
			when, trace string
		}
		var wrote group[wroteHead]
		for _, f := range slices.Sorted(maps.Keys(v.Wrote)) {
			w := v.Wrote[f]
			wrote.add(wroteHead{packVersion(w.Base), w.When.UTC().Format(time.RFC3339Nano), w.Trace}, f, w.Value)
		}
		for _, h := range wrote.heads {
			group := storedWrote{storedVersion: h.storedVersion, When: h.when, Trace: h.trace, Fields: wrote.at[h]}
			for f := range group.Fields {
				if over := v.Wrote[f].Over; !over.Value.IsAbsent() {
					if group.Over == nil {
						group.Over = map[string]storedOver{}
					}
					group.Over[f] = storedOver(over)
				}
			}
			sv.Wrote = append(sv.Wrote, group)
		}
		out.Views = append(out.Views, sv)
	}
	type goldenHead struct {
		storedVersion
		from, trace, rule, where string
	}
	var golden group[goldenHead]
	for _, f := range slices.Sorted(maps.Keys(s.Record.Golden)) {
		g := s.Record.Golden[f]
		golden.add(goldenHead{packVersion(g.Version), g.From, g.Trace, g.Rule, g.At}, f, g.Value)
	}
	for _, h := range golden.heads {
		out.Golden = append(out.Golden, storedGolden{h.storedVersion, h.from, h.trace, h.rule, h.where, golden.at[h]})
	}
	return json.Marshal(out)
}

func decode(b []byte) (State, error) {
	var in storedState
	if err := json.Unmarshal(b, &in); err != nil {
		return State{}, fmt.Errorf("stored state: %w", err)
	}
	if in.V != 1 {
		return State{}, fmt.Errorf("stored state has schema version %d, this program knows 1", in.V)
	}
	s := State{Due: in.Due, Open: in.Open, Record: record.Record{ID: in.ID, Seq: in.Seq, Policy: in.Policy, Held: in.Held,
		Views: make(map[string]record.View, len(in.Views)), Golden: map[string]record.Golden{}}}
	var bad error
	version := func(v storedVersion) record.Version {
		out, err := v.unpack()
		if err != nil {
			bad = err
		}
		return out
	}
	for _, sv := range in.Views {
		v := record.View{Ref: record.Ref{Platform: sv.Platform, Object: sv.Object, ID: sv.ID}, External: sv.External,
			Born: version(sv.Born), Died: version(sv.Died), Heard: version(sv.Heard), Said: map[string]record.Cell{}}
		for _, g := range sv.Said {
			at := version(g.storedVersion)
			for f, value := range g.Fields {
				v.Said[f] = record.Cell{Value: value, Version: at, Trace: g.Trace, Ours: g.Ours, Tied: g.Tied}
			}
		}
		for _, d := range sv.Doubts {
			c := v.Said[d.Field]
			c.Doubt = &d.Doubt
			v.Said[d.Field] = c
		}
		if len(sv.Wrote) > 0 {
			v.Wrote = map[string]record.Wrote{}
		}
		for _, g := range sv.Wrote {
			base := version(g.storedVersion)
			when, err := time.Parse(time.RFC3339Nano, g.When)
			if err != nil {
				bad = err
			}
			for f, value := range g.Fields {
				v.Wrote[f] = record.Wrote{Value: value, Base: base, When: when, Trace: g.Trace, Over: record.Over(g.Over[f])}
			}
		}
		s.Record.Views[sv.Platform] = v
	}
	for _, g := range in.Golden {
		at := version(g.storedVersion)
		for f, value := range g.Fields {
			s.Record.Golden[f] = record.Golden{Value: value, From: g.From, Version: at, Trace: g.Trace, Rule: g.Rule, At: g.Where}
		}
	}
	if bad != nil {
		return State{}, fmt.Errorf("stored state %s: %w", in.ID, bad)
	}
	return s, nil
}

// UnmarshalJSON reads a field map without going through map[string]any.
func (f *fields) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*f = make(fields, len(raw))
	for k, v := range raw {
		if plain, ok := plainString(v); ok {
			(*f)[k] = record.TextValue(plain)
			continue
		}
		parsed, err := record.ParseJSON(v)
		if err != nil {
			return fmt.Errorf("field %s: %w", k, err)
		}
		(*f)[k] = parsed
	}
	return nil
}

// plainString reads the commonest form, a JSON string without escapes, without a decoder.
func plainString(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	s := string(raw[1 : len(raw)-1])
	return s, !strings.Contains(s, `\`)
}
