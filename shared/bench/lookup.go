package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/flow/lookup"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// LookupOptions say what is asked.
type LookupOptions struct {
	Customers   int
	Pairs       int
	Duration    time.Duration // of one leg
	Connections int           // that ask at once; latency is that of one alone
	Questions   int           // at each condition of the ERP
	Own         time.Duration // that an answer may take beside what it waits for the owner
	Seed        uint64
	Progress    io.Writer // nil = nobody
}

// LookupReport is what answers cost and how long they take. Times are milliseconds.
type LookupReport struct {
	Machine    Machine      `json:"machine"`
	Customers  int          `json:"customers"`
	Seconds    float64      `json:"secondsPerLeg"`
	Kinds      []Kind       `json:"kinds"`
	Medians    []LookupLeg  `json:"medians"`
	Ratios     []Ratio      `json:"ratios"`
	BudgetMS   float64      `json:"budgetMs"`
	OwnMS      float64      `json:"ownMs"`
	Conditions []LookupLive `json:"conditions"`
	Legs       []LookupLeg  `json:"legs"`
}

// LookupLeg is one measured load of questions that what is known answers.
type LookupLeg struct {
	Kind        string  `json:"kind"`
	Pair        int     `json:"pair"`
	Connections int     `json:"connections"`
	Answers     int     `json:"answers"`
	PerSecond   float64 `json:"perSecond"`
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
	Wrong       int     `json:"wrong"` // answers that are not 200
	Live        int     `json:"live"`  // for which an owner was read: none should be
}

// LookupLive is how questions are answered whose owner has to be asked, while the ERP is as it is.
type LookupLive struct {
	ERP         string  `json:"erp"`
	Connections int     `json:"connections"`
	Questions   int     `json:"questions"`
	Inside      int     `json:"inside"` // the budget and the time of its own
	Live        int     `json:"live"`   // the owner answered
	Fresh       int     `json:"fresh"`
	Stale       int     `json:"stale"` // answered with what is known, and with its age
	Wrong       int     `json:"wrong"` // neither
	Calls       int     `json:"providerCalls"`
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
}

const (
	bareAnswer = "B" // the floor
	oneRecord  = "R"
	oneRight   = "E"
)

// oneAtATime is how many questions are asked at most where each waits for the one before.
const oneAtATime = 40

// lookupKey is the key of the consumer that asks.
const lookupKey = "bench-lookup-key-0123456789"

// lookupRun is one run.
type lookupRun struct {
	o         LookupOptions
	world     *boot.World
	twins     *twins.Twins
	customers []record.ID
	url       string // of Sorrel's lookups
	bare      string // of the floor
	report    LookupReport
}

// Lookup measures the HTTP interface of lookups over the embedded store: first answers from what is known, against a bare
// handler that writes as many bytes, in interleaved legs; then answers whose owner must be asked, with an ERP that takes half
// a second for each call, and with one that is down. It fails where an answer of the latter takes longer than its
// budget and Own.
func Lookup(ctx context.Context, o LookupOptions) (LookupReport, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	m := machine()
	m.GOMAXPROCS = runtime.GOMAXPROCS(0)
	x := &lookupRun{o: o, report: LookupReport{Machine: m, Customers: o.Customers, Seconds: o.Duration.Seconds(), OwnMS: ms(o.Own), Kinds: []Kind{
		{bareAnswer, "a bare handler of net/http that writes as many bytes as R"},
		{oneRecord, "GET /v1/records/customer/{id}, with key, quota, masking and entity tag"},
		{oneRight, "GET /v1/entitlements?customer=, over the customer and its contract"}}}}
	dir, done, err := workDir("")
	if err != nil {
		return x.report, err
	}
	defer done()
	if x.twins, err = twins.Start(twins.Options{Now: time.Now, Seed: o.Seed}); err != nil {
		return x.report, err
	}
	defer func() { _ = x.twins.Close(context.WithoutCancel(ctx)) }()
	if err := x.open(dir); err != nil {
		return x.report, err
	}
	defer func() { _ = x.world.Close() }() // its data is thrown away
	if err := x.fill(ctx); err != nil {
		return x.report, err
	}
	stop, err := x.serve(ctx)
	if err != nil {
		return x.report, err
	}
	defer stop()
	if err := x.known(ctx); err != nil {
		return x.report, err
	}
	return x.report, x.asked(ctx)
}

