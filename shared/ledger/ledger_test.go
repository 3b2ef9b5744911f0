package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/workflow"
)

func clock() time.Time { return epoch }

// meter counts what a store is asked for, in DynamoDB's requests and request units (aws.amazon.com/dynamodb/pricing:
// a strongly consistent read 1 unit per 4 KB and item, a write 1 per KB, a transaction twice that).
type meter struct {
	store.Store
	mu           sync.Mutex
	requests     int
	reads, write float64
	ops          []store.Op // of the last commit
}

func units(size, per int) float64 { return max(1, float64((size+per-1)/per)) }

// overhead is about what an item's attribute names, revision and expiry add.
const overhead = 40

func (m *meter) note(reads, write float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	m.reads, m.write = m.reads+reads, m.write+write
}

func (m *meter) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	e, err := m.Store.Get(ctx, k)
	m.note(units(len(e.Value)+overhead, 4096), 0)
	return e, err
}

func (m *meter) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	found, err := store.GetMany(ctx, m.Store, keys...)
	sum, out := float64(len(keys)-len(found)), make([]store.Entry, 0, len(found))
	for _, e := range found {
		sum += units(len(e.Value)+overhead, 4096)
		out = append(out, e)
	}
	m.note(sum, 0)
	return out, err
}

func (m *meter) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		size := 0
		defer func() { m.note(units(size, 4096), 0) }()
		for e, err := range m.Store.Range(ctx, part, from, to) {
			size += len(e.Value) + overhead
			if !yield(e, err) {
				return
			}
		}
	}
}

func (m *meter) Commit(ctx context.Context, ops ...store.Op) error {
	sum := 0.0
	for _, op := range ops {
		sum += units(len(op.Key.Part)+len(op.Key.Sort)+len(op.Value)+overhead, 1024)
	}
	if len(ops) > 1 {
		sum *= 2
	}
	m.note(0, sum)
	m.mu.Lock()
	m.ops = ops
	m.mu.Unlock()
	return m.Store.Commit(ctx, ops...)
}

// take returns what was counted since the last call.
func (m *meter) take() (requests int, reads, write float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	requests, reads, write = m.requests, m.reads, m.write
	m.requests, m.reads, m.write = 0, 0, 0
	return requests, reads, write
}

// count of ops of a kind whose partition holds word.
func (m *meter) count(kind store.Kind, word string) int {
	n := 0
	for _, op := range m.ops {
		if op.Kind == kind && strings.Contains(op.Key.Part+separatorText+op.Key.Sort, word) {
			n++
		}
	}
	return n
}

const separatorText = "\x01"

func metered() (*Ledger, *meter) {
	m := &meter{Store: store.NewMemory(clock)}
	return New(m, clock), m
}

var order7 = record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "7"}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, l *Ledger, ref record.Ref) Found {
	t.Helper()
	found, _, err := l.Open(t.Context(), []Sighting{{Ref: ref, Entity: "order"}}, nil)
	check(t, err)
	return found[0]
}

// said is the entry of one more observation of status.
func said(t *testing.T, l *Ledger, ref record.Ref, status string, second int, trace string) Entry {
	t.Helper()
	f := open(t, l, ref)
	after := f.State.Clone()
	o := record.Observation{Ref: ref, Version: record.Version{At: epoch.Add(time.Duration(second) * time.Second)}, Trace: trace,
		Fields: map[string]record.Value{"status": record.TextValue(status)}}
	after.Record.Views[ref.Platform], _ = record.Observe(after.Record.Views[ref.Platform], o)
	folded, out := record.Fold(after.Record, rules(), on, epoch)
	after.Record = folded
	after.MarkDue(rules(), forms, trace, budget.Live, epoch, true)
	e := Entry{Before: f.State, After: after, Changes: out.Changes, Steps: []Step{{At: o.Version.At, Trace: trace, Step: "changed", Record: after.Record.ID}}}
	if !f.Linked {
		e.Links = map[record.Ref]record.ID{ref: after.Record.ID}
	}
	return e
}

func due(t *testing.T, l *Ledger, platform string) []Pending {
	t.Helper()
	var out []Pending
	for p, err := range l.DueFor(t.Context(), platform) {
		check(t, err)
		out = append(out, p)
	}
	return out
}

func TestCommitKeepsEverythingTogether(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	if f := open(t, l, order7); f.Linked || f.State.Exists() || f.State.Record.ID != Mint("order", order7) {
		t.Fatalf("an unknown native record is %+v", f)
	}
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	f := open(t, l, order7)
	id := f.State.Record.ID
	if !f.Linked || !f.State.Exists() || f.State.Record.Golden["status"].Value != record.TextValue("billed") {
		t.Errorf("found %+v", f)
	}
	if got, ok, err := l.Lookup(t.Context(), order7); got != id || !ok || err != nil {
		t.Errorf("lookup gives %s %v %v", got, ok, err)
	}
	for _, p := range []string{"salesforce", "zendesk"} {
		if got := due(t, l, p); len(got) != 1 || got[0].Record != id || !got[0].Since.Equal(epoch) {
			t.Errorf("due for %s: %+v", p, got)
		}
	}
	if steps := must[[]Step](t)(l.Trace(t.Context(), "t1")); len(steps) != 1 || steps[0].Step != "changed" {
		t.Errorf("trace %+v", steps)
	}
	changes := must[[]ChangeEntry](t)(l.Changes(t.Context(), id))
	if len(changes) != 1 || changes[0].Field != "status" || changes[0].Before != nil || changes[0].After != "billed" || changes[0].From != "netsuite" {
		t.Errorf("change log %+v", changes)
	}
}

