package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/record"
)

// approval is one approval block.
type approval struct {
	record.Approval
	programs []*expression.Program // of Auto
	nodes    []source.Node
}

const (
	defaultExpiry = 7 * 24 * time.Hour
	longestExpiry = 3650 * 24 * time.Hour
)

func (e *entity) readApproval(ps *source.Problems, l source.Node) *approval {
	n := l.Get("approval")
	a := &approval{Approval: record.Approval{Distinct: true, Expires: defaultExpiry, At: l.Key("approval").At()}}
	if !n.Known(ps, "approval", "approvers", "distinct", "expires", "whilePending", "auto") {
		return a
	}
	approvers := n.Texts(ps, "approvers")
	if len(approvers) == 0 && (!n.Has("approvers") || n.Get("approvers").Kind == source.List) {
		ps.Add(n, "approval has no approvers", "add approvers: [role]")
	}
	for _, r := range approvers {
		if e.staff.given && !slices.Contains(e.staff.roles, r.Text) {
			ps.Add(r, fmt.Sprintf("nobody in %s has the role %q", peopleFile, r.Text), "give it to somebody there; "+source.Suggest(r.Text, e.staff.roles))
			continue
		}
		a.Roles = append(a.Roles, r.Text)
	}
	if n.Has("distinct") {
		a.Distinct = n.Flag(ps, "distinct")
	}
	if n.Has("expires") {
		if d, ok := Duration(n.String(ps, "expires", true)); ok {
			a.Expires = d
		} else {
			ps.Add(n.Get("expires"), "expires must be a time between 1m and 3650d", "write it as 30m, 12h or 7d")
		}
	}
	if n.Has("whilePending") {
		switch w := n.String(ps, "whilePending", true); w {
		case "keep", "":
		case "revert":
			a.PutBack = true
		default:
			ps.Add(n.Get("whilePending"), fmt.Sprintf("unknown whilePending %q", w), source.Suggest(w, []string{"keep", "revert"}))
		}
	}
	scope := e.scope(func(contract.Field) bool { return true }, "before.", "after.", "golden.")
	scope["platform"] = contract.Field{Name: "platform", Type: contract.Enum, Values: e.rules.Platforms}
	for _, x := range n.Texts(ps, "auto") {
		if p := expression.Predicate(x, scope, ps); p != nil {
			a.Auto = append(a.Auto, record.Auto{Holds: func(look record.Lookup) (bool, error) { return p.Holds(look) }, Text: p.String(), At: x.At()})
			a.programs, a.nodes = append(a.programs, p), append(a.nodes, x)
		}
	}
	return a
}

// Duration reads whole minutes, hours or days.
func Duration(s string) (time.Duration, bool) {
	unit := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if s == "" || unit[s[len(s)-1]] == 0 {
		return 0, false
	}
	by := unit[s[len(s)-1]]
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || n <= 0 || n > int(longestExpiry/by) {
		return 0, false
	}
	return time.Duration(n) * by, true
}

// written is d as Duration reads it.
func written(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// checkApprovals reports groups whose proposals nobody could decide as a whole, and auto rules that cannot say
// anything about a proposal.
func (e *entity) checkApprovals(ps *source.Problems) {
	groups := map[string][]string{}             // group → fields that are proposed
	governed := map[*record.Approval][]string{} // approval → groups
	for _, name := range slices.Sorted(maps.Keys(e.rules.Fields)) {
		rule := e.rules.Fields[name]
		if rule.Approval == nil {
			continue
		}
		if others := groups[rule.Group]; len(others) > 0 {
			first := e.rules.Fields[others[0]]
			if first.Owner != rule.Owner {
				ps.Add(e.approvals[name].node, fmt.Sprintf("%s and %s of group %s are proposed together, but %s owns one and %s the other", others[0], name, rule.Group, first.Owner, rule.Owner), "split the group")
			}
			if first.Approval != rule.Approval {
				ps.Add(e.approvals[name].node, fmt.Sprintf("%s and %s of group %s are proposed together, but have different approvals", others[0], name, rule.Group), "split the group, or write one approval for the whole group")
			}
		}
		groups[rule.Group] = append(groups[rule.Group], name)
		if !slices.Contains(governed[rule.Approval], rule.Group) {
			governed[rule.Approval] = append(governed[rule.Approval], rule.Group)
		}
	}
	done := map[*approval]bool{}
	for _, c := range e.approvals {
		a := c.approval
		if done[a] || !c.used {
			continue
		}
		done[a] = true
		e.checkAuto(ps, a, groups, governed[&a.Approval])
	}
}

// checkAuto holds each auto rule against the groups that are proposed under its approval. A field that is not proposed
// is null before and after, so a rule about other fields would say something by accident.
func (e *entity) checkAuto(ps *source.Problems, a *approval, fields map[string][]string, groups []string) {
	for i, program := range a.programs {
		asked := map[string]bool{}
		for _, name := range program.Names() {
			if at, f, _ := strings.Cut(name, "."); at == "before" || at == "after" {
				asked[f] = true
			}
		}
		foreign := false
		for _, f := range slices.Sorted(maps.Keys(asked)) {
			if !slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(fields[g], f) }) {
				ps.Add(a.nodes[i], fmt.Sprintf("the auto rule %q asks how %s changes, which nothing proposes under this approval", program, f), "add a path propose for it, or write golden."+f)
				foreign = true
			}
		}
		for _, g := range groups {
			if len(asked) > 0 && !foreign && !slices.ContainsFunc(fields[g], func(f string) bool { return asked[f] }) {
				ps.Add(a.nodes[i], fmt.Sprintf("the auto rule %q says nothing about %s, which is proposed under the same approval", program, g), "give "+g+" an approval of its own")
			}
		}
	}
}
