package deadletters_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/hub"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/queue/durable"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

var (
	start   = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	stewart = policy.Person{Name: "stewart@northwind.example"}
)

const secret = "Xyzzy-Plugh"

// both is a queue of a test.
type both interface {
	queue.Sender
	deadletters.Dead
}

// bed is a ledger, the queues and the hub.
type bed struct {
	*testing.T
	millis           atomic.Int64
	ledger           *ledger.Ledger
	config           *policy.Set
	log              bytes.Buffer
	tele             *telemetry.Recorder
	in, inDead       both
	zendesk, zenDead both
	hub              *hub.Flow
	flow             *deadletters.Flow
	sent             int
}

func (b *bed) now() time.Time       { return time.UnixMilli(b.millis.Load()).UTC() }
func (b *bed) pass(d time.Duration) { b.millis.Add(d.Milliseconds()) }

// received hides that a queue can be looked at without receiving, as SQS cannot.
type received struct{ both }

// kinds are the queues that people have: of this machine, of memory, and of AWS.
func kinds() map[string]func(b *bed, name string) (source, dead both) {
	memory := func(b *bed, name string) (*queue.Memory, *queue.Memory) {
		dead := queue.NewMemory(queue.Settings{Name: name + "-dlq.fifo"}, nil, b.now)
		return queue.NewMemory(queue.Settings{Name: name + ".fifo"}, dead, b.now), dead
	}
	return map[string]func(b *bed, name string) (source, dead both){
		"memory": func(b *bed, name string) (both, both) { return memory(b, name) },
		"received": func(b *bed, name string) (both, both) {
			source, dead := memory(b, name)
			return source, received{dead}
		},
		"durable": func(b *bed, name string) (both, both) {
			open := func(name string, dead *durable.Queue) *durable.Queue {
				q, err := durable.Open(filepath.Join(b.TempDir(), name), queue.Settings{Name: name}, dead, b.now)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = q.Close() })
				return q
			}
			dead := open(name+"-dlq.fifo", nil)
			return open(name+".fifo", dead), dead
		},
	}
}

// over runs a test with every kind of queue.
func over(t *testing.T, test func(*bed)) {
	t.Parallel()
	for name, make := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newBed(t, make))
		})
	}
}

func newBed(t *testing.T, make func(b *bed, name string) (both, both)) *bed {
	t.Helper()
	set, problems := policy.Load(config.FS)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	b := &bed{T: t, config: set}
	b.millis.Store(start.UnixMilli())
	b.ledger = ledger.New(store.NewMemory(b.now), b.now)
	b.tele = telemetry.New(slog.New(slog.NewJSONHandler(&b.log, nil)), b.now, nil)
	b.in, b.inDead = make(b, "inbound")
	b.zendesk, b.zenDead = make(b, "outbound-zendesk")
	b.hub = hub.New(hub.Deps{Ledger: b.ledger, Config: set, Now: b.now, Telemetry: b.tele})
	b.flow = b.over(b.in, b.inDead)
	t.Cleanup(func() {
		if strings.Contains(b.log.String(), secret) {
			t.Errorf("the log has a value:\n%s", &b.log)
		}
	})
	return b
}

func (b *bed) over(source queue.Sender, dead deadletters.Dead) *deadletters.Flow {
	return deadletters.New(deadletters.Deps{Ledger: b.ledger, Config: b.config, Now: b.now, Telemetry: b.tele, Queues: map[string]deadletters.Pair{
		"inbound": {Source: source, Dead: dead}, "outbound-zendesk": {Source: b.zendesk, Dead: b.zenDead, Platform: record.Zendesk}}})
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// send puts a body on a queue.
func (b *bed) send(q queue.Sender, group, body string) {
	b.Helper()
	b.sent++
	b.must(q.Send(b.Context(), queue.Message{Group: group, Dedup: fmt.Sprint("d", b.sent), Body: []byte(body)}))
}

// said is what NetSuite says about customer 107 at a second.
func (b *bed) said(second int, name string) string {
	b.Helper()
	return b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "customer", ID: "107"}, Version: record.Version{At: start.Add(time.Duration(second) * time.Second)},
		Fields: map[string]any{"entityId": "VINET", "companyName": name}})
}

