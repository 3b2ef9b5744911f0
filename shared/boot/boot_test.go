package boot

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

var at = time.Date(2026, 11, 2, 8, 15, 0, 0, time.UTC)

func names() []string {
	return []string{"intake", "hub", "deliver", "workflow", "publish", "batch", "sweep", "operate"}
}

// environment sets every variable that a function reads.
func environment(function string) map[string]string {
	env := map[string]string{}
	for _, v := range Variables(function) {
		env[v] = "https://example.test/" + strings.ToLower(v)
	}
	env[EnvLogLevel], env[EnvStage] = "WARN", "dev"
	if _, tells := env[EnvSubscribers]; tells {
		env[EnvSubscribers] = "{}"
	}
	return env
}

func getenv(env map[string]string) func(string) string {
	return func(k string) string { return env[k] }
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, function := range names() {
		env := environment(function)
		asked := map[string]bool{}
		c, err := Load(function, func(k string) string { asked[k] = true; return env[k] })
		if err != nil {
			t.Errorf("%s: %v", function, err)
			continue
		}
		if c.Function != function || c.Stage != "dev" || c.LogLevel != slog.LevelWarn {
			t.Errorf("%s: %+v", function, c)
		}
		for _, v := range Variables(function) {
			if !asked[v] {
				t.Errorf("%s: %s is listed but not read", function, v)
			}
		}
		for _, v := range Variables(function) { // each is needed, but for the log level
			if v == EnvLogLevel {
				continue
			}
			less := maps.Clone(env)
			delete(less, v)
			if _, err := Load(function, getenv(less)); err == nil || !strings.Contains(err.Error(), v) {
				t.Errorf("%s without %s: %v", function, v, err)
			}
		}
	}
	if Variables("none") != nil {
		t.Error("an unknown function has variables")
	}
	if _, err := Load("none", getenv(nil)); err == nil {
		t.Error("an unknown function is loaded")
	}
}

func TestLoadTellsOfEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Load("hub", getenv(map[string]string{EnvLogLevel: "LOUD"}))
	if !fault.Is(err, fault.Contract) {
		t.Fatal(err)
	}
	for _, v := range Variables("hub") {
		if !strings.Contains(err.Error(), v) {
			t.Errorf("%s is not mentioned in: %v", v, err)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	got := strings.Join(Variables("sweep"), " ")
	if want := "SORREL_LOG_LEVEL SORREL_QUEUE_INBOUND SORREL_QUEUE_OUTBOUND_NETSUITE SORREL_QUEUE_OUTBOUND_SALESFORCE SORREL_QUEUE_OUTBOUND_SERVICENOW SORREL_QUEUE_OUTBOUND_ZENDESK SORREL_QUEUE_PUBLISH SORREL_QUEUE_WORKFLOW SORREL_STAGE SORREL_TABLE"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if v := Variables("intake"); slices.Contains(v, EnvTable) || slices.Contains(v, "SORREL_ZENDESK_URL") {
		t.Errorf("intake touches neither the table nor a vendor, yet reads %v", v)
	}
}

// Operate decides by the policy and wakes; it has neither the platforms' credentials nor connections to them.
func TestOperateKnowsNoPlatform(t *testing.T) {
	t.Parallel()
	if v := Variables("operate"); slices.Contains(v, EnvSecret) || slices.Contains(v, "SORREL_ZENDESK_URL") {
		t.Errorf("operate reads %v", v)
	}
	env := environment("operate")
	env["AWS_REGION"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = "eu-central-1", "x", "y"
	w, err := Lambda(t.Context(), "operate", getenv(env), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if w.Config == nil || w.Ledger == nil || w.Inbound == nil || len(w.Outbound) != len(Platforms()) || len(w.Connectors) != 0 {
		t.Errorf("operate is wired %+v", w)
	}
	if w.Operate() == nil || w.Steward() == nil || w.DeadLetters() == nil {
		t.Error("no flows")
	}
	if len(w.dead) != 3+len(Platforms()) {
		t.Errorf("operate reaches the dead letters of %d queues", len(w.dead))
	}
}

func TestMergeSecrets(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		values []string
		want   string
	}{
		{[]string{`{"clientId":"new","webhookSecrets":["b"]}`, `{"clientId":"old","webhookSecrets":["a"]}`}, `{"clientId":"new","webhookSecrets":["b","a"]}`},
		{[]string{`{"webhookTokens":["b"]}`, `{"webhookTokens":["a","z"]}`}, `{"webhookTokens":["b","a","z"]}`},
		{[]string{`{"webhookSecrets":["b"]}`, `broken`}, `{"webhookSecrets":["b"]}`},
		{[]string{`{"webhookSecrets":["b"]}`, `{}`}, `{"webhookSecrets":["b"]}`},
		{[]string{`{"clientId":"x"}`, `{"webhookSecrets":["a"]}`}, `{"clientId":"x"}`}, // taken away on purpose
	} {
		got, err := mergeSecrets(row.values)
		if err != nil || string(got) != row.want {
			t.Errorf("%v becomes %s (%v), want %s", row.values, got, err, row.want)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"[]"}, {"7"}} {
		if got, err := mergeSecrets(bad); err == nil {
			t.Errorf("%q becomes %s", bad, got)
		} else if strings.Contains(err.Error(), "7") {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

// vault is a secret that can be rotated.
type vault struct {
	mu        sync.Mutex
	values    map[string][]string // what a reader has
	next      map[string][]string // what is there, if it was rotated
	refreshes int
	err       error
}

func (v *vault) Secrets(context.Context) (map[string][]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.values, v.err
}

func (v *vault) Refresh(context.Context) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refreshes++
	if v.next == nil || v.err != nil {
		return false, v.err
	}
	v.values, v.next = v.next, nil
	return true, nil
}

const before, after = "webhook-secret-before-rotation", "webhook-secret-after-rotation"

func secretOf(t *testing.T, webhook ...string) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"webhookSecrets": webhook, "clientId": "c", "certificateId": "k", "privateKey": "no key for intake"})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func bareWorld() *World {
	now := func() time.Time { return at }
	return &World{Now: now, Telemetry: telemetry.New(nil, now, nil)}
}

func signed(with string) platform.Request {
	const body = `{"id":"e","type":"record.saved","record":{"type":"salesOrder","id":"7","rev":1}}`
	stamp := at.Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(with))
	mac.Write([]byte(stamp + "." + body))
	h := http.Header{}
	h.Set("X-Sorrel-Timestamp", stamp)
	h.Set("X-Sorrel-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
	return platform.Request{Header: h, ContentType: "application/json", Body: []byte(body), Now: at}
}

// all is the one secret with every platform in it, API credentials included, as intake gets it too.
func all(netsuite ...string) map[string][]string {
	return map[string][]string{"netsuite": netsuite, "salesforce": {`{"clientId":"c","clientSecret":"s","orgId":"00Dxx0000001gEREAY","webhookTokens":["a-token-of-sixteen-or-more"]}`}, "zendesk": {`{"clientId":"c","clientSecret":"s","webhookSecrets":["a-secret-of-sixteen-or-more"]}`},
		"servicenow": {`{"clientId":"c","clientSecret":"s","webhookSecrets":["a-secret-of-sixteen-or-more"]}`}}
}

func TestRotatedWebhookSecretIsTakenWithoutRestart(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{values: all(secretOf(t, before))}
	connectors, err := connectSecret(t.Context(), v, nil, set, bareWorld())
	if err != nil {
		t.Fatal(err)
	}
	ns := connectors["netsuite"]
	verify := func(with string) error { _, err := ns.Webhook(t.Context(), signed(with)); return err }
	if err := verify(before); err != nil || v.refreshes != 0 {
		t.Fatalf("%v, %d refreshes", err, v.refreshes)
	}
	if err := verify(after); !fault.Is(err, fault.Unauthenticated) || v.refreshes != 1 {
		t.Errorf("a foreign signature: %v, %d refreshes", err, v.refreshes)
	}
	v.mu.Lock()
	v.next = all(secretOf(t, after), secretOf(t, before))
	v.mu.Unlock()
	var wg sync.WaitGroup
	for range 8 { // at once, as warm functions may
		wg.Go(func() {
			if err := verify(after); err != nil && !fault.Is(err, fault.Unauthenticated) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := verify(after); err != nil {
		t.Errorf("rotated: %v", err)
	}
	if err := verify(before); err != nil {
		t.Errorf("signed before the rotation: %v", err)
	}
	v.mu.Lock()
	v.next, v.err = all("broken"), nil
	v.mu.Unlock()
	if err := verify("somebody else's secret"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after a broken rotation: %v", err)
	}
	if err := verify(after); err != nil {
		t.Errorf("a broken rotation took away what worked: %v", err)
	}
}

func TestSecretProblemsNameThePlatform(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []map[string][]string{{}, all(), all("not json, but secret")} {
		_, err := connectSecret(t.Context(), &vault{values: bad}, nil, set, bareWorld())
		if err == nil || !strings.Contains(err.Error(), "netsuite") || strings.Contains(err.Error(), "but secret") {
			t.Errorf("%v", err)
		}
	}
	if _, err := connectSecret(t.Context(), &vault{err: errors.New("throttled")}, nil, set, bareWorld()); err == nil {
		t.Error("no secret, no error")
	}
}

func TestConnectTellsOfEverythingAtOnce(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = connect(map[string]Endpoint{"netsuite": {}, "zendesk": {Credentials: json.RawMessage(`[]`)}, "oracle": {}}, set, bareWorld())
	for _, name := range []string{"netsuite", "zendesk", "oracle"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not mentioned in: %v", name, err)
		}
	}
}

func TestConfigProblemsComeTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"policy/a.yaml": "entity: 7\n", "policy/b.yaml": "nonsense: true\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := LoadConfig(dir)
	if !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "policy/a.yaml:1:") || !strings.Contains(err.Error(), "policy/b.yaml:1:") {
		t.Errorf("%v", err)
	}
}

func TestIDsSortByTimeAndDiffer(t *testing.T) {
	t.Parallel()
	now, mu := at, sync.Mutex{}
	newID := NewID(func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	seen := map[string]bool{}
	last := ""
	for range 5000 {
		id := newID()
		if seen[id] || id <= last && last != "" || len(id) != 26 {
			t.Fatalf("%s after %s", id, last)
		}
		seen[id], last = true, id
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if id := newID(); id <= last {
		t.Errorf("%s a second after %s", id, last)
	}
}

// A world over files makes every flow, keeps what is queued, and lets only one process in.
func TestEmbeddedWorld(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	quiet := func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) }
	open := func() (*World, error) {
		return Embedded(dir, set, map[string]Endpoint{"netsuite": {Credentials: json.RawMessage(secretOf(t, before))}}, quiet)
	}
	w, err := open()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Platforms() {
		if w.Outbound[p] == nil || w.Queues[OutboundQueue(p)] == nil {
			t.Errorf("no outbound queue for %s", p)
		}
	}
	_, _, _, _, _ = w.Hub(), w.Deliver(), w.Batch(), w.Sweep(), w.Operate()
	a := w.Intake().Apply(t.Context(), "netsuite", platform.Request{Header: http.Header{}, Body: []byte("x")})
	if a.Status != 401 {
		t.Errorf("answered %d", a.Status)
	}
	if s, err := w.Operate().Status(t.Context()); err != nil || !s.Healthy || s.Config == "" || len(s.Platforms) != 4 || len(s.Queues) != 14 {
		t.Errorf("status %+v (%v)", s, err)
	}
	w.Flush() // without a writer there is nothing to do
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err = open()
	if err != nil {
		t.Fatalf("opened again: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Embedded(dir, set, map[string]Endpoint{"netsuite": {}}, quiet); err == nil {
		t.Error("bad credentials are taken")
	}
	if w, err = open(); err != nil {
		t.Errorf("what failed to start keeps the files: %v", err)
	} else if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestLambdaNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := Lambda(t.Context(), "intake", getenv(nil), io.Discard); err == nil || !strings.Contains(err.Error(), EnvSecret) {
		t.Errorf("%v", err)
	}
	env := environment("sweep")
	maps.Copy(env, map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
	w, err := Lambda(t.Context(), "sweep", getenv(env), io.Discard)
	if err != nil || w.Inbound == nil || len(w.Outbound) != 4 || w.Ledger == nil || w.Connectors != nil {
		t.Errorf("sweep: %+v (%v)", w, err)
	}
}

// What the secret says beside ServiceNow's credentials decides how records are made there.
func TestServiceNowImportSets(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{"": "/api/now/table/customer_account", `,"importSets":true`: "/api/now/import/u_sorrel_customer_account"} {
		var mu sync.Mutex
		var paths []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/oauth_token") {
				_, _ = w.Write([]byte(`{"access_token":"t","expires_in":1800,"token_type":"Bearer"}`))
				return
			}
			mu.Lock()
			paths = append(paths, r.URL.Path)
			mu.Unlock()
			w.WriteHeader(http.StatusInternalServerError)
		}))
		secret := `{"clientId":"c","clientSecret":"s","username":"u","password":"p","webhookSecrets":["a-secret-of-sixteen-or-more"]` + setting + `}`
		c, err := connectOne(record.ServiceNow, Endpoint{URL: server.URL, Credentials: json.RawMessage(secret)}, set, bareWorld())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Platform: record.ServiceNow, Object: "customer_account"}, External: "customer-abc", Fields: map[string]any{"name": "x"}}})
		server.Close()
		if len(paths) == 0 || paths[0] != want {
			t.Errorf("with %q: %v, want %s", setting, paths, want)
		}
	}
}

// Numbers of limits beside the credentials reach each connector, and a name that the platform does not have stops the start.
func TestLimits(t *testing.T) {
	t.Parallel()
	set, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	for name, secrets := range map[string]string{
		record.NetSuite:   `"webhookSecrets":["0123456789abcdef"]`,
		record.Salesforce: `"orgId":"00Dxx0000001gEREAY","webhookTokens":["0123456789abcdef"]`,
		record.Zendesk:    `"webhookSecrets":["0123456789abcdef"]`,
		record.ServiceNow: `"webhookSecrets":["0123456789abcdef"]`,
	} {
		c, err := connectOne(name, Endpoint{Credentials: json.RawMessage("{" + secrets + `,"limits":{"calls":77}}`)}, set, bareWorld())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if l := c.Limits(); len(l) == 0 || l[0].Name != budget.Calls || l[0].Max != 77 {
			t.Errorf("%s: %+v, want 77 calls", name, l)
		}
		_, err = connectOne(name, Endpoint{Credentials: json.RawMessage("{" + secrets + `,"limits":{"cals":77}}`)}, set, bareWorld())
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "cals") {
			t.Errorf("%s: a limit that is not there: %v", name, err)
		}
	}
}
