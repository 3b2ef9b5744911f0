package flow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// clock is a clock that only tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

// row is one native record of a fake platform.
type row struct {
	fields   map[string]any
	at, born time.Time
	external string
	gone     bool
	ours     bool // our client was the last to change it
	into     string
	actor    string
}

// told is what a test wants to become of a write.
type told struct {
	err     error // the answer
	applied bool  // although err, the write took effect
}

// fake is a platform that behaves: it keeps native records with versions, refers by id or external id, upserts by
// external id, and pushes what changed. It is safe for concurrent use.
type fake struct {
	name        string
	now         func() time.Time
	resolution  time.Duration // of its clock
	tellsNumber bool          // its answer to a write carries the version
	unmarked    bool          // it does not say which changes are ours

	mu      sync.Mutex
	rows    map[record.Ref]*row
	emit    func(record.Native)                      // nil = no webhooks
	tell    func(platform.Write) *told               // nil = everything succeeds
	reading func(record.Ref) error                   // nil = everything can be read
	rewrite func(object string, body map[string]any) // nil = values are kept as written
	lists   map[string][]string                      // native field → the values that it takes
	actor   string                                   // who set acts as
	writes  []platform.Write
	creates map[string]int // by external id
	reads   int
	readFor budget.Class // the last read
	finds   int
}

func newFake(name string, now func() time.Time) *fake {
	return &fake{name: name, now: now, resolution: time.Millisecond, rows: map[record.Ref]*row{}, creates: map[string]int{}}
}

