package cloud_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"sorrel/shared/cloud"
	"sorrel/shared/fault"
)

func (w *wire) bus(c cloud.Calls) *cloud.Bus {
	return cloud.NewBus(eventbridge.NewFromConfig(w.config(nowhere)), "arn:aws:events:eu-west-1:123456789012:event-bus/sales", c)
}

func emitted(n int, detail string) []cloud.Emitted {
	out := make([]cloud.Emitted, n)
	for i := range out {
		out[i] = cloud.Emitted{Source: "/sorrel/test", Type: fmt.Sprint("t", i), Time: time.Unix(1, 0), Detail: []byte(detail)}
	}
	return out
}

// onBus lists the detail types of each request.
func onBus(w *wire) []string {
	out := make([]string, len(w.calls))
	for i := range w.calls {
		var b struct {
			Entries []struct{ DetailType, Detail, EventBusName string }
		}
		w.body(i, &b)
		for _, e := range b.Entries {
			if !strings.HasSuffix(e.EventBusName, "/sales") || !strings.HasPrefix(e.Detail, "{") {
				w.t.Errorf("%+v", e)
			}
			out[i] += e.DetailType + " "
		}
	}
	return out
}

// placed answers n entries, of which some failed with a code.
func placed(n int, codes map[int]string) step {
	list := make([]string, n)
	for i := range list {
		if list[i] = `{"EventId":"x"}`; codes[i] != "" {
			list[i] = fmt.Sprintf(`{"ErrorCode":%q,"ErrorMessage":"no"}`, codes[i])
		}
	}
	return answer(200, fmt.Sprintf(`{"FailedEntryCount":%d,"Entries":[%s]}`, len(codes), strings.Join(list, ",")))
}

func TestPutRepeatsOnlyWhatFailed(t *testing.T) {
	w := scripted(t, placed(10, map[int]string{1: "InternalFailure", 3: "ThrottlingException"}), refuse(400, "ThrottlingException"), placed(2, map[int]string{0: "InternalFailure"}), loseRequest, placed(1, nil), placed(2, nil))
	c := calls(new(waits))
	c.Attempts = 6
	if err := w.bus(c).Put(t.Context(), emitted(12, "{}")...); err != nil {
		t.Fatal(err)
	}
	want := []string{"t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 ", "t1 t3 ", "t1 t3 ", "t1 ", "t1 ", "t10 t11 "}
	if got := onBus(w); !slices.Equal(got, want) {
		t.Errorf("put %q, want %q", got, want)
	}
}

func TestPutSplitsBySize(t *testing.T) {
	w := scripted(t, placed(2, nil), placed(1, nil))
	if err := w.bus(calls(new(waits))).Put(t.Context(), emitted(3, `{"x":"`+strings.Repeat("x", 100<<10)+`"}`)...); err != nil {
		t.Fatal(err)
	}
	if got := onBus(w); !slices.Equal(got, []string{"t0 t1 ", "t2 "}) {
		t.Errorf("put %q", got)
	}
}

func TestPutFails(t *testing.T) {
	if err := scripted(t).bus(calls(new(waits))).Put(t.Context(), emitted(1, strings.Repeat("x", cloud.MaxEvent+1))...); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := scripted(t, placed(1, map[int]string{0: "NotAuthorizedForSource"})).bus(calls(new(waits))).Put(t.Context(), emitted(1, "{}")...); err == nil || !strings.Contains(err.Error(), "NotAuthorizedForSource") {
		t.Errorf("refused: %v", err)
	}
	if err := scripted(t, placed(2, nil)).bus(calls(new(waits))).Put(t.Context(), emitted(1, "{}")...); err == nil {
		t.Error("an odd answer passes")
	}
	c := calls(new(waits))
	c.Attempts = 2
	if err := scripted(t, loseRequest, loseRequest).bus(c).Put(t.Context(), emitted(1, "{}")...); !fault.Is(err, fault.Down) {
		t.Errorf("unreached: %v", err)
	}
}

// TestQueueOf: only the ARN of a queue leads to one, and only a FIFO queue is told groups and dedup ids.
func TestQueueOf(t *testing.T) {
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{All: "http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.QueueOf("arn:aws:sns:eu-west-1:123456789012:q", cloud.Calls{}); !fault.Is(err, fault.Contract) {
		t.Error(err)
	}
	w := scripted(t, answer(200, `{}`), answer(200, `{}`))
	for _, name := range []string{"q", "q.fifo"} {
		if err := w.queueAt("https://sqs.eu-west-1.amazonaws.com/123456789012/"+name, calls(new(waits))).Send(t.Context(), messages(1, "{}")...); err != nil {
			t.Fatal(err)
		}
	}
	for i, fifo := range []bool{false, true} {
		var b struct {
			QueueUrl string
			Entries  []struct{ MessageGroupId, MessageDeduplicationId string }
		}
		w.body(i, &b)
		if e := b.Entries[0]; (e.MessageGroupId == "g" && e.MessageDeduplicationId == "d0") != fifo || (e.MessageGroupId+e.MessageDeduplicationId == "") == fifo {
			t.Errorf("%+v", b)
		}
	}
}
