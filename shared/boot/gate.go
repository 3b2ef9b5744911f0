package boot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/telemetry"
)

// forATurn is how long a call waits for its turn before its work is put off: somewhat longer than calls take.
const forATurn = 5 * time.Second

// share makes the gates of the platforms, over the ledger: their budgets and breakers are those of all workers. place is
// that of budget.Options.
func (w *World) share(place string) {
	w.life, w.place = w.newID(), place
	w.gates = budget.NewShared(w.Ledger, budget.Options{Worker: w.life, Place: place, Now: w.Now, Rand: newRand()(), Patience: forATurn, Watch: w.watch})
	w.Look = w.gates
}

// gate returns the gate of a platform. Its limits come with the connector, which is made with it.
func (w *World) gate(name string) budget.Gate {
	if w.gates == nil {
		return nil
	}
	return w.gates.Gate(name)
}

// limit tells the gate of a platform what its limits are.
func (w *World) limit(name string, limits []budget.Limit) {
	if w.gates != nil {
		w.gates.Gate(name).Keep(budget.Rules{Limits: limits})
	}
}

// watch turns what gates do into metrics, and what breakers do into events as well.
func (w *World) watch(n budget.Notice) {
	event := func(detail string) {
		w.Telemetry.Event(context.Background(), telemetry.Event{Step: "breaker", Platform: n.Platform, Detail: detail})
	}
	switch n.What {
	case budget.Passed:
		w.Telemetry.Count("Calls"+title(n.Class.String()), n.Platform, 1)
	case budget.Rejected:
		w.Telemetry.Count("NotCalled"+title(n.Reason), n.Platform, 1)
	case budget.Opened:
		w.Telemetry.Count("BreakerOpened", n.Platform, 1)
		event(fmt.Sprintf("opened until %s: %s", n.Until.Format(time.RFC3339), n.Reason))
	case budget.Stayed:
		event(fmt.Sprintf("still open, until %s: %s", n.Until.Format(time.RFC3339), n.Reason))
	case budget.Closed:
		w.Telemetry.Count("BreakerClosed", n.Platform, 1)
		event("closed")
	case budget.Left:
		if n.Limit == budget.Calls && n.Left < budget.Unlimited/2 {
			w.Telemetry.Gauge("BudgetLeft", n.Platform, float64(n.Left))
		}
	}
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// rest hands back what other workers may need, before this one stands still.
func (w *World) rest() {
	if w.gates == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.gates.Rest(ctx)
}
