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
		{"html from the edge", 502, "<html>Bad Gateway</html>", fault.Down, fault.Down},
		{"rare status", 520, "<html>", fault.Down, fault.Down},
		{"maintenance", 503, `[{"message":"x","errorCode":"SERVER_UNAVAILABLE"}]`, fault.Down, fault.Down},
		{"truncated error", 400, `[{"message":"x","errorCo`, fault.Refused, fault.Refused},
		{"truncated answer", 200, `{"done":true,"records":[{"Id":"001`, fault.Down, fault.Unknown},
		{"another kind of answer", 200, `{"success":false,"errors":[{"statusCode":"UNABLE_TO_LOCK_ROW"}]}`, fault.Down, fault.Conflict},
		{"success without id", 200, `{"success":true}`, fault.Down, fault.Unknown},
		{"html with 200", 200, "<html>Sign in</html>", fault.Down, fault.Unknown},
		{"several errors", 400, `[{"errorCode":"UNABLE_TO_LOCK_ROW","message":"a"},{"errorCode":"INVALID_FIELD","message":"b"}]`, fault.Conflict, fault.Conflict},
		{"redirect", 302, "", fault.Internal, fault.Internal},
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
	c, _ := scripted(t, 200, `[{"id":"001","success":true}]`)
	for _, w := range c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Object: "Account"}, External: "a"}, {Ref: record.Ref{Object: "Account"}, External: "b"}}) {
		if !fault.Is(w.Err, fault.Unknown) {
			t.Errorf("a collection with a row too few: %v", w.Err)
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

func TestUsage(t *testing.T) {
	t.Parallel()
	c := &Connector{}
	c.noteUsage(http.Header{"Sforce-Limit-Info": {"api-usage=18/5000; per-app-api-usage=17/250(appName=hub)"}})
	c.noteUsage(http.Header{"Sforce-Limit-Info": {"api-usage=many/5000"}})
	if got := c.Usage(); got != (Usage{18, 5000}) {
		t.Errorf("usage %+v", got)
	}
}
