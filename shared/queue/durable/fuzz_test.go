package durable

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sorrel/shared/queue"
)

// FuzzSegment opens folders with any bytes as their only segment: never a panic; if it opens, it works, and a second
// opening finds the same.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, standard())
	if err != nil {
		f.Fatal(err)
	}
	ctx := f.Context()
	if err := q.Send(ctx, text("a", 1, 10), text("a", 2, 10), text("b", 3, 10)); err != nil {
		f.Fatal(err)
	}
	got, err := q.Receive(ctx, 2, 0)
	if err != nil || len(got) != 2 {
		f.Fatal(got, err)
	}
	if err := q.Delete(ctx, got[0].Receipt); err != nil {
		f.Fatal(err)
	}
	if err := q.Release(ctx, time.Hour, got[1].Receipt); err != nil {
		f.Fatal(err)
	}
	if err := q.Close(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[headerSize:], true)
	f.Add(data[headerSize:len(data)-5], true)
	f.Add(data, false)
	// Records alone, which the fuzzer can change without breaking a checksum.
	_, err = scan(data, 1, func(off, size int64, _ record) error {
		f.Add(data[off+frameHeader:off+size], false)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	l := unflushed()
	f.Fuzz(func(t *testing.T, data []byte, raw bool) {
		file := encodeHeader(1, 1)
		if !raw {
			data = append(openFrame(nil), data...)
			closeFrame(data, 0, 1, headerSize, headerSize)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), append(file, data...), 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
		if err != nil {
			return
		}
		n := depthOf(t, q)
		if err := q.Send(t.Context(), text("fuzz", 1, 10)); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Receive(t.Context(), queue.MaxBatch, 0); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q, err = open(dir, queue.Settings{Name: "q"}, nil, time.Now, l)
		if err != nil {
			t.Fatalf("it opened once and does not again: %v", err)
		}
		if again := depthOf(t, q); again != n+1 {
			t.Fatalf("%d messages, then %d", n, again)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSeen decodes .seen files.
func FuzzSeen(f *testing.F) {
	f.Add(encodeSeen([]seen{{keyOf("a"), 1, 7}, {keyOf("b"), 2, 7}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := decodeSeen(data, 7)
		if err == nil && string(encodeSeen(list)) != string(data) {
			t.Fatal("a .seen file does not encode to what it was decoded from")
		}
	})
}
