package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// keepQuotas is how long the count of a minute is kept: clocks differ a little.
const keepQuotas = 10 * time.Minute

// maxTakes bounds how often TakeQuota is tried again because somebody else was first.
const maxTakes = 8

func quotaKey(consumer string, minute time.Time) store.Key {
	return store.Key{Part: key(schema, "quota", consumer), Sort: key(instant(minute))}
}

// TakeQuota takes up to want of what a consumer may ask in a minute, of all processes together, and returns how much it got:
// at most what of is left, and at most an eighth of that but for the last ones, so that no process takes what others need.
func (l *Ledger) TakeQuota(ctx context.Context, consumer string, minute time.Time, want, quota int) (int, error) {
	const op = "ledger.quota"
	k := quotaKey(consumer, minute)
	for attempt := 0; ; attempt++ {
		var taken struct {
			Taken int `json:"taken"`
		}
		e, err := l.store.Get(ctx, k)
		if err == nil {
			err = json.Unmarshal(e.Value, &taken)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return 0, classify(op, consumer, err)
		}
		left := quota - taken.Taken
		if left <= 0 {
			return 0, nil
		}
		got := min(want, max(left/8, 1))
		taken.Taken += got
		value, err := json.Marshal(taken)
		if err != nil {
			return 0, fault.Wrap(fault.Internal, op, consumer, err)
		}
		err = classify(op, consumer, l.store.Commit(ctx, store.Op{Kind: store.Put, Key: k, Value: value, Expires: expiry(l.now().UTC(), keepQuotas), IfRev: e.Rev, Absent: e.Rev == ""}))
		if err == nil {
			return got, nil
		}
		if !fault.Is(err, fault.Conflict) || attempt >= maxTakes {
			return 0, err
		}
	}
}
