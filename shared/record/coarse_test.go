package record

import (
	"testing"
	"time"
)

// A read that saw the record somewhere in the second of our write says nothing about who set what it shows: the form that
// the platform gave to our value stays known.
func TestReadInTheSecondOfAnEcho(t *testing.T) {
	t.Parallel()
	second := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	asked, made := TextValue("0316 1"), TextValue("+43 316 1")
	v := Confirm(View{Ref: Ref{Platform: Salesforce, Object: "Account", ID: "1"}}, View{}, map[string]Value{"phone": asked}, Version{}, second.Add(300*time.Millisecond), "ours")
	v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: second, Seq: 7}, Ours: true, Fields: map[string]Value{"phone": made}})
	for _, at := range []Version{{At: second}, {At: second, Final: true}, {At: second.Add(time.Minute)}} {
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: at, Fields: map[string]Value{"phone": made}})
		if holds, origin := v.Holds("phone"); holds != made || origin != FromSorrel {
			t.Errorf("after a read at %+v it holds %v from %q, want %v from sorrel", at, holds, origin, made)
		}
	}
}
