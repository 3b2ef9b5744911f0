package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/workflow"
)

// logged returns a ledger with a few chains: orders 7 and 8 with four changes each, order 9 with one, and three notes.
func logged(t *testing.T) (*Ledger, *store.Memory) {
	t.Helper()
	m := store.NewMemory(clock)
	l := New(m, clock)
	for i, status := range []string{"a", "b", "c", "d"} {
		for _, id := range []string{"7", "8"} {
			ref := order7
			ref.ID = id
			check(t, l.Commit(t.Context(), said(t, l, ref, status, i+1, "t")))
		}
	}
	ref := order7
	ref.ID = "9"
	check(t, l.Commit(t.Context(), said(t, l, ref, "a", 1, "t")))
	for _, who := range []string{"ada", "bob", "eve"} {
		check(t, l.Note(t.Context(), LogEntry{By: who, Events: []record.Event{{Action: "exported"}}}))
	}
	return l, m
}

func verify(t *testing.T, l *Ledger) Verified {
	t.Helper()
	return must[Verified](t)(l.Verify(t.Context(), nil))
}

// edit changes what is stored, as somebody with the store's own tools would. nil removes.
func edit(t *testing.T, s store.Store, k store.Key, to func([]byte) []byte) {
	t.Helper()
	e := must[store.Entry](t)(s.Get(t.Context(), k))
	op := store.Op{Kind: store.Delete, Key: k}
	if value := to(bytes.Clone(e.Value)); value != nil {
		op = store.Op{Kind: store.Put, Key: k, Value: value, Expires: e.Expires}
	}
	check(t, s.Commit(t.Context(), op))
}

func removed([]byte) []byte { return nil }

func replaced(old, new string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(new)) }
}

func TestVerifyAcceptsAnIntactLog(t *testing.T) {
	t.Parallel()
	l, _ := logged(t)
	var told []int
	got, err := l.Verify(t.Context(), func(n int) { told = append(told, n) })
	check(t, err)
	if got.Chains != 4 || got.Entries != 12 || len(got.Broken) != 0 {
		t.Errorf("verified %+v", got)
	}
	if !slices.Equal(told, []int{12}) {
		t.Errorf("progress %v", told)
	}
	if empty := verify(t, New(store.NewMemory(clock), clock)); empty.Chains != 0 || empty.Entries != 0 || len(empty.Broken) != 0 {
		t.Errorf("an empty log: %+v", empty)
	}
}

