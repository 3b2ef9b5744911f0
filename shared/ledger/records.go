package ledger

import (
	"context"
	"iter"

	"sorrel/shared/record"
)

// Records lists the records of an entity of which anything was ever accepted, each once: also those that were merged into
// another since. They come in the order of their shards and ids, which does not change. It walks the audit log as Scan does,
// for the marks at the beginning of its chains.
func (l *Ledger) Records(ctx context.Context, entity string) iter.Seq2[record.ID, error] {
	return func(yield func(record.ID, error) bool) {
		for shard := range uint32(shards) {
			for e, err := range l.store.Range(ctx, shardPart("log", shard), key(entity+"/"), key(entity+"0")) { // "0" follows "/"
				if err != nil {
					yield("", classify("ledger.records", entity, err))
					return
				}
				if parts := split(e.Sort); len(parts) == 1 && !yield(record.ID(parts[0]), nil) {
					return
				}
			}
		}
	}
}
