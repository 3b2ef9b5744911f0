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
	maps.DeleteFunc(sources, func(p string, _ queue.Sender) bool { _, is := record.Subscriber(p); return is })
	sources[record.ToSubscriber("")] = w.Publishes
	for platform, source := range sources {
		name := InboundQueue
		switch platform {
		case "":
		case record.Sorrel:
			name = WorkflowQueue
		case record.ToSubscriber(""):
			name = PublishQueue
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
func (w *World) bury(account *cloud.Account, c Config, calls cloud.Calls) {
	w.dead = map[string]deadletters.Dead{}
	for name, url := range map[string]string{InboundQueue: c.Inbound, WorkflowQueue: c.Workflow, PublishQueue: c.Publish} {
		w.dead[name] = account.Queue(cloud.DeadLetterName(url), calls)
	}
	for p, url := range c.Outbound {
		w.dead[OutboundQueue(p)] = account.Queue(cloud.DeadLetterName(url), calls)
	}
}

// Reach adds the queues of a deployed stack, with the caller's own rights, to a world that reads its table.
func (w *World) Reach(ctx context.Context, account *cloud.Account, stack string) error {
	calls := cloud.Calls{Now: w.Now}
	c := Config{Outbound: map[string]string{}}
	urls := map[string]*string{InboundQueue: &c.Inbound, WorkflowQueue: &c.Workflow, PublishQueue: &c.Publish}
	for name, url := range urls {
		var err error
		if *url, err = account.QueueURL(ctx, stack+"-"+name); err != nil {
			return err
		}
	}
	w.Inbound, w.Workflows, w.Publishes, w.Outbound = account.Queue(c.Inbound, calls), account.Queue(c.Workflow, calls), account.Queue(c.Publish, calls), map[string]queue.Sender{}
	for _, p := range Platforms() {
		var err error
		if c.Outbound[p], err = account.QueueURL(ctx, stack+"-"+OutboundQueue(p)); err != nil {
			return err
		}
		w.Outbound[p] = account.Queue(c.Outbound[p], calls)
	}
	w.bury(account, c, calls)
	return nil
}
