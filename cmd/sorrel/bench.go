package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sorrel/shared/bench"
	"sorrel/shared/simulation"
)

type benchCommand struct {
	Intake    benchIntake    `cmd:"" help:"Webhook intake against a verify-only handler (V) and a durable floor (I)."`
	Sync      benchSync      `cmd:"" help:"Accepted to seen by the target, against a durable delivering floor (W)."`
	Soak      benchSoak      `cmd:"" help:"Kill -9 under load, with repeats and wrong order: nothing lost, nothing twice."`
	Backlog   benchBacklog   `cmd:"" help:"A start with webhooks waiting: until it accepts again, and its memory."`
	Replay    benchReplay    `cmd:"" help:"How fresh live changes are while 50,000 records are replayed, at what the vendors allow."`
	Link      benchLink      `cmd:"" help:"sorrel link over customers of which it is known who is who: precision, recall."`
	Load      benchLoad      `cmd:"" help:"A first load that is killed again and again: nothing lost, nothing twice."`
	Reconcile benchReconcile `cmd:"" help:"What reconciliation finds of what was changed unheard, and its calls against a full read."`
	Compare   benchCompare   `cmd:"" help:"Full comparisons of 100,000 and 1,000,000 records: memory, and records per core."`
	Cost      benchCost      `cmd:"" help:"What each kind of change costs in DynamoDB, SQS and provider requests."`
	Waiting   benchWaiting   `cmd:"" help:"What runs of workflows cost while they wait: nothing in the sweeps of an hour."`
	Lookup    benchLookup    `cmd:"" help:"Answers to programs against a bare handler, and with an ERP that is slow or down."`
	Simulate  benchSimulate  `cmd:"" help:"Whole histories from seeds, with faults at every edge: the end is as policy says."`
	Child     benchChild     `cmd:"" hidden:"" help:"One measured peer."`
}

// bounds refuses what a measurement cannot begin with, all at once.
type bounds []string

func (b *bounds) whole(flag string, is, least int) {
	if is < least {
		*b = append(*b, fmt.Sprintf("--%s is %d, at least %d", flag, is, least))
	}
}

func (b *bounds) share(flag string, is float64) {
	if !(is >= 0 && is <= 1) {
		*b = append(*b, fmt.Sprintf("--%s is %v, a share from 0 to 1", flag, is))
	}
}

func (b *bounds) rate(flag string, is float64, above bool) {
	if !(is >= 0) || math.IsInf(is, 1) || above && is == 0 {
		*b = append(*b, fmt.Sprintf("--%s is %v, not a positive number of events a second", flag, is))
	}
}

func (b *bounds) time(flag string, is, least time.Duration) {
	if is < least {
		*b = append(*b, fmt.Sprintf("--%s is %v, at least %v", flag, is, least))
	}
}

func (b bounds) err() error {
	if len(b) == 0 {
		return nil
	}
	return errors.New(strings.Join(b, "; "))
}

type measuring struct {
	Pairs    int           `default:"5" help:"Interleaved pairs."`
	Duration time.Duration `default:"3s" help:"Load of one leg."`
	Seed     uint64        `default:"1" help:"Of the load."`
	Open     bool          `help:"Also latency at 100/s and 1,000/s."`
	Profile  string        `help:"Write a CPU profile of one more leg to this file."`
	JSON     bool          `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (m measuring) Validate() error {
	var b bounds
	b.whole("pairs", m.Pairs, 1)
	b.time("duration", m.Duration, time.Millisecond)
	return b.err()
}

func (m measuring) run(ctx context.Context, s screen, measure func(context.Context, bench.Options) (bench.Report, error)) error {
	r, err := measure(ctx, bench.Options{Pairs: m.Pairs, Duration: m.Duration, Seed: m.Seed, Open: m.Open, Profile: m.Profile, Progress: s.err})
	if err != nil {
		return err
	}
	return s.report(r, m.JSON, nil)
}

type benchIntake struct {
	measuring
}

// Run measures intake.
func (c benchIntake) Run(ctx binding, s screen) error { return c.run(ctx, s, bench.Intake) }

type benchSync struct {
	measuring
}

// Run measures end to end.
func (c benchSync) Run(ctx binding, s screen) error { return c.run(ctx, s, bench.Sync) }

type benchChild struct{}

// Run is a measured peer, started by the harness, which tells it the rest on standard input.
func (benchChild) Run() error { return bench.Child(nil) }

type benchSoak struct {
	Webhooks   int           `default:"10000" help:"First sends."`
	Kills      int           `default:"5" help:"SIGKILLs at random moments of the load; one more while it drains."`
	Duplicates float64       `default:"0.1" help:"Share sent twice."`
	Reordered  float64       `default:"0.05" help:"Share swapped with their neighbour."`
	Failing    float64       `default:"0" help:"Share of provider calls answered 503."`
	Lost       float64       `default:"0" help:"Share of provider calls done but never answered."`
	Refusing   float64       `default:"0" help:"Share of provider calls answered 503 in every second life of the process."`
	Latency    time.Duration `default:"0s" help:"Of provider calls."`
	Rate       float64       `default:"0" help:"Webhooks a second; 0 is as many as are acknowledged."`
	Hearing    bool          `help:"With webhooks and listings of the targets; without them nothing heals what a killed process left."`
	Seed       uint64        `default:"1" help:"Of everything random."`
	JSON       bool          `help:"Print JSON."`
}

// Validate refuses what cannot be played.
func (c benchSoak) Validate() error {
	var b bounds
	b.whole("webhooks", c.Webhooks, 1)
	b.whole("kills", c.Kills, 0)
	for flag, is := range map[string]float64{"duplicates": c.Duplicates, "reordered": c.Reordered, "failing": c.Failing, "lost": c.Lost, "refusing": c.Refusing} {
		b.share(flag, is)
	}
	slices.Sort(b)
	b.time("latency", c.Latency, 0)
	b.rate("rate", c.Rate, false)
	return b.err()
}

// Run fails unless everything held.
func (c benchSoak) Run(ctx binding, s screen) error {
	r, err := bench.Soak(ctx, bench.SoakOptions{Webhooks: c.Webhooks, Kills: c.Kills, Duplicates: c.Duplicates, Reordered: c.Reordered,
		Failing: c.Failing, Lost: c.Lost, Refusing: c.Refusing, Latency: c.Latency, Rate: c.Rate, Hearing: c.Hearing, Seed: c.Seed, Progress: s.err})
	return s.report(r, c.JSON, err)
}

type benchBacklog struct {
	Waiting int           `default:"20000" help:"Webhooks in the durable inbound queue."`
	Starts  int           `default:"5" help:"Starts with them, each beside one without."`
	Work    time.Duration `default:"5s" help:"How long the last one works on them before its memory is read."`
	JSON    bool          `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchBacklog) Validate() error {
	var b bounds
	b.whole("waiting", c.Waiting, 1)
	b.whole("starts", c.Starts, 1)
	b.time("work", c.Work, time.Millisecond)
	return b.err()
}

