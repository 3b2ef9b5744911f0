package simulation

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/flow/deliver"
	"sorrel/shared/flow/hub"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/steward"
	"sorrel/shared/flow/sweep"
	"sorrel/shared/flow/workflow"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// process is one instance of the functions, with a memory of its own. It does one thing at a time, as Lambda has it, and
// is gone after a crash. Each of its calls to the store, a queue or a platform is an edge: time passes before and after it,
// in which others go on, and the case may have planned a fault.
type process struct {
	task
	w        *world
	name     string
	began    time.Time               // its present task
	saving   *saving                 // what it writes of a budget now
	wrote    []*row                  // by its present task
	loaded   map[record.ID]time.Time // when its present task last loaded them
	led      map[tale]string         // where the references of some led then, by platform
	unknown  []unknown               // likewise
	hook     hook                    // that intake is taking
	ledger   *ledger.Ledger
	intake   *intake.Flow
	hub      *hub.Flow
	deliver  *deliver.Flow
	sweep    *sweep.Flow
	batch    *batch.Flow
	steward  *steward.Flow
	replay   *replay.Flow
	workflow *workflow.Flow
	gates    *budget.Shared
	looked   map[string]looked // by platform
}

func newProcess(w *world, kind string) *process {
	w.processes[kind]++
	p := &process{w: w, name: fmt.Sprintf("%s-%d", kind, w.processes[kind])}
	p.ledger = ledger.New(edges{p}, w.clock)
	wake := map[string]queue.Sender{}
	readers, targets, sources, listed := map[string]hub.Reader{}, map[string]deliver.Platform{}, map[string]batch.Source{}, map[string][]string{}
	reached, events := w.reach(p)
	for name, o := range reached {
		wake[name], readers[name], targets[name], sources[name] = sender{p, w.out[name], "wake"}, o, o, o
		listed[name] = w.objects(name)
	}
	in := sender{p, w.inbound, "inbound"}
	if l, some := w.out[record.Sorrel]; some {
		wake[record.Sorrel] = sender{p, l, "wake"}
	}
	if w.book != nil && (kind == "workflow" || kind == "steward") {
		p.workflow = workflow.New(workflow.Deps{Ledger: p.ledger, Config: w.set, Book: w.book, Wake: wake, Now: w.clock, NewTrace: w.id, Telemetry: w.telemetry})
	}
	var look sweep.Looker
	if w.c.Profile.Limits != nil {
		p.share()
		look = p.gates
	}
	if w.c.Profile.Replays && (kind == "sweep" || kind == "operator") {
		p.replay = replay.New(replay.Deps{Ledger: p.ledger, Config: w.set, Platforms: platforms[:], Inbound: in, Look: look, Now: w.clock, NewID: w.id, Telemetry: w.telemetry})
	}
	switch kind {
	case "operator", "workflow":
	case "sweep":
		p.sweep = sweep.New(sweep.Deps{Ledger: p.ledger, Wake: wake, Inbound: in, Look: look, Now: w.clock, Grace: 3 * time.Second, Telemetry: w.telemetry})
	case "batch":
		p.batch = batch.New(batch.Deps{Ledger: p.ledger, Sources: sources, Objects: listed, EntityOf: func(string, string) string { return "" }, Inbound: in, Now: w.clock, NewID: w.id, Telemetry: w.telemetry})
	case "steward":
		p.steward = steward.New(steward.Deps{Ledger: p.ledger, Config: w.set, Wake: wake, Inbound: in, Now: w.clock, NewID: w.id, Telemetry: w.telemetry})
	case "intake":
		hooks := map[string]intake.Webhooks{}
		for name, o := range reached {
			hooks[name] = o
		}
		p.intake = intake.New(intake.Deps{Platforms: hooks, Events: events, Inbound: in, Now: w.clock, NewID: p.correlation, Telemetry: w.telemetry})
	case "hub":
		p.hub = hub.New(hub.Deps{Ledger: p.ledger, Config: w.set, Readers: readers, Wake: wake, Patience: 2 * time.Second, Parallel: 1, Now: w.clock, Telemetry: w.telemetry})
	default:
		p.deliver = deliver.New(deliver.Deps{Ledger: p.ledger, Config: w.set, Platforms: targets, Workflows: wake[record.Sorrel], Now: w.clock, Rand: func() *rand.Rand { return w.jitter }, Telemetry: w.telemetry})
	}
	return p
}

