package record

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func survivorship(kind Survivorship, order ...string) map[string]Rule {
	paths := map[string]Path{}
	for _, p := range everyPlatform {
		if paths[p] = Revert; slices.Contains(order, p) {
			paths[p] = Accept
		}
	}
	return map[string]Rule{"f": {Kind: kind, Order: order, Set: []string{"f", "g"}, Paths: paths, Targets: everyPlatform, Text: string(kind), At: "p.yaml:1:1"}}
}

func TestSurvivorship(t *testing.T) {
	t.Parallel()
	a, b, long, null := TextValue("a"), TextValue("b"), TextValue("é longer"), NullValue()
	type said struct {
		platform string
		value    Value
	}
	for name, tc := range map[string]struct {
		kind  Survivorship
		order []string
		said  []said
		want  Value
		from  string
	}{
		"latest":                     {Latest, everyPlatform, []said{{NetSuite, a}, {Zendesk, b}}, b, Zendesk},
		"latest takes a clearing":    {Latest, everyPlatform, []said{{NetSuite, a}, {NetSuite, null}}, null, NetSuite},
		"latest skips a blank":       {Latest, everyPlatform, []said{{NetSuite, a}, {Zendesk, null}}, a, NetSuite},
		"latest of the permitted":    {Latest, []string{NetSuite}, []said{{NetSuite, a}, {Zendesk, b}}, a, NetSuite},
		"rank":                       {Rank, []string{Zendesk, NetSuite}, []said{{Zendesk, a}, {NetSuite, b}}, a, Zendesk},
		"rank skips a blank":         {Rank, []string{Zendesk, NetSuite}, []said{{NetSuite, b}, {Zendesk, null}}, b, NetSuite},
		"rank takes a clearing":      {Rank, []string{Zendesk, NetSuite}, []said{{NetSuite, b}, {Zendesk, a}, {Zendesk, null}}, null, Zendesk},
		"rank of those who speak":    {Rank, []string{Zendesk, NetSuite}, []said{{NetSuite, b}}, b, NetSuite},
		"longest counts characters":  {Longest, everyPlatform, []said{{NetSuite, long}, {Zendesk, TextValue("abcdefg")}}, long, NetSuite},
		"longest prefers any value":  {Longest, everyPlatform, []said{{NetSuite, TextValue("")}, {Zendesk, null}}, TextValue(""), NetSuite},
		"longest, equal: the newest": {Longest, everyPlatform, []said{{NetSuite, a}, {Zendesk, b}}, b, Zendesk},
		"first":                      {First, everyPlatform, []said{{NetSuite, a}, {Zendesk, b}}, a, NetSuite},
		"first, not said any more":   {First, everyPlatform, []said{{NetSuite, a}, {Zendesk, b}, {NetSuite, long}}, b, Zendesk},
		"first prefers any value":    {First, everyPlatform, []said{{NetSuite, null}, {Zendesk, b}}, b, Zendesk},
		"hold":                       {Unanimous, everyPlatform, []said{{NetSuite, a}, {Zendesk, b}}, a, NetSuite},
	} {
		c := newCase(t, survivorship(tc.kind, tc.order...))
		for _, s := range tc.said {
			c.say(s.platform, "f", s.value)
		}
		if g := c.r.Golden["f"]; g.Value != tc.want || g.From != tc.from {
			t.Errorf("%s: %v from %s, want %v from %s", name, g.Value, g.From, tc.want, tc.from)
		}
	}
}

// Platforms are judged by how much of a record people filled there, not by what we wrote.
func TestMostCompleteCountsWhatPeopleFilled(t *testing.T) {
	t.Parallel()
	c := newCase(t, survivorship(MostComplete, NetSuite, Zendesk))
	c.say(NetSuite, "f", TextValue("one"))
	c.say(Zendesk, "f", TextValue("two"))
	c.golden("f", TextValue("two")) // one field each: the newest
	c.say(NetSuite, "g", TextValue("more"))
	c.golden("f", TextValue("one"))
	c.write(Zendesk, "f", TextValue("one"))
	v := c.r.Views[Zendesk]
	c.r.Views[Zendesk] = Confirm(v, v, map[string]Value{"g": TextValue("more")}, Version{}, c.now, "write")
	if filled, at := completeness(c.r.Views[Zendesk], []string{"f", "g"}); filled != 1 || !at.Equal(epoch.Add(2*time.Minute)) {
		t.Errorf("people filled %d fields of Zendesk, the last at %s", filled, at)
	}
}

