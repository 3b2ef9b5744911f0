package steward_test

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// asked is a world in which Salesforce asks to change a street.
func asked(t testing.TB, actor string, edit ...string) (*world, record.ID, ledger.ProposalEntry) {
	t.Helper()
	w := newWorld(t, edit...)
	id := w.shared()
	w.salesforce.set("1", actor, map[string]any{"street": "Kirchgasse 7"})
	w.settle()
	return w, id, w.open()
}

func (w *world) open() ledger.ProposalEntry {
	w.t.Helper()
	list, err := w.operate.Proposals(w.ctx(), false)
	w.must(err)
	if len(list) != 1 {
		w.t.Fatalf("%d open proposals, want one: %+v", len(list), list)
	}
	return list[0]
}

func (w *world) decide(by string, v steward.Verdict) (ledger.ProposalEntry, error) {
	return w.steward.Decide(w.ctx(), w.who(by), v)
}

func TestApprovalReachesTheOwnerAndThenEverybody(t *testing.T) {
	t.Parallel()
	w, id, p := asked(t, "sf-sarah")
	approve := steward.Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision, Comment: "seen the lease"}
	got, err := w.decide("fiona", approve)
	w.must(err)
	if got.Status != record.ProposalApproved || got.By != "fiona" || got.Comment != "seen the lease" || got.Record != id {
		t.Errorf("approved: %+v", got)
	}
	if d, _ := w.out[record.NetSuite].Depth(w.ctx()); d.Visible != 1 {
		t.Errorf("netsuite is not woken: %+v", d)
	}
	if d := w.state(id).Due[record.NetSuite]; d.Class != budget.Approval {
		t.Errorf("due as %v", d.Class)
	}
	entries := w.entries()
	if again, err := w.decide("frank", approve); err != nil || again.By != "fiona" || w.entries() != entries {
		t.Errorf("approved again: %+v %v", again, err)
	}
	w.settle()
	for _, f := range w.fakes() {
		if street := f.rows[first(f)].fields["street"]; street != "Kirchgasse 7" {
			t.Errorf("%s shows %v", f.name, street)
		}
	}
	if e := w.logged(id, "approved", "fiona"); e.Proposal != p.ID || e.Trace != p.Trace || e.Detail != "seen the lease" {
		t.Errorf("logged: %+v", e)
	}
	trace, err := w.operate.Trace(w.ctx(), p.Trace)
	w.must(err)
	var said []string
	for _, s := range trace.Steps {
		said = append(said, s.Step+" "+s.Platform)
	}
	if all := strings.Join(said, ", "); !strings.Contains(all, "approved salesforce") || !strings.Contains(all, "written netsuite") {
		t.Errorf("the trace of the edit: %s", all)
	}
	// It has ended: the same verdict is answered, the other one refused.
	if ended, err := w.decide("fiona", approve); err != nil || ended.Status != record.ProposalApplied {
		t.Errorf("approved once more: %+v %v", ended, err)
	}
	_, err = w.decide("fiona", steward.Verdict{Proposal: p.ID})
	refused(t, err, fault.Conflict, "applied by fiona")
}

func first(f *fake) string {
	for id := range f.rows {
		return id
	}
	return ""
}

func TestRejectionPutsBack(t *testing.T) {
	t.Parallel()
	w, id, p := asked(t, "sf-sarah")
	reject := steward.Verdict{Proposal: p.ID, Comment: "no"}
	got, err := w.decide("fiona", reject)
	w.must(err)
	if got.Status != record.ProposalRejected {
		t.Errorf("rejected: %+v", got)
	}
	_, err = w.decide("frank", steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Conflict, "rejected by fiona")
	w.settle()
	if street := w.salesforce.rows["1"].fields["street"]; street != "Kirchgasse 6" {
		t.Errorf("salesforce shows %v", street)
	}
	w.logged(id, "rejected", "fiona")
	entries := w.entries()
	if again, err := w.decide("frank", reject); err != nil || again.Status != record.ProposalRejected || w.entries() != entries {
		t.Errorf("rejected again: %+v %v", again, err)
	}
	_, err = w.decide("frank", steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Conflict, "rejected by fiona")
}

