// Package workflow is the pure core of processes that take several systems and several days, such as the activation of a
// customer.
//
// A process is a list of steps, and a step is a goal: it looks at records as they are and says whether they are as it wants
// them, what Sorrel should set for that, or what is waited for. A step that is asked again when nothing has changed wants
// nothing new. So steps, as everything else here, may be repeated at any point: what a step sets are assigned fields of
// records, committed together with the run, and platforms hear of them as due work. No step calls anything.
//
// A run remembers where it stands. Advance moves it on: it has no clock, no I/O and no randomness. Where a step finds that
// its goal will never be reached, or somebody cancels the run, what the steps before it brought about is undone in reverse
// order. A run that can do neither is stuck, and people are told.
//
// A run belongs to one version of its definition, for good. Old versions stay beside new ones until their last run has
// ended (see Book).
package workflow

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/record"
)

// Definition is one version of a process. Its functions are pure.
type Definition struct {
	Name    string
	Version int
	Subject string                           // the entity whose records it is about
	Starts  func(Facts) bool                 // whether the subject, as it is, wants a run when none is open
	Void    func(Facts) string               // why a run is no longer wanted, or "": it is undone then. Nil: it always is
	Needs   func(Facts) map[string]record.ID // the other records that its steps look at, as far as they can be told; asked again when these are known. Nil: none
	Lists   func(Facts) map[string]Query     // records that refer to another, of which its steps look at the newest. They wake no run. Asked again when these are known. Nil: none
	Fresh   func(Facts) Fresh                // of which of these its steps want to know what their owners say. Nil: what is known serves
	Inherit bool                             // a run begins with what the last one about its subject has kept
	Steps   []Step
	Late    time.Duration // a run that takes longer is late; 0 = never
}

// Fresh are records of which steps see what their owners said when they were asked last, although nobody has committed it
// yet. With Live, the owners of what is known for too long are asked once more, within a short time.
type Fresh struct {
	Records []record.ID
	Live    bool
}

// Word is a record as its owners say it is.
type Word struct {
	Record record.Record
	AsOf   time.Time // of the oldest owner's word
	Why    string    // the owners could not be asked, so that this is older than it may be; "" is fresh enough
}

// Step is one goal on the way.
type Step struct {
	Name   string
	Do     func(Facts) Move
	Undo   func(Facts) Move // brings back what was before Do; nil: Do leaves nothing behind
	Final  bool             // once it is done the run is not void any more, and is not cancelled
	Remind []time.Duration  // how long after it began people are reminded, in order; the last is an escalation
	Expire time.Duration    // how long it may take before it fails; 0 = for ever
}

// Query asks for records of an entity that refer to a record, the newest first.
type Query struct {
	Of     record.ID
	Entity string
	Newest string // the golden field that tells how new one is, such as a date; those without it come last
	Max    int    // how many are wanted, at most MaxListed
}

// MaxListed bounds how many records a list holds.
const MaxListed = 50

// Facts are what steps look at.
type Facts struct {
	Run     Run
	Subject record.Record
	Others  map[string]record.Record   // by the names that the definition's steps know them by; what does not exist is missing
	Lists   map[string][]record.Record // by the names of Definition.Lists
	Words   map[record.ID]Word         // of Definition.Fresh, while a run is moved on
	Asked   bool                       // their owners were asked for it
	Due     map[record.ID][]string     // platforms that are still to be told something, sorted, by record
	Now     time.Time
}

// Move is what a step wants. The zero Move waits for something to change.
type Move struct {
	Done bool
	Fail string // why the goal will never be reached
	Set  []Set
	Ask  *Ask      // a decision that people have to make
	Say  []Saying  // what is told to subscribers and people, once: when the step is done
	Wait string    // what is waited for, for people
	Look time.Time // when it is looked at again although nothing has changed; zero, or past, is never
	Keep map[string]string
}

// Set gives a field of a record a value: an assigned field at once, null takes it away; of a field that a platform owns,
// it asks the owner (record.Request), and absent asks no more. A record that does not exist yet is made by it.
type Set struct {
	Record record.ID
	Field  string
	Value  record.Value
}

// Ask is a question to people.
type Ask struct {
	Roles   []string          `json:"roles"` // any of them may decide
	Reasons []string          `json:"reasons"`
	May     map[string]string `json:"may,omitempty"` // what an answer may correct: name → what it is now
}

