package main

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sorrel/shared/boot"
	"sorrel/shared/cloud"
	"sorrel/shared/cloud/localservers"
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

// TestDeadLettersOfAStack: with --table and --stack people act on the queues of a deployed stack.
func TestDeadLettersOfAStack(t *testing.T) {
	dynamo, sqs := localservers.DynamoDB(t), localservers.SQS(t)
	for name, v := range map[string]string{"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_DYNAMODB": dynamo, "AWS_ENDPOINT_URL_SQS": sqs, "AWS_REGION": localservers.Region, "AWS_ACCESS_KEY_ID": "local",
		"AWS_SECRET_ACCESS_KEY": "local", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_PROFILE": "", "SORREL_PERSON": "stewart@northwind.example"} {
		t.Setenv(name, v)
	}
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{DynamoDB: dynamo, SQS: sqs}, Region: localservers.Region, AccessKeyID: "local", SecretKey: "local"})
	if err != nil {
		t.Fatal(err)
	}
	if err := account.CreateTable(t.Context(), "letters"); err != nil {
		t.Fatal(err)
	}
	settings := []queue.Settings{{Name: "prod-" + boot.InboundQueue}, {Name: "prod-" + boot.WorkflowQueue}, {Name: "prod-" + boot.PublishQueue}}
	for _, p := range boot.Platforms() {
		settings = append(settings, queue.Settings{Name: "prod-" + boot.OutboundQueue(p)})
	}
	urls, err := account.CreateQueues(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	source, dead := account.Queue(urls[0].Main, cloud.Calls{}), account.Queue(urls[0].DeadLetter, cloud.Calls{})
	if err := dead.Send(t.Context(), queue.Message{Group: "g", Dedup: "poison", Body: []byte(`{"v":9}`)},
		queue.Message{Group: "h", Dedup: "hint", Body: []byte(`{"v":1,"correlationId":"c","receivedAt":"2026-11-02T08:00:00Z","source":"webhook","native":{"platform":"netsuite","object":"customer","id":"85","version":{"at":"0001-01-01T00:00:00Z"}}}`)}); err != nil {
		t.Fatal(err)
	}
	sorrel := func(code int, says string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"deadletters"}, args...)
		if got := run(t.Context(), append(args, "--table", "letters"), screen{out: &out, err: &errs}); got != code || !regexp.MustCompile(says).MatchString(out.String()+errs.String()) {
			t.Fatalf("sorrel %v: exit code %d, want %d and %q\n%s%s", args, got, code, says, &out, &errs)
		}
		return out.String()
	}
	sorrel(2, "give --table and --stack, or neither")
	sorrel(1, "no such queue in this account and region", "--stack", "other")
	said := sorrel(0, `(?m)^\S{36}  poison +\d+s +inbound$`, "--stack", "prod")
	for line := range strings.Lines(said) {
		if len([]rune(strings.TrimSpace(line))) > 80 {
			t.Errorf("wider than a terminal: %s", line)
		}
	}
	sorrel(0, "(?m)^1 redriven, 1 left$", "redrive", "--all", "--stack", "prod")
	if got, err := source.Receive(t.Context(), 10, time.Second); err != nil || len(got) != 1 {
		t.Errorf("inbound has %+v, %v", got, err)
	}
	id := strings.Fields(strings.SplitN(sorrel(0, "poison", "--stack", "prod"), "\n", 2)[1])[0]
	sorrel(0, "version 9", "show", id, "--payload", "--stack", "prod")
	sorrel(0, "is discarded", "discard", id, "--reason", "a test", "--stack", "prod")
	sorrel(0, "^no dead letters", "--stack", "prod")
}
