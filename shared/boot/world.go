package boot

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"sorrel/infra/config"
	"sorrel/shared/budget"
	"sorrel/shared/certificate"
	"sorrel/shared/cloud"
	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/export"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/load"
	"sorrel/shared/flow/lookup"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/publish"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/steward"
	"sorrel/shared/flow/sweep"
	runs "sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/once"
	"sorrel/shared/policy"
	"sorrel/shared/process"
	"sorrel/shared/queue"
	"sorrel/shared/queue/durable"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/store/boltstore"
	"sorrel/shared/telemetry"
	"sorrel/shared/workflow"
)

// Queue is a queue that this process also takes messages from, as only the local host does.
type Queue interface {
	queue.Sender
	queue.Receiver
	Depth(ctx context.Context) (queue.Depth, error)
}

// InboundQueue, WorkflowQueue, PublishQueue and OutboundQueue name the queues; their dead-letter queues end in -dlq.fifo.
const (
	InboundQueue  = "inbound.fifo"
	WorkflowQueue = "workflow.fifo"
	PublishQueue  = "publish.fifo"
)

// OutboundQueue names a platform's outbound queue.
func OutboundQueue(platform string) string { return "outbound-" + platform + ".fifo" }

// World is everything wired together. Flows are made from it; a function makes one, the local host all.
type World struct {
	Config     *policy.Set
	Ledger     *ledger.Ledger
	Connectors map[string]Connector
	Inbound    queue.Sender
	Outbound   map[string]queue.Sender
	Workflows  queue.Sender            // wakes the workflow function
	Publishes  queue.Sender            // wakes the publish function
	Sinks      map[string]publish.Sink // where subscribers are told
	Book       *workflow.Book          // the definitions of workflows
	Queues     map[string]Queue        // local host only, dead-letter queues included
	EndPolls   bool                    // a poll of Queues must get its answer: SQS hides for a while what it hands to a poll given up
	Telemetry  *telemetry.Recorder
	Now        func() time.Time
	Stage      string
	Grace      time.Duration // see sweep.Deps
	Bucket     string        // for files, of the function that takes them in
	Look       sweep.Looker  // what platforms let us call; nil = nothing is limited

	account   *cloud.Account
	stack     string                                  // that events come from
	life      string                                  // names this process …
	place     string                                  // … in the place that it lives in, see budget.Options
	accounts  map[string]string                       // that the connectors call, by platform
	addresses map[string]string                       // of subscribers, by name
	gates     *budget.Shared                          // nil without a ledger
	transport func(platform string) http.RoundTripper // nil = connectors have connections of their own
	started   time.Time
	newID     func() string
	dead      map[string]deadletters.Dead                     // by the name of the queue that they belong to
	metrics   io.Writer                                       // embedded metric format; nil = nowhere
	key       func(context.Context) (*certificate.Key, error) // of certificates; nil = there are none
	close     []func() error
	tidy      func(context.Context) error
}

// NewID returns a function that makes correlation ids: ULIDs, so that they sort by time.
func NewID(now func() time.Time) func() string {
	var mu sync.Mutex
	entropy := ulid.Monotonic(rand.Reader, 0)
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		id, err := ulid.New(ulid.Timestamp(now()), entropy)
		if err != nil { // the monotonic part overflowed within one millisecond
			entropy = ulid.Monotonic(rand.Reader, 0)
			id = ulid.MustNew(ulid.Timestamp(now()), entropy)
		}
		return id.String()
	}
}

// newRand returns jitter that no two processes share.
func newRand() func() *mathrand.Rand {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // crypto/rand never fails since Go 1.24
	var mu sync.Mutex
	src := mathrand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:]))
	locked := mathrand.New(lockedSource{&mu, src})
	return func() *mathrand.Rand { return locked }
}

type lockedSource struct {
	mu  *sync.Mutex
	src mathrand.Source
}

func (l lockedSource) Uint64() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.src.Uint64() }

// LoadConfig loads the deployable configuration from dir, or the embedded one when dir is empty. All problems
// come as one error.
func LoadConfig(dir string) (*policy.Set, error) {
	set, problems := policy.Load(ConfigFS(dir), process.Starts)
	if len(problems) == 0 {
		_, problems = process.Book(set)
	}
	if len(problems) > 0 {
		return nil, wrong(problems)
	}
	return set, nil
}

