package record

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// billing is two fields that NetSuite owns and Salesforce proposes, to Zendesk's knowledge.
func billing(a Approval) map[string]Rule {
	rule := Rule{Kind: Owner, Owner: NetSuite, Paths: map[string]Path{Salesforce: Propose, Zendesk: Revert}, Targets: []string{Salesforce, Zendesk},
		Text: "owner netsuite", At: "p.yaml:1:1", Group: "billing", Approval: &a}
	return map[string]Rule{"street": rule, "city": rule}
}

// agreed is a case in which all platforms say the same.
func agreed(t *testing.T, a Approval) *casus {
	c := newCase(t, billing(a))
	for _, p := range []string{NetSuite, Salesforce, Zendesk} {
		c.say(p, "street", TextValue("old"))
		c.say(p, "city", TextValue("Dijon"))
	}
	return c
}

func (c *casus) happened(actions ...string) {
	c.t.Helper()
	var got []string
	for _, e := range c.out.Events {
		got = append(got, e.Action)
	}
	if strings.Join(got, " ") != strings.Join(actions, " ") {
		c.t.Errorf("events %v, want %v", got, actions)
	}
}

func TestApprovedProposalGoesToTheOwnerFirst(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Expires: time.Hour})
	c.say(Salesforce, "street", TextValue("new"))
	c.happened("proposed")
	p := c.proposal(Salesforce, "billing")
	if a := p.Fields["street"]; len(p.Fields) != 1 || a.Before != TextValue("old") || a.After != TextValue("new") || a.Owner != NetSuite {
		t.Fatalf("asked: %+v", p.Fields)
	}
	preview := Preview(c.r, c.rules, plain, p)
	if len(preview) != 2 || preview[NetSuite].Fields["street"] != TextValue("new") || preview[Zendesk].Fields["street"] != TextValue("new") {
		t.Errorf("preview: %+v", preview)
	}
	c.golden("street", TextValue("old"))
	c.silent(Salesforce)
	c.decide(p.ID, true)
	c.silent(Salesforce)
	c.silent(Zendesk)
	c.write(NetSuite, "street", TextValue("new"))
	c.golden("street", TextValue("old")) // only the owner's own word counts
	c.say(NetSuite, "street", TextValue("new"))
	c.happened("applied")
	c.golden("street", TextValue("new"))
	c.silent(Salesforce)
	c.write(Zendesk, "street", TextValue("new"))
	if len(c.r.Proposals) > 0 {
		t.Errorf("left: %+v", c.r.Proposals)
	}
}

func TestDeniedProposalIsPutBack(t *testing.T) {
	t.Parallel()
	for name, deny := range map[string]func(*casus, Proposal){
		"rejected": func(c *casus, p Proposal) { c.decide(p.ID, false) },
		"expired":  func(c *casus, p Proposal) { c.now = p.Expires; c.fold(); c.happened("expired") },
	} {
		c := agreed(t, Approval{Expires: time.Hour})
		c.say(Salesforce, "street", TextValue("new"))
		deny(c, c.proposal(Salesforce, "billing"))
		c.silent(NetSuite)
		c.say(Salesforce, "street", TextValue("new")) // says its whole record again meanwhile
		if p := c.proposal(Salesforce, "billing"); !p.settled() {
			t.Errorf("%s: asked again: %+v", name, p)
		}
		c.write(Salesforce, "street", TextValue("old"))
		if len(c.r.Proposals) > 0 || len(c.out.Closed) != 1 || c.out.Closed[0].Fields["street"].After != TextValue("new") {
			t.Errorf("%s: left %+v, closed %+v", name, c.r.Proposals, c.out.Closed)
		}
		c.say(Salesforce, "street", TextValue("new"))
		c.happened("proposed")
	}
}

func TestPutBackAtOnce(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Expires: time.Hour, PutBack: true})
	c.say(Salesforce, "street", TextValue("new"))
	c.write(Salesforce, "street", TextValue("old"))
	c.decide(c.proposal(Salesforce, "billing").ID, true)
	c.write(NetSuite, "street", TextValue("new"))
	c.say(NetSuite, "street", TextValue("new"))
	c.write(Salesforce, "street", TextValue("new"))
	c.write(Zendesk, "street", TextValue("new"))
}

// The owner stores what was approved in a form of its own, at the very version of the write: it is applied all the
// same, once, and whoever asked follows.
func TestOwnerNormalisesWhatWasApproved(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Expires: time.Hour})
	c.say(Salesforce, "street", TextValue(" new "))
	c.decide(c.proposal(Salesforce, "billing").ID, true)
	c.write(NetSuite, "street", TextValue(" new "))
	c.observe(Observation{Ref: Ref{NetSuite, "customer", "7"}, Version: Version{At: c.now}, Fields: map[string]Value{"street": TextValue("new")}})
	c.happened("applied")
	c.decide(c.proposal(Salesforce, "billing").ID, true) // again: nothing happens
	c.golden("street", TextValue("new"))
	c.write(Salesforce, "street", TextValue("new"))
	c.write(Zendesk, "street", TextValue("new"))
	if len(c.r.Proposals) > 0 {
		t.Errorf("left: %+v", c.r.Proposals)
	}
}

