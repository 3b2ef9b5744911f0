package netsuite_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
)

// heard points the twin's webhooks at the connector and returns what arrived since the last call.
func (a account) heard(t *testing.T, now func() time.Time) func() []record.Native {
	t.Helper()
	got := make(chan record.Native, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d, err := a.Webhook(r.Context(), platform.Request{Header: r.Header, ContentType: r.Header.Get("Content-Type"), Body: body, Now: now()})
		if err != nil {
			t.Error(err)
		}
		for _, n := range d.Natives {
			got <- n
		}
	}))
	t.Cleanup(hook.Close)
	a.twin.Kit().SendTo(hook.URL)
	return func() []record.Native {
		t.Helper()
		if err := a.twin.Kit().Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		var all []record.Native
		for len(got) > 0 {
			all = append(all, <-got)
		}
		return all
	}
}

func (a account) read(t *testing.T, object, id string) record.Native {
	t.Helper()
	n, err := a.Read(t.Context(), ref(object, id))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// change writes by native id and returns what the write cost in calls.
func (a account) change(t *testing.T, object, id string, fields map[string]any) int {
	t.Helper()
	before := a.twin.Kit().Stats().Calls
	if w := a.Write(t.Context(), []platform.Write{{Ref: ref(object, id), External: "x-1", Fields: fields}})[0]; w.Err != nil || w.ID != id {
		t.Fatalf("write %v: %+v", fields, w)
	}
	return a.twin.Kit().Stats().Calls - before
}

// line is what a mapping writes for fields of the line that bears flag.
func line(flag string, address map[string]any) map[string]any {
	return map[string]any{flag: true, "addressBookAddress": address}
}

func book(lines ...any) map[string]any {
	return map[string]any{"addressBook": map[string]any{"items": lines}}
}

// shown is a book as "flags street, zip city country" per line.
func shown(n record.Native) string {
	var out []string
	text := func(v any) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprint(v)
	}
	for _, l := range n.Fields["addressBook"].(map[string]any)["items"].([]any) {
		m := l.(map[string]any)
		flags := ""
		if m["defaultBilling"] == true {
			flags += "B"
		}
		if m["defaultShipping"] == true {
			flags += "S"
		}
		address, _ := m["addressBookAddress"].(map[string]any)
		out = append(out, strings.TrimSpace(flags+" "+text(address["addr1"])+", "+text(address["city"])+" "+text(address["country"])))
	}
	return strings.Join(out, "; ")
}

