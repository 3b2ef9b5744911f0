package deadletters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

// judge says what each message is, and why it lies there.
func (f *Flow) judge(ctx context.Context, name string, got []queue.Received, open []ledger.Exception) ([]Letter, error) {
	platform := f.d.Queues[name].Platform
	out := make([]Letter, len(got))
	for i, m := range got {
		sum := sha256.Sum256(m.Body)
		out[i] = Letter{ID: m.ID, Queue: name, Since: m.SentAt, Bytes: len(m.Body), Digest: hex.EncodeToString(sum[:]), Platform: platform, m: m}
	}
	var err error
	if platform == "" {
		err = f.inbound(ctx, out)
	} else {
		err = f.wakes(ctx, out)
	}
	for i := range out {
		l := &out[i]
		l.Payload = masked(l.m.Body, l.Class != Poison)
		l.Case = about(*l, open)
		if l.Class == Failing && l.Case != nil {
			l.Why = l.Case.Type + ": " + l.Case.Detail
		}
	}
	return out, err
}

// about finds the exception that tells why: that of the message itself, else of its native record, else of the platform's copy of
// its record.
func about(l Letter, open []ledger.Exception) *ledger.Exception {
	for _, fits := range []func(ledger.Exception) bool{
		func(x ledger.Exception) bool { return x.Type == ledger.PoisonMessage && ofMessage(x, l.m) },
		func(x ledger.Exception) bool { return l.Class == Failing && l.Native != "" && x.Native == l.Native },
		func(x ledger.Exception) bool {
			return l.Class == Failing && l.Record != "" && x.Record == l.Record && x.Platform == l.Platform
		},
	} {
		if i := slices.IndexFunc(open, fits); i >= 0 {
			return &open[i]
		}
	}
	return nil
}

// ofMessage reports whether the hub parked x about m. It knew the message by its id on the source queue, which in the
// dead-letter queue of a FIFO queue is the dedup id.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
func ofMessage(x ledger.Exception, m queue.Received) bool {
	return x.Native == "message "+m.ID || x.Native == "message "+m.Dedup
}

func (l *Letter) poison(err error) { l.Class, l.Why = Poison, err.Error() }

func (l *Letter) failing() {
	l.Class, l.Why = Failing, "it was tried and never came to an end; the log tells why, by its correlation id"
}

func (l *Letter) overtaken(why string) { l.Class, l.Why = Overtaken, why }

// heard is a letter that says something about a native record.
type heard struct {
	*Letter
	said record.Observation
	refs map[string]record.Ref
	hint bool
}

// inbound judges letters of the inbound queue, as the hub would take them now.
func (f *Flow) inbound(ctx context.Context, letters []Letter) error {
	var all []heard
	var sightings []ledger.Sighting
	refs := map[record.Ref]struct{}{}
	for i := range letters {
		l := &letters[i]
		in, err := message.ParseInbound(l.m.Body)
		if err != nil {
			l.poison(err)
			continue
		}
		n := in.Native
		l.failing()
		l.Source, l.Platform, l.Native, l.Trace, l.Received, l.Version = string(in.Source), n.Platform, n.Ref.String(), in.CorrelationID, in.ReceivedAt, n.Version.At
		if n.Platform == record.Sorrel {
			if err := f.timer(ctx, l, record.ID(n.Object+"/"+n.ID)); err != nil {
				return err
			}
			continue
		}
		m, mapped := f.d.Config.ByObject(n.Platform, n.Object)
		if !mapped {
			l.Why = "no mapping for this object"
			continue
		}
		h := heard{Letter: l, hint: n.Hint(), said: record.Observation{Ref: n.Ref, Version: n.Version}}
		s := ledger.Sighting{Ref: n.Ref, Entity: m.Entity}
		if h.hint {
			l.Why = "it only says that something changed; redriven, the record is read as it is now"
		} else {
			if h.said, h.refs, err = m.Observe(n); err != nil {
				l.Why = err.Error()
				continue
			}
			s.External = h.said.External
		}
		for _, r := range h.refs {
			refs[r] = struct{}{}
		}
		all, sightings = append(all, h), append(sightings, s)
	}
	if len(all) == 0 {
		return nil
	}
	found, links, err := f.d.Ledger.Open(ctx, sightings, slices.Collect(maps.Keys(refs)))
	if err != nil {
		return err
	}
	for i, h := range all {
		if found[i].State.Exists() {
			h.Record = found[i].State.Record.ID
		}
		why, err := f.known(ctx, h, found[i], links)
		if err != nil {
			return err
		}
		if why != "" {
			h.overtaken(why)
		}
	}
	return nil
}