// wrong is all that is wrong in a configuration.
func wrong(problems []policy.Problem) error {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = fmt.Sprint(p)
	}
	return &fault.Error{Class: fault.Contract, Op: "boot.config", Detail: strings.Join(lines, "\n"), Remedy: "run `sorrel validate`"}
}

// Validate lists everything wrong in the configuration in dir, or in the embedded one.
func Validate(dir string) []policy.Problem {
	set, problems := policy.Load(ConfigFS(dir), process.Starts)
	if set == nil {
		return problems
	}
	_, problems = process.Book(set)
	return append(problems, policy.Validate(ConfigFS(dir))...)
}

// Everywhere is for tests and measurements, in place of the name of a folder: the embedded configuration in which customers
// need no activation. See config.Everywhere.
const Everywhere = "(customers everywhere)"

// ConfigFS is the configuration in dir, or the embedded one when dir is empty.
func ConfigFS(dir string) fs.FS {
	switch dir {
	case "":
		return config.FS
	case Everywhere:
		return config.Everywhere()
	}
	return os.DirFS(dir)
}

// Lambda wires one function on AWS from its environment. Metrics and logs go to out.
func Lambda(ctx context.Context, function string, getenv func(string) string, out io.Writer) (*World, error) {
	c, err := Load(function, getenv)
	if err != nil {
		return nil, err
	}
	account, err := cloud.Open(cloud.FromEnv(getenv))
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: c.LogLevel})).With("function", function, "stage", c.Stage)
	w := &World{Now: time.Now, Stage: c.Stage, Grace: 30 * time.Second, metrics: out, Outbound: map[string]queue.Sender{}}
	w.finish(telemetry.New(log, w.Now, nil))
	calls := cloud.Calls{Now: w.Now}
	if c.Table != "" {
		w.Ledger = ledger.New(account.Store(c.Table, cloud.StoreOptions{Calls: calls}), w.Now)
		w.share("")
	}
	if c.Inbound != "" {
		w.Inbound = account.Queue(c.Inbound, calls)
	}
	if c.Workflow != "" {
		w.Workflows = account.Queue(c.Workflow, calls)
	}
	if c.Publish != "" {
		w.Publishes = account.Queue(c.Publish, calls)
	}
	w.account, w.stack, w.addresses, w.Bucket = account, c.Stack, c.Addresses, c.Bucket
	for p, url := range c.Outbound {
		w.Outbound[p] = account.Queue(url, calls)
	}
	if function == "operate" {
		w.bury(account, c, calls)
	}
	if !functions()[function].rules {
		return w, nil
	}
	set, err := LoadConfig("")
	if err == nil {
		err = w.rule(set)
	}
	if err != nil || c.SecretARN == "" {
		return w, err
	}
	secrets := account.Secrets(c.SecretARN, calls)
	w.key = secretKey(secrets)
	w.Connectors, err = connectSecret(ctx, secrets, c.URLs, w.Config, w)
	return w, err
}

// Embedded wires the whole world over durable files in dir. Only one process can have them open.
func Embedded(dir string, set *policy.Set, endpoints map[string]Endpoint, recorder func(now func() time.Time) *telemetry.Recorder) (*World, error) {
	return EmbeddedAt(time.Now, dir, set, endpoints, recorder)
}

