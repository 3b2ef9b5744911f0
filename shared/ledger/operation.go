package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// An operation is something that is done once and leaves no state to compare with: a comment, the start of a workflow, a
// message sent on. Whoever does one begins it under a key, with a token of its own, and finishes it with the answer. What
// nobody finished in time is never free again: whoever comes next has to look whether it has happened.

// Stand is how an operation stands.
type Stand string

// The stands of an operation. An operation that nobody began, or that was finished and is forgotten, has none.
const (
	InProgress Stand = "in-progress" // its owner is at it, until Until
	Done       Stand = "done"        // Answer is what came of it
	Unknown    Stand = "unknown"     // it may have happened: look before it is repeated
)

// MaxAnswer bounds the answer that is remembered, in bytes.
const MaxAnswer = 128 << 10

// OperationKey names an operation. It is a digest of what it was made of.
type OperationKey struct{ kind, digest string }

// NewOperationKey makes a key of a kind of operations, such as "http", and of what tells one of them from the others.
func NewOperationKey(kind string, parts ...string) OperationKey {
	sum := sha256.Sum256([]byte(key(parts...)))
	return OperationKey{kind, hex.EncodeToString(sum[:16])}
}

// String names the operation in errors.
func (k OperationKey) String() string { return k.kind + "/" + k.digest }

// Operation is what is remembered of an operation.
type Operation struct {
	Stand  Stand     `json:"stand"`
	Mark   string    `json:"mark"`  // what its effect is marked with, whoever brings it about: the token of who began it first
	Owner  string    `json:"owner"` // the token of who has it in hand, or finished it
	Print  string    `json:"print,omitempty"`
	Begun  time.Time `json:"begun"`
	Until  time.Time `json:"until,omitzero"` // how long the owner has it in hand
	Answer []byte    `json:"answer,omitempty"`
	rev    store.Rev
}

// Beginning asks to do an operation.
type Beginning struct {
	Key   OperationKey
	Owner string        // a token that was never used before
	Print string        // a digest of what exactly is asked: one key stands for one thing
	Lease time.Duration // how long the owner has it in hand
}

// Begin takes an operation in hand and tells how it stands. If Owner is the caller's own token it is the caller's: InProgress
// says that nobody has begun it before, Unknown that somebody has, and may have done it. Otherwise it is Done, or somebody
// else's until Until. Of all who ask at once, one gets it.
//
// The owner must not begin the effect after Until: somebody else may be looking for it then. Whether that time has come is
// judged by the clock when it is read. What nobody finishes is kept for ever, as Unknown; what is Done is forgotten when Finish
// says, and free from then on. A key that stands for something else is fault.Refused.
func (l *Ledger) Begin(ctx context.Context, b Beginning) (Operation, error) {
	const op = "ledger.begin"
	if b.Owner == "" || b.Lease <= 0 {
		return Operation{}, fault.New(fault.Internal, op, "an operation is begun by an owner, for a while")
	}
	now := l.now().UTC()
	next := Operation{Stand: InProgress, Mark: b.Owner, Owner: b.Owner, Print: b.Print, Begun: now, Until: now.Add(b.Lease)}
	written := false // perhaps: an acknowledgement was lost
	for range tries {
		err := l.putOperation(ctx, b.Key, next, time.Time{})
		if err == nil {
			return next, nil
		}
		switch {
		case fault.Is(err, fault.Unknown):
			written = true
		case !fault.Is(err, fault.Conflict):
			return Operation{}, err
		}
		was, some, err := l.operation(ctx, b.Key)
		switch {
		case err != nil:
			return Operation{}, err
		case !some:
			next.Stand, next.Mark, next.Begun, next.rev = InProgress, b.Owner, now, ""
			continue
		case was.Print != b.Print:
			return Operation{}, &fault.Error{Class: fault.Refused, Op: op, ID: b.Key.String(), Detail: "this key was used for something else", Remedy: "use a new key for each thing"}
		case was.Owner == b.Owner && written && was.Stand != Done:
			return was, nil // it is our own
		case was.Stand == Done, was.Owner != b.Owner && l.now().Before(was.Until):
			return was, nil
		}
		next.Stand, next.Mark, next.Begun, next.rev = Unknown, was.Mark, was.Begun, was.rev
	}
	return Operation{}, &fault.Error{Class: fault.Conflict, Op: op, ID: b.Key.String(), Detail: "too many ask for it at once"}
}

