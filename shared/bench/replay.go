package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/flow/link"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/replay"
	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/trigger"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// ReplayOptions of measuring a replay beside live changes. Zero values have the defaults that are named.
type ReplayOptions struct {
	Records  int           // customers, each on all four platforms; 50,000
	Rate     float64       // edits a second, by people in Salesforce and NetSuite by turns; 5
	Idle     time.Duration // of edits alone, before the replay and again after it; 1 minute
	Factor   int           // how many times faster than in life the vendors are, in what they allow and in how long they take; 20
	MaxRatio float64       // of p95 with the replay to p95 without, for the run to hold; 0 = only report
	Seed     uint64        // 1
	Limit    time.Duration // for each phase; 1 hour
	Dir      string        // where Sorrel keeps its data; "" = a temporary folder
	Progress io.Writer     // nil = nobody
}

func (o ReplayOptions) withDefaults() ReplayOptions {
	o.Records, o.Rate, o.Factor = cmp.Or(max(0, o.Records), 50_000), cmp.Or(max(0, o.Rate), 5), cmp.Or(max(0, o.Factor), 20)
	o.Idle, o.Limit, o.Seed = cmp.Or(max(0, o.Idle), time.Minute), cmp.Or(max(0, o.Limit), time.Hour), cmp.Or(o.Seed, 1)
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// Fresh is how long edits took until the twins of the other platforms showed them.
type Fresh struct {
	Edits  int     `json:"edits"`
	Copies int     `json:"copies"` // that they caused: three each
	P50    float64 `json:"p50Ms"`
	P95    float64 `json:"p95Ms"`
	Max    float64 `json:"maxMs"`
}

// ReplayPlatform is what a twin counted while the replay ran.
type ReplayPlatform struct {
	Name      string         `json:"name"`
	Allowed   string         `json:"allowed"`
	Replayed  int            `json:"replayed"` // copies that the replay made due
	Calls     int            `json:"calls"`
	Busiest   int            `json:"busiestMinute"` // calls, live ones included
	AtOnce    int            `json:"atOnce"`        // calls, at most
	OverLimit int            `json:"overLimit"`     // of the whole run
	Over      map[string]int `json:"over,omitempty"`
	Woken     int            `json:"woken"`     // by the sweep, in the whole run, as are
	Conflicts int            `json:"conflicts"` // commits of deliveries that another commit was before
	Wasted    int            `json:"wasted"`    // writes that changed nothing of what Sorrel knew, or failed
}

// ReplayReport is what it found.
type ReplayReport struct {
	Machine   Machine          `json:"machine"`
	Seed      uint64           `json:"seed"`
	Records   int              `json:"records"`
	Rate      float64          `json:"editsPerSecond"`
	Factor    int              `json:"factor"`
	LatencyMS float64          `json:"providerLatencyMs"`
	SeedSec   float64          `json:"seedSeconds"`
	PlanSec   float64          `json:"planSeconds"`
	ReplaySec float64          `json:"replaySeconds"`
	Planned   int              `json:"planned"` // records with something to write
	Handled   int              `json:"handled"`
	Before    Fresh            `json:"idleBefore"`
	During    Fresh            `json:"withReplay"`
	After     Fresh            `json:"idleAfter"`
	Idle      Fresh            `json:"idle"` // before and after
	Ratio     float64          `json:"p95Ratio"`
	Aim       float64          `json:"aim,omitempty"`
	Platforms []ReplayPlatform `json:"platforms"`
	Checks    []Check          `json:"checks"`
}

// Print writes the report for people, at most 80 columns wide.
func (r ReplayReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench replay, seed %d\n\n%s\n%s, %s, %d CPUs\n\n", r.Seed, r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs)
	p("%s customers on four platforms; a field that two mappings had\nforgotten is written by a replay, beside %g edits a second by people.\n", thousands(float64(r.Records)), r.Rate)
	p("Vendors allow %d times as many calls a minute as they do, and answer that much\nfaster, after %g ms: only so does it end within minutes.\n\n", r.Factor, r.LatencyMS)
	p("linked in %.0f s, planned in %.0f s, replayed in %.0f s (%.0f records a minute)\n\n", r.SeedSec, r.PlanSec, r.ReplaySec, 60*float64(r.Handled)/max(1, r.ReplaySec))
	p("%-26s %6s %7s %8s %8s %8s\n", "edited to seen, ms", "edits", "copies", "p50", "p95", "max")
	for _, l := range []struct {
		name string
		Fresh
	}{{"idle, before", r.Before}, {"with the replay", r.During}, {"idle, after", r.After}, {"idle", r.Idle}} {
		p("%-26s %6d %7d %8.0f %8.0f %8.0f\n", l.name, l.Edits, l.Copies, l.P50, l.P95, l.Max)
	}
	p("p95 with the replay / idle %.2f", r.Ratio)
	if r.Aim > 0 {
		p(", aim at most %.1f", r.Aim)
	}
	p("\n\n%-11s %9s %8s %9s %8s %6s  %s\n", "by the twin", "replayed", "calls", "busiest", "at once", "over", "allowed")
	for _, l := range r.Platforms {
		p("%-11s %9s %8s %9s %8d %6d  %s\n", l.Name, thousands(float64(l.Replayed)), thousands(float64(l.Calls)), thousands(float64(l.Busiest)), l.AtOnce, l.OverLimit, l.Allowed)
	}
	p("(calls while it was replayed, and in the busiest minute of it)\n\n%-11s %9s %9s %8s\n", "of the run", "woken", "conflicts", "wasted")
	for _, l := range r.Platforms {
		p("%-11s %9s %9s %8s\n", l.Name, thousands(float64(l.Woken)), thousands(float64(l.Conflicts)), thousands(float64(l.Wasted)))
	}
	p("(by the sweep; commits that were made again; writes that confirmed nothing)\n\n")
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r ReplayReport) broken() error {
	var errs []error
	for _, c := range r.Checks {
		if !c.Held() {
			errs = append(errs, fmt.Errorf("bench replay, seed %d: %s: %d, want %d", r.Seed, c.Name, c.Got, c.Want))
		}
	}
	if r.Aim > 0 && r.Ratio > r.Aim {
		errs = append(errs, fmt.Errorf("bench replay, seed %d: p95 of live edits with the replay is %.2f times that without, want at most %.1f", r.Seed, r.Ratio, r.Aim))
	}
	return errors.Join(errs...)
}

// forgotten is the field that the old configuration does not bring to some platforms.
const forgotten = "segment"

func forgetful() []string { return []string{record.NetSuite, record.Zendesk} }

// configForgetting writes the deployable configuration to dir, with mappings that leave the forgotten field out.
func configForgetting(dir string) error {
	return configTo(dir, func(name string, b []byte) ([]byte, error) {
		var a map[string]any
		policy := name == "policy/customer.yaml"
		if mapping := slices.ContainsFunc(forgetful(), func(p string) bool { return name == "mapping/"+p+".customer.yaml" }); !policy && !mapping {
			return b, nil
		}
		if err := yaml.Unmarshal(b, &a); err != nil {
			return nil, err
		}
		if policy {
			groups, _ := a["groups"].(map[string]any)
			sales, _ := groups["sales"].(map[string]any)
			meanwhile, _ := sales["meanwhile"].([]any)
			sales["meanwhile"] = slices.DeleteFunc(meanwhile, func(p any) bool { return slices.Contains(forgetful(), fmt.Sprint(p)) })
			paths, _ := sales["paths"].(map[string]any)
			maps.DeleteFunc(paths, func(p string, _ any) bool { return slices.Contains(forgetful(), p) })
			return yaml.Marshal(a)
		}
		fields, _ := a["fields"].(map[string]any)
		if _, there := fields[forgotten]; !there {
			return nil, fmt.Errorf("it does not map %s", forgotten)
		}
		delete(fields, forgotten)
		unmapped, _ := a["unmapped"].([]any)
		a["unmapped"] = append(unmapped, forgotten)
		return yaml.Marshal(a)
	})
}

// allowance is what a vendor allows in this run. Sorrel is told the same, but for NetSuite: it leaves one request to others.
func allowance(factor int) map[string]struct {
	says          string
	twin, credits map[string]int
} {
	minute, hour, day := 700*factor, 10_000*factor, 100_000*factor // Zendesk's Enterprise; a rule; an org with a few licences
	return map[string]struct {
		says          string
		twin, credits map[string]int
	}{
		record.Zendesk: {fmt.Sprintf("%s a minute", thousands(float64(minute))), map[string]int{budget.Calls: minute, "incremental-exports": 10 * factor},
			map[string]int{budget.Calls: minute, "incremental-exports": 10 * factor}},
		record.NetSuite:   {"15 at once", map[string]int{budget.Calls: 15}, map[string]int{budget.Calls: 14}},
		record.Salesforce: {fmt.Sprintf("%s a day", thousands(float64(day))), map[string]int{budget.Calls: day}, map[string]int{budget.Calls: day, "long-calls": 25}},
		record.ServiceNow: {fmt.Sprintf("%s an hour", thousands(float64(hour))), map[string]int{budget.Calls: hour}, map[string]int{budget.Calls: hour}},
	}
}

// latency of a vendor's answer, in life.
const latency = 400 * time.Millisecond

// customer is one of the run.
type customer struct {
	ids   map[string]string // by platform
	phone string            // as it was last edited
}

// replayRun is one run.
type replayRun struct {
	o      ReplayOptions
	dir    string
	set    *policy.Set
	twins  *twins.Twins
	peer   *peer.Peer
	report ReplayReport

	mu        sync.Mutex
	customers []customer
	phase     *phase
	waiting   []arrival // edits that a platform does not show yet
}

// phase collects what is measured of edits that were made in it.
type phase struct {
	edits int
	took  []time.Duration
}

func (p phase) fresh() Fresh {
	return Fresh{p.edits, len(p.took), ms(quantile(p.took, 0.5)), ms(quantile(p.took, 0.95)), ms(quantile(p.took, 1))}
}

// arrival is awaited on one platform.
type arrival struct {
	platform string
	customer int
	phone    string
	at       time.Time
	phase    *phase
}

// Replay measures how long live changes take while many records are replayed, and without that. The records were linked
// under a configuration that did not bring a field to NetSuite and Zendesk; under the one that does, a replay writes it to
// each. The calls over a vendor's limits are those that its twin counts. Nothing is listed meanwhile: of reconcile's share
// nothing is used.
func Replay(ctx context.Context, o ReplayOptions) (r ReplayReport, err error) {
	o = o.withDefaults()
	x := &replayRun{o: o, report: ReplayReport{Machine: machine(), Seed: o.Seed, Records: o.Records, Rate: o.Rate, Factor: o.Factor, Aim: o.MaxRatio,
		LatencyMS: ms(latency / time.Duration(o.Factor))}, phase: &phase{}}
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return x.report, err
	}
	defer done()
	x.dir = dir
	clock := newSpread(time.Now)
	if x.twins, err = twins.Start(twins.Options{Now: clock.now, Seed: o.Seed, Roomy: true}); err != nil {
		return x.report, err
	}
	defer func() { _ = x.twins.Close(context.WithoutCancel(ctx)) }()
	if x.set, err = boot.LoadConfig(boot.Everywhere); err != nil {
		return x.report, err
	}
	began := time.Now()
	if err := x.fill(clock); err != nil {
		return x.report, err
	}
	if err := x.link(ctx, dir); err != nil {
		return x.report, err
	}
	x.report.SeedSec = time.Since(began).Seconds()
	fmt.Fprintf(o.Progress, "  %d customers are linked on four platforms, after %.0f s\n", o.Records, x.report.SeedSec)
	endpoints, err := x.limit()
	if err != nil {
		return x.report, err
	}
	if x.peer, err = peer.Start(ctx, ChildArgs(), childConfig{Peer: sorrel, Dir: dir, CPU: -1, Endpoints: endpoints, Listen: "127.0.0.1:0"}); err != nil {
		return x.report, err
	}
	defer func() { _ = x.peer.Kill() }() // its data is thrown away
	x.twins.SendTo(x.peer.URL)
	x.twins.Salesforce.Kit().SendTo("") // it tells by its events
	err = x.measure(ctx)
	return x.report, errors.Join(err, x.report.broken())
}

