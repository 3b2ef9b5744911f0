package link_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/flow/link"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// fake is a platform that lists what it was given, in the order given.
type fake struct {
	objects map[string][]record.Native
	size    int          // of a page
	refuse  func() error // nil = never
	stuck   int          // how often the listing stands still
}

func (f *fake) Changes(_ context.Context, object, cursor string) (platform.Page, error) {
	if f.refuse != nil {
		if err := f.refuse(); err != nil {
			return platform.Page{}, err
		}
	}
	from := 0
	if cursor != "" {
		if _, err := fmt.Sscan(cursor, &from); err != nil {
			return platform.Page{}, err
		}
	}
	all := f.objects[object]
	to := min(from+f.size, len(all))
	if f.stuck > 0 {
		f.stuck--
		return platform.Page{Natives: all[from:to], Cursor: cursor, More: true}, nil
	}
	return platform.Page{Natives: all[from:to], Cursor: fmt.Sprint(to), More: to < len(all)}, nil
}

// world is what link stands on.
type world struct {
	t       testing.TB
	config  *policy.Set
	sources map[string]*fake
	store   *storetest.Faulty
	ledger  *ledger.Ledger
	waits   []time.Duration
	mu      sync.Mutex
	traces  int
}

func loadConfig(t testing.TB) *policy.Set {
	t.Helper()
	set, problems := policy.Load(config.FS)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func newWorld(t testing.TB, set *policy.Set) *world {
	now := func() time.Time { return start }
	w := &world{t: t, config: set, sources: map[string]*fake{}, store: &storetest.Faulty{Store: store.NewMemory(now)}}
	w.ledger = ledger.New(w.store, now)
	for _, p := range set.PlatformsOf("customer") {
		w.sources[p] = &fake{objects: map[string][]record.Native{}, size: 3}
	}
	return w
}

func rules(entity string) match.Rules {
	switch entity {
	case "customer":
		return matchtest.Rules()
	case "contact":
		return match.Rules{{Name: "email", Strong: true, Parts: []match.Part{{Field: "email", Normaliser: "email"}, {Field: "customer", Normaliser: "exact"}}}}
	}
	return nil
}

// memory is a scratch file in memory.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = append(m.b[:at], b...)
	return len(b), nil
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.NewReader(m.b).ReadAt(b, at)
}

func (w *world) run(o link.Options) (link.Report, error) {
	sources := map[string]link.Source{}
	for name, s := range w.sources {
		sources[name] = s
	}
	return link.New(link.Deps{Ledger: w.ledger, Config: w.config, Match: rules, Sources: sources, Scratch: &memory{},
		Now: func() time.Time { return start },
		NewID: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.traces++
			return fmt.Sprint("t-", w.traces)
		},
		Wait: func(_ context.Context, d time.Duration) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.waits = append(w.waits, d)
			return nil
		}}).Run(w.t.Context(), o)
}

