package zendesk_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// guarded is a connector behind a gate that keeps its limits.
func guarded(t *testing.T, clock *platformtest.Clock, opt zendesktwin.Options, limits map[string]int) (*zendesk.Connector, *zendesktwin.Twin, *platformtest.Gate) {
	t.Helper()
	opt.Now = clock.Now
	tw := zendesktwin.New(opt)
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	cfg := zendesk.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: clock.Now, Limits: limits}
	c, err := zendesk.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	gate := platformtest.NewGate(c.Limits(), clock.Now)
	cfg.Gate = gate
	if c, err = zendesk.New(cfg); err != nil {
		t.Fatal(err)
	}
	return c, tw, gate
}

// aBitOfEverything is work for connectors to one account, which take turns.
func aBitOfEverything(t *testing.T, tw *zendesktwin.Twin, connectors ...*zendesk.Connector) func(ctx context.Context, job int) error {
	t.Helper()
	tickets := make([]string, 150)
	for i := range tickets {
		id, err := tw.Edit(zendesk.Ticket, "", map[string]any{"subject": "Where is it?", "description": "-"})
		if err != nil {
			t.Fatal(err)
		}
		tickets[i] = id
	}
	return func(ctx context.Context, i int) (err error) {
		c := connectors[i/20%len(connectors)]
		write := func(ctx context.Context, w platform.Write) error {
			w.Ref.Platform = record.Zendesk
			return c.Write(ctx, []platform.Write{w})[0].Err
		}
		switch n := i % 20; {
		case n == 0:
			_, err = c.Changes(ctx, []string{zendesk.Ticket, zendesk.User, zendesk.Organization}[i%3], "")
		case n == 1:
			err = write(ctx, platform.Write{Ref: record.Ref{Object: zendesk.User}, External: fmt.Sprint("user-", i), Fields: map[string]any{"name": "Ann"}})
		case n == 2:
			err = write(ctx, platform.Write{Ref: record.Ref{Object: zendesk.Ticket}, External: fmt.Sprint("ticket-", i), Fields: map[string]any{"subject": "New", "description": "-"}})
		case n == 3:
			err = write(ctx, platform.Write{Ref: record.Ref{Object: zendesk.Ticket, ID: tickets[100+i/20]}, External: "gone", Delete: true})
		case n < 8:
			err = write(ctx, platform.Write{Ref: record.Ref{Object: zendesk.Ticket, ID: tickets[i%100]}, External: fmt.Sprint("old-", i%100), Fields: map[string]any{"status": "open"}})
		case n == 8:
			_, err = c.Within(ctx, zendesk.Ticket, []platform.Span{{From: time.Unix(int64(i), 0)}}, "")
		case n == 9:
			_, err = c.Census(ctx, zendesk.Ticket, nil, 0)
		default:
			_, err = c.Find(ctx, zendesk.Organization, "nobody")
			if fault.Is(err, fault.NotFound) {
				err = nil
			}
		}
		return err
	}
}

// Two processes of twenty workers each, in an account of the smallest plan.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := zendesktwin.New(zendesktwin.Options{Now: clock.Now, Limits: zendesktwin.Limits{PerMinute: 200, ListTickets: 100}})
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	cfg := zendesk.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: clock.Now}
	alone, err := zendesk.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*zendesk.Connector
	for i, gate := range platformtest.Share(alone.Limits(), clock.Now, 0) {
		cfg.Gate = gate
		if both[i], err = zendesk.New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	platformtest.Work(t, clock, 40, 600, aBitOfEverything(t, tw, both[:]...))
	s := tw.Kit().Stats()
	if s.OverLimit != 0 || s.Calls < 600 {
		t.Errorf("%d of %d calls over a limit: %v", s.OverLimit, s.Calls, s.Over)
	}
}

