package servicenow_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/servicenow"
	"sorrel/shared/servicenow/servicenowtwin"
)

func create(id string, fields map[string]any) []platform.Write {
	return []platform.Write{{Ref: ref(""), External: id, Fields: fields}}
}

// between is a connector to the twin through a proxy that handle may take a call from.
func between(t *testing.T, tw *servicenowtwin.Twin, now func(cfg *servicenow.Config), handle func(w http.ResponseWriter, r *http.Request, pass http.Handler)) *servicenow.Connector {
	t.Helper()
	back := httptest.NewServer(tw.Handler())
	t.Cleanup(back.Close)
	u, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, proxy) }))
	t.Cleanup(front.Close)
	cfg := servicenow.Config{URL: front.URL, Credentials: tw.BasicCredentials()}
	now(&cfg)
	c, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLostInsertIsUnknownAndFound(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	for _, importSets := range []bool{false, true} {
		tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
		var lose atomic.Bool
		lose.Store(true)
		c := between(t, tw, func(cfg *servicenow.Config) { cfg.Now, cfg.ImportSets = clock.Now, importSets }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if r.Method == http.MethodPost && lose.Swap(false) {
				pass.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			pass.ServeHTTP(w, r)
		})
		writes := create("customer-1", map[string]any{"name": "Acme"})
		if out := c.Write(t.Context(), writes); !fault.Is(out[0].Err, fault.Unknown) {
			t.Fatalf("a lost insert: %+v", out[0])
		}
		n, err := c.Find(t.Context(), servicenow.Account, "customer-1")
		if err != nil {
			t.Fatal(err)
		}
		if out := c.Write(t.Context(), writes); out[0].Err != nil || out[0].ID != n.ID || out[0].Created || len(tw.All(servicenow.Account)) != 1 {
			t.Errorf("the repeat gave %+v and %d records", out[0], len(tw.All(servicenow.Account)))
		}
	}
}

// Somebody else inserts between our look and our insert: the unique index refuses ours, and we update theirs.
func TestInsertRace(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	tw := servicenowtwin.New(servicenowtwin.Options{Now: clock.Now})
	theirs := ""
	c := between(t, tw, func(cfg *servicenow.Config) { cfg.Now = clock.Now }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPost && theirs == "" {
			var err error
			if theirs, err = tw.Edit(servicenow.Account, "", map[string]any{"name": "Other", "u_sorrel_id": "customer-1"}); err != nil {
				t.Error(err)
			}
		}
		pass.ServeHTTP(w, r)
	})
	out := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Acme"}))
	if out[0].Err != nil || out[0].ID != theirs || out[0].Created || len(tw.All(servicenow.Account)) != 1 {
		t.Errorf("%+v, want an update of %s; %d records", out[0], theirs, len(tw.All(servicenow.Account)))
	}
	if got, _ := tw.Get(servicenow.Account, theirs); got["name"] != "Acme" {
		t.Errorf("the record is %v", got)
	}
}

// Without the kit a query for the external id finds every record: none of them may be taken for ours.
func TestInstanceWithoutKit(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now, NoCustomSetup: true}, nil)
	id, err := tw.Edit(servicenow.Account, "", map[string]any{"name": "Theirs"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Find(t.Context(), servicenow.Account, "customer-1"); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "infra/servicenow") {
		t.Errorf("find: %+v, %v", n, err)
	}
	out := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Ours"}))
	if !fault.Is(out[0].Err, fault.Refused) || len(tw.All(servicenow.Account)) != 1 {
		t.Errorf("write: %+v, %d records", out[0], len(tw.All(servicenow.Account)))
	}
	if got, _ := tw.Get(servicenow.Account, id); got["name"] != "Theirs" {
		t.Errorf("another's record is now %v", got)
	}
}

func TestDroppedFieldsAreNamed(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, nil)
	out := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Acme", "u_sgment": "small"}))
	if !fault.Is(out[0].Err, fault.Contract) || !strings.Contains(out[0].Err.Error(), "u_sgment") || out[0].ID == "" {
		t.Errorf("a misspelt field: %+v", out[0])
	}
	if err := tw.AddField(servicenow.Account, servicenowtwin.Field{Name: "u_sgment"}); err != nil {
		t.Fatal(err)
	}
	if out = c.Write(t.Context(), create("customer-1", map[string]any{"u_sgment": "small"})); out[0].Err != nil {
		t.Error(out[0].Err)
	}
	out = c.Write(t.Context(), create("customer-2", map[string]any{"name": map[string]any{"x": 1}}))
	if !fault.Is(out[0].Err, fault.Contract) || !strings.Contains(out[0].Err.Error(), "name") {
		t.Errorf("a structure: %+v", out[0])
	}
}

