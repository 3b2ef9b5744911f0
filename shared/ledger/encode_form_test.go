package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
	"sorrel/shared/record"
)

// The encoder written by hand must give byte for byte what encoding/json makes of the declared form.
func TestEncodeIsTheDeclaredForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		want, err := encodeByReflection(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := encode(s)
		if err != nil || string(got) != string(want) {
			t.Fatalf("got  %s (%v)\nwant %s", got, err, want)
		}
		slow, err := decodeByReflection(got)
		if err != nil {
			t.Fatal(err)
		}
		if fast, err := decode(got); err != nil || !reflect.DeepEqual(fast, slow) {
			t.Fatalf("got  %+v (%v)\nwant %+v", fast, err, slow)
		}
	})
}

func TestAbsentIsNotStored(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "order/1", Golden: map[string]record.Golden{"status": {From: "netsuite"}}}}
	if b, err := encode(s); err == nil {
		t.Errorf("stored as %s", b)
	}
}

func BenchmarkEncode(b *testing.B) {
	s := order()
	for _, f := range []struct {
		name   string
		encode func(State) ([]byte, error)
	}{{"by hand", encode}, {"by reflection", encodeByReflection}} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.encode(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	text, err := encode(order())
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range []struct {
		name   string
		decode func([]byte) (State, error)
	}{{"by hand", decode}, {"by reflection", decodeByReflection}} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.decode(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What only governed records have costs nothing where it is missing.
func TestPlainStateHasNoneOfTheRareMembers(t *testing.T) {
	t.Parallel()
	o := record.Observation{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}, Version: record.Version{At: epoch}, External: "order/1", Trace: "t1",
		Fields: map[string]record.Value{"status": record.TextValue("billed")}}
	v, _ := record.Observe(record.View{}, o)
	r, _ := record.Fold(record.Record{ID: "order/1", Views: map[string]record.View{"netsuite": v}}, rules(), on, epoch)
	b, err := encode(State{Record: r})
	const want = `{"v":1,"id":"order/1","seq":1,"policy":"v1","views":[{"platform":"netsuite","object":"salesOrder","id":"7","external":true,` +
		`"heard":{"at":"2026-11-02T08:00:00.123456789Z"},"said":[{"at":"2026-11-02T08:00:00.123456789Z","trace":"t1","fields":{"status":"billed"}}]}],` +
		`"golden":[{"at":"2026-11-02T08:00:00.123456789Z","from":"netsuite","trace":"t1","rule":"","where":"order.yaml:3:1","fields":{"status":"billed"}}]}`
	if err != nil || string(b) != want {
		t.Errorf("stored as\n%s (%v), want\n%s", b, err, want)
	}
}

// order is what most states look like: ten fields that the owner said, two copies that were written, and work that is due.
func order() State {
	s := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{}}, Log: LogHead{7, hash(nil)}}
	said := record.Observation{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}, Version: record.Version{At: epoch}, External: "order/1", Trace: "0123456789abcdef", Fields: map[string]record.Value{}}
	golden := map[string]record.Golden{}
	for i := range 10 {
		f := fmt.Sprint("field", i)
		said.Fields[f] = record.TextValue(fmt.Sprint("value ", i))
		golden[f] = record.Golden{Value: said.Fields[f], From: "netsuite", Version: said.Version, Trace: said.Trace, Rule: "owner netsuite", At: "order.yaml:3:1"}
	}
	s.Record.Views["netsuite"], _ = record.Observe(record.View{}, said)
	s.Record.Golden = golden
	for _, p := range []string{"salesforce", "zendesk"} {
		v := record.View{Ref: record.Ref{Platform: p, Object: "Order", ID: "801"}, External: "order/1"}
		s.Record.Views[p] = record.Confirm(v, v, said.Fields, record.Version{At: epoch}, epoch, said.Trace)
	}
	s.AddDue("zendesk", said.Trace, budget.Live, epoch)
	return s
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

