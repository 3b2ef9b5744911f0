package endtoend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/boot"
	flow "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
	"sorrel/shared/workflow"
)

// ordeal is a workflow with all that there is: it sets a field and waits until the platform has been told, makes a record,
// asks people, and says in the end how it went.
func ordeal() workflow.Definition {
	set := func(f workflow.Facts, status string) workflow.Move {
		m := workflow.Move{Set: []workflow.Set{{Record: f.Subject.ID, Field: "activationStatus", Value: record.TextValue(status)}}}
		if m.Done = len(f.Due[f.Subject.ID]) == 0; !m.Done {
			m.Wait = strings.Join(f.Due[f.Subject.ID], ", ")
		}
		return m
	}
	chore := func(f workflow.Facts) record.ID { return f.Run.Makes("task", "call") }
	return workflow.Definition{Name: "trial", Version: 1, Subject: "opportunity", Late: time.Hour,
		Starts: func(f workflow.Facts) bool {
			return f.Run.Number == 0 && f.Subject.Golden["stage"].Value == record.TextValue("closed-won")
		},
		Needs: func(f workflow.Facts) map[string]record.ID { return map[string]record.ID{"chore": chore(f)} },
		Steps: []workflow.Step{
			{Name: "pending", Do: func(f workflow.Facts) workflow.Move { return set(f, "pending") }},
			{Name: "call", Do: func(f workflow.Facts) workflow.Move {
				return workflow.Move{Done: true, Set: []workflow.Set{{Record: chore(f), Field: "subject", Value: record.TextValue("call about " + f.Subject.Golden["name"].Value.Raw())}}}
			}},
			{Name: "approval", Do: func(f workflow.Facts) workflow.Move {
				if f.Run.Answer == nil {
					return workflow.Move{Wait: "finance", Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: []string{"a trial"}}}
				}
				return workflow.Move{Done: true}
			}},
			{Name: "active", Do: func(f workflow.Facts) workflow.Move { return set(f, "active") }},
		}}
}

// envChild names the folder of a process that this test has started of itself.
const envChild = "SORREL_TEST_TRIAL"

