package simulation_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sorrel/shared/simulation"
)

type mutation struct{ name, file, line, broken string }

// mutations are central lines broken on purpose. Each stands exactly once in its file.
var mutations = []mutation{
	{"hub acknowledges what it did not commit", "shared/flow/hub/hub.go",
		"if err := f.d.Ledger.Commit(ctx, entry); err != nil {\n\t\treturn err\n", "if err := f.d.Ledger.Commit(ctx, entry); err != nil {\n\t\treturn nil\n"},
	{"the latest arrival wins, whatever its version", "shared/record/observe.go",
		"\tcase c > 0:\n\t\treturn a\n\tcase c < 0:\n\t\treturn b\n\t}\n\tif a.Value != b.Value {", "\tcase c != 0:\n\t\treturn b\n\t}\n\tif a.Value != b.Value {"},
	{"a due entry gets no pointer for the sweep", "shared/ledger/ledger.go",
		"!was || !old.NotBefore.Equal(d.NotBefore)", "was && !old.NotBefore.Equal(d.NotBefore)"},
	{"nothing is due for one platform", "shared/ledger/ledger.go",
		"if !mapped || record.Project(s.Record, rules, p, form).Empty() {", "if !mapped || p == record.ServiceNow || record.Project(s.Record, rules, p, form).Empty() {"},
	{"an unknown write is not read back", "shared/flow/deliver/deliver.go",
		"due.Unknown || len(due.Again) > 0 {", "false && due.Unknown || len(due.Again) > 0 {"},
	{"that a write is unknown is not remembered", "shared/flow/deliver/deliver.go",
		"\tdue.Unknown = true\n", "\tdue.Unknown = false\n"},
	{"an echo counts as people's", "shared/record/record.go",
		"case said.Ours || (wroteSome", "case false && said.Ours && (wroteSome"},
	{"a tombstone counts whatever was born since", "shared/record/record.go",
		"!v.Died.IsZero() && v.Died.Compare(v.Born) >= 0", "!v.Died.IsZero()"},
	{"batch saves its cursor before it queues", "shared/flow/batch/batch.go",
		"\t\tif err := r.queue(ctx, page); err != nil {\n",
		"\t\tif r.at.Cursor = page.Cursor; true {\n\t\t\tif err := r.move(ctx, true); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n\t\t}\n\t\tif err := r.queue(ctx, page); err != nil {\n"},
	{"a merge of records drops due work", "shared/govern/unite.go",
		"a.Due = with(a.Due, p, due)", "_ = due"},
	{"the gate lets everybody through", "shared/budget/guard.go", "case given && g.room(w, name, sh):", "case true || given && g.room(w, name, sh):"},
	{"the breaker never opens", "shared/budget/state.go", "case a.Trip != \"\" && !b.Open:", "case false && a.Trip != \"\" && !b.Open:"},
	{"the breaker lets everybody probe", "shared/budget/state.go", "taken := s.Breaker.Probe != \"\" &&", "taken := false && s.Breaker.Probe != \"\" &&"},
	{"a lease never ends", "shared/budget/state.go", "g.Until, g.Until.Add(a.Rules.Hold), calm, a.Place", "g.Until, g.Until.Add(1000*time.Hour), calm, a.Place"},
	{"a message is acknowledged before the function runs", "shared/simulation/world.go",
		"\t\tfailed := apply(context.Background(), got)\n",
		"\t\tfor _, m := range got {\n\t\t\t_ = l.q.Delete(context.Background(), m.Receipt)\n\t\t}\n\t\tfailed := apply(context.Background(), got)\n"},
}

// mutationsOfVendors are broken lines of connectors, and of what is between them and the flows. The histories of PlanTwins catch them.
var mutationsOfVendors = []mutation{
	{"NetSuite's webhooks are all of our own changes", "shared/netsuite/webhook.go",
		"n.Ours = e.context == \"RESTWEBSERVICES\" && e.user != \"\" && e.user == c.cfg.IntegrationUser", "n.Ours = true"},
	{"NetSuite's records do not get their external id", "shared/netsuite/record.go", "key, what = \"eid:\"+w.External,", "key, what = \"eid:x\"+w.External,"},
	{"ServiceNow's webhooks are all of our own changes", "shared/servicenow/webhook.go", "n.Ours = n.Actor != \"\" && n.Actor == c.cfg.Credentials.IntegrationUser", "n.Ours = true"},
	{"a deletion in ServiceNow is a hint", "shared/servicenow/webhook.go", "\t\tn.Gone = true\n", "\t\tn.Gone = false\n"},
}

