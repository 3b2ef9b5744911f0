package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"sorrel/shared/record"
	"sorrel/shared/store"
)

// Verified is what Verify found.
type Verified struct {
	Chains  int     `json:"chains"`
	Entries int     `json:"entries"`
	Broken  []Break `json:"broken,omitempty"`
}

// Break is a place where a chain is not what was written.
type Break struct {
	Chain string `json:"chain"`
	Seq   int64  `json:"seq"` // of the entry that was altered or removed, as far as can be told; 0: the chain as a whole
	What  string `json:"what"`
}

const (
	headsAtOnce   = 100  // heads read in one request
	progressEvery = 1000 // entries
)

// Verify reads the whole audit log and compares every chain with its hashes and its head. Commits may go on meanwhile.
// progress, which may be nil, is told now and then how many entries were read.
//
// It finds each entry that was altered, removed or added by anyone who does not rewrite the record's state too. A chain
// that was removed as a whole is found by the mark of its beginning; who removes that too is found out by the next change
// of the record. Against somebody who may write everything, keep a copy of the heads elsewhere.
func (l *Ledger) Verify(ctx context.Context, progress func(entries int)) (Verified, error) {
	v := verifier{l: l, progress: progress}
	for shard := range uint32(shards) {
		for e, err := range l.store.Range(ctx, shardPart("log", shard), "\x00", "") {
			if err == nil {
				err = v.next(ctx, e)
			}
			if err != nil {
				return v.out, classify("ledger.verify", "", err)
			}
		}
		if err := v.close(ctx); err != nil {
			return v.out, err
		}
	}
	if !v.general {
		v.ends = append(v.ends, chainEnd{name: General})
	}
	err := v.heads(ctx)
	if progress != nil {
		progress(v.out.Entries)
	}
	return v.out, err
}

// chainEnd is how far a chain was read.
type chainEnd struct {
	name   string
	marked bool // its beginning is marked
	LogHead
}

type verifier struct {
	l        *Ledger
	out      Verified
	now      chainEnd
	ends     []chainEnd // read, but not compared with their heads yet
	general  bool       // the general chain has entries
	progress func(int)
}

func (v *verifier) broken(chain string, seq int64, format string, a ...any) {
	v.out.Broken = append(v.out.Broken, Break{chain, seq, fmt.Sprintf(format, a...)})
}

// next takes the next item of a shard: entries of one chain stand together in their order, behind the chain's mark.
func (v *verifier) next(ctx context.Context, e store.Entry) error {
	parts := split(e.Sort)
	if parts[0] != v.now.name {
		if err := v.close(ctx); err != nil {
			return err
		}
		v.now.name = parts[0]
		v.general = v.general || parts[0] == General
	}
	if len(parts) == 1 {
		v.now.marked = true
		return nil
	}
	v.entry(&v.now, e, parts[1])
	return nil
}

// entry compares one stored entry with the one before it.
func (v *verifier) entry(end *chainEnd, e store.Entry, at string) {
	v.out.Entries++
	if v.progress != nil && v.out.Entries%progressEvery == 0 {
		v.progress(v.out.Entries)
	}
	seq, err := strconv.ParseInt(at, 16, 64)
	var entry LogEntry
	if err == nil {
		err = json.Unmarshal(e.Value, &entry)
	}
	switch {
	case err != nil:
		v.broken(end.name, seq, "cannot be read: %v", err)
	case entry.Chain != end.name || entry.Seq != seq:
		v.broken(end.name, seq, "says that it is entry %d of %s", entry.Seq, entry.Chain)
	case seq != end.Seq+1:
		v.missing(end.name, end.Seq+1, seq-1)
	case entry.Prev != end.Hash && seq == 1:
		v.broken(end.name, seq, "names an entry before it, but is the first")
	case entry.Prev != end.Hash:
		v.broken(end.name, seq-1, "altered: entry %d names another hash for it", seq)
	}
	end.LogHead = LogHead{seq, hash(e.Value)}
}

func (v *verifier) missing(chain string, from, to int64) {
	if from == to {
		v.broken(chain, from, "missing")
		return
	}
	v.broken(chain, from, "missing, and all up to %d", to)
}

// close ends the chain that is being read.
func (v *verifier) close(ctx context.Context) error {
	if v.now.name == "" {
		return nil
	}
	v.ends = append(v.ends, v.now)
	v.now = chainEnd{}
	if len(v.ends) < headsAtOnce {
		return nil
	}
	return v.heads(ctx)
}

// heads compares the ends of chains with their heads.
func (v *verifier) heads(ctx context.Context) error {
	keys := make(map[store.Key]struct{}, len(v.ends))
	for _, end := range v.ends {
		keys[end.key()] = struct{}{}
	}
	got, err := v.l.get(ctx, keys)
	if err != nil {
		return err
	}
	for _, end := range v.ends {
		e, some := got[end.key()]
		if err := v.head(ctx, end, e, some); err != nil {
			return err
		}
	}
	v.ends = v.ends[:0]
	return nil
}

func (c chainEnd) key() store.Key {
	if c.name == General {
		return headKey()
	}
	return stateKey(record.ID(c.name))
}

// head compares the end of a chain with its head, which was read later: commits may have moved it meanwhile.
func (v *verifier) head(ctx context.Context, end chainEnd, stored store.Entry, some bool) error {
	var head LogHead
	var err error
	switch {
	case !some && end.name == General && end.Seq == 0:
		return nil // nobody has noted anything yet
	case end.name == General && some:
		err = json.Unmarshal(stored.Value, &head)
	case some:
		var state struct{ Log LogHead }
		err = json.Unmarshal(stored.Value, &state)
		head = state.Log
	}
	v.out.Chains++
	if !end.marked && end.name != General {
		v.broken(end.name, 0, "the mark of its beginning is missing")
	}
	if end.Seq < head.Seq {
		for e, err := range v.l.store.Range(ctx, logPart(end.name), logKey(end.name, end.Seq+1).Sort, logKey(end.name, head.Seq+1).Sort) {
			if err != nil {
				return classify("ledger.verify", end.name, err)
			}
			v.entry(&end, e, split(e.Sort)[1])
		}
	}
	switch {
	case err != nil:
		v.broken(end.name, 0, "its head cannot be read: %v", err)
	case !some:
		v.broken(end.name, 0, "its head is gone, which stands in the state of the record, or by itself for %s", General)
	case end.Seq < head.Seq:
		v.missing(end.name, end.Seq+1, head.Seq)
	case end.Seq > head.Seq:
		v.broken(end.name, head.Seq+1, "goes on behind its head, which names entry %d as the last", head.Seq)
	case end.Hash != head.Hash:
		v.broken(end.name, end.Seq, "altered: the head names another hash for it")
	}
	return nil
}
