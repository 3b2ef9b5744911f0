package endtoend

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// What a world and its twins start ends with them: no goroutine is left after a close, however often.
func TestNothingIsLeftRunning(t *testing.T) {
	round := func(t *testing.T) {
		s := newStage(t, embedded(t.TempDir()))
		customer := s.edit("customer", "", customerFields("SPLIR", "Split Rail Beer & Ale"))
		order := s.edit("salesOrder", "", orderFields(customer, "SO-1"))
		s.eventually(30*time.Second, "the order arrives", func() error { return orderShows(s.twins, order, "Pending Fulfilment", "pending_fulfilment") })
		s.settle(30 * time.Second)
	}
	t.Run("warming up", round) // what lives as long as the process starts here
	before := runtime.NumGoroutine()
	for i := range 3 {
		t.Run(fmt.Sprint("round ", i+1), round)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for {
		left := runtime.NumGoroutine() - before
		if left <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("%d goroutines are left of three rounds:\n%s", left, stacks)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
