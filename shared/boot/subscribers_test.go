package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sorrel/infra/config"
	"sorrel/shared/cloud"
	"sorrel/shared/event"
	"sorrel/shared/fault"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/telemetry"
)

// told is the configuration with these subscribers.
func told(t *testing.T, subscribers string) *policy.Set {
	t.Helper()
	all := fstest.MapFS{}
	err := fs.WalkDir(config.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = fs.ReadFile(config.FS, name)
			all[name] = &fstest.MapFile{Data: data}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all["subscribers.yaml"] = &fstest.MapFile{Data: []byte("subscribers:\n" + subscribers)}
	set, problems := policy.Load(all)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func telling(t *testing.T, subscribers string, addresses map[string]string) (*World, error) {
	t.Helper()
	account, err := cloud.Open(cloud.Settings{Region: "eu-west-1", AccessKeyID: "x", SecretKey: "y"})
	if err != nil {
		t.Fatal(err)
	}
	w := &World{Config: told(t, subscribers), Now: time.Now, account: account, addresses: addresses}
	w.finish(telemetry.New(nil, time.Now, nil))
	_, err = w.Telling()
	return w, err
}

func TestTelling(t *testing.T) {
	t.Parallel()
	const (
		subscribers = "  a: {to: sqs, entities: {customer: [name]}}\n  b: {to: eventbridge, address: \"arn:aws:events:eu-west-1:123456789012:event-bus/x\", events: [\"*\"]}\n  c: {to: print, events: [\"*\"]}\n"
		q           = "arn:aws:sqs:eu-west-1:123456789012:q.fifo"
	)
	w, err := telling(t, subscribers, map[string]string{"a": q})
	if err != nil || len(w.Sinks) != 3 {
		t.Errorf("%d sinks (%v)", len(w.Sinks), err)
	}
	for _, wrong := range []map[string]string{{}, {"a": "arn:aws:events:eu-west-1:123456789012:event-bus/x"}, {"a": q, "other": q}, {"a": q, "c": q}} {
		if _, err := telling(t, subscribers, wrong); !fault.Is(err, fault.Contract) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

// TestSinks: a queue gets the CloudEvent with the record as its group; people get a line, or the CloudEvent.
func TestSinks(t *testing.T) {
	t.Parallel()
	e := event.Event{ID: "customer/a/7/0", Type: "sorrel.customer.changed.v1", Subject: "customer/a", Data: event.Data{Changes: []event.Change{{Field: "name", After: strings.Repeat("x", 300<<10)}}}}
	q := queue.NewMemory(queue.Settings{Name: "q"}, nil, time.Now)
	if err := (queued{q}).Tell(t.Context(), e, e); err != nil {
		t.Fatal(err)
	}
	got, err := q.Receive(t.Context(), 10, 0)
	if err != nil || len(got) != 1 || got[0].Group != "customer/a" || len(got[0].Body) > maxMessage {
		t.Fatalf("%d messages (%v)", len(got), err)
	}
	var back event.Event
	if err := json.Unmarshal(got[0].Body, &back); err != nil || back.ID != e.ID || back.Data.Read == "" {
		t.Errorf("%+v (%v)", back, err)
	}
	e.Data.Changes[0].After = "Alfreds"
	for asJSON, want := range map[bool]string{false: "customer.changed.v1  customer/a  name: nothing → Alfreds", true: `"id":"customer/a/7/0"`} {
		var out bytes.Buffer
		p := &printer{out: &out, json: asJSON}
		if err := p.Tell(t.Context(), e); err != nil || !strings.Contains(out.String(), want) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s (%v)", &out, err)
		}
	}
	r, w := io.Pipe()
	r.CloseWithError(errors.New("nobody reads"))
	if err := (&printer{out: w}).Tell(t.Context(), e); err == nil {
		t.Error("told nobody, and says it did")
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{"{}": true, "": true, `{"a":"b"}`: true, "a=b": false, "[]": false} {
		if _, err := addresses(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
