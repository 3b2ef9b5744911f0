package platformtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// Suspect is a connector whose vendor's answers are spoiled on their way. The clock of Open's twin and connectors is
// the given one.
type Suspect struct {
	Name      string
	Object    string
	Open      func(t *testing.T, now func() time.Time) Vendor
	Fields    func(n int) map[string]any     // of a new record; differs by n
	Change    map[string]any                 // a valid update
	Refusal   func(code, text string) string // the body of an answer that refuses, in the vendor's shape
	Accepts   string                         // a field whose list of values the vendor is asked for; "" = none
	Lag       time.Duration                  // how old a change is before Changes lists it
	Uncounted bool                           // Census counts none of Object
	Whole     bool                           // also what is the same for all objects: statuses, redirects, pauses
}

// Vendor is one twin with the way to connect to it at another address.
type Vendor struct {
	Handler http.Handler
	Connect func(url string) (Connector, error)
	Secrets []string // of the credentials: no error may show them
}

// Malformed demands of every operation of a connector that an answer which is no answer of the vendor's API is
// classified: it never counts as success, a write whose answer does not say whether it was done is Unknown, no
// error shows a secret or is of any length, every pause is bounded, and the next good answer is understood.
func Malformed(t *testing.T, s Suspect) {
	for _, o := range operations(s) {
		if s.Uncounted && o.name == "census" {
			continue
		}
		t.Run(s.Name+"/"+o.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, s)
			for _, sp := range spoils(s) {
				one := o.token || o.name == "read" || o.name == "update"
				if sp.only != "" && sp.only != o.name || sp.status && !(s.Whole && one) {
					continue
				}
				t.Run(sp.name, func(t *testing.T) { p.try(t, o, sp) })
			}
		})
	}
	t.Run(s.Name+"/life of a token", func(t *testing.T) {
		t.Parallel()
		tokenLife(t, newPlace(t, s))
	})
	t.Run(s.Name+"/wild clock", func(t *testing.T) {
		t.Parallel()
		wildClock(t, newPlace(t, s))
	})
}

// target is the record that an operation is about.
type target struct {
	ref      record.Ref
	external string
	n        int
}

// operation is one thing that flows ask of a connector.
type operation struct {
	name  string
	write bool // only calls that may change something are spoiled
	token bool // only sign-ins are spoiled
	do    func(ctx context.Context, s Suspect, c Connector, on target) []error
	name1 func(on target) string // what the answer must be about; nil = nothing that it names
}

