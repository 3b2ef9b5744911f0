package record

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Uniting two records and dividing them again restores both, as their platforms are now.
func TestUniteAndDivide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := merged(drawHistory(t)), merged(drawHistory(t))
		b.ID = "order/2"
		for p := range b.Views { // no platform may have a living one of both
			if a.Views[p].Exists() && b.Views[p].Exists() {
				if rapid.Bool().Draw(t, "whose") {
					delete(a.Views, p)
				} else {
					delete(b.Views, p)
				}
			}
		}
		a, _ = Fold(a, rules(), plain, epoch)
		b, _ = Fold(b, rules(), plain, epoch)
		a.Held = map[string]Hold{HoldKey(NetSuite, "status"): {Type: "a"}}
		b.Held = map[string]Hold{HoldKey(Salesforce, "status"): {Type: "b"}, HoldKey(Zendesk, "status"): {Type: "b"}}
		wasA, wasB := a.Clone(), b.Clone()
		into, from, ok := Unite(a, b)
		if !ok || from.Into != a.ID || len(into.Absorbed) != 1 {
			t.Fatalf("not united: %v %+v", ok, from)
		}
		for p, v := range b.Views {
			if v.Exists() && !alikeViews(into.Views[p], v) {
				t.Fatalf("%s did not come", p)
			}
		}
		for p, v := range a.Views {
			if v.Exists() && !alikeViews(into.Views[p], v) {
				t.Fatalf("%s did not stay", p)
			}
		}
		Fold(into, rules(), plain, epoch)
		if _, _, again := Unite(into, from); again {
			t.Fatal("united twice")
		}
		backA, backB := Divide(into, from)
		if !alike(a, wasA) || !alike(b, wasB) {
			t.Fatal("an argument was modified")
		}
		if !maps.EqualFunc(backA.Views, a.Views, alikeViews) || !maps.EqualFunc(backB.Views, b.Views, alikeViews) {
			t.Fatalf("not restored:\n%s\n%s", difference(a, backA), difference(b, backB))
		}
		backA, _ = Fold(backA, rules(), plain, epoch)
		backB, _ = Fold(backB, rules(), plain, epoch)
		if !maps.Equal(backA.Golden, a.Golden) || !maps.Equal(backB.Golden, b.Golden) {
			t.Fatalf("golden fields are not restored:\n%s\n%s", difference(a, backA), difference(b, backB))
		}
		if len(backA.Absorbed) > 0 || backA.Apart[0] != b.ID || backB.Apart[0] != a.ID || backB.Into != "" {
			t.Fatalf("%+v\n%+v", backA, backB)
		}
		if backA = backA.Suspect(b.ID, Suspicion{Rule: "name"}); len(backA.Suspects) > 0 {
			t.Fatal("suspected again though people said that they differ")
		}
	})
}

// How far a process is with a record is not forgotten when it becomes another, where nothing is known of that one.
func TestUniteAssigned(t *testing.T) {
	t.Parallel()
	is := func(v string) Assigned { return Assigned{Value: TextValue(v), When: epoch, By: "run " + v} }
	a, b := Record{ID: "order/1"}, Record{ID: "order/2", Assigned: map[string]Assigned{"stage": is("pending"), "note": is("wait")}}
	a.Assigned = map[string]Assigned{"note": {Value: NullValue(), When: epoch, By: "a person"}}
	into, from, _ := Unite(a, b)
	if want := map[string]Assigned{"stage": is("pending"), "note": a.Assigned["note"]}; !maps.Equal(into.Assigned, want) {
		t.Errorf("%+v", into.Assigned)
	}
	backA, backB := Divide(into, from)
	if !maps.Equal(backA.Assigned, a.Assigned) || !maps.Equal(backB.Assigned, b.Assigned) {
		t.Errorf("%+v, %+v", backA.Assigned, backB.Assigned)
	}
}

func TestTwoLivingNativeRecordsAreNotUnited(t *testing.T) {
	t.Parallel()
	a, b := newCase(t, rules().Fields), newCase(t, rules().Fields)
	a.say(NetSuite, "status", TextValue("a"))
	b.say(NetSuite, "status", TextValue("b"))
	b.r.ID = "customer/2"
	if _, _, ok := Unite(a.r, b.r); ok {
		t.Error("united, and one native record is lost")
	}
	b.now = b.now.Add(time.Minute)
	b.observe(Observation{Ref: Ref{NetSuite, "customer", "7"}, Version: Version{At: b.now}, Gone: true, Into: "8"})
	if _, _, ok := Unite(a.r, b.r); !ok {
		t.Error("not united though one of the two was merged away")
	}
}

