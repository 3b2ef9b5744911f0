package load_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/load"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

var at = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func now() time.Time { return at }

// northwind is a configuration in which files own customers and orders.
func northwind(t *testing.T) *policy.Set {
	t.Helper()
	return northwindWith(t, func(s string) string { return s })
}

// northwindWith changes its mappings.
func northwindWith(t *testing.T, change func(string) string) *policy.Set {
	t.Helper()
	all := fstest.MapFS{}
	add := func(from fs.FS, name string) {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "mapping/") {
			b = []byte(change(string(b)))
		}
		all[name] = &fstest.MapFile{Data: b}
	}
	for _, name := range []string{"contract/customer.v1.json", "contract/order.v1.json", "contract/product.v1.json", "mapping/salesforce.customer.yaml", "people.yaml"} {
		add(config.FS, name)
	}
	for _, name := range []string{"policy/customer.yaml", "policy/order.yaml", "policy/product.yaml", "mapping/files.product.yaml", "mapping/files.customer.yaml", "mapping/files.order.yaml"} {
		add(os.DirFS("testdata/northwind"), name)
	}
	set, problems := policy.Load(all)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

type world struct {
	testing.TB
	set    *policy.Set
	ledger *ledger.Ledger
	queue  *queue.Memory
	ids    int
}

func newWorld(t *testing.T) *world {
	return &world{TB: t, set: northwind(t), ledger: ledger.New(store.NewMemory(now), now), queue: queue.NewMemory(queue.Settings{Name: "inbound", Visibility: time.Second}, nil, now)}
}

func (w *world) flow(to queue.Sender) *load.Flow {
	return load.New(load.Deps{Ledger: w.ledger, Config: w.set, Inbound: to, Now: now, NewID: func() string { w.ids++; return fmt.Sprint("t", w.ids) }, Telemetry: telemetry.New(nil, now, nil)})
}

