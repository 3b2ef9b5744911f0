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

// The answer to a write shows the form that the platform gave to our value, also where somebody else's read of that second came
// first and looked like an edit.
func TestReadBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	asked, made := TextValue("0316 1"), TextValue("+43 316 1")
	v := View{Ref: Ref{Platform: Zendesk, Object: "organization", ID: "1"}}
	version := Version{At: now}
	before := v
	v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now, Final: true}, Fields: map[string]Value{"phone": made}})
	v.Echo = &Echo{Version: version, Fields: map[string]Value{"phone": made}}
	v = Confirm(v, before, map[string]Value{"phone": asked}, version, now.Add(time.Second), "ours")
	if holds, origin := v.Holds("phone"); holds != made || origin != FromSorrel {
		t.Errorf("it holds %v from %q, want %v from sorrel", holds, origin, made)
	}
}

// Somebody sets a value while ours is on its way, and the echo of ours comes before the answer to the write. It says which of the
// two was first, where nothing else does.
func TestEchoBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	theirs, ours := TextValue("a"), TextValue("d")
	for _, first := range []bool{true, false} {
		v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
		before := v
		said, echo := now.Add(2*time.Minute), now.Add(2*time.Minute+2*time.Second)
		if !first {
			said, echo = echo, said
		}
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: said}, Fields: map[string]Value{"phone": theirs}})
		v.Echo = &Echo{Version: Version{At: echo}, Fields: map[string]Value{"phone": ours}}
		v = Confirm(v, before, map[string]Value{"phone": ours}, Version{}, now.Add(3*time.Second), "ours")
		want := theirs
		if first {
			want = ours
		}
		if holds, origin := v.Holds("phone"); holds != want {
			t.Errorf("they were first %t: it holds %v from %q, want %v", first, holds, origin, want)
		}
	}
}

// The echo of a write, as it was, comes before that of the write before, by minutes: that does not pass for what the platform
// makes of the last one, whatever its clock says, and somebody who sets it later is heard.
func TestLateEchoOfTheWriteBefore(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	a, b := TextValue("a"), TextValue("b")
	for _, ahead := range []time.Duration{0, 3 * time.Minute, -3 * time.Minute} {
		for _, whole := range []bool{true, false} {
			v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
			echo := func(at time.Time, said Value) {
				o := Observation{Ref: v.Ref, Version: Version{At: at.Add(ahead)}, Ours: true, Fields: map[string]Value{"phone": said}}
				if whole {
					o.Fields, o.Echo = nil, o.Fields
				}
				v, _ = Observe(v, o)
			}
			v = Confirm(v, v, map[string]Value{"phone": a}, Version{}, now, "one")
			second := now.Add(10 * time.Minute)
			v = Confirm(v, v, map[string]Value{"phone": b}, Version{}, second, "two")
			echo(second, b)
			echo(now, a)
			v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now.Add(time.Hour)}, Fields: map[string]Value{"phone": a}})
			if holds, origin := v.Holds("phone"); holds != a || origin != FromPlatform {
				t.Errorf("ahead by %v, whole %t: it holds %v from %q, want what somebody set", ahead, whole, holds, origin)
			}
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

// Somebody reads while we write, and hears of our last write for the first time: nobody has set that again. Who sets it in that
// moment is heard.
func TestReadWhileWeWrite(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	a, b := TextValue("a"), TextValue("b")
	before := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
	before = Confirm(before, before, map[string]Value{"phone": a}, Version{}, now, "one")
	for _, then := range []struct {
		at     time.Time
		holds  Value
		origin Origin
	}{
		{now, b, FromSorrel},
		{now.Add(5 * time.Minute), b, FromSorrel}, // a clock ahead
		{now.Add(6 * time.Hour), a, FromPlatform},
		{now.Add(6*time.Hour - 5*time.Minute), a, FromPlatform}, // a clock behind
	} {
		v, _ := Observe(before, Observation{Ref: before.Ref, Version: Version{At: then.at}, Fields: map[string]Value{"phone": a}})
		v = Confirm(v, before, map[string]Value{"phone": b}, Version{}, now.Add(6*time.Hour), "two")
		if holds, origin := v.Holds("phone"); holds != then.holds || origin != then.origin {
			t.Errorf("as of %s it holds %v from %q, want %v from %q", then.at, holds, origin, then.holds, then.origin)
		}
	}
}

