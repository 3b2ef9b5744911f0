package record

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func rules() Rules {
	platforms := []string{NetSuite, Salesforce, Zendesk}
	return Rules{Entity: "order", Version: "v1", Platforms: platforms, Fields: map[string]Rule{
		"status": {Kind: Owner, Owner: NetSuite, Targets: []string{Salesforce, Zendesk},
			Paths: map[string]Path{Salesforce: Revert, Zendesk: Revert}, Text: "owner netsuite", At: "order.yaml:3:1"},
		"note": {Kind: Owner, Owner: NetSuite, Targets: []string{Salesforce},
			Paths: map[string]Path{Salesforce: Ignore, Zendesk: Reject}, Text: "owner netsuite"},
		"phone": {Kind: Latest, Order: []string{NetSuite, Salesforce}, Targets: platforms,
			Paths: map[string]Path{NetSuite: Accept, Salesforce: Accept, Zendesk: Revert}, Text: "latest of netsuite, salesforce"},
		"site": {Kind: Rank, Order: []string{Salesforce, NetSuite}, Targets: platforms,
			Paths: map[string]Path{NetSuite: Accept, Salesforce: Accept, Zendesk: Revert}, Text: "rank salesforce, netsuite"},
	}}
}

func drawValue(t *rapid.T, label string) Value {
	return rapid.SampledFrom([]Value{NullValue(), TextValue(""), TextValue("a"), TextValue("b"), BoolValue(true),
		{Number, "14"}, {Number, "0.5"}}).Draw(t, label)
}

// drawHistory makes observations that collide often: few versions, few values, ties, tombstones, doubts.
func drawHistory(t *rapid.T) []Observation {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Observation {
		platform := rapid.SampledFrom([]string{NetSuite, Salesforce, Zendesk}).Draw(t, "platform")
		o := Observation{
			Ref: Ref{platform, "order", "7"},
			Version: Version{At: epoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "second")) * time.Second),
				Seq: int64(rapid.IntRange(0, 1).Draw(t, "seq")), Final: rapid.Bool().Draw(t, "final")},
			Trace:    rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(t, "trace"),
			Ours:     rapid.IntRange(0, 5).Draw(t, "ours") == 0,
			External: rapid.SampledFrom([]ID{"", "order/1", "order/2"}).Draw(t, "external"),
			Fields:   map[string]Value{}, Doubts: map[string]Doubt{}, Timed: rules().Timed(),
		}
		if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
			o.Gone = true
			return o
		}
		if rapid.Bool().Draw(t, "born") {
			o.Born = epoch.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "birth")) * time.Second)
		}
		for _, f := range []string{"status", "note", "phone", "site"} {
			switch rapid.IntRange(0, 4).Draw(t, f) {
			case 0:
			case 1:
				o.Doubts[f] = Doubt{Type: "unknown-picklist", Raw: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "raw")}
			default:
				o.Fields[f] = drawValue(t, "value")
			}
		}
		return o
	}), 0, 12).Draw(t, "history")
}

func merged(history []Observation) Record {
	r := Record{ID: "order/1", Views: map[string]View{}}
	for _, o := range history {
		v, changed := Observe(r.Views[o.Platform], o)
		if changed {
			r.Views[o.Platform] = v
		}
	}
	// Heard is for people and follows changes only.
	for p, v := range r.Views {
		v.Heard = Version{}
		r.Views[p] = v
	}
	folded, _ := Fold(r, rules(), plain, epoch)
	folded.Seq = 0
	return folded
}

func same(_ string, v Value) Value { return v }

// plain is the forms of platforms that store what they are given.
func plain(string) func(string, Value) Value { return same }

