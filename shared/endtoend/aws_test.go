//go:build linux || darwin

package endtoend

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
)

// The story over DynamoDB Local and ElasticMQ: the adapters of AWS run the same world as the embedded ones.
func TestStoryOnAWSProtocols(t *testing.T) {
	dynamo, sqs := localservers.DynamoDB(t), localservers.SQS(t)
	const patience = 90 * time.Second // a message whose receiver stopped comes back after its visibility
	s := newStage(t, func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return boot.Endpointed(ctx, boot.AWSEndpoints(dynamo, sqs), "sorrel-endtoend", set, platforms, recorder)
	})

	customer := s.edit("customer", "", customerFields("LILAS", "LILA-Supermercado"))
	order := s.edit("salesOrder", "", orderFields(customer, "SO-1"))
	shows := func(order, salesforce, zendesk string) {
		t.Helper()
		s.eventually(patience, "both targets show "+zendesk, func() error { return orderShows(s.twins, order, salesforce, zendesk) })
	}
	shows(order, "Pending Fulfilment", "pending_fulfilment")
	s.edit("salesOrder", order, statusField("D"))
	shows(order, "Partially Fulfilled", "partially_fulfilled")
	s.settle(patience)

	// Zendesk is away while the order moves, and the host stops and starts with the work still due.
	id := minted("order", "salesOrder", order)
	before := s.writes(record.Zendesk)
	s.faults(record.Zendesk, twin.Faults{Outage: true})
	for _, step := range [][2]string{{"F", "Pending Billing"}, {"G", "Billed"}} {
		s.edit("salesOrder", order, statusField(step[0]))
		s.eventually(patience, "Salesforce keeps flowing", func() error {
			o, err := only(s.twins.Salesforce.All("Order"), "Sorrel_Id__c", id.External())
			if err == nil && o["ERP_Status__c"] != step[1] {
				err = fmt.Errorf("it shows %v, want %s", o["ERP_Status__c"], step[1])
			}
			return err
		})
	}
	s.halt()
	s.start()
	s.faults(record.Zendesk, twin.Faults{})
	shows(order, "Billed", "billed")
	s.settle(patience)
	if n := s.writes(record.Zendesk) - before; n != 1 {
		t.Errorf("Zendesk caught up with %d writes, want 1", n)
	}

	// What a sales rep sets is put back.
	o, err := only(s.twins.Salesforce.All("Order"), "Sorrel_Id__c", id.External())
	if err != nil {
		t.Fatal(err)
	}
	before = s.writes(record.Salesforce)
	if _, err := s.twins.Salesforce.Edit("Order", fmt.Sprint(o["Id"]), map[string]any{"ERP_Status__c": "Cancelled"}); err != nil {
		t.Fatal(err)
	}
	s.eventually(patience, "it is put back", func() error {
		if s.writes(record.Salesforce) == before {
			return errors.New("nothing was written yet")
		}
		return orderShows(s.twins, order, "Billed", "billed")
	})
	s.settle(patience)
	s.noTrouble()

	s.price(customer, patience)
}

// price counts what one milestone of a known order costs on DynamoDB: hub, both deliveries, and the echo that
// Salesforce sends. The sweep, whose price does not depend on changes, is off.
func (s *stage) price(customer string, patience time.Duration) {
	s.Helper()
	var orders []string
	for i := range 10 {
		orders = append(orders, s.edit("salesOrder", "", orderFields(customer, fmt.Sprintf("PRICE-%d", i))))
	}
	for _, o := range orders {
		s.eventually(patience, "the orders arrive", func() error { return orderShows(s.twins, o, "Pending Fulfilment", "pending_fulfilment") })
	}
	s.settle(patience)
	s.halt()
	s.sweep = -1
	s.start()
	wrote := map[string]int{}
	for p := range s.twins.Kits() {
		wrote[p] = s.writes(p)
	}
	for _, o := range orders {
		s.edit("salesOrder", o, statusField("D"))
	}
	for _, o := range orders {
		s.eventually(patience, "the milestones arrive", func() error { return orderShows(s.twins, o, "Partially Fulfilled", "partially_fulfilled") })
	}
	s.eventually(patience, "the echoes are heard", func() error { // asks only the queues, so that it costs the store nothing
		if err := s.twins.Drain(s.Context()); err != nil {
			return err
		}
		for name, q := range s.world.Queues {
			if d, err := q.Depth(s.Context()); err != nil || d.Visible+d.InFlight > 0 {
				return fmt.Errorf("%s holds %+v: %w", name, d, err)
			}
		}
		return nil
	})
	for p, before := range wrote { // however many workers meet over one record
		want := 0
		if p == record.Salesforce || p == record.Zendesk {
			want = len(orders)
		}
		if got := s.writes(p) - before; got != want {
			s.Errorf("%d milestones cost %d writes to %s, want %d", len(orders), got, p, want)
		}
	}
	c, n := s.world.Telemetry.Snapshot().Counters, float64(len(orders))
	for p := range wrote {
		if reads := c["ProviderReads."+p] + c["ReadBacks."+p]; reads > 0 {
			s.Errorf("milestones cost %v reads of %s", reads, p)
		}
	}
	requests, read, write := c["StoreRequests"]/n, c["StoreReadUnits"]/n, c["StoreWriteUnits"]/n
	s.Logf("one milestone to two targets: %.1f DynamoDB requests, %.1f read units, %.1f write units", requests, read, write)
	// By the ledger's table of prices and a state of 4 KB: 16 write units for the hub, 12 for each delivery and up to 12
	// for the echo; half as much again for commits that lose a race.
	if write < 20 || write > 90 || requests < 6 || requests > 25 {
		s.Errorf("a milestone costs %.1f requests and %.1f write units: compare with the table of prices in package ledger", requests, write)
	}
}
