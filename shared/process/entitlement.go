package process

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/entitlement"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// service marks a case with what service its customer is owed: at once when it is opened, by what the owner says at that
// moment, and again whenever that changes, for as long as the case is open. It sets fields of the case and no others. What
// a contract says reaches its run by way of the customer's coverage.
type service struct {
	when condition
}

// askAgain is how long after it could not be asked an owner is asked once more.
const askAgain = 2 * time.Minute

// unentitled is the tier of whom no service is owed to.
const unentitled = "none"

func entitlementProcess() process {
	assigned := record.Assign
	return process{starts: []string{"entitlement"}, about: []string{"case", "customer"}, needs: needs{
		"case": {"entitledTier": assigned, "entitledUntil": assigned, "entitlementReason": assigned},
	}, define: func(s settings) []workflow.Definition {
		s.known("when")
		e := service{}
		if s.node.Has("when") {
			e.when = s.condition(s.node.Get("when"))
		}
		return []workflow.Definition{e.definition()}
	}}
}

func (e service) definition() workflow.Definition {
	return workflow.Definition{Name: "entitlement", Version: 1, Subject: "case",
		Starts: e.wants,
		Needs:  theCustomer,
		Lists: func(f workflow.Facts) map[string]workflow.Query {
			return map[string]workflow.Query{"contracts": {Of: f.Others["customer"].ID, Entity: "contract", Newest: "endsOn", Max: workflow.MaxListed}}
		},
		Fresh: func(f workflow.Facts) workflow.Fresh {
			out := workflow.Fresh{Live: asks(f)}
			if c, some := f.Others["customer"]; some && !over(f.Subject) {
				for _, k := range append(slices.Clone(f.Lists["contracts"]), c) {
					out.Records = append(out.Records, k.ID)
				}
			}
			return out
		},
		Steps: []workflow.Step{{Name: "mark", Do: e.mark}}}
}

func over(r record.Record) bool {
	s := text(r, "status")
	return s == "solved" || s == "closed"
}

// wants reports whether a case is to be marked: one that is open and meets the condition, or without one whose customer is known.
func (e service) wants(f workflow.Facts) bool {
	if over(f.Subject) || len(f.Subject.Views) == 0 {
		return false
	}
	if e.when.program == nil {
		return refers(f.Subject, "customer") != ""
	}
	ok, err := e.when.holds(map[string]record.Record{"case": f.Subject, "customer": f.Others["customer"]})
	return ok && err == nil
}

// asks reports whether the owner is to be asked now: nobody has, or it could not be and there is news, or time has passed.
func asks(f workflow.Facts) bool {
	asked, err := time.Parse(time.RFC3339, f.Run.Kept["asked"])
	return err != nil || f.Run.Kept["stale"] != "" && (!f.Now.Before(asked.Add(askAgain)) || judge(f).why != f.Run.Kept["judged"])
}

// verdict is what a case is marked with.
type verdict struct{ tier, until, why string }

func judge(f workflow.Facts) verdict {
	c, some := f.Others["customer"]
	if !some {
		return verdict{unentitled, "", "The case belongs to no known customer."}
	}
	is := entitlement.Judge(text(c, "creditHold") == "on", text(c, "supportTier"), terms(f), "", entitlement.Day(f.Now))
	if vanished(c) {
		is = entitlement.Entitled{Reason: entitlement.CustomerDeleted}
	}
	number := ""
	for _, k := range f.Lists["contracts"] {
		if k.ID == is.Contract {
			number = text(k, "number")
		}
	}
	if !is.Entitled {
		return verdict{unentitled, "", judged(is, number)}
	}
	return verdict{is.Tier, is.Until, judged(is, number)}
}

func terms(f workflow.Facts) []entitlement.Terms {
	var out []entitlement.Terms
	for _, k := range f.Lists["contracts"] {
		out = append(out, entitlement.TermsOf(k))
	}
	return out
}

// mark keeps the case as the judgement is. It ends with the case, whose last mark stays.
func (e service) mark(f workflow.Facts) workflow.Move {
	if over(f.Subject) {
		return workflow.Move{Done: true}
	}
	m := workflow.Move{Wait: "the end of the case", Look: entitlement.Changes(terms(f), f.Now)}
	asked, _ := time.Parse(time.RFC3339, f.Run.Kept["asked"])
	stale := f.Run.Kept["stale"]
	v := judge(f)
	if f.Asked {
		asked, stale = f.Now, staleSince(f.Words)
		m.Keep = keep("asked", f.Now.UTC().Format(time.RFC3339), "stale", stale, "judged", v.why)
	}
	if stale != "" {
		v.why += " As known at " + stale + ": the owner could not be asked."
		if again := asked.Add(askAgain); m.Look.IsZero() || again.Before(m.Look) {
			m.Look = again
		}
	}
	m.Set = []workflow.Set{set(f.Subject.ID, "entitledTier", v.tier), set(f.Subject.ID, "entitledUntil", v.until), set(f.Subject.ID, "entitlementReason", clip(v.why, 255))}
	return m
}

// staleSince is as of when the oldest of what could not be asked for is known, or "".
func staleSince(words map[record.ID]workflow.Word) string {
	var oldest time.Time
	for _, w := range words {
		if w.Why != "" && (oldest.IsZero() || w.AsOf.Before(oldest)) {
			oldest = w.AsOf
		}
	}
	if oldest.IsZero() {
		return ""
	}
	return oldest.UTC().Format("2006-01-02 15:04 MST")
}

// vanished reports whether a record is on no platform any more.
func vanished(r record.Record) bool {
	for _, v := range r.Views {
		if v.Exists() {
			return false
		}
	}
	return len(r.Views) > 0
}

// judged says a judgement for an agent to read.
func judged(is entitlement.Entitled, number string) string {
	contract := strings.TrimSpace("contract " + number)
	switch is.Reason {
	case entitlement.ByContract:
		return fmt.Sprintf("Owed %s service by %s, last day %s.", is.Tier, contract, cmp.Or(is.Until, "not set"))
	case entitlement.CreditHold:
		return fmt.Sprintf("Not owed: the customer is on credit hold, whatever %s says.", contract)
	case entitlement.ContractEnded:
		return "Not owed: the contract has ended."
	case entitlement.ContractLater:
		return "Not owed yet: the contract has not begun."
	case entitlement.CustomerDeleted:
		return "Not owed: the customer was deleted."
	}
	return "Not owed: there is no contract."
}

// coverageProcess keeps, on the customer, what its contracts say about service. So whoever looks at the customer hears of them.
func coverageProcess() process {
	return summary("coverage", "contract", "coverage", "endsOn", coverage)
}

// coverage says all that a judgement may depend on, in one order.
func coverage(all []record.Record) string {
	var out []string
	for _, k := range all {
		if t := entitlement.TermsOf(k); t.Status != "" && t.Status != "draft" {
			out = append(out, fmt.Sprintf("%s: %s, %s, from %s to %s%s", text(k, "number"), t.Status, cmp.Or(t.Tier, "no tier"), cmp.Or(t.Starts, "the beginning"), cmp.Or(t.Ends, "no end"), strings.TrimSuffix(", "+t.For, ", ")))
		}
	}
	slices.Sort(out)
	whole := strings.Join(out, "\n")
	if len(whole) <= 4000 {
		return whole
	}
	sum := sha256.Sum256([]byte(whole)) // what is cut off shows, too
	return clip(whole, 3900) + "\n" + hex.EncodeToString(sum[:6])
}