func (b *bed) inbound(n record.Native) string {
	b.Helper()
	m, err := message.Inbound{CorrelationID: "c-" + n.ID, ReceivedAt: start, Source: message.Webhook, Native: n}.Message("x")
	b.must(err)
	return string(m.Body)
}

func (b *bed) wake(id record.ID) string {
	b.Helper()
	m, err := message.Wake{Platform: record.Zendesk, Record: id, CorrelationID: "c-wake"}.Message("x")
	b.must(err)
	return string(m.Body)
}

// hear lets the hub take a body at once.
func (b *bed) hear(body string) {
	b.Helper()
	if failed := b.hub.Apply(b.Context(), []queue.Received{{ID: "live", Message: queue.Message{Group: "g", Body: []byte(body)}}}); len(failed) > 0 {
		b.Fatal("the hub failed")
	}
}

// giveUp has what is on a queue received until it is dead, by apply each time.
func (b *bed) giveUp(q both, apply func(context.Context, []queue.Received) []string) {
	b.Helper()
	for range 60 {
		got, err := q.Receive(b.Context(), queue.MaxBatch, 0)
		b.must(err)
		if len(got) == 0 {
			return
		}
		var receipts []string
		for _, m := range got {
			receipts = append(receipts, m.Receipt)
		}
		apply(b.Context(), got)
		b.must(q.Release(b.Context(), 0, receipts...))
	}
	b.Fatal("messages do not die")
}

func crash(context.Context, []queue.Received) []string { return nil }

func (b *bed) list(by deadletters.Filter) deadletters.Listing {
	b.Helper()
	l, err := b.flow.List(b.Context(), by)
	b.must(err)
	return l
}

func (b *bed) letter(class string) deadletters.Letter {
	b.Helper()
	l := b.list(deadletters.Filter{Class: class})
	if len(l.Letters) != 1 {
		b.Fatalf("%d letters are %s", len(l.Letters), class)
	}
	return l.Letters[0]
}

func (b *bed) waiting(q deadletters.Dead) int {
	b.Helper()
	d, err := q.Depth(b.Context())
	b.must(err)
	if d.InFlight > 0 {
		b.Errorf("%d are left in flight", d.InFlight)
	}
	return d.Visible
}

func (b *bed) general() []ledger.LogEntry {
	b.Helper()
	log, err := b.ledger.Log(b.Context(), ledger.General)
	b.must(err)
	if v, err := b.ledger.Verify(b.Context(), nil); err != nil || len(v.Broken) > 0 {
		b.Errorf("audit: %+v, %v", v, err)
	}
	return log
}

func (b *bed) redrive(c deadletters.Choice) deadletters.Redriven {
	b.Helper()
	did, err := b.flow.Redrive(b.Context(), stewart, c)
	b.must(err)
	return did
}

var customer = ledger.Mint("customer", record.Ref{Platform: "netsuite", Object: "customer", ID: "107"})

