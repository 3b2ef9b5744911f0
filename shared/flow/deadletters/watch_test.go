package deadletters_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sorrel/shared/flow/deadletters"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

// A message that crashes the process each time becomes a dead letter, and its exception says so. Its neighbours in the batch
// that are done on their last chance leave none; and one that fails tells its own reason.
func TestWatched(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return start }
	l := ledger.New(store.NewMemory(now), now)
	dead := queue.NewMemory(queue.Settings{Name: "dead"}, nil, now)
	source := queue.NewMemory(queue.Settings{Name: "source", MaxReceives: queue.MaxReceives}, dead, now)
	for _, body := range []string{"crashes", "fails", "works"} {
		if err := source.Send(t.Context(), queue.Message{Group: body, Dedup: body, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	open := func() []ledger.Exception {
		all, err := l.Exceptions(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	apply := deadletters.Watched(l, telemetry.New(nil, now, nil), func(ctx context.Context, batch []queue.Received) []string {
		var failed []string
		for _, m := range batch {
			last := m.Receives >= queue.MaxReceives
			if string(m.Body) == "crashes" && last && len(open()) == 0 {
				t.Error("nothing is told before the crash")
			}
			switch {
			case string(m.Body) == "crashes":
				panic("crash")
			case string(m.Body) == "fails" || !last:
				failed = append(failed, m.ID)
			}
			if string(m.Body) == "fails" && last {
				if err := l.Park(ctx, ledger.Exception{Type: "poison-message", Native: "message " + m.ID, Detail: "because"}); err != nil {
					t.Error(err)
				}
			}
		}
		return failed
	})
	for range queue.MaxReceives + 1 {
		got, err := source.Receive(t.Context(), queue.MaxBatch, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got { // each in a batch of its own
			func() {
				defer func() { _ = recover() }()
				if failed := apply(t.Context(), []queue.Received{m}); len(failed) == 0 {
					_ = source.Delete(t.Context(), m.Receipt)
				}
			}()
			_ = source.Release(t.Context(), 0, m.Receipt)
		}
	}
	if d, err := dead.Depth(t.Context()); err != nil || d.Visible != 2 {
		t.Errorf("dead letters: %+v, %v", d, err)
	}
	told := map[bool]int{}
	for _, x := range open() {
		told[strings.Contains(x.Detail, "crashed or ran out of time")]++
	}
	if told[true] != 1 || told[false] != 1 {
		t.Errorf("%+v", open())
	}
}