func TestCommitConflicts(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	first, second := said(t, l, order7, "billed", 1, "t1"), said(t, l, order7, "closed", 2, "t2")
	check(t, l.Commit(t.Context(), first))
	for range 2 {
		if err := l.Commit(t.Context(), second); !fault.Is(err, fault.Conflict) {
			t.Fatalf("a state that somebody else made meanwhile: %v", err)
		}
	}
	if steps := must[[]Step](t)(l.Trace(t.Context(), "t2")); len(steps) != 0 {
		t.Errorf("a conflict left %+v", steps)
	}
	// A new link that exists meanwhile conflicts although the state is as it was read.
	e := said(t, l, order7, "closed", 3, "t3")
	e.Links = map[record.Ref]record.ID{order7: "order/other"}
	if err := l.Commit(t.Context(), e); !fault.Is(err, fault.Conflict) {
		t.Errorf("a link that exists meanwhile: %v", err)
	}
	if got, _, _ := l.Lookup(t.Context(), order7); got != first.After.Record.ID {
		t.Errorf("the link was taken over by %s", got)
	}
}

func TestDueIsIndexedOnce(t *testing.T) {
	t.Parallel()
	l, m := metered()
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	if n := m.count(store.Put, separatorText+"due"); n != 2 {
		t.Errorf("%d pointers written when two platforms became due, want 2", n)
	}
	check(t, l.Commit(t.Context(), said(t, l, order7, "closed", 2, "t2")))
	if n := m.count(store.Put, separatorText+"due"); n != 0 {
		t.Errorf("%d pointers written for work that is due already", n)
	}
	s := open(t, l, order7).State
	if d := s.Due["zendesk"]; !slices.Equal(d.Traces, []string{"t1", "t2"}) || !d.Since.Equal(epoch) {
		t.Errorf("due is %+v", d)
	}
	after := s.Clone()
	d := after.Due["zendesk"]
	d.NotBefore, d.Attempts = epoch.Add(time.Minute), 1
	after.Due["zendesk"] = d
	delete(after.Due, "salesforce")
	check(t, l.Commit(t.Context(), Entry{Before: s, After: after}))
	if a, b := m.count(store.Put, separatorText+"due"), m.count(store.Delete, separatorText+"due"); a != 1 || b != 1 {
		t.Errorf("postponing one and ending another wrote %d and deleted %d pointers, want 1 and 1", a, b)
	}
	if got := due(t, l, "zendesk"); len(got) != 1 || !got[0].NotBefore.Equal(epoch.Add(time.Minute)) {
		t.Errorf("due for zendesk: %+v", got)
	}
	if got := due(t, l, "salesforce"); len(got) != 0 {
		t.Errorf("due for salesforce: %+v", got)
	}
}

func TestMarkDueDoesNotWakeWhatMustWait(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{"netsuite": {Ref: order7,
		Said: map[string]record.Cell{"status": {Value: record.TextValue("billed"), Version: record.Version{At: epoch}}}}}}}
	s.Record, _ = record.Fold(s.Record, rules(), on, epoch)
	s.Due = map[string]Due{"zendesk": {Since: epoch, NotBefore: epoch.Add(time.Minute), Attempts: 3}}
	if wake := s.MarkDue(rules(), forms, "t1", budget.Live, epoch, true); !slices.Equal(wake, []string{"salesforce"}) {
		t.Errorf("woken: %v", wake)
	}
	if d := s.Due["zendesk"]; d.Attempts != 3 || !d.NotBefore.Equal(epoch.Add(time.Minute)) || !slices.Equal(d.Traces, []string{"t1"}) {
		t.Errorf("due is %+v", d)
	}
	for i := range 20 {
		s.AddDue("zendesk", fmt.Sprint("more", i), budget.Live, epoch)
	}
	if n := len(s.Due["zendesk"].Traces); n != maxTraces {
		t.Errorf("%d correlation ids remembered", n)
	}
}

