package ledger

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

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
	s := rapid.Custom(drawState).Example(7)
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
		sv.Spans = packSpans(v.Said)
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
