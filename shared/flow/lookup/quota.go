package lookup

import (
	"fmt"
	"sync"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/policy"
)

// Quotas counts the questions of consumers, by calendar minute. Each process counts by itself.
type Quotas struct {
	mu     sync.Mutex
	minute time.Time
	asked  map[string]int
}

// Take counts a question, or refuses it with fault.OverQuota and when to come again.
func (k *Quotas) Take(c policy.Consumer, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if minute := now.Truncate(time.Minute); k.asked == nil || !minute.Equal(k.minute) {
		k.minute, k.asked = minute, map[string]int{}
	}
	if k.asked[c.Name] >= c.Quota {
		return &fault.Error{Class: fault.OverQuota, Op: "lookup", Detail: fmt.Sprintf("%s has asked %d times in this minute, which is all that it may", c.Name, c.Quota),
			Remedy: "come again when the minute is over; keep answers for as long as you accept their age, and ask again with If-None-Match", RetryAt: k.minute.Add(time.Minute)}
	}
	k.asked[c.Name]++
	return nil
}
