package salesforce_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
	"sorrel/shared/twin"
)

func refTo(object, id string) record.Ref {
	return record.Ref{Platform: record.Salesforce, Object: object, ID: id}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *salesforce.Connector, object, id string) record.Native {
	t.Helper()
	n, err := c.Read(t.Context(), refTo(object, id))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDeletions(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, nil)
	var erase []platform.Write
	for i := range 5 {
		id := edit(t, twin, "Account", "", map[string]any{"Name": fmt.Sprint(i)})
		erase = append(erase, platform.Write{Ref: refTo("Account", id), Delete: true})
	}
	erase = append(erase, platform.Write{Ref: refTo("Account", "001xx0000000zzzAAA"), Delete: true}) // erased long ago
	must(t, twin.Delete("Account", erase[1].Ref.ID))
	before := calls(twin)
	for i, w := range c.Write(t.Context(), erase) {
		if w.Err != nil || w.ID != erase[i].Ref.ID {
			t.Errorf("row %d: %+v", i, w)
		}
	}
	if n := calls(twin) - before; n != 1 || len(twin.All("Account")) != 0 {
		t.Errorf("six deletions took %d calls and left %d records", n, len(twin.All("Account")))
	}
	// A record is made, deleted and made again in one batch: in this order.
	id := edit(t, twin, "Account", "", map[string]any{"Name": "A", "Sorrel_Id__c": "customer-1"})
	out := c.Write(t.Context(), []platform.Write{account(id, "customer-1", nil), {Ref: refTo("Account", id), External: "customer-1", Delete: true}, account("", "customer-1", nil)})
	if err := errors.Join(out[0].Err, out[1].Err, out[2].Err); err != nil || out[2].ID == id || !out[2].Created {
		t.Errorf("%+v", out)
	}
	for name, w := range map[string]platform.Write{
		"no native id": {Ref: refTo("Account", ""), External: "customer-1", Delete: true},
		"no id at all": {Ref: refTo("Account", "x,y"), Delete: true},
	} {
		if out := c.Write(t.Context(), []platform.Write{w}); !fault.Is(out[0].Err, fault.Contract) {
			t.Errorf("%s: %+v", name, out[0])
		}
	}
}

// Whatever the order in which a record's life is told, its end is known: a second deletion counts, an undelete
// revives, and what is late does not.
func TestLifeIsToldInAnyOrder(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
	events := bus(t, twin)
	var told []record.Native
	listen := func() {
		t.Helper()
		for _, e := range events() {
			d, err := c.Event(t.Context(), e, clock.Now())
			must(t, err)
			told = append(told, d.Natives...)
		}
	}
	gone := func(natives []record.Native) bool {
		v := record.View{}
		for _, n := range natives {
			v, _ = record.Observe(v, record.Observation{Ref: n.Ref, Version: n.Version, Born: n.Born, Gone: n.Gone})
		}
		return v.Gone()
	}
	always := func(step string, want bool) {
		t.Helper()
		listen()
		permute(told, func(order []record.Native) {
			if gone(order) != want {
				t.Errorf("%s: gone %v, want %v, told as %+v", step, !want, want, order)
			}
		})
	}
	// All in one second.
	id := edit(t, twin, "Account", "", map[string]any{"Name": "A"})
	always("made", false)
	clock.Advance(100 * time.Millisecond)
	must(t, twin.Delete("Account", id))
	always("deleted", true)
	clock.Advance(100 * time.Millisecond)
	must(t, twin.Undelete("Account", id))
	always("undeleted", false)
	told = append(told, read(t, c, "Account", id))
	always("undeleted and read in the same second", false)
	clock.Advance(100 * time.Millisecond)
	must(t, twin.Delete("Account", id))
	always("deleted again", true)
	clock.Advance(5 * time.Second)
	told = append(told, read(t, c, "Account", id))
	always("read at last", true)

	// The events are lost: reads alone revive, also within the second of the deletion.
	clock.Advance(time.Minute)
	events()
	told = nil
	must(t, twin.Undelete("Account", id))
	clock.Advance(10 * time.Millisecond)
	must(t, twin.Delete("Account", id))
	told = append(told, read(t, c, "Account", id))
	must(t, twin.Undelete("Account", id))
	events()
	clock.Advance(3 * time.Second)
	p, err := c.Changes(t.Context(), "Account", "")
	must(t, err)
	told = append(told, p.Natives...)
	always("an undelete that only a listing found", false)
}

