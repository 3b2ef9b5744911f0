// Package deadline is about the time that an invocation has left. A context says when it ends; work asks before it begins
// whether it can still be finished, and keeps time for what must come last.
//
// The times nest. Lambda ends the process; the trigger's context ends Reserve earlier, so that there is an answer; a
// flow's work ends Commit before that, so that what became of it can be committed and handed back; a call to a platform
// begins only if all of Call is left of that, so that no write is cut off in the middle and left unknown.
package deadline

import (
	"context"
	"time"
)

const (
	// Reserve is kept for the answer of an invocation: which messages come back, and its metrics.
	Reserve = time.Second
	// Commit is kept for what follows the last call to a platform: ten commits that meet no other worker take well under a
	// second of DynamoDB.
	Commit = 3 * time.Second
	// Call is how long one call to a platform may take.
	Call = 15 * time.Second
)

// Keep returns a context that ends d before ctx does.
func Keep(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if at, limited := ctx.Deadline(); limited {
		return context.WithDeadline(ctx, at.Add(-d))
	}
	return context.WithCancel(ctx)
}

// Fits reports whether work that takes d can still be finished. A context without an end has time for everything, a
// cancelled one for nothing. Deadlines of contexts are of the machine's clock, so it is not injected.
func Fits(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	at, limited := ctx.Deadline()
	return !limited || time.Until(at) >= d
}

// Pause waits for d, or until ctx ends: then it says why.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Share returns a context for one of n pieces of work that follow each other: an equal part of the time left.
func Share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	if at, limited := ctx.Deadline(); limited && n > 1 {
		return context.WithDeadline(ctx, time.Now().Add(time.Until(at)/time.Duration(n)))
	}
	return context.WithCancel(ctx)
}
