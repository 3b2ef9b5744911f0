package workflow_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

const subject = record.ID("customer/a")

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// world is what the steps of a test look at, and what they bring about.
type world struct {
	def      workflow.Definition
	run      workflow.Run
	assigned map[string]record.Assigned
	ready    map[string]bool // steps that may go on
	refused  map[string]bool // steps that never will
	void     string
	now      time.Time
	said     []string
}

func on(field string) []workflow.Set {
	return []workflow.Set{{Record: subject, Field: field, Value: record.TextValue("on")}}
}

func off(field string) []workflow.Set {
	return []workflow.Set{{Record: subject, Field: field, Value: record.NullValue()}}
}

// goal is a step that sets a field of its own name and waits until the world is ready.
func (w *world) goal(name string) workflow.Step {
	return workflow.Step{Name: name,
		Do: func(workflow.Facts) workflow.Move {
			if w.refused[name] {
				return workflow.Move{Fail: name + " is refused"}
			}
			return workflow.Move{Set: on(name), Done: w.ready[name], Wait: "the world", Say: []workflow.Saying{{What: name}}}
		},
		Undo: func(workflow.Facts) workflow.Move { return workflow.Move{Set: off(name), Done: true} }}
}

// question is a step that people decide.
func (w *world) question(name string) workflow.Step {
	return workflow.Step{Name: name, Do: func(f workflow.Facts) workflow.Move {
		switch a := f.Run.Answer; {
		case a == nil || a.Step != name:
			return workflow.Move{Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"why"}, May: map[string]string{"taxId": "x"}}}
		case !a.Approve:
			return workflow.Move{Fail: "rejected by " + a.By + ": " + a.Reason}
		}
		return workflow.Move{Done: true}
	}}
}

func newWorld(steps func(*world) []workflow.Step) *world {
	w := &world{assigned: map[string]record.Assigned{}, ready: map[string]bool{}, refused: map[string]bool{}, now: start}
	w.def = workflow.Definition{Name: "test", Version: 1, Subject: "customer", Starts: func(workflow.Facts) bool { return true },
		Void: func(workflow.Facts) string { return w.void }, Steps: steps(w)}
	w.run = w.def.Begin(subject, 1, "t", w.now)
	return w
}

func (w *world) facts() workflow.Facts {
	return workflow.Facts{Subject: record.Record{ID: subject, Assigned: w.assigned}, Now: w.now}
}

// commit keeps what a move brought about.
func (w *world) commit(r workflow.Run, out workflow.Outcome) {
	w.run = r
	for _, s := range out.Set {
		w.assigned[s.Field] = record.Assigned{Value: s.Value, When: w.now}
	}
	for _, s := range out.Say {
		w.said = append(w.said, s.What)
	}
}

// settle advances until nothing happens any more.
func (w *world) settle(t interface{ Fatalf(string, ...any) }) {
	for range 3*len(w.def.Steps) + 3 {
		r, out := w.def.Advance(w.run, w.facts())
		if out.Quiet() && reflect.DeepEqual(r, w.run) {
			return
		}
		w.commit(r, out)
	}
	t.Fatalf("it does not come to rest: %+v", w.run)
}

func (w *world) take(a workflow.Act) error {
	a.Now = w.now
	r, out, err := w.def.Take(w.run, a)
	if err == nil {
		w.commit(r, out)
	}
	return err
}

func (w *world) holds(field string) bool { return w.assigned[field].Value == record.TextValue("on") }

func three(w *world) []workflow.Step {
	return []workflow.Step{w.goal("a"), w.question("ask"), w.goal("b")}
}

func TestStraight(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	w.settle(t)
	if !w.holds("a") || w.run.Step != "a" || w.run.Wait != "the world" {
		t.Fatalf("%+v", w.run)
	}
	w.ready["a"], w.ready["b"] = true, true
	w.settle(t)
	if w.run.Ask == nil || w.run.Step != "ask" {
		t.Fatalf("nothing is asked: %+v", w.run)
	}
	if err := w.take(workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{Approve: true, Saw: w.run.Ask.Version(), Correct: map[string]string{"taxId": "y"}}}); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if w.run.State != workflow.Done || !w.holds("b") || !slices.Equal(w.said, []string{"a", "approval.requested", "b"}) {
		t.Fatalf("%+v, said %v", w.run, w.said)
	}
}