// permute calls each with every order of all.
func permute(all []record.Native, each func([]record.Native)) {
	var walk func(head, rest []record.Native)
	walk = func(head, rest []record.Native) {
		if len(rest) == 0 {
			each(head)
		}
		for i := range rest {
			walk(append(slices.Clone(head), rest[i]), slices.Delete(slices.Clone(rest), i, i+1))
		}
	}
	walk(nil, all)
}

// A merge of two accounts, as events, messages, reads and the listing tell it.
func TestMergedAccounts(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{RetryBase: time.Millisecond}, nil)
	messages := messageBus(t, c, twin, clock.Now)
	winner := edit(t, twin, "Account", "", map[string]any{"Name": "Ernst Handel", "Sorrel_Id__c": "customer-1", "BillingCity": "Graz"})
	loser := edit(t, twin, "Account", "", map[string]any{"Name": "ernst handel gmbh", "Sorrel_Id__c": "customer-2", "Phone": "+43 1"})
	person := edit(t, twin, "Contact", "", map[string]any{"LastName": "Mendel", "AccountId": loser})
	order := edit(t, twin, "Order", "", map[string]any{"AccountId": loser, "EffectiveDate": "2026-11-02", "Status": "Draft"})
	messages()
	events := bus(t, twin)
	clock.Advance(2 * time.Second)
	must(t, twin.Merge("Account", winner, loser))

	type said struct {
		gone  bool
		into  string
		field any
	}
	got := map[string]said{}
	for _, e := range events() {
		d, err := c.Event(t.Context(), e, clock.Now())
		must(t, err)
		for _, n := range d.Natives {
			if n.Hint() || n.Ours || n.Actor != salesforcetwin.Person {
				t.Errorf("event says %+v", n)
			}
			got[n.ID] = said{n.Gone, n.Into, n.Fields["AccountId"]}
		}
	}
	want := map[string]said{winner: {}, loser: {gone: true, into: winner}, person: {field: winner}, order: {field: winner}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events say %+v, want %+v", got, want)
	}
	if ids := messages(); !slices.Equal(ids, []string{winner}) {
		t.Errorf("messages about %v, want the winner alone: nothing triggers for children", ids)
	}
	if n := read(t, c, "Account", winner); n.Fields["Phone"] != nil || n.Fields["BillingCity"] != "Graz" || n.External != "customer-1" {
		t.Errorf("the winner keeps its values: %+v", n)
	}
	dead := read(t, c, "Account", loser)
	if !dead.Gone || dead.Into != winner || dead.External != "customer-2" || dead.Actor != salesforcetwin.Person {
		t.Errorf("loser: %+v", dead)
	}
	p, err := c.Changes(t.Context(), "Account", "")
	must(t, err)
	for _, n := range p.Natives {
		if n.ID == loser && (!n.Gone || n.Into != winner) {
			t.Errorf("listed: %+v", n)
		}
	}
	clock.Advance(2 * time.Second)
	must(t, twin.Undelete("Account", loser))
	back := read(t, c, "Account", loser)
	if back.Gone || back.Into != "" || back.Fields["MasterRecordId"] != nil || back.Fields["Phone"] != "+43 1" || !back.Born.After(dead.Version.At) {
		t.Errorf("unmerged: %+v", back)
	}
	if n := one(t, c, events(), clock.Now()).Natives[0]; n.ID != loser || n.Gone || !n.Born.After(dead.Version.At) || n.External != "customer-2" {
		t.Errorf("unmerged: event says %+v", n)
	}
	if n := read(t, c, "Contact", person); n.Fields["AccountId"] != winner {
		t.Errorf("the winner keeps the children: %v", n.Fields)
	}
	for _, pair := range [][2]string{{winner, winner}, {winner, order}, {"001xx0000000zzz", loser}} {
		if twin.Merge("Account", pair[0], pair[1]) == nil {
			t.Errorf("merging %v was accepted", pair)
		}
	}
	if twin.Merge("Order", order, order) == nil {
		t.Error("orders cannot be merged")
	}
}

// messageBus takes Outbound Messages and returns the sorted ids of their records since the last call.
func messageBus(t *testing.T, c *salesforce.Connector, twin *salesforcetwin.Twin, now func() time.Time) func() []string {
	t.Helper()
	var mu sync.Mutex
	var ids []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		d, err := c.Webhook(r.Context(), platform.Request{Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body, Now: now()})
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		for _, n := range d.Natives {
			ids = append(ids, n.ID)
		}
		mu.Unlock()
		w.Header().Set("Content-Type", d.Ack.ContentType)
		_, _ = w.Write(d.Ack.Body)
	}))
	t.Cleanup(s.Close)
	twin.Kit().SendTo(s.URL)
	return func() []string {
		t.Helper()
		must(t, twin.Kit().Drain(t.Context()))
		mu.Lock()
		defer mu.Unlock()
		all := ids
		ids = nil
		slices.Sort(all)
		return all
	}
}

