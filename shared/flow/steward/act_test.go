package steward_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

func number(s string) *record.Value {
	v, err := record.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return &v
}

// held is a world in which Zendesk refuses a limit.
func held(t testing.TB) (*world, record.ID, ledger.Exception) {
	t.Helper()
	w := newWorld(t)
	id := w.account()
	w.zendesk.refuse = map[string]string{"limit": "TOO_HIGH"}
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("2000")})
	w.settle()
	x := w.live("refused-write")
	if x.Record != id || x.Platform != record.Zendesk || x.Field != "limit" || x.Code != "TOO_HIGH" {
		t.Fatalf("exception: %+v", x)
	}
	return w, id, x
}

func TestHeldValueIsTriedAgain(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	writes := w.zendesk.writes
	w.settle()
	if w.zendesk.writes != writes {
		t.Error("what is held was written")
	}
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Retry})
	w.work()
	if now := w.exception(x.ID); !now.Live() || w.zendesk.writes != writes+1 {
		t.Errorf("refused again: %+v after %d writes", now, w.zendesk.writes-writes)
	}
	w.logged(id, "retried", "stewart")
	w.zendesk.refuse = nil
	w.netsuite.set("1", "7", map[string]any{"street": "Kirchgasse 9"})
	w.work()
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Retry})
	w.work() // it is woken, no sweep is needed
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("2000") {
		t.Errorf("zendesk shows %v", got)
	}
	if now := w.exception(x.ID); now.Status != ledger.ExceptionResolved {
		t.Errorf("once it succeeded: %+v", now)
	}
}

func TestStuckWorkLosesItsPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.account()
	w.zendesk.broken = true
	w.netsuite.set("1", "7", map[string]any{"street": "Kirchgasse 8"})
	w.settle()
	x := w.live("refused-write")
	if x.Field != "" || !w.state(id).Due[record.Zendesk].NotBefore.After(w.now) {
		t.Fatalf("%+v, due %+v at %s", x, w.state(id).Due, w.now)
	}
	w.zendesk.broken = false
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Retry})
	w.work()
	if got := w.zendesk.rows["z-1"].fields["street"]; got != "Kirchgasse 8" {
		t.Errorf("zendesk shows %v", got)
	}
	if now := w.exception(x.ID); now.Status != ledger.ExceptionResolved {
		t.Errorf("once it succeeded: %+v", now)
	}
}

func TestEditUntil(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	w.zendesk.refuse = nil
	until := w.now.Add(time.Hour)
	edit := steward.Action{Exception: x.ID, Do: steward.Edit, Value: number("500"), Until: until, Reason: "agreed by phone"}
	done := w.act("stewart", edit)
	if done.Record != id || done.Exception.Status != ledger.ExceptionResolved || !strings.Contains(done.Done, "until 2026-11-02T") {
		t.Errorf("done: %+v", done)
	}
	w.settle()
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("500") || w.golden(id, "limit") != "500" {
		t.Errorf("zendesk shows %v, golden is %s", got, w.golden(id, "limit"))
	}
	if got := w.netsuite.rows["1"].fields["limit"]; got != json.Number("2000") {
		t.Errorf("the owner was written: %v", got)
	}
	e := w.logged(id, "overridden", "stewart")
	if !strings.Contains(e.Detail, x.ID) || !strings.Contains(e.Detail, "agreed by phone") {
		t.Errorf("logged: %+v", e)
	}
	why, err := w.operate.Why(w.ctx(), id, "limit")
	if err != nil || why[0].Override == nil || why[0].Actor != "stewart" {
		t.Errorf("why: %+v %v", why, err)
	}
	w.pass(time.Hour)
	w.settle()
	if got := w.zendesk.rows["z-1"].fields["limit"]; got != json.Number("2000") || w.golden(id, "limit") != "2000" {
		t.Errorf("after its end zendesk shows %v, golden is %s", got, w.golden(id, "limit"))
	}
	_, err = w.steward.Act(w.ctx(), w.who("stewart"), edit)
	refused(t, err, fault.Malformed, "would have ended")
}

func TestEditUntilSomebodySaysSomethingNew(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	w.zendesk.refuse = nil
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Edit, Value: number("500")})
	w.settle()
	w.netsuite.set("1", "7", map[string]any{"street": "Kirchgasse 9"}) // says the same limit again
	w.settle()
	if got := w.golden(id, "limit"); got != "500" {
		t.Errorf("golden is %s", got)
	}
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("3000")})
	w.settle()
	if got := w.golden(id, "limit"); got != "3000" {
		t.Errorf("golden is %s", got)
	}
}

