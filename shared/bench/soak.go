package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/deadline"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/operate"
	"sorrel/shared/record"
	"sorrel/shared/trigger"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// SoakOptions of a soak. Zero values have the defaults that are named.
type SoakOptions struct {
	Webhooks    int           // duplicates included; 10,000
	Kills       int           // kill -9 during the load, and one more when it ends; 5, negative = none at all
	Duplicates  float64       // share of exact repeats; 0.10
	Reordered   float64       // share of neighbours of one order that leave in the wrong order; 0.05
	Forged      float64       // share of wrong signatures beside them; 0.01
	Failing     float64       // share of provider calls answered 503; 0
	Refusing    float64       // as Failing, but in every second life of the process only; 0
	Latency     time.Duration // of every provider call, so that a kill finds some under way; 0
	Rate        float64       // webhooks a second; 0 = as many as are acknowledged
	Hearing     bool          // Sorrel hears of its targets, by webhooks and listings; otherwise nothing heals what a killed process left
	Lost        float64       // share of provider calls that are done but never answered; 0
	Connections int           // 64
	Seed        uint64        // 1
	Limit       time.Duration // for each phase; 10 minutes
	Dir         string        // where Sorrel keeps its data; "" = a temporary folder
	Progress    io.Writer     // nil = nobody
}

