package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// known makes customers that the hub has heard of, days ago, ten minutes apart.
func known(t tb, o platform.Object, n int) *world {
	t.Helper()
	w := newWorld(t, o, o.Census == platform.Ranges)
	for i := range n {
		w.tell(w.save(strconv.Itoa(i+1), fmt.Sprint("Customer ", i+1), noon.Add(-48*time.Hour-time.Duration(i)*10*time.Minute)))
	}
	w.hear()
	return w
}

func (w *world) drifts(t *testing.T) []ledger.Exception {
	t.Helper()
	all, err := w.ledger.Exceptions(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	var out []ledger.Exception
	for _, x := range all {
		if x.Type == "reconciliation-drift" {
			out = append(out, x)
		}
	}
	return out
}

// More than the cap heals nothing, and asks once. When it has been settled otherwise, nobody is asked any more.
func TestCap(t *testing.T) {
	t.Parallel()
	w := known(t, grouped(), 30)
	rule := w.config.Reconciling("customer")
	rule.Records = 3
	w.config = w.config.WithReconciling(rule)
	w.wire()
	for i := range 4 {
		w.save(strconv.Itoa(i+1), "Other", noon.Add(-time.Hour))
	}
	for range 2 {
		r := w.run(reconcile.Wish{})
		s := r.Sets[0]
		if s.Found() != 4 || !s.Capped || s.Healed() != 0 || s.Excepted() != 4 || len(s.Exceptions) != 1 || len(w.inbound) != 0 {
			t.Fatalf("%+v, %d sent", s, len(w.inbound))
		}
		if xs := w.drifts(t); len(xs) != 1 || xs[0].ID != s.Exceptions[0] || !strings.Contains(xs[0].Detail, "4 of 30") {
			t.Fatalf("exceptions %+v", xs)
		}
	}
	rule.Records = 4
	w.config = w.config.WithReconciling(rule)
	w.wire()
	if s := w.run(reconcile.Wish{}).Sets[0]; s.Capped || s.Healed() != 4 || len(w.inbound) != 4 || len(w.drifts(t)) != 0 {
		t.Errorf("%+v, %d sent, exceptions %+v", s, len(w.inbound), w.drifts(t))
	}
}

// People are asked about what a platform does not know any more, until it is there again, or until one of them says that it is gone.
func TestGone(t *testing.T) {
	t.Parallel()
	w := known(t, grouped(), 5)
	back := w.account.natives["3"]
	delete(w.account.natives, "3")
	s := w.run(reconcile.Wish{}).Sets[0]
	if got := found(s); got["3"] != reconcile.Extra || s.Excepted() != 1 || len(w.drifts(t)) != 1 {
		t.Fatalf("%+v", s)
	}
	w.account.natives["3"] = back
	if s := w.run(reconcile.Wish{}).Sets[0]; s.Found() != 0 || len(w.drifts(t)) != 0 {
		t.Fatalf("there again: %+v, exceptions %+v", s, w.drifts(t))
	}
	delete(w.account.natives, "3")
	ctx := context.Background()
	if _, err := w.flow.Schedule(ctx, reconcile.Wish{Gone: true}); !fault.Is(err, fault.Malformed) {
		t.Errorf("a schedule says that records are gone: %v", err)
	}
	if _, err := w.flow.Begin(ctx, policy.Person{Name: "nobody@northwind.example"}, reconcile.Wish{}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("somebody unknown begins a run: %v", err)
	}
	r, err := w.flow.Begin(ctx, policy.Person{Name: "stewart@northwind.example"}, reconcile.Wish{Gone: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.flow.Advance(ctx); err != nil {
		t.Fatal(err)
	}
	if r, err = w.flow.Show(ctx, r.ID); err != nil || r.State != reconcile.Done || r.Sets[0].Healed() != 1 || len(w.drifts(t)) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	w.hear()
	states, err := w.ledger.Load(ctx, ledger.Mint("customer", ref("3")))
	if err != nil || !states[ledger.Mint("customer", ref("3"))].Record.Views[record.NetSuite].Gone() {
		t.Errorf("it lives on: %v", err)
	}
	if s := w.run(reconcile.Wish{}).Sets[0]; s.Found() != 0 || s.Here != 4 {
		t.Errorf("afterwards: %+v", s)
	}
}

// A native record that carries a record's external id is linked where the record has none there; a second one is for people.
func TestExternalIDs(t *testing.T) {
	t.Parallel()
	w := known(t, grouped(), 5)
	w.bury("2", "", noon.Add(-30*time.Hour))
	w.tell(w.account.tombs["2"])
	w.hear()
	for id, of := range map[string]string{"200": "2", "400": "4"} {
		n := w.save(id, "Again "+id, noon.Add(-time.Hour))
		n.External = ledger.Mint("customer", ref(of)).External()
		w.account.natives[id] = n
	}
	s := w.run(reconcile.Wish{}).Sets[0]
	if got := found(s); got["200"] != reconcile.Unlinked || got["400"] != reconcile.Duplicated || len(got) != 2 {
		t.Fatalf("found %v", got)
	}
	w.hear()
	s = w.run(reconcile.Wish{}).Sets[0]
	if s.Found() != 0 || s.Strangers != 1 || s.Here != 6 {
		t.Errorf("afterwards: %+v", s)
	}
}

// An edit that was lost is hidden from counts by what was heard of after it. A full run compares values.
func TestFullComparesValues(t *testing.T) {
	t.Parallel()
	w := known(t, grouped(), 5)
	if s := w.run(reconcile.Wish{}).Sets[0]; s.Found() != 0 {
		t.Fatalf("%+v", s)
	}
	n := w.save("3", "Customer 3", noon.Add(-2*time.Hour))
	n.Fields["creditLimit"] = json.Number("99") // lost
	n = w.save("3", "Renamed", noon.Add(-time.Hour))
	n.Fields["creditLimit"] = json.Number("99")
	w.account.natives["3"] = n
	event := n
	event.Fields, event.Partial = map[string]any{"companyName": "Renamed"}, true
	w.tell(event)
	w.hear()
	if s := w.run(reconcile.Wish{}).Sets[0]; s.Found() != 0 {
		t.Fatalf("by counts: %+v", s)
	}
	s := w.run(reconcile.Wish{Full: true}).Sets[0]
	if s.Found() != 1 || s.Drift[0].Kind != reconcile.Changed || fmt.Sprint(s.Drift[0].Samples[0].Fields) != "[creditLimit]" {
		t.Fatalf("in full: %+v", s)
	}
	w.hear()
	if s := w.run(reconcile.Wish{Full: true}).Sets[0]; s.Found() != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

// A run that is interrupted anywhere goes on where it was, or once more from the beginning, and comes to the same.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{false, true} {
		w := known(t, grouped(), 230)
		for i := range 7 {
			w.save(strconv.Itoa(i*30+1), "Other", noon.Add(-time.Hour))
		}
		w.bury("100", "", noon.Add(-time.Hour))
		calls := 0
		w.account.before = func(string) error {
			if calls++; calls%3 == 0 {
				return &fault.Error{Class: fault.Throttled, Op: "account", Code: fault.NotCalled, Detail: "no room"}
			}
			return nil
		}
		if full { // each page is kept: five of them
			defer func() {
				if calls > 12 {
					t.Errorf("%d calls for five pages", calls)
				}
			}()
		} else {
			before := w.account.before
			w.account.before = func(m string) error {
				if calls > 20 {
					return nil
				}
				return before(m)
			}
		}
		s := w.run(reconcile.Wish{Full: full}).Sets[0]
		if s.State != reconcile.Done || s.Found() != 8 || s.Healed() != 8 || s.Here != 230 || s.There != 229 {
			t.Errorf("full %t: %+v", full, s)
		}
	}
}

// skewed misbehaves as vendors do.
type skewed struct {
	*account
	census func([]platform.Count, error) ([]platform.Count, error)
	within func(platform.Page) platform.Page
}

func (s skewed) Census(ctx context.Context, o string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	n, err := s.account.Census(ctx, o, within, width)
	if s.census != nil {
		return s.census(n, err)
	}
	return n, err
}

func (s skewed) Within(ctx context.Context, o string, within []platform.Span, cursor string) (platform.Page, error) {
	p, err := s.account.Within(ctx, o, within, cursor)
	if s.within != nil {
		p = s.within(p)
	}
	return p, err
}

func TestBadVendors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		full  bool
		skew  skewed
		check func(reconcile.Report) string
	}{
		"counts lag": {skew: skewed{census: func(n []platform.Count, err error) ([]platform.Count, error) {
			if len(n) > 0 {
				n[len(n)-1].Records--
			}
			return n, err
		}}, check: func(r reconcile.Report) string {
			if s := r.Sets[0]; s.Found() != 1 || s.Unexplained == 0 || r.State != reconcile.Done {
				return "one is found, and what counts say else is told"
			}
			return ""
		}},
		"it may not count": {skew: skewed{census: func([]platform.Count, error) ([]platform.Count, error) {
			return nil, &fault.Error{Class: fault.Refused, Op: "census", Detail: "records are hidden"}
		}}, check: func(r reconcile.Report) string {
			if s := r.Sets[0]; s.Found() != 1 || s.Healed() != 1 || s.Roots.Platform.Records == 0 || !strings.Contains(fmt.Sprint(s.Limits), "hidden") {
				return "everything is read instead"
			}
			return ""
		}},
		"a page is skipped": {full: true, skew: skewed{within: func(p platform.Page) platform.Page {
			if len(p.Natives) > 0 && p.Natives[0].ID == "51" {
				p.Natives = nil
			}
			return p
		}}, check: func(r reconcile.Report) string {
			if s := r.Sets[0]; s.Found() != 1 || s.Unexplained != 50 || s.There != 120 || r.State != reconcile.Done {
				return "what is not listed is asked for by id"
			}
			return ""
		}},
		"a page is listed twice": {full: true, skew: skewed{within: func(p platform.Page) platform.Page {
			if len(p.Natives) > 0 && p.Natives[0].ID == "51" {
				p.Cursor = "0"
			}
			return p
		}}, check: func(r reconcile.Report) string {
			if r.State != reconcile.Failed || !strings.Contains(r.Sets[0].Reason, "order of id") && !strings.Contains(r.Sets[0].Reason, "move on") {
				return "it is an error"
			}
			return ""
		}},
		"it does not move on": {full: true, skew: skewed{within: func(p platform.Page) platform.Page {
			p.Cursor, p.More = "", true
			return p
		}}, check: func(r reconcile.Report) string {
			if r.State != reconcile.Failed || !strings.Contains(r.Sets[0].Reason, "does not move on") {
				return "it is an error"
			}
			return ""
		}},
		"it is down for good": {skew: skewed{census: func([]platform.Count, error) ([]platform.Count, error) {
			return nil, &fault.Error{Class: fault.Contract, Op: "census", Detail: "a count is negative"}
		}}, check: func(r reconcile.Report) string {
			if r.State != reconcile.Failed || r.Sets[0].Healed() != 0 || !strings.Contains(r.Reason, "netsuite/customer") {
				return "the run fails and heals nothing"
			}
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := known(t, grouped(), 120)
			w.save("7", "Other", noon.Add(-time.Hour))
			tt.skew.account = w.account
			w.source = tt.skew
			w.wire()
			r := w.run(reconcile.Wish{Full: tt.full})
			if wrong := tt.check(r); wrong != "" {
				t.Errorf("%s: %+v", wrong, r)
			}
		})
	}
}