func TestReconcileOpensAndResolves(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	commit := func(rightful ...Exception) {
		t.Helper()
		s := open(t, l, order7).State
		after := s.Clone()
		xs, err := l.Reconcile(t.Context(), &after, epoch, rightful)
		check(t, err)
		check(t, l.Commit(t.Context(), Entry{Before: s, After: after, Exceptions: xs}))
	}
	a := Exception{Type: "refused-write", Record: Mint("order", order7), Platform: "zendesk", Field: "status", Detail: "no"}
	b := a
	b.Field = "phone"
	commit(a, b, a)
	if got := must[[]Exception](t)(l.Exceptions(t.Context(), false)); len(got) != 2 {
		t.Fatalf("open: %+v", got)
	}
	commit(b)
	open1, all := must[[]Exception](t)(l.Exceptions(t.Context(), false)), must[[]Exception](t)(l.Exceptions(t.Context(), true))
	if len(open1) != 1 || open1[0].Field != "phone" || len(all) != 2 {
		t.Errorf("open: %+v, all: %+v", open1, all)
	}
	commit(a, b)
	if got := must[[]Exception](t)(l.Exceptions(t.Context(), false)); len(got) != 2 {
		t.Errorf("a recurrence does not open again: %+v", got)
	}
	commit()
	if s := open(t, l, order7).State; len(s.Open) != 0 {
		t.Errorf("the state still names %v", s.Open)
	}
}

func TestParkKeepsTheBeginning(t *testing.T) {
	t.Parallel()
	now := epoch
	l := New(store.NewMemory(clock), func() time.Time { return now })
	x := Exception{Type: "unmatched", Native: order7.String(), Platform: "netsuite", Detail: "first"}
	check(t, l.Park(t.Context(), x))
	now, x.Detail = epoch.Add(time.Hour), "second"
	check(t, l.Park(t.Context(), x))
	got := must[[]Exception](t)(l.Exceptions(t.Context(), true))
	if len(got) != 1 || !got[0].First.Equal(epoch) || !got[0].Last.Equal(now) || got[0].Detail != "second" || got[0].Status != ExceptionOpen {
		t.Errorf("parked %+v", got)
	}
	if _, err := l.Exception(t.Context(), "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown exception: %v", err)
	}
}

func TestRightful(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{ID: "order/1",
		Views:  map[string]record.View{"netsuite": {Ref: order7, Said: map[string]record.Cell{"status": {Doubt: &record.Doubt{Type: "unknown-picklist", Detail: "Z"}}}}},
		Golden: map[string]record.Golden{"phone": {Value: record.TextValue("1")}},
		Held:   map[string]record.Hold{"zendesk/phone": {Type: "refused-write", Detail: "too long", Value: record.TextValue("1")}}},
		Due: map[string]Due{"salesforce": {Stuck: true, Reason: "internal"}, "zendesk": {}}}
	var got []string
	for _, x := range Rightful(s, rules(), []record.Decision{{Field: "a", Path: record.Reject, Loser: record.Contribution{Platform: "zendesk"}}, {Field: "b", Path: record.Revert}}) {
		got = append(got, x.Type+" "+x.Platform+" "+x.Field)
	}
	want := []string{"path-not-permitted zendesk a", "refused-write salesforce ", "refused-write zendesk phone", "unknown-picklist netsuite status"}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestReleaseEndsHoldsOfUnwantedValues(t *testing.T) {
	t.Parallel()
	held := func(code, value string) record.Hold {
		return record.Hold{Type: "refused-write", Code: code, Detail: code, Value: record.TextValue(value), Since: epoch, Trace: "t1"}
	}
	s := State{Record: record.Record{
		Golden: map[string]record.Golden{"a": {Value: record.TextValue("new")}, "b": {Value: record.TextValue("same")}, "c": {Value: record.TextValue("same")}},
		Held: map[string]record.Hold{"zendesk/a": held("WHOLE", "old"), "zendesk/b": held("WHOLE", "same"), // refused together
			"zendesk/c": held("OTHER", "same"), "salesforce/b": held("WHOLE", "same")}}}
	before := s.Clone()
	after := s
	after.Release("")
	if got := slices.Sorted(maps.Keys(after.Record.Held)); !slices.Equal(got, []string{"salesforce/b", "zendesk/c"}) {
		t.Errorf("still held: %v", got)
	}
	if !reflect.DeepEqual(before.Record.Held, s.Record.Held) {
		t.Error("the state that it came from has changed")
	}
}

func TestReleaseEndsHoldsOfAnOlderConfiguration(t *testing.T) {
	t.Parallel()
	s := State{Record: record.Record{Policy: "v2",
		Golden: map[string]record.Golden{"a": {Value: record.TextValue("x")}},
		Held: map[string]record.Hold{"zendesk/a": {Type: "unknown-picklist", Detail: "no counterpart", Value: record.TextValue("x"), Since: epoch},
			"salesforce/a": {Type: "refused-write", Code: "INVALID", Value: record.TextValue("x"), Since: epoch}}}}
	same := s
	same.Release("v2")
	if len(same.Record.Held) != 2 {
		t.Errorf("held under the same configuration: %v", same.Record.Held)
	}
	s.Release("v1")
	if got := slices.Sorted(maps.Keys(s.Record.Held)); !slices.Equal(got, []string{"salesforce/a"}) {
		t.Errorf("still held after the configuration changed: %v", got)
	}
}

