package load

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/platform"
)

func receive(t *testing.T, raw []byte, now time.Time) (platform.Delivery, error) {
	t.Helper()
	c, err := netsuite.New(netsuite.Config{Now: time.Now, Credentials: netsuite.Credentials{WebhookSecrets: []string{Secret}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	if r.ContentLength != int64(len(body)) || r.URL.Path != Path {
		t.Errorf("Content-Length %d for %d bytes to %s", r.ContentLength, len(body), r.URL.Path)
	}
	return c.Webhook(t.Context(), platform.Request{Header: r.Header, ContentType: r.Header.Get("Content-Type"), Body: []byte(body), Now: now})
}

// The work is what the real connector takes as full observations.
func TestWorkIsReal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	s := newSigner()
	order := AppendOrder(nil, 17, 4, "e-17-4", now)
	if len(order) < 1100 || len(order) > 1500 {
		t.Errorf("an order is %d bytes, want about 1.2 KB", len(order))
	}
	for _, body := range [][]byte{order, Customer(now)} {
		d, err := receive(t, s.appendRequest(nil, body, now, false), now)
		if err != nil || len(d.Natives) != 1 || d.Natives[0].Hint() {
			t.Fatalf("%v, %+v", err, d)
		}
	}
	d, _ := receive(t, s.appendRequest(nil, order, now, false), now)
	n := d.Natives[0]
	if n.ID != InternalID(17) || n.Version.Seq != 4 || n.Fields["memo"] != Memo(17, 4) || d.ID != "e-17-4" {
		t.Errorf("%+v", n)
	}
	if _, err := receive(t, s.appendRequest(nil, order, now, true), now); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a forged one gives %v", err)
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	body := []byte(`[{"Description":"order 7 revision 12.","x":"order of"},{"Description":"order 8 revision 1."}]`)
	n, rev, rest, ok := Mark(body)
	if n != 7 || rev != 12 || !ok {
		t.Errorf("%d %d %t", n, rev, ok)
	}
	if _, _, _, ok = Mark([]byte(`{"a":"order 7"}`)); ok {
		t.Error("half a memo is none")
	}
	if n, _, _, ok = Mark(bytes.TrimPrefix(rest, []byte(`.","x":"order of"}`))); n != 8 || !ok {
		t.Errorf("the second is %d, %t", n, ok)
	}
}

func TestTracker(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	tr := NewTracker(2)
	send := func(n, rev int) { tr.sent(n, rev, at); tr.accepted(n, rev) }
	send(1, 1)
	send(1, 2)
	send(2, 1)
	if tr.Waiting() != 3 || tr.idle(1) {
		t.Errorf("%d wait", tr.Waiting())
	}
	later := at.Add(time.Second)
	tr.See(1, 2, later) // the first revision was merged into it
	tr.See(1, 2, later)
	tr.See(1, 1, later)
	tr.See(0, 1, later)
	tr.sent(2, 2, at)
	tr.See(2, 2, later) // the target was quicker than the answer
	tr.accepted(2, 2)
	seen, took := tr.Reset()
	if want := (Seen{Events: 4, Writes: 4, Twice: 1, OutOfOrder: 1, Forged: 1}); seen != want || len(took) != 4 || took[0] != time.Second {
		t.Errorf("%+v %v, want %+v", seen, took, want)
	}
	if tr.Waiting() != 0 || !tr.idle(1) || !tr.NewestAt().Equal(later) {
		t.Errorf("%d still wait", tr.Waiting())
	}
}
