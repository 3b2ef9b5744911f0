package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/steward"
	"sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// ChangesOptions of counting what each kind of change costs.
type ChangesOptions struct {
	DynamoDB string    // endpoint of a server of its protocol; "" = a store in memory, priced by the same rules
	SQS      string    // likewise; both or none
	Seed     uint64    // of the twins; 1
	Dir      string    // "" = a temporary folder
	Progress io.Writer // told of each change; nil = nobody
}

// Units is a use of DynamoDB.
type Units struct {
	Requests int     `json:"requests"`
	Read     float64 `json:"readUnits"`
	Write    float64 `json:"writeUnits"`
	Commits  int     `json:"commits"` // requests that write
}

func (u Units) and(v Units) Units {
	return Units{u.Requests + v.Requests, u.Read + v.Read, u.Write + v.Write, u.Commits + v.Commits}
}

// Messages is a use of SQS. Each message is received by itself, as it is on AWS while changes come one by one: what is
// sent, received and deleted together costs less. Polls that bring nothing go by time and are not counted.
type Messages struct {
	Sends    int `json:"sendRequests"`
	Dropped  int `json:"droppedAsRepeats"` // sent, and never received
	Receives int `json:"receiveRequests"`
	Deletes  int `json:"deleteRequests"`
}

// Requests is what SQS charges for.
func (m Messages) Requests() int { return m.Sends + m.Receives + m.Deletes }

// Provider is a use of one platform's API. Sign-ins go by time and are not counted.
type Provider struct {
	Reads  int `json:"reads"`
	Writes int `json:"writes"`
}

// ChangeCost is what one change costs, until nothing is left to do because of it. Its stages are
//
//	people   somebody decides
//	hub      what the platforms say of the change itself
//	deliver  projecting, writing, confirming, for all platforms
//	echo     what platforms say after Sorrel has written to one
type ChangeCost struct {
	Change    string              `json:"change"`
	Inbound   int                 `json:"inbound"` // messages that tell of the change itself
	Echoes    int                 `json:"echoes"`  // inbound messages after Sorrel's first write
	Wakes     int                 `json:"wakes"`   // messages to deliver
	DynamoDB  Units               `json:"dynamodb"`
	Stages    map[string]Units    `json:"stages"`
	SQS       Messages            `json:"sqs"`
	Providers map[string]Provider `json:"providers"`
}

// total sets what is a sum of the stages.
func (c ChangeCost) total() ChangeCost {
	c.DynamoDB = Units{}
	for _, u := range c.Stages {
		c.DynamoDB = c.DynamoDB.and(u)
	}
	return c
}

// shape is all that does not depend on the sizes of items: messages, commits, DynamoDB requests, SQS requests, provider
// reads and writes, as in the table.
func (c ChangeCost) shape() string {
	return fmt.Sprintf("%d+%d %d+%d+%d %d %d / %s / %s", c.Inbound, c.Echoes, c.Stages[stageHub].Commits+c.Stages[stagePeople].Commits,
		c.Stages[stageDeliver].Commits, c.Stages[stageEcho].Commits, c.DynamoDB.Requests, c.SQS.Requests(),
		c.calls(func(p Provider) int { return p.Reads }), c.calls(func(p Provider) int { return p.Writes }))
}

// itsEchoes is the part of a cost that comes after Sorrel's writes.
func (c ChangeCost) itsEchoes(name string) ChangeCost {
	return ChangeCost{Change: name, Echoes: c.Echoes, Stages: map[string]Units{stageEcho: c.Stages[stageEcho]},
		SQS: Messages{Sends: c.Echoes, Receives: c.Echoes, Deletes: c.Echoes}, Providers: map[string]Provider{}}.total()
}

// Stages of ChangeCost. The sweep goes by time, not by change: it is no part of a cost.
const (
	stagePeople  = "people"
	stageHub     = "hub"
	stageDeliver = "deliver"
	stageRuns    = "workflow"
	stageEcho    = "echo"
	stageSweep   = "sweep"
)

// ChangesReport is what was counted.
type ChangesReport struct {
	Over    string       `json:"over"`
	Changes []ChangeCost `json:"changes"`
}

