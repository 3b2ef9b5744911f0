package platformtest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// FuzzCensus feeds one answer after the other to everything of Counter. connect makes a connector to url over a transport.
// Whatever an answer holds, it becomes counts that can be, natives that name a record of object with a version, or an error
// with a class.
func FuzzCensus(f *testing.F, url, object, id string, connect func(transport http.RoundTripper) (Connector, error), seeds ...string) {
	for _, body := range append(seeds, "", "null", "{}", "[]", "<html>", "\xff\xfe{\x00", strings.Repeat(`{"a":[`, 100)) {
		for _, status := range []int{200, 400, 403, 500} {
			f.Add(status, []byte(body))
		}
	}
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	within := []platform.Span{{From: since, To: since.Add(48 * time.Hour)}}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c, err := connect(canned{url, status, body})
		if err != nil {
			t.Fatal(err)
		}
		failed := func(op string, err error) bool {
			if err != nil && fault.ClassOf(err) == "" {
				t.Errorf("%s: an error without class: %v", op, err)
			}
			if err == nil && status >= 300 {
				t.Errorf("%s: status %d is no error", op, status)
			}
			return err != nil
		}
		sound := func(op string, natives []record.Native) {
			for _, n := range natives {
				if n.ID == "" || n.Object != object || !n.Hint() && n.Version.At.IsZero() || n.Gone && n.Fields != nil {
					t.Errorf("%s: %+v", op, n)
				}
			}
		}
		for _, width := range []time.Duration{0, platform.Hour, platform.Day} {
			for _, spans := range [][]platform.Span{nil, within} {
				counts, err := c.Census(t.Context(), object, spans, width)
				if failed("census", err) {
					continue
				}
				for i, n := range counts {
					if n.Records <= 0 || n.Sum < 0 || i > 0 && n.From.Before(counts[i-1].To) || len(spans) > 0 && (n.From.Before(within[0].From) || n.To.After(within[0].To)) {
						t.Errorf("%v of %v is counted as %+v", width, spans, counts)
					}
				}
			}
		}
		for _, spans := range [][]platform.Span{nil, within} {
			if page, err := c.Within(t.Context(), object, spans, ""); !failed("within", err) {
				sound("within", page.Natives)
				if page.Cursor == "" {
					t.Error("within: no cursor")
				}
				for _, n := range page.Natives {
					if n.Gone || len(spans) > 0 && !n.Hint() && !platform.Held(within, n.Version.At) {
						t.Errorf("within: %+v was not asked for", n)
					}
				}
			}
		}
		if page, err := c.Deleted(t.Context(), object, since, ""); !failed("deleted", err) {
			sound("deleted", page.Natives)
			for _, n := range page.Natives {
				if !n.Gone || n.Version.At.Before(since) {
					t.Errorf("deleted: %+v", n)
				}
			}
		}
		if natives, err := c.Among(t.Context(), object, []string{id}); !failed("among", err) {
			sound("among", natives)
			if len(natives) > 1 || len(natives) == 1 && natives[0].ID != id {
				t.Errorf("among: %+v, asked for %s", natives, id)
			}
		}
	})
}

// canned signs everybody in and answers all calls alike.
type canned struct {
	url    string
	status int
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, body []byte) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
	}
	if strings.Contains(r.URL.Path, "token") {
		return answer(http.StatusOK, []byte(`{"access_token":"a","instance_url":"`+c.url+`","scope":"read write","expires_in":7200}`))
	}
	return answer(c.status, c.body)
}

// PageTwice demands that a listing notices a page that it was given already. page is a whole answer to a listing that says that
// there is more.
func PageTwice(t *testing.T, url, object, page string, connect func(transport http.RoundTripper) (Connector, error)) {
	t.Helper()
	c, err := connect(canned{url, http.StatusOK, []byte(page)})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Within(t.Context(), object, nil, "")
	if err != nil || !first.More || len(first.Natives) == 0 {
		t.Fatalf("%+v, %v; want a page of several", first, err)
	}
	if second, err := c.Within(t.Context(), object, nil, first.Cursor); !fault.Is(err, fault.Contract) {
		t.Errorf("the same page again: %+v, %v; want a broken contract", second, err)
	}
}

// Longest demands that no address of a call is longer than most characters, however many spans and ids are asked for. connect
// makes a connector to url over a transport; each answer is empty, a page of nothing.
func Longest(t *testing.T, url, object, empty string, most int, id func(n int) string, connect func(transport http.RoundTripper) (Connector, error)) {
	t.Helper()
	long := &longest{canned: canned{url, http.StatusOK, []byte(empty)}}
	c, err := connect(long)
	if err != nil {
		t.Fatal(err)
	}
	var spans []platform.Span
	var ids []string
	for n := range 2500 {
		from := time.Date(2026, 1, 1, 2*n, 0, 0, 0, time.UTC)
		spans, ids = append(spans, platform.Span{From: from, To: from.Add(time.Hour)}), append(ids, id(n))
	}
	for cursor, more := "", true; more; {
		page, err := c.Within(t.Context(), object, spans, cursor)
		if err != nil {
			t.Fatal(err)
		}
		cursor, more = page.Cursor, page.More
	}
	if _, err := c.Among(t.Context(), object, ids); err != nil {
		t.Fatal(err)
	}
	if long.most > most || long.most < most/3 {
		t.Errorf("the longest address has %d characters; at most %d should be used, and not much less", long.most, most)
	}
}

// longest remembers the longest address.
type longest struct {
	canned
	most int
}

func (l *longest) RoundTrip(r *http.Request) (*http.Response, error) {
	l.most = max(l.most, len(r.URL.String()))
	return l.canned.RoundTrip(r)
}
