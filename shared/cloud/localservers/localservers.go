//go:build linux || darwin

// Package localservers runs real servers of AWS's protocols for tests: Amazon's DynamoDB Local and ElasticMQ. They are
// fetched once by Maven, from the poms in infra/localservers, into the user's cache folder, and run on the JVM.
//
// Start a server once per test binary: in one top-level test whose subtests share it. It stops when that test ends, and
// also when the test process dies in any other way.
//
// Without java or, for the first fetch, mvn, the test is skipped; with CI=true it fails instead. DynamoDB Local listens
// on all interfaces, as it has no option to bind one: do not run it on a host that strangers reach. It has no data
// but that of the tests.
package localservers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	fetchTimeout = 5 * time.Minute
	startTimeout = time.Minute
	stopTimeout  = 5 * time.Second
	startTries   = 3 // a port that was free may be taken when the server binds it
)

// Region is what clients of the servers should use; any credentials of letters and digits will do.
const Region = "us-east-1"

type server struct {
	name  string // folder in infra/localservers
	args  func(dir string, port int) ([]string, error)
	ready func(base string) (*http.Request, error)
}

// DynamoDB starts DynamoDB Local, empty and in memory, and returns its endpoint URL. Tables are shared by all
// credentials and regions; a test isolates itself by a table of its own. It never throttles and never reports
// a transaction conflict.
func DynamoDB(t testing.TB) string {
	t.Helper()
	return start(t, server{
		name: "dynamodb",
		args: func(_ string, port int) ([]string, error) {
			return []string{"software.amazon.dynamodb.services.local.main.ServerRunner",
				"-inMemory", "-sharedDb", "-disableTelemetry", "-port", strconv.Itoa(port)}, nil
		},
		ready: func(base string) (*http.Request, error) {
			r, err := http.NewRequest(http.MethodPost, base, strings.NewReader("{}"))
			if err != nil {
				return nil, err
			}
			r.Header.Set("Content-Type", "application/x-amz-json-1.0")
			r.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListTables")
			// The server insists on the form of a signature and does not verify it.
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260101/"+Region+"/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
			return r, nil
		},
	})
}

// SQS starts ElasticMQ without queues on the loopback interface and returns its endpoint URL. It enforces the limits of
// SQS. It differs from SQS in that it dedups by queue whatever DeduplicationScope says, locks a group only by the
// group's first message, and gives a dead letter a new dedup id and goes on counting its receives.
func SQS(t testing.TB) string {
	t.Helper()
	return start(t, server{
		name: "elasticmq",
		args: func(dir string, port int) ([]string, error) {
			conf := filepath.Join(dir, "elasticmq.conf")
			err := os.WriteFile(conf, fmt.Appendf(nil, `include classpath("application.conf")
node-address { protocol = http, host = 127.0.0.1, port = %[1]d, context-path = "" }
rest-sqs { enabled = true, bind-port = %[1]d, bind-hostname = "127.0.0.1", sqs-limits = strict }
rest-stats { enabled = false }
aws { region = %[2]s, accountId = 000000000000 }
`, port, Region), 0o600)
			return []string{"-Dconfig.file=" + conf, "org.elasticmq.server.Main"}, err
		},
		ready: func(base string) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, base+"/?Action=ListQueues", nil)
		},
	})
}

func start(t testing.TB, s server) string {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		missing(t, "%s needs java (17 or later) on the PATH", s.name)
	}
	jars := fetch(t, s.name)
	for try := 1; ; try++ {
		base, err := launch(t, s, java, jars)
		if err == nil {
			return base
		}
		if try == startTries {
			t.Fatalf("%s did not start: %v", s.name, err)
		}
	}
}

// missing skips, or fails where CI=true: a green CI must have run the tests.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
		return
	}
	t.Skipf("skipped: "+format, args...)
}

// watchdog runs its arguments and kills them when its standard input ends, which it does in whatever way the test
// process ends. The shell gives background commands /dev/null for standard input, hence descriptor 3.
const watchdog = `exec 3<&0; "$@" & pid=$!; (cat <&3 >/dev/null; kill -9 $pid 2>/dev/null) & wait $pid`

func launch(t testing.TB, s server, java, jars string) (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	dir := t.TempDir()
	args, err := s.args(dir, port)
	if err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	// The flags halve the start time and bound the memory; throughput is not the point.
	cmd := exec.Command("/bin/sh", append([]string{"-c", watchdog, "sh", java,
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m", "-cp", filepath.Join(jars, "*")}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan struct{})
	go func() { defer close(exited); _ = cmd.Wait() }()
	stop := func() {
		_ = stdin.Close()
		select {
		case <-exited:
		case <-time.After(stopTimeout):
			t.Errorf("%s did not stop within %v", s.name, stopTimeout)
		}
	}
	base := "http://127.0.0.1:" + strconv.Itoa(port)
	if err := awaitReady(s, base, exited); err != nil {
		stop()
		tail, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%w; its log ends:\n%s", err, tail[max(0, len(tail)-2000):])
	}
	t.Cleanup(stop)
	return base, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func awaitReady(s server, base string, exited <-chan struct{}) error {
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	deadline := time.After(startTimeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("no answer yet")
	for {
		select {
		case <-exited:
			return errors.New("the process has ended")
		case <-deadline:
			return fmt.Errorf("not ready after %v: %w", startTimeout, last)
		case <-tick.C:
		}
		req, err := s.ready(base)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			last = err
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = errors.New(resp.Status)
	}
}

// fetch returns the folder with the jars of infra/localservers/<name>/pom.xml. The folder is named by the pom's content
// and appears whole or not at all; once there, neither Maven nor a network is needed. A lock keeps test binaries that
// run side by side from running Maven on one repository at once.
func fetch(t testing.TB, name string) string {
	t.Helper()
	pom, err := pomFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(pom)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("%v: set HOME or XDG_CACHE_HOME", err)
	}
	root := filepath.Join(cache, "sorrel-localservers")
	sum := sha256.Sum256(content)
	dir := filepath.Join(root, name+"-"+hex.EncodeToString(sum[:6]))
	if isDir(dir) {
		return dir
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		missing(t, "%s must be fetched once, which needs mvn on the PATH", name)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(filepath.Join(root, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if isDir(dir) { // fetched while we waited
		return dir
	}
	part, err := os.MkdirTemp(root, name+"-part-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(part)
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	// --strict-checksums: refuse what does not match the repository's checksum.
	out, err := exec.CommandContext(ctx, mvn, "--batch-mode", "--quiet", "--strict-checksums", "--file", pom,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+part).CombinedOutput()
	if err != nil {
		missing(t, "fetching %s by mvn: %v\n%s", name, err, bytes.TrimSpace(out))
	}
	if err := os.Chmod(part, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// pomFile looks for the module's root upwards from the working directory, which is the tested package's folder.
func pomFile(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "infra", "localservers", name, "pom.xml"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("localservers: no go.mod above the working directory: run inside the repository")
		}
		dir = up
	}
}

// lock takes an exclusive lock between processes, which the system drops if the holder dies.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
