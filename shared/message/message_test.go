package message

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

var at = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func inbound(id string) Inbound {
	return Inbound{CorrelationID: "t1", ReceivedAt: at, Source: Webhook, Native: record.Native{
		Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: id}, Version: record.Version{At: at, Seq: 3}, Born: at, Actor: "12",
		Fields: map[string]any{"total": json.Number("440.10"), "memo": nil, "item": map[string]any{"items": []any{json.Number("1")}}}}}
}

func TestInboundSurvives(t *testing.T) {
	t.Parallel()
	want := inbound("7")
	m, err := want.Message("event")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseInbound(m.Body)
	want.V = version
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

// Numbers beyond float64 come through as they were written.
func TestNumbersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	in := inbound("7")
	in.Native.Fields = map[string]any{"n": json.Number("12345678901234567890.10")}
	m, err := in.Message("event")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseInbound(m.Body); err != nil || got.Native.Fields["n"] != json.Number("12345678901234567890.10") {
		t.Errorf("got %v (%v)", got.Native.Fields, err)
	}
}

// Whatever a vendor calls its records, the queue takes the message, and records do not share a group by accident.
func TestHostileIDsMakeLegalMessages(t *testing.T) {
	t.Parallel()
	groups := map[string]string{}
	for _, id := range []string{"7", "a b", "é", "日本語", strings.Repeat("x", 300), strings.Repeat("x", 301), "\x00", "a\nb", "\U0001F600", `"`, "a/b", strings.Repeat("é", 100), "~", "\x7f"} {
		m, err := inbound(id).Message("netsuite/" + id + "/0")
		if err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		if err := queue.Validate([]queue.Message{m}); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if was, taken := groups[m.Group]; taken {
			t.Errorf("%q and %q share a group", id, was)
		}
		groups[m.Group] = id
		if got, err := ParseInbound(m.Body); err != nil || got.Native.ID != id {
			t.Errorf("%q comes back as %q (%v)", id, got.Native.ID, err)
		}
	}
	if m, err := (Inbound{Native: record.Native{Ref: record.Ref{Platform: "p", Object: "o", ID: "7"}}}).Message("e"); err != nil || m.Group != "p/o/7" {
		t.Errorf("a plain id is not readable in the group %q (%v)", m.Group, err)
	}
}

func TestDedupTellsEventsApart(t *testing.T) {
	t.Parallel()
	dedup := func(id, event string) string {
		m, err := inbound(id).Message(event)
		if err != nil {
			t.Fatal(err)
		}
		return m.Dedup
	}
	first := dedup("7", "e1")
	if again := dedup("7", "e1"); again != first {
		t.Error("the same event twice is not dropped")
	}
	if dedup("7", "e2") == first || dedup("8", "e1") == first {
		t.Error("different events are dropped as one")
	}
	wake := func(event string) string {
		m, err := Wake{Platform: "zendesk", Record: "order/7", CorrelationID: "t1"}.Message(event)
		if err != nil {
			t.Fatal(err)
		}
		if err := queue.Validate([]queue.Message{m}); err != nil || m.Group != "order/7" {
			t.Errorf("%+v: %v", m, err)
		}
		return m.Dedup
	}
	one := wake("t1/1")
	if again, two := wake("t1/1"), wake("t1/2"); again != one || two == one {
		t.Error("one correlation id must be able to wake a record once per commit")
	}
	groups := map[string]bool{}
	for _, w := range []Wake{{Record: "order/7", Class: budget.Replay}, {Record: "order/8", Class: budget.Replay}, {Record: "order/7", Class: budget.Reconcile}, {Record: "order/7"}} {
		m, err := w.Message("e")
		if err != nil {
			t.Fatal(err)
		}
		groups[m.Group] = true
	}
	if len(groups) != 2 || !groups["order/7"] {
		t.Errorf("replays are not in a lane of their own: %v", groups)
	}
}

