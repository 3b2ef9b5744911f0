package process

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sorrel/shared/contract/source"
	"sorrel/shared/match"
	"sorrel/shared/record"
	"sorrel/shared/taxid"
	"sorrel/shared/workflow"
)

// Where an activation stands, as sales sees it on the opportunity and on the account.
const (
	waiting   = "waiting"
	pending   = "pending"
	review    = "review"
	active    = "active"
	rejected  = "rejected"
	cancelled = "cancelled"
)

const day = 24 * time.Hour

// activation makes the account of an opportunity that was won a customer: pending in NetSuite, looked at by finance if
// anything is wrong, then active, and known to everybody by its number. The run is about the opportunity; customer.activationFor
// says which one an account is activated for, so that of two that are won, one does it.
type activation struct {
	clauses []clause
	remind  []time.Duration
	expire  time.Duration
	late    time.Duration
	since   string // opportunities that were closed before this day are not activated
}

// clause is a reason for finance to look.
type clause struct {
	when   condition
	reason string
}

func activationProcess() process {
	assigned, owned := record.Assign, record.Owner
	return process{starts: []string{"activation", "reopening"}, about: []string{"opportunity", "customer"}, needs: needs{
		"opportunity": {"activationStatus": assigned, "activationNote": assigned},
		"customer": {"activation": assigned, "activationNote": assigned, "activationFor": assigned, "creditHold": owned, "taxId": owned,
			"billingAddress.street": owned, "billingAddress.city": owned, "billingAddress.postalCode": owned, "billingAddress.country": owned},
	}, says: []string{"customer.activated", "customer.rejected", "customer.withdrawn"}, define: func(s settings) []workflow.Definition {
		s.known("review", "remind", "expire", "late", "since")
		a := activation{since: s.node.String(s.ps, "since", false), remind: s.durations("remind", day, 3*day), expire: s.duration("expire", 14*day), late: s.duration("late", 2*day)}
		review := s.node.Get("review")
		if review.Kind != source.None && review.Kind != source.List {
			s.ps.Add(review, fmt.Sprintf("review must be %s, this is %s", source.List, review.Kind), "write a list of {when: …, reason: …}")
		}
		for _, n := range review.Items {
			switch {
			case !n.Known(s.ps, "a reason to review", "when", "reason"):
			case !n.Has("when"):
				s.ps.Add(n, "a reason to review has no condition", "add when:, such as when: opportunity.amount > 100000")
			default:
				a.clauses = append(a.clauses, clause{s.condition(n.Get("when")), n.String(s.ps, "reason", true)})
			}
		}
		if n := len(a.remind); n > 0 && a.expire > 0 && a.remind[n-1] >= a.expire {
			s.ps.Add(s.node, "an activation expires before the last reminder", "let expire (14d if missing) be longer than the last of remind ([1d, 3d] if missing)")
		}
		if _, err := time.Parse(time.DateOnly, a.since); err != nil && a.since != "" {
			s.ps.Add(s.node.Get("since"), fmt.Sprintf("since: %.40q is no day", a.since), "write it as 2026-11-30")
		}
		return []workflow.Definition{a.definition(), reopening()}
	}}
}

func (a activation) definition() workflow.Definition {
	return workflow.Definition{Name: "activation", Version: 1, Subject: "opportunity", Late: a.late,
		Starts: func(f workflow.Facts) bool {
			s, closed := text(f.Subject, "activationStatus"), text(f.Subject, "closeOn")
			return notWon(f) == "" && s != active && s != rejected && s != cancelled && (closed == "" || closed >= a.since) && !isCustomer(f.Others["account"])
		},
		Void: func(f workflow.Facts) string {
			if why := notWon(f); why != "" {
				return why
			}
			before, some := f.Others["customer"]
			if now := f.Others["account"]; some && before.ID != now.ID {
				return "the opportunity belongs to another account now"
			}
			return ""
		},
		Needs: func(f workflow.Facts) map[string]record.ID {
			return map[string]record.ID{"account": refers(f.Subject, "customer"), "customer": record.ID(f.Run.Kept["customer"])}
		},
		Steps: []workflow.Step{
			{Name: "account", Do: take, Undo: free, Remind: a.remind},
			{Name: "pending", Do: makePending, Undo: withdraw, Remind: a.remind},
			{Name: "review", Do: a.review, Remind: a.remind, Expire: a.expire},
			{Name: "activate", Do: activate, Undo: deactivate, Remind: a.remind, Final: true},
			{Name: "publish", Do: publish, Remind: a.remind},
		}}
}

