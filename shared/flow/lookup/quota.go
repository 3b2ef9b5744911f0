package lookup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/policy"
)

// Taker counts what a consumer has asked in a minute, for all processes together. It gives up to want of what is left.
type Taker interface {
	TakeQuota(ctx context.Context, consumer string, minute time.Time, want, quota int) (int, error)
}

// Quotas counts the questions of consumers, by calendar minute. It takes some of what a consumer may ask for all processes at
// once, and twice as much each time that this was not enough, so that a minute costs a few requests to the store however
// much is asked. What one process has taken and not used is refused elsewhere before the quota is used up; it is small where
// little is left. Without a Taker, or while it does not answer, each process counts by itself.
type Quotas struct {
	Taker Taker

	mu        sync.Mutex
	consumers map[string]*allowance
}

// allowance is one consumer's in this process.
type allowance struct {
	mu     sync.Mutex // held while more is taken: who asks meanwhile waits for it
	minute time.Time
	asked  int
	may    int
	takes  int
	over   bool // nothing is left of the minute
	alone  bool // nobody counts for all
}

const (
	firstTake   = 32 // … and at first one part of so many
	takePatient = 2 * time.Second
)

// Take counts a question, or refuses it with fault.OverQuota and when to come again.
func (k *Quotas) Take(ctx context.Context, c policy.Consumer, now time.Time) error {
	k.mu.Lock()
	if k.consumers == nil {
		k.consumers = map[string]*allowance{}
	}
	a := k.consumers[c.Name]
	if a == nil {
		a = &allowance{}
		k.consumers[c.Name] = a
	}
	k.mu.Unlock()

	a.mu.Lock()
	defer a.mu.Unlock()
	if minute := now.UTC().Truncate(time.Minute); !minute.Equal(a.minute) {
		a.minute, a.asked, a.may, a.takes, a.over, a.alone = minute, 0, 0, 0, false, k.Taker == nil
	}
	if !a.alone && !a.over && a.asked >= a.may {
		a.more(ctx, k.Taker, c)
	}
	if a.alone && a.asked >= c.Quota || !a.alone && a.asked >= a.may {
		return &fault.Error{Class: fault.OverQuota, Op: "lookup", Detail: fmt.Sprintf("%s may ask %d times in a minute, and has", c.Name, c.Quota),
			Remedy: "come again when the minute is over; keep answers for as long as you accept their age, and ask again with If-None-Match", RetryAt: a.minute.Add(time.Minute)}
	}
	a.asked++
	return nil
}

// more takes more of the minute.
func (a *allowance) more(ctx context.Context, from Taker, c policy.Consumer) {
	ctx, cancel := context.WithTimeout(ctx, takePatient)
	defer cancel()
	got, err := from.TakeQuota(ctx, c.Name, a.minute, max(c.Quota/firstTake, 1)<<min(a.takes, 16), c.Quota)
	a.takes++
	a.may += got
	a.alone, a.over = err != nil, got == 0
}