// The end of many accounts in one event costs one query, and where the org cannot be asked each is a hint.
func TestDeletionsAreFollowed(t *testing.T) {
	t.Parallel()
	c, org := start(t, time.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) {
		cfg.Gate = budget.Local(record.Salesforce, budget.Rules{Pause: time.Millisecond}, budget.Options{Worker: "w", Now: time.Now})
	})
	var erase []platform.Write
	for i := range 3 {
		erase = append(erase, platform.Write{Ref: refTo("Contact", edit(t, org, "Contact", "", map[string]any{"LastName": fmt.Sprint(i)})), Delete: true})
	}
	events := bus(t, org)
	c.Write(t.Context(), erase)
	before := calls(org)
	arrived := events()
	d := one(t, c, arrived, time.Now())
	if len(d.Natives) != 3 || calls(org) != before+1 {
		t.Errorf("%d natives, %d calls", len(d.Natives), calls(org)-before)
	}
	for _, n := range d.Natives {
		if !n.Gone || n.Into != "" || !n.Ours || n.Actor != salesforcetwin.IntegrationUser {
			t.Errorf("deleted by us: %+v", n)
		}
	}
	org.Kit().SetFaults(twin.Faults{Outage: true})
	for _, n := range one(t, c, arrived, time.Now()).Natives {
		if !n.Hint() || n.Gone || n.Ours {
			t.Errorf("the org is away: %+v, want a hint", n)
		}
	}
	alone, err := salesforce.New(salesforce.Config{Now: time.Now, Credentials: salesforce.Credentials{OrgID: "00Dxx0000001gEREAY"}})
	must(t, err)
	for _, n := range one(t, alone, arrived, time.Now()).Natives {
		if !n.Hint() {
			t.Errorf("no API: %+v, want a hint", n)
		}
	}
}

func TestContacts(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
	customer := edit(t, twin, "Account", "", map[string]any{"Name": "A", "Sorrel_Id__c": "customer-1"})
	events := bus(t, twin)
	w := platform.Write{Ref: refTo("Contact", ""), External: "contact-1", Fields: map[string]any{"FirstName": "Christina", "LastName": "Berglund",
		"Email": "christina@berglunds.example", "Title": "Order Administrator", "Account": map[string]any{"Sorrel_Id__c": "customer-1"}}}
	out := c.Write(t.Context(), []platform.Write{w})[0]
	must(t, out.Err)
	n := one(t, c, events(), clock.Now()).Natives[0]
	full := read(t, c, "Contact", out.ID)
	for f, v := range full.Fields { // one shape, however it came
		if _, parent := v.(map[string]any); parent || f == "Id" || f == "IsDeleted" || f == "SystemModstamp" {
			continue
		}
		if got, said := n.Fields[f]; !said || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: event says %v (%v), read says %v", f, got, said, v)
		}
	}
	if full.Fields["AccountId"] != customer || full.Fields["Active__c"] != true || !n.Ours {
		t.Errorf("%v", full.Fields)
	}
	clock.Advance(2 * time.Second)
	edit(t, twin, "Contact", out.ID, map[string]any{"FirstName": nil, "LastName": "Moos"})
	n = one(t, c, events(), clock.Now()).Natives[0]
	if v, said := n.Fields["FirstName"]; !said || v != nil || n.Fields["LastName"] != "Moos" || len(n.Fields) != 3 {
		t.Errorf("update says %v", n.Fields)
	}
	if m, _ := twin.Get("Contact", out.ID); m["Name"] != "Moos" {
		t.Errorf("compound name %v", m["Name"])
	}
	for field, bad := range map[string]any{"Name": "X", "LastName": nil, "Email": "at@home"} {
		if out := c.Write(t.Context(), []platform.Write{{Ref: refTo("Contact", out.ID), External: "contact-1", Fields: map[string]any{field: bad}}})[0]; !refuses(out.Err, field) {
			t.Errorf("%s = %v: %v", field, bad, out.Err)
		}
	}
}

// refuses reports whether err is a refusal that names exactly this field.
func refuses(err error, field string) bool {
	var e *fault.Error
	return fault.Is(err, fault.Refused) && errors.As(err, &e) && slices.Equal(e.Fields, []string{field})
}

