// Package platformtest is the suite that every connector passes against its twin, over real HTTP. A
// connector's test calls Run once per object that it can write:
//
//	platformtest.Run(t, platformtest.Harness{Name: "customer", New: func(t *testing.T, now func() time.Time) platformtest.World { … }})
//
// Each subtest builds its own World, so that none sees another's records, faults or breaker. The connector and
// the twin must both use the given now: the suite moves that clock itself.
package platformtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/twin"
)

// Connector is what the flows need from a vendor's connector, all in one.
type Connector interface {
	Declaration() platform.Declaration
	Limits() []budget.Limit
	Webhook(ctx context.Context, r platform.Request) (platform.Delivery, error)
	Read(ctx context.Context, ref record.Ref) (record.Native, error)
	Find(ctx context.Context, object, external string) (record.Native, error)
	Write(ctx context.Context, writes []platform.Write) []platform.Written
	Changes(ctx context.Context, object, cursor string) (platform.Page, error)
	Counter
}

// Twin is what the suite needs from a vendor's twin to act as a person there.
type Twin interface {
	Edit(object, id string, fields map[string]any) (string, error)
	Delete(object, id string) error
	Get(object, id string) (map[string]any, bool)
	All(object string) []map[string]any
	Kit() *twin.Kit
}

// World is one connector with its twin, and sample data.
type World struct {
	Connector Connector
	Twin      Twin
	Object    string // native object under test

	Fields    func(n int) map[string]any // a valid new record: body of a Write and of an Edit; differs by n
	Change    map[string]any             // a valid update; Read must show exactly these values
	Clear     string                     // dotted path of a field that Fields sets and that may be emptied; "" skips
	Bad       map[string]any             // an update that the vendor refuses; nil skips
	UnknownID string                     // a well-formed native id of no record

	Unlisted string // why Changes cannot list Object; "" = it can
	PageSize int    // most natives on one page of Changes: the suite makes more than that in one instant; 0 = 200
	Lag      time.Duration

	Unpushed string                                    // why edits of Object send no webhook; "" = they do
	Forge    func(r platform.Request) platform.Request // nil = one byte of the body changes
	Undated  string                                    // why a webhook cannot be too old; "" = it can

	Handler  http.Handler                        // Unknown only: the twin's API, and how to connect to it at another address
	Connect  func(url string) (Connector, error) // every call is another process
	ChangeOf func(n int) map[string]any          // Unknown only: as Change, but differs by n; nil = Change fits many records
	Lines    string                              // Unknown only: a sublist in which a call that arrives late may leave further lines; "" = none
	Failure  string                              // Unknown only: how the vendor says in its own words that something broke; "" = no words

	Deletes  bool                             // Write.Delete deletes a record of Object; false skips
	Undelete func(id string) error            // a person takes a deleted record back; nil skips
	Merge    func(winner, loser string) error // a person merges two records of Object; nil skips
}

// Harness names a suite run and builds its worlds.
type Harness struct {
	Name string
	New  func(t *testing.T, now func() time.Time) World
}

// Clock is a clock that moves only when told to. It is safe for concurrent use.
type Clock struct {
	mu sync.Mutex
	at time.Time
}

// NewClock starts at a fixed second.
func NewClock() *Clock { return &Clock{at: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)} }

// Now is the time.
func (c *Clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

// Advance moves the time forward.
func (c *Clock) Advance(d time.Duration) { c.mu.Lock(); c.at = c.at.Add(d); c.mu.Unlock() }

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, *bench){
		"declaration":      declaration,
		"upsert":           upsert,
		"update and clear": update,
		"batch":            batch,
		"unknown":          unknown,
		"version":          version,
		"webhook":          webhook,
		"list":             list,
		"list ties":        ties,
		"list late tie":    lateTie,
		"throttle":         throttle,
		"outage":           outage,
		"lost reply":       lostReply,
		"cancelled":        cancelled,
		"delete":           remove,
		"merge":            merge,
	} {
		t.Run(h.Name+"/"+name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			test(t, &bench{World: h.New(t, clock.Now), clock: clock, ctx: t.Context()})
		})
	}
}

// bench is one World with its clock.
type bench struct {
	World
	clock *Clock
	ctx   context.Context
}

func external(n int) string { return fmt.Sprintf("suite-%06d", n) }

