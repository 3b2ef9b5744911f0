package salesforce_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
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

func TestNewNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := salesforce.New(salesforce.Config{URL: "http://acme.example", Now: time.Now, Version: "v45.0", Client: "a;b", Page: 3000,
		Fields:      map[string][]string{"Account": {"Name FROM User--"}, "Bad Object": nil},
		Credentials: salesforce.Credentials{ClientID: "c", PrivateKey: "no key", OrgID: "x", WebhookTokens: []string{"short"}}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"clear text", "v45.0", `"a;b"`, "3000", "Name FROM User--", "Bad Object", "privateKey", "username", "orgId", "webhookTokens[0]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "no key") || strings.Contains(err.Error(), `"short"`) {
		t.Error("a secret is in the error")
	}
	if _, err := salesforce.New(salesforce.Config{}); err == nil {
		t.Error("a Config without Now was accepted")
	}
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	c := salesforce.Credentials{ClientID: "id", ClientSecret: "hush", PrivateKey: "hush", WebhookTokens: []string{"hush"}}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.LogValue()); strings.Contains(s, "hush") {
		t.Errorf("secret in %s", s)
	}
}

func TestWebhooksAlone(t *testing.T) {
	t.Parallel()
	c, err := salesforce.New(salesforce.Config{Now: time.Now, Credentials: salesforce.Credentials{OrgID: "00Dxx0000001gER", WebhookTokens: []string{"0123456789abcdef"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Find(t.Context(), "Account", "x")
	wantClass(t, err, fault.Unauthenticated)
	for _, w := range c.Write(t.Context(), []platform.Write{account("", "a", nil)}) {
		wantClass(t, w.Err, fault.Unauthenticated)
	}
}

func wantClass(t *testing.T, err error, class fault.Class) {
	t.Helper()
	if !fault.Is(err, class) {
		t.Errorf("got %v, want %s", err, class)
	}
}

func account(id, external string, fields map[string]any) platform.Write {
	if fields == nil {
		fields = map[string]any{"Name": "Name of " + external}
	}
	return platform.Write{Ref: record.Ref{Platform: record.Salesforce, Object: "Account", ID: id}, External: external, Fields: fields}
}

func order(external, customer string) platform.Write {
	return platform.Write{Ref: record.Ref{Platform: record.Salesforce, Object: "Order"}, External: external,
		Fields: map[string]any{"Account": map[string]any{"Sorrel_Id__c": customer}, "EffectiveDate": "2026-11-02", "Status": "Draft"}}
}

func calls(twin *salesforcetwin.Twin) int {
	n := 0
	for op, c := range twin.Kit().Stats().Operations {
		if op != "POST token" {
			n += c
		}
	}
	return n
}

func TestTenWritesCostOneCall(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, nil)
	var writes []platform.Write
	for i := range 10 {
		writes = append(writes, account("", fmt.Sprint("customer-", i), nil))
	}
	out := c.Write(t.Context(), writes)
	if n := calls(twin); n != 1 {
		t.Errorf("creating ten took %d calls", n)
	}
	for i, w := range out {
		if w.Err != nil || !w.Created {
			t.Fatalf("row %d: %+v", i, w)
		}
		writes[i].Ref.ID = w.ID
		writes[i].Fields = map[string]any{"Phone": fmt.Sprint(i)}
	}
	for i, w := range c.Write(t.Context(), writes) {
		if w.Err != nil || w.Created || w.ID != out[i].ID {
			t.Errorf("row %d: %+v", i, w)
		}
	}
	if n := calls(twin); n != 2 {
		t.Errorf("updating ten by native id took %d calls", n-1)
	}
}

// A record that is linked by its native id but does not carry the external id gets it, and no double.
func TestNativeIDWins(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, nil)
	ids := []string{edit(t, twin, "Account", "", map[string]any{"Name": "A"}), edit(t, twin, "Account", "", map[string]any{"Name": "B"})}
	for _, writes := range [][]platform.Write{{account(ids[0], "customer-a", nil)}, {account(ids[0], "customer-a", nil), account(ids[1][:15], "customer-b", nil)}} {
		for i, w := range c.Write(t.Context(), writes) {
			if w.Err != nil || w.ID[:15] != ids[i][:15] {
				t.Fatalf("%+v", w)
			}
		}
	}
	if n, err := c.Find(t.Context(), "Account", "customer-b"); err != nil || n.ID != ids[1] || len(twin.All("Account")) != 2 {
		t.Errorf("%v %v of %d", n.Ref, err, len(twin.All("Account")))
	}
}

func TestOneBadRowStopsNobody(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, nil)
	long := strings.Repeat("x", 300)
	out := c.Write(t.Context(), []platform.Write{
		account("", "customer-1", nil),
		account("", "customer-2", map[string]any{"Name": long}),
		account("", "customer-1", map[string]any{"Name": "the same again", "Phone": "2"}),
		order("order-1", "customer-9"),
		{Ref: record.Ref{Object: "Unknown__c"}, External: "x"},
		account("", "", nil),
		account("'; DROP", "customer-3", nil),
		account("001xx0000000zzzAAA", "customer-4", nil),
	})
	for i, want := range []fault.Class{"", fault.Refused, "", fault.MissingReference, fault.NotFound, fault.Contract, fault.Contract, fault.NotFound} {
		if want == "" && out[i].Err != nil || want != "" && !fault.Is(out[i].Err, want) {
			t.Errorf("row %d: %v, want %q", i, out[i].Err, want)
		}
	}
	if n, err := c.Find(t.Context(), "Account", "customer-1"); err != nil || n.Fields["Phone"] != "2" || n.ID != out[2].ID {
		t.Errorf("the later write to one record must win: %v %v", n.Fields, err)
	}
	// A field that is not there at all fails a whole collection; its mates are then written one by one.
	out = c.Write(t.Context(), []platform.Write{account("", "customer-5", nil), account("", "customer-6", map[string]any{"Nmae": "x"}), account("", "customer-7", nil)})
	if out[0].Err != nil || !fault.Is(out[1].Err, fault.Refused) || out[2].Err != nil || len(twin.All("Account")) != 3 {
		t.Errorf("%+v", out)
	}
}

func TestParents(t *testing.T) {
	t.Parallel()
	c, _ := start(t, time.Now, salesforcetwin.Options{}, nil)
	parent := c.Write(t.Context(), []platform.Write{account("", "customer-1", nil)})[0]
	w := c.Write(t.Context(), []platform.Write{order("order-1", "customer-1")})[0]
	ship := platform.Write{Ref: record.Ref{Object: "Shipment__c"}, External: "shipment-1", Fields: map[string]any{"Order__r": map[string]any{"Sorrel_Id__c": "order-1"}}}
	s := c.Write(t.Context(), []platform.Write{ship})[0]
	if w.Err != nil || s.Err != nil {
		t.Fatal(errors.Join(w.Err, s.Err))
	}
	n, err := c.Read(t.Context(), record.Ref{Platform: record.Salesforce, Object: "Order", ID: w.ID})
	if err != nil || n.Fields["AccountId"] != parent.ID || !reflect.DeepEqual(n.Fields["Account"], map[string]any{"Sorrel_Id__c": "customer-1"}) {
		t.Errorf("%v %v", n.Fields, err)
	}
	ship.Fields = map[string]any{"Order__r": map[string]any{"Sorrel_Id__c": nil}}
	if s := c.Write(t.Context(), []platform.Write{ship})[0]; s.Err != nil {
		t.Fatal(s.Err)
	}
	if n, err := c.Find(t.Context(), "Shipment__c", "shipment-1"); err != nil || n.Fields["Order__c"] != nil || n.Fields["Order__r"] != nil {
		t.Errorf("the parent is not cleared: %v %v", n.Fields, err)
	}
}

func TestQuotesStayInside(t *testing.T) {
	t.Parallel()
	c, _ := start(t, time.Now, salesforcetwin.Options{}, nil)
	odd := `O'Hara \' OR Name != '`
	if w := c.Write(t.Context(), []platform.Write{account("", "customer-1", nil), account("", odd, nil)}); w[1].Err != nil {
		t.Fatal(w[1].Err)
	}
	if n, err := c.Find(t.Context(), "Account", odd); err != nil || n.External != odd {
		t.Errorf("%q %v", n.External, err)
	}
	_, err := c.Find(t.Context(), "Account", `x' OR Name != '`)
	wantClass(t, err, fault.NotFound)
	if w := c.Write(t.Context(), []platform.Write{account("", odd+"/../?", nil)}); w[0].Err != nil || !w[0].Created {
		t.Errorf("an external id with a slash: %+v", w[0])
	}
}

func TestSeveralRecordsCarryTheExternalID(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) { cfg.External = map[string]string{"Account": "Legacy__c"} })
	if err := twin.AddField("Account", salesforcetwin.Field{Name: "Legacy__c", Type: "string", Length: 20, ExternalID: true, Repeats: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		edit(t, twin, "Account", "", map[string]any{"Name": "Twice", "Legacy__c": "7"})
	}
	wantClass(t, c.Write(t.Context(), []platform.Write{account("", "7", nil)})[0].Err, fault.Refused)
	wantClass(t, c.Write(t.Context(), []platform.Write{account("", "7", nil), account("", "8", nil)})[0].Err, fault.Refused)
	_, err := c.Find(t.Context(), "Account", "7")
	wantClass(t, err, fault.Refused)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{SessionLife: time.Hour}, nil)
	find := func() {
		t.Helper()
		_, err := c.Find(t.Context(), "Account", "none")
		wantClass(t, err, fault.NotFound)
	}
	find()
	find()
	twin.ExpireSessions()
	find()
	clock.Advance(2 * time.Hour)
	find()
	if s := twin.Kit().Stats(); s.Operations["POST token"] != 3 || s.Refused != 2 {
		t.Errorf("%d sign-ins and %d refusals, want 3 and 2", s.Operations["POST token"], s.Refused)
	}
}