// Any permutation and duplication of observations gives the same views, golden fields and pending writes.
func TestOrderAndRepetitionChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		history := drawHistory(t)
		want := merged(history)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		mixed := slices.Clone(history)
		for range rng.IntN(len(history) + 1) {
			mixed = append(mixed, history[rng.IntN(len(history))])
		}
		rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		got := merged(mixed)
		if !reflect.DeepEqual(got.Views, want.Views) {
			t.Fatalf("views differ:\n got %+v\nwant %+v", got.Views, want.Views)
		}
		if !reflect.DeepEqual(got.Golden, want.Golden) {
			t.Fatalf("golden fields differ:\n got %+v\nwant %+v", got.Golden, want.Golden)
		}
		for _, p := range []string{NetSuite, Salesforce, Zendesk} {
			if a, b := Project(got, rules(), p, same), Project(want, rules(), p, same); !reflect.DeepEqual(a, b) {
				t.Fatalf("pending writes to %s differ: %+v, %+v", p, a, b)
			}
		}
	})
}

// Applying a projected patch leaves nothing to do, and neither does its echo, whatever version it carries.
func TestAppliedPatchProjectsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := merged(drawHistory(t))
		for _, p := range []string{NetSuite, Salesforce, Zendesk} {
			patch := Project(r, rules(), p, same)
			if patch.Empty() {
				continue
			}
			before := r.Views[p]
			version := Version{}
			if rapid.Bool().Draw(t, "platform tells its version") {
				version = Version{At: epoch.Add(time.Minute)}
			}
			after := r.Clone()
			v := before
			v.Ref = Ref{p, "order", "7"}
			after.Views[p] = Confirm(v, before, patch.Fields, version, epoch, "t9")
			after, _ = Fold(after, rules(), plain, epoch)
			if again := Project(after, rules(), p, same); !again.Empty() {
				t.Fatalf("%s: after writing %v there is still %v to write", p, patch.Fields, again.Fields)
			}
			echo := Observation{Ref: v.Ref, Version: Version{At: epoch.Add(time.Minute)}, Fields: patch.Fields, Trace: "t8"}
			seen, _ := Observe(after.Views[p], echo)
			after.Views[p] = seen
			after, _ = Fold(after, rules(), plain, epoch)
			if again := Project(after, rules(), p, same); !again.Empty() {
				t.Fatalf("%s: the echo of %v causes %v to be written", p, patch.Fields, again.Fields)
			}
			for f := range patch.Fields {
				if _, origin := seen.Holds(f); origin != FromSorrel {
					t.Fatalf("%s: the echo of %s counts as set by %q", p, f, origin)
				}
			}
		}
	})
}

func TestFoldDoesNotTouchItsArgument(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := merged(drawHistory(t))
		copied := r.Clone()
		Fold(r, rules(), plain, epoch)
		Project(r, rules(), Salesforce, same)
		if !reflect.DeepEqual(r, copied) {
			t.Fatal("the argument was modified")
		}
	})
}

func observe(r *Record, o Observation) {
	if r.Views == nil {
		r.Views = map[string]View{}
	}
	r.Views[o.Platform], _ = Observe(r.Views[o.Platform], o)
	*r, _ = Fold(*r, rules(), plain, epoch)
}

func said(platform string, second int, fields map[string]Value) Observation {
	return Observation{Ref: Ref{platform, "order", "7"}, Version: Version{At: epoch.Add(time.Duration(second) * time.Second)},
		Fields: fields, Trace: "t"}
}

func TestNullAbsentAndValueStayApart(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("open")}))
	if _, ok := r.Golden["note"]; ok {
		t.Error("a field that nobody mentioned has a golden value")
	}
	observe(&r, said(NetSuite, 2, map[string]Value{"note": TextValue("x")}))
	if got := r.Golden["status"].Value; got != TextValue("open") {
		t.Errorf("status = %v after an observation that did not mention it, want open", got)
	}
	r.Views[Salesforce] = Confirm(View{Ref: Ref{Salesforce, "Order", "8"}}, View{}, map[string]Value{"status": TextValue("open"), "note": TextValue("x")}, Version{}, epoch, "t")
	observe(&r, said(NetSuite, 3, map[string]Value{"status": NullValue()}))
	if got := r.Golden["status"].Value; !got.IsNull() {
		t.Errorf("status = %v after it was cleared, want null", got)
	}
	if got := Project(r, rules(), Salesforce, same).Fields; !maps.Equal(got, map[string]Value{"status": NullValue()}) {
		t.Errorf("to write: %v, want only the cleared status", got)
	}
	if got := Project(r, rules(), Zendesk, same).Fields; len(got) != 0 {
		t.Errorf("to write where nothing was ever written: %v, want nothing to clear", got)
	}
}