func TestClasses(t *testing.T) {
	over(t, func(b *bed) {
		b.hear(b.said(1, "Vins"))
		b.hear(b.said(100, "Vins & fils"))
		for i, row := range []struct{ body, class, why string }{
			{`{"v":1,"` + secret, deadletters.Poison, "message.inbound"},
			{`{"v":9,"correlationId":"` + secret + `","native":{"platform":"netsuite","object":"customer","id":"107"}}`, deadletters.Poison, "version 9"},
			{b.said(50, secret), deadletters.Overtaken, "netsuite has said something newer since, of 2026-11-02T08:01:40Z"},
			{b.said(100, "Vins & fils"), deadletters.Overtaken, "all that it says is known"},
			{b.said(200, secret), deadletters.Failing, "it was tried"},
			{b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "customer", ID: "108"}, Version: record.Version{At: start}, Fields: map[string]any{"companyName": "x"}}), deadletters.Failing, "it was tried"},
			{b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "vendor", ID: "1"}, Version: record.Version{At: start}, Fields: map[string]any{"x": "y"}}), deadletters.Failing, "no mapping"},
			{b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "customer", ID: "107"}}), deadletters.Failing, "it only says that something changed"},
			{b.inbound(record.Native{Ref: record.Ref{Platform: record.Sorrel, Object: "customer", ID: strings.TrimPrefix(string(customer), "customer/")}, Version: record.Version{At: start}}), deadletters.Overtaken, "nothing changes by time"},
		} {
			b.send(b.inDead, fmt.Sprint("g", i), row.body)
			b.pass(time.Second)
			l := b.list(deadletters.Filter{Queue: "inbound"})
			if len(l.Letters) != i+1 || l.Queues[0].Waiting != i+1 || l.Queues[0].Shown != i+1 {
				t.Fatalf("%+v", l.Queues)
			}
			got := l.Letters[i]
			if got.Class != row.class || !strings.Contains(got.Why, row.why) || got.Payload != nil || got.Bytes != len(row.body) {
				t.Errorf("%d: %s: %s, want %s: %s", i, got.Class, got.Why, row.class, row.why)
			}
			text, err := json.Marshal(got)
			if err != nil || strings.Contains(string(text), secret) {
				t.Errorf("%s, %v", text, err)
			}
		}
		b.send(b.zenDead, "g", b.wake(customer))
		b.send(b.zenDead, "h", b.wake("customer/nobody"))
		b.send(b.zenDead, "i", `[]`)
		got := b.list(deadletters.Filter{Queue: "outbound-zendesk"}).Letters
		if len(got) != 3 || got[0].Class != deadletters.Failing || got[0].Record != customer || got[1].Class != deadletters.Overtaken || got[2].Class != deadletters.Poison {
			t.Errorf("wake-ups: %+v", got)
		}
		if n := b.waiting(b.inDead) + b.waiting(b.zenDead); n != 12 {
			t.Errorf("after the looks there are %d letters, want 12", n)
		}
		for _, by := range []deadletters.Filter{{Queue: "none"}, {Class: "none"}} {
			if _, err := b.flow.List(t.Context(), by); !fault.Is(err, fault.Malformed) {
				t.Errorf("%+v: %v", by, err)
			}
		}
	})
}

// A platform's copy is due because of an error: that is why its wake-up failed. So is the exception of a record, a native record, a message.
func TestWhy(t *testing.T) {
	over(t, func(b *bed) {
		b.hear(b.said(1, "Vins"))
		states, err := b.ledger.Load(t.Context(), customer)
		b.must(err)
		after := states[customer].Clone()
		due := after.Due[record.Zendesk]
		due.Reason = "zendesk says no"
		after.Due[record.Zendesk] = due
		b.must(b.ledger.Commit(t.Context(), ledger.Entry{Before: states[customer], After: after}))
		b.send(b.zendesk, "g", b.wake(customer))
		b.giveUp(b.zendesk, crash)
		if l := b.letter(deadletters.Failing); l.Why != "zendesk says no" || l.Case != nil {
			t.Errorf("%+v", l)
		}
		b.must(b.ledger.Park(t.Context(), ledger.Exception{Type: "refused-write", Record: customer, Platform: record.Zendesk, Detail: "field x"}))
		if l := b.letter(deadletters.Failing); l.Why != "refused-write: field x" || l.Case == nil {
			t.Errorf("%+v", l)
		}
		b.redrive(deadletters.Choice{All: true})
		b.must(b.ledger.Park(t.Context(), ledger.Exception{Type: "unmatched", Native: "netsuite/vendor/1", Platform: "netsuite", Detail: "no mapping for this object"}))
		b.send(b.inDead, "g", b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "vendor", ID: "1"}}))
		if l := b.letter(deadletters.Failing); l.Case == nil || l.Case.Type != "unmatched" || !strings.HasPrefix(l.Why, "unmatched: ") {
			t.Errorf("%+v", l)
		}
	})
}

