package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/twin"
	"sorrel/shared/twins"
)

// vendors are the platforms of a world in which they are the vendors' twins, reached through the real connectors. There are
// no sockets: a request is answered in the goroutine of whoever makes it, and what twins push is an event of the schedule.
type vendors struct {
	w        *world
	twins    *twins.Twins
	handlers map[string]http.Handler
	kits     map[string]*twin.Kit
	god      map[string]boot.Connector // looks without taking time
	queued   map[string]bool           // webhooks of which something went into the queue
	seen     map[record.Ref]bool       // native records that ever were, as far as anybody looked
	order    []record.Ref              // in which they were seen
	grown    map[record.Ref]bool       // into which others were merged
	deleting *record.Ref               // what somebody is deleting
	deleted  map[record.Ref]string     // what people have deleted → the webhook that tells of it first, or "nothing"
}

// newVendors boots the twins of a world. Calls over their limits are for the tests of budgets: they have none here.
func newVendors(w *world) (*vendors, error) {
	v := &vendors{w: w, queued: map[string]bool{}, seen: map[record.Ref]bool{}, deleted: map[record.Ref]string{}, grown: map[record.Ref]bool{}}
	clocks := map[string]func() time.Time{}
	for _, s := range w.sites {
		clocks[s.name] = s.clock
	}
	var err error
	if v.twins, err = twins.New(twins.Options{Clocks: clocks, Seed: w.c.Seed, Roomy: true}); err != nil {
		return nil, err
	}
	v.handlers, v.kits = v.twins.Handlers(), v.twins.Kits()
	for _, name := range platforms {
		v.kits[name].SendBy(func(h twin.Webhook) { v.push(name, h) })
	}
	v.twins.SendTo("http://sorrel.test")
	v.god, err = v.connect(nil)
	return v, err
}

// connect makes the connectors of a process.
func (v *vendors) connect(p *process) (map[string]boot.Connector, error) {
	return boot.Connect(v.twins.Endpoints(), v.w.set, v.w.clock, v.w.telemetry, func(name string) http.RoundTripper { return &wire{v: v, p: p, name: name} })
}

// written is how many writes the twins have taken.
func (v *vendors) written() (n int) {
	for _, k := range v.kits {
		n += k.Stats().Writes
	}
	return n
}

// reach is a platform as a process reaches it.
type reach interface {
	intake.Webhooks
	Read(ctx context.Context, r record.Ref) (record.Native, error)
	Find(ctx context.Context, object, external string) (record.Native, error)
	Write(ctx context.Context, writes []platform.Write) []platform.Written
	Changes(ctx context.Context, object, cursor string) (platform.Page, error)
}

// reach gives the platforms as a process reaches them, and who takes events of the event bus.
func (w *world) reach(p *process) (map[string]reach, intake.Events) {
	out := map[string]reach{}
	if w.vendors == nil {
		for _, s := range w.sites {
			out[s.name] = port{p, s}
		}
		return out, nil
	}
	made, err := w.vendors.connect(p)
	if err != nil {
		w.wrong("%s cannot connect: %v", p.name, err)
		return out, nil
	}
	for name, c := range made {
		out[name] = oneByOne{c}
	}
	events, _ := made[record.Salesforce].(intake.Events)
	return out, events
}

// objects are the native objects of a platform.
func (w *world) objects(name string) []string {
	if w.vendors == nil && !w.c.Profile.Workflows {
		return objects()
	}
	return w.set.Objects(name)
}

// oneByOne writes one record after the other: connectors write several at once, and here only one goroutine has the turn.
type oneByOne struct{ boot.Connector }

func (o oneByOne) Write(ctx context.Context, writes []platform.Write) []platform.Written {
	var out []platform.Written
	for _, w := range writes {
		out = append(out, o.Connector.Write(ctx, []platform.Write{w})...)
	}
	return out
}

type listing struct{}

// Changes marks the requests that are made for a listing.
func (o oneByOne) Changes(ctx context.Context, object, cursor string) (platform.Page, error) {
	return o.Connector.Changes(context.WithValue(ctx, listing{}, true), object, cursor)
}