func TestVerifyFindsEveryBreak(t *testing.T) {
	t.Parallel()
	id := Mint("order", order7)
	chain := string(id)
	for name, c := range map[string]struct {
		edits map[store.Key]func([]byte) []byte
		want  []string // chain, number and a word of what is said
	}{
		"an entry in the middle altered": {map[store.Key]func([]byte) []byte{logKey(chain, 2): replaced(`"after":"b"`, `"after":"z"`)}, []string{chain + " 2 altered"}},
		"the first altered":              {map[store.Key]func([]byte) []byte{logKey(chain, 1): replaced(`"after":"a"`, `"after":"z"`)}, []string{chain + " 1 altered"}},
		"the last altered":               {map[store.Key]func([]byte) []byte{logKey(chain, 4): replaced(`"after":"d"`, `"after":"z"`)}, []string{chain + " 4 altered"}},
		"a space more":                   {map[store.Key]func([]byte) []byte{logKey(chain, 4): replaced(`}]`, `}] `)}, []string{chain + " 4 altered"}},
		"an entry without a form":        {map[store.Key]func([]byte) []byte{logKey(chain, 4): func([]byte) []byte { return []byte("?") }}, []string{chain + " 4 cannot be read", chain + " 4 altered"}},
		"one in the middle removed":      {map[store.Key]func([]byte) []byte{logKey(chain, 2): removed}, []string{chain + " 2 missing"}},
		"two in the middle removed":      {map[store.Key]func([]byte) []byte{logKey(chain, 2): removed, logKey(chain, 3): removed}, []string{chain + " 2 missing, and all up to 3"}},
		"the first removed":              {map[store.Key]func([]byte) []byte{logKey(chain, 1): removed}, []string{chain + " 1 missing"}},
		"the last removed":               {map[store.Key]func([]byte) []byte{logKey(chain, 4): removed}, []string{chain + " 4 missing"}},
		"the only one removed": {map[store.Key]func([]byte) []byte{logKey(string(Mint("order", record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "9"})), 1): removed},
			[]string{string(Mint("order", record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "9"})) + " 1 missing"}},
		"all removed": {map[store.Key]func([]byte) []byte{logKey(chain, 1): removed, logKey(chain, 2): removed, logKey(chain, 3): removed, logKey(chain, 4): removed},
			[]string{chain + " 1 missing, and all up to 4"}},
		"the mark removed":           {map[store.Key]func([]byte) []byte{chainKey(chain): removed}, []string{chain + " 0 mark"}},
		"the state gone":             {map[store.Key]func([]byte) []byte{stateKey(id): removed}, []string{chain + " 0 head is gone"}},
		"the state without a form":   {map[store.Key]func([]byte) []byte{stateKey(id): func([]byte) []byte { return []byte("?") }}, []string{chain + " 0 head cannot be read"}},
		"the head's hash altered":    {map[store.Key]func([]byte) []byte{stateKey(id): replaced(`"log":{"seq":4,"hash":"`, `"log":{"seq":4,"hash":"0`)}, []string{chain + " 4 altered"}},
		"the head's number lowered":  {map[store.Key]func([]byte) []byte{stateKey(id): replaced(`"log":{"seq":4`, `"log":{"seq":3`)}, []string{chain + " 4 goes on behind"}},
		"the head's number raised":   {map[store.Key]func([]byte) []byte{stateKey(id): replaced(`"log":{"seq":4`, `"log":{"seq":6`)}, []string{chain + " 5 missing, and all up to 6"}},
		"a note altered":             {map[store.Key]func([]byte) []byte{logKey(General, 2): replaced("bob", "ada")}, []string{"general 2 altered"}},
		"the last note removed":      {map[store.Key]func([]byte) []byte{logKey(General, 3): removed}, []string{"general 3 missing"}},
		"all notes removed":          {map[store.Key]func([]byte) []byte{logKey(General, 1): removed, logKey(General, 2): removed, logKey(General, 3): removed}, []string{"general 1 missing, and all up to 3"}},
		"the head of the notes gone": {map[store.Key]func([]byte) []byte{headKey(): removed}, []string{"general 0 head is gone"}},
		"two chains broken": {map[store.Key]func([]byte) []byte{logKey(chain, 2): removed, logKey(General, 2): removed},
			[]string{chain + " 2 missing", "general 2 missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, m := logged(t)
			for k, to := range c.edits {
				edit(t, m, k, to)
			}
			var got []string
			for _, b := range verify(t, l).Broken {
				got = append(got, fmt.Sprintf("%s %d %s", b.Chain, b.Seq, b.What))
			}
			found := func(want string) bool {
				parts := strings.SplitN(want, " ", 3)
				return slices.ContainsFunc(got, func(g string) bool {
					return strings.HasPrefix(g, parts[0]+" "+parts[1]+" ") && strings.Contains(g, parts[2])
				})
			}
			for _, want := range c.want {
				if !found(want) {
					t.Errorf("got %q, want %q among them", got, want)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// An entry that was put into another chain, or another place of its own, is found there.
func TestVerifyFindsMovedEntries(t *testing.T) {
	t.Parallel()
	l, m := logged(t)
	a, b := string(Mint("order", order7)), string(Mint("order", record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "8"}))
	first := must[store.Entry](t)(m.Get(t.Context(), logKey(a, 2)))
	edit(t, m, logKey(b, 2), func([]byte) []byte { return first.Value })
	if got := verify(t, l).Broken; len(got) == 0 || got[0].Chain != b || got[0].Seq != 2 {
		t.Errorf("broken: %+v", got)
	}
}

// Whichever single item of the log is altered or removed, Verify names its chain; and it says nothing of the others.
func TestVerifyFindsAnySingleEdit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l, m := logged(t)
		chains := []string{General, string(Mint("order", order7)), string(Mint("order", record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "9"}))}
		chain := rapid.SampledFrom(chains).Draw(rt, "chain")
		log := must[[]LogEntry](t)(l.Log(t.Context(), chain))
		k := logKey(chain, int64(rapid.IntRange(1, len(log)).Draw(rt, "entry")))
		remove, at, bit := rapid.Bool().Draw(rt, "remove"), rapid.IntRange(0, 1<<20).Draw(rt, "at"), rapid.IntRange(0, 7).Draw(rt, "bit")
		edit(t, m, k, func(b []byte) []byte {
			if remove {
				return nil
			}
			b[at%len(b)] ^= 1 << bit
			return b
		})
		got := verify(t, l)
		if len(got.Broken) == 0 || slices.ContainsFunc(got.Broken, func(b Break) bool { return b.Chain != chain }) {
			rt.Fatalf("broken: %+v", got.Broken)
		}
	})
}