// Poison opens an exception while it dies. Discarding it needs a person and a reason, resolves the exception and leaves one
// line in the audit log.
func TestDiscardPoison(t *testing.T) {
	over(t, func(b *bed) {
		b.send(b.in, "netsuite/customer/1", `{"v":1,"correlationId":"`+secret+`"`)
		b.send(b.in, "netsuite/customer/2", `{"v":7}`)
		b.giveUp(b.in, b.hub.Apply)
		all := b.list(deadletters.Filter{}).Letters
		open, err := b.ledger.Exceptions(t.Context(), false)
		if err != nil || len(open) != 2 || len(all) != 2 || all[0].Case == nil || all[0].Case.Type != "poison-message" || all[1].Case == nil || all[0].Case.ID == all[1].Case.ID {
			t.Fatalf("%+v %+v %v", open, all, err)
		}
		for _, row := range []struct {
			by     string
			reason string
			want   fault.Class
		}{
			{"", "x", fault.Forbidden}, {"mallory", "x", fault.Forbidden}, {"alice@northwind.example", "x", fault.Forbidden}, {stewart.Name, " ", fault.Malformed},
		} {
			if _, err := b.flow.Discard(t.Context(), policy.Person{Name: row.by, Roles: []string{"steward"}}, all[0].ID, row.reason); !fault.Is(err, row.want) {
				t.Errorf("%q because of %q: %v", row.by, row.reason, err)
			}
		}
		if _, err := b.flow.Discard(t.Context(), stewart, "nonsense", "x"); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
		if n := b.waiting(b.inDead); n != 2 || len(b.general()) != 0 {
			t.Errorf("%d letters, log %+v", n, b.general())
		}
		did, err := b.flow.Discard(t.Context(), stewart, all[0].ID, "cut off by a proxy")
		if err != nil || did.Letter.ID != all[0].ID {
			t.Fatal(did, err)
		}
		log := b.general()
		if len(log) != 1 || log[0].By != stewart.Name || log[0].Events[0].Action != "dead-letter-discarded" || !strings.Contains(log[0].Events[0].Detail, did.Letter.Digest+": cut off by a proxy") {
			t.Errorf("%+v", log)
		}
		x, err := b.ledger.Exception(t.Context(), all[0].Case.ID)
		if err != nil || x.Status != ledger.ExceptionResolved || x.By != stewart.Name {
			t.Errorf("%+v, %v", x, err)
		}
		if rest := b.list(deadletters.Filter{}).Letters; len(rest) != 1 || rest[0].ID != all[1].ID || b.waiting(b.inDead) != 1 {
			t.Errorf("%+v", rest)
		}
		// One without an exception leaves its line, too.
		b.send(b.inDead, "g", b.said(1, secret))
		if _, err := b.flow.Discard(t.Context(), stewart, b.letter(deadletters.Failing).ID, "a test"); err != nil || len(b.general()) != 2 {
			t.Errorf("%v, %+v", err, b.general())
		}
	})
}