// open opens a world in which only the ERP is connected, and one program may ask everything.
func (x *lookupRun) open(dir string) error {
	set, err := boot.LoadConfig(boot.Everywhere)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(lookupKey))
	l := set.Lookups()
	c := policy.Consumer{Name: "bench", Uses: policy.LookupUses(), Fields: map[string][]string{}, Quota: 1 << 30, Keys: []string{hex.EncodeToString(sum[:])}}
	for _, e := range set.Entities() {
		c.Fields[e] = set.Contract(e).Names()
	}
	l.Consumers = []policy.Consumer{c}
	x.report.BudgetMS = ms(l.Budget)
	x.world, err = boot.Embedded(dir, set.WithLookups(l), map[string]boot.Endpoint{record.NetSuite: x.twins.Endpoints()[record.NetSuite]}, func(now func() time.Time) *telemetry.Recorder {
		return telemetry.New(nil, now, nil)
	})
	return err
}

// fill makes customers with a contract each in the ERP, and has the hub hear of them.
func (x *lookupRun) fill(ctx context.Context) error {
	at := time.Now().Add(-time.Hour)
	for n := range x.o.Customers {
		id, err := x.twins.NetSuite.Load("customer", "", map[string]any{"entityId": fmt.Sprintf("C%06d", n), "companyName": fmt.Sprintf("Customer %06d", n), "phone": fmt.Sprintf("+43 1 %07d", n)}, at)
		if err == nil {
			_, err = x.twins.NetSuite.Load("customrecord_sorrel_contract", "", map[string]any{"name": fmt.Sprintf("CON-%06d", n), "custrecord_sorrel_contract_customer": map[string]any{"id": id},
				"custrecord_sorrel_contract_status": map[string]any{"refName": "Active"}, "custrecord_sorrel_contract_tier": map[string]any{"refName": "Premium"}, "custrecord_sorrel_contract_ends": "2099-12-31"}, at)
		}
		if err != nil {
			return fmt.Errorf("bench lookup: filling the ERP: %w", err)
		}
	}
	hub := x.world.Hub()
	for _, object := range []string{"customer", "customrecord_sorrel_contract"} {
		for cursor, more := "", true; more; {
			page, err := x.world.Connectors[record.NetSuite].Changes(ctx, object, cursor)
			if err != nil {
				return fmt.Errorf("bench lookup: listing: %w", err)
			}
			for chunk := range slices.Chunk(page.Natives, queue.MaxBatch) {
				var batch []queue.Received
				for _, n := range chunk {
					m, err := message.Inbound{CorrelationID: "fill", ReceivedAt: time.Now().UTC(), Source: message.Batch, Native: n}.Message(n.Ref.String())
					if err != nil {
						return err
					}
					batch = append(batch, queue.Received{Message: m, ID: n.Ref.String(), Receives: 1})
				}
				if failed := hub.Apply(ctx, batch); len(failed) > 0 {
					return fmt.Errorf("bench lookup: the hub does not take %q", failed)
				}
				for _, n := range chunk {
					if id, known, err := x.world.Ledger.Lookup(ctx, n.Ref); err != nil {
						return err
					} else if known && object == "customer" {
						x.customers = append(x.customers, id)
					}
				}
			}
			cursor, more = page.Cursor, page.More
		}
	}
	if len(x.customers) != x.o.Customers {
		return fmt.Errorf("bench lookup: %d customers are known, want %d", len(x.customers), x.o.Customers)
	}
	fmt.Fprintf(x.o.Progress, "  %d customers with a contract each are known\n", len(x.customers))
	return nil
}

// serve starts Sorrel's interface and the floor, on ports of their own.
func (x *lookupRun) serve(ctx context.Context) (func(), error) {
	w := x.world
	asks := trigger.Lookups{Config: w.Config, Ask: w.Lookup(), Quotas: &lookup.Quotas{Taker: w.Ledger}, Now: w.Now, NewID: boot.NewID(w.Now), Telemetry: w.Telemetry}.Routes()
	var servers []*http.Server
	start := func(h http.Handler) (string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("bench lookup: %w", err)
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, s)
		go func() { _ = s.Serve(l) }() // ends with Close
		return "http://" + l.Addr().String(), nil
	}
	stop := func() {
		for _, s := range servers {
			_ = s.Close()
		}
	}
	var err error
	if x.url, err = start(asks); err != nil {
		return stop, err
	}
	body, err := x.once(ctx, x.address(oneRecord, x.customers[0], "31536000"))
	if err != nil {
		return stop, err
	}
	bare := http.NewServeMux()
	bare.HandleFunc("GET /v1/records/{entity}/{id}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // the caller hung up
	})
	x.bare, err = start(bare)
	return stop, err
}

// address is where one question of a kind is asked.
func (x *lookupRun) address(kind string, about record.ID, maxAge string) string {
	switch kind {
	case bareAnswer:
		return x.bare + "/v1/records/" + string(about)
	case oneRecord:
		return x.url + "/v1/records/" + string(about) + "?maxAge=" + maxAge
	}
	return x.url + "/v1/entitlements?maxAge=" + maxAge + "&customer=" + url.QueryEscape(string(about))
}

