package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sorrel/shared/budget"
	"sorrel/shared/flow/operate"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	guard "sorrel/shared/once"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
	"sorrel/shared/workflow"
)

// TestWorkflows plays a run at the command line: finance is asked about a tax number, corrects it, and a step that gets
// stuck is skipped.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Now().Truncate(time.Millisecond) }
	set, problems := policy.Load(os.DirFS("../../shared/flow/workflow/testdata"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	definition := workflow.Definition{Name: "activation", Version: 1, Subject: "deal", Late: time.Hour, Starts: func(workflow.Facts) bool { return false }, Steps: []workflow.Step{
		{Name: "approval", Do: func(f workflow.Facts) workflow.Move {
			if f.Run.Answer != nil {
				return workflow.Move{Done: true}
			}
			return workflow.Move{Wait: "finance, who looks at it in the morning", Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"DE12 is no tax number"}, May: map[string]string{"taxId": "DE12"}}}
		}, Undo: func(workflow.Facts) workflow.Move { return workflow.Move{Fail: "NetSuite keeps it"} }},
		{Name: "active", Do: func(workflow.Facts) workflow.Move { return workflow.Move{Wait: "the number"} }},
	}}
	book, err := workflow.NewBook(definition)
	if err != nil {
		t.Fatal(err)
	}
	l, tele := ledger.New(store.NewMemory(now), now), telemetry.New(nil, now, nil)
	f := flow.New(flow.Deps{Ledger: l, Config: set, Book: book, Now: now, NewTrace: func() string { return "t" }, Telemetry: tele})
	server := httptest.NewServer(trigger.Desk{Config: set, Who: trigger.Trusted(set), Telemetry: tele, Runs: f, Once: guard.Guard{Ledger: l, Now: now, NewToken: func() string { return "m" }},
		Ask: operate.New(operate.Deps{Ledger: l, Config: set, Book: book, Telemetry: tele, Now: now})}.Routes())
	t.Cleanup(server.Close)

	id := "activation/deal/0000000000000001/1"
	say := func(code int, want string, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		got := run(t.Context(), append(args, "--url", server.URL), screen{out: &out, err: &problems})
		said := out.String() + problems.String()
		if got != code || !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("%v: %d\n%s\nwant %d and %s", args, got, said, code, want)
		}
		return said
	}
	moves := func() {
		t.Helper()
		m, err := message.Wake{Platform: record.Sorrel, Record: "deal/0000000000000001"}.Message("w")
		if err != nil {
			t.Fatal(err)
		}
		if failed := f.Apply(t.Context(), []queue.Received{{Message: m, ID: "m", Receives: 1}}); len(failed) > 0 {
			t.Fatal("the workflow function fails")
		}
	}
	say(0, `^no runs\n$`, "workflows")
	r := definition.Begin("deal/0000000000000001", 1, "trace-1", now().Add(-26*time.Hour))
	s := ledger.State{Record: record.Record{ID: r.Subject, Views: map[string]record.View{}}}
	s.Look(r.ID(), time.Time{})
	s.AddDue(record.Sorrel, r.Trace, budget.Live, now())
	if err := l.Commit(t.Context(), ledger.Entry{After: s, Runs: []ledger.Run{{Run: r}}, Now: now(), Trace: r.Trace}); err != nil {
		t.Fatal(err)
	}
	moves()

	listed := say(0, `^activation/deal/0000000000000001/1  running  approval, for 26h  late\n    asks finance\n    waits for finance, who looks`, "workflows", "--asks", "finance")
	for line := range strings.Lines(listed) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	say(0, `^no runs\n$`, "workflows", "--state", "stuck")
	say(1, `no state is called`, "workflows", "--state", "asleep")
	say(0, `"id": "`+id+`"`, "workflows", "--json")
	say(1, `is no run: want workflow/entity/key/number`, "workflows", "show", "activation")
	say(1, `no such run`, "workflows", "show", "activation/deal/0000000000000002/1")
	shown := say(0, `(?s)running, version 1, began .*correlation id trace-1.*late: promised by.*asks finance \(fiona\), question [0-9a-f]+.*because DE12 is no tax number.*may be corrected: taxId, now "DE12".*waits for: finance`, "workflows", "show", id)
	question := regexp.MustCompile(`question ([0-9a-f]+)`).FindStringSubmatch(shown)[1]

	say(1, `nobody is named`, "workflows", "approve", id)
	say(1, `does not have the role finance`, "workflows", "approve", id, "--as", "stew")
	say(1, `cannot be corrected here`, "workflows", "approve", id, "--set", "name=x", "--as", "fiona")
	say(1, `the question has changed`, "workflows", "approve", id, "--saw", "another", "--as", "fiona")
	say(2, `--reason`, "workflows", "reject", id, "--as", "fiona")
	for range 2 {
		say(0, `^`+id+`  running, approval\n$`, "workflows", "approve", id, "--set", "taxId=DE136695976", "--reason", "as the register has it", "--saw", question, "--as", "fiona")
	}
	moves()
	say(0, `(?s)approval +\S+  done .*waits for: the number.*approved by fiona at .*: as the register has it.*corrected: taxId = "DE136695976".*workflow-approved by fiona: approval: as the register has it`, "workflows", "show", id)
	say(1, `conflict: fiona has decided`, "workflows", "reject", id, "--reason", "no", "--as", "fiona")
	say(0, `workflow-waits.*\n.*for the number`, "trace", "trace-1")

	say(1, `not stuck`, "workflows", "retry", id, "--as", "stew")
	say(0, `undoing`, "workflows", "cancel", id, "--reason", "not wanted", "--as", "stew")
	moves()
	say(0, `(?s)stuck.*NetSuite keeps it`, "workflows", "--state", "stuck")
	say(0, `(?s)1 run\(s\) of activation are stuck.*workflow +running +asking +undoing +stuck +late +oldest\nactivation +0 +0 +0 +1 +1 +26h`, "status")
	say(0, `undone`, "workflows", "skip", id, "--reason", "deleted by hand", "--as", "stew")
	say(1, `has ended as undone`, "workflows", "skip", id, "--reason", "deleted by hand", "--as", "stew")
	say(1, `conflict: it ended at .* as undone`, "workflows", "approve", id, "--as", "fiona")
	say(0, `^activation/deal/0000000000000001/1  undone  late\n    cancelled by stew: not wanted`, "workflows", "--record", "deal/0000000000000001")
	say(0, `skipped by stew: deleted by hand`, "workflows", "show", id)
}