func TestWhoMayDecide(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-fiona")
	approve := steward.Verdict{Proposal: p.ID, Approve: true}
	entries := w.entries()
	_, err := w.decide("stewart", approve)
	refused(t, err, fault.Forbidden, "stewart may not decide", "role finance", "policy/account.yaml:", "fiona, frank")
	_, err = w.decide("fiona", approve)
	refused(t, err, fault.Forbidden, "fiona asks for this change on salesforce", "ask frank)")
	_, err = w.decide("nobody", approve)
	refused(t, err, fault.Forbidden, "people.yaml")
	pretender := w.who("stewart")
	pretender.Roles = []string{"finance"}
	_, err = w.steward.Decide(w.ctx(), pretender, approve)
	refused(t, err, fault.Forbidden)
	_, err = w.decide("frank", steward.Verdict{Proposal: "0000", Approve: true})
	refused(t, err, fault.NotFound)
	if w.entries() != entries || w.open().Status != record.ProposalOpen {
		t.Error("a refusal left something")
	}
	_, err = w.decide("frank", approve)
	w.must(err)
}

// Two people ask in one proposal: neither of them decides.
func TestWhoAskedForOneFieldOnlyMayNotDecideEither(t *testing.T) {
	t.Parallel()
	w, _, _ := asked(t, "sf-fiona")
	w.salesforce.set("1", "sf-sarah", map[string]any{"city": "Wien"})
	w.settle()
	p := w.open()
	if p.Actor != "sf-sarah" || p.Revision != 2 {
		t.Fatalf("amended: %+v", p)
	}
	_, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Forbidden, "somebody else")
}

func TestWhoAskedMayDecideWherePolicySaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.shared()
	w.salesforce.set("1", "sf-sarah", map[string]any{"terms": "net 60"})
	w.settle()
	p := w.open()
	_, err := w.decide("sarah", steward.Verdict{Proposal: p.ID, Approve: true})
	w.must(err)
	w.settle()
	if got := w.golden(id, "terms"); got != "net 60" {
		t.Errorf("terms %s", got)
	}
}

func TestExpiredProposalIsNotDecided(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-sarah")
	w.pass(2 * time.Hour) // and nothing has noticed yet
	for _, approve := range []bool{true, false} {
		_, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: approve})
		refused(t, err, fault.Conflict, "expired at 2026-11-02")
	}
	w.settle()
	_, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Conflict, "expired at")
	if street := w.salesforce.rows["1"].fields["street"]; street != "Kirchgasse 6" {
		t.Errorf("salesforce shows %v", street)
	}
}

func TestMovedProposalIsDecidedAnew(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-sarah")
	w.netsuite.set("1", "7", map[string]any{"street": "Hauptplatz 1"})
	w.settle()
	now, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision})
	refused(t, err, fault.Conflict, "revision 1 was shown", "revision 2 now", "netsuite has changed street meanwhile", "sorrel proposals show")
	if now.Revision != 2 || now.Fields["street"].Before != record.TextValue("Hauptplatz 1") {
		t.Errorf("with the refusal comes %+v", now)
	}
	_, err = w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true, Revision: 2})
	w.must(err)
	w.settle()
	if street := w.netsuite.rows["1"].fields["street"]; street != "Kirchgasse 7" {
		t.Errorf("netsuite shows %v", street)
	}
}

// The owner moves after the approval and before the write: somebody has to look again.
func TestOwnerMovesAfterApproval(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-sarah")
	approve := steward.Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision}
	_, err := w.decide("fiona", approve)
	w.must(err)
	w.netsuite.set("1", "7", map[string]any{"street": "Hauptplatz 1"})
	w.settle()
	if street := w.netsuite.rows["1"].fields["street"]; street != "Hauptplatz 1" {
		t.Errorf("netsuite shows %v", street)
	}
	if again := w.open(); again.ID != p.ID || again.Revision != p.Revision+1 {
		t.Fatalf("to be confirmed: %+v", again)
	}
	_, err = w.decide("fiona", approve)
	refused(t, err, fault.Conflict, "netsuite has changed street after the approval")
	_, err = w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true, Revision: p.Revision + 1})
	w.must(err)
	w.settle()
	if street := w.netsuite.rows["1"].fields["street"]; street != "Kirchgasse 7" {
		t.Errorf("netsuite shows %v", street)
	}
}