// wire is the network between a process and a twin: each request is an edge. Without a process nothing fails, and it
// takes no time.
type wire struct {
	v    *vendors
	p    *process
	name string
}

// errLost is what a client sees of a connection that ends.
var errLost = errors.New("the connection ended before an answer came")

// kind is what a request is for.
func (l *wire) kind(r *http.Request) string {
	switch {
	case strings.Contains(r.URL.Path, "/oauth"):
		return "signin"
	case r.Context().Value(listing{}) != nil:
		return "list"
	case r.Method == http.MethodGet || strings.HasSuffix(r.URL.Path, "/suiteql"):
		return "read"
	}
	return "write"
}

// RoundTrip implements http.RoundTripper.
func (l *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	if l.p == nil {
		return l.v.serve(l.name, r, body, twin.Faults{}), nil
	}
	p, w, kind := l.p, l.v.w, l.kind(r)
	p.alive()
	edge := l.name + "." + kind
	if w.calls++; w.calls > maxCalls {
		w.wrong("more than %d calls", maxCalls)
		p.crash()
	}
	f := w.fault(edge, kind)
	n := w.counts[edge]
	shown := body
	if kind == "signin" { // what is signed there with elliptic curves is never the same twice
		shown = nil
	}
	w.note(p.name, edge, fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), shown), f)
	latency := time.Duration(1+w.c.chance("latency", edge, n)%8) * 25 * time.Millisecond
	if f == slow { // but not so late that the client has given up
		latency = 7 * time.Second
	}
	w.wait(&p.task, latency)
	sent := func() {
		if t := httptrace.ContextClientTrace(r.Context()); t != nil && t.GotConn != nil {
			t.GotConn(httptrace.GotConnInfo{})
		}
	}
	var with twin.Faults
	switch {
	case f == crashBefore:
		p.crash()
	case (f == refused || w.down(l.name)) && n%2 == 0:
		return nil, errors.New("connection refused")
	case f == refused || w.down(l.name):
		with.Outage = true
	case f == throttled:
		with.Throttle = 1
	case f == unsent:
		sent()
		return nil, errLost
	}
	sent()
	answer := l.v.serve(l.name, r, body, with)
	if f == crashAfter {
		p.crash()
	}
	w.wait(&p.task, latency)
	if f == unanswered {
		return nil, errLost
	}
	said := "→ " + answer.Status
	if kind != "signin" {
		said += " " + digest(answer.Body.(*closed).Bytes())
	}
	w.note(p.name, edge, said, none)
	return answer, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:4])
}

// closed is a body that is closed by doing nothing.
type closed struct{ *bytes.Buffer }

func (closed) Close() error { return nil }

// recorder takes down an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

// serve has a twin answer.
func (v *vendors) serve(name string, r *http.Request, body []byte, with twin.Faults) *http.Response {
	in := r.Clone(context.Background())
	in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	in.RequestURI, in.Host, in.RemoteAddr = r.URL.RequestURI(), r.URL.Host, "192.0.2.1:1"
	in.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	out := &recorder{header: http.Header{}}
	out.header.Set("Date", v.w.site(name).clock().Format(http.TimeFormat))
	v.kits[name].SetFaults(with)
	v.handlers[name].ServeHTTP(out, in)
	v.kits[name].SetFaults(twin.Faults{})
	out.WriteHeader(http.StatusOK)
	return &http.Response{Status: fmt.Sprintf("%d %s", out.status, http.StatusText(out.status)), StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.header, Body: &closed{&out.body}, ContentLength: int64(out.body.Len()), Request: r}
}

