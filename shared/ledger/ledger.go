// Package ledger is what Sorrel remembers: domain verbs over the store, each of them one conditional commit.
// It is the only package that knows keys and store operations; flows never touch a store.Op.
//
// The unit of consistency is one record: its state item is rewritten, with its revision as the condition, by
// every commit that concerns it, so that what is due, which exceptions are open and what each platform holds
// can never disagree. A merge commits several records at once, under the same conditions.
//
// Each change and each decision appends an entry to the record's audit log. Entries are chained by their hashes, and the
// hash of the last one stands in the state: Verify finds what was altered or removed.
//
// Price of each verb on DynamoDB, in requests and request units by the price rules, for a state of n KB
// (rounded up; a transaction costs double, a strongly consistent read 1 unit per 4 KB). TestPrices measures it.
//
//	verb                     requests  read units                      write units
//	Enrol, Strike            1         -                               1
//	Enrolled                 1         1 per native record             -
//	Roll                     8 e       ⌈listed/4⌉, at least 8          -
//	Open                     1 (2 a)   1 per link and claim + ⌈n/4⌉    -
//	Load                     1         ⌈n/4⌉ per record                -
//	Follow                   1 b       ⌈n/4⌉                           -
//	Lookup                   2 b       1 + ⌈n/4⌉                       -
//	Claimed                  1         1 per match key                 -
//	Commit, the state alone  1 (2 k)   -                               n (n + 1 k) (a plain conditional put)
//	Commit, more             1         -                               2·(n + 1 log entry + 1 per step, new or moved
//	                                                                   link, match key, due that begins, moves or ends,
//	                                                                   timer likewise (2 when it moves), proposal,
//	                                                                   exception, recheck, line of the roll k; reference that begins or
//	                                                                   ends; a run of m KB: m + 1), of each record
//	Reconcile                1 c       1 per exception c               - (its exceptions are part of the Commit)
//	Park, Unpark             2         1                               1
//	SaveException            2         ⌈n/4⌉ (d: 1)                    2·(n + 1 log entry + 1) (d: 6)
//	Understood               1         2                               - (its exceptions are part of the Commit)
//	Note                     2         1                               2·2
//	Postpone, Rechecked      1         -                               1
//	Cursor, Proposal         1         1                               -
//	SaveCursor               1         -                               1
//	Listing                  1         1                               -
//	MoveListing              2         1                               1
//	Budget                   1         1                               -
//	SaveBudget               1         -                               1 per KB, about 1 and 0.1 per worker
//	TakeQuota                2         1                               1 (0 where nothing is left)
//	Begin                    1 (2 g)   - (1 g)                         1
//	Finish, Doubt, GiveUp    2         1                               1 h
//	DueFor, Timers, Rechecks 8 e       ⌈listed/4⌉, at least 8          -
//	ReferringTo              1 j e     ⌈listed/4⌉                       -
//	Referrers                2 j e     ⌈n/4⌉ + ⌈listed/4⌉               -
//	Trace, Log, Listings…    1 e       ⌈listed/4⌉                      -
//	Exceptions, Proposals    1 e       ⌈listed/4⌉, open or not         -
//	SaveReplay               2 (3 i)   ⌈n/4⌉                           n (i: 2·(n + page + 3))
//	Replay, PlanPage         1         ⌈n/4⌉                           -
//	Run                      1         ⌈m/4⌉                           -
//	LatestRun                1 e       ⌈listed/4⌉                      -
//	OpenRuns                 8 e       ⌈listed/4⌉, at least 8          -
//	SaveCertificate          2         1                               2·(m + 1), of m KB; 2 more for the first under a key
//	LastCertified            1         1                               -
//	Certificate              1         ⌈m/4⌉                           -
//	CertificateKeys          1 e       ⌈listed/4⌉                      -
//	Replays, Replaying       1 e       ⌈listed/4⌉                      -
//	SaveReconciliation       2         ⌈n/4⌉                           n (2·(n + 1) where it begins or ends)
//	Part, LastReconciled     1         ⌈n/4⌉                           -
//	SavePart                 2         ⌈n/4⌉                           n (2·(n + 1) where its set ends)
//	Reconciliations          1 e       ⌈listed/4⌉                      -
//	Scan, Records            8 e       ⌈log/4⌉, of an entity or all    -
//	Verify                   8 e f     ⌈log/4⌉ + ⌈n/4⌉ per chain       -
//
// A log entry or a step above 1 KB costs more in proportion; the first log entry of a record is two items. a: a second
// request only where the link or the claim leads to another record than the guess, and one for each further merge. b: and
// one for each merge that is followed. c: for those that open or resolve, else nothing. d: of an exception that belongs to
// no record. e: and one for each further megabyte. f: and one for the heads of 100 chains. g: where somebody began it
// before; who takes it over needs 3 requests and one write unit more. h: and one for each further KB of the answer.
// i: with a page, a line of the log, or where it begins or ends to be moved on. j: one more for each record that was merged
// into it, and one to read all of these. k: a native record that comes to be known, is known no more, or whose newest version moved. With
// the state alone, a moved version is written right after it, at half the price of a transaction of two.
//
// So one milestone of a known order (n = 4) that two targets hear of costs the hub 2·(4 + 1 + 1 + 2) = 16 write
// units, and each of the two deliveries 2·(4 + 1 + 1) = 12; an echo that tells a newer version costs 4.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/workflow"
)

