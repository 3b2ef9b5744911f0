package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/jsonread"
	"sorrel/shared/record"
)

// maxNesting bounds a stored state: a structure in a value nests 32 deep.
const maxNesting = 64

// decoder reads a state. It is by hand because every read of a state that another process wrote does it, and reflection takes three
// times as long; a test compares it with what encoding/json reads.
type decoder struct {
	*jsonread.Reader
	known map[string]string // what was read before: names and correlation ids come again and again
	group []member          // fields of the group that is being read
}

type member struct {
	name  string
	value record.Value
}

func decode(b []byte) (State, error) {
	d := decoder{Reader: jsonread.New(b, maxNesting), known: make(map[string]string, 32)}
	s, version := d.state()
	if err := d.End(); err != nil {
		return State{}, fmt.Errorf("stored state: %w", err)
	}
	if version != 1 {
		return State{}, fmt.Errorf("stored state has schema version %d, this program knows 1", version)
	}
	if err := whole(s.Record); err != nil {
		return State{}, fmt.Errorf("stored state %s: %w", s.Record.ID, err)
	}
	return s, nil
}

func (d *decoder) state() (s State, version int64) {
	r := &s.Record
	r.Views, r.Golden = map[string]record.View{}, map[string]record.Golden{}
	own := map[string]bool{} // views that carry the id of the record itself
	var former []bool        // likewise of those that were withdrawn
	if !d.Object(func(name string) {
		switch name {
		case "v":
			version = d.Int()
		case "id":
			r.ID = record.ID(d.text())
		case "seq":
			r.Seq = d.Int()
		case "policy":
			r.Policy = d.text()
		case "views":
			d.Array(func() {
				v, carriesOwn := d.view()
				r.Views[v.Platform], own[v.Platform] = v, carriesOwn
			})
		case "withdrawn":
			d.Array(func() {
				v, carriesOwn := d.view()
				r.Withdrawn, former = append(r.Withdrawn, v), append(former, carriesOwn)
			})
		case "golden":
			d.Array(func() { d.golden(r.Golden) })
		case "due":
			s.Due = make(map[string]Due, 4)
			d.Object(func(platform string) { s.Due[d.once(platform)] = d.due() })
		case "open":
			d.Array(func() { s.Open = append(s.Open, d.text()) })
		case "claims":
			d.Array(func() { s.Claims = append(s.Claims, d.claim()) })
		case "runs":
			d.any(&s.Runs)
		case "into":
			r.Into = record.ID(d.text())
		case "log":
			d.Object(func(name string) {
				switch name {
				case "seq":
					s.Log.Seq = d.Int()
				case "hash":
					s.Log.Hash = d.Text()
				default:
					d.Raw()
				}
			})
		default:
			d.rare(name, r)
		}
	}) {
		d.Fail(fmt.Errorf("want an object"))
	}
	for platform, is := range own {
		if v := r.Views[platform]; is {
			v.External = r.ID
			r.Views[platform] = v
		}
	}
	for i, is := range former {
		if is {
			r.Withdrawn[i].External = r.ID
		}
	}
	return s, version
}

// rare reads a member that few records have.
func (d *decoder) rare(name string, r *record.Record) {
	switch name {
	case "held":
		d.any(&r.Held)
	case "overrides":
		d.any(&r.Overrides)
	case "assigned":
		d.any(&r.Assigned)
	case "granted":
		d.any(&r.Granted)
	case "proposals":
		d.any(&r.Proposals)
	case "suspects":
		d.any(&r.Suspects)
	case "apart":
		d.any(&r.Apart)
	case "absorbed":
		d.any(&r.Absorbed)
	case "parted":
		r.Parted = int(d.Int())
	default:
		d.Raw()
	}
}

// any reads what the encoder left to encoding/json.
func (d *decoder) any(into any) {
	if raw := d.Raw(); raw != "" {
		if err := json.Unmarshal([]byte(raw), into); err != nil {
			d.Fail(err)
		}
	}
}

// once is s, or what equals it and was read before. Like all that is kept it does not refer to the text.
func (d *decoder) once(s string) string {
	if s == "" {
		return ""
	}
	known, is := d.known[s]
	if !is {
		known = strings.Clone(s)
		d.known[known] = known
	}
	return known
}

func (d *decoder) text() string { return d.once(d.Part()) }

// instant reads a time. None is the zero time.
func (d *decoder) instant() time.Time {
	text := d.Part()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		d.Fail(err)
	}
	return at.UTC()
}