func TestEditIsHeldAgainstTheContract(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	entries := w.entries()
	text := record.TextValue("plenty")
	for _, tc := range []struct {
		a     steward.Action
		class fault.Class
		words string
	}{
		{steward.Action{Do: steward.Edit}, fault.Malformed, "no value"},
		{steward.Action{Do: steward.Edit, Value: &text}, fault.Contract, "limit"},
		{steward.Action{Do: steward.Edit, Value: number("1"), Field: "street"}, fault.Malformed, "about limit, not about street"},
		{steward.Action{Do: steward.Accept, Platform: "oracle"}, fault.NotFound, "no native record"},
		{steward.Action{Do: steward.Accept, Platform: record.Salesforce}, fault.NotFound, "no native record"},
		{steward.Action{Do: steward.Merge}, fault.Refused, "refused-write does not say"},
		{steward.Action{Do: steward.Link, Record: id}, fault.Refused, "refused-write does not say"},
		{steward.Action{Do: "guess"}, fault.Malformed, "guess"},
		{steward.Action{Do: steward.Ignore, Reason: " "}, fault.Malformed, "no reason"},
		{steward.Action{Do: steward.Assign, Assignee: "martha"}, fault.Malformed, "martha"},
	} {
		tc.a.Exception = x.ID
		_, err := w.steward.Act(w.ctx(), w.who("stewart"), tc.a)
		refused(t, err, tc.class, tc.words)
	}
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: "none", Do: steward.Retry})
	refused(t, err, fault.NotFound)
	for _, do := range steward.Actions() {
		_, err := w.steward.Act(w.ctx(), w.who("nobody"), steward.Action{Exception: x.ID, Do: do})
		refused(t, err, fault.Forbidden, "people.yaml")
		if do == steward.Acknowledge || do == steward.Assign {
			continue
		}
		_, err = w.steward.Act(w.ctx(), w.who("sarah"), steward.Action{Exception: x.ID, Do: do})
		refused(t, err, fault.Forbidden, "role steward", "ask stewart")
	}
	if w.entries() != entries {
		t.Error("a refusal left something in the log")
	}
}

// Where a platform refuses the golden value, what it has can become golden; to keep what it refuses settles nothing.
func TestAcceptInsteadOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Keep})
	refused(t, err, fault.Refused, "zendesk refuses it: TOO_HIGH", "retry once")
	if done := w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Accept}); done.Exception.Status != ledger.ExceptionResolved {
		t.Errorf("%+v", done)
	}
	w.settle()
	if got := w.golden(id, "limit"); got != "1000" || len(w.state(id).Record.Held) != 0 || len(w.state(id).Due) != 0 {
		t.Errorf("golden %s, %+v", got, w.state(id))
	}
}

// A value that the platform may not set is taken all the same: before it is put back, or after.
func TestAccept(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		w := newWorld(t)
		id := w.shared()
		w.salesforce.set("1", "sf-sarah", map[string]any{"limit": json.Number("5000")})
		w.drain(w.inbound, w.hub.Apply)
		x := w.live("path-not-permitted")
		if late {
			w.settle()
			if got := w.salesforce.rows["1"].fields["limit"]; got != json.Number("1000") || w.exception(x.ID).Live() {
				t.Fatalf("not put back: %v", got)
			}
		}
		w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Accept})
		w.settle()
		if w.golden(id, "limit") != "5000" || w.salesforce.rows["1"].fields["limit"] != json.Number("5000") || w.zendesk.rows["z-1"].fields["limit"] != json.Number("5000") {
			t.Errorf("late %t: golden %s, salesforce %v, zendesk %v", late, w.golden(id, "limit"), w.salesforce.rows["1"].fields["limit"], w.zendesk.rows["z-1"].fields["limit"])
		}
		if now := w.exception(x.ID); now.Status != ledger.ExceptionResolved {
			t.Errorf("late %t: %+v", late, now)
		}
		w.logged(id, "accepted", "stewart")
		w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Accept}) // much later, it is so already
		if got := w.golden(id, "limit"); got != "5000" {
			t.Errorf("late %t: golden %s", late, got)
		}
	}
}

// split is a world in which two platforms differ about a motto, and people decide.
func split(t testing.TB) (*world, record.ID, ledger.Exception) {
	t.Helper()
	w := newWorld(t)
	id := w.shared()
	w.netsuite.set("1", "7", map[string]any{"motto": "Quality"})
	w.settle()
	w.salesforce.set("1", "sf-sarah", map[string]any{"motto": "Speed"})
	w.settle()
	x := w.live("conflict")
	if x.Field != "motto" || w.netsuite.rows["1"].fields["motto"] != "Quality" || w.salesforce.rows["1"].fields["motto"] != "Speed" {
		t.Fatalf("%+v", x)
	}
	return w, id, x
}

