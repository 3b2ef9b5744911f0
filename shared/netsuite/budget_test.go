package netsuite_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/twin"
)

// Twenty workers in an account of the smallest kind, and in one with its own number.
func TestKeepsToItsConcurrency(t *testing.T) {
	t.Parallel()
	for want, given := range map[int]map[string]int{4: nil, 14: {"calls": 14}} {
		clock := platformtest.NewClock()
		var gate *platformtest.Gate
		a := open(t, netsuitetwin.Options{Now: clock.Now, Concurrency: want}, func(c *netsuite.Config) {
			c.Limits = given
			plain, err := netsuite.New(*c)
			if err != nil {
				t.Fatal(err)
			}
			gate = platformtest.NewGate(plain.Limits(), clock.Now)
			c.Gate = gate
		})
		a.twin.Kit().SetFaults(twin.Faults{LatencyMS: 3})
		platformtest.Work(t, clock, 20, 100, func(ctx context.Context, i int) (err error) {
			if i%10 == 0 {
				_, err = a.Changes(ctx, "customer", "")
				return err
			}
			return a.Write(ctx, []platform.Write{{Ref: ref("customer", ""), External: fmt.Sprint("c-", i), Fields: customerFields(i)}})[0].Err
		})
		if s := a.twin.Kit().Stats(); s.OverLimit != 0 || s.MaxFlight > want || s.Writes != 90 {
			t.Errorf("limit %d: %d at once, %d over the limit, %d writes", want, s.MaxFlight, s.OverLimit, s.Writes)
		}
		if len(gate.Named()) > 0 || len(gate.Said()) > 0 {
			t.Errorf("calls name %v, answers tell %v", gate.Named(), gate.Said())
		}
	}
}

// Two processes of twenty workers each share the requests at once. This takes real time: how long calls last is what counts.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	var both [2]*netsuite.Connector
	a := open(t, netsuitetwin.Options{Now: time.Now, Concurrency: 5}, func(c *netsuite.Config) {
		c.Limits = map[string]int{"calls": 5}
		alone, err := netsuite.New(*c)
		if err != nil {
			t.Fatal(err)
		}
		own := *c
		for i, gate := range platformtest.Share(alone.Limits(), time.Now, time.Minute) {
			own.Gate = gate
			if both[i], err = netsuite.New(own); err != nil {
				t.Fatal(err)
			}
		}
	})
	a.twin.Kit().SetFaults(twin.Faults{LatencyMS: 3})
	var wg sync.WaitGroup
	for worker := range 40 {
		wg.Go(func() {
			for n := range 5 {
				w := platform.Write{Ref: ref("customer", ""), External: fmt.Sprintf("c-%d-%d", worker, n), Fields: customerFields(n)}
				if err := both[worker%2].Write(t.Context(), []platform.Write{w})[0].Err; err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := a.twin.Kit().Stats()
	if s.OverLimit != 0 || s.Writes != 200 || s.MaxFlight > 5 {
		t.Errorf("%d at once, %d over the limit, %d writes, want 200", s.MaxFlight, s.OverLimit, s.Writes)
	}
}

// What other integrations have under way counts too: with all of it taken, calls are refused, and go through later.
func TestOthersUseTheConcurrency(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Concurrency: 5}, nil)
	write := platform.Write{Ref: ref("customer", ""), External: "c-1", Fields: customerFields(1)}
	a.twin.Kit().SetFaults(twin.Faults{Others: map[string]int{"calls": 5}})
	if err := a.Write(t.Context(), []platform.Write{write})[0].Err; err == nil || a.twin.Kit().Stats().Over["calls"] != 1 {
		t.Fatalf("%v, over the limit: %v", err, a.twin.Kit().Stats().Over)
	}
	a.twin.Kit().SetFaults(twin.Faults{Others: map[string]int{"calls": 5}, Limits: map[string]int{"calls": 6}})
	platformtest.Work(t, clock, 1, 1, func(ctx context.Context, _ int) error { return a.Write(ctx, []platform.Write{write})[0].Err })
}
