package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud/cliconfig"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/local"
	"sorrel/shared/policy"
	"sorrel/shared/telemetry"
	"sorrel/shared/trigger"
	"sorrel/shared/twins"
)

type commands struct {
	Demo        demoCommand        `cmd:"" help:"Play the business story against the twins, check it, and keep running."`
	Dev         devCommand         `cmd:"" help:"Run the same world without the script, durable in a folder."`
	Twins       twinsCommand       `cmd:"" help:"Run the vendors' twins alone."`
	Validate    validateCommand    `cmd:"" help:"Check contracts, policies and mappings."`
	Link        linkCommand        `cmd:"" help:"Match the existing records of all platforms before going live."`
	Batch       batchCommand       `cmd:"" help:"Load what a platform has for the first time; where its listings stand."`
	Files       filesCommand       `cmd:"" help:"Take files in, CSV and JSON Lines, like what other platforms say; write them."`
	Status      statusCommand      `cmd:"" help:"Ask a running process how things stand."`
	Trace       traceCommand       `cmd:"" help:"Show one business transaction by its correlation id."`
	Why         whyCommand         `cmd:"" help:"Explain why a record's fields have their values."`
	Log         logCommand         `cmd:"" help:"Show what happened to a record, and who did it."`
	Proposals   proposalsCommand   `cmd:"" help:"List and decide what platforms ask for."`
	Workflows   workflowsCommand   `cmd:"" help:"List the runs of processes, and decide what they ask."`
	Exceptions  exceptionsCommand  `cmd:"" help:"List what a person must look at, and act on it."`
	Deadletters deadlettersCommand `cmd:"" help:"List messages that were given up, redrive or discard them."`
	Replay      replayCommand      `cmd:"" help:"Do again what was done: plan first, then run."`
	Reconcile   reconcileCommand   `cmd:"" help:"Compare platforms with what is known of them, and certify that."`
	Subscribers subscribersCommand `cmd:"" help:"List who is told of changes and business events, and have them told again."`
	Schemas     schemasCommand     `cmd:"" help:"Print the JSON Schemas of the events that subscribers are told."`
	Override    overrideCommand    `cmd:"" help:"Set a field to a value that wins over every rule, until its end."`
	Assign      assignCommand      `cmd:"" help:"Set a field that the policy leaves to a workflow."`
	Merge       mergeCommand       `cmd:"" help:"Make one record of two."`
	Unmerge     unmergeCommand     `cmd:"" help:"Take a record out of the one that it was merged into."`
	Audit       auditCommand       `cmd:"" help:"Check the audit log."`
	Bench       benchCommand       `cmd:"" help:"Measure, side by side with floors in the same run."`
}

// binding carries the context through kong, which binds by type.
type binding struct{ context.Context }

func ctxBinding(ctx context.Context) binding { return binding{ctx} }

// asking is shared by the commands that ask a running process.
type asking struct {
	URL     string `default:"http://127.0.0.1:8787" help:"Address of the running process." env:"SORREL_URL"`
	JSON    bool   `help:"Print JSON."`
	Table   string `help:"Ask a deployed stack instead: the name of its DynamoDB table." group:"A deployed stack"`
	Profile string `help:"AWS profile." group:"A deployed stack"`
	Region  string `help:"AWS region." group:"A deployed stack"`
}

// stack answers from a deployed stack's table, by a server of this process's own, and returns its address.
func (a asking) stack(ctx context.Context) (address string, stop func() error, err error) {
	account, err := cliconfig.Open(ctx, a.Profile, a.Region, os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		return "", nil, err
	}
	set, err := boot.LoadConfig("")
	if err != nil {
		return "", nil, err
	}
	w, err := boot.Reading(account, a.Table, set)
	if err != nil {
		return "", nil, err
	}
	return serve(trigger.Desk{Config: set, Ask: w.Operate(), Act: w.Steward(), Once: w.Once(), Again: w.Replay(), Compare: w.Reconcile(), Runs: w.Workflow(), Tell: w.Publish(), Who: trigger.Trusted(set), Telemetry: w.Telemetry})
}

// serve serves a desk to this process alone.
func serve(desk trigger.Desk) (address string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fault.Wrap(fault.Down, "ask", "", err)
	}
	server := &http.Server{Handler: desk.Routes(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }() // ends with stop
	return "http://" + l.Addr().String(), server.Close, nil
}

// question is one request to a process.
type question struct {
	method, path string
	as           string // the person who asks
	body         any    // nil for none
	patient      bool   // it may take as long as it takes
}

// get asks for path and decodes the answer into out; with --json it prints the answer and reports true.
func (a asking) get(ctx context.Context, s screen, path string, out any) (bool, error) {
	return a.ask(ctx, s, question{method: http.MethodGet, path: path}, out)
}

// ask sends a question and decodes the answer into out; with --json it prints the answer, too, and reports true.
func (a asking) ask(ctx context.Context, s screen, q question, out any) (bool, error) {
	answer, err := a.answer(ctx, q)
	if err != nil {
		return false, err
	}
	if a.JSON {
		if _, err := s.out.Write(answer); err != nil {
			return true, err
		}
	}
	return a.JSON, json.Unmarshal(answer, out)
}