// What is redriven arrives in order; poison stays, and only a program that can read it may redrive it and end its exception.
func TestRedrive(t *testing.T) {
	over(t, func(b *bed) {
		b.send(b.inDead, "g", `{"v":7}`)
		for i := range 25 { // more than one receive, one group
			b.send(b.inDead, "g", b.said(i, fmt.Sprint("Vins ", i)))
		}
		b.send(b.zenDead, "z", b.wake(customer))
		for _, row := range []struct {
			by   policy.Person
			c    deadletters.Choice
			want fault.Class
		}{
			{policy.Person{}, deadletters.Choice{All: true}, fault.Forbidden},
			{policy.Person{Name: "alice@northwind.example", Roles: []string{"steward"}}, deadletters.Choice{All: true}, fault.Forbidden},
			{stewart, deadletters.Choice{}, fault.Malformed},
			{stewart, deadletters.Choice{All: true, IDs: []string{"x"}}, fault.Malformed},
			{stewart, deadletters.Choice{All: true, Filter: deadletters.Filter{Class: "none"}}, fault.Malformed},
			{stewart, deadletters.Choice{All: true, Filter: deadletters.Filter{Class: deadletters.Poison}}, fault.Refused},
		} {
			if _, err := b.flow.Redrive(t.Context(), row.by, row.c); !fault.Is(err, row.want) {
				t.Errorf("%+v by %+v: %v", row.c, row.by, err)
			}
		}
		poison := b.letter(deadletters.Poison).ID
		if did := b.redrive(deadletters.Choice{IDs: []string{poison, "nonsense"}}); len(did.Redriven) != 0 || !slices.Equal(did.Poison, []string{poison}) || !slices.Equal(did.Missing, []string{"nonsense"}) || did.Left != 27 {
			t.Errorf("%+v", did)
		}
		if did := b.redrive(deadletters.Choice{All: true, Filter: deadletters.Filter{Queue: "inbound"}}); len(did.Redriven) != 25 || !slices.Equal(did.Poison, []string{poison}) || did.Left != 1 {
			t.Errorf("%+v", did)
		}
		var names []string
		for {
			got, err := b.in.Receive(t.Context(), queue.MaxBatch, 0)
			b.must(err)
			if len(got) == 0 {
				break
			}
			for _, m := range got {
				in, err := message.ParseInbound(m.Body)
				if err != nil || m.Group != "g" {
					t.Fatal(m.Group, err)
				}
				names = append(names, in.Native.Fields["companyName"].(string))
				b.must(b.in.Delete(t.Context(), m.Receipt))
			}
		}
		if len(names) != 25 || names[0] != "Vins 0" || names[24] != "Vins 24" || !slices.IsSortedFunc(names, func(a, b string) int { return len(a) - len(b) }) {
			t.Errorf("arrived: %q", names)
		}
		if n := b.waiting(b.zenDead); n != 1 {
			t.Errorf("%d wake-ups, want the one that nobody asked for", n)
		}
		lines := 0
		for _, e := range b.general() {
			lines += strings.Count(e.Events[0].Detail, "inbound-dlq.fifo-")
		}
		if lines != 25 {
			t.Errorf("the log names %d letters", lines)
		}
	})
}

// An older program parked what this one can read: redriven, its exception is over. What people ignored stays so.
func TestRedriveEndsTheExceptionOfTheMessage(t *testing.T) {
	over(t, func(b *bed) {
		b.send(b.inDead, "g", b.said(1, "Vins"))
		id := b.letter(deadletters.Failing).ID
		x := ledger.Exception{Type: "poison-message", Native: "message " + id, Detail: "message version 2"}
		x.Identify()
		b.must(b.ledger.Park(t.Context(), x))
		if l := b.letter(deadletters.Failing); l.Case == nil || l.Case.ID != x.ID || l.Why != "poison-message: message version 2" {
			t.Errorf("%+v", l)
		}
		if did := b.redrive(deadletters.Choice{IDs: []string{id}}); !slices.Equal(did.Redriven, []string{id}) {
			t.Errorf("%+v", did)
		}
		if x, err := b.ledger.Exception(t.Context(), x.ID); err != nil || x.Status != ledger.ExceptionResolved {
			t.Errorf("%+v, %v", x, err)
		}
	})
}

func TestShowMasks(t *testing.T) {
	over(t, func(b *bed) {
		b.send(b.inDead, "g", b.inbound(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "customer", ID: "107"}, Version: record.Version{At: start}, Actor: secret,
			Fields: map[string]any{"companyName": secret, "id": secret, "n": json.Number("7"), "ok": true, "none": nil, "lines": []any{map[string]any{"platform": secret}}}}))
		id := b.letter(deadletters.Failing).ID
		l, err := b.flow.Show(t.Context(), id, false)
		b.must(err)
		text, err := json.Marshal(l.Payload)
		want := `{"correlationId":"c-107","native":{"actor":"(text of 11)","fields":{"companyName":"(text of 11)","id":"(text of 11)","lines":[{"platform":"(text of 11)"}],"n":"(number)","none":null,"ok":"(true or false)"},"id":"107","object":"customer","platform":"netsuite","version":{"at":"2026-11-02T08:00:00Z"}},"receivedAt":"2026-11-02T08:00:00Z","source":"webhook","v":1}`
		if string(text) != want || err != nil || l.Body != "" {
			t.Errorf("%s\nwant %s", text, want)
		}
		if l, err = b.flow.Show(t.Context(), id, true); err != nil || !strings.Contains(l.Body, secret) {
			t.Errorf("%+v, %v", l, err)
		}
		if _, err := b.flow.Show(t.Context(), "nonsense", true); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	})
}