// Run fails if a bar is missed.
func (c benchBacklog) Run(ctx binding, s screen) error {
	r, err := bench.Backlog(ctx, bench.BacklogOptions{Waiting: c.Waiting, Starts: c.Starts, Work: c.Work, Progress: s.err})
	if len(r.Checks) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}

type benchCost struct {
	EndpointURL string `name:"endpoint-url" help:"Count over servers of DynamoDB's and SQS's protocols that have nothing else to do, two addresses, comma-separated; default is memory, priced alike."`
	JSON        bool   `help:"Print JSON, by stage."`
}

// Run fails where a change does not cost what it should.
func (c benchCost) Run(ctx binding, s screen) error {
	dynamo, sqs, _ := strings.Cut(c.EndpointURL, ",")
	r, err := bench.Changes(ctx, bench.ChangesOptions{DynamoDB: dynamo, SQS: sqs, Progress: s.err})
	if len(r.Changes) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}

type benchWaiting struct {
	Runs int  `default:"10000" help:"How many wait."`
	JSON bool `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchWaiting) Validate() error {
	var b bounds
	b.whole("runs", c.Runs, 1)
	return b.err()
}

// Run fails if sweeps read more when runs wait, or what is due is not moved on.
func (c benchWaiting) Run(ctx binding, s screen) error {
	r, err := bench.Wait(ctx, bench.WaitingOptions{Runs: c.Runs, Progress: s.err})
	if len(r.Legs) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}

type benchLookup struct {
	Customers   int           `default:"1000" help:"With a contract each."`
	Pairs       int           `default:"5" help:"Interleaved legs of each kind."`
	Duration    time.Duration `default:"2s" help:"Of one leg."`
	Connections int           `default:"8" help:"That ask at once; latency is measured with one as well."`
	Questions   int           `default:"400" help:"While the ERP is slow, and while it is down."`
	Own         time.Duration `default:"100ms" help:"What an answer may take beside the time that it waits for the owner."`
	Seed        uint64        `default:"1" help:"Of who is asked about."`
	JSON        bool          `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchLookup) Validate() error {
	var b bounds
	b.whole("customers", c.Customers, 1)
	b.whole("pairs", c.Pairs, 1)
	b.whole("connections", c.Connections, 1)
	b.whole("questions", c.Questions, 1)
	b.time("duration", c.Duration, time.Millisecond)
	b.time("own", c.Own, time.Millisecond)
	return b.err()
}

// Run fails where an answer takes longer than it may.
func (c benchLookup) Run(ctx binding, s screen) error {
	r, err := bench.Lookup(ctx, bench.LookupOptions{Customers: c.Customers, Pairs: c.Pairs, Duration: c.Duration, Connections: c.Connections, Questions: c.Questions, Own: c.Own, Seed: c.Seed, Progress: s.err})
	if len(r.Medians) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}

type benchSimulate struct {
	Seeds     int    `default:"1000" help:"How many histories."`
	Seed      uint64 `default:"0" help:"The first seed. One seed is one history, byte for byte."`
	Whole     bool   `help:"Do not shrink the histories that fail."`
	Twins     bool   `xor:"which" help:"The platforms are the vendors' twins behind the real connectors, under the deployed configuration."`
	Workflows bool   `xor:"which" help:"Deals are won and reopened, and a workflow activates their accounts."`
	JSON      bool   `help:"Print JSON."`
}

