package ledger

import (
	"fmt"
	"slices"
	"testing"

	"sorrel/shared/record"
)

// Each record of an entity is listed once, however long its log is, and none of another.
func TestRecords(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	want := map[record.ID]bool{}
	for i := range 20 {
		for second, status := range []string{"open", "billed", "closed"}[:1+i%3] {
			e := said(t, l, record.Ref{Platform: "netsuite", Object: "salesOrder", ID: fmt.Sprint(i)}, status, second+1, "t1")
			if err := l.Commit(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			want[e.After.Record.ID] = true
		}
	}
	if err := l.Note(t.Context(), LogEntry{By: "ada"}); err != nil {
		t.Fatal(err)
	}
	for entity, n := range map[string]int{"order": 20, "orde": 0, "customer": 0} {
		var got []record.ID
		for id, err := range l.Records(t.Context(), entity) {
			if err != nil || !want[id] || slices.Contains(got, id) {
				t.Fatal(id, err)
			}
			got = append(got, id)
		}
		if len(got) != n {
			t.Errorf("%d of %s, want %d", len(got), entity, n)
		}
	}
	for range l.Records(t.Context(), "order") {
		break
	}
}