func (w *world) load(o load.Options, all ...load.File) []load.Loaded {
	w.Helper()
	out, err := w.flow(w.queue).Apply(context.Background(), all, o)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// hear lets the hub take everything that is queued, and returns what failed.
func (w *world) hear() (failed int) {
	w.Helper()
	h := hub.New(hub.Deps{Ledger: w.ledger, Config: w.set, Now: now, Telemetry: telemetry.New(nil, now, nil)})
	for {
		got, err := w.queue.Receive(context.Background(), 10, 0)
		if err != nil {
			w.Fatal(err)
		}
		if len(got) == 0 {
			return failed
		}
		failed += len(h.Apply(context.Background(), got))
		for _, m := range got {
			if err := w.queue.Delete(context.Background(), m.Receipt); err != nil {
				w.Fatal(err)
			}
		}
	}
}

func (w *world) state(object, id string) ledger.State {
	w.Helper()
	rid, ok, err := w.ledger.Lookup(context.Background(), record.Ref{Platform: record.Files, Object: object, ID: id})
	if err != nil || !ok {
		w.Fatalf("%s/%s is not linked (%v)", object, id, err)
	}
	s, err := w.ledger.Follow(context.Background(), rid)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) golden(object, id, field string) string {
	w.Helper()
	return w.state(object, id).Record.Golden[field].Value.String()
}

func (w *world) exceptions() map[string]string {
	w.Helper()
	all, err := w.ledger.Exceptions(context.Background(), false)
	if err != nil {
		w.Fatal(err)
	}
	out := map[string]string{}
	for _, x := range all {
		out[x.Native] = x.Detail
	}
	return out
}

func text(name, content string, age time.Duration) load.File {
	return load.File{Name: name, Changed: at.Add(-age), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

const header = "customerID,companyName,address,city,region,postalCode,country,phone\n"

func customer(id, name string) string {
	return id + "," + name + ",Obere Str. 57,Berlin,NULL,12209,Germany,030\n"
}

// The files go in whole: customers, then orders that refer to them, then the lines of those.
func TestNorthwind(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("../../../../shared/data/northwind")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("skipped loading the Northwind data: ../shared/data/northwind is not beside this clone")
	}
	w := newWorld(t)
	var all []load.File
	for _, name := range []string{"order-details.csv", "orders.csv", "shippers.csv", "products.csv", "customers.csv"} {
		all = append(all, load.File{Name: name, Changed: at.Add(-time.Hour), Open: func(context.Context) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }})
	}
	got := w.load(load.Options{}, all...)
	want := map[string]string{"customers.csv": "loaded 91 91 0", "orders.csv": "loaded 830 830 0", "order-details.csv": "loaded 830 830 0", "products.csv": "loaded 77 77 0", "shippers.csv": "unknown 0 0 0"}
	for _, l := range got {
		if is := fmt.Sprint(l.Status, " ", l.Records, " ", l.Queued, " ", l.Breaks); is != want[l.File] {
			t.Errorf("%s: %s, want %s: %+v", l.File, is, want[l.File], l)
		}
	}
	if failed := w.hear(); failed > 0 {
		t.Errorf("%d messages failed", failed)
	}
	for what, want := range map[[3]string]string{
		{"customers", "ALFKI", "name"}: "Alfreds Futterkiste", {"customers", "ALFKI", "billingAddress.region"}: "(null)",
		{"orders", "10248", "customer"}: string(w.state("customers", "VINET").Record.ID), {"orders", "10248", "placedOn"}: "1996-07-04", {"orders", "10248", "freight"}: "32.38",
		{"products", "5", "active"}: "false", {"products", "1", "listPrice"}: "18", {"products", "1", "unit"}: "10 boxes x 20 bags",
		{"orders", "10248", "shippingAddress.street"}: "59 rue de l'Abbaye",
		{"orders", "10248", "lines"}:                  `[{"item":"11","line":1,"quantity":12,"rate":14},{"item":"42","line":2,"quantity":10,"rate":9.8},{"item":"72","line":3,"quantity":5,"rate":34.8}]`,
	} {
		if got := w.golden(what[0], what[1], what[2]); got != want {
			t.Errorf("%v is %s, want %s", what, got, want)
		}
	}
	s := w.state("customers", "ALFKI")
	if _, due := s.Due[record.Salesforce]; !due || len(s.Due) != 1 {
		t.Errorf("due for %v, want salesforce and never files", s.Due)
	}
	for _, l := range w.load(load.Options{}, all...) {
		if l.Status != load.Duplicate && l.Status != load.Unknown || l.Queued != 0 {
			t.Errorf("again: %+v", l)
		}
	}
}

func TestBrokenRowsAndFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.load(load.Options{}, text("customers-1.csv", header+customer("A", "Ann")+"B,Bob\n"+customer("C", "Cid"), time.Hour),
		text("customers-2.csv", "customerID,name\nD,Dan\n", time.Hour), text("customers-3.csv", header+customer("E", "Eve"), -48*time.Hour), text("customers-4.txt", "x", time.Hour))
	if len(got) != 4 || got[0].Status != load.Unknown || got[2].Status != load.Refused || got[2].Queued != 0 || got[1].Status != load.Done || got[1].Queued != 2 || got[1].Breaks != 1 || got[3].Status != load.Refused {
		t.Errorf("%+v", got)
	}
	w.hear()
	x := w.exceptions()
	if !strings.Contains(x["files/customers-1.csv:3"], "line 3 has 2 cells") || !strings.Contains(x["files/customers-2.csv"], "header lacks address, city, companyName") || !strings.Contains(x["files/customers-3.csv"], "changed at") || len(x) != 3 {
		t.Errorf("exceptions %q", x)
	}
	if w.golden("customers", "C", "name") != "Cid" {
		t.Error("the row after the broken one is missing")
	}
	if got := w.load(load.Options{}, text("customers-2.csv", header+customer("D", "Dan"), time.Hour)); got[0].Status != load.Done || w.exceptions()["files/customers-2.csv"] != "" {
		t.Errorf("corrected: %+v, %q", got, w.exceptions())
	}
	many := header + strings.Repeat("x\n", 250)
	if got := w.load(load.Options{}, text("customers-5.csv", many, time.Hour)); got[0].Breaks != 250 || len(got[0].Broken) != 100 || len(w.exceptions()) != 103 {
		t.Errorf("%d broken, %d shown, %d exceptions", got[0].Breaks, len(got[0].Broken), len(w.exceptions()))
	}
}

