package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/record"
)

// storedCarried is the record id that a native record carries. That of the record itself, the common case, is stored as
// true.
type storedCarried string

const carriesOwn storedCarried = "true" // no record id: those have a slash

// carried packs a record id that a native record of the record of carries.
func carried(of, id record.ID) storedCarried {
	if id == of && id != "" {
		return carriesOwn
	}
	return storedCarried(id)
}

// storedVersion is [RFC 3339 time, sequence, final].
type storedVersion struct {
	At    string `json:"at,omitempty"`
	Seq   int64  `json:"seq,omitempty"`
	Final bool   `json:"final,omitempty"`
}

type storedBack struct {
	Value record.Value   `json:"value"`
	At    record.Version `json:"at"`
}

type storedOver struct {
	Value record.Value `json:"value"`
	Said  time.Time    `json:"said"`
	Trace string       `json:"trace,omitempty"`
	Again int          `json:"again,omitempty"`
}

type storedSpan struct {
	Field string        `json:"field"`
	Value record.Value  `json:"value"`
	First storedVersion `json:"first"`
	Last  storedVersion `json:"last"`
}

func packVersion(v record.Version) storedVersion {
	s := storedVersion{Seq: v.Seq, Final: v.Final}
	if !v.At.IsZero() {
		s.At = v.At.UTC().Format(time.RFC3339Nano)
	}
	return s
}

func packSpans(said map[string]record.Cell) []storedSpan {
	var out []storedSpan
	for f, c := range said {
		for v, s := range c.Spans {
			out = append(out, storedSpan{f, v, packVersion(s.First), packVersion(s.Last)})
		}
	}
	slices.SortFunc(out, func(a, b storedSpan) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), a.Value.Compare(b.Value))
	})
	return out
}

type storedDoubt struct {
	Field string `json:"field"`
	record.Doubt
}

// encode writes a state. Cells that came with one observation share its version and correlation id, and are stored as one
// group: that is both small and readable in the AWS console. It is by hand because every commit does it, and reflection over
// this many small maps was a tenth of all of Sorrel's CPU time. A test declares the form, and compares this with what encoding/json makes of it.
func encode(s State) ([]byte, error) {
	w := writer{b: make([]byte, 0, 4<<10)}
	w.raw(`{"v":1,"id":`)
	w.text(string(s.Record.ID))
	if s.Record.Seq != 0 {
		w.raw(`,"seq":`)
		w.b = strconv.AppendInt(w.b, s.Record.Seq, 10)
	}
	w.optional(`,"policy":`, s.Record.Policy)
	if len(s.Record.Views) > 0 {
		w.raw(`,"views":[`)
		for i, p := range slices.Sorted(maps.Keys(s.Record.Views)) {
			w.comma(i)
			w.view(s.Record.ID, p, s.Record.Views[p])
		}
		w.raw(`]`)
	}
	w.golden(s.Record.Golden)
	if len(s.Record.Held) > 0 {
		w.raw(`,"held":`)
		w.any(s.Record.Held)
	}
	if len(s.Due) > 0 {
		w.raw(`,"due":`)
		w.any(s.Due)
	}
	if len(s.Open) > 0 {
		w.raw(`,"open":`)
		w.any(s.Open)
	}
	w.rare(s.Record)
	w.optional(`,"into":`, string(s.Record.Into))
	if s.Record.Parted != 0 {
		w.raw(`,"parted":`)
		w.b = strconv.AppendInt(w.b, int64(s.Record.Parted), 10)
	}
	if len(s.Claims) > 0 {
		w.raw(`,"claims":`)
		w.any(s.Claims)
	}
	if len(s.Runs) > 0 {
		w.raw(`,"runs":`)
		w.any(s.Runs)
	}
	if s.Log != (LogHead{}) {
		w.raw(`,"log":{"seq":`)
		w.b = strconv.AppendInt(w.b, s.Log.Seq, 10)
		w.raw(`,"hash":`)
		w.text(s.Log.Hash)
		w.raw(`}`)
	}
	w.raw(`}`)
	return w.b, w.err
}

// rare writes what few records have.
func (w *writer) rare(r record.Record) {
	rareMap(w, `,"overrides":`, r.Overrides)
	rareMap(w, `,"assigned":`, r.Assigned)
	rareMap(w, `,"granted":`, r.Granted)
	rareMap(w, `,"proposals":`, r.Proposals)
	rareMap(w, `,"suspects":`, r.Suspects)
	if len(r.Apart) > 0 {
		w.raw(`,"apart":`)
		w.any(r.Apart)
	}
	rareMap(w, `,"absorbed":`, r.Absorbed)
	for i, v := range r.Withdrawn {
		if i == 0 {
			w.raw(`,"withdrawn":[`)
		}
		w.comma(i)
		w.view(r.ID, v.Platform, v)
	}
	w.close(len(r.Withdrawn) > 0)
}