func TestRejected(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	w.ready["a"] = true
	w.settle(t)
	if err := w.take(workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{}}); !fault.Is(err, fault.Refused) {
		t.Fatalf("rejected for no reason: %v", err)
	}
	reject := workflow.Act{Do: workflow.Decide, By: "fiona", Answer: workflow.Answer{Reason: "no credit"}}
	if err := w.take(reject); err != nil {
		t.Fatal(err)
	}
	if err := w.take(reject); err != nil {
		t.Fatalf("deciding the same again is refused: %v", err)
	}
	if err := w.take(workflow.Act{Do: workflow.Decide, By: "frank", Answer: workflow.Answer{Approve: true}}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "fiona has decided") {
		t.Fatalf("decided twice: %v", err)
	}
	w.settle(t)
	if w.run.State != workflow.Undone || w.holds("a") || w.run.Reason != "rejected by fiona: no credit" {
		t.Fatalf("%+v", w.run)
	}
	if err := w.take(workflow.Act{Do: workflow.Cancel, By: "frank", Reason: "late"}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "rejected by fiona: no credit") {
		t.Fatalf("cancelled after its end: %v", err)
	}
}

func TestAnswerToAnotherQuestion(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	w.ready["a"] = true
	w.settle(t)
	for _, row := range []struct {
		answer workflow.Answer
		want   fault.Class
	}{{workflow.Answer{Approve: true, Saw: "another"}, fault.Conflict}, {workflow.Answer{Approve: true, Step: "a"}, fault.Conflict}, {workflow.Answer{Approve: true, Correct: map[string]string{"name": "n"}}, fault.Refused}} {
		if err := w.take(workflow.Act{Do: workflow.Decide, By: "fiona", Answer: row.answer}); !fault.Is(err, row.want) {
			t.Errorf("%+v: %v", row.answer, err)
		}
	}
}

func TestVoidUntilFinal(t *testing.T) {
	t.Parallel()
	for _, final := range []bool{false, true} {
		w := newWorld(func(w *world) []workflow.Step {
			a := w.goal("a")
			a.Final = final
			return []workflow.Step{a, w.goal("b")}
		})
		w.ready["a"] = true
		w.settle(t)
		w.void = "reopened"
		w.settle(t)
		if undone := w.run.State == workflow.Undone; undone == final || w.holds("a") != final {
			t.Errorf("final %t: %+v", final, w.run)
		}
	}
}

// TestTimers: a question waits for days, is reminded of twice, the second time louder, and expires.
func TestTimers(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	w := newWorld(func(w *world) []workflow.Step {
		q := w.question("ask")
		q.Remind, q.Expire = []time.Duration{2 * day, 5 * day}, 7*day
		return []workflow.Step{w.goal("a"), q}
	})
	w.ready["a"] = true
	w.settle(t)
	for range 20 {
		if w.run.Look.IsZero() {
			break
		}
		w.now = w.run.Look
		w.settle(t)
	}
	if took := w.run.Ended.Sub(start); w.run.State != workflow.Undone || took != 7*day || !slices.Equal(w.said, []string{"a", "approval.requested", "workflow.reminder", "workflow.escalation"}) {
		t.Fatalf("%+v after %v, said %v", w.run, took, w.said)
	}
}

func TestStuck(t *testing.T) {
	t.Parallel()
	refuses := true
	w := newWorld(func(w *world) []workflow.Step {
		a := w.goal("a")
		a.Undo = func(workflow.Facts) workflow.Move {
			if refuses {
				return workflow.Move{Fail: "it has invoices"}
			}
			return workflow.Move{Set: off("a"), Done: true}
		}
		return []workflow.Step{a}
	})
	w.settle(t)
	if err := w.take(workflow.Act{Do: workflow.Retry, By: "olga"}); !fault.Is(err, fault.Refused) {
		t.Errorf("retried although it is not stuck: %v", err)
	}
	w.refused["a"] = true
	w.settle(t)
	if w.run.State != workflow.Stuck || w.run.Reason != "it has invoices" {
		t.Fatalf("%+v", w.run)
	}
	refuses = false
	if err := w.take(workflow.Act{Do: workflow.Retry, By: "olga"}); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if w.run.State != workflow.Undone || w.holds("a") {
		t.Fatalf("%+v", w.run)
	}
}

// TestUnknownStep: a definition that lost a step without a new version leaves its runs stuck, and says why.
func TestUnknownStep(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	w.settle(t)
	w.def.Steps = w.def.Steps[1:]
	w.settle(t)
	if w.run.State != workflow.Stuck || !strings.Contains(w.run.Reason, `has no step "a"`) {
		t.Fatalf("%+v", w.run)
	}
}

func TestBook(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	second := w.def
	second.Version = 2
	b, err := workflow.NewBook(second, w.def)
	if err != nil {
		t.Fatal(err)
	}
	if d := b.Newest("customer"); len(d) != 1 || d[0].Version != 2 {
		t.Errorf("newest: %+v", d)
	}
	if d, err := b.Of(w.run); err != nil || d.Version != 1 {
		t.Errorf("of a run of version 1: %+v, %v", d, err)
	}
	w.run.Version = 3
	if _, err := b.Of(w.run); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a run of version 3: %v", err)
	}
	bad := w.def
	bad.Steps = append(slices.Clone(bad.Steps), workflow.Step{Name: "a"}, workflow.Step{Name: "x", Do: w.goal("x").Do, Remind: []time.Duration{2, 1}}, workflow.Step{Name: "y", Do: w.goal("y").Do, Remind: []time.Duration{2}, Expire: 1})
	if _, err := workflow.NewBook(w.def, bad); err == nil || !strings.Contains(err.Error(), "4 definitions are wrong") {
		t.Errorf("a wrong book: %v", err)
	}
}

