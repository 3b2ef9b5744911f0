package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/files"
	"sorrel/shared/flow/export"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/load"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

var at = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func now() time.Time { return at }

// northwind is a configuration in which files own customers and orders; change is made to the mappings of files.
func northwind(t testing.TB, change func(string) string) *policy.Set {
	t.Helper()
	all := fstest.MapFS{}
	add := func(from fs.FS, name string) {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "mapping/files.") && change != nil {
			b = []byte(change(string(b)))
		}
		all[name] = &fstest.MapFile{Data: b}
	}
	for _, name := range []string{"contract/customer.v1.json", "contract/order.v1.json", "contract/product.v1.json", "mapping/salesforce.customer.yaml", "people.yaml"} {
		add(config.FS, name)
	}
	for _, name := range []string{"policy/customer.yaml", "policy/order.yaml", "policy/product.yaml", "mapping/files.product.yaml", "mapping/files.customer.yaml", "mapping/files.order.yaml"} {
		add(os.DirFS("../load/testdata/northwind"), name)
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
	ids    int
}

func newWorld(t testing.TB, change func(string) string) *world {
	return &world{TB: t, set: northwind(t, change), ledger: ledger.New(store.NewMemory(now), now)}
}

// hear takes files in as far as the ledger.
func (w *world) hear(all ...load.File) {
	w.Helper()
	q := queue.NewMemory(queue.Settings{Name: "inbound", Visibility: time.Second}, nil, now)
	tell := telemetry.New(nil, now, nil)
	got, err := load.New(load.Deps{Ledger: w.ledger, Config: w.set, Inbound: q, Now: now, NewID: func() string { w.ids++; return fmt.Sprint("t", w.ids) }, Telemetry: tell}).Apply(w.Context(), all, load.Options{})
	for _, l := range got {
		if l.Status != load.Done || l.Breaks > 0 {
			w.Fatalf("%+v", l)
		}
	}
	if err != nil {
		w.Fatal(err)
	}
	h := hub.New(hub.Deps{Ledger: w.ledger, Config: w.set, Now: now, Telemetry: tell})
	for {
		msgs, err := q.Receive(w.Context(), 10, 0)
		if err != nil {
			w.Fatal(err)
		}
		if len(msgs) == 0 {
			return
		}
		if failed := h.Apply(w.Context(), msgs); len(failed) > 0 {
			w.Fatalf("%v", failed)
		}
		for _, m := range msgs {
			if err := q.Delete(w.Context(), m.Receipt); err != nil {
				w.Fatal(err)
			}
		}
	}
}

func (w *world) export(o export.Options) (string, export.Written) {
	w.Helper()
	var out bytes.Buffer
	o.Scratch = func() (export.Scratch, error) { return os.Create(filepath.Join(w.TempDir(), "scratch")) }
	got, err := export.New(export.Deps{Ledger: w.ledger, Config: w.set}).Apply(w.Context(), &out, o)
	if err != nil {
		w.Fatal(err)
	}
	return out.String(), got
}

