package zendesk_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// contacts is a connector, its twin and how to write users.
type contacts struct {
	*testing.T
	c     *zendesk.Connector
	tw    *zendesktwin.Twin
	clock *platformtest.Clock
}

func newContacts(t *testing.T) contacts {
	t.Helper()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 0)
	return contacts{t, c, tw, clock}
}

func userRef(id string) record.Ref {
	return record.Ref{Platform: record.Zendesk, Object: zendesk.User, ID: id}
}

func (k contacts) write(id, external string, fields map[string]any) platform.Written {
	k.Helper()
	return k.c.Write(k.Context(), []platform.Write{{Ref: userRef(id), External: external, Fields: fields, Key: "k"}})[0]
}

func (k contacts) wrote(id, external string, fields map[string]any) string {
	k.Helper()
	w := k.write(id, external, fields)
	if w.Err != nil {
		k.Fatal(w.Err)
	}
	return w.ID
}

// calls made since the last reset of the twin's counters, by operation.
func (k contacts) calls(do func()) map[string]int {
	before := k.tw.Kit().Stats().Operations
	do()
	out := map[string]int{}
	for op, n := range k.tw.Kit().Stats().Operations {
		if n -= before[op]; n > 0 && !strings.HasSuffix(op, "/oauth/tokens") {
			out[op] = n
		}
	}
	return out
}

// addresses of a user, the primary one first.
func (k contacts) addresses(id string) string {
	k.Helper()
	req := httptest.NewRequestWithContext(k.Context(), http.MethodGet, "/api/v2/users/"+id+"/identities", nil)
	cr := k.tw.TokenCredentials()
	req.SetBasicAuth(cr.Email+"/token", cr.APIToken)
	rec := httptest.NewRecorder()
	k.tw.Handler().ServeHTTP(rec, req)
	var answer struct {
		Identities []struct {
			Value   string
			Primary bool
		}
	}
	if err := json.NewDecoder(rec.Body).Decode(&answer); err != nil {
		k.Fatal(err)
	}
	first, rest := "", ""
	for _, i := range answer.Identities {
		if i.Primary {
			first += i.Value
		} else {
			rest += " " + i.Value
		}
	}
	return first + rest
}

// The documented trap: an update of a user adds a second address. None may be left behind, and the primary one must
// be what was asked for.
func TestEmailIsThePrimaryIdentity(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	var id string
	for _, step := range []struct {
		name, email any
		want        string
		calls       int
	}{
		{"Ann", "ann@example.com", "ann@example.com", 1},
		{"Ann Lee", "ann@example.com", "ann@example.com", 1},
		{"Ann Lee", "Ann@Example.com", "ann@example.com", 1}, // addresses ignore case
		{"Ann Lee", "lee@example.com", "lee@example.com", 3},
		{"Ann Lee", nil, "", 3},
		{"Ann Lee", nil, "", 1},
		{"Ann Lee", "back@example.com", "back@example.com", 3},
	} {
		k.clock.Advance(2 * time.Second)
		done := k.calls(func() { id = k.wrote(id, "contact-1", map[string]any{"name": step.name, "email": step.email}) })
		n, err := k.c.Read(t.Context(), userRef(id))
		if email, _ := n.Fields["email"].(string); err != nil || email != step.want || k.addresses(id) != step.want || n.Fields["name"] != step.name {
			t.Errorf("after %v: %v %v, addresses %q, %v", step, n.Fields["name"], n.Fields["email"], k.addresses(id), err)
		}
		total := 0
		for _, n := range done {
			total += n
		}
		if total != step.calls {
			t.Errorf("%v took %v, want %d calls", step, done, step.calls)
		}
	}
}