func TestAcceptOneOfSeveral(t *testing.T) {
	t.Parallel()
	w, id, x := split(t)
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Accept})
	refused(t, err, fault.Malformed, "no platform is named", "netsuite, salesforce")
	_, err = w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Retry})
	refused(t, err, fault.Refused)
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Accept, Platform: record.Salesforce})
	w.settle()
	if w.netsuite.rows["1"].fields["motto"] != "Speed" || w.golden(id, "motto") != "Speed" || w.exception(x.ID).Live() {
		t.Errorf("netsuite shows %v, golden %s", w.netsuite.rows["1"].fields["motto"], w.golden(id, "motto"))
	}
	// They differ again: the exception comes back.
	w.netsuite.set("1", "7", map[string]any{"motto": "Quality first"})
	w.settle()
	if now := w.exception(x.ID); !now.Live() || now.Reopened != 1 {
		t.Errorf("recurring: %+v", now)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	w, id, x := split(t)
	kept := w.golden(id, "motto")
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Keep, Reason: "it is on the letterhead"})
	w.settle()
	for _, f := range []*fake{w.netsuite, w.salesforce} {
		if got := f.rows["1"].fields["motto"]; got != kept {
			t.Errorf("%s shows %v, want %s", f.name, got, kept)
		}
	}
	if w.exception(x.ID).Live() {
		t.Error("still to be looked at")
	}
	w.logged(id, "kept", "stewart")
}

// What cannot be used is neither taken nor written over; once it is corrected, a retry reads it.
func TestUnusableValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.shared()
	w.salesforce.set("1", "sf-sarah", map[string]any{"phone": strings.Repeat("7", 60)})
	w.settle()
	all, err := w.operate.Exceptions(w.ctx(), operate.Filter{Field: "phone", Platform: record.Salesforce, Record: id})
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	x := all[0]
	for _, do := range []string{steward.Accept, steward.Keep} {
		_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: do})
		refused(t, err, fault.Refused, "cannot be used")
	}
	w.salesforce.rows["1"].fields["phone"] = "0043 7675 3425"
	w.pass(time.Second)
	w.salesforce.rows["1"].at = w.now // and its event got lost
	done, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Retry})
	if err != nil || !strings.Contains(done.Done, "salesforce/account/1 is read again") {
		t.Errorf("%+v %v", done, err)
	}
	w.settle()
	if w.exception(x.ID).Live() || w.golden(id, "phone") != "0043 7675 3425" {
		t.Errorf("golden %s, %+v", w.golden(id, "phone"), w.exception(x.ID))
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	w, id, x := held(t)
	act := func(by string, a steward.Action) ledger.Exception {
		t.Helper()
		a.Exception = x.ID
		return w.act(by, a).Exception
	}
	if now := act("sarah", steward.Action{Do: steward.Acknowledge}); now.Status != ledger.ExceptionAcknowledged || now.By != "sarah" {
		t.Errorf("%+v", now)
	}
	if now := act("sarah", steward.Action{Do: steward.Assign, Assignee: "fiona"}); now.Status != ledger.ExceptionAssigned || now.Assignee != "fiona" {
		t.Errorf("%+v", now)
	}
	if now := act("sarah", steward.Action{Do: steward.Acknowledge}); now.Status != ledger.ExceptionAssigned {
		t.Errorf("%+v", now)
	}
	mine, err := w.operate.Exceptions(w.ctx(), operate.Filter{Assignee: "fiona"})
	if err != nil || len(mine) != 1 {
		t.Errorf("%+v %v", mine, err)
	}
	if now := act("stewart", steward.Action{Do: steward.Reopen}); now.Status != ledger.ExceptionOpen || now.Assignee != "" {
		t.Errorf("%+v", now)
	}
	if now := act("stewart", steward.Action{Do: steward.Ignore, Reason: "zendesk needs no limits"}); now.Status != ledger.ExceptionIgnored || now.Live() {
		t.Errorf("%+v", now)
	}
	_, err = w.steward.Act(w.ctx(), w.who("sarah"), steward.Action{Exception: x.ID, Do: steward.Acknowledge})
	refused(t, err, fault.Conflict, "ignored by stewart: zendesk needs no limits")
	for _, step := range []string{"acknowledged sarah", "assigned sarah", "open stewart", "ignored stewart"} {
		action, by, _ := strings.Cut(step, " ")
		if e := w.logged(id, "exception-"+action, by); !strings.Contains(e.Detail, x.ID) {
			t.Errorf("%s: %+v", step, e)
		}
	}
	// Its cause ends, and comes back: people have to look again.
	w.zendesk.refuse = nil
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("10")})
	w.settle()
	if now := w.exception(x.ID); now.Status != ledger.ExceptionResolved {
		t.Fatalf("%+v", now)
	}
	_, err = w.steward.Act(w.ctx(), w.who("sarah"), steward.Action{Exception: x.ID, Do: steward.Acknowledge})
	refused(t, err, fault.Conflict, "resolved at")
	w.zendesk.refuse = map[string]string{"limit": "TOO_HIGH"}
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("9000")})
	w.settle()
	if now := w.exception(x.ID); now.Status != ledger.ExceptionOpen || now.Reopened != 1 || now.Reason != "" || now.Assignee != "" {
		t.Errorf("recurring: %+v", now)
	}
}

