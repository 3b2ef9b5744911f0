package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/certificate"
	"sorrel/shared/fault"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/process"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// account is a platform of customers with numeric ids.
type account struct {
	natives map[string]record.Native
	tombs   map[string]record.Native
	page    int
	ranges  bool
	calls   int
	asked   []string
	before  func(method string) error // is called before each call; may change the account
	lag     int                       // records that counts leave out
}

func (a *account) enter(method string) error {
	a.calls++
	a.asked = append(a.asked, method)
	if a.before != nil {
		return a.before(method)
	}
	return nil
}

func (a *account) ids(in func(record.Native) bool) []string {
	var out []string
	for id, n := range a.natives {
		if in(n) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, ledger.CompareIDs)
	return out
}

func (a *account) Census(_ context.Context, _ string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	if err := a.enter("census"); err != nil {
		return nil, err
	}
	var out []platform.Count
	for i, s := range within {
		if i > 0 && a.ranges {
			a.calls++
		}
		if width == 0 {
			if n := len(a.ids(func(n record.Native) bool { return s.Holds(n.Version.At) })); n > 0 {
				out = append(out, platform.Count{Span: s, Records: n})
			}
			continue
		}
		sums := map[time.Time]platform.Count{}
		for _, id := range a.ids(func(n record.Native) bool { return s.Holds(n.Version.At) }) {
			from := a.natives[id].Version.At.Truncate(width)
			c := sums[from]
			c.Span = platform.Span{From: from, To: from.Add(width)}
			if c.From.Before(s.From) {
				c.From = s.From
			}
			if !s.To.IsZero() && c.To.After(s.To) {
				c.To = s.To
			}
			c.Records++
			x, _ := strconv.ParseInt(id, 10, 64)
			c.Sum += x
			sums[from] = c
		}
		for _, from := range slices.SortedFunc(maps.Keys(sums), time.Time.Compare) {
			out = append(out, sums[from])
		}
	}
	if len(out) > 0 && a.lag > 0 {
		out[0].Records -= a.lag
	}
	return out, nil
}

func (a *account) Within(_ context.Context, _ string, within []platform.Span, cursor string) (platform.Page, error) {
	if err := a.enter("within"); err != nil {
		return platform.Page{}, err
	}
	ids := a.ids(func(n record.Native) bool {
		return (len(within) == 0 || platform.Held(within, n.Version.At)) && (cursor == "" || ledger.CompareIDs(n.ID, cursor) > 0)
	})
	var p platform.Page
	p.More = len(ids) > a.page
	for _, id := range ids[:min(len(ids), a.page)] {
		p.Natives = append(p.Natives, a.natives[id])
		p.Cursor = id
	}
	return p, nil
}

func (a *account) Deleted(_ context.Context, _ string, since time.Time, _ string) (platform.Page, error) {
	if err := a.enter("deleted"); err != nil {
		return platform.Page{}, err
	}
	var p platform.Page
	for _, id := range slices.SortedFunc(maps.Keys(a.tombs), ledger.CompareIDs) {
		if n := a.tombs[id]; !n.Version.At.Before(since) {
			p.Natives = append(p.Natives, n)
		}
	}
	return p, nil
}

func (a *account) Among(_ context.Context, _ string, ids []string) ([]record.Native, error) {
	if err := a.enter("among"); err != nil {
		return nil, err
	}
	var out []record.Native
	for _, id := range ids {
		if n, is := a.natives[id]; is {
			out = append(out, n)
		} else if n, was := a.tombs[id]; was {
			out = append(out, n)
		}
	}
	return out, nil
}

var noon = time.Date(2026, 11, 20, 12, 7, 0, 0, time.UTC)

// delivered is the configuration that is delivered, read once.
var delivered = sync.OnceValues(func() (*policy.Set, []policy.Problem) { return policy.Load(config.FS, process.Starts) })

// world is an account, and a hub that hears of it.
type world struct {
	t       tb
	now     time.Time
	account *account
	object  platform.Object
	config  *policy.Set
	ledger  *ledger.Ledger
	inbound []queue.Message
	flow    *reconcile.Flow
	hub     *hub.Flow
	ids     int
	source  reconcile.Source
	key     func(context.Context) (*certificate.Key, error)
}