// TestLaws plays processes at random: with people who interfere, a world that refuses, and commits that are lost.
func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "steps")
		var names []string
		w := newWorld(func(w *world) []workflow.Step {
			var out []workflow.Step
			for i := range n {
				name := fmt.Sprintf("s%d", i)
				s := w.goal(name)
				if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
					s = w.question(name)
				} else {
					names = append(names, name)
				}
				if rapid.Bool().Draw(t, "timed") {
					s.Remind, s.Expire = []time.Duration{time.Hour}, 3*time.Hour
				}
				s.Final = rapid.IntRange(0, 5).Draw(t, "final") == 0
				out = append(out, s)
			}
			return out
		})
		someStep := func() string { return fmt.Sprintf("s%d", rapid.IntRange(0, n-1).Draw(t, "step")) }
		skipped := map[string]bool{}
		for range rapid.IntRange(5, 40).Draw(t, "moves") {
			was := w.run
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				w.ready[someStep()] = true
			case 3:
				if rapid.IntRange(0, 3).Draw(t, "refuse") == 0 {
					w.refused[someStep()] = true
				}
			case 4:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
			case 5:
				if rapid.IntRange(0, 5).Draw(t, "void") == 0 {
					w.void = "reopened"
				}
			case 6:
				do := rapid.SampledFrom(workflow.Acts()).Draw(t, "act")
				at := w.run.Step
				if err := w.take(workflow.Act{Do: do, By: "olga", Reason: "so", Answer: workflow.Answer{Approve: rapid.Bool().Draw(t, "approve"), Reason: "so"}}); err == nil && do == workflow.Skip {
					skipped[at] = true
				}
			default:
				r, out := w.def.Advance(w.run, w.facts())
				if rapid.IntRange(0, 2).Draw(t, "lost") > 0 {
					w.commit(r, out)
				}
			}
			if was.State.Ended() && !reflect.DeepEqual(was, w.run) {
				t.Fatalf("it has ended, and moves on: %+v", w.run)
			}
		}
		w.settle(t)
		again, out := w.def.Advance(w.run, w.facts())
		if !out.Quiet() || !reflect.DeepEqual(again, w.run) {
			t.Fatalf("the same facts move it again: %+v, %+v", again, out)
		}
		for _, name := range names {
			switch {
			case skipped[name]:
			case w.run.State == workflow.Done && !w.holds(name):
				t.Fatalf("done, but %s does not hold: %+v", name, w.run)
			case w.run.State == workflow.Undone && w.holds(name):
				t.Fatalf("undone, but %s still holds: %+v", name, w.run)
			}
		}
		for i := 1; i < len(w.run.Past); i++ {
			before, after := w.run.Past[i-1].Undone, w.run.Past[i].Undone
			if !before.IsZero() && (after.IsZero() || after.After(before)) {
				t.Fatalf("undone out of order: %+v", w.run.Past)
			}
		}
		said := map[string]int{}
		for _, what := range w.said {
			said[what]++
		}
		for _, name := range names {
			if said[name] > 1 {
				t.Fatalf("%s was told %d times", name, said[name])
			}
		}
	})
}

// Doing the same again changes nothing: a step is skipped once, and a run is cancelled once, also when it has ended since.
func TestActsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(three)
	w.settle(t)
	skip := workflow.Act{Do: workflow.Skip, By: "olga", Reason: "done by hand", Step: "a"}
	for range 2 {
		if err := w.take(skip); err != nil {
			t.Fatal(err)
		}
		if w.run.Step != "ask" {
			t.Fatalf("%+v", w.run)
		}
	}
	if err := w.take(workflow.Act{Do: workflow.Skip, By: "frank", Reason: "done by hand", Step: "a"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("somebody else skips a step that is over: %v", err)
	}
	cancel := workflow.Act{Do: workflow.Cancel, By: "olga", Reason: "not wanted"}
	if err := w.take(cancel); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if w.run.State != workflow.Undone {
		t.Fatalf("%+v", w.run)
	}
	if err := w.take(cancel); err != nil {
		t.Errorf("cancelled again: %v", err)
	}
	if err := w.take(skip); err != nil {
		t.Errorf("skipped again: %v", err)
	}
	skip.By = "frank"
	if err := w.take(skip); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "cancelled by olga: not wanted") {
		t.Errorf("skipped after its end: %v", err)
	}
}
