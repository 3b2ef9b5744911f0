package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/deadline"
	"sorrel/shared/flow/link"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/local"
	"sorrel/shared/match"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/twins"
)

// ReconcileOptions of measuring reconciliation. Zero values have the defaults that are named.
type ReconcileOptions struct {
	Customers int       // of each platform; 100,000
	Shares    []float64 // of a platform's customers that are changed behind Sorrel's back, one run each; 0, 0.0001, 0.001, 0.01, 0.1
	Heal      float64   // up to this share what was found is healed, and looked for again; 0.001
	Seed      uint64    // 1
	Limit     time.Duration
	Dir       string    // where Sorrel keeps its data; "" = a temporary folder
	Progress  io.Writer // nil = nobody
}

func (o ReconcileOptions) withDefaults() ReconcileOptions {
	o.Customers, o.Seed, o.Limit = cmp.Or(max(0, o.Customers), 100_000), cmp.Or(o.Seed, 1), cmp.Or(max(0, o.Limit), time.Hour)
	if o.Shares == nil {
		o.Shares = []float64{0, 0.0001, 0.001, 0.01, 0.1}
	}
	o.Heal = cmp.Or(o.Heal, judged)
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// What a run must hold: at the judged share, so many of the calls of a full read at most.
const (
	judged    = 0.001
	mostCalls = 0.02
)

// ReconcilePlatform is what a run found on one platform.
type ReconcilePlatform struct {
	Name     string          `json:"name"`
	Drifted  int             `json:"drifted"` // native records that differ, by the twin's own state
	Found    int             `json:"found"`
	Asked    int             `json:"asked"`    // of them, those that people are asked about
	Missed   int             `json:"missed"`   // differing and not found
	Invented int             `json:"invented"` // found and not differing
	Kinds    map[string]int  `json:"kinds"`    // found, by kind
	Calls    int             `json:"calls"`    // by the twin's counting, without sign-ins
	By       reconcile.Calls `json:"callsBy"`  // by Sorrel's own
	Full     int             `json:"fullCalls"`
	Rounds   int             `json:"rounds"`
	State    string          `json:"state"`
	missed   []string
	invented []string
}

// ReconcileLeg is one run.
type ReconcileLeg struct {
	Share     float64             `json:"share"`
	Again     bool                `json:"again"` // after healing, where nothing may be left
	Seconds   float64             `json:"seconds"`
	CPU       float64             `json:"cpuSeconds"` // of this process: Sorrel's, the twins' and the queue's
	Ratio     float64             `json:"ratio"`      // calls to those of a full read, over all platforms
	Platforms []ReconcilePlatform `json:"platforms"`
}

func (l ReconcileLeg) sum(of func(ReconcilePlatform) int) (n int) {
	for _, p := range l.Platforms {
		n += of(p)
	}
	return n
}

// FullRead is what reading everything takes.
type FullRead struct {
	Platform string  `json:"platform"`
	Records  int     `json:"records"`
	Calls    int     `json:"calls"`
	Seconds  float64 `json:"seconds"`
}

// ReconcileReport is what it found.
type ReconcileReport struct {
	Machine   Machine        `json:"machine"`
	Seed      uint64         `json:"seed"`
	Customers int            `json:"customersPerPlatform"`
	SeedSec   float64        `json:"seedSeconds"`
	Full      []FullRead     `json:"fullReads"`
	Legs      []ReconcileLeg `json:"legs"`
	Checks    []Check        `json:"checks"`
}

// reconcileRun is one measurement.
type reconcileRun struct {
	o         ReconcileOptions
	set       *policy.Set
	clock     *history
	twins     *twins.Twins
	world     *boot.World
	heard     *eavesdropper
	customers []map[string]string // native ids by platform
	free      []int               // customers that nothing was done to yet
	asked     map[record.Ref]bool // people were, and have not answered
	full      map[string]int
	report    ReconcileReport
}

// Reconcile measures reconciliation by counts over the vendors' twins. Customers are linked on four platforms; then, a day later
// and unheard, some are changed, touched, deleted, merged and added. What differs is told by the twins' own state, and what was
// found by what the hub was sent and people were asked.
func Reconcile(ctx context.Context, o ReconcileOptions) (r ReconcileReport, err error) {
	o = o.withDefaults()
	x := &reconcileRun{o: o, clock: newHistory(time.Now), full: map[string]int{}, asked: map[record.Ref]bool{}, report: ReconcileReport{Machine: machine(), Seed: o.Seed, Customers: o.Customers}}
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return x.report, err
	}
	defer done()
	began := time.Now()
	if err := x.fill(ctx, dir); err != nil {
		return x.report, err
	}
	defer func() {
		err = errors.Join(err, x.world.Close(), x.twins.Close(context.WithoutCancel(ctx)))
	}()
	x.report.SeedSec = time.Since(began).Seconds()
	fmt.Fprintf(o.Progress, "  %d customers are linked on four platforms, after %.0f s\n", o.Customers, x.report.SeedSec)
	if err := x.readAll(ctx); err != nil {
		return x.report, err
	}
	for _, share := range o.Shares {
		if err := x.leg(ctx, share); err != nil {
			return x.report, err
		}
	}
	return x.report, x.report.broken()
}

