package salesforce_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

// answering stands between a connector and a twin, and answers queries that have a word in them in its own way.
func answering(t *testing.T, now func() time.Time, word string, answer *string) (*salesforce.Connector, *salesforcetwin.Twin) {
	t.Helper()
	twin := salesforcetwin.New(salesforcetwin.Options{Now: now})
	back := httptest.NewServer(twin.Handler())
	t.Cleanup(back.Close)
	u, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	var front *httptest.Server
	proxy := httputil.NewSingleHostReverseProxy(u)
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Query().Get("q"), word) && *answer != "" {
			_, _ = w.Write([]byte(*answer))
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c, err := salesforce.New(salesforce.Config{URL: front.URL, Credentials: twin.Credentials(), Now: now, Instances: []string{u.Host, strings.TrimPrefix(front.URL, "http://")}})
	if err != nil {
		t.Fatal(err)
	}
	return c, twin
}

func TestCensusAnswersAreChecked(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	answer := ""
	c, _ := answering(t, clock.Now, "COUNT(Id)", &answer)
	day := func(rows ...string) string {
		return `{"totalSize":1,"done":true,"records":[` + strings.Join(rows, ",") + `]}`
	}
	row := func(d string, n any) string {
		return fmt.Sprintf(`{"attributes":{"type":"AggregateResult"},"d":%q,"n":%v}`, d, n)
	}
	within := []platform.Span{{From: clock.Now().Add(-72 * time.Hour).Truncate(platform.Day), To: clock.Now()}}
	for name, body := range map[string]string{
		"negative": day(row("2026-11-01", -1)), "a fraction": day(row("2026-11-01", 1.5)), "text": day(row("2026-11-01", `"many"`)), "no number": day(`{"d":"2026-11-01"}`),
		"no day": day(row("yesterday", 1)), "twice": day(row("2026-11-01", 1), row("2026-11-01", 1)), "out of order": day(row("2026-11-01", 1), row("2026-10-31", 1)),
		"not asked for": day(row("2026-10-01", 1)), "of tomorrow": day(row("2026-11-03", 1)), "empty with more": `{"done":false,"records":[]}`,
	} {
		answer = body
		if got, err := c.Census(t.Context(), "Account", within, platform.Day); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v, %v; want a broken contract", name, got, err)
		}
	}
	answer = day(row("2026-11-01", 2))
	if got, err := c.Census(t.Context(), "Account", within, platform.Hour); !fault.Is(err, fault.Contract) {
		t.Errorf("days instead of hours: %v, %v", got, err)
	}
}

// An answer holds 2,000 groups and no more: the next query goes on behind them. An org that gives fewer says so.
func TestCensusOfManyDays(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"2,000 groups": 2000, "fewer": 300} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			c, twin := start(t, clock.Now, salesforcetwin.Options{MaxPage: batch}, nil)
			const hours = 2100
			for i := range hours {
				if _, err := twin.Edit("Account", "", map[string]any{"Name": fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
				clock.Advance(time.Hour)
			}
			before := twin.Kit().Stats().Calls
			got, err := c.Census(t.Context(), "Account", nil, platform.Hour)
			if err != nil || len(got) != hours {
				t.Fatalf("%d hours, %v; want %d", len(got), err, hours)
			}
			for i, n := range got {
				if n.Records != 1 || i > 0 && n.From.Sub(got[i-1].From) != time.Hour {
					t.Fatalf("%d of %s after %s", n.Records, n.From, got[i-1].From)
				}
			}
			if calls := twin.Kit().Stats().Calls - before; name == "2,000 groups" && calls > 3 { // one signs in
				t.Errorf("%d calls", calls)
			}
		})
	}
}

// Of objects that are Sorrel's own only what carries the external id is counted and listed, as by Changes.
func TestCensusOfOwnRecords(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) { cfg.Own = []string{"Task"} })
	for i, fields := range []map[string]any{{"Subject": "People's"}, {"Subject": "Ours", "Sorrel_Id__c": "task-1"}, {"Subject": "Ours", "Sorrel_Id__c": "task-2"}} {
		if _, err := twin.Edit("Task", "", fields); err != nil {
			t.Fatal(i, err)
		}
	}
	clock.Advance(time.Minute)
	for _, width := range []time.Duration{0, platform.Hour} {
		if got, err := c.Census(t.Context(), "Task", nil, width); err != nil || len(got) != 1 || got[0].Records != 2 {
			t.Errorf("%v, %v; want 2", got, err)
		}
	}
	if page, err := c.Within(t.Context(), "Task", nil, ""); err != nil || len(page.Natives) != 2 {
		t.Errorf("%+v, %v; want 2", page, err)
	}
}

func FuzzCensus(f *testing.F) {
	const org = "https://acme.my.salesforce.com"
	now := platformtest.NewClock().Now
	platformtest.FuzzCensus(f, org, "Account", "001xx000003DGb2AAG", func(transport http.RoundTripper) (platformtest.Connector, error) {
		return salesforce.New(salesforce.Config{URL: org, Now: now, Credentials: salesforce.Credentials{ClientID: "c", ClientSecret: "s"}, Transport: transport})
	}, `{"done":true,"records":[{"d":"2026-11-01","h":3,"n":5},{"d":"2026-11-02","h":0,"n":1}]}`, `{"done":true,"records":[{"n":7}]}`, `{"done":true,"records":[{"d":"2026-11-01","h":24,"n":-1}]}`,
		`{"done":true,"records":[{"Id":"001xx000003DGb2AAG","SystemModstamp":"2026-11-02T00:00:00.000+0000","IsDeleted":false}]}`,
		`{"done":true,"records":[{"Id":"001xx000003DGb2AAG","SystemModstamp":"2026-11-02T00:00:00.000+0000","IsDeleted":true,"MasterRecordId":"001xx000003DGb3AAG"}]}`,
		`{"done":false,"records":[{"Id":"001xx000003DGb2AAG","SystemModstamp":"2026-11-02T00:00:00.000+0000"},{"Id":"001xx000003DGb1AAG","SystemModstamp":"2026-11-02T00:00:00.000+0000"}]}`,
		`[{"errorCode":"EXCEEDED_ID_LIMIT","message":"x"}]`)
}

func TestPageTwice(t *testing.T) {
	t.Parallel()
	const org = "https://acme.my.salesforce.com"
	platformtest.PageTwice(t, org, "Account", `{"done":false,"records":[{"Id":"001xx000003DGb2AAG","SystemModstamp":"2026-11-02T00:00:00.000+0000","IsDeleted":false}]}`, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return salesforce.New(salesforce.Config{URL: org, Now: platformtest.NewClock().Now, Credentials: salesforce.Credentials{ClientID: "c", ClientSecret: "s"}, Transport: transport})
	})
}

// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
func TestAddressesAreNotTooLong(t *testing.T) {
	t.Parallel()
	const org = "https://acme.my.salesforce.com"
	platformtest.Longest(t, org, "Account", `{"done":true,"records":[]}`, 16_384, func(n int) string { return fmt.Sprintf("001xx%010dAAA", n) }, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return salesforce.New(salesforce.Config{URL: org, Now: platformtest.NewClock().Now, Credentials: salesforce.Credentials{ClientID: "c", ClientSecret: "s"}, Transport: transport})
	})
}
