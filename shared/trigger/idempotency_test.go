package trigger_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
)

// keyed sends a request with a key.
func (d *desk) keyed(key, method, path, body string) *httptest.ResponseRecorder {
	d.Helper()
	r := d.local(method, path, body)
	r.Header.Set(trigger.KeyHeader, key)
	w := httptest.NewRecorder()
	d.routes.ServeHTTP(w, r)
	return w
}

// answers checks the status of a keyed request, and what it says.
func (d *desk) answers(w *httptest.ResponseRecorder, status int, says string) {
	d.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), says) {
		d.Errorf("%d %s, want %d with %q", w.Code, w.Body, status, says)
	}
}

// overridden counts the overrides that the log of the record has, by their reason.
func (d *desk) overridden(reason string) int {
	d.Helper()
	log, err := d.ledger.Log(d.Context(), string(one))
	if err != nil {
		d.Fatal(err)
	}
	n := 0
	for _, entry := range log {
		for _, e := range entry.Events {
			if e.Action == "overridden" && strings.HasSuffix(e.Detail, reason) {
				n++
			}
		}
	}
	return n
}

const (
	phone  = "/v1/records/" + string(one) + "/overrides/phone"
	mine   = `{"text":"0221 1","reason":"mine"}`
	theirs = `{"text":"0221 2","reason":"theirs"}`
)

func TestAKeyedDecisionIsTakenOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "stewart@northwind.example"
	first := d.keyed("k1", "PUT", phone, mine)
	d.answers(first, 200, "phone is set")
	var out any
	d.ok("PUT", phone, theirs, &out)
	for _, key := range []string{"k1", `"k1"`, " k1 "} { // bare, or quoted as a structured field
		again := d.keyed(key, "PUT", phone, mine)
		if again.Code != 200 || again.Body.String() != first.Body.String() || again.Header().Get(trigger.AgainHeader) != "true" || again.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %v, want %s", key, again.Code, again.Body, again.Header(), first.Body)
		}
	}
	if first.Header().Get(trigger.AgainHeader) != "" || d.overridden("mine") != 1 || d.overridden("theirs") != 1 {
		t.Errorf("mine %d times, theirs %d times", d.overridden("mine"), d.overridden("theirs"))
	}
	// The key is another one for another route or person; for something else on this route it is a mistake.
	d.answers(d.keyed("k1", "DELETE", phone, ""), 200, "the rule decides phone")
	d.answers(d.keyed("k1", "PUT", phone, theirs), 422, "sent with another request already")
	d.answers(d.keyed("k1", "PUT", strings.Replace(phone, string(one), string(other), 1), mine), 422, "use a new key")
	d.answers(d.keyed("k1", "PUT", phone+"?x=1", mine), 422, "use a new key")
	d.as = "sarah@northwind.example"
	d.answers(d.keyed("k1", "PUT", phone, mine), 403, "steward")
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	d.as = "stewart@northwind.example"
	for _, key := range []string{"", `""`, "a b", "a,b", `a"b`, `a\b`, "é", strings.Repeat("k", 129)} {
		d.answers(d.keyed(key, "PUT", phone, mine), 400, "Idempotency-Key cannot be read")
	}
	r := d.local("PUT", phone, mine)
	r.Header[trigger.KeyHeader] = []string{"a", "b"}
	if status, p := d.send(r, nil); status != 400 {
		t.Errorf("two keys: %+v", p)
	}
	d.answers(d.keyed("k", "PUT", phone, strings.Repeat("x", 65<<10)), 413, "65536")
	if d.overridden("") != 0 {
		t.Error("something was done")
	}
	d.answers(d.keyed(strings.Repeat("k", 128), "PUT", phone, mine), 200, "phone is set")
}