// version reads a member of a version, and reports whether it was one.
func (d *decoder) version(name string, v *record.Version) bool {
	switch name {
	case "at":
		v.At = d.instant()
	case "seq":
		v.Seq = d.Int()
	case "final":
		v.Final = d.Bool()
	default:
		return false
	}
	return true
}

func (d *decoder) wholeVersion() (v record.Version) {
	d.Object(func(name string) {
		if !d.version(name, &v) {
			d.Raw()
		}
	})
	return v
}

func (d *decoder) value() record.Value {
	raw := d.Raw()
	switch {
	case raw == "":
		return record.Value{}
	case raw == "null":
		return record.NullValue()
	case raw == "true", raw == "false":
		return record.BoolValue(raw == "true")
	case raw[0] == '"' && !strings.Contains(raw, `\`):
		return record.TextValue(d.once(strings.ToValidUTF8(raw[1:len(raw)-1], "\ufffd")))
	}
	v, err := record.ParseJSON([]byte(raw))
	if err != nil {
		d.Fail(err)
	}
	return v
}

// fields reads the values of a group, for which there is room until the next group is read.
func (d *decoder) fields() []member {
	d.group = d.group[:0]
	d.Object(func(name string) {
		name = d.once(name)
		d.group = append(d.group, member{name, d.value()})
	})
	return d.group
}

func (d *decoder) view() (v record.View, carriesOwn bool) {
	v.Said = make(map[string]record.Cell, 8)
	cell := func(field string, change func(*record.Cell)) {
		c := v.Said[field]
		change(&c)
		v.Said[field] = c
	}
	d.Object(func(name string) {
		switch name {
		case "platform":
			v.Platform = d.text()
		case "object":
			v.Object = d.text()
		case "id":
			v.ID = d.text()
		case "external":
			switch raw := d.Raw(); raw {
			case "true":
				carriesOwn = true
			case "false", "null", "":
			default:
				var id string
				if err := json.Unmarshal([]byte(raw), &id); err != nil {
					d.Fail(err)
				}
				v.External, carriesOwn = record.ID(id), false
			}
		case "into":
			v.Into = d.text()
		case "born":
			v.Born = d.wholeVersion()
		case "died":
			v.Died = d.wholeVersion()
		case "heard":
			v.Heard = d.wholeVersion()
		case "denied":
			v.Denied = d.wholeVersion()
		case "made":
			v.Made = d.Bool()
		case "leaving":
			v.Leaving = d.Bool()
		case "said":
			d.Array(func() { d.said(v.Said) })
		case "wrote":
			v.Wrote = make(map[string]record.Wrote, 8)
			d.Array(func() { d.wrote(v.Wrote) })
		case "doubts":
			var doubts []storedDoubt
			d.any(&doubts)
			for i := range doubts {
				cell(doubts[i].Field, func(c *record.Cell) { c.Doubt = &doubts[i].Doubt })
			}
		case "spans":
			d.Array(func() {
				field, value, span := d.span()
				cell(field, func(c *record.Cell) {
					if c.Spans == nil {
						c.Spans = map[record.Value]record.Span{}
					}
					c.Spans[value] = span
				})
			})
		case "past":
			d.any(&v.Past)
		case "echo":
			v.Echo = d.echo()
		default:
			d.Raw()
		}
	})
	return v, carriesOwn
}

func (d *decoder) span() (field string, v record.Value, s record.Span) {
	d.Object(func(name string) {
		switch name {
		case "field":
			field = d.text()
		case "value":
			v = d.value()
		case "first":
			s.First = d.wholeVersion()
		case "last":
			s.Last = d.wholeVersion()
		default:
			d.Raw()
		}
	})
	return field, v, s
}

func (d *decoder) echo() *record.Echo {
	var e record.Echo
	if !d.Object(func(name string) {
		switch name {
		case "version":
			e.Version = d.wholeVersion()
		case "fields":
			e.Fields = d.values()
		default:
			d.Raw()
		}
	}) {
		return nil
	}
	return &e
}

// values reads a map of values; null gives none.
func (d *decoder) values() map[string]record.Value {
	out := map[string]record.Value{}
	if !d.Object(func(name string) { out[d.once(name)] = d.value() }) {
		return nil
	}
	return out
}

func (d *decoder) said(into map[string]record.Cell) {
	var c record.Cell
	var fields []member
	d.Object(func(name string) {
		switch name {
		case "trace":
			c.Trace = d.text()
		case "actor":
			c.Actor = d.text()
		case "ours":
			c.Ours = d.Bool()
		case "tied":
			c.Tied = d.Bool()
		case "fields":
			fields = d.fields()
		default:
			if !d.version(name, &c.Version) {
				d.Raw()
			}
		}
	})
	for _, f := range fields {
		was := into[f.name] // its doubt and its spans may stand before it
		c.Value, c.Doubt, c.Spans = f.value, was.Doubt, was.Spans
		into[f.name] = c
	}
}

func (d *decoder) wrote(into map[string]record.Wrote) {
	var w record.Wrote
	var kept record.Version
	var fields []member
	var over map[string]record.Over
	var back map[string]record.Back
	d.Object(func(name string) {
		switch name {
		case "when":
			w.When = d.instant()
		case "trace":
			w.Trace = d.text()
		case "told":
			w.Told = d.Bool()
		case "kept":
			kept = d.wholeVersion()
		case "fields":
			fields = d.fields()
		case "over":
			over = map[string]record.Over{}
			d.Object(func(field string) { over[d.once(field)] = d.over() })
		case "back":
			back = map[string]record.Back{}
			d.Object(func(field string) { back[d.once(field)] = d.back() })
		default:
			if !d.version(name, &w.Base) {
				d.Raw()
			}
		}
	})
	for _, f := range fields {
		w.Value, w.Over, w.Back = f.value, over[f.name], back[f.name]
		if !kept.IsZero() {
			w.Back = record.Back{Value: f.value, At: kept}
		}
		into[f.name] = w
	}
}

func (d *decoder) over() (o record.Over) {
	d.Object(func(name string) {
		switch name {
		case "value":
			o.Value = d.value()
		case "said":
			o.Said = d.Time()
		case "trace":
			o.Trace = d.text()
		case "again":
			o.Again = int(d.Int())
		default:
			d.Raw()
		}
	})
	return o
}

func (d *decoder) back() (b record.Back) {
	d.Object(func(name string) {
		switch name {
		case "value":
			b.Value = d.value()
		case "at":
			b.At = d.wholeVersion()
		default:
			d.Raw()
		}
	})
	return b
}

func (d *decoder) golden(into map[string]record.Golden) {
	var g record.Golden
	var fields []member
	d.Object(func(name string) {
		switch name {
		case "from":
			g.From = d.text()
		case "trace":
			g.Trace = d.text()
		case "rule":
			g.Rule = d.text()
		case "where":
			g.At = d.text()
		case "split":
			g.Split = d.Bool()
		case "fields":
			fields = d.fields()
		default:
			if !d.version(name, &g.Version) {
				d.Raw()
			}
		}
	})
	for _, f := range fields {
		g.Value = f.value
		into[f.name] = g
	}
}

func (d *decoder) due() (out Due) {
	d.Object(func(name string) {
		switch name {
		case "class":
			out.Class = budget.Class(d.text())
		case "since":
			out.Since = d.Time()
		case "notBefore":
			out.NotBefore = d.Time()
		case "attempts":
			out.Attempts = int(d.Int())
		case "unknown":
			out.Unknown = d.Bool()
		case "left":
			d.any(&out.Tried)
		case "stuck":
			out.Stuck = d.Bool()
		case "missing":
			out.Missing = d.Bool()
		case "unwanted":
			out.Unwanted = d.Bool()
		case "frees":
			out.Frees = d.Bool()
		case "reason":
			out.Reason = d.Text()
		case "waits":
			d.Array(func() { out.Waits = append(out.Waits, record.ID(d.text())) })
		case "again":
			d.Array(func() { out.Again = append(out.Again, d.text()) })
		case "traces":
			d.Array(func() { out.Traces = append(out.Traces, d.text()) })
		case "from":
			out.From = d.Int()
		default:
			d.Raw()
		}
	})
	return out
}

func (d *decoder) claim() (c Claim) {
	d.Object(func(name string) {
		switch name {
		case "entity":
			c.Entity = d.text()
		case "rule":
			c.Rule = d.text()
		case "digest":
			c.Digest = d.Text()
		default:
			d.Raw()
		}
	})
	return c
}

// whole reports what people decided that lacks its value: a state like that could not be stored again.
func whole(r record.Record) error {
	for f, o := range r.Overrides {
		if o.Value.IsAbsent() {
			return fmt.Errorf("the override of %s has no value", f)
		}
	}
	for f, a := range r.Assigned {
		if a.Value.IsAbsent() {
			return fmt.Errorf("what was assigned to %s has no value", f)
		}
	}
	for f, g := range r.Granted {
		if g.Value.IsAbsent() {
			return fmt.Errorf("what was granted for %s has no value", f)
		}
	}
	for k, p := range r.Proposals {
		for f, ask := range p.Fields {
			if ask.After.IsAbsent() {
				return fmt.Errorf("proposal %s asks for no value of %s", k, f)
			}
		}
	}
	return nil
}
