package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sorrel/shared/record"
)

// However the rows come and however few fit into memory, they go out in order, each once and as it was.
func TestSortLaw(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		file, err := os.Create(filepath.Join(dir, "scratch"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := sorter{most: rapid.IntRange(1, 2000).Draw(t, "most"), scratch: func() (Scratch, error) { return file, nil }}
		var want []row
		for i := range rapid.IntRange(0, 60).Draw(t, "rows") {
			r := row{Key: rapid.StringMatching(`[ab\n"é]{1,3}`).Draw(t, "key"), Linked: rapid.Bool().Draw(t, "linked"), Record: record.ID(fmt.Sprint("r/", i)),
				Rows: []map[string]any{{"n": json.Number("1.50"), "t": "x\r\ny", "none": nil, "deep": map[string]any{"list": []any{"1"}}}}}
			want = append(want, r)
			if err := s.add(r); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(want, row.compare)
		i := 0
		for got, err := range s.sorted() {
			if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want[i]) {
				t.Fatalf("%d: %#v (%v), want %#v", i, got, err, want[i])
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%d rows, want %d", i, len(want))
		}
	})
}

func TestScratchFails(t *testing.T) {
	t.Parallel()
	full := errors.New("no room")
	s := sorter{most: 1, scratch: func() (Scratch, error) { return nil, full }}
	if err := s.add(row{Key: "a"}); !errors.Is(err, full) {
		t.Error(err)
	}
	closed, err := os.Create(filepath.Join(t.TempDir(), "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	s = sorter{most: 1, scratch: func() (Scratch, error) { return closed, nil }}
	if err := s.add(row{Key: "a"}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
