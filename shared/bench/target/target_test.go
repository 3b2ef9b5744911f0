package target_test

import (
	"testing"
	"time"

	"sorrel/shared/bench/load"
	"sorrel/shared/bench/target"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
)

// The real connector finds here what it uses of Salesforce: sign-in, single and collection writes, read-backs.
func TestSpeaksEnoughSalesforce(t *testing.T) {
	t.Parallel()
	tracker := load.NewTracker(3)
	to, err := target.Start(tracker, time.Now, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.Close)
	c, err := salesforce.New(salesforce.Config{URL: to.URL(), Credentials: target.Credentials(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	write := func(object, id, external, memo string) platform.Write {
		return platform.Write{Ref: record.Ref{Platform: record.Salesforce, Object: object, ID: id}, External: external, Fields: map[string]any{"Description": memo}}
	}
	if w := c.Write(t.Context(), []platform.Write{write("Account", "", "customer-a", "")}); w[0].Err != nil || !w[0].Created || !to.HasCustomer() {
		t.Fatalf("%+v", w)
	}
	first := c.Write(t.Context(), []platform.Write{write("Order", "", "order-a", load.Memo(1, 1)), write("Order", "", "order-b", load.Memo(2, 1))})
	again := c.Write(t.Context(), []platform.Write{write("Order", first[0].ID, "order-a", load.Memo(1, 2)), write("Order", first[1].ID, "order-b", load.Memo(2, 2))})
	alone := c.Write(t.Context(), []platform.Write{write("Order", first[0].ID, "order-a", load.Memo(1, 3))})
	for _, w := range append(append(first, again...), alone...) {
		if w.Err != nil || w.ID == "" {
			t.Fatalf("%+v", w)
		}
	}
	if !first[0].Created || again[0].Created || first[0].ID == first[1].ID {
		t.Errorf("%+v then %+v", first, again)
	}
	n, err := c.Find(t.Context(), "Order", "order-a")
	if err != nil || n.ID != first[0].ID || n.Fields["Description"] != load.Memo(1, 3) {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := c.Find(t.Context(), "Order", "order-z"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a record that is not there gives %v", err)
	}
	if w := c.Write(t.Context(), []platform.Write{write("Order", "801000000000000999", "order-z", "")}); w[0].Err == nil {
		t.Error("a record that is not there was updated")
	}
	if seen, _ := tracker.Reset(); seen.Writes != 5 || seen.OutOfOrder != 0 || seen.Twice != 0 {
		t.Errorf("%+v", seen)
	}
	if to.Calls() < 7 {
		t.Errorf("%d calls", to.Calls())
	}
}