func (b *bench) ref(id string) record.Ref {
	return record.Ref{Platform: b.Connector.Declaration().Name, Object: b.Object, ID: id}
}

// put upserts record n and returns its native id.
func (b *bench) put(t *testing.T, n int, fields map[string]any) string {
	t.Helper()
	w := b.write(t, platform.Write{Ref: b.ref(""), External: external(n), Fields: fields, Key: fmt.Sprintf("k-%d", n)})
	if w.Err != nil {
		t.Fatalf("upsert %s: %v", external(n), w.Err)
	}
	if w.ID == "" {
		t.Fatalf("upsert %s: no native id came back", external(n))
	}
	return w.ID
}

func (b *bench) write(t *testing.T, w platform.Write) platform.Written {
	t.Helper()
	out := b.Connector.Write(b.ctx, []platform.Write{w})
	if len(out) != 1 {
		t.Fatalf("Write of 1 answered %d results", len(out))
	}
	return out[0]
}

func (b *bench) edit(t *testing.T, id string, fields map[string]any) string {
	t.Helper()
	got, err := b.Twin.Edit(b.Object, id, fields)
	if err != nil {
		t.Fatalf("twin edit %s/%s: %v", b.Object, id, err)
	}
	return got
}

func (b *bench) read(t *testing.T, id string) record.Native {
	t.Helper()
	n, err := b.Connector.Read(b.ctx, b.ref(id))
	if err != nil {
		t.Fatalf("read %s/%s: %v", b.Object, id, err)
	}
	if n.Ref != b.ref(id) {
		t.Fatalf("read %v answered %v", b.ref(id), n.Ref)
	}
	if n.Hint() || n.Partial {
		t.Fatalf("read %v answered a hint or a partial native: %+v", n.Ref, n)
	}
	return n
}

func want(t *testing.T, err error, class fault.Class) {
	t.Helper()
	if !fault.Is(err, class) {
		t.Fatalf("error %v is of class %q, want %q", err, fault.ClassOf(err), class)
	}
}

// holds reports whether got shows everything that want says; maps in got may say more.
func holds(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		for k, v := range w {
			ok = ok && holds(g[k], v)
		}
		return ok
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			ok = ok && holds(g[i], w[i])
		}
		return ok
	}
	a, errA := record.FromAny(got)
	b, errB := record.FromAny(want)
	return errA == nil && errB == nil && a == b
}

func at(fields map[string]any, path string) (any, bool) {
	var cur any = fields
	for _, p := range strings.Split(path, ".") {
		m, ok := cur.(map[string]any)
		if !ok {
			return nil, false
		}
		if cur, ok = m[p]; !ok {
			return nil, false
		}
	}
	return cur, true
}

// emptied builds the update that clears path.
func emptied(path string) map[string]any {
	parts := strings.Split(path, ".")
	var v any
	for i := len(parts) - 1; i >= 0; i-- {
		v = map[string]any{parts[i]: v}
	}
	return v.(map[string]any)
}

func declaration(t *testing.T, b *bench) {
	d := b.Connector.Declaration()
	if d.Name == "" || d.Title == "" || len(d.Auth) == 0 || len(d.Limits) == 0 || d.Resolution <= 0 || len(d.Errors) == 0 {
		t.Fatalf("the declaration lacks something: %+v", d)
	}
	known := map[string]bool{}
	for _, r := range fault.Table() {
		known[string(r.Class)] = true
	}
	for _, r := range d.Errors {
		if !known[r.Class] {
			t.Errorf("error row %+v: %q is no fault class", r, r.Class)
		}
	}
	for _, l := range d.Limits {
		if l.Max <= 0 || !strings.HasPrefix(l.Source, "https://") {
			t.Errorf("limit %+v needs a number and a source URL", l)
		}
	}
	limits := map[string]bool{}
	for _, l := range b.Connector.Limits() {
		if l.Name == "" || limits[l.Name] || l.Max < 1 || l.Window < 0 {
			t.Errorf("limit %+v is none, or there twice", l)
		}
		limits[l.Name] = true
	}
	if !limits[budget.Calls] {
		t.Errorf("no limit named %q counts all calls", budget.Calls)
	}
	for _, o := range d.Objects {
		if o.Name == b.Object {
			return
		}
	}
	t.Errorf("%s is not among the declared objects", b.Object)
}

