package zendesk_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// drain lists from cursor to the end.
func drain(t *testing.T, c *zendesk.Connector, object, cursor string) (map[string]record.Native, string) {
	t.Helper()
	seen := map[string]record.Native{}
	for range 100 {
		p, err := c.Changes(t.Context(), object, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			seen[n.ID] = n
		}
		if cursor = p.Cursor; !p.More {
			return seen, cursor
		}
	}
	t.Fatal("no end")
	return nil, ""
}

func TestChangesTellDeletions(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 0)
	for object, fields := range map[string]map[string]any{
		zendesk.Organization:  {"name": "Acme"},
		zendesk.Ticket:        {"subject": "x"},
		"custom_object/order": {"name": "SO-1", "custom_object_fields": map[string]any{"number": "1"}},
	} {
		id, err := tw.Edit(object, "", fields)
		if err != nil {
			t.Fatal(err)
		}
		clock.Advance(lag)
		seen, cursor := drain(t, c, object, "")
		if n := seen[id]; n.Gone || n.Fields == nil {
			t.Errorf("%s before its deletion: %+v", object, n)
		}
		if err := tw.Delete(object, id); err != nil {
			t.Fatal(err)
		}
		gone := clock.Now()
		clock.Advance(lag)
		seen, _ = drain(t, c, object, cursor)
		if n := seen[id]; !n.Gone || n.Fields != nil || !n.Version.At.Equal(gone) {
			t.Errorf("%s after its deletion: %+v, want Gone at %v", object, n, gone)
		}
	}
}

func TestChangesWithinPublishedLimits(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.Limits{}, 0)
	if _, err := tw.Edit("custom_object/order", "", map[string]any{"name": "SO-1"}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	for cursor := ""; ; calls++ {
		p, err := c.Changes(t.Context(), "custom_object/order", cursor)
		if err != nil {
			break
		}
		cursor = p.Cursor
	}
	if calls != 10 {
		t.Errorf("%d exports were answered in one minute, want 10", calls)
	}
	if _, err := c.Find(t.Context(), "custom_object/order", "x"); !fault.Is(err, fault.NotFound) || tw.Kit().Stats().OverLimit != 1 {
		t.Errorf("over the exports' limit other calls must go on: %v, %+v", err, tw.Kit().Stats().OverLimit)
	}
}

// An export that says the start time is too recent has nothing yet; one that no longer takes its cursor is
// started again by time.
func TestChangesStayBack(t *testing.T) {
	t.Parallel()
	asked := []string{}
	conn := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("cursor")+"/"+r.URL.Query().Get("start_time"))
		switch {
		case r.URL.Path == "/api/v2/incremental/organizations":
			w.WriteHeader(422)
			_, _ = io.WriteString(w, `{"error":"InvalidValue","description":"Too recent start_time. Use a start_time older than 5 minutes"}`)
		case r.URL.Query().Get("cursor") != "":
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":"InvalidCursor"}`)
		default:
			_, _ = io.WriteString(w, `{"tickets":[],"after_cursor":"z","end_of_stream":true}`)
		}
	})
	future := fmt.Sprintf(`{"v":1,"start":%d}`, noon().Unix())
	p, err := conn.Changes(t.Context(), zendesk.Organization, future)
	if err != nil || p.More || p.Cursor != future || len(p.Natives) != 0 {
		t.Errorf("too recent: %+v, %v", p, err)
	}
	if want := fmt.Sprintf("/%d", noon().Unix()-120); asked[0] != want {
		t.Errorf("asked from %s, want %s", asked[0], want)
	}
	p, err = conn.Changes(t.Context(), zendesk.Ticket, `{"v":1,"start":77,"after":"lost"}`)
	if err != nil || !p.More || p.Cursor != `{"v":1,"start":77}` {
		t.Errorf("lost cursor: %+v, %v", p, err)
	}
	p, err = conn.Changes(t.Context(), zendesk.Ticket, p.Cursor)
	if err != nil || p.More || asked[2] != "/77" {
		t.Errorf("after a lost cursor: %+v, %v, asked %v", p, err, asked)
	}
}

func TestTicketWritesAreIdempotent(t *testing.T) {
	t.Parallel()
	clock := platformtest.NewClock()
	c, tw := world(t, clock.Now, zendesktwin.NoLimits(), 0)
	w := platform.Write{Ref: record.Ref{Platform: record.Zendesk, Object: zendesk.Ticket}, External: "case-1", Key: "k1", Fields: map[string]any{"subject": "Help", "comment": map[string]any{"body": "It rings"}}}
	first := c.Write(t.Context(), []platform.Write{w, w}) // one record, in order
	if first[0].Err != nil || first[1].Err != nil || first[0].ID != first[1].ID || len(tw.All(zendesk.Ticket)) != 1 {
		t.Errorf("the same ticket twice: %+v", first)
	}
	if !first[0].Created || first[1].Created {
		t.Errorf("created flags: %+v", first)
	}
}
