//go:build linux || darwin

package cloud_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/fault"
	"sorrel/shared/queue"
	"sorrel/shared/queue/queuetest"
)

// pair is a queue and its dead-letter queue on a running ElasticMQ.
type pair struct {
	*wire
	main, dead *cloud.Queue
	urls       cloud.QueueURLs
	client     *sqs.Client
}

func newPair(t *testing.T, endpoint string, s queue.Settings) *pair {
	t.Helper()
	w := &wire{t: t, next: awshttp.NewBuildableClient()}
	p := &pair{wire: w, client: sqs.NewFromConfig(w.config(endpoint))}
	s.Name = fmt.Sprintf("q%d.fifo", time.Now().UnixNano())
	urls, err := cloud.CreateQueues(t.Context(), p.client, s)
	if err != nil {
		t.Fatal(err)
	}
	p.urls = urls[0]
	p.main, p.dead = cloud.NewQueue(p.client, p.urls.Main, cloud.Calls{}), cloud.NewQueue(p.client, p.urls.DeadLetter, cloud.Calls{})
	return p
}

func TestElasticMQ(t *testing.T) {
	t.Parallel()
	endpoint := localservers.SQS(t)
	t.Run("conformance", func(t *testing.T) {
		t.Parallel()
		// Where ElasticMQ 1.7.1 is not like SQS; by the last part of the check's name.
		quirks := map[string]string{
			"dead_letters":    "ElasticMQ goes on counting receives in the dead-letter queue; the rest is in TestElasticMQ/dead_letters",
			"release_at_once": "ElasticMQ locks a group only by its first message, so releasing that one unlocks the group; the rest is in TestElasticMQ/round_trip",
		}
		queuetest.Run(t, queuetest.Harness{New: func(t *testing.T, s queue.Settings) queuetest.Fixture {
			if why, ok := quirks[path.Base(t.Name())]; ok {
				t.Skip(why)
			}
			p := newPair(t, endpoint, s)
			return queuetest.Fixture{Queue: p.main, DeadLetter: p.dead}
		}})
	})
	for name, test := range map[string]func(*testing.T, string){
		"round trip":   testRoundTrip,
		"lost answers": testLostAnswers,
		"dead letters": testDeadLetters,
		"large":        testLargeMessages,
		"create":       testCreateQueues,
		"account":      testQueueAccount,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, endpoint)
		})
	}
}

