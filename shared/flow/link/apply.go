package link

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

const (
	maxConflict = 12 // commits lost to others before the run gives up
	progressAt  = 500
	recheckIn   = 15 * time.Minute // a reference that led nowhere is looked up again
	maxListed   = 8                // native records named in one exception
)

// tally counts what is done, from several workers.
type tally struct {
	mu sync.Mutex
	Done
	parked map[string]bool             // ids of exceptions
	open   map[string]ledger.Exception // what earlier runs parked of this entity, by id
}

// apply commits the records that are without doubt, then opens and closes possible duplicates.
func (e *entity) apply(ctx context.Context) error {
	open, err := e.open(ctx)
	if err != nil {
		return err
	}
	t := &tally{parked: map[string]bool{}, open: open}
	defer func() { e.out.Done = t.Done }()
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(e.o.Workers)
	for _, c := range e.records {
		if working.Err() != nil {
			break
		}
		g.Go(func() error { return e.commit(working, c, t) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, working = errgroup.WithContext(ctx)
	g.SetLimit(e.o.Workers)
	for _, d := range e.out.Doubtful {
		if working.Err() != nil {
			break
		}
		g.Go(func() error { return e.park(working, d, t) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return e.withdraw(ctx, t)
}

// commit makes one cluster one record. Everything is looked at again: others may have linked a member meanwhile.
func (e *entity) commit(ctx context.Context, c cluster, t *tally) error {
	trace := e.d.NewID()
	links := map[record.Ref]record.ID{}
	for _, ref := range c.members {
		if id, is := e.links[ref]; is {
			links[ref] = id
		}
	}
	var err error
	for range maxConflict {
		if err = e.try(ctx, c, links, trace, t); !fault.Is(err, fault.Conflict) {
			return err
		}
		if _, links, err = e.d.Ledger.Open(ctx, nil, c.members); err != nil {
			return err
		}
	}
	return fault.Wrap(fault.Conflict, "link.commit", string(c.id), err)
}

func (e *entity) try(ctx context.Context, c cluster, links map[record.Ref]record.ID, trace string, t *tally) error {
	ids := slices.Sorted(maps.Values(links))
	ids = slices.Compact(ids)
	if len(ids) > 1 {
		return e.park(ctx, Doubtful{Reason: match.ReasonLinked, Members: c.members, Records: ids}, t)
	}
	if len(links) == len(c.members) {
		return nil // somebody else was as clever
	}
	id := c.id
	if len(ids) == 1 {
		id = ids[0]
	}
	before, err := e.d.Ledger.Follow(ctx, id)
	if err != nil {
		return err
	}
	id = before.Record.ID
	after := before.Clone()
	now := e.d.Now().UTC()
	fresh := map[record.Ref]record.ID{}
	var rechecks []ledger.Recheck
	var understood []ledger.Exception
	for _, ref := range c.members {
		if _, is := links[ref]; is {
			continue
		}
		view := after.Record.Views[ref.Platform]
		if view.ID != "" && view.Ref != ref {
			return e.park(ctx, Doubtful{Reason: match.ReasonTwice, Members: append([]record.Ref{view.Ref}, c.members...), Records: []record.ID{id}}, t)
		}
		said, open, err := e.again(ref)
		if err != nil {
			return err
		}
		said.Trace, said.Timed = trace, e.rules.Timed()
		after.Record.Views[ref.Platform], _ = record.Observe(view, said.Observation)
		fresh[ref] = id
		if len(open) > 0 {
			rechecks = append(rechecks, ledger.Recheck{Ref: ref, NotBefore: now.Add(recheckIn), Reason: "refers to " + open[0].String() + ", which has no record yet", Trace: trace})
		}
		closed, err := e.d.Ledger.Understood(ctx, ref, now)
		if err != nil {
			return err
		}
		understood = append(understood, closed...)
	}
	detail := strings.Join(names(slices.SortedFunc(maps.Keys(fresh), compare)), ", ")
	if len(c.rules) > 0 {
		detail += " by " + strings.Join(c.rules, ", ")
	}
	settled, err := govern.Settle(ctx, e.d.Ledger, e.d.Config, before, after, govern.Cause{Trace: trace, By: e.o.By, Now: now, News: true, Known: true, Class: budget.Reconcile},
		record.Event{Action: "linked", By: e.o.By, Detail: detail, Trace: trace})
	if err != nil {
		return err
	}
	commit := settled.Entry
	maps.Copy(commit.Links, fresh)
	commit.Rechecks = append(commit.Rechecks, rechecks...)
	commit.Exceptions = append(commit.Exceptions, understood...)
	commit.Steps = append(commit.Steps, ledger.Step{At: now, Trace: trace, Step: "linked", Record: id, Detail: detail})
	if err := e.d.Ledger.Commit(ctx, commit); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(len(fresh))
	if len(rechecks) > 0 {
		t.Waiting++
	}
	if t.Records%progressAt == 0 {
		e.tell(Progress{Entity: e.name, Listed: t.Records, Of: len(e.records)})
	}
	return nil
}

// again translates what was listed of a native record, now that it is known what it refers to.
func (e *entity) again(ref record.Ref) (saying, []record.Ref, error) {
	n, err := e.kept(ref)
	if err != nil {
		return saying{}, nil, err
	}
	m, _ := e.d.Config.ByEntity(e.name, ref.Platform)
	s, err := observe(m, n)
	if err != nil {
		return saying{}, nil, err
	}
	return s, e.resolve(&s), nil
}

// park opens a possible duplicate that belongs to no record, or leaves it open.
func (e *entity) park(ctx context.Context, d Doubtful, t *tally) error {
	first := d.Members[0]
	x := ledger.Exception{Type: duplicate, Native: first.String(), Platform: first.Platform, Detail: d.text(),
		Remedy: "make them differ or agree, or merge them on their platform, then run `sorrel link --apply` again", Trace: e.d.NewID()}
	x.Identify()
	if was, open := t.open[x.ID]; !open || was.Detail != x.Detail {
		if err := e.d.Ledger.Park(ctx, x); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parked[x.ID] = true
	t.Parked = len(t.parked)
	return nil
}

const duplicate = "possible-duplicate"

// open lists the possible duplicates of native records of this entity that earlier runs parked.
func (e *entity) open(ctx context.Context) (map[string]ledger.Exception, error) {
	all, err := e.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return nil, err
	}
	out := map[string]ledger.Exception{}
	for _, x := range all {
		ref, ok := parse(x.Native)
		if _, listed := e.seen[ref]; ok && listed && x.Type == duplicate && x.Record == "" {
			out[x.ID] = x
		}
	}
	return out, nil
}

// withdraw resolves what earlier runs parked and this one did not.
func (e *entity) withdraw(ctx context.Context, t *tally) error {
	for _, id := range slices.Sorted(maps.Keys(t.open)) {
		if t.parked[id] {
			continue
		}
		x, now := t.open[id], e.d.Now().UTC()
		x.Status, x.Last, x.Resolved = ledger.ExceptionResolved, now, now
		note := ledger.LogEntry{Chain: ledger.General, At: now, By: e.o.By, Events: []record.Event{{Action: "exception-resolved", By: e.o.By, Detail: x.ID + " " + x.Native}}}
		err := e.d.Ledger.SaveException(ctx, x, note)
		if fault.Is(err, fault.Conflict) { // what linked the native record has resolved it, or somebody is at it: the next run looks again
			x, err = e.d.Ledger.Exception(ctx, id)
		}
		if err != nil {
			return err
		}
		if x.Status == ledger.ExceptionResolved {
			t.Resolved++
		}
	}
	return nil
}

// parse undoes Ref.String. Objects may contain a slash, platforms and ids do not.
func parse(s string) (record.Ref, bool) {
	p, rest, ok := strings.Cut(s, "/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 {
		return record.Ref{}, false
	}
	return record.Ref{Platform: p, Object: rest[:i], ID: rest[i+1:]}, true
}

func names(refs []record.Ref) []string {
	var out []string
	for _, r := range refs[:min(len(refs), maxListed)] {
		out = append(out, r.String())
	}
	if more := len(refs) - maxListed; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return out
}

// text is the doubt in one line.
func (d Doubtful) text() string {
	s := d.Reason + ": " + strings.Join(names(d.Members), ", ")
	for _, n := range d.Near[:min(len(d.Near), maxListed)] {
		s += "; near " + n.Ref.String()
		for _, e := range n.Evidence {
			s += fmt.Sprintf(" (%s %s)", e.Rule, e.Shown)
		}
	}
	for _, e := range d.Evidence[:min(len(d.Evidence), maxListed)] {
		s += fmt.Sprintf("; %s %s", e.Rule, e.Shown)
	}
	return s
}