// notWon says why an opportunity has no activation to go on with, or "".
func notWon(f workflow.Facts) string {
	switch stage := text(f.Subject, "stage"); {
	case gone(f.Subject, record.Salesforce):
		return "the opportunity was deleted"
	case stage != "closed-won":
		return "the opportunity was reopened: it is in stage " + stage
	}
	return ""
}

// reopening lets an opportunity whose activation was rejected be won again.
func reopening() workflow.Definition {
	return workflow.Definition{Name: "reopening", Version: 1, Subject: "opportunity",
		Starts: func(f workflow.Facts) bool {
			s := text(f.Subject, "activationStatus")
			return text(f.Subject, "stage") != "closed-won" && (s == rejected || s == cancelled)
		},
		Steps: []workflow.Step{{Name: "clear", Do: func(f workflow.Facts) workflow.Move {
			return workflow.Move{Done: true, Set: told(f, "", "")}
		}}}}
}

// told sets what the opportunity says about its activation.
func told(f workflow.Facts, status, note string) []workflow.Set {
	return []workflow.Set{set(f.Subject.ID, "activationStatus", status), set(f.Subject.ID, "activationNote", note)}
}

// isCustomer reports whether an account is a customer already: activated for good, or made in NetSuite by people. One that
// Sorrel has made and that has no state has lost it: the account for which it was made was merged into this one meanwhile.
func isCustomer(c record.Record) bool {
	state := text(c, "activation")
	return text(c, "activationFor") == "" && (state == active || state == "" && c.Views[record.NetSuite].Exists() && !c.Views[record.NetSuite].Made)
}

// theirs reports whether people have made the customer in NetSuite: it turned out to be one only after its activation began.
func theirs(c record.Record) bool {
	v, state := c.Views[record.NetSuite], text(c, "activation")
	return v.Exists() && !v.Made && (state == "" || state == pending)
}

// taken is the account that the run has taken. It is not ours to change if it was a customer before, if it is one by now,
// or as long as it is activated for another opportunity, which can be after a merge; m is what is to be done then.
func taken(f workflow.Facts) (c record.Record, m workflow.Move, ours bool) {
	c = f.Others["customer"]
	switch other := refers(c, "activationFor"); {
	case c.ID == "" || f.Run.Kept["known"] != "":
		return c, workflow.Move{Done: true}, false
	case other == f.Subject.ID && theirs(c):
		return c, workflow.Move{Set: []workflow.Set{set(c.ID, "activation", ""), set(c.ID, "activationNote", ""), {Record: c.ID, Field: "creditHold"}, set(c.ID, "activationFor", "")}}, false
	case other == f.Subject.ID:
		return c, workflow.Move{}, true
	case f.Run.State == workflow.Undoing, isCustomer(c):
		return c, workflow.Move{Done: true}, false
	case other != "":
		return c, workflow.Move{Wait: "the activation of the account for " + string(other)}, false
	}
	return c, workflow.Move{Set: []workflow.Set{set(c.ID, "activationFor", string(f.Subject.ID))}}, false
}

// deleted says that somebody deleted the customer in NetSuite.
func deleted(c record.Record) string {
	if gone(c, record.NetSuite) {
		return "the customer was deleted in NetSuite"
	}
	return ""
}

