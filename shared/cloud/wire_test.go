package cloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"sorrel/shared/cloud"
)

// wire is the SDK's HTTP client in tests. Each request takes the next step of the script; after the script, requests
// pass. A step of a wire without a server behind it must answer by itself.
type wire struct {
	t    testing.TB
	next aws.HTTPClient // nil: no server

	mu     sync.Mutex
	script []step
	calls  []call
}

type call struct {
	Op   string // such as PutItem
	Body string
}

type step func(w *wire, req *http.Request) (*http.Response, error)

var errBroken = errors.New("connection broken by the test")

// play makes steps the next ones.
func (w *wire) play(steps ...step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = steps
}

// pass lets the server answer.
func pass(w *wire, req *http.Request) (*http.Response, error) {
	if w.next == nil {
		w.t.Errorf("unexpected request %s", opOf(req))
		return nil, errors.New("the script is used up")
	}
	return w.next.Do(req)
}

// loseReply lets the server do the work and breaks the connection before its answer.
func loseReply(w *wire, req *http.Request) (*http.Response, error) {
	resp, err := pass(w, req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return nil, errBroken
}

// loseRequest breaks the connection before the server sees anything, which the client cannot tell from loseReply.
func loseRequest(*wire, *http.Request) (*http.Response, error) { return nil, errBroken }

// answer is a made answer.
func answer(status int, body string) step {
	return func(_ *wire, req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status,
			Header:     http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
			Body:       io.NopCloser(strings.NewReader(body)),
			Request:    req,
		}, nil
	}
}

// refuse is a made error of the given type.
func refuse(status int, code string) step {
	return answer(status, fmt.Sprintf(`{"__type":"com.amazonaws#%s","message":"made by the test"}`, code))
}

// between runs f, then s: something that happens elsewhere meanwhile.
func between(f func(), s step) step {
	return func(w *wire, req *http.Request) (*http.Response, error) {
		f()
		return s(w, req)
	}
}

func (w *wire) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	w.calls = append(w.calls, call{opOf(req), string(body)})
	next := step(pass)
	if len(w.script) > 0 {
		next, w.script = w.script[0], w.script[1:]
	}
	w.mu.Unlock()
	return next(w, req)
}

func opOf(req *http.Request) string {
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	return op
}

// ops lists the operations requested so far.
func (w *wire) ops() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, len(w.calls))
	for i, c := range w.calls {
		out[i] = c.Op
	}
	return out
}

// body decodes the i-th request.
func (w *wire) body(i int, into any) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.calls[i].Body), into); err != nil {
		w.t.Fatalf("request %d: %v", i, err)
	}
}

func (w *wire) config(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		HTTPClient:   w,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		}),
	}
}

const nowhere = "http://127.0.0.1:1"

func scripted(t testing.TB, steps ...step) *wire { return &wire{t: t, script: steps} }

func (w *wire) store(o cloud.StoreOptions) *cloud.Store {
	return cloud.NewStore(dynamodb.NewFromConfig(w.config(nowhere)), "table", o)
}

func (w *wire) queue(c cloud.Calls) *cloud.Queue {
	return w.queueAt(nowhere+"/000000000000/q.fifo", c)
}

func (w *wire) queueAt(url string, c cloud.Calls) *cloud.Queue {
	return cloud.NewQueue(sqs.NewFromConfig(w.config(nowhere)), url, c)
}

func (w *wire) secrets(c cloud.Calls) *cloud.Secrets {
	return cloud.NewSecrets(secretsmanager.NewFromConfig(w.config(nowhere)), "vendor-keys", c)
}

// waits are the pauses that an adapter asked for, none of which is made.
type waits struct {
	mu   sync.Mutex
	list []time.Duration
}

func (w *waits) wait(ctx context.Context, d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, d)
	return ctx.Err()
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)

// calls are Calls with a fixed clock, a seeded source and no pauses.
func calls(w *waits) cloud.Calls {
	return cloud.Calls{Now: func() time.Time { return epoch }, Rand: seeded(1), Attempts: 4, Wait: w.wait}
}

func seeded(n byte) io.Reader { return rand.NewChaCha8([32]byte{n}) }