// fill makes the customers on the twins, alike everywhere.
func (x *replayRun) fill(clock *spread) error {
	edit := x.edits()
	for n := range x.o.Records {
		c := customer{ids: map[string]string{}, phone: fmt.Sprintf("+43 1 %07d", n)}
		item := match.Item{Fields: map[string]record.Value{
			"number": record.TextValue(fmt.Sprintf("C%07d", n)), "name": record.TextValue(fmt.Sprintf("Customer %07d", n)), "taxId": record.TextValue(fmt.Sprintf("ATU%08d", n)),
			"billingAddress.country": record.TextValue("AT"), "phone": record.TextValue(c.phone), forgotten: record.TextValue("midmarket"), "active": record.BoolValue(true), "creditHold": record.TextValue("auto"),
		}}
		for _, p := range boot.Platforms() {
			item.Ref.Platform = p
			own := item
			if slices.Contains(forgetful(), p) {
				own.Fields = maps.Clone(item.Fields)
				delete(own.Fields, forgotten)
			}
			m, body, err := said(x.set, own, true)
			if err != nil {
				return err
			}
			if c.ids[p], err = edit[p](m.Object, "", body); err != nil {
				return fmt.Errorf("bench replay: filling %s: %w", p, err)
			}
		}
		x.customers = append(x.customers, c)
	}
	clock.end()
	return nil
}

