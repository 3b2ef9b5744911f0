package trigger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
)

// filesReserve is left of the time of a run: one that has more to do than it can ends long before the alarm for slow
// functions, and the next one goes on.
const filesReserve = time.Minute

// Files handles what says that there may be files: a schedule, and the event of a new object. Neither says which; all that
// has come is looked for. Its input is an empty object.
func Files(f *load.Flow, from load.Source, done func()) func(context.Context, json.RawMessage) ([]load.Loaded, error) {
	return func(ctx context.Context, raw json.RawMessage) ([]load.Loaded, error) {
		defer done()
		if err := strict(raw, &struct{}{}); err != nil {
			return nil, fault.Wrap(fault.Malformed, "trigger.files", "", fmt.Errorf("the input must be {}: %w", err))
		}
		ctx, cancel := deadline.Keep(ctx, filesReserve)
		defer cancel()
		return f.Run(ctx, from, load.Options{})
	}
}
