package zendesk_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// A search's cursor lives an hour. One that is gone is told as such, and a listing that starts again finds everything.
func TestSearchCursorIsGone(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 5)
	for i := range 12 {
		if _, err := tw.Edit(zendesk.Organization, "", map[string]any{"name": fmt.Sprint("Bólido ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	within := []platform.Span{{To: clock.Now().Add(time.Hour)}}
	clock.Advance(10 * time.Minute)
	page, err := c.Within(t.Context(), zendesk.Organization, within, "")
	if err != nil || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	clock.Advance(30 * time.Minute)
	if _, err := c.Within(t.Context(), zendesk.Organization, within, page.Cursor); err != nil {
		t.Errorf("half an hour later: %v", err)
	}
	clock.Advance(time.Hour)
	if _, err := c.Within(t.Context(), zendesk.Organization, within, page.Cursor); !fault.Is(err, fault.Contract) {
		t.Errorf("too late: %v, want a broken contract", err)
	}
	found := map[string]bool{}
	for cursor, more := "", true; more; {
		page, err := c.Within(t.Context(), zendesk.Organization, within, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.Natives {
			found[n.ID] = true
		}
		cursor, more = page.Cursor, page.More
	}
	if len(found) != 12 {
		t.Errorf("%d of 12 organizations", len(found))
	}
}

// What the index does not hold yet is not counted; it is when it has settled, as the declaration says.
func TestSearchSettles(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 5)
	if _, err := tw.Edit(zendesk.Organization, "", map[string]any{"name": "Bólido"}); err != nil {
		t.Fatal(err)
	}
	within := []platform.Span{{From: clock.Now()}}
	if got, err := c.Census(t.Context(), zendesk.Organization, within, 0); err != nil || len(got) != 0 {
		t.Errorf("at once: %v, %v", got, err)
	}
	clock.Advance(c.Declaration().Objects[0].Settles)
	if got, err := c.Census(t.Context(), zendesk.Organization, within, 0); err != nil || len(got) != 1 {
		t.Errorf("settled: %v, %v", got, err)
	}
}

// Agents are nobody's customers: they are neither counted nor listed.
func TestCensusWithoutAgents(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 5)
	for _, role := range []string{"end-user", "agent", "admin", "end-user"} {
		if _, err := tw.Edit(zendesk.User, "", map[string]any{"name": "Ann", "role": role}); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(10 * time.Minute)
	if got, err := c.Census(t.Context(), zendesk.User, nil, 0); err != nil || len(got) != 1 || got[0].Records != 2 {
		t.Errorf("%v, %v; want 2", got, err)
	}
	for _, within := range [][]platform.Span{nil, {{To: clock.Now()}}} {
		if page, err := c.Within(t.Context(), zendesk.User, within, ""); err != nil || len(page.Natives) != 2 {
			t.Errorf("%+v, %v; want 2", page, err)
		}
	}
}

func FuzzCensus(f *testing.F) {
	now := platformtest.NewClock().Now
	const account = "https://acme.zendesk.com"
	platformtest.FuzzCensus(f, account, zendesk.Organization, "7", func(transport http.RoundTripper) (platformtest.Connector, error) {
		return zendesk.New(zendesk.Config{URL: account, Now: now, Credentials: zendesk.Credentials{Email: "e", APIToken: "t"}, Transport: transport})
	}, `{"count":5}`, `{"count":-5}`, `{"count":1.5}`, `{"count":"many"}`,
		`{"organizations":[{"id":7,"updated_at":"2026-11-02T00:00:00Z"}],"meta":{"has_more":false}}`, `{"organizations":[{"id":8,"updated_at":"2026-11-02T00:00:00Z"},{"id":7,"updated_at":"2026-11-02T00:00:00Z"}],"meta":{"has_more":true,"after_cursor":"x"}}`,
		`{"results":[{"id":7,"updated_at":"2026-11-02T00:00:00Z","result_type":"organization"}],"meta":{"has_more":true,"after_cursor":"x"}}`, `{"results":[{"id":7,"updated_at":"2026-10-02T00:00:00Z"}],"meta":{"has_more":false}}`,
		`{"organizations":[{"id":7,"updated_at":"2026-11-02T00:00:00Z","deleted_at":"2026-11-02T00:00:00Z"}],"end_time":1793577600,"end_of_stream":true,"organization_merges":[{"loser_id":7,"winner_id":8,"status":"complete"}]}`)
}

func TestPageTwice(t *testing.T) {
	t.Parallel()
	const account = "https://acme.zendesk.com"
	platformtest.PageTwice(t, account, zendesk.Organization, `{"organizations":[{"id":7,"updated_at":"2026-11-02T00:00:00Z"}],"meta":{"has_more":true,"after_cursor":"x"}}`, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return zendesk.New(zendesk.Config{URL: account, Now: platformtest.NewClock().Now, Credentials: zendesk.Credentials{Email: "e", APIToken: "t"}, Transport: transport})
	})
}