// edits are what people do on each platform.
func (x *replayRun) edits() map[string]func(object, id string, fields map[string]any) (string, error) {
	return map[string]func(object, id string, fields map[string]any) (string, error){record.NetSuite: x.twins.NetSuite.Edit, record.Salesforce: x.twins.Salesforce.Edit,
		record.Zendesk: x.twins.Zendesk.Edit, record.ServiceNow: x.twins.ServiceNow.Edit}
}

// link does what `sorrel link --apply` does, under the configuration that forgets a field.
func (x *replayRun) link(ctx context.Context, dir string) (err error) {
	old := filepath.Join(dir, "old")
	if err := configForgetting(old); err != nil {
		return err
	}
	set, err := boot.LoadConfig(old)
	if err != nil {
		return err
	}
	w, err := boot.Embedded(filepath.Join(dir, "data"), set, x.twins.Endpoints(), quiet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	scratch, err := os.Create(filepath.Join(dir, "scratch"))
	if err != nil {
		return fmt.Errorf("bench replay: %w", err)
	}
	defer scratch.Close()
	found, err := w.Link(scratch, nil).Run(ctx, link.Options{Entities: []string{"customer"}, Apply: true, Workers: 64})
	if err != nil {
		return err
	}
	if e := found.Entities[0]; e.Done.Records != x.o.Records || e.Done.Natives != 4*x.o.Records {
		return fmt.Errorf("bench replay: %d records with %d native ones were linked, want %d with four each", e.Done.Records, e.Done.Natives, x.o.Records)
	}
	for p := range x.twins.Endpoints() {
		for due, err := range w.Ledger.DueFor(ctx, p) {
			if err != nil {
				return err
			}
			states, err := w.Ledger.Load(ctx, due.Record)
			if err != nil {
				return err
			}
			m, _ := set.ByEntity("customer", p)
			return fmt.Errorf("bench replay: %s is due for %s before anything has begun: %v", due.Record, p,
				record.Project(states[due.Record].Record, set.Rules("customer"), p, m.As).Fields)
		}
	}
	return nil
}

// limit has the twins allow what the vendors do, and take their time; and tells Sorrel about it.
func (x *replayRun) limit() (map[string]boot.Endpoint, error) {
	out := map[string]boot.Endpoint{}
	allowed := allowance(x.o.Factor)
	for p, kit := range x.twins.Kits() {
		kit.SetFaults(twin.Faults{LatencyMS: int(latency.Milliseconds()) / x.o.Factor, Limits: allowed[p].twin})
		e := x.twins.Endpoints()[p]
		var own map[string]any
		if err := json.Unmarshal(e.Credentials, &own); err != nil {
			return nil, fmt.Errorf("bench replay: %s: %w", p, err)
		}
		own["limits"] = allowed[p].credits
		out[p] = boot.Endpoint{URL: e.URL, Credentials: secret(own)}
	}
	return out, nil
}

// measure has people edit all the time, and replays everything in the middle of it.
func (x *replayRun) measure(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer func() { cancel(); working.Wait() }()
	editing, stop := context.WithCancel(ctx)
	defer stop()
	var failed error // of editing; read once that has ended
	ended := make(chan struct{})
	working.Go(func() { defer close(ended); failed = x.edit(editing) })
	working.Go(func() { x.watch(ctx) })
	if err := deadline.Pause(ctx, x.o.Idle/10); err != nil { // warming up counts for nothing
		return err
	}
	before := x.begin()
	if err := x.idle(ctx, before); err != nil {
		return err
	}
	fmt.Fprintln(x.o.Progress, "  idle:", x.seen(before))
	during := x.begin()
	was := x.stats()
	busiest, err := x.replay(ctx, during)
	if err != nil {
		return err
	}
	is := x.stats()
	fmt.Fprintln(x.o.Progress, "  with the replay:", x.seen(during))
	after := x.begin()
	if err := x.idle(ctx, after); err != nil {
		return err
	}
	stop()
	<-ended
	if failed != nil {
		return failed
	}
	status, err := x.quiet(ctx)
	if err != nil {
		return err
	}
	x.look()
	cancel()
	working.Wait()
	never, err := x.missed(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	r := &x.report
	r.Before, r.During, r.After = before.fresh(), during.fresh(), after.fresh()
	r.Idle = phase{before.edits + after.edits, slices.Concat(before.took, after.took)}.fresh()
	r.Ratio = r.During.P95 / max(r.Idle.P95, 0.001)
	allowed, over, refused := allowance(x.o.Factor), 0, 0
	for i := range r.Platforms {
		p := &r.Platforms[i]
		s := x.twins.Kits()[p.Name].Stats()
		p.Allowed, p.Calls, p.Busiest, p.AtOnce, p.OverLimit, p.Over = allowed[p.Name].says, is[p.Name].Calls-was[p.Name].Calls, busiest[p.Name], s.MaxFlight, s.OverLimit, s.Over
		c := status.Metrics.Counters
		p.Woken, p.Conflicts, p.Wasted = int(c["Swept."+p.Name]), int(c["DeliverConflicts."+p.Name]), int(c["ProviderWrites."+p.Name]-c["Written."+p.Name])
		over, refused = over+s.OverLimit, refused+s.Webhooks.Refused
	}
	x.check("calls over a limit, by the twins' counting", over, 0)
	x.check("records replayed, of those with something to write", r.Handled, r.Planned)
	x.check("webhooks and events not accepted within the vendor's time", refused, 0)
	x.check("copies that were never made, of edits not heard of", never.unheard, 0)
	x.check("copies that were never made, though due", never.due, 0)
	x.check("copies that were lost", never.lost, 0)
	x.compare()
	x.check("open exceptions", sum(status.Exceptions), 0)
	x.check("messages in dead-letter queues", deadLetters(status), 0)
	return nil
}

func (x *replayRun) check(name string, got, want int) {
	x.report.Checks = append(x.report.Checks, Check{name, got, want})
}

// begin opens a phase.
func (x *replayRun) begin() *phase {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.phase = &phase{}
	return x.phase
}

// idle lets a phase without a replay pass, and an edit in it at least.
func (x *replayRun) idle(ctx context.Context, p *phase) error {
	err := deadline.Pause(ctx, x.o.Idle)
	for err == nil {
		x.mu.Lock()
		edits := p.edits
		x.mu.Unlock()
		if edits > 0 {
			return nil
		}
		err = deadline.Pause(ctx, 50*time.Millisecond)
	}
	return err
}

// seen says how a phase stands.
func (x *replayRun) seen(p *phase) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := p.fresh()
	return fmt.Sprintf("%d edits, %d copies, p50 %.0f ms, p95 %.0f ms, max %.0f ms", f.Edits, f.Copies, f.P50, f.P95, f.Max)
}

// edit has people change phone numbers, each of another customer than the last ones. They leave every second customer
// alone: a change of any field brings what was forgotten with it, and on a slow machine nothing would be left to replay.
func (x *replayRun) edit(ctx context.Context) error {
	order := rand.New(rand.NewPCG(x.o.Seed, 1)).Perm(len(x.customers))[len(x.customers)/2:]
	edit, pace := x.edits(), pacer(x.o.Rate)
	for n := 0; ; n++ {
		if pace(ctx) != nil {
			return nil // it is over
		}
		source := []string{record.Salesforce, record.NetSuite}[n%2]
		i, phone := order[n%len(order)], fmt.Sprintf("+43 2 %07d", n)
		m, _ := x.set.ByEntity("customer", source)
		path, _, _ := m.Native("phone")
		x.mu.Lock()
		at := time.Now()
		x.customers[i].phone = phone
		x.phase.edits++
		x.waiting = slices.DeleteFunc(x.waiting, func(a arrival) bool { return a.customer == i }) // it will never be seen
		for _, p := range boot.Platforms() {
			if p != source {
				x.waiting = append(x.waiting, arrival{p, i, phone, at, x.phase})
			}
		}
		id := x.customers[i].ids[source]
		x.mu.Unlock()
		if _, err := edit[source](m.Object, id, map[string]any{path: phone}); err != nil {
			return fmt.Errorf("bench replay: editing on %s: %w", source, err)
		}
	}
}

// shown is a field of a customer as a twin has it.
func (x *replayRun) shown(platform, id, field string) any {
	m, _ := x.set.ByEntity("customer", platform)
	row, _ := map[string]func(object, id string) (map[string]any, bool){record.NetSuite: x.twins.NetSuite.Get, record.Salesforce: x.twins.Salesforce.Get,
		record.Zendesk: x.twins.Zendesk.Get, record.ServiceNow: x.twins.ServiceNow.Get}[platform](m.Object, id)
	path, _, _ := m.Native(field)
	var at any = row
	for _, key := range strings.Split(path, ".") {
		in, _ := at.(map[string]any)
		at = in[key]
	}
	return at
}

// watch looks every few milliseconds what has arrived, and less often where looking itself takes its time: it is not to
// keep the twins busy.
func (x *replayRun) watch(ctx context.Context) {
	for took := time.Duration(0); deadline.Pause(ctx, max(5*time.Millisecond, 10*took)) == nil; took = x.look() {
	}
}

// look takes down what has arrived, and returns how long that took.
func (x *replayRun) look() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	began := time.Now()
	x.waiting = slices.DeleteFunc(x.waiting, func(a arrival) bool {
		if x.shown(a.platform, x.customers[a.customer].ids[a.platform], "phone") != a.phone {
			return false
		}
		a.phase.took = append(a.phase.took, began.Sub(a.at))
		return true
	})
	return time.Since(began)
}

