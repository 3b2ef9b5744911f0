package record

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Since when a value is said that we have written over: since it was set again, whoever else saves the record before or
// later, and in whatever order all that is heard.
func TestSinceOurWrite(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	p, b, q := TextValue("p"), TextValue("b"), TextValue("q")
	ref := Ref{Platform: NetSuite, Object: "customer", ID: "1"}
	type word struct {
		at    int // seconds
		value Value
	}
	said := func(w word) Observation {
		return Observation{Ref: ref, Version: Version{At: now.Add(time.Duration(w.at) * time.Second)}, Fields: map[string]Value{"phone": w.value}, Timed: map[string]bool{"phone": true}}
	}
	const none, base, write = 0, 10, 20
	for name, test := range map[string]struct {
		told   int
		after  []word
		want   int
		origin Origin
	}{
		"nothing":                               {write, nil, base, FromSorrel},
		"set again":                             {write, []word{{30, p}}, 30, FromPlatform},
		"set again, and saved later":            {write, []word{{30, p}, {40, p}, {50, p}}, 30, FromPlatform},
		"set again at once":                     {write, []word{{21, p}}, 21, FromPlatform},
		"saved before the write":                {write, []word{{15, p}}, base, FromSorrel},
		"set again after something else":        {write, []word{{30, q}, {40, p}}, 40, FromPlatform},
		"something else":                        {write, []word{{30, p}, {40, q}}, 40, FromPlatform},
		"ours said back":                        {write, []word{{30, b}}, 30, FromSorrel},
		"untold: set again":                     {none, []word{{30, p}}, 30, FromPlatform},
		"untold: set again, and saved later":    {none, []word{{30, p}, {40, p}}, 30, FromPlatform},
		"untold: saved before the write":        {none, []word{{15, p}}, base, FromPlatform},
		"untold: saved before, and set again":   {none, []word{{15, p}, {30, p}, {40, p}}, 30, FromPlatform},
		"untold: saved while clocks differ":     {none, []word{{22, p}}, base, FromPlatform},
		"untold: something else before it":      {none, []word{{15, q}}, 15, FromPlatform},
		"untold: something else, and set again": {none, []word{{15, q}, {30, p}, {40, p}}, 30, FromPlatform},
	} {
		before, _ := Observe(View{Ref: ref}, said(word{base, p}))
		told := Version{}
		if test.told != none {
			told = Version{At: now.Add(write * time.Second)}
		}
		v := Confirm(before, before, map[string]Value{"phone": b}, told, now.Add(write*time.Second), "ours")
		rng := rand.New(rand.NewPCG(1, 1))
		for range 10 {
			heard := v
			words := append([]word{{base, p}}, test.after...) // the first is heard once more
			words = append(words, test.after...)
			rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
			for _, w := range words {
				heard, _ = Observe(heard, said(w))
			}
			_, origin := heard.Holds("phone")
			if got := heard.Since("phone").At.Sub(now) / time.Second; int(got) != test.want || origin != test.origin {
				t.Errorf("%s: heard as %v it is said since %d by %q, want %d by %q", name, words, got, origin, test.want, test.origin)
			}
		}
	}
	// The word came before the write was confirmed.
	before, _ := Observe(View{Ref: ref}, said(word{base, p}))
	heard, _ := Observe(before, said(word{30, p}))
	v := Confirm(heard, before, map[string]Value{"phone": b}, Version{At: now.Add(write * time.Second)}, now.Add(35*time.Second), "ours")
	for range 2 {
		if got := v.Since("phone").At.Sub(now) / time.Second; got != 30 {
			t.Errorf("set again before the write was confirmed: since %d, want 30", got)
		}
		v, _ = Observe(v, said(word{40, p}))
	}
	w := Confirm(v, v, map[string]Value{"phone": q}, Version{}, now.Add(45*time.Second), "ours")
	if over := w.Wrote["phone"].Over; over.Value != p || !over.Said.Equal(now.Add(30*time.Second)) {
		t.Errorf("it replaced %+v, want p since 30", over)
	}
	if again, changed := Observe(w, said(word{base, p})); changed {
		t.Errorf("an old event changes it: %+v", again)
	}
}