func encodeByReflection(s State) ([]byte, error) {
	out := storedState{V: 1, ID: s.Record.ID, Seq: s.Record.Seq, Policy: s.Record.Policy, Held: s.Record.Held, Due: s.Due, Open: s.Open,
		Overrides: s.Record.Overrides, Assigned: s.Record.Assigned, Granted: s.Record.Granted, Proposals: s.Record.Proposals, Suspects: s.Record.Suspects,
		Apart: s.Record.Apart, Absorbed: s.Record.Absorbed, Into: s.Record.Into, Parted: s.Record.Parted, Claims: s.Claims, Runs: s.Runs, Log: s.Log}
	for _, p := range slices.Sorted(maps.Keys(s.Record.Views)) {
		v := s.Record.Views[p]
		sv := storedView{Platform: p, Object: v.Object, ID: v.ID, External: carried(s.Record.ID, v.External), Into: v.Into, Past: v.Past, Echo: v.Echo,
			Born: packVersion(v.Born), Died: packVersion(v.Died), Heard: packVersion(v.Heard), Denied: packVersion(v.Denied), Made: v.Made, Leaving: v.Leaving}
		type saidHead struct {
			storedVersion
			trace, actor string
			ours, tied   bool
		}
		var said group[saidHead]
		for _, f := range slices.Sorted(maps.Keys(v.Said)) {
			c := v.Said[f]
			if !c.Value.IsAbsent() {
				said.add(saidHead{packVersion(c.Version), c.Trace, c.Actor, c.Ours, c.Tied}, f, c.Value)
			}
			if c.Doubt != nil {
				sv.Doubts = append(sv.Doubts, storedDoubt{f, *c.Doubt})
			}
		}
		sv.Spans = packSpans(v.Said)
		for _, h := range said.heads {
			sv.Said = append(sv.Said, storedSaid{h.storedVersion, h.trace, h.actor, h.ours, h.tied, said.at[h]})
		}
		type wroteHead struct {
			storedVersion
			when, trace string
			told        bool
			kept        storedVersion
		}
		var wrote group[wroteHead]
		for _, f := range slices.Sorted(maps.Keys(v.Wrote)) {
			w := v.Wrote[f]
			wrote.add(wroteHead{packVersion(w.Base), packVersion(record.Version{At: w.When}).At, w.Trace, w.Told, packVersion(kept(w))}, f, w.Value)
		}
		for _, h := range wrote.heads {
			group := storedWrote{storedVersion: h.storedVersion, When: h.when, Trace: h.trace, Told: h.told, Kept: h.kept, Fields: wrote.at[h]}
			for f := range group.Fields {
				if over := v.Wrote[f].Over; !over.Value.IsAbsent() {
					if group.Over == nil {
						group.Over = map[string]storedOver{}
					}
					group.Over[f] = storedOver(over)
				}
				if back := v.Wrote[f].Back; !back.Value.IsAbsent() && kept(v.Wrote[f]).IsZero() {
					if group.Back == nil {
						group.Back = map[string]storedBack{}
					}
					group.Back[f] = storedBack(back)
				}
			}
			sv.Wrote = append(sv.Wrote, group)
		}
		out.Views = append(out.Views, sv)
	}
	for _, v := range s.Record.Withdrawn {
		out.Withdrawn = append(out.Withdrawn, storedView{Platform: v.Platform, Object: v.Object, ID: v.ID, External: carried(s.Record.ID, v.External),
			Born: packVersion(v.Born), Died: packVersion(v.Died), Made: v.Made})
	}
	type goldenHead struct {
		storedVersion
		from, trace, rule, where string
		split                    bool
	}
	var golden group[goldenHead]
	for _, f := range slices.Sorted(maps.Keys(s.Record.Golden)) {
		g := s.Record.Golden[f]
		golden.add(goldenHead{packVersion(g.Version), g.From, g.Trace, g.Rule, g.At, g.Split}, f, g.Value)
	}
	for _, h := range golden.heads {
		out.Golden = append(out.Golden, storedGolden{h.storedVersion, h.from, h.trace, h.rule, h.where, h.split, golden.at[h]})
	}
	return json.Marshal(out)
}

// storedState is the form of a state. Cells that came with one observation share its version and correlation id, and
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

	Overrides map[string]record.Override     `json:"overrides,omitempty"`
	Assigned  map[string]record.Assigned     `json:"assigned,omitempty"`
	Granted   map[string]record.Grant        `json:"granted,omitempty"`
	Proposals map[string]record.Proposal     `json:"proposals,omitempty"`
	Suspects  map[record.ID]record.Suspicion `json:"suspects,omitempty"`
	Apart     []record.ID                    `json:"apart,omitempty"`
	Absorbed  map[record.ID][]string         `json:"absorbed,omitempty"`
	Withdrawn []storedView                   `json:"withdrawn,omitempty"`
	Into      record.ID                      `json:"into,omitempty"`
	Parted    int                            `json:"parted,omitempty"`
	Claims    []Claim                        `json:"claims,omitempty"`
	Runs      map[string]time.Time           `json:"runs,omitempty"`
	Log       LogHead                        `json:"log,omitzero"`
}