func rareMap[K ~string, V any](w *writer, name string, m map[K]V) {
	if len(m) > 0 {
		w.raw(name)
		w.any(m)
	}
}

// writer appends JSON; its methods do nothing more once one has failed.
type writer struct {
	b   []byte
	err error
}

func (w *writer) raw(s string) { w.b = append(w.b, s...) }

func (w *writer) comma(i int) {
	if i > 0 {
		w.b = append(w.b, ',')
	}
}

func (w *writer) any(a any) {
	b, err := json.Marshal(a)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}

func (w *writer) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			w.any(s)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

// optional writes a member unless it is empty.
func (w *writer) optional(name, s string) {
	if s != "" {
		w.raw(name)
		w.text(s)
	}
}

func (w *writer) time(t time.Time) {
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

// version writes the members of a storedVersion, each with a comma behind it.
func (w *writer) version(v record.Version) {
	if !v.At.IsZero() {
		w.raw(`"at":`)
		w.time(v.At)
		w.raw(`,`)
	}
	if v.Seq != 0 {
		w.raw(`"seq":`)
		w.b = strconv.AppendInt(w.b, v.Seq, 10)
		w.raw(`,`)
	}
	if v.Final {
		w.raw(`"final":true,`)
	}
}

func (w *writer) wholeVersion(name string, v record.Version) {
	if v.At.IsZero() && v.Seq == 0 && !v.Final {
		return
	}
	w.raw(name)
	w.raw(`{`)
	w.version(v)
	w.b[len(w.b)-1] = '}'
}

func (w *writer) value(v record.Value) {
	switch v.Kind() {
	case record.Text:
		w.text(v.Raw())
	case record.Number, record.Bool, record.Structure:
		w.raw(v.Raw())
	case record.Null:
		w.raw(`null`)
	default:
		if w.err == nil {
			w.err = errors.New("an absent value cannot be stored")
		}
	}
}

func same(a, b record.Version) bool { return a.Seq == b.Seq && a.Final == b.Final && a.At.Equal(b.At) }

// named is a member of a map.
type named[T any] struct {
	name string
	of   T
}

// sorted lists the members of a map by name. A map is looked at once, not once per comparison.
func sorted[T any](m map[string]T) []*named[T] {
	all, out := make([]named[T], 0, len(m)), make([]*named[T], 0, len(m))
	for name, of := range m {
		all = append(all, named[T]{name, of})
		out = append(out, &all[len(all)-1])
	}
	slices.SortFunc(out, func(a, b *named[T]) int { return strings.Compare(a.name, b.name) })
	return out
}

// groups splits sorted members into runs of what belongs together, in the order of their first members. There are few
// groups, so each is found by looking at all of them.
func groups[T any](all []*named[T], together func(a, b *T) bool) [][]*named[T] {
	var out [][]*named[T]
	for _, n := range all {
		i := slices.IndexFunc(out, func(g []*named[T]) bool { return together(&g[0].of, &n.of) })
		if i < 0 {
			out = append(out, make([]*named[T], 0, len(all)))
			i = len(out) - 1
		}
		out[i] = append(out[i], n)
	}
	return out
}

// fieldsOf writes the values of a group.
func fieldsOf[T any](w *writer, group []*named[T], value func(*T) record.Value) {
	w.raw(`"fields":{`)
	for i, n := range group {
		w.comma(i)
		w.text(n.name)
		w.raw(`:`)
		w.value(value(&n.of))
	}
	w.raw(`}`)
}

func (w *writer) view(of record.ID, platform string, v record.View) {
	w.raw(`{"platform":`)
	w.text(platform)
	w.raw(`,"object":`)
	w.text(v.Object)
	w.raw(`,"id":`)
	w.text(v.ID)
	switch c := carried(of, v.External); c {
	case "":
	case carriesOwn:
		w.raw(`,"external":true`)
	default:
		w.raw(`,"external":`)
		w.text(string(c))
	}
	w.optional(`,"into":`, v.Into)
	w.wholeVersion(`,"born":`, v.Born)
	w.wholeVersion(`,"died":`, v.Died)
	w.wholeVersion(`,"heard":`, v.Heard)
	w.wholeVersion(`,"denied":`, v.Denied)
	if v.Made {
		w.raw(`,"made":true`)
	}
	if v.Leaving {
		w.raw(`,"leaving":true`)
	}
	said := sorted(v.Said)
	usable := make([]*named[record.Cell], 0, len(said))
	var doubtful []*named[record.Cell]
	for _, n := range said {
		if !n.of.Value.IsAbsent() {
			usable = append(usable, n)
		}
		if n.of.Doubt != nil {
			doubtful = append(doubtful, n)
		}
	}
	w.said(usable)
	w.wrote(v.Wrote)
	for i, n := range doubtful {
		if i == 0 {
			w.raw(`,"doubts":[`)
		}
		w.comma(i)
		w.any(storedDoubt{n.name, *n.of.Doubt})
	}
	w.close(len(doubtful) > 0)
	if spans := packSpans(v.Said); len(spans) > 0 {
		w.raw(`,"spans":`)
		w.any(spans)
	}
	if len(v.Past) > 0 {
		w.raw(`,"past":`)
		w.any(v.Past)
	}
	if v.Echo != nil {
		w.raw(`,"echo":`)
		w.any(v.Echo)
	}
	w.raw(`}`)
}

func (w *writer) said(usable []*named[record.Cell]) {
	for i, g := range groups(usable, func(x, y *record.Cell) bool {
		return x.Trace == y.Trace && x.Actor == y.Actor && x.Ours == y.Ours && x.Tied == y.Tied && same(x.Version, y.Version)
	}) {
		w.list(`,"said":[`, i)
		c := &g[0].of
		w.version(c.Version)
		w.member(`"trace":`, c.Trace)
		w.member(`"actor":`, c.Actor)
		if c.Ours {
			w.raw(`"ours":true,`)
		}
		if c.Tied {
			w.raw(`"tied":true,`)
		}
		fieldsOf(w, g, func(c *record.Cell) record.Value { return c.Value })
		w.raw(`}`)
	}
	w.close(len(usable) > 0)
}

// list begins the next object of a list, and the list itself before the first.
func (w *writer) list(name string, i int) {
	if i == 0 {
		w.raw(name)
	}
	w.comma(i)
	w.raw(`{`)
}

func (w *writer) close(open bool) {
	if open {
		w.raw(`]`)
	}
}

// member writes a member with a comma behind it unless it is empty.
func (w *writer) member(name, s string) {
	if s != "" {
		w.raw(name)
		w.text(s)
		w.raw(`,`)
	}
}

// kept is the version at which the platform is known to have kept what we wrote as it was: zero where it is not known.
func kept(w record.Wrote) record.Version {
	if w.Back.Value == w.Value && !w.Value.IsAbsent() {
		return w.Back.At
	}
	return record.Version{}
}

func (w *writer) wrote(wrote map[string]record.Wrote) {
	for i, g := range groups(sorted(wrote), func(x, y *record.Wrote) bool {
		return x.Trace == y.Trace && x.Told == y.Told && x.When.Equal(y.When) && same(x.Base, y.Base) && same(kept(*x), kept(*y))
	}) {
		w.list(`,"wrote":[`, i)
		c := &g[0].of
		w.version(c.Base)
		if !c.When.IsZero() {
			w.raw(`"when":`)
			w.time(c.When)
			w.raw(`,`)
		}
		w.member(`"trace":`, c.Trace)
		if c.Told {
			w.raw(`"told":true,`)
		}
		if at := kept(*c); !at.IsZero() {
			w.raw(`"kept":{`)
			w.version(at)
			w.b[len(w.b)-1] = '}'
			w.raw(`,`)
		}
		fieldsOf(w, g, func(c *record.Wrote) record.Value { return c.Value })
		over, back := map[string]storedOver{}, map[string]storedBack{}
		for _, n := range g {
			if o := n.of.Over; !o.Value.IsAbsent() {
				over[n.name] = storedOver(o)
			}
			if b := n.of.Back; !b.Value.IsAbsent() && kept(n.of).IsZero() {
				back[n.name] = storedBack(b)
			}
		}
		if len(over) > 0 {
			w.raw(`,"over":`)
			w.any(over)
		}
		if len(back) > 0 {
			w.raw(`,"back":`)
			w.any(back)
		}
		w.raw(`}`)
	}
	w.close(len(wrote) > 0)
}

func (w *writer) golden(golden map[string]record.Golden) {
	for i, g := range groups(sorted(golden), func(x, y *record.Golden) bool {
		return x.From == y.From && x.Trace == y.Trace && x.Rule == y.Rule && x.At == y.At && x.Split == y.Split && same(x.Version, y.Version)
	}) {
		w.list(`,"golden":[`, i)
		c := &g[0].of
		w.version(c.Version)
		w.raw(`"from":`)
		w.text(c.From)
		w.raw(`,`)
		w.member(`"trace":`, c.Trace)
		w.raw(`"rule":`)
		w.text(c.Rule)
		w.raw(`,`)
		w.member(`"where":`, c.At)
		if c.Split {
			w.raw(`"split":true,`)
		}
		fieldsOf(w, g, func(c *record.Golden) record.Value { return c.Value })
		w.raw(`}`)
	}
	w.close(len(golden) > 0)
}
