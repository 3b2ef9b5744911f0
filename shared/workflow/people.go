package workflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Act is what somebody does about a run.
type Act struct {
	Do     string // one of Acts
	By     string
	Reason string
	Answer Answer // with Decide
	Step   string // with Skip: the step that was looked at; empty: whichever is at hand
	Now    time.Time
}

// What people do.
const (
	Cancel = "cancel" // undo what was done
	Retry  = "retry"  // a stuck run goes on where it was
	Skip   = "skip"   // the step at hand counts as done, or as undone
	Decide = "decide" // answer the question that is open
)

// Acts lists them.
func Acts() []string { return []string{Cancel, Retry, Skip, Decide} }

// Take applies what somebody does about a run. It sets nothing: Advance comes after it. An error says why it cannot be
// done, and nothing has changed: it is a fault.Conflict where somebody is too late, or another has decided otherwise. Doing
// the same again changes nothing, where that is what the run says already.
func (d Definition) Take(r Run, a Act) (Run, Outcome, error) {
	r = r.clone()
	var out Outcome
	no := func(class fault.Class, detail, remedy string) (Run, Outcome, error) {
		return r, Outcome{}, &fault.Error{Class: class, Op: "workflow." + a.Do, ID: r.ID(), Detail: detail, Remedy: remedy}
	}
	refuse := func(detail, remedy string) (Run, Outcome, error) { return no(fault.Refused, detail, remedy) }
	if a.Do == Decide && r.Answer != nil && r.Ask == nil && r.Answer.By == a.By && same(*r.Answer, a.Answer) {
		return r, out, nil
	}
	if a.Do == Cancel && r.State == Undone && r.Reason == cancelled(a) {
		return r, out, nil
	}
	if at := r.progress(a.Step); a.Do == Skip && a.Step != r.Step && at != nil && at.Skipped == a.By+": "+a.Reason {
		return r, out, nil
	}
	if r.State.Ended() {
		became := fmt.Sprintf("it ended at %s as %s", r.Ended.UTC().Format(time.RFC3339), r.State)
		if r.Reason != "" {
			became += ": " + r.Reason
		}
		return no(fault.Conflict, became, "nothing is to be done; a new cause starts a new run")
	}
	if strings.TrimSpace(a.Reason) == "" && (a.Do == Cancel || a.Do == Skip) {
		return refuse("no reason is given", "say why, for those who ask later")
	}
	by := func(action string) record.Event {
		e := r.event(action, r.Step, a.Reason)
		e.By = a.By
		return e
	}
	switch a.Do {
	case Cancel:
		if r.State == Undoing || r.State == Stuck && r.Back == Undoing {
			return r, out, nil
		}
		if d.final(r) {
			return refuse("what it was for is done, and is not taken back", "let it finish; skip the step that it waits in, if that will never be")
		}
		r.Back, r.Undid = "", ""
		r.undo(Cancelled, cancelled(a), a.Now, &out)
		out.Events[0].By = a.By
	case Retry:
		if r.State != Stuck {
			return refuse("it is "+string(r.State)+", not stuck", "it goes on by itself; it waits for: "+r.Wait)
		}
		out.Events = append(out.Events, by("workflow-retried"))
		r.resume()
	case Skip:
		if a.Step != "" && a.Step != r.Step {
			return no(fault.Conflict, fmt.Sprintf("it is at %s, not at %s", r.Step, a.Step), "look at the run again")
		}
		if r.State == Stuck {
			r.resume()
		}
		at := r.progress(r.Step)
		if at == nil {
			return refuse(fmt.Sprintf("its step %q is not one that was begun", r.Step), "cancel it")
		}
		at.Skipped = a.By + ": " + a.Reason
		d.next(&r, at, a.Now, &out)
		out.Events[0].By = a.By
	case Decide:
		return d.decide(r, a)
	default:
		return refuse(fmt.Sprintf("nothing is called %.40q here", a.Do), "one of "+strings.Join(Acts(), ", "))
	}
	return r, out, nil
}

func cancelled(a Act) string { return "cancelled by " + a.By + ": " + a.Reason }

// decide answers the question that is open.
func (d Definition) decide(r Run, a Act) (Run, Outcome, error) {
	no := func(class fault.Class, detail, remedy string) (Run, Outcome, error) {
		return r, Outcome{}, &fault.Error{Class: class, Op: "workflow.decide", ID: r.ID(), Detail: detail, Remedy: remedy}
	}
	late := func(detail, remedy string) (Run, Outcome, error) { return no(fault.Conflict, detail, remedy) }
	refuse := func(detail, remedy string) (Run, Outcome, error) { return no(fault.Refused, detail, remedy) }
	switch {
	case r.State != Running || r.Ask == nil:
		detail := "nothing is asked"
		if r.Answer != nil {
			detail = fmt.Sprintf("%s has decided at %s: %s", r.Answer.By, r.Answer.At.UTC().Format(time.RFC3339), r.Answer.verdict())
		}
		return late(detail, "look at the run: it is "+string(r.State))
	case a.Answer.Step != "" && a.Answer.Step != r.Step:
		return late(fmt.Sprintf("the question is about %s, not about %s", r.Step, a.Answer.Step), "look at the run again")
	case a.Answer.Saw != "" && a.Answer.Saw != r.Ask.Version():
		return late("the question has changed since it was looked at", "look at the run again, and decide anew")
	case !a.Answer.Approve && strings.TrimSpace(a.Answer.Reason) == "":
		return refuse("no reason is given for rejecting it", "say why: sales reads it")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Answer.Correct)) {
		if _, may := r.Ask.May[name]; !may {
			return refuse(fmt.Sprintf("%.60q cannot be corrected here", name), "one of "+strings.Join(slices.Sorted(maps.Keys(r.Ask.May)), ", "))
		}
	}
	answer := a.Answer
	answer.Step, answer.By, answer.At, answer.Number = r.Step, a.By, a.Now, 1
	if r.Answer != nil {
		answer.Number = r.Answer.Number + 1
	}
	r.Answer, r.Ask = &answer, nil
	action := "workflow-rejected"
	if answer.Approve {
		action = "workflow-approved"
	}
	e := r.event(action, r.Step, answer.Reason)
	e.By = a.By
	return r, Outcome{Events: []record.Event{e}}, nil
}

// verdict says what was decided.
func (a Answer) verdict() string {
	out := "approved"
	if !a.Approve {
		out = "rejected"
	}
	if a.Reason != "" {
		out += ", " + a.Reason
	}
	return out
}

// same reports whether two answers decide the same.
func same(is, again Answer) bool {
	return (again.Step == "" || is.Step == again.Step) && is.Approve == again.Approve && maps.Equal(is.Correct, again.Correct)
}