// answer sends a question and returns the answer as it came.
func (a asking) answer(ctx context.Context, q question) ([]byte, error) {
	if !q.patient {
		in, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		ctx = in
	}
	if a.Table != "" {
		address, stop, err := a.stack(ctx)
		if err != nil {
			return nil, err
		}
		defer stop()
		a.URL = address
	}
	var body []byte
	if q.body != nil {
		var err error
		if body, err = json.Marshal(q.body); err != nil {
			return nil, err
		}
	}
	resp, answer, err := a.send(ctx, q, body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var p intake.Problem
		if json.Unmarshal(answer, &p) != nil || p.Title == "" {
			return nil, fmt.Errorf("%s answered %s", a.URL, resp.Status)
		}
		if p.Remedy != "" {
			p.Remedy = " (" + p.Remedy + ")"
		}
		return nil, fmt.Errorf("%s: %s%s", strings.ToLower(p.Title), p.Detail, p.Remedy)
	}
	return answer, nil
}

// sends bounds how often a question is sent whose answer does not come.
const sends = 4

// send sends a question. What changes something carries a key, one for each run of the command: so it is safe to send it
// again when its answer was lost, or when the process is not there for a moment.
func (a asking) send(ctx context.Context, q question, body []byte) (*http.Response, []byte, error) {
	key := ""
	if q.method != http.MethodGet {
		key = rand.Text()
	}
	for n := 1; ; n++ {
		req, err := http.NewRequestWithContext(ctx, q.method, strings.TrimRight(a.URL, "/")+q.path, bytes.NewReader(body))
		if err != nil {
			return nil, nil, fault.Wrap(fault.Malformed, "ask", a.URL, err)
		}
		if q.as != "" {
			req.Header.Set(trigger.PersonHeader, q.as)
		}
		if key != "" {
			req.Header.Set(trigger.KeyHeader, key)
		}
		resp, answer, err := once(req)
		again, wait := repeat(resp, err, n)
		if again && key != "" && n < sends && deadline.Fits(ctx, wait) && deadline.Pause(ctx, wait) == nil {
			continue
		}
		if err == nil {
			return resp, answer, nil
		}
		e := &fault.Error{Class: fault.Down, Op: "ask", Detail: "no Sorrel process answers at " + a.URL, Remedy: "start one with `sorrel dev`, or name it with --url"}
		if !unreached(err) {
			e.Detail, e.Remedy = "the answer of "+a.URL+" was lost", "look whether it was done before you ask again"
			if key == "" {
				e.Remedy = "ask again"
			}
		}
		return nil, nil, e
	}
}

// once sends a request and reads the answer.
func once(req *http.Request) (*http.Response, []byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp, answer, err
}

// unreached reports that nobody took a connection.
func unreached(err error) bool {
	dial := (*net.OpError)(nil)
	return errors.As(err, &dial) && dial.Op == "dial"
}

// repeat says whether the n-th answer is worth another request with the same key, and when: it was lost, the process is away
// for a moment, or the first request is still under way there.
func repeat(resp *http.Response, err error, n int) (bool, time.Duration) {
	wait := time.Duration(n) * time.Second
	if err != nil {
		return !unreached(err) || n > 1, wait
	}
	after, said := strconv.Atoi(resp.Header.Get("Retry-After"))
	if said == nil && after > 0 {
		wait = time.Duration(after) * time.Second
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, wait
	case http.StatusConflict:
		return said == nil, wait
	}
	return false, 0
}

type twinsCommand struct {
	BasePort int    `default:"8801" help:"Port of the NetSuite twin; Salesforce, Zendesk and ServiceNow take the next three."`
	Webhooks string `default:"http://127.0.0.1:8787" help:"Where the twins send webhooks; empty for nowhere."`
	File     string `default:"sorrel-twins.json" help:"Where to write URLs and credentials, for sorrel dev --twins."`
	Roomy    bool   `help:"Lift the vendors' rate limits."`
}

// Run serves until interrupted.
func (c twinsCommand) Run(ctx binding, s screen) error {
	t, err := twins.Start(twins.Options{BasePort: c.BasePort, Now: time.Now, Seed: 1, Roomy: c.Roomy})
	if err != nil {
		return err
	}
	defer t.Close(context.WithoutCancel(ctx))
	t.SendTo(c.Webhooks)
	b, err := json.MarshalIndent(t.Endpoints(), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.File, append(b, '\n'), 0o600); err != nil {
		return fault.Wrap(fault.Refused, "twins", c.File, err)
	}
	for name, e := range t.Endpoints() {
		s.printf("%-11s %s/_twin/state\n", name, e.URL)
	}
	s.printf("addresses and credentials are in %s; webhooks go to %s\n", c.File, c.Webhooks)
	<-ctx.Done()
	return nil
}