// Print writes a table of 80 columns.
func (r ChangesReport) Print(w io.Writer) error {
	var err error
	p := func(format string, a ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, a...)
		}
	}
	p("What a change costs, by itself, over %s\n\n", r.Over)
	p("%-26s %-5s %-7s %14s %4s  %-7s  %s\n", "", "in +", "commits", "--- DynamoDB", "SQS", "reads", "writes")
	p("%-26s %-5s %-7s %4s %4s %4s %4s  %-7s  %s\n", "", "echo", "h+d+e", "req", "RRU", "WRU", "req", "N S Z V", "N S Z V")
	for _, c := range r.Changes {
		u := c.DynamoDB
		p("%-26s %-5s %-7s %4d %4.0f %4.0f %4d  %s  %s\n", c.Change, fmt.Sprintf("%d+%d", c.Inbound, c.Echoes),
			fmt.Sprintf("%d+%d+%d", c.Stages[stageHub].Commits+c.Stages[stagePeople].Commits, c.Stages[stageDeliver].Commits, c.Stages[stageEcho].Commits),
			u.Requests, u.Read, u.Write, c.SQS.Requests(),
			c.calls(func(p Provider) int { return p.Reads }), c.calls(func(p Provider) int { return p.Writes }))
	}
	p("\nin: messages of the change itself; echo: those after Sorrel's first write.\n")
	p("commits: by the hub or a person, by deliver, by the hub for echoes.\n")
	p("RRU, WRU: request units by the price rules. They grow with the record.\n")
	p("SQS: send, receive and delete, each message by itself. N S Z V: calls to\n")
	p("NetSuite, Salesforce, Zendesk, ServiceNow. What goes by time is left out:\n")
	p("empty polls, the sweep, sign-ins.\n")
	return err
}

func (c ChangeCost) calls(of func(Provider) int) string {
	var n []string
	for _, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow} {
		n = append(n, fmt.Sprint(of(c.Providers[p])))
	}
	return strings.Join(n, " ")
}

// Changes counts what kinds of change cost, over the twins and the store and queues of the options. One thing happens
// after the other, so that all counts are the same in each run: no commit is lost to another worker, and nothing shares a batch.
// It fails, with the report, where a change does not cost what it should; only request units, which grow with what is
// known of a record, are not judged.
func Changes(ctx context.Context, o ChangesOptions) (r ChangesReport, err error) {
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if (o.DynamoDB == "") != (o.SQS == "") {
		return r, errors.New("bench cost: only one endpoint is given; name DynamoDB's and SQS's, or none")
	}
	t, err := newTally(ctx, o, configWithTier)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.close(context.WithoutCancel(ctx))) }()
	r.Over = "memory, priced alike"
	if o.DynamoDB != "" {
		r.Over = "servers of DynamoDB's and SQS's protocols"
	}
	var wrong []error
	for _, k := range t.kinds() {
		for _, prepare := range k.before {
			if err := prepare(ctx); err != nil {
				return r, fmt.Errorf("bench cost: before %q: %w", k.name, err)
			}
			if err := t.settle(ctx); err != nil {
				return r, fmt.Errorf("bench cost: before %q: %w", k.name, err)
			}
			t.pass(2 * time.Second)
		}
		c, err := t.count(ctx, k)
		if err != nil {
			return r, fmt.Errorf("bench cost: %q: %w", k.name, err)
		}
		if k.check != nil {
			if err := k.check(); err != nil {
				return r, fmt.Errorf("bench cost: after %q: %w", k.name, err)
			}
		}
		r.Changes = append(r.Changes, c)
		if got := c.shape(); got != k.costs {
			wrong = append(wrong, fmt.Errorf("bench cost: %q costs %s, want %s (in + echo, commits, DynamoDB, SQS / reads / writes)", k.name, got, k.costs))
		}
		if k.echoes != "" {
			r.Changes = append(r.Changes, c.itsEchoes(k.echoes))
		}
		t.pass(2 * time.Second)
		fmt.Fprintf(o.Progress, "  %s\n", k.name)
	}
	return r, errors.Join(wrong...)
}

// change is one kind of change. What has to be there before is done, and settled, step by step.
type change struct {
	name   string
	costs  string // as ChangeCost.shape has it
	before []step
	do     step
	check  func() error // that it had its effect
	echoes string       // if not "", its echoes are shown by themselves, too, under this name
}

// tally is a world whose queues are worked off step by step, and counted.
type tally struct {
	world   *boot.World
	host    *local.Host
	twins   *twins.Twins
	hub     *hub.Flow
	deliver *deliver.Flow
	runs    *workflow.Flow
	steward *steward.Flow
	ahead   atomic.Int64                // of the clock of flows and twins
	later   func() (*boot.World, error) // the same world in another process
	undo    []func() error

	mu    sync.Mutex
	stage string
	sum   ChangeCost
}

