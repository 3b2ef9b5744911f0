package ledger

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/budget"
	"sorrel/shared/record"
)

var epoch = time.Date(2026, 11, 2, 8, 0, 0, 123456789, time.UTC)

func rules() record.Rules {
	return record.Rules{Entity: "order", Version: "v1", Platforms: []string{"netsuite", "salesforce", "zendesk"}, Fields: map[string]record.Rule{
		"status": {Kind: record.Owner, Owner: "netsuite", Targets: []string{"salesforce", "zendesk"}, At: "order.yaml:3:1",
			Paths: map[string]record.Path{"salesforce": record.Revert, "zendesk": record.Reject}},
		"phone": {Kind: record.Latest, Order: []string{"netsuite", "salesforce"}, Targets: []string{"netsuite", "salesforce", "zendesk"},
			Paths: map[string]record.Path{"netsuite": record.Accept, "salesforce": record.Accept, "zendesk": record.Revert}},
		"lines": {Kind: record.Rank, Order: []string{"salesforce", "netsuite"}, Targets: []string{"zendesk"},
			Paths: map[string]record.Path{"netsuite": record.Accept, "salesforce": record.Accept}},
	}}
}

func identity(_ string, v record.Value) record.Value { return v }

func on(string) func(string, record.Value) record.Value { return identity }

func forms(string, string) (func(string, record.Value) record.Value, bool) { return identity, true }