type devCommand struct {
	Listen      string        `default:"127.0.0.1:8787" help:"Address to serve on."`
	Data        string        `default:".sorrel" help:"Folder of the durable store and queues."`
	Twins       string        `help:"Use the twins described in this file (from sorrel twins), or none; by default twins are booted in this process."`
	Config      string        `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	BatchEvery  time.Duration `default:"30s" help:"How often each platform is listed; negative for never."`
	SweepEvery  time.Duration `default:"1s" help:"How often due work is swept."`
	EndpointURL string        `name:"endpoint-url" help:"Use the DynamoDB and SQS adapters at this AWS-compatible endpoint instead of files. Give two, comma-separated, for separate DynamoDB and SQS endpoints."`
	Files       string        `help:"Take in the files that come to this folder, too." type:"existingdir"`
	FilesEvery  time.Duration `default:"5s" help:"How often the folder is looked at."`
	Quiet       bool          `help:"Do not narrate."`
	PrintEvents bool          `name:"print-events" help:"Print what subscribers are told, and one of this process that is told everything."`
	JSON        bool          `help:"With --print-events: the CloudEvents themselves."`
}

// leftAlone is how long a file must have been left alone to be taken: whoever copies one writes more often.
const leftAlone = 2 * time.Second

// Run serves until interrupted.
func (c devCommand) Run(ctx binding, s screen) error {
	local.TuneRuntime(os.Getenv)
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	endpoints, own, err := c.platforms()
	if err != nil {
		return err
	}
	if own != nil {
		defer own.Close(context.WithoutCancel(ctx))
	}
	recorder := func(now func() time.Time) *telemetry.Recorder {
		if c.Quiet {
			return telemetry.New(slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn})), now, nil)
		}
		return telemetry.New(nil, now, s.narrate)
	}
	if c.PrintEvents {
		set = set.Printing("printed")
	}
	w, err := c.world(ctx, set, endpoints, recorder)
	if err != nil {
		return err
	}
	defer w.Close()
	if c.PrintEvents {
		w.PrintEvents(s.out, c.JSON)
	}
	options := local.Options{Listen: c.Listen, Endpoints: endpoints, BatchEvery: c.BatchEvery, SweepEvery: c.SweepEvery, FilesEvery: c.FilesEvery}
	if c.Files != "" {
		dir, err := filepath.Abs(c.Files)
		if err != nil {
			return err
		}
		options.Files = boot.Folder{Dir: dir, Settled: leftAlone, Watched: true, Now: time.Now}
	}
	h, err := local.Start(w, options)
	if err != nil {
		return err
	}
	if own != nil {
		own.SendTo(h.URL())
	}
	s.printf("listening on %s (webhooks: POST /webhooks/{platform}; twins and credentials: GET /v1/dev)\n", h.URL())
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
	defer cancel()
	return h.Close(stop)
}

func (c devCommand) platforms() (map[string]boot.Endpoint, *twins.Twins, error) {
	switch c.Twins {
	case "none":
		return map[string]boot.Endpoint{}, nil, nil
	case "":
		// The twins forget when this process ends and the folder does not: new twins must not reuse old ids.
		now := time.Now()
		t, err := twins.Start(twins.Options{Now: time.Now, Seed: uint64(now.UnixNano()), First: now.Unix() - time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()})
		if err != nil {
			return nil, nil, err
		}
		return t.Endpoints(), t, nil
	}
	b, err := os.ReadFile(c.Twins)
	if err != nil {
		return nil, nil, fault.Wrap(fault.NotFound, "dev", c.Twins, err)
	}
	var endpoints map[string]boot.Endpoint
	if err := json.Unmarshal(b, &endpoints); err != nil {
		return nil, nil, &fault.Error{Class: fault.Malformed, Op: "dev", ID: c.Twins, Err: err, Remedy: "make the file with sorrel twins"}
	}
	return endpoints, nil, nil
}

func (c devCommand) world(ctx context.Context, set *policy.Set, endpoints map[string]boot.Endpoint, recorder func(func() time.Time) *telemetry.Recorder) (*boot.World, error) {
	if c.EndpointURL == "" {
		dir, err := filepath.Abs(c.Data)
		if err != nil {
			return nil, err
		}
		return boot.Embedded(dir, set, endpoints, recorder)
	}
	dynamo, sqs, two := strings.Cut(c.EndpointURL, ",")
	if !two {
		sqs = dynamo
	}
	return boot.Endpointed(ctx, boot.AWSEndpoints(dynamo, sqs), "sorrel-local", set, endpoints, recorder)
}

type validateCommand struct {
	Config string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	JSON   bool   `help:"Print JSON."`
}

// Run fails when there is any problem.
func (c validateCommand) Run(s screen) error {
	problems := boot.Validate(c.Config)
	if c.JSON {
		if problems == nil {
			problems = []policy.Problem{}
		}
		if err := s.json(problems); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			s.printf("%s\n", p)
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problem(s)", len(problems))
	}
	if !c.JSON {
		set, err := boot.LoadConfig(c.Config)
		if err != nil {
			return err
		}
		s.printf("ok: %s on %s (version %s)\n", strings.Join(set.Entities(), ", "), strings.Join(set.Platforms(), ", "), set.Version())
	}
	return nil
}