func (x *replayRun) stats() map[string]twin.Stats {
	out := map[string]twin.Stats{}
	for p, k := range x.twins.Kits() {
		out[p] = k.Stats()
	}
	return out
}

// replay plans a replay of all customers, runs it, and waits until nothing is due for it. It returns the calls of each
// platform's busiest minute.
func (x *replayRun) replay(ctx context.Context, during *phase) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, x.o.Limit)
	defer cancel()
	began := time.Now()
	shown, err := x.ask(ctx, http.MethodPost, "", ledger.Selection{Entity: "customer"})
	for err == nil && shown.State == ledger.ReplayPlanning && deadline.Pause(ctx, 200*time.Millisecond) == nil {
		shown, err = x.ask(ctx, http.MethodGet, "/"+shown.ID, nil)
	}
	if err != nil {
		return nil, err
	}
	// What was edited meanwhile is settled already.
	if p := shown.Plan; p.Records != x.o.Records || p.Apply+p.NoOp != x.o.Records || len(p.Writes) != len(forgetful()) {
		return nil, fmt.Errorf("bench replay: the plan is not that of %d records with something to write each: %+v", x.o.Records, shown.Plan)
	}
	x.report.Planned, x.report.PlanSec = shown.Plan.Apply, time.Since(began).Seconds()
	fmt.Fprintf(x.o.Progress, "  planned after %.0f s: %v to write; takes %s, it says\n", x.report.PlanSec, shown.Plan.Writes, shown.Takes)
	began = time.Now()
	if shown, err = x.ask(ctx, http.MethodPost, "/"+shown.ID+"/run", struct{}{}); err != nil {
		return nil, err
	}
	busiest, minute := map[string]int{}, []map[string]twin.Stats{x.stats()}
	told := time.Now()
	for {
		if err := deadline.Pause(ctx, time.Second); err != nil {
			return nil, fmt.Errorf("bench replay: %d of %d records handled: %w", shown.Did.Handled, x.o.Records, err)
		}
		now := x.stats()
		for p, s := range now {
			busiest[p] = max(busiest[p], s.Calls-minute[0][p].Calls)
		}
		if minute = append(minute, now); len(minute) > 60 {
			minute = minute[1:]
		}
		if shown, err = x.ask(ctx, http.MethodGet, "/"+shown.ID, nil); err != nil {
			return nil, err
		}
		if time.Since(told) > 20*time.Second {
			told = time.Now()
			fmt.Fprintf(x.o.Progress, "  %d handled, %s\n", shown.Did.Handled, x.seen(during))
		}
		if shown.State != ledger.ReplayRunning && shown.State != ledger.ReplayDone {
			return nil, fmt.Errorf("bench replay: the replay is %s: %s", shown.State, shown.Reason)
		}
		if shown.State == ledger.ReplayRunning {
			continue
		}
		status, err := getStatus(ctx, x.peer.URL)
		if err != nil {
			return nil, err
		}
		left := 0
		for _, p := range status.Platforms {
			left += p.ByClass[budget.Replay.String()].Count
		}
		if left == 0 {
			break
		}
	}
	x.report.ReplaySec, x.report.Handled = time.Since(began).Seconds(), shown.Did.Handled
	for _, p := range boot.Platforms() {
		x.report.Platforms = append(x.report.Platforms, ReplayPlatform{Name: p, Replayed: shown.Did.Due[p]})
	}
	return busiest, nil
}