// EmbeddedAt is Embedded by another clock, which may jump forward.
func EmbeddedAt(now func() time.Time, dir string, set *policy.Set, endpoints map[string]Endpoint, recorder func(now func() time.Time) *telemetry.Recorder) (*World, error) {
	w := &World{Now: now, Stage: "local", Grace: 3 * time.Second, Outbound: map[string]queue.Sender{}, Queues: map[string]Queue{}}
	w.finish(recorder(w.Now))
	if err := w.rule(set); err != nil {
		return nil, err
	}
	w.local()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Down, "boot.embedded", dir, err)
	}
	if err := w.embed(dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	var err error
	if w.Connectors, err = connect(endpoints, set, w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Over wires the whole world over a store, queues and a clock that the caller keeps: another process over the same ones
// goes on where this one ended. Queues are named as in World.
func Over(s store.Store, queues map[string]Queue, now func() time.Time, set *policy.Set, endpoints map[string]Endpoint, recorder *telemetry.Recorder) (*World, error) {
	w := &World{Now: now, Stage: "local", Grace: 3 * time.Second, Outbound: map[string]queue.Sender{}, Queues: map[string]Queue{}, Ledger: ledger.New(s, now)}
	w.finish(recorder)
	if err := w.rule(set); err != nil {
		return nil, err
	}
	w.local()
	for _, settings := range localQueues() {
		w.add(settings.Name, queues[settings.Name], queues[cloud.DeadLetterName(settings.Name)])
	}
	var err error
	w.Connectors, err = connect(endpoints, set, w)
	return w, err
}

func (w *World) embed(dir string) error {
	s, err := boltstore.Open(filepath.Join(dir, "sorrel.db"), w.Now, boltstore.Options{})
	if err != nil {
		return err
	}
	w.close = append(w.close, s.Close)
	w.Ledger = ledger.New(s, w.Now)
	w.share("this store") // its file is locked
	w.tidy = func(ctx context.Context) error { _, err := s.Expire(ctx, 10_000); return err }
	w.key = fileKey(dir)
	for _, settings := range localQueues() {
		dead, err := durable.Open(filepath.Join(dir, "queues", cloud.DeadLetterName(settings.Name)), queue.Settings{Name: cloud.DeadLetterName(settings.Name)}, nil, w.Now)
		if err != nil {
			return err
		}
		w.close = append(w.close, dead.Close)
		q, err := durable.Open(filepath.Join(dir, "queues", settings.Name), settings, dead, w.Now)
		if err != nil {
			return err
		}
		w.close = append(w.close, q.Close)
		w.add(settings.Name, q, dead)
	}
	return nil
}

// localQueues are the queues with the settings that the local host gives them: as on AWS, but a shorter
// visibility, since the functions here take milliseconds.
func localQueues() []queue.Settings {
	out := []queue.Settings{{Name: InboundQueue, Visibility: 20 * time.Second, MaxReceives: queue.MaxReceives},
		{Name: WorkflowQueue, Visibility: 20 * time.Second, MaxReceives: queue.MaxReceives},
		{Name: PublishQueue, Visibility: 30 * time.Second, MaxReceives: queue.MaxReceives}}
	for _, p := range Platforms() {
		out = append(out, queue.Settings{Name: OutboundQueue(p), Visibility: 30 * time.Second, MaxReceives: queue.MaxReceives})
	}
	return out
}

func (w *World) add(name string, q, dead Queue) {
	w.Queues[name], w.Queues[cloud.DeadLetterName(name)] = q, dead
	if w.dead == nil {
		w.dead = map[string]deadletters.Dead{}
	}
	w.dead[name] = dead
	switch name {
	case InboundQueue:
		w.Inbound = q
	case WorkflowQueue:
		w.Workflows = q
	case PublishQueue:
		w.Publishes = q
	}
	for _, p := range Platforms() {
		if name == OutboundQueue(p) {
			w.Outbound[p] = q
		}
	}
}

// Endpointed wires the whole world over AWS adapters at an AWS-compatible endpoint, making the table and the
// queues if they are missing: for trying the adapters locally. The store's requests and request units are counted.
func Endpointed(ctx context.Context, endpoints cloud.Endpoints, table string, set *policy.Set, platforms map[string]Endpoint, recorder func(now func() time.Time) *telemetry.Recorder) (*World, error) {
	w := &World{Now: time.Now, Stage: "local", Grace: 3 * time.Second, Outbound: map[string]queue.Sender{}, Queues: map[string]Queue{}, EndPolls: true}
	w.finish(recorder(w.Now))
	if err := w.rule(set); err != nil {
		return nil, err
	}
	w.local()
	account, err := cloud.Open(cloud.Settings{Endpoints: endpoints, Region: "us-east-1", AccessKeyID: "local", SecretKey: "local"})
	if err != nil {
		return nil, err
	}
	if err := account.CreateTable(ctx, table); err != nil {
		return nil, err
	}
	settings := localQueues()
	urls, err := account.CreateQueues(ctx, settings...)
	if err != nil {
		return nil, err
	}
	calls := cloud.Calls{Now: w.Now}
	for i, u := range urls {
		w.add(settings[i].Name, account.Queue(u.Main, calls), account.Queue(u.DeadLetter, calls))
	}
	s := account.Store(table, cloud.StoreOptions{Calls: calls, OnUnits: func(_ string, read, write float64) {
		w.Telemetry.Count("StoreRequests", "", 1)
		w.Telemetry.Count("StoreReadUnits", "", read)
		w.Telemetry.Count("StoreWriteUnits", "", write)
	}})
	w.Ledger = ledger.New(s, w.Now)
	w.share("")
	w.Connectors, err = connect(platforms, set, w)
	return w, err
}

// Reading wires what it takes to ask about a deployed stack, and to decide there: its table, with the caller's own rights.
// There are no queues; the sweep wakes what decisions make due.
func Reading(account *cloud.Account, table string, set *policy.Set) (*World, error) {
	w := &World{Now: time.Now}
	w.finish(telemetry.New(nil, w.Now, nil))
	if err := w.rule(set); err != nil {
		return nil, err
	}
	w.Ledger = ledger.New(account.Store(table, cloud.StoreOptions{Calls: cloud.Calls{Now: w.Now}}), w.Now)
	w.share("")
	return w, nil
}

func (w *World) finish(r *telemetry.Recorder) {
	w.Telemetry, w.started, w.newID = r, w.Now(), NewID(w.Now)
}

// rule gives the world its configuration, and the workflows that it completes.
func (w *World) rule(set *policy.Set) error {
	book, problems := process.Book(set)
	if len(problems) > 0 {
		return wrong(problems)
	}
	w.Config, w.Book = set, book
	return nil
}

// Account is that of a function on AWS.
func (w *World) Account() *cloud.Account { return w.account }

// Flush ends an invocation: it hands back what is left of the platforms' budgets and writes the metrics.
func (w *World) Flush() {
	w.rest()
	if w.metrics == nil {
		return
	}
	if err := w.Telemetry.Flush(w.metrics, w.Stage); err != nil {
		w.Telemetry.Event(context.Background(), telemetry.Event{Step: "failed", Detail: "writing metrics", Err: err})
	}
}

// Tidy removes a bounded number of expired entries, where the store does not do it by itself.
func (w *World) Tidy(ctx context.Context) error {
	if w.tidy == nil {
		return nil
	}
	return w.tidy(ctx)
}

// Close releases what Embedded opened, the youngest first.
func (w *World) Close() error {
	var errs []error
	for _, c := range slices.Backward(w.close) {
		errs = append(errs, c())
	}
	w.close = nil
	return errors.Join(errs...)
}

// Intake makes the intake function.
func (w *World) Intake() *intake.Flow {
	d := intake.Deps{Platforms: map[string]intake.Webhooks{}, Inbound: w.Inbound, Now: w.Now, NewID: w.newID, Telemetry: w.Telemetry}
	for name, c := range w.Connectors {
		d.Platforms[name] = c
		if e, ok := c.(intake.Events); ok {
			d.Events = e
		}
	}
	return intake.New(d)
}

// patience is how long a new customer waits before it is made on a platform where somebody may be entering the same one
// at this moment. Events take a second or two to arrive.
const patience = 2 * time.Second

// Hub makes the hub function.
func (w *World) Hub() *hub.Flow {
	d := hub.Deps{Ledger: w.Ledger, Config: w.Config, Readers: map[string]hub.Reader{}, Wake: w.wakes(), Patience: patience, Now: w.Now, Telemetry: w.Telemetry}
	for name, c := range w.Connectors {
		d.Readers[name] = c
	}
	return hub.New(d)
}

// Deliver makes the deliver function.
func (w *World) Deliver() *deliver.Flow {
	d := deliver.Deps{Ledger: w.Ledger, Config: w.Config, Platforms: map[string]deliver.Platform{}, Workflows: w.Workflows, Subscribers: w.Publishes, Now: w.Now, Rand: newRand(), Telemetry: w.Telemetry}
	for name, c := range w.Connectors {
		d.Platforms[name] = c
	}
	return deliver.New(d)
}

// Workflow makes the workflow function, which is also what people do about runs.
func (w *World) Workflow() *runs.Flow {
	d := runs.Deps{Ledger: w.Ledger, Config: w.Config, Book: w.Book, Wake: w.wakes(), Now: w.Now, NewTrace: w.newID, Telemetry: w.Telemetry}
	if w.Inbound != nil && len(w.Connectors) > 0 { // people's functions know runs and call no vendor
		d.Owners = w.Lookup()
	}
	return runs.New(d)
}

// wakes are the queues that wake-ups are sent to: by platform, and record.Sorrel for workflows; all subscribers share one.
func (w *World) wakes() map[string]queue.Sender {
	out := maps.Clone(w.Outbound)
	if w.Workflows != nil {
		out[record.Sorrel] = w.Workflows
	}
	if w.Publishes != nil {
		for _, s := range w.Config.Subscribers() {
			out[s.Due()] = w.Publishes
		}
	}
	return out
}

// Batch makes the batch function.
func (w *World) Batch() *batch.Flow {
	d := batch.Deps{Ledger: w.Ledger, Sources: map[string]batch.Source{}, Accounts: w.accounts, Objects: map[string][]string{}, Inbound: w.Inbound, Now: w.Now, NewID: w.newID,
		Life: w.life, Place: w.place, Telemetry: w.Telemetry}
	d.Matched = func(entity string) bool { return len(w.Config.Match(entity)) > 0 }
	d.EntityOf = func(platform, object string) string {
		m, _ := w.Config.ByObject(platform, object) // Objects are mapped
		return m.Entity
	}
	for name, c := range w.Connectors {
		d.Sources[name] = c
		for _, o := range c.Declaration().Objects {
			if _, mapped := w.Config.ByObject(name, o.Name); mapped && o.Batch {
				d.Objects[name] = append(d.Objects[name], o.Name)
			}
		}
	}
	return batch.New(d)
}

// Load makes what takes files in.
func (w *World) Load() *load.Flow {
	return load.New(load.Deps{Ledger: w.Ledger, Config: w.Config, Inbound: w.Inbound, Now: w.Now, NewID: w.newID, Telemetry: w.Telemetry})
}

// Export makes what writes files.
func (w *World) Export() *export.Flow {
	return export.New(export.Deps{Ledger: w.Ledger, Config: w.Config})
}

// Sweep makes the sweep function.
func (w *World) Sweep() *sweep.Flow {
	return sweep.New(sweep.Deps{Ledger: w.Ledger, Wake: w.wakes(), Inbound: w.Inbound, Look: w.Look, Book: w.Book, Now: w.Now, Grace: w.Grace, Telemetry: w.Telemetry})
}

// Replay makes what does again what was done.
func (w *World) Replay() *replay.Flow {
	d := replay.Deps{Ledger: w.Ledger, Config: w.Config, Platforms: slices.Sorted(maps.Keys(w.Connectors)), Inbound: w.Inbound, Look: w.Look, Now: w.Now, NewID: w.newID, Telemetry: w.Telemetry}
	if len(w.Connectors) == 0 { // this function calls none: it has the queues of those that are connected
		d.Platforms = slices.Sorted(maps.Keys(w.Outbound))
	}
	if len(d.Platforms) == 0 { // a table alone
		d.Platforms = w.Config.Platforms()
	}
	return replay.New(d)
}

// Operate makes the operate function.
func (w *World) Operate() *operate.Flow {
	d := operate.Deps{Ledger: w.Ledger, Config: w.Config, Book: w.Book, Telemetry: w.Telemetry, Platforms: Platforms(), Look: w.Look, Now: w.Now, Started: w.started,
		Queues: map[string]func(context.Context) (queue.Depth, error){}}
	for name, q := range w.Queues {
		d.Queues[name] = q.Depth
	}
	return operate.New(d)
}

// Lookup makes the lookup function.
func (w *World) Lookup() *lookup.Flow {
	d := lookup.Deps{Ledger: w.Ledger, Config: w.Config, Readers: map[string]lookup.Reader{}, Inbound: w.Inbound, Now: w.Now, Telemetry: w.Telemetry}
	for name, c := range w.Connectors {
		d.Readers[name] = c
	}
	return lookup.New(d)
}

// Steward makes what people do.
func (w *World) Steward() *steward.Flow {
	return steward.New(steward.Deps{Ledger: w.Ledger, Config: w.Config, Wake: w.wakes(), Inbound: w.Inbound, Now: w.Now, NewID: w.newID, Telemetry: w.Telemetry})
}

// Once makes the guard of what is done once.
func (w *World) Once() once.Guard {
	return once.Guard{Ledger: w.Ledger, Now: w.Now, NewToken: w.newID}
}

// Endpoint is one platform as `sorrel twins` writes it and `GET /v1/dev` shows it.
type Endpoint struct {
	URL         string          `json:"url"`
	Credentials json.RawMessage `json:"credentials"`
}

// AWSEndpoints names the endpoints of an AWS-compatible server, or of two.
func AWSEndpoints(dynamo, sqs string) cloud.Endpoints {
	return cloud.Endpoints{All: dynamo, SQS: sqs}
}
