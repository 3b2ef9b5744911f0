package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/operate"
	"sorrel/shared/local"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

type demoCommand struct {
	Exit   bool   `help:"End after the story: 0 only if all of it held."`
	Listen string `default:"127.0.0.1:8787" help:"Address to serve on."`
	Data   string `help:"Folder of the durable store and queues; default is a temporary one."`
	Brief  bool   `help:"Only the headings and the table."`
}

// Run plays the story.
func (c demoCommand) Run(ctx binding, s screen) error {
	d := &demo{screen: s, brief: c.Brief, listen: c.Listen, dir: c.Data}
	d.analytics = &listener{tell: d.said}
	if c.Exit {
		d.listen = "127.0.0.1:0"
	}
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "sorrel-demo-")
		if err != nil {
			return fault.Wrap(fault.Down, "demo", "", err)
		}
		defer os.RemoveAll(dir)
		d.dir = dir
	}
	err := d.play(ctx)
	if err == nil && !c.Exit {
		s.printf("\nStill running: %s (try: sorrel status --url %s). Stop with ctrl-c.\n", d.host.URL(), d.host.URL())
		<-ctx.Done()
	}
	return errors.Join(err, d.stop())
}

// demo is one performance: the twins, the world, and what was checked.
type demo struct {
	screen
	brief  bool
	listen string
	dir    string
	twins  *twins.Twins
	world  *boot.World
	host   *local.Host
	checks []check
	chap   int
	cast   map[string]company // customers of the governed chapters, by number
	clock  clock

	analytics *listener
}

type check struct {
	chapter int
	what    string
	err     error
	seen    string
}

// patience is how long anything in the story may take.
const patience = 30 * time.Second

// story has the chapters in order: how data travels, then who decides about it.
func (d *demo) story() []chapter {
	return []chapter{
		{"A sales order appears in Salesforce and for Zendesk's agents", d.appears},
		{"It is fulfilled in two shipments and billed; every milestone arrives once", d.milestones},
		{"Webhooks are dropped, doubled and reordered", d.chaos},
		{"Zendesk goes down for a while", d.outage},
		{"Someone edits the order's status in Salesforce", d.edited},
		{"Forged, expired and oversized webhooks", d.refusals},
		{"The process is killed between commit and delivery", d.killed},
		{"A credit limit is raised in NetSuite", d.credit},
		{"A sales rep moves a customer's billing address, twice: finance decides", d.approved},
		{"Sales, support and finance edit one customer in the same second", d.sameSecond},
		{"Finance and sales enter the same customer at the same moment", d.twice},
		{"A duplicate account is merged in Salesforce", d.merging},
		{"A customer is deactivated", d.deactivated},
		{"A picklist in Salesforce has lost a value", d.drift},
		{"Three opportunities are won: one is clean, finance corrects one, and rejects one", d.activated},
		{"NetSuite goes down in the middle of an activation; the process is killed in the middle of another", d.interrupted},
		{"A ticket is escalated, and a bill is paid", d.escalated},
		{"Tickets show whether service is owed, also with the ERP down", d.entitled},
		{"Nobody decides for five days", d.undecided},
		{"Sales works on an account: the desks see it, and a subscriber is told, twice if it asks", d.listened},
		{"Customers are changed, added, deleted and merged while no webhook is sent: reconciliation finds all of it", d.unheard},
		{"No loops, and nothing forgotten", d.noLoops},
	}
}

type chapter struct {
	title string
	play  func(context.Context) error
}

