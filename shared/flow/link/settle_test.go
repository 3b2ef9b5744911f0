package link_test

import (
	"context"
	"time"

	"sorrel/shared/flow/link"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
)

// settle governs as the deployed command does.
func settle(l *ledger.Ledger, set *policy.Set) link.Settle {
	return func(ctx context.Context, before, after ledger.State, trace string, now time.Time) (ledger.Entry, error) {
		s, err := govern.Settle(ctx, l, set, before, after, govern.Cause{Trace: trace, Now: now, News: true})
		return s.Entry, err
	}
}
