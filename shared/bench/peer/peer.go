// Package peer runs a measured program as a child process, so that its CPU seconds and its memory are its own,
// and keeps it and the harness on different CPUs where the system allows.
package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Usage of a process since its start.
type Usage struct {
	CPU   time.Duration
	Peak  int64 // bytes of resident memory at most, what the system caches of mapped files among them
	Own   int64 // bytes of its own at this moment: without those
	Known bool  // false where the system does not tell
}

// Peer is a running child.
type Peer struct {
	URL string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	errors *tail
	waited chan error
}

// tail keeps the end of what a child wrote to its standard error.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	if t.b = append(t.b, p...); len(t.b) > 8<<10 {
		t.b = append(t.b[:0], t.b[len(t.b)-4<<10:]...)
	}
	return len(p), nil
}

// Hello is what a child says when it is ready.
type Hello struct {
	URL string `json:"url"`
}

// patience with a child on a machine that has other things to do.
const patience = 2 * time.Minute

// Start runs this very program with args, gives it config as one line of JSON on its standard input, and waits
// until it says where it listens. The child ends when its standard input does, so none outlives the harness.
func Start(ctx context.Context, args []string, config any) (*Peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench peer: %w", err)
	}
	line, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("bench peer: %w", err)
	}
	p := &Peer{cmd: exec.Command(self, args...), errors: &tail{}, waited: make(chan error, 1)}
	p.cmd.Stderr = p.errors
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("bench peer: %w", err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench peer: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench peer: %w", err)
	}
	hello := make(chan Hello, 1)
	go func() {
		var h Hello
		text, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err == nil && json.Unmarshal(text, &h) == nil {
			hello <- h
		}
		_, _ = io.Copy(io.Discard, stdout) // ends with the child
		p.waited <- p.cmd.Wait()
		close(p.waited)
	}()
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		killed := p.Kill()
		return nil, errors.Join(fmt.Errorf("bench peer: %w: %s", err, p.said()), killed)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case h := <-hello:
		p.URL = h.URL
		return p, nil
	case err := <-p.waited:
		return nil, fmt.Errorf("bench peer %s ended before it was ready: %v: %s", strings.Join(args, " "), err, p.said())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.Kill())
	case <-limit.C:
		return nil, errors.Join(fmt.Errorf("bench peer %s was not ready within %s", strings.Join(args, " "), patience), p.Kill())
	}
}

// said may only be called once the child has ended.
func (p *Peer) said() string { return strings.TrimSpace(string(p.errors.b)) }

// Address is host and port of the peer.
func (p *Peer) Address() string { return strings.TrimPrefix(p.URL, "http://") }

// Usage reads what the child has used.
func (p *Peer) Usage() Usage { return usage(p.cmd.Process.Pid) }

// Kill ends the child as kill -9 does, and waits until it is gone.
func (p *Peer) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("bench peer: %w", err)
	}
	<-p.waited
	return nil
}

// Stop lets the child end by itself.
func (p *Peer) Stop() error {
	_ = p.stdin.Close() // a broken pipe means that it has ended
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case err := <-p.waited:
		if err != nil {
			return fmt.Errorf("bench peer: %w: %s", err, p.said())
		}
		return nil
	case <-limit.C:
		return errors.Join(fmt.Errorf("bench peer: did not end within %s", patience), p.Kill())
	}
}

// Serve is the child's side: it reads the configuration from in, starts, says hello on out, waits until in ends,
// and stops.
func Serve[C any](in io.Reader, out io.Writer, start func(C) (url string, stop func() error, err error)) error {
	r := bufio.NewReaderSize(in, 64<<10)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("bench child: no configuration on standard input: %w", err)
	}
	var c C
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("bench child: configuration: %w", err)
	}
	url, stop, err := start(c)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(Hello{url}); err != nil {
		return errors.Join(err, stop())
	}
	_, _ = io.Copy(io.Discard, r) // until the parent closes it or is gone
	return stop()
}
