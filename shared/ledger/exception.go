package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Exception statuses. People acknowledge, assign and ignore; an exception resolves by itself when what it is about is
// over, whatever people did to it, and reopens when that comes back.
const (
	ExceptionOpen         = "open"
	ExceptionAcknowledged = "acknowledged"
	ExceptionAssigned     = "assigned"
	ExceptionIgnored      = "ignored"
	ExceptionResolved     = "resolved"
)

// Exception is something that a person must look at. Its id is derived from what it is about, so that the
// same trouble is the same exception, however often it is met.
type Exception struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"` // design §4.6
	Status   string    `json:"status"`
	Record   record.ID `json:"record,omitempty"`
	Other    record.ID `json:"other,omitempty"` // the record that this one may be a duplicate of
	Platform string    `json:"platform,omitempty"`
	Native   string    `json:"native,omitempty"`
	About    string    `json:"about,omitempty"` // of a message: the native record that it tells of, or the record that it wakes
	Told     time.Time `json:"told,omitzero"`   // and the version that it tells
	Field    string    `json:"field,omitempty"`
	Code     string    `json:"code,omitempty"` // the vendor's
	Detail   string    `json:"detail"`
	Remedy   string    `json:"remedy,omitempty"`
	Assignee string    `json:"assignee,omitempty"`
	By       string    `json:"by,omitempty"`     // who acted on it last
	Reason   string    `json:"reason,omitempty"` // why it is ignored
	Trace    string    `json:"correlationId,omitempty"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Resolved time.Time `json:"resolved,omitzero"`
	Reopened int       `json:"reopened,omitempty"` // how often it came back
	rev      store.Rev
}

// Identify sets the id from type, record or native record, platform, field and the other record, if there is one. Of native
// records that claim to be one record each is an exception.
func (x *Exception) Identify() {
	about := string(x.Record)
	if about == "" || x.Type == "possible-duplicate" && x.Other == "" {
		about = x.Native
	}
	parts := []string{x.Type, about, x.Platform, x.Field}
	if x.Other != "" {
		parts = append(parts, string(x.Other))
	}
	sum := sha256.Sum256([]byte(key(parts...)))
	x.ID = hex.EncodeToString(sum[:8])
}

// Live reports whether people still have to look at it.
func (x Exception) Live() bool { return x.Status != ExceptionResolved && x.Status != ExceptionIgnored }

// Cause groups exceptions: type, platform, field and the vendor's code.
func (x Exception) Cause() string {
	parts := slices.DeleteFunc([]string{x.Type, x.Platform, x.Field, x.Code}, func(s string) bool { return s == "" })
	return strings.Join(parts, " ")
}

// PoisonMessage is the type of exceptions about messages that were given up.
const PoisonMessage = "poison-message"

// OfMessage is the exception about a message that was given up, by the message's id and body. Whoever notes it makes it so:
// then it is one.
func OfMessage(id, platform, about string, told time.Time) Exception {
	return Exception{Type: PoisonMessage, Native: "message " + id, Platform: platform, About: about, Told: told, Remedy: "sorrel deadletters show " + id}
}

// expires is when a resolved exception is forgotten.
func (x Exception) expires(now time.Time) time.Time {
	if x.Status == ExceptionResolved {
		return expiry(now, keepExceptions)
	}
	return time.Time{}
}

// met returns x as it stands now that it is met, given what is stored of it. What people did to it stays, unless it was
// resolved: then it begins anew.
func (x Exception) met(old Exception, some bool, now time.Time) Exception {
	x.Status, x.First, x.Last = ExceptionOpen, now, now
	if !some {
		return x
	}
	x.First, x.Reopened, x.rev = old.First, old.Reopened, old.rev
	if old.Status == ExceptionResolved {
		x.Reopened++
		return x
	}
	x.Status, x.Assignee, x.By, x.Reason = old.Status, old.Assignee, old.By, old.Reason
	return x
}

// over returns x resolved.
func (x Exception) over(now time.Time) Exception {
	x.Status, x.Last, x.Resolved = ExceptionResolved, now, now
	return x
}

// stored reads exceptions by id.
func (l *Ledger) stored(ctx context.Context, ids ...string) (map[string]Exception, error) {
	out := make(map[string]Exception, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	keys := make(map[store.Key]struct{}, len(ids))
	for _, id := range ids {
		keys[exceptionKey(id)] = struct{}{}
	}
	got, err := l.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	for _, e := range got {
		x, err := readException(e)
		if err != nil {
			return nil, err
		}
		out[x.ID] = x
	}
	return out, nil
}

func readException(e store.Entry) (Exception, error) {
	var x Exception
	if err := json.Unmarshal(e.Value, &x); err != nil {
		return Exception{}, fault.Wrap(fault.Internal, "ledger.exception", e.Key.String(), err)
	}
	x.rev = e.Rev
	return x, nil
}

// Reconcile compares the exceptions that a state has by rights with those open in it: new ones open, or reopen if they
// were resolved before; vanished ones resolve by themselves; the others stay as people left them. It sets s.Open and
// returns what Commit has to write. It reads what opens or resolves, in one request.
func (l *Ledger) Reconcile(ctx context.Context, s *State, now time.Time, rightful []Exception) ([]Exception, error) {
	var open, read []string
	var fresh []Exception
	for _, x := range rightful {
		x.Identify()
		if slices.Contains(open, x.ID) {
			continue
		}
		open = append(open, x.ID)
		if !slices.Contains(s.Open, x.ID) {
			fresh, read = append(fresh, x), append(read, x.ID)
		}
	}
	for _, id := range s.Open {
		if !slices.Contains(open, id) {
			read = append(read, id)
		}
	}
	known, err := l.stored(ctx, read...)
	if err != nil {
		return nil, err
	}
	var out []Exception
	for _, x := range fresh {
		old, some := known[x.ID]
		out = append(out, x.met(old, some, now))
	}
	for _, id := range s.Open {
		if x, some := known[id]; some && !slices.Contains(open, id) {
			out = append(out, x.over(now))
		}
	}
	slices.Sort(open)
	s.Open = open
	return out, nil
}

// Park records an exception that belongs to no record, such as an unmatched native record or a message that
// cannot be understood. Parking it again keeps its beginning and what people did to it; one that was resolved reopens.
func (l *Ledger) Park(ctx context.Context, x Exception) error {
	return l.apart(ctx, "ledger.park", x, func(x, old Exception, some bool, now time.Time) (Exception, bool) {
		return x.met(old, some, now), true
	})
}

// apart changes an exception that belongs to no record, until nobody else does at the same time. change gets it as it is
// given and as it is stored, if it is, and says whether there is anything to write.
func (l *Ledger) apart(ctx context.Context, op string, x Exception, change func(x, old Exception, some bool, now time.Time) (Exception, bool)) error {
	x.Identify()
	return l.again(func() error {
		known, err := l.stored(ctx, x.ID)
		if err != nil {
			return err
		}
		old, some := known[x.ID]
		next, news := change(x, old, some, l.now().UTC())
		if !news {
			return nil
		}
		var b batch
		b.put(store.Op{Key: exceptionKey(x.ID), IfRev: old.rev, Absent: !some, Expires: next.expires(next.Resolved)}, next)
		return l.commit(ctx, op, x.ID, &b)
	})
}

// Unpark resolves an exception that was parked and is over, whatever people did to it. One that was never parked stays so.
func (l *Ledger) Unpark(ctx context.Context, x Exception) error {
	return l.apart(ctx, "ledger.unpark", x, func(_, old Exception, some bool, now time.Time) (Exception, bool) {
		return old.over(now), some && old.Status != ExceptionResolved
	})
}

// SaveException writes what a person did to an exception, with its line e in the audit log: of x.Record, or the general
// one. A record's exception that the person resolved reopens if its cause is still there at the next commit. It is a
// fault.Conflict if the exception, or the record, has changed since it was read: read it again.
func (l *Ledger) SaveException(ctx context.Context, x Exception, e LogEntry) error {
	now := l.now().UTC()
	if e.At.IsZero() {
		e.At = now
	}
	if x.Status == ExceptionResolved && x.Resolved.IsZero() {
		x.Resolved = now
	}
	var b batch
	b.put(store.Op{Key: exceptionKey(x.ID), IfRev: x.rev, Absent: x.rev == "", Expires: x.expires(now)}, x)
	logged, err := l.inRecord(ctx, &b, x, e)
	if err != nil {
		return err
	}
	if !logged {
		head, rev, err := l.general(ctx)
		if err != nil {
			return err
		}
		b.note(head, rev, e)
	}
	return l.commit(ctx, "ledger.exception", x.ID, &b)
}

// inRecord adds an exception's line to the log of its record. It reports false when there is no such record.
func (l *Ledger) inRecord(ctx context.Context, b *batch, x Exception, e LogEntry) (bool, error) {
	if x.Record == "" {
		return false, nil
	}
	states, err := l.Load(ctx, x.Record)
	if err != nil {
		return false, err
	}
	s := states[x.Record]
	if !s.Exists() {
		return false, nil
	}
	if e.Policy == "" {
		e.Policy = s.Record.Policy
	}
	rev := s.rev
	s.Log = b.append(string(x.Record), s.Log, e)
	if x.Status == ExceptionResolved {
		s.Open = slices.DeleteFunc(slices.Clone(s.Open), func(id string) bool { return id == x.ID })
	}
	value, err := encode(s)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "ledger.exception", x.ID, err)
	}
	b.add(store.Op{Kind: store.Put, Key: stateKey(x.Record), Value: value, IfRev: rev})
	return true, nil
}

// Understood returns, resolved, what was parked about a native record that nobody could place, or that was one too many. It
// is for the commit that links the record at last.
func (l *Ledger) Understood(ctx context.Context, r record.Ref, now time.Time) ([]Exception, error) {
	var ids []string
	for _, kind := range []string{"unmatched", "contract-violation", "possible-duplicate"} {
		x := Exception{Type: kind, Native: r.String(), Platform: r.Platform}
		x.Identify()
		ids = append(ids, x.ID)
	}
	known, err := l.stored(ctx, ids...)
	if err != nil {
		return nil, err
	}
	var out []Exception
	for _, x := range known {
		if x.Status != ExceptionResolved {
			out = append(out, x.over(now))
		}
	}
	return out, nil
}

// Exception reads one exception.
func (l *Ledger) Exception(ctx context.Context, id string) (Exception, error) {
	e, err := l.one(ctx, exceptionKey(id), &fault.Error{Class: fault.NotFound, Op: "ledger.exception", ID: id, Detail: "no such exception", Remedy: "sorrel exceptions lists those that are open"})
	if err != nil {
		return Exception{}, err
	}
	return readException(e)
}

// Exceptions lists the exceptions that people have to look at, or all, ignored and resolved ones too.
func (l *Ledger) Exceptions(ctx context.Context, all bool) ([]Exception, error) {
	var out []Exception
	for e, err := range l.store.Range(ctx, exceptionKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.exceptions", "", err)
		}
		x, err := readException(e)
		if err != nil {
			return nil, err
		}
		if all || x.Live() {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Exception) int { return b.Last.Compare(a.Last) })
	return out, nil
}

// Release ends the holds of values that are no longer wanted, and those that our own configuration made when it has
// changed since: before is the version that the record was last folded by. Fields that were refused together are
// released together: the vendor may have meant any of them.
func (s *State) Release(before string) {
	ours := func(h record.Hold) bool { // caught by a mapping, before any vendor was asked
		return h.Code == "" && (h.Type == "unknown-picklist" || h.Type == "invalid-value")
	}
	moot := map[record.Hold]bool{}
	of := func(k string, h record.Hold) record.Hold {
		p, _ := record.SplitHoldKey(k)
		return record.Hold{Type: h.Type, Code: h.Code, Detail: p + " " + h.Detail, Since: h.Since.UTC().Round(0), Trace: h.Trace}
	}
	for k, h := range s.Record.Held {
		if h.Value != s.Record.Wanted(record.SplitHoldKey(k)) || ours(h) && before != s.Record.Policy {
			moot[of(k, h)] = true
		}
	}
	if len(moot) == 0 {
		return
	}
	s.Record.Held = maps.Clone(s.Record.Held)
	maps.DeleteFunc(s.Record.Held, func(k string, h record.Hold) bool { return moot[of(k, h)] })
}

// Rightful lists the exceptions that a state has by rights: unusable values, edits on a path that rejects,
// held fields, writes that keep failing for no known reason, deletions that policy says nothing about, possible
// duplicates, and fields about which the platforms differ and people decide. A record that was merged has none.
func Rightful(s State, rules record.Rules, decisions []record.Decision) []Exception {
	r := s.Record
	if r.Into != "" {
		return nil
	}
	var out []Exception
	add := func(x Exception) {
		x.Record = r.ID
		x.Identify()
		out = append(out, x)
	}
	for p, d := range s.Due {
		if d.Stuck {
			x := Exception{Type: "refused-write", Platform: p, Detail: d.Reason, Remedy: "it is tried again with growing pauses; see the reason"}
			if d.Missing {
				x.Type, x.Remedy = "missing-reference", "restore on "+p+" what it refers to, or let it refer to something else; then it is written by itself"
			}
			add(x)
		}
	}
	for p, v := range r.Views {
		if unanswered(r, rules, p) {
			add(Exception{Type: "conflict", Platform: p, Native: v.Ref.String(),
				Detail: "deleted on " + p + ", but not elsewhere; nothing is written there any more", Remedy: "restore it on " + p + ", or delete it elsewhere too"})
		}
		for f, c := range v.Said {
			if v.Clouded(f) && !putBack(rules.Fields[f], p) {
				add(Exception{Type: c.Doubt.Type, Platform: p, Native: v.Ref.String(), Field: f,
					Detail: c.Doubt.Detail, Remedy: "correct the value on " + p + ", or extend the mapping; the field is held until then", Trace: c.Doubt.Trace})
			}
			holds, _ := v.Holds(f)
			if w := v.Wrote[f]; w.Insists(holds) && w.Value == r.Golden[f].Value {
				add(Exception{Type: "conflict", Platform: p, Native: v.Ref.String(), Field: f, Trace: w.Trace,
					Detail: fmt.Sprintf("it was put back %d times and is there again; nothing is written to it until one of the two values changes", w.Over.Again+1),
					Remedy: "find who sets it on " + p + ": a person, or a rule of the platform that changes what it is given"})
			}
		}
	}
	for _, d := range decisions {
		if d.Path == record.Reject {
			add(Exception{Type: "path-not-permitted", Platform: d.Loser.Platform, Field: d.Field,
				Detail: d.Loser.Platform + " may not set this field; it is put back", Remedy: "change it in its owner; rule at " + d.At, Trace: d.Loser.Trace})
		}
	}
	for k, h := range r.Held {
		p, f := record.SplitHoldKey(k)
		remedy := "correct the value in its owner, or what " + p + " accepts; another value is tried at once"
		if f == record.Whole {
			remedy = "policy withdraws the native record: remove on " + p + " what keeps it, then retry"
		}
		add(Exception{Type: h.Type, Platform: p, Field: f, Code: h.Code, Detail: h.Detail, Remedy: remedy, Trace: h.Trace})
	}
	for other, why := range r.Suspects {
		x := Exception{Type: "possible-duplicate", Record: r.ID, Other: other, Detail: "may be the same as " + string(other) + " by " + why.Rule}
		if why.Detail != "" {
			x.Detail += ": " + why.Detail
		}
		x.Identify()
		x.Remedy = "sorrel exceptions link|keep-apart|merge " + x.ID
		add(x)
	}
	for f, g := range r.Golden {
		if !g.Split {
			continue
		}
		x := Exception{Type: "conflict", Record: r.ID, Field: f, Detail: "the platforms differ: " + saying(r, rules.Fields[f], f), Trace: g.Trace}
		x.Identify()
		x.Remedy = "sorrel exceptions accept " + x.ID + " <platform>"
		add(x)
	}
	slices.SortFunc(out, func(a, b Exception) int {
		return cmp.Or(strings.Compare(a.Type+a.Platform+a.Field, b.Type+b.Platform+b.Field), strings.Compare(string(a.Other), string(b.Other)))
	})
	return out
}

// unanswered reports whether a platform deleted its native record, others live on, and nothing says what follows. What
// was merged is dead only.
func unanswered(r record.Record, rules record.Rules, platform string) bool {
	v := r.Views[platform]
	switch d := rules.Deletes[platform]; {
	case !v.Gone() || v.Into != "", d == record.DeleteDeactivate || d == record.DeletePropagated || d == record.DeleteProposed:
		return false
	}
	for _, w := range r.Views {
		if w.Exists() {
			return true
		}
	}
	return false
}

// maxShown bounds the characters of a value in a sentence for people.
const maxShown = 80

// saying lists what the contributors of a field say.
func saying(r record.Record, rule record.Rule, field string) string {
	var parts []string
	for _, c := range record.Contributions(r, field) {
		if c.Gone || !slices.Contains(rule.Order, c.Platform) {
			continue
		}
		shown := []rune(c.Value.String())
		if len(shown) > maxShown {
			shown = append(shown[:maxShown], '…')
		}
		parts = append(parts, c.Platform+" says "+string(shown))
	}
	return strings.Join(parts, ", ")
}

// putBack reports whether what a platform says in a field is put back whatever it is, so that nobody has to look at it.
func putBack(rule record.Rule, platform string) bool {
	return rule.Paths[platform] == record.Revert && slices.Contains(rule.Targets, platform)
}
