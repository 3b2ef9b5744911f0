package deadline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sorrel/shared/deadline"
)

func TestTimesNest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		kept, cancel := deadline.Keep(ctx, deadline.Reserve)
		defer cancel()
		if at, _ := kept.Deadline(); time.Until(at) != 29*time.Second {
			t.Errorf("%s left of 30 s", time.Until(at))
		}
		if !deadline.Fits(kept, 29*time.Second) || deadline.Fits(kept, 29*time.Second+1) {
			t.Error("29 s are left")
		}
		for n, want := range map[int]time.Duration{1: 29 * time.Second, 4: 29 * time.Second / 4} {
			share, cancel := deadline.Share(kept, n)
			if at, _ := share.Deadline(); time.Until(at) != want {
				t.Errorf("%s is a share of %d", time.Until(at), n)
			}
			cancel()
		}
		time.Sleep(40 * time.Second)
		if deadline.Fits(kept, -time.Hour) {
			t.Error("it is over")
		}
	})
}

func TestWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, made := range []func(context.Context) (context.Context, context.CancelFunc){
		func(ctx context.Context) (context.Context, context.CancelFunc) { return deadline.Keep(ctx, time.Hour) },
		func(ctx context.Context) (context.Context, context.CancelFunc) { return deadline.Share(ctx, 3) },
	} {
		ctx, cancel := made(t.Context())
		if _, limited := ctx.Deadline(); limited || !deadline.Fits(ctx, 1000*time.Hour) {
			t.Error("a context without an end got one")
		}
		cancel()
		if deadline.Fits(ctx, 0) {
			t.Error("a cancelled context has time")
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := deadline.Pause(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := deadline.Pause(ctx, time.Minute); err != context.DeadlineExceeded || time.Since(began) != time.Minute+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
