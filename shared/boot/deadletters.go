package boot

import (
	"context"
	"maps"
	"strings"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

// DeadLetters makes what people do about dead letters; nil where no queue can be reached.
func (w *World) DeadLetters() *deadletters.Flow {
	d := deadletters.Deps{Queues: map[string]deadletters.Pair{}, Ledger: w.Ledger, Config: w.Config, Now: w.Now, Telemetry: w.Telemetry}
	sources := map[string]queue.Sender{"": w.Inbound}
	maps.Copy(sources, w.wakes())
	for platform, source := range sources {
		name := InboundQueue
		switch platform {
		case "":
		case record.Sorrel:
			name = WorkflowQueue
		default:
			name = OutboundQueue(platform)
		}
		dead, some := w.dead[name]
		if !some || source == nil {
			continue
		}
		if _, here := dead.(deadletters.Peeker); !here {
			d.Wait = time.Second
		}
		d.Queues[strings.TrimSuffix(name, ".fifo")] = deadletters.Pair{Source: source, Dead: dead, Platform: platform}
	}
	if len(d.Queues) == 0 {
		return nil
	}
	return deadletters.New(d)
}

// Watched applies batches so that no message becomes a dead letter in silence.
func (w *World) Watched(apply func(context.Context, []queue.Received) []string) func(context.Context, []queue.Received) []string {
	return deadletters.Watched(w.Ledger, w.Telemetry, apply)
}

// bury adds the dead-letter queues beside the queues at these URLs: the template names both after the stack.
func (w *World) bury(account *cloud.Account, inbound, workflow string, outbound map[string]string, calls cloud.Calls) {
	w.dead = map[string]deadletters.Dead{InboundQueue: account.Queue(cloud.DeadLetterName(inbound), calls), WorkflowQueue: account.Queue(cloud.DeadLetterName(workflow), calls)}
	for p, url := range outbound {
		w.dead[OutboundQueue(p)] = account.Queue(cloud.DeadLetterName(url), calls)
	}
}

// Reach adds the queues of a deployed stack, with the caller's own rights, to a world that reads its table.
func (w *World) Reach(ctx context.Context, account *cloud.Account, stack string) error {
	calls := cloud.Calls{Now: w.Now}
	inbound, err := account.QueueURL(ctx, stack+"-"+InboundQueue)
	if err != nil {
		return err
	}
	workflow, err := account.QueueURL(ctx, stack+"-"+WorkflowQueue)
	if err != nil {
		return err
	}
	outbound := map[string]string{}
	w.Inbound, w.Workflows, w.Outbound = account.Queue(inbound, calls), account.Queue(workflow, calls), map[string]queue.Sender{}
	for _, p := range Platforms() {
		if outbound[p], err = account.QueueURL(ctx, stack+"-"+OutboundQueue(p)); err != nil {
			return err
		}
		w.Outbound[p] = account.Queue(outbound[p], calls)
	}
	w.bury(account, inbound, workflow, outbound, calls)
	return nil
}
