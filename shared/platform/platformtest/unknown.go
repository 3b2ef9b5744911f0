package platformtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// Unknown demands of every kind of write of a connector that whatever happens to any of its HTTP calls, nothing is done
// twice and nothing is taken for done or refused that may not be: it loses the call, or its answer, at every place in
// turn, in every way, and repeats the write, in the same process or in another. In the end there is one native record
// with the right values. The World needs Handler and Connect.
func Unknown(t *testing.T, h Harness) {
	for _, k := range kinds() {
		t.Run(h.Name+"/unknown/"+k.name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			l := newLossy(t, h.New(t, clock.Now), clock)
			if k.deletes && !l.Deletes {
				t.Skip("this connector deletes no " + l.Object)
			}
			l.every(t, k)
		})
	}
}

// kind is one kind of Write.
type kind struct {
	name    string
	deletes bool
	several bool
	writes  func(t *testing.T, l *lossy) []*attempt
}

// attempt is one platform.Write and what must come of it.
type attempt struct {
	write  platform.Write
	values map[string]any // that the record must show in the end; nil = it must be gone
	was    string         // the record before, as the twin holds it; "" = not there
}

func kinds() []kind {
	create := func(t *testing.T, l *lossy) *attempt { return l.create() }
	upsert := func(t *testing.T, l *lossy) *attempt { return l.change(t, false) }
	update := func(t *testing.T, l *lossy) *attempt { return l.change(t, true) }
	remove := func(t *testing.T, l *lossy) *attempt { return l.remove(t) }
	all := func(made ...func(*testing.T, *lossy) *attempt) func(*testing.T, *lossy) []*attempt {
		return func(t *testing.T, l *lossy) (out []*attempt) {
			for _, m := range made {
				out = append(out, m(t, l))
			}
			return out
		}
	}
	return []kind{
		{name: "create", writes: all(create)},
		{name: "upsert", writes: all(upsert)},
		{name: "update", writes: all(update)},
		{name: "delete", deletes: true, writes: all(remove)},
		{name: "several", several: true, writes: all(create, update, upsert, create, update)},
		{name: "several with deletes", several: true, deletes: true, writes: all(remove, create, remove)},
	}
}

// lossy is a World behind a server that loses what it is told to.
type lossy struct {
	World
	clock   *Clock
	url     string
	meddle  atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	n       int
	first   string // native id of a record that nothing happens to
	reader  Connector
	visible []string // what a read shows of Fields as it was written
}

