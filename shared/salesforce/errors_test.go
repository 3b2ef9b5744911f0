package salesforce

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

func fixed() time.Time { return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC) }

// scripted is a vendor that signs everybody in and answers calls with one fixed answer.
func scripted(t *testing.T, status int, body string) (*Connector, *int) {
	t.Helper()
	signIns := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			signIns++
			fmt.Fprintf(w, `{"access_token":"t%d","instance_url":"http://%s"}`, signIns, r.Host)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	c, err := New(Config{URL: s.URL, Now: fixed, Credentials: Credentials{ClientID: "c", ClientSecret: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	return c, &signIns
}

// Every row of the table is reached by an answer of its own, over HTTP and as a row of a collection.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	ref := record.Ref{Platform: record.Salesforce, Object: "Account", ID: "001xx000003DGb2AAG"}
	for _, row := range errorTable() {
		status, code := row.Status, row.Code
		if status == 0 {
			status = 400
		}
		if status == 400 && code == "" && row.Status == 0 {
			status, code = 418, "SOMETHING_NEW"
		}
		body := fmt.Sprintf(`[{"message":"so: %s","errorCode":%q,"fields":["Phone"]}]`, row.says, code)
		if row.Status == 300 {
			body = `["/services/data/v66.0/sobjects/Account/001"]`
		}
		t.Run(fmt.Sprint(row.Status, row.Code, row.says), func(t *testing.T) {
			t.Parallel()
			c, _ := scripted(t, status, body)
			_, err := c.Read(t.Context(), ref)
			if got := fault.ClassOf(err); string(got) != row.Class {
				t.Errorf("read: %v, want %s", err, row.Class)
			}
			if row.Class == string(fault.Throttled) && !fault.RetryAt(err).Equal(fixed().Add(row.pause)) {
				t.Errorf("retry at %v, want in %v", fault.RetryAt(err), row.pause)
			}
			if row.Status != 0 {
				return
			}
			c, _ = scripted(t, 200, fmt.Sprintf(`[{"success":false,"errors":[{"statusCode":%q,"message":"so: %s","fields":[]}]},{"id":"001xx000003DGb3AAG","success":true,"errors":[]}]`, code, row.says))
			out := c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Object: "Account"}, External: "a"}, {Ref: record.Ref{Object: "Account"}, External: "b"}})
			if got := fault.ClassOf(out[0].Err); string(got) != row.Class || out[1].Err != nil || out[1].ID == "" {
				t.Errorf("rows: %+v, want %s and success", out, row.Class)
			}
		})
	}
}

func TestAnswersThatAreNotTheAPIs(t *testing.T) {
	t.Parallel()
	ref := record.Ref{Platform: record.Salesforce, Object: "Account", ID: "001xx000003DGb2AAG"}
	for _, test := range []struct {
		name        string
		status      int
		body        string
		read, write fault.Class
	}{
		{"html from the edge", 502, "<html>Bad Gateway</html>", fault.Down, fault.Unknown},
		{"rare status", 520, "<html>", fault.Down, fault.Unknown},
		{"maintenance", 503, `[{"message":"x","errorCode":"SERVER_UNAVAILABLE"}]`, fault.Down, fault.Down},
		{"truncated error", 400, `[{"message":"x","errorCo`, fault.Refused, fault.Refused},
		{"truncated answer", 200, `{"done":true,"records":[{"Id":"001`, fault.Down, fault.Unknown},
		{"another kind of answer", 200, `{"success":false,"errors":[{"statusCode":"UNABLE_TO_LOCK_ROW"}]}`, fault.Down, fault.Conflict},
		{"success without id", 200, `{"success":true}`, fault.Down, fault.Unknown},
		{"html with 200", 200, "<html>Sign in</html>", fault.Down, fault.Unknown},
		{"several errors", 400, `[{"errorCode":"UNABLE_TO_LOCK_ROW","message":"a"},{"errorCode":"INVALID_FIELD","message":"b"}]`, fault.Conflict, fault.Conflict},
		{"redirect", 302, "", fault.Internal, fault.Internal},
		{"lasting redirect", 308, "", fault.Internal, fault.Internal},
		{"html with 404", 404, "<html>", fault.Down, fault.Down},
		{"neither success nor error", 200, `{}`, fault.Down, fault.Unknown},
		{"errors that say nothing", 200, `{"success":false,"errors":[{}]}`, fault.Down, fault.Unknown},
		{"success with errors", 200, `{"id":"001xx000003DGb2AAG","success":true,"errors":[{"statusCode":"X"}]}`, fault.Down, fault.Unknown},
		{"success with an id that is none", 200, `{"id":"<html>","success":true,"errors":[]}`, fault.Down, fault.Unknown},
		{"more after the answer", 200, `{"done":true,"records":[],"success":true,"id":"001xx000003DGb2AAG"}<html>`, fault.Down, fault.Unknown},
		{"a row that is none", 200, `{"done":true,"records":[null]}`, fault.Down, fault.Unknown},
		{"another record", 200, `{"done":true,"records":[{"Id":"001xx000003DGb3AAG","SystemModstamp":"2026-11-02T08:00:00.000+0000"}]}`, fault.Down, fault.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := scripted(t, test.status, test.body)
			if _, err := c.Read(t.Context(), ref); fault.ClassOf(err) != test.read {
				t.Errorf("read: %v, want %s", err, test.read)
			}
			if w := c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Object: "Account"}, External: "a"}}); fault.ClassOf(w[0].Err) != test.write {
				t.Errorf("write: %v, want %s", w[0].Err, test.write)
			}
		})
	}
}