// history is a clock that is set while a past is made, and then tells the time, and can jump ahead.
type history struct {
	mu    sync.Mutex
	real  func() time.Time
	at    time.Time
	ahead time.Duration
}

func newHistory(real func() time.Time) *history { return &history{real: real, at: real()} }

func (h *history) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() {
		return h.real().Add(h.ahead)
	}
	h.at = h.at.Add(time.Millisecond)
	return h.at
}

func (h *history) set(at time.Time) { h.mu.Lock(); h.at = at; h.mu.Unlock() }

func (h *history) jump(d time.Duration) { h.mu.Lock(); h.ahead += d; h.mu.Unlock() }

// past is how long the customers have been there.
const past = 365 * 24 * time.Hour

// fill makes the customers on the twins, alike everywhere, over a year, and links them as `sorrel link --apply` does.
func (x *reconcileRun) fill(ctx context.Context, dir string) (err error) {
	if x.twins, err = twins.Start(twins.Options{Now: x.clock.now, Seed: x.o.Seed, Roomy: true}); err != nil {
		return err
	}
	set, err := boot.LoadConfig(boot.Everywhere)
	if err != nil {
		return err
	}
	rules := set.Reconciling("customer")
	rules.Records, rules.Percent = policy.MostHealed, 100
	x.set = set.WithReconciling(rules)
	edit, begin := edits(x.twins), time.Now().Add(-past)
	for n := range x.o.Customers {
		x.clock.set(begin.Add(past / time.Duration(x.o.Customers) * time.Duration(n)))
		c := map[string]string{}
		for _, p := range boot.Platforms() {
			m, body, err := said(x.set, alike(p, n), true)
			if err != nil {
				return err
			}
			if c[p], err = edit[p](m.Object, "", body); err != nil {
				return fmt.Errorf("bench reconcile: filling %s: %w", p, err)
			}
		}
		x.customers = append(x.customers, c)
	}
	x.clock.set(time.Time{})
	x.free = rand.New(rand.NewPCG(x.o.Seed, 2)).Perm(x.o.Customers)
	fmt.Fprintln(x.o.Progress, "  the twins are filled")
	if x.world, err = boot.EmbeddedAt(x.clock.now, filepath.Join(dir, "data"), x.set, x.twins.Endpoints(), quiet); err != nil {
		return err
	}
	x.heard = &eavesdropper{to: x.world.Inbound}
	x.world.Inbound = x.heard
	scratch, err := os.Create(filepath.Join(dir, "scratch"))
	if err != nil {
		return fmt.Errorf("bench reconcile: %w", err)
	}
	defer scratch.Close()
	found, err := x.world.Link(scratch, nil).Run(ctx, link.Options{Entities: []string{"customer"}, Apply: true, Workers: 64})
	if err != nil {
		return err
	}
	if e := found.Entities[0]; e.Done.Records != x.o.Customers || e.Done.Natives != 4*x.o.Customers {
		return fmt.Errorf("bench reconcile: %d records with %d native ones were linked, want %d with four each", e.Done.Records, e.Done.Natives, x.o.Customers)
	}
	return nil
}

