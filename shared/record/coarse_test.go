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

// The echo of one write passes for what the platform makes of the next one's value, until the next one's echo shows that it
// keeps it: somebody who sets the earlier value later on is heard.
func TestEchoOfTheWriteBefore(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	a, b := TextValue("a"), TextValue("b")
	v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
	echo := func(v View, at time.Time, said Value) View {
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: at}, Ours: true, Echo: map[string]Value{"phone": said}})
		return v
	}
	v = Confirm(v, v, map[string]Value{"phone": a}, Version{}, now, "one")
	v = Confirm(v, v, map[string]Value{"phone": b}, Version{}, now.Add(time.Second), "two")
	v = echo(echo(v, now, a), now.Add(time.Second), b)
	v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now.Add(time.Hour)}, Fields: map[string]Value{"phone": a}})
	if holds, origin := v.Holds("phone"); holds != a || origin != FromPlatform {
		t.Errorf("it holds %v from %q, want what somebody set", holds, origin)
	}
}