// Retention of what is not needed for correctness.
const (
	keepTraces     = 30 * 24 * time.Hour
	keepExceptions = 400 * 24 * time.Hour // after resolution, and proposals after their end
	maxTraces      = 8                    // correlation ids remembered per due entry
)

// Due is the durable fact that a platform's copy of a record may need a write.
type Due struct {
	Class     budget.Class              `json:"class,omitempty"` // the most urgent of its causes
	Since     time.Time                 `json:"since"`           // when it became due in this class
	NotBefore time.Time                 `json:"notBefore,omitzero"`
	Attempts  int                       `json:"attempts,omitempty"`
	Unknown   bool                      `json:"unknown,omitempty"`  // what is there: the last write got no answer, or crossed somebody's; read back before writing
	Tried     map[string][]record.Value `json:"left,omitempty"`     // what writes that nobody confirmed may have left there, in the platform's form
	Again     []string                  `json:"again,omitempty"`    // fields to read back although the platform is thought to hold what it should, sorted: a worker that died may have left another value
	Stuck     bool                      `json:"stuck,omitempty"`    // failing again and again for no known reason: people are told
	Missing   bool                      `json:"missing,omitempty"`  // it refers to a record that is not on the platform, and that nothing is due to bring there
	Waits     []record.ID               `json:"waits,omitempty"`    // records that it refers to, sorted: it is put off because they are not on the platform. When one gets there it is due at once
	Unwanted  bool                      `json:"unwanted,omitempty"` // policy wants none of them there for now: nothing has failed, and it is put off for long, see State.Awake
	Frees     bool                      `json:"frees,omitempty"`    // others may refer to it there from now on: those that wait for that are woken when this is done
	Reason    string                    `json:"reason,omitempty"`   // of the last failure
	Traces    []string                  `json:"traces,omitempty"`
	From      int64                     `json:"from,omitempty"` // of a subscriber: the first entry of the record's log that it was not told
}

// maxTried bounds the values that Due.Tried remembers of one field: the newest.
const maxTried = 4

// Try remembers that values may have been written, or may be by a process that is not heard of again.
func (d *Due) Try(values map[string]record.Value) {
	tried := maps.Clone(d.Tried)
	if tried == nil {
		tried = make(map[string][]record.Value, len(values))
	}
	for field, v := range values {
		if was := tried[field]; !slices.Contains(was, v) {
			tried[field] = append(slices.Clone(was[max(0, len(was)+1-maxTried):]), v)
		}
	}
	d.Tried = tried
}

// ReadBack remembers that a field is to be read before the work is done.
func (d *Due) ReadBack(field string) {
	if i, noted := slices.BinarySearch(d.Again, field); !noted {
		d.Again = slices.Insert(slices.Clone(d.Again), i, field)
	}
}

