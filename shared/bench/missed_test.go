package bench

import (
	"testing"

	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// A copy that is not there is lost only if Sorrel knows of the edit and nothing is due.
func TestMissedTellsLostFromLate(t *testing.T) {
	t.Parallel()
	a := arrival{platform: record.Zendesk, phone: "+43 2"}
	golden := func(phone string, due ...string) ledger.State {
		s := ledger.State{Record: record.Record{Golden: map[string]record.Golden{"phone": {Value: record.TextValue(phone)}}}, Due: map[string]ledger.Due{}}
		for _, p := range due {
			s.Due[p] = ledger.Due{}
		}
		return s
	}
	var m missed
	for _, s := range []ledger.State{golden("+43 1"), golden("+43 1", record.Zendesk), golden("+43 2", record.Zendesk), golden("+43 2", record.Salesforce), golden("+43 2")} {
		m.add(s, a)
	}
	if m != (missed{unheard: 2, due: 1, lost: 2}) {
		t.Errorf("%+v", m)
	}
}
