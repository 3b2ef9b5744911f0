package netsuite_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
)

// Buckets are those of the account's clock, also where it is put forward and back: each record is in one of them, and
// listing a bucket lists its records.
func TestCensusByTheAccountsClock(t *testing.T) {
	t.Parallel()
	for _, of := range []struct {
		zone, from string
		widest     time.Duration // of the hours' buckets
		days       time.Duration // of the days'
	}{
		{"Europe/Zurich", "2026-10-24T20:00:00Z", 2 * time.Hour, 25 * time.Hour},
		{"Europe/Zurich", "2026-03-28T20:00:00Z", time.Hour, 24 * time.Hour},
		{"Australia/Lord_Howe", "2026-04-04T05:00:00Z", 90 * time.Minute, 24*time.Hour + 30*time.Minute},
		{"Australia/Lord_Howe", "2026-10-03T05:00:00Z", time.Hour, 24 * time.Hour},
		{"America/St_Johns", "2010-11-06T20:00:00Z", 3 * time.Hour, 49 * time.Hour}, // one minute after midnight
		{"Asia/Kolkata", "2026-11-02T08:00:00Z", time.Hour, 24 * time.Hour},
		{"", "2026-10-24T20:00:00Z", time.Hour, 24 * time.Hour},
	} {
		t.Run(of.zone+" "+of.from, func(t *testing.T) {
			t.Parallel()
			start, err := time.Parse(time.RFC3339, of.from)
			if err != nil {
				t.Fatal(err)
			}
			clock := platformtest.NewClock()
			clock.Advance(start.Sub(clock.Now()))
			a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: of.zone}, nil)
			truth := map[string]time.Time{}
			for i := range 200 {
				truth[mustEdit(t, a.twin, "contact", "", map[string]any{"lastName": "Anders"})] = clock.Now()
				clock.Advance(9*time.Minute + time.Duration(i%7)*time.Second)
			}
			members := func(spans ...platform.Span) []string {
				var ids []string
				for id, at := range truth {
					if platform.Held(spans, at) {
						ids = append(ids, id)
					}
				}
				slices.Sort(ids)
				return ids
			}
			check := func(within []platform.Span, width, widest time.Duration) []platform.Count {
				t.Helper()
				got, err := a.Census(t.Context(), "contact", within, width)
				if err != nil {
					t.Fatal(err)
				}
				total, wide := 0, time.Duration(0)
				for _, c := range got {
					if want := members(c.Span); len(want) != c.Records {
						t.Errorf("%s to %s: %d records, want %d", c.From, c.To, c.Records, len(want))
					}
					total += c.Records
					wide = max(wide, c.To.Sub(c.From))
				}
				if len(within) == 0 && total != len(truth) {
					t.Errorf("%d records in buckets of %s, want %d", total, width, len(truth))
				}
				if widest > 0 && wide != widest {
					t.Errorf("the widest bucket of %s has %s, want %s", width, wide, widest)
				}
				return got
			}
			list := func(spans ...platform.Span) []record.Native {
				page, err := a.Within(t.Context(), "contact", spans, "")
				if err != nil || page.More {
					t.Fatal(err)
				}
				return page.Natives
			}
			for _, hour := range check(nil, platform.Hour, of.widest) {
				var ids []string
				for _, n := range list(hour.Span) {
					ids = append(ids, n.ID)
					if n.Hint() || !n.Version.At.Equal(truth[n.ID].Truncate(time.Second)) {
						t.Errorf("%s is of %s, want %s", n.ID, n.Version.At, truth[n.ID])
					}
				}
				slices.Sort(ids)
				if want := members(hour.Span); !slices.Equal(ids, want) {
					t.Errorf("%s to %s lists %v, want %v", hour.From, hour.To, ids, want)
				}
			}
			for _, day := range check(nil, platform.Day, of.days) {
				check([]platform.Span{day.Span}, platform.Hour, 0)
			}
			for i := range 30 { // spans that begin and end anywhere
				from := start.Add(time.Duration(i) * 53 * time.Minute)
				span := platform.Span{From: from, To: from.Add(time.Duration(1+i%5) * 20 * time.Minute)}
				total := 0
				for _, c := range check([]platform.Span{span}, platform.Hour, 0) {
					total += c.Records
				}
				if want := len(members(span)); total < want {
					t.Errorf("%s to %s: %d records are counted, want at least %d", span.From, span.To, total, want)
				}
				listed := map[string]bool{}
				for _, n := range list(span) {
					listed[n.ID] = true
					if n.Hint() || !span.Holds(truth[n.ID]) {
						t.Errorf("%s of %s is listed for %s to %s", n.ID, truth[n.ID], span.From, span.To)
					}
				}
				for _, id := range members(span) {
					if !listed[id] {
						t.Errorf("%s of %s is not listed for %s to %s", id, truth[id], span.From, span.To)
					}
				}
			}
		})
	}
}

// A zone that is not the one in which SuiteQL prints is noticed where it dates records in the future.
func TestCensusInTheWrongZone(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Asia/Tokyo"}, func(c *netsuite.Config) { c.AccountZone = "" })
	mustEdit(t, a.twin, "contact", "", map[string]any{"lastName": "Anders"})
	clock.Advance(2 * time.Hour)
	if _, err := a.Census(t.Context(), "contact", nil, platform.Hour); !fault.Is(err, fault.Contract) {
		t.Errorf("hours: %v, want a broken contract", err)
	}
	if _, err := a.Within(t.Context(), "contact", nil, ""); !fault.Is(err, fault.Contract) {
		t.Errorf("listing: %v, want a broken contract", err)
	}
}