// A late file does not overwrite what a newer one said; the last of two rows with one key counts.
func TestLateFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, f := range []load.File{text("customers-new.csv", header+customer("A", "First")+customer("A", "New"), time.Hour), text("customers-late.csv", header+customer("A", "Old"), 2*time.Hour)} {
		w.load(load.Options{}, f)
		w.hear()
	}
	if got := w.golden("customers", "A", "name"); got != "New" {
		t.Errorf("the name is %s", got)
	}
	w.load(load.Options{}, text("customers-newest.jsonl", `{"customerID":"A","companyName":"Newest"}`, 0))
	if w.hear(); w.golden("customers", "A", "name") != "Newest" || w.golden("customers", "A", "billingAddress.city") != "Berlin" {
		t.Error("what a newer file does not say is lost, or what it says")
	}
}

// Where names say the day, a file that comes late is as old as its name says, whenever it was put there.
func TestDatedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set = northwindWith(t, func(s string) string {
		return strings.Replace(s, "  key: customerID", "  key: customerID\n  dated: YYYYMMDD", 1)
	})
	got := w.load(load.Options{}, text("customers-20261102.csv", header+customer("A", "New"), 3*time.Hour), text("customers-20261101.csv", header+customer("A", "Old"), time.Hour),
		text("customers-x.csv", header+customer("A", "Undated"), 0), text("customers-20261231.csv", header+customer("A", "Ahead"), 0))
	var what []string
	for _, l := range got {
		what = append(what, l.File+" "+l.Status)
	}
	if fmt.Sprint(what) != "[customers-20261101.csv loaded customers-20261102.csv loaded customers-x.csv refused customers-20261231.csv refused]" {
		t.Errorf("%v", what)
	}
	if w.hear(); w.golden("customers", "A", "name") != "New" {
		t.Errorf("the name is %s", w.golden("customers", "A", "name"))
	}
	w.load(load.Options{}, text("customers-20261030.csv", header+customer("A", "Late"), 0))
	if w.hear(); w.golden("customers", "A", "name") != "New" {
		t.Error("a late file counts more than a newer one")
	}
}

// A customer that no file has told of keeps its order waiting, as a message that comes back.
func TestUnknownReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.load(load.Options{}, text("orders.csv", "orderID,customerID,orderDate,requiredDate,freight,shipVia,shipName,shipAddress,shipCity,shipRegion,shipPostalCode,shipCountry\n1,X,NULL,NULL,1,1,a,b,c,d,e,f\n", time.Hour))
	if failed := w.hear(); failed != 1 {
		t.Errorf("%d messages came back, want 1", failed)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := text("customers.csv", header+customer("A", "Ann")+"B\n", time.Hour)
	if got := w.load(load.Options{DryRun: true}, f); got[0].Status != load.Fine || got[0].Queued != 1 || got[0].Breaks != 1 || len(w.exceptions()) != 0 {
		t.Errorf("%+v %q", got, w.exceptions())
	}
	if w.hear(); len(w.exceptions()) != 0 {
		t.Errorf("%q", w.exceptions())
	}
	if got := w.load(load.Options{}, f); got[0].Status != load.Done || got[0].Queued != 1 {
		t.Errorf("%+v", got)
	}
}

// fragile sends until its luck ends: then it dies before or after the queue has the messages.
type fragile struct {
	to   queue.Sender
	luck *rand.Rand
	sent map[string]int // versions by native id
}