func upsert(t *testing.T, b *bench) {
	before := len(b.Twin.All(b.Object))
	if _, err := b.Connector.Find(b.ctx, b.Object, external(1)); !fault.Is(err, fault.NotFound) {
		t.Fatalf("find before it exists: %v, want not-found", err)
	}
	first := b.put(t, 1, b.Fields(1))
	second := b.put(t, 1, b.Fields(1))
	if first != second {
		t.Errorf("two upserts of one external id made %s and %s", first, second)
	}
	if n := len(b.Twin.All(b.Object)); n != before+1 {
		t.Errorf("two upserts of one external id made %d records", n-before)
	}
	if n := b.read(t, first); n.External != external(1) {
		t.Errorf("read shows external id %q, want %q", n.External, external(1))
	}
	found, err := b.Connector.Find(b.ctx, b.Object, external(1))
	if err != nil || found.ID != first || found.External != external(1) {
		t.Errorf("find: %+v, %v; want id %s", found.Ref, err, first)
	}
}

func update(t *testing.T, b *bench) {
	id := b.put(t, 1, b.Fields(1))
	b.clock.Advance(2 * time.Second)
	if w := b.write(t, platform.Write{Ref: b.ref(id), External: external(1), Fields: b.Change, Key: "u1"}); w.Err != nil || w.ID != id {
		t.Fatalf("update by native id: %+v", w)
	}
	if n := b.read(t, id); !holds(n.Fields, b.Change) {
		t.Errorf("after the update the fields are %v, want %v in them", n.Fields, b.Change)
	}
	if b.Clear == "" {
		return
	}
	if v, ok := at(b.read(t, id).Fields, b.Clear); !ok || v == nil {
		t.Fatalf("sample data: %s is %v before it is cleared", b.Clear, v)
	}
	if w := b.write(t, platform.Write{Ref: b.ref(id), External: external(1), Fields: emptied(b.Clear), Key: "u2"}); w.Err != nil {
		t.Fatalf("clear %s: %v", b.Clear, w.Err)
	}
	if v, ok := at(b.read(t, id).Fields, b.Clear); !ok || v != nil {
		t.Errorf("after clearing, Read says %s = %v (said %v); an empty field must be said as nil", b.Clear, v, ok)
	}
	if b.Unlisted == "" {
		b.clock.Advance(b.Lag + 2*time.Second)
		seen, _ := b.scan(t, "")
		if v, ok := at(seen[id].Fields, b.Clear); !ok || v != nil {
			t.Errorf("after clearing, Changes says %s = %v (said %v); an empty field must be said as nil", b.Clear, v, ok)
		}
	}
}

func batch(t *testing.T, b *bench) {
	writes := make([]platform.Write, 7)
	for i := range writes {
		writes[i] = platform.Write{Ref: b.ref(""), External: external(i), Fields: b.Fields(i), Key: fmt.Sprintf("b-%d", i)}
	}
	if b.Bad != nil {
		bad := b.Fields(3)
		for k, v := range b.Bad {
			bad[k] = v
		}
		writes[3].Fields = bad
	}
	out := b.Connector.Write(b.ctx, writes)
	if len(out) != len(writes) {
		t.Fatalf("%d results for %d writes", len(out), len(writes))
	}
	for i, w := range out {
		if i == 3 && b.Bad != nil {
			if !fault.Is(w.Err, fault.Refused) && !fault.Is(w.Err, fault.Contract) {
				t.Errorf("bad write: %+v, want a refusal", w)
			}
			continue
		}
		if w.Err != nil {
			t.Errorf("write %d: %v", i, w.Err)
			continue
		}
		if n := b.read(t, w.ID); n.External != external(i) {
			t.Errorf("result %d is record %s with external id %q: results are out of order", i, w.ID, n.External)
		}
	}
	if out := b.Connector.Write(b.ctx, nil); len(out) != 0 {
		t.Errorf("no writes gave %d results", len(out))
	}
}