// An expression is not fed what it made itself: this one would grow for ever.
func TestExpressionIsNotFedItsOwnResult(t *testing.T) {
	t.Parallel()
	fields := survivorship(Expr, NetSuite, Zendesk)
	rule := fields["f"]
	rule.Eval, rule.Text = evaluate("joined", []string{NetSuite, Zendesk})
	fields["f"] = rule
	c := newCase(t, fields)
	c.say(NetSuite, "f", TextValue("x"))
	c.say(Zendesk, "f", TextValue("y"))
	c.golden("f", TextValue("xy"))
	c.write(NetSuite, "f", TextValue("xy"))
	c.write(Zendesk, "f", TextValue("xy"))
	c.golden("f", TextValue("xy"))
	c.silent(NetSuite)
	c.say(Zendesk, "f", TextValue("z"))
	c.golden("f", TextValue("xz"))
	c.write(NetSuite, "f", TextValue("xz"))
	c.write(Zendesk, "f", TextValue("xz"))
	c.silent(Zendesk)
}

func TestFailingExpressionGivesNothing(t *testing.T) {
	t.Parallel()
	fields := survivorship(Expr, NetSuite)
	rule := fields["f"]
	rule.Eval = func(Lookup) (Value, error) { return Value{}, errors.New("no") }
	fields["f"] = rule
	c := newCase(t, fields)
	c.say(NetSuite, "f", TextValue("x"))
	c.golden("f", Value{})
	c.silent(Zendesk)
	if why, _ := Explain(c.r, c.rules, "f", plain); why.Failed != "no" || !why.Value.IsAbsent() {
		t.Errorf("why: %+v", why)
	}
}

// Whichever rule: of two contributions exactly one is stronger, and strength has no circles.
func TestTiesAreTotal(t *testing.T) {
	t.Parallel()
	kinds := []Survivorship{Latest, Rank, Longest, MostComplete, First, Unanimous}
	rapid.Check(t, func(t *rapid.T) {
		r := merged(drawHistory(t))
		rule := Rule{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Order: rapid.Permutation(everyPlatform).Draw(t, "order"), Set: []string{"phone", "site"}}
		all := Contributions(r, rapid.SampledFrom([]string{"phone", "site", "status"}).Draw(t, "field"))
		for i, a := range all {
			for j, b := range all {
				if i != j && beats(r, a, b, rule) == beats(r, b, a, rule) {
					t.Fatalf("neither or both of %+v and %+v wins", a, b)
				}
				for _, c := range all {
					if beats(r, a, b, rule) && beats(r, b, c, rule) && !beats(r, a, c, rule) {
						t.Fatalf("%+v beats %+v beats %+v in a circle", a, b, c)
					}
				}
			}
		}
	})
}

// Those who had agreed with the owner do not propose its former value when it changes.
func TestAgreementIsNoProposalLater(t *testing.T) {
	t.Parallel()
	for _, path := range []Path{Propose, Ignore} {
		c := newCase(t, map[string]Rule{"f": {Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: path}, Targets: []string{Salesforce},
			Text: "owner netsuite", At: "p.yaml:1:1", Group: "f", Approval: &Approval{}}})
		c.say(NetSuite, "f", TextValue("old"))
		c.say(Salesforce, "f", TextValue("old"))
		c.silent(Salesforce)
		c.say(NetSuite, "f", TextValue("new"))
		if len(c.r.Proposals) > 0 {
			t.Errorf("%s: Salesforce proposes %+v", path, c.r.Proposals)
		}
		c.write(Salesforce, "f", TextValue("new"))
		if why, _ := Explain(c.r, c.rules, "f", plain); len(why.Losers) > 0 {
			t.Errorf("%s: losers: %+v", path, why.Losers)
		}
	}
}

// A field that was never filled is nobody's edit: it is filled, without a proposal, whatever the path says.
func TestBlankIsFilled(t *testing.T) {
	t.Parallel()
	for _, path := range []Path{Propose, Ignore, Revert, Reject} {
		c := newCase(t, map[string]Rule{"f": {Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: path}, Targets: []string{Salesforce},
			Group: "f", Approval: &Approval{}}})
		c.say(NetSuite, "f", TextValue("v"))
		c.say(Salesforce, "f", NullValue())
		if len(c.r.Proposals)+len(c.out.Decisions) > 0 {
			t.Errorf("%s: a blank is taken for an edit: %+v", path, c.out)
		}
		c.write(Salesforce, "f", TextValue("v"))
		c.say(Salesforce, "f", NullValue())
		if len(c.out.Decisions) != 1 || c.out.Decisions[0].Path != path {
			t.Errorf("%s: clearing a filled field is not taken for an edit: %+v", path, c.out)
		}
	}
}