// take finds the account, and takes it for this opportunity.
func take(f workflow.Facts) workflow.Move {
	c, some := f.Others["account"]
	switch other := refers(c, "activationFor"); {
	case !some:
		return workflow.Move{Wait: "an account on the opportunity", Set: told(f, waiting, "It was won without an account: name one, and its activation begins.")}
	case gone(c, record.Salesforce):
		return workflow.Move{Fail: "the account was deleted"}
	case isCustomer(c):
		return workflow.Move{Done: true, Keep: keep("customer", string(c.ID), "known", "yes")}
	case other != "" && other != f.Subject.ID:
		return workflow.Move{Wait: "the activation of the account for " + string(other), Set: told(f, waiting, "Another opportunity of the account is being activated.")}
	}
	return workflow.Move{Done: true, Keep: keep("customer", string(c.ID)), Set: []workflow.Set{set(c.ID, "activationFor", string(f.Subject.ID))}}
}

// free gives the account back, and tells sales what has become of it.
func free(f workflow.Facts) workflow.Move {
	what, status := "customer.rejected", rejected
	switch f.Run.Cause {
	case workflow.Voided:
		what, status = "customer.withdrawn", ""
	case workflow.Cancelled:
		status = cancelled
	}
	if notWon(f) != "" { // it may be won again
		status = ""
	}
	m := workflow.Move{Done: true, Set: told(f, status, f.Run.Reason), Say: []workflow.Saying{say(f, what)}}
	if gone(f.Subject, record.Salesforce) {
		m.Set = nil // there is nobody to tell
	}
	if c, _, ours := taken(f); ours {
		m.Set = append(m.Set, set(c.ID, "activationFor", ""))
	}
	return m
}

// makePending waits for a customer in NetSuite that nobody can sell to yet.
func makePending(f workflow.Facts) workflow.Move {
	c, m, ours := taken(f)
	if !ours {
		return m
	}
	m = workflow.Move{Wait: "NetSuite, which is to have the customer", Fail: deleted(c), Set: append(told(f, pending, ""), set(c.ID, "activation", pending), set(c.ID, "activationNote", "Waits for its activation."))}
	v := c.Views[record.NetSuite]
	if !v.Exists() {
		m.Set = append(m.Set, set(c.ID, "creditHold", "on"))
		if why := refused(c, record.NetSuite); why != "" && !due(f, c, record.NetSuite) && m.Fail == "" {
			m.Fail = "NetSuite refuses the customer: " + why
		}
		return m
	}
	m.Done = text(c, "number") != "" && !due(f, c, record.NetSuite)
	return m
}

// withdraw waits until NetSuite has nothing left of a customer that was made for this run.
func withdraw(f workflow.Facts) workflow.Move {
	c, m, ours := taken(f)
	if !ours {
		return m
	}
	v := c.Views[record.NetSuite]
	m = workflow.Move{Wait: "NetSuite, which is to have no trace of the customer", Set: []workflow.Set{set(c.ID, "activation", rejected), set(c.ID, "activationNote", f.Run.Reason),
		{Record: c.ID, Field: "creditHold"}}}
	if v.Exists() && !v.Made { // people's: it stays the customer that it was
		m.Set = []workflow.Set{set(c.ID, "activation", ""), set(c.ID, "activationNote", ""), {Record: c.ID, Field: "creditHold"}}
	}
	for _, field := range slices.Sorted(maps.Keys(may(c))) { // corrections are for this customer, not for the next one
		m.Set = append(m.Set, workflow.Set{Record: c.ID, Field: field})
	}
	if why, refused := c.Refused(record.NetSuite); refused && v.Exists() && v.Made && text(c, "activation") == rejected {
		m.Fail = "NetSuite refuses to delete the customer: " + why + ". Delete there what belongs to it, have the exception of the record tried again, then retry this; or skip it, and the customer stays as a rejected one"
		return m
	}
	m.Done = !due(f, c, record.NetSuite) && (!v.Exists() || !v.Made)
	return m
}