func unknown(t *testing.T, b *bench) {
	if n, err := b.Connector.Read(b.ctx, b.ref(b.UnknownID)); !n.Gone && !fault.Is(err, fault.NotFound) {
		t.Errorf("read of an unknown id: %+v, %v", n, err)
	}
	w := b.write(t, platform.Write{Ref: b.ref(b.UnknownID), External: external(9), Fields: b.Change, Key: "n"})
	want(t, w.Err, fault.NotFound)
	id := b.edit(t, "", b.Fields(1))
	b.read(t, id)
	if err := b.Twin.Delete(b.Object, id); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Connector.Read(b.ctx, b.ref(id)); !(err == nil && n.Gone) && !fault.Is(err, fault.NotFound) {
		t.Errorf("read of a deleted record: %+v, %v", n, err)
	}
	if _, err := b.Connector.Read(b.ctx, record.Ref{Platform: b.ref("").Platform, Object: "noSuchObject", ID: "1"}); err == nil {
		t.Error("read of an unknown object succeeded")
	}
}

func version(t *testing.T, b *bench) {
	id := b.edit(t, "", b.Fields(1))
	young := b.read(t, id).Version
	if young.Final {
		t.Error("a read in the very instant of the change is marked final")
	}
	res := b.Connector.Declaration().Resolution
	if d := b.clock.Now().Sub(young.At); d < 0 || d > res {
		t.Errorf("version is at %v, now is %v", young.At, b.clock.Now())
	}
	b.clock.Advance(res + 2*time.Second)
	settled := b.read(t, id).Version
	if !settled.Final || !settled.At.Equal(young.At) {
		t.Errorf("a later read of the same state has version %+v, want a final one at %v", settled, young.At)
	}
	b.edit(t, id, b.Change)
	if next := b.read(t, id).Version; next.Compare(settled) <= 0 {
		t.Errorf("version %+v after an edit does not exceed %+v", next, settled)
	}
}

// arrival is one webhook as the receiver saw it.
type arrival struct {
	request  platform.Request
	delivery platform.Delivery
	err      error
}

// receive serves a receiver that hands webhooks to the connector, and points the twin at it.
func (b *bench) receive(t *testing.T) func() []arrival {
	var mu sync.Mutex
	var got []arrival
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		a := arrival{request: platform.Request{Header: r.Header, Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body, Now: b.clock.Now()}}
		a.delivery, a.err = b.Connector.Webhook(r.Context(), a.request)
		mu.Lock()
		got = append(got, a)
		mu.Unlock()
		ack := a.delivery.Ack
		if ack.Status == 0 {
			ack = platform.Ack{Status: http.StatusAccepted, ContentType: "application/json", Body: []byte(`{"id":"1"}`)}
		}
		w.Header().Set("Content-Type", ack.ContentType)
		w.WriteHeader(ack.Status)
		_, _ = w.Write(ack.Body) // the twin hung up: nothing to do
	}))
	t.Cleanup(srv.Close)
	b.Twin.Kit().SendTo(srv.URL + "/webhooks/" + b.ref("").Platform)
	return func() []arrival {
		if err := b.Twin.Kit().Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

func webhook(t *testing.T, b *bench) {
	if b.Unpushed != "" {
		t.Skip(b.Unpushed)
	}
	arrived := b.receive(t)
	id := b.edit(t, "", b.Fields(1))
	b.clock.Advance(2 * time.Second)
	b.edit(t, id, b.Change)
	all := arrived()
	about := 0
	ids := map[string]bool{}
	for _, a := range all {
		if a.err != nil {
			t.Fatalf("the vendor's own webhook was refused: %v", a.err)
		}
		if a.delivery.ID == "" || ids[a.delivery.ID] {
			t.Errorf("delivery id %q is empty or was used before", a.delivery.ID)
		}
		ids[a.delivery.ID] = true
		for _, n := range a.delivery.Natives {
			if n.Ref == b.ref(id) {
				about++
			}
		}
	}
	if about < 2 {
		t.Fatalf("%d webhooks brought %d natives about %s, want one for each of two edits", len(all), about, b.ref(id))
	}

	good := all[0].request
	forge := b.Forge
	if forge == nil {
		forge = func(r platform.Request) platform.Request {
			r.Body = bytes.Clone(r.Body)
			r.Body[len(r.Body)/2] ^= 1
			return r
		}
	}
	_, err := b.Connector.Webhook(b.ctx, forge(good))
	want(t, err, fault.Unauthenticated)
	bare := good
	bare.Header, bare.Query = http.Header{"Content-Type": {good.ContentType}}, nil
	_, err = b.Connector.Webhook(b.ctx, bare)
	want(t, err, fault.Unauthenticated)
	if b.Undated == "" {
		for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
			stale := good
			stale.Now = good.Now.Add(off)
			_, err = b.Connector.Webhook(b.ctx, stale)
			want(t, err, fault.Unauthenticated)
		}
		near := good
		near.Now = good.Now.Add(4 * time.Minute)
		if _, err = b.Connector.Webhook(b.ctx, near); err != nil {
			t.Errorf("a webhook 4 minutes old was refused: %v", err)
		}
	}
	wrong := good
	wrong.ContentType = "text/csv"
	wrong.Header = good.Header.Clone()
	wrong.Header.Set("Content-Type", "text/csv")
	if _, err = b.Connector.Webhook(b.ctx, wrong); err == nil {
		t.Error("a webhook of type text/csv was accepted")
	}
}