func (d *demo) play(ctx context.Context) error {
	begun := time.Now()
	t, err := twins.Start(twins.Options{Now: d.clock.now, Seed: 7, Roomy: true, Normalise: tidy})
	if err != nil {
		return err
	}
	d.twins = t
	t.ServiceNow.AddRule(companies[record.ServiceNow], "phone numbers", func(_, now map[string]string) error {
		now["phone"], _ = tidy(record.ServiceNow, "", "phone", now["phone"]).(string)
		return nil
	})
	if err := d.start(); err != nil {
		return err
	}
	d.printf("Sorrel listens on %s; its twins:\n%s\n", d.host.URL(), d.addresses())
	for i, c := range d.story() {
		d.chap = i + 1
		d.printf("\n%s\n", d.paint(bold, fmt.Sprintf("(%d) %s", d.chap, c.title)))
		in, cancel := context.WithTimeout(ctx, 2*patience)
		if err := c.play(in); err != nil {
			d.hold(c.title, "", err)
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return d.verdict(time.Since(begun))
}

func (d *demo) addresses() string {
	var out []string
	for _, p := range boot.Platforms() {
		out = append(out, p+" "+strings.TrimPrefix(d.twins.Endpoints()[p].URL, "http://"))
	}
	return strings.Join(out, ", ")
}

// start boots the world and the host in this process, over the demo's folder.
func (d *demo) start() error {
	set, err := withAnalytics()
	if err != nil {
		return err
	}
	d.world, err = boot.EmbeddedAt(d.clock.now, d.dir, set, d.twins.Endpoints(), func(now func() time.Time) *telemetry.Recorder {
		return telemetry.New(nil, now, func(e telemetry.Event) {
			if !d.brief {
				d.narrate(e)
			}
		})
	})
	if err != nil {
		return err
	}
	d.world.Sinks[analytics] = d.analytics
	// Listings are fired by the story; the sweep runs as always.
	d.host, err = local.Start(d.world, local.Options{Listen: d.listen, Endpoints: d.twins.Endpoints(), BatchEvery: -1, SweepEvery: 250 * time.Millisecond})
	if err != nil {
		return errors.Join(err, d.world.Close())
	}
	d.twins.SendTo(d.host.URL())
	return nil
}

func (d *demo) halt() error {
	if d.host == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := errors.Join(d.host.Close(ctx), d.world.Close())
	d.host = nil
	return err
}

func (d *demo) stop() error {
	if d.twins == nil {
		return nil
	}
	d.twins.SendTo("")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(d.halt(), d.twins.Close(ctx))
}

// hold records one check.
func (d *demo) hold(what, seen string, err error) {
	d.checks = append(d.checks, check{d.chap, what, err, seen})
	mark := d.paint(green, "✓")
	if err != nil {
		mark, seen = d.paint(red, "✗"), err.Error()
	}
	d.printf("  %s %s%s\n", mark, what, d.paint(faint, ifAny(" — ", seen)))
}

func ifAny(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// expect waits until test gives no error and records the check.
func (d *demo) expect(ctx context.Context, what string, test func() (seen string, err error)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, err := test()
		if err == nil {
			d.hold(what, seen, nil)
			return
		}
		select {
		case <-ctx.Done():
			d.hold(what, seen, fmt.Errorf("not within %s: %w", patience, err))
			return
		case <-tick.C:
		}
	}
}

// settled waits until no webhook, message or due work is left anywhere.
func (d *demo) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	quiet := 0
	for {
		if err := d.twins.Drain(ctx); err != nil {
			return fmt.Errorf("webhooks are still under way: %w", err)
		}
		st, err := d.world.Operate().Status(ctx)
		if err != nil {
			return err
		}
		left := ""
		for _, p := range st.Platforms {
			if p.Due > 0 {
				left = fmt.Sprintf("%d due for %s", p.Due, p.Name)
			}
		}
		for _, q := range st.Queues {
			if !operate.IsDeadLetter(q.Name) && q.Visible+q.InFlight > 0 {
				left = fmt.Sprintf("%d messages on %s", q.Visible+q.InFlight, q.Name)
			}
		}
		if quiet++; left != "" {
			quiet = 0
		}
		if quiet == 3 { // an echo may still have been on its way the first time
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not settled: %s", left)
		case <-tick.C:
		}
	}
}

// settle is settled, as a check.
func (d *demo) settle(ctx context.Context) { d.hold("everything settles", "", d.settled(ctx)) }

func (d *demo) verdict(took time.Duration) error {
	failed := 0
	d.printf("\n%s\n", d.paint(bold, "What was checked"))
	var rows [][]string
	for _, c := range d.checks {
		result := "held"
		if c.err != nil {
			result = "FAILED"
			failed++
		}
		rows = append(rows, []string{fmt.Sprint(c.chapter), result, c.what + ifAny(": ", c.seen)})
	}
	d.table([]string{"", "result", "check"}, rows)
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(d.checks))
	}
	d.printf("\nAll %d checks held in %s.\n", len(d.checks), took.Round(10*time.Millisecond))
	return nil
}

// writes is how many API writes a platform's twin has accepted.
func (d *demo) writes(p string) int { return d.twins.Kits()[p].Stats().Writes }

func (d *demo) allWrites() int {
	n := 0
	for p := range d.twins.Kits() {
		n += d.writes(p)
	}
	return n
}

// post sends a raw webhook and returns the status and the problem's detail.
func (d *demo) post(ctx context.Context, path string, header map[string]string, body []byte) (int, intake.Problem, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.host.URL()+path, bytes.NewReader(body))
	if err != nil {
		return 0, intake.Problem{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, intake.Problem{}, err
	}
	defer resp.Body.Close()
	var p intake.Problem
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p)
	return resp.StatusCode, p, err
}

// child starts this program again as a process of its own over the demo's folder, and returns its address.
func (d *demo) child(ctx context.Context) (*exec.Cmd, string, error) {
	b, err := json.Marshal(d.twins.Endpoints())
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(d.dir, "twins.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, "", err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, self, "dev", "--quiet", "--listen", "127.0.0.1:0", "--data", d.dir, "--twins", file, "--batch-every=-1s")
	cmd.Stderr = io.Discard // its warnings are those of the outage that the story makes
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		return cmd, "", fmt.Errorf("the child process said %q: %w", line, err)
	}
	return cmd, fields[2], nil
}

func (d *demo) salesforce(object, external string) (map[string]any, error) {
	return findBy(d.twins.Salesforce.All(object), "Sorrel_Id__c", external)
}

func (d *demo) zendesk(object, external string) (map[string]any, error) {
	return findBy(d.twins.Zendesk.All(object), "external_id", external)
}

// findBy returns the one record whose field has the value: none and two are both errors.
func findBy(all []map[string]any, field, value string) (map[string]any, error) {
	var found map[string]any
	for _, r := range all {
		if r[field] != value {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("two records with %s %s", field, value)
		}
		found = r
	}
	if found == nil {
		return nil, fmt.Errorf("no record with %s %s", field, value)
	}
	return found, nil
}

// record finds the record id of a NetSuite record.
func (d *demo) record(ctx context.Context, object, id string) (record.ID, error) {
	return d.native(ctx, record.NetSuite, object, id)
}

// native finds the record id of a native record.
func (d *demo) native(ctx context.Context, platform, object, id string) (record.ID, error) {
	got, ok, err := d.world.Ledger.Lookup(ctx, record.Ref{Platform: platform, Object: object, ID: id})
	if err == nil && !ok {
		err = fmt.Errorf("%s %s of %s is not known yet", object, id, platform)
	}
	return got, err
}

func (d *demo) faults(p string, f twin.Faults) { d.twins.Kits()[p].SetFaults(f) }