// review waits until nothing is wrong with the customer, or finance has said that it does not matter.
func (a activation) review(f workflow.Facts) workflow.Move {
	c, m, ours := taken(f)
	if !ours {
		return m
	}
	var corrects []workflow.Set
	var asked []string // what is wrong with corrections
	answer := f.Run.Answer
	if answer != nil && answer.Step != "review" {
		answer = nil
	}
	kept := map[string]string{}
	accepted := f.Run.Kept["accepted"]
	if why := deleted(c); why != "" {
		return workflow.Move{Fail: why}
	}
	if answer != nil {
		at := strconv.Itoa(answer.Number)
		if !answer.Approve {
			return workflow.Move{Fail: fmt.Sprintf("rejected by %s: %s", answer.By, answer.Reason)}
		}
		if f.Run.Kept["answered"] != at {
			accepted = f.Run.Kept["asked"] // as it was when it was answered
			kept["answered"], kept["accepted"] = at, accepted
		}
		for _, field := range slices.Sorted(maps.Keys(answer.Correct)) {
			to := strings.TrimSpace(answer.Correct[field])
			if why := nonsense(c, field, to, answer.Correct); why != "" {
				asked = append(asked, fmt.Sprintf("the correction of %s is not usable: %s", field, why))
			} else if once := "corrected " + field; f.Run.Kept[once] != at {
				corrects = append(corrects, set(c.ID, field, to))
				kept[once] = at
			}
		}
	}
	if len(corrects) > 0 && len(asked) == 0 {
		return workflow.Move{Set: corrects, Keep: kept, Wait: "NetSuite, which is to have the corrections"}
	}
	for _, field := range slices.Sorted(maps.Keys(may(c))) {
		if _, asks := c.Asked(field); !asks || len(asked) > 0 {
			continue
		}
		if why := refused(c, record.NetSuite, field); why == "" || due(f, c, record.NetSuite) {
			return workflow.Move{Wait: "NetSuite, which is to have the corrections"}
		} else if !slices.Contains(asked, why) {
			asked = append(asked, "NetSuite refuses "+why)
		}
	}
	known := strings.Split(accepted, "\n")
	var open []string
	for _, why := range append(asked, a.wrong(f.Subject, c)...) {
		if !slices.Contains(known, why) {
			open = append(open, why)
		}
	}
	if len(open) == 0 {
		return workflow.Move{Done: true, Keep: kept}
	}
	kept["asked"] = strings.Join(append(slices.DeleteFunc(known, func(s string) bool { return s == "" }), open...), "\n")
	return workflow.Move{Ask: &workflow.Ask{Roles: []string{"finance"}, Reasons: open, May: may(c)}, Keep: kept, Wait: "finance",
		Set: append(told(f, review, "Finance looks at it: "+strings.Join(open, "; ")), set(c.ID, "activationNote", "Finance looks at it: "+strings.Join(open, "; ")))}
}

// may are the fields that finance may correct, as they are.
func may(c record.Record) map[string]string {
	out := map[string]string{}
	for _, field := range []string{"taxId", "billingAddress.street", "billingAddress.city", "billingAddress.postalCode", "billingAddress.country"} {
		out[field] = text(c, field)
	}
	return out
}

// nonsense says why a correction cannot be used, or "".
func nonsense(c record.Record, field, to string, all map[string]string) string {
	country := text(c, "billingAddress.country")
	if other, corrected := all["billingAddress.country"]; corrected {
		country = other
	}
	switch code := match.Normalise("country", country, ""); {
	case to == "":
		return "it is empty"
	case utf8.RuneCountInString(to) > 255:
		return fmt.Sprintf("it has %d characters", utf8.RuneCountInString(to))
	case field == "billingAddress.country" && code == "":
		return fmt.Sprintf("%.40q is no country", to)
	case field == "taxId":
		return taxid.Check(code, to).Fault
	}
	return ""
}