var errDied = errors.New("killed")

func (f *fragile) Send(ctx context.Context, msgs ...queue.Message) error {
	fate := f.luck.IntN(4)
	if fate == 0 {
		return errDied
	}
	for _, m := range msgs {
		in, err := message.ParseInbound(m.Body)
		if err != nil {
			return err
		}
		f.sent[fmt.Sprint(in.Native.ID, in.Native.Version)]++
	}
	if err := f.to.Send(ctx, msgs...); err != nil || fate == 1 {
		return errors.Join(err, errDied)
	}
	return nil
}

// A run that dies at any page goes on there: every record is queued, under one version, and none behind what is noted again.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	const n = 1_000
	var sb strings.Builder
	sb.WriteString(header)
	for i := range n {
		sb.WriteString(customer(fmt.Sprint("C", i), "Ann"))
	}
	for seed := range uint64(5) {
		w := newWorld(t)
		f := &fragile{to: w.queue, luck: rand.New(rand.NewPCG(seed, 1)), sent: map[string]int{}}
		deaths, queued := 0, int64(0)
		for run := 0; ; run++ {
			// A copy of the file has another time, and is the same file.
			got, err := w.flow(f).Apply(t.Context(), []load.File{text(fmt.Sprint("customers-", run, ".csv"), sb.String(), time.Hour-time.Duration(run))}, load.Options{})
			queued += got[0].Queued
			if err == nil {
				if got[0].Status != load.Done || got[0].Resumed+got[0].Queued != n {
					t.Fatalf("seed %d: %+v", seed, got)
				}
				break
			}
			if deaths++; !errors.Is(err, errDied) || deaths > 1000 {
				t.Fatal(err)
			}
		}
		if len(f.sent) != n || deaths == 0 && seed == 0 {
			t.Errorf("seed %d: %d of %d records after %d deaths", seed, len(f.sent), n, deaths)
		}
		if queued != n {
			t.Errorf("seed %d: %d records noted as queued, want %d", seed, queued, n)
		}
	}
}

func TestDiskFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := load.File{Name: "customers.csv", Changed: at, Open: func(context.Context) (io.ReadCloser, error) { return nil, os.ErrPermission }}
	if _, err := w.flow(w.queue).Apply(t.Context(), []load.File{f}, load.Options{}); !fault.Is(err, fault.Down) || !strings.Contains(err.Error(), "customers.csv") {
		t.Error(err)
	}
}

// shelf is a source of files that counts how often each is opened.
type shelf struct {
	files  []load.File
	opened map[string]int
}

func (s *shelf) put(f load.File) {
	open := f.Open
	f.Open = func(ctx context.Context) (io.ReadCloser, error) { s.opened[f.Name]++; return open(ctx) }
	s.files = append(s.files, f)
}

func (s *shelf) List(context.Context) ([]load.File, error) { return s.files, nil }

// What is known without reading it is looked at once, and passed over when it is done or refused.
func TestKnownFiles(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), &shelf{opened: map[string]int{}}
	for i, content := range []string{header + customer("A", "Ann"), header + customer("A", "Ann"), "wrong\n"} {
		f := text(fmt.Sprintf("customers-%d.csv", i+1), content, time.Hour)
		f.Same = f.Name + "/etag"
		s.put(f)
	}
	run := func() string {
		got, err := w.flow(w.queue).Run(t.Context(), s, load.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, l := range got {
			out = append(out, l.File+" "+l.Status)
		}
		return strings.Join(out, ", ")
	}
	if got := run(); got != "customers-1.csv loaded, customers-2.csv duplicate, customers-3.csv refused" {
		t.Errorf("first %s", got)
	}
	before := fmt.Sprint(s.opened)
	if got := run(); got != "" || fmt.Sprint(s.opened) != before {
		t.Errorf("again %q, opened %v, before %s", got, s.opened, before)
	}
	s.files[2].Changed = at.Add(48 * time.Hour) // too far ahead today, and not for ever
	s.files[2].Same, s.files[2].Open = "ahead", text("", header+customer("B", "Bob"), 0).Open
	for range 2 {
		if got := run(); got != "customers-3.csv refused" {
			t.Errorf("ahead: %q", got)
		}
	}
	s.files[2].Changed = at
	if got := run(); got != "customers-3.csv loaded" {
		t.Errorf("no longer ahead: %q", got)
	}
	s.files[0].Same += "2" // another version of the object, whatever it is
	if got := run(); got == "" {
		t.Error("a new version is passed over")
	}
}