// A value that a picklist does not know is refused by field name, and it is found out when it is added.
func TestPicklistDrift(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, org := start(t, clock.Now, salesforcetwin.Options{}, nil)
	drifted := map[string]any{"Name": "A", "Segment__c": "Public Sector"}
	for _, writes := range [][]platform.Write{{account("", "customer-1", drifted)}, {account("", "customer-1", drifted), account("", "customer-2", nil)}} {
		err := c.Write(t.Context(), writes)[0].Err
		var e *fault.Error
		if !refuses(err, "Segment__c") || !errors.As(err, &e) || e.Code != "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST" {
			t.Errorf("%d writes: %v", len(writes), err)
		}
	}
	accepts := func(field, value string) bool {
		t.Helper()
		ok, err := c.Accepts(t.Context(), "Account", field, value)
		must(t, err)
		return ok
	}
	before := calls(org)
	for _, test := range []struct {
		field, value string
		want         bool
	}{
		{"Segment__c", "Public Sector", false}, {"Segment__c", "Small", true}, {"segment__C", "small", false}, {"Segment__c", "", true},
		{"Rating", "anything", true}, {"Name", "anything", true},
	} {
		if got := accepts(test.field, test.value); got != test.want {
			t.Errorf("%s %q: %v", test.field, test.value, got)
		}
	}
	must(t, org.AddPicklistValue("Account", "Segment__c", "Public Sector"))
	clock.Advance(59 * time.Second)
	if accepts("Segment__c", "Public Sector") || calls(org) != before+1 {
		t.Errorf("%d calls within a minute, want 1", calls(org)-before)
	}
	clock.Advance(time.Second)
	if !accepts("Segment__c", "Public Sector") {
		t.Error("the new value is not found")
	}
	must(t, c.Write(t.Context(), []platform.Write{account("", "customer-1", drifted)})[0].Err)
	_, err := c.Accepts(t.Context(), "Account", "No_Such__c", "x")
	wantClass(t, err, fault.NotFound)
	_, err = c.Accepts(t.Context(), "Lead", "Status", "x")
	wantClass(t, err, fault.NotFound)
	clock.Advance(time.Hour)
	org.Kit().SetFaults(twin.Faults{Outage: true})
	_, err = c.Accepts(t.Context(), "Account", "Segment__c", "Small")
	wantClass(t, err, fault.Down)
}

// Every way says who changed a record, and the integration user's name on an edit does not make it ours.
func TestActors(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, twin := start(t, clock.Now, salesforcetwin.Options{}, nil)
	events := bus(t, twin)
	id := c.Write(t.Context(), []platform.Write{account("", "customer-1", nil)})[0].ID
	if n := one(t, c, events(), clock.Now()).Natives[0]; !n.Ours || n.Actor != salesforcetwin.IntegrationUser {
		t.Errorf("our own write: %+v", n)
	}
	for i, user := range []string{salesforcetwin.Person, "005xx000001Sxyz", salesforcetwin.IntegrationUser} {
		clock.Advance(2 * time.Second)
		phone := strings.Repeat("1", i+1)
		_, err := twin.EditAs(user, "Account", id, map[string]any{"Phone": phone})
		must(t, err)
		n := one(t, c, events(), clock.Now()).Natives[0]
		now := read(t, c, "Account", id)
		if n.Ours || now.Ours || !strings.HasPrefix(n.Actor, user) || now.Actor != n.Actor || n.Fields["Phone"] != phone {
			t.Errorf("by %s: event %+v, read %+v", user, n, now)
		}
	}
	if _, err := twin.EditAs("anna", "Account", id, nil); err == nil {
		t.Error("a name that is no user id was accepted")
	}
}

// Of an object whose records are Sorrel's alone, people's own are not listed, page by page and deletions included.
func TestOwnRecordsAlone(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) { cfg.Own, cfg.Page = []string{"Task"}, 2 })
	var want, got []string
	for i := range 7 {
		fields := map[string]any{"Subject": "A task"}
		if i%2 == 0 {
			fields["Sorrel_Id__c"] = fmt.Sprint("task-", i)
		}
		id, err := twin.Edit("Task", "", fields)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			want = append(want, id)
		}
	}
	if err := twin.Delete("Task", want[0]); err != nil {
		t.Fatal(err)
	}
	for cursor, more := "", true; more; {
		page, err := c.Changes(t.Context(), "Task", cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.Natives {
			got = append(got, n.ID)
			if n.Gone != (n.ID == want[0]) {
				t.Errorf("%s: gone %v", n.ID, n.Gone)
			}
		}
		cursor, more = page.Cursor, page.More
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}