// alike is customer n as each platform has it.
func alike(platform string, n int) match.Item {
	return match.Item{Ref: record.Ref{Platform: platform}, Fields: map[string]record.Value{
		"number": record.TextValue(fmt.Sprintf("C%07d", n)), "name": record.TextValue(fmt.Sprintf("Customer %07d", n)), "taxId": record.TextValue(fmt.Sprintf("ATU%08d", n)),
		"billingAddress.country": record.TextValue("AT"), "phone": record.TextValue(fmt.Sprintf("+43 1 %07d", n)), "active": record.BoolValue(true), "creditHold": record.TextValue("auto"),
	}}
}

// edits are what people do on each platform.
func edits(t *twins.Twins) map[string]func(object, id string, fields map[string]any) (string, error) {
	return map[string]func(object, id string, fields map[string]any) (string, error){record.NetSuite: t.NetSuite.Edit, record.Salesforce: t.Salesforce.Edit,
		record.Zendesk: t.Zendesk.Edit, record.ServiceNow: t.ServiceNow.Edit}
}

// eavesdropper takes down which native records the hub is sent.
type eavesdropper struct {
	to   queue.Sender
	mu   sync.Mutex
	on   bool
	drop bool
	refs map[record.Ref]int
}

// Send takes down and passes on.
func (e *eavesdropper) Send(ctx context.Context, msgs ...queue.Message) error {
	e.mu.Lock()
	on, drop := e.on, e.drop
	for _, m := range msgs {
		if !on {
			break
		}
		in, err := message.ParseInbound(m.Body)
		if err != nil {
			e.mu.Unlock()
			return err
		}
		e.refs[in.Native.Ref]++
	}
	e.mu.Unlock()
	if on && drop {
		return nil
	}
	return e.to.Send(ctx, msgs...)
}

func (e *eavesdropper) begin(drop bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.on, e.drop, e.refs = true, drop, map[record.Ref]int{}
}

func (e *eavesdropper) end() map[record.Ref]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.on = false
	return e.refs
}

// readAll lists everything wholly through the connectors, and takes down what that costs.
func (x *reconcileRun) readAll(ctx context.Context) error {
	for _, p := range boot.Platforms() {
		src, lists := x.world.Connectors[p].(reconcile.Source)
		if !lists {
			return fmt.Errorf("bench reconcile: %s cannot be listed", p)
		}
		began, was := time.Now(), x.calls(p)
		read := FullRead{Platform: p}
		for cursor, more := "", true; more; {
			page, err := src.Within(ctx, x.object(p), nil, cursor)
			if err != nil {
				return err
			}
			read.Records += len(page.Natives)
			cursor, more = page.Cursor, page.More
		}
		read.Calls, read.Seconds = x.calls(p)-was, time.Since(began).Seconds()
		x.full[p] = read.Calls
		x.report.Full = append(x.report.Full, read)
		x.check("records that a full read of "+p+" lists", read.Records, x.o.Customers)
		fmt.Fprintf(x.o.Progress, "  a full read of %s: %d records, %d calls, %.1f s\n", p, read.Records, read.Calls, read.Seconds)
	}
	return nil
}

// calls are what a twin has answered, without sign-ins: how often these are due depends on the time that has passed.
func (x *reconcileRun) calls(p string) int {
	s := x.twins.Kits()[p].Stats()
	n := s.Calls
	for operation, times := range s.Operations {
		if strings.Contains(operation, "token") {
			n -= times
		}
	}
	return n
}

func (x *reconcileRun) check(name string, got, want int) {
	x.report.Checks = append(x.report.Checks, Check{name, got, want})
}

func (x *reconcileRun) object(p string) string {
	m, _ := x.set.ByEntity("customer", p)
	return m.Object
}

// state is what a twin holds: native id → its own stamp of the last modification.
func (x *reconcileRun) state(p string) map[string]string {
	all := map[string]func(string) []map[string]any{record.NetSuite: x.twins.NetSuite.All, record.Salesforce: x.twins.Salesforce.All,
		record.Zendesk: x.twins.Zendesk.All, record.ServiceNow: x.twins.ServiceNow.All}[p]
	names := map[string][]string{record.NetSuite: {"id", "lastModifiedDate"}, record.Salesforce: {"Id", "SystemModstamp"},
		record.Zendesk: {"id", "updated_at"}, record.ServiceNow: {"sys_id", "sys_updated_on", "sys_mod_count"}}[p]
	out := map[string]string{}
	for _, r := range all(x.object(p)) {
		if r["IsDeleted"] == true {
			continue
		}
		stamp := ""
		for _, n := range names[1:] {
			stamp += fmt.Sprint(r[n], " ")
		}
		out[fmt.Sprint(r[names[0]])] = stamp
	}
	return out
}