// Every route that changes something takes a key.
func TestEveryChangeTakesAKey(t *testing.T) {
	t.Parallel()
	d, _ := withLetters(t)
	var l deadletters.Listing
	d.ok("GET", "/v1/deadletters?class=poison", "", &l)
	unmatched := "/v1/exceptions/" + d.exception("type=unmatched").ID
	for _, c := range []struct{ as, method, path, body string }{
		{"fiona@northwind.example", "POST", "/v1/proposals/" + d.proposal().ID, `{"decision":"approve","comment":"yes"}`},
		{"stewart@northwind.example", "POST", unmatched, `{"action":"assign","assignee":"stewart@northwind.example"}`},
		{"stewart@northwind.example", "PUT", phone, mine},
		{"stewart@northwind.example", "DELETE", phone, ``},
		{"stewart@northwind.example", "POST", "/v1/records/" + string(one) + "/merge", `{"from":"` + string(other) + `"}`},
		{"stewart@northwind.example", "POST", "/v1/records/" + string(other) + "/unmerge", ``},
		{"stewart@northwind.example", "POST", "/v1/deadletters/" + l.Letters[0].ID, `{"action":"discard","reason":"junk"}`},
		{"stewart@northwind.example", "POST", "/v1/deadletters", `{"action":"redrive","all":true}`},
	} {
		d.as = c.as
		first := d.keyed("key", c.method, c.path, c.body)
		d.answers(first, 200, "")
		again := d.keyed("key", c.method, c.path, c.body)
		d.answers(again, 200, "")
		if again.Body.String() != first.Body.String() || again.Header().Get(trigger.AgainHeader) == "" {
			t.Errorf("%s %s: %s, then %s", c.method, c.path, first.Body, again.Body)
		}
	}
}

// What was refused is forgotten: it is judged anew.
func TestARefusedDecisionFreesItsKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, trigger.Trusted)
	path := "/v1/exceptions/" + d.exception("type=unmatched").ID
	d.as = "sarah@northwind.example"
	ignore := `{"action":"ignore","reason":"a test record"}`
	d.answers(d.keyed("k", "POST", path, ignore), 403, "role")
	d.as = "stewart@northwind.example"
	d.answers(d.keyed("k", "POST", path, `{"action":"ignore"}`), 400, "reason")
	d.answers(d.keyed("k", "POST", path, ignore), 200, "ignored")
}

// While a request is under way, the same one has to wait; and it is told how long.
func TestTheSameDecisionAtOnce(t *testing.T) {
	t.Parallel()
	faulty := &storetest.Faulty{Store: store.NewMemory(now)}
	d := deskOn(t, load(t), trigger.Trusted, faulty, now)
	d.as = "stewart@northwind.example"
	commits := 0
	faulty.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpCommit {
			if commits++; commits == 2 { // the first is the key's
				faulty.Next = nil
				w := d.keyed("k", "PUT", phone, mine)
				d.answers(w, 409, "being done at this moment")
				if got := w.Header().Get("Retry-After"); got != "30" {
					t.Errorf("Retry-After: %q", got)
				}
			}
		}
		return storetest.None
	}
	d.answers(d.keyed("k", "PUT", phone, mine), 200, "phone is set")
	if n := d.overridden("mine"); n != 1 || commits != 2 {
		t.Errorf("it was done %d times", n)
	}
}