// push sends what a twin tells on its way. The twin is locked meanwhile.
func (v *vendors) push(name string, h twin.Webhook) {
	w, place := v.w, name+".webhook"
	f := w.fault(place, "webhook")
	n := w.counts[place]
	id := fmt.Sprintf("%s-%d", place, n)
	w.note(name, "tells", id, f)
	if v.deleting != nil && v.deleted[*v.deleting] == "" {
		v.deleted[*v.deleting] = id
	}
	took := time.Duration(20+w.c.chance("latency", place, n)%2000) * time.Millisecond
	switch f {
	case lost:
		return
	case late:
		took += 10 * time.Minute
	case twice:
		v.attempt(name, id, h, 1, took+time.Duration(w.c.chance("again", place, n)%uint64(7*time.Minute)))
	}
	v.attempt(name, id, h, 1, took)
}

// fresh is how old a signature may be that was made when it happened, as NetSuite's and ServiceNow's scripts do: what comes
// later may be refused, and a listing finds it.
const fresh = 2 * time.Minute

// attempt is a webhook at intake, signed as the twin signs it in that moment. Whether and when it comes again is the vendor's
// rule.
func (v *vendors) attempt(name, id string, h twin.Webhook, n int, after time.Duration) {
	w := v.w
	made := w.now
	w.travelling++
	w.later(after, func() {
		w.travelling--
		to := v.kits[name].Target()
		if h.To != nil {
			to = h.To()
		}
		var status int
		var header http.Header
		var said []byte
		again := func() {
			if wait, more := h.Again(n, status, header, said); more {
				v.attempt(name, id, h, n+1, max(wait, time.Second))
			}
		}
		r, err := h.Request(to)
		if err != nil {
			again()
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.wrong("%s cannot be read: %v", id, err)
			return
		}
		w.note(name, "sends", fmt.Sprintf("%s for the %d. time: %s", id, n, digest(body)), none)
		sent := w.now
		w.taking++
		w.serve("intake", func(ctx context.Context, p *process) {
			p.hook = hook{id: id}
			var a intake.Answer
			if h.To != nil { // the event bus, which only hears whether it failed
				a.Status = http.StatusOK
				if err := p.intake.ApplyEvent(ctx, body); err != nil {
					a.Status = http.StatusInternalServerError
				}
			} else {
				a = p.intake.Apply(ctx, name, platform.Request{Header: r.Header, Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body})
			}
			err := p.call("vendor", "reply", fmt.Sprintf("%s: %d", id, a.Status), func() error { return nil })
			if err == nil && w.now.Sub(sent) < patience {
				status, header, said = a.Status, http.Header{}, a.Body
				if a.RetryAfter != "" {
					header.Set("Retry-After", a.RetryAfter)
				}
			}
		}, func() {
			w.taking--
			if status/100 == 2 {
				w.accepted[id] = true
			} else if status >= 400 && status < 500 && (status != http.StatusUnauthorized || w.now.Sub(made) < fresh) {
				w.wrong("refused: %s is answered %d: %s", id, status, said)
			}
			again()
		})
	})
}

// unheard lists the webhooks that were accepted, and of which something was queued that the hub has never handled.
func (w *world) unheard() (out []string) {
	for hook := range w.accepted {
		if !w.handled[hook] && (w.vendors == nil || w.vendors.queued[hook]) {
			out = append(out, hook)
		}
	}
	slices.Sort(out)
	return out
}

// see notes which native records there are.
func (v *vendors) see(ref record.Ref) {
	if ref.ID != "" && !v.seen[ref] {
		v.seen[ref] = true
		v.order = append(v.order, ref)
	}
}

// all lists the living native records of an object, as a listing from its beginning does.
func (v *vendors) all(name, object string) (out []record.Native) {
	cursor := ""
	for range 1000 {
		page, err := v.god[name].Changes(context.Background(), object, cursor)
		if err != nil {
			v.w.wrong("cannot list %s of %s: %v", object, name, err)
			return out
		}
		for _, n := range page.Natives {
			v.see(n.Ref)
		}
		out = append(out, page.Natives...)
		if cursor = page.Cursor; !page.More {
			return out
		}
	}
	v.w.wrong("the listing of %s of %s has no end", object, name)
	return out
}

// gone reports whether a native record cannot be read any more.
func gone(n record.Native, err error) bool { return n.Gone || fault.Is(err, fault.NotFound) }