// correlation is a new correlation id of intake.
func (p *process) correlation() string {
	id := p.w.id()
	p.w.hooks[id] = p.hook.id
	return id
}

// begin makes a process ready for its next task.
func (p *process) begin() {
	p.began, p.wrote, p.unknown, p.loaded, p.led = p.w.now, nil, nil, map[record.ID]time.Time{}, map[tale]string{}
}

func (p *process) alive() {
	if p.dead {
		runtime.Goexit()
	}
}

func (p *process) crash() {
	p.dead = true
	runtime.Goexit()
}

// call is one call from a process to the store, a queue or a platform.
func (p *process) call(place, kind, what string, do func() error) error {
	name, latency := kind, time.Millisecond
	if place != "store" && place != "queue" && place != "vendor" {
		name, latency = place+"."+kind, 25*time.Millisecond
	}
	f, n := p.plans(name, kind, what)
	latency *= time.Duration(1 + p.w.c.chance("latency", name, n)%8)
	if f == slow {
		latency = time.Minute
	}
	return p.makes(place, name, f, latency, do)
}

// plans is what goes wrong with a call that is about to be made, the n-th at its edge.
func (p *process) plans(name, kind, what string) (f Fault, n int) {
	p.alive()
	w := p.w
	if w.calls++; w.calls > maxCalls {
		w.wrong("more than %d calls", maxCalls)
		p.crash()
	}
	f = w.fault(name, kind)
	w.note(p.name, name, what, f)
	return f, w.counts[name]
}

// makes makes a call, with what goes wrong.
func (p *process) makes(place, name string, f Fault, latency time.Duration, do func() error) error {
	w := p.w
	w.wait(&p.task, latency)
	switch {
	case f == crashBefore:
		p.crash()
	case f == refused || w.down(place):
		return fault.New(fault.Down, name, "away")
	case f == throttled:
		return &fault.Error{Class: fault.Throttled, Op: name, Detail: "too many calls", RetryAt: w.now.Add(2 * time.Second)}
	case f == unsent:
		return fault.New(fault.Unknown, name, "no answer came")
	case f == lost:
		return nil
	}
	err := do()
	if err != nil {
		w.note(p.name, name, "→ "+err.Error(), none)
	}
	if f == crashAfter {
		p.crash()
	}
	w.wait(&p.task, latency)
	if f == unanswered {
		return fault.New(fault.Unknown, name, "no answer came")
	}
	return err
}

// edges is the store as a process reaches it.
type edges struct{ p *process }

func (e edges) Get(ctx context.Context, k store.Key) (found store.Entry, err error) {
	err = e.p.call("store", "get", string(appendKey(nil, k)), func() (err error) {
		found, err = e.p.w.store.Get(ctx, k)
		return err
	})
	return found, err
}

func (e edges) GetMany(ctx context.Context, keys ...store.Key) (found []store.Entry, err error) {
	slices.SortFunc(keys, compareKeys)
	err = e.p.call("store", "get", shown(keys), func() error {
		found, err = e.p.w.store.GetMany(ctx, keys...)
		for _, k := range keys {
			id := record.ID(k.Part[strings.LastIndexByte(k.Part, 1)+1:]) // the last component of a record's key
			e.p.loaded[id] = e.p.w.now
			for _, s := range e.p.w.sites {
				if s.since != nil && id.Entity() == "person" {
					e.p.led[tale{s.name, id}], _ = s.leads(id)
				}
			}
		}
		return err
	})
	return found, err
}