func (w *world) must(o link.Options) link.Report {
	w.t.Helper()
	r, err := w.run(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// native makes a native record that says fields, as the platform would say them.
func (w *world) native(entity, p, id string, fields map[string]string, refs map[string]string) record.Native {
	w.t.Helper()
	values := map[string]record.Value{}
	for f, v := range fields {
		values[f] = record.TextValue(v)
	}
	for f := range refs {
		values[f] = record.TextValue("customer/x")
	}
	return written(w.t, w.config, entity, p, id, values, refs)
}

func written(t testing.TB, set *policy.Set, entity, p, id string, values map[string]record.Value, refs map[string]string) record.Native {
	t.Helper()
	m, ok := set.ByEntity(entity, p)
	if !ok {
		t.Fatalf("no mapping of %s on %s", entity, p)
	}
	out := map[string]record.Value{}
	for f, v := range values {
		if _, _, writes := m.Native(f); writes {
			out[f] = v
		}
	}
	body, _, err := m.Write(out, false, func(field string, _ record.ID) (mapping.Target, bool) {
		return mapping.Target{NativeID: refs[field]}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	n := record.Native{Ref: record.Ref{Platform: p, Object: m.Object, ID: id}, Version: record.Version{At: start.Add(-time.Hour), Seq: 1}, Born: start.Add(-48 * time.Hour)}
	if err := dec.Decode(&n.Fields); err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) add(natives ...record.Native) {
	for _, n := range natives {
		s := w.sources[n.Platform]
		s.objects[n.Object] = append(s.objects[n.Object], n)
	}
}

// customer adds a customer on a platform.
func (w *world) customer(p, id string, fields ...string) record.Ref {
	w.t.Helper()
	f := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		f[fields[i]] = fields[i+1]
	}
	n := w.native("customer", p, id, f, nil)
	w.add(n)
	return n.Ref
}

// shot is everything that a run leaves behind, but for correlation ids.
type shot struct {
	Records    map[record.ID]map[string]record.Ref
	Golden     map[record.ID]map[string]record.Value
	Due        map[record.ID][]string
	Exceptions map[string]string
	Rechecks   []string
}

func (w *world) shot() shot {
	w.t.Helper()
	ctx, l := w.t.Context(), ledger.New(w.store.Store, func() time.Time { return start })
	s := shot{map[record.ID]map[string]record.Ref{}, map[record.ID]map[string]record.Value{}, map[record.ID][]string{}, map[string]string{}, nil}
	for _, src := range w.sources {
		for _, natives := range src.objects {
			for _, n := range natives {
				id, linked, err := l.Lookup(ctx, n.Ref)
				if err != nil {
					w.t.Fatal(err)
				}
				if !linked {
					continue
				}
				state, err := l.Follow(ctx, id)
				if err != nil || !state.Exists() {
					w.t.Fatalf("%s is linked to %s, which is not there (%v)", n.Ref, id, err)
				}
				if state.Record.Views[n.Platform].Ref != n.Ref {
					w.t.Errorf("%s is linked to %s, which has %s", n.Ref, id, state.Record.Views[n.Platform].Ref)
				}
				s.Records[id], s.Golden[id] = map[string]record.Ref{}, map[string]record.Value{}
				for p, v := range state.Record.Views {
					s.Records[id][p] = v.Ref
				}
				for f, g := range state.Record.Golden {
					s.Golden[id][f] = g.Value
				}
				s.Due[id] = slices.Sorted(maps.Keys(state.Due))
			}
		}
	}
	all, err := l.Exceptions(ctx, true)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, x := range all {
		s.Exceptions[x.ID] = x.Type + " " + x.Status + " " + x.Native + " " + x.Detail
	}
	for r, err := range l.Rechecks(ctx) {
		if err != nil {
			w.t.Fatal(err)
		}
		s.Rechecks = append(s.Rechecks, r.Ref.String())
	}
	slices.Sort(s.Rechecks)
	return s
}

func (w *world) linked(r record.Ref) record.ID {
	w.t.Helper()
	id, _, err := w.ledger.Lookup(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

const (
	ns, sf, zd, sn = record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow
)

// small is a world with one of everything.
func small(t testing.TB, set *policy.Set) *world {
	w := newWorld(t, set)
	for i, p := range []string{ns, sf, zd, sn} { // one customer, four times
		w.customer(p, fmt.Sprint("a", i), "name", "Northwind GmbH", "taxId", "DE 123456789", "billingAddress.country", "DE")
	}
	w.customer(ns, "b0", "name", "Alone", "taxId", "FR12345678901", "billingAddress.country", "FR")     // nobody else
	w.customer(zd, "c2", "name", "Stranger", "taxId", "NL123456789B01", "billingAddress.country", "NL") // not on an origin
	w.customer(ns, "d0", "name", "Twice", "taxId", "IT02348761903", "billingAddress.country", "IT")     // twice on one platform
	w.customer(sf, "d1", "name", "Twice", "taxId", "IT02348761903", "billingAddress.country", "IT")
	w.customer(sf, "d2", "name", "Twice Two", "taxId", "IT02348761903", "billingAddress.country", "IT")
	w.customer(ns, "e0", "name", "Sister One", "website", "sister.example", "billingAddress.country", "DE") // only a weak key
	w.customer(sf, "e1", "name", "Sister Two", "website", "www.sister.example", "billingAddress.country", "DE")
	gone := w.native("customer", sf, "g1", map[string]string{"name": "Gone"}, nil)
	gone.Fields, gone.Gone = nil, true
	w.add(gone)
	w.add(record.Native{Ref: record.Ref{Platform: ns, Object: "customer", ID: "h0"}, Version: record.Version{At: start}, Fields: map[string]any{"nothing": "known"}})
	return w
}

func TestReportWritesNothing(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	w.store.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == "commit" {
			t.Error("a report wrote something")
		}
		return storetest.None
	}
	r := w.must(link.Options{Entities: []string{"customer"}})
	if r.Applied || len(r.Entities) != 1 {
		t.Fatalf("%+v", r)
	}
	e := r.Entities[0]
	for what, got := range map[string][2]link.Count{
		"matched": {e.Matched, link.Count{Records: 1, Natives: 4}}, "created": {e.Created, link.Count{Records: 1, Natives: 1}},
		"unmatched": {e.Unmatched, link.Count{Records: 1, Natives: 1}}, "linked": {e.Linked, link.Count{}},
		"ambiguous": {e.Ambiguous, link.Count{Records: 3, Natives: 5}},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %+v, want %+v", what, got[0], got[1])
		}
	}
	for _, p := range e.Platforms {
		want := map[string]link.Platform{ns: {Platform: ns, Listed: 5, Unusable: 1}, sf: {Platform: sf, Listed: 4, Deleted: 1},
			zd: {Platform: zd, Listed: 2}, sn: {Platform: sn, Listed: 1}}[p.Platform]
		if p != want {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	var reasons []string
	for _, d := range e.Doubtful {
		reasons = append(reasons, fmt.Sprint(d.Members[0].ID, " ", d.Reason, " ", len(d.Near), " ", len(d.Evidence)))
	}
	if want := []string{"d0 several records of one platform 0 2", "e0 shares only weak keys with others 1 0", "e1 shares only weak keys with others 1 0"}; len(reasons) != 3 ||
		reasons[0][:3] != want[0][:3] || reasons[1] != want[1] || reasons[2] != want[2] {
		t.Errorf("%q", reasons)
	}
	for _, rule := range e.Rules {
		if rule.Rule == "tax-id" && (rule.Keyed != 9 || rule.Matched != 4 || rule.Ambiguous != 3 || rule.Created != 2) {
			t.Errorf("%+v", rule)
		}
	}
	if len(e.Examples) != 1 || !strings.Contains(e.Examples[0], "h0") {
		t.Errorf("unusable: %q", e.Examples)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	r := w.must(link.Options{Entities: []string{"customer"}, Apply: true, By: "ida"})
	done := r.Entities[0].Done
	if done.Records != 2 || done.Natives != 5 || done.Parked != 3 {
		t.Errorf("%+v", done)
	}
	id := w.linked(record.Ref{Platform: ns, Object: "customer", ID: "a0"})
	if id == "" {
		t.Fatal("no record")
	}
	state, err := w.ledger.Follow(t.Context(), id)
	if err != nil || len(state.Record.Views) != 4 || state.Record.Golden["name"].Value.Raw() != "Northwind GmbH" {
		t.Fatalf("%+v (%v)", state, err)
	}
	alone := w.linked(record.Ref{Platform: ns, Object: "customer", ID: "b0"})
	states, err := w.ledger.Load(t.Context(), alone)
	if err != nil || len(states[alone].Due) == 0 {
		t.Errorf("the record of one platform is due nowhere: %+v (%v)", states[alone].Due, err)
	}
	for _, r := range []record.Ref{{Platform: zd, Object: "organization", ID: "c2"}, {Platform: ns, Object: "customer", ID: "d0"}, {Platform: sf, Object: "Account", ID: "e1"}} {
		if id := w.linked(r); id != "" {
			t.Errorf("%s is linked to %s", r, id)
		}
	}
	open, err := w.ledger.Exceptions(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	parked := 0
	for _, x := range open {
		if x.Type == "possible-duplicate" && x.Record == "" {
			parked++
			if x.Detail == "" || x.Remedy == "" {
				t.Errorf("%+v", x)
			}
		}
	}
	if parked != 3 {
		t.Errorf("%d possible duplicates: %+v", parked, open)
	}
	lines, err := w.ledger.Log(t.Context(), ledger.General)
	if err != nil || len(lines) != 1 || lines[0].By != "ida" || len(lines[0].Events) != 1 || !strings.Contains(lines[0].Events[0].Detail, "2 records") {
		t.Errorf("audit: %+v (%v)", lines, err)
	}

	once := w.shot()
	again := w.must(link.Options{Entities: []string{"customer"}, Apply: true, By: "ida"})
	if e := again.Entities[0]; e.Done.Records != 0 || e.Linked.Natives != 5 || e.Matched.Records+e.Created.Records != 0 || e.Ambiguous.Records != 3 {
		t.Errorf("again: %+v", e)
	}
	if twice := w.shot(); !reflect.DeepEqual(once, twice) {
		t.Errorf("applied twice:\n%+v\nonce:\n%+v", twice, once)
	}

	// Somebody gives the second of the two the tax id of a third customer: it is a customer of its own now, and so is the other.
	for i, n := range w.sources[sf].objects["Account"] {
		if n.ID == "d2" {
			w.sources[sf].objects["Account"][i] = w.native("customer", sf, "d2", map[string]string{"name": "Other", "taxId": "IT04471289905", "billingAddress.country": "IT"}, nil)
		}
	}
	r = w.must(link.Options{Entities: []string{"customer"}, Apply: true})
	if done := r.Entities[0].Done; done.Natives < 2 || done.Resolved != 1 || done.Parked != 2 {
		t.Errorf("after the correction: %+v", done)
	}
	if a, b := w.linked(record.Ref{Platform: ns, Object: "customer", ID: "d0"}), w.linked(record.Ref{Platform: sf, Object: "Account", ID: "d1"}); a == "" || a != b {
		t.Errorf("%q and %q", a, b)
	}
}

// generated fills a world with customers of matchtest.
func generated(t testing.TB, set *policy.Set, seed uint64, n int) *world {
	w := newWorld(t, set)
	items, _ := matchtest.Generate(seed, n)
	for it, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		w.add(written(t, set, "customer", it.Ref.Platform, it.Ref.ID, it.Fields, nil))
	}
	return w
}

func text(t testing.TB, r link.Report) string {
	t.Helper()
	for i := range r.Entities {
		r.Entities[i].Seconds = 0
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOrderOfListingDoesNotMatter(t *testing.T) {
	t.Parallel()
	set := loadConfig(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		a, b := generated(t, set, seed, 6), generated(t, set, seed, 6)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 0))
		for _, s := range b.sources {
			s.size = 1 + r.IntN(8)
			for object, natives := range s.objects {
				natives = append(natives, natives[r.IntN(len(natives))]) // listed twice
				r.Shuffle(len(natives), func(i, j int) { natives[i], natives[j] = natives[j], natives[i] })
				s.objects[object] = natives
			}
		}
		workers := rapid.IntRange(1, 4).Draw(rt, "workers")
		x := a.must(link.Options{Entities: []string{"customer"}, Apply: true, Workers: 1})
		y := b.must(link.Options{Entities: []string{"customer"}, Apply: true, Workers: workers})
		if x, y := text(t, x), text(t, y); x != y {
			rt.Fatalf("the reports differ:\n%s\n%s", x, y)
		}
		if x, y := a.shot(), b.shot(); workers == 1 && !reflect.DeepEqual(x, y) || !reflect.DeepEqual(x.Records, y.Records) {
			rt.Fatalf("the ledgers differ:\n%+v\n%+v", x, y)
		}
	})
}

func TestKilledAtEveryCommitAndRunAgain(t *testing.T) {
	t.Parallel()
	set := loadConfig(t)
	o := link.Options{Entities: []string{"customer"}, Apply: true, Workers: 1}
	clean := generated(t, set, 7, 12)
	commits := 0
	clean.store.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == "commit" {
			commits++
		}
		return storetest.None
	}
	clean.must(o)
	want := clean.shot()
	if commits < 10 {
		t.Fatalf("only %d commits", commits)
	}
	for _, how := range []storetest.Fault{storetest.FailBefore, storetest.FailAfter} {
		for at := 1; at <= commits; at++ {
			w := generated(t, set, 7, 12)
			n := 0
			w.store.Next = func(op string, _ []store.Key) storetest.Fault {
				if op != "commit" {
					return storetest.None
				}
				n++
				if n < at {
					return storetest.None
				}
				if n == at {
					return how
				}
				return storetest.FailBefore // the process is gone
			}
			if _, err := w.run(o); err == nil {
				t.Fatalf("killed at commit %d of %d, and no error", at, commits)
			}
			w.store.Next = nil
			w.must(o)
			if got := w.shot(); !reflect.DeepEqual(got, want) {
				t.Fatalf("killed (%v) at commit %d of %d and run again:\n%+v\nwant\n%+v", how, at, commits, got, want)
			}
		}
	}
}

// Somebody else links a member between listing and commit: the rest joins that record.
func TestJoinsWhatOthersLinkedMeanwhile(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	zendesk := record.Ref{Platform: zd, Object: "organization", ID: "a2"}
	theirs := ledger.Mint("customer", zendesk)
	var once sync.Once
	raced := false
	w.store.Next = func(op string, keys []store.Key) storetest.Fault {
		if op == "commit" && slices.ContainsFunc(keys, func(k store.Key) bool { return strings.Contains(k.Part, "link") && strings.Contains(k.Part, "a2") }) {
			once.Do(func() {
				raced = true
				other := ledger.New(w.store.Store, func() time.Time { return start })
				before, err := other.Follow(t.Context(), theirs)
				if err != nil {
					t.Error(err)
				}
				after := before.Clone()
				after.Record.Views[zd] = record.View{Ref: zendesk, Said: map[string]record.Cell{}, Born: record.Version{At: start.Add(-48 * time.Hour)}}
				if err := other.Commit(t.Context(), ledger.Entry{Before: before, After: after, Links: map[record.Ref]record.ID{zendesk: theirs}}); err != nil {
					t.Error(err)
				}
			})
		}
		return storetest.None
	}
	w.must(link.Options{Entities: []string{"customer"}, Apply: true})
	if !raced {
		t.Fatal("nobody interfered")
	}
	for _, r := range []record.Ref{zendesk, {Platform: ns, Object: "customer", ID: "a0"}, {Platform: sf, Object: "Account", ID: "a1"}} {
		if id := w.linked(r); id != theirs {
			t.Errorf("%s is linked to %q, want %s", r, id, theirs)
		}
	}
	w.shot() // checks that views and links agree
}

func TestTakesExternalIDsIntoAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, loadConfig(t))
	a := w.native("customer", ns, "1", map[string]string{"name": "One"}, nil)
	b := w.native("customer", sf, "2", map[string]string{"name": "Uno"}, nil)
	c := w.native("customer", zd, "3", map[string]string{"name": "Eins"}, nil)
	id := ledger.Mint("customer", a.Ref)
	w.add(a)
	w.must(link.Options{Entities: []string{"customer"}, Apply: true})
	b.External, c.External = id.External(), id.External()
	w.add(b, c)
	r := w.must(link.Options{Entities: []string{"customer"}, Apply: true})
	if e := r.Entities[0]; e.Matched != (link.Count{Records: 1, Natives: 3}) || e.Done.Natives != 2 {
		t.Errorf("%+v", e)
	}
	for _, n := range []record.Native{a, b, c} {
		if got := w.linked(n.Ref); got != id {
			t.Errorf("%s is linked to %q, want %s", n.Ref, got, id)
		}
	}
}

// change replaces a listed native record by a later version of it.
func (w *world) change(p, id string, fields map[string]string) {
	w.t.Helper()
	for object, natives := range w.sources[p].objects {
		for i, n := range natives {
			if n.ID == id {
				c := w.native("customer", p, id, fields, nil)
				c.Version.Seq = n.Version.Seq + 1
				w.sources[p].objects[object][i] = c
			}
		}
	}
}

func TestPeopleHaveTheLastWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, loadConfig(t))
	one := w.customer(ns, "1", "name", "One", "taxId", "IT02348761903", "billingAddress.country", "IT")
	two := w.customer(sf, "2", "name", "Two", "taxId", "IT04471289905", "billingAddress.country", "IT")
	o := link.Options{Entities: []string{"customer"}, Apply: true}
	w.must(o)
	a, b := w.linked(one), w.linked(two)
	if a == "" || b == "" || a == b {
		t.Fatalf("%q and %q", a, b)
	}
	w.change(sf, "2", map[string]string{"name": "Two", "taxId": "IT02348761903", "billingAddress.country": "IT"})
	e := w.must(o).Entities[0]
	if e.Ambiguous.Natives != 2 || e.Doubtful[0].Reason != match.ReasonLinked || len(e.Doubtful[0].Records) != 2 || e.Done.Parked != 1 {
		t.Errorf("%+v", e)
	}
	cause := govern.Cause{Trace: "people", By: "ida", Now: start}
	if _, err := govern.Tell(t.Context(), w.ledger, w.config, a, b, cause); err != nil {
		t.Fatal(err)
	}
	if e := w.must(o).Entities[0]; e.Ambiguous.Natives != 0 || e.Linked.Natives != 2 || e.Done.Resolved != 1 {
		t.Errorf("told apart: %+v", e)
	}
}

func TestFollowsRedirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, loadConfig(t))
	one := w.customer(ns, "1", "name", "One", "taxId", "IT02348761903", "billingAddress.country", "IT")
	two := w.customer(sf, "2", "name", "Two", "taxId", "IT04471289905", "billingAddress.country", "IT")
	o := link.Options{Entities: []string{"customer"}, Apply: true}
	w.must(o)
	into, from := w.linked(one), w.linked(two)
	if j, err := govern.Unite(t.Context(), w.ledger, w.config, into, from, govern.Cause{Trace: "people", By: "ida", Now: start}); err != nil || !j.Done {
		t.Fatalf("%+v %v", j, err)
	}
	late := w.native("customer", zd, "3", map[string]string{"name": "Drei"}, nil)
	late.External = from.External()
	w.add(late)
	w.must(o)
	if id := w.linked(late.Ref); id != into {
		t.Errorf("linked to %q, want %s, which %s was merged into", id, into, from)
	}
	w.shot()
}

func TestContactsFollowTheirCustomers(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	contact := func(p, id, company, email string) record.Ref {
		n := w.native("contact", p, id, map[string]string{"lastName": "Doe", "firstName": "Jo", "name": "Jo Doe", "email": email}, map[string]string{"customer": company})
		if p == sf { // which is written by external id, and read by native id
			n.Fields["AccountId"] = company
		}
		w.add(n)
		return n.Ref
	}
	one, two := contact(sf, "k1", "a1", "jo@northwind.example"), contact(ns, "k2", "a0", "JO@northwind.example")
	waiting := contact(ns, "k3", "d0", "doe@twice.example")
	r := w.must(link.Options{Apply: true})
	if len(r.Entities) != 2 || r.Entities[0].Entity != "customer" || r.Entities[1].Entity != "contact" {
		t.Fatalf("%+v", r)
	}
	id := w.linked(one)
	if id == "" || id != w.linked(two) {
		t.Fatalf("%q and %q", id, w.linked(two))
	}
	customer := w.linked(record.Ref{Platform: ns, Object: "customer", ID: "a0"})
	state, err := w.ledger.Follow(t.Context(), id)
	if err != nil || state.Record.Golden["customer"].Value.Raw() != string(customer) {
		t.Errorf("the contact's customer is %v (%v), want %s", state.Record.Golden["customer"].Value, err, customer)
	}
	// Nothing matches the contact of a customer that nobody has decided on: it is created, and looked up again.
	if s := w.shot(); w.linked(waiting) == "" || !slices.Equal(s.Rechecks, []string{waiting.String()}) || r.Entities[1].Done.Waiting != 1 {
		t.Errorf("%q, %+v; %+v", w.linked(waiting), s.Rechecks, r.Entities[1].Done)
	}
}