// Finish remembers the answer of an operation for a while. Only who has it in hand may: fault.Conflict says that somebody
// else has, or that it was given up. Finishing twice with one token is the same as once.
func (l *Ledger) Finish(ctx context.Context, k OperationKey, owner string, answer []byte, keep time.Duration) error {
	const op = "ledger.finish"
	if len(answer) > MaxAnswer {
		return &fault.Error{Class: fault.TooLarge, Op: op, ID: k.String(), Detail: fmt.Sprintf("an answer of %d bytes, at most %d can be remembered", len(answer), MaxAnswer)}
	}
	return l.release(ctx, op, k, owner, Operation{Stand: Done, Answer: answer}, expiry(l.now().UTC(), keep))
}

// Doubt gives an operation out of hand that may have happened: whoever begins it next has to look. Only who has it in hand
// may.
func (l *Ledger) Doubt(ctx context.Context, k OperationKey, owner string) error {
	return l.release(ctx, "ledger.doubt", k, owner, Operation{Stand: Unknown, Until: l.now().UTC()}, time.Time{})
}

// release changes the stand of an operation that owner has in hand. Where an acknowledgement is lost, it is read again.
func (l *Ledger) release(ctx context.Context, op string, k OperationKey, owner string, to Operation, expires time.Time) error {
	for range tries {
		o, some, err := l.operation(ctx, k)
		switch {
		case err != nil:
			return err
		case !some || o.Owner != owner || o.Stand == Done && to.Stand != Done:
			return lostOperation(op, k)
		case o.Stand == to.Stand && o.Until.Equal(to.Until): // also by ourselves, a moment ago
			return nil
		}
		o.Stand, o.Until, o.Answer = to.Stand, to.Until, to.Answer
		if err = l.putOperation(ctx, k, o, expires); !fault.Is(err, fault.Unknown) && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return lostOperation(op, k)
}

// GiveUp forgets an operation that has not happened, so that its key is free. Only who has it in hand may, and knows: its
// effect was not begun, or refused, or looked for and is not there.
func (l *Ledger) GiveUp(ctx context.Context, k OperationKey, owner string) error {
	const op = "ledger.giveup"
	written := false
	for range tries {
		o, some, err := l.operation(ctx, k)
		switch {
		case err != nil:
			return err
		case !some && written:
			return nil
		case !some || o.Owner != owner || o.Stand == Done:
			return lostOperation(op, k)
		}
		err = classify(op, k.String(), l.store.Commit(ctx, store.Op{Kind: store.Delete, Key: operationKey(k), IfRev: o.rev}))
		switch {
		case fault.Is(err, fault.Unknown):
			written = true
		case !fault.Is(err, fault.Conflict):
			return err
		}
	}
	return lostOperation(op, k)
}

func lostOperation(op string, k OperationKey) error {
	return &fault.Error{Class: fault.Conflict, Op: op, ID: k.String(), Detail: "somebody else has the operation in hand by now", Remedy: "begin it again, and look"}
}

func (l *Ledger) operation(ctx context.Context, k OperationKey) (Operation, bool, error) {
	e, err := l.store.Get(ctx, operationKey(k))
	if errors.Is(err, store.ErrNotFound) {
		return Operation{}, false, nil
	}
	if err != nil {
		return Operation{}, false, classify("ledger.operation", k.String(), err)
	}
	o := Operation{rev: e.Rev}
	if err := json.Unmarshal(e.Value, &o); err != nil {
		return Operation{}, false, fault.Wrap(fault.Internal, "ledger.operation", k.String(), err)
	}
	return o, true, nil
}

func (l *Ledger) putOperation(ctx context.Context, k OperationKey, o Operation, expires time.Time) error {
	var b batch
	b.put(store.Op{Key: operationKey(k), IfRev: o.rev, Absent: o.rev == "", Expires: expires}, o)
	return l.commit(ctx, "ledger.operation", k.String(), &b)
}