// leg changes a share of the customers of each platform, unheard, and lets a run find them.
func (x *reconcileRun) leg(ctx context.Context, share float64) error {
	before := map[string]map[string]string{}
	for _, p := range boot.Platforms() {
		before[p] = x.state(p)
	}
	x.clock.jump(24 * time.Hour)
	if err := x.drift(share); err != nil {
		return err
	}
	truth := map[record.Ref]bool{}
	for _, p := range boot.Platforms() {
		after := x.state(p)
		for id, stamp := range after {
			if before[p][id] != stamp {
				truth[record.Ref{Platform: p, Object: x.object(p), ID: id}] = true
			}
		}
		for id := range before[p] {
			if _, there := after[id]; !there {
				truth[record.Ref{Platform: p, Object: x.object(p), ID: id}] = true
			}
		}
	}
	x.clock.jump(time.Hour) // beyond what may still be on its way
	heal := share <= x.o.Heal
	leg, err := x.run(ctx, share, truth, !heal)
	if err != nil {
		return err
	}
	x.report.Legs = append(x.report.Legs, leg)
	x.judge(leg, share == judged)
	if !heal || share == 0 {
		return nil
	}
	// Healing writes, and not every platform tells of that: the first run afterwards may find versions that are newer with
	// values that are known, and nothing else. The second finds nothing.
	for n := range 2 {
		if err := x.settle(ctx); err != nil {
			return err
		}
		x.clock.jump(time.Hour)
		leg, err := x.run(ctx, share, nil, n > 0)
		if err != nil {
			return err
		}
		leg.Again = true
		x.report.Legs = append(x.report.Legs, leg)
		name, left := fmt.Sprintf("left of %s after it was healed", percent(share)), leg.sum(func(p ReconcilePlatform) int { return p.Found })
		if n == 0 {
			name, left = name+", but versions", left-leg.sum(func(p ReconcilePlatform) int { return p.Kinds[string(reconcile.Stale)] })
		}
		x.check(name, left, 0)
	}
	return nil
}

func (x *reconcileRun) judge(l ReconcileLeg, calls bool) {
	of := percent(l.Share)
	x.check("missed of "+of, l.sum(func(p ReconcilePlatform) int { return p.Missed }), 0)
	x.check("invented with "+of, l.sum(func(p ReconcilePlatform) int { return p.Invented }), 0)
	if calls {
		over := max(0, l.sum(func(p ReconcilePlatform) int { return p.Calls })-int(mostCalls*float64(l.sum(func(p ReconcilePlatform) int { return p.Full }))))
		x.check(fmt.Sprintf("calls with %s beyond %g %% of a full read", of, 100*mostCalls), over, 0)
	}
}

func percent(share float64) string { return fmt.Sprintf("%g %%", 100*share) }

// drift changes customers on each platform, each customer once in the whole measurement.
func (x *reconcileRun) drift(share float64) error {
	edit := edits(x.twins)
	take := func() (map[string]string, error) {
		if len(x.free) == 0 {
			return nil, errors.New("bench reconcile: no customer is left to change: fewer or smaller shares")
		}
		n := x.free[0]
		x.free = x.free[1:]
		return x.customers[n], nil
	}
	forget := map[string]func(object, id string) error{record.NetSuite: x.twins.NetSuite.Delete, record.Salesforce: x.twins.Salesforce.Delete,
		record.Zendesk: x.twins.Zendesk.Delete, record.ServiceNow: x.twins.ServiceNow.Delete}
	unite := map[string]func(object, winner, loser string) error{record.NetSuite: x.twins.NetSuite.Merge, record.Salesforce: x.twins.Salesforce.Merge, record.Zendesk: x.twins.Zendesk.Merge}
	for _, p := range boot.Platforms() {
		m, _ := x.set.ByEntity("customer", p)
		save := func(id string, item match.Item) error {
			item.Ref.Platform = p
			_, body, err := said(x.set, item, id == "")
			if err == nil {
				_, err = edit[p](m.Object, id, body)
			}
			return err
		}
		for n := range int(share * float64(x.o.Customers)) {
			c, err := take()
			if err != nil {
				return err
			}
			switch kind := n % 20; {
			case kind < 12: // changed
				err = save(c[p], match.Item{Fields: map[string]record.Value{"phone": record.TextValue(fmt.Sprintf("+43 3 %07d", len(x.free)))}})
			case kind < 14: // only touched
				err = save(c[p], match.Item{Fields: map[string]record.Value{"active": record.BoolValue(true)}})
			case kind < 18: // added
				err = save("", alike(p, x.o.Customers+len(x.free)))
			case kind < 19: // deleted
				err = forget[p](m.Object, c[p])
			default: // merged into another, where the platform can
				if unite[p] == nil {
					err = forget[p](m.Object, c[p])
					break
				}
				var other map[string]string
				if other, err = take(); err == nil {
					err = unite[p](m.Object, other[p], c[p])
				}
			}
			if err != nil {
				return fmt.Errorf("bench reconcile: changing %s: %w", p, err)
			}
		}
	}
	return nil
}