// A request dies at each of its requests to the store. Meanwhile somebody else decides otherwise. Sent again, what had
// happened is not done over the other's decision, and what had not is done.
func TestADecisionThatDied(t *testing.T) {
	t.Parallel()
	set := load(t)
	happened, looks := 0, 0
	for nth := 1; ; nth++ {
		at := at
		clock := func() time.Time { return at }
		faulty := &storetest.Faulty{Store: store.NewMemory(clock)}
		d := deskOn(t, set, trigger.Trusted, faulty, clock)
		d.as = "stewart@northwind.example"
		calls := 0
		faulty.Next = func(op string, _ []store.Key) storetest.Fault {
			if calls++; calls < nth {
				return storetest.None
			}
			if calls == nth && op == storetest.OpCommit {
				return storetest.FailAfter
			}
			return storetest.FailBefore
		}
		_ = d.keyed("k", "PUT", phone, mine)
		faulty.Next = nil
		if calls < nth {
			break
		}
		was := d.overridden("mine")
		happened += was
		d.answers(d.keyed("k2", "PUT", phone, theirs), 200, "phone is set")
		at = at.Add(time.Minute)
		w := d.keyed("k", "PUT", phone, mine)
		d.answers(w, 200, "")
		if found := strings.Contains(w.Body.String(), "it is done: the answer"); found && was == 0 {
			t.Errorf("dead at %d: %s", nth, w.Body)
		} else if found {
			looks++
		}
		if n := d.overridden("mine"); n != 1 {
			t.Errorf("dead at %d: done %d times", nth, n)
		}
		var why []record.Why
		d.ok("GET", "/v1/records/"+string(one)+"/why?field=phone", "", &why)
		if want := map[bool]string{true: "0221 2", false: "0221 1"}[was == 1]; why[0].Value.String() != want {
			t.Errorf("dead at %d, done %d times: phone is %s, want %s", nth, was, why[0].Value, want)
		}
		if again := d.keyed("k", "PUT", phone, mine); again.Body.String() != w.Body.String() {
			t.Errorf("dead at %d: %s, then %s", nth, w.Body, again.Body)
		}
	}
	if happened == 0 || looks == 0 {
		t.Errorf("it happened %d times before the death, and was looked for %d times", happened, looks)
	}
}

// A letter was discarded, and the answer was lost.
func TestADiscardThatDied(t *testing.T) {
	t.Parallel()
	at := at
	clock := func() time.Time { return at }
	faulty := &storetest.Faulty{Store: store.NewMemory(clock)}
	d := deskOn(t, load(t), trigger.Trusted, faulty, clock)
	d.as = "stewart@northwind.example"
	dead := queue.NewMemory(queue.Settings{Name: "inbound-dlq.fifo"}, nil, clock)
	inbound := queue.NewMemory(queue.Settings{Name: "inbound.fifo"}, dead, clock)
	tele := telemetry.New(nil, clock, nil)
	d.routes = trigger.Desk{Config: d.config, Who: trigger.Trusted(d.config), Telemetry: tele, Once: d.once(), Act: steward.New(steward.Deps{}),
		Dead: deadletters.New(deadletters.Deps{Ledger: d.ledger, Config: d.config, Now: clock, Telemetry: tele,
			Queues: map[string]deadletters.Pair{"inbound": {Source: inbound, Dead: dead}}})}.Routes()
	if err := dead.Send(t.Context(), queue.Message{Group: "g", Dedup: "a", Body: []byte(`{"v":9}`)}); err != nil {
		t.Fatal(err)
	}
	var l deadletters.Listing
	d.ok("GET", "/v1/deadletters", "", &l)
	path, body := "/v1/deadletters/"+l.Letters[0].ID, `{"action":"discard","reason":"junk: of a test"}`
	commits := 0
	faulty.Next = func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpCommit {
			if commits++; commits > 2 { // the key's, and the audit line
				return storetest.FailBefore
			}
		}
		return storetest.None
	}
	first := d.keyed("k", "POST", path, body)
	d.answers(first, 200, "junk: of a test")
	faulty.Next = nil
	at = at.Add(3 * time.Minute)
	again := d.keyed("k", "POST", path, body)
	var a, b deadletters.Discarded
	if json.Unmarshal(first.Body.Bytes(), &a) != nil || json.Unmarshal(again.Body.Bytes(), &b) != nil || again.Code != http.StatusOK ||
		a.Letter.ID != b.Letter.ID || a.Letter.Digest != b.Letter.Digest || a.Reason != b.Reason {
		t.Errorf("%s, then %d %s", first.Body, again.Code, again.Body)
	}
	d.answers(d.keyed("k3", "POST", path, body), 404, "no such dead letter") // who asks anew is told what is
	log, err := d.ledger.Log(t.Context(), ledger.General)
	if err != nil || len(log) != 1 {
		t.Errorf("the log has %s, %v", fmt.Sprint(log), err)
	}
}
