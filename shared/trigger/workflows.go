package trigger

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"sorrel/shared/fault"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// runPath is the path of a run: the id of one has a definition, a record, which has two parts, and a number.
const runPath = "workflows/{definition}/{entity}/{key}/{number}"

func runID(r *http.Request) string {
	return strings.Join([]string{r.PathValue("definition"), r.PathValue("entity"), r.PathValue("key"), r.PathValue("number")}, "/")
}

// workflows are the routes about runs of workflows. What is done to a run is the same when it is sent again: an answer is one,
// and skipping names its step.
func (d Desk) workflows(mux *http.ServeMux) {
	d.get(mux, "workflows", func(r *http.Request) (any, error) {
		q := r.URL.Query()
		by := flow.Filter{State: workflow.State(q.Get("state")), Definition: q.Get("definition"), Asks: q.Get("asks"), Entity: q.Get("entity"), Record: record.ID(q.Get("record")), After: q.Get("after")}
		if said := q.Get("limit"); said != "" {
			n, err := strconv.Atoi(said)
			if err != nil || n < 1 {
				return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: fmt.Sprintf("limit is %.40q", said), Remedy: "a number from 1"}
			}
			by.Limit = n
		}
		return d.Runs.List(r.Context(), by)
	}, "state", "definition", "asks", "entity", "record", "after", "limit")
	d.get(mux, runPath, func(r *http.Request) (any, error) { return d.Runs.Show(r.Context(), runID(r)) })
	act := func(does string, read func(*http.Request) (workflow.Act, error)) {
		d.change(mux, change{route: "POST " + runPath + "/" + does, do: func(r *http.Request, by policy.Person) (any, error) {
			a, err := read(r)
			if err != nil {
				return nil, err
			}
			if _, err := d.Runs.Act(r.Context(), by, runID(r), a); err != nil {
				return nil, err
			}
			return d.Runs.Show(r.Context(), runID(r))
		}})
	}
	act("approve", func(r *http.Request) (workflow.Act, error) {
		var in struct {
			Reason  string            `json:"reason"`
			Correct map[string]string `json:"correct"`
			Saw     string            `json:"saw"`
		}
		err := body(r, &in, `{"reason": "…", "correct": {"name": "value"}, "saw": the question that you saw}, of which any may be left out`)
		return workflow.Act{Do: workflow.Decide, Reason: in.Reason, Answer: workflow.Answer{Approve: true, Reason: in.Reason, Correct: in.Correct, Saw: in.Saw}}, err
	})
	act("reject", func(r *http.Request) (workflow.Act, error) {
		var in struct {
			Reason string `json:"reason"`
			Saw    string `json:"saw"`
		}
		err := body(r, &in, `{"reason": "…", "saw": the question that you saw, which may be left out}`)
		return workflow.Act{Do: workflow.Decide, Reason: in.Reason, Answer: workflow.Answer{Reason: in.Reason, Saw: in.Saw}}, err
	})
	for _, does := range []string{workflow.Retry, workflow.Cancel} {
		act(does, func(r *http.Request) (workflow.Act, error) {
			var in struct {
				Reason string `json:"reason"`
			}
			err := body(r, &in, `{"reason": "…"}`)
			return workflow.Act{Do: does, Reason: in.Reason}, err
		})
	}
	act(workflow.Skip, func(r *http.Request) (workflow.Act, error) {
		var in struct {
			Step   string `json:"step"`
			Reason string `json:"reason"`
		}
		const want = `{"step": the one that you saw, "reason": "…"}`
		err := body(r, &in, want)
		if err == nil && in.Step == "" {
			err = &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "no step is named", Remedy: "send " + want}
		}
		return workflow.Act{Do: workflow.Skip, Reason: in.Reason, Step: in.Step}, err
	})
}