func TestWritingTheAddressBook(t *testing.T) {
	t.Parallel()
	old := map[string]any{"addr1": "Old 1", "city": "Reims", "country": "FR"}
	for name, tt := range map[string]struct {
		there []any
		write map[string]any
		want  string
	}{
		"its own line":             {[]any{line("defaultShipping", old), line("defaultBilling", old)}, book(line("defaultBilling", map[string]any{"addr1": "New 2"})), "S Old 1, Reims FR; B New 2, Reims FR"},
		"a part is emptied":        {[]any{line("defaultBilling", old)}, book(line("defaultBilling", map[string]any{"addr1": nil})), "B -, Reims FR"},
		"a country":                {[]any{line("defaultBilling", old)}, book(line("defaultBilling", map[string]any{"country": "DE"})), "B Old 1, Reims DE"},
		"other lines stay":         {[]any{map[string]any{"label": "Depot", "addressBookAddress": old}, line("defaultBilling", old)}, book(line("defaultBilling", map[string]any{"city": "Bern"})), "Old 1, Reims FR; B Old 1, Bern FR"},
		"no line":                  {nil, book(line("defaultBilling", map[string]any{"addr1": "New 2", "city": nil, "country": "DE"})), "B New 2, - DE"},
		"no default":               {[]any{map[string]any{"label": "Depot", "addressBookAddress": old}}, book(line("defaultBilling", map[string]any{"addr1": "New 2"})), "Old 1, Reims FR; B New 2, - -"},
		"nothing to empty":         {nil, book(line("defaultBilling", map[string]any{"addr1": nil})), ""},
		"goods go where they went": {[]any{map[string]any{"defaultBilling": true, "defaultShipping": true, "addressBookAddress": old}}, book(line("defaultBilling", map[string]any{"addr1": "New 2"})), "S Old 1, Reims FR; B New 2, Reims FR"},
		"the same again":           {[]any{map[string]any{"defaultBilling": true, "defaultShipping": true, "addressBookAddress": old}}, book(line("defaultBilling", map[string]any{"addr1": "Old 1", "country": "FR"})), "BS Old 1, Reims FR"},
		"both of one line": {[]any{map[string]any{"defaultBilling": true, "defaultShipping": true, "addressBookAddress": old}},
			book(line("defaultBilling", map[string]any{"addr1": "New 2"}), line("defaultShipping", map[string]any{"city": "Nancy"})), "S Old 1, Nancy FR; B New 2, Reims FR"},
		"one for both": {[]any{line("defaultShipping", old), line("defaultBilling", map[string]any{"addr1": "B 1"})},
			book(map[string]any{"defaultBilling": true, "defaultShipping": true, "addressBookAddress": map[string]any{"city": "Nancy"}}), "Old 1, Reims FR; BS B 1, Nancy -"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
			id := mustEdit(t, a.twin, "customer", "", map[string]any{"companyName": "A", "addressBook": map[string]any{"items": append([]any{}, tt.there...)}})
			a.read(t, "customer", id) // signs in
			for range 2 {             // a repeat changes nothing
				if calls := a.change(t, "customer", id, tt.write); calls != 2 {
					t.Errorf("%d calls, want 2", calls)
				}
				if got := shown(a.read(t, "customer", id)); got != tt.want {
					t.Errorf("the book is %q, want %q", got, tt.want)
				}
			}
			if calls := a.change(t, "customer", id, map[string]any{"phone": "1"}); calls != 1 {
				t.Errorf("a write without addresses took %d calls", calls)
			}
		})
	}
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	for range 2 { // upserts
		w := a.Write(t.Context(), []platform.Write{{Ref: ref("customer", ""), External: "c-1", Fields: map[string]any{"companyName": "A", "addressBook": book(line("defaultBilling", old))["addressBook"]}}})[0]
		if w.Err != nil || shown(a.read(t, "customer", w.ID)) != "B Old 1, Reims FR" {
			t.Errorf("upsert: %+v", w)
		}
	}
	w := a.Write(t.Context(), []platform.Write{{Ref: ref("customer", "4711"), External: "c-2", Fields: book(line("defaultBilling", old))}, {Ref: ref("customer", ""), External: "c-3", Fields: book("x")}})
	if !fault.Is(w[0].Err, fault.NotFound) || !fault.Is(w[1].Err, fault.Contract) {
		t.Errorf("a book of nobody: %v; no line: %v", w[0].Err, w[1].Err)
	}
}

// Bare text in a body becomes what the record API takes, which the twin insists on.
func TestBareTextIsWritten(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	id := mustEdit(t, a.twin, "customer", "", customerFields(1))
	a.change(t, "customer", id, map[string]any{"creditHoldOverride": "ON", "terms": "3", "vatRegNumber": "CHE-1", "custentity_segment": "small", "balance": 7})
	n := a.read(t, "customer", id)
	if got := fmt.Sprint(n.Fields["creditHoldOverride"], n.Fields["terms"], n.Fields["vatRegNumber"], n.Fields["custentity_segment"], n.Fields["balance"]); got != "map[id:ON refName:On] map[id:3 refName:Net 60]CHE-1small<nil>" {
		t.Error(got)
	}
	if w := a.Write(t.Context(), []platform.Write{{Ref: ref("customer", id), Fields: map[string]any{"creditHoldOverride": "MAYBE"}}})[0]; !fault.Is(w.Err, fault.Refused) {
		t.Errorf("an unknown choice: %v", w.Err)
	}
}