func TestOverrideWinsUntilItEnds(t *testing.T) {
	t.Parallel()
	c := newCase(t, survivorship(Latest, NetSuite, Zendesk))
	c.say(NetSuite, "f", TextValue("a"))
	c.r.Overrides = map[string]Override{"f": {Value: TextValue("o"), By: "stew", When: c.now, Until: c.now.Add(time.Hour)}}
	c.fold()
	c.golden("f", TextValue("o"))
	c.say(Zendesk, "f", TextValue("b"))
	c.golden("f", TextValue("o"))
	if got := c.r.Timer(); !got.Equal(epoch.Add(time.Hour + time.Minute)) {
		t.Errorf("the timer is at %s", got)
	}
	c.now = c.r.Timer()
	c.fold()
	c.golden("f", TextValue("b"))
	if len(c.r.Overrides) > 0 || len(c.out.Events) != 1 || c.out.Events[0].Action != "override-ended" {
		t.Errorf("overrides %v, events %+v", c.r.Overrides, c.out.Events)
	}
}

func TestChoiceStandsUntilSomethingNewIsSaid(t *testing.T) {
	t.Parallel()
	c := newCase(t, survivorship(Unanimous, NetSuite, Zendesk))
	c.say(NetSuite, "f", TextValue("a"))
	c.say(Zendesk, "f", TextValue("b"))
	if !c.r.Golden["f"].Split {
		t.Fatal("two values, and nobody is asked")
	}
	c.silent(Zendesk) // people decide
	c.r.Overrides = map[string]Override{"f": Chosen(c.r, "f", Override{Value: TextValue("b"), By: "stew", When: c.now})}
	c.fold()
	c.write(NetSuite, "f", TextValue("b"))
	c.say(Zendesk, "f", TextValue("b"))
	c.say(Salesforce, "f", NullValue()) // says nothing new
	c.golden("f", TextValue("b"))
	if len(c.r.Overrides) != 1 {
		t.Error("the choice has ended though nobody said anything new")
	}
	c.say(Zendesk, "f", TextValue("z"))
	c.golden("f", TextValue("z"))
	if len(c.r.Overrides) != 0 {
		t.Error("the choice has not ended")
	}
}

func TestDeletionByPolicy(t *testing.T) {
	t.Parallel()
	for policy, want := range map[Deletion]Value{DeleteIgnored: BoolValue(true), DeleteDeactivate: BoolValue(false), DeletePropagated: BoolValue(true), DeleteProposed: BoolValue(true)} {
		c := newCase(t, map[string]Rule{"active": {Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: Revert, Zendesk: Revert}, Group: "active",
			Targets: []string{Salesforce, Zendesk}, Approval: &Approval{}}})
		c.rules.Deletes, c.rules.Deactivated = map[string]Deletion{Salesforce: policy}, map[string]Value{"active": BoolValue(false)}
		c.say(NetSuite, "active", BoolValue(true))
		c.say(Salesforce, "active", BoolValue(true))
		c.say(Zendesk, "active", BoolValue(true))
		c.now = c.now.Add(time.Minute)
		c.observe(Observation{Ref: Ref{Salesforce, "customer", "7"}, Version: Version{At: c.now}, Gone: true})
		c.golden("active", want)
		for _, p := range []string{NetSuite, Zendesk} {
			if got := c.patch(p).Delete; got != (policy == DeletePropagated) {
				t.Errorf("%s: delete on %s is %v", policy, p, got)
			}
		}
		c.silent(Salesforce)
		if asked := len(c.r.Proposals) == 1; asked != (policy == DeleteProposed) {
			t.Errorf("%s: proposals %+v", policy, c.r.Proposals)
		}
		if policy == DeleteProposed {
			c.decide(c.proposal(Salesforce, "active").ID, true)
			c.write(NetSuite, "active", BoolValue(false))
			c.say(NetSuite, "active", BoolValue(false))
			c.golden("active", BoolValue(false))
		}
	}
}