func TestWithdrawnProposalIsNotDecided(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-sarah")
	w.salesforce.set("1", "sf-sarah", map[string]any{"street": "Kirchgasse 6"})
	w.settle()
	_, err := w.decide("fiona", steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Conflict, "withdrawn")
}

func TestProposalShowsWhatSomebodyNeedsToDecide(t *testing.T) {
	t.Parallel()
	w, id, p := asked(t, "sf-fiona")
	shown, err := w.operate.Proposal(w.ctx(), p.ID)
	w.must(err)
	ask := shown.Fields["street"]
	if shown.Record != id || shown.Person != "fiona" || ask.Before != record.TextValue("Kirchgasse 6") || ask.After != record.TextValue("Kirchgasse 7") || shown.Expires.IsZero() {
		t.Errorf("shown: %+v", shown)
	}
	n := shown.Needs
	if n.Rule != "owner netsuite" || !strings.HasPrefix(n.At, "policy/account.yaml:") || !strings.HasPrefix(n.Approval, "policy/account.yaml:") ||
		strings.Join(n.Approvers, " ") != "finance" || strings.Join(n.People, " ") != "frank" || !n.Distinct {
		t.Errorf("needs: %+v", n)
	}
	want := record.TextValue("Kirchgasse 7")
	if len(shown.Impact) != 2 || shown.Impact["netsuite"]["street"] != want || shown.Impact["zendesk"]["street"] != want {
		t.Errorf("impact: %+v", shown.Impact)
	}
	_, err = w.decide("frank", steward.Verdict{Proposal: p.ID})
	w.must(err)
	w.settle()
	if shown, err = w.operate.Proposal(w.ctx(), p.ID); err != nil || shown.Status != record.ProposalRejected || shown.Impact != nil {
		t.Errorf("once it has ended: %+v %v", shown, err)
	}
	_, err = w.operate.Proposal(w.ctx(), "none")
	refused(t, err, fault.NotFound)
	list, err := w.operate.Proposals(w.ctx(), true)
	if err != nil || len(list) != 1 {
		t.Errorf("all: %+v %v", list, err)
	}
}

// What the policy no longer lets be proposed nobody decides: no approver is named for it any more.
func TestPolicyChangesUnderAProposal(t *testing.T) {
	t.Parallel()
	w, _, p := asked(t, "sf-sarah")
	w.set = config(t, "    paths: {salesforce: propose}\n    approval: {approvers: [finance], expires: 2h}\n", "    paths: {salesforce: revert}\n")
	_, err := w.bare().Decide(w.ctx(), w.who("fiona"), steward.Verdict{Proposal: p.ID, Approve: true})
	refused(t, err, fault.Conflict, "policy has changed")
	shown, err := operate.New(operate.Deps{Ledger: w.ledger, Config: w.set}).Proposal(w.ctx(), p.ID)
	if err != nil || len(shown.Needs.Approvers) != 0 {
		t.Errorf("%+v %v", shown, err)
	}
}

// Several people decide, and handle an exception, at the same moment: one verdict counts, and who is of the same mind
// is answered as if it were his.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w, id, p := asked(t, "sf-sarah")
	w.zendesk.refuse = map[string]string{"limit": "TOO_HIGH"}
	w.netsuite.set("1", "7", map[string]any{"limit": json.Number("2000")})
	w.settle()
	x := w.live("refused-write")
	var approved, rejected atomic.Int32
	var g sync.WaitGroup
	flow := w.bare()
	for i := range 12 {
		g.Go(func() {
			who := w.who([]string{"fiona", "frank"}[i%2])
			v := steward.Verdict{Proposal: p.ID, Approve: i%2 == 0}
			switch _, err := flow.Decide(w.ctx(), who, v); {
			case err == nil && v.Approve:
				approved.Add(1)
			case err == nil:
				rejected.Add(1)
			case !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "already"):
				t.Error(err)
			}
		})
		g.Go(func() {
			if _, err := flow.Act(w.ctx(), w.who("sarah"), steward.Action{Exception: x.ID, Do: steward.Acknowledge}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if a, r := approved.Load(), rejected.Load(); a+r != 6 || a != 0 && r != 0 {
		t.Errorf("%d approved and %d rejected", a, r)
	}
	if w.times(id, "approved")+w.times(id, "rejected") != 1 || w.times(id, "exception-acknowledged") != 1 {
		t.Error("what was done once is not logged once")
	}
}
