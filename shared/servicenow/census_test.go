package servicenow_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

// listed walks a listing by id.
func listed(t *testing.T, c *servicenow.Connector, within []platform.Span) (ids []string, pages int) {
	t.Helper()
	for cursor, more := "", true; more; pages++ {
		p, err := c.Within(t.Context(), servicenow.Account, within, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			ids = append(ids, n.ID)
		}
		if cursor, more = p.Cursor, p.More; pages > 100 {
			t.Fatal("the listing does not end")
		}
	}
	return ids, pages
}

// Pages of nothing but hidden rows do not end a listing. What is hidden is not counted in silence: the vendor refuses.
func TestCensusOfHiddenRecords(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, nil)
	var all []string
	for i := range 90 {
		id, err := tw.Edit(servicenow.Account, "", map[string]any{"name": fmt.Sprint("A", i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, id)
	}
	ids, _ := listed(t, c, nil)
	if len(ids) != len(all) {
		t.Fatalf("%d of %d are listed", len(ids), len(all))
	}
	for _, id := range ids[20:65] {
		tw.Hide(servicenow.Account, id, true)
	}
	if some, _ := listed(t, c, nil); len(some) != 45 {
		t.Errorf("%d of 45 are listed beside hidden ones", len(some))
	}
	if _, err := c.Census(t.Context(), servicenow.Account, nil, 0); !fault.Is(err, fault.Refused) {
		t.Errorf("counting what is hidden: %v, want a refusal", err)
	}
	if _, err := c.Census(t.Context(), servicenow.Account, nil, platform.Day); !fault.Is(err, fault.Contract) {
		t.Errorf("days without an end: %v, want a refusal", err)
	}
}

func TestCensusInOtherTimeZoneIsRefused(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now, Zone: time.FixedZone("x", -5*3600)}, nil)
	fill(t, tw, 1)
	within := []platform.Span{{From: clock.Now().Add(-time.Hour)}}
	for what, do := range map[string]func() error{
		"census":  func() error { _, err := c.Census(t.Context(), servicenow.Account, within, 0); return err },
		"within":  func() error { _, err := c.Within(t.Context(), servicenow.Account, within, ""); return err },
		"deleted": func() error { _, err := c.Deleted(t.Context(), servicenow.Account, clock.Now(), ""); return err },
	} {
		if err := do(); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "GMT") {
			t.Errorf("%s: %v, want a refusal that names the zone", what, err)
		}
	}
}

// A record that somebody took back out of the table of deletions is there.
func TestDeletionsThatWereTakenBack(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
	back, err := tw.Edit(servicenow.Account, "", map[string]any{"name": "Back"})
	if err != nil {
		t.Fatal(err)
	}
	const lost = "0123456789abcdef0123456789abcdef"
	rows := ""
	c := between(t, tw, func(cfg *servicenow.Config) { cfg.Now = clock.Now }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !strings.Contains(r.URL.Path, "sys_audit_delete") {
			pass.ServeHTTP(w, r)
			return
		}
		_, _ = w.Write([]byte(`{"result":[` + rows + `]}`))
	})
	row := func(sys, table, key, at string) string {
		return fmt.Sprintf(`{"sys_id":"%032s","tablename":%q,"documentkey":%q,"sys_created_on":%q,"sys_created_by":"alice"}`, sys, table, key, at)
	}
	since := time.Date(2026, 11, 2, 7, 0, 0, 0, time.UTC)
	rows = row("1", "customer_account", lost, "2026-11-02 07:10:00") + "," + row("2", "customer_account", back, "2026-11-02 07:20:00") + "," + row("3", "customer_account", lost, "2026-11-02 07:30:00")
	page, err := c.Deleted(t.Context(), servicenow.Account, since, "")
	if err != nil || page.More || len(page.Natives) != 1 {
		t.Fatalf("%+v, %v; want one deletion", page, err)
	}
	want := record.Native{Ref: ref(lost), Gone: true, Actor: "alice"}
	want.Version = record.Version{At: since.Add(30 * time.Minute)}
	if n := page.Natives[0]; n.Ref != want.Ref || !n.Gone || n.Version.Compare(record.Version{At: want.Version.At, Final: n.Version.Final}) != 0 {
		t.Errorf("%+v, want %+v", n, want)
	}
	for what, bad := range map[string]string{
		"another table": row("1", "incident", lost, "2026-11-02 07:10:00"), "too old": row("1", "customer_account", lost, "2026-11-02 06:59:59"), "no time": row("1", "customer_account", lost, ""),
		"no key": row("1", "customer_account", "x", "2026-11-02 07:10:00"), "no id": `{}`,
		"out of order": row("2", "customer_account", lost, "2026-11-02 07:10:00") + "," + row("1", "customer_account", lost, "2026-11-02 07:10:00"),
	} {
		rows = bad
		if page, err := c.Deleted(t.Context(), servicenow.Account, since, ""); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %+v, %v; want a broken contract", what, page, err)
		}
	}
}