// When only values that we wrote are left, golden is what we wrote, not what one of the platforms made of it.
func TestWhatWeWroteStaysGolden(t *testing.T) {
	t.Parallel()
	c := newCase(t, survivorship(First, NetSuite, Zendesk))
	c.say(NetSuite, "f", TextValue(" a "))
	c.write(Zendesk, "f", TextValue(" a "))
	c.observe(Observation{Ref: Ref{Zendesk, "customer", "7"}, Version: Version{At: c.now.Add(time.Second)}, Fields: map[string]Value{"f": TextValue("a")}, Ours: true})
	c.now = c.now.Add(time.Minute)
	c.observe(Observation{Ref: Ref{NetSuite, "customer", "7"}, Version: Version{At: c.now}, Gone: true})
	c.golden("f", TextValue(" a "))
	c.silent(Zendesk)
}

// What others decided while the owner had no native record is what it is created with, and stays golden meanwhile.
func TestOwnerIsCreatedWithWhatOthersDecided(t *testing.T) {
	t.Parallel()
	c := newCase(t, map[string]Rule{"name": {Kind: Owner, Owner: NetSuite, Meanwhile: []string{Salesforce}, Paths: map[string]Path{Salesforce: Propose},
		Targets: []string{Salesforce, Zendesk}, Group: "name", Approval: &Approval{}}})
	c.say(Salesforce, "name", TextValue("Vins"))
	c.golden("name", TextValue("Vins"))
	c.write(NetSuite, "name", TextValue("Vins"))
	c.golden("name", TextValue("Vins")) // though NetSuite has not said it yet
	c.say(Salesforce, "name", TextValue("Vins fins"))
	c.golden("name", TextValue("Vins"))
	c.proposal(Salesforce, "name")
}

// What was approved while the owner had no native record is what it is created with: it is not told of it in a second write.
func TestOwnerIsCreatedWithWhatWasApproved(t *testing.T) {
	t.Parallel()
	c := newCase(t, map[string]Rule{"active": {Kind: Owner, Owner: NetSuite, Meanwhile: []string{Salesforce}, Paths: map[string]Path{Salesforce: Propose},
		Targets: []string{Salesforce, Zendesk}, Group: "active", Approval: &Approval{}}})
	c.rules.Deletes, c.rules.Deactivated = map[string]Deletion{Salesforce: DeleteProposed}, map[string]Value{"active": BoolValue(false)}
	c.say(Salesforce, "active", BoolValue(true))
	c.write(Zendesk, "active", BoolValue(true))
	c.now = c.now.Add(time.Minute)
	c.observe(Observation{Ref: Ref{Salesforce, "customer", "7"}, Version: Version{At: c.now}, Gone: true})
	c.decide(c.proposal(Salesforce, "active").ID, true)
	c.golden("active", BoolValue(true)) // NetSuite decides, and does not know of it yet
	c.silent(Zendesk)
	c.write(NetSuite, "active", BoolValue(false))
	c.golden("active", BoolValue(false))
	c.silent(NetSuite)
	c.say(NetSuite, "active", BoolValue(false))
	c.happened("applied")
	c.silent(NetSuite)
	c.write(Zendesk, "active", BoolValue(false))
}

// A deletion asks once. An owner that takes the deactivation back is not asked again, nor do others who had agreed
// with it fight about it.
func TestDeletionAsksOnce(t *testing.T) {
	t.Parallel()
	always := &Approval{Auto: []Auto{{Text: "always", Holds: func(Lookup) (bool, error) { return true, nil }}}}
	c := newCase(t, map[string]Rule{"active": {Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: Propose, Zendesk: Propose}, Group: "active",
		Targets: []string{Salesforce}, Approval: always}})
	c.rules.Deletes, c.rules.Deactivated = map[string]Deletion{Salesforce: DeleteProposed}, map[string]Value{"active": BoolValue(false)}
	for _, p := range []string{NetSuite, Salesforce, Zendesk} {
		c.say(p, "active", BoolValue(true))
	}
	c.now = c.now.Add(time.Minute)
	c.observe(Observation{Ref: Ref{Salesforce, "customer", "7"}, Version: Version{At: c.now}, Gone: true})
	c.write(NetSuite, "active", BoolValue(false))
	c.say(NetSuite, "active", BoolValue(false))
	c.silent(NetSuite)
	c.say(NetSuite, "active", BoolValue(true))
	c.silent(NetSuite)
	c.golden("active", BoolValue(true))
}