func newWorld(t tb, object platform.Object, ranges bool) *world {
	t.Helper()
	set, problems := delivered()
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	w := &world{t: t, now: noon, object: object, config: set, account: &account{natives: map[string]record.Native{}, tombs: map[string]record.Native{}, page: 50, ranges: ranges}}
	w.object.Name = "customer"
	clock := func() time.Time { return w.now }
	w.ledger = ledger.New(store.NewMemory(clock), clock)
	w.source = w.account
	w.wire()
	return w
}

// wire makes the flows again.
func (w *world) wire() {
	clock := func() time.Time { return w.now }
	tel := telemetry.New(nil, clock, nil)
	w.flow = reconcile.New(reconcile.Deps{Ledger: w.ledger, Config: w.config, Sources: map[string]reconcile.Source{record.NetSuite: w.source},
		Objects: map[string][]platform.Object{record.NetSuite: {w.object}}, Inbound: w, Now: clock, NewID: func() string { w.ids++; return fmt.Sprintf("run%04d", w.ids) }, Telemetry: tel, Key: w.key})
	w.hub = hub.New(hub.Deps{Ledger: w.ledger, Config: w.config, Readers: map[string]hub.Reader{}, Now: clock, Telemetry: tel})
}

// Send takes what is observed.
func (w *world) Send(_ context.Context, msgs ...queue.Message) error {
	w.inbound = append(w.inbound, msgs...)
	return nil
}

// hear has the hub hear of everything that waits.
func (w *world) hear() {
	w.t.Helper()
	for some := range slices.Chunk(w.inbound, 10) {
		var batch []queue.Received
		for _, m := range some {
			w.ids++
			batch = append(batch, queue.Received{ID: fmt.Sprint("m", w.ids), Message: m, Receives: 1})
		}
		if failed := w.hub.Apply(context.Background(), batch); len(failed) > 0 {
			w.t.Fatalf("the hub fails at %v", failed)
		}
	}
	w.inbound = nil
}

// tell tells the hub of a native record, as a webhook does.
func (w *world) tell(n record.Native) {
	w.t.Helper()
	w.ids++
	m, err := message.Inbound{CorrelationID: fmt.Sprint("t", w.ids), ReceivedAt: w.now, Source: message.Webhook, Native: n}.Message(fmt.Sprint(w.ids))
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.inbound = append(w.inbound, m)
}

func ref(id string) record.Ref {
	return record.Ref{Platform: record.NetSuite, Object: "customer", ID: id}
}

// save is what somebody does to a customer at a time.
func (w *world) save(id, name string, at time.Time) record.Native {
	n := w.account.natives[id]
	if n.ID == "" {
		n = record.Native{Ref: ref(id), Born: at}
	}
	n.Fields = map[string]any{"id": id, "entityId": "C" + id, "companyName": name, "isInactive": false, "currency": map[string]any{"refName": "EUR"}, "creditLimit": json.Number("5")}
	n.Version = record.Version{At: at.UTC().Truncate(time.Second)}
	w.account.natives[id] = n
	return n
}

func (w *world) bury(id, into string, at time.Time) {
	w.account.tombs[id] = record.Native{Ref: ref(id), Gone: true, Into: into, Version: record.Version{At: at.UTC().Truncate(time.Second)}}
	delete(w.account.natives, id)
}

// run begins a run and moves it on until it ends.
func (w *world) run(wish reconcile.Wish) reconcile.Report {
	w.t.Helper()
	ctx := context.Background()
	r, err := w.flow.Schedule(ctx, wish)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	for range 50 {
		if _, err := w.flow.Advance(ctx); err != nil && !fault.Is(err, fault.Down) {
			w.t.Fatalf("%v", err)
		}
		if r, err = w.flow.Show(ctx, r.ID); err != nil {
			w.t.Fatalf("%v", err)
		}
		if r.State != reconcile.Running {
			return r
		}
	}
	w.t.Fatalf("the run does not end: %+v", r)
	return r
}

// found are the differences of a set, as far as there are samples.
func found(s reconcile.Set) map[string]reconcile.Kind {
	out := map[string]reconcile.Kind{}
	for _, t := range s.Drift {
		for _, x := range t.Samples {
			out[x.ID] = t.Kind
		}
	}
	return out
}

func grouped() platform.Object {
	return platform.Object{Census: platform.Grouped, Sum: platform.SumIDs, Numeric: true, Deleted: true}
}