// Version tells one question from another: whoever answers says which one they saw.
func (a Ask) Version() string {
	b, _ := json.Marshal(a) // text only
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// Saying is a business event.
type Saying struct {
	What   string            `json:"what"`
	Record record.ID         `json:"record,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// State is how a run stands.
type State string

// The states of a run.
const (
	Running State = "running"
	Undoing State = "undoing" // what was done is being undone, the last first
	Stuck   State = "stuck"   // people have to look; Back is what it was before
	Done    State = "done"
	Undone  State = "undone"
)

// Cause is why a run is undone.
type Cause string

// The causes.
const (
	Voided    Cause = "void"      // what it was for is no more
	Failed    Cause = "failed"    // a goal will never be reached
	Expired   Cause = "expired"   // a step took too long
	Cancelled Cause = "cancelled" // by people
)

// Ended reports whether a run will never move again.
func (s State) Ended() bool { return s == Done || s == Undone }

// Run is one execution of a definition.
type Run struct {
	Definition string            `json:"definition"`
	Version    int               `json:"version"`
	Subject    record.ID         `json:"subject"`
	Number     int               `json:"number"` // of this definition's runs about the subject, from 1
	State      State             `json:"state"`
	Back       State             `json:"back,omitempty"`   // with Stuck
	Reason     string            `json:"reason,omitempty"` // of undoing, or of being stuck
	Undid      string            `json:"undid,omitempty"`  // with Stuck: the reason of undoing, which it goes on with
	Cause      Cause             `json:"cause,omitempty"`  // of undoing
	Step       string            `json:"step,omitempty"`   // the one at hand; none when it has ended
	Past       []Progress        `json:"past,omitempty"`   // the steps that were begun, in that order, the one at hand included
	Ask        *Ask              `json:"ask,omitempty"`
	Answer     *Answer           `json:"answer,omitempty"` // to the last question that was answered
	Wait       string            `json:"wait,omitempty"`
	Look       time.Time         `json:"look,omitzero"` // when time alone moves it
	Kept       map[string]string `json:"kept,omitempty"`
	Began      time.Time         `json:"began"`
	Ended      time.Time         `json:"ended,omitzero"`
	Trace      string            `json:"correlationId,omitempty"`
}

// ID names a run.
func (r Run) ID() string { return fmt.Sprintf("%s/%s/%d", r.Definition, r.Subject, r.Number) }

// Makes is the id of a record that the run makes: always the same for the same name.
func (r Run) Makes(entity, name string) record.ID {
	sum := sha256.Sum256([]byte(r.ID() + "/" + name))
	return record.ID(entity + "/" + hex.EncodeToString(sum[:10]))
}

// ParseID undoes Run.ID.
func ParseID(id string) (definition string, subject record.ID, number int, ok bool) {
	definition, rest, some := strings.Cut(id, "/")
	i := strings.LastIndexByte(rest, '/')
	if !some || i < 0 {
		return "", "", 0, false
	}
	number, err := strconv.Atoi(rest[i+1:])
	subject = record.ID(rest[:i])
	return definition, subject, number, err == nil && number > 0 && subject.Validate() == nil
}

// Progress is how one step went.
type Progress struct {
	Step     string    `json:"step"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Undone   time.Time `json:"undone,omitzero"`
	Reminded int       `json:"reminded,omitempty"`
	Skipped  string    `json:"skipped,omitempty"` // by whom, and why
}

// Answer is what somebody decided.
type Answer struct {
	Step    string            `json:"step"`
	Number  int               `json:"number"` // of the run's answers, from 1
	Approve bool              `json:"approve"`
	Saw     string            `json:"saw,omitempty"` // the version of the question; empty: whichever is open
	By      string            `json:"by"`
	Reason  string            `json:"reason,omitempty"`
	Correct map[string]string `json:"correct,omitempty"`
	At      time.Time         `json:"at"`
}

// Outcome is what a move of a run brings about. It is committed with the run, or not at all.
type Outcome struct {
	Set    []Set
	Say    []Saying
	Events []record.Event // for the audit log
}

// Quiet reports whether nothing happened that anybody has to know of.
func (o Outcome) Quiet() bool { return len(o.Set) == 0 && len(o.Say) == 0 && len(o.Events) == 0 }

// Begin is a run about a subject that has just begun.
func (d Definition) Begin(subject record.ID, number int, trace string, now time.Time) Run {
	return Run{Definition: d.Name, Version: d.Version, Subject: subject, Number: number, State: Running, Step: d.Steps[0].Name,
		Past: []Progress{{Step: d.Steps[0].Name, Began: now}}, Began: now, Trace: trace}
}

// Advance moves a run on as far as it goes with these facts: until a step wants something set, waits, or has ended with
// something to keep. Facts.Run is not
// looked at; steps see the run as it is then. The same facts again, with what was wanted set, change nothing.
func (d Definition) Advance(r Run, f Facts) (Run, Outcome) {
	r = r.clone()
	var out Outcome
	for !r.State.Ended() && r.State != Stuck {
		if why := d.void(r, f); why != "" {
			r.undo(Voided, why, f.Now, &out)
		}
		step, known := d.step(r.Step)
		if !known {
			r.stick(fmt.Sprintf("version %d of %s has no step %q", d.Version, d.Name, r.Step), f.Now, &out)
			break
		}
		f.Run = r.clone()
		at := &r.Past[len(r.Past)-1]
		if r.State == Undoing {
			at = r.progress(step.Name)
		}
		m := step.move(r.State, f)
		fresh := keep(&r, m.Keep)
		set := lacking(m.Set, f)
		switch {
		case m.Fail != "" && r.State == Running:
			r.undo(Failed, m.Fail, f.Now, &out)
			continue
		case m.Fail != "":
			r.stick(m.Fail, f.Now, &out)
		case m.Done && len(set) == 0:
			out.Say = append(out.Say, m.Say...)
			d.next(&r, at, f.Now, &out)
			if fresh { // the next step may look at more than these facts
				return r, out
			}
			continue
		case r.State == Running && step.Expire > 0 && !f.Now.Before(at.Began.Add(step.Expire)):
			r.undo(Expired, fmt.Sprintf("%s took longer than %s", step.Name, step.Expire), f.Now, &out)
			continue
		default:
			out.Set = set
			r.asks(m.Ask, &out)
			r.Ask, r.Wait, r.Look = m.Ask, m.Wait, time.Time{}
			if m.Look.After(f.Now) {
				r.Look = m.Look
			}
			if r.State == Running {
				r.remind(step, at, f.Now, &out)
			}
		}
		break
	}
	return r, out
}

func (d Definition) void(r Run, f Facts) string {
	if d.Void == nil || r.State != Running || d.final(r) {
		return ""
	}
	f.Run = r
	return d.Void(f)
}

// final reports whether the run has done what it is for.
func (d Definition) final(r Run) bool {
	return slices.ContainsFunc(d.Steps, func(s Step) bool {
		p := r.progress(s.Name)
		return s.Final && p != nil && !p.Ended.IsZero()
	})
}

func (d Definition) step(name string) (Step, bool) {
	i := d.index(name)
	if i < 0 {
		return Step{}, false
	}
	return d.Steps[i], true
}

func (d Definition) index(name string) int {
	return slices.IndexFunc(d.Steps, func(s Step) bool { return s.Name == name })
}

// move asks a step what it wants.
func (s Step) move(state State, f Facts) Move {
	do := s.Do
	if state == Undoing {
		do = s.Undo
	}
	if do == nil {
		return Move{Done: true}
	}
	return do(f)
}

// next ends the step at hand and goes on to the one after it, or before it.
func (d Definition) next(r *Run, at *Progress, now time.Time, out *Outcome) {
	r.Ask, r.Wait, r.Look = nil, "", time.Time{}
	action := "step-done"
	if r.State == Undoing {
		at.Undone, action = now, "step-undone"
	} else {
		at.Ended = now
	}
	out.Events = append(out.Events, r.event(action, at.Step, at.Skipped))
	if r.State == Running {
		if i := d.index(at.Step) + 1; i < len(d.Steps) {
			r.Step = d.Steps[i].Name
			r.Past = append(r.Past, Progress{Step: r.Step, Began: now})
			return
		}
		r.end(Done, now, out)
		return
	}
	r.back(now, out)
}

// back goes to the last step that is not undone.
func (r *Run) back(now time.Time, out *Outcome) {
	for i := len(r.Past) - 1; i >= 0; i-- {
		if r.Past[i].Undone.IsZero() {
			r.Step = r.Past[i].Step
			return
		}
	}
	r.end(Undone, now, out)
}

func (r *Run) end(as State, now time.Time, out *Outcome) {
	r.State, r.Step, r.Ended = as, "", now
	out.Events = append(out.Events, r.event("workflow-"+string(as), "", r.Reason))
}

// undo turns a run back. The step at hand may have set something already, so it is the first to be undone.
func (r *Run) undo(cause Cause, why string, now time.Time, out *Outcome) {
	r.State, r.Cause, r.Reason = Undoing, cause, why
	r.Ask, r.Wait, r.Look = nil, "", time.Time{}
	out.Events = append(out.Events, r.event("workflow-undoing", r.Step, why))
	r.back(now, out)
}

func (r *Run) stick(why string, now time.Time, out *Outcome) {
	r.Back, r.State, r.Undid, r.Reason = r.State, Stuck, r.Reason, why
	r.Ask, r.Wait, r.Look = nil, "", time.Time{}
	out.Events = append(out.Events, r.event("workflow-stuck", r.Step, why))
}

// resume lets a stuck run go on as what it was before.
func (r *Run) resume() { r.State, r.Back, r.Reason, r.Undid = r.Back, "", r.Undid, "" }

// Business events about people that a run waits for, whatever its definition.
const requested, reminder, escalation = "approval.requested", "workflow.reminder", "workflow.escalation"

// Says lists the business events that runs of every definition may say, beside those of their moves.
func Says() []string { return []string{requested, reminder, escalation} }

// asks tells people of a question that they have not been asked yet.
func (r *Run) asks(ask *Ask, out *Outcome) {
	if ask == nil || r.Ask != nil && r.Ask.Version() == ask.Version() {
		return
	}
	out.Say = append(out.Say, Saying{What: requested, Record: r.Subject, Detail: map[string]string{"run": r.ID(), "step": r.Step,
		"roles": strings.Join(ask.Roles, ", "), "reasons": strings.Join(ask.Reasons, "; ")}})
	out.Events = append(out.Events, r.event("workflow-asks", r.Step, strings.Join(ask.Reasons, "; ")))
}

// remind tells people of a step that takes long, and notes when it is to be looked at again.
func (r *Run) remind(step Step, at *Progress, now time.Time, out *Outcome) {
	for at.Reminded < len(step.Remind) && !now.Before(at.Began.Add(step.Remind[at.Reminded])) {
		at.Reminded++
		what := reminder
		if at.Reminded == len(step.Remind) {
			what = escalation
		}
		out.Say = append(out.Say, Saying{What: what, Record: r.Subject, Detail: map[string]string{"run": r.ID(), "step": step.Name, "waitsFor": r.Wait}})
		out.Events = append(out.Events, r.event("workflow-"+strings.TrimPrefix(what, "workflow."), step.Name, r.Wait))
	}
	soonest := func(at time.Time) {
		if r.Look.IsZero() || at.Before(r.Look) {
			r.Look = at
		}
	}
	if at.Reminded < len(step.Remind) {
		soonest(at.Began.Add(step.Remind[at.Reminded]))
	}
	if step.Expire > 0 {
		soonest(at.Began.Add(step.Expire))
	}
}

// progress is how the last beginning of a step went, or nil.
func (r *Run) progress(step string) *Progress {
	for i := len(r.Past) - 1; i >= 0; i-- {
		if r.Past[i].Step == step {
			return &r.Past[i]
		}
	}
	return nil
}

func (r Run) event(action, step, detail string) record.Event {
	e := record.Event{Action: action, Detail: r.ID(), By: record.Sorrel, Trace: r.Trace}
	if step != "" {
		e.Detail += ", " + step
	}
	if detail != "" {
		e.Detail += ": " + detail
	}
	return e
}

func (r Run) clone() Run {
	r.Past, r.Kept = slices.Clone(r.Past), maps.Clone(r.Kept)
	return r
}

// keep reports whether anything of it is new.
func keep(r *Run, what map[string]string) bool {
	fresh := false
	for k, v := range what {
		if was, some := r.Kept[k]; !some || was != v {
			fresh = true
		}
	}
	if fresh && r.Kept == nil {
		r.Kept = map[string]string{}
	}
	maps.Copy(r.Kept, what)
	return fresh
}

// lacking are those that are not set yet.
func lacking(set []Set, f Facts) []Set {
	var out []Set
	for _, s := range set {
		r := f.Record(s.Record)
		if s.Value.IsAbsent() {
			if _, asks := r.Asked(s.Field); asks {
				out = append(out, s)
			}
			continue
		}
		if is := wanted(r, s.Field); is != s.Value && !(is.IsAbsent() && s.Value.IsNull()) {
			out = append(out, s)
		}
	}
	return out
}

// wanted is what Sorrel wants in a field of a record: what it asks of the owner, else what it has set itself, else what
// is there.
func wanted(r record.Record, field string) record.Value {
	if v, asks := r.Asked(field); asks {
		return v
	}
	if a, some := r.Assigned[field]; some {
		return a.Value
	}
	return r.Golden[field].Value
}

// Record is the record of an id among the facts.
func (f Facts) Record(id record.ID) record.Record {
	if f.Subject.ID == id {
		return f.Subject
	}
	for _, r := range f.Others {
		if r.ID == id {
			return r
		}
	}
	return record.Record{}
}
