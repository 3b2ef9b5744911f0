package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// QueueAdminAPI is what CreateQueues needs of a *sqs.Client.
type QueueAdminAPI interface {
	CreateQueue(context.Context, *sqs.CreateQueueInput, ...func(*sqs.Options)) (*sqs.CreateQueueOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// QueueURLs are the addresses of one queue and of its dead-letter queue.
type QueueURLs struct{ Main, DeadLetter string }

const (
	fifoSuffix     = ".fifo"
	deadLetterDays = 14
)

// DeadLetterName of the queue called name: "inbound.fifo" has "inbound-dlq.fifo".
func DeadLetterName(name string) string {
	return strings.TrimSuffix(name, fifoSuffix) + "-dlq" + fifoSuffix
}

// QueueURL finds the queue called name in the account and region.
func (a *Account) QueueURL(ctx context.Context, name string) (string, error) {
	out, err := a.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	if none := (*types.QueueDoesNotExist)(nil); errors.As(err, &none) {
		return "", &fault.Error{Class: fault.NotFound, Op: "cloud.queueurl", ID: name, Detail: "no such queue in this account and region",
			Remedy: "check the name of the stack, the profile and the region"}
	}
	if err != nil {
		return "", fault.Wrap(fault.Down, "cloud.queueurl", name, err)
	}
	return deref(out.QueueUrl), nil
}

// CreateQueues makes each queue, in high-throughput FIFO mode, with its dead-letter queue, in the order of settings.
// Making an existing queue again with the same settings is no error. It is for tests and local endpoints: on AWS the
// template makes the queues, with encryption.
func CreateQueues(ctx context.Context, api QueueAdminAPI, settings ...queue.Settings) ([]QueueURLs, error) {
	out := make([]QueueURLs, len(settings))
	for i, s := range settings {
		if !strings.HasSuffix(s.Name, fifoSuffix) {
			return nil, &fault.Error{Class: fault.Contract, Op: "cloud.createqueues", ID: s.Name, Fields: []string{"Name"},
				Detail: "is not the name of a FIFO queue", Remedy: "end it in " + fifoSuffix}
		}
		var err error
		if out[i], err = createQueue(ctx, api, s.WithDefaults()); err != nil {
			return nil, fault.Wrap(fault.Internal, "cloud.createqueues", s.Name, err)
		}
	}
	return out, nil
}

func createQueue(ctx context.Context, api QueueAdminAPI, s queue.Settings) (QueueURLs, error) {
	create := func(name string, attributes map[string]string) (string, error) {
		attributes[string(types.QueueAttributeNameFifoQueue)] = "true"
		attributes[string(types.QueueAttributeNameDeduplicationScope)] = "messageGroup"
		attributes[string(types.QueueAttributeNameFifoThroughputLimit)] = "perMessageGroupId"
		attributes[string(types.QueueAttributeNameVisibilityTimeout)] = strconv.Itoa(int(wholeSecondsUp(s.Visibility) / time.Second))
		out, err := api.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			return "", err
		}
		return deref(out.QueueUrl), nil
	}
	dead, err := create(DeadLetterName(s.Name), map[string]string{
		string(types.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(deadLetterDays * 24 * 3600),
	})
	if err != nil {
		return QueueURLs{}, fmt.Errorf("dead-letter queue: %w", err)
	}
	arn := types.QueueAttributeNameQueueArn
	got, err := api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &dead, AttributeNames: []types.QueueAttributeName{arn}})
	if err != nil {
		return QueueURLs{}, fmt.Errorf("dead-letter queue: %w", err)
	}
	policy, err := json.Marshal(struct {
		Target      string `json:"deadLetterTargetArn"`
		MaxReceives int    `json:"maxReceiveCount"`
	}{got.Attributes[string(arn)], s.MaxReceives})
	if err != nil {
		return QueueURLs{}, err
	}
	main, err := create(s.Name, map[string]string{string(types.QueueAttributeNameRedrivePolicy): string(policy)})
	return QueueURLs{Main: main, DeadLetter: dead}, err
}