func operations(s Suspect) []operation {
	written := func(out []platform.Written) []error {
		errs := make([]error, len(out))
		for i, w := range out {
			if errs[i] = w.Err; w.Err == nil && w.ID == "" {
				errs[i] = fault.New(fault.Internal, "suite", "done without a native id")
			}
		}
		return errs
	}
	fresh := func(on target, i int, s Suspect) platform.Write {
		ref := on.ref
		ref.ID = ""
		return platform.Write{Ref: ref, External: external(on.n + i), Fields: s.Fields(on.n + i), Key: fmt.Sprint("m", on.n+i)}
	}
	id, ext := func(on target) string { return on.ref.ID }, func(on target) string { return on.external }
	read := func(ctx context.Context, _ Suspect, c Connector, on target) []error {
		_, err := c.Read(ctx, on.ref)
		return []error{err}
	}
	all := []operation{
		{name: "read", do: read, name1: id},
		{name: "find", name1: ext, do: func(ctx context.Context, s Suspect, c Connector, on target) []error {
			_, err := c.Find(ctx, s.Object, on.external)
			return []error{err}
		}},
		{name: "create", write: true, name1: func(on target) string { return external(on.n) }, do: func(ctx context.Context, s Suspect, c Connector, on target) []error {
			return written(c.Write(ctx, []platform.Write{fresh(on, 0, s)}))
		}},
		{name: "update", write: true, name1: id, do: func(ctx context.Context, s Suspect, c Connector, on target) []error {
			return written(c.Write(ctx, []platform.Write{{Ref: on.ref, External: on.external, Fields: s.Change, Key: fmt.Sprint("u", on.n)}}))
		}},
		{name: "batch", write: true, do: func(ctx context.Context, s Suspect, c Connector, on target) []error {
			return written(c.Write(ctx, []platform.Write{fresh(on, 0, s), fresh(on, 1, s)}))
		}},
		{name: "delete", write: true, name1: id, do: func(ctx context.Context, _ Suspect, c Connector, on target) []error {
			return written(c.Write(ctx, []platform.Write{{Ref: on.ref, External: on.external, Delete: true, Key: fmt.Sprint("d", on.n)}}))
		}},
		{name: "changes", do: func(ctx context.Context, s Suspect, c Connector, _ target) []error {
			_, err := c.Changes(ctx, s.Object, "")
			return []error{err}
		}},
		{name: "census", do: func(ctx context.Context, s Suspect, c Connector, _ target) []error {
			_, err := c.Census(ctx, s.Object, nil, 0)
			return []error{err}
		}},
		{name: "within", do: func(ctx context.Context, s Suspect, c Connector, _ target) []error {
			_, err := c.Within(ctx, s.Object, nil, "")
			return []error{err}
		}},
		{name: "among", name1: id, do: func(ctx context.Context, s Suspect, c Connector, on target) []error {
			_, err := c.Among(ctx, s.Object, []string{on.ref.ID})
			return []error{err}
		}},
		{name: "sign-in", token: true, do: read},
	}
	if s.Accepts != "" {
		all = append(all, operation{name: "accepts", do: func(ctx context.Context, s Suspect, c Connector, _ target) []error {
			lists, ok := c.(interface {
				Accepts(ctx context.Context, object, field, value string) (bool, error)
			})
			if !ok {
				return []error{fault.New(fault.Internal, "suite", "the connector has no Accepts")}
			}
			_, err := lists.Accepts(ctx, s.Object, s.Accepts, "x")
			return []error{err}
		}})
	}
	return all
}

// spoil is one way in which an answer goes wrong.
type spoil struct {
	name               string
	answer             func(x *exchange)
	read, write, token []fault.Class // what may come of it; "" = success
	only               string        // the one operation that it is for; "" = all
	status             bool          // the status or a header tells: the same for all reads, and for all writes
}

// exchange is one call that is spoiled.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	body  []byte // of the request
	name  string // what the answer must be about
	twin  http.Handler
	plain *atomic.Int64 // counts answers that went out as they were: there was nothing to spoil
	place *place
}

// good has the twin answer.
func (x *exchange) good() *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	x.twin.ServeHTTP(rec, x.r)
	return rec
}

// send answers with the status and the headers of rec and another body.
func (x *exchange) send(rec *httptest.ResponseRecorder, body []byte) {
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			x.w.Header()[k] = v
		}
	}
	x.w.WriteHeader(rec.Code)
	_, _ = x.w.Write(body) // the connector hung up: nothing to do
}

// cut sends raw bytes and closes the connection.
func (x *exchange) cut(raw string) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's own way to cut a connection
	}
	_, _ = io.WriteString(conn, raw)
	_ = conn.Close() // the point of it
}

func one(c ...fault.Class) []fault.Class { return c }