func TestEmailThatTheUserHasAlready(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	id := k.wrote("", "contact-1", map[string]any{"name": "Ann", "email": "ann@example.com"})
	second(k, id, "lee@example.com")
	if got := k.addresses(id); got != "ann@example.com lee@example.com" {
		t.Fatalf("the twin adds a second address on update: %q", got)
	}
	w := k.write(id, "contact-1", map[string]any{"email": nil})
	if !fault.Is(w.Err, fault.Refused) || !strings.Contains(w.Err.Error(), "email") || k.addresses(id) != "ann@example.com lee@example.com" {
		t.Errorf("removing the primary one of two addresses: %v, left %q", w.Err, k.addresses(id))
	}
	k.wrote(id, "contact-1", map[string]any{"email": "lee@example.com"})
	if got := k.addresses(id); got != "lee@example.com ann@example.com" {
		t.Errorf("an address that is there must become primary, got %q", got)
	}
}

// second adds an address by an update, as other clients do.
func second(k contacts, id, address string) {
	k.Helper()
	req := httptest.NewRequestWithContext(k.Context(), http.MethodPut, "/api/v2/users/"+id, strings.NewReader(`{"user":{"email":"`+address+`"}}`))
	cr := k.tw.TokenCredentials()
	req.SetBasicAuth(cr.Email+"/token", cr.APIToken)
	rec := httptest.NewRecorder()
	if k.tw.Handler().ServeHTTP(rec, req); rec.Code != http.StatusOK {
		k.Fatal(rec.Body)
	}
}

