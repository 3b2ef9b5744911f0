package endtoend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/flow/operate"
)

// northwindConfig writes a configuration in which files own Northwind's customers, orders and products, and Salesforce gets
// the customers; change may alter each of its files, and leave one out.
func northwindConfig(t *testing.T, dir string, change func(name, text string) string) {
	t.Helper()
	add := func(from fs.FS, names ...string) {
		for _, name := range names {
			b, err := fs.ReadFile(from, name)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if change != nil {
				text = change(name, text)
			}
			if text == "" {
				continue
			}
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(config.FS, "contract/customer.v1.json", "contract/order.v1.json", "contract/product.v1.json", "mapping/salesforce.customer.yaml", "people.yaml")
	add(os.DirFS("../flow/load/testdata/northwind"), "policy/customer.yaml", "policy/order.yaml", "policy/product.yaml", "mapping/files.customer.yaml", "mapping/files.order.yaml", "mapping/files.product.yaml")
}

// withoutSalesforce leaves Salesforce out of northwindConfig.
func withoutSalesforce(name, text string) string {
	if name == "mapping/salesforce.customer.yaml" {
		return ""
	}
	if name != "policy/customer.yaml" {
		return text
	}
	return strings.NewReplacer("platforms: {files: customers, salesforce: Account}", "platforms: {files: customers}", "    targets: [salesforce]\n", "    targets: []\n",
		"paths: {salesforce: ignore}\n", "", "    paths: {salesforce: revert}\n", "").Replace(text)
}

// command runs a command to its end.
func command(t *testing.T, binary string, args ...string) ([]byte, error) {
	t.Helper()
	var problems bytes.Buffer
	c := exec.CommandContext(t.Context(), binary, args...)
	c.Stderr = &problems
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, problems.String())
	}
	return out, err
}

// numberOf is the number of an environment variable, or another one.
func numberOf(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A file is taken in by processes that are killed at random moments of it, and governed by others that are killed, too. In
// the end each of its records is there as the file says, each was made by one commit, and nothing is left over. Moments are
// shares of the work, so that they do not depend on the machine. SORREL_LOAD_ROWS and SORREL_LOAD_KILLS make more of it.
func TestFileLoadKilledAtRandom(t *testing.T) {
	t.Parallel()
	rows, kills := numberOf(t, "SORREL_LOAD_ROWS", 2000), numberOf(t, "SORREL_LOAD_KILLS", 5)
	const seed, patience = 20261124, 10 * time.Minute
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	binary, configuration, data, in := build(t, dir), filepath.Join(dir, "config"), filepath.Join(dir, "data"), filepath.Join(dir, "in")
	northwindConfig(t, configuration, withoutSalesforce)
	if err := os.Mkdir(in, 0o700); err != nil {
		t.Fatal(err)
	}
	var content, want strings.Builder
	content.WriteString("customerID;companyName;address;city;region;postalCode;country;phone\n")
	want.WriteString("customerID,city,country,postalCode,region,address,companyName,phone\r\n")
	for i := range rows {
		town := random.IntN(1000)
		fmt.Fprintf(&content, "C%06d;Zoë & Söhne %d;Obere Str. 57;Town %d;NULL;12209;Germany;030-%d\n", i, i, town, i)
		fmt.Fprintf(&want, "C%06d,Town %d,Germany,12209,,Obere Str. 57,Zoë & Söhne %d,030-%d\r\n", i, town, i, i)
	}
	file, hourAgo := filepath.Join(in, "customers.csv"), time.Now().Add(-time.Hour)
	if err := os.WriteFile(file, []byte(content.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	over := []string{"--data", data, "--config", configuration}

	// Killed while the file is queued: the queue's journal has grown to so many bytes.
	loading := kills * 2 / 3
	journal := filepath.Join(data, "queues", "inbound.fifo")
	const rowBytes = 500 // of the journal, about
	stopped := 0
	for i := range loading {
		until := int64(float64(rows*rowBytes) * (float64(i) + random.Float64()) / float64(loading))
		c := exec.CommandContext(t.Context(), binary, append([]string{"files", "load", in, "--quiet"}, over...)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		for running := true; running; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("files load: %v", err)
				}
				running = false
			case <-time.After(time.Millisecond):
				if size(t, journal) >= until {
					if err := c.Process.Kill(); err == nil {
						stopped++
					}
					<-ended
					running = false
				}
			}
		}
	}

	// Killed while the rest is queued and all of it governed: so many messages are left. The process is over the same
	// folder, so it goes on with the file.
	dev := func() *process {
		return begin(t, binary, append([]string{"--twins", "none", "--files", in, "--files-every", "50ms", "--sweep-every", "100ms"}, over...)...)
	}
	p := dev()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the last process:\n%s", p.stderr)
		}
	})
	left := func() (n int, letters int) {
		st, err := p.status()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range st.Queues {
			if operate.IsDeadLetter(q.Name) {
				letters += q.Visible
			} else {
				n += q.Visible + q.InFlight
			}
		}
		return n, letters
	}
	for i := range kills - loading {
		until := rows - int(float64(rows)*(float64(i)+random.Float64())/float64(kills-loading))
		eventually(t, patience, "being governed", func() error {
			if n, _ := left(); n > until {
				return fmt.Errorf("%d messages are left, waiting for %d", n, until)
			}
			return nil
		})
		p.kill(t)
		p = dev()
	}
	var log struct{ Chains, Entries int }
	eventually(t, patience, "each record made by one commit", func() error {
		n, letters := left()
		out, err := command(t, binary, "audit", "verify", "--json", "--url", p.url)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &log); err != nil {
			return err
		}
		if n > 0 || letters > 0 || log.Entries < rows {
			return fmt.Errorf("%d messages are left, %d dead letters, the log has %d entries of %d records", n, letters, log.Entries, log.Chains)
		}
		return nil
	})
	if log.Entries != rows || log.Chains != rows {
		t.Errorf("the log has %d entries of %d records, want one for each of %d rows", log.Entries, log.Chains, rows)
	}
	st, err := p.status()
	if err != nil || len(st.Exceptions) > 0 {
		t.Errorf("exceptions %v, %v", st.Exceptions, err)
	}
	p.kill(t)
	got, err := command(t, binary, append([]string{"files", "export", "customer", "--to", "-", "--quiet"}, over...)...)
	if err != nil || string(got) != want.String() {
		t.Errorf("what is written back is not what the file says (%v): %d bytes, want %d", err, len(got), want.Len())
	}
	again, err := command(t, binary, append([]string{"files", "load", in, "--quiet"}, over...)...)
	if err != nil || !strings.Contains(string(again), "duplicate") {
		t.Errorf("loaded again: %s %v", again, err)
	}
	t.Logf("%d rows, killed %d times while they were queued and %d times while they were governed", rows, stopped, kills-loading)
	if stopped == 0 {
		t.Error("no process was killed while it took the file in")
	}
}

// size of what is in a folder.
func size(t *testing.T, dir string) (sum int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
