package record

import (
	"maps"
	"slices"
	"time"
)

// Observe merges an observation into its platform's view and reports whether anything changed. It is
// idempotent and commutative: cells merge by version, field by field.
//
// The second result is false for a stale or repeated observation: there is nothing to commit.
func Observe(v View, o Observation) (View, bool) {
	was := v
	v.Said = maps.Clone(v.Said)
	if v.Said == nil {
		v.Said = make(map[string]Cell, len(o.Fields))
	}
	changed := was.ID == ""
	if v.ID == "" {
		v.Ref = o.Ref
	}
	grow := func(at *Version, to Version) {
		if to.Compare(*at) > 0 {
			*at, changed = to, true
		}
	}
	if o.External != "" && o.External != v.External {
		// Both may be ours after a merge of records; which one is named does not matter, but it must not depend on order.
		if v.External == "" || o.External < v.External {
			v.External, changed = o.External, true
		}
	}
	if !o.Born.IsZero() {
		grow(&v.Born, Version{At: o.Born})
	}
	if o.Gone {
		if o.Into > v.Into { // what a merge said is not unsaid by a plain tombstone of the same death
			v.Into, changed = o.Into, true
		}
		grow(&v.Died, o.Version)
	}
	for f, value := range o.Fields {
		if value.IsAbsent() {
			continue
		}
		cell := Cell{Value: value, Version: o.Version, Trace: o.Trace, Ours: o.Ours, Actor: o.Actor}
		w, wrote := v.Wrote[f]
		if o.Timed[f] && (!wrote || o.Version.Compare(w.Base) > 0) { // since when something was said before our write is asked no more
			cell.Spans = map[Value]Span{value: {o.Version, o.Version}}
		}
		merged := mergeCells(v.Said[f], cell, w)
		if !merged.same(v.Said[f]) {
			changed = true
		}
		v.Said[f] = merged
	}
	if backs := saidBack(v, o); backs != nil {
		v.Wrote, changed = backs, true
	}
	for f, d := range o.Doubts {
		d.Version, d.Trace = o.Version, o.Trace
		merged := mergeCells(v.Said[f], Cell{Doubt: &d}, Wrote{})
		if !merged.same(v.Said[f]) {
			changed = true
		}
		v.Said[f] = merged
	}
	if o.Version.Compare(v.Heard) > 0 {
		// A newer version that says nothing new is worth remembering only together with a change:
		// Heard orders nothing; comparisons go by it. So the echo of a write of ours that shows beside it what nobody has told
		// (see Observation.Echo) does not count.
		if changed && (o.Echo == nil || v.KnowsAll(Observation{Echo: o.Echo})) {
			v.Heard = o.Version
		}
	}
	if !changed {
		return was, false
	}
	return v, true
}

// saidBack updates what is known about the form that the platform gives to what we wrote. It returns nil when that is
// nothing new.
//
// Where the platform's answer to a write shows the record, Confirm knows. Else the first that the platform says of a later
// change of ours is what it made of our value, unless people are known to have set that in between, or a write of ours
// just before: platforms' clocks are coarse, and echoes come in any order. See View.answers.
func saidBack(v View, o Observation) map[string]Wrote {
	var out map[string]Wrote
	set := func(f string, w Wrote, b Back) {
		if out == nil {
			out = maps.Clone(v.Wrote)
		}
		w.Back = b
		out[f] = w
	}
	for f, value := range o.Fields {
		w, wrote := v.Wrote[f]
		switch at := o.Version.Compare(w.Base); {
		case !wrote:
		case value == w.Value:
			// It keeps the value as it is, whatever the echo of an earlier write has seemed to say about this one, or may seem to say
			// when it comes at last. Where the platform's clock is ahead, the version seems too late for an echo: it is one all the same.
			if o.Ours && !w.Told && !w.When.IsZero() && at > 0 && (w.Back.Value != value || o.Version.Compare(w.Back.At) < 0) {
				set(f, w, Back{value, o.Version})
			}
		case w.Back.Value == w.Value:
		case o.Ours && slices.Contains(v.Past[f], value):
		case o.Ours && v.answers(w, o.Version) && (w.Back.At.IsZero() || o.Version.Compare(w.Back.At) < 0):
			set(f, w, Back{value, o.Version})
		case at > 0 && w.Back.Value == value && o.Version.Compare(w.Back.At) <= 0 && !o.Ours && !o.Version.within(w.Back.At):
			set(f, w, Back{})
		}
	}
	for f, value := range o.Echo {
		w, wrote := v.Wrote[f]
		said := v.Said[f]
		people := said.Value == value && said.Version.Compare(w.Base) > 0
		switch {
		case !wrote || people || w.Told || w.When.IsZero() || o.Version.Compare(w.Base) <= 0:
		case value == w.Value:
			if w.Back.Value != value {
				set(f, w, Back{value, o.Version})
			}
		case w.Back.Value == w.Value || slices.Contains(v.Past[f], value):
		case v.answers(w, o.Version) && (w.Back.At.IsZero() || o.Version.Compare(w.Back.At) < 0):
			set(f, w, Back{value, o.Version})
		}
	}
	return out
}

