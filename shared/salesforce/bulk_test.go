package salesforce_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

// all lists from a cursor to the end: what came, newest last, and where it ended. A page that stays is asked for again.
func all(t *testing.T, c *salesforce.Connector, object, cursor string) (map[string]record.Native, string, int) {
	t.Helper()
	out := map[string]record.Native{}
	for pages := 1; ; pages++ {
		page, err := c.Changes(t.Context(), object, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.Natives {
			out[n.ID] = n
		}
		if cursor = page.Cursor; !page.More {
			return out, cursor, pages
		}
		if pages > 100 {
			t.Fatal("it does not end")
		}
	}
}

// A load by a job brings the very same as the listing by queries, and then what has changed since; from each of its cursors it goes on.
func TestBulkBringsTheSame(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) { cfg.Page = 2 })
	var ids []string
	for i := range 23 {
		ids = append(ids, edit(t, twin, "Account", "", map[string]any{"Name": fmt.Sprintf("Åkerlund, \"Søn\" & %d", i), "BillingStreet": "Obere Str. 57\nHinterhaus", "ERP_Overdue_Balance__c": 12.5, "ERP_Active__c": i%2 == 0,
			"Sorrel_Id__c": fmt.Sprint("customer-", i)}))
		edit(t, twin, "Order", "", map[string]any{"AccountId": ids[i], "EffectiveDate": "2026-11-02", "Status": "Draft", "ERP_Total__c": 440.5})
		clock.Advance(time.Second)
	}
	edit(t, twin, "Contact", "", map[string]any{"LastName": "Nobody's"})
	edit(t, twin, "Case", "", map[string]any{"Subject": "A", "Support_Opened_On__c": "2026-11-02T08:15:20.000+0000", "SLA_Breached__c": true})
	if err := twin.Merge("Account", ids[1], ids[2]); err != nil {
		t.Fatal(err)
	}
	if err := twin.Delete("Account", ids[3]); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	for _, object := range []string{"Account", "Order", "Contact", "Case", "Task", "Invoice__c"} {
		byQuery, _, _ := all(t, c, object, "")
		byJob, end, _ := all(t, c, object, c.Bulk(object))
		if !slices.Equal(slices.Sorted(maps.Keys(byQuery)), slices.Sorted(maps.Keys(byJob))) {
			t.Errorf("%s: %d by query, %d by job", object, len(byQuery), len(byJob))
		}
		for id, n := range byQuery {
			if got := byJob[id]; !reflect.DeepEqual(got, n) {
				t.Errorf("%s %s: by job\n%+v %v, by query\n%+v %v", object, id, got, got.Fields, n, n.Fields)
			}
		}
		if again, _, _ := all(t, c, object, end); len(again) != 0 {
			t.Errorf("%s: %d more", object, len(again))
		}
	}

	// Somebody works on while it is listed, and whoever reads dies and goes on.
	cursor, got, late := c.Bulk("Account"), map[string]record.Native{}, ""
	for pages := 0; ; pages++ {
		page, err := c.Changes(t.Context(), "Account", cursor)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := c.Changes(t.Context(), "Account", cursor); page.Natives != nil && (err != nil || !reflect.DeepEqual(again, page)) {
			t.Errorf("from one cursor: %v and %v, %v", page.Natives, again.Natives, err)
		}
		for _, n := range page.Natives {
			got[n.ID] = n
		}
		switch pages {
		case 1:
			late = edit(t, twin, "Account", "", map[string]any{"Name": "Late"})
		case 4:
			edit(t, twin, "Account", ids[0], map[string]any{"Name": "Changed"})
		}
		clock.Advance(time.Second)
		if cursor = page.Cursor; !page.More {
			break
		}
	}
	if len(got) != 24 || got[ids[0]].Fields["Name"] != "Changed" || got[late].Fields["Name"] != "Late" {
		t.Errorf("%d, %v", len(got), got[ids[0]].Fields)
	}
}

// A result that the vendor has thrown away is asked for anew; a job that an administrator ends is told with a remedy.
func TestBulkJobIsGone(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) { cfg.Page = 1 })
	for i := range 12 {
		edit(t, twin, "Account", "", map[string]any{"Name": fmt.Sprint("A", i)})
	}
	clock.Advance(time.Minute)
	cursor := c.Bulk("Account")
	for range 4 { // made, looked at twice, a part read
		page, err := c.Changes(t.Context(), "Account", cursor)
		if err != nil || !page.More {
			t.Fatal(page, err)
		}
		cursor = page.Cursor
	}
	twin.ForgetJobs()
	if got, _, _ := all(t, c, "Account", cursor); len(got) != 12 {
		t.Errorf("%d", len(got))
	}
	page, err := c.Changes(t.Context(), "Account", c.Bulk("Account"))
	if err != nil {
		t.Fatal(err)
	}
	twin.AbortJobs()
	if _, err = c.Changes(t.Context(), "Account", page.Cursor); fault.Outermost(err) == nil || !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "Aborted") {
		t.Error(err)
	}
}

