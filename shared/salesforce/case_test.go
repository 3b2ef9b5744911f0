package salesforce_test

import (
	"testing"

	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/salesforce/salesforcetwin"
)

// A write leaves a case with whoever has it: the org's assignment rules, and its default owner, are not asked.
func TestCaseKeepsItsOwner(t *testing.T) {
	t.Parallel()
	c, twin := start(t, platformtest.NewClock().Now, salesforcetwin.Options{}, nil)
	write := func(id string, fields map[string]any) string {
		t.Helper()
		got := c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Platform: record.Salesforce, Object: "Case", ID: id}, External: "case-1", Fields: fields}})[0]
		if got.Err != nil {
			t.Fatal(got.Err)
		}
		return got.ID
	}
	id := write("", map[string]any{"Subject": "Pump alarm", "Support_Number__c": "5158"})
	if _, err := twin.Edit("Case", id, map[string]any{"OwnerId": salesforcetwin.Person}); err != nil {
		t.Fatal(err)
	}
	write(id, map[string]any{"Support_Status__c": "Open"})
	if got, _ := twin.Get("Case", id); got["OwnerId"] != salesforcetwin.Person || got["Support_Status__c"] != "Open" {
		t.Errorf("the case is %v", got)
	}
}