// decoded is v as a connector would decode it from the wire.
func decoded(v map[string]any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

func merge(into, from map[string]any) {
	for k, v := range from {
		if sub, ok := v.(map[string]any); ok {
			if was, ok := into[k].(map[string]any); ok {
				merge(was, sub)
				continue
			}
		}
		into[k] = v
	}
}

func (f *fake) native(ref record.Ref, r *row) record.Native {
	now := f.now()
	n := record.Native{Ref: ref, Version: record.Version{At: r.at, Final: now.Sub(r.at) > f.resolution}, Born: r.born, External: r.external, Ours: r.ours}
	n.Actor = r.actor
	if r.gone {
		n.Gone, n.Into = true, r.into
		return n
	}
	n.Fields = decoded(r.fields)
	return n
}

// pushed is the observation of ref as a webhook carries it: never final.
func (f *fake) pushed(ref record.Ref) record.Native {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.native(ref, f.rows[ref])
	n.Version.Final = false
	return n
}

// set is what a person or process on the platform does. It returns the observation.
func (f *fake) set(object, id string, fields map[string]any) record.Native {
	f.mu.Lock()
	ref := record.Ref{Platform: f.name, Object: object, ID: id}
	r := f.rows[ref]
	if r == nil {
		r = &row{fields: map[string]any{}, born: f.now()}
		f.rows[ref] = r
	}
	merge(r.fields, decoded(fields))
	r.at, r.ours, r.actor = f.now().Truncate(f.resolution), false, f.actor
	f.mu.Unlock()
	return f.pushed(ref)
}

// remove deletes a native record, or merges it into another of its object.
func (f *fake) remove(object, id, into string) record.Native {
	f.mu.Lock()
	ref := record.Ref{Platform: f.name, Object: object, ID: id}
	r := f.rows[ref]
	r.gone, r.into, r.ours, r.at = true, into, false, f.now().Truncate(f.resolution)
	f.mu.Unlock()
	return f.pushed(ref)
}

// restore brings a native record back.
func (f *fake) restore(object, id string) record.Native {
	f.mu.Lock()
	ref := record.Ref{Platform: f.name, Object: object, ID: id}
	r := f.rows[ref]
	r.gone, r.into, r.born, r.at = false, "", f.now(), f.now().Truncate(f.resolution)
	f.mu.Unlock()
	return f.pushed(ref)
}

// holds is what a native record shows.
func (f *fake) holds(object, id string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rows[record.Ref{Platform: f.name, Object: object, ID: id}]
	if r == nil || r.gone {
		return nil
	}
	return maps.Clone(r.fields)
}

// ids lists the living native records of an object.
func (f *fake) ids(object string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for ref, r := range f.rows {
		if ref.Object == object && !r.gone {
			out = append(out, ref.ID)
		}
	}
	slices.Sort(out)
	return out
}

// Accepts makes the fake one that has picklists: list names the values of each.
func (f *fake) Accepts(_ context.Context, _, field, value string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, limited := f.lists[field]
	return !limited || slices.Contains(list, value), nil
}

func (f *fake) Read(ctx context.Context, ref record.Ref) (record.Native, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	f.readFor = budget.PurposeOf(ctx).Class
	if f.reading != nil {
		if err := f.reading(ref); err != nil {
			return record.Native{}, err
		}
	}
	r, ok := f.rows[ref]
	if !ok {
		return record.Native{}, fault.New(fault.NotFound, f.name+".read", "no such record")
	}
	return f.native(ref, r), nil
}

func (f *fake) Find(_ context.Context, object, external string) (record.Native, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finds++
	if ref, ok := f.carrying(object, external); ok {
		if f.reading != nil {
			if err := f.reading(ref); err != nil {
				return record.Native{}, err
			}
		}
		return f.native(ref, f.rows[ref]), nil
	}
	return record.Native{}, fault.New(fault.NotFound, f.name+".find", "no such record")
}

func (f *fake) carrying(object, external string) (record.Ref, bool) {
	for ref, r := range f.rows {
		if ref.Object == object && r.external == external && !r.gone {
			return ref, true
		}
	}
	return record.Ref{}, false
}

func (f *fake) Write(_ context.Context, writes []platform.Write) []platform.Written {
	out := make([]platform.Written, len(writes))
	var pushed []record.Native
	f.mu.Lock()
	for i, w := range writes {
		f.writes = append(f.writes, w)
		var t *told
		if f.tell != nil {
			t = f.tell(w)
		}
		if t != nil && !t.applied {
			out[i].Err = t.err
			continue
		}
		var n record.Native
		out[i], n = f.apply(w)
		if out[i].Err == nil {
			pushed = append(pushed, n)
		}
		if t != nil {
			out[i] = platform.Written{Err: t.err}
		}
	}
	emit := f.emit
	f.mu.Unlock()
	if emit != nil {
		for _, n := range pushed {
			emit(n)
		}
	}
	return out
}

// relations of the embedded configuration: where an external id of another object is written, and what it sets.
var relations = map[string]struct{ object, column string }{"Account": {"Account", "AccountId"}, "Order__r": {"Order", "Order__c"}}

func (f *fake) apply(w platform.Write) (platform.Written, record.Native) {
	ref := w.Ref
	created := false
	if w.Delete {
		r := f.rows[ref]
		if r == nil || r.gone {
			return platform.Written{ID: ref.ID}, record.Native{Ref: ref, Gone: true, Version: record.Version{At: f.now()}}
		}
		r.gone, r.ours, r.at = true, true, f.now().Truncate(f.resolution)
		return platform.Written{ID: ref.ID}, f.native(ref, r)
	}
	for field, list := range f.lists {
		if v, is := w.Fields[field].(string); is && !slices.Contains(list, v) {
			return platform.Written{Err: &fault.Error{Class: fault.Refused, Op: f.name + ".write", Code: "BAD_PICKLIST", Detail: "bad value for " + field, Fields: []string{field}}}, record.Native{}
		}
	}
	if ref.ID == "" {
		if found, ok := f.carrying(ref.Object, w.External); ok {
			ref = found
		} else {
			ref.ID, created = f.name[:1]+"-"+w.External, true
			for n := 2; f.rows[ref] != nil; n++ { // after one that was deleted
				ref.ID = fmt.Sprintf("%s-%s-%d", f.name[:1], w.External, n)
			}
		}
	}
	body := decoded(w.Fields)
	for key, to := range relations {
		by, ok := body[key].(map[string]any)
		if !ok {
			continue
		}
		target, ok := f.carrying(to.object, fmt.Sprint(by["Sorrel_Id__c"]))
		if !ok {
			return platform.Written{Err: fault.New(fault.MissingReference, f.name+".write", "no such "+key)}, record.Native{}
		}
		delete(body, key)
		body[to.column] = target.ID
	}
	if f.rewrite != nil {
		f.rewrite(ref.Object, body)
	}
	r := f.rows[ref]
	if r == nil || r.gone {
		if !created {
			return platform.Written{Err: fault.New(fault.NotFound, f.name+".write", "no such record")}, record.Native{}
		}
		r = &row{fields: map[string]any{}, born: f.now()}
		f.rows[ref] = r
		f.creates[w.External]++
	}
	merge(r.fields, body)
	r.external, r.at, r.ours = w.External, f.now().Truncate(f.resolution), !f.unmarked
	done := platform.Written{ID: ref.ID, Created: created}
	if f.tellsNumber {
		done.Version, done.Fields = record.Version{At: r.at}, decoded(r.fields)
	}
	n := f.native(ref, r)
	n.Version.Final = false
	return done, n
}

// state is what the platform holds, by external id, or native id where it has none.
func (f *fake) state() map[string]map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]map[string]any{}
	for ref, r := range f.rows {
		name := ref.Object + "/" + ref.ID
		if r.external != "" && f.name != record.NetSuite {
			name = ref.Object + "/" + r.external
		}
		out[name] = maps.Clone(r.fields)
	}
	return out
}

// written counts the writes since the last call, by object.
func (f *fake) written() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]int{}
	for _, w := range f.writes {
		out[w.Ref.Object]++
	}
	f.writes = nil
	return out
}

func (f *fake) total() int {
	n := 0
	for _, w := range f.written() {
		n += w
	}
	return n
}

func (f *fake) noDoubles(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for external, n := range f.creates {
		if n != 1 {
			t.Errorf("%s: %s was created %d times", f.name, external, n)
		}
	}
}

// answers sets what the next writes are told.
func (f *fake) answers(tell func(platform.Write) *told) {
	f.mu.Lock()
	f.tell = tell
	f.mu.Unlock()
}
