package salesforce_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
	"sorrel/shared/twin"
)

// guarded is a connector behind a gate that keeps its limits.
func guarded(t *testing.T, clock *platformtest.Clock, opts salesforcetwin.Options, limits map[string]int) (*salesforce.Connector, *salesforcetwin.Twin, *platformtest.Gate) {
	t.Helper()
	var gate *platformtest.Gate
	c, tw := start(t, clock.Now, opts, func(cfg *salesforce.Config) {
		cfg.Limits = limits
		plain, err := salesforce.New(*cfg)
		if err != nil {
			t.Fatal(err)
		}
		gate = platformtest.NewGate(plain.Limits(), clock.Now)
		cfg.Gate = gate
	})
	return c, tw, gate
}

// The calls of a day are learned from the first answer, and kept to even if others use a part of them. An answer does not
// say which of the other calls under way it counts; the gate takes it that it counts none. So of the calls of a day up to
// 19 may stay unused, with twenty workers, and how many is a matter of chance: the numbers here leave room for that.
func TestKeepsToTheDay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		daily, others int
		given         map[string]int
		days          int // that 230 calls take
	}{
		"plenty":               {10_000, 0, nil, 0},
		"few":                  {100, 0, nil, 2},
		"shared with others":   {500, 350, nil, 1},
		"as much as was given": {10_000, 0, map[string]int{budget.Calls: 70}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			c, tw, gate := guarded(t, clock, salesforcetwin.Options{DailyCalls: tt.daily, SessionLife: 1000 * time.Hour}, tt.given)
			tw.Kit().SetFaults(twin.Faults{LatencyMS: 1, Others: map[string]int{budget.Calls: tt.others}})
			find := func(ctx context.Context, _ int) error {
				if _, err := c.Find(ctx, "Account", "nobody"); !fault.Is(err, fault.NotFound) {
					return err
				}
				return nil
			}
			began := clock.Now()
			platformtest.Work(t, clock, 1, 1, find)
			platformtest.Work(t, clock, 20, 229, find)
			if s := tw.Kit().Stats(); s.OverLimit != 0 {
				t.Errorf("%d calls over the limit", s.OverLimit)
			}
			if took := clock.Now().Sub(began).Truncate(24 * time.Hour); took != time.Duration(tt.days)*24*time.Hour {
				t.Errorf("took %v, want %d days", took, tt.days)
			}
			if len(gate.Said()) < 230 {
				t.Errorf("%d answers told of the day", len(gate.Said()))
			}
		})
	}
}

// Two processes of twenty workers each, in an org of few calls a day.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	var both [2]*salesforce.Connector
	_, tw := start(t, clock.Now, salesforcetwin.Options{DailyCalls: 200, SessionLife: 1000 * time.Hour}, func(cfg *salesforce.Config) {
		alone, err := salesforce.New(*cfg)
		if err != nil {
			t.Fatal(err)
		}
		own := *cfg
		for i, gate := range platformtest.Share(alone.Limits(), clock.Now, 0) {
			own.Gate = gate
			if both[i], err = salesforce.New(own); err != nil {
				t.Fatal(err)
			}
		}
	})
	platformtest.Work(t, clock, 40, 400, func(ctx context.Context, i int) error {
		c := both[i%2]
		switch {
		case i%8 == 0:
			_, err := c.Changes(ctx, "Account", "")
			return err
		case i%8 == 1:
			var writes []platform.Write
			for n := range 2 {
				writes = append(writes, platform.Write{Ref: refTo("Account", ""), External: fmt.Sprintf("customer-%d-%d", i, n), Fields: map[string]any{"Name": "Northwind"}})
			}
			return c.Write(ctx, writes)[0].Err
		}
		if _, err := c.Find(ctx, "Account", "nobody"); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
	s := tw.Kit().Stats()
	if s.OverLimit != 0 || s.Writes != 100 {
		t.Errorf("%d of %d calls over the limit, %d records written, want 100", s.OverLimit, s.Calls, s.Writes)
	}
}

// Calls that may last long are few at once, others are not held back by them.
func TestLongCalls(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw, gate := guarded(t, clock, salesforcetwin.Options{}, nil)
	if _, err := c.Changes(t.Context(), "Account", ""); err != nil {
		t.Fatal(err)
	}
	tw.Kit().SetFaults(twin.Faults{LatencyMS: 5})
	platformtest.Work(t, clock, 20, 60, func(ctx context.Context, i int) error {
		var writes []platform.Write
		for n := range 2 {
			writes = append(writes, platform.Write{Ref: refTo("Account", ""), External: fmt.Sprintf("customer-%d-%d", i, n), Fields: map[string]any{"Name": "Northwind"}})
		}
		if i%3 == 0 {
			_, err := c.Changes(ctx, "Account", "")
			return err
		}
		return c.Write(ctx, writes)[0].Err
	})
	if s := tw.Kit().Stats(); s.MaxFlight > 5 || s.OverLimit != 0 {
		t.Errorf("%d at once, want 5 at most; %d over the limit", s.MaxFlight, s.OverLimit)
	}
	if got := gate.Named(); len(got) != 1 || got[0] != c.Limits()[1].Name {
		t.Errorf("calls name %v, want one of %v", got, c.Limits())
	}
	platformtest.Work(t, clock, 20, 60, func(ctx context.Context, i int) error {
		if _, err := c.Find(ctx, "Account", "nobody"); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
	if s := tw.Kit().Stats(); s.MaxFlight <= 5 {
		t.Errorf("%d short calls at once", s.MaxFlight)
	}
}
