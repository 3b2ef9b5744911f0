package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Choice says which letters to redrive: IDs, or All that the filter chooses but poison.
type Choice struct {
	IDs []string `json:"ids,omitempty"`
	All bool     `json:"all,omitempty"`
	Filter
}

// Redriven is what a redrive did.
type Redriven struct {
	Redriven []string `json:"redriven"`          // ids
	Poison   []string `json:"poison"`            // left where they are: they would fail in the same way
	Missing  []string `json:"missing,omitempty"` // asked for and not there, or not to be seen now
	Left     int      `json:"left"`              // in the queues that were asked for
}

// Discarded is what became of a letter.
type Discarded struct {
	Letter Letter `json:"letter"`
	Reason string `json:"reason"`
}

func refuse(c fault.Class, id, detail, remedy string) error {
	return &fault.Error{Class: c, Op: "deadletters", ID: id, Detail: detail, Remedy: remedy}
}

// Redrive sends letters to the queues that they came from, the oldest of each group first, and takes them off their dead-letter
// queues then. It does a bounded number; Left says whether to ask again.
func (f *Flow) Redrive(ctx context.Context, by policy.Person, c Choice) (Redriven, error) {
	out := Redriven{Redriven: []string{}, Poison: []string{}}
	who, err := f.d.Config.Acting("deadletters", by.Name, Role)
	if err != nil {
		return out, err
	}
	if c.All == (len(c.IDs) > 0) || !c.All && c.Class != "" {
		return out, refuse(fault.Malformed, "", "it must be said which", "name letters by their ids, or say all, perhaps of one queue and class")
	}
	if c.Class == Poison {
		return out, refuse(fault.Refused, "", "poison would fail in the same way", "deploy a program that can read it, or discard it with a reason")
	}
	names, err := f.named(c.Filter)
	if err != nil {
		return out, err
	}
	open, err := f.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return out, err
	}
	parts, seen := make([]Redriven, len(names)), make([]map[string]bool, len(names))
	var taken, found atomic.Int64
	var g errgroup.Group // a queue that fails does not stop the others
	for i, name := range names {
		done := map[string]bool{}
		seen[i] = map[string]bool{}
		t := taking{name: name, open: open, enough: func() bool { return taken.Load() >= maxTaken || !c.All && found.Load() >= int64(len(c.IDs)) },
			want: func(l Letter) bool {
				if !c.All && !slices.Contains(c.IDs, l.ID) {
					return false
				}
				if !seen[i][l.ID] {
					seen[i][l.ID] = true
					found.Add(1)
					if l.Class == Poison {
						parts[i].Poison = append(parts[i].Poison, l.ID)
					}
				}
				return l.Class != Poison && (c.Class == "" || l.Class == c.Class)
			},
			do: func(letters []Letter) error {
				sent, err := f.redrive(ctx, who, name, letters, done)
				for _, l := range sent {
					if !done[l.ID] {
						done[l.ID] = true
						taken.Add(1)
						parts[i].Redriven = append(parts[i].Redriven, l.ID)
					}
				}
				return err
			}}
		g.Go(func() error {
			if err := f.take(ctx, t); err != nil {
				return err
			}
			d, err := f.d.Queues[name].Dead.Depth(ctx)
			parts[i].Left = d.Visible + d.InFlight
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	for _, p := range parts {
		out.Redriven, out.Poison, out.Left = append(out.Redriven, p.Redriven...), append(out.Poison, p.Poison...), out.Left+p.Left
	}
	for _, id := range c.IDs {
		if !slices.ContainsFunc(seen, func(m map[string]bool) bool { return m[id] }) && !slices.Contains(out.Missing, id) {
			out.Missing = append(out.Missing, id)
		}
	}
	return out, nil
}

// redrive sends letters of one receive and deletes those that are safe in their queue. What is in done was sent before: only
// its deletion was lost. It returns those that are on their way.
func (f *Flow) redrive(ctx context.Context, by policy.Person, name string, letters []Letter, done map[string]bool) ([]Letter, error) {
	var fresh []Letter
	for _, l := range letters {
		if !done[l.ID] {
			fresh = append(fresh, l)
		}
	}
	sent := letters
	var failed error
	if len(fresh) > 0 {
		ids := make([]string, len(fresh))
		msgs := make([]queue.Message, len(fresh))
		for i, l := range fresh {
			ids[i] = l.ID
			// Sent again within the dedup window, because deleting failed, it is dropped. Given up again, it is another letter.
			msgs[i] = queue.Message{Group: l.m.Group, Dedup: "redrive-" + l.ID, Body: l.m.Body}
		}
		e := f.line(by, record.Event{Action: "dead-letters-redriven", Platform: f.d.Queues[name].Platform, Detail: name + ": " + strings.Join(ids, " ")})
		if err := f.d.Ledger.Note(ctx, e); err != nil {
			return nil, err
		}
		if failed = f.d.Queues[name].Source.Send(ctx, msgs...); failed != nil {
			var partial *queue.PartialError
			if !errors.As(failed, &partial) {
				return nil, failed
			}
			sent = slices.DeleteFunc(slices.Clone(letters), func(l Letter) bool {
				i := slices.IndexFunc(fresh, func(m Letter) bool { return m.ID == l.ID })
				return i >= 0 && slices.Contains(partial.Failed, i)
			})
		}
	}
	for _, l := range sent {
		if _, err := f.resolve(ctx, by, l, f.line(by, f.event(l, "dead-letter-redriven", ""))); err != nil {
			return sent, errors.Join(failed, err)
		}
		if !done[l.ID] {
			f.tell(ctx, l, "redriven")
		}
	}
	return sent, errors.Join(failed, f.delete(ctx, name, sent))
}

const discardedEvent = "dead-letter-discarded"

// Discard takes a letter off its queue for good. The audit log keeps who did it, why, and the digest of the body, before
// the letter goes.
func (f *Flow) Discard(ctx context.Context, by policy.Person, id, reason string) (Discarded, error) {
	who, err := f.d.Config.Acting("deadletters", by.Name, Role)
	if err != nil {
		return Discarded{}, err
	}
	if strings.TrimSpace(reason) == "" {
		return Discarded{}, refuse(fault.Malformed, id, "no reason is given for discarding it", "say in the reason why it is not needed")
	}
	names, err := f.named(Filter{})
	if err != nil {
		return Discarded{}, err
	}
	open, err := f.d.Ledger.Exceptions(ctx, false)
	if err != nil {
		return Discarded{}, err
	}
	var gone atomic.Pointer[Letter]
	var g errgroup.Group
	for _, name := range names {
		t := taking{name: name, open: open, want: func(l Letter) bool { return l.ID == id }, enough: func() bool { return gone.Load() != nil },
			do: func(letters []Letter) error {
				l := letters[0]
				line := f.line(who, f.event(l, discardedEvent, reason))
				if logged, err := f.resolve(ctx, who, l, line); err != nil {
					return err
				} else if !logged {
					if err := f.d.Ledger.Note(ctx, line); err != nil {
						return err
					}
				}
				if err := f.delete(ctx, name, letters); err != nil {
					return err
				}
				f.tell(ctx, l, "discarded")
				gone.Store(&l)
				return nil
			}}
		g.Go(func() error { return f.take(ctx, t) })
	}
	err = g.Wait()
	if l := gone.Load(); l != nil {
		return Discarded{Letter: *l, Reason: reason}, nil
	}
	return Discarded{}, cmp.Or(err, missing(id))
}

// Discarded tells whether a letter was discarded: it is not there, and the audit log says who did it.
func (f *Flow) Discarded(ctx context.Context, id string) (Discarded, bool, error) {
	if _, err := f.Show(ctx, id, false); !fault.Is(err, fault.NotFound) {
		return Discarded{}, false, err
	}
	log, err := f.d.Ledger.Log(ctx, ledger.General)
	if err != nil {
		return Discarded{}, false, err
	}
	for _, line := range slices.Backward(log) {
		for _, e := range line.Events {
			if e.Action != discardedEvent || !strings.HasPrefix(e.Detail, id+" in ") {
				continue
			}
			_, rest, _ := strings.Cut(e.Detail, " sha256 ")
			digest, reason, _ := strings.Cut(rest, ": ")
			return Discarded{Letter: Letter{ID: id, Platform: e.Platform, Trace: e.Trace, Digest: digest}, Reason: reason}, true, nil
		}
	}
	return Discarded{}, false, nil
}

// taking is a walk over one dead-letter queue.
type taking struct {
	name   string
	open   []ledger.Exception
	want   func(Letter) bool
	do     func([]Letter) error // acts on letters that are wanted and deletes them
	enough func() bool
}

// take walks over a queue, again and again while that gets on: letters behind others of their group show only when these
// are gone.
func (f *Flow) take(ctx context.Context, t taking) error {
	for again := true; again && !t.enough(); {
		var err error
		if again, err = f.pass(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// pass is one walk. It gives back what it does not want, and reports whether another may find more: it took some and left
// some, which others may be behind.
func (f *Flow) pass(ctx context.Context, t taking) (again bool, err error) {
	dead := f.d.Queues[t.name].Dead
	var held []string
	n := 0
	defer func() {
		again = n > 0 && len(held) > 0
		err = errors.Join(err, giveBack(ctx, dead, held))
	}()
	for !t.enough() && len(held) < maxHeld {
		got, err := dead.Receive(ctx, queue.MaxBatch, f.d.Wait)
		if err != nil || len(got) == 0 {
			return false, err
		}
		letters, err := f.judge(ctx, t.name, got, t.open)
		if err != nil {
			return false, errors.Join(err, giveBack(ctx, dead, receipts(letters)))
		}
		var mine []Letter
		for _, l := range letters {
			if t.want(l) {
				mine = append(mine, l)
			} else {
				held = append(held, l.m.Receipt)
			}
		}
		if len(mine) == 0 {
			continue
		}
		if err := t.do(mine); err != nil {
			held = append(held, receipts(mine)...) // a receipt of what was deleted is ignored
			return false, err
		}
		n += len(mine)
	}
	return false, nil
}

func receipts(letters []Letter) []string {
	out := make([]string, len(letters))
	for i, l := range letters {
		out[i] = l.m.Receipt
	}
	return out
}

func (f *Flow) delete(ctx context.Context, name string, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	return f.d.Queues[name].Dead.Delete(ctx, receipts(letters)...)
}

// maxConflict bounds how often an exception is read again because somebody else was first.
const maxConflict = 12

// resolve ends the exception that was parked about the message itself, in one commit with its line e in the general log,
// and reports whether there was one. Those about records and native records end by themselves, when the work succeeds.
func (f *Flow) resolve(ctx context.Context, by policy.Person, l Letter, e ledger.LogEntry) (bool, error) {
	if l.Case == nil || l.Case.Type != ledger.PoisonMessage {
		return false, nil
	}
	for attempt := 0; ; attempt++ {
		x, err := f.d.Ledger.Exception(ctx, l.Case.ID)
		if err != nil || x.Status == ledger.ExceptionResolved {
			return false, err
		}
		x.Status, x.By = ledger.ExceptionResolved, by.Name
		err = f.d.Ledger.SaveException(ctx, x, e)
		if err == nil || !fault.Is(err, fault.Conflict) || attempt >= maxConflict {
			return err == nil, err
		}
	}
}

// event is what the audit log says of one letter. It has no value of a field.
func (f *Flow) event(l Letter, action, reason string) record.Event {
	about := l.Native
	if about == "" {
		about = string(l.Record)
	}
	detail := strings.Join(strings.Fields(fmt.Sprintf("%s in %s, %s %s, sha256 %s", l.ID, l.Queue, l.Class, about, l.Digest)), " ")
	if reason != "" {
		detail += ": " + reason
	}
	return record.Event{Action: action, Platform: l.Platform, Detail: detail, Trace: l.Trace}
}

func (f *Flow) line(by policy.Person, e record.Event) ledger.LogEntry {
	e.By = by.Name
	return ledger.LogEntry{At: f.d.Now().UTC(), By: by.Name, Policy: f.d.Config.Version(), Trace: e.Trace, Events: []record.Event{e}}
}

// tell reports what became of a letter. It names no person: the audit log does.
func (f *Flow) tell(ctx context.Context, l Letter, step string) {
	f.d.Telemetry.Count("DeadLetters"+strings.ToUpper(step[:1])+step[1:], l.Platform, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: step, Platform: l.Platform, Record: string(l.Record), Trace: l.Trace, Detail: l.Queue + " " + l.ID})
}
