package servicenow_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

// drain lists from cursor to the end.
func drain(t *testing.T, c *servicenow.Connector, cursor string) (map[string]record.Native, string, int) {
	t.Helper()
	seen := map[string]record.Native{}
	for pages := 1; pages < 200; pages++ {
		p, err := c.Changes(t.Context(), servicenow.Account, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			seen[n.ID] = n
		}
		if cursor = p.Cursor; !p.More {
			return seen, cursor, pages
		}
	}
	t.Fatal("no end")
	return nil, "", 0
}

func fill(t *testing.T, tw *servicenowtwin.Twin, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		var err error
		if ids[i], err = tw.Edit(servicenow.Account, "", map[string]any{"name": fmt.Sprint("A", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// Access rules hide rows after the page was cut: short and even empty pages come before the end.
func TestHiddenRowsDoNotEndAListing(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, func(cfg *servicenow.Config) { cfg.PageSize = 5 })
	shown := map[string]bool{}
	for i := range 40 {
		id := fill(t, tw, 1)[0]
		shown[id] = i < 3 || i > 30
		tw.Hide(servicenow.Account, id, !shown[id])
		clock.Advance(time.Second)
	}
	seen, _, _ := drain(t, c, "")
	for id, visible := range shown {
		if _, ok := seen[id]; ok != visible {
			t.Errorf("%s: listed %v, want %v", id, ok, visible)
		}
	}
	for id, visible := range shown {
		if visible {
			continue
		}
		if _, err := c.Read(t.Context(), ref(id)); !fault.Is(err, fault.NotFound) {
			t.Errorf("a hidden record reads as %v", err)
		}
		break
	}
}

// An idle table costs one short page per run, not its last rows for ever.
func TestCursorFollowsTheVendorsClock(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, nil)
	fill(t, tw, 45)
	seen, cursor, _ := drain(t, c, "")
	if len(seen) != 45 {
		t.Fatalf("%d records", len(seen))
	}
	clock.Advance(10 * time.Minute)
	_, cursor, _ = drain(t, c, cursor)
	if seen, _, pages := drain(t, c, cursor); len(seen) != 0 || pages != 1 {
		t.Errorf("%d records in %d pages on an idle table", len(seen), pages)
	}
}

func TestOtherTimeZoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, hours := range []int{-5, 5} {
		clock := platformtest.NewClock()
		c, tw := world(t, servicenowtwin.Options{Now: clock.Now, Zone: time.FixedZone("x", hours*3600)}, nil)
		fill(t, tw, 1)
		if _, err := c.Changes(t.Context(), servicenow.Account, ""); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "GMT") {
			t.Errorf("%+d hours: %v", hours, err)
		}
	}
}

// A page that takes the vendor too long is asked for in smaller pieces.
func TestExecutionTime(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
	slow := 0
	c := between(t, tw, func(cfg *servicenow.Config) { cfg.Now, cfg.PageSize = clock.Now, 200 }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if limit := r.URL.Query().Get("sysparm_limit"); limit == "200" || limit == "50" {
			slow++
			_, _ = w.Write([]byte(`{"result":[],"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":null},"status":"failure"}`))
			return
		}
		pass.ServeHTTP(w, r)
	})
	fill(t, tw, 30)
	if seen, _, _ := drain(t, c, ""); len(seen) != 30 || slow != 2 {
		t.Errorf("%d records after %d slow answers, want 30 after 2: the cursor keeps the size", len(seen), slow)
	}
}

func TestCursorsAreChecked(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, _ := world(t, servicenowtwin.Options{Now: clock.Now}, nil)
	for _, cursor := range []string{"x", `{}`, `{"v":2}`, `{"v":1,"at":"2026-11-02^ORname=x"}`, `{"v":1,"id":"a^b"}`, `{"v":1,"at":"2026-11-02 08:00:00","id":"x"}`, `{"v":1,"skip":-1}`} {
		if _, err := c.Changes(t.Context(), servicenow.Account, cursor); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v", cursor, err)
		}
	}
}