// brittle is a queue and its dead-letter queue that fail on demand.
type brittle struct {
	both
	send   func([]queue.Message) error
	delete error
}

func (q *brittle) Send(ctx context.Context, msgs ...queue.Message) error {
	if q.send == nil {
		return q.both.Send(ctx, msgs...)
	}
	return q.send(msgs)
}

func (q *brittle) Delete(ctx context.Context, receipts ...string) error {
	if q.delete != nil {
		return q.delete
	}
	return q.both.Delete(ctx, receipts...)
}

// Nothing is lost where a redrive stops: what was not sent stays, what was sent and not deleted is there twice at most.
func TestRedriveStopsHalfWay(t *testing.T) {
	over(t, func(b *bed) {
		source, dead := &brittle{both: b.in}, &brittle{both: b.inDead}
		flow := b.over(source, dead)
		for i := range 4 {
			b.send(b.inDead, "g", b.said(i, "Vins"))
		}
		down := fault.New(fault.Down, "queue", "away")
		redrive := func(wantErr bool, want ...int) {
			t.Helper()
			_, err := flow.Redrive(t.Context(), stewart, deadletters.Choice{All: true})
			in, err2 := b.in.Depth(t.Context())
			if got := []int{b.waiting(b.inDead), in.Visible}; (err != nil) != wantErr || err2 != nil || !slices.Equal(got, want) {
				t.Errorf("dead and alive are %v, want %v; %v %v", got, want, err, err2)
			}
		}
		source.send = func([]queue.Message) error { return down }
		redrive(true, 4, 0)
		source.send = func(msgs []queue.Message) error { // the first two are kept
			return errors.Join(b.in.Send(t.Context(), msgs[:2]...), &queue.PartialError{Failed: []int{2, 3}, Err: down})
		}
		redrive(true, 2, 2)
		source.send = nil
		dead.delete = down
		redrive(true, 2, 4)
		redrive(true, 2, 4) // within the dedup window a repeat is dropped
		b.pass(queue.DedupWindow + time.Second)
		redrive(true, 2, 6) // later it is there twice, which is harmless
		dead.delete = nil
		redrive(false, 0, 6)
	})
}

// A redrive has a bound, and says that there is more.
func TestRedriveIsBounded(t *testing.T) {
	t.Parallel()
	b := newBed(t, kinds()["received"])
	const n = 520
	for i := range n {
		b.send(b.inDead, fmt.Sprint("g", i), b.said(i, "Vins"))
	}
	if l := b.list(deadletters.Filter{}); len(l.Letters) != 200 || l.Queues[0].Waiting != n || b.waiting(b.inDead) != n {
		t.Errorf("%d letters of %+v", len(l.Letters), l.Queues)
	}
	did := b.redrive(deadletters.Choice{All: true})
	if len(did.Redriven) < 500 || did.Left == 0 || len(did.Redriven)+did.Left != n {
		t.Errorf("%d redriven, %d left", len(did.Redriven), did.Left)
	}
	if did = b.redrive(deadletters.Choice{All: true}); did.Left != 0 {
		t.Errorf("%d left", did.Left)
	}
}

// Whoever holds a letter in his hands hides it from others, for a while.
func TestLettersInSomebodysHands(t *testing.T) {
	over(t, func(b *bed) {
		b.send(b.inDead, "g", b.said(1, "Vins"))
		id := b.letter(deadletters.Failing).ID
		if _, err := b.inDead.Receive(t.Context(), 1, 0); err != nil {
			t.Fatal(err)
		}
		if l := b.list(deadletters.Filter{Queue: "inbound"}); l.Queues[0].InFlight != 1 {
			t.Errorf("%+v", l.Queues)
		}
		if did := b.redrive(deadletters.Choice{IDs: []string{id}}); !slices.Equal(did.Missing, []string{id}) || did.Left != 1 {
			t.Errorf("%+v", did)
		}
		b.pass(31 * time.Second)
		if did := b.redrive(deadletters.Choice{IDs: []string{id}}); !slices.Equal(did.Redriven, []string{id}) || did.Left != 0 {
			t.Errorf("%+v", did)
		}
	})
}
