package budget

import (
	"maps"
	"slices"
	"time"
)

// Outlook is what a platform lets us call from now on: what those go by who decide what to begin.
type Outlook struct {
	Open   bool      // the breaker is open: nothing is called before Until, and one call then finds out
	Until  time.Time // end of the pause, zero where there is none
	Reason string    // of the pause
	// Room is about how many calls of each class there is room for in the next minute. What a class may use, those more
	// urgent may use too. A class that is not named has no limit.
	Room   map[Class]int
	Limits []LimitState
}

// LimitState is how one limit stands.
type LimitState struct {
	Name   string        `json:"name"`
	Max    int           `json:"max"`
	Left   int           `json:"left"`
	Window time.Duration `json:"windowNs,omitempty"` // 0 = calls at once
	Reset  time.Time     `json:"reset,omitzero"`
}

// atOnce is how many calls one slot is taken to make in a minute: a call, or a short window, is about a second.
const atOnce = 60

// aMinute is how far an outlook goes.
const aMinute = time.Minute

// Outlook tells how things stand at a time.
func (s State) Outlook(now time.Time) Outlook {
	s = s.clone()
	o := Outlook{Room: map[Class]int{}}
	for _, name := range slices.Sorted(maps.Keys(s.Limits)) {
		c := s.Limits[name]
		c.age(now)
		most := c.most(now)
		used, soon := 0, 0
		if counted(c.Window) {
			given, _ := s.given(c, name, "", now)
			used = c.used(now) + given
			later := *c
			later.Spent, later.Asked, later.Use = maps.Clone(c.Spent), nil, nil
			later.age(now.Add(aMinute))
			soon = later.used(now.Add(aMinute)) + given
		} else {
			for _, w := range s.Workers {
				if w.Ends.Add(Margin).After(now) {
					used += w.Held[name].Slots
				}
			}
			used += c.Others.at(now)
		}
		l := LimitState{Name: name, Max: most, Left: max(0, most-used), Window: c.Window, Reset: c.Closed}
		if !l.Reset.After(now) {
			l.Reset = time.Time{}
			if parts := slices.Sorted(maps.Keys(c.Spent)); l.Left == 0 && len(parts) > 0 {
				l.Reset = time.Unix(0, parts[0]*int64(c.part())).UTC()
			}
		}
		o.Limits = append(o.Limits, l)
		if name != Calls {
			continue
		}
		for rank, class := range Classes() {
			room := max(0, ceiling(most, rank)-soon)
			if !counted(c.Window) {
				room = ceiling(most, rank) * atOnce
			}
			if c.Closed.After(now.Add(aMinute)) {
				room = 0
			}
			o.Room[class] = room
		}
	}
	b := s.Breaker
	switch {
	case b.Open:
		o.Open, o.Until, o.Reason = true, b.Until, b.Reason
		if now.Before(b.ProbeEnds) {
			o.Until = latest(o.Until, earliest(b.ProbeEnds, now.Add(Fresh)))
		}
	case s.Paused.After(now):
		o.Until, o.Reason = s.Paused, "the vendor asked for a pause"
	}
	if !o.Open && !o.Until.After(now) {
		o.Until = time.Time{}
	}
	for _, class := range Classes() {
		room, limited := o.Room[class]
		switch {
		case o.Until.After(now.Add(aMinute)):
			o.Room[class] = 0
		case o.Open && !limited: // somebody has to make the call that closes it
			o.Room[class] = 1
		case o.Open:
			o.Room[class] = min(1, room)
		}
	}
	return o
}