func newTally(ctx context.Context, o ChangesOptions, config func(dir string) error) (t *tally, err error) {
	dir, undo, err := workDir(o.Dir)
	if err != nil {
		return nil, err
	}
	t = &tally{undo: []func() error{func() error { undo(); return nil }}, sum: fresh("")}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := config(filepath.Join(dir, "config")); err != nil {
		return t, err
	}
	set, err := boot.LoadConfig(filepath.Join(dir, "config"))
	if err != nil {
		return t, err
	}
	if t.twins, err = twins.Start(twins.Options{Now: t.now, Seed: o.Seed, Roomy: true}); err != nil {
		return t, err
	}
	t.later = func() (*boot.World, error) {
		return t.open(ctx, o, filepath.Join(dir, fmt.Sprint("data-", len(t.undo))), set)
	}
	w, err := t.later()
	if err != nil {
		return t, err
	}
	t.world = w
	w.Now = t.now
	for name, q := range w.Queues {
		if d, err := q.Depth(ctx); err != nil || d.Visible+d.InFlight > 0 {
			return t, errors.Join(err, fmt.Errorf("bench cost: queue %s holds %d messages: give it a server of its own", name, d.Visible+d.InFlight))
		}
		w.Queues[name] = tallied{q, t, name}
	}
	w.Inbound, w.Workflows = w.Queues[boot.InboundQueue], w.Queues[boot.WorkflowQueue]
	for p := range w.Outbound {
		w.Outbound[p] = w.Queues[boot.OutboundQueue(p)]
	}
	t.hub, t.deliver, t.runs, t.steward = w.Hub(), w.Deliver(), w.Workflow(), w.Steward()
	if t.host, err = local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1, HubWorkers: -1, DeliverWorkers: -1, RunWorkers: -1, TellWorkers: -1}); err != nil {
		return t, err
	}
	t.speak(true)
	return t, nil
}

// open makes a world, and puts its ledger over a store that tells its price.
func (t *tally) open(ctx context.Context, o ChangesOptions, dir string, set *policy.Set) (*boot.World, error) {
	if o.DynamoDB == "" {
		w, err := boot.Embedded(dir, set, t.twins.Endpoints(), quiet)
		if err != nil {
			return nil, err
		}
		t.undo = append(t.undo, w.Close)
		w.Ledger = ledger.New(priced{store.NewMemory(t.now), t.spent}, t.now)
		return w, nil
	}
	endpoints, table := boot.AWSEndpoints(o.DynamoDB, o.SQS), "sorrel-cost-"+boot.NewID(time.Now)()
	w, err := boot.Endpointed(ctx, endpoints, table, set, t.twins.Endpoints(), quiet)
	if err != nil {
		return nil, err
	}
	t.undo = append(t.undo, w.Close)
	account, err := cloud.Open(cloud.Settings{Endpoints: endpoints, Region: "us-east-1", AccessKeyID: "local", SecretKey: "local"})
	if err != nil {
		return nil, err
	}
	w.Ledger = ledger.New(account.Store(table, cloud.StoreOptions{Calls: cloud.Calls{Now: t.now}, OnUnits: func(_ string, read, write float64) {
		t.spent(items{store: 1, read: read, write: write})
	}}), t.now)
	return w, nil
}

// forget makes the connectors anew, as in a process that has just started: what they remember goes by time.
func (t *tally) forget() error {
	w, err := t.later()
	if err == nil {
		t.world.Connectors = w.Connectors
		t.hub, t.deliver = t.world.Hub(), t.world.Deliver()
	}
	return err
}

func (t *tally) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var errs []error
	if t.twins != nil {
		t.twins.SendTo("")
	}
	if t.host != nil {
		errs = append(errs, t.host.Close(ctx))
	}
	if t.twins != nil {
		errs = append(errs, t.twins.Close(ctx))
	}
	for _, undo := range slices.Backward(t.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

// now is a clock whose fractions of a second never end in a zero: times are stored without trailing zeros, and an item's
// size must not depend on the moment.
func (t *tally) now() time.Time {
	const fraction = 7*time.Millisecond + 123456*time.Nanosecond
	return time.Now().Add(time.Duration(t.ahead.Load())).Truncate(10 * time.Millisecond).Add(fraction)
}

// speak has the twins tell of what happens. Salesforce tells by its change events; by its Outbound Messages as well only if asked to.
func (t *tally) speak(once bool) {
	t.twins.SendTo(t.host.URL())
	if once {
		t.twins.Salesforce.Kit().SendTo("")
	}
}

// pass puts the clock of flows and twins forward, so that a change is not of the second of the one before it.
func (t *tally) pass(d time.Duration) { t.ahead.Add(int64(d)) }

func (t *tally) in(stage string) {
	t.mu.Lock()
	t.stage = stage
	t.mu.Unlock()
}

// spent adds a use of the store to the stage.
func (t *tally) spent(i items) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stage == stageSweep {
		return
	}
	u := Units{Requests: i.store, Read: i.read, Write: i.write}
	if i.write > 0 {
		u.Commits = 1
	}
	t.sum.Stages[t.stage] = t.sum.Stages[t.stage].and(u)
}