func TestRechecks(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	r := Recheck{Ref: order7, NotBefore: epoch, Reason: "away", Trace: "t1"}
	check(t, l.Postpone(t.Context(), r))
	list := func() []Recheck {
		var out []Recheck
		for r, err := range l.Rechecks(t.Context()) {
			check(t, err)
			out = append(out, r)
		}
		return out
	}
	old := list()
	if len(old) != 1 || old[0].Ref != order7 || old[0].Trace != "t1" {
		t.Fatalf("rechecks %+v", old)
	}
	r.NotBefore = epoch.Add(time.Minute) // asked for anew
	check(t, l.Postpone(t.Context(), r))
	check(t, l.Rechecked(t.Context(), old[0]))
	if got := list(); len(got) != 1 || !got[0].NotBefore.Equal(r.NotBefore) {
		t.Fatalf("one that was asked for anew is gone: %+v", got)
	}
	check(t, l.Rechecked(t.Context(), list()[0]))
	check(t, l.Rechecked(t.Context(), old[0]))
	if got := list(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

func TestBudgetIsWrittenByOneAtATime(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	a := must[budget.Saved](t)(l.Budget(t.Context(), "zendesk"))
	if a.Rev != "" || a.State != nil {
		t.Fatalf("before anybody wrote: %+v", a)
	}
	a.State = []byte(`{"a":1}`)
	check(t, l.SaveBudget(t.Context(), "zendesk", a))
	if err := l.SaveBudget(t.Context(), "zendesk", a); !fault.Is(err, fault.Conflict) {
		t.Fatalf("twice from the same: %v", err)
	}
	b := must[budget.Saved](t)(l.Budget(t.Context(), "zendesk"))
	if string(b.State) != `{"a":1}` || b.Rev == "" {
		t.Fatalf("%+v", b)
	}
	check(t, l.SaveBudget(t.Context(), "zendesk", b))
	if err := l.SaveBudget(t.Context(), "zendesk", b); !fault.Is(err, fault.Conflict) {
		t.Fatalf("from an old revision: %v", err)
	}
	if c := must[budget.Saved](t)(l.Budget(t.Context(), "netsuite")); c.Rev != "" {
		t.Fatal("platforms share a budget")
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	if got := must[string](t)(l.Cursor(t.Context(), "netsuite", "salesOrder")); got != "" {
		t.Errorf("a new cursor is %q", got)
	}
	for _, c := range []string{"1", "2"} {
		check(t, l.SaveCursor(t.Context(), "netsuite", "salesOrder", c))
	}
	check(t, l.SaveCursor(t.Context(), "netsuite", "customer", "9"))
	if got := must[string](t)(l.Cursor(t.Context(), "netsuite", "salesOrder")); got != "2" {
		t.Errorf("the cursor is %q", got)
	}
}

func TestTraceAndChangesAreInOrder(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	statuses := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"}
	for i, s := range statuses {
		check(t, l.Commit(t.Context(), said(t, l, order7, s, i+1, "t")))
	}
	steps := must[[]Step](t)(l.Trace(t.Context(), "t"))
	if len(steps) != len(statuses) || !slices.IsSortedFunc(steps, func(a, b Step) int { return a.At.Compare(b.At) }) {
		t.Errorf("steps: %+v", steps)
	}
	changes := must[[]ChangeEntry](t)(l.Changes(t.Context(), Mint("order", order7)))
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprint(c.After))
	}
	if !slices.Equal(got, statuses) {
		t.Errorf("change log: %v", got)
	}
}

// Two steps of one moment, one by the hub and one by deliver, are both kept.
func TestStepsOfOneMomentAreAllKept(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	for _, what := range []string{"kept-due", "written"} {
		s := open(t, l, order7).State
		check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Steps: []Step{{At: epoch, Trace: "t", Step: what, Platform: "zendesk", Record: "order/1"}}}))
	}
	if steps := must[[]Step](t)(l.Trace(t.Context(), "t")); len(steps) != 2 {
		t.Errorf("kept %+v", steps)
	}
}

// Whoever changes a clone as Clone allows does not reach those who share the state.
func TestClonesAreTheirOwn(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	vandal := open(t, l, order7).State.Clone()
	vandal.Record.Views["netsuite"] = record.View{}
	delete(vandal.Due, "zendesk")
	vandal.Record, _ = record.Fold(vandal.Record, rules(), on, epoch)
	if got := open(t, l, order7).State; got.Record.Views["netsuite"].ID != "7" || len(got.Due) != 2 || got.Record.Golden["status"].Value != record.TextValue("billed") {
		t.Errorf("one reader's changes reach another: %+v", got)
	}
}