func compareKeys(a, b store.Key) int {
	return cmp.Or(strings.Compare(a.Part, b.Part), strings.Compare(a.Sort, b.Sort))
}

// appendKey appends what a key prints as.
func appendKey(b []byte, k store.Key) []byte {
	return strconv.AppendQuote(append(strconv.AppendQuote(b, k.Part), '/'), k.Sort)
}

func shown(keys []store.Key) string {
	b := append(make([]byte, 0, 80*len(keys)), '[')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendKey(b, k)
	}
	return string(append(b, ']'))
}

func (e edges) Commit(ctx context.Context, ops ...store.Op) error {
	slices.SortFunc(ops, func(a, b store.Op) int { return compareKeys(a.Key, b.Key) })
	what := make([]byte, 0, 100*len(ops))
	for _, op := range ops {
		sum := sha256.Sum256(op.Value)
		what = append(appendKey(append(what, ' ', '0'+byte(op.Kind), ' '), op.Key), ' ')
		what = hex.AppendEncode(what, sum[:4])
	}
	return e.p.call("store", "commit", string(what), func() error {
		err := e.p.w.store.Commit(ctx, ops...)
		if err == nil {
			e.p.remembered(ops)
			e.p.saved()
		}
		return err
	})
}

// logged is how long the log of a record is.
func (w *world) logged(external string) int64 {
	id, _ := record.ParseExternal(external)
	return w.state(id).Log.Seq
}

// remembered notes which writes the process has committed.
func (p *process) remembered(ops []store.Op) {
	commits := func(external string) bool {
		id, _ := record.ParseExternal(external)
		return slices.ContainsFunc(ops, func(op store.Op) bool { return op.Key.Sort == "state" && strings.HasSuffix(op.Key.Part, string(id)) })
	}
	for _, u := range p.unknown {
		if commits(u.external) {
			u.site.unknown[u.key] = p.w.now
		}
	}
	p.unknown = slices.DeleteFunc(p.unknown, func(u unknown) bool { return commits(u.external) })
	for _, r := range p.wrote {
		if commits(r.external) {
			if r.last.by != p || !r.last.confirmed.IsZero() {
				r.heard = p.w.now // of a write, perhaps an older one, that somebody slow remembers only now
			}
			if r.last.by != p {
				continue
			}
			r.last.confirmed, r.last.seq = p.w.now, p.w.logged(r.external)
		}
	}
}

func (e edges) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var all []store.Entry
		err := e.p.call("store", "range", part+" "+from, func() error {
			for entry, err := range e.p.w.store.Range(ctx, part, from, to) {
				if err != nil {
					return err
				}
				all = append(all, entry)
			}
			return nil
		})
		for _, entry := range all {
			if !yield(entry, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Entry{}, err)
		}
	}
}

// sender is a queue as a process reaches it.
type sender struct {
	p    *process
	to   *lane
	kind string
}

// Depth is asked for by the sweep.
func (s sender) Depth(ctx context.Context) (d queue.Depth, err error) {
	err = s.p.call("queue", "depth", s.to.name, func() error {
		d, err = s.to.q.Depth(ctx)
		return err
	})
	return d, err
}

func (s sender) Send(ctx context.Context, msgs ...queue.Message) error {
	var what strings.Builder
	what.WriteString(s.to.name)
	for _, m := range msgs {
		fmt.Fprintf(&what, " %s %s", m.Group, m.Dedup)
		if s.p.intake != nil {
			s.p.w.echo[m.Dedup] = s.p.hook.ours
			if v := s.p.w.vendors; v != nil {
				v.queued[s.p.hook.id] = true
			}
		}
	}
	return s.p.call("queue", s.kind, what.String(), func() error { return s.to.send(ctx, msgs...) })
}