// run reconciles all platforms, and holds what was found against what differs.
func (x *reconcileRun) run(ctx context.Context, share float64, truth map[record.Ref]bool, drop bool) (ReconcileLeg, error) {
	leg := ReconcileLeg{Share: share}
	was := map[string]int{}
	for p := range x.twins.Kits() {
		was[p] = x.calls(p)
	}
	x.heard.begin(drop)
	began, used := time.Now(), peer.Self()
	flow := x.world.Reconcile()
	shown, err := flow.Schedule(ctx, reconcile.Wish{Entity: "customer"})
	for err == nil && shown.State == reconcile.Running {
		if _, err = flow.Advance(ctx); err == nil {
			shown, err = flow.Show(ctx, shown.ID)
		}
	}
	if err != nil {
		return leg, err
	}
	leg.Seconds, leg.CPU = time.Since(began).Seconds(), (peer.Self().CPU - used.CPU).Seconds()
	sent := x.heard.end()
	asked, err := x.world.Ledger.Exceptions(ctx, false)
	if err != nil {
		return leg, err
	}
	found, open := map[record.Ref]bool{}, map[record.Ref]bool{}
	for ref := range sent {
		found[ref] = true
	}
	for _, e := range asked {
		if parts := strings.SplitN(e.Native, "/", 3); e.Type == "reconciliation-drift" && len(parts) == 3 {
			ref := record.Ref{Platform: parts[0], Object: parts[1], ID: parts[2]}
			found[ref], open[ref] = true, true
		}
	}
	for ref := range x.asked { // before this run
		delete(found, ref)
		delete(open, ref)
	}
	calls, full := 0, 0
	for _, s := range shown.Sets {
		p := ReconcilePlatform{Name: s.Platform, Kinds: map[string]int{}, Rounds: s.Rounds, State: s.State, By: s.Calls, Full: x.full[s.Platform], Calls: x.calls(s.Platform) - was[s.Platform]}
		for _, t := range s.Drift {
			p.Kinds[string(t.Kind)] = t.Found
		}
		if s.State != reconcile.Done || s.Capped {
			return leg, fmt.Errorf("bench reconcile: %s %s: %s %s, capped %v", s.Platform, s.Object, s.State, s.Reason, s.Capped)
		}
		for ref := range truth {
			if ref.Platform == s.Platform {
				if p.Drifted++; !found[ref] {
					p.Missed++
					p.missed = append(p.missed, ref.ID)
				}
			}
		}
		for ref := range found {
			if ref.Platform == s.Platform {
				if open[ref] {
					p.Asked++
				}
				if p.Found++; truth != nil && !truth[ref] {
					p.Invented++
					p.invented = append(p.invented, ref.ID)
				}
			}
		}
		leg.Platforms = append(leg.Platforms, p)
		fmt.Fprintf(x.o.Progress, "  %s: %v, %d calls: %+v\n", p.Name, p.Kinds, p.Calls, p.By)
		calls, full = calls+p.Calls, full+p.Full
		if len(p.missed)+len(p.invented) > 0 {
			fmt.Fprintf(x.o.Progress, "  %s: missed %v, invented %v\n", p.Name, some(p.missed), some(p.invented))
		}
	}
	maps.Copy(x.asked, open)
	leg.Ratio = float64(calls) / float64(max(1, full))
	fmt.Fprintf(x.o.Progress, "  %s: %d of %d found, %d calls of %d, %.1f s\n", percent(share), leg.sum(func(p ReconcilePlatform) int { return p.Found }), len(truth), calls, full, leg.Seconds)
	return leg, nil
}