func TestDailyLimit(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{DailyCalls: 3}, nil)
	for range 3 {
		_, err := c.Find(t.Context(), "Account", "none")
		wantClass(t, err, fault.NotFound)
	}
	_, err := c.Find(t.Context(), "Account", "none")
	wantClass(t, err, fault.Throttled)
	if wait := fault.RetryAt(err).Sub(clock.Now()); wait != time.Minute {
		t.Errorf("wait %v", wait)
	}
	clock.Advance(25 * time.Hour)
	_, err = c.Find(t.Context(), "Account", "none")
	wantClass(t, err, fault.NotFound)
	if twin.Kit().Stats().OverLimit != 1 {
		t.Error("the refused call is not counted")
	}
}

func TestJWTBearer(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	try := func(change func(*salesforce.Credentials)) error {
		c, _ := start(t, time.Now, salesforcetwin.Options{Key: key}, func(cfg *salesforce.Config) {
			cfg.Credentials.PrivateKey = text
			change(&cfg.Credentials)
		})
		_, err := c.Find(t.Context(), "Account", "none")
		return err
	}
	wantClass(t, try(func(*salesforce.Credentials) {}), fault.NotFound)
	wantClass(t, try(func(c *salesforce.Credentials) { c.Audience = "https://test.salesforce.com" }), fault.NotFound)
	wantClass(t, try(func(c *salesforce.Credentials) { c.Audience = "https://acme.example" }), fault.Unauthenticated)
	wantClass(t, try(func(c *salesforce.Credentials) { c.Username = "somebody@else.example" }), fault.Unauthenticated)
	wantClass(t, try(func(c *salesforce.Credentials) { c.ClientID = "other" }), fault.Unauthenticated)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	wantClass(t, try(func(c *salesforce.Credentials) {
		c.PrivateKey = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(other)}))
	}), fault.Unauthenticated)
}