// scan lists from cursor to the end and returns the newest native per id and the last cursor.
func (b *bench) scan(t *testing.T, cursor string) (map[string]record.Native, string) {
	t.Helper()
	seen := map[string]record.Native{}
	for range 1000 {
		p, err := b.Connector.Changes(b.ctx, b.Object, cursor)
		if err != nil {
			t.Fatalf("changes from %q: %v", cursor, err)
		}
		for _, n := range p.Natives {
			if old, ok := seen[n.ID]; !ok || n.Version.Compare(old.Version) >= 0 {
				seen[n.ID] = n
			}
		}
		if p.Cursor == "" {
			t.Fatal("a page has no cursor")
		}
		cursor = p.Cursor
		if !p.More {
			return seen, cursor
		}
	}
	t.Fatal("Changes does not come to an end")
	return nil, ""
}

func list(t *testing.T, b *bench) {
	if b.Unlisted != "" {
		t.Skip(b.Unlisted)
	}
	old := map[string]bool{}
	for i := range 5 {
		old[b.edit(t, "", b.Fields(i))] = true
		b.clock.Advance(time.Second)
	}
	b.clock.Advance(b.Lag)
	seen, cursor := b.scan(t, "")
	for id := range old {
		n, ok := seen[id]
		if !ok {
			t.Fatalf("a listing from the beginning lacks %s", id)
		}
		if n.Hint() {
			continue
		}
		full := b.read(t, id)
		if !n.Version.At.Equal(full.Version.At) {
			t.Errorf("%s: listed with version %v, read with %v", id, n.Version, full.Version)
		}
		if !n.Partial && !(holds(n.Fields, full.Fields) && holds(full.Fields, n.Fields)) {
			t.Errorf("%s: listed as\n%v\nbut read as\n%v", id, n.Fields, full.Fields)
		}
	}
	// Ties with what was listed last, and a change much later.
	var tied, late string
	for id := range old {
		tied, late = id, id
		break
	}
	b.edit(t, tied, b.Change)
	fresh := b.edit(t, "", b.Fields(6))
	b.clock.Advance(b.Lag + time.Second)
	seen, cursor = b.scan(t, cursor)
	if _, ok := seen[fresh]; !ok {
		t.Errorf("a record made just after the listing is missed")
	}
	if n, ok := seen[tied]; !ok || (!n.Hint() && !holds(n.Fields, b.Change)) {
		t.Errorf("a change just after the listing is missed: %+v", n)
	}
	b.clock.Advance(3 * time.Hour)
	b.edit(t, late, b.Fields(1))
	b.clock.Advance(b.Lag + time.Second)
	if seen, _ = b.scan(t, cursor); seen[late].ID == "" {
		t.Errorf("a change 3 hours later is missed")
	}
	if _, err := b.Connector.Changes(b.ctx, b.Object, "{not a cursor"); err == nil {
		t.Error("a broken cursor was accepted")
	}
}