func spoils(s Suspect) []spoil {
	const page = "<!DOCTYPE html><html><body><h1>We'll be back</h1></body></html>"
	var all []spoil
	down, unknown := one(fault.Down, fault.Contract), one(fault.Unknown)
	garbled := func(name string, answer func(x *exchange)) {
		all = append(all, spoil{name: name, answer: answer, read: down, write: unknown, token: one(fault.Down)})
	}
	fixed := func(status int, body string) func(x *exchange) {
		return func(x *exchange) { x.w.WriteHeader(status); _, _ = io.WriteString(x.w, body) }
	}
	// mangled changes the twin's own answer, if it has a body and change finds something in it to change.
	mangled := func(change func(x *exchange, b []byte) []byte) func(x *exchange) {
		return func(x *exchange) {
			rec := x.good()
			b := rec.Body.Bytes()
			changed := b
			if len(b) > 0 {
				changed = change(x, bytes.Clone(b))
			}
			if bytes.Equal(changed, b) {
				x.plain.Add(1)
			}
			x.send(rec, changed)
		}
	}

	garbled("html with 200", fixed(200, page))
	garbled("html with 201", fixed(201, page))
	garbled("empty with 200", fixed(200, ""))
	for _, body := range []string{"null", "true", "0", `"text"`, "[]", "{}", "[null]", "[[]]", "[{}]", `{"result":null}`, `{"result":[{}]}`, `{"records":null}`, `{"items":[]}`, "{}{}", "\x00"} {
		garbled("200 "+strconv.Quote(body), fixed(200, body))
	}
	garbled("cut in half", mangled(func(_ *exchange, b []byte) []byte { return b[:len(b)/2] }))
	garbled("more after the end", mangled(func(_ *exchange, b []byte) []byte { return append(b, page...) }))
	garbled("nested deep", fixed(200, strings.Repeat(`{"a":[`, 5_000)))
	garbled("connection cut in headers", func(x *exchange) { x.cut("HTTP/1.1 200 OK\r\nContent-Le") })
	garbled("connection cut before headers", func(x *exchange) { x.cut("") })
	garbled("connection cut in body", func(x *exchange) {
		x.cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"result\":")
	})
	garbled("no HTTP", func(x *exchange) { x.cut("SSH-2.0-OpenSSH_9.6\r\n") })
	garbled("broken gzip", func(x *exchange) {
		x.w.Header().Set("Content-Encoding", "gzip")
		fixed(200, "\x1f\x8b\x08\x00broken")(x)
	})
	garbled("unknown encoding", func(x *exchange) {
		x.w.Header().Set("Content-Encoding", "br")
		fixed(200, "\x0b\x02\x80hello\x03")(x)
	})
	garbled("no UTF-8", mangled(func(_ *exchange, b []byte) []byte {
		return bytes.Replace(b, []byte(`":"`), []byte("\":\"B\xf3lido "), 1)
	}))
	garbled("UTF-16", mangled(func(_ *exchange, b []byte) []byte { return wide(b, binary.LittleEndian, true) }))
	garbled("UTF-16 without mark", mangled(func(_ *exchange, b []byte) []byte { return wide(b, binary.BigEndian, false) }))
	garbled("byte order mark", mangled(func(_ *exchange, b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) }))
	garbled("error in a success", fixed(200, s.Refusal("SOMETHING_NEW", "It did not work")))
	for _, status := range []int{500, 502, 504, 520} {
		garbled(fmt.Sprint("html with ", status), fixed(status, page))
	}
	all = append(all, spoil{name: "another record", read: one(fault.Down, fault.Contract, fault.NotFound), write: unknown, token: one(""),
		answer: mangled(func(x *exchange, b []byte) []byte {
			if x.name == "" {
				return b
			}
			last := x.name[len(x.name)-1]
			return bytes.ReplaceAll(b, []byte(x.name), []byte(x.name[:len(x.name)-1]+string(rune('0'+(last+1)%8))))
		})})

	status := func(name string, answer func(x *exchange), class, token fault.Class) {
		all = append(all, spoil{name: name, answer: answer, read: one(class), write: one(class), token: one(token, fault.Unauthenticated), status: true})
	}
	for code, class := range map[int]fault.Class{400: fault.Refused, 401: fault.Unauthenticated, 403: fault.Refused, 404: fault.Down, 409: fault.Conflict, 429: fault.Throttled, 503: fault.Down} {
		token := class
		if class == fault.Refused || class == fault.Conflict {
			token = fault.Unauthenticated // no word about a record
		}
		status(fmt.Sprint("html with ", code), fixed(code, page), class, token)
		cut := class
		if class == fault.Refused || class == fault.Conflict { // what else it said is lost
			cut, token = fault.Down, fault.Down
		}
		status(fmt.Sprint("connection cut in the body of ", code), func(x *exchange) {
			x.cut(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 5000\r\n\r\n{\"error\":", code))
		}, cut, token)
	}
	status("secrets quoted", func(x *exchange) {
		fixed(400, s.Refusal("SOMETHING_NEW", strings.Join([]string{x.r.Header.Get("Authorization"), string(x.body), x.r.URL.String()}, " ")))(x)
	}, fault.Refused, fault.Down)
	status("long words", func(x *exchange) {
		fixed(400, s.Refusal(strings.Repeat("É", 10_000), strings.Repeat("é", 50_000)))(x)
	}, fault.Refused, fault.Down)
	for _, code := range []int{301, 302, 303, 307, 308} {
		status(fmt.Sprint("redirect ", code, " to another host"), func(x *exchange) {
			http.Redirect(x.w, x.r, x.place.evil.URL+x.r.URL.Path, code)
		}, fault.Internal, fault.Internal)
		status(fmt.Sprint("redirect ", code, " in a loop"), func(x *exchange) {
			http.Redirect(x.w, x.r, x.r.URL.String(), code)
		}, fault.Internal, fault.Internal)
	}
	for _, code := range []int{429, 503} {
		class := map[int]fault.Class{429: fault.Throttled, 503: fault.Down}[code]
		for _, after := range [][]string{{"-5"}, {"0"}, {"soon"}, {""}, {"1000000000000000000"}, {"99999999999999999999999999"}, {"1e9"}, {"5", "7", "-1"}, {"5, 7"}, {"Thu, 01 Jan 1970 00:00:00 GMT"},
			{"Sun, 01 Nov 2026 08:00:00 GMT"}, {"Fri, 01 Jan 2999 00:00:00 GMT"}, {"Fri, 31 Dec 9999 23:59:59 GMT"}, {"\u0661"}} {
			status(fmt.Sprint(code, " with Retry-After ", after), func(x *exchange) {
				x.w.Header()["Retry-After"] = after
				fixed(code, "")(x)
			}, class, class)
		}
	}

	taken := one("")
	all = append(all,
		spoil{name: "numbers out of range", read: one("", fault.Down, fault.Contract, fault.NotFound), write: one("", fault.Unknown), token: one("", fault.Down),
			answer: mangled(func(_ *exchange, b []byte) []byte {
				return regexp.MustCompile(`([:\[,]\s*)-?\d+(\.\d+)?([,}\]])`).ReplaceAll(b, []byte("${1}1e999999${3}"))
			})},
		spoil{name: "a deep member", read: one("", fault.Down), write: one("", fault.Unknown), token: taken,
			answer: mangled(func(_ *exchange, b []byte) []byte {
				return first(b, `"deep":`+strings.Repeat("[", 500)+strings.Repeat("]", 500))
			})},
		spoil{name: "a member twice", read: taken, write: taken, token: taken,
			answer: mangled(func(_ *exchange, b []byte) []byte { return first(b, `"zz":1,"zz":{}`) })},
	)
	for _, token := range []string{`""`, `null`, `5`, `{}`, `"a\nb: c"`, `"a b"`, `"é"`, `"` + strings.Repeat("x", 20_000) + `"`} {
		name := token
		if len(name) > 20 {
			name = "long"
		}
		all = append(all, spoil{name: "token " + name, only: "sign-in", token: one(fault.Down), answer: mangled(func(x *exchange, b []byte) []byte {
			return member(b, "access_token", token)
		})})
	}
	return all
}

