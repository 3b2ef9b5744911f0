package durable

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/queue"
)

// TestModel drives the durable queue and the memory queue with the same random calls, with random reopening of the
// former in segments of a few messages, and wants the same answers.
func TestModel(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		c := newClock()
		settings := queue.Settings{Name: "q", Visibility: 30 * time.Second, MaxReceives: rapid.IntRange(1, 4).Draw(rt, "max receives")}
		deadSettings := queue.Settings{Name: "dead", Visibility: 30 * time.Second}
		var dead, q *Queue
		openBoth := func() {
			var err error
			if dead, err = open(filepath.Join(dir, "dead"), deadSettings, nil, c.now, unflushed()); err != nil {
				rt.Fatal(err)
			}
			if q, err = open(filepath.Join(dir, "q"), settings, dead, c.now, unflushed()); err != nil {
				rt.Fatal(err)
			}
		}
		closeBoth := func() {
			for _, open := range []*Queue{q, dead} {
				if open == nil { // Open failed, which the test has said
					continue
				}
				if err := open.Close(); err != nil {
					rt.Fatal(err)
				}
			}
		}
		openBoth()
		defer func() {
			closeBoth()
			if err := os.RemoveAll(dir); err != nil {
				rt.Fatal(err)
			}
		}()
		deadModel := queue.NewMemory(deadSettings, nil, c.now)
		model := queue.NewMemory(settings, deadModel, c.now)

		ctx := t.Context()
		body := 0
		var known []string // receipts ever seen
		flying, delayed := map[string]bool{}, map[string]bool{}
		same := func(what string, got, want []queue.Received) {
			if !slices.EqualFunc(got, want, func(a, b queue.Received) bool {
				return a.ID == b.ID && a.Receipt == b.Receipt && a.Receives == b.Receives && a.Group == b.Group &&
					a.Dedup == b.Dedup && a.SentAt.Equal(b.SentAt) && bytes.Equal(a.Body, b.Body)
			}) {
				rt.Fatalf("%s:\n got %v\nwant %v", what, show(got), show(want))
			}
		}
		no := func(errs ...error) {
			for _, err := range errs {
				if err != nil {
					rt.Fatal(err)
				}
			}
		}
		some := func(rt *rapid.T) []string {
			if len(known) == 0 {
				return []string{"0.0"}
			}
			recent := known[max(0, len(known)-8):]
			return rapid.SliceOfN(rapid.SampledFrom(recent), 1, 4).Draw(rt, "receipts")
		}
		receive := func(rt *rapid.T) {
			n := rapid.IntRange(1, queue.MaxBatch).Draw(rt, "max")
			got, err := q.Receive(ctx, n, 0)
			want, err2 := model.Receive(ctx, n, 0)
			no(err, err2)
			same("receive", got, want)
			for _, r := range got {
				known = append(known, r.Receipt)
				flying[r.Receipt] = true
				delete(delayed, r.Receipt)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(rt *rapid.T) {
				var msgs []queue.Message
				for range rapid.IntRange(1, 4).Draw(rt, "messages") {
					body++
					msgs = append(msgs, queue.Message{
						Group: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "group"),
						Dedup: fmt.Sprint(rapid.IntRange(body-3, body).Draw(rt, "dedup")),
						Body:  []byte(strings.Repeat("x", rapid.IntRange(1, 300).Draw(rt, "size")) + fmt.Sprint(body)),
					})
				}
				no(q.Send(ctx, msgs...), model.Send(ctx, msgs...))
			},
			"receive": receive, "receive again": receive,
			"delete": func(rt *rapid.T) {
				r := some(rt)
				no(q.Delete(ctx, r...), model.Delete(ctx, r...))
			},
			"delete all": func(rt *rapid.T) {
				no(q.Delete(ctx, known...), model.Delete(ctx, known...))
			},
			"release": func(rt *rapid.T) {
				r := some(rt)
				d := rapid.SampledFrom([]time.Duration{0, 0, time.Second, time.Minute}).Draw(rt, "delay")
				no(q.Release(ctx, d, r...), model.Release(ctx, d, r...))
				for _, r := range r {
					delayed[r] = d > 0
				}
			},
			"time": func(rt *rapid.T) {
				c.advance(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 30 * time.Second, 5 * time.Minute}).Draw(rt, "time"))
			},
			"reopen": func(rt *rapid.T) {
				closeBoth()
				openBoth()
				var interrupted []string // what nobody works on any more is visible at once
				for r := range flying {
					if !delayed[r] {
						interrupted = append(interrupted, r)
					}
				}
				no(model.Release(ctx, 0, interrupted...))
				clear(flying)
				for r, d := range delayed {
					if d {
						flying[r] = true
					}
				}
			},
			"": func(rt *rapid.T) {
				a, err := q.Depth(ctx)
				b, err2 := model.Depth(ctx)
				no(err, err2)
				if a.Visible != b.Visible || a.InFlight != b.InFlight || !a.Oldest.Equal(b.Oldest) {
					rt.Fatalf("depth %+v, want %+v", a, b)
				}
				got, err := q.Peek(ctx, 5)
				want, err2 := model.Peek(ctx, 5)
				no(err, err2)
				same("peek", got, want)
				got, err = dead.Peek(ctx, 1000)
				want, err2 = deadModel.Peek(ctx, 1000)
				no(err, err2)
				same("dead letters", got, want)
			},
		})
	})
}

func show(list []queue.Received) string {
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintf(&b, "[%s %s dedup=%s receipt=%s receives=%d at %v %d bytes]", r.ID, r.Group, r.Dedup, r.Receipt, r.Receives, r.SentAt, len(r.Body))
	}
	return b.String()
}