// More chains than heads are read at once, and commits that go on meanwhile, are no breaks.
func TestVerifyWhileCommitsGoOn(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(clock)
	l := New(m, clock)
	change := func(i, second int) {
		ref := order7
		ref.ID = fmt.Sprint(i)
		check(t, l.Commit(t.Context(), said(t, l, ref, fmt.Sprint("s", second), second, "t")))
	}
	const chains = 8*headsAtOnce + 50
	for i := range chains {
		change(i, 1)
	}
	var told []int
	got, err := l.Verify(t.Context(), func(n int) {
		told = append(told, n)
	})
	check(t, err)
	if got.Chains != chains || got.Entries != chains || len(got.Broken) != 0 {
		t.Errorf("verified %d chains, %d entries, %+v", got.Chains, got.Entries, got.Broken)
	}
	// Each time heads are about to be read, some records change, and somebody leaves a note.
	busy := New(&meanwhile{Store: m, do: func(n int) {
		for i := range 20 {
			change((n*37+i*11)%chains, n+2)
		}
		check(t, l.Note(t.Context(), LogEntry{By: "ada"}))
	}}, clock)
	if got := verify(t, busy); len(got.Broken) != 0 || got.Entries <= chains {
		t.Errorf("while commits go on: %d entries, %+v", got.Entries, got.Broken)
	}
}

// meanwhile does something before each batch of reads.
type meanwhile struct {
	store.Store
	n  int
	do func(n int)
}

func (m *meanwhile) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	m.do(m.n)
	m.n++
	got, err := store.GetMany(ctx, m.Store, keys...)
	var out []store.Entry
	for _, e := range got {
		out = append(out, e)
	}
	return out, err
}

func TestLogSaysWhatAndWho(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	e := said(t, l, order7, "billed", 1, "t1")
	check(t, l.Commit(t.Context(), e))
	id := e.After.Record.ID
	s := open(t, l, order7).State
	at := epoch.Add(time.Hour)
	check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), By: "ada", Now: at, Events: []record.Event{{Action: "approved", By: "ada", Proposal: "p", Trace: "t2"}}}))
	s = open(t, l, order7).State
	check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone()})) // says nothing, so nothing is logged
	log := must[[]LogEntry](t)(l.Log(t.Context(), string(id)))
	if len(log) != 2 {
		t.Fatalf("log %+v", log)
	}
	a, b := log[0], log[1]
	if a.Chain != string(id) || a.Seq != 1 || a.Prev != "" || !a.At.Equal(epoch) || a.By != "" || a.Policy != "v1" || a.Trace != "t1" || len(a.Changes) != 1 || a.Changes[0].After != "billed" || a.Changes[0].From != "netsuite" {
		t.Errorf("the change is logged as %+v", a)
	}
	if b.Seq != 2 || len(b.Prev) != 64 || !b.At.Equal(at) || b.By != "ada" || b.Trace != "t2" || len(b.Events) != 1 || b.Events[0].Proposal != "p" {
		t.Errorf("the decision is logged as %+v", b)
	}
	if s := open(t, l, order7).State; s.Log.Seq != 2 || s.Log.Hash == b.Prev {
		t.Errorf("head %+v", s.Log)
	}
	if changes := must[[]ChangeEntry](t)(l.Changes(t.Context(), id)); len(changes) != 1 {
		t.Errorf("changes %+v", changes)
	}
	s = open(t, l, order7).State
	check(t, l.Commit(t.Context(), Entry{Before: s, After: s.Clone(), Trace: "t3", Says: []workflow.Saying{{What: "order.paid", Detail: map[string]string{"by": "card"}}}}))
	if log = must[[]LogEntry](t)(l.Log(t.Context(), string(id))); len(log) != 3 || log[2].Trace != "t3" || len(log[2].Says) != 1 || log[2].Says[0].Detail["by"] != "card" {
		t.Errorf("the business event is logged as %+v", log[len(log)-1])
	}
	if other := must[[]LogEntry](t)(l.Log(t.Context(), string(id)+"x")); len(other) != 0 {
		t.Errorf("another chain has %+v", other)
	}
}

