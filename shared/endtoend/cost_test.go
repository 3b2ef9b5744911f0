//go:build linux || darwin

package endtoend

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"sorrel/shared/bench"
	"sorrel/shared/boot"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/record"
)

// What each kind of change costs, counted over DynamoDB Local and ElasticMQ.
func TestCostOfChanges(t *testing.T) {
	dynamo, sqs := localservers.DynamoDB(t), localservers.SQS(t)
	r, err := bench.Changes(t.Context(), bench.ChangesOptions{DynamoDB: dynamo, SQS: sqs, Dir: t.TempDir()})
	var table bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if err != nil {
		t.Fatal(err)
	}
	// The promise, in words: an edit is heard of once, committed once, and written once to each platform that it concerns.
	// Nothing is read, but where webhooks carry no values.
	affected := map[string][]string{
		"credit limit edited": {record.Salesforce, record.Zendesk, record.ServiceNow},
		"edit told twice":     {record.Salesforce, record.Zendesk, record.ServiceNow},
		"edit in Salesforce":  {record.ServiceNow},
		"edit in Zendesk":     {record.NetSuite, record.Salesforce, record.ServiceNow},
		"edit in ServiceNow":  {record.Salesforce, record.Zendesk},
		"order milestone":     {record.Salesforce, record.Zendesk},
	}
	for _, c := range r.Changes {
		writes, edit := affected[c.Change]
		if !edit {
			continue
		}
		delete(affected, c.Change)
		if c.Inbound != 1 || c.Stages["hub"].Commits != 1 || c.Stages["deliver"].Commits != len(writes) {
			t.Errorf("%s: %d inbound messages, commits %+v", c.Change, c.Inbound, c.Stages)
		}
		for _, p := range boot.Platforms() {
			want := bench.Provider{}
			if slices.Contains(writes, p) {
				want.Writes = 1
			}
			if p == record.Zendesk && c.Change == "edit in Zendesk" {
				want.Reads = 1 // its events carry no fields of our own
			}
			if got := c.Providers[p]; got != want {
				t.Errorf("%s: %s had %+v, want %+v", c.Change, p, got, want)
			}
		}
	}
	if len(affected) > 0 {
		t.Errorf("not counted: %v", affected)
	}
	plain, err := bench.Changes(t.Context(), bench.ChangesOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range plain.Changes { // bench's own estimate of an item's size may be a unit off at a border
		a, b := c.DynamoDB, r.Changes[i].DynamoDB
		if a.Requests != b.Requests || math.Abs(a.Read-b.Read) > 2 || math.Abs(a.Write-b.Write) > 6 {
			t.Errorf("%s: priced in memory at %+v, DynamoDB %+v", c.Change, a, b)
		}
	}
}