// Others use most of a minute of an account, and forty workers of two processes burst through the rest. Of nobody who has
// called nothing can be known of the others; from each process's first answer on, over the limit are at most the calls
// that it had under way then.
func TestBurstBesideOthers(t *testing.T) {
	t.Parallel()
	const others, workers = 150, 40
	clock := platformtest.NewClock()
	tw := zendesktwin.New(zendesktwin.Options{Now: clock.Now, Limits: zendesktwin.Limits{PerMinute: 200}})
	tw.Kit().SetFaults(twin.Faults{Others: map[string]int{budget.Calls: others}})
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	cfg := zendesk.Config{URL: srv.URL, Credentials: tw.Credentials(), Now: clock.Now}
	alone, err := zendesk.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*zendesk.Connector
	for i, gate := range platformtest.Share(alone.Limits(), clock.Now, 0) {
		cfg.Gate = gate
		if both[i], err = zendesk.New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	find := func(ctx context.Context, i int) error {
		if _, err := both[i%2].Find(ctx, zendesk.Organization, "nobody"); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	}
	platformtest.Work(t, clock, 1, 2, find) // each process has heard of the others
	platformtest.Work(t, clock, workers, 150, find)
	if s := tw.Kit().Stats(); s.OverLimit != 0 {
		t.Errorf("%d of %d calls over a limit: %v", s.OverLimit, s.Calls, s.Over)
	}
}

// Twenty workers that do a bit of everything, in an account of the smallest plan.
func TestKeepsToItsLimits(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw, gate := guarded(t, clock, zendesktwin.Options{Limits: zendesktwin.Limits{PerMinute: 200, ListTickets: 100}}, nil)
	platformtest.Work(t, clock, 20, 400, aBitOfEverything(t, tw, c))
	if s := tw.Kit().Stats(); s.OverLimit != 0 || s.Calls < 400 {
		t.Errorf("%d of %d calls over a limit: %v", s.OverLimit, s.Calls, s.Over)
	}
	declared := map[string]bool{}
	for _, l := range c.Limits() {
		declared[l.Name] = true
	}
	for _, name := range gate.Named() {
		if !declared[name] {
			t.Errorf("calls count against %s, which is not declared", name)
		}
	}
	said := map[string]bool{}
	for _, r := range gate.Said() {
		if said[r.Limit] = true; !declared[r.Limit] {
			t.Errorf("an answer is read for %s, which is not declared", r.Limit)
		}
	}
	if len(gate.Named()) != len(declared)-1 || len(said) != len(declared) {
		t.Errorf("of %v, calls name %v and answers tell of %v", declared, gate.Named(), said)
	}
}

// What the account really has is learned from the first answer, and kept to even if others use a part of it.
func TestLearnsItsLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plan, others int
		given        map[string]int
		minutes      int // that 300 calls take
	}{
		"a greater plan":         {700, 0, nil, 0},
		"the smallest plan":      {200, 0, nil, 1},
		"shared with others":     {200, 60, nil, 2},
		"as much as was given":   {700, 0, map[string]int{budget.Calls: 100}, 2},
		"more given than is had": {200, 0, map[string]int{budget.Calls: 700}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			c, tw, _ := guarded(t, clock, zendesktwin.Options{Limits: zendesktwin.Limits{PerMinute: tt.plan}}, tt.given)
			tw.Kit().SetFaults(twin.Faults{Others: map[string]int{budget.Calls: tt.others}})
			find := func(ctx context.Context, _ int) error {
				if _, err := c.Find(ctx, zendesk.Organization, "nobody"); !fault.Is(err, fault.NotFound) {
					return err
				}
				return nil
			}
			began := clock.Now()
			platformtest.Work(t, clock, 1, 1, find)
			platformtest.Work(t, clock, 20, 299, find)
			if s := tw.Kit().Stats(); s.OverLimit != 0 {
				t.Errorf("%d calls over a limit: %v", s.OverLimit, s.Over)
			}
			if took := clock.Now().Sub(began).Round(time.Minute); took != time.Duration(tt.minutes)*time.Minute {
				t.Errorf("took %v, want %d minutes", took, tt.minutes)
			}
		})
	}
}

// A record that was updated too often is put off; the others are not, and neither is anything else.
func TestRecordLimitDelaysItsRecordAlone(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw, gate := guarded(t, clock, zendesktwin.Options{}, nil)
	ids := make([]string, 3)
	for i := range ids {
		id, err := tw.Edit(zendesk.Organization, "", map[string]any{"name": fmt.Sprint("Northwind ", i)})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
	}
	began := clock.Now()
	for round := range 8 {
		var writes []platform.Write
		for i, id := range ids {
			if i == 0 || round%4 == 0 {
				writes = append(writes, platform.Write{Ref: record.Ref{Platform: record.Zendesk, Object: zendesk.Organization, ID: id}, External: fmt.Sprint("customer-", i),
					Fields: map[string]any{"details": fmt.Sprint(round)}})
			}
		}
		for i, w := range c.Write(t.Context(), writes) {
			switch tooOften := i == 0 && round >= 5; {
			case !tooOften && w.Err != nil:
				t.Errorf("round %d, organization %d: %v", round, i, w.Err)
			case tooOften && (!fault.Is(w.Err, fault.Throttled) || budget.Refused(w.Err) || !fault.RetryAt(w.Err).Equal(began.Add(time.Minute))):
				t.Errorf("round %d: %v, to be tried again at %v, want a minute after the first", round, w.Err, fault.RetryAt(w.Err))
			}
		}
	}
	s := tw.Kit().Stats()
	if s.OverLimit != 3 || s.Over["update-organization/"+ids[0]] != 3 {
		t.Errorf("over a limit: %v", s.Over)
	}
	if slices.ContainsFunc(gate.Said(), func(r budget.Reading) bool { return strings.Contains(r.Limit, "organization") }) {
		t.Error("the limit of one record is read as one of all")
	}
}
