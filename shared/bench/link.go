package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/flow/link"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/twins"
)

// LinkOptions of measuring `sorrel link`. Zero values have the defaults that are named.
type LinkOptions struct {
	Customers int       // of each platform; 20,000
	Seed      uint64    // 1
	Config    string    // folder; "" = the embedded configuration
	Apply     bool      // also commit what was found, twice, to a store in memory; with the policy's rules
	Dir       string    // for the native records; "" = a temporary folder
	Progress  io.Writer // nil = nobody
}

// Legs beside policy.
const (
	reference = "reference"
	overHTTP  = "twins"
)

// LinkLeg is one run over all customers with one set of match rules.
type LinkLeg struct {
	Rules   string `json:"rules"`             // policy; twins: the same, over HTTP; reference: those that matchtest holds to be what one would write
	Refused int    `json:"refused,omitempty"` // customers that a twin did not take: Zendesk has no two organizations of one name
	matchtest.Score
	Matched   link.Count `json:"matchedRecords"`
	Created   link.Count `json:"createdRecords"`
	Ambiguous link.Count `json:"ambiguousRecords"`
	Unmatched link.Count `json:"unmatchedRecords"`
	Keyed     []int      `json:"keyed"` // native records with a key, by rule
	Seconds   float64    `json:"seconds"`
	PeakMB    float64    `json:"peakHeapMB,omitempty"`
	Writes    int        `json:"storeWrites"` // by the report: none
	Applied   *LinkDone  `json:"applied,omitempty"`
}

// LinkDone is what applying did.
type LinkDone struct {
	link.Done
	Suspects int     `json:"suspects"` // possible duplicates among the records that were committed
	Seconds  float64 `json:"seconds"`  // listing and matching included
	Again    float64 `json:"secondsAgain"`
	Breaks   int     `json:"auditBreaks"`
}

// LinkReport is what it found.
type LinkReport struct {
	Machine   Machine   `json:"machine"`
	Customers int       `json:"customersPerPlatform"`
	Seed      uint64    `json:"seed"`
	Legs      []LinkLeg `json:"legs"`
}

// What a run must hold, whatever the machine. Precision and recall are promised of the reference rules; those of a policy
// are somebody's choice.
const (
	leastPrecision = 0.999
	leastRecall    = 0.80
	mostHeapMB     = 200
)

// Link measures `sorrel link` over generated customers of four platforms whose truth is known. One leg goes the whole way,
// listing the vendors' twins over HTTP; how long real vendors take is theirs to say. The others, which measure memory
// and compare rules, take the same native records from files: from there on, JSON decoding, mapping, look-up of links,
// matching and report are the same.
func Link(ctx context.Context, o LinkOptions) (LinkReport, error) {
	if o.Customers <= 0 {
		o.Customers = 20_000
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	r := LinkReport{Machine: machine(), Customers: o.Customers, Seed: o.Seed}
	set, err := boot.LoadConfig(o.Config)
	if err != nil {
		return r, err
	}
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return r, err
	}
	defer done()
	items, truth := matchtest.Generate(o.Seed, o.Customers)
	sources, err := dumped(dir, set, items)
	if err != nil {
		return r, err
	}
	if deployed := set.Match("customer"); len(deployed) > 0 {
		leg, err := linkLeg(ctx, o, set, "policy", deployed, sources, truth)
		if err != nil {
			return r, err
		}
		r.Legs = append(r.Legs, leg)
	}
	leg, err := linkLeg(ctx, o, set, reference, matchtest.Rules(), sources, truth)
	if err != nil {
		return r, err
	}
	r.Legs = append(r.Legs, leg)
	if leg, err = twinsLeg(ctx, o, dir, set); err != nil {
		return r, err
	}
	r.Legs = append(r.Legs, leg)
	if o.Apply && r.Legs[0].Rules != reference {
		if r.Legs[0].Applied, err = linkApply(ctx, dir, set, sources); err != nil {
			return r, err
		}
	}
	return r, r.broken()
}