// Rows of a collection are told apart by their place alone: an answer whose rows cannot be the records' says nothing
// of any of them, and one row that cannot be read says nothing of its record.
func TestRowsThatAreNotTheRecords(t *testing.T) {
	t.Parallel()
	const one, two, three = "001xx000003DGb2AAG", "001xx000003DGb3AAG", "001xx000003DGb4AAG"
	row := func(id string) string { return `{"id":"` + id + `","success":true,"errors":[]}` }
	refused := `{"success":false,"errors":[{"statusCode":"STRING_TOO_LONG","message":"m"}]}`
	unknown, done, no := fault.Unknown, fault.Class(""), fault.Refused
	for _, test := range []struct {
		name, body string
		first      fault.Class // by external id, by native id and deleted
		second     fault.Class
	}{
		{"all", "[" + row(one) + "," + row(two) + "]", done, done},
		{"one refused", "[" + row(one) + "," + refused + "]", done, no},
		{"too few", "[" + row(one) + "]", unknown, unknown},
		{"too many", "[" + row(one) + "," + row(two) + "," + row(three) + "]", unknown, unknown},
		{"none", "[]", unknown, unknown},
		{"null", "null", unknown, unknown},
		{"a null row", "[null," + row(two) + "]", unknown, done},
		{"an empty row", "[" + row(one) + ",{}]", done, unknown},
		{"a row of another kind", "[" + row(one) + ",[]]", unknown, unknown},
		{"one answer for all", row(one), unknown, unknown},
		{"an error for all", `[{"errorCode":"X","message":"m"}]`, unknown, unknown},
		{"success is text", `[{"id":"` + one + `","success":"true"},` + row(two) + "]", unknown, unknown},
	} {
		for kind, write := range map[string]func(id string) platform.Write{
			"external": func(id string) platform.Write {
				return platform.Write{Ref: record.Ref{Object: "Account"}, External: id}
			},
			"native": func(id string) platform.Write {
				return platform.Write{Ref: record.Ref{Object: "Account", ID: id}, External: id}
			},
			"delete": func(id string) platform.Write {
				return platform.Write{Ref: record.Ref{Object: "Account", ID: id}, Delete: true}
			},
		} {
			c, _ := scripted(t, 200, test.body)
			out := c.Write(t.Context(), []platform.Write{write(one), write(two)})
			for i, want := range []fault.Class{test.first, test.second} {
				if got := out[i].Err; (want == done) != (got == nil) || got != nil && !fault.Is(got, want) {
					t.Errorf("%s, %s: row %d is %v, want %q", test.name, kind, i, got, want)
				}
			}
		}
	}
	c, _ := scripted(t, 200, "["+row(two)+","+row(one)+"]")
	for _, w := range c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Object: "Account", ID: one}, External: "a"}, {Ref: record.Ref{Object: "Account", ID: two}, External: "b"}}) {
		if !fault.Is(w.Err, fault.Unknown) {
			t.Errorf("rows in another order: %+v", w)
		}
	}
}

func TestRefusedSessionSignsInOnce(t *testing.T) {
	t.Parallel()
	c, signIns := scripted(t, 401, `[{"message":"This session is not valid for use with the REST API","errorCode":"INVALID_SESSION_ID"}]`)
	_, err := c.Find(context.Background(), "Account", "x")
	if !fault.Is(err, fault.Unauthenticated) || *signIns != 2 {
		t.Errorf("%v after %d sign-ins, want unauthenticated after 2", err, *signIns)
	}
}

func TestCanonicalID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"001xx000003DGb2": "001xx000003DGb2AAG", "001xx000003DGb2AAG": "001xx000003DGb2AAG", "00Dxx0000001gER": "00Dxx0000001gEREAY",
		"": "", "001*": "", "001xx000003DGb2A": "", "001xx000003DGb'": "", "001xx000003DGbé": "",
	} {
		if got, ok := canonicalID(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}
