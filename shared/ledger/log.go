package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/workflow"
)

// General is the chain of actions that concern no record.
const General = "general"

// LogHead is the end of a chain: the number and the hash of its last entry. It is zero while there is none.
type LogHead struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// LogEntry is one line of the audit log: what changed, what was decided, and by whom. Each entry names the hash of the
// one before it, and the head of a chain stands in the record's state, so that altering or removing an entry shows.
//
// An entry holds the values before and after: where those are personal data, so is the log. It does not expire. It ends
// when its owner says so.
type LogEntry struct {
	Chain   string         `json:"chain"` // the record id, or General
	Seq     int64          `json:"seq"`   // 1, 2, …
	Prev    string         `json:"prev"`  // hash of the entry before, "" at the beginning
	At      time.Time      `json:"at"`
	By      string         `json:"by,omitempty"` // a person, or "sorrel"; empty for a platform's change: see its from and actor
	Policy  string         `json:"policyVersion,omitempty"`
	Trace   string         `json:"correlationId,omitempty"`
	Changes []ChangeEntry  `json:"changes,omitempty"`
	Events  []record.Event `json:"events,omitempty"`
	// Says are the business events that came about with it.
	Says []workflow.Saying `json:"says,omitempty"`
}

// ChangeEntry is one accepted change of one field in the log.
type ChangeEntry struct {
	record.Change
	Before any `json:"before"`
	After  any `json:"after"`
}

// hash of an entry: SHA-256 over its stored bytes.
func hash(entry []byte) string {
	sum := sha256.Sum256(entry)
	return hex.EncodeToString(sum[:])
}

// append adds the next entry of a chain, and returns the chain's new head.
func (b *batch) append(chain string, head LogHead, e LogEntry) LogHead {
	e.Chain, e.Seq, e.Prev, e.At = chain, head.Seq+1, head.Hash, e.At.UTC()
	if head.Seq == 0 && chain != General {
		b.add(store.Op{Kind: store.Put, Key: chainKey(chain), Value: []byte("{}")})
	}
	return LogHead{e.Seq, hash(b.put(store.Op{Key: logKey(chain, e.Seq), Absent: true}, e))}
}

// Log lists the entries of a chain in order: those of a record, or of General.
func (l *Ledger) Log(ctx context.Context, chain string) ([]LogEntry, error) {
	return l.LogFrom(ctx, chain, 0)
}

// LogFrom lists the entries of a chain from a number on. Numbers among their values are json.Number: money keeps its digits.
func (l *Ledger) LogFrom(ctx context.Context, chain string, from int64) ([]LogEntry, error) {
	var out []LogEntry
	for e, err := range l.store.Range(ctx, logPart(chain), logKey(chain, from).Sort, key(chain, "\xff")) {
		if err != nil {
			return nil, classify("ledger.log", chain, err)
		}
		var entry LogEntry
		dec := json.NewDecoder(bytes.NewReader(e.Value))
		dec.UseNumber()
		if err := dec.Decode(&entry); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.log", e.Key.String(), err)
		}
		out = append(out, entry)
	}
	return out, nil
}

// Changes lists the accepted changes of a record in order.
func (l *Ledger) Changes(ctx context.Context, id record.ID) ([]ChangeEntry, error) {
	log, err := l.Log(ctx, string(id))
	if err != nil {
		return nil, err
	}
	var out []ChangeEntry
	for _, e := range log {
		out = append(out, e.Changes...)
	}
	return out, nil
}

// general returns the head of the general chain and its revision.
func (l *Ledger) general(ctx context.Context) (LogHead, store.Rev, error) {
	e, err := l.store.Get(ctx, headKey())
	if errors.Is(err, store.ErrNotFound) {
		return LogHead{}, "", nil
	}
	var head LogHead
	if err == nil {
		err = json.Unmarshal(e.Value, &head)
	}
	return head, e.Rev, classify("ledger.log", General, err)
}

// note adds an entry to the general chain and moves its head.
func (b *batch) note(head LogHead, rev store.Rev, e LogEntry) {
	head = b.append(General, head, e)
	b.put(store.Op{Key: headKey(), IfRev: rev, Absent: rev == ""}, head)
}

// Note appends an entry to the general chain, whatever Chain, Seq and Prev it has. At is now if it is zero.
func (l *Ledger) Note(ctx context.Context, e LogEntry) error {
	if e.At.IsZero() {
		e.At = l.now()
	}
	return l.again(func() error {
		head, rev, err := l.general(ctx)
		if err != nil {
			return err
		}
		var b batch
		b.note(head, rev, e)
		return l.commit(ctx, "ledger.note", General, &b)
	})
}

// tries bounds how often a verb begins again because somebody else was first. Each time somebody got on.
const tries = 16

// again runs do until it ends without a conflict.
func (l *Ledger) again(do func() error) error {
	var err error
	for range tries {
		if err = do(); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}

// commit writes a batch.
func (l *Ledger) commit(ctx context.Context, op, id string, b *batch) error {
	if err := b.check(); err != nil {
		return fault.Wrap("", op, id, err)
	}
	return classify(op, id, l.store.Commit(ctx, b.ops...))
}
