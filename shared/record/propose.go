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

// settled reports whether there is nothing left to decide or to write to an owner: the proposal only stays until the
// platform that asked shows what the owner says.
func (p Proposal) settled() bool {
	return p.Status == ProposalRejected || p.Status == ProposalExpired || p.Status == ProposalApplied
}

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
	deleted  map[string]Value // what the deletion of the native record asks for, whatever the owner says by now
}

// asks collects what platforms ask for: their values on paths that propose, and the deactivation that a deletion there
// asks for.
func asks(r Record, rules Rules, forms Forms, decisions []Decision) map[string]asking {
	var out map[string]asking
	at := func(rule Rule, platform string) asking {
		k := ProposalKey(platform, rule.Group)
		if out == nil {
			out = map[string]asking{}
		}
		a, some := out[k]
		if !some {
			a = asking{fields: map[string]Ask{}, deleted: map[string]Value{}, approval: rule.Approval}
			out[k] = a
		}
		return a
	}
	add := func(rule Rule, field string, c Contribution, after Value) {
		says, _ := r.says(rule.Owner, field)
		if forms.same(rule.Owner, field, says.Value, after) {
			return // the owner says so; golden is something else for another reason
		}
		a := at(rule, c.Platform)
		a.fields[field] = Ask{Owner: rule.Owner, Before: says.Value, After: after}
		if a.newest.Platform == "" || c.Version.Compare(a.newest.Version) > 0 {
			a.newest = c
			out[ProposalKey(c.Platform, rule.Group)] = a
		}
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
			if rule := rules.Fields[f]; rule.Approval != nil && !rule.owns(p) {
				at(rule, p).deleted[f] = value
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
	was := p.Fields
	p.Fields = maps.Clone(was)
	if p.Platform == Sorrel && (p.Status == ProposalWithdrawn || p.Status == ProposalApproved && p.moved(r, forms, out)) {
		p.Fields, p.Status = was, ProposalWithdrawn
		out.close(p, "withdrawn", cmp.Or(p.Note, p.Comment))
		return p, false
	}
	if p.settled() {
		return p.retreat(was, a, out)
	}
	approved := p.Status == ProposalApproved
	if approved && !p.moved(r, forms, out) {
		return p.apply(r, was, forms, a, out)
	}
	amended := p.amend(r, forms, a) && !approved
	switch {
	case len(p.Fields) == 0:
		p.Fields, p.Status = was, ProposalWithdrawn
		out.close(p, "withdrawn", "nothing differs any more")
		return p, false
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		p.Status, p.Decided, p.By = ProposalExpired, now, Sorrel
		out.Events = append(out.Events, p.event("expired", Sorrel, ""))
		return p.retreat(p.Fields, a, out)
	case amended:
		p.Revision++
		out.Events = append(out.Events, p.event("amended", p.Actor, p.Note))
	}
	return p, true
}

// amend brings an open proposal up to what the platform asks for now and what the owners say. It reports whether that
// changed what would be decided about.
func (p *Proposal) amend(r Record, forms Forms, a asking) bool {
	amended := false
	for _, f := range p.names() {
		ask := p.Fields[f]
		if _, still := a.fields[f]; !still && !p.PutBack {
			delete(p.Fields, f)
			amended = true
			continue
		}
		if says, some := r.says(ask.Owner, f); some && says.Value != ask.Before { // the owner may say by itself what is asked for
			ask.Before = says.Value
			p.Fields[f], amended = ask, true
			p.Note = ask.Owner + " has changed " + f + " meanwhile"
			if forms.same(ask.Owner, f, says.Value, ask.After) {
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
	return amended
}

// answered reports whether the owner has said what an approved proposal asks for, or something else since it was
// written: the owner may have put it into a form of its own, or have changed it again.
func (ask Ask) answered(r Record, forms Forms, field string) bool {
	said := r.Views[ask.Owner].Said[field]
	return !said.Value.IsAbsent() && (forms.same(ask.Owner, field, said.Value, ask.After) ||
		ask.written(r, forms, field) && said.Version.Compare(r.Views[ask.Owner].Wrote[field].Base) >= 0 && said.Version.Compare(ask.Seen) > 0)
}

// written reports whether what an approved proposal asks for reached the owner.
func (ask Ask) written(r Record, forms Forms, field string) bool {
	wrote, some := r.Views[ask.Owner].Wrote[field]
	return some && forms.same(ask.Owner, field, wrote.Value, ask.After) && wrote.Base.Compare(ask.Seen) >= 0
}

// moved opens an approved proposal again whose owner has said something else before it was written.
func (p *Proposal) moved(r Record, forms Forms, out *Outcome) bool {
	for _, f := range p.names() {
		ask := p.Fields[f]
		said := r.Views[ask.Owner].Said[f]
		if said.Value.IsAbsent() || said.Value == ask.Before || ask.written(r, forms, f) || ask.answered(r, forms, f) {
			continue
		}
		p.Status, p.Decided, p.By = ProposalOpen, time.Time{}, ""
		p.Revision++
		p.Note = ask.Owner + " has changed " + f + " after the approval"
		ask.Before, ask.Seen = said.Value, Version{}
		p.Fields[f] = ask
		out.Events = append(out.Events, p.event("reopened", Sorrel, p.Note))
		return true
	}
	return false
}

// apply follows an approved proposal until its owner has answered about each field. From then on, the platform that
// asked follows the owner: what the owner made of the value may look different.
func (p Proposal) apply(r Record, was map[string]Ask, forms Forms, a asking, out *Outcome) (Proposal, bool) {
	for f, ask := range p.Fields {
		if ask.answered(r, forms, f) {
			delete(p.Fields, f)
		}
	}
	if len(p.Fields) > 0 {
		return p, true
	}
	p.Fields, p.Status = was, ProposalApplied
	out.Events = append(out.Events, p.event("applied", Sorrel, ""))
	out.applied = append(out.applied, p)
	return p.retreat(was, a, out)
}

// retreat follows a settled proposal until the platform that asked shows what the owner says, or asks for something else.
func (p Proposal) retreat(was map[string]Ask, a asking, out *Outcome) (Proposal, bool) {
	left, stays := p.rest(a)
	if !stays {
		p.Fields = was
		out.Closed = append(out.Closed, p)
	}
	return left, stays
}

// rest keeps of a settled proposal what the platform still asks for. It reports false when that is nothing, or more
// than what was decided about.
func (p Proposal) rest(a asking) (Proposal, bool) {
	if a.repeats(p) {
		return p, true // a deletion asks once, not whenever the owner changes the field
	}
	left := make(map[string]Ask, len(a.fields))
	for f, ask := range a.fields {
		was, asked := p.Fields[f]
		if !asked || was.After != ask.After {
			return p, false
		}
		left[f] = was
	}
	p.Fields = left
	return p, len(left) > 0
}

// repeats reports whether a proposal asks for what the deletion of the native record asks for.
func (a asking) repeats(p Proposal) bool {
	for f, v := range a.deleted {
		if p.Fields[f].After != v {
			return false
		}
	}
	return len(a.deleted) > 0
}

// withdraw ends the proposals of a record that was merged into another.
func withdraw(r Record, out *Outcome) {
	for _, k := range slices.Sorted(maps.Keys(r.Proposals)) {
		p := r.Proposals[k]
		if p.settled() {
			out.Closed = append(out.Closed, p)
			continue
		}
		p.Status = ProposalWithdrawn
		out.close(p, "withdrawn", "merged into "+string(r.Into))
	}
}

// Grant is the approval that brought an owner's value.
type Grant struct {
	Proposal string    `json:"proposal"`
	Platform string    `json:"platform"` // that asked
	Actor    string    `json:"actor,omitempty"`
	Owner    string    `json:"owner"`
	Value    Value     `json:"value"` // that the owner said then
	By       string    `json:"by"`
	Decided  time.Time `json:"decided"`
	Comment  string    `json:"comment,omitempty"`
}

// granted are the approvals that the owners' present values came from: those that were applied just now, and the
// earlier ones whose values still stand.
func granted(r Record, applied []Proposal) map[string]Grant {
	var out map[string]Grant
	keep := func(f string, g Grant) {
		if out == nil {
			out = map[string]Grant{}
		}
		out[f] = g
	}
	for f, g := range r.Granted {
		if r.Views[g.Owner].Said[f].Value == g.Value {
			keep(f, g)
		}
	}
	for _, p := range applied {
		for f, ask := range p.Fields {
			keep(f, Grant{p.ID, p.Platform, p.Actor, ask.Owner, r.Views[ask.Owner].Said[f].Value, p.By, p.Decided, p.Comment})
		}
	}
	return out
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
		case p.Status == status || v.Approve && p.Status == ProposalApplied:
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

// Wanted is the value that a field shall have on a platform: the golden one, or what an approved proposal asks the
// field's owner for.
func (r Record) Wanted(platform, field string) Value {
	if ask, _, some := r.approved(platform, field); some {
		return ask.After
	}
	return r.Golden[field].Value
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

// Unsaid lists the fields that a platform decides and has never said, nor been told, although its native record is
// there: one that we made, where it fills in what nobody told it, such as a number. The first thing that it says is its
// own word.
func (r Record) Unsaid(rules Rules, platform string) []string {
	var out []string
	for f, rule := range rules.Fields {
		if _, origin := r.Views[platform].Holds(f); rule.owns(platform) && origin == FromNobody {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}

// Timer is when r changes by the mere passing of time: a proposal expires, an override ends, a held value is tried
// again, a suspicion is looked at again. It is zero when it does not.
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
	for _, s := range r.Suspects {
		at(s.Check)
	}
	return first
}
