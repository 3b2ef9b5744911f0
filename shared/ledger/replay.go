package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// keepReplays is how long a replay is remembered after it last moved.
const keepReplays = 90 * 24 * time.Hour

// Selection chooses what a replay is about: the records that agree with all that is not empty.
type Selection struct {
	Since    time.Time `json:"since,omitzero"` // of their changes and decisions
	Until    time.Time `json:"until,omitzero"`
	Entity   string    `json:"entity,omitempty"`
	Platform string    `json:"platform,omitempty"` // only its copies are compared and written
	Record   record.ID `json:"record,omitempty"`
	Trace    string    `json:"correlationId,omitempty"`
	Reread   bool      `json:"reread,omitempty"` // native records are read again, too
}

// The states of a replay.
const (
	ReplayPlanning  = "planning"
	ReplayPlanned   = "planned"
	ReplayRunning   = "running"
	ReplayPaused    = "paused"
	ReplayDone      = "done"
	ReplayCancelled = "cancelled"
	ReplayFailed    = "failed"
)

// Replay is one replay: its plan, and how far it got.
type Replay struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it stands
	By      string    `json:"by"`
	Select  Selection `json:"select"`
	Config  string    `json:"configVersion"` // that the plan was made under
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	Expires time.Time `json:"planExpires,omitzero"` // not run by then, it has to be planned again
	GoesOn  bool      `json:"goesOn,omitempty"`     // once it is planned again

	Read   LogMark     `json:"read,omitzero"` // how far planning has read the log
	Plan   ReplayPlan  `json:"plan"`
	At     ReplayMark  `json:"at"`
	Did    ReplayDid   `json:"did"`
	Flips  []Flip      `json:"flips,omitempty"` // winners that another configuration changes: the first few
	Sample []PlanEntry `json:"sample,omitempty"`

	rev   store.Rev
	state string // as stored
}

// LogMark is a place in the audit log: everything up to and with this chain of this shard was read.
type LogMark struct {
	Shard int    `json:"shard"`
	Chain string `json:"chain,omitempty"`
}

// ReplayMark is a place in a plan.
type ReplayMark struct {
	Page int `json:"page"`
	Item int `json:"item"`
}

// ReplayPlan is what a replay would do.
type ReplayPlan struct {
	Records   int                       `json:"records"`
	Apply     int                       `json:"apply"`
	NoOp      int                       `json:"noOp"`
	Conflict  int                       `json:"conflict"`
	Fields    map[string]map[string]int `json:"fields,omitempty"`    // platform → field → records in which it would be written
	Conflicts map[string]int            `json:"conflicts,omitempty"` // why → records
	Writes    map[string]int            `json:"writes,omitempty"`    // calls by platform, at most
	Reads     map[string]int            `json:"reads,omitempty"`
	Flips     map[string]int            `json:"flips,omitempty"` // field → records whose winner another configuration changes
	Pages     int                       `json:"pages"`
}

// Clone returns a plan whose maps can be counted up.
func (p ReplayPlan) Clone() ReplayPlan {
	fields := map[string]map[string]int{}
	for platform, of := range p.Fields {
		fields[platform] = maps.Clone(of)
	}
	p.Fields = fields
	for _, m := range []*map[string]int{&p.Conflicts, &p.Writes, &p.Reads, &p.Flips} {
		if *m = maps.Clone(*m); *m == nil {
			*m = map[string]int{}
		}
	}
	return p
}

// ReplayDid is what a replay has done so far. A step that died counts what it did again as nothing to do.
type ReplayDid struct {
	Handled  int            `json:"handled"`
	Applied  int            `json:"applied"`
	NoOp     int            `json:"noOp"`
	Conflict int            `json:"conflict"`
	Due      map[string]int `json:"due,omitempty"` // copies that became due, by platform
	Reads    int            `json:"reads"`
}

// Flip is a field whose winner another configuration changes.
type Flip struct {
	Record record.ID `json:"record"`
	Field  string    `json:"field"`
	Was    string    `json:"was"` // who decided, and by which rule
	Is     string    `json:"is"`
}

// PlanEntry is what a plan says about one record.
type PlanEntry struct {
	Record  record.ID           `json:"record"`
	Verdict string              `json:"verdict"`          // apply, no-op or conflict
	Writes  map[string][]string `json:"writes,omitempty"` // platform → fields
	Why     []string            `json:"why,omitempty"`    // what stays as it is, and why
}

// replayKey is of a replay's head; replayingKey marks those that the sweep moves on; pageKey is of a part of a plan.
func replayKey(id string) store.Key { return store.Key{Part: key(schema, "replay"), Sort: key(id)} }
func replayingKey(id string) store.Key {
	return store.Key{Part: key(schema, "replaying"), Sort: key(id)}
}
func pageKey(id string, page int) store.Key {
	return store.Key{Part: key(schema, "replay", id), Sort: key(fmt.Sprintf("%08d", page))}
}

// Active reports whether the sweep moves it on.
func (r Replay) Active() bool { return r.State == ReplayPlanning || r.State == ReplayRunning }

