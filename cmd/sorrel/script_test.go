package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/bbolt"

	"sorrel/infra/config"
	"sorrel/shared/flow/operate"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/twins"
)

// The scripts run the built tool as a person does. Beside testscript's own commands they have:
//
//	exits CODE COMMAND ARG…     runs a command and expects its exit code
//	config DIR                  writes the embedded configuration to DIR
//	replace FILE OLD NEW        replaces OLD, which occurs once, in FILE; \n is a line break
//	twins                       boots twins, described in twins.json
//	dev ARG…                    starts `sorrel dev` over them, at the address in $SORREL_URL
//	field NAME                  adds a custom field of orders to all three platforms, as their administrators do
//	edit OBJECT VAR JSON        a person creates a record in NetSuite; $VAR is its id and $VAR_record Sorrel's
//	change PLATFORM OBJECT F=V USER JSON   that user changes the one native record whose field F has value V; - for a new one
//	only VAR PATH               waits until the list at PATH has one entry; $VAR is its id
//	absorbed RECORD VAR         $VAR is the record that was merged into RECORD
//	halt                        ends dev as a person does
//	tamper OLD NEW              replaces OLD in the store of a dev that was stopped, by NEW, which is as long
//	letter QUEUE GROUP BODY     puts a message into the dead-letter queue of a dev that was stopped
//	shows PLATFORM OBJECT F=V   waits until one native record has field F (dots lead inside) with value V
//	trace RECORD                sets $TRACE to the correlation id of the record's first change
//	until PATTERN COMMAND ARG…  repeats a command until PATTERN matches its standard output
//	settled                     waits until nothing is due, in flight or on its way
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "sorrel"), ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", e.WorkDir)
			e.Values[worldKey{}] = &world{}
			e.Defer(func() { e.Values[worldKey{}].(*world).end() })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "config": writeConfig, "everywhere": writeEverywhere, "replace": replace, "twins": bootTwins, "dev": startDev,
			"field": addField, "edit": edit, "change": change, "only": only, "absorbed": absorbed, "until": untilSaid, "halt": halt, "tamper": tamper, "letter": letter, "shows": shows, "trace": traceOf, "settled": settled,
		},
	})
}

type worldKey struct{}

// world is what one script has started.
type world struct {
	twins *twins.Twins
	dev   *exec.Cmd
}

func (w *world) end() {
	if w.dev != nil {
		_ = w.dev.Process.Kill()
		_ = w.dev.Wait()
	}
	if w.twins != nil {
		w.twins.SendTo("")
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.twins.Close(ctx)
	}
}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func usage(ts *testscript.TestScript, neg bool, args []string, n int, form string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", form)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "exits CODE COMMAND ARG…")
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func writeConfig(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "config DIR")
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), config.FS))
}

func writeEverywhere(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "everywhere DIR")
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), config.Everywhere()))
}

func replace(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "replace FILE OLD NEW")
	lines := strings.NewReplacer(`\n`, "\n")
	file, old := ts.MkAbs(args[0]), lines.Replace(args[1])
	text := ts.ReadFile(args[0])
	if strings.Count(text, old) != 1 {
		ts.Fatalf("%q occurs %d times in %s", old, strings.Count(text, old), args[0])
	}
	ts.Check(os.WriteFile(file, []byte(strings.Replace(text, old, lines.Replace(args[2]), 1)), 0o600))
}

func bootTwins(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "twins")
	w := of(ts)
	var err error
	w.twins, err = twins.Start(twins.Options{Now: time.Now, Seed: 3, Roomy: true})
	ts.Check(err)
	b, err := json.Marshal(w.twins.Endpoints())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("twins.json"), b, 0o600))
}

func startDev(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "dev ARG…")
	w := of(ts)
	binary, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "sorrel"))
	ts.Check(err)
	w.dev = exec.Command(binary, append([]string{"dev", "--quiet", "--listen", "127.0.0.1:0", "--data", ts.MkAbs("data"), "--twins", ts.MkAbs("twins.json"), "--batch-every=-1s", "--sweep-every", "100ms"}, args...)...)
	w.dev.Dir = ts.MkAbs(".")
	var problems bytes.Buffer
	w.dev.Stderr = &problems
	out, err := w.dev.StdoutPipe()
	ts.Check(err)
	ts.Check(w.dev.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	said := strings.Fields(line)
	if err != nil || len(said) < 3 {
		ts.Fatalf("sorrel dev said %q, %v\n%s", line, err, problems.String())
	}
	ts.Setenv("SORREL_URL", said[2])
	w.twins.SendTo(said[2])
}

func addField(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "field NAME")
	for platform, body := range map[string]string{
		record.NetSuite:   `{"object":"salesOrder","field":{"name":"custbody_%[1]s","kind":"text"}}`,
		record.Salesforce: `{"object":"Order","field":{"name":"%[1]s__c","type":"string","length":80}}`,
		record.Zendesk:    `{"object":"custom_object/order","field":{"key":"%[1]s","title":"%[1]s","type":"text"}}`,
	} {
		resp, err := http.Post(of(ts).twins.Endpoints()[platform].URL+"/_twin/field", "application/json", strings.NewReader(fmt.Sprintf(body, args[0])))
		ts.Check(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			ts.Fatalf("%s: %s", platform, resp.Status)
		}
	}
}

func edit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "edit OBJECT VAR JSON")
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(args[2]), &fields))
	id, err := of(ts).twins.NetSuite.Edit(args[0], "", fields)
	ts.Check(err)
	entity := map[string]string{"customer": "customer", "salesOrder": "order", "itemFulfillment": "shipment", "invoice": "invoice"}[args[0]]
	ts.Setenv(args[1], id)
	ts.Setenv(args[1]+"_record", string(ledger.Mint(entity, record.Ref{Platform: record.NetSuite, Object: args[0], ID: id})))
}

