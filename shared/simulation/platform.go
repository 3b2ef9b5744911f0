package simulation

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// site is one platform: its native records, as people there and Sorrel leave them.
type site struct {
	w          *world
	name       string
	skew       time.Duration // of its clock
	resolution time.Duration // of its clock
	marks      bool          // its webhooks say which changes our client made
	tells      bool          // its answer to a write shows the record and its version
	counts     bool          // its versions count the changes
	hints      bool          // its webhooks do not say what the record holds
	partial    bool          // its webhooks say only what was set
	limit      *limit        // nil = none
	forgets    bool          // a deleted record cannot be read
	rows       map[record.Ref]*row
	order      []record.Ref // in which they were made
	writes     int
	since      map[tale]*telling    // since it came back after hours
	made       int                  // native records, which are numbered
	stands     refusal              // that stands for a while
	unknown    map[string]time.Time // whose last write got no answer, by native or external id, and when that was remembered
}

// row is one native record.
type row struct {
	fields   map[string]any
	at, born time.Time
	changes  int64
	external string
	gone     bool
	into     string
	ours     bool      // our client was the last to change it
	made     bool      // by our client
	restored time.Time // by people, in our time: they told then what it holds
	heard    time.Time // when word of it came to us that was not of our own last change
	crossed  time.Time // when a read was answered with what it held before it was changed meanwhile
	last     lastWrite
	put      map[change]int // how often we have changed a field so
}

// change is of one field, from one value to another.
type change struct {
	field    string
	from, to any
}

// lastWrite is our last write to a row, and when it was remembered.
type lastWrite struct {
	by        *process
	body      string
	external  string
	changes   int64
	confirmed time.Time
	seq       int64 // of the record's log by then: decisions and changes of golden fields are in it
}

func newSite(w *world, name string, p Profile) *site {
	s := &site{w: w, name: name, limit: newLimit(name, p), skew: p.Skew[name], resolution: time.Millisecond, rows: map[record.Ref]*row{}, unknown: map[string]time.Time{}}
	switch name {
	case record.NetSuite:
		s.marks = true
		if p.Coarse {
			s.resolution = time.Second
		}
	case record.Salesforce:
		s.marks, s.partial = true, true
	case record.Zendesk:
		s.tells, s.hints, s.forgets = true, p.Hints, true
		if p.Coarse {
			s.resolution = time.Second
		}
	case record.ServiceNow:
		s.marks, s.tells, s.counts, s.forgets, s.resolution = true, true, true, true, time.Second
	}
	return s
}

func (s *site) clock() time.Time { return s.w.now.Add(s.skew).UTC() }