// One schedule does not begin a run while another over the same platform is under way.
func TestScheduledOnce(t *testing.T) {
	t.Parallel()
	w := known(t, grouped(), 3)
	ctx := context.Background()
	a, err := w.flow.Schedule(ctx, reconcile.Wish{Platform: record.NetSuite})
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.flow.Schedule(ctx, reconcile.Wish{Full: true})
	if err != nil || b.ID != a.ID {
		t.Errorf("%s beside %s, %v", b.ID, a.ID, err)
	}
	if _, err := w.flow.Schedule(ctx, reconcile.Wish{Platform: record.Zendesk}); !fault.Is(err, fault.Malformed) {
		t.Errorf("a platform that is not connected is compared: %v", err)
	}
	if _, err := w.flow.Advance(ctx); err != nil {
		t.Fatal(err)
	}
	if b, err = w.flow.Schedule(ctx, reconcile.Wish{Full: true}); err != nil || b.ID == a.ID {
		t.Errorf("no other run after the first: %v", err)
	}
	all, err := w.flow.List(ctx)
	if err != nil || len(all) != 2 || all[1].State != reconcile.Done || len(all[1].Sets) != 1 || all[1].Sets[0].Equal != 3 {
		t.Errorf("listed %+v, %v", all, err)
	}
}

func TestKindsOfPolicy(t *testing.T) {
	t.Parallel()
	in := map[string]bool{}
	for _, k := range policy.HealKinds() {
		in[k] = true
	}
	for _, k := range reconcile.Kinds() {
		if !in[string(k)] {
			t.Errorf("reconcile.yaml knows no kind %s", k)
		}
		delete(in, string(k))
	}
	if len(in) > 0 {
		t.Errorf("only reconcile.yaml knows %v", in)
	}
}
