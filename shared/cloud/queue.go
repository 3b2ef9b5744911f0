package cloud

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// QueueAPI is what Queue needs of a *sqs.Client.
type QueueAPI interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// Limits of SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
const (
	batchBytes    = 1 << 20 // of all bodies of one SendMessageBatch
	maxLongPoll   = 20 * time.Second
	maxVisibility = 12 * time.Hour
)

// Queue is queue.Sender and queue.Receiver on one SQS FIFO queue.
//
// Send keeps the order within a group with one exception that SQS leaves no way around: when SQS refuses one entry of
// a batch for the moment and takes a later one of the same group, the refused one is sent again after it. Send
// stops at the first batch that fails for good, so later messages never overtake a whole failed batch.
type Queue struct {
	api   QueueAPI
	url   string
	fifo  bool
	calls *caller
}

var (
	_ queue.Sender   = (*Queue)(nil)
	_ queue.Receiver = (*Queue)(nil)
)

// NewQueue returns the queue at url. One whose name does not end in .fifo can only be sent to, and keeps no order: those
// are subscribers' own.
func NewQueue(api QueueAPI, url string, c Calls) *Queue {
	return &Queue{api: api, url: url, fifo: strings.HasSuffix(url, fifoSuffix), calls: newCaller(c)}
}

func onceSQS(o *sqs.Options) { o.Retryer = aws.NopRetryer{} }

// Send implements queue.Sender. Sending again after a lost answer is safe: the dedup id drops the repeat.
func (q *Queue) Send(ctx context.Context, msgs ...queue.Message) error {
	if err := queue.Validate(msgs); err != nil {
		return err
	}
	for i, m := range msgs {
		if !sqsText(m.Body) {
			return &queue.InvalidError{Reason: fmt.Sprintf(
				"message %d: body has a byte or character that SQS would replace; send JSON or base64", i)}
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cloud.send(%s): %w", q.url, err)
	}
	for start := 0; start < len(msgs); {
		end := batchEnd(msgs, start)
		failed, err := q.sendBatch(ctx, msgs, start, end)
		if err == nil {
			start = end
			continue
		}
		for i := end; i < len(msgs); i++ {
			failed = append(failed, i)
		}
		if len(failed) == len(msgs) {
			return err
		}
		return &queue.PartialError{Failed: failed, Err: err}
	}
	return nil
}

// sqsText reports whether SQS carries body unchanged: #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | beyond.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func sqsText(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	return !strings.ContainsFunc(string(body), func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
	})
}

func batchEnd(msgs []queue.Message, start int) int {
	size, end := 0, start
	for end < len(msgs) && end-start < queue.MaxBatch {
		if size += len(msgs[end].Body); size > batchBytes && end > start {
			break
		}
		end++
	}
	return end
}

// sendBatch sends msgs[start:end] and returns the indices of those that were not kept.
func (q *Queue) sendBatch(ctx context.Context, msgs []queue.Message, start, end int) ([]int, error) {
	return q.batch(ctx, "cloud.send", start, end, func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.SendMessageBatchRequestEntry, len(pending))
		for n, i := range pending {
			entries[n] = types.SendMessageBatchRequestEntry{
				Id:          aws.String(strconv.Itoa(i)),
				MessageBody: aws.String(string(msgs[i].Body)),
			}
			if q.fifo {
				entries[n].MessageGroupId, entries[n].MessageDeduplicationId = &msgs[i].Group, &msgs[i].Dedup
			}
		}
		out, err := q.api.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries}, onceSQS)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// entriesError is a batch call that was answered, with entries that failed.
type entriesError struct {
	retry    bool // some failed for SQS's own reasons
	code     string
	message  string
	failures int
}

func (e *entriesError) Error() string {
	return fmt.Sprintf("%d entries failed, the first with %s: %s", e.failures, e.code, e.message)
}

func (e *entriesError) verdict() verdict {
	if e.retry {
		return busy
	}
	return final
}

// batch runs one batch request over the indices start to end-1 until every entry succeeded, failed through our own
// fault or attempts are used up; each attempt carries only what is still pending. It returns the indices that
// failed, in order, with an error if there are any.
func (q *Queue) batch(ctx context.Context, op string, start, end int,
	call func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error)) ([]int, error) {
	var pending, refused []int
	for i := start; i < end; i++ {
		pending = append(pending, i)
	}
	var first types.BatchResultErrorEntry // the first refusal through our own fault
	o := q.calls.do(ctx, 0, func(ctx context.Context) error {
		failed, err := call(ctx, pending)
		if err != nil {
			return err
		}
		var again []int
		var why types.BatchResultErrorEntry // the first failure for SQS's own reasons
		for _, f := range failed {
			i, err := strconv.Atoi(deref(f.Id))
			if err != nil || !slices.Contains(pending, i) {
				return &entriesError{code: "UnknownId", failures: len(failed),
					message: fmt.Sprintf("the answer names entry %q, which was not sent", deref(f.Id))}
			}
			if f.SenderFault {
				if refused = append(refused, i); len(refused) == 1 {
					first = f
				}
				continue
			}
			if again = append(again, i); len(again) == 1 {
				why = f
			}
		}
		slices.Sort(again)
		pending = again
		if len(pending) > 0 {
			return &entriesError{retry: true, code: deref(why.Code), message: deref(why.Message), failures: len(pending)}
		}
		if len(refused) > 0 {
			return &entriesError{code: deref(first.Code), message: deref(first.Message), failures: len(refused)}
		}
		return nil
	})
	if o.err == nil {
		return nil, nil
	}
	failed := append(refused, pending...)
	slices.Sort(failed)
	return slices.Compact(failed), o.readFault(op, q.url)
}