func TestOwnerMovesMeanwhile(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Expires: time.Hour})
	c.say(Salesforce, "street", TextValue("new"))
	shown := c.proposal(Salesforce, "billing")
	c.say(NetSuite, "street", TextValue("other"))
	c.happened("amended")
	if _, _, err := Decide(c.r, Verdict{Proposal: shown.ID, Revision: shown.Revision, Approve: true}, c.now); !errors.Is(err, ErrMoved) {
		t.Errorf("a decision about what was shown before: %v", err)
	}
	c.decide(shown.ID, true)
	c.say(NetSuite, "street", TextValue("third")) // before the write
	c.happened("reopened")
	c.silent(NetSuite)
	p := c.proposal(Salesforce, "billing")
	if p.Status != ProposalOpen || p.Fields["street"].Before != TextValue("third") || p.By != "" {
		t.Errorf("reopened: %+v", p)
	}
	c.say(NetSuite, "street", TextValue("new")) // by itself
	c.happened("withdrawn")
	if len(c.out.Closed) != 1 || len(c.out.Closed[0].Fields) != 1 {
		t.Errorf("closed: %+v", c.out.Closed)
	}
}

// The owner has said what is asked for before, and something else since: it is written again.
func TestSameValueIsApprovedTwice(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	for range 2 {
		c.say(Salesforce, "street", TextValue("new"))
		c.decide(c.proposal(Salesforce, "billing").ID, true)
		c.write(NetSuite, "street", TextValue("new"))
		c.say(NetSuite, "street", TextValue("new"))
		c.write(Zendesk, "street", TextValue("new"))
		c.say(NetSuite, "street", TextValue("old"))
		c.write(Salesforce, "street", TextValue("old"))
		c.write(Zendesk, "street", TextValue("old"))
	}
}

// A steward's override does not look like a change of the owner, and can be decided about all the same.
func TestProposalUnderAnOverride(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{})
	c.r.Overrides = map[string]Override{"street": {Value: TextValue("o"), By: "stew", When: c.now, Until: c.now.Add(time.Hour)}}
	c.fold()
	c.write(Salesforce, "street", TextValue("o"))
	c.say(Salesforce, "street", TextValue("new"))
	c.decide(c.proposal(Salesforce, "billing").ID, true)
	c.happened()
	c.write(NetSuite, "street", TextValue("new"))
	c.say(NetSuite, "street", TextValue("new"))
	c.happened("applied")
	c.golden("street", TextValue("o"))
}

func TestAutoApproval(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Auto: []Auto{
		{Holds: func(Lookup) (bool, error) { return true, errors.New("fails") }},
		{Text: "only the city", At: "p.yaml:9:9", Holds: func(find Lookup) (bool, error) {
			return find("after.city") == TextValue("Beaune") && find("before.city") == TextValue("Dijon") && find("after.street") == TextValue("new") &&
				find("platform") == TextValue(Salesforce) && find("golden.street") == TextValue("old"), nil
		}}}})
	c.say(Salesforce, "city", TextValue("Beaune"))
	c.happened("proposed") // the street is not asked for
	c.say(Salesforce, "street", TextValue("new"))
	if c.happened("amended", "approved"); t.Failed() {
		return
	}
	if e := c.out.Events[1]; e.Detail != "only the city" || e.At != "p.yaml:9:9" || e.By != Sorrel {
		t.Errorf("event: %+v", e)
	}
}

func TestRefusedDecisions(t *testing.T) {
	t.Parallel()
	c := agreed(t, Approval{Expires: time.Hour})
	c.say(Salesforce, "street", TextValue("new"))
	p := c.proposal(Salesforce, "billing")
	for name, tc := range map[string]struct {
		v    Verdict
		at   time.Time
		want error
	}{
		"unknown": {Verdict{Proposal: "x", Approve: true}, c.now, ErrNoProposal},
		"expired": {Verdict{Proposal: p.ID, Approve: true}, p.Expires, ErrExpired},
		"moved":   {Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision + 1}, c.now, ErrMoved},
	} {
		if after, events, err := Decide(c.r, tc.v, tc.at); !errors.Is(err, tc.want) || len(events) > 0 || !alike(after, c.r) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	c.decide(p.ID, true)
	c.decide(p.ID, true) // again: nothing happens
	if _, _, err := Decide(c.r, Verdict{Proposal: p.ID}, c.now); !errors.Is(err, ErrDecided) {
		t.Errorf("rejecting what was approved: %v", err)
	}
}