func TestValuesAreSentAsStrings(t *testing.T) {
	t.Parallel()
	var sent string
	c := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent = string(b)
		w.WriteHeader(400)
	}, nil)
	c.Write(t.Context(), []platform.Write{{Ref: ref(someID), External: "e", Fields: map[string]any{"a": true, "b": json.Number("1.50"), "c": nil, "d": 3, "e": 2.5, "f": int64(4), "g": "x"}}})
	if want := `{"a":"true","b":"1.50","c":"","d":"3","e":"2.5","f":"4","g":"x","u_sorrel_id":"e"}`; sent != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	c := scripted(t, func(http.ResponseWriter, *http.Request) { t.Error("the vendor was called") }, nil)
	for name, w := range map[string]platform.Write{
		"query in external id": {Ref: ref(""), External: "x^ORname=Acme"},
		"no external id":       {Ref: ref("")},
		"path in id":           {Ref: ref("../sys_user/1"), External: "e"},
		"delete without id":    {Ref: ref(""), External: "e", Delete: true},
	} {
		if out := c.Write(t.Context(), []platform.Write{w}); !fault.Is(out[0].Err, fault.Contract) {
			t.Errorf("%s: %+v", name, out[0])
		}
	}
	if _, err := c.Find(t.Context(), servicenow.Account, "a^b"); !fault.Is(err, fault.Contract) {
		t.Errorf("find: %v", err)
	}
	if _, err := c.Find(t.Context(), "sys_user", "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("find in another table: %v", err)
	}
}

// A refused write has its own words; a rule that rewrites a value is seen by the next read.
func TestBusinessRules(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, nil)
	tw.AddRule(servicenow.Account, "Upper case cities", func(_, now map[string]string) error {
		now["city"] = strings.ToUpper(now["city"])
		if now["name"] == "Forbidden" {
			return io.EOF
		}
		return nil
	})
	out := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Forbidden"}))
	if !fault.Is(out[0].Err, fault.Refused) || !strings.Contains(out[0].Err.Error(), "business-rule") {
		t.Errorf("%+v", out[0])
	}
	out = c.Write(t.Context(), create("customer-1", map[string]any{"name": "Acme", "city": "Bern"}))
	if out[0].Err != nil || !out[0].Created {
		t.Fatalf("%+v", out[0])
	}
	n, err := c.Read(t.Context(), ref(out[0].ID))
	if err != nil || n.Fields["city"] != "BERN" || n.Version != out[0].Version || n.Actor != servicenowtwin.IntegrationUser || n.Ours {
		t.Errorf("%+v, %v", n, err)
	}
	tw.Forbid(servicenow.Account, true)
	out = c.Write(t.Context(), []platform.Write{{Ref: ref(n.ID), External: "customer-1", Delete: true}})
	if !fault.Is(out[0].Err, fault.Refused) {
		t.Errorf("a forbidden delete: %+v", out[0])
	}
}

// An import set's clears reach a record that was there already.
func TestImportSets(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, servicenowtwin.Options{Now: clock.Now}, func(cfg *servicenow.Config) { cfg.ImportSets = true })
	out := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Acme", "city": "Bern", "phone": nil}))
	if out[0].Err != nil || !out[0].Created || !out[0].Version.IsZero() {
		t.Fatalf("%+v", out[0])
	}
	again := c.Write(t.Context(), create("customer-1", map[string]any{"name": "Acme", "city": nil}))
	got, _ := tw.Get(servicenow.Account, out[0].ID)
	if again[0].Err != nil || again[0].Created || again[0].ID != out[0].ID || got["city"] != "" || len(tw.All(servicenow.Account)) != 1 {
		t.Errorf("%+v, record %v", again[0], got)
	}
	before := tw.Kit().Stats().Calls
	c.Write(t.Context(), create("customer-2", map[string]any{"name": "New"}))
	if calls := tw.Kit().Stats().Calls - before; calls != 1 {
		t.Errorf("a create took %d calls, want 1", calls)
	}
}
