package boot

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sorrel/shared/fault"
)

// A watched folder gives the files that nobody writes to any more, and names each content by what it can see of it.
func TestFolder(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	put := func(name, content string, at time.Time) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	put("old.csv", "a", now.Add(-time.Hour))
	put(".hidden.csv", "a", now.Add(-time.Hour))
	put("new.csv", "a", now.Add(-time.Second))
	put("ahead.csv", "a", now.Add(time.Hour)) // whoever loads it says what is wrong with that
	list := func(f Folder) (names string, same map[string]string) {
		t.Helper()
		all, err := f.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same = map[string]string{}
		for _, file := range all {
			names += file.Name + " "
			same[file.Name] = file.Same
		}
		return names, same
	}
	watched := Folder{Dir: dir, Settled: 2 * time.Second, Watched: true, Now: func() time.Time { return now }}
	names, before := list(watched)
	if names != "ahead.csv old.csv " {
		t.Errorf("%s", names)
	}
	put("old.csv", "b", now.Add(-time.Minute))
	if _, after := list(watched); before["old.csv"] == "" || after["old.csv"] == before["old.csv"] {
		t.Error("another content goes by the same name")
	}
	if names, same := list(Folder{Dir: dir}); names != "ahead.csv new.csv old.csv " || same["old.csv"] != "" {
		t.Errorf("%s %q", names, same)
	}
	all, err := watched.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := all[1].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(in); err != nil || string(b) != "b" {
		t.Errorf("%s %v", b, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "old.csv")); err != nil {
		t.Fatal(err)
	}
	if _, err := all[1].Open(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, err := (Folder{Dir: filepath.Join(dir, "none")}).List(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if got := fmt.Sprint(Variables("files")); got != "[SORREL_FILES_BUCKET SORREL_LOG_LEVEL SORREL_QUEUE_INBOUND SORREL_STAGE SORREL_TABLE]" {
		t.Error(got)
	}
}
