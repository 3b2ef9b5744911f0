package zendesk_test

import (
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
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// scripted is a connector whose vendor answers what handle says.
func scripted(t *testing.T, handle http.HandlerFunc) *zendesk.Connector {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	c, err := zendesk.New(zendesk.Config{URL: srv.URL, Now: noon, Credentials: zendesk.Credentials{Email: "a@example.com", APIToken: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func orgRef(id string) record.Ref {
	return record.Ref{Platform: record.Zendesk, Object: zendesk.Organization, ID: id}
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for name, c := range map[string]struct {
		status            int
		body              string
		read, write       fault.Class
		code, says, field string
	}{
		"401 text":         {401, `{"error":"Couldn't authenticate you"}`, fault.Unauthenticated, fault.Unauthenticated, "Couldn't authenticate you", "credential", ""},
		"403 titled":       {403, `{"error":{"title":"Forbidden","message":"You do not have access to this page."}}`, fault.Refused, fault.Refused, "Forbidden", "scopes", ""},
		"404 feature":      {404, `{"error":"InvalidEndpoint","description":"Not found"}`, fault.Refused, fault.Refused, "InvalidEndpoint", "", ""},
		"404 record":       {404, `{"error":"RecordNotFound","description":"Not found"}`, fault.NotFound, fault.NotFound, "RecordNotFound", "", ""},
		"404 page":         {404, `<html>`, fault.Down, fault.Down, "404", "", ""},
		"409":              {409, `{"error":"UpdateConflict","description":"outdated"}`, fault.Conflict, fault.Conflict, "UpdateConflict", "outdated", ""},
		"413":              {413, ``, fault.TooLarge, fault.TooLarge, "413", "", ""},
		"429 text":         {429, `slow down`, fault.Throttled, fault.Throttled, "429", "", ""},
		"429 JSON":         {429, `{"error":"APIRateLimitExceeded","description":"Number of allowed API requests per minute exceeded"}`, fault.Throttled, fault.Throttled, "APIRateLimitExceeded", "", ""},
		"jobs":             {422, `{"error":"TooManyJobs","description":"x","current_job_ids":["a"]}`, fault.Throttled, fault.Throttled, "TooManyJobs", "", ""},
		"422 duplicate":    {422, `{"error":"RecordInvalid","description":"Record validation errors","details":{"name":[{"description":"Name: Acme has already been taken","error":"DuplicateValue"}]}}`, fault.Refused, fault.Refused, "DuplicateValue", "already been taken", "name"},
		"422 several":      {422, `{"error":"RecordInvalid","details":{"name":[{"description":"a","error":"BlankValue"}],"b":[{"error":"InvalidValue"}]}}`, fault.Refused, fault.Refused, "RecordInvalid", "", "b"},
		"422 odd details":  {422, `{"error":"RecordInvalid","details":{"base":"closed"}}`, fault.Refused, fault.Refused, "RecordInvalid", "", ""},
		"422 other":        {422, `{"error":"InvalidValue","description":"no"}`, fault.Refused, fault.Refused, "InvalidValue", "no", ""},
		"400 list":         {400, `{"errors":[{"code":"InvalidPaginationDepth","title":"t","detail":"d"}]}`, fault.Refused, fault.Refused, "InvalidPaginationDepth", "t: d", ""},
		"500":              {500, `{"status":500,"error":"Internal Server Error"}`, fault.Down, fault.Unknown, "Internal Server Error", "", ""},
		"502":              {502, `<html>`, fault.Down, fault.Unknown, "502", "", ""},
		"520":              {520, `<html>`, fault.Down, fault.Unknown, "520", "", ""},
		"503":              {503, `<html>`, fault.Down, fault.Down, "503", "", ""},
		"504":              {504, ``, fault.Down, fault.Unknown, "504", "", ""},
		"teapot":           {418, `{}`, fault.Internal, fault.Internal, "418", "", ""},
		"200 HTML":         {200, `<html>maintenance</html>`, fault.Down, fault.Unknown, "", "no JSON", ""},
		"200 truncated":    {200, `{"organization":{"id":1,"upd`, fault.Down, fault.Unknown, "", "no JSON", ""},
		"200 error inside": {200, `{"error":"RecordInvalid","details":{"name":[{"error":"BlankValue"}]}}`, fault.Refused, fault.Refused, "BlankValue", "", "name"},
		"200 odd error":    {200, `{"error":"Strange","organization":{"id":1,"updated_at":"2026-11-02T08:00:00Z"}}`, fault.Down, fault.Unknown, "Strange", "", ""},
		"200 other record": {200, `{"organization":{"id":2,"updated_at":"2026-11-02T08:00:00Z","external_id":"e"}}`, fault.Down, fault.Unknown, "", "another record", ""},
		"200 empty object": {200, `{}`, fault.Down, fault.Unknown, "", "lacks", ""},
		"200 no version":   {200, `{"organization":{"id":1}}`, fault.Contract, fault.Unknown, "", "updated_at", ""},
	} {
		conn := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, readErr := conn.Read(t.Context(), orgRef("1"))
		written := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}).Write(t.Context(), []platform.Write{{Ref: orgRef("1"), External: "e", Fields: map[string]any{"name": "x"}}})
		for what, got := range map[string]struct {
			err   error
			class fault.Class
		}{"read": {readErr, c.read}, "write": {written[0].Err, c.write}} {
			if !fault.Is(got.err, got.class) {
				t.Errorf("%s %s: %v is %s, want %s", name, what, got.err, fault.ClassOf(got.err), got.class)
				continue
			}
			for _, want := range []string{c.code, c.says, c.field} {
				if !strings.Contains(got.err.Error(), want) {
					t.Errorf("%s %s: %v does not say %q", name, what, got.err, want)
				}
			}
		}
		for _, r := range conn.Declaration().Errors {
			if (r.Status == 0 || r.Status == c.status) && (r.Code == "" || strings.Contains(c.body, r.Code)) {
				used[fmt.Sprint(r.Status, r.Code)] = true
				break
			}
		}
	}
	for _, r := range scripted(t, nil).Declaration().Errors {
		if !used[fmt.Sprint(r.Status, r.Code)] {
			t.Errorf("row %+v decided nothing here", r)
		}
	}
}

func TestRetryAfterAndEndpointLimit(t *testing.T) {
	t.Parallel()
	left := "10"
	conn := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v2/incremental/") || left == "0" {
			w.Header().Set("Retry-After", "42")
			w.Header().Set("X-Rate-Limit-Remaining", left)
			w.WriteHeader(429)
			return
		}
		_, _ = io.WriteString(w, `{"organization":{"id":1,"updated_at":"2026-11-02T08:00:00Z"}}`)
	})
	_, err := conn.Changes(t.Context(), zendesk.Organization, "")
	if !fault.Is(err, fault.Throttled) || !fault.RetryAt(err).Equal(noon().Add(42*time.Second)) {
		t.Fatalf("an endpoint over its limit: %v, retry at %v", err, fault.RetryAt(err))
	}
	if _, err := conn.Read(t.Context(), orgRef("1")); err != nil {
		t.Errorf("the exports' limit stopped a read: %v", err)
	}
	left = "0"
	_, _ = conn.Read(t.Context(), orgRef("1"))
	left = "10"
	if _, err := conn.Read(t.Context(), orgRef("1")); !fault.Is(err, fault.Throttled) {
		t.Errorf("the account's limit is used up, but the next read gave %v", err)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	clock := noon()
	tw := zendesktwin.New(zendesktwin.Options{Now: func() time.Time { return clock }})
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	connect := func(cr zendesk.Credentials) *zendesk.Connector {
		c, err := zendesk.New(zendesk.Config{URL: srv.URL, Credentials: cr, Now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	id, err := tw.Edit(zendesk.Organization, "", map[string]any{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	good := connect(tw.Credentials())
	for _, c := range []*zendesk.Connector{good, connect(tw.TokenCredentials())} {
		if _, err := c.Read(t.Context(), orgRef(id)); err != nil {
			t.Errorf("good credentials: %v", err)
		}
	}
	tw.ExpireTokens()
	if _, err := good.Read(t.Context(), orgRef(id)); err != nil {
		t.Errorf("a token that ended mid-run must be replaced: %v", err)
	}
	clock = clock.Add(3 * time.Hour)
	before := tw.Kit().Stats().Refused
	if _, err := good.Read(t.Context(), orgRef(id)); err != nil || tw.Kit().Stats().Refused != before {
		t.Errorf("a token at its end must be replaced before it is used: %v", err)
	}
	bad := tw.Credentials()
	bad.ClientSecret = "wrong-secret"
	if _, err := connect(bad).Read(t.Context(), orgRef(id)); !fault.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("wrong secret: %v", err)
	}
	token := tw.TokenCredentials()
	token.APIToken = "wrong"
	if _, err := connect(token).Read(t.Context(), orgRef(id)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("wrong API token: %v", err)
	}
	odd := tw.Credentials()
	odd.Scope = "organisations:read"
	if _, err := connect(odd).Read(t.Context(), orgRef(id)); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "scopes") {
		t.Errorf("a token for an unknown scope name: %v", err)
	}
	narrow := scriptedOAuth(t, `{"access_token":"x","token_type":"bearer","scope":"read"}`)
	if _, err := narrow.Read(t.Context(), orgRef(id)); !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), "[write]") {
		t.Errorf("a token with less scope than asked for: %v", err)
	}
}

func scriptedOAuth(t *testing.T, answer string) *zendesk.Connector {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, answer) }))
	t.Cleanup(srv.Close)
	c, err := zendesk.New(zendesk.Config{URL: srv.URL, Now: noon, Credentials: zendesk.Credentials{ClientID: "a", ClientSecret: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := zendesk.New(zendesk.Config{URL: "http://acme.zendesk.com", CustomObjects: []string{"no good"}, PageSize: 5000,
		Credentials: zendesk.Credentials{ClientID: "x", Email: "y", WebhookSecrets: []string{""}}})
	for _, want := range []string{"Now", "no good", "PageSize", "clientSecret", "apiToken", "webhookSecrets[0]", "https"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
	cr := zendesk.Credentials{ClientSecret: "hush"}
	if s := fmt.Sprintf("%v %+v %#v", cr, cr, cr); strings.Contains(s, "hush") {
		t.Errorf("credentials print their secret: %s", s)
	}
}
