package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// batch collects the operations of one commit.
type batch struct {
	ops      []store.Op
	problems []error
	steps    int
}

func (b *batch) fail(err error) { b.problems = append(b.problems, err) }

// add appends an operation. What two entries of one commit say alike counts once; of two unconditional writes of one
// key the later one counts.
func (b *batch) add(op store.Op) {
	for i, was := range b.ops {
		switch {
		case was.Key != op.Key:
			continue
		case !was.Absent && was.IfRev == "" && !op.Absent && op.IfRev == "":
			b.ops[i] = op
		case was.Kind != op.Kind || was.Absent != op.Absent || was.IfRev != op.IfRev || !bytes.Equal(was.Value, op.Value):
			b.fail(fault.New(fault.Internal, "", "the entries of one commit disagree about "+op.Key.String()))
		}
		return
	}
	b.ops = append(b.ops, op)
}

// put adds an operation with a value in JSON, and returns that.
func (b *batch) put(op store.Op, a any) []byte {
	value, err := json.Marshal(a)
	if err != nil {
		b.fail(fmt.Errorf("%s: %w", op.Key, err))
	}
	op.Kind, op.Value = store.Put, value
	b.add(op)
	return value
}

// check reports what is wrong with the batch, in particular that no store takes it.
func (b *batch) check() error {
	size := 0
	for _, op := range b.ops {
		size += len(op.Value)
	}
	if len(b.ops) > store.MaxOps || size > store.MaxBatchSize {
		b.fail(&fault.Error{Class: fault.Internal, Remedy: "commit less at once",
			Detail: fmt.Sprintf("%d operations of %d bytes, but one commit takes %d of %d", len(b.ops), size, store.MaxOps, store.MaxBatchSize)})
	}
	return errors.Join(b.problems...)
}