func linkLeg(ctx context.Context, o LinkOptions, set *policy.Set, name string, rules match.Rules, sources map[string]link.Source, truth matchtest.Truth) (LinkLeg, error) {
	leg := LinkLeg{Rules: name}
	fmt.Fprintln(o.Progress, "matching by the rules of", name)
	st := &watched{Store: store.NewMemory(time.Now)}
	flow := link.New(link.Deps{Ledger: ledger.New(st, time.Now), Config: set, Match: func(string) match.Rules { return rules }, Sources: sources, Now: time.Now,
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	var found link.Report
	var err error
	begin := time.Now()
	peak := peakHeap(func() { found, err = flow.Run(ctx, link.Options{Entities: []string{"customer"}}) })
	if err != nil {
		return leg, err
	}
	leg.Seconds, leg.PeakMB, leg.Writes = time.Since(begin).Seconds(), float64(peak)/(1<<20), st.writes
	return leg, leg.take(found.Entities[0], truth)
}

// take scores what was found.
func (l *LinkLeg) take(e link.Entity, truth matchtest.Truth) error {
	l.Score = matchtest.Evaluate(e.Clusters, truth)
	l.Matched, l.Created, l.Ambiguous, l.Unmatched = e.Matched, e.Created, e.Ambiguous, e.Unmatched
	for _, rule := range e.Rules {
		l.Keyed = append(l.Keyed, rule.Keyed)
	}
	if n := e.Matched.Natives + e.Created.Natives + e.Ambiguous.Natives + e.Unmatched.Natives; n != len(truth) {
		return fmt.Errorf("bench link: %s: %d native records are in the report, want %d", l.Rules, n, len(truth))
	}
	return nil
}

// twinsLeg fills the vendors' twins and runs what the command runs.
func twinsLeg(ctx context.Context, o LinkOptions, dir string, set *policy.Set) (leg LinkLeg, err error) {
	leg.Rules = overHTTP
	clock := newSpread(time.Now)
	tw, err := twins.Start(twins.Options{Now: clock.now, Seed: o.Seed, Roomy: true})
	if err != nil {
		return leg, err
	}
	defer func() { err = errors.Join(err, tw.Close(context.WithoutCancel(ctx))) }()
	fmt.Fprintln(o.Progress, "filling the twins")
	truth, refused, err := fill(tw, set, o)
	if err != nil {
		return leg, err
	}
	leg.Refused = refused
	clock.end()
	w, err := boot.Embedded(filepath.Join(dir, "data"), set, tw.Endpoints(), quiet)
	if err != nil {
		return leg, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	begin := time.Now()
	found, err := w.Link(nil, nil).Run(ctx, link.Options{Entities: []string{"customer"}})
	if err != nil {
		return leg, err
	}
	leg.Seconds = time.Since(begin).Seconds()
	return leg, leg.take(found.Entities[0], truth)
}

// fill makes the customers on the twins, and tells who is who by the ids that the twins gave.
func fill(tw *twins.Twins, set *policy.Set, o LinkOptions) (matchtest.Truth, int, error) {
	edit := map[string]func(object, id string, fields map[string]any) (string, error){record.NetSuite: tw.NetSuite.Edit, record.Salesforce: tw.Salesforce.Edit,
		record.Zendesk: tw.Zendesk.Edit, record.ServiceNow: tw.ServiceNow.Edit}
	items, generated := matchtest.Generate(o.Seed, o.Customers)
	truth, refused := make(matchtest.Truth, len(generated)), 0
	for item, err := range items {
		if err != nil {
			return nil, 0, err
		}
		m, body, err := said(set, item, true)
		if err != nil {
			return nil, 0, err
		}
		id, err := edit[m.Platform](m.Object, "", body)
		switch {
		case err == nil:
			truth[record.Ref{Platform: m.Platform, Object: m.Object, ID: id}] = generated[item.Ref]
		case m.Platform == record.Zendesk:
			refused++
		default:
			return nil, 0, fmt.Errorf("bench link: %s: %w", item.Ref, err)
		}
	}
	return truth, refused, nil
}

// spread is a clock that runs through the last hours by the call and then tells the time: what the twins are filled with in
// seconds is as old as if people had typed it.
type spread struct {
	mu   sync.Mutex
	real func() time.Time
	at   time.Time
	over bool
}

func newSpread(real func() time.Time) *spread {
	return &spread{real: real, at: real().Add(-12 * time.Hour)}
}

func (s *spread) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return s.real()
	}
	s.at = s.at.Add(10 * time.Millisecond)
	return s.at
}

func (s *spread) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// linkApply commits everything, and once more.
func linkApply(ctx context.Context, dir string, set *policy.Set, sources map[string]link.Source) (*LinkDone, error) {
	scratch, err := os.Create(filepath.Join(dir, "scratch"))
	if err != nil {
		return nil, err
	}
	defer scratch.Close()
	l := ledger.New(store.NewMemory(time.Now), time.Now)
	flow := link.New(link.Deps{Ledger: l, Config: set, Sources: sources, Scratch: scratch, Now: time.Now, NewID: boot.NewID(time.Now),
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	once := func() (link.Entity, error) {
		r, err := flow.Run(ctx, link.Options{Entities: []string{"customer"}, Apply: true})
		if err != nil {
			return link.Entity{}, err
		}
		return r.Entities[0], nil
	}
	first, err := once()
	if err != nil {
		return nil, err
	}
	done := &LinkDone{Done: first.Done, Seconds: first.Seconds}
	second, err := once()
	if err != nil {
		return nil, err
	}
	done.Again = second.Seconds
	if second.Done.Records != 0 || second.Linked.Natives != first.Done.Natives || second.Ambiguous != first.Ambiguous {
		return done, fmt.Errorf("bench link: applied twice: %+v after %+v", second.Done, first.Done)
	}
	open, err := l.Exceptions(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, x := range open {
		if x.Type == "possible-duplicate" && x.Record != "" {
			done.Suspects++
		}
	}
	verified, err := l.Verify(ctx, nil)
	done.Breaks = len(verified.Broken)
	return done, err
}

func (r LinkReport) broken() error {
	var errs []error
	for _, l := range r.Legs {
		if l.Rules == reference && (l.Precision < leastPrecision || l.Recall < leastRecall) {
			errs = append(errs, fmt.Errorf("bench link: %s rules: precision %.5f and recall %.4f, want %.3f and %.2f", l.Rules, l.Precision, l.Recall, leastPrecision, leastRecall))
		}
		if l.PeakMB > mostHeapMB && r.Customers <= 20_000 {
			errs = append(errs, fmt.Errorf("bench link: %s rules: peak heap %.0f MB, want at most %d", l.Rules, l.PeakMB, mostHeapMB))
		}
		if l.Applied != nil && l.Applied.Breaks > 0 {
			errs = append(errs, fmt.Errorf("bench link: %d breaks in the audit log", l.Applied.Breaks))
		}
		if l.Writes > 0 {
			errs = append(errs, fmt.Errorf("bench link: a report wrote %d times", l.Writes))
		}
	}
	return errors.Join(errs...)
}

// Print writes the report for people, at most 80 columns wide.
func (r LinkReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench link\n\n%s\n%s, %s, %d CPUs; seed %d\n", r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs, r.Seed)
	p("%s customers on each of four platforms, through mapping and matching\n\n", thousands(float64(r.Customers)))
	p("%-10s %9s %8s %8s %9s %8s %8s\n", "rules", "precision", "recall", "F1", "surfaced", "seconds", "heap MB")
	for _, l := range r.Legs {
		p("%-10s %9.5f %8.4f %8.4f %9.4f %8.1f %8s\n", l.Rules, l.Precision, l.Recall, l.F1, l.Surfaced, l.Seconds, dash(l.PeakMB > 0, thousands(l.PeakMB)))
	}
	p("\nrecords (native records):\n%-10s %16s %16s %16s %16s\n", "", "matched", "created", "ambiguous", "unmatched")
	both := func(c link.Count) string {
		return thousands(float64(c.Records)) + " (" + thousands(float64(c.Natives)) + ")"
	}
	for _, l := range r.Legs {
		p("%-10s %16s %16s %16s %16s\n", l.Rules, both(l.Matched), both(l.Created), both(l.Ambiguous), both(l.Unmatched))
	}
	for _, l := range r.Legs {
		if l.Rules == overHTTP {
			p("\ntwins: the policy's rules, listing over HTTP; %s organizations were refused for\ntheir name\n", thousands(float64(l.Refused)))
			continue
		}
		p("\n%-24s %9s %9s %8s\n", l.Rules+" rule", "keyed", "precision", "recall")
		for i, rule := range l.Score.Rules {
			p("%-24s %9s %9.5f %8.4f\n", rule.Rule, thousands(float64(l.Keyed[i])), rule.Precision, rule.Recall)
		}
	}
	for _, l := range r.Legs {
		if d := l.Applied; d != nil {
			p("\napplied (%s): %s records of %s native records in %.1f s, %s a second;\nagain in %.1f s, nothing new. Left to people: %s before, %s among the records.\n", l.Rules, thousands(float64(d.Records)),
				thousands(float64(d.Natives)), d.Seconds, thousands(float64(d.Records)/d.Seconds), d.Again, thousands(float64(d.Parked)), thousands(float64(d.Suspects)))
		}
	}
	p("\nprecision: of linked pairs, those that are one customer. recall: of pairs that\nare one customer, those linked. surfaced: linked, or shown as ambiguous.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// watched is a store that counts what is written.
type watched struct {
	store.Store
	writes int
}

// Commit counts; a report comes here from one goroutine, if ever.
func (c *watched) Commit(ctx context.Context, ops ...store.Op) error {
	c.writes++
	return c.Store.Commit(ctx, ops...)
}

// peakHeap samples what the heap occupies while f runs, above what it did before.
func peakHeap(f func()) uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, peak := m.HeapInuse, m.HeapInuse
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return peak - min(before, peak)
}

// dump is a platform's native records in a file, as they came over the wire, one a line.
type dump struct {
	file   string
	object string
}

const dumpPage = 200

// Changes gives the next page. The cursor is the place in the file.
func (d dump) Changes(_ context.Context, object, cursor string) (platform.Page, error) {
	var page platform.Page
	if object != d.object {
		return page, fmt.Errorf("bench: %s has %s, not %s", d.file, d.object, object)
	}
	at := int64(0)
	if cursor != "" {
		var err error
		if at, err = strconv.ParseInt(cursor, 10, 64); err != nil {
			return page, fmt.Errorf("bench: cursor: %w", err)
		}
	}
	f, err := os.Open(d.file)
	if err != nil {
		return page, err
	}
	defer f.Close()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return page, err
	}
	in := bufio.NewReader(f)
	for range dumpPage {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return page, nil
		}
		if err != nil {
			return page, err
		}
		var n record.Native
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.UseNumber()
		if err := dec.Decode(&n); err != nil {
			return page, err
		}
		page.Natives = append(page.Natives, n)
		at += int64(len(line))
	}
	page.Cursor, page.More = strconv.FormatInt(at, 10), true
	return page, nil
}

// dumped writes items to files, each as its platform would say it.
func dumped(dir string, set *policy.Set, items iter.Seq2[match.Item, error]) (map[string]link.Source, error) {
	out := map[string]link.Source{}
	files := map[string]*bufio.Writer{}
	var open []io.Closer
	defer func() {
		for _, f := range open {
			_ = f.Close() // flushed below
		}
	}()
	at := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		m, body, err := said(set, item, false)
		if err != nil {
			return nil, err
		}
		p := m.Platform
		if files[p] == nil {
			f, err := os.Create(filepath.Join(dir, p+".jsonl"))
			if err != nil {
				return nil, err
			}
			open = append(open, f)
			files[p], out[p] = bufio.NewWriter(f), dump{f.Name(), m.Object}
		}
		at = at.Add(time.Second)
		n := record.Native{Ref: record.Ref{Platform: p, Object: m.Object, ID: item.Ref.ID}, Version: record.Version{At: at, Final: true}, Born: at, Fields: body}
		b, err := json.Marshal(n)
		if err != nil {
			return nil, err
		}
		if _, err := files[p].Write(append(b, '\n')); err != nil {
			return nil, err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := files[p].Flush(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// said is a customer as its platform would say it. A field that the platform has no place for is lost, as it is in life.
func said(set *policy.Set, item match.Item, create bool) (*mapping.Mapping, map[string]any, error) {
	m, mapped := set.ByEntity("customer", item.Ref.Platform)
	if !mapped {
		return nil, nil, fmt.Errorf("bench link: no mapping of customers on %s", item.Ref.Platform)
	}
	fields := maps.Clone(item.Fields)
	maps.DeleteFunc(fields, func(f string, _ record.Value) bool { _, _, writes := m.Native(f); return !writes })
	body, _, err := m.Write(fields, create, nil)
	return m, body, err
}
