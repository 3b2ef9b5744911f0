package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sorrel/shared/cloud"
	"sorrel/shared/queue"
	"sorrel/shared/queue/durable"
)

func letter(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "letter QUEUE GROUP BODY")
	name := cloud.DeadLetterName(args[0] + ".fifo")
	q, err := durable.Open(ts.MkAbs(filepath.Join("data", "queues", name)), queue.Settings{Name: name}, nil, time.Now)
	ts.Check(err)
	ts.Check(q.Send(context.Background(), queue.Message{Group: args[1], Dedup: args[2][:min(len(args[2]), 9)] + time.Now().Format("150405.000000"), Body: []byte(args[2])}))
	ts.Check(q.Close())
}