// What people found to be two things stays two, however often the merge is spoken of, until a platform merges them anew.
func TestToldApart(t *testing.T) {
	t.Parallel()
	a, b := newCase(t, rules().Fields), newCase(t, rules().Fields)
	b.r.ID = "customer/2"
	ref, born := Ref{NetSuite, "customer", "7"}, b.now
	b.r.Views[Salesforce] = View{Ref: Ref{Salesforce, "Account", "8"}}
	merged := func() { b.observe(Observation{Ref: ref, Version: Version{At: b.now}, Gone: true, Into: "8"}) }
	a.observe(Observation{Ref: Ref{NetSuite, "customer", "8"}, Version: Version{At: a.now}, Born: born})
	b.observe(Observation{Ref: ref, Version: Version{At: b.now}, Born: born})
	b.now = b.now.Add(time.Minute)
	merged()
	b.r = b.r.Suspect(a.r.ID, Suspicion{Rule: "merge", Merged: NetSuite, Since: b.now})
	if b.r.Views[NetSuite].Merged() != "8" {
		t.Errorf("%+v", b.r.Views[NetSuite])
	}
	was := b.r
	b.r = b.r.Tell(a.r)
	if was.Views[NetSuite].Merged() != "8" {
		t.Error("the argument was modified")
	}
	merged()
	b.now = b.now.Add(time.Minute)
	merged() // with another version
	if v := b.r.Views[NetSuite]; v.Merged() != "" || v.Exists() || len(b.r.Suspects) > 0 {
		t.Errorf("%+v, suspected: %v", v, b.r.Suspects)
	}
	b.observe(Observation{Ref: ref, Version: Version{At: b.now.Add(time.Minute)}, Born: b.now.Add(time.Minute)})
	b.now = b.now.Add(time.Hour)
	merged()
	if b.r.Views[NetSuite].Merged() != "8" {
		t.Errorf("merged anew: %+v", b.r.Views[NetSuite])
	}
	if b.r = b.r.Suspect(a.r.ID, Suspicion{Rule: "name"}); len(b.r.Suspects) > 0 {
		t.Error("suspected again by a key, though people said that they differ")
	}
	if b.r = b.r.Suspect(a.r.ID, Suspicion{Rule: "merge", Merged: NetSuite}); len(b.r.Suspects) == 0 {
		t.Error("nobody is asked about a merge that came later")
	}
}

// The proposals of a record that is merged into another end, and whoever lists them sees that.
func TestMergedRecordsProposalsEnd(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	c.say(Salesforce, "street", TextValue("new"))
	_, c.r, _ = Unite(Record{ID: "customer/2"}, c.r)
	c.fold()
	c.happened("withdrawn")
	if len(c.out.Closed) != 1 || len(c.r.Proposals)+len(c.r.Golden) > 0 {
		t.Errorf("closed %+v, left %+v", c.out.Closed, c.r)
	}
}

// What was approved is written once to the owner's native record, also when that has become another one since: the
// versions of the two say nothing about each other. The owner does not tell the version of our write.
func TestApprovedChangeAfterAMerge(t *testing.T) {
	t.Parallel()
	written := func(c *casus, when string) {
		t.Helper()
		v := c.r.Views[NetSuite]
		patch := c.patch(NetSuite)
		if patch.Fields["street"] != TextValue("new") {
			t.Fatalf("%s: to be written: %+v", when, patch)
		}
		c.r.Views[NetSuite] = Confirm(v, v, patch.Fields, Version{}, c.now, "write")
		c.fold()
		c.silent(NetSuite)
	}
	of := func(id string, at time.Time) Observation {
		return Observation{Ref: Ref{NetSuite, "customer", id}, Version: Version{At: at}, Fields: map[string]Value{"street": TextValue("old"), "city": TextValue("Dijon")}}
	}
	other := newCase(t, billing(Approval{}))
	other.r.ID = "customer/2"
	other.observe(of("8", epoch)) // long ago
	c := agreed(t, Approval{})
	c.say(Salesforce, "street", TextValue("new"))
	c.decide(c.proposal(Salesforce, "billing").ID, true)
	c.observe(Observation{Ref: Ref{NetSuite, "customer", "7"}, Version: Version{At: c.now}, Gone: true, Into: "8"})
	var from Record
	c.r, from, _ = Unite(c.r, other.r)
	c.fold()
	written(c, "united")

	c.observe(of("8", epoch.AddDate(1, 0, 0)))
	c.say(Salesforce, "street", TextValue("newer"))
	c.say(Salesforce, "street", TextValue("new"))
	c.decide(c.proposal(Salesforce, "billing").ID, true)
	c.r, _ = Divide(c.r, from)
	c.observe(Observation{Ref: Ref{NetSuite, "customer", "7"}, Version: Version{At: c.now}, Born: c.now.Add(time.Hour)})
	c.fold()
	written(c, "divided")
}

// While two records were one, a native record came to it that carries the absorbed one's external id. When they are parted, it
// stays, and so does the external id: the other gets another one.
func TestDivideLeavesAnExternalID(t *testing.T) {
	t.Parallel()
	sold := View{Ref: Ref{Salesforce, "Account", "1"}, Born: Version{At: epoch}}
	a := Record{ID: "customer/a", Views: map[string]View{Salesforce: sold}}
	b := Record{ID: "customer/b", Views: map[string]View{Zendesk: {Ref: Ref{Zendesk, "organization", "2"}, Born: Version{At: epoch}}}}
	into, from, ok := Unite(a, b)
	if !ok {
		t.Fatal("they are not united")
	}
	into.Views[NetSuite] = View{Ref: Ref{NetSuite, "customer", "3"}, Born: Version{At: epoch}, External: b.ID}
	backA, backB := Divide(into, from)
	if backA.Views[NetSuite].ID != "3" || backB.External() == b.External() || backA.External() == a.External() {
		t.Errorf("%s has NetSuite's %q; %s and %s are their external ids", backA.ID, backA.Views[NetSuite].ID, backA.External(), backB.External())
	}
	delete(into.Views, NetSuite)
	if _, backB = Divide(into, from); backB.External() != b.External() {
		t.Errorf("%s has the external id %s although it left none behind", backB.ID, backB.External())
	}
}