func (x *lookupRun) once(ctx context.Context, address string) ([]byte, error) {
	a := x.ask(ctx, http.DefaultClient, address)
	if a.status != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("bench lookup: %s answers %d: %.300s", address, a.status, a.body), a.err)
	}
	return a.body, nil
}

// answered is one answer.
type answered struct {
	status       int
	source, says string // live or cached, fresh or stale
	body         []byte
	took         time.Duration
	err          error
}

func (x *lookupRun) ask(ctx context.Context, client *http.Client, address string) (a answered) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answered{err: err}
	}
	r.Header.Set(trigger.APIKeyHeader, lookupKey)
	began := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return answered{err: err, took: time.Since(began)}
	}
	defer resp.Body.Close()
	a.body, a.err = io.ReadAll(resp.Body)
	a.took, a.status = time.Since(began), resp.StatusCode
	a.source, a.says = resp.Header.Get(trigger.SourceHeader), resp.Header.Get(trigger.FreshnessHeader)
	return a
}

// load asks from several connections at once until enough was asked or time is over, and hands each answer to take, one by one.
func (x *lookupRun) load(ctx context.Context, connections int, until func(asked int) bool, address func(*rand.Rand) string, take func(answered)) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	asked := 0
	var all sync.WaitGroup
	for n := range connections {
		rng := rand.New(rand.NewPCG(x.o.Seed, uint64(n)))
		all.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				over := until(asked)
				asked++
				mu.Unlock()
				if over {
					return
				}
				a := x.ask(ctx, client, address(rng))
				mu.Lock()
				take(a)
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// known measures answers from what is known, against the floor.
func (x *lookupRun) known(ctx context.Context) error {
	for pair := range x.o.Pairs {
		for _, connections := range []int{1, x.o.Connections} {
			for _, kind := range []string{bareAnswer, oneRecord, oneRight} {
				leg := LookupLeg{Kind: kind, Pair: pair, Connections: connections}
				var took []time.Duration
				runtime.GC() // each leg begins alike
				began := time.Now()
				x.load(ctx, connections, func(asked int) bool { return asked >= connections && time.Since(began) >= x.o.Duration }, func(rng *rand.Rand) string {
					return x.address(kind, x.customers[rng.IntN(len(x.customers))], "31536000")
				}, func(a answered) {
					took = append(took, a.took)
					if a.status != http.StatusOK || a.err != nil {
						leg.Wrong++
					}
					if a.source == lookup.Live {
						leg.Live++
					}
				})
				leg.Answers, leg.PerSecond = len(took), float64(len(took))/time.Since(began).Seconds()
				leg.P50, leg.P99, leg.Max = ms(quantile(took, 0.5)), ms(quantile(took, 0.99)), ms(quantile(took, 1))
				fmt.Fprintf(x.o.Progress, "  pair %d  %s  %2d connections %9s answers/s\n", pair+1, kind, connections, thousands(leg.PerSecond))
				x.report.Legs = append(x.report.Legs, leg)
				if leg.Wrong+leg.Live > 0 || leg.Answers == 0 {
					return fmt.Errorf("bench lookup: of %d answers of %s, %d were no answers and %d were read live", leg.Answers, kind, leg.Wrong, leg.Live)
				}
			}
		}
	}
	x.report.summarise()
	return ctx.Err()
}

func (r *LookupReport) summarise() {
	of := func(kind string, connections int) (out []LookupLeg) {
		for _, l := range r.Legs {
			if l.Kind == kind && l.Connections == connections {
				out = append(out, l)
			}
		}
		return out
	}
	var counts []int
	for _, l := range r.Legs {
		if !slices.Contains(counts, l.Connections) {
			counts = append(counts, l.Connections)
		}
	}
	pick := func(legs []LookupLeg, figure func(LookupLeg) float64) (out []float64) {
		for _, l := range legs {
			out = append(out, figure(l))
		}
		return out
	}
	figures := []struct {
		name string
		of   func(LookupLeg) float64
	}{{"answers/s", func(l LookupLeg) float64 { return l.PerSecond }}, {"p50", func(l LookupLeg) float64 { return l.P50 }}, {"p99", func(l LookupLeg) float64 { return l.P99 }}}
	for _, connections := range counts {
		floor := of(bareAnswer, connections)
		for _, k := range r.Kinds {
			legs := of(k.Name, connections)
			m := LookupLeg{Kind: k.Name, Connections: connections, PerSecond: median(pick(legs, figures[0].of)), P50: median(pick(legs, figures[1].of)), P99: median(pick(legs, figures[2].of))}
			for _, l := range legs {
				m.Answers += l.Answers
				m.Max = max(m.Max, l.Max)
			}
			r.Medians = append(r.Medians, m)
			if k.Name == bareAnswer {
				continue
			}
			for _, f := range figures {
				ratio := Ratio{Name: fmt.Sprintf("%s %s/%s, %d", f.name, k.Name, bareAnswer, connections)}
				for i := range legs {
					if unto := f.of(floor[i]); unto > 0 {
						ratio.Pairs = append(ratio.Pairs, f.of(legs[i])/unto)
					}
				}
				if len(ratio.Pairs) > 0 {
					ratio.Median, ratio.Min, ratio.Max = median(ratio.Pairs), slices.Min(ratio.Pairs), slices.Max(ratio.Pairs)
				}
				r.Ratios = append(r.Ratios, ratio)
			}
		}
	}
}

// asked measures answers whose owner must be asked.
func (x *lookupRun) asked(ctx context.Context) error {
	kit := x.twins.NetSuite.Kit()
	defer kit.SetFaults(twin.Faults{})
	var errs []error
	for _, c := range []struct {
		erp         string
		faults      twin.Faults
		connections int
		questions   int
	}{
		{"answers in 500 ms", twin.Faults{LatencyMS: 500}, 1, min(x.o.Questions, oneAtATime)},
		{"answers in 500 ms", twin.Faults{LatencyMS: 500}, x.o.Connections, x.o.Questions},
		{"takes 5 s", twin.Faults{LatencyMS: 5000}, x.o.Connections, x.o.Questions},
		{"is down", twin.Faults{Outage: true}, x.o.Connections, x.o.Questions},
	} {
		kit.SetFaults(c.faults)
		calls := kit.Stats().Calls
		out := LookupLive{ERP: c.erp, Connections: c.connections}
		var took []time.Duration
		x.load(ctx, c.connections, func(asked int) bool { return asked >= c.questions }, func(rng *rand.Rand) string {
			return x.address(oneRight, x.customers[rng.IntN(len(x.customers))], "0")
		}, func(a answered) {
			out.Questions++
			took = append(took, a.took)
			var said struct {
				Entitled *bool `json:"entitled"`
			}
			if a.err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &said) != nil || said.Entitled == nil || !*said.Entitled {
				out.Wrong++
			}
			if ms(a.took) <= x.report.BudgetMS+x.report.OwnMS {
				out.Inside++
			}
			if a.source == lookup.Live {
				out.Live++
			}
			if a.says == lookup.Fresh {
				out.Fresh++
			} else {
				out.Stale++
			}
		})
		out.Calls = kit.Stats().Calls - calls
		out.P50, out.P99, out.Max = ms(quantile(took, 0.5)), ms(quantile(took, 0.99)), ms(quantile(took, 1))
		fmt.Fprintf(x.o.Progress, "  the ERP %s: %d of %d answers inside %.0f ms\n", c.erp, out.Inside, out.Questions, x.report.BudgetMS+x.report.OwnMS)
		x.report.Conditions = append(x.report.Conditions, out)
		if out.Inside < out.Questions || out.Wrong > 0 || out.Questions < c.questions {
			errs = append(errs, fmt.Errorf("bench lookup: while the ERP %s, %d of %d questions were answered, %d of them inside %.0f ms and %d wrong",
				c.erp, out.Questions, c.questions, out.Inside, x.report.BudgetMS+x.report.OwnMS, out.Wrong))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// Print writes the report for people, at most 80 columns wide.
func (r LookupReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench lookup\n\n%s\n%s, %s, %d CPUs, shared by who asks and who answers\n", r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.CPUs)
	p("%d customers with a contract each; medians of legs of %.1f s\n\n", r.Customers, r.Seconds)
	p("%-3s %11s %11s %9s %9s %9s\n", "", "at once", "answers/s", "p50 ms", "p99 ms", "max ms")
	for _, m := range r.Medians {
		p("%-3s %11d %11s %9s %9s %9s\n", m.Kind, m.Connections, thousands(m.PerSecond), short(m.P50), short(m.P99), short(m.Max))
	}
	p("\n")
	for _, k := range r.Kinds {
		p("%-3s %s\n", k.Name, k.About)
	}
	p("\n%-20s %7s %15s\n", "ratio", "median", "spread")
	for _, x := range r.Ratios {
		p("%-20s %7.2f %15s\n", x.Name, x.Median, fmt.Sprintf("%.2f to %.2f", x.Min, x.Max))
	}
	p("\nEntitlements whose owner must be asked, %.0f ms for it and %.0f ms of our own:\n", r.BudgetMS, r.OwnMS)
	p("%-18s %7s %5s %7s %5s %5s %5s %7s %7s\n", "the ERP", "at once", "asked", "inside", "live", "fresh", "calls", "p50 ms", "max ms")
	for _, c := range r.Conditions {
		p("%-18s %7d %5d %6.0f%% %5d %5d %5d %7s %7s\n", c.ERP, c.Connections, c.Questions, 100*float64(c.Inside)/float64(max(c.Questions, 1)), c.Live, c.Fresh, c.Calls, short(c.P50), short(c.Max))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