// known says why the hub would find nothing to do in what a letter says, or "" where it may find something. Doubt is "".
func (f *Flow) known(ctx context.Context, h heard, found ledger.Found, links map[record.Ref]record.ID) (string, error) {
	s, p := found.State, h.said.Platform
	view := s.Record.Views[p]
	if !found.Linked || found.Via != "" || view.ID != h.said.ID {
		return "", nil
	}
	if h.hint {
		return covered(h.said.Version, view, s.Record.Expects(p)), nil
	}
	rules := f.d.Config.Rules(s.Record.ID.Entity())
	_, writing := s.Due[p]
	if h.said.Echo != nil && (writing || len(s.Record.Expects(p)) > 0 || len(s.Record.Unsaid(rules, p)) > 0) {
		return "", nil // what it says of our own write may be news
	}
	for field, to := range h.refs {
		id, seen := links[to]
		if !seen {
			return "", nil
		}
		h.said.Fields[field] = record.TextValue(string(id))
	}
	h.said.Trace, h.said.Timed = h.Trace, rules.Timed()
	after := s.Clone()
	then, news := record.Observe(view, h.said)
	if news {
		// It may still be older than all that counts, and add to the history of a value only: settled, it changes nothing.
		if len(then.Unsettled()) > 0 {
			return "", nil
		}
		after.Record.Views[p] = then
		settled, err := govern.Settle(ctx, f.d.Ledger, f.d.Config, s, after, govern.Cause{Trace: h.Trace, Now: f.d.Now().UTC()})
		decided := slices.ContainsFunc(settled.Outcome.Decisions, func(d record.Decision) bool { return d.Loser.Platform == p && d.Loser.Trace == h.Trace })
		if err != nil || !settled.Quiet() || decided || len(settled.Entry.Claims) > 0 {
			return "", err
		}
	}
	if at := view.Heard.At; at.After(h.said.Version.At) {
		return fmt.Sprintf("%s has said something newer since, of %s", p, at.UTC().Format(time.RFC3339)), nil
	}
	return "all that it says is known", nil
}

// covered says why a hint need not be read: a later write of ours covers its version.
func covered(hint record.Version, view record.View, expects []string) string {
	if hint.IsZero() || len(expects) > 0 {
		return ""
	}
	for _, w := range view.Wrote {
		if hint.Compare(w.Base) <= 0 {
			return "it tells of a change that a later write of ours covers"
		}
	}
	return ""
}

// timer judges the letter of a record that was to change by the mere passing of time.
func (f *Flow) timer(ctx context.Context, l *Letter, id record.ID) error {
	l.Record = id
	s, err := f.d.Ledger.Follow(ctx, id)
	if err != nil {
		return err
	}
	now := f.d.Now()
	at := s.Record.Timer()
	moves := !at.IsZero() && !at.After(now)
	for _, at := range s.Runs {
		moves = moves || !at.IsZero() && !at.After(now)
	}
	if !s.Exists() || !moves {
		l.overtaken("nothing changes by time now")
	}
	return nil
}

// wakes judges letters of an outbound queue, by what is due now.
func (f *Flow) wakes(ctx context.Context, letters []Letter) error {
	wanted := map[record.ID]struct{}{}
	for i := range letters {
		l := &letters[i]
		w, err := message.ParseWake(l.m.Body)
		if err != nil {
			l.poison(err)
			continue
		}
		l.failing()
		l.Platform, l.Record, l.Trace = w.Platform, w.Record, w.CorrelationID
		wanted[w.Record] = struct{}{}
	}
	states, err := f.d.Ledger.Load(ctx, slices.Collect(maps.Keys(wanted))...)
	if err != nil {
		return fault.Wrap("", "deadletters", "", err)
	}
	for i := range letters {
		l := &letters[i]
		if l.Class == Poison {
			continue
		}
		due, is := states[l.Record].Due[l.Platform]
		switch {
		case !is:
			l.overtaken("nothing is due for " + l.Platform)
		case due.Reason != "":
			l.Why = due.Reason
		default:
			l.Why += "; it is due all the same, and the sweep wakes it"
		}
	}
	return nil
}