// first puts a member in front of those of an object.
func first(b []byte, m string) []byte {
	if rest, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte("{")); ok && len(bytes.TrimSpace(rest)) > 1 {
		return append([]byte("{"+m+","), rest...)
	}
	return b
}

// member changes one of an object.
func member(b []byte, name, value string) []byte {
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return b
	}
	m[name] = json.RawMessage(value)
	out, err := json.Marshal(m)
	if err != nil {
		return b
	}
	return out
}

// wide is b, which is UTF-8, as UTF-16.
func wide(b []byte, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		out = order.AppendUint16(out, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(string(b))) {
		out = order.AppendUint16(out, u)
	}
	return out
}

// place is a twin behind a server that spoils what it is told to.
type place struct {
	s      Suspect
	vendor Vendor
	clock  *Clock
	url    string
	evil   *httptest.Server
	strays atomic.Int64 // calls that went to another host
	spoils atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	signed atomic.Int64
	seen   chan string // credentials on the wire, to be looked for in errors
	maker  Connector
	target target // of operations that leave it there
	n      int
}

func newPlace(t *testing.T, s Suspect) *place {
	p := &place{s: s, clock: NewClock(), seen: make(chan string, 1000)}
	p.vendor = s.Open(t, p.clock.Now)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if signIn(r) {
			p.signed.Add(1)
		}
		if _, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			select {
			case p.seen <- token:
			default: // enough of them
			}
		}
		if f := p.spoils.Load(); f == nil || !(*f)(w, r) {
			p.vendor.Handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	p.evil = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { p.strays.Add(1) }))
	t.Cleanup(p.evil.Close)
	return p
}