// create_or_update would take over whoever has the address.
func TestEmailOfSomebodyElse(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	theirs, err := k.tw.Edit(zendesk.User, "", map[string]any{"name": "Known", "email": "known@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	w := k.write("", "contact-1", map[string]any{"name": "Ann", "email": "Known@example.com"})
	if e := fault.Outermost(w.Err); !fault.Is(w.Err, fault.Refused) || fmt.Sprint(e.Fields) != "[email]" {
		t.Errorf("create with another's address: %+v", w)
	}
	if m, _ := k.tw.Get(zendesk.User, theirs); m["external_id"] != nil {
		t.Errorf("a person's record was taken over: %v", m)
	}
	id := k.wrote("", "contact-1", map[string]any{"name": "Ann"})
	w = k.write(id, "contact-1", map[string]any{"name": "Ann Lee", "email": "known@example.com"})
	if e := fault.Outermost(w.Err); !fault.Is(w.Err, fault.Refused) || fmt.Sprint(e.Fields) != "[email]" || e.Code != "DuplicateValue" {
		t.Errorf("update to another's address: %+v", w)
	}
	if m, _ := k.tw.Get(zendesk.User, id); m["name"] != "Ann Lee" || m["email"] != nil {
		t.Errorf("only the address may be held, got %v", m)
	}
}

func TestUserUpsertFindsItsOwn(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	org, err := k.tw.Edit(zendesk.Organization, "", map[string]any{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	id := k.wrote("", "contact-1", map[string]any{"name": "Ann", "email": "ann@example.com", "organization_id": org})
	w := k.write("", "contact-1", map[string]any{"name": "Ann Lee", "email": "ann@example.com"})
	if w.Err != nil || w.ID != id || w.Created || len(k.tw.All(zendesk.User)) != 1 {
		t.Errorf("a repeated create: %+v, %d users", w, len(k.tw.All(zendesk.User)))
	}
	n, err := k.c.Read(t.Context(), userRef(id))
	if err != nil || n.Fields["name"] != "Ann Lee" || n.Fields["organization_id"] != json.Number(org) {
		t.Errorf("%v, %v", n.Fields, err)
	}
	if w := k.write("", "contact-2", map[string]any{"name": " "}); !fault.Is(w.Err, fault.Refused) || fmt.Sprint(fault.Outermost(w.Err).Fields) != "[name]" {
		t.Errorf("a user without name: %+v", w)
	}
	if w := k.write(id, "contact-1", map[string]any{"organization_id": "77"}); !fault.Is(w.Err, fault.Refused) {
		t.Errorf("an organization that is not there: %+v", w)
	}
}

// A lost answer at any of the calls of an e-mail change must be Unknown, and the repeat must end right.
func TestEmailChangeSurvivesLostAnswers(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	id := k.wrote("", "contact-1", map[string]any{"name": "Ann", "email": "ann@example.com"})
	k.tw.Kit().SetFaults(twin.Faults{LoseReply: 1})
	if w := k.write(id, "contact-1", map[string]any{"email": "lee@example.com"}); !fault.Is(w.Err, fault.Unknown) {
		t.Errorf("a lost answer: %+v, want unknown", w)
	}
	k.tw.Kit().SetFaults(twin.Faults{})
	k.clock.Advance(time.Minute)
	k.wrote(id, "contact-1", map[string]any{"email": "lee@example.com"})
	if got := k.addresses(id); got != "lee@example.com" {
		t.Errorf("addresses %q", got)
	}
}

func TestAgentsAreNoContacts(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	agent, err := k.tw.Edit(zendesk.User, "", map[string]any{"name": "Agent", "role": "agent", "external_id": "contact-9"})
	if err != nil {
		t.Fatal(err)
	}
	id := k.wrote("", "contact-1", map[string]any{"name": "Ann"})
	if _, err := k.c.Read(t.Context(), userRef(agent)); !fault.Is(err, fault.NotFound) {
		t.Errorf("read of an agent: %v", err)
	}
	if _, err := k.c.Find(t.Context(), zendesk.User, "contact-9"); !fault.Is(err, fault.NotFound) {
		t.Errorf("find of an agent: %v", err)
	}
	k.clock.Advance(lag)
	seen, _ := drain(t, k.c, zendesk.User, "")
	if _, there := seen[agent]; there || len(seen) != 1 || seen[id].External != "contact-1" {
		t.Errorf("listed %v", seen)
	}
}

// collect hands the twin's webhooks to the connector.
func collect(k contacts) func() []record.Native {
	k.Helper()
	var mu sync.Mutex
	var got []record.Native
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			k.Error(err)
		}
		d, err := k.c.Webhook(r.Context(), platform.Request{Header: r.Header, ContentType: r.Header.Get("Content-Type"), Body: body, Now: k.clock.Now()})
		if err != nil {
			k.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, d.Natives...)
	}))
	k.Cleanup(srv.Close)
	k.tw.Kit().SendTo(srv.URL)
	return func() []record.Native {
		if err := k.tw.Kit().Drain(k.Context()); err != nil {
			k.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

func TestUserMerge(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	got := collect(k)
	winner := k.wrote("", "contact-1", map[string]any{"name": "Ann", "email": "ann@example.com"})
	loser := k.wrote("", "contact-2", map[string]any{"name": "Ann Lee", "email": "lee@example.com"})
	ticket, err := k.tw.Edit(zendesk.Ticket, "", map[string]any{"subject": "Pump", "requester_id": loser})
	if err != nil {
		t.Fatal(err)
	}
	k.clock.Advance(2 * time.Second)
	if err := k.tw.Merge(zendesk.User, winner, loser); err != nil {
		t.Fatal(err)
	}
	var plain, merge record.Native
	hinted := false
	for _, n := range got() {
		switch {
		case n.ID == loser && n.Into != "":
			merge = n
		case n.ID == loser && n.Gone:
			plain = n
		case n.ID == winner && n.Gone:
			t.Errorf("the winner is said to be gone: %+v", n)
		}
		hinted = hinted || n.ID == winner && n.Hint()
	}
	if !merge.Gone || merge.Into != winner || merge.External != "contact-2" || plain.Into != "" || merge.Version.Compare(plain.Version) <= 0 || !hinted {
		t.Errorf("merge %+v after deletion %+v, winner hinted: %v", merge, plain, hinted)
	}
	n, err := k.c.Read(t.Context(), userRef(loser))
	if err != nil || !n.Gone || merge.Version.Compare(n.Version) <= 0 {
		t.Errorf("read of the loser: %+v, %v; the merge at %+v must outrank it", n, err, merge.Version)
	}
	if got := k.addresses(winner); got != "ann@example.com lee@example.com" {
		t.Errorf("the winner's addresses are %q", got)
	}
	if m, _ := k.tw.Get(zendesk.Ticket, ticket); m["requester_id"] != json.Number(winner) {
		t.Errorf("the ticket was requested by %v", m["requester_id"])
	}
	k.clock.Advance(lag)
	if seen, _ := drain(t, k.c, zendesk.User, ""); !seen[loser].Gone || seen[winner].Gone {
		t.Errorf("listed %+v", seen)
	}
}

func TestOrganizationMerge(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	got := collect(k)
	org := func(name string) string {
		id, err := k.tw.Edit(zendesk.Organization, "", map[string]any{"name": name, "domain_names": []any{strings.ToLower(name) + ".test"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	winner, loser, other := org("Acme"), org("Acme2"), org("Other")
	user := k.wrote("", "contact-1", map[string]any{"name": "Ann", "organization_id": loser})
	k.clock.Advance(2 * time.Second)
	if err := k.tw.Merge(zendesk.Organization, winner, loser); err != nil {
		t.Fatal(err)
	}
	if err := k.tw.Delete(zendesk.Organization, other); err != nil {
		t.Fatal(err)
	}
	natives := got() // of several events in any order, but those of one event stay together
	for id, into := range map[string]string{loser: winner, other: ""} {
		i := slices.IndexFunc(natives, func(n record.Native) bool { return n.ID == id && n.Gone })
		if i < 1 || natives[i-1].ID != id || !natives[i-1].Hint() || !natives[i-1].Version.IsZero() {
			t.Fatalf("of %s came %v, want a hint and then the deletion", id, natives)
		}
		n, err := k.c.Read(t.Context(), orgRef(id))
		if err != nil || !n.Gone || n.Into != into || n.Version.Compare(natives[i].Version) <= 0 {
			t.Errorf("read of %s: %+v, %v; want gone into %q", id, n, err, into)
		}
	}
	w, _ := k.tw.Get(zendesk.Organization, winner)
	if u, _ := k.tw.Get(zendesk.User, user); u["organization_id"] != json.Number(winner) || fmt.Sprint(w["domain_names"]) != "[acme.test acme2.test]" {
		t.Errorf("user in %v, winner's domains %v", u["organization_id"], w["domain_names"])
	}
	k.clock.Advance(lag)
	done := k.calls(func() {
		if seen, _ := drain(t, k.c, zendesk.Organization, ""); seen[loser].Into != winner || !seen[other].Gone || seen[other].Into != "" || seen[winner].Gone {
			t.Errorf("listed %+v", seen)
		}
	})
	if n := done["GET /api/v2/organizations/{id}/merges"]; n != 2 {
		t.Errorf("%d questions for merges, want one for each deletion", n)
	}
	k.clock.Advance(8 * 24 * time.Hour)
	done = k.calls(func() { drain(t, k.c, zendesk.Organization, "") })
	if n := done["GET /api/v2/organizations/{id}/merges"]; n != 0 {
		t.Errorf("%d questions for the merges of old deletions", n)
	}
}

// An account that does not list the merges of a deleted organization, and merges that failed.
func TestMergesThatTellNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		class  fault.Class
	}{
		"not listed":   {404, `{"error":"RecordNotFound"}`, fault.NotFound},
		"down":         {503, ``, fault.Down},
		"other answer": {200, `{}`, fault.Down},
		"failed":       {200, `{"organization_merges":[{"loser_id":7,"winner_id":8,"status":"error"}]}`, ""},
		"as winner":    {200, `{"organization_merges":[{"loser_id":6,"winner_id":7,"status":"complete"}]}`, ""},
	} {
		conn := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/merges") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		n, err := conn.Read(t.Context(), orgRef("7"))
		if n.Into != "" || c.class == "" && (err != nil || !n.Gone) || c.class != "" && !fault.Is(err, c.class) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

func TestDeletionNeedsAnID(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	for _, object := range []string{zendesk.Organization, zendesk.User, zendesk.Ticket, "custom_object/order"} {
		out := k.c.Write(t.Context(), []platform.Write{{Ref: record.Ref{Platform: record.Zendesk, Object: object}, External: "e", Delete: true}})
		if !fault.Is(out[0].Err, fault.Contract) {
			t.Errorf("%s: %+v", object, out[0])
		}
	}
	conn := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"InvalidEndpoint"}`)
	})
	if out := conn.Write(t.Context(), []platform.Write{{Ref: userRef("7"), External: "e", Delete: true}}); !fault.Is(out[0].Err, fault.Refused) {
		t.Errorf("an endpoint that is not there is no deletion: %+v", out[0])
	}
}

func TestActorIsToldWhereTheVendorTells(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	got := collect(k)
	for object, want := range map[string]string{zendesk.Ticket: "4711", "custom_object/order": "4711", zendesk.Organization: "", zendesk.User: ""} {
		id, err := k.tw.EditAs("4711", object, "", map[string]any{"name": "x", "subject": "x"})
		if err != nil {
			t.Fatal(err)
		}
		if object != zendesk.Ticket {
			n, err := k.c.Read(t.Context(), record.Ref{Platform: record.Zendesk, Object: object, ID: id})
			if err != nil || n.Actor != want || n.Ours {
				t.Errorf("%s: actor %q, %v", object, n.Actor, err)
			}
			continue
		}
		for _, n := range got() {
			if n.ID == id && n.Actor != want {
				t.Errorf("%s: %+v", object, n)
			}
		}
	}
	if _, err := k.tw.EditAs("ann", zendesk.Ticket, "", map[string]any{"subject": "x"}); err == nil {
		t.Error("a user that is no id acted")
	}
}

func TestAcceptsDropdownValues(t *testing.T) {
	t.Parallel()
	k := newContacts(t)
	ask := func(object, field, value string) bool {
		t.Helper()
		ok, err := k.c.Accepts(t.Context(), object, field, value)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	done := k.calls(func() {
		for _, c := range []struct {
			object, field, value string
			want                 bool
		}{
			{zendesk.Organization, "organization_fields.segment", "segment_small", true},
			{zendesk.Organization, "organization_fields.segment", "segment_tiny", false},
			{zendesk.Organization, "organization_fields.segment", "", true},
			{zendesk.Organization, "organization_fields.erp_city", "anything", true},
			{zendesk.Organization, "notes", "anything", true},
			{zendesk.User, "user_fields.job_title", "anything", true},
			{zendesk.Ticket, "status", "open", true},
			{"custom_object/order", "custom_object_fields.status", "lost", false},
		} {
			if got := ask(c.object, c.field, c.value); got != c.want {
				t.Errorf("%+v: %v", c, got)
			}
		}
	})
	if done["GET /api/v2/organization_fields"] != 1 {
		t.Errorf("calls %v, want one for the organization fields", done)
	}
	if err := k.tw.AddPicklistValue(zendesk.Organization, "segment", "segment_tiny"); err != nil {
		t.Fatal(err)
	}
	k.clock.Advance(time.Minute)
	if !ask(zendesk.Organization, "organization_fields.segment", "segment_tiny") {
		t.Error("a value that was added is not accepted a minute later")
	}
	if _, err := k.c.Accepts(t.Context(), zendesk.Organization, "organization_fields.none", "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown field: %v", err)
	}
	if err := k.tw.AddPicklistValue(zendesk.Organization, "erp_city", "x"); err == nil {
		t.Error("a text field took an option")
	}
}
