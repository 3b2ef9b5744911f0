package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/boltstore"
	"sorrel/shared/telemetry"
)

// CompareOptions of measuring full comparisons. Zero values have the defaults that are named.
type CompareOptions struct {
	Records  []int     // 100,000 and 1,000,000
	Dir      string    // where the stores go; "" = a temporary folder
	Progress io.Writer // nil = nobody
}

// CompareLeg is one full comparison, in a process of its own.
type CompareLeg struct {
	Records int     `json:"records"`
	FillSec float64 `json:"fillSeconds"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpuSeconds"`
	PerCore float64 `json:"recordsPerCoreSecond"`
	OwnMB   float64 `json:"peakOwnMB"` // memory of its own at most, sampled; the store's pages, which the kernel may drop, are not in it
	PeakMB  float64 `json:"peakRSSMB"` // with them
	StoreMB float64 `json:"storeMB"`
	Equal   int     `json:"equal"`
	Found   int     `json:"found"`
	Root    bool    `json:"rootsAgree"`
}

// CompareReport is what it found.
type CompareReport struct {
	Machine Machine      `json:"machine"`
	Legs    []CompareLeg `json:"legs"`
	Checks  []Check      `json:"checks"`
}

// mostGrowth is how many times as much memory of its own ten times as many records may take.
const mostGrowth = 1.5

// Compare measures full comparisons. The store on disk holds the roll of a platform; the platform is played in the same process,
// and its pages are decoded from JSON as a connector does. The records themselves are not in the store.
func Compare(ctx context.Context, o CompareOptions) (r CompareReport, err error) {
	if len(o.Records) == 0 {
		o.Records = []int{100_000, 1_000_000}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	r.Machine = machine()
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return r, err
	}
	defer done()
	for _, n := range o.Records {
		leg, err := compareLeg(ctx, filepath.Join(dir, strconv.Itoa(n)+".db"), n)
		if err != nil {
			return r, err
		}
		fmt.Fprintf(o.Progress, "  %d records: %.1f s, %.1f s of CPU, %.0f MB of its own\n", n, leg.Seconds, leg.CPU, leg.OwnMB)
		r.Legs = append(r.Legs, leg)
		r.Checks = append(r.Checks, Check{fmt.Sprintf("equal of %d", n), leg.Equal, n}, Check{fmt.Sprintf("differing of %d", n), leg.Found, 0})
		if !leg.Root {
			r.Checks = append(r.Checks, Check{fmt.Sprintf("roots that agree, of %d", n), 0, 1})
		}
	}
	first, last := r.Legs[0], r.Legs[len(r.Legs)-1]
	if last.OwnMB > 0 && len(r.Legs) > 1 {
		r.Checks = append(r.Checks, Check{fmt.Sprintf("MB of its own beyond %g times those of the smallest", mostGrowth), max(0, int(last.OwnMB-mostGrowth*first.OwnMB)), 0})
	}
	return r, r.broken()
}

func compareLeg(ctx context.Context, file string, n int) (leg CompareLeg, err error) {
	leg.Records = n
	began := time.Now()
	if err := fillRoll(ctx, file, n); err != nil {
		return leg, err
	}
	leg.FillSec = time.Since(began).Seconds()
	if info, err := os.Stat(file); err == nil {
		leg.StoreMB = float64(info.Size()) / (1 << 20)
	}
	p, err := peer.Start(ctx, ChildArgs(), childConfig{Peer: comparing, Dir: file, CPU: -1, Workers: n})
	if err != nil {
		return leg, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	used := p.Usage()
	var watching sync.WaitGroup
	ended := make(chan struct{})
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				leg.OwnMB = max(leg.OwnMB, float64(p.Usage().Own)/(1<<20))
			}
		}
	})
	var got compared
	began = time.Now()
	got, err = fetchCompared(ctx, p.URL)
	leg.Seconds = time.Since(began).Seconds()
	close(ended)
	watching.Wait()
	if err != nil {
		return leg, err
	}
	now := p.Usage()
	leg.CPU, leg.PeakMB = (now.CPU - used.CPU).Seconds(), float64(now.Peak)/(1<<20)
	leg.PerCore = float64(n) / max(leg.CPU, 0.001)
	leg.Equal, leg.Found, leg.Root = got.Equal, got.Found, got.Root
	return leg, nil
}

// compared is what the measured process answers.
type compared struct {
	Equal int  `json:"equal"`
	Found int  `json:"found"`
	Root  bool `json:"root"`
}

func fetchCompared(ctx context.Context, url string) (out compared, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return out, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return out, fmt.Errorf("bench reconcile: %s", text)
	}
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// comparing names the measured process.
const comparing = "comparing"

// born is when the first customer was modified; each following one a minute later.
func born() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

func versionOf(n int) record.Version {
	return record.Version{At: born().Add(time.Duration(n) * time.Minute), Final: true}
}