// State is everything that one commit protects about a record.
type State struct {
	Record record.Record
	Due    map[string]Due       // by platform
	Open   []string             // ids of exceptions that have not vanished, sorted: people may have acknowledged or ignored them
	Claims []Claim              // match keys that the record holds, sorted
	Runs   map[string]time.Time // runs of workflows that look at the record, and when time alone moves each: zero is never
	Log    LogHead              // end of the record's audit chain; Commit moves it
	rev    store.Rev
}

// Exists reports whether the state was ever committed.
func (s State) Exists() bool { return s.rev != "" }

// Clone returns a state whose Record.Views and Due can be set without changing s. All else is shared and replaced, not
// written into; see record.Record.Clone.
func (s State) Clone() State {
	s.Record = s.Record.Clone()
	s.Due = maps.Clone(s.Due)
	return s
}

// Step is one line of a trace.
type Step struct {
	At       time.Time `json:"at"`
	Trace    string    `json:"correlationId"`
	Step     string    `json:"step"` // observed, changed, written, unchanged, refused, …
	Platform string    `json:"platform,omitempty"`
	Record   record.ID `json:"record,omitempty"`
	Native   string    `json:"native,omitempty"`
	Fields   []string  `json:"fields,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

// remembering is how many bytes of encoded states are kept decoded as well: some thousand records.
const remembering = 4 << 20

// Ledger remembers. It is safe for concurrent use.
type Ledger struct {
	store store.Store
	now   func() time.Time
	seen  *recent
}

// New returns a ledger over s. It keeps the states that were decoded or committed last in memory (they are
// immutable per revision) to save decoding, never to save a read. These take about 16 MB at most.
func New(s store.Store, now func() time.Time) *Ledger {
	return &Ledger{store: s, now: now, seen: newRecent(remembering)}
}

func classify(op, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case store.IsConflict(err):
		return fault.Wrap(fault.Conflict, op, id, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Down, op, id, err)
	}
	return fault.Wrap("", op, id, err)
}

// Sighting asks for the record of a native record.
type Sighting struct {
	Ref      record.Ref
	Entity   string
	External record.ID // the record id that the native record claims, if any
}

// Found answers a Sighting. State is shared, as Load's are. State.Record.ID is set in any case: of the linked record, else of the claimed
// one if it exists (of either, the record that it was merged into), else the minted id of a record that does not exist yet.
type Found struct {
	State  State
	Linked bool      // the link exists
	Via    record.ID // where the link leads to a record that was merged into another, that record; State is the other's
}

// Open finds links and states for sightings, and links for further refs, in one round trip where the first
// guess is right. It follows merges to the states in the end, but gives the links as they are: a merge relinks.
func (l *Ledger) Open(ctx context.Context, sightings []Sighting, refs []record.Ref) ([]Found, map[record.Ref]record.ID, error) {
	keys := map[store.Key]struct{}{}
	for _, s := range sightings {
		keys[linkKey(s.Ref)] = struct{}{}
		keys[stateKey(Mint(s.Entity, s.Ref))] = struct{}{}
		if s.External != "" {
			keys[stateKey(s.External)] = struct{}{}
		}
	}
	for _, r := range refs {
		keys[linkKey(r)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	links := map[record.Ref]record.ID{}
	for _, r := range refs {
		if e, ok := got[linkKey(r)]; ok {
			links[r] = record.ID(e.Value)
		}
	}
	ids := make([]record.ID, len(sightings))
	for i, s := range sightings {
		_, claimed := got[stateKey(s.External)]
		if e, ok := got[linkKey(s.Ref)]; ok {
			ids[i] = record.ID(e.Value)
			links[s.Ref] = ids[i]
		} else if s.External != "" && claimed {
			ids[i] = s.External
		} else {
			ids[i] = Mint(s.Entity, s.Ref)
		}
	}
	states, err := l.follow(ctx, ids, keys, got)
	if err != nil {
		return nil, nil, err
	}
	out := make([]Found, len(sightings))
	for i, s := range sightings {
		_, linked := links[s.Ref]
		out[i] = Found{State: states[i], Linked: linked}
		if linked && states[i].Record.ID != ids[i] {
			out[i].Via = ids[i]
		}
	}
	return out, links, nil
}

// maxRedirects bounds how many merges in a row are followed.
const maxRedirects = 8

// follow returns the states of ids, or of the records that they were merged into. asked are the keys that were read
// already, got what was found; both grow.
func (l *Ledger) follow(ctx context.Context, ids []record.ID, asked map[store.Key]struct{}, got map[store.Key]store.Entry) ([]State, error) {
	at, out := slices.Clone(ids), make([]State, len(ids))
	for redirects := 0; ; redirects++ {
		more := map[store.Key]struct{}{}
		for _, id := range at {
			if k := stateKey(id); !has(asked, k) {
				more[k], asked[k] = struct{}{}, struct{}{}
			}
		}
		if len(more) > 0 {
			next, err := l.get(ctx, more)
			if err != nil {
				return nil, err
			}
			maps.Copy(got, next)
		}
		done := true
		for i, id := range at {
			s, err := l.state(id, got)
			switch {
			case err != nil:
				return nil, fault.Wrap(fault.Internal, "ledger.read", string(id), err)
			case s.Record.Into != "":
				at[i], done = s.Record.Into, false
			case redirects > 0 && id != ids[i] && !s.Exists():
				return nil, &fault.Error{Class: fault.Internal, Op: "ledger.follow", ID: string(ids[i]), Detail: "merged into " + string(id) + ", which does not exist"}
			}
			out[i] = s
		}
		if done {
			return out, nil
		}
		if redirects == maxRedirects {
			return nil, &fault.Error{Class: fault.Internal, Op: "ledger.follow", Detail: fmt.Sprintf("more than %d merges in a row, or a circle, from among %v", maxRedirects, ids)}
		}
	}
}

// one gets what people ask for by id, an empty one included. What is not there is none.
func (l *Ledger) one(ctx context.Context, k store.Key, none *fault.Error) (store.Entry, error) {
	if none.ID == "" {
		return store.Entry{}, none
	}
	e, err := l.store.Get(ctx, k)
	if errors.Is(err, store.ErrNotFound) {
		return store.Entry{}, none
	}
	return e, classify(none.Op, none.ID, err)
}

// Follow loads a record, or the one that it was merged into in the end.
func (l *Ledger) Follow(ctx context.Context, id record.ID) (State, error) {
	s, err := l.follow(ctx, []record.ID{id}, map[store.Key]struct{}{}, map[store.Key]store.Entry{})
	if err != nil {
		return State{}, err
	}
	return s[0], nil
}

func has[K comparable](m map[K]struct{}, k K) bool { _, ok := m[k]; return ok }

func (l *Ledger) get(ctx context.Context, keys map[store.Key]struct{}) (map[store.Key]store.Entry, error) {
	got, err := store.GetMany(ctx, l.store, slices.Collect(maps.Keys(keys))...)
	return got, classify("ledger.read", "", err)
}

func (l *Ledger) state(id record.ID, got map[store.Key]store.Entry) (State, error) {
	e, ok := got[stateKey(id)]
	if !ok {
		return State{Record: record.Record{ID: id, Views: map[string]record.View{}}}, nil
	}
	if s, ok := l.seen.get(e); ok {
		return s, nil
	}
	s, err := decode(e.Value)
	if err != nil {
		return State{}, err
	}
	s.rev = e.Rev
	l.seen.put(e.Key, s, e.Value)
	return s, nil
}

// Load reads states by record id, and follows no merge. A record that does not exist has State.Exists() == false. The states are shared with
// everyone who loads them: Clone one before changing it.
func (l *Ledger) Load(ctx context.Context, ids ...record.ID) (map[record.ID]State, error) {
	keys := make(map[store.Key]struct{}, len(ids))
	for _, id := range ids {
		keys[stateKey(id)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[record.ID]State, len(ids))
	for _, id := range ids {
		s, err := l.state(id, got)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.load", string(id), err)
		}
		out[id] = s
	}
	return out, nil
}

// Entry is one commit about one record. Before is the state as it was read; After its Record, Due, Open and Claims as
// they shall be: the ledger keeps it, so nobody changes it any more.
type Entry struct {
	Before, After State
	Links         map[record.Ref]record.ID // new links; a link that exists meanwhile is a conflict
	Relinks       map[record.Ref]record.ID // links that lead elsewhere from now on
	Claims        map[Claim]Claiming       // match keys that change hands; one that changed meanwhile is a conflict
	Changes       []record.Change          // for the log, as are Events and Says
	Events        []record.Event
	Says          []workflow.Saying // business events
	Closed        []record.Proposal // that ended in this commit
	Steps         []Step
	Exceptions    []Exception // to be written as they are (opened, updated or resolved)
	Rechecks      []Recheck
	Runs          []Run     // of workflows, as they are from now on; one that somebody else moved meanwhile is a conflict
	Refers        []string  // golden fields that refer to other records: those find it by Referring
	By            string    // who acted, if a person did
	Trace         string    // correlation id, for the log
	Now           time.Time // for the log; zero: the ledger's own clock
}

// dueIndex is the sweep's pointer to a due entry. It is written when work becomes due, is postponed or gets more urgent,
// not when more reasons are added.
type dueIndex struct {
	Class     budget.Class `json:"class,omitempty"`
	Since     time.Time    `json:"since"`
	NotBefore time.Time    `json:"notBefore,omitzero"`
	Unwanted  bool         `json:"unwanted,omitempty"`
}

// Commit writes entries, each about another record, all or nothing. Each that has Changes, Events or Says appends one entry to
// the record's audit log. fault.Conflict: somebody else was first; read again.
func (l *Ledger) Commit(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var b batch
	ids := make([]string, len(entries))
	values := make([][]byte, len(entries))
	after := make([]State, len(entries))
	for i, e := range entries {
		ids[i] = string(e.After.Record.ID)
		if e.Now.IsZero() {
			e.Now = l.now()
		}
		after[i] = e.After
		after[i].Log, after[i].rev = b.logged(e), "" // the store does not say the revision
		value, err := encode(after[i])
		if err != nil {
			b.fail(err)
		}
		values[i] = value
		b.add(store.Op{Kind: store.Put, Key: stateKey(e.After.Record.ID), Value: value, IfRev: e.Before.rev, Absent: e.Before.rev == ""})
		b.rest(e)
	}
	b.claims(entries)
	roll := b.roll(entries)
	if err := l.commit(ctx, "ledger.commit", strings.Join(ids, ", "), &b); err != nil {
		return err
	}
	for i, s := range after {
		l.seen.put(stateKey(s.Record.ID), s, values[i])
	}
	for _, op := range roll {
		if err := l.store.Commit(ctx, op); err != nil {
			return classify("ledger.roll", ids[0], err)
		}
	}
	return nil
}

// logged adds the entry's line in the record's audit log, if it has one, and returns the log's head.
func (b *batch) logged(e Entry) LogHead {
	if len(e.Changes) == 0 && len(e.Events) == 0 && len(e.Says) == 0 {
		return e.Before.Log
	}
	line := LogEntry{At: e.Now, By: e.By, Trace: e.Trace, Policy: e.After.Record.Policy, Events: e.Events, Says: e.Says}
	switch {
	case e.Trace != "":
	case len(e.Steps) > 0:
		line.Trace = e.Steps[0].Trace
	case len(e.Changes) > 0:
		line.Trace = e.Changes[0].Trace
	case len(e.Events) > 0:
		line.Trace = e.Events[0].Trace
	}
	for _, c := range e.Changes {
		line.Changes = append(line.Changes, ChangeEntry{c, c.Before.Any(), c.After.Any()})
	}
	return b.append(string(e.After.Record.ID), e.Before.Log, line)
}

// rest adds all of an entry but its state, its log and its claims.
func (b *batch) rest(e Entry) {
	id := e.After.Record.ID
	for ref, to := range e.Links {
		b.add(store.Op{Kind: store.Put, Key: linkKey(ref), Value: []byte(to), Absent: true})
	}
	for ref, to := range e.Relinks {
		b.add(store.Op{Kind: store.Put, Key: linkKey(ref), Value: []byte(to)})
	}
	for p, d := range e.After.Due {
		if old, was := e.Before.Due[p]; !was || !old.NotBefore.Equal(d.NotBefore) || old.Class != d.Class || old.Unwanted != d.Unwanted {
			b.put(store.Op{Key: dueKey(p, id)}, dueIndex{d.Class, d.Since, d.NotBefore, d.Unwanted})
		}
	}
	for p := range e.Before.Due {
		if _, still := e.After.Due[p]; !still {
			b.add(store.Op{Kind: store.Delete, Key: dueKey(p, id)})
		}
	}
	b.timer(e.Before, e.After)
	b.refers(e)
	for _, r := range e.Runs {
		b.run(r, e.Now)
	}
	b.proposals(e.Before.Record, e.After.Record, e.Closed, e.Now)
	for _, s := range e.Steps {
		k := store.Key{Part: tracePart(s.Trace), Sort: key(s.At.UTC().Format("20060102T150405.000000000"), string(s.Record), s.Platform, s.Step, fmt.Sprintf("%02d", b.steps))}
		b.steps++
		b.put(store.Op{Key: k, Expires: expiry(e.Now, keepTraces)}, s)
	}
	for _, x := range e.Exceptions {
		b.put(store.Op{Key: exceptionKey(x.ID), IfRev: x.rev, Expires: x.expires(e.Now)}, x)
	}
	for _, r := range e.Rechecks {
		b.put(store.Op{Key: recheckKey(r.Ref)}, r)
	}
}

func expiry(now time.Time, after time.Duration) time.Time {
	return now.Add(after).Truncate(time.Second)
}

// AddDue marks a platform's copy as due, keeping what is known about earlier attempts. What is due already becomes as
// urgent as its most urgent cause.
func (s *State) AddDue(platform, trace string, class budget.Class, now time.Time) {
	if s.Due == nil {
		s.Due = map[string]Due{}
	}
	d, was := s.Due[platform]
	if !was || budget.Urgent(class, d.Class) != d.Class {
		d.Class, d.Since = class, now
	}
	if trace != "" && !slices.Contains(d.Traces, trace) && len(d.Traces) < maxTraces {
		d.Traces = append(slices.Clone(d.Traces), trace)
	}
	s.Due[platform] = d
}

// Awake has what is due for a platform tried at once that waits for another record, as long as policy wants no native
// record of that one there. It reports whether anything waits.
func (s *State) Awake(platform string, now time.Time) bool {
	d, is := s.Due[platform]
	if !is || !d.Unwanted {
		return false
	}
	d.Unwanted, d.Waits, d.Reason, d.Attempts, d.NotBefore, d.Since = false, nil, "", 0, time.Time{}, now
	s.Due[platform] = d
	return true
}

// MarkDue adds a due entry for every platform that has something to be told, and returns the platforms that may
// be woken now: targets of fields, and owners of fields that an approved proposal asks for; and record.Sorrel where a workflow is to look at the record. news says that golden fields changed; without it, work that is due already stays as it is, so that
// a passing echo does not appear as its cause. as gives, per entity and platform, the form that a value takes there.
func (s *State) MarkDue(rules record.Rules, as func(entity, platform string) (func(string, record.Value) record.Value, bool), trace string, class budget.Class, now time.Time, news bool) []string {
	var wake []string
	for _, p := range rules.Platforms {
		form, mapped := as(rules.Entity, p)
		if _, already := s.Due[p]; already && !news {
			continue
		}
		if !mapped || record.Project(s.Record, rules, p, form).Empty() {
			continue
		}
		s.AddDue(p, trace, class, now)
		s.Awake(p, now) // it may refer to another now
		if !s.Due[p].NotBefore.After(now) {
			wake = append(wake, p)
		}
	}
	if s.awaited(rules, news, now) {
		s.AddDue(record.Sorrel, trace, class, now)
		wake = append(wake, record.Sorrel)
	}
	return wake
}

// Pending is one pointer found by DueFor.
type Pending struct {
	Record    record.ID
	Class     budget.Class
	Since     time.Time
	NotBefore time.Time
	Unwanted  bool // it waits for a record that policy wants no native record of: see Due.Unwanted
}

// DueFor lists what is due for a platform, in no useful order.
func (l *Ledger) DueFor(ctx context.Context, platform string) iter.Seq2[Pending, error] {
	return func(yield func(Pending, error) bool) {
		for shard := range uint32(shards) {
			for e, err := range l.store.Range(ctx, duePart(platform, shard), "\x00", "") {
				if err != nil {
					yield(Pending{}, classify("ledger.due", platform, err))
					return
				}
				var d dueIndex
				if err := json.Unmarshal(e.Value, &d); err != nil {
					yield(Pending{}, fault.Wrap(fault.Internal, "ledger.due", e.Key.String(), err))
					return
				}
				if !yield(Pending{record.ID(split(e.Sort)[0]), d.Class, d.Since, d.NotBefore, d.Unwanted}, nil) {
					return
				}
			}
		}
	}
}

// Recheck is a native record that has to be read, not before a time: a hint whose platform was away, or two
// pushed values that only a read can settle.
type Recheck struct {
	Ref       record.Ref `json:"ref"`
	NotBefore time.Time  `json:"notBefore"`
	Reason    string     `json:"reason"`
	Trace     string     `json:"correlationId"`
	// Class is how urgent reading it is.
	Class budget.Class `json:"class,omitempty"`
	rev   store.Rev
}

// Postpone remembers a recheck by itself.
func (l *Ledger) Postpone(ctx context.Context, r Recheck) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.postpone", r.Ref.String(), err)
	}
	return classify("ledger.postpone", r.Ref.String(), l.store.Commit(ctx, store.Op{Kind: store.Put, Key: recheckKey(r.Ref), Value: b}))
}

// Rechecks lists what has to be read.
func (l *Ledger) Rechecks(ctx context.Context) iter.Seq2[Recheck, error] {
	return func(yield func(Recheck, error) bool) {
		for shard := range uint32(shards) {
			for e, err := range l.store.Range(ctx, shardPart("recheck", shard), "\x00", "") {
				var r Recheck
				if err == nil {
					err = json.Unmarshal(e.Value, &r)
					r.rev = e.Rev
				}
				if !yield(r, classify("ledger.rechecks", "", err)) || err != nil {
					return
				}
			}
		}
	}
}

// Rechecked forgets a recheck once its hint is durably queued. One that was asked for anew meanwhile stays.
func (l *Ledger) Rechecked(ctx context.Context, r Recheck) error {
	err := l.store.Commit(ctx, store.Op{Kind: store.Delete, Key: recheckKey(r.Ref), IfRev: r.rev})
	if store.IsConflict(err) {
		return nil
	}
	return classify("ledger.rechecked", r.Ref.String(), err)
}

// Trace lists the steps of one business transaction in order of time.
func (l *Ledger) Trace(ctx context.Context, trace string) ([]Step, error) {
	var out []Step
	for e, err := range l.store.Range(ctx, tracePart(trace), "\x00", "") {
		if err != nil {
			return nil, classify("ledger.trace", trace, err)
		}
		var s Step
		if err := json.Unmarshal(e.Value, &s); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.trace", trace, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Cursor returns where an incremental listing stands, empty at its beginning.
func (l *Ledger) Cursor(ctx context.Context, platform, object string) (string, error) {
	e, err := l.store.Get(ctx, cursorKey(platform, object))
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return string(e.Value), classify("ledger.cursor", platform+"/"+object, err)
}

// SaveCursor moves an incremental listing. Call it only after everything listed is durably queued.
func (l *Ledger) SaveCursor(ctx context.Context, platform, object, cursor string) error {
	return classify("ledger.cursor", platform+"/"+object,
		l.store.Commit(ctx, store.Op{Kind: store.Put, Key: cursorKey(platform, object), Value: []byte(cursor)}))
}

// Lookup returns the record that a native record is linked to, or the one that it was merged into, or false.
func (l *Ledger) Lookup(ctx context.Context, r record.Ref) (record.ID, bool, error) {
	e, err := l.store.Get(ctx, linkKey(r))
	if errors.Is(err, store.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, classify("ledger.lookup", r.String(), err)
	}
	s, err := l.Follow(ctx, record.ID(e.Value))
	return s.Record.ID, err == nil, err
}
