package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

func messages(n int, body string) []queue.Message {
	out := make([]queue.Message, n)
	for i := range out {
		out[i] = queue.Message{Group: "g", Dedup: fmt.Sprint("d", i), Body: []byte(body)}
	}
	return out
}

// failing answers a batch: these entries failed, the others succeeded. A code with "!" is the sender's fault.
func failing(codes map[int]string) step {
	var list []string
	for id, code := range codes {
		list = append(list, fmt.Sprintf(`{"Id":"%d","Code":%q,"SenderFault":%v,"Message":"for parameter ReceiptHandle"}`,
			id, strings.TrimSuffix(code, "!"), strings.HasSuffix(code, "!")))
	}
	return answer(200, `{"Successful":[],"Failed":[`+strings.Join(list, ",")+`]}`)
}

// sent lists the entry ids of each request.
func sent(w *wire) []string {
	out := make([]string, len(w.calls))
	for i := range w.calls {
		var b struct{ Entries []struct{ Id string } }
		w.body(i, &b)
		for _, e := range b.Entries {
			out[i] += e.Id + " "
		}
	}
	return out
}

func TestSendRepeatsOnlyWhatFailed(t *testing.T) {
	w := scripted(t, failing(map[int]string{2: "InternalError", 0: "ServiceUnavailable"}), refuse(400, "RequestThrottled"),
		failing(map[int]string{2: "InternalError"}), loseRequest, answer(200, `{}`), answer(200, `{}`))
	c := calls(new(waits))
	c.Attempts = 5
	if err := w.queue(c).Send(t.Context(), messages(12, "{}")...); err != nil {
		t.Fatal(err)
	}
	// 0 and 2 fail, then the whole request, then 2, whose next attempt is lost; the second ten follow.
	want := []string{"0 1 2 3 4 5 6 7 8 9 ", "0 2 ", "0 2 ", "2 ", "2 ", "10 11 "}
	if got := sent(w); !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}

func TestSendReportsWhatWasNotKept(t *testing.T) {
	for _, tc := range []struct {
		name   string
		n      int
		steps  []step
		failed []int // nil: none was kept
		class  fault.Class
	}{
		{"refused entry, later batches not sent", 25, []step{answer(200, `{}`), failing(map[int]string{13: "KmsAccessDenied!", 11: "InternalError"}), answer(200, `{}`)},
			[]int{13, 20, 21, 22, 23, 24}, fault.Internal},
		{"throttled to the end", 12, append([]step{answer(200, `{}`)}, repeat(4, refuse(400, "RequestThrottled"))...), []int{10, 11}, fault.Throttled},
		{"entries throttled to the end", 2, repeat(4, failing(map[int]string{1: "ThrottlingException"})), []int{1}, fault.Throttled},
		{"no queue", 2, []step{refuse(400, "QueueDoesNotExist")}, nil, fault.Internal},
		{"no service", 12, repeat(4, refuse(503, "ServiceUnavailable")), nil, fault.Down},
		{"answer for something else", 2, []step{failing(map[int]string{7: "InternalError"})}, nil, fault.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := scripted(t, tc.steps...)
			err := w.queue(calls(new(waits))).Send(t.Context(), messages(tc.n, "{}")...)
			var partial *queue.PartialError
			if errors.As(err, &partial) != (tc.failed != nil) || partial != nil && !slices.Equal(partial.Failed, tc.failed) {
				t.Errorf("got %v (%+v), want failed %v", err, partial, tc.failed)
			}
			if !fault.Is(err, tc.class) {
				t.Errorf("got %v, want class %s", err, tc.class)
			}
		})
	}
}

func TestSendBatchesByCountAndSize(t *testing.T) {
	for _, tc := range []struct {
		n    int
		body int
		want []string
	}{
		{10, 100, []string{"0 1 2 3 4 5 6 7 8 9 "}},
		{11, 100, []string{"0 1 2 3 4 5 6 7 8 9 ", "10 "}},
		{5, 256 << 10, []string{"0 1 2 3 ", "4 "}},
		{3, queue.MaxBody, []string{"0 ", "1 ", "2 "}},
	} {
		w := scripted(t, repeat(len(tc.want), answer(200, `{}`))...)
		if err := w.queue(calls(new(waits))).Send(t.Context(), messages(tc.n, strings.Repeat("x", tc.body))...); err != nil {
			t.Error(err)
		}
		if got := sent(w); !slices.Equal(got, tc.want) {
			t.Errorf("%d of %d bytes: %q, want %q", tc.n, tc.body, got, tc.want)
		}
	}
}

