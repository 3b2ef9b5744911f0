//go:build linux || darwin

package localservers

import (
	"errors"
	"io"
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

func ended(t *testing.T, cmd *exec.Cmd) <-chan error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := make(chan error, 1)
	go func() { c <- cmd.Wait() }()
	return c
}

func within(t *testing.T, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("still running")
		return nil
	}
}

// The server must not outlive a test process that was killed: what remains of that is the end of a pipe.
func TestServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command("/bin/sh", "-c", watchdog, "sh", "/bin/sh", "-c", `echo $$ >"$0.tmp"; mv "$0.tmp" "$0"; exec sleep 600`, pidFile)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	done := ended(t, cmd)
	var pid int
	for pid == 0 {
		if b, err := os.ReadFile(pidFile); err == nil {
			if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-done:
			t.Fatalf("ended by itself: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	stdin.Close()
	within(t, done)
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d still runs: %v", pid, err)
	}
}

// A server that ends by itself is noticed at once, not by a timeout.
func TestEarlyEndIsNoticed(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", watchdog, "sh", "/bin/sh", "-c", "exit 3")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var exit *exec.ExitError
	if err := within(t, ended(t, cmd)); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want exit code 3", err)
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	t.Parallel()
	java, err := exec.LookPath("java")
	if err != nil {
		missing(t, "needs java on the PATH")
	}
	_, err = launch(t, server{
		args:  func(string, int) ([]string, error) { return []string{"no.such.Main"}, nil },
		ready: func(base string) (*http.Request, error) { return http.NewRequest(http.MethodGet, base, nil) },
	}, java, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "no.such.Main") {
		t.Errorf("got %v, want the reason from the log", err)
	}
}

// recorder is a testing.TB that notes how it was ended.
type recorder struct {
	testing.TB
	fatal, skip bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.fatal = true }
func (r *recorder) Skipf(string, ...any)  { r.skip = true }

func TestMissingToolsFailOnlyInCI(t *testing.T) {
	t.Setenv("CI", "true")
	in := &recorder{TB: t}
	if missing(in, "x"); !in.fatal || in.skip {
		t.Errorf("in CI: %+v", in)
	}
	t.Setenv("CI", "")
	out := &recorder{TB: t}
	if missing(out, "x"); out.fatal || !out.skip {
		t.Errorf("elsewhere: %+v", out)
	}
}

func TestBothServersAnswer(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]string{"DynamoDB": DynamoDB(t), "SQS": SQS(t)} {
		resp, err := http.Get(base + "/?Action=ListQueues")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
