package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Proposal statuses.
const (
	ProposalOpen      = "open"
	ProposalApproved  = "approved"  // to be written to the owner, or written and not yet said back
	ProposalRejected  = "rejected"  // the platform that asks is put back
	ProposalExpired   = "expired"   // the same, because nobody decided in time
	ProposalApplied   = "applied"   // the owner has said the value
	ProposalWithdrawn = "withdrawn" // nothing differs any more
)

// Proposal is a change that a platform made to fields that another one owns, and that needs a decision. There is at
// most one at a time for each platform and group of fields; what is asked for follows what the platform says.
type Proposal struct {
	ID       string         `json:"id"`
	Platform string         `json:"platform"` // that asks
	Group    string         `json:"group"`
	Fields   map[string]Ask `json:"fields"`
	Status   string         `json:"status"`
	Revision int            `json:"revision"` // grows whenever what would be decided about changes
	Opened   time.Time      `json:"opened"`
	Expires  time.Time      `json:"expires,omitzero"`
	Decided  time.Time      `json:"decided,omitzero"`
	By       string         `json:"by,omitempty"` // who decided
	Comment  string         `json:"comment,omitempty"`
	Note     string         `json:"note,omitempty"` // why it has to be decided again
	Actor    string         `json:"actor,omitempty"`
	Trace    string         `json:"correlationId,omitempty"`
	PutBack  bool           `json:"putBack,omitempty"` // the platform was put back at once: what it shows says nothing any more
	At       string         `json:"rule"`
}

// Ask is one field of a proposal.
type Ask struct {
	Owner  string  `json:"owner"`
	Before Value   `json:"before,omitzero"` // what the owner says
	After  Value   `json:"after"`
	Seen   Version `json:"seen,omitzero"` // once approved: the owner's version at that moment
}

// ProposalKey names the proposal that a platform makes about a group of fields.
func ProposalKey(platform, group string) string { return platform + "/" + group }

func (p Proposal) names() []string { return slices.Sorted(maps.Keys(p.Fields)) }

func (p Proposal) event(action, by, detail string) Event {
	return Event{Action: action, Platform: p.Platform, Fields: p.names(), Proposal: p.ID, By: by, Detail: detail, At: p.At, Trace: p.Trace}
}

// denied reports whether the proposal was decided against.
func (p Proposal) denied() bool { return p.Status == ProposalRejected || p.Status == ProposalExpired }

