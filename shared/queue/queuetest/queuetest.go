// Package queuetest is the suite that every adapter of package queue passes: memory, durable and SQS.
//
// It checks what the contract promises and no more: which of several free groups comes first, and how a receive is
// spread over groups, is up to the adapter.
package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/queue"
)

// Queue is what an adapter offers.
type Queue interface {
	queue.Sender
	queue.Receiver
}

// Depther is an adapter that knows how full it is; its Depth is checked too.
type Depther interface {
	Depth(ctx context.Context) (queue.Depth, error)
}

// Fixture is one fresh queue with its dead-letter queue.
type Fixture struct {
	Queue      Queue
	DeadLetter Queue
	// Advance moves the clock of both and wakes their waiting receivers. Nil means that they follow real time:
	// the suite then uses visibility timeouts of seconds and waits.
	Advance func(time.Duration)
}

// Harness makes fixtures. New is called in parallel.
type Harness struct {
	New     func(t *testing.T, s queue.Settings) Fixture
	MaxBody int // bytes of the largest body tried; 0 = queue.MaxBody
}

// Run checks the adapter.
func Run(t *testing.T, h Harness) {
	if h.MaxBody == 0 {
		h.MaxBody = queue.MaxBody
	}
	for name, check := range map[string]func(*testing.T, Harness){
		"order in a group":                     orderInGroup,
		"group is locked while in flight":      lockedGroup,
		"redelivery keeps order and counts":    redelivery,
		"dead letters":                         deadLetters,
		"dead letters do not block the group":  deadLetterPrefix,
		"dedup":                                dedup,
		"dedup window ends":                    dedupEnds,
		"release at once":                      releaseNow,
		"release with delay":                   releaseLater,
		"expired receipt":                      expiredReceipt,
		"unknown receipts":                     unknownReceipts,
		"many messages in one send":            manyInOneSend,
		"large bodies":                         largeBodies,
		"invalid messages":                     invalid,
		"max is bounded":                       boundedMax,
		"exactly once, one reader for a group": concurrent,
		"cancellation":                         cancellation,
		"long poll: arrival":                   longPollArrival,
		"long poll: visibility":                longPollVisibility,
		"long poll: nothing":                   longPollNothing,
		"depth":                                depth,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, h)
		})
	}
}

// bench is a fixture with the verbs of the checks; each fails the test on an error.
type bench struct {
	Fixture
	t          *testing.T
	visibility time.Duration
}

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

func (h Harness) open(t *testing.T, maxReceives int, visibility time.Duration) *bench {
	t.Helper()
	f := h.New(t, queue.Settings{Name: "check.fifo", Visibility: visibility, MaxReceives: maxReceives})
	return &bench{Fixture: f, t: t, visibility: visibility}
}

// brief is a visibility timeout that a check lets pass; long is one that it must not reach.
const (
	brief = 2 * time.Second
	long  = 5 * time.Minute
)

func (b *bench) send(msgs ...queue.Message) {
	b.t.Helper()
	if err := b.Queue.Send(b.t.Context(), msgs...); err != nil {
		b.t.Fatalf("send: %v", err)
	}
}

// receive takes what is there now.
func (b *bench) receive(max int) []queue.Received {
	b.t.Helper()
	got, err := b.Queue.Receive(b.t.Context(), max, 0)
	if err != nil {
		b.t.Fatalf("receive: %v", err)
	}
	return got
}

// await takes the first messages that come within patience.
func (b *bench) await(q queue.Receiver, max int) []queue.Received {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		got, err := q.Receive(b.t.Context(), max, time.Second)
		if err != nil {
			b.t.Fatalf("receive: %v", err)
		}
		if len(got) > 0 {
			return got
		}
	}
	b.t.Fatalf("nothing came within %v", patience)
	return nil
}