// Two writes fall into one second of a platform's clock, and their echoes come in either order: what somebody sets later on
// is heard, also if it is what the earlier write set.
func TestEchoesOfOneSecond(t *testing.T) {
	t.Parallel()
	second := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	agreed, b, made := TextValue("as agreed"), TextValue("b"), TextValue("b!")
	wrote := func() View {
		v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
		v = Confirm(v, v, map[string]Value{"terms": agreed}, Version{}, second.Add(100*time.Millisecond), "one")
		return Confirm(v, v, map[string]Value{"terms": b}, Version{}, second.Add(600*time.Millisecond), "two")
	}
	for name, echo := range map[string]func(Value) Observation{
		"whole record": func(said Value) Observation { return Observation{Ours: true, Echo: map[string]Value{"terms": said}} },
		"field by field": func(said Value) Observation {
			return Observation{Ours: true, Fields: map[string]Value{"terms": said}}
		},
	} {
		for _, said := range [][]Value{{agreed, b}, {b, agreed}, {agreed}} {
			v := wrote()
			hear := func(o Observation, at time.Time) {
				o.Ref, o.Version = v.Ref, Version{At: at}
				v, _ = Observe(v, o)
			}
			for _, one := range said {
				hear(echo(one), second)
			}
			hear(Observation{Fields: map[string]Value{"terms": agreed}}, second.Add(time.Hour))
			if holds, origin := v.Holds("terms"); holds != agreed || origin != FromPlatform {
				t.Errorf("%s: after echoes of %v it holds %v from %q, want what somebody set", name, said, holds, origin)
			}
		}
		v := wrote()
		o := echo(made)
		o.Ref, o.Version = v.Ref, Version{At: second}
		if v, _ = Observe(v, o); v.Wrote["terms"].Back.Value != made {
			t.Errorf("%s: the form that the platform gave to it is taken for %v, want %v", name, v.Wrote["terms"].Back.Value, made)
		}
	}
	v := wrote()
	v = Confirm(v, v, map[string]Value{"terms": TextValue("c")}, Version{}, second.Add(time.Hour), "three")
	if len(v.Past) != 0 {
		t.Errorf("an hour later it still remembers %v", v.Past)
	}
}

// An echo that came before its write was confirmed may be of another write: of the one before, or of one that was tried.
// It says nothing about this one, unless it is the very answer to it.
func TestEchoBeforeItsConfirmation(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	a, b, c := TextValue("a"), TextValue("b"), TextValue("c")
	ref := Ref{Platform: Salesforce, Object: "Account", ID: "1"}
	first := Confirm(View{Ref: ref}, View{}, map[string]Value{"phone": a}, Version{}, now, "one")
	tried := map[string][]Value{"phone": {b}}
	later := Version{At: now.Add(time.Second)}
	for name, test := range map[string]struct {
		echo Echo
		ours Value
		told Version
		want Value
	}{
		"echo of the write before":  {echo: Echo{later, map[string]Value{"phone": a}}},
		"echo of what was tried":    {echo: Echo{later, map[string]Value{"phone": b}}},
		"said of the write before":  {ours: a},
		"said of what was tried":    {ours: b},
		"the answer":                {echo: Echo{later, map[string]Value{"phone": b}}, told: later, want: b},
		"echo of something unknown": {echo: Echo{later, map[string]Value{"phone": TextValue("c!")}}, want: TextValue("c!")},
	} {
		v := first
		if !test.ours.IsAbsent() {
			v, _ = Observe(v, Observation{Ref: ref, Version: later, Ours: true, Fields: map[string]Value{"phone": test.ours}})
		}
		if test.echo.Fields != nil {
			v.Echo = &test.echo
		}
		v = ConfirmAmong(v, first, map[string]Value{"phone": c}, tried, test.told, now.Add(2*time.Second), "two")
		if got := v.Wrote["phone"].Back.Value; got != test.want {
			t.Errorf("%s: it is taken for %v, want %v", name, got, test.want)
		}
	}
}

// A write that its own echo has confirmed already still replaced what somebody had set.
func TestConfirmedByItsEcho(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	theirs, ours := TextValue("theirs"), TextValue("ours")
	ref := Ref{Platform: Salesforce, Object: "Account", ID: "1"}
	before, _ := Observe(View{Ref: ref}, Observation{Ref: ref, Version: Version{At: now}, Fields: map[string]Value{"phone": theirs}, Trace: "t"})
	v, _ := Observe(before, Observation{Ref: ref, Version: Version{At: now.Add(time.Second)}, Fields: map[string]Value{"phone": ours}})
	v = Confirm(v, v, map[string]Value{"phone": ours}, Version{}, now.Add(time.Second), "echo")
	v = Confirm(v, before, map[string]Value{"phone": ours}, Version{}, now.Add(time.Second), "write")
	if over := v.Wrote["phone"].Over; over.Value != theirs || over.Trace != "t" {
		t.Errorf("it replaced %+v, want %v", over, theirs)
	}
}