func TestTokenForAnotherHost(t *testing.T) {
	t.Parallel()
	var host string
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			fmt.Fprintf(w, `{"access_token":"t","instance_url":"https://other.my.salesforce.com"}`)
			return
		}
		host = r.Host
		_, _ = w.Write([]byte(`{"done":true,"records":[]}`))
	}))
	defer vendor.Close()
	for _, allowed := range [][]string{nil, {"other.my.salesforce.com"}} {
		c, err := salesforce.New(salesforce.Config{URL: vendor.URL, Now: time.Now, Instances: allowed, Credentials: salesforce.Credentials{ClientID: "c", ClientSecret: "s"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Find(t.Context(), "Account", "x")
		if allowed == nil {
			wantClass(t, err, fault.Unauthenticated)
			continue
		}
		wantClass(t, err, fault.NotFound)
		if !strings.HasSuffix(vendor.URL, host) {
			t.Errorf("the call went to %q", host)
		}
	}
}

func edit(t *testing.T, twin *salesforcetwin.Twin, object, id string, fields map[string]any) string {
	t.Helper()
	id, err := twin.Edit(object, id, fields)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDeletedAndUndeleted(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
	id := edit(t, twin, "Account", "", map[string]any{"Name": "A", "Sorrel_Id__c": "customer-1"})
	ref := record.Ref{Platform: record.Salesforce, Object: "Account", ID: id}
	clock.Advance(time.Minute)
	if err := twin.Delete("Account", id); err != nil {
		t.Fatal(err)
	}
	dead, err := c.Read(t.Context(), ref)
	if err != nil || !dead.Gone || dead.External != "customer-1" {
		t.Fatalf("%+v %v", dead, err)
	}
	_, err = c.Find(t.Context(), "Account", "customer-1")
	wantClass(t, err, fault.NotFound)
	wantClass(t, c.Write(t.Context(), []platform.Write{account(id, "customer-1", nil)})[0].Err, fault.NotFound)
	p, err := c.Changes(t.Context(), "Account", "")
	if err != nil || len(p.Natives) != 1 || !p.Natives[0].Gone {
		t.Errorf("%+v %v", p, err)
	}
	clock.Advance(time.Minute)
	if err := twin.Undelete("Account", id); err != nil {
		t.Fatal(err)
	}
	alive, err := c.Read(t.Context(), ref)
	if err != nil || alive.Gone || !alive.Born.After(dead.Version.At) || alive.Version.Compare(dead.Version) <= 0 {
		t.Errorf("an undeleted record must be born after its deletion: %+v %v", alive, err)
	}
}

// Late commits: a save of a second that was already listed is found, because listings overlap.
func TestChangesOverlap(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
	edit(t, twin, "Account", "", map[string]any{"Name": "A"})
	clock.Advance(4 * time.Minute)
	p, err := c.Changes(t.Context(), "Account", "")
	if err != nil || len(p.Natives) != 1 || p.More {
		t.Fatalf("%+v %v", p, err)
	}
	if p, err = c.Changes(t.Context(), "Account", p.Cursor); err != nil || len(p.Natives) != 1 {
		t.Errorf("within the overlap it is listed again: %+v %v", p, err)
	}
	clock.Advance(6 * time.Minute)
	if p, err = c.Changes(t.Context(), "Account", p.Cursor); err != nil {
		t.Fatal(err)
	}
	if p, err = c.Changes(t.Context(), "Account", p.Cursor); err != nil || len(p.Natives) != 0 {
		t.Errorf("after it no more: %+v %v", p, err)
	}
	for _, cursor := range []string{"x", `{"v":2}`, `{"v":1,"after":"001"}`} {
		_, err = c.Changes(t.Context(), "Account", cursor)
		wantClass(t, err, fault.Contract)
	}
	_, err = c.Changes(t.Context(), "Nothing__c", "")
	wantClass(t, err, fault.NotFound)
}

// Short pages: the vendor may answer fewer rows than asked for, with more to come.
func TestShortPages(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{MaxPage: 3}, nil)
	for i := range 10 {
		edit(t, twin, "Account", "", map[string]any{"Name": fmt.Sprint(i)})
	}
	seen, cursor, pages := map[string]bool{}, "", 0
	for more := true; more; pages++ {
		p, err := c.Changes(t.Context(), "Account", cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			seen[n.ID] = true
		}
		cursor, more = p.Cursor, p.More
	}
	if len(seen) != 10 || pages != 4 {
		t.Errorf("%d records on %d pages", len(seen), pages)
	}
}