func text(name, content string) load.File {
	return load.File{Name: name, Changed: at, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func folder(t testing.TB) []load.File {
	t.Helper()
	dir, err := filepath.Abs("../../../../shared/data/northwind")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("skipped carrying the Northwind data: ../shared/data/northwind is not beside this clone")
	}
	var all []load.File
	for name, until := range map[string]string{"customers.csv": "", "products.csv": "", "orders.csv": "\n10398,", "order-details.csv": "\n10398,"} { // the first orders are enough
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		content := string(b)
		if until != "" {
			content, _, _ = strings.Cut(content, until)
		}
		all = append(all, text(name, content))
	}
	return all
}

// What is written is what was read: into a new world it brings the same records, and out of that the same files. In every
// format, encoding and form of numbers and dates.
func TestNorthwindThereAndBack(t *testing.T) {
	t.Parallel()
	all := folder(t)
	for name, change := range map[string]func(string) string{
		"as it is": func(s string) string {
			return strings.Replace(s, "name: orders.csv", "name: [orders.csv, orders.jsonl]", 1)
		},
		"comma, other dates, UTF-16": func(s string) string {
			return strings.Replace(strings.Replace(s, "name: orders.csv", "name: [orders.csv, orders.jsonl]", 1), "  empty: [", "  decimal: comma\n  dates: DD.MM.YYYY\n  encoding: utf-16\n  delimiter: tab\n  empty: [", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.hear(all...)
			w.set = northwind(t, change)
			customers, c := w.export(export.Options{Entity: "customer"})
			products, p := w.export(export.Options{Entity: "product"})
			orders, o := w.export(export.Options{Entity: "order"})
			lines, l := w.export(export.Options{Entity: "order", List: "lines"})
			json, j := w.export(export.Options{Entity: "order", Format: files.JSONLines})
			for _, got := range []export.Written{c, p, o, l, j} {
				if got.Left > 0 || got.Empty > 0 || got.Read != got.Written || got.Written != map[string]int64{"customer": 91, "product": 77, "order": 150}[got.Entity] {
					t.Errorf("%+v", got)
				}
			}
			again, inline := newWorld(t, change), newWorld(t, change)
			again.hear(text("customers.csv", customers), text("products.csv", products), text("orders.csv", orders), text("order-details.csv", lines))
			inline.hear(text("customers.csv", customers), text("products.csv", products), text("orders.jsonl", json))
			for i, what := range []export.Options{{Entity: "customer"}, {Entity: "product"}, {Entity: "order"}, {Entity: "order", List: "lines"}, {Entity: "order", Format: files.JSONLines}} {
				for _, w := range []*world{again, inline} {
					if got, _ := w.export(what); got != []string{customers, products, orders, lines, json}[i] {
						t.Errorf("%s of %s differ", what.List, what.Entity)
					}
				}
			}
			if name == "as it is" && (!strings.Contains(orders, "\r\n10248,") || !strings.Contains(lines, "\r\n10248,11,12,14\r\n10248,42,10,9.8\r\n") || !strings.HasPrefix(customers, "customerID,")) {
				t.Errorf("%.200s\n%.200s\n%.200s", customers, orders, lines)
			}
		})
	}
}

const header = "customerID,companyName,address,city,region,postalCode,country,phone\n"

// What cannot be said whole is left out and told; a deleted or merged record is not there.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	latin := func(s string) string {
		return strings.Replace(s, "  empty: [", "  encoding: windows-1252\n  empty: [", 1)
	}
	w := newWorld(t, nil)
	w.hear(text("customers.csv", header+"A,Ann,a,b,,1,CH,\nB,Βήτα,a,b,,1,GR,\nC,Cid,a,b,,1,CH,\n"))
	id, _, err := w.ledger.Lookup(t.Context(), record.Ref{Platform: record.Files, Object: "customers", ID: "C"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.ledger.Follow(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	after := s.Clone()
	v := after.Record.Views[record.Files]
	v.ID = "C2" // files name it otherwise than its number says
	after.Record.Views[record.Files] = v
	if err := w.ledger.Commit(t.Context(), ledger.Entry{Before: s, After: after}); err != nil {
		t.Fatal(err)
	}
	w.set = northwind(t, latin)
	out, got := w.export(export.Options{Entity: "customer"})
	if want := "customerID,billingAddress"; strings.HasPrefix(out, want) || strings.Count(out, "\r\n") != 2 || got.Written != 1 || got.Left != 2 || got.Read != 3 {
		t.Errorf("%q %+v", out, got)
	}
	told := fmt.Sprint(got.Out)
	if !strings.Contains(told, "windows-1252 has no character U+0392") || !strings.Contains(told, "number is not C2, which names the record") {
		t.Error(told)
	}
	if _, got := w.export(export.Options{Entity: "order"}); got.Read != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, tc := range []struct {
		o    export.Options
		says string
	}{{export.Options{Entity: "shipment"}, "no mapping of the platform files"}, {export.Options{Entity: "order", List: "rows"}, `has no list "rows"`}} {
		_, err := export.New(export.Deps{Ledger: w.ledger, Config: w.set}).Apply(t.Context(), io.Discard, tc.o)
		if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.o, err)
		}
	}
	w.hear(text("customers.csv", header+"A,Ann,a,b,,1,CH,\n"))
	full := errors.New("disk full")
	_, err := export.New(export.Deps{Ledger: w.ledger, Config: w.set}).Apply(t.Context(), failing{full}, export.Options{Entity: "customer"})
	if !errors.Is(err, full) || !fault.Is(err, fault.Down) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