// mutationsOfWorkflows are broken lines of what moves runs on. The histories of PlanWorkflows catch them.
var mutationsOfWorkflows = []mutation{
	{"a delivery does not stir the runs that wait for it", "shared/govern/govern.go", "if len(after.Runs) == 0 {\n\t\treturn false", "if len(after.Runs) >= 0 {\n\t\treturn false"},
	{"a run is committed whoever moved it meanwhile", "shared/ledger/run.go", "IfRev: r.rev, Absent: r.rev == \"\"", "IfRev: \"\", Absent: false"},
	{"nothing wakes a run when its time has come", "shared/ledger/run.go", "if !at.IsZero() && (first.IsZero() || at.Before(first)) {", "if false && !at.IsZero() && (first.IsZero() || at.Before(first)) {"},
	{"what was done is not undone", "shared/workflow/workflow.go", "\t\tdo = s.Undo\n", "\t\tdo = nil\n"},
}

// The simulation catches a defect in any central line within the seeds that are played whenever the tests are. Each
// mutation is a build of its own, so they are played only if SORREL_MUTATIONS is set, and those whose name contains it if
// it is not "1"; SORREL_SEEDS is how many seeds. That the lines are there is looked at always.
func TestMutations(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	asked := os.Getenv("SORREL_MUTATIONS")
	for i, m := range slices.Concat(mutations, mutationsOfVendors, mutationsOfWorkflows) {
		t.Run(m.name, func(t *testing.T) {
			file := filepath.Join(root, m.file)
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.line); n != 1 {
				t.Fatalf("%s has this %d times, want once:\n%s", m.file, n, m.line)
			}
			if asked == "" || asked != "1" && !strings.Contains(m.name, asked) {
				return
			}
			dir := t.TempDir()
			write := func(name string, content []byte) string {
				name = filepath.Join(dir, name)
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return name
			}
			broken := write("broken.go", []byte(strings.Replace(string(source), m.line, m.broken, 1)))
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: broken}})
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "sorrel")
			build := exec.CommandContext(t.Context(), "go", "build", "-overlay", write("overlay.json", overlay), "-o", program, "./cmd/sorrel")
			build.Dir = root
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			which := "--seeds=25" // those of Plan
			switch {
			case i >= len(mutations)+len(mutationsOfVendors):
				which = "--workflows"
			case i >= len(mutations):
				which = "--twins"
			}
			caught(t, program, which)
		})
	}
}

// caught plays the first seeds with a program, some at a time until a few have failed, and expects that any does.
func caught(t *testing.T, program, which string) {
	t.Helper()
	most, played := number(t, "SORREL_SEEDS", 200), 0
	var failed []string
	kinds := map[string]bool{}
	for played < most && len(failed) < 3 {
		some := min(25, most-played)
		play := exec.CommandContext(t.Context(), program, "bench", "simulate", "--json", "--whole", which, "--seed", strconv.Itoa(played), "--seeds", strconv.Itoa(some))
		out, err := play.Output() // it fails if a seed does
		var r simulation.Report
		if json.Unmarshal(out, &r) != nil || r.Seeds != some {
			t.Fatalf("%v\n%s", err, out)
		}
		played += some
		for _, f := range r.Failed {
			kind, _, _ := strings.Cut(f.Problems[0], ":")
			kinds[kind] = true
			failed = append(failed, strconv.FormatUint(f.Seed, 10))
		}
	}
	t.Logf("caught by %d of %d seeds: %s, as %s", len(failed), played, strings.Join(failed, ", "), strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	if len(failed) == 0 {
		t.Error("not caught")
	}
}