func change(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 5, "change PLATFORM OBJECT FIELD=VALUE USER JSON")
	w := of(ts)
	type platform struct {
		all  func(string) []map[string]any
		edit func(user, object, id string, fields map[string]any) (string, error)
		id   string
	}
	p := map[string]platform{
		record.NetSuite:   {w.twins.NetSuite.All, w.twins.NetSuite.EditAs, "id"},
		record.Salesforce: {w.twins.Salesforce.All, w.twins.Salesforce.EditAs, "Id"},
		record.Zendesk:    {w.twins.Zendesk.All, w.twins.Zendesk.EditAs, "id"},
	}[args[0]]
	name, value, found := strings.Cut(args[2], "=")
	ids := []string{}
	for _, r := range p.all(args[1]) {
		if found && fmt.Sprint(r[name]) == value {
			ids = append(ids, fmt.Sprint(r[p.id]))
		}
	}
	if !found {
		ids = []string{""}
	}
	if len(ids) != 1 {
		ts.Fatalf("%d records of %s %s have %s", len(ids), args[0], args[1], args[2])
	}
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(args[4]), &fields))
	_, err := p.edit(args[3], args[1], ids[0], fields)
	ts.Check(err)
}

func only(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "only VAR PATH")
	eventually(ts, func() error {
		var all []struct{ ID string }
		if _, err := (asking{URL: ts.Getenv("SORREL_URL")}).get(context.Background(), screen{}, args[1], &all); err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("%s lists %+v", args[1], all)
		}
		ts.Setenv(args[0], all[0].ID)
		return nil
	})
}

func absorbed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "absorbed RECORD VAR")
	var r operate.Record
	path, err := recordPath(args[0])
	ts.Check(err)
	_, err = asking{URL: ts.Getenv("SORREL_URL")}.get(context.Background(), screen{}, path, &r)
	ts.Check(err)
	if len(r.Absorbed) != 1 {
		ts.Fatalf("merged into %s are %v", args[0], r.Absorbed)
	}
	for id := range r.Absorbed {
		ts.Setenv(args[1], string(id))
	}
}

func untilSaid(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "until PATTERN COMMAND ARG…")
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	eventually(ts, func() error {
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			return err
		}
		if said := ts.ReadFile("stdout"); !want.MatchString(said) {
			return fmt.Errorf("%s is not said:\n%s", args[0], said)
		}
		return nil
	})
}

func halt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "halt")
	w := of(ts)
	ts.Check(w.dev.Process.Signal(os.Interrupt))
	ts.Check(w.dev.Wait())
	w.dev = nil
}

func tamper(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "tamper OLD NEW")
	db, err := bbolt.Open(ts.MkAbs(filepath.Join("data", "sorrel.db")), 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	ts.Check(err)
	defer db.Close()
	changed := 0
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			found := map[string][]byte{}
			err := b.ForEach(func(k, v []byte) error {
				if bytes.Contains(v, []byte(args[0])) {
					found[string(k)] = bytes.ReplaceAll(v, []byte(args[0]), []byte(args[1]))
				}
				return nil
			})
			for k, v := range found {
				err, changed = errors.Join(err, b.Put([]byte(k), v)), changed+1
			}
			return err
		})
	}))
	if len(args[0]) != len(args[1]) || changed != 1 {
		ts.Fatalf("%q was in %d entries, want 1; %q must be as long", args[0], changed, args[1])
	}
}

// eventually repeats test until it gives no error.
func eventually(ts *testscript.TestScript, test func() error) {
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err := test(); err != nil; err = test() {
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		<-tick.C
	}
}

func shows(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "shows PLATFORM OBJECT FIELD=VALUE")
	w := of(ts)
	all := map[string]func(string) []map[string]any{record.NetSuite: w.twins.NetSuite.All, record.Salesforce: w.twins.Salesforce.All, record.Zendesk: w.twins.Zendesk.All, record.ServiceNow: w.twins.ServiceNow.All}[args[0]]
	path, want, _ := strings.Cut(args[2], "=")
	eventually(ts, func() error {
		n := 0
		for _, r := range all(args[1]) {
			var v any = r
			for part := range strings.SplitSeq(path, ".") {
				m, _ := v.(map[string]any)
				v = m[part]
			}
			if fmt.Sprint(v) == want {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%d records of %s %s have %s", n, args[0], args[1], args[2])
		}
		return nil
	})
}

func traceOf(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "trace RECORD")
	var r struct{ Changes []struct{ Trace string } }
	path, err := recordPath(args[0])
	ts.Check(err)
	_, err = asking{URL: ts.Getenv("SORREL_URL")}.get(context.Background(), screen{}, path, &r)
	ts.Check(err)
	if len(r.Changes) == 0 {
		ts.Fatalf("%s has no changes", args[0])
	}
	ts.Setenv("TRACE", r.Changes[0].Trace)
}

func settled(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "settled")
	w := of(ts)
	eventually(ts, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.twins.Drain(ctx); err != nil {
			return err
		}
		var st struct {
			Platforms []struct{ Due int }
			Queues    []struct{ Visible, InFlight int }
		}
		if _, err := (asking{URL: ts.Getenv("SORREL_URL")}).get(ctx, screen{}, "/v1/status", &st); err != nil {
			return err
		}
		left := 0
		for _, p := range st.Platforms {
			left += p.Due
		}
		for _, q := range st.Queues {
			left += q.Visible + q.InFlight
		}
		if left > 0 {
			return fmt.Errorf("%d things are left to do", left)
		}
		return nil
	})
}