// What comes back of our own writes and of others', and by whom.
func TestWhoDidIt(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, nil)
	heard := a.heard(t, clock.Now)
	id := mustEdit(t, a.twin, "customer", "", customerFields(1))
	clock.Advance(time.Minute)
	type said struct {
		by   string
		ours bool
		seq  int64
	}
	check := func(what string, pushed, seen said) {
		t.Helper()
		all := heard()
		if len(all) == 0 {
			t.Fatalf("%s: no webhook", what)
		}
		n := all[len(all)-1]
		if got := (said{n.Actor, n.Ours, n.Version.Seq}); got != pushed || n.Partial || n.Fields == nil {
			t.Errorf("%s came as %+v, partial %v; want %+v and all fields", what, got, n.Partial, pushed)
		}
		clock.Advance(5 * time.Second)
		page, err := a.Changes(t.Context(), "customer", "")
		if err != nil || len(page.Natives) != 1 {
			t.Fatal(page, err)
		}
		for _, r := range []record.Native{a.read(t, "customer", id), page.Natives[0]} {
			if got := (said{r.Actor, r.Ours, r.Version.Seq}); got != seen || r.Partial || !r.Version.Final {
				t.Errorf("%s is read as %+v, partial %v, final %v; want %+v", what, got, r.Partial, r.Version.Final, seen)
			}
			same(t, r.Fields, n.Fields)
		}
	}
	check("a person's edit", said{"7", false, 1}, said{"7", false, 1})
	a.change(t, "customer", id, map[string]any{"creditLimit": 5})
	check("our own write", said{netsuitetwin.IntegrationUser, true, 2}, said{netsuitetwin.IntegrationUser, false, 2})
	if _, err := a.twin.EditAs(netsuitetwin.IntegrationUser, "customer", id, map[string]any{"creditLimit": 6}); err != nil {
		t.Fatal(err)
	}
	check("a person's edit under our name", said{netsuitetwin.IntegrationUser, false, 3}, said{netsuitetwin.IntegrationUser, false, 3})
	if _, err := a.twin.EditAs("12", "customer", id, map[string]any{"creditLimit": 7}); err != nil {
		t.Fatal(err)
	}
	check("another person's edit", said{"12", false, 4}, said{"12", false, 4})
}

