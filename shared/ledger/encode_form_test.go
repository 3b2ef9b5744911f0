package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

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
	s.AddDue("zendesk", said.Trace, epoch)
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
		Apart: s.Record.Apart, Absorbed: s.Record.Absorbed, Into: s.Record.Into, Parted: s.Record.Parted, Claims: s.Claims, Log: s.Log}
	for _, p := range slices.Sorted(maps.Keys(s.Record.Views)) {
		v := s.Record.Views[p]
		sv := storedView{Platform: p, Object: v.Object, ID: v.ID, External: carried(s.Record.ID, v.External), Into: v.Into, Echo: v.Echo,
			Born: packVersion(v.Born), Died: packVersion(v.Died), Heard: packVersion(v.Heard)}
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
