package netsuite_test

import (
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
					if !n.Hint() && !n.Version.At.Equal(truth[n.ID].Truncate(time.Second)) {
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
					if !n.Hint() && !span.Holds(truth[n.ID]) {
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
