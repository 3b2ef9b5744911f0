package batch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/platform"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
)

var at = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func now() time.Time { return at }

// pages lists numbered pages: the cursor is the number of the next one.
type pages struct {
	list    [][]record.Native
	cursors []string // that it was asked from
	err     error
}

func (p *pages) Changes(_ context.Context, object, cursor string) (platform.Page, error) {
	p.cursors = append(p.cursors, object+":"+cursor)
	if p.err != nil {
		return platform.Page{}, p.err
	}
	n := 0
	if cursor != "" {
		if _, err := fmt.Sscan(cursor, &n); err != nil {
			return platform.Page{}, err
		}
	}
	if n >= len(p.list) {
		return platform.Page{Cursor: cursor}, nil
	}
	return platform.Page{Natives: p.list[n], Cursor: fmt.Sprint(n + 1), More: n+1 < len(p.list)}, nil
}

func native(id string, second int, final bool) record.Native {
	return record.Native{Ref: record.Ref{Platform: "zendesk", Object: "organization", ID: id}, Fields: map[string]any{"name": id},
		Version: record.Version{At: at.Add(time.Duration(second) * time.Second), Final: final}}
}

func flowOf(src *pages, q queue.Sender) (*batch.Flow, *ledger.Ledger) {
	l := ledger.New(store.NewMemory(now), now)
	n := 0
	return batch.New(batch.Deps{Ledger: l, Sources: map[string]batch.Source{"zendesk": src}, Objects: map[string][]string{"zendesk": {"organization"}}, EntityOf: func(string, string) string { return "customer" }, Inbound: q,
		Now: now, NewID: func() string { n++; return fmt.Sprint("t", n) }, Telemetry: telemetry.New(nil, now, nil)}), l
}

func taken(t *testing.T, q *queue.Memory) []message.Inbound {
	t.Helper()
	var out []message.Inbound
	for {
		got, err := q.Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		for _, m := range got {
			in, err := message.ParseInbound(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, in)
			if err := q.Delete(t.Context(), m.Receipt); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestListsToTheEndAndGoesOnFromThere(t *testing.T) {
	t.Parallel()
	src := &pages{list: [][]record.Native{{native("1", 1, true), native("2", 2, true)}, {native("3", 3, false)}}}
	q := queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now)
	f, l := flowOf(src, q)
	got, err := f.Apply(t.Context(), "zendesk")
	if err != nil || got.Records != 3 || got.Pages != 2 || !got.Complete {
		t.Errorf("%+v (%v)", got, err)
	}
	in := taken(t, q)
	if len(in) != 3 || in[0].Source != message.Batch || in[0].CorrelationID == in[1].CorrelationID || in[0].Native.Hint() {
		t.Errorf("queued %+v", in)
	}
	if c, _ := l.Listing(t.Context(), "zendesk", "organization"); c.Cursor != "2" {
		t.Errorf("cursor %q", c.Cursor)
	}
	// The same row again, final now: a tie may hide behind an equal time, so it is no repeat; the others are.
	src.list = append(src.list, []record.Native{native("2", 2, true), native("3", 3, true)})
	if _, err := f.Apply(t.Context(), "zendesk"); err != nil {
		t.Fatal(err)
	}
	if in := taken(t, q); len(in) != 1 || in[0].Native.ID != "3" {
		t.Errorf("queued %+v", in)
	}
	if want := []string{"organization:", "organization:1", "organization:2"}; !slices.Equal(src.cursors, want) {
		t.Errorf("listed from %v", src.cursors)
	}
}

type refusing struct{}

func (refusing) Send(context.Context, ...queue.Message) error { return errors.New("full") }

// The cursor moves only after the records are queued.
func TestCursorStaysWhenQueueingFails(t *testing.T) {
	t.Parallel()
	src := &pages{list: [][]record.Native{{native("1", 1, true)}}}
	f, l := flowOf(src, refusing{})
	if _, err := f.Apply(t.Context(), "zendesk"); err == nil {
		t.Error("no error")
	}
	if c, _ := l.Listing(t.Context(), "zendesk", "organization"); c.Cursor != "" {
		t.Errorf("cursor %q", c.Cursor)
	}
	src.err = fault.New(fault.Throttled, "zendesk.changes", "slow down")
	if _, err := f.Apply(t.Context(), "zendesk"); !fault.Is(err, fault.Throttled) {
		t.Errorf("%v", err)
	}
}

// A run that has little time left leaves the rest to the next one.
func TestLittleTimeLeft(t *testing.T) {
	t.Parallel()
	src := &pages{list: [][]record.Native{{native("1", 1, true)}}}
	f, _ := flowOf(src, queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now))
	ctx, cancel := context.WithTimeout(t.Context(), 19*time.Second)
	defer cancel()
	if got, err := f.Apply(ctx, "zendesk"); err != nil || got.Complete || got.Pages != 0 {
		t.Errorf("%+v (%v)", got, err)
	}
	if _, err := f.Apply(t.Context(), "oracle"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown platform: %v", err)
	}
}

// A platform's clock may be wrong by hours, not by years: the cursor does not move behind a record of the far future.
func TestRecordOfTheFarFuture(t *testing.T) {
	t.Parallel()
	for ahead, taken := range map[time.Duration]bool{23 * time.Hour: true, 25 * time.Hour: false, 100 * 365 * 24 * time.Hour: false} {
		q := queue.NewMemory(queue.Settings{Name: "inbound"}, nil, now)
		f, l := flowOf(&pages{list: [][]record.Native{{native("1", 0, true)}, {native("2", 0, true), native("3", int(ahead/time.Second), true)}}}, q)
		_, err := f.Apply(t.Context(), "zendesk")
		cursor, err2 := l.Listing(t.Context(), "zendesk", "organization")
		if err2 != nil {
			t.Fatal(err2)
		}
		if want := map[bool]string{true: "2", false: "1"}[taken]; cursor.Cursor != want || (err == nil) != taken || err != nil && !fault.Is(err, fault.Contract) {
			t.Errorf("%v ahead: cursor %q, want %q; %v", ahead, cursor.Cursor, want, err)
		}
	}
}