func TestDeletes(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now}, nil)
	heard := a.heard(t, time.Now)
	id := mustEdit(t, a.twin, "customer", "", customerFields(1))
	busy := mustEdit(t, a.twin, "customer", "", customerFields(2))
	order := mustEdit(t, a.twin, "salesOrder", "", orderFields(busy, 1))
	heard()
	erase := func(object, id string) error {
		w := a.Write(t.Context(), []platform.Write{{Ref: ref(object, id), External: "x", Delete: true}})
		return w[0].Err
	}
	before := a.twin.Kit().Stats().Calls
	if err := erase("customer", id); err != nil || a.twin.Kit().Stats().Calls-before > 2 { // a sign-in and the deletion
		t.Error(err)
	}
	all := heard()
	if len(all) != 1 || !all[0].Gone || !all[0].Ours || all[0].Into != "" || all[0].ID != id || all[0].Actor != netsuitetwin.IntegrationUser || all[0].Version.IsZero() {
		t.Errorf("our deletion came back as %+v", all)
	}
	if err := erase("customer", id); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	if err := erase("customer", busy); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "dependent") {
		t.Errorf("a customer with orders: %v", err)
	}
	if err := a.twin.Delete("customer", busy); err == nil {
		t.Error("a person deleted a customer with orders")
	}
	if err := erase("salesOrder", order); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "x"} {
		if err := erase("customer", bad); !fault.Is(err, fault.Contract) {
			t.Errorf("delete of %q: %v", bad, err)
		}
	}
	lost := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			_, _ = io.WriteString(w, `{"access_token":"a"}`)
			return
		}
		http.Error(w, "<html>no such host here</html>", http.StatusNotFound)
	}))
	t.Cleanup(lost.Close)
	c, err := netsuite.New(netsuite.Config{URL: lost.URL, Now: time.Now, Credentials: a.twin.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Write(t.Context(), []platform.Write{{Ref: ref("customer", "7"), Delete: true}}); !fault.Is(w[0].Err, fault.Down) {
		t.Errorf("a gateway's 404 counts as deleted: %v", w[0].Err)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	a := open(t, netsuitetwin.Options{Now: clock.Now}, nil)
	heard := a.heard(t, clock.Now)
	winner := mustEdit(t, a.twin, "customer", "", map[string]any{"companyName": "Winner", "externalId": "c-1", "addressBook": book(line("defaultBilling", map[string]any{"addr1": "W 1"}))["addressBook"]})
	fields := customerFields(2)
	fields["externalId"] = "c-2"
	loser := mustEdit(t, a.twin, "customer", "", fields)
	order := mustEdit(t, a.twin, "salesOrder", "", orderFields(loser, 1))
	contact := mustEdit(t, a.twin, "contact", "", map[string]any{"firstName": "Maria", "lastName": "Anders", "company": map[string]any{"id": loser}})
	clock.Advance(time.Minute)
	cursors := map[string]string{}
	for _, object := range []string{"customer", "contact", "salesOrder"} {
		page, err := a.Changes(t.Context(), object, "")
		if err != nil || len(page.Natives) == 0 {
			t.Fatal(object, err)
		}
		cursors[object] = page.Cursor
	}
	heard()
	clock.Advance(time.Hour)
	body := fmt.Sprintf(`{"object":"customer","winner":%q,"loser":%q}`, winner, loser)
	resp, err := http.Post(a.url+"/_twin/merge", "application/json", strings.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	all := heard()
	if len(all) != 1 || all[0].Ref != ref("customer", loser) || !all[0].Gone || all[0].Into != winner || all[0].External != "c-2" || all[0].Ours || all[0].Actor != "7" || !all[0].Version.At.Equal(clock.Now()) {
		t.Errorf("the merge came as %+v", all)
	}
	if _, err := a.Read(t.Context(), ref("customer", loser)); !fault.Is(err, fault.NotFound) {
		t.Errorf("the loser: %v", err)
	}
	w := a.read(t, "customer", winner)
	if got := fmt.Sprint(w.External, " ", w.Fields["companyName"], " ", w.Fields["email"], " ", w.Fields["creditLimit"], " ", shown(w)); got != "c-1 Winner a@b.test 10000.5 B W 1, - -; Berguvsvägen 8, Luleå SE" {
		t.Error("the winner is", got)
	}
	clock.Advance(time.Minute)
	for object, want := range map[string]struct{ id, field string }{"customer": {winner, "companyName"}, "contact": {contact, "company"}, "salesOrder": {order, "entity"}} {
		page, err := a.Changes(t.Context(), object, cursors[object])
		if err != nil || !slices.ContainsFunc(page.Natives, func(n record.Native) bool {
			id, _ := n.Fields[want.field].(map[string]any)
			return n.ID == want.id && (object == "customer" || id["id"] == json.Number(winner).String())
		}) {
			t.Errorf("%s: the merge is not listed: %+v, %v", object, page.Natives, err)
		}
	}
	for _, bad := range [][3]string{{"customer", winner, winner}, {"customer", winner, loser}, {"salesOrder", order, order}, {"customer", "x", winner}} {
		if err := a.twin.Merge(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("merged %v", bad)
		}
	}
}

// An account that changes what is saved.
func TestNormalise(t *testing.T) {
	t.Parallel()
	a := open(t, netsuitetwin.Options{Now: time.Now, Normalise: func(object, field string, v any) any {
		s, _ := v.(string)
		switch object + "." + field {
		case "customer.phone":
			return strings.ReplaceAll(s, " ", "")
		case "customer.addressBook.addressBookAddress.zip":
			return strings.ToUpper(s)
		case "customer.creditLimit":
			return json.Number("100")
		}
		return v
	}}, nil)
	id := mustEdit(t, a.twin, "customer", "", customerFields(1))
	a.change(t, "customer", id, map[string]any{"phone": "+41 44 1", "creditLimit": json.Number("100.004"), "addressBook": book(line("defaultBilling", map[string]any{"zip": "ab 1"}))["addressBook"]})
	n := a.read(t, "customer", id)
	if lines := n.Fields["addressBook"].(map[string]any)["items"].([]any); n.Fields["phone"] != "+41441" || n.Fields["creditLimit"] != json.Number("100") ||
		lines[1].(map[string]any)["addressBookAddress"].(map[string]any)["zip"] != "AB 1" {
		t.Errorf("%v", n.Fields)
	}
}