// signIn reports whether a call is to a token endpoint.
func signIn(r *http.Request) bool { return strings.Contains(r.URL.Path, "/oauth") }

func (p *place) connect(t *testing.T) Connector {
	t.Helper()
	c, err := p.vendor.Connect(p.url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// make creates the record that an operation is about.
func (p *place) make(t *testing.T) target {
	t.Helper()
	if p.maker == nil {
		p.maker = p.connect(t)
	}
	p.n += 10
	on := target{ref: record.Ref{Platform: p.maker.Declaration().Name, Object: p.s.Object}, external: external(p.n), n: p.n}
	out := p.maker.Write(t.Context(), []platform.Write{{Ref: on.ref, External: on.external, Fields: p.s.Fields(p.n), Key: fmt.Sprint("n", p.n)}})
	if out[0].Err != nil {
		t.Fatalf("a record to begin with: %v", out[0].Err)
	}
	on.ref.ID = out[0].ID
	p.clock.Advance(p.s.Lag + time.Minute)
	return on
}

func (p *place) try(t *testing.T, o operation, sp spoil) {
	if p.target.ref.ID == "" || o.name == "delete" {
		p.target = p.make(t)
	}
	on := p.target
	if on.n = p.n + 1; o.name == "create" || o.name == "batch" {
		p.n += 10
	}
	c := p.maker
	if o.token { // one that is not signed in yet
		c = p.connect(t)
	}
	var spoilt, plain atomic.Int64
	answer := func(w http.ResponseWriter, r *http.Request) bool {
		if signIn(r) != o.token || o.write && r.Method == http.MethodGet {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return false
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		spoilt.Add(1)
		x := &exchange{w: w, r: r, body: body, twin: p.vendor.Handler, place: p, plain: &plain}
		if o.name1 != nil {
			x.name = o.name1(on)
		}
		sp.answer(x)
		return true
	}
	p.spoils.Store(&answer)
	p.clock.Advance(2 * time.Minute) // past what the connector keeps of the last good answer
	begun := p.clock.Now()
	errs := o.do(t.Context(), p.s, c, on)
	p.spoils.Store(nil)

	want := sp.read
	switch {
	case o.token:
		want = sp.token
	case o.write:
		want = sp.write
	}
	switch {
	case spoilt.Load() == 0:
		t.Fatal("the operation made no call that could be spoiled")
	case spoilt.Load() == plain.Load():
		want = one("")
	case spoilt.Load() > 12:
		t.Errorf("%d calls for one bad answer", spoilt.Load())
	}
	for i, err := range errs {
		class := fault.Class("")
		if err != nil {
			class = fault.ClassOf(err)
		}
		if !slices.Contains(want, class) {
			t.Errorf("result %d: %v is of class %q, want one of %q", i, err, class, want)
		}
		if err != nil {
			p.discreet(t, err)
		}
		if at := fault.RetryAt(err); !at.IsZero() && (at.Before(begun) || at.After(begun.Add(time.Hour)) || class == fault.Throttled && !at.After(begun)) {
			t.Errorf("result %d: to be tried again %v from now", i, at.Sub(begun))
		}
	}
	if n := p.strays.Load(); n > 0 {
		t.Errorf("%d calls followed a redirect to another host", n)
	}
	p.clock.Advance(time.Hour + time.Minute) // past every pause
	for i, err := range o.do(t.Context(), p.s, c, on) {
		if err != nil {
			t.Errorf("result %d, after the vendor has come back: %v", i, err)
		}
	}
}

// discreet demands that an error holds no secret and is short.
func (p *place) discreet(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v", err, fault.Outermost(err))
	if len(text) > 12_000 {
		t.Errorf("an error of %d bytes: %.200s…", len(text), text)
	}
	secrets := slices.Clone(p.vendor.Secrets)
	for more := true; more; {
		select {
		case token := <-p.seen:
			secrets = append(secrets, token)
		default:
			more = false
		}
	}
	for _, secret := range secrets {
		if len(secret) >= 8 && strings.Contains(text, secret) {
			t.Errorf("an error shows a secret of %d bytes", len(secret))
		}
	}
}

// tokenLife demands that whatever a token endpoint says of a token's life, the token is used until it ends: neither
// thrown away at once nor kept for ever.
func tokenLife(t *testing.T, p *place) {
	on := p.make(t)
	for _, life := range []string{"0", "-1", "-9000000000000000000", "1", "59", `"3600"`, "1000000000000000000", "9223372036854775807", "1e999", "1.5", `"soon"`, "null", "{}", "[]", `""`} {
		c := p.connect(t)
		answer := func(w http.ResponseWriter, r *http.Request) bool {
			if !signIn(r) {
				return false
			}
			x := &exchange{w: w, r: r, twin: p.vendor.Handler}
			rec := x.good()
			x.send(rec, member(rec.Body.Bytes(), "expires_in", life))
			return true
		}
		p.spoils.Store(&answer)
		before := p.signed.Load()
		for range 3 {
			if _, err := c.Read(t.Context(), on.ref); err != nil {
				t.Errorf("expires_in %s: %v", life, err)
			}
		}
		if n := p.signed.Load() - before; n != 1 {
			t.Errorf("expires_in %s: %d sign-ins for 3 calls, want 1", life, n)
		}
		p.clock.Advance(7 * 24 * time.Hour) // far beyond any token's life
		if _, err := c.Read(t.Context(), on.ref); err != nil {
			t.Errorf("expires_in %s, a week later: %v", life, err)
		}
		p.spoils.Store(nil)
	}
}

// wildClock demands that a listing does not go on from a time that only a broken clock of the vendor's has seen.
func wildClock(t *testing.T, p *place) {
	for _, date := range []string{"Fri, 01 Jan 2999 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", ""} {
		p.make(t)
		c := p.connect(t)
		answer := func(w http.ResponseWriter, r *http.Request) bool {
			x := &exchange{w: w, r: r, twin: p.vendor.Handler}
			rec := x.good()
			rec.Header()["Date"] = []string{date}
			x.send(rec, rec.Body.Bytes())
			return true
		}
		p.spoils.Store(&answer)
		cursor := ""
		for more := true; more; {
			page, err := c.Changes(t.Context(), p.s.Object, cursor)
			if err != nil {
				if !fault.Is(err, fault.Contract) {
					t.Fatalf("Date %q: %v", date, err)
				}
				break // noticed
			}
			cursor, more = page.Cursor, page.More
		}
		p.spoils.Store(nil)
		on, found := p.make(t), false
		for more := true; more; {
			page, err := c.Changes(t.Context(), p.s.Object, cursor)
			if err != nil {
				t.Fatalf("after Date %q: %v", date, err)
			}
			cursor, more = page.Cursor, page.More
			found = found || slices.ContainsFunc(page.Natives, func(n record.Native) bool { return n.ID == on.ref.ID })
		}
		if !found {
			t.Errorf("after Date %q the listing misses what came then", date)
		}
	}
}