// TestTrialChild is no test but such a process: `sorrel dev` with the workflow of these tests, or with those of the product,
// whichever the folder's policy names. It ends when it is killed.
func TestTrialChild(t *testing.T) {
	dir := os.Getenv(envChild)
	if dir == "" {
		return
	}
	set, problems := policy.Load(os.DirFS(filepath.Join(dir, "config")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	b, err := os.ReadFile(filepath.Join(dir, "twins.json"))
	if err != nil {
		t.Fatal(err)
	}
	var endpoints map[string]boot.Endpoint
	if err := json.Unmarshal(b, &endpoints); err != nil {
		t.Fatal(err)
	}
	w, err := boot.Embedded(filepath.Join(dir, "data"), set, endpoints, func(now func() time.Time) *telemetry.Recorder {
		return telemetry.New(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), now, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(set.Rules("opportunity").Workflows, ordeal().Name) {
		if w.Book, err = workflow.NewBook(ordeal()); err != nil {
			t.Fatal(err)
		}
	}
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: time.Second, SweepEvery: 250 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening on " + h.URL())
	<-t.Context().Done()
}

// ordealConfig writes the configuration to a folder, with this workflow alone.
func ordealConfig(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, config.FS); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "policy", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.DeleteFunc(strings.SplitAfter(string(b), "\n"), func(line string) bool { return strings.HasPrefix(line, "workflows:") })
		if filepath.Base(file) == "opportunity.yaml" {
			lines = append(lines, "\nworkflows: [trial]\n")
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// child starts such a process.
func child(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{stderr: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTrialChild$", "-test.timeout=5m")
	p.cmd.Env = append(os.Environ(), envChild+"="+dir)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, said := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !said {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		t.Fatalf("the process said %q, %v; stderr:\n%s", line, err, p.stderr)
	}
	p.url = url
	return p
}

// ask sends a request to a process as somebody.
func (p *process) ask(method, path, as, body string, into any) error {
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Sorrel-Person", as)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var problem bytes.Buffer
		_, _ = problem.ReadFrom(resp.Body) // the status says enough
		return fmt.Errorf("%s %s: %s %s", method, path, resp.Status, problem.String())
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Runs of a workflow are under way when their process is killed, again and again, at random moments, with kill -9. All of
// them end as they should: one run for each opportunity, one task from each, all of it told to Salesforce, and nothing twice.
func TestRunsSurviveKills(t *testing.T) {
	t.Parallel()
	const (
		deals    = 8
		kills    = 4
		patience = 90 * time.Second
	)
	random := rand.New(rand.NewPCG(20261123, 5))
	dir := t.TempDir()
	ordealConfig(t, filepath.Join(dir, "config"))
	w := startTwins(t)
	writeEndpoints(t, w, filepath.Join(dir, "twins.json"))
	p := child(t, dir)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the last process:\n%s", p.stderr)
		}
	})
	w.SendTo(p.url)
	again := func() {
		p.kill(t)
		p = child(t, dir)
		w.SendTo(p.url)
	}
	natives := win(t, w, deals)
	runs := map[string]string{} // by native id
	for native := range natives {
		runs[native] = fmt.Sprintf("trial/%s/1", ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: native}))
	}
	approved := map[string]bool{}
	approve := func() error {
		for _, run := range runs {
			var r flow.Shown
			if err := p.ask("GET", "/v1/workflows/"+run, "", "", &r); err != nil {
				return err
			}
			if r.Ask == nil {
				continue
			}
			if err := p.ask("POST", "/v1/workflows/"+run+"/approve", "fiona@northwind.example", fmt.Sprintf(`{"reason":"so","saw":%q}`, r.Question), &r); err != nil {
				return err
			}
			approved[run] = true
		}
		if len(approved) < deals {
			return fmt.Errorf("%d of %d are approved", len(approved), deals)
		}
		return nil
	}
	for range kills {
		pause := time.NewTimer(time.Duration(random.IntN(400)) * time.Millisecond)
		<-pause.C
		_ = approve() // of some, as far as they ask by now; the others later
		again()
	}
	eventually(t, patience, "all are approved", approve)
	again()
	eventually(t, patience, "all have ended", func() error {
		st, err := p.status()
		if err != nil {
			return err
		}
		if len(st.Workflows) > 0 || st.Unseen.Count > 0 {
			return fmt.Errorf("%+v, %+v", st.Workflows, st.Unseen)
		}
		if left := busy(st); left != "" {
			return errors.New(left)
		}
		return nil
	})
	for native, run := range runs {
		var r flow.Shown
		if err := p.ask("GET", "/v1/workflows/"+run, "", "", &r); err != nil {
			t.Fatal(err)
		}
		happened := map[string]int{}
		for _, h := range r.History {
			happened[h.What]++
		}
		if r.State != workflow.Done || happened["workflow-started"] != 1 || happened["step-done"] != 4 || happened["workflow-approved"] != 1 || happened["workflow-done"] != 1 {
			t.Errorf("%s is %s: %v", run, r.State, happened)
		}
		shown, _ := w.Salesforce.Get("Opportunity", native)
		if shown["Sorrel_Status__c"] != "Active" {
			t.Errorf("Salesforce shows %v of %s", shown["Sorrel_Status__c"], run)
		}
		var page flow.Listing
		if err := p.ask("GET", "/v1/workflows?record="+string(r.Subject), "", "", &page); err != nil || len(page.Runs) != 1 {
			t.Errorf("%d runs about %s (%v)", len(page.Runs), r.Subject, err)
		}
		if _, err := only(w.Salesforce.All("Task"), "Subject", "call about "+natives[native]); err != nil {
			t.Error(err)
		}
	}
	if n := len(w.Salesforce.All("Task")); n != deals {
		t.Errorf("%d tasks, want %d", n, deals)
	}
}

// Without any sweep a run gets to its end: whoever settles a record that it looks at wakes it, deliver included, which has
// told Salesforce what it set.
func TestRunNeedsNoSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ordealConfig(t, filepath.Join(dir, "config"))
	set, problems := policy.Load(os.DirFS(filepath.Join(dir, "config")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	twins := startTwins(t)
	w, err := boot.Embedded(filepath.Join(dir, "data"), set, twins.Endpoints(), func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.Book, err = workflow.NewBook(ordeal()); err != nil {
		t.Fatal(err)
	}
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	p := &process{url: h.URL()}
	natives := win(t, twins, 1)
	twins.Salesforce.Kit().SetFaults(twin.Faults{LatencyMS: 300})  // a run's own wake-up comes before it has been told
	if err := h.List(t.Context(), record.Salesforce); err != nil { // once; nothing else tells what Salesforce does
		t.Fatal(err)
	}
	for native := range natives {
		path := fmt.Sprintf("/v1/workflows/trial/%s/1", ledger.Mint("opportunity", record.Ref{Platform: record.Salesforce, Object: "Opportunity", ID: native}))
		var r flow.Shown
		until := func(what string, is func() bool) {
			t.Helper()
			eventually(t, 30*time.Second, what, func() error {
				r = flow.Shown{}
				if err := p.ask("GET", path, "", "", &r); err != nil || is() {
					return err
				}
				return fmt.Errorf("it is %s at %s, which waits for %s", r.State, r.Step, r.Wait)
			})
		}
		until("finance is asked", func() bool { return r.Ask != nil })
		if err := p.ask("POST", path+"/approve", "fiona@northwind.example", `{}`, &r); err != nil {
			t.Fatal(err)
		}
		until("it is done", func() bool { return r.State == workflow.Done })
	}
}

// win has sales win opportunities, and returns their names by native id.
func win(t *testing.T, w *twins.Twins, n int) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("Trial %d", i)
		id, err := w.Salesforce.Edit("Opportunity", "", map[string]any{"Name": name, "StageName": "Closed Won", "CloseDate": "2026-11-30", "Amount": 1000 + i})
		if err != nil {
			t.Fatal(err)
		}
		out[id] = name
	}
	return out
}