// tallied is a queue whose requests are counted.
type tallied struct {
	boot.Queue
	t    *tally
	name string
}

func (q tallied) Send(ctx context.Context, msgs ...queue.Message) error {
	q.t.mu.Lock()
	q.t.sum.SQS.Sends += tens(len(msgs))
	q.t.sum.SQS.Dropped += len(msgs) // until received
	q.t.mu.Unlock()
	return q.Queue.Send(ctx, msgs...)
}

// work takes a message from a queue and handles it by itself. It reports false when there is none.
func (q tallied) work(ctx context.Context, handle func(context.Context, []queue.Received) []string) (bool, error) {
	got, err := q.Receive(ctx, 1, 0)
	if err != nil || len(got) == 0 {
		return false, err
	}
	if failed := handle(ctx, got); len(failed) > 0 {
		return false, fmt.Errorf("%s: a message failed: %s", q.name, got[0].Body)
	}
	q.t.mu.Lock()
	q.t.sum.SQS.Dropped--
	q.t.sum.SQS.Receives++
	q.t.sum.SQS.Deletes++
	q.t.mu.Unlock()
	return true, q.Delete(ctx, got[0].Receipt)
}

// settle works everything off: what the twins say, then the inbound queue, then one message of an outbound queue, then
// what the sweep finds, until nothing is left.
func (t *tally) settle(ctx context.Context) error {
	inbound, stage := t.world.Queues[boot.InboundQueue].(tallied), stageHub
	for {
		if err := t.twins.Drain(ctx); err != nil {
			return err
		}
		t.in(stage)
		worked, err := inbound.work(ctx, t.hub.Apply)
		if err != nil {
			return err
		}
		if worked {
			t.mu.Lock()
			if stage == stageHub {
				t.sum.Inbound++
			} else {
				t.sum.Echoes++
			}
			t.mu.Unlock()
			continue
		}
		t.in(stageDeliver)
		before := t.writes()
		for _, p := range boot.Platforms() {
			if worked, err = t.world.Queues[boot.OutboundQueue(p)].(tallied).work(ctx, t.deliver.Apply); err != nil {
				return err
			}
			if worked {
				t.mu.Lock()
				t.sum.Wakes++
				t.mu.Unlock()
				break
			}
		}
		if !worked {
			t.in(stageRuns)
			if worked, err = t.world.Queues[boot.WorkflowQueue].(tallied).work(ctx, t.runs.Apply); err != nil {
				return err
			}
		}
		if !worked { // what waits for its time
			t.in(stageSweep)
			t.pass(4 * time.Second)
			swept, err := t.world.Sweep().Apply(ctx)
			if err != nil || swept.Woken+swept.Rechecked+swept.Timed == 0 {
				return err
			}
			continue
		}
		if t.writes() > before {
			stage = stageEcho
		}
	}
}

func (t *tally) writes() int {
	n := 0
	for _, k := range t.twins.Kits() {
		n += k.Stats().Writes
	}
	return n
}

// count does one change and returns its cost.
func (t *tally) count(ctx context.Context, c change) (ChangeCost, error) {
	t.mu.Lock()
	t.sum, t.stage = fresh(c.name), stagePeople
	t.mu.Unlock()
	before := map[string]twin.Stats{}
	for p, k := range t.twins.Kits() {
		before[p] = k.Stats()
	}
	if err := c.do(ctx); err != nil {
		return ChangeCost{}, err
	}
	if err := t.settle(ctx); err != nil {
		return ChangeCost{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.sum
	t.sum = fresh("")
	for p, k := range t.twins.Kits() {
		out.Providers[p] = between(before[p], k.Stats())
	}
	return out.total(), nil
}

func fresh(name string) ChangeCost {
	return ChangeCost{Change: name, Stages: map[string]Units{}, Providers: map[string]Provider{}}
}

// between tells reads from writes by the twins' names of operations.
func between(before, after twin.Stats) Provider {
	var p Provider
	for op, n := range after.Operations {
		n -= before.Operations[op]
		switch {
		case strings.Contains(op, "token"):
		case strings.HasPrefix(op, "GET "), strings.HasSuffix(op, "/suiteql"):
			p.Reads += n
		default:
			p.Writes += n
		}
	}
	return p
}