// echoed reports whether what was said by us at a version can be the echo of this write: its version was not told, and
// the change is not much later, nor much earlier. Clocks differ a little.
func (w Wrote) echoed(at Version) bool {
	return !w.Told && !w.When.IsZero() && at.Compare(w.Base) > 0 && at.At.Before(w.When.Add(echoWithin)) && at.At.After(w.When.Add(-echoAge))
}

// answers reports whether what was said by us at a version is the echo of w, as far as is known, and not of another write of
// ours. That of a later one says nothing about what w wrote: people may have set that since. That of an earlier one shows
// what was there before w.
func (v View) answers(w Wrote, at Version) bool {
	for _, other := range v.Wrote {
		if other.When.After(w.When) || other.When.Before(w.When) && !at.At.After(other.When) {
			return false
		}
	}
	return w.echoed(at)
}

const (
	echoWithin = 2 * time.Second
	echoAge    = time.Minute      // an older one is of another write
	longSaid   = 10 * time.Minute // what was said before that was said before a write of this moment, whatever the platform's clock
	maxPast    = 4                // values of a field that View.Past remembers: the newest
)

// mergeCells is the join of two cells of a field whose last write is w: associative, commutative, idempotent.
func mergeCells(a, b Cell, w Wrote) Cell {
	out := mergeValues(a, b)
	out.Spans = mergeSpans(a.Spans, b.Spans, w)
	out.Doubt = newerDoubt(a.Doubt, b.Doubt)
	if out.Doubt != nil && !out.Value.IsAbsent() && out.Version.Compare(out.Doubt.Version) > 0 {
		out.Doubt = nil
	}
	return out
}

func mergeValues(a, b Cell) Cell {
	switch {
	case a.Value.IsAbsent():
		return b
	case b.Value.IsAbsent():
		return a
	}
	switch c := a.Version.Compare(b.Version); {
	case c > 0:
		return a
	case c < 0:
		return b
	}
	if a.Value != b.Value {
		if a.Value.Compare(b.Value) < 0 {
			a, b = b, a
		}
		a.Tied = !a.Version.Final
		return a
	}
	a.Tied = a.Tied || b.Tied
	a.Ours = a.Ours || b.Ours
	a.Trace, a.Actor = earlier(a.Trace, b.Trace), earlier(a.Actor, b.Actor)
	return a
}

func mergeSpans(a, b map[Value]Span, w Wrote) map[Value]Span {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(a)
	if out == nil {
		out = make(map[Value]Span, len(b))
	}
	for v, s := range b {
		if was, known := out[v]; known {
			s.First = w.first(v, was, s)
			if was.Last.Compare(s.Last) > 0 {
				s.Last = was.Last
			}
		}
		out[v] = s
	}
	for len(out) > maxSpans {
		var oldest Value
		for v, s := range out {
			if c := s.Last.Compare(out[oldest].Last); oldest.IsAbsent() || c < 0 || c == 0 && v.Compare(oldest) < 0 {
				oldest = v
			}
		}
		delete(out, oldest)
	}
	return out
}

// first is when value began to be said in either of two spans: after w, or else ever.
func (w Wrote) first(value Value, a, b Span) Version {
	out := a.First
	for _, at := range []Version{a.Last, b.First, b.Last} {
		switch later, known := w.parts(value, at), w.parts(value, out); {
		case later && !known, later == known && at.Compare(out) < 0:
			out = at
		}
	}
	return out
}

func newerDoubt(a, b *Doubt) *Doubt {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	switch c := a.Version.Compare(b.Version); {
	case c > 0:
		return a
	case c < 0:
		return b
	}
	if a.Raw != b.Raw || a.Type != b.Type || a.Detail != b.Detail {
		if a.Type+"\x00"+a.Raw+"\x00"+a.Detail < b.Type+"\x00"+b.Raw+"\x00"+b.Detail {
			return b
		}
		return a
	}
	d := *a
	d.Trace = earlier(a.Trace, b.Trace)
	return &d
}

func earlier(a, b string) string {
	if a == "" || (b != "" && b < a) {
		return b
	}
	return a
}

func (c Cell) same(d Cell) bool {
	doubts := (c.Doubt == nil) == (d.Doubt == nil)
	if doubts && c.Doubt != nil {
		doubts = c.Doubt.Version.Compare(d.Doubt.Version) == 0 && c.Doubt.Type == d.Doubt.Type &&
			c.Doubt.Raw == d.Doubt.Raw && c.Doubt.Detail == d.Doubt.Detail && c.Doubt.Trace == d.Doubt.Trace
	}
	spans := maps.EqualFunc(c.Spans, d.Spans, func(s, t Span) bool { return s.First.Compare(t.First) == 0 && s.Last.Compare(t.Last) == 0 })
	return doubts && spans && c.Value == d.Value && c.Version.Compare(d.Version) == 0 && c.Trace == d.Trace && c.Actor == d.Actor &&
		c.Ours == d.Ours && c.Tied == d.Tied
}

