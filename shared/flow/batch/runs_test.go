package batch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
)

// world is one ledger and queue that several processes work on, with one clock.
type world struct {
	now    time.Time
	store  store.Store
	ledger *ledger.Ledger
	queue  *queue.Memory
	ids    int
}

func newWorld() *world {
	w := &world{now: at}
	w.store = store.NewMemory(w.clock)
	w.ledger = ledger.New(w.store, w.clock)
	w.queue = queue.NewMemory(queue.Settings{Name: "inbound"}, nil, w.clock)
	return w
}

func (w *world) clock() time.Time { return w.now }

func (w *world) id() string { w.ids++; return fmt.Sprint("t", w.ids) }

// process is one that lists sources; change may alter what it works with.
func (w *world) process(src batch.Source, change func(*batch.Deps)) *batch.Flow {
	d := batch.Deps{Ledger: w.ledger, Sources: map[string]batch.Source{"zendesk": src}, Objects: map[string][]string{"zendesk": {"organization"}},
		EntityOf: func(_, object string) string { return object }, Inbound: w.queue, Now: w.clock, NewID: w.id, Telemetry: telemetry.New(nil, w.clock, nil)}
	if change != nil {
		change(&d)
	}
	return batch.New(d)
}

// asking is a source that does something before it answers.
type asking struct {
	batch.Source
	before func(object, cursor string)
}

func (a asking) Changes(ctx context.Context, object, cursor string) (platform.Page, error) {
	a.before(object, cursor)
	return a.Source.Changes(ctx, object, cursor)
}

func three() *pages {
	return &pages{list: [][]record.Native{{native("1", 1, true)}, {native("2", 2, true)}, {native("3", 3, true)}}}
}

func ids(all []message.Inbound) []string {
	var out []string
	for _, in := range all {
		out = append(out, in.Native.ID)
	}
	return out
}

func (w *world) cursor(t *testing.T) string {
	t.Helper()
	n, err := w.ledger.Listing(t.Context(), "zendesk", "organization")
	if err != nil {
		t.Fatal(err)
	}
	return n.Cursor
}

// A run that begins while another one is at it leaves it alone.
func TestRunsDoNotOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld()
	src := three()
	var during batch.Listed
	f := w.process(asking{src, func(_, cursor string) {
		if cursor == "1" {
			var err error
			if during, err = w.process(three(), nil).Apply(t.Context(), "zendesk"); err != nil {
				t.Error(err)
			}
		}
	}}, nil)
	got, err := f.Apply(t.Context(), "zendesk")
	if err != nil || got.Records != 3 || !got.Complete || during.Busy != 1 || during.Records != 0 || during.Complete {
		t.Errorf("%+v, meanwhile %+v, %v", got, during, err)
	}
	if all := ids(taken(t, w.queue)); !slices.Equal(all, []string{"1", "2", "3"}) {
		t.Error(all)
	}
}

// Whatever the clocks do, two runs at once do not move the cursor to and fro: one that was overtaken stops where it is.
func TestOvertakenRunStops(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{time.Hour, -12 * time.Hour} { // the clock of who comes second
		w := newWorld()
		var second batch.Listed
		f := w.process(asking{three(), func(_, cursor string) {
			if cursor != "1" || second.Pages > 0 {
				return
			}
			w.now = w.now.Add(jump)
			var err error
			if second, err = w.process(three(), func(d *batch.Deps) { d.Now = func() time.Time { return at } }).Apply(t.Context(), "zendesk"); err != nil {
				t.Error(err)
			}
			if second, err = w.process(three(), nil).Apply(t.Context(), "zendesk"); err != nil {
				t.Error(err)
			}
			w.now = at
		}}, nil)
		first, err := f.Apply(t.Context(), "zendesk")
		if err != nil || first.Busy != 1 || first.Complete || second.Records != 2 || !second.Complete {
			t.Errorf("%v: first %+v, second %+v, %v", jump, first, second, err)
		}
		if w.cursor(t) != "3" {
			t.Errorf("the cursor is %q", w.cursor(t))
		}
		all := ids(taken(t, w.queue))
		slices.Sort(all)
		if all = slices.Compact(all); len(all) != 3 {
			t.Errorf("%v: queued %v", jump, all)
		}
	}
}

