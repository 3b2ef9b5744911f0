package servicenow_test

import (
	"context"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
	"sorrel/shared/twin"
)

// guarded is a connector behind a gate that keeps its limits.
func guarded(t *testing.T, clock *platformtest.Clock, opt servicenowtwin.Options, limits map[string]int) (*servicenow.Connector, *servicenowtwin.Twin, *platformtest.Gate) {
	t.Helper()
	opt.Now = clock.Now
	var gate *platformtest.Gate
	c, tw := world(t, opt, func(cfg *servicenow.Config) {
		cfg.Limits = limits
		plain, err := servicenow.New(*cfg)
		if err != nil {
			t.Fatal(err)
		}
		gate = platformtest.NewGate(plain.Limits(), clock.Now)
		cfg.Gate = gate
	})
	return c, tw, gate
}

// An instance's rule is learned from the first answer that tells of it.
func TestKeepsToTheHour(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rule  int
		given map[string]int
		hours int // that 250 calls take
	}{
		"no rule":              {0, nil, 0},
		"a rule":               {100, nil, 2},
		"as much as was given": {100, map[string]int{budget.Calls: 50}, 4},
		"given without a rule": {0, map[string]int{budget.Calls: 60}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			c, tw, gate := guarded(t, clock, servicenowtwin.Options{Limits: servicenowtwin.Limits{PerHour: tt.rule}, TokenLife: 1000 * time.Hour}, tt.given)
			find := func(ctx context.Context, _ int) error {
				if _, err := c.Find(ctx, servicenow.Account, "nobody"); !fault.Is(err, fault.NotFound) {
					return err
				}
				return nil
			}
			began := clock.Now()
			platformtest.Work(t, clock, 1, 1, find)
			platformtest.Work(t, clock, 20, 249, find)
			s := tw.Kit().Stats()
			if s.OverLimit != 0 {
				t.Errorf("%d calls over the limit", s.OverLimit)
			}
			if took := clock.Now().Sub(began).Truncate(time.Hour); took != time.Duration(tt.hours)*time.Hour {
				t.Errorf("took %v for %d calls, want %d hours", took, s.Calls, tt.hours)
			}
			if (len(gate.Said()) > 0) != (tt.rule > 0) || len(gate.Named()) > 0 {
				t.Errorf("answers tell %d times, calls name %v", len(gate.Said()), gate.Named())
			}
		})
	}
}

// Two processes of twenty workers each learn of the instance's rule and share it.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	var both [2]*servicenow.Connector
	_, tw := world(t, servicenowtwin.Options{Now: clock.Now, Limits: servicenowtwin.Limits{PerHour: 100}, TokenLife: 1000 * time.Hour}, func(cfg *servicenow.Config) {
		alone, err := servicenow.New(*cfg)
		if err != nil {
			t.Fatal(err)
		}
		own := *cfg
		for i, gate := range platformtest.Share(alone.Limits(), clock.Now, 0) {
			own.Gate = gate
			if both[i], err = servicenow.New(own); err != nil {
				t.Fatal(err)
			}
		}
	})
	platformtest.Work(t, clock, 40, 300, func(ctx context.Context, i int) error {
		if _, err := both[i%2].Find(ctx, servicenow.Account, "nobody"); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
	s := tw.Kit().Stats()
	if s.OverLimit != 0 || s.Calls < 300 {
		t.Errorf("%d of %d calls over the limit", s.OverLimit, s.Calls)
	}
}

// Answers do not say how many calls are left. What others use shows in the first refusal, and all wait for the next hour.
func TestOthersUseTheHour(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw, _ := guarded(t, clock, servicenowtwin.Options{Limits: servicenowtwin.Limits{PerHour: 100}, TokenLife: 1000 * time.Hour}, nil)
	tw.Kit().SetFaults(twin.Faults{Others: map[string]int{budget.Calls: 60}})
	putOff := platformtest.Work(t, clock, 1, 100, func(ctx context.Context, _ int) error {
		if _, err := c.Find(ctx, servicenow.Account, "nobody"); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
	if s := tw.Kit().Stats(); s.OverLimit != 2 || putOff != 2 {
		t.Errorf("%d calls over the limit, %d put off, want one in each of two hours", s.OverLimit, putOff)
	}
}