// Confirm records in v that a write of fields reached the platform. before is the view that the write was
// computed from: what the platform had said by then counts as older than the write, and so does everything up
// to version, the platform's own version of the write, if it told one (else zero). An Echo of v is used up.
func Confirm(v, before View, fields map[string]Value, version Version, now time.Time, trace string) View {
	return ConfirmAmong(v, before, fields, nil, version, now, trace)
}

// ConfirmAmong is Confirm where writes of ours that nobody has confirmed may have set tried: should the platform say one
// of those, it says nothing about this write.
func ConfirmAmong(v, before View, fields map[string]Value, tried map[string][]Value, version Version, now time.Time, trace string) View {
	wrote := maps.Clone(v.Wrote)
	if wrote == nil {
		wrote = make(map[string]Wrote, len(fields))
	}
	pasts := maps.Clone(v.Past)
	for f, value := range fields {
		base := before.Said[f].Version
		if d := before.Said[f].Doubt; d != nil && d.Version.Compare(base) > 0 {
			base = d.Version
		}
		if version.Compare(base) > 0 {
			base = version
		}
		old := wrote[f]
		// Whoever reads while we write may hear of our last write for the first time: that says nothing about this one.
		if said := v.Said[f]; said.Value == old.Value && said.Version.Compare(base) > 0 && said.Version.At.Before(now.Add(-longSaid)) {
			base = said.Version
		}
		over := old.Over
		if was, origin := before.Holds(f); origin == FromPlatform && was != value {
			over = Over{Value: was, Said: before.Since(f).At, Trace: before.Said[f].Trace}
			if old.Over.Value == was && old.Value == value && now.Sub(old.When) < insisting {
				over.Again = old.Over.Again
				if over.Said.After(old.Over.Said) { // else it was not set again, but our write was repeated
					over.Again++
				}
			}
		} else if old.Value != value {
			over.Again = 0
		}
		if old.Base.Compare(base) > 0 { // a later write was confirmed meanwhile, or this one by its echo
			if old.Value == value {
				old.Over = over
				wrote[f] = old
			}
			continue
		}
		past := passed(v.Past[f], old, tried[f], value, now)
		switch {
		case past == nil:
			delete(pasts, f)
		case pasts == nil:
			pasts = map[string][]Value{f: past}
		default:
			pasts[f] = past
		}
		w := Wrote{Value: value, Base: base, When: now, Trace: trace, Over: over, Told: !version.IsZero() && version.Compare(base) == 0}
		said := v.Said[f]
		at := said.Version.Compare(base)
		people := at > 0 && !said.Ours && v.Echo != nil && said.Value == v.Echo.Fields[f]
		answer := w.Told && v.Echo != nil && v.Echo.Version.Compare(version) == 0 // else it may be of an earlier write
		var shown Value
		if v.Echo != nil && v.Echo.Version.Compare(base) >= 0 && v.Echo.Version.At.After(now.Add(-echoAge)) {
			shown = v.Echo.Fields[f]
		}
		kept := shown == value && !w.Told // where no version was told, the echo alone says when it was
		if form := shown != value && (answer || !people && !slices.Contains(past, shown)); !shown.IsAbsent() && (kept || form) {
			w.Back = Back{shown, v.Echo.Version}
		} else if !said.Value.IsAbsent() && at > 0 && said.Ours && !slices.Contains(past, said.Value) {
			w.Back = Back{said.Value, said.Version}
		}
		wrote[f] = w
	}
	if len(pasts) == 0 {
		pasts = nil
	}
	v.Wrote, v.Past, v.Echo = wrote, pasts, nil
	return v
}

// passed are the values that writes before one of value have set, or may have, and whose echoes may still come: of the
// last minute, and those that were tried since.
func passed(past []Value, old Wrote, tried []Value, value Value, now time.Time) []Value {
	var all []Value
	if !old.When.IsZero() && now.Sub(old.When) < echoAge {
		all = append(append(all, past...), old.Back.Value, old.Value)
	}
	var out []Value
	for _, v := range slices.Backward(append(all, tried...)) {
		if v != value && !v.IsAbsent() && !slices.Contains(out, v) && len(out) < maxPast {
			out = append(out, v)
		}
	}
	slices.Reverse(out)
	return out
}

// Buried records in v that a deletion reached the platform: whatever was said there by now is older.
func Buried(v View) View {
	v.Died = v.Heard
	if v.Born.Compare(v.Died) > 0 {
		v.Died = v.Born
	}
	if v.Died.IsZero() {
		v.Died.Seq = 1
	}
	return v
}
