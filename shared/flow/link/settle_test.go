package link_test

import (
	"context"
	"time"

	"sorrel/shared/flow/link"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

func settle(l *ledger.Ledger, set *policy.Set) link.Settle {
	return func(ctx context.Context, before, after ledger.State, trace string, now time.Time) (ledger.Entry, error) {
		rules := set.Rules(after.Record.ID.Entity())
		folded, out := record.Fold(after.Record, rules, set.On(after.Record.ID.Entity()), now)
		after.Record = folded
		after.MarkDue(rules, set.As, trace, now, true)
		return ledger.Entry{Before: before, After: after, Changes: out.Changes}, nil
	}
}
