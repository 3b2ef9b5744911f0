package servicenow_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

func noon() time.Time { return time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC) }

const someID = "ba325dbe64f01300964fae39b050e9a6"

func ref(id string) record.Ref {
	return record.Ref{Platform: record.ServiceNow, Object: servicenow.Account, ID: id}
}

// scripted is a connector whose vendor answers what handle says.
func scripted(t *testing.T, handle http.HandlerFunc, change func(*servicenow.Config)) *servicenow.Connector {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	cfg := servicenow.Config{URL: srv.URL, Now: noon, Credentials: servicenow.Credentials{Username: "a", Password: "b"}}
	if change != nil {
		change(&cfg)
	}
	c, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	used := map[platform.ErrorRow]bool{}
	for name, c := range map[string]struct {
		status      int
		body        string
		read, write fault.Class
		code, says  string
	}{
		"401":              {401, `{"error":{"message":"User Not Authenticated","detail":"Required to provide Auth information"},"status":"failure"}`, fault.Unauthenticated, fault.Unauthenticated, "401", "credential"},
		"429":              {429, `{"error":{"message":"Rate limit exceeded","detail":"Rate limit of 10 requests per hour for Table API exceeded"},"status":"failure"}`, fault.Throttled, fault.Throttled, "429", "10 requests"},
		"too long":         {400, `{"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":"maximum execution time exceeded"},"status":"failure"}`, fault.Down, fault.Unknown, "execution-time", "exceeded"},
		"half a result":    {200, `{"result":[],"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":null},"status":"failure"}`, fault.Down, fault.Unknown, "execution-time", ""},
		"duplicate":        {403, `{"error":{"message":"Operation Failed","detail":"Unique Key violation detected by database ((conn=7) Duplicate entry 'x' for key 'u_sorrel_id')"},"status":"failure"}`, fault.Refused, fault.Refused, "unique-key", "u_sorrel_id"},
		"rule":             {403, `{"error":{"message":"Operation Failed","detail":"Operation against file 'customer_account' was aborted by Business Rule 'No^1'."},"status":"failure"}`, fault.Refused, fault.Refused, "business-rule", "No"},
		"policy":           {403, `{"error":{"message":"Operation Failed","detail":"Data Policy Exception: The following fields are mandatory: Name"},"status":"failure"}`, fault.Refused, fault.Refused, "data-policy", "Name"},
		"table":            {400, `{"error":{"message":"Invalid table customer_account","detail":null},"status":"failure"}`, fault.Refused, fault.Refused, "invalid-table", "infra/servicenow"},
		"import row":       {201, `{"result":[{"table":"customer_account","status":"error","error_message":"Target record not found"}]}`, fault.Down, fault.Refused, "", ""},
		"import oddity":    {201, `{"result":[{"table":"customer_account","status":"done","sys_id":"` + someID + `"}]}`, fault.Down, fault.Unknown, "", ""},
		"200 odd error":    {200, `{"error":{"message":"Strange"},"result":{}}`, fault.Down, fault.Unknown, "", "Strange"},
		"200 other record": {200, `{"result":{"sys_id":"` + strings.Repeat("0", 32) + `","sys_updated_on":"2026-11-02 08:00:00","sys_mod_count":"1"}}`, fault.Down, fault.Unknown, "", "another record"},
		"404 page":         {404, `<html>`, fault.Down, fault.Down, "404", "API's"},
		"403":              {403, `{"error":{"message":"Operation Failed","detail":"ACL Exception"},"status":"failure"}`, fault.Refused, fault.Refused, "403", "roles"},
		"404":              {404, `{"error":{"message":"No Record found","detail":"Record doesn't exist or ACL restricts the record retrieval"},"status":"failure"}`, fault.NotFound, fault.NotFound, "404", ""},
		"409":              {409, ``, fault.Conflict, fault.Conflict, "409", ""},
		"520":              {520, `<html>`, fault.Down, fault.Unknown, "520", ""},
		"413":              {413, ``, fault.TooLarge, fault.TooLarge, "413", ""},
		"400":              {400, `{"error":{"message":"Exception while reading request","detail":null},"status":"failure"}`, fault.Refused, fault.Refused, "400", "reading"},
		"400 scoped":       {400, `{"result":{"error":{"message":"Invalid payload"}}}`, fault.Refused, fault.Refused, "400", "Invalid payload"},
		"400 text":         {400, `{"error":"bad","error_description":"very"}`, fault.Refused, fault.Refused, "400", "bad: very"},
		"405":              {405, ``, fault.Internal, fault.Internal, "405", ""},
		"406":              {406, ``, fault.Internal, fault.Internal, "406", ""},
		"415":              {415, ``, fault.Internal, fault.Internal, "415", ""},
		"500":              {500, `{"error":{"message":"x","detail":null},"status":"failure"}`, fault.Down, fault.Unknown, "500", ""},
		"502":              {502, `<html>`, fault.Down, fault.Unknown, "502", ""},
		"503":              {503, `<html>`, fault.Down, fault.Down, "503", ""},
		"504":              {504, ``, fault.Down, fault.Unknown, "504", ""},
		"teapot":           {418, `{}`, fault.Internal, fault.Internal, "418", ""},
		"200 HTML":         {200, `<html>Your instance is hibernating</html>`, fault.Down, fault.Unknown, "", "no JSON"},
		"200 truncated":    {200, `{"result":{"sys_id":"ba3`, fault.Down, fault.Unknown, "", "no JSON"},
		"200 empty object": {200, `{}`, fault.Down, fault.Unknown, "", "result"},
		"200 no version":   {200, `{"result":{"sys_id":"` + someID + `"}}`, fault.Contract, fault.Unknown, "", "sys_updated_on"},
	} {
		status := c.status
		answer := func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}
		byImport := strings.HasPrefix(name, "import")
		write := platform.Write{Ref: ref(someID), External: "e", Fields: map[string]any{"name": "x"}}
		if byImport {
			write.Ref.ID = ""
		}
		_, readErr := scripted(t, answer, nil).Read(t.Context(), ref(someID))
		writing := func(w http.ResponseWriter, r *http.Request) {
			if byImport && r.Method == http.MethodGet { // a refused import looks who was first
				_, _ = io.WriteString(w, `{"result":[]}`)
				return
			}
			answer(w, r)
		}
		written := scripted(t, writing, func(cfg *servicenow.Config) { cfg.ImportSets = byImport }).Write(t.Context(), []platform.Write{write})
		for what, got := range map[string]struct {
			err   error
			class fault.Class
		}{"read": {readErr, c.read}, "write": {written[0].Err, c.write}} {
			if !fault.Is(got.err, got.class) {
				t.Errorf("%s %s: %v is %s, want %s", name, what, got.err, fault.ClassOf(got.err), got.class)
				continue
			}
			for _, want := range []string{c.code, c.says} {
				if !strings.Contains(got.err.Error(), want) {
					t.Errorf("%s %s: %v does not say %q", name, what, got.err, want)
				}
			}
		}
		var e *fault.Error
		if !errors.As(written[0].Err, &e) {
			t.Fatalf("%s: %v", name, written[0].Err)
		}
		for _, r := range scripted(t, nil, nil).Declaration().Errors {
			if c.status >= 300 || e.Code != "" {
				if r.Matches(status, e.Code) {
					used[r] = true
					break
				}
			}
		}
	}
	for _, r := range scripted(t, nil, nil).Declaration().Errors {
		if !used[r] {
			t.Errorf("row %+v decided nothing here", r)
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
	srv := httptest.NewServer(tw.Handler())
	t.Cleanup(srv.Close)
	connect := func(cr servicenow.Credentials) *servicenow.Connector {
		c, err := servicenow.New(servicenow.Config{URL: srv.URL, Credentials: cr, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	id, err := tw.Edit(servicenow.Account, "", map[string]any{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	good := connect(tw.Credentials())
	for _, c := range []*servicenow.Connector{good, connect(tw.BasicCredentials())} {
		if _, err := c.Read(t.Context(), ref(id)); err != nil {
			t.Errorf("good credentials: %v", err)
		}
	}
	tw.ExpireTokens()
	if _, err := good.Read(t.Context(), ref(id)); err != nil {
		t.Errorf("a token that ended mid-run must be replaced: %v", err)
	}
	// The vendor gives the same token again until its very end: asking on each call would be waste.
	clock.Advance(29*time.Minute + 30*time.Second)
	before := tw.Kit().Stats()
	for range 3 {
		if _, err := good.Read(t.Context(), ref(id)); err != nil {
			t.Error(err)
		}
	}
	if got := tw.Kit().Stats(); got.Calls-before.Calls != 4 || got.Refused != before.Refused {
		t.Errorf("3 reads in a token's last minute took %d calls", got.Calls-before.Calls)
	}
	clock.Advance(time.Minute)
	if _, err := good.Read(t.Context(), ref(id)); err != nil {
		t.Errorf("after the token's end: %v", err)
	}
	bad := tw.Credentials()
	bad.ClientSecret = "wrong-secret"
	if _, err := connect(bad).Read(t.Context(), ref(id)); !fault.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("wrong secret: %v", err)
	}
	basic := tw.BasicCredentials()
	basic.Password = "wrong"
	if _, err := connect(basic).Read(t.Context(), ref(id)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("wrong password: %v", err)
	}
	odd := scripted(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"scope":"useraccount"}`) },
		func(cfg *servicenow.Config) {
			cfg.Credentials = servicenow.Credentials{ClientID: "a", ClientSecret: "b"}
		})
	if _, err := odd.Read(t.Context(), ref(id)); !fault.Is(err, fault.Down) {
		t.Errorf("an answer without token: %v", err)
	}
}

func TestHourlyLimit(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now, Limits: servicenowtwin.Limits{PerHour: 3}}, nil)
	id, err := tw.Edit(servicenow.Account, "", map[string]any{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(10 * time.Minute)
	for i := range 5 {
		_, err := c.Read(t.Context(), ref(id))
		if i < 3 && err != nil || i >= 3 && !fault.Is(err, fault.Throttled) {
			t.Fatalf("read %d: %v", i, err)
		}
		if i == 3 && !fault.RetryAt(err).Equal(clock.Now().Add(time.Hour)) {
			t.Errorf("told to come back at %v, want the end of the hour", fault.RetryAt(err))
		}
	}
	if got := tw.Kit().Stats().OverLimit; got != 1 {
		t.Errorf("%d calls over the limit: the pause was not kept", got)
	}
	clock.Advance(time.Hour)
	if _, err := c.Read(t.Context(), ref(id)); err != nil {
		t.Errorf("in the next hour: %v", err)
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := servicenow.New(servicenow.Config{URL: "http://acme.service-now.com", PageSize: 50000,
		Credentials: servicenow.Credentials{ClientID: "x", Username: "y", WebhookSecrets: []string{""}}})
	for _, want := range []string{"Now", "PageSize", "clientSecret", "password", "webhookSecrets[0]", "https"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
	cr := servicenow.Credentials{ClientSecret: "hush", Password: "hush"}
	if s := fmt.Sprintf("%v %+v %#v", cr, cr, cr); strings.Contains(s, "hush") {
		t.Errorf("credentials print their secret: %s", s)
	}
}