func drawValue(t *rapid.T) record.Value {
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return record.NullValue()
	case 1:
		return record.TextValue(rapid.SampledFrom([]string{"", "a", `<b>&"c"\`, "Châlons\u2028-sur-Marne", "\x00\x1f", "null", "14", "2026-11-02T08:00:00Z"}).Draw(t, "text"))
	case 2:
		return record.TextValue(rapid.String().Draw(t, "any text"))
	case 3:
		v, err := record.ParseNumber(rapid.SampledFrom([]string{"0", "-0.5", "14.00", "79228162514264337593543950335", "0.0000000001", "1e20"}).Draw(t, "number"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	case 4:
		return record.BoolValue(rapid.Bool().Draw(t, "bool"))
	}
	v, err := record.ParseJSON([]byte(rapid.SampledFrom([]string{`[]`, `{}`, `[{"item":"Queso <Cabrales>","rate":14.00,"n":null}]`, `{"b":[1,2.50,"x"],"a":true}`}).Draw(t, "structure")))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// drawState is any state.
func drawState(t *rapid.T) State {
	s := drawPlain(t)
	if rapid.Bool().Draw(t, "governed") {
		drawGovernance(t, &s)
	}
	return s
}

// drawPlain walks a record through observations, folds, confirmed writes, holds and due work. Versions collide
// often, so that ties and doubts are common.
func drawPlain(t *rapid.T) State {
	s := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{}}}
	platforms := []string{"netsuite", "salesforce", "zendesk"}
	fieldNames := []string{"status", "phone", "lines"}
	for range rapid.IntRange(0, 10).Draw(t, "steps") {
		p := rapid.SampledFrom(platforms).Draw(t, "platform")
		trace := rapid.SampledFrom([]string{"", "t1", "t2"}).Draw(t, "trace")
		at := epoch.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "second")) * time.Second)
		version := record.Version{At: at, Seq: int64(rapid.IntRange(0, 1).Draw(t, "seq")), Final: rapid.Bool().Draw(t, "final")}
		view := s.Record.Views[p]
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0, 1, 2:
			o := record.Observation{Ref: record.Ref{Platform: p, Object: "Order", ID: "7"}, Version: version, Trace: trace,
				Ours: rapid.Bool().Draw(t, "ours"), External: rapid.SampledFrom([]record.ID{"", "order/1", "order/2"}).Draw(t, "external"), Gone: rapid.IntRange(0, 9).Draw(t, "gone") == 0,
				Into: rapid.SampledFrom([]string{"", "8", "<9>"}).Draw(t, "into"), Actor: rapid.SampledFrom([]string{"", "005", "a&b"}).Draw(t, "actor"),
				Fields: map[string]record.Value{}, Doubts: map[string]record.Doubt{}, Timed: map[string]bool{"status": true}}
			if rapid.Bool().Draw(t, "born") {
				o.Born = at
			}
			for _, f := range fieldNames {
				switch rapid.IntRange(0, 3).Draw(t, f) {
				case 0:
					o.Doubts[f] = record.Doubt{Type: "unknown-picklist", Raw: `"Z"`, Detail: "status has no value <Z>"}
				case 1, 2:
					o.Fields[f] = drawValue(t)
				}
			}
			s.Record.Views[p], _ = record.Observe(view, o)
		case 3:
			patch := record.Project(s.Record, rules(), p, identity)
			if view.ID == "" {
				view.Ref = record.Ref{Platform: p, Object: "Order", ID: "7"}
			}
			if len(patch.Fields) > 0 {
				s.Record.Views[p] = record.Confirm(view, view, patch.Fields, version, at, trace)
			}
		case 4:
			s.AddDue(p, trace, rapid.SampledFrom(budget.Classes()).Draw(t, "class"), at)
			d := s.Due[p]
			d.Attempts, d.Unknown, d.Reason = 2, true, "zendesk.write: platform-down"
			d.NotBefore, d.Waits = at.Add(time.Second), []record.ID{"customer/1"}
			s.Due[p] = d
			s.Record.Held = map[string]record.Hold{record.HoldKey(p, "status"): {Type: "refused-write", Detail: "too long", Code: "X", Value: drawValue(t), Since: at, Trace: trace}}
			s.Open = []string{"0123456789abcdef"}
		}
		s.Record, _ = record.Fold(s.Record, rules(), on, at)
	}
	return s
}

// drawGovernance adds what few records have: what people decided, and what a merge leaves.
func drawGovernance(t *rapid.T, s *State) {
	some := func(what string) bool { return rapid.Bool().Draw(t, what) }
	if some("override") {
		s.Record.Overrides = map[string]record.Override{"status": {Value: drawValue(t), By: "ada", Reason: `a "reason"`, When: epoch, Until: epoch.Add(time.Hour), Trace: "t1"},
			"phone": {Value: drawValue(t), By: "ada", When: epoch, Seen: map[string]record.Value{"zendesk": drawValue(t)}}}
	}
	if some("assigned") {
		s.Record.Assigned = map[string]record.Assigned{"number": {Value: drawValue(t), When: epoch, By: "number-workflow", Trace: "t1"}}
	}
	if some("proposal") {
		s.Record.Proposals = map[string]record.Proposal{record.ProposalKey("salesforce", "status"): {ID: "0011223344556677", Platform: "salesforce", Group: "status",
			Fields:   map[string]record.Ask{"status": {Owner: "netsuite", Before: drawValue(t), After: drawValue(t), Seen: record.Version{At: epoch, Seq: 2}}, "lines": {Owner: "netsuite", After: drawValue(t)}},
			Status:   record.ProposalApproved,
			Revision: 3, Opened: epoch, Expires: epoch.Add(time.Hour), Decided: epoch, By: "ada", Comment: "<ok>", Note: "n", Actor: "005", Trace: "t1", PutBack: true, At: "order.yaml:3:1"}}
	}
	if some("granted") {
		s.Record.Granted = map[string]record.Grant{"status": {Proposal: "0011223344556677", Platform: "salesforce", Actor: "005", Owner: "netsuite", Value: drawValue(t), By: "ada", Decided: epoch, Comment: "c"}}
	}
	if some("echo") {
		for p, v := range s.Record.Views {
			v.Past = map[string][]record.Value{"status": {drawValue(t), drawValue(t)}}
			v.Echo = &record.Echo{Version: record.Version{At: epoch, Seq: 3, Final: true}, Fields: map[string]record.Value{"status": drawValue(t)}}
			for f, w := range v.Wrote {
				w.Told, w.Back = some("told"), record.Back{Value: drawValue(t), At: record.Version{At: epoch, Seq: 1}}
				v.Wrote[f] = w
			}
			if some("denied") {
				v.Denied = v.Died
			}
			v.Made, v.Leaving = some("made"), some("leaving")
			s.Record.Views[p] = v
		}
	}
	if some("suspects") {
		s.Record.Suspects = map[record.ID]record.Suspicion{"order/2": {Rule: "tax id", Detail: "a", Merged: "netsuite", Holds: true, Since: epoch}, "order/3": {Rule: "name", Since: epoch}}
		s.Record.Apart = []record.ID{"order/4", "order/5"}
	}
	if some("absorbed") {
		s.Record.Absorbed = map[record.ID][]string{"order/6": {"salesforce", "zendesk"}, "order/7": {}}
	}
	if some("withdrawn") {
		s.Record.Withdrawn = []record.View{{Ref: record.Ref{Platform: "zendesk", Object: "Order", ID: "9"}, External: "order/1", Made: true, Born: record.Version{At: epoch}, Died: record.Version{At: epoch, Seq: 2}},
			{Ref: record.Ref{Platform: "zendesk", Object: "Order", ID: "<10>"}, External: "order/2", Made: true, Died: record.Version{At: epoch, Final: true}}}
	}
	if some("waits") {
		s.Due = map[string]Due{"zendesk": {Class: budget.Live, Since: epoch, NotBefore: epoch.Add(time.Hour), Waits: []record.ID{"customer/1"}, Unwanted: true, Frees: true, Reason: "not wanted there"}}
	}
	if some("redirect") {
		s.Record.Into = "order/8"
	}
	if some("split") {
		for f, g := range s.Record.Golden {
			g.Split = some("split " + f)
			s.Record.Golden[f] = g
		}
	}
	if some("retried hold") {
		s.Record.Held = map[string]record.Hold{"zendesk/status": {Type: "refused-write", Detail: "no", Value: drawValue(t), Since: epoch, Retry: epoch.Add(time.Hour), Tries: 2, Trying: true}}
	}
	if some("claims") {
		s.Runs = map[string]time.Time{"activation/order/a/1": {}, "activation/order/a/2": epoch.Add(time.Hour).UTC()}
		s.Claims = []Claim{NewClaim("order", "number", "1"), NewClaim("order", "tax id", "2")}
	}
	if some("log") {
		s.Log = LogHead{int64(rapid.IntRange(1, 1000).Draw(t, "entries")), hash([]byte("x"))}
	}
}

// plain makes empty and nil maps the same: they mean the same.
func plain(s State) State {
	s = s.Clone()
	s.rev = ""
	for p, v := range s.Record.Views {
		if len(v.Said) == 0 {
			v.Said = nil
		}
		if len(v.Wrote) == 0 {
			v.Wrote = nil
		}
		s.Record.Views[p] = v
	}
	s.Record.Withdrawn = slices.Clone(s.Record.Withdrawn)
	for i := range s.Record.Withdrawn {
		s.Record.Withdrawn[i].Said = nil
	}
	if len(s.Record.Golden) == 0 {
		s.Record.Golden = nil
	}
	if len(s.Record.Held) == 0 {
		s.Record.Held = nil
	}
	if len(s.Due) == 0 {
		s.Due = nil
	}
	return s
}

func TestStateSurvivesStorage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawState(t)
		b, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if a, b := plain(got), plain(want); !reflect.DeepEqual(a, b) {
			t.Fatalf("got  %+v\nwant %+v", a, b)
		}
		again, err := encode(got)
		if err != nil || string(again) != string(b) {
			t.Fatalf("encoding again gives %s, was %s (%v)", again, b, err)
		}
	})
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{``, `[]`, `{"v":2,"id":"order/1"}`, `{"v":1,"views":[{"platform":"p","born":{"at":"yesterday"}}]}`,
		`{"v":1,"views":[{"platform":"p","wrote":[{"when":"x","fields":{}}]}]}`, `{"v":1,"golden":[{"at":"x","fields":{}}]}`, `{"v":1,"golden":[{"fields":{"a":1e999}}]}`,
		`{"v":1,"views":[{"platform":"p","external":7}]}`, `{"v":1,"overrides":{"a":{"by":"ada"}}}`, `{"v":1,"assigned":{"a":{"by":"ada"}}}`, `{"v":1,"granted":{"a":{"by":"ada"}}}`,
		`{"v":1,"proposals":{"p/a":{"fields":{"a":{"owner":"q"}}}}}`} {
		if s, err := decode([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"order/1","views":[{"platform":"netsuite","object":"salesOrder","id":"7","said":[{"at":"2026-11-02T08:00:00Z","fields":{"status":"billed","lines":[{"a":1}],"memo":null}}]}]}`))
	f.Add([]byte(`{"v":1,"golden":[{"at":"2026-11-02T08:00:00Z","from":"netsuite","rule":"owner netsuite","fields":{"total":14.50}}],"due":{"zendesk":{"since":"2026-11-02T08:00:00Z"}}}`))
	f.Add([]byte(`{"v":1,"id":"order/1","views":[{"platform":"netsuite","external":true,"into":"8"},{"platform":"zendesk","external":"order/2"}],"overrides":{"a":{"value":1,"by":"x","when":"2026-11-02T08:00:00Z"}},"apart":["order/3"],"into":"order/4","claims":[{"entity":"order","rule":"r","digest":"d"}],"log":{"seq":1,"hash":"00"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		once, err := encode(s)
		if err != nil {
			if strings.Contains(err.Error(), "year outside of range") { // json's own limit of a time
				return
			}
			t.Fatalf("%s was read but cannot be written: %v", b, err)
		}
		back, err := decode(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := encode(back); err != nil || string(twice) != string(once) {
			t.Fatalf("not stable:\n%s\n%s (%v)", once, twice, err)
		}
	})
}

// Cells of one observation are stored as one group, so that a state stays small and readable.
func TestStoredFormGroupsCells(t *testing.T) {
	t.Parallel()
	o := record.Observation{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}, Version: record.Version{At: epoch}, Trace: "t1",
		Fields: map[string]record.Value{"status": record.TextValue("billed"), "phone": record.NullValue()}}
	v, _ := record.Observe(record.View{}, o)
	r, _ := record.Fold(record.Record{ID: "order/1", Views: map[string]record.View{"netsuite": v}}, rules(), on, epoch)
	b, err := encode(State{Record: r})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Views []struct {
			Said []struct {
				Trace  string
				Fields map[string]any
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Views) != 1 || len(got.Views[0].Said) != 1 || len(got.Views[0].Said[0].Fields) != 2 || got.Views[0].Said[0].Trace != "t1" {
		t.Errorf("stored as %s", b)
	}
}

// What different people said at one time is not one group.
func TestStoredFormKeepsActorsApart(t *testing.T) {
	t.Parallel()
	at := record.Version{At: epoch}
	want := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{"zendesk": {Ref: record.Ref{Platform: "zendesk", Object: "o", ID: "7"}, Said: map[string]record.Cell{
		"a": {Value: record.TextValue("1"), Version: at, Actor: "ada"}, "b": {Value: record.TextValue("2"), Version: at, Actor: "bob"}, "c": {Value: record.TextValue("3"), Version: at}}}}}}
	b, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b)
	if err != nil || !reflect.DeepEqual(plain(got), plain(want)) {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
}

// Every member that a state has, and every one that it will get, survives storage.
func TestEveryMemberSurvivesStorage(t *testing.T) {
	t.Parallel()
	var want State
	fill(reflect.ValueOf(&want).Elem())
	b, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v\nstored as %s", got, err, want, b)
	}
}

// fill sets whatever can be set to something.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case record.Value:
		v.Set(reflect.ValueOf(record.TextValue("x")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(epoch))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k)
		fill(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(f)
			}
		}
	}
}