// ties makes more records in one instant than fit on a page, then resumes from every cursor.
func ties(t *testing.T, b *bench) {
	if b.Unlisted != "" {
		t.Skip(b.Unlisted)
	}
	size := b.PageSize
	if size == 0 {
		size = 200
	}
	made := map[string]bool{}
	for i := range size + size/2 + 1 {
		made[b.edit(t, "", b.Fields(i))] = true
	}
	b.clock.Advance(b.Lag + 2*time.Second)
	type step struct {
		cursor string
		seen   map[string]bool
	}
	seen := map[string]bool{}
	steps := []step{{"", map[string]bool{}}}
	for cursor, more := "", true; more; {
		p, err := b.Connector.Changes(b.ctx, b.Object, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			seen[n.ID] = true
		}
		copied := map[string]bool{}
		for id := range seen {
			copied[id] = true
		}
		cursor, more = p.Cursor, p.More
		steps = append(steps, step{cursor, copied})
		if len(steps) > 1000 {
			t.Fatal("Changes does not come to an end")
		}
	}
	if len(steps) < 3 {
		t.Errorf("%d records came in one page: set PageSize so that a tie crosses a page", len(made))
	}
	for i, s := range steps {
		rest, _ := b.scan(t, s.cursor)
		for id := range made {
			if _, ok := rest[id]; !ok && !s.seen[id] {
				t.Fatalf("resuming from cursor %d of %d misses %s", i, len(steps)-1, id)
			}
		}
	}
}

// lateTie changes a record in the very instant up to which has been listed already.
func lateTie(t *testing.T, b *bench) {
	if b.Unlisted != "" {
		t.Skip(b.Unlisted)
	}
	if b.Lag > 0 {
		t.Skip("the vendor lists nothing that is younger than its lag")
	}
	first := b.edit(t, "", b.Fields(1))
	b.clock.Advance(time.Second)
	b.edit(t, "", b.Fields(2))
	_, cursor := b.scan(t, "")
	b.edit(t, first, b.Change)
	b.clock.Advance(2 * time.Second)
	seen, _ := b.scan(t, cursor)
	if n, ok := seen[first]; !ok || (!n.Hint() && !holds(n.Fields, b.Change)) {
		t.Errorf("a change in the instant of the cursor, with a lower id, is missed: %+v", n)
	}
}

func throttle(t *testing.T, b *bench) {
	id := b.put(t, 1, b.Fields(1))
	b.Twin.Kit().SetFaults(twin.Faults{Throttle: 1})
	_, err := b.Connector.Read(b.ctx, b.ref(id))
	want(t, err, fault.Throttled)
	until := fault.RetryAt(err)
	if !until.After(b.clock.Now()) {
		t.Errorf("throttled until %v, now is %v", until, b.clock.Now())
	}
	w := b.write(t, platform.Write{Ref: b.ref(id), External: external(1), Fields: b.Change, Key: "t"})
	want(t, w.Err, fault.Throttled)
	b.Twin.Kit().SetFaults(twin.Faults{})
	b.clock.Advance(until.Sub(b.clock.Now()) + time.Hour)
	b.read(t, id)
}

func outage(t *testing.T, b *bench) {
	id := b.put(t, 1, b.Fields(1))
	b.Twin.Kit().SetFaults(twin.Faults{Outage: true})
	for range 8 {
		_, err := b.Connector.Read(b.ctx, b.ref(id))
		want(t, err, fault.Down)
	}
	w := b.write(t, platform.Write{Ref: b.ref(id), External: external(1), Fields: b.Change, Key: "o"})
	want(t, w.Err, fault.Down)
	if b.Unlisted == "" {
		_, err := b.Connector.Changes(b.ctx, b.Object, "")
		want(t, err, fault.Down)
	}
	b.Twin.Kit().SetFaults(twin.Faults{})
	b.clock.Advance(time.Hour)
	b.read(t, id)
}

func lostReply(t *testing.T, b *bench) {
	b.put(t, 1, b.Fields(1)) // signs in, so that the write itself is what gets lost
	before := len(b.Twin.All(b.Object))
	b.Twin.Kit().SetFaults(twin.Faults{LoseReply: 1})
	lost := platform.Write{Ref: b.ref(""), External: external(2), Fields: b.Fields(2), Key: "l"}
	w := b.write(t, lost)
	if fault.Is(w.Err, fault.Down) && len(b.Twin.All(b.Object)) == before {
		t.Skip("this connector reads before it writes, and the read was lost: the write was never sent")
	}
	want(t, w.Err, fault.Unknown)
	b.Twin.Kit().SetFaults(twin.Faults{})
	b.clock.Advance(time.Hour)
	n, err := b.Connector.Find(b.ctx, b.Object, external(2))
	if err != nil {
		t.Fatalf("the lost write was done, but Find says %v", err)
	}
	again := b.write(t, lost)
	if again.Err != nil || again.ID != n.ID {
		t.Errorf("repeating the lost write gave %+v, Find gave %s", again, n.ID)
	}
	if got := len(b.Twin.All(b.Object)); got != before+1 {
		t.Errorf("%d records were made for one lost write", got-before)
	}
}