// wrong says what finance has to look at.
func (a activation) wrong(o, c record.Record) []string {
	var out []string
	country := text(c, "billingAddress.country")
	code := match.Normalise("country", country, "")
	for _, field := range []string{"street", "city", "postalCode", "country"} {
		if text(c, "billingAddress."+field) == "" {
			out = append(out, "the billing address has no "+strings.Replace(field, "postalCode", "postal code", 1))
		}
	}
	if country != "" && code == "" {
		out = append(out, fmt.Sprintf("%.40q is no country", country))
	}
	number := text(c, "taxId")
	switch v := taxid.Check(code, number); {
	case !v.Known:
	case number == "":
		out = append(out, "there is no tax number")
	case v.Fault != "":
		out = append(out, "the tax number cannot be right: "+v.Fault)
	}
	for _, clause := range a.clauses {
		ok, err := clause.when.holds(map[string]record.Record{"opportunity": o, "customer": c})
		switch {
		case err != nil:
			out = append(out, clause.reason+" (the rule cannot be judged: "+err.Error()+")")
		case ok:
			out = append(out, clause.reason)
		}
	}
	return out
}

// activate waits until NetSuite has an active customer.
func activate(f workflow.Facts) workflow.Move {
	c, m, ours := taken(f)
	if !ours {
		return m
	}
	m = workflow.Move{Wait: "NetSuite, which is to activate the customer", Fail: deleted(c), Set: []workflow.Set{set(c.ID, "activation", active), set(c.ID, "activationNote", "")}}
	if f.Run.Kept["released"] != string(c.ID) { // what is asked for a record that is merged into another is asked no more
		m.Keep = keep("released", string(c.ID))
		if text(c, "creditHold") == "on" { // else finance has decided about it meanwhile
			m.Set = append(m.Set, set(c.ID, "creditHold", "auto"))
		}
		return m
	}
	_, asks := c.Asked("creditHold")
	if why := refused(c, record.NetSuite, "activation", "creditHold"); why != "" && !due(f, c, record.NetSuite) {
		m.Fail = "NetSuite refuses to activate the customer: " + why
		return m
	}
	m.Done = !asks && !due(f, c, record.NetSuite)
	return m
}

func deactivate(f workflow.Facts) workflow.Move {
	c, m, ours := taken(f)
	if !ours {
		return m
	}
	return workflow.Move{Done: true, Set: []workflow.Set{set(c.ID, "activation", rejected)}}
}

// publish waits until everybody knows the customer by its number.
func publish(f workflow.Facts) workflow.Move {
	c := f.Others["customer"]
	m := workflow.Move{Set: told(f, active, "")}
	if refers(c, "activationFor") == f.Subject.ID { // it is a customer from now on
		m.Set = append(m.Set, set(c.ID, "activationFor", ""))
	}
	for _, p := range f.Due[c.ID] {
		m.Wait = p + ", which is to know the customer"
		return m
	}
	for _, p := range []string{record.Salesforce, record.Zendesk, record.ServiceNow} {
		if why := refused(c, p); why != "" && !c.Views[p].Exists() {
			m.Wait = p + ", which refuses the customer: " + why
			return m
		}
	}
	m.Done = true
	m.Say = []workflow.Saying{say(f, "customer.activated")}
	return m
}

// say is a business event about an activation.
func say(f workflow.Facts, what string) workflow.Saying {
	c := f.Others["customer"]
	return workflow.Saying{What: what, Record: c.ID, Detail: details("run", f.Run.ID(), "opportunity", string(f.Subject.ID), "opportunityName", text(f.Subject, "name"),
		"customerName", text(c, "name"), "customerNumber", text(c, "number"), "reason", f.Run.Reason, "tookSeconds", fmt.Sprintf("%.0f", f.Now.Sub(f.Run.Began).Seconds()))}
}

// due reports whether a platform is still to be told something of a record.
func due(f workflow.Facts, r record.Record, platform string) bool {
	return slices.Contains(f.Due[r.ID], platform)
}