// What a process had in hand that is dead is free when its time is over, and at once for who follows it in its place.
func TestHoldOfTheDead(t *testing.T) {
	t.Parallel()
	w := newWorld()
	dying := w.process(asking{three(), func(_, cursor string) {
		if cursor == "1" {
			panic("killed")
		}
	}}, func(d *batch.Deps) { d.Life, d.Place = "first", "here" })
	func() {
		defer func() { _ = recover() }()
		_, _ = dying.Apply(t.Context(), "zendesk")
	}()
	for _, step := range []struct {
		life, place string
		later       time.Duration
		busy        int
	}{{"other", "", 0, 1}, {"other", "there", time.Second, 1}, {"first", "here", 0, 1}, {"second", "here", 0, 0}} {
		w.now = w.now.Add(step.later)
		got, err := w.process(three(), func(d *batch.Deps) { d.Life, d.Place = step.life, step.place }).Apply(t.Context(), "zendesk")
		if err != nil || got.Busy != step.busy || got.Records != 2*(1-step.busy) {
			t.Errorf("%+v: %+v, %v", step, got, err)
		}
	}
	w = newWorld()
	func() {
		defer func() { _ = recover() }()
		_, _ = w.process(asking{three(), func(string, string) { panic("killed") }}, nil).Apply(t.Context(), "zendesk")
	}()
	w.now = w.now.Add(2 * time.Minute)
	if got, err := w.process(three(), nil).Apply(t.Context(), "zendesk"); err != nil || got.Records != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func coded(t *testing.T, err error, class fault.Class, code string) {
	t.Helper()
	var e *fault.Error
	if !fault.Is(err, class) || !errors.As(err, &e) || e.Code != code || fault.Outermost(err).Remedy == "" {
		t.Errorf("%v, want %s %s with a remedy", err, class, code)
	}
}

// A cursor that is another account's, or that the connector does not take, is told with what to do, and that helps.
func TestCursorOfAnotherAccountOrGone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	of := func(account string, src batch.Source) *batch.Flow {
		return w.process(src, func(d *batch.Deps) { d.Accounts = map[string]string{"zendesk": account} })
	}
	if _, err := of("acme.zendesk.com", three()).Apply(t.Context(), "zendesk"); err != nil {
		t.Fatal(err)
	}
	sandbox := of("acme1.zendesk.com", three())
	_, err := sandbox.Apply(t.Context(), "zendesk")
	coded(t, err, fault.Contract, batch.OtherAccount)
	if got, err := of("acme.zendesk.com", three()).Apply(t.Context(), "zendesk"); err != nil || got.Records != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := sandbox.Restart(t.Context(), "zendesk", "organization"); err != nil {
		t.Fatal(err)
	}
	if got, err := sandbox.Apply(t.Context(), "zendesk"); err != nil || got.Records != 3 {
		t.Errorf("%+v, %v", got, err)
	}

	refusing := three()
	refusing.err = &fault.Error{Class: fault.Contract, Op: "zendesk.changes", Code: platform.BadCursor, Detail: "not a cursor of this listing"}
	_, err = of("", refusing).Apply(t.Context(), "zendesk")
	coded(t, err, fault.Contract, platform.BadCursor)
	if err := sandbox.Restart(t.Context(), "zendesk", "nothing"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// answers gives a page for each cursor.
type answers map[string]platform.Page

func (a answers) Changes(_ context.Context, object, cursor string) (platform.Page, error) {
	page, known := a[object+cursor]
	if !known {
		return platform.Page{}, fault.New(fault.Contract, "test", "nobody asked for "+object+cursor)
	}
	return page, nil
}

// A vendor that leads in circles is told of; one that does not move on is asked again next time; one that gives a page twice
// changes nothing.
func TestVendorThatDoesNotMoveOn(t *testing.T) {
	t.Parallel()
	one, two := []record.Native{native("1", 1, true)}, []record.Native{native("2", 2, true)}
	w := newWorld()
	_, err := w.process(answers{"organization": {Natives: one, Cursor: "a", More: true}, "organizationa": {Natives: two, Cursor: "b", More: true}, "organizationb": {Natives: one, Cursor: "a", More: true}}, nil).Apply(t.Context(), "zendesk")
	if !fault.Is(err, fault.Contract) || w.cursor(t) != "b" {
		t.Errorf("%v at %q", err, w.cursor(t))
	}
	w = newWorld()
	got, err := w.process(answers{"organization": {Natives: one, Cursor: "a", More: true}, "organizationa": {Natives: two, Cursor: "a", More: true}}, nil).Apply(t.Context(), "zendesk")
	if err != nil || got.Complete || got.Pages != 2 || w.cursor(t) != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	w = newWorld()
	got, err = w.process(answers{"organization": {Natives: one, Cursor: "a", More: true}, "organizationa": {Natives: one, Cursor: "b", More: true}, "organizationb": {Natives: two, Cursor: "c"}}, nil).Apply(t.Context(), "zendesk")
	if all := ids(taken(t, w.queue)); err != nil || !got.Complete || !slices.Equal(all, []string{"1", "2"}) {
		t.Errorf("%+v %v, %v", got, all, err)
	}
}

// What was not listed for longest comes first, and what is wrong with one object keeps no other back.
func TestObjectsTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var asked []string
	src := asking{answers{"b": {Cursor: "1"}, "c": {Cursor: "1"}, "b1": {Cursor: "1"}, "c1": {Cursor: "1"}}, func(object, _ string) { asked = append(asked, object); w.now = w.now.Add(time.Second) }}
	f := w.process(src, func(d *batch.Deps) { d.Objects["zendesk"] = []string{"a", "b", "c"} })
	for range 2 {
		if got, err := f.Apply(t.Context(), "zendesk"); !fault.Is(err, fault.Contract) || got.Pages != 2 || got.Complete {
			t.Errorf("%+v, %v", got, err)
		}
	}
	n, err := w.ledger.Listing(t.Context(), "zendesk", "b")
	if err != nil {
		t.Fatal(err)
	}
	n.Complete = n.Complete.Add(time.Hour)
	if _, err := w.ledger.MoveListing(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	_, _ = f.Apply(t.Context(), "zendesk")
	if want := []string{"a", "b", "c", "a", "b", "c", "a", "c", "b"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v", asked)
	}
}

// A cursor of the time before there were listings is one still.
func TestBareCursor(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if err := w.ledger.SaveCursor(t.Context(), "zendesk", "organization", "2"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.process(three(), nil).Apply(t.Context(), "zendesk"); err != nil || got.Records != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A load that fails at any commit or send, before or after it was done, and goes on in another process, loses nothing, queues
// nothing before the cursor twice, and never has its cursor ahead of the queue.
func TestLoadGoesOn(t *testing.T) {
	t.Parallel()
	const rows = 12
	list := &pages{}
	for i := range rows {
		list.list = append(list.list, []record.Native{native(fmt.Sprint(i), i, true)})
	}
	for _, after := range []bool{false, true} {
		for fails := range 2*rows + 4 {
			w := newWorld()
			n := 0
			breaks := func() bool { n++; return n == fails+1 }
			faulty := &brittle{Memory: w.queue, breaks: breaks, after: after}
			w.ledger = ledger.New(&storetest.Faulty{Store: w.store, Next: func(op string, _ []store.Key) storetest.Fault {
				switch {
				case op != storetest.OpCommit || !breaks():
					return storetest.None
				case after:
					return storetest.FailAfter
				}
				return storetest.FailBefore
			}}, w.clock)
			var done batch.Loaded
			for try := 0; !done.Complete && try < 4; try++ {
				f := w.process(list, func(d *batch.Deps) { d.Inbound, d.Life, d.Place = faulty, w.id(), "here" })
				done, _ = f.Load(t.Context(), "zendesk", "organization", batch.LoadOptions{})
				if at := w.cursor(t); at != "" {
					var queued int
					if _, err := fmt.Sscan(at, &queued); err != nil || queued > faulty.sent {
						t.Fatalf("the cursor is at %s, and %d pages are queued", at, faulty.sent)
					}
				}
			}
			in := taken(t, w.queue)
			if all := ids(in); !done.Complete || done.Records != rows || len(all) != rows || in[0].Source != message.Load {
				t.Errorf("broken at %d, after %v: %+v, queued %v", fails, after, done, all)
			}
		}
	}
}

// brittle is a queue that fails once, before or after it took the messages.
type brittle struct {
	*queue.Memory
	breaks func() bool
	after  bool
	sent   int
}

func (b *brittle) Send(ctx context.Context, msgs ...queue.Message) error {
	broken := b.breaks()
	if broken && !b.after {
		return fault.New(fault.Down, "send", "broken")
	}
	err := b.Memory.Send(ctx, msgs...)
	b.sent++
	if broken {
		return fault.New(fault.Down, "send", "no answer")
	}
	return err
}

// bulk begins its load elsewhere than its listing.
type bulk struct{ *pages }

func (bulk) Bulk(string) string { return "1" }
func (bulk) Census(_ context.Context, _ string, within []platform.Span, _ time.Duration) ([]platform.Count, error) {
	if len(within) == 1 && !within[0].To.Before(at) {
		return nil, fault.New(fault.Contract, "census", "counts what changes meanwhile")
	}
	return []platform.Count{{Records: 1}, {Records: 1}}, nil
}

// skipping lists less than it counts.
type skipping struct{ bulk }

func (skipping) Bulk(string) string { return "2" }

// A vendor that leaves a page out of a load is found out by its own count.
func TestLoadThatSkipsAPage(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f := w.process(skipping{bulk{three()}}, nil)
	got, err := f.Load(t.Context(), "zendesk", "organization", batch.LoadOptions{})
	coded(t, err, fault.Contract, batch.ShortListing)
	if got.Records != 1 || len(taken(t, w.queue)) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var told []batch.Loaded
	f := w.process(bulk{three()}, nil)
	load := func(o batch.LoadOptions) (batch.Loaded, error) {
		o.Progress = func(l batch.Loaded) { told = append(told, l) }
		return f.Load(t.Context(), "zendesk", "organization", o)
	}
	got, err := load(batch.LoadOptions{By: "ada"})
	if err != nil || !got.Complete || got.Records != 2 || got.Total != 2 || got.Ended.IsZero() || len(told) != 2 || told[0].Records != 1 {
		t.Errorf("%+v, %v; told %+v", got, err, told)
	}
	if got, err = load(batch.LoadOptions{}); err != nil || !got.Complete || got.Queued != 0 || got.Records != 2 {
		t.Errorf("a second time: %+v, %v", got, err)
	}
	w.now = w.now.Add(time.Hour)
	if got, err = load(batch.LoadOptions{Again: true}); err != nil || got.Queued != 2 {
		t.Errorf("again: %+v, %v", got, err)
	}
	if in := taken(t, w.queue); len(in) != 4 || in[0].Source != message.Load {
		t.Errorf("queued %v", ids(in))
	}
	// The schedule goes on from there, and what it brings is no load any more.
	more := three()
	more.list = append(more.list, []record.Native{native("4", 4, true)})
	if _, err := w.process(more, nil).Apply(t.Context(), "zendesk"); err != nil {
		t.Fatal(err)
	}
	if in := taken(t, w.queue); len(in) != 1 || in[0].Source != message.Batch || in[0].Native.ID != "4" {
		t.Errorf("queued %v", ids(in))
	}
	for want, load := range map[fault.Class]func() (batch.Loaded, error){
		fault.NotFound: func() (batch.Loaded, error) { return f.Load(t.Context(), "zendesk", "nothing", batch.LoadOptions{}) },
		fault.Refused: func() (batch.Loaded, error) { // the schedule was first
			w := newWorld()
			if _, err := w.process(three(), nil).Apply(t.Context(), "zendesk"); err != nil {
				t.Error(err)
			}
			return w.process(three(), nil).Load(t.Context(), "zendesk", "organization", batch.LoadOptions{})
		},
	} {
		if got, err := load(); !fault.Is(err, want) || got.Complete {
			t.Errorf("%+v, %v, want %s", got, err, want)
		}
	}
}

// What is matched over platforms is not loaded before it is linked.
func TestLoadWaitsForLink(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f := w.process(three(), func(d *batch.Deps) { d.Matched = func(string) bool { return true } })
	note := func(detail string) {
		if err := w.ledger.Note(t.Context(), ledger.LogEntry{By: "ada", Events: []record.Event{{Action: "link-applied", Detail: detail}}}); err != nil {
			t.Fatal(err)
		}
	}
	note("organization: 3 records; stopped: no")
	note("organizations: 3 records")
	if _, err := f.Load(t.Context(), "zendesk", "organization", batch.LoadOptions{}); !fault.Is(err, fault.Refused) {
		t.Error(err)
	}
	note("organization: 3 records committed")
	if got, err := f.Load(t.Context(), "zendesk", "organization", batch.LoadOptions{}); err != nil || !got.Complete {
		t.Errorf("%+v, %v", got, err)
	}
	w = newWorld()
	f = w.process(three(), func(d *batch.Deps) { d.Matched = func(string) bool { return true } })
	if got, err := f.Load(t.Context(), "zendesk", "organization", batch.LoadOptions{Unlinked: true}); err != nil || !got.Complete {
		t.Errorf("%+v, %v", got, err)
	}
}
