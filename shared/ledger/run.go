package ledger

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/workflow"
)

// keepRuns is how long a run of a workflow is remembered after its end.
const keepRuns = 400 * 24 * time.Hour

// Run is a run of a workflow as it is stored.
type Run struct {
	workflow.Run
	rev store.Rev
}

// RunHead is a run as it is listed.
type RunHead struct {
	ID      string         `json:"id"`
	Version int            `json:"version"`
	Subject record.ID      `json:"subject"`
	State   workflow.State `json:"state"`
	Step    string         `json:"step,omitempty"`
	Since   time.Time      `json:"since"` // when that step began
	Began   time.Time      `json:"began"`
	Ended   time.Time      `json:"ended,omitzero"`
	Asks    []string       `json:"asks,omitempty"` // roles
	Wait    string         `json:"waitsFor,omitempty"`
	Reason  string         `json:"reason,omitempty"`
}

// HeadOf is how a run is listed.
func HeadOf(r workflow.Run) RunHead {
	h := RunHead{ID: r.ID(), Version: r.Version, Subject: r.Subject, State: r.State, Step: r.Step, Since: r.Began, Began: r.Began, Ended: r.Ended, Wait: r.Wait, Reason: r.Reason}
	for _, p := range r.Past {
		if p.Step == r.Step {
			h.Since = p.Began
		}
	}
	if r.Ask != nil {
		h.Asks = r.Ask.Roles
	}
	return h
}

func runsPart(definition string, subject record.ID) string {
	return key(schema, "run", definition, string(subject))
}

func runKey(definition string, subject record.ID, number int) store.Key {
	n := strconv.Itoa(number)
	return store.Key{Part: runsPart(definition, subject), Sort: key(strings.Repeat("0", max(0, 6-len(n))) + n)}
}

func openRunKey(id string) store.Key {
	return store.Key{Part: shardPart("openrun", shardOf(id)), Sort: key(id)}
}

// run adds a run to a commit. A new one must be the first of its number: of two that start at once, one does.
func (b *batch) run(r Run, now time.Time) {
	op := store.Op{Key: runKey(r.Definition, r.Subject, r.Number), IfRev: r.rev, Absent: r.rev == ""}
	open := openRunKey(r.ID())
	if r.State.Ended() {
		op.Expires = expiry(now, keepRuns)
		b.add(store.Op{Kind: store.Delete, Key: open})
	} else {
		b.put(store.Op{Key: open}, HeadOf(r.Run))
	}
	b.put(op, r.Run)
}

// Run reads a run.
func (l *Ledger) Run(ctx context.Context, id string) (Run, error) {
	none := &fault.Error{Class: fault.NotFound, Op: "ledger.run", ID: id, Detail: "no such run", Remedy: "sorrel workflows lists those that are open"}
	definition, subject, number, ok := workflow.ParseID(id)
	if !ok {
		return Run{}, none
	}
	e, err := l.one(ctx, runKey(definition, subject, number), none)
	if err != nil {
		return Run{}, err
	}
	return readRun(e)
}

// LatestRun is the newest run of a workflow about a record, open or not. There may be none.
func (l *Ledger) LatestRun(ctx context.Context, definition string, subject record.ID) (Run, bool, error) {
	var last Run
	found := false
	for r, err := range l.RunsAbout(ctx, definition, subject) {
		if err != nil {
			return Run{}, false, err
		}
		last, found = r, true
	}
	return last, found, nil
}

// RunsAbout lists the runs of a workflow about a record, the oldest first, those that have ended included.
func (l *Ledger) RunsAbout(ctx context.Context, definition string, subject record.ID) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		for e, err := range l.store.Range(ctx, runsPart(definition, subject), "\x00", "") {
			var r Run
			if err == nil {
				r, err = readRun(e)
			}
			if !yield(r, classify("ledger.run", definition+"/"+string(subject), err)) || err != nil {
				return
			}
		}
	}
}

func readRun(e store.Entry) (Run, error) {
	r := Run{rev: e.Rev}
	if err := json.Unmarshal(e.Value, &r.Run); err != nil {
		return Run{}, fault.Wrap(fault.Internal, "ledger.run", e.Key.String(), err)
	}
	return r, nil
}

// OpenRuns lists the runs that have not ended, in no useful order.
func (l *Ledger) OpenRuns(ctx context.Context) iter.Seq2[RunHead, error] {
	return func(yield func(RunHead, error) bool) {
		for shard := range uint32(shards) {
			for e, err := range l.store.Range(ctx, shardPart("openrun", shard), "\x00", "") {
				var h RunHead
				if err == nil {
					err = json.Unmarshal(e.Value, &h)
				}
				if !yield(h, classify("ledger.openruns", "", err)) || err != nil {
					return
				}
			}
		}
	}
}

// RunCount is how many runs of a definition have not ended.
type RunCount struct {
	Running int     `json:"running"`
	Undoing int     `json:"undoing"`
	Stuck   int     `json:"stuck"`
	Asking  int     `json:"asking"` // of these, what waits for people
	Late    int     `json:"late"`   // of these, what takes longer than the definition promises
	Oldest  float64 `json:"oldestSeconds"`
}

// CountRuns counts the open runs by definition. It reads all of their heads.
func (l *Ledger) CountRuns(ctx context.Context, book *workflow.Book, now time.Time) (map[string]RunCount, error) {
	out := map[string]RunCount{}
	for h, err := range l.OpenRuns(ctx) {
		if err != nil {
			return nil, err
		}
		name := h.Definition()
		c := out[name]
		switch h.State {
		case workflow.Stuck:
			c.Stuck++
		case workflow.Undoing:
			c.Undoing++
		default:
			c.Running++
		}
		if len(h.Asks) > 0 {
			c.Asking++
		}
		if h.Late(book, now) {
			c.Late++
		}
		c.Oldest = max(c.Oldest, now.Sub(h.Began).Seconds())
		out[name] = c
	}
	return out, nil
}

// Definition is the name of the workflow.
func (h RunHead) Definition() string {
	name, _, _ := strings.Cut(h.ID, "/")
	return name
}

// Late reports whether a run takes, or took, longer than its definition promises.
func (h RunHead) Late(book *workflow.Book, now time.Time) bool {
	if !h.Ended.IsZero() {
		now = h.Ended
	}
	most := book.Late(h.Definition(), h.Version)
	return most > 0 && now.Sub(h.Began) > most
}

// Look remembers that a run looks at the record, and when time alone moves it: zero is never.
func (s *State) Look(run string, at time.Time) {
	if was, is := s.Runs[run]; is && was.Equal(at) {
		return
	}
	runs := maps.Clone(s.Runs)
	if runs == nil {
		runs = map[string]time.Time{}
	}
	runs[run] = at
	s.Runs = runs
}

// Unlook forgets that a run looks at the record.
func (s *State) Unlook(run string) {
	if _, is := s.Runs[run]; !is {
		return
	}
	s.Runs = maps.Clone(s.Runs)
	delete(s.Runs, run)
}

// awaited reports whether a workflow is to look at the record now: something about it has changed, or it is time.
func (s State) awaited(rules record.Rules, news bool, now time.Time) bool {
	if news && (len(s.Runs) > 0 || len(rules.Workflows) > 0) {
		return true
	}
	for _, at := range s.Runs {
		if !at.IsZero() && !at.After(now) {
			return true
		}
	}
	return false
}

// next is when the record changes by the passing of time, with its runs.
func (s State) next() time.Time {
	first := timerOf(s.Record)
	for _, at := range s.Runs {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