// A native record that claims a record belongs to it only if the record exists.
func TestOpenFollowsClaimsOfExistingRecordsOnly(t *testing.T) {
	t.Parallel()
	l, m := metered()
	check(t, l.Commit(t.Context(), said(t, l, order7, "billed", 1, "t1")))
	id := Mint("order", order7)
	copyRef := record.Ref{Platform: "salesforce", Object: "Order", ID: "801"}
	look := func(claim record.ID) Found {
		t.Helper()
		found, _, err := l.Open(t.Context(), []Sighting{{Ref: copyRef, Entity: "order", External: claim}}, nil)
		check(t, err)
		return found[0]
	}
	if f := look(id); f.State.Record.ID != id || f.Linked || !f.State.Exists() {
		t.Errorf("claims an existing record: %+v", f)
	}
	if f := look("order/none"); f.State.Record.ID != Mint("order", copyRef) || f.State.Exists() {
		t.Errorf("claims a record that does not exist: %+v", f)
	}
	s := open(t, l, order7).State
	check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Links: map[record.Ref]record.ID{copyRef: id}}))
	m.take()
	if f := look(""); f.State.Record.ID != id || !f.Linked {
		t.Errorf("linked: %+v", f)
	}
	if requests, _, _ := m.take(); requests != 2 {
		t.Errorf("%d requests to follow a link elsewhere, want 2", requests)
	}
}

func TestFaultsAreClassified(t *testing.T) {
	t.Parallel()
	for kind, want := range map[storetest.Fault]fault.Class{storetest.FailBefore: fault.Down, storetest.FailAfter: fault.Unknown, storetest.Throttle: fault.Throttled} {
		faulty := &storetest.Faulty{Store: store.NewMemory(clock)}
		l := New(faulty, clock)
		e := said(t, l, order7, "billed", 1, "t1")
		faulty.Next = func(op string, _ []store.Key) storetest.Fault {
			if op == storetest.OpCommit {
				return kind
			}
			return storetest.None
		}
		if err := l.Commit(t.Context(), e); fault.ClassOf(err) != want {
			t.Errorf("commit: %v, want class %s", err, want)
		}
		faulty.Next = nil
		err := l.Commit(t.Context(), e)
		if kind == storetest.FailAfter { // it was written: the second try meets its own work
			if !fault.Is(err, fault.Conflict) {
				t.Errorf("after a lost acknowledgement: %v", err)
			}
		} else {
			check(t, err)
		}
		if s := open(t, l, order7).State; s.Record.Seq != 1 || len(s.Due) != 2 {
			t.Errorf("afterwards: %+v", s)
		}
		faulty.Next = func(string, []store.Key) storetest.Fault { return kind }
		if _, _, err := l.Open(t.Context(), []Sighting{{Ref: order7, Entity: "order"}}, nil); fault.RowOf(err).Queue != fault.Keep {
			t.Errorf("open: %v", err)
		}
		for _, err := range l.DueFor(t.Context(), "zendesk") {
			if err != nil && fault.RowOf(err).Queue != fault.Keep {
				t.Errorf("due: %v", err)
			}
		}
	}
	l, _ := metered()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.SaveCursor(ctx, "p", "o", "c"); !fault.Is(err, fault.Down) || !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
}

