package platformtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"sorrel/shared/platform"
)

// Abandoned demands of every operation of a connector that it ends when its caller gives up while the vendor is slow to
// answer, and that nothing of it goes on behind the caller's back. The World needs Handler and Connect.
func Abandoned(t *testing.T, h Harness) {
	for _, signingIn := range []bool{false, true} {
		for name, call := range map[string]func(ctx context.Context, l *lossy, c Connector){
			"read":  func(ctx context.Context, l *lossy, c Connector) { _, _ = c.Read(ctx, l.ref(l.first)) },
			"find":  func(ctx context.Context, l *lossy, c Connector) { _, _ = c.Find(ctx, l.Object, external(1)) },
			"write": func(ctx context.Context, l *lossy, c Connector) { c.Write(ctx, several(l)) },
			"changes": func(ctx context.Context, l *lossy, c Connector) {
				_, _ = c.Changes(ctx, l.Object, "")
			},
		} {
			where := h.Name + "/abandoned " + name
			if signingIn {
				where += " while it signs in"
			}
			t.Run(where, func(t *testing.T) {
				t.Parallel()
				clock := NewClock()
				l := newLossy(t, h.New(t, clock.Now), clock)
				if name == "changes" && l.Unlisted != "" {
					t.Skip(l.Unlisted)
				}
				abandon(t, l, signingIn, call)
			})
		}
	}
}

// several writes are more than a connector makes at once.
func several(l *lossy) []platform.Write {
	var out []platform.Write
	for range 30 {
		out = append(out, l.create().write)
	}
	return out
}

func abandon(t *testing.T, l *lossy, signingIn bool, call func(context.Context, *lossy, Connector)) {
	asked, over := make(chan struct{}, 1), make(chan struct{})
	slow := func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the caller hangs up
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-r.Context().Done():
		case <-over:
		}
		return true
	}
	c := l.Connector
	if signingIn {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { slow(w, r) }))
		t.Cleanup(srv.Close)
		var err error
		if c, err = l.Connect(srv.URL); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { close(over) }) // before the servers close
	l.meddle.Store(&slow)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go pprof.Do(ctx, pprof.Labels("abandoned", t.Name()), func(ctx context.Context) { // all goroutines that it starts have the label
		defer close(ended)
		call(ctx, l, c)
	})
	patience := time.After(10 * time.Second)
	select {
	case <-asked:
	case <-patience:
		t.Fatal("the vendor was not asked")
	}
	if left := labelled(t); len(left) == 0 {
		t.Fatal("the goroutine that waits for the vendor is not seen")
	}
	cancel()
	select {
	case <-ended:
	case <-patience:
		t.Fatal("it goes on although its caller has given up")
	}
	for { // a goroutine that has said that it is done needs a moment to be gone
		left := labelled(t)
		if len(left) == 0 {
			return
		}
		select {
		case <-patience:
			t.Fatalf("left behind:\n%s", strings.Join(left, "\n\n"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// labelled returns the stacks of the goroutines with the test's label in which code of this module appears.
func labelled(t *testing.T) []string {
	t.Helper()
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	var out []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, `"abandoned":"`+t.Name()+`"`) && strings.Contains(stack, "\tsorrel/") {
			out = append(out, stack)
		}
	}
	return out
}