func some(ids []string) []string {
	slices.Sort(ids)
	return ids[:min(len(ids), 5)]
}

// settle lets the hub hear what was found, with webhooks, until nothing is left to do.
func (x *reconcileRun) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, x.o.Limit)
	defer cancel()
	host, err := local.Start(x.world, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1})
	if err != nil {
		return err
	}
	x.twins.SendTo(host.URL())
	defer x.twins.SendTo("")
	for calm := 0; calm < 3 && err == nil; {
		if err = x.twins.Drain(ctx); err != nil {
			break
		}
		left := 0
		for name, q := range x.world.Queues {
			d, failed := q.Depth(ctx)
			if failed != nil {
				err = failed
			}
			if !strings.HasSuffix(name, "-dlq.fifo") {
				left += d.Visible + d.InFlight
			}
		}
		for _, p := range boot.Platforms() {
			for due, failed := range x.world.Ledger.DueFor(ctx, p) {
				if err = errors.Join(err, failed); failed == nil && due.NotBefore.Before(x.clock.now().Add(time.Hour)) {
					left++
				}
				break
			}
		}
		if calm++; left > 0 {
			calm = 0
		}
		if err == nil {
			err = deadline.Pause(ctx, 100*time.Millisecond)
		}
	}
	stop, end := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
	defer end()
	return errors.Join(err, host.Close(stop))
}

func (r ReconcileReport) broken() error {
	var errs []error
	for _, c := range r.Checks {
		if !c.Held() {
			errs = append(errs, fmt.Errorf("bench reconcile, seed %d: %s: %d, want %d", r.Seed, c.Name, c.Got, c.Want))
		}
	}
	return errors.Join(errs...)
}

// Print writes the report for people, at most 80 columns wide.
func (r ReconcileReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench reconcile, seed %d\n\n%s\n%s, %s, %d CPUs\n\n", r.Seed, r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs)
	p("%s customers on each of four platforms, linked in %.0f s; some are then\nchanged (60 %%), touched (10 %%), added (20 %%), deleted (5 %%) and merged (5 %%),\nwhile nobody listens.\n\n", thousands(float64(r.Customers)), r.SeedSec)
	p("%-12s %10s %8s %8s\n", "full read", "records", "calls", "seconds")
	for _, f := range r.Full {
		p("%-12s %10s %8s %8.1f\n", f.Platform, thousands(float64(f.Records)), thousands(float64(f.Calls)), f.Seconds)
	}
	p("\n%-8s %-10s %8s %8s %7s %7s %8s %6s %8s\n", "drift", "platform", "differ", "found", "people", "missed", "invented", "calls", "of full")
	for _, l := range r.Legs {
		name := percent(l.Share)
		if l.Again {
			name = "  healed"
		}
		for i, x := range l.Platforms {
			if i > 0 {
				name = ""
			}
			p("%-8s %-10s %8s %8s %7s %7d %8d %6d %7.1f%%\n", name, x.Name, dash(!l.Again, thousands(float64(x.Drifted))), thousands(float64(x.Found)), thousands(float64(x.Asked)), x.Missed, x.Invented, x.Calls, 100*float64(x.Calls)/float64(max(1, x.Full)))
		}
	}
	p("(healed: the run after it, and the next; the first may find that writes of\nSorrel's own have made versions newer)\n")
	p("\n%-9s %8s %8s  calls to those of a full read, all platforms\n", "drift", "seconds", "CPU s")
	for _, l := range r.Legs {
		if !l.Again {
			p("%-9s %8.1f %8.1f  %s %5.1f %%\n", percent(l.Share), l.Seconds, l.CPU, bar(l.Ratio, mostCalls), 100*l.Ratio)
		}
	}
	p("(| is the bar: %g %% at a drift of %s)\n\n", 100*mostCalls, percent(judged))
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}