func TestCensusAnswersAreChecked(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
	fill(t, tw, 3)
	answer := ""
	c := between(t, tw, func(cfg *servicenow.Config) { cfg.Now = clock.Now }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !strings.Contains(r.URL.Path, "/stats/") {
			pass.ServeHTTP(w, r)
			return
		}
		_, _ = w.Write([]byte(answer))
	})
	for _, answer = range []string{`{}`, `{"result":[]}`, `{"result":{"stats":{}}}`, `{"result":{"stats":{"count":"-1"}}}`, `{"result":{"stats":{"count":"1.5"}}}`, `{"result":{"stats":{"count":"many"}}}`,
		`{"result":{"stats":{"count":"99999999999999999999"}}}`, `{"result":{"stats":{"count":"3","sum":{"sys_mod_count":"-4"}}}}`, `{"result":{"stats":{"count":"3","sum":{"sys_mod_count":"x"}}}}`} {
		if got, err := c.Census(t.Context(), servicenow.Account, nil, 0); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v, %v; want a broken contract", answer, got, err)
		}
	}
	answer = `{"result":{"stats":{"count":"0","sum":{"sys_mod_count":""}}}}`
	if got, err := c.Census(t.Context(), servicenow.Account, nil, 0); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, cursor := range []string{`{"v":1}`, `{"v":1,"of":"x","after":"y"}`, `[]`} {
		if _, err := c.Within(t.Context(), servicenow.Account, nil, cursor); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v", cursor, err)
		}
	}
}

func FuzzCensus(f *testing.F) {
	now := platformtest.NewClock().Now
	const instance = "https://acme.service-now.com"
	platformtest.FuzzCensus(f, instance, servicenow.Account, "ba325dbe64f01300964fae39b050e9a6", func(transport http.RoundTripper) (platformtest.Connector, error) {
		return servicenow.New(servicenow.Config{URL: instance, Now: now, Credentials: servicenow.Credentials{Username: "u", Password: "p"}, Transport: transport})
	}, `{"result":{"stats":{"count":"5","sum":{"sys_mod_count":"12"}}}}`, `{"result":{"stats":{"count":"-5"}}}`, `{"result":[]}`,
		`{"result":[{"sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_updated_on":"2026-11-02 00:00:00","sys_mod_count":"0"}]}`,
		`{"result":[{"sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_updated_on":"2026-12-02 00:00:00","sys_mod_count":"0"}]}`,
		`{"result":[{"sys_id":"ba325dbe64f01300964fae39b050e9a6","tablename":"customer_account","documentkey":"ba325dbe64f01300964fae39b050e9a7","sys_created_on":"2026-11-02 00:00:00","sys_updated_on":"2026-11-02 00:00:00","sys_mod_count":"0"}]}`)
}

func TestPageTwice(t *testing.T) {
	t.Parallel()
	const instance = "https://acme.service-now.com"
	row := func(id string) string {
		return fmt.Sprintf(`{"sys_id":"%032s","sys_updated_on":"2026-11-02 00:00:00","sys_mod_count":"0"}`, id)
	}
	platformtest.PageTwice(t, instance, servicenow.Account, `{"result":[`+row("1")+`,`+row("2")+`]}`, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return servicenow.New(servicenow.Config{URL: instance, Now: platformtest.NewClock().Now, PageSize: 2, Credentials: servicenow.Credentials{Username: "u", Password: "p"}, Transport: transport})
	})
}

func TestAddressesAreNotTooLong(t *testing.T) {
	t.Parallel()
	const instance = "https://acme.service-now.com"
	platformtest.Longest(t, instance, servicenow.Account, `{"result":[]}`, 8192, func(n int) string { return fmt.Sprintf("%032x", n) }, func(transport http.RoundTripper) (platformtest.Connector, error) {
		return servicenow.New(servicenow.Config{URL: instance, Now: platformtest.NewClock().Now, Credentials: servicenow.Credentials{Username: "u", Password: "p"}, Transport: transport})
	})
}
