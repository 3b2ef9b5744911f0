package vendorhttp_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/vendorhttp"
)

// slow is a sign-in that answers when it is told to, or when its caller gives up.
type slow struct {
	began   chan struct{}
	answer  chan error
	fetches atomic.Int64
}

func (s *slow) fetch(ctx context.Context) (vendorhttp.Token, error) {
	s.fetches.Add(1)
	s.began <- struct{}{}
	select {
	case err := <-s.answer:
		return vendorhttp.Token{Header: "Bearer x"}, err
	case <-ctx.Done():
		return vendorhttp.Token{}, fault.Wrap(fault.Down, "sign-in", "", ctx.Err())
	}
}

func slowly(t *testing.T) (*slow, func(context.Context) chan error) {
	t.Helper()
	s := &slow{began: make(chan struct{}), answer: make(chan error)}
	clk := newClock()
	c := vendor(t, clk, func(http.ResponseWriter, *http.Request) {}, func(c *vendorhttp.Config) {
		c.Tokens = vendorhttp.NewTokens(s.fetch, clk.now)
	})
	return s, func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() { _, err := c.Do(ctx, get()); done <- err }()
		return done
	}
}

// Whoever waits for another's sign-in leaves when its own time is over, and the sign-in goes on.
func TestSignInIsAwaitedNoLongerThanThereIsTime(t *testing.T) {
	t.Parallel()
	s, call := slowly(t)
	first := call(t.Context())
	<-s.began
	short, cancel := context.WithCancel(t.Context())
	second, third := call(short), call(t.Context())
	cancel()
	want(t, <-second, fault.Down)
	s.answer <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-third; err != nil || s.fetches.Load() != 1 {
		t.Errorf("%v after %d sign-ins, want 1", err, s.fetches.Load())
	}
}

// Whoever gives its sign-in up does not fail the others: the next one signs in.
func TestSignInOfOneThatGivesUp(t *testing.T) {
	t.Parallel()
	s, call := slowly(t)
	short, cancel := context.WithCancel(t.Context())
	first := call(short)
	<-s.began
	others := []chan error{call(t.Context()), call(t.Context())}
	time.AfterFunc(10*time.Millisecond, cancel) // most likely they wait by then; the outcome is the same if not
	want(t, <-first, fault.Down)
	<-s.began
	s.answer <- nil
	for _, o := range others {
		if err := <-o; err != nil {
			t.Error(err)
		}
	}
	if s.fetches.Load() != 2 {
		t.Errorf("%d sign-ins, want 2", s.fetches.Load())
	}
}

// What a vendor refuses is refused to all that waited, at one sign-in.
func TestRefusedSignInIsShared(t *testing.T) {
	t.Parallel()
	s, call := slowly(t)
	calls := []chan error{call(t.Context())}
	<-s.began
	for range 5 {
		calls = append(calls, call(t.Context()))
	}
	go func() { // those that came too late to wait sign in themselves
		for {
			select {
			case s.answer <- fault.New(fault.Unauthenticated, "sign-in", "key revoked"):
			case <-s.began:
			case <-t.Context().Done():
				return
			}
		}
	}()
	for _, c := range calls {
		want(t, <-c, fault.Unauthenticated)
	}
}