// TestPrices measures the table in the package documentation.
func TestPrices(t *testing.T) {
	t.Parallel()
	l, m := metered()
	e := said(t, l, order7, "billed", 1, "t1")
	id := e.After.Record.ID
	var r Replay
	var rec Reconciliation
	rows := []struct {
		verb         string
		do           func() error
		requests     int
		reads, write float64
	}{
		{"open, unknown", func() error {
			_, _, err := l.Open(t.Context(), []Sighting{{Ref: order7, Entity: "order"}}, nil)
			return err
		}, 1, 2, 0},
		{"commit: link, first change, step, 2 due", func() error { return l.Commit(t.Context(), e) }, 1, 0, 2 * (1 + 1 + 2 + 1 + 2 + 1)},
		{"open, known, with a reference", func() error {
			_, _, err := l.Open(t.Context(), []Sighting{{Ref: order7, Entity: "order"}}, []record.Ref{{Platform: "netsuite", Object: "customer", ID: "1"}})
			return err
		}, 1, 3, 0},
		{"commit: change and step, due already", func() error { return l.Commit(t.Context(), said(t, l, order7, "closed", 2, "t1")) }, 2, 2, 2 * (1 + 1 + 1 + 1)},
		{"load", func() error { _, err := l.Load(t.Context(), id); return err }, 1, 1, 0},
		{"commit: a view alone", func() error {
			s := open(t, l, order7).State
			return l.Commit(t.Context(), Entry{Before: s, After: s.Clone()})
		}, 2, 2, 1},
		{"commit: a view alone, in a newer version", func() error {
			s := open(t, l, order7).State
			after := s.Clone()
			v := after.Record.Views["netsuite"]
			v.Heard.At = v.Heard.At.Add(time.Second)
			after.Record.Views["netsuite"] = v
			return l.Commit(t.Context(), Entry{Before: s, After: after})
		}, 2 + 1, 2, 1 + 1},
		{"enrol", func() error { return l.Enrol(t.Context(), order7, id, record.Version{At: epoch}) }, 1, 0, 1},
		{"enrolled", func() error { _, err := l.Enrolled(t.Context(), order7); return err }, 1, 1, 0},
		{"roll", func() error {
			for _, err := range l.Roll(t.Context(), "netsuite", "salesOrder", "") {
				if err != nil {
					return err
				}
			}
			return nil
		}, shards, shards, 0},
		{"reconciliation, begun", func() (err error) {
			rec, err = l.SaveReconciliation(t.Context(), Reconciliation{ID: "r", Active: true, Head: []byte("{}")})
			return err
		}, 2, 1, 2 * (1 + 1)},
		{"reconciliation, moved on", func() (err error) { rec, err = l.SaveReconciliation(t.Context(), rec); return err }, 2, 1, 1},
		{"reconciliation, its set ends", func() error {
			_, err := l.SavePart(t.Context(), "r", 0, Part{Body: []byte("{}")}, order7, &Reconciled{Run: "r"})
			return err
		}, 2, 1, 2 * (1 + 1)},
		{"reconciled", func() error { _, _, err := l.LastReconciled(t.Context(), "netsuite", "salesOrder"); return err }, 1, 1, 0},
		{"commit: written, one due ends", func() error {
			s := open(t, l, order7).State
			after := s.Clone()
			delete(after.Due, "zendesk")
			return l.Commit(t.Context(), Entry{Before: s, After: after, Steps: []Step{{At: epoch, Trace: "t1"}}})
		}, 2, 2, 2 * (1 + 1 + 1)},
		{"postpone", func() error { return l.Postpone(t.Context(), Recheck{Ref: order7}) }, 1, 0, 1},
		{"rechecks", func() error {
			for r, err := range l.Rechecks(t.Context()) {
				if err != nil {
					return err
				}
				if err := l.Rechecked(t.Context(), r); err != nil {
					return err
				}
			}
			return nil
		}, shards + 1, shards, 1},
		{"due", func() error {
			for _, err := range l.DueFor(t.Context(), "zendesk") {
				if err != nil {
					return err
				}
			}
			return nil
		}, shards, shards, 0},
		{"replay, begun: its head, its mark, a line", func() (err error) {
			r, err = l.SaveReplay(t.Context(), Replay{ID: "r", State: ReplayPlanning}, nil, &LogEntry{By: "ada", Events: []record.Event{{Action: "x"}}})
			return err
		}, 3, 2, 2 * (1 + 1 + 2)},
		{"replay, moved on with a page", func() (err error) {
			r.Plan.Pages = 1
			r, err = l.SaveReplay(t.Context(), r, []PlanEntry{{Record: id}}, nil)
			return err
		}, 2, 1, 2 * (1 + 1)},
		{"replay, moved on", func() (err error) { r, err = l.SaveReplay(t.Context(), r, nil, nil); return err }, 2, 1, 1},
		{"plan page", func() error { _, err := l.PlanPage(t.Context(), "r", 0); return err }, 1, 1, 0},
		{"replaying", func() error { _, err := l.Replaying(t.Context()); return err }, 1, 1, 0},
		{"scan", func() error {
			for _, err := range l.Scan(t.Context(), LogMark{}, "") {
				if err != nil {
					return err
				}
			}
			return nil
		}, shards, shards, 0},
		{"park", func() error { return l.Park(t.Context(), Exception{Type: "unmatched", Native: "x"}) }, 2, 1, 1},
		{"unpark", func() error {
			return l.Unpark(t.Context(), Exception{Type: "unmatched", Native: "x"})
		}, 2, 1, 1},
		{"park again", func() error { return l.Park(t.Context(), Exception{Type: "unmatched", Native: "x"}) }, 2, 1, 1},
		{"save exception, parked", func() error {
			x := Exception{Type: "unmatched", Native: "x"}
			x.Identify()
			x, err := l.Exception(t.Context(), x.ID)
			if err != nil {
				return err
			}
			return l.SaveException(t.Context(), x, LogEntry{By: "ada"})
		}, 1 + 2, 1 + 1, 2 * (1 + 1 + 1)},
		{"reconcile, nothing opens", func() error {
			_, err := l.Reconcile(t.Context(), &State{}, epoch, nil)
			return err
		}, 0, 0, 0},
		{"reconcile, two open; commit with them", func() error {
			s := open(t, l, order7).State
			after := s.Clone()
			xs, err := l.Reconcile(t.Context(), &after, epoch, []Exception{{Type: "a", Record: id}, {Type: "b", Record: id}})
			if err != nil {
				return err
			}
			return l.Commit(t.Context(), Entry{Before: s, After: after, Exceptions: xs})
		}, 1 + 1 + 1, 2 + 2, 2 * (1 + 2)},
		{"save exception of a record", func() error {
			x := Exception{Type: "a", Record: id}
			x.Identify()
			x, err := l.Exception(t.Context(), x.ID)
			if err != nil {
				return err
			}
			return l.SaveException(t.Context(), x, LogEntry{By: "ada"})
		}, 1 + 2, 1 + 1, 2 * (1 + 1 + 1)},
		{"exceptions", func() error { _, err := l.Exceptions(t.Context(), false); return err }, 1, 1, 0},
		{"note", func() error { return l.Note(t.Context(), LogEntry{By: "ada"}) }, 2, 1, 2 * (1 + 1)},
		{"lookup", func() error { _, _, err := l.Lookup(t.Context(), order7); return err }, 2, 2, 0},
		{"follow", func() error { _, err := l.Follow(t.Context(), id); return err }, 1, 1, 0},
		{"claimed, two keys", func() error {
			_, err := l.Claimed(t.Context(), NewClaim("order", "a", "1"), NewClaim("order", "b", "1"))
			return err
		}, 1, 2, 0},
		{"commit: two claims, a timer and a proposal begin", func() error {
			s := open(t, l, order7).State
			after := s.Clone()
			after.Record.Proposals = proposal("p", record.ProposalOpen, epoch)
			after.Record.Overrides = map[string]record.Override{"a": {Value: record.NullValue(), Until: epoch.Add(time.Hour)}}
			return l.Commit(t.Context(), Entry{Before: s, After: after, Claims: map[Claim]Claiming{
				NewClaim("order", "a", "1"): {IDs: []record.ID{id}}, NewClaim("order", "b", "1"): {IDs: []record.ID{id}}}})
		}, 1 + 1, 2, 2 * (2 + 2 + 1 + 1)}, // the state is larger than 1 KB by now
		{"commit: the timer moves", func() error {
			s := open(t, l, order7).State
			after := s.Clone()
			after.Record.Overrides = map[string]record.Override{"a": {Value: record.NullValue(), Until: epoch.Add(time.Minute)}}
			return l.Commit(t.Context(), Entry{Before: s, After: after})
		}, 1 + 1, 2, 2 * (2 + 2)},
		{"commit of two records, a link moves", func() error {
			a, b := load(t, l, id), load(t, l, "order/other")
			ref := record.Ref{Platform: "zendesk", Object: "ticket", ID: "1"}
			return l.Commit(t.Context(), Entry{Before: a, After: a.Clone(), Relinks: map[record.Ref]record.ID{ref: id}, Events: []record.Event{{Action: "merged"}}},
				Entry{Before: b, After: b.Clone(), Events: []record.Event{{Action: "merged"}}})
		}, 2 + 1, 2, 2 * (2 + 1 + 1 + 1 + 2)},
		{"timers", func() error {
			for _, err := range l.Timers(t.Context(), epoch) {
				if err != nil {
					return err
				}
			}
			return nil
		}, shards, shards, 0},
		{"proposals", func() error { _, err := l.Proposals(t.Context(), false); return err }, 1, 1, 0},
		{"proposal", func() error { _, err := l.Proposal(t.Context(), "p"); return err }, 1, 1, 0},
		{"changes", func() error { _, err := l.Changes(t.Context(), id); return err }, 1, 1, 0},
		{"verify", func() error { _, err := l.Verify(t.Context(), nil); return err }, shards + 1, shards + 3, 0}, // three heads
		{"cursor", func() error { _, err := l.Cursor(t.Context(), "p", "o"); return err }, 1, 1, 0},
		{"save certificate, the first under its key", func() error {
			return l.SaveCertificate(t.Context(), "r", []byte("file"), "h", Certified{}, CertificateKey{ID: "k"})
		}, 2, 1, 2 * (1 + 1 + 1)},
		{"last certified", func() error { _, err := l.LastCertified(t.Context()); return err }, 1, 1, 0},
		{"certificate", func() error { _, err := l.Certificate(t.Context(), "r"); return err }, 1, 1, 0},
		{"certificate keys", func() error { _, err := l.CertificateKeys(t.Context()); return err }, 1, 1, 0},
		{"save cursor", func() error { return l.SaveCursor(t.Context(), "p", "o", "c") }, 1, 0, 1},
		{"listing", func() error { _, err := l.Listing(t.Context(), "p", "o"); return err }, 1, 1, 0},
		{"move listing", func() error {
			_, err := l.MoveListing(t.Context(), Listing{Platform: "p", Object: "new", Cursor: "c", Holder: &Holder{Run: "1", Until: epoch}})
			return err
		}, 2, 1, 1},
		{"budget", func() error { _, err := l.Budget(t.Context(), "p"); return err }, 1, 1, 0},
		{"save budget", func() error { return l.SaveBudget(t.Context(), "p", budget.Saved{State: []byte("{}")}) }, 1, 0, 1},
		{"take quota", func() error { _, err := l.TakeQuota(t.Context(), "c", epoch, 5, 100); return err }, 2, 1, 1},
		{"take quota of which nothing is left", func() error { _, err := l.TakeQuota(t.Context(), "c", epoch, 5, 5); return err }, 1, 1, 0},
		{"begin, the first", func() error {
			_, err := l.Begin(t.Context(), Beginning{Key: thing, Owner: "a", Lease: lease})
			return err
		}, 1, 0, 1},
		{"begin, another", func() error {
			_, err := l.Begin(t.Context(), Beginning{Key: thing, Owner: "b", Lease: lease})
			return err
		}, 2, 1, 1},
		{"doubt", func() error { return l.Doubt(t.Context(), thing, "a") }, 2, 1, 1},
		{"begin, taken over", func() error {
			_, err := l.Begin(t.Context(), Beginning{Key: thing, Owner: "c", Lease: lease})
			return err
		}, 3, 1, 2},
		{"give up", func() error { return l.GiveUp(t.Context(), thing, "c") }, 2, 1, 1},
		{"begin and finish", func() error {
			if _, err := l.Begin(t.Context(), Beginning{Key: thing, Owner: "d", Lease: lease}); err != nil {
				return err
			}
			return l.Finish(t.Context(), thing, "d", []byte("answer"), time.Hour)
		}, 1 + 2, 1, 1 + 1},
		{"trace", func() error { _, err := l.Trace(t.Context(), "t1"); return err }, 1, 1, 0},
		{"commit: a run begins, and waits for a time", func() error {
			s := load(t, l, "order/other")
			after := s.Clone()
			r := Run{Run: workflow.Run{Definition: "d", Subject: "order/other", Number: 1, State: workflow.Running, Look: epoch}}
			after.Look(r.ID(), r.Look)
			return l.Commit(t.Context(), Entry{Before: s, After: after, Runs: []Run{r}})
		}, 1 + 1, 1, 2 * (1 + 1 + 1 + 1)},
		{"run", func() error { _, err := l.Run(t.Context(), "d/order/other/1"); return err }, 1, 1, 0},
		{"latest run", func() error { _, _, err := l.LatestRun(t.Context(), "d", "order/other"); return err }, 1, 1, 0},
		{"commit: a reference begins", func() error {
			return l.Commit(t.Context(), pointing(State{Record: record.Record{ID: "order/a"}}, map[string]record.ID{"customer": "order/other"}))
		}, 1, 0, 2 * (1 + 1)},
		{"commit: it moves", func() error {
			return l.Commit(t.Context(), pointing(load(t, l, "order/a"), map[string]record.ID{"customer": "customer/1"}))
		}, 1 + 1, 1, 2 * (1 + 2)},
		{"commit: it stays", func() error {
			return l.Commit(t.Context(), pointing(load(t, l, "order/a"), map[string]record.ID{"customer": "customer/1"}))
		}, 1 + 1, 1, 1},
		{"referrers", func() error {
			for _, err := range l.Referrers(t.Context(), "customer/1", "order") {
				if err != nil {
					return err
				}
			}
			return nil
		}, 2, 2, 0},
		{"referring to a state", func() error {
			for _, err := range l.ReferringTo(t.Context(), State{Record: record.Record{ID: "customer/1"}}) {
				if err != nil {
					return err
				}
			}
			return nil
		}, 1, 1, 0},
		{"open runs", func() error {
			for _, err := range l.OpenRuns(t.Context()) {
				if err != nil {
					return err
				}
			}
			return nil
		}, shards, shards, 0},
	}
	for _, r := range rows {
		m.take()
		if err := r.do(); err != nil {
			t.Fatalf("%s: %v", r.verb, err)
		}
		requests, reads, write := m.take()
		if requests != r.requests || reads != r.reads || write != r.write {
			t.Errorf("%s: %d requests, %v read and %v write units; want %d, %v, %v", r.verb, requests, reads, write, r.requests, r.reads, r.write)
		}
	}
}