func cancelled(t *testing.T, b *bench) {
	id := b.put(t, 1, b.Fields(1))
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Connector.Read(ctx, b.ref(id)); err == nil {
		t.Error("Read ignores a cancelled context")
	}
	out := b.Connector.Write(ctx, []platform.Write{{Ref: b.ref(id), External: external(1), Fields: b.Change, Key: "c"}})
	if len(out) != 1 || out[0].Err == nil {
		t.Errorf("Write ignores a cancelled context: %+v", out)
	}
	b.read(t, id)
}

// remove deletes, repeats it, and takes the record back. A listing need not name what is deleted, but one that
// does must not say that it lives.
func remove(t *testing.T, b *bench) {
	if !b.Deletes {
		t.Skip("this connector deletes no " + b.Object)
	}
	ids := []string{b.put(t, 1, b.Fields(1)), b.put(t, 2, b.Fields(2)), b.put(t, 3, b.Fields(3))}
	before := b.read(t, ids[0]).Version
	b.clock.Advance(2 * time.Second)
	erase := func(n int) platform.Write {
		return platform.Write{Ref: b.ref(ids[n-1]), External: external(n), Delete: true, Key: fmt.Sprint("d", n)}
	}
	for range 2 { // the second time they are gone already
		for i, w := range b.Connector.Write(b.ctx, []platform.Write{erase(1), erase(2)}) {
			if w.Err != nil || w.ID != ids[i] {
				t.Errorf("delete %d: %+v, want id %s", i+1, w, ids[i])
			}
		}
	}
	if _, left := b.Twin.Get(b.Object, ids[0]); left {
		t.Error("the deleted record is still there")
	}
	b.read(t, ids[2])
	n, err := b.Connector.Read(b.ctx, b.ref(ids[0]))
	switch {
	case err != nil:
		want(t, err, fault.NotFound)
	case !n.Gone || n.Version.Compare(before) <= 0 || n.Into != "":
		t.Errorf("read of a deleted record: %+v, want gone after %+v", n, before)
	}
	if _, err := b.Connector.Find(b.ctx, b.Object, external(1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("find of a deleted record: %v, want not-found", err)
	}
	if b.Unlisted == "" {
		b.clock.Advance(b.Lag + 2*time.Second)
		seen, _ := b.scan(t, "")
		if n, ok := seen[ids[0]]; ok && !n.Gone && !n.Hint() {
			t.Errorf("a deleted record is listed as %+v", n)
		}
	}
	if b.Undelete == nil {
		return
	}
	if err := b.Undelete(ids[0]); err != nil {
		t.Fatal(err)
	}
	back := b.read(t, ids[0])
	if !back.Born.IsZero() && back.Born.Before(n.Version.At) || back.Version.Compare(n.Version) <= 0 {
		t.Errorf("taken back as %+v after a deletion at %+v: no birth after it", back, n.Version)
	}
}

// merge makes one of two records. The loser must be said to be in the winner, by a read and by a listing that
// names it.
func merge(t *testing.T, b *bench) {
	if b.Merge == nil {
		t.Skip("nobody merges " + b.Object)
	}
	winner, loser := b.put(t, 1, b.Fields(1)), b.put(t, 2, b.Fields(2))
	before := b.read(t, loser).Version
	b.clock.Advance(2 * time.Second)
	if err := b.Merge(winner, loser); err != nil {
		t.Fatal(err)
	}
	if n := b.read(t, winner); n.External != external(1) {
		t.Errorf("the winner carries external id %q, want %q", n.External, external(1))
	}
	n, err := b.Connector.Read(b.ctx, b.ref(loser))
	if err != nil || !n.Gone || n.Into != winner || n.Version.Compare(before) <= 0 {
		t.Errorf("read of the loser: %+v, %v; want gone into %s after %+v", n, err, winner, before)
	}
	if b.Unlisted == "" {
		b.clock.Advance(b.Lag + 2*time.Second)
		seen, _ := b.scan(t, "")
		if n, ok := seen[loser]; ok && !n.Hint() && (!n.Gone || n.Into != winner) {
			t.Errorf("the loser is listed as %+v, want gone into %s", n, winner)
		}
	}
}