// bending is a gateway that alters answers.
type bending struct {
	http.Handler
	bend func(r *http.Request, answer *httptest.ResponseRecorder)
}

func (b bending) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	b.Handler.ServeHTTP(answer, r)
	b.bend(r, answer)
	maps.Copy(w.Header(), answer.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// A result of which a part is cut, left out or comes twice is never taken for whole.
func TestBulkResultThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, bend := range map[string]func(parts int, r *http.Request, answer *httptest.ResponseRecorder){
		"cut": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) { a.Body.Truncate(a.Body.Len() - 30) },
		"a line less": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) {
			b := a.Body.Bytes()
			a.Body.Truncate(strings.LastIndexByte(strings.TrimSpace(string(b)), '\n') + 1)
		},
		"another's": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) {
			b := strings.Replace(a.Body.String(), "Name", "Fame", 1)
			a.Body.Reset()
			a.Body.WriteString(b)
		},
		"a page": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) {
			a.Body.Reset()
			a.Body.WriteString("<html>")
		},
		"ends early": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) { a.Header().Set("Sforce-Locator", "null") },
		"no locator": func(_ int, _ *http.Request, a *httptest.ResponseRecorder) { a.Header().Del("Sforce-Locator") },
		"the same again": func(n int, r *http.Request, a *httptest.ResponseRecorder) {
			if n > 1 {
				a.Header().Set("Sforce-Locator", r.URL.Query().Get("locator"))
			}
		},
		"skips a part": func(n int, _ *http.Request, a *httptest.ResponseRecorder) {
			if n == 1 {
				a.Header().Set("Sforce-Locator", "L10")
			}
		},
		"a part too often": func(n int, _ *http.Request, a *httptest.ResponseRecorder) {
			if n == 3 {
				a.Header().Set("Sforce-Locator", "L5")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			_, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
			for i := range 17 {
				edit(t, twin, "Account", "", map[string]any{"Name": fmt.Sprint("A", i)})
			}
			clock.Advance(time.Minute)
			parts := 0
			server := httptest.NewServer(bending{twin.Handler(), func(r *http.Request, a *httptest.ResponseRecorder) {
				if strings.HasSuffix(r.URL.Path, "/results") && a.Code == http.StatusOK {
					parts++
					bend(parts, r, a)
				}
			}})
			t.Cleanup(server.Close)
			c, err := salesforce.New(salesforce.Config{URL: server.URL, Credentials: twin.Credentials(), Now: clock.Now, Page: 1})
			if err != nil {
				t.Fatal(err)
			}
			cursor := c.Bulk("Account")
			for range 12 {
				var page platform.Page
				if page, err = c.Changes(t.Context(), "Account", cursor); err != nil {
					break
				}
				if cursor = page.Cursor; !page.More {
					t.Fatal("taken for whole")
				}
			}
			if !fault.Is(err, fault.Down) && !fault.Is(err, fault.Contract) {
				t.Errorf("%v", err)
			}
		})
	}
}

// FuzzBulkRows: whatever a vendor answers to a bulk listing, it is an error or records.
func FuzzBulkRows(f *testing.F) {
	f.Add("Id,SystemModstamp\n001xx0000000001AAA,2026-11-02T08:15:20.000Z\n", "null", "1")
	f.Add("\"Id\n", "L1", "0")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, body, locator, rows string) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				_, _ = fmt.Fprintf(w, `{"access_token":"t","instance_url":"http://%s"}`, r.Host)
				return
			}
			for name, v := range map[string]string{"Sforce-Locator": locator, "Sforce-NumberOfRecords": rows} {
				if !strings.ContainsAny(v, "\r\n\x00") {
					w.Header().Set(name, v)
				}
			}
			_, _ = w.Write([]byte(body))
		}))
		defer server.Close()
		c, err := salesforce.New(salesforce.Config{URL: server.URL, Credentials: salesforce.Credentials{ClientID: "a", ClientSecret: "b"}, Now: time.Now, Fields: map[string][]string{"Account": nil}})
		if err != nil {
			t.Fatal(err)
		}
		page, err := c.Changes(context.Background(), "Account", `{"v":1,"at":"2026-11-02T08:15:20Z","bulk":{"job":"750xx0000000001AAA","ready":true,"total":1}}`)
		for _, n := range page.Natives {
			if err != nil || len(n.ID) < 15 || n.Version.At.IsZero() {
				t.Errorf("%+v, %v", n, err)
			}
		}
	})
}