func TestCensusAnswersAreChecked(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw, err := netsuitetwin.New(netsuitetwin.Options{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	within := []platform.Span{{From: clock.Now().Add(-72 * time.Hour).Truncate(platform.Day), To: clock.Now()}}
	for name, items := range map[string]string{
		"negative": `{"d":"2026-11-01","n":"-1","s":"5"}`, "a fraction": `{"d":"2026-11-01","n":"1.5","s":"5"}`, "text": `{"d":"2026-11-01","n":"many","s":"5"}`, "no number": `{"d":"2026-11-01","s":"5"}`,
		"no sum of ids": `{"d":"2026-11-01","n":"1","s":"x"}`, "a negative sum": `{"d":"2026-11-01","n":"1","s":"-5"}`, "no day": `{"d":"01.11.2026","n":"1","s":"5"}`,
		"twice": `{"d":"2026-11-01","n":"1","s":"5"},{"d":"2026-11-01","n":"1","s":"5"}`, "out of order": `{"d":"2026-11-01","n":"1","s":"5"},{"d":"2026-10-31","n":"1","s":"5"}`,
		"not asked for": `{"d":"2026-10-01","n":"1","s":"5"}`,
	} {
		c, err := netsuite.New(netsuite.Config{URL: "https://netsuite.test", Now: clock.Now, Credentials: tw.Credentials(), Transport: canned{[]byte(`{"hasMore":false,"items":[` + items + `]}`), 200}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Census(t.Context(), "customer", within, platform.Day); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v, %v; want a broken contract", name, got, err)
		}
	}
}

// A result has 1,000 rows a page: the next query goes on behind the last bucket.
func TestCensusOfManyHours(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now, Zone: "Europe/Zurich"}, nil)
	const hours = 1100
	for range hours {
		mustEdit(t, a.twin, "contact", "", map[string]any{"lastName": "Anders"})
		clock.Advance(time.Hour)
	}
	got, err := a.Census(t.Context(), "contact", nil, platform.Hour)
	if err != nil || len(got) != hours {
		t.Fatalf("%d hours, %v; want %d", len(got), err, hours)
	}
	for _, n := range got {
		if n.Records != 1 {
			t.Errorf("%d of %s", n.Records, n.From)
		}
	}
}

func FuzzCensus(f *testing.F) {
	now := platformtest.NewClock().Now
	tw, err := netsuitetwin.New(netsuitetwin.Options{Now: now})
	if err != nil {
		f.Fatal(err)
	}
	const account = "https://netsuite.test"
	platformtest.FuzzCensus(f, account, "contact", "7", func(transport http.RoundTripper) (platformtest.Connector, error) {
		return netsuite.New(netsuite.Config{URL: account, Now: now, AccountZone: "Europe/Zurich", Credentials: tw.Credentials(), Transport: transport})
	}, `{"hasMore":false,"items":[{"d":"2026-11-01","n":"5","s":"60"},{"d":"2026-11-02","n":"1","s":"7"}]}`, `{"hasMore":false,"items":[{"n":"5","s":"60"}]}`, `{"hasMore":true,"items":[{"d":"2026-11-01T05","n":"5","s":"60"}]}`,
		`{"hasMore":false,"items":[{"id":"7","modified":"2026-11-02T00:00:00","rev":"1"}]}`, `{"hasMore":true,"items":[{"id":"8","modified":"2026-11-02T00:00:00"},{"id":"7","modified":"2026-11-02T00:00:00"}]}`,
		`{"hasMore":false,"items":[{"id":"7","modified":"2026-10-25T02:30:00"}]}`)
}

// Items are counted and listed like the rest, though SuiteQL alone knows them.
func TestCensusOfItems(t *testing.T) {
	t.Parallel()
	platformtest.Census(t, platformtest.Harness{Name: "item", New: func(t *testing.T, now func() time.Time) platformtest.World {
		a := open(t, netsuitetwin.Options{Now: now, Zone: "America/New_York"}, func(c *netsuite.Config) { c.PageSize = 40 })
		mustEdit(t, a.twin, "item", "", map[string]any{"itemId": "Discount", "itemType": "Discount"}) // nothing that is sold
		return platformtest.World{Connector: a.Connector, Twin: a.twin, Object: "item", PageSize: 40, UnknownID: "999999", Change: map[string]any{"displayName": "Chang"},
			Fields: func(n int) map[string]any {
				return map[string]any{"itemId": fmt.Sprint("CH-", n), "displayName": "Chai", "price": map[string]any{"items": []any{price("1", "1", 0, 18)}}}
			}}
	}})
}

func TestPageTwice(t *testing.T) {
	t.Parallel()
	tw, err := netsuitetwin.New(netsuitetwin.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	const account = "https://netsuite.test"
	platformtest.PageTwice(t, account, "contact", `{"hasMore":true,"items":[{"id":"7","modified":"2026-11-02T00:00:00","rev":"1"}]}`, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return netsuite.New(netsuite.Config{URL: account, Now: platformtest.NewClock().Now, Credentials: tw.Credentials(), Transport: transport})
	})
}