type storedView struct {
	Platform string                    `json:"platform"`
	Object   string                    `json:"object"`
	ID       string                    `json:"id"`
	External storedCarried             `json:"external,omitempty"`
	Into     string                    `json:"into,omitempty"`
	Born     storedVersion             `json:"born,omitzero"`
	Died     storedVersion             `json:"died,omitzero"`
	Heard    storedVersion             `json:"heard,omitzero"`
	Denied   storedVersion             `json:"denied,omitzero"`
	Made     bool                      `json:"made,omitempty"`
	Leaving  bool                      `json:"leaving,omitempty"`
	Said     []storedSaid              `json:"said,omitempty"`
	Wrote    []storedWrote             `json:"wrote,omitempty"`
	Doubts   []storedDoubt             `json:"doubts,omitempty"`
	Spans    []storedSpan              `json:"spans,omitempty"`
	Past     map[string][]record.Value `json:"past,omitempty"`
	Echo     *record.Echo              `json:"echo,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (c storedCarried) MarshalJSON() ([]byte, error) {
	if c == carriesOwn {
		return []byte("true"), nil
	}
	return json.Marshal(string(c))
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *storedCarried) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true":
		*c = carriesOwn
		return nil
	case "false", "null":
		*c = ""
		return nil
	}
	return json.Unmarshal(b, (*string)(c))
}

func (c storedCarried) unpack(of record.ID) record.ID {
	if c == carriesOwn {
		return of
	}
	return record.ID(c)
}

type fields map[string]record.Value

type storedSaid struct {
	storedVersion
	Trace  string `json:"trace,omitempty"`
	Actor  string `json:"actor,omitempty"`
	Ours   bool   `json:"ours,omitempty"`
	Tied   bool   `json:"tied,omitempty"`
	Fields fields `json:"fields"`
}

type storedWrote struct {
	storedVersion               // the base
	When          string        `json:"when,omitempty"`
	Trace         string        `json:"trace,omitempty"`
	Told          bool          `json:"told,omitempty"`
	Kept          storedVersion `json:"kept,omitzero"` // all of Fields came back as they were
	Fields        fields        `json:"fields"`

	Over map[string]storedOver `json:"over,omitempty"`
	Back map[string]storedBack `json:"back,omitempty"`
}

type storedGolden struct {
	storedVersion
	From   string `json:"from"`
	Trace  string `json:"trace,omitempty"`
	Rule   string `json:"rule"`
	Where  string `json:"where,omitempty"`
	Split  bool   `json:"split,omitempty"`
	Fields fields `json:"fields"`
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

func decodeByReflection(b []byte) (State, error) {
	var in storedState
	if err := json.Unmarshal(b, &in); err != nil {
		return State{}, fmt.Errorf("stored state: %w", err)
	}
	if in.V != 1 {
		return State{}, fmt.Errorf("stored state has schema version %d, this program knows 1", in.V)
	}
	s := State{Due: in.Due, Open: in.Open, Claims: in.Claims, Runs: in.Runs, Log: in.Log, Record: record.Record{ID: in.ID, Seq: in.Seq, Policy: in.Policy, Held: in.Held,
		Overrides: in.Overrides, Assigned: in.Assigned, Granted: in.Granted, Proposals: in.Proposals, Suspects: in.Suspects, Apart: in.Apart, Absorbed: in.Absorbed, Into: in.Into, Parted: in.Parted,
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
		v := record.View{Ref: record.Ref{Platform: sv.Platform, Object: sv.Object, ID: sv.ID}, External: sv.External.unpack(in.ID), Into: sv.Into, Past: sv.Past, Echo: sv.Echo,
			Born: version(sv.Born), Died: version(sv.Died), Heard: version(sv.Heard), Denied: version(sv.Denied), Made: sv.Made, Leaving: sv.Leaving, Said: map[string]record.Cell{}}
		for _, g := range sv.Said {
			at := version(g.storedVersion)
			for f, value := range g.Fields {
				v.Said[f] = record.Cell{Value: value, Version: at, Trace: g.Trace, Actor: g.Actor, Ours: g.Ours, Tied: g.Tied}
			}
		}
		for _, d := range sv.Doubts {
			c := v.Said[d.Field]
			c.Doubt = &d.Doubt
			v.Said[d.Field] = c
		}
		for _, s := range sv.Spans {
			c := v.Said[s.Field]
			if c.Spans == nil {
				c.Spans = map[record.Value]record.Span{}
			}
			c.Spans[s.Value] = record.Span{First: version(s.First), Last: version(s.Last)}
			v.Said[s.Field] = c
		}
		if len(sv.Wrote) > 0 {
			v.Wrote = map[string]record.Wrote{}
		}
		for _, g := range sv.Wrote {
			base := version(g.storedVersion)
			when := version(storedVersion{At: g.When}).At
			keptAt := version(g.Kept)
			for f, value := range g.Fields {
				w := record.Wrote{Value: value, Base: base, When: when, Trace: g.Trace, Told: g.Told,
					Over: record.Over(g.Over[f]), Back: record.Back(g.Back[f])}
				if !keptAt.IsZero() {
					w.Back = record.Back{Value: value, At: keptAt}
				}
				v.Wrote[f] = w
			}
		}
		s.Record.Views[sv.Platform] = v
	}
	for _, sv := range in.Withdrawn {
		s.Record.Withdrawn = append(s.Record.Withdrawn, record.View{Ref: record.Ref{Platform: sv.Platform, Object: sv.Object, ID: sv.ID}, External: sv.External.unpack(in.ID),
			Born: version(sv.Born), Died: version(sv.Died), Made: sv.Made, Said: map[string]record.Cell{}})
	}
	for _, g := range in.Golden {
		at := version(g.storedVersion)
		for f, value := range g.Fields {
			s.Record.Golden[f] = record.Golden{Value: value, From: g.From, Version: at, Trace: g.Trace, Rule: g.Rule, At: g.Where, Split: g.Split}
		}
	}
	if bad == nil {
		bad = whole(s.Record)
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
