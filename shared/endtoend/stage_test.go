package endtoend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/flow/operate"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// stage is one world under test with its twins.
type stage struct {
	testing.TB
	twins  *twins.Twins
	open   opener
	sweep  time.Duration
	config string // as boot.ConfigFS takes it
	world  *boot.World
	host   *local.Host

	mu      sync.Mutex
	trouble []string // the last events that a calm run does not have
}

// opener opens a world over whatever it keeps its state in. It is called again for a restart.
type opener func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error)

// embedded keeps the world in files.
func embedded(dir string) opener {
	return func(set *policy.Set, platforms map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
		return boot.Embedded(dir, set, platforms, recorder)
	}
}

// startTwins boots twins that end with the test.
func startTwins(t testing.TB) *twins.Twins {
	t.Helper()
	return startSuchTwins(t, twins.Options{})
}

func startSuchTwins(t testing.TB, o twins.Options) *twins.Twins {
	t.Helper()
	o.Now, o.Seed, o.Roomy = time.Now, 11, true
	w, err := twins.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.SendTo("")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Errorf("closing the twins: %v", err)
		}
	})
	return w
}

// newStage boots twins and a world that end with the test. Listings are fired by the test.
func newStage(t testing.TB, open opener) *stage {
	t.Helper()
	return stageOver(t, open, startTwins(t))
}

func stageOver(t testing.TB, open opener, w *twins.Twins) *stage {
	t.Helper()
	return stageWith(t, open, w, boot.Everywhere)
}

func stageWith(t testing.TB, open opener, w *twins.Twins, config string) *stage {
	t.Helper()
	s := &stage{TB: t, twins: w, open: open, sweep: 250 * time.Millisecond, config: config}
	t.Cleanup(func() {
		s.twins.SendTo("")
		s.halt()
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Logf("events of trouble:\n%s", strings.Join(s.trouble, "\n"))
		}
	})
	s.start()
	return s
}

func (s *stage) start() {
	s.Helper()
	set, err := boot.LoadConfig(s.config)
	if err != nil {
		s.Fatal(err)
	}
	s.world, err = s.open(set, s.twins.Endpoints(), func(now func() time.Time) *telemetry.Recorder {
		return telemetry.New(nil, now, s.hear)
	})
	if err != nil {
		s.Fatal(err)
	}
	s.host, err = local.Start(s.world, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: s.sweep})
	if err != nil {
		s.Fatal(errors.Join(err, s.world.Close()))
	}
	s.twins.SendTo(s.host.URL())
}

func (s *stage) hear(e telemetry.Event) {
	switch e.Step {
	case "failed", "held", "parked", "refused", "kept-due":
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.trouble) >= 40 {
			s.trouble = s.trouble[1:]
		}
		s.trouble = append(s.trouble, fmt.Sprintf("%s %s %s %s %s %v %v", e.At.Format("05.000"), e.Step, e.Platform, e.Record, e.Detail, e.Fields, e.Err))
	}
}

// halt stops host and world as a deployment does: what is under way ends, the rest stays queued.
func (s *stage) halt() {
	s.Helper()
	if s.host == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(s.host.Close(ctx), s.world.Close()); err != nil {
		s.Errorf("closing: %v", err)
	}
	s.host = nil
}

// list fires the listing of a platform.
func (s *stage) list(platform string) {
	s.Helper()
	if err := s.host.List(s.Context(), platform); err != nil {
		s.Fatalf("listing %s: %v", platform, err)
	}
}

// eventually waits until test gives no error.
func (s *stage) eventually(within time.Duration, what string, test func() error) {
	s.Helper()
	eventually(s, within, what, test)
}

func eventually(t testing.TB, within time.Duration, what string, test func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := test()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// settle waits until no webhook, message or due work is left anywhere, three times in a row: an echo may still
// have been on its way the first time.
func (s *stage) settle(within time.Duration) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), within)
	defer cancel()
	calm := 0
	s.eventually(within, "settling", func() error {
		if err := s.twins.Drain(ctx); err != nil {
			return err
		}
		st, err := s.world.Operate().Status(ctx)
		if err != nil {
			return err
		}
		if left := busy(st); left != "" {
			calm = 0
			return errors.New(left)
		}
		if calm++; calm < 3 {
			return errors.New("calm, but not for long")
		}
		return nil
	})
}