// Validate refuses to play nothing.
func (c benchSimulate) Validate() error {
	var b bounds
	b.whole("seeds", c.Seeds, 1)
	return b.err()
}

// Run fails if a history does not end as it must, and shows what is left of it when it is shrunk.
func (c benchSimulate) Run(ctx binding, s screen) error {
	sim, err := simulation.New()
	if err != nil {
		return err
	}
	debug.SetGCPercent(400) // a history is small and soon over: collecting less often makes it a quarter faster
	r, err := sim.Run(ctx, simulation.Options{Seed: c.Seed, Seeds: c.Seeds, Workers: runtime.GOMAXPROCS(0), Whole: c.Whole, Twins: c.Twins, Workflows: c.Workflows, Progress: s.err})
	return s.report(r, c.JSON, err)
}

type benchReplay struct {
	Records  int           `default:"50000" help:"Customers to replay, each on four platforms."`
	Rate     float64       `default:"5" help:"Edits a second by people, meanwhile."`
	Idle     time.Duration `default:"1m" help:"Of edits alone, before and after."`
	Factor   int           `default:"20" help:"How many times as much as in life the vendors allow, and how many times faster they answer."`
	MaxRatio float64       `default:"2" help:"Fail if live p95 is this many times that without a replay; 0 does not judge."`
	Seed     uint64        `default:"1" help:"Of everything random."`
	JSON     bool          `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchReplay) Validate() error {
	var b bounds
	b.whole("records", c.Records, 1)
	b.rate("rate", c.Rate, true)
	b.time("idle", c.Idle, time.Second)
	b.whole("factor", c.Factor, 1)
	if !(c.MaxRatio >= 0) {
		b = append(b, fmt.Sprintf("--max-ratio is %v, at least 0", c.MaxRatio))
	}
	return b.err()
}

// Run fails if live changes wait too long, a vendor's limit is overrun or anything is lost.
func (c benchReplay) Run(ctx binding, s screen) error {
	r, err := bench.Replay(ctx, bench.ReplayOptions{Records: c.Records, Rate: c.Rate, Idle: c.Idle, Factor: c.Factor, MaxRatio: c.MaxRatio, Seed: c.Seed, Progress: s.err})
	return s.report(r, c.JSON, err)
}

type benchLoad struct {
	Records int    `default:"100000" help:"Items in NetSuite."`
	Kills   int    `default:"20" help:"SIGKILLs at random moments of the load."`
	Seed    uint64 `default:"1" help:"Of everything random."`
	Dir     string `help:"Where the data goes; default is a temporary folder." type:"existingdir"`
	JSON    bool   `help:"Print JSON."`
}

// Validate refuses what cannot be played.
func (c benchLoad) Validate() error {
	var b bounds
	b.whole("records", c.Records, 1)
	b.whole("kills", c.Kills, 1)
	return b.err()
}

// Run fails unless everything held.
func (c benchLoad) Run(ctx binding, s screen) error {
	r, err := bench.FirstLoad(ctx, bench.FirstLoadOptions{Records: c.Records, Kills: c.Kills, Seed: c.Seed, Dir: c.Dir, Progress: s.err})
	if len(r.Checks) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}

type benchReconcile struct {
	Customers int       `default:"100000" help:"Of each platform."`
	Shares    []float64 `default:"0,0.0001,0.001,0.01,0.1" help:"Of a platform's customers that are changed unheard, one run each."`
	Heal      float64   `default:"0.001" help:"Up to this share what was found is healed, and looked for again."`
	Seed      uint64    `default:"1" help:"Of everything random."`
	JSON      bool      `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchReconcile) Validate() error {
	var b bounds
	b.whole("customers", c.Customers, 1)
	for _, is := range append(c.Shares, c.Heal) {
		b.share("shares", is)
	}
	return b.err()
}

// Run fails if anything is missed or invented, or takes too many calls.
func (c benchReconcile) Run(ctx binding, s screen) error {
	r, err := bench.Reconcile(ctx, bench.ReconcileOptions{Customers: c.Customers, Shares: c.Shares, Heal: c.Heal, Seed: c.Seed, Progress: s.err})
	return s.report(r, c.JSON, err)
}

type benchCompare struct {
	Records []int `default:"100000,1000000" help:"How many, one run each."`
	JSON    bool  `help:"Print JSON."`
}

// Validate refuses what cannot be measured.
func (c benchCompare) Validate() error {
	var b bounds
	for _, n := range c.Records {
		b.whole("records", n, 1)
	}
	return b.err()
}

// Run fails if anything differs, or memory grows with the records.
func (c benchCompare) Run(ctx binding, s screen) error {
	r, err := bench.Compare(ctx, bench.CompareOptions{Records: c.Records, Progress: s.err})
	if len(r.Legs) == 0 {
		return err
	}
	return s.report(r, c.JSON, err)
}