// copied is v as it comes from the wire.
func copied(v map[string]any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // all values here are text and truth values
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

// native is what a read shows.
func (s *site) native(ref record.Ref) record.Native {
	r := s.rows[ref]
	n := record.Native{Ref: ref, Version: record.Version{At: r.at, Final: s.clock().Sub(r.at) > s.resolution}, Born: r.born, External: r.external}
	if s.counts {
		n.Version.Seq = r.changes
	}
	if r.gone {
		n.Gone, n.Into = true, r.into
		return n
	}
	n.Fields = copied(r.fields)
	return n
}

// touch notes a change of a row, which set some fields, and tells of it.
func (s *site) touch(ref record.Ref, ours bool, set map[string]any) {
	r := s.rows[ref]
	r.at, r.ours = s.clock().Truncate(s.resolution), ours
	r.changes++
	n := s.native(ref)
	n.Version.Final, n.Ours = false, ours && s.marks
	switch {
	case n.Gone:
	case s.hints:
		n.Fields = nil
	case s.partial && set != nil:
		n.Partial = true
		maps.DeleteFunc(n.Fields, func(field string, _ any) bool { _, is := set[field]; return !is })
	}
	s.w.webhook(s, n, ours)
}

func (s *site) add(ref record.Ref) *row {
	r := &row{fields: map[string]any{}, put: map[change]int{}, born: s.clock().Truncate(s.resolution)}
	s.rows[ref] = r
	s.order = append(s.order, ref)
	return r
}

// living lists the ids of an object.
func (s *site) living(object string) []string {
	var out []string
	for _, ref := range s.order {
		if ref.Object == object && !s.rows[ref].gone {
			out = append(out, ref.ID)
		}
	}
	return out
}

// set is what a person there does.
func (s *site) set(object, id string, fields map[string]any) {
	ref := record.Ref{Platform: s.name, Object: object, ID: id}
	r := s.rows[ref]
	if r == nil {
		r = s.add(ref)
	}
	overlay(r.fields, copied(fields))
	s.touch(ref, false, fields)
}

// overlay puts values into what is there: nested ones into what they are nested in, elements of a list into those that stand
// at the same place.
func overlay(into, from map[string]any) {
	for k, v := range from {
		into[k] = over(into[k], v)
	}
}

func over(was, v any) any {
	switch v := v.(type) {
	case map[string]any:
		m, is := was.(map[string]any)
		if !is {
			m = map[string]any{}
		}
		overlay(m, v)
		return m
	case []any:
		old, _ := was.([]any)
		out := slices.Clone(old)
		for i, e := range v {
			if i < len(out) {
				out[i] = over(out[i], e)
			} else {
				out = append(out, e)
			}
		}
		return out
	}
	return v
}

func (s *site) remove(object, id, into string) {
	ref := record.Ref{Platform: s.name, Object: object, ID: id}
	s.rows[ref].gone, s.rows[ref].into = true, into
	s.touch(ref, false, nil)
}

func (s *site) restore(ref record.Ref) {
	r := s.rows[ref]
	r.gone, r.into, r.born, r.restored = false, "", s.clock().Truncate(s.resolution), s.w.now
	delete(s.unknown, ref.ID) // it tells now all that it holds
	delete(s.unknown, s.rows[ref].external)
	s.touch(ref, false, nil)
}

func (s *site) carrying(object, external string) (record.Ref, bool) {
	for _, ref := range s.order {
		if r := s.rows[ref]; ref.Object == object && r.external == external && !r.gone {
			return ref, true
		}
	}
	return record.Ref{}, false
}

// rewritten is what the platform makes of a value.
func (s *site) rewritten(field string, v any) any {
	text, is := v.(string)
	if !is || !s.w.c.Profile.Rewriting {
		return v
	}
	text = strings.TrimSpace(text)
	if field == "phone" || field == "mobile" {
		text = strings.TrimSuffix(text, "!") + "!"
	}
	return text
}

func (s *site) absent(op string) error {
	return fault.New(fault.NotFound, s.name+"."+op, "no such record")
}

// settled is how long after word of somebody's change it may still be that it is written over once more: not every
// platform tells whether that came before or after our last write.
const settled = 8 * time.Minute

// apply is a write of process p, taken by the platform.
func (s *site) apply(p *process, w platform.Write, account string, coming bool) platform.Written {
	ref, made := w.Ref, false
	s.writes++
	key := named(w)
	r := s.rows[ref]
	if since, some := s.unknown[key]; some && p.began.After(since) && (r == nil || since.After(r.restored)) {
		s.w.wrong("unread: %s %s is written although nobody has read what became of the last write", s.name, key)
	}
	delete(s.unknown, key)
	if err := s.refuses(w); err != nil {
		return platform.Written{Err: err}
	}
	switch {
	case w.Delete && (r == nil || r.gone):
		return platform.Written{Err: s.absent("write")}
	case w.Delete:
		r.gone = true
		s.touch(ref, true, nil)
		return platform.Written{ID: ref.ID}
	case ref.ID != "" && (r == nil || r.gone):
		return platform.Written{Err: s.absent("write")}
	}
	if to, some := w.Fields["account"].(string); some && ref.Object == "person" {
		if r := s.rows[record.Ref{Platform: s.name, Object: "account", ID: to}]; r == nil || r.gone {
			return platform.Written{Err: fault.New(fault.MissingReference, s.name+".write", "no such account")}
		}
	}
	if ref.ID == "" {
		found, some := s.carrying(ref.Object, w.External)
		if ref = found; !some {
			ref, made = record.Ref{Platform: s.name, Object: w.Ref.Object, ID: s.name[:1] + "-" + w.External}, true
			for n := 2; s.rows[ref] != nil; n++ {
				ref.ID = fmt.Sprintf("%s-%s-%d", s.name[:1], w.External, n)
			}
			s.add(ref).made = true
		}
		if r = s.rows[ref]; made {
			s.begin(r, w.Ref.Object)
		}
	}
	s.recount(p, ref, w, account, coming)
	body, err := json.Marshal(w.Fields)
	if err != nil {
		panic(err) // all values here are text and truth values
	}
	if r.last.body == string(body) && r.last.changes == r.changes && !r.last.confirmed.IsZero() && p.began.After(r.last.confirmed) && s.w.now.Sub(r.heard) > settled &&
		s.w.logged(w.External) == r.last.seq && r.last.external == w.External {
		s.w.wrong("uncaused: %s is told %s again", ref, body)
	}
	for field, v := range copied(w.Fields) {
		if nested, is := v.(map[string]any); is {
			overlay(r.fields, map[string]any{field: nested})
			continue
		}
		to := s.rewritten(field, v)
		r.put[change{field, r.fields[field], to}]++
		r.fields[field] = to
	}
	r.external = w.External
	s.touch(ref, true, w.Fields)
	r.last = lastWrite{by: p, body: string(body), external: w.External, changes: r.changes}
	p.wrote = append(p.wrote, r)
	done := platform.Written{ID: ref.ID, Created: made}
	if s.tells {
		n := s.native(ref)
		n.Version.Final = false
		done.Version, done.Fields = n.Version, n.Fields
	}
	return done
}

// tale is a record, and the native record that is told of it.
type tale struct {
	native string
	id     record.ID
}

func (t tale) compare(o tale) int {
	return cmp.Or(strings.Compare(t.native, o.native), strings.Compare(string(t.id), string(o.id)))
}

// telling is how often a native record was told of a record since its platform came back after hours.
type telling struct {
	times   int
	first   time.Time
	account string // where the record's reference led when it was loaded for that
	coming  bool   // and whether that was still to get there
}

// recount notes a write to a platform that was away for hours. account and coming are as of when it was sent. Not counted is a
// write that has a cause of its own:
//
// One that two workers sent at one moment, a record by itself and because another refers to it: this one had loaded the record
// before the other's write was confirmed.
//
// What was approved only after the first. What somebody asks for meanwhile waits until the owner has answered to what was
// approved before, and may be approved by itself then.
//
// A reference to a record that has another native record here than when the record was loaded for the first, because records
// became one.
//
// One after a read that shows what was there before the first, and is answered after it: a platform that does not tell the
// version of a write does not tell either that this is over.
func (s *site) recount(p *process, ref record.Ref, w platform.Write, account string, coming bool) {
	if s.since == nil {
		return
	}
	id, _ := record.ParseExternal(w.External)
	t, last := s.since[tale{ref.ID, id}], s.rows[ref].last
	if t == nil {
		if before, some := p.led[tale{s.name, id}]; some {
			account = before
		}
		s.since[tale{ref.ID, id}] = &telling{1, s.w.now, account, coming}
		return
	}
	if last.confirmed.IsZero() || !p.loaded[id].After(last.confirmed) {
		return
	}
	if !s.tells && s.rows[ref].crossed.After(t.first) {
		return
	}
	own := len(w.Fields) > 0
	for field := range w.Fields {
		moved := field == "account" && !t.coming && account != t.account
		own = own && (moved || s.approved(id, field, t.first))
	}
	if !own {
		t.times++
	}
}

// approved reports whether a change of a field of this platform's own was approved after a time, and has not got there yet.
func (s *site) approved(id record.ID, field string, after time.Time) bool {
	for _, p := range s.w.state(id).Record.Proposals {
		if ask, asked := p.Fields[field]; asked && ask.Owner == s.name && p.Status == record.ProposalApproved && p.Decided.After(after) {
			return true
		}
	}
	return false
}

// leads is the native record here that the reference of a record leads to, if there is one, and whether one is still to come.
func (s *site) leads(id record.ID) (account string, coming bool) {
	to := record.ID(s.w.followed(s.w.state(id).Record.Golden["account"].Value).Raw())
	if to.Validate() != nil {
		return "", false
	}
	there := s.w.state(to)
	if v := there.Record.Views[s.name]; v.Exists() {
		return v.ID, false
	}
	_, due := there.Due[s.name]
	return "", due
}

// port is a platform as a process reaches it.
type port struct {
	p *process
	*site
}

// Webhook reads what webhook sends.
func (s *site) Webhook(_ context.Context, r platform.Request) (platform.Delivery, error) {
	dec := json.NewDecoder(bytes.NewReader(r.Body))
	dec.UseNumber()
	var n record.Native
	if err := dec.Decode(&n); err != nil {
		return platform.Delivery{}, fault.Wrap(fault.Malformed, s.name+".webhook", "", err)
	}
	return platform.Delivery{ID: r.Header.Get("Delivery"), Natives: []record.Native{n}}, nil
}

func (o port) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	return o.look(ctx, "read "+ref.ID, "", func() (record.Ref, bool) { return ref, o.rows[ref] != nil && !(o.forgets && o.rows[ref].gone) })
}

