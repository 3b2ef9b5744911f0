// Package once does what leaves no state to compare with, such as a message that is sent on: under a key, once. Whoever asks
// again gets the first answer. Who finds that somebody began and never finished looks first whether it has happened.
package once

import (
	"context"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
)

// Guard does deeds once. All of it is required.
type Guard struct {
	Ledger   *ledger.Ledger
	Now      func() time.Time
	NewToken func() string // never the same twice
}

// Deed is something to be done once.
type Deed struct {
	Key   ledger.OperationKey
	Print string        // a digest of what exactly is asked
	Lease time.Duration // Look and Do have this long: their context ends then
	Keep  time.Duration // how long the answer is remembered

	// Look tells whether what carries a mark has happened, and its answer. It is asked where somebody may have done it. Nil says
	// that Do looks by itself: it brings about a state.
	Look func(ctx context.Context, mark string) (answer []byte, happened bool, err error)
	// Do does it, and marks what it leaves behind.
	Do func(ctx context.Context, mark string) (answer []byte, err error)
}

// last is how long there is for the last words about a deed, also when whoever asked has gone.
const last = 3 * time.Second

// Do does a deed, or tells what came of it: again says that this is the answer of an earlier time. An answer that is too large
// to be remembered is nil then. fault.Conflict with a RetryAt: somebody is at it. fault.Refused: the key stands for something
// else.
//
// What is refused has not happened, and is forgotten: the key is free to ask again. After any other failure it may have
// happened, and the next look tells.
func (g Guard) Do(ctx context.Context, d Deed) (answer []byte, again bool, err error) {
	me := g.NewToken()
	o, err := g.Ledger.Begin(ctx, ledger.Beginning{Key: d.Key, Owner: me, Print: d.Print, Lease: d.Lease})
	switch {
	case err != nil:
		return nil, false, err
	case o.Stand == ledger.Done:
		return o.Answer, true, nil
	case o.Owner != me:
		return nil, false, &fault.Error{Class: fault.Conflict, Op: "once", ID: d.Key.String(), Detail: "the same is being done at this moment", RetryAt: o.Until,
			Remedy: "ask again with the same key, after the time that Retry-After says"}
	}
	within, cancel := context.WithTimeout(ctx, o.Until.Sub(g.Now()))
	defer cancel()
	free := false
	if o.Stand == ledger.Unknown && d.Look != nil {
		answer, again, err = d.Look(within, o.Mark)
	}
	if err == nil && !again {
		answer, err = d.Do(within, o.Mark)
		free = nothing(err)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	switch {
	case free:
		_ = g.Ledger.GiveUp(closing, d.Key, me) // else somebody looks in vain
	case err != nil:
		_ = g.Ledger.Doubt(closing, d.Key, me) // else its time runs out, which says the same
	default:
		kept := answer
		if len(kept) > ledger.MaxAnswer {
			kept = nil
		}
		_ = g.Ledger.Finish(closing, d.Key, me, kept, d.Keep) // else somebody looks, and finds it
	}
	return answer, again, err
}

// nothing reports whether an error says that nothing has happened.
func nothing(err error) bool {
	if err == nil {
		return false
	}
	switch fault.ClassOf(err) {
	case fault.Malformed, fault.TooLarge, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Contract, fault.Refused:
		return true
	}
	return false
}