// Receive implements queue.Receiver. SQS waits in whole seconds: wait is rounded up, to at most 20 s. The attempt id
// makes a second attempt after a lost answer return the same messages instead of finding their groups locked.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration) ([]queue.Received, error) {
	if err := queue.ValidateMax(max); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cloud.receive(%s): %w", q.url, err)
	}
	id, err := q.calls.token()
	if err != nil {
		return nil, err
	}
	wait = min(wholeSecondsUp(wait), maxLongPoll)
	in := &sqs.ReceiveMessageInput{
		QueueUrl:                &q.url,
		MaxNumberOfMessages:     int32(max),
		WaitTimeSeconds:         int32(wait / time.Second),
		ReceiveRequestAttemptId: &id,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount,
			types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameMessageGroupId,
			types.MessageSystemAttributeNameMessageDeduplicationId,
		},
	}
	var out *sqs.ReceiveMessageOutput
	o := q.calls.do(ctx, wait, func(ctx context.Context) (err error) {
		out, err = q.api.ReceiveMessage(ctx, in, onceSQS)
		return err
	})
	if o.err != nil {
		return nil, o.readFault("cloud.receive", q.url)
	}
	got := make([]queue.Received, len(out.Messages))
	for i, m := range out.Messages {
		if got[i], err = received(m); err != nil {
			return nil, fault.Wrap(fault.Internal, "cloud.receive", q.url, err)
		}
	}
	return got, nil
}

func received(m types.Message) (queue.Received, error) {
	attr := func(n types.MessageSystemAttributeName) string { return m.Attributes[string(n)] }
	count, err := strconv.Atoi(attr(types.MessageSystemAttributeNameApproximateReceiveCount))
	if err != nil {
		return queue.Received{}, fmt.Errorf("message %s: receive count: %w", deref(m.MessageId), err)
	}
	sent, err := strconv.ParseInt(attr(types.MessageSystemAttributeNameSentTimestamp), 10, 64)
	if err != nil {
		return queue.Received{}, fmt.Errorf("message %s: sent timestamp: %w", deref(m.MessageId), err)
	}
	return queue.Received{
		Message: queue.Message{
			Group: attr(types.MessageSystemAttributeNameMessageGroupId),
			Dedup: attr(types.MessageSystemAttributeNameMessageDeduplicationId),
			Body:  []byte(deref(m.Body)),
		},
		ID:       deref(m.MessageId),
		Receipt:  deref(m.ReceiptHandle),
		Receives: count,
		SentAt:   time.UnixMilli(sent).UTC(),
	}, nil
}

// Delete implements queue.Receiver.
func (q *Queue) Delete(ctx context.Context, receipts ...string) error {
	return q.byReceipt(ctx, "cloud.delete", receipts, func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(pending))
		for n, i := range pending {
			entries[n] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i]}
		}
		out, err := q.api.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: entries}, onceSQS)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// Release implements queue.Receiver; delay is rounded up to whole seconds, at most twelve hours.
func (q *Queue) Release(ctx context.Context, delay time.Duration, receipts ...string) error {
	seconds := int32(min(wholeSecondsUp(delay), maxVisibility) / time.Second)
	return q.byReceipt(ctx, "cloud.release", receipts, func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(pending))
		for n, i := range pending {
			entries[n] = types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i], VisibilityTimeout: seconds}
		}
		out, err := q.api.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries}, onceSQS)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// byReceipt runs call over the receipts in tens. All tens are tried; the first failure is returned.
func (q *Queue) byReceipt(ctx context.Context, op string, receipts []string,
	call func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error)) error {
	var first error
	for start := 0; start < len(receipts); start += queue.MaxBatch {
		end := min(start+queue.MaxBatch, len(receipts))
		_, err := q.batch(ctx, op, start, end, func(ctx context.Context, pending []int) ([]types.BatchResultErrorEntry, error) {
			failed, err := call(ctx, pending)
			return slices.DeleteFunc(failed, stale), err
		})
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// stale reports a receipt that has expired or was never one: the contract ignores these.
func stale(e types.BatchResultErrorEntry) bool {
	switch deref(e.Code) {
	case "ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight":
		return true
	case "InvalidParameterValue": // "Value … for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
		return strings.Contains(deref(e.Message), "ReceiptHandle")
	}
	return false
}

// Depth returns how full the queue is, as approximately as SQS knows it; Oldest stays zero (CloudWatch knows it).
func (q *Queue) Depth(ctx context.Context) (queue.Depth, error) {
	names := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	}
	var out *sqs.GetQueueAttributesOutput
	o := q.calls.do(ctx, 0, func(ctx context.Context) (err error) {
		out, err = q.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: names}, onceSQS)
		return err
	})
	if o.err != nil {
		return queue.Depth{}, o.readFault("cloud.depth", q.url)
	}
	var n [2]int
	for i, name := range names {
		var err error
		if n[i], err = strconv.Atoi(out.Attributes[string(name)]); err != nil {
			return queue.Depth{}, fault.Wrap(fault.Internal, "cloud.depth", q.url, fmt.Errorf("%s: %w", name, err))
		}
	}
	return queue.Depth{Visible: n[0], InFlight: n[1]}, nil
}

func wholeSecondsUp(d time.Duration) time.Duration {
	return max(0, (d + time.Second - 1).Truncate(time.Second))
}