// ask calls the interface of replays, as a steward.
func (x *replayRun) ask(ctx context.Context, method, path string, body any) (replay.Shown, error) {
	var out replay.Shown
	b, err := json.Marshal(body)
	if err != nil {
		return out, fmt.Errorf("bench replay: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, method, x.peer.URL+"/v1/replays"+path, bytes.NewReader(b))
	if err != nil {
		return out, fmt.Errorf("bench replay: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(trigger.PersonHeader, "stewart@northwind.example")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return out, fmt.Errorf("bench replay: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return out, fmt.Errorf("bench replay: %s %s: %s: %s", method, path, resp.Status, text)
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("bench replay: %w", err)
	}
	return out, nil
}

// quiet waits until nothing is on its way from the twins, and nothing is left to do. A slow machine may take long.
func (x *replayRun) quiet(ctx context.Context) (operate.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, x.o.Limit)
	defer cancel()
	if err := x.twins.Drain(ctx); err != nil {
		return operate.Status{}, fmt.Errorf("bench replay: webhooks are still on their way: %w", err)
	}
	return drain(ctx, func() string { return x.peer.URL })
}

// missed is what no platform shows although nothing is left to do, by what Sorrel knows of it.
type missed struct {
	unheard int // of the edit: the vendor's message was not accepted, and nothing is listed here
	due     int // and so late, not lost
	lost    int
}

func (m *missed) add(s ledger.State, a arrival) {
	_, due := s.Due[a.platform]
	switch {
	case s.Record.Golden["phone"].Value != record.TextValue(a.phone):
		m.unheard++
	case due:
		m.due++
	default:
		m.lost++
	}
}

// missed stops Sorrel, where anything is missing, and looks into its ledger.
func (x *replayRun) missed(ctx context.Context) (out missed, err error) {
	if len(x.waiting) == 0 {
		return out, nil
	}
	if err := x.peer.Kill(); err != nil {
		return out, err
	}
	w, err := boot.Embedded(filepath.Join(x.dir, "data"), x.set, x.twins.Endpoints(), quiet)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	m, _ := x.set.ByEntity("customer", record.NetSuite)
	for _, a := range x.waiting {
		ref := record.Ref{Platform: record.NetSuite, Object: m.Object, ID: x.customers[a.customer].ids[record.NetSuite]}
		id, linked, err := w.Ledger.Lookup(ctx, ref)
		if err != nil {
			return out, err
		}
		if !linked {
			return out, fmt.Errorf("bench replay: %s is linked to no record any more", ref)
		}
		s, err := w.Ledger.Follow(ctx, id)
		if err != nil {
			return out, err
		}
		out.add(s, a)
	}
	return out, nil
}

// compare looks at every customer everywhere.
func (x *replayRun) compare() {
	unwritten, stale, rows := 0, 0, 0
	want := map[string]any{}
	for _, p := range boot.Platforms() {
		m, _ := x.set.ByEntity("customer", p)
		path, _, _ := m.Native(forgotten)
		body, _, err := m.Write(map[string]record.Value{forgotten: record.TextValue("midmarket")}, false, nil)
		var at any = body
		for _, key := range strings.Split(path, ".") {
			in, _ := at.(map[string]any)
			at = in[key]
		}
		if err == nil {
			want[p] = at
		}
		rows += len(map[string]func(string) []map[string]any{record.NetSuite: x.twins.NetSuite.All, record.Salesforce: x.twins.Salesforce.All,
			record.Zendesk: x.twins.Zendesk.All, record.ServiceNow: x.twins.ServiceNow.All}[p](m.Object))
	}
	for _, c := range x.customers {
		for _, p := range boot.Platforms() {
			if x.shown(p, c.ids[p], forgotten) != want[p] {
				unwritten++
			}
			if x.shown(p, c.ids[p], "phone") != c.phone {
				stale++
			}
		}
	}
	x.check("copies without what was replayed", unwritten, 0)
	x.check("copies without their customer's last edit", stale, 0)
	x.check("customers on all platforms", rows, 4*x.o.Records)
}