func (o SoakOptions) withDefaults() SoakOptions {
	if o.Webhooks <= 0 {
		o.Webhooks = 10_000
	}
	if o.Kills == 0 {
		o.Kills = 5
	}
	for _, d := range []struct {
		at  *float64
		def float64
	}{{&o.Duplicates, 0.10}, {&o.Reordered, 0.05}, {&o.Forged, 0.01}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if o.Connections <= 0 {
		o.Connections = 64
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Limit <= 0 {
		o.Limit = 10 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// Check is one promise and what was found.
type Check struct {
	Name string `json:"name"`
	Got  int    `json:"got"`
	Want int    `json:"want"`
}

// Held reports whether the promise was kept.
func (c Check) Held() bool { return c.Got == c.Want }

// held reports whether there are promises, and all were kept.
func held(checks []Check) bool {
	return len(checks) > 0 && !slices.ContainsFunc(checks, func(c Check) bool { return !c.Held() })
}

// printChecks writes promises as a table for people.
func printChecks(b *strings.Builder, checks []Check) {
	fmt.Fprintf(b, "%-58s %7s %7s\n", "checked", "found", "want")
	for _, c := range checks {
		mark := "ok"
		if !c.Held() {
			mark = "BROKEN"
		}
		fmt.Fprintf(b, "%-58s %7d %7d %s\n", c.Name, c.Got, c.Want, mark)
	}
}

// SoakReport is what a soak did and found.
type SoakReport struct {
	Seed       uint64  `json:"seed"`
	Webhooks   int     `json:"webhooks"`
	Orders     int     `json:"orders"`
	Duplicates int     `json:"duplicates"`
	Reordered  int     `json:"reordered"`
	Forged     int     `json:"forged"`
	Kills      int     `json:"kills"`
	Retries    int     `json:"retries"`   // posts that were not answered 2xx and were sent again
	RestartMS  float64 `json:"restartMs"` // the longest time from the kill until Sorrel listened again
	Writes     int     `json:"providerWrites"`
	InFlight   int     `json:"writesUnderWayAtKills"` // calls of the targets that a kill cut off
	Redriven   int     `json:"redriven"`              // wake-ups that kills alone made dead letters, and whose work was done
	LoadSec    float64 `json:"loadSeconds"`
	DrainSec   float64 `json:"drainSeconds"`
	Checks     []Check `json:"checks"`
}

// Held reports whether every promise was kept.
func (r SoakReport) Held() bool {
	return held(r.Checks)
}

// Print writes the report for people.
func (r SoakReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench soak, seed %d\n\n", r.Seed)
	p("%s webhooks for %s orders: %s repeated, %s sent in the wrong order,\n%s forged beside them; kill -9 %d times, %s posts sent again\n",
		thousands(float64(r.Webhooks)), thousands(float64(r.Orders)), thousands(float64(r.Duplicates)), thousands(float64(r.Reordered)),
		thousands(float64(r.Forged)), r.Kills, thousands(float64(r.Retries)))
	p("listening again %.0f ms after a kill at most; load %.1f s, drained %.1f s later;\n%s writes to the providers; %s wake-ups redriven that kills alone had made dead letters\n\n", r.RestartMS, r.LoadSec, r.DrainSec,
		thousands(float64(r.Writes)), thousands(float64(r.Redriven)))
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}

// soak is one run.
type soak struct {
	o      SoakOptions
	twins  *twins.Twins
	child  childConfig
	start  time.Time
	report SoakReport
	orders int
	plans  [][]post

	address atomic.Pointer[string]
	acked   atomic.Int64
	retries atomic.Int64
	killAt  []int64         // ascending numbers of acknowledgements, without a rate
	lives   []time.Duration // how long the process lives before each kill, with one
	kill    chan struct{}
	seen    arrivals

	mu   sync.Mutex
	peer *peer.Peer
}

// revisions of each order.
const revisions = 9

// post is one webhook to send.
type post struct {
	order, rev int // order 0 is forged
}

// Soak sends webhooks with repeats and in the wrong order while it kills the process again and again, and checks that
// both targets end with exactly the newest revision of every order. Then it delivers everything once more.
// The error names every promise that was broken.
func Soak(ctx context.Context, o SoakOptions) (SoakReport, error) {
	o = o.withDefaults()
	dir, done, err := workDir(o.Dir)
	if err != nil {
		return SoakReport{}, err
	}
	defer done()
	s := &soak{o: o, start: time.Now(), kill: make(chan struct{}, 1), seen: arrivals{answered: map[string]int{}}}
	s.plan()
	if s.twins, err = twins.Start(twins.Options{Now: time.Now, Seed: o.Seed, Roomy: true, Watch: s.seen.watch}); err != nil {
		return s.report, err
	}
	defer func() { _ = s.twins.Close(context.WithoutCancel(ctx)) }()
	endpoints := map[string]boot.Endpoint{record.NetSuite: netSuite()}
	for _, p := range []string{record.Salesforce, record.Zendesk, record.ServiceNow} {
		endpoints[p] = s.twins.Endpoints()[p]
	}
	s.child = childConfig{Peer: sorrel, Dir: filepath.Join(dir, "soak"), CPU: -1, Endpoints: endpoints, Listen: "127.0.0.1:0"}
	if o.Hearing {
		s.child.ListEvery = 2 * time.Second
	}
	if err := s.boot(ctx); err != nil {
		return s.report, err
	}
	defer func() { _ = s.current().Kill() }() // its data is thrown away
	err = s.run(ctx)
	if err == nil && !s.report.Held() {
		var broken []string
		for _, c := range s.report.Checks {
			if !c.Held() {
				broken = append(broken, fmt.Sprintf("%s: %d, want %d", c.Name, c.Got, c.Want))
			}
		}
		err = fmt.Errorf("bench soak, seed %d: %s", o.Seed, strings.Join(broken, "; "))
	}
	return s.report, err
}

// plan decides what is sent, by the seed alone: each connection has orders of its own and sends them in turn.
func (s *soak) plan() {
	s.orders = max(1, int(float64(s.o.Webhooks)/revisions/(1+s.o.Duplicates)))
	s.report = SoakReport{Seed: s.o.Seed, Orders: s.orders}
	s.plans = make([][]post, min(s.o.Connections, s.orders))
	for i := range s.plans {
		rng := rand.New(rand.NewPCG(s.o.Seed, uint64(i)))
		queues := map[int][]post{}
		var orders []int
		for n := 1 + i; n <= s.orders; n += len(s.plans) {
			orders = append(orders, n)
			for rev := 1; rev <= revisions; rev++ {
				queues[n] = append(queues[n], post{n, rev})
			}
			for at := 0; at+1 < revisions; at++ {
				if rng.Float64() < s.o.Reordered {
					queues[n][at], queues[n][at+1] = queues[n][at+1], queues[n][at]
					s.report.Reordered++
					at++
				}
			}
		}
		for at := range revisions {
			for _, n := range orders {
				s.plans[i] = append(s.plans[i], queues[n][at])
				if rng.Float64() < s.o.Duplicates {
					recent := s.plans[i][max(0, len(s.plans[i])-8):]
					if again := recent[rng.IntN(len(recent))]; again.order > 0 {
						s.plans[i] = append(s.plans[i], again)
						s.report.Duplicates++
					}
				}
				if rng.Float64() < s.o.Forged {
					s.plans[i] = append(s.plans[i], post{0, at + 1})
					s.report.Forged++
				}
			}
		}
		s.report.Webhooks += len(s.plans[i])
	}
	s.report.Webhooks -= s.report.Forged
	rng := rand.New(rand.NewPCG(s.o.Seed, 1<<32))
	step := float64(s.report.Webhooks) / float64(max(1, s.o.Kills))
	for k := range max(0, s.o.Kills) { // one somewhere in each equal part of the load
		at := 0.1 + 0.8*rng.Float64()
		s.killAt = append(s.killAt, int64(step*(float64(k)+at)))
		if s.o.Rate > 0 {
			s.lives = append(s.lives, time.Duration(2*at*0.7*step/s.o.Rate*float64(time.Second)))
		}
	}
}

func (s *soak) current() *peer.Peer { s.mu.Lock(); defer s.mu.Unlock(); return s.peer }

func (s *soak) boot(ctx context.Context) error {
	p, err := peer.Start(ctx, ChildArgs(), s.child)
	if err != nil {
		return err
	}
	address := p.Address()
	s.mu.Lock()
	s.peer = p
	s.mu.Unlock()
	s.address.Store(&address)
	if s.o.Hearing {
		s.twins.SendTo(p.URL)
	}
	trouble := twin.Faults{Fail: s.o.Failing, LoseReply: s.o.Lost, LatencyMS: int(s.o.Latency / time.Millisecond)}
	if s.report.Kills%2 == 1 && s.o.Refusing > 0 {
		trouble.Fail = s.o.Refusing
	}
	s.fault(trouble)
	return nil
}

// fault sets what goes wrong on the targets.
func (s *soak) fault(f twin.Faults) {
	for _, k := range []*twin.Kit{s.twins.Salesforce.Kit(), s.twins.Zendesk.Kit()} {
		k.SetFaults(f)
	}
}

func (s *soak) crash(ctx context.Context) error {
	began := time.Now()
	s.report.InFlight += s.twins.Salesforce.Kit().Stats().InFlight + s.twins.Zendesk.Kit().Stats().InFlight
	if err := s.current().Kill(); err != nil {
		return err
	}
	s.report.Kills++
	if err := s.boot(ctx); err != nil {
		return err
	}
	took := ms(time.Since(began))
	s.report.RestartMS = max(s.report.RestartMS, took)
	fmt.Fprintf(s.o.Progress, "  kill -9 after %d acknowledgements and %d writes, listening again after %.0f ms\n", s.acked.Load(), s.writes(), took)
	return nil
}

func (s *soak) run(ctx context.Context) error {
	if err := introduce(ctx, *s.address.Load(), func() bool {
		return len(s.twins.Salesforce.All("Account")) == 1 && len(s.twins.Zendesk.All("organization")) == 1 && len(s.twins.ServiceNow.All("customer_account")) == 1
	}); err != nil {
		return err
	}
	began := time.Now()
	refused, err := s.send(ctx, "e", s.plans)
	if err != nil {
		return err
	}
	s.report.LoadSec, s.report.Retries = time.Since(began).Seconds(), int(s.retries.Load())
	if s.o.Kills > 0 {
		if err := s.crash(ctx); err != nil {
			return err
		}
	}
	began = time.Now()
	status, err := s.quiet(ctx)
	if err != nil {
		return err
	}
	s.report.DrainSec = time.Since(began).Seconds()
	s.fault(twin.Faults{})
	if status, err = s.redrive(ctx, status); err != nil {
		return err
	}
	s.report.Writes = s.writes()
	s.compare()
	s.check("writes begun after a newer one of the order was answered", int(s.seen.disordered.Load()), 0)
	s.check("forged webhooks refused", refused, s.report.Forged)
	s.check("messages in dead-letter queues", deadLetters(status), 0)
	for _, q := range status.Queues {
		if operate.IsDeadLetter(q.Name) && q.Visible > 0 {
			fmt.Fprintf(s.o.Progress, "  %d messages in %s\n", q.Visible, q.Name)
		}
	}
	s.check("open exceptions", sum(status.Exceptions), 0)
	for kind, n := range status.Exceptions {
		fmt.Fprintf(s.o.Progress, "  %d exceptions of type %s\n", n, kind)
	}
	fmt.Fprintf(s.o.Progress, "  drained; everything once more, under new event ids\n")
	if _, err := s.send(ctx, "again", s.shuffled()); err != nil {
		return err
	}
	if _, err := s.quiet(ctx); err != nil {
		return err
	}
	s.check("writes caused by delivering everything once more", s.writes()-s.report.Writes, 0)
	return nil
}

// shuffled is every event once more, in any order.
func (s *soak) shuffled() [][]post {
	out := make([][]post, len(s.plans))
	for i, plan := range s.plans {
		for _, p := range plan {
			if p.order > 0 {
				out[i] = append(out[i], p)
			}
		}
		rand.New(rand.NewPCG(s.o.Seed, uint64(1000+i))).Shuffle(len(out[i]), func(a, b int) { out[i][a], out[i][b] = out[i][b], out[i][a] })
	}
	return out
}

// send sends the plans, each on a connection of its own, and repeats whatever is not answered 2xx. It returns how
// many forged webhooks were answered 401.
func (s *soak) send(ctx context.Context, prefix string, plans [][]post) (refused int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Limit)
	defer cancel()
	s.acked.Store(0)
	kills := len(s.killAt)
	if prefix != "e" {
		kills = 0
	}
	var forged atomic.Int64
	errs := make([]error, len(plans)+1)
	var senders, killer sync.WaitGroup
	killer.Go(func() {
		for k := range kills {
			if !s.lived(ctx, k) {
				return
			}
			if err := s.crash(ctx); err != nil {
				errs[len(plans)] = err
				cancel()
				return
			}
		}
	})
	for i, plan := range plans {
		senders.Go(func() {
			c := load.NewCaller(func() string { return *s.address.Load() })
			defer c.Close()
			var body []byte
			pace := pacer(s.o.Rate / float64(len(plans)))
			for _, p := range plan {
				if err := pace(ctx); err != nil {
					errs[i] = err
					return
				}
				body = load.AppendOrder(body[:0], p.order, p.rev, fmt.Sprintf("%s-%d-%d", prefix, p.order, p.rev), s.saved(p.rev))
				status, err := s.until2xx(ctx, c, body, p.order == 0)
				if err != nil {
					errs[i] = err
					return
				}
				if status == http.StatusUnauthorized {
					forged.Add(1)
					continue
				}
				s.acked.Add(1)
				select {
				case s.kill <- struct{}{}:
				default:
				}
			}
		})
	}
	senders.Wait()
	killer.Wait()
	return int(forged.Load()), errors.Join(errs...)
}

// saved is when a revision was saved on NetSuite: about when it is first sent, where that is known. It is the same whenever
// it is sent.
func (s *soak) saved(rev int) time.Time {
	if s.o.Rate <= 0 {
		return s.start
	}
	span := time.Duration(float64(s.report.Webhooks) / s.o.Rate / revisions * float64(time.Second))
	return s.start.Add(time.Duration(rev-1) * span)
}

// lived waits for the moment of a kill. It reports false if that does not come any more.
func (s *soak) lived(ctx context.Context, k int) bool {
	if s.o.Rate > 0 {
		return deadline.Pause(ctx, s.lives[k]) == nil
	}
	for s.acked.Load() < s.killAt[k] {
		select {
		case <-ctx.Done():
			return false
		case <-s.kill:
		}
	}
	return true
}

// until2xx posts until the answer is 2xx, or any answer for a forged webhook.
func (s *soak) until2xx(ctx context.Context, c *load.Caller, body []byte, forged bool) (int, error) {
	for {
		status, err := c.Post(body, forged)
		if err == nil && (status/100 == 2 || forged) {
			return status, nil
		}
		s.retries.Add(1)
		if ended := deadline.Pause(ctx, 20*time.Millisecond); ended != nil {
			return 0, fmt.Errorf("bench soak: gave up sending: last answer %d, %v: %w", status, err, ended)
		}
	}
}

// quiet waits until Sorrel has nothing left to do.
func (s *soak) quiet(ctx context.Context) (operate.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Limit)
	defer cancel()
	return drain(ctx, func() string { return s.current().URL })
}

// drain waits until the process at a URL has nothing left to do.
func drain(ctx context.Context, url func() string) (operate.Status, error) {
	for idle := 0; ; {
		status, err := getStatus(ctx, url())
		if err != nil {
			return status, err
		}
		left := status.Rechecks
		for _, p := range status.Platforms {
			left += p.Due
		}
		for _, q := range status.Queues {
			if !operate.IsDeadLetter(q.Name) {
				left += q.Visible + q.InFlight
			}
		}
		if idle++; left > 0 {
			idle = 0
		}
		if idle == 2 { // a message between two queues may have been missed once
			return status, nil
		}
		if err := deadline.Pause(ctx, 200*time.Millisecond); err != nil {
			return status, fmt.Errorf("bench: still %d messages, due entries and records to read again: %w", left, err)
		}
	}
}

func getStatus(ctx context.Context, url string) (operate.Status, error) {
	var status operate.Status
	return status, ask(ctx, http.MethodGet, url+"/v1/status", nil, &status)
}

// operator is who redrives, in the configuration that the process runs.
const operator = "frank@northwind.example"

func ask(ctx context.Context, method, url string, say, into any) error {
	body, err := json.Marshal(say)
	if err != nil {
		return fmt.Errorf("bench soak: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("bench soak: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(trigger.PersonHeader, operator)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("bench soak: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("bench soak: %s %s answers %d", method, url, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("bench soak: %s %s: %w", method, url, err)
	}
	return nil
}

// redrive does what an operator does about wake-ups that are dead letters for no other reason than that each of the processes
// that received them was killed, and whose work another one has done: kills that follow each other within a second use up a
// message's receives. Whatever else is in a dead-letter queue stays there, and should not be there.
func (s *soak) redrive(ctx context.Context, status operate.Status) (operate.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Limit)
	defer cancel()
	for deadLetters(status) > 0 {
		again := map[string]any{"action": "redrive"}
		var ids []string
		for _, p := range []string{record.Salesforce, record.Zendesk, record.ServiceNow} {
			var l deadletters.Listing
			if err := ask(ctx, http.MethodGet, s.current().URL+"/v1/deadletters?queue=outbound-"+p, nil, &l); err != nil {
				return status, err
			}
			for _, m := range l.Letters {
				if m.Class != deadletters.Overtaken || m.Case != nil && m.Case.Detail != deadletters.Crashed {
					fmt.Fprintf(s.o.Progress, "  dead letter of %s, %s: %s\n", m.Queue, m.Class, m.Why)
					continue
				}
				ids = append(ids, m.ID)
			}
		}
		if len(ids) == 0 {
			return status, nil
		}
		again["ids"] = ids
		var done deadletters.Redriven
		if err := ask(ctx, http.MethodPost, s.current().URL+"/v1/deadletters", again, &done); err != nil {
			return status, err
		}
		if len(done.Redriven) == 0 {
			return status, nil
		}
		s.report.Redriven += len(done.Redriven)
		var err error
		if status, err = s.quiet(ctx); err != nil {
			return status, err
		}
	}
	return status, nil
}

func deadLetters(s operate.Status) int {
	n := 0
	for _, q := range s.Queues {
		if operate.IsDeadLetter(q.Name) {
			n += q.Visible + q.InFlight
		}
	}
	return n
}

func sum(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

func (s *soak) writes() int {
	return s.twins.Salesforce.Kit().Stats().Writes + s.twins.Zendesk.Kit().Stats().Writes + s.twins.ServiceNow.Kit().Stats().Writes
}

func (s *soak) check(name string, got, want int) {
	s.report.Checks = append(s.report.Checks, Check{name, got, want})
}

// compare looks at every order on both targets.
func (s *soak) compare() {
	s.target("Salesforce", s.twins.Salesforce.All("Order"), func(row map[string]any) (string, bool) {
		number, _ := row["ERP_Order_Number__c"].(string)
		memo, _ := row["Description"].(string)
		n, rev, _, ok := load.Mark([]byte(strconv.Quote(memo)))
		return number, ok && rev == revisions && number == "SO-"+load.InternalID(n) && row["ERP_Status__c"] == load.StatusLabel(revisions) && sameNumber(row["ERP_Total__c"], load.Total(revisions))
	})
	s.target("Zendesk", s.twins.Zendesk.All("custom_object/order"), func(row map[string]any) (string, bool) {
		fields, _ := row["custom_object_fields"].(map[string]any)
		number, _ := fields["number"].(string)
		return number, fields["status"] == load.StatusTag(revisions) && sameNumber(fields["total"], load.Total(revisions))
	})
	s.check("customers on Salesforce", len(s.twins.Salesforce.All("Account")), 1)
	s.check("customers on Zendesk", len(s.twins.Zendesk.All("organization")), 1)
	s.check("customers on ServiceNow", len(s.twins.ServiceNow.All("customer_account")), 1)
}

// target compares one target's orders with the newest revision that was sent.
func (s *soak) target(name string, rows []map[string]any, newest func(map[string]any) (number string, ok bool)) {
	seen := map[string]int{}
	stale := 0
	for _, row := range rows {
		number, ok := newest(row)
		seen[number]++
		if !ok {
			stale++
			fmt.Fprintf(s.o.Progress, "  %s has an order that is not at its newest revision: %v\n", name, row)
		}
	}
	missing, twice := 0, 0
	for n := 1; n <= s.orders; n++ {
		switch c := seen["SO-"+load.InternalID(n)]; {
		case c == 0:
			missing++
		case c > 1:
			twice += c - 1
		}
	}
	s.check("orders lost on "+name, missing, 0)
	s.check("orders twice on "+name, twice, 0)
	s.check("orders on "+name+" that are not at their newest revision", stale, 0)
	s.check("orders on "+name+" in all", len(rows), s.orders)
}

func sameNumber(a any, want string) bool {
	x, err1 := strconv.ParseFloat(fmt.Sprint(a), 64)
	y, err2 := strconv.ParseFloat(want, 64)
	return err1 == nil && err2 == nil && x == y
}
