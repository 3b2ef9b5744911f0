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
	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/store"
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

const reference = "reference"

// LinkLeg is one run over all customers with one set of match rules.
type LinkLeg struct {
	Rules string `json:"rules"` // policy, or reference: those that matchtest holds to be what one would write
	matchtest.Score
	Matched   link.Count `json:"matchedRecords"`
	Created   link.Count `json:"createdRecords"`
	Ambiguous link.Count `json:"ambiguousRecords"`
	Unmatched link.Count `json:"unmatchedRecords"`
	Keyed     []int      `json:"keyed"` // native records with a key, by rule
	Seconds   float64    `json:"seconds"`
	PeakMB    float64    `json:"peakHeapMB"`
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

// Link measures `sorrel link` over generated customers of four platforms whose truth is known. The way is the real one
// from a page of a platform's listing on: JSON decoding, mapping, look-up of links, matching, report. The vendors' HTTP is left out:
// how long it takes is theirs to say, and Zendesk's twin, like Zendesk, refuses the organizations of one name that the
// generator makes.
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
	if o.Apply && r.Legs[0].Rules != reference {
		if r.Legs[0].Applied, err = linkApply(ctx, dir, set, sources); err != nil {
			return r, err
		}
	}
	return r, r.broken()
}

func linkLeg(ctx context.Context, o LinkOptions, set *policy.Set, name string, rules match.Rules, sources map[string]link.Source, truth matchtest.Truth) (LinkLeg, error) {
	leg := LinkLeg{Rules: name}
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
	e := found.Entities[0]
	leg.Score = matchtest.Evaluate(e.Clusters, truth)
	leg.Matched, leg.Created, leg.Ambiguous, leg.Unmatched = e.Matched, e.Created, e.Ambiguous, e.Unmatched
	for _, rule := range e.Rules {
		leg.Keyed = append(leg.Keyed, rule.Keyed)
	}
	if listed := e.Matched.Natives + e.Created.Natives + e.Ambiguous.Natives + e.Unmatched.Natives; listed != len(truth) {
		return leg, fmt.Errorf("bench link: %d native records are in the report, want %d", listed, len(truth))
	}
	fmt.Fprintf(o.Progress, "  %-9s %s natives in %.1f s\n", name, thousands(float64(len(truth))), leg.Seconds)
	return leg, nil
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
		p("%-10s %9.5f %8.4f %8.4f %9.4f %8.1f %8.0f\n", l.Rules, l.Precision, l.Recall, l.F1, l.Surfaced, l.Seconds, l.PeakMB)
	}
	p("\nrecords (native records):\n%-10s %16s %16s %16s %16s\n", "", "matched", "created", "ambiguous", "unmatched")
	both := func(c link.Count) string {
		return thousands(float64(c.Records)) + " (" + thousands(float64(c.Natives)) + ")"
	}
	for _, l := range r.Legs {
		p("%-10s %16s %16s %16s %16s\n", l.Rules, both(l.Matched), both(l.Created), both(l.Ambiguous), both(l.Unmatched))
	}
	for _, l := range r.Legs {
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

// dumped writes items to files, each as its platform would say it. A field that the platform has no place for is lost,
// as it is in life.
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
		p := item.Ref.Platform
		m, mapped := set.ByEntity("customer", p)
		if !mapped {
			return nil, fmt.Errorf("bench: no mapping of customers on %s", p)
		}
		if files[p] == nil {
			f, err := os.Create(filepath.Join(dir, p+".jsonl"))
			if err != nil {
				return nil, err
			}
			open = append(open, f)
			files[p], out[p] = bufio.NewWriter(f), dump{f.Name(), m.Object}
		}
		fields := maps.Clone(item.Fields)
		maps.DeleteFunc(fields, func(f string, _ record.Value) bool { _, _, writes := m.Native(f); return !writes })
		body, _, err := m.Write(fields, false, nil)
		if err != nil {
			return nil, err
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