// busy says what is left to do, or nothing.
func busy(st operate.Status) string {
	for _, q := range st.Queues {
		if !operate.IsDeadLetter(q.Name) && q.Visible+q.InFlight > 0 {
			return fmt.Sprintf("%d messages on %s", q.Visible+q.InFlight, q.Name)
		}
	}
	for _, p := range st.Platforms {
		if p.Due > p.Resting {
			return fmt.Sprintf("%d due for %s", p.Due-p.Resting, p.Name)
		}
	}
	if n := st.Unseen.Count; n > 0 {
		return fmt.Sprintf("%d records to be looked at by workflows", n)
	}
	return ""
}

// noTrouble expects that nothing needs a person: no open exception, nothing dead-lettered.
func (s *stage) noTrouble() {
	s.Helper()
	open, err := s.world.Ledger.Exceptions(s.Context(), false)
	if err != nil {
		s.Fatal(err)
	}
	for _, x := range open {
		s.Errorf("exception %s: %s %s %s %s: %s", x.Type, x.Record, x.Native, x.Platform, x.Field, x.Detail)
	}
	for name, q := range s.world.Queues {
		if d, err := q.Depth(s.Context()); err != nil {
			s.Fatal(err)
		} else if operate.IsDeadLetter(name) && d.Visible+d.InFlight > 0 {
			s.Errorf("%s holds %d message(s)", name, d.Visible+d.InFlight)
		}
	}
}

// writes is how many API writes a platform's twin has accepted.
func (s *stage) writes(platform string) int { return s.twins.Kits()[platform].Stats().Writes }

// targetWrites is how many API writes the targets have accepted.
func (s *stage) targetWrites() int {
	return s.writes(record.Salesforce) + s.writes(record.Zendesk) + s.writes(record.ServiceNow)
}

func (s *stage) faults(platform string, f twin.Faults) { s.twins.Kits()[platform].SetFaults(f) }

// edit is what a person does in NetSuite.
func (s *stage) edit(object, id string, fields map[string]any) string {
	s.Helper()
	return editNetSuite(s, s.twins, object, id, fields)
}

func editNetSuite(t testing.TB, w *twins.Twins, object, id string, fields map[string]any) string {
	t.Helper()
	got, err := w.NetSuite.Edit(object, id, fields)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func customerFields(number, name string) map[string]any {
	return map[string]any{"entityId": number, "companyName": name, "phone": "0621-08460"}
}

func orderFields(customer, number string) map[string]any {
	return map[string]any{"tranId": number, "tranDate": "2026-11-20", "entity": map[string]any{"id": customer}, "orderStatus": map[string]any{"id": "B"},
		"item": map[string]any{"items": []any{map[string]any{"item": map[string]any{"refName": "Tofu"}, "quantity": 3, "rate": 23.25}}}}
}

func statusField(letter string) map[string]any {
	return map[string]any{"orderStatus": map[string]any{"id": letter}}
}

// minted is the id that Sorrel gives to the record of a NetSuite record.
func minted(entity, object, id string) record.ID {
	return ledger.Mint(entity, record.Ref{Platform: record.NetSuite, Object: object, ID: id})
}

// only returns the one native record whose field has the value: none and two are errors.
func only(all []map[string]any, field, value string) (map[string]any, error) {
	var found map[string]any
	for _, r := range all {
		if r[field] != value {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("two native records with %s %s", field, value)
		}
		found = r
	}
	if found == nil {
		return nil, fmt.Errorf("no native record with %s %s", field, value)
	}
	return found, nil
}

// custom are the fields of a Zendesk custom object record.
func custom(r map[string]any) map[string]any {
	fields, _ := r["custom_object_fields"].(map[string]any)
	return fields
}

// orderShows reports whether both targets show an order's status.
func orderShows(w *twins.Twins, order, salesforce, zendesk string) error {
	id := minted("order", "salesOrder", order).External()
	o, err := only(w.Salesforce.All("Order"), "Sorrel_Id__c", id)
	if err == nil && o["ERP_Status__c"] != salesforce {
		err = fmt.Errorf("Salesforce shows %v, want %s", o["ERP_Status__c"], salesforce)
	}
	if err != nil {
		return err
	}
	z, err := only(w.Zendesk.All("custom_object/order"), "external_id", id)
	if err == nil && custom(z)["status"] != zendesk {
		err = fmt.Errorf("Zendesk shows %v, want %s", custom(z)["status"], zendesk)
	}
	return err
}