func TestOwnersFieldIsPutBack(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("open")}))
	r.Views[Salesforce] = Confirm(View{Ref: Ref{Salesforce, "order", "7"}}, View{}, map[string]Value{"status": TextValue("open")}, Version{At: epoch.Add(time.Second)}, epoch, "t")
	observe(&r, said(Salesforce, 5, map[string]Value{"status": TextValue("closed")}))
	_, found := Fold(r, rules(), plain, epoch)
	decisions := found.Decisions
	if len(decisions) != 1 || decisions[0].Path != Revert || decisions[0].Loser.Value != TextValue("closed") || decisions[0].At != "order.yaml:3:1" {
		t.Fatalf("decisions: %+v, want one revert with the rule's position", decisions)
	}
	if got := Project(r, rules(), Salesforce, same).Fields["status"]; got != TextValue("open") {
		t.Errorf("to write: %v, want open again", got)
	}
}

func TestTieIsUnsettledUntilRead(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("a")}))
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("b")}))
	if got := r.Views[NetSuite].Unsettled(); !slices.Equal(got, []string{"status"}) {
		t.Fatalf("unsettled: %v, want status", got)
	}
	read := said(NetSuite, 1, map[string]Value{"status": TextValue("a")})
	read.Version.Final = true
	observe(&r, read)
	if got := r.Views[NetSuite].Unsettled(); len(got) != 0 || r.Golden["status"].Value != TextValue("a") {
		t.Errorf("after the read: unsettled %v, status %v", got, r.Golden["status"].Value)
	}
}

// A platform that says its whole record again, because another field changed, does not win over what someone
// said meanwhile elsewhere; a platform that says something new does.
func TestSayingItAgainIsNotNews(t *testing.T) {
	t.Parallel()
	var r Record
	say := func(platform string, second int, phone string) {
		o := said(platform, second, map[string]Value{"phone": TextValue(phone)})
		o.Timed = rules().Timed()
		observe(&r, o)
	}
	say(NetSuite, 1, "old")
	say(Salesforce, 2, "new")
	say(NetSuite, 3, "old")
	if got := r.Golden["phone"]; got.Value != TextValue("new") || got.From != Salesforce {
		t.Errorf("phone is %v from %s after NetSuite said its old value again", got.Value, got.From)
	}
	say(NetSuite, 4, "newest")
	say(NetSuite, 5, "old")
	if got := r.Golden["phone"]; got.Value != TextValue("old") {
		t.Errorf("phone is %v, but someone went back to the old one last", got.Value)
	}
}

func TestDeletedStaysDeletedUntilBornAgain(t *testing.T) {
	t.Parallel()
	var r Record
	born := said(Salesforce, 1, map[string]Value{"phone": TextValue("1")})
	born.Born = epoch.Add(time.Second)
	gone := Observation{Ref: born.Ref, Version: Version{At: epoch.Add(5 * time.Second)}, Gone: true}
	observe(&r, gone)
	observe(&r, born)
	if !r.Views[Salesforce].Gone() {
		t.Error("a late event revived a deleted record")
	}
	reborn := said(Salesforce, 9, nil)
	reborn.Born = epoch.Add(8 * time.Second)
	observe(&r, reborn)
	if r.Views[Salesforce].Gone() {
		t.Error("a later creation did not revive the record")
	}
}

func TestDoubtHoldsTheFieldOnly(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("open"), "note": TextValue("n")}))
	doubtful := said(NetSuite, 2, map[string]Value{"note": TextValue("m")})
	doubtful.Doubts = map[string]Doubt{"status": {Type: "unknown-picklist", Raw: "Z"}}
	observe(&r, doubtful)
	if r.Golden["status"].Value != TextValue("open") || r.Golden["note"].Value != TextValue("m") {
		t.Errorf("golden: %+v, want status kept and note changed", r.Golden)
	}
	if r.Views[NetSuite].Said["status"].Doubt == nil {
		t.Error("the doubt is not kept")
	}
	observe(&r, said(NetSuite, 3, map[string]Value{"status": TextValue("closed")}))
	if r.Views[NetSuite].Said["status"].Doubt != nil || r.Golden["status"].Value != TextValue("closed") {
		t.Error("a newer usable value did not end the doubt")
	}
}