// drain receives and deletes until n bodies have come.
func (b *bench) drain(q Queue, n int) []string {
	b.t.Helper()
	var all []string
	for len(all) < n {
		got := b.await(q, queue.MaxBatch)
		all = append(all, bodies(got)...)
		if err := q.Delete(b.t.Context(), receipts(got)...); err != nil {
			b.t.Fatalf("delete: %v", err)
		}
	}
	return all
}

func (b *bench) delete(got ...queue.Received) {
	b.t.Helper()
	if err := b.Queue.Delete(b.t.Context(), receipts(got)...); err != nil {
		b.t.Fatalf("delete: %v", err)
	}
}

func (b *bench) release(delay time.Duration, got ...queue.Received) {
	b.t.Helper()
	if err := b.Queue.Release(b.t.Context(), delay, receipts(got)...); err != nil {
		b.t.Fatalf("release: %v", err)
	}
}

// pass lets d go by.
func (b *bench) pass(d time.Duration) {
	if b.Advance != nil {
		b.Advance(d)
		return
	}
	<-time.After(d)
}

func (b *bench) empty() {
	b.t.Helper()
	if got := b.receive(queue.MaxBatch); len(got) > 0 {
		b.t.Fatalf("received %q, want nothing", bodies(got))
	}
}

func (b *bench) want(got []queue.Received, want ...string) []queue.Received {
	b.t.Helper()
	if !equal(bodies(got), want) {
		b.t.Fatalf("received %q, want %q", bodies(got), want)
	}
	return got
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

func message(group, body string) queue.Message {
	return queue.Message{Group: group, Dedup: group + "/" + body, Body: []byte(body)}
}

func bodies(got []queue.Received) []string {
	out := []string{}
	for _, r := range got {
		out = append(out, string(r.Body))
	}
	return out
}

func receipts(got []queue.Received) []string {
	var out []string
	for _, r := range got {
		out = append(out, r.Receipt)
	}
	return out
}

func orderInGroup(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	b.send(message("a", "1"), message("a", "2"))
	b.send(message("a", "3"))
	b.send(message("a", "4"), message("a", "5"))
	got := b.want(b.await(b.Queue, 10), "1", "2", "3", "4", "5") // several of one group in one receive
	ids := map[string]bool{}
	for _, r := range got {
		if r.Group != "a" || r.Receives != 1 || r.ID == "" || r.Receipt == "" || r.SentAt.IsZero() {
			t.Fatalf("delivery is not whole: %+v", r)
		}
		ids[r.ID] = true
	}
	if len(ids) != 5 {
		t.Fatalf("message ids repeat: %v", ids)
	}
	b.delete(got...)
	b.empty()
}

func lockedGroup(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	b.send(message("a", "a1"), message("a", "a2"), message("a", "a3"))
	first := b.want(b.await(b.Queue, 2), "a1", "a2")
	b.empty()
	b.send(message("b", "b1"), message("a", "a4"))
	other := b.want(b.await(b.Queue, 10), "b1")
	b.delete(first[0])
	b.empty() // a2 still locks the group
	b.delete(first[1])
	b.delete(b.want(b.await(b.Queue, 10), "a3", "a4")...)
	b.delete(other...)
	b.empty()
}

func redelivery(t *testing.T, h Harness) {
	b := h.open(t, 5, brief)
	b.send(message("a", "1"), message("a", "2"), message("a", "3"))
	first := b.want(b.await(b.Queue, 2), "1", "2")
	b.pass(b.visibility)
	again := b.want(b.await(b.Queue, 10), "1", "2", "3")
	for i, want := range []int{2, 2, 1} {
		if again[i].Receives != want {
			t.Fatalf("message %s has been received %d times, want %d", again[i].Body, again[i].Receives, want)
		}
	}
	if first[0].ID != again[0].ID {
		t.Fatalf("id changed from %s to %s", first[0].ID, again[0].ID)
	}
	b.delete(again...)
}

func deadLetters(t *testing.T, h Harness) {
	b := h.open(t, 2, long)
	b.send(message("a", "poison"))
	for range 2 {
		b.release(0, b.want(b.await(b.Queue, 10), "poison")...)
	}
	b.empty() // this attempt moves it
	got := b.want(b.await(b.DeadLetter, 10), "poison")
	if got[0].Group != "a" || got[0].Receives != 1 {
		t.Fatalf("dead letter has group %q and receives %d, want a and 1", got[0].Group, got[0].Receives)
	}
	b.empty()
}

func deadLetterPrefix(t *testing.T, h Harness) {
	b := h.open(t, 2, long)
	b.send(message("a", "p1"), message("a", "p2"))
	for range 2 {
		b.release(0, b.want(b.await(b.Queue, 10), "p1", "p2")...)
	}
	b.send(message("a", "fine"))
	b.want(b.await(b.Queue, 10), "fine")
	if got := b.drain(b.DeadLetter, 2); !equal(got, []string{"p1", "p2"}) {
		t.Fatalf("dead letters are %q, want p1 p2", got)
	}
}

func dedup(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	m := message("a", "1")
	b.send(m, m)
	b.send(m, message("a", "2"))
	b.delete(b.want(b.await(b.Queue, 10), "1", "2")...)
	b.send(m) // also after it is deleted
	b.send(queue.Message{Group: "other", Dedup: m.Dedup, Body: []byte("group and body do not matter")})
	b.empty()
}

func dedupEnds(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	if b.Advance == nil {
		t.Skip("five minutes of real time")
	}
	m := message("a", "1")
	b.send(m)
	b.delete(b.await(b.Queue, 1)...)
	b.pass(queue.DedupWindow - time.Second)
	b.send(m) // does not prolong the window
	b.empty()
	b.pass(time.Second)
	b.send(m)
	b.want(b.await(b.Queue, 1), "1")
}

func releaseNow(t *testing.T, h Harness) {
	b := h.open(t, 9, long)
	b.send(message("a", "1"), message("a", "2"), message("a", "3"))
	got := b.want(b.await(b.Queue, 2), "1", "2")
	b.release(0, got[0])
	b.empty() // 2 still locks the group
	b.release(0, got[1])
	got = b.want(b.await(b.Queue, 10), "1", "2", "3")
	if got[0].Receives != 2 || got[2].Receives != 1 {
		t.Fatalf("receives are %d and %d, want 2 and 1", got[0].Receives, got[2].Receives)
	}
	b.delete(got...)
	b.empty()
}

func releaseLater(t *testing.T, h Harness) {
	b := h.open(t, 9, long)
	b.send(message("a", "1"), message("a", "2"))
	got := b.want(b.await(b.Queue, 1), "1")
	b.release(brief, got...)
	b.empty() // also 2 waits
	b.pass(brief)
	b.want(b.await(b.Queue, 10), "1", "2")
}

func expiredReceipt(t *testing.T, h Harness) {
	b := h.open(t, 9, brief)
	b.send(message("a", "1"), message("a", "2"))
	first := b.want(b.await(b.Queue, 1), "1")
	b.pass(b.visibility)
	second := b.want(b.await(b.Queue, 1), "1")
	b.delete(first...) // must not take the second delivery away
	b.release(0, first...)
	b.release(long, second...)
	b.empty()
	b.release(0, second...)
	third := b.want(b.await(b.Queue, 10), "1", "2")
	b.delete(third...)
	b.delete(third...) // gone: ignored
	b.release(0, third...)
	b.empty()
}

func unknownReceipts(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	b.send(message("a", "1"), message("b", "2"))
	got := b.await(b.Queue, 10)
	for len(got) < 2 {
		got = append(got, b.await(b.Queue, 10)...)
	}
	b.delete(got[0])
	b.delete(got...) // one of them is unknown by now: the other is still deleted
	b.empty()
	if b.Advance != nil {
		b.pass(long)
		b.empty()
	}
}

func manyInOneSend(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	var msgs []queue.Message
	var want []string
	for i := range 47 {
		want = append(want, fmt.Sprint(i))
		msgs = append(msgs, message("a", fmt.Sprint(i)))
	}
	b.send(msgs...)
	if got := b.drain(b.Queue, len(want)); !equal(got, want) {
		t.Fatalf("received %q, want %q", got, want)
	}
	b.send() // nothing is fine
	b.empty()
}

func largeBodies(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	text := "Größe, 大きさ, \\ \"quoted\" <&> \t"
	full := strings.Repeat("x", h.MaxBody-1) + "!"
	for i, body := range []string{text, full, full[:h.MaxBody/2]} {
		b.send(queue.Message{Group: strings.Repeat("g", queue.MaxID), Dedup: strings.Repeat(fmt.Sprint(i), queue.MaxID), Body: []byte(body)})
		got := b.await(b.Queue, 10)
		if len(got) != 1 || !bytes.Equal(got[0].Body, []byte(body)) {
			t.Fatalf("a body of %d bytes came back changed", len(body))
		}
		if len(got[0].Group) != queue.MaxID {
			t.Fatalf("group of %d bytes came back with %d", queue.MaxID, len(got[0].Group))
		}
		b.delete(got...)
	}
}

func invalid(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	good := message("a", "good")
	for name, bad := range map[string]queue.Message{
		"control character in the group": {Group: "a\nb", Dedup: "1", Body: []byte("x")},
		"space in the dedup id":          {Group: "a", Dedup: "1 2", Body: []byte("x")},
		"empty group":                    {Dedup: "1", Body: []byte("x")},
		"empty dedup id":                 {Group: "a", Body: []byte("x")},
		"long dedup id":                  {Group: "a", Dedup: strings.Repeat("d", queue.MaxID+1), Body: []byte("x")},
		"empty body":                     {Group: "a", Dedup: "1"},
		"body over the limit":            {Group: "a", Dedup: "1", Body: make([]byte, queue.MaxBody+1)},
	} {
		var refused *queue.InvalidError
		if err := b.Queue.Send(t.Context(), good, bad); !errors.As(err, &refused) {
			t.Errorf("%s: error is %v, want a *queue.InvalidError", name, err)
		}
	}
	b.empty() // also good was not kept
	b.send(good)
	b.want(b.await(b.Queue, 1), "good")
}

func boundedMax(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	for _, max := range []int{-1, 0, queue.MaxBatch + 1} {
		if _, err := b.Queue.Receive(t.Context(), max, 0); err == nil {
			t.Errorf("max %d is accepted", max)
		}
	}
}

// concurrent runs senders, one for each group, and readers that sometimes give back what they have received.
func concurrent(t *testing.T, h Harness) {
	const groups, each, readers = 6, 25, 5
	b := h.open(t, 1000, long)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var wg sync.WaitGroup
	for g := range groups {
		wg.Go(func() {
			for i := range each {
				if err := b.Queue.Send(ctx, message(fmt.Sprintf("g%d", g), fmt.Sprintf("%03d", i))); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	holder := map[string]int{} // group to the reader that has it in flight
	done := map[string][]string{}
	left := groups * each
	for reader := 1; reader <= readers; reader++ {
		wg.Go(func() {
			for turn := 0; ; turn++ {
				mu.Lock()
				finished := left == 0
				mu.Unlock()
				if finished || t.Failed() {
					return
				}
				got, err := b.Queue.Receive(ctx, 1+(turn+reader)%queue.MaxBatch, 200*time.Millisecond)
				if err != nil {
					t.Errorf("receive: %v", err)
					return
				}
				mu.Lock()
				for _, r := range got {
					if other := holder[r.Group]; other != 0 && other != reader {
						t.Errorf("group %s is in flight with readers %d and %d", r.Group, other, reader)
					}
					holder[r.Group] = reader
				}
				giveBack := turn%4 == 3
				for _, r := range got {
					if !giveBack {
						done[r.Group] = append(done[r.Group], string(r.Body))
						left--
					}
				}
				for _, r := range got {
					delete(holder, r.Group) // from here on another reader may get it
				}
				mu.Unlock()
				if len(got) == 0 {
					continue
				}
				if giveBack {
					err = b.Queue.Release(ctx, 0, receipts(got)...)
				} else {
					err = b.Queue.Delete(ctx, receipts(got)...)
				}
				if err != nil {
					t.Errorf("settle: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	for g := range groups {
		got := done[fmt.Sprintf("g%d", g)]
		for i, body := range got {
			if body != fmt.Sprintf("%03d", i) {
				t.Fatalf("group %d was handled as %q", g, got)
			}
		}
		if len(got) != each {
			t.Fatalf("group %d: %d of %d messages were handled", g, len(got), each)
		}
	}
	b.empty()
}

func cancellation(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := b.Queue.Receive(ctx, 1, patience)
		result <- err
	}()
	time.AfterFunc(50*time.Millisecond, cancel)
	select {
	case err := <-result:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a cancelled receive returns %v", err)
		}
	case <-time.After(patience / 2):
		t.Fatal("a cancelled receive goes on waiting")
	}
	if err := b.Queue.Send(ctx, message("a", "1")); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled send returns %v", err)
	}
	b.empty()
}

// waiter starts a long poll and returns what it will have received.
func (b *bench) waiter(wait time.Duration) <-chan []queue.Received {
	result := make(chan []queue.Received, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		got, err := b.Queue.Receive(b.t.Context(), 10, wait)
		if err != nil {
			b.t.Errorf("receive: %v", err)
		}
		result <- got
	}()
	<-started
	return result
}

func (b *bench) soon(result <-chan []queue.Received) []queue.Received {
	b.t.Helper()
	select {
	case got := <-result:
		return got
	case <-time.After(patience / 2):
		b.t.Fatal("a long poll has not woken up")
		return nil
	}
}

func longPollArrival(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	result := b.waiter(patience)
	time.AfterFunc(50*time.Millisecond, func() {
		if err := b.Queue.Send(context.WithoutCancel(t.Context()), message("a", "1")); err != nil {
			t.Errorf("send: %v", err)
		}
	})
	b.want(b.soon(result), "1")
}

func longPollVisibility(t *testing.T, h Harness) {
	b := h.open(t, 9, brief)
	b.send(message("a", "1"), message("a", "2"))
	b.want(b.await(b.Queue, 1), "1")
	result := b.waiter(patience)
	b.pass(b.visibility)
	got := b.want(b.soon(result), "1", "2")

	result = b.waiter(patience)
	b.delete(got[0])
	b.release(0, got[1])
	b.want(b.soon(result), "2")
}

func longPollNothing(t *testing.T, h Harness) {
	b := h.open(t, 5, long)
	begin := time.Now()
	got, err := b.Queue.Receive(t.Context(), 1, time.Second)
	if err != nil || len(got) > 0 {
		t.Fatalf("received %v, %v; want nothing", got, err)
	}
	if took := time.Since(begin); took < 900*time.Millisecond {
		t.Fatalf("the long poll of a second ended after %v", took)
	}
}

func depth(t *testing.T, h Harness) {
	b := h.open(t, 5, brief)
	d, ok := b.Queue.(Depther)
	if !ok {
		t.Skip("the adapter has no Depth")
	}
	check := func(visible, inFlight int) {
		t.Helper()
		got, err := d.Depth(t.Context())
		if err != nil {
			t.Fatalf("depth: %v", err)
		}
		if got.Visible != visible || got.InFlight != inFlight {
			t.Fatalf("depth is %+v, want %d visible and %d in flight", got, visible, inFlight)
		}
	}
	check(0, 0)
	b.send(message("a", "1"), message("a", "2"), message("a", "3"))
	check(3, 0)
	got := b.await(b.Queue, 2)
	check(1, 2)
	b.delete(got[0])
	check(1, 1)
	b.pass(b.visibility)
	check(2, 0)
}
