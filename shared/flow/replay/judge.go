package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// The verdicts about a record.
const (
	Apply    = "apply"    // something is to be done
	NoOp     = "no-op"    // it is as it should be, or due already
	Conflict = "conflict" // it is not, and a replay must not change that
)

// judged is what a replay means for one record.
type judged struct {
	ledger.PlanEntry
	entry ledger.Entry // to be committed where something is to be done
	due   []string     // platforms whose copies become due, sorted
	reads []record.Ref
	flips []ledger.Flip
}

// maxWhy bounds what is told about one record.
const maxWhy = 5

// judge settles a record again from what is known of it, and writes nothing. Golden fields, holds, proposals and marks come
// out as the policy in force has them; what people hold, ask or have to decide stays as it is.
func (f *Flow) judge(ctx context.Context, r ledger.Replay, before ledger.State, id record.ID, now time.Time) (judged, error) {
	j := judged{PlanEntry: ledger.PlanEntry{Record: id, Verdict: Conflict}}
	switch {
	case !before.Exists():
		j.Why = []string{"there is no such record"}
		return j, nil
	case before.Record.Into != "":
		j.Why = []string{"merged into another record: " + string(before.Record.Into)}
		return j, nil
	}
	rules := f.d.Config.Rules(id.Entity())
	settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, before, before.Clone(), govern.Cause{Trace: r.ID, Class: budget.Replay, Now: now})
	if err != nil {
		return j, err
	}
	after := settled.Entry.After
	why := map[string]bool{}
	j.Writes = map[string][]string{}
	for _, p := range rules.Platforms {
		form, mapped := f.d.Config.As(id.Entity(), p)
		_, was := before.Due[p]
		_, is := after.Due[p]
		if is && !was && r.Select.Platform != "" && p != r.Select.Platform {
			if record.Project(before.Record, rules, p, form).Empty() { // settling makes the difference: to leave it out would be to forget it
				return judged{PlanEntry: ledger.PlanEntry{Record: id, Verdict: Conflict, Why: []string{p + ": it would have to be written, too; replay it without a platform"}}}, nil
			}
			delete(after.Due, p) // it differed before, which is somebody else's business
			continue
		}
		if !mapped || r.Select.Platform != "" && p != r.Select.Platform {
			continue
		}
		patch := record.Project(after.Record, rules, p, form)
		for field, reason := range patch.Kept {
			if rules.Fields[field].Paths[p] != record.Ignore {
				why[p+": "+reason] = true
			}
		}
		switch {
		case !slices.Contains(f.d.Platforms, p):
			if !patch.Empty() {
				why[p+": it is not connected"] = true
			}
			continue
		case is && !was:
			j.due = append(j.due, p)
			j.Writes[p] = slices.Sorted(maps.Keys(patch.Fields))
		}
		if v := after.Record.Views[p]; r.Select.Reread && v.Exists() {
			j.reads = append(j.reads, v.Ref)
		}
	}
	settled.Entry.After = after
	j.entry = settled.Entry
	j.entry.Steps = []ledger.Step{{At: now, Trace: r.ID, Step: "replayed", Record: id, Detail: "due for " + strings.Join(j.due, ", ")}}
	if len(j.due) == 0 {
		j.entry.Steps[0].Detail = "settled again"
	}
	j.Why = slices.Sorted(maps.Keys(why))
	j.Why = j.Why[:min(len(j.Why), maxWhy)]
	j.flips = flips(id, before.Record, after.Record, rules.Version)
	switch {
	case len(j.due)+len(settled.Outcome.Changes)+len(settled.Outcome.Events)+len(settled.Entry.Exceptions) > 0:
		j.Verdict = Apply
	case len(j.Why) == 0:
		j.Verdict = NoOp
	}
	if len(j.Writes) == 0 {
		j.Writes = nil
	}
	return j, nil
}

// flips are the fields whose winner is another one under the configuration in force than under the one that a record was
// settled under last. They carry no values.
func flips(id record.ID, before, after record.Record, version string) []ledger.Flip {
	if before.Policy == version {
		return nil
	}
	won := func(g record.Golden, some bool) string {
		if !some {
			return "nobody"
		}
		return fmt.Sprintf("%s by %s", g.From, g.Rule)
	}
	var out []ledger.Flip
	fields := maps.Clone(before.Golden)
	maps.Copy(fields, after.Golden)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		b, was := before.Golden[field]
		a, is := after.Golden[field]
		if was != is || b.Value != a.Value || b.From != a.From {
			out = append(out, ledger.Flip{Record: id, Field: field, Was: won(b, was), Is: won(a, is)})
		}
	}
	return out
}