func TestTooLargeToQueue(t *testing.T) {
	t.Parallel()
	in := inbound("7")
	in.Native.Fields = map[string]any{"memo": strings.Repeat("x", queue.MaxBody)}
	if _, err := in.Message("e"); !fault.Is(err, fault.TooLarge) {
		t.Errorf("got %v", err)
	}
	in.Native.Fields = map[string]any{"memo": func() {}}
	if _, err := in.Message("e"); !fault.Is(err, fault.Malformed) {
		t.Errorf("got %v", err)
	}
}

func TestParsersAreStrict(t *testing.T) {
	t.Parallel()
	const native = `{"platform":"p","object":"o","id":"7","version":{"at":"2026-11-02T08:00:00Z"}}`
	for _, bad := range []string{"", "null", "[]", `"x"`, `{`, `{"v":1}`, `{"v":2,"correlationId":"t","native":` + native + `}`,
		`{"v":1,"correlationId":"","native":` + native + `}`, `{"v":1,"correlationId":"t","extra":1,"native":` + native + `}`,
		`{"v":1,"correlationId":"t","native":{"platform":"p","object":"o","id":""}}`, `{"v":1,"correlationId":"t","native":` + native + `}{}`,
		`{"v":1,"correlationId":"t","native":{"platform":"p","object":"o","id":"7","nope":1}}`} {
		if in, err := ParseInbound([]byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("inbound %s was read as %+v (%v)", bad, in, err)
		}
	}
	if _, err := ParseInbound([]byte(`{"v":1,"correlationId":"t","native":` + native + `}`)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "null", `{`, `{"v":1}`, `{"v":1,"platform":"p","record":"order"}`, `{"v":1,"platform":"","record":"order/7"}`, `{"v":2,"platform":"p","record":"order/7"}`,
		`{"v":1,"platform":"p","record":"order/é"}`, `{"v":1,"platform":"p","record":"order/7","x":1}`, `{"v":1,"platform":"p","record":"order/7"} 1`} {
		if w, err := ParseWake([]byte(bad)); !fault.Is(err, fault.Malformed) {
			t.Errorf("wake %s was read as %+v (%v)", bad, w, err)
		}
	}
	if _, err := ParseWake([]byte(`{"v":1,"platform":"p","record":"order/7","correlationId":"t"}`)); err != nil {
		t.Error(err)
	}
}

// What is parsed can be sent again and reads the same.
func FuzzParseInbound(f *testing.F) {
	m, err := inbound("é 7").Message("e")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Body)
	f.Add([]byte(`{"v":1,"correlationId":"t","native":{"platform":"p","object":"o","id":"7","fields":{"a":[1e400,null]}}}`))
	f.Add([]byte(strings.Repeat(`{"native":`, 50)))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseInbound(b)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatalf("class %s", fault.ClassOf(err))
			}
			return
		}
		m, err := in.Message("e")
		if err != nil {
			if len(b) > queue.MaxBody/8 || strings.Contains(err.Error(), "year outside of range") {
				return
			}
			t.Fatal(err)
		}
		if err := queue.Validate([]queue.Message{m}); err != nil {
			t.Fatal(err)
		}
		again, err := ParseInbound(m.Body)
		if err != nil {
			t.Fatalf("%s: %v", m.Body, err)
		}
		if second, err := again.Message("e"); err != nil || string(second.Body) != string(m.Body) {
			t.Fatalf("not stable:\n%s\n%s (%v)", m.Body, second.Body, err)
		}
	})
}

func FuzzParseWake(f *testing.F) {
	f.Add([]byte(`{"v":1,"platform":"zendesk","record":"order/7","correlationId":"t1"}`))
	f.Add([]byte(`{"v":1,"platform":"\ud800","record":"order/7"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWake(b)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatalf("class %s", fault.ClassOf(err))
			}
			return
		}
		m, err := w.Message("e")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseWake(m.Body); err != nil || again != w {
			t.Fatalf("%+v comes back as %+v (%v)", w, again, err)
		}
	})
}