func TestWaitsForPlatforms(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	refused := 0
	w.sources[zd].refuse = func() error {
		if refused++; refused <= 2 {
			return &fault.Error{Class: fault.Throttled, Op: "zendesk", RetryAt: start.Add(7 * time.Second)}
		}
		return nil
	}
	if r := w.must(link.Options{Entities: []string{"customer"}}); r.Entities[0].Matched.Natives != 4 {
		t.Errorf("%+v", r.Entities[0])
	}
	if want := []time.Duration{7 * time.Second, 7 * time.Second}; !slices.Equal(w.waits, want) {
		t.Errorf("waited %v", w.waits)
	}
	w.sources[zd].refuse, w.sources[zd].stuck, w.waits = nil, 3, nil
	if r := w.must(link.Options{Entities: []string{"customer"}}); r.Entities[0].Matched.Natives != 4 || !slices.Equal(w.waits, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}) {
		t.Errorf("a listing that stood still: %v, %+v", w.waits, r.Entities[0])
	}
	w.sources[zd].refuse = func() error { return fault.New(fault.Unauthenticated, "zendesk", "credential refused") }
	if _, err := w.run(link.Options{Entities: []string{"customer"}}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("%v", err)
	}
}

func TestRefusesToApplyWithoutEveryPlatform(t *testing.T) {
	t.Parallel()
	w := small(t, loadConfig(t))
	delete(w.sources, sn)
	r := w.must(link.Options{Entities: []string{"customer"}})
	if !slices.Equal(r.Entities[0].Missing, []string{sn}) {
		t.Errorf("%+v", r.Entities[0].Missing)
	}
	if _, err := w.run(link.Options{Entities: []string{"customer"}, Apply: true}); err == nil || !strings.Contains(err.Error(), sn) {
		t.Errorf("%v", err)
	}
	if _, err := w.run(link.Options{Entities: []string{"nonsense"}}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}
