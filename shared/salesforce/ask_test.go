package salesforce

import (
	"fmt"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

const ended = `{"source":"aws.partner/salesforce.com/00Dxx0000001gEREAY/x","detail":{"payload":{"ChangeEventHeader":{"entityName":"Account",
	"recordIds":["001xx000003DGb2AAG","001xx000003DGb3AAG"],"changeType":"DELETE","transactionKey":"k","sequenceNumber":1,"commitTimestamp":1793606400250,"commitNumber":7}}}}`

// What the org answers about deleted records: an erased one is gone, an answer that is cut short is none.
func TestFollowedDeletions(t *testing.T) {
	t.Parallel()
	const merged = `{"Id":"001xx000003DGb2AAG","MasterRecordId":"001xx000003DGb9AAG"}`
	for name, test := range map[string]struct {
		status int
		body   string
		into   string
		second string // what is known of the other record
	}{
		"erased":    {200, `{"done":true,"records":[` + merged + `]}`, "001xx000003DGb9AAG", "gone"},
		"cut short": {200, `{"done":false,"records":[` + merged + `]}`, "001xx000003DGb9AAG", "hint"},
		"refused":   {403, `[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"x"}]`, "hint", "hint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := scripted(t, test.status, test.body)
			c.sources = []string{"aws.partner/salesforce.com/"}
			d, err := c.Event(t.Context(), []byte(ended), fixed())
			if err != nil || len(d.Natives) != 2 {
				t.Fatalf("%+v %v", d, err)
			}
			say := func(n record.Native) string {
				switch {
				case n.Hint():
					return "hint"
				case n.Into != "":
					return n.Into
				}
				return "gone"
			}
			if say(d.Natives[0]) != test.into || say(d.Natives[1]) != test.second {
				t.Errorf("%+v", d.Natives)
			}
		})
	}
}

// A deletion from the future is not believed, whatever the org says of the record.
func TestDeletionFromTheFuture(t *testing.T) {
	t.Parallel()
	c, signIns := scripted(t, 200, `{"done":true,"records":[{"Id":"001xx000003DGb2AAG","MasterRecordId":"001xx000003DGb9AAG"}]}`)
	c.sources = []string{"aws.partner/salesforce.com/"}
	d, err := c.Event(t.Context(), []byte(ended), fixed().Add(-time.Hour))
	if err != nil || !d.Natives[0].Hint() || d.Natives[0].Into != "" || *signIns != 0 {
		t.Errorf("%+v %v, %d sign-ins", d, err, *signIns)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	c, _ := scripted(t, 200, `{"fields":[{"name":"Kinds__c","type":"multipicklist","restrictedPicklist":true,"picklistValues":[{"active":true,"value":"a"},{"active":true,"value":"b"},{"active":false,"value":"old"}]}]}`)
	for value, want := range map[string]bool{"a": true, "a;b": true, "a;c": false, "old": false} {
		if got, err := c.Accepts(t.Context(), "Account", "Kinds__c", value); err != nil || got != want {
			t.Errorf("%q: %v %v", value, got, err)
		}
	}
	for _, body := range []string{`{}`, `{"fields":`, `<html>`} {
		c, _ := scripted(t, 200, body)
		if _, err := c.Accepts(t.Context(), "Account", "Kinds__c", "a"); !fault.Is(err, fault.Down) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A deletion that is refused for any other reason than that nothing is there stays an error.
func TestRefusedDeletions(t *testing.T) {
	t.Parallel()
	write := func(n int) []platform.Write {
		var all []platform.Write
		for i := range n {
			all = append(all, platform.Write{Ref: record.Ref{Object: "Account", ID: fmt.Sprintf("001xx000003DGb%d", i)}, Delete: true})
		}
		return all
	}
	for code, want := range map[string]fault.Class{"ENTITY_IS_DELETED": "", "NOT_FOUND": "", "INVALID_CROSS_REFERENCE_KEY": "",
		"INSUFFICIENT_ACCESS_OR_READONLY": fault.Refused, "DELETE_FAILED": fault.Refused, "UNABLE_TO_LOCK_ROW": fault.Conflict, "INVALID_TYPE": fault.NotFound} {
		status := 400
		if want == "" {
			status = 404
		}
		c, _ := scripted(t, status, fmt.Sprintf(`[{"errorCode":%q,"message":"x","fields":[]}]`, code))
		if err := c.Write(t.Context(), write(1))[0].Err; want == "" && err != nil || want != "" && !fault.Is(err, want) {
			t.Errorf("one, %s: %v, want %q", code, err, want)
		}
		c, _ = scripted(t, 200, fmt.Sprintf(`[{"success":false,"errors":[{"statusCode":%q,"message":"x"}]},{"success":true,"id":"001xx000003DGb1AAG","errors":[]}]`, code))
		if out := c.Write(t.Context(), write(2)); out[1].Err != nil || want == "" && out[0].Err != nil || want != "" && !fault.Is(out[0].Err, want) {
			t.Errorf("two, %s: %+v, want %q", code, out, want)
		}
	}
	c, _ := scripted(t, 404, `<html>nobody here</html>`)
	if err := c.Write(t.Context(), write(1))[0].Err; err == nil {
		t.Error("a 404 that is not the API's counts as deleted")
	}
}