func TestSendRefusesWhatSQSWouldChange(t *testing.T) {
	q := scripted(t).queue(calls(new(waits)))
	for _, body := range []string{"\xff", "a\x00", "\x1b[0m", "\uFFFE", "ok\uFFFF"} {
		if err := q.Send(t.Context(), queue.Message{Group: "g", Dedup: "d", Body: []byte(body)}); !errors.As(err, new(*queue.InvalidError)) {
			t.Errorf("%q: got %v, want invalid", body, err)
		}
	}
	for _, body := range []string{"\t\r\n ~", "\u0085\u2028\uFFFD\U0010FFFF"} {
		w := scripted(t, answer(200, `{}`))
		if err := w.queue(calls(new(waits))).Send(t.Context(), queue.Message{Group: "g", Dedup: "d", Body: []byte(body)}); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestStaleReceiptsAreIgnored(t *testing.T) {
	w := scripted(t, failing(map[int]string{0: "ReceiptHandleIsInvalid!", 1: "InvalidParameterValue!"}), failing(map[int]string{0: "MessageNotInflight!"}))
	q := w.queue(calls(new(waits)))
	if err := q.Delete(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}
	if err := q.Release(t.Context(), 1500*time.Millisecond, "a"); err != nil {
		t.Error(err)
	}
	var body struct {
		Entries []struct{ VisibilityTimeout int }
	}
	if w.body(1, &body); body.Entries[0].VisibilityTimeout != 2 {
		t.Errorf("delay of 1.5 s became %d s, want 2", body.Entries[0].VisibilityTimeout)
	}
}

func TestDeleteTriesEveryTen(t *testing.T) {
	receipts := make([]string, 25)
	for i := range receipts {
		receipts[i] = strconv.Itoa(i)
	}
	w := scripted(t, failing(map[int]string{3: "AccessDenied!"}), failing(map[int]string{12: "InternalError"}), answer(200, `{}`), answer(200, `{}`))
	err := w.queue(calls(new(waits))).Delete(t.Context(), receipts...)
	if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("got %v", err)
	}
	if got := sent(w); len(got) != 4 || got[2] != "12 " || got[3] != "20 21 22 23 24 " {
		t.Errorf("requests %q", got)
	}
}

func TestReceiveDecodesAndRepeatsWithOneAttemptID(t *testing.T) {
	var patience time.Duration
	w := scripted(t, func(_ *wire, req *http.Request) (*http.Response, error) {
		deadline, _ := req.Context().Deadline()
		patience = time.Until(deadline)
		return nil, errBroken
	}, answer(200, `{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"{}","Attributes":{
		"ApproximateReceiveCount":"3","SentTimestamp":"1767225600123","MessageGroupId":"g","MessageDeduplicationId":"d"}}]}`),
		answer(200, `{"Messages":[{"MessageId":"m","Attributes":{}}]}`))
	q := w.queue(calls(new(waits)))
	got, err := q.Receive(t.Context(), 10, 15300*time.Millisecond)
	want := queue.Received{Message: queue.Message{Group: "g", Dedup: "d", Body: []byte("{}")}, ID: "m", Receipt: "r", Receives: 3,
		SentAt: time.UnixMilli(1767225600123).UTC()}
	if err != nil || len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	var a, b struct {
		ReceiveRequestAttemptId              string
		WaitTimeSeconds, MaxNumberOfMessages int
	}
	w.body(0, &a)
	w.body(1, &b)
	if a != b || a.ReceiveRequestAttemptId == "" || a.WaitTimeSeconds != 16 || a.MaxNumberOfMessages != 10 {
		t.Errorf("requests %+v and %+v", a, b)
	}
	if patience < 16*time.Second || patience > 30*time.Second {
		t.Errorf("a long poll of 16 s is given up after %v", patience)
	}
	if _, err := q.Receive(t.Context(), 1, 0); !fault.Is(err, fault.Internal) {
		t.Errorf("a message without FIFO attributes: %v", err)
	}
	if _, err := q.Receive(t.Context(), 11, 0); err == nil {
		t.Error("11 messages were asked for")
	}
}

// A poller that is told to stop must see its context's end, not an outage.
func TestReceiveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := scripted(t, func(_ *wire, req *http.Request) (*http.Response, error) {
		cancel()
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	_, err := w.queue(calls(new(waits))).Receive(ctx, 1, time.Minute)
	if !errors.Is(err, context.Canceled) || fault.Is(err, fault.Down) {
		t.Errorf("got %v", err)
	}
}

func TestDepthOfAnOddServer(t *testing.T) {
	w := scripted(t, answer(200, `{"Attributes":{"ApproximateNumberOfMessages":"7","ApproximateNumberOfMessagesNotVisible":"2"}}`),
		answer(200, `{"Attributes":{}}`))
	q := w.queue(cloud.Calls{})
	if d, err := q.Depth(t.Context()); err != nil || d != (queue.Depth{Visible: 7, InFlight: 2}) {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := q.Depth(t.Context()); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}