// SaveReplay writes a replay as it stands, with a page of its plan and a line of the general audit log, if there are any. A
// new one has no revision. fault.Conflict: somebody else moved it.
func (l *Ledger) SaveReplay(ctx context.Context, r Replay, page []PlanEntry, line *LogEntry) (Replay, error) {
	r.Updated = l.now().UTC()
	expires := expiry(r.Updated, keepReplays)
	var b batch
	b.put(store.Op{Key: replayKey(r.ID), IfRev: r.rev, Absent: r.rev == "", Expires: expires}, r)
	was := r.rev != "" && (Replay{State: r.state}).Active()
	switch {
	case r.Active() && !was:
		b.add(store.Op{Kind: store.Put, Key: replayingKey(r.ID), Value: []byte("{}")})
	case !r.Active() && was:
		b.add(store.Op{Kind: store.Delete, Key: replayingKey(r.ID)})
	}
	if page != nil {
		b.put(store.Op{Key: pageKey(r.ID, r.Plan.Pages-1), Expires: expires}, page)
	}
	if line != nil {
		if line.At.IsZero() {
			line.At = r.Updated
		}
		head, rev, err := l.general(ctx)
		if err != nil {
			return r, err
		}
		b.note(head, rev, *line)
	}
	if err := l.commit(ctx, "ledger.replay", r.ID, &b); err != nil {
		return r, err
	}
	return l.Replay(ctx, r.ID)
}

// Replay reads a replay.
func (l *Ledger) Replay(ctx context.Context, id string) (Replay, error) {
	e, err := l.one(ctx, replayKey(id), &fault.Error{Class: fault.NotFound, Op: "ledger.replay", ID: id, Detail: "no such replay", Remedy: "sorrel replay list"})
	if err != nil {
		return Replay{}, err
	}
	return readReplay(e)
}

func readReplay(e store.Entry) (Replay, error) {
	var r Replay
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return r, fault.Wrap(fault.Internal, "ledger.replay", e.Key.String(), err)
	}
	r.rev, r.state = e.Rev, r.State
	return r, nil
}

// Replays lists replays, the newest first.
func (l *Ledger) Replays(ctx context.Context) ([]Replay, error) {
	out := []Replay{}
	for e, err := range l.store.Range(ctx, replayKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.replays", "", err)
		}
		r, err := readReplay(e)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Replay) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// Replaying lists the ids of the replays that are being planned or run.
func (l *Ledger) Replaying(ctx context.Context) ([]string, error) {
	var out []string
	for e, err := range l.store.Range(ctx, replayingKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.replaying", "", err)
		}
		out = append(out, split(e.Sort)[0])
	}
	return out, nil
}

// PlanPage reads a page of a replay's plan, which has Plan.Pages of them.
func (l *Ledger) PlanPage(ctx context.Context, id string, page int) ([]PlanEntry, error) {
	e, err := l.one(ctx, pageKey(id, page), &fault.Error{Class: fault.NotFound, Op: "ledger.plan", ID: id, Detail: "the plan has no such page"})
	if err != nil {
		return nil, err
	}
	var out []PlanEntry
	if err := json.Unmarshal(e.Value, &out); err != nil {
		return nil, fault.Wrap(fault.Internal, "ledger.plan", id, err)
	}
	return out, nil
}

// Logged is one entry of a record's chain, as a scan of the audit log meets it.
type Logged struct {
	Shard int
	Chain string
	Seq   int64
	At    time.Time
}

// Scan walks the audit log of records after a mark, chain by chain. It reads all there is, or all of an entity, whatever
// its time: a request per megabyte and a read unit per 4 KB. There is no index by time: it would make every change
// dearer for the sake of a scan that costs a few cents per gigabyte.
func (l *Ledger) Scan(ctx context.Context, after LogMark, entity string) iter.Seq2[Logged, error] {
	return func(yield func(Logged, error) bool) {
		for shard := after.Shard; shard < shards; shard++ {
			from, to := "\x00", ""
			if entity != "" {
				from, to = key(entity+"/"), key(entity+"0") // "0" follows "/"
			}
			if shard == after.Shard && after.Chain != "" {
				from = key(after.Chain, "\xff")
			}
			for e, err := range l.store.Range(ctx, shardPart("log", uint32(shard)), from, to) {
				if err != nil {
					yield(Logged{}, classify("ledger.scan", "", err))
					return
				}
				parts := split(e.Sort)
				if len(parts) != 2 || parts[0] == General || !strings.Contains(parts[0], "/") {
					continue // the beginning of a chain, or what concerns no record
				}
				var entry struct {
					Seq int64     `json:"seq"`
					At  time.Time `json:"at"`
				}
				if err := json.Unmarshal(e.Value, &entry); err != nil {
					yield(Logged{}, fault.Wrap(fault.Internal, "ledger.scan", e.Key.String(), err))
					return
				}
				if !yield(Logged{shard, parts[0], entry.Seq, entry.At}, nil) {
					return
				}
			}
		}
	}
}