// fillRoll writes lines of the roll, many in one commit.
func fillRoll(ctx context.Context, file string, n int) (err error) {
	s, err := boltstore.Open(file, time.Now, boltstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	many := &bundled{Store: s}
	l := ledger.New(many, time.Now)
	for i := range n {
		ref := record.Ref{Platform: record.NetSuite, Object: "customer", ID: strconv.Itoa(i + 1)}
		if err := l.Enrol(ctx, ref, record.ID("customer/"+ref.ID), versionOf(i)); err != nil {
			return err
		}
	}
	return many.flush(ctx)
}

// bundled commits as much at once as a store takes.
type bundled struct {
	store.Store
	ops []store.Op
}

// Commit keeps operations until there are enough.
func (b *bundled) Commit(ctx context.Context, ops ...store.Op) error {
	if b.ops = append(b.ops, ops...); len(b.ops) < store.MaxOps {
		return nil
	}
	return b.flush(ctx)
}

func (b *bundled) flush(ctx context.Context) error {
	if len(b.ops) == 0 {
		return nil
	}
	err := b.Store.Commit(ctx, b.ops...)
	b.ops = nil
	return err
}

// startComparing serves one full comparison.
func startComparing(c childConfig) (string, func() error, error) {
	set, err := boot.LoadConfig(boot.Everywhere)
	if err != nil {
		return "", nil, err
	}
	s, err := boltstore.Open(c.Dir, time.Now, boltstore.Options{})
	if err != nil {
		return "", nil, err
	}
	source, err := newPlayed(set, c.Workers)
	if err != nil {
		return "", nil, errors.Join(err, s.Close())
	}
	tel := telemetry.New(nil, time.Now, nil)
	flow := reconcile.New(reconcile.Deps{Ledger: ledger.New(s, time.Now), Config: set, Sources: map[string]reconcile.Source{record.NetSuite: source},
		Objects: map[string][]platform.Object{record.NetSuite: {{Name: "customer", Census: platform.Grouped, Numeric: true}}}, Inbound: refusing{}, Now: time.Now, NewID: boot.NewID(time.Now), Telemetry: tel})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, s.Close())
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := fullRun(r.Context(), flow)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(out) // the caller is gone
	})}
	go func() { _ = server.Serve(l) }() // ends with stop
	return "http://" + l.Addr().String(), func() error { return errors.Join(server.Close(), s.Close()) }, nil
}

func fullRun(ctx context.Context, flow *reconcile.Flow) (compared, error) {
	r, err := flow.Schedule(ctx, reconcile.Wish{Full: true, DryRun: true})
	for err == nil && r.State == reconcile.Running {
		if _, err = flow.Advance(ctx); err == nil {
			r, err = flow.Show(ctx, r.ID)
		}
	}
	if err != nil {
		return compared{}, err
	}
	if r.State != reconcile.Done || len(r.Sets) != 1 {
		return compared{}, fmt.Errorf("the run ended as %s: %s", r.State, r.Reason)
	}
	set := r.Sets[0]
	return compared{Equal: set.Equal, Found: set.Found(), Root: set.Roots.Hub == set.Roots.Platform && set.Roots.Hub.Hash != ""}, nil
}

// refusing is where nothing may be sent.
type refusing struct{}

// Send refuses.
func (refusing) Send(context.Context, ...queue.Message) error {
	return fault.New(fault.Internal, "bench", "nothing differs, and something is sent")
}

// played is a platform that makes its records up, page by page, in JSON.
type played struct {
	records int
	body    []byte // of one customer, with ID for its id
}

const playedPage = 1000

func newPlayed(set *policy.Set, records int) (*played, error) {
	item := alike(record.NetSuite, 0)
	item.Fields["number"] = record.TextValue("CID")
	_, body, err := said(set, match.Item{Ref: item.Ref, Fields: item.Fields}, true)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(body)
	return &played{records, text}, err
}

// Within lists everything in order of id.
func (p *played) Within(_ context.Context, object string, _ []platform.Span, cursor string) (platform.Page, error) {
	at, err := strconv.Atoi(cmp.Or(cursor, "0"))
	if err != nil {
		return platform.Page{}, err
	}
	var page platform.Page
	var text bytes.Buffer
	end := min(at+playedPage, p.records)
	for n := at; n < end; n++ {
		text.Write(bytes.ReplaceAll(p.body, []byte("CID"), []byte("C"+strconv.Itoa(n))))
		text.WriteByte('\n')
	}
	dec := json.NewDecoder(&text)
	dec.UseNumber()
	for n := at; n < end; n++ {
		native := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: object, ID: strconv.Itoa(n + 1)}, Version: versionOf(n), Born: versionOf(n).At}
		if err := dec.Decode(&native.Fields); err != nil {
			return page, err
		}
		page.Natives = append(page.Natives, native)
	}
	page.Cursor, page.More = strconv.Itoa(end), end < p.records
	return page, nil
}

func unasked(what string) error {
	return fault.New(fault.Internal, "bench", "a full comparison of what is equal asks for "+what)
}

// Census is not needed.
func (p *played) Census(context.Context, string, []platform.Span, time.Duration) ([]platform.Count, error) {
	return nil, unasked("counts")
}

// Deleted is not needed.
func (p *played) Deleted(context.Context, string, time.Time, string) (platform.Page, error) {
	return platform.Page{}, unasked("deletions")
}

// Among is not needed.
func (p *played) Among(context.Context, string, []string) ([]record.Native, error) {
	return nil, unasked("single records")
}

func (r CompareReport) broken() error {
	var errs []error
	for _, c := range r.Checks {
		if !c.Held() {
			errs = append(errs, fmt.Errorf("bench compare: %s: %d, want %d", c.Name, c.Got, c.Want))
		}
	}
	return errors.Join(errs...)
}

// Print writes the report for people, at most 80 columns wide.
func (r CompareReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench compare\n\n%s\n%s, %s, %d CPUs\n\n", r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs)
	p("%10s %8s %8s %14s %9s %9s %9s\n", "records", "seconds", "CPU s", "a core-second", "own MB", "RSS MB", "store MB")
	for _, l := range r.Legs {
		p("%10s %8.1f %8.1f %14s %9.1f %9.1f %9.1f\n", thousands(float64(l.Records)), l.Seconds, l.CPU, thousands(l.PerCore), l.OwnMB, l.PeakMB, l.StoreMB)
	}
	p("\nown: memory that is not the store's file, at most. RSS has the file's pages that\nare mapped, too, which the kernel takes back when it needs them. The platform is\nplayed in the same process; records themselves are not in the store.\n\n")
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}