func (o port) Find(ctx context.Context, object, external string) (record.Native, error) {
	return o.look(ctx, "find "+external, external, func() (record.Ref, bool) { return o.carrying(object, external) })
}

func (o port) look(ctx context.Context, what, external string, find func() (record.Ref, bool)) (n record.Native, err error) {
	var shown *row
	changes := int64(0)
	err = o.call(ctx, "read", what, func() error {
		ref, some := find()
		delete(o.unknown, external)
		delete(o.unknown, ref.ID)
		if some {
			delete(o.unknown, o.rows[ref].external)
		}
		if !some {
			return o.absent("read")
		}
		n = o.native(ref)
		shown, changes = o.rows[ref], o.rows[ref].changes
		shown.heard = o.w.now
		return nil
	})
	if shown != nil && shown.changes != changes {
		shown.crossed = o.w.now
	}
	return n, err
}

func (o port) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	for i, w := range writes {
		body, _ := json.Marshal(w.Fields) // a map is written in order of its keys
		what := fmt.Sprintf("%s %s%s (%s) %s", w.Ref.Object, w.Ref.ID, map[bool]string{true: " delete"}[w.Delete], w.External, body)
		account, coming := "", false
		if o.since != nil {
			id, _ := record.ParseExternal(w.External)
			account, coming = o.leads(id)
		}
		err := o.call(ctx, "write", what, func() error {
			out[i] = o.apply(o.p, w, account, coming)
			return out[i].Err
		})
		if err != nil {
			out[i] = platform.Written{Err: err}
		}
		if fault.Is(err, fault.Unknown) {
			o.p.unknown = append(o.p.unknown, unknown{o.site, w.External, named(w)})
		}
	}
	return out
}