// ending is a context that has so much time left.
func ending(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A run that has no time left stops at a page; the next one goes on there, and does not look at all of the file again.
func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), &shelf{opened: map[string]int{}}
	const n = 350
	var sb strings.Builder
	sb.WriteString(header)
	for i := range n {
		sb.WriteString(customer(fmt.Sprint("C", i), "Ann"))
	}
	f := text("customers.csv", sb.String(), time.Hour)
	f.Same = "1"
	s.put(f)
	short := ending(t, 5*time.Second) // less than a page needs
	for run := 1; run <= 4; run++ {
		got, err := w.flow(w.queue).Run(short, s, load.Options{})
		if err != nil || len(got) != 1 || got[0].Resumed != int64(run-1)*100 || s.opened["customers.csv"] != run+1 {
			t.Fatalf("run %d: %+v, %v, opened %d times", run, got, err, s.opened["customers.csv"])
		}
		if want := map[bool]string{true: load.Later, false: load.Done}[run < 4]; got[0].Status != want {
			t.Errorf("run %d: %+v", run, got[0])
		}
	}
	if w.hear(); w.golden("customers", "C349", "name") != "Ann" {
		t.Error("the last record is missing")
	}
}

// stuck reads nothing until the context of its file ends.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
func (s stuck) Close() error             { return nil }

// What cannot even be looked at in all the time that there is, is told; what came after it waits.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	huge := load.File{Name: "customers-1.csv", Changed: at.Add(-2 * time.Hour), Same: "1", Open: func(ctx context.Context) (io.ReadCloser, error) { return stuck{ctx}, nil }}
	got, err := w.flow(w.queue).Apply(ending(t, 50*time.Millisecond), []load.File{huge, text("customers-2.csv", header, time.Hour)}, load.Options{})
	if err != nil || len(got) != 2 || got[0].Status != load.Refused || got[1].Status != load.Later || !strings.Contains(w.exceptions()["files/customers-1.csv"], "split it") {
		t.Errorf("%+v, %v, %q", got, err, w.exceptions())
	}
}

// rival lets another run take the same file, once, before a page is queued.
type rival struct {
	queue.Sender
	run func()
}

func (r *rival) Send(ctx context.Context, msgs ...queue.Message) error {
	if run := r.run; run != nil {
		r.run = nil
		run()
	}
	return r.Sender.Send(ctx, msgs...)
}

// Of two runs at once, the one that finds the other ahead leaves the file to it; the queue keeps each message once.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var sb strings.Builder
	sb.WriteString(header)
	for i := range 250 {
		sb.WriteString(customer(fmt.Sprint("C", i), "Ann"))
	}
	f := text("customers.csv", sb.String(), time.Hour)
	r := &rival{Sender: w.queue, run: func() {
		if got := w.load(load.Options{}, f); got[0].Status != load.Done || got[0].Queued != 250 {
			t.Errorf("the other run: %+v", got)
		}
	}}
	got, err := w.flow(r).Apply(t.Context(), []load.File{f}, load.Options{})
	if err != nil || got[0].Status != load.Later || got[0].Queued != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if d, err := w.queue.Depth(t.Context()); err != nil || d.Visible != 250 {
		t.Errorf("%+v, %v", d, err)
	}
}
