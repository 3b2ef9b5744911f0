package record

import "testing"

// ask enters a request of Sorrel's own.
func (c *casus) ask(field string, v Value) {
	c.t.Helper()
	r, _, can := c.r.Ask(c.rules, Request{Field: field, Value: v, By: "activation/x/1", Reason: "it is so", Trace: "t"}, c.now)
	if !can {
		c.t.Fatalf("%s cannot be asked for", field)
	}
	c.r = r
	c.fold()
}

func TestRequestGoesToTheOwner(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	c.ask("street", TextValue("new"))
	c.ask("street", TextValue("new")) // again: nothing happens
	if v, asks := c.r.Asked("street"); !asks || v != TextValue("new") || len(c.r.Proposals) != 1 {
		t.Fatalf("%v, %+v", v, c.r.Proposals)
	}
	c.golden("street", TextValue("old"))
	c.silent(Salesforce)
	c.write(NetSuite, "street", TextValue("new"))
	c.say(NetSuite, "street", TextValue("new"))
	c.happened("applied")
	c.golden("street", TextValue("new"))
	if _, asks := c.r.Asked("street"); asks || len(c.r.Proposals) > 0 {
		t.Errorf("left: %+v", c.r.Proposals)
	}
	c.write(Salesforce, "street", TextValue("new"))
	if g := c.r.Granted["street"]; g.By != "activation/x/1" || g.Platform != Sorrel {
		t.Errorf("why: %+v", g)
	}
}

// The owner says something else before the request reaches it: its word counts, and nobody is asked to decide.
func TestRequestIsOvertaken(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	c.ask("street", TextValue("new"))
	c.say(NetSuite, "street", TextValue("other"))
	c.golden("street", TextValue("other"))
	c.silent(NetSuite)
	if len(c.r.Proposals) > 0 || len(c.out.Closed) != 1 || c.out.Closed[0].Status != ProposalWithdrawn {
		t.Errorf("left %+v, closed %+v", c.r.Proposals, c.out.Closed)
	}
}

func TestRequestIsTakenBack(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	c.ask("street", Value{})
	c.ask("street", TextValue("new"))
	c.ask("street", TextValue("newer"))
	c.ask("city", TextValue("Beaune"))
	if p := c.r.Proposals[ProposalKey(Sorrel, "street")]; p.Revision != 2 || len(c.r.Proposals) != 2 {
		t.Fatalf("%+v", c.r.Proposals)
	}
	c.ask("street", Value{})
	c.happened("withdrawn")
	if p := c.patch(NetSuite); len(p.Fields) != 1 || p.Fields["city"] != TextValue("Beaune") {
		t.Errorf("%+v", p)
	}
	if _, _, can := c.r.Ask(Rules{Fields: map[string]Rule{"x": {Kind: Latest}}}, Request{Field: "x", Value: TextValue("y")}, c.now); can {
		t.Error("a field without an owner can be asked for")
	}
}

// What is asked for before the owner has a native record is written when it gets one.
func TestRequestBeforeTheOwnerIsThere(t *testing.T) {
	t.Parallel()
	c := newCase(t, billing(Approval{}))
	c.say(Salesforce, "city", TextValue("Dijon"))
	c.ask("street", TextValue("new"))
	if p := c.patch(NetSuite); !p.Create || p.Fields["street"] != TextValue("new") {
		t.Fatalf("%+v", p)
	}
}