// What is due is as urgent as its most urgent cause, and is as old as that. The sweep's pointer follows.
func TestDueBecomesMoreUrgent(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(time.Now)
	l := New(m, time.Now)
	s := State{Record: record.Record{ID: "order/1", Views: map[string]record.View{}}}
	for i, step := range []struct{ add, is budget.Class }{{budget.Replay, budget.Replay}, {budget.Reconcile, budget.Reconcile}, {budget.Replay, budget.Reconcile},
		{budget.Approval, budget.Approval}, {budget.Live, budget.Live}, {budget.Replay, budget.Live}} {
		after := s.Clone()
		at := epoch.Add(time.Duration(i) * time.Minute)
		after.AddDue("zendesk", "t", step.add, at)
		d := after.Due["zendesk"]
		if d.Class != step.is || step.add == step.is != d.Since.Equal(at) {
			t.Errorf("%d: %+v after %v", i, d, step.add)
		}
		if err := l.Commit(t.Context(), Entry{Before: s, After: after}); err != nil {
			t.Fatal(err)
		}
		states, err := l.Load(t.Context(), "order/1")
		if err != nil {
			t.Fatal(err)
		}
		s = states["order/1"]
		for p, err := range l.DueFor(t.Context(), "zendesk") {
			if err != nil || p.Class != step.is || !p.Since.Equal(d.Since) {
				t.Errorf("%d: the pointer says %+v, %v", i, p, err)
			}
		}
	}
}