func mustSend(t *testing.T, q queue.Sender, msgs ...queue.Message) {
	t.Helper()
	if err := q.Send(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
}

func mustReceive(t *testing.T, q queue.Receiver, wait time.Duration) []queue.Received {
	t.Helper()
	got, err := q.Receive(t.Context(), queue.MaxBatch, wait)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func dedups(got []queue.Received) string {
	var out []string
	for _, m := range got {
		out = append(out, m.Dedup)
	}
	return strings.Join(out, " ")
}

func testRoundTrip(t *testing.T, endpoint string) {
	p := newPair(t, endpoint, queue.Settings{})
	before := time.Now().Add(-time.Second)
	sent := messages(3, `{"text":"Ærø \"quoted\" \u2028"}`)
	mustSend(t, p.main, sent...)
	mustSend(t, p.main, sent[0]) // a repeat
	if d, err := p.main.Depth(t.Context()); err != nil || d.Visible != 3 {
		t.Errorf("depth %+v, %v", d, err)
	}
	got := mustReceive(t, p.main, time.Second)
	if dedups(got) != "d0 d1 d2" {
		t.Fatalf("received %s", dedups(got))
	}
	m := got[0]
	if m.Group != "g" || string(m.Body) != string(sent[0].Body) || m.Receives != 1 || m.ID == "" || m.SentAt.Before(before) || m.SentAt.After(time.Now().Add(time.Second)) {
		t.Errorf("received %+v", m)
	}
	if again := mustReceive(t, p.main, 0); len(again) != 0 {
		t.Errorf("the group is locked, but %s came", dedups(again))
	}
	if d, err := p.main.Depth(t.Context()); err != nil || d.InFlight != 3 || d.Visible != 0 {
		t.Errorf("depth %+v, %v", d, err)
	}
	if err := p.main.Delete(t.Context(), m.Receipt, m.Receipt); err != nil {
		t.Error(err)
	}
	if err := p.main.Release(t.Context(), 0, got[1].Receipt, got[2].Receipt); err != nil {
		t.Error(err)
	}
	again := mustReceive(t, p.main, time.Second)
	if dedups(again) != "d1 d2" || again[0].ID != got[1].ID || again[0].Receives != 2 {
		t.Errorf("after release: %+v", again)
	}
	if err := p.main.Delete(t.Context(), "never-a-receipt"); err != nil {
		t.Errorf("unknown receipt: %v", err)
	}
}

func testLostAnswers(t *testing.T, endpoint string) {
	p := newPair(t, endpoint, queue.Settings{})
	p.play(loseReply)
	mustSend(t, p.main, messages(2, "{}")...)
	p.play(loseReply)
	got := mustReceive(t, p.main, 0)
	if dedups(got) != "d0 d1" {
		t.Errorf("received %q: the attempt id must bring the same messages again, once", dedups(got))
	}
	p.play(loseReply)
	if err := p.main.Delete(t.Context(), got[0].Receipt, got[1].Receipt); err != nil {
		t.Error(err)
	}
	if d, err := p.main.Depth(t.Context()); err != nil || d != (queue.Depth{}) {
		t.Errorf("depth %+v, %v", d, err)
	}
}

func testDeadLetters(t *testing.T, endpoint string) {
	p := newPair(t, endpoint, queue.Settings{MaxReceives: 2})
	mustSend(t, p.main, messages(1, `{"poison":true}`)...)
	for n := 1; n <= 2; n++ {
		got := mustReceive(t, p.main, time.Second)
		if len(got) != 1 || got[0].Receives != n {
			t.Fatalf("receive %d: %+v", n, got)
		}
		if err := p.main.Release(t.Context(), 0, got[0].Receipt); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustReceive(t, p.main, 0); len(got) != 0 {
		t.Errorf("a third delivery: %+v", got)
	}
	if got := mustReceive(t, p.dead, time.Second); len(got) != 1 || string(got[0].Body) != `{"poison":true}` || got[0].Group != "g" {
		t.Errorf("dead letters: %+v", got)
	}
}

func testLargeMessages(t *testing.T, endpoint string) {
	p := newPair(t, endpoint, queue.Settings{})
	mustSend(t, p.main, messages(3, strings.Repeat("x", queue.MaxBody))...)
	if got := mustReceive(t, p.main, time.Second); len(got) == 0 || len(got[0].Body) != queue.MaxBody {
		t.Errorf("received %d messages", len(got))
	}
}

func testCreateQueues(t *testing.T, endpoint string) {
	p := newPair(t, endpoint, queue.Settings{Visibility: 90 * time.Second, MaxReceives: 7})
	out, err := p.client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &p.urls.Main,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		t.Fatal(err)
	}
	a := out.Attributes
	if a["FifoQueue"] != "true" || a["VisibilityTimeout"] != "90" || !strings.Contains(a["RedrivePolicy"], "-dlq.fifo") || !strings.Contains(a["RedrivePolicy"], "7") {
		t.Errorf("attributes %v", a)
	}
	// ElasticMQ forgets what it does not implement, so look at the request.
	i := slices.IndexFunc(p.calls, func(c call) bool { return strings.Contains(c.Body, "RedrivePolicy") })
	for _, want := range []string{`"DeduplicationScope":"messageGroup"`, `"FifoThroughputLimit":"perMessageGroupId"`} {
		if !strings.Contains(p.calls[i].Body, want) {
			t.Errorf("the request lacks %s: %s", want, p.calls[i].Body)
		}
	}
	if _, err := cloud.CreateQueues(t.Context(), p.client, queue.Settings{Name: "plain"}); !fault.Is(err, fault.Contract) {
		t.Errorf("a queue that is not FIFO: %v", err)
	}
}

func testQueueAccount(t *testing.T, endpoint string) {
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{All: endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	var urls []cloud.QueueURLs
	for range 2 { // repeatable
		if urls, err = account.CreateQueues(t.Context(), queue.Settings{Name: "inbound.fifo"}, queue.Settings{Name: "outbound-zendesk.fifo"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(urls) != 2 || !strings.HasSuffix(urls[1].DeadLetter, "/outbound-zendesk-dlq.fifo") {
		t.Fatalf("urls %+v", urls)
	}
	q := account.Queue(urls[1].Main, cloud.Calls{})
	mustSend(t, q, messages(1, "{}")...)
	if got := mustReceive(t, q, time.Second); len(got) != 1 {
		t.Errorf("received %+v", got)
	}
	// A subscriber's queue is known by its ARN.
	theirs, err := account.QueueOf("arn:aws:sqs:"+localservers.Region+":000000000000:inbound.fifo", cloud.Calls{})
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, theirs, messages(1, "{}")...)
	if got := mustReceive(t, account.Queue(urls[0].Main, cloud.Calls{}), time.Second); len(got) != 1 {
		t.Errorf("received %+v by the ARN", got)
	}
}
