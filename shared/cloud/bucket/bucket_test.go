package bucket_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/bucket"
	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
)

// storage is a stand-in of S3 with one bucket: as much of it as is asked for, by the API's reference.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html and API_GetObject.html
type storage struct {
	mu      sync.Mutex
	objects map[string]string
	keys    []string
	cut     int // bytes after which an answer's connection is cut; 0 = never
	refuse  []int
	gets    []string // ranges asked for
}

func (s *storage) put(key, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, some := s.objects[key]; !some {
		s.keys = append(s.keys, key)
	}
	s.objects[key] = content
}

func tag(content string) string {
	return fmt.Sprintf("%q", fmt.Sprint(len(content), content[:min(3, len(content))]))
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>made by the test</Message></Error>", code)
	}
	if len(s.refuse) > 0 {
		status := s.refuse[0]
		if s.refuse = s.refuse[1:]; status > 0 {
			wrong(status, map[int]string{403: "AccessDenied", 503: "SlowDown", 404: "NoSuchBucket"}[status])
			return
		}
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		wrong(http.StatusForbidden, "AccessDenied")
		return
	}
	key, inside := strings.CutPrefix(r.URL.Path, "/files/")
	if r.URL.Path == "/files" || key == "" && inside {
		s.list(w, r)
		return
	}
	content, some := s.objects[key]
	switch from, to := 0, 0; {
	case !some:
		wrong(http.StatusNotFound, "NoSuchKey")
	case r.Header.Get("If-Match") != tag(content):
		wrong(http.StatusPreconditionFailed, "PreconditionFailed")
	default:
		s.gets = append(s.gets, r.Header.Get("Range"))
		if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n != 2 || err != nil || from >= len(content) {
			wrong(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
		part := content[from : to+1]
		w.Header().Set("Content-Length", fmt.Sprint(len(part)))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		if s.cut > 0 && len(part) > s.cut {
			_, _ = io.WriteString(w, part[:s.cut])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, part)
	}
}

// list answers two keys at a time.
func (s *storage) list(w http.ResponseWriter, r *http.Request) {
	type content struct {
		Key, LastModified, ETag string
		Size                    int
	}
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}{}
	q := r.URL.Query()
	for _, k := range slices.Sorted(slices.Values(s.keys)) {
		if !strings.HasPrefix(k, q.Get("prefix")) || k <= q.Get("continuation-token") {
			continue
		}
		if len(out.Contents) == 2 {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[1].Key
			break
		}
		out.Contents = append(out.Contents, content{k, "2026-11-02T08:00:00.000Z", tag(s.objects[k]), len(s.objects[k])})
	}
	_ = xml.NewEncoder(w).Encode(out)
}

func start(t *testing.T) (*storage, *bucket.Bucket) {
	t.Helper()
	s := &storage{objects: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	account, err := cloud.Open(cloud.Settings{Region: "eu-west-1", AccessKeyID: "id", SecretKey: "secret", Endpoints: cloud.Endpoints{Objects: server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	return s, bucket.Open(account, "files", "in/", time.Microsecond)
}

func list(t *testing.T, b *bucket.Bucket) []load.File {
	t.Helper()
	all, err := b.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(ctx context.Context, f load.File) (string, error) {
	in, err := f.Open(ctx)
	if err != nil {
		return "", err
	}
	defer in.Close()
	b, err := io.ReadAll(in)
	return string(b), err
}

func TestList(t *testing.T) {
	t.Parallel()
	s, b := start(t)
	for _, key := range []string{"in/", "in/a.csv", "in/.b.csv", "in/2026/c d.csv", "in/e.csv", "out/f.csv", "in.csv"} {
		s.put(key, "content of "+key)
	}
	var names []string
	same := map[string]bool{}
	for _, f := range list(t, b) {
		names = append(names, f.Name)
		same[f.Same] = true
		if !f.Changed.Equal(time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)) {
			t.Error(f.Changed)
		}
	}
	if fmt.Sprint(names) != "[c d.csv a.csv e.csv]" || len(same) != 3 {
		t.Errorf("%v %v", names, same)
	}
	s.put("in/a.csv", "another content")
	for _, f := range list(t, b) {
		if f.Name == "a.csv" && same[f.Same] {
			t.Error("another content goes by the same name")
		}
	}
}

// Whatever is cut off is asked for again from the next byte; busy answers are waited for.
func TestRead(t *testing.T) {
	t.Parallel()
	s, b := start(t)
	content := strings.Repeat("0123456789", 1000)
	s.put("in/a.csv", content)
	s.put("in/empty.csv", "")
	s.cut, s.refuse = 1500, []int{0, 503, 0, 503, 503, 503, 0}
	all := list(t, b)
	if got, err := read(t.Context(), all[0]); err != nil || got != content {
		t.Errorf("%d bytes of %d, %v", len(got), len(content), err)
	}
	if want := "[bytes=0-9999 bytes=1500-9999 bytes=3000-9999 bytes=4500-9999 bytes=6000-9999 bytes=7500-9999 bytes=9000-9999]"; fmt.Sprint(s.gets) != want {
		t.Errorf("%v", s.gets)
	}
	if got, err := read(t.Context(), all[1]); err != nil || got != "" {
		t.Errorf("empty: %q %v", got, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s, b := start(t)
	s.put("in/a.csv", "abc")
	f := list(t, b)[0]
	for status, want := range map[int]fault.Class{403: fault.Forbidden, 503: fault.Down, 404: fault.NotFound} {
		s.refuse = slices.Repeat([]int{status}, 100)
		if _, err := read(t.Context(), f); !fault.Is(err, want) || !strings.Contains(err.Error(), "in/a.csv") {
			t.Errorf("%d: %v", status, err)
		}
		if _, err := b.List(t.Context()); !fault.Is(err, want) {
			t.Errorf("listing, %d: %v", status, err)
		}
	}
	s.refuse = nil
	s.put("in/a.csv", "changed")
	if _, err := read(t.Context(), f); !fault.Is(err, fault.Conflict) {
		t.Errorf("replaced: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(ended, list(t, b)[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
