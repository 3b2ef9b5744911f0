package deadletters

import (
	"context"
	"slices"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/telemetry"
)

// Watched applies a batch, and sees to it that no message becomes a dead letter in silence. One that is received for the
// last time has its exception before it is tried: a crash, or a timeout, leaves no chance to tell of it afterwards. The
// exception is resolved where the message is done after all; where it fails, who applied it says why.
func Watched(l *ledger.Ledger, t *telemetry.Recorder, apply func(context.Context, []queue.Received) []string) func(context.Context, []queue.Received) []string {
	return func(ctx context.Context, batch []queue.Received) []string {
		var last []queue.Received
		for _, m := range batch {
			if m.Receives >= queue.MaxReceives {
				last = append(last, m)
				tell(ctx, t, m, l.Park(ctx, crashed(m)))
			}
		}
		failed := apply(ctx, batch)
		if len(last) == 0 {
			return failed
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for _, m := range last {
			if !slices.Contains(failed, m.ID) {
				tell(ctx, t, m, l.Unpark(closing, crashed(m)))
			}
		}
		return failed
	}
}

// Crashed is the detail of the exception about a message that was never said to have failed.
const Crashed = "it was received for the last time, and what came of it was never said: the process crashed or ran out of time with it, or with one of its batch"

// crashed is what is told of a message while it is tried for the last time.
func crashed(m queue.Received) ledger.Exception {
	platform, about, told, _ := message.About(m.Body)
	x := ledger.OfMessage(m.ID, platform, about, told)
	x.Remedy = "look for a crash or a timeout at that time, then " + x.Remedy
	x.Detail = Crashed
	return x
}

func tell(ctx context.Context, t *telemetry.Recorder, m queue.Received, err error) {
	if err != nil {
		t.Event(ctx, telemetry.Event{Step: "failed", Detail: "noting message " + m.ID, Err: err})
	}
}
