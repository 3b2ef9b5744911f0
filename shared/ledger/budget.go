package ledger

import (
	"context"
	"errors"

	"sorrel/shared/budget"
	"sorrel/shared/store"
)

// Budget returns what all workers know together of a platform's limits and breaker.
func (l *Ledger) Budget(ctx context.Context, platform string) (budget.Saved, error) {
	e, err := l.store.Get(ctx, budgetKey(platform))
	if errors.Is(err, store.ErrNotFound) {
		return budget.Saved{}, nil
	}
	return budget.Saved{State: e.Value, Rev: string(e.Rev)}, classify("ledger.budget", platform, err)
}

// SaveBudget writes what Budget returned, changed, unless somebody else has written meanwhile: then it is a Conflict.
func (l *Ledger) SaveBudget(ctx context.Context, platform string, s budget.Saved) error {
	return classify("ledger.budget", platform, l.store.Commit(ctx, store.Op{Kind: store.Put, Key: budgetKey(platform), Value: s.State,
		IfRev: store.Rev(s.Rev), Absent: s.Rev == ""}))
}
