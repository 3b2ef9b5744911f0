package main

import (
	"context"
	"time"

	"sorrel/shared/bench"
)

type benchCommand struct {
	Intake benchIntake `cmd:"" help:"Webhook intake against a verify-only handler (V) and a durable floor (I)."`
	Sync   benchSync   `cmd:"" help:"Accepted to seen by the target, against a durable delivering floor (W)."`
	Child  benchChild  `cmd:"" hidden:"" help:"One measured peer."`
}

type measuring struct {
	Pairs    int           `default:"5" help:"Interleaved pairs."`
	Duration time.Duration `default:"3s" help:"Load of one leg."`
	Seed     uint64        `default:"1" help:"Of the load."`
	Open     bool          `help:"Also latency at 100/s and 1,000/s."`
	Profile  string        `help:"Write a CPU profile of one more leg to this file."`
	JSON     bool          `help:"Print JSON."`
}

func (m measuring) run(ctx context.Context, s screen, measure func(context.Context, bench.Options) (bench.Report, error)) error {
	r, err := measure(ctx, bench.Options{Pairs: m.Pairs, Duration: m.Duration, Seed: m.Seed, Open: m.Open, Profile: m.Profile, Progress: s.err})
	if err != nil {
		return err
	}
	if m.JSON {
		return s.json(r)
	}
	return r.Print(s.out)
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