func TestHeldFieldIsNotWrittenUntilItsValueChanges(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("odd"), "note": TextValue("n")}))
	r.Held = map[string]Hold{HoldKey(Salesforce, "status"): {Type: "refused-write", Value: TextValue("odd")}}
	p := Project(r, rules(), Salesforce, same)
	if _, writes := p.Fields["status"]; writes || p.Kept["status"] == "" || p.Fields["note"] != TextValue("n") {
		t.Errorf("patch %+v, want note written and status kept back", p)
	}
	observe(&r, said(NetSuite, 2, map[string]Value{"status": TextValue("fine")}))
	if got := Project(r, rules(), Salesforce, same).Fields["status"]; got != TextValue("fine") {
		t.Errorf("status to write: %v, want the new value", got)
	}
}

func TestLateConfirmationDoesNotHideANewerEdit(t *testing.T) {
	t.Parallel()
	var r Record
	observe(&r, said(NetSuite, 1, map[string]Value{"status": TextValue("open")}))
	before := View{Ref: Ref{Salesforce, "order", "7"}}
	observe(&r, said(Salesforce, 5, map[string]Value{"status": TextValue("closed")})) // arrives while our write is under way
	r.Views[Salesforce] = Confirm(r.Views[Salesforce], before, map[string]Value{"status": TextValue("open")}, Version{}, epoch, "t")
	if got, origin := r.Views[Salesforce].Holds("status"); origin != FromPlatform || got != TextValue("closed") {
		t.Errorf("holds %v from %q, want the edit that the write did not know of", got, origin)
	}
}

func TestValueForms(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`14.00`: `14`, `1e2`: `100`, `-0.0`: `0`, `"a\u00e9"`: `"aé"`, `null`: `null`, `true`: `true`,
		`{"b":1.50,"a":[null,"x"]}`: `{"a":[null,"x"],"b":1.5}`, `[]`: `[]`, `0.10`: `0.1`, `123456789012345678901234567890.12`: `123456789012345678901234567890.12`,
	} {
		v, err := ParseJSON([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if b, _ := json.Marshal(v); string(b) != want {
			t.Errorf("%s became %s, want %s", in, b, want)
		}
	}
	for _, in := range []string{`1e999999999`, `1 2`, `{`, ``, `nope`, `1e-99`} {
		if v, err := ParseJSON([]byte(in)); err == nil {
			t.Errorf("%s was accepted as %v", in, v)
		}
	}
	if _, err := json.Marshal(Value{}); err == nil {
		t.Error("an absent value has a JSON form")
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`1.50`, `{"a":[1,{"b":null}]}`, `"x"`, `[[[[]]]]`, `1e40`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseJSON(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%q parsed but has no JSON form: %v", b, err)
		}
		if w, err := ParseJSON(again); err != nil || w != v {
			t.Fatalf("%q → %q → %q (%v): not stable", b, v, w, err)
		}
		if a, err := FromAny(v.Any()); err != nil || a != v {
			t.Fatalf("%q: Any and back gives %q (%v)", b, a, err)
		}
	})
}

func TestIDs(t *testing.T) {
	t.Parallel()
	if id, ok := ParseExternal(ID("order/abc123").External()); !ok || id != "order/abc123" {
		t.Errorf("external form does not come back: %q %v", id, ok)
	}
	for _, bad := range []string{"", "order", "order/", "/x", "Order/x", "order/X", "order/a/b", "order/a b"} {
		if ID(bad).Validate() == nil {
			t.Errorf("%q is accepted as a record id", bad)
		}
	}
	if _, ok := ParseExternal("CUST-107"); ok {
		t.Error("a foreign external id is taken for ours")
	}
}
