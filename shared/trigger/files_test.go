package trigger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/fault"
	files "sorrel/shared/flow/load"
	"sorrel/shared/policy"
	"sorrel/shared/trigger"
)

// place is where no files are. It notes how much time a run has.
type place struct {
	left time.Duration
	err  error
}

func (p *place) List(ctx context.Context) ([]files.File, error) {
	at, _ := ctx.Deadline()
	p.left = time.Until(at)
	return nil, p.err
}

// A run begins by its schedule, and ends a minute before its function's time does.
func TestFilesTrigger(t *testing.T) {
	t.Parallel()
	done := 0
	p := &place{}
	set, problems := policy.Load(config.FS)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	run := trigger.Files(files.New(files.Deps{Config: set}), p, func() { done++ })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if got, err := run(ctx, []byte("{}")); err != nil || len(got) != 0 || p.left <= 0 || p.left > 4*time.Minute {
		t.Errorf("%v, %v, %s were left", got, err, p.left)
	}
	if _, err := run(ctx, []byte(`{"platform":"zendesk"}`)); !fault.Is(err, fault.Malformed) {
		t.Error(err)
	}
	p.err = errors.New("no answer")
	if _, err := run(ctx, []byte("{}")); !errors.Is(err, p.err) || done != 3 {
		t.Errorf("%v, ended %d times", err, done)
	}
}
