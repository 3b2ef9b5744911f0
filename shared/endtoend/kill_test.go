package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sorrel/shared/flow/operate"
	"sorrel/shared/twins"
)

// build makes the command line tool as a user has it.
func build(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "sorrel")
	if out, err := exec.Command("go", "build", "-o", binary, "sorrel/cmd/sorrel").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// process is `sorrel dev` as a process of its own.
type process struct {
	cmd    *exec.Cmd
	url    string
	stderr *bytes.Buffer
}

// dev starts a process over the files in data.
func dev(t *testing.T, binary, data, twinsFile string) *process {
	t.Helper()
	return begin(t, binary, "--data", data, "--twins", twinsFile, "--batch-every", "1s", "--sweep-every", "250ms")
}

// begin starts a process with these flags.
func begin(t *testing.T, binary string, flags ...string) *process {
	t.Helper()
	p := &process{stderr: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(t.Context(), binary, append([]string{"dev", "--quiet", "--listen", "127.0.0.1:0"}, flags...)...)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	said := strings.Fields(line)
	if err != nil || len(said) < 3 {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		t.Fatalf("sorrel dev said %q, %v; stderr:\n%s", line, err, p.stderr)
	}
	p.url = said[2]
	return p
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the killed process ended with %v", err)
	}
}

// status asks the process how things stand.
func (p *process) status() (operate.Status, error) {
	resp, err := http.Get(p.url + "/v1/status")
	if err != nil {
		return operate.Status{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return operate.Status{}, fmt.Errorf("%s %s: %w", resp.Status, b, err)
	}
	var st operate.Status
	return st, json.Unmarshal(b, &st)
}

func writeEndpoints(t *testing.T, w *twins.Twins, file string) {
	t.Helper()
	b, err := json.Marshal(w.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shown says how both targets show a NetSuite order status.
func shown(letter string) (salesforce, zendesk string) {
	all := map[string][2]string{"B": {"Pending Fulfilment", "pending_fulfilment"}, "D": {"Partially Fulfilled", "partially_fulfilled"},
		"F": {"Pending Billing", "pending_billing"}, "G": {"Billed", "billed"}}
	return all[letter][0], all[letter][1]
}

// A process is killed three times at random moments while orders are edited. Webhooks sent meanwhile are gone. In
// the end both targets equal NetSuite, each order is there once, and nothing is dead-lettered.
func TestKilledAtRandom(t *testing.T) {
	const (
		seed     = 20261123
		orders   = 25
		edits    = 400
		kills    = 3
		patience = 90 * time.Second
	)
	random := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	binary, twinsFile, data := build(t, dir), filepath.Join(dir, "twins.json"), filepath.Join(dir, "data")
	w := startTwins(t)
	writeEndpoints(t, w, twinsFile)
	p := dev(t, binary, data, twinsFile)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the last process:\n%s", p.stderr)
		}
	})
	w.SendTo(p.url)

	customer := editNetSuite(t, w, "customer", "", customerFields("KILL", "Königlich Essen"))
	var ids []string
	killAt := map[int]bool{}
	for len(killAt) < kills {
		killAt[orders+random.IntN(edits-orders)] = true
	}
	killed := 0
	pace := time.NewTicker(8 * time.Millisecond)
	defer pace.Stop()
	for i := range edits {
		if i < orders {
			ids = append(ids, editNetSuite(t, w, "salesOrder", "", orderFields(customer, fmt.Sprintf("KILL-%d", i))))
		} else {
			editNetSuite(t, w, "salesOrder", ids[kills+random.IntN(orders-kills)], map[string]any{"otherRefNum": fmt.Sprintf("PO-%d", i), "orderStatus": map[string]any{"id": []string{"B", "D", "F", "G"}[random.IntN(4)]}})
		}
		if killAt[i] {
			p.kill(t)
			killed++ // nobody listens: this edit, the only one of its order, is told by no webhook
			editNetSuite(t, w, "salesOrder", ids[killed-1], map[string]any{"otherRefNum": fmt.Sprintf("LOST-%d", killed)})
			if err := w.NetSuite.Kit().Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			p = dev(t, binary, data, twinsFile)
			w.SendTo(p.url)
		}
		<-pace.C
	}

	begun := time.Now()
	equal := func() error {
		for _, id := range ids {
			n, ok := w.NetSuite.Get("salesOrder", id)
			if !ok {
				return fmt.Errorf("NetSuite lost order %s", id)
			}
			letter, _ := n["orderStatus"].(map[string]any)
			salesforce, zendesk := shown(fmt.Sprint(letter["id"]))
			if err := orderShows(w, id, salesforce, zendesk); err != nil {
				return fmt.Errorf("order %s: %w", id, err)
			}
			external := minted("order", "salesOrder", id).External()
			o, err := only(w.Salesforce.All("Order"), "Sorrel_Id__c", external)
			if err != nil {
				return err
			}
			z, err := only(w.Zendesk.All("custom_object/order"), "external_id", external)
			if err != nil {
				return err
			}
			if o["PoNumber"] != n["otherRefNum"] || custom(z)["po_number"] != n["otherRefNum"] {
				return fmt.Errorf("order %s: NetSuite has PO number %v, Salesforce %v, Zendesk %v", id, n["otherRefNum"], o["PoNumber"], custom(z)["po_number"])
			}
		}
		return nil
	}
	eventually(t, patience, "both targets equal NetSuite", equal)
	t.Logf("equal %s after the last of %d edits and %d kills", time.Since(begun).Round(10*time.Millisecond), edits, kills)
	var st operate.Status
	eventually(t, patience, "settling", func() (err error) {
		if st, err = p.status(); err != nil {
			return err
		}
		if left := busy(st); left != "" {
			return errors.New(left)
		}
		return nil
	})
	if err := equal(); err != nil {
		t.Errorf("after settling: %v", err)
	}
	if !st.Healthy || len(st.Exceptions) > 0 {
		t.Errorf("status is %v, exceptions %v", st.Concerns, st.Exceptions)
	}
	for object, all := range map[string][]map[string]any{"Salesforce orders": w.Salesforce.All("Order"), "Zendesk orders": w.Zendesk.All("custom_object/order")} {
		if len(all) != orders {
			t.Errorf("%d %s, want %d", len(all), object, orders)
		}
	}
	if a, o := len(w.Salesforce.All("Account")), len(w.Zendesk.All("organization")); a != 1 || o != 1 {
		t.Errorf("%d accounts and %d organizations, want 1 each", a, o)
	}
}