func TestConflictLeavesNoLogEntry(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	first, second := said(t, l, order7, "billed", 1, "t1"), said(t, l, order7, "closed", 2, "t2")
	check(t, l.Commit(t.Context(), first))
	if err := l.Commit(t.Context(), second); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	if log := must[[]LogEntry](t)(l.Log(t.Context(), string(first.After.Record.ID))); len(log) != 1 {
		t.Errorf("log %+v", log)
	}
	if got := verify(t, l); len(got.Broken) != 0 {
		t.Errorf("%+v", got.Broken)
	}
}

// Notes of several people at once all stand in the chain.
func TestNotesAtOnce(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	const people, notes = 4, 5
	var all sync.WaitGroup
	problems := make([]error, people)
	for who := range people {
		all.Go(func() {
			for range notes {
				var err error
				for range 100 { // far more than others can be first
					if err = l.Note(t.Context(), LogEntry{Chain: "ignored", Seq: 99, By: fmt.Sprint(who)}); !fault.Is(err, fault.Conflict) {
						break
					}
				}
				problems[who] = errors.Join(problems[who], err)
			}
		})
	}
	all.Wait()
	check(t, errors.Join(problems...))
	log := must[[]LogEntry](t)(l.Log(t.Context(), General))
	for i, e := range log {
		if e.Chain != General || e.Seq != int64(i+1) || !e.At.Equal(epoch) {
			t.Errorf("note %d is %+v", i, e)
		}
	}
	if got := verify(t, l); len(log) != people*notes || len(got.Broken) != 0 {
		t.Errorf("%d notes, broken: %+v", len(log), got.Broken)
	}
}

// first lets somebody else be first: it does something right before the next commit.
type first struct {
	store.Store
	do func()
}

func (f *first) Commit(ctx context.Context, ops ...store.Op) error {
	if do := f.do; do != nil {
		f.do = nil
		do()
	}
	return f.Store.Commit(ctx, ops...)
}

// Whoever notes or parks something does not have to care that somebody else was first.
func TestNoteAndParkBeginAgain(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(clock)
	other := New(m, clock)
	x := Exception{Type: "unmatched", Native: order7.String(), Platform: "netsuite"}
	busy := &first{Store: m, do: func() { check(t, other.Note(t.Context(), LogEntry{By: "bob"})) }}
	l := New(busy, clock)
	check(t, l.Note(t.Context(), LogEntry{By: "ada"}))
	if log := must[[]LogEntry](t)(l.Log(t.Context(), General)); len(log) != 2 || log[0].By != "bob" || log[1].By != "ada" {
		t.Errorf("log %+v", log)
	}
	busy.do = func() {
		check(t, other.Park(t.Context(), x))
		x.Identify()
		parked := must[Exception](t)(other.Exception(t.Context(), x.ID))
		ignore(&parked)
		check(t, other.SaveException(t.Context(), parked, LogEntry{By: "ada"}))
	}
	check(t, l.Park(t.Context(), x))
	if got := must[Exception](t)(l.Exception(t.Context(), x.ID)); got.Status != ExceptionIgnored {
		t.Errorf("parking it undid what somebody did: %+v", got)
	}
}

// A state that was put back to what it once was does not let anyone write over the log.
func TestTheLogIsNotWrittenOver(t *testing.T) {
	t.Parallel()
	l, m := logged(t)
	id := Mint("order", order7)
	old := must[store.Entry](t)(m.Get(t.Context(), stateKey(id)))
	check(t, l.Commit(t.Context(), said(t, l, order7, "e", 5, "t")))
	edit(t, m, stateKey(id), func([]byte) []byte { return old.Value })
	if err := l.Commit(t.Context(), said(t, l, order7, "f", 6, "t")); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit over an entry that exists: %v", err)
	}
	if log := must[[]LogEntry](t)(l.Log(t.Context(), string(id))); len(log) != 5 || log[4].Changes[0].After != "e" {
		t.Errorf("log %+v", log)
	}
}