// An echo that comes late, of a write before this one, shows what was there before: what somebody sets later on is heard, also
// if it is that.
func TestLateEchoOfAnotherWrite(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	a, c := TextValue("a"), TextValue("c")
	for name, test := range map[string]struct {
		street time.Duration // when another field is written; zero: never
		echo   time.Duration
		made   bool // it is this write's
	}{
		"of another field":      {street: 20*time.Minute - 2*time.Second, echo: 20*time.Minute - 3*time.Second},
		"of long before":        {echo: 18 * time.Minute},
		"of this write":         {echo: 20 * time.Minute, made: true},
		"of this, after others": {street: 20*time.Minute - 2*time.Second, echo: 20*time.Minute - time.Second, made: true},
	} {
		for _, partial := range []bool{false, true} {
			v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
			v = Confirm(v, v, map[string]Value{"phone": a}, Version{}, now, "one")
			if test.street > 0 {
				v = Confirm(v, v, map[string]Value{"street": c}, Version{}, now.Add(test.street), "two")
			}
			v = Confirm(v, v, map[string]Value{"phone": c}, Version{}, now.Add(20*time.Minute), "three")
			o := Observation{Ref: v.Ref, Version: Version{At: now.Add(test.echo)}, Ours: true}
			if said := map[string]Value{"phone": a}; partial {
				o.Fields = said
			} else {
				o.Echo = said
			}
			v, _ = Observe(v, o)
			v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now.Add(time.Hour)}, Fields: map[string]Value{"phone": a}})
			want := FromPlatform
			if test.made {
				want = FromSorrel
			}
			if holds, origin := v.Holds("phone"); holds != a || origin != want {
				t.Errorf("echo %s, partial %t: it holds %v from %q, want %v from %q", name, partial, holds, origin, a, want)
			}
		}
	}
}

// What a platform says that it held before the echo of our write is older than the write, however far its clock is ahead.
func TestSaidBeforeTheEcho(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	ours, theirs := TextValue("ours"), TextValue("theirs")
	const ahead = 2 * time.Minute
	for at, want := range map[time.Duration]Value{-5 * time.Second: ours, 5 * time.Second: theirs} {
		v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
		v = Confirm(v, v, map[string]Value{"phone": ours}, Version{}, now, "one")
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now.Add(ahead)}, Ours: true, Echo: map[string]Value{"phone": ours}})
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now.Add(ahead + at)}, Fields: map[string]Value{"phone": theirs}})
		if holds, _ := v.Holds("phone"); holds != want {
			t.Errorf("said %v after the echo: it holds %v, want %v", at, holds, want)
		}
	}
}

// Who sets a value again after each of three put-backs insists. A put-back that is written twice counts once, and none of
// those before counts when it is another value that is put there.
func TestInsists(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	theirs, ours, other := TextValue("theirs"), TextValue("ours"), TextValue("other")
	set := func(v View) View {
		now = now.Add(time.Minute)
		v, _ = Observe(v, Observation{Ref: v.Ref, Version: Version{At: now}, Fields: map[string]Value{"phone": theirs}})
		return v
	}
	write := func(v View, value Value) View {
		now = now.Add(time.Minute)
		return Confirm(v, v, map[string]Value{"phone": value}, Version{}, now, "")
	}
	expect := func(what string, v View, want Origin) {
		t.Helper()
		if _, origin := set(v).Holds("phone"); origin != want {
			t.Errorf("%s: it is from %q, want %q", what, origin, want)
		}
	}
	v := View{Ref: Ref{Platform: NetSuite, Object: "customer", ID: "1"}}
	for range 2 {
		v = write(set(v), ours)
	}
	expect("put back twice", v, FromPlatform)
	before := set(v)
	once := write(before, ours)
	expect("put back three times", once, FromSorrel)
	v = View{Ref: v.Ref}
	said := set(v)
	v = write(said, ours)
	for range 3 { // by workers that have not heard of each other
		now = now.Add(time.Second)
		v = Confirm(v, said, map[string]Value{"phone": ours}, Version{}, now, "")
	}
	expect("put back once, written four times", v, FromPlatform)
	expect("another value", write(set(once), other), FromPlatform)
}
