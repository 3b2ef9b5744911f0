package trigger

import (
	"context"
	"encoding/json"
	"fmt"

	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
)

// Files handles what says that there may be files: a schedule, and the event of a new object. Neither says which; all that
// has come is looked for. Its input is an empty object.
func Files(f *load.Flow, from load.Source, done func()) func(context.Context, json.RawMessage) ([]load.Loaded, error) {
	return func(ctx context.Context, raw json.RawMessage) ([]load.Loaded, error) {
		defer done()
		if err := strict(raw, &struct{}{}); err != nil {
			return nil, fault.Wrap(fault.Malformed, "trigger.files", "", fmt.Errorf("the input must be {}: %w", err))
		}
		ctx, cancel := within(ctx)
		defer cancel()
		return f.Run(ctx, from, load.Options{})
	}
}