// stray is a world with an account, and a Zendesk organization that belongs to nothing; Zendesk is away.
func stray(t testing.TB) (*world, record.ID, ledger.Exception) {
	t.Helper()
	w := newWorld(t)
	w.zendesk.down = true
	id := w.account()
	w.zendesk.set("9", "", map[string]any{"name": "E. Handel KG", "phone": "7675-9999"})
	w.work()
	x := w.live("unmatched")
	if x.Native != "zendesk/account/9" || x.Record != "" {
		t.Fatalf("%+v", x)
	}
	return w, id, x
}

func TestLinkParkedRecord(t *testing.T) {
	t.Parallel()
	w, id, x := stray(t)
	for _, tc := range []struct {
		to    record.ID
		class fault.Class
	}{{"", fault.Malformed}, {"contact/1", fault.Malformed}, {"account/none", fault.NotFound}} {
		_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Link, Record: tc.to})
		if !fault.Is(err, tc.class) {
			t.Errorf("linked to %q: %v", tc.to, err)
		}
	}
	done := w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Link, Record: id})
	if done.Record != id || done.Exception.Status != ledger.ExceptionResolved || done.Exception.By != "stewart" {
		t.Errorf("%+v", done)
	}
	w.zendesk.down = false
	w.pass(40 * time.Second) // the sweep comes, and deliver before the hub
	_, err := w.sweep.Apply(w.ctx())
	w.must(err)
	w.drain(w.out[record.Zendesk], w.deliver.Apply)
	w.settle()
	if len(w.zendesk.rows) != 1 {
		t.Errorf("zendesk has %d accounts, want the linked one alone", len(w.zendesk.rows))
	}
	// Its own say was heard before anything was written there.
	if got := w.zendesk.rows["9"].fields; got["name"] != "Ernst Handel" || got["phone"] != "7675-9999" || w.golden(id, "phone") != "7675-9999" {
		t.Errorf("zendesk shows %v, golden phone %s", got, w.golden(id, "phone"))
	}
	if e := w.logged(id, "linked", "stewart"); !strings.Contains(e.Detail, "zendesk/account/9") {
		t.Errorf("%+v", e)
	}
	w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Link, Record: id})
}

// Without an inbound queue, or when the process dies after the commit, the sweep has the native record read.
func TestLinkedRecordIsReadWithoutAQueue(t *testing.T) {
	t.Parallel()
	w, id, x := stray(t)
	bare := w.bare()
	_, err := bare.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Link, Record: id})
	w.must(err)
	w.zendesk.down = false
	w.settle()
	if v := w.state(id).Record.Views[record.Zendesk]; v.ID != "9" {
		t.Errorf("%+v", v)
	}
}

func TestLinkRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.account() // has a native record on zendesk
	w.zendesk.set("9", "", map[string]any{"name": "E. Handel KG"})
	w.settle()
	x := w.live("unmatched")
	_, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Link, Record: id})
	refused(t, err, fault.Refused, "has zendesk/account/z-1 on zendesk already")
	for _, do := range []string{steward.KeepApart, steward.Merge} {
		_, err = w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: do})
		refused(t, err, fault.Refused, "unmatched does not say")
	}
	for _, do := range []string{steward.Edit, steward.Accept, steward.Keep} {
		_, err = w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: do, Field: "name"})
		refused(t, err, fault.Refused, "about no record")
	}
}

func TestParkedRecordIsReadAgain(t *testing.T) {
	t.Parallel()
	w, id, x := stray(t)
	w.zendesk.rows["9"].external = id.External() // somebody has entered it, and no event told
	done, err := w.steward.Act(w.ctx(), w.who("stewart"), steward.Action{Exception: x.ID, Do: steward.Retry})
	if err != nil || !strings.Contains(done.Done, "zendesk/account/9 is read again") || done.Exception.By != "stewart" {
		t.Fatalf("%+v %v", done, err)
	}
	w.work()
	if v := w.state(id).Record.Views[record.Zendesk]; v.ID != "9" || w.exception(x.ID).Live() {
		t.Errorf("%+v, %+v", v, w.exception(x.ID))
	}
	w.logged(ledger.General, "retried", "stewart")
	if w.act("stewart", steward.Action{Exception: x.ID, Do: steward.Link, Record: id}); w.exception(x.ID).Live() {
		t.Error("linked already, but still to be looked at")
	}
}