// propose moves the proposals of r on: what is asked for now opens, amends or withdraws them; time expires them; what
// the owner says applies them.
func propose(r Record, rules Rules, forms Forms, now time.Time, out *Outcome) map[string]Proposal {
	asked := asks(r, rules, forms, out.Decisions)
	if len(asked) == 0 && len(r.Proposals) == 0 {
		return nil
	}
	left := make(map[string]Proposal, len(asked))
	keys := slices.Collect(maps.Keys(asked))
	for k := range r.Proposals {
		if _, both := asked[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		p, was := r.Proposals[k]
		a := asked[k]
		p.Fields = maps.Clone(p.Fields)
		if was {
			p, was = p.follow(r, forms, a, now, out)
		}
		if !was && len(a.fields) > 0 {
			p = a.open(r, k, now)
			out.Events = append(out.Events, p.event("proposed", p.Actor, ""))
			was = true
		}
		if p.Status == ProposalOpen {
			p = p.auto(r, a.approval, now, out)
		}
		if was {
			left[k] = p
		}
	}
	if len(left) == 0 {
		return nil
	}
	return left
}

// asking is what a platform asks for now in one group.
type asking struct {
	fields   map[string]Ask
	approval *Approval
	newest   Contribution
}

// asks collects what platforms ask for: their values on paths that propose, and the deactivation that a deletion there
// asks for.
func asks(r Record, rules Rules, forms Forms, decisions []Decision) map[string]asking {
	var out map[string]asking
	add := func(rule Rule, field string, c Contribution, after Value) {
		k := ProposalKey(c.Platform, rule.Group)
		if out == nil {
			out = map[string]asking{}
		}
		a := out[k]
		if a.fields == nil {
			a = asking{fields: map[string]Ask{}, approval: rule.Approval}
		}
		a.fields[field] = Ask{Owner: rule.Owner, Before: r.Golden[field].Value, After: after}
		if a.newest.Platform == "" || c.Version.Compare(a.newest.Version) > 0 {
			a.newest = c
		}
		out[k] = a
	}
	for _, d := range decisions {
		if d.Path == Propose {
			add(rules.Fields[d.Field], d.Field, d.Loser, d.Loser.Value)
		}
	}
	for p, v := range r.Views {
		if rules.Deletes[p] != DeleteProposed || !v.Gone() || v.Into != "" {
			continue
		}
		for f, value := range rules.Deactivated {
			if rule := rules.Fields[f]; rule.Approval != nil && !rule.owns(p) && !forms.same(rule.Owner, f, r.Golden[f].Value, value) {
				add(rule, f, Contribution{Platform: p, Version: v.Died}, value)
			}
		}
	}
	return out
}

func (a asking) open(r Record, key string, now time.Time) Proposal {
	platform, group, _ := strings.Cut(key, "/")
	p := Proposal{Platform: platform, Group: group, Fields: a.fields, Status: ProposalOpen, Revision: 1, Opened: now,
		Actor: a.newest.Actor, Trace: a.newest.Trace}
	if a.approval != nil {
		p.At, p.PutBack = a.approval.At, a.approval.PutBack
		if a.approval.Expires > 0 {
			p.Expires = now.Add(a.approval.Expires)
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %d %d", r.ID, key, a.newest.Version.At.UnixNano(), a.newest.Version.Seq)
	for _, f := range p.names() {
		fmt.Fprintf(h, " %s %d %q", f, p.Fields[f].After.Kind(), p.Fields[f].After.Raw())
	}
	p.ID = hex.EncodeToString(h.Sum(nil)[:8])
	return p
}

// follow moves one proposal on. It reports false when it is over.
func (p Proposal) follow(r Record, forms Forms, a asking, now time.Time, out *Outcome) (Proposal, bool) {
	if p.Status == ProposalApproved {
		return p.apply(r, forms, out)
	}
	if p.denied() {
		return p.retreat(a)
	}
	amended := false
	if !p.PutBack {
		for f := range p.Fields {
			if _, still := a.fields[f]; !still {
				delete(p.Fields, f)
				amended = true
			}
		}
	}
	for f, ask := range p.Fields { // the owner may have moved, or may say by itself what is asked for
		if golden := r.Golden[f].Value; golden != ask.Before && !golden.IsAbsent() {
			ask.Before = golden
			p.Fields[f], amended = ask, true
			p.Note = ask.Owner + " has changed " + f + " meanwhile"
			if forms.same(ask.Owner, f, golden, ask.After) {
				delete(p.Fields, f)
			}
		}
	}
	for f, ask := range a.fields {
		if p.Fields[f] != ask {
			p.Fields[f], amended = ask, true
			p.Actor, p.Trace = cmp.Or(a.newest.Actor, p.Actor), cmp.Or(a.newest.Trace, p.Trace)
		}
	}
	switch {
	case len(p.Fields) == 0:
		p.Status = ProposalWithdrawn
		out.close(p, "withdrawn", "nothing differs any more")
		return p, false
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		p.Status, p.Decided, p.By = ProposalExpired, now, Sorrel
		out.Events = append(out.Events, p.event("expired", Sorrel, ""))
		if len(a.fields) == 0 { // put back already
			out.Closed = append(out.Closed, p)
			return p, false
		}
	case amended:
		p.Revision++
		out.Events = append(out.Events, p.event("amended", p.Actor, p.Note))
	}
	return p, true
}

// apply follows an approved proposal until its owner has said something new about each field.
func (p Proposal) apply(r Record, forms Forms, out *Outcome) (Proposal, bool) {
	for f, ask := range p.Fields {
		v := r.Views[ask.Owner]
		said, wrote := v.Said[f], v.Wrote[f]
		written := forms.same(ask.Owner, f, wrote.Value, ask.After) && wrote.Base.Compare(ask.Seen) >= 0
		switch {
		case forms.same(ask.Owner, f, said.Value, ask.After):
			delete(p.Fields, f) // it is said
		case written && said.Version.Compare(wrote.Base) > 0:
			delete(p.Fields, f) // the owner has put it into a form of its own, or changed it since
		case !written && said.Value != ask.Before && !said.Value.IsAbsent():
			p.Status, p.Decided, p.By = ProposalOpen, time.Time{}, ""
			p.Revision++
			p.Note = ask.Owner + " has changed " + f + " after the approval"
			ask.Before, ask.Seen = said.Value, Version{}
			p.Fields[f] = ask
			out.Events = append(out.Events, p.event("reopened", Sorrel, p.Note))
			return p, true
		}
	}
	if len(p.Fields) > 0 {
		return p, true
	}
	p.Fields, p.Status = r.Proposals[ProposalKey(p.Platform, p.Group)].Fields, ProposalApplied
	out.close(p, "applied", "")
	return p, false
}

// retreat follows a proposal that was decided against until the platform is put back, or asks for something else.
func (p Proposal) retreat(a asking) (Proposal, bool) {
	again := false
	for f, ask := range a.fields {
		if was, asked := p.Fields[f]; !asked || was.After != ask.After {
			again = true
		}
	}
	for f := range p.Fields {
		if _, still := a.fields[f]; !still {
			delete(p.Fields, f)
		}
	}
	if again || len(p.Fields) == 0 {
		return p, false
	}
	return p, true
}

// auto approves by the first predicate that holds. A predicate that fails approves nothing.
func (p Proposal) auto(r Record, a *Approval, now time.Time, out *Outcome) Proposal {
	if a == nil {
		return p
	}
	look := func(name string) Value {
		switch at, f, _ := strings.Cut(name, "."); at {
		case "before", "after":
			ask, asked := p.Fields[f]
			if !asked {
				return nullFor(r.Golden[f].Value)
			}
			if at == "after" {
				return ask.After
			}
			return nullFor(ask.Before)
		case "golden":
			return nullFor(r.Golden[f].Value)
		case "platform":
			return TextValue(p.Platform)
		}
		return NullValue()
	}
	for _, auto := range a.Auto {
		if ok, err := auto.Holds(look); err == nil && ok {
			p = p.approve(r)
			p.Decided, p.By, p.Comment = now, Sorrel, auto.Text
			out.Events = append(out.Events, Event{Action: "approved", Platform: p.Platform, Fields: p.names(), Proposal: p.ID, By: Sorrel, Detail: auto.Text, At: auto.At, Trace: p.Trace})
			return p
		}
	}
	return p
}

// approve remembers what the owners had said when it was approved.
func (p Proposal) approve(r Record) Proposal {
	fields := make(map[string]Ask, len(p.Fields))
	for f, ask := range p.Fields {
		ask.Seen = r.Views[ask.Owner].Said[f].Version
		fields[f] = ask
	}
	p.Status, p.Fields = ProposalApproved, fields
	return p
}

func nullFor(v Value) Value {
	if v.IsAbsent() {
		return NullValue()
	}
	return v
}

func (out *Outcome) close(p Proposal, action, detail string) {
	out.Events = append(out.Events, p.event(action, Sorrel, detail))
	out.Closed = append(out.Closed, p)
}

// Refusals of a decision.
var (
	ErrNoProposal = errors.New("there is no such proposal")
	ErrDecided    = errors.New("it was decided otherwise already")
	ErrExpired    = errors.New("it has expired")
	ErrMoved      = errors.New("what it asks for, or what the owner says, has changed since it was shown")
)

// Verdict is somebody's decision about a proposal.
type Verdict struct {
	Proposal string
	Revision int // that was shown; 0 when the caller does not care
	Approve  bool
	By       string
	Comment  string
}

// Decide enters a verdict. Deciding the same again changes nothing and is no error. Fold afterwards.
func Decide(r Record, v Verdict, now time.Time) (Record, []Event, error) {
	for k, p := range r.Proposals {
		if p.ID != v.Proposal {
			continue
		}
		status := ProposalRejected
		if v.Approve {
			status = ProposalApproved
		}
		switch {
		case p.Status == status:
			return r, nil, nil
		case p.Status == ProposalExpired || p.Status == ProposalOpen && !p.Expires.IsZero() && !now.Before(p.Expires):
			return r, nil, ErrExpired
		case p.Status != ProposalOpen:
			return r, nil, ErrDecided
		case v.Revision != 0 && v.Revision != p.Revision:
			return r, nil, ErrMoved
		}
		if p.Status = status; v.Approve {
			p = p.approve(r)
		}
		p.Decided, p.By, p.Comment, p.Note = now, v.By, v.Comment, ""
		r.Proposals = maps.Clone(r.Proposals)
		r.Proposals[k] = p
		return r, []Event{p.event(status, v.By, v.Comment)}, nil
	}
	return r, nil, ErrNoProposal
}

// approved finds the value that approved proposals want written to a field's owner.
func (r Record) approved(owner, field string) (Ask, string, bool) {
	for _, k := range slices.Sorted(maps.Keys(r.Proposals)) {
		p := r.Proposals[k]
		if ask, asked := p.Fields[field]; asked && p.Status == ProposalApproved && ask.Owner == owner {
			return ask, p.ID, true
		}
	}
	return Ask{}, "", false
}

// Expects reports whether a platform owns fields that approved proposals write there: what it says next decides.
func (r Record) Expects(platform string) []string {
	var out []string
	for _, p := range r.Proposals {
		for f, ask := range p.Fields {
			if p.Status == ProposalApproved && ask.Owner == platform {
				out = append(out, f)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Timer is when r changes by the mere passing of time: a proposal expires, an override ends, a held value is tried
// again. It is zero when it does not.
func (r Record) Timer() time.Time {
	var first time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, p := range r.Proposals {
		if p.Status == ProposalOpen {
			at(p.Expires)
		}
	}
	for _, o := range r.Overrides {
		at(o.Until)
	}
	for _, h := range r.Held {
		at(h.Retry)
	}
	return first
}