func newLossy(t *testing.T, w World, clock *Clock) *lossy {
	t.Helper()
	l := &lossy{World: w, clock: clock}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := l.meddle.Load(); f == nil || signIn(r) || !(*f)(w, r) {
			l.Handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	l.url = srv.URL
	l.Connector, l.reader = l.connect(t), l.connect(t)
	first := l.create()
	id := l.done(t, first)
	l.first = id
	read, err := l.Connector.Read(t.Context(), l.ref(id))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range first.write.Fields {
		if holds(read.Fields[k], v) {
			l.visible = append(l.visible, k)
		}
	}
	if len(l.visible) == 0 {
		t.Fatalf("a read shows nothing of what was written: %v of %v", read.Fields, first.write.Fields)
	}
	return l
}

func (l *lossy) connect(t *testing.T) Connector {
	t.Helper()
	c, err := l.Connect(l.url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (l *lossy) create() *attempt {
	l.n++
	fields := l.Fields(l.n)
	return &attempt{values: fields, write: platform.Write{Ref: l.ref(""), External: external(l.n), Fields: fields, Key: fmt.Sprint("key-", l.n)}}
}

// done makes a write that nothing happens to, and returns the native id.
func (l *lossy) done(t *testing.T, a *attempt) string {
	t.Helper()
	w := l.Connector.Write(t.Context(), []platform.Write{a.write})[0]
	if w.Err != nil {
		t.Fatalf("a record to begin with: %v", w.Err)
	}
	l.clock.Advance(2 * time.Second)
	return w.ID
}

// change is a write to a record that is there, by its native id or by its external id only.
func (l *lossy) change(t *testing.T, byID bool) *attempt {
	t.Helper()
	a := l.create()
	id := l.done(t, a)
	change := l.Change
	if l.ChangeOf != nil {
		change = l.ChangeOf(l.n)
	}
	a.values, a.was = change, l.held(id)
	if a.write.Key += "-change"; byID {
		a.write.Ref.ID, a.write.Fields = id, change
		return a
	}
	a.write.Fields = maps.Clone(a.write.Fields) // an upsert says everything
	maps.Copy(a.write.Fields, change)
	return a
}

func (l *lossy) remove(t *testing.T) *attempt {
	t.Helper()
	a := l.create()
	id := l.done(t, a)
	return &attempt{was: l.held(id), write: platform.Write{Ref: l.ref(id), External: a.write.External, Delete: true, Key: a.write.Key + "-delete"}}
}

func (l *lossy) ref(id string) record.Ref {
	return record.Ref{Platform: l.Connector.Declaration().Name, Object: l.Object, ID: id}
}

// held is a native record as the twin holds it, "" if it does not.
func (l *lossy) held(id string) string {
	fields, is := l.Twin.Get(l.Object, id)
	if !is {
		return ""
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// loss is one way in which a call goes wrong.
type loss struct {
	name string
	// answer spoils the call; it must not be called for one that is to go through.
	answer func(l *lossy, w http.ResponseWriter, r *http.Request)
	words  bool // the vendor says that something broke: a read that the write makes first may be Internal
	gives  bool // the caller's context ends after it
	single bool // a batch adds nothing to it
	dies   bool // another process repeats the write
	fresh  bool // with another key
	after  time.Duration
}

func losses(l *lossy) []loss {
	committed := func(then func(w http.ResponseWriter, said *httptest.ResponseRecorder)) func(*lossy, http.ResponseWriter, *http.Request) {
		return func(l *lossy, w http.ResponseWriter, r *http.Request) {
			said := httptest.NewRecorder()
			l.Handler.ServeHTTP(said, r)
			then(w, said)
		}
	}
	cut := committed(func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { hang(w, "") })
	fails := func(status int, kind, body string) func(*lossy, http.ResponseWriter, *http.Request) {
		return committed(func(w http.ResponseWriter, _ *httptest.ResponseRecorder) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the connector hung up: nothing to do
		})
	}
	all := []loss{
		{name: "never arrived", answer: func(_ *lossy, w http.ResponseWriter, _ *http.Request) { hang(w, "") }},
		{name: "answer lost", answer: cut},
		{name: "answer lost, repeated a day later", answer: cut, after: 25 * time.Hour, fresh: true, single: true},
		{name: "answer cut", answer: committed(func(w http.ResponseWriter, said *httptest.ResponseRecorder) {
			body := said.Body.Bytes()
			raw := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", said.Code, said.Header().Get("Content-Type"), len(body))
			if len(body) == 0 {
				raw = raw[:len(raw)/2]
			}
			hang(w, raw+string(body[:len(body)/2]))
		})},
		{name: "500 after it", answer: fails(500, "text/html", "<html>oops</html>")},
		{name: "502 after it", answer: fails(502, "text/html", ""), single: true},
		{name: "504 after it", answer: fails(504, "text/html", "<html>timeout</html>"), fresh: true, single: true},
		{name: "the caller gives up", answer: cut, gives: true, single: true},
		{name: "the process dies", answer: cut, gives: true, dies: true},
		{name: "the process dies, another key", answer: cut, gives: true, dies: true, fresh: true, single: true},
	}
	if l.Failure != "" {
		all = append(all, loss{name: "500 in the vendor's words", answer: fails(500, "application/json", l.Failure), words: true, single: true})
	}
	return all
}

// hang sends raw bytes and closes the connection.
func hang(w http.ResponseWriter, raw string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's own way to cut a connection
	}
	_, _ = io.WriteString(conn, raw)
	_ = conn.Close() // the point of it
}

// every loses the first call of a write, then the second of another, and so on, until one needs no further call. Each
// loss is of one call, or of that and all that follow.
func (l *lossy) every(t *testing.T, k kind) {
	const most = 40 // calls of one write: it does not come to an end
	for _, how := range losses(l) {
		for _, ever := range []bool{false, true} {
			if k.several && (ever || how.single) {
				continue
			}
			for nth := 1; ; nth++ {
				name := fmt.Sprintf("%s, call %d", how.name, nth)
				if ever {
					name += " and all after it"
				}
				if hit := l.once(t, k, how, nth, ever, name); !hit {
					break
				}
				if nth == most {
					t.Fatalf("%s: a write of more than %d calls", name, most)
				}
			}
		}
	}
	for nth := 1; nth <= most && !k.several; nth++ {
		for before := 1; ; before++ {
			hit, came := l.late(t, k, nth, before)
			if !hit {
				return
			}
			if !came {
				break
			}
		}
	}
}

// classes that a write may fail with when a call got lost. What may have been done is Unknown.
func mayFailWith(err error) bool {
	return fault.Is(err, fault.Unknown) || fault.Is(err, fault.Down)
}

func (l *lossy) once(t *testing.T, k kind, how loss, nth int, ever bool, name string) (hit bool) {
	t.Helper()
	attempts := k.writes(t, l)
	count := len(l.Twin.All(l.Object))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls atomic.Int64
	meddle := func(w http.ResponseWriter, r *http.Request) bool {
		if n := int(calls.Add(1)); n != nth && !(ever && n > nth) {
			return false
		}
		if how.gives { // after the vendor is done: answer waits for it
			defer cancel()
		}
		how.answer(l, w, r)
		return true
	}
	l.meddle.Store(&meddle)
	out := l.Connector.Write(ctx, writes(attempts))
	l.meddle.Store(nil)
	hit = int(calls.Load()) >= nth
	for i, a := range attempts {
		w, changed := out[i], l.changed(t, a)
		switch {
		case w.Err == nil && !changed:
			t.Errorf("%s: write %d counts as done and is not: %+v", name, i, w)
		case w.Err == nil:
		case !mayFailWith(w.Err) && (changed || !how.words || !fault.Is(w.Err, fault.Internal)):
			t.Errorf("%s: write %d is %v, of class %q", name, i, w.Err, fault.ClassOf(w.Err))
		case changed && !fault.Is(w.Err, fault.Unknown):
			t.Errorf("%s: write %d changed the record, and says %v", name, i, w.Err)
		}
		if how.fresh {
			a.write.Key += "-again"
		}
	}
	l.clock.Advance(max(how.after, 2*time.Minute)) // past what the connector waits for
	if how.dies {
		l.Connector = l.connect(t)
	}
	l.finish(t, attempts, count, name, false)
	return hit
}

// late holds the nth call of a write back, which the connector takes for lost, and lets it arrive while the write is
// repeated: before so many-th call of that, or after the last (then came is false).
func (l *lossy) late(t *testing.T, k kind, nth, before int) (hit, came bool) {
	t.Helper()
	name := fmt.Sprintf("call %d arrives late, before call %d of the repetition", nth, before)
	attempts := k.writes(t, l)
	count := len(l.Twin.All(l.Object))
	var mu sync.Mutex
	var held *http.Request
	calls := 0
	meddle := func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls != nth {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		held = r.Clone(context.WithoutCancel(t.Context()))
		held.Body = io.NopCloser(bytes.NewReader(body))
		hang(w, "")
		return true
	}
	l.meddle.Store(&meddle)
	out := l.Connector.Write(t.Context(), writes(attempts))
	hit = calls >= nth
	for i, w := range out {
		if w.Err != nil && !mayFailWith(w.Err) {
			t.Errorf("%s: write %d is %v, of class %q", name, i, w.Err, fault.ClassOf(w.Err))
		}
		if attempts[i].was != "" {
			attempts[i].write.Key += "-again"
		}
	}
	calls = 0
	arrive := func() {
		if held != nil {
			l.Handler.ServeHTTP(httptest.NewRecorder(), held)
			held = nil
		}
	}
	meddle = func(http.ResponseWriter, *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == before {
			came = true
			arrive()
		}
		return false
	}
	l.meddle.Store(&meddle)
	l.clock.Advance(2 * time.Second)
	for i, w := range l.Connector.Write(t.Context(), writes(attempts)) {
		if w.Err != nil && !mayFailWith(w.Err) && !fault.Is(w.Err, fault.Conflict) {
			t.Errorf("%s: the repetition of write %d is %v, of class %q", name, i, w.Err, fault.ClassOf(w.Err))
		}
	}
	l.meddle.Store(nil)
	arrive()
	l.clock.Advance(2 * time.Minute)
	l.finish(t, attempts, count, name, true)
	return hit, came
}

func writes(attempts []*attempt) []platform.Write {
	out := make([]platform.Write, len(attempts))
	for i, a := range attempts {
		out[i] = a.write
	}
	return out
}

// changed reports whether the vendor has done anything of a write.
func (l *lossy) changed(t *testing.T, a *attempt) bool {
	t.Helper()
	if a.was != "" {
		id := a.write.Ref.ID
		if id == "" {
			id = l.find(t, a.write.External)
		}
		return l.held(id) != a.was
	}
	return l.find(t, a.write.External) != ""
}

// find is the id of the record with an external id, "" if there is none, as another process sees it.
func (l *lossy) find(t *testing.T, external string) string {
	t.Helper()
	n, err := l.reader.Find(t.Context(), l.Object, external)
	if err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatalf("read back: %v", err)
	}
	return n.ID
}

// among reports whether each line of a sublist is among those that are shown.
func among(got, want any) bool {
	g, _ := got.(map[string]any)
	w, _ := want.(map[string]any)
	shown, _ := g["items"].([]any)
	lines, _ := w["items"].([]any)
	return len(lines) > 0 && !slices.ContainsFunc(lines, func(line any) bool {
		return !slices.ContainsFunc(shown, func(s any) bool { return holds(s, line) })
	})
}

// finish repeats the writes and demands that each is done once.
func (l *lossy) finish(t *testing.T, attempts []*attempt, count int, name string, late bool) {
	t.Helper()
	_, _ = l.Connector.Read(t.Context(), l.ref(l.first)) // lets a breaker close: side by side only one call is let through
	for i, w := range l.Connector.Write(t.Context(), writes(attempts)) {
		a := attempts[i]
		if w.Err != nil {
			t.Errorf("%s: write %d repeated: %v", name, i, w.Err)
			continue
		}
		if a.values == nil {
			count--
			if l.held(a.write.Ref.ID) != "" {
				t.Errorf("%s: what write %d deleted is there", name, i)
			}
			continue
		}
		if a.was == "" {
			count++
		}
		n, err := l.Connector.Read(t.Context(), l.ref(w.ID))
		if err != nil {
			t.Errorf("%s: reading what write %d made: %v", name, i, err)
			continue
		}
		if a.write.Ref.ID != "" && w.ID != a.write.Ref.ID || n.External != a.write.External {
			t.Errorf("%s: write %d is about %s with external id %q", name, i, w.ID, n.External)
		}
		for field, v := range a.values {
			if late && field == l.Lines && among(n.Fields[field], v) {
				continue
			}
			if (a.was != "" || slices.Contains(l.visible, field)) && !holds(n.Fields[field], v) {
				t.Errorf("%s: after write %d, %s is %v, want %v", name, i, field, n.Fields[field], v)
			}
		}
	}
	if got := len(l.Twin.All(l.Object)); got != count {
		t.Errorf("%s: %d native records, want %d", name, got, count)
	}
}