// unknown is a write without an answer.
type unknown struct {
	*site
	external, key string
}

// named is how a write names what it is for.
func named(w platform.Write) string { return cmp.Or(w.Ref.ID, w.External) }

// onPage is how many native records one page of a listing has.
const onPage = 4

// Changes lists what has changed since a cursor: everything at or after its time, and after its id at that very time.
func (o port) Changes(ctx context.Context, object, cursor string) (page platform.Page, err error) {
	err = o.call(ctx, "list", object+" from "+cursor, func() error {
		since, after, _ := strings.Cut(cursor, " ")
		type place struct {
			at string
			record.Ref
		}
		var all []place
		for _, ref := range o.order {
			at := o.rows[ref].at.Format(stamp)
			if ref.Object == object && (at > since || at == since && ref.ID > after) {
				all = append(all, place{at, ref})
			}
		}
		slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.at+" "+a.ID, b.at+" "+b.ID) })
		page = platform.Page{Cursor: max(since, o.clock().Add(-2*o.resolution).Format(stamp))}
		for i, found := range all {
			if i == onPage {
				page.More, page.Cursor = true, all[i-1].at+" "+all[i-1].ID
				return nil
			}
			page.Natives = append(page.Natives, o.native(found.Ref))
		}
		return nil
	})
	return page, err
}

const stamp = "2006-01-02T15:04:05.000000000Z"

// objects that every platform has. A person refers to an account.
func objects() []string { return []string{"account", "person"} }
